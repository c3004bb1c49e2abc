//! What the peer is told that this server's subscribers want: which accounts this connection serves, and in pieces what
//! was there before it. How an account goes from one connection to another is the business of [`handover`](super::handover).

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::route::pool_index;

use super::RouteSession;
use crate::account::Account;
use crate::mesh::Place;
use crate::mesh::interest::Left;
use crate::session::Step;

/// Entries that are looked at at a time: lines of what was there before, or of what has to be taken back. Whoever
/// subscribes in the account meanwhile waits for about a tenth of a millisecond.
const ENTRIES_PER_STEP: usize = 1024;

#[derive(Default)]
pub(super) struct Announcer {
    pub(super) place: Option<Place>,
    /// Accounts of whose interest the peer is told.
    served: Vec<Served>,
    /// Those of which it has not heard everything, and those of which it has not heard that there is nothing left.
    behind: Vec<Arc<Account>>,
    /// Another connection serves the account until the peer, a nats-server, has agreed to this one.
    pub(super) is_waiting: bool,
}

struct Served {
    account: Arc<Account>,
    /// If not, until another connection has taken its place.
    is_wanted: bool,
}

impl Announcer {
    fn is_behind(&mut self, account: &Arc<Account>) {
        if !is_among(&self.behind, account) {
            self.behind.push(Arc::clone(account));
        }
    }
}

fn is_among(accounts: &[Arc<Account>], account: &Arc<Account>) -> bool {
    accounts.iter().any(|known| Arc::ptr_eq(known, account))
}

impl RouteSession {
    /// Goes by the accounts there are now: attaches the connection to those it is to serve, and detaches it from others.
    pub(super) fn adapt_announcing(&mut self) {
        let Some(link) = self.link.clone() else {
            return;
        };
        let wanted = self.wanted();
        let announcer = &mut self.announcer;
        for mut served in std::mem::take(&mut announcer.served) {
            let account = &served.account;
            let is_wanted = is_among(&wanted, account);
            let is_here = is_among(&self.config.accounts, account);
            if !account.interest.is_attached(&link) {
                // Another connection has taken it over.
            } else if link.hands_over() && is_here {
                if is_wanted != served.is_wanted {
                    account.interest.want(account.name(), &link, is_wanted);
                    served.is_wanted = is_wanted;
                }
                announcer.served.push(served);
            } else if link.hands_over() {
                account.interest.leave(account.name(), &link);
            } else if is_wanted {
                announcer.served.push(served);
            } else {
                // A peer that has forgotten it already takes no offence.
                account.interest.withdraw(&link);
                announcer.is_behind(account);
            }
        }
        for account in wanted {
            let mut served = announcer.served.iter();
            if served.any(|served| Arc::ptr_eq(&served.account, &account)) {
                continue;
            }
            if link.hands_over() {
                account.interest.want(account.name(), &link, true);
            } else {
                account.interest.attach(&link);
            }
            announcer.is_behind(&account);
            let is_wanted = true;
            announcer.served.push(Served { account, is_wanted });
        }
    }

    /// Accounts that the connection is to serve.
    fn wanted(&self) -> Vec<Arc<Account>> {
        let (Some(place), Some(peer)) = (self.announcer.place, &self.peer) else {
            return Vec::new();
        };
        let apart = self.mesh.accounts_apart(&peer.id);
        let pool_size = self.cluster.pool_size;
        let is_wanted = |account: &&Arc<Account>| {
            let name = account.name();
            let is_apart = apart.iter().any(|apart| **apart == *name);
            match &self.account {
                Some(own) => **own == *name && is_apart && !self.announcer.is_waiting,
                None if !place.has_pool => true,
                None => !is_apart && pool_index(name.as_bytes(), pool_size) == place.index,
            }
        };
        let accounts = self.config.accounts.iter();
        accounts.filter(is_wanted).cloned().collect()
    }

    /// The peer is told of what another filter lets through.
    pub(super) fn refilter(&mut self) {
        let Some(link) = &self.link else {
            return;
        };
        link.set_filter(self.filter());
        let served = self.announcer.served.iter();
        let accounts: Vec<_> = served.map(|served| Arc::clone(&served.account)).collect();
        for account in accounts {
            account.interest.refilter(link);
            self.announcer.is_behind(&account);
        }
        self.outbox.wake();
    }

    /// Tells some of what there was before. While the socket is full nothing is added; the connection's task comes back
    /// here once it takes more.
    pub(super) fn announce_step(&mut self, now: Instant) -> Step {
        let Some(link) = self.link.clone() else {
            return Step::Done;
        };
        if self.announcer.behind.is_empty() || self.outbox.status().is_blocked {
            return Step::Done;
        }
        let mut entries = ENTRIES_PER_STEP;
        while let Some(account) = self.announcer.behind.last().cloned()
            && entries > 0
        {
            let worked = account.interest.work(account.name(), &link, entries);
            // An account without any costs something too.
            entries = entries.saturating_sub(worked.entries + 1);
            if worked.left == Left::More {
                break;
            }
            self.announcer.behind.pop();
        }
        self.outbox.flush(now);
        if self.announcer.behind.is_empty() || self.outbox.status().is_blocked {
            Step::Done
        } else {
            Step::More
        }
    }

    /// The connection has ended.
    pub(super) fn stop_announcing(&mut self) {
        if let Some(link) = &self.link {
            let Announcer { served, behind, .. } = &self.announcer;
            let served = served.iter().map(|served| &served.account);
            for account in served.chain(behind) {
                account.interest.detach(account.name(), link);
            }
        }
        self.announcer = Announcer::default();
    }
}
