//! What waits to be written to one connection, and who may write it.
//!
//! Any thread may append to an outbox and any thread may flush it, but only one at a time holds the right to
//! write (`writing`). The lock guards memory only: it is never held across a system call, so a producer never
//! waits for another producer's write. Whoever holds the right to write looks again for more before it gives
//! the right back; an append made meanwhile is therefore never left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;

use super::queue::Queue;
use super::rendering::Rendering;
use super::restrictions::Restrictions;
use super::segments::Segments;
use super::subscription::Subscription;
use super::transport::{Transport, Written, write_slices};
use crate::close_reason::CloseReason;
use crate::limits::UNRESPONSIVE_AFTER;

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// Written or queued.
    Accepted,
    /// Queued, and the target is so far behind that its producers should slow down.
    Congested,
    /// Not taken: the connection or the subscription was closed before.
    Closed,
    /// Not taken: the target is too far behind, and its producers are not to be slowed.
    Dropped,
    /// The subscription counts its messages; deliver through [`Outbox::offer_counted`].
    Counted,
}

/// How an outbox stands.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Why the connection was closed, if it was.
    pub closed: Option<CloseReason>,
    /// The connection's task must wait for the socket to take bytes, and then [`Outbox::flush_unblocked`].
    pub is_blocked: bool,
    /// What waits is to be written later, although the socket may take it.
    pub is_held: bool,
    /// Bytes that wait to be written.
    pub pending_bytes: usize,
    /// Since when the socket owes what the write deadline asks of it: a byte, although some wait; or with
    /// [`WriteTimeout::Close`](crate::WriteTimeout::Close) all that waited at that time.
    pub blocked_since: Option<Instant>,
}

/// What was too much for a slow consumer.
#[derive(Clone, Debug)]
pub(crate) struct Overflow {
    /// Bytes that waited.
    pub(crate) pending_bytes: usize,
    /// The subscription whose messages came last; `None` if it was a reply of the server's.
    pub(crate) subject: Option<Box<[u8]>>,
}

/// Bounds of one outbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxLimits {
    pub(crate) pending_bytes_max: usize,
    /// Backlog above which producers are slowed; `usize::MAX` never.
    pub(crate) congested_bytes: usize,
    /// Backlog above which messages are dropped; `usize::MAX` never.
    pub(crate) drop_bytes: usize,
    /// Whether all that waited when the socket was full must be written within the write deadline.
    pub(crate) must_finish: bool,
}

impl OutboxLimits {
    /// Backlog below which waiting producers go on.
    fn resume_bytes(&self) -> usize {
        self.congested_bytes / 2
    }
}

/// The outbound side of one connection, shared by everything that delivers to it.
pub struct Outbox {
    id: u64,
    /// Whether the peer understands headers; set when its CONNECT says so.
    headers: AtomicBool,
    /// Whether the peer can read an INFO at any time.
    accepts_info: AtomicBool,
    /// Set with `State::closed`, for those who choose among connections without locking each.
    closed: AtomicBool,
    restrictions: Restrictions,
    /// Where buffers come from for what waits.
    spare: Arc<Segments>,
    state: Mutex<State>,
}

struct State {
    limits: OutboxLimits,
    /// Of the configuration its session goes by.
    generation: u64,
    /// Gone once the connection is closed, so that what still refers to this outbox keeps no socket open.
    transport: Option<Arc<dyn Transport>>,
    closed: Option<CloseReason>,
    /// Somebody is in a write call; what is appended now is written by them afterwards.
    writing: bool,
    /// The socket was full: its own task waits until it takes more.
    blocked: bool,
    /// What waits behind `queue`, if what is appended is not to be written for the time being.
    held: Option<Queue>,
    /// A batch in progress has promised to flush.
    touched: bool,
    queue: Queue,
    /// Bytes in the hands of whoever is writing.
    in_flight_bytes: usize,
    blocked_since: Option<Instant>,
    /// When the socket was full, and how many of the bytes that waited then still do.
    unfinished_since: Option<Instant>,
    unfinished_bytes: usize,
    /// It has taken nothing for long; nobody waits for it until it does.
    unresponsive: bool,
    /// Producers that wait for the backlog to shrink, and whoever waits for the session to adapt.
    waiting: Vec<Waker>,
    overflow: Option<Overflow>,
    /// Subscriptions that reached their maximum; the session forgets them when it next runs.
    finished: Vec<Arc<Subscription>>,
    messages_out: u64,
    bytes_out: u64,
    delivered_at: Option<Instant>,
    /// Times a producer was held back because of this connection.
    stalls: u64,
}

