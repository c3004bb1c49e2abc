//! The transport over a NATS server: one subject, published to and subscribed, without a queue group. The server is
//! somewhere else, or the one embedded in this process, which needs no socket.
//!
//! The server echoes a node's own events, and that echo is how they arrive here, so all nodes see an event the same
//! way. The echo is also the proof that the server has the event: the [`Ledger`] knows which are outstanding. A fence,
//! a message to ourselves on a private subject, proves it for everything sent before, lost or not, since the server
//! keeps the order of one connection.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use natterjack_wire::client::{Message, ServerInfo, header_publish, publish};
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use super::change::{Change, Over};
use super::repeats::Repeats;
use super::{
    Channel, Inbound, Intake, Link, Notice, Presence, Transport, channel_subject, enter, now,
};
use crate::client::{self, Client, ClientError, Events, Stage, Way};
use crate::envelope::Draft;
use crate::error::{PublishError, StartError};
use crate::fault::Fault;
use crate::headers::{self, Said};
use crate::ledger::{Fence, Ledger, Undelivered};
use crate::settings::{Endpoint, Limits};
use crate::stats::count;
use crate::tls::ClientTls;

/// A fence that has not come back is sent again after this long: it may have gone with a connection whose end nobody has
/// noticed yet.
const FENCE_INTERVAL: Duration = Duration::from_secs(1);

/// How long the server may take to have what was told, when nobody depends on it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Last token of the subject of fences.
const FENCE: &str = "fence";

/// Last token but one of where questions about a change of servers are answered. The last one has a letter before its number,
/// since those with a number alone count events.
const CHANGE: &str = "change";
const QUESTION: char = 'q';

/// This node, among those who are asked. No other one is called by nothing.
const SELF: &str = "";

/// Distinct refusals remembered, and so reported, for one connection or outage.
const REFUSALS_MAX: usize = 16;

/// With so many bytes waiting beyond what events may take, nodes tell each other nothing: the server takes nothing.
const NOTICES_BYTES_MAX: usize = 16 << 20;

/// What is subscribed to, in the order of the subscriptions' ids.
const SUBSCRIPTIONS: [Subscription; 4] = [
    Subscription::Events,
    Subscription::Channel(Channel::Health),
    Subscription::Channel(Channel::Ask),
    Subscription::Inbox,
];

#[derive(Clone, Copy)]
enum Subscription {
    Events,
    Channel(Channel),
    /// For this node alone.
    Inbox,
}

pub(crate) struct Nats {
    shared: Arc<Shared>,
    subject: String,
    kind: String,
    /// The source as it is written into headers.
    source_encoded: String,
    /// Held while an event is entered and sent, which keeps the ledger in sending order.
    publishing: tokio::sync::Mutex<Publishing>,
    outbound_bytes_max: usize,
}

struct Publishing {
    /// Whether publishing goes on.
    is_accepting: bool,
    /// Room for a header block.
    block: Vec<u8>,
}

struct Shared {
    client: Client,
    ledger: Ledger,
    inbound: Inbound,
    link: LinkState,
    /// Where what is for this node alone arrives, without the last tokens: `fence`, or a channel and a token.
    inbox: String,
}

/// What is known about the connection.
struct LinkState {
    link: watch::Sender<Link>,
    inbound: Inbound,
    /// Where the server is that is connected to, or was last; before, where we were told to connect to.
    server: Mutex<String>,
    /// Why the server that was found last is not the one in this process, which it must be.
    stranger: watch::Sender<Option<String>>,
    /// Knows why certificates were refused. `None`: there are none, inside the process.
    tls: Option<ClientTls>,
    /// What was refused since the connection was made, or broke: each attempt is refused with the same words.
    refusals: Mutex<Vec<String>>,
    /// Why the last attempt to make the first connection failed, where that was no refusal.
    outage: Mutex<Option<String>>,
}

