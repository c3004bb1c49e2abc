//! Messages that are traced: both servers must tell the same about what became of each.

use libtest_mimic::Trial;
use serde_json::{Value, json};
use testkit::Kind;

use super::Test;
use super::client::Client;
use super::services::{client, messages, next, nothing, server};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let tests: [Test; 7] = [
        ("deliveries_are_told", deliveries_are_told),
        ("only_traced_is_not_delivered", only_traced_is_not_delivered),
        ("mappings_are_told", mappings_are_told),
        ("refusals_are_told", refusals_are_told),
        ("streams_across_accounts", streams_across_accounts),
        ("services_across_accounts", services_across_accounts),
        ("trace_contexts", trace_contexts),
    ];
    let mut trials = Vec::new();
    for (name, run) in tests {
        for kind in Kind::ALL {
            let name = format!("access::tracing::{name}::{}", kind.name());
            trials.push(trial(name, [kind.program().map(drop)], move || run(kind)));
        }
    }
    trials
}

/// Publishes `hello` with these header lines, and returns what the publisher is told.
fn publish(client: &mut Client, subject_and_reply: &str, lines: &str) -> Vec<String> {
    let block = format!("NATS/1.0\r\n{lines}\r\n\r\n");
    let (header, total) = (block.len(), block.len() + 5);
    client.exchange(&format!(
        "HPUB {subject_and_reply} {header} {total}\r\n{block}hello\r\n"
    ))
}

/// What the next report says, without what is each server's own.
fn report(listener: &mut Client) -> Value {
    let mut report: Value = serde_json::from_str(&next(listener).payload).expect("JSON");
    let server = report.as_object_mut().and_then(|all| all.remove("server"));
    let server = server.expect("who reports");
    assert_eq!(server["name"], "one");
    assert!(
        server["seq"].is_u64() && server["time"].is_string(),
        "{server}"
    );
    let events = report["events"].as_array_mut().expect("events");
    for event in events {
        let event = event.as_object_mut().expect("an object");
        let time = event.remove("ts").expect("its time");
        assert!(
            time.as_str().is_some_and(|time| time.starts_with("20")),
            "{time}"
        );
        if matches!(event["type"].as_str(), Some("in" | "eg")) {
            assert!(event.remove("cid").is_some_and(|id| id.is_u64()));
        }
    }
    report
}

/// What is said of a message to `subject` of the user `a`, with one header besides.
fn came(subject: &str, header: Value, events: Vec<Value>) -> Value {
    let ingress = json!({ "type": "in", "kind": 0, "name": "app a", "acc": "A", "subj": subject });
    told(header, ingress, events)
}

fn told(header: Value, ingress: Value, events: Vec<Value>) -> Value {
    let lines: usize = header.as_object().map_or(0, |header| {
        let line = |(name, value): (&String, &Value)| {
            name.len() + 4 + value[0].as_str().map_or(0, str::len)
        };
        header.iter().map(line).sum()
    });
    let mut all = vec![ingress];
    all.extend(events);
    json!({
        "request": { "header": header, "msgsize": "NATS/1.0\r\n\r\n".len() + lines + 5 },
        "events": all,
    })
}

fn to_client(user: &str, subject: &str) -> Value {
    json!({ "type": "eg", "kind": 0, "name": format!("app {user}"), "sub": subject })
}

fn payloads(lines: &[String]) -> Vec<String> {
    let messages = messages(lines);
    messages
        .into_iter()
        .map(|message| message.payload)
        .collect()
}

/// One account with a publisher and others.
const ONE: &str =
    "A { users: [ { user: a, password: a }, { user: b, password: b }, { user: c, password: c } ] }";

