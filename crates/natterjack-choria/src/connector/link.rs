//! A connection while it lasts: what comes is handed on, what is to be sent is sent, and silence is noticed.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use natterjack_link::{Dialled, Incoming, ReadError};
use natterjack_wire::client::{Message, ServerInfo, ServerOp, error_text, ping, pong};
use natterjack_wire::error::ProtocolError;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::dial::{self, DialError};
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

/// Bytes of such answers to a server that is being subscribed to.
const ANSWERS_BYTES_MAX: usize = 4 << 10;

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
    /// The server is gone, without a word: it was killed, or its machine is off.
    #[error("the server went away without a word")]
    Gone,
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

/// Where messages come from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) server: &'a ServerAddress,
    /// Its number.
    pub(super) connection: u64,
}

impl Source<'_> {
    fn receive(self, core: &Core, message: &Message<'_>) {
        let sid = std::str::from_utf8(message.sid).ok();
        let sid = sid.and_then(|sid| sid.parse().ok());
        // What was on its way when a subscription ended.
        if !sid.is_some_and(|sid| core.is_subscribed(sid)) {
            return;
        }
        let delivery = Delivery {
            subject: String::from_utf8_lossy(message.subject).into_owned(),
            content: message.payload().to_vec(),
            server: self.server.clone(),
        };
        core.deliver(self.connection, delivery);
    }

    /// The server says that something is wrong.
    fn complain(self, core: &Core, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(error_text(text)).into_owned();
        let server = self.server;
        tracing::error!(%server, error = %text, "the server says that something is wrong");
        core.tell(Event::ServerError {
            server: server.clone(),
            text: text.clone(),
        });
        text
    }
}

/// Has a connection subscribed while another one still is, in whose place it will be. Answers to what.
pub(super) async fn subscribe_ahead(
    core: &Core,
    from: Source<'_>,
    dialled: &mut Dialled,
) -> Result<BTreeSet<u64>, DialError> {
    let Dialled {
        stream, incoming, ..
    } = dialled;
    let (mut output, subscribed) = core.begin_overlap();
    ping(&mut output);
    incoming.admit(usize::MAX);
    let (mut is_done, mut is_leaving, mut said) = (false, false, None);
    loop {
        if !output.is_empty() {
            let written = write_all(stream, &output).await;
            written.map_err(DialError::Broken)?;
            output.clear();
        }
        let read = incoming.decode(|op| match op {
            ServerOp::Message(message) => from.receive(core, &message),
            ServerOp::Ping => pong(&mut output),
            ServerOp::Pong => is_done = true,
            ServerOp::Info(json) => {
                if let Ok(info) = ServerInfo::parse(json) {
                    learn(core, &info);
                    is_leaving |= info.ldm;
                }
            }
            ServerOp::Err(text) => said = Some(from.complain(core, text)),
            ServerOp::Ok => {}
        });
        let read = match read {
            Ok(()) if is_leaving => {
                return Err(DialError::Refused(LossReason::Leaving.to_string()));
            }
            Ok(()) if output.len() > ANSWERS_BYTES_MAX => return Err(DialError::Unexpected),
            Ok(()) if !output.is_empty() => continue,
            Ok(()) if is_done => return Ok(subscribed),
            Ok(()) => incoming.read(stream).await,
            error => error,
        };
        read.map_err(|error| match (error, said.take()) {
            (ReadError::Protocol(error), _) => DialError::NotNats(error),
            (_, Some(said)) => DialError::Refused(said),
            (ReadError::Broken(error), None) => dial::broken(error),
            (_, None) => DialError::Closed,
        })?;
    }
}

/// Drives a connection to its end. It is left, after all that was said, when `leave` is told so.
pub(super) async fn drive(
    core: &Core,
    from: Source<'_>,
    dialled: Dialled,
    mut wish: watch::Receiver<Wish>,
    leave: &Notify,
) -> LossReason {
    let (reader, writer) = tokio::io::split(dialled.stream);
    let heard = AtomicBool::new(true);
    let pongs_waiting = AtomicUsize::new(0);
    let mut reading = Reading {
        core,
        from,
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
    from: Source<'a>,
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
            // Of TLS that nobody ended, rustls has a sentence for programmers.
            (ReadError::Broken(error), None) if error.kind() == io::ErrorKind::UnexpectedEof => {
                LossReason::Gone
            }
            (ReadError::Broken(error), None) => LossReason::Broken(error),
            (_, said) => LossReason::Ended { said },
        }
    }

    fn handle(&mut self, op: &ServerOp<'_>) {
        match op {
            ServerOp::Message(message) => self.from.receive(self.core, message),
            ServerOp::Ping => self.handle_ping(),
            ServerOp::Pong => self.core.pong(),
            ServerOp::Info(json) => self.handle_info(json),
            ServerOp::Err(text) => self.said = Some(self.from.complain(self.core, text)),
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

    fn handle_info(&self, json: &[u8]) {
        let server = self.from.server;
        let Ok(info) = ServerInfo::parse(json) else {
            tracing::debug!(%server, "an INFO that cannot be read");
            return;
        };
        learn(self.core, &info);
        if info.ldm {
            tracing::info!(%server, "the server is about to end its connections");
            // Where there is no other one it is stayed with as long as it is there.
            if self.core.pool().leave(server) {
                self.leave.notify_one();
            }
        }
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
