//! What is known, for those who do not look at a terminal: JSON for programs, tables for people. What the JSON says is
//! described in `docs/monitoring.md`; fields are added to it, and none is changed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Instant;

use serde::Serialize;

use super::looks::Looks;
use super::rates::{Rates, Traffic};
use super::screens::{self, Screen};
use super::state::{self, ConnectionView, Server, SlowView, Standing, State};
use super::table::{self, Figures};
use super::words;

/// Everything at one time. Rates are null until there are two samples.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    /// When it was made, by our clock.
    time: String,
    rates: Option<Rates>,
    servers: Vec<ServerReport<'a>>,
    /// Connections there are; not all may be listed.
    connections_total: u64,
    connections: Vec<ConnectionReport<'a>>,
    routes: Vec<RouteReport<'a>>,
    accounts: Vec<AccountReport>,
    slow_consumers: Vec<SlowReport<'a>>,
}

#[derive(Debug, Serialize)]
struct ServerReport<'a> {
    name: &'a str,
    id: Option<&'a str>,
    /// Where it is asked.
    address: Option<&'a str>,
    /// `answers`, `silent`, or `not asked`.
    state: &'static str,
    /// Why it is silent or not asked.
    problem: Option<&'a str>,
    /// The rest is what it said last.
    product: Option<String>,
    version: Option<&'a str>,
    cluster: Option<&'a str>,
    uptime_seconds: Option<f64>,
    cpu_percent: Option<f64>,
    memory_bytes: Option<u64>,
    connections: Option<u64>,
    subscriptions: Option<u64>,
    slow_consumers: Option<u64>,
    peers: Option<u64>,
    totals: Option<Traffic>,
    rates: Option<Rates>,
    certificate_end: Option<String>,
    route_certificate_end: Option<String>,
    has_jetstream: Option<bool>,
    bus: Option<&'a serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct ConnectionReport<'a> {
    server: &'a str,
    cid: u64,
    name: &'a str,
    account: &'a str,
    user: &'a str,
    ip: &'a str,
    port: u16,
    language: &'a str,
    version: &'a str,
    subscriptions: u64,
    pending_bytes: u64,
    rtt_seconds: Option<f64>,
    uptime_seconds: f64,
    idle_seconds: f64,
    totals: Traffic,
    rates: Option<Rates>,
}

#[derive(Debug, Serialize)]
struct RouteReport<'a> {
    server: &'a str,
    remote_name: &'a str,
    remote_id: &'a str,
    is_connected: bool,
    connections: u64,
    rtt_seconds: Option<f64>,
    pending_bytes: u64,
    subscriptions: u64,
    totals: Traffic,
    rates: Option<Rates>,
}

#[derive(Debug, Serialize)]
struct AccountReport {
    name: String,
    connections: u64,
    subscriptions: u64,
    slow_consumers: u64,
    totals: Traffic,
    rates: Option<Rates>,
}

#[derive(Debug, Serialize)]
struct SlowReport<'a> {
    server: &'a str,
    cid: u64,
    name: &'a str,
    account: &'a str,
    /// Whether it is still connected, and only behind.
    is_open: bool,
    reason: &'a str,
    closed: Option<String>,
    pending_bytes: u64,
    out_msgs: u64,
}

impl<'a> Report<'a> {
    /// Connections are filtered and sorted as people wanted.
    pub(super) fn new(state: &'a State, looks: &Looks, now: Instant, time: String) -> Self {
        let looks = looks.on(Screen::Connections);
        let rows = looks.rows(state, now);
        let places: HashMap<&str, usize> = (rows.iter().enumerate())
            .map(|(at, row)| (row.id.as_str(), at))
            .collect();
        let place = |view: &ConnectionView<'_>| {
            let id = screens::connection_id(view.server, view.connection.cid);
            places.get(id.as_str()).copied()
        };
        let mut connections: Vec<_> = state
            .connections()
            .filter_map(|view| Some((place(&view)?, view)))
            .collect();
        connections.sort_by_key(|(place, _)| *place);
        let known = state.servers.iter().map(server);
        let unasked = state.unasked.iter().map(|(id, member)| ServerReport {
            id: Some(id),
            state: "not asked",
            problem: Some(&member.reason),
            ..nothing_known(&member.name)
        });
        Self {
            time,
            rates: state.rates(),
            servers: known.chain(unasked).collect(),
            connections_total: state.connections_total(),
            connections: connections
                .into_iter()
                .map(|(_, view)| connection(&view))
                .collect(),
            routes: routes(state),
            accounts: accounts(state),
            slow_consumers: state.slow().iter().map(slow).collect(),
        }
    }
}

