//! One connection's task: it reads when there is something to read, writes what others could not, and keeps
//! the session's time. Whatever is decided is decided in the engine.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use natterjack_engine::{ClientSession, CloseReason, Outbox, Peer, Session, Step, Transport};
use parking_lot::Mutex;
use tokio::time::{Sleep, sleep_until, timeout};

use super::handshake;
use super::strangers::Origin;
use super::stream::Stream;
use crate::clock::now;
use crate::lifecycle::{Pass, Phase};
use crate::server::Shared;
use crate::tls;

/// Batches one connection reads before the others get their turn.
const BATCHES_PER_TURN: usize = 4;

/// How long a connection that ends may take to write its last bytes, as long as its peer takes some of them
/// within each write deadline.
const LAST_FLUSH_MAX: Duration = Duration::from_secs(60);

/// How long, and for how many bytes, a client that was told of an error is listened to before its socket is
/// closed. Closing with unread bytes makes the system reset the connection, and the client would lose the
/// message that tells it why.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The engine's way to the socket, and to the task that owns it.
pub(crate) struct Wire<S> {
    stream: S,
    task: Mutex<Option<Waker>>,
    /// The task was woken through this, and has not looked for what to flush since.
    is_woken: AtomicBool,
}

impl<S: Stream> Transport for Wire<S> {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let result = self.stream.try_write(slices);
        if self.stream.is_unsent() {
            self.wake();
        }
        result
    }

    fn wake(&self) {
        self.is_woken.store(true, Ordering::Release);
        if let Some(waker) = &*self.task.lock() {
            waker.wake_by_ref();
        }
    }
}

impl<S: Stream> Wire<S> {
    pub(crate) fn new(stream: S) -> Arc<Self> {
        Arc::new(Self {
            stream,
            task: Mutex::new(None),
            is_woken: AtomicBool::new(false),
        })
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    pub(crate) fn transport(self: &Arc<Self>) -> Arc<dyn Transport> {
        Arc::clone(self) as Arc<dyn Transport>
    }

    /// Has the calling task woken by [`wake`](Transport::wake).
    fn register(&self, context: &Context<'_>) {
        let mut task = self.task.lock();
        if !task
            .as_ref()
            .is_some_and(|known| known.will_wake(context.waker()))
        {
            *task = Some(context.waker().clone());
        }
    }
}

/// Serves a client until it is gone. With `tls` its stream is a socket on which TLS is to be settled first.
pub(crate) async fn serve<S: Stream>(
    shared: Arc<Shared>,
    stream: S,
    peer: Peer,
    tls: Option<Arc<tls::Context>>,
) {
    let _connection = shared.lifecycle.connections.pass();
    let wire = Wire::new(stream);
    let reading = shared.lifecycle.readers.pass();
    let mut session = shared.engine.open_client(peer, wire.transport(), now());
    tracing::debug!("{} - Client connection created", session.label());
    let settled = match tls {
        None => Ok(()),
        // In a box of its own, so that a connection does not keep the room for a handshake all its life.
        Some(tls) => Box::pin(settle_tls(&shared, &wire, &mut session, &tls)).await,
    };
    let reason = match settled {
        Ok(()) => drive(&shared, &wire, &mut session, reading).await,
        Err(reason) => {
            drop(reading);
            reason
        }
    };
    finish(&wire, &mut session, reason, shared.engine.write_deadline()).await;
    tracing::debug!(
        "{} - Client connection closed: {}",
        session.label(),
        reason.text()
    );
    drop(session);
    hang_up(&shared, &wire, reason).await;
}

/// Does all there is to do for a session until its connection ends, and says why it did.
pub(crate) async fn drive<S: Stream, P: Session>(
    shared: &Shared,
    wire: &Wire<S>,
    session: &mut P,
    reading: Pass<'_>,
) -> CloseReason {
    let mut driver = Driver {
        reading: Some(reading),
        shared,
        wire,
        session,
        timer: None,
        check: None,
        is_trusted: false,
    };
    poll_fn(|context| driver.poll_end(context)).await
}

/// Ends a session, and writes what waits for its peer.
pub(crate) async fn finish<S: Stream, P: Session>(
    wire: &Wire<S>,
    session: &mut P,
    reason: CloseReason,
    write_deadline: Duration,
) {
    while !session.close_step(reason) {
        tokio::task::yield_now().await;
    }
    last_flush(wire, session.outbox(), write_deadline).await;
}

/// Closes the stream. A peer that was told why has the time to read it.
pub(crate) async fn hang_up<S: Stream>(shared: &Shared, wire: &Wire<S>, reason: CloseReason) {
    wire.stream.shutdown_write();
    if is_told(reason) {
        tokio::select! {
            () = linger(wire) => {}
            () = shared.lifecycle.reached(Phase::Closing) => {}
        }
    }
}

/// Settles how the connection is encrypted, unless it is closed meanwhile.
async fn settle_tls<S: Stream>(
    shared: &Shared,
    wire: &Wire<S>,
    session: &mut ClientSession,
    tls: &tls::Context,
) -> Result<(), CloseReason> {
    let Some(socket) = wire.stream.socket() else {
        return Ok(());
    };
    let outbox = Arc::clone(session.outbox());
    let label = session.label().to_string();
    let origin = Origin::of(session.address().map(|address| address.ip()));
    let closed = poll_fn(|context| {
        wire.register(context);
        // A new configuration does not wait for a client that takes its time.
        session.adapt(now());
        match outbox.status().closed {
            Some(reason) => Poll::Ready(reason),
            None if shared.lifecycle.phase() >= Phase::Draining => {
                Poll::Ready(CloseReason::ServerShutdown)
            }
            None => Poll::Pending,
        }
    });
    let settled = tokio::select! {
        biased;
        reason = closed => {
            // A server that is full says so in clear text.
            if reason == CloseReason::ConnectionsExceeded {
                socket.let_clear();
            }
            return Err(reason);
        }
        settled = handshake::settle(shared, socket, tls, &outbox, &label, origin) => settled?,
    };
    settled.apply(shared, socket, tls, session)
}

struct Driver<'a, S, P> {
    shared: &'a Shared,
    wire: &'a Wire<S>,
    session: &'a mut P,
    timer: Option<Pin<Box<Sleep>>>,
    /// A check of a password that is under way.
    check: Option<Pin<Box<dyn Future<Output = Option<bool>> + Send>>>,
    /// The stream knows that the other side has been let in.
    is_trusted: bool,
    /// Held as long as this connection may read.
    reading: Option<Pass<'a>>,
}

