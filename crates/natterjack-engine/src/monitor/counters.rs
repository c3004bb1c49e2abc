//! What is counted for a server and for each account.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use natterjack_subject::Index;

use super::elsewhere::Elsewhere;
use super::snapshot::AccountSnapshot;
use crate::delivery::Subscriber;
use crate::delivery::worker::Deliverer;
use crate::mesh::remote::RemoteSubscriber;

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Messages that clients and other servers sent.
    pub messages_in: u64,
    /// Their bytes, header and payload.
    pub bytes_in: u64,
    /// Messages delivered to clients and other servers.
    pub messages_out: u64,
    /// Their bytes, header and payload.
    pub bytes_out: u64,
    /// Those of them that were exchanged with other servers of the cluster.
    pub routes: Traffic,
    /// Connections of clients ever accepted.
    pub connections: u64,
    /// Connections closed because they could not keep up.
    pub slow_consumers: u64,
    /// The same by kind of connection.
    pub slow_consumers_by_kind: ByKind,
    /// Those of them whose socket took nothing for `write_deadline`; for the others too many bytes waited.
    pub slow_consumers_overdue: ByKind,
    /// Connections closed because PINGs went unanswered.
    pub stale_connections: u64,
    /// The same by kind of connection.
    pub stale_connections_by_kind: ByKind,
    /// Times a producer was held back because a consumer was behind, counted for each such consumer.
    pub stalls: u64,
    /// Messages not delivered because their consumer was behind and producers are not held back.
    pub messages_dropped: u64,
    /// Messages not delivered because their consumer's user may not receive them, counted for each such subscription; for a
    /// queue group once, if none of its members may.
    pub deliveries_denied: u64,
    /// Messages that clients were not let publish: their user may not, or nobody but servers does, to the subject or the
    /// subject for answers.
    pub publishes_denied: u64,
    /// Messages of clients that were longer than `payload_bytes_max`, each the end of its connection.
    pub publishes_too_long: u64,
    /// Requests whose publisher was told that nobody responds.
    pub no_responders: u64,
}

/// A count for each kind of connection there is in the protocol. Gateways and leaf nodes do not exist so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByKind {
    /// Clients.
    pub clients: u64,
    /// Routes to other servers of the cluster.
    pub routes: u64,
    /// Gateways to other clusters.
    pub gateways: u64,
    /// Leaf nodes.
    pub leaf_nodes: u64,
}

impl ByKind {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            clients: self.clients + other.clients,
            routes: self.routes + other.routes,
            gateways: self.gateways + other.gateways,
            leaf_nodes: self.leaf_nodes + other.leaf_nodes,
        }
    }

    /// All together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.clients + self.routes + self.gateways + self.leaf_nodes
    }
}

/// How an account's index of subscriptions is used, or all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct IndexCounters {
    /// Subscriptions in it, and interest of other servers.
    pub subscriptions: usize,
    /// Subjects whose receivers are remembered, each thread that remembers them counted.
    pub cached: usize,
    /// Subscriptions ever put into it.
    pub inserts: u64,
    /// Subscriptions taken out of it.
    pub removes: u64,
    /// Times the receivers of a subject were asked for, by a cache or by the index.
    pub matches: u64,
    /// Those of them a thread's cache could answer.
    pub cache_hits: u64,
    /// The most receivers the index ever found for a subject.
    pub fanout_max: u64,
    /// Receivers found by the index, in all.
    pub fanout_sum: u64,
}

impl IndexCounters {
    /// The share of questions that a cache answered, from 0 to 1.
    #[must_use]
    pub fn cache_hit_rate(&self) -> f64 {
        ratio(self.cache_hits, self.matches)
    }

