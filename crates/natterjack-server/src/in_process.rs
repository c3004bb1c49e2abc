//! A client of the embedded server without a socket.
//!
//! It speaks the client protocol through memory, to the same kind of session a socket has, so every rule and
//! limit is the same. It connects once; when its server stops, it ends.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use natterjack_wire::client::{
    self, ConnectOptions, Decoded, Limits, ServerInfo, ServerOp, decode_server,
};
use natterjack_wire::headers::Headers;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::net::pipe::{ClientEnd, ClientReader, ClientWriter};
use crate::options::Options;

/// Messages a subscription holds for its reader before the client as a whole waits, and with it, in the end,
/// those who publish to it.
const SUBSCRIPTION_QUEUE: usize = 8192;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// A message as the in-process client hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub subject: String,
    /// Where an answer is expected.
    pub reply: Option<String>,
    /// Its headers, in order; names may repeat.
    pub headers: MessageHeaders,
    /// Its payload.
    pub payload: Bytes,
    /// The status of a message from the server itself, such as 503.
    pub status: Option<u16>,
}

/// Header fields of a message, in order; a name may come several times.
pub type MessageHeaders = Vec<(String, String)>;

/// Why an in-process client could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server has stopped or closed this connection.
    #[error("the embedded server has stopped")]
    ServerStopped,
    /// The server has no such user.
    #[error("there is no user {0:?}")]
    UnknownUser(String),
    /// A subject is empty, or has a blank or line end in it.
    #[error("invalid subject {0:?}: it must not be empty or contain blanks or line ends")]
    InvalidSubject(String),
    /// A header's name or value cannot be sent.
    #[error("invalid header {0:?}: names take no colon, blank or line end, values no line end")]
    InvalidHeader(String),
    /// The message is larger than the server takes.
    #[error("message of {size} bytes is larger than max_payload ({max})")]
    PayloadTooLarge {
        /// Header and payload, in bytes.
        size: usize,
        /// The server's `max_payload`.
        max: usize,
    },
    /// Subject and reply subject are longer than the server's `max_control_line` lets pass.
    #[error("subjects of {size} bytes are longer than max_control_line ({max}) lets pass")]
    SubjectTooLong {
        /// What the operation's line would take, in bytes.
        size: usize,
        /// The server's `max_control_line`.
        max: usize,
    },
    /// Nobody listens to the subject of a request.
    #[error("nobody listens to this subject")]
    NoResponders,
    /// No answer came in time.
    #[error("no answer in time")]
    TimedOut,
}

/// A raw in-process connection; see [`Server::in_process_connection`](crate::Server::in_process_connection).
#[derive(Debug)]
pub struct InProcessConnection(pub(crate) ClientEnd);

impl AsyncRead for InProcessConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for InProcessConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A client inside the server's process. Clones share the connection.
#[derive(Clone, Debug)]
pub struct InProcessClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: ClientWriter,
    /// What is to be written next. Whole operations are appended, so those of several tasks do not mix, and a
    /// task that is cancelled while it waits for room leaves no half of one behind.
    outgoing: Mutex<Vec<u8>>,
    routes: Mutex<Routes>,
    next_sid: AtomicU64,
    inbox_prefix: String,
    /// As the server says; a reload may change it.
    payload_bytes_max: AtomicUsize,
    control_line_bytes_max: usize,
}

/// Where what comes in goes to.
#[derive(Debug, Default)]
struct Routes {
    subscriptions: HashMap<u64, Reader>,
    /// Who waits for a PONG, in order.
    flushes: VecDeque<oneshot::Sender<()>>,
    is_closed: bool,
}

/// Who gets the messages of one subscription.
#[derive(Clone)]
enum Reader {
    Queue(mpsc::Sender<Message>),
    Handler(Arc<Mutex<Handler>>),
}

type Handler = dyn FnMut(&MessageView<'_>) + Send;

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Queue(_) => "Queue",
            Self::Handler(_) => "Handler",
        })
    }
}

/// A message where it was read; see [`InProcessClient::listen`].
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    message: &'a client::Message<'a>,
}

impl<'a> MessageView<'a> {
    /// Where it was published.
    #[must_use]
    pub fn subject(&self) -> &'a [u8] {
        self.message.subject
    }

    /// Where an answer is expected.
    #[must_use]
    pub fn reply(&self) -> Option<&'a [u8]> {
        self.message.reply
    }

    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.message.payload()
    }

    /// Names and values of its header, in order; a name may come several times. Empty for a message without a header,
    /// and for one whose header cannot be read.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let headers = Headers::parse(self.message.header()).ok();
        headers.into_iter().flat_map(|headers| headers.entries())
    }
}

