//! `edge-agent status --json` against its page, `docs/status-fields.md`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::support::{managed_gateway, publish, wait_drained};

/// Parts whose inner names are not promised, or are described elsewhere.
const OPAQUE: [&str; 4] = ["store", "broker", "core", "drops"];

/// The names in the first column of a table of the page.
fn names(table: &str) -> BTreeSet<String> {
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Every name of the document, to a depth of two.
fn fields(status: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, value) in status.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(inner) if !OPAQUE.contains(&name.as_str()) => {
                found.extend(inner.keys().map(|key| format!("{name}.{key}")));
            }
            _ => drop(found.insert(name.clone())),
        }
    }
    found
}

fn page() -> Result<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/status-fields.md");
    Ok(std::fs::read_to_string(page)?)
}

/// That the page names what the document has below one of its parts, and nothing else.
pub(crate) fn assert_told(status: &Value, part: &str) -> Result<()> {
    let of_part = |names: BTreeSet<String>| -> BTreeSet<String> {
        names.into_iter().filter(|name| name.split('.').next() == Some(part)).collect()
    };
    assert_eq!(of_part(fields(status)), of_part(names(&page()?)));
    Ok(())
}

#[test]
fn the_document_is_what_its_page_says() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (_cloud, mut gateway) = managed_gateway(dir.path(), "told")?;
    publish(&gateway, 1, 20)?;
    wait_drained(&gateway)?;
    let status = gateway.status()?;
    let page = page()?;
    let (document, drops) = page.split_once("## Drops").context("a table of drops")?;
    // This one runs from no card image, of which a test of `system_updates` looks.
    let mut told = names(document);
    told.retain(|name| !name.starts_with("system."));
    told.insert("system".to_owned());
    assert_eq!(fields(&status), told);
    let reasons = status["drops"].as_object().context("drops")?;
    assert_eq!(reasons.keys().cloned().collect::<BTreeSet<_>>(), names(drops));

    assert_eq!(status["gateway"], "told");
    assert_eq!(status["uplink"]["up"], true);
    assert_eq!(status["uplink"]["last_contact_age_ms"], 0);
    assert_eq!(status["clock"]["synced"], true, "the control plane vouched for it");
    assert_eq!(status["queue"]["jobs"], 0);
    assert_eq!(status["queue"]["oldest_age_ms"], Value::Null);
    assert_eq!(status["outbox"]["streams"].as_array().map(Vec::len), Some(4));
    let app = &status["deployments"]["apps"][0];
    assert_eq!((&app["app"], &app["revision"]), (&"counter".into(), &app["running"]));
    for rate in ["written_bytes", "written_bytes_per_day", "life_written_bytes", "syncs"] {
        assert!(status["disk"][rate].as_u64() > Some(0), "{rate}: {:#}", status["disk"]);
    }
    gateway.stop()
}
