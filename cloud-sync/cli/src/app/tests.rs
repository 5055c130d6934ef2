use super::reference::{EXAMPLE, TABLES, page};
use super::*;

/// Cases are files: `good/*.toml` must parse; the problems of `bad/*.toml` stand after a line `#:`
/// as comments `# LINE: text`, and no other problem may be reported.
fn cases(kind: &str) -> Vec<(PathBuf, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/holm-toml").join(kind);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "the cases are gone");
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn good_files_parse() {
    for (path, text) in cases("good") {
        let problems = App::parse(&text).err();
        assert_eq!(problems, None, "{}", path.display());
    }
}

#[test]
fn bad_files_name_all_their_mistakes() {
    for (path, text) in cases("bad") {
        let (file, expected) = text.split_once("#:\n").unwrap_or((&text, ""));
        let problems = App::parse(file).expect_err(&path.display().to_string());
        let found: String = problems
            .iter()
            .map(|problem| format!("# {}: {}\n", problem.line, problem.message))
            .collect();
        if std::env::var_os("HOLM_BLESS").is_some() {
            std::fs::write(&path, format!("{file}#:\n{found}")).unwrap();
        } else {
            assert_eq!(found, expected, "{}", path.display());
        }
    }
}

#[test]
fn defaults_are_the_designs() {
    let app = App::parse(EXAMPLE).unwrap();
    let report = &app.functions["report"];
    assert_eq!(report.limits, Limits::default());
    assert_eq!(app.functions["alarm"].state, StateScope::Device);
    assert_eq!(app.functions["smooth"].limits.memory_bytes, 4 << 20);
    assert_eq!(app.functions["smooth"].config["window"], "12");
    let smoothed = Series { ttl_ms: Some(7 * 86_400_000), ..Series::default() };
    assert_eq!(app.records["smoothed"], smoothed);
    assert_eq!(app.triggers["smooth"].retry, manifest::Retry::default());
    assert_eq!(app.triggers["alarm"].retry.backoff_ms, [1_000, 10_000, 60_000]);
}

#[test]
fn the_manifest_has_what_the_file_says() {
    let app = App::parse(EXAMPLE).unwrap();
    let built: BTreeMap<String, Vec<u8>> =
        app.functions.keys().map(|name| (name.clone(), name.clone().into_bytes())).collect();
    let manifest = app.manifest(&built, &BTreeMap::new(), &GatewayFiles::default()).unwrap();
    assert_eq!(manifest.sequence, (1 << 32) + (4 << 16));
    assert_eq!(manifest.functions["smooth"].artifact, sync_protocol::Digest::of(b"smooth"));
    assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Ok(manifest));
    assert!(app.manifest(&BTreeMap::new(), &BTreeMap::new(), &GatewayFiles::default()).is_err());
}

/// The parser's own words about its keys are compared with the reference: it lists the keys it
/// asked for when a key resembles none of them.
#[test]
fn the_reference_lists_the_keys_the_parser_asks_for() {
    let unlike = "zzzzzzzzzzzzzzzzzzzz";
    let text = format!(
        "[app]\n{unlike} = 1\n[functions.a]\n{unlike} = 1\n[records.a]\n{unlike} = 1\n\
         [firmware.a]\n{unlike} = 1\n[device-function.a]\n{unlike} = 1\n[agent]\n{unlike} = 1\n[system]\n{unlike} = 1\n\
         [[triggers]]\n{unlike} = 1\n"
    );
    let problems = App::parse(&text).unwrap_err();
    for table in TABLES {
        let title = table.title.replace("NAME", "a");
        let says = format!("unknown key `{unlike}` in {title}: known keys: ");
        let listed = problems
            .iter()
            .find_map(|problem| problem.message.strip_prefix(says.as_str()))
            .unwrap_or_else(|| panic!("{title}: {problems:#?}"));
        let mut asked: Vec<&str> = listed.split(", ").collect();
        let mut documented: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
        asked.sort_unstable();
        documented.sort_unstable();
        assert_eq!(asked, documented, "{title}");
    }
}

/// Defaults in the reference are the parser's: a file that states them all means the same.
#[test]
fn the_reference_tells_the_true_defaults() {
    let states = |table: &reference::Table, skip: &[&str]| -> String {
        table
            .keys
            .iter()
            .filter(|key| !skip.contains(&key.name) && !["", "none"].contains(&key.default))
            .map(|key| {
                let quote = key.value == "size" || key.value == "duration";
                let value =
                    if quote { format!("\"{}\"", key.default) } else { key.default.to_owned() };
                format!("{} = {value}\n", key.name)
            })
            .collect()
    };
    let file = |function: &str, records: &str, trigger: &str| {
        App::parse(&format!(
            "[app]\nname = \"a\"\nversion = \"1.0.0\"\n[functions.a]\nrecord = [\"*\"]\n{function}\
             [records.a]\n{records}\
             [[triggers]]\nfunction = \"a\"\nmqtt = [\"t\"]\n{trigger}"
        ))
        .unwrap()
    };
    let function = states(&reference::FUNCTION, &["record"]);
    let records = states(&reference::RECORDS, &[]);
    let trigger = states(&reference::TRIGGER, &["name", "missed"]);
    assert!(function.contains("time = \"3 s\"") && trigger.contains("retries = 2"));
    assert!(records.contains("drop = \"oldest\""));
    assert_eq!(file(&function, &records, &trigger), file("", "", ""));
}

#[test]
fn the_page_is_made_from_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/holm-toml.md");
    if std::env::var_os("HOLM_BLESS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "docs/holm-toml.md is old: HOLM_BLESS=1 cargo test -p holm");
}
