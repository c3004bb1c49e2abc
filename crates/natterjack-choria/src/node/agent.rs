//! What a node can be asked to do: the trait that agents implement, what they get, and how they are kept from doing harm.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::identity::{CallerId, Identity};
use crate::rpc::{ActionReply, ActionRequest, Status, Values};

/// Something that a node can be asked to do, by its name. All requests go to the same value, several at once.
///
/// ```
/// use natterjack_choria::node::{Agent, Call, Description};
/// use natterjack_choria::rpc::{ActionReply, Values};
///
/// struct Greeter;
///
/// impl Agent for Greeter {
///     fn description(&self) -> Description {
///         Description::new("greeter", &["hello"])
///     }
///
///     async fn handle(&self, call: Call) -> ActionReply {
///         let name = match call.text("name") {
///             Ok(name) => name,
///             Err(reply) => return reply,
///         };
///         let greeting = format!("Hello {name}, says {}", call.caller);
///         ActionReply::ok(Values::from_iter([("greeting".to_owned(), greeting.into())]))
///     }
/// }
/// ```
pub trait Agent: Send + Sync + 'static {
    /// What it is and what it can do. Asked for once, when the agent is added to a node.
    fn description(&self) -> Description;

    /// Does what is asked. Who asks has been proven, and the action is one of the description's.
    ///
    /// If it panics, the caller hears that it failed, and nothing else happens. If it takes longer than its description
    /// says, it is stopped at its next `await`, and the caller hears that too. What blocks or computes for long belongs on a
    /// thread for that, `tokio::task::spawn_blocking` for instance.
    fn handle(&self, call: Call) -> impl Future<Output = ActionReply> + Send;
}

/// What an agent says of itself. MCollective has it in a DDL.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// What requests call it: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// What it can be asked to do.
    pub actions: Vec<String>,
    /// What it is for.
    pub description: String,
    /// Who wrote it.
    pub author: String,
    /// Under which terms.
    pub license: String,
    /// Its version.
    pub version: String,
    /// Where there is more about it.
    pub url: String,
    /// How long an action may take. To the second on the wire.
    pub timeout: Duration,
}

impl Description {
    /// An agent of this name with these actions, which may take ten seconds each, and nothing said about the rest.
    #[must_use]
    pub fn new(name: &str, actions: &[&str]) -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            name: name.to_owned(),
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
            description: unknown(),
            author: unknown(),
            license: unknown(),
            version: unknown(),
            url: unknown(),
            timeout: Duration::from_secs(10),
        }
    }

    /// The same with another timeout.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// One request to an agent, and what is known about it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Call {
    /// What is asked.
    pub request: ActionRequest,
    /// Who asks, proven by a signature.
    pub caller: CallerId,
    /// Whose certificate signed: the caller's own, or one that may ask for others.
    pub signed_by: String,
    /// The machine that the caller uses, by its own word.
    pub sender: Identity,
    /// In which collective.
    pub collective: String,
    /// Identifier of the request, for logs.
    pub request_id: String,
    /// When it arrived.
    pub time: SystemTime,
}

impl Call {
    /// An argument.
    ///
    /// # Errors
    /// What to answer if it is not there.
    pub fn argument(&self, name: &str) -> Result<&Value, ActionReply> {
        let argument = self.request.data.get(name);
        argument.ok_or_else(|| {
            ActionReply::failed(Status::MissingData, format!("argument {name} is missing"))
        })
    }

    /// An argument that is a text.
    ///
    /// # Errors
    /// What to answer if it is not there, or something else.
    pub fn text(&self, name: &str) -> Result<&str, ActionReply> {
        self.argument(name)?.as_str().ok_or_else(|| {
            ActionReply::failed(Status::InvalidData, format!("argument {name} must be text"))
        })
    }

    /// What is true, false, or a word for it: people write arguments on command lines.
    ///
    /// # Errors
    /// What to answer if it is not there, or something else.
    pub fn boolean(&self, name: &str) -> Result<bool, ActionReply> {
        let is_one_of =
            |text: &str, words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        match self.argument(name)? {
            Value::Bool(truth) => Some(*truth),
            Value::String(text) if is_one_of(text, ["1", "yes", "true", "y", "t"]) => Some(true),
            Value::String(text) if is_one_of(text, ["0", "no", "false", "n", "f"]) => Some(false),
            _ => None,
        }
        .ok_or_else(|| {
            let message = format!("argument {name} must be true or false");
            ActionReply::failed(Status::InvalidData, message)
        })
    }

    /// A whole number, or a text that is one.
    ///
    /// # Errors
    /// What to answer if it is not there, or something else.
    pub fn integer(&self, name: &str) -> Result<i64, ActionReply> {
        let argument = self.argument(name)?;
        let text = argument.as_str().and_then(|text| text.parse().ok());
        text.or_else(|| argument.as_i64()).ok_or_else(|| {
            let message = format!("argument {name} must be a whole number");
            ActionReply::failed(Status::InvalidData, message)
        })
    }
}

/// The answer, some time.
pub(super) type Answering<'a> = Pin<Box<dyn Future<Output = ActionReply> + Send + 'a>>;

/// An [`Agent`] of any type.
pub(super) trait AnyAgent: Send + Sync {
    fn handle(&self, call: Call) -> Answering<'_>;
}

impl<A: Agent> AnyAgent for A {
    fn handle(&self, call: Call) -> Answering<'_> {
        Box::pin(Agent::handle(self, call))
    }
}

/// Has an agent do something, whatever comes of it. The task holds `permit` until the agent has returned, also if nobody
/// waits for it any more: an agent that never returns does not make room for another one.
pub(super) async fn perform(
    agent: Arc<dyn AnyAgent>,
    call: Call,
    timeout: Duration,
    permit: impl Send + 'static,
) -> Result<ActionReply, Failure> {
    let (name, action) = (call.request.agent.clone(), call.request.action.clone());
    let mut task = tokio::spawn(async move {
        let _permit = permit;
        agent.handle(call).await
    });
    match tokio::time::timeout(timeout, &mut task).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) => Err(Failure::Panicked { name, action }),
        Err(_) => {
            task.abort();
            Err(Failure::TookTooLong {
                name,
                action,
                timeout,
            })
        }
    }
}

/// Why there is no answer of an agent's own.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the agent {name} panicked at {action}")]
    Panicked { name: String, action: String },
    #[error("the agent {name} did not finish {action} within {timeout:?}")]
    TookTooLong {
        name: String,
        action: String,
        timeout: Duration,
    },
}

impl Failure {
    /// What the caller hears.
    pub(super) fn to_reply(&self) -> ActionReply {
        let message = match self {
            // What it panicked with may tell more than a caller should hear.
            Self::Panicked { name, action } => {
                format!("the agent {name} failed at {action}; its node's log may say why")
            }
            Self::TookTooLong { .. } => self.to_string(),
        };
        ActionReply::failed(Status::UnknownError, message)
    }
}

/// A reply's values, from pairs.
pub(super) fn values<const N: usize>(pairs: [(&str, Value); N]) -> Values {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
