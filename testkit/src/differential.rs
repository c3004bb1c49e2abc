//! One script, two servers: plays it against both and compares every byte they sent.

use std::fmt;
use std::net::SocketAddr;

use crate::peer::{Mismatch, Peer};
use crate::server::{Kind, ServerUnderTest};
use crate::text::escaped;

/// The connections that a script opens on one of the servers, and what each of them has seen.
#[derive(Debug)]
pub struct Session {
    address: SocketAddr,
    seen: Vec<Vec<u8>>,
}

impl Session {
    /// Opens a connection, sends `bytes`, says that nothing follows, and records everything the server answers until it
    /// hangs up. The `INFO` lines, which differ by nature, are recorded as the word alone.
    ///
    /// # Errors
    /// When the server does not hang up.
    ///
    /// # Panics
    /// When the server accepts no connection, or stops reading.
    pub fn exchange(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        let mut peer = Peer::connect(self.address);
        peer.try_expect_info()?;
        peer.send(bytes);
        peer.finish_sending();
        let answer = peer.try_rest()?;
        self.seen.push(without_info(&answer));
        Ok(())
    }
}

/// What two servers did differently.
#[derive(Debug)]
pub struct Difference {
    exchange: usize,
    seen: [(Kind, Vec<u8>); 2],
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the servers differ in exchange {}",
            self.exchange
        )?;
        for (kind, seen) in &self.seen {
            write!(formatter, "\n--- {}:\n{}", kind.name(), escaped(seen))?;
        }
        Ok(())
    }
}

impl std::error::Error for Difference {}

/// Plays `script` against both servers.
///
/// # Errors
/// The first exchange in which they said different things.
///
/// # Panics
/// When the script's own expectations fail against either of them.
#[track_caller]
pub fn differential(
    servers: [&ServerUnderTest; 2],
    script: impl Fn(&mut Session) -> Result<(), Mismatch>,
) -> Result<(), Difference> {
    let [first, second] = servers.map(|server| {
        let mut session = Session {
            address: server.address(),
            seen: Vec::new(),
        };
        if let Err(mismatch) = script(&mut session) {
            panic!("{}: {mismatch}", server.kind().name());
        }
        (server.kind(), session.seen)
    });
    let both = first.1.into_iter().zip(second.1);
    for (exchange, (left, right)) in both.enumerate() {
        if left != right {
            return Err(Difference {
                exchange,
                seen: [(first.0, left), (second.0, right)],
            });
        }
    }
    Ok(())
}

/// `bytes` with the rest of every line that starts with `INFO ` left out.
fn without_info(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"INFO ") {
            kept.extend_from_slice(b"INFO\r\n");
        } else {
            kept.extend_from_slice(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_lines_lose_their_text() {
        assert_eq!(
            without_info(b"PONG\r\nINFO {1}\r\n+OK\r\n"),
            b"PONG\r\nINFO\r\n+OK\r\n"
        );
        assert_eq!(
            without_info(b"MSG INFO 1 0\r\n\r\n"),
            b"MSG INFO 1 0\r\n\r\n"
        );
    }
}
