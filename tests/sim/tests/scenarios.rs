//! Goal: what users of other runtimes complain about does not happen here, and what a seed meets
//! rarely holds as well.
//! Method: scenarios stated as files, each with several seeds (`tests/sim/scenarios`).

use simulator::scenario::{Scenario, folder, play};

#[test]
fn every_scenario_holds() {
    let scenarios = Scenario::read_all(&folder()).unwrap();
    assert!(scenarios.len() >= 12, "{}", scenarios.len());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let played = play(&scenarios, 1, None, threads, "");
    let broken: Vec<_> = played
        .iter()
        .filter(|one| !one.problems.is_empty())
        .map(|one| (&scenarios[one.scenario].name, one.report.seed, &one.problems))
        .collect();
    assert!(broken.is_empty(), "again: `cargo xtask sim --scenario NAME --trace`: {broken:#?}");
}

#[test]
fn every_scenario_is_in_the_table_of_complaints() {
    let page = folder().join("../../../docs/reliability.md");
    let page = std::fs::read_to_string(page).unwrap();
    for scenario in Scenario::read_all(&folder()).unwrap() {
        let name = format!("`{}`", scenario.name);
        let row = page.lines().find(|line| line.starts_with('|') && line.contains(&name));
        let row = row.unwrap_or_else(|| panic!("{name} is not in docs/reliability.md"));
        for issue in &scenario.issues {
            assert!(row.contains(issue.as_str()), "{name}: {issue} is not in its row");
        }
    }
}
