//! A blocking client that speaks TLS and tells how the handshake went.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use natterjack_server::KeyPairFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version,
};

use super::authority::Authority;
use crate::support::PATIENCE;

pub(super) const VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// How a client connects.
pub(super) struct Setup {
    pub(super) config: Arc<ClientConfig>,
    /// Whether it begins the handshake without waiting for INFO.
    pub(super) is_first: bool,
}

impl Setup {
    pub(super) fn new(authority: &Authority) -> Self {
        Self::with(authority, None, VERSIONS)
    }

    pub(super) fn with(
        authority: &Authority,
        pair: Option<&KeyPairFiles>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_file(&pair.cert_file).expect("a certificate")],
                    PrivateKeyDer::from_pem_file(&pair.key_file).expect("a key"),
                )
                .expect("a pair"),
        };
        Self {
            config: Arc::new(config),
            is_first: false,
        }
    }

    pub(super) fn first(authority: &Authority) -> Self {
        Self {
            is_first: true,
            ..Self::new(authority)
        }
    }

    /// Connects, shakes hands and says CONNECT and PING; returns once PONG came.
    pub(super) fn connect(&self, address: SocketAddr) -> io::Result<Client> {
        let mut tcp = tcp(address);
        let mut info = String::new();
        if !self.is_first {
            info = line(&mut tcp)?;
        }
        let name = ServerName::try_from("localhost").expect("a name");
        let connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let stream = StreamOwned::new(connection, tcp);
        let mut client = Client {
            // Small, so that a client that reads slowly leaves its bytes to the server.
            stream: BufReader::with_capacity(4096, stream),
            info,
        };
        if self.is_first {
            client.info = client.line()?;
        }
        client.send(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n")?;
        match client.line()?.as_str() {
            "PONG" => Ok(client),
            other => Err(io::Error::other(other.to_owned())),
        }
    }
}

pub(super) struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    pub(super) info: String,
}

impl Client {
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next line that is not a PING, which may come at any time.
    pub(super) fn line(&mut self) -> io::Result<String> {
        loop {
            let line = line(&mut self.stream)?;
            if line != "PING" {
                return Ok(line);
            }
        }
    }

    pub(super) fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(buffer)
    }

    /// Reads until the server ends the connection, which it must do in TLS too.
    pub(super) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    pub(super) fn tls(&self) -> &ClientConnection {
        &self.stream.get_ref().conn
    }

    /// The certificate the server has shown.
    pub(super) fn server_certificate(&self) -> CertificateDer<'static> {
        let shown = self.tls().peer_certificates().expect("a certificate");
        shown[0].clone().into_owned()
    }
}

pub(super) fn tcp(address: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(address).expect("connected");
    tcp.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    tcp.set_write_timeout(Some(PATIENCE)).expect("a time limit");
    tcp.set_nodelay(true).expect("no delay");
    tcp
}

/// Reads a line, byte by byte so that nothing after it is taken.
pub(super) fn line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}
