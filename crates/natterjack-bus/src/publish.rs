//! What a publisher can say about an event beside its value.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::envelope::{Draft, KEY};
use crate::error::PublishError;
use crate::event::Event;
use crate::rfc3339;
use crate::trace::{self, Trace};

/// How to publish one event: see [`crate::EventBus::publish_with`].
///
/// ```
/// # use natterjack_bus::Publish;
/// let publish = Publish { key: Some("agent-7".into()), ..Publish::default() };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Routing key: subscribers that named keys get only events with one of them. Travels as the extension attribute
    /// `routingkey`.
    pub key: Option<String>,
    /// CloudEvents `subject`: what the event is about, such as a file's name.
    pub subject: Option<String>,
    /// When what it tells of happened, to the microsecond; `None`: now.
    pub time: Option<SystemTime>,
    /// Other CloudEvents attributes by name: lower-case letters and digits.
    pub attributes: BTreeMap<String, String>,
    /// The trace it belongs to. With the feature `opentelemetry` a span around it counts before this.
    pub trace: Option<Trace>,
}

/// Attributes that are not the caller's to set under [`Publish::attributes`]: they have a place of their own.
const RESERVED: [&str; 9] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "datacontenttype",
    "data",
    "subject",
    KEY,
];

impl Publish {
    /// An event with a routing key.
    #[must_use]
    pub fn key(key: impl Into<String>) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::default()
        }
    }

    /// Keeps the trace of an event because of which this one is published: what `event` came with goes on as it is. With the
    /// feature `opentelemetry` the new event's span is below that of `event`, unless there is a span around it.
    #[must_use]
    pub fn following<U>(mut self, event: &Event<U>) -> Self {
        self.trace.clone_from(&event.trace);
        for name in [trace::PARENT, trace::STATE] {
            if let Some(value) = event.others.get(name) {
                self.attributes.insert(name.into(), value.clone());
            }
        }
        self
    }

    pub(crate) fn draft(self, payload: Vec<u8>) -> Result<Draft, PublishError> {
        let mut others = self.attributes;
        if let Some(name) = others.keys().find(|name| !is_free(name)) {
            let name = name.clone();
            return Err(PublishError::Attribute { name });
        }
        others.extend(self.key.map(|key| (KEY.to_string(), key)));
        let subject = self.subject.map(|subject| ("subject".to_string(), subject));
        others.extend(subject);
        // An attribute that is empty is not there (CloudEvents 1.0, section 3.1: values must be non-empty strings).
        others.retain(|_, value| !value.is_empty());
        Ok(Draft {
            kind: None,
            time: self.time.map(format).transpose()?,
            others,
            trace: self.trace,
            payload,
            #[cfg(feature = "opentelemetry")]
            origins: Vec::new(),
        })
    }
}

fn is_free(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty() && name.bytes().all(is_plain) && !RESERVED.contains(&name)
}

fn format(time: SystemTime) -> Result<String, PublishError> {
    /// Of the last second of the year 9999.
    const UNIX_SECONDS_MAX: u64 = 253_402_300_799;
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) if since.as_secs() <= UNIX_SECONDS_MAX => Ok(rfc3339::format(since)),
        _ => Err(PublishError::Attribute {
            name: "time".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_said_becomes_attributes() {
        let publish = Publish {
            key: Some("k".into()),
            subject: Some("s".into()),
            time: Some(UNIX_EPOCH + Duration::from_millis(1500)),
            attributes: [
                ("traceparent".into(), "t".into()),
                ("empty".into(), String::new()),
            ]
            .into(),
            trace: None,
        };
        let draft = publish.draft(b"1".to_vec()).unwrap();
        let others = [("routingkey", "k"), ("subject", "s"), ("traceparent", "t")];
        let others = others.map(|(name, value)| (name.to_string(), value.to_string()));
        assert_eq!(draft.others, others.into());
        assert_eq!(draft.time.as_deref(), Some("1970-01-01T00:00:01.500000Z"));
    }

    #[test]
    fn what_has_a_place_of_its_own_or_no_name_is_refused() {
        for name in [
            "id",
            "routingkey",
            "data",
            "",
            "Upper",
            "a-b",
            "data_base64",
            "ä",
        ] {
            let attributes = [(name.to_string(), "x".to_string())].into();
            let publish = Publish {
                attributes,
                ..Publish::default()
            };
            let error = publish.draft(Vec::new()).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let time = Some(UNIX_EPOCH - Duration::from_secs(1));
        let publish = Publish {
            time,
            ..Publish::default()
        };
        assert!(publish.draft(Vec::new()).is_err());
    }
}