    /// Receivers the index found for a subject, on average over all it was asked for.
    #[must_use]
    pub fn fanout_average(&self) -> f64 {
        ratio(
            self.fanout_sum,
            self.matches.saturating_sub(self.cache_hits),
        )
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            subscriptions: self.subscriptions + other.subscriptions,
            cached: self.cached + other.cached,
            inserts: self.inserts + other.inserts,
            removes: self.removes + other.removes,
            matches: self.matches + other.matches,
            cache_hits: self.cache_hits + other.cache_hits,
            fanout_max: self.fanout_max.max(other.fanout_max),
            fanout_sum: self.fanout_sum + other.fanout_sum,
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// What is counted for the server as a whole. Messages and bytes are counted by account, once.
#[derive(Default)]
pub(crate) struct ServerCounters {
    pub(crate) connections: AtomicU64,
    /// Closed because too many bytes waited for them.
    pub(crate) overfull: KindCounters,
    /// Closed because their socket took nothing for `write_deadline`.
    pub(crate) overdue: KindCounters,
    /// Closed because PINGs went unanswered.
    pub(crate) stale: KindCounters,
    pub(crate) stalls: AtomicU64,
    pub(crate) messages_dropped: AtomicU64,
    pub(crate) deliveries_denied: AtomicU64,
    pub(crate) publishes_denied: AtomicU64,
    pub(crate) publishes_too_long: AtomicU64,
    pub(crate) no_responders: AtomicU64,
    /// Messages that other servers sent to accounts which are not here.
    pub(crate) messages_in_nowhere: AtomicU64,
    pub(crate) bytes_in_nowhere: AtomicU64,
}

/// A counter for each kind of connection there is.
#[derive(Default)]
pub(crate) struct KindCounters {
    pub(crate) clients: AtomicU64,
    pub(crate) routes: AtomicU64,
}

impl ServerCounters {
    /// Adds what a batch did not deliver.
    pub(crate) fn add_undelivered(&self, deliverer: &mut Deliverer) {
        add(
            &self.messages_dropped,
            std::mem::take(&mut deliverer.messages_dropped),
        );
        add(
            &self.deliveries_denied,
            std::mem::take(&mut deliverer.deliveries_denied),
        );
    }

    /// What other servers sent to accounts that are not here.
    pub(crate) fn traffic_to_nowhere(&self) -> AllTraffic {
        let traffic = Traffic {
            messages_in: load(&self.messages_in_nowhere),
            bytes_in: load(&self.bytes_in_nowhere),
            ..Traffic::default()
        };
        AllTraffic {
            all: traffic,
            routes: traffic,
        }
    }
}

impl KindCounters {
    pub(crate) fn snapshot(&self) -> ByKind {
        ByKind {
            clients: load(&self.clients),
            routes: load(&self.routes),
            ..ByKind::default()
        }
    }
}

/// What is counted for an account. Sessions add to it at the ends of batches.
#[derive(Default)]
pub(crate) struct AccountCounters {
    pub(crate) connections: AtomicUsize,
    pub(crate) connections_total: AtomicU64,
    pub(crate) messages_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) messages_out: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    /// Those of all these that were exchanged with other servers.
    routes: RouteCounters,
    /// What the account's clients on other servers are known to be.
    pub(crate) elsewhere: Elsewhere,
    pub(crate) slow_consumers: AtomicU64,
    pub(crate) cache_hits: AtomicU64,
    pub(crate) cache_misses: AtomicU64,
    pub(crate) fanout_max: AtomicU64,
    pub(crate) fanout_sum: AtomicU64,
    /// Entries in the threads' caches.
    cached: AtomicUsize,
}

#[derive(Default)]
struct RouteCounters {
    messages_in: AtomicU64,
    bytes_in: AtomicU64,
    messages_out: AtomicU64,
    bytes_out: AtomicU64,
}

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Messages received.
    pub messages_in: u64,
    /// Their bytes, header and payload.
    pub bytes_in: u64,
    /// Messages delivered.
    pub messages_out: u64,
    /// Their bytes, header and payload.
    pub bytes_out: u64,
}

/// What a batch delivered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Those of them that went to other servers.
    pub(crate) messages_to_routes: u64,
    pub(crate) bytes_to_routes: u64,
}

impl Traffic {
    fn plus(self, other: Self) -> Self {
        Self {
            messages_in: self.messages_in + other.messages_in,
            bytes_in: self.bytes_in + other.bytes_in,
            messages_out: self.messages_out + other.messages_out,
            bytes_out: self.bytes_out + other.bytes_out,
        }
    }
}

/// Messages of all kinds of connections, and those of them that were exchanged with other servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllTraffic {
    pub(crate) all: Traffic,
    pub(crate) routes: Traffic,
}

impl AllTraffic {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            all: self.all.plus(other.all),
            routes: self.routes.plus(other.routes),
        }
    }
}

/// Adds to a counter; nothing costs nothing.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

pub(crate) fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// How a thread's cache of receivers was used since the last time this was noted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CacheUse {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) fanout_max: u64,
    pub(crate) fanout_sum: u64,
}