/// Whom to connect to, and as whom.
pub(crate) struct Target {
    pub(crate) way: Way,
    pub(crate) subject: String,
    pub(crate) source: String,
    pub(crate) kind: String,
}

impl Nats {
    /// Starts to connect; returns before that succeeds. Must be called inside a tokio runtime.
    pub(crate) fn start(
        target: Target,
        limits: &Limits,
        inbound: Inbound,
    ) -> Result<Self, StartError> {
        let inbox = client::new_inbox();
        let subject_of = |subscription| match subscription {
            Subscription::Events => target.subject.clone(),
            Subscription::Channel(channel) => channel_subject(&target.subject, channel),
            Subscription::Inbox => format!("{inbox}.>"),
        };
        let can_change = matches!(
            target.way,
            Way::Sockets {
                is_alone: false,
                ..
            }
        );
        let (server, tls) = match &target.way {
            Way::Sockets { address, tls, .. } => (address.clone(), Some((**tls).clone())),
            Way::Inside(_) => (Endpoint::in_process().to_string(), None),
        };
        let (client, starting) = Client::new(client::Options {
            name: target.source.clone(),
            subscriptions: SUBSCRIPTIONS.map(subject_of).into(),
            way: target.way,
            payload_bytes_max: limits.event_bytes_max,
            // This node subscribes to whatever it asks.
            no_responders: false,
        })
        .map_err(StartError::client)?;
        let shared = Arc::new(Shared {
            client,
            ledger: Ledger::new(limits.outbound_events_max, limits.outbound_bytes_max),
            link: LinkState {
                link: watch::Sender::new(Link::Connecting),
                inbound: inbound.clone(),
                server: Mutex::new(server),
                stranger: watch::Sender::new(None),
                tls,
                refusals: Mutex::default(),
                outage: Mutex::default(),
            },
            inbound,
            inbox,
        });
        starting.start(Receiver {
            shared: Arc::clone(&shared),
            intake: Intake::new(
                &target.subject,
                &target.source,
                can_change.then(Repeats::default),
            ),
            change: Change::default(),
            health_subject: channel_subject(&target.subject, Channel::Health),
        });
        Ok(Self {
            shared,
            subject: target.subject,
            kind: target.kind,
            source_encoded: headers::percent_encode(&target.source).into_owned(),
            publishing: tokio::sync::Mutex::new(Publishing {
                is_accepting: true,
                block: Vec::new(),
            }),
            outbound_bytes_max: limits.outbound_bytes_max,
        })
    }

    /// Waits until another server is found where the one in this process must be. Answers what is to be said of it.
    pub(crate) async fn strange(&self) -> String {
        let mut strangers = self.shared.link.stranger.subscribe();
        let found = strangers.wait_for(Option::is_some).await;
        match found.map(|found| found.clone()) {
            Ok(Some(found)) => found,
            _ => std::future::pending().await,
        }
    }

    async fn send(&self, draft: Draft) -> Result<Uuid, PublishError> {
        let mut publishing = self.publishing.lock().await;
        if !publishing.is_accepting {
            return Err(PublishError::Closed);
        }
        let said = Said::new(&draft, &self.source_encoded, &self.kind);
        let block = &mut publishing.block;
        block.clear();
        headers::write_block(block, &said.entries());
        let event_bytes = block.len() + draft.payload.len();
        let event_bytes_max = self.event_bytes_max();
        if event_bytes > event_bytes_max {
            return Err(PublishError::TooLarge {
                event_bytes,
                event_bytes_max,
            });
        }
        let Shared { ledger, link, .. } = &*self.shared;
        let entry = enter(ledger, &link.link, said.id, event_bytes).await?;
        // The ledger is told first: the event may be back before the call is.
        let is_sent = self.shared.client.send(|out| {
            header_publish(out, self.subject.as_bytes(), None, block, &draft.payload);
        });
        if !is_sent {
            return Err(PublishError::Closed);
        }
        entry.sent();
        Ok(said.id)
    }

