//! What one thread lends to the session it is serving, and the delivery of runs.
//!
//! Everything a batch needs lives here and not in the session: the read buffer, the cache of receivers, the
//! run being collected, the buffer it is rendered into. A connection that is quiet owns none of it.

use std::sync::Arc;
use std::time::Instant;

use natterjack_subject::QueueGroup;
use natterjack_wire::route::Queues;

use super::cache::RouteCache;
use super::outbox::{Offered, Outbox};
use super::receivers::{PeerGroup, Peers};
use super::rendering::{Amount, Renderer, Source, Target};
use super::run::Run;
use super::sorting::Sorter;
use super::subscription::{Subscriber, Subscription};
use crate::access::Verdicts;
use crate::account::Account;
use crate::exchange::Mapper;
use crate::limits::LARGE_MESSAGES_READ_BYTES_MAX;
use crate::monitor::counters::Delivered;
use crate::trace::Trace;

/// A thread's share of the engine. Any session may be served with any worker, one at a time.
pub struct Worker {
    pub(crate) buffer: Vec<u8>,
    pub(crate) cache: RouteCache,
    pub(crate) verdicts: Verdicts,
    pub(crate) mapper: Mapper,
    /// What the subject in hand becomes; kept for its memory.
    pub(crate) name: Vec<u8>,
    pub(crate) run: Run,
    pub(crate) deliverer: Deliverer,
    /// A large frame's buffer that nobody refers to any more.
    pub(crate) spare_frame: Vec<u8>,
}

/// The part of a worker that delivers.
pub(crate) struct Deliverer {
    pub(super) renderer: Renderer,
    pub(super) rng: fastrand::Rng,
    touched: Vec<Arc<Outbox>>,
    /// Those who are behind, and how many bytes the batch has for each.
    congested: Vec<(Arc<Outbox>, usize)>,
    picks: Vec<Pick>,
    peer_picks: Vec<PeerPick>,
    pick_sorter: Sorter<Pick>,
    peer_pick_sorter: Sorter<PeerPick>,
    /// Frames that reached somebody, kept only when it matters.
    reached: Vec<bool>,
    /// What was delivered since somebody last counted it.
    pub(crate) delivered: Delivered,
    /// Messages that nobody got because those that were to were too far behind.
    pub(crate) messages_dropped: u64,
    /// Deliveries that permissions forbade.
    pub(crate) deliveries_denied: u64,
    /// The message in hand is traced.
    pub(crate) trace: Option<Box<Trace>>,
}

/// A frame and the queue group's member it goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pick {
    member: usize,
    frame: usize,
}

/// A frame and the peer that it goes to for a queue group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PeerPick {
    /// Of [`Peers::targets`].
    target: usize,
    frame: usize,
    /// Of [`Peers::groups`].
    group: usize,
}

/// Who of a queue group gets a frame.
enum Chosen {
    Here(usize),
    /// One of [`Peers::targets`].
    There(usize),
}

/// Where a run comes from.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// It was published on this server. Peers get it as well.
    Here,
    /// A peer sent it. No peer gets it: a message takes one hop.
    Peer {
        /// Queue groups of which one member each gets it.
        queues: Queues<'a>,
        /// It is not for those outside of groups, who have got it already.
        is_stray: bool,
    },
}

/// Who publishes a run, and under which rules.
pub(crate) struct Publisher<'a> {
    pub(crate) origin: Origin<'a>,
    pub(crate) outbox: &'a Arc<Outbox>,
    pub(crate) echo: bool,
    /// Whether the message came from another account. Such messages are not for those who hear an account's streams.
    pub(crate) is_crossing: bool,
    pub(crate) account: &'a Account,
}

