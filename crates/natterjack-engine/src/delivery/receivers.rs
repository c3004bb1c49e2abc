//! Who receives the messages of one subject.

use std::sync::Arc;

use natterjack_subject::{MatchSet, QueueGroup};

use super::subscription::Subscriber;
use crate::mesh::link::RouteLink;
use crate::mesh::remote::{LanesInUse, RemoteInterest, RemoteSubscriber};

/// The subscriptions that match, the peers that want the subject, and what delivery must know about them as a whole.
#[derive(Clone, Default)]
pub(crate) struct Receivers {
    set: MatchSet<Subscriber>,
    share_connections: bool,
    peers: Option<Arc<Peers>>,
    /// Of the account's [passages](crate::mesh::remote::Passages), read before.
    epoch: u64,
}

/// The peers that want a subject.
pub(crate) struct Peers {
    set: MatchSet<RemoteSubscriber>,
    /// Their connections, each once, however many of a peer's patterns match.
    pub(crate) targets: Vec<PeerTarget>,
    /// Queue groups with members over there, by name.
    pub(crate) groups: Vec<PeerGroup>,
}

/// A connection on which a peer said that it wants a subject.
pub(crate) struct PeerTarget {
    pub(crate) link: Arc<RouteLink>,
    /// It wants every message, and not only those for a queue group.
    pub(crate) is_plain: bool,
}

/// A queue group with members on other servers.
pub(crate) struct PeerGroup {
    pub(crate) name: Arc<[u8]>,
    /// The same group among [`Receivers::groups`], if it has members here.
    pub(crate) local: Option<usize>,
    /// Which of [`Peers::targets`], and the interest that tells how many members are there.
    pub(crate) members: Vec<(usize, Arc<RemoteInterest>)>,
}

impl Receivers {
    pub(crate) fn new(
        set: MatchSet<Subscriber>,
        peers: MatchSet<RemoteSubscriber>,
        epoch: u64,
    ) -> Self {
        let peers = (!peers.is_empty()).then(|| Peers::new(peers, set.groups()));
        Self {
            share_connections: share_connections(&set),
            peers: peers
                .filter(|peers| !peers.targets.is_empty())
                .map(Arc::new),
            set,
            epoch,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.peers.is_none()
    }

    pub(crate) fn plain(&self) -> impl Iterator<Item = &Subscriber> {
        self.set.plain()
    }

    pub(crate) fn plain_len(&self) -> usize {
        self.set.plain_len()
    }

    pub(crate) fn groups(&self) -> &[QueueGroup<Subscriber>] {
        self.set.groups()
    }

    /// The peers among them.
    pub(crate) fn peers(&self) -> Option<&Arc<Peers>> {
        self.peers.as_ref()
    }

    pub(crate) fn are(
        &self,
        set: &MatchSet<Subscriber>,
        peers: &MatchSet<RemoteSubscriber>,
        epoch: u64,
    ) -> bool {
        self.epoch == epoch
            && self.set.same_as(set)
            && match &self.peers {
                None => peers.is_empty(),
                Some(own) => own.set.same_as(peers),
            }
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && self.set.same_as(&other.set)
            && match (&self.peers, &other.peers) {
                (None, None) => true,
                (Some(own), Some(other)) => Arc::ptr_eq(own, other) || own.set.same_as(&other.set),
                _ => false,
            }
    }

    /// Whether two of them belong to one connection. Messages must then be delivered one by one: with several at
    /// once, one subscription would get them all before the other got the first, and the connection would see
    /// its publisher's messages out of order.
    pub(crate) fn share_connections(&self) -> bool {
        self.share_connections
    }
}

impl Peers {
    /// The number of a group among [`groups`](Self::groups).
    pub(crate) fn find_group(&self, name: &[u8]) -> Option<usize> {
        let groups = &self.groups;
        groups
            .binary_search_by(|group| (*group.name).cmp(name))
            .ok()
    }

    fn new(set: MatchSet<RemoteSubscriber>, local: &[QueueGroup<Subscriber>]) -> Self {
        let mut targets: Vec<PeerTarget> = Vec::new();
        let mut target = |link: &Arc<RouteLink>| {
            let known = targets
                .iter()
                .position(|target| Arc::ptr_eq(&target.link, link));
            known.unwrap_or_else(|| {
                targets.push(PeerTarget {
                    link: Arc::clone(link),
                    is_plain: false,
                });
                targets.len() - 1
            })
        };
        let mut in_use = LanesInUse::default();
        let mut plain: Vec<usize> = Vec::new();
        for peer in set.plain().filter(|peer| in_use.has(&peer.0)) {
            plain.push(target(peer.0.link()));
        }
        let groups = set
            .groups()
            .iter()
            .map(|group| PeerGroup {
                name: group.name().into(),
                local: local
                    .binary_search_by(|known| known.name().cmp(group.name()))
                    .ok(),
                members: group
                    .members()
                    .filter(|peer| in_use.has(&peer.0))
                    .map(|peer| (target(peer.0.link()), Arc::clone(&peer.0)))
                    .collect(),
            })
            .filter(|group: &PeerGroup| !group.members.is_empty())
            .collect();
        for position in plain {
            targets[position].is_plain = true;
        }
        Self {
            set,
            targets,
            groups,
        }
    }
}

fn share_connections(set: &MatchSet<Subscriber>) -> bool {
    let members = set.groups().iter().flat_map(QueueGroup::members);
    let mut connections: smallvec::SmallVec<[usize; 16]> = set
        .plain()
        .chain(members)
        .map(|subscriber| Arc::as_ptr(subscriber.0.outbox()) as usize)
        .collect();
    connections.sort_unstable();
    connections.windows(2).any(|pair| pair[0] == pair[1])
}
