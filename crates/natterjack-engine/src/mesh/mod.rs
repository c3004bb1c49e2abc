//! The servers of a cluster: who is connected with whom, and what they know of each other.
//!
//! Every server has connections with every other one, and a message takes one hop. What is decided about that is
//! decided here, under one lock that is held for small things only and never while messages are delivered.
//!
//! # Who is there
//! A **peer** is known by its id, which is new at every start. It is connected by several connections: those of the
//! *pool*, which share the accounts (account `a` is told of on the one with the number
//! [`pool_index`](natterjack_wire::route::pool_index)`(a, size)`, where each side reckons with its own size), and one
//! for each account that has one to itself. [`roster`] is the list of them. A connection enters it when its session
//! has read the peer's INFO ([`Mesh::register`]), and leaves it when it ends ([`Mesh::unregister`]); between the two
//! its session announces interest on it and takes the peer's.
//!
//! # Who dials
//! [`dial`] has the plan: what should be there and is not gets dialled. The shell asks for it
//! ([`Mesh::poll_dials`]), opens the connections, and says what became of them.
//!
//! # Two that dial each other
//! Both may find that they have two connections for one place. Which of them stays must be decided alike on both
//! sides, or none does. Who has dialled a connection puts it into a place in its own list before it tells the other
//! side which, so that an incoming one for a place that is taken by one that was dialled here, and on which the peer
//! has not answered yet, means: over there it is the same the other way round. Then the one that was dialled by the
//! server with the greater id stays. nats-server drops both, and both sides try again after chance times. If, however,
//! the peer has answered before, it must have lost a connection that is still thought to be there: it is asked for
//! a sign of life, and the new one is refused, as nats-server does; the peer tries again.
//!
//! # What is passed on
//! Whoever lets a peer in tells all others of it (gossip), and they dial it. An INFO says by its `gossip_mode` whether
//! the one who dials because of it makes that happen again (route protocol, section 7).
//!
//! That is said once, and may be lost with the connection it was said on, or because whoever was to say it dies. So a
//! peer is reminded of another one now and then as well ([`Mesh::reminder`]), whom it does not know at worst for a few
//! PING intervals. Of those it knows it takes no notice, as nats-server does. This goes beyond nats-server, where two
//! servers that missed each other stay strangers.
//!
//! # Interest
//! An account has an index of what its own subscribers want and one of what peers want ([`remote`]). Peers are told of
//! changes in the first ([`interest`]) on the [`link`] that serves the account, and tell of theirs, which the session
//! of their connection puts into the second.
//!
//! # Locks
//! The mesh's, then that of an account's interest, then an outbox's; never the other way round. What changes for
//! clients (other servers' addresses, the cluster's name) is only noted under the lock, and announced after it: by then peers
//! have been told.

pub(crate) mod dial;
pub(crate) mod interest;
pub(crate) mod link;
pub(crate) mod remote;
pub(crate) mod roster;
pub(crate) mod settings;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use natterjack_wire::route::{ACCOUNT_MOVES, GossipMode, RouteInfo, pool_index};
use parking_lot::Mutex;

use self::dial::{Dial, DialId, DialPlan, Ended, Purpose, Target};
use self::roster::{Member, Roster, RouteConnection};
use self::settings::ClusterSettings;
pub use self::snapshot::{MeshSnapshot, PeerSnapshot};
use crate::close_reason::CloseReason;
use crate::session::complaints::Complaints;

/// What a server knows of its cluster, and wants of it.
pub struct Mesh {
    own_id: Arc<str>,
    state: Mutex<State>,
    /// What clients are told has changed.
    has_news: AtomicBool,
    /// The last number that was given to a move of an account; of all accounts, so that one that is taken out of the
    /// configuration and comes back does not begin anew.
    moves: Arc<AtomicU64>,
    /// What the log was told of peers lately.
    pub(crate) complaints: Mutex<Complaints>,
}

struct State {
    settings: Arc<ClusterSettings>,
    name: Arc<str>,
    /// The name was made up.
    is_dynamic: bool,
    /// Accounts with connections of their own.
    accounts: Vec<Arc<str>>,
    /// All that are open, also in the handshake.
    connections: BTreeMap<u64, Arc<RouteConnection>>,
    roster: Roster,
    plan: DialPlan,
    /// Peers that were behind seeds until these were taken out of the configuration; what others tell of them does not
    /// count.
    dismissed: BTreeSet<Arc<str>>,
    is_closing: bool,
    waker: Option<Waker>,
    /// Accounts that are to leave the connections that are shared, by what peers were asked with.
    asked: Vec<(String, Arc<str>)>,
    questions: u64,
}

/// What a session asks for when it has read its peer's INFO.
pub(crate) struct Claim<'a> {
    pub(crate) connection: &'a Arc<RouteConnection>,
    /// What the peer said of itself, with an address in `ip`.
    pub(crate) info: &'a RouteInfo,
    /// What it was dialled for, if it was.
    pub(crate) dialled: Option<(DialId, &'a Purpose)>,
    /// The account it is for.
    pub(crate) account: Option<&'a Arc<str>>,
    /// What this server has said on it of the size of its own pool.
    pub(crate) pool_size: u32,
}

