//! A node: takes requests, hands them to agents, answers.
//!
//! [`Node::take`] decides, from a message and a time, without a socket: what is dropped, what is answered at once, what an
//! agent has to do. [`serve`] does the rest: it receives, lets agents work and publishes what they answer.
//!
//! Nothing that arrives ends a node or makes it panic, and strangers learn nothing: not even that it is there.

mod agent;
mod facts;
mod knowledge;
mod rpcutil;
mod serve;
mod statistics;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use agent::{Agent, Call, Description};
pub use knowledge::Knowledge;
pub use serve::serve;
pub use statistics::Statistics;

use crate::admission::{Admission, Admitted, Refusal};
use crate::complaints::{Complaints, plain};
use crate::configuration::Configuration;
use crate::connector::OutgoingReply;
use crate::filter::Inventory;
use crate::identity::{Identity, NameError};
use crate::pins::Pins;
use crate::rpc::{ActionReply, ActionRequest, PONG, Status, is_ping};
use crate::ssl::Ssl;
use crate::subject::Collectives;
use crate::wire::{Headers, Reply, SecureReply, Transport};
use agent::AnyAgent;
use knowledge::{Files, Source};
use rpcutil::Rpcutil;
use statistics::Counters;

/// The agent that says who is there. Nodes answer for it themselves, at once.
pub const DISCOVERY: &str = "discovery";

/// The agent that tells about the node; every node has it.
pub const RPCUTIL: &str = "rpcutil";

/// Requests that agents work on at a time, unless the node is told otherwise.
const WORKING_MAX: usize = 64;

/// No action takes longer, whatever its agent says of itself.
const ACTION_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

/// Why an agent cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Its name is none.
    #[error("an agent cannot be called that: {0}")]
    Name(#[from] NameError),
    /// There is one of that name.
    #[error("there is an agent {0} already")]
    Twice(String),
}

/// What nodes are made of.
pub struct NodeBuilder {
    identity: Identity,
    collectives: Collectives,
    admission: Admission,
    knowledge: Source,
    configuration: Option<Arc<Configuration>>,
    agents: BTreeMap<String, Known>,
    working_max: usize,
    memory: Memory,
}

/// How a node knows what it took before it was started.
enum Memory {
    /// It does not.
    None,
    /// By what is kept in the folder of keys and certificates, if there is one.
    Folder(Option<PathBuf>),
}

/// An agent, and what it said of itself.
#[derive(Clone)]
struct Known {
    description: Description,
    agent: Arc<dyn AnyAgent>,
}

impl NodeBuilder {
    /// A node of that name which takes what `admission` admits, has the agents `discovery` and `rpcutil`, and knows no facts.
    #[must_use]
    pub fn new(identity: Identity, collectives: Collectives, admission: Admission) -> Self {
        Self {
            identity,
            collectives,
            admission,
            knowledge: Source::Given(Arc::default()),
            configuration: None,
            agents: BTreeMap::new(),
            working_max: WORKING_MAX,
            memory: Memory::None,
        }
    }

    /// The node that a configuration describes: its identity and collectives, who may ask, its facts and classes. Callers'
    /// certificates are pinned below the folder of the node's own, if they are all in one, and there the requests that it
    /// took are kept, so that it takes none once more after it was started anew.
    #[must_use]
    pub fn from_configuration(configuration: Arc<Configuration>, ssl: &Ssl) -> Self {
        ssl.notice_lack_of_revocations();
        let admission = Admission::new(
            ssl.authorities.clone(),
            configuration.certname_allowed.clone(),
            configuration.privileged.clone(),
            configuration.collectives.clone(),
            ssl.files.folder.as_deref().map(Pins::below),
        );
        let files = Files::new(
            configuration.facts_files.clone(),
            configuration.classes_file.clone(),
        );
        let identity = configuration.identity.clone();
        Self {
            knowledge: Source::Files(files),
            memory: Memory::Folder(ssl.files.folder.clone()),
            ..Self::new(identity, configuration.collectives.clone(), admission)
        }
        .with_configuration(configuration)
    }

    fn with_configuration(mut self, configuration: Arc<Configuration>) -> Self {
        self.configuration = Some(configuration);
        self
    }

    /// The same with one more agent.
    ///
    /// # Errors
    /// If there is one of that name, or if it is no name.
    pub fn with_agent(mut self, agent: impl Agent) -> Result<Self, AgentError> {
        let description = agent.description();
        crate::subject::check_part(&description.name)?;
        let name = description.name.clone();
        if [DISCOVERY, RPCUTIL].contains(&name.as_str()) || self.agents.contains_key(&name) {
            return Err(AgentError::Twice(name));
        }
        let agent = Arc::new(agent);
        self.agents.insert(name, Known { description, agent });
        Ok(self)
    }

    /// The same with these facts and classes instead of those in files.
    #[must_use]
    pub fn with_knowledge(mut self, knowledge: Knowledge) -> Self {
        self.knowledge = Source::Given(Arc::new(knowledge));
        self
    }

