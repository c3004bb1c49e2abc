//! What an account's subscribers on this server are interested in, and telling peers of it.
//!
//! A peer hears of a subject when the first subscriber comes and when the last one goes, and of a queue group
//! whenever its number of members changes (route protocol, section 4). Changes are written to the links under one
//! lock, so that every peer hears of them in the order in which they happened.
//!
//! # In pieces
//! A link that is attached later has to hear of everything there is; one whose filter changes of what has come and gone
//! by that; one of nats-server's that serves the account no more that there is nothing left. There may be millions of entries, and
//! the lock holds up subscribers, so each is done in [pieces](LocalInterest::work), between which the account
//! goes on changing. Entries have numbers. A link has heard of those below `told`; of these a sweep has done those
//! below `at`. A change is written at once as it is for the part in which its entry is: below `at` as it is to be after the
//! sweep, from there on as it was before, and above `told` not at all, since the pieces will come there.
//!
//! # From one link to another
//! With a peer of our kind an account goes from one connection to another, for all that
//! [`handover`](crate::session::route) says of it, by this alone: a link is attached and **wanted**, or attached until
//! another one has taken its place. Whenever a wanted link has heard of everything and others of the same peer are attached
//! as well, it says so with a number greater than theirs ([`AccountMove::Told`]). When the peer answers with that
//! number, those that are not wanted are detached, and say so ([`AccountMove::Elsewhere`]).

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use natterjack_wire::route::{
    self, AccountMove, QueueInterest, RemoteSubscribe, RemoteUnsubscribe, RouteInfo,
};
use parking_lot::Mutex;
use smallvec::SmallVec;

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
    /// It is the one that is to serve the account.
    is_wanted: bool,
    /// With which it last said that it has heard of everything; 0 if it has not said so.
    number: u64,
    /// The peer has answered that.
    is_taken: bool,
    /// It has heard of the entries below this number.
    told: usize,
    /// What it has heard of, or would have.
    filter: Option<Arc<InterestFilter>>,
    sweep: Option<Sweep>,
    /// To be done once the sweep is over.
    then: Then,
    /// It has heard that there is nothing left.
    is_gone: bool,
}

/// Entries that were told of are looked at again, from the first one on.
struct Sweep {
    /// Those below have been.
    at: usize,
    aim: Aim,
}

/// What a sweep is for.
enum Aim {
    /// The link hears of what another filter lets through.
    Filter(Option<Arc<InterestFilter>>),
    /// It hears of nothing.
    Nothing,
}

enum Then {
    Nothing,
    /// Another filter has come.
    Refilter,
    /// It serves the account no more.
    Withdraw,
    /// It serves the account again.
    Attach,
}

/// How far the work for a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worked {
    /// Entries that were looked at.
    pub(crate) entries: usize,
    pub(crate) left: Left,
}