/// What monitoring wants to know of an outbox.
pub(crate) struct Facts {
    pub(crate) pending_bytes: usize,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) delivered_at: Option<Instant>,
    pub(crate) stalls: u64,
    /// Subscriptions that reached their maximum and that the session has not yet forgotten.
    pub(crate) finished: usize,
}

/// Number of the server's own connection.
pub(crate) const SERVERS_OWN: u64 = 0;

/// Write calls one flush makes for others' bytes before it leaves the rest to the connection's own task.
const WRITES_PER_FLUSH_MAX: usize = 8;

impl Outbox {
    pub(crate) fn new(id: u64, limits: OutboxLimits, transport: Arc<dyn Transport>) -> Self {
        Self {
            id,
            headers: AtomicBool::new(false),
            accepts_info: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            restrictions: Restrictions::default(),
            spare: Arc::default(),
            state: Mutex::new(State {
                limits,
                generation: 0,
                transport: Some(transport),
                closed: None,
                writing: false,
                blocked: false,
                held: None,
                touched: false,
                queue: Queue::default(),
                in_flight_bytes: 0,
                blocked_since: None,
                unfinished_since: None,
                unfinished_bytes: 0,
                unresponsive: false,
                waiting: Vec::new(),
                overflow: None,
                finished: Vec::new(),
                messages_out: 0,
                bytes_out: 0,
                delivered_at: None,
                stalls: 0,
            }),
        }
    }

    /// Has what waits kept in buffers of a server's, in place of some that are nobody else's.
    pub(crate) fn sharing(mut self, spare: &Arc<Segments>) -> Self {
        self.spare = Arc::clone(spare);
        self
    }

    /// The connection's number, unique in its server.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether it is that of the server's own connection.
    #[inline]
    pub(crate) fn is_servers_own(&self) -> bool {
        self.id == SERVERS_OWN
    }

    /// What the user may receive and answer.
    pub(crate) fn restrictions(&self) -> &Restrictions {
        &self.restrictions
    }

    pub(crate) fn headers(&self) -> bool {
        self.headers.load(Ordering::Relaxed)
    }

    pub(crate) fn set_headers(&self, headers: bool) {
        self.headers.store(headers, Ordering::Relaxed);
    }

