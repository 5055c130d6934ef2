//! The bill of materials of a program: CycloneDX 1.5.
//!
//! From `cargo tree`, which knows what is linked into *this* program for *this* target. (`cargo
//! metadata` unites the features of the whole workspace.) What only runs while building, such as
//! macros, is not in the program and not in the bill.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sync_protocol::Digest;

use crate::command::{cargo, project_root};

/// Name and version.
type Crate = (String, String);

/// The bill of the agent for a target.
pub(crate) fn of_agent(triple: &str, agent: &[u8]) -> Result<Vec<u8>> {
    let mut command = cargo(&["tree", "--locked", "-p", "edge-agent", "--target", triple]);
    command.args(["--edges", "normal,no-proc-macro", "--prefix", "depth"]);
    command.args(["--format", "\t{p}\t{l}"]);
    let output = command.output().context("cargo tree")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = Tree::parse(&String::from_utf8(output.stdout)?)?;
    let lock = std::fs::read_to_string(project_root().join("Cargo.lock")).context("Cargo.lock")?;
    let bill = tree.bill(&checksums(&lock)?, triple, &Digest::of(agent).to_string());
    let mut text = serde_json::to_vec_pretty(&bill)?;
    text.push(b'\n');
    Ok(text)
}

/// The licences in a bill, a line for each part: name, version, licence.
pub(crate) fn licences(bill: &[u8]) -> Result<Vec<u8>> {
    let bill: Value = serde_json::from_slice(bill).context("the bill of materials")?;
    let mut text = String::new();
    let program = std::iter::once(&bill["metadata"]["component"]);
    for part in program.chain(bill["components"].as_array().into_iter().flatten()) {
        let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let (name, version) = (word(&part["name"]), word(&part["version"]));
        text += &format!("{name} {version}  {}\n", word(&part["licenses"][0]["expression"]));
    }
    Ok(text.into_bytes())
}

/// SHA-256 of what was downloaded, by crate.
fn checksums(lock: &str) -> Result<BTreeMap<Crate, String>> {
    let lock: toml::Table = lock.parse().context("Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let mut sums = BTreeMap::new();
    for package in packages.context("Cargo.lock lists no packages")? {
        let text = |key: &str| package.get(key)?.as_str().map(str::to_owned);
        if let (Some(name), Some(version), Some(sum)) =
            (text("name"), text("version"), text("checksum"))
        {
            sums.insert((name, version), sum);
        }
    }
    Ok(sums)
}

/// What `cargo tree --prefix depth` shows.
#[derive(Debug, Default)]
struct Tree {
    root: Option<Crate>,
    licences: BTreeMap<Crate, String>,
    needs: BTreeMap<Crate, BTreeSet<Crate>>,
}

impl Tree {
    fn parse(text: &str) -> Result<Self> {
        let mut tree = Self::default();
        let mut above: Vec<Crate> = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let mut parts = line.split('\t');
            let (depth, package, licence) = (parts.next(), parts.next(), parts.next());
            let depth: usize = depth.unwrap_or_default().parse().context("no depth in the tree")?;
            let mut words = package.unwrap_or_default().split_whitespace();
            let name = words.next().context("no name in the tree")?.to_owned();
            let version = words.next().and_then(|word| word.strip_prefix('v'));
            let version = version.context("no version in the tree")?.to_owned();
            // A crate that was shown before is marked, and its branch is left out.
            let licence = licence.unwrap_or_default().trim_end_matches(" (*)");
            // `MIT/Apache-2.0` is how it was written before SPDX.
            let licence = licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ");
            let this = (name, version);
            above.truncate(depth);
            match above.last() {
                Some(parent) => {
                    tree.needs.entry(parent.clone()).or_default().insert(this.clone());
                }
                None => tree.root = Some(this.clone()),
            }
            tree.licences.insert(this.clone(), licence);
            tree.needs.entry(this.clone()).or_default();
            above.push(this);
        }
        ensure!(tree.root.is_some(), "the tree is empty");
        Ok(tree)
    }

    fn bill(&self, sums: &BTreeMap<Crate, String>, triple: &str, agent: &str) -> Value {
        let component = |kind: &str, this: &Crate| {
            let mut value = json!({
                "type": kind, "bom-ref": reference(this), "name": this.0, "version": this.1,
            });
            if let Some(licence) = self.licences.get(this).filter(|licence| !licence.is_empty()) {
                value["licenses"] = json!([{ "expression": licence }]);
            }
            if let Some(sum) = sums.get(this) {
                value["purl"] = format!("pkg:cargo/{}@{}", this.0, this.1).into();
                value["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
            }
            value
        };
        let root = self.root.as_ref();
        let mut program = root.map_or(Value::Null, |root| component("application", root));
        program["hashes"] = json!([{ "alg": "SHA-256", "content": agent }]);
        program["properties"] = json!([{ "name": "target", "value": triple }]);
        let parts = self.licences.keys().filter(|this| Some(*this) != root);
        let edges = self.needs.iter().map(|(this, needs)| {
            let needs: Vec<_> = needs.iter().map(reference).collect();
            json!({ "ref": reference(this), "dependsOn": needs })
        });
        json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": { "component": program },
            "components": parts.map(|this| component("library", this)).collect::<Vec<_>>(),
            "dependencies": edges.collect::<Vec<_>>(),
        })
    }
}

