//! The time in which a server that will soon be gone is connected to, and the next one is as well.
//!
//! Whatever is subscribed to comes from both then. What the old one sends is handed over as ever; what the next one sends is
//! kept, and handed over once the old one is no more. So nothing is missed, and nothing overtakes; what is there twice is for
//! the receiver to drop. It also says when the old one may go: when all who send are heard over the next one, and when all
//! who listen have what was sent over the old one. For the latter nothing more is sent there that must keep its order.
//!
//! All of it has its time. What is not certain by then is no reason to stay: the old server would end it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use natterjack_link::{Dialled, Incoming, Stream};
use natterjack_wire::client::{self, Message, ServerInfo, ServerOp, error_text};
use tokio::time::{Interval, MissedTickBehavior};

use super::outgoing::{Hold, Outgoing};
use super::{ClientError, Events, allowed_bytes, lapse};

/// How long all of it may take: less than the 5 s that the server of a node which stops waits for its clients, and than the
/// grace that servers give by default, 10 s. What must keep its order is held back for as much of it as is left.
const OVERLAP_TIMEOUT: Duration = Duration::from_secs(4);

/// How long the next server may take to accept our subscriptions.
const SUBSCRIBING_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long it may take then until everybody is heard over the next server.
const HEARING_TIMEOUT: Duration = Duration::from_secs(1);

/// How often is asked again for what is still open.
const INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of messages that are kept, at least for a moment.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Bytes that may wait to be written: our subscriptions, and answers to a server that asks whether we are there.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Batches read before others get their turn.
const ROUNDS_MAX: usize = 16;

/// How far a change of servers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Everything comes from both servers, or will; what is sent goes to the old one.
    Hearing,
    /// The same, and what must keep its order waits for the next one.
    Holding,
}

pub(super) struct Overlap {
    next: Next,
    /// `None`: the next server has not confirmed our subscriptions.
    stage: Option<Stage>,
    /// Until when it may be at this stage.
    patience: BoxFuture<'static, ()>,
    /// Until when there may be two connections.
    deadline: BoxFuture<'static, ()>,
    ticks: Interval,
}

/// The connection with the next server, as long as there is another one.
pub(super) struct Next {
    stream: Box<dyn Stream>,
    is_encrypted: bool,
    incoming: Incoming,
    pub(super) info: ServerInfo,
    output: Vec<u8>,
    written: usize,
    is_flushed: bool,
    is_subscribed: bool,
    kept: Vec<Kept>,
    kept_bytes: usize,
}

/// A message that is kept.
pub(super) struct Kept {
    /// Subject, subscription, reply, and what is behind them.
    bytes: Box<[u8]>,
    subject_bytes: usize,
    sid_bytes: usize,
    reply_bytes: Option<usize>,
    header_bytes: Option<usize>,
}

impl Overlap {
    /// Begins with a server that has let us in; `subscriptions` are operations.
    pub(super) fn new(dialled: Dialled, subscriptions: Vec<u8>) -> Self {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut output = subscriptions;
        client::ping(&mut output);
        let mut next = Next {
            stream: dialled.stream,
            is_encrypted: dialled.is_encrypted,
            incoming: dialled.incoming,
            info: dialled.info,
            output,
            written: 0,
            is_flushed: true,
            is_subscribed: false,
            kept: Vec::new(),
            kept_bytes: 0,
        };
        next.incoming.admit(allowed_bytes(&next.info));
        Self {
            next,
            stage: None,
            patience: Box::pin(lapse(SUBSCRIBING_TIMEOUT)),
            deadline: Box::pin(lapse(OVERLAP_TIMEOUT)),
            ticks,
        }
    }

    /// The next connection, if it can be gone on with.
    pub(super) fn into_next(self) -> Option<Next> {
        self.next.is_subscribed.then_some(self.next)
    }

