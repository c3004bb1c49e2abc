//! What connections cost when nothing is sent over them: memory while they are idle, processor time
//! while they come and go.

use std::io::Read as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::peer::{self, Stream};
use super::{Sample, Spent, Target};
use crate::{clock, process};

/// Connections opened at the same time.
const CONNECTORS: u64 = 4;
const WARM_UP_DIVISOR: u64 = 10;

/// Steps in which a server is watched until it has finished closing connections.
const QUIET_STEP: Duration = Duration::from_millis(10);
const QUIET_STEPS_MAX: u32 = 100;

/// Opens, greets and closes `work` connections.
pub(super) fn run_rate(work: u64, target: &Target) -> Result<Sample> {
    open_and_close(work / WARM_UP_DIVISOR, target)?;
    wait_until_quiet(target)?;
    let spent = Spent::now(target)?;
    let start = clock::now();
    let connections = open_and_close(work, target)?;
    let wall = clock::now() - start;
    // Closing goes on in the server after the last client has left, and belongs to the price.
    wait_until_quiet(target)?;
    spent.sample(target, connections, wall)
}

/// Opens `work` connections and leaves them alone.
pub(super) fn run_idle(work: u64, target: &Target) -> Result<Sample> {
    clock::pause(target.settle);
    let before_bytes = process::resident_bytes(target.first().process)?;
    let spent = Spent::now(target)?;
    let start = clock::now();
    let mut streams = Vec::new();
    for number in 0..work {
        let stream = peer::connect(target);
        streams.push(stream.with_context(|| format!("connection {number} of {work}"))?);
    }
    let wall = clock::now() - start;
    answer_pings(&mut streams, target.settle)?;
    let after_bytes = process::resident_bytes(target.first().process)?;
    let mut sample = spent.sample(target, work, wall)?;
    sample.memory_bytes = Some((after_bytes as f64 - before_bytes as f64) / work as f64);
    Ok(sample)
}

/// Leaves the server alone altogether.
pub(super) fn run_nobody(target: &Target) -> Result<Sample> {
    let spent = Spent::now(target)?;
    clock::pause(target.settle);
    let mut sample = spent.sample(target, 0, target.settle)?;
    sample.memory_bytes = Some(process::resident_bytes(target.first().process)? as f64);
    Ok(sample)
}

/// Returns how many connections that were: the amount rounded so that all connectors share it.
fn open_and_close(connections: u64, target: &Target) -> Result<u64> {
    let share = connections.div_ceil(CONNECTORS);
    thread::scope(|scope| {
        let connectors: Vec<_> = (0..CONNECTORS)
            .map(|_| {
                scope.spawn(move || (0..share).try_for_each(|_| peer::connect(target).map(drop)))
            })
            .collect();
        connectors.into_iter().try_for_each(|connector| {
            connector
                .join()
                .map_err(|_| anyhow!("a connector panicked"))?
        })
    })?;
    Ok(share * CONNECTORS)
}

/// Waits until the server spends nothing for a moment.
fn wait_until_quiet(target: &Target) -> Result<()> {
    let mut before = process::processor_time(target.first().process)?;
    for _ in 0..QUIET_STEPS_MAX {
        clock::pause(QUIET_STEP);
        let now = process::processor_time(target.first().process)?;
        if now.saturating_sub(before) < QUIET_STEP / 50 {
            return Ok(());
        }
        before = now;
    }
    Ok(())
}

/// Does for a while what an idle client does: answer the server's PINGs. nats-server sends a first one
/// two seconds after CONNECT.
fn answer_pings(streams: &mut [Stream], duration: Duration) -> Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        epoll::add(
            &poll,
            stream,
            epoll::EventData::new_u64(index as u64),
            epoll::EventFlags::IN,
        )?;
    }
    let mut events = Vec::with_capacity(1024);
    let mut buffer = [0; 4096];
    let deadline = clock::now() + duration;
    loop {
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Ok(());
        }
        let timeout = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), Some(&timeout))?;
        for event in &events {
            let stream = &mut streams[usize::try_from(event.data.u64())?];
            let bytes = stream.read(&mut buffer)?;
            ensure!(bytes > 0, "the server closed an idle connection");
            peer::refuse_error(&buffer[..bytes])?;
            if buffer.starts_with(b"PING") {
                peer::answer_ping(stream)?;
            }
        }
    }
}
