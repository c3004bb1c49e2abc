//! Whether a message is traced, or goes on untraced, or not at all (nats-server `initMsgTrace`).

use std::sync::Arc;
use std::time::Instant;

use natterjack_subject::is_valid_publish_subject;

use super::recorder::{Trace, shown};
use super::report::{TraceEvent, TraceReport, TracedKind};
use super::wish::Wish;
use crate::access::MessageTrace;
use crate::account::Account;
use crate::engine::Engine;

/// Characters of what a header says that are logged.
const SHOWN_MAX: usize = 256;

/// Who sends a message that may have to be traced.
pub(crate) struct Asker<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    /// Where it is published.
    pub(crate) account: &'a Arc<Account>,
    /// What the account wants to know of messages with trace contexts.
    pub(crate) account_wish: Option<&'a MessageTrace>,
    pub(crate) kind: TracedKind,
    /// Number of the connection.
    pub(crate) id: u64,
    /// What the client calls itself, or the server's name.
    pub(crate) name: &'a dyn Fn() -> String,
    /// How the connection appears in the log.
    pub(crate) label: &'a dyn Fn() -> String,
    /// Whether it may publish there.
    pub(crate) may_publish: &'a dyn Fn(&[u8]) -> bool,
    pub(crate) now: Instant,
}

/// What is to be done with a message.
pub(crate) enum Decision {
    /// It is a message like any other.
    Ordinary,
    /// So it is, and nobody it goes on to is to trace it.
    Disabled,
    /// It is dropped: it was only to be traced, and cannot be.
    Dropped,
    /// It is dropped, for its sender may not publish to the destination of reports.
    Denied(String),
    /// It is traced.
    Traced(Box<Trace>),
}

impl Asker<'_> {
    /// Decides about a message. `message_bytes` are those of header and payload.
    pub(crate) fn decide(&self, header: &[u8], subject: &[u8], message_bytes: usize) -> Decision {
        let Some(wish) = Wish::read(header) else {
            return Decision::Ordinary;
        };
        let is_only = wish.is_only();
        let otherwise = |decision| if is_only { Decision::Dropped } else { decision };
        if let Some(origin) = wish.origin_account() {
            // Whoever publishes can have it said as often as it likes, so it is not said to everybody.
            tracing::debug!(
                "{} - Message tracing disabled because of header \"Nats-Trace-Origin-Account\" with value={:?}",
                (self.label)(),
                cut(origin)
            );
            return otherwise(Decision::Disabled);
        }
        let destination = if wish.is_by_parent {
            let Some(account_wish) = self.account_wish else {
                return Decision::Ordinary;
            };
            // Where it was published it is decided for all servers.
            let is_first = self.kind == TracedKind::Client;
            let percent = u64::from(account_wish.sampling_percent);
            if is_first && self.engine.seed() % 100 >= percent {
                return Decision::Disabled;
            }
            account_wish.destination.clone()
        } else {
            wish.destination().unwrap_or_default().to_owned()
        };
        let is_one_word = !destination.bytes().any(|byte| byte <= b' ');
        if !is_one_word || !is_valid_publish_subject(destination.as_bytes()) {
            tracing::debug!(
                "{} - Destination {:?} is not valid, won't be able to trace events",
                (self.label)(),
                cut(&destination)
            );
            return otherwise(Decision::Ordinary);
        }
        if !(self.may_publish)(destination.as_bytes()) {
            return Decision::Denied(destination);
        }
        let ingress = TraceEvent::Ingress {
            kind: self.kind,
            id: self.id,
            name: (self.name)(),
            account: self.account.name().to_owned(),
            subject: shown(subject),
            error: None,
        };
        let hop = match self.kind {
            TracedKind::Client => None,
            TracedKind::Route => wish.hop().map(ToOwned::to_owned),
        };
        Decision::Traced(Box::new(Trace {
            engine: Arc::clone(self.engine),
            is_only,
            hop,
            now: self.now,
            onward: destination.as_bytes().into(),
            report: TraceReport {
                account: Arc::clone(self.account),
                destination: destination.into_bytes().into(),
                headers: wish.headers,
                message_bytes,
                hops: 0,
                events: vec![(self.now, ingress)],
            },
        }))
    }
}

/// As much of what somebody says as belongs into a log.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}
