//! The connections that ended last.
//!
//! What is kept of each is a snapshot and who it was: about 200 bytes and its names, which are cut to a bound, and
//! its peer's certificates if it had any. With the default of 10,000 that is some 4 MB, reached only by as
//! many closings.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::snapshot::{ClientFacts, ConnectionSnapshot};

/// Bytes kept of each text a client chose. The names of 10,000 that mean harm are then 10 MB at most.
const TEXT_BYTES_MAX: usize = 256;

/// Entries copied under one hold of the lock.
const CHUNK: usize = 256;

pub(crate) struct ClosedConnections(Mutex<Ring>);

struct Ring {
    entries: VecDeque<ConnectionSnapshot>,
    max: usize,
    /// Entries that were ever dropped from the front.
    dropped: u64,
}

impl ClosedConnections {
    pub(crate) fn new(max: usize) -> Self {
        Self(Mutex::new(Ring {
            entries: VecDeque::new(),
            max,
            dropped: 0,
        }))
    }

    pub(crate) fn push(&self, mut entry: ConnectionSnapshot) {
        entry.client = shortened(entry.client);
        entry.pending_bytes = 0;
        let mut ring = self.0.lock();
        ring.entries.push_back(entry);
        ring.trim();
    }

    /// How many are kept from now on.
    pub(crate) fn set_max(&self, max: usize) {
        let mut ring = self.0.lock();
        ring.max = max;
        ring.trim();
        ring.entries.shrink_to(max);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().entries.len()
    }

    /// All that are kept, the one that ended first coming first.
    pub(crate) fn list(&self) -> Vec<ConnectionSnapshot> {
        let mut found = Vec::new();
        let mut next = self.0.lock().dropped;
        loop {
            let ring = self.0.lock();
            let start = usize::try_from(next.saturating_sub(ring.dropped)).unwrap_or(usize::MAX);
            next = next.max(ring.dropped);
            let before = found.len();
            found.extend(ring.entries.iter().skip(start).take(CHUNK).cloned());
            next += (found.len() - before) as u64;
            // Bounded also if connections end faster than this goes on.
            if found.len() == before || found.len() >= ring.max.saturating_add(CHUNK) {
                return found;
            }
        }
    }
}

impl Ring {
    fn trim(&mut self) {
        while self.entries.len() > self.max {
            self.entries.pop_front();
            self.dropped += 1;
        }
    }
}

fn shortened(facts: Arc<ClientFacts>) -> Arc<ClientFacts> {
    let user_bytes = facts.user.as_ref().map_or(0, |user| user.len());
    let texts = [
        facts.name.len(),
        facts.language.len(),
        facts.version.len(),
        user_bytes,
    ];
    if texts.iter().all(|&bytes| bytes <= TEXT_BYTES_MAX) {
        return facts;
    }
    Arc::new(ClientFacts {
        name: cut(&facts.name),
        language: cut(&facts.language),
        version: cut(&facts.version),
        account: Arc::clone(&facts.account),
        user: facts.user.as_deref().map(cut),
        tls: facts.tls.clone(),
    })
}

fn cut(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].into()
}
