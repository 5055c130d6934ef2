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
fn of_a_proxy_its_place_stays_and_of_what_is_none_nothing() {
    let shown = |value: &str| {
        settings(&format!("[uplink]\nproxy = {value}")).unwrap()["uplink"]["proxy"].clone()
    };
    assert_eq!(shown("\"http://barn:hunter2@proxy.example:3128\""), "http://proxy.example:3128");
    assert_eq!(shown("\"proxy.example:3128\""), "http://proxy.example:3128");
    assert_eq!(shown("\"none\""), "none");
    for odd in ["\"barn:hunter2@h:1\"", "\"http:/barn:hunter2@h:1\"", "[\"barn:hunter2@h:1\"]"] {
        assert_eq!(shown(odd), TAKEN);
    }
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
        ("psk=\"a\" x", "psk=<redacted>"),
        ("wifi-sec.psk a", "wifi-sec.psk <redacted>"),
        ("X-Api-Key: a", "X-Api-Key: <redacted>"),
        ("sent Bearer abc to x", "sent Bearer <redacted>"),
        ("/x?sig=abc&y", "/x?sig=<redacted>"),
        ("pass: a", "pass: <redacted>"),
        ("a compass: north", "a compass: north"),
        ("curl -u admin:a http://x", "curl -u <redacted>"),
        ("via barn:p@ss@proxy:1 now", "via <redacted>@proxy:1 now"),
        ("proxy=\"u:p@h:1\"", "proxy=\"<redacted>@h:1\""),
        ("mail to a@b", "mail to a@b"),
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
            serde_json::json!({ "m": serde_json::json!({ "m": inner }).to_string() }).to_string()
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
