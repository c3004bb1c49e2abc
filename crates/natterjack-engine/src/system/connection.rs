//! The server's own connection: a member of the system account that no list shows, no limit counts, and no reload
//! closes. Where it would be too far behind, messages to it are dropped; its peers are never slowed.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use natterjack_subject::InvalidPattern;
use natterjack_wire::client;

use super::reports::{DroppedReports, Report};
use crate::account::Account;
use crate::close_reason::CloseReason;
use crate::delivery::Subscriber;
use crate::delivery::outbox::{Outbox, OutboxLimits, SERVERS_OWN};
use crate::delivery::receivers::Receivers;
use crate::delivery::rendering::Source;
use crate::delivery::subscription::Subscription;
use crate::delivery::transport::Transport;
use crate::delivery::worker::{Origin, Publisher, Worker, remove_from_index};
use crate::engine::Engine;
use crate::exchange::{ANSWER_PREFIX, Crossing, Message};

/// Bytes that may wait for the server itself. Requests beyond are dropped, and who sent them is told that nobody
/// responds.
const PENDING_BYTES_MAX: usize = 1024 * 1024;

/// The server's own connection. One for each engine.
pub struct SystemConnection {
    engine: Arc<Engine>,
    account: Arc<Account>,
    outbox: Arc<Outbox>,
    subscriptions: Vec<Held>,
    text: Vec<u8>,
}

/// One of its subscriptions.
struct Held {
    subscription: Arc<Subscription>,
    /// Peers know of it.
    is_announced: bool,
}

/// A message of the server's.
#[derive(Clone, Copy, Debug)]
pub struct SystemMessage<'a> {
    /// Where it goes.
    pub subject: &'a [u8],
    /// Where an answer goes, if one is wanted.
    pub reply: Option<&'a [u8]>,
    /// Its header block; empty if there is none.
    pub header: &'a [u8],
    /// Its payload.
    pub payload: &'a [u8],
}