fn nothing_known(name: &str) -> ServerReport<'_> {
    ServerReport {
        name,
        id: None,
        address: None,
        state: "silent",
        problem: None,
        product: None,
        version: None,
        cluster: None,
        uptime_seconds: None,
        cpu_percent: None,
        memory_bytes: None,
        connections: None,
        subscriptions: None,
        slow_consumers: None,
        peers: None,
        totals: None,
        rates: None,
        certificate_end: None,
        route_certificate_end: None,
        has_jetstream: None,
        bus: None,
    }
}

fn server(server: &Server) -> ServerReport<'_> {
    let (state, problem) = match &server.standing {
        Standing::Answering => ("answers", None),
        Standing::Waiting => ("silent", None),
        Standing::Failing { problem, .. } => ("silent", Some(problem.as_str())),
    };
    let nothing = ServerReport {
        address: Some(&server.address),
        state,
        problem,
        ..nothing_known(server.name())
    };
    let Some(sample) = &server.sample else {
        return nothing;
    };
    let varz = &sample.varz;
    ServerReport {
        id: Some(&varz.server_id),
        product: Some(screens::product(varz)),
        version: Some(&varz.version),
        cluster: Some(varz.cluster.name.as_str()).filter(|name| !name.is_empty()),
        uptime_seconds: Some(seconds(&varz.uptime).unwrap_or(0.0)),
        cpu_percent: Some(varz.cpu),
        memory_bytes: Some(varz.mem),
        connections: Some(varz.connections),
        subscriptions: Some(varz.subscriptions),
        slow_consumers: Some(varz.slow_consumers),
        peers: Some(varz.remotes),
        totals: Some(state::traffic_of_server(varz)),
        rates: server.rates,
        certificate_end: varz.tls_cert_not_after.map(|end| end.to_string()),
        route_certificate_end: varz.cluster.tls_cert_not_after.map(|end| end.to_string()),
        has_jetstream: Some(varz.jetstream.stats.is_some()),
        bus: sample.bus.as_ref(),
        ..nothing
    }
}

fn connection<'a>(view: &ConnectionView<'a>) -> ConnectionReport<'a> {
    let connection = view.connection;
    ConnectionReport {
        server: view.server.name(),
        cid: connection.cid,
        name: &connection.name,
        account: &connection.account,
        user: &connection.authorized_user,
        ip: &connection.ip,
        port: connection.port,
        language: &connection.lang,
        version: &connection.version,
        subscriptions: connection.subscriptions,
        pending_bytes: connection.pending_bytes,
        rtt_seconds: seconds(&connection.rtt),
        uptime_seconds: seconds(&connection.uptime).unwrap_or(0.0),
        idle_seconds: seconds(&connection.idle).unwrap_or(0.0),
        totals: state::traffic_of_connection(connection),
        rates: view.rates,
    }
}

fn routes(state: &State) -> Vec<RouteReport<'_>> {
    let peers = state.servers.iter().flat_map(|server| {
        server
            .peers
            .iter()
            .map(move |(id, peer)| (server, id, peer))
    });
    peers
        .map(|(server, id, peer)| RouteReport {
            server: server.name(),
            remote_name: &peer.name,
            remote_id: id,
            is_connected: peer.lost.is_none(),
            connections: peer.connections,
            rtt_seconds: peer.round_trip.map(|time| time.as_secs_f64()),
            pending_bytes: peer.pending_bytes,
            subscriptions: peer.subscriptions,
            totals: peer.traffic,
            rates: peer.rates,
        })
        .collect()
}

fn accounts(state: &State) -> Vec<AccountReport> {
    let accounts = state.accounts().into_iter();
    accounts
        .map(|account| AccountReport {
            name: account.name,
            connections: account.connections,
            subscriptions: account.subscriptions,
            slow_consumers: account.slow_consumers,
            totals: account.traffic,
            rates: account.rates,
        })
        .collect()
}

fn slow<'a>(view: &SlowView<'a>) -> SlowReport<'a> {
    let connection = view.connection;
    SlowReport {
        server: view.server.name(),
        cid: connection.cid,
        name: &connection.name,
        account: &connection.account,
        is_open: view.is_open,
        reason: &connection.reason,
        closed: connection.stop.map(|stop| stop.to_string()),
        pending_bytes: connection.pending_bytes,
        out_msgs: connection.out_msgs,
    }
}

