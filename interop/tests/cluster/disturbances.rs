//! Servers that are killed, frozen or cut off, and come back: what the others have among themselves goes on, and afterwards
//! everything is as before without anybody's help.

use std::thread;

use testkit::Kind;
use testkit::cluster::{Client, Cluster, Login, Plan};

use super::delivery::{complete, expect_nothing_more};
use super::flood::exchange;
use super::{Scenario, cycled, modern, scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        "disturbances::one_is_killed_and_comes_back",
        one_is_killed_and_comes_back,
    ),
    scenario(
        "disturbances::one_is_killed_while_others_talk",
        one_is_killed_while_others_talk,
    ),
    scenario(
        "disturbances::one_freezes_for_a_moment",
        one_freezes_for_a_moment,
    ),
    modern(
        "disturbances::one_freezes_until_it_is_given_up",
        one_freezes_until_it_is_given_up,
    ),
    scenario(
        "disturbances::two_are_cut_off_from_each_other",
        two_are_cut_off_from_each_other,
    ),
    scenario(
        "disturbances::one_is_cut_off_from_all",
        one_is_cut_off_from_all,
    ),
    scenario(
        "disturbances::a_wire_is_silent_for_a_moment",
        a_wire_is_silent_for_a_moment,
    ),
    scenario(
        "disturbances::one_after_the_other_becomes_another",
        one_after_the_other_becomes_another,
    ),
];

const MESSAGES: usize = 500;
const NOBODY: Login = Login { user: None };

fn all(cluster: &Cluster) -> Vec<usize> {
    (0..cluster.len()).collect()
}

/// A client on each server that hears `kept.<its server>`, plainly and in a group.
fn kept(cluster: &mut Cluster) -> Vec<Client> {
    let mut clients = cluster.clients();
    for (node, client) in clients.iter_mut().enumerate() {
        client.subscribe(&format!("kept.{node}"));
        client.queue_subscribe("kept.group", "crew");
    }
    cluster.settle(&mut clients);
    clients
}

/// Everything kept is heard from everywhere: exactly once each, whatever happened before.
fn expect_kept(cluster: &mut Cluster, clients: &mut [Client]) {
    for (from, to) in cluster.pairs() {
        cluster.wait_for_interest(from, NOBODY, &format!("kept.{to}"), true);
    }
    cluster.settle(&mut *clients);
    for client in &mut *clients {
        // Of asking.
        client.take_messages();
    }
    for (from, to) in cluster.pairs() {
        let mut publisher = cluster.client(from);
        publisher.publish(&format!("kept.{to}"), from.to_string());
        publisher.round_trip();
        assert_eq!(clients[to].next_message().text(), from.to_string());
    }
    let mut publisher = cluster.client(0);
    for number in 0..MESSAGES {
        publisher.publish("kept.group", number.to_string());
    }
    publisher.round_trip();
    cluster.settle(&mut *clients);
    let heard: usize = clients
        .iter_mut()
        .map(|client| client.take_messages().len())
        .sum();
    assert_eq!(heard, MESSAGES, "of the group");
}

fn one_is_killed_and_comes_back(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds));
    let mut clients = kept(&mut cluster);
    for node in 0..cluster.len() {
        cluster.kill(node);
        let left: Vec<usize> = cluster.others(node).collect();
        for &other in &left {
            cluster.wait_for_interest(other, NOBODY, &format!("kept.{node}"), false);
        }
        exchange(&mut cluster, &left, MESSAGES);
        clients[node].expect_closed();

        cluster.start(node);
        cluster.wait_until_complete();
        clients[node] = cluster.client(node);
        clients[node].subscribe(&format!("kept.{node}"));
        clients[node].queue_subscribe("kept.group", "crew");
        cluster.settle([&mut clients[node]]);
        expect_kept(&mut cluster, &mut clients);
    }
}

/// A third server comes and goes while two talk; they notice nothing.
fn one_is_killed_while_others_talk(kinds: &[Kind]) {
    const ROUNDS: usize = 2;
    let mut cluster = complete(Plan::of(&cycled(kinds, 3)));
    let mut subscriber = cluster.client(1);
    subscriber.subscribe("talk");
    cluster.settle([&mut subscriber]);
    let mut publisher = cluster.client(0);
    let (said, heard) = thread::scope(|scope| {
        let (stop, is_over) = std::sync::mpsc::channel::<()>();
        let talking = scope.spawn(move || {
            let mut said = 0;
            // Until the other side hangs up, which is how it says that it is over.
            while is_over.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                for _ in 0..100 {
                    publisher.publish("talk", said.to_string());
                    said += 1;
                }
                publisher.round_trip();
            }
            publisher.publish("talk", "over");
            publisher.round_trip();
            said
        });
        let hearing = scope.spawn(move || {
            let mut heard = 0;
            loop {
                let message = subscriber.next_message();
                if message.text() == "over" {
                    return heard;
                }
                assert_eq!(
                    message.text(),
                    heard.to_string(),
                    "in the order of publishing"
                );
                heard += 1;
            }
        });
        for _ in 0..ROUNDS {
            cluster.kill(2);
            cluster.start(2);
            cluster.wait_until_complete();
        }
        drop(stop);
        (joined(talking), joined(hearing))
    });
    assert_eq!(said, heard);
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Shorter than anybody's patience: what was published for it meanwhile comes when it goes on.
fn one_freezes_for_a_moment(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds));
    let mut clients = kept(&mut cluster);
    for node in 0..cluster.len() {
        cluster.freeze(node);
        let left: Vec<usize> = cluster.others(node).collect();
        for &other in &left {
            let mut publisher = cluster.client(other);
            for number in 0..MESSAGES {
                publisher.publish(&format!("kept.{node}"), format!("{other}.{number}"));
            }
            publisher.round_trip();
        }
        // Not more than there is room for in sockets: the frozen one reads nothing.
        exchange(&mut cluster, &left, MESSAGES);
        cluster.thaw(node);
        let mut next = vec![0; cluster.len()];
        for _ in 0..left.len() * MESSAGES {
            let message = clients[node].next_message();
            let (from, number) = message.text().split_once('.').expect("two numbers");
            let from: usize = from.parse().expect("a number");
            assert_eq!(number, next[from].to_string(), "of {from}");
            next[from] += 1;
        }
        expect_nothing_more(&mut cluster, &mut clients);
    }
}

