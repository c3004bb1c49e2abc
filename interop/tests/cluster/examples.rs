//! The cluster that the operator's page starts with: its files as they are, but for ports, its script for certificates, and
//! servers of both kinds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use testkit::cluster::{Client, HeldPort, Login};
use testkit::{Config, HttpAnswer, Kind, Listener, PATIENCE, ServerUnderTest, ask_until};

use super::REAL;
use crate::trial;

const SERVERS: usize = 3;

/// The pool, one for `ORDERS`, one for the system account.
const CONNECTIONS: usize = 5;

const CLUSTERS: &[(&str, [Kind; SERVERS])] = &[
    ("ours", [Kind::Natterjack; SERVERS]),
    ("real", [REAL; SERVERS]),
    ("mixed", [Kind::Natterjack, REAL, Kind::Natterjack]),
];

pub(super) fn trials() -> Vec<Trial> {
    CLUSTERS
        .iter()
        .map(|&(name, kinds)| {
            let needs = kinds.map(|kind| kind.program().map(drop));
            let name = format!("cluster::examples::{name}");
            trial(name, needs, move || act_as_one(kinds))
        })
        .collect()
}

fn act_as_one(kinds: [Kind; SERVERS]) {
    let servers = start(kinds);
    for server in &servers {
        let complete = ask_until(PATIENCE, || {
            let peers = connections(server);
            (peers.len() == SERVERS - 1 && peers.values().all(|&count| count == CONNECTIONS))
                .then_some(())
        });
        assert!(complete.is_some(), "connections: {:?}", connections(server));
    }
    let (shop, agent) = (
        Login::user("shop", "change-me-shop"),
        Login::user("agent", "change-me-agent"),
    );
    let mut subscriber = Client::connect_as(servers[0].address(), shop);
    subscriber.subscribe("orders.>");
    subscriber.round_trip();
    let mut publisher = Client::connect_as(servers[2].address(), shop);
    let known = ask_until(PATIENCE, || {
        publisher.is_heard("orders.new", "a book").then_some(())
    });
    assert!(known.is_some(), "nobody hears orders");
    assert_eq!(subscriber.next_message().text(), "a book");
    let mut stranger = Client::connect_as(servers[2].address(), agent);
    assert!(
        !stranger.is_heard("orders.new", ""),
        "accounts are apart on all nodes"
    );
}

/// How many connections a server has to which others.
fn connections(server: &ServerUnderTest) -> BTreeMap<String, usize> {
    let page = HttpAnswer::get(server.listener(Listener::Monitor), "/routez").json();
    let mut peers = BTreeMap::new();
    for route in page["routes"].as_array().into_iter().flatten() {
        let peer = route["remote_name"].as_str().unwrap_or_default();
        *peers.entry(peer.to_owned()).or_default() += 1;
    }
    peers
}

fn start(kinds: [Kind; SERVERS]) -> Vec<ServerUnderTest> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster");
    let certificates = certificates(&folder);
    let clients: Vec<HeldPort> = (0..SERVERS).map(|_| HeldPort::take()).collect();
    let routes: Vec<HeldPort> = (0..SERVERS).map(|_| HeldPort::take()).collect();
    let text = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).expect("it is in the folder");
        // Marks first, since the port that one server has now may begin like the one that another had.
        let (mut marked, mut marks) = (text, Vec::new());
        for (node, (client, route)) in clients.iter().zip(&routes).enumerate() {
            for (usual, now) in [
                (4222 + node, client.address().to_string()),
                (6222 + node, route.address().to_string()),
                (8222 + node, "127.0.0.1:-1".to_owned()),
            ] {
                let mark = format!("<{usual}>");
                marked = marked.replace(&format!("127.0.0.1:{usual}"), &mark);
                marks.push((mark, now));
            }
        }
        let filled = marks
            .iter()
            .fold(marked, |text, (mark, now)| text.replace(mark, now));
        // Beside the configuration file, where a test has room for files.
        filled.replace("certificates/", "")
    };
    let mut servers = Vec::new();
    for (node, kind) in kinds.into_iter().enumerate() {
        // Not part of the example: its passwords are hashes, which an unoptimised server takes seconds to check if it has
        // little of a processor.
        let patient = "\nauthorization { timeout: 20 }\n";
        let mut config = Config::file(text(&format!("node-{}.conf", node + 1)) + patient)
            .client_port(clients[node].address().port());
        for name in ["cluster.conf", "accounts.conf"] {
            config = config.side_file(name, text(name));
        }
        for (name, text) in &certificates {
            config = config.side_file(name, text);
        }
        servers.push(ServerUnderTest::start(kind, &config));
    }
    servers
}

/// What the script makes, by name.
fn certificates(folder: &Path) -> Vec<(String, String)> {
    let made = tempfile::tempdir().expect("a place for files");
    let output = Command::new("sh")
        .arg(folder.join("certificates.sh"))
        .current_dir(made.path())
        .output()
        .expect("there is a shell");
    assert!(
        output.status.success(),
        "certificates.sh, which needs openssl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let files = fs::read_dir(made.path().join("certificates")).expect("it was made");
    files
        .map(|file| {
            let file = file.expect("it can be listed");
            let name = file.file_name().into_string().expect("a plain name");
            (name, fs::read_to_string(file.path()).expect("it is text"))
        })
        .collect()
}
