//! Messages that leave the account: requests for services of other accounts, and the answers to such requests.
//!
//! In the account it comes to, such a message is published like any other: it is spelled out, decoded, routed and
//! delivered as a run of its own. It differs in its subject, its reply subject, and a header that tells who asks.

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::client::{self, ClientOp, Decoded, Publish, decode_client};
use smallvec::SmallVec;

use super::ClientSession;
use crate::account::Account;
use crate::delivery::rendering::Source;
use crate::delivery::run::Run;
use crate::delivery::worker::{Origin, Publisher, Worker};
use crate::exchange::{ANSWER_PREFIX, CompiledService, Mapped};
use crate::monitor::counters;

/// Accounts that one message may go through. Circles are refused where they are configured; this is for those that
/// come about by renaming.
const HOPS_MAX: usize = 16;

/// Header that tells a service who asks (nats-server `ClientInfoHdr`).
const REQUEST_INFO: &[u8] = b"Nats-Request-Info";

/// A message on its way through accounts.
struct Crossing<'a> {
    subject: &'a [u8],
    reply: Option<&'a [u8]>,
    header: &'a [u8],
    payload: &'a [u8],
}

/// The imports a message came through.
type Trail<'a> = SmallVec<[&'a CompiledService; 4]>;

impl ClientSession {
    /// Whether messages of this account may have to go to others.
    #[inline]
    pub(super) fn crosses(&self, subject: &[u8]) -> bool {
        let is_request = || {
            let imports = self.service_imports.as_ref();
            imports.is_some_and(|imports| imports.of(subject).next().is_some())
        };
        self.exchanges_services && (subject.starts_with(ANSWER_PREFIX) || is_request())
    }

    /// Sends a message on to other accounts. Returns whether anybody there received it.
    pub(super) fn cross(
        &self,
        publish: &Publish<'_>,
        subject: &[u8],
        worker: &mut Worker,
        now: Instant,
    ) -> bool {
        let message = Crossing {
            subject,
            reply: publish.reply,
            header: publish.header(),
            payload: publish.payload(),
        };
        let mut run = Run::new();
        self.leave(
            &self.account,
            &message,
            &mut Trail::new(),
            &mut run,
            worker,
            now,
        )
    }

