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
        self.seen.push(canonical(&answer));
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
/// Consecutive `MSG` and `HMSG` are compared without regard to their order: the protocol leaves it open which of several
/// matching subscriptions is served first.
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

/// What a server said, with `INFO` lines reduced to the word and each run of deliveries sorted.
fn canonical(answer: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(answer.len());
    let mut deliveries: Vec<&[u8]> = Vec::new();
    let mut rest = answer;
    while !rest.is_empty() {
        let (operation, after) = rest.split_at(operation_bytes(rest));
        rest = after;
        if is_delivery(operation) {
            deliveries.push(operation);
            continue;
        }
        deliveries.sort_unstable();
        kept.extend(deliveries.drain(..).flatten());
        if operation.starts_with(b"INFO ") {
            kept.extend_from_slice(b"INFO\r\n");
        } else {
            kept.extend_from_slice(operation);
        }
    }
    deliveries.sort_unstable();
    kept.extend(deliveries.into_iter().flatten());
    kept
}

fn is_delivery(operation: &[u8]) -> bool {
    operation.starts_with(b"MSG ") || operation.starts_with(b"HMSG ")
}

/// The length of the operation that `bytes` starts with: a line, and the payload that a delivery announces.
fn operation_bytes(bytes: &[u8]) -> usize {
    let line = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |at| at + 1);
    if !is_delivery(bytes) {
        return line;
    }
    let size = bytes[..line]
        .trim_ascii_end()
        .rsplit(|byte| *byte == b' ')
        .next();
    let size: usize = size
        .and_then(|digits| str::from_utf8(digits).ok()?.parse().ok())
        .unwrap_or_default();
    (line + size + 2).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, expected: &str) {
        assert_eq!(
            escaped(&canonical(answer.as_bytes())),
            escaped(expected.as_bytes())
        );
    }

    #[test]
    fn info_lines_lose_their_text() {
        check("PONG\r\nINFO {1}\r\n+OK\r\n", "PONG\r\nINFO\r\n+OK\r\n");
        check("MSG a 1 8\r\nINFO {1}\r\n", "MSG a 1 8\r\nINFO {1}\r\n");
    }

    #[test]
    fn only_deliveries_side_by_side_are_sorted() {
        let (one, two) = ("MSG a 1 3\r\nz\r\n\r\n", "HMSG a 2 3 3\r\nabc\r\n");
        check(&[one, two].concat(), &[two, one].concat());
        check(
            &[one, "+OK\r\n", two].concat(),
            &[one, "+OK\r\n", two].concat(),
        );
    }

    #[test]
    fn what_breaks_off_is_kept() {
        check("MSG a 1 30\r\nabc", "MSG a 1 30\r\nabc");
        check("-ERR 'x", "-ERR 'x");
    }
}
