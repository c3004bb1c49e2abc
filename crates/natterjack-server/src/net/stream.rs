//! What a connection's driver needs of a byte stream, and TCP's way to give it.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::task::{Context, Poll};

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
}

impl Stream for TcpStream {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(context)
    }

    fn try_read(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        try_io(
            self,
            Interest::READABLE,
            wanted,
            |mut socket| match slices {
                [first, second] if first.is_empty() => socket.read(second),
                slices => socket.read_vectored(slices),
            },
        )
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        try_io(
            self,
            Interest::WRITABLE,
            wanted,
            |mut socket| match slices {
                [only] => socket.write(only),
                slices => socket.write_vectored(slices),
            },
        )
    }

    fn shutdown_write(&self) {
        // The peer may be gone already; then there is nobody to tell.
        let _ = SockRef::from(self).shutdown(std::net::Shutdown::Write);
    }
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
