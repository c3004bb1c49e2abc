//! Room for long answers: what they may take together until they are sent. Whoever asks for pages and does not read them
//! keeps them in memory.
//!
//! Who waits for room has those leave who have been at theirs for long, one after another.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::places::Places;
use crate::clock::now;

/// Answers that wait for room. They are there already, and take memory beside it.
const WAITING_MAX: usize = 4;

/// How long they wait.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// How often it is looked whether somebody is at a long answer for too long by now.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Room {
    kib: u32,
    free: Arc<Semaphore>,
    freed: Notify,
    waiting: Semaphore,
}

impl Room {
    /// Of so much. A longer answer takes all of it.
    pub(super) fn new(kib: u32) -> Self {
        Self {
            kib,
            free: Arc::new(Semaphore::new(kib as usize)),
            freed: Notify::new(),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    /// The same with the room it takes until it is dropped. `None` if there is none to be had.
    pub(super) async fn take(self: &Arc<Self>, body: Bytes, places: &Places) -> Option<Bytes> {
        let kib = u32::try_from(body.len() / 1024).unwrap_or(u32::MAX);
        let kib = kib.min(self.kib);
        let free = Arc::clone(&self.free);
        let permit = if let Ok(permit) = Arc::clone(&free).try_acquire_many_owned(kib) {
            permit
        } else {
            let _waiting = self.waiting.try_acquire().ok()?;
            let waiting = self.wait(kib, places);
            timeout(WAIT_MAX, waiting).await.ok()??
        };
        Some(Bytes::from_owner(Held {
            body,
            room: Arc::clone(self),
            permit: Some(permit),
        }))
    }

    #[cfg(test)]
    pub(super) fn free_bytes(&self) -> usize {
        self.free.available_permits() * 1024
    }

    async fn wait(&self, kib: u32, places: &Places) -> Option<OwnedSemaphorePermit> {
        let mut free = Box::pin(Arc::clone(&self.free).acquire_many_owned(kib));
        loop {
            let freed = self.freed.notified();
            tokio::select! {
                biased;
                permit = &mut free => return permit.ok(),
                () = std::future::ready(()) => places.evict_of_long_answers(now()),
            }
            tokio::select! {
                permit = &mut free => return permit.ok(),
                // It may not be enough.
                _ = timeout(LOOK_EVERY, freed) => {}
            }
        }
    }
}

/// An answer and the room it takes.
struct Held {
    body: Bytes,
    room: Arc<Room>,
    permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.permit = None;
        self.room.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn long_answers_have_room_until_they_are_dropped() {
        let (room, places) = (Arc::new(Room::new(10)), Places::new());
        let answer = |kib: usize| Bytes::from(vec![b'x'; kib * 1024]);
        let first = room.take(answer(7), &places).await.expect("room");
        assert_eq!(first.len(), 7 * 1024);
        let mut waiting = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..WAITING_MAX {
            let mut wait = Box::pin(room.take(answer(5), &places));
            assert!(wait.as_mut().poll(&mut context).is_pending());
            waiting.push(wait);
        }
        {
            let refused = pin!(room.take(answer(5), &places));
            assert!(refused.poll(&mut context).is_ready(), "too many wait");
        }
        drop(first);
        let next = waiting.remove(0).await.expect("room");
        let last = waiting.remove(0).await.expect("room");
        drop((next, last, waiting));
        // One that is longer than all of it takes all.
        let all = room.take(answer(11), &places).await.expect("room");
        assert_eq!(room.free.available_permits(), 0);
        drop(all);
        assert_eq!(room.free.available_permits(), 10);
    }
}
