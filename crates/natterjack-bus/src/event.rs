//! What a subscriber receives.

use std::collections::BTreeMap;

/// One event: a value and its CloudEvents 1.0 attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<T> {
    /// Unique together with `source`. A UUIDv7 for events of this library.
    pub id: String,
    /// Who published it: the publishing node's client name, or the subject for a message that does not say.
    pub source: String,
    /// CloudEvents `type`.
    pub kind: String,
    /// When it was published, in RFC 3339, if the publisher said.
    pub time: Option<String>,
    /// Media type of the payload as it travelled, if the publisher said.
    pub content_type: Option<String>,
    /// All other attributes by lower-case name, such as `subject` or an extension.
    pub others: BTreeMap<String, String>,
    /// Whether this very bus published it.
    pub own: bool,
    /// The value.
    pub data: T,
}
