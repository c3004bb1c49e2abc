//! What was read from the server and not yet understood. Operations are decoded where they were read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use natterjack_wire::client::{Decoded, Limits, ServerOp, decode_server};
use natterjack_wire::error::ProtocolError;
use tokio::io::{AsyncRead, ReadBuf};

/// Room for reading, and so the largest batch, as long as no message is larger.
const READ_BYTES: usize = 64 * 1024;

/// Messages of this size are taken in any case: another server of the cluster may allow larger ones than ours.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// What a server may say before it has let us in: nobody has proven yet who it is, and there are no messages. The line is
/// that of an `INFO` which names some thousand servers.
const GREETING: Limits = Limits {
    control_line_bytes_max: 64 << 10,
    payload_bytes_max: 0,
    headers: true,
};

/// What was read.
#[derive(Debug)]
pub struct Incoming {
    /// What is taken.
    limits: Limits,
    /// All of it is room.
    buffer: Vec<u8>,
    /// Where what was read and not decoded starts and ends.
    start: usize,
    end: usize,
    /// Bytes from `start` that the operation there takes, at least.
    needed: usize,
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The server has ended the connection.
    #[error("the connection was closed")]
    Ended,
    /// It broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// The server says what no server says.
    #[error("this is no NATS server: {0}")]
    Protocol(ProtocolError),
}

/// Empty, and for a greeting: without messages, and with short lines.
impl Default for Incoming {
    fn default() -> Self {
        Self {
            limits: GREETING,
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            needed: 0,
        }
    }
}

impl Incoming {
    /// Takes messages, of a server that has accepted us and takes messages of `payload_bytes_max` itself, header included.
    pub fn admit(&mut self, payload_bytes_max: usize) {
        self.limits.control_line_bytes_max = Limits::FROM_SERVER.control_line_bytes_max;
        let bytes_max = payload_bytes_max.saturating_mul(2).max(PAYLOAD_BYTES_MAX);
        // Those on their way may be from before the limit was lowered.
        let known = &mut self.limits.payload_bytes_max;
        *known = bytes_max
            .min(Limits::FROM_SERVER.payload_bytes_max)
            .max(*known);
    }

