//! `/gatewayz`, `/leafz` and `/jsz`: pages of features that are not there. They say what a nats-server says that
//! has the feature switched off, so that whoever collects all pages finds all of them.

use serde::Serialize;

use super::facts::ServerFacts;
use super::format::Time;

/// `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Absent {}

/// Connections with other clusters (`/gatewayz`): there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Gatewayz {
    /// The server's id.
    pub server_id: String,
    /// When this was asked.
    pub now: Time,
    /// None.
    pub outbound_gateways: Absent,
    /// None.
    pub inbound_gateways: Absent,
}

/// Connections with leaf nodes (`/leafz`): there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Leafz {
    /// The server's id.
    pub server_id: String,
    /// When this was asked.
    pub now: Time,
    /// 0.
    pub leafnodes: u64,
    /// None.
    pub leafs: [Absent; 0],
}

/// JetStream (`/jsz`): it is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Jsz {
    /// Bytes of memory in use: 0, as all numbers here.
    pub memory: u64,
    /// Bytes of storage in use.
    pub storage: u64,
    /// Bytes of memory set aside.
    pub reserved_memory: u64,
    /// Bytes of storage set aside.
    pub reserved_storage: u64,
    /// Accounts that use it.
    pub accounts: u64,
    /// Streams and consumers that are kept in several places.
    pub ha_assets: u64,
    /// Requests to it.
    pub api: JszApi,
    /// The server's id.
    pub server_id: String,
    /// When this was asked.
    pub now: Time,
    /// Whether it is switched off: `true`.
    pub disabled: bool,
    /// How it is configured.
    pub config: JszConfig,
    /// Streams.
    pub streams: u64,
    /// Consumers.
    pub consumers: u64,
    /// Messages kept.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Accounts that there is something to tell of.
    pub total: u64,
}

/// Requests to JetStream: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JszApi {
    /// Version of its protocol.
    pub level: u64,
    /// Requests.
    pub total: u64,
    /// Requests that failed.
    pub errors: u64,
}

/// What JetStream may use: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JszConfig {
    /// Bytes of memory it may use.
    pub max_memory: u64,
    /// Bytes of storage it may use.
    pub max_storage: u64,
}

pub(crate) fn gatewayz(facts: &ServerFacts) -> Gatewayz {
    Gatewayz {
        server_id: facts.info.server_id.clone(),
        now: facts.time_of(facts.now),
        outbound_gateways: Absent {},
        inbound_gateways: Absent {},
    }
}

pub(crate) fn leafz(facts: &ServerFacts) -> Leafz {
    Leafz {
        server_id: facts.info.server_id.clone(),
        now: facts.time_of(facts.now),
        leafnodes: 0,
        leafs: [],
    }
}

pub(crate) fn jsz(facts: &ServerFacts) -> Jsz {
    Jsz {
        memory: 0,
        storage: 0,
        reserved_memory: 0,
        reserved_storage: 0,
        accounts: 0,
        ha_assets: 0,
        api: JszApi::default(),
        server_id: facts.info.server_id.clone(),
        now: facts.time_of(facts.now),
        disabled: true,
        config: JszConfig::default(),
        streams: 0,
        consumers: 0,
        messages: 0,
        bytes: 0,
        total: 0,
    }
}
