//! Delivery of a message that is [traced](crate::trace): to the same receivers as any other, one by one, so that it can be
//! written down what became of each.

use std::sync::Arc;
use std::time::Instant;

use natterjack_subject::QueueGroup;
use natterjack_wire::client;

use super::outbox::Offered;
use super::receivers::Peers;
use super::rendering::{Source, Target};
use super::run::Run;
use super::subscription::{Subscriber, Subscription};
use super::worker::{Deliverer, Elsewhere, Origin, Publisher, Worker, admits, after, may_receive};
use crate::trace::{HOP, Trace, Undelivered, push_with};

/// The message that is traced, a frame of a run.
#[derive(Clone, Copy)]
struct Traced<'a> {
    run: &'a Run,
    source: Source<'a>,
    publisher: &'a Publisher<'a>,
    frame: usize,
    now: Instant,
}

impl Worker {
    /// Has a message published, to the end, and reports what has become of it.
    pub(crate) fn trace(&mut self, trace: Box<Trace>, publish: impl FnOnce(&mut Self)) {
        self.deliverer.trace = Some(trace);
        publish(self);
        self.run.forget_route();
        if let Some(trace) = self.deliverer.trace.take() {
            trace.finish();
        }
    }
}

impl Deliverer {
    /// Delivers a run of the one message that is traced, as [`deliver`](Self::deliver) does.
    pub(super) fn deliver_traced(
        &mut self,
        run: &mut Run,
        source: Source<'_>,
        publisher: &Publisher<'_>,
        now: Instant,
        mut unreached: impl FnMut(&mut Self, usize, &Run),
    ) {
        let Some(mut trace) = self.trace.take() else {
            return;
        };
        for frame in 0..run.frames.len() {
            self.renderer.start_run();
            let traced = Traced {
                run,
                source,
                publisher,
                frame,
                now,
            };
            let is_reached = self.trace_frame(&mut trace, traced);
            if !is_reached && run.frames[frame].reply.len() > 0 {
                unreached(self, frame, run);
            }
        }
        self.trace = Some(trace);
        self.renderer.start_run();
        run.clear_frames();
    }

    /// Returns whether anybody was given it, or would have been.
    fn trace_frame(&mut self, trace: &mut Trace, traced: Traced<'_>) -> bool {
        let Traced { run, publisher, .. } = traced;
        let mut is_reached = false;
        let plain = publisher.is_for_plain().then(|| run.receivers.plain());
        for Subscriber(subscription) in plain.into_iter().flatten() {
            is_reached |= self.trace_one(trace, traced, subscription);
        }
        let peers = match publisher.origin {
            Origin::Here => run.receivers.peers().map(Arc::clone),
            Origin::Peer { .. } => None,
        };
        // Which peers get it for which queue groups, besides those that get everything.
        let mut chosen: Vec<(usize, usize)> = Vec::new();
        for group in run.receivers.groups() {
            if !publisher.may_reach_group(group.name()) {
                continue;
            }
            let spread = peers
                .as_deref()
                .and_then(|peers| Some((peers, peers.find_group(group.name())?)));
            let elsewhere =
                spread.map(|(peers, number)| Elsewhere::of(peers, &peers.groups[number]));
            let weight = elsewhere.as_ref().map_or(0, |elsewhere| elsewhere.weight);
            let first = self.rng.u64(0..group.len() as u64 + weight);
            let first = usize::try_from(first).unwrap_or(usize::MAX);
            let mut is_taken = first < group.len() && self.trace_group(trace, traced, group, first);
            if !is_taken && let (Some(elsewhere), Some((_, number))) = (&elsewhere, spread) {
                let target = elsewhere.choose(&mut self.rng);
                is_taken = target.is_some();
                chosen.extend(target.map(|target| (target, number)));
            }
            if !is_taken && first >= group.len() {
                is_taken = self.trace_group(trace, traced, group, 0);
            }
            is_reached |= is_taken;
        }
        if let Some(peers) = peers {
            for (number, group) in peers.groups.iter().enumerate() {
                if group.local.is_none() {
                    let target = Elsewhere::of(&peers, group).choose(&mut self.rng);
                    chosen.extend(target.map(|target| (target, number)));
                }
            }
            is_reached |= self.trace_peers(trace, traced, &peers, &chosen);
        }
        is_reached
    }

    /// Gives it to one member of a group, the first that takes it.
    fn trace_group(
        &mut self,
        trace: &mut Trace,
        traced: Traced<'_>,
        group: &QueueGroup<Subscriber>,
        first: usize,
    ) -> bool {
        let denied_before = self.deliveries_denied;
        let is_taken = after(first, group.len()).any(|member| {
            let subscription = &group.member(member).0;
            self.trace_one(trace, traced, subscription)
        });
        // What one member may not receive is lost only if no other takes it.
        let is_denied = !is_taken && self.deliveries_denied > denied_before;
        self.deliveries_denied = denied_before + u64::from(is_denied);
        is_taken
    }

