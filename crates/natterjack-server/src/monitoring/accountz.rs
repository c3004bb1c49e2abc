//! `/accountz`: the accounts, or one of them.

use std::collections::BTreeMap;

use natterjack_engine::access::{
    Access, Export, Import, Latency, Mapping, ResponseType, Sampling, ServiceExport, ServiceImport,
    StreamExport, StreamImport,
};
use natterjack_engine::{AccountSnapshot, Engine, GLOBAL_ACCOUNT};
use serde::{Serialize, Serializer};
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
    /// Its mappings, by the subject that is mapped.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mappings: BTreeMap<String, Vec<MappingDestination>>,
    /// What it offers other accounts: services, then streams.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<ExportDetail>,
    /// What it uses of others: streams, then services, with those of the system account that every account has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<ImportDetail>,
    /// Its tag, which is its name.
    pub name_tag: String,
    /// How its index of subscriptions is used.
    pub sublist_stats: IndexStats,
}

/// One of the subjects that a mapping leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MappingDestination {
    /// The subject.
    pub subject: String,
    /// The percentage of messages that go there or to one before it.
    pub weight: u8,
    /// Only servers of this cluster send messages there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
}

/// Something an account offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExportDetail {
    /// Its subject.
    pub subject: String,
    /// `service` or `stream`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// How a service answers: `Singleton`, `Streamed` or `Chunked`.
    #[serde(skip_serializing_if = "is_default")]
    pub response_type: &'static str,
    /// Where it is told how long a service takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_latency: Option<LatencyDetail>,
    /// The accounts that may use it; all if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approved_accounts: Vec<String>,
}

/// Where it is told how long a service takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LatencyDetail {
    /// Which requests are measured: a percentage, or `headers`.
    #[serde(serialize_with = "sampling")]
    pub sampling: Sampling,
    /// The subject.
    pub results: String,
}

/// Something an account uses of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImportDetail {
    /// Its subject there.
    pub subject: String,
    /// The other account.
    pub account: String,
    /// Its subject here, if it is a service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// Its subject here.
    pub local_subject: String,
    /// `service` or `stream`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Never.
    pub invalid: bool,
    /// Whether a service is told who asks in detail.
    pub share: bool,
    /// Never; that is about single requests.
    pub tracking: bool,
    /// Where it is told how long the service takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyDetail>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn sampling<S: Serializer>(sampling: &Sampling, serializer: S) -> Result<S::Ok, S::Error> {
    match sampling {
        Sampling::Headers => serializer.serialize_str("headers"),
        Sampling::Percent(percent) => serializer.serialize_u8(*percent),
    }
}

impl From<&Latency> for LatencyDetail {
    fn from(latency: &Latency) -> Self {
        Self {
            sampling: latency.sampling,
            results: latency.subject.clone(),
        }
    }
}

impl From<&ServiceExport> for ExportDetail {
    fn from(export: &ServiceExport) -> Self {
        Self {
            subject: export.subject.clone(),
            kind: "service",
            response_type: match export.response_type {
                ResponseType::Streamed => "Streamed",
                ResponseType::Chunked => "Chunked",
                _ => "Singleton",
            },
            service_latency: export.latency.as_ref().map(Into::into),
            approved_accounts: export.accounts.clone(),
        }
    }
}

impl From<&StreamExport> for ExportDetail {
    fn from(export: &StreamExport) -> Self {
        Self {
            subject: export.subject.clone(),
            kind: "stream",
            response_type: "",
            service_latency: None,
            approved_accounts: export.accounts.clone(),
        }
    }
}

impl From<&StreamImport> for ImportDetail {
    fn from(import: &StreamImport) -> Self {
        Self {
            subject: import.subject.clone(),
            account: import.account.clone(),
            to: String::new(),
            local_subject: import.local_pattern(),
            kind: "stream",
            invalid: false,
            share: false,
            tracking: false,
            latency: None,
        }
    }
}

impl ImportDetail {
    fn of_service(import: &ServiceImport, access: &Access) -> Self {
        Self {
            subject: import.subject.clone(),
            account: import.account.clone(),
            to: import.local_pattern(),
            local_subject: import.local_pattern(),
            kind: "service",
            invalid: false,
            share: import.share,
            tracking: false,
            latency: access.latency_of(import).map(Into::into),
        }
    }
}

/// A mapping as nats-server keeps it: in each cluster the lesser shares first, each with those before it added, and what
/// is left over stays where it is.
fn destinations(mapping: &Mapping) -> Vec<MappingDestination> {
    let mut clusters: Vec<&str> = vec![""];
    for destination in &mapping.destinations {
        let cluster = destination.cluster.as_deref().unwrap_or_default();
        if !clusters.contains(&cluster) {
            clusters.push(cluster);
        }
    }
    let mut found = Vec::new();
    for cluster in clusters {
        let of_cluster = mapping.destinations.iter();
        let mut of_cluster: Vec<_> = of_cluster
            .filter(|destination| destination.cluster.as_deref().unwrap_or_default() == cluster)
            .collect();
        of_cluster.sort_by_key(|destination| destination.weight_percent);
        let mut total = 0_u8;
        let entry = |subject: &str, weight| MappingDestination {
            subject: subject.to_owned(),
            weight,
            cluster: cluster.to_owned(),
        };
        for destination in &of_cluster {
            total = total.saturating_add(destination.weight_percent);
            found.push(entry(&destination.subject, total));
        }
        let stays = of_cluster
            .iter()
            .any(|destination| destination.subject == mapping.source);
        if !of_cluster.is_empty() && total < 100 && !stays {
            found.push(entry(&mapping.source, 100));
        }
    }
    found
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
    let access = facts.options.access();
    let listed = access
        .accounts
        .iter()
        .find(|listed| *listed.name == *account.name);
    let global: &[Mapping] = if *account.name == *GLOBAL_ACCOUNT {
        &access.mappings
    } else {
        &[]
    };
    let mappings = listed.map_or(global, |listed| &listed.mappings);
    let (exports, imports) = listed.map_or((&[][..], &[][..]), |listed| {
        (&listed.exports[..], &listed.imports[..])
    });
    let services = access.services_offered(&account.name, &facts.system_account);
    let streams = exports.iter().filter_map(|export| match export {
        Export::Stream(export) => Some(export.into()),
        _ => None,
    });
    let exports = services.iter().map(Into::into).chain(streams).collect();
    let streams = imports.iter().filter_map(|import| match import {
        Import::Stream(import) => Some(import.into()),
        _ => None,
    });
    let services = access.services_used(&account.name, &facts.system_account);
    let services = services
        .iter()
        .map(|import| ImportDetail::of_service(import, &access));
    let imports = streams.chain(services).collect();
    AccountDetail {
        account_name: account.name.to_string(),
        update_time: Time(facts.provenance.loaded),
        is_system: *account.name == *facts.system_account,
        expired: false,
        complete: true,
        jetstream_enabled: false,
        leafnode_connections: 0,
        client_connections: account.connections,
        subscriptions: account.subscriptions + account.peer_interest,
        mappings: mappings
            .iter()
            .map(|mapping| (mapping.source.clone(), destinations(mapping)))
            .collect(),
        exports,
        imports,
        name_tag: account.name.to_string(),
        sublist_stats: (&account.index).into(),
    }
}
