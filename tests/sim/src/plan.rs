//! What a simulation is: its cast, its bounds, and what goes wrong when or how often. A seed draws
//! one; a scenario's file ([`crate::scenario`]) states one.

use serde::Deserialize;
use sync_protocol::manifest::Series;

use crate::disk::DiskFaults;
use crate::payload::Wish;
use crate::rng::Rng;
use crate::time::SECOND;
use crate::timeline::Entry;

/// Attempts in work at once.
pub const WORKERS: u16 = 8;
/// Bytes of a journal segment.
pub const SEGMENT_BYTES: u32 = 64 << 10;
/// Segments of the journal.
pub const SEGMENTS: u16 = 4;
/// Bytes kept back for deletes.
pub const BALLAST_BYTES: u64 = 256 << 10;

/// How long nothing goes wrong at first, so that a revision proves itself.
pub const WARM_UP_US: u64 = 70 * SECOND;
/// Virtual time within which everything must come to rest after the last fault, unless a plan says
/// otherwise.
pub const REST_US_MAX: u64 = 20 * 60 * SECOND;

/// A simulation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its seed.
    pub seed: u64,
    /// Sizes of the gateway.
    pub bounds: Bounds,
    /// The app has a trigger on wall time. It fires each minute, also for weeks.
    pub has_cron: bool,
    /// Policy of what functions record, unless it is urgent.
    pub series: Series,
    /// Devices, by what they do.
    pub groups: Vec<Group>,
    /// How long things go wrong.
    pub faults_us: u64,
    /// Within which everything must come to rest after that.
    pub rest_us_max: u64,
    /// Ratios, per million events of their kind.
    pub ratios: Ratios,
    /// What the disk does.
    pub disk: DiskFaults,
    /// Mean times between two faults of a kind in microseconds; 0: never.
    pub every: Every,
    /// Slowest device.
    pub slow_us: u64,
    /// What happens at its time.
    pub timeline: Vec<Entry>,
    /// The clock stands in 1970 from the beginning, until it jumps or is set.
    pub is_born_1970: bool,
    /// The link breaks at each new phase of a deployment that the gateway tells, once for each.
    pub cuts_at_phases: bool,
}

/// Sizes of the gateway. They are small, so that they are met.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Live bytes of the outbox.
    pub outbox_bytes_max: u64,
    /// Jobs in the queue.
    pub queue_jobs_max: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        // The outbox is more than the dead letters of a run take: else records are refused, which
        // tell the oracles what was done.
        Self { disk_bytes: 24 << 20, outbox_bytes_max: 128 << 10, queue_jobs_max: 48 }
    }
}

/// Devices that do the same.
#[derive(Clone, Debug)]
pub struct Group {
    /// How many.
    pub devices: usize,
    /// Mean time between two publishes of one of them, in microseconds.
    pub publish_us: u64,
    /// Where they publish.
    pub topics: Topics,
    /// What they ask of the function; `None`: by the plan's ratios.
    pub wish: Option<Wish>,
    /// When they begin to publish.
    pub from_us: u64,
    /// When they cease to.
    pub until_us: u64,
}

/// Which function hears of a message first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topics {
    /// Mostly `count`, now and then `note`.
    #[default]
    Mixed,
    /// `count`: state of a device, publishes, held at a full queue.
    Count,
    /// `note`: no state, sheds at a full queue.
    Note,
}

/// Per million.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ratios {
    /// Of messages: their function asks for another attempt.
    pub retry: u32,
    /// Their function refuses them.
    pub reject: u32,
    /// Their function traps.
    pub trap: u32,
    /// Their function runs long.
    pub linger: u32,
    /// They are sent again though they were acked: the ack was lost on the device.
    pub repeat: u32,
    /// They are large.
    pub large: u32,
    /// Of messages to the cloud or from it: they are lost with the connection.
    pub link_cut: u32,
    /// Of receipts: they are said twice.
    pub twice: u32,
    /// Of boots after a power cut: the clock begins in 1970, as without a battery.
    pub boots_1970: u32,
    /// Of starts: the control plane is reached late, and until then nobody vouches for the clock.
    pub late_contact: u32,
}

