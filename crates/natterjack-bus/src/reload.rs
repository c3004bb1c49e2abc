//! New settings for a bus that runs: what is taken over, and what only another start takes.
//!
//! Routes and what is advertised are about other servers and come with them: who adds a node to a cluster wants all nodes
//! to know it, and none of them to stop. Everything else stands for what this node is, and stays as it began.

use std::sync::Arc;

use crate::core::Core;
use crate::settings::{Problem, Problems, Settings};

/// Options that a bus takes over while it runs.
const LIVE: [&str; 2] = [
    "eventBus.nats.server.cluster.advertise",
    "eventBus.nats.server.cluster.routes",
];

/// What became of new settings. Options are named by their full paths, such as `eventBus.nats.server.cluster.routes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Options that have changed, and are in force.
    pub taken: Vec<&'static str>,
    /// Options that have changed, and will be in force when the bus is started anew with these settings.
    pub at_next_start: Vec<&'static str>,
}

/// Why new settings were not taken over. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// They contradict themselves, or files they name are not what they should be.
    #[error("{0}")]
    Settings(Problems),
    /// The embedded server refused them.
    #[error("eventBus.nats.server: the embedded server goes on as it was: {0}")]
    Server(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bus is being drained, or has been.
    #[error("the bus is closed")]
    Closed,
}

impl Core {
    /// See [`crate::EventBus::reload`].
    pub(crate) async fn reload(self: &Arc<Self>, new: Settings) -> Result<Reloaded, ReloadError> {
        // In a task of its own: the server must not have taken over what is not noted down as being in force, because
        // somebody stopped waiting.
        let core = Arc::clone(self);
        let reloading = tokio::spawn(async move { core.reload_once(&new).await });
        reloading
            .await
            .unwrap_or_else(|failed| match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends.
                Err(_) => Err(ReloadError::Closed),
            })
    }

    async fn reload_once(&self, new: &Settings) -> Result<Reloaded, ReloadError> {
        let mut in_force = self.in_force.lock().await;
        if self.is_draining() {
            return Err(ReloadError::Closed);
        }
        let problems = new.problems();
        if problems.iter().any(Problem::is_error) {
            return Err(ReloadError::Settings(Problems(problems)));
        }
        let changed = in_force.differences(new);
        let is_live = |option: &&str| self.embedded.is_some() && LIVE.contains(option);
        let (taken, at_next_start): (Vec<_>, Vec<_>) = changed.into_iter().partition(is_live);
        if let Some(embedded) = &self.embedded {
            let mut next = in_force.clone();
            let (cluster, wanted) = (&mut next.nats.server.cluster, &new.nats.server.cluster);
            cluster.routes.clone_from(&wanted.routes);
            cluster.advertise.clone_from(&wanted.advertise);
            // Also if nothing has changed: the files of TLS are read again, and at once.
            let reloaded = embedded.reload(&next.nats).await;
            reloaded.map_err(|error| ReloadError::Server(Box::new(error)))?;
            *in_force = next;
        }
        Ok(Reloaded {
            taken,
            at_next_start,
        })
    }
}
