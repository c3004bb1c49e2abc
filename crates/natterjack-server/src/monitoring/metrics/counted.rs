//! What both sorts of numbers are made from: one walk over the connections, and one over the accounts.

use natterjack_engine::{AccountSnapshot, Engine, IndexCounters};

pub(super) struct Counted {
    pub(super) connections: Connections,
    /// By name.
    pub(super) accounts: Vec<AccountSnapshot>,
    /// How the indexes of all accounts together are used.
    pub(super) index: IndexCounters,
}

/// Sums over all clients.
#[derive(Default)]
pub(super) struct Connections {
    pub(super) number: u64,
    pub(super) pending_bytes: u64,
    /// The same of the one for which most wait.
    pub(super) pending_bytes_most: u64,
    pub(super) subscriptions: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
}

impl Counted {
    /// Linear in connections and accounts.
    pub(super) fn of(engine: &Engine) -> Self {
        let mut connections = Connections::default();
        for connection in engine.connection_snapshots() {
            let pending_bytes = connection.pending_bytes as u64;
            connections.number += 1;
            connections.pending_bytes += pending_bytes;
            connections.pending_bytes_most = connections.pending_bytes_most.max(pending_bytes);
            connections.subscriptions += connection.subscriptions as u64;
            connections.bytes_in += connection.bytes_in;
            connections.bytes_out += connection.bytes_out;
            connections.messages_in += connection.messages_in;
            connections.messages_out += connection.messages_out;
        }
        let mut accounts = engine.account_snapshots();
        accounts.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        let all = accounts.iter().map(|account| &account.index);
        let index = all.fold(IndexCounters::default(), |sum, one| sum.plus(one));
        Self {
            connections,
            accounts,
            index,
        }
    }
}
