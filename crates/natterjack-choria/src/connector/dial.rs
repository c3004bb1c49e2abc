//! One attempt to connect to one server: from its name to a connection over TLS that it has agreed to.
//!
//! Nothing of what a server says before it has shown its certificate is acted upon, but for whether TLS follows. It always
//! does: there is no connection without it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use natterjack_wire::client::{
    ConnectOptions, Decoded, Limits, ServerInfo, ServerOp, connect, decode_server, error_text, ping,
};
use natterjack_wire::error::ProtocolError;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::credentials::{Credentials, CredentialsError};
use crate::server::ServerAddress;

/// For a name to become addresses. A resolver asks several servers, and each twice.
const RESOLVE_MAX: Duration = Duration::from_secs(10);

/// For an address to answer at all.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// For all that is said before messages are. A server to which a whole fleet comes back takes longer than an idle one.
const HANDSHAKE_MAX: Duration = Duration::from_secs(15);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Operations of a server before it has answered. Two or three are usual.
const OPERATIONS_MAX: usize = 16;

/// What a server may say before it has let us in: nobody has proven yet who it is, and there are no messages.
const GREETING: Limits = Limits {
    control_line_bytes_max: 64 << 10,
    payload_bytes_max: 0,
    headers: true,
};

/// Why there is no connection to a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Its name has no address.
    #[error("the name cannot be resolved: {0}")]
    Resolve(io::Error),
    /// Nobody listens there.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// It did not answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// It hung up.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// It is something else.
    #[error("this is no NATS server: {0}")]
    NotNats(ProtocolError),
    /// It says something that it should not say now.
    #[error("the server says something unexpected")]
    Unexpected,
    /// It does not offer TLS. Nothing was said to it.
    #[error(
        "the server does not offer TLS, and there is no connection without it; configure tls there"
    )]
    Plaintext,
    /// No certificate can be for such a name.
    #[error("the server's name cannot be that of a certificate")]
    Name,
    /// One side does not trust the other.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The file of credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// It does not let us in.
    #[error("the server refuses: {0}")]
    Refused(String),
}

/// Who we are to servers.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) credentials: Credentials,
    pub(super) tls: Arc<ClientConfig>,
}

/// A connection that messages can go over.
pub(super) struct Dialled {
    pub(super) stream: TlsStream<TcpStream>,
    /// What came after the handshake.
    pub(super) rest: Vec<u8>,
    pub(super) info: ServerInfo,
}

/// Tries each address of this server once.
pub(super) async fn dial(server: &ServerAddress, caller: &Caller) -> Result<Dialled, DialError> {
    let addresses = resolve(server).await?;
    let mut error = DialError::Resolve(io::ErrorKind::NotFound.into());
    for address in addresses {
        match dial_address(server, address, caller).await {
            Ok(dialled) => return Ok(dialled),
            Err(failed) => {
                tracing::debug!(%server, %address, error = %failed, "an address does not do");
                error = failed;
            }
        }
    }
    Err(error)
}

async fn resolve(server: &ServerAddress) -> Result<Vec<SocketAddr>, DialError> {
    let lookup = tokio::net::lookup_host((server.host.as_str(), server.port));
    let addresses = within(RESOLVE_MAX, lookup).await?;
    Ok(addresses
        .map_err(DialError::Resolve)?
        .take(ADDRESSES_MAX)
        .collect())
}

async fn dial_address(
    server: &ServerAddress,
    address: SocketAddr,
    caller: &Caller,
) -> Result<Dialled, DialError> {
    let tcp = within(CONNECT_MAX, TcpStream::connect(address)).await?;
    let tcp = tcp.map_err(DialError::Connect)?;
    tcp.set_nodelay(true).map_err(DialError::Broken)?;
    within(HANDSHAKE_MAX, shake_hands(server, tcp, caller)).await?
}

async fn within<F: Future>(limit: Duration, future: F) -> Result<F::Output, DialError> {
    let output = timeout(limit, future).await;
    output.map_err(|_| DialError::Timeout(limit))
}

async fn shake_hands(
    server: &ServerAddress,
    mut tcp: TcpStream,
    caller: &Caller,
) -> Result<Dialled, DialError> {
    let mut input = Vec::new();
    let info = match next(&mut tcp, &mut input, DialError::Broken).await? {
        Said::Info(info) => *info,
        Said::Refusal(text) => return Err(DialError::Refused(text)),
        Said::Pong | Said::Nothing => return Err(DialError::Unexpected),
    };
    if !info.tls_required && !info.tls_available {
        return Err(DialError::Plaintext);
    }
    // Whatever came with it would seem to have come over TLS.
    if !input.is_empty() {
        return Err(DialError::Unexpected);
    }
    let name = ServerName::try_from(server.host.clone()).map_err(|_| DialError::Name)?;
    let connector = TlsConnector::from(Arc::clone(&caller.tls));
    let stream = connector.connect(name, tcp).await;
    let stream = stream.map_err(DialError::Tls)?;
    introduce(stream, info, caller).await
}

/// Says who we are, and waits until that is agreed to.
async fn introduce(
    mut stream: TlsStream<TcpStream>,
    mut info: ServerInfo,
    caller: &Caller,
) -> Result<Dialled, DialError> {
    let mut options = ConnectOptions {
        verbose: false,
        pedantic: false,
        tls_required: true,
        name: caller.name.clone(),
        lang: "rust".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        protocol: 1,
        ..ConnectOptions::default()
    };
    caller.credentials.show(&info, &mut options)?;
    let mut output = Vec::new();
    connect(&mut output, &options);
    ping(&mut output);
    let written = stream.write_all(&output).await;
    zeroize::Zeroize::zeroize(&mut output);
    written.map_err(DialError::Tls)?;
    stream.flush().await.map_err(DialError::Tls)?;
    let mut rest = Vec::new();
    for _ in 0..OPERATIONS_MAX {
        // With TLS 1.3 this is where a server tells that it does not take our certificate.
        match next(&mut stream, &mut rest, DialError::Tls).await? {
            Said::Pong => return Ok(Dialled { stream, rest, info }),
            Said::Refusal(text) => return Err(DialError::Refused(text)),
            Said::Info(later) => info = *later,
            Said::Nothing => {}
        }
    }
    Err(DialError::Unexpected)
}

/// What matters of what a server may say before messages.
enum Said {
    Info(Box<ServerInfo>),
    Refusal(String),
    Pong,
    Nothing,
}

/// Takes the next operation out of `input`, for which more is read if need be.
async fn next(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut Vec<u8>,
    broken: fn(io::Error) -> DialError,
) -> Result<Said, DialError> {
    loop {
        match decode_server(input, &GREETING).map_err(DialError::NotNats)? {
            Decoded::Op { op, consumed } => {
                let said = match op {
                    ServerOp::Info(json) => {
                        let info = ServerInfo::parse(json);
                        Said::Info(Box::new(info.map_err(|_| DialError::Unexpected)?))
                    }
                    ServerOp::Err(text) => {
                        Said::Refusal(String::from_utf8_lossy(error_text(text)).into_owned())
                    }
                    ServerOp::Pong => Said::Pong,
                    ServerOp::Ok => Said::Nothing,
                    ServerOp::Ping | ServerOp::Message(_) => return Err(DialError::Unexpected),
                };
                input.drain(..consumed);
                return Ok(said);
            }
            Decoded::Incomplete { .. } => {
                if stream.read_buf(input).await.map_err(broken)? == 0 {
                    return Err(DialError::Closed);
                }
            }
        }
    }
}
