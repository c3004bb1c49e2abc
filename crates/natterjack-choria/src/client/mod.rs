//! A client: finds nodes, asks them, collects what they answer.
//!
//! Each thing a [`Client`] does is a [`Run`], which tells of its course event by event, so that a program can show progress,
//! or stop listening. Which nodes are asked is settled first: those that the filter names, or else those that answer a ping.
//! Few of them then get a request each, more of them share one. A run ends when all have answered, or its time is over.

mod asker;
mod exchange;
mod run;

use std::collections::BTreeSet;
use std::time::Duration;

pub use asker::{Asker, Question, SignedRequest};
pub use exchange::{Arrival, Exchange, Ignored, Outcome};
pub use run::{Event, Run};

use crate::configuration::Configuration;
use crate::connector::{Connector, IncomingStream, PublishError};
use crate::filter::{Filter, FilterError};
use crate::rpc::Values;
use crate::subject::TargetError;

/// What a client goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientOptions {
    /// How long nodes have to answer a ping.
    pub discovery_timeout: Duration,
    /// Up to how many nodes get a request each. 0: none ever does.
    pub direct_nodes_max: usize,
}

impl Default for ClientOptions {
    /// Those of settings that say nothing: two seconds, ten nodes.
    fn default() -> Self {
        Self {
            discovery_timeout: Duration::from_secs(2),
            direct_nodes_max: 10,
        }
    }
}

impl ClientOptions {
    /// What the settings say.
    #[must_use]
    pub const fn of(configuration: &Configuration) -> Self {
        Self {
            discovery_timeout: configuration.discovery_timeout,
            direct_nodes_max: if configuration.direct_addressing {
                configuration.direct_addressing_nodes_max
            } else {
                0
            },
        }
    }
}

/// Who is to be pinged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ping {
    /// In which collective; `None`: the main one.
    pub collective: Option<String>,
    /// Which nodes are meant.
    pub filter: Filter,
    /// For how long; `None`: until no answer has come for the discovery timeout, which may take 30 s more.
    pub timeout: Option<Duration>,
    /// How many answers are enough.
    pub answers_max: Option<usize>,
}

/// What agents are to do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Call {
    /// In which collective; `None`: the main one.
    pub collective: Option<String>,
    /// Which agent.
    pub agent: String,
    /// What it is to do.
    pub action: String,
    /// With what.
    pub arguments: Values,
    /// Which nodes are meant, of those that have the agent.
    pub filter: Filter,
    /// How many of them, chosen by chance; `None`: all.
    pub limit: Option<Limit>,
    /// How long they have to answer, once they have been asked.
    pub timeout: Duration,
    /// How long they have to say that they are there; `None`: until none has for the discovery timeout.
    pub discovery_timeout: Option<Duration>,
    /// How many nodes are known to be there: when so many have said so, no others are waited for.
    pub nodes_expected: Option<usize>,
    /// Whether answers are wanted. If not, it is done when all has been sent.
    pub wants_answers: bool,
}

impl Call {
    /// An action on all nodes that have the agent, which have ten seconds to answer.
    #[must_use]
    pub fn new(agent: &str, action: &str, arguments: Values) -> Self {
        Self {
            collective: None,
            agent: agent.to_owned(),
            action: action.to_owned(),
            arguments,
            filter: Filter::default(),
            limit: None,
            timeout: Duration::from_secs(10),
            discovery_timeout: None,
            nodes_expected: None,
            wants_answers: true,
        }
    }
}

/// How many nodes, of those that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many.
    Nodes(usize),
    /// So many of a hundred, at least one.
    Percent(u8),
}

impl Limit {
    fn of(self, nodes: usize) -> usize {
        match self {
            Self::Nodes(limit) => limit.min(nodes),
            Self::Percent(_) if nodes == 0 => 0,
            Self::Percent(percent) => (nodes * usize::from(percent.min(100)) / 100).max(1),
        }
    }
}

/// Why something cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no such collective, or an agent's name is none.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No node could tell whether it is meant.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// It cannot be sent.
    #[error("cannot send the request: {0}")]
    Publish(#[from] PublishError),
    /// A choice of nodes can only be asked one by one.
    #[error(
        "a limit needs direct_addressing, which is off: nodes that share a request cannot be told that they are not meant"
    )]
    LimitNeedsDirect,
    /// The connector was closed.
    #[error("the connection was closed")]
    Closed,
}

/// Somebody who asks, with a connection of his own: it takes all that comes.
#[derive(Debug)]
pub struct Client {
    asker: Asker,
    connector: Connector,
    incoming: IncomingStream,
    options: ClientOptions,
    /// Collectives whose answers have been subscribed to.
    subscribed: BTreeSet<String>,
}

impl Client {
    /// Asks over this connector, which need not be connected yet.
    #[must_use]
    pub fn new(asker: Asker, connector: Connector, options: ClientOptions) -> Self {
        Self {
            asker,
            incoming: connector.receive(),
            connector,
            options,
            subscribed: BTreeSet::new(),
        }
    }

    /// The connection.
    #[must_use]
    pub const fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Finds out who is there. Tells of each node with [`Event::Discovered`].
    pub fn ping(&mut self, ping: Ping) -> Run<'_> {
        Run::ping(self, ping)
    }

    /// Has agents do something, after finding out where they are if need be.
    pub fn call(&mut self, call: Call) -> Run<'_> {
        Run::call(self, call)
    }
}
