//! What an operator sees of a cluster: the pages of two servers of ours, field by field as of two of nats-server's, and what
//! is asked and told in the system account of clusters of both.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use testkit::cluster::{Client, Cluster, Login, Plan};
use testkit::{Deadline, Kind, PATIENCE, Peer, ask_until};

use super::{Allowance, Differences};
use crate::trial;

const OURS: Kind = Kind::Natterjack;
const REAL: Kind = Kind::NatsServer;

const A: Login = Login::user("a", "p");
const B: Login = Login::user("b", "p");
const OPERATOR: Login = Login::user("sys", "p");

const SERVER: &str = "accounts {
        S { users: [{user: sys, password: p}] }
        A { users: [{user: a, password: p}], limits: {max_connections: 3} }
        B { users: [{user: b, password: p}] }
    }
    system_account: S";

/// Something that happens in a cluster of two of these kinds.
type Play = fn([Kind; 2]);

/// Clusters of two, by name.
const MIXES: [(&str, [Kind; 2]); 4] = [
    ("real_real", [REAL, REAL]),
    ("ours_real", [OURS, REAL]),
    ("real_ours", [REAL, OURS]),
    ("ours_ours", [OURS, OURS]),
];

pub(super) fn trials() -> Vec<Trial> {
    let plays: [(&str, Play); 6] = [
        ("questions_reach_every_server", questions_reach_every_server),
        (
            "users_are_told_by_their_own_server",
            users_are_told_by_their_own_server,
        ),
        ("servers_know_each_other", servers_know_each_other),
        ("ends_are_told_across", ends_are_told_across),
        ("limits_hold_across", limits_hold_across),
        ("both_ends_count_the_same", both_ends_count_the_same),
    ];
    let mut trials = Vec::new();
    for (mix, kinds) in MIXES {
        let needs = || kinds.map(|kind| kind.program().map(drop));
        for (name, play) in plays {
            let name = format!("monitoring::cluster::{name}::{mix}");
            trials.push(trial(name, needs(), move || play(kinds)));
        }
    }
    let needs = || Kind::ALL.map(|kind| kind.program().map(drop));
    for (name, run) in [
        ("pages_say_the_same", pages_say_the_same as fn()),
        ("options_are_shown_the_same", options_are_shown_the_same),
        (
            "statistics_have_the_same_fields",
            statistics_have_the_same_fields,
        ),
    ] {
        trials.push(trial(format!("monitoring::cluster::{name}"), needs(), run));
    }
    trials
}

/// Two servers that are connected by all that there is to be: three connections, one for B and one for S.
fn two(kinds: [Kind; 2], cluster: &str) -> Cluster {
    let plan = Plan::of(&kinds).logins(&[OPERATOR]).server(SERVER);
    let mut two = plan.cluster("accounts: [B]").cluster(cluster).start();
    for node in [0, 1] {
        wait_until(|| {
            let page = two.page(node, "/routez");
            let routes = page["routes"].as_array().expect("a list");
            let is_known = |route: &Value| route["rtt"] != "0s";
            routes.len() == 5 && routes.iter().all(is_known)
        });
    }
    two.wait_until_complete();
    two
}

#[track_caller]
fn wait_until(mut condition: impl FnMut() -> bool) {
    let met = ask_until(PATIENCE, || condition().then_some(()));
    assert!(met.is_some(), "it does not come about");
}

/// What may differ between pages of clusters, and why.
const DIFFERENT: &[Allowance] = &[
    (
        "/varz",
        "git_commit",
        "our build does not know its revision",
    ),
    (
        "/varz",
        "feature_flags",
        "all flags are about JetStream, which is not there",
    ),
    ("/varz", "feature_flags/*", "as before"),
    (
        "/varz",
        "subscriptions",
        "nats-server listens to more in the system account, and its automatic imports are subscriptions",
    ),
    (
        "/routez?subs=detail",
        "routes/*/subscriptions_list_detail/*/msgs",
        "what is sent to a peer is counted for the connection, not for each of its interests",
    ),
    (
        "/routez",
        "routes/*/subscriptions",
        "of the system account: nats-server listens to more in it",
    ),
];

