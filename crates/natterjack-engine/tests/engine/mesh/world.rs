//! Servers in one process, connected by pipes in memory, on a clock that moves when nothing else does. What happens in
//! which order comes from one seed.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use natterjack_engine::{
    Access, ClientSession, CloseReason, ClusterSettings, Direction, Engine, Limits, MeshSnapshot,
    Nonce, Peer, RoutePeer, RouteSession, Seed, ServerInfo, Session, Settings, Step, Transport,
    Worker,
};

pub(crate) const FIRST_PORT: u16 = 6000;

/// What compressed bytes look like here: whoever takes them for plain ones, or the other way round, reads nonsense.
const DISGUISE: u8 = 0x55;

/// One direction of a connection.
#[derive(Default)]
pub(crate) struct Pipe {
    bytes: Mutex<Vec<u8>>,
    is_disguised: AtomicBool,
    pub(crate) is_ended: AtomicBool,
    /// Nothing is delivered; the writer does not notice.
    pub(crate) is_cut: AtomicBool,
}

impl Transport for Pipe {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mask = if self.is_disguised.load(Ordering::Relaxed) {
            DISGUISE
        } else {
            0
        };
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        for slice in slices {
            bytes.extend(slice.iter().map(|byte| byte ^ mask));
        }
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}

impl Pipe {
    pub(crate) fn take(&self, count: usize) -> Vec<u8> {
        if self.is_cut.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = count.min(bytes.len());
        bytes.drain(..count).collect()
    }

    fn put_back(&self, front: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.splice(..0, front.iter().copied());
    }

    fn is_empty(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
            || (self.bytes.lock())
                .unwrap_or_else(PoisonError::into_inner)
                .is_empty()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.take(usize::MAX)).into_owned()
    }
}

/// One end of a connection between servers.
pub(crate) struct End {
    pub(crate) session: RouteSession,
    pub(crate) inbound: Arc<Pipe>,
    pub(crate) outbound: Arc<Pipe>,
    is_inbound_disguised: bool,
    is_gone: bool,
    /// The other node, and which connection of all it is.
    other: usize,
    number: usize,
}

pub(crate) struct Node {
    pub(crate) engine: Arc<Engine>,
    worker: Worker,
    pub(crate) ends: Vec<End>,
    pub(crate) clients: Vec<Client>,
    pub(crate) is_up: bool,
    pub(crate) dials: usize,
    life: usize,
    settings: ClusterSettings,
    access: Access,
}

pub(crate) struct Client {
    session: ClientSession,
    sent: Arc<Pipe>,
    pub(crate) received: String,
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Instant,
    pub(crate) rng: fastrand::Rng,
    /// Pairs that cannot reach each other, the lower number first.
    cut: Vec<(usize, usize)>,
    /// Why connections ended, by node.
    pub(crate) reasons: BTreeMap<(usize, &'static str), usize>,
    connections: usize,
}

/// A seed that is the node of this number.
pub(crate) fn seed(node: usize) -> Seed {
    Seed {
        host: "127.0.0.1".to_owned(),
        port: FIRST_PORT + node as u16,
        login: None,
        is_resolved: false,
    }
}

/// A cluster with seeds.
pub(crate) fn cluster(seeds: &[usize]) -> ClusterSettings {
    ClusterSettings {
        name: "c".to_owned(),
        seeds: seeds.iter().map(|&node| seed(node)).collect(),
        compression: natterjack_engine::Compression::Off,
        ..ClusterSettings::default()
    }
}

impl World {
    pub(crate) fn new(chance: u64) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let now = Instant::now();
        Self {
            nodes: Vec::new(),
            now,
            rng: fastrand::Rng::with_seed(chance),
            cut: Vec::new(),
            reasons: BTreeMap::new(),
            connections: 0,
        }
    }

    pub(crate) fn with(chance: u64, clusters: impl IntoIterator<Item = ClusterSettings>) -> Self {
        let mut world = Self::new(chance);
        for settings in clusters {
            world.add(settings);
        }
        world
    }

    /// A server more.
    pub(crate) fn add(&mut self, settings: ClusterSettings) -> usize {
        self.add_with(settings, Access::open())
    }

