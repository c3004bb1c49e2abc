//! What an account's subscribers on this server are interested in, and telling peers of it.
//!
//! A peer hears of a subject when the first subscriber comes and when the last one goes, and of a queue group
//! whenever its number of members changes (route protocol, section 4). Changes are written to the links under one
//! lock, so that every peer hears of them in the order in which they happened.
//!
//! A link that is attached later has to hear of everything there is. That is written to it in pieces, between
//! which the account goes on changing: entries have numbers, and each link a number up to which it has heard of
//! them. A change below it is written at once, one above it will be found when the pieces come there.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use natterjack_wire::route::{self, QueueInterest, RemoteSubscribe, RemoteUnsubscribe};
use parking_lot::Mutex;

use super::link::{InterestFilter, RouteLink};

/// The interest of one account's subscribers on this server.
#[derive(Default)]
pub(crate) struct LocalInterest {
    /// Whether there may ever be a peer to be told.
    is_kept: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hasher: RandomState,
    /// Entries by their number; those in `free` are empty.
    entries: Vec<Entry>,
    free: Vec<u32>,
    numbers: HashTable<u32>,
    attached: Vec<Attached>,
    text: Vec<u8>,
}

#[derive(Default)]
struct Entry {
    subject: Box<[u8]>,
    queue: Option<Box<[u8]>>,
    subscribers: u32,
}

struct Attached {
    link: Arc<RouteLink>,
    /// It has heard of the entries below this number.
    told: usize,
}

impl LocalInterest {
    /// From now on what is there is kept, for peers to be told. Before the first subscription.
    pub(crate) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// A subscriber comes. Before it is in the index, so that none goes that has not come.
    pub(crate) fn add(&self, account: &str, subject: &[u8], queue: Option<&[u8]>) {
        if self.is_kept.load(Ordering::Relaxed) {
            self.state.lock().change(account, subject, queue, true);
        }
    }

    /// A subscriber has gone from the index.
    pub(crate) fn remove(&self, account: &str, subject: &[u8], queue: Option<&[u8]>) {
        if self.is_kept.load(Ordering::Relaxed) {
            self.state.lock().change(account, subject, queue, false);
        }
    }

    /// Subjects and queue groups that somebody is interested in.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().numbers.len()
    }

    /// From now on `link` is told what is new; [`replay`](Self::replay) tells it the rest. Attaching it again changes
    /// nothing.
    pub(crate) fn attach(&self, link: &Arc<RouteLink>) {
        let mut state = self.state.lock();
        if state.find(link).is_none() {
            state.attached.push(Attached {
                link: Arc::clone(link),
                told: 0,
            });
        }
    }

    /// `link` stays, and serves the account no more: of what it has been told there is nothing left.
    pub(crate) fn withdraw(&self, account: &str, link: &Arc<RouteLink>) {
        let mut state = self.state.lock();
        let Some(position) = state.find(link) else {
            return;
        };
        let Attached { told, .. } = state.attached.swap_remove(position);
        let State { entries, text, .. } = &mut *state;
        text.clear();
        for entry in &entries[..told] {
            if entry.subscribers > 0 && link.may_announce(&entry.subject) {
                entry.revoke(account, link, text);
            }
        }
        tell(link, text);
    }

    /// Those of these connections that serve the account.
    pub(crate) fn attached_among(&self, connections: &[u64]) -> Vec<Arc<RouteLink>> {
        let state = self.state.lock();
        let attached = state.attached.iter().map(|attached| &attached.link);
        attached
            .filter(|link| connections.contains(&link.outbox().id()))
            .cloned()
            .collect()
    }

    /// `link` is told nothing more.
    pub(crate) fn detach(&self, link: &Arc<RouteLink>) {
        let mut state = self.state.lock();
        state
            .attached
            .retain(|attached| !Arc::ptr_eq(&attached.link, link));
    }

    /// Tells `link` of up to `lines_max` entries that it has not heard of. Returns whether there are more.
    pub(crate) fn replay(&self, account: &str, link: &Arc<RouteLink>, lines_max: usize) -> bool {
        let mut state = self.state.lock();
        let Some(position) = state.find(link) else {
            return false;
        };
        let State {
            entries,
            attached,
            text,
            ..
        } = &mut *state;
        let first = attached[position].told;
        let end = entries.len().min(first + lines_max);
        text.clear();
        for entry in &entries[first..end] {
            if entry.subscribers > 0 && link.may_announce(&entry.subject) {
                entry.announce(account, link, text);
            }
        }
        attached[position].told = end;
        let has_more = end < entries.len();
        tell(link, text);
        has_more
    }

    /// What `link` hears of has been [decided anew](RouteLink::set_filter): it is told what it was not told before, and
    /// that of what it must not know any more there is nothing left. What changed in between may be told twice.
    pub(crate) fn refilter(
        &self,
        account: &str,
        link: &Arc<RouteLink>,
        former: Option<&InterestFilter>,
    ) {
        let mut state = self.state.lock();
        let State {
            entries,
            attached,
            text,
            ..
        } = &mut *state;
        let told = attached
            .iter()
            .find(|attached| Arc::ptr_eq(&attached.link, link))
            .map_or(0, |attached| attached.told);
        text.clear();
        for entry in entries[..told].iter().filter(|entry| entry.subscribers > 0) {
            let could = former.is_none_or(|former| former(&entry.subject));
            let can = link.may_announce(&entry.subject);
            match (could, can) {
                (false, true) => entry.announce(account, link, text),
                (true, false) => entry.revoke(account, link, text),
                _ => {}
            }
        }
        tell(link, text);
    }
}

