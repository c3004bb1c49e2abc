//! One connection's interest in a subject, as the index and the delivery see it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::outbox::Outbox;
use crate::access::CompiledPermissions;
use crate::account::Account;
use crate::exchange::{Interest, Transform};

/// Most clients number their subscriptions, so an id rarely needs the heap.
pub(crate) type Sid = SmallVec<[u8; 16]>;

/// One subscription. The counters change only under its outbox's lock, which orders them with the messages
/// and replies that go out; they are atomics because publishers glance at them without the lock first.
pub(crate) struct Subscription {
    outbox: Arc<Outbox>,
    sid: Sid,
    subject: Box<[u8]>,
    queue: Option<Box<[u8]>>,
    delivered: AtomicU64,
    /// Messages after which the subscription ends; 0 sets no end.
    max: AtomicU64,
    closed: AtomicBool,
    /// Whether messages must be looked at before they are delivered.
    restricted: AtomicBool,
    role: Role,
}

/// A subscription is in the index of its own account, and its shadows are in those of accounts that its account hears.
enum Role {
    Original(Mutex<Shadows>),
    Shadow(Box<Shadow>),
}

/// Most have none, so there is no room for any.
type Shadows = Option<Box<Vec<Arc<Subscription>>>>;

/// What is different about the shadow of a subscription in another account. Messages, a maximum and an end they have in
/// common.
struct Shadow {
    of: Arc<Subscription>,
    /// The account of the original.
    home: Arc<Account>,
    /// The account whose index it is in.
    account: Arc<Account>,
    /// From a subject there to one at home, if it is another.
    rename: Option<Arc<Transform>>,
    /// Whether the account whose index it is in may trace its messages at home.
    allows_trace: bool,
}

impl Subscription {
    pub(crate) fn new(
        outbox: Arc<Outbox>,
        sid: &[u8],
        subject: &[u8],
        queue: Option<&[u8]>,
    ) -> Self {
        Self {
            outbox,
            sid: Sid::from_slice(sid),
            subject: subject.into(),
            queue: queue.map(Into::into),
            delivered: AtomicU64::new(0),
            max: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            restricted: AtomicBool::new(false),
            role: Role::Original(Mutex::new(None)),
        }
    }

    /// Puts a shadow of a subscription of the account `home` into the index of another account.
    pub(crate) fn cast_shadow(self: &Arc<Self>, home: &Arc<Account>, interest: Interest) {
        let Role::Original(shadows) = &self.role else {
            return;
        };
        let Interest {
            account,
            subject,
            rename,
            allows_trace,
        } = interest;
        let shadow = Arc::new(Self {
            restricted: AtomicBool::new(self.is_restricted()),
            role: Role::Shadow(Box::new(Shadow {
                of: Arc::clone(self),
                home: Arc::clone(home),
                account: Arc::clone(&account),
                rename,
                allows_trace,
            })),
            ..Self::new(Arc::clone(&self.outbox), &self.sid, &subject, self.queue())
        });
        if account.insert(&Subscriber(Arc::clone(&shadow))).is_ok() {
            shadows.lock().get_or_insert_default().push(shadow);
        }
    }

    /// Has exactly these shadows; those that are there already stay where they are.
    pub(crate) fn cast_shadows(self: &Arc<Self>, home: &Arc<Account>, interests: Vec<Interest>) {
        let Role::Original(shadows) = &self.role else {
            return;
        };
        let before = shadows
            .lock()
            .take()
            .map_or_else(Vec::new, |before| *before);
        let (kept, gone): (Vec<_>, Vec<_>) = before
            .into_iter()
            .partition(|shadow| interests.iter().any(|interest| shadow.serves(interest)));
        let new: Vec<Interest> = interests
            .into_iter()
            .filter(|interest| !kept.iter().any(|shadow| shadow.serves(interest)))
            .collect();
        if !kept.is_empty() {
            *shadows.lock() = Some(Box::new(kept));
        }
        gone.iter().for_each(remove_shadow);
        new.into_iter()
            .for_each(|interest| self.cast_shadow(home, interest));
    }

    fn serves(&self, interest: &Interest) -> bool {
        matches!(&self.role, Role::Shadow(shadow) if Arc::ptr_eq(&shadow.account, &interest.account)
            && *self.subject == *interest.subject
            && shadow.rename == interest.rename
            && shadow.allows_trace == interest.allows_trace)
    }

    /// The subscription that the client made.
    #[inline]
    pub(crate) fn original(&self) -> &Self {
        match &self.role {
            Role::Original(_) => self,
            Role::Shadow(shadow) => &shadow.of,
        }
    }

    /// Whether it stands in another account for a subscription.
    pub(crate) fn is_shadow(&self) -> bool {
        matches!(self.role, Role::Shadow(_))
    }

