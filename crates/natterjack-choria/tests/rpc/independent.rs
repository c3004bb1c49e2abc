//! Byte for byte the messages that another implementation makes: `tests/data/independent/make.py`, with `openssl`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use natterjack_choria::client::Exchange;
use natterjack_choria::filter::Filter;
use natterjack_choria::identity::{CallerId, Identity};
use natterjack_choria::rpc::{ActionReply, ActionRequest, Values};
use natterjack_choria::wire::{
    Reply, Request, SecureReply, SecureRequest, SigningKey, Transport, Wrapping,
};
use serde_json::{Value, json};

const KEY: &str = include_str!("../data/rip.mcollective.key.pem");
const CERTIFICATE: &str = include_str!("../data/rip.mcollective.pem");

const REQUESTS: [(Wrapping, &str); 2] = [
    (
        Wrapping::Lines,
        include_str!("../data/independent/request.lines.json"),
    ),
    (
        Wrapping::None,
        include_str!("../data/independent/request.one_line.json"),
    ),
];

const REPLIES: [(Wrapping, &str); 2] = [
    (
        Wrapping::Lines,
        include_str!("../data/independent/reply.lines.json"),
    ),
    (
        Wrapping::None,
        include_str!("../data/independent/reply.one_line.json"),
    ),
];

const ID: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90";

fn time() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_289_687)
}

fn values(value: Value) -> Values {
    value.as_object().unwrap().clone()
}

fn request() -> Request {
    let caller = CallerId::of_certificate("rip.mcollective").unwrap();
    let arguments = values(json!({"fact": "stadt=Zürich \"quoted\" \\ \n"}));
    Request {
        body: ActionRequest::new("rpcutil", "get_fact", &caller, arguments).to_text(),
        id: ID.into(),
        sender: Identity::new("client.example.net").unwrap(),
        caller,
        collective: "mcollective".into(),
        agent: "rpcutil".into(),
        lifetime: Duration::from_secs(60),
        time: time(),
        filter: Filter {
            fact: vec!["os.family=Debian".parse().unwrap()],
            cf_class: vec!["/web/".into()],
            agent: vec!["rpcutil".into()],
            ..Filter::default()
        },
    }
}

#[test]
fn requests_are_the_same_bytes() {
    let key = SigningKey::from_pem(KEY.as_bytes()).unwrap();
    for (wrapping, theirs) in REQUESTS {
        let secure = SecureRequest::sign(request().to_text(), &key, CERTIFICATE);
        let sender = Identity::new("client.example.net").unwrap();
        let mut transport = Transport::new(secure.to_bytes(wrapping), &sender);
        transport.headers.reply_to =
            Some("mcollective.reply.37bdf08389145a56c13096c178802d3b.4711.1".into());
        let ours = String::from_utf8(transport.to_bytes(wrapping)).unwrap();
        assert_eq!(ours, theirs);
    }
}

#[test]
fn their_requests_are_proven_and_read() {
    for (_, theirs) in REQUESTS {
        let transport = Transport::from_bytes(theirs.as_bytes()).unwrap();
        let secure = SecureRequest::from_bytes(&transport.content).unwrap();
        let certificate = secure.certificates().unwrap().remove(0);
        let read = Request::from_proven(secure.prove(&certificate).unwrap()).unwrap();
        assert_eq!(read, request());
        let body = ActionRequest::from_text(&read.body).unwrap();
        assert_eq!(body.data["fact"], "stadt=Zürich \"quoted\" \\ \n");
    }
}

#[test]
fn replies_are_the_same_bytes_and_are_read() {
    for (wrapping, theirs) in REPLIES {
        let sender = Identity::new("node1.example.net").unwrap();
        let reply = Reply {
            body: ActionReply::ok(values(json!({"fact": "stadt", "value": "Zürich"}))).to_text(),
            request_id: ID.into(),
            sender: sender.clone(),
            agent: "rpcutil".into(),
            time: time(),
        };
        let content = SecureReply::new(reply.to_text()).to_bytes();
        let ours = Transport::new(content, &sender).to_bytes(wrapping);
        assert_eq!(String::from_utf8(ours).unwrap(), theirs);

        let transport = Transport::from_bytes(theirs.as_bytes()).unwrap();
        let arrival = Exchange::new(ID, "rpcutil", None).take(&transport.content);
        assert_eq!(arrival.unwrap().reply, reply);
    }
}
