//! What can be known of connections, subscriptions, accounts and the server.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use natterjack_engine::{
    Access, ClientSession, CloseReason, ConnectionKind, ConnectionSnapshot, IndexCounters, Limits,
    Outbox, PeerCertificate, SubscriptionFilter, TlsFacts,
};

use parking_lot::Mutex;

use crate::harness::{Client, Harness};

fn snapshot(harness: &Harness, client: &Client) -> ConnectionSnapshot {
    let id = client.session.outbox().id();
    let found = harness.engine.connection_snapshot(id);
    found.expect("the connection is open")
}

/// Subscriptions as `subject queue sid delivered/max @connection`, sorted.
fn subscriptions(harness: &Harness, filter: SubscriptionFilter<'_>) -> Vec<String> {
    let mut found = Vec::new();
    harness.engine.for_each_subscription(filter, |held| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        found.push(format!(
            "{} {} {} {} {}/{} @{}",
            held.account,
            text(held.subject),
            held.queue.map_or_else(|| "-".to_owned(), text),
            text(held.sid),
            held.delivered,
            held.max.unwrap_or(0),
            held.connection
        ));
    });
    found.sort();
    found
}

#[test]
fn whoever_hears_of_something_finds_it_counted() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let mut subscriber = harness.connect("");
    harness.send(&mut subscriber, b"SUB a 1\r\n");
    let seen = Arc::<Mutex<Vec<_>>>::default();
    for client in [&publisher, &subscriber] {
        let (engine, seen) = (Arc::clone(&harness.engine), Arc::clone(&seen));
        let id = publisher.session.outbox().id();
        client.peer.watch(move || {
            let totals = engine.totals();
            let publisher = engine.connection_snapshot(id).expect("it is open");
            let counted = (totals.messages_in, totals.messages_out);
            seen.lock().push((counted, publisher.messages_in));
        });
    }
    let batch = b"PUB a 2\r\nhi\r\nPUB b 2\r\nhi\r\nPING\r\n";
    harness.send(&mut publisher, batch);
    // The message, and the answer to PING.
    assert_eq!(*seen.lock(), [((2, 1), 2); 2]);
}

