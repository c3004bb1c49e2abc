//! Lines for a syslog, over whichever socket it listens on. What a line looks like is in `layout`.
//!
//! As with nats-server, a syslog that does not answer at the start is an error. One that goes away later costs the lines
//! that are written meanwhile, except that datagrams over the network may be lost without anybody knowing.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::layout::Layout;
use super::sink::{Lines, Sink, WriteFailure, write_fully};

/// How long a connection may take to come about. Only the log waits for it.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// How long a connection may take nothing before it counts as lost.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// A line that is too long for a datagram is cut to what every syslog must take (RFC 3164, section 4.1).
const DATAGRAM_BYTES_MAX: usize = 1_024;

/// Where a machine's own syslog listens, by the usage of systems.
const LOCAL_PATHS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Where a syslog listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Udp(String),
    Tcp(String),
    Unix(PathBuf),
}

/// Why an address is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It does not begin with a known scheme.
    #[error("{0:?} must begin with udp://, tcp:// or unix://")]
    Scheme(String),
    /// It has no port.
    #[error("{0:?} must end with a port, such as {0}:514")]
    Port(String),
    /// It has no host or path.
    #[error("{0:?} names no host and no path")]
    Empty(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(AddressError::Scheme(text.into()));
        };
        if rest.is_empty() {
            return Err(AddressError::Empty(text.into()));
        }
        let make: fn(String) -> Self = match scheme {
            "udp" => Self::Udp,
            "tcp" => Self::Tcp,
            "unix" => return Ok(Self::Unix(rest.into())),
            _ => return Err(AddressError::Scheme(text.into())),
        };
        let rest = rest.trim_end_matches('/');
        match rest.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(make(rest.into()))
            }
            _ => Err(AddressError::Port(text.trim_end_matches(['/', ':']).into())),
        }
    }
}

pub(super) struct Syslog {
    addresses: Vec<Address>,
    socket: Option<Socket>,
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
    UnixDatagram(UnixDatagram),
    UnixStream(UnixStream),
}

impl Syslog {
    /// This machine's.
    pub(super) fn local() -> io::Result<Self> {
        Self::first_of(
            LOCAL_PATHS
                .iter()
                .map(|path| Address::Unix(path.into()))
                .collect(),
        )
    }

    pub(super) fn connect(address: Address) -> io::Result<Self> {
        Self::first_of(vec![address])
    }

    fn first_of(addresses: Vec<Address>) -> io::Result<Self> {
        let socket = Some(connect_any(&addresses)?);
        Ok(Self { addresses, socket })
    }

    /// Sends lines as far as it can; says how many bytes that were.
    fn send(&mut self, lines: &Lines, from: usize) -> Result<(), (usize, io::Error)> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            empty => empty.insert(connect_any(&self.addresses).map_err(|error| (from, error))?),
        };
        let outcome = socket.send(lines, from);
        if outcome.is_err() {
            self.socket = None;
        }
        outcome
    }
}

impl Sink for Syslog {
    fn write(&mut self, lines: &Lines, _layout: &Layout) -> Result<(), WriteFailure> {
        let Err((sent, _)) = self.send(lines, 0) else {
            return Ok(());
        };
        // It may have been started anew since the last line: once more, from the line that did not get through whole.
        let whole = lines.lines_within(sent);
        let from = if whole == 0 {
            0
        } else {
            lines.end_after(sent) - lines.iter().nth(whole).map_or(0, <[u8]>::len)
        };
        self.send(lines, from)
            .map_err(|(sent, error)| WriteFailure {
                lines_written: lines.lines_within(sent),
                error,
            })
    }
}

impl Socket {
    fn send(&mut self, lines: &Lines, from: usize) -> Result<(), (usize, io::Error)> {
        let later = |(written, error)| (from + written, error);
        match self {
            Self::Tcp(stream) => write_fully(stream, &lines.bytes()[from..]).map_err(later),
            Self::UnixStream(stream) => write_fully(stream, &lines.bytes()[from..]).map_err(later),
            Self::Udp(socket) => each(lines, from, |line| socket.send(line)),
            Self::UnixDatagram(socket) => each(lines, from, |line| socket.send(line)),
        }
    }
}

