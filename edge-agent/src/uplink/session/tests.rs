use sync_protocol::id::InstanceId;
use sync_protocol::wire::{Conflicts, Receipt, StreamMark, Welcome};

use super::*;

fn handle(session: &mut Session, input: Input) -> Vec<Effect> {
    let mut effects = Vec::new();
    session.handle(input, Millis(0), &mut effects);
    effects
}

/// Process run of all that these tests wrote.
const EPOCH: u64 = 9;

fn welcome(stored: &[(u8, u64)]) -> Input {
    let mark = |(stream, seq): &(u8, u64)| StreamMark { stream: *stream, seq: *seq, epoch: EPOCH };
    let stored = stored.iter().map(mark);
    Input::Down(Box::new(Down::Welcome(Welcome {
        instance: InstanceId([1; 16]),
        unix_ms: 5,
        stored: stored.collect(),
    })))
}

fn compare(stream: u8, seq: u64) -> Effect {
    Effect::Compare { stream, seq, epoch: EPOCH }
}

#[test]
fn records_wait_for_the_welcome_and_urgent_streams_go_first() {
    let mut session = Session::new([0, 1], None);
    assert!(handle(&mut session, Input::Durable { stream: 1, seq: 9 }).is_empty());
    assert_eq!(handle(&mut session, Input::Connected), [Effect::SayHello]);
    assert!(handle(&mut session, Input::Durable { stream: 0, seq: 3 }).is_empty());
    let effects = handle(&mut session, welcome(&[(0, 1), (1, 0)]));
    assert_eq!(effects, [Effect::Time(5), compare(0, 1)]);
    let effects = handle(&mut session, Input::Compared { stream: 0, ours: true });
    let run = Effect::SendRun { stream: 0, from: 2, to: 3 };
    assert_eq!(effects, [Effect::Receipt { stream: 0, seq: 1 }, run]);
    let mut effects = Vec::new();
    session.sent(0, Some(3), Millis(0), &mut effects);
    assert_eq!(effects, [Effect::SendRun { stream: 1, from: 1, to: 9 }]);
}

/// A claim that is settled while a run of another stream is open asks for no second one.
#[test]
fn one_run_at_a_time() {
    let mut session = Session::new([0, 1], None);
    handle(&mut session, Input::Durable { stream: 0, seq: 3 });
    handle(&mut session, Input::Durable { stream: 1, seq: 9 });
    handle(&mut session, Input::Connected);
    assert_eq!(handle(&mut session, welcome(&[(0, 3)])), [Effect::Time(5), compare(0, 3)]);
    let effects = handle(&mut session, Input::Compared { stream: 0, ours: true });
    let run = Effect::SendRun { stream: 1, from: 1, to: 9 };
    assert_eq!(effects, [Effect::Receipt { stream: 0, seq: 3 }, run]);
    assert_eq!(handle(&mut session, Input::Tick), [], "it is open");
    assert_eq!(handle(&mut session, Input::Durable { stream: 0, seq: 4 }), [], "it is open");
    let mut effects = Vec::new();
    session.sent(1, Some(5), Millis(0), &mut effects);
    assert_eq!(effects, [Effect::SendRun { stream: 0, from: 4, to: 4 }], "urgent ones go first");
}

/// A store that cannot be read says nothing of what is left in it.
#[test]
fn a_run_that_cannot_be_read_is_asked_for_again() {
    let mut session = Session::new([1], None);
    handle(&mut session, Input::Durable { stream: 1, seq: 9 });
    handle(&mut session, Input::Connected);
    let run = || Effect::SendRun { stream: 1, from: 1, to: 9 };
    assert_eq!(handle(&mut session, welcome(&[])), [Effect::Time(5), run()]);
    let mut effects = Vec::new();
    session.not_read(1, Millis(0), &mut effects);
    assert_eq!(effects, []);
    let due = session.deadline().expect("it is tried again without help");
    session.handle(Input::Tick, due, &mut effects);
    assert_eq!(effects, [run()]);
}

#[test]
fn a_new_connection_sends_everything_unreceipted_again() {
    let mut session = Session::new([1], None);
    handle(&mut session, Input::Durable { stream: 1, seq: 9 });
    handle(&mut session, Input::Connected);
    handle(&mut session, welcome(&[]));
    session.sent(1, Some(9), Millis(0), &mut Vec::new());
    handle(&mut session, Input::Down(Box::new(Down::Receipt(Receipt { stream: 1, seq: 4 }))));
    handle(&mut session, Input::Disconnected);
    assert!(handle(&mut session, Input::Durable { stream: 1, seq: 10 }).is_empty());
    handle(&mut session, Input::Connected);
    let effects = handle(&mut session, welcome(&[(1, 6)]));
    assert_eq!(effects, [Effect::Time(5), compare(1, 6)]);
    let effects = handle(&mut session, Input::Compared { stream: 1, ours: true });
    assert!(effects.contains(&Effect::SendRun { stream: 1, from: 7, to: 10 }), "{effects:?}");
}

