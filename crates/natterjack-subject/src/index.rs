//! The index: which subscribers a subject reaches, kept while many threads look up and change it.

use std::array::from_fn;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use foldhash::quality::RandomState;
use parking_lot::RwLock;
use thiserror::Error;

use crate::key::hash_of;
use crate::literals::Literals;
use crate::match_set::MatchSet;
use crate::members::List;
use crate::shape::Shape;
use crate::slot::Slot;
use crate::stamp::{Changes, Presence, Stamp};
use crate::subject::{self, Step};
use crate::trie::Trie;

/// Locks over the literal subjects, a power of two. Enough that a thread that subscribes rarely meets one that looks
/// up, few enough that an index with a single subscription stays small.
const LITERAL_SHARDS: usize = 64;
/// Locks over the patterns that begin with a literal token, a power of two.
const PREFIX_SHARDS: usize = 16;

/// The pattern breaks the rules of [`is_valid_pattern`](crate::is_valid_pattern): an empty token, or `>` before the
/// end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a subject has an empty token, or `>` before its last token")]
pub struct InvalidPattern;

/// A concurrent index of subscriptions: patterns and subscribers in, the subscribers of a subject out.
///
/// `S` is the subscriber's handle, cheap to clone, compare and hash, such as an `Arc` of something that compares by
/// identity. Each pattern, and each queue group of it, holds a set of them. See the [crate's page](crate) for how it
/// works and what it costs.
pub struct Index<S> {
    /// Seeded for this index, because clients choose the subjects.
    hasher: RandomState,
    /// Made with the first subscription, so that an index nobody uses costs nothing.
    tables: OnceLock<Box<Tables<S>>>,
}

impl<S> Default for Index<S> {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            tables: OnceLock::new(),
        }
    }
}

impl<S> fmt::Debug for Index<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Index")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<S> Index<S> {
    /// An index without subscriptions. Allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of subscriptions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables
            .get()
            .map_or(0, |tables| tables.len.load(Ordering::Acquire))
    }

    /// Subscriptions that were ever taken out. With [`len`](Self::len), those that were ever put in.
    #[must_use]
    pub fn removals(&self) -> u64 {
        self.tables
            .get()
            .map_or(0, |tables| tables.removals.load(Ordering::Relaxed))
    }

    /// Whether there is no subscription.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nodes in use by patterns with wildcards, and literal subjects: zero when `len` is.
    pub(crate) fn nodes_used(&self) -> usize {
        let Some(tables) = self.tables.get() else {
            return 0;
        };
        let literals = tables.literals.iter().map(|shard| shard.0.read().len());
        let prefixed = tables
            .prefixed
            .iter()
            .map(|shard| shard.0.read().nodes_used());
        literals.chain(prefixed).sum::<usize>() + tables.everywhere.read().nodes_used()
    }
}

impl<S: Clone + Eq + Hash> Index<S> {
    /// Subscribes `subscriber` to `pattern`, as a member of the queue group `queue` if one is given.
    ///
    /// Inserting the same subscriber again with the same pattern and queue group changes nothing. Takes time linear in
    /// the length of the pattern, whatever is in the index; see [`matches`](Self::matches) for what a held match set
    /// adds.
    ///
    /// # Errors
    /// [`InvalidPattern`] if [`is_valid_pattern`](crate::is_valid_pattern) says no; the index is unchanged.
    pub fn insert(
        &self,
        pattern: &[u8],
        queue: Option<&[u8]>,
        subscriber: S,
    ) -> Result<(), InvalidPattern> {
        if !subject::is_valid_pattern(pattern) {
            return Err(InvalidPattern);
        }
        let tables = self.tables.get_or_init(|| Box::new(Tables::new()));
        let home = Home::of(pattern);
        let hash = hash_of(&self.hasher, home.concerns());
        match home {
            Home::Literal(_) => {
                let mut shard = tables.literal_shard(hash).write();
                if shard.insert(hash, pattern, queue, subscriber, &self.hasher) {
                    tables.added(home, hash);
                }
            }
            Home::Prefix(_) | Home::Everywhere => {
                let mut trie = tables.trie(home, hash).write();
                if trie.insert(home.steps(pattern), queue, subscriber, &self.hasher) {
                    tables.added(home, hash);
                }
            }
        }
        Ok(())
    }

