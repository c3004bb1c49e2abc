//! What the pages of monitoring say, as far as it is shown. A field that a server does not have, such as an old one or a new
//! one of another make, is empty here and no error.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// `/varz`: a server as a whole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Varz {
    pub(super) server_id: String,
    pub(super) server_name: String,
    /// Of nats-server; ours tells which it behaves like.
    pub(super) version: String,
    /// The language it is made with; ours tells what it is.
    pub(super) go: String,
    pub(super) host: String,
    pub(super) port: u16,
    #[serde(deserialize_with = "time")]
    pub(super) now: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub(super) start: Option<Timestamp>,
    pub(super) uptime: String,
    /// Bytes.
    pub(super) mem: u64,
    /// Percent of one processor.
    pub(super) cpu: f64,
    pub(super) cores: u64,
    pub(super) connections: u64,
    pub(super) total_connections: u64,
    pub(super) max_connections: u64,
    pub(super) max_payload: u64,
    pub(super) max_pending: u64,
    pub(super) subscriptions: u64,
    pub(super) routes: u64,
    pub(super) remotes: u64,
    pub(super) leafnodes: u64,
    pub(super) in_msgs: u64,
    pub(super) out_msgs: u64,
    pub(super) in_bytes: u64,
    pub(super) out_bytes: u64,
    /// Without what comes from and goes to other servers; since 2.10.
    pub(super) in_client_msgs: Option<u64>,
    pub(super) out_client_msgs: Option<u64>,
    pub(super) in_client_bytes: Option<u64>,
    pub(super) out_client_bytes: Option<u64>,
    pub(super) slow_consumers: u64,
    pub(super) slow_consumer_stats: Option<KindCounts>,
    pub(super) stale_connections: Option<u64>,
    pub(super) cluster: Cluster,
    pub(super) jetstream: JetStream,
    pub(super) system_account: String,
    #[serde(deserialize_with = "time")]
    pub(super) config_load_time: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub(super) tls_cert_not_after: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cluster {
    pub(super) name: String,
    #[serde(deserialize_with = "time")]
    pub(super) tls_cert_not_after: Option<Timestamp>,
}

/// Without JetStream it is there and empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct JetStream {
    pub(super) stats: Option<JetStreamStats>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct JetStreamStats {
    pub(super) memory: u64,
    pub(super) storage: u64,
    pub(super) accounts: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KindCounts {
    pub(super) clients: u64,
    pub(super) routes: u64,
    pub(super) gateways: u64,
    pub(super) leafs: u64,
}

/// `/connz`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connz {
    #[serde(deserialize_with = "time")]
    pub(super) now: Option<Timestamp>,
    /// All there are, of which the page lists some.
    pub(super) total: u64,
    #[serde(deserialize_with = "or_none")]
    pub(super) connections: Vec<Connection>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connection {
    pub(super) cid: u64,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) lang: String,
    pub(super) version: String,
    pub(super) ip: String,
    pub(super) port: u16,
    pub(super) account: String,
    pub(super) authorized_user: String,
    #[serde(deserialize_with = "time")]
    pub(super) start: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub(super) stop: Option<Timestamp>,
    pub(super) reason: String,
    pub(super) rtt: String,
    pub(super) uptime: String,
    pub(super) idle: String,
    pub(super) pending_bytes: u64,
    pub(super) subscriptions: u64,
    pub(super) in_msgs: u64,
    pub(super) out_msgs: u64,
    pub(super) in_bytes: u64,
    pub(super) out_bytes: u64,
    pub(super) tls_version: String,
}

/// `/routez`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Routez {
    #[serde(deserialize_with = "time")]
    pub(super) now: Option<Timestamp>,
    #[serde(deserialize_with = "or_none")]
    pub(super) routes: Vec<Route>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Route {
    pub(super) remote_id: String,
    pub(super) remote_name: String,
    pub(super) ip: String,
    pub(super) rtt: String,
    pub(super) pending_size: u64,
    pub(super) subscriptions: u64,
    pub(super) in_msgs: u64,
    pub(super) out_msgs: u64,
    pub(super) in_bytes: u64,
    pub(super) out_bytes: u64,
    pub(super) compression: String,
}

/// `/accstatz`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Accstatz {
    #[serde(deserialize_with = "time")]
    pub(super) now: Option<Timestamp>,
    #[serde(deserialize_with = "or_none")]
    pub(super) account_statz: Vec<Account>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Account {
    pub(super) acc: String,
    pub(super) conns: u64,
    pub(super) num_subscriptions: u64,
    pub(super) sent: Messages,
    pub(super) received: Messages,
    pub(super) slow_consumers: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Messages {
    pub(super) msgs: u64,
    pub(super) bytes: u64,
    /// Those of them that other servers sent or were sent.
    pub(super) routes: RouteMessages,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RouteMessages {
    pub(super) msgs: u64,
    pub(super) bytes: u64,
}

/// Everything one server said in one round.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) varz: Varz,
    pub(super) connz: Connz,
    pub(super) routez: Routez,
    pub(super) accstatz: Accstatz,
    /// Connections that were closed lately; only if one was slow.
    pub(super) closed: Connz,
    /// `/busz`, if a node of the event bus is in the process.
    pub(super) bus: Option<Value>,
}

/// Go writes a list without entries as null at times.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A time that cannot be read is none.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_empty() {
        let varz: Varz = serde_json::from_str("{}").unwrap();
        assert!(varz.now.is_none() && varz.in_client_msgs.is_none());
        let connz: Connz = serde_json::from_str(r#"{"connections": null, "new": [1]}"#).unwrap();
        assert!(connz.connections.is_empty());
        let varz: Varz = serde_json::from_str(
            r#"{"now": "2026-11-22T10:00:00.5Z", "start": "soon", "jetstream": {}, "cluster": {}}"#,
        )
        .unwrap();
        assert_eq!(varz.now.unwrap().as_millisecond() % 1000, 500);
        assert!(varz.start.is_none() && varz.jetstream.stats.is_none());
    }
}
