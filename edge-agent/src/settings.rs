//! The operator's configuration file (`/etc/holm/agent.toml`), as it is meant.
//!
//! [`Settings::parse`] reads the whole file and reports every problem at once; what it returns is
//! complete and checked, so nothing later asks "is it set?". Reference: `docs/agent-toml.md`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use edge_core::boot::health::Patience;
use edge_core::time::Millis;
use edge_core::topic::TopicFilter;
use sync_protocol::revision::AuthorKey;

use crate::auth::password::is_hash;
use crate::toml_reader::{At, Problem, Problems, Section};
use crate::uplink::proxy::Choice;
use crate::uplink::rate::Rate;

mod buses;
mod disk;
mod listeners;
mod uplink;

pub use buses::{Bus, BusPort};
pub use disk::Disk;
pub use listeners::{Listener, ListenerTls};

/// Ends of the process in a row after which no function runs.
const SAFE_MODE_AFTER_DEFAULT: u32 = 5;

/// Everything the operator decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Name of this gateway; after enrolment it must be the name in the certificate.
    pub name: String,
    /// Journal, checkpoint, artifacts, identity.
    pub data_dir: PathBuf,
    /// Local socket for `edge-agent status` and other commands; only the owner may connect.
    pub control_socket: PathBuf,
    /// Where devices connect.
    pub listeners: Vec<Listener>,
    /// Serial lines with devices.
    pub buses: Vec<Bus>,
    /// Who may connect.
    pub devices: Vec<DeviceAccount>,
    /// What clients without credentials may do, on loopback only; `None` refuses them.
    pub anonymous: Option<Access>,
    /// Author keys (`ed25519:...`) that may sign local deployments, beside those
    /// pinned at enrolment.
    pub author_keys: Vec<String>,
    /// Where the log goes; `None`: to standard error.
    pub log: Option<LogFile>,
    /// Bounds.
    pub limits: Limits,
    /// How flash is spared.
    pub disk: Disk,
    /// Ends of the process in a row, not asked for, after which no function runs; 0: never.
    pub safe_mode_after: u32,
    /// How an update of the agent proves itself.
    pub update: Patience,
    /// Through which proxy the control plane is dialled.
    pub proxy: Choice,
}

/// A log in files of bounded size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The newest.
    pub file: PathBuf,
    /// Bytes of one file.
    pub bytes_max: u64,
    /// Files, the newest among them.
    pub files_max: u32,
}

/// Topic filters someone may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Filters that cover what may be published.
    pub publish: Vec<TopicFilter>,
    /// Filters that cover what may be subscribed to.
    pub subscribe: Vec<TopicFilter>,
}

/// A device known to this gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAccount {
    /// Its identity: user name, or common name of its certificate.
    pub name: String,
    /// How it proves itself.
    pub secret: DeviceSecret,
    /// What it may do; `{device}` in a filter stands for the name.
    pub access: Access,
}

/// How a device proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSecret {
    /// A certificate of the listener's client CA whose common name is the device's name.
    Certificate,
    /// SHA-256 of a generated token: tokens have 256 random bits and need no slow hash.
    TokenSha256([u8; 32]),
    /// Argon2 hash in PHC form, for passwords that people chose.
    Argon2(String),
    /// By the wire: it is let in from a bus with `trust = true` that names it, and from nowhere else.
    Wire,
}

