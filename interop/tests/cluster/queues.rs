//! Queue groups that spread over servers: one member gets each message, and no server's members are forgotten.

use std::collections::BTreeSet;

use testkit::Kind;
use testkit::cluster::{Client, Cluster, Login, Plan};

use super::delivery::{complete, expect_nothing_more};
use super::{Scenario, cycled, scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("queues::one_member_gets_each", one_member_gets_each),
    scenario(
        "queues::groups_and_plain_ones_together",
        groups_and_plain_ones_together,
    ),
    scenario(
        "queues::members_elsewhere_count_by_number",
        members_elsewhere_count_by_number,
    ),
    scenario(
        "queues::members_are_elsewhere_only",
        members_are_elsewhere_only,
    ),
    scenario(
        "queues::the_only_member_is_elsewhere",
        the_only_member_is_elsewhere,
    ),
];

const MESSAGES: usize = 3_000;

/// Two members on each server. The choice is fair between members where it is made, so each gets about the same; six times the
/// standard deviation away is left to chance once in a hundred million runs.
fn one_member_gets_each(kinds: &[Kind]) {
    const MEMBERS_PER_NODE: usize = 2;
    let mut cluster = complete(Plan::of(kinds));
    let mut members: Vec<Client> = (0..cluster.len() * MEMBERS_PER_NODE)
        .map(|at| cluster.client(at / MEMBERS_PER_NODE))
        .collect();
    for member in &mut members {
        member.queue_subscribe("work", "crew");
    }
    cluster.settle(&mut members);
    for node in 0..cluster.len() {
        let mut publisher = cluster.client(node);
        for number in 0..MESSAGES {
            publisher.publish("work", number.to_string());
        }
        publisher.round_trip();
        let shares = shares(&mut cluster, &mut members);
        let fair = fair(MESSAGES, members.len());
        assert!(
            shares.iter().all(|share| fair.contains(share)),
            "published at {node}: {shares:?}, and fair is {fair:?}"
        );
    }
}

/// How many messages each member got; all of them together got every message once.
fn shares(cluster: &mut Cluster, members: &mut [Client]) -> Vec<usize> {
    cluster.settle(&mut *members);
    let mut seen = BTreeSet::new();
    let mut shares = Vec::new();
    for member in members {
        let messages = member.take_messages();
        for message in &messages {
            let number: usize = message.text().parse().expect("a number");
            assert!(seen.insert(number), "{number} came twice");
        }
        shares.push(messages.len());
    }
    assert_eq!(seen.len(), MESSAGES, "some came to nobody: {shares:?}");
    shares
}

/// Within six standard deviations of an equal share.
fn fair(messages: usize, members: usize) -> std::ops::RangeInclusive<usize> {
    let (messages, chance) = (messages as f64, 1.0 / members as f64);
    let deviation = (messages * chance * (1.0 - chance)).sqrt();
    let (low, high) = (
        messages * chance - 6.0 * deviation,
        messages * chance + 6.0 * deviation,
    );
    low.max(1.0) as usize..=high as usize
}

/// Two groups and plain subscribers on each server, on one subject and by a wildcard: each group gets each message once, and so
/// does each plain subscriber.
fn groups_and_plain_ones_together(kinds: &[Kind]) {
    const EACH: usize = 200;
    let mut cluster = complete(Plan::of(kinds));
    let mut clients = cluster.clients();
    let mut numbers = (0, 0, 0);
    for client in &mut clients {
        numbers = (
            client.queue_subscribe("mixed.x", "one"),
            client.queue_subscribe("mixed.*", "two"),
            client.subscribe("mixed.>"),
        );
    }
    cluster.settle(&mut clients);
    for node in 0..cluster.len() {
        let mut publisher = cluster.client(node);
        for number in 0..EACH {
            publisher.publish("mixed.x", format!("{node}.{number}"));
        }
        publisher.round_trip();
    }
    cluster.settle(&mut clients);
    let all = EACH * cluster.len();
    let (mut one, mut two) = (BTreeSet::new(), BTreeSet::new());
    for client in &mut clients {
        let mut plain = BTreeSet::new();
        for message in client.take_messages() {
            let seen = match message.subscription {
                number if number == numbers.0 => &mut one,
                number if number == numbers.1 => &mut two,
                _ => &mut plain,
            };
            let text = message.text().to_owned();
            assert!(seen.insert(text), "twice: {message:?}");
        }
        assert_eq!(plain.len(), all);
    }
    assert_eq!((one.len(), two.len()), (all, all));
}

