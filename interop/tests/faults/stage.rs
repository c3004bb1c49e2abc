//! Three servers on three machines: how they are configured, and what they say about each other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use testkit::cluster::{Client, Login, Seeding};
use testkit::netns::{Fate, Network};
use testkit::{Config, HttpAnswer, Kind, Listener, PATIENCE, ServerUnderTest, ask_until};

use super::OLD;

/// The users of the two accounts.
pub(super) const LOGINS: [Login; 2] = [Login::user("red", "red"), Login::user("blue", "blue")];

const ACCOUNTS: &str = "\
accounts {
  RED { users: [{ user: red, password: red }] }
  BLUE { users: [{ user: blue, password: blue }] }
}
";

const ROUTE_PORT: u16 = 6222;

/// Servers ask each other this often, and are silent for too long when so many questions have had no answer.
const PING_INTERVAL: &str = "1s";
const PINGS_MAX: u32 = 2;

/// By then a silence must have been noticed: three intervals and a fifth, doubled for slow machines.
const SILENCE_MAX: Duration = Duration::from_secs(7);
/// A nats-server that has noticed it still tries to send what waits, as long as a write may take, before the peer is gone.
const WRITE_MAX: Duration = Duration::from_secs(10);

/// What a server has been told of interest: how many times, for any account, of which subject and group.
pub(super) type Interest = BTreeMap<(String, String), usize>;

pub(super) struct Stage {
    kinds: Vec<Kind>,
    seeding: Seeding,
    seed: u64,
    // The servers end before their machines.
    servers: Vec<ServerUnderTest>,
    pub(super) network: Network,
}

impl Stage {
    /// A cluster that is whole, in fair weather. Each server is configured with all others.
    pub(super) fn start(kinds: &[Kind], seed: u64) -> Self {
        Self::with(kinds, Seeding::All, seed)
    }

    /// The same, but all others are configured with the first one alone, and it with nobody: they know each other from it.
    pub(super) fn start_from_one(kinds: &[Kind], seed: u64) -> Self {
        Self::with(kinds, Seeding::First, seed)
    }

    fn with(kinds: &[Kind], seeding: Seeding, seed: u64) -> Self {
        let network = Network::of(kinds.len(), seed);
        let mut stage = Self {
            kinds: kinds.to_vec(),
            seeding,
            seed,
            servers: Vec::new(),
            network,
        };
        for (node, kind) in kinds.iter().enumerate() {
            let config = Config::file(stage.config(node));
            let server = stage
                .network
                .inside(node, || ServerUnderTest::start(*kind, &config));
            stage.servers.push(server);
        }
        stage.wait_until_whole();
        stage
    }

    /// Whether a server gives its clients what another one sends over several connections, one after another, in order. A
    /// nats-server reads on from a connection that it has closed for its silence, until its own last words are sent.
    pub(super) fn keeps_order(&self, node: usize) -> bool {
        self.kinds[node] == Kind::Natterjack
    }

    fn config(&self, node: usize) -> String {
        let route = |node| format!("{}:{ROUTE_PORT}", self.network.address(node));
        let seeds = (0..self.network.len()).filter(|&other| match self.seeding {
            Seeding::All => other != node,
            Seeding::Lower => other < node,
            Seeding::First => other == 0 && node != 0,
        });
        let urls: Vec<String> = seeds
            .map(|other| format!("\"nats-route://{}\"", route(other)))
            .collect();
        // A nats-server does not go on by itself to look for one that it knows from another.
        let retries = match self.seeding {
            Seeding::First if self.kinds[node] != Kind::Natterjack => "connect_retries: 1000\n",
            _ => "",
        };
        let pings = format!("ping_interval: \"{PING_INTERVAL}\"\nping_max: {PINGS_MAX}\n");
        // An old server asks servers as often as clients.
        let (for_all, for_routes) = if self.kinds[node] == OLD {
            (pings.as_str(), "")
        } else {
            ("", pings.as_str())
        };
        format!(
            "server_name: node-{node}\nhttp: \"127.0.0.1:-1\"\n{ACCOUNTS}{for_all}cluster {{\nname: mesh\n\
             listen: \"{}\"\nroutes: [{}]\n{retries}{for_routes}}}\n",
            route(node),
            urls.join(", ")
        )
    }

    /// A client on the machine of its server.
    pub(super) fn client(&self, node: usize, login: Login) -> Client {
        let address = self.address(node, Listener::Client);
        self.network
            .inside(node, || Client::connect_as(address, login))
    }

    /// Kills a server as `kill -9` does, and starts it again.
    pub(super) fn restart(&mut self, node: usize) {
        let server = &mut self.servers[node];
        server.stop();
        self.network.inside(node, || server.restart());
    }

