//! What comes in: bytes in pieces, operations cut out of them, and where the start of an unfinished one stays.

use std::io::IoSliceMut;
use std::time::Instant;

use bytes::Bytes;
use natterjack_subject::is_valid_publish_subject;
use natterjack_wire::client::{self, ClientOp, Decoded, decode_client};
use natterjack_wire::error::{ErrorReply, ProtocolError};

use super::ClientSession;
use crate::close_reason::CloseReason;
use crate::delivery::rendering::Source;
use crate::delivery::worker::Worker;
use crate::limits::LARGE_FRAME_BYTES;
use crate::monitor::counters;

/// The start of an operation whose rest has not arrived. Owns no memory between operations.
#[derive(Default)]
pub(super) enum Partial {
    /// Nothing has arrived of the next operation.
    #[default]
    None,
    /// A few bytes, to be read on with the next ones in the worker's buffer. More only while a password is checked and
    /// nothing is read.
    Small(Vec<u8>),
    /// A large message, with a buffer of its own that is read into directly.
    Large(LargeFrame),
}

pub(super) struct LargeFrame {
    /// Initialised in full; `needed` bytes of it are the frame's.
    buffer: Vec<u8>,
    filled: usize,
    needed: usize,
}

/// Why a session stops in the middle of its input.
pub(super) enum Halt {
    /// With a last word to the client.
    Tell(ErrorReply<'static>, CloseReason),
    /// Without.
    Silent(CloseReason),
}

impl From<ProtocolError> for Halt {
    fn from(error: ProtocolError) -> Self {
        match error.reply() {
            Some(reply) => Self::Tell(reply, error.into()),
            None => Self::Silent(error.into()),
        }
    }
}

/// How far an input was carried out.
struct Carried {
    /// Where the first incomplete operation begins.
    end: usize,
    /// How many bytes that operation needs in all, as far as known.
    needed: usize,
}

/// Bytes read at once from a client that has not logged in. While its password is checked, what came with CONNECT waits
/// in memory, and strangers are not to fill it.
const LOGIN_READ_BYTES: usize = 16 * 1024;

/// A message of which this much, but not all, came in more than one read gets a buffer of its own.
const DRIPPING_BYTES: usize = 2 * 1024;

impl ClientSession {
    /// Where to read to next: the rest of a large message, if one is on its way, and then the worker's buffer.
    pub fn read_slices<'a>(&'a mut self, worker: &'a mut Worker) -> [IoSliceMut<'a>; 2] {
        let bytes_max = if self.auth_deadline.is_some() {
            self.read_bytes_max.min(LOGIN_READ_BYTES)
        } else {
            self.read_bytes_max
        };
        let buffer = &mut worker.buffer;
        match &mut self.partial {
            Partial::None => [
                IoSliceMut::new(&mut []),
                IoSliceMut::new(&mut buffer[..bytes_max]),
            ],
            Partial::Small(start) => {
                let end = (start.len() + bytes_max).min(buffer.len());
                let (before, rest) = buffer[..end].split_at_mut(start.len());
                before.copy_from_slice(start);
                [IoSliceMut::new(&mut []), IoSliceMut::new(rest)]
            }
            Partial::Large(large) => [
                IoSliceMut::new(&mut large.buffer[large.filled..large.needed]),
                IoSliceMut::new(&mut buffer[..bytes_max]),
            ],
        }
    }

    /// Handles `count` bytes that were read into [`read_slices`](Self::read_slices) with the same worker:
    /// carries out every complete operation, delivers, and flushes what was delivered to.
    pub fn handle_read(&mut self, count: usize, worker: &mut Worker, now: Instant) {
        self.adapt(now);
        // A new configuration may have ended the connection, or put into question who the client is.
        if self.outbox.is_closed() {
            return;
        }
        if self.is_checking() {
            self.put_aside(&worker.buffer, count);
            return;
        }
        self.forget_finished();
        let (messages_before, bytes_before) = (self.messages_in, self.bytes_in);
        let buffer = std::mem::take(&mut worker.buffer);
        let halt = self.read_operations(&buffer, count, worker, now).err();
        worker.buffer = buffer;
        self.end_read(halt, messages_before, bytes_before, worker, now);
    }

