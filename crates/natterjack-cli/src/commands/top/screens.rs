//! What there is to look at: the screens, their columns, and their rows made of what is known.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::page::Connection;
use super::rates::{Rates, Traffic};
use super::state::{self, Server, Standing, State};
use super::table::{Cell, Column, ColumnKind, Row};
use super::words;
use crate::escape::escaped;

/// From so many days on before its end, a certificate is one to look at.
pub(super) const CERTIFICATE_DAYS_FEW: u64 = 21;

/// From so many bytes on that wait for it, somebody is behind.
const PENDING_BYTES_MANY: u64 = 1024 * 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Screen {
    /// Clients
    #[default]
    Connections,
    /// Servers, those included that are only known from others
    Servers,
    /// Connections between servers
    Routes,
    /// Accounts, on all servers together
    Accounts,
    /// Clients that do not keep up, and those that were closed for it
    Slow,
    /// All about one server
    Details,
}

impl Screen {
    pub(super) const ALL: [Self; 6] = [
        Self::Connections,
        Self::Servers,
        Self::Routes,
        Self::Accounts,
        Self::Slow,
        Self::Details,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Connections => "Connections",
            Self::Servers => "Servers",
            Self::Routes => "Routes",
            Self::Accounts => "Accounts",
            Self::Slow => "Slow",
            Self::Details => "Details",
        }
    }

    /// For terminals with few columns.
    pub(super) fn short_title(self) -> &'static str {
        match self {
            Self::Connections => "Con",
            Self::Servers => "Srv",
            Self::Routes => "Rou",
            Self::Accounts => "Acc",
            Self::Slow => "Slow",
            Self::Details => "Det",
        }
    }

    /// What is said where there is no row.
    pub(super) fn nothing(self) -> &'static str {
        match self {
            Self::Connections => "Nobody is connected.",
            Self::Servers => "No server is known yet.",
            Self::Routes => "No server is connected to another one.",
            Self::Accounts => "No account has a connection.",
            Self::Slow => "No client is behind, and none was closed for it lately.",
            Self::Details => "Nothing is known yet.",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Connections => CONNECTIONS,
            Self::Servers => SERVERS,
            Self::Routes => ROUTES,
            Self::Accounts => ACCOUNTS,
            Self::Slow => SLOW,
            Self::Details => DETAILS,
        }
    }

    /// Its rows, in the order in which they are known.
    pub(super) fn rows(self, state: &State, now: Instant) -> Vec<Row> {
        match self {
            Self::Connections => connections(state),
            Self::Servers => servers(state, now),
            Self::Routes => routes(state, now),
            Self::Accounts => accounts(state),
            Self::Slow => slow(state),
            Self::Details => Vec::new(),
        }
    }
}

const fn column(
    key: &'static str,
    title: &'static str,
    kind: ColumnKind,
    width: usize,
    rank: u8,
) -> Column {
    Column {
        key,
        aliases: &[],
        title,
        kind,
        width,
        rank,
        server_sort: None,
    }
}

const fn also(column: Column, aliases: &'static [&'static str]) -> Column {
    Column { aliases, ..column }
}

const fn sorted_there(column: Column, server_sort: &'static str) -> Column {
    Column {
        server_sort: Some(server_sort),
        ..column
    }
}

use ColumnKind::{Extra, Id, Number, Rate, Text, Total, Words};

