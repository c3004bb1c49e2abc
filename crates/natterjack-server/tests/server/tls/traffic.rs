//! What passes once a connection is encrypted: all of it, in order, however large and however slow.

use std::thread;
use std::time::Duration;

use natterjack_server::Options;

use super::authority::Authority;
use super::client::{Client, Setup};
use super::server;
use crate::support::{PATIENCE, beside, options, until};

/// Bytes that differ from position to position, so that nothing can be lost or swapped unseen.
fn payload(seed: usize, size: usize) -> Vec<u8> {
    (0..size)
        .map(|index| ((index * 31) ^ (index >> 8) ^ seed) as u8)
        .collect()
}

fn expect_message(client: &mut Client, expected: &[u8], piece: usize) {
    let head = client.line().expect("a message");
    assert_eq!(head, format!("MSG a 1 {}", expected.len()));
    let mut got = vec![0; expected.len() + 2];
    for part in got.chunks_mut(piece) {
        client.read_exact(part).expect("its payload");
    }
    assert!(got.ends_with(b"\r\n"));
    assert!(got[..expected.len()] == *expected, "the payload differs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass_both_ways_while_the_other_side_reads_slowly() {
    const SIZES: &[usize] = &[1, 100, 16_383, 16_384, 16_385, 65_536, 300_000, 1_048_576];
    const ROUNDS: usize = 4;
    let authority = Authority::new();
    let server = server(&authority, |_| {}).await;
    let address = server.client_addr();
    beside(move || {
        let setup = Setup::new(&authority);
        let mut consumer = setup.connect(address).expect("connected");
        let mut publisher = setup.connect(address).expect("connected");
        consumer.send(b"SUB a 1\r\nPING\r\n").expect("sent");
        assert_eq!(consumer.line().expect("PONG"), "PONG");
        let reading = thread::spawn(move || {
            for round in 0..ROUNDS {
                for &size in SIZES {
                    // Small pieces, so that the server's socket fills up again and again.
                    expect_message(&mut consumer, &payload(round, size), 1000);
                }
            }
        });
        for round in 0..ROUNDS {
            for &size in SIZES {
                publisher
                    .send(format!("PUB a {size}\r\n").as_bytes())
                    .expect("sent");
                publisher.send(&payload(round, size)).expect("sent");
                publisher.send(b"\r\n").expect("sent");
            }
        }
        publisher.send(b"PING\r\n").expect("sent");
        assert_eq!(publisher.line().expect("PONG"), "PONG");
        reading.join().expect("all arrives");
    })
    .await;
    assert_eq!(server.totals().slow_consumers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_floods_itself_over_tls_gets_everything_back() {
    // It writes without reading until all is written: both directions are full at the same time.
    const MESSAGES: usize = 3_000;
    const SIZE: usize = 8 * 1024;
    let authority = Authority::new();
    let server = server(&authority, |_| {}).await;
    let address = server.client_addr();
    beside(move || {
        let mut client = Setup::new(&authority).connect(address).expect("connected");
        client.send(b"SUB a 1\r\n").expect("sent");
        let body = payload(7, SIZE);
        let mut frame = format!("PUB a {SIZE}\r\n").into_bytes();
        frame.extend_from_slice(&body);
        frame.extend_from_slice(b"\r\n");
        for _ in 0..MESSAGES {
            client.send(&frame).expect("sent");
        }
        for _ in 0..MESSAGES {
            expect_message(&mut client, &body, SIZE);
        }
    })
    .await;
    assert_eq!(server.totals().slow_consumers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_messages_fan_out_in_order() {
    const MESSAGES: usize = 20_000;
    const CONSUMERS: usize = 10;
    let authority = Authority::new();
    let server = server(&authority, |_| {}).await;
    let address = server.client_addr();
    beside(move || {
        let setup = Setup::new(&authority);
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|_| {
                let mut consumer = setup.connect(address).expect("connected");
                consumer.send(b"SUB a 1\r\nPING\r\n").expect("sent");
                assert_eq!(consumer.line().expect("PONG"), "PONG");
                thread::spawn(move || {
                    for number in 0..MESSAGES {
                        expect_message(&mut consumer, number.to_string().as_bytes(), 64);
                    }
                })
            })
            .collect();
        let mut publisher = setup.connect(address).expect("connected");
        let mut frames = Vec::new();
        for number in 0..MESSAGES {
            let text = number.to_string();
            frames.extend_from_slice(format!("PUB a {}\r\n{text}\r\n", text.len()).as_bytes());
        }
        publisher.send(&frames).expect("sent");
        for consumer in consumers {
            consumer.join().expect("all arrives in order");
        }
    })
    .await;
}

/// Sends 40 MB to a consumer that reads nothing, and waits until it is dropped for it.
async fn drop_the_dead(max_pending: usize, write_deadline: Duration) {
    let authority = Authority::new();
    let pair = authority.pair("server");
    let server = natterjack_server::Server::start(Options {
        tls: Some(natterjack_server::Tls {
            cert_file: Some(pair.cert_file),
            key_file: Some(pair.key_file),
            ..natterjack_server::Tls::default()
        }),
        max_pending,
        write_deadline,
        ..options()
    })
    .await
    .expect("a server");
    let address = server.client_addr();
    let dead = beside(move || {
        let setup = Setup::new(&authority);
        let mut dead = setup.connect(address).expect("connected");
        dead.send(b"SUB a 1\r\nPING\r\n").expect("sent");
        assert_eq!(dead.line().expect("PONG"), "PONG");
        let mut publisher = setup.connect(address).expect("connected");
        let body = payload(3, 64 * 1024);
        for _ in 0..600 {
            publisher.send(b"PUB a 65536\r\n").expect("sent");
            publisher.send(&body).expect("sent");
            publisher.send(b"\r\n").expect("sent");
        }
        dead
    })
    .await;
    until("the dead one is dropped", || {
        server.totals().slow_consumers == 1
    })
    .await;
    drop(dead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_takes_nothing_is_dropped_over_tls_too() {
    drop_the_dead(4 * 1024 * 1024, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_deadline_holds_over_tls_too() {
    drop_the_dead(256 * 1024 * 1024, Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_says_so_in_tls() {
    let authority = Authority::new();
    let server = server(&authority, |_| {}).await;
    let address = server.client_addr();
    let mut client =
        beside(move || Setup::new(&authority).connect(address).expect("connected")).await;
    server.shutdown().await;
    let rest = beside(move || client.rest()).await;
    assert_eq!(rest.expect("a proper end"), b"");
}
