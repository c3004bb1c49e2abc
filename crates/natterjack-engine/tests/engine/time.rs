//! What time alone brings about.

use std::time::Duration;

use natterjack_engine::{Access, CloseReason, Limits};

use crate::harness::Harness;

#[test]
fn a_client_that_does_not_log_in_is_told_and_closed() {
    let mut harness = Harness::with(Limits::default(), Access::token("t"));
    let mut silent = harness.open();
    silent.take();
    harness.pass(&mut silent, Duration::from_millis(1900));
    assert_eq!(silent.closed(), None);
    harness.pass(&mut silent, Duration::from_millis(200));
    assert_eq!(silent.take(), "-ERR 'Authentication Timeout'\r\n");
    assert_eq!(silent.closed(), Some(CloseReason::AuthenticationTimeout));
}

#[test]
fn without_credentials_silence_is_not_an_error() {
    let mut harness = Harness::new();
    let mut silent = harness.open();
    silent.take();
    harness.pass(&mut silent, Duration::from_secs(100));
    assert_eq!((silent.take().as_str(), silent.closed()), ("", None));
}

#[test]
fn a_client_that_answers_no_ping_is_stale() {
    let limits = Limits {
        ping_interval: Duration::from_secs(1),
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, Access::open());
    let mut client = harness.connect("");
    harness.pass(&mut client, Duration::from_millis(1250));
    assert_eq!(client.take(), "PING\r\n");
    harness.send(&mut client, b"PONG\r\n");
    harness.pass(&mut client, Duration::from_secs(5));
    assert_eq!(client.take(), "PING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
    assert_eq!(client.closed(), Some(CloseReason::StaleConnection));
}

/// What comes to the port for clients from servers: as nats-server dials, and as older ones may go on.
const ROUTES: [&str; 5] = [
    "CONNECT {\"echo\":true,\"verbose\":false,\"pedantic\":false,\"user\":\"route\",\"pass\":\"t\",\"tls_required\":false,\
     \"name\":\"PEER\",\"cluster\":\"mesh\",\"lnoc\":true}\r\nINFO {\"server_id\":\"PEER\"}\r\nPING\r\n",
    "CONNECT {\"name\":\"PEER\",\"cluster_dynamic\":true}\r\n",
    "INFO {\"server_id\":\"PEER\",\"server_name\":\"peer\"}\r\nPING\r\n",
    "RS+ $G a\r\n",
    "CONNECT {\"verbose\":false}\r\nRMSG $G a 1\r\nx\r\n",
];

#[test]
fn a_route_that_missed_its_port_is_let_go_late_and_carries_out_nothing() {
    for says in ROUTES {
        let mut harness = Harness::new();
        let mut route = harness.open();
        route.take();
        harness.send_unchecked(&mut route, says.as_bytes());
        assert!(harness.is_stalled(&mut route), "{says}");
        harness.pass(&mut route, Duration::from_millis(900));
        assert_eq!(
            (route.take().as_str(), route.closed()),
            ("", None),
            "{says}"
        );
        harness.pass(&mut route, Duration::from_millis(100));
        assert_eq!(route.take(), "-ERR 'Unknown Protocol Operation'\r\n");
        assert_eq!(route.closed(), Some(CloseReason::WrongPort), "{says}");
    }
}

#[test]
fn a_route_is_told_no_sooner_where_clients_must_log_in() {
    let mut harness = Harness::with(Limits::default(), Access::token("t"));
    let mut route = harness.open();
    route.take();
    harness.send_unchecked(&mut route, ROUTES[0].as_bytes());
    harness.pass(&mut route, Duration::from_millis(900));
    assert_eq!((route.take().as_str(), route.closed()), ("", None));
    harness.pass(&mut route, Duration::from_millis(100));
    assert_eq!(route.closed(), Some(CloseReason::WrongPort));
}

#[test]
fn clients_are_not_taken_for_routes_whatever_they_say_of_clusters() {
    let mut harness = Harness::new();
    for options in [
        "\"lang\":\"go\",\"cluster\":\"mesh\",\"lnoc\":true",
        "\"cluster\":\"\"",
        "\"name\":\"RS+ $G a\"",
    ] {
        let mut client = harness.connect(options);
        harness.send(&mut client, b"INFO {\"server_id\":\"X\"}\r\nPING\r\n");
        assert_eq!(
            (client.take().as_str(), client.closed()),
            ("PONG\r\n", None)
        );
    }
    let mut silent = harness.open();
    silent.take();
    harness.send(&mut silent, b"INFO {}\r\nPING\r\n");
    assert_eq!(
        (silent.take().as_str(), silent.closed()),
        ("PONG\r\n", None)
    );
}
