//! The session of a connection with another server of the cluster: from its bytes to operations, and what comes of them.
//!
//! Its life: whoever dialled says CONNECT, both say INFO ([`handshake`]), it is let in by the
//! [mesh](crate::mesh::Mesh) or not; from then on it tells the peer what this server's subscribers want ([`announce`]),
//! keeps what the peer wants ([`interest`]), and hands its messages on ([`publish`]). Either side may say INFO again
//! ([`info`]). What comes in is taken apart in [`input`]; what is wrong with a peer is said through [`complaints`](super::complaints).

mod announce;
mod handover;
mod handshake;
mod heartbeat;
mod info;
mod input;
mod interest;
mod publish;
mod traced;

use core::cell::Cell;
use core::fmt::{self, Display};
use core::net::SocketAddr;
use std::io::IoSliceMut;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use natterjack_wire::error::ErrorReply;
use natterjack_wire::route::{self, Compression};

use self::announce::Announcer;
use self::handover::Handover;
use self::handshake::{Peer, Stage};
use self::heartbeat::{Beat, RouteHeartbeat};
pub(crate) use self::info::public_info;
use self::interest::PeerInterest;
use self::publish::Passing;
use super::complaints::{Place, Shown, Unsaid};
use super::intake::{Partial, read_operations};
use super::stall::Stall;
use super::{Session, Step};
use crate::access::{CompiledPermissions, PasswordCheck};
use crate::close_reason::CloseReason;
use crate::config::Config;
use crate::delivery::outbox::Outbox;
use crate::delivery::worker::Worker;
use crate::engine::{Direction, Engine, Nonce, RoutePeer};
use crate::limits::{CLOSE_STEP_SUBSCRIPTIONS, READ_BYTES_MAX};
use crate::mesh::dial::{DialId, Purpose};
use crate::mesh::link::RouteLink;
use crate::mesh::roster::RouteConnection;
use crate::mesh::settings::ClusterSettings;
use crate::mesh::{Fate, Mesh};
use crate::monitor::record::Noted;
use crate::monitor::{RouteFacts, counters};

/// A connection with a peer.
pub struct RouteSession {
    engine: Arc<Engine>,
    mesh: Arc<Mesh>,
    /// What this session goes by.
    config: Arc<Config>,
    cluster: Arc<ClusterSettings>,
    outbox: Arc<Outbox>,
    connection: Arc<RouteConnection>,
    nonce: Nonce,
    /// What it was dialled for, if it was.
    dialled: Option<(DialId, Purpose)>,
    stage: Stage,
    /// Who is there, once it has said so.
    peer: Option<Peer>,
    /// What the other side calls itself, as soon as it says so; for the log.
    remote: String,
    /// Its id, from its first INFO on.
    met: String,
    /// Both sides take part, as far as is known.
    has_come_about: bool,
    /// The log was told of it.
    is_told: bool,
    /// Whether the log was told what is wrong with the peer; `None` if nothing is.
    complained: Cell<Option<bool>>,
    /// The account it is for.
    account: Option<Arc<str>>,
    /// Once it was let in.
    link: Option<Arc<RouteLink>>,
    announcer: Announcer,
    interest: PeerInterest,
    /// Accounts that come from other connections with the peer, or go there.
    handover: Handover,
    /// What is announced and accepted.
    permissions: Option<Arc<CompiledPermissions>>,
    passing: Passing,
    partial: Partial,
    heartbeat: RouteHeartbeat,
    auth_deadline: Option<Instant>,
    /// The peer wants to be told that what it says is well.
    is_verbose: bool,
    /// A peer's password is checked: the check, until it is handed out, and what it said.
    checking: Option<Box<handshake::Checking>>,
    /// How what is sent is compressed.
    compression: Compression,
    /// To be told to the shell.
    new_compression: Option<Compression>,
    /// The shell has been told, and the INFO that follows is to be written.
    must_greet: bool,
    /// A reload has come between what INFO said and the registration.
    is_info_stale: bool,
    /// Size of the own pool, as INFO said it first.
    pool_size_told: u32,
    /// What was read and is compressed.
    unread: Vec<u8>,
    /// Consumers this peer must wait for before more is read from it.
    stall: Stall,
    fate: Fate,
    is_ended: bool,
    is_forgotten: bool,
    overdue_bytes: usize,
    now: Instant,
    messages_in: u64,
    bytes_in: u64,
    /// The two when the last batch ended.
    came_before: (u64, u64),
    /// What monitoring shows.
    compression_shown: Compression,
}

