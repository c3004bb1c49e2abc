//! A connection while it lasts: what comes is handed on, what is to be sent is sent, and silence is noticed.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use natterjack_link::{Dialled, Incoming, ReadError};
use natterjack_wire::client::{Message, ServerInfo, ServerOp, error_text, pong};
use natterjack_wire::error::ProtocolError;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::event::Event;
use super::shared::{Core, Delivery, Wish};
use crate::server::ServerAddress;

/// How often the server is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// So many of these in which nothing comes, and the connection is given up.
const SILENT_INTERVALS_MAX: u32 = 2;

/// For what is still to be sent when this side ends the connection, and once more for saying so.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// PINGs whose answers may wait to be written. Servers ask once in minutes; one that goes on asking and does not read must
/// not fill the memory with answers.
const PONGS_WAITING_MAX: usize = 1_024;

/// A buffer that has become larger is not kept.
const BUFFER_BYTES_MAX: usize = 256 << 10;

/// Why a connection is no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// This side ended it.
    #[error("it was ended on this side")]
    Closed,
    /// The server ended it, and may have said why.
    #[error("the server ended it{}{}", if said.is_some() { ": " } else { "" }, said.as_deref().unwrap_or(""))]
    Ended {
        /// The last thing the server complained of.
        said: Option<String>,
    },
    /// It broke.
    #[error("it broke: {0}")]
    Broken(io::Error),
    /// The server says nothing any more.
    #[error("the server does not answer any more")]
    Silent,
    /// The server says what no server says.
    #[error("the server does not follow the protocol: {0}")]
    Protocol(ProtocolError),
    /// The server asks whether this side is there, again and again, and does not read the answers.
    #[error("the server asks without reading the answers")]
    Flooded,
    /// The server is about to end its connections and has said so. Another one is connected to instead.
    #[error("the server is about to end its connections")]
    Leaving,
    /// Our certificate was renewed, and there is a connection with the new one.
    #[error("there is one with the renewed certificate now")]
    Renewed,
}

/// Drives a connection to its end. It is left, after all that was said, when `leave` is told so.
pub(super) async fn drive(
    core: &Core,
    server: &ServerAddress,
    dialled: Dialled,
    mut wish: watch::Receiver<Wish>,
    leave: &Notify,
) -> LossReason {
    let (reader, writer) = tokio::io::split(dialled.stream);
    let heard = AtomicBool::new(true);
    let pongs_waiting = AtomicUsize::new(0);
    let mut reading = Reading {
        core,
        server,
        heard: &heard,
        pongs_waiting: &pongs_waiting,
        leave,
        said: None,
    };
    let is_over = AtomicBool::new(false);
    let is_left = AtomicBool::new(false);
    let end = async {
        tokio::select! {
            // The sender is in the core.
            _ = wish.wait_for(|wish| *wish != Wish::Connected) => {}
            () = leave.notified() => is_left.store(true, Ordering::Relaxed),
        }
        // With its answer the server has all that was said before.
        if let Some(seen) = core.observe() {
            let _ = timeout(FAREWELL_MAX, seen).await;
        }
        is_over.store(true, Ordering::Relaxed);
        core.work.notify_one();
        let _ = timeout(FAREWELL_MAX, std::future::pending::<()>()).await;
    };
    let reason = tokio::select! {
        biased;
        reason = reading.read(reader, dialled.incoming) => reason,
        reason = write(core, writer, &is_over, &pongs_waiting) => reason,
        reason = watch_over(core, &heard) => reason,
        () = end => LossReason::Closed,
    };
    match reason {
        LossReason::Closed if is_left.load(Ordering::Relaxed) => LossReason::Leaving,
        reason => reason,
    }
}

/// What is read, and by whom it was said.
struct Reading<'a> {
    core: &'a Core,
    server: &'a ServerAddress,
    heard: &'a AtomicBool,
    pongs_waiting: &'a AtomicUsize,
    /// Told when the server should be left.
    leave: &'a Notify,
    said: Option<String>,
}

