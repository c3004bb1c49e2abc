//! The service manager's watchdog: it is told that we are alive only as long as tasks run, timers fire and the server
//! answers. If any of that stops, so do the messages, and the manager starts the process anew.

use std::sync::Arc;
use std::time::Duration;

use natterjack_server::Server;
use tokio::time::{MissedTickBehavior, interval};

use crate::systemd::Notifier;

/// Starts to tell, on the server's own runtime, if the manager wants to know.
pub(crate) fn start(notifier: Arc<Notifier>, server: Arc<Server>) {
    let Some(deadline) = notifier.watchdog() else {
        return;
    };
    tracing::debug!(
        "Telling the service manager every {:?} that all is well",
        pause(deadline)
    );
    tokio::spawn(async move {
        let mut ticks = interval(pause(deadline));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let server = Arc::clone(&server);
            // In a task of its own, so that it has to be scheduled like any other. The numbers do not matter: a server
            // that holds its locks for ever does not come back with them.
            let asked = tokio::spawn(async move { (server.connections(), server.subscriptions()) });
            if asked.await.is_ok() {
                notifier.alive();
            }
        }
    });
}

/// As sd_watchdog_enabled(3) advises.
fn pause(deadline: Duration) -> Duration {
    deadline / 2
}
