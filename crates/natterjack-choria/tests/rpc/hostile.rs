//! What others do, and what comes of it: nothing.

use std::time::Duration;

use natterjack_choria::client::{Asker, Event, Ping, Question, SignedRequest};
use natterjack_choria::connector::{Connector, OutgoingReply, OutgoingRequest, Recipients};
use natterjack_choria::filter::Filter;
use natterjack_choria::identity::{CallerId, Identity};
use natterjack_choria::node::DISCOVERY;
use natterjack_choria::rpc::{PING, PONG};
use natterjack_choria::subject::{Collectives, TargetKind};
use natterjack_choria::wire::{Headers, Reply, SecureReply, Transport, Wrapping};
use serde_json::json;

use crate::support::{PATIENCE, RIP, World, call, listen, now, within};

const MAIN: &str = "mcollective";

fn signed(asker: &Asker, age: Duration) -> SignedRequest {
    let question = Question {
        collective: MAIN,
        agent: DISCOVERY,
        body: PING,
        filter: &Filter::default(),
    };
    asker.sign(&question, now() - age)
}

async fn send(connector: &Connector, signed: &SignedRequest, reply_to: &str) {
    let request = OutgoingRequest {
        content: signed.content.clone(),
        request_id: signed.id.clone(),
        collective: MAIN.into(),
        agent: DISCOVERY.into(),
        recipients: Recipients::Everyone,
        reply_to: reply_to.into(),
        is_traced: false,
    };
    connector.publish(request).await.unwrap();
}

