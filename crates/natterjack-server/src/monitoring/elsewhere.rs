//! A future whose steps take a processor for long, such as a handshake's: polled on threads for that, and not on those that
//! move messages. Between two steps it takes no thread, and whoever owns it knows whom it is waiting for: the server while a
//! step is done or waits to be done, and its peer until it is woken.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::process::thread_time;
use crate::long_work::LongWork;

/// The future.
pub(super) struct Elsewhere<'a, F> {
    work: &'a LongWork,
    /// `None` while a step is done, and when it is over.
    future: Option<Pin<Box<F>>>,
    woken: Arc<Woken>,
}

impl<'a, F> Elsewhere<'a, F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    pub(super) fn new(work: &'a LongWork, future: F) -> Self {
        Self {
            work,
            future: Some(Box::pin(future)),
            woken: Arc::new(Woken(Notify::new())),
        }
    }

    /// Polls it once. `None` if it panicked, or is over. `took` is told what the step took of a processor, also if nobody
    /// waits for it any more.
    pub(super) async fn step(
        &mut self,
        took: impl FnOnce(Duration) + Send + 'static,
    ) -> Option<Poll<F::Output>> {
        let mut future = self.future.take()?;
        let waker = Waker::from(Arc::clone(&self.woken));
        let step = self.work.run(move || {
            let begin = thread_time();
            let polled = Pin::as_mut(&mut future).poll(&mut Context::from_waker(&waker));
            took(thread_time().saturating_sub(begin));
            (future, polled)
        });
        let (future, polled) = step.await?;
        if polled.is_pending() {
            self.future = Some(future);
        }
        Some(polled)
    }

    /// Waits until it is worth another step, also if it was so while it was polled.
    pub(super) async fn woken(&self) {
        self.woken.0.notified().await;
    }
}

struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_future_is_polled_on_another_thread_until_it_is_done() {
        let work = LongWork::on_threads(1);
        let (tell, told) = oneshot::channel();
        let here = std::thread::current().id();
        let mut future = Elsewhere::new(&work, async move {
            tokio::task::yield_now().await;
            let word = told.await.expect("told");
            (word, std::thread::current().id())
        });
        // It woke itself, and is then woken by what it is told.
        assert!(matches!(future.step(drop).await, Some(Poll::Pending)));
        future.woken().await;
        assert!(matches!(future.step(drop).await, Some(Poll::Pending)));
        tell.send("word").expect("somebody waits");
        future.woken().await;
        let Some(Poll::Ready((word, there))) = future.step(drop).await else {
            panic!("it was told");
        };
        assert_eq!(word, "word");
        assert_ne!(there, here);
        assert!(future.step(drop).await.is_none());
        let mut panicking = Elsewhere::new(&work, async { panic!("on purpose") });
        let ended: Option<Poll<()>> = panicking.step(drop).await;
        assert!(ended.is_none());
    }
}
