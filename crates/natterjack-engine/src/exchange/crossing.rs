//! Messages that leave their account: requests for services of other accounts, and the answers to such requests.
//!
//! In the account it comes to, such a message is published like any other: it is spelled out, decoded, routed and
//! delivered as a run of its own. It differs in its subject, its reply subject, and a header that tells who asks.
//!
//! Requests cross where they are published, and nowhere else: what another server passes on has crossed there. Answers
//! cross wherever they come to the account that answers, whoever brings them ([`Crossing::answer`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use natterjack_wire::client;
use smallvec::SmallVec;

use super::Mapped;
use super::answers::{ANSWER_PREFIX, Expected};
use super::latency::{LatencyOutcome, Tracked, sample};
use super::request_info::{Details, RequestInfo, push_without_request_info};
use super::service::{CompiledService, Offer, Terms};
use crate::access::ResponseType;
use crate::account::Account;
use crate::config::Config;
use crate::delivery::outbox::Outbox;
use crate::delivery::rendering::Source;
use crate::delivery::run::Run;
use crate::delivery::worker::{Origin, Publisher, Worker};
use crate::engine::Engine;
use crate::monitor::record::Record;
use crate::trace::{DESTINATION, DISABLED, push_with};

/// Accounts that one message may go through. Circles are refused where they are configured; this is for those that
/// come about by renaming.
const HOPS_MAX: usize = 16;

/// A message on its way through accounts.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) subject: &'a [u8],
    pub(crate) reply: Option<&'a [u8]>,
    /// The header block; empty if there is none.
    pub(crate) header: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// What sends messages to other accounts, for one publisher.
pub(crate) struct Crossing<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) config: &'a Config,
    /// The connection that published.
    pub(crate) outbox: &'a Arc<Outbox>,
    /// The client that published; `None` for the server itself, and for what other servers pass on.
    pub(crate) client: Option<&'a Arc<Record>>,
    /// Another server has passed the message on.
    pub(crate) is_passed_on: bool,
    pub(crate) now: Instant,
}

/// How long servers may report what became of a message in the account of a service.
const REPORTS_WITHIN: Duration = Duration::from_secs(10);

/// What a message came through.
struct Trail<'a> {
    imports: SmallVec<[&'a CompiledService; 4]>,
    /// Services whose answer it is.
    answered: SmallVec<[Arc<Offer>; 1]>,
    /// What it is delivered with wherever it comes; kept for its memory.
    run: Run,
}

impl Trail<'_> {
    fn new() -> Self {
        Self {
            imports: SmallVec::new(),
            answered: SmallVec::new(),
            run: Run::new(),
        }
    }

    fn len(&self) -> usize {
        self.imports.len() + self.answered.len()
    }

    /// Whether a service has been asked or has answered on the way. Linear in the trail.
    fn knows(&self, offer: &Offer) -> bool {
        let asked = self.imports.iter().map(|service| &service.offer);
        asked.chain(&self.answered).any(|known| **known == *offer)
    }
}

impl<'a> Crossing<'a> {
    /// Sends a message that was published in `account` on to the accounts it is for: those of the services it asks, or
    /// that of whoever it answers. Returns whether anybody there received it.
    pub(crate) fn leave(
        &self,
        account: &Arc<Account>,
        message: &Message<'_>,
        worker: &mut Worker,
    ) -> bool {
        self.go_on(account, message, &mut Trail::new(), worker)
    }

    /// Sends an answer that has come to `account`, which gave it, to whoever asked. Returns whether anybody there
    /// received it; for what is no answer, `false`.
    pub(crate) fn answer(
        &self,
        account: &Arc<Account>,
        message: &Message<'_>,
        worker: &mut Worker,
    ) -> bool {
        self.take_back(account, message, &mut Trail::new(), worker)
    }

    fn go_on(
        &self,
        account: &Arc<Account>,
        message: &Message<'_>,
        trail: &mut Trail<'a>,
        worker: &mut Worker,
    ) -> bool {
        if trail.len() >= HOPS_MAX {
            return false;
        }
        let is_answered = self.take_back(account, message, trail, worker);
        let imports = self.config.service_imports(account.name());
        let (Some(imports), Some(client)) = (imports, self.client) else {
            return is_answered;
        };
        let mut is_received = is_answered;
        for service in imports.of(message.subject) {
            if !trail.knows(&service.offer) {
                trail.imports.push(service);
                is_received |= self.request(client, account, service, message, trail, worker);
                trail.imports.pop();
            }
        }
        is_received
    }