/// Which of a peer's connections one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Among those that share the accounts.
    pub(crate) index: u32,
    /// Whether others share with it.
    pub(crate) has_pool: bool,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is one already, as both sides dial or all are there; nothing is said of it.
    Duplicate,
    /// A reload of this server came between what the peer was told of its pool and now.
    ReloadedMeanwhile {
        told: u32,
        own: u32,
    },
    /// The connections that are there have a pool, or none, and this one is of the other kind.
    OtherKindOfPool {
        own: u32,
        theirs: i64,
        has_pool: bool,
    },
    /// The peer has answered on this connection in the same place, which it does not know any more.
    Taken {
        by: u64,
    },
    /// Nobody has a cluster of so many servers.
    TooManyPeers,
    DedicatedImpossible,
    UnexpectedPoolIndex {
        index: i64,
    },
    InvalidPoolIndex {
        index: i64,
        pool_size: i64,
    },
    NoRouteForAccount,
}

/// What comes of two names of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NameVerdict {
    Same,
    /// This server took the other's.
    Adopted,
    /// Nobody gives in; what the name is here.
    Conflict(Arc<str>),
}

/// Connections that share the accounts of one peer. One that wants more would have this server dial it as often.
const POOL_SIZE_MAX: u32 = 128;

/// Servers that are connected, besides those in the configuration. Whoever comes says which server it is, and each costs
/// every other one a line; a full mesh of so many is beyond what anybody runs.
pub(crate) const PEERS_MAX: usize = 1024;

/// Connections in the handshake, if the shell, which knows of those before it, has let in so many.
const NEWCOMERS_MAX: usize = 2048;

/// Servers that are remembered as taken out of the configuration. They are few, and new at every start.
const DISMISSED_MAX: usize = 256;

/// How long peers may take to agree to an account's own connection before it is dialled all the same; as nats-server.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How long a nats-server that begins is left to dial, which it does only if it is told to be connected with this one.
const BEGINNERS_DIAL: Duration = Duration::from_millis(50);

/// Answers of peers that are known as such.
const QUESTIONS_MAX: usize = 1024;

/// As long as nats-server's.
const MADE_UP_NAME_LEN: usize = 22;

