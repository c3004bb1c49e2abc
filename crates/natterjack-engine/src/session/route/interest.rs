//! What the peer said it wants on this connection, from `RS+` to `RS-`.
//!
//! It is kept by what its line says, since that is how the peer ends it. What it wants in an account that is not here is
//! kept too, so that it is there when a reload brings the account; nobody would say it again.
//!
//! A peer may want millions of things, so everything that concerns all of them is done in pieces, beside reading: by
//! [`PeerInterest::work`] and [`PeerInterest::remove_some`]. While there is work, what was not looked at yet is in a
//! table of its own, where it is found and ended like everything else.
//!
//! When the peer tells of an account elsewhere, what it has told here is in use no more from that moment on, and is
//! taken out in pieces later. What it says of the same things meanwhile is something new.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use natterjack_wire::route::{RemoteSubscribe, RemoteUnsubscribe};

use crate::access::CompiledPermissions;
use crate::account::Account;
use crate::config::Config;
use crate::mesh::link::RouteLink;
use crate::mesh::remote::{Announced, Lane, RemoteInterest};

/// Entries of accounts that are not here.
const WAITING_MAX: usize = 100_000;

/// What an entry takes beside its names: itself, its place among its connection's, its place in the account's index.
/// Measured with real processes: a million of them with subjects of 25 bytes take 317 bytes each, and on nats-server
/// 774 (`cluster::interest` in `interop/`).
const ENTRY_BYTES: usize = 260;

/// How often its names are kept.
const NAME_COPIES: usize = 2;

pub(super) struct PeerInterest {
    hasher: FixedState,
    held: HashTable<Held>,
    /// What has to be looked at because of other accounts or permissions, or because an account has gone elsewhere.
    unseen: HashTable<Held>,
    lanes: Vec<Arc<Lane>>,
    /// Accounts that are not here, by their names.
    absent: HashMap<Box<[u8]>, Arc<Absent>, FixedState>,
    bytes: usize,
    waiting: usize,
    /// Some of an account that is not here could not be kept.
    is_incomplete: bool,
    /// The peer says of which leaf nodes an interest was when it ends.
    names_origins: bool,
}

enum Held {
    There(Arc<RemoteInterest>),
    /// Until its account comes.
    Waiting(Box<Waiting>),
}

struct Waiting {
    account: Arc<Absent>,
    subject: Box<[u8]>,
    queue: Option<(Box<[u8]>, u32)>,
    origin: Box<[u8]>,
    is_of_leaf: bool,
}

/// An account that is not here, as a [`Lane`] is one that is.
struct Absent {
    name: Box<[u8]>,
    is_left: AtomicBool,
}

/// By what an interest is known: all of its line but the weight. A peer that names no origin when it ends an interest of
/// leaf nodes cannot mean one of several, so that all of a subject are one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key<'a> {
    account: &'a [u8],
    subject: &'a [u8],
    queue: Option<&'a [u8]>,
    origin: &'a [u8],
    is_of_leaf: bool,
}

/// What became of an interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// The subject is none.
    Invalid,
    /// There is no such account.
    UnknownAccount,
    /// It is more than may be kept.
    TooMuch,
}

/// What all interest goes by.
pub(super) struct Terms<'a> {
    pub(super) config: &'a Config,
    pub(super) permissions: Option<&'a CompiledPermissions>,
    pub(super) link: &'a Arc<RouteLink>,
}

