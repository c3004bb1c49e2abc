//! What the peer said it wants on this connection, from `RS+` to `RS-`.
//!
//! It is kept by what its line says, since that is how the peer ends it. What it wants in an account that is not here is
//! kept too, so that it is there when a reload brings the account; nobody would say it again.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use natterjack_wire::route::{RemoteSubscribe, RemoteUnsubscribe};

use crate::access::CompiledPermissions;
use crate::account::Account;
use crate::config::Config;
use crate::mesh::link::RouteLink;
use crate::mesh::remote::{Announced, RemoteInterest};

/// Entries that a peer may have on one connection. Ten times what a large server has clients' subscriptions for.
const ENTRIES_MAX: usize = 10_000_000;

/// Bytes of their names.
const BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Entries of accounts that are not here.
const WAITING_MAX: usize = 100_000;

pub(super) struct PeerInterest {
    held: HashMap<Box<[u8]>, Held, FixedState>,
    bytes: usize,
    waiting: usize,
    /// Some of an account that is not here could not be kept.
    is_incomplete: bool,
    key: Vec<u8>,
}

enum Held {
    There(Arc<RemoteInterest>),
    /// Until its account comes.
    Waiting(Box<Waiting>),
}

struct Waiting {
    account: Box<[u8]>,
    subject: Box<[u8]>,
    queue: Option<(Box<[u8]>, u32)>,
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
    /// There are more than anybody needs.
    TooMuch,
}

impl PeerInterest {
    /// In which order interest ends with the connection comes from `seed`, as all chance does.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            held: HashMap::with_hasher(FixedState::with_seed(seed)),
            bytes: 0,
            waiting: 0,
            is_incomplete: false,
            key: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Takes an interest, or its new weight. `account` is the one of the line, if it is here.
    pub(super) fn subscribe(
        &mut self,
        subscribe: &RemoteSubscribe<'_>,
        account_name: &[u8],
        account: Option<&Arc<Account>>,
        link: &Arc<RouteLink>,
        names_origins: bool,
    ) -> Taken {
        let queue = subscribe.queue.map(|queue| (queue.name, queue.weight));
        write_key(
            &mut self.key,
            subscribe.origin.filter(|_| names_origins),
            names_origins.then_some(subscribe.origin.is_some()),
            subscribe.account,
            subscribe.subject,
            queue.map(|(name, _)| name),
        );
        match (self.held.get_mut(&*self.key), queue) {
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
        if self.held.len() >= ENTRIES_MAX || self.bytes + self.key.len() > BYTES_MAX {
            return Taken::TooMuch;
        }
        let announced = Announced {
            subject: subscribe.subject,
            queue,
            is_of_leaf: subscribe.origin.is_some(),
        };
        let (held, taken) = match account {
            Some(account) => match RemoteInterest::insert(link, account, announced) {
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
                    account: account_name.into(),
                    subject: announced.subject.into(),
                    queue: queue.map(|(name, weight)| (name.into(), weight)),
                    is_of_leaf: announced.is_of_leaf,
                };
                (Held::Waiting(Box::new(waiting)), Taken::UnknownAccount)
            }
        };
        self.bytes += self.key.len();
        self.held.insert(self.key.as_slice().into(), held);
        taken
    }

    /// Ends an interest; what was never announced is nothing to end.
    pub(super) fn unsubscribe(&mut self, end: &RemoteUnsubscribe<'_>, names_origins: bool) {
        write_key(
            &mut self.key,
            end.origin.filter(|_| names_origins),
            names_origins.then_some(end.leaf),
            end.account,
            end.subject,
            end.queue,
        );
        if let Some(held) = self.held.remove(&*self.key) {
            self.bytes -= self.key.len();
            match held {
                Held::There(interest) => interest.remove(),
                Held::Waiting(_) => self.waiting -= 1,
            }
        }
    }

