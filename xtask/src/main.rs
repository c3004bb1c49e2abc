//! The project's chores, as one program: `cargo xtask <chore>`. CI runs the same chores a person types.
//!
//! This file owns the list of chores and their arguments; each chore lives in its own file. No chore touches anything
//! outside the checkout and cargo's target directory.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore reports to a terminal"
)]

use std::process::ExitCode;

use anyhow::{Result, bail};

mod ci;

mod test;

mod peers;

mod bench;
mod fuzz;

mod dependencies;
mod source;
mod tidy;
mod walls;

mod run;
mod workspace;

use peers::Peers;
use workspace::Workspace;

const HELP: &str = "\
The chores of this repository.

usage: cargo xtask <chore> [arguments]

  test [--without-peers] [-- ARGS]  prepare the real peers, then run every test; ARGS go to `cargo test`
  ci                                everything a change must pass, `test` included
  peers                             prepare the real peers (nats-server, an old one, nats.py, nats.js, Puppet's server) under
                                   target/peers
  tidy                              the house rules no linter knows
  walls                             which crate may reach which, and what the engine may not name
  dependencies                      licences, banned crates and sources by deny.toml, also without cargo-deny
  fuzz [--seconds N] [--seed S] [TARGET…]
                                   run the fuzz targets for N seconds each (20); the canary must fail
  bench [--quick|--smoke] [ARGS]    build for release and measure side by side with nats-server
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match perform(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: &[String]) -> Result<()> {
    let Some((chore, rest)) = arguments.split_first() else {
        print!("{HELP}");
        return Ok(());
    };
    let workspace = Workspace::find()?;
    match chore.as_str() {
        "test" => test::test(&workspace, rest),
        "ci" => no_arguments(rest).and_then(|()| ci::ci(&workspace)),
        "peers" => no_arguments(rest).and_then(|()| Peers::prepare(&workspace).map(drop)),
        "tidy" => no_arguments(rest).and_then(|()| tidy::tidy(&workspace)),
        "walls" => no_arguments(rest).and_then(|()| walls::walls(&workspace)),
        "dependencies" => no_arguments(rest).and_then(|()| dependencies::dependencies(&workspace)),
        "fuzz" => fuzz::fuzz(&workspace, rest),
        "bench" => bench::bench(&workspace, rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("no chore is called `{other}`; `cargo xtask` lists them"),
    }
}

fn no_arguments(rest: &[String]) -> Result<()> {
    match rest {
        [] => Ok(()),
        [first, ..] => {
            bail!("unexpected argument `{first}`; `cargo xtask` shows what each chore takes")
        }
    }
}
