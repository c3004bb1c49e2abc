//! Binding addresses and accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use natterjack_engine::Peer;
use tokio::net::{TcpListener, TcpSocket, lookup_host};

use super::socket::Socket;
use super::{connection, handshake};
use crate::clock::now;
use crate::identity;
use crate::lifecycle::{OwnPass, Phase};
use crate::server::Shared;

/// Connections the system keeps until they are accepted; as many as it allows, for storms of reconnects.
const BACKLOG: u32 = 4096;

/// Pause after the system refused to accept, which it does when it has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long nothing more is said of it.
const SAID_EACH: Duration = Duration::from_secs(10);

/// What was said of connections that the system refused to accept, or of something else that may happen at any rate: whoever
/// opens as many as there are file descriptors must not fill the log as well.
#[derive(Default)]
pub(crate) struct Refused {
    said: Option<Instant>,
    unsaid: u64,
}

impl Refused {
    /// Counts one. If it is to be said, returns how many were not since the last one.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        if (self.said).is_some_and(|said| now.saturating_duration_since(said) < SAID_EACH) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// Listens on every address `host` stands for, IPv4 first. With a port of 0 they all get the one that the
/// first was given. Addresses after the first are welcome but not needed: a machine may have a name for an
/// address it does not have.
pub(crate) async fn bind(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let mut addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    let Some((first, others)) = addresses.split_first() else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the host name has no address",
        ));
    };
    let mut listeners = vec![listen(*first)?];
    let port = listeners[0].local_addr()?.port();
    for other in others {
        let address = SocketAddr::new(other.ip(), port);
        match listen(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) => tracing::debug!(%address, %error, "also-address not available"),
        }
    }
    Ok(listeners)
}

/// Takes over sockets that listen already.
pub(crate) fn adopt(listeners: Vec<std::net::TcpListener>) -> io::Result<Vec<TcpListener>> {
    let adopted = listeners.into_iter().map(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    adopted.collect()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A server that restarts must not wait until the system has forgotten its old connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until the server stops; until then it keeps the pass.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener, _accepting: OwnPass) {
    // Moved in here, so that it is closed before the pass is given back.
    let listener = listener;
    let mut refused = Refused::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.lifecycle.reached(Phase::LameDuck) => return,
        };
        match accepted {
            Ok((stream, address)) => {
                // Batches are written whole; waiting to fill a segment would only add latency.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%address, %error, "TCP_NODELAY not set");
                }
                let peer = Peer {
                    address: Some(address),
                    nonce: identity::nonce(),
                    ..Peer::default()
                };
                let tls = shared.tls.current();
                let is_held = tls
                    .as_ref()
                    .is_some_and(|context| handshake::begins_held(context));
                let socket = Socket::new(stream, is_held);
                tokio::spawn(connection::serve(Arc::clone(&shared), socket, peer, tls));
            }
            Err(error) => {
                if let Some(unsaid) = refused.note(now()) {
                    tracing::error!(%error, unsaid, "accepting a client connection failed");
                }
                let stopping = shared.lifecycle.reached(Phase::LameDuck);
                let _ = tokio::time::timeout(ACCEPT_PAUSE, stopping).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_accepted_is_said_now_and_then() {
        let start = now();
        let mut refused = Refused::default();
        let mut note = |second| refused.note(start + Duration::from_secs(second));
        assert_eq!([0, 1, 9].map(&mut note), [Some(0), None, None]);
        assert_eq!([10, 11, 30].map(&mut note), [Some(2), None, Some(1)]);
    }
}
