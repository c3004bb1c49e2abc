//! `/connz`: connections, open and closed; which of them, in which order, in how much detail.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::time::Duration;

use natterjack_engine::{
    ConnectionSnapshot, Engine, GLOBAL_ACCOUNT, PeerCertificate, SubscriptionFilter,
};
use natterjack_subject::overlaps;
use serde::Serialize;
use thiserror::Error;

use super::facts::ServerFacts;
use super::format::{RoundTrip, Time, Uptime, is_default};
use super::subsz::SubscriptionDetail;

/// Entries of a page if nothing else is said.
pub(super) const LIMIT_DEFAULT: usize = 1024;

/// Which connections are wanted, and what of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnzOptions {
    /// Their order.
    pub sort: ConnzSort,
    /// Whether to show user, account and certificates.
    pub auth: bool,
    /// What to show of their subscriptions.
    pub subscriptions: Subscriptions,
    /// Connections to leave out at the beginning.
    pub offset: usize,
    /// The most to show; 0 for 1024.
    pub limit: usize,
    /// Only the connection with this number.
    pub cid: Option<u64>,
    /// Open ones or closed ones.
    pub state: ConnectionState,
    /// Only those of this user.
    pub user: Option<String>,
    /// Only those in this account.
    pub account: Option<String>,
    /// Only those with a subscription that has subjects in common with this one; goes with `account`.
    pub filter_subject: Option<String>,
    /// Only that of this MQTT client. There are none.
    pub mqtt_client: Option<String>,
}

/// The order of connections. Figures are sorted from the highest to the lowest, except for `Cid`, `Start`,
/// `Uptime` and `Reason`; those with equal ones by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnzSort {
    /// By number.
    #[default]
    Cid,
    /// By when they were accepted.
    Start,
    /// By subscriptions.
    Subscriptions,
    /// By bytes that wait to be written.
    Pending,
    /// By messages delivered to them.
    MessagesTo,
    /// By messages they published.
    MessagesFrom,
    /// By bytes delivered to them.
    BytesTo,
    /// By bytes they published.
    BytesFrom,
    /// By when they were last active.
    Last,
    /// By how long they have not been active.
    Idle,
    /// By how long they have been, or were, connected.
    Uptime,
    /// By when they ended; for closed ones.
    Stop,
    /// By why they ended; for closed ones.
    Reason,
    /// By round-trip time.
    RoundTrip,
}

/// What is shown of a connection's subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subscriptions {
    /// Their number.
    #[default]
    Count,
    /// Their subjects too.
    Subjects,
    /// Everything.
    Detail,
}

/// Which connections there are to choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionState {
    /// Open ones.
    #[default]
    Open,
    /// Those closed last, see [`max_closed_clients`](crate::Options::max_closed_clients).
    Closed,
    /// Both.
    All,
}

/// Options that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnzError {
    /// Open connections have no end to sort by.
    #[error("sort by stop only valid on closed connections")]
    StopOfOpen,
    /// Open connections have no reason to sort by.
    #[error("sort by reason only valid on closed connections")]
    ReasonOfOpen,
    /// Subjects belong to an account.
    #[error("filter by subject only valid with account filtering")]
    SubjectOfNoAccount,
}

/// No order of connections.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid sorting option: {0}")]
pub struct UnknownSort(String);

/// No state of connections.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Error decoding state for {0}")]
pub struct UnknownState(String);

impl FromStr for ConnzSort {
    type Err = UnknownSort;

    fn from_str(text: &str) -> Result<Self, UnknownSort> {
        Ok(match text {
            "" | "cid" => Self::Cid,
            "start" => Self::Start,
            "subs" => Self::Subscriptions,
            "pending" => Self::Pending,
            "msgs_to" => Self::MessagesTo,
            "msgs_from" => Self::MessagesFrom,
            "bytes_to" => Self::BytesTo,
            "bytes_from" => Self::BytesFrom,
            "last" => Self::Last,
            "idle" => Self::Idle,
            "uptime" => Self::Uptime,
            "stop" => Self::Stop,
            "reason" => Self::Reason,
            "rtt" => Self::RoundTrip,
            unknown => return Err(UnknownSort(unknown.to_owned())),
        })
    }
}

impl FromStr for ConnectionState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        match text.to_lowercase().as_str() {
            "" | "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            "any" | "all" => Ok(Self::All),
            _ => Err(UnknownState(text.to_owned())),
        }
    }
}