/// A subscription whose messages go to a function. Dropping it unsubscribes; a call that is under way goes on.
#[derive(Debug)]
pub struct Listener {
    inner: Arc<Inner>,
    sid: u64,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.inner.unsubscribe(self.sid);
    }
}

impl InProcessClient {
    pub(crate) fn new(
        connection: InProcessConnection,
        options: &Options,
        payload_bytes_max: usize,
        runtime: &Handle,
    ) -> Self {
        let (reader, writer) = connection.0.split();
        let mut greeting = Vec::new();
        client::connect(&mut greeting, &connect_options());
        // From its first PING on a client is told what changes.
        client::ping(&mut greeting);
        let (nobody, _) = oneshot::channel();
        let inner = Arc::new(Inner {
            writer,
            outgoing: Mutex::new(greeting),
            routes: Mutex::new(Routes {
                flushes: VecDeque::from([nobody]),
                ..Routes::default()
            }),
            next_sid: AtomicU64::new(1),
            inbox_prefix: format!("_INBOX.{:016x}.", fastrand::u64(..)),
            payload_bytes_max: AtomicUsize::new(payload_bytes_max),
            control_line_bytes_max: options.max_control_line,
        });
        inner.write_now();
        // Holds no part in the client: dropping the last handle ends the connection, and with it this task.
        runtime.spawn(receive(reader, Arc::downgrade(&inner)));
        Self { inner }
    }

    /// Publishes a message. It is on its way when this returns; [`flush`](Self::flush) tells when the server
    /// has handled it. Waits while the server cannot keep up.
    ///
    /// # Errors
    /// If the subject is invalid, the message too large, or the server has stopped.
    pub async fn publish(
        &self,
        subject: impl AsRef<str>,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), ClientError> {
        self.publish_message(subject.as_ref(), None, &[], payload.as_ref())
            .await
    }

    /// Publishes a message with headers, a reply subject, or both.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and if a header is invalid.
    pub async fn publish_message(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: &[(String, String)],
        payload: &[u8],
    ) -> Result<(), ClientError> {
        check_subject(subject)?;
        reply.map_or(Ok(()), check_subject)?;
        let reply = reply.map(str::as_bytes);
        let borrowed: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let block = header_block(&borrowed)?;
        let size = block.as_ref().map_or(0, Vec::len) + payload.len();
        self.check_size(size)?;
        self.inner
            .check_line(subject.len() + reply.map_or(0, <[u8]>::len))?;
        let mut text = Vec::with_capacity(subject.len() + size + 64);
        match block {
            Some(block) => {
                client::header_publish(&mut text, subject.as_bytes(), reply, &block, payload);
            }
            None => client::publish(&mut text, subject.as_bytes(), reply, payload),
        }
        self.inner.send(&text).await
    }

    /// Publishes a message if the server has room for the start of it, and answers whether it had. One that was taken is
    /// behind all taken before. Wait for [`writable`](Self::writable) afterwards in either case: only then is a message
    /// that was taken on its way as a whole. Costs no allocation beyond that of the header.
    ///
    /// # Errors
    /// As [`publish_message`](Self::publish_message).
    pub fn try_publish(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) -> Result<bool, ClientError> {
        check_subject(subject)?;
        reply.map_or(Ok(()), check_subject)?;
        let block = header_block(headers)?;
        self.check_size(block.as_ref().map_or(0, Vec::len) + payload.len())?;
        let reply = reply.map(str::as_bytes);
        self.inner
            .check_line(subject.len() + reply.map_or(0, <[u8]>::len))?;
        if !self.inner.write_now() {
            return Ok(false);
        }
        // One lock for rendering and writing: this is where an event bus spends its time.
        let mut outgoing = self.inner.outgoing.lock();
        let subject = subject.as_bytes();
        match block {
            Some(block) => {
                client::header_publish(&mut outgoing, subject, reply, &block, payload);
            }
            None => client::publish(&mut outgoing, subject, reply, payload),
        }
        if self.inner.writer.try_write(&mut outgoing) {
            return Ok(true);
        }
        outgoing.clear();
        drop(outgoing);
        self.inner.close();
        Err(ClientError::ServerStopped)
    }