    /// Sends a message that was published in `account` to other accounts.
    fn leave(
        &self,
        account: &Arc<Account>,
        message: &Crossing<'_>,
        trail: &mut Trail<'_>,
        run: &mut Run,
        worker: &mut Worker,
        now: Instant,
    ) -> bool {
        if trail.len() >= HOPS_MAX {
            return false;
        }
        let mut is_received = false;
        if message.subject.starts_with(ANSWER_PREFIX) {
            let is_empty = message.header.is_empty() && message.payload.is_empty();
            if let Some(way) = account.answers.take(message.subject, is_empty, now) {
                let seed = || self.engine.seed();
                let reply = message.reply.map(|reply| {
                    way.account
                        .answers
                        .expect(account, reply, way.terms, seed, now)
                });
                let answer = Crossing {
                    subject: &way.reply,
                    reply: reply.as_deref(),
                    ..*message
                };
                let is_answered = self.arrive(&way.account, &answer, trail, run, worker, now);
                if !is_answered {
                    account.answers.forget(message.subject);
                    if let Some(reply) = &reply {
                        way.account.answers.forget(reply);
                    }
                }
                is_received |= is_answered;
            }
        }
        let config = Arc::clone(&self.config);
        let Some(imports) = config.service_imports(account.name()) else {
            return is_received;
        };
        for service in imports.of(message.subject) {
            let is_known = |known: &&CompiledService| core::ptr::eq(*known, service);
            if !trail.iter().any(is_known) {
                let mut longer: Trail<'_> = trail.iter().copied().collect();
                longer.push(service);
                is_received |=
                    self.request(account, service, message, &mut longer, run, worker, now);
            }
        }
        is_received
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one step of the way; a struct would only rename them"
    )]
    fn request(
        &self,
        account: &Arc<Account>,
        service: &CompiledService,
        message: &Crossing<'_>,
        trail: &mut Trail<'_>,
        run: &mut Run,
        worker: &mut Worker,
        now: Instant,
    ) -> bool {
        let mut subject = service.subject_there(message.subject);
        if let Some(mappings) = self.config.mappings(service.account.name()) {
            let mut name = Vec::new();
            match worker.mapper.map(mappings, &subject, &mut name) {
                Mapped::Not => {}
                Mapped::Always | Mapped::Once => subject = name,
                Mapped::Lost => return false,
            }
        }
        let seed = || self.engine.seed();
        let reply = message.reply.map(|reply| {
            let answers = &service.account.answers;
            answers.expect(account, reply, service.terms, seed, now)
        });
        let mut header = Vec::new();
        let by = (trail.len() > 1).then(|| account.name());
        self.put_request_info(message.header, by, &mut header);
        let request = Crossing {
            subject: &subject,
            reply: reply.as_deref(),
            header: &header,
            payload: message.payload,
        };
        let is_received = self.arrive(&service.account, &request, trail, run, worker, now);
        if !is_received && let Some(reply) = &reply {
            service.account.answers.forget(reply);
        }
        is_received
    }

    /// Publishes a message in an account it has come to.
    fn arrive(
        &self,
        account: &Arc<Account>,
        message: &Crossing<'_>,
        trail: &mut Trail<'_>,
        run: &mut Run,
        worker: &mut Worker,
        now: Instant,
    ) -> bool {
        let mut text = Vec::new();
        let Crossing {
            subject,
            reply,
            header,
            payload,
        } = *message;
        if header.is_empty() {
            client::publish(&mut text, subject, reply, payload);
        } else {
            client::header_publish(&mut text, subject, reply, header, payload);
        }
        let limits = client::Limits {
            control_line_bytes_max: usize::MAX,
            payload_bytes_max: usize::MAX,
            headers: true,
        };
        let Ok(Decoded::Op {
            op: ClientOp::Publish(publish),
            ..
        }) = decode_client(&text, &limits)
        else {
            // A name that cannot be spelled reaches nobody.
            return false;
        };
        let source = Source {
            input: &text,
            shared: None,
        };
        run.forget_route();
        run.receivers = worker.cache.find(account, publish.subject);
        run.routed(publish.subject, None, &text);
        run.push(&publish, 0, &text, false, false);
        let publisher = Publisher {
            origin: Origin::Here,
            outbox: &self.outbox,
            // Who asks may be the one who answers.
            echo: true,
            is_crossing: true,
            account,
        };
        let deliverer = &mut worker.deliverer;
        let messages_before = std::mem::take(&mut deliverer.messages_out);
        let bytes_before = std::mem::take(&mut deliverer.bytes_out);
        deliverer.deliver(run, source, &publisher, false, now, |_, _, _| {});
        let messages = std::mem::replace(&mut deliverer.messages_out, messages_before);
        let bytes = std::mem::replace(&mut deliverer.bytes_out, bytes_before);
        counters::add(&account.counters.messages_out, messages);
        counters::add(&account.counters.bytes_out, bytes);
        run.forget_route();
        let goes_on = self.leave(account, message, trail, run, worker, now);
        messages > 0 || goes_on
    }

    /// Appends a header with who asks. What the client said of that itself is left out. `by` is the account that asks
    /// another one on behalf of it.
    fn put_request_info(&self, header: &[u8], by: Option<&str>, out: &mut Vec<u8>) {
        let lines = header.strip_suffix(b"\r\n").unwrap_or(header);
        if lines.is_empty() {
            out.extend_from_slice(b"NATS/1.0\r\n");
        }
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
            if !name.trim_ascii().eq_ignore_ascii_case(REQUEST_INFO) {
                out.extend_from_slice(line);
            }
        }
        if !out.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(REQUEST_INFO);
        out.extend_from_slice(b": {\"acc\":");
        push_json(self.account.name(), out);
        if let Some(by) = by {
            out.extend_from_slice(b",\"svc\":");
            push_json(by, out);
        }
        if let Some(round_trip) = self.heartbeat.round_trip() {
            out.extend_from_slice(b",\"rtt\":");
            let nanoseconds = usize::try_from(round_trip.as_nanos()).unwrap_or(usize::MAX);
            out.extend_from_slice(client::decimal(nanoseconds).as_ref());
        }
        out.extend_from_slice(b"}\r\n\r\n");
    }
}

/// A text of JSON. What JSON does not allow in one is left out.
fn push_json(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes().filter(|byte| !byte.is_ascii_control()) {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
