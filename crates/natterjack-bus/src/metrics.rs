//! Numbers of a running bus for people and for Prometheus.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use natterjack_server::monitoring::{Exposition, ExpositionFormat, MetricKind};
use serde::{Deserialize, Serialize};

use crate::envelope::{Attributes, since_1970};
use crate::health::Health;
use crate::rfc3339;
use crate::stats::Stats;

/// Upper ends of the buckets, in microseconds. One bucket more takes what is beyond.
const BUCKETS: [u64; 19] = [
    50, 100, 200, 300, 500, 750, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000,
    200_000, 500_000, 1_000_000, 3_000_000, 10_000_000,
];

/// How far an event's time may be from the one in its identifier to be the time of its publishing.
const STAMP_MAX: Duration = Duration::from_millis(5);

/// What a bus has counted and measured since it started, and how it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metrics {
    /// Counters.
    pub stats: Stats,
    /// How it is now.
    pub health: Health,
    /// Accepted events of this node that are on their way to the server and back, or wait for a connection.
    pub buffered_events: u64,
    /// Events that have arrived and wait to be handed to subscribers.
    pub inbound_events: u64,
    /// From the publishing of an event at another node to its arrival at this one.
    pub latency: Latency,
}

/// How long events took from their publisher's clock to this node's. Clocks that differ show as that much more, or as
/// nothing. Only events that were stamped by this library are measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Events per bucket, not cumulative.
    counts: Vec<u64>,
    /// Sum of all, in microseconds.
    sum_micros: u64,
}

impl Latency {
    /// Events measured.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum over all events.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros)
    }

    /// Time within which this share of the events (0.99 for instance) arrived: the upper end of a bucket; `None` if
    /// nothing was measured, or if it is beyond the last bucket, ten seconds.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (end, count) in BUCKETS.iter().zip(&self.counts) {
            seen += count;
            if seen >= rank {
                return Some(Duration::from_micros(*end));
            }
        }
        None
    }
}

/// Measures.
#[derive(Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Measures an event that another node has published.
    pub(crate) fn arrived(&self, attributes: &Attributes) {
        if let Some(published) = published(attributes) {
            self.record(since_1970().saturating_sub(published));
        }
    }

    fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|end| *end < micros);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
    }

    pub(crate) fn read(&self) -> Latency {
        Latency {
            counts: self
                .counts
                .iter()
                .map(|count| count.load(Relaxed))
                .collect(),
            sum_micros: self.sum_micros.load(Relaxed),
        }
    }
}

/// When an event was published. Its time may be that of what it tells of; then it differs from that in the identifier, which
/// is less exact.
fn published(attributes: &Attributes) -> Option<Duration> {
    let id = uuid::Uuid::try_parse(&attributes.id).ok()?;
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    let stamped = Duration::new(seconds, nanoseconds);
    let time = rfc3339::parse(attributes.time.as_deref()?)?;
    (time.abs_diff(stamped) <= STAMP_MAX).then_some(time)
}

