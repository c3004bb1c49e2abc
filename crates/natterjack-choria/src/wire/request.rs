//! What is asked: an envelope that says by whom, of whom and until when, and a body for an agent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{FormatError, Layer, Proven, is_protocol, read};
use crate::filter::Filter;
use crate::identity::{CallerId, Identity};

const PROTOCOL: &str = "choria:request:1";

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the agent gets; for most agents JSON.
    pub body: String,
    /// Thirty-two hexadecimal digits that no other request has.
    pub id: String,
    /// The machine that it comes from, by its own word.
    pub sender: Identity,
    /// Who asks. The signature proves it.
    pub caller: CallerId,
    /// In which collective.
    pub collective: String,
    /// For which agent.
    pub agent: String,
    /// For how long it is good, from its time on.
    pub lifetime: Duration,
    /// When it was made, to the second.
    pub time: SystemTime,
    /// Which nodes are meant.
    pub filter: Filter,
}

/// In the order in which MCollective writes them. Others than these are refused, as there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    requestid: String,
    senderid: String,
    callerid: String,
    filter: Filter,
    collective: String,
    agent: String,
    ttl: u64,
    time: u64,
}

impl Request {
    /// As text, to be signed by [`super::SecureRequest::sign`].
    #[must_use]
    pub fn to_text(&self) -> String {
        let fields = Layer {
            protocol: PROTOCOL.to_owned(),
            message: self.body.clone(),
            envelope: Envelope {
                requestid: self.id.clone(),
                senderid: self.sender.to_string(),
                callerid: self.caller.to_string(),
                filter: self.filter.clone(),
                collective: self.collective.clone(),
                agent: self.agent.clone(),
                ttl: self.lifetime.as_secs(),
                time: seconds(self.time),
            },
        };
        serde_json::to_string(&fields).expect("text and numbers have a JSON form")
    }

    /// Reads a request that is proven to come from the owner of some certificate.
    ///
    /// # Errors
    /// If it is no request.
    pub fn from_proven(proven: Proven<'_>) -> Result<Self, FormatError> {
        let fields: Layer<Envelope> = read("request", proven.message.as_bytes())?;
        is_protocol(&fields.protocol, PROTOCOL)?;
        let envelope = fields.envelope;
        let is_id = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id(&envelope.requestid) {
            return Err(FormatError::Value {
                field: "requestid",
                found: envelope.requestid,
                reason: "it should be 32 hexadecimal digits",
            });
        }
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(envelope.time));
        let time = time.ok_or_else(|| FormatError::Value {
            field: "time",
            found: envelope.time.to_string(),
            reason: "there is no such time",
        })?;
        Ok(Self {
            body: fields.message,
            id: envelope.requestid,
            sender: name("senderid", &envelope.senderid)?,
            caller: name("callerid", &envelope.callerid)?,
            collective: envelope.collective,
            agent: envelope.agent,
            lifetime: Duration::from_secs(envelope.ttl),
            time,
            filter: envelope.filter,
        })
    }

    /// Whether it is too old, or from a future that clocks which differ a little do not explain. So nobody can keep a
    /// request and use it later.
    #[must_use]
    pub fn is_out_of_date(&self, now: SystemTime) -> bool {
        let distance = match now.duration_since(self.time) {
            Ok(age) => age,
            Err(ahead) => ahead.duration(),
        };
        distance > self.lifetime
    }
}

pub(super) fn name<T: std::str::FromStr>(
    field: &'static str,
    text: &str,
) -> Result<T, FormatError> {
    text.parse().map_err(|_| FormatError::Value {
        field,
        found: text.chars().take(100).collect(),
        reason: "letters, digits, `_`, `-` and `.` may be in names, and a caller id is kind=name",
    })
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
