//! How servers reach each other: encrypted, with passwords, compressed, with one connection or many. What they say is the same.

use rcgen::SanType;
use testkit::cluster::{Client, HeldPort, Plan, Seeding};
use testkit::{Config, Kind, PATIENCE, ServerUnderTest, ask_until};

use super::delivery::complete;
use super::flood::exchange;
use super::formation::each_hears_each_once;
use super::{Scenario, cycled, modern, scenario};
use crate::access::authority::{impostor, named, text, trusted};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        "transport::with_tls_and_a_password",
        with_tls_and_a_password,
    ),
    scenario(
        "transport::a_certificate_of_an_impostor_is_refused",
        an_impostor_is_refused,
    ),
    scenario(
        "transport::only_names_in_routes_are_let_in",
        only_names_in_routes_are_let_in,
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

/// A certificate must be for a name that stands in the routes of the one that is dialled. One that is for another name is
/// refused, whoever has signed it.
fn only_names_in_routes_are_let_in(kinds: &[Kind]) {
    let stranger = kinds.len() - 1;
    let known = trusted().server_pair();
    let unknown = trusted().pair(|params| {
        named("stranger")(params);
        params.subject_alt_names = vec![SanType::DnsName(text("stranger.example.net"))];
    });
    let ports: Vec<HeldPort> = kinds.iter().map(|_| HeldPort::take()).collect();
    let servers: Vec<ServerUnderTest> = kinds
        .iter()
        .enumerate()
        .map(|(node, &kind)| {
            let dialled = (0..stranger).filter(|&other| other != node);
            let urls = dialled.map(|other| {
                let port = ports[other].address().port();
                format!("\"nats-route://localhost:{port}\"")
            });
            let mut urls: Vec<String> = urls.collect();
            // A name to know, also where there is nobody to dial.
            urls.push("\"nats-route://localhost:1\"".to_owned());
            let pair = if node == stranger { &unknown } else { &known };
            let config = Config::file(format!(
                "server_name: node-{node}\ncluster {{\nname: mesh\nlisten: \"{}\"\nroutes: [{}]\n\
                 tls {{ cert_file: cert.pem, key_file: key.pem, ca_file: ca.pem, timeout: 10\n\
                 verify_cert_and_check_known_urls: true }}\n}}\n",
                ports[node].address(),
                urls.join(", ")
            ))
            .side_file("ca.pem", trusted().pem())
            .side_file("cert.pem", &*pair.certificate)
            .side_file("key.pem", &*pair.key);
            ServerUnderTest::start(kind, &config)
        })
        .collect();
    let mut clients: Vec<Client> = servers
        .iter()
        .map(|server| Client::connect(server.address()))
        .collect();
    for (node, client) in clients.iter_mut().enumerate() {
        client.subscribe(&format!("hello.{node}"));
        client.round_trip();
    }
    for (from, client) in clients.iter_mut().enumerate().take(stranger) {
        let others = (0..stranger).filter(|&other| other != from);
        for subject in others.map(|to| format!("hello.{to}")) {
            let heard = ask_until(PATIENCE, || client.is_heard(&subject, b"").then_some(()));
            assert!(heard.is_some(), "{from} and others do not find each other");
        }
    }
    for (node, server) in servers.iter().enumerate().take(stranger) {
        let _ = server.wait_for_log(match server.kind() {
            Kind::Natterjack => "names no host of the configured routes",
            Kind::NatsServer | Kind::OldNatsServer => "authentication error",
        });
        assert!(!clients[node].is_heard(&format!("hello.{stranger}"), b""));
        assert!(!clients[stranger].is_heard(&format!("hello.{node}"), b""));
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
