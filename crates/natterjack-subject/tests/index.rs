//! The index as its callers see it: what a stamp promises, and what holds while many threads use one index.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;

use natterjack_subject::{Index, InvalidPattern, MatchSet, Stamp};

fn plain(found: &MatchSet<u32>) -> Vec<u32> {
    let mut plain: Vec<u32> = found.plain().copied().collect();
    plain.sort_unstable();
    plain
}

#[test]
fn a_subject_reaches_literals_wildcards_and_one_group_for_all_patterns() {
    let index = Index::new();
    for (subscriber, pattern) in (0..).zip([
        "a.b.c", "a.*.c", "a.>", ">", "*.b.*", "a.b", "a.b.c.d", "b.>",
    ]) {
        index
            .insert(pattern.as_bytes(), None, subscriber)
            .expect("a valid pattern");
    }
    for (subscriber, pattern, queue) in [
        (10, "a.b.c", "work"),
        (11, "a.>", "work"),
        (12, ">", "audit"),
    ] {
        index
            .insert(pattern.as_bytes(), Some(queue.as_bytes()), subscriber)
            .expect("a valid pattern");
    }
    let found = index.matches(b"a.b.c");
    assert_eq!(plain(&found), [0, 1, 2, 3, 4]);
    let [audit, work] = found.groups() else {
        panic!("{found:?} has two groups")
    };
    assert_eq!(
        (audit.name(), audit.len(), audit.member(0)),
        (b"audit".as_slice(), 1, &12)
    );
    assert_eq!((work.name(), work.len()), (b"work".as_slice(), 2));
    assert_eq!([work.member(0), work.member(1)], [&10, &11]);

    assert_eq!(
        plain(&index.matches(b"a.*.c")),
        [1, 2, 3],
        "a published wildcard is plain text"
    );
    assert!(index.matches(b"a..c").is_empty());
    assert_eq!(index.insert(b"a..b", None, 0), Err(InvalidPattern));
    assert_eq!(index.len(), 11);
}

#[test]
fn what_was_taken_out_is_counted() {
    let index = Index::new();
    assert_eq!(index.removals(), 0);
    for pattern in [&b"a"[..], b"a.*", b">"] {
        for _again in 0..2 {
            index.insert(pattern, None, 1).expect("a valid pattern");
        }
        assert!(index.remove(pattern, None, &1));
        assert!(!index.remove(pattern, None, &1));
    }
    assert_eq!((index.len(), index.removals()), (0, 3));
}

#[test]
fn the_same_receivers_are_the_same_set() {
    let index = Index::new();
    for subscriber in 0..50 {
        index
            .insert(b"dev.>", None, subscriber)
            .expect("a valid pattern");
        index
            .insert(b"dev.>", Some(b"queue"), subscriber)
            .expect("a valid pattern");
    }
    let (one, other) = (index.matches(b"dev.1"), index.matches(b"dev.2"));
    assert!(one.same_as(&other));
    index.insert(b"dev.2", None, 0).expect("a valid pattern");
    assert!(!one.same_as(&index.matches(b"dev.2")));
    assert!(one.same_as(&index.matches(b"dev.1")));
    index.remove(b"dev.>", None, &7);
    assert!(!one.same_as(&index.matches(b"dev.1")));
    assert_eq!(one.plain_len(), 50, "a match set does not change");
}

#[test]
fn a_change_leaves_unrelated_answers_current() {
    let index = Index::new();
    index.insert(b"events.>", None, 0).expect("a valid pattern");
    let subjects: Vec<Vec<u8>> = (0..2000)
        .map(|number| format!("service{number}.host{number}.state").into_bytes())
        .collect();
    let stamps: Vec<Stamp> = subjects
        .iter()
        .map(|subject| index.stamp(subject))
        .collect();
    let inbox = index.stamp(b"_INBOX.xyz");
    let reply = index.stamp(b"_INBOX.abc.1");

    index
        .insert(b"_INBOX.abc.*", None, 1)
        .expect("a valid pattern");
    index
        .insert(b"_INBOX.xyz", None, 2)
        .expect("a valid pattern");

    assert!(!index.is_current(&inbox), "what changed is stale");
    assert!(!index.is_current(&reply), "what changed is stale");
    // Two changes, each stale for 3 in 512 of them by chance: 23 of 2000. Five times that is out of reach of chance.
    let stale = stamps
        .iter()
        .filter(|stamp| !index.is_current(stamp))
        .count();
    assert!(stale < 115, "{stale} of 2000 unrelated answers went stale");
}

