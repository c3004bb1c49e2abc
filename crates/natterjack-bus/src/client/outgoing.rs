//! What waits to be written to the server: whole operations, put in by any task, taken out by the one that has the
//! connection, all at once. So the busier a connection is, the more goes into one write.
//!
//! What must keep its order is held back while there is a reason to; what need not goes past it then.

use std::ops::Range;
use std::task::{Context, Waker};

use natterjack_wire::client::{ClientOp, Decoded, Limits, decode_client};
use parking_lot::{Mutex, MutexGuard};

/// Buffers larger than this are given back when they are empty.
const KEPT_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Outgoing {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: Batch,
    /// Behind all that is ready.
    held: Batch,
    /// Whether there is a reason to hold back, by [`Hold`].
    holds: [bool; 2],
    /// Who takes out what is ready, if it waits for more.
    writer: Option<Waker>,
    is_closed: bool,
}

/// Why what must keep its order is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It waited for a connection, and those whom it is for may not be back yet.
    Backlog,
    /// The server is being changed, and what went to the old one may not have arrived everywhere yet.
    Change,
}

/// Whole operations.
#[derive(Default)]
pub(super) struct Batch {
    operations: Vec<u8>,
    /// Bytes that none of them exceeds.
    longest: usize,
}

impl Batch {
    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.operations.len();
        write(&mut self.operations);
        self.longest = self.longest.max(self.operations.len() - start);
    }

    /// Takes all that is in the other one.
    fn append(&mut self, other: &mut Self) {
        if self.operations.is_empty() {
            std::mem::swap(self, other);
        } else {
            self.operations.append(&mut other.operations);
            self.longest = self.longest.max(std::mem::take(&mut other.longest));
        }
    }
}

impl Outgoing {
    /// Appends what `write` appends, which must be whole operations. `false`: it is closed, and nothing was done.
    pub(super) fn put(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        if state.is_closed {
            return false;
        }
        if state.is_holding() {
            state.held.put(write);
            return true;
        }
        state.ready.put(write);
        wake(state);
        true
    }

    /// The same, but what is held back is overtaken.
    pub(super) fn put_ahead(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        if state.is_closed {
            return false;
        }
        state.ready.put(write);
        wake(state);
        true
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        let state = self.state.lock();
        state.ready.operations.len() + state.held.operations.len()
    }

    /// Holds back what is put in from now on.
    pub(super) fn hold(&self, hold: Hold) {
        let mut state = self.state.lock();
        state.holds[hold as usize] = !state.is_closed;
    }

    /// Holds back all there is as well, behind this, which was taken out before.
    pub(super) fn hold_all(&self, hold: Hold, mut first: Batch) {
        let mut state = self.state.lock();
        let State { ready, held, .. } = &mut *state;
        first.append(ready);
        first.append(held);
        *held = first;
        state.holds[hold as usize] = true;
        if state.is_closed {
            state.release_all();
        }
    }

    /// Holds nothing back any more, for this reason.
    pub(super) fn release(&self, hold: Hold) {
        let mut state = self.state.lock();
        state.holds[hold as usize] = false;
        if !state.is_holding() {
            state.release_all();
            wake(state);
        }
    }

    /// Whether there is this reason.
    pub(super) fn is_held(&self, hold: Hold) -> bool {
        self.state.lock().holds[hold as usize]
    }

