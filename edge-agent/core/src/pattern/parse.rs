//! From one value of a pattern's array to a test.

use std::cmp::Ordering;

use serde_json::Value;

use super::number::Number;
use super::value::{End, Test};
use super::wildcard::Wildcard;

const VALUES: &str = "a text, a number, true, false, null, or an object with one of prefix, suffix, \
                      equals-ignore-case, wildcard, numeric, anything-but, exists";
const BUT_VALUES: &str = "a text, a number, true, false, null, a list of these, or an object with \
                          one of prefix, suffix, equals-ignore-case, wildcard";
const NUMERIC: &str =
    "takes [\"=\", 5], one end such as [\">\", 0], or two such as [\">=\", 0, \"<\", 5]";

/// # Errors
/// What is wrong with the value, for a sentence that begins with its path.
pub(super) fn test(value: &Value) -> Result<Test, String> {
    if let Some(plain) = plain(value) {
        return Ok(plain);
    }
    let wrong = || format!("{value} must be {VALUES}");
    let (word, of) = only(value).ok_or_else(wrong)?;
    match (word, of) {
        ("exists", Value::Bool(there)) => Ok(Test::Exists(*there)),
        ("exists", _) => Err("exists takes true or false".to_owned()),
        ("numeric", Value::Array(ends)) => numeric(ends),
        ("numeric", _) => Err(format!("numeric {NUMERIC}")),
        ("anything-but", of) => anything_but(of),
        (word, Value::String(text)) => text_test(word, text).ok_or_else(wrong)?,
        (word, _) => match text_test(word, "") {
            Some(_) => Err(format!("{word} takes a text")),
            None => Err(wrong()),
        },
    }
}

fn plain(value: &Value) -> Option<Test> {
    Some(match value {
        Value::Null => Test::Null,
        Value::Bool(truth) => Test::Bool(*truth),
        Value::Number(number) => Test::Number(Number::of(number)?),
        Value::String(text) => Test::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => return None,
    })
}

/// The key and the value of an object that has one.
fn only(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.iter().next().map(|(word, of)| (word.as_str(), of))
}

/// `None`: there is no such test of a text.
fn text_test(word: &str, text: &str) -> Option<Result<Test, String>> {
    Some(Ok(match word {
        "prefix" => Test::Prefix(text.to_owned()),
        "suffix" => Test::Suffix(text.to_owned()),
        "equals-ignore-case" => Test::ignore_case(text),
        "wildcard" => match Wildcard::parse(text) {
            Ok(wildcard) => Test::Wildcard(wildcard),
            Err(why) => return Some(Err(format!("wildcard {text:?}: {why}"))),
        },
        _ => return None,
    }))
}

fn anything_but(of: &Value) -> Result<Test, String> {
    let wrong = || format!("anything-but takes {BUT_VALUES}");
    let one = |value: &Value| plain(value).ok_or_else(wrong);
    let tests = match of {
        Value::Array(values) if values.is_empty() => return Err(wrong()),
        Value::Array(values) => values.iter().map(one).collect::<Result<_, _>>()?,
        Value::Object(_) => {
            let (word, of) = only(of).ok_or_else(wrong)?;
            let text = |value: &Value| {
                let text = value.as_str().ok_or_else(|| format!("{word} takes texts"))?;
                text_test(word, text).ok_or_else(wrong)?
            };
            match of {
                Value::Array(texts) if texts.is_empty() => return Err(wrong()),
                Value::Array(texts) => texts.iter().map(text).collect::<Result<_, _>>()?,
                of => vec![text(of)?],
            }
        }
        of => vec![one(of)?],
    };
    Ok(Test::AnythingBut(tests))
}

fn numeric(ends: &[Value]) -> Result<Test, String> {
    let wrong = || format!("numeric {NUMERIC}");
    let (mut low, mut high) = (None, None);
    if ends.is_empty() || ends.len() % 2 == 1 {
        return Err(wrong());
    }
    for pair in ends.chunks_exact(2) {
        let (Some(sign), Value::Number(number)) = (pair[0].as_str(), &pair[1]) else {
            return Err(wrong());
        };
        let at = Number::of(number).ok_or_else(wrong)?;
        let end = |closed| Some(End { at, closed });
        let before = match sign {
            "=" if ends.len() == 2 => return Ok(Test::Number(at)),
            ">" => low.replace(end(false)),
            ">=" => low.replace(end(true)),
            "<" => high.replace(end(false)),
            "<=" => high.replace(end(true)),
            _ => return Err(wrong()),
        };
        if before.is_some() {
            return Err(wrong());
        }
    }
    let (low, high): (Option<End>, Option<End>) = (low.flatten(), high.flatten());
    if let (Some(low), Some(high)) = (low, high) {
        let empty = match low.at.compare(high.at) {
            Ordering::Less => false,
            Ordering::Equal => !(low.closed && high.closed),
            Ordering::Greater => true,
        };
        if empty {
            return Err("numeric: no number is in this range".to_owned());
        }
    }
    Ok(Test::Range { low, high })
}
