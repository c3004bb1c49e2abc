//! `/gatewayz`, `/leafz` and `/jsz`: pages of features that are not there. They say what a nats-server says that
//! has the feature switched off, so that whoever collects all pages finds all of them.

use serde::Serialize;

use super::facts::ServerFacts;
use super::format::Time;

/// `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Absent {}

#[derive(Serialize)]
pub(crate) struct Gatewayz {
    server_id: String,
    now: Time,
    outbound_gateways: Absent,
    inbound_gateways: Absent,
}

#[derive(Serialize)]
pub(crate) struct Leafz {
    server_id: String,
    now: Time,
    leafnodes: u64,
    leafs: [Absent; 0],
}

#[derive(Serialize)]
pub(crate) struct Jsz {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: u64,
    ha_assets: u64,
    api: JszApi,
    server_id: String,
    now: Time,
    disabled: bool,
    config: JszConfig,
    streams: u64,
    consumers: u64,
    messages: u64,
    bytes: u64,
    total: u64,
}

#[derive(Default, Serialize)]
struct JszApi {
    level: u64,
    total: u64,
    errors: u64,
}

#[derive(Default, Serialize)]
struct JszConfig {
    max_memory: u64,
    max_storage: u64,
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
