//! A route's stream, which is compressed from a point on that both servers know (route protocol, section 11).
//!
//! Like an encrypted stream ([`secured`](super::secured)) it has any thread write and the connection's own task read. What
//! a write has compressed cannot be taken back: what the stream below does not take of it, no more than
//! [`WAITING_BYTES_MAX`], stays here, nothing more is accepted before it is gone, and the connection's own task sends it.
//! What is compressed at one time is what is written at one time, so that nothing has to be flushed.
//!
//! A few bytes may stand for megabytes. So at one time no more than [`CONTENT_BYTES_PER_READ`] are decompressed, and what is
//! not done then is by the next read, after others have had their turn. What a server that is not let in yet may keep here
//! is bounded, alone ([`STRANGERS_CONTENT_BYTES_MAX`]) and together with others ([`strangers`](super::strangers)).
//!
//! A quiet connection owns no buffer and no table: what compressing takes is lent by [`Kits`].

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use natterjack_wire::route::Compression;
use natterjack_wire::s2::{self, Compressor, Decompressor, Effort, S2Error, Step};
use parking_lot::Mutex;
use thiserror::Error;

use super::newcomers::Place;
use super::slices::{Filling, window};
use super::socket::Socket;
use super::strangers::{Notice, Origin, Stranger, Strangers};
use super::stream::Stream;

/// Compressed bytes that wait for the stream below, at most.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Bytes compressed at one time. What does not shrink grows by the head of its chunk, and the first chunk has the start
/// of the stream before it.
const BLOCK_BYTES_MAX: usize = WAITING_BYTES_MAX - 64;

/// Compressed bytes read at one time; as much as is asked for while a chunk is not whole.
const READ_BYTES: usize = 64 * 1024;

/// Reads of one turn: bytes that come to nothing, of which there may be any number, must not keep others waiting.
const READS_MAX: usize = 16;

/// Bytes of content that one read decompresses.
const CONTENT_BYTES_PER_READ: usize = 64 * 1024;

/// Content of one chunk of a server that has not been let in: nats-server writes what it says first, and in the same chunk
/// what its clients want, with up to so many bytes.
const STRANGERS_CONTENT_BYTES_MAX: usize = 1024 * 1024;

/// What is kept here of chunks that have not arrived or been read in full counts beyond so much for each connection.
const SMALL_BYTES: usize = READ_BYTES;

/// A server that refuses a route says so with `-ERR`, and in clear if it has not been told yet that the other one has
/// switched. No compressed stream begins like this.
const CLEAR_START: u8 = b'-';

/// Kits kept; one is in use per thread that reads or writes.
const KITS_MAX: usize = 16;

/// Bytes of decompressed content for which a kit keeps the room. nats-server 2.15.1 compresses up to 1 MiB at one time.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// What compressing and decompressing take, lent to the connections of a server.
#[derive(Default)]
pub(crate) struct Kits {
    kept: Mutex<Vec<Kit>>,
    /// What connections keep with servers that are not let in.
    strangers: Arc<Strangers>,
}

struct Kit {
    /// Has begun its stream, wherever that was; what it writes goes on with any.
    compressor: Compressor,
    gathered: Vec<u8>,
    compressed: Vec<u8>,
    received: Vec<u8>,
    content: Vec<u8>,
}

impl Kits {
    fn with<R>(&self, use_it: impl FnOnce(&mut Kit) -> R) -> R {
        let kept = self.kept.lock().pop();
        let mut kit = kept.unwrap_or_default();
        let result = use_it(&mut kit);
        let mut kept = self.kept.lock();
        if kept.len() < KITS_MAX {
            kept.push(kit);
        }
        result
    }
}

impl Default for Kit {
    fn default() -> Self {
        let mut compressor = Compressor::new(Effort::Fast);
        compressor.write(&[], &mut Vec::new());
        Self {
            compressor,
            gathered: Vec::new(),
            compressed: Vec::new(),
            received: Vec::new(),
            content: Vec::new(),
        }
    }
}

/// See the module.
pub(crate) struct Compressed<S> {
    below: S,
    kits: Arc<Kits>,
    /// Where the other side is.
    origin: Origin,
    /// The other side's, until it is let in, if it needs one.
    place: Mutex<Option<Place>>,
    /// Once there is one. In a box, for most routes do without.
    layer: OnceLock<Box<Layer>>,
}

