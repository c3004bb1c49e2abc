//! A node's process: says that it is ready, waits for its turn, publishes and receives, and says how it went.

use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{ours, plain};
use crate::clock;

/// Longest a run may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// How a node publishes and receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transport {
    Local,
    InProcess,
    Loopback,
    /// Without the bus.
    Plain,
}

/// The role's only argument: [`NodeArguments`] as JSON.
#[derive(Debug, Args)]
pub(crate) struct BusNode {
    arguments: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodeArguments {
    pub(crate) transport: Transport,
    pub(crate) number: u64,
    pub(crate) nodes: u64,
    /// What this node publishes.
    pub(crate) events: u64,
    /// In how many a second; without it, as fast as it can.
    pub(crate) rate: Option<u64>,
    /// Where the plain node's server is.
    pub(crate) server: Option<String>,
    /// Where the servers of our nodes meet.
    pub(crate) route_ports: Vec<u16>,
}

impl NodeArguments {
    pub(crate) fn name(&self) -> String {
        format!("node-{}", self.number)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) received: u64,
    pub(crate) p50_micros: u64,
    pub(crate) p99_micros: u64,
}

/// What is published: the size of a typical event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) agent: String,
    pub(crate) number: u64,
    /// Microseconds since 1970.
    pub(crate) at: u64,
    pub(crate) text: String,
}

impl Reading {
    pub(crate) fn new(agent: &str, number: u64) -> Self {
        Self {
            agent: agent.into(),
            number,
            at: clock::unix_micros(),
            text: "collector restarted after configuration change 17".into(),
        }
    }
}

/// Counts what arrives, and how long what comes from elsewhere took.
#[derive(Default)]
pub(crate) struct Tally {
    received: u64,
    micros: Vec<u32>,
}

impl Tally {
    pub(crate) fn take(&mut self, reading: &Reading, own: bool, is_paced: bool) {
        self.received += 1;
        if is_paced && !own {
            let micros = clock::unix_micros().saturating_sub(reading.at);
            self.micros.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn outcome(mut self) -> Outcome {
        self.micros.sort_unstable();
        let at = |share: f64| {
            let index = (self.micros.len() as f64 * share) as usize;
            let index = index.min(self.micros.len().saturating_sub(1));
            self.micros.get(index).copied().unwrap_or(0).into()
        };
        Outcome {
            received: self.received,
            p50_micros: at(0.5),
            p99_micros: at(0.99),
        }
    }
}

/// Lets so many events a second pass, a few each millisecond.
pub(crate) struct Pace {
    ticks: Option<tokio::time::Interval>,
    rate: u64,
    /// Thousandths of events that may pass now.
    due: u64,
}

impl Pace {
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self {
            ticks: rate.map(|_| tokio::time::interval(Duration::from_millis(1))),
            rate: rate.unwrap_or(0),
            due: 0,
        }
    }

    pub(crate) async fn next(&mut self) {
        let Some(ticks) = &mut self.ticks else {
            return;
        };
        while self.due < 1000 {
            ticks.tick().await;
            self.due += self.rate;
        }
        self.due -= 1000;
    }
}

/// The parent's side of the conversation, from here.
pub(crate) fn ready() -> Result<()> {
    say("ready")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line.trim_end() != "go" {
        bail!("expected to go, not {line:?}");
    }
    Ok(())
}

fn say(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}")?;
    output.flush()?;
    Ok(())
}

pub(crate) fn main(role: &BusNode) -> Result<()> {
    let arguments: NodeArguments = serde_json::from_str(&role.arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let run = async {
            match arguments.transport {
                Transport::Plain => plain::run(&arguments).await,
                _ => ours::run(&arguments).await,
            }
        };
        tokio::time::timeout(DEADLINE, run).await?
    })
}

/// Says how it went, and waits until the parent has read what this process has spent.
pub(crate) fn done(outcome: &Outcome) -> Result<()> {
    say(&serde_json::to_string(outcome)?)?;
    let mut line = String::new();
    // The parent ends this process.
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(())
}
