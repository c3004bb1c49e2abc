//! Settings of a cluster that are changed by a reload: taken or refused as nats-server does, and the same connections
//! with the other server are closed, or stay.

use std::collections::BTreeSet;
use std::time::Duration;

use libtest_mimic::Trial;
use testkit::cluster::{Login, Plan};
use testkit::{Kind, ask_until};

use super::delivery::complete;
use super::{OURS, REAL};
use crate::trial;

const A: Login = Login::user("a", "pw");

/// Outside of the block `cluster`, and inside of it.
const SERVER: &str = "accounts {
  A { users: [ {user: a, password: pw} ] }
  S { users: [ {user: s, password: pw} ] }
  T { users: [ {user: t, password: pw} ] }
}
system_account: S";
const CLUSTER: &str = "pool_size: 3
accounts: []
compression: accept";

/// How long connections may take to be closed, or made anew.
const SETTLING: Duration = Duration::from_secs(15);

/// A text of the first server's configuration, and what is to be there instead.
struct Change {
    name: &'static str,
    from: &'static str,
    to: &'static str,
}

const fn change(name: &'static str, from: &'static str, to: &'static str) -> Change {
    Change { name, from, to }
}

const CHANGES: &[Change] = &[
    change("nothing", "system_account: S", "system_account: S"),
    change(
        "system_account_other",
        "system_account: S",
        "system_account: T",
    ),
    change("system_account_gone", "system_account: S", ""),
    change(
        "account_added",
        "T { users: [ {user: t, password: pw} ] }",
        "T { users: [ {user: t, password: pw} ] }, B { users: [ {user: b, password: pw} ] }",
    ),
    change(
        "account_removed",
        "T { users: [ {user: t, password: pw} ] }",
        "",
    ),
    change("own_connections", "accounts: []", "accounts: [A]"),
    change(
        "own_connections_of_nobody",
        "accounts: []",
        "accounts: [NOBODY]",
    ),
    change("own_connections_of_system", "accounts: []", "accounts: [S]"),
    change("larger_pool", "pool_size: 3", "pool_size: 5"),
    change("smaller_pool", "pool_size: 3", "pool_size: 1"),
    change("no_pool", "pool_size: 3", "pool_size: -1"),
    change(
        "permissions",
        "compression: accept",
        "compression: accept\npermissions { import: [\"x.>\", \"settled.>\", \"complete.>\", \"_INBOX.>\"], \
         export: [\"x.>\", \"settled.>\", \"complete.>\", \"_INBOX.>\"] }",
    ),
    change("compression", "compression: accept", "compression: s2_fast"),
    change("no_compression", "compression: accept", "compression: off"),
    change("host", "listen: \"127.0.0.1:", "listen: \"127.0.0.2:"),
    change(
        "little_things",
        "compression: accept",
        "compression: accept\nno_advertise: true\nconnect_retries: 3\nconnect_backoff: true\nping_interval: \"20s\"",
    ),
    change(
        "password",
        "compression: accept",
        "compression: accept\nauthorization { user: u, password: p }",
    ),
];

pub(super) fn trials() -> Vec<Trial> {
    let trials = CHANGES.iter().map(|change| {
        let needs = [OURS, REAL].map(|kind| kind.program().map(drop));
        let name = format!("cluster::reload_settings::{}", change.name);
        trial(name, needs, move || {
            let expected = outcome(REAL, change, None);
            assert_eq!(outcome(OURS, change, Some(&expected)), expected);
        })
    });
    trials.collect()
}

/// What came of a change.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    is_taken: bool,
    /// Connections with the other server that are still there.
    kept: usize,
    /// How many there are.
    connections: usize,
}

/// A change of the first of two servers, the other of which is a nats-server. Waits a while for what is expected.
fn outcome(kind: Kind, change: &Change, expected: Option<&Outcome>) -> Outcome {
    let plan = Plan::of(&[kind, REAL]).logins(&[A]);
    let mut cluster = complete(plan.server(SERVER).cluster(CLUSTER));
    let all_there = ask_until(SETTLING, || {
        let routes = routes(&cluster);
        (routes.len() == 4).then_some(routes)
    });
    let before = all_there.expect("three that share, and one of the system account");
    let told = cluster.reload(0, change.from, change.to);
    let is_taken = told.contains("Reloaded server configuration");
    let look = || {
        let after = routes(&cluster);
        Outcome {
            is_taken,
            kept: after.intersection(&before).count(),
            connections: after.len(),
        }
    };
    // nats-server has closed what is to be closed when it says so; what is dialled takes its time.
    let patience = if expected.is_some() {
        SETTLING
    } else {
        Duration::from_secs(3)
    };
    let found = ask_until(patience, || {
        let found = look();
        (Some(&found) == expected).then_some(found)
    });
    found.unwrap_or_else(look)
}

/// Numbers of the first server's connections.
fn routes(cluster: &testkit::cluster::Cluster) -> BTreeSet<u64> {
    let page = cluster.page(0, "/routez");
    let routes = page["routes"].as_array().cloned().unwrap_or_default();
    let numbers = routes.iter().map(|route| route["rid"].as_u64());
    numbers.map(|number| number.expect("a number")).collect()
}
