//! An account: a subject space of its own.

use std::sync::Arc;

use natterjack_subject::Index;

use crate::delivery::Subscriber;
use crate::exchange::PendingAnswers;
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
    pub(crate) counters: AccountCounters,
    /// Requests of other accounts that its clients may answer.
    pub(crate) answers: PendingAnswers,
}

impl Account {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            index: Index::new(),
            counters: AccountCounters::default(),
            answers: PendingAnswers::default(),
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

    pub(crate) fn index(&self) -> &Index<Subscriber> {
        &self.index
    }

    /// What is known of it.
    #[must_use]
    pub fn snapshot(&self) -> AccountSnapshot {
        self.counters.snapshot(&self.name, &self.index)
    }
}
