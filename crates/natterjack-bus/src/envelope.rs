//! An event between the bus and a transport: attributes and payload bytes, not yet or no longer a typed value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use uuid::Uuid;

use crate::rfc3339;
use crate::trace::Trace;

/// CloudEvents attributes; see [`crate::Event`] for their meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) kind: String,
    pub(crate) time: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) others: BTreeMap<String, String>,
    /// No attribute: headers of their own.
    pub(crate) trace: Option<Trace>,
}

/// An event as a transport delivers it.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) attributes: Attributes,
    pub(crate) payload: Bytes,
    /// What it took on its way, headers included: what it counts for in queues.
    pub(crate) bytes: usize,
    pub(crate) own: bool,
    /// Whether its publisher has said which one it is. Otherwise the identifier is made up here.
    pub(crate) is_identified: bool,
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
    pub(crate) trace: Option<Trace>,
    /// The spans around what was merged into it.
    #[cfg(feature = "opentelemetry")]
    pub(crate) origins: Vec<opentelemetry::trace::SpanContext>,
    /// JSON.
    pub(crate) payload: Vec<u8>,
}

/// The attribute that carries [`crate::Publish::key`].
pub(crate) const KEY: &str = "routingkey";

/// Type of an event that does not name one.
pub(crate) const KIND_UNKNOWN: &str = "unknown";

/// Media type of every payload we publish.
pub(crate) const JSON: &str = "application/json";

impl Draft {
    /// Makes a new event of it; see [`stamp()`].
    pub(crate) fn stamp(self, source: &str, kind: &str) -> (Uuid, Attributes, Bytes) {
        let (id, now) = stamp();
        let attributes = Attributes {
            id: id_text(id, &mut Uuid::encode_buffer()).into(),
            source: source.into(),
            kind: self.kind.as_deref().unwrap_or(kind).into(),
            time: self.time.or_else(|| Some(rfc3339::format(now))),
            content_type: Some(JSON.into()),
            others: self.others,
            trace: self.trace,
        };
        (id, attributes, self.payload.into())
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

/// An identifier and the time, from one reading of the clock. Identifiers made by one process are in ascending order, so
/// whoever must send in that order stamps in that order.
///
/// A UUIDv7 whose twelve bits behind the milliseconds are a finer fraction of the time, counted up where that stands still
/// (RFC 9562, section 6.2, method 3); the rest is chance. It need not be unpredictable, and asking the system for it would
/// take longer than all else that is done to publish an event.
pub(crate) fn stamp() -> (Uuid, Duration) {
    /// Milliseconds and fraction of the last one.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = since_1970();
    let fraction = u64::from(now.subsec_nanos() % 1_000_000) * 4096 / 1_000_000;
    let ticks = (now.as_millis() as u64) << 12 | fraction;
    let last = LAST.fetch_update(Relaxed, Relaxed, |last| Some(ticks.max(last + 1)));
    // The update never declines, so both arms hold what was there before.
    let ticks = ticks.max(last.unwrap_or_else(|last| last) + 1);
    let high = (ticks >> 12) << 16 | 0x7000 | (ticks & 0xFFF);
    let low = 1 << 63 | fastrand::u64(..) >> 2;
    (Uuid::from_u64_pair(high, low), now)
}

/// As it is written.
pub(crate) fn id_text(id: Uuid, buffer: &mut [u8; ID_BYTES]) -> &str {
    id.hyphenated().encode_lower(&mut buffer[..])
}

/// What [`Uuid::encode_buffer`] gives.
pub(crate) const ID_BYTES: usize = Uuid::encode_buffer().len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_ascend_and_tell_the_time() {
        let all: Vec<_> = (0..20_000).map(|_| stamp()).collect();
        assert!(all.is_sorted_by(|(left, _), (right, _)| left < right));
        for (id, now) in all {
            assert_eq!((id.get_version_num(), id.as_bytes()[8] >> 6), (7, 0b10));
            let (seconds, nanoseconds) = id.get_timestamp().unwrap().to_unix();
            let late = Duration::new(seconds, nanoseconds).abs_diff(now);
            // Other tests count up, too.
            assert!(late < Duration::from_millis(100), "{late:?}");
        }
    }
}
