//! What lies between two ends of a connection: bytes under way, how many more fit, and what a network does to them.
//!
//! A connection between two servers has a link at each end, and each pulls what the other one's server wrote. A client
//! is the other end of its link itself.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use natterjack_engine::Transport;
use parking_lot::Mutex;

use super::event::Event;
use super::world::World;
use crate::task::TaskFlag;

/// Bytes one part of the way holds, as a socket's buffer would.
pub(crate) const LINK_BYTES_MAX: usize = 128 * 1024;

/// What compressed bytes look like here: whoever takes them for plain ones, or the other way round, reads nonsense.
const DISGUISE: u8 = 0x55;

pub(crate) struct Link {
    pub(crate) connection: usize,
    pub(crate) task: Arc<TaskFlag>,
    world: Weak<World>,
    far: OnceLock<Weak<Self>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Written by the server here and not yet on its way.
    written: BytesMut,
    /// Bytes the server may still write.
    room: usize,
    /// On the way to the server here.
    coming: BytesMut,
    /// Arrived here.
    arrived: BytesMut,
    /// The server here knows that the other end has closed.
    is_far_gone: bool,
    /// The server here has closed.
    is_shut: bool,
    /// Nothing comes here any more, not even an end.
    hears_nothing: bool,
    /// Nothing that is written here goes anywhere any more.
    says_nothing: bool,
    /// Nothing moves here any more, and buffers fill.
    is_stuck: bool,
    frozen_until: Option<Instant>,
    reader_waits: bool,
    writer_waits: bool,
    /// How many more bytes are written before they are compressed.
    plain_bytes: Option<usize>,
    reads_compressed: bool,
    /// When something happens to the link next.
    next: Option<Instant>,
}

/// How a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Break {
    /// Both ends are told, what was under way arrives.
    End,
    /// Both ends are told, what was under way is lost.
    Reset,
    /// Nobody is told, and all bytes vanish.
    Silence,
    /// Nobody is told, and the bytes of one direction vanish.
    HalfSilence,
    /// Nobody is told, and nothing moves any more.
    Stuck,
}

impl Link {
    pub(crate) fn new(connection: usize, world: Weak<World>) -> Arc<Self> {
        let task = Arc::<TaskFlag>::default();
        task.set();
        Arc::new(Self {
            connection,
            task,
            world,
            far: OnceLock::new(),
            state: Mutex::new(State {
                room: LINK_BYTES_MAX,
                ..State::default()
            }),
        })
    }

    /// Makes these the two ends of one connection.
    pub(crate) fn join(one: &Arc<Self>, other: &Arc<Self>) {
        let _ = one.far.set(Arc::downgrade(other));
        let _ = other.far.set(Arc::downgrade(one));
    }

    fn far(&self) -> Option<Arc<Self>> {
        self.far.get()?.upgrade()
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.state.lock().next
    }

    /// Has something happen at `at`, unless something does before.
    fn poke(&self, at: Instant) {
        let mut state = self.state.lock();
        state.next = Some(state.next.map_or(at, |next| next.min(at)));
    }

