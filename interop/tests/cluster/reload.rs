//! Reloads of servers of a cluster while messages flow: an account gets connections of its own and loses them again.
//!
//! Whoever reloads first begins: it tells the other that the account moves. Between two nats-servers messages are lost
//! then, from the moment at which both forget each other's interest until it is told on the new connection; if nobody is
//! told to dial, and whenever the account is to share connections again, until the other one is reloaded as well. The same
//! is played here by all kinds, and counted; `NATTERJACK_FULL` shows the figures.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use testkit::cluster::{Client, Cluster, Login, Plan, Seeding};
use testkit::{Kind, PATIENCE, ask_until};

use super::delivery::complete;
use super::{OURS, REAL, is_full};
use crate::trial;

const A: Login = Login::user("a", "pw");
const ACCOUNTS: &str = "accounts { A { users: [ {user: a, password: pw} ] } }";
const TOGETHER: &str = "accounts: []";
const APART: &str = "accounts: [A]";

/// Published between two round trips.
const BURST: usize = 10;

/// Published by each at least while nothing else happens.
const A_WHILE: usize = 10_000;

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
            trials.push(trial(name, needs, move || {
                an_account_moves(kinds, seeding);
            }));
        }
    }
    trials
}

/// One server after the other is told that the account has connections of its own, and then that it has not.
fn an_account_moves(kinds: [Kind; 2], seeding: Seeding) {
    let plan = Plan::of(&kinds).seeding(seeding).logins(&[A]);
    let mut cluster = complete(plan.server(ACCOUNTS).cluster(TOGETHER));
    let steps = [
        ("apart", TOGETHER, APART, 0),
        ("apart", TOGETHER, APART, 1),
        ("together", APART, TOGETHER, 0),
        ("together", APART, TOGETHER, 1),
    ];
    let tallies = under_load(&mut cluster, |cluster, load| {
        for (_, from, to, node) in steps {
            let told = cluster.reload(node, from, to);
            assert!(told.contains("Reloaded server configuration"), "{told}");
            if node == 1 {
                // Nothing may be missing when both have been told.
                cluster.wait_until_complete();
            }
            load.goes_on();
            load.mark();
        }
        load.goes_on();
    });
    let names = steps.map(|(what, _, _, node)| format!("{what} {node}"));
    let names = names.iter().map(String::as_str).chain(["afterwards"]);
    for (name, tallies) in names.zip(&tallies) {
        for (from, tally) in tallies.iter().enumerate() {
            let what = format!("{name}, from {from} of {kinds:?}, {seeding:?}: {tally:?}");
            if is_full() {
                figure(&what);
            }
            if name == "afterwards" {
                assert_eq!(tally.lost, 0, "{what}");
            }
            if kinds == [REAL, REAL] {
                continue;
            }
            assert_eq!(tally.twice, 0, "{what}");
            // nats-server sends on the new connection while what it sent on the old one may not be read yet: it does not
            // say how far it has come, so that the reader could wait.
            if kinds[from] == OURS || name == "afterwards" {
                assert_eq!(tally.disordered, 0, "{what}");
            }
            let keeps_all = kinds == [OURS, OURS]
                || kinds[from] == OURS && (name.starts_with("apart") || name == "afterwards");
            if keeps_all {
                assert_eq!(tally.lost, 0, "{what}");
            }
            if name.starts_with("apart") {
                assert!(tally.lost * 2 < tally.sent, "{what}");
            }
        }
    }
}

/// What came of the messages from one server to the other.
#[derive(Debug)]
struct Tally {
    sent: usize,
    lost: usize,
    twice: usize,
    disordered: usize,
}

/// From either server to the other, and at any time.
struct Load<'run> {
    sent: &'run [AtomicUsize; 2],
    marks: Vec<[usize; 2]>,
}