    /// Whether all that was read has been handed over.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads once.
    ///
    /// # Errors
    /// If there is nothing more to read, ever.
    pub fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin + ?Sized),
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ReadError>> {
        self.make_room();
        let mut room = ReadBuf::new(&mut self.buffer[self.end..]);
        let read = ready!(Pin::new(stream).poll_read(context, &mut room));
        let bytes = room.filled().len();
        self.end += bytes;
        Poll::Ready(match read {
            Ok(()) if bytes == 0 => Err(ReadError::Ended),
            Ok(()) => Ok(()),
            Err(error) => Err(ReadError::Broken(error)),
        })
    }

    /// Reads once, and may be abandoned.
    ///
    /// # Errors
    /// As for [`Self::poll_read`].
    pub async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin + ?Sized),
    ) -> Result<(), ReadError> {
        std::future::poll_fn(|context| self.poll_read(stream, context)).await
    }

    fn make_room(&mut self) {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > READ_BYTES {
                self.buffer = vec![0; READ_BYTES];
            }
        }
        let whole = self.needed.max(READ_BYTES / 4);
        let is_in_place = self.start == 0 || self.buffer.len() - self.start >= whole;
        if is_in_place && self.end < self.buffer.len() {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            // A few bytes can announce a large message. Memory is for what has arrived.
            let bytes = whole.min(2 * self.end).max(self.end + READ_BYTES);
            self.buffer.resize(bytes, 0);
        }
    }

    /// Hands over every whole operation that was read.
    ///
    /// # Errors
    /// If something is no operation; what came before it has been handed over.
    pub fn decode(&mut self, mut take: impl FnMut(ServerOp<'_>)) -> Result<(), ReadError> {
        while self.decode_one(&mut take)?.is_some() {}
        Ok(())
    }

    fn decode_one<R>(
        &mut self,
        take: impl FnOnce(ServerOp<'_>) -> R,
    ) -> Result<Option<R>, ReadError> {
        if self.is_empty() {
            self.needed = 0;
            return Ok(None);
        }
        let read = &self.buffer[self.start..self.end];
        match decode_server(read, &self.limits).map_err(ReadError::Protocol)? {
            Decoded::Op { op, consumed } => {
                let result = take(op);
                self.start += consumed;
                Ok(Some(result))
            }
            Decoded::Incomplete { needed } => {
                self.needed = needed;
                Ok(None)
            }
        }
    }

    /// Reads until there is an operation, and hands it over.
    ///
    /// # Errors
    /// If it is none, or there is nothing more to read.
    pub async fn next<R>(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin + ?Sized),
        take: impl FnOnce(ServerOp<'_>) -> R,
    ) -> Result<R, ReadError> {
        let mut take = Some(take);
        loop {
            let once = |op: ServerOp<'_>| take.take().map(|take| take(op));
            if let Some(Some(result)) = self.decode_one(once)? {
                return Ok(result);
            }
            self.read(stream).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use natterjack_wire::client::{decimal, message_head};
    use proptest::prelude::*;

    use super::*;

    /// Reads all of `bytes`, as much at a time as `pieces` say, and answers the payloads.
    fn read(bytes: &[u8], pieces: &[usize]) -> Vec<Vec<u8>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut incoming = Incoming::default();
        incoming.admit(1 << 20);
        let mut payloads = Vec::new();
        let (mut rest, mut pieces) = (bytes, pieces.iter().cycle());
        while !rest.is_empty() {
            let piece = pieces.next().map_or(1, |piece| *piece).min(rest.len());
            let (mut now, later) = rest.split_at(piece);
            while !now.is_empty() {
                let polled = incoming.poll_read(&mut now, &mut context);
                assert!(matches!(polled, Poll::Ready(Ok(()))));
                let decoded = incoming.decode(|op| match op {
                    ServerOp::Message(message) => payloads.push(message.payload().to_vec()),
                    other => panic!("{other:?}"),
                });
                decoded.expect("no fault");
            }
            rest = later;
        }
        assert!(incoming.is_empty());
        payloads
    }

    fn hear(incoming: &mut Incoming, mut bytes: &[u8]) -> Result<(), ReadError> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        while !bytes.is_empty() {
            let polled = incoming.poll_read(&mut bytes, &mut context);
            assert!(matches!(polled, Poll::Ready(Ok(()))));
            incoming.decode(|op| panic!("{op:?}"))?;
        }
        Ok(())
    }

    #[test]
    fn what_is_only_announced_takes_no_memory() {
        let mut incoming = Incoming::default();
        let refused = hear(&mut incoming, b"MSG a 1 999999999\r\nx");
        assert!(matches!(refused, Err(ReadError::Protocol(_))));

        let mut incoming = Incoming::default();
        incoming.admit(1 << 20);
        hear(&mut incoming, b"MSG a 1 60000000\r\nx").expect("it may come");
        hear(&mut incoming, b"x").expect("it may come");
        assert_eq!(incoming.buffer.len(), READ_BYTES);
        hear(&mut incoming, &[b'x'; 1_000_000]).expect("it comes");
        assert!(incoming.buffer.len() < 2_100_000);

        let mut incoming = Incoming::default();
        incoming.admit(1 << 20);
        let refused = hear(&mut incoming, b"MSG a 1 999999999\r\nx");
        assert!(matches!(refused, Err(ReadError::Protocol(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn however_it_is_cut_the_messages_are_whole(
            sizes in prop::collection::vec(prop_oneof![8 => 0_usize..400, 1 => 60_000_usize..200_000], 1..20),
            pieces in prop::collection::vec(prop_oneof![1_usize..100, 1000_usize..100_000], 1..5),
        ) {
            let payloads: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
            let mut bytes = Vec::new();
            for payload in &payloads {
                message_head(&mut bytes, b"s", b"1", None, decimal(payload.len()).as_ref());
                bytes.extend_from_slice(payload);
                bytes.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(read(&bytes, &pieces), payloads);
        }
    }
}
