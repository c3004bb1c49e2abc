//! The NATS protocol as bytes: operations, headers, `INFO` and `CONNECT`, without any I/O.
//!
//! Nothing here opens a socket, keeps a connection's state or decides what happens to a message. Bytes
//! go in, operations that borrow from them come out, and the other way round; no call allocates per
//! message.
//!
//! * [`client`]: what travels between a server and its clients, both directions.
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

#![forbid(unsafe_code)]

pub mod client;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod headers;
mod scan;