impl Publisher<'_> {
    pub(super) fn may_reach(&self, subscription: &Subscription) -> bool {
        (self.echo || !Arc::ptr_eq(self.outbox, subscription.outbox()))
            && !(self.is_crossing && subscription.is_shadow())
    }

    /// Whether those outside of queue groups get it.
    pub(super) fn is_for_plain(&self) -> bool {
        !matches!(self.origin, Origin::Peer { is_stray: true, .. })
    }

    pub(super) fn may_reach_group(&self, name: &[u8]) -> bool {
        match self.origin {
            Origin::Here => true,
            Origin::Peer { mut queues, .. } => queues.any(|queue| queue == name),
        }
    }
}

impl Worker {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            buffer: vec![0; LARGE_MESSAGES_READ_BYTES_MAX],
            cache: RouteCache::new(seed),
            verdicts: Verdicts::new(seed),
            mapper: Mapper::new(seed),
            name: Vec::new(),
            run: Run::new(),
            deliverer: Deliverer {
                renderer: Renderer::default(),
                rng: fastrand::Rng::with_seed(seed),
                touched: Vec::new(),
                congested: Vec::new(),
                picks: Vec::new(),
                peer_picks: Vec::new(),
                pick_sorter: Sorter::default(),
                peer_pick_sorter: Sorter::default(),
                reached: Vec::new(),
                delivered: Delivered::default(),
                messages_dropped: 0,
                deliveries_denied: 0,
                trace: None,
            },
            spare_frame: Vec::new(),
        }
    }
}

impl Deliverer {
    /// Delivers a run and empties it. `unreached` is told the frames that nobody received, if any of them
    /// asked for a reply.
    pub(crate) fn deliver(
        &mut self,
        run: &mut Run,
        source: Source<'_>,
        publisher: &Publisher<'_>,
        direct: bool,
        now: Instant,
        mut unreached: impl FnMut(&mut Self, usize, &Run),
    ) {
        if run.frames.is_empty() {
            return;
        }
        if self.trace.is_some() {
            return self.deliver_traced(run, source, publisher, now, unreached);
        }
        self.renderer.start_run();
        let plain_len = run.receivers.plain_len();
        // Those who take part of a run take its first frames.
        let mut reached_first = 0;
        let mut is_restricted = false;
        let plain = publisher.is_for_plain().then(|| run.receivers.plain());
        for subscriber in plain.into_iter().flatten() {
            if subscriber.0.is_restricted() {
                is_restricted = true;
            } else if publisher.may_reach(&subscriber.0) {
                let reached = self.deliver_all(
                    run,
                    source,
                    &subscriber.0,
                    publisher,
                    plain_len > 1,
                    direct,
                    now,
                );
                reached_first = reached_first.max(reached);
            }
        }
        let track = run.has_replies && reached_first < run.frames.len();
        if track {
            self.reached.clear();
            self.reached.resize(run.frames.len(), false);
            self.reached[..reached_first].fill(true);
        }
        if is_restricted {
            self.deliver_to_restricted(run, source, publisher, track, direct, now);
        }
        let peers = match publisher.origin {
            Origin::Here => run.receivers.peers().map(Arc::clone),
            Origin::Peer { .. } => None,
        };
        for group in run.receivers.groups() {
            if !publisher.may_reach_group(group.name()) {
                continue;
            }
            let spread = peers
                .as_deref()
                .and_then(|peers| Some((peers, peers.find_group(group.name())?)));
            self.deliver_to_group(run, source, group, spread, publisher, track, direct, now);
        }
        if let Some(peers) = &peers {
            self.deliver_to_peers(run, source, peers, publisher, track, direct, now);
        }
        if track {
            for frame in 0..run.frames.len() {
                if !self.reached[frame] && run.frames[frame].reply.len() > 0 {
                    unreached(self, frame, run);
                }
            }
        }
        self.renderer.start_run();
        run.clear_frames();
    }

    /// Notes that `outbox` has to be flushed at the end of the batch.
    pub(crate) fn touch(&mut self, outbox: &Arc<Outbox>) {
        self.touched.push(Arc::clone(outbox));
    }

