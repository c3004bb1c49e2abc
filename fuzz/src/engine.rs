//! Owns what a client may say to a server in one session: mostly valid, about few subjects, so that operations meet.

use std::time::Instant;

use fastrand::Rng;
use natterjack_engine::fuzzing::engine_session;
use natterjack_wire::client;

use crate::wire;

const SUBJECTS: [&[u8]; 12] = [
    b"a",
    b"a.b",
    b"a.*",
    b"*.b",
    b">",
    b"a.>",
    b"*",
    b"a..b",
    b"a.b.c.d.e",
    b"_INBOX.1",
    b"_GR_.a",
    b"last",
];

const CONNECTS: [&[u8]; 9] = [
    br#"{"verbose":false}"#,
    br#"{"verbose":true}"#,
    br#"{"verbose":false,"pedantic":true,"echo":false}"#,
    br#"{"verbose":false,"headers":true}"#,
    br#"{"verbose":false,"headers":true,"no_responders":true,"protocol":1}"#,
    br#"{"headers":true,"echo":false,"no_responders":true}"#,
    br#"{"verbose":false,"no_responders":true,"headers":false}"#,
    br#"{"auth_token":"t","verbose":false,"headers":true}"#,
    br#"{"auth_token":"wrong"}"#,
];

/// Choices, and then a session.
pub(crate) fn client_session(rng: &mut Rng) -> Vec<u8> {
    let mut out = rng.u64(..).to_le_bytes().to_vec();
    if rng.u8(..8) > 0 {
        connect(&mut out, rng);
    }
    for _ in 0..rng.usize(..12) {
        operation(&mut out, rng);
    }
    out
}

/// Runs the property; the time it starts at makes no difference to it.
#[expect(
    clippy::disallowed_methods,
    reason = "the standard library makes an instant only from the clock"
)]
pub(crate) fn check(data: &[u8]) {
    engine_session(data, Instant::now());
}

fn operation(out: &mut Vec<u8>, rng: &mut Rng) {
    let subject = pick(rng, &SUBJECTS);
    let sid = [b'1' + rng.u8(..4)];
    let reply = (rng.u8(..3) == 0).then(|| pick(rng, &SUBJECTS));
    match rng.u8(..24) {
        0..6 => client::subscribe(out, subject, (rng.u8(..6) == 0).then_some(b"q"), &sid),
        6..8 => client::unsubscribe(out, &sid, None),
        8..10 => client::unsubscribe(out, &sid, Some(rng.u64(..4))),
        10..17 => {
            let payload = payload(rng);
            // One message is a batch of its own less often than not.
            for _ in 0..rng.usize(1..4) {
                client::publish(out, subject, reply, &payload);
            }
        }
        17..20 => {
            let header: &[u8] = if rng.bool() {
                b"NATS/1.0\r\nA: b\r\n\r\n"
            } else {
                b""
            };
            client::header_publish(out, subject, reply, header, &payload(rng));
        }
        20 => client::ping(out),
        21 => client::pong(out),
        22 => connect(out, rng),
        _ => out.extend_from_slice(&wire::client_stream(rng)[8..]),
    }
}

fn connect(out: &mut Vec<u8>, rng: &mut Rng) {
    out.extend_from_slice(b"CONNECT ");
    out.extend_from_slice(pick(rng, &CONNECTS));
    out.extend_from_slice(b"\r\n");
}

/// Small ones, and few around the size from which a message gets a buffer of its own.
fn payload(rng: &mut Rng) -> Vec<u8> {
    let bytes = match rng.u8(..64) {
        0 => rng.usize(65_400..65_700),
        1 => rng.usize(2040..2060),
        2..4 => rng.usize(30..60),
        _ => rng.usize(..12),
    };
    vec![rng.alphanumeric() as u8; bytes]
}

fn pick<'a>(rng: &mut Rng, from: &[&'a [u8]]) -> &'a [u8] {
    from[rng.usize(..from.len())]
}
