//! TLS over real sockets: who gets in, when the handshake comes, and what passes afterwards.

pub(crate) mod authority;
mod client;

mod certificates;
mod client_library;
mod handshakes;
mod monitoring;
mod traffic;

use std::sync::atomic::{AtomicBool, Ordering};

use natterjack_server::{Options, Server, Tls};

use self::authority::Authority;
use crate::support::{PATIENCE, options};

/// Tells the threads beside a test that it is over, also when it has failed: they would be waited for.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A server with a certificate of `authority`, and what `change` makes of its TLS options.
async fn server(authority: &Authority, change: impl FnOnce(&mut Tls)) -> Server {
    let pair = authority.pair("server");
    let mut tls = Tls {
        cert_file: Some(pair.cert_file),
        key_file: Some(pair.key_file),
        ca_files: vec![authority.ca_file()],
        // On a machine that is busy with other tests two seconds are not much.
        timeout: PATIENCE,
        ..Tls::default()
    };
    change(&mut tls);
    let options = Options {
        tls: Some(tls),
        ..options()
    };
    Server::start(options).await.expect("a server with TLS")
}
