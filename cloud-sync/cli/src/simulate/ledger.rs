//! What became of each reading: what its device says, and what subscriber, functions and control plane say.
//!
//! # Invariants
//! - A reading is known by its device, the number of the device's start and its number within it.
//! - Numbers that no device can have are counted, not kept: a forged one takes no memory.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Readings of one start of a device that are kept apart.
const SEQUENCES_MAX: u64 = 10_000_000;
/// How far a number may be ahead of all before it.
const AHEAD_MAX: u64 = 100_000;
/// Starts of a device that are kept apart, as far as it tells of them itself.
const BOOTS_MAX: usize = 10_000;
/// Of them so many may begin with a sight: whoever forges numbers cannot take the place of real starts.
const BOOTS_SEEN_MAX: usize = BOOTS_MAX / 2;
/// Sights of hostile devices that are named.
const INTRUSIONS_MAX: usize = 100;

/// Number of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    /// Number of the start of the device, random.
    pub(super) boot: u64,
    /// Within it, from 0.
    pub(super) sequence: u64,
}

/// What runs a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// This process.
    Virtual,
    /// QEMU.
    Emulated,
    /// An attacker.
    Hostile,
}

/// Who saw a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// A subscriber to the topic of the device.
    Subscriber,
    /// A function: what it published about the reading.
    Function,
    /// The control plane.
    Cloud,
}

/// What is known of a reading, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u16);

impl Marks {
    pub(super) const KEPT: Self = Self(1);
    pub(super) const ACKED: Self = Self(1 << 1);
    /// Dropped by the policy of the device's queue, or lost with its memory.
    pub(super) const DROPPED: Self = Self(1 << 2);
    /// Kept after the end: nobody waits for it.
    pub(super) const LATE: Self = Self(1 << 3);

    /// Seen by.
    pub(super) const fn seen(sight: Sight) -> Self {
        Self(1 << (4 + 2 * sight as u16))
    }

    /// Seen more than once by.
    pub(super) const fn twice(sight: Sight) -> Self {
        Self(1 << (5 + 2 * sight as u16))
    }

    /// Whether it has all of these.
    pub(super) const fn has(self, marks: Self) -> bool {
        self.0 & marks.0 == marks.0
    }

    /// Adds marks; whether they are new.
    fn add(&mut self, marks: Self) -> bool {
        let is_new = !self.has(marks);
        self.0 |= marks.0;
        is_new
    }
}

/// Readings of a device, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) kept: u64,
    pub(super) acked: u64,
    pub(super) dropped: u64,
    /// By [`Sight`].
    pub(super) seen: [u64; 3],
}

/// A device and its readings.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) counts: Counts,
    boots: BTreeMap<u64, Vec<Marks>>,
    /// Its starts.
    pub(super) starts: u64,
    /// Numbers of its starts, as its console says them; those of a virtual device are not asked for.
    announced: HashSet<u64>,
    /// Readings that the gateway refused.
    pub(super) refused: u64,
    /// Messages of functions about it that do not say which reading they are about.
    pub(super) outputs: u64,
    /// Sights with numbers that it cannot have.
    pub(super) strangers: u64,
    /// What went wrong with itself, such as a crash of its firmware.
    pub(super) failures: Vec<String>,
    /// Attacks that were tried, those of them that reached the gateway, and what it did not refuse.
    pub(super) tries: u64,
    pub(super) attacks: u64,
    pub(super) taken: Vec<String>,
}

/// All devices.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    accounts: Vec<Account>,
    by_name: HashMap<String, usize>,
    hostile_boots: HashSet<u64>,
    intrusions: Vec<String>,
    is_late: bool,
}

impl Ledger {
    /// With these devices.
    pub(super) fn new(devices: impl IntoIterator<Item = (String, Role)>) -> Self {
        let account = |(name, role)| Account {
            name,
            role,
            counts: Counts::default(),
            boots: BTreeMap::new(),
            starts: 0,
            announced: HashSet::new(),
            refused: 0,
            outputs: 0,
            strangers: 0,
            failures: Vec::new(),
            tries: 0,
            attacks: 0,
            taken: Vec::new(),
        };
        let accounts: Vec<Account> = devices.into_iter().map(account).collect();
        let by_name = accounts.iter().enumerate().map(|(n, it)| (it.name.clone(), n)).collect();
        Self { accounts, by_name, ..Self::default() }
    }

    /// All accounts, in the order of the devices.
    pub(super) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// The account of a device.
    pub(super) fn account(&mut self, device: usize) -> &mut Account {
        &mut self.accounts[device]
    }

