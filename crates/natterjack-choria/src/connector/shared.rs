//! What the handles of a connector, its task and its streams share: what is to be sent, what came, who listens to what.
//!
//! No lock is held while anything is waited for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use natterjack_link::Pool;
use natterjack_wire::client::{ping, publish, subscribe, unsubscribe};
use tokio::sync::{Notify, broadcast, oneshot, watch};

use super::dial::Caller;
use super::event::{Counters, Direction, Event, count};
use super::overlap::{Overlap, Verdict};
use super::servers::Servers;
use super::{ConnectorOptions, PublishError};
use crate::server::ServerAddress;
use crate::subject::SUBJECT_BYTES_MAX;

/// Events that are kept for those who have not looked yet.
const EVENTS_MAX: usize = 256;

/// Bytes that may wait for a connected server, beside what the connection itself holds.
const CONNECTED_BYTES_MAX: usize = 8 << 20;

/// Bytes that are given to the connection at once, unless one message is larger.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// What a message takes beside its content, about.
const OVERHEAD_BYTES: usize = 100;

/// What the handles want of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Idle,
    Connected,
    Stopped,
}

/// How far the task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Away,
    Connected(ServerAddress),
    Stopped,
}

pub(super) struct Core {
    pub(super) options: ConnectorOptions,
    pub(super) caller: Caller,
    pub(super) servers: Servers,
    pub(super) counters: Counters,
    pub(super) wish: watch::Sender<Wish>,
    pub(super) status: watch::Sender<Status>,
    pub(super) inbox: Inbox,
    /// There is something for the connection.
    pub(super) work: Notify,
    /// Something has been given to it, or it is gone.
    pub(super) room: Notify,
    events: broadcast::Sender<Event>,
    /// While one connection takes the place of another, and for a while after that.
    overlap: Mutex<Option<Overlap>>,
    outbox: Mutex<Outbox>,
    pool: Mutex<Pool<ServerAddress>>,
}

/// What is to be sent.
#[derive(Default)]
struct Outbox {
    /// What is not a message, for this connection alone. It goes before messages.
    control: Vec<u8>,
    messages: VecDeque<Message>,
    /// Of those.
    bytes: usize,
    subscriptions: BTreeMap<u64, Subscription>,
    sid_last: u64,
    /// `None`: there is no connection.
    payload_bytes_max: Option<usize>,
    /// Who wants to know when everything before it has arrived.
    observers: Vec<oneshot::Sender<()>>,
    /// For each PING that has not been answered, who waits for that.
    pings: VecDeque<Vec<oneshot::Sender<()>>>,
    is_dropping: bool,
    is_stopped: bool,
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) content: Bytes,
}

