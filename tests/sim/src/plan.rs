//! What a seed makes of a simulation: its shape and how often what goes wrong. Bounds are small, so
//! that they are met.

use crate::disk::DiskFaults;
use crate::rng::Rng;
use crate::time::SECOND;

/// Jobs in the queue.
pub const QUEUE_JOBS_MAX: u32 = 48;
/// Attempts in work at once.
pub const WORKERS: u16 = 8;
/// Live bytes of the outbox: little, but more than the dead letters of a run take, for then records
/// are refused, which tell the oracles what was done.
pub const OUTBOX_BYTES_MAX: u64 = 128 << 10;
/// Bytes of a journal segment.
pub const SEGMENT_BYTES: u32 = 64 << 10;
/// Segments of the journal.
pub const SEGMENTS: u16 = 4;
/// Size of the disk.
pub const DISK_BYTES: u64 = 24 << 20;
/// Bytes kept back for deletes.
pub const BALLAST_BYTES: u64 = 256 << 10;

/// How long nothing goes wrong at first, so that a revision proves itself.
pub const WARM_UP_US: u64 = 70 * SECOND;
/// Virtual time within which everything must come to rest after the last fault.
pub const REST_US_MAX: u64 = 20 * 60 * SECOND;

/// A simulation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its seed.
    pub seed: u64,
    /// Devices.
    pub devices: usize,
    /// How long things go wrong.
    pub faults_us: u64,
    /// Mean time between two publishes of a device, in microseconds.
    pub publish_us: u64,
    /// Ratios, per million events of their kind.
    pub ratios: Ratios,
    /// What the disk does.
    pub disk: DiskFaults,
    /// Mean times between two faults of a kind in microseconds; 0: never.
    pub every: Every,
    /// Slowest device.
    pub slow_us: u64,
}

/// Per million.
#[derive(Clone, Copy, Debug, Default)]
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
    /// The disk fills up for a while.
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
        Self {
            seed,
            devices: usize::try_from(rng.within(1, 4)).unwrap_or(1),
            faults_us: rng.within(60, 180) * SECOND,
            publish_us: rng.within(100_000, 2 * SECOND),
            ratios,
            disk,
            every,
            slow_us: some(&mut rng, SECOND, 20 * SECOND),
        }
    }
}
