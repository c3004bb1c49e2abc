//! What single operations of the index cost, measured by criterion. `cargo bench -p natterjack-subject --bench index`.

mod workload;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::{Criterion, criterion_group, criterion_main};
use fastrand::Rng;
use natterjack_subject::Index;
use workload::{Interest, Subscriber, index_of, mixed};

criterion_group!(benches, small, large, contended);
criterion_main!(benches);

/// Looks up one subject after the other, round and round.
fn look_up(criterion: &mut Criterion, name: &str, index: &Index<Subscriber>, subjects: &[&[u8]]) {
    criterion.bench_function(name, |bencher| {
        let mut next = subjects.iter().cycle();
        bencher.iter(|| {
            let subject = next.next().copied().unwrap_or_default();
            black_box(index.matches(black_box(subject)))
        });
    });
}

fn insert(index: &Index<Subscriber>, pattern: &str, number: u64) {
    index
        .insert(pattern.as_bytes(), None, Subscriber::new(number))
        .expect("the pattern is valid");
}

fn small(criterion: &mut Criterion) {
    let devices = device_subjects(&mut Rng::with_seed(1));
    let devices: Vec<&[u8]> = devices.iter().map(Vec::as_slice).collect();

    let index = Index::new();
    insert(&index, "bench", 0);
    look_up(criterion, "small/literal alone, hit", &index, &[b"bench"]);
    look_up(criterion, "small/literal alone, miss", &index, &[b"other"]);

    let index = Index::new();
    insert(&index, "dev.>", 0);
    look_up(
        criterion,
        "small/dev.> alone, 100k subjects",
        &index,
        &devices,
    );
    insert(&index, "_INBOX.Cz5sJGHVjZ7LhNYuTq7GgK.*", 1);
    insert(&index, "bench", 2);
    look_up(
        criterion,
        "small/dev.> with an inbox and a literal",
        &index,
        &devices,
    );
    insert(&index, ">", 3);
    look_up(criterion, "small/the same and >", &index, &devices);

    let index = Index::new();
    for number in 0..500 {
        insert(&index, "fan", number);
    }
    look_up(criterion, "small/fan-out of 500", &index, &[b"fan"]);
    let found = index.matches(b"fan");
    criterion.bench_function("small/walking a fan-out of 500", |bencher| {
        bencher.iter(|| {
            black_box(&found).plain().for_each(|subscriber| {
                black_box(subscriber);
            })
        });
    });

    for number in 0..3 {
        index
            .insert(b"work", Some(b"workers"), Subscriber::new(number))
            .expect("the pattern is valid");
    }
    look_up(criterion, "small/queue group", &index, &[b"work"]);
}

fn large(criterion: &mut Criterion) {
    let mut rng = Rng::with_seed(2);
    let mut interests = mixed(1_000_000, &mut rng);
    let index = index_of(&interests);
    // Not in the order they were inserted, so that memory is met as a publisher meets it.
    rng.shuffle(&mut interests);
    let subjects = |wildcard: bool| -> Vec<&[u8]> {
        let chosen = interests
            .iter()
            .filter(|interest| (interest.pattern != interest.subject) == wildcard);
        chosen
            .map(|interest| interest.subject.as_slice())
            .take(100_000)
            .collect()
    };
    look_up(criterion, "1M mixed/literal hit", &index, &subjects(false));
    look_up(criterion, "1M mixed/wildcard hit", &index, &subjects(true));
    let missing: Vec<Vec<u8>> = (0..100_000)
        .map(|_| format!("nobody{}.at.home", rng.u32(..)).into_bytes())
        .collect();
    look_up(
        criterion,
        "1M mixed/miss",
        &index,
        &missing.iter().map(Vec::as_slice).collect::<Vec<_>>(),
    );
    let near: Vec<Vec<u8>> = subjects(false)
        .iter()
        .map(|subject| [subject, b"x".as_slice()].concat())
        .collect();
    look_up(
        criterion,
        "1M mixed/near miss",
        &index,
        &near.iter().map(Vec::as_slice).collect::<Vec<_>>(),
    );

    let literals: Vec<Interest> = interests
        .into_iter()
        .filter(|interest| interest.pattern == interest.subject)
        .collect();
    let subjects: Vec<&[u8]> = literals
        .iter()
        .map(|interest| interest.subject.as_slice())
        .take(100_000)
        .collect();
    let literal_index = index_of(&literals);
    look_up(criterion, "800k literal/hit", &literal_index, &subjects);
    look_up(
        criterion,
        "800k literal/hit, same 1000 subjects",
        &literal_index,
        &subjects[..1000],
    );

    let stamps: Vec<_> = subjects[..1000]
        .iter()
        .map(|subject| index.stamp(subject))
        .collect();
    criterion.bench_function("1M mixed/is_current, 1000 stamps", |bencher| {
        let mut next = stamps.iter().cycle();
        bencher.iter(|| next.next().map(|stamp| index.is_current(black_box(stamp))));
    });
    criterion.bench_function("1M mixed/stamp", |bencher| {
        let mut next = subjects.iter().cycle();
        bencher.iter(|| next.next().map(|subject| index.stamp(black_box(subject))));
    });
    criterion.bench_function("1M mixed/insert and remove a literal", |bencher| {
        let subscriber = Subscriber::new(0);
        bencher.iter(|| {
            let _ = index.insert(b"_INBOX.Cz5sJGHVjZ7LhNYuTq7GgK.1", None, subscriber.clone());
            index.remove(b"_INBOX.Cz5sJGHVjZ7LhNYuTq7GgK.1", None, &subscriber)
        });
    });
    criterion.bench_function("1M mixed/insert and remove a wildcard", |bencher| {
        let subscriber = Subscriber::new(0);
        bencher.iter(|| {
            let _ = index.insert(b"_INBOX.Cz5sJGHVjZ7LhNYuTq7GgK.*", None, subscriber.clone());
            index.remove(b"_INBOX.Cz5sJGHVjZ7LhNYuTq7GgK.*", None, &subscriber)
        });
    });
}

/// Look-ups while another thread subscribes and unsubscribes without a pause.
fn contended(criterion: &mut Criterion) {
    let mut rng = Rng::with_seed(3);
    let devices = device_subjects(&mut rng);
    let devices: Vec<&[u8]> = devices.iter().map(Vec::as_slice).collect();
    let index = Index::new();
    insert(&index, "dev.>", 0);
    insert(&index, "bench", 1);
    let arriving = mixed(100_000, &mut rng);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for interest in &arriving {
                    let _ = index.insert(&interest.pattern, None, interest.subscriber.clone());
                }
                for interest in &arriving {
                    index.remove(&interest.pattern, None, &interest.subscriber);
                }
            }
        });
        look_up(
            criterion,
            "another thread subscribes/dev.>, 100k subjects",
            &index,
            &devices,
        );
        look_up(
            criterion,
            "another thread subscribes/literal hit",
            &index,
            &[b"bench"],
        );
        done.store(true, Ordering::Relaxed);
    });
}

/// The `dev.NNNNN` subjects of a fleet that publishes under one wildcard.
fn device_subjects(rng: &mut Rng) -> Vec<Vec<u8>> {
    (0..100_000)
        .map(|_| format!("dev.{}", rng.u32(0..100_000)).into_bytes())
        .collect()
}