impl Message {
    fn bytes(&self) -> usize {
        self.subject.len() + self.content.len() + OVERHEAD_BYTES
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Subscription {
    subject: String,
    group: Option<String>,
}

/// Why a message was not taken.
pub(super) enum Refused {
    /// For good.
    Because(PublishError),
    /// There is a connection, which will take more in a moment.
    Later,
}

impl Core {
    pub(super) fn new(options: ConnectorOptions, caller: Caller, servers: Servers) -> Self {
        Self {
            inbox: Inbox::new(options.inbox_bytes_max),
            options,
            caller,
            servers,
            counters: Counters::default(),
            wish: watch::Sender::new(Wish::Idle),
            status: watch::Sender::new(Status::Away),
            work: Notify::new(),
            room: Notify::new(),
            events: broadcast::Sender::new(EVENTS_MAX),
            overlap: Mutex::default(),
            outbox: Mutex::default(),
            pool: Mutex::new(Pool::new(Vec::new())),
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overlap(&self) -> MutexGuard<'_, Option<Overlap>> {
        self.overlap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, Pool<ServerAddress>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(super) fn tell(&self, event: Event) {
        // That nobody listens is no fault.
        let _ = self.events.send(event);
    }

    /// `false`: there is such a subscription already.
    pub(super) fn subscribe(&self, subject: String, group: Option<String>) -> bool {
        let new = Subscription { subject, group };
        let mut outbox = self.outbox();
        if outbox.subscriptions.values().any(|known| *known == new) {
            return false;
        }
        outbox.sid_last += 1;
        let sid = outbox.sid_last;
        if outbox.payload_bytes_max.is_some() {
            new.write(sid, &mut outbox.control);
        }
        outbox.subscriptions.insert(sid, new);
        drop(outbox);
        self.work.notify_one();
        true
    }

    /// `false`: there was none.
    pub(super) fn unsubscribe(&self, subject: &str) -> bool {
        let mut outbox = self.outbox();
        let ended: Vec<_> = outbox
            .subscriptions
            .extract_if(.., |_, known| known.subject == subject)
            .collect();
        if outbox.payload_bytes_max.is_some() {
            for (sid, _) in &ended {
                unsubscribe(&mut outbox.control, sid.to_string().as_bytes(), None);
            }
        }
        drop(outbox);
        self.work.notify_one();
        !ended.is_empty()
    }

    pub(super) fn is_subscribed(&self, sid: u64) -> bool {
        self.outbox().subscriptions.contains_key(&sid)
    }

    /// Puts a message into the queue, or says why not.
    pub(super) fn push(&self, message: &Message) -> Result<(), Refused> {
        let because = |error| Err(Refused::Because(error));
        let bytes = message.bytes();
        // Whoever made the message should have looked; the connection would be lost over it, with all that waits.
        if message.subject.len() > SUBJECT_BYTES_MAX {
            return because(PublishError::SubjectTooLong(message.subject.len()));
        }
        let mut outbox = self.outbox();
        if outbox.is_stopped {
            return because(PublishError::Closed);
        }
        match outbox.payload_bytes_max {
            Some(bytes_max) if message.content.len() > bytes_max => {
                return because(PublishError::TooLarge {
                    bytes: message.content.len(),
                    bytes_max,
                });
            }
            // One that is larger than all of it may go alone.
            Some(_)
                if !outbox.messages.is_empty() && outbox.bytes + bytes > CONNECTED_BYTES_MAX =>
            {
                return Err(Refused::Later);
            }
            None if outbox.bytes + bytes > self.options.away_bytes_max => {
                return because(PublishError::Away {
                    bytes_max: self.options.away_bytes_max,
                });
            }
            Some(_) | None => {}
        }
        let bytes_max = match outbox.payload_bytes_max {
            Some(_) => CONNECTED_BYTES_MAX,
            None => self.options.away_bytes_max,
        };
        outbox.is_dropping &= is_still_full(outbox.bytes, bytes_max);
        outbox.bytes += bytes;
        outbox.messages.push_back(message.clone());
        drop(outbox);
        self.work.notify_one();
        Ok(())
    }

    /// Resolves when a server has seen all that was sent before.
    pub(super) fn observe(&self) -> Option<oneshot::Receiver<()>> {
        let (sender, receiver) = oneshot::channel();
        let mut outbox = self.outbox();
        outbox.payload_bytes_max?;
        outbox.observers.push(sender);
        drop(outbox);
        self.work.notify_one();
        Some(receiver)
    }

    /// There is a connection: it gets all subscriptions before anything else, but for those that it has.
    pub(super) fn linked(&self, payload_bytes_max: usize, subscribed: &BTreeSet<u64>) {
        let mut outbox = self.outbox();
        outbox.payload_bytes_max = Some(payload_bytes_max);
        let mut control = Vec::new();
        for (sid, subscription) in &outbox.subscriptions {
            if !subscribed.contains(sid) {
                subscription.write(*sid, &mut control);
            }
        }
        for sid in subscribed {
            if !outbox.subscriptions.contains_key(sid) {
                unsubscribe(&mut control, sid.to_string().as_bytes(), None);
            }
        }
        outbox.control = control;
    }

    /// From now on another connection than that which is there may bring the same. Answers what to tell it for that, and
    /// which subscriptions those are.
    pub(super) fn begin_overlap(&self) -> (Vec<u8>, BTreeSet<u64>) {
        self.overlap().get_or_insert_default().open();
        let outbox = self.outbox();
        let mut control = Vec::new();
        for (sid, subscription) in &outbox.subscriptions {
            subscription.write(*sid, &mut control);
        }
        (control, outbox.subscriptions.keys().copied().collect())
    }

    /// The connection that is there gets no more messages: another one does.
    pub(super) fn resign(&self) {
        let mut outbox = self.outbox();
        let Outbox {
            control,
            subscriptions,
            ..
        } = &mut *outbox;
        for sid in subscriptions.keys() {
            unsubscribe(control, sid.to_string().as_bytes(), None);
        }
        drop(outbox);
        self.work.notify_one();
    }

    /// There is one connection; what it brings of what came over the other one is still known.
    pub(super) fn close_overlap(&self) {
        if let Some(overlap) = &mut *self.overlap() {
            overlap.close();
        }
    }

    /// Nothing of it comes any more, unless there are two connections again.
    pub(super) fn forget_overlap(&self) {
        let mut overlap = self.overlap();
        if overlap.as_ref().is_some_and(|overlap| !overlap.is_open()) {
            *overlap = None;
        }
    }

    /// Another connection takes its place at once, and gets all that was not given to it.
    pub(super) fn passed_on(&self) {
        let mut outbox = self.outbox();
        outbox.control.clear();
        outbox.pings.clear();
        drop(outbox);
        self.close_overlap();
    }

    /// It is gone: what was not given to it waits for the next one, as far as there is room.
    pub(super) fn unlinked(&self) {
        let mut outbox = self.outbox();
        outbox.payload_bytes_max = None;
        outbox.control.clear();
        outbox.observers.clear();
        outbox.pings.clear();
        let mut dropped = 0;
        while outbox.bytes > self.options.away_bytes_max {
            let Some(oldest) = outbox.messages.pop_front() else {
                break;
            };
            outbox.bytes -= oldest.bytes();
            dropped += 1;
        }
        self.dropped(outbox, dropped);
        self.room.notify_waiters();
    }

    /// Ends everything.
    pub(super) fn stopped(&self) {
        let mut outbox = self.outbox();
        outbox.is_stopped = true;
        let lost = outbox.messages.len();
        outbox.messages.clear();
        outbox.bytes = 0;
        drop(outbox);
        count(&self.counters.dropped, lost);
        self.room.notify_waiters();
        self.inbox.close();
    }

    fn dropped(&self, mut outbox: MutexGuard<'_, Outbox>, messages: usize) {
        if messages == 0 {
            return;
        }
        let is_new = !std::mem::replace(&mut outbox.is_dropping, true);
        drop(outbox);
        count(&self.counters.dropped, messages);
        if is_new {
            tracing::warn!(
                messages,
                "messages to the server are lost: the queue is full"
            );
            self.tell(Event::Dropping {
                direction: Direction::Out,
            });
        }
    }

    /// Appends what is to be sent next to `batch`.
    pub(super) fn take(&self, batch: &mut Vec<u8>) {
        let mut outbox = self.outbox();
        let bytes_max = outbox.payload_bytes_max.unwrap_or_default();
        batch.append(&mut outbox.control);
        let (mut messages, mut bytes, mut dropped) = (0, 0, 0);
        while batch.len() < BATCH_BYTES_MAX
            && let Some(message) = outbox.messages.pop_front()
        {
            outbox.bytes -= message.bytes();
            // It was taken for another server, which would have allowed it.
            if message.content.len() > bytes_max {
                dropped += 1;
                continue;
            }
            publish(batch, message.subject.as_bytes(), None, &message.content);
            messages += 1;
            bytes += message.content.len();
        }
        if outbox.messages.is_empty() && !outbox.observers.is_empty() {
            let observers = std::mem::take(&mut outbox.observers);
            outbox.pings.push_back(observers);
            ping(batch);
        }
        self.dropped(outbox, dropped);
        count(&self.counters.messages_out, messages);
        count(&self.counters.bytes_out, bytes);
    }

    /// Sends something that is no message.
    pub(super) fn control(&self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.outbox().control);
        self.work.notify_one();
    }

    /// Asks whether the server is still there.
    pub(super) fn ping(&self) {
        let mut outbox = self.outbox();
        outbox.pings.push_back(Vec::new());
        ping(&mut outbox.control);
        drop(outbox);
        self.work.notify_one();
    }

    /// The server has answered the oldest PING.
    pub(super) fn pong(&self) {
        let observers = self.outbox().pings.pop_front();
        for observer in observers.into_iter().flatten() {
            // Who asked may have lost patience.
            let _ = observer.send(());
        }
    }

    /// Something came over a connection.
    pub(super) fn deliver(&self, connection: u64, delivery: Delivery) {
        let verdict = (self.overlap().as_mut()).map_or(Verdict::New, |overlap| {
            overlap.note(connection, &delivery.subject, &delivery.content)
        });
        if verdict == Verdict::Again {
            return;
        }
        count(&self.counters.messages_in, 1);
        count(&self.counters.bytes_in, delivery.content.len());
        let pushed = if verdict == Verdict::Unknowable {
            self.inbox.refuse()
        } else {
            self.inbox.push(delivery)
        };
        match pushed {
            Pushed::Taken => {}
            Pushed::Full { is_new } => {
                count(&self.counters.dropped, 1);
                if is_new {
                    tracing::warn!("messages are lost: they come faster than they are taken");
                    self.tell(Event::Dropping {
                        direction: Direction::In,
                    });
                }
            }
        }
    }
}

impl Subscription {
    fn write(&self, sid: u64, out: &mut Vec<u8>) {
        let group = self.group.as_ref().map(String::as_bytes);
        let sid = sid.to_string();
        subscribe(out, self.subject.as_bytes(), group, sid.as_bytes());
    }
}

/// A message as it came.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) subject: String,
    pub(super) content: Vec<u8>,
    /// Who brought it.
    pub(super) server: ServerAddress,
}

impl Delivery {
    fn bytes(&self) -> usize {
        self.subject.len() + self.content.len() + OVERHEAD_BYTES
    }
}

/// Whether a queue that was full has so much left in it that the next message that is lost is the same trouble. Otherwise
/// one that is full, takes one, and is full again would tell so each time.
const fn is_still_full(bytes: usize, bytes_max: usize) -> bool {
    bytes > bytes_max / 2
}

/// What came and was not taken yet.
pub(super) struct Inbox {
    bytes_max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Delivery>,
    bytes: usize,
    /// Of streams that wait.
    wakers: Vec<Waker>,
    is_dropping: bool,
    is_closed: bool,
}

enum Pushed {
    Taken,
    Full { is_new: bool },
}

impl Inbox {
    fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            waiting: Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, delivery: Delivery) -> Pushed {
        let bytes = delivery.bytes();
        let mut waiting = self.waiting();
        if !waiting.queue.is_empty() && waiting.bytes + bytes > self.bytes_max {
            return waiting.refuse();
        }
        waiting.is_dropping &= is_still_full(waiting.bytes, self.bytes_max);
        waiting.bytes += bytes;
        waiting.queue.push_back(delivery);
        waiting.wake();
        Pushed::Taken
    }

    /// For what is not taken whatever room there is.
    fn refuse(&self) -> Pushed {
        self.waiting().refuse()
    }

    fn close(&self) {
        let mut waiting = self.waiting();
        waiting.is_closed = true;
        waiting.wake();
    }

    /// How many messages have come and wait.
    pub(super) fn count(&self) -> usize {
        self.waiting().queue.len()
    }

    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Option<Delivery>> {
        let mut waiting = self.waiting();
        if let Some(delivery) = waiting.queue.pop_front() {
            waiting.bytes -= delivery.bytes();
            return Poll::Ready(Some(delivery));
        }
        if waiting.is_closed {
            return Poll::Ready(None);
        }
        let waker = context.waker();
        if !waiting.wakers.iter().any(|known| known.will_wake(waker)) {
            waiting.wakers.push(waker.clone());
        }
        Poll::Pending
    }
}

impl Waiting {
    fn refuse(&mut self) -> Pushed {
        let is_new = !std::mem::replace(&mut self.is_dropping, true);
        Pushed::Full { is_new }
    }

    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(bytes: usize) -> Delivery {
        Delivery {
            subject: "a".into(),
            content: vec![0; bytes],
            server: "a:1".parse().unwrap(),
        }
    }

