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
use tokio::sync::watch;

use super::{Channel, Inbound, Intake, Link, Notice, Transport, channel_subject, enter};
use crate::envelope::Draft;
use crate::error::{PublishError, StartError};
use crate::headers::{self, Said};
use crate::ledger::Ledger;
use crate::settings::Limits;

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
        let said = Said::new(&draft, &self.source_encoded, &self.kind);
        let (headers, payload) = (said.entries(), &draft.payload);
        let event_bytes = headers::bytes_of(&headers) + payload.len();
        let event_bytes_max = client.payload_bytes_max();
        if event_bytes > event_bytes_max {
            return Err(PublishError::TooLarge {
                event_bytes,
                event_bytes_max,
            });
        }
        let entry = enter(ledger, link, said.id, event_bytes).await?;
        // The ledger is told first: the event may be back before the call is.
        while !self.try_publish(&headers, payload)? {
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
            intake: Intake::new(subject, &self.source),
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
    intake: Intake,
}

impl Receiver {
    fn receive(&mut self, message: &MessageView<'_>) {
        if let Some(shared) = self.shared.upgrade() {
            let (headers, payload) = (message.headers(), message.payload());
            let Shared {
                inbound, ledger, ..
            } = &*shared;
            self.intake.take(headers, payload, inbound, ledger);
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