/// "In" is what the server received. nats-top calls that `msgs_from`.
const CONNECTIONS: &[Column] = &[
    sorted_there(column("cid", "CID", Id, 6, 3), "cid"),
    column("name", "NAME", Text, 12, 0),
    column("server", "SERVER", Extra, 8, 4),
    column("account", "ACCOUNT", Extra, 8, 5),
    column("user", "USER", Extra, 8, 8),
    sorted_there(
        also(column("subs", "SUBS", Number, 5, 4), &["subscriptions"]),
        "subs",
    ),
    sorted_there(
        also(
            column("pending", "PENDING", Number, 7, 3),
            &["pending_bytes"],
        ),
        "pending",
    ),
    sorted_there(column("in_msgs", "IN/s", Rate, 6, 1), "msgs_from"),
    sorted_there(column("out_msgs", "OUT/s", Rate, 6, 1), "msgs_to"),
    sorted_there(column("in_bytes", "IN B/s", Rate, 8, 6), "bytes_from"),
    sorted_there(column("out_bytes", "OUT B/s", Rate, 8, 6), "bytes_to"),
    sorted_there(
        also(column("total_in_msgs", "IN", Total, 6, 1), &["msgs_from"]),
        "msgs_from",
    ),
    sorted_there(
        also(column("total_out_msgs", "OUT", Total, 6, 1), &["msgs_to"]),
        "msgs_to",
    ),
    sorted_there(
        also(
            column("total_in_bytes", "IN B", Total, 8, 6),
            &["bytes_from"],
        ),
        "bytes_from",
    ),
    sorted_there(
        also(
            column("total_out_bytes", "OUT B", Total, 8, 6),
            &["bytes_to"],
        ),
        "bytes_to",
    ),
    sorted_there(column("rtt", "RTT", Number, 6, 5), "rtt"),
    sorted_there(
        also(column("uptime", "UP", Number, 6, 9), &["start"]),
        "uptime",
    ),
    sorted_there(
        also(column("idle", "IDLE", Number, 6, 9), &["last"]),
        "idle",
    ),
    also(
        column("client", "CLIENT", Extra, 12, 10),
        &["lang", "version"],
    ),
    also(column("address", "ADDRESS", Extra, 16, 10), &["ip", "host"]),
];

const SERVERS: &[Column] = &[
    column("name", "SERVER", Text, 10, 0),
    column("state", "STATE", Words, 12, 0),
    column("conns", "CONNS", Number, 5, 3),
    column("subs", "SUBS", Number, 5, 6),
    column("in_msgs", "IN/s", Rate, 6, 1),
    column("out_msgs", "OUT/s", Rate, 6, 1),
    column("in_bytes", "IN B/s", Rate, 8, 5),
    column("out_bytes", "OUT B/s", Rate, 8, 5),
    column("total_in_msgs", "IN", Total, 6, 1),
    column("total_out_msgs", "OUT", Total, 6, 1),
    column("total_in_bytes", "IN B", Total, 8, 5),
    column("total_out_bytes", "OUT B", Total, 8, 5),
    column("slow", "SLOW", Number, 4, 2),
    column("cpu", "CPU", Number, 6, 4),
    column("mem", "MEM", Number, 7, 4),
    column("peers", "PEERS", Number, 5, 7),
    column("cert", "CERT", Number, 5, 6),
    column("uptime", "UP", Number, 6, 7),
    column("version", "VERSION", Extra, 8, 8),
    column("address", "ADDRESS", Extra, 20, 9),
];

const ROUTES: &[Column] = &[
    column("from", "FROM", Text, 8, 0),
    column("to", "TO", Text, 8, 0),
    column("state", "STATE", Words, 9, 0),
    column("rtt", "RTT", Number, 6, 1),
    column("pending", "PENDING", Number, 8, 3),
    column("in_msgs", "IN/s", Rate, 6, 2),
    column("out_msgs", "OUT/s", Rate, 6, 2),
    column("in_bytes", "IN B/s", Rate, 8, 5),
    column("out_bytes", "OUT B/s", Rate, 8, 5),
    column("total_in_msgs", "IN", Total, 6, 2),
    column("total_out_msgs", "OUT", Total, 6, 2),
    column("total_in_bytes", "IN B", Total, 8, 5),
    column("total_out_bytes", "OUT B", Total, 8, 5),
    column("conns", "CONNS", Number, 5, 4),
    column("subs", "SUBS", Number, 5, 4),
    column("compression", "COMPRESSION", Extra, 11, 6),
];

const ACCOUNTS: &[Column] = &[
    column("account", "ACCOUNT", Text, 12, 0),
    column("conns", "CONNS", Number, 5, 2),
    column("subs", "SUBS", Number, 5, 3),
    column("in_msgs", "IN/s", Rate, 6, 1),
    column("out_msgs", "OUT/s", Rate, 6, 1),
    column("in_bytes", "IN B/s", Rate, 8, 4),
    column("out_bytes", "OUT B/s", Rate, 8, 4),
    column("total_in_msgs", "IN", Total, 6, 1),
    column("total_out_msgs", "OUT", Total, 6, 1),
    column("total_in_bytes", "IN B", Total, 8, 4),
    column("total_out_bytes", "OUT B", Total, 8, 4),
    column("slow", "SLOW", Number, 4, 2),
];

