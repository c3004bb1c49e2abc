//! Messages one by one at a pace, each of which says when it was sent: how long it takes until whoever subscribes has
//! read it. Publisher and subscribers are in this process, so one clock tells both moments.
//!
//! A message that is late does not hold up the next one: the publisher asks nobody but the clock, and what it missed
//! while it was kept waiting it sends at once.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::peer::{self, FrameReader, Stream};
use super::{Latency, Sample, Spent, Target, interest};
use crate::clock;

const SUBJECT: &str = "bench.way";
const SID: &str = "1";
/// Digits of the time at the beginning of each payload, always all of them: nanoseconds since the first connection.
const TIME_DIGITS: usize = 16;
const WARM_UP_DIVISOR: u64 = 10;

/// Sends `work` messages at that pace from the first server to subscribers at the others.
pub(super) fn run(
    receivers: u32,
    payload_bytes: usize,
    messages_per_second: u32,
    work: u64,
    target: &Target,
) -> Result<Sample> {
    let mut way = Way::connect(receivers, payload_bytes, messages_per_second, target)?;
    way.transfer((work / WARM_UP_DIVISOR).max(1))?;
    let spent = Spent::now(target)?;
    let start = clock::now();
    let latencies = way.transfer(work)?;
    let wall = clock::now() - start;
    let mut sample = spent.sample(target, work * u64::from(1 + receivers), wall)?;
    sample.latency = Some(Latency::of(latencies));
    // Whatever is still on its way between servers has arrived before what follows it.
    interest::settle(target)?;
    way.verify()?;
    Ok(sample)
}

struct Way {
    /// What the times in payloads count from.
    epoch: Instant,
    interval: Duration,
    frame: Vec<u8>,
    publisher: Stream,
    receivers: Vec<Receiver>,
}

struct Receiver {
    stream: Stream,
    reader: FrameReader,
    /// The time of the message that came last.
    last: u64,
}

impl Way {
    fn connect(
        receivers: u32,
        payload_bytes: usize,
        messages_per_second: u32,
        target: &Target,
    ) -> Result<Self> {
        ensure!(
            payload_bytes >= TIME_DIGITS,
            "payloads have no room for a time"
        );
        let payload = "x".repeat(payload_bytes);
        let delivered = format!("MSG {SUBJECT} {SID} {payload_bytes}\r\n{payload}\r\n");
        let connect = |number| {
            let mut stream = peer::connect_at(target, target.of_receiver(number))?;
            write!(stream, "SUB {SUBJECT} {SID}\r\n").context("subscribing")?;
            peer::round_trip(&mut stream, &mut [0; 64]).context("after subscribing")?;
            Ok(Receiver {
                stream,
                reader: FrameReader::new(delivered.len()),
                last: 0,
            })
        };
        let receivers: Result<_> = (0..receivers as usize).map(connect).collect();
        let receivers = receivers?;
        interest::settle(target)?;
        Ok(Self {
            epoch: clock::now(),
            interval: Duration::from_secs(1) / messages_per_second,
            frame: format!("PUB {SUBJECT} {payload_bytes}\r\n{payload}\r\n").into_bytes(),
            publisher: peer::connect(target)?,
            receivers,
        })
    }

    /// Sends that many messages and waits until every receiver has them all. Returns how long each took to each.
    fn transfer(&mut self, messages: u64) -> Result<Vec<Duration>> {
        let Self {
            epoch,
            interval,
            frame,
            publisher,
            receivers,
        } = self;
        thread::scope(|scope| {
            let receiving: Vec<_> = receivers
                .iter_mut()
                .map(|receiver| scope.spawn(|| receiver.take(messages, *epoch)))
                .collect();
            let published = publish(publisher, frame, (*interval, messages), *epoch);
            let mut latencies = Vec::new();
            for receiver in receiving {
                let received = receiver
                    .join()
                    .map_err(|_| anyhow!("a receiver panicked"))?;
                latencies.extend(received.context("receiving")?);
            }
            published.context("publishing")?;
            Ok(latencies)
        })
    }

    /// Makes sure that nothing is left to come.
    fn verify(&mut self) -> Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        for receiver in &mut self.receivers {
            let bytes = peer::round_trip(&mut receiver.stream, &mut buffer)?;
            // PINGs of the server's own are shorter than any message.
            let message_bytes = "MSG ".len() + SUBJECT.len() + TIME_DIGITS;
            ensure!(
                bytes < message_bytes as u64,
                "received {bytes} bytes more than the messages are"
            );
        }
        Ok(())
    }
}

