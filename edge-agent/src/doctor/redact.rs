//! Taking secrets out of what leaves the machine.
//!
//! Keys of settings that hold a secret, or the hash of one, lose their value. In all other text
//! what looks like a key, a token or a hash is taken out as well: a name too much is better than a
//! key.

use serde_json::{Map, Value};

/// In the place of what was taken out.
pub const TAKEN: &str = "<redacted>";

/// A word so long, of letters and digits, is no word.
const WORD_MAX: usize = 24;
/// The same where slashes may be part of it, as in base64.
const SLASHED_MAX: usize = 40;
/// Parts of the names of keys whose values are secrets.
const SECRET_NAMES: [&str; 4] = ["token", "password", "passphrase", "secret"];

/// The settings of a configuration file without secrets and comments; `None` where it is no TOML.
#[must_use]
pub fn settings(text: &str) -> Option<Value> {
    let table: Map<String, Value> = toml::from_str(text).ok()?;
    Some(value(Value::Object(table)))
}

/// A document without secrets.
#[must_use]
pub fn value(document: Value) -> Value {
    match document {
        Value::String(text) => Value::String(self::text(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(value).collect()),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, field)| {
                let field = if is_secret(&name) && !is_harmless(&field) {
                    Value::String(TAKEN.to_owned())
                } else {
                    value(field)
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

/// Text without what looks like a secret.
#[must_use]
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_pem = false;
    for line in text.split_inclusive('\n') {
        if line.contains("-----BEGIN") {
            in_pem = true;
            out.push_str(TAKEN);
            out.push('\n');
        }
        if !in_pem {
            self::line(line, &mut out);
        }
        if line.contains("-----END") {
            in_pem = false;
        }
    }
    out
}

fn line(line: &str, out: &mut String) {
    // The word before was the name of a secret; a hash is under way, which has several words.
    let (mut named, mut in_hash) = (false, false);
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        if end == 0 {
            let mut chars = rest.chars();
            let between = chars.next().unwrap_or_default();
            // `token: x`, `password="x"`: the name counts up to the next word.
            if !matches!(between, ' ' | ':' | '=' | '"' | '\'') {
                named = false;
            }
            in_hash &= between == '=';
            out.push(between);
            rest = chars.as_str();
            continue;
        }
        let (word, after) = rest.split_at(end);
        let follows = after.trim_start_matches(['"', '\'', ' ']);
        let is_name = is_secret(word) && follows.starts_with([':', '=']);
        in_hash |= word.contains("$argon2");
        let is_taken = in_hash || (!is_name && (named || looks_secret(word)));
        if is_taken {
            out.push_str(TAKEN);
        } else {
            segments(word, out);
        }
        named = is_name;
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
        assert!(text("password=\"hunter2\" user=x").ends_with("user=x"), "and no more");
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
    }
}
