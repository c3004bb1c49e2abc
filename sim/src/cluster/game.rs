//! One game from its seed to its report.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use natterjack_engine::Engine;

use super::client::Client;
use super::event::Event;
use super::ledger::Ledger;
use super::scenario::{ACCOUNTS, Faults, SERVING, Scenario};
use super::world::{Counts, World};
use crate::ledger::Violation;
use crate::simulation::{Failure, panic_text};

/// Steps that a cluster that was left alone may take to be at rest.
const REST_STEPS_MAX: u64 = 3_000_000;

/// How long a task may be woken before it runs, about.
const LATENESS_MAX: Duration = Duration::from_millis(20);

/// What became of a game.
#[derive(Clone, Debug)]
pub struct Report {
    /// The game's seed.
    pub seed: u64,
    /// Servers.
    pub nodes: usize,
    /// What happened to them.
    pub faults: Faults,
    /// A hash of every event in order: the same for the same seed and scenario.
    pub trace_hash: u64,
    /// Things that happened.
    pub steps: u64,
    /// Messages published.
    pub publications: u64,
    /// Messages received.
    pub deliveries: u64,
    /// Deliveries that had to be, and were.
    pub confirmed: u64,
    /// Requests answered or refused.
    pub answers: u64,
    /// Of these, those that crossed from account to account.
    pub crossed: u64,
    /// Connections between servers.
    pub routes: u64,
    /// Of these, ends that were closed since there was one already.
    pub duplicates: u64,
    /// Ends of connections that were given up because the other end was silent.
    pub stale: u64,
    /// Ends of connections that were given up because they were too slow.
    pub slow: u64,
    /// Times the network broke a connection.
    pub breaks: u64,
    /// Times some servers could not reach the others.
    pub partings: u64,
    /// Deaths of servers.
    pub deaths: u64,
    /// Servers that were given other settings.
    pub reloads: u64,
    /// Of these, those that moved accounts while nothing was to be lost.
    pub moved: u64,
    /// Servers that said that they would go.
    pub ducks: u64,
    /// Times another task ran in the middle of a write.
    pub interleavings: u64,
    /// The longest time the cluster took to be whole, from the last harm on.
    pub healed_in: Duration,
    /// What went wrong.
    pub failure: Option<Failure>,
}

/// Plays `scenario` with the chance of `seed`.
///
/// A panic of the engine is a failure like any other, and ends the game.
#[must_use]
pub fn run(seed: u64, scenario: &Scenario) -> Report {
    let mut game = Game::new(seed, scenario);
    let outcome = catch_unwind(AssertUnwindSafe(|| game.play()));
    if let Err(panic) = outcome {
        game.world.fail("nothing panics", panic_text(&*panic));
        let report = game.report(seed);
        // What a panic left half done is not fit to be dropped.
        std::mem::forget(game);
        return report;
    }
    game.report(seed)
}

struct Game {
    world: Arc<World>,
    clients: Vec<Client>,
    ledger: Ledger,
    healed_in: Duration,
    moved: u64,
}

impl Game {
    fn new(seed: u64, scenario: &Scenario) -> Self {
        let world = World::new(seed, scenario.clone());
        let now = world.now();
        let clients = 0..scenario.clients;
        Self {
            clients: clients
                .map(|number| Client::new(ACCOUNTS[number % scenario.accounts], now))
                .collect(),
            ledger: Ledger::default(),
            healed_in: Duration::ZERO,
            moved: 0,
            world,
        }
    }

    fn play(&mut self) {
        // Sometimes everything begins at once, with what goes wrong.
        let mut was_whole = self.world.chance(fastrand::Rng::bool);
        if was_whole {
            self.rest(true);
            self.end_phase(false, false);
        }
        for _ in 0..self.world.scenario.rounds {
            if self.world.is_failed() {
                return;
            }
            let losses = self.losses();
            let reloads = self.world.counts.lock().reloads;
            self.mingle();
            self.rest(true);
            self.check_interest();
            let is_lossless =
                was_whole && self.world.scenario.faults == Faults::None && self.losses() == losses;
            if is_lossless {
                self.moved += self.world.counts.lock().reloads - reloads;
            }
            self.end_phase(is_lossless, false);
            self.examine();
            was_whole = true;
        }
        if !self.world.is_failed() {
            self.close();
        }
    }

