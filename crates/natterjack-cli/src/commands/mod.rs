//! One file per subcommand: its arguments and what it does.

pub(crate) mod bench;
pub(crate) mod bus;
pub(crate) mod certs;
pub(crate) mod check;
pub(crate) mod choria;
pub(crate) mod nkey;
pub(crate) mod passwd;
pub(crate) mod publish;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod subscribe;
pub(crate) mod top;
