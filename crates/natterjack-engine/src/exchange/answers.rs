//! Requests to an account's services that wait for answers: which are expected, and where they go.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use natterjack_subject::{is_literal, matches};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::latency::{LatencyOutcome, Tracked, header_bytes};
use super::measures::{RemoteMeasure, push_suffix};
use super::service::{Offer, Terms};
use crate::access::ResponseType;
use crate::account::Account;
use crate::system::{Report, Reports};

/// Requests remembered per account that answers, and bytes of what clients said in them: their subjects, and the headers
/// for which they are measured. Beyond, the oldest are forgotten.
const REQUESTS_MAX: usize = 64 * 1024;
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of what another server says of who has answered. Servers' own are a few hundred; longer ones are left out.
const RESPONDER_BYTES_MAX: usize = 16 * 1024;

/// Answered requests that stay in the order of requests beyond as many as are open, twice.
const ANSWERED_MAX: usize = 1024;

/// How long is waited, after an answer, for what the server of who answered has measured. That goes another way, at the
/// same time.
const MEASURE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Requests of other accounts that this account may answer, by the subjects its answers go to.
#[derive(Default)]
pub(crate) struct PendingAnswers {
    prefix: OnceLock<Box<str>>,
    pending: Mutex<Option<Box<Pending>>>,
}

struct Pending {
    /// Has swallowed a secret; what comes out after a number depends on it.
    secret: DefaultHasher,
    requests: u64,
    open: HashMap<Box<[u8]>, Request, RandomState>,
    /// Bytes of what clients said in those in `open`.
    open_bytes: usize,
    /// In the order they came, with some of those that are answered.
    order: VecDeque<Box<[u8]>>,
    /// Those that were answered by a client of another server, which is about to tell what it has measured.
    answered: HashMap<Box<[u8]>, Answered, RandomState>,
    /// Those in `open` that are measured, and those in `answered`, by the end of their time and their number.
    measured: BTreeMap<(Instant, u64), Box<[u8]>>,
    /// When the shell looks after them the next time, if it knows of any.
    looked_after_at: Option<Instant>,
}

struct Request {
    /// The account of who asked, which may be gone by the time. Two accounts may have asked each other.
    account: Weak<Account>,
    reply: Box<[u8]>,
    offer: Arc<Offer>,
    terms: Terms,
    until: Instant,
    tracked: Option<(u64, Box<Tracked>)>,
}

struct Answered {
    tracked: Box<Tracked>,
    after: Duration,
    /// Its place in `measured`.
    place: (Instant, u64),
}

/// A request, to be remembered.
pub(crate) struct Expected<'a> {
    /// The account of who asks.
    pub(crate) account: &'a Arc<Account>,
    /// Where it wants its answer.
    pub(crate) reply: &'a [u8],
    /// The service it asks.
    pub(crate) offer: &'a Arc<Offer>,
    pub(crate) terms: Terms,
    pub(crate) tracked: Option<Box<Tracked>>,
    /// The short name of this server.
    pub(crate) server: Option<&'a str>,
}

/// Where an answer goes.
pub(crate) struct Way {
    /// The account of who asked.
    pub(crate) account: Arc<Account>,
    /// Where it wants its answer.
    pub(crate) reply: Box<[u8]>,
    /// The service that answers.
    pub(crate) offer: Arc<Offer>,
    /// How it answers, if the answer asks in turn.
    pub(crate) terms: Terms,
    /// The request, if it is measured and this is its answer.
    pub(crate) tracked: Option<Box<Tracked>>,
}

/// What subjects of answers begin with.
pub(crate) const ANSWER_PREFIX: &[u8] = b"_R_.";

/// Requests that ended, by the subjects of their answers. What came of them is told when no lock is held.
type Ended = SmallVec<[(Box<[u8]>, Request); 2]>;

impl PendingAnswers {
    /// What subjects of answers to this account's services begin with, its last dot included: the same as long as the
    /// account is there. Every such answer is to be published in this account, by whomever, and finds its way from
    /// there.
    ///
    /// `announce` is told it once, before anybody else learns of it: peers have to know that such subjects are wanted here
    /// before they are asked.
    pub(crate) fn prefix(&self, seed: impl Fn() -> u64, announce: impl FnOnce(&str)) -> &str {
        self.prefix.get_or_init(|| {
            let mut prefix = "_R_.".to_owned();
            push_digits(&mut prefix, seed(), 6);
            prefix.push('.');
            announce(&prefix);
            prefix.into()
        })
    }

