//! Messages that are traced: each server on the way tells what became of them there.

use serde_json::{Value, json};
use testkit::Kind;
use testkit::cluster::{Client, Login, Plan};

use super::delivery::{complete, expect_nothing_more};
use super::{Scenario, modern, scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("tracing::each_server_tells", each_server_tells),
    modern("tracing::beyond_the_account", beyond_the_account),
    modern("tracing::beyond_two_accounts", beyond_two_accounts),
];

const A: Login = Login::user("a", "pw");
const B: Login = Login::user("b", "pw");

/// A offers services, B asks them and hears what becomes of it.
const SHARING: &str = "accounts {
  A { users: [ {user: a, password: pw} ]
      exports: [ {service: \"help.open\", allow_trace: true}, {service: \"help.shut\"} ] }
  B { users: [ {user: b, password: pw} ]
      imports: [ {service: {account: A, subject: \"help.open\"}, to: \"ask.open\"}
                 {service: {account: A, subject: \"help.shut\"}, to: \"ask.shut\"} ] }
}";

fn header(only: bool) -> String {
    let only = if only {
        "Nats-Trace-Only: true\r\n"
    } else {
        ""
    };
    format!("NATS/1.0\r\nNats-Trace-Dest: traces\r\n{only}\r\n")
}

/// Reports, with that of the server where it was published first, without times and numbers.
fn reports(listener: &mut Client, count: usize) -> Vec<Value> {
    let mut reports: Vec<Value> = (0..count)
        .map(|_| serde_json::from_str(listener.next_message().text()).expect("JSON"))
        .collect();
    for report in &mut reports {
        for event in report["events"].as_array_mut().expect("events") {
            let event = event.as_object_mut().expect("an object");
            event.remove("ts");
            event.remove("cid");
        }
    }
    reports.sort_by_key(|report| report["events"][0]["kind"].as_u64());
    reports
}

fn each_server_tells(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds));
    let names: Vec<String> = (0..cluster.len())
        .map(|node| {
            let name = &cluster.page(node, "/varz")["server_name"];
            name.as_str().expect("a name").to_owned()
        })
        .collect();
    let is_old = |node: usize| kinds[node] == Kind::OldNatsServer;
    for (from, to) in cluster.pairs() {
        if is_old(from) {
            // What an old server passes on it does not tell of.
            continue;
        }
        let mut subscriber = cluster.client(to);
        subscriber.subscribe("traced.*");
        subscriber.queue_subscribe("traced.x", "crew");
        let mut listener = cluster.client(from);
        listener.subscribe("traces");
        let mut publisher = cluster.client(from);
        cluster.settle([&mut subscriber, &mut listener]);
        for only in [false, true] {
            publisher.publish_with("traced.x", None, header(only).as_bytes(), "hello");
            publisher.flush();
            let told = reports(&mut listener, if is_old(to) { 1 } else { 2 });
            assert_eq!(told[0]["server"]["name"], *names[from]);
            assert_eq!(told[0]["hops"], 1);
            let mut passed_on = json!({ "type": "eg", "kind": 1, "hop": "1", "name": names[to] });
            if is_old(to) {
                passed_on["error"] = if only {
                    "Not delivered because remote does not support message tracing"
                } else {
                    "Message delivered but remote does not support message tracing so no trace event generated from there"
                }
                .into();
            }
            assert_eq!(told[0]["events"][1], passed_on);
            if let Some(there) = told.get(1) {
                assert_eq!(there["server"]["name"], *names[to]);
                assert_eq!(there["request"]["header"]["Nats-Trace-Hop"], json!(["1"]));
                let events = json!([
                    { "type": "in", "kind": 1, "name": names[from], "acc": "$G", "subj": "traced.x" },
                    { "type": "eg", "kind": 0, "sub": "traced.*" },
                    { "type": "eg", "kind": 0, "sub": "traced.x", "queue": "crew" },
                ]);
                assert_eq!(nameless(&there["events"]), nameless(&events));
            }
            let heard = if only { 0 } else { 2 };
            for _ in 0..heard {
                assert_eq!(subscriber.next_message().text(), "hello");
            }
            expect_nothing_more(&mut cluster, [&mut subscriber, &mut listener]);
        }
    }
}

/// Without what the clients call themselves.
fn nameless(events: &Value) -> Vec<Value> {
    let events = events.as_array().into_iter().flatten();
    let each = events.map(|event| {
        let mut event = event.clone();
        if event["kind"] == 0 {
            event.as_object_mut().expect("an object").remove("name");
        }
        event
    });
    each.collect()
}

fn beyond_the_account(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds).server(SHARING).logins(&[A, B]));
    for (from, to) in cluster.pairs() {
        let mut service = Client::connect_as(cluster.address(to), A);
        service.subscribe("help.*");
        let mut listener = Client::connect_as(cluster.address(from), B);
        listener.subscribe("traces");
        let mut asking = Client::connect_as(cluster.address(from), B);
        cluster.settle([&mut service, &mut listener]);
        asking.publish_with("ask.open", None, header(false).as_bytes(), "hello");
        asking.flush();
        let told = reports(&mut listener, 2);
        let asked = json!({ "type": "si", "acc": "A", "from": "ask.open", "to": "help.open" });
        assert_eq!(told[0]["events"][1], asked);
        assert_eq!(told[0]["events"][2]["kind"], 1);
        assert_eq!(told[1]["events"][0]["acc"], "A");
        assert_eq!(told[1]["events"][0]["subj"], "help.open");
        assert_eq!(told[1]["events"][1]["sub"], "help.*");
        assert_eq!(service.next_message().text(), "hello");
        asking.publish_with("ask.shut", None, header(false).as_bytes(), "hello");
        asking.flush();
        let told = reports(&mut listener, 1);
        let asked = json!({ "type": "si", "acc": "A", "from": "ask.shut", "to": "help.shut" });
        assert_eq!(told[0]["events"][1], asked);
        assert_eq!(told[0]["events"].as_array().map(Vec::len), Some(2));
        assert_eq!(service.next_message().text(), "hello");
        expect_nothing_more(&mut cluster, [&mut service, &mut listener]);
    }
}

/// A service that asks a third account for what it is asked.
const CHAIN: &str = "accounts {
  A { users: [ {user: a, password: pw} ]
      exports: [ {service: \"help.deep\", allow_trace: true} ]
      imports: [ {service: {account: C, subject: \"deep\"}, to: \"help.deep\"} ] }
  B { users: [ {user: b, password: pw} ]
      imports: [ {service: {account: A, subject: \"help.deep\"}, to: \"ask.deep\"} ] }
  C { users: [ {user: c, password: pw} ]
      exports: [ {service: \"deep\", allow_trace: true} ] }
}";

/// Reports go back the way the message came. In an account between, the subject that somebody else named says nothing.
fn beyond_two_accounts(kinds: &[Kind]) {
    const C: Login = Login::user("c", "pw");
    let mut cluster = complete(Plan::of(kinds).server(CHAIN).logins(&[A, B, C]));
    for (from, to) in cluster.pairs() {
        let mut service = Client::connect_as(cluster.address(to), C);
        service.subscribe("deep");
        let mut strangers = [
            Client::connect_as(cluster.address(from), A),
            Client::connect_as(cluster.address(to), A),
            Client::connect_as(cluster.address(from), C),
        ];
        for stranger in &mut strangers {
            stranger.subscribe("traces");
        }
        let mut listener = Client::connect_as(cluster.address(from), B);
        listener.subscribe("traces");
        let mut asking = Client::connect_as(cluster.address(from), B);
        cluster.settle([&mut service, &mut listener]);
        asking.publish_with("ask.deep", None, header(false).as_bytes(), "hello");
        asking.flush();
        let told = reports(&mut listener, 2);
        let step = |account: &str, from: &str, to: &str| json!({ "type": "si", "acc": account, "from": from, "to": to });
        assert_eq!(told[0]["events"][1], step("A", "ask.deep", "help.deep"));
        assert_eq!(told[0]["events"][2], step("C", "help.deep", "deep"));
        assert_eq!(told[0]["events"][3]["kind"], 1);
        assert_eq!(told[1]["events"][0]["acc"], "C");
        assert_eq!(told[1]["events"][1]["sub"], "deep");
        assert_eq!(service.next_message().text(), "hello");
        expect_nothing_more(
            &mut cluster,
            strangers.iter_mut().chain([&mut service, &mut listener]),
        );
    }
}