/// The others find that it does not answer and forget it; when it goes on, all find each other again.
fn one_freezes_until_it_is_given_up(kinds: &[Kind]) {
    let plan = Plan::of(kinds).cluster("ping_interval: 250ms\nping_max: 2");
    let mut cluster = complete(plan);
    let mut clients = kept(&mut cluster);
    for node in one_of_each(kinds) {
        cluster.freeze(node);
        for other in cluster.others(node) {
            cluster.wait_for_interest(other, NOBODY, &format!("kept.{node}"), false);
            if kinds[other] == Kind::Natterjack {
                let what =
                    "PING was not answered in time: the other server is paused, overloaded or gone";
                let line = cluster.server(other).wait_for_log(what);
                assert!(
                    line.contains("[WRN]") && line.contains(" - Remote: "),
                    "{line}"
                );
            }
        }
        cluster.thaw(node);
        cluster.wait_until_complete();
        expect_kept(&mut cluster, &mut clients);
    }
}

/// The last server of each kind.
pub(super) fn one_of_each(kinds: &[Kind]) -> Vec<usize> {
    let is_last = |node: &usize| !kinds[node + 1..].contains(&kinds[*node]);
    (0..kinds.len()).filter(is_last).collect()
}

/// Only the two: a third still reaches both, and does not pass anything on.
fn two_are_cut_off_from_each_other(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds).proxied());
    let mut clients = kept(&mut cluster);
    let (one, other) = (0, cluster.len() - 1);
    cluster.wire(one, other).cut();
    cluster.wait_for_interest(one, NOBODY, &format!("kept.{other}"), false);
    cluster.wait_for_interest(other, NOBODY, &format!("kept.{one}"), false);
    for third in 1..other {
        exchange(&mut cluster, &[one, third], MESSAGES);
        exchange(&mut cluster, &[third, other], MESSAGES);
    }
    cluster.wire(one, other).heal();
    cluster.wait_until_complete();
    expect_kept(&mut cluster, &mut clients);
}

fn one_is_cut_off_from_all(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds).proxied());
    let mut clients = kept(&mut cluster);
    for node in 0..cluster.len() {
        for wire in cluster.wires_of(node) {
            wire.cut();
        }
        let left: Vec<usize> = cluster.others(node).collect();
        for &other in &left {
            cluster.wait_for_interest(other, NOBODY, &format!("kept.{node}"), false);
            cluster.wait_for_interest(node, NOBODY, &format!("kept.{other}"), false);
        }
        exchange(&mut cluster, &left, MESSAGES);
        exchange(&mut cluster, &[node], MESSAGES);
        for wire in cluster.wires_of(node) {
            wire.heal();
        }
        cluster.wait_until_complete();
        expect_kept(&mut cluster, &mut clients);
    }
}

/// Packets are lost and sent again: nothing is lost, nothing comes twice, and nobody is given up.
fn a_wire_is_silent_for_a_moment(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds).proxied());
    let (one, other) = (0, cluster.len() - 1);
    let mut clients = kept(&mut cluster);
    cluster.wire(one, other).hold();
    for (from, to) in [(one, other), (other, one)] {
        let mut publisher = cluster.client(from);
        for number in 0..MESSAGES {
            publisher.publish(&format!("kept.{to}"), number.to_string());
        }
        publisher.round_trip();
    }
    for third in 1..other {
        exchange(&mut cluster, &[one, third], MESSAGES);
    }
    for node in [one, other] {
        clients[node].round_trip();
        assert_eq!(clients[node].take_messages(), [], "nothing passes");
    }
    cluster.wire(one, other).heal();
    for node in [one, other] {
        for number in 0..MESSAGES {
            assert_eq!(clients[node].next_message().text(), number.to_string());
        }
    }
    expect_nothing_more(&mut cluster, &mut clients);
}

/// A cluster of the first kind becomes, server by server, one of the mixed kinds; at each step it works, with what was there
/// before.
fn one_after_the_other_becomes_another(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(&vec![kinds[0]; kinds.len()]));
    let mut clients = kept(&mut cluster);
    for (node, kind) in kinds.iter().copied().enumerate().rev() {
        cluster.become_another(node, kind);
        cluster.wait_until_complete();
        clients[node] = cluster.client(node);
        clients[node].subscribe(&format!("kept.{node}"));
        clients[node].queue_subscribe("kept.group", "crew");
        cluster.settle([&mut clients[node]]);
        expect_kept(&mut cluster, &mut clients);
        let everywhere = all(&cluster);
        exchange(&mut cluster, &everywhere, MESSAGES);
    }
}
