//! `/accountz`: the accounts, or one of them.

use natterjack_engine::{AccountSnapshot, Engine};
use serde::Serialize;
use thiserror::Error;

use super::facts::ServerFacts;
use super::format::{Time, is_default};
use super::subsz::IndexStats;

/// An account of that name does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Account {0} does not exist")]
pub struct UnknownAccount(pub String);

/// The accounts, or one of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Accountz {
    /// The server's id.
    pub server_id: String,
    /// When this was written.
    pub now: Time,
    /// Name of the system account.
    #[serde(skip_serializing_if = "is_default")]
    pub system_account: String,
    /// Names of all accounts, in alphabetical order, if none was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    /// The account that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_detail: Option<AccountDetail>,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AccountDetail {
    /// Its name.
    pub account_name: String,
    /// When it was last configured.
    pub update_time: Time,
    /// Whether it is the system account.
    #[serde(skip_serializing_if = "is_default")]
    pub is_system: bool,
    /// Whether its claims have expired; it has none.
    pub expired: bool,
    /// Whether all is known of it; it always is.
    pub complete: bool,
    /// Whether it has JetStream.
    pub jetstream_enabled: bool,
    /// Leaf nodes in it.
    pub leafnode_connections: usize,
    /// Clients in it.
    pub client_connections: usize,
    /// Subscriptions in it.
    pub subscriptions: usize,
    /// Its tag, which is its name.
    pub name_tag: String,
    /// How its index of subscriptions is used.
    pub sublist_stats: IndexStats,
}

pub(crate) fn accountz(
    facts: &ServerFacts,
    engine: &Engine,
    account: Option<&str>,
) -> Result<Accountz, UnknownAccount> {
    let snapshots = engine.account_snapshots();
    let account_detail = match account {
        None => None,
        Some(name) => {
            let found = snapshots.iter().find(|account| *account.name == *name);
            Some(detail(
                facts,
                found.ok_or_else(|| UnknownAccount(name.to_owned()))?,
            ))
        }
    };
    let mut accounts = Vec::new();
    if account_detail.is_none() {
        accounts.extend(snapshots.iter().map(|account| account.name.to_string()));
        accounts.sort_unstable();
    }
    Ok(Accountz {
        server_id: facts.info.server_id.clone(),
        now: facts.time_of(facts.now),
        system_account: facts.system_account.clone(),
        accounts,
        account_detail,
    })
}

fn detail(facts: &ServerFacts, account: &AccountSnapshot) -> AccountDetail {
    AccountDetail {
        account_name: account.name.to_string(),
        update_time: Time(facts.provenance.loaded),
        is_system: *account.name == *facts.system_account,
        expired: false,
        complete: true,
        jetstream_enabled: false,
        leafnode_connections: 0,
        client_connections: account.connections,
        subscriptions: account.subscriptions,
        name_tag: account.name.to_string(),
        sublist_stats: (&account.index).into(),
    }
}