    /// Does what can be done. Ready when the old connection may go, with whether everything is certain that should be.
    ///
    /// # Errors
    /// If the next one is of no use.
    pub(super) fn poll(
        &mut self,
        events: &mut impl Events,
        outgoing: &Outgoing,
        context: &mut Context<'_>,
    ) -> Poll<Result<bool, ClientError>> {
        let is_full = self.next.poll(events, context)?;
        // Either way it ends now, and neither is asked again.
        let is_full = is_full || self.deadline.as_mut().poll(context).is_ready();
        let is_due = self.ticks.poll_tick(context).is_ready();
        if is_due {
            // The timer is set for the next one by that.
            while self.ticks.poll_tick(context).is_ready() {}
        }
        let mut is_over = is_full || self.patience.as_mut().poll(context).is_ready();
        let stage = match self.stage {
            None if self.next.is_subscribed => {
                self.enter(Stage::Hearing, lapse(HEARING_TIMEOUT), events, context);
                is_over = is_full;
                Stage::Hearing
            }
            None if is_over => return Poll::Ready(Err(ClientError::Silent)),
            None => return Poll::Pending,
            Some(stage) => {
                if is_due {
                    events.overlapping(stage);
                }
                stage
            }
        };
        let is_done = events.may_go_on(stage);
        match stage {
            Stage::Hearing if is_done || is_over => {
                outgoing.hold(Hold::Change);
                self.enter(Stage::Holding, std::future::pending(), events, context);
                if is_full || events.may_go_on(Stage::Holding) {
                    return Poll::Ready(Ok(!is_full));
                }
                Poll::Pending
            }
            Stage::Holding if is_done || is_over => Poll::Ready(Ok(is_done)),
            _ => Poll::Pending,
        }
    }

    fn enter(
        &mut self,
        stage: Stage,
        patience: impl Future<Output = ()> + Send + 'static,
        events: &mut impl Events,
        context: &mut Context<'_>,
    ) {
        self.stage = Some(stage);
        self.patience = Box::pin(patience);
        // So that it wakes this task. It cannot be over yet.
        let _ = self.patience.as_mut().poll(context);
        self.ticks.reset();
        let _ = self.ticks.poll_tick(context);
        events.overlapping(stage);
    }
}

impl Next {
    /// Answers whether no more can be kept.
    fn poll(
        &mut self,
        events: &mut impl Events,
        context: &mut Context<'_>,
    ) -> Result<bool, ClientError> {
        // What came with the greeting.
        self.decode(events)?;
        for _ in 0..ROUNDS_MAX {
            self.write(context)?;
            if self.kept_bytes > KEPT_BYTES_MAX {
                return Ok(true);
            }
            match self.incoming.poll_read(&mut *self.stream, context) {
                Poll::Ready(read) => read?,
                Poll::Pending => return Ok(false),
            }
            self.decode(events)?;
        }
        context.waker().wake_by_ref();
        Ok(false)
    }

    fn decode(&mut self, events: &mut impl Events) -> Result<(), ClientError> {
        let Self {
            incoming,
            info,
            output,
            is_subscribed,
            kept,
            kept_bytes,
            ..
        } = self;
        let mut refused = None;
        incoming.decode(|op| match op {
            ServerOp::Message(message) => {
                events.ahead(&message);
                let message = Kept::of(&message);
                *kept_bytes += message.bytes.len() + size_of::<Kept>();
                kept.push(message);
            }
            ServerOp::Ping => client::pong(output),
            ServerOp::Pong => *is_subscribed = true,
            ServerOp::Info(json) => {
                if let Ok(news) = ServerInfo::parse(json) {
                    *info = news;
                }
            }
            ServerOp::Err(text) => {
                let text = String::from_utf8_lossy(error_text(text)).into_owned();
                refused = Some(ClientError::refused(text));
            }
            ServerOp::Ok => {}
        })?;
        if output.len() > OUTPUT_BYTES_MAX {
            return Err(ClientError::Flooded);
        }
        refused.map_or(Ok(()), Err)
    }

