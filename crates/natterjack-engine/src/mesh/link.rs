//! A registered connection to a peer, as delivery and the announcing of interest see it.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::delivery::outbox::Outbox;

/// One connection of a peer's, from its registration to its end. Which of a peer's connections it is, and what the
/// peer says on it, is its session's business.
pub(crate) struct RouteLink {
    outbox: Arc<Outbox>,
    /// The one account it is for; its lines do not name an account then (route protocol, section 4).
    dedicated: Option<Arc<str>>,
    /// The peer takes messages for queue groups only.
    takes_strays: bool,
    /// What of our interest the peer is told; `None`: all.
    filter: RwLock<Option<Arc<InterestFilter>>>,
}

/// Decides about interest in a subject. Cheap enough to be asked for every subscription.
pub(crate) type InterestFilter = dyn Fn(&[u8]) -> bool + Send + Sync;

impl RouteLink {
    pub(crate) fn new(
        outbox: Arc<Outbox>,
        dedicated: Option<Arc<str>>,
        takes_strays: bool,
        filter: Option<Arc<InterestFilter>>,
    ) -> Self {
        Self {
            outbox,
            dedicated,
            takes_strays,
            filter: RwLock::new(filter),
        }
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Whether its lines go without the name of the account.
    #[inline]
    pub(crate) fn is_dedicated(&self) -> bool {
        self.dedicated.is_some()
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

    /// Whether the peer is told of interest in `subject`.
    pub(crate) fn may_announce(&self, subject: &[u8]) -> bool {
        let filter = self.filter.read();
        filter.as_ref().is_none_or(|filter| filter(subject))
    }

    /// From now on the peer is told of what another filter lets through; returns the one before. It hears of the
    /// difference by [`LocalInterest::refilter`](super::interest::LocalInterest::refilter) for each account.
    pub(crate) fn set_filter(
        &self,
        filter: Option<Arc<InterestFilter>>,
    ) -> Option<Arc<InterestFilter>> {
        std::mem::replace(&mut *self.filter.write(), filter)
    }
}
