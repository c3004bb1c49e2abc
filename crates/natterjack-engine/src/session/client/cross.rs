//! Where a client's messages leave its account: which do, and under whose name.

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::client::Publish;

use super::ClientSession;
use crate::delivery::worker::Worker;
use crate::exchange::{Crossing, Measure, Message, is_measured};
use crate::system::Report;

impl ClientSession {
    /// Whether messages published to `subject` may have to go to other accounts.
    #[inline]
    pub(super) fn crosses(&self, subject: &[u8]) -> bool {
        let imports = self.service_imports.as_ref();
        imports.is_some_and(|imports| imports.concern(subject))
    }

    /// Sends a message on to other accounts. Returns whether anybody there received it.
    pub(super) fn cross(
        &self,
        publish: &Publish<'_>,
        subject: &[u8],
        worker: &mut Worker,
        now: Instant,
    ) -> bool {
        let config = Arc::clone(&self.config);
        let crossing = Crossing {
            engine: &self.engine,
            config: &config,
            outbox: &self.outbox,
            client: Some(&self.record),
            is_passed_on: false,
            now,
        };
        let message = Message {
            subject,
            reply: publish.reply,
            header: publish.header(),
            payload: publish.payload(),
        };
        if is_measured(subject) {
            self.tell_measure(subject, now);
        }
        crossing.leave(&self.account, &message, worker)
    }

    /// An answer to a client of another server, which wants to know how long it took.
    fn tell_measure(&self, answer: &[u8], now: Instant) {
        let Some(requested) = self.account.measures.end(answer) else {
            return;
        };
        let responder = self.record.snapshot(None);
        let measure = Measure::new(&self.account, answer, responder, requested, now);
        if let Some(measure) = measure {
            self.engine.reports.push(Report::Measure(Box::new(measure)));
        }
    }
}
