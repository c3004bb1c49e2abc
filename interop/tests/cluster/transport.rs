//! How servers reach each other: encrypted, with passwords, compressed, with one connection or many. What they say is the same.

use testkit::Kind;
use testkit::cluster::{Plan, Seeding};

use super::delivery::complete;
use super::flood::exchange;
use super::formation::each_hears_each_once;
use super::{Scenario, cycled, modern, scenario};
use crate::access::authority::{impostor, trusted};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        "transport::with_tls_and_a_password",
        with_tls_and_a_password,
    ),
    scenario(
        "transport::a_certificate_of_an_impostor_is_refused",
        an_impostor_is_refused,
    ),
    modern("transport::compressed", compressed),
    modern(
        "transport::pools_of_different_sizes",
        pools_of_different_sizes,
    ),
];

const MESSAGES: usize = 1_000;

const TLS: &str = "tls { cert_file: cert.pem, key_file: key.pem, ca_file: ca.pem, timeout: 10 }";

fn with_tls_and_a_password(kinds: &[Kind]) {
    let server = trusted().server_pair();
    let plan = Plan::of(kinds)
        .cluster(TLS)
        .cluster("authorization { user: route, password: secret, timeout: 10 }")
        .side_file("ca.pem", trusted().pem())
        .side_file("cert.pem", server.certificate)
        .side_file("key.pem", server.key);
    // Who is dialled without having been named is dialled with the cluster's own user.
    for seeding in [Seeding::All, Seeding::First] {
        let plan = plan.clone().route_login("route:secret@").seeding(seeding);
        let mut cluster = complete(plan);
        each_hears_each_once(&mut cluster);
        let all: Vec<usize> = (0..cluster.len()).collect();
        exchange(&mut cluster, &all, MESSAGES);
    }
}

/// One with a certificate from another authority of the same name neither gets in nor lets others in.
fn an_impostor_is_refused(kinds: &[Kind]) {
    let (server, false_server) = (trusted().server_pair(), impostor().server_pair());
    let stranger = kinds.len() - 1;
    let inside: Vec<usize> = (0..stranger).collect();
    let plan = Plan::of(kinds)
        .proxied()
        .side_file("ca.pem", trusted().pem())
        .side_file("cert.pem", server.certificate)
        .side_file("key.pem", server.key)
        .side_file("false-ca.pem", impostor().pem())
        .side_file("false-cert.pem", false_server.certificate)
        .side_file("false-key.pem", false_server.key);
    let false_tls = "tls { cert_file: false-cert.pem, key_file: false-key.pem, ca_file: ";
    let plan = inside
        .iter()
        .fold(plan, |plan, &node| plan.cluster_of(node, TLS));
    for ca_file in ["ca.pem", "false-ca.pem"] {
        let tls = format!("{false_tls}{ca_file}, timeout: 10 }}");
        let mut cluster = plan.clone().cluster_of(stranger, &tls).start();
        cluster.wait_until_connected(&inside);
        for wire in cluster.wires_of(stranger) {
            wire.wait_for_ends(2);
        }
        let mut outsider = cluster.client(stranger);
        outsider.subscribe("hello");
        outsider.round_trip();
        for &node in &inside {
            assert!(!cluster.client(node).is_heard("hello", b""));
        }
    }
}

/// Every mode with every other one, two or three at a time.
fn compressed(kinds: &[Kind]) {
    const MODES: [&[&str]; 5] = [
        &["s2_fast", "accept", "s2_best"],
        &["s2_better", "s2_fast", "off"],
        &["s2_auto", "s2_auto", "accept"],
        &["off", "s2_auto", "s2_better"],
        &[
            "{mode: s2_auto, rtt_thresholds: [0s, 1ms, 5ms]}",
            "s2_fast",
            "accept",
        ],
    ];
    for modes in MODES {
        let kinds = cycled(kinds, modes.len());
        let plan = modes
            .iter()
            .enumerate()
            .fold(Plan::of(&kinds), |plan, (node, mode)| {
                plan.cluster_of(node, &format!("compression: {mode}"))
            });
        let mut cluster = complete(plan);
        each_hears_each_once(&mut cluster);
        let all: Vec<usize> = (0..cluster.len()).collect();
        exchange(&mut cluster, &all, MESSAGES);
    }
}

fn pools_of_different_sizes(kinds: &[Kind]) {
    const SIZES: [[i32; 3]; 3] = [[3, 1, -1], [-1, 5, 2], [1, 1, 8]];
    for sizes in SIZES {
        let kinds = cycled(kinds, sizes.len());
        let plan = sizes
            .iter()
            .enumerate()
            .fold(Plan::of(&kinds), |plan, (node, size)| {
                plan.cluster_of(node, &format!("pool_size: {size}"))
            });
        let mut cluster = complete(plan);
        each_hears_each_once(&mut cluster);
        let all: Vec<usize> = (0..cluster.len()).collect();
        exchange(&mut cluster, &all, MESSAGES);
    }
}