    fn send_notice(
        &self,
        subject: &str,
        reply: Option<&str>,
        payload: &[u8],
    ) -> Result<(), PublishError> {
        let client = &self.shared.client;
        let bytes_max = self.outbound_bytes_max.saturating_add(NOTICES_BYTES_MAX);
        // What is told to nobody now must not pile up.
        if self.link() != Link::Connected || client.waiting_bytes() > bytes_max {
            return Ok(());
        }
        let (subject, reply) = (subject.as_bytes(), reply.map(str::as_bytes));
        // Who answers, and asks, must not wait for what others have to be back for.
        if client.send_ahead(|out| publish(out, subject, reply, payload)) {
            Ok(())
        } else {
            Err(PublishError::Closed)
        }
    }
}

impl Transport for Nats {
    fn publish(&self, draft: Draft) -> BoxFuture<'_, Result<Uuid, PublishError>> {
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
        let told = self.send_notice(&subject, Some(&reply), &payload);
        Box::pin(std::future::ready(told))
    }

    fn answer(&self, reply: String, payload: Bytes) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(std::future::ready(self.send_notice(&reply, None, &payload)))
    }

    fn event_bytes_max(&self) -> usize {
        self.shared.client.payload_bytes_max()
    }

    fn link(&self) -> Link {
        *self.shared.link.link.borrow()
    }

    fn links(&self) -> watch::Receiver<Link> {
        self.shared.link.link.subscribe()
    }

    fn refusal(&self) -> Option<String> {
        let link = &self.shared.link;
        let refused = link.refusals.lock().last().cloned();
        refused.or_else(|| link.outage.lock().clone())
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.fence_until(
            || self.shared.send_round(),
            |ledger| ledger.fence_returned() > 0,
        ))
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if self.link() == Link::Connected {
                // That it is written is not enough: the server must have read it.
                // A fence that was under way already, perhaps to another server, proves nothing of what was told after it.
                let before = self.shared.ledger.fences_sent();
                let flushed = self.shared.fence_until(
                    || self.shared.send_round(),
                    |ledger| ledger.fence_returned() > before,
                );
                // What has not arrived by then is nobody's any more.
                let _ = tokio::time::timeout(FLUSH_TIMEOUT, flushed).await;
            }
        })
    }

    fn begin_drain(&self) {
        self.shared.ledger.list();
    }

    fn is_at(&self, server_id: &str) -> bool {
        self.shared.client.is_at(server_id)
    }

    fn drain(&self) -> BoxFuture<'_, Undelivered> {
        Box::pin(async {
            self.publishing.lock().await.is_accepting = false;
            let Shared {
                inbound,
                ledger,
                link,
                ..
            } = &*self.shared;
            let mut links = link.link.subscribe();
            let settled = self.shared.fence_until(
                || self.shared.send_fence(),
                |ledger| ledger.open_events() == 0,
            );
            tokio::select! {
                () = settled => {}
                // There will be no other connection.
                _ = links.wait_for(|link| *link == Link::Closed) => {
                    inbound.lost(ledger.give_up_all());
                }
            }
            ledger.listed()
        })
    }

    fn undelivered(&self) -> Undelivered {
        self.shared.ledger.undelivered()
    }

    fn outstanding_events(&self) -> u64 {
        self.shared.ledger.open_events() as u64
    }

    fn is_holding_back(&self) -> bool {
        self.shared.client.is_holding_back()
    }

    fn let_go(&self) {
        self.shared.client.let_go();
    }

    fn close(&self) {
        self.shared.link.end();
        self.shared.client.close();
        self.shared.inbound.close();
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Sends fences until one that comes back makes the condition true.
    async fn fence_until(&self, send: impl Fn(), done: impl Fn(&Ledger) -> bool) {
        let mut interval = tokio::time::interval(FENCE_INTERVAL);
        loop {
            let changed = self.ledger.change();
            tokio::pin!(changed);
            self.ledger.watch(changed.as_mut());
            if done(&self.ledger) {
                return;
            }
            tokio::select! {
                () = changed => {}
                _ = interval.tick() => send(),
            }
        }
    }

    /// While there is no connection a fence would only wait for one; the next connection sends its own.
    fn send_fence(&self) {
        if *self.link.link.borrow() != Link::Connected {
            return;
        }
        let subject = format!("{}.{FENCE}", self.inbox);
        // Numbered where it is sent, so that those with higher numbers are behind those with lower ones.
        self.client.send(|out| {
            let Fence { number, sent } = self.ledger.fence();
            let payload = format!("{number} {sent}");
            publish(out, subject.as_bytes(), None, payload.as_bytes());
        });
    }

    /// A fence that proves nothing of events, but that what was told before has arrived. It overtakes events that are held
    /// back.
    fn send_round(&self) {
        if *self.link.link.borrow() != Link::Connected {
            return;
        }
        let subject = format!("{}.{FENCE}", self.inbox);
        self.client.send_ahead(|out| {
            let payload = format!("{} 0", self.ledger.fence().number);
            publish(out, subject.as_bytes(), None, payload.as_bytes());
        });
    }

    fn presence(&self) -> Option<Arc<dyn Presence>> {
        self.inbound.presence.get().and_then(Weak::upgrade)
    }

    /// Whether this is a question about a change of servers, or an answer to one, and if so who has said it: the number is
    /// the question's.
    fn read_change(&self, subject: &[u8]) -> Option<u64> {
        let rest = subject.strip_prefix(self.inbox.as_bytes())?;
        let mut tokens = rest.split(|byte| *byte == b'.').skip(1);
        if tokens.next()? != CHANGE.as_bytes() {
            return None;
        }
        let question = str::from_utf8(tokens.next()?).ok()?;
        question.strip_prefix(QUESTION)?.parse().ok()
    }

    /// Something for this node alone.
    fn receive_own(&self, message: &Message<'_>) {
        let Some(rest) = message.subject.strip_prefix(self.inbox.as_bytes()) else {
            return;
        };
        let mut tokens = rest.split(|byte| *byte == b'.').skip(1);
        match (tokens.next(), tokens.next()) {
            (Some(token), None) if token == FENCE.as_bytes() => self.settle(message.payload()),
            (Some(name), Some(token)) => {
                if let Some(channel) = str::from_utf8(name).ok().and_then(Channel::named) {
                    let notice = Notice {
                        reply: None,
                        token: Some(text(token)),
                        payload: Bytes::copy_from_slice(message.payload()),
                    };
                    self.inbound.notice(channel, notice);
                }
            }
            _ => {}
        }
    }

    fn settle(&self, fence: &[u8]) {
        if let Some(fence) = read_fence(fence) {
            self.inbound.lost(self.ledger.fenced(fence));
        }
    }
}

