//! One-way traffic: publishers write prepared frames as fast as the window allows, receivers count
//! bytes.

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::frames::Frames;
use super::interest;
use super::peer::{self, PATIENCE, Stream};
use super::window::Window;
use super::{Sample, Spent, Target};
use crate::cells::{Flow, Payload, Subjects};
use crate::clock;

/// Bytes of one write of a publisher, at most, unless a single frame is larger.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// Text that is prepared: more than a compressor looks back over, so that it does not find the same again.
const TEXT_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of one read of a receiver, at most.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Delivered bytes under way at most, whatever the number of receivers.
const AHEAD_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// Delivered bytes under way at most for each receiver of a fan-out: far below the 64 MiB at which
/// nats-server gives a receiver up (`max_pending`), enough to fill its read buffer many times over.
const AHEAD_BYTES_PER_RECEIVER: u64 = 256 * 1024;
/// Part of the work done before the clock starts, so that caches, buffers and goroutine stacks are
/// what they are in a server that has been running.
const WARM_UP_DIVISOR: u64 = 10;

/// Publishes `work` messages through a server.
pub(super) fn run(flow: Flow, work: u64, target: &Target) -> Result<Sample> {
    let mut traffic = Traffic::connect(flow, target)?;
    let warm_up = traffic.divisible(work / WARM_UP_DIVISOR);
    let work = traffic.divisible(work);
    traffic.transfer(warm_up)?;
    let spent = Spent::now(target)?;
    let wall = traffic.transfer(work)?;
    let sample = spent.sample(target, work + work * traffic.deliveries_per_message, wall)?;
    // Whatever is still on its way between servers has arrived before what follows it.
    interest::settle(target)?;
    traffic.verify(warm_up + work)?;
    Ok(sample)
}

/// Sends the same frames through the copying process: what goes in comes out, greeting and all.
pub(super) fn run_copy(payload_bytes: usize, work: u64, target: &Target) -> Result<Sample> {
    // The copying process sends what its second connection sends to its first.
    let receiver = Stream::Clear(peer::connect_raw(target.first().address)?);
    let publisher = Stream::Clear(peer::connect_raw(target.first().address)?);
    let mut frames = Frames::new(Subjects::One, payload_bytes, WRITE_BYTES_MAX);
    frames.delivered_bytes = frames.frame_bytes;
    let mut traffic = Traffic {
        publishers: vec![publisher],
        receivers: vec![receiver],
        deliveries_per_message: 1,
        batch_frames: batch_frames(&frames, 1, AHEAD_BYTES_MIN),
        frames: vec![frames],
        window: Window::new(AHEAD_BYTES_MIN),
    };
    traffic.transfer(work / WARM_UP_DIVISOR)?;
    let spent = Spent::now(target)?;
    let wall = traffic.transfer(work)?;
    spent.sample(target, 2 * work, wall)
}

pub(super) struct Traffic {
    publishers: Vec<Stream>,
    receivers: Vec<Stream>,
    /// How many receivers get each message.
    deliveries_per_message: u64,
    /// Of each publisher and each receiver in turn; all of one shape.
    frames: Vec<Frames>,
    /// Frames in one write.
    batch_frames: usize,
    window: Window,
}

impl Traffic {
    pub(super) fn connect(flow: Flow, target: &Target) -> Result<Self> {
        let prepared_bytes = match flow.payload {
            Payload::Letters => WRITE_BYTES_MAX,
            Payload::Text => TEXT_BYTES,
        };
        let mut frames = Frames::of_publishers(
            flow.publishers,
            flow.subjects,
            flow.payload_bytes,
            prepared_bytes,
        );
        if flow.payload == Payload::Text {
            frames.iter_mut().for_each(Frames::write_text);
        }
        let mut receivers = Vec::new();
        for number in 0..flow.receivers as usize {
            let mut receiver = peer::connect_at(target, target.of_receiver(number))?;
            let frames = &frames[number % frames.len()];
            subscribe(&mut receiver, frames, flow.is_queue_group)?;
            receivers.push(receiver);
        }
        interest::settle(target)?;
        let mut publishers = Vec::new();
        for _ in 0..flow.publishers {
            publishers.push(peer::connect(target)?);
        }
        let is_one_each = flow.subjects == Subjects::OneEach;
        let deliveries_per_message = if flow.is_queue_group || is_one_each {
            1
        } else {
            u64::from(flow.receivers)
        };
        let ahead_bytes_max =
            AHEAD_BYTES_MIN.max(AHEAD_BYTES_PER_RECEIVER * u64::from(flow.receivers));
        Ok(Self {
            publishers,
            receivers,
            deliveries_per_message,
            batch_frames: batch_frames(&frames[0], deliveries_per_message, ahead_bytes_max),
            frames,
            window: Window::new(ahead_bytes_max),
        })
    }

