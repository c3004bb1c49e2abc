//! Whether a bus works: whom it is connected to, who answers, whether what it publishes arrives.
//!
//! On `<subject>.health` every node asks all others once per interval, and at once whenever a connection is made or somebody
//! new turns up; all answer. [`crate::roster`] keeps the account. So nothing about readiness is a guess: it is what other nodes
//! have confirmed. The same channel tells that a node leaves, and answers who asks for a node's status, which
//! `natterjack bus --status` does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::embedded::Embedded;
use crate::fault::Fault;
use crate::metrics::{Histogram, Metrics};
use crate::roster::{Roster, Seen};
use crate::settings;
use crate::survey::Surveyed;
use crate::tally::{Account, Echoed};
use crate::transport::{Channel, Inbound, Link, Notice, Presence, Transport, now};

/// How long nobody new must have turned up for a node to be ready. Answers within a cluster take less than a tenth of it.
const SETTLING: Duration = Duration::from_millis(50);

/// How often servers whose nodes keep silent meanwhile are asked whether they have any, and how long they have to answer.
const SURVEY_INTERVAL: Duration = Duration::from_millis(100);

/// How often readiness is looked at while somebody waits for it, beside each change: that of routes is not announced.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long a node that leaves waits for another to confirm that everything has arrived there.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(3);

/// How long it waits for those whose servers its own is not connected with any more: nothing goes there.
const CUT_OFF_PATIENCE: Duration = Duration::from_millis(250);

/// How often it asks meanwhile.
const FAREWELL_INTERVAL: Duration = Duration::from_millis(250);

/// How a bus is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// This node's client name.
    pub node: String,
    /// Whether it is connected and at least as many hosts answer as are required (`eventBus.health.requiredHosts`).
    pub is_healthy: bool,
    /// Whether an event published now reaches the nodes that are up, this one included: since the connection was made all
    /// of them have confirmed that what this node says arrives there, and what it says came back to itself just now. See
    /// [`crate::EventBus::ready`].
    pub is_ready: bool,
    /// Whether events flow.
    pub is_connected: bool,
    /// The embedded server, if there is one.
    pub server: Option<ServerHealth>,
    /// The nodes there are or were just now, this one included, by name.
    pub hosts: Vec<Host>,
    /// Those of them that answer.
    pub hosts_answering: u64,
    /// `eventBus.health.requiredHosts`.
    pub required_hosts: u64,
    /// `eventBus.health.interval`.
    pub interval: Duration,
    /// Why the server, or the way to it, refused this node last; see [`crate::EventBus::refusal`].
    pub refusal: Option<String>,
    /// Events without an identifier left out around planned changes of servers; see [`crate::Stats::repeated_events`].
    #[serde(default)]
    pub repeated_events: u64,
}

/// One node of the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Host {
    /// Its client name.
    pub name: String,
    /// Whether it is this very node.
    pub is_own: bool,
    /// Whether it has answered the last health event, or still has time to.
    pub is_answering: bool,
    /// How long ago it answered last, if ever.
    pub answered_ago: Option<Duration>,
    /// How long that answer took.
    pub round_trip: Option<Duration>,
}

/// The embedded server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerHealth {
    /// Where clients connect.
    pub url: String,
    /// Whether it accepts clients.
    pub is_running: bool,
    /// Names of the servers it is connected with.
    pub peers: Vec<String>,
    /// Routes it was told to connect to, which may include itself.
    pub routes: usize,
    /// Connections of clients that it has closed because they did not keep up. Events for them were lost.
    #[serde(default)]
    pub dropped_clients: u64,
    /// Connections to other servers that it has closed because those did not keep up. Events for all nodes behind them were
    /// lost.
    #[serde(default)]
    pub dropped_servers: u64,
}

/// What nodes say to all on the channel, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Said {
    /// The health event: who is there?
    Probe {
        node: String,
        instance: String,
        /// What the node knows of its own events; see [`crate::tally`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        echoed: Option<Echoed>,
    },
    /// This node leaves.
    Leave {
        instance: String,
        /// What the node knows of its own events, all of which are before this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<Account>,
    },
    /// How is everybody? Answered with [`Metrics`].
    Status,
}

