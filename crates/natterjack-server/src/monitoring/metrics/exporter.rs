//! The other pages as prometheus-nats-exporter shows them, with its names and labels: `gnatsd_varz_connections` and so on
//! (prometheus-nats-exporter 0.20, `collector/`).
//!
//! It makes a metric of every number on a page, named by where it is found, and of times and of some texts; so does this.

use natterjack_engine::{AccountSnapshot, Engine};
use serde::Serialize;
use serde_json::Value;

use super::super::accstatz::AccountStats;
use super::super::connz::Subscriptions;
use super::super::facts::{Load, ServerFacts};
use super::super::healthz::{HealthzOptions, healthz};
use super::super::routez::routez;
use super::super::subsz::counters;
use super::super::varz::varz;
use super::counted::{Connections, Counted};
use super::text::{Exposition, MetricKind};

/// Settings that it leaves out, since they say nothing over time.
const LEFT_OUT: [&str; 8] = [
    "leaf",
    "cluster_tls_timeout",
    "cluster_cluster_port",
    "cluster_auth_timeout",
    "gateway_port",
    "gateway_auth_timeout",
    "gateway_tls_timeout",
    "gateway_connect_retries",
];

/// Texts that it shows: times as milliseconds since 1970, others as a label of a metric that is 1.
const TEXTS: [&str; 8] = [
    "server_id",
    "server_name",
    "version",
    "domain",
    "leader",
    "name",
    "start",
    "config_load_time",
];

pub(super) fn write(
    text: &mut Exposition,
    facts: &ServerFacts,
    engine: &Engine,
    counted: &Counted,
    load: Load,
    is_accepting: bool,
) {
    let server = &facts.info.server_id;
    connections(text, server, &counted.connections);
    let stats: Vec<AccountStats> = counted.accounts.iter().map(Into::into).collect();
    accounts(text, server, &stats);
    account_details(text, facts, &counted.accounts);
    absent(text, facts);
    health(text, server, is_accepting);
    page(text, server, "varz", &varz(facts, load));
    page(
        text,
        server,
        "routez",
        &routez(facts, engine, Subscriptions::Count),
    );
    page(text, server, "subsz", &counters(facts, &counted.index));
}

/// Everything that is a number on a page, at any depth, but not in lists.
fn page(text: &mut Exposition, server: &str, page: &str, content: &impl Serialize) {
    // A page has no keys but texts, and no numbers that JSON does not have.
    if let Ok(Value::Object(fields)) = serde_json::to_value(content) {
        object(text, server, page, "", &fields);
    }
}

