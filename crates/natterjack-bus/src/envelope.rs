//! An event between the bus and a transport: attributes and payload bytes, not yet or no longer a typed value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// What is to be published: the transport adds who, when and the identifier, with [`Draft::stamp`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    /// CloudEvents `type`; `None`: that of the settings.
    pub(crate) kind: Option<Arc<str>>,
    /// When what it tells of happened, in RFC 3339; `None`: now.
    pub(crate) time: Option<String>,
    /// Attributes beyond those that the transport stamps, by lower-case name.
    pub(crate) others: BTreeMap<String, String>,
    /// JSON.
    pub(crate) payload: Bytes,
}

/// The attribute that carries [`crate::Publish::key`].
pub(crate) const KEY: &str = "routingkey";

/// Type of an event that does not name one.
pub(crate) const KIND_UNKNOWN: &str = "unknown";

/// Media type of every payload we publish.
pub(crate) const JSON: &str = "application/json";

impl Draft {
    /// Makes a new event of it. Identifiers made by one process are in ascending order, so whoever must send in that order
    /// stamps in that order. The time is just before the one that the identifier is made of.
    pub(crate) fn stamp(self, source: &str, kind: &str) -> (Uuid, Attributes, Bytes) {
        let time = self.time.unwrap_or_else(|| rfc3339::format(since_1970()));
        let id = Uuid::now_v7();
        let attributes = Attributes {
            id: text(id),
            source: source.into(),
            kind: self.kind.as_deref().unwrap_or(kind).into(),
            time: Some(time),
            content_type: Some(JSON.into()),
            others: self.others,
        };
        (id, attributes, self.payload)
    }
}

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "an event says when it happened")]
pub(crate) fn since_1970() -> Duration {
    // A clock before 1970 is as good as one at 1970.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn text(id: Uuid) -> String {
    let mut buffer = Uuid::encode_buffer();
    id.hyphenated().encode_lower(&mut buffer).to_owned()
}
