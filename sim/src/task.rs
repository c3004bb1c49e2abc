//! One connection's task, as the server's shell runs it: the same looks in the same order, without a runtime.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use natterjack_engine::{ClientSession, CloseReason};

use crate::trace::Event;
use crate::world::{Connection, World};

/// Batches read before others get their turn.
const BATCHES_PER_TURN: usize = 4;

/// How long a connection that ends may take to write its last bytes.
const LAST_FLUSH_MAX: Duration = Duration::from_secs(2);

pub(crate) struct Task {
    session: ClientSession,
    phase: Phase,
    is_stalled: bool,
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
    pub(crate) fn new(session: ClientSession) -> Self {
        Self {
            session,
            phase: Phase::Open,
            is_stalled: false,
        }
    }

    pub(crate) fn session(&self) -> &ClientSession {
        &self.session
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    pub(crate) fn is_ending(&self) -> bool {
        !matches!(self.phase, Phase::Open)
    }

    pub(crate) fn turn(&mut self, world: &World, connection: &Connection) -> Turn {
        match self.phase {
            Phase::Open => self.turn_open(world, connection),
            Phase::Closing(reason) => {
                connection.link.task.set();
                if self.session.close_step(reason) {
                    let end = world.now() + LAST_FLUSH_MAX;
                    self.session.outbox().flush_unblocked(world.now());
                    self.phase = Phase::Flushing(end);
                    *connection.timer.lock() = Some(end);
                }
                Turn::GoesOn
            }
            Phase::Flushing(end) => self.turn_flushing(world, connection, end),
        }
    }

    fn turn_open(&mut self, world: &World, connection: &Connection) -> Turn {
        let link = &connection.link;
        let waker = Waker::from(Arc::clone(&link.task));
        for _ in 0..BATCHES_PER_TURN {
            self.session.adapt(world.now());
            let status = self.session.outbox().status();
            if let Some(reason) = status.closed {
                return self.end(world, connection, reason);
            }
            if status.is_blocked && link.poll_writable() {
                self.session.outbox().flush_unblocked(world.now());
                continue;
            }
            let now = world.now();
            let mut next = self.session.next_timeout();
            if next <= now {
                self.session.handle_timeout(now);
                next = self.session.next_timeout().max(now);
            }
            *connection.timer.lock() = Some(next);
            if next <= now {
                link.task.set();
            }
            let was_stalled = self.is_stalled;
            self.is_stalled = self.session.is_stalled(&waker, now);
            if self.is_stalled {
                if !was_stalled {
                    world.note(Event::Stalled {
                        connection: connection.id,
                    });
                }
                return Turn::GoesOn;
            }
            if !link.poll_readable() {
                return Turn::GoesOn;
            }
            if !self.read(world, connection) {
                return self.end(world, connection, CloseReason::ClientClosed);
            }
        }
        link.task.set();
        Turn::GoesOn
    }

    fn end(&mut self, world: &World, connection: &Connection, reason: CloseReason) -> Turn {
        world.note(Event::ending(connection.id, reason));
        world.check_reason(connection, reason);
        *connection.reason.lock() = Some(reason);
        self.is_stalled = false;
        self.phase = Phase::Closing(reason);
        connection.link.task.set();
        Turn::GoesOn
    }

    /// Reads and handles one batch of a random size; `false` once the client has closed.
    fn read(&mut self, world: &World, connection: &Connection) -> bool {
        let (index, mut worker) = world.worker();
        let max = world.chance(|rng| match rng.u8(..8) {
            0 => rng.usize(1..10),
            1 | 2 => rng.usize(1..500),
            3 | 4 => rng.usize(1..20_000),
            _ => usize::MAX,
        });
        let count = connection
            .link
            .read(&mut self.session.read_slices(&mut worker), max);
        world.note(Event::Read {
            connection: connection.id,
            bytes: count,
            worker: index,
        });
        if count > 0 {
            self.session.handle_read(count, &mut worker, world.now());
        }
        count > 0
    }

    fn turn_flushing(&self, world: &World, connection: &Connection, end: Instant) -> Turn {
        let outbox = self.session.outbox();
        while outbox.status().pending_bytes > 0 && world.now() < end {
            if !connection.link.poll_writable() {
                return Turn::GoesOn;
            }
            let before = outbox.status();
            outbox.flush_unblocked(world.now());
            let after = outbox.status();
            if after.pending_bytes > 0
                && after.blocked_since.is_none()
                && before.pending_bytes == after.pending_bytes
            {
                // Somebody else is writing these bytes.
                connection.link.task.set();
                return Turn::GoesOn;
            }
        }
        Turn::Ended
    }
}