impl Reading<'_> {
    async fn read(
        &mut self,
        mut stream: impl AsyncRead + Unpin,
        mut incoming: Incoming,
    ) -> LossReason {
        // Whatever the server takes itself, others may send more, and for all of it there is the inbox.
        incoming.admit(usize::MAX);
        loop {
            if let Err(error) = incoming.decode(|op| self.handle(&op)) {
                return self.over(error);
            }
            if self.pongs_waiting.load(Ordering::Relaxed) > PONGS_WAITING_MAX {
                return LossReason::Flooded;
            }
            if let Err(error) = incoming.read(&mut stream).await {
                return self.over(error);
            }
            self.heard.store(true, Ordering::Relaxed);
        }
    }

    fn over(&mut self, error: ReadError) -> LossReason {
        match (error, self.said.take()) {
            (ReadError::Protocol(error), _) => LossReason::Protocol(error),
            (ReadError::Broken(error), None) => LossReason::Broken(error),
            (_, said) => LossReason::Ended { said },
        }
    }

    fn handle(&mut self, op: &ServerOp<'_>) {
        match op {
            ServerOp::Message(message) => self.handle_message(message),
            ServerOp::Ping => self.handle_ping(),
            ServerOp::Pong => self.core.pong(),
            ServerOp::Info(json) => self.handle_info(json),
            ServerOp::Err(text) => self.handle_error(text),
            ServerOp::Ok => {}
        }
    }

    fn handle_ping(&self) {
        let waiting = self.pongs_waiting.fetch_add(1, Ordering::Relaxed);
        // Of one more the connection dies.
        if waiting <= PONGS_WAITING_MAX {
            self.core.control(pong);
        }
    }

    fn handle_message(&self, message: &Message<'_>) {
        let sid = std::str::from_utf8(message.sid).ok();
        let sid = sid.and_then(|sid| sid.parse().ok());
        // What was on its way when a subscription ended.
        if !sid.is_some_and(|sid| self.core.is_subscribed(sid)) {
            return;
        }
        self.core.deliver(Delivery {
            subject: String::from_utf8_lossy(message.subject).into_owned(),
            content: message.payload().to_vec(),
            server: self.server.clone(),
        });
    }

    fn handle_info(&self, json: &[u8]) {
        let Ok(info) = ServerInfo::parse(json) else {
            tracing::debug!(server = %self.server, "an INFO that cannot be read");
            return;
        };
        learn(self.core, &info);
        if info.ldm {
            tracing::info!(server = %self.server, "the server is about to end its connections");
            // Where there is no other one it is stayed with as long as it is there.
            if self.core.pool().leave(self.server) {
                self.leave.notify_one();
            }
        }
    }

    fn handle_error(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(error_text(text)).into_owned();
        tracing::error!(server = %self.server, error = %text, "the server says that something is wrong");
        self.said = Some(text.clone());
        self.core.tell(Event::ServerError {
            server: self.server.clone(),
            text,
        });
    }
}

/// Remembers the servers that one names.
pub(super) fn learn(core: &Core, info: &ServerInfo) {
    let named = info.connect_urls.iter().filter_map(|text| {
        let server = text.parse::<ServerAddress>();
        if server.is_err() {
            tracing::debug!(address = %text, "a server names another one by an address that is none");
        }
        server.ok()
    });
    let servers = core.pool().learn(named);
    if !servers.is_empty() {
        tracing::debug!(?servers, "a server names others");
        core.tell(Event::Learnt { servers });
    }
}

async fn write(
    core: &Core,
    mut stream: impl AsyncWrite + Unpin,
    is_over: &AtomicBool,
    pongs_waiting: &AtomicUsize,
) -> LossReason {
    let mut batch = Vec::new();
    loop {
        // All of these are in the batch; one that comes right now may be, too, and counts for the next.
        let pongs = pongs_waiting.load(Ordering::Relaxed);
        core.take(&mut batch);
        if batch.is_empty() {
            if is_over.load(Ordering::Relaxed) {
                // That this is the end has been said, or cannot be.
                let _ = stream.shutdown().await;
                return LossReason::Closed;
            }
            core.work.notified().await;
            continue;
        }
        if let Err(error) = write_all(&mut stream, &batch).await {
            return LossReason::Broken(error);
        }
        pongs_waiting.fetch_sub(pongs, Ordering::Relaxed);
        batch.clear();
        if batch.capacity() > BUFFER_BYTES_MAX {
            batch = Vec::new();
        }
        core.room.notify_waiters();
    }
}

async fn write_all(stream: &mut (impl AsyncWrite + Unpin), batch: &[u8]) -> io::Result<()> {
    stream.write_all(batch).await?;
    stream.flush().await
}

async fn watch_over(core: &Core, heard: &AtomicBool) -> LossReason {
    let mut ticks = interval(PING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one comes at once.
    ticks.tick().await;
    let mut silent = 0;
    loop {
        ticks.tick().await;
        silent = if heard.swap(false, Ordering::Relaxed) {
            0
        } else {
            silent + 1
        };
        if silent > SILENT_INTERVALS_MAX {
            return LossReason::Silent;
        }
        core.ping();
    }
}
