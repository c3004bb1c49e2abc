//! HTTP with a server's monitoring: one connection, kept open from question to question and made anew when it is gone.
//!
//! What answers may be anything: how long it takes and how much it says are bounded, and what it is instead of monitoring is
//! told as far as its first bytes tell.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, LOCATION};
use hyper::{Request, Response, Uri};
use natterjack_link::http::{Adapter, BodyError, collect};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long connecting may take, encryption included.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How long one page may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Longest page: a hundred thousand connections.
const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest text that is taken for a reason.
const REASON_CHARACTERS_MAX: usize = 120;

/// The port of monitoring where none is given, as everywhere with NATS.
const PORT_DEFAULT: u16 = 8222;

/// So many of the first bytes tell what speaks.
const FIRST_BYTES: usize = 5;

/// An address of monitoring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) is_encrypted: bool,
    /// An IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// What stands before every page; empty, or with a slash in front and none behind.
    pub(super) base: String,
    /// The user and password in it. They are not shown.
    pub(super) login: Option<(String, String)>,
}

/// No address of monitoring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error(
        "{0} is where clients connect; give the address of monitoring, such as http://127.0.0.1:8222, \
         or ask through the system account with --server {0}"
    )]
    IsForClients(String),
    #[error("{0} is no address; write it as http://host:port or https://host:port")]
    Unreadable(String),
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum AskError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("cannot connect securely: {0}")]
    Tls(#[source] io::Error),
    #[error("its name cannot be in a certificate")]
    Name,
    #[error(
        "this is a port for clients or routes; monitoring has one of its own: http_port in the \
         configuration, or -m 8222"
    )]
    NatsPort,
    #[error("it speaks TLS: write https:// in place of http://")]
    WantsTls,
    #[error("it does not speak TLS: write http:// in place of https://")]
    NoTls,
    #[error("it is no HTTP server: {0}")]
    Http(#[from] hyper::Error),
    #[error("it wants a login: give --token, or --user and --password")]
    Login,
    #[error("it does not accept this login")]
    LoginRefused,
    #[error("{page}: status {status}{reason}")]
    Status {
        page: &'static str,
        status: u16,
        reason: String,
    },
    #[error("{page} is not the page of a NATS server: {error}")]
    Page {
        page: &'static str,
        #[source]
        error: serde_json::Error,
    },
    #[error("its answer is longer than {} MiB", PAGE_BYTES_MAX / (1024 * 1024))]
    TooLong,
}

impl AskError {
    /// Whether the server is there, and has no such page.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    /// Whether the server is there, and does not understand a parameter.
    pub(super) fn is_bad_request(&self) -> bool {
        matches!(self, Self::Status { status: 400, .. })
    }
}

impl From<BodyError> for AskError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Http(error) => Self::Http(error),
            _ => Self::TooLong,
        }
    }
}

/// A connection to one server's monitoring, and how to make it.
pub(super) struct Client {
    address: Address,
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<HeaderValue>,
    link: Option<Link>,
}

struct Link {
    sender: http1::SendRequest<Empty<Bytes>>,
    connection: http1::Connection<Adapter<Box<dyn Stream>>, Empty<Bytes>>,
    first: FirstBytes,
}

impl Address {
    /// Reads an address; without a scheme it is one of HTTP, without a port that of 8222.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        let unreadable = || AddressError::Unreadable(text.to_owned());
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let is_encrypted = match scheme {
            "http" => false,
            "https" => true,
            "nats" | "tls" | "ws" | "wss" => {
                return Err(AddressError::IsForClients(text.to_owned()));
            }
            _ => return Err(unreadable()),
        };
        let (login, rest) = match rest
            .split_once('/')
            .map_or(rest, |(host, _)| host)
            .rfind('@')
        {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let uri: Uri = format!("{scheme}://{rest}")
            .parse()
            .map_err(|_| unreadable())?;
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(unreadable)?;
        // A port that cannot be one is left out by the parser.
        let authority = uri.authority().map(|it| it.as_str()).unwrap_or_default();
        if uri.port().is_none()
            && authority.trim_end_matches(']').len() > host.trim_end_matches(']').len()
        {
            return Err(unreadable());
        }
        Ok(Self {
            is_encrypted,
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: uri.port_u16().unwrap_or(PORT_DEFAULT),
            base: uri.path().trim_end_matches('/').to_owned(),
            login: login.map(|login| {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (user.to_owned(), password.to_owned())
            }),
        })
    }

    fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The same page on another host.
    pub(super) fn on_host(&self, host: &str) -> Self {
        Self {
            host: host.to_owned(),
            ..self.clone()
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        write!(
            formatter,
            "{scheme}://{}{}",
            self.host_and_port(),
            self.base
        )
    }
}

impl Client {
    /// `tls` is for addresses that want it. The header is sent with each question.
    pub(super) fn new(
        address: Address,
        tls: Option<Arc<ClientConfig>>,
        authorization: Option<HeaderValue>,
    ) -> Self {
        Self {
            address,
            tls,
            authorization,
            link: None,
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Asks for a page of JSON.
    ///
    /// # Errors
    /// If it does not come, in time and as it should be.
    pub(super) async fn page<T: DeserializeOwned>(
        &mut self,
        page: &'static str,
        query: &str,
    ) -> Result<T, AskError> {
        let path = format!("{}/{page}{query}", self.address.base);
        let (response, body) = self.exchange(&path).await?;
        let status = response.status().as_u16();
        match status {
            200 => serde_json::from_slice(&body).map_err(|error| AskError::Page { page, error }),
            401 | 403 if self.authorization.is_none() => Err(AskError::Login),
            401 | 403 => Err(AskError::LoginRefused),
            _ => Err(refusal(page, &response, &body)),
        }
    }

    async fn exchange(&mut self, path: &str) -> Result<(Response<()>, Vec<u8>), AskError> {
        if let Some(mut link) = self.link.take()
            && let Ok(answer) = self.ask_on(&mut link, path).await
        {
            self.keep(link);
            return Ok(answer);
        }
        // A connection that was kept may be gone by now; one that is new may not.
        let mut link = match timeout(CONNECT_MAX, self.connect()).await {
            Ok(connected) => connected?,
            Err(_) => return Err(AskError::TimedOut(CONNECT_MAX)),
        };
        let answer = self.ask_on(&mut link, path).await;
        match answer {
            Ok(answer) => {
                self.keep(link);
                Ok(answer)
            }
            Err(error) => Err(link.first.explain().unwrap_or(error)),
        }
    }

    fn keep(&mut self, link: Link) {
        self.link = Some(link).filter(|link| !link.sender.is_closed());
    }

    async fn connect(&self) -> Result<Link, AskError> {
        let address = &self.address;
        let socket = TcpStream::connect((address.host.as_str(), address.port))
            .await
            .map_err(AskError::Connect)?;
        let first = FirstBytes::default();
        let socket = Listening {
            socket,
            first: first.clone(),
        };
        let mut is_encrypted = false;
        let stream: Box<dyn Stream> = match &self.tls {
            Some(tls) if address.is_encrypted => {
                let name =
                    ServerName::try_from(address.host.clone()).map_err(|_| AskError::Name)?;
                let connecting = TlsConnector::from(Arc::clone(tls)).connect(name, socket);
                let stream = connecting.await.map_err(|error| match first.explain() {
                    Some(AskError::NatsPort) => AskError::NatsPort,
                    _ if first.is_plain_text() => AskError::NoTls,
                    _ => AskError::Tls(error),
                })?;
                is_encrypted = true;
                Box::new(stream)
            }
            _ => Box::new(socket),
        };
        let (sender, connection) = http1::handshake(Adapter(stream)).await?;
        Ok(Link {
            sender,
            connection,
            // Of an encrypted connection the first bytes are no longer of interest.
            first: if is_encrypted {
                FirstBytes::default()
            } else {
                first
            },
        })
    }

    async fn ask_on(
        &self,
        link: &mut Link,
        path: &str,
    ) -> Result<(Response<()>, Vec<u8>), AskError> {
        let mut request = Request::builder()
            .uri(path)
            .header(HOST, self.address.host_and_port())
            .header(ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|_| AskError::Name)?;
        let Link {
            sender, connection, ..
        } = link;
        let exchange = async {
            let mut exchange = std::pin::pin!(async {
                sender.ready().await?;
                let (head, body) = sender.send_request(request).await?.into_parts();
                let body = collect(body, PAGE_BYTES_MAX).await?;
                Ok((Response::from_parts(head, ()), body))
            });
            tokio::select! {
                biased;
                answer = &mut exchange => answer,
                ended = connection => {
                    ended?;
                    // What it brought may still lie there.
                    exchange.await
                }
            }
        };
        timeout(ANSWER_MAX, exchange)
            .await
            .map_err(|_| AskError::TimedOut(ANSWER_MAX))?
    }
}

fn refusal(page: &'static str, response: &Response<()>, body: &[u8]) -> AskError {
    let text = String::from_utf8_lossy(body);
    if text.contains("HTTP request to an HTTPS server") {
        return AskError::WantsTls;
    }
    let location = response.headers().get(LOCATION);
    let location = location.and_then(|location| location.to_str().ok());
    let line = text.lines().find(|line| !line.trim().is_empty());
    let reason = location.map(|to| format!(", see {to}")).or_else(|| {
        let line: String = line?.chars().take(REASON_CHARACTERS_MAX).collect();
        let is_markup = line.trim_start().starts_with('<');
        (!is_markup).then(|| format!(", {line}"))
    });
    AskError::Status {
        page,
        status: response.status().as_u16(),
        reason: reason.unwrap_or_default(),
    }
}

/// What a server said first, which tells what it is.
#[derive(Clone, Debug, Default)]
struct FirstBytes(Arc<Mutex<Vec<u8>>>);

impl FirstBytes {
    fn note(&self, bytes: &[u8]) {
        let mut first = self.0.lock();
        let room = FIRST_BYTES.saturating_sub(first.len());
        first.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    fn explain(&self) -> Option<AskError> {
        match &self.0.lock()[..] {
            b"INFO " => Some(AskError::NatsPort),
            // An alert, which is what TLS says to what is no TLS (RFC 8446, section 5.1).
            [0x15, 0x03, ..] => Some(AskError::WantsTls),
            _ => None,
        }
    }

    fn is_plain_text(&self) -> bool {
        let first = self.0.lock();
        !first.is_empty()
            && first
                .iter()
                .all(|byte| byte.is_ascii_graphic() || *byte == b' ')
    }
}

/// A socket whose first bytes are noted.
struct Listening {
    socket: TcpStream,
    first: FirstBytes,
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let progress = Pin::new(&mut self.socket).poll_read(context, buffer);
        self.first.note(&buffer.filled()[before..]);
        progress
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// A connection, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use serde_json::Value;

    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("http://127.0.0.1:8222", "http://127.0.0.1:8222"),
            ("http://h", "http://h:8222"),
            ("h", "http://h:8222"),
            ("h:9", "http://h:9"),
            ("https://h:9/nats/", "https://h:9/nats"),
            ("http://[::1]:9/", "http://[::1]:9"),
            ("http://ann:p@ss@h:9/x", "http://h:9/x"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
        }
        let address = Address::parse("http://ann:p@ss@h").unwrap();
        assert_eq!(address.login, Some(("ann".into(), "p@ss".into())));
        for text in [
            "",
            "ftp://h",
            "http://",
            "http://:8222",
            "http://h:99999",
            "http://h:x",
            "a b",
        ] {
            let unreadable = AddressError::Unreadable(text.to_owned());
            assert_eq!(Address::parse(text), Err(unreadable), "{text}");
        }
        assert!(matches!(
            Address::parse("nats://h:4222"),
            Err(AddressError::IsForClients(_))
        ));
    }

    /// A server that says one of these things to each request it reads, one request in each connection if it is to close.
    fn server(answers: Vec<Vec<u8>>, closes: bool) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut answers = answers.into_iter().peekable();
            while answers.peek().is_some() {
                let Ok((mut socket, _)) = listener.accept() else {
                    return;
                };
                let mut reader = BufReader::new(socket.try_clone().unwrap());
                loop {
                    let mut line = String::new();
                    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                        line.clear();
                    }
                    let Some(answer) = answers.next() else {
                        return;
                    };
                    if line.is_empty() || socket.write_all(&answer).is_err() || closes {
                        break;
                    }
                }
            }
        });
        Address::parse(&address).unwrap()
    }

    fn answer(status: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    }

    #[track_caller]
    fn ask(client: &mut Client) -> Result<Value, AskError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(client.page("varz", ""))
    }

    #[track_caller]
    fn check(answer: Vec<u8>, expected: &str) {
        let mut client = Client::new(server(vec![answer], true), None, None);
        let error = ask(&mut client).expect_err("no page").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told() {
        check(
            b"INFO {\"server_id\":\"A\"}\r\n".to_vec(),
            "monitoring has one of its own",
        );
        check(b"\x15\x03\x01\x00\x02\x02\x46".to_vec(), "write https://");
        check(
            answer(
                "400 Bad Request",
                "Client sent an HTTP request to an HTTPS server.\n",
            ),
            "write https://",
        );
        check(answer("401 Unauthorized", ""), "it wants a login");
        check(
            answer("404 Not Found", "404 page not found\n"),
            "varz: status 404, 404 page",
        );
        check(
            answer("200 OK", "<html>"),
            "is not the page of a NATS server",
        );
        check(
            b"220 mail.example.net ESMTP\r\n".to_vec(),
            "it is no HTTP server",
        );
    }

    #[test]
    fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let address = Address::parse(&format!("http://{address}")).unwrap();
        let error = ask(&mut Client::new(address, None, None)).expect_err("nobody");
        assert!(error.to_string().starts_with("cannot connect: "), "{error}");
    }

    #[test]
    fn a_connection_is_kept_and_made_anew() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for closes in [false, true] {
            let pages = (0..3).map(|n| answer("200 OK", &format!("{{\"n\":{n}}}")));
            let mut client = Client::new(server(pages.collect(), closes), None, None);
            for n in 0..3 {
                let page: Value = runtime.block_on(client.page("varz", "")).unwrap();
                assert_eq!(page["n"], n);
            }
        }
    }
}