fn publish(
    stream: &mut Stream,
    frame: &mut [u8],
    (interval, messages): (Duration, u64),
    epoch: Instant,
) -> Result<()> {
    let time_start = frame
        .iter()
        .position(|byte| *byte == b'\n')
        .context("a frame without a payload")?
        + 1;
    let start = clock::now();
    for number in 0..messages {
        let due = start + interval * u32::try_from(number)?;
        clock::pause(due.saturating_duration_since(clock::now()));
        let nanoseconds = (clock::now() - epoch).as_nanos();
        write!(
            &mut frame[time_start..],
            "{nanoseconds:0digits$}",
            digits = TIME_DIGITS
        )?;
        stream.write_all(frame).context("a message")?;
    }
    Ok(())
}

impl Receiver {
    /// Waits for that many messages, each later than the one before: none twice, and in order. Returns how long each took.
    fn take(&mut self, messages: u64, epoch: Instant) -> Result<Vec<Duration>> {
        let mut latencies = Vec::with_capacity(usize::try_from(messages)?);
        while (latencies.len() as u64) < messages {
            let last = &mut self.last;
            let outcome = self.reader.read(&mut self.stream, |frame| {
                let now = clock::now() - epoch;
                let head_bytes = frame.iter().position(|byte| *byte == b'\n');
                let time_start = head_bytes.context("a message without a payload")? + 1;
                let time = frame.get(time_start..time_start + TIME_DIGITS);
                let time = std::str::from_utf8(time.context("a message without a time")?)?;
                let sent: u64 = time.parse().context("the time of a message")?;
                ensure!(sent > *last, "a message came twice or overtook another one");
                *last = sent;
                latencies.push(now.saturating_sub(Duration::from_nanos(sent)));
                Ok(())
            });
            outcome.with_context(|| format!("{} of {messages} messages came", latencies.len()))?;
        }
        ensure!(
            latencies.len() as u64 == messages,
            "more messages came than were sent"
        );
        Ok(latencies)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::time::Duration;

    use anyhow::Result;

    use super::{Receiver, publish};
    use crate::clock;
    use crate::generator::peer::{FrameReader, Stream, connect_raw};

    /// What a receiver makes of messages with these times in them, of which three are expected.
    fn take_three(times: &[u64]) -> Result<Vec<Duration>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = connect_raw(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let message = |time: &u64| format!("MSG bench.way 1 18\r\n{time:016}xx\r\n");
        let messages: Vec<_> = times.iter().map(message).collect();
        far.write_all(messages.concat().as_bytes()).unwrap();
        let mut receiver = Receiver {
            stream: Stream::Clear(near),
            reader: FrameReader::new(message(&0).len()),
            last: 0,
        };
        receiver.take(3, clock::now() - Duration::from_secs(1))
    }

    #[test]
    fn each_message_tells_how_long_it_took() {
        let latencies = take_three(&[1, 500_000_000, 900_000_000]).unwrap();
        assert_eq!(latencies.len(), 3);
        // They were sent a second ago, half of one, and a tenth.
        for (latency, milliseconds) in latencies.iter().zip([999, 500, 100]) {
            assert!(
                *latency >= Duration::from_millis(milliseconds),
                "{latency:?}"
            );
        }
    }

    #[test]
    fn what_is_missing_too_much_twice_or_out_of_order_is_an_error() {
        for (times, words) in [
            (&[1, 2][..], "2 of 3 messages came"),
            (&[1, 2, 3, 4], "more messages came"),
            (&[1, 2, 2], "came twice or overtook"),
            (&[1, 3, 2], "came twice or overtook"),
        ] {
            let error = format!("{:#}", take_three(times).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn messages_are_sent_no_sooner_than_they_are_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = connect_raw(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let mut frame = b"PUB bench.way 18\r\nxxxxxxxxxxxxxxxxxx\r\n".to_vec();
        let pace = (Duration::from_millis(5), 4);
        publish(&mut Stream::Clear(near), &mut frame, pace, clock::now()).unwrap();
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        let times: Vec<u64> = text
            .lines()
            .filter_map(|line| line.strip_suffix("xx")?.parse().ok())
            .collect();
        assert_eq!(times.len(), 4, "{text}");
        for (number, time) in (0..).zip(&times) {
            assert!(*time >= number * 5_000_000, "{times:?}");
        }
    }
}