    /// Flushes every outbox the batch appended to.
    pub(crate) fn flush_touched(&mut self, now: Instant) {
        for outbox in self.touched.drain(..) {
            outbox.flush(now);
        }
    }

    /// The outboxes whose producers should slow down, as the batch left them.
    pub(crate) fn take_congested(&mut self) -> Vec<Arc<Outbox>> {
        self.congested.drain(..).map(|(outbox, _)| outbox).collect()
    }

    /// The most bytes that the batch had for one of these outboxes.
    pub(crate) fn congesting_bytes(&self) -> usize {
        let bytes = self.congested.iter().map(|(_, bytes)| *bytes);
        bytes.max().unwrap_or_default()
    }

    /// Delivers to a plain subscription; returns how many frames, from the first, it took.
    #[expect(
        clippy::too_many_arguments,
        reason = "one delivery, spelled out; a struct would only rename them"
    )]
    fn deliver_all(
        &mut self,
        run: &Run,
        source: Source<'_>,
        subscription: &Arc<Subscription>,
        publisher: &Publisher<'_>,
        is_shared: bool,
        direct: bool,
        now: Instant,
    ) -> usize {
        let outbox = subscription.outbox();
        if subscription.max() != 0 {
            return self.deliver_counted(
                run,
                source,
                subscription,
                publisher,
                0..run.frames.len(),
                now,
            );
        }
        trace_out(run, source, subscription, 0..run.frames.len());
        let mut rendering =
            self.renderer
                .render_run(run, source, Target::of(subscription), is_shared);
        let amount = rendering.amount();
        let mut must_flush = false;
        let offered = outbox.offer(
            Some(subscription),
            &mut rendering,
            direct,
            now,
            &mut must_flush,
        );
        if offered == Offered::Counted {
            return self.deliver_counted(
                run,
                source,
                subscription,
                publisher,
                0..run.frames.len(),
                now,
            );
        }
        if self.settle(outbox, offered, must_flush, amount) {
            run.frames.len()
        } else {
            0
        }
    }

    /// Delivers to a subscription that ends after a number of messages, one that may be reached between two
    /// frames of this run. Returns how many of `frames` it took.
    fn deliver_counted(
        &mut self,
        run: &Run,
        source: Source<'_>,
        subscription: &Arc<Subscription>,
        publisher: &Publisher<'_>,
        frames: std::ops::Range<usize>,
        now: Instant,
    ) -> usize {
        let outbox = subscription.outbox();
        let (mut must_flush, mut exhausted) = (false, false);
        let mut amount = Amount::default();
        let renderer = &mut self.renderer;
        let first = frames.start;
        let (offered, taken) = outbox.offer_counted(
            subscription,
            frames.len(),
            now,
            &mut must_flush,
            &mut exhausted,
            |taken, queue| {
                let mut rendering = renderer.render_frames(
                    run,
                    source,
                    Target::of(subscription),
                    first..first + taken,
                );
                amount = rendering.amount();
                queue(&mut rendering);
            },
        );
        if exhausted {
            remove_from_index(publisher.account, subscription);
        }
        if offered == Offered::Dropped {
            amount.messages = frames.len();
        }
        self.settle(outbox, offered, must_flush, amount);
        trace_out(run, source, subscription, first..first + taken);
        taken
    }

    /// Delivers to plain subscriptions whose user may not receive everything, or may answer what it receives.
    fn deliver_to_restricted(
        &mut self,
        run: &Run,
        source: Source<'_>,
        publisher: &Publisher<'_>,
        track: bool,
        direct: bool,
        now: Instant,
    ) {
        let mut picks = std::mem::take(&mut self.picks);
        for Subscriber(subscription) in run.receivers.plain() {
            if !subscription.is_restricted() || !publisher.may_reach(subscription) {
                continue;
            }
            picks.clear();
            let frames = 0..run.frames.len();
            let admitted = frames.filter(|&frame| admits(subscription, run, source, frame, now));
            picks.extend(admitted.map(|frame| Pick { member: 0, frame }));
            self.deliveries_denied += (run.frames.len() - picks.len()) as u64;
            if picks.is_empty() {
                continue;
            }
            let is_taken = subscription.max() == 0
                && self.deliver_picked(run, source, subscription, &picks, direct, now);
            for &Pick { frame, .. } in &picks {
                let reached = is_taken
                    || self.deliver_admitted(run, source, subscription, publisher, frame, now);
                if track && reached {
                    self.reached[frame] = true;
                }
            }
        }
        self.picks = picks;
    }

    /// Delivers each frame to one member of the group. Each member gets its frames in order.
    #[expect(
        clippy::too_many_arguments,
        reason = "one delivery, spelled out; a struct would only rename them"
    )]
    fn deliver_to_group(
        &mut self,
        run: &Run,
        source: Source<'_>,
        group: &QueueGroup<Subscriber>,
        spread: Option<(&Peers, usize)>,
        publisher: &Publisher<'_>,
        track: bool,
        direct: bool,
        now: Instant,
    ) {
        let mut picks = std::mem::take(&mut self.picks);
        picks.clear();
        let elsewhere = spread.map(|(peers, number)| Elsewhere::of(peers, &peers.groups[number]));
        let weight = elsewhere.as_ref().map_or(0, |elsewhere| elsewhere.weight);
        for frame in 0..run.frames.len() {
            let may = |member: &usize| {
                let subscription = &group.member(*member).0;
                publisher.may_reach(subscription)
                    && subscription.is_open()
                    && may_receive(subscription, run, source, frame)
            };
            let chosen = self.rng.u64(0..group.len() as u64 + weight);
            let member = match usize::try_from(chosen) {
                Ok(chosen) if chosen < group.len() => after(chosen, group.len()).find(may),
                _ => None,
            };
            let chosen = match (member, &elsewhere) {
                (Some(member), _) => Some(Chosen::Here(member)),
                (None, None) => None,
                (None, Some(elsewhere)) => elsewhere
                    .choose(&mut self.rng)
                    .map(Chosen::There)
                    .or_else(|| (0..group.len()).find(may).map(Chosen::Here)),
            };
            if chosen.is_none() {
                // Whoever could be reached was not let.
                let mut members = (0..group.len()).map(|member| &group.member(member).0);
                let is_denied =
                    members.any(|member| publisher.may_reach(member) && member.is_open());
                self.deliveries_denied += u64::from(is_denied);
            }
            match (chosen, spread) {
                (Some(Chosen::Here(member)), _) => picks.push(Pick { member, frame }),
                (Some(Chosen::There(target)), Some((_, group))) => {
                    self.peer_picks.push(PeerPick {
                        target,
                        frame,
                        group,
                    });
                }
                _ => {}
            }
        }
        // Members that count their messages hand over to others in the middle of a run; then frames go one
        // by one. Otherwise each member gets its share at once.
        let dropped_before = self.messages_dropped;
        if picks
            .iter()
            .all(|pick| group.member(pick.member).0.max() == 0)
        {
            (self.pick_sorter).sort(&mut picks, group.len(), |pick| pick.member);
            // Only with a single member is it safe to leave for a system call between two offers: another
            // could be closed meanwhile, and its frames would come too late for those served before it.
            let direct = direct && group.len() == 1;
            self.deliver_shares(run, source, group, &mut picks, track, direct, now);
        }
        // What one member was too slow for is lost only if no other takes it.
        let mut dropped = 0;
        for pick in &picks {
            self.messages_dropped = 0;
            let reached = after(pick.member, group.len()).any(|member| {
                self.deliver_one(run, source, &group.member(member).0, publisher, *pick, now)
            });
            dropped += u64::from(!reached && self.messages_dropped > 0);
            if track && reached {
                self.reached[pick.frame] = true;
            }
        }
        self.messages_dropped = dropped_before + dropped;
        self.picks = picks;
    }

    /// Delivers to peers: each gets a message once, with the names of the queue groups of which it is to choose a member.
    #[expect(
        clippy::too_many_arguments,
        reason = "one delivery, spelled out; a struct would only rename them"
    )]
    fn deliver_to_peers(
        &mut self,
        run: &Run,
        source: Source<'_>,
        peers: &Peers,
        publisher: &Publisher<'_>,
        track: bool,
        direct: bool,
        now: Instant,
    ) {
        let mut picks = std::mem::take(&mut self.peer_picks);
        for (number, group) in peers.groups.iter().enumerate() {
            if group.local.is_none() {
                let elsewhere = Elsewhere::of(peers, group);
                for frame in 0..run.frames.len() {
                    let target = elsewhere.choose(&mut self.rng);
                    picks.extend(target.map(|target| PeerPick {
                        target,
                        frame,
                        group: number,
                    }));
                }
            }
        }
        if peers.groups.len() > 1 {
            // Each group's are in the order of frames; a frame that is for several groups is sent once.
            picks.sort_unstable();
        } else {
            let targets = peers.targets.len();
            (self.peer_pick_sorter).sort(&mut picks, targets, |pick| pick.target);
        }
        let mut rest = &picks[..];
        let has_several = peers.targets.len() > 1;
        for (position, target) in peers.targets.iter().enumerate() {
            let count = rest.partition_point(|pick| pick.target == position);
            let (own, others) = rest.split_at(count);
            rest = others;
            if own.is_empty() && !target.is_plain {
                continue;
            }
            let outbox = target.link.outbox();
            let shape = Target::peer(&target.link, publisher.account.name());
            let mut rendering = if own.is_empty() {
                self.renderer.render_run(run, source, shape, has_several)
            } else {
                let directed = directed(run.frames.len(), peers, own, target.is_plain);
                self.renderer.render_directed(run, source, shape, directed)
            };
            let amount = rendering.amount();
            let mut must_flush = false;
            let offered = outbox.offer(None, &mut rendering, direct, now, &mut must_flush);
            let is_taken = self.settle(outbox, offered, must_flush, amount);
            if is_taken {
                self.delivered.messages_to_routes += amount.messages as u64;
                self.delivered.bytes_to_routes += amount.payload_bytes as u64;
            }
            if track && is_taken {
                if target.is_plain {
                    self.reached.fill(true);
                }
                own.iter().for_each(|pick| self.reached[pick.frame] = true);
            }
        }
        picks.clear();
        self.peer_picks = picks;
    }

    /// Offers each member all frames picked for it, and leaves in `picks`, in the order of frames, those that
    /// a member which was closed in this moment did not take.
    #[expect(
        clippy::too_many_arguments,
        reason = "one delivery, spelled out; a struct would only rename them"
    )]
    fn deliver_shares(
        &mut self,
        run: &Run,
        source: Source<'_>,
        group: &QueueGroup<Subscriber>,
        picks: &mut Vec<Pick>,
        track: bool,
        direct: bool,
        now: Instant,
    ) {
        let mut refused = Vec::new();
        for share in picks.chunk_by(|a, b| a.member == b.member) {
            let subscription = &group.member(share[0].member).0;
            if subscription.is_restricted() {
                // They may, as was found when it was picked; this notes what it may answer.
                for pick in share {
                    admits(subscription, run, source, pick.frame, now);
                }
            }
            if !self.deliver_picked(run, source, subscription, share, direct, now) {
                share
                    .iter()
                    .for_each(|pick| retract(subscription, run, source, pick.frame));
                refused.extend_from_slice(share);
            } else if track {
                share
                    .iter()
                    .for_each(|pick| self.reached[pick.frame] = true);
            }
        }
        refused.sort_unstable_by_key(|pick| pick.frame);
        picks.clear();
        picks.append(&mut refused);
    }

    fn deliver_picked(
        &mut self,
        run: &Run,
        source: Source<'_>,
        subscription: &Arc<Subscription>,
        picks: &[Pick],
        direct: bool,
        now: Instant,
    ) -> bool {
        let outbox = subscription.outbox();
        let frames = picks.iter().map(|pick| pick.frame);
        trace_out(run, source, subscription, frames.clone());
        let mut rendering =
            self.renderer
                .render_frames(run, source, Target::of(subscription), frames);
        let amount = rendering.amount();
        let mut must_flush = false;
        let offered = outbox.offer(
            Some(subscription),
            &mut rendering,
            direct,
            now,
            &mut must_flush,
        );
        self.settle(outbox, offered, must_flush, amount)
    }

    fn deliver_one(
        &mut self,
        run: &Run,
        source: Source<'_>,
        subscription: &Arc<Subscription>,
        publisher: &Publisher<'_>,
        pick: Pick,
        now: Instant,
    ) -> bool {
        let frame = pick.frame;
        publisher.may_reach(subscription)
            && admits(subscription, run, source, frame, now)
            && self.deliver_admitted(run, source, subscription, publisher, frame, now)
    }

    /// Delivers one frame that has just been [admitted](admits). Returns whether it was taken.
    pub(super) fn deliver_admitted(
        &mut self,
        run: &Run,
        source: Source<'_>,
        subscription: &Arc<Subscription>,
        publisher: &Publisher<'_>,
        frame: usize,
        now: Instant,
    ) -> bool {
        let frames = frame..frame + 1;
        let is_taken = self.deliver_counted(run, source, subscription, publisher, frames, now) == 1;
        if !is_taken {
            retract(subscription, run, source, frame);
        }
        is_taken
    }

    /// Books what an offer came to. Returns whether the messages were accepted.
    pub(super) fn settle(
        &mut self,
        outbox: &Arc<Outbox>,
        offered: Offered,
        must_flush: bool,
        amount: Amount,
    ) -> bool {
        if must_flush {
            self.touched.push(Arc::clone(outbox));
        }
        match offered {
            Offered::Closed | Offered::Counted => return false,
            Offered::Dropped => {
                self.messages_dropped += amount.messages as u64;
                return false;
            }
            Offered::Congested => {
                let mut known = self.congested.iter_mut();
                match known.find(|(known, _)| Arc::ptr_eq(known, outbox)) {
                    Some((_, bytes)) => *bytes += amount.bytes,
                    None => self.congested.push((Arc::clone(outbox), amount.bytes)),
                }
            }
            Offered::Accepted => {}
        }
        // What the server hears itself is delivered to no client.
        if !outbox.is_servers_own() {
            self.delivered.messages += amount.messages as u64;
            self.delivered.bytes += amount.payload_bytes as u64;
        }
        true
    }
}

