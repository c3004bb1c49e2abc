//! What clients learn of the cluster: servers that join, leave, or are about to leave; and that they fail over with it.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::{ConnectOptions, Event};
use futures_util::StreamExt;
use serde_json::Value;
use testkit::cluster::{Client, Cluster, HeldPort, Login, Plan, Seeding};
use testkit::{Kind, PATIENCE, Signal, ask_until};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::delivery::complete;
use super::{Scenario, cycled, scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        "learning::who_joins_and_who_leaves",
        who_joins_and_who_leaves,
    ),
    scenario("learning::who_is_about_to_leave", who_is_about_to_leave),
    scenario(
        "learning::who_does_not_want_to_be_known",
        who_does_not_want_to_be_known,
    ),
    scenario(
        "learning::addresses_that_clients_are_to_use",
        addresses_that_clients_are_to_use,
    ),
    scenario(
        "learning::addresses_that_servers_are_to_use",
        addresses_that_servers_are_to_use,
    ),
    scenario("learning::clients_fail_over", clients_fail_over),
];

fn who_joins_and_who_leaves(kinds: &[Kind]) {
    let last = kinds.len() - 1;
    let mut cluster = Plan::of(kinds).prepare();
    for node in 0..last {
        cluster.start(node);
    }
    let all: Vec<usize> = (0..=last).collect();
    let mut clients: Vec<Client> = (0..last).map(|node| cluster.client(node)).collect();
    for round in 0..2 {
        for client in &mut clients {
            wait_for_urls(client, &cluster, &all[..last]);
        }
        cluster.start(last);
        for client in &mut clients {
            wait_for_urls(client, &cluster, &all);
        }
        // Who comes later learns it at once.
        wait_for_urls(&mut cluster.client(last), &cluster, &all);
        if round == 0 {
            cluster.kill(last);
        } else {
            cluster.terminate(last);
        }
        for client in &mut clients {
            wait_for_urls(client, &cluster, &all[..last]);
        }
    }
}

/// Lame duck mode: its own clients are told that they should go, those of others that there is one fewer.
fn who_is_about_to_leave(kinds: &[Kind]) {
    let all: Vec<usize> = (0..kinds.len()).collect();
    for (leaving, _) in kinds.iter().enumerate() {
        let mut cluster = complete(Plan::of(kinds));
        let mut clients = cluster.clients();
        for client in &mut clients {
            wait_for_urls(client, &cluster, &all);
        }
        cluster.server(leaving).signal(Signal::User2);
        let left: Vec<usize> = cluster.others(leaving).collect();
        for (node, client) in clients.iter_mut().enumerate() {
            if node == leaving {
                let others = left.iter().map(|&node| cluster.address(node).to_string());
                let others: BTreeSet<String> = others.collect();
                client.wait_for_info(|info| info["ldm"] == true && urls(info) == others);
            } else {
                wait_for_urls(client, &cluster, &left);
            }
        }
        // It still serves who is there.
        let mut subscriber = clients.swap_remove(leaving);
        subscriber.subscribe("still.here");
        cluster.settle([&mut subscriber]);
        let mut publisher = cluster.client(left[0]);
        publisher.publish("still.here", "yes");
        publisher.flush();
        assert_eq!(subscriber.next_message().text(), "yes");
    }
}

fn who_does_not_want_to_be_known(kinds: &[Kind]) {
    let shy = kinds.len() - 1;
    let mut cluster = complete(Plan::of(kinds).cluster_of(shy, "no_advertise: true"));
    let known: Vec<usize> = cluster.others(shy).collect();
    for &node in &known {
        wait_for_urls(&mut cluster.client(node), &cluster, &known);
    }
    // One more change that all are told of: the shy one is not in it either.
    cluster.terminate(shy);
    cluster.start(shy);
    cluster.wait_until_complete();
    for &node in &known {
        let info = cluster.client(node).next_info();
        assert!(
            !urls(&info).contains(&cluster.address(shy).to_string()),
            "{info}"
        );
    }
}

/// A server says by which address clients reach it: all clients are told that one and not the other.
fn addresses_that_clients_are_to_use(kinds: &[Kind]) {
    const PUBLIC: &str = "nats.example.net:4321";
    let last = kinds.len() - 1;
    let plan = Plan::of(kinds).server_of(last, &format!("client_advertise: \"{PUBLIC}\""));
    let mut cluster = complete(plan);
    for round in 0..2 {
        for node in 0..last {
            let mut client = cluster.client(node);
            let own = cluster.address(node).to_string();
            client.wait_for_info(|info| {
                let mut told = urls(info);
                told.remove(&own);
                let others = (0..last).filter(|&other| other != node);
                let others = others.map(|other| cluster.address(other).to_string());
                told == others.chain([PUBLIC.to_owned()]).collect()
            });
        }
        if round == 0 {
            let mut client = cluster.client(0);
            cluster.terminate(last);
            client.wait_for_info(|info| !urls(info).contains(PUBLIC));
            cluster.start(last);
            cluster.wait_until_complete();
        }
    }
}

