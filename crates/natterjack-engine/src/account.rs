//! An account: a subject space of its own.

use std::sync::Arc;

use natterjack_subject::{Index, InvalidPattern, is_valid_pattern};

use crate::delivery::Subscriber;
use crate::exchange::{AwaitedAnswers, Measures, PendingAnswers};
use crate::mesh::interest::LocalInterest;
use crate::mesh::remote::{Passages, RemoteSubscriber};
use crate::monitor::AccountSnapshot;
use crate::monitor::counters::AccountCounters;

/// Name of the account of clients that were not put into another.
pub const GLOBAL_ACCOUNT: &str = "$G";

/// Name of the account for what the server itself has to say, unless another is chosen.
pub const SYSTEM_ACCOUNT: &str = "$SYS";

/// Clients of one account see each other's messages and nobody else's.
pub struct Account {
    name: Arc<str>,
    index: Index<Subscriber>,
    /// Interest of peers.
    remote: Index<RemoteSubscriber>,
    /// By which of their connections messages go to peers.
    pub(crate) passages: Passages,
    /// What peers are told.
    pub(crate) interest: LocalInterest,
    pub(crate) counters: AccountCounters,
    /// Requests of other accounts that its clients may answer.
    pub(crate) answers: PendingAnswers,
    /// Its clients' requests to other accounts that are measured.
    pub(crate) awaited: AwaitedAnswers,
    /// Requests of clients of other servers that its clients are answering, as far as they are measured there.
    pub(crate) measures: Measures,
}

impl Account {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            index: Index::new(),
            remote: Index::new(),
            passages: Passages::default(),
            interest: LocalInterest::default(),
            counters: AccountCounters::default(),
            answers: PendingAnswers::default(),
            awaited: AwaitedAnswers::default(),
            measures: Measures::default(),
        }
    }

    /// The account's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Subscriptions in the account.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.index.len()
    }

    /// Subscriptions on this server.
    pub(crate) fn index(&self) -> &Index<Subscriber> {
        &self.index
    }

    /// Interest of peers.
    pub(crate) fn remote(&self) -> &Index<RemoteSubscriber> {
        &self.remote
    }

    /// Puts a subscription into the index, and tells peers.
    pub(crate) fn insert(&self, subscriber: &Subscriber) -> Result<(), InvalidPattern> {
        let (subject, queue) = (subscriber.0.subject(), subscriber.0.queue());
        if !is_valid_pattern(subject) {
            return Err(InvalidPattern);
        }
        self.interest.add(&self.name, subject, queue);
        self.index.insert(subject, queue, subscriber.clone())
    }

    /// Puts a subscription of the server's own into the index that peers are not to know of: what they publish is not for
    /// this server.
    pub(crate) fn insert_unannounced(&self, subscriber: &Subscriber) -> Result<(), InvalidPattern> {
        let (subject, queue) = (subscriber.0.subject(), subscriber.0.queue());
        self.index.insert(subject, queue, subscriber.clone())
    }

    /// Takes it out of the index.
    pub(crate) fn remove_unannounced(&self, subscriber: &Subscriber) {
        let (subject, queue) = (subscriber.0.subject(), subscriber.0.queue());
        self.index.remove(subject, queue, subscriber);
    }

    /// Takes a subscription out of the index, and tells peers.
    pub(crate) fn remove(&self, subscriber: &Subscriber) {
        let (subject, queue) = (subscriber.0.subject(), subscriber.0.queue());
        if self.index.remove(subject, queue, subscriber) {
            self.interest.remove(&self.name, subject, queue);
        }
    }

    /// What is known of it.
    #[must_use]
    pub fn snapshot(&self) -> AccountSnapshot {
        (self.counters).snapshot(&self.name, &self.index, &self.remote)
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