    pub(crate) fn add_with(&mut self, mut settings: ClusterSettings, access: Access) -> usize {
        let number = self.nodes.len();
        settings.host = "0.0.0.0".to_owned();
        settings.port = FIRST_PORT + number as u16;
        let engine = self.engine(number, 0, &settings, &access);
        self.nodes.push(Node {
            worker: engine.worker(),
            engine,
            ends: Vec::new(),
            clients: Vec::new(),
            is_up: true,
            dials: 0,
            life: 0,
            settings,
            access,
        });
        number
    }

    fn engine(
        &mut self,
        number: usize,
        life: usize,
        settings: &ClusterSettings,
        access: &Access,
    ) -> Arc<Engine> {
        Engine::new(Settings {
            info: ServerInfo {
                // Which of two is the greater one is up to chance.
                server_id: format!("{:02}-N{number}-{life}", self.rng.u8(10..99)),
                server_name: format!("node{number}"),
                headers: true,
                connect_urls: vec![format!("127.0.0.1:{}", 4000 + number)],
                ..ServerInfo::default()
            },
            limits: Limits::default(),
            access: access.clone(),
            seed: self.rng.u64(..),
            cluster: Some(settings.clone()),
        })
    }

    /// Stops a server without a word; the others see its connections end.
    pub(crate) fn stop(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.is_up = false;
        node.clients.clear();
        for end in node.ends.drain(..) {
            end.outbound.is_ended.store(true, Ordering::Relaxed);
        }
    }

    /// Starts it again, as another one with the same settings.
    pub(crate) fn start(&mut self, number: usize) {
        let life = self.nodes[number].life + 1;
        let (settings, access) = (
            self.nodes[number].settings.clone(),
            self.nodes[number].access.clone(),
        );
        let engine = self.engine(number, life, &settings, &access);
        let node = &mut self.nodes[number];
        node.worker = engine.worker();
        node.engine = engine;
        node.life = life;
        node.is_up = true;
    }

    /// Gives a server other settings.
    pub(crate) fn reload(&mut self, number: usize, change: impl FnOnce(&mut ClusterSettings)) {
        let node = &mut self.nodes[number];
        let mut configuration = node.engine.configuration();
        change(configuration.cluster.as_mut().expect("a cluster"));
        drop(node.engine.reconfigure(configuration, self.now));
    }

    /// Two servers cannot reach each other; with `is_silent` their connections stay, and nothing comes through.
    pub(crate) fn part(&mut self, one: usize, other: usize, is_silent: bool) {
        self.cut.push((one.min(other), one.max(other)));
        for (here, there) in [(one, other), (other, one)] {
            for end in &self.nodes[here].ends {
                if end.other == there {
                    let flag = if is_silent {
                        &end.outbound.is_cut
                    } else {
                        &end.outbound.is_ended
                    };
                    flag.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// They cannot dial each other; what connections they have stay as they are.
    pub(crate) fn bar(&mut self, one: usize, other: usize) {
        self.cut.push((one.min(other), one.max(other)));
    }

    /// They can again; connections of before stay as they are.
    pub(crate) fn join(&mut self, one: usize, other: usize) {
        self.cut
            .retain(|&pair| pair != (one.min(other), one.max(other)));
    }

    /// Lets this much time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        loop {
            while self.turn() {
                turns += 1;
                assert!(turns < 2_000_000, "it does not come to rest");
            }
            let next = self.next();
            if next > end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now + Duration::from_micros(100));
        }
    }

    /// Lets a few things happen, without any time passing.
    pub(crate) fn turns(&mut self, max: u32) {
        let count = self.rng.u32(0..=max);
        for _ in 0..count {
            self.turn();
        }
    }

    /// When something is due.
    fn next(&self) -> Instant {
        let far = self.now + Duration::from_secs(3600);
        let up = self.nodes.iter().filter(|node| node.is_up);
        up.flat_map(|node| {
            let ends = node.ends.iter().map(|end| end.session.next_timeout());
            let dial = node.engine.mesh().and_then(|mesh| mesh.next_dial_at());
            ends.chain(dial)
        })
        .fold(far, Instant::min)
    }

    /// One thing happens to each connection, in some order. Returns whether anything did.
    fn turn(&mut self) -> bool {
        let mut happened = self.dial();
        let mut all: Vec<(usize, usize)> = (self.nodes.iter().enumerate())
            .flat_map(|(number, node)| (0..node.ends.len()).map(move |end| (number, end)))
            .collect();
        self.rng.shuffle(&mut all);
        for (number, end) in all {
            happened |= self.drive(number, end);
        }
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            node.ends.retain(|end| !end.is_gone);
            for client in &mut node.clients {
                client.session.adapt(self.now);
                client.session.outbox().flush_unblocked(self.now);
                client.received += &client.sent.text();
            }
        }
        happened
    }

