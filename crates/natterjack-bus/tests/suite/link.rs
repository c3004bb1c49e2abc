//! Connections that are not there yet, break, and come back. A relay between bus and server does the breaking.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use natterjack_bus::settings::TransportKind;
use natterjack_bus::{DrainError, EventBus, Fault, Link, Merging, Publish, PublishError, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::world::{Note, World, endpoint, eventually, note, numbers, start, take, within};

/// Relays one port to the server while it is open, and cuts every connection when it is shut.
struct Relay {
    address: std::net::SocketAddr,
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    open: bool,
    /// Nothing goes through any more, and nobody is told.
    still: bool,
    /// A connection lives as long as this stays the same.
    cuts: u64,
}

impl Relay {
    async fn start(target: String, open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(watch::Sender::new(State {
            open,
            still: false,
            cuts: 0,
        }));
        let states = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut state = states.subscribe();
                let target = target.clone();
                tokio::spawn(async move {
                    let at_start = *state.borrow_and_update();
                    if !at_start.open {
                        return;
                    }
                    let mut server = TcpStream::connect(target)
                        .await
                        .expect("the server answers");
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = state.wait_for(|state| *state != at_start) => {}
                    }
                    // The test may be over.
                    let _ = state.wait_for(|state| !state.still).await;
                    let _ = client.shutdown().await;
                });
            }
        });
        Self { address, state }
    }

    /// For the connections there are: they end when this does.
    fn stand_still(&self, still: bool) {
        self.state.send_modify(|state| state.still = still);
    }

    fn set(&self, open: bool) {
        self.state.send_modify(|state| state.open = open);
    }

    /// Cuts the connections there are; new ones are welcome.
    fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    fn settings(&self, world: &World, name: &str) -> Settings {
        let mut settings = world.settings(name);
        settings.nats.client.endpoint = Some(endpoint(&format!("nats://{}", self.address)));
        settings
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_may_start_before_its_server() {
    let world = World::new(TransportKind::Nats).await;
    let relay = Relay::start(world.address(), false).await;
    let bus: EventBus<Note> = EventBus::start(relay.settings(&world, "a")).await.unwrap();
    assert_eq!(bus.link(), Link::Connecting);
    let mut events = bus.subscribe();
    for number in 0..20 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    relay.set(true);
    assert_eq!(
        numbers(&take(&mut events, 20).await),
        (0..20).collect::<Vec<_>>()
    );
    assert_eq!(bus.link(), Link::Connected);
    within("drain", bus.drain()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_connection_publishing_buffers_up_to_a_bound() {
    let world = World::new(TransportKind::Nats).await;
    let relay = Relay::start(world.address(), true).await;
    let mut settings = relay.settings(&world, "a");
    settings.limits.outbound_events_max = 10;
    let bus = start(settings).await;
    let mut events = bus.subscribe();
    let mut faults = bus.faults();
    relay.set(false);
    let fault = within("disconnection", faults.next()).await.unwrap();
    assert!(matches!(fault, Fault::Disconnected { .. }), "{fault}");
    assert_eq!(bus.link(), Link::Disconnected);
    for number in 0..10 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    let error = within("refusal", bus.publish(&note("a", 10)))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            PublishError::Disconnected {
                buffered_events: 10
            }
        ),
        "{error}"
    );
    relay.set(true);
    assert_eq!(
        numbers(&take(&mut events, 10).await),
        (0..10).collect::<Vec<_>>()
    );
    bus.publish(&note("a", 11)).await.unwrap();
    assert_eq!(numbers(&take(&mut events, 1).await), [11]);
    // All the attempts in between are nobody's refusal, so nothing was said about them.
    let fault = within("reconnection", faults.next()).await.unwrap();
    assert!(matches!(fault, Fault::Reconnected { .. }), "{fault}");
    let stats = bus.stats();
    assert_eq!((stats.disconnects, stats.reconnects), (1, 1));
    let page = bus.metrics().prometheus();
    let counted = "natterjack_bus_disconnects_total{node=\"a\"} 1\n";
    assert!(page.contains(counted), "{page}");
    within("drain", bus.drain()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_server_stands_still_is_not_ready() {
    let world = World::new(TransportKind::Nats).await;
    let relay = Relay::start(world.address(), true).await;
    let mut settings = relay.settings(&world, "a");
    // Whoever is not heard for three of these is forgotten, which is too late.
    settings.health.interval = crate::world::DEADLINE * 2 / 5;
    let bus = start(settings).await;
    relay.stand_still(true);
    eventually("it is noticed", || !bus.health().is_ready).await;
    let health = bus.health();
    assert!(health.is_connected && !health.is_healthy);
    relay.stand_still(false);
    within("ready", bus.ready()).await;
    within("drain", bus.drain()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_a_node_is_away_is_missed_and_told() {
    let world = World::new(TransportKind::Nats).await;
    let relay = Relay::start(world.address(), true).await;
    let quick = |mut settings: Settings| {
        settings.health.interval = Duration::from_millis(20);
        settings
    };
    let a = start(quick(world.settings("a"))).await;
    let b = start(quick(relay.settings(&world, "b"))).await;
    let mut faults = b.faults();
    let mut missed = 0;
    // It takes some of `a`'s health events before `b` knows what to expect.
    within("some are missed", async {
        while b.stats().missed_events == 0 {
            relay.set(false);
            eventually("away", || b.link() == Link::Disconnected).await;
            for number in 0..5 {
                a.publish(&note("a", number)).await.unwrap();
            }
            eventually("published", || a.outstanding_events() == 0).await;
            missed += 5;
            relay.set(true);
            b.ready().await;
        }
    })
    .await;
    let told = b.stats().missed_events;
    assert!(told <= missed && told % 5 == 0, "{told} of {missed}");
    let fault = within("fault", async {
        loop {
            let fault = faults.next().await.expect("the bus runs");
            if matches!(fault, Fault::Missed { .. }) {
                return fault;
            }
        }
    });
    let fault = fault.await;
    assert!(
        matches!(&fault, Fault::Missed { node, .. } if node == "a"),
        "{fault}"
    );
    let line =
        format!("natterjack_bus_dropped_events_total{{node=\"b\",reason=\"missed\"}} {told}");
    assert!(b.metrics().prometheus().contains(&line));
    // What arrives is not missed.
    let mut events = b.subscribe();
    for number in 0..50 {
        a.publish(&note("a", number)).await.unwrap();
    }
    assert_eq!(take(&mut events, 50).await.len(), 50);
    within("drain", a.drain()).await.unwrap();
    assert!(b.stats().missed_events <= missed);
    assert_eq!(a.stats().missed_events, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_off_on_the_way_is_counted_and_nothing_comes_twice() {
    let world = World::new(TransportKind::Nats).await;
    let relay = Relay::start(world.address(), true).await;
    let bus = start(relay.settings(&world, "a")).await;
    let mut events = bus.subscribe();
    let count = 3000;
    for number in 0..count {
        if number % 1000 == 500 {
            relay.cut();
        }
        bus.publish(&note("a", number)).await.unwrap();
    }
    // Events lost before the drain are reported as faults; those the drain finds out about it answers with.
    let drained = within("drain", bus.drain()).await;
    let received: Vec<_> = within("end", events.by_ref().collect()).await;
    let received = numbers(&received);
    assert!(
        received.is_sorted_by(|left, right| left < right),
        "in order, and never twice"
    );
    let stats = bus.stats();
    assert_eq!(
        received.len() as u64 + stats.lost_events,
        count,
        "{stats:?} {drained:?}"
    );
    assert!(stats.reconnects > 0, "{stats:?}");
    assert!(stats.lost_events > 0 || drained.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_without_a_server_ends_and_says_what_is_open() {
    let world = World::new(TransportKind::Nats).await;
    let relay = Relay::start(world.address(), false).await;
    let mut settings = relay.settings(&world, "a");
    settings.limits.drain_timeout = Duration::from_millis(200);
    let bus: EventBus<Note> = EventBus::start(settings).await.unwrap();
    let note = note("a", 0);
    let id = bus.publish_identified(&note, Publish::default());
    let id = id.await.unwrap();
    let error = within("drain", bus.drain()).await.unwrap_err();
    let expected = DrainError::Unconfirmed {
        events: 1,
        ids: vec![id],
        timeout: Duration::from_millis(200),
    };
    assert_eq!(error, expected);
    assert_eq!(within("drain", bus.drain()).await, Err(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_names_no_more_than_a_few_thousand_events_and_counts_all() {
    let world = World::new(TransportKind::Nats).await;
    let relay = Relay::start(world.address(), false).await;
    let mut settings = relay.settings(&world, "a");
    settings.limits.drain_timeout = Duration::from_millis(200);
    settings.limits.outbound_events_max = 5000;
    let bus: EventBus<Note> = EventBus::start(settings).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..5000 {
        let note = note("a", number);
        let id = bus.publish_identified(&note, Publish::default());
        ids.push(id.await.unwrap());
    }
    let error = within("drain", bus.drain()).await.unwrap_err();
    assert_eq!(error.events(), 5000);
    assert_eq!(error.ids(), &ids[..4096]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_counts_what_was_not_merged_in_time() {
    let world = World::new(TransportKind::Nats).await;
    let relay = Relay::start(world.address(), false).await;
    let mut settings = relay.settings(&world, "a");
    settings.limits.drain_timeout = Duration::from_millis(200);
    settings.limits.outbound_events_max = 1;
    let bus: EventBus<Note> = EventBus::start(settings).await.unwrap();
    let first = note("a", 0);
    let id = bus.publish_identified(&first, Publish::default());
    let id = id.await.unwrap();
    let merging = bus.merging(Merging::default(), |_, _| false);
    for number in 1..4 {
        merging.publish(note("a", number)).await.unwrap();
    }
    let error = within("drain", bus.drain()).await.unwrap_err();
    assert!(matches!(error, DrainError::Unconfirmed { .. }), "{error}");
    assert_eq!(error.events(), 4);
    assert_eq!(error.ids(), [id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_nobody_waited_for_goes_on() {
    let world = World::new(TransportKind::Nats).await;
    let relay = Relay::start(world.address(), false).await;
    let bus: EventBus<Note> = EventBus::start(relay.settings(&world, "a")).await.unwrap();
    let mut events = bus.subscribe();
    bus.publish(&note("a", 0)).await.unwrap();
    for _ in 0..2 {
        tokio::select! {
            biased;
            drained = bus.drain() => panic!("without a server? {drained:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    // It has come to where it waits for the server.
    within("refusal", async {
        while !matches!(bus.publish(&note("a", 1)).await, Err(PublishError::Closed)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    relay.set(true);
    within("drain", bus.drain()).await.unwrap();
    assert_eq!(numbers(&take(&mut events, 1).await), [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_lost_something_says_good_bye_all_the_same() {
    let world = World::new(TransportKind::Nats).await;
    let relay = Relay::start(world.address(), true).await;
    let patient = |mut settings: Settings| {
        // Longer than this test may take: a node that just falls silent stays known.
        settings.health.interval = Duration::from_secs(60);
        settings
    };
    let stays = start(patient(world.settings("b"))).await;
    let mut settings = patient(relay.settings(&world, "a"));
    settings.limits.outbound_events_max = 1;
    let goes = start(settings).await;
    eventually("both are there", || stays.health().hosts.len() == 2).await;
    let mut faults = goes.faults();
    relay.set(false);
    let fault = within("disconnection", faults.next()).await.unwrap();
    assert!(matches!(fault, Fault::Disconnected { .. }), "{fault}");
    let merging = goes.merging(Merging::default(), |_, _| false);
    goes.publish(&note("a", 0)).await.unwrap();
    merging.publish(note("a", 1)).await.unwrap();
    let draining = tokio::spawn({
        let goes = goes.clone();
        async move { goes.drain().await }
    });
    // Now the merged event has found no place.
    within("refusal", async {
        while !matches!(goes.publish(&note("a", 2)).await, Err(PublishError::Closed)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    relay.set(true);
    let drained = within("drain", draining).await.expect("no panic");
    let lost = DrainError::Lost {
        events: 1,
        ids: Vec::new(),
    };
    assert_eq!(drained, Err(lost));
    eventually("it has left", || stays.health().hosts.len() == 1).await;
}

/// A server without a bus, on this port; 0 is any.
async fn plain_server(
    port: u16,
    change: impl Fn(&mut natterjack_server::Options),
) -> natterjack_server::Server {
    let options = || {
        let mut options = natterjack_server::Options {
            host: "127.0.0.1".into(),
            port,
            ..natterjack_server::Options::default()
        };
        change(&mut options);
        options
    };
    // The port may take a moment to be free again.
    let mut attempts = tokio::time::interval(Duration::from_millis(20));
    within("a server", async {
        loop {
            attempts.tick().await;
            if let Ok(server) = natterjack_server::Server::start(options()).await {
                return server;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_next_server_does_not_take_blocks_nobody() {
    let world = World::new(TransportKind::Local).await;
    let large = plain_server(0, |options| options.max_payload = 8 << 20).await;
    let address = endpoint(&large.client_url());
    let mut settings = world.settings("a");
    settings.transport = TransportKind::Nats;
    settings.nats.client.endpoint = Some(address.clone());
    let bus = start(settings).await;
    let mut events = bus.subscribe();
    let mut faults = bus.faults();
    large.shutdown().await;
    let fault = within("disconnection", faults.next()).await.unwrap();
    assert!(matches!(fault, Fault::Disconnected { .. }), "{fault}");
    bus.publish(&note("a", 0)).await.unwrap();
    let mut huge = note("a", 1);
    huge.text = "x".repeat(5 << 20);
    bus.publish(&huge).await.unwrap();
    bus.publish(&note("a", 2)).await.unwrap();

    let _small = plain_server(address.port, |_| {}).await;
    assert_eq!(numbers(&take(&mut events, 2).await), [0, 2]);
    let fault = within("reconnection", faults.next()).await.unwrap();
    assert!(matches!(fault, Fault::Reconnected { .. }), "{fault}");
    let fault = within("refusal", faults.next()).await.unwrap();
    assert!(
        matches!(&fault, Fault::Refused { message } if message.contains("raise max_payload there")),
        "{fault}"
    );
    let fault = within("loss", faults.next()).await.unwrap();
    assert!(matches!(fault, Fault::Lost { events: 1 }), "{fault}");
    assert_eq!(bus.stats().reconnects, 1, "one connection that stays");
    let error = bus.publish(&huge).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { .. }), "{error}");
    within("drain", bus.drain()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_headers_is_told() {
    let world = World::new(TransportKind::Local).await;
    let server = plain_server(0, |options| options.no_header_support = true).await;
    let mut settings = world.settings("a");
    settings.transport = TransportKind::Nats;
    settings.nats.client.endpoint = Some(endpoint(&server.client_url()));
    let bus: EventBus<Note> = EventBus::start(settings).await.unwrap();
    eventually("a refusal", || bus.refusal().is_some()).await;
    let told = bus.refusal().unwrap();
    assert!(told.contains("does not take headers"), "{told}");
    assert_eq!(bus.link(), Link::Connecting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_there_is_no_first_connection_is_told() {
    let world = World::new(TransportKind::Nats).await;
    // It takes connections and closes them.
    let relay = Relay::start(world.address(), false).await;
    let bus: EventBus<Note> = EventBus::start(relay.settings(&world, "a")).await.unwrap();
    let mut faults = bus.faults();
    eventually("a reason", || bus.refusal().is_some()).await;
    assert_eq!(bus.refusal().unwrap(), "the connection was closed");
    relay.set(true);
    within("ready", bus.ready()).await;
    assert_eq!(bus.refusal(), None);
    // Later it is no news: that the connection broke has been said.
    relay.set(false);
    let fault = within("disconnection", faults.next()).await.unwrap();
    assert!(matches!(fault, Fault::Disconnected { .. }), "{fault}");
    assert_eq!(bus.refusal(), None);
}

/// Relays connections to the server, and resets each of the first ones once it has passed on so many bytes.
async fn resetting_relay(target: String, bytes_max: u64, resets: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((client, _)) = listener.accept().await {
            number += 1;
            let target = target.clone();
            let bytes_max = if number > resets { u64::MAX } else { bytes_max };
            tokio::spawn(async move {
                let server = TcpStream::connect(target).await.expect("it answers");
                // What waits to be read when it is closed makes a reset of the end.
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let back =
                    tokio::spawn(
                        async move { tokio::io::copy(&mut from_server, &mut to_client).await },
                    );
                let mut limited = (&mut from_client).take(bytes_max);
                // However it ends, both are closed.
                let _ = tokio::io::copy(&mut limited, &mut to_server).await;
                let _ = to_server.shutdown().await;
                back.abort();
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_over_tls_that_breaks_off_again_and_again_comes_once() {
    const EVENTS: u64 = 3000;
    let authority = crate::tls::Authority::new("pond");
    let tls = authority.tls("shared", |_| {});
    let (_server, server) = crate::tls::server(&tls).await;
    let target = format!("{}:{}", server.host, server.port);
    let relay = resetting_relay(target, 400_000, 4).await;
    let world = World::new(TransportKind::Local).await;
    let settings = |name: &str, endpoint| {
        let mut settings = world.settings(name);
        settings.transport = TransportKind::Nats;
        settings.nats.tls = tls.clone();
        settings.nats.client.endpoint = Some(endpoint);
        settings
    };
    let watches = start(settings("b", server)).await;
    let mut events = watches.subscribe();
    let relayed = endpoint(&format!("nats://{relay}"));
    let bus: EventBus<Note> = EventBus::start(settings("a", relayed)).await.unwrap();
    // Mostly before there is a connection; if one is quicker, what follows is the backlog of the next.
    for number in 0..EVENTS {
        let mut note = note("a", number);
        note.text = "x".repeat(2000);
        bus.publish(&note).await.unwrap();
    }
    let drained = within("drain", bus.drain()).await;
    assert!(bus.stats().reconnects > 0, "{drained:?}");
    // Everything before this has been handed on.
    watches.publish(&note("b", 0)).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    within("all events", async {
        while let Some(event) = events.next().await {
            if event.data.publisher == "b" {
                return;
            }
            let number = event.data.number;
            assert!(seen.insert(number), "{number} came twice");
        }
    })
    .await;
    assert!(seen.len() as u64 + bus.stats().lost_events >= EVENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_a_connection_reaches_those_who_are_back_later() {
    let world = World::new(TransportKind::Nats).await;
    let (early, late) = (
        Relay::start(world.address(), true).await,
        Relay::start(world.address(), true).await,
    );
    let a = start(early.settings(&world, "a")).await;
    let b = start(late.settings(&world, "b")).await;
    eventually("both are there", || a.health().hosts_answering == 2).await;
    let mut events = b.subscribe();
    for relay in [&early, &late] {
        relay.set(false);
    }
    eventually("both are away", || {
        [&a, &b].map(EventBus::link) == [Link::Disconnected; 2]
    })
    .await;
    for number in 0..20 {
        a.publish(&note("a", number)).await.unwrap();
    }
    early.set(true);
    eventually("one is back", || a.link() == Link::Connected).await;
    for number in 20..40 {
        a.publish(&note("a", number)).await.unwrap();
    }
    // All of it waits for the other one, but answers to questions do not.
    eventually("it hears itself", || a.health().hosts_answering > 0).await;
    assert_eq!(a.outstanding_events(), 40);
    late.set(true);
    let all = take(&mut events, 40).await;
    assert_eq!(numbers(&all), (0..40).collect::<Vec<_>>());
    assert_eq!((a.stats().lost_events, b.stats().missed_events), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_taken_in_alone_and_not_published_is_published_later() {
    let world = World::new(TransportKind::Nats).await;
    let relay = Relay::start(world.address(), false).await;
    let mut settings = relay.settings(&world, "a");
    settings.limits.outbound_events_max = 1;
    let bus: EventBus<Note> = EventBus::start(settings).await.unwrap();
    let mut events = bus.subscribe();
    bus.publish(&note("a", 0)).await.unwrap();
    let merging = Merging {
        events_max: 1,
        ..Merging::default()
    };
    let merging = bus.merging(merging, |_, _| false);
    // There is no room for it, and it is taken in all the same.
    merging.publish(note("a", 1)).await.unwrap();
    drop(merging);
    relay.set(true);
    assert_eq!(numbers(&take(&mut events, 2).await), [0, 1]);
}