/// Whether a frame may be delivered to a subscription.
pub(super) fn may_receive(
    subscription: &Subscription,
    run: &Run,
    source: Source<'_>,
    frame: usize,
) -> bool {
    if !subscription.is_restricted() {
        return true;
    }
    let mut name = Vec::new();
    let subject = run.subject(&run.frames[frame], source.input);
    let subject = subscription.local_subject(subject, &mut name);
    let restrictions = subscription.outbox().restrictions();
    restrictions.may_receive(subscription, subject)
}

/// Whether a frame may be delivered to a subscription, which is about to happen: if it is a request, it may be
/// answered from now on.
pub(super) fn admits(
    subscription: &Subscription,
    run: &Run,
    source: Source<'_>,
    frame: usize,
    now: Instant,
) -> bool {
    if !subscription.is_restricted() {
        return true;
    }
    let frame = &run.frames[frame];
    let mut name = Vec::new();
    let subject = subscription.local_subject(run.subject(frame, source.input), &mut name);
    let reply = frame.reply.of_bytes(source.input);
    let restrictions = subscription.outbox().restrictions();
    restrictions.admit(subscription, subject, reply, now)
}

/// A frame that was [admitted](admits) was not delivered: it cannot be answered.
fn retract(subscription: &Subscription, run: &Run, source: Source<'_>, frame: usize) {
    if subscription.is_restricted() {
        let reply = run.frames[frame].reply.of_bytes(source.input);
        subscription.outbox().restrictions().retract(reply);
    }
}