impl State {
    fn find(&self, link: &Arc<RouteLink>) -> Option<usize> {
        self.attached
            .iter()
            .position(|attached| Arc::ptr_eq(&attached.link, link))
    }

    fn change(&mut self, account: &str, subject: &[u8], queue: Option<&[u8]>, comes: bool) {
        let Some(number) = self.number(subject, queue, comes) else {
            return;
        };
        let entry = &mut self.entries[number];
        if comes {
            entry.subscribers += 1;
        } else {
            entry.subscribers -= 1;
        }
        let (is_new, is_gone) = (comes && entry.subscribers == 1, entry.subscribers == 0);
        if is_new || is_gone || queue.is_some() {
            let Self {
                entries,
                attached,
                text,
                ..
            } = self;
            let entry = &entries[number];
            for Attached { link, told } in attached {
                if number < *told && link.may_announce(subject) {
                    text.clear();
                    if is_gone {
                        entry.revoke(account, link, text);
                    } else {
                        entry.announce(account, link, text);
                    }
                    tell(link, text);
                }
            }
        }
        if is_gone {
            self.free(number);
        }
    }

    /// The number of an entry; a new one if there is none and `is_wanted`.
    fn number(&mut self, subject: &[u8], queue: Option<&[u8]>, is_wanted: bool) -> Option<usize> {
        let hash = self.hasher.hash_one((subject, queue));
        let Self {
            hasher,
            entries,
            numbers,
            free,
            attached,
            ..
        } = self;
        let known = numbers.find(hash, |&number| {
            let entry = &entries[number as usize];
            *entry.subject == *subject && entry.queue.as_deref() == queue
        });
        if let Some(&number) = known {
            return Some(number as usize);
        }
        if !is_wanted {
            return None;
        }
        let entry = Entry {
            subject: subject.into(),
            queue: queue.map(Into::into),
            subscribers: 0,
        };
        let number = if let Some(number) = free.pop() {
            entries[number as usize] = entry;
            number
        } else {
            let number = entries.len();
            entries.push(entry);
            // Who has heard of everything hears of what is new at once.
            for attached in attached {
                if attached.told == number {
                    attached.told += 1;
                }
            }
            u32::try_from(number).expect("four thousand million subjects do not fit in memory")
        };
        numbers.insert_unique(hash, number, |&number| {
            let entry = &entries[number as usize];
            hasher.hash_one((&*entry.subject, entry.queue.as_deref()))
        });
        Some(number as usize)
    }

    fn free(&mut self, number: usize) {
        let Entry { subject, queue, .. } = std::mem::take(&mut self.entries[number]);
        let hash = self.hasher.hash_one((&*subject, queue.as_deref()));
        let found = self
            .numbers
            .find_entry(hash, |&known| known as usize == number);
        if let Ok(found) = found {
            found.remove();
        }
        self.free.push(number as u32);
        if self.numbers.is_empty() {
            // After the last of many, nothing is left of the room they took.
            self.entries = Vec::new();
            self.free = Vec::new();
            self.numbers = HashTable::new();
            self.attached
                .iter_mut()
                .for_each(|attached| attached.told = 0);
        }
    }
}

impl Entry {
    fn announce(&self, account: &str, link: &RouteLink, text: &mut Vec<u8>) {
        route::subscribe(
            text,
            &RemoteSubscribe {
                origin: None,
                account: link.account_token(account),
                subject: &self.subject,
                queue: self.queue.as_deref().map(|name| QueueInterest {
                    name,
                    weight: self.subscribers,
                }),
            },
        );
    }

    fn revoke(&self, account: &str, link: &RouteLink, text: &mut Vec<u8>) {
        route::unsubscribe(
            text,
            &RemoteUnsubscribe {
                leaf: false,
                origin: None,
                account: link.account_token(account),
                subject: &self.subject,
                queue: self.queue.as_deref(),
            },
        );
    }
}

/// Queues lines for a peer. Its own task sends them, if nobody who delivers to it does so before.
fn tell(link: &RouteLink, text: &[u8]) {
    if !text.is_empty() {
        link.outbox().append_in_passing(text);
        link.outbox().wake();
    }
}