    /// Lets bytes move, some or all.
    pub(crate) fn carry(&self, world: &World) {
        let now = world.now();
        let [pulled_max, arriving_max, room_max] = world.amounts();
        let later = now + world.pause();
        let mut state = self.state.lock();
        state.next = None;
        if state.is_stuck {
            return;
        }
        if let Some(until) = state.frozen_until.filter(|&until| until > now) {
            state.next = Some(until);
            return;
        }
        state.frozen_until = None;
        if state.says_nothing {
            state.written.clear();
        }
        let fits = LINK_BYTES_MAX.saturating_sub(state.coming.len());
        drop(state);
        let mut is_more_there = false;
        let mut has_ended = false;
        if let Some(far) = self.far.get() {
            match far.upgrade() {
                Some(far) => {
                    let (bytes, ended, more) = far.leave(fits.min(pulled_max));
                    if !bytes.is_empty() {
                        far.poke(later);
                        let mut state = self.state.lock();
                        if !state.hears_nothing {
                            state.coming.extend_from_slice(&bytes);
                        }
                    }
                    (has_ended, is_more_there) = (ended, more);
                }
                None => has_ended = true,
            }
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        has_ended &= !state.hears_nothing;
        let fits = LINK_BYTES_MAX.saturating_sub(state.arrived.len());
        let count = arriving_max.min(state.coming.len()).min(fits);
        let arriving = state.coming.split_to(count);
        state.arrived.extend_from_slice(&arriving);
        if has_ended && state.coming.is_empty() {
            state.is_far_gone = true;
        }
        let free = LINK_BYTES_MAX.saturating_sub(state.written.len());
        state.room = room_max.min(free);
        let is_readable = !state.arrived.is_empty() || state.is_far_gone;
        let is_writable = state.room > 0 || state.is_far_gone;
        let wakes_reader = is_readable && std::mem::take(&mut state.reader_waits);
        let wakes_writer = is_writable && std::mem::take(&mut state.writer_waits);
        if wakes_reader || wakes_writer {
            self.task.set();
        }
        if is_more_there || !state.coming.is_empty() || state.room < free {
            state.next = Some(later);
        }
    }

    /// What was written here and goes on its way; whether nothing more follows, and whether more waits.
    fn leave(&self, max: usize) -> (BytesMut, bool, bool) {
        let mut state = self.state.lock();
        if state.says_nothing || state.is_stuck {
            return (BytesMut::new(), false, false);
        }
        let count = state.written.len().min(max);
        let bytes = state.written.split_to(count);
        let more = !state.written.is_empty();
        (bytes, state.is_shut && !more, more)
    }

    /// The network breaks the connection.
    pub(crate) fn break_off(&self, how: Break, now: Instant) {
        let far = self.far();
        let ends = || core::iter::once(self).chain(far.as_deref());
        match how {
            Break::End => {
                for end in ends() {
                    end.state.lock().is_shut = true;
                    end.task.set();
                }
            }
            Break::Reset => {
                for end in ends() {
                    let mut state = end.state.lock();
                    state.written.clear();
                    state.coming.clear();
                    state.is_far_gone = true;
                    drop(state);
                    end.task.set();
                }
            }
            Break::Silence => {
                for end in ends() {
                    let mut state = end.state.lock();
                    state.says_nothing = true;
                    state.hears_nothing = true;
                }
            }
            Break::HalfSilence => {
                self.state.lock().says_nothing = true;
                if let Some(far) = &far {
                    far.state.lock().hears_nothing = true;
                }
            }
            Break::Stuck => ends().for_each(|end| end.state.lock().is_stuck = true),
        }
        ends().for_each(|end| end.poke(now));
    }

    /// Nothing moves until then.
    pub(crate) fn freeze(&self, until: Instant) {
        let far = self.far();
        for end in core::iter::once(self).chain(far.as_deref()) {
            let mut state = end.state.lock();
            state.frozen_until = Some(until);
            state.room = 0;
            state.next = Some(until);
        }
    }

    pub(crate) fn thaw(&self, now: Instant) {
        let mut state = self.state.lock();
        state.frozen_until = None;
        state.next = Some(now);
    }

    // The client's side.

    pub(crate) fn send(&self, bytes: &[u8], arrives: Instant) {
        let mut state = self.state.lock();
        if !state.is_shut {
            state.coming.extend_from_slice(bytes);
        }
        drop(state);
        self.poke(arrives);
    }

    /// Bytes the client sent that have not arrived.
    pub(crate) fn coming_bytes(&self) -> usize {
        self.state.lock().coming.len()
    }

    /// Appends what is there for the client, up to `max` bytes; `false` once nothing more will come.
    pub(crate) fn receive(&self, into: &mut Vec<u8>, max: usize, now: Instant) -> bool {
        let mut state = self.state.lock();
        let count = state.written.len().min(max);
        into.extend_from_slice(&state.written.split_to(count));
        let is_open = !(state.is_shut && state.written.is_empty());
        drop(state);
        if count > 0 {
            self.poke(now);
        }
        is_open
    }

    /// Whether there is something for the client to hear.
    pub(crate) fn has_for_client(&self) -> bool {
        let state = self.state.lock();
        !state.written.is_empty() || state.is_shut
    }

    /// The client closes: what it sent may arrive or not, what it is sent is lost.
    pub(crate) fn hang_up(&self, loses_bytes: bool) {
        let mut state = self.state.lock();
        let coming = std::mem::take(&mut state.coming);
        if !loses_bytes {
            state.arrived.extend_from_slice(&coming);
        }
        state.is_far_gone = true;
        drop(state);
        self.task.set();
    }

    // The server's side.

    pub(crate) fn poll_readable(&self) -> bool {
        let mut state = self.state.lock();
        let ready = !state.arrived.is_empty() || state.is_far_gone;
        state.reader_waits |= !ready;
        ready
    }

    pub(crate) fn poll_writable(&self) -> bool {
        let mut state = self.state.lock();
        let ready = state.room > 0 || state.is_far_gone;
        state.writer_waits |= !ready;
        ready
    }

    /// Reads up to `max` bytes; 0 once the other end is gone.
    pub(crate) fn read(&self, slices: &mut [IoSliceMut<'_>], max: usize, now: Instant) -> usize {
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut count = 0;
        for slice in slices {
            let fits = slice.len().min(max - count).min(state.arrived.len());
            state.arrived.copy_to_slice(&mut slice[..fits]);
            if state.reads_compressed {
                slice[..fits].iter_mut().for_each(|byte| *byte ^= DISGUISE);
            }
            count += fits;
        }
        if !state.coming.is_empty() {
            state.next.get_or_insert(now);
        }
        count
    }

    /// What is written after `plain_bytes` more is compressed from now on; so is what is read, `unread` first.
    pub(crate) fn compress(&self, plain_bytes: usize, unread: &[u8]) {
        let mut state = self.state.lock();
        state.plain_bytes.get_or_insert(plain_bytes);
        if !std::mem::replace(&mut state.reads_compressed, true) {
            let behind = std::mem::take(&mut state.arrived);
            state.arrived.extend_from_slice(unread);
            state.arrived.extend_from_slice(&behind);
        }
    }

    /// The server closes; the other end still gets what was written.
    pub(crate) fn shut(&self) {
        let mut state = self.state.lock();
        state.is_shut = true;
        state.arrived.clear();
        state.coming.clear();
        state.is_far_gone = true;
        state.hears_nothing = true;
        drop(state);
        self.task.set();
    }

    /// The other end learns of what happened here.
    pub(crate) fn poke_far(&self, at: Instant) {
        if let Some(far) = self.far() {
            far.poke(at);
        }
    }

    // For checks.

    pub(crate) fn is_readable(&self) -> bool {
        let state = self.state.lock();
        !state.arrived.is_empty() || state.is_far_gone
    }

    pub(crate) fn is_writable(&self) -> bool {
        let state = self.state.lock();
        state.room > 0 || state.is_far_gone
    }

    pub(crate) fn writer_waits(&self) -> bool {
        self.state.lock().writer_waits
    }

    /// Whether the network has broken it, and its ends may not know.
    pub(crate) fn is_broken(&self) -> bool {
        let state = self.state.lock();
        state.hears_nothing || state.says_nothing || state.is_stuck
    }

    fn take(&self, slices: &[IoSlice<'_>], split: usize, later: Instant) -> io::Result<usize> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.is_far_gone || state.is_shut {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut fits = offered.min(state.room);
        // Less than fits, now and then, although the link stays writable.
        if fits > 1 && split > 0 {
            fits = 1 + split % (fits - 1);
        }
        if fits == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut rest = fits;
        for slice in slices {
            let count = rest.min(slice.len());
            for &byte in &slice[..count] {
                let mask = match &mut state.plain_bytes {
                    None => 0,
                    Some(0) => DISGUISE,
                    Some(plain) => {
                        *plain -= 1;
                        0
                    }
                };
                state.written.extend_from_slice(&[byte ^ mask]);
            }
            rest -= count;
        }
        state.room -= fits;
        state.next.get_or_insert(later);
        Ok(fits)
    }
}

impl Transport for Link {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(world) = self.world.upgrade() else {
            return Err(ErrorKind::BrokenPipe.into());
        };
        world.meanwhile();
        let later = world.now() + world.pause();
        let split = world.chance(|rng| {
            if rng.u8(..10) == 0 {
                rng.usize(1..LINK_BYTES_MAX)
            } else {
                0
            }
        });
        let result = self.take(slices, split, later);
        if result.is_ok() {
            self.poke_far(later);
        }
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
