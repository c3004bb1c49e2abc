//! A client's session: from its bytes to operations, and from operations to deliveries and replies.
//!
//! The shell drives it: read into [`read_slices`](ClientSession::read_slices), then
//! [`handle_read`](ClientSession::handle_read); [`handle_timeout`](ClientSession::handle_timeout) when
//! [`next_timeout`](ClientSession::next_timeout) has come; ask [`is_stalled`](ClientSession::is_stalled) before
//! reading on; [`close_step`](ClientSession::close_step) until it is done when the connection has ended.
//! Everything a session sends, also to its own client, goes through outboxes; there is nothing to poll.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap;
use natterjack_wire::client::{
    self, ClientOp, ConnectOptions, Decoded, Publish, Subscribe, Unsubscribe, decode_client,
};
use natterjack_wire::error::{ErrorReply, ProtocolError};

use super::heartbeat::{Beat, Heartbeat};
use crate::account::Account;
use crate::delivery::Subscriber;
use crate::delivery::outbox::{CloseReason, Outbox};
use crate::delivery::rendering::Source;
use crate::delivery::run::Run;
use crate::delivery::subscription::{Sid, Subscription};
use crate::delivery::worker::{Deliverer, Publisher, Worker, remove_from_index};
use crate::engine::{Counters, Engine, Peer};
use crate::limits::{CLOSE_STEP_SUBSCRIPTIONS, LARGE_FRAME_BYTES, READ_BUFFER_BYTES, STALL_MAX};

/// A client connection.
pub struct ClientSession {
    engine: Arc<Engine>,
    account: Arc<Account>,
    outbox: Arc<Outbox>,
    address: Option<SocketAddr>,
    subscriptions: HashMap<Sid, Arc<Subscription>, foldhash::fast::RandomState>,
    /// The start of an operation whose rest has not arrived. Empty and without memory between operations.
    partial: Vec<u8>,
    /// A large message on its way in.
    large: Option<LargeFrame>,
    /// What CONNECT said; absent before it.
    connect: Option<Box<ConnectOptions>>,
    rules: Rules,
    heartbeat: Heartbeat,
    auth_deadline: Option<Instant>,
    /// Consumers this client must wait for before more is read from it, and since when.
    stalled: Option<Box<Stall>>,
    /// Bytes to read at once: fewer while consumers are behind, so that each wait for them counts for more.
    read_bytes_max: usize,
    first_pong_sent: bool,
    messages_in: u64,
    bytes_in: u64,
}

/// The parts of CONNECT that matter per message.
#[derive(Clone, Copy)]
struct Rules {
    verbose: bool,
    pedantic: bool,
    echo: bool,
    headers: bool,
    no_responders: bool,
}

struct LargeFrame {
    /// Initialised in full; `needed` bytes of it are the frame's.
    buffer: Vec<u8>,
    filled: usize,
    needed: usize,
}

struct Stall {
    on: Vec<Arc<Outbox>>,
    since: Instant,
}

/// Why a session stops in the middle of its input.
enum Halt {
    /// With a last word to the client.
    Tell(ErrorReply<'static>, CloseReason),
    /// Without.
    Silent(CloseReason),
}

impl From<ProtocolError> for Halt {
    fn from(error: ProtocolError) -> Self {
        tracing::debug!(%error, "protocol violation");
        match error.reply() {
            Some(reply) => Self::Tell(reply, CloseReason::ProtocolViolation),
            None => Self::Silent(CloseReason::ProtocolViolation),
        }
    }
}

impl ClientSession {
    pub(crate) fn new(engine: Arc<Engine>, outbox: Arc<Outbox>, peer: Peer, now: Instant) -> Self {
        let auth_deadline = engine
            .authorization
            .is_required()
            .then(|| now + engine.limits.auth_timeout);
        let defaults = ConnectOptions::default();
        Self {
            account: Arc::clone(engine.global_account()),
            heartbeat: Heartbeat::new(&engine.limits, now),
            engine,
            outbox,
            address: peer.address,
            subscriptions: HashMap::default(),
            partial: Vec::new(),
            large: None,
            connect: None,
            rules: Rules::of(&defaults),
            auth_deadline,
            stalled: None,
            read_bytes_max: READ_BUFFER_BYTES,
            first_pong_sent: false,
            messages_in: 0,
            bytes_in: 0,
        }
    }

