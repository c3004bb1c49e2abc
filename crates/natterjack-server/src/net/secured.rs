//! An encrypted connection after its handshake: plaintext on one side, the socket on the other.
//!
//! Any thread writes, the connection's own task reads; one lock guards the keys and what is between the two
//! sides. What a write has encrypted cannot be taken back, and the socket may not take it all: the rest, no
//! more than [`CIPHERTEXT_BYTES_MAX`], stays here, nothing more is accepted before it is gone, and the
//! connection's own task sends it when the socket is ready ([`Secured::is_unsent`]).

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustls::{Connection, Error};
use tokio::net::TcpStream;

use super::slices::{Filling, window};
use super::stream;

/// Plaintext encrypted at one time, and so about the most ciphertext that waits for the socket: four records.
const CIPHERTEXT_BYTES_MAX: usize = 64 * 1024;

/// Ciphertext read from the socket at one time.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Buffers kept for the next read; one is in use per thread that reads.
const SCRATCH_MAX: usize = 16;

/// Buffers for ciphertext on its way from a socket to its connection, so that idle connections own none.
#[derive(Default)]
pub(crate) struct Scratch(Mutex<Vec<Box<[u8]>>>);

impl Scratch {
    fn with<R>(&self, use_it: impl FnOnce(&mut [u8]) -> R) -> R {
        let kept = self.0.lock().pop();
        let mut buffer = kept.unwrap_or_else(|| vec![0; READ_BYTES_MAX].into_boxed_slice());
        let result = use_it(&mut buffer);
        let mut kept = self.0.lock();
        if kept.len() < SCRATCH_MAX {
            kept.push(buffer);
        }
        result
    }
}

/// See the module.
pub(super) struct Secured {
    state: Mutex<State>,
    /// Ciphertext waits for the socket. Written under the lock.
    is_unsent: AtomicBool,
    /// A read may find something without the socket having more. Written under the lock.
    is_buffered: AtomicBool,
    scratch: Arc<Scratch>,
}

struct State {
    connection: Connection,
    /// Ciphertext that was read when there was no room for its plaintext.
    unread: Vec<u8>,
    /// The peer broke TLS; told by the read after the last good bytes.
    failed: Option<Error>,
}

impl Secured {
    /// `unread` is ciphertext that came with the end of the handshake.
    pub(super) fn new(
        connection: impl Into<Connection>,
        unread: Vec<u8>,
        scratch: Arc<Scratch>,
    ) -> Self {
        let connection = connection.into();
        let is_unsent = connection.wants_write();
        Self {
            state: Mutex::new(State {
                connection,
                unread,
                failed: None,
            }),
            is_unsent: AtomicBool::new(is_unsent),
            // What came with the last message of the handshake is inside `connection`.
            is_buffered: AtomicBool::new(true),
            scratch,
        }
    }

    /// Whether [`send`](Self::send) has something to do as soon as the socket takes bytes.
    pub(super) fn is_unsent(&self) -> bool {
        self.is_unsent.load(Ordering::Acquire)
    }

    /// Whether there may be something to read although the socket has nothing.
    pub(super) fn is_buffered(&self) -> bool {
        self.is_buffered.load(Ordering::Acquire)
    }

    /// Writes ciphertext that waits, until none is left or the socket takes no more.
    pub(super) fn send(&self, socket: &TcpStream) -> io::Result<()> {
        let mut state = self.state.lock();
        let result = state.send(socket);
        self.note_unsent(&state);
        result.map(drop)
    }

    /// Encrypts and writes as much as the socket takes; what it takes only in part counts as written.
    pub(super) fn try_write(
        &self,
        socket: &TcpStream,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let mut state = self.state.lock();
        let result = state.write(socket, slices);
        self.note_unsent(&state);
        result
    }

    /// Reads and decrypts until the slices are full or the socket has no more.
    pub(super) fn try_read(
        &self,
        socket: &TcpStream,
        slices: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        let mut state = self.state.lock();
        let mut output = Filling::new(slices);
        let result = state.read(socket, &mut output, &self.scratch);
        // An answer that TLS itself requires, such as an alert.
        let _ = state.send(socket);
        self.note_unsent(&state);
        let is_more = output.is_full() || !state.unread.is_empty();
        match result {
            // First what is good; the end is found again by the next read.
            Ok(end) if output.filled > 0 => {
                self.is_buffered
                    .store(is_more || end == Some(End::Peer), Ordering::Release);
                // A socket that takes nothing any more shows again in the next write.
                Ok(output.filled)
            }
            Ok(end) => {
                self.is_buffered.store(is_more, Ordering::Release);
                match end {
                    Some(End::Peer) => Ok(0),
                    None => Err(ErrorKind::WouldBlock.into()),
                }
            }
            Err(_) if output.filled > 0 => {
                self.is_buffered.store(true, Ordering::Release);
                Ok(output.filled)
            }
            Err(error) => Err(error),
        }
    }

