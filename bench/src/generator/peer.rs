//! One client connection, spoken by hand: greeting, the PING that proves everything before it was
//! handled, and frames of a known length read back.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::encrypted::Encrypted;
use super::{Node, Target};

/// Nothing in a benchmark legitimately takes longer than this without a byte moving.
pub(super) const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 15 });

/// Protocol 0: a client that says 1 is sent INFO again after its first PONG, at a moment of the server's
/// choosing, and frames could no longer be told apart by counting.
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\
\"name\":\"natterjack-bench\",\"lang\":\"raw\",\"version\":\"1\",\"protocol\":0,\"echo\":true,\
\"headers\":true,\"no_responders\":true}\r\nPING\r\n";

const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"PONG\r\n";

/// A connection without any greeting.
pub(super) fn connect_raw(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).context("connecting")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One connection, encrypted or not.
#[derive(Debug)]
pub(super) enum Stream {
    Clear(TcpStream),
    Encrypted(Box<Encrypted>),
}

impl Stream {
    /// From now on reading fails after that long without a byte.
    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Clear(stream) => stream.set_read_timeout(Some(timeout)),
            Self::Encrypted(stream) => stream.socket().set_read_timeout(Some(timeout)),
        }
    }

    /// From now on writing fails after that long without a byte taken.
    pub(super) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Clear(stream) => stream.set_write_timeout(Some(timeout)),
            Self::Encrypted(stream) => stream.socket().set_write_timeout(Some(timeout)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.read(buffer),
            Self::Encrypted(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.write(bytes),
            Self::Encrypted(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Clear(stream) => stream.as_fd(),
            Self::Encrypted(stream) => stream.socket().as_fd(),
        }
    }
}

/// A connection that the first server has accepted.
pub(super) fn connect(target: &Target) -> Result<Stream> {
    connect_at(target, target.first())
}

/// A connection a server has accepted: INFO read, encrypted if the target is, CONNECT and PING sent, PONG read.
pub(super) fn connect_at(target: &Target, node: Node) -> Result<Stream> {
    let mut stream = connect_raw(node.address)?;
    let mut buffer = [0_u8; 4096];
    let mut filled = 0;
    // INFO is one line; it is read whole so that the PONG below cannot be mistaken for part of it.
    while !buffer[..filled].ends_with(b"\r\n") {
        ensure!(
            filled < buffer.len(),
            "INFO is longer than {} bytes",
            buffer.len()
        );
        let bytes = stream
            .read(&mut buffer[filled..])
            .context("waiting for INFO")?;
        ensure!(bytes > 0, "closed before INFO");
        filled += bytes;
    }
    ensure!(
        buffer.starts_with(b"INFO "),
        "greeted with {:?}",
        printable(&buffer[..filled])
    );
    let mut stream = match &target.tls {
        None => Stream::Clear(stream),
        Some(config) => Stream::Encrypted(Box::new(Encrypted::new(config, stream)?)),
    };
    stream.write_all(CONNECT).context("sending CONNECT")?;
    let extra = read_until_pong(&mut stream, &mut buffer)?;
    ensure!(extra == 0, "{extra} unexpected bytes before the first PONG");
    Ok(stream)
}

/// Sends a PING and reads up to its PONG: the server has then handled everything sent before. Returns
/// how many bytes came before the PONG.
pub(super) fn round_trip(stream: &mut Stream, buffer: &mut [u8]) -> Result<u64> {
    stream.write_all(PING).context("sending PING")?;
    read_until_pong(stream, buffer)
}

/// Answers the server's own PING.
pub(super) fn answer_ping(stream: &mut Stream) -> Result<()> {
    stream.write_all(PONG).context("sending PONG")
}

/// Reads up to a PONG at the end of what has arrived, or followed by one PING of the server's own.
/// Returns how many bytes came before the PONG, server's PINGs left out.
fn read_until_pong(stream: &mut Stream, buffer: &mut [u8]) -> Result<u64> {
    let mut tail: Vec<u8> = Vec::new();
    let mut total = 0_u64;
    loop {
        let bytes = stream.read(buffer).context("waiting for PONG")?;
        ensure!(bytes > 0, "closed while waiting for PONG");
        refuse_error(&buffer[..bytes])?;
        total += bytes as u64;
        tail.extend_from_slice(&buffer[..bytes]);
        tail.drain(..tail.len().saturating_sub(3 * PONG.len()));
        if let Some(pings) = pings_around_pong(&tail) {
            return Ok(total - pings * PING.len() as u64 - PONG.len() as u64);
        }
    }
}