impl Load<'_> {
    /// Waits until either publisher has published for a while.
    fn goes_on(&self) {
        let before = self.now();
        let went_on = ask_until(PATIENCE, || {
            let now = self.now();
            (0..2)
                .all(|node| now[node] >= before[node] + A_WHILE)
                .then_some(())
        });
        assert!(went_on.is_some(), "publishers are held up");
    }

    /// What is published from now on is counted apart.
    fn mark(&mut self) {
        self.marks.push(self.now());
    }

    fn now(&self) -> [usize; 2] {
        [0, 1].map(|node| self.sent[node].load(Ordering::Relaxed))
    }
}

/// What became of what was published meanwhile, from mark to mark, and in each case from both servers.
/// For a person who asked for all.
#[expect(
    clippy::print_stdout,
    reason = "the figures are what a long run is for"
)]
fn figure(what: &str) {
    println!("{what}");
}

fn under_load(
    cluster: &mut Cluster,
    act: impl FnOnce(&mut Cluster, &mut Load<'_>),
) -> Vec<[Tally; 2]> {
    let mut subscribers: Vec<Client> = (0..2)
        .map(|node| {
            let mut client = Client::connect_as(cluster.address(node), A);
            client.subscribe(&format!("load.{}.>", 1 - node));
            client
        })
        .collect();
    cluster.settle(&mut subscribers);
    let publishers = [0, 1].map(|node| Client::connect_as(cluster.address(node), A));
    let (is_over, is_quiet) = (AtomicBool::new(false), AtomicBool::new(false));
    let (is_over, is_quiet) = (&is_over, &is_quiet);
    let sent = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let mut load = Load {
        sent: &sent,
        marks: vec![[0, 0]],
    };
    let heard: Vec<Vec<usize>> = thread::scope(|scope| {
        let publishing: Vec<_> = publishers
            .into_iter()
            .enumerate()
            .map(|(node, publisher)| {
                let sent = &sent[node];
                scope.spawn(move || publish(publisher, node, sent, is_over))
            })
            .collect();
        let hearing: Vec<_> = subscribers
            .iter_mut()
            .map(|subscriber| scope.spawn(|| hear(subscriber, is_quiet)))
            .collect();
        // Ended also when this fails, or it would go on for ever.
        let (over, quiet) = (OnDrop(is_over), OnDrop(is_quiet));
        act(cluster, &mut load);
        drop(over);
        publishing.into_iter().for_each(joined);
        drop(quiet);
        hearing.into_iter().map(joined).collect()
    });
    load.mark();
    let phases = load.marks.windows(2);
    phases
        .map(|phase| {
            [0, 1].map(|node| {
                let (first, end) = (phase[0][node], phase[1][node]);
                tally(first..end, &heard[1 - node])
            })
        })
        .collect()
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

struct OnDrop<'flag>(&'flag AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Numbers, on ever other subjects: order is that of the publisher, whatever the subject.
fn publish(mut publisher: Client, node: usize, sent: &AtomicUsize, is_over: &AtomicBool) {
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            publisher.publish(&format!("load.{node}.{}", number % 7), number.to_string());
            number += 1;
        }
        publisher.round_trip();
        sent.store(number, Ordering::Relaxed);
    }
}

fn hear(subscriber: &mut Client, is_quiet: &AtomicBool) -> Vec<usize> {
    let mut heard = Vec::new();
    loop {
        match subscriber.next_within(REST) {
            Some(message) => heard.push(message.text().parse().expect("a number")),
            None if is_quiet.load(Ordering::Relaxed) => return heard,
            None => {}
        }
    }
}

fn tally(sent: std::ops::Range<usize>, heard: &[usize]) -> Tally {
    let heard = heard.iter().filter(|number| sent.contains(number));
    let heard: Vec<usize> = heard.copied().collect();
    let mut times = vec![0_usize; sent.len()];
    for number in &heard {
        times[number - sent.start] += 1;
    }
    Tally {
        sent: sent.len(),
        lost: times.iter().filter(|&&count| count == 0).count(),
        twice: times.iter().filter(|&&count| count > 1).count(),
        disordered: heard.windows(2).filter(|pair| pair[1] < pair[0]).count(),
    }
}
