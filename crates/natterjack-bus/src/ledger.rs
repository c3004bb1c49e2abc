//! Own events on their way to the server and back.
//!
//! The server returns a node's own events in the order they were sent, so the oldest open entry is the next to return.
//! An entry that is overtaken by a later one, or by a fence sent after it, was lost when a connection broke. It is given up:
//! nobody waits for it any more. The server that had it may be another one than the one that is connected to now, though, so
//! it can still come; then it is known as our own. This knows no network; the `nats` transport drives it.

use std::collections::VecDeque;
use std::pin::Pin;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use uuid::Uuid;

/// Identifiers that are remembered of events which were given up: 1 MiB of them.
const GIVEN_UP_MAX: usize = 1 << 16;

/// Identifiers that are told of events that do not come back.
const UNDELIVERED_IDS_MAX: usize = 4096;

pub(crate) struct Ledger {
    state: Mutex<State>,
    /// Wakes whoever waits for room, for a fence or for the end, if the state says that there is somebody.
    changed: Notify,
    events_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    open: VecDeque<Entry>,
    bytes: usize,
    /// Events ever handed to the client library. Entries are numbered by it, and a fence carries it.
    sent: u64,
    /// Identifiers of events that were given up and have not come. They ascend, as those of `open` do.
    given_up: VecDeque<Uuid>,
    /// Fences that were sent; each has its place in that as its number, from 1.
    fences_sent: u64,
    /// The highest number of those that came back.
    fence_returned: u64,
    /// Somebody waits for a change.
    is_watched: bool,
    /// What was given up since somebody began to ask for that.
    listed: Option<Undelivered>,
}

/// Events that do not come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Undelivered {
    pub(crate) events: u64,
    /// The first of them.
    pub(crate) ids: Vec<Uuid>,
}

impl Undelivered {
    pub(crate) fn add(&mut self, id: Uuid) {
        self.events += 1;
        if self.ids.len() < UNDELIVERED_IDS_MAX {
            self.ids.push(id);
        }
    }
}

/// What a fence carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) number: u64,
    /// Events that were sent before it.
    pub(crate) sent: u64,
}

struct Entry {
    id: Uuid,
    bytes: usize,
    /// How many events had been entered before it.
    number: u64,
}