    /// Remembers a request, and returns the subject its answer is to be published to: one that nobody can guess.
    pub(crate) fn expect(
        &self,
        expected: Expected<'_>,
        reports: &Reports,
        seed: impl Fn() -> u64,
        now: Instant,
    ) -> Box<[u8]> {
        let prefix = self.prefix(&seed, |_| {});
        let mut ended = Ended::new();
        let mut pending = self.pending.lock();
        let known = pending.get_or_insert_with(|| Box::new(Pending::new(&seed)));
        known.forget(now, &mut ended);
        let subject = known.add(expected, prefix, reports, now);
        drop(pending);
        settle(ended, || LatencyOutcome::TimedOut);
        subject
    }

    /// Where an answer to `subject` goes; one that is the only or the last one, because it is empty, ends the request. What
    /// goes in a circle answers nothing (nats-server `processServiceImport`). With `elsewhere` another server measures who
    /// answers, and the request is reported there once that is told.
    pub(crate) fn take(
        &self,
        subject: &[u8],
        is_empty: bool,
        elsewhere: Option<&Reports>,
        now: Instant,
        is_circle: impl Fn(&Offer) -> bool,
    ) -> Option<Way> {
        let mut pending = self.pending.lock();
        let known = pending.as_mut()?;
        let request = known.open.get_mut(subject)?;
        if is_circle(&request.offer) {
            return None;
        }
        let is_over = now > request.until;
        if !is_over && !is_empty && request.terms.response_type != ResponseType::Singleton {
            request.until = now + request.terms.threshold;
            return Some(Way {
                account: request.account.upgrade()?,
                reply: request.reply.clone(),
                offer: Arc::clone(&request.offer),
                terms: request.terms,
                tracked: None,
            });
        }
        let (subject, mut request) = known.remove(subject)?;
        let is_tracked = request.tracked.is_some();
        let mut done = None;
        if let Some(reports) = elsewhere
            && !is_over
            && request.account.strong_count() > 0
            && let Some((_, tracked)) = request.tracked.take()
        {
            // Under the same lock: the other server may be telling what it has measured at this very moment.
            done = known.await_measure(&subject, tracked, reports, now);
        }
        drop(pending);
        if let Some((tracked, outcome)) = done {
            tracked.finish(outcome);
        }
        if is_over {
            settle(Ended::from_iter([(subject, request)]), || {
                LatencyOutcome::TimedOut
            });
            return None;
        }
        let account = request.account.upgrade()?;
        let tracked = request.tracked.take().map(|(_, tracked)| tracked);
        if is_tracked {
            account.awaited.remove(&request.reply, &subject);
        }
        Some(Way {
            account,
            reply: request.reply,
            offer: request.offer,
            terms: request.terms,
            tracked,
        })
    }

    /// Another server has told what it has measured of a request, before or after the answer has come.
    pub(crate) fn measured(&self, subject: &[u8], mut measure: RemoteMeasure) {
        (measure.responder).take_if(|responder| responder.len() > RESPONDER_BYTES_MAX);
        let mut pending = self.pending.lock();
        let Some(known) = pending.as_mut() else {
            return;
        };
        if known.open.contains_key(subject) {
            known.keep_measure(subject, measure);
            return;
        }
        let Some(answered) = known.answered.remove(subject) else {
            return;
        };
        known.measured.remove(&answered.place);
        drop(pending);
        let Answered { tracked, after, .. } = answered;
        tracked.finish(LatencyOutcome::AnsweredElsewhere { measure, after });
    }

    /// Nobody heard the request, or whoever asked does not hear the answer.
    pub(crate) fn forget(&self, subject: &[u8], why: impl Fn() -> LatencyOutcome) {
        let mut pending = self.pending.lock();
        let ended = pending.as_mut().and_then(|pending| pending.remove(subject));
        drop(pending);
        settle(ended.into_iter().collect(), why);
    }

