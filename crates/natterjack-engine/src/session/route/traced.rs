//! Messages of a peer whose headers ask that what becomes of them is told.

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::route::RouteMessage;

use super::RouteSession;
use crate::delivery::rendering::Source;
use crate::delivery::worker::Worker;
use crate::session::Session;
use crate::trace::{Asker, Decision, TracedKind, cut, may_ask};

impl RouteSession {
    /// Delivers a message that has a header. Whether it is traced was decided where it was published; here it is told
    /// again what becomes of it.
    pub(super) fn handle_headed(
        &mut self,
        message: &RouteMessage<'_>,
        start: usize,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) {
        if !may_ask(message.header(), self.config.has_message_traces()) {
            return self.handle_ordinary(message, start, source, worker, now);
        }
        self.finish_run(worker, source, false, now);
        worker.run.forget_route();
        match self.decide_about_trace(message, now) {
            Decision::Ordinary | Decision::Disabled => {
                self.handle_ordinary(message, start, source, worker, now);
            }
            Decision::Dropped => {}
            Decision::Denied(destination) => {
                let subject = cut(&destination);
                let what = format_args!("Publish Violation - Subject {subject:?}");
                self.complain("trace", &what);
            }
            Decision::Traced(trace) => {
                worker.trace(trace, |worker| {
                    self.handle_ordinary(message, start, source, worker, now);
                    self.finish_run(worker, source, false, now);
                });
            }
        }
    }

    fn decide_about_trace(&self, message: &RouteMessage<'_>, now: Instant) -> Decision {
        let name = message
            .account
            .or_else(|| self.account.as_deref().map(str::as_bytes));
        let name = name.and_then(|name| core::str::from_utf8(name).ok());
        let Some((account, _)) = name.and_then(|name| self.config.account(name)) else {
            return Decision::Ordinary;
        };
        let account_wish = self.config.message_trace(account.name());
        let is_system = account.name() == &**self.config.directory.system_account();
        let asker = Asker {
            engine: &self.engine,
            account,
            account_wish: account_wish.map(Arc::as_ref),
            kind: TracedKind::Route,
            id: self.outbox.id(),
            name: &|| (self.peer.as_ref()).map_or_else(String::new, |peer| peer.name.clone()),
            label: &|| self.label(),
            may_publish: &|subject| is_system || !subject.starts_with(b"$NRG."),
            now,
        };
        asker.decide(message.header(), message.subject, message.body.len())
    }
}
