//! How a connection comes to be encrypted, or not: before INFO or after it, whether the client has the choice,
//! how long it may take, and what is told of a failure.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use natterjack_engine::{ClientSession, CloseReason, Outbox, PeerCertificate, TlsFacts};
use rustls::{
    AlertDescription, CertificateError, Connection, Error, HandshakeKind, ProtocolVersion,
    ServerConnection,
};
use rustls_pki_types::UnixTime;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::secured::Secured;
use super::socket::Socket;
use super::strangers::Origin;
use super::stream::{self, Stream};
use crate::clock::{calendar_now, now};
use crate::options::HandshakeFirst;
use crate::server::Shared;
use crate::tls::{
    self, PeerFacts, fingerprint, is_authority_shown, is_of_old_version, peer_facts, suite_name,
    take_refused,
};

/// First byte of a TLS connection: a record of the handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// Kinds of records there are (RFC 8446, appendix B.1).
const RECORD_KINDS: std::ops::RangeInclusive<u8> = 20..=24;

/// The longest record there may be, in bytes after the header (RFC 5246, section 6.2.3).
const RECORD_BYTES_MAX: usize = 16 * 1024 + 2048;

/// Bytes read at one time during a handshake.
const READ_BYTES: usize = 4096;

/// Whether a connection that will be encrypted begins without a word from the server.
pub(super) fn begins_held(context: &tls::Context) -> bool {
    context.handshake_first() != HandshakeFirst::No
}

/// In messages.
const CLIENT: &str = "client";

/// What was settled; [`apply`](Self::apply) makes it so.
pub(super) enum Settled {
    /// The client goes on in clear text.
    Clear,
    /// The handshake is done.
    Encrypted {
        done: Done,
        /// Whether it came before INFO.
        is_first: bool,
    },
    /// Too many others want a handshake.
    Refused,
}

/// Settles whether and how the connection is encrypted. The session is left alone meanwhile, so that it can
/// hear of other things. An error tells why the connection has ended.
pub(super) async fn settle(
    shared: &Shared,
    socket: &Socket,
    context: &tls::Context,
    outbox: &Outbox,
    label: &str,
    origin: Origin,
) -> Result<Settled, CloseReason> {
    let acceptor = &shared.tls;
    let is_first = match context.handshake_first() {
        HandshakeFirst::No => false,
        HandshakeFirst::Yes => true,
        // Whatever comes is the beginning of a handshake: the client has not heard anything to answer to.
        HandshakeFirst::Within(delay) => timeout(delay, first_byte(socket.tcp())).await.is_ok(),
    };
    if !is_first {
        socket.let_clear();
        info_sent(socket, outbox, context.timeout()).await?;
        if acceptor.is_optional() {
            let first = timeout(context.timeout(), first_byte(socket.tcp())).await;
            if first.ok().flatten() != Some(HANDSHAKE_RECORD) {
                return Ok(Settled::Clear);
            }
        }
        socket.hold();
    }
    let limit = context.options().connection_rate_limit;
    let (is_admitted, refused_before) = acceptor.rate().admit(limit, now());
    if let Some(count) = refused_before {
        tracing::warn!("Rejected {count} connections due to TLS rate limiting");
    }
    if !is_admitted {
        return Ok(Settled::Refused);
    }
    tracing::debug!("{label} - Starting TLS client connection handshake");
    let connection = ServerConnection::new(Arc::clone(context.clients()))
        .map_err(|_| CloseReason::TlsHandshakeFailure)?;
    match shake_hands(socket.tcp(), connection.into(), context, acceptor).await {
        Ok(done) => {
            tracing::debug!("{label} - TLS handshake complete");
            Ok(Settled::Encrypted { done, is_first })
        }
        Err(fault) => {
            tell_failure(shared, &label, origin, &fault);
            Err(CloseReason::TlsHandshakeFailure)
        }
    }
}

/// Says in the log why a client's handshake failed, unless there was too much of that from where it is.
fn tell_failure(shared: &Shared, label: &dyn fmt::Display, origin: Origin, fault: &Fault) {
    let told = Told(fault, CLIENT);
    // Port scanners and load balancers that look whether somebody is there are nobody's error.
    let unsaid = (!fault.is_probe()).then(|| shared.tls.failures().note(origin, now()));
    match unsaid.flatten() {
        Some(unsaid) => tracing::error!("{label} - TLS handshake error: {told}{unsaid}"),
        None => tracing::debug!("{label} - TLS handshake error: {told}"),
    }
}

