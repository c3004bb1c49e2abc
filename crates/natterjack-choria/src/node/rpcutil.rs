//! The agent `rpcutil`, which every node has: what the node is, what it knows of itself and how it is doing.
//!
//! Actions and the names of what they answer are MCollective's. Not there: `get_data`, since there are no data plugins.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::Shared;
use super::agent::{Agent, Call, Description, values};
use crate::rpc::{ActionReply, Status, Values};

const ACTIONS: [&str; 8] = [
    "agent_inventory",
    "collective_info",
    "daemon_stats",
    "get_config_item",
    "get_fact",
    "get_facts",
    "inventory",
    "ping",
];

/// Facts in one request.
const FACTS_MAX: usize = 1000;

/// What other plugins may call a setting that nobody should be told.
const SECRET_WORDS: [&str; 5] = ["pass", "psk", "secret", "token", "key"];

pub(super) fn description() -> Description {
    Description {
        description: "What a node is, what it knows of itself and how it is doing".into(),
        ..of_ours("rpcutil", &ACTIONS)
    }
}

/// Of the agent for which nodes answer themselves; it has no actions. MCollective tells of it here, too.
pub(super) fn description_of_discovery() -> Description {
    Description {
        description: "Whether the node is there, and meant".into(),
        ..of_ours(super::DISCOVERY, &[])
    }
}

fn of_ours(name: &str, actions: &[&str]) -> Description {
    Description {
        author: "Natterjack".into(),
        license: env!("CARGO_PKG_LICENSE").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        url: env!("CARGO_PKG_REPOSITORY").into(),
        ..Description::new(name, actions).with_timeout(Duration::from_secs(2))
    }
}

pub(super) struct Rpcutil {
    pub(super) node: Arc<Shared>,
}

impl Agent for Rpcutil {
    fn description(&self) -> Description {
        description()
    }

    async fn handle(&self, call: Call) -> ActionReply {
        match act(&self.node, &call) {
            Ok(values) => ActionReply::ok(values),
            Err(reply) => reply,
        }
    }
}

fn act(node: &Shared, call: &Call) -> Result<Values, ActionReply> {
    let action = call.request.action.as_str();
    Ok(match action {
        "ping" => values([("pong", seconds(call.time).into())]),
        "inventory" => inventory(node, call.time),
        "agent_inventory" => values([("agents", agents(node))]),
        "collective_info" => values([
            ("main_collective", node.collectives.main().into()),
            ("collectives", node.collectives.names().into()),
        ]),
        "daemon_stats" => daemon_stats(node),
        "get_fact" => {
            let name = call.text("fact")?;
            let facts = &node.knowledge.look(call.time).facts;
            values([("fact", name.into()), ("value", fact(facts, name))])
        }
        "get_facts" => get_facts(node, call)?,
        "get_config_item" => {
            let item = call.text("item")?;
            let value = setting(node, item).ok_or_else(|| {
                let message = format!("Unknown config property {item}");
                ActionReply::failed(Status::Aborted, message)
            })?;
            values([("item", item.into()), ("value", value)])
        }
        _ => {
            let message = format!("Unknown action '{action}' for agent 'rpcutil'");
            return Err(ActionReply::failed(Status::UnknownAction, message));
        }
    })
}

