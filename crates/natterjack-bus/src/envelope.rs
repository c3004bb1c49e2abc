//! An event between the bus and a transport: attributes and payload bytes, not yet or no longer a typed value.

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Media type of every payload we publish.
pub(crate) const JSON: &str = "application/json";

impl Draft {
    pub(crate) fn json(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// Makes a new event of it. Identifiers made by one process are in ascending order, so whoever must send in that order
    /// stamps in that order. Identifier and time come from one reading of the clock.
    pub(crate) fn stamp(self, source: &str, kind: &str) -> (Attributes, Bytes) {
        let id = Uuid::now_v7();
        let attributes = Attributes {
            id: id.to_string(),
            source: source.into(),
            kind: self.kind.as_deref().unwrap_or(kind).into(),
            time: self.time.or_else(|| time_of(id)),
            content_type: Some(JSON.into()),
            others: self.others,
        };
        (attributes, self.payload)
    }
}

fn time_of(id: Uuid) -> Option<String> {
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    Some(rfc3339::format(seconds, nanoseconds / 1_000_000))
}
