//! Several servers that are to act as one: started in any order on ports that stay theirs, killed, frozen, cut off from each
//! other, and asked whether they know each other's subscriptions.
//!
//! Nothing here knows which server it drives: what it waits for, it sees as a client does. That two servers know each other
//! shows in a request on one being heard on the other, and in nothing else, since a route that has been shaken hands on
//! may still be closed as a duplicate.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;

mod client;
pub use client::{Client, Login, Message};

mod port;
pub use port::HeldPort;

mod proxy;
pub use proxy::Proxy;

use crate::deadline::{PATIENCE, ask_until};
use crate::http::HttpAnswer;
use crate::server::{Config, Kind, Listener, ServerUnderTest, Signal};

/// Whom a server is told to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeding {
    /// Every other server, so that both sides of each pair dial.
    All,
    /// The servers with a lower number, so that each pair has one side that dials.
    Lower,
    /// Number 0 alone; the others learn of each other from it.
    First,
}

/// What a cluster is to be.
///
/// # Examples
/// ```no_run
/// use testkit::Kind;
/// use testkit::cluster::Plan;
///
/// let kinds = [Kind::NatsServer, Kind::OldNatsServer];
/// let mut cluster = Plan::of(&kinds).cluster("pool_size: 1").start();
/// cluster.wait_until_complete();
/// ```
#[derive(Debug, Clone)]
pub struct Plan {
    kinds: Vec<Kind>,
    seeding: Seeding,
    name: Option<&'static str>,
    is_proxied: bool,
    logins: Vec<Login>,
    /// Put before the address in the URLs of routes.
    route_login: &'static str,
    route_login_of: BTreeMap<usize, &'static str>,
    for_all: Lines,
    for_one: BTreeMap<usize, Lines>,
    files: Vec<(String, String)>,
}

/// Lines of a configuration file, outside and inside of its block `cluster`.
#[derive(Debug, Clone, Default)]
struct Lines {
    server: String,
    cluster: String,
}

impl Plan {
    /// Servers of these kinds, in this order. Each dials all others.
    #[must_use]
    pub fn of(kinds: &[Kind]) -> Self {
        Self {
            kinds: kinds.to_vec(),
            seeding: Seeding::All,
            name: Some("mesh"),
            is_proxied: false,
            logins: vec![Login::default()],
            route_login: "",
            route_login_of: BTreeMap::new(),
            for_all: Lines::default(),
            for_one: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    /// Who dials whom.
    #[must_use]
    pub fn seeding(mut self, seeding: Seeding) -> Self {
        self.seeding = seeding;
        self
    }

    /// Gives the cluster no name.
    #[must_use]
    pub fn nameless(mut self) -> Self {
        self.name = None;
        self
    }

    /// Lets each pair of servers speak through a [`Proxy`] of its own, so that it can be cut.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.is_proxied = true;
        self.seeding = Seeding::Lower;
        self
    }

    /// The users for whose accounts the servers must know each other; without it nobody's.
    #[must_use]
    pub fn logins(mut self, logins: &[Login]) -> Self {
        self.logins = logins.to_vec();
        self
    }

    /// What stands before the address in the URLs of routes, such as `user:password@`.
    #[must_use]
    pub fn route_login(mut self, login: &'static str) -> Self {
        self.route_login = login;
        self
    }

    /// The same for one server's URLs.
    #[must_use]
    pub fn route_login_of(mut self, node: usize, login: &'static str) -> Self {
        self.route_login_of.insert(node, login);
        self
    }

    /// Adds lines to every server's block `cluster`.
    #[must_use]
    pub fn cluster(mut self, lines: &str) -> Self {
        push_lines(&mut self.for_all.cluster, lines);
        self
    }

    /// Adds lines to every server's configuration.
    #[must_use]
    pub fn server(mut self, lines: &str) -> Self {
        push_lines(&mut self.for_all.server, lines);
        self
    }

    /// Adds lines to one server's block `cluster`.
    #[must_use]
    pub fn cluster_of(mut self, node: usize, lines: &str) -> Self {
        push_lines(&mut self.for_one.entry(node).or_default().cluster, lines);
        self
    }

    /// Adds lines to one server's configuration.
    #[must_use]
    pub fn server_of(mut self, node: usize, lines: &str) -> Self {
        push_lines(&mut self.for_one.entry(node).or_default().server, lines);
        self
    }

    /// Puts a file beside every configuration file.
    #[must_use]
    pub fn side_file(mut self, name: &str, text: impl Into<String>) -> Self {
        self.files.push((name.to_owned(), text.into()));
        self
    }

    /// Takes ports and starts nobody.
    #[must_use]
    pub fn prepare(self) -> Cluster {
        let ports: Vec<(HeldPort, HeldPort)> = self
            .kinds
            .iter()
            .map(|_| (HeldPort::take(), HeldPort::take()))
            .collect();
        let mut wires = BTreeMap::new();
        if self.is_proxied {
            for (to, (_, route)) in ports.iter().enumerate() {
                for from in to + 1..ports.len() {
                    wires.insert((from, to), Proxy::to(route.address()));
                }
            }
        }
        // Nobody listens there: what servers tell each other of an address leads nowhere, and every byte goes through a proxy.
        let nowhere = self.is_proxied.then(HeldPort::take);
        let mut nodes = Vec::new();
        for (at, (client, route)) in ports.into_iter().enumerate() {
            nodes.push(Node {
                kind: self.kinds[at],
                config: Config::default(),
                client,
                route,
                server: None,
            });
        }
        let routes: Vec<SocketAddr> = nodes.iter().map(|node| node.route.address()).collect();
        for (at, node) in nodes.iter_mut().enumerate() {
            let dialled = (0..self.kinds.len()).filter(|&to| self.seeding.dials(at, to));
            let dialled: Vec<SocketAddr> = dialled
                .map(|to| wires.get(&(at, to)).map_or(routes[to], Proxy::address))
                .collect();
            node.config = self.config(at, node, &dialled, nowhere.as_ref());
        }
        Cluster {
            nodes,
            wires,
            logins: self.logins,
            _nowhere: nowhere,
            probes: 0,
        }
    }

    /// Starts all, in order.
    ///
    /// # Panics
    /// When one does not come up.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> Cluster {
        let mut cluster = self.prepare();
        for node in 0..cluster.len() {
            cluster.start(node);
        }
        cluster
    }

