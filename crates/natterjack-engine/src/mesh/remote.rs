//! Interest of peers: who of them wants the messages of a subject.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::link::RouteLink;
use crate::account::Account;

/// One interest that a peer announced on one of its connections, from `RS+` (`LS+`) to `RS-` (`LS-`) or the
/// connection's end. The session that read it holds it, and it is in [`Account::remote`].
pub(crate) struct RemoteInterest {
    link: Arc<RouteLink>,
    account: Arc<Account>,
    subject: Box<[u8]>,
    queue: Option<Box<[u8]>>,
    /// Members of the queue group over there.
    weight: AtomicU32,
    /// It is that of leaf nodes behind the peer.
    is_of_leaf: bool,
}

/// What a peer says when it announces interest.
#[derive(Clone, Copy)]
pub(crate) struct Announced<'a> {
    pub(crate) subject: &'a [u8],
    /// A queue group and its members over there.
    pub(crate) queue: Option<(&'a [u8], u32)>,
    /// It is that of leaf nodes behind the peer.
    pub(crate) is_of_leaf: bool,
}

impl RemoteInterest {
    /// Puts the interest into the account's index. Returns `None` if the subject is not one.
    pub(crate) fn insert(
        link: &Arc<RouteLink>,
        account: &Arc<Account>,
        announced: Announced<'_>,
    ) -> Option<Arc<Self>> {
        let Announced {
            subject,
            queue,
            is_of_leaf,
        } = announced;
        let interest = Arc::new(Self {
            link: Arc::clone(link),
            account: Arc::clone(account),
            subject: subject.into(),
            queue: queue.map(|(name, _)| name.into()),
            weight: AtomicU32::new(queue.map_or(1, |(_, weight)| weight)),
            is_of_leaf,
        });
        let subscriber = RemoteSubscriber(Arc::clone(&interest));
        account
            .remote()
            .insert(subject, interest.queue(), subscriber)
            .ok()?;
        Some(interest)
    }

    /// Takes it out of the index.
    pub(crate) fn remove(self: &Arc<Self>) {
        let subscriber = RemoteSubscriber(Arc::clone(self));
        self.account
            .remote()
            .remove(&self.subject, self.queue(), &subscriber);
    }

    pub(crate) fn link(&self) -> &Arc<RouteLink> {
        &self.link
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    pub(crate) fn queue(&self) -> Option<&[u8]> {
        self.queue.as_deref()
    }

    pub(crate) fn is_of_leaf(&self) -> bool {
        self.is_of_leaf
    }

    /// Members of the queue group over there; 1 for a plain interest.
    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// The queue group has another number of members now.
    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }
}

/// An interest in the index: the same one only if it is the very same object.
#[derive(Clone)]
pub(crate) struct RemoteSubscriber(pub(crate) Arc<RemoteInterest>);

impl PartialEq for RemoteSubscriber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for RemoteSubscriber {}

impl Hash for RemoteSubscriber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}