const SLOW: &[Column] = &[
    also(column("when", "WHEN", Number, 8, 1), &["stop"]),
    column("name", "NAME", Text, 10, 0),
    column("why", "WHY", Words, 14, 0),
    column("cid", "CID", Id, 6, 4),
    column("server", "SERVER", Extra, 8, 3),
    column("account", "ACCOUNT", Extra, 8, 5),
    column("pending", "PENDING", Number, 8, 2),
    column("out_msgs", "WAS SENT", Number, 8, 6),
    column("address", "ADDRESS", Extra, 16, 7),
];

const DETAILS: &[Column] = &[
    column("what", "WHAT", Words, 18, 0),
    column("value", "VALUE", Words, 18, 0),
];

fn connections(state: &State) -> Vec<Row> {
    let is_one_server = state.servers.len() < 2;
    let rows = state.connections().map(|view| {
        let connection = view.connection;
        let server = if is_one_server {
            ""
        } else {
            view.server.name()
        };
        let mut cells = vec![
            Cell::number(connection.cid as f64, connection.cid.to_string()),
            Cell::text(escaped(name_of(connection))),
            Cell::text(escaped(server)),
            Cell::text(escaped(&connection.account)),
            Cell::text(escaped(&connection.authorized_user)),
            count(connection.subscriptions),
            pending(connection.pending_bytes),
        ];
        cells.extend(rates(view.rates));
        cells.extend(totals(state::traffic_of_connection(connection)));
        cells.extend([
            round_trip(words::duration(&connection.rtt)),
            span(&connection.uptime),
            span(&connection.idle),
            Cell::text(escaped(
                format!("{} {}", connection.lang, connection.version).trim(),
            )),
            Cell::text(escaped(&address_of(connection))),
        ]);
        Row {
            id: connection_id(view.server, connection.cid),
            cells,
        }
    });
    rows.collect()
}

/// What tells a connection from all others.
pub(super) fn connection_id(server: &Server, cid: u64) -> String {
    format!("{} {cid}", server.address)
}

fn servers(state: &State, now: Instant) -> Vec<Row> {
    let known = state.servers.iter().map(|server| Row {
        id: server.address.clone(),
        cells: server_cells(server, now),
    });
    let unasked = state.unasked.iter().map(|(id, member)| {
        let mut cells = vec![
            Cell::text(escaped(&member.name)),
            Cell::text(escaped(&format!("not asked: {}", member.reason))).bad_if(true),
        ];
        let rest = SERVERS[cells.len()..].iter();
        cells.extend(rest.map(|column| {
            if column.kind.is_right_aligned() {
                Cell::unknown()
            } else {
                Cell::text("")
            }
        }));
        Row {
            id: id.clone(),
            cells,
        }
    });
    known.chain(unasked).collect()
}

fn server_cells(server: &Server, now: Instant) -> Vec<Cell> {
    let varz = server.varz();
    let number = |number: fn(&super::page::Varz) -> u64| {
        varz.map_or_else(Cell::unknown, |it| count(number(it)))
    };
    let mut cells = vec![
        Cell::text(escaped(server.name())),
        standing(server, now),
        number(|it| it.connections),
        number(|it| it.subscriptions),
    ];
    cells.extend(rates(server.rates));
    match varz {
        Some(varz) => cells.extend(totals(state::traffic_of_server(varz))),
        None => cells.extend(std::iter::repeat_n(Cell::unknown(), 4)),
    }
    cells.extend([
        varz.map_or_else(Cell::unknown, |it| slow_count(it.slow_consumers)),
        varz.map_or_else(Cell::unknown, |it| {
            Cell::number(it.cpu, format!("{:.1}%", it.cpu))
        }),
        varz.map_or_else(Cell::unknown, |it| bytes(it.mem)),
        number(|it| it.remotes),
        varz.map_or_else(Cell::unknown, |it| {
            let end = [it.tls_cert_not_after, it.cluster.tls_cert_not_after];
            certificate(end.into_iter().flatten().min(), it.now)
        }),
        varz.map_or_else(Cell::unknown, |it| span(&it.uptime)),
        Cell::text(escaped(&varz.map(product).unwrap_or_default())),
        Cell::text(escaped(&server.address)),
    ]);
    cells
}