impl CacheUse {
    /// Notes an answer of the index.
    pub(crate) fn missed(&mut self, fanout: usize) {
        self.misses += 1;
        self.fanout_max = self.fanout_max.max(fanout as u64);
        self.fanout_sum += fanout as u64;
    }
}

impl AccountCounters {
    pub(crate) fn snapshot(
        &self,
        name: &Arc<str>,
        index: &Index<Subscriber>,
        remote: &Index<RemoteSubscriber>,
    ) -> AccountSnapshot {
        let (hits, misses) = (load(&self.cache_hits), load(&self.cache_misses));
        let (subscriptions, peer_interest) = (index.len(), remote.len());
        let entries = subscriptions + peer_interest;
        let removes = index.removals() + remote.removals();
        AccountSnapshot {
            name: Arc::clone(name),
            connections: self.connections(),
            connections_total: load(&self.connections_total),
            connections_elsewhere: self.elsewhere.connections(),
            subscriptions,
            peer_interest,
            messages_in: load(&self.messages_in),
            bytes_in: load(&self.bytes_in),
            messages_out: load(&self.messages_out),
            bytes_out: load(&self.bytes_out),
            routes: self.route_traffic(),
            slow_consumers: load(&self.slow_consumers),
            index: IndexCounters {
                subscriptions: entries,
                cached: self.cached.load(Ordering::Relaxed),
                inserts: removes + entries as u64,
                removes,
                matches: hits + misses,
                cache_hits: hits,
                fanout_max: load(&self.fanout_max),
                fanout_sum: load(&self.fanout_sum),
            },
        }
    }

    pub(crate) fn all_traffic(&self) -> AllTraffic {
        AllTraffic {
            all: Traffic {
                messages_in: load(&self.messages_in),
                bytes_in: load(&self.bytes_in),
                messages_out: load(&self.messages_out),
                bytes_out: load(&self.bytes_out),
            },
            routes: self.route_traffic(),
        }
    }

    pub(crate) fn route_traffic(&self) -> Traffic {
        let routes = &self.routes;
        Traffic {
            messages_in: load(&routes.messages_in),
            bytes_in: load(&routes.bytes_in),
            messages_out: load(&routes.messages_out),
            bytes_out: load(&routes.bytes_out),
        }
    }

    /// Adds what a batch delivered in the account.
    pub(crate) fn add_delivered(&self, delivered: Delivered) {
        add(&self.messages_out, delivered.messages);
        add(&self.bytes_out, delivered.bytes);
        add(&self.routes.messages_out, delivered.messages_to_routes);
        add(&self.routes.bytes_out, delivered.bytes_to_routes);
    }

    /// Adds what another server sent into the account.
    pub(crate) fn add_received_from_route(&self, messages: u64, bytes: u64) {
        add(&self.messages_in, messages);
        add(&self.bytes_in, bytes);
        add(&self.routes.messages_in, messages);
        add(&self.routes.bytes_in, bytes);
    }

    /// Connections that are in the account now.
    pub(crate) fn connections(&self) -> usize {
        // The end of the release that a session leaves with, so that its last counts are seen.
        self.connections.load(Ordering::Acquire)
    }

    pub(crate) fn cached_more(&self) {
        self.cached.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn cached_less(&self) {
        self.cached.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection came in.
    pub(crate) fn entered(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        add(&self.connections_total, 1);
    }

    /// A connection came in, unless there are as many as there may be, those on other servers counted.
    pub(crate) fn entered_within(&self, connections_max: usize) -> bool {
        let connections_max = connections_max.saturating_sub(self.elsewhere.connections());
        let has_room = self
            .connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |connections| {
                (connections < connections_max).then_some(connections + 1)
            })
            .is_ok();
        add(&self.connections_total, u64::from(has_room));
        has_room
    }

    /// A connection ended or went to another account.
    pub(crate) fn left(&self) {
        self.connections.fetch_sub(1, Ordering::Release);
    }

    /// Adds what a batch came to.
    pub(crate) fn add_cache_use(&self, cache_use: CacheUse) {
        add(&self.cache_hits, cache_use.hits);
        if cache_use.misses > 0 {
            add(&self.cache_misses, cache_use.misses);
            add(&self.fanout_sum, cache_use.fanout_sum);
            self.fanout_max
                .fetch_max(cache_use.fanout_max, Ordering::Relaxed);
        }
    }
}