fn deliveries_are_told(kind: Kind) {
    let server = server(kind, ONE);
    let (mut a, mut b, mut c) = (
        client(&server, "a"),
        client(&server, "b"),
        client(&server, "c"),
    );
    nothing(&mut c, "SUB traces 1\r\n");
    let header = json!({ "Nats-Trace-Dest": ["traces"] });
    // To nobody.
    nothing_told(&publish(&mut a, "s.x", "Nats-Trace-Dest: traces"));
    assert_eq!(report(&mut c), came("s.x", header.clone(), vec![]));
    // To a subscription, and to one of a group.
    nothing(&mut b, "SUB s.* 1\r\n");
    nothing_told(&publish(&mut a, "s.x", "Nats-Trace-Dest: traces"));
    let to_b = to_client("b", "s.*");
    assert_eq!(
        report(&mut c),
        came("s.x", header.clone(), vec![to_b.clone()])
    );
    assert_eq!(payloads(&b.exchange("")), ["hello"]);
    nothing(&mut b, "SUB s.x crew 2\r\n");
    nothing_told(&publish(&mut a, "s.x answers", "Nats-Trace-Dest: traces"));
    let mut to_group = to_client("b", "s.x");
    to_group["queue"] = "crew".into();
    assert_eq!(
        report(&mut c),
        came("s.x", header.clone(), vec![to_b, to_group])
    );
    assert_eq!(payloads(&b.exchange("")), ["hello", "hello"]);
    nothing(&mut b, "UNSUB 2\r\n");
    // Headers are told as they are spelled, and all values of each.
    nothing_told(&publish(
        &mut a,
        "s.x",
        "X-one: 1\r\nNats-Trace-Dest: traces\r\nx-One: 2\r\nX-one: 3",
    ));
    let told = report(&mut c);
    assert_eq!(
        told["request"]["header"],
        json!({ "X-one": ["1", "3"], "x-One": ["2"], "Nats-Trace-Dest": ["traces"] })
    );
    assert_eq!(payloads(&b.exchange("")), ["hello"]);
    // No message without such a header, in this very spelling, and none with a destination that is no subject, is traced.
    for lines in [
        "X: y",
        "nats-trace-dest: traces",
        "Nats-Trace-Dest: trace disabled",
        "Nats-Trace-Dest: traces.*",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        nothing_told(&publish(&mut a, "s.x", lines));
        let heard = b.exchange("");
        assert_eq!(payloads(&heard), ["hello"], "{lines}");
        assert!(
            heard.iter().any(|line| line == lines),
            "as it was: {heard:?}"
        );
    }
    nothing(&mut c, "");
    // The publisher's own.
    nothing(&mut a, "SUB s.x 1\r\n");
    let told = publish(&mut a, "s.x", "Nats-Trace-Dest: traces");
    assert_eq!(payloads(&told), ["hello"]);
    let events = &report(&mut c)["events"];
    assert_eq!(events.as_array().map(Vec::len), Some(3), "{events}");
    assert_eq!(payloads(&b.exchange("")), ["hello"]);
    // Others hear as much as they asked for.
    nothing(&mut b, "UNSUB 1\r\nSUB s.y 3\r\nUNSUB 3 1\r\n");
    nothing_told(&publish(&mut a, "s.y", "Nats-Trace-Dest: traces"));
    assert_eq!(
        report(&mut c),
        came("s.y", header.clone(), vec![to_client("b", "s.y")])
    );
    nothing_told(&publish(&mut a, "s.y", "Nats-Trace-Dest: traces"));
    assert_eq!(report(&mut c), came("s.y", header, vec![]));
}

fn nothing_told(lines: &[String]) {
    assert_eq!(lines, [""; 0]);
}

fn only_traced_is_not_delivered(kind: Kind) {
    let server = server(kind, ONE);
    let (mut a, mut b, mut c) = (
        client(&server, "a"),
        client(&server, "b"),
        client(&server, "c"),
    );
    nothing(&mut c, "SUB traces 1\r\n");
    nothing(&mut a, "SUB answers 9\r\n");
    nothing(&mut b, "SUB s.x 1\r\nSUB s.x crew 2\r\n");
    for only in ["1", "true", "ON"] {
        let lines = format!("Nats-Trace-Dest: traces\r\nNats-Trace-Only: {only}");
        nothing_told(&publish(&mut a, "s.x answers", &lines));
        nothing(&mut b, "");
        let header = json!({ "Nats-Trace-Dest": ["traces"], "Nats-Trace-Only": [only] });
        let mut to_group = to_client("b", "s.x");
        to_group["queue"] = "crew".into();
        let events = vec![to_client("b", "s.x"), to_group];
        assert_eq!(report(&mut c), came("s.x", header, events));
    }
    // Counted as little as delivered.
    nothing(&mut b, "UNSUB 1 1\r\nUNSUB 2\r\n");
    let only = "Nats-Trace-Dest: traces\r\nNats-Trace-Only: true";
    nothing_told(&publish(&mut a, "s.x", only));
    report(&mut c);
    nothing_told(&a.exchange("PUB s.x 2\r\nhi\r\n"));
    assert_eq!(payloads(&b.exchange("")), ["hi"]);
    // What cannot be traced is not delivered either.
    nothing(&mut b, "SUB s.x 3\r\n");
    let nowhere = "Nats-Trace-Dest: traces.*\r\nNats-Trace-Only: true";
    nothing_told(&publish(&mut a, "s.x", nowhere));
    nothing(&mut b, "");
    nothing(&mut c, "");
}

