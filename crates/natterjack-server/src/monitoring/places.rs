//! Places for connections: how many there are, and who has to leave when all are taken.
//!
//! Whoever holds a place and keeps the server waiting gives it up to the next who comes: first those that are at a
//! handshake, then those that wait for an answer that takes no work, and are given it, those that have not sent a whole
//! request and those that do not take their answer, of each the one that has been at it the longest, and at last those that wait for their turn, of whom the last to
//! come leaves first. So clients that dawdle on purpose, however many, keep nobody out who asks and listens; and no number
//! of strangers at handshakes have anybody leave who speaks in clear text.
//!
//! Of all places only [`BUSY_MAX`] are taken by those whose turn has come, which nobody takes away, and each [`Line`] has
//! its own of them. The others are there for whoever comes, so that a short question gets its answer while everybody asks
//! long ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::clock::now;

/// Connections that are served at one time, of all listeners together.
pub(super) const CONNECTIONS_MAX: usize = 128;

/// Those of them for which the server works, or is about to.
const BUSY_MAX: usize = PAGES_MAX + METRICS_MAX + HANDSHAKES_MAX;
const _: () = assert!(
    BUSY_MAX <= CONNECTIONS_MAX * 3 / 4,
    "nobody could come while all of these are taken"
);

/// Of those, who is to have a page.
pub(super) const PAGES_MAX: usize = 60;

/// Who is to have `/metrics`: few ask for them, and these must not wait for readers of pages.
pub(super) const METRICS_MAX: usize = 4;

/// Who is at a handshake: strangers.
pub(super) const HANDSHAKES_MAX: usize = 32;

/// How long somebody may take a long answer before it is the room of others that is wanted.
const LONG_ANSWER_GRACE: Duration = Duration::from_secs(2);

/// All places.
pub(super) struct Places {
    free: Arc<Semaphore>,
    pages: Semaphore,
    metrics: Semaphore,
    handshakes: Semaphore,
    dawdlers: Mutex<BTreeMap<(Wait, u64), Dawdler>>,
    /// There is a dawdler more.
    came: Notify,
    waits: AtomicU64,
}

/// What a connection keeps the server waiting for, or waits for; who leaves first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// The first of a handshake.
    Hello,
    /// It is the server that makes it wait, which has done nothing for it yet.
    HandshakeTurn,
    /// What comes next in a handshake.
    Handshake,
    /// It is made to wait for an answer that takes no work, and gets it when it has to leave.
    OffHand,
    Request,
    AnswerTaken,
    /// The same with an answer that takes some of the room that there is for long ones.
    LongAnswerTaken,
    /// It is the server that makes it wait.
    Turn,
}

/// What there are turns for. Who waits in one line waits for nobody in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Pages,
    Metrics,
    Handshakes,
}

struct Dawdler {
    leave: Arc<Leave>,
    since: Instant,
}

/// Whether a connection has to give up its place.
pub(super) struct Leave {
    is_asked: AtomicBool,
    asked: Notify,
}

impl Leave {
    fn new() -> Self {
        Self {
            is_asked: AtomicBool::new(false),
            asked: Notify::new(),
        }
    }

    fn ask(&self) {
        self.is_asked.store(true, Ordering::Release);
        self.asked.notify_one();
    }

    /// Waits until it has to.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    leave: Arc<Leave>,
    standing: Mutex<Standing>,
    _permit: OwnedSemaphorePermit,
}

struct Standing {
    waiting: Option<(Wait, u64)>,
    /// The number of the wait for a request, which goes on although a byte arrives now and then.
    request: u64,
    /// The same of the wait until the last answer is taken, and when it was made.
    answer: u64,
    answered: Instant,
    is_answer_long: bool,
}

impl Places {
    pub(super) fn new() -> Self {
        Self::of(CONNECTIONS_MAX, PAGES_MAX, HANDSHAKES_MAX)
    }

