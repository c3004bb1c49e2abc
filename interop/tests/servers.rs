//! `testkit`'s hold on the real server: configuration files, listeners, signals, restarts. What our own daemon makes of its
//! configuration and of signals is tested with it; here the tool is tested.

use libtest_mimic::Trial;
use testkit::{Config, Kind, Listener, PATIENCE, Peer, ServerUnderTest, Signal, StartError};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 4] = [
        (
            "a_file_and_what_it_includes_are_read",
            a_file_and_what_it_includes_are_read,
        ),
        ("every_listener_is_found", every_listener_is_found),
        ("a_signal_ends_it", a_signal_ends_it),
        ("a_mistake_is_told", a_mistake_is_told),
    ];
    let needs = || [Kind::NatsServer.program().map(drop)];
    tests
        .map(|(name, run)| trial(format!("servers::{name}"), needs(), run))
        .into()
}

fn a_file_and_what_it_includes_are_read() {
    let config =
        Config::file("include ./limits.conf\n").side_file("limits.conf", "max_payload: 100\n");
    let mut server = ServerUnderTest::start(Kind::NatsServer, &config);
    let address = server.address();
    for _ in 0..2 {
        let info = Peer::connect(server.address()).expect_info();
        assert_eq!(
            (&info["max_payload"], &info["port"]),
            (&100.into(), &address.port().into())
        );
        server.restart();
        assert_eq!(server.address(), address);
    }
}

fn every_listener_is_found() {
    let config =
        Config::file("http: 127.0.0.1:-1\ncluster { name: c, listen: \"127.0.0.1:-1\" }\n");
    let server = ServerUnderTest::start(Kind::NatsServer, &config);
    let mut route = Peer::connect(server.listener(Listener::Route));
    assert_eq!(route.expect_info()["cluster"], "c");
    let mut page = Peer::connect(server.listener(Listener::Monitor));
    page.send("GET /healthz HTTP/1.0\r\n\r\n");
    page.expect("HTTP/1.0 200 OK\r\n");
}

fn a_signal_ends_it() {
    let mut server = ServerUnderTest::start(Kind::NatsServer, &Config::default());
    let mut peer = Peer::connect(server.address());
    peer.expect_info();
    peer.ping_pong();
    server.signal(Signal::Terminate);
    let (status, log) = server.wait_for_exit(PATIENCE);
    assert!(status.success(), "{status}");
    assert!(log.contains("Server Exiting"), "{log}");
    peer.expect_closed();
}

fn a_mistake_is_told() {
    let config = Config::file("max_payload: many\n");
    match ServerUnderTest::try_start(Kind::NatsServer, &config) {
        Err(StartError::NotListening { log, .. }) => {
            assert!(log.contains("server.conf:1"), "{log}");
        }
        Err(other) => panic!("{other}"),
        Ok(server) => panic!("it started:\n{}", server.log()),
    }
}