struct Layer {
    writing: Mutex<Writing>,
    reading: Mutex<Reading>,
    /// Of the stranger in `reading`.
    notice: Arc<Notice>,
    /// There is none any more. Written under the lock of `reading`.
    is_trusted: AtomicBool,
    /// Compressed bytes wait for the stream below. Written under the lock of `writing`.
    is_unsent: AtomicBool,
    /// A read may find something without the stream below having more. Written under the lock of `reading`.
    is_buffered: AtomicBool,
}

struct Writing {
    effort: Effort,
    /// Bytes that still go as they are.
    plain_bytes: usize,
    is_begun: bool,
    waiting: Vec<u8>,
    /// Of `waiting`, how many have gone.
    sent: usize,
}

struct Reading {
    decompressor: Decompressor,
    /// What comes is not compressed. `None` before the first of it.
    is_clear: Option<bool>,
    /// What was received is in it from `start` to `end`. Empty when everything was taken.
    received: Vec<u8>,
    start: usize,
    end: usize,
    /// Content for which there was no room, after the first `taken` bytes. What is behind the first `good` ones is of a chunk
    /// that is not read in full, and may be anything.
    content: Vec<u8>,
    taken: usize,
    good: usize,
    /// Something was received since a chunk was last looked for, or one is not read in full.
    is_fresh: bool,
    /// Told by the read after the last good bytes.
    failed: Option<Damage>,
    /// As long as the server is not let in.
    stranger: Option<Stranger>,
}

/// Why what the other side compressed cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Damage {
    #[error(transparent)]
    Stream(#[from] S2Error),
    /// And this one the most of all, or has for long.
    #[error(
        "servers that have not been let in keep too much memory busy with chunks that are not there in full"
    )]
    TooManyStrangers,
}

impl<S: Stream> Compressed<S> {
    /// A stream that is not compressed yet, from whoever is at `origin`.
    pub(crate) fn new(below: S, kits: Arc<Kits>, origin: Origin) -> Self {
        Self {
            below,
            kits,
            origin,
            place: Mutex::default(),
            layer: OnceLock::new(),
        }
    }

    /// Keeps the other side's place until it is let in.
    pub(crate) fn in_place(mut self, place: Option<Place>) -> Self {
        self.place = Mutex::new(place);
        self
    }

    /// What `look` finds out of the other side's place, if it still needs one.
    pub(crate) fn place<R>(&self, look: impl FnOnce(&Place) -> R) -> Option<R> {
        self.place.lock().as_ref().map(look)
    }

    /// What was wrong with what the other side compressed, after a read that failed for that.
    pub(crate) fn damage(&self) -> Option<Damage> {
        self.layer()?.reading.lock().failed
    }

    fn layer(&self) -> Option<&Layer> {
        self.layer.get().map(Box::as_ref)
    }
}

impl<S: Stream> Stream for Compressed<S> {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.layer().is_some_and(|layer| layer.is_readable(context)) {
            return Poll::Ready(Ok(()));
        }
        self.below.poll_readable(context)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(context));
        self.below.poll_writable(context)
    }

    fn try_read(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self.layer() {
            None => self.below.try_read(slices),
            Some(layer) => layer.try_read(&self.below, &self.kits, slices),
        }
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.layer() {
            None => self.below.try_write(slices),
            Some(layer) => layer.try_write(&self.below, &self.kits, slices),
        }
    }

    fn shutdown_write(&self) {
        self.below.shutdown_write();
    }

    fn is_unsent(&self) -> bool {
        self.layer().is_some_and(Layer::is_unsent) || self.below.is_unsent()
    }

    fn poll_sent(&self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(layer) = self.layer() {
            while layer.is_unsent() {
                if ready!(self.below.poll_writable(context)).is_err()
                    || layer.send(&self.below).is_err()
                {
                    break;
                }
            }
        }
        self.below.poll_sent(context)
    }

    fn is_held(&self) -> bool {
        self.below.is_held()
    }

    fn compress(&self, mode: Compression, plain_bytes: usize, unread: Vec<u8>) {
        let effort = match mode {
            Compression::S2Uncompressed => Effort::Stored,
            _ => Effort::Fast,
        };
        match self.layer() {
            Some(layer) => layer.writing.lock().effort = effort,
            None => {
                let all = Arc::clone(&self.kits.strangers);
                let stranger = Stranger::new(all, self.origin);
                let layer = Layer::new(effort, plain_bytes, unread, stranger);
                // Only the connection's own task comes here.
                let _ = self.layer.set(Box::new(layer));
            }
        }
    }

    fn trust(&self) {
        let place = self.place.lock().take();
        drop(place);
        if let Some(layer) = self.layer() {
            let mut reading = layer.reading.lock();
            reading.stranger = None;
            layer.is_trusted.store(true, Ordering::Release);
            let bytes_max = s2::CONTENT_BYTES_MAX;
            reading.decompressor.set_content_bytes_max(bytes_max);
        }
    }

    fn socket(&self) -> Option<&Socket> {
        self.below.socket()
    }
}

