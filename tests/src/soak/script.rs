//! What happens during a soak, and when: chosen by the seed before it begins.
//!
//! # Rules
//! - The first gateway and the control plane are killed in the first [`STORMY`] part only: behind it
//!   their last life is long, and its curves must be flat. The second gateway is killed throughout.
//! - The last seconds are quiet, so that everything is mended when the devices stop.

use std::time::Duration;

use crate::random::Random;

use super::DEVICES;

/// Part of the time in which everything may be killed.
const STORMY: f64 = 0.4;
/// Quiet at the end.
const QUIET: Duration = Duration::from_secs(15);

/// Something that is done to those who work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// SIGKILL of a gateway, which is started again at once.
    KillGateway(usize),
    /// SIGKILL of the control plane.
    KillCloud,
    /// The control plane comes back.
    StartCloud,
    /// The link between the gateways and the control plane is cut.
    CutLink,
    /// It is mended.
    MendLink,
    /// A version that works is deployed.
    DeployGood,
    /// A version that must be taken back is deployed.
    DeployBad,
    /// A device of a gateway loses its connection and stays away.
    DeviceLeaves(usize, usize),
    /// It is back.
    DeviceReturns(usize, usize),
}

/// An act at its time after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) act: Act,
}

/// How often something happens, as seconds from one to the next at least and at most.
type Pace = (u64, u64);

/// Writes the script of a soak of this length.
pub(super) fn write(length: Duration, seed: u64) -> Vec<Step> {
    let mut random = Random::new(seed);
    let (end, stormy) = (length.saturating_sub(QUIET), length.mul_f64(STORMY));
    let mut steps = Vec::new();
    let mut series =
        |until: Duration, pace: Pace, acts: &mut dyn FnMut(&mut Random, Duration) -> Vec<Step>| {
            let mut at = pause(&mut random, pace);
            while at < until {
                steps.extend(acts(&mut random, at));
                at += pause(&mut random, pace);
            }
        };
    let one = |at, act| vec![Step { at, act }];
    series(stormy, (15, 40), &mut |_, at| one(at, Act::KillGateway(0)));
    series(end, (20, 60), &mut |_, at| one(at, Act::KillGateway(1)));
    series(stormy, (40, 90), &mut |random, at| {
        pair(random, at, (1, 5), Act::KillCloud, Act::StartCloud)
    });
    series(end, (25, 70), &mut |random, at| pair(random, at, (2, 15), Act::CutLink, Act::MendLink));
    series(end, (30, 60), &mut |random, at| {
        one(at, if random.one_in(3) { Act::DeployBad } else { Act::DeployGood })
    });
    for (gateway, device) in (0..2).flat_map(|gateway| (0..DEVICES).map(move |d| (gateway, d))) {
        let (leaves, returns) =
            (Act::DeviceLeaves(gateway, device), Act::DeviceReturns(gateway, device));
        series(end, (10, 60), &mut |random, at| pair(random, at, (0, 8), leaves, returns));
    }
    // What mends must not come after the end of what it mends.
    for step in &mut steps {
        step.at = step.at.min(end);
    }
    steps.sort_by_key(|step| step.at);
    steps
}

fn pause(random: &mut Random, (least, most): Pace) -> Duration {
    Duration::from_secs(least) + Duration::from_secs(most - least).mul_f64(random.fraction())
}

/// An act and what undoes it some time later.
fn pair(random: &mut Random, at: Duration, pace: Pace, act: Act, undo: Act) -> Vec<Step> {
    vec![Step { at, act }, Step { at: at + pause(random, pace), act: undo }]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_script_follows_its_seed_and_the_rules() {
        let length = Duration::from_secs(600);
        let steps = write(length, 3);
        assert_eq!(steps, write(length, 3));
        assert_ne!(steps, write(length, 4));
        assert!(steps.is_sorted_by_key(|step| step.at));
        assert!(steps.iter().all(|step| step.at <= length - QUIET));
        let last = |act: Act| steps.iter().rev().find(|step| step.act == act).map(|step| step.at);
        for act in [Act::KillGateway(0), Act::KillCloud] {
            assert!(last(act).is_some_and(|at| at < length.mul_f64(STORMY)), "{act:?}");
        }
        assert!(last(Act::KillGateway(1)) > Some(length / 2));
        assert!(last(Act::DeployGood).is_some() && last(Act::DeployBad).is_some());
    }

    #[test]
    fn whatever_is_broken_is_mended() {
        for seed in 0..50 {
            let (mut broken, mut acts) = (BTreeSet::new(), 0);
            for step in write(Duration::from_secs(300), seed) {
                let undoes = match step.act {
                    Act::StartCloud => Some(Act::KillCloud),
                    Act::MendLink => Some(Act::CutLink),
                    Act::DeviceReturns(gateway, device) => Some(Act::DeviceLeaves(gateway, device)),
                    Act::CutLink | Act::KillCloud | Act::DeviceLeaves(..) => {
                        assert!(broken.insert(step.act), "{step:?} twice");
                        None
                    }
                    _ => None,
                };
                if let Some(undone) = undoes {
                    assert!(broken.remove(&undone), "{step:?} for nothing");
                    acts += 1;
                }
            }
            assert!(broken.is_empty() && acts > 20, "{broken:?} {acts}");
        }
    }
}
