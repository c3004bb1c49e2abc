//! `/routez`: connections to the other servers of the cluster.

use std::collections::HashMap;

use natterjack_engine::{Engine, PeerInterestSnapshot, RouteSnapshot};
use natterjack_wire::route::SubjectPermission;
use serde::Serialize;

use super::connz::{Subscriptions, round_trip};
use super::facts::ServerFacts;
use super::format::{RoundTrip, Time, Uptime, is_default};

/// Connections to the other servers of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Routez {
    /// The server's id.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// When this was written.
    pub now: Time,
    /// What of its interest other servers are told, if not everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<SubjectRules>,
    /// What of other servers' interest it accepts, if not everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<SubjectRules>,
    /// Routes there are.
    pub num_routes: usize,
    /// The routes.
    pub routes: Vec<Route>,
}

/// One connection to another server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Route {
    /// The connection's number.
    pub rid: u64,
    /// The other server's id.
    pub remote_id: String,
    /// Its name.
    pub remote_name: String,
    /// Whether this server dials it.
    pub did_solicit: bool,
    /// Whether it does so because it is configured to.
    pub is_configured: bool,
    /// Where the other side of the connection is.
    pub ip: String,
    /// Where the other side of the connection is.
    pub port: u16,
    /// When the connection was made.
    pub start: Time,
    /// When a message was last sent or received, or interest changed.
    pub last_activity: Time,
    /// How long the last answer to a PING took; 0 before there was one.
    pub rtt: RoundTrip,
    /// How long it has been there.
    pub uptime: Uptime,
    /// How long nothing has happened on it.
    pub idle: Uptime,
    /// What of its interest the other server tells others, if not everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<SubjectRules>,
    /// What of others' interest the other server accepts, if not everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<SubjectRules>,
    /// Bytes that wait to be written to it.
    pub pending_size: usize,
    /// Messages received.
    pub in_msgs: u64,
    /// Messages sent.
    pub out_msgs: u64,
    /// Bytes of those received.
    pub in_bytes: u64,
    /// Bytes of those sent.
    pub out_bytes: u64,
    /// Interest that the other server has announced on it.
    pub subscriptions: usize,
    /// Its subjects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions_list: Vec<String>,
    /// The same in detail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions_list_detail: Vec<RouteSubscription>,
    /// The one account the connection is for.
    #[serde(skip_serializing_if = "is_default")]
    pub account: String,
    /// How what is sent is compressed.
    #[serde(skip_serializing_if = "is_default")]
    pub compression: &'static str,
}

/// Interest of another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RouteSubscription {
    /// What it is for.
    pub subject: String,
    /// The queue group.
    #[serde(rename = "qgroup", skip_serializing_if = "is_default")]
    pub queue: String,
    /// What it goes by: `R`, its account unless the connection is for that alone, its subject, its queue group.
    pub sid: String,
    /// Always 0: what is sent to another server is counted for the connection.
    pub msgs: u64,
    /// Number of the connection.
    pub cid: u64,
}

/// Subjects; without any allowed, all are but those denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SubjectRules {
    /// Subjects that are let through.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Subjects that are not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

pub(crate) fn routez(facts: &ServerFacts, engine: &Engine, subscriptions: Subscriptions) -> Routez {
    let snapshots = engine.route_snapshots();
    let mut interest = interest(engine, &snapshots, subscriptions);
    let routes: Vec<_> = snapshots
        .iter()
        .map(|route| Route {
            subscriptions_list_detail: interest.remove(&route.id).unwrap_or_default(),
            ..described(facts, route)
        })
        .map(|route| match subscriptions {
            Subscriptions::Subjects => Route {
                subscriptions_list: (route.subscriptions_list_detail.iter())
                    .map(|detail| detail.subject.clone())
                    .collect(),
                subscriptions_list_detail: Vec::new(),
                ..route
            },
            _ => route,
        })
        .collect();
    let permissions = facts.options.cluster.as_ref();
    let permissions = permissions.and_then(|cluster| cluster.permissions.as_ref());
    let rules = |rules: &natterjack_engine::SubjectRules| SubjectRules {
        allow: rules.allow.clone().unwrap_or_default(),
        deny: rules.deny.clone(),
    };
    Routez {
        server_id: facts.info.server_id.clone(),
        server_name: facts.info.server_name.clone(),
        now: facts.time_of(facts.now),
        import: permissions.map(|permissions| rules(&permissions.publish)),
        export: permissions.map(|permissions| rules(&permissions.subscribe)),
        num_routes: routes.len(),
        routes,
    }
}

/// What the other servers want, by connection.
fn interest(
    engine: &Engine,
    routes: &[RouteSnapshot],
    subscriptions: Subscriptions,
) -> HashMap<u64, Vec<RouteSubscription>> {
    let mut held: HashMap<u64, Vec<RouteSubscription>> = HashMap::new();
    if subscriptions == Subscriptions::Count {
        return held;
    }
    let is_dedicated: HashMap<u64, bool> = routes
        .iter()
        .map(|route| (route.id, route.facts.account.is_some()))
        .collect();
    engine.for_each_peer_interest(|interest| {
        if let Some(&is_dedicated) = is_dedicated.get(&interest.connection) {
            let details = held.entry(interest.connection).or_default();
            details.push(detail(interest, is_dedicated));
        }
    });
    for details in held.values_mut() {
        details.sort_unstable_by(|left, right| left.sid.cmp(&right.sid));
    }
    held
}

fn detail(interest: &PeerInterestSnapshot<'_>, is_dedicated: bool) -> RouteSubscription {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let subject = text(interest.subject);
    let queue = interest
        .queue
        .map(|(name, _)| text(name))
        .unwrap_or_default();
    let account = (!is_dedicated).then_some(interest.account);
    let parts = [account, Some(&subject), Some(&queue)];
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    RouteSubscription {
        sid: std::iter::once("R")
            .chain(parts)
            .collect::<Vec<_>>()
            .join(" "),
        subject,
        queue,
        msgs: 0,
        cid: interest.connection,
    }
}

fn described(facts: &ServerFacts, route: &RouteSnapshot) -> Route {
    let known = &route.facts;
    let rules = |rules: &SubjectPermission| SubjectRules {
        allow: rules.allow.clone(),
        deny: rules.deny.clone(),
    };
    Route {
        rid: route.id,
        remote_id: known.peer_id.to_string(),
        remote_name: known.peer_name.to_string(),
        // Of two that dial each other one gives in, and goes on watching over the connection that stays.
        did_solicit: known.is_dialled || route.is_explicit,
        is_configured: route.is_explicit,
        ip: (route.address)
            .map(|address| address.ip().to_canonical().to_string())
            .unwrap_or_default(),
        port: route.address.map_or(0, |address| address.port()),
        start: facts.time_of(known.started),
        last_activity: facts.time_of(route.last_activity),
        rtt: RoundTrip(route.round_trip.map(round_trip).unwrap_or_default()),
        uptime: facts.since(known.started),
        idle: facts.since(route.last_activity),
        import: known.import.as_ref().map(rules),
        export: known.export.as_ref().map(rules),
        pending_size: route.pending_bytes,
        in_msgs: route.messages_in,
        out_msgs: route.messages_out,
        in_bytes: route.bytes_in,
        out_bytes: route.bytes_out,
        subscriptions: route.interest,
        subscriptions_list: Vec::new(),
        subscriptions_list_detail: Vec::new(),
        account: known.account.as_deref().unwrap_or_default().to_owned(),
        compression: known.compression.name(),
    }
}
