//! A wire between two servers that can be cut, stopped and healed, and that may be long.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crate::deadline::{Deadline, PATIENCE};

/// What becomes of bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Passes,
    /// Bytes are kept, in order, and connections stay open: the other end is silent.
    Holds,
    /// Connections end at once.
    Refuses,
    /// The proxy is gone.
    Over,
}

/// A listener on 127.0.0.1 whose connections are passed on to another address, for as long as it likes.
///
/// Holding keeps what sockets hold and 64 KiB each way, so it is the silence of a network, not a queue.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// How long bytes of new connections take.
    delay: Duration,
    /// Both ends of all connections there were; those that have ended can be shut down again without harm.
    streams: Vec<TcpStream>,
    /// Connections that have been there and have ended.
    ended: usize,
}

impl Proxy {
    /// Passes on to `target`, which need not be there yet.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has one");
        let wire = Arc::new(Wire {
            state: Mutex::new(State {
                mode: Mode::Passes,
                delay: Duration::ZERO,
                streams: Vec::new(),
                ended: 0,
            }),
            changed: Condvar::new(),
        });
        let shared = Arc::clone(&wire);
        // Ends when the proxy is dropped, which wakes it with a connection.
        thread::spawn(move || {
            for accepted in listener.incoming() {
                if shared.state().mode == Mode::Over {
                    return;
                }
                if let Ok(near) = accepted {
                    shared.connect(near, target);
                }
            }
        });
        Self { address, wire }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has the bytes of connections that are made from now on take so long, each way.
    pub fn delay(&self, delay: Duration) {
        self.wire.state().delay = delay;
    }

