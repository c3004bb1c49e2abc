//! Sees to it that keys and certificates which were written anew are taken: from time to time, and before each round of
//! attempts to connect.
//!
//! A connection that is there stays: servers look at certificates when it is made, and not later.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::servers::Servers;
use super::shared::Wish;
use crate::ssl::Ssl;

/// Looks at the files until the connector is stopped.
pub(super) async fn watch(ssl: Ssl, mut wish: watch::Receiver<Wish>, period: Duration) {
    let looking = async {
        // An interval of nothing would panic.
        let mut ticks = interval(period.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            look(&ssl);
        }
    };
    tokio::select! {
        // It ends with the connector as well, which has the sender.
        _ = wish.wait_for(|wish| *wish == Wish::Stopped) => {}
        () = looking => {}
    }
}

/// The same servers; whoever asks for them has the files looked at, too.
pub(super) fn before_attempts(ssl: Ssl, servers: Servers) -> Servers {
    Servers::found(move || {
        let (ssl, servers) = (ssl.clone(), servers.clone());
        async move {
            look(&ssl);
            servers.ask().await
        }
    })
}

fn look(ssl: &Ssl) {
    let now = now();
    ssl.refresh(now);
    ssl.notice_expiry(now);
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a certificate is valid is a matter of the calendar"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