/// Bounds that operators change; the rest are constants beside the code they bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Events waiting or in work.
    pub queue_jobs_max: usize,
    /// Their bytes.
    pub queue_bytes_max: usize,
    /// Live bytes of the outbox; `None`: 1 GiB or a tenth of the disk, whichever is less.
    pub outbox_bytes_max: Option<u64>,
    /// Bytes of the whole store on disk; at the ceiling nothing new is admitted.
    pub store_bytes_max: u64,
    /// Function workers; `None`: four a core, at least eight.
    pub workers: Option<usize>,
    /// Largest memory a manifest may ask for.
    pub function_memory_bytes_max: u64,
    /// Native stack of an attempt.
    pub call_stack_bytes: usize,
    /// Address space of the compiling child.
    pub compile_memory_bytes_max: u64,
    /// Time that compiling one component may take.
    pub compile_time_ms_max: u64,
    /// Connections at once.
    pub connections_max: usize,
    /// Unacked publishes of one device (receive maximum, MQTT 5).
    pub receive_max: u16,
    /// Least time between a restart and a will left over from before it.
    pub will_after_restart_ms_min: u64,
    /// Sessions that outlive their connection.
    pub sessions_max: usize,
    /// Devices that are remembered: their message ids, and what `edge-agent devices` shows of them.
    pub devices_max: u32,
    /// How fast records may leave for the control plane; `None`: as fast as they can.
    pub drain: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 128 << 10,
            queue_jobs_max: 10_000,
            queue_bytes_max: 64 << 20,
            outbox_bytes_max: None,
            store_bytes_max: 4 << 30,
            workers: None,
            function_memory_bytes_max: 16 << 20,
            call_stack_bytes: 256 << 10,
            compile_memory_bytes_max: 512 << 20,
            compile_time_ms_max: 60_000,
            connections_max: 10_000,
            receive_max: 32,
            will_after_restart_ms_min: 60_000,
            sessions_max: 2_000,
            devices_max: DEVICES_MIN,
            drain: None,
        }
    }
}

impl Settings {
    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// All problems of the file, in its order.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(text);
        let settings =
            problems.parse().map(|table| read_root(Section::root(&table), &mut problems));
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(problems.into_sorted()),
        }
    }
}

fn read_root(mut root: Section<'_, '_>, problems: &mut Problems<'_>) -> Settings {
    let name = root.required("name", problems);
    check_name(&name, "`name`", problems);
    let data_dir = path(root.string("data_dir", problems), "/var/lib/holm");
    let control_socket = root
        .string("control_socket", problems)
        .map_or_else(|| data_dir.join("control.sock"), |at| PathBuf::from(at.value));
    let listeners = listeners::read(&mut root, problems);
    let devices = root.sections("devices", problems);
    let spans: Vec<_> = devices.iter().map(|section| section.span_of("name")).collect();
    let devices: Vec<_> =
        devices.into_iter().map(|section| read_device(section, problems)).collect();
    let names = devices.iter().map(|device| device.name.as_str()).zip(spans);
    check_once("the device", names.filter(|(name, _)| !name.is_empty()), problems);
    let buses = buses::read(&mut root, &devices, problems);
    let anonymous = root.section("anonymous", problems).map(|mut section| {
        let access = read_access(&mut section, None, problems);
        section.finish(problems);
        access
    });
    let author_keys = root.strings("author_keys", problems);
    for key in &author_keys {
        if key.value.parse::<AuthorKey>().is_err() {
            problems.add(&key.span, "an author key is what `holm keys show` prints, `ed25519:...`");
        }
    }
    let default = Limits { devices_max: remembered(devices.len()), ..Limits::default() };
    let limits = match root.section("limits", problems) {
        Some(section) => read_limits(section, &default, problems),
        None => default,
    };
    let update = root.section("update", problems).map(|section| read_update(section, problems));
    let disk = disk::read(&mut root, problems);
    let proxy = uplink::read(&mut root, problems);
    let log = root.section("log", problems).map(|section| read_log(section, &data_dir, problems));
    let safe_mode_after = root.number("safe_mode_after", 0..=1_000, problems);
    root.finish(problems);
    Settings {
        name: name.value,
        data_dir,
        control_socket,
        listeners,
        buses,
        devices,
        anonymous,
        author_keys: author_keys.into_iter().map(|at| at.value).collect(),
        log,
        limits,
        disk,
        safe_mode_after: safe_mode_after
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(SAFE_MODE_AFTER_DEFAULT),
        update: update.unwrap_or_default(),
        proxy,
    }
}

fn read_update(mut section: Section<'_, '_>, problems: &mut Problems<'_>) -> Patience {
    const HOUR_MS: u64 = 3_600_000;
    let default = Patience::default();
    let settle = section.duration_ms_within("settle", 1_000..=HOUR_MS, problems);
    let settle = settle.unwrap_or(default.settle.0);
    let grace_span = section.span_of("grace");
    let grace = section.duration_ms_within("grace", 1_000..=24 * HOUR_MS, problems);
    let grace = grace.unwrap_or(default.grace.0.max(settle));
    if grace < settle {
        problems
            .add(&grace_span, "`grace` must not be below `settle`: nothing is judged before that");
    }
    section.finish(problems);
    Patience { settle: Millis(settle), grace: Millis(grace) }
}

