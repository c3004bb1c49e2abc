//! Messages that a peer passes on: for the subscribers of this server, and for nobody beyond.
//!
//! They take the way that clients' messages take, as runs of messages for the same receivers. What makes two of them
//! the same is account, subject and the queue groups named.

use std::sync::Arc;
use std::time::Instant;

use natterjack_subject::QueueGroup;
use natterjack_wire::client::Publish;
use natterjack_wire::route::{MessageHead, Queues, RouteMessage, STRAY_ORIGIN};

use super::RouteSession;
use crate::account::Account;
use crate::delivery::Subscriber;
use crate::delivery::receivers::Receivers;
use crate::delivery::rendering::Source;
use crate::delivery::worker::{Origin, Publisher, Worker};
use crate::exchange::{ANSWER_PREFIX, Crossing, Message, is_measured};
use crate::limits::LARGE_FRAME_BYTES;
use crate::mesh::link::RouteLink;
use crate::monitor::counters;

/// Where the messages of the run in hand belong.
#[derive(Default)]
pub(super) struct Passing {
    /// `None`: to an account that is not here, and they are dropped.
    account: Option<Arc<Account>>,
    /// Bytes of the input that name the queue groups.
    queues: (usize, usize),
    /// They are for queue groups only.
    is_stray: bool,
    /// Messages and bytes that are not counted yet.
    messages: u64,
    bytes: u64,
    /// Each message is to be looked at: it may be an answer to another account, or for a queue group that is gone.
    needs_care: bool,
}

impl Passing {
    pub(super) fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }
}

impl RouteSession {
    /// A message that began at `start` of the input.
    #[inline]
    pub(super) fn handle_message(
        &mut self,
        message: &RouteMessage<'_>,
        start: usize,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) {
        if message.header_len.is_some() {
            self.handle_headed(message, start, source, worker, now);
        } else {
            self.handle_ordinary(message, start, source, worker, now);
        }
    }

    pub(super) fn handle_ordinary(
        &mut self,
        message: &RouteMessage<'_>,
        start: usize,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) {
        worker.run.forget_last();
        self.messages_in += 1;
        self.bytes_in += message.body.len() as u64;
        let scope = scope(message, source.input);
        let is_same = worker.run.is_last_subject(scope, source.input)
            && self.passing.is_stray == is_stray(message)
            && self.passing_queues(source.input) == message.queues;
        if !is_same {
            self.route_message(message, scope, source, worker, now);
        }
        self.passing.messages += 1;
        self.passing.bytes += message.body.len() as u64;
        if let (Some(account), Some(reply)) = (&self.passing.account, message.reply)
            && is_measured(reply)
            && !worker.run.receivers.is_empty()
        {
            account.measures.begin(reply, now);
        }
        if self.passing.needs_care {
            self.finish_run(worker, source, false, now);
            self.cross(message, worker, now);
            self.pass_on_strays(message, worker);
        }
        let publish = Publish {
            subject: message.subject,
            reply: message.reply,
            header_len: message.header_len,
            header_len_text: message.header_len_text,
            total_len_text: message.total_len_text,
            body: message.body,
        };
        let may_repeat = !self.passing.needs_care;
        worker
            .run
            .push(&publish, start, source.input, is_same, may_repeat);
        if worker.run.receivers.share_connections() {
            self.finish_run(worker, source, false, now);
        }
    }

    /// A message with the very line of the one before it, which the run has taken.
    #[inline]
    pub(super) fn repeated(&mut self, body_len: usize) {
        self.messages_in += 1;
        self.bytes_in += body_len as u64;
        self.passing.messages += 1;
        self.passing.bytes += body_len as u64;
    }

    /// Finds out who receives messages like this one.
    fn route_message(
        &mut self,
        message: &RouteMessage<'_>,
        scope: &[u8],
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) {
        self.heartbeat.active(now);
        let is_same_way = self.is_in_hand(message.account)
            && self.passing.is_stray == is_stray(message)
            && self.passing_queues(source.input) == message.queues;
        if !is_same_way {
            self.finish_run(worker, source, false, now);
            self.find_account(message.account);
            self.passing.is_stray = is_stray(message);
            let text = message.queues.as_bytes();
            self.passing.queues = if text.is_empty() {
                (0, 0)
            } else {
                let queues_start = text.as_ptr() as usize - source.input.as_ptr() as usize;
                (queues_start, queues_start + text.len())
            };
        }
        let current = &worker.run.receivers;
        let found = match &self.passing.account {
            Some(account) => worker.cache.route(account, message.subject, current),
            None => (!current.is_empty()).then(Receivers::default),
        };
        if let Some(receivers) = found {
            self.finish_run(worker, source, false, now);
            worker.run.receivers = receivers;
        }
        let groups = worker.run.receivers.groups();
        self.passing.needs_care = self.passing.account.is_some()
            && (message.subject.starts_with(ANSWER_PREFIX)
                || strays(message.queues, groups).next().is_some());
        worker.run.routed(scope, None, source.input);
    }

    /// Whether messages that name this account are for the one in hand.
    fn is_in_hand(&self, name: Option<&[u8]>) -> bool {
        let name = name.or_else(|| self.account.as_deref().map(str::as_bytes));
        let known = self.passing.account.as_ref();
        known.is_some_and(|account| Some(account.name().as_bytes()) == name)
    }

