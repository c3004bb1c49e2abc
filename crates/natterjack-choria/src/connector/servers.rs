//! Whom to ask for servers. In which order they are tried is `natterjack-link`'s.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::server::ServerAddress;

type Answer = Pin<Box<dyn Future<Output = Vec<ServerAddress>> + Send>>;

/// Whom to ask for servers. Asked before every round of attempts, so that an answer may be another one each time.
#[derive(Clone)]
pub struct Servers(Arc<dyn Fn() -> Answer + Send + Sync>);

impl Servers {
    /// Always these, in this order.
    #[must_use]
    pub fn fixed(servers: Vec<ServerAddress>) -> Self {
        Self::found(move || {
            let servers = servers.clone();
            async move { servers }
        })
    }

    /// Those that `find` finds, in the order in which they are to be tried. If it finds none, those of the last time are
    /// tried again.
    #[must_use]
    pub fn found<F, Found>(find: F) -> Self
    where
        F: Fn() -> Found + Send + Sync + 'static,
        Found: Future<Output = Vec<ServerAddress>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(find())))
    }

    pub(super) async fn ask(&self) -> Vec<ServerAddress> {
        (self.0)().await
    }
}

impl From<Vec<ServerAddress>> for Servers {
    fn from(servers: Vec<ServerAddress>) -> Self {
        Self::fixed(servers)
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Servers")
    }
}
