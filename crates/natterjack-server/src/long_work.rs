//! Work that takes a processor for so long that not everybody may do theirs at once. Milliseconds or longer, such as
//! comparing a password with its hash or signing with RSA: done on threads for what blocks, a few pieces at a time,
//! since the threads that move messages do not have the time ([`LongWork`]). A tenth of a millisecond, such as signing
//! with anything else: done where it comes up, by a few at a time ([`Turns`]).

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{spawn_blocking, yield_now};

/// Pieces of work of one kind. Half as many as there are processors are done at one time, and the others wait: a storm of
/// clients that come back must not keep the connected ones waiting.
///
/// A thread that has done a piece goes on with the next one that waits, which costs much less than to hand each piece to
/// a thread that must be woken for it.
pub(crate) struct LongWork {
    queue: Arc<Queue>,
}

type Piece = Box<dyn FnOnce() + Send>;

struct Queue {
    state: Mutex<State>,
    threads_max: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Piece>,
    /// Threads that take from `waiting` until it is empty.
    threads: usize,
}

impl LongWork {
    pub(crate) fn new() -> Self {
        Self::on_threads(half_of_processors())
    }

    /// With at most so many pieces done at one time.
    pub(crate) fn on_threads(threads_max: usize) -> Self {
        Self {
            queue: Arc::new(Queue {
                state: Mutex::default(),
                threads_max,
            }),
        }
    }

    /// What the work comes to; `None` if it panicked. Work that nobody waits for any more before its turn is not done.
    pub(crate) fn run<R, W>(&self, work: W) -> impl Future<Output = Option<R>> + Send + use<R, W>
    where
        R: Send + 'static,
        W: FnOnce() -> R + Send + 'static,
    {
        let queue = Arc::clone(&self.queue);
        async move {
            let (tell, told) = oneshot::channel();
            Queue::add(
                &queue,
                Box::new(move || {
                    if !tell.is_closed() {
                        // Whoever went away meanwhile does not want it.
                        let _ = tell.send(work());
                    }
                }),
            );
            told.await.ok()
        }
    }
}

fn half_of_processors() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).max(1)
}

impl Queue {
    fn add(queue: &Arc<Self>, piece: Piece) {
        let mut state = queue.state.lock();
        state.waiting.push_back(piece);
        if state.threads == queue.threads_max {
            return;
        }
        state.threads += 1;
        drop(state);
        let mut thread = Thread {
            queue: Arc::clone(queue),
            is_counted: true,
        };
        spawn_blocking(move || {
            while let Some(piece) = thread.next() {
                // Told by what it did not send, and logged by whoever logs panics.
                let _ = catch_unwind(AssertUnwindSafe(piece));
            }
        });
    }
}

/// One of a queue's threads, also if it never begins because the runtime ends.
struct Thread {
    queue: Arc<Queue>,
    is_counted: bool,
}

impl Thread {
    fn next(&mut self) -> Option<Piece> {
        let mut state = self.queue.state.lock();
        let piece = state.waiting.pop_front();
        if piece.is_none() {
            // Under the lock: what is added from now on gets another thread.
            state.threads -= 1;
            self.is_counted = false;
        }
        piece
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if self.is_counted {
            self.queue.state.lock().threads -= 1;
        }
    }
}

/// Pieces of work about as long as waking a thread for them would take. Half as many as there are processors are done at
/// one time, each by the task that needs it.
pub(crate) struct Turns {
    places: Semaphore,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            places: Semaphore::new(half_of_processors()),
        }
    }

    /// Does the work when it is its turn. The next one's turn begins only when whoever is ready on this thread, messages
    /// above all, has had its own; `None` never comes.
    pub(crate) async fn run<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        let _place = self.places.acquire().await.ok()?;
        let result = work();
        yield_now().await;
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn work_waits_for_its_turn_and_is_not_done_if_nobody_waits_for_it() {
        let work = LongWork::on_threads(1);
        let (release, released) = channel();
        let (begin, begun) = oneshot::channel();
        let first = tokio::spawn(work.run(move || {
            begin.send(()).expect("somebody waits");
            released.recv_timeout(LONG).expect("released");
            1
        }));
        begun.await.expect("the first has begun");
        let given_up = work.run(|| panic!("nobody waits for this"));
        let mut second = Box::pin(work.run(|| 2));
        {
            let mut given_up = Box::pin(given_up);
            assert!(poll_once(&mut given_up).is_none());
            assert!(poll_once(&mut second).is_none());
        }
        release.send(()).expect("the first waits");
        assert_eq!(first.await.expect("not cancelled"), Some(1));
        assert_eq!(second.await, Some(2));
        assert_eq!(work.run(|| panic!("on purpose")).await, None::<()>);
    }

    #[tokio::test]
    async fn others_come_between_two_turns() {
        use std::cell::RefCell;
        let turns = Turns {
            places: Semaphore::new(1),
        };
        let order = RefCell::new(Vec::new());
        let note = |what: &'static str| order.borrow_mut().push(what);
        tokio::join!(
            turns.run(|| note("turn")),
            turns.run(|| note("turn")),
            async {
                note("message");
                yield_now().await;
                note("message");
            }
        );
        let order = order.into_inner();
        assert_eq!(order[..2], ["turn", "message"], "{order:?}");
        assert_eq!(order.iter().filter(|what| **what == "turn").count(), 2);
    }

    fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(future).poll(&mut context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }
}
