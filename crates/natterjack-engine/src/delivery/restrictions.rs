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
    /// Puts rules in force. If they are for the same user (`is_same_user`), requests that were received before can be
    /// answered on, as far as the new rules let requests be answered; nats-server forgets them.
    pub(crate) fn set(&self, permissions: Option<&Arc<CompiledPermissions>>, is_same_user: bool) {
        let mut restricted = self.0.lock();
        let former = restricted
            .take()
            .and_then(|former| former.responses)
            .filter(|_| is_same_user);
        *restricted = permissions.map(|permissions| {
            let limit = permissions.responses();
            Box::new(Restricted {
                permissions: Arc::clone(permissions),
                responses: limit.map(|limit| match former {
                    Some(former) => former.under(limit),
                    None => Responses::new(limit),
                }),
            })
        });
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
