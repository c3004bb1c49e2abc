//! Owns a property that does not hold, in a way that only a structured input shows: a fuzzer that misses it would miss
//! real bugs too.

use natterjack_wire::client::{ClientOp, Decoded, Limits, decode_client};

/// Claims that no message consists of a header alone once somebody has subscribed in a queue group.
pub(crate) fn check(data: &[u8]) {
    let mut rest = data.get(8..).unwrap_or_default();
    let mut has_queue = false;
    while let Ok(Decoded::Op { op, consumed }) = decode_client(rest, &Limits::default()) {
        match op {
            ClientOp::Subscribe(wish) => has_queue |= wish.queue.is_some(),
            ClientOp::Publish(message) => {
                let header_alone = message.header_len.is_some() && message.payload().is_empty();
                assert!(!(has_queue && header_alone), "the planted bug");
            }
            _ => {}
        }
        rest = &rest[consumed..];
    }
}