/// Looks at the client's first byte without taking it; `None` if none comes any more.
async fn first_byte(socket: &TcpStream) -> Option<u8> {
    let mut first = [0];
    match socket.peek(&mut first).await {
        Ok(1) => Some(first[0]),
        _ => None,
    }
}

/// Waits until INFO has left in clear text.
async fn info_sent(
    socket: &Socket,
    outbox: &Outbox,
    patience: Duration,
) -> Result<(), CloseReason> {
    let sent = async {
        outbox.flush_unblocked(now());
        while outbox.status().pending_bytes > 0 {
            std::future::poll_fn(|context| socket.poll_writable(context))
                .await
                .ok()?;
            outbox.flush_unblocked(now());
        }
        Some(())
    };
    match timeout(patience, sent).await {
        Ok(Some(())) => Ok(()),
        _ => Err(CloseReason::WriteError),
    }
}

impl Settled {
    /// Tells the session, and lets its bytes pass. Returns why the connection has ended, if it has.
    pub(super) fn apply(
        self,
        shared: &Shared,
        socket: &Socket,
        context: &tls::Context,
        session: &mut ClientSession,
    ) -> Result<(), CloseReason> {
        match self {
            Self::Clear => {}
            Self::Encrypted { done, is_first } => {
                encrypt(shared, socket, context, session, done, is_first)?;
            }
            Self::Refused => {
                socket.let_clear();
                session.refuse_handshake(now());
                return Err(CloseReason::ConnectionsExceeded);
            }
        }
        session.begin(now());
        session.outbox().flush_unblocked(now());
        Ok(())
    }
}

/// Checks what rustls does not, tells the session, and lets the bytes pass.
fn encrypt(
    shared: &Shared,
    socket: &Socket,
    context: &tls::Context,
    session: &mut ClientSession,
    done: Done,
    is_first: bool,
) -> Result<(), CloseReason> {
    let connection = done.connection;
    let peer = connection.peer_certificates().and_then(peer_facts);
    let facts = facts(&connection, peer.as_ref(), is_first);
    tracing::debug!(
        "{} - TLS version {}, cipher suite {}",
        session.label(),
        facts.version,
        facts.cipher_suite
    );
    let own = fingerprint(&facts).map(str::to_owned);
    session.set_tls(facts);
    // Only now: a reload either has exchanged the pins already, or it finds this client among the others.
    let is_pinned = |context: &tls::Context| context.is_pinned(own.as_deref());
    let fault = if !is_pinned(context) || !shared.tls.current().is_none_or(|now| is_pinned(&now)) {
        Some(Fault::NotPinned)
    } else if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
        // The library does not verify again whoever takes up a session.
        let chain = connection.peer_certificates().unwrap_or_default();
        let verified = context.verify_again(chain, calendar_now());
        verified
            .map_err(|error| Fault::Tls(error, take_refused()))
            .err()
    } else {
        None
    };
    if let Some(fault) = fault {
        let origin = Origin::of(session.address().map(|address| address.ip()));
        tell_failure(shared, &session.label(), origin, &fault);
        return Err(CloseReason::TlsHandshakeFailure);
    }
    if let Some(peer) = peer {
        session.set_certificate_names(peer.names);
    }
    socket.secure(Secured::new(
        *connection,
        done.unread,
        Arc::clone(&shared.scratch),
    ));
    Ok(())
}

/// What monitoring shows of an encrypted connection.
pub(super) fn facts(connection: &Connection, peer: Option<&PeerFacts>, is_first: bool) -> TlsFacts {
    TlsFacts {
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2".to_owned(),
            _ => "1.3".to_owned(),
        },
        cipher_suite: connection
            .negotiated_cipher_suite()
            .and_then(|suite| suite_name(suite.suite()))
            .unwrap_or_default()
            .to_owned(),
        is_first,
        peer_certificates: peer
            .iter()
            .flat_map(|peer| &peer.shown)
            .map(|shown| PeerCertificate {
                subject: shown.subject.clone(),
                public_key_sha256: shown.public_key_sha256.clone(),
                sha256: shown.sha256.clone(),
            })
            .collect(),
    }
}

