//! From an address to a connection that a server has agreed to: name, socket, `INFO`, TLS, `CONNECT`, `PONG`.
//!
//! Nothing of what a server says before it has shown its certificate is acted upon, but for whether TLS follows.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use natterjack_wire::client::{
    ConnectOptions, InfoError, ServerInfo, ServerOp, connect, error_text, ping, pong,
};
use natterjack_wire::error::ProtocolError;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};
use zeroize::Zeroizing;

use crate::address::Address;
use crate::incoming::{Incoming, ReadError};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Operations of a server before it has answered. Two or three are usual.
const OPERATIONS_MAX: usize = 16;

/// Whom to believe, and whether there must be TLS.
#[derive(Clone, Debug)]
pub struct Security {
    /// Authorities, and our own certificate.
    pub config: Arc<ClientConfig>,
    /// When it is used.
    pub rule: TlsRule,
}

/// Whether there is TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRule {
    /// Always: to a server that does not offer it nothing is said.
    Always,
    /// If the server demands it.
    OnDemand,
}

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For a name to become addresses. A resolver asks several servers, and each twice.
    pub resolve: Duration,
    /// For one address to answer at all.
    pub connect: Duration,
    /// For all that one address says before messages, TLS included. A server to which a whole fleet comes back takes longer
    /// than an idle one.
    pub greeting: Duration,
    /// For all of it, whatever number of addresses the name has.
    pub whole: Duration,
}

/// What a connection is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// A name becomes addresses.
    Resolve,
    /// An address answers.
    Connect,
    /// TLS, and who is who.
    Greeting,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Resolve => "the lookup of the name",
            Self::Connect => "the connection",
            Self::Greeting => "the server's greeting",
        })
    }
}

/// Why there is no connection to a server. `C` is why there are no credentials to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError<C: std::error::Error + 'static = Infallible> {
    /// Its name has no address.
    #[error("the name cannot be resolved: {0}")]
    Resolve(io::Error),
    /// Nobody listens there.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// It did not answer in time.
    #[error("no answer in time: {phase} took longer than {:.1} s", limit.as_secs_f32())]
    Timeout {
        /// What took so long.
        phase: Phase,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It hung up.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// It is something else.
    #[error("this is no NATS server: {0}")]
    NotNats(ProtocolError),
    /// It says something about itself that cannot be read.
    #[error("this is no NATS server: {0}")]
    Info(InfoError),
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
    /// There is nothing to show to it.
    #[error(transparent)]
    Credentials(C),
    /// It does not let us in.
    #[error("the server refuses: {0}")]
    Refused(String),
}

/// A stream of any kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that messages can go over.
pub struct Dialled {
    /// The connection.
    pub stream: Box<dyn Stream>,
    /// Whether it is TLS.
    pub is_encrypted: bool,
    /// What came after the greeting. It does not take messages yet: [`Incoming::admit`].
    pub incoming: Incoming,
    /// What the server says about itself.
    pub info: ServerInfo,
}

impl fmt::Debug for Dialled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Dialled")
            .field("is_encrypted", &self.is_encrypted)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// Connects to a server: tries each of its addresses once. `hello` says who we are, given what the server says about itself;
/// whether there is TLS is added to that.
///
/// # Errors
/// Why the last address did not do.
pub async fn dial<C: std::error::Error + Send + 'static>(
    server: &Address,
    security: &Security,
    deadlines: &Deadlines,
    hello: &(impl Fn(&ServerInfo) -> Result<ConnectOptions, C> + Sync),
) -> Result<Dialled, DialError<C>> {
    let end = now() + deadlines.whole;
    let step = |phase, limit| Step {
        phase,
        limit,
        end: Some(end),
    };
    let mut error = DialError::Resolve(io::ErrorKind::NotFound.into());
    let resolving = step(Phase::Resolve, deadlines.resolve);
    for address in resolving.of(resolve(server)).await? {
        let connecting = step(Phase::Connect, deadlines.connect);
        let dialled = match connecting.of(connect_to(address)).await {
            Ok(tcp) => {
                let greeting = step(Phase::Greeting, deadlines.greeting);
                greeting.of(shake_hands(server, tcp, security, hello)).await
            }
            Err(error) => Err(error),
        };
        match dialled {
            Ok(dialled) => return Ok(dialled),
            Err(failed) => {
                tracing::debug!(%server, %address, error = %failed, "an address does not do");
                error = failed;
            }
        }
        if now() >= end {
            break;
        }
    }
    Err(error)
}

