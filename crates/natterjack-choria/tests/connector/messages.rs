//! What is published and received: by agent, by node, as a reply, as a service; and what comes that is no message.

use natterjack_choria::connector::{Event, OutgoingReply, PublishError, Recipients};
use natterjack_choria::subject::{TargetError, TargetKind};
use natterjack_choria::wire::Wrapping;
use natterjack_server::{Options, Server};

use crate::support::{
    Authority, broadcast_to_all, by_name, event, identity, next, next_content, request, start,
    within,
};

const RIP: &str = "rip.mcollective";
const COLLECTIVE: &str = "mcollective";

/// Connected, and subscribed to requests to an agent.
async fn node(
    authority: &Authority,
    name: &str,
    server: &Server,
) -> natterjack_choria::connector::Connector {
    let node = authority.connector(name, vec![by_name(server)]);
    within("a node", node.connect()).await.unwrap();
    for kind in [TargetKind::Broadcast, TargetKind::Directed] {
        node.subscribe("discovery", kind, COLLECTIVE).unwrap();
    }
    assert!(within("a flush", node.flush()).await);
    node
}

#[tokio::test]
async fn requests_and_replies_find_their_way() {
    let authority = Authority::new();
    let server = authority.server().await;
    let node1 = node(&authority, "node1", &server).await;
    let node2 = node(&authority, "node2", &server).await;
    let client = authority.connector_with(RIP, vec![by_name(&server)], "", |options| {
        options.wrapping = Wrapping::Lines;
    });
    within("a client", client.connect()).await.unwrap();
    client.subscribe("", TargetKind::Reply, COLLECTIVE).unwrap();
    let (mut at1, mut at2, mut at_client) = (node1.receive(), node2.receive(), client.receive());

    let reply_to = client.reply_subject(COLLECTIVE).unwrap();
    assert_ne!(client.reply_subject(COLLECTIVE).unwrap(), reply_to);
    let traced = natterjack_choria::connector::OutgoingRequest {
        is_traced: true,
        ..request("to all", Recipients::Everyone, reply_to.clone())
    };
    assert_eq!(client.publish(traced).await, Ok(1));
    let url = by_name(&server).url();
    for (node, incoming, name) in [(&node1, &mut at1, "node1"), (&node2, &mut at2, "node2")] {
        let asked = next(incoming).await;
        assert_eq!(asked.transport.content, b"to all");
        assert_eq!(asked.subject, "mcollective.broadcast.agent.discovery");
        assert_eq!(asked.transport.headers.reply_to, Some(reply_to.clone()));
        assert_eq!(asked.transport.headers.sender.as_deref(), Some(RIP));
        let answer = OutgoingReply {
            content: name.as_bytes().to_vec(),
            request: asked.transport.headers,
        };
        assert_eq!(node.publish(answer).await, Ok(1));
    }
    let mut names = Vec::new();
    for _ in 0..2 {
        let answer = next(&mut at_client).await;
        assert_eq!(answer.subject, reply_to);
        let name = String::from_utf8(answer.transport.content).unwrap();
        let hops = answer.transport.headers.seen_by.unwrap();
        assert_eq!(
            hops,
            [vec![RIP, &url], vec![&url, &name, &url], vec![&url, RIP]]
        );
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["node1", "node2"]);

    let to_two = Recipients::Nodes(vec![identity("node2"), identity("node3")]);
    let directed = request("to one", to_two, reply_to);
    assert_eq!(client.publish(directed).await, Ok(2));
    assert_eq!(next(&mut at2).await.subject, "mcollective.node.node2");
    let counted = client.statistics();
    assert_eq!((counted.messages_out, counted.messages_in), (3, 2));
    assert!(counted.bytes_out > counted.bytes_in && counted.bytes_in > 200);
}

#[tokio::test]
async fn a_subscription_ends() {
    let authority = Authority::new();
    let server = authority.server().await;
    let node = node(&authority, "node1", &server).await;
    let client = authority.connector(RIP, vec![by_name(&server)]);
    within("a client", client.connect()).await.unwrap();
    // Being subscribed twice does not mean to get everything twice.
    node.subscribe("discovery", TargetKind::Broadcast, COLLECTIVE)
        .unwrap();
    let mut incoming = node.receive();
    broadcast_to_all(&client, "first").await;
    broadcast_to_all(&client, "second").await;
    assert_eq!(next_content(&mut incoming).await, "first");
    assert_eq!(next_content(&mut incoming).await, "second");
    node.unsubscribe("discovery", TargetKind::Broadcast, COLLECTIVE)
        .unwrap();
    assert!(within("a flush", node.flush()).await);
    broadcast_to_all(&client, "third").await;
    let reply_to = client.reply_subject(COLLECTIVE).unwrap();
    let to_node = Recipients::Nodes(vec![identity("node1")]);
    client
        .publish(request("fourth", to_node, reply_to))
        .await
        .unwrap();
    assert_eq!(next_content(&mut incoming).await, "fourth");
    let unknown = node.subscribe("discovery", TargetKind::Broadcast, "eu");
    assert!(matches!(unknown, Err(TargetError::Collective { .. })));
}