fn seconds(text: &str) -> Option<f64> {
    words::duration(text).map(|time| time.as_secs_f64())
}

/// A screen's table, or all of them one after the other.
pub(super) fn text(state: &State, looks: &Looks, only: Option<Screen>, now: Instant) -> String {
    match only {
        Some(screen) => of_screen(state, looks, screen, now),
        None => {
            const SHOWN: [Screen; 5] = [
                Screen::Servers,
                Screen::Connections,
                Screen::Routes,
                Screen::Accounts,
                Screen::Slow,
            ];
            let parts = SHOWN.map(|screen| {
                let title = screen.title();
                format!("{title}\n{}", of_screen(state, looks, screen, now))
            });
            parts.join("\n")
        }
    }
}

fn of_screen(state: &State, looks: &Looks, screen: Screen, now: Instant) -> String {
    if screen == Screen::Details {
        let servers = state.servers.iter();
        let parts: Vec<_> = servers.map(|server| details(server, now)).collect();
        return parts.join("\n");
    }
    let rows = looks.on(screen).rows(state, now);
    if rows.is_empty() {
        return format!("{}\n", screen.nothing());
    }
    table::plain(screen.columns(), &rows, Figures::Both)
}

fn details(server: &Server, now: Instant) -> String {
    let mut text = String::new();
    for (what, value) in screens::details(server, now) {
        // Text in memory takes everything.
        let _ = writeln!(text, "{what:<24} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::state::Unasked;
    use super::super::state::tests::{begin, sample};
    use super::*;

    #[test]
    fn json_has_everything_sorted_and_filtered() {
        let at = begin();
        let mut state = State::new(["http://a:8222".to_owned()]);
        let pages = |count: u64| {
            json!({
                "varz": {"server_id": "A", "server_name": "a", "go": "natterjack 0.1.0", "in_msgs": count},
                "connz": {"total": 9, "connections": [
                    {"cid": 1, "name": "x1", "in_msgs": count, "rtt": "1ms"},
                    {"cid": 2, "name": "x2", "in_msgs": 2 * count},
                    {"cid": 3, "name": "y", "in_msgs": 2 * count},
                ]},
                "routez": {"routes": [{"remote_id": "B", "remote_name": "b"}]},
                "accstatz": {"account_statz": [{"acc": "X", "conns": 3}]},
            })
        };
        state.hear("http://a:8222", at, Ok(sample(0, &pages(100))));
        let at = at + Duration::from_secs(1);
        state.hear("http://a:8222", at, Ok(sample(1, &pages(200))));
        let lost = Unasked {
            name: "b".into(),
            reason: "refused".into(),
        };
        state.unasked.insert("B".into(), lost);
        let mut looks = Looks::new(Screen::Accounts, Duration::from_secs(1));
        looks.sort_by(Screen::Connections, "in_msgs");
        looks.filter = "x".into();
        let report = Report::new(&state, &looks, at, "now".into());
        let report: Value = serde_json::to_value(report).unwrap();
        let cids: Vec<_> = report["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|connection| connection["cid"].as_u64().unwrap())
            .collect();
        assert_eq!(cids, [2, 1]);
        assert_eq!(report["connections"][0]["rates"]["in_msgs"], 200.0);
        assert_eq!(report["connections"][1]["rtt_seconds"], 0.001);
        assert_eq!(report["connections_total"], 9);
        assert_eq!(report["rates"]["in_msgs"], 100.0);
        assert_eq!(report["servers"][0]["state"], "answers");
        assert_eq!(report["servers"][0]["has_jetstream"], false);
        assert_eq!(report["servers"][1]["state"], "not asked");
        assert_eq!(report["routes"][0]["remote_name"], "b");
        assert_eq!(report["accounts"][0]["connections"], 3);
    }

    #[test]
    fn tables_come_one_after_the_other() {
        let mut state = State::new(["http://a:8222".to_owned()]);
        let looks = Looks::new(Screen::Connections, Duration::from_secs(1));
        state.hear("http://a:8222", begin(), Err("refused".into()));
        let text = text(&state, &looks, None, begin());
        assert!(text.starts_with("Servers\nSERVER         STATE"), "{text}");
        assert!(text.contains("http://a:8222  silent 0s: refused"), "{text}");
        assert!(
            text.contains("\n\nConnections\nNobody is connected.\n"),
            "{text}"
        );
        assert!(text.ends_with("lately.\n"), "{text}");
    }
}