impl Metrics {
    /// All of it in the text format of Prometheus, version 0.0.4, with names that begin with `natterjack_bus_`.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = Exposition::new(ExpositionFormat::Prometheus);
        self.write(&mut text);
        text.finish()
    }

    /// The same in a text that others write to as well.
    pub(crate) fn write(&self, text: &mut Exposition) {
        let node = &*self.health.node;
        self.counters(text, node);
        for (name, help, value) in self.gauges() {
            let name = format!("natterjack_bus_{name}");
            text.single(&name, MetricKind::Gauge, help, &[("node", node)], value);
        }
        let ends = BUCKETS.iter().map(|end| *end as f64 / 1e6);
        text.histogram(
            "natterjack_bus_latency_seconds",
            "From publishing at another node to arrival at this one.",
            &[("node", node)],
            ends.zip(self.latency.counts.iter().copied()),
            (self.latency.count(), self.latency.sum().as_secs_f64()),
        );
    }

    fn counters(&self, text: &mut Exposition, node: &str) {
        let Stats {
            published_events,
            refused_events,
            received_events,
            own_events,
            lost_events,
            missed_events,
            overflowed_events,
            repeated_events,
            undecodable_messages,
            ignored_events,
            panics,
            subscriber_dropped_events,
            disconnects,
            reconnects,
            moves,
        } = self.stats;
        for (name, help, value) in [
            (
                "published_events",
                "Events accepted for publishing.",
                published_events,
            ),
            (
                "consumed_events",
                "Events that arrived, own ones included.",
                received_events,
            ),
            ("own_events", "Own events among them.", own_events),
            (
                "ignored_events",
                "Events that arrived and that no subscriber wanted.",
                ignored_events,
            ),
            (
                "repeated_events",
                "Events without an identifier left out around a planned change of servers: others said the same.",
                repeated_events,
            ),
            (
                "panics",
                "Times the program's own code panicked over an event.",
                panics,
            ),
            (
                "disconnects",
                "Times the connection to the server broke.",
                disconnects,
            ),
            (
                "reconnects",
                "Times the connection to the server came back.",
                reconnects,
            ),
            (
                "moves",
                "Times a server that was soon to be gone was left for another one.",
                moves,
            ),
        ] {
            let name = format!("natterjack_bus_{name}");
            text.single(&name, MetricKind::Counter, help, &[("node", node)], value);
        }
        text.family(
            "natterjack_bus_dropped_events",
            MetricKind::Counter,
            "Events refused, lost or dropped.",
        );
        for (reason, events) in [
            ("refused", refused_events),
            ("lost", lost_events),
            ("missed", missed_events),
            ("overflow", overflowed_events),
            ("undecodable", undecodable_messages),
            ("subscriber_full", subscriber_dropped_events),
        ] {
            text.sample(&[("node", node), ("reason", reason)], events);
        }
        if let Some(server) = &self.health.server {
            text.family(
                "natterjack_bus_server_dropped_connections",
                MetricKind::Counter,
                "Connections that the embedded server closed because they did not keep up, and events for them were lost.",
            );
            for (kind, connections) in [
                ("client", server.dropped_clients),
                ("server", server.dropped_servers),
            ] {
                text.sample(&[("node", node), ("kind", kind)], connections);
            }
        }
    }

    fn gauges(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let health = &self.health;
        let server = health.server.as_ref().map(|server| {
            let peers = server.peers.len() as u64;
            [
                (
                    "server_up",
                    "Whether the embedded server runs.",
                    server.is_running.into(),
                ),
                (
                    "server_peers",
                    "Servers the embedded one is connected with.",
                    peers,
                ),
            ]
        });
        [
            (
                "buffered_events",
                "Own events on their way, or waiting for a connection.",
                self.buffered_events,
            ),
            (
                "inbound_events",
                "Events that wait to be handed to subscribers.",
                self.inbound_events,
            ),
            (
                "connected",
                "Whether events flow.",
                health.is_connected.into(),
            ),
            (
                "ready",
                "Whether an event published now reaches the nodes that are up.",
                health.is_ready.into(),
            ),
            (
                "healthy",
                "Whether as many hosts answer as are required.",
                health.is_healthy.into(),
            ),
            (
                "hosts_answering",
                "Hosts that answer, this one included.",
                health.hosts_answering,
            ),
            (
                "hosts_required",
                "Hosts that must answer.",
                health.required_hosts,
            ),
        ]
        .into_iter()
        .chain(server.into_iter().flatten())
    }

    /// What a person wants to see of it at a glance.
    pub(crate) fn glance(&self) -> serde_json::Value {
        let shown = |share| {
            let time = self.latency.quantile(share);
            time.map(|time| format!("within {time:?}"))
        };
        serde_json::json!({
            "health": self.health,
            "events": self.stats,
            "buffered_events": self.buffered_events,
            "inbound_events": self.inbound_events,
            "latency": {
                "events": self.latency.count(),
                "half_of_them": shown(0.5),
                "99_%_of_them": shown(0.99),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_ends() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().quantile(0.99), None);
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        let latency = histogram.read();
        assert_eq!(latency.count(), 1000);
        assert_eq!(latency.sum(), Duration::from_micros(500_500));
        assert_eq!(latency.quantile(0.5), Some(Duration::from_micros(500)));
        assert_eq!(latency.quantile(0.99), Some(Duration::from_millis(1)));
        for _ in 0..100 {
            histogram.record(Duration::from_secs(100));
        }
        assert_eq!(histogram.read().quantile(0.99), None, "beyond the last");
    }

    #[test]
    fn only_the_time_of_publishing_is_measured() {
        let (_, attributes, _) = crate::envelope::Draft::default().stamp("a", "t");
        let histogram = Histogram::default();
        histogram.arrived(&attributes);
        let latency = histogram.read();
        assert_eq!(latency.count(), 1);
        assert!(latency.quantile(1.0).is_some(), "{latency:?}");
        let others = [
            Attributes {
                time: Some("2001-01-01T00:00:00Z".into()),
                ..attributes.clone()
            },
            Attributes {
                time: None,
                ..attributes.clone()
            },
            Attributes {
                id: "7".into(),
                ..attributes
            },
        ];
        others.iter().for_each(|other| histogram.arrived(other));
        assert_eq!(histogram.read().count(), 1);
    }
}