/// What was said to all, and the number of the question, if it is one.
pub(crate) struct Told {
    pub(crate) said: Said,
    pub(crate) number: u64,
}

impl Told {
    /// `None` if the notice is an answer, or nothing that a node says.
    pub(crate) fn of(notice: &Notice) -> Option<Self> {
        if notice.token.is_some() {
            return None;
        }
        let number = notice.reply.as_deref().and_then(|reply| {
            let (_, number) = reply.rsplit_once('.')?;
            number.parse().ok()
        });
        Some(Self {
            said: serde_json::from_slice(&notice.payload).ok()?,
            number: number.unwrap_or_default(),
        })
    }
}

/// What a node answers to [`Said::Probe`].
#[derive(Debug, Serialize, Deserialize)]
struct Here {
    node: String,
    instance: String,
    /// The id of the server it embeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// Whether that server may still be on its way to others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    settling: bool,
}

/// The payload of a question for everybody's status.
pub(crate) fn status_question() -> Bytes {
    encoded(&Said::Status)
}

/// Keeps asking and answering.
pub(crate) struct Watch {
    node: String,
    /// Tells this run of the node from earlier ones.
    instance: String,
    settings: settings::Health,
    roster: Mutex<Roster>,
    /// Ids of servers that have said that they have no node, and when they were asked.
    without_nodes: Mutex<BTreeMap<String, Instant>>,
    /// Whether it has been told that another node has this one's name.
    is_name_shared: AtomicBool,
    /// How far the roster has been told of the connection.
    links: Mutex<watch::Receiver<Link>>,
    changed: Notify,
    started: Instant,
    /// See [`settings::Limits::routes_patience`].
    routes_patience: Duration,
    /// Connections that the embedded server had dropped when it was last looked at: of clients, and to servers.
    dropped_before: Mutex<[u64; 2]>,
    inbound: Inbound,
    transport: Weak<dyn Transport>,
    embedded: Weak<Embedded>,
}

impl Watch {
    /// `routes_patience` is `None` if there can be no other nodes: nobody is waited for then.
    pub(crate) fn new(
        node: String,
        settings: settings::Health,
        routes_patience: Option<Duration>,
        inbound: Inbound,
        transport: &Arc<dyn Transport>,
        embedded: Option<&Arc<Embedded>>,
    ) -> Self {
        let instance = Uuid::now_v7().to_string();
        let settling = routes_patience.map_or(Duration::ZERO, |_| SETTLING);
        inbound.tally.lock().call_own(&instance);
        let started = now();
        let roster = Roster::new(instance.clone(), settings.interval, settling, started);
        Self {
            node,
            instance,
            settings,
            roster: Mutex::new(roster),
            without_nodes: Mutex::default(),
            is_name_shared: AtomicBool::new(false),
            links: Mutex::new(transport.links()),
            changed: Notify::new(),
            started,
            routes_patience: routes_patience.unwrap_or_default(),
            dropped_before: Mutex::default(),
            inbound,
            transport: Arc::downgrade(transport),
            embedded: embedded.map(Arc::downgrade).unwrap_or_default(),
        }
    }

    /// Asks and answers until the transport is closed.
    pub(crate) async fn run(self: Arc<Self>) {
        tokio::select! {
            () = self.converse() => {}
            // Ends earlier, as a rule.
            () = async {
                self.survey().await;
                std::future::pending().await
            } => {}
        }
    }

    async fn converse(&self) {
        let Some(mut links) = self.transport.upgrade().map(|transport| transport.links()) else {
            return;
        };
        links.mark_changed();
        loop {
            let due = self.roster.lock().due().saturating_duration_since(now());
            let event = tokio::select! {
                biased;
                linked = links.changed() => match linked {
                    Ok(()) => Event::Linked,
                    Err(_) => return,
                },
                notice = self.inbound.health.pop() => match notice {
                    Some(notice) => Event::Noticed(notice),
                    None => return,
                },
                _ = tokio::time::timeout(due, std::future::pending::<()>()) => Event::Due,
            };
            let Some(transport) = self.transport.upgrade() else {
                return;
            };
            match event {
                Event::Linked => {
                    let connected = *links.borrow_and_update() == Link::Connected;
                    self.roster.lock().linked(connected, now());
                    // In this order: what changes in between is still to come.
                    self.links.lock().mark_unchanged();
                }
                Event::Noticed(notice) => self.take(notice, &*transport).await,
                Event::Due => {
                    self.tell_dropped();
                    self.probe(&*transport).await;
                }
            }
            if transport.is_holding_back() && self.is_ready(self.started) {
                transport.let_go();
            }
            self.changed.notify_waiters();
        }
    }

