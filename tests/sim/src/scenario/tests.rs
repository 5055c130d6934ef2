use super::*;
use crate::timeline::{Deed, Entry};

const FILE: &str = r#"
complaint = "it is lost"
issues = ["some/where#1"]
shows = "it is not"
seeds = 2
lasts = "2 min"
devices = [{ every = "500 ms", wish = { trap = 3 } }]

[[timeline]]
at = "80 s"
every = "1 min"
do = { desire = "broken" }

[holds]
gaps = 0
arrived = { least = 7 }
"#;

fn report(arrived: u64, gaps: u64) -> Report {
    Report {
        seed: 1,
        virtual_us: 0,
        hash: crate::book::Hash::EMPTY,
        events: 0,
        faults: BTreeMap::new(),
        figures: BTreeMap::from([("arrived", arrived), ("gaps", gaps)]),
        failure: None,
    }
}

#[test]
fn a_file_states_a_plan() {
    let plan = Scenario::parse("it", FILE).unwrap().plan(9);
    assert_eq!((plan.seed, plan.faults_us), (9, 50_000_000));
    assert_eq!(plan.groups[0].publish_us, 500_000);
    let deed = Deed::Desire(crate::app::Kind::Broken);
    let entry = Entry { at_us: 80_000_000, every_us: 60_000_000, until_us: u64::MAX, deed };
    assert_eq!(plan.timeline, [entry]);
}

#[test]
fn a_figure_out_of_its_bounds_is_a_problem() {
    let scenario = Scenario::parse("it", FILE).unwrap();
    assert_eq!(scenario.problems(&report(7, 0)), [""; 0]);
    let problems = scenario.problems(&report(6, 1));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("arrived: 6, at least 7"), "{problems:?}");
}

#[test]
fn what_nobody_counts_cannot_be_held() {
    for (wrong, right) in [("gaps = 0", "gasp = 0"), ("\"80 s\"", "\"80 sec\""), ("do =", "does =")]
    {
        let text = FILE.replace(wrong, right);
        assert_ne!(text, FILE);
        assert!(Scenario::parse("it", &text).is_err(), "{right}");
    }
}
