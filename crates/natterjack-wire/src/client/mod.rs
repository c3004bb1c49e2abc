//! Owns the protocol between a server and its clients. Routes between servers have a protocol of their
//! own, which shares only the lexical level.

mod connect;
mod decode;
mod decode_server;
mod encode;
mod info;

pub(crate) use decode::unusual_publish;

pub use crate::frame::Decoded;
pub use crate::write::{Decimal, decimal, error, ok, ping, pong};
pub use connect::{ConnectError, ConnectOptions};
pub use decode::{
    ClientOp, Limits, Publish, Subscribe, Unsubscribe, decode_client, decode_publish,
};
pub use decode_server::{Message, ServerOp, decode_server, error_text};
pub use encode::{
    connect, header_message_head, header_publish, info, message_head, no_responders, publish,
    subscribe, unsubscribe,
};
pub use info::{InfoError, ServerInfo};