    /// Undoes [`insert`](Self::insert) of the same three. Returns whether there was such a subscription.
    ///
    /// Takes time linear in the length of the pattern, however many subscribers it has.
    pub fn remove(&self, pattern: &[u8], queue: Option<&[u8]>, subscriber: &S) -> bool {
        let Some(tables) = self.tables.get() else {
            return false;
        };
        if !subject::is_valid_pattern(pattern) {
            return false;
        }
        let home = Home::of(pattern);
        let hash = hash_of(&self.hasher, home.concerns());
        match home {
            Home::Literal(_) => {
                let mut shard = tables.literal_shard(hash).write();
                let removed = shard.remove(hash, pattern, queue, subscriber, &self.hasher);
                if removed {
                    tables.removed(home, hash);
                }
                removed
            }
            Home::Prefix(_) | Home::Everywhere => {
                let mut trie = tables.trie(home, hash).write();
                let removed = trie.remove(home.steps(pattern), queue, subscriber, &self.hasher);
                if removed {
                    tables.removed(home, hash);
                }
                removed
            }
        }
    }

    /// Who receives what is published to `subject`.
    ///
    /// Wildcards in `subject` are plain text (`foo.*` reaches the patterns `foo.*` and `foo.>`, not `foo.bar`), and a
    /// subject with an empty token reaches nobody. Does not allocate while at most four patterns match and none has
    /// queue groups.
    ///
    /// A match set that is held makes the next change of each list in it copy that list: whole up to 128 subscribers,
    /// beyond that 128 of them and a pointer for each other 128.
    #[must_use]
    pub fn matches(&self, subject: &[u8]) -> MatchSet<S> {
        let mut found = MatchSet::new();
        self.collect(subject, &mut found);
        found
    }

    /// [`stamp`](Self::stamp) and [`matches`](Self::matches) in one, hashing once: what a cache does on a miss.
    #[must_use]
    pub fn look_up(&self, subject: &[u8]) -> (Stamp, MatchSet<S>) {
        let mut found = MatchSet::new();
        (self.collect(subject, &mut found), found)
    }

    fn collect(&self, subject: &[u8], found: &mut MatchSet<S>) -> Stamp {
        let address = Address::of(subject, &self.hasher);
        let Some(tables) = self.tables.get() else {
            return Stamp::of_nothing(address.hashes());
        };
        let stamp = tables.changes.stamp(address.hashes());
        // Nobody can subscribe to a subject with an empty token, so it is not found here.
        if tables.literal_presence.is_possible(address.hash) {
            let shard = tables.literal_shard(address.hash).read();
            if let Some(slot) = shard.find(address.hash, subject) {
                found.add(slot);
            }
        }
        if !address.has_empty_token {
            for Prefix { end, hash } in address.first.into_iter().chain(address.second) {
                if tables.prefix_presence.is_possible(hash) {
                    let (prefix, rest) = (&subject[..end], &subject[end + 1..]);
                    let shard = tables.prefix_shard(hash).read();
                    shard.collect_after(prefix, hash, rest, &self.hasher, found);
                }
            }
            if tables.everywhere_len.load(Ordering::Acquire) != 0 {
                tables
                    .everywhere
                    .read()
                    .collect(subject, &self.hasher, found);
            }
        }
        found.finish();
        stamp
    }

    /// Notes where the counters stand that concern `subject`. To be taken *before* [`matches`](Self::matches): as
    /// long as the stamp [is current](Self::is_current), so is the match set.
    #[must_use]
    pub fn stamp(&self, subject: &[u8]) -> Stamp {
        let hashes = Address::of(subject, &self.hasher).hashes();
        match self.tables.get() {
            Some(tables) => tables.changes.stamp(hashes),
            None => Stamp::of_nothing(hashes),
        }
    }

    /// Whether a match set taken after `stamp` still is what [`matches`](Self::matches) would answer.
    ///
    /// May say no without need: unrelated subjects share counters. Four atomic loads.
    #[must_use]
    #[inline]
    pub fn is_current(&self, stamp: &Stamp) -> bool {
        match self.tables.get() {
            Some(tables) => tables.changes.is_current(stamp),
            None => stamp.is_of_nothing(),
        }
    }

