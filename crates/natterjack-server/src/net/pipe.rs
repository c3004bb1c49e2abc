//! A byte stream inside the process: the server's end is a [`Stream`] like any socket, the client's end reads
//! and writes asynchronously. Each direction holds a bounded number of bytes.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// Bytes one direction holds before its writer must wait: about what a socket buffer takes.
const CAPACITY: usize = 256 * 1024;

/// Makes the two ends.
pub(crate) fn pipe() -> (ServerEnd, ClientEnd) {
    let (to_server, to_client) = (Arc::<Channel>::default(), Arc::<Channel>::default());
    let server = ServerEnd {
        input: Arc::clone(&to_server),
        output: Arc::clone(&to_client),
    };
    (
        server,
        ClientEnd {
            input: to_client,
            output: to_server,
        },
    )
}

#[derive(Debug, Default)]
struct Channel(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    is_closed: bool,
    reader: Option<Waker>,
    /// Several, since clones of a client write from several tasks.
    writers: Vec<Waker>,
}

impl Channel {
    fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if !state.bytes.is_empty() || state.is_closed {
            return Poll::Ready(());
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_writable(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.bytes.len() < CAPACITY || state.is_closed {
            return Poll::Ready(());
        }
        if !state
            .writers
            .iter()
            .any(|known| known.will_wake(context.waker()))
        {
            state.writers.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Takes bytes out; 0 at the end of the stream.
    fn try_read(&self, mut take: impl FnMut(&[u8]) -> usize) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.bytes.is_empty() {
            return if state.is_closed {
                Ok(0)
            } else {
                Err(ErrorKind::WouldBlock.into())
            };
        }
        let count = take(&state.bytes);
        state.bytes.advance(count);
        if state.bytes.is_empty() {
            // A quiet connection keeps no buffer.
            state.bytes = BytesMut::new();
        }
        let writers = std::mem::take(&mut state.writers);
        drop(state);
        writers.into_iter().for_each(Waker::wake);
        Ok(count)
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.is_closed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut count = 0;
        for slice in slices {
            let room = CAPACITY.saturating_sub(state.bytes.len());
            let fits = room.min(slice.len());
            state.bytes.extend_from_slice(&slice[..fits]);
            count += fits;
            if fits < slice.len() {
                break;
            }
        }
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Ok(count)
    }

    fn close(&self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        let reader = state.reader.take();
        let writers = std::mem::take(&mut state.writers);
        drop(state);
        reader.into_iter().chain(writers).for_each(Waker::wake);
    }
}

/// The server's end.
#[derive(Debug)]
pub(crate) struct ServerEnd {
    input: Arc<Channel>,
    output: Arc<Channel>,
}

impl Stream for ServerEnd {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.poll_readable(context).map(Ok)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.poll_writable(context).map(Ok)
    }

    fn try_read(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.input.try_read(|mut bytes| {
            let mut count = 0;
            for slice in &mut *slices {
                let fits = bytes.len().min(slice.len());
                slice[..fits].copy_from_slice(&bytes[..fits]);
                bytes = &bytes[fits..];
                count += fits;
            }
            count
        })
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.output.try_write(slices)
    }

    fn shutdown_write(&self) {
        self.output.close();
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        self.input.close();
        self.output.close();
    }
}

impl ClientEnd {
    /// Takes the writing half away; what is left only reads.
    pub(crate) fn split(self) -> (ClientReader, ClientWriter) {
        let writer = ClientWriter(Arc::clone(&self.output));
        (ClientReader(self), writer)
    }
}

/// The reading half of a client's end. The connection ends when it is dropped.
#[derive(Debug)]
pub(crate) struct ClientReader(pub(crate) ClientEnd);

/// The writing half of a client's end. The server sees the end of the stream when it is dropped.
#[derive(Debug)]
pub(crate) struct ClientWriter(Arc<Channel>);

impl ClientWriter {
    /// Writes what fits without waiting, and takes it off the front of `bytes`. Returns `false` if the server
    /// has closed the connection.
    pub(crate) fn try_write(&self, bytes: &mut Vec<u8>) -> bool {
        match self.0.try_write(&[IoSlice::new(bytes)]) {
            Ok(count) => {
                bytes.drain(..count);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// Waits until something fits, or the connection is closed.
    pub(crate) async fn writable(&self) {
        std::future::poll_fn(|context| self.0.poll_writable(context)).await;
    }
}

impl Drop for ClientWriter {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The client's end.
#[derive(Debug)]
pub(crate) struct ClientEnd {
    input: Arc<Channel>,
    output: Arc<Channel>,
}

impl AsyncRead for ClientEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.input.poll_readable(context).is_pending() {
                return Poll::Pending;
            }
            let read = self.input.try_read(|bytes| {
                let fits = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes[..fits]);
                fits
            });
            if !matches!(&read, Err(error) if error.kind() == ErrorKind::WouldBlock) {
                return Poll::Ready(read.map(drop));
            }
        }
    }
}

impl AsyncWrite for ClientEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.output.poll_writable(context).is_pending() {
                return Poll::Pending;
            }
            let written = self.output.try_write(&[IoSlice::new(bytes)]);
            if bytes.is_empty()
                || !matches!(&written, Err(error) if error.kind() == ErrorKind::WouldBlock)
            {
                return Poll::Ready(if bytes.is_empty() { Ok(0) } else { written });
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.input.close();
        self.output.close();
    }
}