    /// The same, but its agents work on at most so many requests at a time. Who asks for more hears that the node is busy.
    #[must_use]
    pub const fn with_working_max(mut self, requests: usize) -> Self {
        self.working_max = requests;
        self
    }

    /// The node, which starts now.
    #[must_use]
    pub fn build(mut self, now: SystemTime) -> Node {
        let description = rpcutil::description();
        let own = [rpcutil::description_of_discovery(), description.clone()];
        let others = self.agents.values();
        let mut descriptions: Vec<_> = others
            .map(|known| known.description.clone())
            .chain(own)
            .collect();
        descriptions.sort_by(|left, right| left.name.cmp(&right.name));
        let mut agents: Vec<_> = self.agents.keys().cloned().collect();
        agents.extend([DISCOVERY.to_owned(), RPCUTIL.to_owned()]);
        agents.sort_unstable();
        let shared = Arc::new(Shared {
            identity: self.identity,
            collectives: self.collectives,
            knowledge: self.knowledge,
            configuration: self.configuration,
            agents,
            descriptions,
            counters: Counters::default(),
            dropped: Mutex::default(),
            failed: Mutex::default(),
            started: now,
        });
        let agent = Arc::new(Rpcutil {
            node: Arc::clone(&shared),
        });
        let rpcutil = Known { description, agent };
        self.agents.insert(RPCUTIL.to_owned(), rpcutil);
        let admission = match self.memory {
            Memory::None => self.admission,
            Memory::Folder(ssldir) => {
                (self.admission).since(ssldir.as_deref(), &shared.identity, now)
            }
        };
        Node {
            shared,
            admission,
            agents: self.agents,
            working: Arc::new(Semaphore::new(self.working_max)),
        }
    }
}

/// What agents may look at, too.
struct Shared {
    identity: Identity,
    collectives: Collectives,
    knowledge: Source,
    configuration: Option<Arc<Configuration>>,
    /// Names, sorted.
    agents: Vec<String>,
    /// Sorted by name.
    descriptions: Vec<Description>,
    counters: Counters,
    /// What the log hears of messages that are dropped.
    dropped: Mutex<Complaints>,
    /// What it hears of what agents and answers came to: no noise of strangers' is to hide it.
    failed: Mutex<Complaints>,
    started: SystemTime,
}

impl Shared {
    /// Others can have us complain as much as they like; the log does not grow with it.
    fn complain_of_message(&self, message: &str, now: SystemTime) {
        self.complain(&self.dropped, message, now);
    }

    fn complain_of_work(&self, message: &str, now: SystemTime) {
        self.complain(&self.failed, message, now);
    }

    fn complain(&self, complaints: &Mutex<Complaints>, message: &str, now: SystemTime) {
        let asked = complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ask(now);
        if let Some(unsaid) = asked {
            let message = plain(message);
            tracing::warn!(node = %self.identity, unsaid, "{message}");
        }
    }

    fn configuration_file(&self) -> Option<String> {
        let file = self.configuration.as_ref()?.file.as_ref()?;
        Some(file.display().to_string())
    }
}

/// A node. See the module.
pub struct Node {
    shared: Arc<Shared>,
    admission: Admission,
    agents: BTreeMap<String, Known>,
    /// A permit for each request that an agent works on, or whose answer waits to be sent.
    working: Arc<Semaphore>,
}

/// What comes of a message.
pub enum Taken {
    /// Nothing: it was not for this node, or not good.
    Nothing,
    /// This is the answer.
    Answer(OutgoingReply),
    /// An agent has to do something first.
    Work(Box<Work>),
}

/// Something that an agent has to do.
pub struct Work {
    shared: Arc<Shared>,
    agent: Arc<dyn AnyAgent>,
    timeout: Duration,
    call: Call,
    asked: Asked,
    permit: Arc<OwnedSemaphorePermit>,
}

/// What an answer refers to.
#[derive(Clone, Debug)]
struct Asked {
    headers: Headers,
    request_id: String,
    agent: String,
}

impl Node {
    /// What it calls itself.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// The collectives that it is in.
    #[must_use]
    pub fn collectives(&self) -> &Collectives {
        &self.shared.collectives
    }

    /// Its agents' names, sorted. Requests for them come in all of its collectives.
    #[must_use]
    pub fn agents(&self) -> &[String] {
        &self.shared.agents
    }

