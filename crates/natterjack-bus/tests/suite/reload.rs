//! New settings for a node that runs.

use futures_util::FutureExt;
use natterjack_bus::settings::TransportKind;
use natterjack_bus::{EventBus, ReloadError, Reloaded, Settings};

use crate::topology::Fleet;
use crate::world::{Note, World, endpoint, eventually, within};

const ADVERTISE: &str = "eventBus.nats.server.cluster.advertise";
const ROUTES: &str = "eventBus.nats.server.cluster.routes";

/// Neither, below.
const NOTHING: [&[&str]; 2] = [&[], &[]];

/// What was taken over, and what was not.
fn told(reloaded: &Reloaded) -> [&[&'static str]; 2] {
    [&reloaded.taken, &reloaded.at_next_start]
}

#[tokio::test]
async fn a_node_that_runs_takes_over_new_routes() {
    let fleet = Fleet::new(2, true).await;
    let with_routes = fleet.server(0);
    let mut alone = with_routes.clone();
    alone.nats.server.cluster.routes.clear();
    let bus: EventBus<Note> = EventBus::start(alone.clone()).await.expect("it starts");
    // It is alone as well: only the other one's routes can bring them together.
    let mut other = fleet.server(1);
    other.nats.server.cluster.routes.clear();
    let other: EventBus<Note> = EventBus::start(other).await.expect("it starts");

    let same = bus.reload(&alone).await.expect("they are good");
    assert_eq!(told(&same), NOTHING);

    let mut new = with_routes.clone();
    new.nats.server.cluster.advertise = Some("127.0.0.1:1".into());
    new.nats.client.subject = "another".into();
    new.health.required_hosts = 2;
    let elsewhere = [
        "eventBus.nats.client.subject",
        "eventBus.health.requiredHosts",
    ];
    let reloaded = bus.reload(&new).await.expect("they are good");
    assert_eq!(told(&reloaded), [&[ADVERTISE, ROUTES], &elsewhere[..]]);
    eventually("both answer each other", || {
        bus.health().hosts_answering == 2 && other.health().hosts_answering == 2
    })
    .await;
    let server = bus.health().server.expect("it is enabled");
    assert_eq!(server.routes, 2);

    // What was taken over is in force, and what was not still is not.
    let again = bus.reload(&new).await.expect("they are good");
    assert_eq!(told(&again), [&[], &elsewhere[..]]);
    for bus in [other, bus] {
        within("drain", bus.drain()).await.expect("nothing is open");
    }
}

#[tokio::test]
async fn a_reload_that_nobody_waits_for_is_carried_out() {
    let fleet = Fleet::new(1, true).await;
    let mut settings = fleet.server(0);
    let bus: EventBus<Note> = EventBus::start(settings.clone()).await.expect("it starts");
    settings.nats.server.cluster.advertise = Some("127.0.0.1:1".into());
    // Looked at once, and then no more.
    assert!(bus.reload(&settings).now_or_never().is_none());
    let reloaded = bus.reload(&settings).await.expect("they are good");
    assert_eq!(told(&reloaded), NOTHING);
    within("drain", bus.drain()).await.expect("nothing is open");
}

#[tokio::test]
async fn settings_that_cannot_work_change_nothing() {
    let fleet = Fleet::new(1, true).await;
    let settings = fleet.server(0);
    let bus: EventBus<Note> = EventBus::start(settings.clone()).await.expect("it starts");
    let mut bad = settings.clone();
    bad.nats.server.cluster.routes = vec![endpoint("nats://127.0.0.1:1")];
    bad.nats.tls.enable = true;
    let error = bus.reload(&bad).await.expect_err("there are no files");
    assert!(matches!(error, ReloadError::Settings(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("eventBus.nats.tls.tlsCert"), "{text}");
    let reloaded = bus.reload(&settings).await.expect("they are good");
    assert_eq!(told(&reloaded), NOTHING);
    within("drain", bus.drain()).await.expect("nothing is open");
}

#[tokio::test]
async fn without_a_server_there_is_nothing_to_take_over() {
    let world = World::new(TransportKind::Local).await;
    let settings = world.settings("node");
    let bus: EventBus<Note> = EventBus::start(settings.clone()).await.expect("it starts");
    let mut new: Settings = settings;
    new.nats.server.cluster.routes = vec![endpoint("nats://127.0.0.1:1")];
    let reloaded = bus.reload(&new).await.expect("they are good");
    assert_eq!(told(&reloaded), [&[], &[ROUTES][..]]);
    within("drain", bus.drain()).await.expect("nothing is open");
}
