//! Servers that do what ours never would, or not when a test needs it: a script speaks for them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use natterjack_bus::settings::TransportKind;
use natterjack_bus::{
    DrainError, Event, EventBus, Fault, FaultStream, Link, Publish, PublishError, ReloadError,
    Settings,
};
use natterjack_wire::client::{ClientOp, Decoded, Limits, decode_client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::world::{DEADLINE, Note, World, endpoint, eventually, note, numbers, take, within};

struct Scripted {
    listener: TcpListener,
}

/// A node's connection to it.
struct Node {
    tcp: TcpStream,
    input: Vec<u8>,
}

/// Something that a node has published: subject, and what is behind the subject and reply in `HMSG` or `MSG`.
#[derive(Clone)]
struct Published {
    subject: String,
    reply: Option<String>,
    header_bytes: Option<usize>,
    body: Vec<u8>,
}

impl Scripted {
    async fn new() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound")
    }

    fn settings(&self, world: &World) -> Settings {
        let mut settings = world.settings("a");
        settings.transport = TransportKind::Nats;
        settings.nats.client.endpoint = Some(endpoint(&format!("nats://{}", self.address())));
        settings
    }

    /// A node that has been greeted.
    async fn node(&self) -> Node {
        let (tcp, _) = within("a node", self.listener.accept()).await.unwrap();
        let mut node = Node {
            tcp,
            input: Vec::new(),
        };
        node.say(&info("")).await;
        // Its CONNECT, its PING.
        node.published_before_ping().await;
        node.say("PONG\r\n").await;
        node
    }
}

/// Does not wait for the connection.
async fn bus(settings: Settings) -> EventBus<Note> {
    EventBus::start(settings).await.unwrap()
}

/// It has changed servers once, and says so.
async fn has_moved(
    bus: &EventBus<Note>,
    faults: &mut FaultStream,
    lost_events: u64,
    certain: bool,
) {
    let stats = bus.stats();
    assert_eq!(
        (stats.lost_events, stats.reconnects, stats.moves),
        (lost_events, 0, 1)
    );
    let fault = within("a word", faults.next()).await.unwrap();
    assert!(
        matches!(fault, Fault::Moved { is_certain, .. } if is_certain == certain),
        "{fault}"
    );
}

fn info(more: &str) -> String {
    format!("INFO {{\"server_id\":\"x\",\"headers\":true,\"max_payload\":100000{more}}} \r\n")
}

impl Published {
    /// In the header that says which event it is.
    fn replace_in_id(&mut self, from: &str, to: &str) {
        let text = String::from_utf8(std::mem::take(&mut self.body)).unwrap();
        let (before, id) = text.split_once("ce-id: ").unwrap();
        let (id, after) = id.split_once("\r\n").unwrap();
        let changed = id.replacen(from, to, 1);
        assert_ne!(id, changed);
        self.body = format!("{before}ce-id: {changed}\r\n{after}").into_bytes();
    }
}

impl Node {
    /// A server that will soon be gone, and knows of another.
    async fn leaves_for(&mut self, other: &Scripted) {
        let more = format!(",\"ldm\":true,\"connect_urls\":[\"{}\"]", other.address());
        self.say(&info(&more)).await;
    }

    async fn say(&mut self, text: &str) {
        self.tcp.write_all(text.as_bytes()).await.unwrap();
    }