/// Logs what is offered to a client, without payloads.
fn trace_out(
    run: &Run,
    source: Source<'_>,
    subscription: &Subscription,
    frames: impl Iterator<Item = usize>,
) {
    if !tracing::enabled!(tracing::Level::TRACE) {
        return;
    }
    let mut name = Vec::new();
    for frame in frames.map(|index| &run.frames[index]) {
        let subject = subscription.local_subject(run.subject(frame, source.input), &mut name);
        tracing::trace!(
            "cid:{} - ->> [MSG {} {} {}]",
            subscription.outbox().id(),
            subject.escape_ascii(),
            subscription.sid().escape_ascii(),
            frame.body().len(),
        );
    }
}

/// A queue group's members on other servers, while a run is delivered.
pub(super) struct Elsewhere<'a> {
    peers: &'a Peers,
    group: &'a PeerGroup,
    /// Of those that are no leaf nodes', in all.
    pub(super) weight: u64,
}

impl<'a> Elsewhere<'a> {
    pub(super) fn of(peers: &'a Peers, group: &'a PeerGroup) -> Self {
        let near = group
            .members
            .iter()
            .filter(|(_, member)| !member.is_of_leaf());
        Self {
            peers,
            group,
            weight: near.map(|(_, member)| u64::from(member.weight())).sum(),
        }
    }

