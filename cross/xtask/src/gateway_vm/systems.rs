//! Updates of the whole system in the machine, by ordinary deployments: a good one is kept, one that does not boot
//! and one that hangs go by themselves, and a device that sends all the while loses nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use edge_core::boot::Version;
use system_tests::ledger::Fact;

use super::machine::{Hardware, Machine};
use super::sending::Sending;
use super::site::{PATIENT_DEVICE, Site, UPDATE_MAX};
use super::story::{Line, Options, line_s};
use super::updates::{RATE, longest_wait};
use crate::image::{Board, Parts, Versions, hanging_root, system};
use crate::setup;

/// From a restart to the end of a trial of which two tries are ended by the watchdog.
const TRIAL_MAX: Duration = Duration::from_secs(900);

/// Updates under way.
struct Systems<'a> {
    options: &'a Options,
    site: &'a Site,
    machine: &'a mut Machine,
    lines: Vec<Line>,
}

/// All of them; what was measured, and the facts of the device that sent meanwhile.
pub(crate) fn tell(
    options: &Options,
    site: &Site,
    hardware: &Hardware,
    machine: &mut Machine,
) -> Result<(Vec<Line>, Vec<Fact>)> {
    let sending =
        Sending::start(PATIENT_DEVICE, RATE, UPDATE_MAX, site, hardware, &options.basis.dir)?;
    let mut systems = Systems { options, site, machine, lines: Vec::new() };
    let kept = systems.good()?;
    let noise = vec![0xa5; 1 << 20];
    systems.bad(
        "does not boot",
        Version(0, 1, 102),
        &kept,
        &noise,
        "its root cannot be entered",
    )?;
    let hanging = systems.hanging_root()?;
    systems.bad("hangs", Version(0, 1, 103), &kept, &hanging, "trial 1, tries left 0")?;
    let facts = sending.stop()?;
    let mut lines = systems.lines;
    lines.push(("longest time without an ack meanwhile".to_owned(), longest_wait(&facts)));
    Ok((lines, facts))
}

impl Systems<'_> {
    /// A system that is well; its file.
    fn good(&mut self) -> Result<PathBuf> {
        println!("a good system");
        let version = Version(0, 1, 101);
        let file =
            self.site.system(version, &self.options.basis.agent, &self.options.basis.parts)?;
        let begun = Instant::now();
        self.machine.pass_over();
        let deployment = self.deploy(version, &std::fs::read(&file)?)?;
        self.machine.expect("a system is written into the other slot", UPDATE_MAX)?;
        self.lines.push(line_s("good system: deployed to fetched", begun.elapsed()));
        self.machine.expect("restarting, as the agent asks", UPDATE_MAX)?;
        self.lines.push(line_s("good system: deployed to restart", begun.elapsed()));
        self.machine.expect("starting slot b, trial 1, tries left 1", UPDATE_MAX)?;
        self.machine.expect("slot b is kept", TRIAL_MAX)?;
        self.lines.push(line_s("good system: deployed to kept", begun.elapsed()));
        self.site.wait_live(deployment)?;
        println!("  {}", self.site.wait_notice("system-updated", "is kept in slot b")?);
        let (_, now) = self.site.versions()?;
        ensure!(now == format!("system {version} (slot b)"), "{now} runs afterwards");
        Ok(file)
    }

    /// A system that must go by itself: that of `good` with another root. Its last try says `last_words`.
    fn bad(
        &mut self,
        what: &str,
        version: Version,
        good: &Path,
        root: &[u8],
        last_words: &str,
    ) -> Result<()> {
        println!("a system that {what}");
        let file = self.with_root(version, good, root)?;
        let (_, before) = self.site.versions()?;
        let begun = Instant::now();
        self.machine.pass_over();
        let deployment = self.deploy(version, &std::fs::read(&file)?)?;
        self.machine.expect("starting slot a, trial 1, tries left 1", UPDATE_MAX)?;
        self.machine.expect(last_words, TRIAL_MAX)?;
        self.machine.expect("the trial failed; back to the good slot", TRIAL_MAX)?;
        let reason = self.site.wait_taken_back(deployment)?;
        ensure!(reason.contains("no start of it came as far"), "for another reason: {reason}");
        self.lines.push(line_s(&format!("one that {what}: to its return"), begun.elapsed()));
        println!("  {reason}");
        self.site.wait_notice("system-taken-back", &version.to_string())?;
        let (_, now) = self.site.versions()?;
        ensure!(now == before, "{now} runs afterwards, {before} did before");
        Ok(())
    }

    /// A root that starts, and of which nobody but the watchdog restarts the machine.
    fn hanging_root(&self) -> Result<Vec<u8>> {
        let parts = Parts::fetch(&self.options.basis.parts, Board::Virt, Versions::AsBefore)?;
        let root = self.options.basis.dir.join("hanging-deployed.squashfs");
        let work = setup::empty_dir(&self.options.basis.dir.join("hanging-deployed"))?;
        hanging_root(&parts, &work, &root)?;
        Ok(std::fs::read(root)?)
    }

    /// The system in `file` with another root and version.
    fn with_root(&self, version: Version, file: &Path, root: &[u8]) -> Result<PathBuf> {
        let (header, [_, kernel, initramfs]) = system::parts(&std::fs::read(file)?)?;
        let names = ["root", "kernel", "initramfs"].map(|name| self.options.basis.dir.join(name));
        for (name, part) in names.iter().zip([root, kernel.as_slice(), initramfs.as_slice()]) {
            std::fs::write(name, part)?;
        }
        let out = self.options.basis.dir.join("bad.system");
        let [root, kernel, initramfs] = &names;
        system::pack(&header.board, version, [root, kernel, initramfs], &out)?;
        Ok(out)
    }

    fn deploy(&self, version: Version, bytes: &[u8]) -> Result<u64> {
        let dir = self.options.basis.dir.join(format!("system-{version}"));
        app(&dir, version, bytes)?;
        self.site.deploy(&dir)
    }
}

/// Writes an app that brings this system.
fn app(dir: &Path, version: Version, bytes: &[u8]) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("virt.system"), bytes)?;
    let text = format!(
        "[app]\nname = \"system\"\nversion = \"{version}\"\n\n[system]\nversion = \"{version}\"\n\
         images = {{ \"virt\" = \"virt.system\" }}\n"
    );
    Ok(std::fs::write(dir.join("holm.toml"), text)?)
}

#[cfg(test)]
mod tests {
    use edge_core::boot::Version;

    use super::app;

    #[test]
    fn an_app_names_its_system() {
        let dir = tempfile::tempdir().expect("a folder");
        app(dir.path(), Version(0, 1, 2), b"system").expect("written");
        let text = std::fs::read_to_string(dir.path().join("holm.toml")).expect("a file");
        let manifest: toml::Value = toml::from_str(&text).expect("TOML");
        assert_eq!(manifest["system"]["images"]["virt"].as_str(), Some("virt.system"));
        assert_eq!(manifest["system"]["version"].as_str(), Some("0.1.2"));
    }
}
