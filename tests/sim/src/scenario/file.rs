//! A scenario's file.

use std::collections::BTreeMap;

use serde::Deserialize;
use sync_protocol::manifest::Series;

use super::{Bound, Scenario};
use crate::payload::Wish;
use crate::plan::{self, Bounds, Group, Plan, Ratios, Topics};
use crate::time::SECOND;
use crate::timeline::{Deed, Entry};

/// A file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    complaint: String,
    issues: Vec<String>,
    shows: String,
    seeds: u64,
    /// How long it goes on; then all faults stop.
    lasts: Us,
    /// Within which nothing is left to do after that.
    rests_within: Option<Us>,
    #[serde(default)]
    gateway: Gateway,
    #[serde(default)]
    series: Series,
    devices: Vec<Devices>,
    #[serde(default)]
    ratios: Ratios,
    #[serde(default)]
    timeline: Vec<Line>,
    holds: BTreeMap<String, Held>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Gateway {
    disk_kib: u64,
    outbox_kib: u64,
    queue_jobs: u32,
    boots_at_1970: bool,
    cron: bool,
    cuts_at_phases: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Devices {
    #[serde(default = "one")]
    count: usize,
    every: Us,
    #[serde(default)]
    to: Topics,
    wish: Option<Wish>,
    from: Option<Us>,
    until: Option<Us>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at: Us,
    every: Option<Us>,
    until: Option<Us>,
    #[serde(rename = "do")]
    deed: Deed,
}

/// A figure is held to a number, or to bounds of which one may be missing.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Held {
    Exactly(u64),
    Within {
        #[serde(default)]
        least: u64,
        #[serde(default = "no_bound")]
        most: u64,
    },
}

/// Microseconds, written as a number and one of `ms`, `s`, `min`, `h`, `d`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(super) struct Us(pub(super) u64);

fn one() -> usize {
    1
}

fn no_bound() -> u64 {
    u64::MAX
}

impl Default for Gateway {
    fn default() -> Self {
        let Bounds { disk_bytes, outbox_bytes_max, queue_jobs_max } = Bounds::default();
        Self {
            disk_kib: disk_bytes >> 10,
            outbox_kib: outbox_bytes_max >> 10,
            queue_jobs: queue_jobs_max,
            boots_at_1970: false,
            cron: false,
            cuts_at_phases: false,
        }
    }
}

impl TryFrom<String> for Us {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time: write a number and ms, s, min, h or d");
        let (number, unit) = text.split_once(' ').ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = match unit {
            "ms" => SECOND / 1_000,
            "s" => SECOND,
            "min" => 60 * SECOND,
            "h" => 3_600 * SECOND,
            "d" => 86_400 * SECOND,
            _ => return Err(wrong()),
        };
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

impl File {
    pub(super) fn scenario(self, name: &str) -> Scenario {
        let faults_us = self.lasts.0.saturating_sub(plan::WARM_UP_US);
        let Gateway { disk_kib, outbox_kib, queue_jobs, boots_at_1970, cron, cuts_at_phases } =
            self.gateway;
        let plan = Plan {
            bounds: Bounds {
                disk_bytes: disk_kib << 10,
                outbox_bytes_max: outbox_kib << 10,
                queue_jobs_max: queue_jobs,
            },
            has_cron: cron,
            series: self.series,
            groups: self.devices.into_iter().map(Devices::group).collect(),
            ratios: Ratios {
                boots_1970: if boots_at_1970 { 1_000_000 } else { self.ratios.boots_1970 },
                ..self.ratios
            },
            is_born_1970: boots_at_1970,
            timeline: self.timeline.into_iter().map(Line::entry).collect(),
            cuts_at_phases,
            rest_us_max: self.rests_within.map_or(plan::REST_US_MAX, |rest| rest.0),
            ..Plan::calm(0, faults_us)
        };
        let held = self.holds.into_iter();
        Scenario {
            name: name.to_owned(),
            complaint: self.complaint,
            issues: self.issues,
            shows: self.shows,
            seeds: self.seeds,
            holds: held.map(|(figure, held)| (figure, held.bound())).collect(),
            plan,
        }
    }
}

impl Devices {
    fn group(self) -> Group {
        Group {
            devices: self.count,
            publish_us: self.every.0,
            topics: self.to,
            wish: self.wish,
            from_us: self.from.map_or(0, |from| from.0),
            until_us: self.until.map_or(u64::MAX, |until| until.0),
        }
    }
}

impl Line {
    fn entry(self) -> Entry {
        Entry {
            at_us: self.at.0,
            every_us: self.every.map_or(0, |every| every.0),
            until_us: self.until.map_or(u64::MAX, |until| until.0),
            deed: self.deed,
        }
    }
}

impl Held {
    fn bound(self) -> Bound {
        match self {
            Self::Exactly(value) => Bound { least: value, most: value },
            Self::Within { least, most } => Bound { least, most },
        }
    }
}