impl Layer {
    fn new(effort: Effort, plain_bytes: usize, unread: Vec<u8>, stranger: Stranger) -> Self {
        let notice = Arc::clone(stranger.notice());
        let is_fresh = !unread.is_empty();
        Self {
            writing: Mutex::new(Writing {
                effort,
                plain_bytes,
                is_begun: false,
                waiting: Vec::new(),
                sent: 0,
            }),
            reading: Mutex::new(Reading {
                decompressor: Decompressor::new(STRANGERS_CONTENT_BYTES_MAX),
                is_clear: None,
                start: 0,
                end: unread.len(),
                received: unread,
                content: Vec::new(),
                taken: 0,
                good: 0,
                is_fresh,
                failed: None,
                stranger: Some(stranger),
            }),
            notice,
            is_trusted: AtomicBool::new(false),
            is_unsent: AtomicBool::new(false),
            is_buffered: AtomicBool::new(is_fresh),
        }
    }

    fn is_unsent(&self) -> bool {
        self.is_unsent.load(Ordering::Acquire)
    }

    /// Whether a read finds something without the stream below having more.
    fn is_readable(&self, context: &Context<'_>) -> bool {
        self.is_buffered.load(Ordering::Acquire)
            || !self.is_trusted.load(Ordering::Acquire) && self.notice.is_given_or_wakes(context)
    }

    /// Sends what waits, as much as the stream below takes.
    fn send<S: Stream>(&self, below: &S) -> io::Result<()> {
        let mut writing = self.writing.lock();
        let result = writing.send(below);
        if writing.waiting.is_empty() {
            writing.waiting = Vec::new();
        }
        self.note_unsent(&writing);
        result.map(drop)
    }

    /// Compresses and writes as much as the stream below takes; what it takes only in part counts as written.
    fn try_write<S: Stream>(
        &self,
        below: &S,
        kits: &Kits,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let mut writing = self.writing.lock();
        if writing.plain_bytes > 0 {
            let count = below.try_write(&window(slices, 0, writing.plain_bytes))?;
            writing.plain_bytes -= count;
            return Ok(count);
        }
        let result = kits.with(|kit| writing.write(below, slices, kit));
        self.note_unsent(&writing);
        result
    }

