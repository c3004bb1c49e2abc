//! The clock, the workers, and which connection's task runs when: what a runtime and its threads are to a server.

use std::io::IoSliceMut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use fastrand::Rng;
use natterjack_engine::{
    Access, CloseReason, Engine, Limits, Outbox, Peer, ServerInfo, Settings, Worker,
};
use parking_lot::{Mutex, MutexGuard};

use crate::ledger::Violation;
use crate::link::{LINK_BYTES_MAX, Link};
use crate::scenario::Scenario;
use crate::task::{Shell, Task, TaskFlag, Turn, read_max};
use crate::trace::{Event, Trace};

/// Tasks that run at one time besides the first: each has stopped the one before in the middle of a write.
const DEPTH_MAX: usize = 2;

/// Reconfigured bounds on pending bytes are at most this many times the first ones.
const PENDING_FACTOR_MAX: usize = 4;

/// Turns without anything else happening after which tasks count as running in circles.
const IDLE_TURNS_MAX: u64 = 20_000;

/// One connection, as the server and the world see it.
pub(crate) struct Connection {
    pub(crate) id: usize,
    pub(crate) link: Arc<Link>,
    pub(crate) outbox: Weak<Outbox>,
    /// Taken while it runs; `None` once it has ended.
    task: Mutex<Option<Task>>,
    /// When its task wants to run in any case.
    pub(crate) timer: Mutex<Option<Instant>>,
    pub(crate) reason: Mutex<Option<CloseReason>>,
    /// When its link changes next.
    next_shift: Mutex<Instant>,
    is_frozen: Mutex<bool>,
}

pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) scenario: Scenario,
    workers: Vec<Mutex<Worker>>,
    /// Those that have not ended.
    connections: Mutex<Vec<Arc<Connection>>>,
    opened: AtomicUsize,
    /// Links of those that have ended.
    ended: Mutex<Vec<Arc<Link>>>,
    rng: Mutex<Rng>,
    start: Instant,
    clock: Mutex<Instant>,
    steps: AtomicU64,
    idle_turns: AtomicU64,
    depth: AtomicUsize,
    pub(crate) interleavings: AtomicU64,
    is_healed: Mutex<bool>,
    /// Held while the server is given a configuration; the number of the last.
    generation: Mutex<u64>,
    trace: Mutex<Trace<Event>>,
    violation: Mutex<Option<Violation>>,
}

impl World {
    pub(crate) fn new(seed: u64, scenario: Scenario) -> Arc<Self> {
        let engine = Engine::new(Settings {
            info: ServerInfo {
                server_id: "SIM".to_owned(),
                headers: true,
                ..ServerInfo::default()
            },
            limits: scenario.limits.clone(),
            access: Access::open(),
            seed,
            cluster: None,
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "virtual time has to start somewhere; only differences are ever seen"
        )]
        let start = Instant::now();
        Arc::new(Self {
            workers: (0..scenario.workers)
                .map(|_| Mutex::new(engine.worker()))
                .collect(),
            engine,
            scenario,
            connections: Mutex::default(),
            opened: AtomicUsize::new(0),
            ended: Mutex::default(),
            rng: Mutex::new(Rng::with_seed(seed)),
            start,
            clock: Mutex::new(start),
            steps: AtomicU64::new(0),
            idle_turns: AtomicU64::new(0),
            depth: AtomicUsize::new(0),
            interleavings: AtomicU64::new(0),
            is_healed: Mutex::new(false),
            generation: Mutex::new(0),
            trace: Mutex::default(),
            violation: Mutex::default(),
        })
    }

    pub(crate) fn now(&self) -> Instant {
        *self.clock.lock()
    }

    fn advance_to(&self, time: Instant) {
        let mut clock = self.clock.lock();
        *clock = time.max(*clock);
    }

