//! The load generator: plays the clients of one cell against one server and measures that server.
//!
//! It runs in a process of its own and speaks the protocol by bytes it prepared beforehand: no client
//! library, no work per received message. Frames of a cell all have the same length, so counting bytes
//! is counting messages, and a run in which a single message is missing is an error.

mod connections;
mod encrypted;
mod flow;
mod frames;
mod interest;
mod joining;
mod one_way;
mod paced;
mod peer;
mod requests;
mod slow;
mod watched;
mod window;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::arguments::Generate;
use crate::cells::{Cell, Load};
use crate::statistics::percentile;
use crate::{clock, process};

/// The server under load, or the servers of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// One at least.
    pub(crate) nodes: Vec<Node>,
    /// How to encrypt connections to it; in clear text without.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// How long to leave it alone before reading its memory.
    pub(crate) settle: Duration,
}

/// One server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its process.
    pub(crate) process: u32,
}

impl Target {
    /// The first server, at which publishers and requesters are.
    fn first(&self) -> Node {
        self.nodes[0]
    }

    /// The server at which a receiver or responder is.
    fn of_receiver(&self, number: usize) -> Node {
        match self.nodes.len() {
            2 => self.nodes[1],
            count => self.nodes[number % count],
        }
    }
}

/// What one run measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Messages the server took in plus messages it gave out, or connections it served.
    pub(crate) operations: u64,
    /// How long that took.
    pub(crate) wall_seconds: f64,
    /// Processor time the server spent on it.
    pub(crate) server_processor_seconds: f64,
    /// The same for each server of a cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) node_processor_seconds: Vec<f64>,
    /// Processor time the generator spent on it; when it nears the wall time of a core, wall figures
    /// measure the generator.
    pub(crate) generator_processor_seconds: f64,
    /// Processor time everybody else on the machine spent meanwhile: noise, if it is much.
    pub(crate) other_processor_seconds: f64,
    /// Time from request to reply, where requests were made; from publisher to subscriber, where messages were sent at a
    /// pace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
    /// Server memory: in all for an idle server, for each connection for idle connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes: Option<f64>,
    /// What happened when a server joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) joining: Option<Joining>,
    /// What became of messages beside a slow subscriber.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) beside: Option<Beside>,
    /// What pages of monitoring left of the throughput.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) watched: Option<Watched>,
}

/// Messages flowed while somebody asked for pages of monitoring, and while nobody did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watched {
    /// Messages in a second by the clock, against those while nobody asked.
    pub(crate) throughput_share: f64,
    /// The longest time without any, from the first request on.
    pub(crate) gap_milliseconds: f64,
    /// The same while nobody asked.
    pub(crate) gap_alone_milliseconds: f64,
    /// Pages that came.
    pub(crate) pages_per_second: f64,
}

/// Messages flowed from server to server beside those of a fast publisher for a slow subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Beside {
    /// Messages that arrived, against those that should have. What comes late is not counted.
    pub(crate) throughput_share: f64,
    /// The longest time without any.
    pub(crate) gap_milliseconds: f64,
    /// What the slow subscriber took.
    pub(crate) slow_bytes_per_second: f64,
    /// Whether the server closed its connection.
    pub(crate) is_slow_dropped: bool,
}

/// A server joined another one that holds many subscriptions, while messages flowed over the latter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Joining {
    /// From its first connection until it routed to all subscriptions.
    pub(crate) seconds: f64,
    /// What both told each other in that time.
    pub(crate) bytes: u64,
    /// Messages that arrived meanwhile, against those that should have. What comes late is not counted.
    pub(crate) throughput_share: f64,
    /// The longest time without any.
    pub(crate) gap_milliseconds: f64,
}

/// Percentiles of the time from request to reply, or from publisher to subscriber, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Half were faster.
    pub(crate) p50_microseconds: f64,
    /// 99 % were faster.
    pub(crate) p99_microseconds: f64,
    /// 99.9 % were faster.
    pub(crate) p999_microseconds: f64,
}

impl Latency {
    /// Of how long each took, one at least.
    fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let microseconds = |share| percentile(&latencies, share).as_secs_f64() * 1e6;
        Self {
            p50_microseconds: microseconds(0.5),
            p99_microseconds: microseconds(0.99),
            p999_microseconds: microseconds(0.999),
        }
    }
}

