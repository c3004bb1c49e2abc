//! Accepting connections of other servers.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::route::{self, Dialled};
use crate::clock::now;
use crate::lifecycle::{OwnPass, Phase};
use crate::net::listener::Refused;
use crate::server::Shared;

/// Pause after the system refused to accept, which it does when it has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the server stops; until then it keeps the pass.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener, _accepting: OwnPass) {
    // Moved in here, so that it is closed before the pass is given back.
    let listener = listener;
    let mut refused = Refused::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.lifecycle.reached(Phase::Draining) => return,
        };
        match accepted {
            Ok((tcp, address)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(route::serve(shared, tcp, address, Dialled::No));
            }
            Err(error) => {
                if let Some(unsaid) = refused.note(now()) {
                    tracing::error!(%error, unsaid, "accepting a route connection failed");
                }
                let stopping = shared.lifecycle.reached(Phase::Draining);
                let _ = tokio::time::timeout(ACCEPT_PAUSE, stopping).await;
            }
        }
    }
}