impl PeerInterest {
    /// In which order interest ends with the connection comes from `seed`, as all chance does.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            held: HashTable::new(),
            unseen: HashTable::new(),
            lanes: Vec::new(),
            absent: HashMap::with_hasher(FixedState::with_seed(seed)),
            bytes: 0,
            waiting: 0,
            is_incomplete: false,
            names_origins: true,
        }
    }

    /// Before anything is announced.
    pub(super) fn set_names_origins(&mut self, names_origins: bool) {
        self.names_origins = names_origins;
    }

    pub(super) fn len(&self) -> usize {
        self.held.len() + self.unseen.len()
    }

    /// What it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// An account's part of the connection, from now on if it has none yet.
    pub(super) fn lane(&mut self, account: &Arc<Account>, link: &Arc<RouteLink>) -> Arc<Lane> {
        // What is told comes one account after another, so it is most often the latest.
        let known = (self.lanes.iter().rev()).find(|lane| Arc::ptr_eq(lane.account(), account));
        known.map(Arc::clone).unwrap_or_else(|| {
            let lane = Lane::enter(account, link);
            self.lanes.push(Arc::clone(&lane));
            lane
        })
    }

    /// Takes an interest, or its new weight. `account` is the one of the line, if it is here.
    pub(super) fn subscribe(
        &mut self,
        subscribe: &RemoteSubscribe<'_>,
        account_name: &[u8],
        account: Option<&Arc<Account>>,
        link: &Arc<RouteLink>,
        bytes_max: usize,
    ) -> Taken {
        let names_origins = self.names_origins;
        let queue = subscribe.queue.map(|queue| (queue.name, queue.weight));
        let origin = subscribe.origin.filter(|_| names_origins);
        let key = Key {
            account: account_name,
            subject: subscribe.subject,
            queue: queue.map(|(name, _)| name),
            origin: origin.unwrap_or_default(),
            is_of_leaf: names_origins && subscribe.origin.is_some(),
        };
        let hash = self.hasher.hash_one(key);
        let is_it = |held: &Held| held.key(names_origins) == key;
        if let Ok(found) = self
            .unseen
            .find_entry(hash, |held| is_it(held) && held.is_left())
        {
            let (held, _) = found.remove();
            self.end(&held);
        }
        let known = match self.held.find_mut(hash, is_it) {
            None => self.unseen.find_mut(hash, is_it),
            known => known,
        };
        match (known, queue) {
            (Some(Held::There(interest)), Some((_, weight))) => {
                interest.set_weight(weight);
                return Taken::Yes;
            }
            (Some(Held::Waiting(waiting)), Some((_, weight))) => {
                if let Some((_, known)) = &mut waiting.queue {
                    *known = weight;
                }
                return Taken::UnknownAccount;
            }
            (Some(_), None) => return Taken::Yes,
            (None, _) => {}
        }
        if self.bytes >= bytes_max {
            return Taken::TooMuch;
        }
        let announced = Announced {
            subject: subscribe.subject,
            queue,
            is_of_leaf: subscribe.origin.is_some(),
            origin: key.origin,
        };
        let (held, taken) = match account {
            Some(account) => match RemoteInterest::insert(&self.lane(account, link), announced) {
                Some(interest) => (Held::There(interest), Taken::Yes),
                None => return Taken::Invalid,
            },
            None if self.waiting >= WAITING_MAX => {
                self.is_incomplete = true;
                return Taken::UnknownAccount;
            }
            None => {
                self.waiting += 1;
                let waiting = Waiting {
                    account: self.absent(account_name),
                    subject: announced.subject.into(),
                    queue: queue.map(|(name, weight)| (name.into(), weight)),
                    origin: announced.origin.into(),
                    is_of_leaf: announced.is_of_leaf,
                };
                (Held::Waiting(Box::new(waiting)), Taken::UnknownAccount)
            }
        };
        self.bytes += held.bytes();
        let hasher = &self.hasher;
        let rehash = |held: &Held| hasher.hash_one(held.key(names_origins));
        self.held.insert_unique(hash, held, rehash);
        taken
    }

    /// Ends an interest; what was never announced is nothing to end.
    pub(super) fn unsubscribe(&mut self, end: &RemoteUnsubscribe<'_>, account_name: &[u8]) {
        let names_origins = self.names_origins;
        let key = Key {
            account: account_name,
            subject: end.subject,
            queue: end.queue,
            origin: end.origin.filter(|_| names_origins).unwrap_or_default(),
            is_of_leaf: names_origins && end.leaf,
        };
        let hash = self.hasher.hash_one(key);
        let is_it = |held: &Held| held.key(names_origins) == key;
        let mut found = self.held.find_entry(hash, is_it);
        if found.is_err() {
            found = self.unseen.find_entry(hash, is_it);
        }
        if let Ok(found) = found {
            let (held, _) = found.remove();
            self.end(&held);
        }
    }

    /// What was held is so no more.
    fn end(&mut self, held: &Held) {
        self.bytes -= held.bytes();
        match held {
            Held::There(interest) => interest.remove(),
            Held::Waiting(waiting) => {
                self.waiting -= 1;
                // Its own, and the one in the list.
                if Arc::strong_count(&waiting.account) == 2 && !held.is_left() {
                    self.absent.remove(&waiting.account.name);
                }
            }
        }
    }

    fn absent(&mut self, account: &[u8]) -> Arc<Absent> {
        if let Some(known) = self.absent.get(account) {
            return Arc::clone(known);
        }
        let absent = Arc::new(Absent {
            name: account.into(),
            is_left: AtomicBool::new(false),
        });
        self.absent.insert(account.into(), Arc::clone(&absent));
        absent
    }

    /// Whether an account has a part of the connection.
    pub(super) fn has_lane(&self, account: &str) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.any(|lane| lane.account().name() == account)
    }

    /// The peer tells of an account elsewhere: nothing of what it has told here is in use any more, and all of it [is to
    /// end](Self::work).
    pub(super) fn leave_account(&mut self, account: &str) {
        let is_it = |lane: &mut Arc<Lane>| lane.account().name() == account;
        let mut is_any = false;
        for lane in self.lanes.extract_if(.., is_it) {
            lane.leave();
            is_any = true;
        }
        if let Some(absent) = self.absent.remove(account.as_bytes()) {
            absent.is_left.store(true, Ordering::Relaxed);
            is_any = true;
        }
        if is_any {
            self.look_again();
        }
    }

    /// All of it has to be looked at by [`work`](Self::work).
    pub(super) fn look_again(&mut self) {
        if self.unseen.is_empty() {
            std::mem::swap(&mut self.held, &mut self.unseen);
            return;
        }
        let (hasher, names_origins) = (&self.hasher, self.names_origins);
        let rehash = |held: &Held| hasher.hash_one(held.key(names_origins));
        for held in self.held.drain() {
            self.unseen.insert_unique(rehash(&held), held, rehash);
        }
    }

    /// Whether there is something to look at.
    pub(super) fn has_work(&self) -> bool {
        !self.unseen.is_empty()
    }

    /// Whether all that came of accounts that were not here could be kept. If not, the peer has to announce everything
    /// again.
    pub(super) fn is_complete(&self) -> bool {
        !self.is_incomplete
    }

    /// Looks at up to `count` entries whether they are still there: goes by other accounts and permissions. Returns
    /// whether there are more.
    pub(super) fn work(&mut self, terms: &Terms<'_>, count: usize) -> bool {
        let mut unseen = std::mem::take(&mut self.unseen);
        for held in unseen.extract_if(|_| true).take(count) {
            self.bytes -= held.bytes();
            if matches!(held, Held::Waiting(_)) {
                self.waiting -= 1;
            }
            let Some(held) = self.judge(held, terms) else {
                continue;
            };
            self.bytes += held.bytes();
            if matches!(held, Held::Waiting(_)) {
                self.waiting += 1;
            }
            let (hasher, names_origins) = (&self.hasher, self.names_origins);
            let rehash = |held: &Held| hasher.hash_one(held.key(names_origins));
            self.held.insert_unique(rehash(&held), held, rehash);
        }
        if unseen.is_empty() {
            self.forget_accounts(terms.config);
        } else {
            self.unseen = unseen;
        }
        self.has_work()
    }

    /// Everything goes by the accounts there are: forgets those that went, and those that came.
    fn forget_accounts(&mut self, config: &Config) {
        self.lanes.retain(|lane| {
            let account = config.account(lane.account().name());
            account.is_some_and(|(account, _)| Arc::ptr_eq(account, lane.account()))
        });
        self.absent
            .retain(|_, absent| Arc::strong_count(absent) > 1);
    }

    /// What an entry is by other terms; `None` if it is nothing.
    fn judge(&mut self, held: Held, terms: &Terms<'_>) -> Option<Held> {
        let find = |name: &[u8]| {
            let name = core::str::from_utf8(name).ok()?;
            terms.config.account(name).map(|(account, _)| account)
        };
        let may_accept = |subject: &[u8]| {
            let permissions = terms.permissions;
            permissions.is_none_or(|permissions| permissions.may_subscribe(subject, None))
        };
        let is_left = held.is_left();
        let held = match held {
            Held::There(interest) => {
                if is_left || !may_accept(interest.subject()) {
                    interest.remove();
                    return None;
                }
                let account = find(interest.account().name().as_bytes());
                if account.is_some_and(|account| Arc::ptr_eq(account, interest.account())) {
                    return Some(Held::There(interest));
                }
                interest.remove();
                let account = self.absent(interest.account().name().as_bytes());
                Box::new(Waiting::of(&interest, account))
            }
            Held::Waiting(_) if is_left => return None,
            Held::Waiting(waiting) => waiting,
        };
        match find(&held.account.name) {
            None => Some(Held::Waiting(held)),
            Some(account) if may_accept(&held.subject) => {
                let lane = self.lane(account, terms.link);
                RemoteInterest::insert(&lane, held.announced()).map(Held::There)
            }
            Some(_) => None,
        }
    }

    /// Ends up to `count` of them. Returns whether none is left.
    pub(super) fn remove_some(&mut self, count: usize) -> bool {
        // At once, so that another connection takes their place.
        self.lanes.drain(..).for_each(|lane| lane.leave());
        let Self { held, unseen, .. } = self;
        let held = held.extract_if(|_| true);
        for held in held.chain(unseen.extract_if(|_| true)).take(count) {
            if let Held::There(interest) = held {
                interest.remove();
            }
        }
        let is_empty = self.held.is_empty() && self.unseen.is_empty();
        if is_empty {
            (self.held, self.unseen) = (HashTable::new(), HashTable::new());
            (self.bytes, self.waiting) = (0, 0);
            self.absent.clear();
        }
        is_empty
    }
}

