//! Clients of other languages whose server is killed: they go to another one that they have heard of from it, and lose no
//! subscription. async-nats does so in `learning`.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use testkit::cluster::{Login, Plan};
use testkit::programs::{self, Missing};
use testkit::{Kind, PATIENCE, Program};

use super::delivery::complete;
use super::disturbances::one_of_each;
use super::learning::wait_for_urls;
use super::{OURS, REAL};
use crate::trial;

/// Clusters by name.
const CLUSTERS: &[(&str, &[Kind])] = &[
    ("real", &[REAL, REAL, REAL]),
    ("ours", &[OURS, OURS, OURS]),
    ("ours_real_ours", &[OURS, REAL, OURS]),
];

/// Libraries by name: whether they are there, and how their scripts are started.
const LIBRARIES: &[Library] = &[
    Library {
        name: "nats.py",
        available: || programs::python().map(drop),
        command: || {
            let mut command = Command::new(programs::python().expect("checked before"));
            command.arg(script("python/scenarios.py"));
            command
        },
    },
    Library {
        name: "nats.js",
        available: || programs::javascript().map(drop),
        command: || {
            let mut command = Command::new("node");
            command
                .arg(script("js/scenarios.cjs"))
                .current_dir(programs::javascript().expect("checked before"));
            command
        },
    },
];

struct Library {
    name: &'static str,
    available: fn() -> Result<(), Missing>,
    command: fn() -> Command,
}

/// What the scripts subscribe to.
const SUBSCRIPTIONS: usize = 100;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for library in LIBRARIES {
        for (cluster, kinds) in CLUSTERS {
            let name = format!("cluster::failover::{}::{cluster}", library.name);
            let mut needs = vec![(library.available)()];
            needs.extend(kinds.iter().map(|kind| kind.program().map(drop)));
            trials.push(trial(name, needs, || fail_over(library, kinds)));
        }
    }
    trials
}

fn fail_over(library: &Library, kinds: &[Kind]) {
    let all: Vec<usize> = (0..kinds.len()).collect();
    for home in one_of_each(kinds) {
        let mut cluster = complete(Plan::of(kinds));
        wait_for_urls(&mut cluster.client(home), &cluster, &all);
        let mut command = (library.command)();
        command.args(["failover", &cluster.server(home).url()]);
        let mut client = Program::spawn(&mut command).expect("an interpreter");
        if client.wait_for("ready", PATIENCE).is_err() {
            panic!("it is not ready; it wrote:\n{}", client.output());
        }
        cluster.kill(home);
        let left: Vec<usize> = cluster.others(home).collect();
        client
            .send_line(&left.len().to_string())
            .expect("it waits for this");
        for &node in &left {
            for number in 0..SUBSCRIPTIONS {
                let subject = format!("kept.{number}");
                cluster.wait_for_interest(node, Login::default(), &subject, true);
            }
            let mut publisher = cluster.client(node);
            for number in 0..SUBSCRIPTIONS {
                publisher.publish(&format!("kept.{number}"), node.to_string());
            }
            publisher.round_trip();
        }
        let status = client.wait_for_exit(PATIENCE);
        assert!(
            status.is_some_and(|status| status.success()),
            "{status:?}; it wrote:\n{}",
            client.output()
        );
    }
}

fn script(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
