//! What the index costs as a whole: bytes per subscription, rates of arrival and departure, and how long a look-up may
//! have to wait while subscriptions arrive. `cargo bench -p natterjack-subject --bench report`.
#![expect(
    clippy::print_stdout,
    reason = "a report is printed, and has no callers"
)]

mod workload;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use natterjack_subject::Index;
use workload::{Interest, Subscriber, index_of, mixed};

fn main() {
    operations();
    empty();
    let mut rng = Rng::with_seed(2);
    let interests = mixed(1_000_000, &mut rng);
    let (wildcards, literals): (Vec<_>, Vec<_>) = interests
        .iter()
        .partition::<Vec<&Interest>, _>(|interest| interest.pattern != interest.subject);
    million(&interests, &mut rng);
    footprint("mixed", &interests.iter().collect::<Vec<_>>());
    footprint("literal", &literals);
    footprint("wildcard", &wildcards);
    let inboxes = inboxes(&mut rng);
    footprint("inbox", &inboxes.iter().collect::<Vec<_>>());
    broadcast(false);
    broadcast(true);
    waiting(&interests);
    let longest = (0..10).map(|_| longest_insertion(&interests)).min();
    println!(
        "longest of 1 M insertions, least of 10 runs: {:?}",
        longest.unwrap_or_default()
    );
}