    /// Says what the embedded server has dropped since this was last said.
    fn tell_dropped(&self) {
        let Some(embedded) = self.embedded.upgrade() else {
            return;
        };
        let dropped = embedded.dropped_connections();
        let before = std::mem::replace(&mut *self.dropped_before.lock(), dropped);
        let [clients, servers] = [0, 1].map(|kind| dropped[kind] - before[kind]);
        if clients + servers > 0 {
            self.inbound
                .report(&Fault::ServerOverflow { clients, servers });
        }
    }

    /// Finds out, in the time after the start, which of the server's peers have no node that could answer.
    async fn survey(&self) {
        let mut looks = tokio::time::interval(SURVEY_INTERVAL);
        while self.is_starting() {
            looks.tick().await;
            let Some(embedded) = self.embedded.upgrade() else {
                return;
            };
            if self.has_heard_of_all(&embedded.peers(), now()) {
                continue;
            }
            let asked = now();
            let surveyed = embedded.survey(SURVEY_INTERVAL).await;
            let mut without_nodes = self.without_nodes.lock();
            for Surveyed {
                id,
                is_without_nodes,
                ..
            } in surveyed
            {
                if is_without_nodes {
                    without_nodes.insert(id, asked);
                } else {
                    without_nodes.remove(&id);
                }
            }
            drop(without_nodes);
            self.changed.notify_waiters();
        }
    }

    /// Whether what is not known of the server's peers may still become known.
    fn is_starting(&self) -> bool {
        now().saturating_duration_since(self.started) < self.routes_patience
    }

    /// Whether a node at each of these servers has answered, or there was none to answer at `since` or later.
    fn has_heard_of_all(&self, peers: &[natterjack_server::PeerSnapshot], since: Instant) -> bool {
        let roster = self.roster.lock();
        let without_nodes = self.without_nodes.lock();
        let is_without = |id: &str| without_nodes.get(id).is_some_and(|asked| *asked >= since);
        let is_heard = |id: &str| roster.has_answered_at(id) || is_without(id);
        peers.iter().all(|peer| is_heard(&peer.id))
    }

    /// Asks everybody. Answers with the number of the question.
    async fn probe(&self, transport: &dyn Transport) -> u64 {
        let number = self.roster.lock().ask(now());
        let probe = encoded(&Said::Probe {
            node: self.node.clone(),
            instance: self.instance.clone(),
            echoed: self.inbound.tally.lock().echoed(),
        });
        // A bus that is closed asks nobody.
        let _ = transport
            .tell(Channel::Health, &number.to_string(), probe)
            .await;
        number
    }

    async fn take(&self, notice: Notice, transport: &dyn Transport) {
        let Notice {
            reply,
            token,
            payload,
        } = notice;
        if let Some(number) = token.and_then(|token| token.parse().ok()) {
            if let Ok(here) = serde_json::from_slice(&payload) {
                let Here {
                    node,
                    instance,
                    server,
                    settling,
                } = here;
                // Only who is up answers, and nobody is up twice.
                let is_shared = node == self.node && instance != self.instance;
                if is_shared && !self.is_name_shared.swap(true, Relaxed) {
                    self.inbound
                        .report(&Fault::NameShared { node: node.clone() });
                }
                let mut roster = self.roster.lock();
                roster.heard(&instance, &node, now());
                if let Some(server) = server {
                    roster.embeds(&instance, server, settling);
                }
                roster.answered(number, &instance, &node, now());
            }
            return;
        }
        let answer = match serde_json::from_slice(&payload) {
            Ok(Said::Probe { node, instance, .. }) => {
                self.roster.lock().heard(&instance, &node, now());
                let embedded = self.embedded.upgrade();
                let is_settling = |embedded| !self.has_settled(embedded, self.started);
                encoded(&Here {
                    node: self.node.clone(),
                    instance: self.instance.clone(),
                    settling: embedded.as_deref().is_some_and(is_settling),
                    server: embedded.map(|embedded| embedded.server().server_id().to_owned()),
                })
            }
            Ok(Said::Leave { instance, .. }) => {
                self.roster.lock().left(&instance);
                return;
            }
            Ok(Said::Status) => encoded(&self.metrics()),
            // Others may use the subject for something else, or be newer.
            Err(_) => return,
        };
        if let Some(reply) = reply {
            // Who asks in vain asks again.
            let _ = transport.answer(reply, answer).await;
        }
    }