fn pages_say_the_same() {
    let clusters = [REAL, OURS].map(|kind| {
        let permissions = "permissions {
            import: [\"foo.>\", \"$SYS.>\", \"_INBOX.>\", \"complete.>\"]
            export: {allow: [\"foo.>\", \"$SYS.>\", \"_INBOX.>\", \"complete.>\"], deny: \"foo.x\"}
        }";
        let cluster = two([kind, kind], permissions);
        // What servers tell each other before the system account has a connection of its own may go over any other.
        let before = [0, 1].map(|node| cluster.page(node, "/routez"));
        let clients = traffic(&cluster, 3);
        (cluster, clients, before)
    });
    let mut differences = Differences::default();
    for node in [0, 1] {
        for page in [
            "/routez",
            "/routez?subs=1",
            "/routez?subs=detail",
            "/varz",
            "/connz?auth=1&subs=detail",
            "/subsz?subs=1&test=foo.b",
            "/accountz",
            "/accstatz?unused=1",
            "/healthz",
        ] {
            let [expected, found] = (clusters.each_ref()).map(|(cluster, _, before)| {
                comparable(since(cluster.page(node, page), &before[node]))
            });
            differences.compare_pages(page, expected, found);
        }
    }
    differences.finish(DIFFERENT);
}

/// Clients on both servers, and what they tell each other; so many messages reach B's.
fn traffic(two: &Cluster, for_b: usize) -> Vec<Client> {
    let clients =
        [0, 1].map(|node| [A, B].map(|login| Client::connect_as(two.address(node), login)));
    let [[mut a0, mut b0], [mut a1, mut b1]] = clients;
    a0.subscribe("foo.a");
    a0.subscribe("foo.a");
    a0.queue_subscribe("foo.q", "workers");
    b0.subscribe("foo.b");
    b0.subscribe("foo.x");
    for client in [&mut a0, &mut b0] {
        client.round_trip();
    }
    wait_until(|| {
        let text = two.page(1, "/routez?subs=1").to_string();
        ["foo.a", "foo.q", "foo.b"]
            .iter()
            .all(|subject| text.contains(subject))
    });
    for _ in 0..3 {
        a1.publish("foo.a", "four");
        a1.publish("foo.q", "sixsix");
        b1.publish("foo.b", "12345678");
        b1.publish("foo.x", "nobody");
    }
    for client in [&mut a1, &mut b1] {
        client.round_trip();
    }
    for (client, count) in [(&mut a0, 9), (&mut b0, for_b)] {
        for _ in 0..count {
            client.next_message();
        }
    }
    vec![a0, b0, a1, b1]
}

/// A page with what its routes have counted since another one.
fn since(mut page: Value, before: &Value) -> Value {
    let before = before["routes"].as_array().expect("routes");
    let routes = page.get_mut("routes").and_then(Value::as_array_mut);
    for route in routes.into_iter().flatten() {
        let former = before.iter().find(|former| former["rid"] == route["rid"]);
        for field in ["in_msgs", "in_bytes", "out_msgs", "out_bytes"] {
            let count = |route: &Value| route[field].as_u64().expect("a number");
            route[field] = json!(count(route) - former.map_or(0, count));
        }
    }
    page
}

/// A page with what is comparable: routes in an order, and without what servers tell each other of themselves.
fn comparable(mut page: Value) -> Value {
    let of_system = |value: &Value| value == "S";
    if let Some(routes) = page["routes"].as_array_mut() {
        let key = |route: &Value| {
            let interest = route["subscriptions"].as_u64();
            (
                route["account"].to_string(),
                interest,
                route["in_msgs"].as_u64(),
            )
        };
        routes.sort_by_key(key);
        for route in routes {
            let is_system = of_system(&route["account"]);
            let fields = route.as_object_mut().expect("an object");
            if is_system {
                for field in [
                    "in_msgs",
                    "in_bytes",
                    "out_msgs",
                    "out_bytes",
                    "subscriptions_list",
                    "subscriptions_list_detail",
                ] {
                    fields.remove(field);
                }
            }
            for field in [
                "rid",
                "remote_id",
                "port",
                "start",
                "last_activity",
                "rtt",
                "uptime",
                "idle",
            ] {
                let value = fields.get_mut(field).expect(field);
                *value = super::kind(value).into();
            }
            for detail in fields
                .get_mut("subscriptions_list_detail")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                detail["cid"] = super::kind(&detail["cid"]).into();
            }
            if let Some(subjects) = fields
                .get_mut("subscriptions_list")
                .and_then(Value::as_array_mut)
            {
                subjects.sort_by_key(Value::to_string);
            }
        }
    }
    if let Some(accounts) = page["account_statz"].as_array_mut() {
        accounts.retain(|account| !of_system(&account["acc"]));
    }
    let Some(fields) = page.as_object_mut() else {
        return page;
    };
    // The tests' own, which came and went while the servers found each other.
    fields.remove("num_removes");
    if fields.contains_key("remotes") {
        for field in [
            "in_msgs",
            "in_bytes",
            "in_client_msgs",
            "in_client_bytes",
            "out_msgs",
            "out_bytes",
            "out_client_msgs",
            "out_client_bytes",
            "total_connections",
            "http_req_stats",
            // Each has ports of its own in its file.
            "config_digest",
        ] {
            fields.remove(field);
        }
        let ports = ["port"].map(|field| fields[field].clone());
        assert!(ports[0].is_u64());
        let urls = &fields["connect_urls"];
        let count = urls.as_array().map(Vec::len);
        fields.insert("connect_urls".to_owned(), json!(count));
        let cluster = &mut fields["cluster"];
        cluster["cluster_port"] = super::kind(&cluster["cluster_port"]).into();
        cluster["urls"] = json!(cluster["urls"].as_array().map(Vec::len));
    }
    page
}

fn options_are_shown_the_same() {
    for lines in [
        "",
        "pool_size: 5",
        "pool_size: -1",
        "no_advertise: true, authorization { user: u, password: p, timeout: 3 }",
        "compression: s2_fast, write_deadline: \"3s\"",
    ] {
        let [expected, found] = [REAL, OURS].map(|kind| {
            let mut plan = Plan::of(&[kind, kind]).cluster(lines);
            if lines.contains("authorization") {
                plan = plan.route_login("u:p@");
            }
            let cluster = plan.start();
            let count = |page: &Value| page["routes"].as_array().map_or(0, Vec::len);
            let wanted = match lines {
                "pool_size: 5" => 6,
                "pool_size: -1" => 1,
                _ => 4,
            };
            wait_until(|| (0..2).all(|node| count(&cluster.page(node, "/routez")) == wanted));
            let varz = cluster.page(0, "/varz");
            let urls = varz["connect_urls"].as_array().map(Vec::len);
            let mut options = varz["cluster"].clone();
            options["cluster_port"] = Value::Null;
            options["urls"] = json!(options["urls"].as_array().map(Vec::len));
            let routes = comparable(cluster.page(0, "/routez"))["routes"].clone();
            let modes = routes.as_array().into_iter().flatten();
            let modes: BTreeSet<_> = modes
                .map(|route| route["compression"].to_string())
                .collect();
            json!([options, urls, varz["routes"], varz["remotes"], modes])
        });
        assert_eq!(expected, found, "{lines}");
    }
}

/// The names of all fields, with where they are.
fn shape(value: &Value) -> BTreeSet<String> {
    fn add(path: &str, value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    add(&format!("{path}/{name}"), value, names);
                }
            }
            Value::Array(values) => {
                for value in values {
                    add(&format!("{path}/*"), value, names);
                }
            }
            _ => drop(names.insert(path.to_owned())),
        }
    }
    let mut names = BTreeSet::new();
    add("", value, &mut names);
    names
}

