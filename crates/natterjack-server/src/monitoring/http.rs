//! HTTP for the pages: accepting, bounds on time and size, and the headers of answers. What a page says is decided
//! in the router and the pages.
//!
//! At most [`CONNECTIONS_MAX`](super::places::CONNECTIONS_MAX) connections are served; for another one, one that keeps the
//! server waiting has to go (`places.rs`). Who asks for more than the share of the processors that there is for such
//! questions waits (`pace.rs`): pages for pages, while `/healthz` waits for neither pages nor strangers. No connection lives
//! for long without doing anything, and no answer is sent for ever: see [`Patience`]. Request bodies are not read.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
    HeaderValue, LOCATION, REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::time::{Sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::elsewhere::Elsewhere;
use super::guard::{self, CHALLENGES, Standing};
use super::pace::REQUEST;
use super::places::{CONNECTIONS_MAX, Place, Wait};
use super::router::{self, Answer};
use crate::clock::now;
use crate::lifecycle::Phase;
use crate::server::Shared;

/// With fewer places left than this, connections are closed after each answer, so that idle ones do not keep
/// others out.
const PLACES_LEFT_FEW: usize = CONNECTIONS_MAX / 4;

/// How long peers may take.
#[derive(Clone, Copy)]
struct Patience {
    /// For the head of a request, from the connection's beginning or from its first byte, and as long again for a handshake
    /// before that (nats-server `ReadHeaderTimeout`).
    head: Duration,
    /// Until their next request.
    idle: Duration,
    /// Without taking a byte of an answer.
    stall: Duration,
    /// To take an answer, however steadily they do.
    answer: Duration,
}

const PATIENCE: Patience = Patience {
    head: Duration::from_secs(5),
    idle: Duration::from_secs(120),
    stall: Duration::from_secs(10),
    answer: Duration::from_secs(120),
};

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Most headers in one.
const HEADERS_MAX: usize = 100;

/// Read at once; requests are small.
const READ_BYTES: usize = 4096;

/// Pause after the system refused to accept, which it does when it has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What turns an accepted socket into the stream that HTTP is spoken over.
pub(crate) trait Wrap: Send + Sync + 'static {
    /// That stream.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Wraps the socket; its peer may keep the server waiting no longer than a handshake may take, and that is known of
    /// the place.
    fn wrap(
        &self,
        socket: tokio::net::TcpStream,
        place: &Place,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// HTTP in clear text.
pub(crate) struct Clear;

impl Wrap for Clear {
    type Stream = tokio::net::TcpStream;

    async fn wrap(&self, socket: tokio::net::TcpStream, _: &Place) -> io::Result<Self::Stream> {
        Ok(socket)
    }
}

/// HTTP within TLS, with the certificates that clients are shown.
pub(crate) struct Encrypted(pub(super) Arc<Shared>);

impl Wrap for Encrypted {
    type Stream = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

    async fn wrap(&self, socket: tokio::net::TcpStream, place: &Place) -> io::Result<Self::Stream> {
        let Self(shared) = self;
        let Some(context) = shared.tls.current() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let acceptor = TlsAcceptor::from(Arc::clone(context.monitoring()));
        let mut handshake = Elsewhere::new(shared.tls.slow_steps(), acceptor.accept(socket));
        let mut left = PATIENCE.head;
        loop {
            let turn = place.turn().await;
            let pace = &shared.monitor.paces.handshakes;
            pace.keep().await;
            let pace = Arc::clone(pace);
            match handshake.step(move |time| pace.took(time)).await {
                Some(Poll::Ready(stream)) => return stream,
                Some(Poll::Pending) => {}
                None => return Err(io::ErrorKind::Other.into()),
            }
            drop(turn);
            // Only now it is the peer that the server waits for.
            place.wait_for(Wait::Request);
            let begin = now();
            timeout(left, handshake.woken()).await?;
            left = left.saturating_sub(now().saturating_duration_since(begin));
        }
    }
}

/// Accepts connections until the server closes; lame duck mode can be watched.
pub(crate) async fn accept<W: Wrap>(shared: Arc<Shared>, listener: TcpListener, wrap: W) {
    let _listening = shared.monitor.listeners.pass();
    // Moved in here, so that it is closed before the pass is given back.
    let listener = listener;
    let wrap = Arc::new(wrap);
    let closing = shared.lifecycle.reached(Phase::Closing);
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    let Some(place) = shared.monitor.places.take().await else {
                        return;
                    };
                    tokio::spawn(serve(Arc::clone(&shared), socket, Arc::clone(&wrap), place));
                }
                Err(error) => {
                    tracing::error!(%error, "accepting a monitoring connection failed");
                    pause(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = closing => {}
    }
}

async fn serve<W: Wrap>(
    shared: Arc<Shared>,
    socket: tokio::net::TcpStream,
    wrap: Arc<W>,
    place: Place,
) {
    let closing = shared.lifecycle.reached(Phase::Closing);
    let must_leave = place.must_leave();
    let serving = async {
        let address = socket.peer_addr()?.ip();
        let stream = wrap.wrap(socket, &place).await?;
        speak(&shared, stream, address, place)
            .await
            .map_err(io::Error::other)
    };
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            tracing::debug!(%error, "monitoring connection ended");
        },
        () = must_leave.notified() => {
            tracing::debug!("monitoring connection closed to make room for another");
        }
        () = closing => {}
    }
}