#[test]
fn a_connection_tells_who_it_is_and_what_it_did() {
    let mut harness = Harness::new();
    let started = harness.now;
    let mut client =
        harness.connect(r#""name":"n","lang":"rust","version":"1.2","auth_token":"secret""#);
    let facts = snapshot(&harness, &client).client;
    let texts = [&facts.name, &facts.language, &facts.version].map(|text| &**text);
    assert_eq!(texts, ["n", "rust", "1.2"]);
    assert_eq!(&*facts.account, "$G");
    assert_eq!(facts.user.as_deref(), Some("[REDACTED]"));
    assert!(!format!("{facts:?}").contains("secret"));

    harness.now += Duration::from_secs(3);
    harness.send(&mut client, b"SUB a 1\r\nSUB b 2\r\nPUB a 5\r\nhello\r\n");
    let found = snapshot(&harness, &client);
    assert_eq!(found.kind, ConnectionKind::InProcess);
    assert_eq!((found.address, found.stop), (None, None));
    assert_eq!(found.started, started);
    assert_eq!(found.last_activity, started + Duration::from_secs(3));
    assert_eq!((found.messages_in, found.bytes_in), (1, 5));
    assert_eq!((found.messages_out, found.bytes_out), (1, 5));
    assert_eq!((found.subscriptions, found.pending_bytes), (2, 0));
    // No time has passed before CONNECT, and it is the first estimate.
    let shortest = Some(Duration::from_nanos(1));
    assert_eq!((found.round_trip, found.stalls), (shortest, 0));
}

#[test]
fn being_sent_a_message_is_activity_and_a_ping_is_none() {
    let mut harness = Harness::new();
    let mut subscriber = harness.connect("");
    let mut publisher = harness.connect("");
    harness.send(&mut subscriber, b"SUB a 1\r\nSUB b 2\r\nUNSUB 2 1\r\n");
    for subject in ["a", "b"] {
        harness.now += Duration::from_secs(1);
        let message = format!("PUB {subject} 1\r\nx\r\n");
        harness.send(&mut publisher, message.as_bytes());
        assert_eq!(snapshot(&harness, &subscriber).last_activity, harness.now);
    }
    let active = harness.now;
    harness.pass(&mut subscriber, Duration::from_secs(2));
    assert!(subscriber.take().contains("PING"));
    harness.now += Duration::from_millis(7);
    harness.send(&mut subscriber, b"PONG\r\n");
    let found = snapshot(&harness, &subscriber);
    assert_eq!(found.last_activity, active);
    assert!(
        found
            .round_trip
            .is_some_and(|time| time >= Duration::from_millis(7))
    );
}

#[test]
fn a_subscription_that_got_all_it_wanted_is_not_counted() {
    let mut harness = Harness::new();
    let mut subscriber = harness.connect("");
    let mut publisher = harness.connect("");
    harness.send(&mut subscriber, b"SUB a 1\r\nUNSUB 1 1\r\nSUB b 2\r\n");
    assert_eq!(snapshot(&harness, &subscriber).subscriptions, 2);
    harness.send(&mut publisher, b"PUB a 0\r\n\r\n");
    assert_eq!(snapshot(&harness, &subscriber).subscriptions, 1);
    harness.send(&mut subscriber, b"PING\r\n");
    assert_eq!(snapshot(&harness, &subscriber).subscriptions, 1);
}

#[test]
fn a_backlog_and_those_it_holds_back_are_seen() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let mut slow = harness.connect("");
    harness.send(&mut slow, b"SUB a 1\r\n");
    slow.set_room(0);
    let message = format!("PUB a 500000\r\n{}\r\n", "x".repeat(500_000));
    for _ in 0..3 {
        harness.send(&mut publisher, message.as_bytes());
    }
    let found = snapshot(&harness, &slow);
    assert!(found.pending_bytes > 1_500_000, "{}", found.pending_bytes);
    assert!(found.stalls > 0);
    assert_eq!(snapshot(&harness, &publisher).stalls, 0);
    assert_eq!(harness.engine.totals().stalls, found.stalls);
}

#[test]
fn tls_is_shown_once_it_is_there() {
    let mut harness = Harness::new();
    let mut client = harness.open();
    let facts = TlsFacts {
        version: "1.3".to_owned(),
        cipher_suite: "TLS_AES_128_GCM_SHA256".to_owned(),
        is_first: true,
        peer_certificates: vec![PeerCertificate::default()],
    };
    client.session.set_tls(facts.clone());
    harness.send(&mut client, b"CONNECT {\"name\":\"n\"}\r\n");
    let found = snapshot(&harness, &client).client;
    assert_eq!((&*found.name, found.tls.as_deref()), ("n", Some(&facts)));
}

#[test]
fn the_connections_that_ended_last_are_remembered() {
    let limits = Limits {
        closed_connections_max: 3,
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, Access::open());
    for number in 0..5 {
        let mut client = harness.connect(&format!("\"name\":\"{number}\""));
        harness.send(&mut client, b"SUB a 1\r\nPUB a 2\r\nhi\r\n");
        harness.now += Duration::from_secs(10);
        client.session.adapt(harness.now);
        client.close();
    }
    let closed = harness.engine.closed_connection_snapshots();
    let names: Vec<&str> = closed.iter().map(|ended| &*ended.client.name).collect();
    assert_eq!(names, ["2", "3", "4"]);
    let last = &closed[2];
    let stop = last.stop.expect("it ended");
    assert_eq!(
        (stop.at, stop.reason),
        (harness.now, CloseReason::ClientClosed)
    );
    assert_eq!(
        (last.subscriptions, last.messages_in, last.messages_out),
        (1, 1, 1)
    );
    assert_eq!(harness.engine.connection_snapshots().count(), 0);
    assert_eq!(harness.engine.totals().connections, 5);

    let mut less = harness.engine.configuration();
    less.limits.closed_connections_max = 1;
    drop(harness.engine.reconfigure(less, harness.now));
    assert_eq!(harness.engine.closed_connections(), 1);
}

