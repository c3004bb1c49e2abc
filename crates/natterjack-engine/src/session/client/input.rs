//! What comes in: operations cut out of the bytes, and how they end if one is at fault.

use std::io::IoSliceMut;
use std::time::Instant;

use natterjack_subject::is_valid_publish_subject;
use natterjack_wire::client::{self, ClientOp, Decoded, decode_client};
use natterjack_wire::error::{ErrorReply, ProtocolError};

use super::ClientSession;
use crate::close_reason::CloseReason;
use crate::delivery::rendering::Source;
use crate::delivery::worker::Worker;
use crate::monitor::counters;
use crate::session::intake::{Carried, Partial, Reader, carry_out_kept, read_operations};

/// Why a session stops in the middle of its input.
pub(in crate::session) enum Halt {
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

/// Bytes read at once from a client that has not logged in. While its password is checked, what came with CONNECT waits
/// in memory, and strangers are not to fill it.
const LOGIN_READ_BYTES: usize = 16 * 1024;

impl Reader for ClientSession {
    type Halt = Halt;

    #[inline]
    fn partial(&mut self) -> &mut Partial {
        &mut self.partial
    }

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

    #[inline]
    fn finished_partial(&mut self) {
        self.began_under = None;
    }
}

impl ClientSession {
    /// Where to read to next: the rest of a large message, if one is on its way, and then the worker's buffer.
    pub fn read_slices<'a>(&'a mut self, worker: &'a mut Worker) -> [IoSliceMut<'a>; 2] {
        let bytes_max = if self.auth_deadline.is_some() {
            self.stall.read_bytes_max().min(LOGIN_READ_BYTES)
        } else {
            self.stall.read_bytes_max()
        };
        self.partial.read_slices(&mut worker.buffer, bytes_max)
    }

    /// Handles `count` bytes that were read into [`read_slices`](Self::read_slices) with the same worker:
    /// carries out every complete operation, delivers, and flushes what was delivered to.
    pub fn handle_read(&mut self, count: usize, worker: &mut Worker, now: Instant) {
        self.adapt(now);
        // A new configuration may have ended the connection, or put into question who the client is.
        if self.outbox.is_closed() || self.is_turned_away {
            return;
        }
        if self.is_checking() {
            self.partial.put_aside(&worker.buffer, count);
            return;
        }
        self.forget_finished();
        let (messages_before, bytes_before) = (self.messages_in, self.bytes_in);
        let buffer = std::mem::take(&mut worker.buffer);
        let halt = read_operations(self, &buffer, count, worker, now).err();
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
            self.halt(halt, worker, now);
        }
        let messages = self.messages_in - messages_before;
        let bytes = self.bytes_in - bytes_before;
        let counters = &self.account.counters;
        counters::add(&counters.messages_in, messages);
        counters::add(&counters.bytes_in, bytes);
        let large_read_bytes = self.config.limits.large_messages_read_bytes();
        self.stall.size_up(messages, bytes, large_read_bytes);
        // Before anybody hears of the batch, so that whoever has been answered finds on the pages what it did.
        self.note();
        self.end_batch(worker, now);
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

    fn carry_out_kept(&mut self, worker: &mut Worker, now: Instant) -> Result<(), Halt> {
        if self.is_checking() || self.outbox.is_closed() {
            return Ok(());
        }
        carry_out_kept(self, worker, now)
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
        if error == ProtocolError::UnknownOperation
            && let Some(halt) = self.route_by_words(&source.input[at..], now)
        {
            return halt;
        }
        self.tell_of_fault(error, &source.input[at..], now);
        error.into()
    }

    fn halt(&mut self, halt: Halt, worker: &mut Worker, now: Instant) {
        let reason = match halt {
            Halt::Tell(_, CloseReason::WrongPort) => return self.turn_away(now),
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
