//! An engine without a server: clients are sessions with a transport in memory.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use natterjack_engine::{
    Access, ClientSession, CloseReason, Engine, Limits, Peer, ServerInfo, Settings, Transport,
    Worker,
};

/// The peer's side of a connection.
pub(crate) struct Memory {
    written: Mutex<Vec<u8>>,
    /// Bytes it takes before it refuses more.
    room: AtomicUsize,
    writes: AtomicUsize,
    wakes: AtomicUsize,
    watcher: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Memory {
    /// Calls this whenever something is written, before it can be read.
    pub(crate) fn watch(&self, watcher: impl Fn() + Send + Sync + 'static) {
        let is_first = self.watcher.set(Box::new(watcher)).is_ok();
        assert!(is_first, "one watches already");
    }
}

impl Transport for Memory {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(watcher) = self.watcher.get() {
            watcher();
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut count = 0;
        for slice in slices {
            let room = self.room.load(Ordering::Relaxed);
            let taken = room.min(slice.len());
            self.room.store(room - taken, Ordering::Relaxed);
            self.written
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(&slice[..taken]);
            count += taken;
            if taken < slice.len() {
                break;
            }
        }
        if count == 0 {
            Err(ErrorKind::WouldBlock.into())
        } else {
            Ok(count)
        }
    }

    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) struct Harness {
    pub(crate) engine: Arc<Engine>,
    worker: Worker,
    pub(crate) now: Instant,
}

pub(crate) struct Client {
    pub(crate) session: ClientSession,
    pub(crate) peer: Arc<Memory>,
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), Access::open())
    }

    pub(crate) fn with(limits: Limits, access: Access) -> Self {
        let info = ServerInfo {
            server_id: "TEST".to_owned(),
            headers: true,
            ..ServerInfo::default()
        };
        let engine = Engine::new(Settings {
            info,
            limits,
            access,
            seed: 7,
            cluster: None,
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let now = Instant::now();
        Self::of(engine, now)
    }

    /// One more thread of the same server.
    pub(crate) fn of(engine: Arc<Engine>, now: Instant) -> Self {
        Self {
            worker: engine.worker(),
            engine,
            now,
        }
    }

    /// A connection that was sent INFO and nothing else.
    pub(crate) fn open(&self) -> Client {
        self.open_as(Peer::default())
    }

    /// The same for a peer of which more is known.
    pub(crate) fn open_as(&self, peer: Peer) -> Client {
        let memory = Arc::new(Memory {
            written: Mutex::default(),
            room: AtomicUsize::new(usize::MAX),
            writes: AtomicUsize::new(0),
            wakes: AtomicUsize::new(0),
            watcher: OnceLock::new(),
        });
        let transport = Arc::clone(&memory) as Arc<dyn Transport>;
        let session = self.engine.open_client(peer, transport, self.now);
        Client {
            session,
            peer: memory,
        }
    }

    /// A connection that said CONNECT with these options besides `verbose:false, pedantic:false`.
    pub(crate) fn connect(&mut self, options: &str) -> Client {
        let mut client = self.open();
        client.take();
        let comma = if options.is_empty() { "" } else { "," };
        let connect =
            format!("CONNECT {{\"verbose\":false,\"pedantic\":false{comma}{options}}}\r\n");
        self.send(&mut client, connect.as_bytes());
        client
    }

    /// Lets the client's bytes arrive, as many at a time as the reads' buffers take.
    pub(crate) fn send(&mut self, client: &mut Client, mut bytes: &[u8]) {
        while !bytes.is_empty() && client.closed().is_none() {
            let count = self.send_unchecked(client, bytes);
            bytes = &bytes[count..];
            while client.session.retire_step() {}
            while let Some(check) = client.session.pending_check() {
                self.finish_check(client, check.run());
            }
        }
    }

    /// Tells the client's session how a check of a password came out.
    pub(crate) fn finish_check(&mut self, client: &mut Client, is_right: bool) {
        client
            .session
            .finish_check(is_right, &mut self.worker, self.now);
        while client.session.retire_step() {}
    }

    /// How many bytes would be read from the client at once.
    pub(crate) fn read_bytes(&mut self, client: &mut Client) -> usize {
        let slices = client.session.read_slices(&mut self.worker);
        slices.iter().map(|slice| slice.len()).sum()
    }

    /// Lets as many of the client's bytes arrive as one read takes, and leaves a check of a password pending. Returns how
    /// many those were.
    pub(crate) fn send_unchecked(&mut self, client: &mut Client, mut bytes: &[u8]) -> usize {
        let mut count = 0;
        for slice in &mut client.session.read_slices(&mut self.worker) {
            let taken = slice.len().min(bytes.len());
            slice[..taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            count += taken;
        }
        client
            .session
            .handle_read(count, &mut self.worker, self.now);
        count
    }

    /// Moves the clock, and has the client's session do what falls due.
    pub(crate) fn pass(&mut self, client: &mut Client, time: Duration) {
        let end = self.now + time;
        while client.closed().is_none() && client.session.next_timeout() <= end {
            self.now = client.session.next_timeout().max(self.now);
            client.session.handle_timeout(self.now);
        }
        self.now = end;
    }

    pub(crate) fn is_stalled(&self, client: &mut Client) -> bool {
        client
            .session
            .is_stalled(Context::from_waker(Waker::noop()).waker(), self.now)
    }
}

impl Client {
    /// What the peer got since the last call.
    pub(crate) fn take(&self) -> String {
        let mut written = self
            .peer
            .written
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&std::mem::take(&mut *written)).into_owned()
    }

    pub(crate) fn writes(&self) -> usize {
        self.peer.writes.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn wakes(&self) -> usize {
        self.peer.wakes.swap(0, Ordering::Relaxed)
    }

    /// Bounds what the peer takes from now on.
    pub(crate) fn set_room(&self, room: usize) {
        self.peer.room.store(room, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.session.outbox().status().closed
    }

    pub(crate) fn close(mut self) {
        while !self.session.close_step(CloseReason::ClientClosed) {}
    }
}