    /// Sights of messages of hostile devices.
    pub(super) fn intrusions(&self) -> &[String] {
        &self.intrusions
    }

    /// From now on nobody waits for what devices keep.
    pub(super) fn close(&mut self) {
        self.is_late = true;
    }

    /// A hostile device numbers its messages by this start: nobody may see them.
    pub(super) fn outlaw(&mut self, boot: u64) {
        self.hostile_boots.insert(boot);
    }

    /// A device has put a reading into its queue.
    pub(super) fn kept(&mut self, device: usize, id: Id) {
        let is_late = self.is_late;
        let account = &mut self.accounts[device];
        let Some(marks) = account.marks(id, BOOTS_MAX) else { return };
        let is_new = marks.add(Marks::KEPT);
        if is_late {
            marks.add(Marks::LATE);
        }
        account.counts.kept += u64::from(is_new);
    }

    /// The gateway has acknowledged a reading.
    pub(super) fn acked(&mut self, device: usize, id: Id) {
        let account = &mut self.accounts[device];
        let Some(marks) = account.marks(id, BOOTS_MAX) else { return };
        let is_new = marks.add(Marks::ACKED);
        account.counts.acked += u64::from(is_new);
    }

    /// A device has dropped a reading, or lost it with its memory.
    pub(super) fn dropped(&mut self, device: usize, id: Id) {
        let account = &mut self.accounts[device];
        let Some(marks) = account.marks(id, BOOTS_MAX) else { return };
        let is_new = marks.add(Marks::DROPPED);
        account.counts.dropped += u64::from(is_new);
    }

    /// Somebody saw a reading. `is_repeat`: the gateway said itself that it may have delivered it before.
    pub(super) fn saw(&mut self, device: &str, id: Id, sight: Sight, is_repeat: bool) {
        if self.hostile_boots.contains(&id.boot) {
            return self.intruded(device, id, sight);
        }
        let Some(&index) = self.by_name.get(device) else { return };
        let account = &mut self.accounts[index];
        let Some(marks) = account.marks(id, BOOTS_SEEN_MAX) else {
            account.strangers += 1;
            return;
        };
        if marks.add(Marks::seen(sight)) {
            account.counts.seen[sight as usize] += 1;
        } else if !is_repeat {
            marks.add(Marks::twice(sight));
        }
    }

    /// A function published about a device without saying which reading.
    pub(super) fn heard(&mut self, device: &str) {
        if let Some(&index) = self.by_name.get(device) {
            self.accounts[index].outputs += 1;
        }
    }

    fn intruded(&mut self, device: &str, id: Id, sight: Sight) {
        if self.intrusions.len() < INTRUSIONS_MAX {
            self.intrusions.push(format!("{} by {sight:?}", shown(device, id)));
        }
    }

    /// Sums of all devices that are no attackers.
    pub(super) fn totals(&self) -> Counts {
        let mut sum = Counts::default();
        for Account { counts, .. } in self.honest() {
            sum.kept += counts.kept;
            sum.acked += counts.acked;
            sum.dropped += counts.dropped;
            for (sum, seen) in sum.seen.iter_mut().zip(counts.seen) {
                *sum += seen;
            }
        }
        sum
    }

    /// All devices that are no attackers.
    pub(super) fn honest(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter().filter(|account| account.role != Role::Hostile)
    }
}

impl Account {
    /// Marks of a reading; none where it cannot be one.
    fn marks(&mut self, id: Id, boots_max: usize) -> Option<&mut Marks> {
        let known = self.boots.get(&id.boot).map(Vec::len);
        if known.is_none() && self.boots.len() >= boots_max {
            return None;
        }
        // Before the start gets a place: one that only has forged numbers is none.
        let ahead_max = known.unwrap_or(0) as u64 + AHEAD_MAX;
        if id.sequence >= SEQUENCES_MAX || id.sequence >= ahead_max {
            return None;
        }
        let index = usize::try_from(id.sequence).ok()?;
        let boot = self.boots.entry(id.boot).or_default();
        if index >= boot.len() {
            boot.resize(index + 1, Marks::default());
        }
        boot.get_mut(index)
    }

    /// It has started, and says that its readings are numbered by this.
    pub(super) fn started(&mut self, boot: u64) {
        self.starts += 1;
        if self.announced.len() < BOOTS_MAX {
            self.announced.insert(boot);
        }
    }

