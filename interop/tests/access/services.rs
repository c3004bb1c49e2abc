//! Services and streams between accounts, where both servers must tell the same: who asks, how long it took, what the
//! server itself answers, and which member of a queue group hears a message of another account.

use libtest_mimic::Trial;
use serde_json::{Value, json};
use testkit::{Config, Deadline, Kind, PATIENCE, ServerUnderTest};

use super::Test;
use super::client::{Client, Outcome, Transport};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let tests: [Test; 5] = [
        ("who_asks_is_told", who_asks_is_told),
        ("latencies_are_told", latencies_are_told),
        ("headers_choose_what_is_measured", headers_choose),
        ("the_servers_own_services", the_servers_own_services),
        ("queue_groups_across_accounts", queue_groups_across_accounts),
    ];
    let mut trials = Vec::new();
    for (name, run) in tests {
        for kind in Kind::ALL {
            let name = format!("access::services::{name}::{}", kind.name());
            trials.push(trial(name, [kind.program().map(drop)], move || run(kind)));
        }
    }
    trials
}

/// A server with these accounts, named `one`.
pub(super) fn server(kind: Kind, accounts: &str) -> ServerUnderTest {
    let text = format!("server_name: one\naccounts {{ {accounts} }}\n");
    ServerUnderTest::start(kind, &Config::file(text))
}

/// A client of a user whose password is its name.
pub(super) fn client(server: &ServerUnderTest, name: &str) -> Client {
    let mut client = Client::connect(server.address(), Transport::Plain);
    let outcome = client.log_in(&format!(
        "\"user\":\"{name}\",\"pass\":\"{name}\",\"headers\":true,\"no_responders\":true,\
         \"name\":\"app {name}\",\"lang\":\"rust\",\"version\":\"1.2\""
    ));
    assert!(matches!(outcome, Outcome::In(_)), "{name}: {outcome:?}");
    client
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) reply: Option<String>,
    /// Its lines, without the first one.
    pub(super) header: Vec<String>,
    pub(super) payload: String,
}

impl Message {
    /// What the server says of who asks, without what is each server's own.
    pub(super) fn info(&self) -> Value {
        let mut said = self
            .header
            .iter()
            .filter_map(|line| line.split_once(':'))
            .filter(|(name, _)| name.trim().eq_ignore_ascii_case("Nats-Request-Info"));
        let info = said.next().map_or(Value::Null, |(_, value)| {
            without_own(serde_json::from_str(value.trim()).expect("JSON"))
        });
        assert!(said.next().is_none(), "once: {:?}", self.header);
        info
    }

    fn json(&self) -> Value {
        without_own(serde_json::from_str(&self.payload).expect("JSON"))
    }
}

/// Without numbers, times and ids that are each server's own; whether they are there at all is shown but for round-trip
/// times, which are told as soon as they are known.
fn without_own(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.remove("rtt");
        for (name, value) in fields.iter_mut() {
            if matches!(
                name.as_str(),
                "id" | "timestamp" | "start" | "service" | "system" | "total"
            ) {
                *value = json!("own");
            } else {
                *value = without_own(value.take());
            }
        }
    }
    value
}

/// The messages among these lines.
pub(super) fn messages(lines: &[String]) -> Vec<Message> {
    let mut lines = lines.iter();
    let mut messages = Vec::new();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let numbers = match words[0] {
            "MSG" => 1,
            "HMSG" => 2,
            _ => panic!("{line}"),
        };
        let mut header = Vec::new();
        if numbers == 2 {
            let block = lines.by_ref().take_while(|line| !line.is_empty());
            header.extend(block.skip(1).cloned());
        }
        messages.push(Message {
            subject: words[1].to_owned(),
            reply: (words.len() == 4 + numbers).then(|| words[3].to_owned()),
            header,
            payload: lines.next().cloned().unwrap_or_default(),
        });
    }
    messages
}

/// Waits for one message.
pub(super) fn next(client: &mut Client) -> Message {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let mut found = messages(&client.exchange(""));
        assert!(found.len() <= 1, "{found:?}");
        if let Some(message) = found.pop() {
            return message;
        }
        assert!(deadline.left().is_some(), "no message");
    }
}

pub(super) fn nothing(client: &mut Client, bytes: &str) {
    assert_eq!(client.exchange(bytes), [""; 0], "after {bytes:?}");
}

