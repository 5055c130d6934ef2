//! Each rule of its own.

use super::*;

#[test]
fn a_refused_device_says_so_and_asks_again() {
    let mut sender = Sender::new(None, 1, 1);
    let mut gate: Gate = Station::new(StationConfig { address: None, timing: TIMING, seed: 2 });
    let (mut dice, mut deframer) = (Dice(0), Deframer::default());
    let mut hellos = 0;
    for now in (0..25_000).step_by(10) {
        for byte in flush(|out| sender.end.transmit(now, out), &mut dice, 0) {
            if let Some(Ok((header, payload))) = deframer.push(byte)
                && let Heard::Hello(_) = gate.frame(&header, payload, now)
            {
                hellos += 1;
                gate.refuse(Refusal::Credential);
            }
        }
        let down = flush(|out| gate.transmit(now, out), &mut dice, 0);
        sender.end.receive(&down, now);
        if now == 10 {
            assert_eq!(sender.end.state(), State::Refused(Refusal::Credential));
        }
    }
    assert!((3..=4).contains(&hellos), "every ten seconds and once for the discovery: {hellos}");
}

#[test]
fn a_full_gateway_gives_no_credit_and_the_device_waits() {
    let mut sender = Sender::new(None, 20, 1);
    let mut receiver = Receiver::new(None, 0, 2);
    connect(&mut sender, &mut receiver);
    let (mut dice, mut deframer) = (Dice(0), Deframer::default());
    for now in (10..5_000).step_by(10) {
        sender.fill();
        for byte in flush(|out| sender.end.transmit(now, out), &mut dice, 0) {
            if let Some(Ok((header, payload))) = deframer.push(byte) {
                receiver.frame(&header, payload, now);
            }
        }
        receiver.gate.hold(receiver.unanswered.len() > 3);
        let down = flush(|out| receiver.gate.transmit(now, out), &mut dice, 0);
        sender.receive(&down, &receiver.disk, now);
    }
    assert!(receiver.unanswered.len() <= 4 + 4, "{}", receiver.unanswered.len());
    assert_eq!((sender.queue.len(), sender.end.state()), (20, State::Up), "and nothing is lost");
}

/// Both ends of a shared bus with a link; what the gateway says to give the turn.
fn on_a_bus(sender: &mut Sender, receiver: &mut Receiver, now: u64) -> Vec<u8> {
    let (mut dice, mut deframer) = (Dice(0), Deframer::default());
    for now in now..now + 4 {
        receiver.gate.begin_turn(now);
        let down = flush(|out| receiver.gate.transmit(now, out), &mut dice, 0);
        sender.receive(&down, &receiver.disk, now);
        for byte in flush(|out| sender.end.transmit(now, out), &mut dice, 0) {
            if let Some(Ok((header, payload))) = deframer.push(byte) {
                receiver.frame(&header, payload, now);
            }
        }
    }
    assert_eq!(sender.end.state(), State::Up);
    receiver.gate.begin_turn(now + 4);
    flush(|out| receiver.gate.transmit(now + 4, out), &mut dice, 0)
}

#[test]
fn a_device_that_is_late_lets_its_turn_pass() {
    let half = u64::from(TIMING.turn_ms / 2);
    for (late_ms, speaks) in [(0, true), (half, true), (half + 1, false), (10 * half, false)] {
        let mut sender = Sender::new(Some(1), 3, 1);
        let mut receiver = Receiver::new(Some(1), 0, 2);
        let turn = on_a_bus(&mut sender, &mut receiver, 0);
        sender.receive(&turn, &receiver.disk, 100);
        let mut out = [0; WIRE_MAX];
        assert_eq!(sender.end.transmit(100 + late_ms, &mut out) > 0, speaks, "{late_ms} ms");
        if !speaks {
            assert_eq!(sender.end.transmit(100, &mut out), 0, "it is over");
            receiver.gate.begin_turn(900);
            let mut dice = Dice(0);
            let turn = flush(|out| receiver.gate.transmit(900, out), &mut dice, 0);
            sender.receive(&turn, &receiver.disk, 900);
            assert!(sender.end.transmit(900, &mut out) > 0, "the next turn is good again");
        }
    }
}

#[test]
fn a_hello_that_is_late_is_not_said() {
    let mut sender = Sender::new(Some(1), 0, 1);
    let mut receiver = Receiver::new(Some(1), 0, 2);
    let (mut out, mut dice) = ([0; WIRE_MAX], Dice(0));
    for (now, late_ms, speaks) in [(0, u64::from(TIMING.turn_ms), false), (1_000, 1, true)] {
        receiver.gate.begin_turn(now);
        let asked = flush(|out| receiver.gate.transmit(now, out), &mut dice, 0);
        sender.receive(&asked, &receiver.disk, now);
        assert_eq!(sender.end.transmit(now + late_ms, &mut out) > 0, speaks);
    }
}

/// A frame takes longer on the line than a turn may wait for its first.
#[test]
fn a_turn_of_long_frames_is_used_to_its_end() {
    let mut sender = Sender::new(Some(1), 0, 1);
    let mut receiver = Receiver::new(Some(1), 0, 2);
    let turn = on_a_bus(&mut sender, &mut receiver, 0);
    let (envelope, mut out) = ([7; 1_000], [0; WIRE_MAX]);
    let publish = FromDevice::Publish { id: 1, topic: "t", envelope: &envelope };
    sender.end.send(&publish).unwrap();
    sender.receive(&turn, &receiver.disk, 100);
    let frame_ms = u64::from(TIMING.turn_ms) - 20;
    let frames = (0..8).filter(|n| sender.end.transmit(100 + n * frame_ms, &mut out) > 0).count();
    assert_eq!(frames, 4);
}

#[test]
fn a_credential_is_not_in_what_is_printed() {
    let config = DeviceConfig {
        address: None,
        name: "press",
        credential: &[201, 202],
        timing: TIMING,
        seed: 203,
    };
    let (config, device) = (format!("{config:?}"), format!("{:?}", End::new(config)));
    for text in [config, device] {
        assert!(text.contains("press"), "{text}");
        assert!(!text.contains("201, 202"), "{text}");
    }
}
