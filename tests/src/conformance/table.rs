//! The table of what the specifications demand of a server, checked against the tests that there
//! are, and as a page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::script;

/// The statements of both versions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    v5: Section,
    v311: Section,
}

/// The statements of one version, by number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    /// Of clients alone.
    client: Vec<String>,
    /// Numbers that the specification does not use.
    gaps: Vec<String>,
    /// Of servers.
    server: BTreeMap<String, Statement>,
    /// Rules without a number, by clause.
    #[serde(default)]
    rules: BTreeMap<String, Statement>,
}

/// A statement that concerns a server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    /// What it demands, in our words.
    says: String,
    /// Tests that show it.
    #[serde(default)]
    by: Vec<String>,
    /// Why it does not apply.
    not: Option<String>,
}

/// Folders whose tests may be named, below the root of the repository.
const TESTS: [&str; 4] = [
    "edge-agent/broker/src",
    "edge-agent/broker/tests",
    "edge-agent/core/src/topic",
    "tests/tests",
];

/// `3.10.4-2` as numbers, to sort by.
fn numbers(id: &str) -> Vec<u32> {
    id.split(['.', '-', ' ']).map(|part| part.parse().unwrap_or(u32::MAX)).collect()
}

/// In the order of the specification.
fn sorted(statements: &BTreeMap<String, Statement>) -> Vec<(&String, &Statement)> {
    let mut sorted: Vec<_> = statements.iter().collect();
    sorted.sort_by_key(|(id, _)| numbers(id));
    sorted
}

impl Table {
    /// Reads `tests/conformance/statements.toml` below `root`.
    ///
    /// # Errors
    /// It cannot be read or is no such table.
    pub fn read(root: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(root.join("tests/conformance/statements.toml"))?;
        toml::from_str(&text).context("statements.toml")
    }

    fn sections(&self) -> [(&'static str, &Section); 2] {
        [("MQTT 5", &self.v5), ("MQTT 3.1.1", &self.v311)]
    }

    /// What is wrong with it: statements without or with unknown tests, numbers left out, scripts
    /// that nothing names.
    ///
    /// # Errors
    /// Sources or scripts cannot be read.
    pub fn problems(&self, root: &Path) -> Result<Vec<String>> {
        let scripts = script::read_all(&root.join("tests/conformance"))?;
        let scripts: BTreeSet<String> =
            scripts.iter().map(|script| format!("script:{}", script.name)).collect();
        let mut known = tests(root)?;
        known.extend(scripts.iter().cloned());
        let (mut problems, mut named) = (Vec::new(), BTreeSet::new());
        for (version, section) in self.sections() {
            section.check_numbers(version, &mut problems);
            for (id, statement) in section.server.iter().chain(&section.rules) {
                if statement.by.is_empty() != statement.not.is_some() {
                    problems.push(format!("{version} {id}: either `by` or `not`"));
                }
                for test in &statement.by {
                    named.insert(test.clone());
                    if !known.contains(test) {
                        problems.push(format!("{version} {id}: there is no test {test}"));
                    }
                }
            }
        }
        problems.extend(scripts.difference(&named).map(|name| format!("nothing names {name}")));
        Ok(problems)
    }

    /// The page.
    ///
    /// # Panics
    /// Never: a string takes everything.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::from(
            "# MQTT conformance\n\n\
             <!-- Made from tests/conformance/statements.toml by\n     \
             `HOLM_BLESS=1 cargo test -p system-tests --test conformance`. -->\n\n\
             Every normative statement of MQTT 5 and MQTT 3.1.1 that concerns a server, in our words (the specifications \
             have\nthe binding ones), with the tests that show it or the reason why it does not apply. A test is \
             `file::function`, or\n`script:name`: a scripted exchange of packets in `tests/conformance/`, run against \
             the broker in virtual time, against\nthe agent over sockets and, where nothing is said against it, against \
             Mosquitto as a check of the script itself.\n",
        );
        for (version, section) in self.sections() {
            let shown = section.server.values().filter(|it| it.not.is_none()).count();
            let not = section.server.len() - shown;
            write!(
                page,
                "\n## {version}\n\n{shown} statements shown by tests, {not} that do not apply.\n\n\
                 | statement | what it demands | shown by |\n|---|---|---|\n"
            )
            .expect("invariant: a string takes everything");
            for (id, statement) in sorted(&section.server) {
                writeln!(page, "| MQTT-{id} | {} | {} |", statement.says, statement.evidence())
                    .expect("invariant: a string takes everything");
            }
            if !section.rules.is_empty() {
                page.push_str("\nRules without a number:\n\n| clause | what it demands | shown by |\n|---|---|---|\n");
            }
            for (clause, rule) in sorted(&section.rules) {
                writeln!(page, "| {clause} | {} | {} |", rule.says, rule.evidence())
                    .expect("invariant: a string takes everything");
            }
        }
        page
    }
}