fn statistics_have_the_same_fields() {
    let [expected, found] = [REAL, OURS].map(|kind| {
        let cluster = two([kind, kind], "");
        let mut operator = Client::connect_as(cluster.address(0), OPERATOR);
        let answers = answers(&mut operator, "SERVER.PING", 2);
        assert_eq!(answers[0]["statsz"]["active_servers"], 2);
        let routes = answers[0]["statsz"]["routes"].as_array().expect("routes");
        assert_eq!(routes.len(), 5);
        let names: BTreeSet<_> = answers
            .iter()
            .map(|answer| answer["statsz"]["routes"][0]["name"].to_string())
            .collect();
        assert_eq!(names.len(), 2, "each tells of the other");
        let mut shape = shape(&answers[0]);
        shape.retain(|name| !name.contains("feature_flags"));
        shape
    });
    assert_eq!(expected, found);
}

/// What servers answer to one question: so many of them.
#[track_caller]
fn answers(client: &mut Client, question: &str, count: usize) -> Vec<Value> {
    let inbox = format!("_INBOX.{}.{question}", client.local_address().port());
    let subscription = client.subscribe(&inbox);
    let request = format!("$SYS.REQ.{question}");
    client.publish_with(&request, Some(&inbox), b"", b"");
    client.round_trip();
    let answers = (0..count).map(|_| client.take_message_of(subscription));
    let answers = answers
        .map(|answer| serde_json::from_slice(&answer.payload).expect("JSON"))
        .collect();
    client.unsubscribe(subscription, None);
    client.round_trip();
    answers
}