    /// What has happened so far that messages may be lost by: connections between servers that were dropped for what
    /// waited for them, by the bounds that the servers were given; servers that went; reloads, but for moves of accounts.
    fn losses(&self) -> [u64; 3] {
        let counts = self.world.counts.lock();
        [counts.slow, counts.deaths, counts.lossy_reloads]
    }

    /// Everybody does as they like, and what may go wrong does.
    fn mingle(&mut self) {
        self.world.note(Event::Phase { name: "mingle" });
        self.world.let_go();
        self.world.stir_up();
        let end = self.world.step() + self.world.scenario.steps;
        let mut next_harm = self.world.now() + self.harmless_time();
        while self.world.step() < end && !self.world.is_failed() {
            let world = Arc::clone(&self.world);
            let next_client = self.clients.iter().map(|client| client.next).min();
            let has_passed = self.step(next_client.into_iter().chain([next_harm]).min());
            if !has_passed {
                continue;
            }
            let now = world.now();
            if next_harm <= now {
                world.interfere();
                next_harm = now + self.harmless_time();
            }
            for client in &mut self.clients {
                if client.next <= now {
                    client.act(&world, &mut self.ledger);
                }
            }
        }
    }

    fn harmless_time(&self) -> Duration {
        let world = &self.world;
        world.scenario.pace * world.chance(|rng| rng.u32(2..150))
    }

    /// One thing happens: a task runs, or time passes, up to `next` at most. Returns whether it did.
    fn step(&self, next: Option<Instant>) -> bool {
        let world = &self.world;
        world.next_step();
        if world.step().is_multiple_of(64) {
            world.check_bounds();
        }
        // Tasks run soon after they are woken, but not at once.
        if world.chance(|rng| rng.u8(..100)) < 85 && world.run_some_task() {
            return false;
        }
        if world.is_at_rest() {
            world.check_rest();
        }
        let next = next.into_iter().chain(world.next_event()).min();
        if let Some(mut next) = next {
            if !world.is_at_rest() {
                // A task that is late is so by a moment, not by the minute until something else would happen.
                next = next.min(world.now() + LATENESS_MAX);
            }
            world.pass_to(next);
        }
        true
    }

    /// Nothing bad happens any more and nobody does anything: until the cluster is whole, all have heard everything and
    /// nothing is under way.
    fn rest(&mut self, must_be_whole: bool) {
        self.world.note(Event::Phase { name: "rest" });
        self.world.calm_down();
        let world = Arc::clone(&self.world);
        for client in &mut self.clients {
            client.ping(&world);
        }
        let begin = world.elapsed();
        let mut seen_whole = None;
        let end = world.step() + REST_STEPS_MAX;
        while !world.is_failed() {
            self.step(self.next_to_hear());
            for client in &mut self.clients {
                if client.has_to_hear() {
                    client.listen(&world, &mut self.ledger);
                }
            }
            let is_quiet = world.is_quiet() && self.next_to_hear().is_none();
            let missing = if is_quiet && must_be_whole {
                world.missing()
            } else {
                None
            };
            if is_quiet && missing.is_none() {
                seen_whole = Some(world.elapsed() - begin);
                break;
            }
            let is_late = world.elapsed() - begin > world.scenario.healing_time();
            if is_late || world.step() > end {
                let missing = world.missing();
                let what = missing.unwrap_or_else(|| "something goes on".to_owned());
                world.fail("a cluster becomes whole by itself and comes to rest", what);
            }
        }
        if let Some(time) = seen_whole {
            self.healed_in = self.healed_in.max(time);
            if must_be_whole {
                world.is_now_whole();
            }
        }
    }

    fn next_to_hear(&self) -> Option<Instant> {
        let has_to_hear = self.clients.iter().any(Client::has_to_hear);
        has_to_hear.then(|| self.world.now())
    }

    fn end_phase(&mut self, is_lossless: bool, answers_surely: bool) {
        if self.world.is_failed() {
            return;
        }
        let reach = self.world.reach();
        if let Err(violation) = (self.ledger).end_phase(is_lossless, answers_surely, &reach) {
            self.world.fail(violation.property, violation.details);
        }
    }