    /// Ends the requests that are measured and not answered in time. Returns when the next one's time is up.
    pub(crate) fn expire(&self, now: Instant) -> Option<Instant> {
        let (mut ended, mut unmeasured) = (Ended::new(), Vec::new());
        let mut pending = self.pending.lock();
        let known = pending.as_mut()?;
        while let Some(entry) = known.measured.first_entry()
            && entry.key().0 <= now
        {
            let subject = entry.remove();
            ended.extend(known.remove(&subject));
            unmeasured.extend(known.answered.remove(&subject));
        }
        let next = known.measured.keys().next().map(|&(until, _)| until);
        known.looked_after_at = next;
        drop(pending);
        settle(ended, || LatencyOutcome::TimedOut);
        for Answered { tracked, after, .. } in unmeasured {
            let responder = None;
            tracked.finish(LatencyOutcome::Answered { responder, after });
        }
        next
    }
}

/// Says what came of requests, if they were measured.
fn settle(ended: Ended, why: impl Fn() -> LatencyOutcome) {
    for (subject, request) in ended {
        if let Some((_, tracked)) = request.tracked {
            if let Some(account) = request.account.upgrade() {
                account.awaited.remove(&request.reply, &subject);
            }
            tracked.finish(why());
        }
    }
}

impl Pending {
    fn new(seed: impl Fn() -> u64) -> Self {
        let mut secret = DefaultHasher::new();
        (0..4).for_each(|_| secret.write_u64(seed()));
        Self {
            secret,
            requests: 0,
            open: HashMap::default(),
            open_bytes: 0,
            order: VecDeque::new(),
            answered: HashMap::default(),
            measured: BTreeMap::new(),
            looked_after_at: None,
        }
    }

    fn add(
        &mut self,
        expected: Expected<'_>,
        prefix: &str,
        reports: &Reports,
        now: Instant,
    ) -> Box<[u8]> {
        self.requests += 1;
        let number = self.requests;
        let mut hasher = self.secret.clone();
        hasher.write_u64(number);
        let mut subject = prefix.to_owned();
        push_digits(&mut subject, hasher.finish(), 11);
        if let Some(server) = expected.server.filter(|_| expected.tracked.is_some()) {
            push_suffix(&mut subject, server);
        }
        let subject: Box<[u8]> = subject.into_bytes().into();
        let until = now + expected.terms.threshold;
        if let Some(tracked) = &expected.tracked {
            let exporter = tracked.account.clone();
            let awaited = &expected.account.awaited;
            awaited.insert(expected.reply, exporter, subject.clone());
            self.measured.insert((until, number), subject.clone());
            self.look_after(until, reports);
        }
        let request = Request {
            account: Arc::downgrade(expected.account),
            reply: expected.reply.into(),
            offer: Arc::clone(expected.offer),
            terms: expected.terms,
            until,
            tracked: expected.tracked.map(|tracked| (number, tracked)),
        };
        self.open_bytes += request.bytes(&subject);
        self.open.insert(subject.clone(), request);
        self.order.push_back(subject.clone());
        subject
    }

    /// Has the shell come back then.
    fn look_after(&mut self, until: Instant, reports: &Reports) {
        let is_looked_after = self.looked_after_at.is_some_and(|at| at <= until);
        if !is_looked_after && reports.push(Report::AwaitingAnswer(until)) {
            self.looked_after_at = Some(until);
        }
    }

    /// Whether one more that was answered may wait for what another server has measured.
    fn has_room(&self) -> bool {
        self.answered.len() < REQUESTS_MAX
    }

    fn remove(&mut self, subject: &[u8]) -> Option<(Box<[u8]>, Request)> {
        let (subject, request) = self.open.remove_entry(subject)?;
        self.open_bytes -= request.bytes(&subject);
        if let Some((number, _)) = &request.tracked {
            self.measured.remove(&(request.until, *number));
        }
        Some((subject, request))
    }

    /// A request was answered by a client of another server: it is reported once that server has told what it has
    /// measured, or does not. Returns it if that is now.
    fn await_measure(
        &mut self,
        subject: &[u8],
        mut tracked: Box<Tracked>,
        reports: &Reports,
        now: Instant,
    ) -> Option<(Box<Tracked>, LatencyOutcome)> {
        let after = now.saturating_duration_since(tracked.requested);
        if let Some(measure) = tracked.measure.take() {
            return Some((
                tracked,
                LatencyOutcome::AnsweredElsewhere { measure, after },
            ));
        }
        if !self.has_room() {
            let responder = None;
            return Some((tracked, LatencyOutcome::Answered { responder, after }));
        }
        self.requests += 1;
        let place = (now + MEASURE_WAIT_MAX, self.requests);
        self.measured.insert(place, subject.into());
        self.look_after(place.0, reports);
        let answered = Answered {
            tracked,
            after,
            place,
        };
        self.answered.insert(subject.into(), answered);
        None
    }

