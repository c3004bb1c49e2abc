//! TLS: from options and files to what a listener accepts with, and certificates that are replaced while the
//! server runs. Bytes on sockets are `net`'s business.

mod problem;

mod acceptor;
mod authorities;
mod certificate;
mod context;
mod dialling;
mod failures;
mod files;
mod names;
mod rate;
mod verifier;

pub(crate) use self::acceptor::Acceptor;
pub(crate) use self::certificate::{PeerFacts, peer_facts};
pub(crate) use self::context::{Context, Peers};
pub(crate) use self::names::suite_name;
pub use self::problem::TlsProblem;
pub(crate) use self::verifier::{is_authority_shown, is_of_old_version, take_refused};

use natterjack_engine::TlsFacts;

use crate::options::Tls;

/// The fingerprint that a client's key may be pinned by, if it showed a certificate.
pub(crate) fn fingerprint(facts: &TlsFacts) -> Option<&str> {
    let own = facts.peer_certificates.first()?;
    Some(&own.public_key_sha256)
}

/// Checks options and the files they name, as a start would; nothing is kept. All that is wrong is returned,
/// warnings included. The files are read and the keys loaded, which takes milliseconds.
#[must_use]
pub fn problems(options: &Tls) -> Vec<TlsProblem> {
    Context::load(options, Peers::Clients, crate::clock::calendar_now()).1
}
