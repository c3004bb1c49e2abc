//! TLS over real sockets: who gets in, when the handshake comes, and what passes afterwards.

mod authority;
mod client;

mod certificates;
mod handshakes;
mod monitoring;
mod traffic;

use natterjack_server::{Options, Server, Tls};

use self::authority::Authority;
use crate::support::options;

/// A server with a certificate of `authority`, and what `change` makes of its TLS options.
async fn server(authority: &Authority, change: impl FnOnce(&mut Tls)) -> Server {
    let pair = authority.pair("server");
    let mut tls = Tls {
        cert_file: Some(pair.cert_file),
        key_file: Some(pair.key_file),
        ca_files: vec![authority.ca_file()],
        ..Tls::default()
    };
    change(&mut tls);
    let options = Options {
        tls: Some(tls),
        ..options()
    };
    Server::start(options).await.expect("a server with TLS")
}
