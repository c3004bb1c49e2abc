//! What events and answers look like: plain data with nats-server's names, in its order (monitoring reference, section 5).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use natterjack_engine::access::{Access, Permissions, SubjectRules, User};
use natterjack_engine::{
    ConnectionSnapshot, LatencyOutcome, LatencyReport, Measure, RemoteMeasure, RouteSnapshot,
    Totals,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::monitoring::{AccountStats, KindCounts, Time};

/// Who the server is; the same in all that it says, until a reload.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) host: String,
    pub(super) id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) cluster: String,
    pub(super) ver: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) jetstream: bool,
    pub(super) flags: u64,
}

/// Who says something, and when.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ServerObject {
    #[serde(flatten)]
    pub(super) identity: SharedIdentity,
    /// Counted through all that this server says.
    pub(super) seq: u64,
    pub(super) time: Time,
}

/// An [`Identity`] that many messages refer to.
#[derive(Clone, Debug)]
pub(super) struct SharedIdentity(pub(super) Arc<Identity>);

impl Serialize for SharedIdentity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// What an event begins with.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Typed {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) timestamp: Time,
}

pub(super) const CLIENT_CONNECT: &str = "io.nats.server.advisory.v1.client_connect";
pub(super) const CLIENT_DISCONNECT: &str = "io.nats.server.advisory.v1.client_disconnect";
pub(super) const ACCOUNT_CONNECTIONS: &str = "io.nats.server.advisory.v1.account_connections";

pub(super) const SERVICE_LATENCY: &str = "io.nats.server.metric.v1.service_latency";

/// How long a service took to answer. Durations are in nanoseconds.
#[derive(Serialize)]
pub(super) struct LatencyMetric<'a> {
    #[serde(flatten)]
    typed: Typed,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
    requestor: PartyObject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    responder: Option<Responder<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    header: BTreeMap<&'a str, &'a [String]>,
    start: Time,
    service: u64,
    system: u64,
    total: u64,
}

/// Who answered.
#[derive(Serialize)]
#[serde(untagged)]
enum Responder<'a> {
    Here(PartyObject<'a>),
    /// In another server's words.
    Elsewhere(Box<RawValue>),
}

impl<'a> LatencyMetric<'a> {
    pub(super) fn new(
        typed: Typed,
        report: &'a LatencyReport,
        server: &'a Identity,
        time_of: impl Fn(Instant) -> Time,
    ) -> Self {
        let (status, description) = match &report.outcome {
            LatencyOutcome::Answered { .. } | LatencyOutcome::AnsweredElsewhere { .. } => (200, ""),
            LatencyOutcome::BadRequest => (400, "Bad Request"),
            LatencyOutcome::Abandoned => (408, "Request Timeout"),
            LatencyOutcome::TimedOut => (504, "Service Timeout"),
            _ => (503, "Service Unavailable"),
        };
        // As the original estimates it: the request was sent that much earlier, and what the responder's answer took on
        // its way is not the service's. What neither of two servers accounts for is that of the way between them.
        let (responder, after, service, system) = match &report.outcome {
            LatencyOutcome::Answered { responder, after } => {
                let round_trip = responder.as_ref().and_then(|client| client.round_trip);
                let service = after.saturating_sub(round_trip.unwrap_or_default());
                let responder = responder.as_ref();
                let responder = responder.map(|client| {
                    Responder::Here(PartyObject::new(client, true, server, &time_of))
                });
                (responder, *after, service, Duration::ZERO)
            }
            LatencyOutcome::AnsweredElsewhere { measure, after } => {
                let responder = measure.responder.clone().map(RawValue::from_string);
                let responder = responder.and_then(Result::ok).map(Responder::Elsewhere);
                let known = measure.service.saturating_add(measure.round_trip);
                (
                    responder,
                    *after,
                    measure.service,
                    after.saturating_sub(known),
                )
            }
            _ => (None, Duration::ZERO, Duration::ZERO, Duration::ZERO),
        };
        let is_answered = status == 200;
        let requestor_rtt = report.requestor.round_trip.unwrap_or_default();
        let total = if is_answered {
            requestor_rtt + after
        } else {
            Duration::ZERO
        };
        let headers = report.headers.iter();
        Self {
            typed,
            status,
            description,
            requestor: PartyObject::new(&report.requestor, report.is_shared, server, &time_of),
            responder,
            header: headers
                .map(|(name, values)| (name.as_str(), &values[..]))
                .collect(),
            start: time_of(
                report
                    .requested
                    .checked_sub(requestor_rtt)
                    .unwrap_or(report.requested),
            ),
            service: nanoseconds(service),
            system: nanoseconds(system),
            total: nanoseconds(total),
        }
    }
}