/// Asks without a payload, with these header lines.
fn ask(client: &mut Client, subject: &str, reply: &str, header: &str) -> Vec<String> {
    if header.is_empty() {
        return client.exchange(&format!("PUB {subject} {reply} 0\r\n\r\n"));
    }
    let block = format!("NATS/1.0\r\n{header}\r\n\r\n");
    let len = block.len();
    client.exchange(&format!(
        "HPUB {subject} {reply} {len} {len}\r\n{block}\r\n"
    ))
}

/// Answers what was asked.
pub(super) fn answer(client: &mut Client, request: &Message) {
    let reply = request.reply.as_deref().expect("a reply subject");
    nothing(client, &format!("PUB {reply} 2\r\nok\r\n"));
}

fn details(account: &str, user: &str, service: Option<&str>) -> Value {
    let mut details = json!({
        "start": "own", "host": "127.0.0.1", "id": "own", "acc": account, "user": user, "name": format!("app {user}"),
        "lang": "rust", "ver": "1.2", "server": "one", "kind": "Client", "client_type": "nats",
    });
    if let Some(service) = service {
        details["svc"] = service.into();
    }
    details
}

/// What a service is told of who asks: the account always, the rest where it is shared.
fn who_asks_is_told(kind: Kind) {
    // Which of two imports of one subject is shared is by chance on nats-server.
    let shared = match kind {
        Kind::Natterjack => {
            "{ service: { account: B, subject: \"b.passed\" }, to: open, share: true }"
        }
        _ => "",
    };
    let server = server(
        kind,
        &format!(
            "A {{ users: [ {{ user: a, password: a }} ], exports: [ {{ service: \"a.*\" }} ] }}
             B {{ users: [ {{ user: b, password: b }} ], exports: [ {{ service: \"b.*\" }} ], imports: [
               {{ service: {{ account: A, subject: \"a.shared\" }}, share: true }}
               {{ service: {{ account: A, subject: \"a.plain\" }} }}
               {{ service: {{ account: A, subject: \"a.passed\" }}, to: \"b.passed\" }}
               {{ service: {{ account: A, subject: \"a.told\" }}, to: \"b.told\", share: true }} ] }}
             C {{ users: [ {{ user: c, password: c }} ], imports: [
               {{ service: {{ account: B, subject: \"b.passed\" }} }}
               {shared}
               {{ service: {{ account: B, subject: \"b.told\" }} }} ] }}"
        ),
    );
    let (mut a, mut b, mut c) = (
        client(&server, "a"),
        client(&server, "b"),
        client(&server, "c"),
    );
    nothing(&mut a, "SUB a.* 1\r\n");
    let mut told = |asking: &mut Client, subject: &str| {
        nothing(asking, &format!("PUB {subject} 0\r\n\r\n"));
        let message = next(&mut a);
        message.info()
    };
    assert_eq!(told(&mut b, "a.shared"), details("B", "b", None));
    assert_eq!(told(&mut b, "a.plain"), json!({"acc": "B"}));
    assert_eq!(told(&mut c, "b.passed"), json!({"acc": "C", "svc": "B"}));
    assert_eq!(
        told(&mut c, "b.told"),
        json!({"acc": "C", "svc": "B", "server": "one"})
    );
    if !shared.is_empty() {
        assert_eq!(told(&mut c, "open"), details("C", "c", Some("B")));
    }
}

fn latencies_are_told(kind: Kind) {
    let server = server(
        kind,
        "A { users: [ { user: a, password: a } ], exports: [
           { service: \"a.*\", latency: \"lat.a\" }
           { service: b, threshold: \"300ms\", latency { sampling: 100%, subject: \"lat.b\" } } ] }
         B { users: [ { user: b, password: b } ], imports: [
           { service: { account: A, subject: \"a.x\" } }
           { service: { account: A, subject: \"a.y\" }, share: true }
           { service: { account: A, subject: b } } ] }",
    );
    let (mut a, mut b) = (client(&server, "a"), client(&server, "b"));
    let mut meter = client(&server, "a");
    nothing(&mut meter, "SUB lat.* 1\r\n");
    nothing(&mut a, "SUB a.* 1\r\nSUB b 2\r\n");
    nothing(&mut b, "SUB r 1\r\n");
    let mut told = |expected: Value| {
        let mut full = json!({
            "type": "io.nats.server.metric.v1.service_latency", "id": "own", "timestamp": "own", "start": "own",
            "service": "own", "system": "own", "total": "own", "requestor": { "acc": "B" },
        });
        for (name, value) in expected.as_object().expect("an object") {
            full[name] = value.clone();
        }
        assert_eq!(next(&mut meter).json(), full);
    };
    let responder = details("A", "a", None);
    nothing(&mut b, "PUB a.x r 0\r\n\r\n");
    let request = next(&mut a);
    answer(&mut a, &request);
    assert_eq!(next(&mut b).payload, "ok");
    told(json!({"status": 200, "responder": responder}));
    // Once only.
    answer(&mut a, &request);
    nothing(&mut b, "PUB a.y r 0\r\n\r\n");
    let request = next(&mut a);
    answer(&mut a, &request);
    assert_eq!(next(&mut b).payload, "ok");
    let requestor = details("B", "b", None);
    told(json!({"status": 200, "requestor": requestor, "responder": responder}));
    // No way to answer.
    nothing(&mut b, "PUB a.x 0\r\n\r\n");
    next(&mut a);
    told(json!({"status": 400, "description": "Bad Request"}));
    // Whoever asked does not wait any more.
    nothing(&mut b, "SUB gone 2\r\nPUB a.x gone 0\r\n\r\n");
    next(&mut a);
    nothing(&mut b, "UNSUB 2\r\n");
    told(json!({"status": 408, "description": "Request Timeout"}));
    // Not in time.
    nothing(&mut b, "PUB b r 0\r\n\r\n");
    next(&mut a);
    told(json!({"status": 504, "description": "Service Timeout"}));
    // Nobody is there.
    nothing(&mut a, "UNSUB 1\r\n");
    let notice = messages(&b.exchange("PUB a.x r 0\r\n\r\n"));
    assert_eq!(notice.len(), 1, "{notice:?}");
    told(json!({"status": 503, "description": "Service Unavailable"}));
    assert_eq!(messages(&meter.exchange("")).len(), 0);
}

fn headers_choose(kind: Kind) {
    let server = server(
        kind,
        "A { users: [ { user: a, password: a } ], exports: [
           { service: a, latency: { sampling: headers, subject: lat } } ] }
         B { users: [ { user: b, password: b } ], imports: [ { service: { account: A, subject: a } } ] }",
    );
    let (mut a, mut b) = (client(&server, "a"), client(&server, "b"));
    let mut meter = client(&server, "a");
    nothing(&mut meter, "SUB lat 1\r\n");
    nothing(&mut a, "SUB a 1\r\n");
    nothing(&mut b, "SUB r 1\r\n");
    for (header, expected) in [
        ("", Value::Null),
        ("X: y", Value::Null),
        (
            "Uber-Trace-Id: 4:5:4:1\r\nUberctx-X: foo\r\nOther: u",
            json!({"Uber-Trace-Id": ["4:5:4:1"], "Uberctx-X": ["foo"]}),
        ),
        (
            "uber-trace-id: 4:5:4:03",
            json!({"Uber-Trace-Id": ["4:5:4:03"]}),
        ),
        ("Uber-Trace-Id: 4:5:4:2", Value::Null),
        ("Uber-Trace-Id: 4:5:4", Value::Null),
        ("Uber-Trace-Id: x\r\nX-B3-Sampled: 1", Value::Null),
        (
            "X-B3-Sampled: 1\r\nX-B3-TraceId: t\r\nX-B3-ParentSpanId: p\r\nX-B3-SpanId: s",
            json!({"X-B3-Sampled": ["1"], "X-B3-Traceid": ["t"], "X-B3-Parentspanid": ["p"], "X-B3-Spanid": ["s"]}),
        ),
        ("X-B3-Sampled: 0\r\nX-B3-TraceId: t", Value::Null),
        ("X-B3-TraceId: t", json!({"X-B3-Traceid": ["t"]})),
        ("b3: 8-e-1-0", json!({"B3": ["8-e-1-0"]})),
        ("b3: d", json!({"B3": ["d"]})),
        ("b3: 0", Value::Null),
        ("b3: 8-e-0", Value::Null),
        (
            "traceparent: 00-4-0-01\r\ntracestate: a=b",
            json!({"Traceparent": ["00-4-0-01"], "Tracestate": ["a=b"]}),
        ),
        ("traceparent: 00-4-0-00", Value::Null),
        ("traceparent: 00-4-0-81", Value::Null),
        ("traceparent: 00-4-01", Value::Null),
    ] {
        assert_eq!(ask(&mut b, "a", "r", header), [""; 0], "{header}");
        let request = next(&mut a);
        answer(&mut a, &request);
        next(&mut b);
        // A report that must not come would be there before this one.
        ask(&mut b, "a", "r", "b3: last");
        let request = next(&mut a);
        answer(&mut a, &request);
        next(&mut b);
        let mut told = Vec::new();
        while told.last() != Some(&json!({"B3": ["last"]})) {
            let deadline = Deadline::after(PATIENCE);
            let lines = loop {
                let lines = meter.exchange("");
                if !lines.is_empty() || deadline.left().is_none() {
                    break lines;
                }
            };
            assert!(!lines.is_empty(), "no report after {told:?}");
            told.extend(
                messages(&lines)
                    .iter()
                    .map(|report| report.json()["header"].clone()),
            );
        }
        told.pop();
        let expected: Vec<Value> = Some(expected)
            .filter(|it| !it.is_null())
            .into_iter()
            .collect();
        assert_eq!(told, expected, "{header:?}");
    }
}

/// Services of the system account, which the server itself answers.
fn the_servers_own_services(kind: Kind) {
    let accounts = "
        S { users: [ { user: s, password: s } ], exports: [
          { service: \"$SYS.REQ.SERVER.>\", accounts: [B] }
          { service: \"$SYS.REQ.ACCOUNT.*.SUBSZ\", account_token_position: 4 } ] }
        A { users: [ { user: a, password: a } ] }
        B { users: [ { user: b, password: b } ], imports: [
          { service: { account: S, subject: \"$SYS.REQ.SERVER.PING.IDZ\" }, to: who }
          { service: { account: S, subject: \"$SYS.REQ.SERVER.PING.CONNZ\" } }
          { service: { account: S, subject: \"$SYS.REQ.SERVER.PING.VARZ\" }, share: true }
          { service: { account: S, subject: \"$SYS.REQ.ACCOUNT.B.SUBSZ\" }, to: mine } ] }";
    let text = format!("server_name: one\nsystem_account: S\naccounts {{ {accounts} }}\n");
    let server = ServerUnderTest::start(kind, &Config::file(text));
    let (mut a, mut b, mut s) = (
        client(&server, "a"),
        client(&server, "b"),
        client(&server, "s"),
    );
    nothing(&mut b, "SUB r 1\r\n");
    nothing(&mut a, "SUB r 1\r\n");
    nothing(&mut s, "SUB $SYS.REQ.> 1\r\n");
    let mut seen = |asking: &mut Client, asked: &str| {
        let mut lines = asking.exchange(&format!("PUB {asked} r 0\r\n\r\n"));
        let deadline = Deadline::after(PATIENCE);
        while lines.is_empty() && deadline.left().is_some() {
            lines = asking.exchange("");
        }
        let answers = messages(&lines);
        assert_eq!(answers.len(), 1, "{asked}: {answers:?}");
        let found = messages(&s.exchange(""));
        assert!(found.len() <= 1, "{asked}: {found:?}");
        let request = found
            .first()
            .map(|request| (request.subject.clone(), request.info()));
        let body: Value = serde_json::from_str(&answers[0].payload).unwrap_or_default();
        (body, request)
    };
    let asked = |subject: &str, info: Value| Some((format!("$SYS.REQ.{subject}"), info));
    let plain = json!({"acc": "B", "server": "one"});
    let (body, request) = seen(&mut b, "who");
    assert_eq!(body["name"], "one");
    assert_eq!(request, asked("SERVER.PING.IDZ", plain.clone()));
    let (body, request) = seen(&mut b, "$SYS.REQ.SERVER.PING.VARZ");
    assert_eq!(body["data"]["server_name"], "one");
    assert_eq!(request, asked("SERVER.PING.VARZ", details("B", "b", None)));
    // What it imports itself goes before what every account has: it sees the clients of all accounts.
    let (body, request) = seen(&mut b, "$SYS.REQ.SERVER.PING.CONNZ");
    assert_eq!(body["data"]["num_connections"], 3);
    assert_eq!(request, asked("SERVER.PING.CONNZ", plain.clone()));
    let (body, request) = seen(&mut b, "mine");
    assert!(body["data"]["subscriptions_list"].is_array(), "{body}");
    assert_eq!(request, asked("ACCOUNT.B.SUBSZ", plain.clone()));
    let (body, request) = seen(&mut b, "$SYS.REQ.ACCOUNT.PING.CONNZ");
    assert_eq!(body["data"]["num_connections"], 1);
    assert_eq!(request, asked("ACCOUNT.B.CONNZ", plain));
    let (body, request) = seen(&mut a, "$SYS.REQ.SERVER.PING.CONNZ");
    assert_eq!(body["data"]["num_connections"], 1);
    let plain = json!({"acc": "A", "server": "one"});
    assert_eq!(request, asked("ACCOUNT.A.CONNZ", plain.clone()));
    let (body, request) = seen(&mut a, "$SYS.REQ.ACCOUNT.PING.STATZ");
    assert_eq!(body["data"]["account_statz"][0]["acc"], "A");
    assert_eq!(request, asked("ACCOUNT.A.STATZ", plain));
    let (body, request) = seen(&mut a, "$SYS.REQ.USER.INFO");
    assert_eq!(body["data"]["user"], "a");
    assert_eq!(request, asked("USER.A.INFO", details("A", "a", None)));
    for asked in [
        "$SYS.REQ.SERVER.PING.IDZ",
        "$SYS.REQ.ACCOUNT.B.CONNZ",
        "$SYS.REQ.USER.A.INFO",
        "who",
    ] {
        assert_eq!(seen(&mut a, asked), (Value::Null, None), "{asked}");
    }
}

/// Members of a queue group in the account that publishes and in those that import are one group.
fn queue_groups_across_accounts(kind: Kind) {
    const COUNT: usize = 200;
    let server = server(
        kind,
        "A { users: [ { user: a, password: a } ], exports: [ { stream: \"s.>\" } ] }
         B { users: [ { user: b, password: b } ], imports: [
           { stream: { account: A, subject: \"s.*\" }, prefix: from } ] }
         C { users: [ { user: c, password: c } ], imports: [
           { stream: { account: A, subject: \"s.x\" }, to: x }
           { stream: { account: A, subject: \"s.*\" }, to: \"any.$1\" } ] }",
    );
    let listeners = [
        ("a", "s.x q"),
        ("a", "s.* q"),
        ("b", "from.s.x q"),
        ("b", "> q"),
        ("c", "x q"),
        ("a", "s.* other"),
        ("b", "from.> other"),
        ("c", "any.* lonely"),
        ("b", "from.s.*"),
        ("c", "*.x"),
        ("a", ">"),
    ];
    let mut clients: Vec<(Client, &str, &str)> = listeners
        .into_iter()
        .map(|(user, subscription)| {
            let mut client = client(&server, user);
            nothing(&mut client, &format!("SUB {subscription} 1\r\n"));
            (client, user, subscription)
        })
        .collect();
    let mut publisher = client(&server, "a");
    nothing(&mut publisher, &"PUB s.x 0\r\n\r\n".repeat(COUNT));
    let mut heard = std::collections::BTreeMap::<&str, Vec<usize>>::new();
    for (client, user, subscription) in &mut clients {
        let found = messages(&client.exchange(""));
        let name = match subscription.split_once(' ') {
            Some((_, group)) => group,
            None => user,
        };
        heard.entry(name).or_default().push(found.len());
    }
    for group in ["q", "other"] {
        let members = &heard[group];
        assert_eq!(members.iter().sum::<usize>(), COUNT, "{group}: {members:?}");
        assert!(
            members.iter().all(|&count| count > 0),
            "{group}: {members:?}"
        );
    }
    assert_eq!(heard["lonely"], [COUNT]);
    assert_eq!(
        (&heard["a"][..], &heard["b"][..]),
        (&[COUNT][..], &[COUNT][..])
    );
    assert_eq!(heard["c"], [COUNT]);
    // What the importing account publishes itself is heard there alone.
    let mut own = client(&server, "b");
    nothing(&mut own, &"PUB from.s.x 0\r\n\r\n".repeat(COUNT));
    let mut in_b = 0;
    for (client, user, subscription) in &mut clients {
        let found = messages(&client.exchange("")).len();
        assert!(*user == "b" || found == 0, "{user} {subscription}");
        in_b += if subscription.ends_with(" q") {
            found
        } else {
            0
        };
    }
    assert_eq!(in_b, COUNT);
}