async fn speak(
    shared: &Arc<Shared>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: IpAddr,
    place: Place,
) -> Result<(), hyper::Error> {
    let place = Arc::new(place);
    let requests = Arc::new(AtomicU64::new(0));
    let stream = Patient::new(stream, Arc::clone(&place), Arc::clone(&requests), PATIENCE);
    let service = service_fn(move |request| {
        requests.fetch_add(1, Ordering::Relaxed);
        respond(Arc::clone(shared), request, address, Arc::clone(&place))
    });
    http1::Builder::new()
        .title_case_headers(true)
        .half_close(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        // The stream keeps the times, since those for writing are needed as well.
        .header_read_timeout(None)
        .serve_connection(stream, service)
        .await
}

async fn respond(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    address: IpAddr,
    place: Arc<Place>,
) -> Result<Response<Text>, Infallible> {
    let is_crowded = shared.monitor.places.free() < PLACES_LEFT_FEW;
    place.is_asked();
    // Nobody reads it, and two who do not agree where it ends do not agree on the next request.
    let has_body = !request.body().is_end_stream();
    let lacks_host = request.version() == Version::HTTP_11
        && !request.headers().contains_key(HOST)
        && request.uri().host().is_none();
    let answer = if lacks_host {
        off_hand(&shared, || {
            Answer::text(
                StatusCode::BAD_REQUEST,
                "400 Bad Request: missing required Host header",
            )
        })
        .await
    } else {
        let (monitor, options) = (&shared.monitor, shared.options());
        let token = options.monitoring.token.as_ref();
        let pace = &monitor.paces.token_checks;
        let asking = (monitor.guard).standing(token, request.headers(), address, pace);
        match asking.await {
            Standing::Reader => page(&shared, &request, &place).await,
            Standing::Stranger => off_hand(&shared, guard::refusal).await,
            Standing::Unknown => off_hand(&shared, guard::rebuff).await,
        }
    };
    let is_long = answer.is_long;
    place.answers(is_long);
    let mut response = answer.into_response();
    if is_crowded || lacks_host || has_body {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response)
}

/// What is told to whoever is not let in, at its own pace.
async fn off_hand(shared: &Shared, answer: fn() -> Answer) -> Answer {
    let pace = &shared.monitor.paces.refusals;
    pace.keep().await;
    pace.took(REQUEST);
    answer()
}

/// What is told to readers: how the server is, as soon as can be, and all else when it is their turn.
async fn page(shared: &Arc<Shared>, request: &Request<Incoming>, place: &Place) -> Answer {
    let monitor = &shared.monitor;
    let uri = request.uri();
    if request.method() != Method::CONNECT && router::is_health(monitor, uri.path()) {
        let pace = &monitor.paces.health;
        pace.keep().await;
        pace.took(REQUEST);
        return router::answer(Arc::clone(shared), uri.path(), query(uri), "").await;
    }
    let _turn = place.turn().await;
    let pace = &monitor.paces.pages;
    pace.keep().await;
    pace.took(REQUEST);
    if request.method() == Method::CONNECT {
        return Answer::not_found();
    }
    let accept = request.headers().get(ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let accept = accept.unwrap_or_default();
    router::answer(Arc::clone(shared), uri.path(), query(uri), accept).await
}

fn query(uri: &Uri) -> &str {
    uri.query().unwrap_or_default()
}

impl Answer {
    fn into_response(self) -> Response<Text> {
        let mut response = Response::new(Text(Some(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if self.is_for_any_origin {
            let any = HeaderValue::from_static("*");
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            for challenge in CHALLENGES {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
        }
        if self.is_as_said {
            let nosniff = HeaderValue::from_static("nosniff");
            headers.insert(X_CONTENT_TYPE_OPTIONS, nosniff);
        }
        if let Some(policy) = self.policy {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
            let nobody = HeaderValue::from_static("no-referrer");
            headers.insert(REFERRER_POLICY, nobody);
        }
        if let Some(location) = self
            .location
            .and_then(|location| HeaderValue::from_str(&location).ok())
        {
            headers.insert(LOCATION, location);
        }
        response
    }
}

/// A body that is there as a whole.
struct Text(Option<Bytes>);

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |text| text.len() as u64))
    }
}

/// A stream that fails when its peer takes too long.
struct Patient<S> {
    stream: S,
    place: Arc<Place>,
    patience: Patience,
    /// Requests whose head has been read, as the service counts them, and as this stream last saw it.
    requests: Arc<AtomicU64>,
    requests_seen: u64,
    reading: Reading,
    read_timer: Timer,
    stall_timer: Timer,
    /// Runs until all that was to be written is.
    answer_timer: Timer,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Head,
    /// The first byte of the next request.
    Next,
}

impl<S> Patient<S> {
    fn new(stream: S, place: Arc<Place>, requests: Arc<AtomicU64>, patience: Patience) -> Self {
        Self {
            stream,
            place,
            patience,
            requests,
            requests_seen: 0,
            reading: Reading::Head,
            read_timer: Timer(None),
            stall_timer: Timer(None),
            answer_timer: Timer(None),
        }
    }

    /// Waits for what was not ready, but not for ever.
    fn written<T>(
        &mut self,
        progress: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            if self.stall_timer.is_running() {
                self.stall_timer.stop();
                self.place.go_on();
            }
            return progress;
        }
        self.place.wait_for(Wait::AnswerTaken);
        let Patience { stall, answer, .. } = self.patience;
        let stalled = self.stall_timer.poll(stall, context);
        if stalled.is_pending() {
            ready!(self.answer_timer.poll(answer, context));
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> hyper::rt::Read for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let requests = this.requests.load(Ordering::Relaxed);
        if requests != this.requests_seen {
            this.requests_seen = requests;
            this.reading = Reading::Next;
            this.read_timer.stop();
            this.place.requested();
        }
        // Copied once more than necessary, because that needs no `unsafe`; it is a few hundred bytes.
        let mut bytes = [0; READ_BYTES];
        let room = buffer.remaining().min(READ_BYTES);
        let mut read = ReadBuf::new(&mut bytes[..room]);
        match Pin::new(&mut this.stream).poll_read(context, &mut read) {
            Poll::Ready(Ok(())) => {
                this.place.go_on();
                if this.reading == Reading::Next {
                    this.reading = Reading::Head;
                    this.read_timer.stop();
                }
                buffer.put_slice(read.filled());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                // Whoever has not taken the answer to the last request is not late with the next.
                if !this.stall_timer.is_running() {
                    this.place.wait_for(Wait::Request);
                }
                let longest = match this.reading {
                    Reading::Head => this.patience.head,
                    Reading::Next => this.patience.idle,
                };
                ready!(this.read_timer.poll(longest, context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(written, context)
    }

    /// Otherwise an answer is copied before it is written, and the room it takes is counted no more.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(written, context)
    }

    /// Is asked for when all else is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.answer_timer.stop();
        }
        self.written(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(shut_down, context)
    }
}

/// Runs from the first poll after it was stopped.
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn poll(&mut self, longest: Duration, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until((now() + longest).into())));
        sleep.as_mut().poll(context)
    }

    fn is_running(&self) -> bool {
        self.0.is_some()
    }

    fn stop(&mut self) {
        self.0 = None;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the system gives no event when it has a file descriptor again"
)]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[cfg(test)]
mod tests;
