//! One run from its seed to its report.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use natterjack_engine::CloseReason;

use crate::client::Client;
use crate::ledger::{Ledger, Violation};
use crate::scenario::Scenario;
use crate::trace::Event;
use crate::world::World;

/// Steps after the links healed within which everything must have arrived.
const SETTLE_STEPS_MAX: u64 = 200_000;

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The run's seed.
    pub seed: u64,
    /// The scenario's name.
    pub scenario: &'static str,
    /// A hash of every event in order: the same for the same seed and scenario.
    pub trace_hash: u64,
    /// Things that happened.
    pub steps: u64,
    /// Messages published.
    pub publications: u64,
    /// Messages received.
    pub deliveries: u64,
    /// Connections opened.
    pub connections: u64,
    /// Connections the server dropped as too slow.
    pub slow_consumers: u64,
    /// Times a publisher had to wait for its consumers.
    pub stalls: u64,
    /// Times another task ran in the middle of a write.
    pub interleavings: u64,
    /// What went wrong.
    pub failure: Option<Failure>,
}

/// A property that did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What should have been.
    pub property: &'static str,
    /// What was.
    pub details: String,
    /// What happened last, oldest first.
    pub last_events: Vec<String>,
}

/// Plays `scenario` with the chance of `seed`. Takes some milliseconds in an optimised build.
///
/// A panic of the engine is a failure like any other, and ends the run.
#[must_use]
pub fn run(seed: u64, scenario: &Scenario) -> Report {
    let mut simulation = Simulation::new(seed, scenario);
    let outcome = catch_unwind(AssertUnwindSafe(|| simulation.play()));
    if let Err(panic) = outcome {
        simulation.world.fail("nothing panics", panic_text(&*panic));
        let report = simulation.report(seed);
        // What a panic left half done is not fit to be dropped.
        std::mem::forget(simulation);
        return report;
    }
    simulation.report(seed)
}

struct Simulation {
    world: Arc<World>,
    clients: Vec<Client>,
    ledger: Ledger,
}

impl Simulation {
    fn new(seed: u64, scenario: &Scenario) -> Self {
        let world = World::new(seed, scenario.clone());
        let now = world.now();
        Self {
            clients: (0..scenario.clients).map(|_| Client::new(now)).collect(),
            ledger: Ledger::new(),
            world,
        }
    }

    fn play(&mut self) {
        let steps = self.world.scenario.steps;
        while self.world.step() < steps && !self.world.is_failed() {
            self.step(|client, world, ledger, _| client.act(world, ledger));
        }
        self.settle();
        if !self.world.is_failed()
            && let Err(violation) = self.ledger.check_complete()
        {
            self.world.fail(violation.property, violation.details);
        }
        self.close();
    }

    /// Everything that was accepted arrives once nothing is in its way.
    fn settle(&mut self) {
        self.world.note(Event::Healing);
        self.world.heal();
        let now = self.world.now();
        self.clients.iter_mut().for_each(|client| client.next = now);
        let end = self.world.step() + SETTLE_STEPS_MAX;
        while !self.clients.iter().all(Client::is_settled) && !self.world.is_failed() {
            self.step(|client, world, ledger, everybody_published| {
                client.settle(world, ledger, everybody_published);
            });
            if self.world.step() >= end {
                let waiting = self.clients.iter().filter(|client| !client.is_settled());
                let waiting: Vec<_> = waiting.filter_map(Client::connection).collect();
                self.world.fail(
                    "everything arrives in the end",
                    format!("connections {waiting:?} wait"),
                );
            }
        }
    }

    /// Nothing is left of a connection that ended.
    fn close(&mut self) {
        self.world.note(Event::Closing);
        let world = Arc::clone(&self.world);
        if world.chance(|rng| rng.u8(..4)) == 0 {
            world.engine.close_all(CloseReason::ServerShutdown);
        } else {
            self.clients
                .iter_mut()
                .for_each(|client| client.die(&world));
        }
        let end = world.step() + SETTLE_STEPS_MAX;
        let is_open = || {
            world
                .connections()
                .iter()
                .any(|connection| connection.is_open())
        };
        while is_open() && !world.is_failed() {
            self.step(|client, world, ledger, _| client.settle(world, ledger, true));
            if world.step() >= end {
                world.fail("connections end", String::new());
            }
        }
        if world.is_failed() {
            return;
        }
        let (connections, subscriptions) = (
            world.engine.connections(),
            world.engine.global_account().subscriptions(),
        );
        if connections + subscriptions > 0 {
            world.fail(
                "nothing is left of a connection that ended",
                format!("{connections} connections, {subscriptions} subscriptions"),
            );
        }
        world.check_counts();
        // The server's socket is closed only when everybody in the engine has let go of it.
        self.clients.clear();
        let held = world.held_links();
        if !held.is_empty() {
            world.fail(
                "nothing is left of a connection that ended",
                format!("links {held:?}"),
            );
        }
    }

    /// One thing happens: a task runs, or time passes and somebody does something.
    fn step(&mut self, mut act: impl FnMut(&mut Client, &Arc<World>, &mut Ledger, bool)) {
        let world = &self.world;
        world.next_step();
        // Tasks run soon after they are woken, but not at once.
        if world.chance(|rng| rng.u8(..100)) < 85 && world.run_some_task() {
            world.check_bounds();
            return;
        }
        let is_at_rest = world
            .connections()
            .iter()
            .all(|connection| !connection.is_ready());
        if is_at_rest {
            world.check_rest();
        }
        let next_client = self.clients.iter().map(|client| client.next).min();
        let next: Option<Instant> = [next_client, world.next_event()]
            .into_iter()
            .flatten()
            .min();
        let Some(next) = next else { return };
        world.pass_to(next);
        if world.chance(|rng| rng.u8(..30)) == 0 {
            world.reconfigure();
        }
        let everybody_published = self.clients.iter().all(Client::has_published);
        let now = world.now();
        for client in &mut self.clients {
            if client.next <= now {
                act(client, world, &mut self.ledger, everybody_published);
            }
        }
    }

    fn report(&self, seed: u64) -> Report {
        let world = &self.world;
        let totals = world.engine.totals();
        Report {
            seed,
            scenario: world.scenario.name,
            trace_hash: world.trace_hash(),
            steps: world.step(),
            publications: self.ledger.publications() as u64,
            deliveries: self.ledger.deliveries,
            connections: totals.connections,
            slow_consumers: totals.slow_consumers,
            stalls: totals.stalls,
            interleavings: world.interleavings.load(Ordering::Relaxed),
            failure: world
                .violation()
                .map(|Violation { property, details }| Failure {
                    property,
                    details,
                    last_events: world.last_events(),
                }),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, scenario, .. } = self;
        let Some(failure) = &self.failure else {
            return write!(
                formatter,
                "seed {seed} ({scenario}): {} steps, {} published, {} received, {} connections, \
                 {} slow consumers, {} stalls, {} interleavings, trace {:016x}",
                self.steps,
                self.publications,
                self.deliveries,
                self.connections,
                self.slow_consumers,
                self.stalls,
                self.interleavings,
                self.trace_hash,
            );
        };
        for event in &failure.last_events {
            writeln!(formatter, "{event}")?;
        }
        write!(
            formatter,
            "seed {seed} ({scenario}) fails: {}: {}\nrun it again with: cargo run -p sim --release -- --seed {seed}",
            failure.property, failure.details,
        )
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
        .to_owned()
}