#[test]
fn a_leading_wildcard_concerns_everybody() {
    let index = Index::new();
    let stamps = [b"a".as_slice(), b"a.b", b"a.b.c"].map(|subject| index.stamp(subject));
    assert!(stamps.iter().all(|stamp| index.is_current(stamp)));
    index.insert(b"*.b.>", None, 0).expect("a valid pattern");
    assert!(stamps.iter().all(|stamp| !index.is_current(stamp)));
}

/// Sets a flag when dropped, so that threads that wait for it end even if this one panics.
struct Finally<'a>(&'a AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

const ARRIVING: u32 = 100_000;

/// What the arriving subscriber of this number asks for, and a subject only it receives.
fn arrival(number: u32) -> (Vec<u8>, Vec<u8>) {
    let subject = format!("node.n{number}.command.{}", number % 7);
    let pattern = match number % 10 {
        0 => format!("node.n{number}.>"),
        1 => format!("node.n{number}.*.{}", number % 7),
        _ => subject.clone(),
    };
    (pattern.into_bytes(), subject.into_bytes())
}

/// A publisher's cached answer for the subject of one arrival.
struct Cached {
    stamp: Stamp,
    found: MatchSet<u32>,
}

#[test]
fn publishers_see_every_change_while_100_000_subscriptions_come_and_go() {
    const STEADY: u32 = u32::MAX;
    let index = Index::new();
    index
        .insert(b"dev.>", None, STEADY)
        .expect("a valid pattern");
    index
        .insert(b"dev.7", Some(b"work"), STEADY)
        .expect("a valid pattern");
    // Arrivals below the first have been inserted, those below the second have been removed.
    let (inserted, removed) = (AtomicU32::new(0), AtomicU32::new(0));
    let done = AtomicBool::new(false);
    let looked_up = AtomicUsize::new(0);

    let publish = |seed: u32| {
        let mut cache: HashMap<u32, Cached> = HashMap::new();
        let mut chosen = seed;
        let mut rounds = 0;
        while !done.load(Ordering::Acquire) {
            rounds += 1;
            chosen = chosen.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);

            let steady = index.matches(b"dev.7");
            assert_eq!(plain(&steady), [STEADY]);
            assert_eq!(steady.groups().len(), 1);

            // Near the arrivals of this moment, where answers change, and one in four anywhere.
            let front = inserted
                .load(Ordering::Acquire)
                .max(removed.load(Ordering::Acquire) % ARRIVING);
            let number = if chosen >> 30 == 0 {
                (chosen >> 8) % ARRIVING
            } else {
                (front + (chosen >> 8) % 64).saturating_sub(32) % ARRIVING
            };
            let (_, subject) = arrival(number);
            let must_be_in = number < inserted.load(Ordering::Acquire);
            let must_be_out = number < removed.load(Ordering::Acquire);
            let cached = cache.entry(number).or_insert_with(|| {
                let (stamp, found) = index.look_up(&subject);
                Cached { stamp, found }
            });
            if !index.is_current(&cached.stamp) {
                (cached.stamp, cached.found) = index.look_up(&subject);
            }
            // What was done before the stamp was checked is in the answer.
            let answer = plain(&cached.found);
            if must_be_out {
                assert_eq!(answer, [], "{number} was removed");
            } else if must_be_in && number > removed.load(Ordering::Acquire) {
                assert_eq!(
                    answer,
                    [number],
                    "{number} was inserted and its removal has not begun"
                );
            }
            if cache.len() > 512 {
                cache.clear();
            }
        }
        looked_up.fetch_add(rounds, Ordering::Relaxed);
    };

    thread::scope(|scope| {
        scope.spawn(|| publish(1));
        scope.spawn(|| publish(2));
        let _finally = Finally(&done);
        for number in 0..ARRIVING {
            index
                .insert(&arrival(number).0, None, number)
                .expect("a valid pattern");
            inserted.store(number + 1, Ordering::Release);
        }
        assert_eq!(index.len(), ARRIVING as usize + 2);
        for number in 0..ARRIVING {
            assert!(index.remove(&arrival(number).0, None, &number));
            removed.store(number + 1, Ordering::Release);
        }
    });
    assert_eq!(index.len(), 2);
    assert!(looked_up.load(Ordering::Relaxed) > 0);
}