fn mappings_are_told(kind: Kind) {
    let server = server(
        kind,
        "A { users: [ { user: a, password: a }, { user: b, password: b }, { user: t, password: t } ], mappings: { \"from.*\": \"to.$1\" } }",
    );
    let (mut a, mut b, mut t) = (
        client(&server, "a"),
        client(&server, "b"),
        client(&server, "t"),
    );
    nothing(&mut b, "SUB to.x 1\r\n");
    nothing(&mut t, "SUB traces 1\r\n");
    nothing_told(&publish(&mut a, "from.x", "Nats-Trace-Dest: traces"));
    let header = json!({ "Nats-Trace-Dest": ["traces"] });
    let heard = next(&mut b);
    assert_eq!((&*heard.subject, &*heard.payload), ("to.x", "hello"));
    let mapped = json!({ "type": "sm", "to": "to.x" });
    assert_eq!(
        report(&mut t),
        came("from.x", header, vec![mapped, to_client("b", "to.x")])
    );
}

fn refusals_are_told(kind: Kind) {
    let server = server(
        kind,
        "A { users: [ { user: a, password: a, permissions: { publish: { deny: [\"no\", \"secret\"] } } }
                      { user: b, password: b, permissions: { subscribe: { deny: [\"s.no\"] } } }
                      { user: c, password: c } ] }",
    );
    let (mut a, mut b, mut c) = (
        client(&server, "a"),
        client(&server, "b"),
        client(&server, "c"),
    );
    nothing(&mut c, "SUB traces 1\r\nSUB no 2\r\n");
    let header = json!({ "Nats-Trace-Dest": ["traces"] });
    let error = "Permissions Violation for Publish to \"no\"";
    let told = publish(&mut a, "no", "Nats-Trace-Dest: traces");
    assert_eq!(told, [format!("-ERR '{error}'")]);
    let mut expected = came("no", header.clone(), vec![]);
    expected["events"][0]["error"] = error.into();
    assert_eq!(report(&mut c), expected);
    // Whoever may not publish to where reports go.
    nothing(&mut c, "SUB s.x 3\r\n");
    let told = publish(&mut a, "s.x", "Nats-Trace-Dest: secret");
    assert_eq!(
        told,
        ["-ERR 'Permissions Violation for Publish to \"secret\"'"]
    );
    nothing(&mut c, "UNSUB 2\r\nUNSUB 3\r\n");
    // Whoever may not receive it.
    nothing(&mut b, "SUB s.* 1\r\n");
    nothing_told(&publish(&mut a, "s.no", "Nats-Trace-Dest: traces"));
    let mut refused = to_client("b", "s.*");
    refused["error"] = "Not delivered because subscription denies this subject".into();
    assert_eq!(report(&mut c), came("s.no", header, vec![refused]));
    nothing(&mut b, "");
}

fn streams_across_accounts(kind: Kind) {
    let server = server(
        kind,
        "A { users: [ { user: a, password: a }, { user: t, password: t } ], exports: [ { stream: \"st.>\" } ] }
         B { users: [ { user: b, password: b } ]
             imports: [ { stream: { account: A, subject: \"st.open\" }, to: \"b.open\", allow_trace: true }
                        { stream: { account: A, subject: \"st.shut\" } } ] }",
    );
    let (mut a, mut t, mut b) = (
        client(&server, "a"),
        client(&server, "t"),
        client(&server, "b"),
    );
    nothing(&mut t, "SUB traces 1\r\n");
    nothing(&mut b, "SUB b.open 1\r\nSUB st.shut 2\r\n");
    let header = json!({ "Nats-Trace-Dest": ["traces"] });
    let lines = "Nats-Trace-Dest: traces";
    nothing_told(&publish(&mut a, "st.open", lines));
    let heard = json!({ "type": "se", "acc": "B", "to": "b.open" });
    let mut given = to_client("b", "st.open");
    given["acc"] = "B".into();
    assert_eq!(
        report(&mut t),
        came(
            "st.open",
            header.clone(),
            vec![heard.clone(), given.clone()]
        )
    );
    assert_eq!(payloads(&b.exchange("")), ["hello"]);
    nothing_told(&publish(&mut a, "st.shut", lines));
    let unseen = json!({ "type": "se", "acc": "B", "to": "st.shut" });
    assert_eq!(
        report(&mut t),
        came("st.shut", header, vec![unseen.clone()])
    );
    assert_eq!(payloads(&b.exchange("")), ["hello"]);
    let header = json!({ "Nats-Trace-Dest": ["traces"], "Nats-Trace-Only": ["1"] });
    let lines = "Nats-Trace-Dest: traces\r\nNats-Trace-Only: 1";
    nothing_told(&publish(&mut a, "st.open", lines));
    assert_eq!(
        report(&mut t),
        came("st.open", header.clone(), vec![heard, given])
    );
    nothing_told(&publish(&mut a, "st.shut", lines));
    assert_eq!(report(&mut t), came("st.shut", header, vec![unseen]));
    nothing(&mut b, "");
}

fn services_across_accounts(kind: Kind) {
    let server = server(
        kind,
        "A { users: [ { user: a, password: a }, { user: t, password: t } ]
             imports: [ { service: { account: B, subject: \"b.open\" }, to: open }
                        { service: { account: B, subject: \"b.shut\" }, to: shut } ] }
         B { users: [ { user: b, password: b } ]
             exports: [ { service: \"b.open\", allow_trace: true }, { service: \"b.shut\" } ] }",
    );
    let (mut a, mut t, mut b) = (
        client(&server, "a"),
        client(&server, "t"),
        client(&server, "b"),
    );
    nothing(&mut t, "SUB traces 1\r\n");
    nothing(&mut b, "SUB b.* 1\r\n");
    let header = json!({ "Nats-Trace-Dest": ["traces"] });
    let lines = "Nats-Trace-Dest: traces";
    nothing_told(&publish(&mut a, "open", lines));
    let asked = json!({ "type": "si", "acc": "B", "from": "open", "to": "b.open" });
    let mut given = to_client("b", "b.*");
    given["acc"] = "B".into();
    assert_eq!(
        report(&mut t),
        came("open", header.clone(), vec![asked.clone(), given.clone()])
    );
    // The service knows where its reports would go, and not where that leads.
    let heard = next(&mut b);
    assert_eq!(heard.payload, "hello");
    let says = |prefix: &str| {
        let mut lines = heard.header.iter();
        lines.any(|line| line.starts_with(&format!("Nats-Trace-Dest: {prefix}")))
    };
    assert!(says("_R_."), "{:?}", heard.header);
    nothing_told(&publish(&mut a, "shut", lines));
    let unseen = json!({ "type": "si", "acc": "B", "from": "shut", "to": "b.shut" });
    assert_eq!(report(&mut t), came("shut", header, vec![unseen.clone()]));
    let heard = next(&mut b);
    assert_eq!(heard.payload, "hello");
    let expected = "Nats-Trace-Dest: trace disabled".to_owned();
    assert!(heard.header.contains(&expected), "{:?}", heard.header);
    let header = json!({ "Nats-Trace-Dest": ["traces"], "Nats-Trace-Only": ["1"] });
    let lines = "Nats-Trace-Dest: traces\r\nNats-Trace-Only: 1";
    nothing_told(&publish(&mut a, "open", lines));
    assert_eq!(
        report(&mut t),
        came("open", header.clone(), vec![asked, given])
    );
    nothing_told(&publish(&mut a, "shut", lines));
    assert_eq!(report(&mut t), came("shut", header, vec![unseen]));
    nothing(&mut b, "");
}

/// Messages with a W3C trace context, in an account that wants to know of them. They pass as they are.
fn trace_contexts(kind: Kind) {
    let server = server(
        kind,
        "A { users: [ { user: a, password: a }, { user: b, password: b }, { user: t, password: t } ], msg_trace: { dest: traces, sampling: \"100%\" } }
         C { users: [ { user: c, password: c } ], msg_trace: \"elsewhere\" }",
    );
    let (mut a, mut b) = (client(&server, "a"), client(&server, "b"));
    let (mut c, mut t) = (client(&server, "c"), client(&server, "t"));
    // Not the one that publishes: reports come when they come, also amid what a publisher is told.
    let mut listener = client(&server, "c");
    nothing(&mut b, "SUB s.x 1\r\n");
    nothing(&mut t, "SUB traces 1\r\n");
    nothing(&mut listener, "SUB elsewhere 1\r\n");
    for name in ["traceparent", "Traceparent", "TRACEPARENT"] {
        let value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        nothing_told(&publish(&mut a, "s.x", &format!("{name}: {value}")));
        let heard = next(&mut b);
        assert_eq!(heard.header, [format!("{name}: {value}")]);
        let header = json!({ name: [value] });
        assert_eq!(
            report(&mut t),
            came("s.x", header, vec![to_client("b", "s.x")])
        );
    }
    for lines in [
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-01",
        "tracestate: a=b",
    ] {
        nothing_told(&publish(&mut a, "s.x", lines));
        assert_eq!(payloads(&b.exchange("")), ["hello"]);
    }
    nothing(&mut b, "");
    nothing(&mut t, "");
    let lines = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03";
    nothing_told(&publish(&mut c, "s.x", lines));
    let told = report(&mut listener);
    assert_eq!(told["events"][0]["acc"], "C");
}
