//! Starting, stopping, lame duck mode.

use std::net::TcpStream;
use std::time::Duration;

use natterjack_server::{Access, Cluster, Endpoint, Monitoring, Options, Server, StartError};
use testkit::Peer;
use tokio::time::timeout;

use crate::support::{Bulk, PATIENCE, beside, options, quiet_peer, start, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_servers_live_side_by_side() {
    let (one, two) = (start().await, start().await);
    assert_ne!(one.client_addr(), two.client_addr());
    assert_ne!(one.server_id(), two.server_id());
    assert!(one.server_id().starts_with('N') && one.server_id().len() == 56);
    assert_eq!(one.client_url(), format!("nats://{}", one.client_addr()));
    let (mut on_one, mut on_two) = (quiet_peer(&one), quiet_peer(&two));
    beside(move || {
        on_one.send("SUB a 1\r\n");
        on_one.ping_pong();
        on_two.send("SUB a 1\r\nPUB a 1\r\nx\r\n");
        on_two.expect("MSG a 1 1\r\nx\r\n");
        on_one.ping_pong();
    })
    .await;
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_is_named() {
    let server = start().await;
    let port = server.client_addr().port();
    let error = Server::start(Options { port, ..options() })
        .await
        .expect_err("the port is taken");
    assert!(matches!(error, StartError::Bind { .. }));
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen for clients on 127.0.0.1:{port}: "))
    );
}

/// Whoever stops a server before its tasks have run once has its addresses back as well.
#[tokio::test]
async fn a_server_stopped_at_once_leaves_its_addresses() {
    let on = |[client, routes, pages]: [u16; 3]| {
        let local = |port| Endpoint {
            host: "127.0.0.1".to_owned(),
            port,
        };
        Options {
            port: client,
            cluster: Some(Cluster {
                listen: Some(local(routes)),
                ..Cluster::default()
            }),
            monitoring: Monitoring {
                http: Some(local(pages)),
                ..Monitoring::default()
            },
            ..options()
        }
    };
    let mut ports = [0; 3];
    for _ in 0..3 {
        let server = Server::start(on(ports)).await.expect("free addresses");
        let addresses = [
            Some(server.client_addr()),
            server.cluster_addr(),
            server.monitoring_addr(),
        ];
        ports = addresses.map(|address| address.expect("an address").port());
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_that_cannot_work_are_refused_before_anything_starts() {
    let wrong = Options {
        server_name: Some("a b".to_owned()),
        ping_interval: Duration::ZERO,
        ..options()
    };
    let error = Server::start(wrong).await.expect_err("two problems");
    let text = error.to_string();
    assert!(
        text.contains("server_name") && text.contains("ping_interval"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn localhost_is_reached_by_ipv4() {
    let server = Server::start(Options {
        host: "localhost".to_owned(),
        ..options()
    })
    .await
    .expect("a server on localhost");
    assert!(server.client_addr().is_ipv4());
    for address in server.client_addrs().to_vec() {
        assert_eq!(address.port(), server.client_addr().port());
        beside(move || {
            Peer::connect(address).expect_info();
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_closes_everything_and_may_be_repeated() {
    let server = start().await;
    let address = server.client_addr();
    let mut peer = quiet_peer(&server);
    tokio::join!(server.shutdown(), server.shutdown());
    server.shutdown().await;
    timeout(PATIENCE, server.stopped()).await.expect("stopped");
    assert_eq!(server.connections(), 0);
    assert!(server.in_process_client().is_err());
    beside(move || {
        peer.expect_closed();
        assert!(TcpStream::connect(address).is_err(), "the port is closed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_handle_stops_the_server() {
    let server = start().await;
    let address = server.client_addr();
    let mut peer = quiet_peer(&server);
    drop(server);
    beside(move || peer.expect_closed()).await;
    until("the port is closed", || {
        TcpStream::connect(address).is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_delivers_what_was_accepted() {
    const MESSAGES: usize = 2_000;
    const SIZE: usize = 4_096;
    let server = start().await;
    let [mut publisher, mut subscriber] = [(); 2].map(|()| Bulk::connect(&server));
    let (publisher, mut subscriber) = beside(move || {
        subscriber.send_and_wait("SUB a 1\r\n");
        // 8 MB that the subscriber does not read yet: most of it waits in the server.
        let message = format!("PUB a {SIZE}\r\n{}\r\n", "x".repeat(SIZE));
        publisher.send_and_wait(message.repeat(MESSAGES));
        (publisher, subscriber)
    })
    .await;
    assert_eq!(server.totals().messages_in, MESSAGES as u64);
    let read = beside(move || {
        let frame = format!("MSG a 1 {SIZE}\r\n{}\r\n", "x".repeat(SIZE));
        subscriber.expect(frame.as_bytes(), MESSAGES);
        drop(publisher);
        subscriber.rest()
    });
    let ((), rest) = tokio::join!(server.shutdown(), read);
    assert_eq!(rest, 0, "nothing but the messages, and an orderly end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lame_duck_tells_clients_and_then_closes_them() {
    let server = Server::start(Options {
        lame_duck_duration: Duration::from_millis(400),
        lame_duck_grace_period: Duration::from_millis(200),
        ..options()
    })
    .await
    .expect("a server");
    let address = server.client_addr();
    let mut peer = quiet_peer(&server);
    let told = beside(move || {
        let info = peer.expect_info();
        assert_eq!(info["ldm"], true, "{info}");
        assert!(TcpStream::connect(address).is_err(), "no new connections");
        // The old ones still work.
        peer.ping_pong();
        peer.expect_closed();
    });
    let ((), ()) = tokio::join!(server.lame_duck(), told);
    assert_eq!(server.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lame_duck_without_clients_ends_at_once() {
    let server = start().await;
    timeout(Duration::from_secs(5), server.lame_duck())
        .await
        .expect("nobody to wait for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_cuts_lame_duck_short() {
    let server = start().await;
    let peer = quiet_peer(&server);
    let both = async { tokio::join!(server.lame_duck(), server.shutdown()) };
    timeout(PATIENCE, both)
        .await
        .expect("lame duck mode would take two minutes");
    drop(peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_leaves_no_subscription() {
    let server = start().await;
    let mut peer = quiet_peer(&server);
    let peer = beside(move || {
        let subscribe: String = (0..20_000)
            .map(|sid| format!("SUB a.{sid} {sid}\r\n"))
            .collect();
        peer.send(subscribe);
        peer.ping_pong();
        peer
    })
    .await;
    assert_eq!(server.subscriptions(), 20_000);
    drop(peer);
    until("its subscriptions are gone", || server.subscriptions() == 0).await;
    until("its connection is gone", || server.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_asked_for() {
    let server = Server::start(Options {
        authorization: Access::token("s3cret"),
        auth_timeout: Duration::from_millis(300),
        ..options()
    })
    .await
    .expect("a server");
    let address = server.client_addr();
    let in_process = server.in_process_client().expect("a client");
    in_process
        .flush()
        .await
        .expect("the embedder's own client is let in");
    beside(move || {
        let mut silent = Peer::connect(address);
        assert_eq!(silent.expect_info()["auth_required"], true);
        let mut wrong = Peer::connect(address);
        wrong.expect_info();
        wrong.send("CONNECT {\"auth_token\":\"guess\",\"verbose\":false}\r\nPING\r\n");
        wrong.expect_error("Authorization Violation");
        wrong.expect_closed();
        silent.expect_error("Authentication Timeout");
        silent.expect_closed();
    })
    .await;
}
