//! TLS: from options and files to what a listener accepts with, and certificates that are replaced while the
//! server runs. Bytes on sockets are `net`'s business.

mod problem;

mod acceptor;
mod certificate;
mod context;
mod files;
mod names;
mod rate;

pub use self::acceptor::Acceptor;
pub(crate) use self::certificate::peer_facts;
pub use self::context::Context;
pub use self::problem::TlsProblem;
pub(crate) use self::rate::Rate;
