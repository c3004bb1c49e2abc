//! A client's messages whose headers ask that what becomes of them is told.

use std::time::Instant;

use natterjack_wire::client::{self, Publish};
use natterjack_wire::error::ErrorReply;

use super::ClientSession;
use super::publish::is_reserved;
use crate::delivery::rendering::Source;
use crate::delivery::worker::Worker;
use crate::trace::{Asker, DESTINATION, DISABLED, Decision, TracedKind, may_ask, push_with};

impl ClientSession {
    /// Whether a message's header has to be looked at.
    #[inline]
    pub(super) fn may_be_traced(&self, publish: &Publish<'_>) -> bool {
        publish.header_len.is_some() && may_ask(publish.header(), self.message_trace.is_some())
    }

    /// Publishes a message of which it [may be](Self::may_be_traced) that it is traced.
    pub(super) fn handle_traced(
        &mut self,
        publish: &Publish<'_>,
        start: usize,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) {
        self.finish_run(worker, source, false, now);
        worker.run.forget_route();
        match self.decide_about_trace(publish, now) {
            Decision::Ordinary => self.handle_ordinary(publish, start, source, worker, now),
            Decision::Disabled => self.handle_disabled(publish, worker, now),
            Decision::Dropped => {}
            Decision::Denied(destination) => {
                let subject = destination.as_bytes();
                let text = self.violation(
                    &ErrorReply::PublishDenied { subject },
                    &mut worker.deliverer,
                );
                self.reply(&text, worker);
            }
            Decision::Traced(trace) => {
                worker.trace(trace, |worker| {
                    self.handle_ordinary(publish, start, source, worker, now);
                    self.finish_run(worker, source, false, now);
                });
            }
        }
    }

    fn decide_about_trace(&self, publish: &Publish<'_>, now: Instant) -> Decision {
        let is_system = || self.is_in_system_account();
        let asker = Asker {
            engine: &self.engine,
            account: &self.account,
            account_wish: self.message_trace.as_deref(),
            kind: TracedKind::Client,
            id: self.outbox.id(),
            name: &|| self.record.client().name.to_string(),
            label: &|| self.label().to_string(),
            may_publish: &|subject| {
                let permissions = self.identity.permissions.as_ref();
                !is_reserved(subject, is_system)
                    && permissions.is_none_or(|permissions| permissions.may_publish(subject))
            },
            now,
        };
        asker.decide(publish.header(), publish.subject, publish.body.len())
    }

    /// Publishes a message with a header that tells other servers not to trace it either.
    fn handle_disabled(&mut self, publish: &Publish<'_>, worker: &mut Worker, now: Instant) {
        let mut header = Vec::new();
        push_with(publish.header(), DESTINATION, DISABLED, &mut header);
        let mut text = Vec::new();
        let Publish { subject, reply, .. } = *publish;
        client::header_publish(&mut text, subject, reply, &header, publish.payload());
        if let Some(publish) = client::decode_publish(&text) {
            let source = Source {
                input: &text,
                shared: None,
            };
            self.handle_ordinary(&publish, 0, source, worker, now);
            self.finish_run(worker, source, false, now);
            worker.run.forget_route();
        }
    }
}
