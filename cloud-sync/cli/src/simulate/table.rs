//! What is shown while a simulation runs: a page on a terminal, a line now and then elsewhere.

use std::fmt::Write as _;

use serde::Serialize;

use super::ledger::{Account, Counts, Role, Sight};
use super::shared::{Shared, Standing, View};
use crate::out::{Out, Paint, duration_us, table};

/// Devices on the page; the others are in the sums.
const ROWS_MAX: usize = 20;

/// Sums over all devices at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Moment {
    /// Since the start.
    pub(super) at_ms: u64,
    pub(super) devices: usize,
    pub(super) online: usize,
    pub(super) hostile: usize,
    /// Devices that have a fault now.
    pub(super) faults: usize,
    pub(super) kept: u64,
    pub(super) acked: u64,
    pub(super) dropped: u64,
    pub(super) seen: u64,
    pub(super) functions: u64,
    pub(super) cloud: u64,
    pub(super) connects: u64,
    pub(super) power_cuts: u64,
    pub(super) attacks: u64,
    pub(super) attacks_taken: u64,
}

impl Moment {
    /// Now.
    pub(super) fn of(shared: &Shared) -> Self {
        let ledger = shared.ledger();
        let Counts { kept, acked, dropped, seen } = ledger.totals();
        let accounts = ledger.accounts();
        let mut moment = Self {
            at_ms: shared.now_ms(),
            devices: accounts.len(),
            hostile: accounts.iter().filter(|account| account.role == Role::Hostile).count(),
            kept,
            acked,
            dropped,
            seen: seen[Sight::Subscriber as usize],
            functions: seen[Sight::Function as usize]
                + accounts.iter().map(|account| account.outputs).sum::<u64>(),
            cloud: seen[Sight::Cloud as usize],
            attacks: accounts.iter().map(|account| account.attacks).sum(),
            attacks_taken: accounts.iter().map(|account| account.taken.len() as u64).sum(),
            ..Self::default()
        };
        drop(ledger);
        for handle in &shared.handles {
            let view = handle.view();
            moment.online += usize::from(view.standing == Standing::Online);
            moment.faults += usize::from(view.fault.is_some());
            moment.connects += view.connects;
            moment.power_cuts += view.power_cuts;
        }
        moment
    }

    /// In one line.
    pub(super) fn line(&self) -> String {
        let honest = self.devices - self.hostile;
        format!(
            "{:>8}  {} of {honest} online, {} faults, {} connections, {} power cuts | kept {} acked {} seen {} \
             functions {} cloud {} | {} attacks, {} not refused",
            duration_us(self.at_ms / 1_000 * 1_000_000),
            self.online,
            self.faults,
            self.connects,
            self.power_cuts,
            self.kept,
            self.acked,
            self.seen,
            self.functions,
            self.cloud,
            self.attacks,
            self.attacks_taken,
        )
    }
}

/// The page: sums, and the devices that have something to show.
pub(super) fn page(shared: &Shared, moment: &Moment, out: &Out) -> String {
    let mut text = format!("{}\n\n", out.paint(moment.line().trim(), Paint::Bold));
    let mut rows = vec![
        ["DEVICE", "", "FAULT", "MEASURES", "KEPT", "ACKED", "SEEN", "FUNCTIONS", "CLOUD"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let accounts: Vec<Account> = {
        let ledger = shared.ledger();
        shown(shared).into_iter().map(|index| ledger.accounts()[index].summary()).collect()
    };
    for account in &accounts {
        let handle = shared.handles.iter().find(|handle| handle.plan.name == account.name);
        if let Some(handle) = handle {
            rows.push(row(account, &handle.view()));
        }
    }
    text.push_str(&table(out, &rows));
    let others = shared.handles.len().saturating_sub(accounts.len());
    if others > 0 {
        let _ = writeln!(text, "and {others} more");
    }
    text
}

/// The first devices; those with a fault before the others.
fn shown(shared: &Shared) -> Vec<usize> {
    let mut order: Vec<(bool, usize)> = shared
        .handles
        .iter()
        .enumerate()
        .map(|(index, handle)| (handle.view().fault.is_none(), index))
        .collect();
    if order.len() > ROWS_MAX {
        order.sort_unstable();
        order.truncate(ROWS_MAX);
    }
    order.sort_unstable_by_key(|(_, index)| *index);
    order.into_iter().map(|(_, index)| index).collect()
}

fn row(account: &Account, view: &View) -> Vec<String> {
    let values: Vec<_> =
        view.values.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
    let Counts { kept, acked, seen, .. } = account.counts;
    if account.role == Role::Hostile {
        let attacks = format!("{} attacks, {} not refused", account.attacks, account.taken.len());
        return vec![account.name.clone(), view.standing.word().to_owned(), String::new(), attacks];
    }
    let mut cells = vec![
        account.name.clone(),
        view.standing.word().to_owned(),
        view.fault.unwrap_or_default().to_owned(),
        values.join(", "),
    ];
    let functions = seen[Sight::Function as usize] + account.outputs;
    let counts =
        [kept, acked, seen[Sight::Subscriber as usize], functions, seen[Sight::Cloud as usize]];
    cells.extend(counts.map(|count| count.to_string()));
    cells
}
