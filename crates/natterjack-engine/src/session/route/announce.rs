//! What the peer is told that this server's subscribers want: which accounts this connection serves, and in pieces what
//! was there before it.

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::route::pool_index;

use super::RouteSession;
use crate::account::Account;
use crate::mesh::Place;
use crate::session::Step;

/// Lines of what was there before that are written at a time.
const LINES_PER_STEP: usize = 1024;

#[derive(Default)]
pub(super) struct Announcer {
    pub(super) place: Option<Place>,
    /// Accounts of whose interest the peer is told.
    attached: Vec<Arc<Account>>,
    /// Those of which it has not heard everything.
    behind: Vec<Arc<Account>>,
    /// Another connection serves the account until the peer has agreed to this one.
    pub(super) is_waiting: bool,
}

fn is_listed(names: &[Arc<str>], account: &Account) -> bool {
    names.iter().any(|name| **name == *account.name())
}

impl RouteSession {
    /// Goes by the accounts there are now: attaches the connection to those it serves, and detaches it from others.
    pub(super) fn adapt_announcing(&mut self) {
        let (Some(link), Some(place)) = (&self.link, self.announcer.place) else {
            return;
        };
        let dedicated = self.mesh.dedicated_accounts();
        let there =
            (self.peer.as_ref()).map_or_else(Vec::new, |peer| self.mesh.dedicated_with(&peer.id));
        let pool_size = self.cluster.pool_size;
        let serves = |account: &Account| match &self.account {
            Some(own) => **own == *account.name() && !self.announcer.is_waiting,
            None if !place.has_pool => true,
            // An account that is to have a connection to itself stays here until that is there: the peer may not want one.
            None if is_listed(&dedicated, account) => {
                let served = account.interest.attached_among(&[link.outbox().id()]);
                !served.is_empty() && !is_listed(&there, account)
            }
            None => pool_index(account.name().as_bytes(), pool_size) == place.index,
        };
        let wanted: Vec<_> = (self.config.accounts.iter())
            .filter(|account| serves(account))
            .cloned()
            .collect();
        let is_among = |accounts: &[Arc<Account>], account: &Arc<Account>| {
            accounts.iter().any(|known| Arc::ptr_eq(known, account))
        };
        let Announcer {
            attached, behind, ..
        } = &mut self.announcer;
        // Another connection may have taken one over.
        attached.retain(|held| {
            !held
                .interest
                .attached_among(&[link.outbox().id()])
                .is_empty()
        });
        for account in attached.iter().filter(|held| !is_among(&wanted, held)) {
            // Another connection serves it, on which the peer hears of it again; it must not have it twice.
            account.interest.withdraw(account.name(), link);
        }
        behind.retain(|account| is_among(&wanted, account));
        for account in wanted.iter().filter(|wanted| !is_among(attached, wanted)) {
            account.interest.attach(link);
            behind.push(Arc::clone(account));
        }
        *attached = wanted;
    }

    /// The connection is for one account, of which the peer was told on another one until now. There it ends first, so that
    /// nothing comes twice; and only when it is certain that the peer wants this connection, too.
    pub(super) fn take_account_over(&mut self, is_certain: bool) {
        let name = self.account.as_deref();
        let account = name.and_then(|name| self.config.account(name));
        let (Some((account, _)), Some(peer)) = (account, &self.peer) else {
            return;
        };
        let served_by = (account.interest).attached_among(&self.mesh.shared_with(&peer.id));
        self.announcer.is_waiting = !is_certain && !served_by.is_empty();
        if is_certain {
            for link in &served_by {
                account.interest.withdraw(account.name(), link);
            }
        }
    }

    /// The peer is told of what another filter lets through.
    pub(super) fn refilter(&self) {
        let Some(link) = &self.link else {
            return;
        };
        let former = link.set_filter(self.filter());
        for account in &self.announcer.attached {
            let interest = &account.interest;
            interest.refilter(account.name(), link, former.as_deref());
        }
    }

    /// Tells some of what there was before. While the socket is full nothing is added; the connection's task comes back
    /// here once it takes more.
    pub(super) fn announce_step(&mut self, now: Instant) -> Step {
        let Some(link) = &self.link else {
            return Step::Done;
        };
        let behind = &mut self.announcer.behind;
        if behind.is_empty() || self.outbox.status().is_blocked {
            return Step::Done;
        }
        let mut lines = LINES_PER_STEP;
        while let Some(account) = behind.last()
            && lines > 0
        {
            let interest = &account.interest;
            let has_more = interest.replay(account.name(), link, lines);
            if has_more {
                break;
            }
            // An account without any costs something too.
            lines = lines.saturating_sub(interest.len() + 1);
            behind.pop();
        }
        self.outbox.flush(now);
        if behind.is_empty() || self.outbox.status().is_blocked {
            Step::Done
        } else {
            Step::More
        }
    }

    /// The connection has ended.
    pub(super) fn stop_announcing(&mut self) {
        if let Some(link) = &self.link {
            for account in &self.announcer.attached {
                account.interest.detach(link);
            }
        }
        self.announcer = Announcer::default();
    }
}
