//! HTTP with Puppet's authority: one question, one answer, one connection. There are five questions in a whole enrolment, so
//! nothing is kept open between them.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http1;
use natterjack_link::http::{Adapter, BodyError, collect};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::handshake::words_of;
use crate::server::ServerAddress;

/// How long connecting may take, encryption included.
const CONNECT_MAX: Duration = Duration::from_secs(15);

/// How long the answer may take. A Puppet server that has just started takes some seconds for its first one.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Longest answer. That with all authorities has a few KiB.
pub(super) const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The same where certificates that were revoked are asked for: two hundred thousand of them.
pub(super) const LISTS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody is there, or the name is unknown.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// It is no name that could be in a certificate.
    #[error("its name cannot be in a certificate")]
    Name,
    /// The server is not who it should be, or does not speak TLS.
    #[error("cannot connect securely: {}", words_of(.0))]
    Tls(#[source] io::Error),
    /// What came is no HTTP, or not all of it came.
    #[error("the answer cannot be read: {0}")]
    Http(#[from] hyper::Error),
    /// It is too long.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// It takes too long.
    #[error("no answer within {} seconds", .0.as_secs())]
    TimedOut(Duration),
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Where it says that the answer is instead.
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
}

/// What is asked, always as plain text.
pub(super) struct Question<'a> {
    pub(super) method: hyper::Method,
    /// From the slash on.
    pub(super) path: &'a str,
    pub(super) body: Option<String>,
    /// Longest answer that is taken.
    pub(super) answer_bytes_max: usize,
}

pub(super) async fn ask(
    server: &ServerAddress,
    tls: Arc<ClientConfig>,
    question: Question<'_>,
) -> Result<Answer, AskError> {
    let connecting = timeout(CONNECT_MAX, connect(server, tls));
    let stream = connecting
        .await
        .map_err(|_| AskError::TimedOut(CONNECT_MAX))??;
    timeout(ANSWER_MAX, speak(server, stream, question))
        .await
        .map_err(|_| AskError::TimedOut(ANSWER_MAX))?
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(server: &ServerAddress, tls: Arc<ClientConfig>) -> Result<Stream, AskError> {
    let name = ServerName::try_from(server.host.clone()).map_err(|_| AskError::Name)?;
    let socket = TcpStream::connect((server.host.as_str(), server.port))
        .await
        .map_err(AskError::Connect)?;
    TlsConnector::from(tls)
        .connect(name, socket)
        .await
        .map_err(AskError::Tls)
}

async fn speak(
    server: &ServerAddress,
    stream: Stream,
    question: Question<'_>,
) -> Result<Answer, AskError> {
    let (mut sender, connection) = http1::handshake(Adapter(stream)).await?;
    let mut request = Request::builder()
        .method(question.method)
        .uri(question.path)
        .header(hyper::header::HOST, server.to_string())
        .header(hyper::header::ACCEPT, "text/plain")
        .header(hyper::header::CONNECTION, "close");
    if question.body.is_some() {
        request = request.header(hyper::header::CONTENT_TYPE, "text/plain");
    }
    let request = request
        .body(
            question
                .body
                .map(Bytes::from)
                .map_or_else(Full::default, Full::new),
        )
        .expect("names and hosts have characters of paths and headers only");
    let bytes_max = question.answer_bytes_max;
    let mut exchange = pin!(async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let location = response.headers().get(hyper::header::LOCATION);
        let location = location.map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
        let body = collect(response.into_body(), bytes_max).await;
        let body = body.map_err(|error| match error {
            BodyError::Http(error) => AskError::Http(error),
            _ => AskError::TooLong(bytes_max),
        })?;
        Ok(Answer {
            status,
            location,
            body,
        })
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
}
