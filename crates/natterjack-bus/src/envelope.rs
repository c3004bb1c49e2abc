//! An event between the bus and a transport: attributes and payload bytes, not yet or no longer a typed value.

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;

use crate::rfc3339;

/// CloudEvents attributes; see [`crate::Event`] for their meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) kind: String,
    pub(crate) time: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) others: BTreeMap<String, String>,
}

/// An event as a transport delivers it.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) attributes: Attributes,
    pub(crate) payload: Bytes,
    pub(crate) own: bool,
}

/// Media type of every payload we publish.
pub(crate) const JSON: &str = "application/json";

impl Attributes {
    /// Attributes of a new JSON event. Identifier and time come from one reading of the clock, and identifiers made by
    /// one process are in ascending order.
    pub(crate) fn stamp(source: &str, kind: &str) -> Self {
        let id = Uuid::now_v7();
        let time = id.get_timestamp().map(|timestamp| {
            let (seconds, nanoseconds) = timestamp.to_unix();
            rfc3339::format(seconds, nanoseconds / 1_000_000)
        });
        Self {
            id: id.to_string(),
            source: source.into(),
            kind: kind.into(),
            time,
            content_type: Some(JSON.into()),
            others: BTreeMap::new(),
        }
    }
}