    /// Gives every subscription to `visit`, in no particular order.
    ///
    /// Not a snapshot: what is inserted or removed meanwhile may be met or not, everything else is met exactly once.
    /// No lock is held during `visit`, and only a few hundred subscriptions' worth of time between two of its calls.
    pub fn for_each(&self, mut visit: impl FnMut(Entry<'_, S>)) {
        let Some(tables) = self.tables.get() else {
            return;
        };
        let mut batch = Batch(Vec::new());
        for LiteralShard(shard) in &tables.literals {
            let mut cursor = Some(0);
            while let Some(at) = cursor {
                cursor = shard
                    .read()
                    .visit_part(at, &self.hasher, |pattern, slot| batch.take(pattern, slot));
                batch.show(&mut visit);
            }
        }
        for trie in tables
            .prefixed
            .iter()
            .map(|shard| &shard.0)
            .chain([&tables.everywhere])
        {
            let mut chunk = 0;
            while trie
                .read()
                .visit_chunk(chunk, |pattern, slot| batch.take(pattern, slot))
            {
                batch.show(&mut visit);
                chunk += 1;
            }
        }
    }
}

/// One subscription, as [`Index::for_each`] shows it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry<'a, S> {
    /// The pattern subscribed to.
    pub pattern: &'a [u8],
    /// The queue group, if it is a member of one.
    pub queue: Option<&'a [u8]>,
    /// Who subscribed.
    pub subscriber: &'a S,
}

/// Lists taken under a lock to be shown without it.
struct Batch<S>(Vec<Taken<S>>);

struct Taken<S> {
    pattern: Vec<u8>,
    queue: Option<Arc<[u8]>>,
    list: List<S>,
}

impl<S: Clone> Batch<S> {
    fn take(&mut self, pattern: &[u8], slot: &Slot<S>) {
        let plain = slot.plain().map(|list| (None, list));
        let groups = slot
            .groups()
            .map(|(name, list)| (Some(Arc::clone(name)), list));
        self.0
            .extend(plain.into_iter().chain(groups).map(|(queue, list)| Taken {
                pattern: pattern.to_vec(),
                queue,
                list: list.clone(),
            }));
    }

