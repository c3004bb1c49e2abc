//! TLS of routes: the handshake comes before any byte, whichever side has dialled, and both sides show a certificate
//! (route protocol, section 10).

use std::fmt;
use std::sync::Arc;

use natterjack_engine::{CertificateNames, TlsFacts};
use rustls::{CertificateError, ClientConnection, Connection, Error, ServerConnection};
use rustls_pki_types::ServerName;

use super::handshake::{Fault, Told, facts, shake_hands};
use super::secured::{Scratch, Secured};
use super::socket::Socket;
use crate::clock::calendar_now;
use crate::tls::{self, fingerprint, peer_facts};

/// In messages.
const PEER: &str = "peer";

/// What is known of a peer once the connection is encrypted.
pub(crate) struct Secure {
    pub(crate) facts: TlsFacts,
    pub(crate) names: CertificateNames,
}

/// Why a connection with a peer was not encrypted, in nats-server's words as far as they are the same.
pub(crate) struct Failure(Fault);

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "TLS route handshake error: {}{}",
            Told(&self.0, PEER),
            match self.0 {
                Fault::NotTls =>
                    ": the other side speaks clear text, so it is no route of a cluster with `tls`",
                _ => "",
            }
        )
    }
}

/// What the peer says against this server's certificate when this side has done its part of the handshake already: with
/// TLS 1.3 whoever dials is done before the other side has seen it (RFC 8446, section 4.4.4).
pub(crate) fn late_refusal(socket: &Socket) -> Option<Failure> {
    let error = socket.tls_failure()?;
    let is_refusal = matches!(error, Error::AlertReceived(_));
    is_refusal.then(|| Failure(Fault::Tls(error, None)))
}

/// Encrypts a connection. `dialled` is the name or address that the peer's certificate must be
/// for, if this server has dialled.
pub(crate) async fn secure(
    acceptor: &tls::Acceptor,
    context: &tls::Context,
    scratch: &Arc<Scratch>,
    socket: &Socket,
    dialled: Option<&str>,
    label: &str,
) -> Result<Secure, Failure> {
    let side = match dialled {
        Some(_) => "client",
        None => "server",
    };
    tracing::debug!("{label} - Starting TLS route {side} handshake");
    let secure = establish(acceptor, context, scratch, socket, dialled)
        .await
        .map_err(Failure)?;
    let TlsFacts {
        version,
        cipher_suite,
        ..
    } = &secure.facts;
    tracing::debug!("{label} - TLS handshake complete");
    tracing::debug!("{label} - TLS version {version}, cipher suite {cipher_suite}");
    Ok(secure)
}

async fn establish(
    acceptor: &tls::Acceptor,
    context: &tls::Context,
    scratch: &Arc<Scratch>,
    socket: &Socket,
    dialled: Option<&str>,
) -> Result<Secure, Fault> {
    let connection = connection(context, dialled).map_err(|error| Fault::Tls(error, None))?;
    let done = shake_hands(socket.tcp(), connection, context, acceptor).await?;
    let peer = done.connection.peer_certificates().and_then(peer_facts);
    let facts = facts(&done.connection, peer.as_ref(), true);
    let own = fingerprint(&facts);
    // A reload may have exchanged the pins meanwhile.
    let is_pinned = |context: &tls::Context| context.is_pinned(own);
    if !is_pinned(context) || !acceptor.current().is_none_or(|now| is_pinned(&now)) {
        return Err(Fault::NotPinned);
    }
    // A peer may have taken up a former session, in which nobody was verified.
    let Some(peer) =
        peer.filter(|peer| peer.not_after >= calendar_now() || is_trusting(context, dialled))
    else {
        let expired = Error::InvalidCertificate(CertificateError::Expired);
        return Err(Fault::Tls(expired, None));
    };
    socket.secure(Secured::new(
        *done.connection,
        done.unread,
        Arc::clone(scratch),
    ));
    Ok(Secure {
        facts,
        names: peer.names,
    })
}

/// Whether whoever answers is believed.
fn is_trusting(context: &tls::Context, dialled: Option<&str>) -> bool {
    dialled.is_some() && context.options().insecure
}

fn connection(context: &tls::Context, dialled: Option<&str>) -> Result<Connection, Error> {
    let Some(name) = dialled else {
        let accepted = ServerConnection::new(Arc::clone(context.clients()))?;
        return Ok(accepted.into());
    };
    let config = context.servers().ok_or(Error::HandshakeNotComplete)?;
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| Error::General(format!("{name:?} is no name a certificate could be for")))?;
    ClientConnection::new(Arc::clone(config), name).map(Connection::from)
}
