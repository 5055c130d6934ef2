//! What came of a release, row by row.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

/// What came of a part of the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It is there.
    Made,
    /// It could not be made here.
    Failed,
    /// Nobody makes it, and the list of targets says so.
    Untested,
}

/// A file, a program that is in some, or what is not there.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// The file; or what there is none of.
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) bytes: Option<u64>,
    /// What it took to make it.
    pub(crate) seconds: f64,
    /// Why it is not there.
    pub(crate) why: Option<String>,
}

/// All of them, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Rows(Vec<Row>);

impl Rows {
    /// Something was made.
    pub(crate) fn made(&mut self, name: impl Into<String>, bytes: u64, took: Duration) {
        self.add(name.into(), Outcome::Made, Some(bytes), took, None);
    }

    /// A file of the release was made.
    pub(crate) fn file(&mut self, out: &Path, name: &str, took: Duration) -> Result<()> {
        let bytes = out.join(name).metadata()?.len();
        self.made(name, bytes, took);
        Ok(())
    }

    /// Something could not be made.
    pub(crate) fn failed(&mut self, name: &str, took: Duration, why: &anyhow::Error) {
        let why = format!("{why:#}");
        eprintln!("{name}: {why}");
        self.add(name.to_owned(), Outcome::Failed, None, took, Some(why));
    }

    /// Something is not made by anybody.
    pub(crate) fn untested(&mut self, name: &str, why: &str) {
        let why = Some(why.to_owned());
        self.add(name.to_owned(), Outcome::Untested, None, Duration::ZERO, why);
    }

    fn add(
        &mut self,
        name: String,
        outcome: Outcome,
        bytes: Option<u64>,
        took: Duration,
        why: Option<String>,
    ) {
        self.0.push(Row { name, outcome, bytes, seconds: took.as_secs_f64(), why });
    }

    /// What could not be made.
    pub(crate) fn failures(&self) -> Vec<&str> {
        let failed = self.0.iter().filter(|row| row.outcome == Outcome::Failed);
        failed.map(|row| row.name.as_str()).collect()
    }

    /// Bytes and seconds of it all.
    fn total(&self) -> (u64, f64) {
        let bytes = self.0.iter().filter_map(|row| row.bytes).sum();
        (bytes, self.0.iter().map(|row| row.seconds).sum())
    }

    /// For people. `out` is where the files are.
    pub(crate) fn table(&self, out: &Path) -> String {
        let widest = self.0.iter().map(|row| row.name.len()).max().unwrap_or_default();
        let mut text = format!("{:<widest$}  {:>11}  {:>8}\n", "file", "bytes", "seconds");
        for row in &self.0 {
            let bytes = match row.outcome {
                Outcome::Made => row.bytes.unwrap_or_default().to_string(),
                Outcome::Failed => "NOT MADE".to_owned(),
                Outcome::Untested => "UNTESTED".to_owned(),
            };
            text += &format!("{:<widest$}  {bytes:>11}  {:>8.1}", row.name, row.seconds);
            if let Some(why) = &row.why {
                text += &format!("  {}", why.lines().next().unwrap_or_default());
            }
            text += "\n";
        }
        let (bytes, seconds) = self.total();
        text += &format!("{:<widest$}  {bytes:>11}  {seconds:>8.1}\n", "total");
        text + &format!("in {}\n", out.display())
    }

    /// For programs.
    pub(crate) fn json(&self, out: &Path) -> serde_json::Value {
        let (bytes, seconds) = self.total();
        json!({ "dir": out, "rows": self.0, "bytes": bytes, "seconds": seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_what_was_made_and_names_what_was_not() {
        let mut rows = Rows::default();
        rows.made("a.deb", 3_735_376, Duration::from_millis(1_500));
        rows.failed("holm-rpi4.img.xz", Duration::from_secs(2), &anyhow::anyhow!("no network\nx"));
        rows.untested("vax", "no toolchain");
        let text = rows.table(Path::new("/out"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "a.deb                 3735376       1.5");
        assert_eq!(lines[2], "holm-rpi4.img.xz     NOT MADE       2.0  no network");
        assert_eq!(lines[3], "vax                  UNTESTED       0.0  no toolchain");
        assert_eq!(lines[4], "total                 3735376       3.5");
        assert_eq!(rows.failures(), ["holm-rpi4.img.xz"], "what is declared is no failure");
        let json = rows.json(Path::new("/out"));
        assert_eq!(
            (&json["bytes"], &json["rows"][2]["outcome"]),
            (&3_735_376.into(), &"untested".into())
        );
    }
}
