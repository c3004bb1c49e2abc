//! How an account goes from one connection with the peer to another: to one of its own, or back to those that are shared.
//!
//! Messages must come once, in order, and none may be lost. Each side decides for the interest that it tells where that is
//! to be, by nothing but which connections there are: on the account's own as soon as both sides know of it, until one of
//! them gives it up ([`AccountMove::Ends`]), else on one that is shared. If there is another place than before:
//!
//! 1. All interest is told on the new connection, while changes are told on both, and then that it has been
//!    ([`AccountMove::Told`]), with a number: of two such words that come on two connections the greater one counts.
//! 2. Who reads that holds back what it has for the new connection, and sends messages there from now on
//!    ([`Passages::take_over`](crate::mesh::remote::Passages::take_over)). Once every session has learnt of it, nothing
//!    more goes by the old one: there it asks for a sign of life, a [`Fence`]. With the answer the peer has done
//!    everything that went by it, what was held back is sent, and the peer is told so with its number
//!    ([`AccountMove::Taken`]). Only then the next move begins.
//! 3. Who reads that tells nothing more on the old connection, and says so there ([`AccountMove::Elsewhere`]).
//! 4. Who reads that forgets what it knows from there.
//!
//! So whatever is in use is kept up to date until the other side has said that it is not in use any more. If the new
//! connection breaks, the old one is up to date, or has heard [`Elsewhere`](AccountMove::Elsewhere) and nothing since;
//! then it is told everything anew, behind that word. If the old one breaks, the new one has been told everything, or is
//! being told. What is said of a move on a connection that has ended is without effect, since no other one has its
//! number. While messages are held back, answers to signs of life are not, and for one account and peer there is one
//! move at a time: what is held back on one connection waits for others on which nothing waits for it.
//!
//! A connection of one account that is given up is closed once nothing is told on it in either direction.
//!
//! nats-server knows nothing of this. It forgets the interest on the old connection at the moment at which it learns
//! that the account moves (route protocol, section 6), and tells its own on the new one before it answers
//! there for the first time: this is taken for the word that all is told. So what is sent to it takes step 2, and
//! it loses messages to us between the two connections, as among its own kind.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use natterjack_wire::route::{self, AccountMove, RouteInfo};

use super::RouteSession;
use super::interest::Terms;
use crate::account::Account;
use crate::close_reason::CloseReason;
use crate::config::Adaptation;
use crate::delivery::outbox::Outbox;
use crate::mesh::link::{Fence, RouteLink};
use crate::mesh::remote::TakenOver;
use crate::session::complaints::Shown;
use crate::session::{Session, Step};

/// What a peer says that wants no connection for one account (route protocol, section 6).
const REFUSALS: [&[u8]; 2] = [b"No route for account", b"Unable to lookup account"];

/// How long messages are held back at most. Then what is on its way on two connections may change its order.
const HELD_MAX: Duration = Duration::from_secs(2);

/// How long a connection stays after its account was to leave it. It is closed before, as soon as both sides have done all
/// that was on its way on it. This is for lines on which that takes long, and for peers that never say so: one that is dead
/// or too slow in all has been given up by then.
const LEAVING_MAX: Duration = Duration::from_secs(120);

/// Entries of the peer's interest that are looked at at a time.
const ENTRIES_PER_STEP: usize = 1024;

/// The number of the only move that nats-server makes, without saying so.
const OF_NATS_SERVER: u64 = 1;

/// Accounts that have come to one connection. More have no connections of their own.
const ARRIVALS_MAX: usize = 1024;

/// Bytes of the names of those among them that are not here. Of longer ones the peer has to say anew that they have come,
/// if a reload brings them.
const ABSENT_NAME_BYTES_MAX: usize = 256;

/// What is under way on one connection.
#[derive(Default)]
pub(super) struct Handover {
    /// Accounts of which the peer has said that it tells of them here alone, with the number of its word.
    arrivals: BTreeMap<Arc<str>, u64>,
    /// Those of them that are here, and for which it was not time yet.
    waiting: BTreeSet<Arc<str>>,
    /// Those of them that are coming, with what is held back for it.
    coming: Vec<Coming>,
    /// Fences of those that leave it, and after how many answers they are passed.
    leaving: Vec<(Arc<Fence>, u64)>,
    pings: u64,
    pongs: u64,
    /// For a connection of one account: it is closed then, or as soon as nothing is told on it.
    ends_at: Option<Instant>,
    /// The peer has said that it tells nothing on it any more; unless it has begun again.
    is_left_by_peer: bool,
    /// All of the peer's interest is there once it answers.
    awaits_interest: bool,
}

