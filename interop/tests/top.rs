//! `natterjack top` and servers of every make: nats-server of today and of 2022, and ours, alone and in one cluster. What
//! a server does not tell is missing in the view, and no error.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;
use testkit::{
    Config, Kind, Listener, PATIENCE, Peer, Program, ServerUnderTest, Terminal, programs,
};

use crate::trial;

/// How long all rounds of one run may take.
const TIME_MAX: Duration = Duration::from_secs(60);

const KINDS: [Kind; 3] = [Kind::NatsServer, Kind::OldNatsServer, Kind::Natterjack];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let needs = |kind: Kind| [programs::natterjack().map(drop), kind.program().map(drop)];
    for kind in KINDS {
        let name = format!("top::json::{}", kind.name());
        trials.push(trial(name, needs(kind), move || json(kind)));
        let name = format!("top::view::{}", kind.name());
        trials.push(trial(name, needs(kind), move || view(kind)));
    }
    let all = KINDS.into_iter().flat_map(needs);
    trials.push(trial("top::a_mixed_cluster".into(), all, a_mixed_cluster));
    let (ours, real) = (Kind::Natterjack, Kind::NatsServer);
    for (name, kinds) in [
        ("ours", [ours, ours, ours]),
        ("ours_and_real", [ours, real, ours]),
        ("real_and_ours", [real, ours, real]),
    ] {
        let name = format!("top::members_are_found::{name}");
        let needs = kinds.into_iter().flat_map(needs);
        trials.push(trial(name, needs, move || members_are_found(kinds)));
    }
    trials
}

fn start(kind: Kind, more: &str) -> (ServerUnderTest, String) {
    let configuration = format!(
        "server_name: \"{}\"\nhttp: \"127.0.0.1:-1\"\n{more}",
        kind.name()
    );
    let server = ServerUnderTest::start(kind, &Config::file(configuration));
    let url = format!("http://{}", server.listener(Listener::Monitor));
    (server, url)
}

/// A client with a subscription, to which it publishes so much.
fn client(server: &ServerUnderTest, name: &str, messages: usize) -> Peer {
    let mut peer = Peer::connect(server.address());
    peer.expect_info();
    peer.send(format!(
        "CONNECT {{\"verbose\":false,\"name\":\"{name}\",\"lang\":\"test\",\"version\":\"1\"}}\r\nSUB a 1\r\n"
    ));
    peer.ping_pong();
    for _ in 0..messages {
        peer.send("PUB a 2\r\nhi\r\n");
        peer.expect("MSG a 1 2\r\nhi\r\n");
    }
    peer
}

/// What is printed with these arguments, and how it ended.
fn once(arguments: &[&str]) -> (bool, Vec<Value>) {
    let mut command = Command::new(programs::natterjack().expect("it was there"));
    command.args(["top", "--once", "--json", "--interval", "300ms"]);
    let mut program = Program::spawn(command.args(arguments)).expect("it can be started");
    let status = program.wait_for_exit(TIME_MAX).expect("it ends in time");
    let output = program.output();
    let lines = output.lines().filter(|line| line.starts_with('{'));
    let reports = lines.map(|line| serde_json::from_str(line).expect("JSON"));
    (status.success(), reports.collect())
}