/// What is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    More,
    /// The link has heard of everything.
    Nothing,
    /// It has heard that there is nothing left, or was not attached.
    Detached,
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

    /// From now on `link` is told what is new; [`work`](Self::work) tells it the rest. Attaching it again changes
    /// nothing.
    pub(crate) fn attach(&self, link: &Arc<RouteLink>) {
        let mut state = self.state.lock();
        match state.find(link) {
            Some(position) => {
                let attached = &mut state.attached[position];
                if attached.is_leaving() {
                    attached.then = Then::Attach;
                } else if matches!(attached.then, Then::Withdraw) {
                    attached.then = Then::Refilter;
                }
            }
            None => state.attached.push(Attached::new(link)),
        }
    }

    /// `link` stays, and serves the account no more: [`work`](Self::work) tells it that there is nothing left.
    pub(crate) fn withdraw(&self, link: &Arc<RouteLink>) {
        let mut state = self.state.lock();
        let Some(position) = state.find(link) else {
            return;
        };
        let attached = &mut state.attached[position];
        match attached.sweep {
            None => attached.begin(Aim::Nothing),
            Some(_) if attached.is_leaving() => attached.then = Then::Nothing,
            Some(_) => attached.then = Then::Withdraw,
        }
    }

    /// Whether `link` serves the account.
    pub(crate) fn is_attached(&self, link: &Arc<RouteLink>) -> bool {
        let state = self.state.lock();
        state
            .find(link)
            .is_some_and(|position| !state.attached[position].ends())
    }

    /// Whether another connection with the same peer serves the account.
    pub(crate) fn is_served_elsewhere(&self, link: &Arc<RouteLink>) -> bool {
        let state = self.state.lock();
        let mut others = state.attached.iter().filter(|attached| !attached.ends());
        others.any(|attached| attached.is_beside(link))
    }

    /// Whether `link` is the one with its peer that is to serve the account; as [`attach`](Self::attach) if it is. If it is
    /// not, it goes on until another one has taken its place. With peers of our kind.
    pub(crate) fn want(&self, account: &str, link: &Arc<RouteLink>, is_wanted: bool) {
        let mut state = self.state.lock();
        match state.find(link) {
            Some(position) => state.attached[position].is_wanted = is_wanted,
            None if is_wanted => state.attached.push(Attached::new(link)),
            None => {}
        }
        state.settle(account, link.peer());
    }

    /// The peer has taken it in that all is told on `link`, as was said with this number: those that are not wanted
    /// are told nothing more.
    pub(crate) fn is_taken(&self, account: &str, link: &Arc<RouteLink>, number: u64) {
        let mut state = self.state.lock();
        if let Some(position) = state.find(link) {
            let attached = &mut state.attached[position];
            attached.is_taken |= attached.number == number;
            state.settle(account, link.peer());
        }
    }

    /// The account is not here any more, or not to be served by `link` in any case, which says so. With peers of our kind.
    pub(crate) fn leave(&self, account: &str, link: &Arc<RouteLink>) {
        let mut state = self.state.lock();
        state.remove(account, link);
        say(link, account, AccountMove::Elsewhere, 0);
    }

    /// `link` is told nothing more: it has ended.
    pub(crate) fn detach(&self, account: &str, link: &Arc<RouteLink>) {
        self.state.lock().remove(account, link);
    }

    /// What `link` hears of has been [decided anew](RouteLink::set_filter): [`work`](Self::work) tells it what it was not
    /// told before, and that of what it must not know any more there is nothing left.
    pub(crate) fn refilter(&self, link: &Arc<RouteLink>) {
        let mut state = self.state.lock();
        let Some(position) = state.find(link) else {
            return;
        };
        let attached = &mut state.attached[position];
        if attached.sweep.is_none() {
            attached.begin(Aim::Filter(link.filter()));
        } else if !attached.is_leaving() && !matches!(attached.then, Then::Withdraw) {
            attached.then = Then::Refilter;
        }
    }

    /// Does up to `entries_max` entries of what is to be done for `link`.
    pub(crate) fn work(&self, account: &str, link: &Arc<RouteLink>, entries_max: usize) -> Worked {
        let mut state = self.state.lock();
        let Some(position) = state.find(link) else {
            return Worked {
                entries: 0,
                left: Left::Detached,
            };
        };
        let State {
            entries,
            attached,
            text,
            ..
        } = &mut *state;
        text.clear();
        let one = &mut attached[position];
        let looked_at = if one.sweep.is_some() {
            one.sweep_some(entries, account, entries_max, text)
        } else {
            one.tell_some(entries, account, entries_max, text)
        };
        let left = if one.is_gone {
            Left::Detached
        } else if one.sweep.is_some() || one.told < entries.len() {
            Left::More
        } else {
            Left::Nothing
        };
        tell(link, text);
        match left {
            Left::More => {}
            Left::Nothing => state.settle(account, link.peer()),
            Left::Detached => drop(state.attached.remove(position)),
        }
        Worked {
            entries: looked_at,
            left,
        }
    }
}

impl Attached {
    fn new(link: &Arc<RouteLink>) -> Self {
        Self {
            link: Arc::clone(link),
            is_wanted: true,
            number: 0,
            is_taken: false,
            told: 0,
            filter: link.filter(),
            sweep: None,
            then: Then::Nothing,
            is_gone: false,
        }
    }

    /// Whether it is another connection with the same peer.
    fn is_beside(&self, link: &Arc<RouteLink>) -> bool {
        self.link.peer() == link.peer() && !Arc::ptr_eq(&self.link, link)
    }

    /// Whether it is being told that there is nothing left.
    fn is_leaving(&self) -> bool {
        matches!(&self.sweep, Some(sweep) if matches!(sweep.aim, Aim::Nothing))
    }

    /// Whether it serves the account no more once what is under way is done.
    fn ends(&self) -> bool {
        let is_again = matches!(self.then, Then::Attach);
        self.is_leaving() && !is_again || matches!(self.then, Then::Withdraw)
    }