fn path(at: Option<At<String>>, default: &str) -> PathBuf {
    PathBuf::from(at.map_or_else(|| default.to_owned(), |at| at.value))
}

/// Names of gateways and devices: they become topic levels and file names.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A name that is missing is a problem already.
fn check_name(name: &At<String>, what: &str, problems: &mut Problems<'_>) {
    if !name.value.is_empty() && !is_name(&name.value) {
        let rule = "must be 1 to 64 characters of a-z, A-Z, 0-9, '-', '_' and '.'";
        problems.add(&name.span, format!("{what} {rule}"));
    }
}

/// What may stand in the file once: the second one is a problem.
fn check_once<'v>(
    what: &str,
    places: impl Iterator<Item = (&'v str, Range<usize>)>,
    problems: &mut Problems<'_>,
) {
    let mut known = BTreeSet::new();
    for (value, span) in places {
        if !known.insert(value) {
            problems.add(&span, format!("{what} {value:?} stands here for the second time"));
        }
    }
}

fn read_device(mut section: Section<'_, '_>, problems: &mut Problems<'_>) -> DeviceAccount {
    let name = section.required("name", problems);
    check_name(&name, "a device's `name`", problems);
    let certificate = section.boolean("certificate", problems).unwrap_or(false);
    let token = section.string("token_sha256", problems);
    let argon2 = section.string("password_argon2", problems);
    let wire = section.boolean("wire", problems).unwrap_or(false);
    let span = section.span();
    let access = read_access(&mut section, Some(&name.value), problems);
    section.finish(problems);
    let secret = match (certificate, token, argon2, wire) {
        (false, None, None, true) => DeviceSecret::Wire,
        (true, None, None, false) => DeviceSecret::Certificate,
        (false, Some(token), None, false) => match decode_hex32(&token.value) {
            Some(hash) => DeviceSecret::TokenSha256(hash),
            None => {
                let rule = "`token_sha256` is 64 hexadecimal digits (`edge-agent device-token`)";
                problems.add(&token.span, rule);
                DeviceSecret::Certificate
            }
        },
        (false, None, Some(hash), false) => {
            if !is_hash(&hash.value) {
                let rule = "`password_argon2` is what `edge-agent device-password` prints, \
                            `$argon2id$...` with at most 256 MiB of memory";
                problems.add(&hash.span, rule);
            }
            DeviceSecret::Argon2(hash.value)
        }
        _ => {
            let rule = "a device needs exactly one of `certificate = true`, `token_sha256`, \
                        `password_argon2` and `wire = true`";
            problems.add(&span, rule);
            DeviceSecret::Certificate
        }
    };
    DeviceAccount { name: name.value, secret, access }
}

/// Bytes of a file of the log, where nothing is said.
const LOG_BYTES: u64 = MIB;
/// Files of the log, where nothing is said.
const LOG_FILES: u32 = 4;

fn read_log(mut section: Section<'_, '_>, data_dir: &Path, problems: &mut Problems<'_>) -> LogFile {
    let file = section.required("file", problems);
    if Path::new(&file.value).starts_with(data_dir) {
        let dir = data_dir.display();
        problems.add(&file.span, format!("the log must lie outside of the data in {dir}"));
    }
    let log = LogFile {
        file: PathBuf::from(file.value),
        bytes_max: section.bytes_within("bytes_max", 4 * KIB..=GIB, problems).unwrap_or(LOG_BYTES),
        files_max: section
            .number("files_max", 1..=100, problems)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(LOG_FILES),
    };
    section.finish(problems);
    log
}

fn read_access(
    section: &mut Section<'_, '_>,
    device: Option<&str>,
    problems: &mut Problems<'_>,
) -> Access {
    let mut filters = |key| {
        let list = section.strings(key, problems);
        let mut parsed = Vec::with_capacity(list.len());
        for at in list {
            let text = device.map_or_else(|| at.value.clone(), |d| at.value.replace("{device}", d));
            match text.parse::<TopicFilter>() {
                Ok(filter) => parsed.push(filter),
                Err(err) => problems.add(&at.span, format!("{text:?}: {err}")),
            }
        }
        parsed
    };
    Access { publish: filters("publish"), subscribe: filters("subscribe") }
}

