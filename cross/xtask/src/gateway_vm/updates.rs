//! Updates of the agent in the machine, by ordinary deployments: a good one stays, bad ones go by themselves,
//! and a device that sends all the while loses nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use system_tests::ledger::Fact;

use super::machine::{Hardware, Machine};
use super::programs::{self, Bad};
use super::sending::Sending;
use super::site::{STEADY_DEVICE, Site, UPDATE_MAX};
use super::story::{Line, Options, line_s};

/// Readings a second of the device that sends all the while.
pub(super) const RATE: f64 = 5.0;

/// Updates under way: the device sends, and is stopped at the end.
struct Updates<'a> {
    options: &'a Options,
    site: &'a Site,
    machine: &'a mut Machine,
    /// Version of the agent as it was found.
    root: String,
    lines: Vec<Line>,
}

/// All updates; what was measured, and the facts of the device that sent meanwhile.
pub(crate) fn tell(
    options: &Options,
    site: &Site,
    hardware: &Hardware,
    machine: &mut Machine,
) -> Result<(Vec<Line>, Vec<Fact>)> {
    let dir = &options.basis.dir;
    let sending = Sending::start(STEADY_DEVICE, RATE, UPDATE_MAX, site, hardware, dir)?;
    let mut updates = Updates::new(options, site, machine)?;
    let own = updates.good()?;
    for bad in [programs::crash(), programs::hang(), programs::deaf(&site.endpoint())?] {
        updates.bad(&bad, &own)?;
    }
    let facts = sending.stop()?;
    let mut lines = updates.lines;
    lines.push(("longest time without an ack meanwhile".to_owned(), longest_wait(&facts)));
    Ok((lines, facts))
}

/// One more good update, which is left on trial.
pub(crate) fn begin_another(options: &Options, site: &Site, machine: &mut Machine) -> Result<()> {
    let updates = Updates::new(options, site, machine)?;
    let version = options.update_version.as_ref().unwrap_or(&updates.root);
    updates.deploy("1.0.4", version, &updates.program(b"\n\n")?)?;
    // An agent before it was on trial in that slot.
    machine.pass_over();
    machine.expect("agent_slot=a agent_state=trial", UPDATE_MAX)?;
    Ok(())
}

impl<'a> Updates<'a> {
    fn new(options: &'a Options, site: &'a Site, machine: &'a mut Machine) -> Result<Self> {
        let label = site.agent_version()?;
        let (version, _) = label.split_once(" (slot ").context("the agent has no slot")?;
        Ok(Self { options, site, machine, root: version.to_owned(), lines: Vec::new() })
    }

    /// The agent is replaced by another program of its kind, which stays; its version.
    fn good(&mut self) -> Result<String> {
        println!("a good update of the agent");
        let version = self.options.update_version.as_ref().unwrap_or(&self.root).clone();
        let begun = Instant::now();
        let deployment = self.deploy("1.0.0", &version, &self.program(b"\n")?)?;
        let wanted = format!("{version} (slot b)");
        self.site.poll("the update to be on trial", || {
            Ok((self.site.agent_version()? == wanted).then_some(()))
        })?;
        self.lines.push(line_s("good update: deployed to first contact", begun.elapsed()));
        self.site.wait_live(deployment)?;
        self.lines.push(line_s("good update: deployed to kept", begun.elapsed()));
        println!("  {wanted}: {}", self.site.wait_notice("agent-updated", "is kept")?);
        self.machine.expect("agent_slot=b agent_state=confirmed", UPDATE_MAX)?;
        Ok(wanted)
    }

    /// An update that does not stay; `own` is what runs before it and after it.
    fn bad(&mut self, bad: &Bad, own: &str) -> Result<()> {
        println!("an update that {}", bad.what);
        let begun = Instant::now();
        let deployment = self.deploy(bad.version, &self.root, bad.program.as_bytes())?;
        let reason = self.site.wait_taken_back(deployment)?;
        ensure!(reason.contains(bad.reason), "taken back for another reason: {reason}");
        self.lines.push(line_s(&format!("one that {}: to its return", bad.what), begun.elapsed()));
        println!("  {reason}");
        self.site.wait_notice("agent-taken-back", bad.reason)?;
        let now = self.site.agent_version()?;
        ensure!(now == own, "{now} runs afterwards, {own} did before");
        Ok(())
    }

    fn deploy(&self, version: &str, agent_version: &str, bytes: &[u8]) -> Result<u64> {
        let dir = self.options.basis.dir.join(format!("agent-{version}"));
        programs::app(&dir, version, agent_version, bytes)?;
        self.site.deploy(&dir)
    }

    /// The program of a good update: another build, or the agent, with bytes behind its end, which no loader
    /// looks at.
    fn program(&self, end: &[u8]) -> Result<Vec<u8>> {
        let file = self.options.update.as_ref().unwrap_or(&self.options.basis.agent);
        let mut bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        bytes.extend_from_slice(end);
        Ok(bytes)
    }
}

/// The longest time between two acks.
pub(super) fn longest_wait(facts: &[Fact]) -> String {
    let acks = facts.iter().filter_map(|fact| match fact {
        Fact::Acked { at_ms, .. } => Some(*at_ms),
        _ => None,
    });
    let acks: Vec<u64> = acks.collect();
    let longest = acks.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max();
    format!("{:.1} s", Duration::from_millis(longest.unwrap_or_default()).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use system_tests::ledger::Fact;

    use super::longest_wait;

    #[test]
    fn the_longest_wait_lies_between_two_acks() {
        let acked = |at_ms| Fact::Acked { device: "press-2".to_owned(), seq: at_ms, at_ms };
        assert_eq!(longest_wait(&[acked(100), acked(250), acked(8_250), acked(8_300)]), "8.0 s");
        assert_eq!(longest_wait(&[]), "0.0 s");
    }
}
