//! What lies between a client and the server: bytes under way in both directions, and how many more fit.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use fastrand::Rng;
use natterjack_engine::Transport;
use parking_lot::Mutex;

use crate::task::TaskFlag;
use crate::trace::Event;
use crate::world::World;

/// Bytes one direction holds, as a socket's buffers would.
pub(crate) const LINK_BYTES_MAX: usize = 256 * 1024;

pub(crate) struct Link {
    pub(crate) connection: usize,
    pub(crate) task: Arc<TaskFlag>,
    world: Weak<World>,
    state: Mutex<State>,
}

struct State {
    /// Written by the server and not yet read by the client.
    to_client: BytesMut,
    /// Bytes the server may still write.
    room: usize,
    /// Sent by the client and under way.
    outgoing: BytesMut,
    /// Arrived at the server.
    to_server: BytesMut,
    client_gone: bool,
    server_gone: bool,
    reader_waits: bool,
    writer_waits: bool,
    /// When the link last took a byte from the server.
    taken: Instant,
}

impl Link {
    pub(crate) fn new(connection: usize, world: Weak<World>, now: Instant) -> Self {
        let task = Arc::<TaskFlag>::default();
        task.set();
        Self {
            connection,
            task,
            world,
            state: Mutex::new(State {
                to_client: BytesMut::new(),
                room: 4096,
                outgoing: BytesMut::new(),
                to_server: BytesMut::new(),
                client_gone: false,
                server_gone: false,
                reader_waits: false,
                writer_waits: false,
                taken: now,
            }),
        }
    }

    // The client's side.

    pub(crate) fn send(&self, bytes: &[u8]) {
        self.state.lock().outgoing.extend_from_slice(bytes);
    }

    /// Bytes the client sent that have not arrived.
    pub(crate) fn outgoing_bytes(&self) -> usize {
        self.state.lock().outgoing.len()
    }

    /// Appends what arrived at the client, up to `max` bytes; `false` once nothing more will.
    pub(crate) fn receive(&self, into: &mut Vec<u8>, max: usize) -> bool {
        let mut state = self.state.lock();
        let count = state.to_client.len().min(max);
        into.extend_from_slice(&state.to_client.split_to(count));
        !(state.server_gone && state.to_client.is_empty())
    }

    /// The client closes: what it sent may arrive or not, what it is sent is lost.
    pub(crate) fn hang_up(&self, loses_bytes: bool) {
        let mut state = self.state.lock();
        if loses_bytes {
            state.outgoing.clear();
        } else {
            let outgoing = std::mem::take(&mut state.outgoing);
            state.to_server.extend_from_slice(&outgoing);
        }
        state.client_gone = true;
        drop(state);
        self.task.set();
    }

    // The link's own doing.

    /// Gives the link another capacity, and lets bytes arrive.
    pub(crate) fn shift(&self, room: usize, arriving: usize) -> Event {
        let mut state = self.state.lock();
        state.room = room.min(LINK_BYTES_MAX.saturating_sub(state.to_client.len()));
        let fits = LINK_BYTES_MAX.saturating_sub(state.to_server.len());
        let arrived = arriving.min(state.outgoing.len()).min(fits);
        let arriving = state.outgoing.split_to(arrived);
        state.to_server.extend_from_slice(&arriving);
        let readable = arrived > 0 && std::mem::take(&mut state.reader_waits);
        let writable = state.room > 0 && std::mem::take(&mut state.writer_waits);
        if readable || writable {
            self.task.set();
        }
        Event::Link {
            connection: self.connection,
            room: state.room,
            arrived,
        }
    }

    // The server's side.

    pub(crate) fn poll_readable(&self) -> bool {
        let mut state = self.state.lock();
        let ready = !state.to_server.is_empty() || state.client_gone;
        state.reader_waits |= !ready;
        ready
    }

    pub(crate) fn poll_writable(&self) -> bool {
        let mut state = self.state.lock();
        let ready = state.room > 0 || state.client_gone;
        state.writer_waits |= !ready;
        ready
    }

    /// Reads up to `max` bytes; 0 once the client is gone.
    pub(crate) fn read(&self, slices: &mut [IoSliceMut<'_>], max: usize) -> usize {
        let mut state = self.state.lock();
        let mut count = 0;
        for slice in slices {
            let fits = slice.len().min(max - count).min(state.to_server.len());
            state.to_server.copy_to_slice(&mut slice[..fits]);
            count += fits;
        }
        count
    }

    /// The server closes; the client still reads what was written.
    pub(crate) fn shut(&self) {
        let mut state = self.state.lock();
        state.server_gone = true;
        state.to_server.clear();
        state.outgoing.clear();
    }

    // For checks.

    pub(crate) fn is_readable(&self) -> bool {
        let state = self.state.lock();
        !state.to_server.is_empty() || state.client_gone
    }

    pub(crate) fn is_writable(&self) -> bool {
        let state = self.state.lock();
        state.room > 0 || state.client_gone
    }

    pub(crate) fn writer_waits(&self) -> bool {
        self.state.lock().writer_waits
    }

    pub(crate) fn is_hung_up(&self) -> bool {
        self.state.lock().client_gone
    }

    pub(crate) fn taken(&self) -> Instant {
        self.state.lock().taken
    }

    fn take(&self, slices: &[IoSlice<'_>], rng: &mut Rng, now: Instant) -> io::Result<usize> {
        let mut state = self.state.lock();
        if state.client_gone {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut fits = offered.min(state.room);
        // Less than fits, now and then, although the link stays writable.
        if fits > 1 && rng.u8(..10) == 0 {
            fits = rng.usize(1..fits);
        }
        if fits == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut rest = fits;
        for slice in slices {
            let count = rest.min(slice.len());
            state.to_client.extend_from_slice(&slice[..count]);
            rest -= count;
        }
        state.room -= fits;
        state.taken = now;
        Ok(fits)
    }
}

impl Transport for Link {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(world) = self.world.upgrade() else {
            return Err(ErrorKind::BrokenPipe.into());
        };
        world.meanwhile();
        let now = world.now();
        let result = world.chance(|rng| self.take(slices, rng, now));
        world.note(Event::Written {
            connection: self.connection,
            offered: slices.iter().map(|slice| slice.len()).sum(),
            taken: *result.as_ref().unwrap_or(&0),
        });
        world.meanwhile();
        result
    }

    fn wake(&self) {
        self.task.set();
    }
}