/// What a server tells the one of who asked of how long a client of its own took to answer (nats-server
/// `remoteLatency`). It has the form of a report, of which the other server uses a part.
#[derive(Serialize)]
pub(super) struct OwnMeasure<'a> {
    account: &'a str,
    req_id: &'a str,
    m2: OwnPart<'a>,
}

#[derive(Serialize)]
struct OwnPart<'a> {
    /// What events begin with is empty.
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'static str,
    timestamp: &'static str,
    status: u16,
    responder: PartyObject<'a>,
    start: Time,
    service: u64,
    system: u64,
    total: u64,
}

impl<'a> OwnMeasure<'a> {
    pub(super) fn new(
        measure: &'a Measure,
        server: &'a Identity,
        time_of: impl Fn(Instant) -> Time,
    ) -> Self {
        let round_trip = measure.responder.round_trip.unwrap_or_default();
        let service = measure.after.saturating_sub(round_trip);
        Self {
            account: measure.account.name(),
            req_id: &measure.answer,
            m2: OwnPart {
                kind: "",
                id: "",
                // Go's time that is none.
                timestamp: "0001-01-01T00:00:00Z",
                status: 200,
                responder: PartyObject::new(&measure.responder, true, server, &time_of),
                start: time_of(measure.requested),
                service: nanoseconds(service),
                system: 0,
                total: nanoseconds(service + round_trip),
            },
        }
    }
}

/// What another server tells this one in the same way.
#[derive(Deserialize)]
pub(super) struct PeerMeasure {
    pub(super) account: String,
    /// The subject of the answer.
    pub(super) req_id: String,
    m2: PeerPart,
}

#[derive(Deserialize)]
struct PeerPart {
    responder: Option<Box<RawValue>>,
    /// In nanoseconds.
    #[serde(default)]
    service: i64,
}

#[derive(Deserialize)]
struct RoundTrip {
    /// In nanoseconds.
    #[serde(default)]
    rtt: i64,
}

impl PeerMeasure {
    pub(super) fn measure(&self) -> RemoteMeasure {
        let duration = |nanoseconds: i64| Duration::from_nanos(nanoseconds.max(0).unsigned_abs());
        let responder = self.m2.responder.as_ref();
        let round_trip = responder
            .and_then(|responder| serde_json::from_str::<RoundTrip>(responder.get()).ok())
            .map(|responder| responder.rtt);
        RemoteMeasure {
            service: duration(self.m2.service),
            round_trip: duration(round_trip.unwrap_or_default()),
            responder: responder.map(|responder| responder.get().to_owned()),
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Who asked, or answered: in detail where that may be told.
#[derive(Default, Serialize)]
struct PartyObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Time>,
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    #[serde(skip_serializing_if = "is_zero")]
    id: u64,
    acc: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lang: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ver: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    rtt: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    server: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cluster: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    client_type: &'a str,
}

impl<'a> PartyObject<'a> {
    fn new(
        client: &'a ConnectionSnapshot,
        is_detailed: bool,
        server: &'a Identity,
        time_of: impl Fn(Instant) -> Time,
    ) -> Self {
        let facts = &client.client;
        let always = Self {
            acc: &facts.account,
            rtt: nanoseconds(client.round_trip.unwrap_or_default()),
            ..Self::default()
        };
        if !is_detailed {
            return always;
        }
        Self {
            start: Some(time_of(client.started)),
            host: host_of(client),
            id: client.id,
            user: facts.user.as_deref().unwrap_or_default(),
            name: &facts.name,
            lang: &facts.language,
            ver: &facts.version,
            server: &server.name,
            cluster: &server.cluster,
            kind: "Client",
            client_type: "nats",
            ..always
        }
    }
}

/// The address without the port; nothing within the process.
fn host_of(client: &ConnectionSnapshot) -> String {
    let address = client.address;
    address
        .map(|address| address.ip().to_canonical().to_string())
        .unwrap_or_default()
}

#[derive(Serialize)]
pub(super) struct ClientConnect<'a> {
    #[serde(flatten)]
    pub(super) typed: Typed,
    pub(super) server: ServerObject,
    pub(super) client: ClientObject<'a>,
}

#[derive(Serialize)]
pub(super) struct ClientDisconnect<'a> {
    #[serde(flatten)]
    pub(super) typed: Typed,
    pub(super) server: ServerObject,
    pub(super) client: ClientObject<'a>,
    /// By the client.
    pub(super) sent: Messages,
    /// By the client.
    pub(super) received: Messages,
    pub(super) reason: &'static str,
}

