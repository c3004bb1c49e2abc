//! HTTP for the pages: accepting, bounds on time and size, and the headers of answers. What a page says is decided
//! in the router and the pages.
//!
//! At most [`CONNECTIONS_MAX`](super::places::CONNECTIONS_MAX) connections are served; for another one, one that keeps the
//! server waiting has to go (`places.rs`), and is told so if that takes no waiting. Who asks for more than the share of the processors that there is for such
//! questions waits (`pace.rs`): pages for pages, while `/healthz` waits for neither pages nor strangers. No connection lives
//! for long without doing anything, and no answer is sent for ever: see [`Patience`]. Request bodies are not read.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
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
use super::pace::{NEWCOMER, Pace, REQUEST};
use super::places::{CONNECTIONS_MAX, Line, Place, Wait};
use super::router::{self, Answer};
use crate::clock::now;
use crate::lifecycle::{OwnPass, Phase};
use crate::net::listener::Refused;
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

/// What they are told who have to leave before they were answered.
const TURNED_AWAY: &str = "503 Service Unavailable: too many connections";

/// The same to whoever has not even asked.
const TURNED_AWAY_EARLY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
Content-Length: 45\r\nConnection: close\r\n\r\n503 Service Unavailable: too many connections";
const _: () = assert!(TURNED_AWAY.len() == 45, "as its head says");

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

    /// What is waited for first.
    const FIRST: Wait;

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

    const FIRST: Wait = Wait::Request;

    async fn wrap(&self, socket: tokio::net::TcpStream, _: &Place) -> io::Result<Self::Stream> {
        Ok(socket)
    }
}

/// HTTP within TLS, with the certificates that clients are shown.
pub(crate) struct Encrypted(pub(super) Arc<Shared>);

impl Wrap for Encrypted {
    type Stream = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

    const FIRST: Wait = Wait::Hello;

    async fn wrap(&self, socket: tokio::net::TcpStream, place: &Place) -> io::Result<Self::Stream> {
        let Self(shared) = self;
        let Some(context) = shared.tls.current() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let mut left = PATIENCE.head;
        let begin = now();
        // Who says nothing takes no turn.
        if timeout(left, socket.peek(&mut [0])).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left = left.saturating_sub(now().saturating_duration_since(begin));
        let acceptor = TlsAcceptor::from(Arc::clone(context.monitoring()));
        let mut handshake = Elsewhere::new(shared.tls.slow_steps(), acceptor.accept(socket));
        loop {
            let turn = place.turn(Line::Handshakes).await;
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
            place.wait_for(Wait::Handshake);
            let begin = now();
            timeout(left, handshake.woken()).await?;
            left = left.saturating_sub(now().saturating_duration_since(begin));
        }
    }
}

