//! `natterjack bench`: how fast messages go through a server, and how long they take.
//!
//! Each publisher and subscriber has a connection of its own. A message carries the time it was handed to the client
//! library, so latency includes the time it waits behind others there; at full speed that is most of it.

mod report;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::select_all;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tokio::task::JoinSet;

use crate::connection::{self, Connection, OnLoss};
use crate::output::Output;
use crate::value;
use report::{Latency, Rate, Report};

/// Time without any message after which what is missing counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Bytes at the front of a payload that say when it was sent.
const STAMP_BYTES: usize = size_of::<u64>();

/// Messages after which a publisher updates the progress bar.
const PROGRESS_STEP: u64 = 1024;

/// Measure throughput and latency of a server
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  natterjack bench --msgs 1000000 --size 16\n  \
    natterjack bench --publishers 2 --subscribers 4 --size 1k\n  \
    natterjack bench --subscribers 4 --queue workers\n  \
    natterjack bench --request-reply --msgs 20000 --json"
)]
pub(crate) struct Arguments {
    /// Subject to use
    #[arg(default_value = "natterjack.bench", value_parser = value::subject)]
    subject: String,
    /// Connections that publish, or send requests
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    publishers: u32,
    /// Connections that subscribe, or answer requests; 0 measures publishing alone
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    subscribers: u32,
    /// Bytes of a payload; latency needs 8 or more
    #[arg(long, default_value = "128", value_name = "BYTES", value_parser = value::size)]
    size: usize,
    /// Messages of all publishers together
    #[arg(long, default_value_t = 100_000, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    msgs: u64,
    /// Let the subscribers share the messages as a queue group
    #[arg(long, value_parser = value::queue, value_name = "GROUP")]
    queue: Option<String>,
    /// Measure requests and their answers, one at a time for each publisher
    #[arg(long)]
    request_reply: bool,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: connection::Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let bench = Bench::prepare(arguments).await?;
    let report = tokio::select! {
        // First, because a lost connection is why the measurement fails then, or never ends.
        biased;
        error = bench.any_lost() => return Err(error.context("the benchmark is void")),
        report = bench.measure() => report?,
    };
    bench.progress.finish_and_clear();
    let text = if bench.arguments.json {
        report.json()?
    } else {
        report.text()
    };
    let mut output = Output::start();
    output.write(text.into_bytes()).await?;
    output.finish().await?;
    Ok(if report.lost_messages == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Bench {
    arguments: Arguments,
    publishers: Vec<Connection>,
    subscribers: Vec<Connection>,
    progress: ProgressBar,
    epoch: Instant,
}

/// What the subscribers have received together.
struct Received {
    messages: AtomicU64,
    /// When the latest message came, in nanoseconds since the epoch.
    latest: AtomicU64,
}

impl Bench {
    async fn prepare(arguments: Arguments) -> anyhow::Result<Self> {
        if arguments.request_reply && arguments.subscribers == 0 {
            bail!("--request-reply needs at least one subscriber to answer");
        }
        // The measurement is of the server: our own queue must not be what drops messages.
        let capacity = usize::try_from(arguments.msgs)?.clamp(65_536, 1 << 26);
        let mut publishers = Vec::new();
        for _ in 0..arguments.publishers {
            publishers.push(arguments.connection.connect(65_536, OnLoss::End).await?);
        }
        let mut subscribers = Vec::new();
        for _ in 0..arguments.subscribers {
            subscribers.push(arguments.connection.connect(capacity, OnLoss::End).await?);
        }
        let bytes_max = publishers[0].client.max_payload();
        if arguments.size > bytes_max {
            bail!(
                "--size {} is more than the server takes (max_payload), {bytes_max}",
                arguments.size
            );
        }
        let progress = progress_bar(&arguments)?;
        Ok(Self {
            arguments,
            publishers,
            subscribers,
            progress,
            epoch: now(),
        })
    }

    async fn measure(&self) -> anyhow::Result<Report> {
        if self.arguments.request_reply {
            self.request_reply().await
        } else {
            self.publish_subscribe().await
        }
    }

    /// Waits until one of the connections is lost. A measurement cannot go on without it.
    async fn any_lost(&self) -> anyhow::Error {
        let connections = self.publishers.iter().chain(&self.subscribers);
        let lost = connections.map(|connection| Box::pin(connection.lost()));
        select_all(lost).await.0
    }

    async fn publish_subscribe(&self) -> anyhow::Result<Report> {
        let Arguments {
            msgs,
            size,
            subscribers,
            queue,
            ..
        } = &self.arguments;
        let received = Arc::new(Received {
            messages: AtomicU64::new(0),
            latest: AtomicU64::new(0),
        });
        let mut receivers = JoinSet::new();
        for connection in &self.subscribers {
            let messages = self.subscribe(connection, queue.clone()).await?;
            let received = Arc::clone(&received);
            receivers.spawn(receive(messages, received, self.epoch));
        }
        let expected = match queue {
            Some(_) if *subscribers > 0 => *msgs,
            _ => msgs * u64::from(*subscribers),
        };

        let start = self.since_epoch();
        let mut senders = JoinSet::new();
        for (connection, share) in self.publishers.iter().zip(self.shares()) {
            let sender = Sender {
                bench: self.sending(),
                connection: connection.clone(),
                share,
            };
            senders.spawn(sender.publish());
        }
        while let Some(sent) = senders.join_next().await {
            sent.context("a publisher failed")??;
        }
        let published = Rate::new(*msgs, *size, self.since_epoch() - start);

        self.wait_for_messages(&received, expected).await;
        for connection in &self.subscribers {
            // Ends the receivers, whether they have everything or not.
            connection.drain().await?;
        }
        let mut latency = new_histogram()?;
        while let Some(histogram) = receivers.join_next().await {
            latency.add(histogram.context("a subscriber failed")??)?;
        }
        let count = received.messages.load(Ordering::Relaxed);
        let latest = Duration::from_nanos(received.latest.load(Ordering::Relaxed));
        Ok(Report {
            kind: "publish-subscribe",
            publishers: self.arguments.publishers,
            subscribers: *subscribers,
            message_bytes: *size,
            published,
            received: (expected > 0).then(|| Rate::new(count, *size, latest.saturating_sub(start))),
            lost_messages: expected.saturating_sub(count),
            latency: Latency::new(latency),
        })
    }

    async fn request_reply(&self) -> anyhow::Result<Report> {
        let Arguments {
            msgs, size, queue, ..
        } = &self.arguments;
        let group = queue.clone().unwrap_or_else(|| "natterjack-bench".into());
        let mut responders = JoinSet::new();
        for connection in &self.subscribers {
            let requests = self.subscribe(connection, Some(group.clone())).await?;
            responders.spawn(respond(requests, connection.clone()));
        }
        let start = self.since_epoch();
        let mut senders = JoinSet::new();
        for (connection, share) in self.publishers.iter().zip(self.shares()) {
            let sender = Sender {
                bench: self.sending(),
                connection: connection.clone(),
                share,
            };
            senders.spawn(sender.request());
        }
        let mut latency = new_histogram()?;
        while let Some(histogram) = senders.join_next().await {
            latency.add(histogram.context("a requester failed")??)?;
        }
        let elapsed = self.since_epoch() - start;
        responders.shutdown().await;
        Ok(Report {
            kind: "request-reply",
            publishers: self.arguments.publishers,
            subscribers: self.arguments.subscribers,
            message_bytes: *size,
            published: Rate::new(*msgs, *size, elapsed),
            received: None,
            lost_messages: 0,
            latency: Latency::new(latency),
        })
    }

    async fn subscribe(
        &self,
        connection: &Connection,
        queue: Option<String>,
    ) -> anyhow::Result<async_nats::Subscriber> {
        let subject = self.arguments.subject.clone();
        let subscriber = match queue {
            None => connection.client.subscribe(subject).await?,
            Some(queue) => connection.client.queue_subscribe(subject, queue).await?,
        };
        connection.round_trip().await?;
        Ok(subscriber)
    }

    /// Messages of each publisher: as equal as can be.
    fn shares(&self) -> impl Iterator<Item = u64> {
        let (msgs, publishers) = (self.arguments.msgs, u64::from(self.arguments.publishers));
        (0..publishers).map(move |index| msgs / publishers + u64::from(index < msgs % publishers))
    }

    fn sending(&self) -> Sending {
        Sending {
            subject: self.arguments.subject.clone(),
            size: self.arguments.size,
            progress: self.progress.clone(),
            epoch: self.epoch,
        }
    }

    /// Waits until everything expected has come, or nothing comes any more.
    async fn wait_for_messages(&self, received: &Received, expected: u64) {
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        let mut before = 0;
        let mut changed = self.since_epoch();
        loop {
            let count = received.messages.load(Ordering::Relaxed);
            if count != before {
                (before, changed) = (count, self.since_epoch());
            }
            if count >= expected || self.since_epoch() - changed > SILENCE_MAX {
                return;
            }
            looks.tick().await;
        }
    }

    fn since_epoch(&self) -> Duration {
        now() - self.epoch
    }
}

/// What every sender needs.
struct Sending {
    subject: String,
    size: usize,
    progress: ProgressBar,
    epoch: Instant,
}

struct Sender {
    bench: Sending,
    connection: Connection,
    share: u64,
}

impl Sender {
    async fn publish(self) -> anyhow::Result<()> {
        let Self {
            bench,
            connection,
            share,
        } = self;
        let subject = async_nats::Subject::from(bench.subject.clone());
        for number in 1..=share {
            connection
                .client
                .publish(subject.clone(), bench.payload())
                .await?;
            if number % PROGRESS_STEP == 0 {
                bench.progress.inc(PROGRESS_STEP);
            }
        }
        connection.round_trip().await
    }

    async fn request(self) -> anyhow::Result<Histogram<u64>> {
        let Self {
            bench,
            connection,
            share,
        } = self;
        let mut latency = new_histogram()?;
        for number in 1..=share {
            let start = now();
            connection
                .client
                .request(bench.subject.clone(), bench.payload())
                .await?;
            latency.saturating_record(nanoseconds(now() - start));
            if number % PROGRESS_STEP == 0 {
                bench.progress.inc(PROGRESS_STEP);
            }
        }
        Ok(latency)
    }
}

impl Sending {
    fn payload(&self) -> Bytes {
        let mut payload = vec![b'x'; self.size];
        if let Some(stamp) = payload.first_chunk_mut::<STAMP_BYTES>() {
            *stamp = nanoseconds(now() - self.epoch).to_be_bytes();
        }
        payload.into()
    }
}

async fn receive(
    mut messages: async_nats::Subscriber,
    received: Arc<Received>,
    epoch: Instant,
) -> anyhow::Result<Histogram<u64>> {
    let mut latency = new_histogram()?;
    while let Some(message) = messages.next().await {
        let arrived = nanoseconds(now() - epoch);
        if let Some(stamp) = message.payload.first_chunk::<STAMP_BYTES>() {
            latency.saturating_record(arrived.saturating_sub(u64::from_be_bytes(*stamp)));
        }
        received.latest.fetch_max(arrived, Ordering::Relaxed);
        received.messages.fetch_add(1, Ordering::Relaxed);
    }
    Ok(latency)
}

async fn respond(mut requests: async_nats::Subscriber, connection: Connection) {
    while let Some(request) = requests.next().await {
        let Some(reply) = request.reply else { continue };
        if connection
            .client
            .publish(reply, request.payload)
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Nanoseconds up to a minute, to three digits.
fn new_histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

fn progress_bar(arguments: &Arguments) -> anyhow::Result<ProgressBar> {
    // On anything but a terminal a bar would be noise.
    let target = if std::io::stderr().is_terminal() && !arguments.json {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style =
        ProgressStyle::with_template("{bar:30} {percent:>3}%  {human_pos} messages  {rate}")?
            .with_key(
                "rate",
                |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                    // A rate that cannot be written is not shown.
                    let _ = write!(text, "{}/s", report::grouped(state.per_sec() as u64));
                },
            );
    Ok(ProgressBar::with_draw_target(Some(arguments.msgs), target).with_style(style))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}