#[derive(Clone, Serialize)]
pub(super) struct AccountConnections {
    #[serde(flatten)]
    pub(super) typed: Typed,
    pub(super) server: ServerObject,
    #[serde(flatten)]
    pub(super) stats: AccountStats,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Messages {
    pub(super) msgs: u64,
    pub(super) bytes: u64,
}

/// A client as events show it.
#[derive(Serialize)]
pub(super) struct ClientObject<'a> {
    start: Time,
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    id: u64,
    acc: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lang: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ver: &'a str,
    /// In nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Time>,
    name_tag: &'a str,
    kind: &'static str,
    client_type: &'static str,
}

impl<'a> ClientObject<'a> {
    /// `times` are those of its beginning and its end. The round-trip time is told at the end.
    pub(super) fn new(client: &'a ConnectionSnapshot, start: Time, stop: Option<Time>) -> Self {
        let facts = &client.client;
        let round_trip = client.round_trip.filter(|_| stop.is_some());
        Self {
            start,
            host: host_of(client),
            id: client.id,
            acc: &facts.account,
            user: facts.user.as_deref().unwrap_or_default(),
            name: &facts.name,
            lang: &facts.language,
            ver: &facts.version,
            rtt: round_trip.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            stop,
            name_tag: &facts.account,
            kind: "Client",
            client_type: "nats",
        }
    }
}

/// An answer.
#[derive(Serialize)]
pub(super) struct Envelope<T: Serialize> {
    pub(super) server: ServerObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Fault>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// 400 for what was asked, 500 for what came of it.
    pub(super) code: u16,
    pub(super) description: String,
}

/// Asks other servers how many connections an account has there.
#[derive(Serialize)]
pub(super) struct ConnectionsRequest<'a> {
    pub(super) server: ServerObject,
    pub(super) acc: &'a str,
}

/// Of what another server says of itself, what counts here. nats-server 2.15.1 says more.
#[derive(Deserialize)]
pub(super) struct PeerNotice {
    pub(super) server: PeerServer,
    /// The account.
    #[serde(default)]
    pub(super) acc: String,
    /// Connections of clients in it.
    #[serde(default)]
    pub(super) conns: u64,
}

#[derive(Deserialize)]
pub(super) struct PeerServer {
    pub(super) id: String,
}

#[derive(Serialize)]
pub(super) struct ServerId<'a> {
    pub(super) name: &'a str,
    pub(super) host: &'a str,
    pub(super) id: &'a str,
}

#[derive(Serialize)]
pub(super) struct ServerStats {
    pub(super) server: ServerObject,
    pub(super) statsz: Statsz,
}

#[derive(Serialize)]
pub(super) struct Statsz {
    pub(super) start: Time,
    pub(super) mem: u64,
    pub(super) cores: usize,
    pub(super) cpu: f64,
    pub(super) connections: usize,
    pub(super) total_connections: u64,
    pub(super) active_accounts: usize,
    pub(super) subscriptions: usize,
    pub(super) sent: Messages,
    pub(super) sent_to_clients: Messages,
    pub(super) received: Messages,
    pub(super) received_from_clients: Messages,
    pub(super) slow_consumers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) slow_consumer_stats: Option<KindCounts>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) stale_connections: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stale_connection_stats: Option<KindCounts>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) stalled_clients: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) routes: Vec<RouteStats>,
    pub(super) active_servers: usize,
    pub(super) gomaxprocs: usize,
}