    fn find_account(&mut self, name: Option<&[u8]>) {
        if self.is_in_hand(name) {
            return;
        }
        let dedicated = self.account.clone();
        let name = name.or_else(|| dedicated.as_deref().map(str::as_bytes));
        self.count_passed();
        let name = name.and_then(|name| core::str::from_utf8(name).ok());
        let found = name.and_then(|name| self.config.account(name));
        self.passing.account = found.map(|(account, _)| Arc::clone(account));
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
        let Some(account) = &self.passing.account else {
            worker.run.clear_frames();
            return;
        };
        let publisher = Publisher {
            origin: Origin::Peer {
                queues: self.passing_queues(source.input),
                is_stray: self.passing.is_stray,
            },
            outbox: &self.outbox,
            echo: true,
            is_crossing: false,
            account,
        };
        let direct = is_last || worker.run.body_bytes >= LARGE_FRAME_BYTES / 2;
        let Worker { run, deliverer, .. } = worker;
        // Whoever published it has been told that somebody received it.
        deliverer.deliver(run, source, &publisher, direct, now, |_, _, _| {});
    }

    /// Counts what was passed on and delivered in the account in hand.
    pub(super) fn count_delivered(&mut self, worker: &mut Worker) {
        self.count_passed();
        let delivered = std::mem::take(&mut worker.deliverer.delivered);
        if let Some(account) = &self.passing.account {
            account.counters.add_delivered(delivered);
        }
    }

    /// The accounts are others from now on.
    pub(super) fn forget_account(&mut self) {
        self.count_passed();
        self.passing.account = None;
    }

    fn count_passed(&mut self) {
        let messages = std::mem::take(&mut self.passing.messages);
        let bytes = std::mem::take(&mut self.passing.bytes);
        match &self.passing.account {
            Some(account) => account.counters.add_received_from_route(messages, bytes),
            None => {
                let counters = &self.engine.counters;
                counters::add(&counters.messages_in_nowhere, messages);
                counters::add(&counters.bytes_in_nowhere, bytes);
            }
        }
    }

    fn passing_queues<'a>(&self, input: &'a [u8]) -> Queues<'a> {
        let (start, end) = self.passing.queues;
        Queues::new(input.get(start..end).unwrap_or_default())
    }

    /// Sends an answer from this account to whoever asked in another one. The request crossed here.
    fn cross(&self, message: &RouteMessage<'_>, worker: &mut Worker, now: Instant) {
        let Some(account) = &self.passing.account else {
            return;
        };
        let crossing = Crossing {
            engine: &self.engine,
            config: &self.config,
            outbox: &self.outbox,
            client: None,
            is_passed_on: true,
            now,
        };
        let answer = Message {
            subject: message.subject,
            reply: message.reply,
            header: message.header(),
            payload: message.payload(),
        };
        crossing.answer(account, &answer, worker);
    }

    /// Passes a message on for queue groups whose last member here has left while it was on its way, as nats-server does;
    /// back to where it came from only if nobody else has members. That the group is gone here was told on the same
    /// connection before, so whoever gets the message knows, and it does not come back for good.
    ///
    /// Those outside of groups must not get it twice. A peer of our kind is told that it is a stray; any other gets
    /// it only if it is known to have nobody outside of groups.
    fn pass_on_strays(&self, message: &RouteMessage<'_>, worker: &mut Worker) {
        let Some(account) = &self.passing.account else {
            return;
        };
        let receivers = worker.cache.find(account, message.subject);
        let Some(peers) = receivers.peers() else {
            return;
        };
        // Whoever has several of the groups gets it once for all of them.
        let mut chosen: Vec<(&Arc<RouteLink>, Vec<&[u8]>)> = Vec::new();
        for queue in strays(message.queues, receivers.groups()) {
            let Some(group) = peers.find_group(queue) else {
                continue;
            };
            let possible = peers.groups[group]
                .members
                .iter()
                .filter_map(|(target, member)| {
                    let target = &peers.targets[*target];
                    let is_safe = target.link.takes_strays() || !target.is_plain;
                    (is_safe && member.weight() > 0).then_some(&target.link)
                });
            let preferred =
                possible.min_by_key(|link| (self.is_same_peer(link), !link.takes_strays()));
            let Some(link) = preferred else { continue };
            match chosen
                .iter_mut()
                .find(|(known, _)| Arc::ptr_eq(known, link))
            {
                Some((_, queues)) => queues.push(queue),
                None => chosen.push((link, vec![queue])),
            }
        }
        for (link, queues) in chosen {
            let mut text = Vec::with_capacity(message.body.len() + 128);
            let head = MessageHead {
                origin: link.takes_strays().then_some(STRAY_ORIGIN),
                account: link.account_token(account.name()),
                subject: message.subject,
                reply: message.reply,
                queues: &queues,
                header_len_text: message.header_len.map(|_| message.header_len_text),
                total_len_text: message.total_len_text,
            };
            head.write(&mut text);
            text.extend_from_slice(message.body);
            text.extend_from_slice(b"\r\n");
            if link.outbox().append(&text) {
                worker.deliverer.touch(link.outbox());
            }
        }
    }
}

fn is_stray(message: &RouteMessage<'_>) -> bool {
    message.origin == Some(STRAY_ORIGIN)
}

/// What stands in a message's line from its account to its subject.
fn scope<'a>(message: &RouteMessage<'a>, input: &'a [u8]) -> &'a [u8] {
    let first = message.account.unwrap_or(message.subject);
    let offset = |part: &[u8]| part.as_ptr() as usize - input.as_ptr() as usize;
    &input[offset(first)..offset(message.subject) + message.subject.len()]
}

/// Queue groups that are named and have no member here.
fn strays<'a>(
    queues: Queues<'a>,
    here: &[QueueGroup<Subscriber>],
) -> impl Iterator<Item = &'a [u8]> {
    queues.filter(|queue| (here.binary_search_by(|group| group.name().cmp(queue))).is_err())
}
