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
