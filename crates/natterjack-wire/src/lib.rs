//! The NATS protocol as bytes: operations, headers, `INFO` and `CONNECT`, without any I/O.
//!
//! Nothing here opens a socket, keeps a connection's state or decides what happens to a message. Bytes
//! go in, operations that borrow from them come out, and the other way round; no call allocates per
//! message.
//!
//! * [`client`]: what travels between a server and its clients, both directions.
//! * [`route`]: what travels between the servers of a cluster.
//! * [`s2`]: the compression that routes may agree on.
//! * [`headers`]: the header block of `HPUB` and `HMSG`.
//! * [`error`]: what can be wrong with input, and every `-ERR` a server answers with.
//!
//! A decoder is a plain function over the bytes read so far. It is handed the same bytes again, and more
//! of them, until they hold a whole operation:
//!
//! ```
//! use natterjack_wire::client::{ClientOp, Decoded, Limits, decode_client};
//!
//! let limits = Limits::default();
//! let input = b"PUB greetings 5\r\nhello\r\nPING\r\n";
//! let Decoded::Op { op: ClientOp::Publish(publish), consumed } = decode_client(input, &limits)?
//! else { panic!("a whole PUB is there") };
//! assert_eq!((publish.subject, publish.payload()), (&b"greetings"[..], &b"hello"[..]));
//! assert_eq!(&input[consumed..], b"PING\r\n");
//!
//! // Once the control line is there, the decoder says how many bytes the whole frame takes.
//! assert_eq!(decode_client(&input[..18], &limits)?, Decoded::Incomplete { needed: 24 });
//! # Ok::<(), natterjack_wire::error::ProtocolError>(())
//! ```
//!
//! # Where it differs from nats-server
//! It takes and refuses what nats-server 2.15.1 does, at the same byte, but for this:
//!
//! * A carriage return inside the line of a `PUB` or `HPUB` is refused. nats-server hands it on to
//!   subscribers, drops it, or drops another byte, depending on how the bytes arrived.
//! * A line feed directly behind `PUB ` or `HPUB ` ends the line. nats-server takes it as the first byte of
//!   the subject, and hands that on too.
//! * Blanks before the arguments, and what stands behind `PING`, `PONG` and `+OK`, are bounded by the limit
//!   of a control line. nats-server skips any number.
//! * `HMSG` from a client is refused at its second letter, not at its payload.
//! * Keys of `CONNECT` match in any case of ASCII; Go also takes `\u{17f}` for an s. The keys `import`,
//!   `export` and `remote_account`, which clients do not have, may hold anything.
//!
//! # Cost
//! Nanoseconds per operation: the fastest of 20,000 passes over 1,500 frames, on two virtual CPUs of an Intel
//! Xeon (Sapphire Rapids, 2.3 GHz) that others used too, Rust 1.95, thin LTO. `cargo bench -p natterjack-wire`
//! measures the same and more with its means, which are higher on a busy machine.
//!
//! | operation | ns |
//! | --- | --- |
//! | decode `PUB`, 16 bytes | 11.9 |
//! | decode `PUB`, 128 bytes | 13.7 |
//! | decode `PUB` with a reply of 31 bytes | 20.3 |
//! | decode `HPUB`, 40 and 128 bytes | 22.9 |
//! | decode `MSG`, 16 bytes (client side) | 25.4 |
//! | `message_head` | 14.0 |
//! | `message_head` with a reply of 31 bytes | 14.6 |
//! | decode `RMSG`, 16 bytes | 18.9 |
//! | decode `RMSG` with a reply of 31 bytes | 27.1 |
//! | decode `RMSG` with that and two queue groups | 45.9 |
//! | decode `HMSG` from a route | 25.7 |
//! | write the line of an `RMSG` | 14.6 |
//! | write the same with a reply and two queue groups | 38.8 |
//!
//! S2, per byte of content: writing 1.1 to 1.2 ns, reading 0.8 to 0.9 ns, of which the checksum takes 0.55 ns.
//! Lines with payloads of JSON shrink to 16%, those with payloads that are half noise to 47%.

#![forbid(unsafe_code)]

pub mod client;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod headers;
pub mod route;
pub mod s2;

mod frame;
mod json;
mod scan;
mod write;
