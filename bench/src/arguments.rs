//! The command line, for people and for the program itself (the hidden roles).

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bus::BusNode;

/// Compares nats-server and natterjackd under the same load.
#[derive(Debug, Parser)]
#[command(
    name = "natterjack-bench",
    version,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Arguments {
    /// What this process is; a person gives none.
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    /// What a person asks for.
    #[command(flatten)]
    pub(crate) compare: Compare,
}

/// Roles the runner starts this executable in.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Drive one server through one cell and print what was measured as JSON.
    #[command(hide = true)]
    Generate(Generate),
    /// Copy one socket to another until it closes: the floor.
    #[command(hide = true)]
    Copy(ServerFlags),
    /// Be a node of an event bus, or of what does without one.
    #[command(hide = true)]
    BusNode(BusNode),
}

/// The flags every server is started with.
#[derive(Debug, Args)]
pub(crate) struct ServerFlags {
    /// Address to listen on.
    #[arg(short = 'a')]
    address: Option<String>,
    /// Port to listen on.
    #[arg(short = 'p', allow_negative_numbers = true)]
    port: Option<i32>,
}

/// What the generator needs to know.
#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// Name of the cell, as in the table of cells.
    #[arg(long)]
    pub(crate) cell: String,
    /// Where each server listens.
    #[arg(long)]
    pub(crate) address: Vec<SocketAddr>,
    /// Processes whose processor time and memory are measured.
    #[arg(long)]
    pub(crate) server_process: Vec<u32>,
    /// Where the first server listens for a server that joins it.
    #[arg(long)]
    pub(crate) route_address: Option<SocketAddr>,
    /// Where the first server answers requests for pages of monitoring.
    #[arg(long)]
    pub(crate) monitoring_address: Option<SocketAddr>,
    /// The executable of the server that joins.
    #[arg(long)]
    pub(crate) joiner: Option<PathBuf>,
    /// Folder with the certificates of this run.
    #[arg(long)]
    pub(crate) certificates: PathBuf,
    /// How much to do, in the cell's unit of work.
    #[arg(long)]
    pub(crate) work: u64,
    /// How long a server is left alone before its memory is read, in milliseconds.
    #[arg(long)]
    pub(crate) settle_milliseconds: u64,
}

/// The comparison a person asks for.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The nats-server executable.
    #[arg(long, value_name = "PATH", env = "NATS_SERVER")]
    pub(crate) nats_server: Option<PathBuf>,
    /// The natterjackd executable.
    #[arg(long, value_name = "PATH", env = "NATTERJACKD")]
    pub(crate) natterjackd: Option<PathBuf>,
    /// Which servers to run.
    #[arg(long, value_enum, default_value_t = Which::Both)]
    pub(crate) server: Which,
    /// A fifth of the work, three rounds: the whole table in under two minutes.
    #[arg(long, conflicts_with = "smoke")]
    pub(crate) quick: bool,
    /// A fiftieth of the work, one round: shows that everything runs, measures nothing.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Only the cells whose name contains one of these, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// How many times each cell runs on each server; the median is reported.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: Option<u32>,
    /// Multiplies the work of every throughput cell, for instance to give a profiler more time.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub(crate) scale: f64,
    /// Where the record goes. Without it a full run of the whole table writes to bench/results, and
    /// any smaller one only prints.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Fail when a bound the project holds itself to is missed.
    #[arg(long)]
    pub(crate) check: bool,
    /// Compare the event bus with async-nats and nats-server instead.
    #[arg(long, conflicts_with_all = ["server", "scale", "list"])]
    pub(crate) bus: bool,
    /// List the cells and stop.
    #[arg(long)]
    pub(crate) list: bool,
}

/// Which servers a run compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// Both, alternating.
    Both,
    /// Only natterjackd.
    Natterjackd,
    /// Only nats-server.
    NatsServer,
}
