//! How a client of NATS servers comes to a connection, whatever it uses it for.
//!
//! * [`Pool`] is which servers there are, configured or learnt from others, and in which order they are tried;
//!   [`Backoff`] how long to wait between rounds. Neither knows a network or a clock.
//! * [`dial`] goes from an address to a connection that the server has agreed to: name, socket, `INFO`, TLS, `CONNECT`,
//!   `PONG`, each within its time. [`greet`] does the last steps over a stream that is there already.
//! * [`Incoming`] is what was read and not yet understood; its operations are decoded where they were read.
//! * [`http`], if it is wanted, is what hyper lacks for a client over such a stream.
//! * [`KeyHolders`] lets whoever judges certificates do just that.
//!
//! What is sent over a connection, what is done with what comes, and when to make another one is its users' business: the
//! event bus and the connector for fleets want different things of these.
#![forbid(unsafe_code)]

mod address;
mod backoff;
mod dial;
#[cfg(feature = "http")]
pub mod http;
mod incoming;
mod pool;
mod trust;

pub use self::address::Address;
pub use self::backoff::Backoff;
pub use self::dial::{
    Deadlines, DialError, Dialled, Phase, Security, Stream, TlsRule, dial, greet,
};
pub use self::incoming::{Incoming, ReadError};
pub use self::pool::{Candidate, Pool};
pub use self::trust::{KeyHolders, ServerJudge};