impl RouteSession {
    pub(crate) fn new(
        engine: Arc<Engine>,
        mesh: Arc<Mesh>,
        config: Arc<Config>,
        connection: Arc<RouteConnection>,
        peer: &RoutePeer,
        purpose: Option<Purpose>,
        now: Instant,
    ) -> Option<Self> {
        let cluster = Arc::clone(config.cluster.as_ref()?);
        let outbox = Arc::clone(connection.outbox());
        outbox.adapt(config.generation, cluster.outbox_limits());
        let dialled = match (peer.direction, purpose) {
            (Direction::Dialled(id), Some(purpose)) => Some((id, purpose)),
            _ => None,
        };
        let must_log_in =
            dialled.is_none() && cluster.login.is_some() && !cluster.is_known_by_certificate;
        Some(Self {
            pool_size_told: cluster.pool_size,
            interest: PeerInterest::new(engine.seed()),
            heartbeat: RouteHeartbeat::new(&cluster.limits, now),
            auth_deadline: must_log_in.then(|| now + cluster.limits.auth_timeout),
            permissions: config.route_permissions.clone(),
            account: (dialled.as_ref()).and_then(|(_, purpose)| purpose.account.clone()),
            stage: if dialled.is_some() {
                Stage::Info
            } else {
                Stage::Connect
            },
            engine,
            mesh,
            config,
            cluster,
            outbox,
            connection,
            nonce: peer.nonce,
            dialled,
            peer: None,
            remote: String::new(),
            met: String::new(),
            has_come_about: false,
            is_told: false,
            complained: Cell::new(None),
            link: None,
            announcer: Announcer::default(),
            handover: Handover::default(),
            passing: Passing::default(),
            partial: Partial::default(),
            is_verbose: false,
            checking: None,
            compression: Compression::Off,
            new_compression: None,
            must_greet: false,
            is_info_stale: false,
            unread: Vec::new(),
            stall: Stall::default(),
            fate: Fate::Lost,
            is_ended: false,
            is_forgotten: false,
            overdue_bytes: 0,
            now,
            messages_in: 0,
            bytes_in: 0,
            came_before: (0, 0),
            compression_shown: Compression::Off,
        })
    }

    /// Says the first words of this side.
    pub(crate) fn greet(&self, now: Instant) {
        let mut text = Vec::new();
        match &self.dialled {
            Some((_, purpose)) => route::connect(&mut text, &self.own_connect(purpose)),
            None => route::info(&mut text, &self.own_info(self.cluster.compression, 0)),
        }
        self.outbox.append(&text);
        self.outbox.flush(now);
        // What the log tells are connections that come about.
        tracing::debug!("{} - Route connection opened", Session::label(self));
    }

    /// How the connection is encrypted has been settled: the peer's time to log in begins now.
    pub fn begin(&mut self, now: Instant) {
        self.heartbeat = RouteHeartbeat::new(&self.cluster.limits, now);
        if self.auth_deadline.is_some() {
            self.auth_deadline = Some(now + self.cluster.limits.auth_timeout);
        }
    }

    /// Says in the log that the peer has refused this server before it said a word, and why; to be told before
    /// [`close_step`](Session::close_step).
    pub fn tell_of_refusal(&self, why: &dyn Display) {
        self.complain("refusal", why);
    }