fn reference((name, version): &Crate) -> String {
    format!("{name}@{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0\tagent v0.1.0 (/src/agent)\tMIT OR Apache-2.0\n\
                        1\tring v0.17.14\tApache-2.0 AND ISC\n\
                        2\tuntrusted v0.9.0\tISC\n\
                        1\tcore v0.1.0 (/src/core)\tMIT / Apache-2.0\n\
                        2\tring v0.17.14\tApache-2.0 AND ISC (*)\n";
    const LOCK: &str = "[[package]]\nname = \"ring\"\nversion = \"0.17.14\"\nchecksum = \"ab\"\n";

    #[test]
    fn a_bill_lists_what_is_linked_with_licence_origin_and_edges() {
        let bill = Tree::parse(TREE).unwrap().bill(&checksums(LOCK).unwrap(), "vax", "cd");
        let program = &bill["metadata"]["component"];
        assert_eq!(
            (&program["name"], &program["hashes"][0]["content"]),
            (&"agent".into(), &"cd".into())
        );
        let parts = bill["components"].as_array().unwrap();
        let named = |name: &str| parts.iter().find(|part| part["name"] == name).unwrap();
        assert_eq!(parts.len(), 3);
        assert_eq!(named("ring")["purl"], "pkg:cargo/ring@0.17.14");
        assert_eq!(named("ring")["hashes"][0]["content"], "ab");
        assert_eq!(named("ring")["licenses"][0]["expression"], "Apache-2.0 AND ISC");
        assert_eq!(named("core")["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(named("core")["purl"], Value::Null, "it comes from no registry");
        let edges = bill["dependencies"].as_array().unwrap();
        let of = |name: &str| &edges.iter().find(|edge| edge["ref"] == name).unwrap()["dependsOn"];
        assert_eq!(of("agent@0.1.0"), &json!(["core@0.1.0", "ring@0.17.14"]));
        assert_eq!(of("ring@0.17.14"), &json!(["untrusted@0.9.0"]));
        assert_eq!(of("core@0.1.0"), &json!(["ring@0.17.14"]));
        let list = licences(&serde_json::to_vec(&bill).unwrap()).unwrap();
        let list = String::from_utf8(list).unwrap();
        assert!(list.starts_with("agent 0.1.0  MIT OR Apache-2.0\n"), "{list}");
        assert!(list.contains("\nring 0.17.14  Apache-2.0 AND ISC\n"), "{list}");
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for text in ["", "x\tring v1.0.0\tMIT", "0\tring", "0\t\t"] {
            assert!(Tree::parse(text).is_err(), "{text:?}");
        }
    }
}
