//! What must hold at the end, by the ledger alone. Pure.

use serde::Serialize;

use super::ledger::{Account, Ledger, Marks, Role, Sight, shown};

/// Offenders that are named.
const NAMED_MAX: usize = 10;

/// Whether anybody was there to see readings, or to attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Nobody: nothing is judged.
    No,
    /// Somebody may: judged if anything was seen.
    IfAny,
    /// Somebody must.
    Yes,
}

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// By [`Sight`].
    pub(super) expected: [Expected; 3],
    /// Whether attacks must have been made.
    pub(super) attacks: Expected,
    /// Whether devices had the time to send what they kept.
    pub(super) is_settled: bool,
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// In words.
    pub(super) rule: String,
    /// How many offend against it.
    pub(super) offenders: usize,
    /// The first of them.
    pub(super) first: Vec<String>,
    /// Whether it may come to hold with time: what is on its way arrives.
    #[serde(skip)]
    pub(super) may_mend: bool,
}

/// All that was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Each rule that applied.
    pub(super) checks: Vec<Check>,
    /// What did not apply, and why.
    pub(super) not_judged: Vec<String>,
}

impl Verdict {
    /// Whether everything holds.
    pub(super) fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.offenders == 0)
    }

    /// Whether time changes nothing any more.
    pub(super) fn is_final(&self) -> bool {
        self.checks.iter().all(|check| check.offenders == 0 || !check.may_mend)
    }

    fn wait_for(&mut self, rule: impl Into<String>, offenders: impl Iterator<Item = String>) {
        self.check(rule, offenders);
        if let Some(check) = self.checks.last_mut() {
            check.may_mend = true;
        }
    }

    fn check(&mut self, rule: impl Into<String>, offenders: impl Iterator<Item = String>) {
        let mut check =
            Check { rule: rule.into(), offenders: 0, first: Vec::new(), may_mend: false };
        for offender in offenders {
            check.offenders += 1;
            if check.first.len() < NAMED_MAX {
                check.first.push(offender);
            }
        }
        self.checks.push(check);
    }
}

/// Judges.
pub(super) fn judge(ledger: &Ledger, rules: &Rules) -> Verdict {
    let mut verdict = Verdict::default();
    let readings = |is: &dyn Fn(Marks) -> bool| {
        let of = |account: &Account| -> Vec<String> {
            let found = account.readings().filter(|(_, marks)| is(*marks));
            found.map(|(id, _)| shown(&account.name, id)).collect()
        };
        ledger.honest().flat_map(of).collect::<Vec<_>>().into_iter()
    };
    let totals = ledger.totals();
    let nothing = (totals.acked == 0).then(|| "nothing was acknowledged".to_owned());
    verdict.wait_for("readings were acknowledged: it proves something", nothing.into_iter());
    for (sight, words) in [
        (Sight::Subscriber, ["a subscriber", "the subscriber"]),
        (Sight::Function, ["a function", "the functions"]),
        (Sight::Cloud, ["the control plane", "the control plane"]),
    ] {
        let [who, which] = words;
        match rules.expected[sight as usize] {
            Expected::No => {
                verdict.not_judged.push(format!("{which}: nobody was asked"));
                continue;
            }
            Expected::IfAny if totals.seen[sight as usize] == 0 => {
                let why = "nothing was heard that says `device`, `boot` and `sequence`";
                verdict.not_judged.push(format!("{which}: {why}"));
                continue;
            }
            Expected::IfAny | Expected::Yes => {}
        }
        let lost = |marks: Marks| {
            marks.has(Marks::ACKED) && !marks.has(Marks::seen(sight)) && !marks.has(Marks::LATE)
        };
        verdict.wait_for(format!("every acknowledged reading reached {who}"), readings(&lost));
        let twice = |marks: Marks| marks.has(Marks::twice(sight));
        verdict.check(format!("none reached {who} twice"), readings(&twice));
    }
    verdict.check("nothing was seen that no device kept", strangers(ledger));
    if rules.is_settled {
        let gone = |marks: Marks| marks.has(Marks::ACKED) || marks.has(Marks::DROPPED);
        let open = |marks: Marks| marks.has(Marks::KEPT) && !marks.has(Marks::LATE) && !gone(marks);
        verdict.wait_for("all that was kept was acknowledged, or dropped as told", readings(&open));
    } else {
        verdict.not_judged.push("what devices still keep: there was no time to send it".to_owned());
    }
    let refused = ledger.honest().filter(|account| account.refused > 0);
    let refused = refused.map(|account| format!("{}: {}", account.name, account.refused));
    verdict.check("the gateway refused no honest reading", refused);
    let failures = ledger.accounts().iter().flat_map(|account| {
        account.failures.iter().map(|words| format!("{}: {words}", account.name))
    });
    verdict.check("no device failed", failures);
    hostile(ledger, rules.attacks, &mut verdict);
    verdict
}

