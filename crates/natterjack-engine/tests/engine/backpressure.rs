//! Consumers that do not keep up: bounded memory, producers slowed, the others not delayed.

use std::time::Duration;

use natterjack_engine::{Access, CloseReason, Limits, STALL_MAX, UNRESPONSIVE_AFTER};

use crate::harness::Harness;

fn batch(count: usize, size: usize) -> Vec<u8> {
    let message = format!("PUB a {size}\r\n{}\r\n", "x".repeat(size));
    message.repeat(count).into_bytes()
}

#[test]
fn what_a_socket_does_not_take_waits_and_keeps_its_order() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let mut subscriber = harness.connect("");
    harness.send(&mut subscriber, b"SUB a 1\r\n");
    subscriber.set_room(100);
    subscriber.wakes();
    let mut stream = String::new();
    let mut expected = String::new();
    for number in 0..500 {
        let payload = format!("{number}").repeat(1 + number % 997 * 9);
        stream.push_str(&format!("PUB a {}\r\n{payload}\r\n", payload.len()));
        expected.push_str(&format!("MSG a 1 {}\r\n{payload}\r\n", payload.len()));
    }
    for chunk in stream.as_bytes().chunks(77_777) {
        harness.send(&mut publisher, chunk);
    }
    assert_eq!(subscriber.wakes(), 1, "one wake for the whole backlog");
    let status = subscriber.session.outbox().status();
    assert!(status.is_blocked);
    assert_eq!(status.pending_bytes, expected.len() - 100);
    let mut got = subscriber.take();
    while subscriber.session.outbox().status().pending_bytes > 0 {
        subscriber.set_room(5_000);
        subscriber.session.outbox().flush_unblocked(harness.now);
        got.push_str(&subscriber.take());
    }
    assert!(got == expected);
}

#[test]
fn a_consumer_beyond_its_bound_is_dropped_and_counted() {
    let limits = Limits {
        pending_bytes_max: 100_000,
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, Access::open());
    let mut publisher = harness.connect("");
    let mut dead = harness.connect("");
    let mut alive = harness.connect("");
    harness.send(&mut dead, b"SUB a 1\r\n");
    harness.send(&mut alive, b"SUB a 1\r\n");
    dead.set_room(0);
    for _ in 0..20 {
        harness.send(&mut publisher, &batch(100, 100));
        assert!(dead.session.outbox().status().pending_bytes <= 100_000 + 64 * 1024);
    }
    assert_eq!(dead.closed(), Some(CloseReason::SlowConsumerPendingBytes));
    assert_eq!(
        dead.session.outbox().status().pending_bytes,
        0,
        "its backlog is gone"
    );
    dead.close();
    let totals = harness.engine.totals();
    let by_limit = (totals.slow_consumers, totals.slow_consumers_overdue.sum());
    assert_eq!(by_limit, (1, 0));
    assert_eq!(alive.take().matches("MSG a 1 100\r\n").count(), 2000);
}

#[test]
fn producers_wait_for_a_consumer_that_reads_but_not_for_ever_for_one_that_does_not() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let mut slow = harness.connect("");
    harness.send(&mut slow, b"SUB a 1\r\n");
    slow.set_room(0);
    let two_mebibytes = batch(2048, 1024);
    harness.send(&mut publisher, &two_mebibytes);
    assert!(harness.is_stalled(&mut publisher));

    // It reads: the producer goes on as soon as the backlog is small again.
    slow.set_room(1_800_000);
    slow.session.outbox().flush_unblocked(harness.now);
    assert!(!harness.is_stalled(&mut publisher));

    // It does not: each wait ends, and after a while nobody waits for it any more.
    let mut waited = Duration::ZERO;
    harness.send(&mut publisher, &two_mebibytes);
    loop {
        if !harness.is_stalled(&mut publisher) {
            break;
        }
        harness.now += STALL_MAX - Duration::from_millis(1);
        assert!(harness.is_stalled(&mut publisher));
        harness.now += Duration::from_millis(1);
        assert!(!harness.is_stalled(&mut publisher), "a wait ends");
        waited += STALL_MAX;
        harness.send(&mut publisher, &batch(64, 1024));
        assert!(waited < UNRESPONSIVE_AFTER * 2, "the waits end");
    }
    assert!(waited >= UNRESPONSIVE_AFTER, "{waited:?}");
    assert_eq!(slow.closed(), None);
}

#[test]
fn a_stalled_producer_goes_on_when_its_slow_consumer_dies() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let mut slow = harness.connect("");
    harness.send(&mut slow, b"SUB a 1\r\n");
    slow.set_room(0);
    harness.send(&mut publisher, &batch(2048, 1024));
    assert!(harness.is_stalled(&mut publisher));
    slow.close();
    assert!(!harness.is_stalled(&mut publisher));
}

#[test]
fn a_socket_that_takes_nothing_for_the_write_deadline_is_closed() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let mut dead = harness.connect("");
    harness.send(&mut dead, b"SUB a 1\r\n");
    dead.set_room(0);
    harness.send(&mut publisher, &batch(1, 10));
    harness.pass(&mut dead, Duration::from_secs(9));
    assert_eq!(dead.closed(), None);
    harness.pass(&mut dead, Duration::from_secs(2));
    assert_eq!(dead.closed(), Some(CloseReason::SlowConsumerWriteDeadline));
    dead.close();
    let totals = harness.engine.totals();
    let by_limit = (totals.slow_consumers, totals.slow_consumers_overdue.sum());
    assert_eq!(by_limit, (1, 1));
}