impl Mesh {
    pub(crate) fn new(
        own_id: &str,
        settings: &Arc<ClusterSettings>,
        system_account: &Arc<str>,
        seed: u64,
    ) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let is_dynamic = settings.name.is_empty();
        let name: String = if is_dynamic {
            (0..MADE_UP_NAME_LEN).map(|_| rng.alphanumeric()).collect()
        } else {
            settings.name.clone()
        };
        let mut state = State {
            settings: Arc::clone(settings),
            name: name.into(),
            is_dynamic,
            accounts: Vec::new(),
            connections: BTreeMap::new(),
            roster: Roster::default(),
            plan: DialPlan::new(rng.u64(..)),
            dismissed: BTreeSet::new(),
            is_closing: false,
            waker: None,
            asked: Vec::new(),
            questions: 0,
        };
        state.adapt(settings, system_account, None);
        Self {
            own_id: own_id.into(),
            state: Mutex::new(state),
            has_news: AtomicBool::new(true),
            moves: Arc::default(),
            complaints: Mutex::default(),
        }
    }

    /// Moves what is to be dialled now into `dials`; `waker` is called when there is more, or when
    /// [`next_dial_at`](Self::next_dial_at) has become earlier. Each must be given to
    /// [`Engine::open_route`](crate::Engine::open_route) or [`dial_failed`](Self::dial_failed).
    pub fn poll_dials(&self, now: Instant, waker: &Waker, dials: &mut Vec<Dial>) {
        let mut state = self.state.lock();
        if state.is_closing {
            return;
        }
        let is_tls = state.settings.is_tls;
        state.plan.poll(now, is_tls, dials);
        state.waker = Some(waker.clone());
    }

    /// When there is something to dial next, as of now.
    #[must_use]
    pub fn next_dial_at(&self) -> Option<Instant> {
        let state = self.state.lock();
        if state.is_closing {
            return None;
        }
        state.plan.next()
    }

    /// Nobody was reached; it is tried again by the rules.
    pub fn dial_failed(&self, id: DialId, error: &dyn Display, now: Instant) {
        let mut state = self.state.lock();
        let failed = state.plan.failed(id, now);
        state.settle(now);
        drop(state);
        match failed {
            Some((attempts, true)) => {
                tracing::error!("Error trying to connect to route (attempt {attempts}): {error}");
            }
            Some((attempts, false)) => {
                tracing::debug!("Error trying to connect to route (attempt {attempts}): {error}");
            }
            None => {}
        }
    }

    /// A seed, by its number in [`ClusterSettings::seeds`], stands for these servers from now on. What was
    /// dialled for others stays open, and is not dialled again.
    pub fn set_seed_targets(&self, seed: usize, targets: &[Target], now: Instant) {
        let mut state = self.state.lock();
        let State {
            settings,
            accounts,
            plan,
            ..
        } = &mut *state;
        if let Some(seed) = settings.seeds.get(seed) {
            plan.set_targets(seed, targets, accounts, Some(now));
        }
        state.settle(now);
    }

    /// Whether this server is told to be connected with a peer.
    pub(crate) fn is_explicit(&self, peer: &str) -> bool {
        self.state.lock().plan.is_explicit(peer)
    }

    /// Id of this server.
    pub(crate) fn own_id(&self) -> &str {
        &self.own_id
    }

    /// The cluster's name, and whether it was made up.
    pub(crate) fn name(&self) -> (Arc<str>, bool) {
        let state = self.state.lock();
        (Arc::clone(&state.name), state.is_dynamic)
    }

    /// Counts moves of accounts.
    pub(crate) fn moves(&self) -> &Arc<AtomicU64> {
        &self.moves
    }

    /// Accounts that a peer is told of on connections of their own.
    pub(crate) fn accounts_apart(&self, peer: &str) -> Vec<Arc<str>> {
        let state = self.state.lock();
        match state.roster.peer(peer) {
            Some(peer) => peer.apart(&state.accounts).into_iter().cloned().collect(),
            None => state.accounts.clone(),
        }
    }

    /// Whether a connection, which is an account's own, is to end, since the account shares others from now on.
    pub(crate) fn is_ending(&self, peer: &str, connection: u64) -> bool {
        let mut state = self.state.lock();
        let member = state.roster.member_mut(peer, connection);
        member.is_some_and(|member| member.is_ending)
    }

    /// The peer says that a connection, which is an account's own, is to end.
    pub(crate) fn own_connection_ends(&self, peer: &str, connection: u64) {
        let mut state = self.state.lock();
        if let Some(member) = state.roster.member_mut(peer, connection)
            && !std::mem::replace(&mut member.is_ending, true)
        {
            self.has_news.store(true, Ordering::Relaxed);
        }
    }

    /// A peer will have a connection for one account: so has this server from now on. The peer is left time to dial.
    pub(crate) fn dedicate(&self, account: &str, peer: &str, now: Instant) {
        let mut state = self.state.lock();
        if state.settings.pool_size == 0 {
            return;
        }
        let known_peer = state.roster.peer_mut(peer);
        let was_refused = known_peer.is_some_and(|peer| peer.refused.remove(account));
        let is_known = state.accounts.iter().any(|known| **known == *account);
        if !is_known {
            state.accounts.push(account.into());
            let State { plan, accounts, .. } = &mut *state;
            plan.set_accounts(accounts, Some(now));
        }
        let hands_over = (state.roster.peer(peer)).is_some_and(roster::Peer::hands_over);
        let patience = if hands_over {
            dial::RETRY
        } else {
            BEGINNERS_DIAL
        };
        state.plan.dial_for(peer, account, now + patience);
        state.wake();
        if was_refused || !is_known {
            // Other sessions find out that they serve the account no more.
            self.has_news.store(true, Ordering::Relaxed);
        }
    }

    /// A peer has answered that an account may leave the connections that are shared.
    pub(crate) fn account_may_leave(&self, question: &str, peer: &str, now: Instant) {
        let mut state = self.state.lock();
        let mut asked = state.asked.iter();
        let Some(account) = asked
            .find(|(known, _)| known == question)
            .map(|(_, account)| Arc::clone(account))
        else {
            return;
        };
        if state.roster.is_missing(peer, Some(&account)) {
            state.plan.dial_for(peer, &account, now);
            state.wake();
        }
    }

    /// A peer has refused a connection for an account, which shares the others for the time being. Returns whether that is
    /// new.
    pub(crate) fn own_connection_refused(&self, peer: &str, account: &str) -> bool {
        let mut state = self.state.lock();
        if !state.accounts.iter().any(|known| **known == *account) {
            return false;
        }
        let Some(peer) = state.roster.peer_mut(peer) else {
            return false;
        };
        let is_new = peer.refused.insert(account.into());
        if is_new {
            self.has_news.store(true, Ordering::Relaxed);
        }
        is_new
    }

    /// An account has a connection to itself with a peer, and both know. Returns whether it shared until now.
    pub(crate) fn has_own_connection(&self, peer: &str, account: &str) -> bool {
        let mut state = self.state.lock();
        let peer = state.roster.peer_mut(peer);
        let is_new = peer.is_some_and(|peer| peer.refused.remove(account));
        if is_new {
            self.has_news.store(true, Ordering::Relaxed);
        }
        is_new
    }

    /// Whether a connection is with this peer.
    pub(crate) fn is_with(&self, peer: &str, connection: u64) -> bool {
        self.state
            .lock()
            .roster
            .member_mut(peer, connection)
            .is_some()
    }

    /// Whether a peer is connected by others than this connection.
    pub(crate) fn has_others(&self, peer: &str, connection: u64) -> bool {
        let state = self.state.lock();
        let peer = state.roster.peer(peer);
        let mut members = peer.into_iter().flat_map(|peer| peer.members());
        members.any(|member| member.connection.id() != connection)
    }

    /// Whether what clients are told has changed since the last call.
    pub(crate) fn take_news(&self) -> bool {
        self.has_news.load(Ordering::Relaxed) && self.has_news.swap(false, Ordering::Relaxed)
    }

    /// Addresses of other servers for clients, in order.
    pub(crate) fn client_urls(&self) -> Vec<String> {
        let state = self.state.lock();
        let peers = state.roster.peers();
        let mut urls: Vec<String> = peers
            .flat_map(|(_, peer)| peer.client_urls.iter().cloned())
            .collect();
        urls.sort_unstable();
        urls.dedup();
        urls
    }

    /// A connection is open. Returns what it was dialled for; an error if nobody wants it any more.
    pub(crate) fn open(
        &self,
        connection: &Arc<RouteConnection>,
        dial: Option<DialId>,
    ) -> Result<Option<Purpose>, CloseReason> {
        let mut state = self.state.lock();
        state
            .connections
            .insert(connection.id(), Arc::clone(connection));
        if state.is_closing {
            return Err(CloseReason::ServerShutdown);
        }
        match dial {
            None if state.is_crowded() => Err(CloseReason::ConnectionsExceeded),
            None => Ok(None),
            Some(id) => {
                let purpose = state.plan.purpose(id);
                purpose.map(Some).ok_or(CloseReason::RouteRemoved)
            }
        }
    }

    /// Outboxes of all connections.
    pub(crate) fn connections(&self) -> Vec<Arc<RouteConnection>> {
        self.state.lock().connections.values().cloned().collect()
    }

    /// Nobody is dialled any more, and all connections are closed.
    pub fn close(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        state.is_closing = true;
        let connections: Vec<_> = state.connections.values().cloned().collect();
        drop(state);
        connections
            .iter()
            .for_each(|connection| connection.outbox().close(reason));
    }

    /// Compares a peer's name for the cluster with this server's, and gives in if that is to be done (route protocol,
    /// section 8). Connections with others than `peer` are closed then.
    pub(crate) fn negotiate_name(&self, theirs: &str, is_dynamic: bool, peer: &str) -> NameVerdict {
        let mut state = self.state.lock();
        if *state.name == *theirs {
            return NameVerdict::Same;
        }
        let gives_in = state.is_dynamic && (!is_dynamic || *state.name < *theirs);
        if !gives_in {
            return NameVerdict::Conflict(Arc::clone(&state.name));
        }
        state.name = theirs.into();
        state.is_dynamic = is_dynamic;
        self.has_news.store(true, Ordering::Relaxed);
        let others = state.roster.peers().filter(|(id, _)| ***id != *peer);
        let others = others.flat_map(|(_, peer)| peer.members());
        for member in others {
            member
                .connection
                .outbox()
                .close(CloseReason::ClusterNameConflict);
        }
        NameVerdict::Adopted
    }

    /// A connection turned out to go to this very server. Returns whether it was dialled for itself, and not told so yet.
    pub(crate) fn met_self(&self, dial: DialId) -> Option<Target> {
        self.state.lock().plan.is_self(dial)
    }

    /// Lets a connection in. `greet` is called with its place before anything else is written to it, and with the mesh
    /// locked.
    pub(crate) fn register(
        &self,
        claim: &Claim<'_>,
        now: Instant,
        greet: &mut dyn FnMut(Place),
    ) -> Result<Place, Refusal> {
        let mut state = self.state.lock();
        let id: Arc<str> = claim.info.server_id.as_str().into();
        if let Some((dial, _)) = claim.dialled {
            state.plan.identified(dial, &id);
        }
        if state.is_closing {
            return Err(Refusal::Duplicate);
        }
        let place = state.place(&self.own_id, &id, claim)?;
        greet(place);
        let (told, is_for_clients) = self.admit(&mut state, &id, claim, place, now);
        state.settle(now);
        drop(state);
        told.iter().for_each(|connection| connection.send(now));
        if is_for_clients && self.state.lock().roster.show_to_clients(&id, claim.info) {
            self.has_news.store(true, Ordering::Relaxed);
        }
        Ok(place)
    }

    /// Enters a connection and does what follows from it. Returns those who are told of it, and whether clients are to be.
    fn admit(
        &self,
        state: &mut State,
        id: &Arc<str>,
        claim: &Claim<'_>,
        place: Place,
        now: Instant,
    ) -> (Vec<Arc<RouteConnection>>, bool) {
        let info = claim.info;
        let others = state.roster.peers().filter(|(other, _)| *other != id);
        let has_others = others.count() > 0;
        let own_size = state.settings.pool_size;
        if claim.dialled.is_none() {
            state.dismissed.remove(id);
        }
        let peer = state.roster.enter(id, &info.server_name, place.has_pool);
        peer.info = RouteInfo {
            nonce: String::new(),
            route_account: String::new(),
            route_pool_idx: 0,
            ..info.clone()
        };
        peer.is_leaving |= info.ldm;
        if info.ldm && !std::mem::take(&mut peer.client_urls).is_empty() {
            self.has_news.store(true, Ordering::Relaxed);
        }
        let member = Member {
            connection: Arc::clone(claim.connection),
            dial: claim.dialled.map(|(dial, _)| dial),
            is_confirmed: false,
            hands_over: info.account_moves == ACCOUNT_MOVES,
            is_ending: false,
        };
        let is_first = match claim.account {
            Some(account) => {
                if member.hands_over {
                    // The account is not shared any more.
                    self.has_news.store(true, Ordering::Relaxed);
                }
                peer.dedicated.insert(Arc::clone(account), member);
                true
            }
            None => {
                let is_first = peer.shared().next().is_none();
                let size = if place.has_pool {
                    effective_size(own_size, info.route_pool_size)
                } else {
                    1
                };
                // The pool was larger until somebody was reloaded; its connections are about to end, or do now.
                let beyond = peer.slots.drain((size as usize).min(peer.slots.len())..);
                for former in beyond.flatten() {
                    former.connection.outbox().close(CloseReason::RouteRemoved);
                }
                peer.slots.resize_with(size as usize, || None);
                let replaced = peer.slots[place.index as usize].replace(member);
                // What the peer was told on a connection that gives way it may never read.
                is_first || replaced.is_some()
            }
        };
        let account = claim.account.map(|account| &**account);
        let is_missing = peer.is_missing(account);
        if claim.dialled.is_none() {
            state.remember(id, info);
        }
        state.plan.postpone(id, account, is_missing, now);
        let told = if is_first && has_others {
            state.pass_on(id, claim)
        } else {
            Vec::new()
        };
        let is_for_clients = is_first && claim.account.is_none() && !state.settings.no_advertise;
        (told, is_for_clients)
    }

    /// The peer has answered on a connection after it was let in: it has let it in as well.
    pub(crate) fn confirm(
        &self,
        peer: &str,
        connection: &RouteConnection,
        is_own: bool,
        now: Instant,
    ) {
        let mut state = self.state.lock();
        let Some(member) = state.roster.member_mut(peer, connection.id()) else {
            return;
        };
        if std::mem::replace(&mut member.is_confirmed, true) {
            return;
        }
        if is_own && member.hands_over {
            // The account is not shared any more.
            self.has_news.store(true, Ordering::Relaxed);
        }
        let Some(dial) = member.dial else {
            return;
        };
        let account = state.plan.purpose(dial).and_then(|purpose| purpose.account);
        let is_missing = state.roster.is_missing(peer, account.as_deref());
        state.plan.ended(dial, Ended::Confirmed, is_missing, now);
        state.settle(now);
    }

    /// A connection has ended, whether it was let in or not. `peer` is who it was with, as far as known.
    pub(crate) fn unregister(
        &self,
        connection: &RouteConnection,
        peer: Option<&str>,
        account: Option<&str>,
        dialled: Option<DialId>,
        fate: Fate,
        now: Instant,
    ) {
        let mut state = self.state.lock();
        if state.connections.remove(&connection.id()).is_none() {
            return;
        }
        let removed = peer.and_then(|peer| state.roster.remove(peer, connection.id()));
        if removed
            .as_ref()
            .is_some_and(|removed| !removed.client_urls.is_empty())
        {
            self.has_news.store(true, Ordering::Relaxed);
        }
        if let Some(dial) = dialled {
            let is_missing = peer.is_none_or(|peer| state.roster.is_missing(peer, account));
            let ended = match fate {
                Fate::Lost => Ended::Lost,
                Fate::Superfluous => Ended::Superfluous,
                Fate::Impossible => Ended::Impossible,
            };
            state.plan.ended(dial, ended, is_missing, now);
        }
        if removed.is_some() && account.is_some() {
            // The account shares the others again.
            self.has_news.store(true, Ordering::Relaxed);
        }
        if let (Some(removed), Some(peer)) = (removed, peer) {
            state.plan.lost(peer, account, removed.is_last, now);
        }
        state.settle(now);
    }

    /// A peer told of another server. Returns false if its address is none.
    pub(crate) fn hear_of(&self, info: &RouteInfo, teller_has_pool: bool, now: Instant) -> bool {
        let mut state = self.state.lock();
        let State {
            settings,
            accounts,
            roster,
            plan,
            dismissed,
            ..
        } = &mut *state;
        if *info.server_id == *self.own_id
            || dismissed.contains(&*info.server_id)
            || settings.pool_size == 0 && !info.route_account.is_empty()
        {
            return true;
        }
        let account = match info.route_account.as_str() {
            "" => None,
            name => match accounts.iter().find(|account| ***account == *name) {
                Some(account) => Some(Arc::clone(account)),
                None => return true,
            },
        };
        let peer = roster.peer(&info.server_id);
        let is_there = peer.is_some_and(|peer| match &account {
            Some(account) => peer.dedicated.contains_key(account) || !peer.has_pool,
            None => peer.shared().next().is_some(),
        });
        let Some((host, port)) = parse_url(&info.ip) else {
            return false;
        };
        if is_there || plan.is_target(&info.host, info.port) || plan.is_target(host, info.port) {
            return true;
        }
        let login = settings.login.clone().filter(|_| info.auth_required);
        let target = Target {
            host: host.to_owned(),
            port,
            tls_name: None,
        };
        let mut lanes = vec![account];
        if !teller_has_pool && lanes[0].is_none() {
            // Who knows nothing of pools does not tell of each account.
            lanes.extend(accounts.iter().cloned().map(Some));
        }
        let id: Arc<str> = info.server_id.as_str().into();
        plan.learn(&id, target, login, lanes, info.gossip_mode, now);
        state.settle(now);
        true
    }

    /// A peer is about to let its clients go: nobody is to be sent there.
    pub(crate) fn hear_of_lame_duck(&self, peer: &str) {
        let mut state = self.state.lock();
        let Some(peer) = state.roster.peer_mut(peer) else {
            return;
        };
        peer.is_leaving = true;
        if !std::mem::take(&mut peer.client_urls).is_empty() {
            self.has_news.store(true, Ordering::Relaxed);
        }
    }

    /// What to tell a peer of another one on this connection, whether it was told before or not.
    pub(crate) fn reminder(&self, peer: &str, connection: &RouteConnection) -> Option<RouteInfo> {
        let info = (self.state.lock().roster).reminder(peer, connection.id())?;
        // If that makes it dial, nobody else needs to hear of it for that. The cluster may have another name by now than when
        // the other server said so, and it is this connection that would be closed for it.
        Some(RouteInfo {
            gossip_mode: GossipMode::Disabled,
            cluster: String::new(),
            cluster_dynamic: false,
            ..info
        })
    }

    /// Tells every peer something, once.
    pub(crate) fn tell_peers(&self, line: &[u8]) {
        let state = self.state.lock();
        let spokesmen = state
            .roster
            .peers()
            .filter_map(|(_, peer)| peer.spokesman());
        spokesmen.for_each(|member| member.connection.tell(line));
    }

    /// Goes by other settings. Connections that are not wanted any more are closed.
    pub(crate) fn adapt(
        &self,
        settings: &ClusterSettings,
        system_account: &Arc<str>,
        now: Instant,
    ) {
        let settings = &Arc::new(settings.clone());
        let mut state = self.state.lock();
        if !settings.name.is_empty() && *state.name != *settings.name {
            state.name = settings.name.as_str().into();
            tracing::info!("Cluster name updated to {}", state.name);
            self.has_news.store(true, Ordering::Relaxed);
        }
        state.is_dynamic &= settings.name.is_empty();
        if settings.no_advertise != state.settings.no_advertise {
            self.has_news.store(true, Ordering::Relaxed);
        }
        state.adapt(settings, system_account, Some(now));
        state.settle(now);
    }
}