/// Accepts connections until the server closes, and keeps the pass until then; lame duck mode can be watched.
pub(crate) async fn accept<W: Wrap>(
    shared: Arc<Shared>,
    listener: TcpListener,
    wrap: W,
    _listening: OwnPass,
) {
    // Moved in here, so that it is closed before the pass is given back.
    let listener = listener;
    let wrap = Arc::new(wrap);
    let closing = shared.lifecycle.reached(Phase::Closing);
    let accepting = async {
        let mut refused = Refused::default();
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    if shared.monitor.places.free() == 0 {
                        let pace = &shared.monitor.paces.newcomers;
                        pace.keep().await;
                        pace.took(NEWCOMER);
                    }
                    let Some(place) = shared.monitor.places.take().await else {
                        return;
                    };
                    // Before its task begins, so that of many who come at once the first do not stay for sure.
                    place.wait_for(W::FIRST);
                    tokio::spawn(serve(Arc::clone(&shared), socket, Arc::clone(&wrap), place));
                }
                Err(error) => {
                    if let Some(unsaid) = refused.note(now()) {
                        tracing::error!(%error, unsaid, "accepting a monitoring connection failed");
                    }
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
    let leave = place.leave();
    let mut serving = pin!(async {
        let address = socket.peer_addr()?.ip();
        let stream = wrap.wrap(socket, &place).await?;
        speak(&shared, stream, address, place)
            .await
            .map_err(io::Error::other)
    });
    tokio::select! {
        ended = &mut serving => if let Err(error) = ended {
            tracing::debug!(%error, "monitoring connection ended");
        },
        () = leave.asked() => {
            // Whoever can be told so at once is, and nobody is waited for.
            poll_fn(|context| Poll::Ready(serving.as_mut().poll(context).is_ready())).await;
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
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_crowded = shared.monitor.places.free() < PLACES_LEFT_FEW;
    place.is_asked();
    // Nobody reads it, and two who do not agree where it ends do not agree on the next request.
    let has_body = !request.body().is_end_stream();
    let lacks_host = request.version() == Version::HTTP_11
        && !request.headers().contains_key(HOST)
        && request.uri().host().is_none();
    let answer = if lacks_host {
        off_hand(&shared, &place, || {
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
        let answering = async {
            match asking.await {
                Standing::Reader => page(&shared, &request, &place).await,
                Standing::Stranger => off_hand(&shared, &place, guard::refusal).await,
                Standing::Unknown => off_hand(&shared, &place, guard::rebuff).await,
            }
        };
        tokio::select! {
            biased;
            answer = answering => answer,
            () = must_leave(&place) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, TURNED_AWAY),
        }
    };
    let is_long = answer.is_long;
    place.answers(is_long);
    let mut response = answer.into_response();
    if is_crowded || lacks_host || has_body || place.must_leave() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response)
}

/// Is ready once the connection has to give up its place. It wakes nobody: whoever is asked to leave is polled once more.
async fn must_leave(place: &Place) {
    poll_fn(|_| match place.must_leave() {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// What is told to whoever is not let in.
async fn off_hand(shared: &Shared, place: &Place, answer: fn() -> Answer) -> Answer {
    keep(&shared.monitor.paces.refusals, place).await;
    answer()
}

/// Waits until the pace is kept, or the place is wanted: what is asked for takes less than to come.
async fn keep(pace: &Pace, place: &Place) {
    place.wait_for(Wait::OffHand);
    tokio::select! {
        () = pace.keep() => pace.took(REQUEST),
        // That was paid for by whoever wants the place, and whoever comes later does not owe it.
        () = must_leave(place) => {}
    }
    place.go_on();
}

/// What is told to readers: how the server is, as soon as can be, and all else when it is their turn.
async fn page(shared: &Arc<Shared>, request: &Request<Incoming>, place: &Place) -> Answer {
    let monitor = &shared.monitor;
    let uri = request.uri();
    let line = match request.method() {
        &Method::CONNECT => Some(Line::Pages),
        _ => router::line(monitor, uri.path()),
    };
    let Some(line) = line else {
        keep(&monitor.paces.health, place).await;
        return router::answer(Arc::clone(shared), uri.path(), query(uri), "").await;
    };
    let _turn = place.turn(line).await;
    let pace = match line {
        Line::Metrics => &monitor.paces.metrics,
        Line::Pages | Line::Handshakes => &monitor.paces.pages,
    };
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
    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
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

impl<S: AsyncWrite + Unpin> Patient<S> {
    /// Says why the connection ends, if that is the answer to a request that was begun, and as far as it is taken at once.
    fn turn_away(&mut self, context: &mut Context<'_>) {
        if self.reading == Reading::Next || self.stall_timer.is_running() {
            return;
        }
        let stream = &mut self.stream;
        let written = Pin::new(&mut *stream).poll_write(context, TURNED_AWAY_EARLY);
        if let Poll::Ready(Ok(_)) = written {
            // Ends what is encrypted, too.
            let _ = Pin::new(stream).poll_shutdown(context);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Read for Patient<S> {
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
                if this.place.must_leave() {
                    this.turn_away(context);
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
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