impl Engine {
    /// Opens the server's own connection, in the system account. What is sent to it comes out of `transport` as
    /// `MSG` and `HMSG`. From now on the engine [reports](Report).
    #[must_use]
    pub fn open_system(self: &Arc<Self>, transport: Arc<dyn Transport>) -> SystemConnection {
        let limits = OutboxLimits {
            pending_bytes_max: usize::MAX,
            congested_bytes: usize::MAX,
            drop_bytes: PENDING_BYTES_MAX,
            must_finish: false,
        };
        let outbox = Arc::new(Outbox::new(SERVERS_OWN, limits, transport));
        outbox.set_headers(true);
        self.reports.open();
        SystemConnection {
            account: self.system_account(),
            engine: Arc::clone(self),
            outbox,
            subscriptions: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Moves up to `max` reports into `taken`, in the order of what happened; if there are none, `waker` is called when
    /// there are. Returns which had no room since the last time.
    pub fn take_reports(
        &self,
        max: usize,
        taken: &mut Vec<Report>,
        waker: &Waker,
    ) -> DroppedReports {
        self.reports.take(max, taken, waker)
    }

    /// The account for what the server itself has to say.
    #[must_use]
    pub fn system_account(&self) -> Arc<Account> {
        let config = self.config();
        let found = config.account(config.directory.system_account());
        found.map_or_else(
            || Arc::clone(self.global_account()),
            |(account, _)| Arc::clone(account),
        )
    }

    /// Subscriptions that the server itself holds, all in the system account.
    #[must_use]
    pub fn own_subscriptions(&self) -> usize {
        self.reports.own_subscriptions()
    }

    /// Whether anybody but the server itself would hear of something in the system account. Cheap.
    pub(crate) fn reports_events(&self) -> bool {
        self.reports.are_wanted(|| {
            let config = self.config();
            let system = config.account(config.directory.system_account());
            system.map_or(0, |(account, _)| {
                account.index().len() + account.remote().len()
            })
        })
    }

    /// Reports an event if anybody listens in the system account.
    pub(crate) fn report(&self, event: impl FnOnce() -> Report) {
        if self.reports_events() {
            self.reports.push(event());
        }
    }
}

impl SystemConnection {
    /// The system account.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The way messages come in; [`Outbox::flush_unblocked`] is called when the transport takes bytes again.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Listens to a subject of the system account, also to what is published to it on other servers. Messages come with
    /// the subscription's number, counted from 1 in the order of these calls.
    ///
    /// # Errors
    /// If it is no subject.
    pub fn subscribe(&mut self, subject: &[u8]) -> Result<usize, InvalidPattern> {
        self.listen(subject, true)
    }

    /// The same without telling other servers. What is published there does not come unless they have another reason to
    /// send it here.
    ///
    /// # Errors
    /// If it is no subject.
    pub fn subscribe_here(&mut self, subject: &[u8]) -> Result<usize, InvalidPattern> {
        self.listen(subject, false)
    }

    fn listen(&mut self, subject: &[u8], is_announced: bool) -> Result<usize, InvalidPattern> {
        let number = self.subscriptions.len() + 1;
        let sid = client::decimal(number);
        let subscription = Arc::new(Subscription::new(
            Arc::clone(&self.outbox),
            sid.as_ref(),
            subject,
            None,
        ));
        let subscriber = Subscriber(Arc::clone(&subscription));
        if is_announced {
            self.account.insert(&subscriber)?;
        } else {
            self.account.insert_unannounced(&subscriber)?;
        }
        self.subscriptions.push(Held {
            subscription,
            is_announced,
        });
        self.engine.reports.set_own_subscriptions(number);
        Ok(number)
    }

    /// Whether somebody else listens to a subject of the system account. As expensive as publishing to it to
    /// nobody.
    #[must_use]
    pub fn is_heard(&self, subject: &[u8]) -> bool {
        self.engine.reports_events() && {
            let receivers = self.account.index().matches(subject);
            !self.account.remote().matches(subject).is_empty()
                || !receivers.groups().is_empty()
                || receivers
                    .plain()
                    .any(|held| !Arc::ptr_eq(held.0.outbox(), &self.outbox))
        }
    }

    /// Publishes in an account, to everybody but itself. Returns whether a receiver is so far behind that it is better
    /// to wait a little before more is published.
    pub fn publish(
        &mut self,
        account: &Arc<Account>,
        message: SystemMessage<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> bool {
        self.text.clear();
        let SystemMessage {
            subject,
            reply,
            header,
            payload,
        } = message;
        if header.is_empty() {
            client::publish(&mut self.text, subject, reply, payload);
        } else {
            client::header_publish(&mut self.text, subject, reply, header, payload);
        }
        let Some(publish) = client::decode_publish(&self.text) else {
            return false;
        };
        let epoch = account.passages.epoch();
        let peers = account.remote().matches(publish.subject);
        let found = account.index().matches(publish.subject);
        let receivers = Receivers::new(found, peers, epoch);
        let is_answer = publish.subject.starts_with(ANSWER_PREFIX);
        if receivers.is_empty() && !is_answer {
            return false;
        }
        let Worker { run, deliverer, .. } = worker;
        run.forget_route();
        run.receivers = receivers;
        run.push(&publish, 0, &self.text, false, false);
        let source = Source {
            input: &self.text,
            shared: None,
        };
        let publisher = Publisher {
            origin: Origin::Here,
            is_crossing: false,
            outbox: &self.outbox,
            echo: false,
            account,
        };
        deliverer.deliver(run, source, &publisher, false, now, |_, _, _| {});
        run.receivers = Receivers::default();
        let delivered = std::mem::take(&mut deliverer.delivered);
        account.counters.add_delivered(delivered);
        if is_answer {
            self.answer(account, message, worker, now);
        }
        let deliverer = &mut worker.deliverer;
        deliverer.flush_touched(now);
        self.engine.counters.add_undelivered(deliverer);
        let is_congested = !deliverer.take_congested().is_empty();
        // One large page is no reason to keep room for it.
        self.text.shrink_to(64 * 1024);
        is_congested
    }

    /// Sends an answer to a client of another account on to it.
    fn answer(
        &self,
        account: &Arc<Account>,
        message: SystemMessage<'_>,
        worker: &mut Worker,
        now: Instant,
    ) {
        let config = self.engine.config();
        let crossing = Crossing {
            engine: &self.engine,
            config: &config,
            outbox: &self.outbox,
            client: None,
            is_passed_on: false,
            now,
        };
        let answer = Message {
            subject: message.subject,
            reply: None,
            header: message.header,
            payload: message.payload,
        };
        crossing.answer(account, &answer, worker);
    }
}

impl Drop for SystemConnection {
    fn drop(&mut self) {
        self.engine.reports.close();
        self.engine.reports.set_own_subscriptions(0);
        self.outbox.close(CloseReason::ServerShutdown);
        for held in self.subscriptions.drain(..) {
            held.subscription.close();
            if held.is_announced {
                remove_from_index(&self.account, &held.subscription);
            } else {
                self.account
                    .remove_unannounced(&Subscriber(held.subscription));
            }
        }
        self.outbox.release();
    }
}
