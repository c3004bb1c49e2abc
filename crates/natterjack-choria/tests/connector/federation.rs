//! A federation of two clusters, each with servers of its own.

use std::sync::Arc;

use natterjack_choria::connector::{Connector, OutgoingReply, Recipients};
use natterjack_choria::federation::Broker;
use natterjack_choria::subject::TargetKind;
use natterjack_server::Server;

use crate::support::{Authority, by_name, identity, next, request, within};

const RIP: &str = "rip.mcollective";
const COLLECTIVE: &str = "mcollective";

struct Cluster {
    server: Server,
    brokers: Vec<Arc<Broker>>,
    sides: Vec<Connector>,
    nodes: Vec<Connector>,
}

async fn connected(authority: &Authority, name: &str, server: &Server) -> Connector {
    let connector = authority.connector(name, vec![by_name(server)]);
    within("a connection", connector.connect()).await.unwrap();
    connector
}

impl Cluster {
    async fn start(
        authority: &Authority,
        federation: &Server,
        name: &str,
        brokers: usize,
        nodes: &[&str],
    ) -> Self {
        let mut cluster = Self {
            server: authority.server().await,
            brokers: Vec::new(),
            sides: Vec::new(),
            nodes: Vec::new(),
        };
        for number in 0..brokers {
            let broker = format!("broker{number}.{name}");
            let outside = connected(authority, &broker, federation).await;
            let inside = connected(authority, &broker, &cluster.server).await;
            let broker = Broker::new(name, outside.clone(), inside.clone()).unwrap();
            let broker = Arc::new(broker);
            for side in [outside, inside] {
                assert!(within("a flush", side.flush()).await);
                cluster.sides.push(side);
            }
            let running = Arc::clone(&broker);
            tokio::spawn(async move { running.run().await });
            cluster.brokers.push(broker);
        }
        for name in nodes {
            let node = connected(authority, name, &cluster.server).await;
            for kind in [TargetKind::Broadcast, TargetKind::Directed] {
                node.subscribe("discovery", kind, COLLECTIVE).unwrap();
            }
            assert!(within("a flush", node.flush()).await);
            tokio::spawn(echo(node.clone()));
            cluster.nodes.push(node);
        }
        cluster
    }
}

/// A node that answers with what it was asked.
async fn echo(node: Connector) {
    let mut incoming = node.receive();
    while let Some(asked) = incoming.next().await {
        let answer = OutgoingReply {
            content: asked.transport.content,
            request: asked.transport.headers,
        };
        node.publish(answer).await.expect("answered");
    }
}

#[tokio::test]
async fn requests_reach_the_nodes_of_all_clusters_and_answers_come_back() {
    let authority = Authority::new();
    let federation = authority.server().await;
    let london = Cluster::start(&authority, &federation, "london", 2, &["n1", "n2"]).await;
    let paris = Cluster::start(&authority, &federation, "paris", 1, &["n3"]).await;
    let client = authority.connector_with(
        RIP,
        vec![by_name(&federation)],
        "plugin.choria.federation.collectives = london, paris\n",
        |_| (),
    );
    within("a client", client.connect()).await.unwrap();
    client.subscribe("", TargetKind::Reply, COLLECTIVE).unwrap();
    let mut answers = client.receive();

    let mut reply_to = client.reply_subject(COLLECTIVE).unwrap();
    let mut traced = request("who is there", Recipients::Everyone, reply_to.clone());
    traced.is_traced = true;
    assert_eq!(client.publish(traced).await, Ok(2), "one for each cluster");
    let mut senders = Vec::new();
    for _ in 0..3 {
        let answer = next(&mut answers).await;
        assert_eq!(answer.subject, reply_to);
        assert_eq!(answer.transport.content, b"who is there");
        let headers = answer.transport.headers;
        assert_eq!(headers.federation, None);
        let sender = headers.sender.unwrap();
        let hops = headers.seen_by.unwrap();
        let lengths: Vec<_> = hops.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 3, 3, 3, 2], "{hops:?}");
        let cluster = if sender == "n3" { &paris } else { &london };
        let (outside, inside) = (by_name(&federation).url(), by_name(&cluster.server).url());
        assert_eq!(hops[0], [RIP, outside.as_str()]);
        assert_eq!((&hops[1][0], &hops[1][2]), (&outside, &inside));
        assert_eq!(hops[2], [inside.as_str(), &sender, &inside]);
        assert_eq!((&hops[3][0], &hops[3][2]), (&inside, &outside));
        assert_eq!(hops[4], [outside.as_str(), RIP]);
        senders.push(sender);
    }
    senders.sort();
    assert_eq!(senders, ["n1", "n2", "n3"]);

    // Four groups of at most two hundred for each cluster; of all these nodes three are there.
    let nodes = (1..=601).map(|number| identity(&format!("n{number}")));
    reply_to = client.reply_subject(COLLECTIVE).unwrap();
    let directed = request("you", Recipients::Nodes(nodes.collect()), reply_to);
    assert_eq!(client.publish(directed).await, Ok(8));
    let mut senders = Vec::new();
    for _ in 0..3 {
        let answer = next(&mut answers).await;
        senders.push(answer.transport.headers.sender.unwrap());
    }
    senders.sort();
    assert_eq!(senders, ["n1", "n2", "n3"]);
    for cluster in [&london, &paris] {
        for side in &cluster.sides {
            within("the end", side.disconnect()).await;
        }
        let counted: Vec<_> = cluster
            .brokers
            .iter()
            .map(|broker| broker.statistics())
            .collect();
        let sum = |count: fn(&natterjack_choria::federation::BrokerStatistics) -> u64| {
            counted.iter().map(count).sum::<u64>()
        };
        let answers = 2 * cluster.nodes.len() as u64;
        assert_eq!(
            (
                sum(|broker| broker.requests),
                sum(|broker| broker.requests_out),
                sum(|broker| broker.replies),
                sum(|broker| broker.dropped)
            ),
            (5, 602, answers, 0),
            "brokers of one cluster share the work: {counted:?}"
        );
    }
    assert_eq!(client.statistics().messages_in, 6, "nothing comes twice");
}

