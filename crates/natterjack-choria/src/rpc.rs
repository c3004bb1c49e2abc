//! Bodies of requests and replies as most agents understand them: an action with arguments, a status with values. And the
//! one that is different, that of a ping.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::identity::CallerId;

/// Values by name.
pub type Values = Map<String, Value>;

/// What an agent is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionRequest {
    /// Which agent.
    pub agent: String,
    /// What to do.
    pub action: String,
    /// Who asks, as Ruby writes once more; the envelope's is the one that is proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Arguments.
    #[serde(default, deserialize_with = "values_or_none")]
    pub data: Values,
}

/// An argument that says whether an answer is wanted at all.
const PROCESS_RESULTS: &str = "process_results";

impl ActionRequest {
    /// Asks an agent to do something, and wants an answer.
    #[must_use]
    pub fn new(agent: &str, action: &str, caller: &CallerId, mut data: Values) -> Self {
        data.insert(PROCESS_RESULTS.into(), true.into());
        Self {
            agent: agent.into(),
            action: action.into(),
            caller: Some(caller.to_string()),
            data,
        }
    }

    /// The same, but nobody waits for an answer.
    #[must_use]
    pub fn without_answer(mut self) -> Self {
        self.data.insert(PROCESS_RESULTS.into(), false.into());
        self
    }

    /// Whether an answer is wanted.
    #[must_use]
    pub fn wants_answer(&self) -> bool {
        self.data.get(PROCESS_RESULTS) != Some(&Value::Bool(false))
    }

    /// The arguments, without what is about the request itself.
    pub fn arguments(&self) -> impl Iterator<Item = (&str, &Value)> {
        let arguments = self.data.iter().map(|(name, value)| (name.as_str(), value));
        arguments.filter(|(name, _)| *name != PROCESS_RESULTS)
    }

    /// As the body of a request.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("text and values have a JSON form")
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        crate::wire::parse(text.as_bytes())
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Done.
    Ok,
    /// The agent gave up.
    Aborted,
    /// There is no such action.
    UnknownAction,
    /// An argument is missing.
    MissingData,
    /// An argument is wrong.
    InvalidData,
    /// Something else, or a number that nobody has defined.
    UnknownError,
}

impl Status {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Aborted => 1,
            Self::UnknownAction => 2,
            Self::MissingData => 3,
            Self::InvalidData => 4,
            Self::UnknownError => 5,
        }
    }

    const fn of(code: u64) -> Self {
        match code {
            0 => Self::Ok,
            1 => Self::Aborted,
            2 => Self::UnknownAction,
            3 => Self::MissingData,
            4 => Self::InvalidData,
            _ => Self::UnknownError,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "OK",
            Self::Aborted => "Aborted",
            Self::UnknownAction => "Unknown Action",
            Self::MissingData => "Missing Request Data",
            Self::InvalidData => "Invalid Request Data",
            Self::UnknownError => "Unknown Error",
        })
    }
}

/// What an agent answers.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionReply {
    /// How it went.
    pub status: Status,
    /// The same in words; `OK` if it went well.
    pub message: String,
    /// What it found out.
    pub data: Values,
}

#[derive(Serialize, Deserialize)]
struct ReplyFields {
    statuscode: u64,
    statusmsg: String,
    #[serde(default, deserialize_with = "values_or_none")]
    data: Values,
}

/// Values, or what stands for none: null, and what nodes of Choria in Go write for that, an object in quotes.
fn values_or_none<'a, D: Deserializer<'a>>(reader: D) -> Result<Values, D::Error> {
    match Value::deserialize(reader)? {
        Value::Object(values) => Ok(values),
        Value::Null => Ok(Values::new()),
        Value::String(text) if text == "{}" => Ok(Values::new()),
        other => Err(D::Error::custom(format_args!(
            "data is {}, and no object",
            kind(&other)
        ))),
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl ActionReply {
    /// It went well.
    #[must_use]
    pub fn ok(data: Values) -> Self {
        Self {
            status: Status::Ok,
            message: "OK".into(),
            data,
        }
    }

    /// It did not.
    #[must_use]
    pub fn failed(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            data: Values::new(),
        }
    }

    /// As the body of a reply.
    #[must_use]
    pub fn to_text(&self) -> String {
        let fields = ReplyFields {
            statuscode: self.status.code().into(),
            statusmsg: self.message.clone(),
            data: self.data.clone(),
        };
        serde_json::to_string(&fields).expect("text and values have a JSON form")
    }

    /// Reads the body of a reply.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        let fields: ReplyFields = crate::wire::parse(text.as_bytes())?;
        Ok(Self {
            status: Status::of(fields.statuscode),
            message: fields.statusmsg,
            data: fields.data,
        })
    }
}