    /// What it has seen.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.shared.counters.read()
    }

    /// Takes a message that came on one of its subjects. A tenth of a millisecond, most of it for two signatures.
    #[must_use]
    pub fn take(&self, message: &Transport, now: SystemTime) -> Taken {
        let counters = &self.shared.counters;
        counters.total.count();
        let admitted = match self
            .admission
            .admit(&message.content, &message.headers, now)
        {
            Ok(admitted) => admitted,
            Err(refusal) => {
                self.count(&refusal);
                let message = format!("a message was dropped: {refusal}");
                self.shared.complain_of_message(&message, now);
                return Taken::Nothing;
            }
        };
        counters.validated.count();
        if !self.is_meant(&admitted, now) {
            counters.filtered.count();
            return Taken::Nothing;
        }
        counters.passed.count();
        self.dispatch(admitted, &message.headers, now)
    }

    fn count(&self, refusal: &Refusal) {
        let counters = &self.shared.counters;
        match refusal {
            Refusal::OutOfDate { .. } | Refusal::LivesTooLong { .. } => {
                counters.validated.count();
                counters.out_of_date.count();
            }
            _ => counters.unvalidated.count(),
        }
    }

    fn is_meant(&self, admitted: &Admitted, now: SystemTime) -> bool {
        let filter = &admitted.request.filter;
        let knowledge = self.shared.knowledge.look(now);
        let inventory = Inventory {
            identity: self.shared.identity.as_str(),
            classes: &knowledge.classes,
            agents: &self.shared.agents,
            facts: &knowledge.facts,
        };
        filter.is_match(&inventory).unwrap_or_else(|error| {
            let (id, caller) = (&admitted.request.id, &admitted.request.caller);
            let message = format!("a request of {caller} was dropped: {error} (request {id})");
            self.shared.complain_of_message(&message, now);
            false
        })
    }

    fn dispatch(&self, admitted: Admitted, headers: &Headers, now: SystemTime) -> Taken {
        let request = admitted.request;
        let asked = Asked {
            headers: headers.clone(),
            request_id: request.id.clone(),
            agent: request.agent.clone(),
        };
        tracing::debug!(
            node = %self.shared.identity, request = request.id, caller = %request.caller, agent = request.agent, "takes a request"
        );
        let answer = |body: &str| Taken::Answer(self.shared.answer(&asked, body, now));
        if request.agent == DISCOVERY {
            if is_ping(&request.body) {
                return answer(PONG);
            }
            let message = format!(
                "{} asked discovery for what it does not know",
                request.caller
            );
            self.shared.complain_of_message(&message, now);
            return Taken::Nothing;
        }
        let failed =
            |status, message: String| answer(&ActionReply::failed(status, message).to_text());
        let Ok(action) = ActionRequest::from_text(&request.body) else {
            return failed(
                Status::InvalidData,
                "the request has no action for an agent".into(),
            );
        };
        let wants_answer = action.wants_answer();
        let refused = |status, message| {
            if wants_answer {
                failed(status, message)
            } else {
                Taken::Nothing
            }
        };
        // What was addressed counts; a body that says something else is no mistake of a decent client's.
        if action.agent != request.agent {
            let message = format!("a request to {} is for {:?}", request.agent, action.agent);
            return refused(Status::InvalidData, message);
        }
        let known = self.agents.get(&request.agent);
        let known = known.filter(|known| known.description.actions.contains(&action.action));
        let Some(known) = known else {
            let message = format!(
                "Unknown action '{}' for agent '{}'",
                action.action, action.agent
            );
            return refused(Status::UnknownAction, message);
        };
        let Ok(permit) = Arc::clone(&self.working).try_acquire_owned() else {
            self.shared.counters.refused_busy.count();
            let message = "the node is busy with too many requests; ask again later";
            return refused(Status::Aborted, message.into());
        };
        Taken::Work(Box::new(Work {
            shared: Arc::clone(&self.shared),
            agent: Arc::clone(&known.agent),
            timeout: known.description.timeout.min(ACTION_TIMEOUT_MAX),
            call: Call {
                request: action,
                caller: request.caller,
                signed_by: admitted.signed_by,
                sender: request.sender,
                collective: request.collective,
                request_id: request.id,
                time: now,
            },
            asked,
            permit: Arc::new(permit),
        }))
    }
}

impl Work {
    /// Has the agent do it, in a task of its own. Answers `None` if no answer is wanted; that it was done has been seen to.
    pub async fn perform(self) -> Option<OutgoingReply> {
        let wants_answer = self.call.request.wants_answer();
        let time = self.call.time;
        let performed = agent::perform(self.agent, self.call, self.timeout, self.permit).await;
        let reply = performed.unwrap_or_else(|failure| {
            self.shared
                .complain_of_work(&failure.to_string(), serve::now());
            failure.to_reply()
        });
        wants_answer.then(|| self.shared.answer(&self.asked, &reply.to_text(), time))
    }
}

impl Shared {
    fn answer(&self, asked: &Asked, body: &str, time: SystemTime) -> OutgoingReply {
        self.counters.replies.count();
        self.render(asked, body, time)
    }

    fn render(&self, asked: &Asked, body: &str, time: SystemTime) -> OutgoingReply {
        let reply = Reply {
            body: body.to_owned(),
            request_id: asked.request_id.clone(),
            sender: self.identity.clone(),
            agent: asked.agent.clone(),
            time,
        };
        OutgoingReply {
            content: SecureReply::new(reply.to_text()).to_bytes(),
            request: asked.headers.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
