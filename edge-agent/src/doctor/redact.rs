//! Taking secrets out of what leaves the machine.
//!
//! Keys of settings that hold a secret, or the hash of one, lose their value. Of other text:
//! - behind the name of a secret and `:`, `=` or `>` the rest of the line goes, and of a value in
//!   quotes that does not end there the lines to its end: where a password with quotes, spaces or
//!   escapes ends, nobody but its writer knows;
//! - of an address with a user in it (`scheme://user:password@host`) all before the last `@`;
//! - what looks like a key, a token or a hash, wherever it stands.
//!
//! A name too much is better than a key. What nothing shows to be a secret stays: a password that
//! stands in a sentence as a word.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// In the place of what was taken out.
pub const TAKEN: &str = "<redacted>";

/// A word so long, of letters and digits, is no word.
const WORD_MAX: usize = 24;
/// The same where slashes may be part of it, as in base64.
const SLASHED_MAX: usize = 40;
/// Parts of the names of keys whose values are secrets.
const SECRET_NAMES: [&str; 8] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "credential",
    "authorization",
    "private_key",
];

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

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
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

/// Without what stands between `://` and the last `@`.
fn without_users(line: &str) -> Cow<'_, str> {
    let user = line.find("://").map(|at| at + 3);
    match (user, line.rfind('@')) {
        (Some(user), Some(host)) if user <= host => {
            Cow::Owned([&line[..user], TAKEN, &line[host..]].concat())
        }
        _ => Cow::Borrowed(line),
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
        if !is_secret(word) {
            continue;
        }
        let between = after.trim_start_matches(['"', '\'', '\\', ' ', '\t', ']', ')']);
        let parted = between.trim_start_matches([':', '=', '>']);
        // `--token x`: an option is parted from its value by a blank.
        let is_option = word.starts_with("--") && after.starts_with([' ', '\t']);
        if parted.len() < between.len() {
            return Some(line.len() - parted.trim_start_matches([' ', '\t']).len());
        }
        if is_option {
            return Some(line.len() - after.trim_start().len());
        }
    }
    None
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn settings_keep_their_sense_and_lose_their_secrets() {
        let text = "# the password is hunter2\nname = \"barn-3\"\n[[listeners]]\n\
                    bind = \"127.0.0.1:1883\"\nkey = \"/etc/holm/server.key\"\n[[devices]]\n\
                    name = \"press-7\"\ntoken_sha256 = \"abc\"\n[[devices]]\nname = \"press-8\"\n\
                    password_argon2 = \"$argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA\"\n";
        let shown = settings(text).unwrap();
        assert_eq!(shown["name"], "barn-3");
        assert_eq!(shown["listeners"][0]["key"], "/etc/holm/server.key");
        assert_eq!(shown["devices"][0]["token_sha256"], TAKEN);
        assert_eq!(shown["devices"][1]["password_argon2"], TAKEN);
        assert!(!shown.to_string().contains("hunter2"));
        assert_eq!(settings("= no TOML"), None);
    }

    #[test]
    fn text_keeps_words_paths_and_numbers() {
        let kept = [
            "/var/lib/holm/store/journal-00.seg has 4194304 bytes instead of 4194304",
            "2026-11-27T10:00:00.000000Z  INFO ready gateway=\"barn-3\" listeners=[\"127.0.0.1:1\"]",
            "an-ordinary-word-that-is-rather-long-but-has-no-digit",
            "tokens were counted: 17",
        ];
        for line in kept {
            assert_eq!(text(line), line);
        }
    }

    #[test]
    fn text_loses_what_looks_like_a_secret() {
        let hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let base64 = "MC4CAQAwBQYDK2VwBCIEIK/6dQa/5Zc/0vD3p1a/qqLr2/7hJ3kq9Zx1b2c";
        let enrol = "holm1-AgABbG9jYWxob3N0OjEyMzQFYmFybi0zAAECAwQFBgcICQoLDA0ODw";
        let argon = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo";
        let secrets = [hex, base64, enrol, "hunter2", argon];
        let lines = [
            format!("token {hex} of a device"),
            format!("key={base64}"),
            format!("/tmp/{hex}/file"),
            format!("enrolled with {enrol}"),
            "password: hunter2".to_owned(),
            "password=\"hunter2\" user=x".to_owned(),
            format!("hash {argon}, so"),
            format!("-----BEGIN PRIVATE KEY-----\n{base64}\nhunter2\n-----END PRIVATE KEY-----\n"),
        ];
        for line in lines {
            let shown = text(&line);
            assert!(shown.contains(TAKEN), "{line} -> {shown}");
            for secret in secrets {
                assert!(!shown.contains(secret), "{line} -> {shown}");
            }
        }
    }

    #[test]
    fn what_is_taken_is_the_value_and_what_follows_it() {
        let shown = [
            ("user=x password=\"a\" more\nnext\n", "user=x password=<redacted>\nnext\n"),
            ("proxy http://u:p@ss@host:1 says 407", "proxy http://<redacted>@host:1 says 407"),
            ("http://host:1/path and b@c", "http://<redacted>@c"),
            ("run --token abc --x\n", "run --token <redacted>\n"),
            ("password:\n  hunter2\nnext", "password:<redacted>\n<redacted>\nnext"),
            ("password = \"\"\"a\nb\\\"\"\"c\nd\"\"\" x\nnext", "password = <redacted>\nnext"),
            ("password = 'a\nb'\nnext", "password = <redacted>\nnext"),
            ("<password>hunter2</password>", "<password><redacted>"),
            ("Proxy-Authorization: Basic dTpw", "Proxy-Authorization: <redacted>"),
        ];
        for (line, expected) in shown {
            assert_eq!(text(line), expected, "{line}");
        }
    }

    #[test]
    fn a_password_that_is_a_number_goes_and_a_counter_stays() {
        assert_eq!(settings("pin_password = 1234").unwrap()["pin_password"], TAKEN);
        assert_eq!(value(serde_json::json!({ "tokens": 3 }))["tokens"], 3);
    }

    /// How a secret gets into a text.
    fn written(how: usize, secret: &str) -> String {
        let json = serde_json::to_string(secret).unwrap();
        let line = secret.replace('\n', " ");
        match how {
            0 => format!("password = {json} and more"),
            1 => format!("{{\"api_token\":{json},\"level\":\"info\"}}"),
            2 => format!("secret={secret:?} x=1"),
            3 => format!("password: {line}"),
            4 => format!("WARN passwd='{line}' user=x"),
            5 => format!("connecting to http://user:{line}@proxy.example:3128/ now"),
            6 => format!("http://{line}@proxy.example"),
            // A log in JSON with a field in quotes, and one with a document in it.
            7 => serde_json::json!({ "message": format!("password={json}"), "n": 1 }).to_string(),
            8 => {
                let inner = serde_json::json!({ "token": secret }).to_string();
                serde_json::json!({ "m": serde_json::json!({ "m": inner }).to_string() })
                    .to_string()
            }
            9 => format!("run --password {line} --verbose"),
            10 => {
                let escaped = secret.replace('\\', "\\\\").replace('"', "\\\"");
                format!("password = \"\"\"\n{escaped}\"\"\"\nname = 1")
            }
            _ => format!("Authorization: Basic {line}"),
        }
    }

    proptest! {
        #[test]
        fn no_key_comes_through(before in "[ -~]{0,40}", key in "[0-9a-f]{64}", after in "[ -~]{0,40}") {
            let mixed = key.bytes().any(|b| b.is_ascii_digit())
                && key.bytes().any(|b| b.is_ascii_alphabetic());
            prop_assume!(mixed);
            let shown = text(&format!("{before} {key} {after}"));
            prop_assert!(!shown.contains(&key));
        }

        #[test]
        fn nothing_of_a_secret_comes_through(
            before in "([ -~]{0,20}\n)?[ -~]{0,20}",
            secret in "([!-~]|[ \"'\\\\@:/=#$%&,;.é\n]){4,24}",
            how in 0..12_usize,
        ) {
            let around = format!("{before} {} {TAKEN}", written(how, ""));
            let shown = text(&format!("{before} {}\nbehind", written(how, &secret)));
            let chars: Vec<_> = secret.char_indices().map(|(at, _)| at).chain([secret.len()]).collect();
            for (n, from) in chars.iter().enumerate() {
                let Some(to) = chars[n..].iter().find(|to| **to - from >= 4) else { break };
                let piece = &secret[*from..*to];
                prop_assert!(
                    around.contains(piece) || !shown.contains(piece),
                    "{piece:?} of {secret:?} in {shown:?}"
                );
            }
        }

        #[test]
        fn text_without_names_and_long_words_stays(line in "[a-z ]{0,20}(/[a-z]{1,9}){0,3}[ ,.;()]{0,3}") {
            prop_assume!(!is_secret(&line));
            prop_assert_eq!(text(&line), line);
        }
    }
}
