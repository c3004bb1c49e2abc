//! A client's session: from its bytes to operations, and from operations to deliveries and replies.
//!
//! The shell drives it: read into [`read_slices`](ClientSession::read_slices), then
//! [`handle_read`](ClientSession::handle_read); [`handle_timeout`](ClientSession::handle_timeout) when
//! [`next_timeout`](ClientSession::next_timeout) has come; before reading on, call
//! [`retire_step`](ClientSession::retire_step) until it is done and ask
//! [`is_stalled`](ClientSession::is_stalled); [`close_step`](ClientSession::close_step) until it is done when the connection has ended.
//! Everything a session sends, also to its own client, goes through outboxes; there is nothing to poll.
//!
//! When [`is_checking`](ClientSession::is_checking) says so, a password has to be checked before anything more is read:
//! [`pending_check`](ClientSession::pending_check) hands the check out, to be run where it holds up nobody, and
//! [`finish_check`](ClientSession::finish_check) takes the outcome.
//!
//! Here is the life of a session; what comes in is taken apart in [`input`], carried out in [`operations`], who
//! the client is in [`login`], and messages are handled in [`publish`].

mod adapt;
mod cross;
mod driven;
mod input;
mod log;
mod login;
mod operations;
mod publish;
mod secure;
mod traced;
mod violations;
mod wrong_port;

use core::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use natterjack_wire::client::{self, ConnectOptions};
use natterjack_wire::error::ErrorReply;

pub use self::log::Label;
use self::login::Identity;
use self::violations::{SLOWED_READ_BYTES, Violations};
use super::heartbeat::{Beat, Heartbeat};
use super::intake::Partial;
use super::stall::Stall;
use crate::access::MessageTrace;
use crate::account::Account;
use crate::certificate_names::CertificateNames;
use crate::close_reason::CloseReason;
use crate::config::Config;
use crate::delivery::outbox::Outbox;
use crate::delivery::subscription::{Sid, Subscription};
use crate::delivery::worker::{Worker, remove_from_index};
use crate::engine::{Engine, Peer};
use crate::exchange::{Mappings, ServiceImports, StreamImports};
use crate::limits::{CLOSE_STEP_SUBSCRIPTIONS, STALL_MAX};
use crate::monitor::EndedSubscription;
use crate::monitor::closed::SUBSCRIPTION_BYTES_OF_ONE_MAX;
use crate::monitor::counters;
use crate::monitor::record::Record;

/// A client connection.
pub struct ClientSession {
    engine: Arc<Engine>,
    /// What this session goes by.
    config: Arc<Config>,
    account: Arc<Account>,
    /// Of what the account's clients publish.
    mappings: Option<Arc<Mappings>>,
    /// What the account wants to know of messages with trace contexts.
    message_trace: Option<Arc<MessageTrace>>,
    /// What the account hears of others.
    stream_imports: Option<Arc<StreamImports>>,
    /// Services of others that the account uses.
    service_imports: Option<Arc<ServiceImports>>,
    /// The message in hand was received in another account.
    is_received_elsewhere: bool,
    outbox: Arc<Outbox>,
    record: Arc<Record>,
    subscriptions: Subscriptions,
    /// Subscriptions of before a second CONNECT: closed, and still to be taken out of the index.
    retired: Vec<Arc<Subscription>>,
    /// The account they are in, if the client has left it since.
    retired_from: Option<Arc<Account>>,
    partial: Partial,
    /// The configuration under which the operation began that is not all there yet, if there was a newer one since:
    /// what was within its bounds when it was announced is not refused for having been on its way.
    began_under: Option<Arc<Config>>,
    /// What CONNECT said; absent before it.
    connect: Option<Box<ConnectOptions>>,
    rules: Rules,
    identity: Identity,
    heartbeat: Heartbeat,
    auth_deadline: Option<Instant>,
    /// It is no client, and waits for its end, which comes with that deadline.
    is_turned_away: bool,
    /// What the certificate says that the client has shown.
    certificate_names: Option<Box<CertificateNames>>,
    /// Consumers this client must wait for before more is read from it.
    stall: Stall,
    violations: Violations,
    first_pong_sent: bool,
    is_ended: bool,
    is_forgotten: bool,
    /// What is to be told of its end, once there is something.
    ending: Option<Box<Ending>>,
    /// The time as far as this session was told.
    now: Instant,
    messages_in: u64,
    bytes_in: u64,
}

