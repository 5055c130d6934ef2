use std::collections::BTreeMap;

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
[[devices]]
name = \"person\"
password_argon2 = \"$argon2id$v=19\"
[limits]
message = \"2 MiB\"
workers = 0
receive_max = 65536
will_after_restart = \"2 h\"
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
        "line 17: `message` must be between \"1 KiB\" and \"1 MiB\"",
        "`will_after_restart` must be between",
        "`password_argon2` is what `edge-agent device-password` prints",
        "`workers` must be between 1 and 256",
        "`receive_max` must be between 1 and 65535",
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

/// The texts that an operator meets, each for one file.
#[test]
fn each_mistake_says_what_to_do() {
    let cases = [
        ("", "line 1: the top level needs `name`\n"),
        ("name = 7", "line 1: `name` must be a string\n"),
        (
            "name = \"a\"\nlistners = []",
            "line 2: unknown key `listners` in the top level: did you mean `listeners`?\n",
        ),
        ("name = \"a\"\nlisteners = 1", "line 2: `listeners` must be an array of tables\n"),
        ("name = \"a\"\n[limits]\nmessage = 1000", "line 3: `message` must be a string\n"),
        (
            "name = \"a\"\n[limits]\nstore = \"4 GB\"",
            "line 3: `store` must be a size such as \"16 MiB\" (units: B, KiB, MiB, GiB)\n",
        ),
        (
            "name = \"a\"\n[limits]\ncompile_time = \"0 s\"",
            "line 3: `compile_time` must be between \"1 s\" and \"1 h\"\n",
        ),
        (
            "name = \"a\"\n[[listeners]]\nbind = \"127.0.0.1:1883\"\n[[listeners]]\nbind = \"127.0.0.1:1883\"",
            "line 5: the address \"127.0.0.1:1883\" stands here for the second time\n",
        ),
        (
            "name = \"a\"\n[[devices]]\nname = \"d\"\ncertificate = true\n[[devices]]\nname = \"d\"\ncertificate = true",
            "line 6: the device \"d\" stands here for the second time\n",
        ),
        ("name = \"a\"\n[[devices]]\ncertificate = true", "line 2: [[devices]] needs `name`\n"),
        (
            "name = \"a\"\nauthor_keys = [\"abc\", 5]",
            "line 2: `author_keys` must be an array of strings\nline 2: an author key is what `holm \
             keys show` prints, `ed25519:...`\n",
        ),
        ("name = \"a", "line 1: not valid TOML: invalid basic string, expected `\"`\n"),
    ];
    for (text, expected) in cases {
        assert_eq!(problems(text), expected, "{text}");
    }
}

/// Keys that the reader takes, by section, from what it says of one that it does not.
fn known_keys() -> BTreeMap<String, BTreeSet<String>> {
    const UNKNOWN: &str = "xxxxxxxxxxxxxxxx";
    let sections = [
        "[[listeners]]",
        "[[devices]]",
        "[[buses]]",
        "[anonymous]",
        "[update]",
        "[uplink]",
        "[disk]",
        "[log]",
        "[limits]",
    ];
    let text = sections.map(|section| format!("{section}\n{UNKNOWN} = 1\n")).concat();
    let found = problems(&format!("{UNKNOWN} = 1\n{text}"));
    let lines = found.lines().filter_map(|line| {
        let (title, keys) =
            line.split_once(&format!("`{UNKNOWN}` in "))?.1.split_once(": known keys: ")?;
        Some((title.to_owned(), keys.split(", ").map(str::to_owned).collect()))
    });
    lines.collect()
}

#[test]
fn the_reference_lists_the_keys_that_are_read_and_no_others() {
    let page = include_str!("../../../docs/agent-toml.md");
    let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut title = String::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            title = heading.trim_matches('`').to_lowercase();
        } else if let Some(key) = line.strip_prefix("| `") {
            let key = key.split('`').next().unwrap_or_default();
            listed.entry(title.clone()).or_default().insert(key.to_owned());
        }
    }
    // Tables of the top level have their own sections.
    let mut known = known_keys();
    let top = known.get_mut("the top level").expect("keys");
    top.retain(|key| {
        !listed.contains_key(&format!("[[{key}]]")) && !listed.contains_key(&format!("[{key}]"))
    });
    assert_eq!(listed, known);
}

