//! What lines are written to, and lines on their way there.

use std::io::{self, Write as _};

use super::file::LogFile;
use super::layout::Layout;
use super::syslog::Syslog;
use super::{LogError, Target};

/// Whole lines, one after the other.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

/// Why a sink has not taken all lines.
#[derive(Debug)]
pub(super) struct WriteFailure {
    /// Lines that were written whole.
    pub(super) lines_written: usize,
    pub(super) error: io::Error,
}

/// Where lines end up. Only the writer's thread calls it.
pub(super) trait Sink: Send {
    /// Writes these lines in order, and stops at the first that cannot be written.
    fn write(&mut self, lines: &Lines, layout: &Layout) -> Result<(), WriteFailure>;

    /// Called once before the first line, when the sink before this one is done.
    fn settle(&mut self) {}

    /// Whether standard error could tell of this one's troubles.
    fn is_stderr(&self) -> bool {
        false
    }
}

pub(super) fn open(target: &Target) -> Result<Box<dyn Sink>, LogError> {
    Ok(match target {
        Target::Stderr => Box::new(Stderr::default()),
        Target::File {
            path,
            bytes_max,
            files_max,
        } => Box::new(
            LogFile::open(path, *bytes_max, *files_max).map_err(|source| LogError::File {
                path: path.clone(),
                source,
            })?,
        ),
        Target::Syslog => Box::new(Syslog::local().map_err(LogError::Syslog)?),
        Target::RemoteSyslog(address) => {
            let parsed = address.parse()?;
            Box::new(
                Syslog::connect(parsed).map_err(|source| LogError::RemoteSyslog {
                    address: address.clone(),
                    source,
                })?,
            )
        }
    })
}

impl Lines {
    pub(super) fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Lines that end at or before this byte.
    pub(super) fn lines_within(&self, bytes: usize) -> usize {
        self.ends.partition_point(|end| *end <= bytes)
    }

    /// The first line's end behind this byte: a writer that must stop between lines writes up to there.
    pub(super) fn end_after(&self, bytes: usize) -> usize {
        let line = self.ends.partition_point(|end| *end <= bytes);
        self.ends.get(line).copied().unwrap_or(self.bytes.len())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.bytes[start..*end])
    }

    /// Forgets all lines, and keeps some room for the next ones.
    pub(super) fn clear(&mut self) {
        const KEPT_BYTES_MAX: usize = 64 * 1024;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.ends.clear();
        self.ends.shrink_to(KEPT_BYTES_MAX / 64);
    }
}

/// `write_all` that says how far it came.
pub(super) fn write_fully(
    writer: &mut impl io::Write,
    bytes: &[u8],
) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match writer.write(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// Standard error. A line that was cut by a failure is ended before the next one.
#[derive(Default)]
struct Stderr {
    is_torn: bool,
}

impl Sink for Stderr {
    fn write(&mut self, lines: &Lines, _layout: &Layout) -> Result<(), WriteFailure> {
        let failure = |written, error| WriteFailure {
            lines_written: lines.lines_within(written),
            error,
        };
        let mut stderr = io::stderr().lock();
        if self.is_torn {
            stderr.write_all(b"\n").map_err(|error| failure(0, error))?;
            self.is_torn = false;
        }
        write_fully(&mut stderr, lines.bytes()).map_err(|(written, error)| {
            self.is_torn = written > 0 && lines.bytes()[written - 1] != b'\n';
            failure(written, error)
        })
    }

    fn is_stderr(&self) -> bool {
        true
    }
}