/// What is told of a connection that has ended.
#[derive(Default)]
struct Ending {
    /// Bytes that waited when the write deadline passed.
    overdue_bytes: usize,
    /// Subscriptions it had, and their bytes.
    subscriptions: Vec<EndedSubscription>,
    subscription_bytes: usize,
}

impl Ending {
    fn note(&mut self, subscription: &Subscription) {
        let bytes = self.subscription_bytes + EndedSubscription::bytes_of(subscription);
        // One that got all it wanted had ended before.
        if bytes <= SUBSCRIPTION_BYTES_OF_ONE_MAX && !subscription.is_closed() {
            self.subscriptions.push(EndedSubscription::of(subscription));
            self.subscription_bytes = bytes;
        }
    }
}

type Subscriptions = HashMap<Sid, Arc<Subscription>, foldhash::fast::FixedState>;

/// The parts of CONNECT that matter per message.
#[derive(Clone, Copy)]
struct Rules {
    verbose: bool,
    pedantic: bool,
    echo: bool,
    headers: bool,
    no_responders: bool,
}

impl ClientSession {
    pub(crate) fn new(
        engine: Arc<Engine>,
        config: Arc<Config>,
        record: Arc<Record>,
        peer: Peer,
        now: Instant,
    ) -> Self {
        let must_log_in = config.directory.is_closed() && !peer.trust.is_trusted();
        let auth_deadline = must_log_in.then(|| now + config.limits.auth_timeout);
        let defaults = ConnectOptions::default();
        let account = Arc::clone(engine.global_account());
        account.counters.entered();
        // In which order subscriptions end with the connection is seen by peers, so that it comes from the seed too.
        let hasher = foldhash::fast::FixedState::with_seed(engine.seed());
        let outbox = Arc::clone(record.outbox());
        outbox.adapt(config.generation, config.outbox_limits());
        Self {
            heartbeat: Heartbeat::new(&config.limits, now),
            engine,
            mappings: config.mappings(account.name()).map(Arc::clone),
            message_trace: config.message_trace(account.name()).map(Arc::clone),
            stream_imports: config.stream_imports(account.name()).map(Arc::clone),
            service_imports: config.service_imports(account.name()).map(Arc::clone),
            is_received_elsewhere: false,
            config,
            account,
            outbox,
            record,
            subscriptions: HashMap::with_hasher(hasher),
            retired: Vec::new(),
            retired_from: None,
            partial: Partial::default(),
            began_under: None,
            connect: None,
            rules: Rules::of(&defaults),
            identity: Identity::new(peer.nonce, peer.trust),
            auth_deadline,
            is_turned_away: false,
            certificate_names: None,
            stall: Stall::default(),
            violations: Violations::default(),
            first_pong_sent: false,
            is_ended: false,
            is_forgotten: false,
            ending: None,
            now,
            messages_in: 0,
            bytes_in: 0,
        }
    }

    /// Sends INFO, and refuses the connection if the server is full.
    pub(crate) fn greet(&self, is_full: bool, now: Instant) {
        let mut text = Vec::new();
        let mut info = self.info();
        if self.config.directory.needs_nonce() {
            self.identity.nonce.text().clone_into(&mut info.nonce);
        }
        client::info(&mut text, &info);
        if is_full {
            client::error(&mut text, &ErrorReply::ConnectionsExceeded);
        }
        self.outbox.append(&text);
        self.outbox.flush(now);
        if is_full {
            self.tell_of_surplus("maximum connections exceeded", now);
            self.outbox.close(CloseReason::ConnectionsExceeded);
        }
    }

