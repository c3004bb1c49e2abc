//! Messages: who receives them, which are refused, and the runs they are delivered in.

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::client::{self, Publish};
use natterjack_wire::error::ErrorReply;

use super::login::shown;
use super::{ClientSession, Rules};
use crate::access::CompiledPermissions;
use crate::delivery::receivers::Receivers;
use crate::delivery::rendering::Source;
use crate::delivery::run::Run;
use crate::delivery::subscription::Subscription;
use crate::delivery::worker::{Deliverer, Origin, Publisher, Worker};
use crate::exchange::Mapped;
use crate::limits::LARGE_FRAME_BYTES;
use crate::monitor::counters;

impl ClientSession {
    #[inline]
    pub(super) fn handle_publish(
        &mut self,
        publish: &Publish<'_>,
        start: usize,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) {
        if self.may_be_traced(publish) {
            self.handle_traced(publish, start, source, worker, now);
        } else {
            self.handle_ordinary(publish, start, source, worker, now);
        }
    }

    #[inline]
    pub(super) fn handle_ordinary(
        &mut self,
        publish: &Publish<'_>,
        start: usize,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) {
        worker.run.forget_last();
        self.messages_in += 1;
        self.bytes_in += publish.body.len() as u64;
        let same_subject = worker.run.is_last_subject(publish.subject, source.input);
        let mut is_once = false;
        if !same_subject || publish.reply.is_some() || self.rules.need_care() {
            match self.prepare_publish(publish, same_subject, source, worker, now) {
                Prepared::Refused => return,
                Prepared::Permitted => {}
                Prepared::PermittedOnce => is_once = true,
            }
        }
        let crosses = self.crosses(worker.run.name(publish.subject));
        if crosses {
            self.finish_run(worker, source, false, now);
            let subject = worker.run.name(publish.subject).to_vec();
            self.is_received_elsewhere = self.cross(publish, &subject, worker, now);
        }
        if publish.reply.is_some() && worker.run.receivers.is_empty() {
            self.no_responders(publish, worker, source, now);
        }
        let may_repeat = !self.rules.need_care() && !crosses;
        worker
            .run
            .push(publish, start, source.input, same_subject, may_repeat);
        if is_once {
            worker.run.forget_route();
        }
        // In verbose mode the acknowledgement has been sent, and what it acknowledges follows before the next.
        if self.rules.verbose || worker.run.receivers.share_connections() || crosses {
            self.finish_run(worker, source, false, now);
        }
        self.is_received_elsewhere = false;
    }

