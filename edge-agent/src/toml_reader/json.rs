//! A value of TOML as JSON.

use std::ops::Range;

use serde_json::{Number, Value};
use toml::Spanned;
use toml::de::DeValue;

/// # Errors
/// Where the first value stands that JSON cannot say, and why. The parser of TOML bounds the depth.
pub(super) fn of(value: &Spanned<DeValue<'_>>) -> Result<Value, (Range<usize>, String)> {
    let wrong = |why: String| (value.span(), why);
    Ok(match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Integer(number) => {
            let whole = i64::from_str_radix(number.as_str(), number.radix());
            whole.map(Value::from).map_err(|_| wrong(format!("{number} is out of 64 bits")))?
        }
        DeValue::Float(number) => {
            let real = number.as_str().parse().ok().and_then(Number::from_f64);
            real.map(Value::Number)
                .ok_or_else(|| wrong(format!("{number} is no number of JSON")))?
        }
        DeValue::Datetime(time) => {
            return Err(wrong(format!("{time} is a date, which JSON has not: write a string")));
        }
        DeValue::Array(items) => items.iter().map(of).collect::<Result<_, _>>()?,
        DeValue::Table(table) => {
            let fields = table.iter().map(|(name, value)| Ok((name.to_string(), of(value)?)));
            Value::Object(fields.collect::<Result<_, _>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Problems, Section};

    fn read(text: &str) -> (Vec<serde_json::Value>, Vec<String>) {
        let mut problems = Problems::new(text);
        let table = problems.parse().expect("TOML");
        let values = Section::root(&table).values("x", &mut problems);
        let problems = problems.into_sorted();
        (
            values.into_iter().map(|at| at.value).collect(),
            problems.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn tables_and_plain_values_become_json() {
        let text = "x = [{ a.b = [1, 0x10, -2.5, true] }, \"t\", [[]], { \"$or\" = [] }]";
        let expected = vec![
            json!({ "a": { "b": [1, 16, -2.5, true] } }),
            json!("t"),
            json!([[]]),
            json!({ "$or": [] }),
        ];
        assert_eq!(read(text), (expected, Vec::new()));
    }

    #[test]
    fn what_json_cannot_say_is_a_problem_with_its_line() {
        let (values, problems) = read("x = [\n  nan,\n  2026-01-01,\n  [inf],\n  5,\n]");
        assert_eq!(values, [json!(5)]);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("line 2: `x`: nan is no number"), "{problems:?}");
        assert!(problems[1].starts_with("line 3: `x`: 2026-01-01 is a date"), "{problems:?}");
        assert!(problems[2].starts_with("line 4: "), "{problems:?}");
        assert_eq!(read("x = 5").1, ["line 1: `x` must be an array"]);
    }
}
