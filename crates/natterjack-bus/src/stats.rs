//! What the bus has counted since it started.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// Counters of a bus. Each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Events accepted by `publish`.
    pub published_events: u64,
    /// Events refused by `publish`, for whatever reason.
    pub refused_events: u64,
    /// Events that arrived, own ones included.
    pub received_events: u64,
    /// Own events among them.
    pub own_events: u64,
    /// Own events that will not come back: broken off with a connection, or overflowed on arrival.
    pub lost_events: u64,
    /// Events of other nodes that their servers had and that never arrived here: dropped between servers, or published
    /// while this node was away. Found out by the health events, so up to two of their intervals later.
    pub missed_events: u64,
    /// Events that arrived and found no room.
    pub overflowed_events: u64,
    /// Events without an identifier that were left out around a planned change of servers, since they say the same as ones
    /// that came over the other server. Programs with this library send none.
    pub repeated_events: u64,
    /// Messages that were not events.
    pub undecodable_messages: u64,
    /// Events that arrived and that no subscriber wanted: of another type, with another key, or there was none. They count
    /// as received.
    pub ignored_events: u64,
    /// Times the user's code panicked: in decoding, a filter, or a handler of questions.
    pub panics: u64,
    /// Events dropped by subscribers' queues under a dropping policy.
    pub subscriber_dropped_events: u64,
    /// Times the connection to the server broke.
    pub disconnects: u64,
    /// Times the connection to the server came back.
    pub reconnects: u64,
    /// Times a server that was soon to be gone was left for another one, without being disconnected.
    pub moves: u64,
}

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        #[derive(Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64),* }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.load(Relaxed)),* }
            }
        }
    };
}

counters!(
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
);

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