/// One datagram per line.
fn each(
    lines: &Lines,
    from: usize,
    send: impl Fn(&[u8]) -> io::Result<usize>,
) -> Result<(), (usize, io::Error)> {
    let mut end = 0;
    for line in lines.iter() {
        let start = end;
        end += line.len();
        if start < from {
            continue;
        }
        match send(line) {
            Err(error) if is_too_long(&error) => send(&line[..line.len().min(DATAGRAM_BYTES_MAX)]),
            outcome => outcome,
        }
        .map_err(|error| (start, error))?;
    }
    Ok(())
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

fn connect_any(addresses: &[Address]) -> io::Result<Socket> {
    let mut first_error = None;
    for address in addresses {
        match connect(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => _ = first_error.get_or_insert(error),
        }
    }
    Err(first_error.unwrap_or_else(|| ErrorKind::NotFound.into()))
}

fn connect(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Udp(host) => {
            let address = resolve(host)?.next().ok_or(ErrorKind::NotFound)?;
            let any: SocketAddr = match address {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            Ok(Socket::Udp(socket))
        }
        Address::Tcp(host) => {
            let mut last = io::Error::from(ErrorKind::NotFound);
            for address in resolve(host)? {
                match TcpStream::connect_timeout(&address, CONNECT_MAX) {
                    Ok(stream) => {
                        stream.set_write_timeout(Some(WRITE_MAX))?;
                        return Ok(Socket::Tcp(stream));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        // nats-server takes datagrams for the machine's own and a stream for others; here both do for both.
        Address::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            match socket.connect(path) {
                Ok(()) => {
                    socket.set_write_timeout(Some(WRITE_MAX))?;
                    Ok(Socket::UnixDatagram(socket))
                }
                Err(error)
                    if error.raw_os_error()
                        == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) =>
                {
                    let stream = UnixStream::connect(path)?;
                    stream.set_write_timeout(Some(WRITE_MAX))?;
                    Ok(Socket::UnixStream(stream))
                }
                Err(error) => Err(error),
            }
        }
    }
}

fn resolve(host: &str) -> io::Result<impl Iterator<Item = SocketAddr>> {
    host.to_socket_addrs()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::super::Settings;
    use super::*;

    fn lines(texts: &[&str]) -> Lines {
        let mut lines = Lines::default();
        for text in texts {
            lines.push(text.as_bytes());
        }
        lines
    }

    fn layout() -> Layout {
        Layout::new(&Settings::default())
    }

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Result<Address, &str>| {
            let outcome = text.parse::<Address>().map_err(|error| error.to_string());
            assert_eq!(outcome, expected.map_err(String::from), "{text}");
        };
        check("udp://h:514", Ok(Address::Udp("h:514".into())));
        check("tcp://[::1]:1", Ok(Address::Tcp("[::1]:1".into())));
        check("unix:///run/x", Ok(Address::Unix("/run/x".into())));
        check(
            "http://h:1",
            Err("\"http://h:1\" must begin with udp://, tcp:// or unix://"),
        );
        check(
            "h:1",
            Err("\"h:1\" must begin with udp://, tcp:// or unix://"),
        );
        check(
            "udp://h",
            Err("\"udp://h\" must end with a port, such as udp://h:514"),
        );
        check("unix://", Err("\"unix://\" names no host and no path"));
    }

    #[test]
    fn one_datagram_is_one_line() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(WRITE_MAX)).unwrap();
        let address = Address::Udp(receiver.local_addr().unwrap().to_string());
        let mut syslog = Syslog::connect(address).unwrap();
        syslog
            .write(&lines(&["one\n", "two\n"]), &layout())
            .unwrap();
        let mut buffer = [0; 100];
        for expected in ["one\n", "two\n"] {
            let length = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
    }

    #[test]
    fn a_line_too_long_for_a_datagram_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(WRITE_MAX)).unwrap();
        let mut syslog = Syslog::first_of(vec![
            Address::Unix("/nonexistent/log".into()),
            Address::Unix(path),
        ])
        .unwrap();
        let long = "x".repeat(10_000_000);
        syslog
            .write(&lines(&[long.as_str(), "next\n"]), &layout())
            .unwrap();
        let mut buffer = [0; 2_000];
        assert_eq!(receiver.recv(&mut buffer).unwrap(), DATAGRAM_BYTES_MAX);
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 5);
    }

    #[test]
    fn a_syslog_that_comes_back_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::connect(Address::Unix(path.clone())).unwrap();
        drop(receiver);
        std::fs::remove_file(&path).unwrap();
        let failure = syslog
            .write(&lines(&["one\n", "two\n"]), &layout())
            .unwrap_err();
        assert_eq!(failure.lines_written, 0);
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(WRITE_MAX)).unwrap();
        syslog.write(&lines(&["three\n"]), &layout()).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 6);
    }

    #[test]
    fn streams_take_lines_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        let mut syslog = Syslog::connect(address).unwrap();
        syslog
            .write(&lines(&["one\n", "two\n"]), &layout())
            .unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        drop(syslog);
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn nobody_there_is_an_error_at_once() {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let outcome = Syslog::connect(Address::Tcp(port.to_string()));
        assert_eq!(outcome.err().unwrap().kind(), ErrorKind::ConnectionRefused);
    }
}