fn inventory(node: &Shared, now: SystemTime) -> Values {
    let knowledge = node.knowledge.look(now);
    values([
        ("agents", node.agents.as_slice().into()),
        ("facts", knowledge.facts.clone()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("classes", knowledge.classes.as_slice().into()),
        ("main_collective", node.collectives.main().into()),
        ("collectives", node.collectives.names().into()),
        ("data_plugins", json!([])),
        ("machines", json!([])),
        ("upgradable", false.into()),
    ])
}

fn agents(node: &Shared) -> Value {
    let agent = |description: &Description| {
        json!({
            "agent": description.name,
            "name": description.name,
            "description": description.description,
            "author": description.author,
            "license": description.license,
            "version": description.version,
            "url": description.url,
            "timeout": description.timeout.as_secs(),
        })
    };
    node.descriptions.iter().map(agent).collect()
}

fn daemon_stats(node: &Shared) -> Values {
    let statistics = node.counters.read();
    values([
        ("threads", json!([])),
        ("agents", node.agents.as_slice().into()),
        ("pid", std::process::id().into()),
        ("times", times()),
        ("configfile", node.configuration_file().into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("starttime", seconds(node.started).into()),
        ("total", statistics.total.into()),
        ("validated", statistics.validated.into()),
        ("unvalidated", statistics.unvalidated.into()),
        ("passed", statistics.passed.into()),
        ("filtered", statistics.filtered.into()),
        ("replies", statistics.replies.into()),
        ("ttlexpired", statistics.out_of_date.into()),
    ])
}

fn get_facts(node: &Shared, call: &Call) -> Result<Values, ActionReply> {
    let names: Vec<_> = call.text("facts")?.split(',').map(str::trim).collect();
    if names.len() > FACTS_MAX || names.iter().any(|name| name.is_empty()) {
        let message = format!("argument facts must be at most {FACTS_MAX} names between commas");
        return Err(ActionReply::failed(Status::InvalidData, message));
    }
    let facts = &node.knowledge.look(call.time).facts;
    let found = names.into_iter();
    let found: Map<_, _> = found
        .map(|name| (name.to_owned(), fact(facts, name)))
        .collect();
    Ok(values([("values", found.into())]))
}

/// What is not known is null, as in MCollective.
fn fact(facts: &Value, name: &str) -> Value {
    crate::filter::find(facts, name)
        .cloned()
        .unwrap_or_default()
}

/// A setting by the name it has in files. What has a form that all know is in it; the others are as they were written.
fn setting(node: &Shared, name: &str) -> Option<Value> {
    let configuration = node.configuration.as_ref();
    match name {
        "identity" => return Some(node.identity.as_str().into()),
        "collectives" => return Some(node.collectives.names().into()),
        "main_collective" => return Some(node.collectives.main().into()),
        "configfile" => return Some(node.configuration_file().into()),
        _ => {}
    }
    let configuration = configuration?;
    match name {
        "ttl" => return Some(configuration.request_lifetime.as_secs().into()),
        "classesfile" => return Some(configuration.classes_file.to_string_lossy().into()),
        _ => {}
    }
    let shown = configuration
        .show()
        .into_iter()
        .find(|shown| shown.name == name);
    let value = match shown {
        // Passwords are masked in it.
        Some(shown) => shown.value,
        None if is_secret(name) => "…".into(),
        None => configuration.text(name)?.to_owned(),
    };
    Some(value.into())
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Seconds of processor time, of this process and of those it has waited for; zeros where the system does not tell.
fn times() -> Value {
    // After the name in parentheses, which may hold anything: proc_pid_stat(5).
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<_> = fields.split(' ').collect();
    let ticks = rustix::param::clock_ticks_per_second();
    let seconds = |index: usize| {
        let ticks_used: u64 = fields.get(index).and_then(|field| field.parse().ok())?;
        #[expect(clippy::cast_precision_loss, reason = "hundredths of seconds")]
        Some(ticks_used as f64 / ticks.max(1) as f64)
    };
    // Fields 14 to 17 of the file; the first one here is the third.
    let [utime, stime, cutime, cstime] =
        [11, 12, 13, 14].map(|index| seconds(index).unwrap_or_default());
    json!({ "utime": utime, "stime": stime, "cutime": cutime, "cstime": cstime })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_plugins_keep_secret_is_not_told() {
        for name in [
            "plugin.psk",
            "plugin.activemq.pool.1.password",
            "plugin.rabbitmq.PASS",
            "plugin.x.api_token",
        ] {
            assert!(is_secret(name), "{name}");
        }
        assert!(!is_secret("plugin.yaml") && !is_secret("collectives"));
    }
}
