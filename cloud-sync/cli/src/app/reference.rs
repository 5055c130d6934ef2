//! The keys of `holm.toml`, as data: `holm help holm.toml` and `docs/holm-toml.md` are made from
//! this list, and a test compares it with what the parser asks for.

mod files;
mod print;

pub use self::files::{AGENT, DEVICE_FUNCTION, FIRMWARE, SYSTEM};
pub use self::print::{page, terminal};

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name.
    pub name: &'static str,
    /// What its value looks like.
    pub value: &'static str,
    /// What holds without it; empty: the key is needed.
    pub default: &'static str,
    /// What it means.
    pub about: &'static str,
}

/// One table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// As it is written in the file.
    pub title: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

const fn key(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key { name, value, default, about }
}

/// `[app]`
pub const APP: Table = Table {
    title: "[app]",
    about: "The unit of deployment: its functions go live, and are taken back, together.",
    keys: &[
        key(
            "name",
            "\"cold-chain\"",
            "",
            "1 to 63 characters a-z, 0-9 and inner hyphens; unique on a gateway.",
        ),
        key(
            "version",
            "\"1.4.0\"",
            "",
            "Three numbers below 65,536. The signed sequence of a revision follows from it: higher \
             versions are later. Two builds of one version are two revisions, and both may be \
             deployed.",
        ),
        key(
            "floor",
            "\"1.2.0\"",
            "none",
            "Once a gateway runs this revision it refuses versions below the floor, so that a \
             repaired hole stays repaired. Taking back to the last known good revision is always \
             allowed.",
        ),
    ],
};