    fn begin(&mut self, aim: Aim) {
        self.then = Then::Nothing;
        self.sweep = Some(Sweep { at: 0, aim });
    }

    /// What to do about a change of the entry with this number.
    fn hears(&self, number: usize, subject: &[u8]) -> Hears {
        let lets = |filter: &Option<Arc<InterestFilter>>| {
            filter.as_deref().is_none_or(|filter| filter(subject))
        };
        let is_known = match &self.sweep {
            _ if number >= self.told => false,
            None => lets(&self.filter),
            Some(Sweep { at, aim }) => match aim {
                Aim::Filter(next) if number < *at => lets(next),
                Aim::Nothing if number < *at => false,
                _ => lets(&self.filter),
            },
        };
        match is_known {
            false => Hears::Nothing,
            true if self.is_leaving() => Hears::Ends,
            true => Hears::All,
        }
    }

    /// Tells of entries that it has not heard of.
    fn tell_some(
        &mut self,
        entries: &[Entry],
        account: &str,
        entries_max: usize,
        text: &mut Vec<u8>,
    ) -> usize {
        let first = self.told;
        let end = entries.len().min(first + entries_max);
        let filter = self.filter.as_deref();
        for entry in &entries[first..end] {
            if entry.subscribers > 0 && filter.is_none_or(|filter| filter(&entry.subject)) {
                entry.announce(account, &self.link, text);
            }
        }
        self.told = end;
        end - first
    }

    fn sweep_some(
        &mut self,
        entries: &[Entry],
        account: &str,
        entries_max: usize,
        text: &mut Vec<u8>,
    ) -> usize {
        let Some(Sweep { at, aim }) = &mut self.sweep else {
            return 0;
        };
        let lets = |filter: &Option<Arc<InterestFilter>>, entry: &Entry| {
            filter
                .as_deref()
                .is_none_or(|filter| filter(&entry.subject))
        };
        let first = *at;
        let end = self.told.min(first + entries_max);
        for entry in entries[first..end]
            .iter()
            .filter(|entry| entry.subscribers > 0)
        {
            let could = lets(&self.filter, entry);
            let can = match aim {
                Aim::Filter(next) => lets(next, entry),
                Aim::Nothing => false,
            };
            match (could, can) {
                (false, true) => entry.announce(account, &self.link, text),
                (true, false) => entry.revoke(account, &self.link, text),
                _ => {}
            }
        }
        *at = end;
        if end == self.told {
            self.end_sweep();
        }
        end - first
    }

    fn end_sweep(&mut self) {
        match self.sweep.take().map(|sweep| sweep.aim) {
            Some(Aim::Filter(filter)) => {
                self.filter = filter;
                match self.then {
                    Then::Refilter => self.begin(Aim::Filter(self.link.filter())),
                    Then::Withdraw => self.begin(Aim::Nothing),
                    Then::Nothing | Then::Attach => {}
                }
            }
            Some(Aim::Nothing) if matches!(self.then, Then::Attach) => {
                *self = Self::new(&self.link);
            }
            Some(Aim::Nothing) => self.is_gone = true,
            None => {}
        }
    }
}

/// What a link hears of a change.
enum Hears {
    Nothing,
    /// If the entry is gone, that.
    Ends,
    All,
}

impl State {
    fn find(&self, link: &Arc<RouteLink>) -> Option<usize> {
        self.attached
            .iter()
            .position(|attached| Arc::ptr_eq(&attached.link, link))
    }

    fn remove(&mut self, account: &str, link: &Arc<RouteLink>) {
        if let Some(position) = self.find(link) {
            self.attached.remove(position);
            self.settle(account, link.peer());
        }
    }

