//! Answers in the encoding that whoever asks can read: both servers choose the same, say so with the same header, and what
//! comes out of it is the same as without.

use std::io::Read;

use libtest_mimic::Trial;
use serde_json::Value;
use testkit::cluster::{Client, Login, Message};
use testkit::{Config, Kind, ServerUnderTest};

use super::CONFIG;
use crate::trial;

const OPERATOR: Login = Login::user("sys", "p");
const A: Login = Login::user("a", "p");

/// Requests of the system account. `{id}` is the server's id. Those that are answered with an error are not encoded, and
/// some answers never are.
const REQUESTS: &[(&str, &str)] = &[
    ("SERVER.PING", ""),
    ("SERVER.PING.STATSZ", ""),
    ("SERVER.PING.IDZ", ""),
    ("SERVER.PING.VARZ", ""),
    ("SERVER.{id}.VARZ", ""),
    ("SERVER.PING.VARZ", "bad"),
    ("SERVER.PING.CONNZ", r#"{"subscriptions":true}"#),
    ("SERVER.PING.CONNZ", r#"{"sort":"stop"}"#),
    ("SERVER.PING.SUBSZ", r#"{"subscriptions":true}"#),
    ("SERVER.PING.ROUTEZ", ""),
    ("SERVER.PING.GATEWAYZ", ""),
    ("SERVER.PING.LEAFZ", ""),
    ("SERVER.PING.ACCOUNTZ", r#"{"account":"A"}"#),
    ("SERVER.PING.JSZ", ""),
    ("SERVER.PING.HEALTHZ", ""),
    ("ACCOUNT.A.CONNZ", ""),
    ("ACCOUNT.A.INFO", ""),
    ("ACCOUNT.A.STATZ", ""),
    ("ACCOUNT.A.CONNS", ""),
    ("ACCOUNT.PING.STATZ", ""),
    ("ACCOUNT.NSUBS", r#"{"acc":"A","subject":"foo.x"}"#),
    ("USER.INFO", ""),
    ("SERVER.{id}.RELOAD", ""),
    ("SERVER.{id}.LDM", r#"{"cid":99999}"#),
    ("SERVER.{id}.KICK", r#"{"cid":99999}"#),
];

/// What a user of another account may ask.
const OWN_REQUESTS: &[(&str, &str)] = &[
    ("USER.INFO", ""),
    ("ACCOUNT.PING.CONNZ", r#"{"subscriptions":true}"#),
    ("ACCOUNT.PING.STATZ", ""),
];

/// What is said to be read. gzip is spoken by nats-server alone (`docs/compat.md`).
const ACCEPTED: &[&str] = &[
    "",
    "Accept-Encoding: snappy\r\n",
    "Accept-Encoding: gzip, S2\r\n",
    "X: y\r\nAccept-Encoding:Snappy;q=0.5\r\n",
    "Accept-Encoding: br\r\n",
    "Accept-Encoding: \r\n",
    "accept-encoding: snappy\r\n",
];

pub(super) fn trials() -> Vec<Trial> {
    let both = || Kind::ALL.map(|kind| kind.program().map(drop));
    let tests: [(&str, fn()); 2] = [
        ("answers", answers_are_encoded_alike),
        ("reports_of_traces", reports_are_encoded_alike),
    ];
    tests
        .map(|(name, run)| trial(format!("system::encodings::{name}"), both(), run))
        .into()
}

fn answers_are_encoded_alike() {
    let [expected, found] = Kind::ALL.map(|kind| {
        let server = ServerUnderTest::start(kind, &Config::file(CONFIG));
        let mut a = Client::connect_as(server.address(), A);
        a.subscribe("foo.*");
        a.round_trip();
        let mut operator = Client::connect_as(server.address(), OPERATOR);
        let id = operator.request("$SYS.REQ.SERVER.PING.IDZ", "");
        let id = content(&id)["id"].as_str().expect("an id").to_owned();
        let mut told = Vec::new();
        for accepted in ACCEPTED {
            let header = format!("NATS/1.0\r\n{accepted}\r\n");
            for (asks, requests) in [(&mut operator, REQUESTS), (&mut a, OWN_REQUESTS)] {
                for (subject, payload) in requests {
                    let request = format!("$SYS.REQ.{}", subject.replace("{id}", &id));
                    let answer = asks.request_with(&request, header.as_bytes(), payload);
                    told.push((format!("{subject} {payload} {accepted}"), seen(&answer)));
                }
            }
        }
        told
    });
    assert_eq!(expected.len(), found.len());
    let pairs = expected.into_iter().zip(found);
    let different: Vec<_> = pairs
        .filter(|(expected, found)| expected != found)
        .collect();
    assert!(different.is_empty(), "expected, found: {different:#?}");
}

fn reports_are_encoded_alike() {
    let [expected, found] = Kind::ALL.map(|kind| {
        let server = ServerUnderTest::start(kind, &Config::file(CONFIG));
        let mut a = Client::connect_as(server.address(), A);
        let reports = a.subscribe("reports");
        let told = ACCEPTED.iter().map(|accepted| {
            let header = format!("NATS/1.0\r\nNats-Trace-Dest: reports\r\n{accepted}\r\n");
            a.publish_with("foo.x", None, header.as_bytes(), "hello");
            a.flush();
            seen(&a.take_message_of(reports))
        });
        told.collect::<Vec<_>>()
    });
    assert_eq!(expected, found);
}

/// What an answer looks like: its header, how its payload begins if that is encoded, and the names in it.
fn seen(answer: &Message) -> (String, Vec<u8>, Vec<String>) {
    let header = String::from_utf8_lossy(&answer.headers).into_owned();
    let beginning = match header.contains("snappy") {
        true => answer.payload[..10].to_vec(),
        false => Vec::new(),
    };
    let names = match content(answer) {
        Value::Object(fields) => fields.keys().cloned().collect(),
        other => vec![other.to_string()],
    };
    (header, beginning, names)
}

fn content(answer: &Message) -> Value {
    let header = String::from_utf8_lossy(&answer.headers);
    let mut text = Vec::new();
    let text = match header.contains("Content-Encoding: snappy\r\n") {
        true => {
            let read = minlz::Reader::new(&answer.payload[..]).read_to_end(&mut text);
            read.expect("a stream of Snappy");
            &text
        }
        false => &answer.payload,
    };
    serde_json::from_slice(text).expect("JSON")
}
