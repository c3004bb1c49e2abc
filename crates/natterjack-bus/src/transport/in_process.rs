//! The transport to the embedded server, without a socket and without a client library: one subject, published to and
//! subscribed, as over [`super::nats`].
//!
//! The connection cannot break. It ends with the server, and that ends this. So what was accepted comes back, in order,
//! and the [`Ledger`] only bounds what is on its way and tells when nothing is. Events are read where the server wrote
//! them, in the task that reads for the client.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use natterjack_server::{ClientError, InProcessClient, Listener, MessageView, Server};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Arrival, Channel, Inbound, Link, Notice, Overflowing, Transport, channel_subject, enter, own_id,
};
use crate::envelope::{Draft, id_text, stamp};
use crate::error::{PublishError, StartError};
use crate::headers;
use crate::ledger::Ledger;
use crate::rfc3339;
use crate::settings::Limits;
use crate::stats::count;

pub(crate) struct InProcess {
    shared: Arc<Shared>,
    subject: String,
    kind: String,
    /// The source as it is written into headers.
    source_encoded: String,
    /// Whether publishing goes on. Held while an event is entered and sent, which keeps the ledger in sending order.
    accepting: tokio::sync::Mutex<bool>,
    listeners: Mutex<Vec<Listener>>,
}

struct Shared {
    client: InProcessClient,
    source: String,
    ledger: Ledger,
    inbound: Inbound,
    link: watch::Sender<Link>,
    /// Where answers to this node arrive, without the channel and the token.
    inbox: String,
}

impl InProcess {
    /// Subscribes at the server.
    pub(crate) async fn start(
        server: &Server,
        client: crate::settings::Client,
        limits: &Limits,
        inbound: Inbound,
    ) -> Result<Self, StartError> {
        let crate::settings::Client {
            name,
            subject,
            event_type,
            ..
        } = client;
        let client = server.in_process_client().map_err(StartError::client)?;
        let shared = Arc::new(Shared {
            inbox: client.new_inbox(),
            client,
            source: name,
            ledger: Ledger::new(limits.outbound_events_max, limits.outbound_bytes_max),
            inbound,
            link: watch::Sender::new(Link::Connected),
        });
        let mut listeners = vec![shared.listen_to_events(&subject).await?];
        for channel in Channel::ALL {
            let broadcast = channel_subject(&subject, channel);
            listeners.push(shared.listen_to_notices(channel, &broadcast).await?);
            let answers = format!("{}.{}.*", shared.inbox, channel.name());
            listeners.push(shared.listen_to_notices(channel, &answers).await?);
        }
        Ok(Self {
            source_encoded: headers::percent_encode(&shared.source).into_owned(),
            shared,
            subject,
            kind: event_type,
            accepting: tokio::sync::Mutex::new(true),
            listeners: Mutex::new(listeners),
        })
    }

    async fn send(&self, draft: Draft) -> Result<(), PublishError> {
        let Shared {
            client,
            ledger,
            link,
            ..
        } = &*self.shared;
        let accepting = self.accepting.lock().await;
        if !*accepting {
            return Err(PublishError::Closed);
        }
        let Draft {
            kind,
            time,
            others,
            payload,
        } = draft;
        let (id, now) = stamp();
        let (mut id_buffer, mut time_buffer) = (Uuid::encode_buffer(), [0; rfc3339::LENGTH]);
        let time = match &time {
            Some(time) => headers::percent_encode(time),
            None => rfc3339::write(now, &mut time_buffer).into(),
        };
        let kind = headers::percent_encode(kind.as_deref().unwrap_or(&self.kind));
        let id_text = id_text(id, &mut id_buffer);
        let others: Vec<_> = headers::other_entries(&others).collect();
        let fixed = headers::fixed_entries(id_text, &self.source_encoded, &kind, &time);
        let mut headers = SmallVec::<[_; 8]>::from_iter(fixed);
        headers.extend(others.iter().map(|(name, value)| (&**name, &**value)));
        let event_bytes = headers::bytes_of(&headers) + payload.len();
        let event_bytes_max = client.payload_bytes_max();
        if event_bytes > event_bytes_max {
            return Err(PublishError::TooLarge {
                event_bytes,
                event_bytes_max,
            });
        }
        let entry = enter(ledger, link, id, event_bytes).await?;
        // The ledger is told first: the event may be back before the call is.
        while !self.try_publish(&headers, &payload)? {
            client.writable().await;
        }
        entry.sent();
        client.writable().await;
        Ok(())
    }

    fn try_publish(&self, headers: &[(&str, &str)], payload: &[u8]) -> Result<bool, PublishError> {
        let client = &self.shared.client;
        let taken = client.try_publish(&self.subject, None, headers, payload);
        taken.map_err(publish_error)
    }

    async fn send_notice(
        &self,
        subject: String,
        reply: Option<String>,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let client = &self.shared.client;
        while !client
            .try_publish(&subject, reply.as_deref(), &[], &payload)
            .map_err(publish_error)?
        {
            client.writable().await;
        }
        client.writable().await;
        Ok(())
    }
}