/// What was seen and not kept, as far as no power cut explains it; a number that the device cannot have is never explained.
fn strangers(ledger: &Ledger) -> impl Iterator<Item = String> {
    let of = |account: &Account| -> Vec<String> {
        let unkept = account.unkept().into_iter();
        let mut found: Vec<String> = unkept.map(|id| shown(&account.name, id)).collect();
        found.extend((0..account.strangers).map(|_| format!("{}: a forged number", account.name)));
        found
    };
    ledger.honest().flat_map(of).collect::<Vec<_>>().into_iter()
}

/// A gateway that refuses nothing because nothing reached it has proven nothing.
fn hostile(ledger: &Ledger, expected: Expected, verdict: &mut Verdict) {
    let attackers = || ledger.accounts().iter().filter(|account| account.role == Role::Hostile);
    if attackers().next().is_none() {
        verdict.not_judged.push("attacks: no device is hostile".to_owned());
        return;
    }
    let tries: u64 = attackers().map(|account| account.tries).sum();
    let is_any = attackers().any(|account| account.attacks > 0);
    if !is_any && expected != Expected::Yes {
        let why = "the day was over before one reached the gateway";
        verdict.not_judged.push(format!("attacks: {why}"));
        return;
    }
    let nothing = (!is_any).then(|| format!("none of {tries} did"));
    verdict.wait_for("attacks reached the gateway: it proves something", nothing.into_iter());
    let taken = attackers()
        .flat_map(|account| account.taken.iter().map(|what| format!("{}: {what}", account.name)));
    verdict.check("every attack was refused", taken);
    let seen = ledger.intrusions().iter().cloned();
    verdict.check("nobody saw a message of a hostile device", seen);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::ledger::Id;
    use proptest::prelude::*;

    const ALL: Rules =
        Rules { expected: [Expected::Yes; 3], attacks: Expected::Yes, is_settled: true };
    const SIGHTS: [Sight; 3] = [Sight::Subscriber, Sight::Function, Sight::Cloud];

    fn id(sequence: u64) -> Id {
        Id { boot: 7, sequence }
    }

    /// Two devices and an attacker; all went well.
    fn good() -> Ledger {
        let roles = [("a", Role::Virtual), ("b", Role::Emulated), ("x", Role::Hostile)];
        let mut ledger = Ledger::new(roles.map(|(name, role)| (name.to_owned(), role)));
        for (device, name) in ["a", "b"].into_iter().enumerate() {
            for sequence in 0..20 {
                ledger.kept(device, id(sequence));
                ledger.acked(device, id(sequence));
                SIGHTS.into_iter().for_each(|sight| ledger.saw(name, id(sequence), sight, false));
            }
        }
        ledger.account(1).started(7);
        ledger.account(2).attacks = 3;
        ledger.outlaw(666);
        ledger
    }

    fn offended(ledger: &Ledger, rules: &Rules) -> Vec<(String, usize)> {
        let verdict = judge(ledger, rules);
        let bad = verdict.checks.into_iter().filter(|check| check.offenders > 0);
        bad.map(|check| (check.rule, check.offenders)).collect()
    }

    #[test]
    fn a_good_day_holds_and_an_empty_one_proves_nothing() {
        assert_eq!(offended(&good(), &ALL), []);
        let empty = Ledger::new([("a".to_owned(), Role::Virtual)]);
        assert_eq!(offended(&empty, &ALL).len(), 1);
    }

    #[test]
    fn a_loss_and_a_repeat_are_found_wherever_they_are() {
        for sight in SIGHTS {
            let mut ledger = good();
            ledger.kept(0, id(20));
            ledger.acked(0, id(20));
            SIGHTS
                .into_iter()
                .filter(|it| *it != sight)
                .for_each(|it| ledger.saw("a", id(20), it, false));
            let verdict = judge(&ledger, &ALL);
            let bad: Vec<_> = verdict.checks.iter().filter(|check| check.offenders > 0).collect();
            assert_eq!(bad.len(), 1, "{bad:?}");
            assert!(bad[0].rule.starts_with("every acknowledged"), "{bad:?}");
            assert_eq!(bad[0].first, ["a/0000000000000007/20"]);
            assert!(!verdict.is_final(), "it may still come");

            let mut ledger = good();
            ledger.saw("b", id(3), sight, false);
            let bad = offended(&ledger, &ALL);
            assert!(bad.len() == 1 && bad[0].0.contains("twice"), "{bad:?}");
            assert!(judge(&ledger, &ALL).is_final(), "it never gets better");
        }
    }

    /// What has to be found, and how it comes about.
    type Plant<'a> = (&'a str, &'a dyn Fn(&mut Ledger));

    #[test]
    fn attacks_refusals_failures_and_what_stays_behind_are_found() {
        let plants: [Plant<'_>; 8] = [
            ("refused", &|it| it.account(2).taken.push("a stolen name".to_owned())),
            ("hostile", &|it| it.saw("a", Id { boot: 666, sequence: 1 }, Sight::Function, false)),
            ("no honest reading", &|it| it.account(0).refused = 1),
            ("no device failed", &|it| it.account(1).failures.push("panic: x".to_owned())),
            ("all that was kept", &|it| it.kept(1, id(20))),
            ("no device kept", &|it| it.saw("a", id(77), Sight::Subscriber, false)),
            ("no device failed", &|it| {
                it.account(2).failures.push("an attacker's panic".to_owned());
            }),
            ("attacks reached", &|it| it.account(2).attacks = 0),
        ];
        for (rule, plant) in plants {
            let mut ledger = good();
            plant(&mut ledger);
            let bad = offended(&ledger, &ALL);
            assert!(bad.len() == 1 && bad[0].0.contains(rule), "{rule}: {bad:?}");
        }
    }

    #[test]
    fn what_nobody_promised_is_not_judged() {
        let mut ledger = good();
        ledger.kept(0, id(20));
        ledger.acked(0, id(20));
        ledger.saw("a", id(20), Sight::Subscriber, false);
        let rules = Rules {
            expected: [Expected::Yes, Expected::No, Expected::No],
            is_settled: false,
            ..ALL
        };
        assert_eq!(offended(&ledger, &rules), []);
        let mut silent = Ledger::new([("a".to_owned(), Role::Virtual)]);
        silent.kept(0, id(0));
        silent.acked(0, id(0));
        let rules = Rules { expected: [Expected::IfAny; 3], ..ALL };
        assert_eq!(offended(&silent, &rules), []);
        assert_eq!(judge(&silent, &rules).not_judged.len(), 4);
        // An emulated device measures until its end: nobody waits for that.
        let mut ledger = good();
        ledger.close();
        ledger.kept(1, id(20));
        ledger.acked(1, id(20));
        assert_eq!(offended(&ledger, &ALL), []);
    }

    #[test]
    fn attacks_that_reached_nobody_are_not_judged_on_a_short_day() {
        let mut ledger = good();
        ledger.account(2).attacks = 0;
        let rules = Rules { attacks: Expected::IfAny, ..ALL };
        let verdict = judge(&ledger, &rules);
        assert!(verdict.holds());
        assert!(verdict.not_judged.iter().any(|why| why.starts_with("attacks")));
        assert!(!verdict.checks.iter().any(|check| check.rule.contains("attack")));
    }

    #[test]
    fn only_what_a_power_cut_explains_is_forgiven() {
        let offenders = |ids: &[Id]| -> usize {
            let mut ledger = good();
            ids.iter().for_each(|id| ledger.saw("b", *id, Sight::Subscriber, false));
            offended(&ledger, &ALL).iter().map(|(_, count)| count).sum()
        };
        assert_eq!(offenders(&[id(20)]), 0, "a cut fell between flash and console");
        assert_eq!(offenders(&[id(20), id(21)]), 1, "that happens once a start");
        assert_eq!(offenders(&[Id { boot: 8, sequence: 0 }]), 1, "no console announced this start");
        assert_eq!(offenders(&[id(u64::MAX)]), 1, "a forged number is none of its readings");
        let mut ledger = good();
        ledger.saw("b", id(20), Sight::Subscriber, false);
        ledger.kept(1, id(21));
        ledger.acked(1, id(21));
        SIGHTS.into_iter().for_each(|sight| ledger.saw("b", id(21), sight, false));
        assert_eq!(offended(&ledger, &ALL).len(), 1, "it was not the last of its start");
    }

    proptest! {
        #[test]
        fn one_mark_that_is_missing_is_always_found(device in 0_usize..2, lost in 0_u64..20, sight in 0_usize..3) {
            let names = ["a", "b"];
            let mut ledger = Ledger::new(names.map(|name| (name.to_owned(), Role::Virtual)));
            for (n, name) in names.into_iter().enumerate() {
                for sequence in 0..20 {
                    ledger.kept(n, id(sequence));
                    ledger.acked(n, id(sequence));
                    for it in SIGHTS {
                        if (n, sequence, it as usize) != (device, lost, sight) {
                            ledger.saw(name, id(sequence), it, false);
                        }
                    }
                }
            }
            let bad = offended(&ledger, &ALL);
            prop_assert_eq!(bad.iter().map(|(_, count)| count).sum::<usize>(), 1);
        }
    }
}
