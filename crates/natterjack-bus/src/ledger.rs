//! Own events on their way to the server and back.
//!
//! The server returns a node's own events in the order they were sent, so the oldest open entry is the next to return.
//! An entry that is overtaken by a later one, or by a fence sent after it, was lost when a connection broke: it will
//! never return. This knows no network; the `nats` transport drives it.

use std::collections::VecDeque;
use std::pin::Pin;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use uuid::Uuid;

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
    /// Fences that came back.
    fences: u64,
    /// Somebody waits for a change.
    is_watched: bool,
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

    /// Whether this event is ours and on its way. Linear in the open entries only if another node uses our name, or
    /// after a loss.
    pub(crate) fn is_open(&self, id: Uuid) -> bool {
        self.state.lock().open.iter().any(|entry| entry.id == id)
    }

    /// An open event has come back and is safe. Answers how many sent before it are lost.
    pub(crate) fn returned(&self, id: Uuid) -> u64 {
        let mut state = self.state.lock();
        let Some(lost) = state.open.iter().position(|entry| entry.id == id) else {
            return 0;
        };
        for _ in 0..=lost {
            state.close_oldest();
        }
        self.tell(state);
        lost as u64
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

    /// What a fence sent now must carry.
    pub(crate) fn sent(&self) -> u64 {
        self.state.lock().sent
    }

    /// A fence is back: everything sent before it has returned or never will. Answers how many are lost.
    pub(crate) fn fenced(&self, sent_before: u64) -> u64 {
        let mut state = self.state.lock();
        let mut lost = 0;
        while state
            .open
            .front()
            .is_some_and(|entry| entry.number < sent_before)
        {
            state.close_oldest();
            lost += 1;
        }
        state.fences += 1;
        self.tell(state);
        lost
    }

    pub(crate) fn fences(&self) -> u64 {
        self.state.lock().fences
    }

    /// Events on their way.
    pub(crate) fn open_events(&self) -> usize {
        self.state.lock().open.len()
    }
}

impl State {
    fn close_oldest(&mut self) {
        if let Some(entry) = self.open.pop_front() {
            self.bytes -= entry.bytes;
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
        assert_eq!(ledger.returned(id("a")), 0);
        send(&ledger, "c");
        assert!(ledger.is_open(id("c")) && !ledger.is_open(id("a")) && !ledger.is_open(id("x")));
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
        assert_eq!(ledger.returned(id("big")), 0);
        send(&ledger, "c");
        assert!(ledger.open(id("d"), 6).is_none());
    }

    #[test]
    fn what_is_overtaken_is_lost() {
        let ledger = Ledger::new(10, 1000);
        for id in ["a", "b", "c", "d"] {
            send(&ledger, id);
        }
        assert_eq!(ledger.returned(id("c")), 2);
        assert!(!ledger.is_open(id("a")));
        let fence = ledger.sent();
        send(&ledger, "e");
        assert_eq!(
            ledger.fenced(fence),
            1,
            "d was sent before the fence, e after"
        );
        assert_eq!(ledger.returned(id("e")), 0);
    }

    #[test]
    fn an_abandoned_attempt_leaves_no_trace() {
        let ledger = Ledger::new(10, 1000);
        drop(ledger.open(id("a"), 10));
        assert_eq!((ledger.open_events(), ledger.sent()), (0, 0));
        send(&ledger, "b");
        assert_eq!(ledger.fenced(1), 1);
    }
}
