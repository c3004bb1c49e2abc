//! Plays many seeds, or one: `cargo run -p sim --release -- [--seeds N] [--seed S] [--all]`. The first seed that
//! fails ends it, with the last events and how to run it again; with `--all`, every seed is played and those that
//! fail are listed, a line each.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people and scripts, talking on its standard streams"
)]

use std::process::ExitCode;

use sim::{Report, Scenario, run};

const USAGE: &str = "usage: sim [--seeds N] [--seed S] [--all]\n\
    N seeds (1000) from S (0) on; S alone without N; --all goes on after a failure";
const SEEDS_DEFAULT: u64 = 1000;

fn main() -> ExitCode {
    let Some(Arguments { first, count, all }) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut totals = Totals::default();
    let mut failures = 0;
    for seed in (0..count).map(|index| first.wrapping_add(index)) {
        let scenario = Scenario::of_seed(seed);
        let report = run(seed, &scenario);
        if let Some(failure) = &report.failure {
            failures += 1;
            if !all {
                eprintln!("{report}");
                return ExitCode::FAILURE;
            }
            println!("seed {seed}: {}: {}", failure.property, failure.details);
        }
        if count == 1 {
            println!("{scenario:#?}\n{report}");
        }
        totals.add(&report);
    }
    println!("{count} seeds from {first}: {failures} failed; {totals:?}");
    ExitCode::from(u8::from(failures > 0))
}

struct Arguments {
    first: u64,
    count: u64,
    all: bool,
}

fn arguments() -> Option<Arguments> {
    let (mut seed, mut seeds, mut all) = (None, None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--seed" => &mut seed,
            "--seeds" => &mut seeds,
            "--all" => {
                all = true;
                continue;
            }
            _ => return None,
        };
        *place = Some(arguments.next()?.parse().ok()?);
    }
    let count = seeds.unwrap_or_else(|| if seed.is_some() { 1 } else { SEEDS_DEFAULT });
    Some(Arguments {
        first: seed.unwrap_or(0),
        count,
        all,
    })
}

/// What all runs came to.
#[derive(Debug, Default)]
struct Totals {
    steps: u64,
    publications: u64,
    deliveries: u64,
    connections: u64,
    slow_consumers: u64,
    stalls: u64,
    interleavings: u64,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.steps += report.steps;
        self.publications += report.publications;
        self.deliveries += report.deliveries;
        self.connections += report.connections;
        self.slow_consumers += report.slow_consumers;
        self.stalls += report.stalls;
        self.interleavings += report.interleavings;
    }
}