impl Held {
    /// The kind that the line says is part of it only if the peer names origins.
    fn key(&self, names_origins: bool) -> Key<'_> {
        match self {
            Self::There(interest) => Key {
                account: interest.account().name().as_bytes(),
                subject: interest.subject(),
                queue: interest.queue(),
                origin: interest.origin(),
                is_of_leaf: names_origins && interest.is_of_leaf(),
            },
            Self::Waiting(waiting) => Key {
                account: &waiting.account.name,
                subject: &waiting.subject,
                queue: waiting.queue.as_ref().map(|(name, _)| &**name),
                origin: &waiting.origin,
                is_of_leaf: names_origins && waiting.is_of_leaf,
            },
        }
    }

    /// Whether the peer has told of its account elsewhere since.
    fn is_left(&self) -> bool {
        match self {
            Self::There(interest) => interest.lane().is_left(),
            Self::Waiting(waiting) => waiting.account.is_left.load(Ordering::Relaxed),
        }
    }

    /// What it takes, about.
    fn bytes(&self) -> usize {
        let names = match self {
            Self::There(interest) => interest.names_len(),
            Self::Waiting(waiting) => {
                let queue = waiting.queue.as_ref().map_or(0, |(name, _)| name.len());
                waiting.account.name.len() + waiting.subject.len() + queue + waiting.origin.len()
            }
        };
        ENTRY_BYTES + names * NAME_COPIES
    }
}

impl Waiting {
    fn of(interest: &RemoteInterest, account: Arc<Absent>) -> Self {
        Self {
            account,
            subject: interest.subject().into(),
            queue: (interest.queue()).map(|queue| (queue.into(), interest.weight())),
            origin: interest.origin().into(),
            is_of_leaf: interest.is_of_leaf(),
        }
    }

    fn announced(&self) -> Announced<'_> {
        Announced {
            subject: &self.subject,
            queue: (self.queue.as_ref()).map(|(name, weight)| (&**name, *weight)),
            is_of_leaf: self.is_of_leaf,
            origin: &self.origin,
        }
    }
}