/// How many PINGs surround a PONG at the end of the bytes, if there is a PONG.
fn pings_around_pong(tail: &[u8]) -> Option<u64> {
    let (before, after) = match tail.strip_suffix(PING) {
        Some(rest) => (rest.strip_suffix(PONG)?, 1),
        None => (tail.strip_suffix(PONG)?, 0),
    };
    Some(after + u64::from(before.ends_with(PING)))
}

/// Fails with the server's own words when the bytes begin with an error line.
pub(super) fn refuse_error(bytes: &[u8]) -> Result<()> {
    if bytes.starts_with(b"-ERR") {
        bail!("the server answered {:?}", printable(bytes));
    }
    Ok(())
}

fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned()
}

/// Reads MSG frames that all have the same length, with PINGs of the server's own between them.
pub(super) struct FrameReader {
    buffer: Vec<u8>,
    filled_bytes: usize,
    frame_bytes: usize,
}

impl FrameReader {
    pub(super) fn new(frame_bytes: usize) -> Self {
        Self {
            buffer: vec![0; 256 * 1024],
            filled_bytes: 0,
            frame_bytes,
        }
    }

    /// Waits for bytes and hands over each whole frame among them.
    pub(super) fn read(
        &mut self,
        stream: &mut Stream,
        mut on_frame: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let bytes = stream
            .read(&mut self.buffer[self.filled_bytes..])
            .context("reading frames")?;
        ensure!(bytes > 0, "the server closed the connection");
        self.filled_bytes += bytes;
        let mut position = 0;
        while position < self.filled_bytes {
            let rest = &self.buffer[position..self.filled_bytes];
            let is_message = rest[0] == b'M';
            let frame_bytes = if is_message {
                self.frame_bytes
            } else {
                PING.len()
            };
            if rest.len() < frame_bytes {
                break;
            }
            let frame = &rest[..frame_bytes];
            if is_message {
                ensure!(
                    frame.ends_with(b"\r\n"),
                    "a frame of another length: {:?}",
                    printable(frame)
                );
                on_frame(frame)?;
            } else if frame == PING {
                answer_ping(stream)?;
            } else {
                bail!("unexpected bytes {:?}", printable(rest));
            }
            position += frame_bytes;
        }
        self.buffer.copy_within(position..self.filled_bytes, 0);
        self.filled_bytes -= position;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::{FrameReader, Stream, connect_raw, pings_around_pong};

    fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = connect_raw(listener.local_addr().unwrap()).unwrap();
        (Stream::Clear(near), listener.accept().unwrap().0)
    }

    #[test]
    fn a_pong_is_found_with_pings_around_it() {
        assert_eq!(pings_around_pong(b"PONG\r\n"), Some(0));
        assert_eq!(pings_around_pong(b"xx\r\nPONG\r\n"), Some(0));
        assert_eq!(pings_around_pong(b"PING\r\nPONG\r\n"), Some(1));
        assert_eq!(pings_around_pong(b"PONG\r\nPING\r\n"), Some(1));
        assert_eq!(pings_around_pong(b"PING\r\nPON"), None);
        assert_eq!(pings_around_pong(b"PING\r\n"), None);
    }

    #[test]
    fn frames_are_cut_at_any_split() {
        let bytes = b"MSG a 1 2\r\nxy\r\nPING\r\nMSG a 1 2\r\nzw\r\n";
        for split in 1..bytes.len() {
            let (mut near, mut far) = pair();
            let mut reader = FrameReader::new(15);
            let mut frames = Vec::new();
            for part in [&bytes[..split], &bytes[split..]] {
                far.write_all(part).unwrap();
                reader
                    .read(&mut near, |frame| {
                        frames.push(frame.to_vec());
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(
                frames,
                [b"MSG a 1 2\r\nxy\r\n", b"MSG a 1 2\r\nzw\r\n"],
                "split at {split}"
            );
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        for bytes in [&b"-ERR 'Slow Consumer'\r\n"[..], b"MSG a 1 3\r\nxyz\r\n"] {
            let (mut near, mut far) = pair();
            far.write_all(bytes).unwrap();
            assert!(FrameReader::new(15).read(&mut near, |_| Ok(())).is_err());
        }
    }
}
