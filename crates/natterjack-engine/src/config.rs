//! What an engine is configured with, and how a change of it reaches the sessions.
//!
//! A configuration is never changed: a new one with a higher generation takes its place. Each session holds the one
//! it goes by, and compares one number per batch to learn that there is a newer one; quiet sessions are woken. So
//! every session changes over between two batches of its own, in its own task, and nothing under way is lost.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hashbrown::HashMap;
use natterjack_wire::client::ServerInfo;

use crate::access::{
    Access, AccountAccess, AccountLimits, CompiledPermissions, Directory, Mapping, MessageTrace,
    Permissions,
};
use crate::account::{Account, GLOBAL_ACCOUNT};
use crate::delivery::outbox::{Outbox, OutboxLimits};
use crate::exchange::{Mappings, ServiceImports, StreamImports};
use crate::limits::{Limits, WriteTimeout};
use crate::mesh::settings::ClusterSettings;

/// Everything about an engine that can change while it runs.
#[derive(Clone, Debug)]
pub struct Reconfiguration {
    /// What clients are told of the server; `max_payload` and `auth_required` follow from the rest. When
    /// `max_payload` or `connect_urls` changes, clients that listen are sent it anew.
    pub info: ServerInfo,
    /// Bounds.
    pub limits: Limits,
    /// Who may connect.
    pub access: Access,
    /// The cluster. Whether there is one is settled at the start: what is said here about a cluster by a server that is
    /// in none does not count, and neither does it if nothing is said by one that is.
    pub cluster: Option<ClusterSettings>,
}

/// What clients are told of the cluster, beyond the configuration.
pub(crate) struct ClusterNews {
    pub(crate) name: Arc<str>,
    /// Where other servers' clients go.
    pub(crate) urls: Vec<String>,
}

/// What sessions go by.
pub(crate) struct Config {
    /// Higher than that of every configuration before it.
    pub(crate) generation: u64,
    pub(crate) info: ServerInfo,
    /// Of `info`, where clients reach this very server.
    pub(crate) own_urls: Vec<String>,
    /// Of `info`, where clients reach others: who is asked to leave goes there.
    pub(crate) other_urls: Vec<String>,
    /// The cluster's name, as it is configured.
    configured_name: String,
    pub(crate) limits: Limits,
    pub(crate) access: Access,
    pub(crate) cluster: Option<Arc<ClusterSettings>>,
    /// Interest in what is announced to peers, and accepted of them.
    pub(crate) route_permissions: Option<Arc<CompiledPermissions>>,
    /// The generation that brought `access`; as long as it is the same, nobody's rights have changed.
    pub(crate) access_generation: u64,
    /// `access`, compiled.
    pub(crate) directory: Arc<Directory>,
    /// The accounts there are: the global one first, the others by name.
    pub(crate) accounts: Vec<Arc<Account>>,
    /// The same by name, with what holds for them.
    by_name: HashMap<Arc<str>, Terms>,
    has_message_traces: bool,
}

/// What holds for an account.
struct Terms {
    account: Arc<Account>,
    limits: AccountLimits,
    mappings: Option<Arc<Mappings>>,
    message_trace: Option<Arc<MessageTrace>>,
    stream_imports: Option<Arc<StreamImports>>,
    service_imports: Arc<ServiceImports>,
}

