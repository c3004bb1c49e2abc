//! Owns the protocol between a server and its clients. Routes between servers have a protocol of their
//! own, which shares only the lexical level.

mod connect;
mod decode;
mod decode_server;
mod encode;
mod info;

pub(crate) use decode::unusual_publish;

pub use connect::{ConnectError, ConnectOptions};
pub use decode::{ClientOp, Decoded, Limits, Publish, Subscribe, Unsubscribe, decode_client};
pub use decode_server::{Message, ServerOp, decode_server, error_text};
pub use encode::{
    Decimal, connect, decimal, error, header_message_head, header_publish, info, message_head,
    no_responders, ok, ping, pong, publish, subscribe, unsubscribe,
};
pub use info::{InfoError, ServerInfo};
