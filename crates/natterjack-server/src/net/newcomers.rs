//! Places for servers that have come and are not let in yet, from the first byte on. There are so many in all, and where they
//! are not enough, whoever has been there the longest, at the address that has the most, loses its own: one address that
//! takes all there are does not keep others from coming in.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use natterjack_engine::{CloseReason, Outbox};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::strangers::Origin;

/// A cluster that starts has a few for each of its servers.
const PLACES_MAX: usize = 1024;

/// All of them.
#[derive(Default)]
pub(crate) struct Newcomers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By address, and there by when they came.
    addresses: BTreeMap<Origin, BTreeMap<u64, Arc<Loss>>>,
    count: usize,
    next: u64,
}

/// What one hears of that loses its place.
#[derive(Default)]
struct Loss {
    is_lost: AtomicBool,
    notify: Notify,
    /// Of its connection, once there is one, which keeps the place.
    outbox: Mutex<Weak<Outbox>>,
}

/// The place of one, until it is dropped.
pub(crate) struct Place {
    all: Arc<Newcomers>,
    origin: Origin,
    number: u64,
    loss: Arc<Loss>,
}

impl Newcomers {
    /// A place for somebody. Somebody else may lose one for that. Linear in the addresses there are if they are not enough.
    pub(crate) fn enter(self: &Arc<Self>, origin: Origin) -> Place {
        let loss = Arc::<Loss>::default();
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.count += 1;
        let of_address = state.addresses.entry(origin).or_default();
        of_address.insert(number, Arc::clone(&loss));
        let loser = state.loser();
        // What it wakes may come here.
        drop(state);
        if let Some(loser) = loser {
            loser.tell();
        }
        Place {
            all: Arc::clone(self),
            origin,
            number,
            loss,
        }
    }
}

impl State {
    /// Takes its place from whoever has to lose it, if somebody has.
    fn loser(&mut self) -> Option<Arc<Loss>> {
        if self.count <= PLACES_MAX {
            return None;
        }
        let places = self.addresses.iter();
        let (origin, of_address) = places.max_by_key(|(_, of_address)| {
            let oldest = of_address.keys().next().copied();
            (of_address.len(), Reverse(oldest))
        })?;
        let (origin, number) = (*origin, *of_address.keys().next()?);
        self.remove(origin, number)
    }

    fn remove(&mut self, origin: Origin, number: u64) -> Option<Arc<Loss>> {
        let of_address = self.addresses.get_mut(&origin)?;
        let removed = of_address.remove(&number)?;
        if of_address.is_empty() {
            self.addresses.remove(&origin);
        }
        self.count -= 1;
        Some(removed)
    }
}

impl Loss {
    fn tell(&self) {
        self.is_lost.store(true, Ordering::Release);
        self.notify.notify_one();
        let outbox = self.outbox.lock().upgrade();
        if let Some(outbox) = outbox {
            outbox.close(CloseReason::ConnectionsExceeded);
        }
    }
}

impl Place {
    /// Returns once it is lost; to be waited for by one task.
    pub(crate) async fn lost(&self) {
        while !self.is_lost() {
            self.loss.notify.notified().await;
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.loss.is_lost.load(Ordering::Acquire)
    }

    /// Has a connection closed if the place is lost.
    pub(crate) fn guard(&self, outbox: &Arc<Outbox>) {
        *self.loss.outbox.lock() = Arc::downgrade(outbox);
        if self.is_lost() {
            outbox.close(CloseReason::ConnectionsExceeded);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.state.lock().remove(self.origin, self.number);
        // Whoever is just taking the place from it closes nothing that has been let in.
        *self.loss.outbox.lock() = Weak::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str) -> Origin {
        Origin::of(Some(address.parse().expect("an address")))
    }

    fn lost(places: &[Place]) -> usize {
        places.iter().filter(|place| place.is_lost()).count()
    }

    #[tokio::test]
    async fn the_address_with_the_most_gives_way() {
        let all = Arc::<Newcomers>::default();
        let few: Vec<_> = (0..10).map(|_| all.enter(origin("192.0.2.1"))).collect();
        let many: Vec<_> = (0..2000).map(|_| all.enter(origin("192.0.2.2"))).collect();
        assert_eq!(lost(&few), 0);
        assert_eq!(lost(&many), 2010 - PLACES_MAX);
        assert!(many.iter().skip(2010 - PLACES_MAX).all(|it| !it.is_lost()));
        many[0].lost().await;
        // Others have as much as it has, in the end, and no more is taken from it.
        let others: Vec<_> = (0..2000).map(|_| all.enter(origin("192.0.2.3"))).collect();
        assert_eq!(
            [lost(&few), many.len() - lost(&many)],
            [0, PLACES_MAX / 2 - 5]
        );
        assert_eq!(others.len() - lost(&others), PLACES_MAX / 2 - 5);
        drop((few, many, others));
        assert_eq!(all.state.lock().count, 0);
        assert!(all.state.lock().addresses.is_empty());
    }

    #[test]
    fn of_many_addresses_the_longest_there_gives_way() {
        let all = Arc::<Newcomers>::default();
        let places: Vec<_> = (0..PLACES_MAX + 1)
            .map(|number| all.enter(origin(&format!("10.0.{}.{}", number / 256, number % 256))))
            .collect();
        assert!(places[0].is_lost());
        assert_eq!(lost(&places), 1);
    }
}