fn names(answers: &[Value]) -> BTreeSet<String> {
    let name = |answer: &Value| match &answer["server"]["name"] {
        Value::Null => answer["name"].to_string(),
        name => name.to_string(),
    };
    answers.iter().map(name).collect()
}

fn questions_reach_every_server(kinds: [Kind; 2]) {
    let cluster = two(kinds, "");
    let _clients = traffic(&cluster, 6);
    for node in [0, 1] {
        let mut operator = Client::connect_as(cluster.address(node), OPERATOR);
        for question in [
            "SERVER.PING",
            "SERVER.PING.STATSZ",
            "SERVER.PING.IDZ",
            "SERVER.PING.VARZ",
            "SERVER.PING.CONNZ",
            "SERVER.PING.SUBSZ",
            "SERVER.PING.ROUTEZ",
            "SERVER.PING.ACCOUNTZ",
            "SERVER.PING.HEALTHZ",
            "ACCOUNT.A.CONNZ",
            "ACCOUNT.A.SUBSZ",
            "ACCOUNT.A.INFO",
            "ACCOUNT.A.STATZ",
            "ACCOUNT.A.CONNS",
            "ACCOUNT.PING.STATZ",
        ] {
            let answers = answers(&mut operator, question, 2);
            assert_eq!(names(&answers).len(), 2, "{question}: {answers:?}");
        }
        let ids = [0, 1].map(|node| cluster.page(node, "/varz")["server_id"].clone());
        for (asked, id) in ids.iter().enumerate() {
            let id = id.as_str().expect("an id");
            for page in ["VARZ", "ROUTEZ", "STATSZ", "IDZ", "CONNZ"] {
                let answer = operator.request(&format!("$SYS.REQ.SERVER.{id}.{page}"), "");
                let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
                let expected = BTreeSet::from([format!("\"node-{asked}\"")]);
                assert_eq!(names(&[answer]), expected, "{page}");
            }
        }
    }
}

/// Connections have the same numbers on both servers, and may be of the same account.
fn users_are_told_by_their_own_server(kinds: [Kind; 2]) {
    let mut cluster = two(kinds, "");
    // Whoever listens to everything has the other server send what users ask there. nats-server answers that, too.
    let nodes = (0..2).filter(|&node| kinds[node] == OURS);
    let mut listeners: Vec<_> = nodes
        .map(|node| Client::connect_as(cluster.address(node), OPERATOR))
        .collect();
    for listener in &mut listeners {
        listener.subscribe("$SYS.REQ.USER.>");
        listener.round_trip();
    }
    cluster.settle(&mut listeners);
    for node in [0, 1] {
        let mut a = Client::connect_as(cluster.address(node), A);
        let answers_a = answers(&mut a, "USER.INFO", 1);
        let expected = BTreeSet::from([format!("\"node-{node}\"")]);
        assert_eq!(names(&answers_a), expected);
        assert_eq!(answers_a[0]["data"]["user"], "a");
        for question in ["ACCOUNT.PING.CONNZ", "SERVER.PING.CONNZ"] {
            assert_eq!(names(&answers(&mut a, question, 2)).len(), 2, "{question}");
        }
    }
}

fn servers_know_each_other(kinds: [Kind; 2]) {
    let cluster = two(kinds, "");
    let mut operator = Client::connect_as(cluster.address(0), OPERATOR);
    let statistics = operator.subscribe("$SYS.SERVER.*.STATSZ");
    operator.round_trip();
    let deadline = Deadline::after(PATIENCE);
    let mut heard = BTreeSet::new();
    while heard.len() < 2 {
        assert!(deadline.left().is_some(), "only {heard:?} told of itself");
        let message = operator.take_message_of(statistics);
        let message: Value = serde_json::from_slice(&message.payload).expect("JSON");
        heard.extend(names(&[message]));
    }
    wait_until(|| {
        let answers = answers(&mut operator, "SERVER.PING", 2);
        answers
            .iter()
            .all(|answer| answer["statsz"]["active_servers"] == 2)
    });
}

