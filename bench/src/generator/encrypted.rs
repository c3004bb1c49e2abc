//! A client's side of a TLS connection on a blocking socket, with large reads and writes: the generator must not
//! be what a cell measures.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, version};

use crate::cells::Encryption;
use crate::certificates::{ClientFiles, SERVER_NAME};

/// Ciphertext read at one time. Memory that a connection never reads into is never there.
const READ_BYTES_MAX: usize = 64 * 1024;

/// How the clients of a cell encrypt; `None` for clear text.
///
/// Both servers are offered the same and nothing they could choose between: TLS 1.3, X25519 and AES-128, which is
/// what nats-server and the usual clients agree on. No session is taken up again, so every handshake is a whole one.
pub(super) fn config(encryption: Encryption, folder: &Path) -> Result<Option<Arc<ClientConfig>>> {
    if encryption == Encryption::None {
        return Ok(None);
    }
    let files = ClientFiles::inside(folder);
    let provider = CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.authority)?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match encryption {
        Encryption::MutualTls => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(&files.certificate)?],
            PrivateKeyDer::from_pem_file(&files.key)?,
        )?,
        Encryption::None | Encryption::Tls => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(Some(Arc::new(config)))
}

/// An encrypted connection. Dropped, it says that nothing more comes, as clients do.
pub(super) struct Encrypted {
    connection: ClientConnection,
    socket: TcpStream,
    /// Ciphertext; what has been read and not yet decrypted is from `position` to `filled`.
    received: Vec<u8>,
    position: usize,
    filled: usize,
}

impl Encrypted {
    /// Shakes hands.
    pub(super) fn new(config: &Arc<ClientConfig>, mut socket: TcpStream) -> Result<Self> {
        let name = ServerName::try_from(SERVER_NAME)?;
        let mut connection = ClientConnection::new(Arc::clone(config), name)?;
        while connection.is_handshaking() {
            connection
                .complete_io(&mut socket)
                .context("in the TLS handshake")?;
        }
        Ok(Self {
            connection,
            socket,
            received: vec![0; READ_BYTES_MAX],
            position: 0,
            filled: 0,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Decrypts what has been received, as long as there is room; returns the number of bytes.
    fn decrypt(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut count = 0;
        loop {
            match self.connection.reader().read(&mut buffer[count..]) {
                Ok(0) => return Ok(Some(count)),
                Ok(more) => count += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let mut rest = &self.received[self.position..self.filled];
            if rest.is_empty() {
                return Ok((count > 0).then_some(count));
            }
            self.position += self.connection.read_tls(&mut rest)?;
            self.connection
                .process_new_packets()
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

/// With a buffer of `READ_BYTES_MAX` or more, nothing that has arrived is left behind: whether there is more can
/// be asked of the socket.
impl Read for Encrypted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(count) = self.decrypt(buffer)? {
                return Ok(count);
            }
            self.position = 0;
            self.filled = self.socket.read(&mut self.received)?;
            if self.filled == 0 {
                return Ok(0);
            }
        }
    }
}

impl Write for Encrypted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.connection.writer().write(bytes)?;
        self.send()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        self.connection.send_close_notify();
        // A server that has gone is not told.
        let _ = self.send();
    }
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Encrypted")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
