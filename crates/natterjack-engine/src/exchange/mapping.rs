//! An account's mappings: which of them a subject goes by, and to which of its destinations.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;
use natterjack_subject::{is_literal, matches};

use super::Transform;
use crate::access::{Destination, Mapping, MappingProblem};

/// Mappings of one account, compiled. Of several that a subject matches the first one counts.
pub(crate) struct Mappings {
    /// Unique, so that what a cache remembers of one is not taken for another's.
    id: u64,
    mappings: Box<[CompiledMapping]>,
}

struct CompiledMapping {
    source: Box<[u8]>,
    choices: Box<[Choice]>,
    /// Whether a subject always becomes the same.
    is_deterministic: bool,
}

/// A destination, chosen for numbers from 0 to 99 below `limit` and not below that of the choice before it.
struct Choice {
    limit: u8,
    transform: Transform,
}

/// What becomes of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapped {
    /// It stays what it is.
    Not,
    /// It becomes another, and so does the next one like it.
    Always,
    /// It becomes another; the next one like it may become something else.
    Once,
    /// The message is dropped: this is what weights say that leave something out.
    Lost,
}

impl Mappings {
    /// Compiles mappings. Destinations for other clusters than `cluster` do not count; what has
    /// [problems](Mapping::problem) is left out.
    pub(crate) fn new(mappings: &[Mapping], cluster: &str) -> Option<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let compiled = mappings
            .iter()
            .filter_map(|mapping| CompiledMapping::new(mapping, cluster).ok());
        let compiled: Box<[_]> = compiled.collect();
        (!compiled.is_empty()).then(|| Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            mappings: compiled,
        })
    }

    fn find(&self, subject: &[u8]) -> Option<&CompiledMapping> {
        self.mappings
            .iter()
            .find(|mapping| matches(&mapping.source, subject))
    }
}

impl CompiledMapping {
    fn new(mapping: &Mapping, cluster: &str) -> Result<Self, MappingProblem> {
        mapping.check()?;
        let of_cluster =
            |destination: &&Destination| destination.cluster.as_deref() == Some(cluster);
        let own: Vec<&Destination> = mapping.destinations.iter().filter(of_cluster).collect();
        let destinations = if own.is_empty() {
            let anywhere = |destination: &&Destination| destination.cluster.is_none();
            mapping.destinations.iter().filter(anywhere).collect()
        } else {
            own
        };
        let mut choices = Vec::with_capacity(destinations.len() + 1);
        let mut limit = 0;
        for destination in destinations {
            limit += destination.weight_percent;
            choices.push(Choice {
                limit,
                transform: Transform::new(&mapping.source, &destination.subject)?,
            });
        }
        // What is left keeps its subject. If the subject is among the destinations, what is left is meant to be lost.
        let mut all = mapping.destinations.iter();
        if limit < 100 && !all.any(|destination| destination.subject == mapping.source) {
            choices.push(Choice {
                limit: 100,
                transform: Transform::new(&mapping.source, &same(&mapping.source))?,
            });
        }
        let is_deterministic = match &choices[..] {
            [only] => only.limit == 100 && only.transform.is_deterministic(),
            _ => false,
        };
        Ok(Self {
            source: mapping.source.as_bytes().into(),
            choices: choices.into(),
            is_deterministic,
        })
    }

    fn map(&self, subject: &[u8], chance: &mut fastrand::Rng, out: &mut Vec<u8>) -> Mapped {
        let number = match &self.choices[..] {
            [only] if only.limit == 100 => 0,
            _ => chance.u8(..100),
        };
        let Some(choice) = self.choices.iter().find(|choice| number < choice.limit) else {
            return Mapped::Lost;
        };
        choice.transform.apply(subject, chance, out);
        if self.is_deterministic {
            Mapped::Always
        } else {
            Mapped::Once
        }
    }
}

/// The destination that changes nothing: `a.*.>` is `a.$1.>`.
fn same(source: &str) -> String {
    let mut wildcards = 0;
    let tokens = source.split('.').map(|token| {
        if token != "*" {
            return token.to_owned();
        }
        wildcards += 1;
        format!("${wildcards}")
    });
    let tokens: Vec<String> = tokens.collect();
    tokens.join(".")
}