    /// Counts everything that happens, and so orders what clients know.
    pub(crate) fn step(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn next_step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Draws from the run's one source of chance. Nothing that could draw again may be called meanwhile.
    pub(crate) fn chance<R>(&self, draw: impl FnOnce(&mut Rng) -> R) -> R {
        draw(&mut self.rng.lock())
    }

    /// A time from now until something happens again: mostly short, sometimes long.
    pub(crate) fn pause(&self) -> Duration {
        let pace = if *self.is_healed.lock() {
            Duration::from_micros(200)
        } else {
            self.scenario.pace
        };
        self.chance(|rng| {
            let factor = match rng.u8(..50) {
                0 => rng.u32(1000..50_000),
                1..5 => rng.u32(200..2000),
                _ => rng.u32(1..200),
            };
            pace * factor / 100
        })
    }

    pub(crate) fn note(&self, event: Event) {
        let time = self.now() - self.start;
        self.trace.lock().note(time, event);
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.trace.lock().hash()
    }

    pub(crate) fn last_events(&self) -> Vec<String> {
        self.trace.lock().last()
    }

    /// Notes that a property does not hold; the first one counts.
    pub(crate) fn fail(&self, property: &'static str, details: impl Into<String>) {
        self.violation.lock().get_or_insert_with(|| Violation {
            property,
            details: details.into(),
        });
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.lock().clone()
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.violation.lock().is_some()
    }

    /// The bounds clients know of. Reconfigured ones are no tighter.
    pub(crate) fn limits(&self) -> &Limits {
        &self.scenario.limits
    }

    fn pending_bytes_max(&self) -> usize {
        let factor = if self.scenario.reconfigures {
            PENDING_FACTOR_MAX
        } else {
            1
        };
        self.limits().pending_bytes_max * factor
    }

    /// A client comes.
    pub(crate) fn open(self: &Arc<Self>) -> Arc<Connection> {
        let id = self.opened.fetch_add(1, Ordering::Relaxed);
        let now = self.now();
        let link = Arc::new(Link::new(id, Arc::downgrade(self), now));
        let session = self
            .engine
            .open_client(Peer::default(), Arc::clone(&link) as Arc<_>, now);
        let connection = Arc::new(Connection {
            id,
            link,
            outbox: Arc::downgrade(session.outbox()),
            task: Mutex::new(Some(Task::new(session))),
            timer: Mutex::new(None),
            reason: Mutex::new(None),
            next_shift: Mutex::new(now),
            is_frozen: Mutex::new(false),
        });
        self.connections.lock().push(Arc::clone(&connection));
        self.note(Event::Opened { connection: id });
        connection
    }

    /// Connections that ended although something still holds on to their sockets; asked once no client does.
    pub(crate) fn held_links(&self) -> Vec<usize> {
        let ended = self.ended.lock();
        let is_held = |link: &&Arc<Link>| Arc::strong_count(link) > 1;
        ended
            .iter()
            .filter(is_held)
            .map(|link| link.connection)
            .collect()
    }

    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().clone()
    }

    /// A worker that nobody uses, and its number. There are more of them than tasks that run at one time.
    pub(crate) fn worker(&self) -> (usize, MutexGuard<'_, Worker>) {
        let first = self.chance(|rng| rng.usize(..self.workers.len()));
        (0..self.workers.len())
            .map(|step| (first + step) % self.workers.len())
            .find_map(|index| Some((index, self.workers[index].try_lock()?)))
            .expect("a task runs only if a worker is free")
    }

    /// From now on links take everything and clients do no harm.
    pub(crate) fn heal(&self) {
        *self.is_healed.lock() = true;
        let now = self.now();
        for connection in self.connections() {
            *connection.next_shift.lock() = now;
        }
    }

    /// Lets one task run that has a reason to. Returns `false` if none has.
    pub(crate) fn run_some_task(&self) -> bool {
        let mut ready = self.connections();
        ready.retain(|connection| connection.is_ready());
        if ready.is_empty() {
            return false;
        }
        let index = self.chance(|rng| rng.usize(..ready.len()));
        self.run_task(&ready[index]);
        if self.idle_turns.fetch_add(1, Ordering::Relaxed) > IDLE_TURNS_MAX {
            self.fail(
                "tasks come to rest",
                format!("connection {} runs in circles", ready[index].id),
            );
        }
        true
    }

