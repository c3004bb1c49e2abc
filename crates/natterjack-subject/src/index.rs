//! The index: which subscribers a subject reaches, kept while many threads look up and change it.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use memchr::memchr;
use parking_lot::RwLock;
use thiserror::Error;

use crate::key::Key;
use crate::match_set::MatchSet;
use crate::slot::Slot;
use crate::stamp::{Counters, Stamp};
use crate::subject::{self, SEPARATOR, Step};
use crate::trie::Trie;

/// Locks over the literal subjects, a power of two. Enough that a thread that subscribes rarely meets one that looks
/// up, few enough that an index with a single subscription stays small.
const LITERAL_SHARDS: usize = 64;
/// Locks over the patterns that begin with a literal token, a power of two.
const PATTERN_SHARDS: usize = 16;

/// The pattern breaks the rules of [`is_valid_pattern`](crate::is_valid_pattern): an empty token, or `>` before the
/// end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a subject has an empty token, or `>` before its last token")]
pub struct InvalidPattern;

/// A concurrent index of subscriptions: patterns and subscribers in, the subscribers of a subject out.
///
/// `S` is the subscriber's handle, cheap to clone and compare, such as an `Arc`. Each (pattern, queue group) holds a
/// set of them. See the [crate's page](crate) for how it works and what it costs.
pub struct Index<S> {
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

impl<S> Index<S> {
    /// An index without subscriptions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of subscriptions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables
            .get()
            .map_or(0, |tables| tables.populations.all())
    }

    /// Nodes in use by patterns with wildcards, and literal subjects: what must be zero when `len` is.
    pub(crate) fn nodes_used(&self) -> usize {
        let Some(tables) = self.tables.get() else {
            return 0;
        };
        let literals: usize = tables
            .literals
            .iter()
            .map(|shard| shard.0.read().0.len())
            .sum();
        let prefixed: usize = tables
            .prefixed
            .iter()
            .map(|trie| trie.read().nodes_used())
            .sum();
        literals + prefixed + tables.everywhere.read().nodes_used()
    }

    /// Whether there is no subscription.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: Clone + Eq + Hash> Index<S> {
    /// Subscribes `subscriber` to `pattern`, as a member of the queue group `queue` if one is given.
    ///
    /// Inserting the same subscriber again with the same pattern and queue group changes nothing. Amortised
    /// O(tokens).
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
        let population = tables.populations.of(&home);
        let added = match home {
            Home::Literal => {
                let hash = hash_of(&self.hasher, pattern);
                let mut shard = tables.literal_shard(hash).write();
                let added = shard.insert(hash, pattern, queue, subscriber, &self.hasher);
                population.fetch_add(usize::from(added), Ordering::Release);
                added
            }
            Home::First(_) | Home::Second(_) | Home::Everywhere => {
                let mut trie = tables.trie(&home, &self.hasher).write();
                let added = trie.insert(home.steps(pattern), queue, subscriber, &self.hasher);
                population.fetch_add(usize::from(added), Ordering::Release);
                added
            }
        };
        if added {
            tables.announce(&home, pattern, &self.hasher);
        }
        Ok(())
    }

    /// Undoes [`insert`](Self::insert) of the same three. Returns whether there was such a subscription.
    ///
    /// O(tokens) however many subscribers the pattern has.
    pub fn remove(&self, pattern: &[u8], queue: Option<&[u8]>, subscriber: &S) -> bool {
        let Some(tables) = self.tables.get() else {
            return false;
        };
        if !subject::is_valid_pattern(pattern) {
            return false;
        }
        let home = Home::of(pattern);
        let population = tables.populations.of(&home);
        let removed = match home {
            Home::Literal => {
                let hash = hash_of(&self.hasher, pattern);
                let mut shard = tables.literal_shard(hash).write();
                let removed = shard.remove(hash, pattern, queue, subscriber, &self.hasher);
                population.fetch_sub(usize::from(removed), Ordering::Release);
                removed
            }
            Home::First(_) | Home::Second(_) | Home::Everywhere => {
                let mut trie = tables.trie(&home, &self.hasher).write();
                let removed = trie.remove(home.steps(pattern), queue, subscriber, &self.hasher);
                population.fetch_sub(usize::from(removed), Ordering::Release);
                removed
            }
        };
        if removed {
            tables.announce(&home, pattern, &self.hasher);
        }
        removed
    }

    /// Who receives what is published to `subject`.
    ///
    /// Wildcards in `subject` are plain text (`foo.*` reaches the patterns `foo.*` and `foo.>`, not `foo.bar`), and a
    /// subject with an empty token reaches nobody. Does not allocate while at most four patterns match and none has
    /// queue groups.
    #[must_use]
    pub fn matches(&self, subject: &[u8]) -> MatchSet<S> {
        let mut found = MatchSet::new();
        let Some(tables) = self.tables.get() else {
            return found;
        };
        let populations = &tables.populations;
        if populations.literals.load(Ordering::Acquire) != 0 {
            let hash = hash_of(&self.hasher, subject);
            if let Some(slot) = tables.literal_shard(hash).read().find(hash, subject) {
                found.add(slot);
            }
        }
        if populations.patterns() != 0 && !subject::has_empty_token(subject) {
            self.collect_patterns(tables, subject, &mut found);
        }
        found.finish();
        found
    }

    fn collect_patterns(&self, tables: &Tables<S>, subject: &[u8], found: &mut MatchSet<S>) {
        let populations = &tables.populations;
        if populations.everywhere.load(Ordering::Acquire) != 0 {
            tables
                .everywhere
                .read()
                .collect(subject, &self.hasher, found);
        }
        let ends = PrefixEnds::of(subject);
        for (end, population) in [
            (ends.first, &populations.first),
            (ends.second, &populations.second),
        ] {
            if let Some(end) = end
                && population.load(Ordering::Acquire) != 0
            {
                let (prefix, rest) = (&subject[..end], &subject[end + 1..]);
                let trie = tables.trie_of_prefix(prefix, &self.hasher).read();
                trie.collect_after(prefix, rest, &self.hasher, found);
            }
        }
    }

    /// Notes where the counters stand that concern `subject`. To be taken *before* [`matches`](Self::matches): as
    /// long as the stamp [is current](Self::is_current), so is the match set.
    #[must_use]
    pub fn stamp(&self, subject: &[u8]) -> Stamp {
        let ends = PrefixEnds::of(subject);
        let place = |text: &[u8]| Counters::place(hash_of(&self.hasher, text));
        let literal = place(subject);
        // A prefix the subject does not have concerns it no more than its own counter does.
        let first = ends.first.map_or(literal, |end| place(&subject[..end]));
        let second = ends.second.map_or(literal, |end| place(&subject[..end]));
        let places = [literal, first, second];
        self.tables.get().map_or_else(
            || Stamp::of_nothing(places),
            |tables| tables.counters.stamp(places),
        )
    }

    /// Whether a match set taken after `stamp` still is what [`matches`](Self::matches) would answer.
    ///
    /// May say no without need: unrelated subjects share counters. Four atomic loads.
    #[must_use]
    #[inline]
    pub fn is_current(&self, stamp: &Stamp) -> bool {
        match self.tables.get() {
            Some(tables) => tables.counters.is_current(stamp),
            None => stamp.is_of_nothing(),
        }
    }
}