impl Ledger {
    pub(crate) fn new(events_max: usize, bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            events_max: events_max.max(1),
            bytes_max,
        }
    }

    /// Opens an entry if there is room. One publisher at a time: entries must be made in sending order. Dropping the
    /// result before [`Opened::sent`] takes the entry back.
    pub(crate) fn open(&self, id: Uuid, bytes: usize) -> Option<Opened<'_>> {
        let mut state = self.state.lock();
        let fits = state.open.len() < self.events_max && state.bytes + bytes <= self.bytes_max;
        if !fits && !state.open.is_empty() {
            return None;
        }
        let number = state.sent;
        state.open.push_back(Entry { id, bytes, number });
        state.bytes += bytes;
        Some(Opened {
            ledger: self,
            sent: false,
        })
    }

    /// Whether this event is ours, and on its way or given up. Linear in the open entries only if another node uses our name,
    /// or after a loss.
    pub(crate) fn is_own(&self, id: Uuid) -> bool {
        let state = self.state.lock();
        state.open.iter().any(|entry| entry.id == id) || state.given_up.binary_search(&id).is_ok()
    }

    /// An own event has come back. Answers how many sent before it are lost; `None`: it was given up itself.
    pub(crate) fn returned(&self, id: Uuid) -> Option<u64> {
        let mut state = self.state.lock();
        let Some(lost) = state.open.iter().position(|entry| entry.id == id) else {
            if let Ok(place) = state.given_up.binary_search(&id) {
                state.given_up.remove(place);
            }
            return None;
        };
        for _ in 0..lost {
            state.give_up_oldest();
        }
        state.close_oldest();
        self.tell(state);
        Some(lost as u64)
    }

    /// Notices every change from now on.
    pub(crate) fn watch(&self, mut changed: Pin<&mut Notified<'_>>) {
        changed.as_mut().enable();
        self.state.lock().is_watched = true;
    }

    /// What [`Ledger::watch`] takes.
    pub(crate) fn change(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn tell(&self, mut state: MutexGuard<'_, State>) {
        let is_watched = std::mem::take(&mut state.is_watched);
        drop(state);
        if is_watched {
            self.changed.notify_waiters();
        }
    }

    /// A fence to be sent now, behind everything that was sent before.
    pub(crate) fn fence(&self) -> Fence {
        let mut state = self.state.lock();
        state.fences_sent += 1;
        Fence {
            number: state.fences_sent,
            sent: state.sent,
        }
    }

    /// A fence is back: everything sent before it has returned or is given up. Answers how many that are.
    pub(crate) fn fenced(&self, fence: Fence) -> u64 {
        let mut state = self.state.lock();
        state.fence_returned = state.fence_returned.max(fence.number);
        self.give_up_before(state, fence.sent)
    }

    /// There will be no other connection: nothing comes back. Answers how many are lost.
    pub(crate) fn give_up_all(&self) -> u64 {
        let state = self.state.lock();
        let sent = state.sent;
        self.give_up_before(state, sent)
    }

    /// Lists from now on what is given up.
    pub(crate) fn list(&self) {
        self.state.lock().listed.get_or_insert_default();
    }

    /// Lists one more: an event that has come back, and not to where it belongs.
    pub(crate) fn list_one(&self, id: Uuid) {
        if let Some(listed) = &mut self.state.lock().listed {
            listed.add(id);
        }
    }

    /// What was listed.
    pub(crate) fn listed(&self) -> Undelivered {
        self.state.lock().listed.clone().unwrap_or_default()
    }

    /// What was listed, and what is still open.
    pub(crate) fn undelivered(&self) -> Undelivered {
        let state = self.state.lock();
        let mut all = state.listed.clone().unwrap_or_default();
        state.open.iter().for_each(|entry| all.add(entry.id));
        all
    }

    fn give_up_before(&self, mut state: MutexGuard<'_, State>, sent: u64) -> u64 {
        let mut lost = 0;
        while (state.open.front()).is_some_and(|entry| entry.number < sent) {
            state.give_up_oldest();
            lost += 1;
        }
        self.tell(state);
        lost
    }

    /// Number of the last fence that was sent.
    pub(crate) fn fences_sent(&self) -> u64 {
        self.state.lock().fences_sent
    }

    /// The highest number of fences that came back; 0: none did.
    pub(crate) fn fence_returned(&self) -> u64 {
        self.state.lock().fence_returned
    }

    /// Events on their way.
    pub(crate) fn open_events(&self) -> usize {
        self.state.lock().open.len()
    }
}

impl State {
    fn close_oldest(&mut self) -> Option<Uuid> {
        let entry = self.open.pop_front()?;
        self.bytes -= entry.bytes;
        Some(entry.id)
    }

    fn give_up_oldest(&mut self) {
        let Some(id) = self.close_oldest() else {
            return;
        };
        if self.given_up.len() == GIVEN_UP_MAX {
            self.given_up.pop_front();
        }
        self.given_up.push_back(id);
        if let Some(listed) = &mut self.listed {
            listed.add(id);
        }
    }
}

/// The youngest entry, until it is certain that it was sent.
pub(crate) struct Opened<'a> {
    ledger: &'a Ledger,
    sent: bool,
}