/// The same over a stream that is there already and needs no TLS, such as one inside the process.
///
/// # Errors
/// Why the server does not do.
pub async fn greet<C: std::error::Error + Send + 'static>(
    stream: impl Stream + 'static,
    limit: Duration,
    hello: &(impl Fn(&ServerInfo) -> Result<ConnectOptions, C> + Sync),
) -> Result<Dialled, DialError<C>> {
    let greeting = Step {
        phase: Phase::Greeting,
        limit,
        end: None,
    };
    greeting
        .of(async {
            let mut stream: Box<dyn Stream> = Box::new(stream);
            let mut incoming = Incoming::default();
            let info = hear(&mut stream, &mut incoming).await?;
            introduce(stream, incoming, info, false, hello).await
        })
        .await
}

/// A step of a dial, which may take a time of its own within that of the whole.
struct Step {
    phase: Phase,
    limit: Duration,
    end: Option<Instant>,
}

impl Step {
    async fn of<T, C: std::error::Error + 'static>(
        self,
        future: impl Future<Output = Result<T, DialError<C>>>,
    ) -> Result<T, DialError<C>> {
        let left = self.end.map(|end| end.saturating_duration_since(now()));
        let limit = left.map_or(self.limit, |left| left.min(self.limit));
        let phase = self.phase;
        let output = timeout(limit, future).await;
        output.unwrap_or(Err(DialError::Timeout { phase, limit }))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the steps of one dial share the time that it may take"
)]
fn now() -> Instant {
    Instant::now()
}

async fn resolve<C: std::error::Error + 'static>(
    server: &Address,
) -> Result<Vec<SocketAddr>, DialError<C>> {
    let addresses = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
    let addresses = addresses.map_err(DialError::Resolve)?;
    Ok(addresses.take(ADDRESSES_MAX).collect())
}

async fn connect_to<C: std::error::Error + 'static>(
    address: SocketAddr,
) -> Result<TcpStream, DialError<C>> {
    let tcp = TcpStream::connect(address).await;
    let tcp = tcp.map_err(DialError::Connect)?;
    // What is written is whole batches already.
    tcp.set_nodelay(true).map_err(DialError::Broken)?;
    Ok(tcp)
}

async fn shake_hands<C: std::error::Error + Send + 'static>(
    server: &Address,
    mut tcp: TcpStream,
    security: &Security,
    hello: &(impl Fn(&ServerInfo) -> Result<ConnectOptions, C> + Sync),
) -> Result<Dialled, DialError<C>> {
    let mut incoming = Incoming::default();
    let info = hear(&mut tcp, &mut incoming).await?;
    if security.rule == TlsRule::OnDemand && !info.tls_required {
        return introduce(Box::new(tcp), incoming, info, false, hello).await;
    }
    if !info.tls_required && !info.tls_available {
        return Err(DialError::Plaintext);
    }
    // Whatever came with it would seem to have come over TLS, and whoever sits between could have put it there.
    // It counts for nothing but to say why there is no connection: servers that are full have no time for TLS.
    if !incoming.is_empty() {
        return Err(match next(&mut tcp, &mut incoming).await? {
            Said::Refusal(text) => DialError::Refused(text),
            _ => DialError::Unexpected,
        });
    }
    let stream = encrypt(server, tcp, security).await?;
    introduce(Box::new(stream), incoming, info, true, hello).await
}

async fn encrypt<C: std::error::Error + 'static>(
    server: &Address,
    tcp: TcpStream,
    security: &Security,
) -> Result<TlsStream<TcpStream>, DialError<C>> {
    let name = ServerName::try_from(server.tls_name.clone()).map_err(|_| DialError::Name)?;
    let connector = TlsConnector::from(Arc::clone(&security.config));
    connector.connect(name, tcp).await.map_err(DialError::Tls)
}

/// Waits for the server to say who it is.
async fn hear<C: std::error::Error + 'static>(
    stream: &mut (impl Stream + ?Sized),
    incoming: &mut Incoming,
) -> Result<ServerInfo, DialError<C>> {
    match next(stream, incoming).await? {
        Said::Info(info) => Ok(*info),
        Said::Refusal(text) => Err(DialError::Refused(text)),
        Said::Ping | Said::Pong | Said::Nothing => Err(DialError::Unexpected),
    }
}

