use super::*;

fn row(contender: Contender, load: Load, per_s: f64) -> Row {
    Row {
        round: 1,
        contender,
        load: load.name,
        seconds: 30.0,
        sent: 100,
        acked: 100,
        expected: 90,
        received: 90,
        lost: 0,
        lost_ids: Vec::new(),
        repeated: 0,
        strange: 0,
        per_s,
        p50_ms: 1.0,
        p99_ms: 2.0,
        cpu_ms_per_1000: 100.0,
        pss_kib: 9_000,
        kernel_bytes_per_message: 0.0,
        disk_bytes_per_message: (contender == Contender::Holm).then_some(300.0),
        syncs: (contender == Contender::Holm).then_some(10),
    }
}

fn summary(rows: Vec<Row>) -> Summary {
    let machine = Machine {
        round: 1,
        load_average: 0.1,
        syncs_per_s: 1_000.0,
        idle_pss_kib: 9 << 10,
        turn_p99_us: 6_000,
        turn_longest_us: 9_000,
    };
    Summary::new("ext4 on /dev/x".to_owned(), 30, vec![machine], rows)
}

#[test]
fn targets_are_met_or_missed_by_their_figure() {
    let rows = |own| vec![row(Contender::Holm, WIDE, own), row(Contender::Native, WIDE, 18_000.0)];
    let text = |own| summary(rows(own)).verdicts().join("\n");
    assert!(text(10_000.0).contains("ok     100 x 50: 10000/s durable is 0.56x"));
    let slow = text(8_000.0);
    assert!(slow.contains("MISSED 100 x 50: 8000/s durable is 0.44x"), "{slow}");
    assert!(slow.contains("MISSED 100 x 50: 8000/s durable (wanted: 10000/s"), "{slow}");
    assert!(slow.contains("MISSED turns of the agent's loop: 99 of 100 within 6.00 ms"), "{slow}");
    assert!(summary(rows(8_000.0)).is_sound(), "a missed speed is no failure");
}

#[test]
fn a_change_is_measured_against_the_build_before() {
    let rows = |own| vec![row(Contender::Holm, WIDE, own), row(Contender::Before, WIDE, 10_000.0)];
    let text = |own| summary(rows(own)).verdicts().join("\n");
    assert!(text(9_100.0).contains("ok     100 x 50: 0.91x the throughput before"));
    assert!(text(8_900.0).contains("MISSED 100 x 50: 0.89x the throughput before"));
}

#[test]
fn a_slow_disk_lowers_what_is_wanted() {
    let mut summary =
        summary(vec![row(Contender::Holm, NARROW, 900.0), row(Contender::Native, NARROW, 1_000.0)]);
    summary.machines[0].syncs_per_s = 10.0;
    let text = summary.verdicts().join("\n");
    assert!(text.contains("ok     100 x 1: 900/s durable (wanted: 800/s"), "{text}");
}

#[test]
fn a_lost_message_and_a_load_without_syncs_are_failures() {
    let mut lost = row(Contender::Holm, WIDE, 1.0);
    lost.lost = 1;
    assert!(!summary(vec![lost]).is_sound());
    let mut wrong = row(Contender::Native, WIDE, 1.0);
    wrong.strange = 1;
    assert!(!summary(vec![row(Contender::Holm, WIDE, 1.0), wrong]).is_sound());
    let mut unsynced = row(Contender::Holm, NARROW, 1.0);
    unsynced.syncs = Some(0);
    let rows = vec![row(Contender::Holm, WIDE, 1.0), unsynced];
    let summary = summary(rows);
    assert!(!summary.is_sound());
    assert!(summary.verdicts().join("\n").contains("FAILED syncs seen"));
}
