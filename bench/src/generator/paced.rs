//! Messages that flow at a rate, by a clock and without catching up, and when they arrive: a measure of what else
//! goes on in a server, because none that is late makes up for another.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::frames::Frames;
use super::peer::{self, Stream};
use super::{Node, Target};
use crate::cells::Subjects;
use crate::clock;

const PAYLOAD_BYTES: usize = 128;
/// How often a part of the messages is sent.
const TICK: Duration = Duration::from_millis(2);
/// Arrivals are counted in steps of this length.
const SLOT: Duration = Duration::from_millis(20);

/// A publisher and a receiver.
pub(super) struct Paced {
    publisher: Publisher,
    receiver: Receiver,
    due_bytes_per_second: f64,
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

impl Paced {
    /// The publisher is at the first server, the receiver at that one.
    pub(super) fn connect(messages_per_second: u32, target: &Target, node: Node) -> Result<Self> {
        let per_tick = f64::from(messages_per_second) * TICK.as_secs_f64();
        let batch_bytes = PAYLOAD_BYTES * per_tick as usize;
        let frames = Frames::new(Subjects::One, PAYLOAD_BYTES, batch_bytes);
        let mut stream = peer::connect_at(target, node)?;
        for (subject, sid) in &frames.subscriptions {
            write!(stream, "SUB {subject} {sid}\r\n")?;
        }
        peer::round_trip(&mut stream, &mut [0; 64])?;
        Ok(Self {
            due_bytes_per_second: f64::from(messages_per_second) * frames.delivered_bytes as f64,
            receiver: Receiver { stream },
            publisher: Publisher {
                stream: peer::connect(target)?,
                frames,
                per_tick: per_tick as usize,
            },
        })
    }

    /// Has messages flow while something else happens.
    pub(super) fn flow_during<T>(
        &mut self,
        something: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Arrivals)> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let publishing = scope.spawn(|| self.publisher.run(&is_over));
            let receiving = scope.spawn(|| self.receiver.run());
            let outcome = something();
            is_over.store(true, Ordering::Relaxed);
            let published = publishing
                .join()
                .map_err(|_| anyhow!("the publisher panicked"))?;
            let received = receiving
                .join()
                .map_err(|_| anyhow!("the receiver panicked"))?;
            let outcome = outcome?;
            published.context("publishing")?;
            let arrivals = Arrivals {
                reads: received.context("receiving")?,
                due_bytes_per_second: self.due_bytes_per_second,
            };
            Ok((outcome, arrivals))
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
    fn run(&mut self) -> Result<Vec<(Instant, usize)>> {
        let mut reads = Vec::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let bytes = self.stream.read(&mut buffer)?;
            ensure!(bytes > 0, "the server closed the connection");
            peer::refuse_error(&buffer[..bytes])?;
            reads.push((clock::now(), bytes));
            if buffer[..bytes].ends_with(b"last\r\n") {
                return Ok(reads);
            }
        }
    }
}

/// When bytes arrived, and how many.
pub(super) struct Arrivals {
    reads: Vec<(Instant, usize)>,
    due_bytes_per_second: f64,
}

impl Arrivals {
    /// What arrived of what was due, with no more than was due counted in each [`SLOT`].
    pub(super) fn share(&self, from: Instant, to: Instant) -> Result<f64> {
        let slots = (to - from).as_secs_f64() / SLOT.as_secs_f64();
        // What is shorter than a slot is judged by the slot it began in.
        let slots = slots.ceil().max(1.0) as usize;
        let mut bytes = vec![0.0; slots];
        for &(at, count) in &self.reads {
            if let Some(since) = at.checked_duration_since(from) {
                let slot = (since.as_secs_f64() / SLOT.as_secs_f64()) as usize;
                if let Some(bytes) = bytes.get_mut(slot) {
                    *bytes += count as f64;
                }
            }
        }
        let due = self.due_bytes_per_second * SLOT.as_secs_f64();
        // The last slot may reach beyond what was recorded.
        let whole = &bytes[..(slots - 1).max(1)];
        ensure!(due > 0.0, "no messages are due");
        let arrived: f64 = whole.iter().map(|bytes| bytes.min(due)).sum();
        Ok(arrived / (due * whole.len() as f64))
    }

    /// The longest time without an arrival.
    pub(super) fn gap(&self, from: Instant, to: Instant) -> Duration {
        let within = self.reads.iter().map(|(at, _)| *at);
        let marks = [from]
            .into_iter()
            .chain(within.filter(|at| (from..to).contains(at)))
            .chain([to]);
        let marks: Vec<_> = marks.collect();
        let gaps = marks.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }
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
        let arrivals = Arrivals {
            reads: vec![(at(0.5), 10), (at(2.1), 20), (at(3.5), 10)],
            due_bytes_per_second: 10.0 / SLOT.as_secs_f64(),
        };
        let share = arrivals.share(start, at(3.9)).unwrap();
        assert!((share - 2.0 / 3.0).abs() < 1e-9, "{share}");
        let gap = arrivals.gap(start, at(3.9));
        assert!(gap.abs_diff(SLOT.mul_f64(1.6)) < Duration::from_micros(1));
    }
}
