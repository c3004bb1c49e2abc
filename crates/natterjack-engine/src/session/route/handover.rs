//! How an account goes from one connection with the peer to another: to one of its own, or back to those that are shared.
//!
//! Messages must come once, in order, and none may be lost. So both sides, each for the interest that it tells and for
//! the messages that it sends:
//!
//! 1. Tell all interest on the new connection, while changes are told on both.
//! 2. Say so there ([`AccountMove::Told`]), and tell nothing more on the old one ([`AccountMove::Elsewhere`]).
//! 3. Who reads that holds back what it has for the new connection, and sends messages there from now on
//!    ([`Passages::switch_to`](crate::mesh::remote::Passages::switch_to)). Once every session has learnt of it, nothing
//!    more goes by the old one: there it says so ([`AccountMove::Left`]) and asks for a sign of life, a [`Fence`].
//! 4. With the answer the peer has done everything that went by the old connection, and what was held back is sent.
//!
//! A connection that an account has left in both directions, and that is for no other, is closed by the one whose
//! configuration does not have it any more.
//!
//! nats-server knows nothing of this. It forgets the interest on the old connection at the moment at which it learns
//! that the account moves (route protocol, section 6), and tells its own on the new one before it answers
//! there for the first time: this is taken for the word that all is told. So what is sent to it takes the steps 3 and 4, and
//! it loses messages to us between the two connections, as among its own kind.

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
use crate::session::{Session, Step};

/// What a peer says that wants no connection for one account (route protocol, section 6).
const REFUSALS: [&[u8]; 2] = [b"No route for account", b"Unable to lookup account"];

/// How long messages are held back at most. Then what is on its way on two connections may change its order.
const HELD_MAX: Duration = Duration::from_secs(2);

/// How long a connection stays after its account was to leave it.
const LEAVING_MAX: Duration = Duration::from_secs(5);

/// Entries of the peer's interest that are looked at at a time.
const ENTRIES_PER_STEP: usize = 1024;

/// What is under way on one connection.
#[derive(Default)]
pub(super) struct Handover {
    /// Accounts that come to this connection, with what is held back for it.
    coming: Vec<Coming>,
    /// Those that leave it: fences and after how many answers they are passed.
    leaving: Vec<(Arc<Fence>, u64)>,
    pings: u64,
    pongs: u64,
    /// For a connection of one account: no messages of this side come on it any more, and none of the peer's.
    is_left: bool,
    is_left_by_peer: bool,
    /// It is closed then, whatever is still on it.
    ends_at: Option<Instant>,
    /// All of the peer's interest is there once it answers.
    awaits_interest: bool,
}

struct Coming {
    others: Vec<Arc<RouteLink>>,
    account: Arc<Account>,
    /// Until all sessions know.
    spreading: Option<Adaptation>,
    fences: Vec<Arc<Fence>>,
    until: Instant,
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
        let coming = self.coming.iter().map(|coming| coming.until);
        coming.chain(self.ends_at).min()
    }

    pub(super) fn pinged(&mut self) {
        self.pings += 1;
    }
}

impl RouteSession {
    /// The connection has been let in. If it is for one account, of which the peer is told on another one until now, it
    /// has to be certain first that the peer wants this connection, too.
    pub(super) fn begin_handover(&mut self, now: Instant) {
        let (Some(name), Some(link)) = (&self.account, &self.link) else {
            return;
        };
        if let Some((account, _)) = self.config.account(name) {
            // From its beginning, so that what is told on it is not in use before all is.
            self.interest.lane(account, link);
            let is_certain = self.dialled.is_none();
            self.announcer.is_waiting = !is_certain && !account.interest.others(link).is_empty();
        }
        self.handover.awaits_interest = !link.is_ours();
        if self.dialled.is_none() {
            if self.handover.awaits_interest {
                self.ping(now);
            }
            self.is_certain(now);
        }
    }

