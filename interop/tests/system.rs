//! The system account, event by event and answer by answer: the same happens on both servers, and whoever listens to
//! `$SYS.>` or asks there must be told the same, but for what is each server's own and a list of differences with
//! their reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use testkit::{Config, Deadline, Kind, PATIENCE, ServerUnderTest, Signal};

use crate::trial;

mod encodings;

const CONFIG: &str = "server_name: one
    server_tags: [\"az:1\"]
    server_metadata { rack: r1 }
    accounts {
        S { users: [{user: sys, password: p}] }
        A { users: [
            {user: a, password: p}
            {user: careful, password: p, permissions: {
                publish: { allow: [\"$SYS.REQ.USER.INFO\", \"x.>\"], deny: \"x.y\" }
                subscribe: \"_INBOX.>\"
                allow_responses: { max: 3, expires: \"1m\" }
            }}
        ] }
        B { users: [{user: b, password: p}] }
    }
    system_account: S\n";

/// Names of fields whose value is each server's own: both must have them, with a value of the same kind.
const OWN: &[&str] = &[
    "id",
    "seq",
    "time",
    "timestamp",
    "start",
    "stop",
    "server_id",
    "now",
    "last_activity",
    "rtt",
    "uptime",
    "idle",
    "port",
    "cid",
    "mem",
    "cpu",
    "go",
    "config_load_time",
    "config_digest",
    "update_time",
    // The replies' sizes differ, and with them these of the system account.
    "bytes",
    "in_bytes",
    "out_bytes",
    // nats-server holds other subscriptions of its own, and caches.
    "subscriptions",
    "num_subscriptions",
    "num_inserts",
    "num_removes",
    "num_matches",
    "num_cache",
    "cache_hit_rate",
    "max_fanout",
    "avg_fanout",
];

/// Ends of paths of the same sort: how often statistics were heard meanwhile is in them, or the very request, which both
/// servers count while it is already being answered.
const OWN_COUNTS: &[&str] = &[
    "/statsz/received/msgs",
    "/statsz/received_from_clients/msgs",
    "/statsz/sent/msgs",
    "/statsz/sent_to_clients/msgs",
    "/out_msgs",
    "/out_client_msgs",
    "/out_client_bytes",
    "/account_statz/S/sent/msgs",
    "/account_statz/S/received/msgs",
    // Of the whole server.
    "/data/in_msgs",
    "/data/in_client_msgs",
];

/// What may differ: the end of a path, and why. One that no longer makes a difference fails the test.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "/server/feature_flags",
        "all flags are about JetStream, which is not there",
    ),
    ("/feature_flags", "as before"),
    ("/git_commit", "our build does not know its revision"),
    (
        "/description",
        "what is wrong with a request is told in our words",
    ),
    (
        "/connections",
        "an account that does not exist has no connections: [] instead of null",
    ),
];

/// Requests of the system account, and whether they are answered. `{id}` is the server's id, `{a}` a client's number.
const REQUESTS: &[(&str, &str, bool)] = &[
    ("SERVER.PING", "", true),
    ("SERVER.PING", r#"{"server_name":"on"}"#, true),
    (
        "SERVER.PING",
        r#"{"server_name":"on","exact_match":true}"#,
        false,
    ),
    ("SERVER.PING", "bad", true),
    ("SERVER.PING.STATSZ", r#"{"tags":["az:1"]}"#, true),
    ("SERVER.PING.STATSZ", r#"{"tags":["az:2"]}"#, false),
    ("SERVER.{id}.STATSZ", "", true),
    ("SERVER.PING.IDZ", "", true),
    ("SERVER.{id}.IDZ", "bad", true),
    ("SERVER.PING.VARZ", "", true),
    ("SERVER.{id}.VARZ", "null", true),
    ("SERVER.PING.VARZ", r#"{"host":"127"}"#, true),
    (
        "SERVER.PING.VARZ",
        r#"{"host":"127","exact_match":true}"#,
        false,
    ),
    ("SERVER.PING.VARZ", r#"{"cluster":"c"}"#, false),
    ("SERVER.PING.VARZ", r#"{"domain":"d"}"#, false),
    ("SERVER.PING.VARZ", "[]", true),
    ("SERVER.PING.VARZ", r#"{"server_name":3}"#, true),
    ("SERVER.PING.CONNZ", "", true),
    (
        "SERVER.{id}.CONNZ",
        r#"{"acc":"A","auth":true,"subscriptions":true}"#,
        true,
    ),
    (
        "SERVER.PING.CONNZ",
        r#"{"acc":"A","subscriptions_detail":true,"subscriptions":true}"#,
        true,
    ),
    ("SERVER.PING.CONNZ", r#"{"sort":"bogus"}"#, true),
    ("SERVER.PING.CONNZ", r#"{"sort":"stop"}"#, true),
    ("SERVER.PING.CONNZ", r#"{"state":1,"auth":true}"#, true),
    ("SERVER.PING.CONNZ", r#"{"state":"closed"}"#, true),
    ("SERVER.PING.CONNZ", r#"{"cid":{a}}"#, true),
    ("SERVER.PING.CONNZ", r#"{"LIMIT":1}"#, true),
    ("SERVER.PING.CONNZ", r#"{"limit":-1,"offset":-3}"#, true),
    ("SERVER.PING.CONNZ", r#"{"limit":"x"}"#, true),
    ("SERVER.PING.CONNZ", r#"{"cid":-1}"#, true),
    ("SERVER.PING.CONNZ", r#"{"acc":"nobody"}"#, true),
    ("SERVER.PING.CONNZ", r#"{"user":"a"}"#, true),
    (
        "SERVER.PING.CONNZ",
        r#"{"filter_subject":"foo.x","acc":"A"}"#,
        true,
    ),
    (
        "SERVER.PING.CONNZ",
        r#"{"filter_subject":"bar","acc":"A"}"#,
        true,
    ),
    (
        "SERVER.PING.CONNZ",
        r#"{"filter_subject":"bar","acc":"A","state":1}"#,
        true,
    ),
    (
        "SERVER.PING.CONNZ",
        r#"{"filter_subject":"foo.x","acc":"A","state":2}"#,
        true,
    ),
    ("SERVER.PING.CONNZ", r#"{"filter_subject":"foo.x"}"#, true),
    ("SERVER.PING.SUBSZ", "", true),
    (
        "SERVER.PING.SUBSZ",
        r#"{"subscriptions":true,"test":"foo.x"}"#,
        true,
    ),
    ("SERVER.PING.SUBSZ", r#"{"test":"foo.*"}"#, true),
    ("SERVER.PING.ROUTEZ", "", true),
    ("SERVER.{id}.GATEWAYZ", "", true),
    ("SERVER.PING.LEAFZ", "", true),
    ("SERVER.PING.ACCOUNTZ", "", true),
    ("SERVER.PING.ACCOUNTZ", r#"{"account":"A"}"#, true),
    ("SERVER.PING.ACCOUNTZ", r#"{"account":"nobody"}"#, true),
    ("SERVER.PING.JSZ", "", true),
    ("SERVER.PING.JSZ", r#"{"leader_only":true}"#, false),
    ("SERVER.PING.JSZ", r#"{"accounts":"x"}"#, true),
    ("SERVER.PING.JSZ", r#"{"limit":"x"}"#, true),
    ("SERVER.PING.JSZ", r#"{"account":1}"#, true),
    ("ACCOUNT.A.JSZ", r#"{"streams":"x"}"#, true),
    ("SERVER.PING.GATEWAYZ", r#"{"accounts":"x"}"#, true),
    ("SERVER.PING.GATEWAYZ", r#"{"name":1}"#, true),
    ("SERVER.PING.LEAFZ", r#"{"subscriptions":"x"}"#, true),
    ("ACCOUNT.A.LEAFZ", r#"{"account":1}"#, true),
    ("SERVER.PING.RAFTZ", r#"{"group":1}"#, true),
    ("SERVER.PING.IPQUEUESZ", r#"{"filter":1}"#, true),
    ("SERVER.PING.PROFILEZ", r#"{"debug":"x"}"#, true),
    ("ACCOUNT.A.INFO", r#"{"tags":1}"#, true),
    ("SERVER.PING.HEALTHZ", "", true),
    ("SERVER.{id}.HEALTHZ", r#"{"stream":"x"}"#, true),
    (
        "SERVER.PING.HEALTHZ",
        r#"{"consumer":"x","details":true}"#,
        true,
    ),
    ("SERVER.PING.HEALTHZ", r#"{"js-enabled":true}"#, true),
    ("SERVER.PING.HEALTHZ", r#"{"js-enabled-only":true}"#, true),
    ("SERVER.PING.HEALTHZ", r#"{"js-server-only":true}"#, true),
    ("SERVER.PING.HEALTHZ", r#"{"js-meta-only":true}"#, true),
    ("SERVER.PING.HEALTHZ", r#"{"js-enabled":"x"}"#, true),
    ("SERVER.PING.HEALTHZ", r#"{"js-enabled-only":1}"#, true),
    ("SERVER.PING.HEALTHZ", r#"{"js-server-only":"x"}"#, true),
    ("SERVER.PING.HEALTHZ", r#"{"js-meta-only":[]}"#, true),
    ("SERVER.PING.RAFTZ", "", true),
    ("SERVER.{id}.RAFTZ", r#"{"account":"x"}"#, true),
    ("SERVER.PING.IPQUEUESZ", r#"{"all":"x"}"#, true),
    ("SERVER.PING.PROFILEZ", "", true),
    ("SERVER.PING.PROFILEZ", r#"{"name":"nope"}"#, true),
    ("SERVER.PING.PROFILEZ", "bad", true),
    ("SERVER.PING.NOPE", "", true),
    ("SERVER.NOPE.VARZ", "", true),
    ("ACCOUNT.A.CONNZ", "", true),
    ("ACCOUNT.nobody.CONNZ", "", true),
    ("ACCOUNT.nobody.SUBSZ", "", true),
    ("ACCOUNT.A.LEAFZ", "", true),
    ("ACCOUNT.A.JSZ", "", true),
    ("ACCOUNT.A.INFO", "", true),
    ("ACCOUNT.nobody.INFO", "", true),
    ("ACCOUNT.A.STATZ", "", true),
    ("ACCOUNT.A.STATZ", "bad", true),
    ("ACCOUNT.nobody.STATZ", "", false),
    ("ACCOUNT.A.CONNS", "", true),
    ("ACCOUNT.A.CONNS", r#"{"acc":"A"}"#, true),
    ("ACCOUNT.A.CONNS", r#"{"acc":"B"}"#, false),
    ("ACCOUNT.A.CONNS", "bad", false),
    ("ACCOUNT.nobody.CONNS", "", false),
    ("ACCOUNT.A.NOPE", "", true),
    ("ACCOUNT.PING.STATZ", "", true),
    ("ACCOUNT.PING.STATZ", r#"{"include_unused":true}"#, true),
    ("ACCOUNT.PING.STATZ", r#"{"accounts":["B","A"]}"#, true),
    ("ACCOUNT.PING.STATZ", r#"{"accounts":["B"]}"#, false),
    (
        "ACCOUNT.PING.STATZ",
        r#"{"accounts":["B"],"include_unused":true}"#,
        true,
    ),
    ("ACCOUNT.NSUBS", "", false),
    ("ACCOUNT.NSUBS", r#"{"acc":"A","subject":"foo.x"}"#, true),
    (
        "ACCOUNT.NSUBS",
        r#"{"acc":"A","subject":"foo.x","queue":"cQ=="}"#,
        true,
    ),
    ("ACCOUNT.NSUBS", r#"{"acc":"A","subject":"foo.*"}"#, true),
    ("ACCOUNT.NSUBS", r#"{"acc":"A","subject":">"}"#, true),
    ("ACCOUNT.NSUBS", r#"{"acc":"B","subject":"x"}"#, false),
    ("USER.INFO", "", true),
    ("SERVER.{id}.RELOAD", "", true),
    ("SERVER.{id}.RELOAD", "bad", true),
    ("SERVER.{id}.LDM", "", false),
    ("SERVER.{id}.LDM", "{}", true),
    ("SERVER.{id}.LDM", r#"{"cid":99999}"#, true),
    ("SERVER.{id}.LDM", r#"{"cid":{a}}"#, true),
    ("SERVER.{id}.KICK", "bad", false),
    ("SERVER.{id}.KICK", r#"{"cid":99999}"#, true),
    ("SERVER.{id}.KICK", r#"{"cid":{a}}"#, true),
];

/// What users of other accounts ask.
const OWN_REQUESTS: &[(&str, &str, &str)] = &[
    ("a", "USER.INFO", ""),
    ("careful", "USER.INFO", ""),
    ("a", "SERVER.PING.CONNZ", r#"{"acc":"B","auth":true}"#),
    ("a", "ACCOUNT.PING.CONNZ", r#"{"subscriptions":true}"#),
    ("a", "ACCOUNT.PING.STATZ", r#"{"accounts":["B"]}"#),
    ("a", "ACCOUNT.PING.STATZ", "bad"),
    ("a", "SERVER.PING", ""),
    ("a", "SERVER.PING.VARZ", ""),
    ("a", "ACCOUNT.A.CONNZ", ""),
];

pub(crate) fn trials() -> Vec<Trial> {
    let both = || Kind::ALL.map(|kind| kind.program().map(drop));
    let tests: [(&str, fn()); 3] = [
        ("both_servers_tell_the_same", both_tell_the_same),
        ("insides_are_told_alike", insides_are_told_alike),
        ("lame_ducks_and_shutdowns_are_announced", ends_are_announced),
    ];
    let tests = tests.map(|(name, run)| trial(format!("system::{name}"), both(), run));
    tests.into_iter().chain(encodings::trials()).collect()
}

fn both_tell_the_same() {
    let [expected, found] = Kind::ALL.map(|kind| {
        let server = ServerUnderTest::start(kind, &Config::file(CONFIG));
        let mut told = events(&server);
        told.extend(answers(&server));
        told
    });
    compare(&expected, &found);
}

/// What is told of a program in Go: under the same names.
fn insides_are_told_alike() {
    let [expected, found] = Kind::ALL.map(|kind| {
        let server = ServerUnderTest::start(kind, &Config::file(CONFIG));
        let mut operator = Wire::log_in(server.address(), "sys", "p");
        let answer = operator.ask("$SYS.REQ.SERVER.PING.EXPVARZ", "", true);
        let paths = fields(&answer.expect("answered").value()).into_keys();
        // It was started with more words than are shown.
        let paths = paths.filter(|path| !path.starts_with("/data/cmdline/"));
        paths
            .filter(|path| !path.contains("/feature_flags"))
            .collect::<BTreeSet<_>>()
    });
    assert!(expected.contains("/data/memstats/Alloc"), "{expected:?}");
    assert_eq!(expected, found);
}

fn ends_are_announced() {
    const CONFIG: &str =
        "server_name: one, lame_duck_duration: \"30s\", lame_duck_grace_period: \"0s\"
        accounts { S { users: [{user: sys, password: p}] } }, system_account: S\n";
    for (signal, announced) in [
        (Signal::User2, "$SYS.SERVER.{id}.LAMEDUCK"),
        (Signal::Terminate, "$SYS.SERVER.{id}.SHUTDOWN"),
    ] {
        let [expected, found] = Kind::ALL.map(|kind| {
            let server = ServerUnderTest::start(kind, &Config::file(CONFIG));
            let mut operator = Wire::log_in(server.address(), "sys", "p");
            operator.send("SUB $SYS.SERVER.*.LAMEDUCK 1\r\nSUB $SYS.SERVER.*.SHUTDOWN 2\r\n");
            operator.flush();
            server.signal(signal);
            let message = operator.message().expect("an announcement");
            let body = json!({ "server": message.value() });
            vec![(operator.masked(&message.subject), body)]
        });
        assert_eq!(found[0].0, announced);
        let (unexpected, _) = differences(&expected, &found);
        assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    }
}

/// What a subscriber to `$SYS.>` hears while clients come and go.
fn events(server: &ServerUnderTest) -> Vec<(String, Value)> {
    let address = server.address();
    let mut operator = Wire::log_in(address, "sys", "p");
    operator.send("SUB $SYS.ACCOUNT.> 1\r\nSUB $SYS.SERVER.> 1b\r\n");
    operator.flush();
    let mut told = Vec::new();
    // In which order nats-server tells of one change differs from time to time.
    let mut hear = |what: &str, count: usize| {
        let mut heard = Vec::new();
        while heard.len() < count {
            let message = operator.message().expect("an event");
            if !message.subject.ends_with(".STATSZ") {
                let subject = operator.masked(&message.subject);
                heard.push((format!("{what}: {subject}"), message.value()));
            }
        }
        heard.sort_by(|(left, _), (right, _)| left.cmp(right));
        told.extend(heard);
    };
    let mut a = Wire::log_in(address, "a", "p");
    hear("a comes", 3);
    a.send("SUB x.y 1\r\nPUB x.y 3\r\nabc\r\n");
    a.flush();
    drop(a);
    hear("a goes", 3);
    drop(Wire::try_log_in(address, "a", "wrong"));
    hear("a wrong password", 2);
    drop(Wire::connect(address));
    hear("somebody silent", 1);
    let another = Wire::log_in(address, "sys", "p");
    hear("another operator", 3);
    drop(another);
    hear("another operator goes", 3);
    // What others publish is not heard.
    let mut b = Wire::log_in(address, "b", "p");
    hear("b comes", 3);
    b.send("PUB $SYS.ACCOUNT.B.FORGED 2\r\n{}\r\n");
    b.flush();
    drop(b);
    hear("b goes", 3);
    // Statistics for everybody, on request.
    let mut asking = Wire::log_in(address, "sys", "p");
    asking.send("SUB $SYS.SERVER.*.STATSZ 1\r\nPUB $SYS.REQ.SERVER.PING 0\r\n\r\n");
    let message = asking.message().expect("statistics");
    told.push((asking.masked(&message.subject), message.value()));
    told
}

fn answers(server: &ServerUnderTest) -> Vec<(String, Value)> {
    let address = server.address();
    let mut operator = Wire::log_in(address, "sys", "p");
    let mut a = Wire::log_in(address, "a", "p");
    a.send("SUB foo.* 1\r\nSUB foo.* q 2\r\n");
    a.flush();
    let mut told = Vec::new();
    for (user, subject, payload) in OWN_REQUESTS {
        let mut other;
        let asking = if *user == "a" {
            &mut a
        } else {
            other = Wire::log_in(address, user, "p");
            &mut other
        };
        let answer = asking.ask(&format!("$SYS.REQ.{subject}"), payload, true);
        told.push((
            format!("{user} asks {subject} {payload}"),
            answer.map_or(Value::Null, |message| message.value()),
        ));
    }
    // Others have left by now, and both servers have heard.
    operator.wait_until_alone_with(1);
    for (subject, payload, is_answered) in REQUESTS {
        let id = operator.info["server_id"]
            .as_str()
            .expect("an id")
            .to_owned();
        let request = format!("$SYS.REQ.{}", subject.replace("{id}", &id));
        let number = a.info["client_id"].to_string();
        let answer = operator.ask(&request, &payload.replace("{a}", &number), *is_answered);
        told.push((
            format!("{subject} {payload}"),
            answer.map_or(Value::Null, |message| message.value()),
        ));
    }
    told.push(("a was told to leave".to_owned(), a.rest()));
    told
}

/// Compares what two servers told, in order.
fn compare(expected: &[(String, Value)], found: &[(String, Value)]) {
    let (unexpected, used) = differences(expected, found);
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    let unused = (0..DIFFERENT.len()).filter(|allowed| !used.contains(allowed));
    let unused: Vec<_> = unused.map(|allowed| DIFFERENT[allowed]).collect();
    assert!(unused.is_empty(), "no difference any more: {unused:?}");
}

/// What differs and may not, and which of [`DIFFERENT`] were met.
fn differences(
    expected: &[(String, Value)],
    found: &[(String, Value)],
) -> (Vec<String>, BTreeSet<usize>) {
    let labels = |told: &[(String, Value)]| {
        let labels = told.iter().map(|(label, _)| label.clone());
        labels.collect::<Vec<_>>()
    };
    assert_eq!(labels(expected), labels(found));
    let (mut unexpected, mut used) = (Vec::new(), BTreeSet::new());
    for ((label, expected), (_, found)) in expected.iter().zip(found) {
        let (expected, found) = (fields(expected), fields(found));
        let paths: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
        for path in paths {
            let (left, right) = (expected.get(path), found.get(path));
            // The operator has heard statistics too, the more the slower the test.
            let is_of_operator = label.starts_with("another operator") && path == "/sent/msgs";
            if left == right || is_of_operator {
                continue;
            }
            let allowed = DIFFERENT
                .iter()
                .position(|(end, _)| path.ends_with(end) || path.contains(&format!("{end}/")));
            match allowed {
                Some(allowed) => {
                    used.insert(allowed);
                }
                None => unexpected.push(format!("{label}: {path}: {left:?} but {right:?}")),
            }
        }
    }
    (unexpected, used)
}

/// Every value in a document by its path; of those that are each server's own the kind.
fn fields(document: &Value) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "text",
            Value::Array(_) => "list",
            Value::Object(_) => "object",
        };
        match value {
            Value::Object(fields) => {
                found.insert(path.to_owned(), kind.to_owned());
                for (name, value) in fields {
                    walk(&format!("{path}/{name}"), value, found);
                }
            }
            Value::Array(items) => {
                found.insert(path.to_owned(), kind.to_owned());
                // nats-server lists accounts and what they import in any order.
                let by_name = |item: &Value| match (&item["acc"], &item["local_subject"]) {
                    (Value::String(name), _) | (_, Value::String(name)) => name.clone(),
                    _ => item.as_str().unwrap_or_default().to_owned(),
                };
                let mut items: Vec<_> = items.iter().collect();
                items.sort_by_key(|item| by_name(item));
                for (index, value) in items.into_iter().enumerate() {
                    let name = match by_name(value) {
                        name if value.is_object() && !name.is_empty() => name,
                        _ => index.to_string(),
                    };
                    walk(&format!("{path}/{name}"), value, found);
                }
            }
            value => {
                let name = path.rsplit('/').next().unwrap_or_default();
                let is_own =
                    OWN.contains(&name) || OWN_COUNTS.iter().any(|end| path.ends_with(end));
                let shown = if is_own {
                    kind.to_owned()
                } else {
                    value.to_string()
                };
                found.insert(path.to_owned(), shown);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk("", document, &mut found);
    found
}

/// A message as it came.
struct Message {
    subject: String,
    /// Of the header block: what tells that nobody responds.
    status: String,
    payload: Vec<u8>,
}

impl Message {
    fn value(&self) -> Value {
        if self.status.is_empty() {
            let text = String::from_utf8_lossy(&self.payload);
            serde_json::from_str(&text).unwrap_or_else(|_| json!(text))
        } else {
            json!(self.status)
        }
    }
}

/// A client that reads whatever comes.
struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    info: Value,
    requests: usize,
}

impl Wire {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut wire = Self {
            stream,
            unread: Vec::new(),
            info: Value::Null,
            requests: 0,
        };
        let line = wire.line().expect("INFO");
        wire.info = serde_json::from_str(&line[5..]).expect("JSON");
        wire
    }

    fn try_log_in(address: SocketAddr, user: &str, password: &str) -> Self {
        let mut wire = Self::connect(address);
        let connect = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "protocol": 1,
            "lang": "rust", "version": "1.0", "name": user, "user": user, "pass": password,
        });
        wire.send(&format!("CONNECT {connect}\r\nPING\r\n"));
        while let Some(line) = wire.line() {
            if line == "PONG" || line.starts_with("-ERR") {
                break;
            }
        }
        wire
    }

    fn log_in(address: SocketAddr, user: &str, password: &str) -> Self {
        let mut wire = Self::try_log_in(address, user, password);
        wire.flush();
        wire
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("sent");
    }

    /// Waits until everything sent has been handled; what comes meanwhile is lost.
    fn flush(&mut self) {
        self.send("PING\r\n");
        while self.line().expect("PONG") != "PONG" {}
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).unwrap_or(0);
        self.unread.extend(&buffer[..count]);
        count > 0
    }

    fn line(&mut self) -> Option<String> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.unread[..end]).into_owned();
                self.unread.drain(..end + 2);
                return Some(line);
            }
            if deadline.left().is_none() || !self.fill() {
                return None;
            }
        }
    }

    /// The next message; `None` at the end.
    fn message(&mut self) -> Option<Message> {
        loop {
            let line = self.line()?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let head = match words.first() {
                Some(&"MSG") => 0,
                Some(&"HMSG") => words[words.len() - 2].parse().expect("a size"),
                Some(&"PING") => {
                    self.send("PONG\r\n");
                    continue;
                }
                _ => continue,
            };
            let size: usize = words[words.len() - 1].parse().expect("a size");
            while self.unread.len() < size + 2 {
                if !self.fill() {
                    return None;
                }
            }
            let body: Vec<u8> = self.unread.drain(..size + 2).collect();
            return Some(Message {
                subject: words[1].to_owned(),
                status: String::from_utf8_lossy(&body[..head])
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
                payload: body[head..size].to_vec(),
            });
        }
    }

    /// Asks, and returns the answer. One that should not come is shown not to have come before that to another
    /// question.
    fn ask(&mut self, subject: &str, payload: &str, is_answered: bool) -> Option<Message> {
        self.requests += 1;
        let inbox = format!("_INBOX.{}", self.requests);
        let size = payload.len();
        self.send(&format!(
            "SUB {inbox} {inbox}\r\nPUB {subject} {inbox} {size}\r\n{payload}\r\n"
        ));
        if !is_answered {
            // nats-server answers questions for statistics in a queue of their own.
            let marker = if subject.ends_with("PING") || subject.ends_with("STATSZ") {
                "$SYS.REQ.SERVER.PING"
            } else {
                "$SYS.REQ.SERVER.PING.IDZ"
            };
            self.send(&format!(
                "SUB {inbox}.marker m\r\nPUB {marker} {inbox}.marker 0\r\n\r\n"
            ));
        }
        let message = self.message().expect("an answer");
        self.send(&format!("UNSUB {inbox}\r\nUNSUB m\r\n"));
        (message.subject == inbox).then_some(message)
    }

    /// Asks until this many others than the operators are connected.
    fn wait_until_alone_with(&mut self, others: usize) {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let page = self.ask("$SYS.REQ.SERVER.PING.CONNZ", "", true);
            let page = page.expect("answered").value();
            if page["data"]["total"] == others + 1 {
                return;
            }
            assert!(deadline.left().is_some(), "{page}");
        }
    }

    /// What comes until the connection ends, by kind.
    fn rest(&mut self) -> Value {
        let mut kinds = Vec::new();
        while let Some(line) = self.line() {
            if let Some(info) = line.strip_prefix("INFO ") {
                let info: Value = serde_json::from_str(info).expect("JSON");
                kinds.push(format!("INFO ldm:{}", info["ldm"]));
            } else if line.starts_with("-ERR") {
                kinds.push(line);
            }
        }
        json!(kinds)
    }

    /// A subject without the server's id.
    fn masked(&self, subject: &str) -> String {
        let id = self.info["server_id"].as_str().expect("an id");
        subject.replace(id, "{id}")
    }
}