    fn end_read(
        &mut self,
        halt: Option<Halt>,
        messages_before: u64,
        bytes_before: u64,
        worker: &mut Worker,
        now: Instant,
    ) {
        if let Some(halt) = halt {
            self.halt(halt, worker);
        }
        let counters = &self.account.counters;
        counters::add(&counters.messages_in, self.messages_in - messages_before);
        counters::add(&counters.bytes_in, self.bytes_in - bytes_before);
        self.end_batch(worker, now);
        self.note();
    }

    /// Goes on after a wait, with what was read before it.
    pub(super) fn resume(&mut self, outcome: Result<(), Halt>, worker: &mut Worker, now: Instant) {
        self.adapt(now);
        let (messages_before, bytes_before) = (self.messages_in, self.bytes_in);
        let halt = outcome
            .and_then(|()| self.carry_out_kept(worker, now))
            .err();
        self.end_read(halt, messages_before, bytes_before, worker, now);
    }

    /// Keeps `count` bytes that were read, until it is known whether they are to be carried out.
    fn put_aside(&mut self, buffer: &[u8], mut count: usize) {
        self.partial = match std::mem::take(&mut self.partial) {
            Partial::None => Partial::Small(buffer[..count].to_vec()),
            Partial::Small(start) => Partial::Small(buffer[..start.len() + count].to_vec()),
            Partial::Large(mut large) => {
                let taken = count.min(large.needed - large.filled);
                large.filled += taken;
                count -= taken;
                if large.filled < large.needed {
                    Partial::Large(large)
                } else {
                    large.buffer.truncate(large.needed);
                    large.buffer.extend_from_slice(&buffer[..count]);
                    Partial::Small(large.buffer)
                }
            }
        };
    }

    fn carry_out_kept(&mut self, worker: &mut Worker, now: Instant) -> Result<(), Halt> {
        if self.is_checking() || self.outbox.is_closed() {
            return Ok(());
        }
        let kept = match std::mem::take(&mut self.partial) {
            Partial::Small(kept) => kept,
            other => {
                self.partial = other;
                return Ok(());
            }
        };
        let source = Source {
            input: &kept,
            shared: None,
        };
        let carried = self.carry_out(source, worker, now)?;
        self.partial = keep(&kept[carried.end..], carried.needed, false, worker);
        Ok(())
    }

    fn read_operations(
        &mut self,
        buffer: &[u8],
        mut count: usize,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        let start = match std::mem::take(&mut self.partial) {
            Partial::None => 0,
            Partial::Small(start) => start.len(),
            Partial::Large(mut large) => {
                let taken = count.min(large.needed - large.filled);
                large.filled += taken;
                count -= taken;
                if large.filled < large.needed {
                    self.partial = Partial::Large(large);
                    return Ok(());
                }
                self.carry_out_large(large, worker, now)?;
                self.began_under = None;
                0
            }
        };
        let input = &buffer[..start + count];
        let carried = self.carry_out(
            Source {
                input,
                shared: None,
            },
            worker,
            now,
        )?;
        let is_continued = start > 0 && carried.end == 0;
        self.partial = keep(&input[carried.end..], carried.needed, is_continued, worker);
        if !is_continued {
            self.began_under = None;
        }
        Ok(())
    }

    /// A large message is complete.
    fn carry_out_large(
        &mut self,
        large: LargeFrame,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        let bytes = Bytes::from(large.buffer);
        let source = Source {
            input: &bytes[..large.needed],
            shared: Some(&bytes),
        };
        let carried = self.carry_out(source, worker, now);
        // If every target took it at once, nobody else holds the buffer and the next large message gets it.
        if bytes.is_unique() {
            worker.spare_frame = Vec::from(bytes);
        }
        carried.map(|_| ())
    }