impl<S: Stream, P: Session> Driver<'_, S, P> {
    /// Does everything there is to do, and returns the reason once the connection has ended.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<CloseReason> {
        self.wire.register(context);
        for _ in 0..BATCHES_PER_TURN {
            // Goes on by itself: what is ready later wakes this task.
            let _ = self.wire.stream.poll_sent(context);
            let time = now();
            self.session.adapt(time);
            let status = self.session.outbox().status();
            if let Some(reason) = status.closed {
                return Poll::Ready(reason);
            }
            if status.is_blocked && self.wire.stream.poll_writable(context).is_ready() {
                // An error shows again in the write that follows.
                self.session.outbox().flush_unblocked(time);
                continue;
            }
            // What nobody else has promised to flush: whoever appends in passing wakes this task.
            if status.pending_bytes > 0
                && !status.is_blocked
                && self.wire.is_woken.swap(false, Ordering::AcqRel)
            {
                self.session.outbox().flush(time);
                continue;
            }
            let step = self.session.step(time);
            if step == Step::First {
                break;
            }
            self.poll_timer(context, time);
            self.switch_compression();
            if !self.may_read(context, time) {
                if step == Step::More {
                    context.waker().wake_by_ref();
                }
                return self.poll_phase();
            }
            if self.session.is_checking() {
                match self.poll_check(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => continue,
                }
            }
            match self.wire.stream.poll_readable(context) {
                Poll::Pending if step == Step::More => {}
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(CloseReason::ReadError),
                Poll::Ready(Ok(())) => {
                    if let Some(reason) = self.read() {
                        return Poll::Ready(reason);
                    }
                }
            }
        }
        // More to do, but others wait.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn may_read(&mut self, context: &Context<'_>, time: Instant) -> bool {
        if self.shared.lifecycle.phase() >= Phase::Draining {
            self.reading = None;
            self.session.stop_reading();
            return false;
        }
        !self.session.is_stalled(context.waker(), time)
    }

    /// Has a password checked where that holds up nobody, and tells the session the outcome.
    fn poll_check(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(check) = self.session.pending_check() {
            let work = self.shared.password_checks.run(move || check.run());
            self.check = Some(Box::pin(work));
        }
        let is_right = match &mut self.check {
            // One that cannot be made does not let anybody in.
            Some(check) => ready!(check.as_mut().poll(context)).unwrap_or(false),
            None => false,
        };
        self.check = None;
        let Self {
            shared, session, ..
        } = self;
        shared
            .workers
            .with(|worker| session.finish_check(is_right, worker, now()));
        Poll::Ready(())
    }

    fn poll_phase(&self) -> Poll<CloseReason> {
        match self.shared.lifecycle.phase() {
            Phase::Closing => Poll::Ready(CloseReason::ServerShutdown),
            Phase::Running | Phase::LameDuck | Phase::Draining => Poll::Pending,
        }
    }

    /// Compresses what follows, if the session says so, and lets whoever is there send more at a time.
    fn switch_compression(&mut self) {
        if let Some(mode) = self.session.take_compression() {
            let uncompressed_bytes = self.session.outbox().status().pending_bytes;
            let unread = self.session.take_unread();
            self.wire.stream.compress(mode, uncompressed_bytes, unread);
        }
        if self.session.is_let_in() && !std::mem::replace(&mut self.is_trusted, true) {
            self.wire.stream.trust();
        }
    }

    /// Reads and handles one batch; returns the reason if the connection has ended.
    fn read(&mut self) -> Option<CloseReason> {
        let Self {
            shared,
            wire,
            session,
            ..
        } = self;
        shared.workers.with(
            |worker| match wire.stream.try_read(&mut session.read_slices(worker)) {
                Ok(0) => Some(CloseReason::ClientClosed),
                Ok(count) => {
                    session.handle_read(count, worker, now());
                    None
                }
                Err(error) if is_transient(&error) => None,
                Err(error) => {
                    tracing::debug!("{} - Read error: {error}", session.label());
                    Some(CloseReason::ReadError)
                }
            },
        )
    }

    /// Has the session do what is due, and sees to it that this task runs when the next thing is.
    fn poll_timer(&mut self, context: &mut Context<'_>, time: Instant) {
        let mut next = self.session.next_timeout();
        if next <= time {
            self.session.handle_timeout(time);
            next = self.session.next_timeout().max(time);
        }
        let timer = match &mut self.timer {
            // A timer that rings too early costs one look; setting it anew for every batch costs more.
            Some(timer) if timer.deadline().into_std() <= next && !timer.is_elapsed() => timer,
            Some(timer) => {
                timer.as_mut().reset(next.into());
                timer
            }
            none => none.insert(Box::pin(sleep_until(next.into()))),
        };
        if timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Reasons the client is told with its last bytes.
fn is_told(reason: CloseReason) -> bool {
    !matches!(
        reason,
        CloseReason::ClientClosed
            | CloseReason::ReadError
            | CloseReason::WriteError
            | CloseReason::SlowConsumerPendingBytes
            | CloseReason::SlowConsumerWriteDeadline
            | CloseReason::ServerShutdown
    )
}

/// Writes what is queued for a connection that ends, as long as the peer takes it.
async fn last_flush<S: Stream>(wire: &Wire<S>, outbox: &Outbox, write_deadline: Duration) {
    if wire.stream.is_held() {
        return;
    }
    outbox.flush_unblocked(now());
    let flush_all = async {
        let mut pending_bytes = outbox.status().pending_bytes;
        while pending_bytes > 0 {
            // Only once the socket takes bytes again: a refused write would wake this very task.
            let writable = poll_fn(|context| wire.stream.poll_writable(context));
            let Ok(Ok(())) = timeout(write_deadline, writable).await else {
                return;
            };
            outbox.flush_unblocked(now());
            pending_bytes = outbox.status().pending_bytes;
        }
        let sent = poll_fn(|context| wire.stream.poll_sent(context));
        let _ = timeout(write_deadline, sent).await;
    };
    // Whoever does not take them in time does not get them.
    let _ = timeout(LAST_FLUSH_MAX, flush_all).await;
}

async fn linger<S: Stream>(wire: &Wire<S>) {
    let mut discarded = vec![0; 16 * 1024];
    let mut total = 0;
    let listen = poll_fn(|context| {
        for _ in 0..BATCHES_PER_TURN {
            match wire.stream.poll_readable(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            let slices = &mut [IoSliceMut::new(&mut []), IoSliceMut::new(&mut discarded)];
            match wire.stream.try_read(slices) {
                Ok(0) => return Poll::Ready(()),
                Ok(count) => total += count,
                Err(error) if is_transient(&error) => {}
                Err(_) => return Poll::Ready(()),
            }
            if total > LINGER_BYTES_MAX {
                return Poll::Ready(());
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    });
    let _ = timeout(LINGER_MAX, listen).await;
}
