//! An account: a subject space of its own.

use natterjack_subject::Index;

use crate::delivery::Subscriber;

/// Name of the account of clients that were not put into another.
pub const GLOBAL_ACCOUNT: &str = "$G";

/// Clients of one account see each other's messages and nobody else's.
pub struct Account {
    name: Box<str>,
    index: Index<Subscriber>,
}

impl Account {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            index: Index::new(),
        }
    }

    /// The account's name.
    #[must_use]
    pub fn name(&self) -> &str {
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
}