/// A handshake that succeeded.
pub(super) struct Done {
    pub(super) connection: Box<Connection>,
    /// What was read after its end.
    pub(super) unread: Vec<u8>,
}

/// Why a handshake failed.
pub(super) enum Fault {
    /// The client took too long.
    Timeout(Duration),
    /// The client closed the connection.
    Closed,
    Socket(io::Error),
    /// What the client sent first is not TLS.
    NotTls,
    /// With the certificate that was refused, if one was.
    Tls(Error, Option<String>),
    NotPinned,
}

impl Fault {
    fn is_probe(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::NotTls)
    }
}

/// A failure, and whose it is: "client" or "peer".
pub(super) struct Told<'a>(pub(super) &'a Fault, pub(super) &'static str);

impl fmt::Display for Told<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(fault, who) = self;
        match fault {
            Fault::Timeout(limit) => write!(formatter, "timeout: not done after {limit:?}"),
            Fault::Closed => write!(formatter, "EOF: the {who} closed the connection"),
            Fault::Socket(error) => write!(formatter, "{error}"),
            Fault::NotTls => formatter.write_str("first record does not look like a TLS handshake"),
            Fault::NotPinned => {
                write!(formatter, "the {who}'s certificate is none of pinned_certs")
            }
            Fault::Tls(error, refused) => {
                formatter.write_str(&explain(error, who))?;
                if let Some(certificate) = refused {
                    write!(formatter, " ({certificate})")?;
                }
                // Whoever connects servers has both sides' certificates in hand.
                match remedy(error) {
                    Some(remedy) if *who != CLIENT => write!(formatter, "; {remedy}"),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The usual failures in an operator's words, the others in the library's.
fn explain(error: &Error, who: &str) -> String {
    match error {
        Error::NoCertificatesPresented => {
            format!("the {who} did not provide a certificate, which verify asks for")
        }
        Error::InvalidCertificate(reason) => {
            let reason = match reason {
                CertificateError::UnknownIssuer => "signed by an unknown authority".to_owned(),
                CertificateError::ExpiredContext { not_after, .. } => {
                    format!("expired on {}", moment(*not_after))
                }
                CertificateError::Expired => "expired".to_owned(),
                // A wrong clock is as likely as a wrong certificate.
                CertificateError::NotValidYetContext { not_before, time } => {
                    let (begin, now) = (moment(*not_before), moment(*time));
                    format!("not valid before {begin}, and it is {now} here")
                }
                CertificateError::NotValidYet => "not valid yet".to_owned(),
                CertificateError::InvalidPurpose
                | CertificateError::InvalidPurposeContext { .. } => match who {
                    "client" => "not made for clients (extended key usage clientAuth)".to_owned(),
                    _ => "not made for this (extended key usage: routes need serverAuth and clientAuth)"
                        .to_owned(),
                },
                CertificateError::BadSignature => {
                    "signed with another key than the authority of that name has".to_owned()
                }
                CertificateError::NotValidForNameContext {
                    expected,
                    presented,
                } => {
                    let names: Vec<_> = presented.iter().map(|name| plain_name(name)).collect();
                    let names = match names.join(", ") {
                        names if names.is_empty() => "and it has no alternative names at all".to_owned(),
                        names => format!("only for {names}"),
                    };
                    format!("not valid for name \"{}\", {names}", expected.to_str())
                }
                _ if is_authority_shown(error) => {
                    "it is an authority's own (CA:TRUE) and not in ca_file".to_owned()
                }
                _ if is_of_old_version(error) => {
                    "of version 1 of X.509, and only version 3 says whom a certificate is for".to_owned()
                }
                other => other.to_string(),
            };
            format!("failed to verify the {who}'s certificate: {reason}")
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        ) => format!("the {who} does not trust this server's certificate"),
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            format!("the {who} finds this server's certificate expired")
        }
        Error::AlertReceived(AlertDescription::UnsupportedCertificate) => {
            format!(
                "the {who} finds this server's certificate not made for servers (extended key usage serverAuth)"
            )
        }
        Error::AlertReceived(AlertDescription::DecryptError) => format!(
            "the {who} finds this server's certificate signed with another key than the authority of that name has"
        ),
        Error::AlertReceived(AlertDescription::AccessDenied) => {
            format!("the {who} does not want to go on with what this server shows")
        }
        other => other.to_string(),
    }
}

const AUTHORITY_ANEW: &str =
    "the authority was made anew: make all certificates anew, too, and give all servers its own";

/// A name in a certificate, which the library has in its own words: `DnsName("a")`.
fn plain_name(name: &str) -> &str {
    let between = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    between.map_or(name, |between| between.trim_matches('"'))
}

/// What to do about a failure between servers.
fn remedy(error: &Error) -> Option<&'static str> {
    match error {
        Error::NoCertificatesPresented => Some("give it a certificate"),
        Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer => {
                Some("all servers need certificates of authorities that the others know")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Some("renew it, or correct the clock that is wrong")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Some("correct the clock that is wrong")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Some("make one that names it, too, or dial a name that it has")
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Some("make it anew with both")
            }
            CertificateError::BadSignature => Some(AUTHORITY_ANEW),
            _ => None,
        },
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            Some("renew it, or correct the clock that is wrong")
        }
        Error::AlertReceived(AlertDescription::UnsupportedCertificate) => {
            Some("make it anew with serverAuth and clientAuth")
        }
        Error::AlertReceived(AlertDescription::DecryptError) => Some(AUTHORITY_ANEW),
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied,
        ) => Some("its log says why"),
        _ => None,
    }
}