    /// What another server has measured of a request that is open here stays with it.
    fn keep_measure(&mut self, subject: &[u8], mut measure: RemoteMeasure) {
        let open_bytes = self.open_bytes;
        (measure.responder).take_if(|responder| open_bytes + responder.len() > REQUEST_BYTES_MAX);
        let Some(request) = self.open.get_mut(subject) else {
            return;
        };
        self.open_bytes -= request.bytes(subject);
        if let Some((_, tracked)) = &mut request.tracked {
            tracked.measure = Some(measure);
        }
        self.open_bytes += request.bytes(subject);
    }

    /// Forgets, from the oldest on, what is over, and what is too much. Amortised, a few steps per request.
    fn forget(&mut self, now: Instant, ended: &mut Ended) {
        while let Some(subject) = self.order.front() {
            let is_full = self.open.len() >= REQUESTS_MAX || self.open_bytes > REQUEST_BYTES_MAX;
            let request = self.open.get(subject);
            if !is_full && request.is_some_and(|request| now <= request.until) {
                break;
            }
            if let Some(subject) = self.order.pop_front() {
                ended.extend(self.remove(&subject));
            }
        }
        // One that waits long at the front must not keep all that were answered after it.
        if self.order.len() > 2 * self.open.len() + ANSWERED_MAX {
            self.order.retain(|subject| self.open.contains_key(subject));
        }
    }
}

impl Request {
    /// Bytes of what a client and another server said, under the subject of the answer.
    fn bytes(&self, subject: &[u8]) -> usize {
        let tracked = self.tracked.as_ref().map_or(0, |(_, tracked)| {
            let measure = tracked.measure.as_ref();
            header_bytes(&tracked.headers) + measure.map_or(0, RemoteMeasure::responder_bytes)
        });
        subject.len() + self.reply.len() + tracked
    }
}

/// Requests of an account that are measured, by where they want their answers: to notice when nobody listens there any
/// more.
#[derive(Default)]
pub(crate) struct AwaitedAnswers {
    /// Of `by_reply`, to be looked at without its lock.
    replies: AtomicUsize,
    by_reply: Mutex<HashMap<Box<[u8]>, Awaited>>,
}

/// Accounts that answer, by the subjects they answer to. A client may want any number of answers in one place.
type Awaited = BTreeMap<Box<[u8]>, Weak<Account>>;

impl AwaitedAnswers {
    fn insert(&self, reply: &[u8], exporter: Weak<Account>, subject: Box<[u8]>) {
        let mut by_reply = self.by_reply.lock();
        let held = by_reply.entry(reply.into()).or_default();
        held.insert(subject, exporter);
        self.replies.store(by_reply.len(), Ordering::Relaxed);
    }

    fn remove(&self, reply: &[u8], subject: &[u8]) {
        let mut by_reply = self.by_reply.lock();
        if let Some(held) = by_reply.get_mut(reply) {
            held.remove(subject);
            if held.is_empty() {
                by_reply.remove(reply);
            }
        }
        self.replies.store(by_reply.len(), Ordering::Relaxed);
    }

    /// A subscription has ended; ends the requests whose answers nobody hears now. Linear in the requests that are
    /// measured and under way if the subscription had wildcards.
    pub(crate) fn unsubscribed(&self, pattern: &[u8], is_heard: impl Fn(&[u8]) -> bool) {
        if self.replies.load(Ordering::Relaxed) == 0 {
            return;
        }
        let concerned: Vec<Box<[u8]>> = {
            let by_reply = self.by_reply.lock();
            if is_literal(pattern) {
                let held = by_reply.get_key_value(pattern);
                held.map(|(reply, _)| reply.clone()).into_iter().collect()
            } else {
                let replies = by_reply.keys().filter(|reply| matches(pattern, reply));
                replies.cloned().collect()
            }
        };
        for reply in concerned.iter().filter(|reply| !is_heard(reply)) {
            let abandoned = self.by_reply.lock().remove(reply).unwrap_or_default();
            for (subject, exporter) in abandoned {
                if let Some(exporter) = exporter.upgrade() {
                    exporter
                        .answers
                        .forget(&subject, || LatencyOutcome::Abandoned);
                }
            }
        }
        let replies = self.by_reply.lock().len();
        self.replies.store(replies, Ordering::Relaxed);
    }
}