/// Says who we are, and waits until that is agreed to.
async fn introduce<C: std::error::Error + Send + 'static>(
    mut stream: Box<dyn Stream>,
    mut incoming: Incoming,
    mut info: ServerInfo,
    is_encrypted: bool,
    hello: &(impl Fn(&ServerInfo) -> Result<ConnectOptions, C> + Sync),
) -> Result<Dialled, DialError<C>> {
    let mut options = hello(&info).map_err(DialError::Credentials)?;
    options.tls_required = is_encrypted;
    let mut output = Zeroizing::new(Vec::new());
    connect(&mut output, &options);
    ping(&mut output);
    // Whoever refuses us may have closed already; why it did is what can still be read.
    let mut written = write(&mut stream, &output).await;
    for _ in 0..OPERATIONS_MAX {
        // With TLS 1.3 this is where a server tells that it does not take our certificate.
        match (next(&mut stream, &mut incoming).await, &written) {
            (Ok(Said::Pong), Ok(())) => {
                return Ok(Dialled {
                    stream,
                    is_encrypted,
                    incoming,
                    info,
                });
            }
            (Ok(Said::Refusal(text)), _) => return Err(DialError::Refused(text)),
            (Ok(Said::Info(later)), _) => info = *later,
            (Ok(Said::Ping), Ok(())) => {
                // It takes long to decide, and would like to know whether we are still there.
                let mut output = Vec::new();
                pong(&mut output);
                written = write(&mut stream, &output).await;
            }
            (Ok(Said::Nothing | Said::Ping), _) => {}
            (Err(DialError::Closed) | Ok(Said::Pong), Err(_)) => break,
            (Err(error), _) => return Err(error),
        }
    }
    written.map_err(broken)?;
    Err(DialError::Unexpected)
}

async fn write(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// What matters of what a server may say before messages.
enum Said {
    Info(Box<ServerInfo>),
    Refusal(String),
    Ping,
    Pong,
    Nothing,
}

/// The next thing that the server says.
async fn next<C: std::error::Error + 'static>(
    stream: &mut (impl Stream + ?Sized),
    incoming: &mut Incoming,
) -> Result<Said, DialError<C>> {
    let said = incoming.next(stream, |op| match op {
        ServerOp::Info(json) => {
            let info = ServerInfo::parse(json).map_err(DialError::Info)?;
            Ok(Said::Info(Box::new(info)))
        }
        ServerOp::Err(text) => {
            let text = String::from_utf8_lossy(error_text(text));
            Ok(Said::Refusal(text.into_owned()))
        }
        ServerOp::Ping => Ok(Said::Ping),
        ServerOp::Pong => Ok(Said::Pong),
        ServerOp::Ok => Ok(Said::Nothing),
        ServerOp::Message(_) => Err(DialError::Unexpected),
    });
    match said.await {
        Ok(said) => said,
        Err(ReadError::Ended) => Err(DialError::Closed),
        Err(ReadError::Broken(error)) => Err(broken(error)),
        Err(ReadError::Protocol(error)) => Err(DialError::NotNats(error)),
    }
}

