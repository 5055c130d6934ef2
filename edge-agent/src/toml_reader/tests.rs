use super::*;

fn problems_of(text: &str) -> Vec<String> {
    let mut problems = Problems::new(text);
    if let Some(table) = problems.parse() {
        let mut root = Section::root(&table);
        let mut inner = root.section("store", &mut problems).expect("section");
        inner.bytes("limit", &mut problems);
        inner.duration_ms("every", &mut problems);
        inner.number("count", 1..=9, &mut problems);
        inner.required("path", &mut problems);
        inner.finish(&mut problems);
        root.finish(&mut problems);
    }
    problems.into_sorted().iter().map(ToString::to_string).collect()
}

#[test]
fn all_problems_are_reported_with_their_lines() {
    let found =
        problems_of("[store]\nlimit = \"16 MB\"\nevery = 3\ncount = 10\npaht = \"x\"\n[other]\n");
    assert_eq!(found.len(), 6, "{found:#?}");
    assert!(found[0].contains("[store] needs `path`"), "{}", found[0]);
    assert!(found[1].starts_with("line 2: `limit` must be a size"), "{}", found[1]);
    assert!(found[2].starts_with("line 3: `every` must be a string"), "{}", found[2]);
    assert!(found[3].contains("between 1 and 9"), "{}", found[3]);
    assert!(found[4].contains("did you mean `path`?"), "{}", found[4]);
    assert!(found[5].contains("unknown key `other`"), "{}", found[5]);
}

#[test]
fn a_good_file_has_no_problem() {
    let text = "[store]\nlimit = \"16 MiB\"\nevery = \"90 s\"\ncount = 3\npath = \"/d\"\n";
    assert!(problems_of(text).is_empty());
    assert_eq!(parse_unit("16 MiB", &SIZE_UNITS), Some(16 << 20));
    assert_eq!(parse_unit("90s", &TIME_UNITS), Some(90_000));
    assert_eq!(parse_unit("99999999999999999999 s", &TIME_UNITS), None);
}

#[test]
fn ranges_are_told_in_the_largest_whole_unit() {
    assert_eq!(in_units(1 << 20, &SIZE_UNITS), "1 MiB");
    assert_eq!(in_units(1_536, &SIZE_UNITS), "1536 B");
    assert_eq!(in_units(0, &TIME_UNITS), "0");
    assert_eq!(in_units(90_000, &TIME_UNITS), "90 s");
    assert_eq!(in_units(3_600_000, &TIME_UNITS), "1 h");
}

#[test]
fn decimals_are_whole_numbers_too() {
    let text = "a = -2.5\nb = 1_000\nc = nan\nd = \"1\"\ne = 0x10\n";
    let mut problems = Problems::new(text);
    let table = problems.parse().expect("TOML");
    let mut root = Section::root(&table);
    let read = ["a", "b", "c", "d", "e"].map(|key| root.decimal(key, -3.0..=1e6, &mut problems));
    assert_eq!(read, [Some(-2.5), Some(1_000.0), None, None, None]);
    assert_eq!(problems.into_sorted().len(), 3);
}

#[test]
fn a_syntax_error_is_one_problem() {
    let found = problems_of("[store\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("not valid TOML"), "{}", found[0]);
}