    fn run_task(&self, connection: &Connection) {
        let Some(mut task) = connection.task.try_lock() else {
            return;
        };
        connection.link.task.clear();
        self.note(Event::Turn {
            connection: connection.id,
            depth: self.depth.load(Ordering::Relaxed),
        });
        let Some(running) = &mut *task else { return };
        let turning = Turning {
            world: self,
            connection,
        };
        if running.turn(&turning) == Turn::Ended {
            *task = None;
            *connection.timer.lock() = None;
            connection.link.shut();
            self.ended.lock().push(Arc::clone(&connection.link));
            self.connections
                .lock()
                .retain(|other| other.id != connection.id);
            self.note(Event::Ended {
                connection: connection.id,
            });
        }
    }

    /// Called where a thread is in a system call and others run: they may.
    pub(crate) fn meanwhile(&self) {
        let depth = self.depth.load(Ordering::Relaxed);
        let percent = self.scenario.interleaved_percent;
        if depth >= DEPTH_MAX.min(self.workers.len() - 1)
            || self.chance(|rng| rng.u8(..100)) >= percent
        {
            return;
        }
        self.depth.store(depth + 1, Ordering::Relaxed);
        self.interleavings.fetch_add(1, Ordering::Relaxed);
        let later = self.now() + Duration::from_micros(self.chance(|rng| rng.u64(..300)));
        self.advance_to(later);
        if self.chance(Rng::bool) {
            self.shift_some_link();
        }
        if self.chance(|rng| rng.u8(..50)) == 0 {
            self.reconfigure();
        }
        for _ in 0..self.chance(|rng| rng.u8(..4)) {
            self.run_some_task();
        }
        self.depth.store(depth, Ordering::Relaxed);
    }

