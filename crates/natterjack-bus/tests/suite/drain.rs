//! Leaving in good order while everybody publishes, and what becomes of the events of those who do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use natterjack_bus::settings::{Server, TransportKind};
use natterjack_bus::{DrainError, EventBus, EventStream, PublishError};
use tokio::runtime::Builder;
use tokio::task::JoinHandle;

use crate::topology::{Fleet, start_again};
use crate::world::{Note, World, eventually, note, start, within};

/// What all three nodes publish together, in events a second. Where the machine cannot, less.
const EVENTS_PER_SECOND: u64 = 50_000;
const TICK: Duration = Duration::from_millis(2);

/// A node under load.
struct Busy {
    bus: EventBus<Note>,
    /// Events that were accepted.
    accepted: Arc<AtomicU64>,
    is_stopped: Arc<AtomicBool>,
    publishing: JoinHandle<()>,
    reading: JoinHandle<BTreeMap<String, Vec<u64>>>,
}

impl Busy {
    async fn start(fleet: &Fleet, number: usize, run: u64) -> Self {
        let mut settings = fleet.server(number);
        // The load is the test's; its readers may be slow for want of a processor.
        settings.limits.inbound_events_max = 10_000_000;
        let bus = start_again(settings).await.expect("it starts");
        let reading = tokio::spawn(collect(bus.subscribe()));
        within("ready", bus.ready()).await;
        let (accepted, is_stopped) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let publisher = format!("{number}.{run}");
        let load = publish(
            bus.clone(),
            publisher,
            Arc::clone(&accepted),
            Arc::clone(&is_stopped),
        );
        Self {
            bus,
            accepted,
            is_stopped,
            publishing: tokio::spawn(load),
            reading,
        }
    }

    async fn has_published(&self, events: u64) {
        let goal = self.accepted.load(Ordering::Relaxed) + events;
        eventually("it publishes", || {
            self.accepted.load(Ordering::Relaxed) >= goal
        })
        .await;
    }

    /// Under full load. Answers what was accepted and what it read.
    async fn drain(self) -> (u64, BTreeMap<String, Vec<u64>>) {
        within("drain", self.bus.drain())
            .await
            .expect("all is delivered");
        within("publisher", self.publishing)
            .await
            .expect("no panic");
        let read = within("reader", self.reading).await.expect("no panic");
        (self.accepted.load(Ordering::Relaxed), read)
    }

    /// From one moment to the next, as far as that is possible within one process.
    async fn kill(self) -> BTreeMap<String, Vec<u64>> {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.publishing.abort();
        // It may have ended by itself.
        let _ = self.publishing.await;
        drop(self.bus);
        within("reader", self.reading).await.expect("no panic")
    }
}

/// By publisher, in the order in which they came.
async fn collect(mut events: EventStream<Note>) -> BTreeMap<String, Vec<u64>> {
    let mut all = BTreeMap::<String, Vec<u64>>::new();
    while let Some(event) = events.next().await {
        let Note {
            publisher, number, ..
        } = event.data;
        all.entry(publisher).or_default().push(number);
    }
    all
}

/// Publishes at a third of the whole rate until the bus takes no more.
async fn publish(
    bus: EventBus<Note>,
    publisher: String,
    accepted: Arc<AtomicU64>,
    is_stopped: Arc<AtomicBool>,
) {
    let share = EVENTS_PER_SECOND * TICK.as_millis() as u64 / 1000 / 3;
    let mut ticks = tokio::time::interval(TICK);
    let mut number = 0;
    while !is_stopped.load(Ordering::Relaxed) {
        ticks.tick().await;
        for _ in 0..=share {
            match bus.publish(&note(&publisher, number)).await {
                Ok(()) => number += 1,
                Err(PublishError::Closed) => return,
                Err(error) => panic!("{publisher} {number}: {error}"),
            }
            accepted.store(number, Ordering::Relaxed);
        }
    }
}