    /// Waits until each server has routes to each other one, and to nobody else.
    pub(super) fn wait_until_whole(&self) {
        let mut problem = String::new();
        let whole = ask_until(PATIENCE, || {
            let ids: BTreeSet<String> = (0..self.servers.len()).map(|node| self.id(node)).collect();
            for node in 0..self.servers.len() {
                let mut others = ids.clone();
                others.remove(&self.id(node));
                let peers = self.peers(node);
                if peers != others {
                    problem = format!("{node} has routes to {peers:?} and not to {others:?}");
                    return None;
                }
            }
            Some(())
        });
        assert!(whole.is_some(), "the cluster is not whole: {problem}");
    }

    /// Waits until two servers have each other no more, which they must notice in time.
    pub(super) fn wait_until_apart(&self, one: usize, other: usize) {
        let are_ours = [one, other]
            .iter()
            .all(|node| self.kinds[*node] == Kind::Natterjack);
        let patience = if are_ours {
            SILENCE_MAX
        } else {
            SILENCE_MAX + WRITE_MAX
        };
        let apart = ask_until(patience, || {
            let is_known = self.peers(one).contains(&self.id(other))
                || self.peers(other).contains(&self.id(one));
            (!is_known).then_some(())
        });
        assert!(
            apart.is_some(),
            "{one} and {other} do not notice that the other is silent"
        );
    }

    /// Waits until two servers have each other.
    pub(super) fn wait_until_together(&self, one: usize, other: usize) {
        let together = ask_until(PATIENCE, || {
            let is_known = self.peers(one).contains(&self.id(other))
                && self.peers(other).contains(&self.id(one));
            is_known.then_some(())
        });
        assert!(
            together.is_some(),
            "{one} and {other} do not find each other"
        );
    }

    /// The ids of the servers that a server has routes to.
    pub(super) fn peers(&self, node: usize) -> BTreeSet<String> {
        let page = self.page(node, "/routez");
        list(&page["routes"])
            .iter()
            .map(|route| text(&route["remote_id"]))
            .collect()
    }

    /// What a server knows of the interest of another one.
    pub(super) fn known_interest(&self, node: usize, other: usize) -> Interest {
        let id = self.id(other);
        let page = self.page(node, "/routez?subs=detail");
        let routes = list(&page["routes"])
            .iter()
            .filter(|route| route["remote_id"] == *id);
        let entries = routes.flat_map(|route| list(&route["subscriptions_list_detail"]));
        count(entries.map(|entry| (text(&entry["subject"]), text(&entry["qgroup"]))))
    }

    /// What clients of a server have subscribed to, each account's subject and group once.
    pub(super) fn local_interest(&self, node: usize) -> Interest {
        let page = self.page(node, "/subsz?subs=1&limit=100000");
        let entries = list(&page["subscriptions_list"]).iter();
        let distinct: BTreeSet<(String, String, String)> = entries
            .map(|entry| {
                (
                    text(&entry["account"]),
                    text(&entry["subject"]),
                    text(&entry["qgroup"]),
                )
            })
            .collect();
        count(
            distinct
                .into_iter()
                .map(|(_, subject, queue)| (subject, queue)),
        )
    }

    fn id(&self, node: usize) -> String {
        text(&self.page(node, "/varz")["server_id"])
    }

    fn page(&self, node: usize, path: &str) -> Value {
        let address = self.address(node, Listener::Monitor);
        self.network
            .inside(node, || HttpAnswer::get(address, path).json())
    }

    fn address(&self, node: usize, listener: Listener) -> SocketAddr {
        self.servers[node].listener(listener)
    }
}

/// What servers tell each other of their own business is left out.
fn count(interest: impl Iterator<Item = (String, String)>) -> Interest {
    let mut counts = Interest::new();
    for entry in interest.filter(|(subject, _)| !subject.starts_with(['$', '_'])) {
        *counts.entry(entry).or_default() += 1;
    }
    counts
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let fates = [Fate::Arrived, Fate::Lost, Fate::HeldBack, Fate::Doubled];
        let packets = fates.map(|fate| format!("{} {fate:?}", self.network.count(fate)));
        // In one piece, since other tests may fail at the same time.
        let mut report = format!(
            "--- NATTERJACK_SEED={} repeats this; packets: {}\n",
            self.seed,
            packets.join(", ")
        );
        for (node, server) in self.servers.iter().enumerate() {
            report.push_str(&format!(
                "--- the log of {node}, {}:\n{}\n",
                self.kinds[node].name(),
                server.log()
            ));
        }
        let _ = std::io::stderr().write_all(report.as_bytes());
    }
}