    /// Returns whether the subscription was given the message, or would have been.
    fn trace_one(
        &mut self,
        trace: &mut Trace,
        traced: Traced<'_>,
        subscription: &Arc<Subscription>,
    ) -> bool {
        let Traced { run, publisher, .. } = traced;
        let mut account = publisher.account.name();
        let mut is_traced = true;
        if let Some((home, allows_trace)) = subscription.home() {
            if publisher.is_crossing {
                return false;
            }
            account = home.name();
            let mut name = Vec::new();
            let subject = run.subject(&run.frames[traced.frame], traced.source.input);
            trace.heard_by(account, subscription.local_subject(subject, &mut name));
            if !allows_trace && trace.is_only() {
                return true;
            }
            is_traced = allows_trace;
        }
        if subscription.outbox().is_servers_own() {
            is_traced = false;
        }
        let is_only = is_traced && trace.is_only();
        let outcome = self.try_one(traced, subscription, is_only);
        if is_traced {
            trace.offered(subscription, account, outcome.err());
        }
        outcome.is_ok()
    }

    fn try_one(
        &mut self,
        traced: Traced<'_>,
        subscription: &Arc<Subscription>,
        is_only: bool,
    ) -> Result<(), Undelivered> {
        let Traced {
            run,
            source,
            publisher,
            frame,
            now,
        } = traced;
        if !publisher.may_reach(subscription) {
            return Err(Undelivered::Echo);
        }
        if !may_receive(subscription, run, source, frame) {
            self.deliveries_denied += u64::from(!is_only);
            return Err(Undelivered::Denied);
        }
        if subscription.is_closed() {
            return Err(Undelivered::SubscriptionClosed);
        }
        if is_only {
            return Ok(());
        }
        if !admits(subscription, run, source, frame, now) {
            self.deliveries_denied += 1;
            return Err(Undelivered::Denied);
        }
        if self.deliver_admitted(run, source, subscription, publisher, frame, now) {
            Ok(())
        } else if subscription.outbox().is_closed() {
            Err(Undelivered::ConnectionClosed)
        } else if subscription.is_exhausted() {
            Err(Undelivered::Exhausted)
        } else if subscription.is_closed() {
            Err(Undelivered::SubscriptionClosed)
        } else {
            Err(Undelivered::TooSlow)
        }
    }

    /// Passes it on to servers, to each with a header that tells the way it takes. Those that can trace get it also if it
    /// is not to be delivered.
    fn trace_peers(
        &mut self,
        trace: &mut Trace,
        traced: Traced<'_>,
        peers: &Peers,
        chosen: &[(usize, usize)],
    ) -> bool {
        let mut is_reached = false;
        for (position, target) in peers.targets.iter().enumerate() {
            let own = chosen.iter().filter(|(target, _)| *target == position);
            let groups: Vec<&[u8]> = own
                .map(|(_, number)| &*peers.groups[*number].name)
                .collect();
            if groups.is_empty() && !target.is_plain {
                continue;
            }
            let hop = trace.next_hop();
            if trace.is_only() && !target.link.takes_traces() {
                let error = Some(Undelivered::CannotTrace);
                trace.passed_on(&target.link, hop, error);
                continue;
            }
            let text = with_hop(traced, &hop);
            let Some(copy) = copied(&text, traced.run) else {
                continue;
            };
            let shape = Target::peer(&target.link, traced.publisher.account.name());
            self.renderer.start_run();
            let source = Source {
                input: &text,
                shared: None,
            };
            let directed = core::iter::once((0, groups.into_iter()));
            let mut rendering = self
                .renderer
                .render_directed(&copy, source, shape, directed);
            let (amount, mut must_flush) = (rendering.amount(), false);
            let outbox = target.link.outbox();
            let offered = outbox.offer(None, &mut rendering, false, traced.now, &mut must_flush);
            let error = match offered {
                Offered::Closed | Offered::Counted => Some(Undelivered::ConnectionClosed),
                Offered::Dropped => Some(Undelivered::TooSlow),
                _ if target.link.takes_traces() => None,
                _ => Some(Undelivered::DoesNotTell),
            };
            if self.settle(outbox, offered, must_flush, amount) {
                self.delivered.messages_to_routes += amount.messages as u64;
                self.delivered.bytes_to_routes += amount.payload_bytes as u64;
                is_reached = true;
            }
            trace.passed_on(&target.link, hop, error);
        }
        is_reached
    }
}

/// A run of one message that lies in a text of its own.
fn copied(text: &[u8], original: &Run) -> Option<Run> {
    let publish = client::decode_publish(text)?;
    let mut run = Run::new();
    run.receivers = original.receivers.clone();
    run.push(&publish, 0, text, false, false);
    Some(run)
}

/// The message as the next server gets it, spelled as it would be published.
fn with_hop(traced: Traced<'_>, hop: &str) -> Vec<u8> {
    let Traced { run, source, .. } = traced;
    let frame = &run.frames[traced.frame];
    let body = frame.body().of_bytes(run.tail_source(frame, source.input));
    let (header, payload) = body.split_at(frame.header_len as usize);
    let mut headed = Vec::new();
    push_with(header, HOP, hop, &mut headed);
    let reply = frame.reply.of_bytes(source.input);
    let reply = (!reply.is_empty()).then_some(reply);
    let mut text = Vec::new();
    let subject = run.subject(frame, source.input);
    client::header_publish(&mut text, subject, reply, &headed, payload);
    text
}
