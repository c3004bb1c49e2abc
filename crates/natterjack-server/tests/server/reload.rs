//! Exchanging the options of a running server.

use std::time::Duration;

use natterjack_server::{Access, Options, ReloadError, Tls};
use testkit::Peer;

use crate::support::{Bulk, beside, options, quiet_peer, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_is_told_and_holds_for_open_connections() {
    let server = start().await;
    let mut peer = quiet_peer(&server);
    let new = Options {
        max_payload: 10,
        ping_interval: Duration::from_secs(30),
        ..options()
    };
    let changes = server.reload(new.clone()).await.expect("both can change");
    let named: Vec<_> = changes
        .live
        .iter()
        .map(|change| change.option.as_str())
        .collect();
    assert_eq!(named, ["max_payload", "ping_interval"]);
    assert_eq!(*server.options(), new);
    assert_eq!(server.varz().max_payload, 10);
    beside(move || {
        assert_eq!(peer.expect_info()["max_payload"], 10);
        peer.send("PUB a 11\r\n");
        peer.expect_error("Maximum Payload Violation");
        peer.expect_closed();
    })
    .await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_change_refuses_everything_and_is_named() {
    let server = start().await;
    let new = Options {
        max_payload: 10,
        no_header_support: true,
        server_name: Some("another".to_owned()),
        ..options()
    };
    let error = server.reload(new).await.expect_err("two cannot change");
    let ReloadError::NotLive(refused) = &error else {
        panic!("{error}")
    };
    assert_eq!(refused.len(), 2);
    let text = error.to_string();
    assert!(
        text.contains("server_name") && text.contains("no_header_support"),
        "{text}"
    );
    assert_eq!(*server.options(), options());
    assert_eq!(server.varz().max_payload, options().max_payload);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_and_files_that_cannot_work_change_nothing() {
    let server = start().await;
    let wrong = Options {
        max_payload: 2_000_000_000,
        ..options()
    };
    let error = server.reload(wrong).await.expect_err("too large");
    assert!(matches!(error, ReloadError::Options(_)), "{error}");
    let no_file = Options {
        max_payload: 5,
        tls: Some(Tls {
            cert_file: Some("/nowhere/cert.pem".into()),
            key_file: Some("/nowhere/key.pem".into()),
            ..Tls::default()
        }),
        ..options()
    };
    let error = server.reload(no_file).await.expect_err("no such file");
    assert!(error.to_string().contains("/nowhere/cert.pem"), "{error}");
    assert_eq!(*server.options(), options());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_process_clients_outlive_a_change_of_credentials() {
    let server = start().await;
    let client = server.in_process_client().expect("the server runs");
    let mut messages = client.subscribe("a").await.expect("subscribed");
    client.flush().await.expect("the server has handled it");
    let locked = Options {
        authorization: Access::token("t"),
        ..options()
    };
    server.reload(locked).await.expect("live");
    let other = server.in_process_client().expect("the server runs");
    other.publish("a", "still here").await.expect("published");
    let message = messages.next().await.expect("the client stays");
    assert_eq!(&message.payload[..], b"still here");
    let mut stranger = Peer::connect(server.client_addr());
    beside(move || {
        stranger.expect_info();
        stranger.send("CONNECT {\"verbose\":false}\r\n");
        stranger.expect_error("Authorization Violation");
        stranger.expect_closed();
    })
    .await;
    server.shutdown().await;
}

/// Large messages keep the queues full while the options change under them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_while_queues_are_full() {
    const MESSAGES: usize = 3_000;
    let server = start().await;
    let (mut subscriber, mut publisher) = (Bulk::connect(&server), Bulk::connect(&server));
    let body = "x".repeat(16 * 1024);
    let frame = format!("MSG a 1 {}\r\n{body}\r\n", body.len());
    let flow = tokio::task::spawn_blocking(move || {
        subscriber.send_and_wait("SUB a 1\r\n");
        let sender = std::thread::spawn(move || {
            let message = format!("PUB a {}\r\n{body}\r\n", body.len());
            for _ in 0..MESSAGES {
                publisher.send(&message);
            }
            publisher.send_and_wait("");
        });
        subscriber.expect(frame.as_bytes(), MESSAGES);
        sender.join().expect("the publisher ends well");
    });
    let mut round = 0;
    while !flow.is_finished() {
        round += 1;
        let new = Options {
            max_payload: 64 * 1024 + round % 100,
            max_pending: options().max_pending,
            write_deadline: Duration::from_secs(20 + (round % 10) as u64),
            ..options()
        };
        server.reload(new).await.expect("live");
    }
    flow.await.expect("every message arrived");
    assert!(round > 1, "the options changed meanwhile");
    server.shutdown().await;
}