/// A page of connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Connz {
    /// The server's id.
    pub server_id: String,
    /// When this was written.
    pub now: Time,
    /// Connections on this page.
    pub num_connections: usize,
    /// Connections there are in the account and state asked for.
    pub total: usize,
    /// Connections left out at the beginning.
    pub offset: usize,
    /// The most this page could have.
    pub limit: usize,
    /// The connections.
    pub connections: Vec<ConnectionInfo>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number.
    pub cid: u64,
    /// `Client`.
    pub kind: &'static str,
    /// `nats`.
    #[serde(rename = "type")]
    pub protocol: &'static str,
    /// Address it comes from; empty within the process.
    pub ip: String,
    /// Port it comes from; 0 within the process.
    pub port: u16,
    /// When it was accepted.
    pub start: Time,
    /// When it was last active.
    pub last_activity: Time,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Time>,
    /// Why it ended.
    #[serde(skip_serializing_if = "is_default")]
    pub reason: &'static str,
    /// How long its last answer to a PING took.
    pub rtt: RoundTrip,
    /// How long it has been, or was, connected.
    pub uptime: Uptime,
    /// How long it has not been, or was not, active.
    pub idle: Uptime,
    /// Bytes that wait to be written to it.
    pub pending_bytes: usize,
    /// Messages it published.
    pub in_msgs: u64,
    /// Messages delivered to it.
    pub out_msgs: u64,
    /// Bytes it published.
    pub in_bytes: u64,
    /// Bytes delivered to it.
    pub out_bytes: u64,
    /// Times a producer was held back for it.
    #[serde(skip_serializing_if = "is_default")]
    pub stalls: u64,
    /// Subscriptions it has.
    pub subscriptions: usize,
    /// Name it gave itself.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Its library's language.
    #[serde(skip_serializing_if = "is_default")]
    pub lang: String,
    /// Its library's version.
    #[serde(skip_serializing_if = "is_default")]
    pub version: String,
    /// Version of TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_version: String,
    /// Cipher suite of TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_cipher_suite: String,
    /// Its certificates; with `auth`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls_peer_certs: Vec<PeerCertificateInfo>,
    /// Whether its handshake came before INFO.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_first: bool,
    /// Its user; with `auth`.
    #[serde(skip_serializing_if = "is_default")]
    pub authorized_user: String,
    /// Its account, if that is not the global one; with `auth`.
    #[serde(skip_serializing_if = "is_default")]
    pub account: String,
    /// Subjects of its subscriptions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions_list: Vec<String>,
    /// Its subscriptions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions_list_detail: Vec<SubscriptionDetail>,
    /// Its account's name; with `auth`.
    #[serde(skip_serializing_if = "is_default")]
    pub name_tag: String,
}

/// A certificate that a peer showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerCertificateInfo {
    /// Whose it is.
    #[serde(skip_serializing_if = "is_default")]
    pub subject: String,
    /// SHA-256 of its public key information, in hexadecimal.
    #[serde(skip_serializing_if = "is_default")]
    pub spki_sha256: String,
    /// SHA-256 of all of it, in hexadecimal.
    #[serde(skip_serializing_if = "is_default")]
    pub cert_sha256: String,
}

/// Takes what it shows from the engine in pieces; linear in the connections there are, and with subscriptions also
/// in those there are in the accounts asked for.
pub(crate) fn connz(
    facts: &ServerFacts,
    engine: &Engine,
    options: &ConnzOptions,
) -> Result<Connz, ConnzError> {
    match options.sort {
        ConnzSort::Stop if options.state != ConnectionState::Closed => {
            return Err(ConnzError::StopOfOpen);
        }
        ConnzSort::Reason if options.state != ConnectionState::Closed => {
            return Err(ConnzError::ReasonOfOpen);
        }
        _ => {}
    }
    if options.filter_subject.is_some() && options.account.is_none() {
        return Err(ConnzError::SubjectOfNoAccount);
    }
    let (total, mut chosen) = choose(engine, options);
    if let Some(subject) = &options.filter_subject {
        let holders = holders(engine, options.account.as_deref(), subject);
        // Closed ones stay whatever they were subscribed to, as on nats-server.
        chosen.retain(|connection| connection.stop.is_some() || holders.contains(&connection.id));
    }
    sort(&mut chosen, options.sort, facts);
    let limit = match (options.cid, options.limit) {
        (Some(_), _) => 1,
        (None, 0) => LIMIT_DEFAULT,
        (None, limit) => limit,
    };
    chosen.truncate(options.offset.saturating_add(limit));
    chosen.drain(..options.offset.min(chosen.len()));
    let mut subscriptions = match options.subscriptions {
        Subscriptions::Count => HashMap::new(),
        Subscriptions::Subjects | Subscriptions::Detail => held_by(engine, &chosen),
    };
    let connections: Vec<_> = chosen
        .iter()
        .map(|connection| {
            let held = subscriptions.remove(&connection.id).unwrap_or_default();
            info(facts, connection, options, held)
        })
        .collect();
    Ok(Connz {
        server_id: facts.info.server_id.clone(),
        now: facts.time_of(facts.now),
        num_connections: connections.len(),
        total,
        offset: options.offset,
        limit,
        connections,
    })
}