    /// When something happens next: to a link, or a task's timer rings.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        let times = |connection: &Arc<Connection>| {
            let shift = connection.is_open().then(|| *connection.next_shift.lock());
            [shift, *connection.timer.lock()]
        };
        self.connections().iter().flat_map(times).flatten().min()
    }

    /// Moves the clock to `time` and does what is due: timers ring, links change.
    pub(crate) fn pass_to(&self, time: Instant) {
        self.advance_to(time);
        self.idle_turns.store(0, Ordering::Relaxed);
        let now = self.now();
        for connection in self.connections() {
            if connection.timer.lock().is_some_and(|timer| timer <= now) {
                *connection.timer.lock() = None;
                connection.link.task.set();
            }
            if connection.is_open() && *connection.next_shift.lock() <= now {
                self.shift(&connection);
            }
        }
    }

    fn shift_some_link(&self) {
        let mut open = self.connections();
        open.retain(|connection| connection.is_open() && !*connection.is_frozen.lock());
        if !open.is_empty() {
            let index = self.chance(|rng| rng.usize(..open.len()));
            self.shift(&open[index]);
        }
    }

    /// Gives a link another capacity, for a random time.
    fn shift(&self, connection: &Connection) {
        let mut until = self.now() + self.pause();
        let healed = *self.is_healed.lock();
        let (room, arriving, freezes) = if healed {
            (LINK_BYTES_MAX, LINK_BYTES_MAX, false)
        } else {
            self.chance(|rng| (amount(rng), amount(rng), rng.u16(..200) == 0))
        };
        *connection.is_frozen.lock() = freezes;
        if freezes {
            until += self.scenario.pace * self.chance(|rng| rng.u32(20..800));
        }
        *connection.next_shift.lock() = until;
        let room = if freezes { 0 } else { room };
        let event = connection.link.shift(room, arriving);
        self.note(event);
    }

    /// If the scenario has it so, gives the server another configuration, under which no client does wrong.
    pub(crate) fn reconfigure(&self) {
        let Some(mut generation) = self
            .generation
            .try_lock()
            .filter(|_| self.scenario.reconfigures)
        else {
            return;
        };
        let base = self.limits();
        let is_full = self.scenario.may_be_full() && !*self.is_healed.lock();
        let mut new = self.engine.configuration();
        let limits = &mut new.limits;
        self.chance(|rng| {
            limits.payload_bytes_max = base.payload_bytes_max * rng.usize(1..=2);
            limits.pending_bytes_max = base.pending_bytes_max * rng.usize(1..=PENDING_FACTOR_MAX);
            limits.write_deadline = base.write_deadline * rng.u32(1..=3);
            limits.ping_interval = base.ping_interval * rng.u32(1..=4) / 2;
            limits.connections_max = if is_full && rng.bool() {
                rng.usize(1..=self.scenario.clients)
            } else {
                base.connections_max
            };
        });
        let connections_max = new.limits.connections_max;
        let adaptation = self.engine.reconfigure(new, self.now());
        *generation = adaptation.generation();
        self.note(Event::Reconfigured {
            generation: *generation,
            connections_max,
        });
    }

    /// What must have been counted when all connections are closed.
    pub(crate) fn check_counts(&self) {
        let totals = self.engine.totals();
        let (mut messages_in, mut messages_out) = (0, 0);
        let closed = self.engine.closed_connection_snapshots();
        for snapshot in &closed {
            messages_in += snapshot.messages_in;
            messages_out += snapshot.messages_out;
        }
        let of_connections = (closed.len() as u64, messages_in, messages_out);
        let of_server = (totals.connections, totals.messages_in, totals.messages_out);
        let open: usize = self
            .engine
            .account_snapshots()
            .iter()
            .map(|account| account.connections)
            .sum();
        if of_connections != of_server || open > 0 {
            self.fail(
                "connections, messages in and out are counted once",
                format!("by connection {of_connections:?}, for all {of_server:?}, {open} open"),
            );
        }
    }

    /// What must hold whenever no engine call is under way.
    pub(crate) fn check_bounds(&self) {
        for connection in self.connections() {
            let Some(outbox) = connection.outbox.upgrade() else {
                continue;
            };
            let (status, pending_bytes_max) = (outbox.status(), self.pending_bytes_max());
            if status.pending_bytes > pending_bytes_max && status.closed.is_none() {
                self.fail(
                    "pending bytes are bounded",
                    format!(
                        "connection {}: {} bytes wait",
                        connection.id, status.pending_bytes
                    ),
                );
            }
        }
    }

    /// What must hold when no task has a reason to run: nothing may be left that only a lost wake-up explains.
    pub(crate) fn check_rest(&self) {
        let generation = *self.generation.lock();
        if !self.engine.is_adapted(generation) {
            self.fail(
                "quiet sessions change over too",
                format!("not all to configuration {generation}"),
            );
        }
        let connections = self.connections();
        let is_anything_pending = connections
            .iter()
            .filter_map(|connection| connection.outbox.upgrade())
            .any(|outbox| outbox.status().pending_bytes > 0);
        for connection in &connections {
            let task = connection.task.lock();
            let Some(task) = &*task else { continue };
            let (link, id) = (&connection.link, connection.id);
            let status = task.session().outbox().status();
            if status.pending_bytes > 0 && (link.is_writable() || !link.writer_waits()) {
                self.fail(
                    "what waits is written as soon as the link takes it",
                    format!(
                        "connection {id}: {status:?}, writable {}",
                        link.is_writable()
                    ),
                );
            }
            if status.closed.is_some() && !task.is_ending() {
                self.fail(
                    "a closed connection's task is woken",
                    format!("connection {id}: {status:?}"),
                );
            }
            let timer = *connection.timer.lock();
            if timer.is_none() {
                self.fail("a task has a timer", format!("connection {id}"));
            }
            if task.is_ending() {
                continue;
            }
            if link.is_readable() && !task.is_stalled() && !status.is_blocked {
                self.fail(
                    "what arrived is read",
                    format!("connection {id}: {status:?}"),
                );
            }
            if task.is_stalled() && !is_anything_pending {
                self.fail(
                    "a stalled session is woken",
                    format!("connection {id} waits for nobody"),
                );
            }
        }
    }

    /// A slow consumer's end must be deserved.
    pub(crate) fn check_reason(&self, connection: &Connection, reason: CloseReason) {
        let id = connection.id;
        let scenario = &self.scenario;
        let allowed = match reason {
            CloseReason::ClientClosed | CloseReason::WriteError | CloseReason::ReadError => {
                connection.link.is_hung_up()
            }
            CloseReason::ServerShutdown => *self.is_healed.lock(),
            CloseReason::ConnectionsExceeded => scenario.may_be_full(),
            CloseReason::SlowConsumerPendingBytes | CloseReason::StaleConnection => scenario.drops,
            // A task that is late by what passed during writes still goes by the time it took before.
            CloseReason::SlowConsumerWriteDeadline => {
                let slack = Duration::from_millis(10);
                let idle = self.now() - connection.link.taken() + slack;
                scenario.drops && idle >= scenario.limits.write_deadline
            }
            _ => false,
        };
        if !allowed {
            self.fail(
                "connections end for a reason",
                format!("connection {id}: {reason:?}"),
            );
        }
    }
}