struct Coming {
    account: Arc<Account>,
    number: u64,
    others: Vec<Arc<RouteLink>>,
    /// Until all sessions know.
    spreading: Option<Adaptation>,
    fences: Vec<Arc<Fence>>,
    /// How long messages are held back for it.
    until: Option<Instant>,
}

/// Wakes a connection's task.
struct WakeOutbox(Arc<Outbox>);

impl Wake for WakeOutbox {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

impl Handover {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let coming = self.coming.iter().filter_map(|coming| coming.until);
        coming.chain(self.ends_at).min()
    }

    pub(super) fn pinged(&mut self) {
        self.pings += 1;
    }
}

impl RouteSession {
    /// The connection has been let in. If it is for one account, of which a nats-server is told on another one until now,
    /// it has to be certain first that the peer wants this connection, too.
    pub(super) fn begin_handover(&mut self, now: Instant) {
        let (Some(name), Some(link)) = (&self.account, &self.link) else {
            return;
        };
        if link.hands_over() {
            return;
        }
        if let Some((account, _)) = self.config.account(name) {
            // From its beginning, so that what is told on it is not in use before all is.
            self.interest.lane(account, link);
            self.announcer.is_waiting =
                self.dialled.is_some() && account.interest.is_served_elsewhere(link);
        }
        self.handover.awaits_interest = true;
        if self.dialled.is_none() {
            self.ping(now);
            self.is_certain(now);
        }
    }

    /// Both sides want the account to have this connection.
    fn is_certain(&mut self, now: Instant) {
        let (Some(name), Some(link)) = (&self.account, &self.link) else {
            return;
        };
        let was_waiting = std::mem::take(&mut self.announcer.is_waiting);
        self.mesh.has_own_connection(link.peer(), name);
        // Other sessions find out that they serve the account no more.
        self.engine.announce_mesh(now);
        if was_waiting {
            self.adapt_announcing();
        }
    }

    /// The peer closes the connection with a word. If it wants none for this account, that shares the others.
    pub(super) fn own_connection_refused(&self, word: &[u8], now: Instant) {
        if let (Some(name), Some(peer)) = (&self.account, &self.peer)
            && REFUSALS.iter().any(|refusal| word.starts_with(refusal))
            && self.mesh.own_connection_refused(&peer.id, name)
        {
            self.engine.announce_mesh(now);
        }
    }

    /// The peer has answered one more time.
    pub(super) fn note_pong(&mut self, now: Instant) {
        self.handover.pongs += 1;
        if self.handover.pongs == 1 && self.dialled.is_some() {
            self.is_certain(now);
        }
        if std::mem::take(&mut self.handover.awaits_interest)
            && let Some(name) = self.account.clone()
        {
            self.arrive(&name, OF_NATS_SERVER, now);
        }
        let pongs = self.handover.pongs;
        let is_passed = |(_, answers): &mut (_, u64)| *answers <= pongs;
        let passed = self.handover.leaving.extract_if(.., is_passed);
        for (fence, _) in passed {
            if let Some(link) = self.link.as_ref().filter(|link| !link.hands_over())
                && let Some((account, _)) = self.config.account(&fence.account)
                && !account.passages.is_in_use(link)
            {
                // It has forgotten what it told here, and says nothing of that.
                self.interest.leave_account(&fence.account);
                self.outbox.wake();
            }
            fence.pass();
        }
    }

    /// The peer says how far an account is.
    pub(super) fn handle_move(&mut self, info: &RouteInfo, now: Instant) {
        let Some(link) = self.link.clone().filter(|link| link.hands_over()) else {
            // It is not for others to say.
            return;
        };
        let name = &info.route_account;
        let is_of_own = self.account.as_deref() == Some(name.as_str());
        let is_of_many = self.account.is_none() && info.account_move != AccountMove::Ends;
        if !is_of_own && !is_of_many {
            self.complain(
                "move",
                &format_args!(
                    "The other server says of account \"{}\" what can be said only on another connection: ignored",
                    Shown(name)
                ),
            );
            return;
        }
        match info.account_move {
            AccountMove::None => {}
            AccountMove::Told => self.arrive(name, info.account_move_number, now),
            AccountMove::Elsewhere => {
                self.handover.arrivals.remove(name.as_str());
                self.handover.waiting.remove(name.as_str());
                self.interest.leave_account(name);
                self.handover.is_left_by_peer = true;
                self.outbox.wake();
            }
            AccountMove::Taken => {
                if let Some((account, _)) = self.config.account(name) {
                    (account.interest).is_taken(name, &link, info.account_move_number);
                }
            }
            AccountMove::Ends => {
                self.mesh.own_connection_ends(link.peer(), self.outbox.id());
                self.engine.announce_mesh(now);
            }
        }
    }