    /// The outbound side.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// How the client appears in the log.
    #[must_use]
    pub fn label(&self) -> Label<'_> {
        Label(self)
    }

    /// Where the client comes from; `None` inside the process.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.record.address()
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

    /// Whether reading must wait because this client's consumers are behind, or for the end of what is none. If so, `waker` is called when
    /// that changes, and [`next_timeout`](Self::next_timeout) tells when the wait ends in any case.
    pub fn is_stalled(&mut self, waker: &Waker, now: Instant) -> bool {
        if self.is_turned_away {
            return true;
        }
        let slowed = self.config.limits.slowed_read_bytes();
        self.stall.is_stalled(slowed, waker, now)
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        let write_deadline = self
            .outbox
            .status()
            .blocked_since
            .map(|since| since + self.config.limits.write_deadline);
        [self.auth_deadline, self.stall.ends_at(), write_deadline]
            .into_iter()
            .flatten()
            .fold(self.heartbeat.due(), Instant::min)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        let status = self.outbox.status();
        if status.closed.is_some() {
            return;
        }
        let limits = &self.config.limits;
        if let Some(since) = status.blocked_since
            && now >= since + limits.write_deadline
        {
            self.ending.get_or_insert_default().overdue_bytes = status.pending_bytes;
            self.outbox.close(CloseReason::SlowConsumerWriteDeadline);
            return;
        }
        if self.auth_deadline.is_some_and(|deadline| now >= deadline) {
            self.auth_deadline = None;
            let (reply, reason) = if self.is_turned_away {
                // What nats-server says to a route there, too.
                (ErrorReply::UnknownOperation, CloseReason::WrongPort)
            } else {
                (
                    ErrorReply::AuthenticationTimeout,
                    CloseReason::AuthenticationTimeout,
                )
            };
            self.send_last(reply, reason, now);
            return;
        }
        if now >= self.heartbeat.due() {
            match self.heartbeat.beat(&self.config.limits, now) {
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

    /// Takes some thousand subscriptions of before a second CONNECT out of the index. Returns whether there are
    /// more; nothing is to be read until there are none.
    pub fn retire_step(&mut self) -> bool {
        let kept = self.retired.len().saturating_sub(CLOSE_STEP_SUBSCRIPTIONS);
        let account = self.retired_from.as_ref().unwrap_or(&self.account);
        for subscription in self.retired.drain(kept..) {
            remove_from_index(account, &subscription);
        }
        if self.retired.is_empty() {
            self.retired_from = None;
        }
        !self.retired.is_empty()
    }

    /// No more is read from this client; it waits for nobody any more.
    pub fn stop_reading(&mut self) {
        self.stall.clear();
    }

    /// Ends the session, some thousand subscriptions a step. Returns `true` once nothing is delivered to it any
    /// more and the engine has forgotten it; call it again until then. What was queued before can still be
    /// flushed; [`Outbox::release`] ends that.
    pub fn close_step(&mut self, reason: CloseReason) -> bool {
        self.outbox.close(reason);
        if !std::mem::replace(&mut self.is_ended, true) {
            self.note_end();
        }
        self.stall.clear();
        if self.retire_step() {
            return false;
        }
        for (_, subscription) in self
            .subscriptions
            .extract_if(|_, _| true)
            .take(CLOSE_STEP_SUBSCRIPTIONS)
        {
            self.ending.get_or_insert_default().note(&subscription);
            subscription.close();
            remove_from_index(&self.account, &subscription);
        }
        if !self.subscriptions.is_empty() {
            return false;
        }
        if !std::mem::replace(&mut self.is_forgotten, true) {
            self.account.counters.left();
            self.report_account();
            let ended = self.ending.take().unwrap_or_default().subscriptions;
            self.engine.forget(&self.record, self.now, ended);
        }
        true
    }

    pub(super) fn info(&self) -> client::ServerInfo {
        let address = self.record.address();
        let info = self.engine.info(&self.config, self.outbox.id(), address);
        client::ServerInfo {
            max_payload: self.payload_bytes_max(self.config.limits.payload_bytes_max) as i64,
            ..info
        }
    }

    /// Sends the batch's deliveries, and notes who is behind.
    pub(super) fn end_batch(&mut self, worker: &mut Worker, now: Instant) {
        worker.cache.sweep();
        let deliverer = &mut worker.deliverer;
        // A run never leaves its publisher's account.
        let counters = &self.account.counters;
        counters.add_delivered(std::mem::take(&mut deliverer.delivered));
        deliverer.flush_touched(now);
        self.engine.counters.add_undelivered(deliverer);
        let congested = deliverer.take_congested();
        counters.add_cache_use(worker.cache.take_use());
        counters::add(&self.engine.counters.stalls, congested.len() as u64);
        self.stall.end_batch(congested, STALL_MAX, now);
        if self.violations.end_batch() {
            self.stall.slow_down(SLOWED_READ_BYTES);
        }
    }

    /// Whether to log an operation that was refused; says how many were not logged before it.
    fn may_log_violation(&self) -> bool {
        let unlogged = self.violations.note(self.now);
        if let Some(unlogged @ 1..) = unlogged {
            tracing::error!("{} - {unlogged} more violations", self.label());
        }
        unlogged.is_some()
    }

    /// Counts and reports a slow consumer, once, whoever found out that it was one.
    fn note_end(&self) {
        let limits = &self.config.limits;
        let label = self.label();
        let unlogged = self.violations.take_unlogged();
        if unlogged > 0 {
            tracing::error!("{label} - {unlogged} more violations");
        }
        let counters = &self.engine.counters;
        match self.outbox.status().closed {
            Some(CloseReason::SlowConsumerPendingBytes) => {
                counters::add(&counters.overfull.clients, 1);
                let overflow = self.outbox.overflow();
                let pending_bytes = overflow
                    .as_ref()
                    .map_or(0, |overflow| overflow.pending_bytes);
                let subject = overflow
                    .and_then(|overflow| overflow.subject)
                    .unwrap_or_default();
                tracing::warn!(
                    "{label} - Slow Consumer Detected: MaxPending of {} Exceeded: {pending_bytes} bytes waited, \
                     the last for subject \"{}\"",
                    limits.pending_bytes_max,
                    subject.escape_ascii(),
                );
            }
            Some(CloseReason::SlowConsumerWriteDeadline) => {
                counters::add(&counters.overdue.clients, 1);
                tracing::warn!(
                    "{label} - Slow Consumer Detected: WriteDeadline of {:?} exceeded with {} total bytes",
                    limits.write_deadline,
                    self.ending
                        .as_ref()
                        .map_or(0, |ending| ending.overdue_bytes),
                );
            }
            Some(CloseReason::PayloadExceeded) => {
                counters::add(&counters.publishes_too_long, 1);
                return;
            }
            Some(CloseReason::StaleConnection) => {
                counters::add(&counters.stale.clients, 1);
                return;
            }
            _ => return,
        }
        counters::add(&self.account.counters.slow_consumers, 1);
    }

    fn send_last(&self, reply: ErrorReply<'_>, reason: CloseReason, now: Instant) {
        let mut text = Vec::new();
        client::error(&mut text, &reply);
        self.outbox.append(&text);
        self.outbox.flush(now);
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

    /// Ends all subscriptions at once; [`retire_step`](Self::retire_step) does the long part.
    fn drop_subscriptions(&mut self) {
        // Those of an account before the last one are waited for: two accounts are enough to keep apart.
        while self.retired_from.is_some() && self.retire_step() {}
        self.outbox
            .locked(|| self.subscriptions.values().for_each(|held| held.close()));
        self.retired
            .extend(self.subscriptions.drain().map(|(_, held)| held));
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
}