    fn take(inbox: &Inbox) -> bool {
        let taken = inbox.poll(&Context::from_waker(Waker::noop()));
        matches!(taken, Poll::Ready(Some(_)))
    }

    #[test]
    fn a_full_inbox_tells_so_once_until_half_of_it_is_free() {
        const COUNT: usize = 10;
        let inbox = Inbox::new(COUNT * delivery(900).bytes());
        let told = |pushed| match pushed {
            Pushed::Taken => None,
            Pushed::Full { is_new } => Some(is_new),
        };
        let fill = || (0..COUNT).all(|_| matches!(inbox.push(delivery(900)), Pushed::Taken));
        assert!(fill());
        assert_eq!(told(inbox.push(delivery(900))), Some(true));
        for _ in 0..100 {
            assert!(take(&inbox));
            assert_eq!(told(inbox.push(delivery(900))), None);
            assert_eq!(told(inbox.push(delivery(900))), Some(false));
        }
        assert!((0..COUNT).all(|_| take(&inbox)));
        assert!(!take(&inbox));
        assert!(fill());
        assert_eq!(told(inbox.push(delivery(900))), Some(true));
    }

    #[test]
    fn subjects_take_room_as_well() {
        let inbox = Inbox::new(10_000);
        let long = || Delivery {
            subject: "a".repeat(4000),
            ..delivery(0)
        };
        let taken = (0..10).take_while(|_| matches!(inbox.push(long()), Pushed::Taken));
        assert_eq!(taken.count(), 2);
        while take(&inbox) {}
        assert_eq!(inbox.waiting().bytes, 0);
    }
}
