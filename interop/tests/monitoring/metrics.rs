//! `/metrics` has what prometheus-nats-exporter would make of nats-server's pages: every name, and where it is each server's
//! own doing, the same value. The exporter's rule is spelt out here once more, on the pages of the real server.

use std::collections::BTreeMap;

use libtest_mimic::Trial;
use serde_json::Value;
use testkit::{Config, HttpAnswer, Kind, Listener, Peer, ServerUnderTest};

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
    let needs = Kind::ALL.map(|kind| kind.program().map(drop));
    vec![trial(
        "monitoring::metrics::names_are_the_exporters".to_owned(),
        needs,
        names_are_the_exporters,
    )]
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
    drop(clients);
}

/// One who subscribes, publishes and stays.
fn same_activity(server: &ServerUnderTest) -> Peer {
    let connect = serde_json::json!({ "verbose": false, "pedantic": false });
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
