//! One connection's task, as the server's shell runs it: the same looks in the same order, without a runtime.

use std::io::IoSliceMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use natterjack_engine::{CloseReason, Session, Step, Worker};

/// Batches read before others get their turn.
const BATCHES_PER_TURN: usize = 4;

/// How long a connection that ends may take to write its last bytes.
const LAST_FLUSH_MAX: Duration = Duration::from_secs(2);

pub(crate) struct Task {
    session: Box<dyn Session>,
    phase: Phase,
    is_stalled: bool,
}

/// Whether a task has a reason to run.
#[derive(Default)]
pub(crate) struct TaskFlag(AtomicBool);

impl TaskFlag {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Wake for TaskFlag {
    fn wake(self: Arc<Self>) {
        self.set();
    }
}

/// What a connection's task finds around it.
pub(crate) trait Shell {
    fn now(&self) -> Instant;

    /// What wakes the task.
    fn flag(&self) -> &Arc<TaskFlag>;

    /// When the task wants to run in any case.
    fn set_timer(&self, timer: Instant);

    /// Lends a worker that nobody uses, with its number.
    fn with_worker(&self, use_it: &mut dyn FnMut(usize, &mut Worker));

    /// Bytes to read at most, this time.
    fn read_max(&self) -> usize;

    // The socket. What is not ready wakes the task when it is.

    fn poll_readable(&self) -> bool;

    fn poll_writable(&self) -> bool;

    /// Reads up to `max` bytes; 0 once the peer is gone.
    fn read(&self, slices: &mut [IoSliceMut<'_>], max: usize) -> usize;

    /// Compresses what is sent after `waiting_bytes` more, and decompresses what comes, `unread` first.
    fn compress(&self, waiting_bytes: usize, unread: &[u8]);

    // What happened.

    fn has_stalled(&self);

    fn has_read(&self, bytes: usize, worker: usize);

    fn is_ending(&self, reason: CloseReason);
}

enum Phase {
    Open,
    Closing(CloseReason),
    /// Until when.
    Flushing(Instant),
}

/// What a turn came to.
#[derive(PartialEq, Eq)]
pub(crate) enum Turn {
    GoesOn,
    Ended,
}

impl Task {
    pub(crate) fn new(session: impl Session + 'static) -> Self {
        Self {
            session: Box::new(session),
            phase: Phase::Open,
            is_stalled: false,
        }
    }

    pub(crate) fn session(&self) -> &dyn Session {
        &*self.session
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    pub(crate) fn is_ending(&self) -> bool {
        !matches!(self.phase, Phase::Open)
    }

    pub(crate) fn turn(&mut self, shell: &dyn Shell) -> Turn {
        match self.phase {
            Phase::Open => self.turn_open(shell),
            Phase::Closing(reason) => {
                shell.flag().set();
                if self.session.close_step(reason) {
                    let end = shell.now() + LAST_FLUSH_MAX;
                    self.session.outbox().flush_unblocked(shell.now());
                    self.phase = Phase::Flushing(end);
                    shell.set_timer(end);
                }
                Turn::GoesOn
            }
            Phase::Flushing(end) => self.turn_flushing(shell, end),
        }
    }

    fn turn_open(&mut self, shell: &dyn Shell) -> Turn {
        let waker = Waker::from(Arc::clone(shell.flag()));
        for _ in 0..BATCHES_PER_TURN {
            self.session.adapt(shell.now());
            let status = self.session.outbox().status();
            if let Some(reason) = status.closed {
                return self.end(shell, reason);
            }
            if status.is_blocked && shell.poll_writable() {
                self.session.outbox().flush_unblocked(shell.now());
                continue;
            }
            let now = shell.now();
            let step = self.session.step(now);
            if step == Step::First {
                break;
            }
            self.keep_time(shell, now);
            self.switch_compression(shell);
            let was_stalled = self.is_stalled;
            self.is_stalled = self.session.is_stalled(&waker, now);
            if self.is_stalled {
                if !was_stalled {
                    shell.has_stalled();
                }
                if step == Step::More {
                    shell.flag().set();
                }
                return Turn::GoesOn;
            }
            if self.session.is_checking() {
                self.check(shell);
                continue;
            }
            if shell.poll_readable() {
                if !self.read(shell) {
                    return self.end(shell, CloseReason::ClientClosed);
                }
            } else if step != Step::More {
                return Turn::GoesOn;
            }
        }
        shell.flag().set();
        Turn::GoesOn
    }

    fn keep_time(&mut self, shell: &dyn Shell, now: Instant) {
        let mut next = self.session.next_timeout();
        if next <= now {
            self.session.handle_timeout(now);
            next = self.session.next_timeout().max(now);
        }
        shell.set_timer(next);
        if next <= now {
            shell.flag().set();
        }
    }

    fn switch_compression(&mut self, shell: &dyn Shell) {
        if self.session.take_compression().is_some() {
            let waiting_bytes = self.session.outbox().status().pending_bytes;
            let unread = self.session.take_unread();
            shell.compress(waiting_bytes, &unread);
        }
    }

    fn check(&mut self, shell: &dyn Shell) {
        if let Some(check) = self.session.pending_check() {
            let is_right = check.run();
            shell.with_worker(&mut |_, worker| {
                self.session.finish_check(is_right, worker, shell.now());
            });
        }
    }

    fn end(&mut self, shell: &dyn Shell, reason: CloseReason) -> Turn {
        shell.is_ending(reason);
        self.is_stalled = false;
        self.phase = Phase::Closing(reason);
        shell.flag().set();
        Turn::GoesOn
    }

    /// Reads and handles one batch of a random size; `false` once the peer has closed.
    fn read(&mut self, shell: &dyn Shell) -> bool {
        let mut count = 0;
        shell.with_worker(&mut |index, worker| {
            let max = shell.read_max();
            count = shell.read(&mut self.session.read_slices(worker), max);
            shell.has_read(count, index);
            if count > 0 {
                self.session.handle_read(count, worker, shell.now());
            }
        });
        count > 0
    }

    fn turn_flushing(&self, shell: &dyn Shell, end: Instant) -> Turn {
        let outbox = self.session.outbox();
        while outbox.status().pending_bytes > 0 && shell.now() < end {
            if !shell.poll_writable() {
                return Turn::GoesOn;
            }
            let before = outbox.status();
            outbox.flush_unblocked(shell.now());
            let after = outbox.status();
            if after.pending_bytes > 0
                && after.blocked_since.is_none()
                && before.pending_bytes == after.pending_bytes
            {
                // Somebody else is writing these bytes.
                shell.flag().set();
                return Turn::GoesOn;
            }
        }
        Turn::Ended
    }
}

/// A random size of a read: sometimes a few bytes, mostly all there is.
pub(crate) fn read_max(rng: &mut fastrand::Rng) -> usize {
    match rng.u8(..8) {
        0 => rng.usize(1..10),
        1 | 2 => rng.usize(1..500),
        3 | 4 => rng.usize(1..20_000),
        _ => usize::MAX,
    }
}