/// The least burst that is meant without `drain_burst`.
const DRAIN_BURST_BYTES: u64 = 64 * KIB;

fn read_drain(section: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Rate> {
    let span = section.span_of("drain_burst");
    let drain = section.bytes_within("drain", 128..=GIB, problems);
    let burst = section.bytes_within("drain_burst", KIB..=GIB, problems);
    if burst.is_some() && drain.is_none() {
        problems.add(&span, "`drain_burst` goes with `drain`, the bytes a second on average");
    }
    let bytes_per_s = drain?;
    let burst_bytes = burst.unwrap_or_else(|| bytes_per_s.max(DRAIN_BURST_BYTES));
    Some(Rate { bytes_per_s, burst_bytes })
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A will that comes later than this is of no use to anybody.
const WILL_AFTER_RESTART_MS_MAX: u64 = 3_600_000;

/// A number of bytes in memory, or what is meant without.
fn size(value: Option<u64>, default: usize) -> usize {
    value.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// Devices that are remembered without a word about it, at least.
const DEVICES_MIN: u32 = 1_000;
/// Devices that are remembered at most, whoever wants it.
const DEVICES_MAX: u32 = 100_000;

/// So many are remembered where nothing is said: all that have an account, and those that have none as one.
fn remembered(accounts: usize) -> u32 {
    u32::try_from(accounts + 1).unwrap_or(DEVICES_MAX).clamp(DEVICES_MIN, DEVICES_MAX)
}

fn read_limits(
    mut section: Section<'_, '_>,
    default: &Limits,
    problems: &mut Problems<'_>,
) -> Limits {
    let limits = Limits {
        message_bytes_max: size(
            section.bytes_within("message", KIB..=MIB, problems),
            default.message_bytes_max,
        ),
        queue_jobs_max: size(
            section.number("queue_jobs", 8..=1_000_000, problems),
            default.queue_jobs_max,
        ),
        queue_bytes_max: size(
            section.bytes_within("queue", 64 * KIB..=4 * GIB, problems),
            default.queue_bytes_max,
        ),
        outbox_bytes_max: section.bytes_within("outbox", 64 * KIB..=1_024 * GIB, problems),
        store_bytes_max: section
            .bytes_within("store", MIB..=1_024 * GIB, problems)
            .unwrap_or(default.store_bytes_max),
        workers: section.number("workers", 1..=256, problems).and_then(|n| usize::try_from(n).ok()),
        function_memory_bytes_max: section
            .bytes_within("function_memory", 64 * KIB..=4 * GIB, problems)
            .unwrap_or(default.function_memory_bytes_max),
        // Less does not hold the frames of an ordinary function. Functions also run on the thread
        // that prepares revisions, which has 4 MiB.
        call_stack_bytes: size(
            section.bytes_within("call_stack", 64 * KIB..=2 * MIB, problems),
            default.call_stack_bytes,
        ),
        compile_memory_bytes_max: section
            .bytes_within("compile_memory", MIB..=64 * GIB, problems)
            .unwrap_or(default.compile_memory_bytes_max),
        compile_time_ms_max: section
            .duration_ms_within("compile_time", 1_000..=3_600_000, problems)
            .unwrap_or(default.compile_time_ms_max),
        connections_max: size(
            section.number("connections", 1..=100_000, problems),
            default.connections_max,
        ),
        receive_max: section
            .number("receive_max", 1..=u64::from(u16::MAX), problems)
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(default.receive_max),
        will_after_restart_ms_min: section
            .duration_ms_within("will_after_restart", 0..=WILL_AFTER_RESTART_MS_MAX, problems)
            .unwrap_or(default.will_after_restart_ms_min),
        sessions_max: size(section.number("sessions", 1..=100_000, problems), default.sessions_max),
        devices_max: section
            .number("devices", 1..=u64::from(DEVICES_MAX), problems)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(default.devices_max),
        drain: read_drain(&mut section, problems),
    };
    section.finish(problems);
    limits
}

/// Reads 64 hexadecimal digits.
#[must_use]
pub fn decode_hex32(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests;
