//! What is known of the servers: the last sample of each, what they did a second, and what has become of those that do not
//! answer. It is fed with answers and a time, and knows neither sockets nor terminals.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::page::{Account, Connection, Sample, Varz};
use super::rates::{Meter, Rates, Stamp, Traffic};
use super::words;

/// Rates that are kept for the lines over time: more than the widest terminal has columns.
const HISTORY_MAX: usize = 512;

/// Peers that went away and are still shown, of one server.
const LOST_MAX: usize = 64;

/// Closed connections that are shown, of one server.
const SLOW_MAX: usize = 100;

/// From so many bytes on that wait for it, a connection is shown as one that is behind.
const BEHIND_BYTES: u64 = 1024 * 1024;

/// All servers that are watched, in the order in which they were named or found.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) servers: Vec<Server>,
    /// Members of the cluster that cannot be asked, by id: their names, and why.
    pub(super) unasked: BTreeMap<String, Unasked>,
    /// Why nothing at all is known, such as a login that is refused.
    pub(super) problem: Option<(Instant, String)>,
    pub(super) history: VecDeque<Rates>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unasked {
    pub(super) name: String,
    pub(super) reason: String,
}

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    /// Where it is asked: the address of its monitoring, or its id.
    pub(super) address: String,
    pub(super) standing: Standing,
    /// What it said last, if it ever did.
    pub(super) sample: Option<Sample>,
    pub(super) rates: Option<Rates>,
    pub(super) client_rates: Option<Rates>,
    pub(super) connection_rates: HashMap<u64, Rates>,
    pub(super) account_rates: HashMap<String, Rates>,
    /// Servers that it is or was connected to, by id.
    pub(super) peers: BTreeMap<String, Peer>,
    meters: Meters,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing has come yet.
    Waiting,
    Answering,
    /// Since when, by the last answer or the first failure, and why.
    Failing {
        since: Instant,
        problem: String,
    },
}

/// Another server of the cluster as one sees it: all connections to it together.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) name: String,
    /// When it went away, if it did.
    pub(super) lost: Option<Instant>,
    pub(super) connections: u64,
    pub(super) round_trip: Option<Duration>,
    pub(super) pending_bytes: u64,
    pub(super) subscriptions: u64,
    pub(super) compression: String,
    pub(super) ip: String,
    pub(super) traffic: Traffic,
    pub(super) rates: Option<Rates>,
}

#[derive(Debug, Default)]
struct Meters {
    server: Meter<()>,
    clients: Meter<()>,
    connections: Meter<u64>,
    accounts: Meter<String>,
    peers: Meter<String>,
}

/// One connection, and whose it is.
pub(super) struct ConnectionView<'a> {
    pub(super) server: &'a Server,
    pub(super) connection: &'a Connection,
    pub(super) rates: Option<Rates>,
}

/// One account on all servers together.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct AccountView {
    pub(super) name: String,
    pub(super) connections: u64,
    pub(super) subscriptions: u64,
    pub(super) traffic: Traffic,
    pub(super) rates: Option<Rates>,
    pub(super) slow_consumers: u64,
}

/// A client that did not keep up, or does not.
pub(super) struct SlowView<'a> {
    pub(super) server: &'a Server,
    pub(super) connection: &'a Connection,
    /// It is still there.
    pub(super) is_open: bool,
}

impl State {
    pub(super) fn new(addresses: impl IntoIterator<Item = String>) -> Self {
        Self {
            servers: addresses.into_iter().map(Server::new).collect(),
            ..Self::default()
        }
    }

    /// The server at this address, which becomes known by being named.
    pub(super) fn server(&mut self, address: &str) -> &mut Server {
        let known = self.servers.iter().position(|it| it.address == address);
        let at = known.unwrap_or_else(|| {
            self.servers.push(Server::new(address.to_owned()));
            self.servers.len() - 1
        });
        &mut self.servers[at]
    }

    /// Takes what a server said, or why it said nothing.
    pub(super) fn hear(&mut self, address: &str, at: Instant, said: Result<Sample, String>) {
        if said.is_ok() {
            self.problem = None;
        }
        let server = self.server(address);
        match said {
            Ok(mut sample) => {
                // Where those that are equal in what is sorted by are, nats-server leaves to chance, and people look for them
                // where they were.
                (sample.connz.connections).sort_unstable_by_key(|connection| connection.cid);
                server.take(sample, at);
            }
            Err(problem) => server.fail(problem, at),
        }
    }

    /// Takes that nothing is known of anybody, and why.
    pub(super) fn fail(&mut self, problem: String, at: Instant) {
        let since = self.problem.as_ref().map_or(at, |(since, _)| *since);
        self.problem = Some((since, problem));
    }

