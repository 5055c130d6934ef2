use edge_core::id::FunctionId;
use edge_core::status::AppStatus;

use super::*;

fn function(name: &str) -> FunctionStatus {
    FunctionStatus {
        function: FunctionId::new(name),
        jobs: 0,
        bytes: 0,
        running: 0,
        oldest_ms: None,
        faults_in_row: 0,
        paused_ms: None,
        dormant: false,
        probing: false,
        concurrency: 1,
        reserved: 0,
        worker_us: 0,
        batches: 0,
        bisected: 0,
    }
}

#[test]
fn the_queue_is_as_old_as_its_oldest_event() {
    let functions = [None, Some(Millis(5)), Some(Millis(9)), Some(Millis(2))];
    let functions = functions.map(|oldest_ms| FunctionStatus { oldest_ms, ..function("a/f") });
    let core = Status { functions: functions.to_vec(), ..Status::default() };
    assert_eq!(queue(&core)["oldest_age_ms"], 9);
    assert_eq!(queue(&Status::default())["oldest_age_ms"], Value::Null);
}

#[test]
fn only_functions_that_were_given_batches_tell_of_them() {
    let given = FunctionStatus { batches: 9, bisected: 2, ..function("a/g") };
    let core = Status { functions: vec![function("a/f"), given], ..Status::default() };
    assert_eq!(batches(&core), json!([{ "function": "a/g", "batches": 9, "halved": 2 }]));
}

#[test]
fn an_age_is_by_the_wall_clock_and_never_negative() {
    let at = |unix_ms| WallTime { unix_ms, quality: ClockQuality::Synced };
    assert_eq!(age(at(100), at(350)), Some(Millis(250)));
    assert_eq!(age(at(350), at(100)), None, "the clock was set back");
}

#[test]
fn each_reason_is_a_sentence() {
    assert!(core_reasons(&Status::default()).is_empty());
    let paused = FunctionStatus {
        jobs: 7,
        faults_in_row: 5,
        paused_ms: Some(Millis(1_500)),
        ..function("a/f")
    };
    let core = Status {
        held: 3,
        functions: vec![paused, FunctionStatus { jobs: 2, dormant: true, ..function("a/g") }],
        apps: vec![AppStatus {
            app: "a".to_owned(),
            revision: "00".to_owned(),
            on_probation: true,
            stopped: Some("its revision failed"),
        }],
        ..Status::default()
    };
    assert_eq!(
        core_reasons(&core),
        [
            "3 messages wait for their acks: the queue of a function is full",
            "a/f is paused after 5 faults in a row, for 2 s yet; 7 wait; `edge-agent functions \
             resume a/f` ends it",
            "a/g is not deployed; 2 events wait for it",
            "a starts nothing: its revision failed",
        ]
    );
}

#[test]
fn drops_are_named_by_their_reason() {
    let core = Counters { shed_oldest: 4, outbox_dropped: 256, ..Counters::default() };
    let drops = drops(&core, |reason| u64::from(reason == BrokerDrop::SlowConsumer));
    assert_eq!(drops["queue_oldest"], 4);
    assert_eq!(drops["outbox_full"], 256);
    assert_eq!(drops["client_slow"], 1);
    let sum: u64 = drops.as_object().expect("a table").values().filter_map(Value::as_u64).sum();
    assert_eq!(sum, 261);
}