    /// Carries out the complete operations at the start of the input, up to the first fault.
    fn carry_out(
        &mut self,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<Carried, Halt> {
        let carried = self.carry_out_operations(source, worker, now);
        // What came before a fault is delivered all the same.
        self.finish_run(worker, source, true, now);
        worker.run.forget_route();
        carried
    }

    fn carry_out_operations(
        &mut self,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<Carried, Halt> {
        let mut limits = self.input_limits();
        let trace = tracing::enabled!(tracing::Level::TRACE);
        let input = source.input;
        let mut end = 0;
        while end < input.len() {
            if self.auth_deadline.is_some() && !input[end].eq_ignore_ascii_case(&b'C') {
                self.skip_connect(now)?;
                limits = self.input_limits();
            }
            if !trace && let Some((consumed, body_len)) = worker.run.repeat(input, end) {
                self.messages_in += 1;
                self.bytes_in += body_len as u64;
                end += consumed;
                continue;
            }
            let decoded = decode_client(&input[end..], &limits)
                .map_err(|error| self.fault(error, end, source, worker, now))?;
            if trace && let Decoded::Op { op, .. } = &decoded {
                self.trace_in(op);
            }
            match decoded {
                Decoded::Op {
                    op: ClientOp::Publish(publish),
                    consumed,
                } => {
                    self.handle_publish(&publish, end, source, worker, now);
                    end += consumed;
                }
                Decoded::Op { op, consumed } => {
                    self.finish_run(worker, source, false, now);
                    // The operation may change who receives what comes next.
                    worker.run.forget_route();
                    self.handle_operation(&op, worker, now)?;
                    limits = self.input_limits();
                    end += consumed;
                    if self.is_checking() {
                        return Ok(Carried { end, needed: 0 });
                    }
                }
                Decoded::Incomplete { needed } => return Ok(Carried { end, needed }),
            }
        }
        Ok(Carried { end, needed: 0 })
    }

    /// Bounds on operations.
    fn input_limits(&self) -> client::Limits {
        let limits = &self.config.limits;
        let before = self
            .began_under
            .as_ref()
            .map_or(limits, |config| &config.limits);
        client::Limits {
            control_line_bytes_max: limits
                .control_line_bytes_max
                .max(before.control_line_bytes_max),
            payload_bytes_max: self
                .payload_bytes_max(limits.payload_bytes_max.max(before.payload_bytes_max)),
            headers: self.rules.headers,
        }
    }

    /// What a fault of the client's comes to.
    fn fault(
        &self,
        error: ProtocolError,
        at: usize,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Halt {
        // As on nats-server, whose pedantic look at a subject comes before the end of the message.
        if error == ProtocolError::PayloadTerminator && self.rules.pedantic {
            self.finish_run(worker, source, false, now);
            let mut words = source.input[at..]
                .split(|&byte| is_blank(byte))
                .filter(|word| !word.is_empty());
            if words
                .nth(1)
                .is_some_and(|subject| !is_valid_publish_subject(subject))
            {
                self.reply_error(&ErrorReply::InvalidPublishSubject, worker);
            }
        }
        tracing::error!("{} - {error}", self.label());
        error.into()
    }

    fn halt(&self, halt: Halt, worker: &mut Worker) {
        let reason = match halt {
            Halt::Tell(reply, reason) => {
                self.reply_error(&reply, worker);
                reason
            }
            Halt::Silent(reason) => reason,
        };
        self.outbox.close(reason);
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Keeps the start of an operation until its rest arrives.
fn keep(rest: &[u8], needed: usize, is_continued: bool, worker: &mut Worker) -> Partial {
    if rest.is_empty() {
        return Partial::None;
    }
    // A message that comes in dribs and drabs must not be copied with each of them.
    let is_dripping = is_continued && needed > rest.len() + 1 && rest.len() > DRIPPING_BYTES;
    if needed <= LARGE_FRAME_BYTES && !is_dripping {
        return Partial::Small(rest.to_vec());
    }
    let spare = std::mem::take(&mut worker.spare_frame);
    // Fresh zeros come from the system untouched, so a client that announces a large message and sends nothing
    // of it costs address space. A spare one has been touched, and whoever queues a part of it keeps all of it:
    // it must not be much larger than the frame.
    let is_fitting = (needed..=needed * 2).contains(&spare.len());
    let mut buffer = if is_fitting { spare } else { vec![0; needed] };
    buffer[..rest.len()].copy_from_slice(rest);
    Partial::Large(LargeFrame {
        buffer,
        filled: rest.len(),
        needed,
    })
}