    /// All interest of the peer in an account is known on this connection: messages are to go by it.
    fn arrive(&mut self, name: &str, number: u64, now: Instant) {
        let known = self.config.account(name);
        let known: Option<Arc<str>> = known.map(|(account, _)| Arc::clone(account.shared_name()));
        if known.is_none() {
            // Nothing is sent in it on any connection, so the peer need not go on telling of it where it was.
            self.say_taken(name, number, now);
            if name.len() > ABSENT_NAME_BYTES_MAX {
                return;
            }
        }
        let arrivals = &mut self.handover.arrivals;
        if arrivals.len() >= ARRIVALS_MAX && !arrivals.contains_key(name) {
            return;
        }
        let name = known.unwrap_or_else(|| name.into());
        arrivals.insert(Arc::clone(&name), number);
        self.handover.waiting.remove(&name);
        self.take_over(name, now);
    }

    /// Accounts are others now: those that were not here may be.
    pub(super) fn look_at_arrivals_again(&mut self) {
        let arrivals = self.handover.arrivals.keys();
        self.handover.waiting = arrivals.map(Arc::clone).collect();
        if let Some(link) = &self.link {
            link.reconsider();
        }
    }

    /// Has messages of those accounts go by this connection that have come to it and for which it is time.
    fn take_over_waiting(&mut self, now: Instant) {
        for name in std::mem::take(&mut self.handover.waiting) {
            self.take_over(name, now);
        }
    }

    /// Has messages of an account that has come to this connection go by it, now or once it is time.
    fn take_over(&mut self, name: Arc<str>, now: Instant) {
        let known = self.config.account(&name);
        let (Some(link), Some((account, _)), Some(&number)) =
            (&self.link, known, self.handover.arrivals.get(&name))
        else {
            return;
        };
        let (link, account) = (Arc::clone(link), Arc::clone(account));
        self.interest.lane(&account, &link);
        // Before anybody sends messages here.
        self.outbox.hold(true);
        match account.passages.take_over(&link, number) {
            TakenOver::NotNow => {
                self.handover.waiting.insert(name);
                self.unhold(now);
            }
            TakenOver::Already => {
                self.unhold(now);
                self.say_taken(account.name(), number, now);
            }
            TakenOver::From(others) => {
                tracing::debug!(
                    "{} - messages of account {:?} go by this connection now",
                    self.label(),
                    account.name()
                );
                let spreading = Some(self.engine.spread(now));
                self.handover.coming.push(Coming {
                    account,
                    number,
                    others,
                    spreading,
                    fences: Vec::new(),
                    until: Some(now + HELD_MAX),
                });
                self.outbox.wake();
            }
        }
    }

    /// Unless something else is to be held back, nothing is any more.
    fn unhold(&self, now: Instant) {
        let mut coming = self.handover.coming.iter();
        if coming.all(|coming| coming.until.is_none()) {
            self.outbox.hold(false);
            self.outbox.flush(now);
        }
    }

    fn say_taken(&self, account: &str, number: u64, now: Instant) {
        if self.link.as_ref().is_some_and(|link| link.hands_over()) {
            self.say(&note(account, AccountMove::Taken, number), now);
        }
    }

    /// Does some of what is under way.
    pub(super) fn handover_step(&mut self, now: Instant) -> Step {
        self.put_up_fences(now);
        self.let_go(now);
        if self
            .link
            .as_ref()
            .is_some_and(|link| link.take_reconsider())
        {
            self.take_over_waiting(now);
        }
        self.end_if_left();
        if !self.interest.has_work() {
            return Step::Done;
        }
        let Some(link) = &self.link else {
            return Step::Done;
        };
        let terms = Terms {
            config: &self.config,
            permissions: self.permissions.as_deref(),
            link,
        };
        if self.interest.work(&terms, ENTRIES_PER_STEP) {
            return Step::More;
        }
        self.note_adapted();
        Step::Done
    }

