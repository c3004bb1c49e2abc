//! A client's socket: clear text, held back while it is decided how to go on, or encrypted.
//!
//! A session exists from the first moment, and whoever delivers to it writes at any time. While TLS is being
//! settled writes are refused as if the socket were full, and so wait in the session's outbox.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::secured::Secured;
use super::stream::{self, Stream};

/// See the module.
pub(crate) struct Socket {
    tcp: TcpStream,
    stage: AtomicU8,
    secured: OnceLock<Box<Secured>>,
}

/// Bytes pass as they are.
const CLEAR: u8 = 0;
/// No byte passes.
const HELD: u8 = 1;
/// Bytes pass through `secured`.
const SECURED: u8 = 2;

impl Socket {
    /// A socket that passes bytes as they are, or one that does not let any pass yet.
    pub(crate) fn new(tcp: TcpStream, is_held: bool) -> Self {
        Self {
            tcp,
            stage: AtomicU8::new(if is_held { HELD } else { CLEAR }),
            secured: OnceLock::new(),
        }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Lets no byte pass any more.
    pub(super) fn hold(&self) {
        self.stage.store(HELD, Ordering::Release);
    }

    /// Lets bytes pass as they are again.
    pub(super) fn let_clear(&self) {
        self.stage.store(CLEAR, Ordering::Release);
    }

    /// Lets bytes pass encrypted from now on.
    pub(super) fn secure(&self, secured: Secured) {
        if self.secured.set(Box::new(secured)).is_ok() {
            self.stage.store(SECURED, Ordering::Release);
        }
    }

    /// How the peer broke TLS after the handshake.
    pub(super) fn tls_failure(&self) -> Option<rustls::Error> {
        self.secured()?.failure()
    }

    fn secured(&self) -> Option<&Secured> {
        self.secured.get().map(Box::as_ref)
    }
}

impl Stream for Socket {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.secured().is_some_and(Secured::is_buffered) {
            return Poll::Ready(Ok(()));
        }
        self.tcp.poll_read_ready(context)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(context));
        self.tcp.poll_write_ready(context)
    }

    fn try_read(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self.secured() {
            None => stream::try_read_vectored(&self.tcp, slices),
            Some(secured) => secured.try_read(&self.tcp, slices),
        }
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self.stage.load(Ordering::Acquire), self.secured()) {
            (CLEAR, _) => stream::try_write(&self.tcp, slices),
            (SECURED, Some(secured)) => secured.try_write(&self.tcp, slices),
            _ => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn shutdown_write(&self) {
        if let Some(secured) = self.secured() {
            secured.close(&self.tcp);
        }
        // The peer may be gone already; then there is nobody to tell.
        let _ = SockRef::from(&self.tcp).shutdown(std::net::Shutdown::Write);
    }

    fn is_unsent(&self) -> bool {
        self.secured().is_some_and(Secured::is_unsent)
    }

    fn poll_sent(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(secured) = self.secured() else {
            return Poll::Ready(());
        };
        while secured.is_unsent() {
            if ready!(self.tcp.poll_write_ready(context)).is_err()
                || secured.send(&self.tcp).is_err()
            {
                break;
            }
        }
        Poll::Ready(())
    }

    fn is_held(&self) -> bool {
        self.stage.load(Ordering::Acquire) == HELD
    }

    fn socket(&self) -> Option<&Socket> {
        Some(self)
    }
}