    /// Waits until the server has taken what was published and has room for more, or has stopped. At once, mostly.
    pub async fn writable(&self) {
        while !self.inner.write_now() {
            self.inner.writer.writable().await;
        }
    }

    /// Largest message the server takes from this client, header included, in bytes. A reload may change it.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        self.inner.payload_bytes_max.load(Ordering::Relaxed)
    }

    /// Subscribes to a subject, which may have wildcards, and has `handle` called with every message, in the task that
    /// reads for this client: one call after another over all its listeners, in the order in which the server sent the
    /// messages. So `handle` must not block; whoever needs a message for longer copies it. Quicker than a
    /// [`Subscription`], where each message is copied and queued.
    ///
    /// The server knows of the subscription before it handles anything this client publishes afterwards. When the server
    /// stops, `handle` is dropped.
    ///
    /// # Errors
    /// If the subject is invalid or the server has stopped.
    pub async fn listen(
        &self,
        subject: &str,
        handle: impl FnMut(&MessageView<'_>) + Send + 'static,
    ) -> Result<Listener, ClientError> {
        let reader = Reader::Handler(Arc::new(Mutex::new(handle)));
        let sid = self.inner.enter(subject, None, None, reader).await?;
        let inner = Arc::clone(&self.inner);
        Ok(Listener { inner, sid })
    }

    /// Subscribes to a subject, which may have wildcards.
    ///
    /// Nothing is dropped if its messages are read slowly: once 8,192 of them wait, the whole client waits, answers to
    /// its requests and flushes included. So do not await those in the same task that reads a busy subscription, or
    /// use a second client for them.
    ///
    /// # Errors
    /// If the subject is invalid or the server has stopped.
    pub async fn subscribe(&self, subject: impl AsRef<str>) -> Result<Subscription, ClientError> {
        self.inner.subscribe(subject.as_ref(), None, None).await
    }

    /// Subscribes as a member of a queue group: each message goes to one member.
    ///
    /// # Errors
    /// If the subject or the group's name is invalid, or the server has stopped.
    pub async fn queue_subscribe(
        &self,
        subject: impl AsRef<str>,
        queue: impl AsRef<str>,
    ) -> Result<Subscription, ClientError> {
        self.inner
            .subscribe(subject.as_ref(), Some(queue.as_ref()), None)
            .await
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// If nobody listens, no answer comes within `timeout`, or publishing fails.
    pub async fn request(
        &self,
        subject: impl AsRef<str>,
        payload: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<Message, ClientError> {
        let inbox = self.new_inbox();
        let mut answers = self.inner.subscribe(&inbox, None, Some(1)).await?;
        self.publish_message(subject.as_ref(), Some(&inbox), &[], payload.as_ref())
            .await?;
        let answer = tokio::time::timeout(timeout, answers.next())
            .await
            .map_err(|_| ClientError::TimedOut)?
            .ok_or(ClientError::ServerStopped)?;
        if answer.status == Some(503) {
            Err(ClientError::NoResponders)
        } else {
            Ok(answer)
        }
    }

    fn check_size(&self, size: usize) -> Result<(), ClientError> {
        let max = self.payload_bytes_max();
        if size > max {
            Err(ClientError::PayloadTooLarge { size, max })
        } else {
            Ok(())
        }
    }

    /// A subject that nobody else uses, for answers.
    #[must_use]
    pub fn new_inbox(&self) -> String {
        format!("{}{:016x}", self.inner.inbox_prefix, fastrand::u64(..))
    }

    /// Waits until the server has handled everything sent before.
    ///
    /// # Errors
    /// If the server has stopped.
    pub async fn flush(&self) -> Result<(), ClientError> {
        let (done, wait) = oneshot::channel();
        let mut text = Vec::new();
        client::ping(&mut text);
        self.inner
            .send_with(&text, |routes| routes.flushes.push_back(done))
            .await?;
        wait.await.map_err(|_| ClientError::ServerStopped)
    }
}

/// Messages for one subscription, as a [`Stream`]. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    inner: Arc<Inner>,
    sid: u64,
    messages: mpsc::Receiver<Message>,
}

impl Subscription {
    /// The next message; `None` once the server has stopped.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// Ends the subscription after `max` messages in all, counted from its start.
    ///
    /// # Errors
    /// If the server has stopped.
    pub async fn unsubscribe_after(&self, max: u64) -> Result<(), ClientError> {
        let mut text = Vec::new();
        client::unsubscribe(
            &mut text,
            client::decimal(self.sid as usize).as_ref(),
            Some(max),
        );
        self.inner.send(&text).await
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages.poll_recv(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.inner.unsubscribe(self.sid);
    }
}

/// Takes a subscription back if whoever makes it gives up while it is being sent.
struct Unfinished<'a> {
    inner: Option<&'a Inner>,
    sid: u64,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner {
            inner.unsubscribe(self.sid);
        }
    }
}