/// How a connection ended, as far as it matters for whether it is dialled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lost,
    /// There was one already.
    Superfluous,
    /// It cannot be between these two servers.
    Impossible,
}

impl Claim<'_> {
    /// Whether the configuration names the server that was dialled.
    fn is_for_seed(&self) -> bool {
        self.dialled.is_some_and(|(_, purpose)| purpose.is_explicit)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether there are more than enough that have not said who they are.
    fn is_crowded(&self) -> bool {
        let open = self.connections.len();
        let peers = self.roster.peers();
        open > NEWCOMERS_MAX
            && open - peers.map(|(_, peer)| peer.members().count()).sum::<usize>() > NEWCOMERS_MAX
    }

    /// Should a peer be lost that dialled this server, this one looks for it, too.
    fn remember(&mut self, id: &Arc<str>, info: &RouteInfo) {
        let Some((host, port)) = parse_url(&info.ip) else {
            return;
        };
        let target = Target {
            host: host.to_owned(),
            port,
            tls_name: None,
        };
        let login = self.settings.login.clone();
        let login = login.filter(|_| info.auth_required);
        self.plan.remember(id, target, login, &self.accounts);
    }

    /// Sees to it that what should be there and is not gets dialled; to be called after every change.
    fn settle(&mut self, now: Instant) {
        let Self {
            accounts,
            roster,
            plan,
            ..
        } = self;
        plan.settle(
            accounts,
            &|peer| roster.peer(peer).is_some(),
            &|peer, account| roster.is_missing(peer, account),
            now,
        );
        self.wake();
    }

    /// Finds out which place a connection takes, and makes room there if it is to be preferred to what is there.
    fn place(&mut self, own_id: &str, id: &str, claim: &Claim<'_>) -> Result<Place, Refusal> {
        let info = claim.info;
        let own_size = self.settings.pool_size;
        let has_pool = info.route_pool_size > 0 && own_size > 0;
        let size = effective_size(own_size, info.route_pool_size);
        let index = info.route_pool_idx;
        if claim.pool_size != own_size {
            // The peer goes by what is no more.
            return Err(Refusal::ReloadedMeanwhile {
                told: claim.pool_size,
                own: own_size,
            });
        }
        match self.roster.peer(id) {
            Some(peer) if peer.has_pool != has_pool => {
                // One of the two sides has been reloaded, and either this one or those that are there are left over from
                // before. Accounts are told of on one connection or on several, and by the two rules at once on none
                // rightly; so nobody comes in before all the others have ended. If none is left but those of single accounts,
                // it is this side that has not noticed, and a peer that does not know of them any more would not end them.
                let is_left_over = peer.shared().next().is_none();
                for member in peer.members() {
                    if is_left_over {
                        member.connection.outbox().close(CloseReason::RouteRemoved);
                    } else {
                        member.connection.doubt();
                    }
                }
                return Err(Refusal::OtherKindOfPool {
                    own: own_size,
                    theirs: info.route_pool_size,
                    has_pool: peer.has_pool,
                });
            }
            None if self.roster.len() >= PEERS_MAX && !claim.is_for_seed() => {
                return Err(Refusal::TooManyPeers);
            }
            _ => {}
        }
        if !has_pool {
            if claim.account.is_some() {
                return Err(Refusal::DedicatedImpossible);
            }
        } else if claim.dialled.is_some() {
            if index != 0 {
                return Err(Refusal::UnexpectedPoolIndex { index });
            }
        } else if !(0..i64::from(size)).contains(&index) {
            let pool_size = info.route_pool_size;
            return Err(Refusal::InvalidPoolIndex { index, pool_size });
        }
        let peer = self.roster.peer_mut(id);
        if let Some(account) = claim.account {
            if !self.accounts.contains(account) {
                return Err(Refusal::NoRouteForAccount);
            }
            let member = peer.and_then(|peer| peer.dedicated.get_mut(account));
            if let Some(member) = member {
                member.give_way(own_id, id, claim)?;
            }
            return Ok(Place {
                index: 0,
                has_pool: true,
            });
        }
        let Some(peer) = peer.filter(|peer| peer.shared().next().is_some()) else {
            return Ok(Place {
                index: if has_pool { index as u32 } else { 0 },
                has_pool,
            });
        };
        if !has_pool {
            // Nobody says into which place a connection was put; as nats-server does, the first one stays, if it is alive: a peer
            // that dials has perhaps lost it.
            if claim.dialled.is_none() {
                peer.members().for_each(|member| member.connection.doubt());
            }
            return Err(Refusal::Duplicate);
        }
        let index = if claim.dialled.is_some() {
            let mut places = peer.slots.iter().take(size as usize);
            let free = places.position(Option::is_none);
            let beyond = (peer.slots.len() < size as usize).then_some(peer.slots.len());
            free.or(beyond).ok_or(Refusal::Duplicate)?
        } else {
            if let Some(Some(member)) = peer.slots.get_mut(index as usize) {
                member.give_way(own_id, id, claim)?;
            }
            index as usize
        };
        Ok(Place {
            index: index as u32,
            has_pool,
        })
    }

    /// Queues word of a new peer for the others (route protocol, section 7). Returns the connections that are to send it.
    fn pass_on(&self, id: &Arc<str>, claim: &Claim<'_>) -> Vec<Arc<RouteConnection>> {
        let (is_dialled, is_explicit, gossip) = match claim.dialled {
            None => (false, false, GossipMode::Default),
            Some((_, purpose)) => (true, purpose.is_explicit, purpose.gossip),
        };
        let is_heard_of = is_dialled && !is_explicit;
        if is_heard_of && gossip != GossipMode::Override
            || claim.info.gossip_mode == GossipMode::Disabled
        {
            return Vec::new();
        }
        let account = claim.account.map_or_else(String::new, ToString::to_string);
        let line = |gossip_mode| {
            let mut line = b"INFO ".to_vec();
            RouteInfo {
                nonce: String::new(),
                route_account: account.clone(),
                gossip_mode,
                ..claim.info.clone()
            }
            .write_json(&mut line);
            line.extend_from_slice(b"\r\n");
            line
        };
        let mut told = Vec::new();
        for (other, peer) in self.roster.peers() {
            if other == id || claim.account.is_some() && !peer.has_pool {
                continue;
            }
            let dedicated = claim
                .account
                .and_then(|account| peer.dedicated.get(account));
            let Some(member) = dedicated.or_else(|| peer.spokesman()) else {
                continue;
            };
            let mode = match (is_dialled, is_explicit) {
                (true, true) => GossipMode::Override,
                (true, false) => GossipMode::Default,
                (false, _) if self.plan.is_explicit(other) => GossipMode::Override,
                (false, _) => GossipMode::Disabled,
            };
            member.connection.queue(&line(mode));
            told.push(Arc::clone(&member.connection));
        }
        told
    }

    fn adapt(
        &mut self,
        settings: &Arc<ClusterSettings>,
        system_account: &Arc<str>,
        now: Option<Instant>,
    ) {
        let former = std::mem::replace(&mut self.settings, Arc::clone(settings));
        self.plan.retries_max = settings.connect_retries;
        self.plan.backs_off = settings.connect_backoff;
        self.plan.logged_each = [
            settings.connect_error_reports,
            settings.reconnect_error_reports,
        ];
        let mut accounts = Vec::new();
        if settings.pool_size > 0 {
            accounts.push(Arc::clone(system_account));
            let listed = settings.accounts.iter().map(String::as_str);
            // Those that peers have told of, and that were not in the configuration before either.
            let is_told = |known: &&Arc<str>| !former.accounts.iter().any(|it| **it == ***known);
            let told = self.accounts.iter().filter(is_told).map(|known| &**known);
            for name in listed.chain(told) {
                if accounts.iter().all(|known| **known != *name) {
                    accounts.push(name.into());
                }
            }
        }
        let has_same_pool = former.pool_size == settings.pool_size;
        let known = std::mem::replace(&mut self.accounts, accounts);
        for account in known.iter().filter(|known| !self.accounts.contains(known)) {
            for (_, peer) in self.roster.peers_mut() {
                match peer.dedicated.get_mut(account) {
                    // One of our kind has nothing in it any more once it is closed.
                    Some(member) if member.hands_over && has_same_pool => member.is_ending = true,
                    Some(member) => member.connection.outbox().close(CloseReason::RouteRemoved),
                    None => {}
                }
            }
        }
        if !has_same_pool {
            // Accounts that have connections to themselves keep them, unless there is no pool now or was none. Those in
            // the handshake, on which the former size was said, end as well.
            let has_pools = former.pool_size > 0 && settings.pool_size > 0;
            let peers = self.roster.peers().filter(|_| has_pools);
            let kept: BTreeSet<u64> = peers
                .flat_map(|(_, peer)| peer.dedicated.values())
                .map(|member| member.connection.id())
                .collect();
            for (id, connection) in &self.connections {
                if !kept.contains(id) {
                    connection.outbox().close(CloseReason::RouteRemoved);
                }
            }
        }
        for id in self.plan.keep_seeds(&settings.seeds) {
            self.plan.forget(&id);
            if self.dismissed.len() >= DISMISSED_MAX {
                self.dismissed.clear();
            }
            self.dismissed.insert(Arc::clone(&id));
            if let Some(peer) = self.roster.peer(&id) {
                for member in peer.members() {
                    member.connection.outbox().close(CloseReason::RouteRemoved);
                }
            }
        }
        self.plan.set_accounts(&self.accounts, now);
        if let Some(now) = now.filter(|_| has_same_pool) {
            let own = self.accounts.iter().filter(|own| !known.contains(own));
            for account in own.cloned().collect::<Vec<_>>() {
                self.ask_to_leave(&account, now);
            }
        }
        for seed in settings.seeds.iter().filter(|seed| !seed.is_resolved) {
            let target = Target {
                host: seed.host.clone(),
                port: seed.port,
                tls_name: None,
            };
            if !self.plan.has_seed(seed) {
                self.plan.set_targets(seed, &[target], &self.accounts, now);
            }
        }
    }
}