    /// Whether the connection is closed, as far as this thread has heard.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn accepts_info(&self) -> bool {
        self.accepts_info.load(Ordering::Relaxed)
    }

    pub(crate) fn set_accepts_info(&self) {
        self.accepts_info.store(true, Ordering::Relaxed);
    }

    /// The session goes by another configuration from now on.
    pub(crate) fn adapt(&self, generation: u64, limits: OutboxLimits) {
        let mut state = self.state.lock();
        state.generation = generation;
        state.limits = limits;
        // Among them whoever waits for this; a producer looks again whether it must wait.
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Whether the session goes by this configuration or a later one, or is closed.
    pub(crate) fn is_adapted(&self, generation: u64) -> bool {
        self.state.lock().is_adapted(generation)
    }

    /// Whether to wait until the session [is adapted](Self::is_adapted); if so, `waker` is called when it may be.
    pub(crate) fn wait_adapted(&self, generation: u64, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        let must_wait = !state.is_adapted(generation);
        if must_wait {
            state.add_waiting(waker);
        }
        must_wait
    }

    /// A producer is held back because of this connection.
    pub(crate) fn count_stall(&self) {
        self.state.lock().stalls += 1;
    }

    pub(crate) fn facts(&self) -> Facts {
        let state = self.state.lock();
        Facts {
            pending_bytes: state.pending_bytes(),
            messages_out: state.messages_out,
            bytes_out: state.bytes_out,
            delivered_at: state.delivered_at,
            stalls: state.stalls,
            finished: state.finished.len(),
        }
    }

    /// Messages and payload bytes delivered to this connection so far.
    #[must_use]
    pub fn delivered(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.messages_out, state.bytes_out)
    }

    /// How things stand.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = self.state.lock();
        Status {
            closed: state.closed,
            is_blocked: state.blocked,
            is_held: state.held.is_some(),
            pending_bytes: state.pending_bytes(),
            blocked_since: if state.limits.must_finish {
                state.unfinished_since
            } else {
                state.blocked_since
            },
        }
    }

    /// Closes the connection: nothing is appended any more and its task is woken. The first reason stays.
    /// Bytes already queued are kept for a last [`flush`](Self::flush) by the connection's own task, except
    /// those of a slow consumer, which are dropped.
    pub fn close(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        state.close(&self.closed, reason);
        drop(state);
        self.wake();
    }

    /// Has the connection's task look at its session again.
    pub fn wake(&self) {
        let transport = self.state.lock().transport.clone();
        if let Some(transport) = transport {
            transport.wake();
        }
    }

    /// Lets go of the socket and of everything queued: the connection's task has ended.
    pub fn release(&self) {
        let mut state = self.state.lock();
        state.close(&self.closed, CloseReason::ClientClosed);
        let transport = state.transport.take();
        let queue = std::mem::take(&mut state.queue);
        let held = state.held.take();
        state.blocked = false;
        drop(state);
        drop((transport, queue, held));
    }

    /// Appends protocol text that is not a message. Returns whether the caller must flush this outbox at the
    /// end of its batch.
    pub(crate) fn append(&self, text: &[u8]) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return false;
        }
        state.back().push_copy(text, &self.spare);
        state.check_overflow(self, None);
        !std::mem::replace(&mut state.touched, true)
    }

    /// Like [`append`](Self::append), for text that has nothing to do with what is [held](Self::hold) and goes before it.
    pub(crate) fn append_unheld(&self, text: &[u8]) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return false;
        }
        state.queue.push_copy(text, &self.spare);
        state.check_overflow(self, None);
        !std::mem::replace(&mut state.touched, true)
    }

    /// Appends protocol text from outside of any batch. Whoever calls this has the connection's task [woken](Self::wake)
    /// afterwards, which flushes; a batch that delivers here meanwhile flushes it too.
    pub(crate) fn append_in_passing(&self, text: &[u8]) {
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.back().push_copy(text, &self.spare);
            state.check_overflow(self, None);
        }
    }

    /// Delivers rendered messages, of one subscription or, if there is none, to a peer.
    ///
    /// With `direct`, the caller's batch ends here: if nothing waits before them, the frames go from where
    /// they are straight to the socket, and only what it does not take is queued. Otherwise they are queued,
    /// and `must_flush` is set if the caller has to flush this outbox at the end of its batch.
    pub(crate) fn offer(
        &self,
        subscription: Option<&Subscription>,
        rendering: &mut Rendering<'_>,
        direct: bool,
        now: Instant,
        must_flush: &mut bool,
    ) -> Offered {
        let mut state = self.state.lock();
        if state.closed.is_some() || subscription.is_some_and(Subscription::is_closed) {
            return Offered::Closed;
        }
        if subscription.is_some_and(|subscription| subscription.max() != 0) {
            return Offered::Counted;
        }
        if state.must_drop() {
            return Offered::Dropped;
        }
        if let Some(subscription) = subscription {
            subscription.add_delivered(rendering.messages() as u64);
        }
        state.messages_out += rendering.messages() as u64;
        state.bytes_out += rendering.payload_bytes() as u64;
        state.delivered_at = Some(now);
        if direct && !state.writing && state.held.is_none() && state.queue.bytes == 0 {
            let Some(transport) = state.transport.clone() else {
                return Offered::Closed;
            };
            state.writing = true;
            state.in_flight_bytes = rendering.bytes();
            drop(state);
            let written = write_slices(&*transport, |skip, write| rendering.slices(skip, write));
            state = self.state.lock();
            let mut queue = Queue::default();
            rendering.queue_rest(written.bytes, &mut queue, &self.spare);
            state.after_write(queue, &written, self, now);
            if state.queue.bytes > 0 && state.closed.is_none() {
                self.continue_flush(state, &*transport, now);
                let mut state = self.state.lock();
                state.check_overflow(self, subscription);
                return state.verdict();
            }
            return state.verdict();
        }
        rendering.queue_rest(0, state.back(), &self.spare);
        self.queued(state, subscription, must_flush)
    }

    /// Delivers to a subscription with a maximum: takes the messages it still wants, which `render` is asked
    /// for under the lock so that no other operation of this connection comes between the count and the
    /// message. Returns the outcome and how many messages were taken; `exhausted` tells that the maximum is
    /// reached and the subscription closed.
    pub(crate) fn offer_counted(
        &self,
        subscription: &Arc<Subscription>,
        wanted: usize,
        now: Instant,
        must_flush: &mut bool,
        exhausted: &mut bool,
        render: impl FnOnce(usize, &mut dyn FnMut(&mut Rendering<'_>)),
    ) -> (Offered, usize) {
        let mut state = self.state.lock();
        if state.closed.is_some() || subscription.is_closed() {
            return (Offered::Closed, 0);
        }
        if state.must_drop() {
            return (Offered::Dropped, 0);
        }
        let taken = subscription.take_remaining(wanted);
        state.delivered_at = Some(now);
        render(taken, &mut |rendering| {
            state.messages_out += rendering.messages() as u64;
            state.bytes_out += rendering.payload_bytes() as u64;
            rendering.queue_rest(0, state.back(), &self.spare);
        });
        if subscription.is_exhausted() {
            subscription.close();
            state.finished.push(Subscription::original_of(subscription));
            *exhausted = true;
        }
        (self.queued(state, Some(subscription), must_flush), taken)
    }

    fn queued(
        &self,
        mut state: parking_lot::MutexGuard<'_, State>,
        subscription: Option<&Subscription>,
        must_flush: &mut bool,
    ) -> Offered {
        *must_flush = !std::mem::replace(&mut state.touched, true);
        state.check_overflow(self, subscription);
        state.verdict()
    }

    /// Writes what the socket takes now. What it does not take stays for the connection's own task.
    pub fn flush(&self, now: Instant) {
        let mut state = self.state.lock();
        state.touched = false;
        if state.writing || state.queue.bytes == 0 {
            return;
        }
        let Some(transport) = state.transport.clone() else {
            return;
        };
        self.continue_flush(state, &*transport, now);
    }

    /// Like [`flush`](Self::flush), for the connection's own task when the socket takes bytes again.
    pub fn flush_unblocked(&self, now: Instant) {
        self.state.lock().blocked = false;
        self.flush(now);
    }

    /// From now on what is appended waits, until it is `held` no more and somebody flushes.
    pub(crate) fn hold(&self, held: bool) {
        let mut state = self.state.lock();
        if !held {
            state.unhold();
        } else if state.closed.is_none() && state.held.is_none() {
            state.held = Some(Queue::default());
        }
    }

    fn continue_flush<'a>(
        &'a self,
        mut state: parking_lot::MutexGuard<'a, State>,
        transport: &dyn Transport,
        now: Instant,
    ) {
        for _ in 0..WRITES_PER_FLUSH_MAX {
            if state.queue.bytes == 0 || state.blocked {
                return;
            }
            state.writing = true;
            let mut queue = std::mem::take(&mut state.queue);
            state.in_flight_bytes = queue.bytes;
            drop(state);
            let written = write_slices(transport, |skip, write| queue.slices(skip, write));
            queue.consume(written.bytes, &self.spare);
            state = self.state.lock();
            state.after_write(queue, &written, self, now);
        }
        if state.queue.bytes > 0 && !state.blocked {
            state.blocked = true;
            drop(state);
            transport.wake();
        }
    }

    /// Whether a producer should wait before it sends more to this connection; if so, `waker` is called once
    /// the backlog has shrunk or the connection is closed.
    pub(crate) fn wait_congested(&self, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_some()
            || state.unresponsive
            || state.queued_bytes() <= state.limits.resume_bytes()
        {
            return false;
        }
        state.add_waiting(waker);
        true
    }

    /// A producer has waited for this connection as long as it may.
    pub(crate) fn give_up_waiting(&self, now: Instant) {
        let mut state = self.state.lock();
        let since = state.blocked_since;
        if since.is_some_and(|since| now.saturating_duration_since(since) >= UNRESPONSIVE_AFTER) {
            state.unresponsive = true;
        }
    }

    /// What was too much for this connection, if that is why it was closed.
    pub(crate) fn overflow(&self) -> Option<Overflow> {
        self.state.lock().overflow.clone()
    }

    pub(crate) fn take_finished(&self) -> Vec<Arc<Subscription>> {
        std::mem::take(&mut self.state.lock().finished)
    }

    /// Runs `change` so that no delivery to this connection happens meanwhile.
    pub(crate) fn locked<R>(&self, change: impl FnOnce() -> R) -> R {
        let _state = self.state.lock();
        change()
    }
}