/// An error of the stream is one of TLS if rustls says so.
fn broken<C: std::error::Error + 'static>(error: io::Error) -> DialError<C> {
    let is_tls = (error.get_ref()).is_some_and(|inner| inner.is::<rustls::Error>());
    if is_tls {
        DialError::Tls(error)
    } else {
        DialError::Broken(error)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    const PATIENT: Deadlines = Deadlines {
        resolve: Duration::from_secs(60),
        connect: Duration::from_secs(60),
        greeting: Duration::from_secs(60),
        whole: Duration::from_secs(60),
    };

    const INFO: &str = r#"INFO {"server_id":"x","headers":true} "#;

    fn security(rule: TlsRule) -> Security {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Security {
            config: Arc::new(config),
            rule,
        }
    }

    fn hello(info: &ServerInfo) -> Result<ConnectOptions, Infallible> {
        Ok(ConnectOptions {
            name: format!("of {}", info.server_id),
            ..ConnectOptions::default()
        })
    }

    async fn listener() -> (TcpListener, Address) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        (listener, Address::new("127.0.0.1", port))
    }

    /// Dials somebody who says this, and answers with what went wrong and what was heard of us.
    async fn said(words: &str, rule: TlsRule) -> (String, String) {
        let (listener, address) = listener().await;
        let talk = async {
            let (mut tcp, _) = listener.accept().await.expect("a client");
            tcp.write_all(words.as_bytes()).await.expect("written");
            tcp.shutdown().await.expect("shut");
            let mut heard = String::new();
            // It may be cut off.
            let _ = tcp.read_to_string(&mut heard).await;
            heard
        };
        let security = security(rule);
        let told = async {
            // Whoever was connected is not any more, so the other side hears the end.
            let dialled = dial(&address, &security, &PATIENT, &hello).await;
            dialled.map_or_else(|error| format!("{error:?}"), |_| "Dialled".into())
        };
        tokio::join!(told, talk)
    }

    #[tokio::test]
    async fn what_a_server_may_say_before_messages() {
        let check = async |words: &str, expected: &str| {
            let (told, _) = said(&words.replace("INFO", INFO), TlsRule::OnDemand).await;
            assert!(told.starts_with(expected), "{words:?}: {told}");
        };
        check("INFO\r\nPONG\r\n", "Dialled").await;
        check(
            "INFO\r\nPING\r\n+OK\r\nINFO\r\nPONG\r\nMSG a 1 9",
            "Dialled",
        )
        .await;
        check("INFO\r\n-ERR 'no'\r\n", "Refused(\"no\")").await;
        check("-ERR 'Too many'\r\n", "Refused(\"Too many\")").await;
        check("", "Closed").await;
        check("INFO\r\n", "Closed").await;
        check("PONG\r\n", "Unexpected").await;
        check(
            &format!("INFO\r\n{}PONG\r\n", "+OK\r\n".repeat(16)),
            "Unexpected",
        )
        .await;
        check("INFO\r\nMSG a 1 0\r\n\r\nPONG\r\n", "Unexpected").await;
        check("INFO\r\nMSG a 1 1\r\nx\r\nPONG\r\n", "NotNats").await;
        check("HTTP/1.1 400 Bad Request\r\n", "NotNats").await;
        check(&"x".repeat(100_000), "NotNats").await;
    }

    #[tokio::test]
    async fn whether_there_is_tls_is_as_the_rule_says() {
        let plain = "INFO {\"server_id\":\"x\"} \r\nPONG\r\n";
        let (told, heard) = said(plain, TlsRule::Always).await;
        assert_eq!((&*told, &*heard), ("Plaintext", ""));
        let (told, heard) = said(plain, TlsRule::OnDemand).await;
        assert_eq!(told, "Dialled");
        assert!(heard.contains("\"name\":\"of x\"") && heard.contains("\"tls_required\":false"));
        let demanded = "INFO {\"server_id\":\"x\",\"tls_required\":true} \r\n";
        let (told, heard) = said(&format!("{demanded}PONG\r\n"), TlsRule::OnDemand).await;
        assert_eq!((&*told, &*heard), ("Unexpected", ""));
        let full = format!("{demanded}-ERR 'maximum connections exceeded'\r\n");
        let (told, heard) = said(&full, TlsRule::Always).await;
        let expected = "Refused(\"maximum connections exceeded\")";
        assert_eq!((&*told, &*heard), (expected, ""));
        let (told, heard) = said(demanded, TlsRule::OnDemand).await;
        assert!(
            told.starts_with("Tls") && !heard.contains("CONNECT"),
            "{told}"
        );
        let available = "INFO {\"server_id\":\"x\",\"tls_available\":true} \r\n";
        let (told, _) = said(available, TlsRule::Always).await;
        assert!(told.starts_with("Tls"), "{told}");
    }

    #[tokio::test]
    async fn what_took_too_long_is_named() {
        let (listener, address) = listener().await;
        let security = security(TlsRule::OnDemand);
        let short = Duration::from_millis(50);
        let check = async |deadlines: Deadlines| {
            let dialled = dial(&address, &security, &deadlines, &hello).await;
            let error = dialled.expect_err("nobody says anything");
            let DialError::Timeout { phase, limit } = error else {
                panic!("{error}");
            };
            assert_eq!(phase, Phase::Greeting);
            assert!(limit <= short);
        };
        check(Deadlines {
            greeting: short,
            ..PATIENT
        })
        .await;
        // The system answers for a listener that has not come to it yet.
        check(Deadlines {
            whole: short,
            ..PATIENT
        })
        .await;
        drop(listener);
        let refused = dial(&address, &security, &PATIENT, &hello).await;
        assert!(matches!(refused, Err(DialError::Connect(_))));
    }

    #[tokio::test]
    async fn a_stream_that_is_there_already_is_greeted_over() {
        let (near, far) = tokio::io::duplex(4096);
        let talk = async {
            let mut far = BufReader::new(far);
            let greeting = format!("{INFO}\r\n");
            far.write_all(greeting.as_bytes()).await.expect("written");
            let mut heard = vec![0; 8];
            far.read_exact(&mut heard).await.expect("heard");
            assert_eq!(heard, b"CONNECT ");
            far.write_all(b"PONG\r\nMSG a 1 2\r\nhi\r\n")
                .await
                .expect("written");
            far
        };
        let greeting = greet(near, PATIENT.greeting, &hello);
        let (dialled, far) = tokio::join!(greeting, talk);
        let mut dialled = dialled.expect("greeted");
        assert!(!dialled.is_encrypted && dialled.info.headers);
        dialled.incoming.admit(10);
        let payload = dialled.incoming.next(&mut *dialled.stream, |op| match op {
            ServerOp::Message(message) => message.payload().to_vec(),
            other => panic!("{other:?}"),
        });
        assert_eq!(payload.await.expect("a message"), b"hi");
        drop(far);
        let ended = dialled.incoming.read(&mut *dialled.stream).await;
        assert!(matches!(ended, Err(ReadError::Ended)));
    }
}