    /// Adds the present rates to the past ones, once in a round.
    pub(super) fn record(&mut self) {
        if let Some(rates) = self.rates() {
            self.history.push_back(rates);
            if self.history.len() > HISTORY_MAX {
                self.history.pop_front();
            }
        }
    }

    /// What all servers that answer do a second. Of several, what they exchange with each other does not count, if they
    /// tell it apart.
    pub(super) fn rates(&self) -> Option<Rates> {
        let mut sum: Option<Rates> = None;
        for server in &self.servers {
            if server.standing != Standing::Answering {
                continue;
            }
            let of_clients = server.client_rates.filter(|_| self.servers.len() > 1);
            if let Some(rates) = of_clients.or(server.rates) {
                *sum.get_or_insert_default() += rates;
            }
        }
        sum
    }

    /// Sums up a number over all servers of which something is known.
    pub(super) fn sum(&self, number: impl Fn(&Varz) -> u64) -> u64 {
        self.varz().map(number).sum()
    }

    pub(super) fn varz(&self) -> impl Iterator<Item = &Varz> {
        self.servers.iter().filter_map(Server::varz)
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = ConnectionView<'_>> {
        self.servers.iter().flat_map(|server| {
            let listed = server.sample.iter().flat_map(|it| &it.connz.connections);
            listed.map(move |connection| ConnectionView {
                server,
                connection,
                rates: server.connection_rates.get(&connection.cid).copied(),
            })
        })
    }

    /// Connections there are, listed or not.
    pub(super) fn connections_total(&self) -> u64 {
        let samples = self
            .servers
            .iter()
            .filter_map(|server| server.sample.as_ref());
        samples
            .map(|sample| {
                let listed = sample.connz.connections.len() as u64;
                sample.connz.total.max(listed)
            })
            .sum()
    }

    /// The accounts of all servers, by name.
    ///
    /// Subscriptions are the most that one server knows of: each knows of those of the others.
    pub(super) fn accounts(&self) -> Vec<AccountView> {
        let mut accounts: BTreeMap<&str, AccountView> = BTreeMap::new();
        for server in &self.servers {
            for account in server
                .sample
                .iter()
                .flat_map(|it| &it.accstatz.account_statz)
            {
                let view = accounts.entry(&account.acc).or_insert_with(|| AccountView {
                    name: account.acc.clone(),
                    ..AccountView::default()
                });
                view.connections += account.conns;
                view.subscriptions = view.subscriptions.max(account.num_subscriptions);
                view.slow_consumers += account.slow_consumers;
                view.traffic += traffic_of_account(account);
                if let Some(rates) = server.account_rates.get(&account.acc) {
                    *view.rates.get_or_insert_default() += *rates;
                }
            }
        }
        accounts.into_values().collect()
    }

    /// Clients that are behind now, and those that were closed for it, the last ones first.
    pub(super) fn slow(&self) -> Vec<SlowView<'_>> {
        let mut slow = Vec::new();
        for server in &self.servers {
            let Some(sample) = &server.sample else {
                continue;
            };
            let behind = sample.connz.connections.iter();
            let behind = behind.filter(|connection| connection.pending_bytes >= BEHIND_BYTES);
            let closed = sample.closed.connections.iter();
            let closed = closed.filter(|connection| connection.reason.starts_with("Slow Consumer"));
            for (connection, is_open) in behind
                .map(|connection| (connection, true))
                .chain(closed.map(|connection| (connection, false)).take(SLOW_MAX))
            {
                slow.push(SlowView {
                    server,
                    connection,
                    is_open,
                });
            }
        }
        slow
    }

    /// The soonest end of a certificate, and when it is now by that server's clock.
    pub(super) fn certificate_end(&self) -> Option<(Timestamp, Timestamp)> {
        let ends = self.varz().filter_map(|varz| {
            let end = [varz.tls_cert_not_after, varz.cluster.tls_cert_not_after];
            Some((end.into_iter().flatten().min()?, varz.now?))
        });
        ends.min()
    }
}

impl Server {
    fn new(address: String) -> Self {
        Self {
            address,
            standing: Standing::Waiting,
            sample: None,
            rates: None,
            client_rates: None,
            connection_rates: HashMap::new(),
            account_rates: HashMap::new(),
            peers: BTreeMap::new(),
            meters: Meters::default(),
        }
    }

    pub(super) fn varz(&self) -> Option<&Varz> {
        self.sample.as_ref().map(|sample| &sample.varz)
    }

