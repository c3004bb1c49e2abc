//! The system account: what the server says of itself there, and what it can be asked.
//!
//! The engine reports what happens, and carries messages; here they become events, and requests become answers. One
//! task takes both, one after another: what it is too slow for waits in bounded queues and is dropped beyond them, and
//! no client waits for it. Events that nobody listens to are not written.

mod requests;

mod bodies;
mod encoding;
mod event_id;
mod inbox;
mod message_trace;
mod neighbours;
mod question;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use natterjack_engine::{
    Account, ByKind, ConnectionSnapshot, DroppedReports, Engine, LatencyReport, Measure, Report,
    SystemConnection, SystemMessage, TraceReport,
};
use natterjack_wire::client::{Decoded, Limits, ServerOp, decode_server};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::sleep_until;

use self::bodies::{
    ACCOUNT_CONNECTIONS, AccountConnections, CLIENT_CONNECT, CLIENT_DISCONNECT, ClientConnect,
    ClientDisconnect, ClientObject, ConnectionsRequest, Identity, LatencyMetric, Messages,
    OwnMeasure, PeerMeasure, PeerNotice, RouteStats, SERVICE_LATENCY, ServerObject, ServerStats,
    SharedIdentity, Statsz, StatszTraffic, Typed,
};
use self::encoding::{Body, Encoding};
use self::event_id::EventIds;
use self::inbox::Inbox;
use self::message_trace::TraceBody;
use self::neighbours::Neighbours;
use self::requests::{Answer, Kind, Request};
use crate::clock::now;
use crate::lifecycle::Phase;
use crate::monitoring::{KindCounts, compact_json};
use crate::options::Options;
use crate::server::{Server, Shared};

/// Reports that are handled before others get their turn.
const REPORTS_PER_TURN: usize = 64;

/// How long is waited when a listener is far behind, before more is published.
const PAUSE: Duration = Duration::from_millis(10);

/// From the start on the server's statistics are published after this time, then after twice the time, and so on up to
/// the last (nats-server `startStatszTimer`).
const STATSZ_FIRST: Duration = Duration::from_millis(250);
const STATSZ_INTERVAL: Duration = Duration::from_secs(10);

/// They are not published more often than this, whoever asks for it.
const STATSZ_PAUSE: Duration = Duration::from_secs(1);

/// How often the number of connections of an account is told although it stays the same.
const ACCOUNT_INTERVAL: Duration = Duration::from_secs(30);

/// Requests to reload that wait for one another.
const RELOADS_MAX: usize = 4;

/// Pages over more connections, subscriptions and accounts than this are written on another thread.
const LARGE: usize = 256;

/// How a program reloads its server's configuration.
type ReloadHook =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The server's part in the system account.
pub(crate) struct System {
    connection: Mutex<SystemConnection>,
    inbox: Arc<Inbox>,
    kinds: Vec<Kind>,
    event_ids: EventIds,
    sequence: AtomicU64,
    identity: Mutex<Option<(Arc<Options>, Arc<Identity>)>>,
    neighbours: Mutex<Neighbours>,
    /// The last word has been said.
    is_over: AtomicBool,
    reload: Mutex<Option<ReloadHook>>,
    reloads: Arc<Semaphore>,
    statsz_at: Mutex<Option<Instant>>,
}

impl System {
    /// Enters the system account.
    pub(crate) fn new(engine: &Arc<Engine>, server_id: &str, server_name: &str) -> Self {
        let inbox = Arc::<Inbox>::default();
        let mut connection = engine.open_system(Arc::clone(&inbox) as _);
        let mut kinds = Vec::new();
        let short_name = requests::short_name(server_name);
        engine.set_short_name(&short_name);
        for (subject, kind) in requests::subjects(server_id, &short_name) {
            let subscribed = connection.subscribe(subject.as_bytes());
            debug_assert!(subscribed.is_ok(), "{subject}");
            kinds.push(kind);
        }
        let subscribed = connection.subscribe_here(requests::USER_INFO.as_bytes());
        debug_assert!(subscribed.is_ok());
        kinds.push(Kind::UserInfo);
        Self {
            connection: Mutex::new(connection),
            inbox,
            kinds,
            event_ids: EventIds::new(),
            sequence: AtomicU64::new(0),
            identity: Mutex::default(),
            neighbours: Mutex::default(),
            is_over: AtomicBool::new(false),
            reload: Mutex::default(),
            reloads: Arc::new(Semaphore::new(RELOADS_MAX)),
            statsz_at: Mutex::default(),
        }
    }

