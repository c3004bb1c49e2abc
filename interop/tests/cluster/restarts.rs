//! A server with an account on connections of its own that starts again and again.
//!
//! While it comes back, its account is told of on the connections of the pool first, and goes to its own as soon as both
//! sides know of that. Whoever is heard once must be heard from then on: every message, once, in order and at once.

use libtest_mimic::Trial;
use testkit::cluster::{Client, Cluster, Login, Plan};
use testkit::{Kind, PATIENCE};

use super::{OURS, is_full};
use crate::trial;

const A: Login = Login::user("a", "pw");
const ACCOUNTS: &str = "accounts { A { users: [ {user: a, password: pw} ] } }";

/// Published from either side as soon as one message has come across.
const MESSAGES: usize = 500;

pub(super) fn trials() -> Vec<Trial> {
    let kinds = [OURS, OURS];
    let needs = kinds.map(|kind: Kind| kind.program().map(drop));
    let name = "cluster::restarts::who_is_heard_is_heard_from_then_on".to_owned();
    vec![trial(name, needs, move || heard_from_then_on(kinds))]
}

fn heard_from_then_on(kinds: [Kind; 2]) {
    let plan = Plan::of(&kinds).logins(&[A]).server(ACCOUNTS);
    let mut cluster = plan.cluster("accounts: [A]").start();
    let restarts = if is_full() { 50 } else { 10 };
    for restart in 0..restarts {
        if restart % 2 == 0 {
            cluster.terminate(1);
        } else {
            cluster.kill(1);
        }
        cluster.start(1);
        for (from, to) in [(1, 0), (0, 1)] {
            counted(&cluster, from, to, restart);
        }
        for node in 0..2 {
            let log = cluster.server(node).log();
            let waited = log.lines().find(|line| line.contains("waited"));
            assert_eq!(waited, None, "restart {restart}, node {node}");
        }
    }
}

/// Publishes at one server what is heard at another, as soon as that is so.
fn counted(cluster: &Cluster, from: usize, to: usize, restart: usize) {
    let mut hearer = Client::connect_as(cluster.address(to), A);
    let subject = format!("counted.{restart}.{from}");
    hearer.subscribe(&subject);
    hearer.round_trip();
    cluster.wait_for_interest(from, A, &subject, true);
    let mut publisher = Client::connect_as(cluster.address(from), A);
    for number in 0..MESSAGES {
        publisher.publish(&subject, number.to_string());
        // Spread over the time that a move takes.
        publisher.round_trip();
    }
    let mut heard = Vec::new();
    while heard.len() < MESSAGES {
        let Some(message) = hearer.next_within(PATIENCE) else {
            break;
        };
        // Empty ones are questions whether somebody hears.
        heard.extend(message.text().parse::<usize>());
    }
    let expected: Vec<_> = (0..MESSAGES).collect();
    assert!(
        heard == expected,
        "restart {restart}, from {from} to {to}: {} of {MESSAGES}, the last of them {:?}",
        heard.len(),
        heard.last()
    );
}