#[test]
fn who_did_not_get_in_is_remembered_too() {
    let mut harness = Harness::with(Limits::default(), Access::user("u", "right"));
    let mut client = harness.open();
    harness.send(
        &mut client,
        br#"CONNECT {"user":"u","pass":"wrong","name":"n"}"#,
    );
    harness.send(&mut client, b"\r\n");
    client.close();
    let closed = harness.engine.closed_connection_snapshots();
    let facts = &closed[0].client;
    assert_eq!(
        (facts.user.as_deref(), &*facts.name, &*facts.account),
        (Some("u"), "n", "$G")
    );
    let reason = closed[0].stop.map(|stop| stop.reason);
    assert_eq!(reason, Some(CloseReason::AuthenticationViolation));
}

#[test]
fn long_names_are_cut_when_they_are_only_remembered() {
    let mut harness = Harness::new();
    let name = "é".repeat(1000);
    let client = harness.connect(&format!("\"name\":\"{name}\""));
    assert_eq!(*snapshot(&harness, &client).client.name, name);
    client.close();
    let closed = harness.engine.closed_connection_snapshots();
    assert_eq!(*closed[0].client.name, *"é".repeat(128));
}

#[test]
fn each_fault_has_the_reason_nats_server_gives() {
    let limits = Limits {
        payload_bytes_max: 50,
        control_line_bytes_max: 256,
        ..Limits::default()
    };
    let long = format!("SUB {} 1\r\n", "a".repeat(300));
    let cases: [(&[u8], &str); 8] = [
        (b"FOO\r\n", "Protocol Violation"),
        (b"PUB a x\r\n", "Protocol Violation"),
        (b"HPUB a 2 4\r\n", "Protocol Violation"),
        (b"PUB a 100\r\n", "Maximum Message Payload Exceeded"),
        (long.as_bytes(), "Maximum Control Line Exceeded"),
        (b"-ERR 'x'\r\n", "Parse Error"),
        (
            b"CONNECT {\"protocol\":9}\r\n",
            "Bad Client Protocol Version",
        ),
        (
            b"CONNECT {\"no_responders\":true,\"headers\":false}\r\n",
            "No Responders Requires Headers",
        ),
    ];
    for (input, expected) in cases {
        let mut harness = Harness::with(limits.clone(), Access::open());
        let mut client = harness.connect("");
        harness.send(&mut client, input);
        assert_eq!(client.closed().map(CloseReason::text), Some(expected));
    }
}

#[test]
fn subscriptions_are_listed_for_all_one_account_or_some_connections() {
    let mut harness = Harness::new();
    let mut first = harness.connect("");
    let mut second = harness.connect("");
    harness.send(&mut first, b"SUB a 1\r\nSUB b.* q 2\r\nUNSUB 2 5\r\n");
    harness.send(&mut second, b"SUB > 9\r\nPUB b.c 0\r\n\r\n");
    let of_first = ["$G a - 1 0/0 @1", "$G b.* q 2 1/5 @1"];
    assert_eq!(
        subscriptions(&harness, SubscriptionFilter::default()),
        ["$G > - 9 1/0 @2", of_first[0], of_first[1]]
    );
    let wanted = HashSet::from([first.session.outbox().id()]);
    let filter = SubscriptionFilter {
        connections: Some(&wanted),
        ..SubscriptionFilter::default()
    };
    assert_eq!(subscriptions(&harness, filter), of_first);
    let elsewhere = SubscriptionFilter {
        account: Some("A"),
        ..SubscriptionFilter::default()
    };
    assert_eq!(subscriptions(&harness, elsewhere), [""; 0]);
}

