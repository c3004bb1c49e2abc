//! `/metrics` has what prometheus-nats-exporter would make of nats-server's pages: every name, and where it is each server's
//! own doing, the same value. The exporter's rule is spelt out here once more, on the pages of the real server.

use std::collections::BTreeMap;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use testkit::{Config, HttpAnswer, Kind, Listener, PATIENCE, Peer, ServerUnderTest, ask_until};

use crate::trial;

/// Pages of which it makes a metric of every number.
const PAGES: [&str; 3] = ["varz", "routez", "subsz"];

/// Texts that it shows as well.
const TEXTS: [&str; 6] = [
    "server_id",
    "server_name",
    "version",
    "name",
    "start",
    "config_load_time",
];

/// Beginnings of names that it shows of nats-server and that are not here, and why.
const ABSENT: [(&str, &str); 1] = [(
    "gnatsd_varz_http_req_stats_",
    "pages that were asked for on one of them only",
)];

/// Names whose values are the same after the same activity.
const SAME: [&str; 9] = [
    "gnatsd_varz_connections",
    "gnatsd_varz_total_connections",
    "gnatsd_varz_in_msgs",
    "gnatsd_varz_in_bytes",
    "gnatsd_varz_out_msgs",
    "gnatsd_varz_out_bytes",
    "gnatsd_varz_max_payload",
    "gnatsd_varz_ping_max",
    "gnatsd_varz_slow_consumers",
];

pub(super) fn trials() -> Vec<Trial> {
    let both = Kind::ALL.map(|kind| kind.program().map(drop));
    let ours = || [Kind::Natterjack.program().map(drop)];
    let name = |name: &str| format!("monitoring::metrics::{name}");
    vec![
        trial(
            name("names_are_the_exporters"),
            both,
            names_are_the_exporters,
        ),
        trial(
            name("what_is_refused_or_not_delivered_is_counted_by_reason"),
            ours(),
            losses_are_counted_by_reason,
        ),
        trial(
            name("slow_consumers_are_counted_by_limit"),
            ours(),
            slow_consumers_are_counted_by_limit,
        ),
    ]
}