    /// Tells that the server asks its clients to leave.
    pub(crate) fn announce_lame_duck(&self, shared: &Shared) {
        self.announce(shared, "LAMEDUCK");
    }

    /// Tells that the server is going, and nothing more after that.
    pub(crate) fn announce_shutdown(&self, shared: &Shared) {
        if !self.is_over.load(Ordering::Relaxed) {
            self.announce(shared, "SHUTDOWN");
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    fn announce(&self, shared: &Shared, what: &str) {
        let subject = format!("$SYS.SERVER.{}.{what}", self.identity(shared).id);
        self.event(shared, &subject, || compact_json(&self.server(shared)));
    }

    /// Publishes in the system account, if anybody listens. Returns whether to pause before more.
    fn event(&self, shared: &Shared, subject: &str, body: impl FnOnce() -> Vec<u8>) -> bool {
        if !self.connection.lock().is_heard(subject.as_bytes()) {
            return false;
        }
        let account = Arc::clone(self.connection.lock().account());
        self.publish(shared, &account, subject.as_bytes(), &body().into())
    }

    fn publish(
        &self,
        shared: &Shared,
        account: &Arc<Account>,
        subject: &[u8],
        body: &Body,
    ) -> bool {
        if self.is_over.load(Ordering::Relaxed) {
            return false;
        }
        let message = SystemMessage {
            subject,
            reply: None,
            header: body.header,
            payload: &body.payload,
        };
        self.send(shared, account, message)
    }

    fn send(&self, shared: &Shared, account: &Arc<Account>, message: SystemMessage<'_>) -> bool {
        shared.workers.with(|worker| {
            let mut connection = self.connection.lock();
            connection.publish(account, message, worker, now())
        })
    }

    /// Who the server is.
    fn identity(&self, shared: &Shared) -> Arc<Identity> {
        let options = shared.options();
        // It may change at any time, if it was made up.
        let cluster = shared.engine.cluster_name();
        let cluster = cluster.as_deref().unwrap_or_default();
        let mut known = self.identity.lock();
        if let Some((of, identity)) = &*known
            && Arc::ptr_eq(of, &options)
            && identity.cluster == cluster
        {
            return Arc::clone(identity);
        }
        let info = shared.engine.configuration().info;
        let identity = Arc::new(Identity {
            name: info.server_name,
            host: info.host,
            id: info.server_id,
            cluster: cluster.to_owned(),
            ver: info.version,
            tags: options.server_tags.clone(),
            metadata: options.server_metadata.clone(),
            jetstream: false,
            flags: 0,
        });
        *known = Some((options, Arc::clone(&identity)));
        identity
    }

    /// Who says this, and when.
    fn server(&self, shared: &Shared) -> ServerObject {
        ServerObject {
            identity: SharedIdentity(self.identity(shared)),
            seq: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            time: shared.time_of(now()),
        }
    }

    fn typed(&self, shared: &Shared, kind: &'static str, at: Instant) -> Typed {
        Typed {
            kind,
            id: self.event_ids.next(),
            timestamp: shared.time_of(at),
        }
    }

    fn connected(&self, shared: &Shared, client: &ConnectionSnapshot) -> bool {
        let subject = format!("$SYS.ACCOUNT.{}.CONNECT", client.client.account);
        self.event(shared, &subject, || {
            compact_json(&ClientConnect {
                typed: self.typed(shared, CLIENT_CONNECT, now()),
                server: self.server(shared),
                client: ClientObject::new(client, shared.time_of(client.started), None),
            })
        })
    }

    /// A client has left, or is refused.
    fn disconnected(&self, shared: &Shared, subject: &str, client: &ConnectionSnapshot) -> bool {
        let Some(stop) = client.stop else {
            return false;
        };
        let messages = |msgs, bytes| Messages { msgs, bytes };
        self.event(shared, subject, || {
            let stopped = shared.time_of(stop.at);
            compact_json(&ClientDisconnect {
                typed: self.typed(shared, CLIENT_DISCONNECT, stop.at),
                server: self.server(shared),
                client: ClientObject::new(client, shared.time_of(client.started), Some(stopped)),
                sent: messages(client.messages_in, client.bytes_in),
                received: messages(client.messages_out, client.bytes_out),
                reason: stop.reason.text(),
            })
        })
    }

    /// How many connections an account has, as an event.
    fn account_connections(&self, shared: &Shared, account: &Account) -> Vec<u8> {
        compact_json(&AccountConnections {
            typed: self.typed(shared, ACCOUNT_CONNECTIONS, now()),
            server: self.server(shared),
            stats: (&account.snapshot()).into(),
        })
    }

    /// Tells it under both names.
    fn account_changed(&self, shared: &Shared, account: &Account) -> bool {
        let name = account.name();
        let mut body = None;
        let mut is_congested = false;
        for subject in [
            format!("$SYS.SERVER.ACCOUNT.{name}.CONNS"),
            format!("$SYS.ACCOUNT.{name}.SERVER.CONNS"),
        ] {
            is_congested |= self.event(shared, &subject, || {
                body.get_or_insert_with(|| self.account_connections(shared, account))
                    .clone()
            });
        }
        is_congested
    }

    /// Tells an account how long its service took to answer, or that it did not.
    fn latency(&self, shared: &Shared, report: &LatencyReport) -> bool {
        let identity = self.identity(shared);
        let metric = LatencyMetric::new(
            self.typed(shared, SERVICE_LATENCY, now()),
            report,
            &identity,
            |instant| shared.time_of(instant),
        );
        let subject = report.subject.as_bytes();
        let body = compact_json(&metric).into();
        self.publish(shared, &report.account, subject, &body)
    }

    /// Tells what became of a message, where it is wanted.
    fn traced(&self, shared: &Shared, report: &TraceReport) -> bool {
        let body = TraceBody::new(self.server(shared), report, |instant| {
            shared.time_of(instant)
        });
        let body = message_trace::encoding(report).apply(compact_json(&body));
        self.publish(shared, &report.account, &report.destination, &body)
    }

    /// Tells the server of who asked how long a client here took to answer.
    fn measured(&self, shared: &Shared, measure: &Measure) -> bool {
        let subject = requests::measures(&measure.server);
        self.event(shared, &subject, || {
            let identity = self.identity(shared);
            compact_json(&OwnMeasure::new(measure, &identity, |instant| {
                shared.time_of(instant)
            }))
        })
    }

    fn statsz(&self, shared: &Shared) -> Vec<u8> {
        let load = shared.load();
        let facts = shared.facts();
        let totals = &load.totals;
        let traffic = StatszTraffic::from(totals);
        let counts = |by_kind: ByKind| (by_kind.sum() > 0).then(|| KindCounts::from(by_kind));
        let accounts = shared.engine.account_snapshots();
        compact_json(&ServerStats {
            server: self.server(shared),
            statsz: Statsz {
                start: facts.time_of(facts.started),
                mem: load.memory_bytes,
                cores: load.cores,
                cpu: load.cpu_percent,
                connections: load.connections,
                total_connections: totals.connections,
                active_accounts: accounts
                    .iter()
                    .filter(|account| account.connections > 0)
                    .count(),
                subscriptions: load.subscriptions,
                sent: traffic.sent,
                sent_to_clients: traffic.sent_to_clients,
                received: traffic.received,
                received_from_clients: traffic.received_from_clients,
                slow_consumers: totals.slow_consumers,
                slow_consumer_stats: counts(totals.slow_consumers_by_kind),
                stale_connections: totals.stale_connections,
                stale_connection_stats: counts(totals.stale_connections_by_kind),
                stalled_clients: totals.stalls,
                routes: load.routes.iter().map(RouteStats::from).collect(),
                active_servers: 1 + self.neighbours.lock().len(),
                gomaxprocs: load.cores,
            },
        })
    }

    /// When the server's statistics may be published again; `None` if at once.
    fn statsz_pause(&self, time: Instant) -> Option<Instant> {
        let until = self.statsz_at.lock().map(|last| last + STATSZ_PAUSE);
        until.filter(|until| *until > time)
    }

    /// Publishes the server's statistics, unless that was done a moment ago.
    fn publish_statsz(&self, shared: &Shared) -> bool {
        let time = now();
        if self.statsz_pause(time).is_some() {
            return false;
        }
        *self.statsz_at.lock() = Some(time);
        let subject = format!("$SYS.SERVER.{}.STATSZ", self.identity(shared).id);
        self.event(shared, &subject, || self.statsz(shared))
    }

    /// Asks other servers how many connections accounts have there, where that matters.
    fn ask_for_connections(&self, shared: &Shared) -> bool {
        let system_account = Arc::clone(self.connection.lock().account());
        let inbox = requests::inbox(&self.identity(shared).id);
        let mut is_congested = false;
        for account in shared.engine.accounts_with_connection_limit() {
            let subject = format!("$SYS.REQ.ACCOUNT.{}.CONNS", account.name());
            let body = compact_json(&ConnectionsRequest {
                server: self.server(shared),
                acc: account.name(),
            });
            let message = SystemMessage {
                subject: subject.as_bytes(),
                reply: Some(inbox.as_bytes()),
                header: b"",
                payload: &body,
            };
            is_congested |= self.send(shared, &system_account, message);
        }
        is_congested
    }

    fn reload_hook(&self) -> Option<ReloadHook> {
        self.reload.lock().clone()
    }
}

/// What the task that runs all this keeps.
struct Task {
    shared: Arc<Shared>,
    /// Bytes that have arrived and are no whole message yet.
    incoming: Vec<u8>,
    /// When accounts were last told of.
    told: HashMap<Arc<str>, Instant>,
    /// Reports that had no room.
    dropped: DroppedReports,
    /// When the time of some request that is measured is up.
    answers_due: Option<Instant>,
    /// When the server's statistics are published next, and how long after that again.
    statsz_due: Instant,
    statsz_interval: Duration,
}

/// Serves the system account until the server closes.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut task = Task {
        shared: Arc::clone(&shared),
        incoming: Vec::new(),
        told: HashMap::new(),
        dropped: DroppedReports::default(),
        answers_due: None,
        statsz_due: now() + STATSZ_FIRST,
        statsz_interval: STATSZ_FIRST,
    };
    let calendar = Arc::downgrade(&shared);
    shared.engine.set_calendar(move |instant| {
        let shared = calendar.upgrade();
        shared.map_or_else(String::new, |shared| shared.time_of(instant).to_string())
    });
    let closing = shared.lifecycle.reached(Phase::Closing);
    tokio::select! {
        () = closing => {}
        () = task.serve() => {}
    }
}