    fn write(&mut self, context: &mut Context<'_>) -> Result<(), ClientError> {
        while self.written < self.output.len() {
            let stream = Pin::new(&mut *self.stream);
            match stream.poll_write(context, &self.output[self.written..]) {
                Poll::Ready(Ok(0)) => return Err(ClientError::Ended),
                Poll::Ready(Ok(bytes)) => {
                    self.written += bytes;
                    self.is_flushed = false;
                }
                Poll::Ready(Err(error)) => return Err(ClientError::Broken(error)),
                Poll::Pending => break,
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        if !self.is_flushed
            && let Poll::Ready(flushed) = Pin::new(&mut *self.stream).poll_flush(context)
        {
            flushed.map_err(ClientError::Broken)?;
            self.is_flushed = true;
        }
        Ok(())
    }

    /// As a connection like any other, what is to be written to it before anything else, perhaps the rest of an operation, and
    /// what was kept of what came over it.
    pub(super) fn into_parts(mut self) -> (Dialled, Vec<u8>, impl Iterator<Item = Kept>) {
        self.output.drain(..self.written);
        let dialled = Dialled {
            stream: self.stream,
            is_encrypted: self.is_encrypted,
            incoming: self.incoming,
            info: self.info,
        };
        (dialled, self.output, self.kept.into_iter())
    }
}

impl Kept {
    fn of(message: &Message<'_>) -> Self {
        let Message {
            subject,
            sid,
            reply,
            header_len,
            body,
        } = *message;
        Self {
            bytes: [subject, sid, reply.unwrap_or_default(), body]
                .concat()
                .into(),
            subject_bytes: subject.len(),
            sid_bytes: sid.len(),
            reply_bytes: reply.map(<[u8]>::len),
            header_bytes: header_len,
        }
    }

    pub(super) fn message(&self) -> Message<'_> {
        let (subject, rest) = self.bytes.split_at(self.subject_bytes);
        let (sid, rest) = rest.split_at(self.sid_bytes);
        let (reply, body) = rest.split_at(self.reply_bytes.unwrap_or_default());
        Message {
            subject,
            sid,
            reply: self.reply_bytes.map(|_| reply),
            header_len: self.header_bytes,
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Wants to hear more, always.
    struct Curious;

    impl Events for Curious {
        fn message(&mut self, _message: &Message<'_>) {}

        fn batch_ended(&mut self) {}

        fn connected(&mut self) -> bool {
            false
        }

        fn disconnected(&mut self) {}

        fn failed(&mut self, _error: &ClientError) {}

        fn may_go_on(&mut self, _stage: Stage) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_half_written_costs_nothing_of_what_has_come() {
        let subscriptions = b"SUB a 1\r\n";
        let greeting = [&subscriptions[..], b"PING\r\n"].concat();
        let (near, mut far) = tokio::io::duplex(4);
        let server = tokio::spawn(async move {
            let mut heard = vec![0; greeting.len()];
            far.read_exact(&mut heard).await.expect("it is said");
            assert_eq!(heard, greeting);
            let words = b"PONG\r\nMSG a 1 1\r\nx\r\nPING\r\nMSG a 1 1\r\ny\r\n";
            far.write_all(words).await.expect("it is read");
            far
        });
        let dialled = Dialled {
            stream: Box::new(near),
            is_encrypted: false,
            incoming: Incoming::default(),
            info: ServerInfo::default(),
        };
        let mut overlap = Overlap::new(dialled, subscriptions.into());
        let outgoing = Outgoing::default();
        let reading = std::future::poll_fn(|context| {
            let polled = overlap.poll(&mut Curious, &outgoing, context);
            assert!(polled.is_pending(), "{polled:?}");
            if overlap.next.kept.len() == 2 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
        read.expect("there are two messages");
        // The old connection breaks now.
        let next = overlap.into_next().expect("it can be gone on with");
        let (_, rest, kept) = next.into_parts();
        assert_eq!(rest, b"\r\n", "it reads no more than that");
        let kept: Vec<_> = kept.collect();
        let kept: Vec<_> = kept.iter().map(|kept| kept.message().body).collect();
        assert_eq!(kept, [b"x", b"y"]);
        drop(server.await.expect("no panic"));
    }

    #[test]
    fn a_message_that_is_kept_stays_as_it_is() {
        let message = Message {
            subject: b"a.b",
            sid: b"2",
            reply: None,
            header_len: Some(2),
            body: b"hhpayload",
        };
        assert_eq!(Kept::of(&message).message(), message);
        let message = Message {
            reply: Some(b"x"),
            header_len: None,
            body: b"",
            ..message
        };
        assert_eq!(Kept::of(&message).message(), message);
    }
}
