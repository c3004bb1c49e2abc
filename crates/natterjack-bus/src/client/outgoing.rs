//! What waits to be written to the server: whole operations, put in by any task, taken out by the one that has the
//! connection, all at once. So the busier a connection is, the more goes into one write.

use std::task::{Context, Waker};

use natterjack_wire::client::{ClientOp, Decoded, Limits, decode_client};
use parking_lot::Mutex;

/// Buffers larger than this are given back when they are empty.
const KEPT_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Outgoing {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    operations: Vec<u8>,
    /// Who takes them out, if it waits for more.
    writer: Option<Waker>,
    is_closed: bool,
}

impl Outgoing {
    /// Appends what `write` appends, which must be whole operations. `false`: it is closed, and nothing was done.
    pub(super) fn put(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        if state.is_closed {
            return false;
        }
        write(&mut state.operations);
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        true
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.state.lock().operations.len()
    }

    /// No more will be put in. What is there may still be taken out.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Takes everything out, in exchange for an empty buffer. If there is nothing the task is woken once there is.
    pub(super) fn take(&self, context: &Context<'_>, empty: &mut Vec<u8>) -> Taken {
        let mut state = self.state.lock();
        if !state.operations.is_empty() {
            std::mem::swap(&mut state.operations, empty);
            return Taken::Some;
        }
        if state.is_closed {
            return Taken::Closed;
        }
        match &mut state.writer {
            Some(writer) => writer.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Taken::Nothing
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Some,
    Nothing,
    /// And never again.
    Closed,
}

/// Operations that are being written. They stay until all of them are.
#[derive(Default)]
pub(super) struct Writing {
    operations: Vec<u8>,
    written: usize,
}

impl Writing {
    pub(super) fn rest(&self) -> &[u8] {
        &self.operations[self.written..]
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Whole operations, behind what is there.
    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.operations);
    }

    /// Refills it once everything is written.
    pub(super) fn refill(&mut self, outgoing: &Outgoing, context: &Context<'_>) -> Taken {
        self.operations.clear();
        self.written = 0;
        if self.operations.capacity() > KEPT_BYTES_MAX {
            self.operations = Vec::new();
        }
        outgoing.take(context, &mut self.operations)
    }

    /// After a connection broke: keeps the messages of which the server cannot have got the whole, so that they may be
    /// sent again, behind `greeting`. What was written to the end may have arrived.
    pub(super) fn start_over(&mut self, greeting: Vec<u8>) {
        let limits = Limits {
            control_line_bytes_max: usize::MAX,
            payload_bytes_max: usize::MAX,
            headers: true,
        };
        let (old, written) = (std::mem::take(&mut self.operations), self.written);
        *self = Self {
            operations: greeting,
            written: 0,
        };
        let mut start = 0;
        // Our own bytes: they are whole operations.
        while let Ok(Decoded::Op { op, consumed }) = decode_client(&old[start..], &limits) {
            let end = start + consumed;
            if end > written && matches!(op, ClientOp::Publish(_)) {
                self.operations.extend_from_slice(&old[start..end]);
            }
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use natterjack_wire::client::{ping, publish, subscribe};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_put_in_comes_out_at_once_and_in_order() {
        let context = Context::from_waker(Waker::noop());
        let outgoing = Outgoing::default();
        let mut writing = Writing::default();
        assert_eq!(writing.refill(&outgoing, &context), Taken::Nothing);
        assert!(outgoing.put(|out| publish(out, b"a", None, b"1")));
        assert!(outgoing.put(ping));
        assert_eq!(outgoing.bytes(), 18);
        assert_eq!(writing.refill(&outgoing, &context), Taken::Some);
        assert_eq!(writing.rest(), b"PUB a 1\r\n1\r\nPING\r\n");
        writing.advance(4);
        assert_eq!(writing.rest(), b"a 1\r\n1\r\nPING\r\n");
        assert!(outgoing.put(ping));
        outgoing.close();
        assert!(!outgoing.put(ping));
        assert_eq!(writing.refill(&outgoing, &context), Taken::Some);
        assert_eq!(writing.refill(&outgoing, &context), Taken::Closed);
    }

    proptest! {
        #[test]
        fn a_broken_connection_costs_what_was_written_to_the_end(sizes in prop::collection::vec(0_usize..40, 1..20), cut in 0.0..1.0) {
            let mut writing = Writing::default();
            let mut ends = Vec::new();
            writing.append(|out| subscribe(out, b"s", None, b"1"));
            for (number, size) in sizes.iter().enumerate() {
                let payload = format!("{number}{}", "\r\nPUB a 1\r\n".repeat(*size));
                writing.append(|out| publish(out, b"s", None, payload.as_bytes()));
                ends.push((writing.operations.len(), payload));
                writing.append(ping);
            }
            writing.advance((writing.operations.len() as f64 * cut) as usize);
            let written = writing.written;
            writing.start_over(b"HELLO".to_vec());
            let mut expected = b"HELLO".to_vec();
            for (_, payload) in ends.iter().filter(|(end, _)| *end > written) {
                publish(&mut expected, b"s", None, payload.as_bytes());
            }
            prop_assert_eq!(writing.rest(), expected);
        }
    }
}
