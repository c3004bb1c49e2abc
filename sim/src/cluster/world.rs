//! The clock, the servers with their connections, and whose task runs when.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use fastrand::Rng;
use natterjack_engine::access::{Export, Import, ServiceExport, ServiceImport};
use natterjack_engine::{
    Access, AccountAccess, CloseReason, ClusterSettings, Dial, DialId, Direction, Engine, Limits,
    Nonce, Outbox, Peer, RoutePeer, ServerInfo, Session, Settings, User, Worker,
};
use parking_lot::{Mutex, MutexGuard};

use super::event::Event;
use super::link::{Break, LINK_BYTES_MAX, Link};
use super::reach::Reach;
use super::scenario::{
    ACCOUNTS, Change, FIRST_PORT, Faults, Reloads, SERVED, SERVICE, SERVING, Scenario, change,
};
use crate::ledger::Violation;
use crate::task::{Shell, Task, TaskFlag, Turn, read_max};
use crate::trace::Trace;

/// Tasks that run at one time besides the first: each has stopped the one before in the middle of a write.
const DEPTH_MAX: usize = 2;

/// Turns without any time passing after which tasks count as running in circles.
const IDLE_TURNS_MAX: u64 = 20_000;

/// Connections that a server may have with another one at a time, with those that are being refused or given up.
const CONNECTIONS_PER_PEER_MAX: usize = 64;

/// How long somebody who dials waits for an answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// One life of a server, from its start to its death.
pub(crate) struct Life {
    pub(crate) node: usize,
    pub(crate) id: String,
    pub(crate) engine: Arc<Engine>,
    workers: Vec<Mutex<Worker>>,
    dialler: Arc<TaskFlag>,
    dial_at: Mutex<Option<Instant>>,
    pub(crate) is_up: AtomicBool,
    /// It has announced that it will go.
    pub(crate) is_lame: AtomicBool,
}

/// One connection, as one server sees it.
pub(crate) struct Connection {
    pub(crate) id: usize,
    pub(crate) life: Arc<Life>,
    /// The server at the other end, if it is not a client.
    pub(crate) other: Option<usize>,
    /// The connection's number at the other end.
    pub(crate) counterpart: Option<usize>,
    pub(crate) link: Arc<Link>,
    pub(crate) outbox: Weak<Outbox>,
    /// Taken while it runs; `None` once it has ended.
    task: Mutex<Option<Task>>,
    timer: Mutex<Option<Instant>>,
    opened: Instant,
}

/// Somebody is dialled.
struct Dialling {
    at: Instant,
    life: Arc<Life>,
    dial: Dial,
    is_in_vain: bool,
}

/// Servers of one side cannot reach those of the other.
struct Parting {
    /// Bit by bit.
    side: u8,
    until: Instant,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) dials: u64,
    pub(crate) routes: u64,
    pub(crate) duplicates: u64,
    pub(crate) stale: u64,
    pub(crate) slow: u64,
    pub(crate) breaks: u64,
    pub(crate) partings: u64,
    pub(crate) deaths: u64,
    pub(crate) reloads: u64,
    pub(crate) lossy_reloads: u64,
    pub(crate) ducks: u64,
    pub(crate) stalls: u64,
    pub(crate) interleavings: u64,
}

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    /// What each server is configured with now.
    nodes: Mutex<Vec<ClusterSettings>>,
    /// Accounts that each server does not have now.
    absent: Mutex<Vec<BTreeSet<&'static str>>>,
    /// Accounts that some server was told to have connections for, at some time.
    listed: Mutex<BTreeSet<String>>,
    /// The servers that are up.
    lives: Mutex<Vec<Option<Arc<Life>>>>,
    /// Those that have not ended.
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Of all connections there ever were.
    links: Mutex<Vec<Arc<Link>>>,
    opened: AtomicUsize,
    dialling: Mutex<Vec<Dialling>>,
    partings: Mutex<Vec<Parting>>,
    /// When dead servers come back.
    returns: Mutex<Vec<(Instant, usize)>>,
    rng: Mutex<Rng>,
    start: Instant,
    clock: Mutex<Instant>,
    steps: AtomicU64,
    idle_turns: AtomicU64,
    depth: AtomicUsize,
    is_calm: AtomicBool,
    /// The cluster has been whole, and nothing happened to it since.
    is_whole: AtomicBool,
    is_closing: AtomicBool,
    pub(crate) counts: Mutex<Counts>,
    trace: Mutex<Trace<Event>>,
    violation: Mutex<Option<Violation>>,
}

