//! Size budgets of firmware: what a package's `[package.metadata.holm.budget]` says, or a file `budget.toml` where there is
//! no package.
//!
//! Either one budget for the default features, or a table of them by name, each with its `features`. The bounds are
//! `flash_kb` and `ram_kb`, in KB of 1,024 bytes, or `flash_bytes` and `ram_bytes`: the last figures measured, which may only
//! go down. RAM is data and bss, and the deepest stack where it was measured.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use toml::{Table, Value};

/// The file that states the budget of firmware that is no package: the keys of one budget.
pub const FILE: &str = "budget.toml";

/// A budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its name; empty where there is only one.
    pub profile: String,
    /// Features of the build.
    pub features: Vec<String>,
    /// Code and constants at most, in bytes.
    pub flash_bytes: Option<u64>,
    /// Data, bss and stack at most, in bytes.
    pub ram_bytes: Option<u64>,
}

impl Budget {
    /// The budgets of the firmware in a folder; one without bounds where a package states none.
    ///
    /// # Errors
    /// There is neither manifest nor `budget.toml`, or a budget has other keys or values than above.
    pub fn of(dir: &Path) -> Result<Vec<Self>> {
        let manifest = dir.join("Cargo.toml");
        let is_package = manifest.is_file();
        let path = if is_package { manifest } else { dir.join(FILE) };
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let budgets =
            if is_package { Self::parse(&text) } else { Ok(vec![Self::one("", &text.parse()?)?]) };
        budgets.with_context(|| path.display().to_string())
    }

    fn parse(manifest: &str) -> Result<Vec<Self>> {
        let manifest: Table = manifest.parse()?;
        let stated = ["package", "metadata", "holm", "budget"]
            .iter()
            .try_fold(&Value::Table(manifest), |at, key| at.get(key))
            .cloned();
        let Some(Value::Table(stated)) = stated else {
            return Ok(vec![Self::one("", &Table::new())?]);
        };
        if stated.values().all(Value::is_table) {
            return stated
                .iter()
                .map(|(name, value)| Self::one(name, value.as_table().context("a table")?))
                .collect();
        }
        Ok(vec![Self::one("", &stated)?])
    }

    fn one(profile: &str, table: &Table) -> Result<Self> {
        let mut budget = Self {
            profile: profile.to_owned(),
            features: Vec::new(),
            flash_bytes: None,
            ram_bytes: None,
        };
        for (key, value) in table {
            let number = |unit_bytes: u64| {
                value
                    .as_integer()
                    .and_then(|number| u64::try_from(number).ok()?.checked_mul(unit_bytes))
                    .with_context(|| format!("{key}: wanted a whole number"))
            };
            match key.as_str() {
                "flash_kb" => once(&mut budget.flash_bytes, key, number(1_024)?)?,
                "flash_bytes" => once(&mut budget.flash_bytes, key, number(1)?)?,
                "ram_kb" => once(&mut budget.ram_bytes, key, number(1_024)?)?,
                "ram_bytes" => once(&mut budget.ram_bytes, key, number(1)?)?,
                "features" => {
                    let features = value.as_array().into_iter().flatten();
                    budget.features =
                        features.filter_map(Value::as_str).map(str::to_owned).collect();
                }
                _ => {
                    bail!(
                        "budget {profile}: unknown key {key}; wanted features, flash_kb or \
                         flash_bytes, ram_kb or ram_bytes"
                    )
                }
            }
        }
        Ok(budget)
    }

    /// What is over the budget, in words; nothing where all fits.
    #[must_use]
    pub fn breaches(&self, flash_bytes: u64, ram_bytes: u64) -> Vec<String> {
        let rows = [("flash", flash_bytes, self.flash_bytes), ("RAM", ram_bytes, self.ram_bytes)];
        let over = rows.iter().filter_map(|(what, is, most)| {
            most.filter(|most| is > most).map(|most| (what, is, most))
        });
        over.map(|(what, is, most)| format!("{what}: {is} bytes, budget {most}")).collect()
    }
}

/// A bound is stated in one unit.
fn once(bound: &mut Option<u64>, key: &str, bytes: u64) -> Result<()> {
    ensure!(bound.is_none(), "{key}: the bound is stated in KB and in bytes");
    *bound = Some(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_in_both_forms_and_can_be_broken() {
        let one = Budget::parse("[package.metadata.holm.budget]\nflash_kb = 2").unwrap();
        assert_eq!((one.len(), one[0].flash_bytes, one[0].ram_bytes), (1, Some(2048), None));
        assert_eq!(one[0].breaches(2048, 1 << 30), Vec::<String>::new());
        assert_eq!(one[0].breaches(2049, 0).len(), 1);
        let text = "[package.metadata.holm.budget]\nmin = { ram_kb = 1 }\ntls = { features = [\"tls\"], ram_kb = 2 }";
        let two = Budget::parse(text).unwrap();
        assert_eq!(
            (two[1].profile.as_str(), two[1].features.as_slice()),
            ("tls", &["tls".to_owned()][..])
        );
        assert_eq!(two[0].breaches(0, 1025), ["RAM: 1025 bytes, budget 1024"]);
        assert!(Budget::parse("[package.metadata.holm.budget]\nflash = 2").is_err());
        assert_eq!(Budget::parse("[package]").unwrap().len(), 1);
        let exact = "[package.metadata.holm.budget]\nflash_bytes = 85369\nram_kb = 33";
        let exact = Budget::parse(exact).unwrap();
        assert_eq!((exact[0].flash_bytes, exact[0].ram_bytes), (Some(85_369), Some(33 * 1024)));
        assert_eq!(exact[0].breaches(85_370, 0), ["flash: 85370 bytes, budget 85369"]);
        let both = "[package.metadata.holm.budget]\nflash_bytes = 1\nflash_kb = 1";
        assert!(Budget::parse(both).is_err());
    }

    #[test]
    fn firmware_that_is_no_package_states_its_budget_in_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Budget::of(dir.path()).is_err());
        std::fs::write(dir.path().join(FILE), "flash_kb = 2\nram_bytes = 3").unwrap();
        let budgets = Budget::of(dir.path()).unwrap();
        assert_eq!((budgets.len(), budgets[0].flash_bytes), (1, Some(2048)));
        assert_eq!(budgets[0].ram_bytes, Some(3));
        std::fs::write(dir.path().join("Cargo.toml"), "[package]").unwrap();
        assert_eq!(Budget::of(dir.path()).unwrap()[0].flash_bytes, None, "a manifest is all");
    }
}