fn names_are_the_exporters() {
    let config = || Config::default().argument("-m").argument("-1");
    let real = ServerUnderTest::start(Kind::NatsServer, &config());
    let ours = ServerUnderTest::start(Kind::Natterjack, &config());
    let clients: Vec<Peer> = [&real, &ours].map(same_activity).into();
    let mut expected = BTreeMap::new();
    for page in PAGES {
        let address = real.listener(Listener::Monitor);
        let content = HttpAnswer::get(address, &format!("/{page}")).json();
        flatten(&format!("gnatsd_{page}"), &content, &mut expected);
    }
    let text = HttpAnswer::get(ours.listener(Listener::Monitor), "/metrics").body;
    let found = samples(&text);
    let is_absent = |name: &str| ABSENT.iter().any(|(start, _)| name.starts_with(start));
    let missing: Vec<&String> = expected
        .keys()
        .filter(|name| !found.contains_key(*name) && !is_absent(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
    for name in SAME {
        assert_eq!(found[name], expected[name], "{name}");
    }
    // Those that it makes by rules of their own, labels included.
    let ours = labelled(&text);
    let different: Vec<_> = by_rule(&real)
        .into_iter()
        .filter(|(sample, value)| ours.get(sample) != Some(value))
        .map(|(sample, value)| format!("{sample}: {value} but {:?}", ours.get(&sample)))
        .collect();
    assert!(different.is_empty(), "{different:#?} in {text}");
    drop(clients);
}

/// What the exporter makes of connections, accounts, health, leaf nodes and JetStream of a server, without who it is.
fn by_rule(server: &ServerUnderTest) -> BTreeMap<String, f64> {
    let page = |path: &str| HttpAnswer::get(server.listener(Listener::Monitor), path).json();
    let mut samples = BTreeMap::new();
    let mut add = |name: &str, labels: &str, value: &Value| {
        let value = match value {
            Value::Bool(is_so) => f64::from(u8::from(*is_so)),
            value => value.as_f64().unwrap_or(0.0),
        };
        samples.insert(format!("{name}{{{labels}}}"), value);
    };
    let connz = page("/connz");
    for name in ["num_connections", "total"] {
        add(&format!("gnatsd_connz_{name}"), "", &connz[name]);
    }
    let connections = connz["connections"].as_array().expect("connections");
    for name in [
        "pending_bytes",
        "subscriptions",
        "in_bytes",
        "out_bytes",
        "in_msgs",
        "out_msgs",
    ] {
        let sum = connections
            .iter()
            .filter_map(|one| one[name].as_u64())
            .sum::<u64>();
        add(&format!("gnatsd_connz_{name}"), "", &json!(sum));
    }
    for account in page("/accstatz?unused=1")["account_statz"]
        .as_array()
        .expect("accounts")
    {
        let (id, name) = (&account["acc"], &account["name"]);
        let labels = format!("account={id},account_id={id},account_name={name}");
        for (name, value) in [
            ("current_connections", &account["conns"]),
            ("total_connections", &account["total_conns"]),
            ("leaf_nodes", &account["leafnodes"]),
            ("sent_messages", &account["sent"]["msgs"]),
            ("sent_bytes", &account["sent"]["bytes"]),
            ("received_messages", &account["received"]["msgs"]),
            ("received_bytes", &account["received"]["bytes"]),
            ("slow_consumers", &account["slow_consumers"]),
        ] {
            add(&format!("gnatsd_accstatz_{name}"), &labels, value);
        }
    }
    for name in page("/accountz")["accounts"].as_array().expect("accounts") {
        let path = format!("/accountz?acc={}", name.as_str().expect("a name"));
        let account = page(&path)["account_detail"].take();
        let labels = format!("account_id={name},account_name={}", account["name_tag"]);
        for name in [
            "client_connections",
            "leafnode_connections",
            "is_system",
            "expired",
            "complete",
            "jetstream_enabled",
        ] {
            add(&format!("gnatsd_accountz_{name}"), &labels, &account[name]);
        }
    }
    let is_ill = json!(page("/healthz")["status"] != "ok");
    add("gnatsd_healthz_status", "", &is_ill);
    add("gnatsd_healthz_status_value", "value=\"ok\"", &json!(1));
    let leafs = page("/leafz")["leafnodes"].take();
    add("gnatsd_leafz_conn_nodes_total", "", &leafs);
    let jsz = page("/jsz");
    let labels = "cluster=\"\",domain=\"\",is_meta_leader=\"true\",meta_leader=\"\"";
    for (name, value) in [
        ("jetstream_disabled", &jsz["disabled"]),
        ("max_memory", &jsz["config"]["max_memory"]),
        ("max_storage", &jsz["config"]["max_storage"]),
        ("total_streams", &jsz["streams"]),
        ("total_consumers", &jsz["consumers"]),
        ("total_messages", &jsz["messages"]),
        ("total_message_bytes", &jsz["bytes"]),
    ] {
        add(&format!("jetstream_server_{name}"), labels, value);
    }
    samples
}

/// Every sample by its name and its labels in order, without those that tell which server it is.
fn labelled(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
        labels.retain(|label| !label.starts_with("server_"));
        labels.sort_unstable();
        let sample = format!("{name}{{{}}}", labels.join(","));
        samples.insert(sample, value.parse().expect("a number"));
    }
    samples
}

/// What is lost for a reason of its own each, counted under that and no other.
fn losses_are_counted_by_reason() {
    const REASONS: [&str; 5] = [
        "natterjack_messages_dropped_total{reason=\"subscriber_behind\"}",
        "natterjack_messages_dropped_total{reason=\"permission\"}",
        "natterjack_messages_refused_total{reason=\"permission\"}",
        "natterjack_messages_refused_total{reason=\"max_payload\"}",
        "natterjack_no_responders_total",
    ];
    let config = "http: \"127.0.0.1:-1\", max_payload: 1000
        authorization { users: [
            {user: a, password: p, permissions: { publish: { deny: \"secret.>\" } }}
            {user: b, password: p, permissions: { subscribe: { allow: \"a.>\", deny: \"a.secret\" } }}
        ] }\n";
    let server = ServerUnderTest::start(Kind::Natterjack, &Config::file(config));
    let join = |user: &str| {
        let connect = json!({ "verbose": false, "headers": true, "no_responders": true, "user": user, "pass": "p" });
        Peer::introduced(server.address(), &connect)
    };
    let counted = || {
        let text = HttpAnswer::get(server.listener(Listener::Monitor), "/metrics").body;
        REASONS.map(|reason| count(&text, reason))
    };
    assert_eq!(counted(), [0; 5]);
    let (mut a, mut b) = (join("a"), join("b"));
    b.send("SUB a.* 1\r\nSUB a.* q 2\r\n");
    b.ping_pong();
    a.send("PUB secret.a 2\r\nhi\r\nPUB a.b _R_.x 2\r\nhi\r\n");
    a.expect_error("Permissions Violation for Publish to \"secret.a\"");
    a.expect_error("Permissions Violation for Publish with Reply of \"_R_.x\"");
    a.ping_pong();
    assert_eq!(counted(), [0, 0, 2, 0, 0]);
    // Once for the subscription, once for the group, in which nobody else is.
    a.send("PUB a.secret 2\r\nhi\r\n");
    a.ping_pong();
    assert_eq!(counted(), [0, 2, 2, 0, 0]);
    a.send("SUB inbox 1\r\nPUB nobody inbox 2\r\nhi\r\n");
    a.expect("HMSG inbox 1 ");
    assert_eq!(counted(), [0, 2, 2, 0, 1]);
    let mut large = join("a");
    large.send("PUB a.b 1001\r\n");
    large.expect_error("Maximum Payload Violation");
    large.expect_closed();
    let is_counted = || (counted() == [0, 2, 2, 1, 1]).then_some(());
    assert!(ask_until(PATIENCE, is_counted).is_some(), "{:?}", counted());
}

/// Who reads nothing is given up for what waits, or for how long it does.
fn slow_consumers_are_counted_by_limit() {
    // More than the two sockets take by themselves.
    const MESSAGES_MAX: usize = 1_000;
    let message = format!("PUB a 60000\r\n{}\r\n", "x".repeat(60_000));
    for (limit, config) in [
        ("max_pending", "max_pending: 1MB, write_deadline: \"60s\""),
        (
            "write_deadline",
            "max_pending: 256MB, write_deadline: \"1s\"",
        ),
    ] {
        let config = format!("http: \"127.0.0.1:-1\"\n{config}\n");
        let server = ServerUnderTest::start(Kind::Natterjack, &Config::file(config));
        let join = || Peer::introduced(server.address(), &json!({ "verbose": false }));
        let (mut fast, mut slow) = (join(), join());
        slow.send("SUB a 1\r\n");
        slow.ping_pong();
        let counted = |limit: &str| {
            let text = HttpAnswer::get(server.listener(Listener::Monitor), "/metrics").body;
            let name =
                format!("natterjack_slow_consumers_total{{limit=\"{limit}\",kind=\"client\"}}");
            let all = "natterjack_connections_dropped_total{reason=\"slow\",kind=\"client\"}";
            (count(&text, &name), count(&text, all))
        };
        for _ in 0..MESSAGES_MAX {
            fast.send(&message);
            fast.ping_pong();
            if counted(limit) == (1, 1) {
                break;
            }
        }
        let is_counted = || (counted(limit) == (1, 1)).then_some(());
        assert!(ask_until(PATIENCE, is_counted).is_some(), "{limit}");
        let others = ["max_pending", "write_deadline"];
        let other = others.into_iter().find(|other| *other != limit);
        assert_eq!(counted(other.expect("another")), (0, 1));
        drop(slow);
    }
}

/// The value of a sample.
#[track_caller]
fn count(text: &str, sample: &str) -> u64 {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {sample}: {text}"));
    value.parse().expect("a count")
}

/// One who subscribes, publishes and stays.
fn same_activity(server: &ServerUnderTest) -> Peer {
    let connect = json!({ "verbose": false, "pedantic": false });
    let mut peer = Peer::introduced(server.address(), &connect);
    peer.send("SUB a 1\r\nPUB a 2\r\nhi\r\nPUB b 3\r\nyou\r\n");
    peer.expect("MSG a 1 2\r\nhi\r\n");
    peer.ping_pong();
    peer
}

/// Names and values that the exporter would show of a page.
fn flatten(path: &str, content: &Value, metrics: &mut BTreeMap<String, f64>) {
    for (key, value) in content.as_object().into_iter().flatten() {
        let mut name = format!("{path}_{}", key.replace('/', "_"));
        while name.contains("__") {
            name = name.replace("__", "_");
        }
        let name = name.trim_end_matches('_').to_owned();
        match value {
            Value::Number(number) => {
                metrics.insert(name, number.as_f64().expect("a number of JSON"));
            }
            Value::Object(_) => flatten(&name, value, metrics),
            Value::String(_) if TEXTS.contains(&&**key) => {
                metrics.insert(name, 1.0);
            }
            _ => {}
        }
    }
}

/// The first sample of each name.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| {
        let (sample, value) = line.rsplit_once(' ').expect("a value");
        let name = sample.split('{').next().unwrap_or_default();
        (name.to_owned(), value.parse().expect("a number"))
    });
    samples.collect()
}
