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
    attached: Vec<Arc<Account>>,
    /// Those of which it has not heard everything, and those of which it has not heard that there is nothing left.
    behind: Vec<Arc<Account>>,
    /// Another connection serves the account until the peer has agreed to this one.
    pub(super) is_waiting: bool,
}

fn is_listed(names: &[Arc<str>], account: &Account) -> bool {
    names.iter().any(|name| **name == *account.name())
}

fn is_among(accounts: &[Arc<Account>], account: &Arc<Account>) -> bool {
    accounts.iter().any(|known| Arc::ptr_eq(known, account))
}

impl RouteSession {
    /// Goes by the accounts there are now: attaches the connection to those it serves, and detaches it from others.
    pub(super) fn adapt_announcing(&mut self) {
        let (Some(link), Some(place), Some(peer)) = (&self.link, self.announcer.place, &self.peer)
        else {
            return;
        };
        let dedicated = self.mesh.dedicated_accounts();
        let shared = self.mesh.shared_accounts(&peer.id);
        let pool_size = self.cluster.pool_size;
        // An account that goes elsewhere is served here until the other connection has told everything.
        let is_kept = |account: &Account| link.is_ours() && account.interest.is_attached(link);
        let serves = |account: &Account| {
            let has_own = is_listed(&dedicated, account) && !is_listed(&shared, account);
            match &self.account {
                Some(own) if **own != *account.name() || self.announcer.is_waiting => false,
                Some(_) => has_own || is_kept(account),
                None if !place.has_pool => true,
                // nats-server forgets what it was told here as soon as the account is to have a connection to itself.
                None if has_own => is_kept(account),
                None => pool_index(account.name().as_bytes(), pool_size) == place.index,
            }
        };
        let wanted: Vec<_> = (self.config.accounts.iter())
            .filter(|account| serves(account))
            .cloned()
            .collect();
        let Announcer {
            attached, behind, ..
        } = &mut self.announcer;
        // Another connection may have taken one over.
        attached.retain(|held| held.interest.is_attached(link));
        for account in attached.iter().filter(|held| !is_among(&wanted, held)) {
            // A peer that has forgotten it already takes no offence.
            account.interest.withdraw(link);
            if !is_among(behind, account) {
                behind.push(Arc::clone(account));
            }
        }
        for account in wanted.iter().filter(|wanted| !is_among(attached, wanted)) {
            account.interest.attach(link);
            if !is_among(behind, account) {
                behind.push(Arc::clone(account));
            }
        }
        *attached = wanted;
    }

    /// The peer is told of what another filter lets through.
    pub(super) fn refilter(&mut self) {
        let Some(link) = &self.link else {
            return;
        };
        link.set_filter(self.filter());
        for account in &self.announcer.attached {
            account.interest.refilter(link);
            if !is_among(&self.announcer.behind, account) {
                self.announcer.behind.push(Arc::clone(account));
            }
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
            if worked.left == Left::Nothing {
                self.all_is_told(&account, now);
            }
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
            let Announcer {
                attached, behind, ..
            } = &self.announcer;
            for account in attached.iter().chain(behind) {
                account.interest.detach(link);
            }
        }
        self.announcer = Announcer::default();
    }
}