#[test]
fn accounts_and_their_indexes_are_counted() {
    let mut harness = Harness::new();
    let mut first = harness.connect("");
    let mut second = harness.connect("");
    harness.connect("").close();
    harness.send(
        &mut first,
        b"SUB a 1\r\nSUB a q 2\r\nSUB b 3\r\nUNSUB 3\r\n",
    );
    for _ in 0..3 {
        harness.send(&mut second, b"PUB a 2\r\nhi\r\n");
    }
    let accounts = harness.engine.account_snapshots();
    let names: Vec<&str> = accounts.iter().map(|account| &*account.name).collect();
    assert_eq!(names, ["$G", "$SYS"]);
    let global = &accounts[0];
    assert_eq!((global.connections, global.connections_total), (2, 3));
    assert_eq!((global.messages_in, global.bytes_in), (3, 6));
    assert_eq!((global.messages_out, global.bytes_out), (6, 12));
    let index: IndexCounters = harness.engine.index_counters();
    assert_eq!(
        (index.subscriptions, index.inserts, index.removes),
        (2, 3, 1)
    );
    // The first time a subject is only noted, the second time remembered, the third time known.
    assert_eq!((index.matches, index.cache_hits, index.cached), (3, 1, 1));
    assert_eq!((index.fanout_max, index.fanout_sum), (2, 4));
    assert!((index.fanout_average() - 2.0).abs() < 1e-9);
    assert!((index.cache_hit_rate() - 1.0 / 3.0).abs() < 1e-9);
    let totals = harness.engine.totals();
    assert_eq!((totals.messages_in, totals.messages_out), (3, 6));
}

#[test]
fn stale_connections_are_counted() {
    let limits = Limits {
        ping_interval: Duration::from_secs(1),
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, Access::open());
    let mut client = harness.connect("");
    harness.pass(&mut client, Duration::from_secs(10));
    client.close();
    let totals = harness.engine.totals();
    assert_eq!((totals.stale_connections, totals.slow_consumers), (1, 0));
    assert_eq!(totals.stale_connections_by_kind.clients, 1);
}

#[test]
fn what_a_quiet_connection_owns_is_small() {
    // The budget of an idle connection is 4 KiB with its socket, its task and the allocator's share; what else
    // there is, is bounded by what the client told of itself.
    let owned = [
        size_of::<ClientSession>(),
        size_of::<Outbox>(),
        size_of::<ConnectionSnapshot>(),
    ];
    assert!(owned.iter().all(|&bytes| bytes <= 512), "{owned:?}");
}

#[test]
fn facts_are_taken_while_connections_come_and_go() {
    const THREADS: usize = 4;
    const CONNECTIONS: usize = 200;
    let harness = Harness::new();
    let (engine, now) = (&harness.engine, harness.now);
    let running = AtomicUsize::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut harness = Harness::of(Arc::clone(engine), now);
                for _ in 0..CONNECTIONS {
                    let mut client = harness.connect("");
                    harness.send(&mut client, b"SUB a.* 1\r\nPUB a.b 2\r\nhi\r\n");
                    client.close();
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        while running.load(Ordering::Acquire) > 0 {
            for snapshot in engine.connection_snapshots() {
                assert!(snapshot.subscriptions <= 1);
                assert!(snapshot.stop.is_none());
            }
            engine.for_each_subscription(SubscriptionFilter::default(), |held| {
                assert_eq!(held.subject, b"a.*");
            });
            let mut new = engine.configuration();
            new.limits.payload_bytes_max ^= 1;
            let adaptation = engine.reconfigure(new, now);
            assert!(adaptation.remaining() <= THREADS);
        }
    });
    let totals = engine.totals();
    let connections = (THREADS * CONNECTIONS) as u64;
    assert_eq!(
        (totals.connections, totals.messages_in),
        (connections, connections)
    );
    assert_eq!(engine.connections(), 0);
    let account = engine.global_account().snapshot();
    assert_eq!(
        (account.connections, account.index.removes),
        (0, connections)
    );
    assert_eq!(engine.closed_connections() as u64, connections);
}
