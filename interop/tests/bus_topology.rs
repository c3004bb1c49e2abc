//! The event bus and real servers: nodes that are clients of a cluster of them, and nodes whose embedded server is a member
//! of one. The same is expected of a cluster of ours.

use std::time::Duration;

use futures_util::StreamExt as _;
use libtest_mimic::Trial;
use natterjack_bus::settings::{Endpoint, Server, TransportKind};
use natterjack_bus::{EventBus, EventStream, Settings};
use testkit::Kind;
use testkit::cluster::{Cluster, Plan};

use crate::trial;

/// No wait takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// What each node publishes.
const EVENTS: u64 = 200;

type Play = fn(&'static [Kind]);

const SCENARIOS: &[(&str, Play)] = &[
    ("nodes_of_a_cluster_hear_each_other", nodes_of_a_cluster),
    ("embedded_servers_join_a_cluster", embedded_servers_join),
    ("a_node_goes_on_at_another_server", a_node_goes_on),
];

const MIXES: &[(&str, &[Kind])] = &[
    (
        "real",
        &[Kind::NatsServer, Kind::NatsServer, Kind::NatsServer],
    ),
    ("real_old", &[Kind::NatsServer, Kind::OldNatsServer]),
    (
        "ours",
        &[Kind::Natterjack, Kind::Natterjack, Kind::Natterjack],
    ),
    ("ours_real", &[Kind::Natterjack, Kind::NatsServer]),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (scenario, play) in SCENARIOS.iter().copied() {
        for (mix, kinds) in MIXES.iter().copied() {
            let name = format!("bus_topology::{scenario}::{mix}");
            let needs = kinds.iter().map(|kind| kind.program().map(drop));
            trials.push(trial(name, needs, move || play(kinds)));
        }
    }
    trials
}

fn cluster(kinds: &[Kind]) -> Cluster {
    let mut cluster = Plan::of(kinds).start();
    cluster.wait_until_complete();
    cluster
}

pub(crate) fn run(play: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(play);
}

fn endpoint(scheme: &str, address: std::net::SocketAddr) -> Endpoint {
    Endpoint {
        scheme: scheme.into(),
        host: address.ip().to_string(),
        port: address.port(),
    }
}

fn node(name: &str) -> Settings {
    let mut settings = Settings {
        transport: TransportKind::Nats,
        ..Settings::default()
    };
    settings.nats.client.name = name.into();
    settings.nats.client.subject = "interop.bus".into();
    settings
}

/// A client of one of the servers.
pub(crate) fn client(cluster: &Cluster, server: usize) -> Settings {
    let mut settings = node(&format!("client-{server}"));
    settings.nats.client.endpoint = Some(endpoint("nats", cluster.address(server)));
    settings
}

/// A node whose server dials all of them.
fn member(cluster: &Cluster, number: usize) -> Settings {
    let name = format!("member-{number}");
    let mut settings = node(&name);
    settings.nats.client.endpoint = Some(Endpoint::in_process());
    settings.nats.server = Server::on_free_ports();
    settings.nats.server.name = name;
    let routes = &mut settings.nats.server.cluster;
    routes.name = "mesh".into();
    routes.routes = (0..cluster.len())
        .map(|server| endpoint("nats", cluster.route_address(server)))
        .collect();
    settings
}

pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("`{what}` did not happen within {DEADLINE:?}"),
    }
}

pub(crate) type Bus = EventBus<u64>;

pub(crate) async fn start(all: Vec<Settings>) -> Vec<(Bus, EventStream<u64>)> {
    let mut buses = Vec::new();
    for settings in all {
        let bus = Bus::start(settings).await.expect("the bus starts");
        let events = bus.subscribe();
        buses.push((bus, events));
    }
    for (bus, _) in &buses {
        within("ready", bus.ready()).await;
    }
    buses
}

/// Each publishes, and gets exactly what all have published, in their orders.
async fn talk(buses: &mut [(Bus, EventStream<u64>)]) {
    for number in 0..EVENTS {
        for (bus, _) in &*buses {
            bus.publish(&number).await.expect("published");
        }
    }
    let names: Vec<_> = buses.iter().map(|(bus, _)| bus.name().to_owned()).collect();
    for (reader, events) in buses {
        let count = names.len() * EVENTS as usize;
        let received: Vec<_> = within("events", events.take(count).collect()).await;
        for writer in &names {
            let theirs = received.iter().filter(|event| event.source == *writer);
            assert!(
                theirs.map(|event| event.data).eq(0..EVENTS),
                "{writer} at {}",
                reader.name()
            );
        }
        // Answers to questions about health travel beside the events.
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        within("answers of all", async {
            while reader.health().hosts_answering != names.len() as u64 {
                looks.tick().await;
            }
        })
        .await;
    }
}

async fn drain(buses: Vec<(Bus, EventStream<u64>)>) {
    for (bus, mut events) in buses {
        within("drain", bus.drain())
            .await
            .expect("all is delivered");
        assert!(within("end", events.next()).await.is_none(), "nothing more");
    }
}

fn nodes_of_a_cluster(kinds: &[Kind]) {
    let cluster = cluster(kinds);
    run(async {
        let nodes = (0..cluster.len()).map(|server| client(&cluster, server));
        let mut buses = start(nodes.collect()).await;
        talk(&mut buses).await;
        drain(buses).await;
    });
}

fn embedded_servers_join(kinds: &[Kind]) {
    let cluster = cluster(kinds);
    run(async {
        let mut nodes: Vec<_> = (0..2).map(|number| member(&cluster, number)).collect();
        nodes.extend((0..cluster.len()).map(|server| client(&cluster, server)));
        let mut buses = start(nodes).await;
        talk(&mut buses).await;
        let server = buses[0].0.health().server.expect("it embeds one");
        // The other member is learnt of from the cluster.
        assert_eq!(server.peers.len(), cluster.len() + 1, "{server:?}");
        drain(buses).await;
    });
}

fn a_node_goes_on(kinds: &[Kind]) {
    let mut cluster = cluster(kinds);
    run(async {
        let nodes = vec![client(&cluster, 0), client(&cluster, 1)];
        let mut buses = start(nodes).await;
        talk(&mut buses).await;
        // Its server dies; the others were named to it.
        cluster.kill(0);
        let mut faults = buses[0].0.faults();
        let link = async {
            let is_back = |bus: &Bus| bus.stats().reconnects > 0;
            while !is_back(&buses[0].0) {
                within("a fault", faults.next()).await.expect("it says so");
            }
        };
        within("another server", link).await;
        within("ready", buses[0].0.ready()).await;
        talk(&mut buses).await;
        drain(buses).await;
    });
}