    fn dial(&mut self) -> bool {
        let mut happened = false;
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        self.rng.shuffle(&mut order);
        for here in order {
            if !self.nodes[here].is_up {
                continue;
            }
            let mut dials = Vec::new();
            let engine = Arc::clone(&self.nodes[here].engine);
            let mesh = engine.mesh().expect("a cluster");
            mesh.poll_dials(self.now, Waker::noop(), &mut dials);
            self.rng.shuffle(&mut dials);
            for dial in dials {
                happened = true;
                self.nodes[here].dials += 1;
                let there = usize::from(dial.port - FIRST_PORT);
                let is_up = self.nodes.get(there).is_some_and(|node| node.is_up);
                if !is_up || self.cut.contains(&(here.min(there), here.max(there))) {
                    mesh.dial_failed(dial.id, &"connection refused", self.now);
                    continue;
                }
                self.connect(here, there, Direction::Dialled(dial.id));
            }
        }
        happened
    }

    fn connect(&mut self, here: usize, there: usize, direction: Direction) {
        let (to, from) = (Arc::<Pipe>::default(), Arc::<Pipe>::default());
        self.connections += 1;
        let number = self.connections;
        let sides = [
            (here, there, direction, &to, &from),
            (there, here, Direction::Accepted, &from, &to),
        ];
        for (here, other, direction, outbound, inbound) in sides {
            let peer = RoutePeer {
                address: Some(SocketAddr::from(([127, 0, 0, 1], 50_000))),
                nonce: Nonce::new([7; Nonce::RANDOM_BYTES]),
                direction,
            };
            let transport = Arc::clone(outbound) as Arc<dyn Transport>;
            let node = &mut self.nodes[here];
            let session = node.engine.open_route(peer, transport, self.now);
            node.ends.push(End {
                session: session.expect("a cluster"),
                inbound: Arc::clone(inbound),
                outbound: Arc::clone(outbound),
                is_inbound_disguised: false,
                is_gone: false,
                other,
                number,
            });
        }
    }

    /// What the task of a connection does. Returns whether anything happened.
    fn drive(&mut self, number: usize, end: usize) -> bool {
        let read_max = 1 << self.rng.u32(0..16);
        let now = self.now;
        let node = &mut self.nodes[number];
        let worker = &mut node.worker;
        let end = &mut node.ends[end];
        if end.is_gone {
            return false;
        }
        let mut happened = false;
        end.session.adapt(now);
        end.session.outbox().flush_unblocked(now);
        if end.session.next_timeout() <= now {
            end.session.handle_timeout(now);
            happened = true;
        }
        happened |= end.session.step(now) != Step::Done;
        end.follow_compression();
        let has_ended = end.inbound.is_ended.load(Ordering::Relaxed);
        let is_closed = |end: &End| end.session.outbox().status().closed.is_some();
        if !is_closed(end) && !end.inbound.is_empty() && !end.session.is_checking() {
            happened = true;
            end.read(read_max, worker, now);
        }
        if let Some(check) = end.session.pending_check() {
            end.session.finish_check(check.run(), worker, now);
            end.follow_compression();
            happened = true;
        }
        if is_closed(end) || has_ended && end.inbound.is_empty() {
            let status = end.session.outbox().status();
            end.session.outbox().flush(now);
            while !end.session.close_step(CloseReason::ClientClosed) {}
            let reason = status.closed.unwrap_or(CloseReason::ClientClosed).text();
            *self.reasons.entry((number, reason)).or_default() += 1;
            end.outbound.is_ended.store(true, Ordering::Relaxed);
            end.session.outbox().release();
            end.is_gone = true;
            happened = true;
        }
        happened
    }