    /// If a peer of our kind is told on several connections, and everything on one that is to serve the account, says
    /// that it is that one, once; and once the peer has answered that, the others, unless they are to serve it as well,
    /// are told nothing more. To be called after every change, since who is to serve it is found out by each connection
    /// in its own time.
    fn settle(&mut self, account: &str, peer: &Arc<str>) {
        let entries = self.entries.len();
        let with_peer = |attached: &&mut Attached| {
            let link = &attached.link;
            link.hands_over() && link.peer() == peer && !link.outbox().is_closed()
        };
        let mut with_peer: SmallVec<[_; 2]> = self.attached.iter_mut().filter(with_peer).collect();
        let latest = with_peer.iter().map(|attached| attached.number).max();
        let is_alone = with_peer.len() < 2;
        let mut fit = with_peer.iter_mut();
        let fit = fit.find(|attached| attached.is_wanted && attached.told == entries);
        if let (Some(fit), Some(latest)) = (fit, latest)
            && !is_alone
            && (fit.number == 0 || fit.number < latest)
        {
            fit.number = fit.link.next_move();
            fit.is_taken = false;
            say(&fit.link, account, AccountMove::Told, fit.number);
            return;
        }
        let is_settled = |attached: &&mut Attached| {
            attached.is_wanted && attached.is_taken && Some(attached.number) == latest
        };
        let is_settled = with_peer.iter().any(is_settled);
        drop(with_peer);
        if is_settled {
            let is_past =
                |attached: &mut Attached| attached.link.peer() == peer && !attached.is_wanted;
            for past in self.attached.extract_if(.., is_past) {
                say(&past.link, account, AccountMove::Elsewhere, 0);
            }
        }
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
            for attached in attached {
                let hears = attached.hears(number, subject);
                text.clear();
                match hears {
                    Hears::All if !is_gone => entry.announce(account, &attached.link, text),
                    Hears::All | Hears::Ends if is_gone => {
                        entry.revoke(account, &attached.link, text);
                    }
                    _ => continue,
                }
                tell(&attached.link, text);
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
                if attached.told == number && !attached.is_leaving() {
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
            for attached in &mut self.attached {
                attached.told = 0;
                if let Some(sweep) = &mut attached.sweep {
                    sweep.at = 0;
                }
            }
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

/// Queues word of where an account is told of.
fn say(link: &RouteLink, account: &str, account_move: AccountMove, number: u64) {
    let mut text = Vec::new();
    route::info(&mut text, &RouteInfo::moving(account, account_move, number));
    tell(link, &text);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::IoSlice;

    use proptest::prelude::*;

    use natterjack_wire::route::ACCOUNT_MOVES;

    use super::*;
    use crate::delivery::outbox::{Outbox, OutboxLimits};
    use crate::delivery::transport::Transport;

    const ACCOUNT: &str = "A";

    #[derive(Default)]
    struct Sent(Mutex<Vec<u8>>);

    impl Transport for Sent {
        fn try_write(&self, slices: &[IoSlice<'_>]) -> std::io::Result<usize> {
            let mut sent = self.0.lock();
            slices
                .iter()
                .for_each(|slice| sent.extend_from_slice(slice));
            Ok(slices.iter().map(|slice| slice.len()).sum())
        }

        fn wake(&self) {}
    }

    /// What happens to an account and one connection with a peer.
    #[derive(Clone, Debug)]
    enum Event {
        Comes(usize),
        Goes(usize),
        Attach,
        Withdraw,
        Detach,
        Filter(u8),
        /// Some of what is to be done.
        Work(usize),
        /// All of it.
        Finish,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            12 => (0..ENTRIES).prop_map(Event::Comes),
            8 => (0..ENTRIES).prop_map(Event::Goes),
            2 => Just(Event::Attach),
            1 => Just(Event::Withdraw),
            1 => Just(Event::Detach),
            3 => (0..8_u8).prop_map(Event::Filter),
            6 => (1..5_usize).prop_map(Event::Work),
            1 => Just(Event::Finish),
        ]
    }

    /// Subjects `0` to `7`, each alone and with two groups.
    const ENTRIES: usize = 24;

    fn names(entry: usize) -> (String, Option<String>) {
        let queue = entry % 3;
        (
            (entry / 3).to_string(),
            (queue > 0).then(|| format!("q{queue}")),
        )
    }

    /// Lets through subjects with one of the bits.
    fn filter(bits: u8) -> Option<Arc<InterestFilter>> {
        (bits > 0).then(|| -> Arc<InterestFilter> {
            Arc::new(move |subject: &[u8]| (subject[0] - b'0') & bits > 0)
        })
    }

    fn lets(bits: u8, entry: usize) -> bool {
        bits == 0 || (entry / 3) as u8 & bits > 0
    }

    struct Game {
        interest: LocalInterest,
        link: Arc<RouteLink>,
        sent: Arc<Sent>,
        /// What the peer knows: subject, queue group and its members.
        peer: BTreeMap<(String, Option<String>), u32>,
        subscribers: [u32; ENTRIES],
        bits: u8,
        is_attached: bool,
    }

    impl Game {
        fn new() -> Self {
            let sent = Arc::new(Sent::default());
            let limits = OutboxLimits {
                pending_bytes_max: usize::MAX,
                congested_bytes: usize::MAX,
                drop_bytes: usize::MAX,
                must_finish: false,
            };
            let outbox = Outbox::new(1, limits, Arc::clone(&sent) as Arc<dyn Transport>);
            let info = RouteInfo {
                server_id: "N".to_owned(),
                account_moves: ACCOUNT_MOVES,
                strays: true,
                ..RouteInfo::default()
            };
            let link = RouteLink::new(Arc::new(outbox), None, &info, None);
            let interest = LocalInterest::default();
            interest.keep();
            Self {
                interest,
                link: Arc::new(link),
                sent,
                peer: BTreeMap::new(),
                subscribers: [0; ENTRIES],
                bits: 0,
                is_attached: false,
            }
        }

        fn play(&mut self, event: &Event) {
            match *event {
                Event::Comes(entry) => {
                    let (subject, queue) = names(entry);
                    let queue = queue.as_deref().map(str::as_bytes);
                    self.interest.add(ACCOUNT, subject.as_bytes(), queue);
                    self.subscribers[entry] += 1;
                }
                Event::Goes(entry) if self.subscribers[entry] > 0 => {
                    let (subject, queue) = names(entry);
                    let queue = queue.as_deref().map(str::as_bytes);
                    self.interest.remove(ACCOUNT, subject.as_bytes(), queue);
                    self.subscribers[entry] -= 1;
                }
                Event::Goes(_) => {}
                Event::Attach => {
                    self.interest.attach(&self.link);
                    self.is_attached = true;
                }
                Event::Withdraw => {
                    self.interest.withdraw(&self.link);
                    self.is_attached = false;
                }
                Event::Detach => {
                    // Whoever does this has told the peer, which forgets.
                    self.interest.detach(ACCOUNT, &self.link);
                    self.is_attached = false;
                    self.read();
                    self.peer.clear();
                }
                Event::Filter(bits) => {
                    self.bits = bits;
                    self.link.set_filter(filter(bits));
                    self.interest.refilter(&self.link);
                }
                Event::Work(entries) => {
                    let worked = self.interest.work(ACCOUNT, &self.link, entries);
                    assert!(worked.entries <= entries);
                }
                Event::Finish => self.finish(),
            }
            assert_eq!(self.interest.is_attached(&self.link), self.is_attached);
            self.read();
        }

        fn finish(&mut self) {
            let most = 10 * ENTRIES;
            let left = (0..most).find(|_| {
                let worked = self.interest.work(ACCOUNT, &self.link, 3);
                worked.left != Left::More
            });
            assert!(left.is_some(), "it does not come to an end");
            self.read();
            let wanted = (0..ENTRIES).filter(|&entry| {
                self.is_attached && self.subscribers[entry] > 0 && lets(self.bits, entry)
            });
            let wanted: BTreeMap<_, _> = wanted
                .map(|entry| {
                    let (subject, queue) = names(entry);
                    let members = if queue.is_some() {
                        self.subscribers[entry]
                    } else {
                        1
                    };
                    ((subject, queue), members)
                })
                .collect();
            assert_eq!(self.peer, wanted);
        }

        /// The peer reads its lines.
        fn read(&mut self) {
            #[expect(
                clippy::disallowed_methods,
                reason = "an outbox that never blocks does not look at it"
            )]
            self.link.outbox().flush(std::time::Instant::now());
            let text = std::mem::take(&mut *self.sent.0.lock());
            for line in String::from_utf8(text).expect("text").lines() {
                let words: Vec<&str> = line.split(' ').collect();
                let queue = words.get(3).map(ToString::to_string);
                let key = (words[2].to_owned(), queue);
                let members = words
                    .get(4)
                    .map_or(1, |text| text.parse().expect("a number"));
                match words[0] {
                    "RS+" => self.peer.insert(key, members),
                    "RS-" => self.peer.remove(&key),
                    other => panic!("{other}"),
                };
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_the_peer_knows_in_the_end_what_it_should(
            events in prop::collection::vec(event(), 0..200),
        ) {
            let mut game = Game::new();
            for event in &events {
                game.play(event);
            }
            game.finish();
        }
    }
}
