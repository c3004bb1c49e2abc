//! Several nodes, most of which embed a server: all configured alike, started in any order, some of them down.

use std::net::TcpListener;
use std::time::Duration;

use futures_util::StreamExt as _;
use natterjack_bus::settings::{Endpoint, Server, TransportKind};
use natterjack_bus::{Event, EventBus, Settings, StartError};

use crate::world::{Note, World, endpoint, eventually, note, take, within};

/// What all nodes of a fleet have in common.
pub(crate) struct Fleet {
    world: World,
    routes: Vec<Endpoint>,
    is_in_process: bool,
}

impl Fleet {
    /// With that many nodes that embed a server.
    pub(crate) async fn new(servers: usize, is_in_process: bool) -> Self {
        // A route names a port before anybody listens there, so these are free ports that somebody else may take.
        let listeners: Vec<_> = (0..servers)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let route = |listener: &TcpListener| {
            endpoint(&format!("nats://{}", listener.local_addr().expect("bound")))
        };
        Self {
            world: World::new(TransportKind::Local).await,
            routes: listeners.iter().map(route).collect(),
            is_in_process,
        }
    }

    /// A node that embeds a server: the same settings as all others, but for its own addresses.
    pub(crate) fn server(&self, number: usize) -> Settings {
        let name = format!("server-{number}");
        let mut settings = self.world.settings(&name);
        settings.transport = TransportKind::Nats;
        settings.nats.server = Server::on_free_ports();
        settings.nats.server.name = name;
        let cluster = &mut settings.nats.server.cluster;
        cluster.listen.port = self.routes[number].port;
        cluster.routes.clone_from(&self.routes);
        settings.nats.client.endpoint = self.is_in_process.then(Endpoint::in_process);
        settings
    }

    /// A node without one.
    fn client(&self, number: usize, url: &str) -> Settings {
        let mut settings = self.world.settings(&format!("client-{number}"));
        settings.transport = TransportKind::Nats;
        settings.nats.client.endpoint = Some(endpoint(url));
        settings
    }

    pub(crate) async fn start(&self, number: usize) -> Result<EventBus<Note>, StartError> {
        start_again(self.server(number)).await
    }
}

/// Starts a node, which may have to wait for its port: one that was dropped, and not drained, ends a moment later.
pub(crate) async fn start_again(settings: Settings) -> Result<EventBus<Note>, StartError> {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    within("the port is free", async {
        loop {
            looks.tick().await;
            match EventBus::start(settings.clone()).await {
                Err(StartError::PortInUse { .. }) => {}
                result => return result,
            }
        }
    })
    .await
}

/// Every node publishes, and gets what every node published, in order.
async fn everybody_hears_everybody(buses: &[EventBus<Note>], count: u64) {
    let mut streams: Vec<_> = buses.iter().map(EventBus::subscribe).collect();
    for bus in buses {
        within("ready", bus.ready()).await;
    }
    for number in 0..count {
        for bus in buses {
            bus.publish(&note(bus.name(), number)).await.unwrap();
        }
    }
    // What was published before may arrive only now, if it was on its way.
    let is_ours = |event: &Event<Note>| {
        let is_ours = buses.iter().any(|bus| bus.name() == event.data.publisher);
        std::future::ready(is_ours)
    };
    for (reader, events) in buses.iter().zip(&mut streams) {
        let mut events = events.filter(is_ours);
        let received = take(&mut events, buses.len() * count as usize).await;
        for writer in buses {
            let theirs: Vec<&Event<Note>> = received
                .iter()
                .filter(|event| event.source == writer.name())
                .collect();
            assert!(
                theirs.iter().map(|event| event.data.number).eq(0..count),
                "{} at {}: {theirs:?}",
                writer.name(),
                reader.name()
            );
            assert!(
                theirs
                    .iter()
                    .all(|event| event.is_own() == (reader.name() == writer.name()))
            );
        }
    }
    // Answers to questions about health travel beside the events.
    for bus in buses {
        let count = buses.len() as u64;
        eventually("all answer", || bus.health().hosts_answering == count).await;
    }
}

async fn drain_all(buses: Vec<EventBus<Note>>) {
    for bus in buses {
        within("drain", bus.drain()).await.unwrap();
    }
}

