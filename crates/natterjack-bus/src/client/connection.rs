//! A connection while it lasts: what waits is written, what comes is handed over, and silence is noticed.
//!
//! One task does both, without waiting for either: a hop from task to task costs more than all else that happens to an
//! event here.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use natterjack_link::{Dialled, Incoming, Stream};
use natterjack_wire::client::{self, ServerInfo, ServerOp, error_text};
use tokio::time::{Interval, MissedTickBehavior};

use super::outgoing::{Hold, Outgoing, Taken, Writing};
use super::overlap::{Next, Overlap};
use super::{ClientError, Events, allowed_bytes, lapse};

/// How long a server that takes nothing any more may take to end what it has said.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// How long what waited for a connection is held back at most. Others try again after two seconds, at the latest.
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(5);

/// How often time is looked at.
const TICK: Duration = Duration::from_secs(2);

/// A server that has said nothing for so many ticks is asked whether it is there, and given up after twice as many.
const SILENT_TICKS_MAX: u32 = 15;

/// Batches read before others of this thread get their turn.
const ROUNDS_MAX: usize = 16;

/// Plaintext that fits into one record of TLS (RFC 8446, section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

/// PINGs whose answers may wait to be written. Servers ask once in minutes; one that goes on asking and does not read must
/// not fill the memory with answers.
const PONGS_WAITING_MAX: u32 = 1_024;

/// Between broken and whole: how long what is left may take to be written when the client is closed.
pub(super) const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Connection<'a, E> {
    stream: Box<dyn Stream>,
    is_encrypted: bool,
    incoming: Incoming,
    outgoing: &'a Outgoing,
    writing: &'a mut Writing,
    /// Of the server.
    payload_bytes_max: &'a AtomicUsize,
    events: &'a mut E,
    /// What the server has said about itself since it was asked last.
    info: Option<ServerInfo>,
    ticks: Interval,
    silent_ticks: u32,
    /// Whether it has lasted for a moment.
    has_lasted: bool,
    /// What the server has asked since everything was written.
    pongs_waiting: u32,
    /// Set while there is another one, to the server that is next.
    overlap: Option<Overlap>,
    /// Set while what waited for this connection is held back.
    backlog: Option<BoxFuture<'static, ()>>,
    /// Set once nothing can be written.
    broken: Option<Broken>,
    /// Written to the stream, which may still hold on to it.
    is_flushed: bool,
}

/// A connection to which nothing can be written. What was received before can still be read, the reason for the end among
/// it, perhaps.
struct Broken {
    error: ClientError,
    patience: BoxFuture<'static, ()>,
}

/// What makes [`Connection::run`] return.
pub(super) enum News {
    /// The server has said something about itself.
    Info(Box<ServerInfo>),
    /// The server that was to be next is none.
    NextLost(ClientError),
}

/// Why a connection is over.
pub(super) enum Ended {
    /// We have closed it, and everything was written.
    Closed,
    /// There is a better one.
    Left {
        next: Box<Next>,
        /// Whether it is certain that nothing is missed, and nothing overtaken, by that.
        is_certain: bool,
    },
    Failed(ClientError),
}

