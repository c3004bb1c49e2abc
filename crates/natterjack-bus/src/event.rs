//! What a subscriber receives.

use std::collections::BTreeMap;

use crate::envelope::{Envelope, KEY, KIND_UNKNOWN};
use crate::trace::Trace;

/// One event: a value and its CloudEvents 1.0 attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event<T> {
    /// Unique together with `source`. For events of this library a UUIDv7, and larger than that of any event this
    /// publisher has published before.
    pub id: String,
    /// Who published it: the publishing node's client name, or the subject for a message that does not say.
    pub source: String,
    /// CloudEvents `type`.
    pub kind: String,
    /// When what it tells of happened, in RFC 3339, if the publisher said.
    pub time: Option<String>,
    /// Media type of the payload as it travelled, if the publisher said.
    pub content_type: Option<String>,
    /// All other attributes by lower-case name, such as `subject` or an extension.
    pub others: BTreeMap<String, String>,
    /// The trace it belongs to, if it came with the headers of one, well-formed or not.
    pub trace: Option<Trace>,
    pub(crate) own: bool,
    /// Of its payload, if it travelled.
    #[cfg(feature = "opentelemetry")]
    pub(crate) body_bytes: Option<usize>,
    /// The value.
    pub data: T,
}

impl<T> Event<T> {
    /// An event as if another program had published this value and said nothing about it. For tests of code that takes
    /// events; [`crate::EventBus::publish`] takes values.
    #[must_use]
    pub fn new(data: T) -> Self {
        Self {
            id: String::new(),
            source: String::new(),
            kind: KIND_UNKNOWN.into(),
            time: None,
            content_type: None,
            others: BTreeMap::new(),
            trace: None,
            own: false,
            #[cfg(feature = "opentelemetry")]
            body_bytes: None,
            data,
        }
    }

    /// Whether this very bus has published it. A bus sees its own events as everybody else's, exactly once; whoever
    /// does not want to says [`crate::Subscription::others_only`].
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// The routing key it was published with ([`crate::Publish::key`]).
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.others.get(KEY).map(String::as_str)
    }

    /// CloudEvents `subject`: what the event is about.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.others.get("subject").map(String::as_str)
    }

    /// The same event with another value.
    #[must_use]
    pub fn with<U>(self, data: U) -> Event<U> {
        Event {
            id: self.id,
            source: self.source,
            kind: self.kind,
            time: self.time,
            content_type: self.content_type,
            others: self.others,
            trace: self.trace,
            own: self.own,
            #[cfg(feature = "opentelemetry")]
            body_bytes: self.body_bytes,
            data,
        }
    }

    pub(crate) fn clone_with<U>(&self, data: U) -> Event<U> {
        Event {
            id: self.id.clone(),
            source: self.source.clone(),
            kind: self.kind.clone(),
            time: self.time.clone(),
            content_type: self.content_type.clone(),
            others: self.others.clone(),
            trace: self.trace.clone(),
            own: self.own,
            #[cfg(feature = "opentelemetry")]
            body_bytes: self.body_bytes,
            data,
        }
    }

    pub(crate) fn from_envelope(envelope: Envelope, data: T) -> Self {
        let attributes = envelope.attributes;
        Self {
            id: attributes.id,
            source: attributes.source,
            kind: attributes.kind,
            time: attributes.time,
            content_type: attributes.content_type,
            others: attributes.others,
            trace: attributes.trace,
            own: envelope.own,
            #[cfg(feature = "opentelemetry")]
            body_bytes: Some(envelope.payload.len()),
            data,
        }
    }
}