impl State {
    fn close(&mut self, flag: &AtomicBool, reason: CloseReason) {
        if self.closed.is_some() {
            return;
        }
        flag.store(true, Ordering::Relaxed);
        self.closed = Some(reason);
        self.unhold();
        if matches!(
            reason,
            CloseReason::SlowConsumerPendingBytes
                | CloseReason::SlowConsumerWriteDeadline
                | CloseReason::WriteError
        ) {
            self.queue = Queue::default();
        }
        self.waiting.drain(..).for_each(Waker::wake);
    }

    /// Where what is appended goes.
    fn back(&mut self) -> &mut Queue {
        self.held.as_mut().unwrap_or(&mut self.queue)
    }

    fn unhold(&mut self) {
        if let Some(held) = self.held.take() {
            self.queue.append(held);
        }
    }

    fn queued_bytes(&self) -> usize {
        self.queue.bytes + self.held.as_ref().map_or(0, |held| held.bytes)
    }

    fn pending_bytes(&self) -> usize {
        self.queued_bytes() + self.in_flight_bytes
    }

    fn is_congested(&self) -> bool {
        self.pending_bytes() > self.limits.congested_bytes && !self.unresponsive
    }

    fn must_drop(&self) -> bool {
        self.pending_bytes() > self.limits.drop_bytes
    }

