//! Whether the workers that apps reserve are there.

use edge_core::limits::{function_slots_max, reservable_slots};
use edge_core::release::Release;

/// Checks a revision against what it finds: `others` are the revisions of other apps that run, that
/// may be gone back to, or that are about to run.
///
/// # Errors
/// What is reserved and what there is.
pub(super) fn check<'r>(
    workers: u16,
    new: &Release,
    others: impl Iterator<Item = &'r Release>,
) -> Result<(), String> {
    let most = function_slots_max(workers);
    if let Some(spec) = new.functions.iter().find(|spec| spec.reserved > most) {
        return Err(format!(
            "{}: `reserved` is {}, but of this gateway's {workers} workers one function has at \
             most {most}",
            spec.id, spec.reserved
        ));
    }
    let mut by_app = std::collections::BTreeMap::<&str, u32>::new();
    for release in others.filter(|release| release.app != new.app) {
        let most = by_app.entry(&release.app).or_default();
        *most = (*most).max(reserved(release));
    }
    let (own, theirs) = (reserved(new), by_app.values().sum::<u32>());
    let there = u32::from(reservable_slots(workers));
    // An app that reserves nothing takes nothing from anybody.
    if own == 0 || own + theirs <= there {
        return Ok(());
    }
    Err(format!(
        "{}: its functions reserve {own} workers and those of other apps {theirs}, but of this \
         gateway's {workers} workers at most {there} can be reserved: lower `reserved`, or raise \
         `workers` in [limits] of agent.toml",
        new.app
    ))
}

fn reserved(release: &Release) -> u32 {
    release.functions.iter().map(|spec| u32::from(spec.reserved)).sum()
}

#[cfg(test)]
mod tests {
    use edge_core::id::{Digest, FunctionId};
    use edge_core::release::{FunctionSpec, PausePolicy, StateScope, WhenFull};

    use super::*;

    fn release(app: &str, reserved: &[u16]) -> Release {
        let spec = |(n, reserved): (usize, &u16)| FunctionSpec {
            id: FunctionId::new(&format!("{app}/f{n}")),
            state: StateScope::Device,
            state_version: 1,
            concurrency: 4,
            when_full: WhenFull::Hold,
            ordered: None,
            reserved: *reserved,
            pause: PausePolicy::default(),
        };
        Release {
            app: app.to_owned(),
            revision: Digest([0; 32]),
            functions: reserved.iter().enumerate().map(spec).collect(),
            triggers: Vec::new(),
            series: Default::default(),
        }
    }

    #[test]
    fn a_quarter_stays_for_everybody() {
        let none = std::iter::empty;
        assert_eq!(check(16, &release("a", &[4, 4, 4]), none()), Ok(()));
        let why = check(16, &release("a", &[4, 4, 4, 1]), none()).expect_err("13 of 12");
        assert!(
            why.starts_with("a: its functions reserve 13 workers") && why.contains("at most 12")
        );
        let why = check(8, &release("a", &[4]), none()).expect_err("a quarter is 2");
        assert!(why.starts_with("a/f0: `reserved` is 4") && why.contains("at most 2"), "{why}");
    }

    #[test]
    fn other_apps_count_with_their_greediest_revision() {
        let (kept, old) = (release("b", &[2]), release("b", &[4, 4]));
        let others = [&kept, &old];
        assert_eq!(check(16, &release("a", &[4]), others.into_iter()), Ok(()));
        let why = check(16, &release("a", &[4, 1]), others.into_iter()).expect_err("5 + 8 of 12");
        assert!(why.contains("reserve 5 workers and those of other apps 8"), "{why}");
        assert_eq!(check(16, &release("a", &[0]), others.into_iter()), Ok(()));
        let own = [&release("a", &[4, 4, 4])];
        assert_eq!(check(16, &release("a", &[4]), own.into_iter()), Ok(()), "it takes its place");
    }
}