fn push_digits(text: &mut String, mut number: u64, count: usize) {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for _ in 0..count {
        text.push(char::from(DIGITS[(number % 62) as usize]));
        number /= 62;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::access::{Latency, Sampling};
    use crate::delivery::outbox::{Outbox, OutboxLimits};
    use crate::delivery::transport::Transport;
    use crate::monitor::record::Record;

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        Instant::now()
    }

    const TERMS: Terms = Terms {
        response_type: ResponseType::Singleton,
        threshold: Duration::from_secs(1),
    };

    fn expect(
        pending: &PendingAnswers,
        account: &Arc<Account>,
        reply: &[u8],
        terms: Terms,
        now: Instant,
    ) -> Box<[u8]> {
        let expected = Expected {
            account,
            reply,
            offer: &Arc::new(Offer::new("A", "svc")),
            terms,
            tracked: None,
            server: Some("S"),
        };
        pending.expect(expected, &Reports::default(), || 7, now)
    }

    #[test]
    fn answers_find_their_way_once_and_in_time() {
        let now = start();
        let (asker, pending) = (Arc::new(Account::new("B")), PendingAnswers::default());
        let first = expect(&pending, &asker, b"r.1", TERMS, now);
        let second = expect(&pending, &asker, b"r.2", TERMS, now);
        assert!(first != second && first.starts_with(ANSWER_PREFIX));
        let way = pending
            .take(&first, false, None, now, |_| false)
            .expect("asked for");
        assert_eq!(&*way.reply, b"r.1");
        assert!(pending.take(&first, false, None, now, |_| false).is_none());
        let late = now + Duration::from_millis(1001);
        assert!(
            pending
                .take(&second, false, None, late, |_| false)
                .is_none()
        );
        let third = expect(&pending, &asker, b"r.3", TERMS, late);
        pending.forget(&third, || LatencyOutcome::Unavailable);
        assert!(pending.take(&third, false, None, late, |_| false).is_none());
    }

    #[test]
    fn streams_go_on_while_they_do_and_end_empty() {
        let now = start();
        let (asker, pending) = (Arc::new(Account::new("B")), PendingAnswers::default());
        let terms = Terms {
            response_type: ResponseType::Streamed,
            ..TERMS
        };
        let subject = expect(&pending, &asker, b"r", terms, now);
        for step in 0..5_u32 {
            let then = now + step * Duration::from_millis(900);
            assert!(
                pending
                    .take(&subject, false, None, then, |_| false)
                    .is_some(),
                "{step}"
            );
        }
        let then = now + 5 * Duration::from_millis(900);
        assert!(
            pending
                .take(&subject, true, None, then, |_| false)
                .is_some()
        );
        assert!(
            pending
                .take(&subject, false, None, then, |_| false)
                .is_none()
        );
    }

    #[test]
    fn what_other_servers_say_of_answers_is_bounded() {
        struct Nowhere;

        impl Transport for Nowhere {
            fn try_write(&self, _: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                Ok(0)
            }

            fn wake(&self) {}
        }

        let now = start();
        let (asker, pending) = (Arc::new(Account::new("B")), PendingAnswers::default());
        let limits = OutboxLimits {
            pending_bytes_max: 0,
            congested_bytes: 0,
            drop_bytes: 0,
            must_finish: false,
        };
        let outbox = Arc::new(Outbox::new(1, limits, Arc::new(Nowhere)));
        let requestor = Arc::new(Record::new(outbox, None, Arc::default(), now));
        let ask = || {
            let tracked = Tracked {
                engine: Weak::new(),
                latency: Arc::new(Latency {
                    sampling: Sampling::default(),
                    subject: "latency".to_owned(),
                }),
                account: Weak::new(),
                requestor: Arc::clone(&requestor),
                is_shared: false,
                headers: Vec::new(),
                requested: now,
                measure: None,
            };
            let expected = Expected {
                account: &asker,
                reply: b"r",
                offer: &Arc::new(Offer::new("A", "svc")),
                terms: TERMS,
                tracked: Some(Box::new(tracked)),
                server: Some("S"),
            };
            pending.expect(expected, &Reports::default(), || 7, now)
        };
        let say = |subject: &[u8], responder_bytes: usize| {
            let measure = RemoteMeasure {
                service: Duration::ZERO,
                round_trip: Duration::ZERO,
                responder: Some("x".repeat(responder_bytes)),
            };
            pending.measured(subject, measure);
            let pending = pending.pending.lock();
            let open = &pending.as_ref().expect("one is open").open;
            let measure = open[subject].tracked.as_ref();
            let measure = measure.and_then(|(_, tracked)| tracked.measure.as_ref());
            measure.expect("it was told").responder_bytes()
        };
        let subject = ask();
        assert_eq!(say(&subject, RESPONDER_BYTES_MAX + 1), 0);
        assert_eq!(say(&subject, RESPONDER_BYTES_MAX), RESPONDER_BYTES_MAX);
        // Again is instead, not beside.
        assert_eq!(say(&subject, RESPONDER_BYTES_MAX), RESPONDER_BYTES_MAX);
        let count = REQUEST_BYTES_MAX / RESPONDER_BYTES_MAX + 10;
        let subjects: Vec<_> = (0..count).map(|_| ask()).collect();
        let said = subjects
            .iter()
            .map(|subject| say(subject, RESPONDER_BYTES_MAX));
        assert!(said.sum::<usize>() <= REQUEST_BYTES_MAX);
        for subject in subjects.iter().chain([&subject]) {
            pending.forget(subject, || LatencyOutcome::Unavailable);
        }
        let open_bytes = (pending.pending.lock().as_ref()).map(|pending| pending.open_bytes);
        assert_eq!(open_bytes, Some(0));
    }

    #[test]
    fn memory_is_bounded() {
        let now = start();
        let (asker, pending) = (Arc::new(Account::new("B")), PendingAnswers::default());
        let first = expect(&pending, &asker, b"r", TERMS, now);
        let mut last = first.clone();
        for _ in 0..REQUESTS_MAX + 10 {
            last = expect(&pending, &asker, b"r", TERMS, now);
        }
        assert!(pending.take(&first, false, None, now, |_| false).is_none());
        assert!(pending.take(&last, false, None, now, |_| false).is_some());
        let held = pending
            .pending
            .lock()
            .as_ref()
            .map(|pending| pending.open.len());
        assert!(held.is_some_and(|held| held <= REQUESTS_MAX), "{held:?}");
        // One that waits is not pushed out by those that are answered, and they do not stay.
        let waiting = expect(&pending, &asker, b"r", TERMS, now + TERMS.threshold * 3);
        for _ in 0..3 * REQUESTS_MAX {
            let later = now + TERMS.threshold * 3;
            let subject = expect(&pending, &asker, b"r", TERMS, later);
            assert!(
                pending
                    .take(&subject, false, None, later, |_| false)
                    .is_some()
            );
        }
        let held = pending
            .pending
            .lock()
            .as_ref()
            .map(|pending| pending.order.len());
        assert!(held.is_some_and(|held| held < 2 * ANSWERED_MAX), "{held:?}");
        let then = now + TERMS.threshold * 3;
        assert!(
            pending
                .take(&waiting, false, None, then, |_| false)
                .is_some()
        );
        let later = now + Duration::from_secs(10);
        expect(&pending, &asker, b"r", TERMS, later);
        let held = pending
            .pending
            .lock()
            .as_ref()
            .map(|pending| pending.open.len());
        assert_eq!(held, Some(1));
    }

    #[test]
    fn many_answers_may_be_awaited_in_one_place() {
        const COUNT: u32 = 100_000;
        let (begin, awaited) = (start(), AwaitedAnswers::default());
        let exporter = Arc::new(Account::new("A"));
        let subject = |number: u32| Box::from(number.to_be_bytes());
        (0..COUNT)
            .for_each(|number| awaited.insert(b"r", Arc::downgrade(&exporter), subject(number)));
        (0..COUNT).for_each(|number| awaited.remove(b"r", &subject(number)));
        assert_eq!(awaited.replies.load(Ordering::Relaxed), 0);
        // Whoever looks through all of them each time takes minutes.
        assert!(start() - begin < Duration::from_secs(10));
    }
}
