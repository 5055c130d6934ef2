//! Conformance to MQTT: the scripts against the broker in virtual time, and the table against the
//! tests. The same scripts run against the agent (`e2e`) and against Mosquitto (`mosquitto`).

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use system_tests::conformance::sans_io::SansIo;
use system_tests::conformance::script::{Script, read_all};
use system_tests::conformance::table::Table;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn scripts() -> Result<Vec<Script>> {
    read_all(&root().join("tests/conformance"))
}

#[test]
fn the_broker_does_what_the_scripts_say() -> Result<()> {
    let mut failures = Vec::new();
    for script in scripts()?.iter().filter(|script| script.is_for("broker")) {
        if let Err(error) = script.run(&mut SansIo::default()) {
            failures.push(format!("{error:#}"));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// A script that cannot fail shows nothing: each expectation is turned into a wrong one.
#[test]
fn every_expectation_of_a_script_counts() -> Result<()> {
    let mut unnoticed = Vec::new();
    for script in scripts()?.iter().filter(|script| script.is_for("broker")) {
        for (line, wrong) in script.with_each_expectation_wrong() {
            if wrong.run(&mut SansIo::default()).is_ok() {
                unnoticed.push(format!("{} line {line}", script.name));
            }
        }
    }
    ensure!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
    Ok(())
}

#[test]
fn every_statement_names_tests_that_there_are() -> Result<()> {
    let problems = Table::read(&root())?.problems(&root())?;
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

#[test]
fn the_page_is_that_of_the_table() -> Result<()> {
    let (file, page) = (root().join("docs/mqtt-conformance.md"), Table::read(&root())?.page());
    if std::env::var_os("HOLM_BLESS").is_some() {
        std::fs::write(&file, &page)?;
    }
    let written = std::fs::read_to_string(&file)?;
    ensure!(
        written == page,
        "docs/mqtt-conformance.md is old: HOLM_BLESS=1 cargo test -p system-tests --test conformance"
    );
    Ok(())
}
