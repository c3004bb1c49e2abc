//! The peers this server is connected with, and by which connections.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use natterjack_wire::route::RouteInfo;

use super::dial::DialId;
use crate::delivery::outbox::Outbox;
use crate::monitor::routes::RouteRecord;

/// One connection with a peer, from its first moment on, as the mesh sees it.
pub(crate) struct RouteConnection {
    outbox: Arc<Outbox>,
    address: Option<SocketAddr>,
    /// It is doubted that the peer is still there.
    is_doubted: AtomicBool,
    /// What monitoring may know.
    record: RouteRecord,
}

impl RouteConnection {
    pub(crate) fn new(outbox: Arc<Outbox>, address: Option<SocketAddr>) -> Self {
        Self {
            outbox,
            address,
            is_doubted: AtomicBool::new(false),
            record: RouteRecord::default(),
        }
    }

    pub(crate) fn record(&self) -> &RouteRecord {
        &self.record
    }

    pub(crate) fn id(&self) -> u64 {
        self.outbox.id()
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Has the connection's session ask the peer for a sign of life.
    pub(super) fn doubt(&self) {
        self.is_doubted.store(true, Ordering::Relaxed);
        self.outbox.wake();
    }

    pub(crate) fn take_doubt(&self) -> bool {
        self.is_doubted.load(Ordering::Relaxed) && self.is_doubted.swap(false, Ordering::Relaxed)
    }

    /// Queues a line from outside of the connection's task, which sends it.
    pub(super) fn tell(&self, line: &[u8]) {
        self.outbox.append_in_passing(line);
        self.outbox.wake();
    }

    /// Queues a line that whoever does it has [sent](Self::send) afterwards, when nothing is locked. It waits behind nothing that
    /// is held.
    pub(super) fn queue(&self, line: &[u8]) {
        self.outbox.append_unheld(line);
    }

    /// Sends what is queued as far as the socket takes it, and has the connection's task send the rest.
    pub(super) fn send(&self, now: Instant) {
        self.outbox.flush(now);
        self.outbox.wake();
    }
}

/// Peers by their id; in order, so that chance has one seed.
#[derive(Default)]
pub(super) struct Roster {
    peers: BTreeMap<Arc<str>, Peer>,
}

/// A server that is connected.
pub(super) struct Peer {
    pub(super) name: String,
    /// What it last said of itself on a connection that was let in, for others.
    pub(super) info: RouteInfo,
    /// It is about to go: nobody needs to hear of it.
    pub(super) is_leaving: bool,
    /// Of whom it was reminded last.
    reminded: Option<Arc<str>>,
    /// Whether accounts are shared out among connections.
    pub(super) has_pool: bool,
    /// The connections that share the accounts, by their place; only the first place without a pool.
    pub(super) slots: Vec<Option<Member>>,
    pub(super) dedicated: BTreeMap<Arc<str>, Member>,
    /// Accounts for which it has refused connections of their own; they share those of the pool.
    pub(super) refused: BTreeSet<Arc<str>>,
    /// Where its clients may go.
    pub(super) client_urls: Vec<String>,
}

/// A connection that takes part.
pub(super) struct Member {
    pub(super) connection: Arc<RouteConnection>,
    pub(super) dial: Option<DialId>,
    /// The peer has answered on it since it was let in here.
    pub(super) is_confirmed: bool,
    /// Accounts go from one connection with the peer to another with word of it.
    pub(super) hands_over: bool,
    /// It is an account's own, and one of the two sides has no such connection any more.
    pub(super) is_ending: bool,
}

impl Peer {
    pub(super) fn new(name: &str, has_pool: bool) -> Self {
        Self {
            name: name.to_owned(),
            info: RouteInfo::default(),
            is_leaving: false,
            reminded: None,
            has_pool,
            slots: Vec::new(),
            dedicated: BTreeMap::new(),
            refused: BTreeSet::new(),
            client_urls: Vec::new(),
        }
    }

    /// Connections that share the accounts.
    pub(super) fn shared(&self) -> impl Iterator<Item = &Member> {
        self.slots.iter().flatten()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.shared().chain(self.dedicated.values())
    }

    fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        let shared = self.slots.iter_mut().flatten();
        shared.chain(self.dedicated.values_mut())
    }

    /// Whether accounts go from one connection with the peer to another with word of it.
    pub(super) fn hands_over(&self) -> bool {
        self.members().any(|member| member.hands_over)
    }

