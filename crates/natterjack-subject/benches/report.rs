//! What the index costs as a whole: bytes per subscription, rates of arrival and departure, and how long a look-up may
//! have to wait while subscriptions arrive. `cargo bench -p natterjack-subject --bench report`.
#![expect(
    clippy::print_stdout,
    reason = "a report is printed, and has no callers"
)]

mod workload;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use natterjack_subject::Index;
use workload::{Interest, Subscriber, index_of, mixed};

fn main() {
    empty();
    let mut rng = Rng::with_seed(2);
    let interests = mixed(1_000_000, &mut rng);
    let (wildcards, literals): (Vec<_>, Vec<_>) = interests
        .iter()
        .partition::<Vec<&Interest>, _>(|interest| interest.pattern != interest.subject);
    footprint("mixed", &interests.iter().collect::<Vec<_>>());
    footprint("literal", &literals);
    footprint("wildcard", &wildcards);
    let inboxes = inboxes(&mut rng);
    footprint("inbox", &inboxes.iter().collect::<Vec<_>>());
    broadcast(false);
    broadcast(true);
    waiting(&interests);
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