/// Which program it is, and which version.
pub(super) fn product(varz: &super::page::Varz) -> String {
    // Where nats-server names its version of Go, ours names itself.
    if varz.go.starts_with("natterjack") {
        varz.go.clone()
    } else {
        varz.version.clone()
    }
}

fn standing(server: &Server, now: Instant) -> Cell {
    match &server.standing {
        Standing::Waiting => Cell::text("asked"),
        Standing::Answering => Cell::text("answers"),
        Standing::Failing { since, problem } => {
            let time = words::span(now.saturating_duration_since(*since));
            Cell::text(escaped(&format!("silent {time}: {problem}"))).bad_if(true)
        }
    }
}

fn routes(state: &State, now: Instant) -> Vec<Row> {
    let mut rows = Vec::new();
    for server in &state.servers {
        for (id, peer) in &server.peers {
            let link = match peer.lost {
                None => Cell::text("connected"),
                Some(since) => {
                    let time = words::span(now.saturating_duration_since(since));
                    Cell::text(format!("lost {time}")).bad_if(true)
                }
            };
            let mut cells = vec![
                Cell::text(escaped(server.name())),
                Cell::text(escaped(&peer.name)),
                link,
                round_trip(peer.round_trip.filter(|_| peer.lost.is_none())),
                pending(peer.pending_bytes),
            ];
            cells.extend(rates(peer.rates));
            cells.extend(totals(peer.traffic));
            cells.extend([
                count(peer.connections),
                count(peer.subscriptions),
                Cell::text(escaped(&peer.compression)),
            ]);
            rows.push(Row {
                id: format!("{} {id}", server.address),
                cells,
            });
        }
    }
    rows
}

fn accounts(state: &State) -> Vec<Row> {
    let rows = state.accounts().into_iter().map(|account| {
        let mut cells = vec![
            Cell::text(escaped(&account.name)),
            count(account.connections),
            count(account.subscriptions),
        ];
        cells.extend(rates(account.rates));
        cells.extend(totals(account.traffic));
        cells.push(slow_count(account.slow_consumers));
        Row {
            id: account.name,
            cells,
        }
    });
    rows.collect()
}

fn slow(state: &State) -> Vec<Row> {
    let is_one_server = state.servers.len() < 2;
    let rows = state.slow().into_iter().map(|view| {
        let connection = view.connection;
        let when = if view.is_open {
            // Behind now comes before all that was.
            Cell::number(f64::INFINITY, "now").bad_if(true)
        } else {
            let now = view.server.varz().and_then(|varz| varz.now);
            match (connection.stop, now) {
                (Some(stop), Some(now)) => Cell::number(
                    stop.as_millisecond() as f64,
                    format!("{} ago", words::span(words::between(stop, now))),
                ),
                _ => Cell::unknown(),
            }
        };
        let why = match connection.reason.as_str() {
            "" => "behind",
            reason => reason
                .strip_prefix("Slow Consumer (")
                .and_then(|reason| reason.strip_suffix(')'))
                .unwrap_or(reason),
        };
        let server = if is_one_server {
            ""
        } else {
            view.server.name()
        };
        Row {
            id: connection_id(view.server, connection.cid),
            cells: vec![
                when,
                Cell::text(escaped(name_of(connection))),
                Cell::text(escaped(why)),
                Cell::number(connection.cid as f64, connection.cid.to_string()),
                Cell::text(escaped(server)),
                Cell::text(escaped(&connection.account)),
                pending(connection.pending_bytes),
                count(connection.out_msgs),
                Cell::text(escaped(&address_of(connection))),
            ],
        }
    });
    rows.collect()
}

