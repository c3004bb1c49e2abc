//! Many messages at once from every server to every server: none is lost, none comes twice, and each publisher's keep their
//! order.

use std::thread;

use testkit::Kind;
use testkit::cluster::{Client, Cluster, Plan};

use super::delivery::{complete, expect_nothing_more};
use super::{Scenario, scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("flood::each_way_in_order", each_way_in_order),
    scenario("flood::a_group_takes_each_once", a_group_takes_each_once),
];

/// What each publisher sends.
const MESSAGES: usize = 100_000;

fn each_way_in_order(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds));
    let nodes: Vec<usize> = (0..cluster.len()).collect();
    exchange(&mut cluster, &nodes, MESSAGES);
}

/// A publisher and a subscriber on each of these servers; every subscriber hears all that every publisher sends.
pub(super) fn exchange(cluster: &mut Cluster, nodes: &[usize], count: usize) {
    let mut subscribers: Vec<Client> = nodes.iter().map(|&node| cluster.client(node)).collect();
    for subscriber in &mut subscribers {
        subscriber.subscribe("flood.*");
        subscriber.round_trip();
    }
    // What is subscribed to later on the same server is known, so these are.
    cluster.wait_until_connected(nodes);
    let publishers: Vec<Client> = nodes.iter().map(|&node| cluster.client(node)).collect();
    thread::scope(|scope| {
        for (&node, mut publisher) in nodes.iter().zip(publishers) {
            scope.spawn(move || publish(&mut publisher, node, count));
        }
        for subscriber in &mut subscribers {
            scope.spawn(|| hear(subscriber, nodes, count));
        }
    });
    for subscriber in &mut subscribers {
        subscriber.round_trip();
        assert_eq!(subscriber.take_messages(), [], "more than was published");
    }
}

/// A payload says who sent it, which it is, and has bytes behind that, a different number each time.
fn payload(node: usize, number: usize) -> String {
    format!("{node}.{number}.{}", "x".repeat(number % 97))
}

fn publish(publisher: &mut Client, node: usize, count: usize) {
    let subject = format!("flood.{node}");
    for number in 0..count {
        publisher.publish(&subject, payload(node, number));
    }
    publisher.round_trip();
}

fn hear(subscriber: &mut Client, nodes: &[usize], count: usize) {
    let mut next: Vec<(String, usize, usize)> = nodes
        .iter()
        .map(|&node| (format!("flood.{node}"), node, 0))
        .collect();
    for _ in 0..nodes.len() * count {
        let message = subscriber.next_message();
        let (_, node, number) = next
            .iter_mut()
            .find(|(subject, ..)| *subject == message.subject)
            .expect("a publisher of ours");
        assert_eq!(
            message.text(),
            payload(*node, *number),
            "in the order of publishing"
        );
        *number += 1;
    }
    assert!(
        next.iter().all(|(_, _, number)| *number == count),
        "{next:?}"
    );
}

/// A member on each server, a publisher on each server, all at once.
fn a_group_takes_each_once(kinds: &[Kind]) {
    let count = MESSAGES;
    let mut cluster = complete(Plan::of(kinds));
    let mut members = cluster.clients();
    for member in &mut members {
        member.queue_subscribe("flood.*", "crew");
    }
    cluster.settle(&mut members);
    let publishers = cluster.clients();
    thread::scope(|scope| {
        for (node, mut publisher) in publishers.into_iter().enumerate() {
            scope.spawn(move || publish(&mut publisher, node, count));
        }
    });
    cluster.settle(&mut members);
    let mut seen = vec![vec![false; count]; cluster.len()];
    for member in &mut members {
        // What one member gets of one publisher keeps its order.
        let mut last = vec![None; cluster.len()];
        for message in member.take_messages() {
            let mut parts = message.text().split('.').map(str::parse::<usize>);
            let mut part = || parts.next().expect("a part").expect("a number");
            let (node, number) = (part(), part());
            assert!(
                last[node] < Some(number),
                "{number} of {node} behind {last:?}"
            );
            last[node] = Some(number);
            assert!(
                !std::mem::replace(&mut seen[node][number], true),
                "twice: {message:?}"
            );
        }
    }
    let missing = seen.iter().flatten().filter(|seen| !**seen).count();
    assert_eq!(missing, 0, "messages that came to nobody");
    expect_nothing_more(&mut cluster, &mut members);
}