    fn config(
        &self,
        at: usize,
        node: &Node,
        dialled: &[SocketAddr],
        nowhere: Option<&HeldPort>,
    ) -> Config {
        let own = self.for_one.get(&at).cloned().unwrap_or_default();
        let mut cluster = format!("  listen: \"{}\"\n", node.route.address());
        if let Some(name) = self.name {
            push_lines(&mut cluster, &format!("  name: {name}"));
        }
        if let Some(nowhere) = nowhere {
            push_lines(
                &mut cluster,
                &format!("  advertise: \"{}\"", nowhere.address()),
            );
        }
        let login = self.route_login_of.get(&at).unwrap_or(&self.route_login);
        let urls = dialled
            .iter()
            .map(|address| format!("\"nats-route://{login}{address}\""));
        push_lines(
            &mut cluster,
            &format!("  routes: [{}]", urls.collect::<Vec<_>>().join(", ")),
        );
        cluster.push_str(&self.for_all.cluster);
        cluster.push_str(&own.cluster);
        let text = format!(
            "server_name: node-{at}\nhttp: \"127.0.0.1:-1\"\n{}{}cluster {{\n{cluster}}}\n",
            self.for_all.server, own.server
        );
        let config = Config::file(text).client_port(node.client.address().port());
        let files = self.files.iter();
        files.fold(config, |config, (name, text)| config.side_file(name, text))
    }
}

impl Seeding {
    fn dials(self, from: usize, to: usize) -> bool {
        match self {
            Self::All => from != to,
            Self::Lower => to < from,
            Self::First => to == 0 && from != 0,
        }
    }
}

fn push_lines(text: &mut String, lines: &str) {
    text.push_str(lines);
    text.push('\n');
}

/// Servers that are to act as one, killed when dropped. A test that fails shows their logs.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// By the one that dials and the one that is dialled.
    wires: BTreeMap<(usize, usize), Proxy>,
    logins: Vec<Login>,
    _nowhere: Option<HeldPort>,
    probes: u64,
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    config: Config,
    client: HeldPort,
    route: HeldPort,
    server: Option<ServerUnderTest>,
}