    /// Everything about a message that is not the same as for the one before it.
    fn prepare_publish(
        &mut self,
        publish: &Publish<'_>,
        same_subject: bool,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Prepared {
        self.heartbeat.active(now);
        if self.rules.pedantic && !natterjack_subject::is_valid_publish_subject(publish.subject) {
            self.finish_run(worker, source, false, now);
            self.reply_error(&ErrorReply::InvalidPublishSubject, worker);
        }
        if same_subject {
            // It was permitted before, and not as an answer.
            let subject = worker.run.name(publish.subject);
            if let Some(reply) = refusal(subject, publish.reply, || self.is_in_system_account()) {
                let text = self.violation(&reply, &mut worker.deliverer);
                self.finish_run(worker, source, false, now);
                self.reply(&text, worker);
                return Prepared::Refused;
            }
            self.confirm(worker, source, now);
            return Prepared::Permitted;
        }
        let mut name = std::mem::take(&mut worker.name);
        let prepared = self.route_publish(publish, &mut name, source, worker, now);
        worker.name = name;
        prepared
    }

    /// Finds out who receives a message, after mappings and permissions.
    fn route_publish(
        &self,
        publish: &Publish<'_>,
        name: &mut Vec<u8>,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Prepared {
        let mapped = match &self.mappings {
            Some(mappings) => worker.mapper.map(mappings, publish.subject, name),
            None => Mapped::Not,
        };
        let (subject, name) = match mapped {
            Mapped::Not => (publish.subject, None),
            Mapped::Always | Mapped::Once | Mapped::Lost => (&name[..], Some(&name[..])),
        };
        if name.is_some() {
            self.trace_mapping(publish.subject, subject);
            if let Some(trace) = &mut worker.deliverer.trace {
                trace.mapped(subject);
            }
        }
        // Permissions are asked about where the message goes, as on nats-server.
        let permitted = match &self.identity.permissions {
            Some(permissions) if mapped != Mapped::Lost => {
                self.permit(permissions, subject, worker, now)
            }
            _ => Prepared::Permitted,
        };
        let reply = match permitted {
            Prepared::Refused => Some(ErrorReply::PublishDenied { subject }),
            _ => refusal(subject, publish.reply, || self.is_in_system_account()),
        };
        if let Some(reply) = reply {
            let text = self.violation(&reply, &mut worker.deliverer);
            self.finish_run(worker, source, false, now);
            self.reply(&text, worker);
            return Prepared::Refused;
        }
        self.confirm(worker, source, now);
        let found = if mapped == Mapped::Lost {
            Some(Receivers::default())
        } else {
            let current = &worker.run.receivers;
            worker.cache.route(&self.account, subject, current)
        };
        if let Some(receivers) = found {
            self.finish_run(worker, source, false, now);
            worker.run.receivers = receivers;
        }
        worker.run.routed(publish.subject, name, source.input);
        match mapped {
            Mapped::Once | Mapped::Lost => Prepared::PermittedOnce,
            Mapped::Not | Mapped::Always => permitted,
        }
    }

    /// Acknowledges a message, if the client wants to hear of each.
    fn confirm(&self, worker: &mut Worker, source: Source<'_>, now: Instant) {
        if self.rules.verbose {
            self.finish_run(worker, source, false, now);
            self.acknowledge(worker);
        }
    }

    pub(super) fn is_in_system_account(&self) -> bool {
        self.account.name() == &**self.config.directory.system_account()
    }

    fn permit(
        &self,
        permissions: &CompiledPermissions,
        subject: &[u8],
        worker: &mut Worker,
        now: Instant,
    ) -> Prepared {
        if !permissions.restricts_publishing() || worker.verdicts.may_publish(permissions, subject)
        {
            Prepared::Permitted
        } else if permissions.responses().is_some()
            && self.outbox.restrictions().take_response(subject, now)
        {
            Prepared::PermittedOnce
        } else {
            Prepared::Refused
        }
    }

    /// Logs what is refused, and says it as the client is told.
    pub(super) fn violation(&self, reply: &ErrorReply<'_>, deliverer: &mut Deliverer) -> Vec<u8> {
        counters::add(&self.engine.counters.publishes_denied, 1);
        self.publish_violation(reply);
        if let Some(trace) = &mut deliverer.trace {
            let mut reason = Vec::new();
            reply.write_text(&mut reason);
            trace.refused(&String::from_utf8_lossy(&reason));
        }
        let mut text = Vec::new();
        client::error(&mut text, reply);
        text
    }

    fn publish_violation(&self, reply: &ErrorReply<'_>) {
        if !self.may_log_violation() {
            return;
        }
        let label = self.label();
        match reply {
            ErrorReply::PublishDenied { subject } => {
                tracing::error!("{label} - Publish Violation - Subject {:?}", shown(subject));
            }
            ErrorReply::ReplyDenied { reply } => {
                tracing::error!("{label} - Publish Violation - Reply {:?}", shown(reply));
            }
            _ => {}
        }
    }

    fn no_responders(
        &self,
        publish: &Publish<'_>,
        worker: &mut Worker,
        source: Source<'_>,
        now: Instant,
    ) {
        if self.rules.no_responders
            && !self.is_received_elsewhere
            && let Some(reply) = publish.reply
        {
            self.finish_run(worker, source, false, now);
            let subject = worker.run.name(publish.subject);
            let notice = self.no_responders_notice(reply, subject);
            self.reply(&notice, worker);
        }
    }

    /// What a client is told of a request that nobody heard, if it can be told.
    fn no_responders_notice(&self, reply: &[u8], subject: &[u8]) -> Vec<u8> {
        let notice = no_responders_notice(self, reply, subject);
        let is_told = u64::from(!notice.is_empty());
        counters::add(&self.engine.counters.no_responders, is_told);
        notice
    }

    /// Delivers the messages collected so far.
    pub(super) fn finish_run(
        &self,
        worker: &mut Worker,
        source: Source<'_>,
        is_last: bool,
        now: Instant,
    ) {
        if worker.run.frames.is_empty() {
            return;
        }
        let publisher = Publisher {
            origin: Origin::Here,
            outbox: &self.outbox,
            echo: self.rules.echo,
            is_crossing: false,
            account: &self.account,
        };
        let direct = is_last || worker.run.body_bytes >= LARGE_FRAME_BYTES / 2;
        let Worker { run, deliverer, .. } = worker;
        deliverer.deliver(
            run,
            source,
            &publisher,
            direct,
            now,
            |deliverer, frame, run| {
                self.nobody_received(deliverer, frame, run, source);
            },
        );
    }

    fn nobody_received(
        &self,
        deliverer: &mut Deliverer,
        frame: usize,
        run: &Run,
        source: Source<'_>,
    ) {
        if self.rules.no_responders && !self.is_received_elsewhere {
            let frame = &run.frames[frame];
            let reply = frame.reply.of_bytes(source.input);
            let notice = self.no_responders_notice(reply, run.subject(frame, source.input));
            if self.outbox.append(&notice) {
                deliverer.touch(&self.outbox);
            }
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy)]
enum Prepared {
    /// It is dropped.
    Refused,
    /// It goes on.
    Permitted,
    /// It goes on, but the next one with this subject has to be looked at anew: it answers a request, and answers are
    /// counted, or its subject may become another the next time.
    PermittedOnce,
}

impl Rules {
    /// Whether every message needs more than the one before it with the same subject.
    #[inline]
    fn need_care(self) -> bool {
        self.verbose || self.pedantic
    }
}

/// Subjects that only servers publish to (client protocol, section 7). Some are reserved only with something
/// behind the prefix, as nats-server has it.
fn refusal<'a>(
    subject: &'a [u8],
    reply: Option<&'a [u8]>,
    is_system: impl Fn() -> bool,
) -> Option<ErrorReply<'a>> {
    if is_reserved(subject, is_system) {
        return Some(ErrorReply::PublishDenied { subject });
    }
    let reply = reply?;
    let is_reserved = reply.starts_with(b"_R_.")
        || is_below(reply, b"_GR_.")
        || is_below(reply, b"$GR.")
        || is_below(reply, b"$JS.ACK.");
    is_reserved.then_some(ErrorReply::ReplyDenied { reply })
}

/// Whether nobody but servers publishes to a subject.
pub(super) fn is_reserved(subject: &[u8], is_system: impl Fn() -> bool) -> bool {
    let is_consensus = subject.starts_with(b"$NRG.") && !is_system();
    is_below(subject, b"_GR_.") || is_below(subject, b"$GR.") || is_consensus
}

fn is_below(subject: &[u8], prefix: &[u8]) -> bool {
    subject.len() > prefix.len() && subject.starts_with(prefix)
}

/// The status message for a request nobody heard, if the client has a plain subscription for the reply.
fn no_responders_notice(session: &ClientSession, reply: &[u8], subject: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let receivers = session.account.index().matches(reply);
    let is_plain = |held: &&Arc<Subscription>| held.queue().is_none() && !held.is_closed();
    // Of several the one with the least id, which clients that count made first: no chance is to be seen.
    let id = |held: &&Arc<Subscription>| (held.sid().len(), held.sid().to_vec());
    // Whichever are fewer: all that match the reply, or all of this client's.
    let own = if receivers.plain_len() <= session.subscriptions.len() {
        receivers
            .plain()
            .map(|subscriber| &subscriber.0)
            .filter(|held| Arc::ptr_eq(held.outbox(), &session.outbox))
            .filter(is_plain)
            .min_by_key(id)
    } else {
        session
            .subscriptions
            .values()
            .filter(|held| natterjack_subject::matches(held.subject(), reply))
            .filter(is_plain)
            .min_by_key(id)
    };
    if let Some(own) = own {
        client::no_responders(&mut text, reply, own.sid(), subject);
    }
    text
}
