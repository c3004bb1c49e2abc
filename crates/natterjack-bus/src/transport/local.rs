//! The transport inside one process: what is published is what arrives.
//!
//! A full inbound queue makes the publisher wait, so a subscriber that waits slows its publishers down instead of
//! losing events. Sizes are counted as if the event travelled, so that a setting which works here works over `nats`.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Arrival, Channel, Inbound, Link, Notice, Transport};
use crate::envelope::{Draft, Envelope};
use crate::error::PublishError;
use crate::headers;
use crate::ledger::Undelivered;

pub(crate) struct Local {
    inbound: Inbound,
    source: String,
    kind: String,
    event_bytes_max: usize,
    link: watch::Sender<Link>,
    /// Keeps identifiers, which ascend, in the order of delivery.
    publishing: tokio::sync::Mutex<()>,
}

impl Local {
    pub(crate) fn new(
        inbound: Inbound,
        source: String,
        kind: String,
        event_bytes_max: usize,
    ) -> Self {
        Self {
            inbound,
            source,
            kind,
            event_bytes_max,
            link: watch::Sender::new(Link::Connected),
            publishing: tokio::sync::Mutex::new(()),
        }
    }
}

impl Transport for Local {
    fn publish(&self, draft: Draft) -> BoxFuture<'_, Result<Uuid, PublishError>> {
        Box::pin(async move {
            let _turn = self.publishing.lock().await;
            let (id, attributes, payload) = draft.stamp(&self.source, &self.kind);
            let event_bytes = headers::wire_bytes(&attributes) + payload.len();
            if event_bytes > self.event_bytes_max {
                let event_bytes_max = self.event_bytes_max;
                return Err(PublishError::TooLarge {
                    event_bytes,
                    event_bytes_max,
                });
            }
            let arrival = Arrival::Event(Envelope {
                attributes,
                payload,
                bytes: event_bytes,
                own: true,
                is_identified: true,
            });
            if self.inbound.queue.push(arrival, event_bytes).await {
                Ok(id)
            } else {
                Err(PublishError::Closed)
            }
        })
    }

    fn tell(
        &self,
        channel: Channel,
        token: &str,
        payload: Bytes,
    ) -> BoxFuture<'_, Result<(), PublishError>> {
        let notice = Notice {
            reply: Some(format!("{}.{token}", channel.name())),
            token: None,
            payload,
        };
        self.inbound.notice(channel, notice);
        Box::pin(std::future::ready(Ok(())))
    }

    fn answer(&self, reply: String, payload: Bytes) -> BoxFuture<'_, Result<(), PublishError>> {
        if let Some((name, token)) = reply.split_once('.')
            && let Some(channel) = Channel::named(name)
        {
            let notice = Notice {
                reply: None,
                token: Some(token.into()),
                payload,
            };
            self.inbound.notice(channel, notice);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn event_bytes_max(&self) -> usize {
        self.event_bytes_max
    }

    fn link(&self) -> Link {
        *self.link.borrow()
    }

    fn links(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn drain(&self) -> BoxFuture<'_, Undelivered> {
        // Refuses what still waits for room; what is queued is delivered.
        self.inbound.queue.close();
        Box::pin(std::future::ready(Undelivered::default()))
    }

    fn undelivered(&self) -> Undelivered {
        Undelivered::default()
    }

    fn outstanding_events(&self) -> u64 {
        0
    }

    fn close(&self) {
        self.link.send_replace(Link::Closed);
        self.inbound.close();
    }
}
