//! What only this server knows of itself: `natterjack_…`, in Prometheus's base units.

use std::collections::BTreeMap;
use std::time::SystemTime;

use natterjack_engine::{RouteSnapshot, Totals};

use super::super::facts::{Load, ServerFacts};
use super::counted::Counted;
use super::text::{Exposition, MetricKind};

pub(super) fn write(text: &mut Exposition, facts: &ServerFacts, counted: &Counted, load: &Load) {
    let build = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("compatible_with", &*facts.info.version),
        ("server_name", &*facts.info.server_name),
    ];
    text.single(
        "natterjack_build",
        MetricKind::Info,
        "Which server this is.",
        &build,
        1,
    );
    dropped(text, load);
    slow(text, &load.totals);
    text.single(
        "natterjack_producer_stalls",
        MetricKind::Counter,
        "Times a publisher was held back because a subscriber was behind.",
        &[],
        load.totals.stalls,
    );
    waiting(text, counted, load);
    matches(text, counted);
    certificates(text, facts);
    routes(text, &load.routes);
}

fn dropped(text: &mut Exposition, load: &Load) {
    let totals = &load.totals;
    text.family(
        "natterjack_messages_dropped",
        MetricKind::Counter,
        "Messages that did not reach a subscriber whom they were for, by reason.",
    );
    text.sample(&[("reason", "subscriber_behind")], totals.messages_dropped);
    text.sample(&[("reason", "permission")], totals.deliveries_denied);
    text.family(
        "natterjack_messages_refused",
        MetricKind::Counter,
        "Messages that were not taken from the client that published them, by reason.",
    );
    text.sample(&[("reason", "permission")], totals.publishes_denied);
    text.sample(&[("reason", "max_payload")], totals.publishes_too_long);
    text.single(
        "natterjack_no_responders",
        MetricKind::Counter,
        "Requests whose client was told that nobody responds.",
        &[],
        totals.no_responders,
    );
    text.family(
        "natterjack_connections_dropped",
        MetricKind::Counter,
        "Connections that the server has closed since they did not keep up, or did not answer.",
    );
    for (reason, counts) in [
        ("slow", &totals.slow_consumers_by_kind),
        ("stale", &totals.stale_connections_by_kind),
    ] {
        for (kind, count) in [("client", counts.clients), ("route", counts.routes)] {
            text.sample(&[("reason", reason), ("kind", kind)], count);
        }
    }
}

/// Connections that did not keep up, by the option whose limit they went over.
fn slow(text: &mut Exposition, totals: &Totals) {
    text.family(
        "natterjack_slow_consumers",
        MetricKind::Counter,
        "Connections that the server has closed since they did not keep up, by the limit that ended them.",
    );
    let (all, overdue) = (
        &totals.slow_consumers_by_kind,
        &totals.slow_consumers_overdue,
    );
    for (kind, all, overdue) in [
        ("client", all.clients, overdue.clients),
        ("route", all.routes, overdue.routes),
    ] {
        let overfull = all.saturating_sub(overdue);
        for (limit, count) in [("max_pending", overfull), ("write_deadline", overdue)] {
            text.sample(&[("limit", limit), ("kind", kind)], count);
        }
    }
}

fn waiting(text: &mut Exposition, counted: &Counted, load: &Load) {
    let routes: usize = load.routes.iter().map(|route| route.pending_bytes).sum();
    text.family(
        "natterjack_pending_bytes",
        MetricKind::Gauge,
        "Bytes that wait to be written, by kind of connection.",
    );
    text.sample(&[("kind", "client")], counted.connections.pending_bytes);
    text.sample(&[("kind", "route")], routes);
    text.single(
        "natterjack_pending_bytes_most",
        MetricKind::Gauge,
        "Bytes that wait for the client for which most wait.",
        &[],
        counted.connections.pending_bytes_most,
    );
}

fn matches(text: &mut Exposition, counted: &Counted) {
    text.single(
        "natterjack_matches",
        MetricKind::Counter,
        "Times the receivers of a subject were asked for.",
        &[],
        counted.index.matches,
    );
    text.single(
        "natterjack_match_cache_hits",
        MetricKind::Counter,
        "Those of them that a thread's cache answered.",
        &[],
        counted.index.cache_hits,
    );
}

fn certificates(text: &mut Exposition, facts: &ServerFacts) {
    let ends = [
        ("client", facts.certificate_not_after),
        ("route", facts.route_certificate_not_after),
    ];
    if ends.iter().all(|(_, end)| end.is_none()) {
        return;
    }
    text.family(
        "natterjack_certificate_expiry_timestamp_seconds",
        MetricKind::Gauge,
        "When the certificate that is shown to these peers ends to be valid, in seconds since 1970.",
    );
    for (kind, end) in ends {
        let since = end.and_then(|end| end.duration_since(SystemTime::UNIX_EPOCH).ok());
        if let Some(since) = since {
            text.sample(&[("kind", kind)], since.as_secs());
        }
    }
}

/// By peer, since connections come and go.
fn routes(text: &mut Exposition, routes: &[RouteSnapshot]) {
    let mut peers: BTreeMap<&str, Vec<&RouteSnapshot>> = BTreeMap::new();
    for route in routes {
        peers
            .entry(&*route.facts.peer_name)
            .or_default()
            .push(route);
    }
    if peers.is_empty() {
        return;
    }
    let mut family = |name: &str, help: &str, number: &dyn Fn(&[&RouteSnapshot]) -> Option<f64>| {
        text.family(name, MetricKind::Gauge, help);
        for (name, routes) in &peers {
            if let Some(number) = number(routes) {
                text.sample(&[("remote_name", name)], number);
            }
        }
    };
    family(
        "natterjack_route_connections",
        "Connections with another server.",
        &|routes| Some(routes.len() as f64),
    );
    family(
        "natterjack_route_rtt_seconds",
        "How long the last answer of another server to a PING took; the least of its connections.",
        &|routes| {
            let times = routes.iter().filter_map(|route| route.round_trip);
            times.min().map(|time| time.as_secs_f64())
        },
    );
    family(
        "natterjack_route_pending_bytes",
        "Bytes that wait to be written to another server.",
        &|routes| {
            Some(
                routes
                    .iter()
                    .map(|route| route.pending_bytes)
                    .sum::<usize>() as f64,
            )
        },
    );
}
