//! Nodes whose servers retire one after the other (lame duck mode), while all of them publish, over wires of different
//! lengths: every event is everywhere exactly once, in the order of its publisher. With our servers and with real ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use natterjack_bus::EventStream;
use testkit::Kind;
use testkit::cluster::Plan;

use crate::bus_topology::{Bus, client, run, start, within};
use crate::trial;

/// Which servers retire, in this order. Each comes back before the next one goes.
const ROUNDS: [usize; 6] = [0, 1, 2, 0, 1, 2];

/// What each node publishes in each tick.
const EVENTS: u64 = 2;
const TICK: Duration = Duration::from_millis(2);

/// How long the last event may take.
const ARRIVAL_MAX: Duration = Duration::from_secs(20);

/// What bytes take between these servers.
const WIRES: [(usize, usize, Duration); 3] = [
    (0, 1, Duration::ZERO),
    (0, 2, Duration::from_millis(150)),
    (1, 2, Duration::from_millis(20)),
];

const MIXES: [(&str, [Kind; 3]); 3] = [
    ("ours", [Kind::Natterjack; 3]),
    ("real", [Kind::NatsServer; 3]),
    (
        "ours_real",
        [Kind::Natterjack, Kind::NatsServer, Kind::Natterjack],
    ),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (mix, kinds) in MIXES {
        let name = format!("bus_moves::every_event_comes_once_and_in_order::{mix}");
        let needs = kinds.map(|kind| kind.program().map(drop));
        trials.push(trial(name, needs, move || play(kinds)));
    }
    trials
}

fn play(kinds: [Kind; 3]) {
    // The shortest that nats-server takes; the grace is what nodes have time for.
    let times = "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"9s\"";
    let mut cluster = Plan::of(&kinds).proxied().server(times).prepare();
    for (one, other, delay) in WIRES {
        cluster.wire(one, other).delay(delay);
    }
    for server in 0..cluster.len() {
        cluster.start(server);
    }
    cluster.wait_until_complete();
    run(async {
        let nodes = (0..cluster.len()).map(|server| client(&cluster, server));
        let buses = start(nodes.collect()).await;
        // Whose words take longer than the others' is not waited for by `ready`.
        for (bus, _) in &buses {
            let mut looks = tokio::time::interval(TICK);
            within("all answer", async {
                while bus.health().hosts_answering < kinds.len() as u64 {
                    looks.tick().await;
                }
            })
            .await;
        }
        let is_over = Arc::<AtomicBool>::default();
        let mut publishing = Vec::new();
        let mut seeing = Vec::new();
        let (teller, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut nodes = Vec::new();
        for (bus, events) in buses {
            tokio::spawn(tell(bus.clone(), teller.clone()));
            publishing.push(tokio::spawn(publish(bus.clone(), Arc::clone(&is_over))));
            seeing.push(tokio::spawn(see(events)));
            nodes.push(bus);
        }
        for server in ROUNDS {
            tokio::task::block_in_place(|| {
                cluster.retire(server);
                cluster.start(server);
                cluster.wait_until_complete();
            });
        }
        is_over.store(true, Ordering::Relaxed);
        let mut published = BTreeMap::new();
        for (bus, publishing) in nodes.iter().zip(publishing) {
            let count = within("publisher", publishing).await.expect("no panic");
            published.insert(bus.name().to_owned(), count);
        }
        let all: u64 = published.values().sum();
        for bus in &nodes {
            let mut looks = tokio::time::interval(TICK);
            let arriving = async {
                while bus.stats().received_events < all {
                    looks.tick().await;
                }
            };
            // What is missing is told below.
            let _ = tokio::time::timeout(ARRIVAL_MAX, arriving).await;
        }
        for bus in &nodes {
            // What was not delivered is told below.
            let _ = within("drain", bus.drain()).await;
        }
        let moves: u64 = nodes.iter().map(|bus| bus.stats().moves).sum();
        let faults: Vec<String> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        for (bus, seeing) in nodes.iter().zip(seeing) {
            let (seen, disorder) = within("reader", seeing).await.expect("no panic");
            assert_eq!(disorder, [""; 0], "at {}", bus.name());
            for (publisher, count) in &published {
                let seen = seen.get(publisher).copied().unwrap_or_default();
                assert!(
                    seen == *count,
                    "{} has seen {seen} of {count} of {publisher}; {:?}; told: {faults:#?}",
                    bus.name(),
                    bus.stats()
                );
            }
            let stats = bus.stats();
            assert_eq!(
                (stats.reconnects, stats.lost_events, stats.missed_events),
                (0, 0, 0),
                "{stats:?}"
            );
        }
        assert!(moves >= 3, "each server had a node at first");
    });
}

/// Publishes numbers until it is over. Answers how many.
async fn publish(bus: Bus, is_over: Arc<AtomicBool>) -> u64 {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        for _ in 0..EVENTS {
            within("room", bus.publish(&number))
                .await
                .expect("accepted");
            number += 1;
        }
    }
    number
}

/// What goes wrong, for whoever looks at a test that fails.
async fn tell(bus: Bus, teller: tokio::sync::mpsc::UnboundedSender<String>) {
    let mut faults = bus.faults();
    while let Some(fault) = faults.next().await {
        let _ = teller.send(format!("{}: {fault}", bus.name()));
    }
}

/// What has come of each publisher, and what was not the next one.
async fn see(mut events: EventStream<u64>) -> (BTreeMap<String, u64>, Vec<String>) {
    let mut seen = BTreeMap::<String, u64>::new();
    let mut disorder = Vec::new();
    while let Some(event) = events.next().await {
        let next = seen.entry(event.source.clone()).or_default();
        if event.data != *next && disorder.len() < 100 {
            disorder.push(format!("{} of {} for {next}", event.data, event.source));
        }
        *next = event.data + 1;
    }
    (seen, disorder)
}