    /// The next smaller amount of work that all publishers can share equally, one message each at least.
    fn divisible(&self, work: u64) -> u64 {
        let publishers = self.publishers.len() as u64;
        (work / publishers).max(1) * publishers
    }

    /// Publishes that many messages and waits until they have all arrived. Returns how long it took.
    pub(super) fn transfer(&mut self, messages: u64) -> Result<Duration> {
        let Self {
            publishers,
            receivers,
            deliveries_per_message,
            frames,
            batch_frames,
            window,
        } = self;
        let share = messages / publishers.len() as u64;
        let delivered_bytes = share
            * publishers.len() as u64
            * *deliveries_per_message
            * frames[0].delivered_bytes as u64;
        let frames = &*frames;
        let batch_of = |publisher: usize| Batch {
            frames: &frames[publisher % frames.len()],
            frames_max: *batch_frames,
            delivered_bytes_per_frame: *deliveries_per_message * frames[0].delivered_bytes as u64,
        };
        let is_received_by_nobody = receivers.is_empty();
        let start = clock::now();
        window.restart(start);
        let end = thread::scope(|scope| {
            let window = &*window;
            let spawned: Vec<_> = publishers
                .iter_mut()
                .enumerate()
                .map(|(index, stream)| {
                    // Publishers start at different places of the ring, so that they do not send the
                    // same subjects in step.
                    let batch = batch_of(index);
                    let position = index * batch.frames.count() / 2 % batch.frames.count();
                    scope.spawn(move || {
                        publish(stream, &batch, share, position, window)?;
                        if is_received_by_nobody {
                            peer::round_trip(stream, &mut [0; 64])?;
                        }
                        Ok(())
                    })
                })
                .collect();
            let received = receive(receivers, delivered_bytes, window);
            for publisher in spawned {
                let published: Result<()> = publisher
                    .join()
                    .map_err(|_| anyhow!("a publisher panicked"))?;
                published.context("publishing")?;
            }
            received
        })?;
        let end = if is_received_by_nobody {
            clock::now()
        } else {
            end
        };
        Ok(end - start)
    }

    /// How many receivers get each message.
    pub(super) fn deliveries_per_message(&self) -> u64 {
        self.deliveries_per_message
    }

    /// The longest time of the last transfer in which nothing arrived.
    pub(super) fn gap(&self) -> Duration {
        self.window.gap()
    }

    /// Makes sure that exactly that many messages arrived, and nothing is left to come.
    ///
    /// A server may have put PINGs of its own among the frames, so bytes are counted up to a PONG: a
    /// message too many or too few cannot look like a few PINGs, because it is longer than they are.
    pub(super) fn verify(&mut self, messages: u64) -> Result<()> {
        let mut buffer = vec![0; READ_BYTES_MAX];
        for publisher in &mut self.publishers {
            peer::round_trip(publisher, &mut buffer).context("after publishing")?;
        }
        let expected_bytes =
            messages * self.deliveries_per_message * self.frames[0].delivered_bytes as u64;
        let mut late_bytes = 0;
        for receiver in &mut self.receivers {
            late_bytes += peer::round_trip(receiver, &mut buffer).context("after receiving")?;
        }
        let received_bytes = self.window.received_bytes() + late_bytes;
        let ping_bytes = 6;
        let pings_max = 2 * self.receivers.len() as u64;
        let extra_bytes = received_bytes
            .checked_sub(expected_bytes)
            .with_context(|| {
                format!("messages are missing: {received_bytes} of {expected_bytes} bytes received")
            })?;
        ensure!(
            extra_bytes % ping_bytes == 0 && extra_bytes / ping_bytes <= pings_max,
            "received {extra_bytes} bytes more than the messages are"
        );
        Ok(())
    }
}