/// What was exchanged on a connection with another server.
#[derive(Serialize)]
pub(super) struct RouteStats {
    rid: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    sent: Messages,
    received: Messages,
    /// Bytes that wait.
    pending: usize,
}

impl From<&RouteSnapshot> for RouteStats {
    fn from(route: &RouteSnapshot) -> Self {
        let messages = |msgs, bytes| Messages { msgs, bytes };
        Self {
            rid: route.id,
            name: route.facts.peer_name.to_string(),
            sent: messages(route.messages_out, route.bytes_out),
            received: messages(route.messages_in, route.bytes_in),
            pending: route.pending_bytes,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Messages sent and received, by anybody and by clients.
pub(super) struct StatszTraffic {
    pub(super) sent: Messages,
    pub(super) sent_to_clients: Messages,
    pub(super) received: Messages,
    pub(super) received_from_clients: Messages,
}

impl From<&Totals> for StatszTraffic {
    fn from(totals: &Totals) -> Self {
        let messages = |msgs, bytes| Messages { msgs, bytes };
        let without = |all: Messages, routes: Messages| Messages {
            msgs: all.msgs.saturating_sub(routes.msgs),
            bytes: all.bytes.saturating_sub(routes.bytes),
        };
        let routes = &totals.routes;
        let sent = messages(totals.messages_out, totals.bytes_out);
        let received = messages(totals.messages_in, totals.bytes_in);
        Self {
            sent,
            sent_to_clients: without(sent, messages(routes.messages_out, routes.bytes_out)),
            received,
            received_from_clients: without(received, messages(routes.messages_in, routes.bytes_in)),
        }
    }
}

/// What a user is told about itself.
#[derive(Serialize)]
pub(super) struct UserInfo<'a> {
    user: &'a str,
    account: &'a str,
    account_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<PermissionsObject<'a>>,
}

#[derive(Serialize)]
struct PermissionsObject<'a> {
    publish: RulesObject<'a>,
    subscribe: RulesObject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    responses: Option<ResponsesObject>,
}

#[derive(Serialize)]
struct RulesObject<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allow: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    deny: &'a [String],
}

#[derive(Serialize)]
struct ResponsesObject {
    max: i64,
    /// In nanoseconds; negative is for ever.
    ttl: i64,
}

impl<'a> UserInfo<'a> {
    pub(super) fn new(client: &'a ConnectionSnapshot, access: &'a Access) -> Self {
        let facts = &client.client;
        let user = facts.user.as_deref().unwrap_or_default();
        Self {
            user,
            account: &facts.account,
            account_name: &facts.account,
            permissions: permissions_of(user, access).map(PermissionsObject::new),
        }
    }
}

fn permissions_of<'a>(name: &str, access: &'a Access) -> Option<&'a Permissions> {
    let find = |users: &'a [User]| users.iter().find(|user| user.name == name);
    let or_default = |user: &'a User, default: &'a Option<Permissions>| {
        user.permissions.as_ref().or(default.as_ref())
    };
    if let Some(user) = find(&access.users) {
        return or_default(user, &access.default_permissions);
    }
    let mut accounts = access.accounts.iter();
    accounts.find_map(|account| {
        find(&account.users).map(|user| or_default(user, &account.default_permissions))
    })?
}

impl<'a> PermissionsObject<'a> {
    fn new(permissions: &'a Permissions) -> Self {
        let rules = |rules: &'a SubjectRules| RulesObject {
            allow: rules.allow.as_deref().unwrap_or_default(),
            deny: &rules.deny,
        };
        Self {
            publish: rules(&permissions.publish),
            subscribe: rules(&permissions.subscribe),
            responses: permissions.responses.map(|limit| ResponsesObject {
                max: if limit.messages_max == 0 {
                    1
                } else {
                    limit.messages_max
                },
                ttl: if limit.never_expires {
                    -1
                } else {
                    i64::try_from(limit.expires.as_nanos()).unwrap_or(i64::MAX)
                },
            }),
        }
    }
}