    /// Goes through what the node says until `pick` takes something.
    async fn hear<T>(&mut self, what: &str, pick: impl FnMut(ClientOp<'_>) -> Option<T>) -> T {
        let heard = self.hear_or_end(what, pick).await;
        heard.expect("the node hung up")
    }

    /// The same, or nothing if the node hangs up before.
    async fn hear_or_end<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(ClientOp<'_>) -> Option<T>,
    ) -> Option<T> {
        within(what, async {
            loop {
                match decode_client(&self.input, &Limits::UNBOUNDED).expect("no fault") {
                    Decoded::Op { op, consumed } => {
                        let picked = pick(op);
                        self.input.drain(..consumed);
                        if picked.is_some() {
                            return picked;
                        }
                    }
                    Decoded::Incomplete { .. } => {
                        if self.tcp.read_buf(&mut self.input).await.unwrap() == 0 {
                            return None;
                        }
                    }
                }
            }
        })
        .await
    }

    /// What it publishes before it asks whether we are there.
    async fn published_before_ping(&mut self) -> Vec<Published> {
        let mut all = Vec::new();
        self.hear("a PING", |op| {
            all.extend(published(&op));
            matches!(op, ClientOp::Ping).then_some(())
        })
        .await;
        all
    }

    /// The next thing that it publishes on a subject with this end.
    async fn published(&mut self, end: &str) -> Published {
        self.hear(end, |op| {
            published(&op).filter(|one| one.subject.ends_with(end))
        })
        .await
    }

    /// Sends it a message for a subscription.
    async fn deliver(&mut self, id: u8, message: &Published) {
        let Published {
            subject,
            reply,
            header_bytes,
            body,
        } = message;
        let bytes = body.len();
        let reply = reply.as_ref().map(|reply| format!("{reply} "));
        let reply = reply.unwrap_or_default();
        let line = match header_bytes {
            Some(header_bytes) => {
                format!("HMSG {subject} {id} {reply}{header_bytes} {bytes}\r\n")
            }
            None => format!("MSG {subject} {id} {reply}{bytes}\r\n"),
        };
        let message = [line.as_bytes(), body, b"\r\n"].concat();
        self.tcp.write_all(&message).await.unwrap();
    }

    /// Its own message on its private subject, which proves that the server has what came before.
    async fn echo_fence(&mut self) {
        let fence = self.published(".fence").await;
        self.deliver(4, &fence).await;
    }

    /// Proves that to it as often as it asks, until it hangs up.
    async fn echo_fences_until_the_end(&mut self) {
        let fence = |op: ClientOp<'_>| published(&op).filter(|one| one.subject.ends_with(".fence"));
        while let Some(fence) = self.hear_or_end("the end", fence).await {
            self.deliver(4, &fence).await;
        }
    }

    /// The next question about a change of servers, as it comes to all who listen.
    async fn question(&mut self) -> Published {
        self.hear("a question", |op| {
            published(&op).filter(|one| {
                let reply = one.reply.as_deref().unwrap_or_default();
                reply.contains(".change.q")
            })
        })
        .await
    }

    async fn ended(&mut self) {
        within("the end", async {
            let mut rest = Vec::new();
            // Reset or closed, both are its end.
            let _ = self.tcp.read_to_end(&mut rest).await;
        })
        .await;
    }
}

fn published(op: &ClientOp<'_>) -> Option<Published> {
    let ClientOp::Publish(publish) = op else {
        return None;
    };
    Some(Published {
        subject: String::from_utf8(publish.subject.to_vec()).unwrap(),
        reply: (publish.reply).map(|reply| String::from_utf8(reply.to_vec()).unwrap()),
        header_bytes: publish.header_len,
        body: publish.body.to_vec(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_events_that_come_after_a_change_of_servers_are_own_and_come_once() {
    let world = World::new(TransportKind::Local).await;
    let server = Scripted::new().await;
    let (bus, mut node) = tokio::join!(bus(server.settings(&world)), server.node());
    let mut events = bus.subscribe();
    let mut faults = bus.faults();
    bus.publish(&note("a", 0)).await.unwrap();
    let event = node.published(world.subject()).await;
    // The server has it, and hands it on to others, but not to this node: the connection breaks.
    drop(node);
    let mut node = server.node().await;
    node.echo_fence().await;
    within("the loss", async {
        while !matches!(faults.next().await, Some(Fault::Lost { events: 1 })) {}
    })
    .await;
    // By way of another server it comes all the same.
    node.deliver(1, &event).await;
    let late = take(&mut events, 1).await;
    assert!(late[0].is_own());
    // By way of a third one it would come once more.
    node.deliver(1, &event).await;
    // Who sends another one is somebody else, who uses this node's name.
    let mut other = event.clone();
    other.replace_in_id("0", "1");
    node.deliver(1, &other).await;
    let next = take(&mut events, 1).await;
    assert!(!next[0].is_own() && next[0].id != late[0].id);
    assert_eq!(bus.stats().lost_events, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_names_what_did_not_come_back() {
    let world = World::new(TransportKind::Local).await;
    let server = Scripted::new().await;
    let (bus, mut node) = tokio::join!(bus(server.settings(&world)), server.node());
    let mut events = bus.subscribe();
    let mut ids = Vec::new();
    for number in 0..3 {
        let note = note("a", number);
        let id = bus.publish_identified(&note, Publish::default());
        ids.push(id.await.unwrap());
    }
    let mut published = Vec::new();
    for _ in 0..3 {
        published.push(node.published(world.subject()).await);
    }
    let draining = tokio::spawn({
        let bus = bus.clone();
        async move { bus.drain().await }
    });
    within("refusal", async {
        let note = note("a", 3);
        loop {
            match bus.publish_identified(&note, Publish::default()).await {
                Ok(id) => ids.push(id),
                Err(PublishError::Closed) => return,
                Err(error) => panic!("{error}"),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The second one overtook the first. The others go with the connection.
    node.deliver(1, &published[1]).await;
    assert_eq!(numbers(&take(&mut events, 1).await), [1]);
    drop(node);
    let mut node = server.node().await;
    node.echo_fence().await;
    let drained = within("drain", draining).await.unwrap();
    ids.remove(1);
    let drained = drained.unwrap_err();
    assert!(matches!(drained, DrainError::Lost { .. }), "{drained}");
    assert_eq!(
        (drained.events(), drained.ids()),
        (ids.len() as u64, &ids[..])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_names_what_is_lost_while_a_question_is_answered() {
    let world = World::new(TransportKind::Local).await;
    let server = Scripted::new().await;
    let mut settings = server.settings(&world);
    // Half of it for the handler, which is more than what has waited for a connection is held back.
    settings.limits.drain_timeout = Duration::from_secs(12);
    let (bus, mut node) = tokio::join!(bus(settings.clone()), server.node());
    eventually("a connection", || bus.link() == Link::Connected).await;
    let begun = Arc::new(Notify::new());
    let _answering = bus
        .answer({
            let begun = Arc::clone(&begun);
            move |_: Event<Note>| {
                let begun = Arc::clone(&begun);
                async move {
                    begun.notify_one();
                    std::future::pending::<Result<u64, Infallible>>().await
                }
            }
        })
        .unwrap();
    let _asking = tokio::spawn({
        let bus = bus.clone();
        async move { bus.ask::<u64>("a", &note("a", 0), DEADLINE).await }
    });
    let question = node.published(".ask").await;
    node.deliver(3, &question).await;
    within("a question", begun.notified()).await;
    let event = note("a", 1);
    let id = bus.publish_identified(&event, Publish::default());
    let id = id.await.unwrap();
    node.published(world.subject()).await;
    let draining = tokio::spawn({
        let bus = bus.clone();
        async move { bus.drain().await }
    });
    within("the drain has begun", async {
        while !matches!(bus.reload(&settings).await, Err(ReloadError::Closed)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(node);
    let mut node = server.node().await;
    let drained = async { within("drain", draining).await.unwrap() };
    let (drained, ()) = tokio::join!(drained, node.echo_fences_until_the_end());
    let lost = DrainError::Lost {
        events: 1,
        ids: vec![id],
    };
    assert_eq!(drained, Err(lost));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_without_listening_is_left() {
    let world = World::new(TransportKind::Local).await;
    let server = Scripted::new().await;
    let (bus, mut node) = tokio::join!(bus(server.settings(&world)), server.node());
    let mut faults = bus.faults();
    let asking = async {
        let many = "PING\r\n".repeat(10_000);
        // What is sent without end must not be answered without end.
        for _ in 0..10_000 {
            if node.tcp.write_all(many.as_bytes()).await.is_err() {
                return;
            }
        }
        panic!("600 MB of PINGs were taken");
    };
    within("the end", asking).await;
    within("the reason", async {
        loop {
            let fault = faults.next().await.expect("the bus goes on");
            if matches!(&fault, Fault::Refused { message } if message.contains("again and again")) {
                return;
            }
        }
    })
    .await;
    let _node = server.node().await;
    eventually("another connection", || bus.link() == Link::Connected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_will_soon_be_gone_is_left_before_it_is() {
    let world = World::new(TransportKind::Local).await;
    let (server, other) = (Scripted::new().await, Scripted::new().await);
    let (bus, mut node) = tokio::join!(bus(server.settings(&world)), server.node());
    let (mut events, mut faults) = (bus.subscribe(), bus.faults());
    eventually("a connection", || bus.link() == Link::Connected).await;
    node.leaves_for(&other).await;
    // It first subscribes at another one.
    let mut again = other.node().await;
    assert!(again.published_before_ping().await.is_empty());
    again.say("PONG\r\n").await;
    // What is published goes to the old one, as does the question who is heard over the new one.
    bus.publish(&note("a", 0)).await.unwrap();
    let first = node.published(world.subject()).await;
    node.deliver(1, &first).await;
    assert_eq!(numbers(&take(&mut events, 1).await), [0]);
    let stranger = |text: &str| Published {
        subject: world.subject().into(),
        reply: None,
        header_bytes: None,
        body: format!("{{\"publisher\":\"{text}\",\"number\":7}}").into_bytes(),
    };
    // It comes over both, but from one of them first.
    again.deliver(1, &first).await;
    again.deliver(1, &stranger("early")).await;
    let question = node.question().await;
    node.deliver(2, &question).await;
    again.deliver(2, &question).await;
    // Now nothing is published any more, and that is asked once more behind all there is.
    let question = node.question().await;
    bus.publish(&note("a", 1)).await.unwrap();
    node.deliver(1, &stranger("late")).await;
    node.deliver(1, &stranger("early")).await;
    node.deliver(2, &question).await;
    again.deliver(2, &question).await;
    node.ended().await;
    let second = again.published(world.subject()).await;
    again.deliver(1, &second).await;
    again.deliver(1, &stranger("late")).await;
    again.deliver(1, &stranger("last")).await;
    let rest = take(&mut events, 4).await;
    let publishers: Vec<_> = rest.iter().map(|event| &*event.data.publisher).collect();
    assert_eq!(publishers, ["late", "early", "a", "last"]);
    has_moved(&bus, &mut faults, 0, true).await;
    // Of both somebody could have sent two.
    assert_eq!(bus.stats().repeated_events, 2);
    assert_eq!(bus.health().repeated_events, 2);
    // Nobody waits for the rest of what came over the old one, and that is told.
    within("a word", async {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        loop {
            tokio::select! {
                _ = looks.tick() => again.deliver(1, &stranger("next")).await,
                fault = faults.next() => {
                    let fault = fault.unwrap();
                    assert!(matches!(fault, Fault::Repeated { events: 2 }), "{fault}");
                    return;
                }
            }
        }
    })
    .await;
    assert_eq!(bus.stats().repeated_events, 2);
    // What is told of the connection is about the one there was, and is.
    let address = format!("nats://{}", other.address());
    drop((again, server));
    let fault = within("a word", faults.next()).await.unwrap();
    assert!(
        matches!(&fault, Fault::Disconnected { server } if *server == address),
        "{fault}"
    );
    let _back = other.node().await;
    let fault = within("a word", faults.next()).await.unwrap();
    assert!(
        matches!(&fault, Fault::Reconnected { server } if *server == address),
        "{fault}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_before_it_can_be_left_costs_what_was_on_its_way() {
    let world = World::new(TransportKind::Local).await;
    let (server, other) = (Scripted::new().await, Scripted::new().await);
    let (bus, mut node) = tokio::join!(bus(server.settings(&world)), server.node());
    let (mut events, mut faults) = (bus.subscribe(), bus.faults());
    eventually("a connection", || bus.link() == Link::Connected).await;
    node.leaves_for(&other).await;
    let mut again = other.node().await;
    again.published_before_ping().await;
    again.say("PONG\r\n").await;
    for number in 0..3 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    let mut published = Vec::new();
    for _ in 0..3 {
        published.push(node.published(world.subject()).await);
    }
    node.question().await;
    node.deliver(1, &published[0]).await;
    // By way of the other one.
    again.deliver(1, &published[0]).await;
    again.deliver(1, &published[1]).await;
    assert_eq!(numbers(&take(&mut events, 1).await), [0]);
    drop(node);
    assert_eq!(numbers(&take(&mut events, 1).await), [1]);
    again.echo_fence().await;
    bus.publish(&note("a", 3)).await.unwrap();
    let last = again.published(world.subject()).await;
    again.deliver(1, &last).await;
    assert_eq!(numbers(&take(&mut events, 1).await), [3]);
    has_moved(&bus, &mut faults, 1, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_server_that_is_gone_as_well_changes_nothing() {
    let world = World::new(TransportKind::Local).await;
    let (server, other) = (Scripted::new().await, Scripted::new().await);
    let (bus, mut node) = tokio::join!(bus(server.settings(&world)), server.node());
    let mut events = bus.subscribe();
    eventually("a connection", || bus.link() == Link::Connected).await;
    node.leaves_for(&other).await;
    let mut next = other.node().await;
    next.published_before_ping().await;
    next.say("PONG\r\n").await;
    let question = node.question().await;
    node.deliver(2, &question).await;
    next.deliver(2, &question).await;
    // Behind this nothing is published, until it is known that there is no change.
    node.question().await;
    bus.publish(&note("a", 0)).await.unwrap();
    drop(next);
    let event = node.published(world.subject()).await;
    node.deliver(1, &event).await;
    assert_eq!(numbers(&take(&mut events, 1).await), [0]);
    // It is tried again.
    let mut next = other.node().await;
    next.published_before_ping().await;
    let stats = bus.stats();
    assert_eq!(
        (stats.lost_events, stats.reconnects, stats.moves),
        (0, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_will_soon_be_gone_is_stayed_with_if_there_is_no_other() {
    let world = World::new(TransportKind::Local).await;
    let server = Scripted::new().await;
    let (bus, mut node) = tokio::join!(bus(server.settings(&world)), server.node());
    let mut events = bus.subscribe();
    node.say(&info(",\"ldm\":true")).await;
    bus.publish(&note("a", 0)).await.unwrap();
    let event = node.published(world.subject()).await;
    node.deliver(1, &event).await;
    assert_eq!(numbers(&take(&mut events, 1).await), [0]);
    assert_eq!(bus.stats().reconnects, 0);
}
