//! The event bus beside what one would write without it: async-nats and nats-server, which do the same.
//!
//! The same: every node publishes typed values as CloudEvents (attributes as headers, JSON as payload), gets every node's
//! events, its own included, decodes them, and has at most 4,096 of its own on their way. Nodes are processes of their own (this
//! executable again). The figure is **processor time per event**: of all processes, nodes and servers, divided by the
//! events published. With several nodes each event is decoded at each. What is waited for is that every node has every
//! event; one too few or too many is an error.

mod node;
mod ours;
mod plain;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

pub(crate) use self::node::{BusNode, main as node_main};
use self::node::{NodeArguments, Outcome, Transport};
use crate::arguments::Compare;
use crate::clock;
use crate::machine;
use crate::process::processor_time;
use crate::servers::{Program, Server};
use crate::statistics::summarise;

/// Events of a full run, published by all nodes of a cell together.
const EVENTS: u64 = 600_000;

/// Events a second where latency is measured, and for how long.
const PACE: u64 = 10_000;
const PACED_SECONDS: u64 = 5;

struct Cell {
    name: &'static str,
    ours: Transport,
    nodes: u64,
    is_paced: bool,
    /// How many times less processor time than the plain program it must take, at least.
    ratio_min: Option<f64>,
}

const CELLS: &[Cell] = &[
    Cell {
        name: "local, one node",
        ours: Transport::Local,
        nodes: 1,
        is_paced: false,
        ratio_min: None,
    },
    Cell {
        name: "inproc:, one node",
        ours: Transport::InProcess,
        nodes: 1,
        is_paced: false,
        ratio_min: Some(3.0),
    },
    Cell {
        name: "loopback, one node",
        ours: Transport::Loopback,
        nodes: 1,
        is_paced: false,
        ratio_min: Some(1.5),
    },
    Cell {
        name: "inproc:, three nodes",
        ours: Transport::InProcess,
        nodes: 3,
        is_paced: false,
        ratio_min: Some(3.0),
    },
    Cell {
        name: "loopback, three nodes",
        ours: Transport::Loopback,
        nodes: 3,
        is_paced: false,
        ratio_min: Some(1.5),
    },
    Cell {
        name: "inproc:, three nodes, 10,000 events/s",
        ours: Transport::InProcess,
        nodes: 3,
        is_paced: true,
        ratio_min: None,
    },
    Cell {
        name: "loopback, three nodes, 10,000 events/s",
        ours: Transport::Loopback,
        nodes: 3,
        is_paced: true,
        ratio_min: None,
    },
];

/// What the 99th percentile of the latency between nodes must stay below.
const LATENCY_MAX: Duration = Duration::from_millis(1);

/// One run of one program.
struct Run {
    /// Microseconds of processor time per published event.
    cost: f64,
    /// Published events a second, on the wall clock.
    rate: f64,
    p50: Duration,
    p99: Duration,
}

/// Runs the comparison and prints it. Answers whether all bounds hold, or nobody asked.
pub(crate) fn main(compare: &Compare) -> Result<bool> {
    let nats_server = compare
        .nats_server
        .as_deref()
        .context("name the nats-server executable with --nats-server")?;
    let divisor = if compare.smoke {
        50
    } else if compare.quick {
        5
    } else {
        1
    };
    let default_rounds = if compare.smoke { 1 } else { 3 };
    let rounds = compare.rounds.unwrap_or(default_rounds);
    let mut table = Table::new();
    let wanted = |name: &str| {
        compare.only.is_empty() || compare.only.iter().any(|part| name.contains(part.as_str()))
    };
    let mut holds = true;
    for cell in CELLS.iter().filter(|cell| wanted(cell.name)) {
        let events = if cell.is_paced {
            PACE * PACED_SECONDS / divisor.min(5)
        } else {
            EVENTS / divisor
        } / cell.nodes;
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            plain.push(run(cell, Transport::Plain, events, nats_server)?);
            ours.push(run(cell, cell.ours, events, nats_server)?);
        }
        holds &= table.row(cell, &ours, &plain);
    }
    let text = table.text();
    let _ = write!(std::io::stdout(), "{text}");
    if let Some(folder) = &compare.out {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("bus.md"), text)?;
    }
    Ok(holds || !compare.check)
}

