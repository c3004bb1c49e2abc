//! Byte for byte the messages of MCollective 2.12.5 with Choria's plugins (2.26.3), as they were seen on a broker between
//! its daemon, its client and nobody else. The client's key is the one of these tests, so what we write can be compared.

use std::time::{Duration, UNIX_EPOCH};

use natterjack_choria::client::Exchange;
use natterjack_choria::filter::Filter;
use natterjack_choria::identity::{CallerId, Identity};
use natterjack_choria::rpc::{ActionReply, ActionRequest, PING, PONG, Values, is_ping};
use natterjack_choria::subject::Collectives;
use natterjack_choria::wire::{
    Federation, Reply, Request, SecureReply, SecureRequest, SigningKey, Transport, Wrapping,
};
use serde_json::{Value, json};

const KEY: &str = include_str!("../data/rip.mcollective.key.pem");
const CERTIFICATE: &str = include_str!("../data/mcollective/rip.mcollective.pem");

fn values(value: Value) -> Values {
    value.as_object().unwrap().clone()
}

fn caller() -> CallerId {
    CallerId::of_certificate("rip.mcollective").unwrap()
}

/// What a request of its client says.
struct Seen {
    request: Request,
    reply_to: String,
    federation: Option<Federation>,
}

fn seen(
    agent: &str,
    body: String,
    filter: Filter,
    id: &str,
    time: u64,
    process: u32,
    sequence: u64,
) -> Seen {
    Seen {
        request: Request {
            body,
            id: id.into(),
            sender: Identity::new("client.example.net").unwrap(),
            caller: caller(),
            collective: "mcollective".into(),
            agent: agent.into(),
            lifetime: Duration::from_secs(60),
            time: UNIX_EPOCH + Duration::from_secs(time),
            filter,
        },
        reply_to: Collectives::default()
            .reply("mcollective", &caller(), process, sequence)
            .unwrap(),
        federation: None,
    }
}

fn ping() -> Seen {
    let id = "c1219902f1fd51acaba39f85a208704a";
    seen(
        "discovery",
        PING.into(),
        Filter::default(),
        id,
        1_795_366_775,
        20_914,
        1,
    )
}

fn of_agent() -> Filter {
    Filter {
        agent: vec!["rpcutil".into()],
        ..Filter::default()
    }
}

fn of_role() -> Filter {
    Filter {
        fact: vec!["role=/w.b/".parse().unwrap()],
        cf_class: vec!["/role/".into()],
        ..of_agent()
    }
}

fn get_fact() -> String {
    let arguments = values(json!({"fact": "stadt"}));
    ActionRequest::new("rpcutil", "get_fact", &caller(), arguments).to_text()
}

/// To one node.
fn directed() -> Seen {
    let id = "2922f23b487d5f71b340c8fb93a8762b";
    seen(
        "rpcutil",
        get_fact(),
        of_agent(),
        id,
        1_795_366_780,
        20_993,
        1,
    )
}

/// To all nodes that are meant.
fn broadcast() -> Seen {
    let id = "58802d972bda5b9eaf3361cec233604a";
    seen(
        "rpcutil",
        get_fact(),
        of_role(),
        id,
        1_795_366_783,
        21_005,
        2,
    )
}

fn federated() -> Seen {
    let body = ActionRequest::new("rpcutil", "ping", &caller(), Values::new()).to_text();
    let id = "06edcb60d7a4538a9c388ca5d8f6acf5";
    Seen {
        federation: Some(Federation {
            targets: vec!["mcollective.node.node1.example.net".into()],
            request: Some(id.into()),
            reply_to: None,
        }),
        ..seen("rpcutil", body, of_agent(), id, 1_795_366_783, 21_041, 1)
    }
}

fn read(theirs: &str) -> Seen {
    let transport = Transport::from_bytes(theirs.as_bytes()).unwrap();
    assert_eq!(
        transport.headers.sender.as_deref(),
        Some("client.example.net")
    );
    let secure = SecureRequest::from_bytes(&transport.content).unwrap();
    let certificate = secure.certificates().unwrap().remove(0);
    Seen {
        request: Request::from_proven(secure.prove(&certificate).unwrap()).unwrap(),
        reply_to: transport.headers.reply_to.unwrap(),
        federation: transport.headers.federation,
    }
}

fn write(seen: Seen) -> String {
    let key = SigningKey::from_pem(KEY.as_bytes()).unwrap();
    // It leaves out the last line break.
    let secure = SecureRequest::sign(seen.request.to_text(), &key, CERTIFICATE.trim_end());
    let mut transport = Transport::new(secure.to_bytes(Wrapping::Lines), &seen.request.sender);
    transport.headers.reply_to = Some(seen.reply_to);
    transport.headers.federation = seen.federation;
    String::from_utf8(transport.to_bytes(Wrapping::Lines)).unwrap()
}

#[test]
fn requests() {
    for (theirs, expected) in [
        (
            include_str!("../data/mcollective/ping.request.json"),
            ping(),
        ),
        (
            include_str!("../data/mcollective/directed.request.json"),
            directed(),
        ),
        (
            include_str!("../data/mcollective/broadcast.request.json"),
            broadcast(),
        ),
        (
            include_str!("../data/mcollective/federated.request.json"),
            federated(),
        ),
    ] {
        let found = read(theirs);
        assert_eq!(found.request, expected.request);
        assert_eq!(found.reply_to, expected.reply_to);
        assert_eq!(found.federation, expected.federation);
        assert_eq!(write(expected), theirs);
    }
}

/// Its filter has a field more, which says nothing new: the collective.
#[test]
fn discovery() {
    let found = read(include_str!("../data/mcollective/discovery.request.json"));
    assert_eq!(found.request.filter, of_role());
    assert!(is_ping(&found.request.body));
}

#[test]
fn replies() {
    let fact = values(json!({"fact": "stadt", "value": "Zürich \"am\" \\ See"}));
    for (theirs, asked, body) in [
        (
            include_str!("../data/mcollective/ping.reply.json"),
            ping().request,
            PONG.to_owned(),
        ),
        (
            include_str!("../data/mcollective/get_fact.reply.json"),
            directed().request,
            ActionReply::ok(fact).to_text(),
        ),
    ] {
        let expected = Reply {
            body,
            request_id: asked.id.clone(),
            sender: Identity::new("node1.example.net").unwrap(),
            agent: asked.agent.clone(),
            time: asked.time,
        };
        let transport = Transport::from_bytes(theirs.as_bytes()).unwrap();
        let arrival = Exchange::new(&asked.id, &asked.agent, None).take(&transport.content);
        assert_eq!(arrival.unwrap().reply, expected);

        let content = SecureReply::new(expected.to_text()).to_bytes();
        let ours = Transport::new(content, &expected.sender).to_bytes(Wrapping::Lines);
        assert_eq!(String::from_utf8(ours).unwrap(), theirs);
    }
}
