//! Where a test's buses live: a transport, a subject of its own, and a server if the transport needs one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use natterjack_bus::settings::{Endpoint, Server, TransportKind};
use natterjack_bus::{Event, EventBus, Settings};
use serde::{Deserialize, Serialize};

/// No wait in these tests takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) publisher: String,
    pub(crate) number: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
}

pub(crate) struct World {
    kind: TransportKind,
    subject: String,
    endpoint: Option<Endpoint>,
    /// Keeps the server running.
    _server: Option<EventBus<Note>>,
    /// Each bus embeds a server and reaches it without a socket.
    in_process: bool,
}

impl World {
    /// One bus is a node of its own there; for several see `topology`.
    pub(crate) async fn in_process() -> Self {
        let local = Self::new(TransportKind::Local).await;
        Self {
            kind: TransportKind::Nats,
            endpoint: Some(Endpoint::in_process()),
            in_process: true,
            ..local
        }
    }

    pub(crate) async fn new(kind: TransportKind) -> Self {
        static TESTS: AtomicU64 = AtomicU64::new(0);
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        let subject = format!("bus-test.{}.{number}", std::process::id());
        let mut world = Self {
            kind,
            subject,
            endpoint: None,
            _server: None,
            in_process: false,
        };
        if kind == TransportKind::Nats {
            world.find_server().await;
        }
        world
    }

    async fn find_server(&mut self) {
        let url = match std::env::var("NATTERJACK_TEST_URL") {
            Ok(url) => url,
            Err(_) => {
                let mut settings = Settings {
                    transport: TransportKind::Nats,
                    ..Settings::default()
                };
                settings.nats.client.subject = format!("{}.server", self.subject);
                settings.nats.server = Server::on_free_ports();
                let server = EventBus::start(settings)
                    .await
                    .expect("the embedded server starts");
                let url = server.server_url().expect("it is enabled");
                self._server = Some(server);
                url
            }
        };
        self.endpoint = Some(endpoint(&url));
    }

    /// `host:port` of the server.
    pub(crate) fn address(&self) -> String {
        let endpoint = self.endpoint.as_ref().expect("a transport with a server");
        format!("{}:{}", endpoint.host, endpoint.port)
    }

    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    pub(crate) fn settings(&self, name: &str) -> Settings {
        let mut settings = Settings {
            transport: self.kind,
            ..Settings::default()
        };
        settings.nats.client.name = name.into();
        settings.nats.client.subject.clone_from(&self.subject);
        settings.nats.client.endpoint.clone_from(&self.endpoint);
        if self.in_process {
            settings.nats.server = Server::on_free_ports();
            settings.nats.server.name = name.into();
        }
        settings.limits.drain_timeout = DEADLINE;
        settings
    }

    pub(crate) async fn bus(&self, name: &str) -> EventBus<Note> {
        start(self.settings(name)).await
    }
}

pub(crate) async fn start(settings: Settings) -> EventBus<Note> {
    let bus = EventBus::start(settings).await.expect("the bus starts");
    within("ready", bus.ready()).await;
    bus
}

pub(crate) fn endpoint(url: &str) -> Endpoint {
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (host, port) = rest.rsplit_once(':').expect("a port");
    Endpoint {
        scheme: scheme.into(),
        host: host.into(),
        port: port.parse().expect("a number"),
    }
}

pub(crate) fn note(publisher: &str, number: u64) -> Note {
    Note {
        publisher: publisher.into(),
        number,
        text: String::new(),
    }
}

/// Waits for a future, but not for ever.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("`{what}` did not happen within {DEADLINE:?}"),
    }
}

/// Waits until a condition holds, for things that announce themselves nowhere.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    within(what, async {
        while !condition() {
            looks.tick().await;
        }
    })
    .await;
}

/// The next `count` events.
pub(crate) async fn take<S>(events: &mut S, count: usize) -> Vec<Event<Note>>
where
    S: Stream<Item = Event<Note>> + Unpin,
{
    let what = format!("{count} events");
    within(&what, events.take(count).collect()).await
}

/// All events up to the end of the stream.
pub(crate) async fn rest<S>(events: &mut S) -> Vec<Event<Note>>
where
    S: Stream<Item = Event<Note>> + Unpin,
{
    within("end of stream", events.collect()).await
}

pub(crate) fn numbers(events: &[Event<Note>]) -> Vec<u64> {
    events.iter().map(|event| event.data.number).collect()
}
