//! Messages while somebody asks for pages of monitoring, one after another without a pause, of a server with many
//! connections: what that leaves of the throughput, and for how long nothing comes.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::flow::Traffic;
use super::peer::{self, Stream};
use super::{Sample, Spent, Target, Watched};
use crate::cells::Flow;

/// What is asked for in turn. The first three are as long as there are connections.
const PAGES: [&str; 8] = [
    "/connz?limit=10000&subs=detail",
    "/connz?limit=10000&sort=msgs_to&subs=1&state=any",
    "/subsz?subs=1&limit=10000",
    "/varz",
    "/routez?subs=detail",
    "/accountz?acc=$G",
    "/accstatz?unused=1",
    "/healthz",
];
/// Pages are asked for so many times as long as a server is left alone elsewhere, before it counts what is left of the
/// throughput: a server may allow for more at first than in the long run.
const SETTLING: u32 = 2;
/// Messages that flow before it is asked whether the time is over.
const PART: u64 = 200_000;

/// Has messages flow for so long while somebody asks, and as long while nobody does, one half before and one after.
pub(super) fn run(
    flow: Flow,
    connections: u32,
    duration: Duration,
    target: &Target,
    monitoring: SocketAddr,
) -> Result<Sample> {
    let crowd = connect_crowd(connections, target)?;
    let mut traffic = Traffic::connect(flow, target)?;
    traffic.transfer(PART)?;
    let before = Span::of(&mut traffic, duration / 2)?;
    let reader = Reader {
        address: monitoring,
        connections: crowd.len(),
        is_over: AtomicBool::new(false),
        taken: AtomicU64::new(0),
    };
    let (mut sample, settling, watched, pages) = thread::scope(|scope| {
        let reading = scope.spawn(|| reader.run());
        let mut watch = || -> Result<_> {
            let settling = Span::of(&mut traffic, target.settle * SETTLING)?;
            let taken = reader.taken.load(Ordering::Relaxed);
            let spent = Spent::now(target)?;
            let watched = Span::of(&mut traffic, duration)?;
            let operations = watched.messages * (1 + traffic.deliveries_per_message());
            let sample = spent.sample(target, operations, watched.wall)?;
            let pages = reader.taken.load(Ordering::Relaxed) - taken;
            Ok((sample, settling, watched, pages))
        };
        let outcome = watch();
        reader.is_over.store(true, Ordering::Relaxed);
        let done = reading.join().map_err(|_| anyhow!("the reader panicked"))?;
        done.context("reading pages")?;
        outcome
    })?;
    let after = Span::of(&mut traffic, duration / 2)?;
    let spans = [&before, &settling, &watched, &after];
    traffic.verify(PART + spans.map(|span| span.messages).iter().sum::<u64>())?;
    let alone = Span {
        messages: before.messages + after.messages,
        wall: before.wall + after.wall,
        gap: before.gap.max(after.gap),
    };
    sample.watched = Some(Watched {
        throughput_share: watched.rate() / alone.rate(),
        gap_milliseconds: settling.gap.max(watched.gap).as_secs_f64() * 1e3,
        gap_alone_milliseconds: alone.gap.as_secs_f64() * 1e3,
        pages_per_second: pages as f64 / watched.wall.as_secs_f64(),
    });
    Ok(sample)
}

/// What flowed in some time.
struct Span {
    messages: u64,
    wall: Duration,
    /// The longest time without any.
    gap: Duration,
}

impl Span {
    fn of(traffic: &mut Traffic, duration: Duration) -> Result<Self> {
        let mut span = Self {
            messages: 0,
            wall: Duration::ZERO,
            gap: Duration::ZERO,
        };
        while span.messages == 0 || span.wall < duration {
            span.wall += traffic.transfer(PART)?;
            span.messages += PART;
            span.gap = span.gap.max(traffic.gap());
        }
        Ok(span)
    }

    fn rate(&self) -> f64 {
        self.messages as f64 / self.wall.as_secs_f64()
    }
}

/// Connections with a subscription each. They answer no PING: they are there for less long than a server waits for that.
fn connect_crowd(connections: u32, target: &Target) -> Result<Vec<Stream>> {
    (0..connections)
        .map(|number| {
            connect_one(number, target)
                .with_context(|| format!("connection {number} of {connections}"))
        })
        .collect()
}

fn connect_one(number: u32, target: &Target) -> Result<Stream> {
    let mut stream = peer::connect(target)?;
    write!(stream, "SUB crowd.{number:06}.* 1\r\n").context("subscribing")?;
    peer::round_trip(&mut stream, &mut [0; 64])?;
    Ok(stream)
}

/// Asks for pages.
struct Reader {
    address: SocketAddr,
    /// So many are on every page of connections, at least.
    connections: usize,
    is_over: AtomicBool,
    /// Pages that were read.
    taken: AtomicU64,
}

impl Reader {
    fn run(&self) -> Result<()> {
        let mut answer = Vec::new();
        for path in PAGES.iter().cycle() {
            if self.is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            answer.clear();
            self.read(path, &mut answer)
                .with_context(|| format!("asking for {path}"))?;
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// HTTP/1.0, whose answers end where the connection does.
    fn read(&self, path: &str, answer: &mut Vec<u8>) -> Result<()> {
        let mut stream = peer::connect_raw(self.address)?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        stream.read_to_end(answer)?;
        let head = &answer[..answer.len().min(64)];
        ensure!(
            head.starts_with(b"HTTP/1.0 200") || head.starts_with(b"HTTP/1.1 200"),
            "answered with {:?}",
            String::from_utf8_lossy(head)
        );
        if path.starts_with("/connz") {
            let listed = listed(answer).context("a page without a number of connections")?;
            let connections = self.connections;
            ensure!(
                listed >= connections,
                "{listed} of {connections} connections on the page"
            );
        }
        Ok(())
    }
}

/// How many connections a page says that it lists.
fn listed(answer: &[u8]) -> Option<usize> {
    let head = String::from_utf8_lossy(&answer[..answer.len().min(1024)]);
    let (_, rest) = head.split_once("\"num_connections\":")?;
    let digits: String = rest
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn a_page_says_how_many_it_lists() {
        let page = b"HTTP/1.0 200 OK\r\n\r\n{\n  \"now\": \"\",\n  \"num_connections\": 5002,\n  \"total\": 7,";
        assert_eq!(listed(page), Some(5002));
        assert_eq!(listed(b"HTTP/1.0 200 OK\r\n\r\n{}"), None);
    }
}
