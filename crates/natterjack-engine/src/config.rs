//! What an engine is configured with, and how a change of it reaches the sessions.
//!
//! A configuration is never changed: a new one with a higher generation takes its place. Each session holds the one
//! it goes by, and compares one number per batch to learn that there is a newer one; quiet sessions are woken. So
//! every session changes over between two batches of its own, in its own task, and nothing under way is lost.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use natterjack_wire::client::ServerInfo;

use crate::access::{Access, AccountLimits, Directory};
use crate::account::{Account, GLOBAL_ACCOUNT};
use crate::delivery::outbox::{Outbox, OutboxLimits};
use crate::limits::{Limits, WriteTimeout};

/// Everything about an engine that can change while it runs.
#[derive(Clone, Debug)]
pub struct Reconfiguration {
    /// What clients are told of the server; `max_payload` and `auth_required` follow from the rest. When it
    /// changes, clients that listen are sent it anew.
    pub info: ServerInfo,
    /// Bounds.
    pub limits: Limits,
    /// Who may connect.
    pub access: Access,
}

/// What sessions go by.
pub(crate) struct Config {
    /// Higher than that of every configuration before it.
    pub(crate) generation: u64,
    pub(crate) info: ServerInfo,
    pub(crate) limits: Limits,
    pub(crate) access: Access,
    /// `access`, compiled.
    pub(crate) directory: Directory,
    /// The accounts there are: the global one first, the others by name.
    pub(crate) accounts: Vec<Arc<Account>>,
}

impl Config {
    /// Accounts that were there `before` stay the same.
    pub(crate) fn new(
        generation: u64,
        reconfiguration: Reconfiguration,
        before: &[Arc<Account>],
    ) -> Self {
        let Reconfiguration {
            mut info,
            limits,
            access,
        } = reconfiguration;
        let directory = Directory::new(&access);
        info.max_payload = limits.payload_bytes_max as i64;
        info.auth_required = directory.announces_authentication();
        let mut names: Vec<&str> = access
            .accounts
            .iter()
            .map(|account| account.name.as_str())
            .collect();
        names.push(directory.system_account());
        names.sort_unstable();
        names.dedup();
        names.retain(|&name| name != GLOBAL_ACCOUNT);
        let account = |name: &str| {
            let known = before.iter().find(|account| account.name() == name);
            known.map_or_else(|| Arc::new(Account::new(name)), Arc::clone)
        };
        let accounts = core::iter::once(GLOBAL_ACCOUNT)
            .chain(names)
            .map(account)
            .collect();
        Self {
            generation,
            info,
            limits,
            access,
            directory,
            accounts,
        }
    }

    /// An account and its bounds.
    pub(crate) fn account(&self, name: &str) -> Option<(&Arc<Account>, AccountLimits)> {
        let account = self
            .accounts
            .iter()
            .find(|account| account.name() == name)?;
        let configured = self
            .access
            .accounts
            .iter()
            .find(|account| account.name == name);
        Some((
            account,
            configured.map(|account| account.limits).unwrap_or_default(),
        ))
    }

    pub(crate) fn outbox_limits(&self) -> OutboxLimits {
        OutboxLimits {
            pending_bytes_max: self.limits.pending_bytes_max,
            congested_bytes: self.limits.congested_bytes(),
            drop_bytes: self.limits.drop_bytes(),
            must_finish: self.limits.write_timeout == WriteTimeout::Close,
        }
    }
}

/// The change-over of the sessions that were open at a reconfiguration, as a future: ready once each of them goes
/// by the new configuration or is closed. They change over also if nobody waits for it.
#[must_use = "sessions change over in their own time; await this to know when all have"]
pub struct Adaptation {
    generation: u64,
    waiting_for: Vec<Arc<Outbox>>,
}

impl Adaptation {
    pub(crate) fn new(generation: u64, waiting_for: Vec<Arc<Outbox>>) -> Self {
        Self {
            generation,
            waiting_for,
        }
    }

    /// The number of the configuration; see [`Engine::is_adapted`](crate::Engine::is_adapted).
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Sessions that have not changed over as of now. Linear in their number.
    #[must_use]
    pub fn remaining(&self) -> usize {
        let is_behind = |outbox: &&Arc<Outbox>| !outbox.is_adapted(self.generation);
        self.waiting_for.iter().filter(is_behind).count()
    }
}

impl Future for Adaptation {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let generation = self.generation;
        while let Some(outbox) = self.waiting_for.last() {
            if outbox.wait_adapted(generation, context.waker()) {
                return Poll::Pending;
            }
            self.waiting_for.pop();
        }
        Poll::Ready(())
    }
}

impl std::fmt::Debug for Adaptation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Adaptation")
            .field("generation", &self.generation)
            .field("remaining", &self.remaining())
            .finish()
    }
}