    /// Sends INFO, and refuses the connection if the server is full.
    pub(crate) fn greet(&self, is_full: bool, now: Instant) {
        let mut text = Vec::new();
        client::info(&mut text, &self.info());
        if is_full {
            client::error(&mut text, &ErrorReply::ConnectionsExceeded);
        }
        self.outbox.append(&text);
        self.outbox.flush(now);
        if is_full {
            tracing::warn!(client = self.outbox.id(), "maximum connections exceeded");
            self.outbox.close(CloseReason::ConnectionsExceeded);
        }
    }

    /// The outbound side.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Where the client comes from; `None` inside the process.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The round-trip time to the client, once a PING was answered.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.heartbeat.round_trip()
    }

    /// Messages and their bytes that came from this client.
    #[must_use]
    pub fn published(&self) -> (u64, u64) {
        (self.messages_in, self.bytes_in)
    }

    /// Where to read to next: the rest of a large message, if one is on its way, and then the worker's buffer.
    pub fn read_slices<'a>(&'a mut self, worker: &'a mut Worker) -> [IoSliceMut<'a>; 2] {
        let (large, start): (&mut [u8], usize) = match &mut self.large {
            Some(large) => (&mut large.buffer[large.filled..large.needed], 0),
            None => {
                worker.buffer[..self.partial.len()].copy_from_slice(&self.partial);
                (&mut [], self.partial.len())
            }
        };
        [
            IoSliceMut::new(large),
            IoSliceMut::new(&mut worker.buffer[start..]),
        ]
    }

    /// Handles `count` bytes that were read into [`read_slices`](Self::read_slices) with the same worker:
    /// carries out every complete operation, delivers, and flushes what was delivered to.
    pub fn handle_read(&mut self, count: usize, worker: &mut Worker, now: Instant) {
        self.forget_finished();
        let (messages_before, bytes_before) = (self.messages_in, self.bytes_in);
        let buffer = std::mem::take(&mut worker.buffer);
        let halt = self.read_operations(&buffer, count, worker, now).err();
        worker.buffer = buffer;
        if let Some(halt) = halt {
            self.halt(halt, worker);
        }
        Counters::add(
            &self.engine.counters.messages_in,
            self.messages_in - messages_before,
        );
        Counters::add(&self.engine.counters.bytes_in, self.bytes_in - bytes_before);
        self.end_batch(worker, now);
    }

    /// Whether reading must wait because this client's consumers are behind. If so, `waker` is called when
    /// that changes, and [`next_timeout`](Self::next_timeout) tells when the wait ends in any case.
    pub fn is_stalled(&mut self, waker: &Waker, now: Instant) -> bool {
        let Some(stall) = &mut self.stalled else {
            return false;
        };
        if now >= stall.since + STALL_MAX {
            stall
                .on
                .iter()
                .for_each(|outbox| outbox.give_up_waiting(now));
            stall.on.clear();
            let slowed = self.engine.limits.slowed_read_bytes();
            self.read_bytes_max = (self.read_bytes_max / 4).max(slowed);
        }
        stall.on.retain(|outbox| outbox.wait_congested(waker));
        if stall.on.is_empty() {
            self.stalled = None;
        }
        self.stalled.is_some()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        let stall_end = self.stalled.as_ref().map(|stall| stall.since + STALL_MAX);
        let write_deadline = self
            .outbox
            .status()
            .blocked_since
            .map(|since| since + self.engine.limits.write_deadline);
        [self.auth_deadline, stall_end, write_deadline]
            .into_iter()
            .flatten()
            .fold(self.heartbeat.due(), Instant::min)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let status = self.outbox.status();
        if status.closed.is_some() {
            return;
        }
        let limits = &self.engine.limits;
        if let Some(since) = status.blocked_since
            && now >= since + limits.write_deadline
        {
            let pending_bytes = status.pending_bytes;
            tracing::warn!(
                client = self.outbox.id(),
                pending_bytes,
                "Slow Consumer Detected: WriteDeadline of {:?} exceeded with {pending_bytes} total bytes.",
                limits.write_deadline,
            );
            Counters::add(&self.engine.counters.slow_consumers, 1);
            self.outbox.close(CloseReason::SlowConsumerWriteDeadline);
            return;
        }
        if self.auth_deadline.is_some_and(|deadline| now >= deadline) {
            self.auth_deadline = None;
            self.send_last(
                ErrorReply::AuthenticationTimeout,
                CloseReason::AuthenticationTimeout,
                now,
            );
            return;
        }
        if now >= self.heartbeat.due() {
            match self.heartbeat.beat(&self.engine.limits, now) {
                Beat::Rest => {}
                Beat::Ping => {
                    let mut text = Vec::new();
                    client::ping(&mut text);
                    self.outbox.append(&text);
                    self.outbox.flush(now);
                }
                Beat::Stale => {
                    self.send_last(
                        ErrorReply::StaleConnection,
                        CloseReason::StaleConnection,
                        now,
                    );
                }
            }
        }
    }

    /// Ends the session, some thousand subscriptions a step. Returns `true` once nothing is delivered to it any
    /// more and the engine has forgotten it; call it again until then. What was queued before can still be
    /// flushed; [`Outbox::release`] ends that.
    pub fn close_step(&mut self, reason: CloseReason) -> bool {
        self.outbox.close(reason);
        self.stalled = None;
        let account = &self.account;
        let outbox = &self.outbox;
        let mut budget = CLOSE_STEP_SUBSCRIPTIONS;
        self.subscriptions.retain(|_, subscription| {
            if budget == 0 {
                return true;
            }
            budget -= 1;
            outbox.locked(|| subscription.close());
            remove_from_index(account, subscription);
            false
        });
        if !self.subscriptions.is_empty() {
            return false;
        }
        self.engine.forget(&self.outbox);
        true
    }

    fn info(&self) -> client::ServerInfo {
        client::ServerInfo {
            client_id: self.outbox.id(),
            client_ip: self
                .address
                .map(|address| address.ip().to_string())
                .unwrap_or_default(),
            ..self.engine.info()
        }
    }

    fn read_operations(
        &mut self,
        buffer: &[u8],
        mut count: usize,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        let mut start = 0;
        if let Some(mut large) = self.large.take() {
            let taken = count.min(large.needed - large.filled);
            large.filled += taken;
            count -= taken;
            if large.filled < large.needed {
                self.large = Some(large);
                return Ok(());
            }
            self.handle_large(large, worker, now)?;
        } else {
            start = std::mem::take(&mut self.partial).len();
        }
        let input = &buffer[..start + count];
        let source = Source {
            input,
            shared: None,
        };
        let result = self.handle_input(source, worker, now);
        // What came before a fault is delivered all the same.
        self.finish_run(worker, source, true, now);
        worker.run.is_routed = false;
        self.keep_rest(&input[result?..], worker);
        Ok(())
    }

    /// A large message is complete.
    fn handle_large(
        &mut self,
        large: LargeFrame,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        let bytes = Bytes::from(large.buffer);
        let source = Source {
            input: &bytes[..large.needed],
            shared: Some(&bytes),
        };
        let result = self.handle_input(source, worker, now);
        self.finish_run(worker, source, true, now);
        worker.run.is_routed = false;
        // If every target took it at once, nobody else holds the buffer and the next large message gets it.
        if bytes.is_unique() {
            worker.spare_frame = Vec::from(bytes);
        }
        result.map(|_consumed| ())
    }

    /// Carries out the complete operations at the start of the input; returns where they end.
    fn handle_input(
        &mut self,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<usize, Halt> {
        let limits = client::Limits {
            control_line_bytes_max: self.engine.limits.control_line_bytes_max,
            payload_bytes_max: self.engine.limits.payload_bytes_max,
        };
        let input = source.input;
        let mut at = 0;
        while at < input.len() {
            if self.auth_deadline.is_some() && !input[at].eq_ignore_ascii_case(&b'C') {
                return Err(authorization_violation());
            }
            match decode_client(&input[at..], &limits)? {
                Decoded::Op {
                    op: ClientOp::Publish(publish),
                    consumed,
                } => {
                    self.handle_publish(&publish, source, worker, now)?;
                    at += consumed;
                }
                Decoded::Op { op, consumed } => {
                    self.finish_run(worker, source, false, now);
                    // The operation may change who receives what comes next.
                    worker.run.is_routed = false;
                    self.handle_operation(&op, worker, now)?;
                    at += consumed;
                }
                Decoded::Incomplete { needed } => {
                    self.expect_frame(needed);
                    break;
                }
            }
        }
        Ok(at)
    }

    fn handle_operation(
        &mut self,
        op: &ClientOp<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        match op {
            ClientOp::Publish(_) => unreachable!("handled with the run"),
            ClientOp::Connect(json) => self.handle_connect(json, worker, now)?,
            ClientOp::Subscribe(subscribe) => {
                self.heartbeat.active(now);
                self.handle_subscribe(subscribe, worker);
            }
            ClientOp::Unsubscribe(unsubscribe) => {
                self.heartbeat.active(now);
                self.handle_unsubscribe(unsubscribe, worker);
            }
            ClientOp::Ping => {
                self.heartbeat.active(now);
                self.handle_ping(worker);
            }
            ClientOp::Pong => self.heartbeat.answered(now),
            ClientOp::Ok => {}
            ClientOp::Info(json) => {
                if client::ServerInfo::parse(json).is_err() {
                    return Err(Halt::Silent(CloseReason::ProtocolViolation));
                }
            }
            ClientOp::Err(_) => return Err(Halt::Silent(CloseReason::ClientClosed)),
        }
        Ok(())
    }

    fn handle_connect(
        &mut self,
        json: &[u8],
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        let is_first = self.connect.is_none();
        let mut options = self.connect.take().unwrap_or_default();
        if let Err(error) = options.merge_json(json) {
            tracing::debug!(client = self.outbox.id(), %error, "CONNECT refused");
            return Err(Halt::Silent(CloseReason::ProtocolViolation));
        }
        if !is_first {
            self.drop_subscriptions();
        }
        self.auth_deadline = None;
        let is_authorized = self.engine.authorization.accepts(&options);
        let names_account = options.new_account || !options.account.is_empty();
        self.rules = Rules::of(&options);
        let protocol = options.protocol;
        self.connect = Some(options);
        if !is_authorized || names_account {
            tracing::error!(client = self.outbox.id(), "authentication error");
            return Err(authorization_violation());
        }
        let jitter = fastrand::Rng::with_seed(self.engine.seed()).f64();
        self.heartbeat.connected(&self.engine.limits, jitter, now);
        if !(0..=1).contains(&protocol) {
            return Err(Halt::Tell(
                ErrorReply::InvalidClientProtocol,
                CloseReason::ProtocolViolation,
            ));
        }
        if self.rules.no_responders && !self.rules.headers {
            return Err(Halt::Tell(
                ErrorReply::NoRespondersRequiresHeaders,
                CloseReason::ProtocolViolation,
            ));
        }
        self.outbox.set_headers(self.rules.headers);
        self.acknowledge(worker);
        Ok(())
    }

    fn handle_ping(&mut self, worker: &mut Worker) {
        let mut text = Vec::new();
        client::pong(&mut text);
        let Some(connect) = self.connect.as_ref().filter(|_| !self.first_pong_sent) else {
            self.reply(&text, worker);
            return;
        };
        // The first PING after CONNECT proves that a client that knows asynchronous INFO is ready for one.
        self.first_pong_sent = true;
        if connect.protocol >= 1 {
            self.outbox.set_accepts_info();
            let info = client::ServerInfo {
                connect_info: true,
                remote_account: self.account.name().to_owned(),
                ..self.info()
            };
            client::info(&mut text, &info);
        }
        self.reply(&text, worker);
    }

    fn handle_subscribe(&mut self, subscribe: &Subscribe<'_>, worker: &mut Worker) {
        if let Err(reply) = self.subscribe(subscribe) {
            self.reply_error(&reply, worker);
        } else {
            self.acknowledge(worker);
        }
    }

    fn subscribe<'a>(&mut self, subscribe: &Subscribe<'a>) -> Result<(), ErrorReply<'a>> {
        let Subscribe {
            subject,
            queue,
            sid,
        } = *subscribe;
        // nats-server keeps this queue group's name for its own use.
        if let Some(queue @ b"_sys_") = queue {
            return Err(ErrorReply::QueueSubscribeDenied { subject, queue });
        }
        let tokens_max = self.engine.limits.subscription_tokens_max;
        if tokens_max.is_some_and(|max| subject.split(|&byte| byte == b'.').count() > max) {
            return Err(ErrorReply::TooManyTokens { subject });
        }
        self.forget_finished();
        let subscriptions_max = self.engine.limits.subscriptions_max;
        if subscriptions_max.is_some_and(|max| self.subscriptions.len() >= max) {
            return Err(ErrorReply::SubscriptionsExceeded);
        }
        let hashbrown::hash_map::Entry::Vacant(vacant) =
            self.subscriptions.entry(Sid::from_slice(sid))
        else {
            return Ok(());
        };
        let subscription = Arc::new(Subscription::new(
            Arc::clone(&self.outbox),
            sid,
            subject,
            queue,
        ));
        self.account
            .index()
            .insert(subject, queue, Subscriber(Arc::clone(&subscription)))
            .map_err(|_| ErrorReply::InvalidSubject)?;
        vacant.insert(subscription);
        Ok(())
    }

    fn handle_unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>, worker: &mut Worker) {
        if let Some(subscription) = self.subscriptions.get(unsubscribe.sid) {
            // Under the outbox's lock, so that no message of this subscription follows the acknowledgement.
            let goes_on = self.outbox.locked(|| {
                let goes_on = unsubscribe.max.is_some_and(|max| subscription.limit(max));
                if !goes_on {
                    subscription.close();
                }
                goes_on
            });
            if !goes_on {
                remove_from_index(&self.account, subscription);
                self.subscriptions.remove(unsubscribe.sid);
            }
        }
        self.acknowledge(worker);
    }

    #[inline]
    fn handle_publish(
        &mut self,
        publish: &Publish<'_>,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        self.messages_in += 1;
        self.bytes_in += publish.body.len() as u64;
        let same_subject = worker.run.is_last_subject(publish.subject, source.input);
        if (!same_subject || publish.reply.is_some() || self.rules.needs_care(publish))
            && !self.prepare_publish(publish, same_subject, source, worker, now)?
        {
            return Ok(());
        }
        if worker.run.receivers.is_empty() {
            if publish.reply.is_some() {
                self.no_responders(publish, worker, source, now);
            }
        } else {
            worker.run.push(publish, same_subject, source.input);
        }
        if self.rules.verbose {
            // The acknowledgement has been sent; what it acknowledges follows before the next one.
            self.finish_run(worker, source, false, now);
        }
        Ok(())
    }

    /// Everything about a message that is not the same as for the one before it. Returns whether the message
    /// goes on.
    fn prepare_publish(
        &mut self,
        publish: &Publish<'_>,
        same_subject: bool,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<bool, Halt> {
        self.heartbeat.active(now);
        if publish.header_len.is_some() && !self.rules.headers {
            tracing::debug!(client = self.outbox.id(), "message headers not supported");
            return Err(Halt::Silent(CloseReason::ProtocolViolation));
        }
        if let Some(reply) = refusal(publish) {
            self.finish_run(worker, source, false, now);
            self.reply_error(&reply, worker);
            return Ok(false);
        }
        if self.rules.verbose || self.rules.pedantic {
            self.finish_run(worker, source, false, now);
            if self.rules.pedantic && !natterjack_subject::is_valid_publish_subject(publish.subject)
            {
                self.reply_error(&ErrorReply::InvalidPublishSubject, worker);
            }
            self.acknowledge(worker);
        }
        if !same_subject {
            let found = worker
                .cache
                .route(&self.account, publish.subject, &worker.run.receivers);
            if let Some(receivers) = found {
                self.finish_run(worker, source, false, now);
                worker.run.receivers = receivers;
            }
            worker.run.routed(publish.subject, source.input);
        }
        Ok(true)
    }

    fn no_responders(
        &self,
        publish: &Publish<'_>,
        worker: &mut Worker,
        source: Source<'_>,
        now: Instant,
    ) {
        if self.rules.no_responders
            && let Some(reply) = publish.reply
        {
            self.finish_run(worker, source, false, now);
            let notice = no_responders_notice(self, reply, publish.subject);
            self.reply(&notice, worker);
        }
    }

    /// Delivers the messages collected so far.
    fn finish_run(&self, worker: &mut Worker, source: Source<'_>, is_last: bool, now: Instant) {
        if worker.run.frames.is_empty() {
            return;
        }
        let publisher = Publisher {
            outbox: &self.outbox,
            echo: self.rules.echo,
            account: &self.account,
        };
        let direct = is_last || worker.run.body_bytes >= LARGE_FRAME_BYTES / 2;
        let Worker { run, deliverer, .. } = worker;
        deliverer.deliver(
            run,
            source,
            &publisher,
            direct,
            now,
            |deliverer, frame, run| {
                self.nobody_received(deliverer, frame, run, source);
            },
        );
    }

    fn nobody_received(
        &self,
        deliverer: &mut Deliverer,
        frame: usize,
        run: &Run,
        source: Source<'_>,
    ) {
        if self.rules.no_responders {
            let frame = &run.frames[frame];
            let reply = frame.reply.of_bytes(source.input);
            let notice = no_responders_notice(self, reply, frame.subject.of_bytes(source.input));
            if self.outbox.append(&notice) {
                deliverer.touch(&self.outbox);
            }
        }
    }

    /// Sends the batch's deliveries, and notes who is behind.
    fn end_batch(&mut self, worker: &mut Worker, now: Instant) {
        let deliverer = &mut worker.deliverer;
        deliverer.flush_touched(now);
        Counters::add(
            &self.engine.counters.messages_out,
            std::mem::take(&mut deliverer.messages_out),
        );
        Counters::add(
            &self.engine.counters.bytes_out,
            std::mem::take(&mut deliverer.bytes_out),
        );
        for outbox in deliverer.take_overflowed() {
            Counters::add(&self.engine.counters.slow_consumers, 1);
            tracing::warn!(
                client = outbox.id(),
                "Slow Consumer Detected: MaxPending of {} Exceeded",
                self.engine.limits.pending_bytes_max,
            );
        }
        let congested = deliverer.take_congested();
        if congested.is_empty() {
            self.read_bytes_max = (self.read_bytes_max * 2).min(READ_BUFFER_BYTES);
        } else {
            Counters::add(&self.engine.counters.stalls, 1);
            self.stalled = Some(Box::new(Stall {
                on: congested,
                since: now,
            }));
        }
    }

    /// Keeps the start of an operation until its rest arrives.
    fn keep_rest(&mut self, rest: &[u8], worker: &mut Worker) {
        match &mut self.large {
            Some(large) => {
                let spare = std::mem::take(&mut worker.spare_frame);
                large.buffer = if spare.len() >= large.needed {
                    spare
                } else {
                    vec![0; large.needed]
                };
                large.buffer[..rest.len()].copy_from_slice(rest);
                large.filled = rest.len();
            }
            None => self.partial.extend_from_slice(rest),
        }
    }

    fn expect_frame(&mut self, needed: usize) {
        if needed > LARGE_FRAME_BYTES {
            self.large = Some(LargeFrame {
                buffer: Vec::new(),
                filled: 0,
                needed,
            });
        }
    }

    fn acknowledge(&self, worker: &mut Worker) {
        if self.rules.verbose {
            let mut text = Vec::new();
            client::ok(&mut text);
            self.reply(&text, worker);
        }
    }

    fn reply_error(&self, reply: &ErrorReply<'_>, worker: &mut Worker) {
        let mut text = Vec::new();
        client::error(&mut text, reply);
        self.reply(&text, worker);
    }

    fn reply(&self, text: &[u8], worker: &mut Worker) {
        if self.outbox.append(text) {
            worker.deliverer.touch(&self.outbox);
        }
    }

    fn send_last(&self, reply: ErrorReply<'_>, reason: CloseReason, now: Instant) {
        let mut text = Vec::new();
        client::error(&mut text, &reply);
        self.outbox.append(&text);
        self.outbox.flush(now);
        self.outbox.close(reason);
    }

    fn halt(&mut self, halt: Halt, worker: &mut Worker) {
        self.partial = Vec::new();
        self.large = None;
        let reason = match halt {
            Halt::Tell(reply, reason) => {
                self.reply_error(&reply, worker);
                reason
            }
            Halt::Silent(reason) => reason,
        };
        self.outbox.close(reason);
    }

    /// Forgets subscriptions that got all the messages they wanted.
    fn forget_finished(&mut self) {
        for subscription in self.outbox.take_finished() {
            if let hashbrown::hash_map::EntryRef::Occupied(entry) =
                self.subscriptions.entry_ref(subscription.sid())
                && Arc::ptr_eq(entry.get(), &subscription)
            {
                entry.remove();
            }
        }
    }

    fn drop_subscriptions(&mut self) {
        for (_, subscription) in self.subscriptions.drain() {
            self.outbox.locked(|| subscription.close());
            remove_from_index(&self.account, &subscription);
        }
    }
}

