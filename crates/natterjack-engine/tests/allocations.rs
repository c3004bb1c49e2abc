//! No allocation per message on the publish path, in steady state.

#![expect(
    unsafe_code,
    reason = "a counting allocator has to implement an unsafe trait"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use natterjack_engine::access::{Export, Import, StreamExport, StreamImport};
use natterjack_engine::{
    Access, AccountAccess, ClientSession, Credential, Destination, Engine, Limits, Mapping, Peer,
    Permissions, ServerInfo, Settings, SubjectRules, Transport, User, Worker,
};

struct Counting;

thread_local! {
    /// Of this thread: the test harness has others, which allocate when they like.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may have nothing to count with any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A socket that takes everything.
struct Sink;

impl Transport for Sink {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn wake(&self) {}
}

struct Bench {
    engine: Arc<Engine>,
    worker: Worker,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(Access::open())
    }

    fn with(access: Access) -> Self {
        let engine = Engine::new(Settings {
            info: ServerInfo::default(),
            limits: Limits::default(),
            access,
            seed: 1,
            cluster: None,
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let now = Instant::now();
        Self {
            worker: engine.worker(),
            engine,
            now,
        }
    }

    fn client(&mut self, subscriptions: &str) -> ClientSession {
        let mut session = self
            .engine
            .open_client(Peer::default(), Arc::new(Sink), self.now);
        let connect = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";
        self.feed(&mut session, connect.as_bytes());
        self.feed(&mut session, subscriptions.as_bytes());
        session
    }

    fn feed(&mut self, session: &mut ClientSession, bytes: &[u8]) {
        let [_, buffer] = &mut session.read_slices(&mut self.worker);
        buffer[..bytes.len()].copy_from_slice(bytes);
        session.handle_read(bytes.len(), &mut self.worker, self.now);
    }

    /// Allocations that 50 further reads of `batch` cost once everything is warm.
    fn steady_allocations(&mut self, batch: &[u8]) -> u64 {
        let mut publisher = self.client("");
        for _ in 0..20 {
            self.feed(&mut publisher, batch);
        }
        let before = ALLOCATIONS.get();
        for _ in 0..50 {
            self.feed(&mut publisher, batch);
        }
        ALLOCATIONS.get() - before
    }
}

/// Everybody is a user who may publish and receive nearly everything.
fn restricted() -> Access {
    let rules = |deny: &str| SubjectRules {
        allow: Some(vec!["dev.>".to_owned()]),
        deny: vec![deny.to_owned()],
    };
    Access {
        users: vec![User {
            name: "everybody".to_owned(),
            permissions: Some(Permissions {
                publish: rules("dev.no"),
                subscribe: rules("dev.*.no"),
                responses: None,
            }),
            ..User::default()
        }],
        no_auth_user: Some("everybody".to_owned()),
        ..Access::default()
    }
}

/// Everybody is in an account that maps what it publishes and hears another one, which has no users.
fn exchanging() -> Access {
    let account = |name: &str| AccountAccess {
        name: name.to_owned(),
        ..AccountAccess::default()
    };
    let access = Access {
        accounts: vec![
            AccountAccess {
                users: vec![User {
                    name: "everybody".to_owned(),
                    ..User::default()
                }],
                exports: vec![Export::Stream(StreamExport {
                    subject: "out.>".to_owned(),
                    ..StreamExport::default()
                })],
                mappings: vec![Mapping {
                    source: "in.*".to_owned(),
                    destinations: vec![Destination {
                        subject: "out.{{partition(10,1)}}.{{splitFromLeft(1,1)}}".to_owned(),
                        ..Destination::default()
                    }],
                }],
                ..account("A")
            },
            AccountAccess {
                users: vec![User {
                    name: "hearer".to_owned(),
                    credential: Credential::Password("p".into()),
                    ..User::default()
                }],
                imports: vec![Import::Stream(StreamImport {
                    account: "A".to_owned(),
                    subject: "out.>".to_owned(),
                    prefix: Some("from".to_owned()),
                    ..StreamImport::default()
                })],
                ..account("B")
            },
        ],
        no_auth_user: Some("everybody".to_owned()),
        ..Access::default()
    };
    assert_eq!(access.problems(), []);
    access
}

fn batch(subject: impl Fn(usize) -> String, size: usize) -> Vec<u8> {
    let payload = "x".repeat(size);
    let count = (60_000 / (size + 30)).clamp(1, 400);
    (0..count)
        .map(|number| format!("PUB {} {size}\r\n{payload}\r\n", subject(number)))
        .collect::<String>()
        .into_bytes()
}

/// One test, since a second thread's allocations would be counted too.
#[test]
fn publishing_allocates_nothing() {
    for size in [16, 128, 1024, 16 * 1024] {
        let mut bench = Bench::new();
        let _subscribers: Vec<_> = (0..10).map(|_| bench.client("SUB foo 1\r\n")).collect();
        let count = bench.steady_allocations(&batch(|_| "foo".to_owned(), size));
        assert_eq!(count, 0, "fan-out of {size} bytes");
    }
    let mut bench = Bench::new();
    assert_eq!(
        bench.steady_allocations(&batch(|_| "nobody".to_owned(), 16)),
        0,
        "no subscriber"
    );

    let _wildcard = bench.client("SUB dev.> 1\r\n");
    let random = batch(|number| format!("dev.{}", number * 7919 % 100_003), 16);
    assert_eq!(
        bench.steady_allocations(&random),
        0,
        "changing subjects under one wildcard"
    );

    // Permissions are asked at both ends: by the publisher for each subject, by the deliverer for each message.
    let mut bench = Bench::with(restricted());
    let _restricted = bench.client("SUB dev.> 1\r\n");
    let count = bench.steady_allocations(&random);
    assert_eq!(count, 0, "changing subjects under permissions");

    // Subjects become others at both ends: by the account's mapping, and for whoever hears it from another account.
    let mut bench = Bench::with(exchanging());
    let _hearer = bench
        .client("CONNECT {\"user\":\"hearer\",\"pass\":\"p\",\"verbose\":false}\r\nSUB > 1\r\n");
    let exporter = bench.engine.account("A").expect("configured");
    assert_eq!(exporter.subscriptions(), 1, "the hearer is heard of");
    let mapped = batch(|number| format!("in.{}", number * 7919 % 100_003), 16);
    let count = bench.steady_allocations(&mapped);
    assert_eq!(count, 0, "changing subjects mapped and imported");
    let same = batch(|_| "in.same".to_owned(), 16);
    let count = bench.steady_allocations(&same);
    assert_eq!(count, 0, "one subject mapped and imported");
    let mut bench = Bench::new();

    // A queue group's members, and subjects that alternate between two connections, are queued before they
    // are flushed: each target's buffers cost two allocations or three for a batch of 400 messages.
    let _group: Vec<_> = (0..4).map(|_| bench.client("SUB work q 1\r\n")).collect();
    let count = bench.steady_allocations(&batch(|_| "work".to_owned(), 16));
    assert!(
        count <= 50 * 4 * 2,
        "queue group: {count} allocations in 50 batches"
    );
    let _odd = bench.client("SUB even 1\r\n");
    let _even = bench.client("SUB odd 1\r\n");
    let alternating = batch(
        |number| if number % 2 == 0 { "even" } else { "odd" }.to_owned(),
        16,
    );
    let count = bench.steady_allocations(&alternating);
    assert!(
        count <= 50 * 20,
        "alternating subjects: {count} allocations in 50 batches of 400"
    );
}