/// All about one server, each line what it is and its value; lines without a value are titles.
pub(super) fn details(server: &Server, now: Instant) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut say = |what: &str, value: String| {
        if !value.is_empty() {
            lines.push((what.to_owned(), escaped(&value)));
        }
    };
    say("Server", server.name().to_owned());
    say("State", standing(server, now).text);
    say("Asked at", server.address.clone());
    let Some(sample) = &server.sample else {
        return lines;
    };
    let varz = &sample.varz;
    say("Id", varz.server_id.clone());
    let is_ours = product(varz) == varz.go;
    say(
        "Program",
        if is_ours {
            format!("{}, as nats-server {}", varz.go, varz.version)
        } else {
            format!("nats-server {}, {}", varz.version, varz.go)
        },
    );
    if !varz.host.is_empty() {
        say("Clients at", format!("{}:{}", varz.host, varz.port));
    }
    say("Cluster", varz.cluster.name.clone());
    say("Up", varz.uptime.clone());
    // Nobody needs fractions of a second.
    let moment = |it: Option<Timestamp>| it.map(|it| format!("{it:.0}")).unwrap_or_default();
    say("Started", moment(varz.start));
    say("Configured", moment(varz.config_load_time));
    let ends = |end: Option<Timestamp>| match (end, varz.now) {
        (Some(end), Some(now)) => format!("until {end:.0}, {}", words::left(end, now)),
        _ => String::new(),
    };
    say("Client certificate", ends(varz.tls_cert_not_after));
    say("Route certificate", ends(varz.cluster.tls_cert_not_after));
    say(
        "JetStream",
        match &varz.jetstream.stats {
            None => "none".into(),
            Some(stats) => format!(
                "{} in memory, {} stored, {} accounts",
                words::bytes(stats.memory as f64),
                words::bytes(stats.storage as f64),
                stats.accounts
            ),
        },
    );
    say(
        "Processors",
        format!("{}, {:.1} % of one in use", varz.cores, varz.cpu),
    );
    say("Memory", words::bytes(varz.mem as f64));
    say(
        "Connections",
        format!(
            "{} of at most {}, {} ever",
            words::exact(varz.connections),
            words::exact(varz.max_connections),
            words::exact(varz.total_connections)
        ),
    );
    say("Subscriptions", words::exact(varz.subscriptions));
    say(
        "Messages in",
        format!(
            "{}, {}",
            words::exact(varz.in_msgs),
            words::bytes(varz.in_bytes as f64)
        ),
    );
    say(
        "Messages out",
        format!(
            "{}, {}",
            words::exact(varz.out_msgs),
            words::bytes(varz.out_bytes as f64)
        ),
    );
    say("Largest message", words::bytes(varz.max_payload as f64));
    if varz.max_pending > 0 {
        say("May be behind by", words::bytes(varz.max_pending as f64));
    }
    say(
        "Slow consumers",
        match varz.slow_consumer_stats {
            Some(kinds) => format!(
                "{}: {} clients, {} routes, {} gateways, {} leaf nodes",
                words::exact(varz.slow_consumers),
                kinds.clients,
                kinds.routes,
                kinds.gateways,
                kinds.leafs
            ),
            None => words::exact(varz.slow_consumers),
        },
    );
    if let Some(stale) = varz.stale_connections {
        say("Stale connections", words::exact(stale));
    }
    say(
        "Peers",
        format!("{} by {} connections", varz.remotes, varz.routes),
    );
    if varz.leafnodes > 0 {
        say("Leaf nodes", words::exact(varz.leafnodes));
    }
    say("System account", varz.system_account.clone());
    if let Some(bus) = &sample.bus {
        flatten("Bus", bus, &mut say);
    }
    lines
}

/// Every value in this, with the way to it. The depth is that of JSON, which its reader bounds.
fn flatten(path: &str, value: &serde_json::Value, say: &mut impl FnMut(&str, String)) {
    use serde_json::Value;
    let below = |name: &str| format!("{path} {}", name.replace('_', " "));
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&below(name), value, say);
            }
        }
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                flatten(&below(&(at + 1).to_string()), value, say);
            }
        }
        Value::Null => say(path, "–".into()),
        Value::String(text) => say(path, text.clone()),
        value => say(path, value.to_string()),
    }
}

/// Whether the node of the event bus in a server's process is well, if there is one.
pub(super) fn bus_is_well(server: &Server) -> Option<bool> {
    let health = server.sample.as_ref()?.bus.as_ref()?.get("health")?;
    let is = |name: &str| health.get(name).and_then(serde_json::Value::as_bool);
    Some(is("is_healthy")? && is("is_ready").unwrap_or(true))
}