    fn of(count: usize, pages: usize, handshakes: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            pages: Semaphore::new(pages),
            metrics: Semaphore::new(METRICS_MAX),
            handshakes: Semaphore::new(handshakes),
            dawdlers: Mutex::default(),
            came: Notify::new(),
            waits: AtomicU64::new(0),
        }
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// A place for a connection that has come, if need be somebody else's. `None` if the places are closed.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Place> {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            let came = self.came.notified();
            let was_somebody = self.evict();
            tokio::select! {
                permit = Arc::clone(&self.free).acquire_owned() => break permit.ok()?,
                // One that has to leave is enough; with none there is, the next will do.
                () = came, if !was_somebody => {}
            }
        };
        Some(Place {
            places: Arc::clone(self),
            leave: Arc::new(Leave::new()),
            standing: Mutex::new(Standing {
                waiting: None,
                request: self.number(),
                answer: 0,
                answered: now(),
                is_answer_long: false,
            }),
            _permit: permit,
        })
    }

    /// Has one dawdler leave; whether there was one.
    fn evict(&self) -> bool {
        let first = self.dawdlers.lock().pop_first();
        first.inspect(|(_, dawdler)| dawdler.leave.ask()).is_some()
    }

    /// Has the one leave who has been at taking a long answer the longest, if that is long.
    pub(super) fn evict_of_long_answers(&self, now: Instant) {
        let mut dawdlers = self.dawdlers.lock();
        let long = (Wait::LongAnswerTaken, 0)..=(Wait::LongAnswerTaken, u64::MAX);
        let first = dawdlers.range(long).next();
        let late = first.filter(|(_, dawdler)| dawdler.since + LONG_ANSWER_GRACE <= now);
        if let Some(key) = late.map(|(key, _)| *key) {
            let late = dawdlers.remove(&key);
            late.inspect(|dawdler| dawdler.leave.ask());
        }
    }

    fn turns(&self, line: Line) -> &Semaphore {
        match line {
            Line::Pages => &self.pages,
            Line::Metrics => &self.metrics,
            Line::Handshakes => &self.handshakes,
        }
    }

    /// Turns that there are.
    #[cfg(test)]
    pub(super) fn turns_left(&self, line: Line) -> usize {
        self.turns(line).available_permits()
    }

    fn number(&self) -> u64 {
        self.waits.fetch_add(1, Ordering::Relaxed)
    }
}

impl Place {
    /// What tells that the connection has to give up its place.
    pub(super) fn leave(&self) -> Arc<Leave> {
        Arc::clone(&self.leave)
    }

    /// Whether it has to.
    pub(super) fn must_leave(&self) -> bool {
        self.leave.is_asked.load(Ordering::Acquire)
    }

    /// The connection keeps the server waiting from now on, or still does.
    pub(super) fn wait_for(&self, wait: Wait) {
        let mut standing = self.standing.lock();
        let wait = match wait {
            Wait::AnswerTaken if standing.is_answer_long => Wait::LongAnswerTaken,
            wait => wait,
        };
        if standing.waiting.is_some_and(|(waiting, _)| waiting == wait) {
            return;
        }
        self.end(&mut standing);
        let number = match wait {
            Wait::Hello | Wait::Handshake | Wait::Request => standing.request,
            Wait::OffHand | Wait::AnswerTaken | Wait::LongAnswerTaken => standing.answer,
            Wait::HandshakeTurn | Wait::Turn => u64::MAX - self.places.number(),
        };
        let dawdler = Dawdler {
            leave: Arc::clone(&self.leave),
            since: standing.answered,
        };
        self.places.dawdlers.lock().insert((wait, number), dawdler);
        standing.waiting = Some((wait, number));
        drop(standing);
        self.places.came.notify_waiters();
    }

    /// It does not.
    pub(super) fn go_on(&self) {
        self.end(&mut self.standing.lock());
    }

    fn end(&self, standing: &mut Standing) {
        if let Some(waiting) = standing.waiting.take() {
            self.places.dawdlers.lock().remove(&waiting);
        }
    }

    /// A whole request has come and was answered; what is waited for is another.
    pub(super) fn requested(&self) {
        let mut standing = self.standing.lock();
        self.end(&mut standing);
        standing.request = self.places.number();
    }

    /// A whole request has come.
    pub(super) fn is_asked(&self) {
        let mut standing = self.standing.lock();
        self.end(&mut standing);
        standing.answer = self.places.number();
        standing.is_answer_long = false;
    }

    /// It is answered now. `is_long`: with what takes some of the room that there is for long answers.
    pub(super) fn answers(&self, is_long: bool) {
        let mut standing = self.standing.lock();
        standing.is_answer_long = is_long;
        standing.answered = now();
    }

    /// Waits until the server may work for this connection, which has its place for sure as long as it holds the turn.
    /// `None` if there are no more turns.
    pub(super) async fn turn(&self, line: Line) -> Option<SemaphorePermit<'_>> {
        let turns = self.places.turns(line);
        if let Ok(turn) = turns.try_acquire() {
            self.go_on();
            return Some(turn);
        }
        self.wait_for(match line {
            Line::Pages | Line::Metrics => Wait::Turn,
            Line::Handshakes => Wait::HandshakeTurn,
        });
        let turn = turns.acquire().await;
        self.go_on();
        turn.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.go_on();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn must_leave(place: &Place) -> bool {
        let is_told = poll(pin!(place.leave().asked())).is_ready();
        assert!(!is_told || place.must_leave());
        is_told
    }