    /// Everybody publishes and asks, and everything must arrive.
    fn examine(&mut self) {
        if self.world.is_failed() {
            return;
        }
        self.world.note(Event::Phase { name: "examine" });
        let world = Arc::clone(&self.world);
        // Those whose server died, or who did, come back first.
        for client in &mut self.clients {
            client.connect(&world, &mut self.ledger);
        }
        self.rest(true);
        self.end_phase(false, false);
        let losses = self.losses();
        for client in &mut self.clients {
            client.talk(&world, &mut self.ledger);
        }
        self.rest(true);
        self.end_phase(self.losses() == losses, world.has_one_order());
        self.check_interest();
    }

    /// What each server knows of its peers' interest is what there is and what it may know, and clients know of all
    /// servers.
    fn check_interest(&self) {
        let world = &self.world;
        if world.is_failed() {
            return;
        }
        let lives = world.lives();
        let reach = world.reach();
        for client in &self.clients {
            client.check_urls(world);
        }
        let local: Vec<_> = lives
            .iter()
            .map(|life| local_interest(&life.engine))
            .collect();
        for (here, life) in lives.iter().enumerate() {
            let known = known_interest(&life.engine);
            for (there, other) in lives.iter().enumerate() {
                if here == there {
                    continue;
                }
                let none = BTreeMap::new();
                let mut known = known.get(&other.id).unwrap_or(&none).clone();
                // Servers' own, for answers that cross accounts; told once, if they are.
                known.retain(|(_, pattern, _), count| !pattern.starts_with("_R_.") || *count > 1);
                let mut local = local[there].clone();
                local.retain(|(_, pattern, _), _| reach.reaches(life.node, other.node, pattern));
                if known != local {
                    let all = known.keys().chain(local.keys());
                    let different: Vec<_> = all
                        .filter(|key| known.get(*key) != local.get(*key))
                        .map(|key| (key, known.get(key).copied(), local.get(key).copied()))
                        .collect();
                    world.fail(
                        "a server knows what its peers want",
                        format!(
                            "node {} of node {} (known, true): {different:?}",
                            life.node, other.node
                        ),
                    );
                    return;
                }
            }
            let strangers = known
                .keys()
                .find(|id| lives.iter().all(|life| life.id != **id));
            if let Some(id) = strangers {
                world.fail(
                    "a server knows what its peers want",
                    format!("node {} of {id}, which is not there", life.node),
                );
            }
        }
    }

    /// Nothing is left of clients that are gone, nor of servers that were stopped.
    fn close(&mut self) {
        let world = Arc::clone(&self.world);
        for client in &mut self.clients {
            client.die(&world, &mut self.ledger);
        }
        self.rest(true);
        if world.is_failed() {
            return;
        }
        for life in world.lives() {
            for account in life.engine.accounts() {
                let left = [
                    account.subscriptions(),
                    account.announced_interest(),
                    account.peer_interest(),
                ];
                // Of answers that cross accounts servers want to hear as long as they live; the system account's interest
                // is all their own.
                let own = usize::from(world.scenario.services && account.name() == SERVING);
                let others = world.scenario.nodes.len() - 1;
                let is_own = left[0] == 0 && left[1] <= own && left[2] <= own * others;
                if !is_own && account.name() != "$SYS" {
                    world.fail(
                        "no interest is left of clients that are gone",
                        format!("node {}, account {account:?}: {left:?}", life.node),
                    );
                }
            }
        }
        world.note(Event::Phase { name: "close" });
        world.close();
        let end = world.step() + REST_STEPS_MAX;
        while !world.connections().is_empty() && !world.is_failed() {
            self.step(None);
            if world.step() > end {
                world.fail("connections end", String::new());
            }
        }
        if world.is_failed() {
            return;
        }
        for life in world.lives() {
            let mesh = life.engine.mesh().map(|mesh| mesh.snapshot());
            let is_alone = mesh.is_none_or(|mesh| mesh.peers.is_empty());
            let interest: usize = life
                .engine
                .accounts()
                .iter()
                .map(|account| account.peer_interest())
                .sum();
            if !is_alone || interest > 0 || life.engine.connections() > 0 {
                world.fail(
                    "nothing is left of a connection that ended",
                    format!("node {}: {interest} interest", life.node),
                );
            }
        }
        let engines: Vec<Weak<Engine>> = world
            .lives()
            .iter()
            .map(|life| Arc::downgrade(&life.engine))
            .collect();
        world.forget_lives();
        let held = world.held_links();
        let is_held = engines.iter().any(|engine| engine.strong_count() > 0);
        if !held.is_empty() || is_held {
            world.fail(
                "nothing is left of a server that was stopped",
                format!("links {held:?}, engines held: {is_held}"),
            );
        }
    }

