//! Memory kept for servers before they are let in: bounded in all and for each address. Where it is too much, whoever has the
//! most gives it up, so that one address that takes all there is does not keep others from coming in.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;

/// What all those together may keep.
pub(super) const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What those of one address may. Several servers behind one are let in with so many chunks that are not there in full.
pub(super) const ADDRESS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where somebody comes from, as far as that tells people apart: with IPv6 everybody has 64 bits of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin(Option<IpAddr>);

impl Origin {
    pub(crate) fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(|address| match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from(network))
            }
            address => address,
        }))
    }
}

/// What is kept for all of them. Only those who keep anything are in it.
#[derive(Default)]
pub(super) struct Strangers {
    kept: Mutex<BTreeMap<u64, Kept>>,
    next: AtomicU64,
}

struct Kept {
    origin: Origin,
    bytes: usize,
    notice: Arc<Notice>,
}

/// How one hears that it has to give up what it keeps.
#[derive(Default)]
pub(super) struct Notice {
    is_given: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Notice {
    /// Whether it was given. If it is later, the task is woken.
    pub(super) fn is_given_or_wakes(&self, context: &Context<'_>) -> bool {
        *self.waker.lock() = Some(context.waker().clone());
        self.is_given()
    }

    pub(super) fn is_given(&self) -> bool {
        self.is_given.load(Ordering::Acquire)
    }

    fn give(&self) {
        self.is_given.store(true, Ordering::Release);
        let waker = self.waker.lock().take();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// One of them, as long as it is a stranger.
pub(super) struct Stranger {
    all: Arc<Strangers>,
    number: u64,
    origin: Origin,
    notice: Arc<Notice>,
}

impl Stranger {
    pub(super) fn new(all: Arc<Strangers>, origin: Origin) -> Self {
        Self {
            number: all.next.fetch_add(1, Ordering::Relaxed),
            all,
            origin,
            notice: Arc::default(),
        }
    }

    pub(super) fn notice(&self) -> &Arc<Notice> {
        &self.notice
    }

    /// Whether so much may be kept for it. Others may have to give theirs up for that. Linear in those who keep anything.
    pub(super) fn keep(&self, bytes: usize) -> bool {
        let mut kept = self.all.kept.lock();
        if bytes == 0 {
            kept.remove(&self.number);
            return true;
        }
        let own = Kept {
            origin: self.origin,
            bytes,
            notice: Arc::clone(&self.notice),
        };
        kept.insert(self.number, own);
        let mut others = Vec::new();
        let mut is_kept = true;
        while let Some(greediest) = greediest(&kept).filter(|_| is_kept) {
            let removed = kept.remove(&greediest);
            if greediest == self.number {
                is_kept = false;
            } else {
                others.extend(removed);
            }
        }
        // Whom it wakes must not wait for the lock.
        drop(kept);
        others.iter().for_each(|other| other.notice.give());
        is_kept
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// Who has to give up what it keeps, if that is too much: of the address that keeps the most the one that does, and of
/// several the one that has been there the longest.
fn greediest(kept: &BTreeMap<u64, Kept>) -> Option<u64> {
    let mut addresses: BTreeMap<Origin, usize> = BTreeMap::new();
    for kept in kept.values() {
        *addresses.entry(kept.origin).or_default() += kept.bytes;
    }
    let total: usize = addresses.values().sum();
    let (most, bytes) = addresses.into_iter().max_by_key(|(_, bytes)| *bytes)?;
    if total <= BYTES_MAX && bytes <= ADDRESS_BYTES_MAX {
        return None;
    }
    let candidates = kept.iter().filter(|(_, kept)| kept.origin == most);
    let greediest = candidates.max_by_key(|(number, kept)| (kept.bytes, Reverse(**number)));
    greediest.map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    struct Scene(Arc<Strangers>);

    impl Scene {
        fn new() -> Self {
            Self(Arc::default())
        }

        fn come(&self, address: &str) -> Stranger {
            let address = address.parse().expect("an address");
            Stranger::new(Arc::clone(&self.0), Origin::of(Some(address)))
        }

        fn bytes(&self) -> usize {
            self.0.kept.lock().values().map(|kept| kept.bytes).sum()
        }
    }

    #[test]
    fn one_address_has_its_share() {
        let scene = Scene::new();
        let crowd: Vec<_> = (0..50).map(|_| scene.come("192.0.2.1")).collect();
        assert!(crowd.iter().all(|stranger| stranger.keep(MIB)));
        assert_eq!(scene.bytes(), ADDRESS_BYTES_MAX);
        let gone = crowd.iter().take_while(|it| it.notice.is_given()).count();
        assert_eq!(gone, 42, "those who came first");
        drop(crowd);
        assert_eq!(scene.bytes(), 0);
    }

    #[test]
    fn whoever_keeps_little_stays_beside_the_greedy() {
        let scene = Scene::new();
        let greedy: Vec<_> = (1..=4)
            .flat_map(|host| (0..8).map(move |_| format!("192.0.2.{host}")))
            .map(|address| scene.come(&address))
            .collect();
        assert!(greedy.iter().all(|stranger| stranger.keep(MIB)));
        let small = scene.come("198.51.100.1");
        assert!(small.keep(100_000) && small.keep(MIB));
        assert!(!small.notice.is_given());
        assert!(scene.bytes() <= BYTES_MAX);
        let gone = greedy.iter().filter(|it| it.notice.is_given()).count();
        assert_eq!(gone, 1);
        // The same beside others of its own address.
        let neighbour = scene.come("192.0.2.1");
        assert!(neighbour.keep(100_000) && !neighbour.notice.is_given());
        // Who has the most itself is refused, and keeps nothing.
        let before = scene.bytes();
        let greediest = scene.come("203.0.113.1");
        assert!(!greediest.keep(ADDRESS_BYTES_MAX + 1));
        assert!(scene.bytes() <= before);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let scene = Scene::new();
        let [one, other] = ["2001:db8::1", "2001:db8::ffff:1"].map(|it| scene.come(it));
        assert!(one.keep(ADDRESS_BYTES_MAX) && other.keep(MIB));
        assert!(one.notice.is_given());
        let mapped = Origin::of("::ffff:192.0.2.1".parse().ok());
        assert_eq!(mapped, Origin::of("192.0.2.1".parse().ok()));
    }
}