    /// Sends an answer to whoever asked.
    fn take_back(
        &self,
        account: &Arc<Account>,
        message: &Message<'_>,
        trail: &mut Trail<'a>,
        worker: &mut Worker,
    ) -> bool {
        if !message.subject.starts_with(ANSWER_PREFIX) {
            return false;
        }
        let is_empty = message.header.is_empty() && message.payload.is_empty();
        // Who asked cannot answer through the service that was asked.
        let is_circle = |offer: &Offer| trail.knows(offer);
        // Whoever has answered on another server was measured there, if it is the one who was asked by this server.
        let elsewhere = (self.is_passed_on && trail.len() == 0).then_some(&self.engine.reports);
        let answers = &account.answers;
        let taken = answers.take(message.subject, is_empty, elsewhere, self.now, is_circle);
        let Some(way) = taken else {
            return false;
        };
        if let Some(tracked) = way.tracked {
            tracked.answered(self.client.map(|record| &**record), self.now);
        }
        let reply = message.reply.map(|reply| {
            let expected = Expected {
                account,
                reply,
                offer: &way.offer,
                terms: way.terms,
                tracked: None,
                server: None,
            };
            self.expect(&way.account, expected)
        });
        let answer = Message {
            subject: &way.reply,
            reply: reply.as_deref(),
            ..*message
        };
        trail.answered.push(Arc::clone(&way.offer));
        let is_received = self.arrive_untold(&way.account, &answer, message, trail, worker);
        trail.answered.pop();
        if !is_received {
            let unheard = || LatencyOutcome::Unavailable;
            account.answers.forget(message.subject, unheard);
            if let Some(reply) = &reply {
                way.account.answers.forget(reply, unheard);
            }
        }
        is_received
    }

    /// Remembers a request to `answering`, and returns where its answer is to go.
    fn expect(&self, answering: &Account, expected: Expected<'_>) -> Box<[u8]> {
        let seed = || self.engine.seed();
        let answers = &answering.answers;
        answers.prefix(seed, |prefix| {
            let pattern = format!("{prefix}>");
            let interest = &answering.interest;
            interest.add(answering.name(), pattern.as_bytes(), None);
        });
        answers.expect(expected, &self.engine.reports, seed, self.now)
    }

    /// Asks a service, the last one of the trail.
    fn request(
        &self,
        client: &Arc<Record>,
        account: &Arc<Account>,
        service: &'a CompiledService,
        message: &Message<'_>,
        trail: &mut Trail<'a>,
        worker: &mut Worker,
    ) -> bool {
        let answering = &service.account;
        let mut subject = service.subject_there(message.subject);
        if let Some(mappings) = self.config.mappings(answering.name()) {
            let mut name = Vec::new();
            match worker.mapper.map(mappings, &subject, &mut name) {
                Mapped::Not => {}
                Mapped::Always | Mapped::Once => subject = name,
                Mapped::Lost => return false,
            }
        }
        // What is only traced asks nobody: there is no answer to wait for, nor to measure.
        let is_only_traced = (worker.deliverer.trace.as_ref()).is_some_and(|trace| trace.is_only());
        let tracked = if is_only_traced {
            None
        } else {
            self.track(client, service, message.header)
        };
        let reply = match (message.reply, tracked) {
            (Some(reply), tracked) => Some(self.expect(
                answering,
                Expected {
                    account,
                    reply,
                    offer: &service.offer,
                    terms: service.terms,
                    tracked: tracked.map(Box::new),
                    server: self.engine.short_name(),
                },
            )),
            (None, Some(tracked)) => {
                tracked.finish(LatencyOutcome::BadRequest);
                None
            }
            (None, None) => None,
        };
        let mut header = Vec::new();
        push_without_request_info(message.header, &mut header);
        self.info(client, account, trail).push(&mut header);
        let request = Message {
            subject: &subject,
            reply: reply.as_deref(),
            header: &header,
            payload: message.payload,
        };
        let is_received = if service.allows_trace {
            self.arrive_told(account, service, &request, message, trail, worker)
        } else {
            self.arrive_untold(answering, &request, message, trail, worker)
        };
        if (!is_received || is_only_traced)
            && let Some(reply) = &reply
        {
            let unheard = || LatencyOutcome::Unavailable;
            answering.answers.forget(reply, unheard);
        }
        is_received
    }

    /// Publishes a request of `account` in the account of the service it asks. If it is traced, so it is there; it was
    /// `before` in the account that asks.
    fn arrive_told(
        &self,
        account: &Arc<Account>,
        service: &CompiledService,
        request: &Message<'_>,
        before: &Message<'_>,
        trail: &mut Trail<'a>,
        worker: &mut Worker,
    ) -> bool {
        let answering = &service.account;
        let Some(trace) = &mut worker.deliverer.trace else {
            return self.arrive(answering, request, trail, worker);
        };
        trace.crosses(answering.name(), before.subject, request.subject);
        // Servers it is passed on to report in the account of the service, from where that comes back like an answer.
        let reports = self.expect(
            answering,
            Expected {
                account,
                reply: trace.onward(),
                offer: &service.offer,
                terms: Terms {
                    response_type: ResponseType::Streamed,
                    threshold: REPORTS_WITHIN,
                },
                tracked: None,
                server: None,
            },
        );
        let mut header = Vec::new();
        let named = String::from_utf8_lossy(&reports);
        push_with(request.header, DESTINATION, &named, &mut header);
        let hops_before = trace.hops();
        let before = trace.redirect(reports);
        let header = &header[..];
        let request = Message { header, ..*request };
        let is_received = self.arrive(answering, &request, trail, worker);
        if let Some(trace) = &mut worker.deliverer.trace {
            let reports = trace.redirect(before);
            if trace.hops() == hops_before {
                // There is nobody to report.
                let unheard = || LatencyOutcome::Unavailable;
                answering.answers.forget(&reports, unheard);
            }
        }
        is_received
    }