fn json(kind: Kind) {
    let (server, url) = start(kind, "");
    let _client = client(&server, "one", 3);
    // An order that old servers do not know does no harm.
    for sort in ["cid", "rtt", "pending"] {
        let (is_well, reports) = once(&[&url, "--sort", sort]);
        assert!(is_well && reports.len() == 1, "{reports:?}");
        let report = &reports[0];
        let told = &report["servers"][0];
        assert_eq!(
            (&told["state"], &told["name"]),
            (&"answers".into(), &kind.name().into())
        );
        assert_eq!(told["has_jetstream"], false, "{told}");
        assert_eq!(told["totals"]["in_msgs"], 3, "{told}");
        assert_eq!(told["rates"]["in_msgs"], 0.0, "{told}");
        assert!(
            told["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0),
            "{told}"
        );
        assert_eq!(report["connections_total"], 1);
        let one = &report["connections"][0];
        assert_eq!(
            (&one["name"], &one["subscriptions"]),
            (&"one".into(), &1.into())
        );
        assert_eq!(one["totals"]["out_msgs"], 3, "{one}");
        let accounts = report["accounts"].as_array().expect("a list");
        let global = accounts.iter().find(|account| account["name"] == "$G");
        assert!(
            global.is_some_and(|account| account["connections"] == 1),
            "{accounts:?}"
        );
    }
}

fn view(kind: Kind) {
    let (mut server, url) = start(kind, "");
    let peer = client(&server, "one", 1);
    let program = programs::natterjack().expect("it was there");
    let arguments = ["top", "--interval", "200ms", &url];
    let mut terminal = Terminal::start(&program, &arguments, &[], 80, 24);
    let shown = terminal.wait_until("the client", PATIENCE, |shown| {
        shown.contains(" one ") && shown.contains("Conns 1") && !shown.contains(" – ")
    });
    assert!(shown.starts_with(kind.name()), "{shown}");
    terminal.type_in("6");
    let shown = terminal.wait_for("JetStream", PATIENCE);
    assert!(shown.contains("none"), "{shown}");
    drop(peer);
    terminal.wait_for("Conns 0", PATIENCE);
    server.stop();
    terminal.wait_for("does not answer for", PATIENCE);
    terminal.type_in("q");
    let status = terminal.wait_for_exit(PATIENCE);
    assert!(status.is_some_and(|status| status.success()) && terminal.is_given_back(PATIENCE));
}

fn a_mixed_cluster() {
    let accounts = "system_account: S\n\
        accounts { S { users: [{user: s, password: p}] }, A { users: [{user: a, password: p}] } }\n";
    let member = |kind: Kind, routes: &str| {
        let cluster = format!("cluster {{ name: C, listen: \"127.0.0.1:-1\", {routes} }}");
        start(kind, &format!("{accounts}{cluster}\n"))
    };
    let (first, first_url) = member(Kind::NatsServer, "");
    let routes = format!("routes: [\"nats://{}\"]", first.listener(Listener::Route));
    let (_second, second_url) = member(Kind::Natterjack, &routes);
    let (_third, third_url) = member(Kind::OldNatsServer, &routes);
    let login = ["--server", &first.url(), "--user", "s", "--password", "p"];
    let by_monitoring = [&*first_url, &second_url, &third_url];
    for arguments in [&login[..], &by_monitoring] {
        // Routes come about one after the other.
        let rounds = [arguments, &["--count", "40"]].concat();
        let (is_well, reports) = once(&rounds);
        assert!(is_well, "{reports:?}");
        let is_complete = |report: &Value| {
            let servers = report["servers"].as_array().expect("a list");
            let routes = report["routes"].as_array().expect("a list");
            let answering = servers.iter().filter(|server| server["state"] == "answers");
            let connected = routes.iter().filter(|route| route["is_connected"] == true);
            (answering.count(), connected.count()) == (3, 6)
        };
        assert!(reports.iter().any(is_complete), "{:?}", reports.last());
    }
}

/// With `--cluster` the others are found by the one that is named, where each has a machine of its own, here an address, and
/// monitoring is at the same port of all.
fn members_are_found(kinds: [Kind; 3]) {
    // Nobody dials the first: its routes tell where the others listen, and not from where they came.
    let member = |node: usize, port: &str, more: &str| {
        let host = format!("127.0.0.{}", node + 1);
        let text = format!(
            "server_name: \"n{node}\"\nhttp: \"{host}:{port}\"\n\
             cluster {{ name: C, listen: \"{host}:-1\", no_advertise: true, {more} }}\n"
        );
        ServerUnderTest::try_start(kinds[node], &Config::file(text)).ok()
    };
    // What is free at one address need not be at the others.
    let start = || {
        let second = member(1, "-1", "")?;
        let port = second.listener(Listener::Monitor).port().to_string();
        let third = member(2, &port, "")?;
        let [second_route, third_route] =
            [&second, &third].map(|server| server.listener(Listener::Route));
        let routes = format!("routes: [\"nats://{second_route}\", \"nats://{third_route}\"]");
        let first = member(0, &port, &routes)?;
        Some([first, second, third])
    };
    let [first, _second, third] = (0..5).find_map(|_| start()).expect("a port");
    let url = format!("http://{}", first.listener(Listener::Monitor));
    let _client = client(&third, "one", 1);
    let (is_well, reports) = once(&[&url, "--cluster", "--count", "40"]);
    assert!(is_well, "{:?}", reports.last());
    let is_complete = |report: &Value| {
        let servers = report["servers"].as_array().expect("a list");
        let answering = servers.iter().filter(|server| server["state"] == "answers");
        let names = answering.filter_map(|server| server["name"].as_str());
        let names: BTreeSet<&str> = names.collect();
        names == BTreeSet::from(["n0", "n1", "n2"]) && report["connections_total"] == 1
    };
    assert!(reports.iter().any(is_complete), "{:?}", reports.last());
    let program = programs::natterjack().expect("it was there");
    let arguments = ["top", "--interval", "200ms", "--cluster", &url];
    let mut terminal = Terminal::start(&program, &arguments, &[], 100, 30);
    terminal.wait_for("C · 3 of 3 servers answer", PATIENCE);
    terminal.type_in("q");
    let status = terminal.wait_for_exit(PATIENCE);
    assert!(status.is_some_and(|status| status.success()) && terminal.is_given_back(PATIENCE));
}
