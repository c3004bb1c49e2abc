//! The subscriptions of an engine, one after another.

use crate::delivery::Subscriber;
use crate::engine::Engine;
use crate::monitor::snapshot::{SubscriptionFilter, SubscriptionSnapshot};

impl Engine {
    /// Shows `visit` every subscription that `filter` lets through, in no particular order.
    ///
    /// Walks the index of each account in question: linear in its subscriptions, also if few connections are
    /// asked for, so ask for all those of a page at once. No lock is held during `visit`, and none for longer than it takes
    /// to copy references to a few hundred subscriptions. What comes or goes meanwhile may or may not be shown;
    /// everything else is, once.
    pub fn for_each_subscription(
        &self,
        filter: SubscriptionFilter<'_>,
        mut visit: impl FnMut(&SubscriptionSnapshot<'_>),
    ) {
        for account in self.accounts() {
            if filter.account.is_some_and(|name| name != account.name()) {
                continue;
            }
            account.index().for_each(|entry| {
                let Subscriber(held) = entry.subscriber;
                let connection = held.outbox().id();
                let is_wanted = filter
                    .connections
                    .is_none_or(|wanted| wanted.contains(&connection));
                if is_wanted && !held.is_closed() {
                    visit(&SubscriptionSnapshot {
                        account: account.shared_name(),
                        subject: held.subject(),
                        queue: held.queue(),
                        sid: held.sid(),
                        delivered: held.delivered(),
                        max: Some(held.max()).filter(|&max| max > 0),
                        connection,
                    });
                }
            });
        }
    }
}