fn name_of(connection: &Connection) -> &str {
    if !connection.name.is_empty() {
        &connection.name
    } else if !connection.kind.is_empty() && connection.kind != "Client" {
        &connection.kind
    } else {
        ""
    }
}

fn address_of(connection: &Connection) -> String {
    match (&*connection.ip, connection.port) {
        ("", _) => String::new(),
        (ip, port) if ip.contains(':') => format!("[{ip}]:{port}"),
        (ip, port) => format!("{ip}:{port}"),
    }
}

fn count(number: u64) -> Cell {
    Cell::number(number as f64, words::count(number as f64))
}

fn slow_count(number: u64) -> Cell {
    count(number).bad_if(number > 0)
}

fn bytes(number: u64) -> Cell {
    Cell::number(number as f64, words::bytes(number as f64))
}

fn pending(number: u64) -> Cell {
    bytes(number).bad_if(number >= PENDING_BYTES_MANY)
}

fn rates(rates: Option<Rates>) -> [Cell; 4] {
    let Some(rates) = rates else {
        return std::array::from_fn(|_| Cell::unknown());
    };
    let count = |rate: f64| Cell::number(rate, words::count(rate));
    let bytes = |rate: f64| Cell::number(rate, words::bytes(rate));
    [
        count(rates.in_msgs),
        count(rates.out_msgs),
        bytes(rates.in_bytes),
        bytes(rates.out_bytes),
    ]
}

fn totals(traffic: Traffic) -> [Cell; 4] {
    [
        count(traffic.in_msgs),
        count(traffic.out_msgs),
        bytes(traffic.in_bytes),
        bytes(traffic.out_bytes),
    ]
}

fn round_trip(time: Option<Duration>) -> Cell {
    match time {
        Some(time) => Cell::number(time.as_secs_f64(), words::round_trip(Some(time))),
        None => Cell::unknown(),
    }
}

fn span(text: &str) -> Cell {
    // Nothing at all is a duration of 0, and shown as such.
    let time = words::duration(text).unwrap_or_default();
    Cell::number(time.as_secs_f64(), words::span(time))
}

fn certificate(end: Option<Timestamp>, now: Option<Timestamp>) -> Cell {
    let (Some(end), Some(now)) = (end, now) else {
        return Cell::number(f64::NEG_INFINITY, "–");
    };
    let left = words::between(now, end);
    Cell::number(left.as_secs_f64(), words::left(end, now)).bad_if(is_ending(left))
}