impl State {
    /// An account is to have a connection to itself with each peer: they are asked on the one that it shares, and dialled
    /// when they have answered (route protocol, section 6).
    fn ask_to_leave(&mut self, account: &Arc<str>, now: Instant) {
        self.questions += 1;
        let question = self.questions.to_string();
        let mut line = b"INFO ".to_vec();
        RouteInfo {
            route_pool_size: i64::from(self.settings.pool_size),
            route_account: account.to_string(),
            route_acc_add_reqid: question.clone(),
            ..RouteInfo::default()
        }
        .write_json(&mut line);
        line.extend_from_slice(b"\r\n");
        let index = pool_index(account.as_bytes(), self.settings.pool_size) as usize;
        let mut asked = Vec::new();
        for (id, peer) in self.roster.peers_mut() {
            peer.refused.remove(account);
            if !peer.has_pool || peer.dedicated.contains_key(account) {
                continue;
            }
            let member = peer.slots.get(index).and_then(Option::as_ref);
            if let Some(member) = member.or_else(|| peer.spokesman()) {
                member.connection.tell(&line);
                asked.push(Arc::clone(id));
            }
        }
        for peer in asked {
            self.plan.dial_for(&peer, account, now + ANSWER_MAX);
        }
        if self.asked.len() == QUESTIONS_MAX {
            self.asked.remove(0);
        }
        self.asked.push((question, Arc::clone(account)));
    }
}

