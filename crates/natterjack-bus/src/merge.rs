//! Merging: events that are published soon after each other and can be folded into one are.
//!
//! [`Batch`] decides and knows no time; [`MergingPublisher`] gives it one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, watch};
use tokio::task::AbortHandle;

use crate::bus::EventBus;
use crate::error::PublishError;
use crate::fault::Fault;
use crate::publish::Publish;

/// Shortest and longest time between attempts to publish what could not be for want of a connection.
const RETRY_MIN: Duration = Duration::from_millis(1);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How long and how many events are held back to be merged.
#[derive(Clone, Debug)]
pub struct Merging {
    /// With so many events taken in, what they were folded into is published at once. At least 1.
    pub events_max: usize,
    /// What was taken in is published this long after the first of it.
    pub window: Duration,
    /// How the merged events are published.
    pub publish: Publish,
}

impl Default for Merging {
    /// 100 events or 100 ms, as in BindPlane OP's event store.
    fn default() -> Self {
        Self {
            events_max: 100,
            window: Duration::from_millis(100),
            publish: Publish::default(),
        }
    }
}

/// Publishes events merged: see [`EventBus::merging`]. Clones share one batch.
///
/// What was taken in is published in any case: when the window is over, when the last clone is dropped, and by
/// [`EventBus::drain`]. While there is no connection and no room to wait for one it stays here, and once there are
/// [`Merging::events_max`] events, [`MergingPublisher::publish`] fails as [`EventBus::publish`] does.
pub struct MergingPublisher<T> {
    shared: Arc<Shared<T>>,
    /// Says nothing but that it is there.
    alive: watch::Sender<()>,
}

/// Folds the second event into the first if it can, and says whether it did.
type Fold<T> = Box<dyn Fn(&mut T, &T) -> bool + Send + Sync>;

struct Shared<T> {
    bus: EventBus<T>,
    batch: Mutex<Batch<T>>,
    /// Ends with the last clone.
    clones: watch::Receiver<()>,
    /// Events in the batch, for those who cannot wait until nobody else needs it.
    left: AtomicU64,
    fold: Fold<T>,
    events_max: usize,
    window: Duration,
    publish: Publish,
}

/// Merging publishers of any type, for a drain.
pub(crate) trait Flush: Send + Sync {
    /// Publishes what is left and takes no more.
    fn finish(&self) -> BoxFuture<'_, ()>;

    /// Events that are left.
    fn left(&self) -> u64;
}

impl<T> fmt::Debug for MergingPublisher<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MergingPublisher")
            .field("events_max", &self.shared.events_max)
            .field("window", &self.shared.window)
            .finish_non_exhaustive()
    }
}

impl<T> Clone for MergingPublisher<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            alive: self.alive.clone(),
        }
    }
}

impl<T> MergingPublisher<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(
        bus: EventBus<T>,
        merging: Merging,
        fold: impl Fn(&mut T, &T) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (alive, clones) = watch::channel(());
        let shared = Arc::new(Shared {
            bus,
            batch: Mutex::default(),
            clones,
            left: AtomicU64::new(0),
            fold: Box::new(fold),
            events_max: merging.events_max.max(1),
            window: merging.window,
            publish: merging.publish,
        });
        let flush: Arc<dyn Flush> = Arc::clone(&shared) as Arc<dyn Flush>;
        shared.bus.core().add_merging(&flush);
        Self { shared, alive }
    }

    /// Takes an event in. It is folded into the one taken in before if the function given to [`EventBus::merging`] says
    /// that this can be done, and published with the others. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The event is not taken in if the batch is full and cannot be published. An event that turns out not to be
    /// publishable later, for its size perhaps, is a [`Fault::Unpublished`].
    pub async fn publish(&self, event: T) -> Result<(), PublishError> {
        let shared = &self.shared;
        let mut batch = shared.batch.lock().await;
        // A drain that has begun knows nothing of a publisher that came after it.
        if batch.is_closed || shared.bus.core().is_draining() {
            return Err(PublishError::Closed);
        }
        if batch.taken >= shared.events_max {
            shared.publish_all(&mut batch).await?;
        }
        batch.take_in(event, &shared.fold);
        shared.left.store(batch.events.len() as u64, Relaxed);
        // It may have been a task of a runtime that is no more.
        if (batch.waiting.as_ref()).is_none_or(AbortHandle::is_finished) {
            // It holds on to the batch, so that dropping the publisher loses nothing, nor does giving up what follows.
            let waiting = tokio::spawn(Arc::clone(shared).publish_after_window());
            batch.waiting = Some(waiting.abort_handle());
        }
        if batch.taken >= shared.events_max {
            // If this fails the event is taken in all the same; the next one is not.
            let _ = shared.publish_all(&mut batch).await;
        }
        Ok(())
    }

    /// Publishes what was taken in now.
    ///
    /// # Errors
    /// See [`PublishError`]; what could not be published stays.
    pub async fn flush(&self) -> Result<(), PublishError> {
        let mut batch = self.shared.batch.lock().await;
        self.shared.publish_all(&mut batch).await
    }
}