    /// Reads and decompresses until the slices are full, enough was decompressed, or the stream below has no more.
    fn try_read<S: Stream>(
        &self,
        below: &S,
        kits: &Kits,
        slices: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        let mut reading = self.reading.lock();
        let mut target = Filling::new(slices);
        let result = kits.with(|kit| reading.read(below, &mut target, kit));
        let is_more = target.is_full() || reading.is_fresh || !reading.content.is_empty();
        let is_end = !matches!(result, Ok(End::Nothing));
        // First what is good; the end is found again by the next read.
        self.is_buffered.store(is_more || is_end, Ordering::Release);
        if target.filled > 0 {
            return Ok(target.filled);
        }
        match result? {
            End::Peer => Ok(0),
            End::Nothing => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn note_unsent(&self, writing: &Writing) {
        self.is_unsent
            .store(!writing.waiting.is_empty(), Ordering::Release);
    }
}

/// Whether everything that waited was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    All,
    Part,
}

impl Writing {
    fn send<S: Stream>(&mut self, below: &S) -> io::Result<Sent> {
        while self.sent < self.waiting.len() {
            match below.try_write(&[IoSlice::new(&self.waiting[self.sent..])]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Sent::Part),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.waiting.clear();
        self.sent = 0;
        Ok(Sent::All)
    }

    fn write<S: Stream>(
        &mut self,
        below: &S,
        slices: &[IoSlice<'_>],
        kit: &mut Kit,
    ) -> io::Result<usize> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut accepted = 0;
        while accepted < offered {
            match self.send(below) {
                Ok(Sent::All) => {}
                Ok(Sent::Part) => break,
                // Told by the next write; these bytes are gone like any in a socket's buffer.
                Err(_) if accepted > 0 => return Ok(accepted),
                Err(error) => return Err(error),
            }
            if self.waiting.capacity() == 0 {
                std::mem::swap(&mut self.waiting, &mut kit.compressed);
            }
            accepted += self.compress(&window(slices, accepted, BLOCK_BYTES_MAX), kit);
        }
        if accepted == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = self.send(below);
        if self.waiting.is_empty() {
            kit.compressed = std::mem::take(&mut self.waiting);
        }
        result.map(|_| accepted)
    }

    /// Compresses one block into `waiting`, which is empty, and returns its length.
    fn compress(&mut self, window: &[IoSlice<'_>], kit: &mut Kit) -> usize {
        if !std::mem::replace(&mut self.is_begun, true) {
            Compressor::new(self.effort).write(&[], &mut self.waiting);
        }
        let block: &[u8] = match window {
            [only] => only,
            several => {
                kit.gathered.clear();
                for slice in several {
                    kit.gathered.extend_from_slice(slice);
                }
                &kit.gathered
            }
        };
        kit.compressor.set_effort(self.effort);
        kit.compressor.write(block, &mut self.waiting);
        block.len()
    }
}

/// How reading came to an end before the slices were full.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is no more now.
    Nothing,
    /// The peer sends nothing more.
    Peer,
}

impl Reading {
    fn read<S: Stream>(
        &mut self,
        below: &S,
        target: &mut Filling<'_, '_>,
        kit: &mut Kit,
    ) -> io::Result<End> {
        if self.content.capacity() == 0 {
            self.content = std::mem::take(&mut kit.content);
        }
        let mut result = self.receive(below, target, &mut kit.received);
        if self.content.is_empty() {
            let content = std::mem::take(&mut self.content);
            if content.capacity() <= KEPT_BYTES_MAX {
                kit.content = content;
            }
        }
        if self.start == self.end {
            let received = std::mem::take(&mut self.received);
            (self.start, self.end) = (0, 0);
            if received.len() == READ_BYTES {
                kit.received = received;
            }
        }
        let kept = [self.received.len(), self.content.len()];
        let kept = kept.map(|bytes| bytes.saturating_sub(SMALL_BYTES));
        let stranger = self.stranger.as_ref();
        let may_keep =
            |stranger: &Stranger| !stranger.notice().is_given() && stranger.keep(kept.iter().sum());
        if !stranger.is_none_or(may_keep) {
            (self.received, self.content) = (Vec::new(), Vec::new());
            (self.start, self.end, self.taken, self.good) = (0, 0, 0, 0);
            result = Err(self.fail(Damage::TooManyStrangers));
        }
        result
    }

    /// Nothing more can be read, after the last good bytes.
    fn fail(&mut self, damage: Damage) -> io::Error {
        self.content.truncate(self.good);
        self.failed = Some(damage);
        io::Error::new(ErrorKind::InvalidData, damage)
    }