/// Where a valid pattern is kept, and whom a change of it concerns.
#[derive(Clone, Copy, Debug)]
enum Home<'a> {
    /// No wildcard: among the literal subjects. Concerns the subject it spells.
    Literal,
    /// The second token is the first wildcard. Concerns the subjects with this first token.
    First(&'a [u8]),
    /// A later token is the first wildcard. Concerns the subjects with these first two tokens.
    Second(&'a [u8]),
    /// The first token is a wildcard. Concerns all subjects.
    Everywhere,
}

impl<'a> Home<'a> {
    fn of(pattern: &'a [u8]) -> Self {
        let first_wildcard = subject::tokens(pattern)
            .position(|token| !matches!(subject::step(token), Step::Literal(_)));
        let ends = PrefixEnds::of(pattern);
        match (first_wildcard, ends.first, ends.second) {
            (None, _, _) => Self::Literal,
            (Some(0), _, _) => Self::Everywhere,
            (Some(1), Some(end), _) => Self::First(&pattern[..end]),
            (Some(_), _, Some(end)) => Self::Second(&pattern[..end]),
            (Some(_), _, None) => {
                unreachable!("a token after the second has two separators before it")
            }
        }
    }

    /// The steps of `pattern` in the tree it is kept in: there its literal prefix is a single step.
    fn steps(self, pattern: &'a [u8]) -> impl Iterator<Item = Step<'a>> {
        let (prefix, rest) = match self {
            Home::First(prefix) | Home::Second(prefix) => {
                (Some(Step::Literal(prefix)), &pattern[prefix.len() + 1..])
            }
            Home::Literal | Home::Everywhere => (None, pattern),
        };
        prefix
            .into_iter()
            .chain(subject::tokens(rest).map(subject::step))
    }
}

/// The separators that end the first token and the first two tokens, where there is a token after them.
#[derive(Clone, Copy)]
struct PrefixEnds {
    first: Option<usize>,
    second: Option<usize>,
}

impl PrefixEnds {
    #[inline]
    fn of(subject: &[u8]) -> Self {
        let first = memchr(SEPARATOR, subject);
        let second = first.and_then(|end| {
            memchr(SEPARATOR, &subject[end + 1..]).map(|distance| end + 1 + distance)
        });
        Self { first, second }
    }
}

struct Tables<S> {
    populations: Populations,
    counters: Counters,
    literals: Box<[LiteralShard<S>]>,
    /// Patterns by their literal prefix of one or two tokens.
    prefixed: Box<[RwLock<Trie<S>>]>,
    /// Patterns that begin with a wildcard.
    everywhere: RwLock<Trie<S>>,
}

#[repr(align(64))]
struct LiteralShard<S>(RwLock<Literals<S>>);

/// How many subscriptions there are of each kind, so that a look-up passes by what is empty.
///
/// Each changes only under the lock of the table that changes with it. Otherwise a removal could overtake the count of
/// the insertion it undoes, and the sum would read zero for a moment while somebody else's subscription is there.
#[derive(Default)]
struct Populations {
    literals: AtomicUsize,
    first: AtomicUsize,
    second: AtomicUsize,
    everywhere: AtomicUsize,
}

impl Populations {
    fn of(&self, home: &Home<'_>) -> &AtomicUsize {
        match home {
            Home::Literal => &self.literals,
            Home::First(_) => &self.first,
            Home::Second(_) => &self.second,
            Home::Everywhere => &self.everywhere,
        }
    }

    #[inline]
    fn patterns(&self) -> usize {
        self.first.load(Ordering::Acquire)
            + self.second.load(Ordering::Acquire)
            + self.everywhere.load(Ordering::Acquire)
    }

    fn all(&self) -> usize {
        self.literals.load(Ordering::Acquire) + self.patterns()
    }
}

impl<S> Tables<S> {
    fn new() -> Self {
        Self {
            populations: Populations::default(),
            counters: Counters::new(),
            literals: (0..LITERAL_SHARDS)
                .map(|_| LiteralShard(RwLock::new(Literals::default())))
                .collect(),
            prefixed: (0..PATTERN_SHARDS)
                .map(|_| RwLock::new(Trie::default()))
                .collect(),
            everywhere: RwLock::new(Trie::default()),
        }
    }

    #[inline]
    fn literal_shard(&self, hash: u64) -> &RwLock<Literals<S>> {
        &self.literals[(hash >> 32) as usize % LITERAL_SHARDS].0
    }

    fn trie_of_prefix(&self, prefix: &[u8], hasher: &RandomState) -> &RwLock<Trie<S>> {
        &self.prefixed[(hash_of(hasher, prefix) >> 32) as usize % PATTERN_SHARDS]
    }

    fn trie(&self, home: &Home<'_>, hasher: &RandomState) -> &RwLock<Trie<S>> {
        match home {
            Home::First(prefix) | Home::Second(prefix) => self.trie_of_prefix(prefix, hasher),
            Home::Literal | Home::Everywhere => &self.everywhere,
        }
    }

    /// Makes the stamps stale that a change of `pattern` concerns. Always after the change is in the tables.
    ///
    /// Why after: a reader takes its stamp, then looks up. If it misses the change, the change was not yet in the
    /// tables when it looked, so this count is still to come and its stamp will not be current. Had we counted
    /// first, a reader could stamp after the count, look up before the change, and keep the old answer for good. And a
    /// reader whose stamp includes the count sees the change: the count is a release, the stamp an acquire.
    fn announce(&self, home: &Home<'_>, pattern: &[u8], hasher: &RandomState) {
        match home {
            Home::Literal => self
                .counters
                .changed(Counters::place(hash_of(hasher, pattern))),
            Home::First(prefix) | Home::Second(prefix) => {
                self.counters
                    .changed(Counters::place(hash_of(hasher, prefix)));
            }
            Home::Everywhere => self.counters.changed_everywhere(),
        }
    }
}

/// The literal subjects of one shard.
struct Literals<S>(HashTable<Literal<S>>);

struct Literal<S> {
    /// Kept so that a table that grows does not read every subject again.
    hash: u64,
    subject: Key,
    slot: Slot<S>,
}

impl<S> Default for Literals<S> {
    fn default() -> Self {
        Self(HashTable::new())
    }
}

impl<S> Literals<S> {
    #[inline]
    fn find(&self, hash: u64, subject: &[u8]) -> Option<&Slot<S>> {
        self.0
            .find(hash, |literal| literal.is(hash, subject))
            .map(|literal| &literal.slot)
    }
}

impl<S> Literal<S> {
    #[inline]
    fn is(&self, hash: u64, subject: &[u8]) -> bool {
        self.hash == hash && self.subject.as_bytes() == subject
    }
}

impl<S: Clone + Eq + Hash> Literals<S> {
    fn insert(
        &mut self,
        hash: u64,
        subject: &[u8],
        queue: Option<&[u8]>,
        subscriber: S,
        hasher: &RandomState,
    ) -> bool {
        self.0
            .entry(
                hash,
                |literal| literal.is(hash, subject),
                |literal| literal.hash,
            )
            .or_insert_with(|| Literal {
                hash,
                subject: Key::new(subject),
                slot: Slot::default(),
            })
            .into_mut()
            .slot
            .insert(queue, subscriber, hasher)
    }

    fn remove(
        &mut self,
        hash: u64,
        subject: &[u8],
        queue: Option<&[u8]>,
        subscriber: &S,
        hasher: &RandomState,
    ) -> bool {
        let Ok(mut literal) = self.0.find_entry(hash, |literal| literal.is(hash, subject)) else {
            return false;
        };
        let removed = literal.get_mut().slot.remove(queue, subscriber, hasher);
        if literal.get().slot.is_empty() {
            literal.remove();
        }
        removed
    }
}

/// Keyed, because clients choose the bytes.
#[inline]
fn hash_of(hasher: &RandomState, bytes: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(bytes);
    state.finish()
}