/// Sizes and names were checked before.
fn publish_error(_: ClientError) -> PublishError {
    PublishError::Closed
}

impl Shared {
    async fn listen_to_events(self: &Arc<Self>, subject: &str) -> Result<Listener, StartError> {
        let mut receiver = Receiver {
            shared: Arc::downgrade(self),
            subject: subject.into(),
            overflowing: Overflowing::default(),
        };
        let listener = self
            .client
            .listen(subject, move |message| receiver.receive(message));
        listener.await.map_err(StartError::client)
    }

    /// On a channel's subject, or where answers on it arrive.
    async fn listen_to_notices(
        self: &Arc<Self>,
        channel: Channel,
        subject: &str,
    ) -> Result<Listener, StartError> {
        let shared = Arc::downgrade(self);
        let is_answer = subject.ends_with('*');
        let listener = self.client.listen(subject, move |message| {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let token = message.subject().rsplit(|byte| *byte == b'.').next();
            let notice = Notice {
                reply: message.reply().map(text),
                token: token.filter(|_| is_answer).map(text),
                payload: Bytes::copy_from_slice(message.payload()),
            };
            shared.inbound.notice(channel, notice);
        });
        listener.await.map_err(StartError::client)
    }

    /// The server has stopped, or the bus has.
    fn end(&self) {
        self.link.send_replace(Link::Closed);
        self.inbound.close();
    }
}

/// Takes events as the server sends them. It must not hold what it is held by.
struct Receiver {
    shared: Weak<Shared>,
    subject: String,
    overflowing: Overflowing,
}

impl Receiver {
    fn receive(&mut self, message: &MessageView<'_>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let payload = Bytes::copy_from_slice(message.payload());
        let bytes = payload.len();
        let inbound = &shared.inbound;
        let mut envelope = match headers::decode(message.headers(), payload, &self.subject) {
            Ok(envelope) => envelope,
            Err(unreadable) => {
                let headers::Unreadable { id, origin, reason } = *unreadable;
                let arrival = Arrival::Unreadable {
                    id,
                    origin,
                    reason,
                    payload: Bytes::copy_from_slice(message.payload()),
                };
                self.overflowing.deliver(inbound, arrival, bytes);
                return;
            }
        };
        let own = own_id(&shared.source, &shared.ledger, &envelope.attributes);
        envelope.own = own.is_some();
        let delivered = self
            .overflowing
            .deliver(inbound, Arrival::Event(envelope), bytes);
        let Some(id) = own else { return };
        // Only now: a drain ends delivery as soon as the ledger is empty.
        shared.returned(id);
        if !delivered {
            count(&inbound.counters.lost_events);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.end();
        }
    }
}

impl Shared {
    fn returned(&self, id: Uuid) {
        let lost = self.ledger.returned(id);
        self.inbound.lost(lost);
    }
}

impl Transport for InProcess {
    fn publish(&self, draft: Draft) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(self.send(draft))
    }

    fn tell(
        &self,
        channel: Channel,
        token: &str,
        payload: Bytes,
    ) -> BoxFuture<'_, Result<(), PublishError>> {
        let subject = channel_subject(&self.subject, channel);
        let reply = format!("{}.{}.{token}", self.shared.inbox, channel.name());
        Box::pin(self.send_notice(subject, Some(reply), payload))
    }

    fn answer(&self, reply: String, payload: Bytes) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(self.send_notice(reply, None, payload))
    }

    fn event_bytes_max(&self) -> usize {
        self.shared.client.payload_bytes_max()
    }

    fn link(&self) -> Link {
        *self.shared.link.borrow()
    }

    fn links(&self) -> watch::Receiver<Link> {
        self.shared.link.subscribe()
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if self.shared.client.flush().await.is_err() {
                // As over a socket, a server that is gone is waited for; this one does not come back.
                std::future::pending::<()>().await;
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // A server that has stopped has nothing on its way.
            let _ = self.shared.client.flush().await;
        })
    }

    fn drain(&self) -> BoxFuture<'_, u64> {
        Box::pin(async {
            *self.accepting.lock().await = false;
            let Shared { ledger, link, .. } = &*self.shared;
            let mut link = link.subscribe();
            loop {
                let changed = ledger.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if ledger.open_events() == 0 {
                    return 0;
                }
                if *link.borrow_and_update() == Link::Closed {
                    let lost = ledger.fenced(ledger.sent());
                    self.shared.inbound.lost(lost);
                    return lost;
                }
                tokio::select! {
                    () = changed => {}
                    _ = link.changed() => {}
                }
            }
        })
    }

    fn outstanding_events(&self) -> u64 {
        self.shared.ledger.open_events() as u64
    }

    fn close(&self) {
        let listeners = std::mem::take(&mut *self.listeners.lock());
        drop(listeners);
        self.shared.end();
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.close();
    }
}
