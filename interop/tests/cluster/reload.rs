//! Reloads of servers of a cluster while messages flow: an account gets connections of its own and loses them again.
//!
//! Whoever reloads first begins: it tells the other that the account moves. Between two nats-servers messages are lost
//! then, from the moment at which both forget each other's interest until it is told on the new connection. Here the same
//! is played by all kinds, and counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use testkit::Kind;
use testkit::cluster::{Client, Cluster, Login, Plan, Seeding};

use super::delivery::complete;
use super::{OURS, REAL};
use crate::trial;

const A: Login = Login::user("a", "pw");
const ACCOUNTS: &str = "accounts { A { users: [ {user: a, password: pw} ] } }";
const TOGETHER: &str = "accounts: []";
const APART: &str = "accounts: [A]";

/// Published between two round trips.
const BURST: usize = 10;

/// How long a subscriber waits for the last messages.
const REST: Duration = Duration::from_millis(500);

pub(super) fn trials() -> Vec<Trial> {
    let plays = [
        ("real_real", [REAL, REAL]),
        ("ours_real", [OURS, REAL]),
        ("real_ours", [REAL, OURS]),
        ("ours_ours", [OURS, OURS]),
    ];
    let seedings = [("all", Seeding::All), ("lower", Seeding::Lower)];
    let mut trials = Vec::new();
    for (name, kinds) in plays {
        for (seeding_name, seeding) in seedings {
            let name = format!("cluster::reload::an_account_moves::{name}::{seeding_name}");
            let needs = kinds.map(|kind| kind.program().map(drop));
            trials.push(trial(name, needs, move || an_account_moves(kinds, seeding)));
        }
    }
    trials
}

/// What came of the messages from one server to the other.
#[derive(Debug, Default)]
struct Tally {
    sent: usize,
    lost: usize,
    twice: usize,
    disordered: usize,
    /// The longest run of messages in a row that are missing.
    gap: usize,
}

impl Tally {
    fn of(sent: usize, heard: &[usize]) -> Self {
        let mut seen = vec![0_usize; sent];
        for &number in heard {
            seen[number] += 1;
        }
        let missing = seen.split(|&count| count > 0);
        Self {
            sent,
            lost: seen.iter().filter(|&&count| count == 0).count(),
            twice: seen.iter().filter(|&&count| count > 1).count(),
            disordered: heard.windows(2).filter(|pair| pair[1] < pair[0]).count(),
            gap: missing.map(<[usize]>::len).max().unwrap_or_default(),
        }
    }
}

/// One server after the other is told that the account has connections of its own, and then that it has not.
fn an_account_moves(kinds: [Kind; 2], seeding: Seeding) {
    let plan = Plan::of(&kinds).seeding(seeding).logins(&[A]);
    let mut cluster = complete(plan.server(ACCOUNTS).cluster(TOGETHER));
    for (what, from, to) in [("apart", TOGETHER, APART), ("together", APART, TOGETHER)] {
        for node in 0..cluster.len() {
            let tallies = under_load(&mut cluster, |cluster| {
                let told = cluster.reload(node, from, to);
                assert!(told.contains("Reloaded server configuration"), "{told}");
            });
            println!("{kinds:?} {seeding:?} {what} {node}: {tallies:?}");
        }
    }
}

/// From either server to the other, what became of what was published meanwhile.
fn under_load(cluster: &mut Cluster, act: impl FnOnce(&mut Cluster)) -> Vec<Tally> {
    let mut subscribers: Vec<Client> = (0..cluster.len())
        .map(|node| {
            let mut client = Client::connect_as(cluster.address(node), A);
            client.subscribe(&format!("load.{}", 1 - node));
            client.subscribe("settled.>");
            client.round_trip();
            client
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let publishers: Vec<Client> = (0..cluster.len())
        .map(|node| Client::connect_as(cluster.address(node), A))
        .collect();
    let (is_over, is_quiet) = (AtomicBool::new(false), AtomicBool::new(false));
    let (is_over, is_quiet) = (&is_over, &is_quiet);
    thread::scope(|scope| {
        let publishing: Vec<_> = publishers
            .into_iter()
            .enumerate()
            .map(|(node, mut publisher)| {
                scope.spawn(move || {
                    let subject = format!("load.{node}");
                    let mut sent = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        for number in sent..sent + BURST {
                            publisher.publish(&subject, number.to_string());
                        }
                        publisher.round_trip();
                        sent += BURST;
                    }
                    sent
                })
            })
            .collect();
        let hearing: Vec<_> = subscribers
            .iter_mut()
            .map(|subscriber| {
                scope.spawn(move || {
                    let mut heard: Vec<usize> = Vec::new();
                    loop {
                        match subscriber.next_within(REST) {
                            Some(message) => {
                                heard.push(message.text().parse().expect("a number"));
                            }
                            None if is_quiet.load(Ordering::Relaxed) => return heard,
                            None => {}
                        }
                    }
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(300));
        act(cluster);
        thread::sleep(Duration::from_millis(1500));
        is_over.store(true, Ordering::Relaxed);
        let sent: Vec<usize> = publishing
            .into_iter()
            .map(|it| it.join().expect("ok"))
            .collect();
        is_quiet.store(true, Ordering::Relaxed);
        let heard: Vec<Vec<usize>> = hearing
            .into_iter()
            .map(|it| it.join().expect("ok"))
            .collect();
        (0..sent.len())
            .map(|node| Tally::of(sent[node], &heard[1 - node]))
            .collect()
    })
}
