//! Mappings of subjects, as an operator or embedder writes them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::exchange::TransformProblem;

/// Messages that are published to `source` in an account go to other subjects instead, before anybody in the account
/// sees them. Permissions are asked about where they go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mapping {
    /// A subject, which may have wildcards.
    pub source: String,
    /// Where messages go. What is left of 100 percent keeps its subject, or is lost if the source itself is among the
    /// destinations.
    pub destinations: Vec<Destination>,
}

/// One place where messages of a mapping go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// A subject, in which `$1` or `{{wildcard(1)}}` stands for what the source's first wildcard stands for. There are
    /// also the functions `partition(buckets, wildcards…)`, `random(bound)`, `split(wildcard, delimiter)`,
    /// `splitFromLeft`, `splitFromRight`, `sliceFromLeft`, `sliceFromRight`, `left` and `right(wildcard, bytes)`.
    pub subject: String,
    /// Share of the messages.
    pub weight_percent: u8,
    /// The cluster whose servers send messages there; `None` are all that have no destination of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

impl Default for Destination {
    fn default() -> Self {
        Self {
            subject: String::new(),
            weight_percent: 100,
            cluster: None,
        }
    }
}

/// What is wrong with a [`Mapping`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MappingProblem {
    /// The source is no subject.
    #[error("Subject {0:?} is not a valid subject")]
    InvalidSource(String),
    /// A destination is empty.
    #[error("a mapping needs a destination")]
    NoDestination,
    /// Two destinations are the same.
    #[error("duplicate entry for {0:?}")]
    Duplicate(String),
    /// More than 100 percent.
    #[error("individual weights need to be <= 100")]
    Weight,
    /// More than 100 percent together.
    #[error("total weight needs to be <= 100")]
    TotalWeight,
    /// A destination that does not go with the source.
    #[error(transparent)]
    Transform(#[from] TransformProblem),
}
