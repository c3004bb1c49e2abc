//! How many connections an account has on other servers, as those say (monitoring reference, section 5, event `CONNS`).
//!
//! Each says its own number, again and again, so that what is lost or comes twice does no harm.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use natterjack_wire::client;
use natterjack_wire::error::ErrorReply;
use parking_lot::Mutex;

use crate::account::Account;
use crate::close_reason::CloseReason;
use crate::engine::Engine;

/// Servers that are remembered for an account. More than there are in any cluster; whoever may publish in the system
/// account could name as many as it likes.
const SERVERS_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Elsewhere {
    /// Those that have any, by id.
    servers: Mutex<BTreeMap<Box<str>, usize>>,
    connections: AtomicUsize,
}

impl Elsewhere {
    /// Connections on all other servers.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Servers that have any.
    fn servers(&self) -> usize {
        self.servers.lock().len()
    }

    fn set(&self, server: &str, connections: usize) {
        let mut servers = self.servers.lock();
        if connections == 0 {
            servers.remove(server);
        } else if let Some(known) = servers.get_mut(server) {
            *known = connections;
        } else if servers.len() < SERVERS_MAX {
            servers.insert(server.into(), connections);
        }
        let sum = servers
            .values()
            .fold(0_usize, |sum, connections| sum.saturating_add(*connections));
        self.connections.store(sum, Ordering::Relaxed);
    }
}

impl Account {
    /// Other servers that are known to have connections in the account.
    #[must_use]
    pub fn servers_elsewhere(&self) -> usize {
        self.counters.elsewhere.servers()
    }
}

impl Engine {
    /// Another server has so many connections in an account. If that is more than the account may have, as many of
    /// those that came last to this server are told so and closed; the other servers do the same, so there may be too
    /// few for a moment, as on nats-server. An account that is not here is nothing to note. Linear in the connections
    /// if there are too many.
    pub fn note_connections_elsewhere(
        &self,
        account: &str,
        server: &str,
        connections: usize,
        now: Instant,
    ) {
        let config = self.config();
        let Some((account, limits)) = config.account(account) else {
            return;
        };
        account.counters.elsewhere.set(server, connections);
        let connections_max = limits.connections_max;
        let Some(connections_max) = connections_max.and_then(|max| usize::try_from(max).ok())
        else {
            return;
        };
        let counters = &account.counters;
        let all = (counters.connections()).saturating_add(counters.elsewhere.connections());
        let surplus = all.saturating_sub(connections_max);
        if surplus > 0 {
            self.close_latest(account, surplus, now);
        }
    }

    /// Accounts that may have only so many connections on all servers together. Linear in the accounts.
    #[must_use]
    pub fn accounts_with_connection_limit(&self) -> Vec<Arc<Account>> {
        let config = self.config();
        let is_limited = |account: &&Arc<Account>| {
            let limits = config.account(account.name()).map(|(_, limits)| limits);
            limits.is_some_and(|limits| limits.connections_max.is_some_and(|max| max >= 0))
        };
        config.accounts.iter().filter(is_limited).cloned().collect()
    }

    /// A server is gone, and what it had with it.
    pub fn forget_server(&self, server: &str) {
        for account in self.accounts() {
            account.counters.elsewhere.set(server, 0);
        }
    }

    fn close_latest(&self, account: &Account, count: usize, now: Instant) {
        let mut members: Vec<_> = self
            .records()
            .filter(|open| Arc::ptr_eq(&open.client().account, account.shared_name()))
            .collect();
        members.sort_unstable_by_key(|open| Reverse((open.started(), open.outbox().id())));
        for open in members.iter().take(count) {
            let mut text = Vec::new();
            client::error(&mut text, &ErrorReply::AccountConnectionsExceeded);
            open.outbox().append(&text);
            open.outbox().flush(now);
            open.outbox().close(CloseReason::AccountConnectionsExceeded);
        }
        if !members.is_empty() {
            tracing::info!(
                "Closed {} connections of account {:?}: it has more on all servers than it may",
                members.len().min(count),
                account.name()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_counts_with_what_it_said_last() {
        let elsewhere = Elsewhere::default();
        elsewhere.set("A", 3);
        elsewhere.set("B", 4);
        elsewhere.set("A", 1);
        assert_eq!((elsewhere.connections(), elsewhere.servers()), (5, 2));
        elsewhere.set("B", 0);
        assert_eq!((elsewhere.connections(), elsewhere.servers()), (1, 1));
        elsewhere.set("A", usize::MAX);
        elsewhere.set("C", 1);
        assert_eq!(elsewhere.connections(), usize::MAX);
    }

    #[test]
    fn no_more_servers_are_remembered_than_allowed() {
        let elsewhere = Elsewhere::default();
        for number in 0..SERVERS_MAX + 10 {
            elsewhere.set(&number.to_string(), 1);
        }
        assert_eq!(elsewhere.servers(), SERVERS_MAX);
        elsewhere.set("0", 0);
        assert_eq!(elsewhere.connections(), SERVERS_MAX - 1);
    }
}