impl Inner {
    async fn subscribe(
        self: &Arc<Self>,
        subject: &str,
        queue: Option<&str>,
        max: Option<u64>,
    ) -> Result<Subscription, ClientError> {
        let (sender, messages) = mpsc::channel(SUBSCRIPTION_QUEUE);
        let reader = Reader::Queue(sender);
        let sid = self.enter(subject, queue, max, reader).await?;
        Ok(Subscription {
            inner: Arc::clone(self),
            sid,
            messages,
        })
    }

    /// Subscribes on behalf of `reader`. Answers with the number of the subscription.
    async fn enter(
        &self,
        subject: &str,
        queue: Option<&str>,
        max: Option<u64>,
        reader: Reader,
    ) -> Result<u64, ClientError> {
        check_subject(subject)?;
        queue.map_or(Ok(()), check_subject)?;
        if !natterjack_engine::is_valid_pattern(subject.as_bytes()) {
            return Err(ClientError::InvalidSubject(subject.to_owned()));
        }
        self.check_line(subject.len() + queue.map_or(0, str::len))?;
        let sid = self.next_sid.fetch_add(1, Ordering::Relaxed);
        let digits = client::decimal(sid as usize);
        let queue = queue.map(str::as_bytes);
        let mut text = Vec::new();
        client::subscribe(&mut text, subject.as_bytes(), queue, digits.as_ref());
        if max.is_some() {
            client::unsubscribe(&mut text, digits.as_ref(), max);
        }
        let mut unfinished = Unfinished {
            inner: Some(self),
            sid,
        };
        self.send_with(&text, |routes| {
            routes.subscriptions.insert(sid, reader);
        })
        .await?;
        unfinished.inner = None;
        Ok(sid)
    }

    fn unsubscribe(&self, sid: u64) {
        let reader = self.routes.lock().subscriptions.remove(&sid);
        // What a handler holds may be anything, and is not let go under a lock.
        drop(reader);
        let mut text = Vec::new();
        client::unsubscribe(&mut text, client::decimal(sid as usize).as_ref(), None);
        self.outgoing.lock().extend_from_slice(&text);
        self.write_now();
    }

    async fn send(&self, text: &[u8]) -> Result<(), ClientError> {
        self.send_with(text, |_| {}).await
    }

    /// Sends whole operations, and notes where their answers go. Waits until they are written.
    async fn send_with(
        &self,
        text: &[u8],
        note: impl FnOnce(&mut Routes),
    ) -> Result<(), ClientError> {
        // Room first, so that those who publish wait before they pile up bytes here.
        while !self.write_now() {
            self.writer.writable().await;
        }
        {
            let mut routes = self.routes.lock();
            if routes.is_closed {
                return Err(ClientError::ServerStopped);
            }
            // Under the lock, so that answers come in the order of what they answer.
            note(&mut routes);
            self.outgoing.lock().extend_from_slice(text);
        }
        while !self.write_now() {
            self.writer.writable().await;
        }
        if self.routes.lock().is_closed {
            Err(ClientError::ServerStopped)
        } else {
            Ok(())
        }
    }

    /// Writes what fits without waiting. Returns whether nothing is left.
    fn write_now(&self) -> bool {
        let mut outgoing = self.outgoing.lock();
        if !outgoing.is_empty() && !self.writer.try_write(&mut outgoing) {
            outgoing.clear();
            drop(outgoing);
            self.close();
            return true;
        }
        outgoing.is_empty()
    }

    fn check_line(&self, subjects_len: usize) -> Result<(), ClientError> {
        // Blanks and the digits of sizes and ids take a little more.
        let (size, max) = (subjects_len + 32, self.control_line_bytes_max);
        if size > max {
            Err(ClientError::SubjectTooLong { size, max })
        } else {
            Ok(())
        }
    }

