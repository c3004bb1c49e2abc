//! Standard output, written by a thread of its own, and notes to the user on standard error.
//!
//! The thread lets a command go on, and be interrupted, while whoever reads our output does not. It flushes when it
//! has written all there is, so output is prompt without a system call per line.

use std::fmt;
use std::io::{self, BufWriter, Write};

use tokio::sync::{mpsc, oneshot};

use crate::escape::lines_escaped;

/// Chunks on their way to the thread. With the window of `bus` this bounds what a slow reader keeps in memory.
const CHUNKS_MAX: usize = 256;

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub(crate) struct Failed(#[source] pub(crate) io::Error);

/// Standard output. There should be one.
pub(crate) struct Output {
    chunks: mpsc::Sender<Vec<u8>>,
    end: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    pub(crate) fn start() -> Self {
        let (chunks, receiver) = mpsc::channel(CHUNKS_MAX);
        let (sender, end) = oneshot::channel();
        std::thread::spawn(move || {
            let result = copy(receiver, BufWriter::new(io::stdout().lock()));
            // Nobody may be waiting any more.
            let _ = sender.send(result);
        });
        Self { chunks, end }
    }

    /// Hands a chunk over; waits while too many are on their way.
    ///
    /// # Errors
    /// If an earlier chunk could not be written.
    pub(crate) async fn write(&mut self, chunk: Vec<u8>) -> Result<(), Failed> {
        if self.chunks.send(chunk).await.is_ok() {
            return Ok(());
        }
        Err(Failed(match (&mut self.end).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => io::ErrorKind::BrokenPipe.into(),
        }))
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// If it cannot be.
    pub(crate) async fn finish(self) -> Result<(), Failed> {
        drop(self.chunks);
        self.end.await.unwrap_or(Ok(())).map_err(Failed)
    }
}

fn copy(mut chunks: mpsc::Receiver<Vec<u8>>, mut sink: impl Write) -> io::Result<()> {
    while let Some(chunk) = chunks.blocking_recv() {
        sink.write_all(&chunk)?;
        while let Ok(chunk) = chunks.try_recv() {
            sink.write_all(&chunk)?;
        }
        sink.flush()?;
    }
    Ok(())
}

/// Tells the user something, on standard error. Who closes that does not want to know. What servers and files say may be in
/// it, so nothing of it but the ends of lines does anything to a terminal.
pub(crate) fn note(text: fmt::Arguments<'_>) {
    say(format_args!("natterjack: {text}"));
}

/// As [`note`], without the name in front: for what is part of a command's normal course.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    let text = lines_escaped(&text.to_string());
    let _ = writeln!(io::stderr().lock(), "{text}");
}