fn run(cell: &Cell, transport: Transport, events: u64, nats_server: &Path) -> Result<Run> {
    let servers = if transport == Transport::Plain {
        Server::start_cluster(
            Program::NatsServer,
            |_| Ok(nats_server.to_owned()),
            cell.nodes as usize,
        )?
    } else {
        Vec::new()
    };
    let ports = free_ports(cell.nodes)?;
    let mut nodes = Vec::new();
    for number in 0..cell.nodes {
        let server = servers
            .get(number as usize)
            .map(|server| server.address().to_string());
        let rate = cell.is_paced.then_some(PACE / cell.nodes);
        nodes.push(Node::start(&NodeArguments {
            transport,
            number,
            nodes: cell.nodes,
            events,
            rate,
            server,
            route_ports: ports.clone(),
        })?);
    }
    for node in &mut nodes {
        node.expect("ready")?;
    }
    let mut processes: Vec<u32> = nodes.iter().map(|node| node.child.id()).collect();
    processes.extend(servers.iter().map(Server::process));
    let spent = || -> Result<Duration> {
        let each = processes.iter().map(|process| processor_time(*process));
        each.sum()
    };
    let (before, start) = (spent()?, clock::now());
    for node in &mut nodes {
        node.say("go")?;
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    for node in &mut nodes {
        let line = node.line()?;
        outcomes.push(serde_json::from_str(&line).with_context(|| format!("a node says {line}"))?);
    }
    let (wall, after) = (start.elapsed(), spent()?);
    let all = events * cell.nodes;
    for outcome in &outcomes {
        if outcome.received != all {
            bail!(
                "{}: {} of {all} events arrived",
                cell.name,
                outcome.received
            );
        }
    }
    let micros = |pick: fn(&Outcome) -> u64| {
        let worst = outcomes.iter().map(pick).max();
        Duration::from_micros(worst.unwrap_or(0))
    };
    Ok(Run {
        cost: (after - before).as_secs_f64() * 1e6 / all as f64,
        rate: all as f64 / wall.as_secs_f64(),
        p50: micros(|outcome| outcome.p50_micros),
        p99: micros(|outcome| outcome.p99_micros),
    })
}

/// Ports that nobody listens at now.
fn free_ports(count: u64) -> Result<Vec<u16>> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let ports = listeners.iter().map(|listener| listener.local_addr());
    ports.map(|address| Ok(address?.port())).collect()
}

/// A node's process; killed when dropped.
struct Node {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Node {
    fn start(arguments: &NodeArguments) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("bus-node")
            .arg(serde_json::to_string(arguments)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a node")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Self {
            input: input.context("its input is not piped")?,
            output: BufReader::new(output.context("its output is not piped")?),
            child,
        })
    }

    fn say(&mut self, word: &str) -> Result<()> {
        writeln!(self.input, "{word}").context("a node does not listen")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("a node has ended");
        }
        Ok(line.trim_end().to_owned())
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let line = self.line()?;
        if line != word {
            bail!("a node says {line} instead of {word}");
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Table {
    lines: Vec<String>,
}

impl Table {
    fn new() -> Self {
        let head = format!(
            "# The event bus, and async-nats with nats-server\n\n{} · commit {} · {}\n\n\
             Medians. µs: processor time of all processes per published event. ×: how many times less of it. Latency: from \
             publishing at one node to having it decoded at another.\n",
            clock::date_utc(clock::unix_seconds()),
            machine::commit(),
            machine::compiler(),
        );
        Self {
            lines: vec![
                head,
                "| cell | bus, µs | plain, µs | × | bus, events/s | plain, events/s | bus p50, p99 | plain p50, p99 | bound |".into(),
                "| --- | --- | --- | --- | --- | --- | --- | --- | --- |".into(),
            ],
        }
    }

    /// Answers whether the cell's bounds hold.
    fn row(&mut self, cell: &Cell, ours: &[Run], plain: &[Run]) -> bool {
        let median = |runs: &[Run], figure: fn(&Run) -> f64| {
            summarise(runs.iter().map(figure)).map_or(f64::NAN, |summary| summary.median)
        };
        let latency = |runs: &[Run]| {
            let micros = |figure: fn(&Run) -> f64| median(runs, figure);
            let p50 = micros(|run| run.p50.as_secs_f64() * 1e6);
            let p99 = micros(|run| run.p99.as_secs_f64() * 1e6);
            (p50, p99)
        };
        let (cost, plain_cost) = (median(ours, |run| run.cost), median(plain, |run| run.cost));
        let ratio = plain_cost / cost;
        let (p50, p99) = latency(ours);
        let (plain_p50, plain_p99) = latency(plain);
        let latency_max = LATENCY_MAX.as_secs_f64() * 1e6;
        let (bound, holds) = match cell.ratio_min {
            _ if cell.is_paced => (format!("p99 < {latency_max:.0} µs"), p99 < latency_max),
            Some(min) => (format!("≥ {min}×"), ratio >= min),
            None => (String::new(), true),
        };
        let shown = |p50: f64, p99: f64| {
            if cell.is_paced {
                format!("{p50:.0} µs, {p99:.0} µs")
            } else {
                String::new()
            }
        };
        self.lines.push(format!(
            "| {} | {cost:.2} | {plain_cost:.2} | {ratio:.1} | {:.0} | {:.0} | {} | {} | {bound}{} |",
            cell.name,
            median(ours, |run| run.rate),
            median(plain, |run| run.rate),
            shown(p50, p99),
            shown(plain_p50, plain_p99),
            match (bound.is_empty(), holds) {
                (true, _) => "",
                (_, true) => ", met",
                (_, false) => ", **missed**",
            },
        ));
        holds
    }

    fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }
}