/// As `2026-11-21T04:29:44Z`.
fn moment(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .map_or_else(|_| format!("{seconds}"), |moment| moment.to_string())
}

pub(super) async fn shake_hands(
    socket: &TcpStream,
    connection: Connection,
    context: &tls::Context,
    acceptor: &tls::Acceptor,
) -> Result<Done, Fault> {
    let mut connection = Box::new(connection);
    let mut received = Vec::new();
    let mut is_begun = false;
    // What the client may take. Waiting for a place to do our own work is not the client's time: a thousand
    // clients that come at once all get their turn.
    let mut patience = context.timeout();
    loop {
        let begun = now();
        let exchange = exchange(socket, &mut connection, &mut received, &mut is_begun);
        let is_done = timeout(patience, exchange)
            .await
            .map_err(|_| Fault::Timeout(context.timeout()))??;
        patience = patience.saturating_sub(now().saturating_duration_since(begun));
        if is_done {
            return Ok(Done {
                connection,
                unread: received,
            });
        }
        let records = std::mem::take(&mut received);
        let step = move || {
            let mut rest = records.as_slice();
            let result = step(&mut connection, &mut rest);
            let refused = take_refused();
            let rest = rest.to_vec();
            (connection, result, refused, rest)
        };
        let done = if context.is_slow() {
            acceptor.slow_steps().run(step).await
        } else {
            acceptor.steps().run(step).await
        };
        let Some((given_back, result, refused, rest)) = done else {
            return Err(Fault::Closed);
        };
        (connection, received) = (given_back, rest);
        if let Err(error) = result {
            // The client is told why, if its socket takes it.
            let _ = send(socket, &mut connection);
            return Err(Fault::Tls(error, refused));
        }
    }
}

/// Sends what there is, and receives at least one record if the handshake is not over; returns whether it is.
async fn exchange(
    socket: &TcpStream,
    connection: &mut Connection,
    received: &mut Vec<u8>,
    is_begun: &mut bool,
) -> Result<bool, Fault> {
    while let Err(error) = send(socket, connection) {
        if error.kind() != ErrorKind::WouldBlock {
            return Err(Fault::Socket(error));
        }
        socket.writable().await.map_err(Fault::Socket)?;
    }
    if !connection.is_handshaking() {
        return Ok(true);
    }
    let mut buffer = [0; READ_BYTES];
    while !is_record(received) {
        socket.readable().await.map_err(Fault::Socket)?;
        match stream::try_read(socket, &mut buffer) {
            Ok(0) => return Err(Fault::Closed),
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                continue;
            }
            Err(error) => return Err(Fault::Socket(error)),
        }
        // Who is dialled may begin with an alert.
        let is_tls = match connection {
            Connection::Server(_) => received[0] == HANDSHAKE_RECORD,
            Connection::Client(_) => RECORD_KINDS.contains(&received[0]),
        };
        if !*is_begun && !is_tls {
            return Err(Fault::NotTls);
        }
        *is_begun = true;
    }
    Ok(false)
}