impl Mapping {
    /// What is wrong with it, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<MappingProblem> {
        self.check().err()
    }

    fn check(&self) -> Result<(), MappingProblem> {
        if !natterjack_subject::is_valid_pattern(self.source.as_bytes())
            || self.source.contains(char::is_whitespace)
        {
            return Err(MappingProblem::InvalidSource(self.source.clone()));
        }
        let mut known: Vec<&Destination> = Vec::new();
        for destination in &self.destinations {
            let subject = destination.subject.as_str();
            if subject.is_empty() {
                return Err(MappingProblem::NoDestination);
            }
            if known.iter().any(|other| other.subject == subject) {
                return Err(MappingProblem::Duplicate(subject.to_owned()));
            }
            known.push(destination);
            let of_cluster = known
                .iter()
                .filter(|other| other.cluster == destination.cluster);
            let total: u32 = of_cluster
                .map(|other| u32::from(other.weight_percent))
                .sum();
            if destination.weight_percent > 100 {
                return Err(MappingProblem::Weight);
            }
            if total > 100 {
                return Err(MappingProblem::TotalWeight);
            }
            Transform::new(&self.source, subject)?;
        }
        // What is left over keeps its subject, unless a wildcard's own form is odd enough for that not to work.
        debug_assert!(
            is_literal(self.source.as_bytes())
                || Transform::new(&self.source, &same(&self.source)).is_ok()
        );
        Ok(())
    }
}

/// Slots; a power of two.
const SLOTS: usize = 1024;

/// Longer subjects are mapped each time, and longer results are not remembered.
const SUBJECT_BYTES_MAX: usize = 128;

/// What became of subjects lately. Owned by a thread's worker, like the cache of receivers. Empty until it is first needed.
pub(crate) struct Mapper {
    hasher: FixedState,
    chance: fastrand::Rng,
    slots: Vec<Slot>,
}

#[derive(Clone)]
struct Slot {
    /// 0 is nobody's.
    mappings: u64,
    subject: Vec<u8>,
    mapped: Mapped,
    to: Vec<u8>,
}

