//! A client that reads like the protocol: it sends text as given and expects text as given.
//!
//! It adds nothing of its own, with one exception: a `PING` from the server that no expectation mentions is answered and
//! forgotten, since servers send it by the clock and a slow machine would see it in any test.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::deadline::{Deadline, PATIENCE};
use crate::strainer::Strainer;
use crate::text::escaped;

const PING: &[u8] = b"PING\r\n";

/// A connection to a server, driven by a test.
///
/// # Examples
/// ```no_run
/// # let address = "127.0.0.1:4222".parse().unwrap();
/// let mut peer = testkit::Peer::connect(address);
/// peer.expect_info();
/// peer.send("CONNECT {\"verbose\":false}\r\nSUB greetings 1\r\nPUB greetings 5\r\nhello\r\n");
/// peer.expect("MSG greetings 1 5\r\nhello\r\n");
/// peer.ping_pong();
/// ```
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    /// Received and not yet taken by an expectation.
    pending: Vec<u8>,
    /// What comes goes through this first.
    strainer: Option<Strainer>,
    /// Everything so far, for the failure message.
    exchange: Vec<(Direction, Vec<u8>)>,
    closed: bool,
    patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Sent,
    Received,
}

/// What was expected and what came instead, with the exchange up to then.
#[derive(Debug, thiserror::Error)]
#[error("{problem}\n--- the exchange so far (> sent, < received):\n{exchange}")]
pub struct Mismatch {
    problem: String,
    exchange: String,
}