    /// No more will be put in. What is there may still be taken out.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.release_all();
        wake(state);
    }

    /// Takes everything out that is ready, in exchange for an empty buffer. If there is nothing the task is woken once
    /// there is.
    pub(super) fn take(&self, context: &Context<'_>, empty: &mut Vec<u8>) -> Taken {
        let mut state = self.state.lock();
        if !state.ready.operations.is_empty() {
            std::mem::swap(&mut state.ready.operations, empty);
            return Taken::Some {
                longest: std::mem::take(&mut state.ready.longest),
            };
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

impl State {
    fn is_holding(&self) -> bool {
        self.holds.contains(&true)
    }

    fn release_all(&mut self) {
        self.holds = [false; 2];
        self.ready.append(&mut self.held);
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let writer = state.writer.take();
    drop(state);
    if let Some(writer) = writer {
        writer.wake();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Some {
        /// Bytes that no operation exceeds.
        longest: usize,
    },
    Nothing,
    /// And never again.
    Closed,
}

/// Operations that are being written. They stay until all of them are.
#[derive(Default)]
pub(super) struct Writing {
    operations: Vec<u8>,
    written: usize,
    /// Bytes that no publish among them exceeds.
    longest: usize,
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
        let taken = outgoing.take(context, &mut self.operations);
        self.longest = match taken {
            Taken::Some { longest } => longest,
            Taken::Nothing | Taken::Closed => 0,
        };
        taken
    }

    /// For another connection: begins with this. Answers with the messages of which the server before cannot have got the
    /// whole, so that they may be sent again. What was written to the end may have arrived.
    pub(super) fn start_over(&mut self, greeting: Vec<u8>) -> Batch {
        let old = std::mem::replace(&mut self.operations, greeting);
        let written = std::mem::take(&mut self.written);
        let mut unsent = Batch {
            operations: Vec::new(),
            longest: std::mem::take(&mut self.longest),
        };
        for (span, op) in operations(&old) {
            if span.end > written && matches!(op, ClientOp::Publish(_)) {
                unsent.operations.extend_from_slice(&old[span]);
            }
        }
        unsent
    }

    /// Leaves out messages, header included, that are larger than the server takes: it would close the connection, and
    /// the next one as well. Only before anything of this is written. Answers how many there were.
    pub(super) fn leave_out(&mut self, payload_bytes_max: usize) -> usize {
        if self.longest <= payload_bytes_max {
            return 0;
        }
        debug_assert_eq!(self.written, 0, "what is half written must be finished");
        let old = std::mem::take(&mut self.operations);
        let mut left_out = 0;
        for (span, op) in operations(&old) {
            match op {
                ClientOp::Publish(publish) if publish.body.len() > payload_bytes_max => {
                    left_out += 1;
                }
                _ => self.operations.extend_from_slice(&old[span]),
            }
        }
        left_out
    }
}

/// Our own bytes, which are whole operations, and where each of them is.
fn operations(bytes: &[u8]) -> impl Iterator<Item = (Range<usize>, ClientOp<'_>)> {
    let mut start = 0;
    std::iter::from_fn(
        move || match decode_client(&bytes[start..], &Limits::UNBOUNDED) {
            Ok(Decoded::Op { op, consumed }) => {
                let span = start..start + consumed;
                start = span.end;
                Some((span, op))
            }
            _ => None,
        },
    )
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
        let taken = writing.refill(&outgoing, &context);
        assert_eq!(taken, Taken::Some { longest: 12 });
        assert_eq!(writing.rest(), b"PUB a 1\r\n1\r\nPING\r\n");
        writing.advance(4);
        assert_eq!(writing.rest(), b"a 1\r\n1\r\nPING\r\n");
        assert!(outgoing.put(ping));
        outgoing.close();
        assert!(!outgoing.put(ping));
        let taken = writing.refill(&outgoing, &context);
        assert_eq!(taken, Taken::Some { longest: 6 });
        assert_eq!(writing.refill(&outgoing, &context), Taken::Closed);
    }

    #[test]
    fn what_is_held_back_keeps_its_order_and_is_overtaken_by_what_need_not() {
        let context = Context::from_waker(Waker::noop());
        let (outgoing, mut writing) = (Outgoing::default(), Writing::default());
        let put = |name: &str| assert!(outgoing.put(|out| out.extend_from_slice(name.as_bytes())));
        let put_ahead =
            |name: &str| assert!(outgoing.put_ahead(|out| out.extend_from_slice(name.as_bytes())));
        let mut written = || {
            let taken = writing.refill(&outgoing, &context);
            (String::from_utf8_lossy(writing.rest()).into_owned(), taken)
        };
        put("a ");
        put_ahead("b ");
        put("c ");
        outgoing.hold(Hold::Change);
        put("first ");
        put_ahead("d ");
        assert_eq!(written().0, "a b c d ");
        assert_eq!(written().1, Taken::Nothing);
        // There is another reason as well, and something that was taken out and not written.
        let unsent = Batch {
            operations: b"unsent ".into(),
            longest: 100,
        };
        put_ahead("e ");
        outgoing.hold_all(Hold::Backlog, unsent);
        put("last ");
        put_ahead("f ");
        outgoing.release(Hold::Change);
        assert_eq!(written().0, "f ");
        assert!(outgoing.is_held(Hold::Backlog) && !outgoing.is_held(Hold::Change));
        outgoing.release(Hold::Backlog);
        put("g ");
        let expected = "unsent e first last g ".to_owned();
        assert_eq!(written(), (expected, Taken::Some { longest: 100 }));
        // The end lets everything go.
        outgoing.hold(Hold::Backlog);
        put("h ");
        outgoing.close();
        assert_eq!(written().0, "h ");
        outgoing.hold(Hold::Change);
        outgoing.hold_all(Hold::Change, Batch::default());
        assert!(!outgoing.is_held(Hold::Change));
        assert_eq!(written().1, Taken::Closed);
    }

    #[test]
    fn what_is_too_large_is_left_out_and_the_rest_stays() {
        let context = Context::from_waker(Waker::noop());
        let outgoing = Outgoing::default();
        let mut writing = Writing::default();
        for size in [10, 101, 100, 2000] {
            outgoing.put(|out| publish(out, b"a", None, &vec![b'x'; size]));
        }
        writing.refill(&outgoing, &context);
        writing.advance(3);
        // The connection breaks, and what is left waits for another one.
        let unsent = writing.start_over(Vec::new());
        outgoing.hold_all(Hold::Backlog, unsent);
        outgoing.release(Hold::Backlog);
        writing.refill(&outgoing, &context);
        assert_eq!(writing.leave_out(5000), 0);
        assert_eq!(writing.leave_out(100), 2);
        let mut expected = Vec::new();
        for size in [10, 100] {
            publish(&mut expected, b"a", None, &vec![b'x'; size]);
        }
        assert_eq!(writing.rest(), expected);
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
            let unsent = writing.start_over(b"HELLO".to_vec());
            let mut expected = b"HELLO".to_vec();
            for (_, payload) in ends.iter().filter(|(end, _)| *end > written) {
                publish(&mut expected, b"s", None, payload.as_bytes());
            }
            prop_assert_eq!([writing.rest(), &unsent.operations].concat(), expected);
        }
    }
}
