//! `[faults.KIND]`, `[clock]` and `[hostile]`: to which share of the devices it happens, how often, how long.

use edge_agent::toml_reader::{Problems, Section};

use super::{MS_PER_DAY, share};

/// What happens to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// It goes away: it measures nothing and is not connected, and comes back.
    Leave,
    /// Its link breaks; it goes on measuring.
    Cut,
    /// Its link carries so few bytes a second each way.
    Slow {
        /// That many.
        bytes_per_s: u32,
    },
    /// What either side sends vanishes, and nobody is told.
    HalfOpen,
    /// It loses its power at once, and starts anew.
    PowerCut,
}

impl FaultKind {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Leave, Self::Cut, Self::Slow { bytes_per_s: 200 }, Self::HalfOpen, Self::PowerCut];

    /// The word of the profile.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::Cut => "cut",
            Self::Slow { .. } => "slow",
            Self::HalfOpen => "half_open",
            Self::PowerCut => "power_cut",
        }
    }
}

/// A kind of fault, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault {
    /// What happens.
    pub(crate) kind: FaultKind,
    /// To which share of the devices.
    pub(crate) share: f64,
    /// From one to the next for each of them, on average.
    pub(crate) every_ms: u64,
    /// How long it lasts, on average.
    pub(crate) lasts_ms: u64,
}

/// Clocks that are wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Clock {
    /// Which share of the devices has one.
    pub(crate) share: f64,
    /// How fast it runs at most, up or down, in parts per million.
    pub(crate) drift_ppm: u32,
    /// How far off it is at most, before or behind.
    pub(crate) offset_ms: u64,
    /// Which share of the devices takes the beginning of the day for that of 1970.
    pub(crate) share_in_1970: f64,
}

/// Devices that attack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hostile {
    /// Which share of the devices.
    pub(crate) share: f64,
    /// From attack to attack.
    pub(crate) every_ms: u64,
}

pub(super) fn read(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Vec<Fault> {
    let Some(mut section) = root.section("faults", problems) else { return Vec::new() };
    let mut faults = Vec::new();
    for kind in FaultKind::ALL {
        let Some(mut table) = section.section(kind.word(), problems) else { continue };
        let kind = match kind {
            FaultKind::Slow { bytes_per_s } => {
                let given = table.number("bytes_per_s", 16..=1 << 30, problems);
                let given = given.and_then(|n| u32::try_from(n).ok());
                FaultKind::Slow { bytes_per_s: given.unwrap_or(bytes_per_s) }
            }
            other => other,
        };
        let every_ms = table.duration_ms_within("every", 1_000..=366 * MS_PER_DAY, problems);
        let lasts_ms = table.duration_ms_within("lasts", 100..=MS_PER_DAY, problems);
        faults.push(Fault {
            kind,
            share: share(&mut table, "devices", problems),
            every_ms: every_ms.unwrap_or(60_000),
            lasts_ms: lasts_ms.unwrap_or(5_000),
        });
        table.finish(problems);
    }
    section.finish(problems);
    faults
}

pub(super) fn clock(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Clock> {
    let mut section = root.section("clock", problems)?;
    let drift = section.number("drift_ppm", 0..=500_000, problems).unwrap_or(0);
    let offset = section.duration_ms_within("offset", 0..=366 * MS_PER_DAY, problems);
    let clock = Clock {
        share: share(&mut section, "devices", problems),
        drift_ppm: u32::try_from(drift).unwrap_or(0),
        offset_ms: offset.unwrap_or(0),
        share_in_1970: share(&mut section, "in_1970", problems),
    };
    section.finish(problems);
    Some(clock)
}

pub(super) fn hostile(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Hostile> {
    let mut section = root.section("hostile", problems)?;
    let every_ms = section.duration_ms_within("every", 100..=MS_PER_DAY, problems);
    let share = share(&mut section, "devices", problems);
    section.finish(problems);
    Some(Hostile { share, every_ms: every_ms.unwrap_or(5_000) })
}