    /// Its name if it has told, else where it is.
    pub(super) fn name(&self) -> &str {
        match self.varz() {
            Some(varz) if !varz.server_name.is_empty() => &varz.server_name,
            Some(varz) if !varz.server_id.is_empty() => &varz.server_id,
            _ => &self.address,
        }
    }

    fn fail(&mut self, problem: String, at: Instant) {
        let since = match self.standing {
            Standing::Failing { since, .. } => since,
            Standing::Waiting | Standing::Answering => at,
        };
        self.standing = Standing::Failing { since, problem };
        self.rates = None;
        self.client_rates = None;
        self.connection_rates.clear();
        self.account_rates.clear();
        for peer in self.peers.values_mut() {
            peer.rates = None;
        }
    }

    fn take(&mut self, sample: Sample, here: Instant) {
        let is_another = self.varz().is_some_and(|before| {
            before.server_id != sample.varz.server_id || before.start != sample.varz.start
        });
        if is_another {
            self.meters = Meters::default();
            self.peers.clear();
        }
        let stamp = |there| Stamp { there, here };
        let varz = &sample.varz;
        let at = stamp(varz.now);
        let one = |meter: &mut Meter<()>, traffic| {
            meter
                .read(at, [((), traffic, None)])
                .remove(&())
                .into_iter()
                .next()
        };
        self.rates = one(&mut self.meters.server, traffic_of_server(varz));
        self.client_rates =
            traffic_of_clients(varz).and_then(|traffic| one(&mut self.meters.clients, traffic));
        let connections = sample.connz.connections.iter();
        self.connection_rates = self.meters.connections.read(
            stamp(sample.connz.now),
            connections.map(|it| (it.cid, traffic_of_connection(it), it.start)),
        );
        let accounts = sample.accstatz.account_statz.iter();
        self.account_rates = self.meters.accounts.read(
            stamp(sample.accstatz.now),
            accounts.map(|it| (it.acc.clone(), traffic_of_account(it), None)),
        );
        self.see_peers(&sample, stamp(sample.routez.now));
        self.standing = Standing::Answering;
        self.sample = Some(sample);
    }

    /// Connections to the same server are one line; a server that was there and is not any more stays, as lost.
    fn see_peers(&mut self, sample: &Sample, at: Stamp) {
        let mut present: BTreeMap<&str, Peer> = BTreeMap::new();
        for route in &sample.routez.routes {
            let peer = present.entry(&route.remote_id).or_insert_with(|| Peer {
                name: if route.remote_name.is_empty() {
                    route.remote_id.clone()
                } else {
                    route.remote_name.clone()
                },
                lost: None,
                connections: 0,
                round_trip: None,
                pending_bytes: 0,
                subscriptions: 0,
                compression: route.compression.clone(),
                ip: route.ip.clone(),
                traffic: Traffic::default(),
                rates: None,
            });
            peer.connections += 1;
            peer.pending_bytes += route.pending_size;
            peer.subscriptions += route.subscriptions;
            peer.traffic += Traffic {
                in_msgs: route.in_msgs,
                out_msgs: route.out_msgs,
                in_bytes: route.in_bytes,
                out_bytes: route.out_bytes,
            };
            let round_trip = words::duration(&route.rtt);
            peer.round_trip = [peer.round_trip, round_trip].into_iter().flatten().min();
        }
        let counters = present.iter();
        let counters = counters.map(|(id, peer)| ((*id).to_owned(), peer.traffic, None));
        let mut rates = self.meters.peers.read(at, counters);
        let names: Vec<_> = present.values().map(|peer| peer.name.clone()).collect();
        // One of the same name under another id has been started anew.
        self.peers
            .retain(|id, peer| present.contains_key(&**id) || !names.contains(&peer.name));
        for (id, peer) in &mut self.peers {
            if !present.contains_key(&**id) && peer.lost.is_none() {
                peer.lost = Some(at.here);
                peer.connections = 0;
                peer.pending_bytes = 0;
                peer.rates = None;
            }
        }
        for (id, mut peer) in present {
            peer.rates = rates.remove(id);
            self.peers.insert(id.to_owned(), peer);
        }
        while self.peers.values().filter(|it| it.lost.is_some()).count() > LOST_MAX {
            let longest = self.peers.iter().filter(|(_, it)| it.lost.is_some());
            let longest = longest.min_by_key(|(_, it)| it.lost);
            let Some(id) = longest.map(|(id, _)| id.clone()) else {
                break;
            };
            self.peers.remove(&id);
        }
    }
}