/// `[functions.NAME]`
pub const FUNCTION: Table = Table {
    title: "[functions.NAME]",
    about: "One function: its code, its limits and all it is allowed to do. It gets nothing that \
            does not stand here. NAME is formed as the app's name.",
    keys: &[
        key(
            "path",
            "\"functions/smooth\"",
            "\".\"",
            "Folder of its Rust package, relative to `holm.toml`.",
        ),
        key(
            "example",
            "\"smooth\"",
            "none",
            "The example of the package that is the function, instead of its library: one package \
             can hold several functions.",
        ),
        key(
            "wasm",
            "\"smooth.wasm\"",
            "none",
            "A WebAssembly file made elsewhere, instead of `path`: a component of the world \
             `holm:function/function`, or a core module made with the SDK.",
        ),
        key("memory", "size", "16 MiB", "Linear memory of one attempt, {memory}."),
        key("time", "duration", "3 s", "Running time of one attempt, {time}."),
        key(
            "stack",
            "size",
            "64 KiB",
            "Stack that the function is linked with, {stack}. A small one makes fresh sandboxes \
             cheap.",
        ),
        key(
            "state",
            "\"device\", \"function\", \"lane\" or \"none\"",
            "\"device\"",
            "Whose state it is, and with it the order: events of one device are worked on one at a \
             time in order of arrival (`device`), or all events of the function are (`function`), \
             or it has neither state nor order (`none`). With `ordered`, state is kept per lane \
             (`lane`, the default then) or there is none (`none`).",
        ),
        key(
            "ordered",
            "\"topic\", \"topic[2]\", \"body.machine.id\", \"property.NAME\", \"device\" or \
             \"function\"",
            "none",
            "By what events are ordered, instead of by device: events with the same key are in one \
             lane, worked on one at a time in order of arrival, and a failing one holds its lane \
             only. The key is the topic, a level of it (the first is 0), a text, number or truth \
             value in a JSON body (up to 64 KiB; `7`, `7.0` and `\"7\"` are one key) or an MQTT 5 user \
             property; up to 256 bytes. Events without such a key are in a lane of their own, and \
             counted (`keyless` on `status`). Another order means other state: it begins empty, so \
             raise `state_version` with it. It holds for all triggers of the function, because \
             they share its state.",
        ),
        key(
            "state_version",
            "number",
            "1",
            "Version of the state's shape. A revision with another number starts on a copy filled \
             by the function's `migrate`; take-back returns to the old copy.",
        ),
        key("state_bytes", "size", "16 MiB", "State it may keep in all on one gateway, {state}."),
        key(
            "state_write_bytes",
            "size",
            "1 MiB",
            "Keys and values written by one attempt, {state_write}. Each key counts 128 bytes more, \
             in a batch for each event that writes it.",
        ),
        key("publish", "array of topic filters", "[]", "Topics it may publish to."),
        key("publishes", "number", "64", "Publishes of one attempt, {publishes}."),
        key(
            "publish_bytes",
            "size",
            "256 KiB",
            "Topics, payloads and properties published by one attempt, {publish}.",
        ),
        key(
            "record",
            "array of names",
            "[]",
            "Telemetry series it may record for the control plane; `\"*\"` stands for all.",
        ),
        key("records", "number", "64", "Telemetry records of one attempt, {records}."),
        key(
            "record_bytes",
            "size",
            "256 KiB",
            "Names and payloads recorded by one attempt, {record}.",
        ),
        key("log_bytes", "size", "64 KiB", "Text logged by one attempt, {log}."),
        key(
            "concurrency",
            "number",
            "1",
            "Attempts in work at once, in different lanes, {concurrency}. The gateway allows at \
             most a quarter of its workers. What functions want beyond is shared fairly by the \
             time that their attempts take.",
        ),
        key(
            "reserved",
            "number",
            "0",
            "Of its concurrency, workers that the gateway keeps free for it, whatever other \
             functions do. A gateway refuses an app that would leave less than a quarter of its \
             workers, or less than 2, to everybody.",
        ),
        key(
            "pause_after",
            "number",
            "10",
            "So many different events in a row whose attempts fault (trap, time out, break a \
             limit) pause the function, {pause_after}: it starts nothing, the gateway says so and \
             tells the control plane. A rejection or a request to retry is no fault. After \
             the pause one attempt is made; it ends the pause, or the next one is twice as long. \
             `edge-agent functions resume APP/NAME` ends it by hand.",
        ),
        key("pause_min", "duration", "5 s", "The first pause, {pause}."),
        key("pause_max", "duration", "5 min", "The longest pause, {pause}."),
        key(
            "when_full",
            "\"hold\", \"shed-newest\", \"shed-oldest\" or \"latest-per-key\"",
            "\"hold\"",
            "What happens to new events when the function's share of the queue is full: the \
             device's acknowledgement waits up to 10 s, then the event is shed (`hold`); the new \
             event is shed; the oldest waiting one is; or a waiting event of the same lane is \
             replaced. What is shed is counted and goes to the dead letters.",
        ),
        key(
            "config",
            "table",
            "{}",
            "Strings, numbers and booleans that the function reads by name, as text.",
        ),
    ],
};

/// `[records.NAME]`
pub const RECORDS: Table = Table {
    title: "[records.NAME]",
    about: "What becomes of the records of the series NAME on the gateway until the control plane \
            has stored them, above all where the outbox is full (`outbox` in `agent.toml`). Less \
            urgent records make room for more urgent ones, never the other way round. Whatever is \
            dropped is counted by reason and series, and the control plane is told which positions \
            and why. A series without this table has the defaults.",
    keys: &[
        key(
            "priority",
            "\"urgent\", \"normal\" or \"bulk\"",
            "\"normal\"",
            "Which records are sent first, and which make room for which. `urgent` ones stand \
             beside alarms and dead letters. However many urgent records there are, the others get \
             at least one of eight messages to the control plane.",
        ),
        key(
            "ttl",
            "duration",
            "none",
            "Time to live, {ttl} of the gateway's own time: time without power ages nothing. \
             Records that are older are dropped, at the latest a sixteenth of it (1 s to 5 min) \
             later.",
        ),
        key(
            "drop",
            "\"oldest\", \"newest\" or \"latest-per-key\"",
            "\"oldest\"",
            "Who goes in a full outbox where nothing less urgent is left: the oldest records of \
             the priority, or the new record itself. `latest-per-key`: whenever a newer record of \
             the same function, series and device comes, the older one goes; such records have a \
             place of their own behind the urgent ones, for 10,000 series and devices.",
        ),
    ],
};

