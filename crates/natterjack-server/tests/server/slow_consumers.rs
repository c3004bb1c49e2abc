//! Consumers that do not keep up, over real sockets.

use std::thread;

use natterjack_server::{Options, Server};

use crate::support::{Bulk, beside, options, until};

const SIZE: usize = 8 * 1024;

fn published() -> String {
    format!("PUB a {SIZE}\r\n{}\r\n", "x".repeat(SIZE))
}

fn delivered() -> Vec<u8> {
    format!("MSG a 1 {SIZE}\r\n{}\r\n", "x".repeat(SIZE)).into_bytes()
}

async fn server(max_pending: usize) -> Server {
    Server::start(Options {
        max_pending,
        ..options()
    })
    .await
    .expect("a server")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_consumer_is_dropped_and_the_others_get_everything() {
    const MESSAGES: usize = 4_000;
    let server = server(4 * 1024 * 1024).await;
    let [mut publisher, mut alive, mut dead] = [(); 3].map(|()| Bulk::connect(&server));
    let dead = beside(move || {
        alive.send_and_wait("SUB a 1\r\n");
        dead.send_and_wait("SUB a 1\r\n");
        let reading = thread::spawn(move || alive.expect(&delivered(), MESSAGES));
        publisher.send_and_wait(published().repeat(MESSAGES));
        reading.join().expect("the one that reads gets all");
        dead
    })
    .await;
    until("the dead one is dropped", || {
        server.totals().slow_consumers == 1
    })
    .await;
    let got = beside(move || dead.rest()).await;
    assert!(got < MESSAGES * delivered().len(), "{got}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_is_slowed_to_the_pace_of_a_consumer_that_reads() {
    // Eight times what may wait: without slowing the producer the consumer would be dropped.
    const MESSAGES: usize = 8_000;
    let server = server(8 * 1024 * 1024).await;
    let [mut publisher, mut consumer] = [(); 2].map(|()| Bulk::connect(&server));
    beside(move || {
        consumer.send_and_wait("SUB a 1\r\n");
        let reading = thread::spawn(move || consumer.expect(&delivered(), MESSAGES));
        publisher.send_and_wait(published().repeat(MESSAGES));
        reading.join().expect("everything arrives");
    })
    .await;
    assert_eq!(server.totals().slow_consumers, 0);
    assert_eq!(server.totals().messages_out, MESSAGES as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_floods_itself_gets_everything_back() {
    // It writes without reading until all is written, the worst case for a server that slows producers.
    const MESSAGES: usize = 4_000;
    let server = server(64 * 1024 * 1024).await;
    let mut client = Bulk::connect(&server);
    beside(move || {
        client.send("SUB a 1\r\n");
        client.send(published().repeat(MESSAGES));
        client.expect(&delivered(), MESSAGES);
    })
    .await;
    assert_eq!(server.totals().slow_consumers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_said_all_still_gets_what_waits_for_it() {
    const MESSAGES: usize = 2_000;
    let server = server(64 * 1024 * 1024).await;
    let [mut publisher, mut client] = [(); 2].map(|()| Bulk::connect(&server));
    beside(move || {
        client.send_and_wait("SUB a 1\r\n");
        publisher.send_and_wait(published().repeat(MESSAGES));
        client.finish_sending();
        client.expect(&delivered(), MESSAGES);
        assert_eq!(client.rest(), 0);
    })
    .await;
}