    /// Publishes a message in an account it has come to. If it is traced, it is not there, nor does it go there if it is
    /// only to be traced; it was `before` where it comes from.
    fn arrive_untold(
        &self,
        account: &Arc<Account>,
        message: &Message<'_>,
        before: &Message<'_>,
        trail: &mut Trail<'a>,
        worker: &mut Worker,
    ) -> bool {
        let Some(mut trace) = worker.deliverer.trace.take() else {
            return self.arrive(account, message, trail, worker);
        };
        trace.crosses(account.name(), before.subject, message.subject);
        let is_received = !trace.is_only() && {
            let mut header = Vec::new();
            push_with(message.header, DESTINATION, DISABLED, &mut header);
            let header = &header[..];
            let message = Message { header, ..*message };
            self.arrive(account, &message, trail, worker)
        };
        worker.deliverer.trace = Some(trace);
        is_received
    }

    /// Decides whether a request is measured.
    fn track(
        &self,
        client: &Arc<Record>,
        service: &CompiledService,
        header: &[u8],
    ) -> Option<Tracked> {
        let latency = service.latency.as_ref()?;
        if !self.engine.reports.is_open() {
            return None;
        }
        let headers = sample(latency.sampling, header, || self.engine.seed())?;
        Some(Tracked {
            engine: Arc::downgrade(self.engine),
            latency: Arc::clone(latency),
            account: Arc::downgrade(&service.account),
            requestor: Arc::clone(client),
            is_shared: service.is_shared,
            headers,
            requested: self.now,
            measure: None,
        })
    }

    /// What the service at the end of the trail may know of who asks: what the first one may, and where each of the
    /// others wants more, the server.
    fn info<'b>(
        &self,
        client: &'b Record,
        account: &'b Account,
        trail: &Trail<'a>,
    ) -> RequestInfo<'b>
    where
        'a: 'b,
    {
        let (first, is_first) = (trail.imports.first(), trail.imports.len() == 1);
        let is_shared = first.is_some_and(|first| first.is_shared);
        let imports = &trail.imports;
        let steps = imports.iter().zip(imports.iter().skip(1));
        let names_server = first.is_some_and(|first| first.is_system)
            || steps
                .into_iter()
                .any(|(before, next)| !before.is_shared && (next.is_shared || next.is_system));
        let info = &self.config.info;
        RequestInfo {
            client: client.snapshot(None),
            details: is_shared.then(|| Details {
                started: self.engine.spell_time(client.started()),
            }),
            by: (!is_first).then(|| account.name()),
            server: (is_shared || names_server)
                .then_some((info.server_name.as_str(), info.cluster.as_str())),
        }
    }

    /// Publishes a message in an account it has come to.
    fn arrive(
        &self,
        account: &Arc<Account>,
        message: &Message<'_>,
        trail: &mut Trail<'a>,
        worker: &mut Worker,
    ) -> bool {
        let mut text = Vec::new();
        let Message {
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
        let Some(publish) = client::decode_publish(&text) else {
            // A name that cannot be spelled reaches nobody.
            return false;
        };
        let source = Source {
            input: &text,
            shared: None,
        };
        let run = &mut trail.run;
        run.forget_route();
        run.receivers = worker.cache.find(account, publish.subject);
        run.routed(publish.subject, None, &text);
        run.push(&publish, 0, &text, false, false);
        let publisher = Publisher {
            // Whoever brought it: here it is a new message.
            origin: Origin::Here,
            outbox: self.outbox,
            // Who asks may be the one who answers.
            echo: true,
            is_crossing: true,
            account,
        };
        let deliverer = &mut worker.deliverer;
        let delivered_before = std::mem::take(&mut deliverer.delivered);
        let mut is_unheard = run.receivers.is_empty();
        deliverer.deliver(run, source, &publisher, false, self.now, |_, _, _| {
            is_unheard = true;
        });
        let delivered = std::mem::replace(&mut deliverer.delivered, delivered_before);
        account.counters.add_delivered(delivered);
        run.forget_route();
        let goes_on = self.go_on(account, message, trail, worker);
        // What the server hears itself is not counted.
        let is_heard = delivered.messages > 0 || (reply.is_some() && !is_unheard);
        is_heard || goes_on
    }
}