    /// Waits until so many connections in all have been there and have ended.
    ///
    /// # Panics
    /// When they have not in time.
    #[track_caller]
    pub fn wait_for_ends(&self, count: usize) {
        let mut state = self.wire.state();
        let deadline = Deadline::after(PATIENCE);
        while state.ended < count {
            let left = deadline.left();
            let left =
                left.unwrap_or_else(|| panic!("only {} connections have ended", state.ended));
            state = self
                .wire
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends all connections and every new one, as between machines that are told that there is no way.
    pub fn cut(&self) {
        self.wire.set(Mode::Refuses);
    }

    /// Lets nothing through while all connections stay open, as between machines whose packets are lost.
    pub fn hold(&self) {
        self.wire.set(Mode::Holds);
    }

    /// Everything passes again; what was held comes first.
    pub fn heal(&self) {
        self.wire.set(Mode::Passes);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.wire.set(Mode::Over);
        // Fails only when the listener is gone already.
        let _ = TcpStream::connect(self.address);
    }
}

impl Wire {
    fn set(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        if matches!(mode, Mode::Refuses | Mode::Over) {
            for stream in state.streams.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Starts passing on between the two, unless nobody is there or nothing may pass. The far end is dialled even while
    /// bytes are held: a server that is cut off half-way sees connections, and silence.
    fn connect(self: &Arc<Self>, near: TcpStream, target: SocketAddr) {
        let Ok(far) = TcpStream::connect_timeout(&target, PATIENCE) else {
            return;
        };
        let ends = [&near, &far].map(|end| {
            let _ = end.set_nodelay(true);
            end.try_clone().expect("a socket can be cloned")
        });
        let mut state = self.state();
        if matches!(state.mode, Mode::Refuses | Mode::Over) {
            return;
        }
        state.streams.extend(ends);
        let delay = state.delay;
        drop(state);
        for (from, to, is_counted) in [(&near, &far, true), (&far, &near, false)] {
            let mut source = from.try_clone().expect("a socket can be cloned");
            let mut sink = to.try_clone().expect("a socket can be cloned");
            let wire = Arc::clone(self);
            // Ends with either connection, at the latest when the proxy is dropped.
            thread::spawn(move || {
                if delay.is_zero() {
                    wire.pass_on(&mut source, &mut sink);
                } else {
                    wire.pass_on_late(&source, &mut sink, delay);
                }
                if is_counted {
                    wire.state().ended += 1;
                    wire.changed.notify_all();
                }
            });
        }
    }

    fn pass_on(&self, source: &mut TcpStream, sink: &mut TcpStream) {
        let mut buffer = [0; 64 * 1024];
        while let Ok(count) = source.read(&mut buffer) {
            if count == 0 || !self.may_pass() || sink.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        // The end passes like bytes do: not while they are held.
        self.may_pass();
        let _ = sink.shutdown(Shutdown::Both);
        let _ = source.shutdown(Shutdown::Both);
    }

    fn pass_on_late(&self, source: &TcpStream, sink: &mut TcpStream, delay: Duration) {
        let (put, take) = mpsc::channel::<(Deadline, Vec<u8>)>();
        thread::scope(|scope| {
            let mut reader = source.try_clone().expect("a socket can be cloned");
            scope.spawn(move || {
                let mut buffer = [0; 64 * 1024];
                loop {
                    // The end is late, too: nothing is read of it.
                    let count = reader.read(&mut buffer).unwrap_or(0);
                    let due = Deadline::after(delay);
                    if put.send((due, buffer[..count].to_vec())).is_err() || count == 0 {
                        return;
                    }
                }
            });
            for (due, bytes) in take {
                while let Some(left) = due.left() {
                    thread::park_timeout(left);
                }
                if bytes.is_empty() || !self.may_pass() || sink.write_all(&bytes).is_err() {
                    break;
                }
            }
            self.may_pass();
            let _ = sink.shutdown(Shutdown::Both);
            // This ends the reader.
            let _ = source.shutdown(Shutdown::Both);
        });
    }

    /// Waits while bytes are held; false when there is no way any more.
    fn may_pass(&self) -> bool {
        let mut state = self.state();
        while state.mode == Mode::Holds {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.mode == Mode::Passes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use super::*;

    /// A proxy, and both ends of a connection through it.
    fn connected() -> (Proxy, TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy = Proxy::to(listener.local_addr().expect("bound"));
        let near = TcpStream::connect(proxy.address()).expect("it listens");
        let far = listener.accept().expect("it passes on").0;
        for end in [&near, &far] {
            end.set_read_timeout(Some(PATIENCE)).expect("not zero");
        }
        (proxy, listener, near, far)
    }

    fn take(stream: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).expect("they come");
        bytes
    }

    #[test]
    fn bytes_pass_both_ways_and_so_does_the_end() {
        let (_proxy, _listener, mut near, mut far) = connected();
        near.write_all(b"there").expect("room");
        assert_eq!(take(&mut far, 5), b"there");
        far.write_all(b"back").expect("room");
        drop(far);
        assert_eq!(take(&mut near, 4), b"back");
        assert_eq!(near.read(&mut [0; 1]).expect("an end"), 0);
    }

    #[test]
    fn a_long_wire_takes_its_time_and_keeps_the_order() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy = Proxy::to(listener.local_addr().expect("bound"));
        proxy.delay(Duration::from_millis(50));
        let mut near = TcpStream::connect(proxy.address()).expect("it listens");
        let mut far = listener.accept().expect("it passes on").0;
        far.set_read_timeout(Some(Duration::from_millis(10)))
            .expect("not zero");
        near.write_all(b"one").expect("room");
        let error = far.read(&mut [0; 1]).expect_err("nothing comes yet");
        assert!(matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut
        ));
        far.set_read_timeout(Some(PATIENCE)).expect("not zero");
        near.write_all(b"two").expect("room");
        drop(near);
        assert_eq!(take(&mut far, 6), b"onetwo");
        assert_eq!(far.read(&mut [0; 1]).expect("an end"), 0);
    }

    #[test]
    fn what_is_held_comes_later() {
        let (proxy, _listener, mut near, mut far) = connected();
        proxy.hold();
        near.write_all(b"late").expect("room");
        far.set_read_timeout(Some(Duration::from_millis(20)))
            .expect("not zero");
        let error = far.read(&mut [0; 1]).expect_err("nothing comes");
        assert!(matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut
        ));
        far.set_read_timeout(Some(PATIENCE)).expect("not zero");
        proxy.heal();
        assert_eq!(take(&mut far, 4), b"late");
    }

    #[test]
    fn a_cut_ends_connections_and_refuses_new_ones_until_it_heals() {
        let (proxy, listener, mut near, mut far) = connected();
        proxy.cut();
        assert!(matches!(near.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert!(matches!(far.read(&mut [0; 1]), Ok(0) | Err(_)));
        let mut refused = TcpStream::connect(proxy.address()).expect("it listens");
        assert!(matches!(refused.read(&mut [0; 1]), Ok(0) | Err(_)));
        drop(listener.accept());
        proxy.heal();
        let mut near = TcpStream::connect(proxy.address()).expect("it listens");
        let mut far = listener.accept().expect("it passes on").0;
        near.write_all(b"again").expect("room");
        assert_eq!(take(&mut far, 5), b"again");
    }
}