    fn report(&self, seed: u64) -> Report {
        let world = &self.world;
        let Counts {
            routes,
            duplicates,
            stale,
            slow,
            breaks,
            partings,
            deaths,
            reloads,
            ducks,
            interleavings,
            ..
        } = world.counts.lock().clone();
        Report {
            seed,
            nodes: world.scenario.nodes.len(),
            faults: world.scenario.faults,
            trace_hash: world.trace_hash(),
            steps: world.step(),
            publications: self.ledger.publications,
            deliveries: self.ledger.deliveries,
            confirmed: self.ledger.confirmed,
            answers: self.ledger.answers,
            crossed: self.ledger.crossed,
            routes,
            duplicates,
            stale,
            slow,
            breaks,
            partings,
            deaths,
            reloads,
            moved: self.moved,
            ducks,
            interleavings,
            healed_in: self.healed_in,
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

/// An interest: account, subject, queue group.
type Wanted = (String, String, Option<String>);

/// What a server's own clients want, and how many of them where that is told.
fn local_interest(engine: &Engine) -> BTreeMap<Wanted, u32> {
    let mut wanted = BTreeMap::new();
    engine.for_each_subscription(Default::default(), |subscription| {
        let queue = subscription.queue.map(text);
        let is_group = queue.is_some();
        let key = (
            subscription.account.to_string(),
            text(subscription.subject),
            queue,
        );
        let count = wanted.entry(key).or_insert(0);
        *count = if is_group { *count + 1 } else { 1 };
    });
    wanted
}

/// What a server has been told by its peers, by their ids.
fn known_interest(engine: &Engine) -> BTreeMap<String, BTreeMap<Wanted, u32>> {
    let snapshot = engine.mesh().map(|mesh| mesh.snapshot());
    let peers = snapshot.map(|snapshot| snapshot.peers).unwrap_or_default();
    let peer_of = |connection: u64| {
        let peer = peers.iter().find(|peer| {
            let mut dedicated = peer.dedicated.iter();
            peer.shared.contains(&Some(connection)) || dedicated.any(|(_, id)| *id == connection)
        });
        peer.map_or("nobody", |peer| &peer.id).to_owned()
    };
    let mut known = BTreeMap::<_, BTreeMap<_, _>>::new();
    engine.for_each_peer_interest(|interest| {
        let key = (
            interest.account.to_owned(),
            text(interest.subject),
            interest.queue.map(|(name, _)| text(name)),
        );
        let weight = interest.queue.map_or(1, |(_, weight)| weight);
        // One that was told twice counts twice, and so is found.
        *known
            .entry(peer_of(interest.connection))
            .or_default()
            .entry(key)
            .or_insert(0) += weight;
    });
    known
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            nodes,
            faults,
            ..
        } = self;
        let Some(failure) = &self.failure else {
            return write!(
                formatter,
                "seed {seed} ({nodes} nodes, faults: {faults:?}): {} steps, {} published, {} received, {} of them \
                 had to be, {} answers ({} between accounts), {} routes, {} duplicates, {} stale, {} slow, {} breaks, {} partings, {} deaths, \
                 {} reloads ({} of them moves without loss), {} lame ducks, {} interleavings, whole after {:?} at most, trace {:016x}",
                self.steps,
                self.publications,
                self.deliveries,
                self.confirmed,
                self.answers,
                self.crossed,
                self.routes,
                self.duplicates,
                self.stale,
                self.slow,
                self.breaks,
                self.partings,
                self.deaths,
                self.reloads,
                self.moved,
                self.ducks,
                self.interleavings,
                self.healed_in,
                self.trace_hash,
            );
        };
        for event in &failure.last_events {
            writeln!(formatter, "{event}")?;
        }
        write!(
            formatter,
            "seed {seed} ({nodes} nodes, faults: {faults:?}) fails: {}: {}\nrun it again with: cargo run -p sim \
             --release -- --cluster --seed {seed}",
            failure.property, failure.details,
        )
    }
}