/// The narrow race: a reader that stamps and looks up in the middle of a change must not keep what it saw. The reader
/// polls without a pause, so that it refreshes its answer as soon as anything is counted.
#[test]
fn an_answer_taken_in_the_middle_of_a_change_goes_stale() {
    const ROUNDS: usize = 1_000;
    const PATTERNS: [&[u8]; 4] = [b"a.b.c", b"a.*.c", b"a.b.>", b"*.b.c"];
    let index = Index::new();
    // How many changes are complete, and up to which the reader has checked its answer.
    let (changes, checked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let done = AtomicBool::new(false);
    let wait_for_reader = |change: usize| {
        while checked.load(Ordering::Acquire) < change && !done.load(Ordering::Acquire) {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let _finally = Finally(&done);
            let (mut stamp, mut found) = index.look_up(b"a.b.c");
            while !done.load(Ordering::Acquire) {
                let change = changes.load(Ordering::Acquire);
                if !index.is_current(&stamp) {
                    (stamp, found) = index.look_up(b"a.b.c");
                }
                // The next change waits for this, so there is one right answer.
                if checked.load(Ordering::Relaxed) < change {
                    let expected = if change % 2 == 1 {
                        vec![change as u32]
                    } else {
                        Vec::new()
                    };
                    assert_eq!(plain(&found), expected, "after change {change}");
                    checked.store(change, Ordering::Release);
                }
            }
        });
        let _finally = Finally(&done);
        for change in (1..2 * ROUNDS).step_by(2) {
            let pattern = PATTERNS[change / 2 % PATTERNS.len()];
            index
                .insert(pattern, None, change as u32)
                .expect("a valid pattern");
            changes.store(change, Ordering::Release);
            wait_for_reader(change);
            index.remove(pattern, None, &(change as u32));
            changes.store(change + 1, Ordering::Release);
            wait_for_reader(change + 1);
        }
    });
}

#[test]
fn racing_changes_of_the_same_subscriptions_leave_nothing_behind() {
    const PATTERNS: [&[u8]; 6] = [b"a", b"a.b.c", b"a.*", b"a.b.*", b"*.b", b">"];
    let index = Index::new();
    let change = |seed: u32| {
        let mut chosen = seed;
        for _ in 0..20_000 {
            chosen = chosen.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let pattern = PATTERNS[(chosen >> 8) as usize % PATTERNS.len()];
            let queue = (chosen >> 16 & 3 == 0).then_some(b"queue".as_slice());
            let subscriber = chosen >> 20 & 31;
            if chosen >> 31 == 0 {
                index
                    .insert(pattern, queue, subscriber)
                    .expect("a valid pattern");
            } else {
                index.remove(pattern, queue, &subscriber);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| change(1));
        scope.spawn(|| change(2));
        change(3);
    });
    let mut entries = Vec::new();
    index.for_each(|entry| {
        entries.push((
            entry.pattern.to_vec(),
            entry.queue.map(<[u8]>::to_vec),
            *entry.subscriber,
        ));
    });
    assert_eq!(entries.len(), index.len());
    for (pattern, queue, subscriber) in &entries {
        assert!(index.remove(pattern, queue.as_deref(), subscriber));
    }
    assert!(index.is_empty());
    assert!(index.matches(b"a.b").is_empty() && index.matches(b"a.b.c").is_empty());
}

#[test]
fn a_walk_meets_what_stays_while_others_come_and_go() {
    let index = Index::new();
    for number in 0..5000 {
        index
            .insert(&arrival(number).0, None, number)
            .expect("a valid pattern");
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                for number in 5000..15_000 {
                    index
                        .insert(&arrival(number).0, None, number)
                        .expect("a valid pattern");
                }
                for number in 5000..15_000 {
                    index.remove(&arrival(number).0, None, &number);
                }
            }
        });
        let _finally = Finally(&done);
        for _ in 0..20 {
            let mut met = vec![0; 5000];
            index.for_each(|entry| {
                if let Some(times) = met.get_mut(*entry.subscriber as usize) {
                    *times += 1;
                }
            });
            assert!(met.iter().all(|&times| times == 1));
        }
    });
}
