//! What a connection's user may receive and answer, where those who deliver to it can ask.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::subscription::Subscription;
use crate::access::{CompiledPermissions, Responses};

/// Rules on what is delivered to one connection. Only looked at for [restricted](Subscription::is_restricted)
/// subscriptions.
#[derive(Default)]
pub(crate) struct Restrictions(Mutex<Option<Box<Restricted>>>);

struct Restricted {
    permissions: Arc<CompiledPermissions>,
    responses: Option<Responses>,
}

impl Restrictions {
    /// Puts rules in force; requests received under others cannot be answered any more, as on nats-server.
    pub(crate) fn set(&self, permissions: Option<&Arc<CompiledPermissions>>) {
        let restricted = permissions.map(|permissions| {
            Box::new(Restricted {
                permissions: Arc::clone(permissions),
                responses: permissions.responses().map(Responses::new),
            })
        });
        *self.0.lock() = restricted;
    }

    /// Whether a message to `subject` may be delivered.
    pub(crate) fn may_receive(&self, subscription: &Subscription, subject: &[u8]) -> bool {
        let restricted = self.0.lock();
        restricted.as_ref().is_none_or(|restricted| {
            let rules = &restricted.permissions;
            rules.may_receive(subject, subscription.queue())
        })
    }

    /// Whether a message to `subject`, which is about to be delivered, may be. If it asks for an answer, the answer may be published from
    /// now on: the client may be faster with it than its deliverer with anything that comes after the delivery.
    pub(crate) fn admit(
        &self,
        subscription: &Subscription,
        subject: &[u8],
        reply: &[u8],
        now: Instant,
    ) -> bool {
        let mut restricted = self.0.lock();
        let Some(restricted) = &mut *restricted else {
            return true;
        };
        let Restricted {
            permissions,
            responses,
        } = &mut **restricted;
        if !permissions.may_receive(subject, subscription.queue()) {
            return false;
        }
        if let Some(responses) = responses
            && !reply.is_empty()
            && !permissions.may_publish(reply)
        {
            responses.requested(reply, now);
        }
        true
    }

    /// A message that was [admitted](Self::admit) was not delivered.
    pub(crate) fn retract(&self, reply: &[u8]) {
        let mut restricted = self.0.lock();
        if let Some(restricted) = &mut *restricted
            && let Some(responses) = &mut restricted.responses
            && !reply.is_empty()
        {
            responses.retract(reply);
        }
    }

    /// Whether publishing to `subject` is an answer that may be given; if so, it is counted.
    pub(crate) fn take_response(&self, subject: &[u8], now: Instant) -> bool {
        let mut restricted = self.0.lock();
        let responses = restricted
            .as_mut()
            .and_then(|restricted| restricted.responses.as_mut());
        responses.is_some_and(|responses| responses.take(subject, now))
    }
}
