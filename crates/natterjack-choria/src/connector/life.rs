//! The task of a connector: it connects, and when the connection is lost connects again, for as long as somebody wants it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::backoff::{Attempts, Cause};
use super::dial::Connection;
use super::event::{Event, count};
use super::link::{LossReason, Source, drive, learn};
use super::renewal::{self, rest};
use super::shared::{Core, Status, Wish};
use crate::server::ServerAddress;

/// What a server takes if it does not say.
const PAYLOAD_BYTES_MAX_DEFAULT: usize = 1 << 20;

/// How long after one connection has taken the place of another it is known what came over that: the server may take a
/// while to bring the same over the next one.
const OVERLAP_KEPT: Duration = Duration::from_secs(60);

pub(super) async fn run(core: Arc<Core>) {
    let mut wish = core.wish.subscribe();
    let mut attempts = Attempts::default();
    // The sender is in the core, so there is always an answer.
    while let Ok(wanted) = wish
        .wait_for(|wish| *wish != Wish::Idle)
        .await
        .map(|wish| *wish)
    {
        if wanted == Wish::Stopped {
            break;
        }
        let connected = tokio::select! {
            biased;
            _ = wish.wait_for(|wish| *wish != Wish::Connected) => None,
            connected = connect(&core, &mut attempts) => Some(connected),
        };
        let mut connection = connected;
        while let Some(connected) = connection {
            let begin = now();
            connection = stay(&core, connected, attempts.cause()).await;
            attempts.lost_after(now() - begin);
        }
    }
    core.stopped();
    core.status.send_replace(Status::Stopped);
    tracing::info!("the connection to the middleware is closed");
    core.tell(Event::Closed);
}

/// Tries servers until one takes us.
async fn connect(core: &Core, attempts: &mut Attempts) -> Connection {
    let mut random = fastrand::Rng::new();
    if attempts.cause() == Cause::Loss {
        rest(attempts.pause(&mut random)).await;
    }
    loop {
        if let Some(connected) = try_each(core, &mut random).await {
            return connected;
        }
        let pause = attempts.pause(&mut random);
        tracing::debug!(?pause, "no server can be connected to; trying again");
        rest(pause).await;
        attempts.failed();
    }
}

/// One round. What was found before is found again, since it may be something else by now.
async fn try_each(core: &Core, random: &mut fastrand::Rng) -> Option<Connection> {
    let found = core.servers.ask().await;
    let is_empty = {
        let mut pool = core.pool();
        pool.replace(found);
        pool.begin_round(random);
        pool.is_empty()
    };
    if is_empty {
        tracing::warn!("there are no servers to connect to");
        core.tell(Event::NoServers);
    }
    loop {
        let candidate = core.pool().take()?;
        let server = &candidate.server;
        tracing::debug!(%server, "connecting");
        match core.caller.dial(&candidate).await {
            Ok(connection) => return Some(connection),
            Err(reason) => {
                let error = format!("{reason}{}", core.caller.advice(&reason));
                tracing::error!(%server, error, "cannot connect; trying the next server");
                core.tell(Event::Failed {
                    server: server.clone(),
                    reason: Arc::new(reason),
                });
            }
        }
    }
}

/// From the connection's first moment to its last. Answers the one that takes its place, if there is one.
async fn stay(core: &Core, connection: Connection, cause: Cause) -> Option<Connection> {
    let Connection {
        server,
        dialled,
        shown,
        number,
        subscribed,
    } = connection;
    let is_successor = subscribed.is_some();
    let subscribed = subscribed.unwrap_or_default();
    let bytes_max = usize::try_from(dialled.info.max_payload);
    let bytes_max = match bytes_max {
        Ok(0) => PAYLOAD_BYTES_MAX_DEFAULT,
        Ok(bytes_max) => bytes_max,
        Err(_) => usize::MAX,
    };
    core.linked(bytes_max, &subscribed);
    learn(core, &dialled.info);
    let is_again = cause == Cause::Loss;
    if is_again {
        count(&core.counters.reconnects, 1);
        let pool: Vec<_> = core.pool().all().map(ServerAddress::to_string).collect();
        let pool = pool.join(", ");
        if is_successor {
            tracing::info!(%server, pool, "connected again");
        } else {
            tracing::warn!(%server, pool, "connected again");
        }
    } else {
        tracing::info!(%server, "connected");
    }
    core.status.send_replace(Status::Connected(server.clone()));
    core.tell(Event::Connected {
        server: server.clone(),
        is_again,
    });
    let leave = Notify::new();
    let mut successor = None;
    let reason = {
        let renew = async {
            successor = Some(renewal::successor(core, &server, &shown).await);
            core.resign();
            leave.notify_one();
        };
        let forget = async {
            if is_successor {
                rest(OVERLAP_KEPT).await;
                core.forget_overlap();
            }
            std::future::pending::<()>().await;
        };
        let from = Source {
            server: &server,
            connection: number,
        };
        let drive = drive(core, from, dialled, core.wish.subscribe(), &leave);
        tokio::pin!(drive);
        tokio::select! {
            biased;
            reason = &mut drive => reason,
            () = renew => drive.await,
            () = forget => drive.await,
        }
    };
    let reason = match reason {
        LossReason::Leaving if successor.is_some() => LossReason::Renewed,
        reason => reason,
    };
    let successor = successor.filter(|_| *core.wish.borrow() == Wish::Connected);
    if successor.is_some() {
        core.passed_on();
    } else {
        core.status.send_replace(Status::Away);
        core.unlinked();
        core.close_overlap();
        core.forget_overlap();
    }
    match reason {
        LossReason::Closed => tracing::info!(%server, "disconnected"),
        LossReason::Renewed => {
            tracing::info!(%server, "our certificate was renewed; going on with a connection that was made with it");
        }
        ref reason => tracing::warn!(%server, %reason, "disconnected"),
    }
    let reason = Arc::new(reason);
    core.tell(Event::Disconnected { server, reason });
    successor
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell reads the clock; how long a connection lasted decides the next pause"
)]
fn now() -> Instant {
    Instant::now()
}