    fn show(&mut self, visit: &mut impl FnMut(Entry<'_, S>)) {
        for Taken {
            pattern,
            queue,
            list,
        } in self.0.drain(..)
        {
            for subscriber in list.slices().flatten() {
                visit(Entry {
                    pattern: &pattern,
                    queue: queue.as_deref(),
                    subscriber,
                });
            }
        }
    }
}

/// Where a valid pattern is kept, and whom a change of it concerns.
#[derive(Clone, Copy, Debug)]
enum Home<'a> {
    /// No wildcard: kept among the literal subjects, concerns the subject it spells.
    Literal(&'a [u8]),
    /// The second or a later token is the first wildcard: kept with the patterns of this prefix, and concerns the
    /// subjects that begin with it. The prefix is the literal tokens, but two at most: one more would cost every
    /// look-up one more table, and most systems name the service first and the instance second.
    Prefix(&'a [u8]),
    /// The first token is a wildcard: concerns all subjects.
    Everywhere,
}

impl<'a> Home<'a> {
    fn of(pattern: &'a [u8]) -> Self {
        let is_wildcard = |token| !matches!(subject::step(token), Step::Literal(_));
        let first_wildcard = subject::tokens(pattern).position(is_wildcard);
        let Shape {
            first_end,
            second_end,
            ..
        } = Shape::of(pattern);
        match first_wildcard {
            None => Self::Literal(pattern),
            Some(0) => Self::Everywhere,
            Some(1) => first_end.map_or(Self::Everywhere, |end| Self::Prefix(&pattern[..end])),
            Some(_) => second_end.map_or(Self::Everywhere, |end| Self::Prefix(&pattern[..end])),
        }
    }

    /// What the subjects concerned have in common.
    fn concerns(self) -> &'a [u8] {
        match self {
            Self::Literal(text) | Self::Prefix(text) => text,
            Self::Everywhere => b"",
        }
    }

    /// The steps of `pattern` in the tree it is kept in: there its prefix is a single step.
    fn steps(self, pattern: &'a [u8]) -> impl Iterator<Item = Step<'a>> {
        let (prefix, rest) = match self {
            Self::Prefix(prefix) => (Some(Step::Literal(prefix)), &pattern[prefix.len() + 1..]),
            Self::Literal(_) | Self::Everywhere => (None, pattern),
        };
        prefix
            .into_iter()
            .chain(subject::tokens(rest).map(subject::step))
    }
}

/// Where the subscriptions are found that reach a subject.
#[derive(Clone, Copy)]
struct Address {
    /// Of the whole subject.
    hash: u64,
    /// The prefix of one token, if there are more.
    first: Option<Prefix>,
    /// The prefix of two tokens, if there are more.
    second: Option<Prefix>,
    has_empty_token: bool,
}

#[derive(Clone, Copy)]
struct Prefix {
    end: usize,
    hash: u64,
}

impl Address {
    #[inline]
    fn of(subject: &[u8], hasher: &RandomState) -> Self {
        let Shape {
            first_end,
            second_end,
            has_empty_token,
        } = Shape::of(subject);
        let prefix = |end| Prefix {
            end,
            hash: hash_of(hasher, &subject[..end]),
        };
        Self {
            hash: hash_of(hasher, subject),
            first: first_end.map(prefix),
            second: second_end.map(prefix),
            has_empty_token,
        }
    }

    /// Of all that concerns the subject. A prefix it does not have concerns it no more than the subject itself does.
    #[inline]
    fn hashes(&self) -> [u64; 3] {
        let or_own = |prefix: Option<Prefix>| prefix.map_or(self.hash, |prefix| prefix.hash);
        [self.hash, or_own(self.first), or_own(self.second)]
    }
}

struct Tables<S> {
    /// The number of subscriptions.
    len: AtomicUsize,
    removals: AtomicU64,
    /// The number of those that begin with a wildcard.
    everywhere_len: AtomicUsize,
    changes: Changes,
    literal_presence: Presence,
    prefix_presence: Presence,
    literals: [LiteralShard<S>; LITERAL_SHARDS],
    /// Patterns with wildcards, by their prefix.
    prefixed: [PrefixShard<S>; PREFIX_SHARDS],
    /// Patterns that begin with a wildcard.
    everywhere: RwLock<Trie<S>>,
}

/// Shards have cache lines of their own, for the locks in them.
#[repr(align(64))]
struct LiteralShard<S>(RwLock<Literals<S>>);

#[repr(align(64))]
struct PrefixShard<S>(RwLock<Trie<S>>);

impl<S> Tables<S> {
    fn new() -> Self {
        Self {
            len: AtomicUsize::new(0),
            removals: AtomicU64::new(0),
            everywhere_len: AtomicUsize::new(0),
            changes: Changes::new(),
            literal_presence: Presence::new(),
            prefix_presence: Presence::new(),
            literals: from_fn(|_| LiteralShard(RwLock::default())),
            prefixed: from_fn(|_| PrefixShard(RwLock::default())),
            everywhere: RwLock::default(),
        }
    }

    #[inline]
    fn literal_shard(&self, hash: u64) -> &RwLock<Literals<S>> {
        &self.literals[(hash >> 32) as usize % LITERAL_SHARDS].0
    }

    #[inline]
    fn prefix_shard(&self, hash: u64) -> &RwLock<Trie<S>> {
        &self.prefixed[(hash >> 32) as usize % PREFIX_SHARDS].0
    }

    fn trie(&self, home: Home<'_>, hash: u64) -> &RwLock<Trie<S>> {
        match home {
            Home::Prefix(_) => self.prefix_shard(hash),
            Home::Literal(_) | Home::Everywhere => &self.everywhere,
        }
    }

    /// To be called after an insertion, under the lock of the table it went to.
    ///
    /// Under the lock, because a removal must not overtake the counting of the insertion it undoes: a count would read
    /// zero for a moment while somebody else's subscription is there.
    fn added(&self, home: Home<'_>, hash: u64) {
        match home {
            Home::Literal(_) => self.literal_presence.added(hash),
            Home::Prefix(_) => self.prefix_presence.added(hash),
            Home::Everywhere => drop(self.everywhere_len.fetch_add(1, Ordering::Release)),
        }
        self.len.fetch_add(1, Ordering::Release);
        self.announce(home, hash);
    }

    /// To be called after a removal, under the lock of the table it was in.
    fn removed(&self, home: Home<'_>, hash: u64) {
        match home {
            Home::Literal(_) => self.literal_presence.removed(hash),
            Home::Prefix(_) => self.prefix_presence.removed(hash),
            Home::Everywhere => drop(self.everywhere_len.fetch_sub(1, Ordering::Release)),
        }
        self.len.fetch_sub(1, Ordering::Release);
        self.removals.fetch_add(1, Ordering::Relaxed);
        self.announce(home, hash);
    }

    /// Makes the stamps stale that a change concerns. Always last, when the change is in the tables and in the counts
    /// by which look-ups pass tables by.
    ///
    /// Why last: a reader takes its stamp, then looks up. Either the stamp includes this count; the count is a release
    /// and the stamp an acquire, so the reader sees what came before it, waiting for the lock if it must. Or the stamp
    /// does not include it, and is stale from here on, whatever the look-up saw. Counted first, there would be a third
    /// case: a stamp after the count, a look-up before the change, and an old answer kept for good.
    fn announce(&self, home: Home<'_>, hash: u64) {
        match home {
            Home::Literal(_) | Home::Prefix(_) => self.changes.changed(hash),
            Home::Everywhere => self.changes.changed_everywhere(),
        }
    }
}
