//! What a client of HTTP needs beside hyper, which knows neither tokio's streams nor how long an answer may be: the pages of
//! a server's monitoring and those of Puppet's authority are asked for with it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Incoming};
use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Read at once.
const READ_BYTES: usize = 16 * 1024;

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than it may be.
    #[error("it is too long")]
    TooLong,
    /// What came is no HTTP, or not all of it came.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// All of a body, if it has no more than so many bytes.
///
/// # Errors
/// If it has more, or does not come.
pub async fn collect(mut body: Incoming, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > bytes_max {
                return Err(BodyError::TooLong);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// A stream of tokio's for hyper.
#[derive(Debug)]
pub struct Adapter<S>(pub S);

impl<S: AsyncRead + Unpin> hyper::rt::Read for Adapter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Copied once more than necessary, because that needs no `unsafe`.
        let mut bytes = [0; READ_BYTES];
        let room = buffer.remaining().min(READ_BYTES);
        let mut read = ReadBuf::new(&mut bytes[..room]);
        let progress = Pin::new(&mut self.0).poll_read(context, &mut read);
        if let Poll::Ready(Ok(())) = progress {
            buffer.put_slice(read.filled());
        }
        progress
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Adapter<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