impl Config {
    /// The configuration that follows `before`. Accounts that were there stay the same, with all that is in them.
    pub(crate) fn new(
        generation: u64,
        reconfiguration: Reconfiguration,
        before: Option<&Self>,
        news: Option<ClusterNews>,
    ) -> Self {
        let Reconfiguration {
            mut info,
            limits,
            access,
            cluster,
        } = reconfiguration;
        let cluster = match before.map(|before| &before.cluster) {
            None => cluster.map(Arc::new),
            Some(None) => None,
            Some(Some(former)) => match cluster {
                Some(cluster) if cluster != **former => Some(Arc::new(cluster)),
                _ => Some(Arc::clone(former)),
            },
        };
        let own_urls = info.connect_urls.clone();
        let mut other_urls = Vec::new();
        let configured_name = info.cluster.clone();
        if let Some(news) = news {
            info.cluster = news.name.to_string();
            other_urls = news.urls;
            info.connect_urls.extend_from_slice(&other_urls);
            for urls in [&mut info.connect_urls, &mut other_urls] {
                let mut seen = hashbrown::HashSet::<_>::default();
                urls.retain(|url| seen.insert(url.clone()));
            }
        }
        if (cluster.as_ref()).is_some_and(|cluster| cluster.no_advertise) {
            // Neither other servers' addresses nor this one's are to be known.
            info.connect_urls.clear();
            other_urls.clear();
        }
        let is_same_cluster = before.is_some_and(|before| before.info.cluster == info.cluster);
        let unchanged = before.filter(|before| before.access == access);
        let directory = unchanged.map_or_else(
            || Arc::new(Directory::new(&access)),
            |before| Arc::clone(&before.directory),
        );
        if unchanged.is_none() && access.has_plain_text_passwords() {
            tracing::warn!("Plaintext passwords detected, use nkeys or bcrypt");
        }
        info.max_payload = limits.payload_bytes_max as i64;
        info.auth_required = directory.announces_authentication();
        let mut names: Vec<&str> = access
            .accounts
            .iter()
            .map(|account| account.name.as_str())
            .collect();
        names.push(directory.system_account());
        names.sort_unstable();
        names.dedup();
        names.retain(|&name| name != GLOBAL_ACCOUNT);
        let account = |name: &str| {
            let known = before.and_then(|before| before.by_name.get(name));
            known.map_or_else(
                || {
                    let account = Account::new(name);
                    if cluster.is_some() {
                        account.interest.keep();
                    }
                    Arc::new(account)
                },
                |known| Arc::clone(&known.account),
            )
        };
        let accounts: Vec<Arc<Account>> = core::iter::once(GLOBAL_ACCOUNT)
            .chain(names)
            .map(account)
            .collect();
        let described: HashMap<&str, &AccountAccess> = access
            .accounts
            .iter()
            .map(|account| (account.name.as_str(), account))
            .collect();
        let found: HashMap<&str, &Arc<Account>> = accounts
            .iter()
            .map(|account| (account.name(), account))
            .collect();
        let terms = |account: &Arc<Account>| {
            let listed = described.get(account.name()).copied();
            let limits = listed.map(|listed| listed.limits).unwrap_or_default();
            let is_global = account.name() == GLOBAL_ACCOUNT;
            let global: &[Mapping] = if is_global { &access.mappings } else { &[] };
            let mappings = listed.map_or(global, |listed| &listed.mappings);
            let message_trace = listed.and_then(|listed| listed.message_trace.clone());
            let message_trace = message_trace.map(Arc::new);
            let compile = || Mappings::new(mappings, &info.cluster).map(Arc::new);
            if let Some(before) = unchanged.and_then(|before| before.by_name.get(account.name())) {
                return Terms {
                    account: Arc::clone(account),
                    limits,
                    message_trace,
                    mappings: if is_same_cluster {
                        before.mappings.clone()
                    } else {
                        compile()
                    },
                    stream_imports: before.stream_imports.clone(),
                    service_imports: Arc::clone(&before.service_imports),
                };
            }
            let find = |name: &str| found.get(name).map(|&account| Arc::clone(account));
            let stream_imports =
                listed.and_then(|listed| StreamImports::new(listed, &access, find));
            let system = directory.system_account();
            let describe = |name: &str| described.get(name).copied();
            let service_imports =
                ServiceImports::new(account.name(), &access, system, find, describe);
            Terms {
                account: Arc::clone(account),
                limits,
                message_trace,
                mappings: compile(),
                stream_imports: stream_imports.map(Arc::new),
                service_imports: Arc::new(service_imports),
            }
        };
        let by_name: HashMap<_, _> = accounts
            .iter()
            .map(|account| (Arc::clone(account.shared_name()), terms(account)))
            .collect();
        drop((found, described));
        let route_permissions = cluster.as_deref().and_then(|cluster| {
            let ClusterSettings { import, export, .. } = cluster;
            (import.is_some() || export.is_some()).then(|| {
                Arc::new(CompiledPermissions::new(&Permissions {
                    publish: import.clone().unwrap_or_default(),
                    subscribe: export.clone().unwrap_or_default(),
                    responses: None,
                }))
            })
        });
        Self {
            generation,
            access_generation: unchanged.map_or(generation, |before| before.access_generation),
            has_message_traces: by_name.values().any(|terms| terms.message_trace.is_some()),
            by_name,
            info,
            own_urls,
            other_urls,
            configured_name,
            limits,
            directory,
            accounts,
            access,
            cluster,
            route_permissions,
        }
    }