#[tokio::test]
async fn what_is_not_for_a_broker_is_dropped_and_the_next_is_passed_on() {
    let authority = Authority::new();
    let federation = authority.server().await;
    let london = Cluster::start(&authority, &federation, "london", 1, &["n1"]).await;
    let stranger = federation.in_process_client().expect("a client");
    let subject = "choria.federation.london.federation";
    let targets = r#""target":["$SYS.REQ.SERVER.PING"]"#;
    let long = "x".repeat(5000);
    let messages = [
        "rubbish".to_owned(),
        r#"{"data":"YQ==","headers":{}}"#.to_owned(),
        r#"{"data":"YQ==","headers":{"reply-to":"a.reply.b","federation":{"req":"1"}}}"#.to_owned(),
        r#"{"data":"YQ==","headers":{"federation":{"req":"1","target":["a.node.b"]}}}"#.to_owned(),
        format!(
            r#"{{"data":"YQ==","headers":{{"reply-to":"a.reply.b","federation":{{"req":"1",{targets}}}}}}}"#
        ),
        // The server would end the broker's connection over a line of that length.
        format!(
            r#"{{"data":"YQ==","headers":{{"reply-to":"a.reply.b","federation":{{"req":"1","target":["a.node.{long}"]}}}}}}"#
        ),
        format!(
            r#"{{"data":"YQ==","headers":{{"reply-to":"a.reply.{long}","federation":{{"req":"1","target":["a.node.b"]}}}}}}"#
        ),
    ];
    for message in messages {
        stranger.publish(subject, message).await.expect("published");
    }
    within("a flush", stranger.flush()).await.expect("flushed");
    let answering = london.server.in_process_client().expect("a client");
    let answer = format!(
        r#"{{"data":"YQ==","headers":{{"federation":{{"req":"1","reply-to":"a.reply.{long}"}}}}}}"#
    );
    let replies = "choria.federation.london.collective";
    answering.publish(replies, answer).await.expect("published");
    within("a flush", answering.flush()).await.expect("flushed");
    let client = authority.connector_with(RIP, vec![by_name(&federation)], "", |options| {
        options.federations = vec!["london".into()];
    });
    within("a client", client.connect()).await.unwrap();
    client.subscribe("", TargetKind::Reply, COLLECTIVE).unwrap();
    let reply_to = client.reply_subject(COLLECTIVE).unwrap();
    let asked = request("still there", Recipients::Everyone, reply_to);
    client.publish(asked).await.unwrap();
    let answer = next(&mut client.receive()).await;
    assert_eq!(answer.transport.content, b"still there");
    let counted = london.brokers[0].statistics();
    assert_eq!((counted.requests, counted.dropped), (1, 7), "{counted:?}");
    for side in &london.sides {
        assert_eq!(side.statistics().reconnects, 0, "none has lost its server");
    }
}