/// One member here and nine there: where the message is published makes no difference to how many each server gets.
fn members_elsewhere_count_by_number(kinds: &[Kind]) {
    const MANY: usize = 9;
    let mut cluster = complete(Plan::of(kinds));
    for (here, there) in cluster.pairs() {
        let mut members = vec![cluster.client(here)];
        members.extend((0..MANY).map(|_| cluster.client(there)));
        for member in &mut members {
            member.queue_subscribe("work", "crew");
        }
        cluster.settle(&mut members);
        let mut publisher = cluster.client(here);
        for number in 0..MESSAGES {
            publisher.publish("work", number.to_string());
        }
        publisher.round_trip();
        let shares = shares(&mut cluster, &mut members);
        let fair = fair(MESSAGES, MANY + 1);
        assert!(
            fair.contains(&shares[0]),
            "published beside the only one here: {shares:?}, and fair is {fair:?}"
        );
        // Gone before the next pair.
        drop(members);
        cluster.wait_for_interest(here, Login::default(), "work", false);
        cluster.wait_for_interest(there, Login::default(), "work", false);
    }
}

/// One member on one server and three on another, and published where there is none: each server gets about as many messages
/// as it has members; and when those three have left but one, about as many as the other.
fn members_are_elsewhere_only(kinds: &[Kind]) {
    let kinds = cycled(kinds, 3);
    let mut cluster = complete(Plan::of(&kinds));
    for at in 0..cluster.len() {
        let (few, many) = ((at + 1) % cluster.len(), (at + 2) % cluster.len());
        let mut members = vec![cluster.client(few)];
        members.extend((0..3).map(|_| cluster.client(many)));
        for member in &mut members {
            member.queue_subscribe("work", "crew");
        }
        cluster.settle(&mut members);
        for count in [4, 2] {
            for mut leaving in members.drain(count..) {
                leaving.unsubscribe(1, None);
                cluster.settle([&mut leaving]);
            }
            let mut publisher = cluster.client(at);
            for number in 0..MESSAGES {
                publisher.publish("work", number.to_string());
            }
            publisher.round_trip();
            let shares = shares(&mut cluster, &mut members);
            let fair = fair(MESSAGES, count);
            assert!(
                shares.iter().all(|share| fair.contains(share)),
                "published at {at}: {shares:?}, and fair is {fair:?}"
            );
        }
        drop(members);
        for node in 0..cluster.len() {
            cluster.wait_for_interest(node, Login::default(), "work", false);
        }
    }
}

/// A group whose members leave one after the other, each from another server: nothing is lost while one is left.
fn the_only_member_is_elsewhere(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds));
    let mut members = cluster.clients();
    for member in &mut members {
        member.queue_subscribe("work", "crew");
    }
    cluster.settle(&mut members);
    let mut publishers = cluster.clients();
    while !members.is_empty() {
        for publisher in &mut publishers {
            for number in 0..20 {
                publisher.publish("work", number.to_string());
            }
            publisher.round_trip();
        }
        cluster.settle(&mut members);
        let heard: usize = members
            .iter_mut()
            .map(|member| member.take_messages().len())
            .sum();
        assert_eq!(
            heard,
            20 * publishers.len(),
            "{} members were left",
            members.len()
        );
        let mut leaving = members.remove(0);
        leaving.unsubscribe(1, None);
        expect_nothing_more(&mut cluster, [&mut leaving]);
    }
}