impl Opened<'_> {
    pub(crate) fn sent(mut self) {
        self.ledger.state.lock().sent += 1;
        self.sent = true;
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if self.sent {
            return;
        }
        let mut state = self.ledger.state.lock();
        if let Some(entry) = state.open.pop_back() {
            state.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An identifier by a name.
    fn id(name: &str) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Uuid::from_bytes(bytes)
    }

    fn send(ledger: &Ledger, name: &str) {
        ledger.open(id(name), 10).expect("room").sent();
    }

    #[test]
    fn returning_events_make_room() {
        let ledger = Ledger::new(2, 100);
        send(&ledger, "a");
        send(&ledger, "b");
        assert!(ledger.open(id("c"), 10).is_none());
        assert_eq!(ledger.returned(id("a")), Some(0));
        send(&ledger, "c");
        assert!(ledger.is_own(id("c")) && !ledger.is_own(id("a")) && !ledger.is_own(id("x")));
        assert_eq!(ledger.open_events(), 2);
    }

    #[test]
    fn bytes_count_but_one_event_always_fits() {
        let ledger = Ledger::new(10, 15);
        ledger
            .open(id("big"), 99)
            .expect("an empty ledger takes anything")
            .sent();
        assert!(ledger.open(id("b"), 1).is_none());
        assert_eq!(ledger.returned(id("big")), Some(0));
        send(&ledger, "c");
        assert!(ledger.open(id("d"), 6).is_none());
    }

    #[test]
    fn what_is_overtaken_is_lost() {
        let ledger = Ledger::new(10, 1000);
        for id in ["a", "b", "c", "d"] {
            send(&ledger, id);
        }
        assert_eq!(ledger.returned(id("c")), Some(2));
        let fence = ledger.fence();
        send(&ledger, "e");
        assert_eq!(
            ledger.fenced(fence),
            1,
            "d was sent before the fence, e after"
        );
        assert_eq!(ledger.returned(id("e")), Some(0));
    }

    #[test]
    fn what_was_given_up_is_own_once_more() {
        let ledger = Ledger::new(10, 1000);
        for id in ["a", "b", "c"] {
            send(&ledger, id);
        }
        let fence = ledger.fence();
        send(&ledger, "d");
        assert_eq!(ledger.fenced(fence), 3);
        for name in ["b", "a", "c"] {
            assert!(ledger.is_own(id(name)));
            assert_eq!(ledger.returned(id(name)), None);
            assert!(!ledger.is_own(id(name)), "and not twice");
        }
        assert_eq!(ledger.open_events(), 1);
        assert_eq!(ledger.give_up_all(), 1);
        assert!(ledger.is_own(id("d")));
    }

    #[test]
    fn what_is_remembered_of_lost_events_is_bounded() {
        let ledger = Ledger::new(usize::MAX, usize::MAX);
        let id = |number: usize| Uuid::from_u128(number as u128);
        let count = GIVEN_UP_MAX + 10;
        for number in 0..count {
            ledger.open(id(number), 1).expect("room").sent();
        }
        assert_eq!(ledger.fenced(ledger.fence()), count as u64);
        assert!(!ledger.is_own(id(9)) && ledger.is_own(id(10)) && ledger.is_own(id(count - 1)));
    }

    #[test]
    fn a_fence_from_before_proves_nothing_of_later() {
        let ledger = Ledger::new(10, 1000);
        let early = ledger.fence();
        let before = ledger.fences_sent();
        let late = ledger.fence();
        ledger.fenced(early);
        assert!(ledger.fence_returned() > 0 && ledger.fence_returned() <= before);
        ledger.fenced(late);
        assert!(ledger.fence_returned() > before);
        // It was on its way by another server.
        ledger.fenced(early);
        assert!(ledger.fence_returned() > before);
    }

    #[test]
    fn an_abandoned_attempt_leaves_no_trace() {
        let ledger = Ledger::new(10, 1000);
        drop(ledger.open(id("a"), 10));
        assert_eq!((ledger.open_events(), ledger.fence().sent), (0, 0));
        send(&ledger, "b");
        assert_eq!(ledger.fenced(ledger.fence()), 1);
    }
}