impl Drop for ClientSession {
    /// A session that is dropped without having been closed, because its task was cancelled or panicked,
    /// leaves nothing behind either.
    fn drop(&mut self) {
        while !self.close_step(CloseReason::ServerShutdown) {}
        self.outbox.release();
    }
}

impl Rules {
    fn of(options: &ConnectOptions) -> Self {
        Self {
            verbose: options.verbose,
            pedantic: options.pedantic,
            echo: options.echo,
            headers: options.headers,
            no_responders: options.no_responders,
        }
    }

    /// Whether this message needs more than the one before it with the same subject.
    #[inline]
    fn needs_care(self, publish: &Publish<'_>) -> bool {
        self.verbose || self.pedantic || (publish.header_len.is_some() && !self.headers)
    }
}

fn authorization_violation() -> Halt {
    Halt::Tell(
        ErrorReply::AuthorizationViolation,
        CloseReason::AuthenticationViolation,
    )
}

/// Subjects that only servers publish to (client protocol, section 7).
fn refusal<'a>(publish: &Publish<'a>) -> Option<ErrorReply<'a>> {
    let subject = publish.subject;
    if subject.starts_with(b"_GR_.") || subject.starts_with(b"$NRG.") {
        return Some(ErrorReply::PublishDenied { subject });
    }
    let reply = publish.reply?;
    let reserved: [&[u8]; 3] = [b"_R_.", b"_GR_.", b"$JS.ACK."];
    reserved
        .iter()
        .any(|prefix| reply.starts_with(prefix))
        .then_some(ErrorReply::ReplyDenied { reply })
}

/// The status message for a request nobody heard, if the client has a plain subscription for the reply.
fn no_responders_notice(session: &ClientSession, reply: &[u8], subject: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let receivers = session.account.index().matches(reply);
    let own = receivers.plain().find(|subscriber| {
        Arc::ptr_eq(subscriber.0.outbox(), &session.outbox) && !subscriber.0.is_closed()
    });
    if let Some(own) = own {
        client::no_responders(&mut text, reply, own.0.sid(), subject);
    }
    text
}