/// How many there are in the account and state asked for, and those of them that every other filter lets through.
fn choose(engine: &Engine, options: &ConnzOptions) -> (usize, Vec<ConnectionSnapshot>) {
    let mut total = 0;
    let mut chosen = Vec::new();
    let mut add = |connection: ConnectionSnapshot| {
        if is_in_account(&connection, options) {
            total += 1;
            if is_wanted(&connection, options) {
                chosen.push(connection);
            }
        }
    };
    if options.state != ConnectionState::Closed {
        engine.connection_snapshots().for_each(&mut add);
    }
    if options.state != ConnectionState::Open {
        engine
            .closed_connection_snapshots()
            .into_iter()
            .for_each(&mut add);
    }
    (total, chosen)
}

fn is_in_account(connection: &ConnectionSnapshot, options: &ConnzOptions) -> bool {
    options
        .account
        .as_ref()
        .is_none_or(|account| **account == *connection.client.account)
}

fn is_wanted(connection: &ConnectionSnapshot, options: &ConnzOptions) -> bool {
    let user = connection.client.user.as_deref();
    let is_of_user = options
        .user
        .as_deref()
        .is_none_or(|wanted| user == Some(wanted));
    options.mqtt_client.is_none()
        && is_of_user
        && options.cid.is_none_or(|wanted| wanted == connection.id)
}

fn sort(connections: &mut [ConnectionSnapshot], sort: ConnzSort, facts: &ServerFacts) {
    connections.sort_unstable_by_key(|connection| connection.id);
    match sort {
        ConnzSort::Cid | ConnzSort::Start => {}
        ConnzSort::Subscriptions => connections.sort_by_key(|c| Reverse(c.subscriptions)),
        ConnzSort::Pending => connections.sort_by_key(|c| Reverse(c.pending_bytes)),
        ConnzSort::MessagesTo => connections.sort_by_key(|c| Reverse(c.messages_out)),
        ConnzSort::MessagesFrom => connections.sort_by_key(|c| Reverse(c.messages_in)),
        ConnzSort::BytesTo => connections.sort_by_key(|c| Reverse(c.bytes_out)),
        ConnzSort::BytesFrom => connections.sort_by_key(|c| Reverse(c.bytes_in)),
        ConnzSort::Last => connections.sort_by_key(|c| Reverse(c.last_activity)),
        ConnzSort::Idle => connections.sort_by_key(|c| c.last_activity),
        ConnzSort::Uptime => connections.sort_by_key(|c| {
            let end = c.stop.map_or(facts.now, |stop| stop.at);
            end.saturating_duration_since(c.started)
        }),
        ConnzSort::Stop => connections.sort_by_key(|c| Reverse(c.stop.map(|stop| stop.at))),
        ConnzSort::Reason => connections.sort_by_key(|c| c.stop.map(|stop| stop.reason.text())),
        ConnzSort::RoundTrip => connections.sort_by_key(|c| Reverse(c.round_trip)),
    }
}

/// Numbers of the connections with a subscription that has subjects in common with this one.
fn holders(engine: &Engine, account: Option<&str>, subject: &str) -> HashSet<u64> {
    let mut holders = HashSet::new();
    let filter = SubscriptionFilter {
        account,
        ..SubscriptionFilter::default()
    };
    engine.for_each_subscription(filter, |held| {
        if overlaps(held.subject, subject.as_bytes()) {
            holders.insert(held.connection);
        }
    });
    holders
}