    /// Where the peer is.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.connection.address()
    }

    /// Whether this server dialled.
    #[must_use]
    pub fn is_dialled(&self) -> bool {
        self.dialled.is_some()
    }

    /// Whether the connection takes part in the cluster.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.link.is_some()
    }

    /// Interest that the peer has announced on this connection.
    #[must_use]
    pub fn peer_interest(&self) -> usize {
        self.interest.len()
    }

    /// Whether another connection is with the same peer.
    fn is_same_peer(&self, link: &RouteLink) -> bool {
        let peer = self.peer.as_ref();
        peer.is_some_and(|peer| self.mesh.is_with(&peer.id, link.outbox().id()))
    }

    /// Appends text that is not a message, to be flushed by this task.
    fn say(&self, text: &[u8], now: Instant) {
        self.outbox.append(text);
        self.outbox.flush(now);
    }

    fn send_last(&self, reply: &ErrorReply<'_>, reason: CloseReason, now: Instant) {
        let mut text = Vec::new();
        route::error(&mut text, reply);
        self.say(&text, now);
        self.outbox.close(reason);
    }

    /// Sends the batch's deliveries, and notes who is behind.
    fn end_batch(&mut self, worker: &mut Worker, now: Instant) {
        worker.cache.sweep();
        // Before anybody hears of the batch, so that pages tell of what has been heard.
        self.count_delivered(worker);
        self.note();
        worker.deliverer.flush_touched(now);
        let deliverer = &mut worker.deliverer;
        self.engine.counters.add_undelivered(deliverer);
        let is_ours = self.link.as_ref().is_some_and(|link| link.takes_strays());
        let limits = &self.config.limits;
        let wait_max = limits.peer_wait(deliverer.congesting_bytes(), is_ours);
        let congested = deliverer.take_congested();
        if let Some(account) = self.passing.account() {
            account.counters.add_cache_use(worker.cache.take_use());
        }
        counters::add(&self.engine.counters.stalls, congested.len() as u64);
        let (messages_before, bytes_before) = self.came_before;
        self.came_before = (self.messages_in, self.bytes_in);
        self.stall.size_up(
            self.messages_in - messages_before,
            self.bytes_in - bytes_before,
            limits.large_messages_read_bytes(),
        );
        self.stall.end_batch(congested, wait_max, now);
    }

    /// Shows monitoring how things stand.
    fn note(&mut self) {
        if self.link.is_some() && self.compression != self.compression_shown {
            self.describe();
        }
        self.connection.record().note(
            Noted {
                active: self.heartbeat.last_active(),
                round_trip: self.heartbeat.round_trip(),
                messages_in: self.messages_in,
                bytes_in: self.bytes_in,
                subscriptions: self.interest.len(),
            },
            self.heartbeat.started(),
        );
    }

    /// Shows monitoring who is there.
    fn describe(&mut self) {
        let Some(peer) = &self.peer else {
            return;
        };
        self.compression_shown = self.compression;
        self.connection.record().describe(RouteFacts {
            peer_id: Arc::clone(&peer.id),
            peer_name: peer.name.as_str().into(),
            is_dialled: self.dialled.is_some(),
            account: self.account.clone(),
            import: peer.import.clone(),
            export: peer.export.clone(),
            compression: self.compression,
            started: self.heartbeat.started(),
        });
    }

    /// Both sides take part, as far as is known.
    fn came_about(&mut self) {
        if std::mem::replace(&mut self.has_come_about, true) {
            return;
        }
        let label = Session::label(self);
        let remote = Shown(&self.remote);
        let unsaid = (self.mesh.complaints.lock()).note_arrival(self.place(), self.now);
        match unsaid {
            Some(unsaid) => {
                tracing::info!("{label} - Route connection created - Remote: {remote}{unsaid}");
            }
            None => tracing::debug!("{label} - Route connection created - Remote: {remote}"),
        }
        self.is_told = unsaid.is_some();
    }

    /// Says what is wrong with the other side, of which `thing` is a name, and who that is as far as known.
    fn complain(&self, thing: &str, what: &dyn Display) {
        let unsaid = self.may_say(thing);
        self.complained.set(Some(unsaid.is_some()));
        match unsaid {
            Some(unsaid) => tracing::error!("{} - {what}{}{unsaid}", self.label(), self.behind()),
            None => tracing::debug!("{} - {what}{}", self.label(), self.behind()),
        }
    }

    /// The same of what may be over by itself.
    fn warn(&self, thing: &str, what: &dyn Display) {
        let unsaid = self.may_say(thing);
        self.complained.set(Some(unsaid.is_some()));
        match unsaid {
            Some(unsaid) => tracing::warn!("{} - {what}{}{unsaid}", self.label(), self.behind()),
            None => tracing::debug!("{} - {what}{}", self.label(), self.behind()),
        }
    }

    /// The same of what is as it is.
    fn inform(&self, thing: &str, what: &dyn Display) {
        match self.may_say(thing) {
            Some(unsaid) => tracing::info!("{} - {what}{}{unsaid}", self.label(), self.behind()),
            None => tracing::debug!("{} - {what}{}", self.label(), self.behind()),
        }
    }

    /// Who is there, behind what is said of it.
    fn behind(&self) -> impl Display {
        fmt::from_fn(|formatter| match self.remote.as_str() {
            "" => Ok(()),
            remote => write!(formatter, " - Remote: {}", Shown(remote)),
        })
    }

    /// The other side did not finish the handshake in time.
    fn complain_of_silence(&self) {
        let age = self.heartbeat.age(self.now);
        let missing = match self.stage {
            Stage::Connect => "CONNECT",
            Stage::Info | Stage::InfoAgain | Stage::Registered => "INFO",
        };
        self.complain(
            "silence",
            &format_args!(
                "The other side has not said {missing} within {}s, as a server of a cluster would",
                age.as_secs()
            ),
        );
    }

    /// The same of one that took part, and answers no more.
    fn tell_of_lost_peer(&self) {
        if let Some(unsaid) = self.may_say("stale") {
            tracing::warn!(
                "{} - PING was not answered in time: the other server is paused, overloaded or gone, or the line to it is \
                 cut; look at it if it does not come back{}{unsaid}",
                self.label(),
                self.behind()
            );
        }
    }

    /// Whether something is to be said of the other side, and then what was not.
    fn may_say(&self, thing: &str) -> Option<Unsaid> {
        let place = self.place();
        // One address may be that of several servers, each of which is to be corrected.
        let thing = format!("{thing} - {}", Shown(&self.remote));
        self.mesh.complaints.lock().note(place, &thing, self.now)
    }

    fn place(&self) -> Place {
        Place::new(self.connection.address(), self.dialled.is_some())
    }

    /// Says, once, how the connection ended.
    fn note_end(&mut self, reason: CloseReason) {
        match reason {
            CloseReason::SlowConsumerPendingBytes => {
                let overflow = self.outbox.overflow();
                let pending_bytes = overflow.map_or(0, |overflow| overflow.pending_bytes);
                let pending_bytes_max = self.cluster.limits.pending_bytes_max;
                counters::add(&self.engine.counters.overfull.routes, 1);
                self.tell_of_slowness(&format_args!(
                    "MaxPending of {pending_bytes_max} Exceeded: {pending_bytes} bytes waited"
                ));
            }
            CloseReason::SlowConsumerWriteDeadline => {
                let write_deadline = self.cluster.limits.write_deadline;
                counters::add(&self.engine.counters.overdue.routes, 1);
                self.tell_of_slowness(&format_args!(
                    "WriteDeadline of {write_deadline:?} exceeded with {} total bytes",
                    self.overdue_bytes
                ));
            }
            CloseReason::DuplicateRoute => self.fate = Fate::Superfluous,
            _ => {}
        }
        let (label, behind) = (Session::label(self), self.behind());
        let is_of_interest = self.is_told || !self.has_come_about && self.is_refusal(reason);
        let reason = reason.text();
        if is_of_interest {
            tracing::info!("{label} - Router connection closed: {reason}{behind}");
        } else {
            tracing::debug!("{label} - Router connection closed: {reason}{behind}");
        }
    }

    /// The peer did not take what it was sent.
    fn tell_of_slowness(&self, what: &dyn Display) {
        let label = Session::label(self);
        match self.may_say("slow") {
            Some(unsaid) => tracing::warn!("{label} - Slow Consumer Detected: {what}{unsaid}"),
            None => tracing::debug!("{label} - Slow Consumer Detected: {what}"),
        }
    }

    /// Whether the end of a connection that did not come about is worth a line. That one of two which were opened at the
    /// same time ends is not, nor what was said of others just now.
    fn is_refusal(&self, reason: CloseReason) -> bool {
        // What this server says to itself is told where it dials.
        if *self.remote == *self.mesh.own_id() {
            return false;
        }
        // Before INFO the id is known of CONNECT.
        let id = if self.met.is_empty() {
            &self.remote
        } else {
            &self.met
        };
        let is_superfluous =
            reason == CloseReason::DuplicateRoute || self.mesh.has_others(id, self.outbox.id());
        if is_superfluous && self.complained.get().is_none() {
            return false;
        }
        let is_by_other_side = matches!(
            reason,
            CloseReason::ClientClosed | CloseReason::ReadError | CloseReason::WriteError
        );
        if is_by_other_side && self.dialled.is_some() && self.complained.get().is_none() {
            self.complain(
                "closed",
                &"The other side closed the connection without a word: its log says why. Another `server_name`, another \
                  `name` of the cluster, or TLS on both sides or none, or a certificate that it accepts may help",
            );
        }
        match self.complained.get() {
            Some(was_said) => was_said,
            None => self.may_say(reason.text()).is_some(),
        }
    }
}