/// As many frames as fit one write and leave the window room for a second batch.
fn batch_frames(frames: &Frames, deliveries_per_message: u64, ahead_bytes_max: u64) -> usize {
    let by_write = WRITE_BYTES_MAX / frames.frame_bytes;
    let delivered_bytes = (deliveries_per_message * frames.delivered_bytes as u64).max(1);
    let by_window = usize::try_from(ahead_bytes_max / 2 / delivered_bytes).unwrap_or(usize::MAX);
    by_write.min(by_window).max(1)
}

fn subscribe(stream: &mut Stream, frames: &Frames, is_queue_group: bool) -> Result<()> {
    let mut lines = String::new();
    for (subject, sid) in &frames.subscriptions {
        let queue = if is_queue_group { "workers " } else { "" };
        lines.push_str(&format!("SUB {subject} {queue}{sid}\r\n"));
    }
    stream.write_all(lines.as_bytes()).context("subscribing")?;
    peer::round_trip(stream, &mut [0; 64]).context("after subscribing")?;
    Ok(())
}

struct Batch<'a> {
    frames: &'a Frames,
    frames_max: usize,
    delivered_bytes_per_frame: u64,
}

fn publish(
    stream: &mut Stream,
    batch: &Batch<'_>,
    messages: u64,
    mut position: usize,
    window: &Window,
) -> Result<()> {
    let mut left = messages;
    while left > 0 {
        let limit = batch
            .frames_max
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let bytes = batch.frames.slice(position, limit);
        let count = bytes.len() / batch.frames.frame_bytes;
        if batch.delivered_bytes_per_frame > 0 {
            window.reserve(count as u64 * batch.delivered_bytes_per_frame)?;
        }
        stream.write_all(bytes)?;
        position = (position + count) % batch.frames.count();
        left -= count as u64;
    }
    Ok(())
}

/// Reads until that many bytes have arrived in all. Returns when the last one did.
fn receive(streams: &mut [Stream], expected_bytes: u64, window: &Window) -> Result<Instant> {
    match streams {
        [] => Ok(clock::now()),
        [stream] => receive_one(stream, expected_bytes, window),
        streams => receive_many(streams, expected_bytes, window),
    }
}

fn receive_one(stream: &mut Stream, expected_bytes: u64, window: &Window) -> Result<Instant> {
    let mut buffer = vec![0; READ_BYTES_MAX];
    let mut received_bytes = 0;
    while received_bytes < expected_bytes {
        let bytes = read_some(stream, &mut buffer).with_context(|| {
            format!("messages are missing: {received_bytes} of {expected_bytes} bytes received")
        })?;
        received_bytes += bytes;
        window.received(bytes, clock::now());
    }
    Ok(clock::now())
}

/// One thread for all receivers: readiness is level-triggered, so one read for each report is enough
/// and a blocking socket never blocks.
fn receive_many(streams: &mut [Stream], expected_bytes: u64, window: &Window) -> Result<Instant> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        epoll::add(
            &poll,
            stream,
            epoll::EventData::new_u64(index as u64),
            epoll::EventFlags::IN,
        )?;
    }
    let patience = Timespec {
        tv_sec: PATIENCE.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    let mut events = Vec::with_capacity(streams.len());
    let mut buffer = vec![0; READ_BYTES_MAX];
    let mut received_bytes = 0;
    while received_bytes < expected_bytes {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), Some(&patience))?;
        if events.is_empty() {
            bail!("messages are missing: {received_bytes} of {expected_bytes} bytes received");
        }
        let mut round_bytes = 0;
        for event in &events {
            let index = usize::try_from(event.data.u64())?;
            round_bytes += read_some(&mut streams[index], &mut buffer)?;
        }
        received_bytes += round_bytes;
        window.received(round_bytes, clock::now());
    }
    Ok(clock::now())
}