#[tokio::test]
async fn one_of_those_who_serve_gets_a_request() {
    let authority = Authority::new();
    let server = authority.server().await;
    let nodes = ["node1", "node2"].map(|name| authority.connector(name, vec![by_name(&server)]));
    for node in &nodes {
        within("a node", node.connect()).await.unwrap();
        node.subscribe_service("discovery", COLLECTIVE).unwrap();
        assert!(within("a flush", node.flush()).await);
    }
    let client = authority.connector(RIP, vec![by_name(&server)]);
    within("a client", client.connect()).await.unwrap();
    for _ in 0..20 {
        let reply_to = client.reply_subject(COLLECTIVE).unwrap();
        let outgoing = request("serve", Recipients::Service, reply_to);
        client.publish(outgoing).await.unwrap();
    }
    assert!(within("a flush", client.flush()).await);
    // What the server has sent before its answer has come before it.
    for node in &nodes {
        assert!(within("a flush", node.flush()).await);
    }
    let counts = nodes.each_ref().map(|node| node.statistics().messages_in);
    assert_eq!(counts.iter().sum::<u64>(), 20, "{counts:?}");
}

#[tokio::test]
async fn nothing_that_comes_ends_the_stream() {
    let authority = Authority::new();
    let server = authority.server().await;
    let node = node(&authority, "node1", &server).await;
    let client = authority.connector(RIP, vec![by_name(&server)]);
    within("a client", client.connect()).await.unwrap();
    let mut incoming = node.receive();
    let mut events = node.events();
    let peer = server.in_process_client().expect("a client in the process");
    let garbage: Vec<&[u8]> = vec![
        b"",
        b"\xff\xfe\0",
        b"not json",
        b"[]",
        b"{}",
        b"null",
        br#"{"protocol":"choria:transport:1"}"#,
        br#"{"protocol":"choria:transport:1","data":"%","headers":{}}"#,
        br#"{"protocol":"choria:transport:9","data":"YQ==","headers":{}}"#,
        br#"{"protocol":"choria:transport:1","data":"YQ==","headers":[]}"#,
        br#"{"protocol":"choria:transport:1","data":"YQ==","headers":{"seen-by":[1]}}"#,
    ];
    let deep = "[".repeat(100_000);
    let subject = "mcollective.broadcast.agent.discovery";
    for content in garbage.iter().copied().chain([deep.as_bytes()]) {
        let content = content.to_vec();
        peer.publish(subject, content).await.expect("published");
    }
    within("a flush", peer.flush()).await.expect("flushed");
    broadcast_to_all(&client, "good").await;
    assert_eq!(next_content(&mut incoming).await, "good");
    assert_eq!(node.statistics().malformed, garbage.len() as u64 + 1);
    let (found, reason) = event(&mut events, "a complaint", |event| match event {
        Event::Malformed { subject, reason } => Some((subject, reason)),
        _ => None,
    })
    .await;
    assert_eq!(found, subject);
    assert!(reason.contains("transport"), "{reason}");
    assert!(reason.chars().count() <= 500, "{reason}");
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let authority = Authority::new();
    let options = Options {
        max_payload: 1_000,
        ..authority.options()
    };
    let server = start(options).await;
    let client = authority.connector(RIP, vec![by_name(&server)]);
    within("a client", client.connect()).await.unwrap();
    let reply_to = client.reply_subject(COLLECTIVE).unwrap();
    let large = request(&"x".repeat(1_000), Recipients::Everyone, reply_to);
    let error = client.publish(large).await.unwrap_err();
    assert!(
        matches!(
            error,
            PublishError::TooLarge {
                bytes_max: 1_000,
                ..
            }
        ),
        "{error}"
    );
    broadcast_to_all(&client, "small").await;
    assert!(within("a flush", client.flush()).await);
}