impl Session for RouteSession {
    fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    fn label(&self) -> String {
        let id = self.outbox.id();
        match self.connection.address() {
            Some(address) => format!("{address} - rid:{id}"),
            None => format!("in-process - rid:{id}"),
        }
    }

    #[inline]
    fn adapt(&mut self, now: Instant) {
        self.now = now;
        if self.config.generation != self.engine.generation() {
            self.change_over(now);
        }
        if self.connection.take_doubt() && self.link.is_some() {
            self.heartbeat.doubt(now);
            self.ping(now);
        }
    }

    fn read_slices<'a>(&'a mut self, worker: &'a mut Worker) -> [IoSliceMut<'a>; 2] {
        let bytes_max = if self.link.is_some() {
            self.stall.read_bytes_max()
        } else {
            handshake::READ_BYTES
        };
        self.partial.read_slices(&mut worker.buffer, bytes_max)
    }

    fn handle_read(&mut self, count: usize, worker: &mut Worker, now: Instant) {
        self.adapt(now);
        if self.outbox.is_closed() {
            return;
        }
        if self.is_checking() {
            self.partial.put_aside(&worker.buffer, count);
            return;
        }
        let buffer = std::mem::take(&mut worker.buffer);
        let outcome = read_operations(self, &buffer, count, worker, now);
        worker.buffer = buffer;
        self.end_read(outcome, worker, now);
    }

    fn next_timeout(&self) -> Instant {
        let blocked_since = self.outbox.status().blocked_since;
        let write_deadline = blocked_since.map(|since| since + self.cluster.limits.write_deadline);
        let handover = self.handover.next_timeout();
        [
            self.auth_deadline,
            self.stall.ends_at(),
            write_deadline,
            handover,
        ]
        .into_iter()
        .flatten()
        .fold(self.heartbeat.due(), Instant::min)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        let status = self.outbox.status();
        if status.closed.is_some() {
            return;
        }
        let deadline = self.cluster.limits.write_deadline;
        if (status.blocked_since).is_some_and(|since| now >= since + deadline) {
            self.overdue_bytes = status.pending_bytes;
            self.outbox.close(CloseReason::SlowConsumerWriteDeadline);
            return;
        }
        if self.auth_deadline.is_some_and(|deadline| now >= deadline) {
            self.auth_deadline = None;
            self.complain_of_silence();
            let reason = CloseReason::AuthenticationTimeout;
            self.send_last(&ErrorReply::AuthenticationTimeout, reason, now);
            return;
        }
        self.handle_handover_timeout(now);
        if now >= self.heartbeat.due() {
            match self.heartbeat.beat(&self.cluster.limits, now) {
                Beat::Ping => {
                    self.remind(now);
                    self.ping(now);
                }
                Beat::Stale => {
                    if self.link.is_none() {
                        self.complain_of_silence();
                    } else {
                        self.tell_of_lost_peer();
                    }
                    tracing::debug!(
                        "{} - Stale Client Connection - Closing",
                        Session::label(self)
                    );
                    counters::add(&self.engine.counters.stale.routes, 1);
                    let reason = CloseReason::StaleConnection;
                    self.send_last(&ErrorReply::StaleConnection, reason, now);
                }
            }
        }
    }

    fn step(&mut self, now: Instant) -> Step {
        self.now = now;
        if self.must_greet {
            self.must_greet = false;
            self.say_info_again(now);
        }
        if self.link.is_some() {
            // What others queued in passing, and woke this task for.
            self.outbox.flush(now);
        }
        let announced = self.announce_step(now);
        let handed_over = self.handover_step(now);
        if announced == Step::Done {
            handed_over
        } else {
            announced
        }
    }

    fn is_stalled(&mut self, waker: &Waker, now: Instant) -> bool {
        // The wait is for what is behind alone; reading less at once would hold up everything else.
        self.stall.is_stalled(READ_BYTES_MAX, waker, now)
    }

    fn stop_reading(&mut self) {
        self.stall.clear();
    }

    fn is_checking(&self) -> bool {
        self.checking.is_some()
    }

    fn pending_check(&mut self) -> Option<PasswordCheck> {
        self.checking.as_mut()?.check.take()
    }

    fn finish_check(&mut self, is_right: bool, worker: &mut Worker, now: Instant) {
        self.adapt(now);
        let outcome = self.finish_login(is_right, worker, now);
        self.end_read(outcome, worker, now);
    }

    fn take_compression(&mut self) -> Option<Compression> {
        let taken = self.new_compression.take()?;
        if self.stage == Stage::InfoAgain && self.dialled.is_none() {
            // Only now may what is compressed be written; the step that does it is to come.
            self.must_greet = true;
            self.outbox.wake();
        }
        Some(taken)
    }

    fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    fn is_let_in(&self) -> bool {
        self.is_registered()
    }

    fn close_step(&mut self, reason: CloseReason) -> bool {
        self.outbox.close(reason);
        if !std::mem::replace(&mut self.is_ended, true) {
            let reason = self.outbox.status().closed.unwrap_or(reason);
            self.note_end(reason);
            self.connection.record().end();
            self.stop_announcing();
            self.end_handover();
        }
        self.stall.clear();
        if !self.interest.remove_some(CLOSE_STEP_SUBSCRIPTIONS) {
            return false;
        }
        if !std::mem::replace(&mut self.is_forgotten, true) {
            self.forget_account();
            // Last, so that nobody dials the peer while its interest is still here.
            self.mesh.unregister(
                &self.connection,
                self.peer.as_ref().map(|peer| &*peer.id),
                self.account.as_deref(),
                self.dialled.as_ref().map(|(id, _)| *id),
                self.fate,
                self.now,
            );
            self.engine.announce_mesh(self.now);
        }
        true
    }
}