    /// Tells the peer that nothing more comes, as far as the socket takes it.
    pub(super) fn close(&self, socket: &TcpStream) {
        let mut state = self.state.lock();
        state.connection.send_close_notify();
        // Whoever takes no bytes any more is not told.
        let _ = state.send(socket);
    }

    /// How the peer broke TLS.
    pub(super) fn failure(&self) -> Option<Error> {
        self.state.lock().failed.clone()
    }

    fn note_unsent(&self, state: &State) {
        self.is_unsent
            .store(state.connection.wants_write(), Ordering::Release);
    }
}

/// How reading came to an end before the slices were full.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The peer sends nothing more.
    Peer,
}

/// Whether everything that waited was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    All,
    Part,
}

impl State {
    fn send(&mut self, socket: &TcpStream) -> io::Result<Sent> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Sink(socket)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Sent::Part),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Sent::All)
    }

    fn write(&mut self, socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut accepted = 0;
        while accepted < offered {
            match self.send(socket) {
                Ok(Sent::All) => {}
                Ok(Sent::Part) => break,
                // Told by the next write; these bytes are gone like any in a socket's buffer.
                Err(_) if accepted > 0 => return Ok(accepted),
                Err(error) => return Err(error),
            }
            let mut writer = self.connection.writer();
            let count = if accepted == 0 && offered <= CIPHERTEXT_BYTES_MAX {
                writer.write_vectored(slices)?
            } else {
                writer.write_vectored(&window(slices, accepted, CIPHERTEXT_BYTES_MAX))?
            };
            if count == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            accepted += count;
        }
        if accepted == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        match self.send(socket) {
            Ok(_) => Ok(accepted),
            Err(error) => Err(error),
        }
    }

    fn read(
        &mut self,
        socket: &TcpStream,
        output: &mut Filling<'_, '_>,
        scratch: &Scratch,
    ) -> io::Result<Option<End>> {
        if self.failed.is_some() {
            return Err(ErrorKind::InvalidData.into());
        }
        if self.take_plaintext(output)? == Some(End::Peer) {
            return Ok(Some(End::Peer));
        }
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            self.decrypt(&unread, output)?;
        }
        scratch.with(|buffer| {
            while !output.is_full() && self.unread.is_empty() {
                let wanted = output.room().clamp(4096, buffer.len());
                let count = match stream::try_read(socket, &mut buffer[..wanted]) {
                    Ok(0) => return Ok(Some(End::Peer)),
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                if self.decrypt(&buffer[..count], output)? == Some(End::Peer) {
                    return Ok(Some(End::Peer));
                }
                // A short read has emptied the socket.
                if count < wanted && output.filled > 0 {
                    break;
                }
            }
            Ok(None)
        })
    }

    /// Feeds ciphertext and takes plaintext, until the ciphertext is used up or there is no room.
    fn decrypt(
        &mut self,
        mut ciphertext: &[u8],
        output: &mut Filling<'_, '_>,
    ) -> io::Result<Option<End>> {
        while !ciphertext.is_empty() {
            if output.is_full() {
                self.unread = ciphertext.to_vec();
                return Ok(None);
            }
            let fed = self.connection.read_tls(&mut ciphertext);
            let taken = self.connection.process_new_packets();
            let (Ok(fed), Ok(_)) = (fed, &taken) else {
                self.failed = Some(taken.err().unwrap_or(Error::HandshakeNotComplete));
                // What came before it is good.
                self.take_plaintext(output)?;
                return Err(ErrorKind::InvalidData.into());
            };
            if self.take_plaintext(output)? == Some(End::Peer) || fed == 0 {
                return Ok(Some(End::Peer));
            }
        }
        Ok(None)
    }

    /// Moves decrypted bytes to where they are wanted.
    fn take_plaintext(&mut self, output: &mut Filling<'_, '_>) -> io::Result<Option<End>> {
        let mut reader = self.connection.reader();
        while let Some(target) = output.next() {
            match reader.read(target) {
                Ok(0) => return Ok(Some(End::Peer)),
                Ok(count) => output.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// The socket as rustls wants to write to it.
pub(super) struct Sink<'a>(pub(super) &'a TcpStream);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        stream::try_write(self.0, slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
