//! Work that takes a processor for milliseconds or longer, such as comparing a password with its hash or signing a
//! handshake: done on threads for what blocks, a few pieces at a time, since the threads that move messages do not have
//! the time.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Pieces of work of one kind. Half as many as there are processors are done at one time, and the others wait: a storm of
/// clients that come back must not keep the connected ones waiting.
pub(crate) struct LongWork {
    places: Arc<Semaphore>,
}

impl LongWork {
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            places: Arc::new(Semaphore::new((processors / 2).max(1))),
        }
    }

    /// What the work comes to; `None` if it panicked. Work that nobody waits for any more before its turn is not done.
    pub(crate) fn run<R, W>(&self, work: W) -> impl Future<Output = Option<R>> + Send + use<R, W>
    where
        R: Send + 'static,
        W: FnOnce() -> R + Send + 'static,
    {
        let places = Arc::clone(&self.places);
        async move {
            let place = places.acquire_owned().await.ok()?;
            let done = spawn_blocking(move || {
                // Held by the thread: whoever waits for the outcome may go away, the work goes on.
                let _place = place;
                work()
            });
            done.await.ok()
        }
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
        let work = LongWork {
            places: Arc::new(Semaphore::new(1)),
        };
        let (release, released) = channel();
        let (begin, begun) = tokio::sync::oneshot::channel();
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

    fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(future).poll(&mut context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }
}