impl Peer {
    /// Connects, and reads nothing yet.
    ///
    /// # Panics
    /// When nobody accepts the connection.
    #[must_use]
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Self::on(stream)
    }

    /// The other end of a connection that is there already.
    ///
    /// # Panics
    /// When the socket takes no options.
    #[must_use]
    pub fn on(stream: TcpStream) -> Self {
        stream
            .set_nodelay(true)
            .expect("a connected socket takes options");
        Self {
            stream,
            pending: Vec::new(),
            strainer: None,
            exchange: Vec::new(),
            closed: false,
            patience: PATIENCE,
        }
    }

    /// As another server: what comes of the system account is neither expected nor shown, since it comes by the clock.
    #[must_use]
    pub fn as_server(mut self) -> Self {
        self.strainer = Some(Strainer::default());
        self
    }

    /// Connects and introduces itself: takes the `INFO`, sends `CONNECT` with these options and makes sure it was accepted.
    ///
    /// With protocol 1 the server answers the first `PING` with a second `INFO` after its `PONG`; it is taken too.
    ///
    /// # Panics
    /// When the server does not accept.
    #[must_use]
    #[track_caller]
    pub fn introduced(address: SocketAddr, connect: &Value) -> Self {
        let mut peer = Self::connect(address);
        peer.expect_info();
        peer.send(format!("CONNECT {connect}\r\n"));
        if connect["verbose"] != false {
            peer.expect("+OK\r\n");
        }
        peer.ping_pong();
        if connect["protocol"] == 1 {
            peer.expect_info();
        }
        peer
    }

    /// Waits at most this long in later expectations.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sends these bytes as they are. A server that has hung up is noticed by what is expected next, not here.
    ///
    /// # Panics
    /// When the server reads nothing for so long that the bytes cannot be handed over.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.note(Direction::Sent, bytes);
        self.write(bytes);
    }

    /// Sends these bytes in pieces of `piece_bytes`, each in a write of its own.
    ///
    /// # Panics
    /// As [`Peer::send`], and when `piece_bytes` is zero.
    #[track_caller]
    pub fn send_in_pieces(&mut self, bytes: impl AsRef<[u8]>, piece_bytes: usize) {
        let bytes = bytes.as_ref();
        self.note(Direction::Sent, bytes);
        for piece in bytes.chunks(piece_bytes) {
            self.write(piece);
        }
    }

    /// Says that nothing more will be sent; what the server still sends can be expected.
    pub fn finish_sending(&mut self) {
        // Fails only when the connection is gone, which the next expectation will tell better.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection. The server has been told; what it does then is seen elsewhere.
    pub fn hang_up(&mut self) {
        // Fails only when the connection is gone, which is what is wanted.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.closed = true;
    }

    /// Expects exactly these bytes next.
    ///
    /// # Panics
    /// When anything else comes, the connection ends, or time runs out.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_expect(bytes.as_ref())
            .unwrap_or_else(|mismatch| panic!("{mismatch}"));
    }

    /// Expects exactly these bytes next.
    ///
    /// # Errors
    /// When anything else comes, the connection ends, or time runs out.
    pub fn try_expect(&mut self, expected: &[u8]) -> Result<(), Mismatch> {
        let deadline = Deadline::after(self.patience);
        loop {
            let common = self
                .pending
                .iter()
                .zip(expected)
                .take_while(|(got, want)| got == want)
                .count();
            if common == expected.len() {
                self.pending.drain(..common);
                return Ok(());
            }
            let differs = common < self.pending.len();
            let goes_on = if differs {
                self.take_unexpected_ping(expected, common)
            } else {
                self.receive(deadline)
            };
            if !goes_on {
                let problem = format!(
                    "expected: {}\n but got: {}{}",
                    escaped(expected),
                    escaped(&self.pending),
                    if differs { "" } else { self.why_nothing_more() }
                );
                return Err(self.mismatch(problem));
            }
        }
    }

    /// Expects an `INFO` line and returns its JSON.
    ///
    /// # Panics
    /// When anything else comes, or the JSON is none.
    #[track_caller]
    pub fn expect_info(&mut self) -> Value {
        let line = self
            .try_expect_info()
            .unwrap_or_else(|mismatch| panic!("{mismatch}"));
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("INFO carries no JSON: {error}: {line}"))
    }

    /// Expects an `INFO` line and returns its JSON as text.
    ///
    /// # Errors
    /// When anything else comes, the connection ends, or time runs out.
    pub fn try_expect_info(&mut self) -> Result<String, Mismatch> {
        self.try_expect_object("INFO")
    }

    /// Expects a line of this verb, such as `CONNECT`, and returns its JSON as text.
    ///
    /// # Errors
    /// When anything else comes, the connection ends, or time runs out.
    pub fn try_expect_object(&mut self, verb: &str) -> Result<String, Mismatch> {
        self.try_expect(format!("{verb} ").as_bytes())?;
        let line = self.line()?;
        match String::from_utf8(line) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) => Err(self.mismatch(format!("{verb} is not UTF-8: {error}"))),
        }
    }

    /// Expects `-ERR '<text>'`.
    ///
    /// # Panics
    /// When anything else comes.
    #[track_caller]
    pub fn expect_error(&mut self, text: &str) {
        self.expect(format!("-ERR '{text}'\r\n"));
    }

    /// Expects that the server hangs up without another word.
    ///
    /// # Panics
    /// When it says something more, or does not hang up.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        self.try_expect_closed()
            .unwrap_or_else(|mismatch| panic!("{mismatch}"));
    }

    /// Expects that the server hangs up without another word.
    ///
    /// # Errors
    /// When it says something more, or does not hang up.
    pub fn try_expect_closed(&mut self) -> Result<(), Mismatch> {
        let deadline = Deadline::after(self.patience);
        loop {
            if !self.pending.is_empty() && !self.take_unexpected_ping(b"", 0) {
                let got = escaped(&self.pending);
                return Err(self.mismatch(format!("expected the end, but got: {got}")));
            }
            if self.closed {
                return Ok(());
            }
            if !self.receive(deadline) && !self.closed {
                return Err(self.mismatch("expected the end, but the connection stays open".into()));
            }
        }
    }

    /// A round trip. Afterwards everything sent before has been processed, and everything that it caused on this connection
    /// has been expected.
    ///
    /// # Panics
    /// When something else is pending, or no `PONG` comes.
    #[track_caller]
    pub fn ping_pong(&mut self) {
        self.try_ping_pong()
            .unwrap_or_else(|mismatch| panic!("{mismatch}"));
    }

    /// A round trip, as [`Peer::ping_pong`].
    ///
    /// # Errors
    /// When something else is pending, or no `PONG` comes.
    pub fn try_ping_pong(&mut self) -> Result<(), Mismatch> {
        self.send(PING);
        self.try_expect(b"PONG\r\n")
    }

    /// Everything the server sends until it hangs up.
    ///
    /// # Errors
    /// When it does not hang up in time.
    pub fn try_rest(&mut self) -> Result<Vec<u8>, Mismatch> {
        let deadline = Deadline::after(self.patience);
        while !self.closed {
            if !self.receive(deadline) && !self.closed {
                return Err(self.mismatch("expected the end, but the connection stays open".into()));
            }
        }
        Ok(std::mem::take(&mut self.pending))
    }

    /// The bytes up to the next line end, which is taken but not returned.
    fn line(&mut self) -> Result<Vec<u8>, Mismatch> {
        let deadline = Deadline::after(self.patience);
        loop {
            if let Some(end) = self.pending.windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = self.pending.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(line);
            }
            if !self.receive(deadline) {
                let problem = format!(
                    "expected the rest of a line, but got: {}{}",
                    escaped(&self.pending),
                    self.why_nothing_more()
                );
                return Err(self.mismatch(problem));
            }
        }
    }

    /// Answers and removes a `PING` that stands where `expected` has another line, of which `common` bytes were right. True
    /// also when only the start of what may be such a `PING` has arrived.
    fn take_unexpected_ping(&mut self, expected: &[u8], common: usize) -> bool {
        let line_start = expected[..common]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let found = &self.pending[line_start..];
        if expected[line_start..].starts_with(PING) {
            return false;
        }
        if found.starts_with(PING) {
            self.pending.drain(line_start..line_start + PING.len());
            self.send("PONG\r\n");
            return true;
        }
        PING.starts_with(found) && self.receive(Deadline::after(self.patience))
    }

    /// Waits for more bytes. False when none came: the connection ended or time ran out.
    fn receive(&mut self, deadline: Deadline) -> bool {
        if self.closed {
            return false;
        }
        let mut buffer = [0; 16 * 1024];
        while let Some(left) = deadline.left() {
            self.stream
                .set_read_timeout(Some(left))
                .expect("the time left is never zero");
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    let before = self.pending.len();
                    match &mut self.strainer {
                        Some(strainer) => strainer.strain(&buffer[..count], &mut self.pending),
                        None => self.pending.extend_from_slice(&buffer[..count]),
                    }
                    if self.pending.len() > before {
                        let received = self.pending[before..].to_vec();
                        self.note(Direction::Received, &received);
                        return true;
                    }
                }
                Err(error) if is_retryable(error.kind()) => {}
                // A reset is an end like any other: the server hung up before it had read all we sent.
                Ok(_) | Err(_) => {
                    self.closed = true;
                    if let Some(strainer) = &mut self.strainer {
                        strainer.finish(&mut self.pending);
                    }
                    return false;
                }
            }
        }
        false
    }

    #[track_caller]
    fn write(&mut self, bytes: &[u8]) {
        self.stream
            .set_write_timeout(Some(self.patience))
            .expect("patience is never zero");
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(
                !is_retryable(error.kind()),
                "the server has stopped reading; could not send {} bytes",
                bytes.len()
            );
        }
    }

    fn note(&mut self, direction: Direction, bytes: &[u8]) {
        match self.exchange.last_mut() {
            Some((last, text)) if *last == direction => text.extend_from_slice(bytes),
            _ => self.exchange.push((direction, bytes.to_vec())),
        }
    }

    fn why_nothing_more(&self) -> &'static str {
        if self.closed {
            " and then the connection ended"
        } else {
            " and then nothing more in time"
        }
    }

    fn mismatch(&self, problem: String) -> Mismatch {
        let mut exchange = String::new();
        for (direction, bytes) in &self.exchange {
            let mark = if *direction == Direction::Sent {
                "> "
            } else {
                "< "
            };
            for line in escaped(bytes).lines() {
                exchange.push_str(mark);
                exchange.push_str(line);
                exchange.push('\n');
            }
        }
        if self.closed {
            exchange.push_str("< (closed)\n");
        }
        Mismatch { problem, exchange }
    }
}