/// Body of a ping that all understand: in quotes. Choria in Go takes one without for base 64.
pub const PING: &str = "\"ping\"";

/// Body of the answer to a ping.
pub const PONG: &str = "\"pong\"";

/// Whether somebody asks who is there: `ping`, with quotes or without, or in base 64 as Choria in Go writes it.
#[must_use]
pub fn is_ping(body: &str) -> bool {
    ["\"ping\"", "ping", "cGluZw==", "\"cGluZw==\""].contains(&body.trim())
}

/// Whether somebody is there, in the same forms.
#[must_use]
pub fn is_pong(body: &str) -> bool {
    ["\"pong\"", "pong", "cG9uZw==", "\"cG9uZw==\""].contains(&body.trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn caller() -> CallerId {
        CallerId::of_certificate("rip.mcollective").unwrap()
    }

    /// Seen on the wire of MCollective.
    #[test]
    fn bodies_look_as_those_of_mcollective() {
        let request = ActionRequest::new("rpcutil", "ping", &caller(), Values::new());
        let text = r#"{"agent":"rpcutil","action":"ping","caller":"choria=rip.mcollective","data":{"process_results":true}}"#;
        assert_eq!(request.to_text(), text);
        assert_eq!(ActionRequest::from_text(text).unwrap(), request);
        assert!(request.wants_answer() && !request.clone().without_answer().wants_answer());
        assert_eq!(request.arguments().count(), 0);

        let text = r#"{"statuscode":0,"statusmsg":"OK","data":{"pong":1795289687}}"#;
        let reply = ActionReply::from_text(text).unwrap();
        assert_eq!(
            (reply.status, &reply.data["pong"]),
            (Status::Ok, &json!(1795289687))
        );
        assert_eq!(reply.to_text(), text);
        let of_go = r#"{"statuscode":5,"statusmsg":"no","data":{},"action":"x"}"#;
        assert_eq!(
            ActionReply::from_text(of_go).unwrap(),
            ActionReply::failed(Status::UnknownError, "no")
        );
    }

    /// As Choria in Go writes where there is no data: to callers, and in requests.
    #[test]
    fn no_data_is_written_in_several_ways() {
        for data in ["{}", "null", r#""{}""#] {
            let text = format!(r#"{{"statuscode":2,"statusmsg":"no","data":{data}}}"#);
            let reply = ActionReply::from_text(&text).unwrap();
            assert_eq!(reply, ActionReply::failed(Status::UnknownAction, "no"));
            let text = format!(r#"{{"agent":"a","action":"b","data":{data}}}"#);
            assert_eq!(ActionRequest::from_text(&text).unwrap().data, Values::new());
        }
        for data in ["[]", "1", r#""x""#] {
            let text = format!(r#"{{"statuscode":0,"statusmsg":"OK","data":{data}}}"#);
            let error = ActionReply::from_text(&text).unwrap_err().to_string();
            assert!(error.contains("and no object"), "{error}");
        }
    }

    #[test]
    fn requests_of_go_have_no_caller() {
        let request = ActionRequest::from_text(r#"{"agent":"a","action":"b","data":{"x":1}}"#);
        let request = request.unwrap();
        assert_eq!(request.caller, None);
        assert!(request.wants_answer());
        assert_eq!(request.arguments().collect::<Vec<_>>(), [("x", &json!(1))]);
    }

    #[test]
    fn statuses_have_their_numbers() {
        for code in 0..6 {
            assert_eq!(u64::from(Status::of(code).code()), code);
        }
        assert_eq!(Status::of(99), Status::UnknownError);
    }

    #[test]
    fn pings_of_all_kinds() {
        for body in ["\"ping\"", "ping", "cGluZw=="] {
            assert!(is_ping(body) && !is_pong(body));
        }
        for body in ["\"pong\"", "pong", "cG9uZw=="] {
            assert!(is_pong(body) && !is_ping(body));
        }
        assert!(ActionReply::from_text(r#"[0, "OK", {}]"#).is_err());
        assert!(!is_ping("pinging") && !is_ping(""));
    }

    proptest! {
        #[test]
        fn nothing_panics(text: String) {
            let _ = ActionRequest::from_text(&text);
            let _ = ActionReply::from_text(&text);
        }
    }
}