/// Plays the cell and prints the sample as one line of JSON.
pub(crate) fn main(generate: &Generate) -> Result<()> {
    let cell = Cell::named(&generate.cell).context("no such cell")?;
    let target = Target {
        nodes: std::iter::zip(&generate.address, &generate.server_process)
            .map(|(&address, &process)| Node { address, process })
            .collect(),
        tls: encrypted::config(cell.encryption, &generate.certificates)?,
        settle: Duration::from_millis(generate.settle_milliseconds),
    };
    ensure!(!target.nodes.is_empty(), "no server to load");
    let sample = match cell.load {
        Load::Flow(flow) => flow::run(flow, generate.work, &target)?,
        Load::Copy { payload_bytes } => flow::run_copy(payload_bytes, generate.work, &target)?,
        Load::Requests { in_flight } => requests::run(in_flight, generate.work, &target)?,
        Load::OneWay {
            receivers,
            payload_bytes,
            messages_per_second,
        } => one_way::run(
            receivers,
            payload_bytes,
            messages_per_second,
            generate.work,
            &target,
        )?,
        Load::ConnectRate => connections::run_rate(generate.work, &target)?,
        Load::IdleConnections => connections::run_idle(generate.work, &target)?,
        Load::IdleServer => connections::run_nobody(&target)?,
        Load::Beside {
            slow_bytes_per_second,
            messages_per_second,
        } => slow::run(
            slow_bytes_per_second,
            messages_per_second,
            Duration::from_millis(generate.work),
            &target,
        )?,
        Load::Watched { flow, connections } => {
            let monitoring = generate.monitoring_address.context("no pages to read")?;
            let duration = Duration::from_millis(generate.work);
            watched::run(flow, connections, duration, &target, monitoring)?
        }
        Load::Joining {
            messages_per_second,
        } => {
            let seed = generate.route_address.context("no server to join")?;
            let executable = generate.joiner.as_deref().context("no server joins")?;
            let joiner = joining::Joiner { executable, seed };
            joining::run(messages_per_second, generate.work, &target, &joiner)?
        }
    };
    let line = serde_json::to_string(&sample)?;
    writeln!(std::io::stdout(), "{line}").context("reporting the sample")
}

/// Processor time of the server, of this process and of the whole machine at one moment.
struct Spent {
    servers: Vec<Duration>,
    generator: Duration,
    machine: Duration,
}

/// The scheduler books a thread's time when the thread stops running or at the next tick, so a thread that
/// has just finished its work is given a moment to stop. The machine is otherwise idle then; what is
/// waited costs neither side anything.
const BOOKING: Duration = Duration::from_millis(3);

impl Spent {
    fn now(target: &Target) -> Result<Self> {
        clock::pause(BOOKING);
        Ok(Self {
            servers: (target.nodes.iter())
                .map(|node| process::processor_time(node.process))
                .collect::<Result<_>>()?,
            generator: process::processor_time(std::process::id())?,
            machine: process::machine_time()?,
        })
    }

    /// The sample for what happened since.
    fn sample(&self, target: &Target, operations: u64, wall: Duration) -> Result<Sample> {
        let now = Self::now(target)?;
        let servers: Vec<_> = std::iter::zip(&now.servers, &self.servers)
            .map(|(now, before)| now.saturating_sub(*before))
            .collect();
        let server: Duration = servers.iter().sum();
        let generator = now.generator.saturating_sub(self.generator);
        let other = now
            .machine
            .saturating_sub(self.machine + server + generator);
        Ok(Sample {
            operations,
            wall_seconds: wall.as_secs_f64(),
            server_processor_seconds: server.as_secs_f64(),
            node_processor_seconds: if servers.len() > 1 {
                servers.iter().map(Duration::as_secs_f64).collect()
            } else {
                Vec::new()
            },
            generator_processor_seconds: generator.as_secs_f64(),
            other_processor_seconds: other.as_secs_f64(),
            latency: None,
            memory_bytes: None,
            joining: None,
            beside: None,
            watched: None,
        })
    }
}