    /// Ends all interest in an account on this connection.
    pub(super) fn drop_account(&mut self, name: &str) {
        self.held.retain(|key, held| {
            let of = match held {
                Held::There(interest) => interest.account().name().as_bytes(),
                Held::Waiting(waiting) => &waiting.account,
            };
            if of != name.as_bytes() {
                return true;
            }
            self.bytes -= key.len();
            match held {
                Held::There(interest) => interest.remove(),
                Held::Waiting(_) => self.waiting -= 1,
            }
            false
        });
    }

    /// Goes by other accounts and permissions. Returns `false` if what came is not known any more, and the peer has to
    /// announce all of it again.
    pub(super) fn adapt(
        &mut self,
        config: &Config,
        permissions: Option<&CompiledPermissions>,
        link: &Arc<RouteLink>,
    ) -> bool {
        let find = |name: &[u8]| {
            let name = core::str::from_utf8(name).ok()?;
            config.account(name).map(|(account, _)| account)
        };
        let may_accept = |subject: &[u8]| {
            permissions.is_none_or(|permissions| permissions.may_subscribe(subject, None))
        };
        if self.is_incomplete {
            return false;
        }
        let (waiting, bytes) = (&mut self.waiting, &mut self.bytes);
        self.held.retain(|key, held| {
            let is_kept = match held {
                Held::There(interest) if !may_accept(interest.subject()) => {
                    interest.remove();
                    false
                }
                Held::There(interest) => {
                    let account = find(interest.account().name().as_bytes());
                    if account.is_none_or(|account| !Arc::ptr_eq(account, interest.account())) {
                        interest.remove();
                        *waiting += 1;
                        *held = Held::Waiting(Box::new(Waiting::of(interest)));
                    }
                    true
                }
                Held::Waiting(_) => true,
            };
            if let Held::Waiting(waits) = held
                && let Some(account) = find(&waits.account)
            {
                *waiting -= 1;
                let inserted = may_accept(&waits.subject)
                    .then(|| RemoteInterest::insert(link, account, waits.announced()))
                    .flatten();
                match inserted {
                    Some(interest) => *held = Held::There(interest),
                    None => {
                        *bytes -= key.len();
                        return false;
                    }
                }
            }
            if !is_kept {
                *bytes -= key.len();
            }
            is_kept
        });
        true
    }

    /// Ends up to `count` of them. Returns whether none is left.
    pub(super) fn remove_some(&mut self, count: usize) -> bool {
        for (_, held) in self.held.extract_if(|_, _| true).take(count) {
            if let Held::There(interest) = held {
                interest.remove();
            }
        }
        if self.held.is_empty() {
            self.held = HashMap::with_hasher(self.held.hasher().clone());
            (self.bytes, self.waiting) = (0, 0);
        }
        self.held.is_empty()
    }
}

impl Waiting {
    fn of(interest: &RemoteInterest) -> Self {
        Self {
            account: interest.account().name().as_bytes().into(),
            subject: interest.subject().into(),
            queue: (interest.queue()).map(|queue| (queue.into(), interest.weight())),
            is_of_leaf: interest.is_of_leaf(),
        }
    }

    fn announced(&self) -> Announced<'_> {
        Announced {
            subject: &self.subject,
            queue: (self.queue.as_ref()).map(|(name, weight)| (&**name, *weight)),
            is_of_leaf: self.is_of_leaf,
        }
    }
}

/// By what an interest is known: all of its line but the weight. A peer that names no origin when it ends an interest of
/// leaf nodes (`is_of_leaf` is `None`) cannot mean one of several, so that all of a subject are one.
fn write_key(
    key: &mut Vec<u8>,
    origin: Option<&[u8]>,
    is_of_leaf: Option<bool>,
    account: Option<&[u8]>,
    subject: &[u8],
    queue: Option<&[u8]>,
) {
    key.clear();
    key.extend(is_of_leaf.map(|is_of_leaf| if is_of_leaf { b'L' } else { b'R' }));
    for word in [origin, account, Some(subject), queue]
        .into_iter()
        .flatten()
    {
        key.push(b' ');
        key.extend_from_slice(word);
    }
}
