//! Recorded values: a column of a CSV file. Pure: the caller has read the file.

use std::sync::Arc;

/// No recording needs more; a week of seconds has 604,800.
const ROWS_MAX: usize = 1_000_000;

/// Reads a column: named by the first line, or by its number from 1; without one, the last column of each line. The
/// separator is `,`, `;` or tab, whichever the first line has. Empty lines and empty cells are passed over.
///
/// # Errors
/// What is wrong, with the line.
pub(super) fn column(text: &str, wanted: Option<&str>) -> Result<Arc<[f64]>, String> {
    let first = text.lines().next().unwrap_or_default();
    let separator = [',', ';', '\t'].into_iter().find(|it| first.contains(*it)).unwrap_or(',');
    let cells = |line: &str| -> Vec<String> {
        line.split(separator).map(|cell| cell.trim().trim_matches('"').to_owned()).collect()
    };
    let index = match wanted {
        None => None,
        Some(wanted) => Some(index(wanted, &cells(first))?),
    };
    let mut values = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let row = cells(line);
        let cell = match index {
            Some(index) => row.get(index).map(String::as_str).unwrap_or_default(),
            None => row.last().map(String::as_str).unwrap_or_default(),
        };
        match cell.parse::<f64>() {
            Ok(value) if value.is_finite() => values.push(value),
            // The heading.
            _ if cell.is_empty() || n == 0 => {}
            _ => return Err(format!("line {}: `{cell}` is no number", n + 1)),
        }
        if values.len() > ROWS_MAX {
            return Err(format!("more than {ROWS_MAX} values"));
        }
    }
    if values.is_empty() {
        return Err("there is no value: a number a line is needed".to_owned());
    }
    Ok(values.into())
}

fn index(wanted: &str, heading: &[String]) -> Result<usize, String> {
    if let Some(named) = heading.iter().position(|name| name == wanted) {
        return Ok(named);
    }
    let known = || heading.join(", ");
    match wanted.parse::<usize>() {
        Ok(number) if (1..=heading.len()).contains(&number) => Ok(number - 1),
        Ok(_) => Err(format!("there is no column {wanted}: the first line has {}", heading.len())),
        Err(_) => Err(format!("there is no column `{wanted}`; the first line has: {}", known())),
    }
}

#[cfg(test)]
mod tests {
    use super::column;

    #[test]
    fn a_column_is_found_by_name_number_or_as_the_last_one() {
        let text =
            "timestamp,value,unit\n2013-12-14 00:00:00,102.1,1\n\n2013-12-14 00:05:00,-3,2\n";
        assert_eq!(*column(text, Some("value")).unwrap(), [102.1, -3.0]);
        assert_eq!(*column(text, Some("2")).unwrap(), [102.1, -3.0]);
        assert_eq!(*column(text, None).unwrap(), [1.0, 2.0]);
        assert_eq!(*column("1\n2.5\n", None).unwrap(), [1.0, 2.5], "no heading");
        assert_eq!(*column("a;b\n1;\"2\"\n", Some("b")).unwrap(), [2.0]);
    }

    #[test]
    fn what_is_wrong_is_told_with_the_line() {
        let text = "t,value\n1,warm\n";
        assert!(column(text, Some("value")).unwrap_err().contains("line 2: `warm`"));
        assert!(column(text, Some("vlaue")).unwrap_err().contains("t, value"));
        assert!(column(text, Some("3")).unwrap_err().contains("has 2"));
        assert!(column("t\n", None).unwrap_err().contains("no value"));
        assert!(column("", None).is_err());
        assert!(column("v\nNaN\n", None).is_err());
    }
}