#[test]
fn the_example_of_the_reference_is_valid() {
    let page = include_str!("../../../docs/agent-toml.md");
    let lines = page.lines().filter_map(|line| line.strip_prefix("    "));
    let example: Vec<_> = lines.collect();
    let settings = Settings::parse(&example.join("\n")).expect("valid");
    assert_eq!((settings.listeners.len(), settings.devices.len()), (2, 2));
}

/// The defaults and bounds that the page names.
#[test]
fn the_reference_names_the_defaults() {
    let page = include_str!("../../../docs/agent-toml.md");
    // Keys of other tables have the same names.
    let (_, limits) = page.split_once("## `[limits]`").expect("a table of limits");
    let row = |key: &str| {
        let line = limits.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
        line.unwrap_or_else(|| panic!("no row for {key}")).to_owned()
    };
    let default = Limits::default();
    let mib = |bytes: u64| format!("| {} MiB |", bytes >> 20);
    for (key, wanted) in [
        ("message", format!("| {} KiB |", default.message_bytes_max >> 10)),
        ("queue_jobs", format!("| {} |", default.queue_jobs_max)),
        ("queue", mib(default.queue_bytes_max as u64)),
        ("store", format!("| {} GiB |", default.store_bytes_max >> 30)),
        ("function_memory", mib(default.function_memory_bytes_max)),
        ("call_stack", format!("| {} KiB |", default.call_stack_bytes >> 10)),
        ("compile_memory", mib(default.compile_memory_bytes_max)),
        ("compile_time", format!("| {} s |", default.compile_time_ms_max / 1_000)),
        ("connections", format!("| {} |", default.connections_max)),
        ("devices", format!("| {}, or as many ", default.devices_max)),
    ] {
        assert!(row(key).contains(&wanted), "{}: {wanted}", row(key));
    }
}

#[test]
fn a_drain_has_a_burst_and_a_burst_needs_a_drain() {
    let drain = |lines: &str| {
        let text = format!("name = \"a\"\n[limits]\n{lines}\n");
        Settings::parse(&text).map(|settings| settings.limits.drain)
    };
    assert_eq!(drain(""), Ok(None));
    let rate = |bytes_per_s, burst_bytes| Ok(Some(Rate { bytes_per_s, burst_bytes }));
    assert_eq!(drain("drain = \"2 KiB\""), rate(2_048, 65_536));
    assert_eq!(drain("drain = \"1 MiB\""), rate(1 << 20, 1 << 20));
    assert_eq!(drain("drain = \"2 KiB\"\ndrain_burst = \"4 KiB\""), rate(2_048, 4_096));
    let problems = drain("drain_burst = \"4 KiB\"").expect_err("half a setting");
    assert!(problems[0].message.contains("goes with `drain`"), "{problems:?}");
    assert!(drain("drain = \"1 B\"").is_err());
}

#[test]
fn flash_is_spared_as_told() {
    let disk = |lines: &str| {
        Settings::parse(&format!("name = \"a\"\n{lines}\n")).map(|settings| settings.disk)
    };
    assert_eq!(disk(""), Ok(Disk::default()));
    let told = Disk { commit_interval_ms_min: Millis(500), endurance_bytes: Some(30 << 30) };
    let lines = "[disk]\ncommit_interval = \"500 ms\"\nendurance = \"30 GiB\"";
    assert_eq!(disk(lines), Ok(told));
    for wrong in ["commit_interval = \"6 s\"", "endurance = \"1 MiB\"", "enduranc = \"1 GiB\""] {
        assert!(disk(&format!("[disk]\n{wrong}")).is_err(), "{wrong}");
    }
}

