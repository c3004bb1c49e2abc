//! Pins that change while clients are connected.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use libtest_mimic::Trial;
use testkit::{Deadline, HttpAnswer, Kind, Listener, PATIENCE, ServerUnderTest};

use super::authority::{MUTUAL, config, named, trusted};
use super::client::{Client, Outcome, Transport};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let trials = Kind::ALL.map(|kind| {
        trial(
            format!("access::pins::connected_clients::{}", kind.name()),
            [kind.program().map(drop)],
            move || connected_clients(kind),
        )
    });
    trials.into()
}

/// Whoever is pinned no more is let go without a word, at once and for that reason; the others notice nothing.
fn connected_clients(kind: Kind) {
    let pairs = ["one", "two"].map(|name| trusted().pair(named(name)));
    let mut server = ServerUnderTest::start(kind, &config(&pinning(&[])));
    let monitor = server.listener(Listener::Monitor);
    let address = server.address();
    let connect = |index: usize| {
        let mut client = Client::connect(address, Transport::Tls(Some(&pairs[index])));
        let outcome = client.log_in("");
        (client, outcome)
    };
    let [(mut one, in_one), (mut two, in_two)] = [0, 1].map(connect);
    assert!(matches!((in_one, in_two), (Outcome::In(_), Outcome::In(_))));
    let pins = fingerprints(monitor);
    let (pin_one, pin_two) = (&pins["CN=one"], &pins["CN=two"]);

    // Pinned both: nothing happens.
    reload(&mut server, &[pin_one, pin_two]);
    assert!(one.exchange("").is_empty() && two.exchange("").is_empty());

    reload(&mut server, &[pin_two]);
    assert_eq!(end_of(&mut one), None, "let go without a word");
    assert!(two.exchange("").is_empty());
    let said = server.wait_for_log("due to pinned certs reload");
    assert!(said.contains("[INF] Disconnect 1 clients"), "{said}");
    assert_eq!(reasons(monitor, 1), ["TLS Handshake Failure"]);

    // No pins: nobody is asked, and whoever was let go comes back.
    reload(&mut server, &[]);
    let (mut again, outcome) = connect(0);
    assert!(matches!(outcome, Outcome::In(_)), "{outcome:?}");
    assert!(two.exchange("").is_empty());

    // From none to one.
    reload(&mut server, &[pin_two]);
    assert_eq!(end_of(&mut again), None);
    assert!(two.exchange("").is_empty());
    assert_eq!(reasons(monitor, 2), ["TLS Handshake Failure"; 2]);
}

fn pinning(pins: &[&String]) -> String {
    let pins: Vec<String> = pins.iter().map(|pin| format!("\"{pin}\"")).collect();
    let pinned = match pins.is_empty() {
        true => String::new(),
        false => format!(", pinned_certs: [{}]", pins.join(", ")),
    };
    format!("http: 127.0.0.1:-1\ntls {{ {MUTUAL}, verify: true{pinned} }}\n")
}

fn reload(server: &mut ServerUnderTest, pins: &[&String]) {
    let told = server.reload(&pinning(pins));
    assert!(told.contains("Reloaded server configuration"), "{told}");
}

/// The line before the end of a connection, if there is one besides PINGs.
fn end_of(client: &mut Client) -> Option<String> {
    let mut last = None;
    // An error is an end too: what was sent may be unread.
    while let Ok(line) = client.line() {
        match line.as_str() {
            "" => break,
            "PING" => {}
            _ => last = Some(line),
        }
    }
    last
}

/// The fingerprints of connected clients' keys, by their subjects.
fn fingerprints(monitor: SocketAddr) -> BTreeMap<String, String> {
    let page = HttpAnswer::get(monitor, "/connz?auth=1").json();
    let connections = page["connections"].as_array().expect("connections");
    connections
        .iter()
        .map(|connection| {
            let shown = &connection["tls_peer_certs"][0];
            let text = |field: &str| shown[field].as_str().expect("a text").to_owned();
            (text("subject"), text("spki_sha256"))
        })
        .collect()
}

/// Why connections were closed, once there are `count` of them.
fn reasons(monitor: SocketAddr, count: usize) -> Vec<String> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let page = HttpAnswer::get(monitor, "/connz?state=closed").json();
        let closed = page["connections"].as_array().expect("connections");
        if closed.len() >= count {
            let reason = |closed: &serde_json::Value| closed["reason"].as_str().map(str::to_owned);
            return closed.iter().filter_map(reason).collect();
        }
        assert!(deadline.left().is_some(), "{count} closed ones: {page}");
    }
}