/// Servers say by which address others reach them: who learns of them goes there, and nowhere else.
fn addresses_that_servers_are_to_use(kinds: &[Kind]) {
    let kinds = cycled(kinds, 3);
    // Nobody listens there, so that it shows.
    let nowhere: Vec<HeldPort> = (0..2).map(|_| HeldPort::take()).collect();
    let plan = Plan::of(&kinds).seeding(Seeding::First);
    let plan = (1..).zip(&nowhere).fold(plan, |plan, (node, port)| {
        plan.cluster_of(node, &format!("advertise: \"{}\"", port.address()))
    });
    let mut cluster = plan.start();
    cluster.wait_until_connected(&[0, 1]);
    cluster.wait_until_connected(&[0, 2]);
    let is_dialled = ask_until(PATIENCE, || {
        let dials = |from: usize, to: &HeldPort| {
            let log = cluster.server(from).log();
            let mut failed = log
                .lines()
                .filter(|line| line.contains("Error trying to connect to route"));
            failed.any(|line| line.contains(&to.address().to_string()))
        };
        (dials(1, &nowhere[1]) || dials(2, &nowhere[0])).then_some(())
    });
    assert!(is_dialled.is_some(), "nobody went where it was told to");
    let mut client = cluster.client(1);
    client.subscribe("unreachable");
    client.round_trip();
    cluster.wait_for_interest(0, Login::default(), "unreachable", true);
    assert!(!cluster.client(2).is_heard("unreachable", b""));
}

/// The server of a client with a hundred subscriptions is killed: the client goes to another one, and hears on each what is
/// published on any.
fn clients_fail_over(kinds: &[Kind]) {
    let all: Vec<usize> = (0..kinds.len()).collect();
    for (home, _) in kinds.iter().enumerate() {
        let mut cluster = complete(Plan::of(kinds));
        wait_for_urls(&mut cluster.client(home), &cluster, &all);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime needs only memory and an epoll");
        runtime.block_on(fail_over(&mut cluster, home));
    }
}

async fn fail_over(cluster: &mut Cluster, home: usize) {
    const SUBSCRIPTIONS: usize = 100;
    let (events, mut happened) = mpsc::unbounded_channel();
    let client = ConnectOptions::new()
        .connection_timeout(PATIENCE)
        .reconnect_delay_callback(|_| Duration::from_millis(20))
        .event_callback(move |event| {
            let events = events.clone();
            async move {
                // Nobody listens any more once the test is over.
                let _ = events.send(event);
            }
        })
        .connect(format!("nats://{}", cluster.address(home)))
        .await
        .expect("the server accepts");
    let mut subscriptions = Vec::new();
    for number in 0..SUBSCRIPTIONS {
        let subscription = client.subscribe(format!("kept.{number}")).await;
        subscriptions.push(subscription.expect("accepted"));
    }
    let id = client.server_info().server_id;
    cluster.kill(home);
    let back = async {
        while let Some(event) = happened.recv().await {
            if event == Event::Connected && client.server_info().server_id != id {
                return;
            }
        }
        panic!("the client gave up");
    };
    timeout(PATIENCE, back)
        .await
        .expect("it finds another server in time");

    // The client repeats its subscriptions in no order, and then makes this one.
    let _mark = client.subscribe("mark").await.expect("accepted");
    client.flush().await.expect("connected");
    let left: Vec<usize> = cluster.others(home).collect();
    for &node in &left {
        cluster.wait_for_interest(node, Login::default(), "mark", true);
        let mut publisher = cluster.client(node);
        for number in 0..SUBSCRIPTIONS {
            publisher.publish(&format!("kept.{number}"), node.to_string());
        }
        publisher.round_trip();
    }
    for subscription in &mut subscriptions {
        let mut heard = BTreeSet::new();
        while heard.len() < left.len() {
            let message = timeout(PATIENCE, subscription.next()).await;
            let message = message.expect("in time").expect("still subscribed");
            // Empty ones are from asking whether somebody hears.
            if !message.payload.is_empty() {
                assert!(heard.insert(message.payload.clone()), "twice: {message:?}");
            }
        }
    }
}

/// Waits until the client has been told that exactly these servers are there. Whether its own is named where there is no other
/// is left open.
#[track_caller]
pub(super) fn wait_for_urls(client: &mut Client, cluster: &Cluster, nodes: &[usize]) {
    let own = client.address().to_string();
    let wanted = nodes.iter().map(|&node| cluster.address(node).to_string());
    let wanted: BTreeSet<String> = wanted.filter(|address| *address != own).collect();
    client.wait_for_info(|info| {
        let mut told = urls(info);
        let is_own_told = told.remove(&own);
        told == wanted && (is_own_told || wanted.is_empty())
    });
}

fn urls(info: &Value) -> BTreeSet<String> {
    let urls = info["connect_urls"].as_array().into_iter().flatten();
    urls.filter_map(Value::as_str).map(str::to_owned).collect()
}