/// A connection's task as it runs.
struct Turning<'a> {
    world: &'a World,
    connection: &'a Connection,
}

impl Shell for Turning<'_> {
    fn now(&self) -> Instant {
        self.world.now()
    }

    fn flag(&self) -> &Arc<TaskFlag> {
        &self.connection.link.task
    }

    fn set_timer(&self, timer: Instant) {
        *self.connection.timer.lock() = Some(timer);
    }

    fn with_worker(&self, use_it: &mut dyn FnMut(usize, &mut Worker)) {
        let (index, mut worker) = self.world.worker();
        use_it(index, &mut worker);
    }

    fn read_max(&self) -> usize {
        self.world.chance(read_max)
    }

    fn poll_readable(&self) -> bool {
        self.connection.link.poll_readable()
    }

    fn poll_writable(&self) -> bool {
        self.connection.link.poll_writable()
    }

    fn read(&self, slices: &mut [IoSliceMut<'_>], max: usize) -> usize {
        self.connection.link.read(slices, max)
    }

    fn compress(&self, _waiting_bytes: usize, _unread: &[u8]) {
        self.world
            .fail("clients' connections are not compressed", String::new());
    }

    fn has_stalled(&self) {
        let connection = self.connection.id;
        self.world.note(Event::Stalled { connection });
    }

    fn has_read(&self, bytes: usize, worker: usize) {
        self.world.note(Event::Read {
            connection: self.connection.id,
            bytes,
            worker,
        });
    }

    fn is_ending(&self, reason: CloseReason) {
        let connection = self.connection;
        self.world.note(Event::ending(connection.id, reason));
        self.world.check_reason(connection, reason);
        *connection.reason.lock() = Some(reason);
    }
}

impl Connection {
    pub(crate) fn is_open(&self) -> bool {
        // One whose task is running is open: it ends only when the task has run.
        self.task.try_lock().is_none_or(|task| task.is_some())
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.link.task.is_set() && self.task.try_lock().is_some_and(|task| task.is_some())
    }
}

/// Bytes, from none to a full link.
fn amount(rng: &mut Rng) -> usize {
    match rng.u8(..8) {
        0 | 1 => 0,
        2 => rng.usize(1..100),
        3 | 4 => rng.usize(100..4096),
        5 | 6 => rng.usize(4096..LINK_BYTES_MAX),
        _ => LINK_BYTES_MAX,
    }
}
