//! `/accstatz`: what the accounts are doing.

use natterjack_engine::{AccountSnapshot, Engine};
use serde::Serialize;

use super::facts::ServerFacts;
use super::format::Time;

/// What the accounts are doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Accstatz {
    /// The server's id.
    pub server_id: String,
    /// When this was written.
    pub now: Time,
    /// The accounts, by name.
    pub account_statz: Vec<AccountStats>,
}

/// What one account is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AccountStats {
    /// Its name.
    pub acc: String,
    /// Its tag, which is its name.
    pub name: String,
    /// Connections in it.
    pub conns: usize,
    /// Leaf nodes in it.
    pub leafnodes: usize,
    /// Both together.
    pub total_conns: usize,
    /// Subscriptions in it, and interest of other servers.
    pub num_subscriptions: usize,
    /// Delivered to its clients, and to other servers.
    pub sent: Traffic,
    /// Published by its clients, and received from other servers.
    pub received: Traffic,
    /// Its connections that were closed because they could not keep up.
    pub slow_consumers: u64,
}

/// Messages, and those of them that were exchanged with other servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Traffic {
    /// How many.
    pub msgs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// With gateways.
    pub gateways: Messages,
    /// With routes.
    pub routes: Messages,
    /// With leaf nodes.
    pub leafs: Messages,
}

/// Messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Messages {
    /// How many.
    pub msgs: u64,
    /// Their bytes.
    pub bytes: u64,
}

pub(crate) fn accstatz(facts: &ServerFacts, engine: &Engine, with_unused: bool) -> Accstatz {
    accstatz_of(facts, engine, None, with_unused)
}

/// The same for the accounts named.
pub(crate) fn accstatz_of(
    facts: &ServerFacts,
    engine: &Engine,
    names: Option<&[String]>,
    with_unused: bool,
) -> Accstatz {
    let is_named = |account: &AccountSnapshot| {
        names.is_none_or(|names| names.iter().any(|name| **name == *account.name))
    };
    let mut snapshots = engine.account_snapshots();
    snapshots.retain(|account| is_named(account) && (with_unused || account.connections > 0));
    snapshots.sort_unstable_by(|left, right| left.name.cmp(&right.name));
    Accstatz {
        server_id: facts.info.server_id.clone(),
        now: facts.time_of(facts.now),
        account_statz: snapshots.iter().map(AccountStats::from).collect(),
    }
}

impl From<&AccountSnapshot> for AccountStats {
    fn from(account: &AccountSnapshot) -> Self {
        Self {
            acc: account.name.to_string(),
            name: account.name.to_string(),
            conns: account.connections,
            leafnodes: 0,
            total_conns: account.connections,
            num_subscriptions: account.subscriptions + account.peer_interest,
            sent: Traffic {
                msgs: account.messages_out,
                bytes: account.bytes_out,
                routes: Messages {
                    msgs: account.routes.messages_out,
                    bytes: account.routes.bytes_out,
                },
                ..Traffic::default()
            },
            received: Traffic {
                msgs: account.messages_in,
                bytes: account.bytes_in,
                routes: Messages {
                    msgs: account.routes.messages_in,
                    bytes: account.routes.bytes_in,
                },
                ..Traffic::default()
            },
            slow_consumers: account.slow_consumers,
        }
    }
}
