//! Sees to it that keys and certificates which were written anew are taken: from time to time, and before each round of
//! attempts to connect.
//!
//! A connection that was made with an older certificate of ours is replaced by one with the new: not at once, for a whole
//! fleet may have renewed its certificates, and only when the new one is there and subscribed to everything; what comes over
//! both is handed on once (`overlap`). As long as it cannot be made the old one
//! stays, also beyond its certificate's end: servers look at certificates when a connection is made, and not later.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use natterjack_link::{Candidate, Phase};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::dial::{Connection, DialError};
use super::event::Event;
use super::link::{Source, subscribe_ahead};
use super::servers::Servers;
use super::shared::{Core, Wish};
use crate::server::ServerAddress;
use crate::ssl::Ssl;

/// Before a connection with a renewed certificate is tried for once more, if the server did not take it; half to one and a
/// half of it by chance.
const RETRY: Duration = Duration::from_secs(60);

/// How long the server may take to accept subscriptions. For so long messages may come over two connections.
const SUBSCRIBING_MAX: Duration = Duration::from_secs(10);

/// Our certificate, as some server has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    certificate_pem: Arc<str>,
    ends: SystemTime,
}

impl Shown {
    pub(super) fn now(ssl: &Ssl) -> Self {
        Self {
            certificate_pem: ssl.certificate_pem(),
            ends: ssl.ends(),
        }
    }
}

/// A connection to the same server with a newer certificate than the one that was shown to it, once there is one.
pub(super) async fn successor(core: &Core, server: &ServerAddress, shown: &Shown) -> Connection {
    let ssl = &core.caller.ssl;
    let mut ticks = ticks(core.options.files_interval);
    while Shown::now(ssl) == *shown {
        ticks.tick().await;
    }
    let pause = pause(core.options.renewal_spread, shown.ends, now());
    tracing::info!(
        %server,
        "our certificate was renewed; in {} s there will be a connection with the new one",
        pause.as_secs()
    );
    rest(pause).await;
    let candidate = Candidate {
        server: server.clone(),
        is_learnt: false,
    };
    loop {
        match next(core, &candidate).await {
            Ok(connection) => return connection,
            Err(reason) => {
                core.close_overlap();
                tracing::warn!(
                    %server, error = %reason, "no connection with the renewed certificate; the old one stays for now"
                );
                core.tell(Event::Failed {
                    server: server.clone(),
                    reason: Arc::new(reason),
                });
            }
        }
        rest(RETRY.mul_f64(0.5 + fastrand::f64())).await;
        core.forget_overlap();
    }
}

/// One that is subscribed to all that the old one is.
async fn next(core: &Core, candidate: &Candidate<ServerAddress>) -> Result<Connection, DialError> {
    let mut connection = core.caller.dial(candidate).await?;
    let from = Source {
        server: &connection.server,
        connection: connection.number,
    };
    let subscribing = subscribe_ahead(core, from, &mut connection.dialled);
    let subscribed = timeout(SUBSCRIBING_MAX, subscribing).await;
    let subscribed = subscribed.unwrap_or(Err(DialError::Timeout {
        phase: Phase::Greeting,
        limit: SUBSCRIBING_MAX,
    }))?;
    connection.subscribed = Some(subscribed);
    Ok(connection)
}

/// By chance less than the spread, and than half of the time until the old certificate ends.
fn pause(spread: Duration, ends: SystemTime, now: SystemTime) -> Duration {
    let left = ends.duration_since(now).unwrap_or_default();
    spread.min(left / 2).mul_f64(fastrand::f64())
}

/// Ended early by whoever drops it.
pub(super) async fn rest(pause: Duration) {
    let _ = timeout(pause, std::future::pending::<()>()).await;
}

fn ticks(period: Duration) -> Interval {
    // An interval of nothing would panic.
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Looks at the files until the connector is stopped.
pub(super) async fn watch(ssl: Ssl, mut wish: watch::Receiver<Wish>, period: Duration) {
    let looking = async {
        let mut ticks = ticks(period);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_made_anew_at_different_times_and_before_the_old_certificate_ends() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687);
        let [hour, day] = [3_600, 86_400].map(Duration::from_secs);
        let pauses = |left| (0..1_000).map(move |_| pause(hour, now + left, now));
        assert!(pauses(day).all(|pause| pause < hour));
        assert!(
            pauses(day).any(|pause| pause > hour / 2) && pauses(day).any(|pause| pause < hour / 2)
        );
        assert!(pauses(hour).all(|pause| pause < hour / 2));
        assert_eq!(pause(hour, now, now), Duration::ZERO);
        assert_eq!(pause(hour, now - day, now), Duration::ZERO);
    }
}