fn reply_subject(caller: &str, sequence: u64) -> String {
    let caller = CallerId::of_certificate(caller).unwrap();
    Collectives::default()
        .reply(MAIN, &caller, "x", sequence)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_answer_only_what_was_asked_by_who_may_now_and_once() {
    let world = World::new().await;
    let node = world.node("n1.example.net", json!({}), &[]).await;
    let wire = world.connector("somewhere.example.net").await;
    let rip = world.asker(RIP);
    let own = reply_subject(RIP, 1);
    let fresh = Duration::ZERO;

    // Not in the list of those who may ask.
    let machine = world.asker("n2.example.net");
    let elsewhere = reply_subject("n2.example.net", 1);
    send(&wire, &signed(&machine, fresh), &elsewhere).await;
    node.counts("one who may not", |counts| counts.unvalidated == 1)
        .await;
    // Answers for somebody else, or for what looks like a request.
    for subject in [
        reply_subject("bob.mcollective", 1),
        "mcollective.node.n1.example.net".into(),
        "mcollective.broadcast.agent.discovery".into(),
        "_INBOX.x".into(),
    ] {
        send(&wire, &signed(&rip, fresh), &subject).await;
    }
    node.counts("foreign subjects", |counts| counts.unvalidated == 5)
        .await;
    // Too old, or from the future.
    send(&wire, &signed(&rip, Duration::from_secs(120)), &own).await;
    node.counts("an old one", |counts| counts.out_of_date == 1)
        .await;
    // Changed on the way.
    let mut forged = signed(&rip, fresh);
    let text = String::from_utf8(forged.content).unwrap();
    forged.content = text.replace("discovery", "discovers").into_bytes();
    send(&wire, &forged, &own).await;
    node.counts("a forged one", |counts| counts.unvalidated == 6)
        .await;
    // Another authority's certificate of the same name.
    let other = World::new().await;
    send(&wire, &signed(&other.asker(RIP), fresh), &own).await;
    node.counts("a stranger's", |counts| counts.unvalidated == 7)
        .await;
    // Heard on the way, and sent again.
    let good = signed(&rip, fresh);
    for _ in 0..3 {
        send(&wire, &good, &own).await;
    }
    node.counts("a repeated one", |counts| counts.unvalidated == 9)
        .await;
    let counts = node.node.statistics();
    assert_eq!((counts.replies, counts.passed), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_comes_ends_a_node() {
    let world = World::new().await;
    let node = world.node("n1.example.net", json!({}), &[]).await;
    let wire = world.connector("somewhere.example.net").await;
    let own = reply_subject(RIP, 1);
    let contents: [&[u8]; 12] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"{}",
        br#"{"protocol":"choria:secure:request:1"}"#,
        br#"{"protocol":"choria:secure:request:2","message":"","signature":"","pubcert":""}"#,
        br#"{"protocol":"choria:secure:request:1","message":"","signature":"","pubcert":""}"#,
        br#"{"protocol":"choria:secure:request:1","message":7,"signature":[],"pubcert":{}}"#,
        br#"{"protocol":"choria:secure:request:1","message":"x","signature":"!","pubcert":"x"}"#,
        b"{\"protocol\":\"choria:secure:request:1\",\"message\":\"x\",\"signature\":\"\",\"pubcert\":\
          \"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n\"}",
    ];
    for content in contents {
        let request = SignedRequest {
            id: "0".repeat(32),
            content: content.to_vec(),
        };
        send(&wire, &request, &own).await;
    }
    // Bodies that somebody who may ask has signed.
    let rip = world.asker(RIP);
    let deep = "[".repeat(100_000);
    for body in ["", "null", "{}", "\0", &deep, r#"{"agent":1}"#] {
        for agent in [DISCOVERY, "rpcutil"] {
            let question = Question {
                collective: MAIN,
                agent,
                body,
                filter: &Filter::default(),
            };
            send(&wire, &rip.sign(&question, now()), &own).await;
        }
    }
    node.counts("all of them", |counts| counts.total == 24)
        .await;
    assert_eq!(node.node.statistics().unvalidated, 12);
    still_answers(&world).await;
    node.end().await;
}

/// Whatever was sent to it, the node hears and is heard.
async fn still_answers(world: &World) {
    let mut client = world.client(RIP).await;
    let ping = Ping {
        timeout: Some(PATIENCE),
        answers_max: Some(1),
        ..Ping::default()
    };
    assert_eq!(listen(client.ping(ping)).await.discovered.unwrap().len(), 1);
}

/// A server ends the connection of who writes a line of more than 4 KiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_subject_without_end_does_not_cost_a_node_its_connection() {
    let world = World::new().await;
    let node = world.node("n1.example.net", json!({}), &[]).await;
    let own = reply_subject(RIP, 1);
    let request = Transport {
        content: signed(&world.asker(RIP), Duration::ZERO).content,
        headers: Headers {
            sender: Some("somewhere.example.net".into()),
            reply_to: Some(format!("{own}.{}", "x".repeat(5000))),
            ..Headers::default()
        },
    };
    let subject = "mcollective.broadcast.agent.discovery";
    let content = request.to_bytes(Wrapping::default());
    world.publish(subject, content).await;
    node.counts("an endless subject", |counts| counts.unvalidated == 1)
        .await;
    still_answers(&world).await;
    assert_eq!(node.connector.statistics().reconnects, 0);
    node.end().await;
}

/// Somebody with a machine's certificate hears requests, and answers before the node, what it should not.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_do_not_belong_are_counted_and_left_out() {
    let world = World::new().await;
    let _node = world.node("n1.example.net", json!({}), &[]).await;
    let liar = world.connector("liar.example.net").await;
    liar.subscribe("rpcutil", TargetKind::Broadcast, MAIN)
        .unwrap();
    assert!(liar.flush().await);
    let lying = tokio::spawn(async move {
        let mut incoming = liar.receive();
        let request = incoming.next().await.expect("a request").transport;
        let secure: serde_json::Value = serde_json::from_slice(&request.content).unwrap();
        let inner = secure["message"].as_str().unwrap();
        let inner: serde_json::Value = serde_json::from_str(inner).unwrap();
        let id = inner["envelope"]["requestid"].as_str().unwrap();
        let content = |id: &str, agent: &str, sender: &str| {
            let reply = Reply {
                body: r#"{"statuscode":0,"statusmsg":"OK","data":{"pong":0}}"#.into(),
                request_id: id.into(),
                sender: Identity::new(sender).unwrap(),
                agent: agent.into(),
                time: now(),
            };
            SecureReply::new(reply.to_text()).to_bytes()
        };
        let foreign = "0".repeat(32);
        let good = content(id, "rpcutil", "liar.example.net");
        let changed = String::from_utf8(good.clone())
            .unwrap()
            .replace("pong", "gong");
        let contents = [
            changed.into_bytes(),
            content(&foreign, "rpcutil", "n1.example.net"),
            content(id, "discovery", "n1.example.net"),
            PONG.as_bytes().to_vec(),
            vec![0xff; 100],
            good.clone(),
            good,
            content(id, "rpcutil", "n2.example.net"),
        ];
        for content in contents {
            let reply = OutgoingReply {
                content,
                request: Headers {
                    reply_to: request.headers.reply_to.clone(),
                    ..Headers::default()
                },
            };
            liar.publish(reply).await.unwrap();
        }
        assert!(liar.flush().await);
    });
    let mut client = world
        .client_with(RIP, |options| options.direct_nodes_max = 0)
        .await;
    let mut ping = call("rpcutil", "ping", json!({}));
    // The liar says last that it is the second one; the third one never answers.
    let names = ["n1.example.net", "n2.example.net", "n0.example.net"];
    ping.filter.identity = names.map(String::from).to_vec();
    let mut run = client.call(ping);
    let mut answers = Vec::new();
    let mut is_told = false;
    let outcome = loop {
        match within("an event", run.next())
            .await
            .expect("it ends")
            .unwrap()
        {
            Event::Answered { node, .. } => answers.push(node.to_string()),
            Event::Ended { outcome, .. } => break outcome,
            _ => {}
        }
        if answers.len() == 2 && !is_told {
            is_told = true;
            run.stop();
        }
    };
    within("the liar", lying).await.unwrap();
    answers.sort();
    assert_eq!(answers, ["n1.example.net", "n2.example.net"]);
    assert_eq!(outcome.answered, 2);
    assert_eq!(outcome.unexpected.len(), 1);
    assert_eq!(outcome.unexpected[0].as_str(), "liar.example.net");
    assert_eq!(outcome.unexpected_answers, 2);
    assert_eq!(outcome.missing[0].as_str(), "n0.example.net");
    assert_eq!((outcome.damaged, outcome.foreign), (4, 1));
}
