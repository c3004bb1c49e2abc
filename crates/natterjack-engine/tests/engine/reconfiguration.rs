//! A configuration that changes while sessions run.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use natterjack_engine::{Access, Adaptation, CloseReason, Limits, Reconfiguration, WriteTimeout};

use crate::harness::{Client, Harness};

fn change(harness: &Harness, change: impl FnOnce(&mut Reconfiguration)) -> Adaptation {
    let mut configuration = harness.engine.configuration();
    change(&mut configuration);
    harness.engine.reconfigure(configuration, harness.now)
}

fn adapt<const N: usize>(harness: &Harness, clients: [&mut Client; N]) {
    for client in clients {
        client.session.adapt(harness.now);
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn who_waits_is_woken_when_all_have_adapted() {
    let mut harness = Harness::new();
    let mut clients = [(); 3].map(|()| harness.connect(""));
    let leaving = harness.connect("");
    for client in &clients {
        client.wakes();
    }
    let adaptation = change(&harness, |new| new.limits.payload_bytes_max = 10);
    let generation = adaptation.generation();
    assert_eq!(adaptation.remaining(), 4);
    assert!(clients.iter().all(|client| client.wakes() > 0));

    let wakes = Arc::<Wakes>::default();
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    let mut adaptation = pin!(adaptation);
    assert!(adaptation.as_mut().poll(&mut context).is_pending());
    for client in &mut clients {
        assert!(!harness.engine.is_adapted(generation));
        client.session.adapt(harness.now);
    }
    assert!(adaptation.as_mut().poll(&mut context).is_pending());
    leaving.close();
    assert!(wakes.0.load(Ordering::Relaxed) > 0);
    assert!(adaptation.as_mut().poll(&mut context).is_ready());
    assert!(harness.engine.is_adapted(generation));
    assert!(!harness.engine.is_adapted(generation + 1));
    // Who comes later goes by it from the start.
    let _later = harness.connect("");
    assert!(harness.engine.is_adapted(generation));
}

#[test]
fn a_session_adapts_before_the_next_batch_at_the_latest() {
    let mut harness = Harness::new();
    let mut client = harness.connect("");
    let _adaptation = change(&harness, |new| new.limits.payload_bytes_max = 4);
    harness.send(&mut client, b"PUB a 5\r\nhello\r\n");
    assert_eq!(client.take(), "-ERR 'Maximum Payload Violation'\r\n");
    assert_eq!(client.closed(), Some(CloseReason::PayloadExceeded));
}

#[test]
fn what_was_on_its_way_is_delivered_under_the_bounds_it_began_with() {
    let small = ("PUB a 100\r\n".to_owned(), "x".repeat(100));
    let large = ("PUB a 200000\r\n".to_owned(), "y".repeat(200_000));
    for (line, payload) in [small, large] {
        let mut harness = Harness::new();
        let mut publisher = harness.connect("");
        let mut subscriber = harness.connect("");
        harness.send(&mut subscriber, b"SUB a 1\r\n");
        let (first, rest) = payload.split_at(50);
        harness.send(&mut publisher, format!("{line}{first}").as_bytes());
        let _adaptation = change(&harness, |new| new.limits.payload_bytes_max = 40);
        adapt(&harness, [&mut publisher, &mut subscriber]);
        for piece in rest.as_bytes().chunks(70_000) {
            harness.send(&mut publisher, piece);
        }
        harness.send(&mut publisher, b"\r\n");
        assert_eq!(publisher.closed(), None, "{}", publisher.take());
        assert!(subscriber.take().ends_with(&format!("{payload}\r\n")));
        harness.send(&mut publisher, b"PUB a 41\r\n");
        assert_eq!(publisher.closed(), Some(CloseReason::PayloadExceeded));
    }
}

#[test]
fn clients_that_listen_hear_what_changed() {
    let mut harness = Harness::new();
    let mut listening = harness.connect(r#""protocol":1"#);
    let mut deaf = harness.connect(r#""protocol":0"#);
    for client in [&mut listening, &mut deaf] {
        harness.send(client, b"PING\r\n");
        client.take();
    }
    let _adaptation = change(&harness, |new| {
        new.limits.payload_bytes_max = 4096;
        new.info.connect_urls = vec!["other:4222".to_owned()];
    });
    adapt(&harness, [&mut listening, &mut deaf]);
    let info = listening.take();
    assert!(info.starts_with("INFO {"), "{info}");
    assert!(info.contains(r#""max_payload":4096"#), "{info}");
    assert!(info.contains(r#""connect_urls":["other:4222"]"#), "{info}");
    assert!(info.contains(r#""client_id":1"#), "{info}");
    assert_eq!(deaf.take(), "");
    // Nothing to tell, nothing told.
    let _adaptation = change(&harness, |new| new.limits.ping_interval /= 2);
    adapt(&harness, [&mut listening, &mut deaf]);
    assert_eq!(listening.take(), "");
}

#[test]
fn surplus_connections_are_told_and_closed_the_latest_first() {
    let mut harness = Harness::new();
    let clients = [(); 5].map(|()| harness.connect(""));
    let adaptation = change(&harness, |new| new.limits.connections_max = 2);
    assert_eq!(adaptation.remaining(), 2);
    for (number, client) in clients.iter().enumerate() {
        let expected = if number < 2 {
            ("", None)
        } else {
            (
                "-ERR 'maximum connections exceeded'\r\n",
                Some(CloseReason::ConnectionsExceeded),
            )
        };
        assert_eq!((client.take().as_str(), client.closed()), expected);
    }
    clients.into_iter().for_each(Client::close);
    let reasons: Vec<_> = harness
        .engine
        .closed_connection_snapshots()
        .iter()
        .filter_map(|closed| closed.stop.map(|stop| stop.reason))
        .collect();
    assert_eq!(reasons.len(), 5);
    assert_eq!(reasons[4], CloseReason::ConnectionsExceeded);
}

#[test]
fn a_shorter_ping_interval_holds_at_once() {
    let mut harness = Harness::new();
    let mut client = harness.open();
    client.take();
    let _adaptation = change(&harness, |new| {
        new.limits.ping_interval = Duration::from_secs(5);
    });
    client.session.adapt(harness.now);
    harness.pass(&mut client, Duration::from_secs(4));
    assert_eq!(client.take(), "");
    harness.pass(&mut client, Duration::from_secs(1));
    assert_eq!(client.take(), "PING\r\n");
    let _adaptation = change(&harness, |new| new.limits.pings_outstanding_max = 0);
    client.session.adapt(harness.now);
    harness.pass(&mut client, Duration::from_secs(5));
    assert_eq!(client.closed(), Some(CloseReason::StaleConnection));
}

#[test]
fn a_shorter_write_deadline_holds_at_once() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let mut slow = harness.connect("");
    harness.send(&mut slow, b"SUB a 1\r\n");
    slow.set_room(0);
    harness.send(&mut publisher, b"PUB a 2\r\nhi\r\n");
    let _adaptation = change(&harness, |new| {
        new.limits.write_deadline = Duration::from_secs(1);
    });
    slow.session.adapt(harness.now);
    harness.pass(&mut slow, Duration::from_millis(999));
    assert_eq!(slow.closed(), None);
    harness.pass(&mut slow, Duration::from_millis(1));
    assert_eq!(slow.closed(), Some(CloseReason::SlowConsumerWriteDeadline));
}

/// A consumer that takes 100 bytes a second of 1,000 that wait, with a deadline of two seconds.
fn is_trickle_closed(write_timeout: WriteTimeout) -> bool {
    let limits = Limits {
        write_timeout,
        write_deadline: Duration::from_secs(2),
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, Access::open());
    let mut publisher = harness.connect("");
    let mut slow = harness.connect("");
    harness.send(&mut slow, b"SUB a 1\r\n");
    slow.set_room(0);
    let message = format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000));
    harness.send(&mut publisher, message.as_bytes());
    for _ in 0..5 {
        slow.set_room(100);
        slow.session.outbox().flush_unblocked(harness.now);
        harness.pass(&mut slow, Duration::from_secs(1));
    }
    slow.closed() == Some(CloseReason::SlowConsumerWriteDeadline)
}

#[test]
fn a_trickle_is_too_slow_only_if_asked() {
    assert!(!is_trickle_closed(WriteTimeout::Default));
    assert!(!is_trickle_closed(WriteTimeout::Retry));
    assert!(is_trickle_closed(WriteTimeout::Close));
}

#[test]
fn without_stalls_messages_to_a_consumer_far_behind_are_dropped() {
    let limits = Limits {
        pending_bytes_max: 100_000,
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, Access::open());
    let mut publisher = harness.connect("");
    let mut slow = harness.connect("");
    let mut alive = harness.connect("");
    harness.send(&mut slow, b"SUB a 1\r\nSUB a q 2\r\n");
    harness.send(&mut alive, b"SUB a 1\r\nSUB a q 2\r\n");
    let _adaptation = change(&harness, |new| new.limits.stall_producers = false);
    adapt(&harness, [&mut publisher, &mut slow, &mut alive]);
    slow.set_room(0);
    let batch = "PUB a 1000\r\n".to_owned() + &"x".repeat(1000) + "\r\n";
    let mut got = String::new();
    for _ in 0..200 {
        harness.send(&mut publisher, batch.as_bytes());
        assert!(!harness.is_stalled(&mut publisher));
        got.push_str(&alive.take());
    }
    assert_eq!(slow.closed(), None);
    let pending_bytes = slow.session.outbox().status().pending_bytes;
    assert!((75_000..80_000).contains(&pending_bytes), "{pending_bytes}");
    assert_eq!(got.matches("MSG a 1 ").count(), 200);
    slow.set_room(usize::MAX);
    slow.session.outbox().flush_unblocked(harness.now);
    let late = slow.take();
    let (plain, grouped) = (
        late.matches("MSG a 1 ").count(),
        late.matches("MSG a 2 ").count(),
    );
    // The group's messages went to its other member instead.
    assert_eq!(got.matches("MSG a 2 ").count() + grouped, 200);
    assert_eq!(
        harness.engine.totals().messages_dropped as usize,
        200 - plain
    );
    harness.send(&mut publisher, batch.as_bytes());
    assert!(slow.take().contains("MSG a 1 "), "it is served again");
}

#[test]
fn one_connection_can_be_closed() {
    let mut harness = Harness::new();
    let first = harness.connect("");
    let second = harness.connect("");
    let id = first.session.outbox().id();
    assert!(harness.engine.close_connection(id, CloseReason::Kicked));
    assert!(!harness.engine.close_connection(id, CloseReason::Kicked));
    assert!(!harness.engine.close_connection(99, CloseReason::Kicked));
    assert_eq!(
        (first.closed(), second.closed()),
        (Some(CloseReason::Kicked), None)
    );
    assert_eq!(first.take(), "", "without a word");
}

#[test]
fn a_larger_bound_on_pending_bytes_saves_who_is_behind() {
    let limits = Limits {
        pending_bytes_max: 10_000,
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, Access::open());
    let mut publisher = harness.connect("");
    let mut slow = harness.connect("");
    harness.send(&mut slow, b"SUB a 1\r\n");
    slow.set_room(0);
    let message = "PUB a 5000\r\n".to_owned() + &"x".repeat(5000) + "\r\n";
    harness.send(&mut publisher, message.as_bytes());
    let _adaptation = change(&harness, |new| new.limits.pending_bytes_max = 100_000);
    slow.session.adapt(harness.now);
    harness.send(&mut publisher, message.repeat(4).as_bytes());
    assert_eq!(slow.closed(), None);
    slow.set_room(usize::MAX);
    slow.session.outbox().flush_unblocked(harness.now);
    assert_eq!(slow.take().matches("MSG a 1 5000").count(), 5);
}