    /// A client that may do everything.
    pub(crate) fn client(&mut self, node: usize) -> usize {
        let sent = Arc::<Pipe>::default();
        let transport = Arc::clone(&sent) as Arc<dyn Transport>;
        let node_number = node;
        let node = &mut self.nodes[node];
        let session = node
            .engine
            .open_client(Peer::default(), transport, self.now);
        node.clients.push(Client {
            session,
            sent,
            received: String::new(),
        });
        let client = node.clients.len() - 1;
        let connect = "CONNECT {\"verbose\":false,\"protocol\":1,\"headers\":true,\"no_responders\":true}\r\nPING\r\n";
        self.says(node_number, client, connect);
        self.nodes[node_number].clients[client].take();
        client
    }

    pub(crate) fn says(&mut self, node: usize, client: usize, text: &str) {
        let node = &mut self.nodes[node];
        let worker = &mut node.worker;
        let client = &mut node.clients[client];
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            let mut count = 0;
            for slice in &mut client.session.read_slices(worker) {
                let taken = slice.len().min(bytes.len());
                slice[..taken].copy_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                count += taken;
            }
            client.session.handle_read(count, worker, self.now);
        }
        client.received += &client.sent.text();
    }

    pub(crate) fn snapshot(&self, node: usize) -> MeshSnapshot {
        let mesh = self.nodes[node].engine.mesh();
        mesh.expect("a cluster").snapshot()
    }

    /// Every server that is up is connected with every other one by the whole set, and both ends of a connection agree
    /// on its place.
    pub(crate) fn check_full(&self) {
        let up = |number: &usize| self.nodes[*number].is_up;
        let all: Vec<usize> = (0..self.nodes.len()).filter(up).collect();
        for &here in &all {
            let snapshot = self.snapshot(here);
            assert_eq!(
                snapshot.peers.len(),
                all.len() - 1,
                "peers of node {here}: {snapshot:#?}"
            );
            for peer in &snapshot.peers {
                assert!(
                    !peer.shared.is_empty() && peer.shared.iter().all(Option::is_some),
                    "node {here}: {peer:?} {:?}",
                    self.reasons
                );
            }
            // No connection is left over.
            let members = snapshot.peers.iter();
            let members: usize = members
                .map(|peer| peer.shared.len() + peer.dedicated.len())
                .sum();
            assert_eq!(self.nodes[here].ends.len(), members, "node {here}");
        }
        let mut places = BTreeMap::<usize, Vec<String>>::new();
        for &here in &all {
            let snapshot = self.snapshot(here);
            for end in &self.nodes[here].ends {
                let id = end.session.outbox().id();
                let place = snapshot.peers.iter().find_map(|peer| {
                    let shared = peer.shared.iter().position(|member| *member == Some(id));
                    let mut dedicated = peer.dedicated.iter();
                    let account = dedicated.find(|(_, member)| *member == id);
                    let account = account.map(|(account, _)| account.clone());
                    shared.map(|index| index.to_string()).or(account)
                });
                let place = place.expect("every connection has a place");
                places.entry(end.number).or_default().push(place);
            }
        }
        for (number, places) in places {
            assert_eq!(places.len(), 2, "connection {number} has one end");
            assert_eq!(places[0], places[1], "connection {number}");
        }
    }
}

impl End {
    fn read(&mut self, read_max: usize, worker: &mut Worker, now: Instant) {
        let slices = &mut self.session.read_slices(worker);
        let room: usize = slices.iter().map(|slice| slice.len()).sum();
        let mask = if self.is_inbound_disguised {
            DISGUISE
        } else {
            0
        };
        let taken = self.inbound.take(read_max.min(room));
        let mut rest: &[u8] = &taken;
        for slice in slices.iter_mut() {
            let count = slice.len().min(rest.len());
            let (front, behind) = rest.split_at(count);
            for (place, byte) in slice.iter_mut().zip(front) {
                *place = byte ^ mask;
            }
            rest = behind;
        }
        self.session.handle_read(taken.len(), worker, now);
        self.follow_compression();
    }

    fn follow_compression(&mut self) {
        if let Some(mode) = self.session.take_compression() {
            assert!(mode.is_compressed(), "{mode:?}");
            assert_eq!(self.session.outbox().status().pending_bytes, 0);
            self.outbound.is_disguised.store(true, Ordering::Relaxed);
            if !std::mem::replace(&mut self.is_inbound_disguised, true) {
                // As it came from the wire.
                let unread = self.session.take_unread();
                self.inbound.put_back(&unread);
            }
        }
    }
}

impl Client {
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.received)
    }
}
