//! Taking secrets out of what leaves the machine.
//!
//! Keys of settings that hold a secret, or the hash of one, lose their value. Of other text:
//! - behind the name of a secret and `:`, `=` or `>` the rest of the line goes, and of a value in
//!   quotes that does not end there the lines to its end: where a password with quotes, spaces or
//!   escapes ends, nobody but its writer knows;
//! - of an address with a user in it (`scheme://user:password@host`) all before the last `@`, and of one
//!   without a scheme (`user:password@host`) the word before it;
//! - what looks like a key, a token or a hash, wherever it stands.
//!
//! A name too much is better than a key. What nothing shows to be a secret stays: a password that
//! stands in a sentence as a word.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::uplink::proxy::Proxy;

/// In the place of what was taken out.
pub const TAKEN: &str = "<redacted>";

/// A word so long, of letters and digits, is no word.
const WORD_MAX: usize = 24;
/// The same where slashes may be part of it, as in base64.
const SLASHED_MAX: usize = 40;
/// Parts of the names of keys whose values are secrets.
const SECRET_NAMES: [&str; 15] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "credential",
    "authorization",
    "private_key",
    "psk",
    "api_key",
    "api-key",
    "apikey",
    "cookie",
    "bearer",
    "pwd",
];
/// Whole names of such keys, which are parts of harmless ones.
const SECRET_WORDS: [&str; 4] = ["pass", "pin", "sig", "signature"];
/// What is parted from its value by a blank, without being an option with two dashes.
const BEFORE_BLANKS: [&str; 3] = ["bearer", "-u", "wifi-sec.psk"];
/// The key of the settings whose value is an address with a login.
const PROXY: &str = "proxy";

/// The settings of a configuration file without secrets and comments; `None` where it is no TOML.
#[must_use]
pub fn settings(text: &str) -> Option<Value> {
    let table: Map<String, Value> = toml::from_str(text).ok()?;
    // A password may be a number.
    Some(without(Value::Object(table), |_| false))
}

/// A document without secrets.
#[must_use]
pub fn value(document: Value) -> Value {
    without(document, is_harmless)
}

fn without(document: Value, is_harmless: fn(&Value) -> bool) -> Value {
    match document {
        Value::String(text) => Value::String(self::text(&text)),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| without(item, is_harmless)).collect())
        }
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, field)| {
                let field = if is_secret(&name) && !is_harmless(&field) {
                    Value::String(TAKEN.to_owned())
                } else if name == PROXY {
                    proxy(&field)
                } else {
                    without(field, is_harmless)
                };
                (text(&name), field)
            });
            Value::Object(fields.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => document,
    }
}

/// Host and port of a proxy, or that there is to be none; of what is neither nothing.
fn proxy(field: &Value) -> Value {
    if field.is_null() || *field == "none" {
        return field.clone();
    }
    let proxy = field.as_str().and_then(|text| text.parse::<Proxy>().ok());
    Value::String(proxy.map_or_else(|| TAKEN.to_owned(), |proxy| format!("http://{proxy}")))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part)) || SECRET_WORDS.contains(&name.as_str())
}

/// Counters are called after what they count.
fn is_harmless(field: &Value) -> bool {
    matches!(field, Value::Null | Value::Bool(_) | Value::Number(_))
}

/// What a line begins in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within<'t> {
    /// Ordinary text.
    Text,
    /// A key in PEM form.
    Pem,
    /// The value of a secret, whose name ended the line before.
    Value,
    /// A value in quotes, which began in a line before.
    Quoted(Quotes<'t>),
}

/// Quotes around a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quotes<'t> {
    /// One, or three for several lines.
    quotes: &'t str,
    /// Backslashes before each: text within text.
    escapes: usize,
}

/// Text without what looks like a secret.
#[must_use]
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = Within::Text;
    for line in text.split_inclusive('\n') {
        within = match within {
            Within::Text if line.contains("-----BEGIN") => {
                take_rest(line, &mut out);
                if line.contains("-----END") { Within::Text } else { Within::Pem }
            }
            Within::Text => self::line(line, &mut out),
            Within::Pem if line.contains("-----END") => Within::Text,
            Within::Value if !line.trim().is_empty() => {
                take_rest(line, &mut out);
                value_of(line)
            }
            Within::Quoted(quotes) if quotes.end_in(line) => Within::Text,
            Within::Pem | Within::Value | Within::Quoted(_) => within,
        };
    }
    out
}

fn take_rest(rest: &str, out: &mut String) {
    out.push_str(TAKEN);
    if rest.ends_with('\n') {
        out.push('\n');
    }
}

/// One line that begins in ordinary text. Returns what the next one begins in.
fn line<'t>(line: &'t str, out: &mut String) -> Within<'t> {
    let named = value_behind_name(line);
    // Somebody may stand in an address.
    let address = line.find("://").map(|at| at + 3).filter(|at| line[*at..].contains('@'));
    match (named, address) {
        // The name may be a part of the password in the address.
        (Some(value), Some(user)) if user < value => {
            words(&line[..user], out);
            take_rest(&line[user..], out);
            value_of(&line[value..])
        }
        (Some(value), _) => {
            names(&line[..value], out);
            take_rest(&line[value..], out);
            value_of(&line[value..])
        }
        (None, _) => {
            words(&without_users(line), out);
            Within::Text
        }
    }
}