fn held_by(
    engine: &Engine,
    connections: &[ConnectionSnapshot],
) -> HashMap<u64, Vec<SubscriptionDetail>> {
    let with_some = connections
        .iter()
        .filter(|connection| connection.stop.is_none() && connection.subscriptions > 0);
    let wanted: HashSet<u64> = with_some.map(|connection| connection.id).collect();
    let mut held: HashMap<u64, Vec<SubscriptionDetail>> = HashMap::new();
    if !wanted.is_empty() {
        let filter = SubscriptionFilter {
            connections: Some(&wanted),
            ..SubscriptionFilter::default()
        };
        engine.for_each_subscription(filter, |subscription| {
            let details = held.entry(subscription.connection).or_default();
            details.push(SubscriptionDetail::of(subscription));
        });
    }
    for connection in connections {
        for ended in connection.ended_subscriptions() {
            let details = held.entry(connection.id).or_default();
            details.push(SubscriptionDetail::with_account(&ended));
        }
    }
    for details in held.values_mut() {
        // Most clients count their ids up, so this is mostly the order they subscribed in.
        details
            .sort_by(|left, right| (left.sid.len(), &left.sid).cmp(&(right.sid.len(), &right.sid)));
    }
    held
}

fn info(
    facts: &ServerFacts,
    connection: &ConnectionSnapshot,
    options: &ConnzOptions,
    held: Vec<SubscriptionDetail>,
) -> ConnectionInfo {
    let client = &connection.client;
    let tls = client.tls.as_deref();
    let end = connection.stop.map_or(facts.now, |stop| stop.at);
    let since = |start| Uptime(end.saturating_duration_since(start));
    let is_global = *client.account == *GLOBAL_ACCOUNT;
    let if_auth = |text: &str, is_shown: bool| {
        if options.auth && is_shown {
            text.to_owned()
        } else {
            String::new()
        }
    };
    let (subjects, details) = match options.subscriptions {
        Subscriptions::Detail => (Vec::new(), held),
        Subscriptions::Subjects => (
            held.into_iter().map(|one| one.subject).collect(),
            Vec::new(),
        ),
        Subscriptions::Count => (Vec::new(), Vec::new()),
    };
    ConnectionInfo {
        cid: connection.id,
        kind: "Client",
        protocol: "nats",
        ip: connection
            .address
            .map(|address| address.ip().to_canonical().to_string())
            .unwrap_or_default(),
        port: connection.address.map_or(0, |address| address.port()),
        start: facts.time_of(connection.started),
        last_activity: facts.time_of(connection.last_activity),
        stop: connection.stop.map(|stop| facts.time_of(stop.at)),
        reason: connection.stop.map_or("", |stop| stop.reason.text()),
        rtt: RoundTrip(round_trip(connection.round_trip.unwrap_or_default())),
        uptime: since(connection.started),
        idle: since(connection.last_activity),
        pending_bytes: connection.pending_bytes,
        in_msgs: connection.messages_in,
        out_msgs: connection.messages_out,
        in_bytes: connection.bytes_in,
        out_bytes: connection.bytes_out,
        stalls: connection.stalls,
        subscriptions: connection.subscriptions,
        name: client.name.to_string(),
        lang: client.language.to_string(),
        version: client.version.to_string(),
        tls_version: tls.map(|tls| tls.version.clone()).unwrap_or_default(),
        tls_cipher_suite: tls.map(|tls| tls.cipher_suite.clone()).unwrap_or_default(),
        tls_peer_certs: tls
            .filter(|_| options.auth)
            .map(|tls| tls.peer_certificates.iter().map(certificate).collect())
            .unwrap_or_default(),
        tls_first: tls.is_some_and(|tls| tls.is_first),
        authorized_user: if_auth(client.user.as_deref().unwrap_or_default(), true),
        account: if_auth(&client.account, !is_global),
        subscriptions_list: subjects,
        subscriptions_list_detail: details,
        // nats-server forgets the global account's tag when a connection ends.
        name_tag: if_auth(&client.account, connection.stop.is_none() || !is_global),
    }
}

/// Whole microseconds between one and a thousand, as nats-server shows it.
pub(super) fn round_trip(time: Duration) -> Duration {
    match time.as_nanos() {
        1_001..1_000_000 => Duration::from_micros(time.as_micros() as u64),
        _ => time,
    }
}

fn certificate(certificate: &PeerCertificate) -> PeerCertificateInfo {
    PeerCertificateInfo {
        subject: certificate.subject.clone(),
        spki_sha256: certificate.public_key_sha256.clone(),
        cert_sha256: certificate.sha256.clone(),
    }
}
