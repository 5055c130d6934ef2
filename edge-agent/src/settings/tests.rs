use super::*;

fn problems(text: &str) -> String {
    let found = Settings::parse(text).expect_err("the file is wrong");
    found.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn the_smallest_file_has_sensible_defaults() {
    let settings = Settings::parse("name = \"barn\"").expect("valid");
    assert_eq!(settings.data_dir, PathBuf::from("/var/lib/holm"));
    assert_eq!(settings.control_socket, PathBuf::from("/var/lib/holm/control.sock"));
    assert_eq!(settings.limits, Limits::default());
    assert!(settings.anonymous.is_none());
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = "
name = \"two words\"
dta_dir = \"/x\"
author_keys = [\"abc\"]
[[listeners]]
bind = \"0.0.0.0:1883\"
[[listeners]]
bind = \"nowhere\"
certificate = \"c.pem\"
[[devices]]
name = \"press\"
publish = [\"a/#/b\"]
[limits]
message = \"2 MiB\"
workers = 0
";
    let found = problems(text);
    for part in [
        "line 2: `name` must be",
        "line 3: unknown key `dta_dir` in the top level: did you mean `data_dir`?",
        "line 4: an author key is what",
        "line 6: a plaintext listener binds to loopback",
        "TLS needs both",
        "line 8: `bind` must be ADDRESS:PORT",
        "exactly one of `certificate = true`",
        "a/#/b",
        "`message` is at most",
        "`workers` must be between 1 and 256",
    ] {
        assert!(found.contains(part), "missing {part:?} in:\n{found}");
    }
}

#[test]
fn a_device_name_stands_in_for_its_placeholder() {
    let text = "
name = \"barn\"
[[devices]]
name = \"press-7\"
certificate = true
publish = [\"sensors/{device}/#\"]
";
    let settings = Settings::parse(text).expect("valid");
    assert_eq!(settings.devices[0].access.publish[0].as_str(), "sensors/press-7/#");
}