fn send(socket: &TcpStream, connection: &mut Connection) -> io::Result<()> {
    while connection.wants_write() {
        if connection.write_tls(&mut super::secured::Sink(socket))? == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Whether `bytes` begin with a complete record, or with something that can never be one.
fn is_record(bytes: &[u8]) -> bool {
    let [kind, _, _, high, low, rest @ ..] = bytes else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    !RECORD_KINDS.contains(kind) || length > RECORD_BYTES_MAX || rest.len() >= length
}

/// Feeds records until the handshake is over; the rest stays in `bytes`.
fn step(connection: &mut Connection, bytes: &mut &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() && connection.is_handshaking() {
        match connection.read_tls(bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(Error::General(error.to_string())),
        }
        connection.process_new_packets()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::ServerName;

    use super::*;

    #[test]
    fn when_a_certificate_ended_or_begins_is_told() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let said = |reason| explain(&Error::InvalidCertificate(reason), CLIENT);
        let (not_after, not_before, time) = (at(86_400), at(4 * 86_400), at(2 * 86_400));
        assert_eq!(
            said(CertificateError::ExpiredContext { time, not_after }),
            "failed to verify the client's certificate: expired on 1970-01-02T00:00:00Z"
        );
        assert_eq!(
            said(CertificateError::NotValidYetContext { time, not_before }),
            "failed to verify the client's certificate: not valid before 1970-01-05T00:00:00Z, and it is \
             1970-01-03T00:00:00Z here"
        );
    }

    #[test]
    fn peers_are_told_of_with_a_remedy() {
        let said = |error, who| Told(&Fault::Tls(error, Some("CN=a".into())), who).to_string();
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(
            said(unknown(), "peer"),
            "failed to verify the peer's certificate: signed by an unknown authority (CN=a); all servers need certificates \
             of authorities that the others know"
        );
        assert!(said(unknown(), CLIENT).ends_with("authority (CN=a)"));
        for (error, expected) in [
            (
                Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                    expected: ServerName::try_from("a").expect("a name"),
                    presented: vec!["DnsName(\"b\")".into(), "IpAddress(127.0.0.1)".into()],
                }),
                "failed to verify the peer's certificate: not valid for name \"a\", only for b, 127.0.0.1 (CN=a); make one that \
                 names it, too, or dial a name that it has",
            ),
            (
                Error::InvalidCertificate(CertificateError::BadSignature),
                "failed to verify the peer's certificate: signed with another key than the authority of that name has (CN=a); \
                 the authority was made anew: make all certificates anew, too, and give all servers its own",
            ),
            (
                Error::AlertReceived(AlertDescription::UnsupportedCertificate),
                "the peer finds this server's certificate not made for servers (extended key usage serverAuth) (CN=a); make \
                 it anew with serverAuth and clientAuth",
            ),
            (
                Error::AlertReceived(AlertDescription::DecryptError),
                "the peer finds this server's certificate signed with another key than the authority of that name has (CN=a); \
                 the authority was made anew: make all certificates anew, too, and give all servers its own",
            ),
            (
                Error::AlertReceived(AlertDescription::AccessDenied),
                "the peer does not want to go on with what this server shows (CN=a); its log says why",
            ),
        ] {
            assert_eq!(said(error, "peer"), expected);
        }
    }

    #[test]
    fn a_record_is_known_by_its_header() {
        let check = |bytes: &[u8], expected| assert_eq!(is_record(bytes), expected, "{bytes:?}");
        check(b"", false);
        check(&[0x16, 3, 1, 0], false);
        check(&[0x16, 3, 1, 0, 2, 1], false);
        check(&[0x16, 3, 1, 0, 2, 1, 2], true);
        check(&[0x16, 3, 1, 0xff, 0xff], true);
        check(b"GET /", true);
    }
}