impl World {
    pub(crate) fn new(seed: u64, scenario: Scenario) -> Arc<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "virtual time has to start somewhere; only differences are ever seen"
        )]
        let start = Instant::now();
        let world = Arc::new(Self {
            lives: Mutex::new(scenario.nodes.iter().map(|_| None).collect()),
            nodes: Mutex::new(scenario.nodes.clone()),
            absent: Mutex::new(vec![BTreeSet::new(); scenario.nodes.len()]),
            listed: Mutex::new(
                (scenario.nodes.iter())
                    .flat_map(|node| node.accounts.iter().cloned())
                    .collect(),
            ),
            scenario,
            connections: Mutex::default(),
            links: Mutex::default(),
            opened: AtomicUsize::new(0),
            dialling: Mutex::default(),
            partings: Mutex::default(),
            returns: Mutex::default(),
            rng: Mutex::new(Rng::with_seed(seed)),
            start,
            clock: Mutex::new(start),
            steps: AtomicU64::new(0),
            idle_turns: AtomicU64::new(0),
            depth: AtomicUsize::new(0),
            is_calm: AtomicBool::new(false),
            is_whole: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            counts: Mutex::default(),
            trace: Mutex::default(),
            violation: Mutex::default(),
        });
        for node in 0..world.scenario.nodes.len() {
            // Not all at once.
            let at = start + world.pause() * 20;
            world.returns.lock().push((at, node));
        }
        world
    }

    /// Where a server's clients come in.
    pub(crate) fn client_url(node: usize) -> String {
        format!("127.0.0.1:{}", 4000 + node)
    }

    pub(crate) fn now(&self) -> Instant {
        *self.clock.lock()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now() - self.start
    }

    fn advance_to(&self, time: Instant) {
        let mut clock = self.clock.lock();
        *clock = time.max(*clock);
    }

    pub(crate) fn step(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn next_step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Draws from the game's one source of chance. Nothing that could draw again may be called meanwhile.
    pub(crate) fn chance<R>(&self, draw: impl FnOnce(&mut Rng) -> R) -> R {
        draw(&mut self.rng.lock())
    }

    /// A time from now until something happens again: mostly short, sometimes long.
    pub(crate) fn pause(&self) -> Duration {
        let pace = if self.is_calm() {
            Duration::from_millis(1)
        } else {
            self.scenario.pace
        };
        self.chance(|rng| {
            let factor = match rng.u8(..50) {
                0 => rng.u32(1000..20_000),
                1..5 => rng.u32(200..2000),
                _ => rng.u32(1..200),
            };
            pace * factor / 100
        })
    }

    /// Bytes that move at a time: pulled from the other end, arriving, to be written.
    pub(crate) fn amounts(&self) -> [usize; 3] {
        if self.is_calm() {
            return [LINK_BYTES_MAX; 3];
        }
        self.chance(|rng| core::array::from_fn(|_| amount(rng)))
    }

    fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, event: Event) {
        let time = self.elapsed();
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

    // The servers.

    pub(crate) fn lives(&self) -> Vec<Arc<Life>> {
        self.lives.lock().iter().flatten().cloned().collect()
    }

    fn start(&self, node: usize) {
        let (id, seed) = self.chance(|rng| {
            // Which of two is the greater one is up to chance.
            let id: String = (0..8).map(|_| rng.alphanumeric()).collect();
            (format!("{id}-{node}"), rng.u64(..))
        });
        let access = self.access(node);
        let engine = Engine::new(Settings {
            info: ServerInfo {
                server_id: id.clone(),
                server_name: format!("node{node}"),
                headers: true,
                connect_urls: vec![Self::client_url(node)],
                ..ServerInfo::default()
            },
            limits: Limits {
                // Links to clients are slow, and clients are deaf, for as long as chance has it.
                write_deadline: Duration::from_secs(3600),
                auth_timeout: Duration::from_secs(3600),
                ..Limits::default()
            },
            access,
            seed,
            cluster: Some(self.nodes.lock()[node].clone()),
        });
        let dialler = Arc::<TaskFlag>::default();
        dialler.set();
        self.note(Event::Started {
            node,
            id: id.clone(),
        });
        self.lives.lock()[node] = Some(Arc::new(Life {
            node,
            id,
            workers: (0..self.scenario.workers)
                .map(|_| Mutex::new(engine.worker()))
                .collect(),
            engine,
            dialler,
            dial_at: Mutex::new(None),
            is_up: AtomicBool::new(true),
            is_lame: AtomicBool::new(false),
        }));
    }

    /// Whether a server has an account.
    fn has_account(&self, node: usize, account: &str) -> bool {
        !self.absent.lock()[node].contains(account)
    }

    /// The accounts of a server, and what they offer each other.
    fn access(&self, node: usize) -> Access {
        let accounts = ACCOUNTS[..self.scenario.accounts].iter();
        let there = accounts.filter(|account| self.has_account(node, account));
        let offers = self.scenario.services && self.has_account(node, SERVING);
        Access {
            accounts: there
                .map(|&name| {
                    let export = Export::Service(ServiceExport {
                        subject: SERVICE.to_owned(),
                        ..ServiceExport::default()
                    });
                    let import = Import::Service(ServiceImport {
                        account: SERVING.to_owned(),
                        subject: SERVICE.to_owned(),
                        ..ServiceImport::default()
                    });
                    AccountAccess {
                        name: name.to_owned(),
                        users: vec![User {
                            name: name.to_lowercase(),
                            credential: natterjack_engine::Credential::Password("x".into()),
                            ..User::default()
                        }],
                        exports: Vec::from_iter((offers && name == SERVING).then_some(export)),
                        imports: Vec::from_iter((offers && name == SERVED).then_some(import)),
                        ..AccountAccess::default()
                    }
                })
                .collect(),
            ..Access::default()
        }
    }

    /// A server dies; its peers hear of it, or nothing. Not while a task runs.
    fn kill(&self, life: &Arc<Life>, silently: bool) {
        let node = life.node;
        self.note(Event::Killed { node, silently });
        self.counts.lock().deaths += 1;
        life.is_up.store(false, Ordering::Relaxed);
        self.lives.lock()[node] = None;
        let now = self.now();
        let of_it: Vec<_> = (self.connections.lock())
            .extract_if(.., |connection| Arc::ptr_eq(&connection.life, life))
            .collect();
        for connection in of_it {
            if connection.other.is_none() {
                connection.link.shut();
            } else if silently {
                connection.link.break_off(Break::Silence, now);
            } else if self.chance(Rng::bool) {
                connection.link.break_off(Break::End, now);
            } else {
                connection.link.break_off(Break::Reset, now);
            }
            *connection.task.lock() = None;
            // What a process that died held on to is nobody's concern.
            let is_its = |link: &mut Arc<Link>| link.connection == connection.id;
            drop(self.links.lock().extract_if(.., is_its).collect::<Vec<_>>());
        }
        self.dialling
            .lock()
            .retain(|dialling| !Arc::ptr_eq(&dialling.life, life));
    }

    fn life(&self, node: usize) -> Option<Arc<Life>> {
        self.lives.lock().get(node)?.clone()
    }

    /// Asks a server's mesh whom to dial.
    fn dial(&self, life: &Arc<Life>) {
        life.dialler.clear();
        let mut dials = Vec::new();
        let mesh = life.engine.mesh().expect("every server is in the cluster");
        let waker = Waker::from(Arc::clone(&life.dialler));
        let now = self.now();
        mesh.poll_dials(now, &waker, &mut dials);
        *life.dial_at.lock() = mesh.next_dial_at();
        for dial in dials {
            let other = usize::from(dial.port.wrapping_sub(FIRST_PORT));
            self.note(Event::Dialled {
                node: life.node,
                other,
            });
            self.counts.lock().dials += 1;
            self.is_whole.store(false, Ordering::Relaxed);
            let is_in_vain = self.is_barred(life.node, other);
            let at = if is_in_vain {
                now + DIAL_TIMEOUT
            } else {
                now + self.pause()
            };
            self.dialling.lock().push(Dialling {
                at,
                life: Arc::clone(life),
                dial,
                is_in_vain,
            });
        }
    }

    fn is_barred(&self, one: usize, other: usize) -> bool {
        let partings = self.partings.lock();
        let side = |parting: &Parting, node: usize| parting.side >> node & 1;
        partings
            .iter()
            .any(|parting| side(parting, one) != side(parting, other))
    }

    fn answer(self: &Arc<Self>, dialling: &Dialling) {
        let Dialling { life, dial, .. } = dialling;
        let other = usize::from(dial.port.wrapping_sub(FIRST_PORT));
        let there = self.life(other);
        let is_reached = !dialling.is_in_vain && !self.is_barred(life.node, other);
        let Some(there) = there.filter(|_| is_reached) else {
            self.note(Event::DialFailed {
                node: life.node,
                other,
            });
            let mesh = life.engine.mesh().expect("every server is in the cluster");
            mesh.dial_failed(dial.id, &"no answer", self.now());
            return;
        };
        self.connect(life, &there, dial.id);
    }

    fn connect(self: &Arc<Self>, here: &Arc<Life>, there: &Arc<Life>, dial: DialId) {
        let now = self.now();
        let ids = [(); 2].map(|()| self.opened.fetch_add(1, Ordering::Relaxed));
        let links = ids.map(|id| Link::new(id, Arc::downgrade(self)));
        Link::join(&links[0], &links[1]);
        self.note(Event::Connected {
            node: here.node,
            other: there.node,
            connections: ids,
        });
        self.counts.lock().routes += 1;
        let mut sides = [
            (here, there, Direction::Dialled(dial), 0),
            (there, here, Direction::Accepted, 1),
        ];
        if self.chance(Rng::bool) {
            sides.reverse();
        }
        for (life, other, direction, side) in sides {
            let peer = RoutePeer {
                address: Some(SocketAddr::from(([127, 0, 0, 1], 50_000))),
                nonce: Nonce::new([7; Nonce::RANDOM_BYTES]),
                direction,
            };
            let link = &links[side];
            let session = life
                .engine
                .open_route(peer, Arc::clone(link) as Arc<_>, now)
                .expect("every server is in the cluster");
            let outbox = Arc::downgrade(session.outbox());
            let connection = Connection {
                id: ids[side],
                life: Arc::clone(life),
                other: Some(other.node),
                counterpart: Some(ids[1 - side]),
                link: Arc::clone(link),
                outbox,
                task: Mutex::new(Some(Task::new(session))),
                timer: Mutex::new(None),
                opened: now,
            };
            self.enter(connection);
        }
        let to_there = |connection: &&Arc<Connection>| {
            Arc::ptr_eq(&connection.life, here) && connection.other == Some(there.node)
        };
        let count = self.connections.lock().iter().filter(to_there).count();
        if count > CONNECTIONS_PER_PEER_MAX {
            self.fail(
                "connections do not pile up",
                format!("{count} from node {} to node {}", here.node, there.node),
            );
        }
    }

    fn enter(&self, connection: Connection) -> Arc<Connection> {
        let connection = Arc::new(connection);
        self.links.lock().push(Arc::clone(&connection.link));
        self.connections.lock().push(Arc::clone(&connection));
        connection
    }

    /// A client comes to some server; `None` if all are dead.
    pub(crate) fn open(self: &Arc<Self>, account: &'static str) -> Option<Arc<Connection>> {
        let mut lives = self.lives();
        // Nobody is sent to one that is about to go, if there are others.
        let is_lame = |life: &Arc<Life>| life.is_lame.load(Ordering::Relaxed);
        if !lives.iter().all(is_lame) {
            lives.retain(|life| !is_lame(life));
        }
        lives.retain(|life| self.has_account(life.node, account));
        if lives.is_empty() {
            return None;
        }
        let life = &lives[self.chance(|rng| rng.usize(..lives.len()))];
        let id = self.opened.fetch_add(1, Ordering::Relaxed);
        let now = self.now();
        let link = Link::new(id, Arc::downgrade(self));
        self.note(Event::Opened {
            connection: id,
            node: life.node,
            account,
        });
        let session = life
            .engine
            .open_client(Peer::default(), Arc::clone(&link) as Arc<_>, now);
        let outbox = Arc::downgrade(session.outbox());
        Some(self.enter(Connection {
            id,
            life: Arc::clone(life),
            other: None,
            counterpart: None,
            link,
            outbox,
            task: Mutex::new(Some(Task::new(session))),
            timer: Mutex::new(None),
            opened: now,
        }))
    }

    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().clone()
    }

    /// Links that something still holds on to; asked once no server nor client does.
    pub(crate) fn held_links(&self) -> Vec<usize> {
        let links = self.links.lock();
        let is_held = |link: &&Arc<Link>| Arc::strong_count(link) > 1;
        links
            .iter()
            .filter(is_held)
            .map(|link| link.connection)
            .collect()
    }

    /// The servers are let go of.
    pub(crate) fn forget_lives(&self) {
        self.lives.lock().iter_mut().for_each(|life| *life = None);
        self.dialling.lock().clear();
    }

    // The course of things.

    /// Lets one task run that has a reason to. Returns `false` if none has.
    pub(crate) fn run_some_task(&self) -> bool {
        let mut ready: Vec<Arc<Connection>> = self
            .connections
            .lock()
            .iter()
            .filter(|connection| connection.is_ready())
            .cloned()
            .collect();
        let lives = self.lives();
        let diallers: Vec<_> = lives.iter().filter(|life| life.dialler.is_set()).collect();
        let count = ready.len() + diallers.len();
        if count == 0 {
            return false;
        }
        let index = self.chance(|rng| rng.usize(..count));
        if index < ready.len() {
            self.run_task(&ready.swap_remove(index));
        } else {
            self.dial(diallers[index - ready.len()]);
        }
        if self.idle_turns.fetch_add(1, Ordering::Relaxed) > IDLE_TURNS_MAX {
            self.fail("tasks come to rest", format!("choice {index} of {count}"));
        }
        true
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        let connections = self.connections.lock();
        !connections.iter().any(|connection| connection.is_ready())
            && !self.lives().iter().any(|life| life.dialler.is_set())
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
            connection.link.poke_far(self.now() + self.pause());
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
        if depth >= DEPTH_MAX.min(self.scenario.workers - 1)
            || self.chance(|rng| rng.u8(..100)) >= percent
        {
            return;
        }
        self.depth.store(depth + 1, Ordering::Relaxed);
        self.counts.lock().interleavings += 1;
        let later = self.now() + Duration::from_micros(self.chance(|rng| rng.u64(..300)));
        self.advance_to(later);
        for _ in 0..self.chance(|rng| rng.u8(..4)) {
            self.run_some_task();
        }
        self.depth.store(depth, Ordering::Relaxed);
    }

    /// When something happens next by itself.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        let connections = self.connections.lock();
        let of_connections = connections
            .iter()
            .flat_map(|connection| [connection.link.next(), *connection.timer.lock()])
            .flatten();
        let lives = self.lives();
        let of_lives = lives.iter().filter_map(|life| *life.dial_at.lock());
        let dialling = self.dialling.lock();
        let of_dialling = dialling.iter().map(|dialling| dialling.at);
        let returns = self.returns.lock();
        let of_returns = returns.iter().map(|&(at, _)| at);
        let partings = self.partings.lock();
        let of_partings = partings.iter().map(|parting| parting.until);
        of_connections
            .chain(of_lives)
            .chain(of_dialling)
            .chain(of_returns)
            .chain(of_partings)
            .min()
    }

    /// Moves the clock to `time` and does what is due.
    pub(crate) fn pass_to(self: &Arc<Self>, time: Instant) {
        self.advance_to(time);
        self.idle_turns.store(0, Ordering::Relaxed);
        let now = self.now();
        for connection in self.connections() {
            if connection.timer.lock().is_some_and(|timer| timer <= now) {
                *connection.timer.lock() = None;
                connection.link.task.set();
            }
            if connection.link.next().is_some_and(|next| next <= now) {
                connection.link.carry(self);
            }
        }
        for life in self.lives() {
            if life.dial_at.lock().take_if(|at| *at <= now).is_some() {
                life.dialler.set();
            }
        }
        let due: Vec<_> = self
            .dialling
            .lock()
            .extract_if(.., |dialling| dialling.at <= now)
            .collect();
        for dialling in due {
            self.answer(&dialling);
        }
        let due: Vec<_> = self
            .returns
            .lock()
            .extract_if(.., |(at, _)| *at <= now)
            .collect();
        for (_, node) in due {
            self.start(node);
        }
        self.partings.lock().retain(|parting| parting.until > now);
    }

    /// Something is done to a server, or something bad happens, of the kinds that the scenario has.
    pub(crate) fn interfere(&self) {
        let Scenario { reloads, ducks, .. } = self.scenario;
        match self.chance(|rng| rng.u8(..8)) {
            0 | 1 if reloads != Reloads::None => self.reload(),
            2 if ducks => self.lame(),
            _ => self.do_harm(),
        }
    }

    /// A server is given other settings.
    fn reload(&self) {
        let lives = self.lives();
        if lives.is_empty() {
            return;
        }
        let life = &lives[self.chance(|rng| rng.usize(..lives.len()))];
        if self.scenario.reloads == Reloads::Accounts && self.chance(Rng::bool) {
            let account = ACCOUNTS[self.chance(|rng| rng.usize(..self.scenario.accounts))];
            let mut absent = self.absent.lock();
            if !absent[life.node].remove(account) {
                absent[life.node].insert(account);
            }
            drop(absent);
            return self.reconfigure(life, Change::Accounts);
        }
        let mut nodes = self.nodes.lock();
        let settings = &mut nodes[life.node];
        let Scenario {
            reloads, accounts, ..
        } = self.scenario;
        let what = self.chance(|rng| change(settings, reloads, accounts, rng));
        self.listed.lock().extend(settings.accounts.iter().cloned());
        drop(nodes);
        self.reconfigure(life, what);
    }

    /// A server goes by its settings as they are now.
    fn reconfigure(&self, life: &Life, what: Change) {
        let node = life.node;
        self.note(Event::Reloaded { node, what });
        self.counts.lock().reloads += 1;
        self.counts.lock().lossy_reloads += u64::from(what.may_lose());
        self.is_whole.store(false, Ordering::Relaxed);
        let mut configuration = life.engine.configuration();
        configuration.access = self.access(node);
        configuration.cluster = Some(self.nodes.lock()[node].clone());
        drop(life.engine.reconfigure(configuration, self.now()));
    }

    /// Accounts with connections to themselves are to be the same everywhere: whoever changes them on one server does
    /// so on all others as well, sooner or later.
    fn roll_out(&self) {
        let accounts = self.nodes.lock()[0].accounts.clone();
        for node in 0..self.scenario.nodes.len() {
            let was_absent = std::mem::take(&mut self.absent.lock()[node]);
            if let Some(life) = self.life(node).filter(|_| !was_absent.is_empty()) {
                self.reconfigure(&life, Change::AccountsBack);
            }
        }
        for node in 0..self.scenario.nodes.len() {
            let mut nodes = self.nodes.lock();
            let of_node = &mut nodes[node].accounts;
            if *of_node == accounts {
                continue;
            }
            of_node.clone_from(&accounts);
            drop(nodes);
            if let Some(life) = self.life(node) {
                self.reconfigure(&life, Change::ApartAsOthers);
            }
        }
    }

    /// A server says that it will go. It does so before the next round.
    fn lame(&self) {
        let lives = self.lives();
        if lives.is_empty() {
            return;
        }
        let life = &lives[self.chance(|rng| rng.usize(..lives.len()))];
        if !life.is_lame.swap(true, Ordering::Relaxed) {
            self.note(Event::Lame { node: life.node });
            self.counts.lock().ducks += 1;
            life.engine.announce_lame_duck(self.now());
        }
    }

    /// Those who said that they will go, go. Not while a task runs.
    pub(crate) fn let_go(&self) {
        for life in self.lives() {
            if life.is_lame.load(Ordering::Relaxed) {
                self.is_whole.store(false, Ordering::Relaxed);
                self.kill(&life, false);
                self.returns
                    .lock()
                    .push((self.now() + self.pause(), life.node));
            }
        }
    }

    /// Between whom interest is told of, by the settings of this moment.
    pub(crate) fn reach(&self) -> Reach {
        Reach::new(&self.nodes.lock())
    }

    /// Whether what is asked on one connection may not be overtaken by what is told on another: accounts are shared out
    /// among connections by each server's own reckoning.
    pub(crate) fn has_one_order(&self) -> bool {
        let nodes = self.nodes.lock();
        let first = &nodes[0];
        let mut others = nodes.iter();
        others.all(|node| node.pool_size == first.pool_size && node.accounts == first.accounts)
    }

    /// Something bad happens, of the kinds that the scenario has.
    fn do_harm(&self) {
        let kinds = match self.scenario.faults {
            Faults::None => return,
            Faults::Links => 4,
            Faults::Partitions => 6,
            Faults::Deaths => 8,
        };
        let now = self.now();
        let span = self.scenario.pace * self.chance(|rng| rng.u32(20..4000));
        self.is_whole.store(false, Ordering::Relaxed);
        match self.chance(|rng| rng.u8(..kinds)) {
            0 => {
                if let Some(route) = self.some_route() {
                    self.note(Event::Frozen {
                        connection: route.id,
                    });
                    route.link.freeze(now + span);
                }
            }
            1..4 => {
                if let Some(route) = self.some_route() {
                    let how = self.chance(some_break);
                    self.break_off(&route, how);
                }
            }
            4 | 5 => self.part(now + span),
            _ => {
                let lives = self.lives();
                if !lives.is_empty() {
                    let (index, silently) =
                        self.chance(|rng| (rng.usize(..lives.len()), rng.bool()));
                    self.kill(&lives[index], silently);
                    self.returns.lock().push((now + span, lives[index].node));
                }
            }
        }
    }

    fn some_route(&self) -> Option<Arc<Connection>> {
        let mut routes = self.connections();
        routes.retain(|connection| connection.other.is_some());
        (!routes.is_empty()).then(|| {
            let index = self.chance(|rng| rng.usize(..routes.len()));
            Arc::clone(&routes[index])
        })
    }

    fn break_off(&self, route: &Connection, how: Break) {
        self.note(Event::Broken {
            connection: route.id,
            how,
        });
        self.counts.lock().breaks += 1;
        route.link.break_off(how, self.now());
    }

    /// Some servers cannot reach the others for a time.
    fn part(&self, until: Instant) {
        let count = self.scenario.nodes.len();
        let (side, how) = self.chance(|rng| {
            let side = rng.u8(1..(1 << count) - 1);
            (side, rng.bool().then(|| some_break(rng)))
        });
        self.note(Event::Parted { side, how });
        self.counts.lock().partings += 1;
        self.partings.lock().push(Parting { side, until });
        for route in self.connections() {
            let Some(other) = route.other else { continue };
            if side >> route.life.node & 1 == side >> other & 1 {
                continue;
            }
            match how {
                // What is sent arrives once it can.
                None => route.link.freeze(until),
                Some(how) => route.link.break_off(how, self.now()),
            }
        }
    }

    /// From now on nothing bad happens, and what comes back comes back now. What is broken stays so.
    pub(crate) fn calm_down(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
        self.roll_out();
        let now = self.now();
        self.partings.lock().clear();
        for (at, _) in &mut *self.returns.lock() {
            *at = now;
        }
        for connection in self.connections() {
            connection.link.thaw(now);
        }
    }

    pub(crate) fn stir_up(&self) {
        self.is_calm.store(false, Ordering::Relaxed);
    }

    // What must hold.

    /// Whether nothing is under way any more: no bytes, nobody who is dialled.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_quiet = |connection: &Arc<Connection>| {
            let outbox = connection.outbox.upgrade();
            let pending_bytes = outbox.map_or(0, |outbox| outbox.status().pending_bytes);
            !connection.link.is_broken()
                && connection.link.next().is_none()
                && pending_bytes == 0
                && !connection.is_ending()
                && (connection.other.is_some() || !connection.link.has_for_client())
        };
        self.dialling.lock().is_empty()
            && self.returns.lock().is_empty()
            && self.is_at_rest()
            && self.connections.lock().iter().all(is_quiet)
    }

    /// What is missing of a whole cluster; `None` if nothing is. Every server is connected with every other one by the
    /// whole set, both ends of a connection agree on its place, and no connection is left over.
    pub(crate) fn missing(&self) -> Option<String> {
        let lives = self.lives();
        let connections = self.connections();
        let mut places = BTreeMap::new();
        for life in &lives {
            let node = life.node;
            let mesh = life.engine.mesh().expect("every server is in the cluster");
            let snapshot = mesh.snapshot();
            let peers: Vec<_> = snapshot.peers.iter().map(|peer| &peer.id).collect();
            let mut expected: Vec<_> = lives.iter().map(|life| &life.id).collect();
            expected.retain(|id| **id != life.id);
            expected.sort();
            if peers != expected {
                return Some(format!("node {node} has {peers:?} instead of {expected:?}"));
            }
            for connection in &connections {
                if connection.other.is_none() || !Arc::ptr_eq(&connection.life, life) {
                    continue;
                }
                let Some(outbox) = connection.outbox.upgrade() else {
                    return Some(format!("connection {} has ended", connection.id));
                };
                let place = snapshot.peers.iter().find_map(|peer| {
                    let mut shared = peer.shared.iter();
                    let shared = shared.position(|member| *member == Some(outbox.id()));
                    let mut dedicated = peer.dedicated.iter();
                    let account = dedicated.find(|(_, member)| *member == outbox.id());
                    shared
                        .map(|index| index.to_string())
                        .or_else(|| account.map(|(account, _)| account.clone()))
                });
                let Some(place) = place else {
                    return Some(format!(
                        "connection {} of node {node} has no place",
                        connection.id
                    ));
                };
                places.insert(connection.id, (connection.counterpart, place));
            }
            for peer in &snapshot.peers {
                let (shared, dedicated) = self.expected(node, &peer.name);
                let has = |account: &String| peer.dedicated.iter().any(|(own, _)| own == account);
                // Who once was told that an account has connections to itself goes by that until it is started anew.
                let has_reason = |account: &String| {
                    let is_listed = || self.listed.lock().contains(account);
                    dedicated.contains(account) || !dedicated.is_empty() && is_listed()
                };
                if peer.shared.len() != shared
                    || peer.shared.iter().any(Option::is_none)
                    || !dedicated.iter().all(has)
                    || !peer
                        .dedicated
                        .iter()
                        .all(|(account, _)| has_reason(account))
                {
                    return Some(format!(
                        "node {node} has not {shared} shared and those for {dedicated:?} of {peer:?}"
                    ));
                }
            }
        }
        for (connection, (counterpart, place)) in &places {
            let other = counterpart.and_then(|id| places.get(&id));
            if other.is_none_or(|(_, other)| other != place) {
                return Some(format!(
                    "connection {connection} is at {place}, its other end {other:?}"
                ));
            }
        }
        None
    }

    /// How many connections share the accounts between a server and the one of this name, and which accounts have one.
    fn expected(&self, node: usize, peer: &str) -> (usize, Vec<String>) {
        let nodes = self.nodes.lock();
        let peer: usize = peer
            .strip_prefix("node")
            .and_then(|number| number.parse().ok())
            .expect("names are numbered");
        let sizes = [nodes[node].pool_size, nodes[peer].pool_size];
        if sizes.contains(&0) {
            return (1, Vec::new());
        }
        let shared = sizes[0].max(sizes[1]) as usize;
        let listed = nodes[node].accounts.iter();
        let both = listed.filter(|account| nodes[peer].accounts.contains(account));
        let system = core::iter::once("$SYS".to_owned());
        (shared, system.chain(both.cloned()).collect())
    }

    /// The cluster is whole, and from now on no connection may end without a reason.
    pub(crate) fn is_now_whole(&self) {
        self.is_whole.store(true, Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        self.is_whole.store(false, Ordering::Relaxed);
        for life in self.lives() {
            life.engine.close_all(CloseReason::ServerShutdown);
        }
    }

    /// What must hold whenever no engine call is under way.
    pub(crate) fn check_bounds(&self) {
        for connection in &*self.connections.lock() {
            let Some(outbox) = connection.outbox.upgrade() else {
                continue;
            };
            let status = outbox.status();
            let limits = &self.scenario.nodes[connection.life.node].limits;
            let max = if connection.other.is_some() {
                limits.pending_bytes_max
            } else {
                Limits::default().pending_bytes_max
            };
            if status.pending_bytes > max && status.closed.is_none() {
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
        for connection in &*self.connections.lock() {
            let task = connection.task.lock();
            let Some(task) = &*task else { continue };
            let (link, id) = (&connection.link, connection.id);
            let status = task.session().outbox().status();
            if status.pending_bytes > 0
                && !status.is_held
                && (link.is_writable() || !link.writer_waits())
            {
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
            if connection.timer.lock().is_none() {
                self.fail("a task has a timer", format!("connection {id}"));
            }
            if !task.is_ending() && link.is_readable() && !task.is_stalled() && !status.is_blocked {
                self.fail(
                    "what arrived is read",
                    format!("connection {id}: {status:?}"),
                );
            }
        }
    }

    fn check_reason(&self, connection: &Connection, reason: CloseReason) {
        let mut counts = self.counts.lock();
        match reason {
            CloseReason::DuplicateRoute => counts.duplicates += 1,
            CloseReason::StaleConnection => counts.stale += 1,
            CloseReason::SlowConsumerPendingBytes | CloseReason::SlowConsumerWriteDeadline => {
                counts.slow += 1;
            }
            _ => {}
        }
        drop(counts);
        let is_small =
            (self.scenario.nodes.iter()).any(|node| node.limits.pending_bytes_max < 1024 * 1024);
        let has_faults = self.scenario.faults != Faults::None;
        let is_client = connection.other.is_none();
        let allowed = match reason {
            CloseReason::ServerShutdown => self.is_closing.load(Ordering::Relaxed),
            CloseReason::ClientClosed | CloseReason::WriteError | CloseReason::ReadError => true,
            CloseReason::AuthenticationViolation
            | CloseReason::CredentialsRevoked
            | CloseReason::MissingAccount => self.scenario.reloads == Reloads::Accounts,
            _ if is_client => false,
            CloseReason::DuplicateRoute | CloseReason::RouteRemoved => {
                !self.is_whole.load(Ordering::Relaxed)
            }
            CloseReason::ClusterNameConflict => self.scenario.nodes[0].name.is_empty(),
            // A word of the other end's about one of the above.
            CloseReason::ParseError => {
                has_faults || is_small || !self.is_whole.load(Ordering::Relaxed)
            }
            CloseReason::ProtocolViolation => !self.is_whole.load(Ordering::Relaxed),
            // Whoever is doubted, since another connection is to take its place, has a few seconds to answer, and
            // links may be slower than that by themselves.
            CloseReason::StaleConnection => has_faults || !self.is_whole.load(Ordering::Relaxed),
            CloseReason::SlowConsumerWriteDeadline => has_faults,
            // Links may be slower than that by themselves.
            CloseReason::AuthenticationTimeout => {
                self.now() - connection.opened >= Duration::from_secs(2)
            }
            CloseReason::SlowConsumerPendingBytes => is_small,
            _ => false,
        };
        if !allowed {
            self.fail(
                "connections end for a reason",
                format!("connection {}: {reason:?}", connection.id),
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
        let (index, mut worker) = self.connection.life.worker(self.world);
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
        self.connection.link.read(slices, max, self.world.now())
    }

    fn compress(&self, waiting_bytes: usize, unread: &[u8]) {
        let connection = self.connection.id;
        self.world.note(Event::Compressed { connection });
        self.connection.link.compress(waiting_bytes, unread);
    }

    fn has_stalled(&self) {
        let connection = self.connection.id;
        self.world.note(Event::Stalled { connection });
        self.world.counts.lock().stalls += 1;
    }

    fn has_read(&self, bytes: usize, worker: usize) {
        self.world.note(Event::Read {
            connection: self.connection.id,
            bytes,
            worker,
        });
    }

    fn is_ending(&self, reason: CloseReason) {
        self.world.note(Event::ending(self.connection.id, reason));
        self.world.check_reason(self.connection, reason);
    }
}

impl Life {
    /// A worker that nobody uses, and its number. There are more of them than tasks that run at one time.
    fn worker(&self, world: &World) -> (usize, MutexGuard<'_, Worker>) {
        let first = world.chance(|rng| rng.usize(..self.workers.len()));
        (0..self.workers.len())
            .map(|step| (first + step) % self.workers.len())
            .find_map(|index| Some((index, self.workers[index].try_lock()?)))
            .expect("a task runs only if a worker is free")
    }
}

impl Connection {
    fn is_ready(&self) -> bool {
        self.link.task.is_set() && self.task.try_lock().is_some_and(|task| task.is_some())
    }

    fn is_ending(&self) -> bool {
        self.task
            .try_lock()
            .is_none_or(|task| task.as_ref().is_none_or(Task::is_ending))
    }
}

fn some_break(rng: &mut Rng) -> Break {
    match rng.u8(..8) {
        0 | 1 => Break::End,
        2..5 => Break::Reset,
        5 => Break::Silence,
        6 => Break::HalfSilence,
        _ => Break::Stuck,
    }
}

/// Bytes, from none to a full link.
fn amount(rng: &mut Rng) -> usize {
    match rng.u8(..8) {
        0 => 0,
        1 | 2 => rng.usize(1..100),
        3 | 4 => rng.usize(100..4096),
        5 => rng.usize(4096..LINK_BYTES_MAX),
        _ => LINK_BYTES_MAX,
    }
}