    /// Accounts, of those that are to have connections to themselves, that are told of on such a connection. Where they are
    /// handed over, that is so from the moment at which both know of it until one of them gives it up, and else they share;
    /// nats-server takes no interest in them but on such a connection, unless it refuses that. An account that has shared
    /// others' since is apart from them until its own connection has ended: what was read there is delivered first.
    pub(super) fn apart<'a>(&'a self, accounts: &'a [Arc<str>]) -> Vec<&'a Arc<str>> {
        let hands_over = self.hands_over();
        let is_apart = |account: &&Arc<str>| match self.dedicated.get(*account) {
            _ if !hands_over => !self.refused.contains(*account),
            Some(own) => (own.dial.is_none() || own.is_confirmed) && !own.is_ending,
            None => false,
        };
        let ends = |account: &&Arc<str>| !hands_over && !accounts.contains(*account);
        let ending = self.dedicated.keys().filter(ends);
        accounts.iter().filter(is_apart).chain(ending).collect()
    }

    /// Whether there should be one more connection: for an account, or for those that share.
    pub(super) fn is_missing(&self, account: Option<&str>) -> bool {
        match account {
            Some(account) => self.has_pool && !self.dedicated.contains_key(account),
            None => self.slots.is_empty() || self.slots.iter().any(Option::is_none),
        }
    }

    /// Whom to tell something that every peer is to hear once.
    pub(super) fn spokesman(&self) -> Option<&Member> {
        self.shared().next()
    }
}

impl Roster {
    pub(super) fn peer(&self, id: &str) -> Option<&Peer> {
        self.peers.get(id)
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (&Arc<str>, &Peer)> {
        self.peers.iter()
    }

    pub(super) fn peers_mut(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut Peer)> {
        self.peers.iter_mut()
    }

    pub(super) fn enter(&mut self, id: &Arc<str>, name: &str, has_pool: bool) -> &mut Peer {
        let peer = self.peers.entry(Arc::clone(id));
        let peer = peer.or_insert_with(|| Peer::new(name, has_pool));
        if peer.members().next().is_none() {
            peer.has_pool = has_pool;
        }
        peer
    }

    /// What to tell a peer of another one, if this is the connection on which it is told such things: of a different one
    /// each time, in turn.
    pub(super) fn reminder(&mut self, id: &str, connection: u64) -> Option<RouteInfo> {
        let peer = self.peers.get(id)?;
        if peer.spokesman()?.connection.id() != connection {
            return None;
        }
        let behind = match &peer.reminded {
            Some(last) => (Bound::Excluded(&**last), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let is_fit = |(other, peer): &(&Arc<str>, &Peer)| {
            ***other != *id && !peer.is_leaving && peer.shared().next().is_some()
        };
        let mut in_turn = (self.peers.range::<str, _>(behind)).chain(&self.peers);
        let (other, peer) = in_turn.find(is_fit)?;
        let (other, info) = (Arc::clone(other), peer.info.clone());
        self.peers.get_mut(id)?.reminded = Some(other);
        Some(info)
    }

    pub(super) fn peer_mut(&mut self, id: &str) -> Option<&mut Peer> {
        self.peers.get_mut(id)
    }

    pub(super) fn is_missing(&self, peer: &str, account: Option<&str>) -> bool {
        (self.peer(peer)).is_none_or(|peer| peer.is_missing(account))
    }

    /// The member that a connection is.
    pub(super) fn member_mut(&mut self, peer: &str, id: u64) -> Option<&mut Member> {
        let mut members = self.peers.get_mut(peer)?.members_mut();
        members.find(|member| member.connection.id() == id)
    }

    /// Clients may go where a peer says from now on. Returns whether that is news.
    pub(super) fn show_to_clients(&mut self, peer_id: &str, info: &RouteInfo) -> bool {
        let Some(peer) = self.peer_mut(peer_id).filter(|peer| !peer.is_leaving) else {
            return false;
        };
        peer.client_urls.clone_from(&info.connect_urls);
        !peer.client_urls.is_empty()
    }

    /// Takes a connection out. Returns whether it was there, and the peer's addresses for clients if it was the last of
    /// those that share the accounts.
    pub(super) fn remove(&mut self, peer_id: &str, id: u64) -> Option<Removed> {
        let peer = self.peers.get_mut(peer_id)?;
        let is_it = |member: &Member| member.connection.id() == id;
        let had_shared = peer.shared().next().is_some();
        let mut found = false;
        for slot in &mut peer.slots {
            found |= slot.take_if(|member| is_it(member)).is_some();
        }
        peer.dedicated.retain(|_, member| {
            let is_removed = is_it(member);
            found |= is_removed;
            !is_removed
        });
        if !found {
            return None;
        }
        let has_shared = peer.shared().next().is_some();
        let mut removed = Removed {
            client_urls: Vec::new(),
            is_last: peer.members().next().is_none(),
        };
        if had_shared && !has_shared {
            removed.client_urls = std::mem::take(&mut peer.client_urls);
            peer.slots.clear();
        }
        if removed.is_last {
            self.peers.remove(peer_id);
        }
        Some(removed)
    }
}

/// What goes with a connection.
pub(super) struct Removed {
    pub(super) client_urls: Vec<String>,
    /// There is none left with this peer.
    pub(super) is_last: bool,
}