    /// Sights that the device did not tell of: those that a power cut explains are left out.
    ///
    /// An emulated device writes a reading to its flash before its console names it, and a power cut (or the end) can fall
    /// in between. So of each start that the console announced the one reading after all that it named may be missing
    /// there, and no other.
    pub(super) fn unkept(&self) -> Vec<Id> {
        let mut excused = HashSet::new();
        let is_excused = |id: &Id, marks: &Vec<Marks>, excused: &mut HashSet<u64>| {
            let after = usize::try_from(id.sequence).map_or(0, |sequence| sequence + 1);
            self.role == Role::Emulated
                && self.announced.contains(&id.boot)
                && !marks.iter().skip(after).any(|marks| marks.has(Marks::KEPT))
                && excused.insert(id.boot)
        };
        let unkept = self.readings().filter(|(_, marks)| !marks.has(Marks::KEPT)).map(|(id, _)| id);
        unkept.filter(|id| !is_excused(id, &self.boots[&id.boot], &mut excused)).collect()
    }

    /// All but its readings.
    pub(super) fn summary(&self) -> Self {
        Self {
            name: self.name.clone(),
            boots: BTreeMap::new(),
            announced: HashSet::new(),
            failures: self.failures.clone(),
            taken: self.taken.clone(),
            ..*self
        }
    }

    /// All readings that anything is known of.
    pub(super) fn readings(&self) -> impl Iterator<Item = (Id, Marks)> {
        let of = |(&boot, marks): (&u64, &Vec<Marks>)| {
            let marks: Vec<_> = marks.iter().copied().zip(0..).collect();
            marks.into_iter().map(move |(marks, sequence)| (Id { boot, sequence }, marks))
        };
        self.boots.iter().flat_map(of).filter(|(_, marks)| *marks != Marks::default())
    }
}

/// A reading, for people.
pub(super) fn shown(device: &str, id: Id) -> String {
    format!("{}/{:016x}/{}", crate::out::clean(device), id.boot, id.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new([("a".to_owned(), Role::Virtual), ("x".to_owned(), Role::Hostile)])
    }

    #[test]
    fn readings_are_counted_once_however_often_they_are_told() {
        let mut ledger = ledger();
        let id = Id { boot: 9, sequence: 3 };
        for _ in 0..2 {
            ledger.kept(0, id);
            ledger.acked(0, id);
            ledger.saw("a", id, Sight::Cloud, true);
        }
        assert_eq!(ledger.totals(), Counts { kept: 1, acked: 1, dropped: 0, seen: [0, 0, 1] });
        let all: Vec<_> = ledger.accounts()[0].readings().collect();
        assert_eq!(all.len(), 1, "the numbers below it are none");
        assert!(!all[0].1.has(Marks::twice(Sight::Cloud)), "a repeat that says so is none");
        ledger.saw("a", id, Sight::Cloud, false);
        let marks = ledger.accounts()[0].readings().next().unwrap().1;
        assert!(marks.has(Marks::twice(Sight::Cloud)) && !marks.has(Marks::seen(Sight::Function)));
    }

    #[test]
    fn forged_numbers_take_no_memory_and_outlaws_are_named() {
        let mut ledger = ledger();
        ledger.saw("a", Id { boot: 1, sequence: u64::MAX }, Sight::Subscriber, false);
        assert_eq!(ledger.accounts()[0].strangers, 1);
        assert_eq!(ledger.accounts()[0].readings().count(), 0);
        assert!(ledger.accounts()[0].boots.is_empty());
        ledger.saw("nobody", Id { boot: 1, sequence: 0 }, Sight::Subscriber, false);
        ledger.outlaw(666);
        for _ in 0..1_000 {
            ledger.saw("a", Id { boot: 666, sequence: 0 }, Sight::Function, false);
        }
        assert_eq!(ledger.intrusions().len(), INTRUSIONS_MAX);
        assert_eq!(ledger.totals(), Counts::default());
    }

    #[test]
    fn forged_starts_do_not_take_the_place_of_real_ones() {
        for sequence in [u64::MAX, 0] {
            let mut ledger = ledger();
            for boot in 0..BOOTS_MAX as u64 + 10 {
                ledger.saw("a", Id { boot, sequence }, Sight::Subscriber, false);
            }
            ledger.kept(0, Id { boot: u64::MAX, sequence: 0 });
            assert_eq!(ledger.totals().kept, 1, "forged: {sequence}");
        }
    }

    #[test]
    fn what_is_kept_after_the_end_is_late() {
        let mut ledger = ledger();
        ledger.kept(0, Id { boot: 1, sequence: 0 });
        ledger.close();
        ledger.kept(0, Id { boot: 1, sequence: 1 });
        let late: Vec<bool> =
            ledger.accounts()[0].readings().map(|(_, marks)| marks.has(Marks::LATE)).collect();
        assert_eq!(late, [false, true]);
    }
}