/// Without what stands between `://` and the last `@`, or of a word between its beginning and that.
fn without_users(line: &str) -> Cow<'_, str> {
    let Some(host) = line.rfind('@') else { return Cow::Borrowed(line) };
    let before = &line[..host];
    let user = before.find("://").map(|at| at + 3).or_else(|| {
        let first = before.find('@').unwrap_or(host);
        let begins = |c: char| c.is_whitespace() || "\"'=([<".contains(c);
        let word = before[..first].rfind(begins).map_or(0, |at| at + 1);
        before[word..].contains(':').then_some(word)
    });
    match user {
        Some(user) => Cow::Owned([&line[..user], TAKEN, &line[host..]].concat()),
        None => Cow::Borrowed(line),
    }
}

/// Where the value of the first secret begins: behind its name and what parts them.
fn value_behind_name(line: &str) -> Option<usize> {
    let mut at = 0;
    while at < line.len() {
        let rest = &line[at..];
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        if end == 0 {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let (word, after) = rest.split_at(end);
        at += end;
        if !is_secret(word) && !is_before_blank(word) {
            continue;
        }
        let between = after.trim_start_matches(['"', '\'', '\\', ' ', '\t', ']', ')']);
        let parted = between.trim_start_matches([':', '=', '>']);
        // `--token x`: an option is parted from its value by a blank.
        let is_option =
            (word.starts_with("--") || is_before_blank(word)) && after.starts_with([' ', '\t']);
        if parted.len() < between.len() {
            return Some(line.len() - parted.trim_start_matches([' ', '\t']).len());
        }
        if is_option {
            return Some(line.len() - after.trim_start().len());
        }
    }
    None
}

fn is_before_blank(word: &str) -> bool {
    BEFORE_BLANKS.iter().any(|name| name.eq_ignore_ascii_case(word))
}

/// What the line behind the beginning of a value begins in.
fn value_of(value: &str) -> Within<'_> {
    let value = value.trim_start();
    if value.is_empty() {
        return Within::Value;
    }
    let opened = value.trim_start_matches('\\');
    let escapes = value.len() - opened.len();
    let all = ["\"\"\"", "'''", "\"", "'"];
    let Some(quotes) = all.into_iter().find(|quotes| opened.starts_with(quotes)) else {
        return Within::Text;
    };
    let quotes = Quotes { quotes: &opened[..quotes.len()], escapes };
    let is_over = quotes.end_in(&opened[quotes.quotes.len()..]);
    if is_over { Within::Text } else { Within::Quoted(quotes) }
}

impl Quotes<'_> {
    /// Whether they end somewhere in a text. Between single quotes a backslash means nothing.
    fn end_in(self, text: &str) -> bool {
        let found = text.char_indices().filter(|(at, _)| text[*at..].starts_with(self.quotes));
        let mut escapes = found.map(|(at, _)| {
            let before = &text[..at];
            before.len() - before.trim_end_matches('\\').len()
        });
        let each = 2 * (self.escapes + 1);
        escapes.any(|escapes| self.quotes.starts_with('\'') || escapes % each == self.escapes)
    }
}

/// Text up to the value of a secret: its name stays, however it looks.
fn names(text: &str, out: &mut String) {
    let name = text.trim_end_matches(|c| !is_of_word(c));
    let before = name.trim_end_matches(is_of_word);
    words(before, out);
    segments(&text[before.len()..name.len()], out);
    out.push_str(&text[name.len()..]);
}

/// Words without those that look like secrets.
fn words(text: &str, out: &mut String) {
    // A hash is under way, which has several words.
    let mut in_hash = false;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        if end == 0 {
            let mut chars = rest.chars();
            let between = chars.next().unwrap_or_default();
            in_hash &= between == '=';
            out.push(between);
            rest = chars.as_str();
            continue;
        }
        let (word, after) = rest.split_at(end);
        in_hash |= word.contains("$argon2");
        if in_hash || looks_secret(word) {
            out.push_str(TAKEN);
        } else {
            segments(word, out);
        }
        rest = after;
    }
}

/// Characters of tokens, keys in base64, and hashes in PHC form.
fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/_-$,.".contains(c)
}

fn looks_secret(word: &str) -> bool {
    let is_path = word.starts_with('/') || word.starts_with('.');
    !is_path && word.len() >= SLASHED_MAX && is_mixed(word)
}

/// Of a path only what looks like a secret.
fn segments(word: &str, out: &mut String) {
    for (n, segment) in word.split('/').enumerate() {
        if n > 0 {
            out.push('/');
        }
        for (n, piece) in segment.split('.').enumerate() {
            if n > 0 {
                out.push('.');
            }
            let is_taken = piece.len() >= WORD_MAX && is_mixed(piece);
            out.push_str(if is_taken { TAKEN } else { piece });
        }
    }
}

fn is_mixed(word: &str) -> bool {
    word.bytes().any(|b| b.is_ascii_digit()) && word.bytes().any(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests;
