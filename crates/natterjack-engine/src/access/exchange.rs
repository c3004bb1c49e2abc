//! What accounts offer each other and use of each other, as an operator or embedder writes it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Access, AccountAccess};
use crate::exchange::TransformProblem;

/// Something other accounts may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Export {
    /// Messages, which other accounts may hear.
    Stream(StreamExport),
    /// Requests, which other accounts may send.
    Service(ServiceExport),
}

/// A service that other accounts may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceExport {
    /// Where requests go: a subject, which may have wildcards.
    pub subject: String,
    /// The accounts that may; all if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    /// Which token of the subject, counted from 1, must be the name of the account that asks; 0 is none.
    pub account_token_position: usize,
    /// How many answers it gives.
    pub response_type: ResponseType,
    /// How long after the request an answer, or after an answer the next one, is let through.
    pub response_threshold: Duration,
    /// Whether the account that asks may trace its requests beyond this border.
    pub allow_trace: bool,
    /// Where it is told how long answers take. Only for services that give one answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

/// Reports of how long a service takes to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Which requests are measured.
    pub sampling: Sampling,
    /// Where the account that answers is told: a subject without wildcards.
    pub subject: String,
}

/// Which requests are measured. Those that carry a header of a tracing system which asks for it always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Those with such headers alone.
    Headers,
    /// Of a hundred others this many, by chance: 1 to 100.
    Percent(u8),
}

impl Default for Sampling {
    /// All (nats-server `DEFAULT_SERVICE_LATENCY_SAMPLING`).
    fn default() -> Self {
        Self::Percent(100)
    }
}

impl Default for ServiceExport {
    /// One answer, within two minutes (nats-server `DEFAULT_SERVICE_EXPORT_RESPONSE_THRESHOLD`).
    fn default() -> Self {
        Self {
            subject: String::new(),
            accounts: Vec::new(),
            account_token_position: 0,
            response_type: ResponseType::default(),
            response_threshold: Duration::from_secs(120),
            allow_trace: false,
            latency: None,
        }
    }
}

/// How many answers a service gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResponseType {
    /// One.
    #[default]
    Singleton,
    /// Any number, until an empty one.
    Streamed,
    /// One in parts, until an empty one.
    Chunked,
}

/// Messages that other accounts may hear.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamExport {
    /// A subject, which may have wildcards.
    pub subject: String,
    /// The accounts that may; all if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    /// Which token of the subject, counted from 1, must be the name of the account that imports; 0 is none.
    pub account_token_position: usize,
}

/// Something that another account offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Import {
    /// Its messages.
    Stream(StreamImport),
    /// A service it offers.
    Service(ServiceImport),
}

/// A service of another account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceImport {
    /// The account.
    pub account: String,
    /// Where requests go there: a subject that is exported, or a part of it.
    pub subject: String,
    /// What requests are published to here; the same if there is nothing. `$1` or `{{wildcard(1)}}` is what the first
    /// wildcard of `subject` stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whether the service is told who asks in detail: host, user, name and library of the client. Without, it is told
    /// the account and the round-trip time.
    pub share: bool,
}

impl ServiceImport {
    /// What requests are published to here, with `*` for whatever stands for a wildcard.
    #[must_use]
    pub fn local_pattern(&self) -> String {
        crate::exchange::local_pattern(self.local_subject())
    }

    /// What requests are published to in the account that imports it.
    pub(crate) fn local_subject(&self) -> &str {
        let to = self.to.as_deref().filter(|to| !to.is_empty());
        to.unwrap_or(&self.subject)
    }
}

/// Messages of another account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamImport {
    /// The account.
    pub account: String,
    /// What to hear of it: a subject that is exported, or a part of it.
    pub subject: String,
    /// What to put before its subjects here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// What its subjects are called here, instead of a prefix; `$1` or `{{wildcard(1)}}` is what the first wildcard
    /// stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whether the account they come from may trace its messages beyond this border.
    pub allow_trace: bool,
}