fn run_of(numbers: &[u64]) -> std::ops::Range<u64> {
    let start = numbers[0];
    let end = start + numbers.len() as u64;
    assert!(
        numbers.iter().copied().eq(start..end),
        "exactly once and in order: {start}..{end}"
    );
    start..end
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_drain_and_die_under_load_and_nothing_accepted_is_missed() {
    let fleet = Fleet::new(3, true).await;
    let a = Busy::start(&fleet, 0, 0).await;
    let b = Busy::start(&fleet, 1, 0).await;
    let c = Busy::start(&fleet, 2, 0).await;
    c.has_published(3000).await;

    // One dies. What it published before comes without a gap, and nothing twice.
    let read_by_c = c.kill().await;
    for numbers in read_by_c.values() {
        run_of(numbers);
    }
    // It comes back.
    let c = Busy::start(&fleet, 2, 1).await;
    c.has_published(3000).await;

    // One drains: everything it accepted is at the others.
    let (accepted_by_b, read_by_b) = b.drain().await;
    assert!(accepted_by_b > 0);
    assert_eq!(
        run_of(&read_by_b["1.0"]),
        0..accepted_by_b,
        "itself included"
    );
    c.has_published(3000).await;
    // And the next one.
    let (accepted_by_c, read_by_c) = c.drain().await;
    assert_eq!(run_of(&read_by_c["2.1"]), 0..accepted_by_c);
    // It was not there from the beginning, but up to the end.
    let at_c = run_of(&read_by_c["1.0"]);
    assert_eq!(at_c.end, accepted_by_b, "{at_c:?}");

    let stats = a.bus.stats();
    let (accepted_by_a, read_by_a) = a.drain().await;
    assert_eq!(run_of(&read_by_a["0.0"]), 0..accepted_by_a);
    // The nodes knew of each other when they were ready, so this one missed nothing of the others.
    assert_eq!(run_of(&read_by_a["1.0"]), 0..accepted_by_b);
    assert_eq!(run_of(&read_by_a["2.1"]), 0..accepted_by_c);
    assert_eq!(run_of(&read_by_a["2.0"]).start, 0);
    for read in [&read_by_b, &read_by_c] {
        run_of(&read["0.0"]);
    }
    assert_eq!((stats.overflowed_events, stats.lost_events), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_the_slowest_node() {
    let fleet = Fleet::new(2, true).await;
    let slow = fleet.start(0).await.expect("it starts");
    let quick = fleet.start(1).await.expect("it starts");
    let mut events = slow.subscribe();
    within("ready", quick.ready()).await;
    for number in 0..5000 {
        quick.publish(&note("q", number)).await.expect("accepted");
    }
    within("drain", quick.drain())
        .await
        .expect("all is delivered");
    // Whoever drains is gone now, with its server; what it published is here.
    for number in 0..5000 {
        let event = within("event", events.next()).await.expect("an event");
        assert_eq!(event.data.number, number);
    }
    within("drain", slow.drain())
        .await
        .expect("nobody else is there");
}

/// Which nodes the own server reaches says nothing of those to which events go by way of another one.
#[test]
fn who_is_frozen_is_named_also_where_events_go_by_way_of_another_server() {
    let [running, frozen] = [Builder::new_multi_thread(), Builder::new_current_thread()]
        .map(|mut builder| builder.worker_threads(2).enable_all().build().unwrap());
    let world = running.block_on(World::new(TransportKind::Nats));
    let embedding = |name: &str| {
        let mut settings = world.settings(name);
        settings.nats.server = Server::on_free_ports();
        settings.nats.server.name = name.into();
        settings.health.interval = Duration::from_secs(60 * 60);
        start(settings)
    };
    let bus = running.block_on(embedding("drains"));
    let silent = frozen.block_on(async {
        let silent = embedding("silent").await;
        eventually("they know each other", || bus.health().hosts.len() == 2).await;
        silent
    });
    let drained = running.block_on(async {
        bus.publish(&note("d", 0)).await.expect("accepted");
        within("drain", bus.drain()).await
    });
    let unanswered = DrainError::Unanswered {
        nodes: vec!["silent".into()],
    };
    assert_eq!(drained, Err(unanswered));
    frozen.block_on(async { drop(silent) });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_dropped_says_good_bye_and_is_not_waited_for() {
    let fleet = Fleet::new(2, true).await;
    let stays = fleet.start(0).await.expect("it starts");
    let goes = fleet.start(1).await.expect("it starts");
    within("ready", goes.ready()).await;
    within("ready", stays.ready()).await;
    eventually("both are there", || stays.health().hosts.len() == 2).await;
    stays.publish(&note("s", 0)).await.expect("accepted");
    drop(goes);
    eventually("it is gone", || stays.health().hosts.len() == 1).await;
    within("drain", stays.drain())
        .await
        .expect("nobody else is there");
}