/// `[[triggers]]`
pub const TRIGGER: Table = Table {
    title: "[[triggers]]",
    about: "What wakes a function. Exactly one of `mqtt` and `schedule`.",
    keys: &[
        key(
            "name",
            "\"readings\"",
            "the function's name, numbered",
            "Formed as the app's name; unique in the app.",
        ),
        key("function", "\"smooth\"", "", "The function it wakes."),
        key(
            "mqtt",
            "array of topic filters",
            "none",
            "Messages on matching topics. A message that matches several filters of a trigger \
             wakes the function once.",
        ),
        key(
            "schedule",
            "\"rate(5 minutes)\" or \"cron(0 6 ? * MON-FRI *)\"",
            "none",
            "Slots in time. `rate` counts seconds, minutes, hours or days of the gateway's own \
             time, which needs no synced clock. `cron` has the six fields of AWS in UTC: minute, \
             hour, day of month, month, day of week, year; one of the two day fields is `?` (the \
             example is 06:00 on working days); it runs only while the gateway's clock is synced.",
        ),
        key(
            "filter",
            "array of patterns",
            "none",
            "Only with `mqtt`: at most {patterns} patterns in the grammar of AWS event patterns, any \
             of which an event must match; others are acknowledged, counted in `edge-agent status` \
             and cost no run. See *Filters* below.",
        ),
        key(
            "batch",
            "table",
            "none",
            "Only with `mqtt`: the function gets several events at once, up to `size` of them; see \
             *Batches* below.",
        ),
        key(
            "missed",
            "\"skip\" or \"once\"",
            "\"skip\"",
            "Only with `schedule`: forget slots missed without power or clock, or run once for \
             all of them.",
        ),
        key(
            "retries",
            "number",
            "2",
            "Attempts after the first, {retries}. Then the event is a dead letter.",
        ),
        key(
            "backoff",
            "array of durations",
            "[\"1 min\", \"2 min\"]",
            "Waits before the retries, at most {backoff} each; the last one repeats.",
        ),
        key(
            "max_age",
            "duration",
            "6 h",
            "Age at which an event is given up, {age}. It counts from admission, while the event waits \
             and while its function is paused. Time without power does not count.",
        ),
        key(
            "max_age_wall",
            "true or false",
            "false",
            "Time without power counts as well, by the wall clock, where that was synced when the event \
             came and is synced now.",
        ),
        key(
            "jitter",
            "\"none\" or \"full\"",
            "\"none\"",
            "`full` draws each wait before a retry evenly between zero and the whole, so that what \
             failed together does not come again together.",
        ),
        key(
            "on_success",
            "table",
            "none",
            "Where it is told that an event is done; see *Destinations* below.",
        ),
        key(
            "on_failure",
            "table",
            "none",
            "Where it is told that an event was given up, in addition to its dead letter.",
        ),
        key(
            "durability",
            "\"prompt\" or \"thrifty\"",
            "\"prompt\"",
            "Only with `mqtt`: `thrifty` lets a device's acknowledgement wait up to 100 ms for \
             company, to spare the gateway's flash.",
        ),
        key(
            "allow_loop",
            "true or false",
            "false",
            "Only with `mqtt`: the function may publish to topics that wake it. An event is given \
             up after 8 hops in any case.",
        ),
    ],
};

/// All tables, in the order of the page.
pub const TABLES: [Table; 8] =
    [APP, FUNCTION, RECORDS, TRIGGER, FIRMWARE, DEVICE_FUNCTION, AGENT, SYSTEM];

/// A complete file: it stands in the reference and is parsed by a test.
pub const EXAMPLE: &str = include_str!("example.toml");