impl<'a, E: Events> Connection<'a, E> {
    /// Nothing of `writing` must be written yet.
    pub(super) fn new(
        dialled: Dialled,
        outgoing: &'a Outgoing,
        writing: &'a mut Writing,
        payload_bytes_max: &'a AtomicUsize,
        events: &'a mut E,
    ) -> Self {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once.
        ticks.reset();
        let mut connection = Self {
            stream: dialled.stream,
            is_encrypted: dialled.is_encrypted,
            incoming: dialled.incoming,
            outgoing,
            writing,
            payload_bytes_max,
            events,
            info: None,
            ticks,
            silent_ticks: 0,
            has_lasted: false,
            pongs_waiting: 0,
            overlap: None,
            backlog: (outgoing.is_held(Hold::Backlog))
                .then(|| -> BoxFuture<'static, ()> { Box::pin(lapse(BACKLOG_TIMEOUT)) }),
            broken: None,
            // Something may have been written already.
            is_flushed: false,
        };
        let bytes_max = allowed_bytes(&dialled.info);
        connection.incoming.admit(bytes_max);
        connection.leave_out();
        connection
    }

    pub(super) fn has_lasted(&self) -> bool {
        self.has_lasted
    }

    /// Begins to change to another server. It must be run on.
    pub(super) fn leave_for(&mut self, dialled: Dialled, subscriptions: Vec<u8>) {
        // Before anything comes over it.
        self.events.overlap_began();
        self.overlap = Some(Overlap::new(dialled, subscriptions));
    }

    /// Another one is looked for.
    pub(super) fn tell_leaving(&mut self) {
        self.events.leaving();
    }

    /// Whether it is being changed for another one.
    pub(super) fn is_leaving(&self) -> bool {
        self.overlap.is_some()
    }

    /// Waits for news of the server, or the end. What was read with the greeting is handed over first.
    pub(super) async fn run(&mut self) -> Result<News, Ended> {
        let ended = match self.decode() {
            Ok(()) => std::future::poll_fn(|context| self.poll(context)).await,
            Err(ended) => Err(ended),
        };
        match (ended, self.overlap.take()) {
            (Err(Ended::Failed(error)), Some(overlap)) => Err(match overlap.into_next() {
                Some(next) => Ended::Left {
                    next: Box::new(next),
                    is_certain: false,
                },
                None => Ended::Failed(error),
            }),
            (ended, overlap) => {
                self.overlap = overlap;
                ended
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<News, Ended>> {
        if let Some(backlog) = &mut self.backlog
            && backlog.as_mut().poll(context).is_ready()
        {
            self.backlog = None;
            self.outgoing.release(Hold::Backlog);
        }
        for _ in 0..ROUNDS_MAX {
            self.write(context)?;
            if let Poll::Ready(news) = self.poll_overlap(context) {
                return Poll::Ready(news);
            }
            if let Some(info) = self.info.take() {
                self.incoming.admit(allowed_bytes(&info));
                return Poll::Ready(Ok(News::Info(Box::new(info))));
            }
            match self.incoming.poll_read(&mut *self.stream, context) {
                Poll::Ready(Ok(())) => {
                    self.silent_ticks = 0;
                    self.decode()?;
                }
                Poll::Ready(Err(error)) => {
                    let first = self.broken.take().map(|broken| broken.error);
                    let error = first.unwrap_or_else(|| error.into());
                    return Poll::Ready(Err(Ended::Failed(error)));
                }
                Poll::Pending => return self.tick(context),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_overlap(&mut self, context: &mut Context<'_>) -> Poll<Result<News, Ended>> {
        let Some(overlap) = &mut self.overlap else {
            return Poll::Pending;
        };
        let result = ready!(overlap.poll(self.events, self.outgoing, context));
        let next = self.overlap.take().and_then(Overlap::into_next);
        Poll::Ready(match (result, next) {
            (Ok(is_certain), Some(next)) => Err(Ended::Left {
                next: Box::new(next),
                is_certain,
            }),
            (Ok(_), None) => Ok(News::NextLost(ClientError::Silent)),
            (Err(error), _) => Ok(News::NextLost(error)),
        })
    }

    fn decode(&mut self) -> Result<(), Ended> {
        let Self {
            incoming,
            events,
            writing,
            info,
            pongs_waiting,
            ..
        } = self;
        let decoded = incoming.decode(|op| match op {
            ServerOp::Message(message) => events.message(&message),
            ServerOp::Ping => {
                *pongs_waiting += 1;
                if *pongs_waiting <= PONGS_WAITING_MAX {
                    writing.append(client::pong);
                }
            }
            // What cannot be read says nothing that is needed.
            ServerOp::Info(json) => *info = ServerInfo::parse(json).ok().or_else(|| info.take()),
            ServerOp::Err(text) => {
                let text = String::from_utf8_lossy(error_text(text));
                events.failed(&ClientError::refused(text.into_owned()));
            }
            ServerOp::Pong | ServerOp::Ok => {}
        });
        events.batch_ended();
        decoded.map_err(|error| Ended::Failed(error.into()))?;
        if self.pongs_waiting > PONGS_WAITING_MAX {
            return Err(Ended::Failed(ClientError::Flooded));
        }
        Ok(())
    }

    /// Writes what waits, as far as the stream takes it. If it takes nothing any more this is no error before there was
    /// time to read what is there.
    fn write(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        let mut broken = match self.broken.take() {
            Some(broken) => broken,
            None => match self.write_waiting(context) {
                Err(Ended::Failed(error)) => Broken {
                    error,
                    patience: Box::pin(lapse(LAST_WORDS_TIMEOUT)),
                },
                written => return written,
            },
        };
        if broken.patience.as_mut().poll(context).is_ready() {
            return Err(Ended::Failed(broken.error));
        }
        self.broken = Some(broken);
        Ok(())
    }

    /// An error only if it is over.
    fn write_waiting(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            if self.writing.rest().is_empty() {
                self.pongs_waiting = 0;
                match self.writing.refill(self.outgoing, context) {
                    Taken::Some { .. } => {
                        self.leave_out();
                        continue;
                    }
                    Taken::Nothing => break,
                    Taken::Closed => {
                        return match self.flush(context)? {
                            Poll::Ready(()) => Err(Ended::Closed),
                            Poll::Pending => Ok(()),
                        };
                    }
                }
            }
            if self.is_encrypted {
                // One write to an encrypted stream becomes many to the socket, and if a later one fails it does not say
                // how much went out before. With one record at a time, and none before it held back, a failure means
                // that the record is not whole at the other side, which can read nothing of it then.
                if self.flush(context)?.is_pending() {
                    return Ok(());
                }
            }
            let rest = self.writing.rest();
            let piece = if self.is_encrypted {
                &rest[..rest.len().min(RECORD_BYTES_MAX)]
            } else {
                rest
            };
            let stream = Pin::new(&mut *self.stream);
            match stream.poll_write(context, piece) {
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

    /// What is too large for this server may have been accepted while the limit was another one.
    fn leave_out(&mut self) {
        let bytes_max = self.payload_bytes_max.load(Relaxed);
        let messages = self.writing.leave_out(bytes_max);
        if messages > 0 {
            let error = ClientError::TooLarge {
                messages,
                bytes_max,
            };
            self.events.failed(&error);
        }
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

    fn tick(&mut self, context: &mut Context<'_>) -> Poll<Result<News, Ended>> {
        loop {
            ready!(self.ticks.poll_tick(context));
            self.has_lasted = true;
            self.silent_ticks += 1;
            if self.silent_ticks == SILENT_TICKS_MAX {
                // Whether the server is there.
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use natterjack_wire::client::{ClientOp, Decoded, Limits, Message, decode_client, publish};
    use tokio::io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
    };
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// What a connection tells.
    #[derive(Default)]
    struct Told {
        messages: usize,
        failures: Vec<String>,
    }

    impl Events for Told {
        fn message(&mut self, _message: &Message<'_>) {
            self.messages += 1;
        }

        fn batch_ended(&mut self) {}

        fn connected(&mut self) -> bool {
            false
        }

        fn disconnected(&mut self) {}

        fn failed(&mut self, error: &ClientError) {
            self.failures.push(error.to_string());
        }
    }

    /// A stream that takes so many bytes, and then breaks for writing.
    struct Breaking {
        inner: DuplexStream,
        bytes_left: usize,
    }

    impl AsyncRead for Breaking {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Breaking {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let bytes = &bytes[..bytes.len().min(self.bytes_left)];
            if bytes.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
            self.bytes_left -= written;
            Poll::Ready(Ok(written))
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn dialled(stream: impl Stream + 'static, is_encrypted: bool) -> Dialled {
        Dialled {
            stream: Box::new(stream),
            is_encrypted,
            incoming: Incoming::default(),
            info: ServerInfo::default(),
        }
    }

    /// Both ends of TLS.
    fn tls() -> (TlsConnector, TlsAcceptor) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.expect("a key"))
            .expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        (
            TlsConnector::from(Arc::new(client)),
            TlsAcceptor::from(Arc::new(server)),
        )
    }

    /// The subjects of the whole publishes in there.
    fn subjects(mut bytes: &[u8]) -> Vec<String> {
        let mut subjects = Vec::new();
        while let Ok(Decoded::Op { op, consumed }) = decode_client(bytes, &Limits::UNBOUNDED) {
            if let ClientOp::Publish(publish) = op {
                subjects.push(String::from_utf8_lossy(publish.subject).into_owned());
            }
            bytes = &bytes[consumed..];
        }
        subjects
    }

    #[tokio::test]
    async fn what_went_out_encrypted_before_a_write_failed_is_not_sent_again() {
        const EVENTS: usize = 400;
        let (connector, acceptor) = tls();
        // In the middle of the first record, of a later one, and between.
        for bytes_max in [3000, 20_000, 16_406, 150_000, 300_000] {
            let (near, far) = tokio::io::duplex(64 << 20);
            let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
            let breaking = Breaking {
                inner: near,
                bytes_left: usize::MAX,
            };
            let (stream, other) =
                tokio::join!(connector.connect(name, breaking), acceptor.accept(far));
            let (mut stream, mut other) = (stream.expect("TLS"), other.expect("TLS"));
            let received = tokio::spawn(async move {
                let mut all = Vec::new();
                // It is cut off without a good-bye, in the middle of a record.
                let _ = other.read_to_end(&mut all).await;
                all
            });
            stream.get_mut().0.bytes_left = bytes_max;
            let (outgoing, mut writing) = (Outgoing::default(), Writing::default());
            for number in 0..EVENTS {
                let subject = number.to_string();
                writing.append(|out| publish(out, subject.as_bytes(), None, &[b'x'; 1000]));
            }
            let mut told = Told::default();
            let limit = AtomicUsize::new(usize::MAX);
            let dialled = dialled(stream, true);
            let mut connection =
                Connection::new(dialled, &outgoing, &mut writing, &limit, &mut told);
            let ended = connection.run().await.err();
            assert!(matches!(ended, Some(Ended::Failed(_))), "it breaks");
            drop(connection);
            let received = subjects(&received.await.expect("no panic"));
            outgoing.hold_all(Hold::Backlog, writing.start_over(Vec::new()));
            outgoing.release(Hold::Backlog);
            writing.refill(&outgoing, &Context::from_waker(std::task::Waker::noop()));
            let again = subjects(writing.rest());
            assert!(
                received.iter().all(|subject| !again.contains(subject)),
                "{bytes_max}: {received:?} arrived, {again:?} are sent again"
            );
            // And no more is given up than one record holds.
            assert!(
                received.len() + again.len() + RECORD_BYTES_MAX / 1000 + 1 >= EVENTS,
                "{bytes_max}"
            );
        }
    }

    /// Runs a connection to whose other side nothing can be written, and which said this before.
    async fn last_words(words: &[u8], is_cut: bool) -> (Told, Ended) {
        let (near, mut far) = tokio::io::duplex(64 << 20);
        far.write_all(words).await.expect("there is room");
        let far = (!is_cut).then_some(far);
        let breaking = Breaking {
            inner: near,
            bytes_left: 0,
        };
        let (outgoing, mut writing) = (Outgoing::default(), Writing::default());
        writing.append(|out| publish(out, b"a", None, b"1"));
        let limit = AtomicUsize::new(usize::MAX);
        let mut told = Told::default();
        let dialled = dialled(breaking, false);
        let mut connection = Connection::new(dialled, &outgoing, &mut writing, &limit, &mut told);
        let ended = tokio::time::timeout(Duration::from_secs(20), connection.run()).await;
        drop((connection, far));
        (told, ended.expect("it ends").err().expect("it is broken"))
    }

    #[tokio::test]
    async fn what_was_received_before_a_write_failed_is_handed_over() {
        const EVENTS: usize = 3000;
        let mut words = b"MSG a 1 5\r\nhello\r\n".repeat(EVENTS);
        words.extend_from_slice(&[b"MSG a 1 100000\r\n", &[b'x'; 100_000][..], b"\r\n"].concat());
        words.extend_from_slice(b"-ERR 'Maximum Connections Exceeded'\r\n");
        for is_cut in [true, false] {
            let (told, ended) = last_words(&words, is_cut).await;
            assert_eq!(told.messages, EVENTS + 1);
            assert_eq!(told.failures, ["Maximum Connections Exceeded"]);
            let Ended::Failed(ClientError::Broken(error)) = ended else {
                panic!("it is broken");
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }
}
