//! Accounts that a reconfiguration removed: what they counted stays part of the server's totals.

use std::sync::Arc;

use parking_lot::Mutex;

use super::counters::AllTraffic;
use crate::account::Account;

#[derive(Default)]
pub(crate) struct DepartedAccounts(Mutex<State>);

#[derive(Default)]
struct State {
    /// Those somebody may still be in: sessions leave in their own time.
    accounts: Vec<Arc<Account>>,
    /// Of those nobody is in any more.
    traffic: AllTraffic,
}

impl DepartedAccounts {
    pub(crate) fn add(&self, accounts: impl Iterator<Item = Arc<Account>>) {
        let mut state = self.0.lock();
        state.accounts.extend(accounts);
        state.let_go();
    }

    /// What was counted in all of them.
    pub(crate) fn traffic(&self) -> AllTraffic {
        let mut state = self.0.lock();
        state.let_go();
        let lingering = state
            .accounts
            .iter()
            .map(|account| account.counters.all_traffic());
        lingering.fold(state.traffic, AllTraffic::plus)
    }
}

impl State {
    fn let_go(&mut self) {
        let traffic = &mut self.traffic;
        self.accounts.retain(|account| {
            // A session counts its last batch before it leaves.
            let is_left = account.counters.connections() == 0;
            if is_left {
                *traffic = traffic.plus(account.counters.all_traffic());
            }
            !is_left
        });
    }
}