    /// What it was made of.
    pub(crate) fn reconfiguration(&self) -> Reconfiguration {
        Reconfiguration {
            info: ServerInfo {
                connect_urls: self.own_urls.clone(),
                cluster: self.configured_name.clone(),
                ..self.info.clone()
            },
            limits: self.limits.clone(),
            access: self.access.clone(),
            cluster: self.cluster.as_deref().cloned(),
        }
    }

    /// An account and its bounds.
    pub(crate) fn account(&self, name: &str) -> Option<(&Arc<Account>, AccountLimits)> {
        let terms = self.by_name.get(name)?;
        Some((&terms.account, terms.limits))
    }

    /// What becomes of subjects that clients of an account publish to.
    pub(crate) fn mappings(&self, account: &str) -> Option<&Arc<Mappings>> {
        self.by_name.get(account)?.mappings.as_ref()
    }

    /// What an account wants to know of messages with trace contexts.
    pub(crate) fn message_trace(&self, account: &str) -> Option<&Arc<MessageTrace>> {
        self.by_name.get(account)?.message_trace.as_ref()
    }

    /// Whether any account wants to know of such messages.
    pub(crate) fn has_message_traces(&self) -> bool {
        self.has_message_traces
    }

    /// What an account hears of others.
    pub(crate) fn stream_imports(&self, account: &str) -> Option<&Arc<StreamImports>> {
        self.by_name.get(account)?.stream_imports.as_ref()
    }

    /// Services of others that an account uses.
    pub(crate) fn service_imports(&self, account: &str) -> Option<&Arc<ServiceImports>> {
        Some(&self.by_name.get(account)?.service_imports)
    }

    pub(crate) fn outbox_limits(&self) -> OutboxLimits {
        OutboxLimits {
            pending_bytes_max: self.limits.pending_bytes_max,
            congested_bytes: self.limits.congested_bytes(),
            drop_bytes: self.limits.drop_bytes(),
            must_finish: self.limits.write_timeout == WriteTimeout::Close,
        }
    }
}

/// The change-over of the sessions that were open at a reconfiguration, as a future: ready once each of them goes
/// by the new configuration or is closed. They change over also if nobody waits for it.
#[must_use = "sessions change over in their own time; await this to know when all have"]
pub struct Adaptation {
    generation: u64,
    waiting_for: Vec<Arc<Outbox>>,
}

impl Adaptation {
    pub(crate) fn new(generation: u64, waiting_for: Vec<Arc<Outbox>>) -> Self {
        Self {
            generation,
            waiting_for,
        }
    }

    /// The number of the configuration; see [`Engine::is_adapted`](crate::Engine::is_adapted).
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Sessions that have not changed over as of now. Linear in their number.
    #[must_use]
    pub fn remaining(&self) -> usize {
        let is_behind = |outbox: &&Arc<Outbox>| !outbox.is_adapted(self.generation);
        self.waiting_for.iter().filter(is_behind).count()
    }
}

impl Future for Adaptation {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let generation = self.generation;
        while let Some(outbox) = self.waiting_for.last() {
            if outbox.wait_adapted(generation, context.waker()) {
                return Poll::Pending;
            }
            self.waiting_for.pop();
        }
        Poll::Ready(())
    }
}

impl std::fmt::Debug for Adaptation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Adaptation")
            .field("generation", &self.generation)
            .field("remaining", &self.remaining())
            .finish()
    }
}