impl StreamImport {
    /// What its messages are called here, with `*` for whatever stands for a wildcard.
    #[must_use]
    pub fn local_pattern(&self) -> String {
        crate::exchange::local_pattern(&self.local_subject())
    }

    /// What the subject is called in the account that imports it. A `*` of `to` stands for the next wildcard.
    pub(crate) fn local_subject(&self) -> String {
        let subject = &self.subject;
        match (&self.to, &self.prefix) {
            (Some(to), _) if !to.is_empty() => to.clone(),
            (_, Some(prefix)) if prefix.ends_with('.') => format!("{prefix}{subject}"),
            (_, Some(prefix)) if !prefix.is_empty() => format!("{prefix}.{subject}"),
            _ => subject.clone(),
        }
    }
}

impl Access {
    /// An account of this name that is configured.
    pub(crate) fn account(&self, name: &str) -> Option<&AccountAccess> {
        self.accounts.iter().find(|account| account.name == name)
    }
}

impl AccountAccess {
    pub(crate) fn stream_exports(&self) -> impl Iterator<Item = &StreamExport> {
        self.exports.iter().filter_map(|export| match export {
            Export::Stream(export) => Some(export),
            Export::Service(_) => None,
        })
    }

    pub(crate) fn service_exports(&self) -> impl Iterator<Item = &ServiceExport> {
        self.exports.iter().filter_map(|export| match export {
            Export::Service(export) => Some(export),
            Export::Stream(_) => None,
        })
    }

    pub(crate) fn stream_imports(&self) -> impl Iterator<Item = &StreamImport> {
        self.imports.iter().filter_map(|import| match import {
            Import::Stream(import) => Some(import),
            Import::Service(_) => None,
        })
    }

    pub(crate) fn service_imports(&self) -> impl Iterator<Item = &ServiceImport> {
        self.imports.iter().filter_map(|import| match import {
            Import::Service(import) => Some(import),
            Import::Stream(_) => None,
        })
    }
}

/// What is exported or imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeKind {
    /// Messages.
    Stream,
    /// A service.
    Service,
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stream => "stream",
            Self::Service => "service",
        })
    }
}

/// What is wrong with an [`Export`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExportProblem {
    /// It is for an account that is not there.
    #[error("{0:?} account not defined for {1} export")]
    UndefinedAccount(String, ExchangeKind),
    /// What is exported is no subject.
    #[error("invalid subject")]
    InvalidSubject,
    /// The token that should be the account's name is no wildcard.
    #[error("account_token_position must be that of a *")]
    TokenPosition,
    /// Where latencies are told is no subject, or a part of what is exported.
    #[error("Error adding service latency sampling on subject {0:?}: invalid publish subject")]
    LatencySubject(String),
    /// The percentage is none.
    #[error("bad sampling percentage, should be 1-100")]
    LatencySampling,
    /// Several answers have no latency.
    #[error("Error adding service latency sampling: bad service response type")]
    LatencyResponseType,
}

/// What is wrong with an [`Import`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ImportProblem {
    /// It is of an account that is not there.
    #[error("{0:?} account not defined for {1} import")]
    UndefinedAccount(String, ExchangeKind),
    /// The account does not export it, or not to this account.
    #[error("{0} import not authorized")]
    NotAuthorized(ExchangeKind),
    /// There is another one like it.
    #[error("{0} import already exists")]
    Duplicate(ExchangeKind),
    /// What is put before subjects would be a pattern.
    #[error("stream import prefix can not contain wildcard tokens")]
    WildcardPrefix,
    /// Two ways to call it.
    #[error("stream import can not have a 'prefix' and a 'to' property")]
    PrefixAndTo,
    /// What is heard would come from the account itself.
    #[error("import forms a cycle")]
    Cycle,
    /// The subject here does not go with the one there.
    #[error(
        "failed to create mapping transform for {kind} import subject from {from:?} to {to:?}: {problem}"
    )]
    Transform {
        /// Of what.
        kind: ExchangeKind,
        /// The subject there.
        from: String,
        /// The subject here.
        to: String,
        /// Why.
        problem: TransformProblem,
    },
}