/// Whether a certificate with so much time left should be renewed.
pub(super) fn is_ending(left: Duration) -> bool {
    left < Duration::from_secs(CERTIFICATE_DAYS_FEW * 86_400)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::state::Unasked;
    use super::super::state::tests::{begin, sample};
    use super::super::table::{Figures, plain};
    use super::*;

    const A: &str = "http://a:8222";

    fn known() -> State {
        let mut state = State::new([A.to_owned()]);
        let pages = json!({
            "varz": {
                "server_id": "A", "server_name": "a\u{1b}[2J", "version": "2.15.1", "go": "go1.24",
                "connections": 1, "cpu": 12.34, "mem": 34_000_000, "slow_consumers": 2, "uptime": "1m2s",
                "tls_cert_not_after": "2026-11-25T10:00:00Z",
            },
            "connz": {"total": 1, "connections": [{
                "cid": 7, "name": "<script>\n", "ip": "::1", "port": 4, "rtt": "361µs", "uptime": "1h2m3s",
                "idle": "0s", "lang": "rust", "version": "0.51", "account": "X", "subscriptions": 1234,
                "in_msgs": 5, "pending_bytes": 2_000_000,
            }]},
            "routez": {"routes": [{"remote_id": "B", "remote_name": "b", "rtt": "1ms"}]},
            "accstatz": {"account_statz": [{"acc": "X", "conns": 1, "slow_consumers": 1}]},
            "closed": {"connections": [{
                "cid": 4, "name": "late", "reason": "Slow Consumer (Write Deadline)",
                "stop": "2026-11-22T09:59:50Z", "ip": "127.0.0.1", "port": 5,
            }]},
            "bus": {"health": {"is_healthy": true, "is_ready": true}, "events": {"published_events": 3}},
        });
        state.hear(A, begin(), Ok(sample(0, &pages)));
        state
    }

    #[track_caller]
    fn check(screen: Screen, figures: Figures, expected: &str) {
        let rows = screen.rows(&known(), begin());
        for row in &rows {
            assert_eq!(row.cells.len(), screen.columns().len());
        }
        assert_eq!(plain(screen.columns(), &rows, figures), expected);
    }

    #[test]
    fn connections() {
        check(
            Screen::Connections,
            Figures::Rates,
            "CID  NAME        ACCOUNT   SUBS  PENDING  IN/s  OUT/s  IN B/s  OUT B/s    RTT    UP  IDLE  CLIENT     ADDRESS\n\
             \x20 7  <script>\\n  X        1.23k  1.91MiB     –      –       –        –  361µs  1h2m    0s  rust 0.51  [::1]:4\n",
        );
    }

    #[test]
    fn servers() {
        let mut state = known();
        let lost = Unasked {
            name: "c".into(),
            reason: "refused".into(),
        };
        state.unasked.insert("C".into(), lost);
        let rows = Screen::Servers.rows(&state, begin());
        let text = plain(Screen::Servers.columns(), &rows, Figures::Totals);
        assert_eq!(
            text,
            "SERVER      STATE               CONNS  SUBS  IN  OUT  IN B  OUT B  SLOW    CPU      MEM  PEERS  CERT    UP  VERSION  ADDRESS\n\
             a\\u{1b}[2J  answers                 1     0   0    0    0B     0B     2  12.3%  32.4MiB      0    3d  1m2s  2.15.1   http://a:8222\n\
             c           not asked: refused      –     –   –    –     –      –     –      –        –      –     –     –\n",
        );
        assert!(rows[0].cells[16].is_bad, "a certificate that ends soon");
    }

    #[test]
    fn routes_and_accounts() {
        check(
            Screen::Routes,
            Figures::Totals,
            "FROM        TO  STATE         RTT  PENDING  IN  OUT  IN B  OUT B  CONNS  SUBS\n\
             a\\u{1b}[2J  b   connected  1.00ms       0B   0    0    0B     0B      1     0\n",
        );
        check(
            Screen::Accounts,
            Figures::Rates,
            "ACCOUNT  CONNS  SUBS  IN/s  OUT/s  IN B/s  OUT B/s  SLOW\n\
             X            1     0     –      –       –        –     1\n",
        );
    }

    #[test]
    fn slow_consumers() {
        check(
            Screen::Slow,
            Figures::Rates,
            "   WHEN  NAME        WHY             CID  ACCOUNT  PENDING  WAS SENT  ADDRESS\n\
             \x20   now  <script>\\n  behind            7  X        1.91MiB         0  [::1]:4\n\
             10s ago  late        Write Deadline    4                0B         0  127.0.0.1:5\n",
        );
    }

    #[test]
    fn details_of_one() {
        let state = known();
        let lines = details(&state.servers[0], begin());
        let value = |what: &str| {
            let line = lines.iter().find(|(key, _)| key == what);
            line.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("Program"), Some("nats-server 2.15.1, go1.24"));
        assert_eq!(value("JetStream"), Some("none"));
        assert_eq!(
            value("Client certificate"),
            Some("until 2026-11-25T10:00:00Z, 3d")
        );
        assert_eq!(value("Bus health is healthy"), Some("true"));
        assert_eq!(value("Bus events published events"), Some("3"));
        assert_eq!(bus_is_well(&state.servers[0]), Some(true));
        assert!(lines.iter().all(|(_, value)| !value.contains('\u{1b}')));
    }

    #[test]
    fn every_name_of_a_column_is_one_columns_alone() {
        for screen in Screen::ALL {
            let columns = screen.columns();
            let names: Vec<_> = columns
                .iter()
                .flat_map(|column| column.aliases.iter().chain([&column.key]))
                .collect();
            for name in &names {
                let count = names.iter().filter(|other| other == &name).count();
                assert_eq!(count, 1, "{name}");
            }
        }
    }
}