/// Mean times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Every {
    /// A connection of a device breaks.
    pub cut_us: u64,
    /// The process is killed.
    pub kill_us: u64,
    /// The power goes.
    pub power_us: u64,
    /// The process or the power ends within a disk operation.
    pub dies_us: u64,
    /// The disk fills up or is read-only, for a while.
    pub full_us: u64,
    /// The wall clock jumps.
    pub clock_us: u64,
    /// The control plane asks for something else.
    pub desire_us: u64,
    /// The control plane is restored from a backup.
    pub restore_us: u64,
    /// A graceful stop and start.
    pub stop_us: u64,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            devices: 1,
            publish_us: SECOND,
            topics: Topics::Mixed,
            wish: None,
            from_us: 0,
            until_us: u64::MAX,
        }
    }
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        // Most seeds have only some kinds of faults: what hides behind another one is found too.
        let some = |rng: &mut Rng, low: u64, high: u64| {
            let wanted = rng.chance(600_000);
            let value = rng.within(low, high);
            if wanted { value } else { 0 }
        };
        // Of its own, so that the rest of a seed's plan stays what it was.
        let mut clocks = Rng::new(seed ^ 0xc10c);
        let ratio = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let ratios = Ratios {
            retry: ratio(some(&mut rng, 10_000, 200_000)),
            reject: ratio(some(&mut rng, 5_000, 50_000)),
            trap: ratio(some(&mut rng, 5_000, 60_000)),
            linger: ratio(some(&mut rng, 5_000, 50_000)),
            repeat: ratio(some(&mut rng, 20_000, 200_000)),
            large: ratio(some(&mut rng, 10_000, 80_000)),
            link_cut: ratio(some(&mut rng, 5_000, 60_000)),
            twice: ratio(some(&mut rng, 50_000, 500_000)),
            boots_1970: ratio(some(&mut clocks, 200_000, 800_000)),
            late_contact: ratio(some(&mut clocks, 100_000, 500_000)),
        };
        let every = Every {
            cut_us: some(&mut rng, 2 * SECOND, 20 * SECOND),
            kill_us: some(&mut rng, 10 * SECOND, 60 * SECOND),
            power_us: some(&mut rng, 10 * SECOND, 60 * SECOND),
            dies_us: some(&mut rng, 10 * SECOND, 60 * SECOND),
            full_us: some(&mut rng, 30 * SECOND, 90 * SECOND),
            clock_us: some(&mut rng, 10 * SECOND, 60 * SECOND),
            desire_us: some(&mut rng, 10 * SECOND, 60 * SECOND),
            restore_us: some(&mut rng, 20 * SECOND, 90 * SECOND),
            stop_us: some(&mut rng, 20 * SECOND, 90 * SECOND),
        };
        let disk = DiskFaults {
            sync_fails: ratio(some(&mut rng, 500, 10_000)),
            write_fails: ratio(some(&mut rng, 200, 4_000)),
        };
        let devices = usize::try_from(rng.within(1, 4)).unwrap_or(1);
        let faults_us = rng.within(60, 180) * SECOND;
        let publish_us = rng.within(100_000, 2 * SECOND);
        Self {
            ratios,
            disk,
            every,
            slow_us: some(&mut rng, SECOND, 20 * SECOND),
            has_cron: true,
            is_born_1970: clocks.chance(400_000),
            groups: vec![Group { devices, publish_us, ..Group::default() }],
            ..Self::calm(seed, faults_us)
        }
    }

    /// A plan without devices in which nothing goes wrong.
    #[must_use]
    pub fn calm(seed: u64, faults_us: u64) -> Self {
        Self {
            seed,
            bounds: Bounds::default(),
            has_cron: false,
            series: Series::default(),
            groups: Vec::new(),
            faults_us,
            rest_us_max: REST_US_MAX,
            ratios: Ratios::default(),
            disk: DiskFaults::default(),
            every: Every::default(),
            slow_us: 0,
            timeline: Vec::new(),
            is_born_1970: false,
            cuts_at_phases: false,
        }
    }

    /// The group of each device, in the devices' order.
    pub fn cast(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().flat_map(|group| std::iter::repeat_n(group, group.devices))
    }
}
