//! Which servers there are, and in which order they are tried. Knows no network and no clock.
//!
//! Servers are tried in rounds. A round begins with those that somebody configured, each once; those that servers have named
//! follow, in an order that is different for each client, so that those of a dead server do not all go to the same one.
//! Named servers may be many, and dead, and slow to show that they are: a round has but a few of them.

use std::collections::VecDeque;

/// Servers that may be learnt. No cluster is that large; whoever says so means harm.
const LEARNT_MAX: usize = 1_000;

/// Those of them in one round. Each may take as long as its deadlines allow, and meanwhile a configured server may have come
/// back.
const LEARNT_PER_ROUND: usize = 8;

/// Servers, however they are told apart.
#[derive(Clone, Debug)]
pub struct Pool<A> {
    configured: Vec<A>,
    learnt: Vec<A>,
    /// Which of those configured begins the next round: counted beyond the end, perhaps.
    first: usize,
    /// What is left of this round.
    round: VecDeque<Candidate<A>>,
    /// One that will soon be gone, by its own words.
    leaving: Option<A>,
}

/// A server whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<A> {
    /// Which one.
    pub server: A,
    /// Whether another server has named it, and nobody configured it.
    pub is_learnt: bool,
}

impl<A: Clone + PartialEq> Pool<A> {
    /// Knows these servers, in this order.
    #[must_use]
    pub const fn new(configured: Vec<A>) -> Self {
        Self {
            configured,
            learnt: Vec::new(),
            first: 0,
            round: VecDeque::new(),
            leaving: None,
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.configured.len() + self.learnt.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, those that are configured first.
    pub fn all(&self) -> impl Iterator<Item = &A> {
        self.configured.iter().chain(&self.learnt)
    }

    /// Takes what is configured now; nothing changes nothing. The next round begins with the first of other ones than
    /// before.
    pub fn replace(&mut self, configured: Vec<A>) {
        if configured.is_empty() || configured == self.configured {
            return;
        }
        self.learnt.retain(|learnt| !configured.contains(learnt));
        self.configured = configured;
        self.first = 0;
    }

    /// Takes what a server says of its cluster instead of what was said before, and answers what of that is new. One that
    /// says nothing changes nothing.
    pub fn learn(&mut self, named: impl IntoIterator<Item = A>) -> Vec<A> {
        let mut named = named.into_iter().peekable();
        if named.peek().is_none() {
            return Vec::new();
        }
        let before = std::mem::take(&mut self.learnt);
        let mut new = Vec::new();
        for server in named {
            let is_known = self.all().any(|known| *known == server);
            if !is_known && self.learnt.len() < LEARNT_MAX {
                if !before.contains(&server) {
                    new.push(server.clone());
                }
                self.learnt.push(server);
            }
        }
        new
    }

    /// This server will soon be gone: in the next round it comes last. Answers whether there are others.
    pub fn leave(&mut self, server: &A) -> bool {
        self.leaving = Some(server.clone());
        self.all().any(|known| known != server)
    }

    /// Begins a round. Those that are configured take turns in being its first.
    pub fn begin_round(&mut self, random: &mut fastrand::Rng) {
        let first = self.first.checked_rem(self.configured.len()).unwrap_or(0);
        let (earlier, later) = self.configured.split_at(first);
        self.round.clear();
        for server in later.iter().chain(earlier) {
            self.round.push_back(Candidate {
                server: server.clone(),
                is_learnt: false,
            });
        }
        random.shuffle(&mut self.learnt);
        for server in self.learnt.iter().take(LEARNT_PER_ROUND) {
            self.round.push_back(Candidate {
                server: server.clone(),
                is_learnt: true,
            });
        }
        if let Some(leaving) = self.leaving.take()
            && let Some(place) = (self.round.iter()).position(|known| known.server == leaving)
        {
            let last = self.round.remove(place);
            self.round.extend(last);
        }
    }

    /// The next one of this round. `None`: all have had their turn.
    pub fn take(&mut self) -> Option<Candidate<A>> {
        let candidate = self.round.pop_front()?;
        let place = (self.configured.iter()).position(|known| *known == candidate.server);
        if let Some(place) = place {
            self.first = place + 1;
        }
        Some(candidate)
    }

    /// There has been a connection that was of use: whoever is left of this round is not next.
    pub fn end_round(&mut self) {
        self.round.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &'static str) -> Vec<&'static str> {
        text.split(' ').collect()
    }

    /// A whole round.
    fn round<A: Clone + PartialEq>(pool: &mut Pool<A>) -> Vec<Candidate<A>> {
        pool.begin_round(&mut fastrand::Rng::with_seed(7));
        std::iter::from_fn(|| pool.take()).collect()
    }

    fn shown(round: &[Candidate<&str>]) -> String {
        let names: Vec<_> = round.iter().map(|candidate| candidate.server).collect();
        names.join(" ")
    }

    #[test]
    fn those_configured_take_turns() {
        let mut pool = Pool::new(Vec::new());
        assert!(pool.is_empty() && round(&mut pool).is_empty());
        pool.replace(names("a b c"));
        assert_eq!(shown(&round(&mut pool)), "a b c");
        assert_eq!(shown(&round(&mut pool)), "a b c");
        // The second one was connected to. When it is lost the third one is next.
        pool.begin_round(&mut fastrand::Rng::with_seed(7));
        pool.take();
        pool.take();
        pool.replace(names("a b c"));
        pool.replace(Vec::new());
        assert_eq!(shown(&round(&mut pool)), "c a b", "nothing new");
        pool.replace(names("d a"));
        assert_eq!(shown(&round(&mut pool)), "d a");
    }

    #[test]
    fn those_configured_come_first_in_each_round_and_rounds_are_short() {
        let mut pool = Pool::new(vec![0, 1]);
        assert_eq!(pool.learn(1..40).len(), 38, "one is known");
        let mut seen = std::collections::BTreeSet::new();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100 {
            pool.begin_round(&mut random);
            let round: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
            let (configured, learnt) = round.split_at(2);
            assert_eq!(configured.iter().filter(|one| one.is_learnt).count(), 0);
            assert_eq!(learnt.iter().filter(|one| one.is_learnt).count(), 8);
            seen.extend(learnt.iter().map(|one| one.server));
        }
        assert_eq!(seen.len(), 38, "each has its turn in some round");
    }

    #[test]
    fn what_servers_say_of_others() {
        let mut pool = Pool::new(vec![0]);
        assert_eq!(pool.learn([0, 1, 2, 1]), [1, 2]);
        assert_eq!(pool.learn([0, 1, 2]), [0; 0]);
        assert_eq!(pool.learn([]), [0; 0], "it does not say");
        assert_eq!(pool.len(), 3);
        pool.replace(vec![2, 0]);
        assert_eq!(pool.len(), 3, "what is configured is not learnt");
        pool.learn(0..5_000);
        assert_eq!(pool.len(), 2 + LEARNT_MAX);
        // Who has left the cluster is tried no more.
        assert_eq!(pool.learn([7, 9_999]), [9_999]);
        assert_eq!(pool.len(), 4);
    }

    #[test]
    fn who_is_leaving_comes_last_once() {
        let mut pool = Pool::new(names("a b"));
        assert!(pool.leave(&"a"));
        assert_eq!(shown(&round(&mut pool)), "b a");
        pool.learn(names("c"));
        assert_eq!(shown(&round(&mut pool)), "b a c");
        assert!(pool.leave(&"b"));
        assert_eq!(shown(&round(&mut pool)), "a c b");
        assert!(!Pool::new(names("a")).leave(&"a"), "there is no other");
    }
}
