//! What peers have said they want, and what they are told: one after another, for monitoring and for tests that compare
//! both ends.

use crate::account::Account;
use crate::engine::Engine;
use crate::mesh::remote::RemoteSubscriber;

/// An interest of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerInterestSnapshot<'a> {
    /// In which account.
    pub account: &'a str,
    /// What it is interested in; may have wildcards.
    pub subject: &'a [u8],
    /// The queue group and its members over there.
    pub queue: Option<(&'a [u8], u32)>,
    /// Number of the connection on which the peer said so.
    pub connection: u64,
}

impl Engine {
    /// Shows `visit` all interest of all peers, in no particular order.
    ///
    /// Linear in what there is. No lock is held during `visit`, and none for longer than it takes to copy references to
    /// a few hundred. What comes or goes meanwhile may or may not be shown; everything else is, once.
    pub fn for_each_peer_interest(&self, mut visit: impl FnMut(&PeerInterestSnapshot<'_>)) {
        for account in self.accounts() {
            account.remote().for_each(|entry| {
                let RemoteSubscriber(interest) = entry.subscriber;
                visit(&PeerInterestSnapshot {
                    account: account.name(),
                    subject: interest.subject(),
                    queue: interest.queue().map(|queue| (queue, interest.weight())),
                    connection: interest.link().outbox().id(),
                });
            });
        }
    }
}

impl Account {
    /// Interest that peers have announced in the account.
    #[must_use]
    pub fn peer_interest(&self) -> usize {
        self.remote().len()
    }

    /// Subjects and queue groups that peers are told of.
    #[must_use]
    pub fn announced_interest(&self) -> usize {
        self.interest.len()
    }
}
