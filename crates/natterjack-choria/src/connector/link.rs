//! A connection while it lasts: what comes is handed on, what is to be sent is sent, and silence is noticed.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use natterjack_wire::client::{
    Decoded, Limits, Message, ServerInfo, ServerOp, decode_server, error_text, pong,
};
use natterjack_wire::error::ProtocolError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::dial::Dialled;
use super::event::Event;
use super::shared::{Core, Delivery, Wish};
use crate::server::ServerAddress;

/// How often the server is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// So many of these in which nothing comes, and the connection is given up.
const SILENT_INTERVALS_MAX: u32 = 2;

/// For what is still to be sent when this side ends the connection, and once more for saying so.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// What is read at once, at least.
const READ_BYTES: usize = 8 << 10;

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
}

/// Drives a connection to its end.
pub(super) async fn drive(
    core: &Core,
    server: &ServerAddress,
    dialled: Dialled,
    mut wish: watch::Receiver<Wish>,
) -> LossReason {
    let (reader, writer) = tokio::io::split(dialled.stream);
    let heard = AtomicBool::new(true);
    let mut reading = Reading {
        core,
        server,
        heard: &heard,
        said: None,
    };
    let is_over = AtomicBool::new(false);
    let end = async {
        // The sender is in the core.
        let _ = wish.wait_for(|wish| *wish != Wish::Connected).await;
        // With its answer the server has all that was said before.
        if let Some(seen) = core.observe() {
            let _ = timeout(FAREWELL_MAX, seen).await;
        }
        is_over.store(true, Ordering::Relaxed);
        core.work.notify_one();
        let _ = timeout(FAREWELL_MAX, std::future::pending::<()>()).await;
    };
    tokio::select! {
        biased;
        reason = reading.read(reader, dialled.rest) => reason,
        reason = write(core, writer, &is_over) => reason,
        reason = watch_over(core, &heard) => reason,
        () = end => LossReason::Closed,
    }
}

/// What is read, and by whom it was said.
struct Reading<'a> {
    core: &'a Core,
    server: &'a ServerAddress,
    heard: &'a AtomicBool,
    said: Option<String>,
}

impl Reading<'_> {
    async fn read(&mut self, mut stream: impl AsyncRead + Unpin, mut input: Vec<u8>) -> LossReason {
        let mut start = 0;
        loop {
            let rest = &input[start..];
            let needed = match decode_server(rest, &Limits::FROM_SERVER) {
                Ok(Decoded::Op { op, consumed }) => {
                    self.handle(&op);
                    start += consumed;
                    continue;
                }
                Ok(Decoded::Incomplete { needed }) => needed - rest.len(),
                Err(error) => return LossReason::Protocol(error),
            };
            input.drain(..start);
            start = 0;
            if input.is_empty() && input.capacity() > BUFFER_BYTES_MAX {
                input = Vec::new();
            }
            // What is announced is made room for as it comes.
            input.reserve(needed.clamp(READ_BYTES, BUFFER_BYTES_MAX));
            match stream.read_buf(&mut input).await {
                Ok(0) => {
                    return LossReason::Ended {
                        said: self.said.take(),
                    };
                }
                Ok(_) => self.heard.store(true, Ordering::Relaxed),
                Err(error) => match self.said.take() {
                    Some(said) => return LossReason::Ended { said: Some(said) },
                    None => return LossReason::Broken(error),
                },
            }
        }
    }

    fn handle(&mut self, op: &ServerOp<'_>) {
        match op {
            ServerOp::Message(message) => self.handle_message(message),
            ServerOp::Ping => self.core.control(pong),
            ServerOp::Pong => self.core.pong(),
            ServerOp::Info(json) => self.handle_info(json),
            ServerOp::Err(text) => self.handle_error(text),
            ServerOp::Ok => {}
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
        if info.ldm {
            tracing::info!(server = %self.server, "the server is about to end its connections");
        }
        learn(self.core, &info);
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
    let servers = core.pool().learn(&info.connect_urls);
    if !servers.is_empty() {
        tracing::debug!(?servers, "a server names others");
        core.tell(Event::Learnt { servers });
    }
}

async fn write(
    core: &Core,
    mut stream: impl AsyncWrite + Unpin,
    is_over: &AtomicBool,
) -> LossReason {
    let mut batch = Vec::new();
    loop {
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
