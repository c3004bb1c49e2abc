//! nats-server and natterjackd under the same load, side by side.
//!
//! One executable, three roles. The *runner* starts a server, starts a *generator* (this executable
//! again, so that the two never share a process), collects what it measured and writes the report. The
//! third role is the *copy*: a process that only moves bytes from one socket to another, the floor
//! under every server. With `--bus` it is the event bus that is measured, beside a program without it. `bench/README.md` explains the method; `cells.rs` is the list of what is
//! measured.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod arguments;
mod bus;
mod cells;
mod certificates;
mod chart;
mod check;
mod clock;
mod copy;
mod generator;
mod machine;
mod process;
mod record;
mod report;
mod runner;
mod servers;
mod statistics;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Role};

/// Runs the program: parses the arguments, plays the role they name, and turns the outcome into an exit
/// code: 0 done, 1 a run failed or `--check` found a bound missed, 2 unusable arguments.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.role {
        Some(Role::Generate(generate)) => generator::main(&generate).map(|()| true),
        Some(Role::Copy(_)) => copy::main().map(|()| true),
        Some(Role::BusNode(node)) => bus::node_main(&node).map(|()| true),
        None if arguments.compare.bus => bus::main(&arguments.compare),
        None => runner::main(&arguments.compare),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "natterjack-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
