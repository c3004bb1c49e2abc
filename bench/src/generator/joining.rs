//! A server joins another one that holds many subscriptions: how long it takes until it routes to all of them, how
//! much they tell each other, and what that does to messages that flow over the other one meanwhile.
//!
//! The messages are sent at a rate that leaves the machine room: what is wanted to know is whether a server that has
//! much to tell leaves its clients waiting, and not how a machine shares its processors.

use std::collections::HashSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::paced::Paced;
use super::peer::{self, FrameReader, PATIENCE, Stream};
use super::{Joining, Node, Sample, Spent, Target};
use crate::clock;
use crate::servers::{Membership, Program, Server};

/// How long messages flow before the other server comes.
const BEFORE: Duration = Duration::from_millis(300);
/// Of so many subscriptions it is found out when messages for them arrive; of all others, that they do at last.
const SAMPLES: usize = 256;
/// How long to wait before what has not arrived is sent again.
const STEP: Duration = Duration::from_millis(1);

/// The server that joins.
pub(super) struct Joiner<'a> {
    pub(super) executable: &'a Path,
    /// Where the other server listens for it.
    pub(super) seed: SocketAddr,
}

/// Has a server join one with `work` subscriptions.
pub(super) fn run(
    messages_per_second: u32,
    work: u64,
    target: &Target,
    joiner: &Joiner<'_>,
) -> Result<Sample> {
    let count = usize::try_from(work)?;
    let mut holder = Holder::connect(count, target)?;
    let mut paced = Paced::connect(messages_per_second, target, target.first())?;
    let relay = Relay::start(joiner.seed)?;
    let (outcome, arrivals) = paced.flow_during(|| join(&mut holder, &relay, target, joiner))?;
    let (mut sample, from, to) = outcome;
    sample.joining = Some(Joining {
        seconds: (to - from).as_secs_f64(),
        bytes: sample.operations,
        throughput_share: arrivals.share(from, to)?,
        gap_milliseconds: arrivals.gap(from, to).as_secs_f64() * 1e3,
    });
    sample.operations = work;
    Ok(sample)
}

/// Starts the other server and waits until it routes to all subscriptions. Returns when it came and when it did; the
/// sample's operations are the bytes of their conversation.
fn join(
    holder: &mut Holder,
    relay: &Relay,
    target: &Target,
    joiner: &Joiner<'_>,
) -> Result<(Sample, Instant, Instant)> {
    clock::pause(BEFORE);
    let spent = Spent::now(target)?;
    let membership = Membership {
        seed: Some(relay.address),
        settings: "",
    };
    // Which program it is does not matter: both take the same flags.
    let program = Program::Natterjackd;
    let server = Server::start(program, joiner.executable, Vec::new(), Some(membership))?;
    let node = Node {
        address: server.address(),
        process: server.process(),
    };
    let mut publisher = peer::connect_at(target, node)?;
    let samples: HashSet<usize> = (0..SAMPLES)
        .map(|number| number * holder.count / SAMPLES)
        .chain([holder.count - 1])
        .collect();
    let end = holder.publish_until_all(samples, "s", &mut publisher)?;
    let start = relay.first.get().context("nobody connected")?;
    let bytes = relay.bytes.load(Ordering::Relaxed);
    let joined = super::process::processor_time(node.process)?;
    let mut sample = spent.sample(target, bytes, end - *start)?;
    sample.node_processor_seconds = vec![sample.server_processor_seconds, joined.as_secs_f64()];
    sample.server_processor_seconds += joined.as_secs_f64();
    // The samples have shown when; this shows that it was all.
    let all = (0..holder.count).collect();
    holder.publish_until_all(all, "a", &mut publisher)?;
    Ok((sample, *start, end))
}

/// A client with many subscriptions.
struct Holder {
    stream: Stream,
    reader: FrameReader,
    count: usize,
}

impl Holder {
    const PREFIX: &str = "held.";

    fn connect(count: usize, target: &Target) -> Result<Self> {
        let mut stream = peer::connect(target)?;
        let lines: String = (0..count)
            .map(|number| format!("SUB {}{number:06} 1{number:06}\r\n", Self::PREFIX))
            .collect();
        stream.write_all(lines.as_bytes()).context("subscribing")?;
        peer::round_trip(&mut stream, &mut [0; 64])?;
        let frame_bytes = format!("MSG {}000000 1000000 1\r\nx\r\n", Self::PREFIX).len();
        Ok(Self {
            stream,
            reader: FrameReader::new(frame_bytes),
            count,
        })
    }

    /// Publishes to each of the subscriptions, again and again, until all of them have had a message with that
    /// payload. Returns when the last one came.
    fn publish_until_all(
        &mut self,
        mut missing: HashSet<usize>,
        payload: &str,
        publisher: &mut Stream,
    ) -> Result<Instant> {
        let deadline = clock::now() + PATIENCE;
        let mut now = clock::now();
        while !missing.is_empty() {
            if now > deadline {
                bail!(
                    "{} subscriptions get nothing from the server that joined",
                    missing.len()
                );
            }
            let frames: String = missing
                .iter()
                .map(|number| format!("PUB {}{number:06} 1\r\n{payload}\r\n", Self::PREFIX))
                .collect();
            publisher.write_all(frames.as_bytes())?;
            peer::round_trip(publisher, &mut [0; 64])?;
            self.stream.set_read_timeout(STEP)?;
            while !missing.is_empty() && self.read_some(payload, &mut missing)? {}
            now = clock::now();
        }
        Ok(now)
    }

    /// Notes who has had a message; returns whether any came within a [`STEP`].
    fn read_some(&mut self, payload: &str, missing: &mut HashSet<usize>) -> Result<bool> {
        let number_start = "MSG ".len() + Self::PREFIX.len();
        let outcome = self.reader.read(&mut self.stream, |frame| {
            let number = std::str::from_utf8(&frame[number_start..number_start + 6])?;
            if frame[frame.len() - 3..].starts_with(payload.as_bytes()) {
                missing.remove(&number.parse::<usize>()?);
            }
            Ok(())
        });
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_timeout(error: &anyhow::Error) -> bool {
    let kind = error
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// Stands between both servers and counts what they tell each other.
struct Relay {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
    /// When the first connection came.
    first: Arc<OnceLock<Instant>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listening for a server")?;
        let relay = Self {
            address: listener.local_addr()?,
            bytes: Arc::default(),
            first: Arc::default(),
            open: Arc::default(),
        };
        let (bytes, first) = (Arc::clone(&relay.bytes), Arc::clone(&relay.first));
        let open = Arc::clone(&relay.open);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                first.get_or_init(clock::now);
                let Ok(far) = peer::connect_raw(to) else {
                    return;
                };
                for (from, into) in [(&near, &far), (&far, &near)] {
                    let (Ok(from), Ok(into)) = (from.try_clone(), into.try_clone()) else {
                        return;
                    };
                    let bytes = Arc::clone(&bytes);
                    thread::spawn(move || copy(from, into, &bytes));
                }
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                open.push(near);
            }
        });
        Ok(relay)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in &*open {
            // It may have been closed before.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn copy(mut from: TcpStream, mut into: TcpStream, bytes: &AtomicU64) {
    // A quiet connection stays.
    let _ = from.set_read_timeout(None);
    let _ = into.set_nodelay(true);
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(count) = from.read(&mut buffer)
        && count > 0
    {
        bytes.fetch_add(count as u64, Ordering::Relaxed);
        if into.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
    let _ = into.shutdown(Shutdown::Write);
}
