//! Owns the protocol between the servers of a cluster. It shares the lexical level with that of clients, and
//! nothing of its operations but the smallest.
//!
//! * [`decode_route`] and the functions that write: lines, in both directions, since both sides say the same.
//! * [`RouteInfo`], [`RouteConnect`]: what servers tell each other about themselves.
//! * [`Compression`]: what two servers agree on; the compression itself is [`s2`](crate::s2).

mod compression;
mod connect;
mod decode;
mod encode;
mod info;

pub use crate::client::{ConnectError, InfoError};
pub use crate::frame::Decoded;
pub use crate::write::{Decimal, decimal, error, ok, ping, pong};
pub use compression::{Compression, UnsupportedCompression};
pub use connect::RouteConnect;
pub use decode::{
    QueueInterest, Queues, RemoteSubscribe, RemoteUnsubscribe, RouteLimits, RouteMessage, RouteOp,
    decode_route,
};
pub use encode::{MessageHead, connect, info, subscribe, unsubscribe};
pub use info::{GossipMode, RouteInfo, SubjectPermission};

pub(crate) use decode::unusual_message;