/// Whether a socket call only ran out of time.
fn is_retryable(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that sends each text in a write of its own and then reads until the peer hangs up, returning what it read.
    fn scripted(lines: &'static [&'static str]) -> (Peer, thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the peer connects");
            stream
                .set_nodelay(true)
                .expect("a connected socket takes options");
            for line in lines {
                stream.write_all(line.as_bytes()).expect("the peer listens");
            }
            stream
                .shutdown(Shutdown::Write)
                .expect("the peer is still there");
            let mut read = Vec::new();
            stream.read_to_end(&mut read).expect("the peer hangs up");
            read
        });
        (Peer::connect(address), server)
    }

    #[test]
    fn what_comes_in_pieces_is_expected_as_a_whole() {
        let (mut peer, _server) = scripted(&["MSG a 1", " 5\r\nhel", "lo\r\n"]);
        peer.expect("MSG a 1 5\r\nhello\r\n");
        peer.expect_closed();
    }

    #[test]
    fn a_ping_between_is_answered() {
        let (mut peer, server) = scripted(&["+OK\r\nPI", "NG\r\n+OK\r\n", "PING\r\n"]);
        peer.expect("+OK\r\n+OK\r\n");
        peer.expect_closed();
        drop(peer);
        assert_eq!(server.join().expect("no panic"), b"PONG\r\nPONG\r\n");
    }

    #[test]
    fn an_expected_ping_is_not_taken_away() {
        let (mut peer, server) = scripted(&["PING\r\n"]);
        peer.expect("PING\r\n");
        drop(peer);
        assert_eq!(server.join().expect("no panic"), b"");
    }

    #[test]
    fn a_mismatch_shows_the_exchange() {
        let (mut peer, _server) = scripted(&["-ERR 'no'\r\n"]);
        peer.send("SUB a 1\r\n");
        let message = peer
            .try_expect(b"+OK\r\n")
            .expect_err("the server said no")
            .to_string();
        for part in [
            "expected: +OK\\r\\n",
            "but got: -ERR 'no'",
            "> SUB a 1",
            "< -ERR 'no'",
        ] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }

    #[test]
    fn an_end_is_not_silence() {
        let (mut peer, _server) = scripted(&["+O"]);
        let message = peer
            .try_expect(b"+OK\r\n")
            .expect_err("too little came")
            .to_string();
        assert!(
            message.contains("and then the connection ended"),
            "{message}"
        );
    }
}
