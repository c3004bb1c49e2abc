//! A port that stays ours, whoever listens on it and however often.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1 that the system gives to nobody else as long as this lives, while a server may listen on it, be killed,
/// and listen on it again.
///
/// A socket is bound to it and never listens. Binding another one to it by its number is allowed as both allow it, as
/// servers' sockets do; whoever asks the system for any free port does not get it.
#[derive(Debug)]
pub struct HeldPort {
    _socket: Socket,
    address: SocketAddr,
}

impl HeldPort {
    /// Takes a free one.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn take() -> Self {
        Self::try_take().expect("a free port")
    }

    /// 127.0.0.1 and the port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn try_take() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket().expect("bound to IPv4");
        Ok(Self {
            _socket: socket,
            address,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn servers_come_and_go_on_it() {
        let port = HeldPort::take();
        assert!(
            TcpStream::connect(port.address()).is_err(),
            "nobody listens"
        );
        for _ in 0..3 {
            let listener = TcpListener::bind(port.address()).expect("it is free for us");
            let client = TcpStream::connect(port.address()).expect("somebody listens");
            drop((listener.accept().expect("it connected"), client));
        }
    }
}
