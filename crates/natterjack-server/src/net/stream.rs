//! What a connection's driver needs of a byte stream, and TCP's way to give it.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::task::{Context, Poll};

use natterjack_wire::route::Compression;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A byte stream that can be read and written through a shared reference, without waiting.
pub(crate) trait Stream: Send + Sync + 'static {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_read(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Tells the peer that nothing more comes.
    fn shutdown_write(&self);

    /// Whether bytes that [`try_write`](Self::try_write) accepted still wait here for the peer to take them.
    fn is_unsent(&self) -> bool {
        false
    }

    /// Sends those bytes. Ready when none are left, or when none can be sent any more, which shows again in
    /// the write that follows.
    fn poll_sent(&self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Whether nothing passes in either direction, because TLS was not settled.
    fn is_held(&self) -> bool {
        false
    }

    /// Compresses, in both directions, what comes after `plain_bytes` more that are written, and after what was read. `unread`
    /// is compressed and was read already. Called again, it is about the effort alone.
    fn compress(&self, _mode: Compression, _plain_bytes: usize, _unread: Vec<u8>) {
        debug_assert!(false, "a stream that cannot compress");
    }

    /// The other side has been let in, and what it sends may take more memory.
    fn trust(&self) {}

    /// The socket, where there is one: a way to TLS.
    fn socket(&self) -> Option<&super::socket::Socket> {
        None
    }
}

/// Reads what the socket has, without waiting.
pub(super) fn try_read(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    try_io(socket, Interest::READABLE, buffer.len(), |mut socket| {
        socket.read(buffer)
    })
}

/// Reads what the socket has into several pieces, without waiting.
pub(super) fn try_read_vectored(
    socket: &TcpStream,
    slices: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    if let [first, second] = slices
        && first.is_empty()
    {
        return try_read(socket, second);
    }
    let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
    try_io(socket, Interest::READABLE, wanted, |mut socket| {
        socket.read_vectored(slices)
    })
}

/// Writes what the socket takes, without waiting.
pub(super) fn try_write(socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
    try_io(
        socket,
        Interest::WRITABLE,
        wanted,
        |mut socket| match slices {
            [only] => socket.write(only),
            slices => socket.write_vectored(slices),
        },
    )
}

/// One system call on the socket.
///
/// A call that moved less than it could have tells that the socket is now empty or full. The runtime is told
/// so at once, which spares the call that would only be refused: notifications are edge-triggered, so the
/// next change wakes the task in any case. (Tokio does the same in its own `AsyncRead`, which cannot be
/// used here because it needs the socket for itself.)
fn try_io(
    stream: &TcpStream,
    interest: Interest,
    wanted: usize,
    call: impl FnOnce(&socket2::Socket) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut moved = None;
    let result = stream.try_io(interest, || {
        let count = call(&SockRef::from(stream))?;
        if count == 0 || count == wanted {
            return Ok(count);
        }
        moved = Some(count);
        Err(ErrorKind::WouldBlock.into())
    });
    moved.map_or(result, Ok)
}
