//! The engine's workers, one per thread that serves sessions.
//!
//! They belong to the server, not to the thread: a server that is gone leaves no buffers and no cached
//! subscriptions behind in threads that live on.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use natterjack_engine::{Engine, Worker};
use parking_lot::Mutex;

/// More threads than this share slots, and make workers of their own while they collide.
const SLOTS: usize = 32;

pub(crate) struct Workers {
    engine: Arc<Engine>,
    slots: [Mutex<Option<Box<Worker>>>; SLOTS],
}

impl Workers {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            slots: std::array::from_fn(|_| Mutex::new(None)),
        }
    }

    /// Runs `serve` with this thread's worker. If it panics the worker, whose state is then unknown, is gone.
    pub(crate) fn with<R>(&self, serve: impl FnOnce(&mut Worker) -> R) -> R {
        let slot = &self.slots[thread_number() % SLOTS];
        let mut worker = slot
            .try_lock()
            .and_then(|mut slot| slot.take())
            .unwrap_or_else(|| Box::new(self.engine.worker()));
        let result = serve(&mut worker);
        if let Some(mut slot) = slot.try_lock() {
            *slot = Some(worker);
        }
        result
    }
}

/// A small number for the calling thread, so that threads find different slots.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.with(|number| {
        number.get().unwrap_or_else(|| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            number.set(Some(next));
            next
        })
    })
}