/// The parts of a look-up beside whole ones. The least of many batches, because the machine has other work to do.
fn operations() {
    let count = AtomicUsize::new(0);
    least("one atomic addition", || {
        count.fetch_add(1, Ordering::AcqRel)
    });
    let lock = parking_lot::RwLock::new(0);
    least("a read lock and its release", || *lock.read());
    let shared = Subscriber::new(0);
    least("an Arc cloned and dropped", || {
        drop(black_box(shared.clone()))
    });

    let index = Index::new();
    let insert = |pattern: &[u8], number| {
        index
            .insert(pattern, None, Subscriber::new(number))
            .expect("the pattern is valid");
    };
    let mut rng = Rng::with_seed(1);
    let devices: Vec<Vec<u8>> = (0..100_000)
        .map(|_| format!("dev.{}", rng.u32(0..100_000)).into_bytes())
        .collect();
    let mut device = devices.iter().cycle();
    let mut next = || device.next().map_or(b"".as_slice(), Vec::as_slice);
    insert(b"bench", 0);
    least("a literal hit, one subscription", || {
        index.matches(black_box(b"bench"))
    });
    least("a miss, one literal subscription", || index.matches(next()));
    insert(b"dev.>", 1);
    insert(b"_INBOX.Cz5sJGHVjZ7LhNYuTq7GgK.*", 2);
    least("dev.> hit by 100,000 subjects", || index.matches(next()));
    let stamp = index.stamp(b"dev.1");
    least("a stamp", || index.stamp(next()));
    least("is_current", || index.is_current(black_box(&stamp)));
    insert(b">", 3);
    least("dev.> and > hit", || index.matches(next()));
    for number in 4..504 {
        insert(b"fan.out", number);
    }
    least("a fan-out of 500", || index.matches(black_box(b"fan.out")));

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for device in &devices {
        black_box(index.matches(device));
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    println!(
        "allocations in {} look-ups of dev.> and >: {allocations}",
        devices.len()
    );
}

/// Look-ups of 100,000 subjects, in no order, in an index of a million subscriptions.
fn million(interests: &[Interest], rng: &mut Rng) {
    let index = index_of(interests);
    let subjects = |rng: &mut Rng, wildcard: bool| -> Vec<&[u8]> {
        let chosen = interests
            .iter()
            .filter(|interest| (interest.pattern != interest.subject) == wildcard);
        let mut subjects: Vec<&[u8]> = chosen.map(|interest| interest.subject.as_slice()).collect();
        rng.shuffle(&mut subjects);
        subjects.truncate(100_000);
        subjects
    };
    let missing: Vec<Vec<u8>> = (0..100_000)
        .map(|_| format!("nobody{}.at.home", rng.u32(..)).into_bytes())
        .collect();
    for (name, subjects) in [
        ("a literal hit of 1 M mixed", subjects(rng, false)),
        ("a wildcard hit of 1 M mixed", subjects(rng, true)),
        (
            "a miss in 1 M mixed",
            missing.iter().map(Vec::as_slice).collect(),
        ),
    ] {
        let mut subjects = subjects.into_iter().cycle();
        least(name, || index.matches(subjects.next().unwrap_or_default()));
    }
}

fn least<T>(name: &str, mut operation: impl FnMut() -> T) {
    const BATCH: u32 = 2000;
    let batches = (0..1000).map(|_| {
        let at = now();
        for _ in 0..BATCH {
            black_box(operation());
        }
        at.elapsed()
    });
    let least = batches.min().unwrap_or_default();
    println!(
        "{name}: {:.1} ns",
        least.as_nanos() as f64 / f64::from(BATCH)
    );
}

/// What whoever waits for a lock may have to wait for, if it is not put off by the machine's other work.
fn longest_insertion(interests: &[Interest]) -> Duration {
    let index = Index::new();
    let insertions = interests.iter().map(|interest| {
        let subscriber = interest.subscriber.clone();
        let at = now();
        index
            .insert(&interest.pattern, None, subscriber)
            .expect("the pattern is valid");
        at.elapsed()
    });
    insertions.max().unwrap_or_default()
}

fn empty() {
    let before = BYTES_USED.load(Ordering::Relaxed);
    let index = Index::new();
    let untouched = BYTES_USED.load(Ordering::Relaxed) - before;
    let _ = index.insert(b"foo", None, 0_u64);
    let _ = index.insert(b"foo.*", None, 0_u64);
    let used = BYTES_USED.load(Ordering::Relaxed) - before;
    println!(
        "an index without subscriptions: {} + {untouched} bytes, with two: {used} bytes",
        size_of_val(&index)
    );
}

fn inboxes(rng: &mut Rng) -> Vec<Interest> {
    (0..500_000)
        .map(|number| {
            let id: String = (0..22).map(|_| rng.alphanumeric()).collect();
            let pattern = format!("_INBOX.{id}.*").into_bytes();
            Interest {
                subject: pattern.clone(),
                pattern,
                subscriber: Subscriber::new(number),
            }
        })
        .collect()
}

fn footprint(name: &str, interests: &[&Interest]) {
    let count = interests.len();
    let before = BYTES_USED.load(Ordering::Relaxed);
    let started = now();
    let index = Index::new();
    let mut longest = Duration::ZERO;
    for interest in interests {
        let at = now();
        let subscriber = interest.subscriber.clone();
        index
            .insert(&interest.pattern, None, subscriber)
            .expect("the pattern is valid");
        longest = longest.max(at.elapsed());
    }
    let inserted = started.elapsed();
    let bytes = BYTES_USED.load(Ordering::Relaxed) - before;
    let started = now();
    for interest in interests {
        assert!(index.remove(&interest.pattern, None, &interest.subscriber));
    }
    let removed = started.elapsed();
    let bytes_left = BYTES_USED.load(Ordering::Relaxed) - before;
    println!(
        "{count} {name} subscriptions: {:.1} bytes each ({bytes_left} bytes in all after removal), insert {:.0} ns, \
         longest {longest:?}, remove {:.0} ns",
        bytes as f64 / count as f64,
        inserted.as_nanos() as f64 / count as f64,
        removed.as_nanos() as f64 / count as f64,
    );
}

/// 100,000 nodes on one subject come and go, while somebody publishes to it after every change or nobody does.
fn broadcast(published: bool) {
    let nodes: Vec<Subscriber> = (0..100_000).map(Subscriber::new).collect();
    let index = Index::new();
    let mut kept = None;
    let started = now();
    for node in &nodes {
        index
            .insert(b"broadcast", None, node.clone())
            .expect("the pattern is valid");
        if published {
            kept = Some(index.matches(b"broadcast"));
        }
    }
    let inserted = started.elapsed();
    let started = now();
    for node in &nodes {
        index.remove(b"broadcast", None, node);
        if published {
            kept = Some(index.matches(b"broadcast"));
        }
    }
    drop(kept);
    let with = if published {
        ", a look-up kept after each"
    } else {
        ""
    };
    let each = |took: Duration| took.as_nanos() as f64 / nodes.len() as f64;
    println!(
        "100,000 subscribers of one subject{with}: insert {:.0} ns, remove {:.0} ns",
        each(inserted),
        each(started.elapsed())
    );
}

/// How long look-ups take while 1 M subscriptions arrive and leave.
fn waiting(interests: &[Interest]) {
    let index = index_of(&interests[..1000]);
    let arriving = &interests[1000..];
    let done = AtomicBool::new(false);
    let mut took: Vec<u32> = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut took = Vec::with_capacity(1 << 26);
            let mut subjects = interests.iter().map(|interest| &interest.subject).cycle();
            while !done.load(Ordering::Relaxed) && took.len() < took.capacity() {
                let subject = subjects.next().map_or(&[][..], Vec::as_slice);
                let at = now();
                let found = index.matches(subject);
                took.push(u32::try_from(at.elapsed().as_nanos()).unwrap_or(u32::MAX));
                drop(found);
            }
            took
        });
        for interest in arriving {
            index
                .insert(&interest.pattern, None, interest.subscriber.clone())
                .expect("the pattern is valid");
        }
        for interest in arriving {
            index.remove(&interest.pattern, None, &interest.subscriber);
        }
        done.store(true, Ordering::Relaxed);
        publisher.join().expect("the publisher does not panic")
    });
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "{} look-ups while subscriptions arrive and leave, with the clock's own time: median {} ns, 99% {} ns, \
         99.9% {} ns, 99.99% {} ns, longest {} ns",
        took.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(0.9999),
        at(1.0)
    );
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

/// The bytes the program asked for and has not given back.
static BYTES_USED: AtomicUsize = AtomicUsize::new(0);

/// How often the program asked for memory.
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(
    unsafe_code,
    reason = "an allocator cannot be written without; it only counts"
)]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES_USED.fetch_add(layout.size(), Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES_USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        BYTES_USED.fetch_add(new_size, Ordering::Relaxed);
        BYTES_USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}