    fn close(&self) {
        let mut routes = self.routes.lock();
        routes.is_closed = true;
        routes.flushes.clear();
        let readers = std::mem::take(&mut routes.subscriptions);
        drop(routes);
        drop(readers);
    }
}

/// Reads what the server sends until it closes the connection.
async fn receive(mut reader: ClientReader, client: Weak<Inner>) {
    let limits = Limits::FROM_SERVER;
    let mut is_let_in = false;
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    'connection: loop {
        match reader.0.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let mut at = 0;
        loop {
            match decode_server(&buffer[at..], &limits) {
                Ok(Decoded::Op { op, consumed }) => {
                    at += consumed;
                    handle(op, &client, &mut is_let_in).await;
                }
                Ok(Decoded::Incomplete { .. }) => break,
                Err(error) => {
                    tracing::error!(%error, "in-process client got broken bytes");
                    break 'connection;
                }
            }
        }
        buffer.advance(at);
        buffer.reserve(READ_BYTES);
    }
    if let Some(inner) = client.upgrade() {
        inner.close();
    }
}

async fn handle(op: ServerOp<'_>, client: &Weak<Inner>, is_let_in: &mut bool) {
    let Some(inner) = client.upgrade() else {
        return;
    };
    match op {
        ServerOp::Message(message) => {
            let sid = std::str::from_utf8(message.sid)
                .ok()
                .and_then(|sid| sid.parse().ok());
            let reader =
                sid.and_then(|sid: u64| inner.routes.lock().subscriptions.get(&sid).cloned());
            // While it waits for its reader, it must not keep the client alive.
            drop(inner);
            match reader {
                Some(Reader::Handler(handler)) => {
                    let view = MessageView { message: &message };
                    handler.lock()(&view);
                }
                // A reader that went away in this moment wants no message.
                Some(Reader::Queue(sender)) => drop(sender.send(owned(&message)).await),
                None => {}
            }
        }
        ServerOp::Ping => {
            client::pong(&mut inner.outgoing.lock());
            inner.write_now();
        }
        ServerOp::Pong => {
            let waiting = inner.routes.lock().flushes.pop_front();
            if let Some(waiting) = waiting {
                // Whoever waited may have given up.
                let _ = waiting.send(());
            }
        }
        ServerOp::Err(text) => {
            tracing::warn!(
                error = %String::from_utf8_lossy(text),
                "the server refused something from the in-process client"
            );
        }
        ServerOp::Info(json) => {
            let Ok(info) = ServerInfo::parse(json) else {
                return;
            };
            // What the server says before it knows who is there is not about this client.
            *is_let_in |= info.connect_info;
            if let Ok(bytes_max) = usize::try_from(info.max_payload)
                && *is_let_in
            {
                inner.payload_bytes_max.store(bytes_max, Ordering::Relaxed);
            }
        }
        ServerOp::Ok => {}
    }
}

fn owned(message: &client::Message<'_>) -> Message {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = Headers::parse(message.header()).ok();
    Message {
        subject: text(message.subject),
        reply: message.reply.map(text),
        status: headers.as_ref().and_then(Headers::status),
        headers: headers
            .iter()
            .flat_map(Headers::entries)
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
        payload: Bytes::copy_from_slice(message.payload()),
    }
}

fn connect_options() -> ConnectOptions {
    ConnectOptions {
        verbose: false,
        pedantic: false,
        echo: true,
        headers: true,
        no_responders: true,
        protocol: 1,
        name: "in-process".to_owned(),
        lang: "rust".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..ConnectOptions::default()
    }
}

fn check_subject(subject: &str) -> Result<(), ClientError> {
    if subject.is_empty() || subject.contains([' ', '\t', '\r', '\n']) {
        return Err(ClientError::InvalidSubject(subject.to_owned()));
    }
    Ok(())
}

fn header_block(headers: &[(&str, &str)]) -> Result<Option<Vec<u8>>, ClientError> {
    if headers.is_empty() {
        return Ok(None);
    }
    let bytes = headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4);
    let mut builder = natterjack_wire::headers::HeaderBuilder::with_capacity(bytes.sum());
    for (name, value) in headers {
        builder = builder
            .entry(name.as_bytes(), value.as_bytes())
            .map_err(|_| ClientError::InvalidHeader((*name).to_owned()))?;
    }
    Ok(Some(builder.finish()))
}