async fn three_nodes_alike(is_in_process: bool) {
    let fleet = Fleet::new(3, is_in_process).await;
    let mut buses = Vec::new();
    for number in 0..3 {
        buses.push(fleet.start(number).await.unwrap());
    }
    everybody_hears_everybody(&buses, 50).await;
    for bus in &buses {
        let server = bus.health().server.unwrap();
        assert_eq!((server.peers.len(), server.routes), (2, 3));
        assert!(
            !server.peers.iter().any(|peer| peer == bus.name()),
            "not itself"
        );
    }
    drain_all(buses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_with_the_same_routes_over_loopback() {
    three_nodes_alike(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_with_the_same_routes_in_process() {
    three_nodes_alike(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_nodes_of_which_three_embed() {
    let fleet = Fleet::new(3, true).await;
    let mut buses = Vec::new();
    for number in 0..3 {
        buses.push(fleet.start(number).await.unwrap());
    }
    let urls: Vec<_> = buses.iter().filter_map(EventBus::server_url).collect();
    for number in 0..6 {
        let settings = fleet.client(number, &urls[number % urls.len()]);
        buses.push(EventBus::start(settings).await.unwrap());
    }
    everybody_hears_everybody(&buses, 20).await;
    buses.reverse();
    drain_all(buses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_in_any_order_and_others_stay_away() {
    let fleet = Fleet::new(3, true).await;
    // The first to come has nobody to talk to, and works all the same.
    let last = fleet.start(2).await.unwrap();
    everybody_hears_everybody(std::slice::from_ref(&last), 5).await;
    let first = fleet.start(0).await.unwrap();
    everybody_hears_everybody(&[last.clone(), first.clone()], 5).await;
    // It goes without a word and comes back under its name; the server in the middle never starts.
    drop(first);
    let again = fleet.start(0).await.unwrap();
    everybody_hears_everybody(&[last.clone(), again.clone()], 5).await;
    drain_all(vec![again]).await;
    eventually("it is gone", || last.health().hosts_answering == 1).await;
    drain_all(vec![last]).await;
}

/// Neither nodes that are there are waited for by the clock, nor those that are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_holds_up_nobody() {
    let fleet = Fleet::new(4, true).await;
    let settings = |number| {
        let mut settings = fleet.server(number);
        settings.limits.routes_patience = Duration::from_secs(24 * 60 * 60);
        settings
    };
    let mut buses = Vec::new();
    // Of the others two come later, and the last never.
    for number in 0..3 {
        let bus = start_again(settings(number)).await.unwrap();
        let mut streams: Vec<_> = buses.iter().map(EventBus::subscribe).collect();
        within("ready", bus.ready()).await;
        assert!(bus.health().is_ready);
        bus.publish(&note(bus.name(), 0)).await.unwrap();
        for events in &mut streams {
            assert_eq!(take(events, 1).await[0].source, bus.name());
        }
        buses.push(bus);
    }
    everybody_hears_everybody(&buses, 5).await;
    drain_all(buses).await;
}

/// Whoever listens may be about to greet. Once nobody does it is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_greet_holds_up_until_it_is_gone() {
    let fleet = Fleet::new(2, true).await;
    let silent = TcpListener::bind(("127.0.0.1", fleet.routes[1].port)).expect("a free port");
    let mut settings = fleet.server(0);
    settings.limits.routes_patience = Duration::from_secs(24 * 60 * 60);
    let bus = EventBus::<Note>::start(settings).await.unwrap();
    eventually("it answers itself", || bus.health().hosts_answering == 1).await;
    assert!(!bus.health().is_ready);
    drop(silent);
    within("ready", bus.ready()).await;
    drain_all(vec![bus]).await;
}

/// A node without a server depends on that of another node, whose way to the others may not be known yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_ready_no_earlier_than_the_server_it_uses() {
    let fleet = Fleet::new(2, true).await;
    let silent = TcpListener::bind(("127.0.0.1", fleet.routes[1].port)).expect("a free port");
    let mut settings = fleet.server(0);
    settings.limits.routes_patience = Duration::from_secs(24 * 60 * 60);
    let server = EventBus::<Note>::start(settings).await.unwrap();
    let url = server.server_url().expect("it has a server");
    let client = EventBus::<Note>::start(fleet.client(0, &url))
        .await
        .unwrap();
    for bus in [&server, &client] {
        eventually("both answer", || bus.health().hosts_answering == 2).await;
        // Long enough to settle where nothing is open.
        let settled = tokio::time::timeout(Duration::from_millis(500), bus.ready());
        assert!(settled.await.is_err(), "{}", bus.name());
    }
    drop(silent);
    let mut others = vec![fleet.start(1).await.unwrap(), server];
    for bus in others.iter().chain([&client]) {
        within("ready", bus.ready()).await;
    }
    let mut events = others[0].subscribe();
    client.publish(&note("client-0", 7)).await.unwrap();
    assert_eq!(take(&mut events, 1).await[0].data.number, 7);
    others.insert(0, client);
    drain_all(others).await;
}

/// What the crashed one said does not count any more, and nobody waits for it as long as for somebody who may come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_ready_soon_after_its_server_crashed_and_started_again() {
    let fleet = Fleet::new(1, true).await;
    let mut settings = fleet.server(0);
    settings.nats.server.client.port = {
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
        port.local_addr().expect("bound").port()
    };
    let url = format!("nats://127.0.0.1:{}", settings.nats.server.client.port);
    // The default interval: three of it are longer than any deadline here.
    assert!(settings.health.interval * 3 > 2 * crate::world::DEADLINE);
    let elsewhere = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let node = elsewhere.spawn(start_again(settings.clone()));
    let crashing = node.await.unwrap().unwrap();
    let client = EventBus::<Note>::start(fleet.client(0, &url))
        .await
        .unwrap();
    within("ready", client.ready()).await;
    assert_eq!(client.health().hosts_answering, 2);
    let ending = tokio::task::spawn_blocking(move || drop(elsewhere));
    within("end", ending).await.unwrap();
    drop(crashing);
    eventually("it is noticed", || !client.health().is_connected).await;
    let again = start_again(settings).await.unwrap();
    within("ready again", client.ready()).await;
    assert_eq!(client.health().hosts_answering, 2);
    drain_all(vec![client, again]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_waits_for_the_server_of_another_node() {
    let fleet = Fleet::new(1, false).await;
    let mut embedding = fleet.server(0);
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
    embedding.nats.server.client.port = port.local_addr().expect("bound").port();
    drop(port);
    let url = format!("nats://127.0.0.1:{}", embedding.nats.server.client.port);
    let early = EventBus::<Note>::start(fleet.client(0, &url))
        .await
        .unwrap();
    assert!(!early.health().is_ready && !early.health().is_connected);
    let mut events = early.subscribe();
    early.publish(&note("early", 1)).await.unwrap();
    let server = EventBus::start(embedding).await.unwrap();
    assert_eq!(take(&mut events, 1).await[0].data.number, 1);
    everybody_hears_everybody(&[server.clone(), early.clone()], 5).await;
    assert!(events.next().await.is_some());
    drain_all(vec![early, server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_is_told_how_all_nodes_are() {
    let fleet = Fleet::new(2, true).await;
    let mut settings = fleet.server(0);
    settings.nats.server.client.port = {
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
        port.local_addr().expect("bound").port()
    };
    let buses = [
        EventBus::start(settings.clone()).await.unwrap(),
        fleet.start(1).await.unwrap(),
    ];
    everybody_hears_everybody(&buses, 5).await;
    // With the very settings of the node, though its own way to the server leads through no socket.
    let all = natterjack_bus::statuses(&settings, crate::world::DEADLINE);
    let all = within("answers", all).await.unwrap();
    let names: Vec<_> = all
        .iter()
        .map(|metrics| metrics.health.node.as_str())
        .collect();
    assert_eq!(names, ["server-0", "server-1"]);
    for metrics in &all {
        assert!(metrics.health.is_ready && metrics.health.is_healthy);
        assert_eq!(metrics.stats.published_events, 5);
        assert_eq!(metrics.latency.count(), 5);
    }
    drain_all(buses.into()).await;
    let nobody = natterjack_bus::statuses(&settings, crate::world::DEADLINE);
    let error = within("no answer", nobody).await.unwrap_err();
    assert!(
        error.to_string().contains("the server of this node"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_by_the_name_of_the_own_one_is_not_taken_for_it() {
    let named = tokio::net::lookup_host(("localhost", 0)).await;
    let first = named.expect("it is known").next().expect("an address").ip();
    let another: std::net::IpAddr = match first {
        std::net::IpAddr::V4(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let stranger = natterjack_server::Server::start(natterjack_server::Options {
        server_name: Some("stranger".into()),
        host: first.to_string(),
        port: 0,
        ..natterjack_server::Options::default()
    });
    let stranger = stranger.await.expect("it starts");
    let port = stranger.client_addr().port();

    let fleet = Fleet::new(1, false).await;
    let mut settings = fleet.server(0);
    settings.nats.server.client.host = another.to_string();
    settings.nats.server.client.port = port;
    settings.nats.client.endpoint = Some(endpoint(&format!("nats://localhost:{port}")));
    let error = within("a word", start_again(settings.clone()))
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::OtherServer { .. }), "{error}");
    let text = error.to_string();
    let said = format!("another server, `stranger`, answers at nats://localhost:{port}");
    assert!(text.contains(&said), "{text}");

    // Whoever names it by something else means it.
    let told = format!("nats://{}", std::net::SocketAddr::new(first, port));
    settings.nats.client.endpoint = Some(endpoint(&told));
    let bus = within("a start", start_again(settings))
        .await
        .expect("it may");
    within("drain", bus.drain()).await.expect("nothing is open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_process_needs_a_server_in_the_process() {
    let world = World::new(TransportKind::Local).await;
    let mut settings = world.settings("a");
    settings.transport = TransportKind::Nats;
    settings.nats.client.endpoint = Some(Endpoint::in_process());
    let refused = EventBus::<Note>::start(settings).await.err().unwrap();
    let message = refused.to_string();
    assert!(
        message.contains("inproc:") && message.contains("server.enable"),
        "{message}"
    );
}

/// What a server tells its clients of where else they could go.
async fn connect_urls(url: &str) -> Vec<String> {
    let address = endpoint(url);
    let tcp = tokio::net::TcpStream::connect((&*address.host, address.port));
    let mut info = tokio::io::BufReader::new(tcp.await.expect("it listens"));
    let mut line = String::new();
    let read = tokio::io::AsyncBufReadExt::read_line(&mut info, &mut line);
    within("a greeting", read).await.expect("it greets");
    let info: serde_json::Value =
        serde_json::from_str(line.trim_start_matches("INFO ")).expect("JSON");
    let urls = info["connect_urls"].as_array().into_iter().flatten();
    urls.filter_map(|url| url.as_str().map(str::to_owned))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_server_that_stops_move_on_in_order() {
    let fleet = Fleet::new(2, false).await;
    let mut servers = Vec::new();
    for number in 0..2 {
        let mut settings = fleet.server(number);
        // So that clients are told of it.
        settings.nats.server.client.host = "0.0.0.0".into();
        servers.push(start_again(settings).await.expect("it starts"));
    }
    let url = servers[0].server_url().expect("it embeds one");
    for server in &servers {
        within("ready", server.ready()).await;
    }
    if connect_urls(&url).await.len() < 2 {
        // Without any other address than loopback there is nowhere to go.
        return;
    }
    let client: EventBus<Note> = EventBus::start(fleet.client(0, &url)).await.unwrap();
    let (mut seen, mut events) = (client.subscribe(), servers[1].subscribe());
    within("ready", client.ready()).await;
    eventually("all are there", || servers[1].health().hosts_answering == 3).await;
    let stop = servers.swap_remove(0);
    let publish = async {
        let mut number = 0;
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        // Some before, some meanwhile, some after.
        while client.stats().moves == 0 || number < 200 {
            ticks.tick().await;
            for bus in [&client, &servers[0]] {
                bus.publish(&note(bus.name(), number)).await.unwrap();
            }
            number += 1;
        }
        number
    };
    let (stopped, count) = within("all of it", async { tokio::join!(stop.drain(), publish) }).await;
    stopped.unwrap();
    for events in [&mut seen, &mut events] {
        let all = take(events, 2 * count as usize).await;
        for publisher in ["client-0", "server-1"] {
            let theirs = all.iter().filter(|event| event.source == publisher);
            assert!(theirs.map(|event| event.data.number).eq(0..count));
        }
    }
    let stats = client.stats();
    assert_eq!(
        (stats.reconnects, stats.lost_events, stats.missed_events),
        (0, 0, 0),
        "{stats:?}"
    );
    for bus in [&client, &servers[0]] {
        within("drain", bus.drain()).await.unwrap();
    }
}