    /// The account of the original, if it is another than that whose index this is in, and whether that one may trace
    /// its messages there.
    pub(crate) fn home(&self) -> Option<(&Account, bool)> {
        match &self.role {
            Role::Original(_) => None,
            Role::Shadow(shadow) => Some((&shadow.home, shadow.allows_trace)),
        }
    }

    /// The same, to be kept.
    pub(crate) fn original_of(this: &Arc<Self>) -> Arc<Self> {
        match &this.role {
            Role::Original(_) => Arc::clone(this),
            Role::Shadow(shadow) => Arc::clone(&shadow.of),
        }
    }

    /// How subjects of messages are renamed for it.
    #[inline]
    pub(crate) fn rename(&self) -> Option<&Transform> {
        match &self.role {
            Role::Original(_) => None,
            Role::Shadow(shadow) => shadow.rename.as_deref(),
        }
    }

    /// What a message's subject is called where the subscription was made; `name` lends memory.
    pub(crate) fn local_subject<'a>(&self, subject: &'a [u8], name: &'a mut Vec<u8>) -> &'a [u8] {
        let Some(rename) = self.rename() else {
            return subject;
        };
        name.clear();
        rename.rename(subject, name);
        name
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    pub(crate) fn sid(&self) -> &[u8] {
        &self.sid
    }

    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    pub(crate) fn queue(&self) -> Option<&[u8]> {
        self.queue.as_deref()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.original().closed.load(Ordering::Relaxed)
    }

    /// Whether a message can be expected to get through, as far as this thread has heard.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_closed() && !self.outbox.is_closed()
    }

    /// Whether its outbox's [`Restrictions`](super::restrictions::Restrictions) must be asked about each message.
    #[inline]
    pub(crate) fn is_restricted(&self) -> bool {
        self.restricted.load(Ordering::Relaxed)
    }

    /// Goes by these permissions from now on, and so do its shadows.
    pub(crate) fn restrict(&self, permissions: Option<&CompiledPermissions>) {
        let is_restricted = permissions.is_some_and(|rules| {
            rules.responses().is_some() || rules.must_filter(&self.subject, self.queue())
        });
        self.restricted.store(is_restricted, Ordering::Relaxed);
        if let Role::Original(shadows) = &self.role {
            for shadow in shadows.lock().iter().flat_map(|shadows| shadows.iter()) {
                shadow.restricted.store(is_restricted, Ordering::Relaxed);
            }
        }
    }

    /// Takes the subscription out of the index of its account, which is `home`, and its shadows out of those they are
    /// in. To be called on any of them.
    pub(crate) fn remove_from_indexes(this: &Arc<Self>, home: &Account) {
        match &this.role {
            Role::Original(shadows) => {
                home.remove(&Subscriber(Arc::clone(this)));
                let shadows = shadows.lock().take();
                shadows
                    .iter()
                    .flat_map(|shadows| shadows.iter())
                    .for_each(remove_shadow);
            }
            Role::Shadow(shadow) => Self::remove_from_indexes(&shadow.of, &shadow.home),
        }
    }

    pub(crate) fn close(&self) {
        self.original().closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn max(&self) -> u64 {
        self.original().max.load(Ordering::Relaxed)
    }

    /// Messages delivered so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.original().delivered.load(Ordering::Relaxed)
    }

    /// Ends the subscription after `max` messages in all. Returns `false` if that many were delivered already.
    pub(crate) fn limit(&self, max: u64) -> bool {
        self.original().max.store(max, Ordering::Relaxed);
        max > self.delivered()
    }

    pub(crate) fn add_delivered(&self, count: u64) {
        self.original()
            .delivered
            .fetch_add(count, Ordering::Relaxed);
    }

    /// Counts up to `wanted` messages and returns how many the maximum still allows.
    pub(crate) fn take_remaining(&self, wanted: usize) -> usize {
        let (max, delivered) = (self.max(), self.delivered());
        let taken = if max == 0 {
            wanted
        } else {
            wanted.min(usize::try_from(max.saturating_sub(delivered)).unwrap_or(usize::MAX))
        };
        self.add_delivered(taken as u64);
        taken
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        let max = self.max();
        max != 0 && self.delivered() >= max
    }
}

fn remove_shadow(shadow: &Arc<Subscription>) {
    if let Role::Shadow(facts) = &shadow.role {
        facts.account.remove(&Subscriber(Arc::clone(shadow)));
    }
}

/// A subscription in the index: the same one only if it is the very same object.
#[derive(Clone)]
pub(crate) struct Subscriber(pub(crate) Arc<Subscription>);

impl PartialEq for Subscriber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Subscriber {}

impl Hash for Subscriber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}