fn read_fence(payload: &[u8]) -> Option<Fence> {
    let (number, sent) = str::from_utf8(payload).ok()?.split_once(' ')?;
    Some(Fence {
        number: number.parse().ok()?,
        sent: sent.parse().ok()?,
    })
}

/// Takes what the client hands over. It is held by the client's task, which ends when the transport is closed.
struct Receiver {
    shared: Arc<Shared>,
    intake: Intake,
    change: Change,
    health_subject: String,
}

impl Receiver {
    /// Takes what is about a change of servers. Answers whether it was.
    fn take_change(
        &mut self,
        subscription: Subscription,
        message: &Message<'_>,
        over: Over,
    ) -> bool {
        let shared = &*self.shared;
        match subscription {
            Subscription::Channel(Channel::Health) => {
                let own = message.reply.and_then(|reply| shared.read_change(reply));
                if let Some(number) = own {
                    self.change.answered(SELF, number, over);
                }
                own.is_some()
            }
            Subscription::Inbox => {
                let answered = shared.read_change(message.subject);
                if let Some(number) = answered
                    && let Some(presence) = shared.presence()
                    && let Some(who) = presence.answerer(message.payload())
                {
                    self.change.answered(&who, number, over);
                }
                answered.is_some()
            }
            Subscription::Events | Subscription::Channel(Channel::Ask) => false,
        }
    }