    /// As the old connection of an account.
    fn put_up_fences(&mut self, now: Instant) {
        let Some(link) = self.link.clone() else {
            return;
        };
        for fence in link.take_fences() {
            self.ping(now);
            self.handover.leaving.push((fence, self.handover.pings));
        }
    }

    /// As the new one.
    fn let_go(&mut self, now: Instant) {
        if self.handover.coming.is_empty() {
            return;
        }
        let waker = Waker::from(Arc::new(WakeOutbox(Arc::clone(&self.outbox))));
        let mut context = Context::from_waker(&waker);
        for coming in &mut self.handover.coming {
            if let Some(spreading) = &mut coming.spreading
                && Pin::new(spreading).poll(&mut context) == Poll::Ready(())
            {
                coming.spreading = None;
                for other in &coming.others {
                    let fence = Arc::new(Fence::new(coming.account.shared_name(), &self.outbox));
                    other.put_fence(&fence);
                    coming.fences.push(fence);
                }
            }
        }
        let mut late = Vec::new();
        for coming in &mut self.handover.coming {
            if !coming.has_come() && coming.until.take_if(|until| now >= *until).is_some() {
                late.push(Arc::clone(&coming.account));
            }
        }
        for account in late {
            self.warn(
                "held",
                &format_args!(
                    "messages of account {:?} waited {HELD_MAX:?} for those on another connection with the peer, and go on \
                     without",
                    account.name()
                ),
            );
        }
        let has_come = |coming: &mut Coming| coming.has_come();
        let come: Vec<_> = (self.handover.coming).extract_if(.., has_come).collect();
        self.unhold(now);
        for Coming {
            account, number, ..
        } in come
        {
            if let Some(link) = &self.link {
                account.passages.has_taken_over(link);
            }
            self.say_taken(account.name(), number, now);
        }
    }

    pub(super) fn handle_handover_timeout(&mut self, now: Instant) {
        self.let_go(now);
        if self.handover.ends_at.is_some_and(|at| now >= at) {
            self.warn(
                "leaving",
                &format_args!(
                    "The account has no connection of its own any more, and {LEAVING_MAX:?} later the other side still uses \
                     this one, which is closed: messages may be lost; change `accounts` of the cluster while less goes over a slow line"
                ),
            );
            self.outbox.close(CloseReason::RouteRemoved);
        }
    }

    /// Goes by the accounts there are now: whether the one that this connection is for is to leave it.
    pub(super) fn adapt_handover(&mut self, now: Instant) {
        let (Some(own), Some(link)) = (&self.account, &self.link) else {
            return;
        };
        if !link.hands_over() || !self.mesh.is_ending(link.peer(), self.outbox.id()) {
            return;
        }
        if self.handover.ends_at.is_none() {
            self.handover.ends_at = Some(now + LEAVING_MAX);
            let mut text = note(own, AccountMove::Ends, 0);
            if !self.tells_of(own) {
                text.extend(note(own, AccountMove::Elsewhere, 0));
            }
            self.say(&text, now);
        }
        self.end_if_left();
    }

    /// Whether interest in the account that this connection is for is told on it.
    fn tells_of(&self, own: &str) -> bool {
        let account = self.config.account(own);
        (self.link.as_ref().zip(account))
            .is_some_and(|(link, (account, _))| account.interest.is_attached(link))
    }

    fn end_if_left(&self) {
        if self.handover.ends_at.is_some()
            && self.handover.is_left_by_peer
            && let Some(own) = &self.account
            && !self.tells_of(own)
            && !self.interest.has_lane(own)
        {
            self.outbox.close(CloseReason::RouteRemoved);
        }
    }

    /// The connection has ended: nobody need wait for anything on it.
    pub(super) fn end_handover(&mut self) {
        if let Some(link) = &self.link {
            link.take_fences().iter().for_each(|fence| fence.pass());
        }
        for (fence, _) in self.handover.leaving.drain(..) {
            fence.pass();
        }
        self.handover.coming.clear();
    }
}

impl Coming {
    /// All sessions know, and what went by others has been done.
    fn has_come(&self) -> bool {
        self.spreading.is_none() && self.fences.iter().all(|fence| fence.is_passed())
    }
}

fn note(account: &str, account_move: AccountMove, number: u64) -> Vec<u8> {
    let mut text = Vec::new();
    route::info(&mut text, &RouteInfo::moving(account, account_move, number));
    text
}
