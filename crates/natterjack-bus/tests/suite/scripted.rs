//! Servers that do what ours never would, or not when a test needs it: a script speaks for them.

use std::net::SocketAddr;

use natterjack_bus::settings::TransportKind;
use natterjack_bus::{EventBus, Fault, Link, Settings};
use natterjack_wire::client::{ClientOp, Decoded, Limits, decode_client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{Note, World, endpoint, eventually, note, numbers, take, within};

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

fn info(more: &str) -> String {
    format!("INFO {{\"server_id\":\"x\",\"headers\":true,\"max_payload\":100000{more}}} \r\n")
}

impl Node {
    async fn say(&mut self, text: &str) {
        self.tcp.write_all(text.as_bytes()).await.unwrap();
    }

    /// Goes through what the node says until `is_enough`.
    async fn hear<T>(&mut self, what: &str, mut pick: impl FnMut(ClientOp<'_>) -> Option<T>) -> T {
        within(what, async {
            loop {
                match decode_client(&self.input, &Limits::UNBOUNDED).expect("no fault") {
                    Decoded::Op { op, consumed } => {
                        let picked = pick(op);
                        self.input.drain(..consumed);
                        if let Some(picked) = picked {
                            return picked;
                        }
                    }
                    Decoded::Incomplete { .. } => {
                        let count = self.tcp.read_buf(&mut self.input).await.unwrap();
                        assert_ne!(count, 0, "the node hung up");
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
            header_bytes,
            body,
        } = message;
        let bytes = body.len();
        let line = match header_bytes {
            Some(header_bytes) => format!("HMSG {subject} {id} {header_bytes} {bytes}\r\n"),
            None => format!("MSG {subject} {id} {bytes}\r\n"),
        };
        let message = [line.as_bytes(), body, b"\r\n"].concat();
        self.tcp.write_all(&message).await.unwrap();
    }

    /// Its own message on its private subject, which proves that the server has what came before.
    async fn echo_fence(&mut self) {
        let fence = self.published(".fence").await;
        self.deliver(4, &fence).await;
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
    // Who sends it once more is somebody else, who uses this node's name.
    node.deliver(1, &event).await;
    assert!(!take(&mut events, 1).await[0].is_own());
    assert_eq!(bus.stats().lost_events, 1);
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
    let mut events = bus.subscribe();
    eventually("a connection", || bus.link() == Link::Connected).await;
    bus.publish(&note("a", 0)).await.unwrap();
    let first = node.published(world.subject()).await;
    let urls = format!(",\"ldm\":true,\"connect_urls\":[\"{}\"]", other.address());
    node.say(&info(&urls)).await;
    // It first has another one, and only then leaves this one.
    let mut again = other.node().await;
    let rest = node.published_before_ping().await;
    assert!(
        rest.iter()
            .all(|one| !one.subject.ends_with(world.subject()))
    );
    bus.publish(&note("a", 1)).await.unwrap();
    // What was said before comes back before the answer.
    node.deliver(1, &first).await;
    node.say("PONG\r\n").await;
    node.ended().await;
    let second = again.published(world.subject()).await;
    again.deliver(1, &second).await;
    let both = take(&mut events, 2).await;
    assert_eq!(numbers(&both), [0, 1]);
    assert!(both.iter().all(natterjack_bus::Event::is_own));
    let stats = bus.stats();
    assert_eq!((stats.lost_events, stats.reconnects), (0, 1));
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
