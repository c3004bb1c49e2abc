//! What happened, as a hash of everything and the last events in full.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use natterjack_engine::CloseReason;

/// Events kept in full.
const KEPT: usize = 80;

/// One thing that happened. Connections have numbers of their own here, which are never used again.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Event {
    Reconfigured {
        generation: u64,
        connections_max: usize,
    },
    Opened {
        connection: usize,
    },
    Turn {
        connection: usize,
        depth: usize,
    },
    Read {
        connection: usize,
        bytes: usize,
        worker: usize,
    },
    Written {
        connection: usize,
        offered: usize,
        taken: usize,
    },
    Stalled {
        connection: usize,
    },
    Ending {
        connection: usize,
        reason: &'static str,
    },
    Ended {
        connection: usize,
    },
    Link {
        connection: usize,
        room: usize,
        arrived: usize,
    },
    Published {
        connection: usize,
        first: usize,
        count: usize,
        subject: &'static str,
    },
    Subscribed {
        connection: usize,
        sid: u64,
        pattern: &'static str,
        queue: Option<&'static str>,
    },
    Unsubscribed {
        connection: usize,
        sid: u64,
        max: Option<u64>,
    },
    Pinged {
        connection: usize,
    },
    Ponged {
        connection: usize,
    },
    Received {
        connection: usize,
        sid: u64,
        publisher: usize,
        sequence: usize,
    },
    Paused {
        connection: usize,
    },
    Died {
        connection: usize,
    },
    Healing,
    Closing,
}

impl Event {
    pub(crate) fn ending(connection: usize, reason: CloseReason) -> Self {
        let reason = reason.text();
        Self::Ending { connection, reason }
    }
}

/// Events of one kind of game.
pub(crate) struct Trace<E> {
    hasher: DefaultHasher,
    last: VecDeque<(Duration, E)>,
}

impl<E> Default for Trace<E> {
    fn default() -> Self {
        Self {
            hasher: DefaultHasher::new(),
            last: VecDeque::new(),
        }
    }
}

impl<E: Hash + fmt::Debug> Trace<E> {
    pub(crate) fn note(&mut self, time: Duration, event: E) {
        (time, &event).hash(&mut self.hasher);
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((time, event));
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// The last events, oldest first, one line each.
    pub(crate) fn last(&self) -> Vec<String> {
        self.last
            .iter()
            .map(|(time, event)| format!("{:>12.6} {event:?}", time.as_secs_f64()))
            .collect()
    }
}