pub(super) fn traffic_of_server(varz: &Varz) -> Traffic {
    Traffic {
        in_msgs: varz.in_msgs,
        out_msgs: varz.out_msgs,
        in_bytes: varz.in_bytes,
        out_bytes: varz.out_bytes,
    }
}

fn traffic_of_clients(varz: &Varz) -> Option<Traffic> {
    Some(Traffic {
        in_msgs: varz.in_client_msgs?,
        out_msgs: varz.out_client_msgs?,
        in_bytes: varz.in_client_bytes?,
        out_bytes: varz.out_client_bytes?,
    })
}

pub(super) fn traffic_of_connection(connection: &Connection) -> Traffic {
    Traffic {
        in_msgs: connection.in_msgs,
        out_msgs: connection.out_msgs,
        in_bytes: connection.in_bytes,
        out_bytes: connection.out_bytes,
    }
}

/// Without what other servers sent or were sent, so that it can be summed up.
fn traffic_of_account(account: &Account) -> Traffic {
    let Account { received, sent, .. } = account;
    Traffic {
        in_msgs: received.msgs.saturating_sub(received.routes.msgs),
        out_msgs: sent.msgs.saturating_sub(sent.routes.msgs),
        in_bytes: received.bytes.saturating_sub(received.routes.bytes),
        out_bytes: sent.bytes.saturating_sub(sent.routes.bytes),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A sample as pages say it, at so many seconds of the server's clock.
    pub(crate) fn sample(second: u64, pages: &Value) -> Sample {
        let now = format!("2026-11-22T10:00:{second:02}Z");
        let page = |name: &str| {
            let mut page = pages.get(name).cloned().unwrap_or_else(|| json!({}));
            page["now"] = json!(now);
            page
        };
        Sample {
            varz: serde_json::from_value(page("varz")).unwrap(),
            connz: serde_json::from_value(page("connz")).unwrap(),
            routez: serde_json::from_value(page("routez")).unwrap(),
            accstatz: serde_json::from_value(page("accstatz")).unwrap(),
            closed: serde_json::from_value(page("closed")).unwrap(),
            bus: pages.get("bus").cloned(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "times have to start somewhere")]
    pub(crate) fn begin() -> Instant {
        Instant::now()
    }

    const A: &str = "http://a:8222";
    const B: &str = "http://b:8222";

    fn counted(count: u64) -> Value {
        json!({
            "varz": {
                "server_id": "A", "server_name": "a", "in_msgs": count, "out_msgs": 2 * count,
                "in_client_msgs": count / 2, "out_client_msgs": count,
                "in_client_bytes": 0, "out_client_bytes": 0,
            },
            "connz": {"total": 3, "connections": [{"cid": 7, "in_msgs": count}]},
            "routez": {"routes": [
                {"remote_id": "B", "remote_name": "b", "in_msgs": count, "rtt": "2ms", "pending_size": 1},
                {"remote_id": "B", "remote_name": "b", "in_msgs": count, "rtt": "1ms", "pending_size": 2},
            ]},
            "accstatz": {"account_statz": [{"acc": "X", "conns": 1, "received": {"msgs": count}}]},
        })
    }

    #[test]
    fn rates_of_everything() {
        let at = begin();
        let second = Duration::from_secs(1);
        let mut state = State::new([A.to_owned()]);
        state.hear(A, at, Ok(sample(0, &counted(100))));
        assert!(state.rates().is_none());
        state.hear(A, at + second, Ok(sample(1, &counted(160))));
        let rates = state.rates().unwrap();
        assert_eq!((rates.in_msgs, rates.out_msgs), (60.0, 120.0));
        let connection = state.connections().next().unwrap();
        assert_eq!(connection.rates.unwrap().in_msgs, 60.0);
        assert_eq!(state.connections_total(), 3);
        let accounts = state.accounts();
        assert_eq!(accounts[0].rates.unwrap().in_msgs, 60.0);
        let peer = &state.servers[0].peers["B"];
        assert_eq!((peer.connections, peer.pending_bytes), (2, 3));
        assert_eq!(peer.round_trip, Some(Duration::from_millis(1)));
        assert_eq!(peer.rates.unwrap().in_msgs, 120.0);
    }

    #[test]
    fn several_servers_count_what_clients_send() {
        let at = begin();
        let mut state = State::new([A.to_owned(), B.to_owned()]);
        for (second, count) in [(0, 100), (1, 160)] {
            let at = at + Duration::from_secs(second);
            state.hear(A, at, Ok(sample(second, &counted(count))));
            state.hear(B, at, Ok(sample(second, &counted(count))));
        }
        assert_eq!(state.rates().unwrap().in_msgs, 60.0);
        assert_eq!(state.accounts()[0].connections, 2);
        state.hear(B, at + Duration::from_secs(2), Err("gone".into()));
        assert_eq!(state.rates().unwrap().in_msgs, 30.0, "only of who answers");
        state.record();
        assert_eq!(state.history.len(), 1);
    }

    #[test]
    fn a_server_that_fails_is_known_as_it_was_and_comes_back() {
        let at = begin();
        let second = Duration::from_secs(1);
        let mut state = State::new([A.to_owned()]);
        state.hear(A, at, Err("refused".into()));
        assert_eq!(state.servers[0].name(), A);
        state.hear(A, at + second, Ok(sample(1, &counted(10))));
        state.hear(A, at + 2 * second, Err("refused".into()));
        state.hear(A, at + 9 * second, Err("still".into()));
        let failing = Standing::Failing {
            since: at + 2 * second,
            problem: "still".into(),
        };
        assert_eq!(state.servers[0].standing, failing);
        assert_eq!(state.servers[0].name(), "a");
        assert_eq!(state.connections().count(), 1);
        // Started anew, with counters below those of before.
        let mut again = counted(5);
        again["varz"]["server_id"] = json!("A2");
        state.hear(A, at + 10 * second, Ok(sample(10, &again)));
        assert_eq!(state.servers[0].standing, Standing::Answering);
        assert!(state.rates().is_none());
    }

    #[test]
    fn a_peer_that_left_is_lost_until_it_is_back() {
        let at = begin();
        let second = Duration::from_secs(1);
        let mut state = State::new([A.to_owned()]);
        let mut pages = counted(10);
        state.hear(A, at, Ok(sample(0, &pages)));
        pages["routez"] = json!({});
        state.hear(A, at + second, Ok(sample(1, &pages)));
        state.hear(A, at + 2 * second, Ok(sample(2, &pages)));
        let peer = &state.servers[0].peers["B"];
        assert_eq!((peer.lost, peer.connections), (Some(at + second), 0));
        pages["routez"] = json!({"routes": [{"remote_id": "B2", "remote_name": "b"}]});
        state.hear(A, at + 3 * second, Ok(sample(3, &pages)));
        let peers = &state.servers[0].peers;
        assert_eq!(peers.len(), 1, "{peers:?}");
        assert!(peers["B2"].lost.is_none());
    }

    #[test]
    fn connections_stay_where_they_are_however_a_server_lists_them() {
        let mut state = State::new([B.to_owned(), A.to_owned()]);
        for (second, order) in [[3, 1, 2], [2, 3, 1]].into_iter().enumerate() {
            let listed = order.map(|cid| json!({ "cid": cid }));
            let pages = json!({ "connz": { "connections": listed } });
            for address in [A, B] {
                let page = sample(second as u64, &pages);
                state.hear(address, begin(), Ok(page));
            }
            let views = state.connections();
            let shown: Vec<_> = views
                .map(|view| (view.server.address.as_str(), view.connection.cid))
                .collect();
            assert_eq!(shown, [(B, 1), (B, 2), (B, 3), (A, 1), (A, 2), (A, 3)]);
        }
    }

    #[test]
    fn slow_ones_are_those_behind_and_those_closed_for_it() {
        let mut state = State::new([A.to_owned()]);
        let pages = json!({
            "connz": {"connections": [{"cid": 1, "pending_bytes": 2_000_000}, {"cid": 2, "pending_bytes": 5}]},
            "closed": {"connections": [
                {"cid": 3, "reason": "Client Closed"},
                {"cid": 4, "reason": "Slow Consumer (Write Deadline)"},
            ]},
        });
        state.hear(A, begin(), Ok(sample(0, &pages)));
        let slow = state.slow();
        let slow: Vec<_> = slow
            .iter()
            .map(|it| (it.connection.cid, it.is_open))
            .collect();
        assert_eq!(slow, [(1, true), (4, false)]);
    }

    #[test]
    fn the_certificate_that_ends_first() {
        let mut state = State::new([A.to_owned(), B.to_owned()]);
        let of = |client: &str, route: &str| json!({"varz": {"tls_cert_not_after": client, "cluster": {"tls_cert_not_after": route}}});
        let first = of("2026-12-24T00:00:00Z", "2026-12-23T00:00:00Z");
        state.hear(A, begin(), Ok(sample(0, &first)));
        state.hear(B, begin(), Ok(sample(0, &json!({}))));
        let (end, _) = state.certificate_end().unwrap();
        assert_eq!(end.to_string(), "2026-12-23T00:00:00Z");
    }
}