impl<T> Shared<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    async fn publish_after_window(self: Arc<Self>) {
        let mut clones = self.clones.clone();
        // Nobody says anything, so this waits until nobody can.
        let dropped = async { while clones.changed().await.is_ok() {} };
        // Whoever has dropped the last clone waits for nothing more to be taken in.
        let _ = tokio::time::timeout(self.window, dropped).await;
        let mut attempts = tokio::time::interval(self.window.clamp(RETRY_MIN, RETRY_MAX));
        loop {
            // The first tick is at once.
            attempts.tick().await;
            let mut batch = self.batch.lock().await;
            match self.publish_all(&mut batch).await {
                Err(PublishError::Disconnected { .. }) => {}
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// Publishes from the front until there is no more or no way to. Dropping this half-way is harmless: an event leaves
    /// the batch when it was published.
    async fn publish_all(&self, batch: &mut Batch<T>) -> Result<(), PublishError> {
        while let Some(event) = batch.events.front() {
            #[cfg(not(feature = "opentelemetry"))]
            let published = self.bus.publish_with(event, self.publish.clone());
            #[cfg(feature = "opentelemetry")]
            let published = {
                let origins = batch.origins.front().cloned().unwrap_or_default();
                let publish = self.publish.clone();
                self.bus.publish_merged(event, publish, origins)
            };
            match published.await {
                Ok(()) => {}
                Err(error @ (PublishError::Disconnected { .. } | PublishError::Closed)) => {
                    batch.taken = batch.taken.max(1);
                    return Err(error);
                }
                Err(error) => self.bus.core().report(&Fault::Unpublished {
                    reason: Arc::new(error),
                }),
            }
            batch.events.pop_front();
            #[cfg(feature = "opentelemetry")]
            batch.origins.pop_front();
            self.left.store(batch.events.len() as u64, Relaxed);
        }
        batch.taken = 0;
        // The next batch has a window of its own, and nothing else holds on to the bus until this one's is over.
        if let Some(waiting) = batch.waiting.take() {
            waiting.abort();
        }
        Ok(())
    }
}

impl<T> Flush for Shared<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    fn finish(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut batch = self.batch.lock().await;
            batch.is_closed = true;
            // What is left is asked for.
            let _ = self.publish_all(&mut batch).await;
        })
    }

    fn left(&self) -> u64 {
        self.left.load(Relaxed)
    }
}

/// Events taken in and not yet published, folded as far as they can be: pairwise, in order, neighbours only.
struct Batch<T> {
    events: VecDeque<T>,
    /// The spans around what was folded into each.
    #[cfg(feature = "opentelemetry")]
    origins: VecDeque<Vec<opentelemetry::trace::SpanContext>>,
    /// Events taken in since the batch was empty, folded ones included.
    taken: usize,
    /// Who publishes what was taken in once the window is over.
    waiting: Option<AbortHandle>,
    is_closed: bool,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            #[cfg(feature = "opentelemetry")]
            origins: VecDeque::new(),
            taken: 0,
            waiting: None,
            is_closed: false,
        }
    }
}

impl<T> Batch<T> {
    fn take_in(&mut self, event: T, fold: impl Fn(&mut T, &T) -> bool) {
        self.taken += 1;
        let is_folded = self
            .events
            .back_mut()
            .is_some_and(|last| fold(last, &event));
        if !is_folded {
            self.events.push_back(event);
        }
        #[cfg(feature = "opentelemetry")]
        self.follow(is_folded);
    }

    /// Keeps the span around what was taken in.
    #[cfg(feature = "opentelemetry")]
    fn follow(&mut self, is_folded: bool) {
        /// As many as a span has by default (OpenTelemetry, `OTEL_SPAN_LINK_COUNT_LIMIT`).
        const ORIGINS_MAX: usize = 128;
        if !is_folded {
            self.origins.push_back(Vec::new());
        }
        if let (Some(origins), Some(around)) = (self.origins.back_mut(), crate::spans::around())
            && origins.len() < ORIGINS_MAX
            && !origins.contains(&around)
        {
            origins.push(around);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is folded: numbers of the same tens, into their sum's digits after the tens.
    fn fold(into: &mut Vec<u8>, next: &Vec<u8>) -> bool {
        let is_foldable = into[0] / 10 == next[0] / 10;
        if is_foldable {
            into.extend(next);
        }
        is_foldable
    }

    proptest! {
        #[test]
        fn neighbours_are_folded_in_order_and_nothing_is_lost(numbers in prop::collection::vec(0_u8..40, 0..60)) {
            let mut batch = Batch::default();
            for number in &numbers {
                batch.take_in(vec![*number], fold);
            }
            prop_assert_eq!(batch.taken, numbers.len());
            let runs: Vec<Vec<u8>> = numbers.chunk_by(|a, b| a / 10 == b / 10).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(Vec::from(batch.events), runs);
        }
    }
}
