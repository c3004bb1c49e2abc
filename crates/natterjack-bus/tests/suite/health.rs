//! Who is there, whether it is enough, and what the numbers say.

use std::time::Duration;

use natterjack_bus::settings::{Server, TransportKind};
use natterjack_bus::{DrainError, EventBus, Fault, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::world::{Note, World, eventually, note, start, take, within};

fn quick(world: &World, name: &str, required_hosts: u64) -> Settings {
    let mut settings = world.settings(name);
    settings.health.interval = Duration::from_millis(200);
    settings.health.required_hosts = required_hosts;
    settings
}

fn answering(bus: &EventBus<Note>) -> Vec<String> {
    let hosts = bus.health().hosts.into_iter();
    let answering = hosts.filter(|host| host.is_answering);
    answering.map(|host| host.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_over_local_it_is_ready_and_healthy() {
    let world = World::new(TransportKind::Local).await;
    let bus = start(world.settings("a")).await;
    let health = bus.health();
    assert!(health.is_ready && health.is_healthy && health.is_connected);
    assert_eq!(answering(&bus), ["a"]);
    assert!(health.hosts[0].is_own && health.server.is_none());
    within("drain", bus.drain()).await.unwrap();
    let health = bus.health();
    assert!(!health.is_ready && !health.is_healthy && !health.is_connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_hosts_are_unhealthy_until_they_come_and_after_they_left() {
    let world = World::new(TransportKind::Nats).await;
    let a = start(quick(&world, "a", 2)).await;
    let health = a.health();
    assert!(health.is_ready, "whoever is up is reached: nobody is");
    assert!(!health.is_healthy);
    assert_eq!((health.hosts_answering, health.required_hosts), (1, 2));
    let b = start(quick(&world, "b", 2)).await;
    assert_eq!(answering(&b), ["a", "b"], "that is what ready means");
    eventually("a knows of b", || a.health().is_healthy).await;
    within("drain", b.drain()).await.unwrap();
    eventually("b has left", || answering(&a) == ["a"]).await;
    assert!(!a.health().is_healthy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_of_one_name_are_told() {
    let world = World::new(TransportKind::Nats).await;
    let first = start(quick(&world, "a", 1)).await;
    let mut faults = first.faults();
    let _other = start(quick(&world, "b", 1)).await;
    let second = start(quick(&world, "a", 1)).await;
    let fault = within("fault", faults.next()).await.unwrap();
    assert!(
        matches!(&fault, Fault::NameShared { node } if node == "a"),
        "{fault}"
    );
    assert!(
        fault.to_string().contains("eventBus.nats.client.name"),
        "{fault}"
    );
    within("drain", second.drain()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_vanishes_is_missed_and_named_by_a_drain() {
    let world = World::new(TransportKind::Nats).await;
    let a = start(quick(&world, "a", 1)).await;
    // It cannot say good-bye: what it runs on is gone.
    let elsewhere = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let b = elsewhere.spawn(start(quick(&world, "b", 1))).await.unwrap();
    a.publish(&note("a", 1)).await.unwrap();
    let ending = tokio::task::spawn_blocking(|| drop(elsewhere));
    within("end", ending).await.unwrap();
    drop(b);
    let error = within("drain", a.drain()).await.unwrap_err();
    assert_eq!(
        error,
        DrainError::Unanswered {
            nodes: vec!["b".into()]
        }
    );
    assert!(error.to_string().contains('b'), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_and_measure_what_other_nodes_publish() {
    let world = World::new(TransportKind::Nats).await;
    let a = start(quick(&world, "a\"1", 1)).await;
    let b = start(quick(&world, "b", 1)).await;
    let mut events = b.subscribe();
    for number in 0..100 {
        a.publish(&note("a", number)).await.unwrap();
    }
    take(&mut events, 100).await;
    let metrics = b.metrics();
    assert_eq!(metrics.latency.count(), 100);
    assert!(metrics.latency.quantile(0.99).is_some(), "{metrics:?}");
    assert_eq!(metrics.stats.received_events, 100);
    let text = b.metrics().prometheus();
    for line in [
        "natterjack_bus_consumed_events_total{node=\"b\"} 100",
        "natterjack_bus_latency_seconds_count{node=\"b\"} 100",
        "natterjack_bus_latency_seconds_bucket{node=\"b\",le=\"+Inf\"} 100",
        "natterjack_bus_dropped_events_total{node=\"b\",reason=\"lost\"} 0",
        "natterjack_bus_ready{node=\"b\"} 1",
        "natterjack_bus_hosts_answering{node=\"b\"} 2",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
    assert_eq!(
        text.matches("# TYPE ").count(),
        text.matches("# HELP ").count()
    );
    eventually("all are back", || a.metrics().buffered_events == 0).await;
    let text = a.metrics().prometheus();
    assert!(
        text.contains("natterjack_bus_published_events_total{node=\"a\\\"1\"} 100\n"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_server_shows_the_bus_on_its_pages() {
    let world = World::new(TransportKind::Local).await;
    let mut settings = world.settings("a");
    settings.transport = TransportKind::Nats;
    settings.nats.server = Server::on_free_ports();
    let bus = start(settings).await;
    let mut events = bus.subscribe();
    bus.publish(&note("a", 1)).await.unwrap();
    take(&mut events, 1).await;
    let url = bus.monitoring_url().expect("it has a server");
    let metrics = page(&url, "metrics").await;
    for line in [
        "natterjack_bus_consumed_events_total{node=\"a\"} 1",
        "natterjack_bus_ready{node=\"a\"} 1",
        "natterjack_bus_server_up{node=\"a\"} 1",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{metrics}");
    }
    assert!(metrics.contains("\ngnatsd_varz_connections{"), "{metrics}");
    let glance = page(&url, "busz").await;
    let (_, glance) = glance.split_once("\r\n\r\n").expect("a head and a body");
    let glance: serde_json::Value = serde_json::from_str(glance).expect("it is JSON");
    assert_eq!(glance["health"]["is_ready"], true, "{glance}");
    assert_eq!(glance["events"]["published_events"], 1, "{glance}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_the_server_gives_up_is_told_and_counted() {
    let (world, bus) = serving().await;
    let mut peer = silent(bus.server_url()).await;
    let hello = format!(
        "CONNECT {{\"verbose\":false}}\r\nSUB {} 1\r\nPING\r\n",
        world.subject()
    );
    peer.write_all(hello.as_bytes()).await.expect("sent");
    heard(&mut peer, "PONG").await;
    publish_until_given_up(&bus, [1, 0], peer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_the_server_gives_up_is_told_and_counted() {
    let (world, bus) = serving().await;
    let mut peer = silent(bus.cluster_url()).await;
    let about = "\"server_id\":\"SILENT\",\"server_name\":\"silent\",\"version\":\"2.10.0\"";
    let hello = format!(
        "CONNECT {{\"verbose\":false,\"name\":\"SILENT\",\"cluster\":\"bindplane\"}}\r\n\
         INFO {{{about},\"proto\":1,\"headers\":true,\"max_payload\":1048576,\"cluster\":\"bindplane\"}}\r\n\
         RS+ $G {}\r\nPING\r\n",
        world.subject()
    );
    peer.write_all(hello.as_bytes()).await.expect("sent");
    heard(&mut peer, "PONG").await;
    assert_eq!(bus.health().server.unwrap().peers, ["silent"]);
    publish_until_given_up(&bus, [0, 1], peer).await;
}

/// A node with a server.
async fn serving() -> (World, EventBus<Note>) {
    let world = World::new(TransportKind::Local).await;
    let mut settings = quick(&world, "a", 1);
    settings.transport = TransportKind::Nats;
    settings.nats.server = Server::on_free_ports();
    (world, start(settings).await)
}

/// A connection on which little can be under way.
async fn silent(url: Option<String>) -> TcpStream {
    let url = url.expect("it has a server");
    let address = url.strip_prefix("nats://").expect("it is in clear");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let address = address.parse().expect("an address");
    socket.connect(address).await.expect("it listens")
}

/// Reads up to a word, and no further than what came with it.
async fn heard(peer: &mut TcpStream, word: &str) {
    let mut text = Vec::new();
    within(word, async {
        while !String::from_utf8_lossy(&text).contains(word) {
            let count = peer.read_buf(&mut text).await.expect("it is connected");
            assert_ne!(count, 0, "{}", String::from_utf8_lossy(&text));
        }
    })
    .await;
}

/// Publishes more than waits for somebody who does not read.
async fn publish_until_given_up(bus: &EventBus<Note>, expected: [u64; 2], peer: TcpStream) {
    /// Until the server has 64 MiB for the peer, or its socket has taken nothing for ten seconds.
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut faults = bus.faults();
    let large = Note {
        text: "x".repeat(512 << 10),
        ..note("a", 0)
    };
    let told = async {
        match faults.next().await.expect("the bus goes on") {
            Fault::ServerOverflow { clients, servers } => [clients, servers],
            other => panic!("{other}"),
        }
    };
    let publishing = async {
        loop {
            bus.publish(&large).await.expect("accepted");
        }
    };
    let told = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            told = told => told,
            () = publishing => unreachable!("it does not end"),
        }
    });
    assert_eq!(told.await.expect("it is told"), expected);
    drop(peer);

    let server = bus.health().server.expect("it has one");
    assert_eq!([server.dropped_clients, server.dropped_servers], expected);
    let text = bus.metrics().prometheus();
    for (kind, connections) in ["client", "server"].into_iter().zip(expected) {
        let line = format!(
            "natterjack_bus_server_dropped_connections_total{{node=\"a\",kind=\"{kind}\"}} {connections}"
        );
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
    // Whoever reads loses nothing by it, and it is told once.
    within("drain", bus.drain()).await.unwrap();
    assert_eq!(bus.stats().lost_events, 0);
    while let Some(fault) = within("end", faults.next()).await {
        assert!(!matches!(fault, Fault::ServerOverflow { .. }), "{fault}");
    }
}

/// A page with its head.
async fn page(url: &str, name: &str) -> String {
    let address = url.strip_prefix("http://").expect("it is in clear");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET /{name} HTTP/1.0\r\n\r\n");
    let mut answer = String::new();
    within("the page", async {
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream.read_to_string(&mut answer).await.expect("read");
    })
    .await;
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_means_that_whoever_is_up_gets_the_next_event() {
    let world = World::new(TransportKind::Nats).await;
    for round in 0..10 {
        let listeners = [
            EventBus::<Note>::start(quick(&world, "x", 1)),
            EventBus::start(quick(&world, "y", 1)),
        ];
        let [x, y] = listeners.map(|bus| async {
            let bus = bus.await.expect("it starts");
            bus.ready().await;
            bus
        });
        let publisher = async {
            let bus = start(quick(&world, "p", 1)).await;
            let up: Vec<_> = answering(&bus);
            bus.publish(&note("p", round)).await.unwrap();
            (bus, up)
        };
        let (x, y, (bus, up)) = within("all", async { tokio::join!(x, y, publisher) }).await;
        // Who was not up yet when it was published may have missed it, and nobody else.
        for listener in [&x, &y] {
            if up.iter().any(|host| host == listener.name()) {
                eventually("the event", || listener.stats().received_events == 1).await;
            }
        }
        for bus in [x, y, bus] {
            within("drain", bus.drain()).await.unwrap();
        }
    }
}