impl Statement {
    fn evidence(&self) -> String {
        match &self.not {
            Some(why) => format!("does not apply: {why}"),
            None => {
                let tests: Vec<String> = self.by.iter().map(|test| format!("`{test}`")).collect();
                tests.join(", ")
            }
        }
    }
}

impl Section {
    /// Each number of a clause up to its highest stands in exactly one list.
    fn check_numbers(&self, version: &str, problems: &mut Vec<String>) {
        let mut seen: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        let ids = self.server.keys().chain(&self.client).chain(&self.gaps);
        for id in ids {
            let Some((clause, number)) = id.rsplit_once('-') else {
                problems.push(format!("{version} {id}: no number of a statement"));
                continue;
            };
            let number = number.parse().unwrap_or_default();
            if !seen.entry(clause).or_default().insert(number) {
                problems.push(format!("{version} {id} stands twice"));
            }
        }
        for (clause, numbers) in seen {
            let last = numbers.last().copied().unwrap_or_default();
            let missing = (1..=last).filter(|number| !numbers.contains(number));
            problems
                .extend(missing.map(|number| format!("{version} {clause}-{number} is missing")));
        }
    }
}

/// All test functions, as `file::function`; for `tests.rs` the folder stands for the file.
fn tests(root: &Path) -> Result<BTreeSet<String>> {
    let mut folders: Vec<PathBuf> = TESTS.iter().map(|folder| root.join(folder)).collect();
    let mut names = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let stem = path.file_stem().filter(|stem| *stem != "tests");
                let stem = stem.or(folder.file_name()).unwrap_or_default().to_string_lossy();
                let text = std::fs::read_to_string(&path)?;
                names.extend(test_functions(&text).map(|name| format!("{stem}::{name}")));
            }
        }
    }
    Ok(names)
}

/// Functions right behind an attribute that makes them tests.
fn test_functions(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            return None;
        }
        let line = line.strip_prefix("async ").unwrap_or(line);
        let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        let found = name.filter(|_| is_test);
        is_test = false;
        found
    })
}

#[cfg(test)]
mod tests_of_the_table {
    use super::*;

    #[test]
    fn only_functions_with_the_attribute_are_tests() {
        let text = "#[test]\nfn a() {}\nfn b() {}\n#[tokio::test(start_paused = true)]\n\
                    async fn c() {}\n#[cfg(x)]\nfn d() {}";
        assert_eq!(test_functions(text).collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn numbers_left_out_or_named_twice_are_found() {
        let section: Section = toml::from_str(
            "client = ['1.1-2', '1.1-4']\ngaps = []\n[server]\n\
             '1.1-1' = { says = 'x', not = 'y' }\n'1.1-4' = { says = 'x', not = 'y' }",
        )
        .unwrap();
        let mut problems = Vec::new();
        section.check_numbers("v", &mut problems);
        assert_eq!(problems, ["v 1.1-4 stands twice", "v 1.1-3 is missing"]);
    }
}
