//! A subscriber that takes less than a fast publisher sends it over the way from one server to another, and messages
//! for somebody else that take the same way.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::paced::Paced;
use super::peer::{self, Stream};
use super::{Beside, Sample, Spent, Target, interest};
use crate::clock;

const SUBJECT: &str = "bench.slow";
const PAYLOAD_BYTES: usize = 1024;
/// How often the slow subscriber reads.
const TICK: Duration = Duration::from_millis(2);
/// How long a write of the publisher may take before it is asked whether it is over.
const STEP: Duration = Duration::from_millis(50);
/// What happens until the ways are filled is not counted; it takes no more than this.
const BEFORE_MAX: Duration = Duration::from_millis(500);

/// Has a publisher at the first server send as fast as it can to a subscriber at the last one that takes
/// `slow_bytes_per_second`, for so long.
pub(super) fn run(
    slow_bytes_per_second: u32,
    messages_per_second: u32,
    duration: Duration,
    target: &Target,
) -> Result<Sample> {
    let mut subscriber = peer::connect_at(target, target.of_receiver(0))?;
    write!(subscriber, "SUB {SUBJECT} 1\r\n")?;
    peer::round_trip(&mut subscriber, &mut [0; 64])?;
    let mut publisher = peer::connect(target)?;
    let mut paced = Paced::connect(messages_per_second, target, target.of_receiver(0))?;
    interest::settle(target)?;
    let is_over = AtomicBool::new(false);
    let taken_bytes = AtomicU64::new(0);
    let is_dropped = AtomicBool::new(false);
    let watch = || {
        clock::pause((duration / 2).min(BEFORE_MAX));
        let spent = Spent::now(target)?;
        let (from, taken_before) = (clock::now(), taken_bytes.load(Ordering::Relaxed));
        clock::pause(duration);
        let (to, taken) = (clock::now(), taken_bytes.load(Ordering::Relaxed));
        let sample = spent.sample(target, taken / PAYLOAD_BYTES as u64, to - from)?;
        Ok((sample, from, to, taken - taken_before))
    };
    thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(&mut publisher, &is_over));
        let taking = scope.spawn(|| {
            let outcome = take(
                &mut subscriber,
                slow_bytes_per_second,
                &is_over,
                &taken_bytes,
            );
            is_dropped.store(outcome.is_err(), Ordering::Relaxed);
        });
        let outcome = paced.flow_during(watch);
        is_over.store(true, Ordering::Relaxed);
        let published = publishing
            .join()
            .map_err(|_| anyhow!("the publisher panicked"))?;
        taking
            .join()
            .map_err(|_| anyhow!("the subscriber panicked"))?;
        let ((mut sample, from, to, taken), arrivals) = outcome?;
        published?;
        sample.beside = Some(Beside {
            throughput_share: arrivals.share(from, to)?,
            gap_milliseconds: arrivals.gap(from, to).as_secs_f64() * 1e3,
            slow_bytes_per_second: taken as f64 / (to - from).as_secs_f64(),
            is_slow_dropped: is_dropped.load(Ordering::Relaxed),
        });
        Ok(sample)
    })
}

fn publish(stream: &mut Stream, is_over: &AtomicBool) -> Result<()> {
    let payload = "x".repeat(PAYLOAD_BYTES);
    let frames = format!("PUB {SUBJECT} {PAYLOAD_BYTES}\r\n{payload}\r\n").repeat(64);
    stream.set_write_timeout(STEP)?;
    while !is_over.load(Ordering::Relaxed) {
        let mut rest = frames.as_bytes();
        while !rest.is_empty() && !is_over.load(Ordering::Relaxed) {
            match stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("publishing"),
            }
        }
    }
    Ok(())
}

/// Reads no more than that; fails when the connection is closed.
fn take(
    stream: &mut Stream,
    bytes_per_second: u32,
    is_over: &AtomicBool,
    taken_bytes: &AtomicU64,
) -> Result<()> {
    let per_tick = (f64::from(bytes_per_second) * TICK.as_secs_f64()) as usize;
    let mut buffer = vec![0; per_tick];
    let start = clock::now();
    let mut ticks = 0_u32;
    stream.set_read_timeout(STEP)?;
    while !is_over.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(anyhow!("the server closed the connection")),
            Ok(count) => taken_bytes.fetch_add(count as u64, Ordering::Relaxed),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) => return Err(error).context("taking messages"),
        };
        ticks += 1;
        let due = start + TICK * ticks;
        clock::pause(due.saturating_duration_since(clock::now()));
    }
    Ok(())
}