    /// A peer, by the number of its members; one with leaf nodes' members only if there are no others.
    pub(super) fn choose(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        let is_open = |target: usize| !self.peers.targets[target].link.outbox().is_closed();
        if self.weight > 0 {
            let mut left = rng.u64(0..self.weight);
            let near = self
                .group
                .members
                .iter()
                .filter(|(_, member)| !member.is_of_leaf());
            for &(target, ref member) in near {
                let weight = u64::from(member.weight());
                if left < weight && is_open(target) {
                    return Some(target);
                }
                left = left.saturating_sub(weight);
            }
        }
        // Weights may have changed since they were added up, and a connection may have ended.
        let mut all = self.group.members.iter();
        all.find(|&&(target, ref member)| member.weight() > 0 && is_open(target))
            .map(|&(target, _)| target)
    }
}

/// The frames that go to one peer, each with the names of the queue groups it is picked for.
fn directed<'a>(
    frames: usize,
    peers: &'a Peers,
    picks: &'a [PeerPick],
    is_plain: bool,
) -> impl Iterator<Item = (usize, impl Iterator<Item = &'a [u8]>)> {
    let mut rest = picks;
    (0..frames).filter_map(move |frame| {
        let count = rest.iter().take_while(|pick| pick.frame == frame).count();
        let (own, others) = rest.split_at(count);
        rest = others;
        let names = own.iter().map(|pick| &*peers.groups[pick.group].name);
        (is_plain || count > 0).then_some((frame, names))
    })
}

/// All members of a group, beginning with one.
pub(super) fn after(first: usize, len: usize) -> impl Iterator<Item = usize> {
    (first..len).chain(0..first)
}

/// Takes a closed subscription, or what a shadow is the shadow of, out of the indexes it is in.
pub(crate) fn remove_from_index(account: &Account, subscription: &Arc<Subscription>) {
    Subscription::remove_from_indexes(subscription, account);
    let is_heard = |subject: &[u8]| !account.index().matches(subject).is_empty();
    account
        .awaited
        .unsubscribed(subscription.subject(), is_heard);
}