    fn receive<S: Stream>(
        &mut self,
        below: &S,
        target: &mut Filling<'_, '_>,
        spare: &mut Vec<u8>,
    ) -> io::Result<End> {
        let mut allowance = CONTENT_BYTES_PER_READ;
        for _ in 0..READS_MAX {
            let Some(chunk_bytes) = self.decompress(target, &mut allowance)? else {
                return Ok(End::Nothing);
            };
            self.make_room(chunk_bytes, spare);
            let room = &mut self.received[self.end..];
            match below.try_read(&mut [IoSliceMut::new(&mut []), IoSliceMut::new(room)]) {
                Ok(0) => return Ok(End::Peer),
                Ok(count) => {
                    self.end += count;
                    self.is_fresh = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(End::Nothing)
    }

    /// Decompresses until there is no room, the allowance is used up, or there is no whole chunk: then returns how many bytes
    /// the next one has at least.
    fn decompress(
        &mut self,
        target: &mut Filling<'_, '_>,
        allowance: &mut usize,
    ) -> io::Result<Option<usize>> {
        loop {
            self.taken += target.copy(&self.content[self.taken..self.good]);
            if self.taken < self.good {
                return Ok(None);
            }
            if self.good == self.content.len() {
                self.content.clear();
                (self.taken, self.good) = (0, 0);
            }
            if target.is_full() {
                return Ok(None);
            }
            if let Some(damage) = self.failed {
                return Err(self.fail(damage));
            }
            let received = &self.received[self.start..self.end];
            if self.is_clear.is_none() {
                self.is_clear = received.first().map(|first| *first == CLEAR_START);
            }
            if self.is_clear == Some(true) {
                if received.is_empty() {
                    self.is_fresh = false;
                    return Ok(Some(1));
                }
                self.content.extend_from_slice(received);
                self.good = self.content.len();
                self.start = self.end;
                continue;
            }
            if *allowance == 0 {
                return Ok(None);
            }
            let before = self.content.len();
            let step = (self.decompressor).step(received, &mut self.content, *allowance);
            *allowance = allowance.saturating_sub(self.content.len().saturating_sub(before));
            match step {
                Ok(Step::Whole { consumed, .. }) => {
                    self.start += consumed;
                    self.good = self.content.len();
                }
                Ok(Step::Unfinished) => return Ok(None),
                Ok(Step::Incomplete { needed }) => {
                    self.is_fresh = false;
                    return Ok(Some(needed));
                }
                Err(error) => return Err(self.fail(error.into())),
            }
        }
    }

    /// Makes room behind what was received. A large chunk gets the room it says it needs only as it comes.
    fn make_room(&mut self, chunk_bytes: usize, spare: &mut Vec<u8>) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.received.is_empty() {
            self.received = std::mem::take(spare);
            self.received.resize(READ_BYTES, 0);
        }
        let is_short = self.start + chunk_bytes > self.received.len();
        if is_short && self.start > 0 {
            self.received.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.received.len() {
            let len = (2 * self.end)
                .max(READ_BYTES)
                .min(chunk_bytes.max(READ_BYTES));
            self.received.resize(len, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::super::strangers::ADDRESS_BYTES_MAX;
    use super::*;

    /// One direction of a stream in memory that takes and gives as little as chance has it.
    #[derive(Default)]
    struct Channel(Mutex<VecDeque<u8>>);

    struct End {
        input: Arc<Channel>,
        output: Arc<Channel>,
        /// Bytes one direction holds.
        capacity: usize,
        chance: Mutex<fastrand::Rng>,
    }

    impl End {
        fn pair(capacity: usize, seed: u64) -> (Compressed<Self>, Compressed<Self>) {
            let kits = Arc::<Kits>::default();
            let (to, fro) = (Arc::<Channel>::default(), Arc::<Channel>::default());
            let end = |input: &Arc<Channel>, output: &Arc<Channel>, seed| {
                let end = Self {
                    input: Arc::clone(input),
                    output: Arc::clone(output),
                    capacity,
                    chance: Mutex::new(fastrand::Rng::with_seed(seed)),
                };
                Compressed::new(end, Arc::clone(&kits), Origin::of(None))
            };
            (end(&fro, &to, seed), end(&to, &fro, !seed))
        }

        fn share(&self, bytes: usize) -> usize {
            let mut chance = self.chance.lock();
            if chance.u8(..) < 64 {
                chance.usize(..=bytes.min(99))
            } else {
                bytes
            }
        }
    }

    impl Stream for End {
        fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.input.0.lock().is_empty() {
                true => Poll::Pending,
                false => Poll::Ready(Ok(())),
            }
        }

        fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.output.0.lock().len() < self.capacity {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        }

        fn try_read(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            let mut input = self.input.0.lock();
            let mut filling = Filling::new(slices);
            let count = self.share(input.len().min(filling.room()));
            let bytes: Vec<u8> = input.drain(..count).collect();
            match filling.copy(&bytes) {
                0 => Err(ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        }

        fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut output = self.output.0.lock();
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let room = self.capacity.saturating_sub(output.len());
            let count = self.share(offered.min(room));
            for slice in window(slices, 0, count) {
                output.extend(slice.iter());
            }
            match count {
                0 => Err(ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        }

        fn shutdown_write(&self) {}
    }

    fn read(stream: &impl Stream, bytes_max: usize) -> io::Result<Vec<u8>> {
        let (mut first, mut second) = (vec![0; bytes_max / 3], vec![0; bytes_max - bytes_max / 3]);
        let slices = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        let count = stream.try_read(slices)?;
        let mut read = [first, second].concat();
        read.truncate(count);
        Ok(read)
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    /// Something like protocol lines, or noise.
    fn text(chance: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
        if chance.bool() {
            return core::iter::repeat_with(|| chance.u8(..))
                .take(bytes)
                .collect();
        }
        let mut text = Vec::new();
        while text.len() < bytes {
            let line = format!("RMSG $G orders.{} 5\r\nhello\r\n", chance.u8(..9));
            text.extend_from_slice(line.as_bytes());
        }
        text.truncate(bytes);
        text
    }

    /// Sends as much of `bytes` as is taken, in several slices, as an outbox and its connection's task would.
    fn send(stream: &impl Stream, bytes: &mut &[u8], chance: &mut fastrand::Rng) {
        let _ = stream.poll_sent(&mut context());
        let cut = chance.usize(..=bytes.len().min(3000));
        let (first, rest) = bytes.split_at(cut);
        if let Ok(count) = stream.try_write(&[IoSlice::new(first), IoSlice::new(rest)]) {
            *bytes = &bytes[count..];
        }
    }

    /// Both sides send what they have, in clear and then compressed, and read all the time.
    fn converse(seed: u64) {
        let mut chance = fastrand::Rng::with_seed(seed);
        let capacity = chance.usize(1..200_000);
        let (left, right) = End::pair(capacity, seed);
        let clear_bytes = chance.usize(..5000);
        let sent = [(); 2].map(|()| {
            let bytes = chance.usize(..400_000);
            text(&mut chance, clear_bytes + bytes)
        });
        let mut rest = sent.each_ref().map(Vec::as_slice);
        let mut received = [Vec::new(), Vec::new()];
        let sides = [(&left, 0, 1), (&right, 1, 0)];
        // The left side switches with some clear bytes unsent. It has read all of the other's.
        let unsent_bytes = chance.usize(..=clear_bytes);
        let mut clear = &sent[0][..clear_bytes - unsent_bytes];
        while !clear.is_empty() {
            send(&left, &mut clear, &mut chance);
            received[1].extend(read(&right, 10_000).unwrap_or_default());
        }
        let mut clear = &sent[1][..clear_bytes];
        while received[0].len() < clear_bytes {
            send(&right, &mut clear, &mut chance);
            received[0].extend(read(&left, 10_000).unwrap_or_default());
        }
        rest[0] = &sent[0][clear_bytes - unsent_bytes..];
        rest[1] = &sent[1][clear_bytes..];
        let mode = if chance.bool() {
            Compression::S2Fast
        } else {
            Compression::S2Uncompressed
        };
        left.compress(mode, unsent_bytes, Vec::new());
        let mut is_switched = false;
        for _ in 0..1_000_000 {
            for (side, own, other) in sides {
                if own == 1 && !is_switched {
                    // Reads on as if nothing were, perhaps beyond the point.
                    received[1].extend(read(side, 4096).unwrap_or_default());
                    if received[1].len() >= clear_bytes {
                        let unread = received[1].split_off(clear_bytes);
                        side.compress(mode, 0, unread);
                        is_switched = true;
                    }
                    continue;
                }
                send(side, &mut rest[own], &mut chance);
                if chance.u8(..) == 0 {
                    side.compress(Compression::S2Better, 0, Vec::new());
                }
                let waiting = side
                    .layer()
                    .map_or(0, |layer| layer.writing.lock().waiting.len());
                assert!(
                    waiting <= WAITING_BYTES_MAX,
                    "seed {seed}: {waiting} bytes wait"
                );
                if side.poll_readable(&mut context()).is_ready() {
                    let bytes_max = chance.usize(3..70_000);
                    received[own].extend(read(side, bytes_max).unwrap_or_default());
                }
                assert!(received[own].len() <= sent[other].len());
            }
            let is_done = rest.iter().all(|rest| rest.is_empty())
                && received[0].len() == sent[1].len()
                && received[1].len() == sent[0].len();
            if is_done {
                break;
            }
        }
        assert!(
            received[0] == sent[1],
            "seed {seed}: what the left side has read"
        );
        assert!(
            received[1] == sent[0],
            "seed {seed}: what the right side has read"
        );
        for side in [&left, &right] {
            let layer = side.layer().expect("compressed");
            let _ = side.poll_sent(&mut context());
            assert_eq!(layer.writing.lock().waiting.capacity(), 0);
            // What has just been read may have been a part of the last chunk only.
            while read(side, 100).is_ok() {}
            let reading = layer.reading.lock();
            let kept = [reading.content.capacity(), reading.received.capacity()];
            assert_eq!(kept, [0, 0], "a quiet connection owns no buffer");
        }
    }

    #[test]
    fn what_is_sent_arrives_however_it_is_cut() {
        for seed in 0..60 {
            converse(seed);
        }
    }

    #[test]
    fn an_error_is_told_after_the_last_good_bytes() {
        let (left, right) = End::pair(100_000, 1);
        left.compress(Compression::S2Fast, 0, Vec::new());
        right.compress(Compression::S2Fast, 0, Vec::new());
        let mut rest = &b"good"[..];
        while !rest.is_empty() || left.is_unsent() {
            send(&left, &mut rest, &mut fastrand::Rng::with_seed(1));
        }
        left.below.output.0.lock().extend([0x02, 1, 0, 0, 0]);
        let mut good = Vec::new();
        let error = loop {
            match read(&right, 100) {
                Ok(bytes) => good.extend(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => break error,
            }
        };
        assert_eq!(good, b"good");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(
            right.damage(),
            Some(S2Error::UnknownChunk { kind: 2 }.into())
        );
        assert_eq!(left.damage(), None);
        assert!(right.poll_readable(&mut context()).is_ready());
        assert!(read(&right, 100).is_err(), "it stays");
    }

    #[test]
    fn an_error_in_place_of_the_stream_is_read_as_it_is() {
        let (left, right) = End::pair(usize::MAX, 4);
        right.compress(Compression::S2Fast, 0, Vec::new());
        let error = b"-ERR 'Authorization Violation'\r\n".repeat(3);
        let mut rest = error.as_slice();
        let mut received = Vec::new();
        let mut chance = fastrand::Rng::with_seed(5);
        for _ in 0..10_000 {
            if received.len() == error.len() {
                break;
            }
            send(&left, &mut rest, &mut chance);
            received.extend(read(&right, 10).unwrap_or_default());
        }
        assert_eq!(received, error);
        assert_eq!(right.damage(), None);
    }

    /// CRC-32C bit by bit, masked as the format has it.
    fn masked_checksum(bytes: &[u8]) -> u32 {
        let checksum = !bytes.iter().fold(!0_u32, |checksum, byte| {
            (0..8).fold(checksum ^ u32::from(*byte), |value, _| {
                (value >> 1) ^ (0x82F6_3B78 & (value & 1).wrapping_neg())
            })
        });
        checksum.rotate_right(15).wrapping_add(0xA282_EAD8)
    }

    /// A stream of one chunk, whose data are the content itself or a block of it.
    fn chunk(kind: u8, data: &[u8], content: &[u8]) -> Vec<u8> {
        let mut chunk = Vec::new();
        Compressor::new(Effort::Stored).write(&[], &mut chunk);
        chunk.push(kind);
        chunk.extend_from_slice(&(data.len() as u32 + 4).to_le_bytes()[..3]);
        chunk.extend_from_slice(&masked_checksum(content).to_le_bytes());
        chunk.extend_from_slice(data);
        chunk
    }

    /// A block of so many times `x`, which is less than 16 MiB: its length, one of them, and as many more of the same.
    fn bomb(content_bytes: u32) -> Vec<u8> {
        let mut block = Vec::new();
        let mut length = content_bytes;
        while length >= 0x80 {
            block.push(length as u8 | 0x80);
            length >>= 7;
        }
        block.extend_from_slice(&[length as u8, 0, b'x', 0x01, 1]);
        let more = content_bytes - 1 - 4 - 4 - (1 << 16);
        block.extend_from_slice(&[7 << 2 | 1, 0]);
        block.extend_from_slice(&more.to_le_bytes()[..3]);
        block
    }

    #[test]
    fn few_bytes_that_stand_for_many_come_a_little_at_a_time() {
        let (left, right) = End::pair(usize::MAX, 6);
        right.compress(Compression::S2Fast, 0, Vec::new());
        right.trust();
        let content = vec![b'x'; s2::CONTENT_BYTES_MAX];
        let stream = chunk(0, &bomb(content.len() as u32), &content);
        assert!(stream.len() < 100);
        left.below.output.0.lock().extend(&stream);
        let kept = || {
            let reading = right.layer().expect("compressed").reading.lock();
            reading.content.len()
        };
        let (mut reads, mut received) = (0, 0);
        while received < content.len() {
            reads += 1;
            assert!(reads < 10_000);
            let before = kept();
            assert!(
                right.poll_readable(&mut context()).is_ready(),
                "there is more without the stream below having any"
            );
            match read(&right, 200_000) {
                Ok(bytes) => received += bytes.len(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert!(kept() <= before + CONTENT_BYTES_PER_READ);
        }
        let least = s2::CONTENT_BYTES_MAX / CONTENT_BYTES_PER_READ;
        assert!(reads >= least, "{reads} reads");
    }

    #[test]
    fn strangers_may_keep_little() {
        let content = vec![b'x'; STRANGERS_CONTENT_BYTES_MAX + 1];
        let stream = chunk(0, &bomb(content.len() as u32), &content);
        let read_to_end = |is_trusted: bool| {
            let (left, right) = End::pair(usize::MAX, 7);
            right.compress(Compression::S2Fast, 0, Vec::new());
            if is_trusted {
                right.trust();
            }
            left.below.output.0.lock().extend(&stream);
            for _ in 0..10_000 {
                match read(&right, 200_000) {
                    Ok(_) => return None,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => return right.damage(),
                }
            }
            panic!("it does not end");
        };
        assert_eq!(read_to_end(true), None);
        assert_eq!(read_to_end(false), Some(S2Error::ChunkTooLarge.into()));
    }

    #[test]
    fn strangers_may_not_keep_much_together() {
        let kits = Arc::<Kits>::default();
        // A megabyte but for its end.
        let mut stream = chunk(1, &vec![b'x'; STRANGERS_CONTENT_BYTES_MAX], b"");
        stream.pop();
        let stranger = || {
            let input = Arc::<Channel>::default();
            input.0.lock().extend(&stream);
            let below = End {
                input,
                output: Arc::default(),
                capacity: 0,
                chance: Mutex::new(fastrand::Rng::with_seed(8)),
            };
            let stranger = Compressed::new(below, Arc::clone(&kits), Origin::of(None));
            stranger.compress(Compression::S2Fast, 0, Vec::new());
            while !stranger.below.input.0.lock().is_empty() && stranger.damage().is_none() {
                assert!(read(&stranger, 1000).is_err());
            }
            stranger
        };
        // Whoever is refused finds out when it looks, without more having come.
        let is_refused = |stranger: &Compressed<End>| {
            let is_readable = stranger.poll_readable(&mut context()).is_ready();
            let is_refused = is_readable && read(stranger, 1000).is_err();
            assert_eq!(is_refused, stranger.damage().is_some());
            if is_refused {
                assert_eq!(stranger.damage(), Some(Damage::TooManyStrangers));
                let layer = stranger.layer().expect("compressed");
                let reading = layer.reading.lock();
                assert_eq!(reading.received.capacity() + reading.content.capacity(), 0);
            }
            is_refused
        };
        let count = ADDRESS_BYTES_MAX / STRANGERS_CONTENT_BYTES_MAX;
        let strangers: Vec<_> = (0..3 * count).map(|_| stranger()).collect();
        let (early, late): (Vec<_>, Vec<_>) = strangers.iter().partition(|it| is_refused(it));
        assert!(
            (count - 1..=count + 2).contains(&late.len()),
            "{}",
            late.len()
        );
        assert!(
            early
                .iter()
                .zip(&strangers)
                .all(|(one, other)| core::ptr::eq(*one, other))
        );
        // Whoever is let in is a stranger no more, and makes room.
        late[0].trust();
        let another = stranger();
        assert!(
            [late[0], late[1], &another]
                .into_iter()
                .all(|it| !is_refused(it))
        );
    }

    #[test]
    fn chunks_as_large_as_other_servers_may_write_are_read() {
        let (left, right) = End::pair(usize::MAX, 2);
        right.compress(Compression::S2Fast, 0, Vec::new());
        let content = vec![7; 1024 * 1024];
        let chunk = chunk(0x01, &content, &content);
        let mut rest = chunk.as_slice();
        let mut received = Vec::new();
        let mut chance = fastrand::Rng::with_seed(3);
        for _ in 0..100_000 {
            send(&left, &mut rest, &mut chance);
            received.extend(read(&right, 50_000).unwrap_or_default());
            if received.len() == content.len() {
                break;
            }
        }
        assert!(received == content);
    }
}
