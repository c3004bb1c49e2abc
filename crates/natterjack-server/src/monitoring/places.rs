//! Places for connections: how many there are, and who has to leave when all are taken.
//!
//! Whoever holds a place and keeps the server waiting gives it up to the next who comes: first those that have not sent a
//! whole request, then those that do not take their answer, of each the one that has been at it the longest, and at last
//! those that wait for their turn, of whom the last to come leaves first. So clients that dawdle on purpose, however many,
//! keep nobody out who asks and listens.
//!
//! Of all places only [`BUSY_MAX`] are taken by requests whose turn has come, which nobody takes away. The others are there
//! for whoever comes, so that a short question gets its answer while everybody asks long ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::clock::now;

/// Connections that are served at one time, of all listeners together.
pub(super) const CONNECTIONS_MAX: usize = 128;

/// Those of them for which the server works, or that wait in line for it to.
pub(super) const BUSY_MAX: usize = 96;

/// How long somebody may take a long answer before it is the room of others that is wanted.
const LONG_ANSWER_GRACE: Duration = Duration::from_secs(2);

/// All places.
pub(super) struct Places {
    free: Arc<Semaphore>,
    busy: Semaphore,
    dawdlers: Mutex<BTreeMap<(Wait, u64), Dawdler>>,
    /// There is a dawdler more.
    came: Notify,
    waits: AtomicU64,
}

/// What a connection keeps the server waiting for, or waits for; who leaves first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    Request,
    AnswerTaken,
    /// The same with an answer that takes some of the room that there is for long ones.
    LongAnswerTaken,
    /// It is the server that makes it wait.
    Turn,
}

struct Dawdler {
    must_leave: Arc<Notify>,
    since: Instant,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    must_leave: Arc<Notify>,
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
        Self::of(CONNECTIONS_MAX, BUSY_MAX)
    }

    fn of(count: usize, busy: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            busy: Semaphore::new(busy),
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
            must_leave: Arc::new(Notify::new()),
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
        first
            .inspect(|(_, dawdler)| dawdler.must_leave.notify_one())
            .is_some()
    }

    /// Has the one leave who has been at taking a long answer the longest, if that is long.
    pub(super) fn evict_of_long_answers(&self, now: Instant) {
        let mut dawdlers = self.dawdlers.lock();
        let long = (Wait::LongAnswerTaken, 0)..=(Wait::LongAnswerTaken, u64::MAX);
        let first = dawdlers.range(long).next();
        let late = first.filter(|(_, dawdler)| dawdler.since + LONG_ANSWER_GRACE <= now);
        if let Some(key) = late.map(|(key, _)| *key) {
            let late = dawdlers.remove(&key);
            late.inspect(|dawdler| dawdler.must_leave.notify_one());
        }
    }

    /// Connections whose turn it is.
    #[cfg(test)]
    pub(super) fn busy(&self) -> usize {
        BUSY_MAX - self.busy.available_permits()
    }

    fn number(&self) -> u64 {
        self.waits.fetch_add(1, Ordering::Relaxed)
    }
}

impl Place {
    /// Is notified when the connection has to give up its place.
    pub(super) fn must_leave(&self) -> Arc<Notify> {
        Arc::clone(&self.must_leave)
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
            Wait::Request => standing.request,
            Wait::AnswerTaken | Wait::LongAnswerTaken => standing.answer,
            Wait::Turn => u64::MAX - self.places.number(),
        };
        let dawdler = Dawdler {
            must_leave: Arc::clone(&self.must_leave),
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
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.places.busy.try_acquire() {
            self.go_on();
            return Some(turn);
        }
        self.wait_for(Wait::Turn);
        let turn = self.places.busy.acquire().await;
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
        poll(pin!(place.must_leave().notified())).is_ready()
    }

    #[tokio::test]
    async fn who_dawdles_longest_makes_room() {
        let places = Arc::new(Places::of(3, 2));
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
        let places = Arc::new(Places::of(2, 1));
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
        let places = Arc::new(Places::of(3, 1));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(places.take().await.expect("open"));
        }
        let turn = held[0].turn().await.expect("open");
        let (mut first, mut last) = (Box::pin(held[1].turn()), Box::pin(held[2].turn()));
        assert!(poll(first.as_mut()).is_pending() && poll(last.as_mut()).is_pending());
        assert!(places.evict() && must_leave(&held[2]) && !must_leave(&held[1]));
        drop(turn);
        assert!(poll(first.as_mut()).is_ready());
        drop((first, last));
        held[2].go_on();
        assert!(!places.evict());
    }

    #[tokio::test]
    async fn room_is_made_by_those_who_are_at_long_answers_for_long() {
        let places = Arc::new(Places::of(3, 1));
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
