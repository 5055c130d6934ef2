//! Which dead letters an operator means: one, or those that a filter leaves over.
//!
//! Both commands, `edge-agent` and `holm`, choose among rows as the gateway lists them.

use serde_json::Value;

/// A choice of dead letters. Without any condition it is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Only this event's.
    pub event: Option<String>,
    /// Only those of this function, `app/function`.
    pub function: Option<String>,
    /// Only those given up longer ago than this.
    pub older_than_ms: Option<u64>,
}

impl Choice {
    /// Whether a row is meant. Its age is the gateway's own, which no clock that was set can change.
    #[must_use]
    pub fn takes(&self, row: &Value) -> bool {
        let is = |key: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| row[key] == **wanted)
        };
        let age_ms = row["age_ms"].as_u64();
        is("event", &self.event)
            && is("function", &self.function)
            && self.older_than_ms.is_none_or(|least| age_ms.is_some_and(|age| age > least))
    }

    /// The rows that are meant.
    #[must_use]
    pub fn of(&self, mut rows: Vec<Value>) -> Vec<Value> {
        rows.retain(|row| self.takes(row));
        rows
    }
}

/// Reads the value of `--older-than`, in milliseconds.
///
/// # Errors
/// It is no duration.
pub fn parse_age(text: &str) -> Result<u64, String> {
    crate::toml_reader::parse_duration_ms(text)
        .ok_or_else(|| "write a duration such as 30min, 6h or 2d".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_anded() {
        let row = |event: &str, function: &str, age_ms: u64| json!({ "event": event, "function": function, "age_ms": age_ms });
        let rows = [row("1", "a/f", 10), row("2", "a/f", 20), row("3", "a/g", 30)];
        let chosen = |event: Option<&str>, function: Option<&str>, older_than_ms| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            let choice = Choice { event: text(event), function: text(function), older_than_ms };
            let rows = choice.of(rows.to_vec());
            rows.iter()
                .map(|row| row["event"].as_str().unwrap_or("").to_owned())
                .collect::<String>()
        };
        assert_eq!(chosen(None, None, None), "123");
        assert_eq!(chosen(None, Some("a/f"), None), "12");
        assert_eq!(chosen(None, None, Some(10)), "23");
        assert_eq!(chosen(None, Some("a/f"), Some(10)), "2");
        assert_eq!(chosen(Some("3"), Some("a/f"), None), "");
        assert!(!Choice { older_than_ms: Some(1), ..Choice::default() }.takes(&json!({})));
    }

    #[test]
    fn an_age_has_a_unit() {
        assert_eq!(parse_age("2 h"), Ok(7_200_000));
        assert_eq!(parse_age("30min"), Ok(1_800_000));
        assert!(parse_age("30").is_err());
    }
}
