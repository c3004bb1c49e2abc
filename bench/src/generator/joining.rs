//! A server joins another one that holds many subscriptions: how long it takes until it routes to all of them, how
//! much they tell each other, and what that does to messages that flow over the other one meanwhile.
//!
//! The messages are sent at a rate that leaves the machine room, by a clock and without catching up: what is
//! wanted to know is whether a server that has much to tell leaves its clients waiting, and not how a machine shares
//! its processors.

use std::collections::HashSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::frames::Frames;
use super::peer::{self, FrameReader, PATIENCE, Stream};
use super::{Joining, Node, Sample, Spent, Target};
use crate::cells::Subjects;
use crate::clock;
use crate::servers::{Membership, Program, Server};

const PAYLOAD_BYTES: usize = 128;
/// How often a part of the messages is sent.
const TICK: Duration = Duration::from_millis(2);
/// Arrivals are counted in steps of this length, and none can make up for another.
const SLOT: Duration = Duration::from_millis(20);
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
    let mut stream = Flow::connect(messages_per_second, target)?;
    let relay = Relay::start(joiner.seed)?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let publishing = scope.spawn(|| stream.publisher.run(&is_over));
        let receiving = scope.spawn(|| stream.receiver.run());
        let outcome = join(&mut holder, &relay, target, joiner);
        is_over.store(true, Ordering::Relaxed);
        let published = publishing
            .join()
            .map_err(|_| anyhow!("the publisher panicked"))?;
        let arrivals = receiving
            .join()
            .map_err(|_| anyhow!("the receiver panicked"))?;
        let (mut sample, from, to) = outcome?;
        published.context("publishing")?;
        let arrivals = arrivals.context("receiving")?;
        let due_bytes_per_second = f64::from(messages_per_second) * stream.delivered_bytes as f64;
        let joining = Joining {
            seconds: (to - from).as_secs_f64(),
            bytes: sample.operations,
            throughput_share: arrivals.share(from, to, due_bytes_per_second)?,
            gap_milliseconds: arrivals.gap(from, to).as_secs_f64() * 1e3,
        };
        sample.operations = work;
        sample.joining = Some(joining);
        Ok(sample)
    })
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

/// Messages that flow at a rate over the first server.
struct Flow {
    publisher: Publisher,
    receiver: Receiver,
    delivered_bytes: usize,
}

struct Publisher {
    stream: Stream,
    frames: Frames,
    per_tick: usize,
}

struct Receiver {
    stream: Stream,
}

/// Sent after the last message, so that the receiver knows.
const LAST: &[u8] = b"PUB bench.one 4\r\nlast\r\n";

impl Flow {
    fn connect(messages_per_second: u32, target: &Target) -> Result<Self> {
        let per_tick = f64::from(messages_per_second) * TICK.as_secs_f64();
        let frames = Frames::new(
            Subjects::One,
            PAYLOAD_BYTES,
            PAYLOAD_BYTES * per_tick as usize,
        );
        let mut stream = peer::connect(target)?;
        for (subject, sid) in &frames.subscriptions {
            write!(stream, "SUB {subject} {sid}\r\n")?;
        }
        peer::round_trip(&mut stream, &mut [0; 64])?;
        Ok(Self {
            delivered_bytes: frames.delivered_bytes,
            receiver: Receiver { stream },
            publisher: Publisher {
                stream: peer::connect(target)?,
                frames,
                per_tick: per_tick as usize,
            },
        })
    }
}

impl Publisher {
    fn run(&mut self, is_over: &AtomicBool) -> Result<()> {
        let start = clock::now();
        let mut ticks = 0_u32;
        while !is_over.load(Ordering::Relaxed) {
            self.stream
                .write_all(self.frames.slice(0, self.per_tick))
                .context("a message")?;
            ticks += 1;
            let due = start + TICK * ticks;
            clock::pause(due.saturating_duration_since(clock::now()));
        }
        self.stream.write_all(LAST).context("the last message")
    }
}

impl Receiver {
    fn run(&mut self) -> Result<Arrivals> {
        let mut arrivals = Arrivals::default();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let bytes = self.stream.read(&mut buffer)?;
            ensure!(bytes > 0, "the server closed the connection");
            peer::refuse_error(&buffer[..bytes])?;
            arrivals.0.push((clock::now(), bytes));
            if buffer[..bytes].ends_with(b"last\r\n") {
                return Ok(arrivals);
            }
        }
    }
}

/// When bytes arrived, and how many.
#[derive(Default)]
struct Arrivals(Vec<(Instant, usize)>);

impl Arrivals {
    /// What arrived of what was due, with no more than was due counted in each [`SLOT`].
    fn share(&self, from: Instant, to: Instant, due_per_second: f64) -> Result<f64> {
        let slots = (to - from).as_secs_f64() / SLOT.as_secs_f64();
        // A join shorter than a slot is judged by the slot it began in.
        let slots = slots.ceil().max(1.0) as usize;
        let mut bytes = vec![0.0; slots];
        for &(at, count) in &self.0 {
            if let Some(since) = at.checked_duration_since(from) {
                let slot = (since.as_secs_f64() / SLOT.as_secs_f64()) as usize;
                if let Some(bytes) = bytes.get_mut(slot) {
                    *bytes += count as f64;
                }
            }
        }
        let due = due_per_second * SLOT.as_secs_f64();
        // The last slot may reach beyond what was recorded.
        let whole = &bytes[..(slots - 1).max(1)];
        ensure!(due > 0.0, "no messages are due");
        let arrived: f64 = whole.iter().map(|bytes| bytes.min(due)).sum();
        Ok(arrived / (due * whole.len() as f64))
    }

    /// The longest time without an arrival.
    fn gap(&self, from: Instant, to: Instant) -> Duration {
        let within = self.0.iter().map(|(at, _)| *at);
        let marks = [from]
            .into_iter()
            .chain(within.filter(|at| (from..to).contains(at)))
            .chain([to]);
        let marks: Vec<_> = marks.collect();
        let gaps = marks.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Arrivals, SLOT};
    use crate::clock;

    #[test]
    fn what_comes_late_does_not_count() {
        let start = clock::now();
        let at = |slots: f64| start + SLOT.mul_f64(slots);
        // Ten are due in each slot; the second one has none, and the third has its ten too.
        let due_per_second = 10.0 / SLOT.as_secs_f64();
        let arrivals = Arrivals(vec![(at(0.5), 10), (at(2.1), 20), (at(3.5), 10)]);
        let share = arrivals.share(start, at(3.9), due_per_second).unwrap();
        assert!((share - 2.0 / 3.0).abs() < 1e-9, "{share}");
        let gap = arrivals.gap(start, at(3.9));
        assert!(gap.abs_diff(SLOT.mul_f64(1.6)) < Duration::from_micros(1));
    }
}