    fn everybody(&self) -> BTreeSet<String> {
        let others = self.shared.presence().map(|presence| presence.others());
        let mut everybody = others.unwrap_or_default();
        everybody.insert(SELF.into());
        everybody
    }
}

/// Which subscription something is for.
fn subscription(message: &Message<'_>) -> Option<Subscription> {
    // Ids are those of `SUBSCRIPTIONS`: one digit.
    match message.sid {
        [digit] => SUBSCRIPTIONS
            .get(usize::from(digit.wrapping_sub(b'1')))
            .copied(),
        _ => None,
    }
}

impl Events for Receiver {
    fn message(&mut self, message: &Message<'_>) {
        let subscription = subscription(message);
        if subscription
            .is_some_and(|subscription| self.take_change(subscription, message, Over::Old))
        {
            return;
        }
        let Shared {
            inbound, ledger, ..
        } = &*self.shared;
        if matches!(subscription, Some(Subscription::Events)) {
            return self.intake.take(message, inbound, ledger);
        }
        if let Some(repeats) = &mut self.intake.repeats
            && repeats.has_seen_other(message, now)
        {
            return;
        }
        match subscription {
            Some(Subscription::Channel(channel)) => {
                let notice = Notice {
                    reply: message.reply.map(text),
                    token: None,
                    payload: Bytes::copy_from_slice(message.payload()),
                };
                inbound.notice(channel, notice);
            }
            Some(Subscription::Inbox) => self.shared.receive_own(message),
            Some(Subscription::Events) | None => {}
        }
    }

    fn batch_ended(&mut self) {
        if let Some(repeats) = &mut self.intake.repeats
            && let Some(events) = repeats.pass(now)
        {
            self.shared.inbound.report(&Fault::Repeated { events });
        }
    }

    fn connected(&mut self) -> bool {
        let is_back = self.shared.link.connected(self.shared.client.address());
        self.shared.inbound.tally.lock().linked();
        if is_back && let Some(repeats) = &mut self.intake.repeats {
            repeats.broke(now());
        }
        self.shared.send_fence();
        is_back
    }

    fn leaving(&mut self) {
        if let Some(repeats) = &mut self.intake.repeats {
            repeats.announce(now());
        }
    }

    fn overlap_began(&mut self) {
        self.change.begin();
        if let Some(repeats) = &mut self.intake.repeats {
            repeats.overlap_began(now());
        }
    }

    fn overlapping(&mut self, stage: Stage) {
        let number = self.change.ask(stage, self.everybody());
        let reply = format!("{}.{CHANGE}.{QUESTION}{number}", self.shared.inbox);
        let question = self.shared.presence().map(|presence| presence.question());
        let (subject, reply) = (self.health_subject.as_bytes(), reply.as_bytes());
        // Behind all events that are not held back.
        (self.shared.client)
            .send_ahead(|out| publish(out, subject, Some(reply), &question.unwrap_or_default()));
    }

    fn ahead(&mut self, message: &Message<'_>) {
        let Some(subscription) = subscription(message) else {
            return;
        };
        if matches!(subscription, Subscription::Events) {
            if let Some(repeats) = &mut self.intake.repeats {
                repeats.ahead(message, now());
            }
        } else {
            self.take_change(subscription, message, Over::Next);
        }
    }

    fn may_go_on(&mut self, stage: Stage) -> bool {
        // Somebody may have come who was not asked yet.
        self.change.is_done(stage) && {
            self.change.expect(self.everybody());
            self.change.is_done(stage)
        }
    }

