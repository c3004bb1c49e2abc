//! The subscriptions and subjects both benchmarks run on: the same ones on every run.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use fastrand::Rng;
use natterjack_subject::Index;

/// A subscriber's handle as a server would have it: shared, and the same one only if it is the same allocation.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber(Arc<u64>);

impl Subscriber {
    pub(crate) fn new(number: u64) -> Self {
        Self(Arc::new(number))
    }
}

impl PartialEq for Subscriber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Subscriber {}

impl Hash for Subscriber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// What a subscription asks for, and a subject that it receives.
pub(crate) struct Interest {
    pub(crate) pattern: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) subscriber: Subscriber,
}

/// `count` subscriptions of three to six tokens, one in five with a wildcard, in the proportions of a fleet: few first
/// tokens, many hosts, and below them whatever the hosts have.
pub(crate) fn mixed(count: usize, rng: &mut Rng) -> Vec<Interest> {
    (0..count)
        .map(|number| {
            let subject = subject(rng);
            let pattern = if number % 5 == 0 {
                pattern_for(&subject, rng)
            } else {
                subject.clone()
            };
            let [pattern, subject] = [pattern, subject].map(|tokens| tokens.join(".").into_bytes());
            Interest {
                pattern,
                subject,
                subscriber: Subscriber::new(number as u64),
            }
        })
        .collect()
}

fn subject(rng: &mut Rng) -> Vec<String> {
    let depth = rng.usize(3..=6);
    let mut tokens = vec![
        format!("service{}", rng.u32(0..50)),
        format!("host-{}", rng.u32(0..5000)),
    ];
    tokens.extend((2..depth).map(|_| format!("metric_{}", rng.u32(0..1000))));
    tokens
}

/// A wildcard pattern that matches `subject`: one token in the place of `*`, or the tail in the place of `>`. One in a
/// hundred begins with the wildcard.
fn pattern_for(subject: &[String], rng: &mut Rng) -> Vec<String> {
    let mut pattern = subject.to_vec();
    let place = if rng.u32(0..100) == 0 {
        0
    } else {
        rng.usize(1..subject.len())
    };
    if rng.bool() || place == 0 {
        pattern[place] = "*".to_owned();
    } else {
        pattern.truncate(place);
        pattern.push(">".to_owned());
    }
    pattern
}

/// An index of all `interests`.
pub(crate) fn index_of(interests: &[Interest]) -> Index<Subscriber> {
    let index = Index::new();
    for interest in interests {
        let subscriber = interest.subscriber.clone();
        index
            .insert(&interest.pattern, None, subscriber)
            .expect("the pattern is valid");
    }
    index
}
