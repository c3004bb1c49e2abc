//! From an address to a connection that a server has accepted: socket, `INFO`, TLS, `CONNECT`, `PONG`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use natterjack_wire::client::{self, ConnectOptions, ServerInfo, ServerOp};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ClientError;
use super::incoming::Incoming;
use super::servers::Address;
use crate::tls::ClientTls;

/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server may take to accept us, once there is a connection.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// Addresses tried of one name.
const ADDRESSES_MAX: usize = 8;

/// A stream of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that the server has accepted.
pub(super) struct Greeted {
    pub(super) stream: Box<dyn Stream>,
    pub(super) is_encrypted: bool,
    /// What was read beyond the greeting.
    pub(super) incoming: Incoming,
    pub(super) info: ServerInfo,
}

/// Connects over a socket.
pub(super) async fn connect(
    address: &Address,
    name: &str,
    tls: &ClientTls,
) -> Result<Greeted, ClientError> {
    let socket = dial(address).await?;
    in_time(async {
        let mut socket = socket;
        let mut incoming = Incoming::default();
        let info = hear(&mut socket, &mut incoming).await?;
        let is_encrypted = tls.is_required() || address.is_tls || info.tls_required;
        let stream: Box<dyn Stream> = if is_encrypted {
            Box::new(encrypt(socket, &info, &incoming, address, tls).await?)
        } else {
            Box::new(socket)
        };
        greet(stream, incoming, info, options(name, is_encrypted)).await
    })
    .await
}

/// Connects over a stream inside the process, which is never encrypted.
pub(super) async fn connect_inside(
    stream: impl Stream + 'static,
    name: &str,
) -> Result<Greeted, ClientError> {
    in_time(async {
        let mut stream = stream;
        let mut incoming = Incoming::default();
        let info = hear(&mut stream, &mut incoming).await?;
        greet(Box::new(stream), incoming, info, options(name, false)).await
    })
    .await
}

async fn in_time(
    greeting: impl Future<Output = Result<Greeted, ClientError>>,
) -> Result<Greeted, ClientError> {
    match tokio::time::timeout(GREETING_TIMEOUT, greeting).await {
        Ok(greeted) => greeted,
        Err(_) => Err(ClientError::Silent),
    }
}

async fn dial(address: &Address) -> Result<TcpStream, ClientError> {
    let host = address.host.as_str();
    let found = tokio::net::lookup_host((host, address.port)).await;
    let found = found.map_err(|source| ClientError::UnknownHost {
        host: host.to_owned(),
        source,
    })?;
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in found.take(ADDRESSES_MAX) {
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
        match dialled.await.unwrap_or_else(|late| Err(late.into())) {
            Ok(socket) => {
                // What is written is whole batches already.
                socket.set_nodelay(true).map_err(ClientError::Broken)?;
                return Ok(socket);
            }
            Err(error) => failure = error,
        }
    }
    Err(ClientError::Broken(failure))
}

/// Waits for the server to say who it is.
async fn hear(
    stream: &mut (impl Stream + ?Sized),
    incoming: &mut Incoming,
) -> Result<ServerInfo, ClientError> {
    loop {
        let info = incoming.next(stream, |op| match op {
            ServerOp::Info(json) => Some(ServerInfo::parse(json).map_err(ClientError::Info)),
            ServerOp::Err(text) => Some(Err(ClientError::refused(text))),
            _ => None,
        });
        if let Some(info) = info.await? {
            return info;
        }
    }
}

async fn encrypt(
    socket: TcpStream,
    info: &ServerInfo,
    incoming: &Incoming,
    address: &Address,
    tls: &ClientTls,
) -> Result<TlsStream<TcpStream>, ClientError> {
    if !(info.tls_required || info.tls_available) {
        return Err(ClientError::NoTls);
    }
    if !incoming.is_empty() {
        // Whoever sits between could have put it there.
        return Err(ClientError::Early);
    }
    let name = ServerName::try_from(address.tls_name.clone());
    let name = name.map_err(|_| ClientError::NoName)?;
    let connector = TlsConnector::from(Arc::new(tls.config()));
    let stream = connector.connect(name, socket).await;
    stream.map_err(ClientError::Tls)
}

/// Says who we are, and waits until that is accepted.
async fn greet(
    mut stream: Box<dyn Stream>,
    mut incoming: Incoming,
    mut info: ServerInfo,
    options: ConnectOptions,
) -> Result<Greeted, ClientError> {
    let mut hello = Vec::new();
    client::connect(&mut hello, &options);
    client::ping(&mut hello);
    let written = async {
        stream.write_all(&hello).await?;
        stream.flush().await
    };
    // Whoever refuses us may have closed already; why it did is what can still be read.
    let written = written.await;
    loop {
        let accepted = incoming.next(&mut *stream, |op| match op {
            ServerOp::Pong => Some(Ok(())),
            ServerOp::Err(text) => Some(Err(ClientError::refused(text))),
            ServerOp::Info(json) => match ServerInfo::parse(json) {
                Ok(newer) => {
                    info = newer;
                    None
                }
                Err(error) => Some(Err(ClientError::Info(error))),
            },
            _ => None,
        });
        if let Some(accepted) = accepted.await? {
            accepted?;
            written.map_err(ClientError::Broken)?;
            if !info.headers {
                // It would close the connection at the first event, and so would each after it.
                return Err(ClientError::NoHeaders);
            }
            return Ok(Greeted {
                stream,
                is_encrypted: options.tls_required,
                incoming,
                info,
            });
        }
    }
}

fn options(name: &str, tls_required: bool) -> ConnectOptions {
    ConnectOptions {
        verbose: false,
        pedantic: false,
        echo: true,
        headers: true,
        protocol: 1,
        tls_required,
        name: name.to_owned(),
        lang: "rust".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..ConnectOptions::default()
    }
}