fn read_some(stream: &mut Stream, buffer: &mut [u8]) -> Result<u64> {
    let bytes = stream.read(buffer)?;
    ensure!(bytes > 0, "the server closed the connection");
    peer::refuse_error(&buffer[..bytes])?;
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    use anyhow::Result;

    use super::{Sample, Target, run};
    use crate::cells::{Flow, Payload, Subjects};
    use crate::generator::Node;

    const PUBLISHED: &[u8] = b"PUB bench.one 16\r\nxxxxxxxxxxxxxxxx\r\n";
    const DELIVERED: &[u8] = b"MSG bench.one 1 16\r\nxxxxxxxxxxxxxxxx\r\n";

    /// Runs one publisher and one receiver against a server that delivers `deliver(n)` in place of
    /// message `n`.
    fn run_against(deliver: fn(u64) -> Vec<u8>) -> Result<Sample> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || serve(&listener, deliver));
        let flow = Flow {
            publishers: 1,
            receivers: 1,
            is_queue_group: false,
            subjects: Subjects::One,
            payload_bytes: 16,
            payload: Payload::Letters,
        };
        let target = Target {
            nodes: vec![Node {
                address,
                process: std::process::id(),
            }],
            tls: None,
            settle: Duration::ZERO,
        };
        let outcome = run(flow, 100, &target);
        // The server ends with an error when the generator gives up on it, which is what some tests want.
        let _ = server.join().unwrap();
        outcome
    }

    fn serve(listener: &TcpListener, deliver: fn(u64) -> Vec<u8>) -> std::io::Result<()> {
        let (mut receiver, _) = listener.accept()?;
        greet(&mut receiver)?;
        answer_next_ping(&mut receiver)?;
        let (mut publisher, _) = listener.accept()?;
        greet(&mut publisher)?;
        let mut number = 0;
        loop {
            let mut frame = vec![0; b"PING\r\n".len()];
            publisher.read_exact(&mut frame)?;
            if frame == b"PING\r\n" {
                publisher.write_all(b"PONG\r\n")?;
                return answer_next_ping(&mut receiver);
            }
            frame.resize(PUBLISHED.len(), 0);
            publisher.read_exact(&mut frame[b"PING\r\n".len()..])?;
            assert_eq!(frame, PUBLISHED);
            receiver.write_all(&deliver(number))?;
            number += 1;
        }
    }

    fn greet(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(b"INFO {}\r\n")?;
        answer_next_ping(stream)
    }

    fn answer_next_ping(stream: &mut TcpStream) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"PING\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            bytes.push(byte[0]);
        }
        stream.write_all(b"PONG\r\n")
    }

    #[test]
    fn all_messages_arrive() {
        let sample = run_against(|_| DELIVERED.to_vec()).unwrap();
        assert_eq!(sample.operations, 200);
        assert!(sample.wall_seconds > 0.0);
    }

    #[test]
    fn a_ping_of_the_server_is_not_a_message() {
        let with_ping = |number| match number {
            60 => [b"PING\r\n", DELIVERED].concat(),
            _ => DELIVERED.to_vec(),
        };
        run_against(with_ping).unwrap();
    }

    #[test]
    fn a_missing_message_is_an_error() {
        for lost in [5, 109] {
            let deliver: fn(u64) -> Vec<u8> = match lost {
                5 => |number| {
                    if number == 5 {
                        Vec::new()
                    } else {
                        DELIVERED.to_vec()
                    }
                },
                _ => |number| {
                    if number == 109 {
                        Vec::new()
                    } else {
                        DELIVERED.to_vec()
                    }
                },
            };
            let error = run_against(deliver).unwrap_err();
            assert!(
                format!("{error:#}").contains("messages are missing"),
                "{error:#}"
            );
        }
    }

    #[test]
    fn a_message_too_many_is_an_error() {
        let twice = |number| match number {
            109 => DELIVERED.repeat(2),
            _ => DELIVERED.to_vec(),
        };
        let error = run_against(twice).unwrap_err();
        assert!(
            format!("{error:#}").contains("more than the messages are"),
            "{error:#}"
        );
    }
}
