//! What is answered: an envelope that says by whom and to which request, and a body from an agent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::request::{name, seconds};
use super::{FormatError, Layer, is_protocol, read};
use crate::identity::Identity;

const PROTOCOL: &str = "choria:reply:1";

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What the agent answered; for most agents JSON.
    pub body: String,
    /// Identifier of the request.
    pub request_id: String,
    /// The node that answers, by its own word.
    pub sender: Identity,
    /// The agent that answers.
    pub agent: String,
    /// When it was made, to the second.
    pub time: SystemTime,
}

/// In the order in which MCollective writes them. Others than these are refused, as there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    senderid: String,
    requestid: String,
    agent: String,
    time: u64,
}

impl Reply {
    /// As text, for [`super::SecureReply::new`].
    #[must_use]
    pub fn to_text(&self) -> String {
        let fields = Layer {
            protocol: PROTOCOL.to_owned(),
            message: self.body.clone(),
            envelope: Envelope {
                senderid: self.sender.to_string(),
                requestid: self.request_id.clone(),
                agent: self.agent.clone(),
                time: seconds(self.time),
            },
        };
        serde_json::to_string(&fields).expect("text and numbers have a JSON form")
    }

    /// Reads what [`super::SecureReply::open`] answered.
    ///
    /// # Errors
    /// If it is no reply.
    pub fn from_text(text: &str) -> Result<Self, FormatError> {
        let fields: Layer<Envelope> = read("reply", text.as_bytes())?;
        is_protocol(&fields.protocol, PROTOCOL)?;
        let envelope = fields.envelope;
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(envelope.time));
        Ok(Self {
            body: fields.message,
            request_id: envelope.requestid,
            sender: name("senderid", &envelope.senderid)?,
            agent: envelope.agent,
            // Nothing depends on it.
            time: time.unwrap_or(UNIX_EPOCH),
        })
    }
}