    fn changed_over(&mut self, server: &ServerInfo, is_certain: bool) {
        if let Some(repeats) = &mut self.intake.repeats {
            repeats.changed(now());
        }
        let is_certain = is_certain && self.change.has_heard_all();
        if !is_certain {
            // What is said over this server may have overtaken events that came over the one before.
            self.shared.inbound.tally.lock().linked();
        }
        let address = self.shared.client.address();
        (self.shared.link).moved(&server.server_name, address, is_certain);
        // If the old connection broke before, something may be lost.
        self.shared.send_fence();
    }

    fn disconnected(&mut self) {
        self.shared.link.disconnected();
    }

    fn failed(&mut self, error: &ClientError) {
        self.shared.link.failed(error);
        if matches!(error, ClientError::TooLarge { .. }) {
            // What is left out never comes back, and shall not be waited for.
            self.shared.send_fence();
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.link.end();
        self.shared.inbound.close();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl LinkState {
    /// No more news: what happens to the connection from now on is our own doing.
    fn end(&self) {
        self.link.send_replace(Link::Closed);
    }

    /// Changes the state unless it is final. Answers what it was before.
    fn change(&self, link: Link) -> Link {
        let mut before = Link::Closed;
        self.link.send_if_modified(|current| {
            before = *current;
            if before != Link::Closed {
                *current = link;
            }
            before != *current
        });
        before
    }

    /// Answers whether there was a connection before.
    fn connected(&self, address: Option<String>) -> bool {
        self.is_now_at(address);
        let is_back = self.change(Link::Connected) == Link::Disconnected;
        if is_back {
            count(&self.inbound.counters.reconnects);
            let server = self.server.lock().clone();
            self.inbound.report(&Fault::Reconnected { server });
        }
        self.refusals.lock().clear();
        *self.outage.lock() = None;
        is_back
    }

    /// The server is another one, and there was a connection all the time.
    fn moved(&self, server: &str, address: Option<String>, is_certain: bool) {
        self.is_now_at(address);
        count(&self.inbound.counters.moves);
        self.refusals.lock().clear();
        self.inbound.report(&Fault::Moved {
            server: server.into(),
            is_certain,
        });
        if !is_certain {
            // Who hears this node, and is heard, has to be found out anew.
            self.link.send_modify(|_| {});
        }
    }

    fn is_now_at(&self, address: Option<String>) {
        if let Some(address) = address {
            *self.server.lock() = address;
        }
    }

    fn disconnected(&self) {
        if self.change(Link::Disconnected) == Link::Connected {
            count(&self.inbound.counters.disconnects);
            self.refusals.lock().clear();
            let server = self.server.lock().clone();
            self.inbound.report(&Fault::Disconnected { server });
        }
    }

    /// Says what is wrong in our own words where that is about certificates, and nothing of a server that is just not
    /// there: it is tried again and again, and [`Fault::Disconnected`] has said it. Before the first connection nobody has,
    /// so the reason is kept for whoever asks.
    fn failed(&self, error: &ClientError) {
        let text = error.to_string();
        if matches!(error, ClientError::OtherServer { .. }) {
            self.stranger.send_replace(Some(text.clone()));
        }
        match self.tls.as_ref().and_then(|tls| tls.explain(&text)) {
            Some(explained) => self.refused(explained),
            None if error.is_outage() => {
                if *self.link.borrow() == Link::Connecting {
                    *self.outage.lock() = Some(text);
                }
            }
            None => self.refused(text),
        }
    }

    fn refused(&self, message: String) {
        if *self.link.borrow() == Link::Closed {
            return;
        }
        let mut known = self.refusals.lock();
        if known.contains(&message) || known.len() == REFUSALS_MAX {
            return;
        }
        self.inbound.report(&Fault::Refused {
            message: message.clone(),
        });
        known.push(message);
    }
}