impl Cluster {
    /// How many servers there are, running or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The numbers of all servers but one.
    pub fn others(&self, node: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.len()).filter(move |&other| other != node)
    }

    /// Every pair of two different servers, both ways.
    #[must_use]
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        let all = 0..self.len();
        all.flat_map(|from| self.others(from).map(move |to| (from, to)))
            .collect()
    }

    /// Which server a number is.
    #[must_use]
    pub fn kind(&self, node: usize) -> Kind {
        self.nodes[node].kind
    }

    /// The server with this number.
    ///
    /// # Panics
    /// When it has not been started.
    #[must_use]
    #[track_caller]
    pub fn server(&self, node: usize) -> &ServerUnderTest {
        self.nodes[node]
            .server
            .as_ref()
            .expect("it has been started")
    }

    /// Where it serves clients, or will.
    #[must_use]
    pub fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].client.address()
    }

    /// Where it serves other servers, or will.
    #[must_use]
    pub fn route_address(&self, node: usize) -> SocketAddr {
        self.nodes[node].route.address()
    }

    /// A client of this server.
    ///
    /// # Panics
    /// When it is not let in.
    #[must_use]
    #[track_caller]
    pub fn client(&self, node: usize) -> Client {
        Client::connect(self.address(node))
    }

    /// A client of each server.
    ///
    /// # Panics
    /// When one is not let in.
    #[must_use]
    #[track_caller]
    pub fn clients(&self) -> Vec<Client> {
        (0..self.len()).map(|node| self.client(node)).collect()
    }

    /// A monitoring page.
    ///
    /// # Panics
    /// When there is none, or it is not JSON.
    #[must_use]
    #[track_caller]
    pub fn page(&self, node: usize, path: &str) -> serde_json::Value {
        HttpAnswer::get(self.server(node).listener(Listener::Monitor), path).json()
    }

    /// Starts a server that runs no more or not yet, on its ports.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        match &mut node.server {
            Some(server) => server.restart(),
            None => node.server = Some(ServerUnderTest::start(node.kind, &node.config)),
        }
    }

    /// Exchanges one text for another in a server's configuration file, has the server reload it, and returns the line
    /// that tells what came of it.
    ///
    /// # Panics
    /// When the first text is not there, or the server does not tell.
    #[track_caller]
    pub fn reload(&mut self, node: usize, from: &str, to: &str) -> String {
        let server = self.nodes[node].server.as_mut();
        let server = server.expect("it has been started");
        let text = server.configuration();
        assert!(text.contains(from), "no {from:?} in:\n{text}");
        let text = text.replace(from, to);
        server.reload(&text)
    }

    /// Kills a server and starts one of another kind on its ports and with its configuration.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn become_another(&mut self, node: usize, kind: Kind) {
        self.kill(node);
        let node = &mut self.nodes[node];
        node.kind = kind;
        node.server = Some(ServerUnderTest::start(kind, &node.config));
    }

    /// Kills a server as `kill -9` does, and returns when it is gone.
    pub fn kill(&mut self, node: usize) {
        if let Some(server) = &mut self.nodes[node].server {
            server.stop();
        }
    }

    /// Stops a server in an orderly way, and returns when it is gone.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn terminate(&mut self, node: usize) {
        let server = self.nodes[node]
            .server
            .as_mut()
            .expect("it has been started");
        server.signal(Signal::Terminate);
        let _ = server.wait_for_exit(PATIENCE);
    }

    /// Has a server ask its clients to leave (lame duck mode), and returns when it is gone.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn retire(&mut self, node: usize) {
        let server = self.nodes[node]
            .server
            .as_mut()
            .expect("it has been started");
        server.signal(Signal::User2);
        let _ = server.wait_for_exit(PATIENCE);
    }

    /// Freezes a server: its connections stay open and nothing comes from it.
    pub fn freeze(&self, node: usize) {
        self.server(node).signal(Signal::Stop);
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self, node: usize) {
        self.server(node).signal(Signal::Continue);
    }

    /// The wire between two servers. There is one if they were planned [proxied](Plan::proxied).
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn wire(&self, one: usize, other: usize) -> &Proxy {
        let ends = (one.max(other), one.min(other));
        self.wires.get(&ends).expect("a cluster with proxies")
    }

    /// The wires that lead to a server.
    pub fn wires_of(&self, node: usize) -> impl Iterator<Item = &Proxy> {
        let all = self.wires.iter();
        all.filter_map(move |(ends, wire)| (ends.0 == node || ends.1 == node).then_some(wire))
    }

    /// Waits until messages go from each server to each.
    ///
    /// # Panics
    /// When they do not in time.
    #[track_caller]
    pub fn wait_until_complete(&mut self) {
        let all: Vec<usize> = (0..self.len()).collect();
        self.wait_until_connected(&all);
    }

    /// Waits until messages go from each of these servers to each other of them, for every login.
    ///
    /// # Panics
    /// When they do not in time.
    #[track_caller]
    pub fn wait_until_connected(&mut self, nodes: &[usize]) {
        for login in self.logins.clone() {
            let mut listeners = self.probes(nodes, login);
            for &from in nodes {
                let mut asker = Client::connect_as(self.address(from), login);
                for (to, subject, listener) in &mut listeners {
                    if *to == from {
                        continue;
                    }
                    let arrives = ask_until(PATIENCE, || {
                        (asker.is_heard(subject, b"")
                            && listener.next_within(PATIENCE / 10).is_some())
                        .then_some(())
                    });
                    assert!(
                        arrives.is_some(),
                        "messages do not go from {from} to {to}, {login:?}"
                    );
                }
            }
        }
    }

    /// Returns when every running server knows of what these clients have subscribed to, and what was published on it before
    /// has come to them; their messages are kept. The cluster must be complete: lines about one account keep their order then.
    ///
    /// # Panics
    /// When it does not come to know in time.
    #[track_caller]
    pub fn settle<'client>(&mut self, clients: impl IntoIterator<Item = &'client mut Client>) {
        for client in clients {
            self.probes += 1;
            let subject = format!("settled.{}", self.probes);
            let subscription = client.subscribe(&subject);
            client.round_trip();
            for node in &self.nodes {
                let is_running = node
                    .server
                    .as_ref()
                    .is_some_and(ServerUnderTest::is_running);
                if node.client.address() == client.address() || !is_running {
                    continue;
                }
                let mut asker = Client::connect_as(node.client.address(), client.login());
                let known = ask_until(PATIENCE, || asker.is_heard(&subject, b"").then_some(()));
                assert!(
                    known.is_some(),
                    "subscriptions of {} are not known at {}",
                    client.address(),
                    node.client.address()
                );
                client.take_message_of(subscription);
            }
            client.unsubscribe(subscription, None);
            client.round_trip();
        }
    }

    /// Waits until a server knows, or knows no more, that somebody hears a subject. Who hears it gets empty messages.
    ///
    /// # Panics
    /// When it does not come to know in time.
    #[track_caller]
    pub fn wait_for_interest(&self, node: usize, login: Login, subject: &str, is_wanted: bool) {
        let mut asker = Client::connect_as(self.address(node), login);
        let known = ask_until(PATIENCE, || {
            (asker.is_heard(subject, b"") == is_wanted).then_some(())
        });
        let what = if is_wanted {
            "nobody"
        } else {
            "somebody still"
        };
        assert!(known.is_some(), "for {node}, {what} hears {subject}");
    }

    /// Clients that hear a subject of their own each, with the number of their server.
    fn probes(&mut self, nodes: &[usize], login: Login) -> Vec<(usize, String, Client)> {
        let mut probes = Vec::new();
        for &node in nodes {
            self.probes += 1;
            let subject = format!("complete.{}", self.probes);
            let mut listener = Client::connect_as(self.address(node), login);
            listener.subscribe(&subject);
            listener.round_trip();
            probes.push((node, subject, listener));
        }
        probes
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // In one piece, since other tests may fail at the same time.
        let mut text = String::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let log = node.server.as_ref().map(ServerUnderTest::log);
            let log = log.unwrap_or_default();
            text.push_str(&format!(
                "--- the log of {at}, {}:\n{log}\n",
                node.kind.name()
            ));
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
