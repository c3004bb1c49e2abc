//! A client for scenarios: quick enough for hundreds of thousands of messages, and strict about what it is sent.
//!
//! [`Peer`](crate::Peer) checks bytes; this one reads operations, answers `PING`, and hands out messages, `INFO`s and nothing
//! else: an `-ERR` ends the test.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::deadline::{Deadline, PATIENCE};
use crate::text::escaped;

/// Operations to be sent are gathered up to here.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Whom a client says to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Login {
    /// A name and a password, or nobody.
    pub user: Option<(&'static str, &'static str)>,
}

impl Login {
    /// A user with a password.
    #[must_use]
    pub const fn user(name: &'static str, password: &'static str) -> Self {
        Self {
            user: Some((name, password)),
        }
    }
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it was published to.
    pub subject: String,
    /// The subscription it came for.
    pub subscription: u64,
    /// Where an answer is expected.
    pub reply: Option<String>,
    /// The block of headers with its version line and empty line, or nothing.
    pub headers: Vec<u8>,
    /// What stands behind them.
    pub payload: Vec<u8>,
}

impl Message {
    /// Whether it is the server's word that nobody heard a request.
    #[must_use]
    pub fn is_no_responders(&self) -> bool {
        self.headers.starts_with(b"NATS/1.0 503") && self.payload.is_empty()
    }

    /// The payload as text.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("these tests send text")
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// What was received; what is before `taken` is done with.
    input: Vec<u8>,
    taken: usize,
    output: Vec<u8>,
    messages: VecDeque<Message>,
    infos: VecDeque<Value>,
    last_info: Value,
    pongs: usize,
    is_closed: bool,
    subscriptions: u64,
    inbox: String,
    address: SocketAddr,
    login: Login,
}