impl Member {
    /// Whether it leaves its place to one that comes in, and is closed; else it is asked whether its peer is there.
    fn give_way(&self, own_id: &str, peer_id: &str, claim: &Claim<'_>) -> Result<(), Refusal> {
        let both_dialled = self.dial.is_some() && claim.dialled.is_none() && !self.is_confirmed;
        if both_dialled && own_id < peer_id {
            self.connection.outbox().close(CloseReason::DuplicateRoute);
            return Ok(());
        }
        if !both_dialled && claim.dialled.is_none() {
            self.connection.doubt();
            let by = self.connection.id();
            return Err(Refusal::Taken { by });
        }
        Err(Refusal::Duplicate)
    }
}

/// Connections that share the accounts, between two servers of different opinion (route protocol, section 6).
pub(crate) fn effective_size(own: u32, theirs: i64) -> u32 {
    let theirs = theirs.clamp(0, i64::from(POOL_SIZE_MAX)) as u32;
    own.max(theirs)
}

/// Host and port of `nats-route://host:port/`.
fn parse_url(url: &str) -> Option<(&str, u16)> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, behind)| behind);
    let (host, port) = authority.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .map_or(Some(host), |host| host.strip_suffix(']'))?;
    let port = port.parse().ok().filter(|&port| port > 0)?;
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use crate::mesh::settings::ClusterSettings;
    use crate::{Access, AccountAccess, Engine, Limits, ServerInfo, Settings};

    /// What a peer asks for again and again has every session look at everything anew only once.
    #[test]
    fn an_account_is_given_away_once() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let now = std::time::Instant::now();
        let engine = Engine::new(Settings {
            info: ServerInfo::default(),
            limits: Limits::default(),
            access: Access {
                accounts: vec![AccountAccess {
                    name: "A".to_owned(),
                    ..AccountAccess::default()
                }],
                ..Access::open()
            },
            seed: 1,
            cluster: Some(ClusterSettings::default()),
        });
        let mesh = engine.mesh().expect("a cluster");
        mesh.take_news();
        mesh.dedicate("A", "PEER", now);
        assert!(mesh.take_news());
        mesh.dedicate("A", "PEER", now);
        assert!(!mesh.take_news());
    }
}