    /// Both sides want the account to have this connection.
    fn is_certain(&mut self, now: Instant) {
        let (Some(name), Some(link)) = (&self.account, &self.link) else {
            return;
        };
        let was_waiting = std::mem::take(&mut self.announcer.is_waiting);
        if self.mesh.has_own_connection(link.peer(), name) {
            // Other sessions find out that they serve the account no more.
            self.engine.announce_mesh(now);
        }
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
            self.take_over(&name, now);
        }
        let pongs = self.handover.pongs;
        let (passed, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.handover.leaving)
            .into_iter()
            .partition(|(_, answers)| *answers <= pongs);
        self.handover.leaving = left;
        for (fence, _) in passed {
            if let Some((account, _)) = self.config.account(&fence.account)
                && (self.link.as_ref()).is_some_and(|link| !account.passages.is_in_use(link))
            {
                self.interest.leave_account(account);
                self.handover.is_left = true;
                self.outbox.wake();
            }
            fence.pass();
        }
        self.end_if_left();
    }

    /// The peer has heard of all interest in an account on this connection: on no other one it is to.
    pub(super) fn all_is_told(&self, account: &Arc<Account>, now: Instant) {
        let Some(link) = self.link.as_ref().filter(|link| link.is_ours()) else {
            return;
        };
        let others = account.interest.others(link);
        if others.is_empty() && !link.is_dedicated() {
            return;
        }
        for other in &others {
            account.interest.detach(other);
            let mut text = Vec::new();
            route::info(&mut text, &note(account.name(), AccountMove::Elsewhere));
            other.outbox().append_in_passing(&text);
            other.outbox().wake();
        }
        let mut text = Vec::new();
        route::info(&mut text, &note(account.name(), AccountMove::Told));
        self.say(&text, now);
    }

    /// The peer says how far an account is.
    pub(super) fn handle_move(&mut self, info: &RouteInfo, now: Instant) {
        if !self.link.as_ref().is_some_and(|link| link.is_ours()) {
            // It is not for others to say.
            return;
        }
        let name = &info.route_account;
        match info.account_move {
            AccountMove::None => {}
            AccountMove::Told => {
                if let Some(peer) = &self.peer
                    && self.account.is_none()
                    && self.mesh.share_account(&peer.id, name)
                {
                    // The peer wants no connection of its own for it: this side goes there, too.
                    self.engine.announce_mesh(now);
                }
                (self.handover.is_left, self.handover.is_left_by_peer) = (false, false);
                self.take_over(name, now);
            }
            AccountMove::Elsewhere => {
                if let (Some((account, _)), Some(link)) = (self.config.account(name), &self.link)
                    && !account.passages.is_in_use(link)
                {
                    let account = Arc::clone(account);
                    self.interest.leave_account(&account);
                    self.outbox.wake();
                }
            }
            AccountMove::Left => {
                self.handover.is_left_by_peer = true;
                self.end_if_left();
            }
        }
    }

    /// All interest of the peer in an account is known on this connection: messages go by it from now on.
    fn take_over(&mut self, name: &str, now: Instant) {
        let (Some((account, _)), Some(link)) = (self.config.account(name), &self.link) else {
            return;
        };
        let account = Arc::clone(account);
        self.interest.lane(&account, link);
        self.outbox.hold(true);
        let others = account.passages.switch_to(link);
        if others.is_empty() {
            if self.handover.coming.is_empty() {
                self.outbox.hold(false);
            }
            return;
        }
        tracing::debug!(
            "{} - messages of account {name:?} go by this connection now",
            self.label()
        );
        let spreading = self.engine.spread(now);
        self.handover.coming.push(Coming {
            others,
            account,
            spreading: Some(spreading),
            fences: Vec::new(),
            until: now + HELD_MAX,
        });
        self.outbox.wake();
    }

    /// Does some of what is under way.
    pub(super) fn handover_step(&mut self, now: Instant) -> Step {
        self.put_up_fences(now);
        self.let_go(now);
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
            if link.is_ours() {
                let mut text = Vec::new();
                route::info(&mut text, &note(&fence.account, AccountMove::Left));
                self.outbox.append(&text);
            }
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
        let label = Session::label(self);
        self.handover.coming.retain(|coming| {
            let is_over =
                coming.spreading.is_none() && coming.fences.iter().all(|fence| fence.is_passed());
            if !is_over && now >= coming.until {
                tracing::warn!(
                    "{label} - messages of account {:?} waited {HELD_MAX:?} for those on another connection with the peer, and go on without",
                    coming.account.name()
                );
            }
            !is_over && now < coming.until
        });
        if self.handover.coming.is_empty() {
            self.outbox.hold(false);
            self.outbox.flush(now);
        }
    }

    pub(super) fn handle_handover_timeout(&mut self, now: Instant) {
        self.let_go(now);
        if self.handover.ends_at.is_some_and(|at| now >= at) {
            self.outbox.close(CloseReason::RouteRemoved);
        }
    }

    /// Goes by the accounts there are now: whether the one that this connection is for is to leave it.
    pub(super) fn adapt_handover(&mut self, now: Instant) {
        let Some(own) = self.account.as_ref().filter(|_| self.link.is_some()) else {
            return;
        };
        let accounts = self.mesh.dedicated_accounts();
        self.handover.ends_at = if accounts.contains(own) {
            None
        } else {
            Some(self.handover.ends_at.unwrap_or(now + LEAVING_MAX))
        };
        self.end_if_left();
    }

    fn end_if_left(&self) {
        let Handover {
            is_left,
            is_left_by_peer,
            ends_at,
            ..
        } = self.handover;
        if ends_at.is_some() && is_left && is_left_by_peer {
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

fn note(account: &str, account_move: AccountMove) -> RouteInfo {
    RouteInfo {
        route_account: account.to_owned(),
        account_move,
        ..RouteInfo::default()
    }
}