impl Client {
    /// Connects as nobody.
    ///
    /// # Panics
    /// When it is not let in.
    #[must_use]
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, Login::default())
    }

    /// Connects as somebody.
    ///
    /// # Panics
    /// When it is not let in.
    #[must_use]
    #[track_caller]
    pub fn connect_as(address: SocketAddr, login: Login) -> Self {
        Self::connect_with(address, login, &json!({}))
    }

    /// Connects with further fields of `CONNECT`. Unless they say otherwise it knows headers, wants to be told that nobody
    /// heard a request, and takes later `INFO`s.
    ///
    /// # Panics
    /// When it is not let in.
    #[must_use]
    #[track_caller]
    pub fn connect_with(address: SocketAddr, login: Login, more: &Value) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .expect("a connected socket takes options");
        let inbox = format!(
            "_INBOX.{}.{}",
            std::process::id(),
            stream.local_addr().expect("connected").port()
        );
        let mut client = Self {
            stream,
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            messages: VecDeque::new(),
            infos: VecDeque::new(),
            last_info: Value::Null,
            pongs: 0,
            is_closed: false,
            subscriptions: 0,
            inbox,
            address,
            login,
        };
        let mut connect = json!({
            "verbose": false, "headers": true, "no_responders": true, "protocol": 1, "lang": "test"
        });
        if let Some((name, password)) = login.user {
            connect["user"] = name.into();
            connect["pass"] = password.into();
        }
        for (key, value) in more.as_object().into_iter().flatten() {
            connect[key] = value.clone();
        }
        client.output = format!("CONNECT {connect}\r\n").into_bytes();
        client.round_trip();
        client
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its own end of the connection.
    ///
    /// # Panics
    /// When there is none any more.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("connected")
    }

    /// Whom it said to be.
    #[must_use]
    pub fn login(&self) -> Login {
        self.login
    }

    /// Subscribes; the server knows of it after the next [round trip](Self::round_trip).
    pub fn subscribe(&mut self, subject: &str) -> u64 {
        self.subscriptions += 1;
        let subscription = self.subscriptions;
        self.write(format!("SUB {subject} {subscription}\r\n"));
        subscription
    }

    /// Subscribes as a member of a group.
    pub fn queue_subscribe(&mut self, subject: &str, queue: &str) -> u64 {
        self.subscriptions += 1;
        let subscription = self.subscriptions;
        self.write(format!("SUB {subject} {queue} {subscription}\r\n"));
        subscription
    }

    /// Ends a subscription, at once or after so many messages in all.
    pub fn unsubscribe(&mut self, subscription: u64, after: Option<u64>) {
        self.write(match after {
            None => format!("UNSUB {subscription}\r\n"),
            Some(count) => format!("UNSUB {subscription} {count}\r\n"),
        });
    }

    /// Publishes. Sent with the next [flush](Self::flush) or round trip at the latest.
    pub fn publish(&mut self, subject: &str, payload: impl AsRef<[u8]>) {
        self.publish_with(subject, None, b"", payload);
    }

    /// Publishes with a reply subject, headers, or both.
    pub fn publish_with(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &[u8],
        payload: impl AsRef<[u8]>,
    ) {
        let payload = payload.as_ref();
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let total = headers.len() + payload.len();
        let head = if headers.is_empty() {
            format!("PUB {subject} {reply}{total}\r\n")
        } else {
            format!("HPUB {subject} {reply}{} {total}\r\n", headers.len())
        };
        self.output.extend_from_slice(head.as_bytes());
        self.output.extend_from_slice(headers);
        self.output.extend_from_slice(payload);
        self.output.extend_from_slice(b"\r\n");
        if self.output.len() > OUTPUT_BYTES_MAX {
            self.flush();
        }
    }

    /// Sends what has been gathered.
    ///
    /// # Panics
    /// When the server takes nothing.
    #[track_caller]
    pub fn flush(&mut self) {
        let output = std::mem::take(&mut self.output);
        if let Err(error) = self.stream.write_all(&output) {
            self.receive_all();
            panic!(
                "cannot send: {error}; it said {}",
                escaped(&self.input[self.taken..])
            );
        }
    }

    /// Sends what has been gathered, and returns when the server has done all of it. Messages that come meanwhile are kept.
    ///
    /// # Panics
    /// When the server does not answer.
    #[track_caller]
    pub fn round_trip(&mut self) {
        self.output.extend_from_slice(b"PING\r\n");
        self.flush();
        let deadline = Deadline::after(PATIENCE);
        while self.pongs == 0 {
            assert!(self.receive(deadline), "no PONG came{}", self.why());
        }
        self.pongs -= 1;
    }

    /// The next message.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn next_message(&mut self) -> Message {
        match self.next_within(PATIENCE) {
            Some(message) => message,
            None => panic!("no message came{}", self.why()),
        }
    }

    /// The next message if one comes in time.
    #[track_caller]
    pub fn next_within(&mut self, patience: Duration) -> Option<Message> {
        let deadline = Deadline::after(patience);
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Some(message);
            }
            if !self.receive(deadline) {
                return None;
            }
        }
    }

    /// The next message of one subscription; those of others stay where they are.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn take_message_of(&mut self, subscription: u64) -> Message {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let is_wanted = |message: &Message| message.subscription == subscription;
            if let Some(at) = self.messages.iter().position(is_wanted) {
                return self.messages.remove(at).expect("it is there");
            }
            assert!(self.receive(deadline), "no message came{}", self.why());
        }
    }

    /// The messages that have come and not been taken.
    pub fn take_messages(&mut self) -> Vec<Message> {
        self.messages.drain(..).collect()
    }

    /// The next `INFO` that has not been taken; the first is that of the beginning.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn next_info(&mut self) -> Value {
        let deadline = Deadline::after(PATIENCE);
        loop {
            if let Some(info) = self.infos.pop_front() {
                return info;
            }
            assert!(self.receive(deadline), "no INFO came{}", self.why());
        }
    }

    /// Waits until the last `INFO` that has come is this.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn wait_for_info(&mut self, is_wanted: impl Fn(&Value) -> bool) {
        let deadline = Deadline::after(PATIENCE);
        while !is_wanted(&self.last_info) {
            assert!(
                self.receive(deadline),
                "no such INFO came{}; the last is {}",
                self.why(),
                self.last_info
            );
        }
    }

    /// Asks and returns the answer, which may be that [nobody heard](Message::is_no_responders). No other subscription may
    /// have messages meanwhile.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn request(&mut self, subject: &str, payload: impl AsRef<[u8]>) -> Message {
        self.request_with(subject, b"", payload)
    }

    /// Asks with headers, as [`Self::request`].
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn request_with(
        &mut self,
        subject: &str,
        headers: &[u8],
        payload: impl AsRef<[u8]>,
    ) -> Message {
        let (reply, subscription) = self.subscribe_inbox();
        self.publish_with(subject, Some(&reply), headers, payload);
        self.flush();
        let answer = self.next_message();
        assert_eq!(
            answer.subscription, subscription,
            "not the answer: {answer:?}"
        );
        self.unsubscribe(subscription, None);
        answer
    }

    /// Whether somebody would hear a message, as far as this client's server knows: asks, and returns whether it said that
    /// nobody is there. Whoever is there gets the message, and is not to answer it.
    ///
    /// # Panics
    /// When the server does not answer.
    #[must_use]
    #[track_caller]
    pub fn is_heard(&mut self, subject: &str, payload: impl AsRef<[u8]>) -> bool {
        let (reply, subscription) = self.subscribe_inbox();
        self.publish_with(subject, Some(&reply), b"", payload);
        self.unsubscribe(subscription, None);
        self.round_trip();
        let refused = self
            .messages
            .iter()
            .position(|message| message.subscription == subscription);
        match refused {
            Some(at) => {
                let answer = self.messages.remove(at).expect("it is there");
                assert!(answer.is_no_responders(), "an answer: {answer:?}");
                false
            }
            None => true,
        }
    }

    /// Expects that the server hangs up.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let deadline = Deadline::after(PATIENCE);
        while !self.is_closed {
            assert!(
                self.receive(deadline) || self.is_closed,
                "the connection stays open"
            );
        }
    }

    fn subscribe_inbox(&mut self) -> (String, u64) {
        let reply = format!("{}.{}", self.inbox, self.subscriptions + 1);
        let subscription = self.subscribe(&reply);
        (reply, subscription)
    }

    #[track_caller]
    fn write(&mut self, text: String) {
        self.output.extend_from_slice(text.as_bytes());
    }

    fn why(&self) -> &'static str {
        if self.is_closed {
            ": the connection has ended"
        } else {
            " in time"
        }
    }

    /// Reads once and sorts what has come. False when nothing came: the connection ended or time ran out.
    #[track_caller]
    fn receive(&mut self, deadline: Deadline) -> bool {
        if self.is_closed {
            return false;
        }
        let mut buffer = [0; 64 * 1024];
        while let Some(left) = deadline.left() {
            self.stream
                .set_read_timeout(Some(left))
                .expect("the time left is never zero");
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    self.input.extend_from_slice(&buffer[..count]);
                    self.sort();
                    return true;
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
                    ) => {}
                Ok(_) | Err(_) => {
                    self.is_closed = true;
                    return false;
                }
            }
        }
        false
    }

    fn receive_all(&mut self) {
        let deadline = Deadline::after(Duration::from_secs(1));
        while self.receive(deadline) {}
    }

    /// Takes all that is whole.
    #[track_caller]
    fn sort(&mut self) {
        while let Some(end) = line_end(&self.input[self.taken..]) {
            let line = &self.input[self.taken..self.taken + end];
            let line = std::str::from_utf8(line).expect("servers speak UTF-8");
            let body_start = self.taken + end + 2;
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            match verb {
                "MSG" | "HMSG" => {
                    let (mut message, header_bytes, total_bytes) = head(verb, rest);
                    let body_end = body_start + total_bytes;
                    if self.input.len() < body_end + 2 {
                        break;
                    }
                    let body = &self.input[body_start..body_end];
                    message.headers = body[..header_bytes].to_vec();
                    message.payload = body[header_bytes..].to_vec();
                    assert_eq!(&self.input[body_end..body_end + 2], b"\r\n", "{line}");
                    self.messages.push_back(message);
                    self.taken = body_end + 2;
                    continue;
                }
                "PING" => self.stream.write_all(b"PONG\r\n").unwrap_or_default(),
                "PONG" => self.pongs += 1,
                "INFO" => {
                    self.last_info = serde_json::from_str(rest).expect("INFO is JSON");
                    self.infos.push_back(self.last_info.clone());
                }
                _ => panic!("the server says {line}"),
            }
            self.taken = body_start;
        }
        self.input.drain(..self.taken);
        self.taken = 0;
    }
}

/// A message's line without its verb: all but the body, and the sizes of its headers and of the whole.
#[track_caller]
fn head(verb: &str, rest: &str) -> (Message, usize, usize) {
    let words: Vec<&str> = rest.split(' ').collect();
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("no size in {rest}"));
    let sizes = if verb == "MSG" { 1 } else { 2 };
    let (names, sizes) = words.split_at(words.len() - sizes);
    let (subject, subscription, reply) = match *names {
        [subject, subscription] => (subject, subscription, None),
        [subject, subscription, reply] => (subject, subscription, Some(reply.to_owned())),
        _ => panic!("the server says {verb} {rest}"),
    };
    let message = Message {
        subject: subject.to_owned(),
        subscription: subscription.parse().expect("our own number"),
        reply,
        headers: Vec::new(),
        payload: Vec::new(),
    };
    match *sizes {
        [headers, total] => (message, number(headers), number(total)),
        _ => (message, 0, number(sizes[0])),
    }
}

fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\r\n")
}