fn ends_are_told_across(kinds: [Kind; 2]) {
    let mut cluster = two(kinds, "");
    let mut operator = Client::connect_as(cluster.address(0), OPERATOR);
    let ends = operator.subscribe("$SYS.SERVER.*.SHUTDOWN");
    let connections = operator.subscribe("$SYS.ACCOUNT.A.SERVER.CONNS");
    operator.round_trip();
    wait_until(|| operator.is_heard("$SYS.SERVER.x.SHUTDOWN", "{}"));
    operator.take_message_of(ends);
    cluster.settle([&mut operator]);
    let _a = Client::connect_as(cluster.address(1), A);
    let message = operator.take_message_of(connections);
    let message: Value = serde_json::from_slice(&message.payload).expect("JSON");
    assert_eq!(message["server"]["name"], "node-1");
    assert_eq!(message["conns"], 1);
    cluster.terminate(1);
    let message = operator.take_message_of(ends);
    let message: Value = serde_json::from_slice(&message.payload).expect("JSON");
    assert_eq!(names(&[message]), BTreeSet::from(["\"node-1\"".to_owned()]));
    wait_until(|| {
        let answers = answers(&mut operator, "SERVER.PING", 1);
        answers[0]["statsz"]["active_servers"] == 1
    });
}

/// A may have three connections, wherever they are.
fn limits_hold_across(kinds: [Kind; 2]) {
    let cluster = two(kinds, "");
    let is_full = |node: usize| {
        let mut peer = Peer::connect(cluster.address(node));
        peer.expect_info();
        peer.send("CONNECT {\"user\":\"a\",\"pass\":\"p\",\"verbose\":false}\r\nPING\r\n");
        let refusal = b"-ERR 'maximum account active connections exceeded'\r\n";
        peer.try_expect(refusal).is_ok()
    };
    let mut operators = [0, 1].map(|node| Client::connect_as(cluster.address(node), OPERATOR));
    let told = operators.each_mut().map(|operator| {
        let subscription = operator.subscribe("$SYS.SERVER.ACCOUNT.A.CONNS");
        operator.round_trip();
        subscription
    });
    let connect = |operators: &mut [Client; 2], node: usize| {
        let client = Client::connect_as(cluster.address(node), A);
        for (operator, told) in operators.iter_mut().zip(told) {
            operator.take_message_of(told);
            // Each server handles what it is told, and asked, one after another.
            answers(operator, "SERVER.PING.IDZ", 2);
        }
        client
    };
    for operator in &mut operators {
        // Wherever something is published, it is heard everywhere from now on.
        answers(operator, "SERVER.PING.IDZ", 2);
    }
    let first = connect(&mut operators, 0);
    let _second = connect(&mut operators, 1);
    let _third = connect(&mut operators, 0);
    for node in [0, 1] {
        assert!(is_full(node), "{node} lets a fourth one in");
    }
    drop(first);
    wait_until(|| !is_full(1));
}

/// What one end has sent, the other has received.
fn both_ends_count_the_same(kinds: [Kind; 2]) {
    let cluster = two(kinds, "");
    let _clients = traffic(&cluster, 6);
    let exchanged = |node: usize, account: &Value, field: &str| {
        let page = cluster.page(node, "/routez");
        let routes = page["routes"].as_array().cloned().unwrap_or_default();
        let of_account = routes.iter().filter(|route| route["account"] == *account);
        of_account
            .map(|route| route[field].as_u64().expect("a number"))
            .sum::<u64>()
    };
    for account in [Value::Null, json!("B")] {
        for (out, into) in [("out_msgs", "in_msgs"), ("out_bytes", "in_bytes")] {
            for (from, to) in [(0, 1), (1, 0)] {
                let sent = exchanged(from, &account, out);
                let received = exchanged(to, &account, into);
                assert_eq!(sent, received, "{account} {out} of {from}");
            }
        }
    }
    assert_eq!(
        exchanged(1, &json!("B"), "out_msgs"),
        6,
        "foo.b and foo.x, three times each"
    );
    for node in [0, 1] {
        let statistics = |account: &str| {
            let page = cluster.page(node, "/accstatz?unused=1");
            let accounts = page["account_statz"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            accounts
                .into_iter()
                .find(|found| found["acc"] == account)
                .expect(account)
        };
        let b = statistics("B");
        let (way, other) = if node == 0 {
            ("received", "sent")
        } else {
            ("sent", "received")
        };
        assert_eq!(b[way]["routes"], json!({"msgs": 6, "bytes": 42}), "{node}");
        assert_eq!(b[other]["routes"], json!({"msgs": 0, "bytes": 0}), "{node}");
    }
}
