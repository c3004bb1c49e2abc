//! What these tests share: a server for a test, blocking peers beside it, and waiting for a fact.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use natterjack_server::{Options, Server};
use testkit::Peer;
use tokio::time::timeout;

/// The longest any single wait in these tests takes before it counts as failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn options() -> Options {
    Options {
        host: "127.0.0.1".to_owned(),
        port: 0,
        ..Options::default()
    }
}

pub(crate) async fn start() -> Server {
    Server::start(options())
        .await
        .expect("a server on a free port")
}

pub(crate) fn quiet_peer(server: &Server) -> Peer {
    let connect = serde_json::json!({ "verbose": false, "pedantic": false, "protocol": 1 });
    Peer::introduced(server.client_addr(), &connect)
}

/// Runs blocking socket code beside the server.
pub(crate) async fn beside<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    tokio::task::spawn_blocking(work)
        .await
        .expect("no panic beside the server")
}

/// Waits until `holds`, by asking again whenever the runtime has run its other tasks.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let ask = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        while !holds() {
            ticks.tick().await;
        }
    };
    assert!(
        timeout(PATIENCE, ask).await.is_ok(),
        "in vain waited until {what}"
    );
}

/// A client that moves megabytes: it compares what it reads as it comes, and keeps nothing.
pub(crate) struct Bulk(TcpStream);

impl Bulk {
    pub(crate) fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.client_addr()).expect("connected");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a read timeout");
        let mut bulk = Self(stream);
        bulk.line("INFO ");
        bulk.send("CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n");
        bulk.expect(b"PONG\r\n", 1);
        bulk
    }

    pub(crate) fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).expect("sent");
    }

    /// Sends, and waits until the server has handled it.
    pub(crate) fn send_and_wait(&mut self, text: impl AsRef<[u8]>) {
        self.send(text);
        self.send("PING\r\n");
        self.expect(b"PONG\r\n", 1);
    }

    /// Reads `frame` this many times.
    pub(crate) fn expect(&mut self, frame: &[u8], times: usize) {
        let mut got = vec![0; frame.len()];
        for number in 0..times {
            self.0
                .read_exact(&mut got)
                .unwrap_or_else(|error| panic!("frame {number}: {error}"));
            assert!(got == frame, "frame {number} is another one");
        }
    }

    /// Tells the server that nothing more will be sent.
    pub(crate) fn finish_sending(&self) {
        self.0.shutdown(Shutdown::Write).expect("our side closed");
    }

    /// Reads to the end, however the connection ended, and returns how many bytes came.
    pub(crate) fn rest(mut self) -> usize {
        let mut buffer = vec![0; 64 * 1024];
        let mut total = 0;
        while let Ok(count @ 1..) = self.0.read(&mut buffer) {
            total += count;
        }
        total
    }

    fn line(&mut self, start: &str) {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") {
            self.0.read_exact(&mut byte).expect("a line");
            line.push(byte[0]);
        }
        assert!(line.starts_with(start.as_bytes()));
    }
}