impl Mapper {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            chance: fastrand::Rng::with_seed(seed),
            slots: Vec::new(),
        }
    }

    /// What becomes of a subject, put into `out` where it is another. Constant for subjects that came lately and
    /// always become the same; otherwise linear in the account's mappings.
    pub(crate) fn map(&mut self, mappings: &Mappings, subject: &[u8], out: &mut Vec<u8>) -> Mapped {
        out.clear();
        if subject.len() > SUBJECT_BYTES_MAX {
            return match mappings.find(subject) {
                Some(mapping) => mapping.map(subject, &mut self.chance, out),
                None => Mapped::Not,
            };
        }
        if self.slots.is_empty() {
            let empty = Slot {
                mappings: 0,
                subject: Vec::new(),
                mapped: Mapped::Not,
                to: Vec::new(),
            };
            self.slots.resize(SLOTS, empty);
        }
        let hash = self.hasher.hash_one((mappings.id, subject));
        let slot = &mut self.slots[hash as usize & (SLOTS - 1)];
        if slot.mappings == mappings.id && slot.subject == subject {
            out.extend_from_slice(&slot.to);
            return slot.mapped;
        }
        let mapped = match mappings.find(subject) {
            Some(mapping) => mapping.map(subject, &mut self.chance, out),
            None => Mapped::Not,
        };
        if matches!(mapped, Mapped::Not | Mapped::Always) && out.len() <= 2 * SUBJECT_BYTES_MAX {
            slot.mappings = mappings.id;
            slot.subject.clear();
            slot.subject.extend_from_slice(subject);
            slot.mapped = mapped;
            slot.to.clear();
            slot.to.extend_from_slice(out);
        }
        mapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(subject: &str, weight_percent: u8, cluster: Option<&str>) -> Destination {
        Destination {
            subject: subject.to_owned(),
            weight_percent,
            cluster: cluster.map(ToOwned::to_owned),
        }
    }

    fn mapping(source: &str, destinations: &[(&str, u8, Option<&str>)]) -> Mapping {
        Mapping {
            source: source.to_owned(),
            destinations: destinations
                .iter()
                .map(|&(subject, weight, cluster)| destination(subject, weight, cluster))
                .collect(),
        }
    }

    /// How often of 1000 times a subject becomes what; "" is lost and "=" stays.
    fn outcomes(mappings: &[Mapping], cluster: &str, subject: &str) -> Vec<(String, usize)> {
        let mappings = Mappings::new(mappings, cluster).expect("there are some");
        let mut mapper = Mapper::new(3);
        let mut counts = std::collections::BTreeMap::new();
        let mut out = Vec::new();
        for _ in 0..1000 {
            let outcome = match mapper.map(&mappings, subject.as_bytes(), &mut out) {
                Mapped::Not => "=".to_owned(),
                Mapped::Always | Mapped::Once => String::from_utf8(out.clone()).expect("text"),
                Mapped::Lost => String::new(),
            };
            *counts.entry(outcome).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    fn is_about(outcomes: &[(String, usize)], expected: &[(&str, usize)]) -> bool {
        outcomes.len() == expected.len()
            && outcomes
                .iter()
                .zip(expected)
                .all(|((found, count), (name, share))| {
                    found == name && count.abs_diff(share * 10) < 60
                })
    }

    #[test]
    fn the_first_that_matches_counts() {
        let mappings = [
            mapping("a.b", &[("x", 100, None)]),
            mapping("a.*", &[("y.$1", 100, None)]),
        ];
        for (subject, expected) in [("a.b", "x"), ("a.c", "y.c"), ("a", "=")] {
            assert_eq!(
                outcomes(&mappings, "", subject),
                [(expected.to_owned(), 1000)]
            );
        }
    }

    #[test]
    fn weights_are_kept_to() {
        let two = [mapping("a.*", &[("x.$1", 20, None), ("y", 50, None)])];
        let found = outcomes(&two, "", "a.1");
        assert!(
            is_about(&found, &[("a.1", 30), ("x.1", 20), ("y", 50)]),
            "{found:?}"
        );
        let lossy = [mapping("a", &[("a", 40, None), ("b", 30, None)])];
        let found = outcomes(&lossy, "", "a");
        assert!(
            is_about(&found, &[("", 30), ("a", 40), ("b", 30)]),
            "{found:?}"
        );
        let none = [mapping("a", &[])];
        assert_eq!(outcomes(&none, "", "a"), [("a".to_owned(), 1000)]);
    }

    #[test]
    fn a_cluster_of_ones_own_goes_first() {
        let mappings = [mapping(
            "a",
            &[
                ("here", 100, Some("C")),
                ("there", 100, Some("D")),
                ("anywhere", 100, None),
            ],
        )];
        for (cluster, expected) in [("C", "here"), ("D", "there"), ("", "anywhere")] {
            assert_eq!(
                outcomes(&mappings, cluster, "a"),
                [(expected.to_owned(), 1000)]
            );
        }
        let elsewhere = [mapping("a", &[("there", 100, Some("D"))])];
        assert_eq!(outcomes(&elsewhere, "", "a"), [("a".to_owned(), 1000)]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let check = |source: &str, destinations: &[(&str, u8, Option<&str>)], expected: &str| {
            let problem = mapping(source, destinations)
                .problem()
                .map(|problem| problem.to_string());
            assert_eq!(problem.as_deref(), Some(expected));
        };
        check(
            "a",
            &[("b", 60, None), ("c", 50, None)],
            "total weight needs to be <= 100",
        );
        check(
            "a",
            &[("b", 101, None)],
            "individual weights need to be <= 100",
        );
        check(
            "a",
            &[("b", 1, None), ("b", 1, Some("C"))],
            "duplicate entry for \"b\"",
        );
        check(
            "a..b",
            &[("b", 1, None)],
            "Subject \"a..b\" is not a valid subject",
        );
        check("a", &[("", 1, None)], "a mapping needs a destination");
        assert_eq!(
            mapping("a", &[("b", 60, Some("C")), ("c", 60, None)]).problem(),
            None
        );
    }

    #[test]
    fn caches_do_not_mix_accounts() {
        let compile =
            |to: &str| Mappings::new(&[mapping("a.*", &[(to, 100, None)])], "").expect("one");
        let (one, other) = (compile("x.$1"), compile("y.$1"));
        let mut mapper = Mapper::new(1);
        let mut out = Vec::new();
        for number in (0..5000).chain(0..5000) {
            let subject = format!("a.{}", number % 1500);
            for (mappings, letter) in [(&one, 'x'), (&other, 'y')] {
                assert_eq!(
                    mapper.map(mappings, subject.as_bytes(), &mut out),
                    Mapped::Always
                );
                let expected = subject.replace('a', &letter.to_string());
                assert_eq!(out, expected.as_bytes());
            }
        }
    }
}