impl Task {
    async fn serve(&mut self) {
        let Some(system) = Arc::clone(&self.shared).system.clone() else {
            return;
        };
        let mut reports = Vec::new();
        loop {
            let engine = Arc::clone(&self.shared.engine);
            let taken = poll_fn(|context| {
                let dropped = engine.take_reports(REPORTS_PER_TURN, &mut reports, context.waker());
                if reports.is_empty() && dropped.is_empty() {
                    Poll::Pending
                } else {
                    Poll::Ready(dropped)
                }
            });
            let answers_due = self.answers_due;
            let late = async {
                match answers_due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            let is_congested = tokio::select! {
                dropped = taken => {
                    self.dropped += dropped;
                    self.handle_reports(&system, &mut reports).await
                }
                () = system.inbox.arrived() => self.handle_messages(&system).await,
                () = late => {
                    self.answers_due = self.shared.engine.expire_requests(now());
                    false
                }
                () = sleep_until(self.statsz_due.into()) => {
                    self.statsz_interval = (self.statsz_interval * 2).min(STATSZ_INTERVAL);
                    self.statsz_due = now() + self.statsz_interval;
                    self.beat(&system)
                }
            };
            if is_congested {
                sleep_until((now() + PAUSE).into()).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    /// What is due from time to time.
    fn beat(&mut self, system: &System) -> bool {
        let dropped = std::mem::take(&mut self.dropped);
        for (count, what) in [
            (dropped.events, "events were not told to the system account"),
            (
                dropped.measurements,
                "measurements of services were not told to their accounts",
            ),
            (
                dropped.traces,
                "messages were traced without a report of what became of them",
            ),
        ] {
            if count > 0 {
                tracing::warn!("{count} {what}: too many at once");
            }
        }
        let shared = &self.shared;
        let mut is_congested = system.publish_statsz(shared);
        let time = now();
        let routes = shared.engine.route_snapshots();
        let connected = routes.iter().map(|route| &*route.facts.peer_id).collect();
        let silent = system.neighbours.lock().forget_silent(&connected, time);
        for id in silent {
            tracing::debug!("Detected orphan remote server: {id:?}");
            shared.engine.forget_server(&id);
        }
        let is_due = |told: &Instant| time.saturating_duration_since(*told) >= ACCOUNT_INTERVAL;
        for account in shared.engine.accounts() {
            if !self.told.get(account.name()).is_some_and(is_due) {
                continue;
            }
            if account.snapshot().connections == 0 {
                self.told.remove(account.name());
            } else {
                is_congested |= system.account_changed(shared, &account);
                self.told.insert(account.name().into(), time);
            }
        }
        // Those of accounts that a reload removed.
        let engine = &shared.engine;
        self.told
            .retain(|name, told| !is_due(told) || engine.account(name).is_some());
        is_congested
    }

    async fn handle_reports(&mut self, system: &Arc<System>, reports: &mut Vec<Report>) -> bool {
        let mut is_congested = false;
        for (index, report) in reports.iter().enumerate() {
            let shared = &self.shared;
            is_congested |= match report {
                Report::Connected(client) => system.connected(shared, client),
                Report::Disconnected(client) => {
                    let subject = format!("$SYS.ACCOUNT.{}.DISCONNECT", client.client.account);
                    system.disconnected(shared, &subject, client)
                }
                Report::AuthenticationFailed(client) => {
                    let id = &system.identity(shared).id;
                    let subject = format!("$SYS.SERVER.{id}.CLIENT.AUTH.ERR");
                    system.disconnected(shared, &subject, client)
                }
                Report::AccountConnections(account) => {
                    self.told.insert(account.name().into(), now());
                    // Of several changes in a row the last tells all.
                    let is_last = !reports[index + 1..].iter().any(|later| {
                        matches!(later, Report::AccountConnections(other) if Arc::ptr_eq(account, other))
                    });
                    is_last && system.account_changed(shared, account)
                }
                Report::Latency(report) => system.latency(shared, report),
                Report::Trace(report) => system.traced(shared, report),
                Report::Measure(measure) => system.measured(shared, measure),
                Report::AwaitingAnswer(until) => {
                    let until = Some(*until);
                    self.answers_due = self.answers_due.min(until).or(until);
                    false
                }
                _ => false,
            };
        }
        reports.clear();
        is_congested
    }

    async fn answer(&self, system: &Arc<System>, request: Request) -> Answer {
        let engine = &self.shared.engine;
        let size = engine.connections()
            + engine.closed_connections()
            + self.shared.subscriptions()
            + engine.accounts().len();
        if !requests::is_listing(request.kind) || size < LARGE {
            return requests::answer(system, &self.shared, &request);
        }
        let (system, shared) = (Arc::clone(system), Arc::clone(&self.shared));
        let written =
            tokio::task::spawn_blocking(move || requests::answer(&system, &shared, &request));
        written.await.unwrap_or(Answer::None)
    }

    /// Handles what has arrived for the server itself.
    async fn handle_messages(&mut self, system: &Arc<System>) -> bool {
        self.incoming.append(&mut system.inbox.take());
        let outbox = Arc::clone(system.connection.lock().outbox());
        outbox.flush_unblocked(now());
        let incoming = std::mem::take(&mut self.incoming);
        let (mut at, mut is_congested) = (0, false);
        loop {
            match decode_server(&incoming[at..], &Limits::FROM_SERVER) {
                Ok(Decoded::Op { op, consumed }) => {
                    at += consumed;
                    if let ServerOp::Message(message) = op {
                        let number = std::str::from_utf8(message.sid).ok();
                        let number = number.and_then(|number| number.parse::<usize>().ok());
                        let index = number.and_then(|number| number.checked_sub(1));
                        let kind = index.and_then(|index| system.kinds.get(index));
                        if let Some(&kind) = kind
                            && kind.is_notice()
                        {
                            let (subject, payload) = (message.subject, message.payload());
                            is_congested |= self.handle_notice(system, kind, subject, payload);
                        } else if let Some(&kind) = kind {
                            let account = message.subject.split(|&byte| byte == b'.').nth(3);
                            let account = String::from_utf8_lossy(account.unwrap_or_default());
                            let request = Request {
                                kind,
                                account: account.into_owned(),
                                header: message.header().to_vec(),
                                payload: message.payload().to_vec(),
                            };
                            is_congested |=
                                self.handle_request(system, request, message.reply).await;
                        }
                    }
                }
                Ok(Decoded::Incomplete { .. }) => break,
                Err(error) => {
                    tracing::error!(%error, "the system account's connection got broken bytes");
                    at = incoming.len();
                    break;
                }
            }
        }
        self.incoming.extend_from_slice(&incoming[at..]);
        is_congested
    }

    /// Another server said something of itself. Whoever may publish in the system account can say the same.
    fn handle_notice(
        &mut self,
        system: &System,
        kind: Kind,
        subject: &[u8],
        payload: &[u8],
    ) -> bool {
        let time = now();
        let engine = &self.shared.engine;
        let own_id = &system.identity(&self.shared).id;
        if kind == Kind::PeerLeaves {
            let id = subject.split(|&byte| byte == b'.').nth(2);
            let id = id.and_then(|id| std::str::from_utf8(id).ok());
            if let Some(id) = id
                && system.neighbours.lock().left(id)
            {
                engine.forget_server(id);
            }
            return false;
        }
        if kind == Kind::PeerMeasure {
            match serde_json::from_slice::<PeerMeasure>(payload) {
                Ok(told) => {
                    engine.note_measure(&told.account, told.req_id.as_bytes(), told.measure());
                }
                Err(error) => {
                    tracing::debug!(%error, "what another server has measured cannot be read");
                }
            }
            return false;
        }
        let notice = match serde_json::from_slice::<PeerNotice>(payload) {
            Ok(notice) => notice,
            Err(error) => {
                tracing::debug!(%error, "another server's message cannot be read");
                return false;
            }
        };
        let id = &notice.server.id;
        if id.is_empty() || id == own_id {
            return false;
        }
        if kind == Kind::PeerConnections {
            let connections = usize::try_from(notice.conns).unwrap_or(usize::MAX);
            engine.note_connections_elsewhere(&notice.acc, id, connections, time);
        }
        if !system.neighbours.lock().heard(id, time) {
            return false;
        }
        // It is new, and is to know of this one soon.
        match system.statsz_pause(time) {
            Some(until) => self.statsz_due = self.statsz_due.min(until),
            None => _ = system.publish_statsz(&self.shared),
        }
        system.ask_for_connections(&self.shared)
    }

    async fn handle_request(
        &self,
        system: &Arc<System>,
        request: Request,
        reply: Option<&[u8]>,
    ) -> bool {
        let shared = &self.shared;
        let Some(reply) = reply else {
            // A request for statistics without an address asks that all may hear them.
            if request.kind == Kind::Statsz {
                *system.statsz_at.lock() = None;
                return system.publish_statsz(shared);
            }
            return false;
        };
        let account = Arc::clone(system.connection.lock().account());
        match self.answer(system, request).await {
            Answer::Body(body) => system.publish(shared, &account, reply, &body),
            Answer::None => false,
            Answer::Reload(encoding) => {
                self.reload(system, account, reply.to_vec(), encoding);
                false
            }
        }
    }

    /// Has the program reload the configuration, and tells what came of it. Events and other requests go on meanwhile.
    fn reload(
        &self,
        system: &Arc<System>,
        account: Arc<Account>,
        reply: Vec<u8>,
        encoding: Encoding,
    ) {
        let (system, shared) = (Arc::clone(system), Arc::clone(&self.shared));
        let Ok(place) = Arc::clone(&system.reloads).try_acquire_owned() else {
            let body = requests::fault(
                &system,
                &shared,
                "too many reloads are under way".to_owned(),
                false,
            );
            system.publish(&shared, &account, &reply, &body.into());
            return;
        };
        tokio::spawn(async move {
            let outcome = match system.reload_hook() {
                Some(hook) => hook().await,
                None => Err("the program this server is part of cannot reload it".to_owned()),
            };
            let body = match outcome {
                Ok(()) => encoding.apply(requests::done(&system, &shared)),
                Err(error) => requests::fault(&system, &shared, error, false).into(),
            };
            system.publish(&shared, &account, &reply, &body);
            drop(place);
        });
    }
}

impl Server {
    /// Says how the configuration is reloaded when an operator asks for it in the system account
    /// (`$SYS.REQ.SERVER.<id>.RELOAD`). What is returned in `Err` is told. Without, operators are told that the server
    /// cannot reload. `reload` is called once for each request and may wait; calls may overlap.
    pub fn on_reload_request<F>(&self, reload: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        if let Some(system) = &self.shared.system {
            *system.reload.lock() = Some(Arc::new(move || Box::pin(reload())));
        }
    }
}