    /// Waits until an event that is published now reaches the nodes that are up.
    pub(crate) async fn ready(&self) {
        // Whoever is up by now.
        let since = now();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_ready(since) {
                return;
            }
            // Whether in time or not is the same.
            let _ = tokio::time::timeout(LOOK_INTERVAL, changed).await;
        }
    }

    /// Without a server of its own a node depends on that of another one, which says when it has found its peers. Which of
    /// them is ours is not known, and they all have the same routes.
    fn is_ready(&self, since: Instant) -> bool {
        // What the roster knows may be of a connection that has broken and been made again this very moment.
        let is_current = self
            .links
            .lock()
            .has_changed()
            .is_ok_and(|changed| !changed);
        let is_complete = || self.roster.lock().is_complete(now());
        is_current
            && is_complete()
            && match self.embedded.upgrade() {
                Some(embedded) => self.has_settled(&embedded, since),
                None => !self.roster.lock().is_settling(now()),
            }
    }

    /// It must be known of each of the embedded server's routes whether somebody is there, and a node must have answered at
    /// each of its peers: only then do messages from here go there. A peer may have no node of this bus, and may not say so,
    /// so that is not waited for for ever.
    fn has_settled(&self, embedded: &Embedded, since: Instant) -> bool {
        !self.is_starting()
            || embedded.has_settled_routes() && self.has_heard_of_all(&embedded.peers(), since)
    }

    /// Names of the nodes that are up, this one included, if that is known.
    pub(crate) fn nodes(&self) -> Option<BTreeSet<String>> {
        if !self.is_ready(self.started) {
            return None;
        }
        let seen = self.roster.lock().seen(now());
        // Whoever has not answered yet is new; whoever does not any more is not waited for.
        let is_up = |seen: &Seen| seen.is_answering || seen.answered_ago.is_none();
        Some(
            seen.into_iter()
                .filter(is_up)
                .map(|seen| seen.name)
                .collect(),
        )
    }

    /// Waits until the other nodes have confirmed that everything accepted so far has arrived there, and says good-bye.
    /// Answers who has not confirmed it in time.
    pub(crate) async fn leave(&self, transport: &dyn Transport, timeout: Duration) -> Vec<String> {
        if transport.link() != Link::Connected {
            return Vec::new();
        }
        let published = &self.inbound.counters.published_events;
        let silent = if published.load(Relaxed) > 0 {
            self.confirmed(transport, timeout).await
        } else {
            Vec::new()
        };
        self.say_good_bye(transport).await;
        silent
    }

    /// Has the others wait for this node no more.
    pub(crate) async fn say_good_bye(&self, transport: &dyn Transport) {
        let leave = encoded(&Said::Leave {
            instance: self.instance.clone(),
            account: self.inbound.tally.lock().account(),
        });
        // Others notice it without that, only later.
        let _ = transport.tell(Channel::Health, "0", leave).await;
        transport.flush().await;
    }

    async fn confirmed(&self, transport: &dyn Transport, timeout: Duration) -> Vec<String> {
        // Who seems to be gone only because it does not answer this is waited for, and named.
        let began = now();
        let number = self.probe(transport).await;
        let confirmed = async |is_enough: fn(&Silent) -> bool| loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_enough(&self.silent_since(number, began)) {
                return;
            }
            if tokio::time::timeout(FAREWELL_INTERVAL, changed)
                .await
                .is_err()
            {
                self.probe(transport).await;
            }
        };
        // Who is silent is named.
        let _ = tokio::time::timeout(timeout.min(FAREWELL_PATIENCE), async {
            let all = confirmed(|silent| silent.names.is_empty() && silent.cut_off == 0);
            if tokio::time::timeout(CUT_OFF_PATIENCE, all).await.is_err() {
                confirmed(|silent| silent.names.is_empty()).await;
            }
        })
        .await;
        self.silent_since(number, began).names
    }

    /// Who has not answered this question, and was not known to be gone when it was asked.
    fn silent_since(&self, number: u64, asked: Instant) -> Silent {
        let (embedded, transport) = (self.embedded.upgrade(), self.transport.upgrade());
        // By way of another server events may go where the own one does not reach.
        let own = embedded
            .zip(transport)
            .filter(|(embedded, transport)| transport.is_at(embedded.server().server_id()));
        let reached: Option<BTreeSet<_>> = own.map(|(embedded, _)| {
            let peers = embedded.peers().into_iter().map(|peer| peer.id);
            let own = embedded.server().server_id().to_owned();
            peers.chain([own]).collect()
        });
        let mut silent = Silent::default();
        for (name, server) in self.roster.lock().silent_since(number, asked) {
            match (&reached, server) {
                (Some(reached), Some(server)) if !reached.contains(server) => silent.cut_off += 1,
                _ => silent.names.push(name.into()),
            }
        }
        silent.names.dedup();
        silent
    }

    pub(crate) fn health(&self) -> Health {
        let transport = self.transport.upgrade();
        let link = transport.as_ref().map(|transport| transport.link());
        let seen = self.roster.lock().seen(now());
        let hosts: Vec<_> = seen.into_iter().map(Host::from).collect();
        let hosts_answering = hosts.iter().filter(|host| host.is_answering).count() as u64;
        let is_connected = link == Some(Link::Connected);
        Health {
            node: self.node.clone(),
            is_healthy: is_connected && hosts_answering >= self.settings.required_hosts,
            is_ready: is_connected && self.is_ready(self.started),
            is_connected,
            server: self.embedded.upgrade().map(|embedded| embedded.health()),
            hosts,
            hosts_answering,
            required_hosts: self.settings.required_hosts,
            interval: self.settings.interval,
            refusal: transport.and_then(|transport| transport.refusal()),
            repeated_events: self.inbound.counters.repeated_events.load(Relaxed),
        }
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let transport = self.transport.upgrade();
        Metrics {
            stats: self.inbound.counters.read(),
            health: self.health(),
            buffered_events: transport.map_or(0, |transport| transport.outstanding_events()),
            inbound_events: self.inbound.queue.len() as u64,
            latency: Histogram::read(&self.inbound.latency),
        }
    }
}