    #[tokio::test]
    async fn who_dawdles_longest_makes_room() {
        let places = Arc::new(Places::of(3, 2, 1));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(places.take().await.expect("open"));
        }
        held[0].wait_for(Wait::AnswerTaken);
        held[2].wait_for(Wait::Request);
        held[1].wait_for(Wait::Request);
        for leaves in [1, 2, 0] {
            {
                let mut next = pin!(places.take());
                assert!(poll(next.as_mut()).is_pending());
                let told: Vec<bool> = held.iter().map(must_leave).collect();
                let expected: Vec<bool> = (0..3).map(|index| index == leaves).collect();
                assert_eq!(told, expected);
            }
            // Who was told is not told again, and whoever is busy is left alone.
            held[leaves].go_on();
        }
        let mut next = pin!(places.take());
        assert!(poll(next.as_mut()).is_pending());
        assert!(!held.iter().any(must_leave));
        held[1].wait_for(Wait::Request);
        assert!(poll(next.as_mut()).is_pending());
        assert!(must_leave(&held[1]));
        drop(held.remove(1));
        assert!(poll(next.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn a_byte_now_and_then_is_the_same_wait_and_a_request_ends_it() {
        let places = Arc::new(Places::of(2, 1, 1));
        let one = places.take().await.expect("open");
        let other = places.take().await.expect("open");
        other.wait_for(Wait::Request);
        one.wait_for(Wait::Request);
        one.go_on();
        one.wait_for(Wait::Request);
        assert!(places.evict() && must_leave(&one) && !must_leave(&other));
        one.requested();
        one.wait_for(Wait::Request);
        assert!(places.evict() && must_leave(&other) && !must_leave(&one));
        drop((one, other));
        assert!(!places.evict() && places.free() == 2);
    }

    #[tokio::test]
    async fn who_has_a_turn_stays_and_of_those_that_wait_the_last_leaves() {
        let places = Arc::new(Places::of(3, 1, 1));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(places.take().await.expect("open"));
        }
        let turn = held[0].turn(Line::Pages).await.expect("open");
        let (mut first, mut last) = (
            Box::pin(held[1].turn(Line::Pages)),
            Box::pin(held[2].turn(Line::Pages)),
        );
        assert!(poll(first.as_mut()).is_pending() && poll(last.as_mut()).is_pending());
        assert!(places.evict() && must_leave(&held[2]) && !must_leave(&held[1]));
        drop(turn);
        assert!(poll(first.as_mut()).is_ready());
        drop((first, last));
        held[2].go_on();
        assert!(!places.evict());
    }

    #[tokio::test]
    async fn strangers_leave_before_anybody_else_and_handshakes_have_turns_of_their_own() {
        let places = Arc::new(Places::of(6, 1, 1));
        let mut held = Vec::new();
        for _ in 0..6 {
            held.push(places.take().await.expect("open"));
        }
        // A reader has begun before all of them.
        held[0].wait_for(Wait::Request);
        let turn = held[1].turn(Line::Handshakes).await.expect("open");
        let mut first = Box::pin(held[2].turn(Line::Handshakes));
        assert!(poll(first.as_mut()).is_pending());
        held[3].wait_for(Wait::Handshake);
        held[4].wait_for(Wait::Hello);
        held[5].wait_for(Wait::OffHand);
        let page = held[0].turn(Line::Pages).await.expect("open");
        drop(page);
        held[0].wait_for(Wait::Request);
        for leaves in [4, 2, 3, 5, 0] {
            assert!(places.evict());
            let told: Vec<bool> = held.iter().map(must_leave).collect();
            let expected: Vec<bool> = (0..6).map(|index| index == leaves).collect();
            assert_eq!(told, expected);
        }
        assert!(!places.evict(), "nobody takes a turn away");
        drop(turn);
        assert!(poll(first.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn room_is_made_by_those_who_are_at_long_answers_for_long() {
        let places = Arc::new(Places::of(3, 1, 1));
        let mut held = Vec::new();
        for is_long in [false, true, true] {
            let place = places.take().await.expect("open");
            place.is_asked();
            place.answers(is_long);
            held.push(place);
        }
        for place in held.iter().rev() {
            place.wait_for(Wait::AnswerTaken);
        }
        places.evict_of_long_answers(now());
        assert!(!held.iter().any(must_leave));
        let later = now() + LONG_ANSWER_GRACE;
        for leaves in [Some(1), Some(2), None] {
            places.evict_of_long_answers(later);
            let told = held.iter().position(must_leave);
            assert_eq!(told, leaves);
        }
        // A byte now and then is the same wait.
        held[2].go_on();
        held[2].wait_for(Wait::AnswerTaken);
        places.evict_of_long_answers(later);
        assert!(must_leave(&held[2]));
    }
}