    fn is_adapted(&self, generation: u64) -> bool {
        self.generation >= generation || self.closed.is_some()
    }

    fn add_waiting(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|known| known.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    /// What to say of messages that were taken. Messages that were too much for the connection were taken too:
    /// they are lost with it, and nobody else gets them.
    fn verdict(&self) -> Offered {
        if self.closed.is_none() && self.is_congested() {
            Offered::Congested
        } else {
            Offered::Accepted
        }
    }

    /// Closes the connection if more waits than allowed.
    fn check_overflow(&mut self, outbox: &Outbox, cause: Option<&Subscription>) {
        let pending_bytes = self.pending_bytes();
        if pending_bytes <= self.limits.pending_bytes_max || self.closed.is_some() {
            return;
        }
        let subject = cause.map(|subscription| subscription.subject().into());
        self.overflow = Some(Overflow {
            pending_bytes,
            subject,
        });
        self.close(&outbox.closed, CloseReason::SlowConsumerPendingBytes);
        if let Some(transport) = &self.transport {
            transport.wake();
        }
    }

    /// Takes back what a write left over; whatever was appended meanwhile comes after it.
    fn after_write(&mut self, mut rest: Queue, written: &Written, outbox: &Outbox, now: Instant) {
        self.writing = false;
        self.in_flight_bytes = 0;
        if self.transport.is_none() {
            return;
        }
        if written.failed {
            self.close(&outbox.closed, CloseReason::WriteError);
            if let Some(transport) = &self.transport {
                transport.wake();
            }
            return;
        }
        if self
            .closed
            .is_some_and(|reason| reason == CloseReason::SlowConsumerPendingBytes)
        {
            return;
        }
        if rest.bytes > 0 {
            rest.append(std::mem::take(&mut self.queue));
            self.queue = rest;
        }
        if written.bytes > 0 {
            self.unresponsive = false;
            self.blocked_since = None;
            self.unfinished_bytes = self.unfinished_bytes.saturating_sub(written.bytes);
        }
        if self.queue.bytes == 0 || self.unfinished_bytes == 0 {
            self.unfinished_since = None;
        }
        if self.queue.bytes == 0 {
            self.blocked_since = None;
        } else if written.full {
            self.blocked_since.get_or_insert(now);
            if self.unfinished_since.is_none() {
                self.unfinished_since = Some(now);
                self.unfinished_bytes = self.queue.bytes;
            }
            if !std::mem::replace(&mut self.blocked, true)
                && let Some(transport) = &self.transport
            {
                transport.wake();
            }
        }
        if !self.waiting.is_empty() && self.queued_bytes() <= self.limits.resume_bytes() {
            self.waiting.drain(..).for_each(Waker::wake);
        }
    }
}
