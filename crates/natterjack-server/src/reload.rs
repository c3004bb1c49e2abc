//! Exchanging the options of a running server: first everything that could go wrong, then everything at once.

use std::sync::Arc;
use std::time::Duration;

use natterjack_engine::{CloseReason, GLOBAL_ACCOUNT, Reconfiguration, SYSTEM_ACCOUNT};
use thiserror::Error;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::clock::now;
use crate::cluster;
use crate::configuration::{Change, Changes, Configuration};
use crate::identity::server_info;
use crate::options::{InvalidOption, Options};
use crate::server::Server;
use crate::tls::{TlsProblem, fingerprint};

/// How long a reload waits for the connections to go by the new options. They do so between two batches; only one
/// that is in its TLS handshake takes longer, and it changes over afterwards.
const CHANGE_OVER_MAX: Duration = Duration::from_secs(5);

/// Why a reload was refused. Nothing has changed then.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// Options that cannot work; all of them.
    #[error("invalid options: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Options(Vec<InvalidOption>),
    /// Options that only a new server can have; all of them.
    #[error("config reload not supported for {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NotLive(Vec<Change>),
    /// TLS cannot work with the new options and files; all that is wrong with them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Tls(Vec<TlsProblem>),
    /// An account that is not there is to have routes of its own.
    #[error("unable to add account \"{0}\" to the list of dedicated routes: account missing")]
    UnknownAccount(String),
    /// The same for routes.
    #[error("TLS of routes: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    ClusterTls(Vec<TlsProblem>),
}

impl Server {
    /// Replaces the options of the running server, and returns what has changed.
    ///
    /// Connections stay, with their subscriptions, and no message is lost. Closed are those whose user is gone or has
    /// another password, those whose certificate is none of `pinned_certs` any more, and the latest ones beyond a lower
    /// `max_connections`; subscriptions that are no longer allowed end.
    /// When this returns, connections go by the new options; one in its TLS handshake may follow later.
    /// [docs/options.md] tells which options can change.
    ///
    /// [docs/options.md]: https://github.com/natterjack/natterjack/blob/main/docs/options.md
    ///
    /// # Errors
    /// If any of the options cannot work or cannot change while the server runs; then everything stays as it was.
    pub async fn reload(&self, new: Options) -> Result<Changes, ReloadError> {
        let _one_after_another = self.reloading.lock().await;
        let problems = new.problems();
        if !problems.is_empty() {
            return Err(ReloadError::Options(problems));
        }
        let old = self.options();
        let changes = changes(&old, &new);
        if !changes.refused.is_empty() {
            return Err(ReloadError::NotLive(changes.refused));
        }
        let access = new.access();
        if let Some(cluster) = &new.cluster {
            let listed_before = |name: &String| {
                let before = old.cluster.as_ref();
                before.is_some_and(|before| before.accounts.contains(name))
            };
            let is_there = |name: &String| {
                name == GLOBAL_ACCOUNT
                    || access.system_account.as_deref().unwrap_or(SYSTEM_ACCOUNT) == name
                    || access.accounts.iter().any(|account| account.name == *name)
            };
            let mut added = cluster.accounts.iter().filter(|name| !listed_before(name));
            if let Some(missing) = added.find(|name| !is_there(name)) {
                return Err(ReloadError::UnknownAccount(missing.clone()));
            }
        }
        // Also if no option has changed: a reload reads the files again.
        self.reload_tls(&new).await?;
        let new = Arc::new(new);
        let reconfiguration = Reconfiguration {
            info: server_info(&new, self.server_id(), self.client_addr().port()),
            limits: new.limits(),
            access,
            cluster: (self.cluster_addr())
                .and_then(|address| cluster::settings(&new, address.port())),
        };
        let reconfigure = || self.shared.engine.reconfigure(reconfiguration, now());
        let adaptation = match (&self.shared.cluster, &new.cluster) {
            (Some(running), Some(new)) => running.replace(&new.routes, reconfigure),
            _ => reconfigure(),
        };
        self.shared.set_options(new);
        self.close_unpinned();
        if let Some(cluster) = &self.shared.cluster {
            cluster.close_unpinned();
        }
        let remaining = adaptation.remaining();
        if remaining > 0 && timeout(CHANGE_OVER_MAX, adaptation).await.is_err() {
            tracing::warn!("some connections are busy and will go by the new options later");
        }
        Ok(changes)
    }

    /// Loads the certificates of clients' and of routes' listeners, both or none.
    async fn reload_tls(&self, new: &Options) -> Result<(), ReloadError> {
        let (new, shared) = (new.clone(), Arc::clone(&self.shared));
        let load = move || {
            let routes = new.cluster.as_ref().and_then(|it| it.tls.as_ref());
            let cluster = shared.cluster.as_ref();
            if let Some(cluster) = cluster {
                cluster.tls.check(routes).map_err(ReloadError::ClusterTls)?;
            }
            let clients = &shared.tls;
            clients.reload(new.tls.as_ref()).map_err(ReloadError::Tls)?;
            match cluster {
                // Fails only if files have changed since they were looked at.
                Some(cluster) => cluster.tls.reload(routes).map_err(ReloadError::ClusterTls),
                None => Ok(()),
            }
        };
        match spawn_blocking(load).await {
            Ok(loaded) => loaded,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and this with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Closes the clients whose certificates are pinned no more. As on nats-server they are not told why. Those in clear
    /// text, which `allow_non_tls` lets in, have nothing that could be pinned.
    fn close_unpinned(&self) {
        let Some(context) = self.shared.tls.current() else {
            return;
        };
        let engine = &self.shared.engine;
        let closed = engine
            .connection_snapshots()
            .filter(|connection| {
                connection.client.tls.as_deref().is_some_and(|tls| {
                    !context.is_pinned(fingerprint(tls))
                        && engine.close_connection(connection.id, CloseReason::TlsHandshakeFailure)
                })
            })
            .count();
        if closed > 0 {
            tracing::info!("Disconnect {closed} clients due to pinned certs reload");
        }
    }
}

fn changes(old: &Options, new: &Options) -> Changes {
    let whole = |options: &Options| Configuration {
        options: options.clone(),
        ..Configuration::default()
    };
    whole(old).changes(&whole(new))
}