/// For whoever has to know it of a moment of its own choice.
impl Presence for Watch {
    fn question(&self) -> Bytes {
        encoded(&Said::Probe {
            node: self.node.clone(),
            instance: self.instance.clone(),
            echoed: None,
        })
    }

    fn answerer(&self, answer: &[u8]) -> Option<String> {
        let here: Here = serde_json::from_slice(answer).ok()?;
        Some(here.instance)
    }

    fn others(&self) -> BTreeSet<String> {
        self.roster.lock().others_up(now())
    }
}

/// Who has not confirmed something.
#[derive(Default)]
struct Silent {
    names: Vec<String>,
    /// Nodes with servers that this node's own is not connected with. They have crashed, or the way to them is cut.
    cut_off: usize,
}

enum Event {
    Linked,
    Noticed(Notice),
    Due,
}

impl From<Seen> for Host {
    fn from(seen: Seen) -> Self {
        let Seen {
            name,
            is_own,
            is_answering,
            answered_ago,
            round_trip,
        } = seen;
        Self {
            name,
            is_own,
            is_answering,
            answered_ago,
            round_trip,
        }
    }
}

fn encoded(value: &impl Serialize) -> Bytes {
    // None of these has a key that is no text, or fails by itself.
    serde_json::to_vec(value).unwrap_or_default().into()
}
