//! Places for connections: how many there are, and who has to leave when all are taken.
//!
//! Whoever holds a place and keeps the server waiting gives it up to the next who comes: first those that have not sent a
//! whole request, then those that do not take their answer, of each the one that has been at it the longest. So clients
//! that dawdle on purpose, however many, keep nobody out who asks and listens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// All places.
pub(super) struct Places {
    free: Arc<Semaphore>,
    dawdlers: Mutex<BTreeMap<(Wait, u64), Arc<Notify>>>,
    /// There is a dawdler more.
    came: Notify,
    waits: AtomicU64,
}

/// What a connection keeps the server waiting for; who leaves first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    Request,
    AnswerTaken,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    must_leave: Arc<Notify>,
    waiting: Option<(Wait, u64)>,
    /// The number of the wait for a request, which goes on although a byte arrives now and then.
    request: u64,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
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
            waiting: None,
            request: self.number(),
            _permit: permit,
        })
    }

    /// Has one dawdler leave; whether there was one.
    fn evict(&self) -> bool {
        let first = self.dawdlers.lock().pop_first();
        first
            .inspect(|(_, must_leave)| must_leave.notify_one())
            .is_some()
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
    pub(super) fn wait_for(&mut self, wait: Wait) {
        if self.waiting.is_some_and(|(waiting, _)| waiting == wait) {
            return;
        }
        self.go_on();
        let number = match wait {
            Wait::Request => self.request,
            Wait::AnswerTaken => self.places.number(),
        };
        let mut dawdlers = self.places.dawdlers.lock();
        dawdlers.insert((wait, number), Arc::clone(&self.must_leave));
        self.waiting = Some((wait, number));
        drop(dawdlers);
        self.places.came.notify_one();
    }

    /// It does not.
    pub(super) fn go_on(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.places.dawdlers.lock().remove(&waiting);
        }
    }

    /// A whole request has come; what is waited for is another.
    pub(super) fn requested(&mut self) {
        self.go_on();
        self.request = self.places.number();
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
        let places = Arc::new(Places::new(3));
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
        let places = Arc::new(Places::new(2));
        let mut one = places.take().await.expect("open");
        let mut other = places.take().await.expect("open");
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
}