/// All that have an account are remembered, unless somebody says otherwise.
#[test]
fn a_gateway_remembers_the_devices_that_it_knows() {
    let devices_max = |accounts: usize, lines: &str| {
        let account = |n| format!("[[devices]]\nname = \"d{n}\"\ncertificate = true\n");
        let accounts: String = (0..accounts).map(account).collect();
        Settings::parse(&format!("name = \"a\"\n{accounts}{lines}"))
            .map(|settings| settings.limits.devices_max)
    };
    assert_eq!(devices_max(3, ""), Ok(1_000));
    assert_eq!(devices_max(2_000, ""), Ok(2_001), "anonymous clients are one more");
    assert_eq!(devices_max(2_000, "[limits]\nsessions = 5\n"), Ok(2_001));
    assert_eq!(devices_max(2_000, "[limits]\ndevices = 10\n"), Ok(10));
    assert_eq!(devices_max(1, "[limits]\ndevices = 100000\n"), Ok(100_000));
    for wrong in ["0", "100001"] {
        let problems = devices_max(1, &format!("[limits]\ndevices = {wrong}\n")).expect_err(wrong);
        assert!(problems[0].message.contains("between 1 and 100000"), "{problems:?}");
    }
}

#[test]
fn a_log_has_bounds_without_a_word_about_them() {
    let log = |lines: &str| {
        let text = format!("name = \"a\"\n[log]\n{lines}\n");
        Settings::parse(&text).map(|settings| settings.log)
    };
    let file = |bytes_max, files_max| {
        Ok(Some(LogFile { file: PathBuf::from("/x"), bytes_max, files_max }))
    };
    assert_eq!(Settings::parse("name = \"a\"").map(|settings| settings.log), Ok(None));
    assert_eq!(log("file = \"/x\""), file(1 << 20, 4));
    let all = log("file = \"/x\"\nbytes_max = \"64 KiB\"\nfiles_max = 2");
    assert_eq!(all, file(64 << 10, 2));
    let problems = log("files_max = 0").expect_err("no file, and none of it");
    assert_eq!(problems.len(), 2, "{problems:?}");
    let problems = log("file = \"/var/lib/holm/store/journal-00.seg\"").expect_err("the store's");
    assert!(problems[0].message.contains("outside of the data"), "{problems:?}");
}

#[test]
fn a_proxy_is_named_or_ruled_out() {
    let proxy = |lines: &str| {
        Settings::parse(&format!("name = \"a\"\n{lines}\n")).map(|settings| settings.proxy)
    };
    assert_eq!(proxy(""), Ok(Choice::Environment));
    assert_eq!(proxy("[uplink]"), Ok(Choice::Environment));
    assert_eq!(proxy("[uplink]\nproxy = \"none\""), Ok(Choice::Direct));
    let told = "http://u:p@proxy.example:3128";
    let expected = Choice::Proxy(told.parse().unwrap());
    assert_eq!(proxy(&format!("[uplink]\nproxy = {told:?}")), Ok(expected));
    let problems = proxy("[uplink]\nproxy = \"https://u:hunter2@h:1\"").expect_err("TLS");
    assert!(problems[0].message.contains("must begin with http://"), "{problems:?}");
    assert!(!format!("{problems:?}").contains("hunter2"));
    assert!(proxy("[uplink]\nproxi = \"none\"").is_err());
}

#[test]
fn listeners_of_both_families() {
    let binds = |binds: &[&str]| {
        let more = "plaintext_beyond_loopback = true";
        let one = |bind: &&str| format!("[[listeners]]\nbind = {bind:?}\n{more}\n");
        let text: String = binds.iter().map(one).collect();
        Settings::parse(&format!("name = \"a\"\n{text}")).map(|settings| settings.listeners.len())
    };
    assert_eq!(binds(&["[::1]:1883", "127.0.0.1:1883", "[::]:8883", "0.0.0.0:8884"]), Ok(4));
    assert_eq!(binds(&["[::]:0", "0.0.0.0:0"]), Ok(2));
    let twice = binds(&["[::]:8883", "0.0.0.0:8883"]).expect_err("one takes both");
    assert!(twice[0].message.contains("takes IPv4 as well"), "{twice:?}");
    assert!(binds(&["::1:1883"]).is_err() && binds(&["[::1]"]).is_err());
    let plain = Settings::parse("name = \"a\"\n[[listeners]]\nbind = \"[::1]:1883\"");
    assert!(plain.is_ok(), "::1 is this machine: {plain:?}");
    assert!(Settings::parse("name = \"a\"\n[[listeners]]\nbind = \"[::]:1883\"").is_err());
}
