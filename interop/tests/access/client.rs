//! A client over bare sockets or TLS that tries to log in, and tells what came of it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedCipherSuite, version,
};
use serde_json::Value;
use testkit::PATIENCE;

use super::authority::{Pair, trusted};

/// What came of an attempt to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in, in this account.
    In(String),
    /// It was told this, and let go.
    Refused(String),
    /// It was let go without a word.
    Closed,
    /// The TLS handshake was refused.
    NoHandshake,
}

/// How the connection is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport<'a> {
    Plain,
    /// With TLS after `INFO`, and a certificate if there is one.
    Tls(Option<&'a Pair>),
    /// With TLS 1.2 and no suite but this.
    Suite(&'static str),
    /// With TLS, and sessions that are taken up again if the server lets us.
    Remembering(&'a Resumption),
}

/// What a client remembers of its sessions.
#[derive(Debug)]
pub(crate) struct Resumption(Arc<ClientConfig>);

impl Resumption {
    pub(crate) fn new() -> Self {
        Self(Arc::new(client_config(None, &ring::default_provider())))
    }
}

pub(crate) struct Client {
    stream: BufReader<Box<dyn Stream>>,
    pub(crate) info: Value,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Client {
    /// Connects and takes the `INFO`.
    pub(crate) fn connect(address: SocketAddr, transport: Transport<'_>) -> Self {
        let tcp = TcpStream::connect_timeout(&address, PATIENCE).expect("a server that listens");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        tcp.set_nodelay(true).expect("no delay");
        // Byte by byte: what follows may not be ours to read.
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            (&tcp).read_exact(&mut byte).expect("a line of INFO");
            line.push(byte[0]);
        }
        let line = String::from_utf8(line).expect("INFO is text");
        let json = line.trim_end().strip_prefix("INFO ").expect("INFO first");
        let info = serde_json::from_str(json).expect("INFO holds JSON");
        let stream: Box<dyn Stream> = match transport {
            Transport::Plain => Box::new(tcp),
            Transport::Tls(pair) => secured(client_config(pair, &ring::default_provider()), tcp),
            Transport::Suite(name) => {
                let mut provider = ring::default_provider();
                let is_it = |suite: &SupportedCipherSuite| suite.suite().as_str() == Some(name);
                provider.cipher_suites.retain(is_it);
                secured(client_config(None, &provider), tcp)
            }
            Transport::Remembering(memory) => secured(Arc::clone(&memory.0), tcp),
        };
        Self {
            stream: BufReader::new(stream),
            info,
        }
    }

    /// Logs in with these fields of `CONNECT` beside the usual ones.
    pub(crate) fn log_in(&mut self, fields: &str) -> Outcome {
        let comma = if fields.is_empty() { "" } else { "," };
        let connect =
            format!("CONNECT {{\"verbose\":false,\"protocol\":1{comma}{fields}}}\r\nPING\r\n");
        self.try_log_in(&connect).unwrap_or(Outcome::NoHandshake)
    }

    /// Sends this, the last of it a `PING`, as the first thing.
    pub(crate) fn try_log_in(&mut self, bytes: &str) -> io::Result<Outcome> {
        // A handshake that is refused may show only in what is read.
        let _ = self.send(bytes);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Outcome::Closed);
            }
            if let Some(error) = line.strip_prefix("-ERR ") {
                let mut rest = Vec::new();
                // The end may be a reset: what we sent was not read to the end.
                let _ = self.stream.read_to_end(&mut rest);
                assert_eq!(String::from_utf8_lossy(&rest), "", "after {line}");
                return Ok(Outcome::Refused(error.trim_matches('\'').to_owned()));
            }
            if let Some(json) = line.strip_prefix("INFO ") {
                let info: Value = serde_json::from_str(json).expect("INFO holds JSON");
                let account = info["remote_account"].as_str().unwrap_or_default();
                return Ok(Outcome::In(account.to_owned()));
            }
            assert!(matches!(line.as_str(), "PONG" | "PING" | "+OK"), "{line}");
        }
    }

    pub(crate) fn send(&mut self, bytes: &str) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes.as_bytes())?;
        stream.flush()
    }

    /// The next line without its end; empty when there is none.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Sends this, and returns the lines that came until everything was done.
    pub(crate) fn exchange(&mut self, bytes: &str) -> Vec<String> {
        self.send(&format!("{bytes}PING\r\n"))
            .expect("still connected");
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let count = self.stream.read_line(&mut line).expect("still connected");
            assert!(count > 0, "closed after {lines:?}");
            let line = line.trim_end().to_owned();
            match line.as_str() {
                "PONG" => return lines,
                "PING" => self.send("PONG\r\n").expect("still connected"),
                _ => lines.push(line),
            }
        }
    }
}

fn secured(config: impl Into<Arc<ClientConfig>>, tcp: TcpStream) -> Box<dyn Stream> {
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(config.into(), name).expect("a connection");
    Box::new(StreamOwned::new(connection, tcp))
}

fn client_config(pair: Option<&Pair>, provider: &CryptoProvider) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(trusted().pem().as_bytes()).expect("a certificate");
    roots.add(root).expect("an authority");
    // With suites of TLS 1.2 alone there is no TLS 1.3.
    let has_new = provider
        .cipher_suites
        .iter()
        .any(|suite| suite.tls13().is_some());
    let versions: &[_] = if has_new {
        &[&version::TLS13, &version::TLS12]
    } else {
        &[&version::TLS12]
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
            let chain = chain.collect::<Result<_, _>>().expect("certificates");
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    }
}