/// The store is an older copy: the control plane holds 1 to 7, here are 3 to 5.
#[test]
fn positions_of_another_life_are_sent_one_by_one_and_then_gone_on_after() {
    let mut session = Session::new([1], None);
    handle(&mut session, Input::Stored { stream: 1, seq: 2 });
    handle(&mut session, Input::Durable { stream: 1, seq: 5 });
    handle(&mut session, Input::Connected);
    let effects = handle(&mut session, welcome(&[(1, 7)]));
    assert_eq!(effects, [Effect::Time(5), compare(1, 7), Effect::GoOnAfter { stream: 1, seq: 7 }]);
    let effects = handle(&mut session, Input::Compared { stream: 1, ours: false });
    assert_eq!(effects, [Effect::SendRun { stream: 1, from: 3, to: 5 }]);
    let mut effects = Vec::new();
    session.sent(1, Some(4), Millis(0), &mut effects);
    assert_eq!(effects, [], "the next waits for the receipt of this one");
    let receipt = || Input::Down(Box::new(Down::Receipt(Receipt { stream: 1, seq: 7 })));
    let effects = handle(&mut session, receipt());
    let run = Effect::SendRun { stream: 1, from: 5, to: 5 };
    assert_eq!(effects, [Effect::Receipt { stream: 1, seq: 4 }, run]);
    session.sent(1, Some(5), Millis(0), &mut Vec::new());
    let due = session.deadline().expect("waiting for a receipt");
    let mut effects = Vec::new();
    session.handle(Input::Tick, due, &mut effects);
    assert!(matches!(effects[..], [Effect::GiveUp(_)]), "{effects:?}");
    assert!(!session.is_up());
}

#[test]
fn hello_is_repeated_until_it_is_answered() {
    let mut session = Session::new([1], None);
    handle(&mut session, Input::Connected);
    let mut effects = Vec::new();
    let due = session.deadline().expect("waiting");
    session.handle(Input::Tick, due, &mut effects);
    assert_eq!(effects, [Effect::SayHello]);
    assert!(!session.is_up());
}

/// The answer tells the time and nothing of positions: what is under way goes on.
#[test]
fn a_link_that_stays_up_says_hello_again_every_six_hours() {
    let mut session = Session::new([1], None);
    handle(&mut session, Input::Connected);
    handle(&mut session, welcome(&[(1, 0)]));
    for nth in 1..=3 {
        let due = Millis(nth * 6 * 3_600_000);
        assert_eq!(session.deadline(), Some(due), "nothing else is waited for");
        let mut effects = Vec::new();
        session.handle(Input::Tick, Millis(due.0 - 1), &mut effects);
        assert_eq!(effects, [], "not yet");
        session.handle(Input::Tick, due, &mut effects);
        assert_eq!(effects, [Effect::SayHello]);
        assert!(session.is_up(), "records flow meanwhile");
        effects.clear();
        session.handle(Input::Tick, due, &mut effects);
        assert_eq!(effects, [], "once");
        if nth < 3 {
            session.handle(welcome(&[(1, 7)]), due, &mut effects);
            assert_eq!(effects, [Effect::Time(5)], "nothing of positions");
        }
    }
    let mut effects = Vec::new();
    session.handle(Input::Tick, Millis(24 * 3_600_000), &mut effects);
    assert_eq!(effects, [Effect::SayHello], "also where the answer was lost");
}

#[test]
fn a_stream_nobody_named_is_ignored() {
    let mut session = Session::new([1], None);
    handle(&mut session, Input::Connected);
    let effects = handle(&mut session, welcome(&[(7, 100)]));
    assert_eq!(effects, [Effect::Time(5)]);
}

/// A rate holds back records and nothing else; what waits goes without help once it may.
#[test]
fn a_rate_holds_back_records_only() {
    let rate = Rate { bytes_per_s: 1_000, burst_bytes: 2_000 };
    let mut session = Session::new([0, 1], Some(rate));
    handle(&mut session, Input::Durable { stream: 1, seq: 9 });
    handle(&mut session, Input::Connected);
    let run = |from| Effect::SendRun { stream: 1, from, to: 9 };
    assert_eq!(handle(&mut session, welcome(&[])), [Effect::Time(5), run(1)]);
    assert_eq!(session.run_bytes_max(Millis(0)), 2_000);
    session.spent(2_500);
    let mut effects = Vec::new();
    session.sent(1, Some(4), Millis(0), &mut effects);
    assert_eq!(effects, [], "the burst is used up");
    let fetch = Input::Fetch { digest: Digest([7; 32]), have: 0, bytes_max: 100 };
    assert!(matches!(handle(&mut session, fetch)[..], [Effect::Publish(Up::ChunkRequest(_))]));
    handle(&mut session, Input::CancelFetch);
    let due = session.deadline().expect("it goes on by itself");
    assert_eq!(due, Millis(2_500));
    session.handle(Input::Tick, due, &mut effects);
    assert_eq!(effects, [run(5)]);
}

/// What the control plane did not take goes again before its receipt deletes it here.
#[test]
fn what_conflicts_is_renumbered_before_it_is_receipted() {
    let mut session = Session::new([1], None);
    handle(&mut session, Input::Durable { stream: 1, seq: 5 });
    handle(&mut session, Input::Connected);
    handle(&mut session, welcome(&[]));
    session.sent(1, Some(5), Millis(0), &mut Vec::new());
    let conflicts = Conflicts { stream: 1, seq: 5, positions: vec![2, 4] };
    let effects = handle(&mut session, Input::Down(Box::new(Down::Conflicts(conflicts))));
    let renumber = Effect::Renumber { stream: 1, positions: vec![2, 4] };
    assert_eq!(effects, [renumber, Effect::Receipt { stream: 1, seq: 5 }]);
}

#[test]
fn a_gap_where_there_was_a_receipt_is_told() {
    let mut session = Session::new([1, 2], None);
    handle(&mut session, Input::Stored { stream: 1, seq: 40 });
    handle(&mut session, Input::Connected);
    let mark = |stream, seq| StreamMark { stream, seq, epoch: 0 };
    let stored = vec![mark(1, 40), mark(2, 0)];
    let welcome = Welcome { instance: InstanceId([1; 16]), unix_ms: 5, stored };
    let effects = handle(&mut session, Input::Down(Box::new(Down::Welcome(welcome))));
    assert_eq!(effects, [Effect::Time(5), Effect::Gap { stream: 1, seq: 40 }]);
}
