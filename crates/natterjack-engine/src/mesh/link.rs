//! A registered connection to a peer, as delivery and the announcing of interest see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use natterjack_wire::route::{ACCOUNT_MOVES, RouteInfo};
use parking_lot::{Mutex, RwLock};

use crate::delivery::outbox::Outbox;

/// The protocol level of servers that trace messages.
const TRACING_PROTOCOL: i64 = 3;

/// One connection of a peer's, from its registration to its end. Which of a peer's connections it is, and what the
/// peer says on it, is its session's business.
pub(crate) struct RouteLink {
    outbox: Arc<Outbox>,
    /// Id of the peer.
    peer: Arc<str>,
    /// The one account it is for; its lines do not name an account then (route protocol, section 4).
    dedicated: Option<Arc<str>>,
    /// The peer knows [`ACCOUNT_MOVES`]: accounts go from one connection to another without loss.
    hands_over: bool,
    /// The peer takes messages for queue groups only.
    takes_strays: bool,
    /// The last number that was given to a move of an account, on all connections.
    moves: Arc<AtomicU64>,
    /// What its operator calls the peer.
    peer_name: Arc<str>,
    /// The peer tells what becomes of messages that are traced.
    takes_traces: bool,
    /// What of our interest the peer is told; `None`: all.
    filter: RwLock<Option<Arc<InterestFilter>>>,
    /// What its session is to pass.
    fences: Mutex<Vec<Arc<Fence>>>,
    has_fences: AtomicBool,
    /// Its session is to look again which accounts may come to it.
    must_reconsider: AtomicBool,
}

/// Decides about interest in a subject. Cheap enough to be asked for every subscription.
pub(crate) type InterestFilter = dyn Fn(&[u8]) -> bool + Send + Sync;

/// Behind it there are no messages of one account on a connection any more, since another connection takes them. It is
/// passed when the peer has answered a PING that was sent after the last of them: the peer has done them all.
pub(crate) struct Fence {
    pub(crate) account: Arc<str>,
    is_passed: AtomicBool,
    /// Who waits for it, with messages that come later.
    waiter: Arc<Outbox>,
}

impl Fence {
    pub(crate) fn new(account: &Arc<str>, waiter: &Arc<Outbox>) -> Self {
        Self {
            account: Arc::clone(account),
            is_passed: AtomicBool::new(false),
            waiter: Arc::clone(waiter),
        }
    }

    pub(crate) fn is_passed(&self) -> bool {
        self.is_passed.load(Ordering::Acquire)
    }

    pub(crate) fn pass(&self) {
        self.is_passed.store(true, Ordering::Release);
        self.waiter.wake();
    }
}

impl RouteLink {
    /// `info` is what the peer has said of itself.
    pub(crate) fn new(
        outbox: Arc<Outbox>,
        dedicated: Option<Arc<str>>,
        info: &RouteInfo,
        filter: Option<Arc<InterestFilter>>,
    ) -> Self {
        Self {
            outbox,
            peer: info.server_id.as_str().into(),
            dedicated,
            hands_over: info.account_moves == ACCOUNT_MOVES,
            takes_strays: info.strays,
            moves: Arc::default(),
            peer_name: info.server_name.as_str().into(),
            takes_traces: info.proto >= TRACING_PROTOCOL,
            filter: RwLock::new(filter),
            fences: Mutex::default(),
            has_fences: AtomicBool::new(false),
            must_reconsider: AtomicBool::new(false),
        }
    }

    /// Moves of accounts are counted with those on other connections.
    pub(crate) fn counting(mut self, moves: &Arc<AtomicU64>) -> Self {
        self.moves = Arc::clone(moves);
        self
    }

    /// A number greater than all before.
    pub(crate) fn next_move(&self) -> u64 {
        self.moves.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn peer_name(&self) -> &str {
        &self.peer_name
    }

    /// Whether the peer tells what becomes of messages that are traced. One that does not delivers them.
    pub(crate) fn takes_traces(&self) -> bool {
        self.takes_traces
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    pub(crate) fn peer(&self) -> &Arc<str> {
        &self.peer
    }

    /// Whether its lines go without the name of the account.
    #[inline]
    pub(crate) fn is_dedicated(&self) -> bool {
        self.dedicated.is_some()
    }

    /// Whether accounts go from one connection with the peer to another with word of it (`AccountMove` of the route protocol).
    pub(crate) fn hands_over(&self) -> bool {
        self.hands_over
    }

    /// Whether the peer takes messages that are for queue groups only (`STRAY_ORIGIN` of the route protocol).
    pub(crate) fn takes_strays(&self) -> bool {
        self.takes_strays
    }

    /// The name of an account, as lines of this connection have it.
    #[inline]
    pub(crate) fn account_token<'a>(&self, account: &'a str) -> Option<&'a [u8]> {
        (!self.is_dedicated()).then_some(account.as_bytes())
    }

    /// Which of our interest the peer is told of.
    pub(crate) fn filter(&self) -> Option<Arc<InterestFilter>> {
        self.filter.read().clone()
    }

    /// From now on the peer is told of what another filter lets through. It hears of the difference by
    /// [`LocalInterest::refilter`](super::interest::LocalInterest::refilter) for each account.
    pub(crate) fn set_filter(&self, filter: Option<Arc<InterestFilter>>) {
        *self.filter.write() = filter;
    }

    /// Has the connection's session look again which accounts may come to it.
    pub(crate) fn reconsider(&self) {
        self.must_reconsider.store(true, Ordering::Release);
        self.outbox.wake();
    }

    pub(crate) fn take_reconsider(&self) -> bool {
        self.must_reconsider.load(Ordering::Relaxed)
            && self.must_reconsider.swap(false, Ordering::Acquire)
    }

    /// Has the connection's session pass a fence. If it has ended, the fence is passed already.
    pub(crate) fn put_fence(&self, fence: &Arc<Fence>) {
        self.fences.lock().push(Arc::clone(fence));
        self.has_fences.store(true, Ordering::Release);
        self.outbox.wake();
        if self.outbox.is_closed() {
            self.take_fences().iter().for_each(|fence| fence.pass());
        }
    }

    /// Fences that have been put up since the last call.
    pub(crate) fn take_fences(&self) -> Vec<Arc<Fence>> {
        if self.has_fences.load(Ordering::Acquire) {
            self.has_fences.store(false, Ordering::Release);
            std::mem::take(&mut *self.fences.lock())
        } else {
            Vec::new()
        }
    }
}