fn object(
    text: &mut Exposition,
    server: &str,
    page: &str,
    path: &str,
    fields: &serde_json::Map<String, Value>,
) {
    for (key, value) in fields {
        let name = joined(path, key);
        if LEFT_OUT.contains(&&*name) {
            continue;
        }
        let metric = format!("gnatsd_{page}_{name}");
        let labels = [("server_id", server)];
        match value {
            Value::Number(number) => {
                text.single(&metric, MetricKind::Gauge, &name, &labels, number)
            }
            Value::Object(inner) => object(text, server, page, &name, inner),
            Value::String(words) if TEXTS.contains(&&**key) => {
                match words.parse::<jiff::Timestamp>() {
                    Ok(time) => {
                        let milliseconds = time.as_millisecond();
                        text.single(&metric, MetricKind::Gauge, &name, &labels, milliseconds);
                    }
                    Err(_) => {
                        let labels = [("server_id", server), ("value", &**words)];
                        text.single(&metric, MetricKind::Gauge, &name, &labels, 1);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The path of a value as a name: `http_req_stats` and `/varz` are `http_req_stats_varz`.
fn joined(path: &str, key: &str) -> String {
    let parts = path.split('_').chain(key.split(['_', '/']));
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("_")
}

/// Sums over all connections, which the exporter calls like what it sums.
fn connections(text: &mut Exposition, server: &str, sums: &Connections) {
    let labels = [("server_id", server)];
    for name in ["num_connections", "total"] {
        let metric = format!("gnatsd_connz_{name}");
        text.single(&metric, MetricKind::Gauge, name, &labels, sums.number);
    }
    for (name, sum) in [
        ("pending_bytes", sums.pending_bytes),
        ("subscriptions", sums.subscriptions),
        ("in_bytes", sums.bytes_in),
        ("out_bytes", sums.bytes_out),
        ("in_msgs", sums.messages_in),
        ("out_msgs", sums.messages_out),
    ] {
        // The exporter says that some are counters; but they fall when a connection ends.
        let metric = format!("gnatsd_connz_{name}");
        text.single(&metric, MetricKind::Gauge, name, &labels, sum);
    }
}

fn accounts(text: &mut Exposition, server: &str, accounts: &[AccountStats]) {
    type Number = fn(&AccountStats) -> u64;
    let families: [(&str, Number); 9] = [
        ("current_connections", |account| account.conns as u64),
        ("total_connections", |account| account.total_conns as u64),
        ("subscriptions", |account| account.num_subscriptions as u64),
        ("leaf_nodes", |account| account.leafnodes as u64),
        ("sent_messages", |account| account.sent.msgs),
        ("sent_bytes", |account| account.sent.bytes),
        ("received_messages", |account| account.received.msgs),
        ("received_bytes", |account| account.received.bytes),
        ("slow_consumers", |account| account.slow_consumers),
    ];
    for (name, number) in families {
        text.family(&format!("gnatsd_accstatz_{name}"), MetricKind::Gauge, name);
        for account in accounts {
            let labels = [
                ("server_id", server),
                ("account", &*account.acc),
                ("account_id", &*account.acc),
                ("account_name", &*account.name),
            ];
            text.sample(&labels, number(account));
        }
    }
}

/// `/accountz` of each account, without the limits that only an account's token has.
fn account_details(text: &mut Exposition, facts: &ServerFacts, accounts: &[AccountSnapshot]) {
    type Number = fn(&AccountSnapshot, bool) -> u64;
    let families: [(&str, Number); 7] = [
        ("client_connections", |account, _| {
            account.connections as u64
        }),
        ("leafnode_connections", |_, _| 0),
        ("subscriptions", |account, _| {
            (account.subscriptions + account.peer_interest) as u64
        }),
        ("is_system", |_, is_system| u64::from(is_system)),
        ("expired", |_, _| 0),
        ("complete", |_, _| 1),
        ("jetstream_enabled", |_, _| 0),
    ];
    let (server, system) = (&facts.info.server_id, &facts.system_account);
    for (name, number) in families {
        text.family(&format!("gnatsd_accountz_{name}"), MetricKind::Gauge, name);
        for account in accounts {
            let labels = [
                ("server_id", &**server),
                ("account_id", &*account.name),
                ("account_name", &*account.name),
            ];
            text.sample(&labels, number(account, *account.name == *system));
        }
    }
}

/// What dashboards ask of features that are not there.
fn absent(text: &mut Exposition, facts: &ServerFacts) {
    let (server, name) = (&*facts.info.server_id, &*facts.info.server_name);
    let labels = [("server_id", server)];
    let leafs = "gnatsd_leafz_conn_nodes_total";
    text.single(leafs, MetricKind::Gauge, "nodes_total", &labels, 0);
    let labels = [
        ("server_id", server),
        ("server_name", name),
        ("cluster", ""),
        ("domain", ""),
        ("meta_leader", ""),
        ("is_meta_leader", "true"),
    ];
    for (name, number) in [
        ("jetstream_disabled", 1),
        ("max_memory", 0),
        ("max_storage", 0),
        ("total_streams", 0),
        ("total_consumers", 0),
        ("total_messages", 0),
        ("total_message_bytes", 0),
    ] {
        let metric = format!("jetstream_server_{name}");
        text.single(&metric, MetricKind::Gauge, name, &labels, number);
    }
}

/// 0 is good in the older of the two, 1 in the other.
fn health(text: &mut Exposition, server: &str, is_accepting: bool) {
    let health = healthz(is_accepting, &HealthzOptions::default());
    let is_good = health.status == "ok";
    let labels = [("server_id", server), ("value", health.status)];
    let (name, help) = ("gnatsd_healthz_status", "status");
    text.single(
        name,
        MetricKind::Gauge,
        help,
        &labels[..1],
        u8::from(!is_good),
    );
    let name = "gnatsd_healthz_status_value";
    text.single(name, MetricKind::Gauge, help, &labels, u8::from(is_good));
}

#[cfg(test)]
mod tests {
    use super::super::text::ExpositionFormat;
    use super::*;

    #[test]
    fn names_are_paths_without_empty_parts() {
        assert_eq!(joined("", "in_msgs"), "in_msgs");
        assert_eq!(joined("http_req_stats", "/varz"), "http_req_stats_varz");
        assert_eq!(joined("http_req_stats", "/"), "http_req_stats");
        assert_eq!(
            joined("slow_consumer_stats", "clients"),
            "slow_consumer_stats_clients"
        );
    }

    #[test]
    fn numbers_times_and_some_texts_are_shown() {
        let content = serde_json::json!({
            "cpu": 1.5, "start": "1970-01-01T00:00:02Z", "name": "a\"b", "host": "left out",
            "list": [1, 2], "inner": {"deep": {"number": 7}}, "cluster": {"cluster_port": 1, "urls": ["x"]},
        });
        let mut text = Exposition::new(ExpositionFormat::Prometheus);
        page(&mut text, "S", "varz", &content);
        let text = text.finish();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "gnatsd_varz_cpu{server_id=\"S\"} 1.5",
                "gnatsd_varz_inner_deep_number{server_id=\"S\"} 7",
                "gnatsd_varz_name{server_id=\"S\",value=\"a\\\"b\"} 1",
                "gnatsd_varz_start{server_id=\"S\"} 2000",
            ]
        );
    }
}
