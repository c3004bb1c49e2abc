//! What is written down about the message in hand.

use std::sync::Arc;
use std::time::Instant;

use super::report::{TraceEvent, TraceReport, TracedKind, Undelivered};
use crate::delivery::subscription::Subscription;
use crate::engine::Engine;
use crate::mesh::link::RouteLink;
use crate::system::Report;

/// A message that is being traced.
pub(crate) struct Trace {
    pub(super) engine: Arc<Engine>,
    /// It is not delivered to clients.
    pub(super) is_only: bool,
    /// The way it took to this server.
    pub(super) hop: Option<String>,
    /// Where other servers report, in the account that the message has come to. At first that is where this one does.
    pub(super) onward: Box<[u8]>,
    pub(super) report: TraceReport,
    pub(super) now: Instant,
}

impl Trace {
    /// Whether it is not to be delivered.
    pub(crate) fn is_only(&self) -> bool {
        self.is_only
    }

    /// Where servers it is passed on to report, in the account it has come to.
    pub(crate) fn onward(&self) -> &[u8] {
        &self.onward
    }

    /// It has come to an account in which that is another subject. Returns the one before, to be set again when it is done
    /// there: a subject of one account says nothing in the next.
    pub(crate) fn redirect(&mut self, onward: Box<[u8]>) -> Box<[u8]> {
        std::mem::replace(&mut self.onward, onward)
    }

    /// It goes no further.
    pub(crate) fn refused(&mut self, reason: &str) {
        if let Some((_, TraceEvent::Ingress { error, .. })) = self.report.events.first_mut() {
            *error = Some(reason.to_owned());
        }
    }

    /// It goes on under another subject.
    pub(crate) fn mapped(&mut self, to: &[u8]) {
        let to = shown(to);
        self.push(TraceEvent::Mapped { to });
    }

    /// An account hears it that imports a stream.
    pub(crate) fn heard_by(&mut self, account: &str, to: &[u8]) {
        let (account, to) = (account.to_owned(), shown(to));
        self.push(TraceEvent::StreamExport { account, to });
    }

    /// It goes to another account.
    pub(crate) fn crosses(&mut self, account: &str, from: &[u8], to: &[u8]) {
        self.push(TraceEvent::ServiceImport {
            account: account.to_owned(),
            from: shown(from),
            to: shown(to),
        });
    }

    /// What a client was given, whose account is this one.
    pub(crate) fn offered(
        &mut self,
        subscription: &Subscription,
        account: &str,
        error: Option<Undelivered>,
    ) {
        let id = subscription.outbox().id();
        let original = subscription.original();
        let client = self.engine.client_facts(id);
        let account = (account != self.report.account.name()).then(|| account.to_owned());
        self.push(TraceEvent::Egress {
            kind: TracedKind::Client,
            id,
            name: client.map_or_else(String::new, |client| client.name.to_string()),
            hop: None,
            account,
            subscription: Some((shown(subscription.subject()), original.queue().map(shown))),
            error,
        });
    }

    /// Servers it has been passed on to.
    pub(crate) fn hops(&self) -> u32 {
        self.report.hops
    }

    /// The way to the next server.
    pub(crate) fn next_hop(&mut self) -> String {
        self.report.hops += 1;
        let number = self.report.hops;
        self.hop
            .as_ref()
            .map_or_else(|| number.to_string(), |so_far| format!("{so_far}.{number}"))
    }

    /// It was passed on to a server, on this way.
    pub(crate) fn passed_on(&mut self, link: &RouteLink, hop: String, error: Option<Undelivered>) {
        self.push(TraceEvent::Egress {
            kind: TracedKind::Route,
            id: link.outbox().id(),
            name: link.peer_name().to_owned(),
            hop: Some(hop),
            account: None,
            subscription: None,
            error,
        });
    }

    /// Everything has happened.
    pub(crate) fn finish(self) {
        let engine = self.engine;
        engine.reports.push(Report::Trace(Box::new(self.report)));
    }

    fn push(&mut self, event: TraceEvent) {
        self.report.events.push((self.now, event));
    }
}

pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
