//! Owns the protocol between the servers of a cluster. It shares the lexical level with that of clients, and
//! nothing of its operations but the smallest.
//!
//! * [`decode_route`] and the functions that write: lines, in both directions, since both sides say the same.
//! * [`RouteInfo`], [`RouteConnect`]: what servers tell each other about themselves.
//! * [`pool_index`]: which connection of several is an account's.
//! * [`Compression`]: what two servers agree on; the compression itself is [`s2`](crate::s2).
//!
//! ```
//! use natterjack_wire::route::{Decoded, RouteLimits, RouteOp, decode_route};
//!
//! let input = b"RMSG $G orders.new + answers billing audit 5\r\nhello\r\n";
//! let Decoded::Op { op: RouteOp::Message(message), .. } = decode_route(input, &RouteLimits::default())?
//! else { panic!("a whole message is there") };
//! assert_eq!((message.account, message.subject), (Some(&b"$G"[..]), &b"orders.new"[..]));
//! assert!(message.queues.eq([&b"billing"[..], b"audit"]));
//! # Ok::<(), natterjack_wire::error::ProtocolError>(())
//! ```
//!
//! # Where it differs from nats-server
//! Put to nats-server 2.15.1, one connection each; what is not here it takes and refuses as we do.
//!
//! * `PUB` and `HPUB` are dropped by nats-server, and so is `SUB`; `UNSUB` is taken for `RS-`. No server sends them, and
//!   here they are unknown operations.
//! * A carriage return inside the line of a message is refused here, as it is from clients. nats-server hands it on.
//! * A line feed directly behind an operation and its blank ends the line. nats-server takes it as a blank.
//! * `Au` is another way to write `A-` there.
//! * Payloads may be bounded here ([`RouteLimits::payload_bytes_max`]). nats-server takes 2 MB from a peer whose
//!   `INFO` says `max_payload` 1.
//! * Names of modes match in lower case only on both; JSON that is not UTF-8 is refused here.
//!
//! # Seen on the wire
//! Besides what the protocol reference says, between real servers of 2.15.1 and 2.9.10:
//!
//! * The weight of a queue group may be anything (`x`, `-1`, `01`, `2147483648`) without the connection being closed; only
//!   its absence closes it.
//! * A side set to `s2_auto` says `s2_auto` in both its `INFO`s, whatever level it then writes with; a side set to
//!   `accept` says `accept` in its first and what was agreed in its second.
//! * With `s2_auto` and a short round trip everything is in chunks of type `01`, and so is with every level what does
//!   not shrink, such as `PING`.
//! * 2.9.10 sends `CONNECT` and `INFO` in one write. It has no `compression`, `lnocu`, `ln` or `route_pool_size`, and
//!   names no origin in `LS-`, behind which it puts two blanks instead. Who dials it for one account says so in an
//!   `-ERR` right after its `CONNECT` and hangs up, without an `INFO` of its own, and has another connection for
//!   everything.
//! * What is told of a third server has that server's `compression` as agreed with the teller, and no blank before the
//!   line end. `INFO` with `ldm` has the blank, and neither `compression` nor `nonce`.
//! * The `INFO`s with which two reloaded servers take an account out of the pool have an empty `server_id` and port 0, so
//!   `route_acc_add_reqid` is to be looked at before the id.
//! * A server that dials again at once after hanging up may be taken for a duplicate of itself and dropped
//!   without a word: its old connection may not have been noticed to be gone.
//! * Sizes are handed on as the client wrote them: `HPUB bar 022 0027` becomes `HMSG $G bar | q1 q2 022 0027`.

mod compression;
mod connect;
mod decode;
mod encode;
mod info;
mod pool;

pub use crate::client::{ConnectError, InfoError};
pub use crate::frame::Decoded;
pub use crate::write::{Decimal, decimal, error, ok, ping, pong};
pub use compression::{Compression, UnsupportedCompression};
pub use connect::RouteConnect;
pub use decode::{
    QueueInterest, Queues, RemoteSubscribe, RemoteUnsubscribe, RouteLimits, RouteMessage, RouteOp,
    decode_route,
};
pub use encode::{MessageHead, STRAY_ORIGIN, connect, info, subscribe, unsubscribe};
pub use info::{ACCOUNT_MOVES, AccountMove, GossipMode, RouteInfo, SubjectPermission};
pub use pool::pool_index;

pub(crate) use decode::unusual_message;
