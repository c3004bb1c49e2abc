//! The open connections of a server, by number.
//!
//! In shards with a lock each, so that a list of all of them holds up whoever connects or leaves for the copying
//! of one shard's references at most: with 100,000 connections, 1,600 of them. Delivery needs none of these locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::record::Record;

/// A power of two.
const SHARDS: usize = 64;

pub(crate) struct Connections {
    shards: [Mutex<HashMap<u64, Arc<Record>>>; SHARDS],
    len: AtomicUsize,
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            len: AtomicUsize::new(0),
        }
    }

    /// Connections that are open.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds one, and tells how many there were before.
    pub(crate) fn insert(&self, record: Arc<Record>) -> usize {
        let id = record.outbox().id();
        self.shard(id).lock().insert(id, record);
        self.len.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn remove(&self, id: u64) -> Option<Arc<Record>> {
        let mut shard = self.shard(id).lock();
        let removed = shard.remove(&id);
        if removed.is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
            // A server that once had many does not keep the memory for them.
            let room = shard.len() * 2;
            if shard.capacity() > 64 && room < shard.capacity() / 2 {
                shard.shrink_to(room);
            }
        }
        removed
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<Record>> {
        self.shard(id).lock().get(&id).cloned()
    }

    /// All of them, shard by shard, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Arc<Record>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
    }

    fn shard(&self, id: u64) -> &Mutex<HashMap<u64, Arc<Record>>> {
        &self.shards[id as usize % SHARDS]
    }
}
