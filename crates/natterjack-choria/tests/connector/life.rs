//! Connections that are lost and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use natterjack_choria::connector::{
    Connector, Event, NODE_AWAY_BYTES_MAX, PublishError, Recipients, Servers,
};
use natterjack_choria::subject::TargetKind;

use crate::support::{
    Authority, broadcast_to_all, by_name, event, next_content, nowhere, request, start_at, within,
};

const RIP: &str = "rip.mcollective";
const COLLECTIVE: &str = "mcollective";

async fn lost(events: &mut tokio::sync::broadcast::Receiver<Event>) {
    event(events, "the loss", |event| match event {
        Event::Disconnected { .. } => Some(()),
        _ => None,
    })
    .await;
}

async fn back(events: &mut tokio::sync::broadcast::Receiver<Event>) {
    event(events, "the connection", |event| match event {
        Event::Connected { .. } => Some(()),
        _ => None,
    })
    .await;
}

async fn ask(connector: &Connector, content: &str) -> Result<usize, PublishError> {
    let reply_to = connector.reply_subject(COLLECTIVE).unwrap();
    let outgoing = request(content, Recipients::Everyone, reply_to);
    connector.publish(outgoing).await
}

#[tokio::test]
async fn a_lost_connection_comes_back_with_all_that_was_there() {
    let authority = Authority::new();
    let server = authority.server().await;
    let (address, name) = (server.client_addr(), by_name(&server));
    let node = authority.connector_with("node1", vec![name.clone()], "", |options| {
        options.away_bytes_max = NODE_AWAY_BYTES_MAX;
    });
    within("a node", node.connect()).await.unwrap();
    node.subscribe("discovery", TargetKind::Broadcast, COLLECTIVE)
        .unwrap();
    assert!(within("a flush", node.flush()).await);
    let mut events = node.events();
    let mut incoming = node.receive();
    server.shutdown().await;
    drop(server);
    lost(&mut events).await;
    assert_eq!(node.connected_server(), None);
    assert!(!node.flush().await, "there is nobody to answer");
    // Subscriptions made meanwhile come back as well.
    node.subscribe("rpcutil", TargetKind::Broadcast, COLLECTIVE)
        .unwrap();
    for number in 0..3 {
        assert_eq!(ask(&node, &format!("waiting {number}")).await, Ok(1));
    }
    let large = "x".repeat(4_000);
    let mut taken = 0;
    let error = loop {
        match ask(&node, &large).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(
        error,
        PublishError::Away {
            bytes_max: NODE_AWAY_BYTES_MAX
        }
    );
    assert_eq!(
        taken, 1,
        "two of four thousand bytes in base 64 are too many"
    );

    let server = start_at(address, authority.options()).await;
    back(&mut events).await;
    assert_eq!(node.connected_server(), Some(name));
    for number in 0..3 {
        // It hears itself.
        assert_eq!(
            next_content(&mut incoming).await,
            format!("waiting {number}")
        );
    }
    assert_eq!(next_content(&mut incoming).await, large);
    assert!(within("a flush", node.flush()).await);
    assert_eq!(server.subscriptions(), 2);
    assert_eq!(node.statistics().reconnects, 1);
    assert_eq!(node.statistics().dropped, 0);
}

#[tokio::test]
async fn the_next_server_is_gone_to() {
    let authority = Authority::new();
    let (first, second) = (authority.server().await, authority.server().await);
    let node = authority.connector("node1", vec![nowhere(), by_name(&first), by_name(&second)]);
    let connected = within("a node", node.connect()).await.unwrap();
    assert_eq!(connected, by_name(&first), "in the order of the list");
    node.subscribe("discovery", TargetKind::Broadcast, COLLECTIVE)
        .unwrap();
    let client = authority.connector(RIP, vec![by_name(&second)]);
    within("a client", client.connect()).await.unwrap();
    let (mut events, mut incoming) = (node.events(), node.receive());
    first.shutdown().await;
    back(&mut events).await;
    assert_eq!(node.connected_server(), Some(by_name(&second)));
    assert!(within("a flush", node.flush()).await);
    broadcast_to_all(&client, "hello").await;
    assert_eq!(next_content(&mut incoming).await, "hello");
}

#[tokio::test]
async fn servers_are_asked_for_again() {
    let authority = Authority::new();
    let server = authority.server().await;
    let name = by_name(&server);
    let asked = Arc::new(AtomicUsize::new(0));
    let asking = Arc::clone(&asked);
    let servers = Servers::found(move || {
        let found = match asking.fetch_add(1, Ordering::Relaxed) {
            0 => vec![],
            1 => vec![nowhere()],
            _ => vec![name.clone()],
        };
        async move { found }
    });
    let client = authority.connector(RIP, servers);
    let mut events = client.events();
    assert_eq!(
        asked.load(Ordering::Relaxed),
        0,
        "it does not start by itself"
    );
    let connected = within("a client", client.connect()).await.unwrap();
    assert_eq!(connected, by_name(&server));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    event(&mut events, "the lack of servers", |event| match event {
        Event::NoServers => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn without_room_nothing_waits() {
    let authority = Authority::new();
    let server = authority.server().await;
    let node = authority.connector_with("node1", vec![by_name(&server)], "", |options| {
        options.away_bytes_max = 0;
    });
    let mut events = node.events();
    let error = ask(&node, "early").await.unwrap_err();
    assert_eq!(error, PublishError::Away { bytes_max: 0 });
    within("a node", node.connect()).await.unwrap();
    assert_eq!(ask(&node, "now").await, Ok(1));
    assert!(within("a flush", node.flush()).await);
    server.shutdown().await;
    lost(&mut events).await;
    assert!(ask(&node, "late").await.is_err());
}

#[tokio::test]
async fn it_ends_when_it_is_told_to_or_dropped() {
    let authority = Authority::new();
    let server = authority.server().await;
    let client = authority.connector(RIP, vec![by_name(&server)]);
    within("a client", client.connect()).await.unwrap();
    client
        .subscribe("discovery", TargetKind::Broadcast, COLLECTIVE)
        .unwrap();
    assert!(within("a flush", client.flush()).await);
    let mut incoming = client.receive();
    // What was published goes out before the end.
    let other = authority.connector("other.mcollective", vec![by_name(&server)]);
    within("another", other.connect()).await.unwrap();
    for number in 0..100 {
        broadcast_to_all(&other, &number.to_string()).await;
    }
    within("the end", other.disconnect()).await;
    assert_eq!(ask(&other, "late").await, Err(PublishError::Closed));
    for number in 0..100 {
        assert_eq!(next_content(&mut incoming).await, number.to_string());
    }
    drop(client);
    assert!(
        within("the end of the stream", incoming.next())
            .await
            .is_none()
    );
    // While there is no server as well.
    let away = authority.connector("away.mcollective", vec![nowhere()]);
    let connecting = away.clone();
    let connecting = tokio::spawn(async move { connecting.connect().await.map(drop) });
    let mut events = away.events();
    event(&mut events, "a failure", |event| match event {
        Event::Failed { .. } => Some(()),
        _ => None,
    })
    .await;
    within("the end", away.disconnect()).await;
    assert!(within("the answer", connecting).await.unwrap().is_err());
}
