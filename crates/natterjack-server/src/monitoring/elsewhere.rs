//! A future whose steps take a processor for long, such as a handshake's: polled on threads for that, and not on those that
//! move messages. Between two steps it takes no thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::process::thread_time;
use crate::long_work::LongWork;

/// What the future comes to; `None` if it panicked. `took` is told what each step took of a processor.
pub(super) async fn polled_by<F>(
    work: &LongWork,
    future: F,
    took: impl Fn(Duration),
) -> Option<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut future = Box::pin(future);
    let woken = Arc::new(Woken(Notify::new()));
    loop {
        let waker = Waker::from(Arc::clone(&woken));
        let step = work.run(move || {
            let begin = thread_time();
            let polled = Pin::as_mut(&mut future).poll(&mut Context::from_waker(&waker));
            (future, polled, thread_time().saturating_sub(begin))
        });
        let (given_back, polled, time) = step.await?;
        took(time);
        match polled {
            Poll::Ready(output) => return Some(output),
            Poll::Pending => future = given_back,
        }
        // Also if it was woken while it was polled.
        woken.0.notified().await;
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
        let future = polled_by(
            &work,
            async move {
                tokio::task::yield_now().await;
                let word = told.await.expect("told");
                (word, std::thread::current().id())
            },
            drop,
        );
        let (output, ()) = tokio::join!(future, async {
            tokio::task::yield_now().await;
            tell.send("word").expect("somebody waits");
        });
        let (word, there) = output.expect("no panic");
        assert_eq!(word, "word");
        assert_ne!(there, here);
        let panicking = async { panic!("on purpose") };
        assert_eq!(polled_by(&work, panicking, drop).await, None::<()>);
    }
}
