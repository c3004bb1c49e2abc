//! A connection while it lasts: what waits is written, what comes is handed over, and silence is noticed.
//!
//! One task does both, without waiting for either: a hop from task to task costs more than all else that happens to an
//! event here.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use natterjack_wire::client::{self, ServerInfo, ServerOp};
use tokio::time::{Interval, MissedTickBehavior};

use super::greeting::{Greeted, Stream};
use super::incoming::Incoming;
use super::outgoing::{Outgoing, Taken, Writing};
use super::{ClientError, Events};

/// How often time is looked at.
const TICK: Duration = Duration::from_secs(2);

/// A server that has said nothing for so many ticks is asked whether it is there, and given up after twice as many.
const SILENT_TICKS_MAX: u32 = 15;

/// Batches read before others of this thread get their turn.
const ROUNDS_MAX: usize = 16;

/// Between broken and whole: how long what is left may take to be written when the client is closed.
pub(super) const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Connection<'a, E> {
    stream: Box<dyn Stream>,
    incoming: Incoming,
    outgoing: &'a Outgoing,
    writing: &'a mut Writing,
    events: &'a mut E,
    /// What the server has said about itself since it was asked last.
    info: Option<ServerInfo>,
    ticks: Interval,
    silent_ticks: u32,
    /// Whether it has lasted for a moment.
    has_lasted: bool,
    /// Written to the stream, which may still hold on to it.
    is_flushed: bool,
}

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum Ended {
    /// We have closed it, and everything was written.
    Closed,
    Failed(ClientError),
}

impl<'a, E: Events> Connection<'a, E> {
    pub(super) fn new(
        greeted: Greeted,
        outgoing: &'a Outgoing,
        writing: &'a mut Writing,
        events: &'a mut E,
    ) -> Self {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once.
        ticks.reset();
        Self {
            stream: greeted.stream,
            incoming: greeted.incoming,
            outgoing,
            writing,
            events,
            info: None,
            ticks,
            silent_ticks: 0,
            has_lasted: false,
            is_flushed: true,
        }
    }

    pub(super) fn has_lasted(&self) -> bool {
        self.has_lasted
    }

    /// Waits for news of the server, or the end. What was read with the greeting is handed over first.
    pub(super) async fn run(&mut self) -> Result<ServerInfo, Ended> {
        self.decode()?;
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<ServerInfo, Ended>> {
        for _ in 0..ROUNDS_MAX {
            self.write(context)?;
            if let Some(info) = self.info.take() {
                return Poll::Ready(Ok(info));
            }
            match self.incoming.poll_read(&mut *self.stream, context) {
                Poll::Ready(read) => {
                    read.map_err(Ended::Failed)?;
                    self.silent_ticks = 0;
                    self.decode()?;
                }
                Poll::Pending => return self.tick(context),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn decode(&mut self) -> Result<(), Ended> {
        let Self {
            incoming,
            events,
            writing,
            info,
            ..
        } = self;
        let decoded = incoming.decode(|op| match op {
            ServerOp::Message(message) => events.message(&message),
            ServerOp::Ping => writing.append(client::pong),
            // What cannot be read says nothing that is needed.
            ServerOp::Info(json) => *info = ServerInfo::parse(json).ok().or_else(|| info.take()),
            ServerOp::Err(text) => events.failed(&ClientError::refused(text)),
            ServerOp::Pong | ServerOp::Ok => {}
        });
        events.batch_ended();
        decoded.map_err(Ended::Failed)
    }

    /// Writes what waits, as far as the stream takes it. An error only if it is over.
    fn write(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            if self.writing.rest().is_empty() {
                match self.writing.refill(self.outgoing, context) {
                    Taken::Some => {}
                    Taken::Nothing => break,
                    Taken::Closed => {
                        return match self.flush(context)? {
                            Poll::Ready(()) => Err(Ended::Closed),
                            Poll::Pending => Ok(()),
                        };
                    }
                }
            }
            let stream = Pin::new(&mut *self.stream);
            match stream.poll_write(context, self.writing.rest()) {
                Poll::Ready(Ok(0)) => return Err(Ended::Failed(ClientError::Ended)),
                Poll::Ready(Ok(bytes)) => {
                    self.writing.advance(bytes);
                    self.is_flushed = false;
                }
                Poll::Ready(Err(error)) => return Err(broken(error)),
                Poll::Pending => return Ok(()),
            }
        }
        self.flush(context).map(drop)
    }

    fn flush(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, Ended> {
        if !self.is_flushed {
            match Pin::new(&mut *self.stream).poll_flush(context) {
                Poll::Ready(flushed) => flushed.map_err(broken)?,
                Poll::Pending => return Ok(Poll::Pending),
            }
            self.is_flushed = true;
        }
        Ok(Poll::Ready(()))
    }

    fn tick(&mut self, context: &mut Context<'_>) -> Poll<Result<ServerInfo, Ended>> {
        loop {
            ready!(self.ticks.poll_tick(context));
            self.has_lasted = true;
            self.silent_ticks += 1;
            if self.silent_ticks == SILENT_TICKS_MAX {
                self.writing.append(client::ping);
                self.write(context)?;
            }
            if self.silent_ticks >= 2 * SILENT_TICKS_MAX {
                return Poll::Ready(Err(Ended::Failed(ClientError::Stale)));
            }
        }
    }
}

fn broken(error: std::io::Error) -> Ended {
    Ended::Failed(ClientError::Broken(error))
}
