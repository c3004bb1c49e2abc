//! Plays many seeds, or one: `cargo run -p sim --release -- [--cluster] [--seeds N] [--seed S] [--all]`. The
//! first seed that fails ends it, with the last events and how to run it again; with `--all`, every seed is played and
//! those that fail are listed, a line each. With `--cluster` the game is that of several servers.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people and scripts, talking on its standard streams"
)]

use std::fmt::Debug;
use std::process::ExitCode;
use std::time::Duration;

use sim::{Failure, Report, Scenario, cluster, run};

const USAGE: &str = "usage: sim [--cluster] [--seeds N] [--seed S] [--all]\n\
    N seeds (1000) from S (0) on; S alone without N; --all goes on after a failure;\n\
    --cluster plays several servers instead of one";
const SEEDS_DEFAULT: u64 = 1000;

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if arguments.is_cluster {
        let mut totals = ClusterTotals::default();
        play(&arguments, &mut totals, |seed, totals| {
            let scenario = cluster::Scenario::of_seed(seed);
            let report = cluster::run(seed, &scenario);
            totals.add(&report);
            let text = format!("{scenario:#?}\n{report}");
            (report.to_string(), text, report.failure)
        })
    } else {
        let mut totals = Totals::default();
        play(&arguments, &mut totals, |seed, totals| {
            let scenario = Scenario::of_seed(seed);
            let report = run(seed, &scenario);
            totals.add(&report);
            let text = format!("{scenario:#?}\n{report}");
            (report.to_string(), text, report.failure)
        })
    }
}

/// Plays all seeds that are asked for. `game` returns its report, the same with its scenario, and what went wrong.
fn play<T: Debug>(
    arguments: &Arguments,
    totals: &mut T,
    game: impl Fn(u64, &mut T) -> (String, String, Option<Failure>),
) -> ExitCode {
    let &Arguments {
        first, count, all, ..
    } = arguments;
    let mut failures = 0;
    for seed in (0..count).map(|index| first.wrapping_add(index)) {
        let (report, in_full, failure) = game(seed, totals);
        if count == 1 {
            println!("{in_full}");
        }
        if let Some(failure) = failure {
            failures += 1;
            if !all {
                if count > 1 {
                    eprintln!("{report}");
                }
                return ExitCode::FAILURE;
            }
            println!("seed {seed}: {}: {}", failure.property, failure.details);
        }
    }
    println!("{count} seeds from {first}: {failures} failed; {totals:?}");
    ExitCode::from(u8::from(failures > 0))
}

struct Arguments {
    first: u64,
    count: u64,
    all: bool,
    is_cluster: bool,
}

fn arguments() -> Option<Arguments> {
    let (mut seed, mut seeds) = (None, None);
    let (mut all, mut is_cluster) = (false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--seed" => &mut seed,
            "--seeds" => &mut seeds,
            "--all" => {
                all = true;
                continue;
            }
            "--cluster" => {
                is_cluster = true;
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
        is_cluster,
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

/// What all games of clusters came to.
#[derive(Debug, Default)]
struct ClusterTotals {
    steps: u64,
    publications: u64,
    deliveries: u64,
    confirmed: u64,
    answers: u64,
    crossed: u64,
    routes: u64,
    duplicates: u64,
    stale: u64,
    slow: u64,
    breaks: u64,
    partings: u64,
    deaths: u64,
    reloads: u64,
    moved: u64,
    ducks: u64,
    interleavings: u64,
    healed_in: Duration,
}

impl ClusterTotals {
    fn add(&mut self, report: &cluster::Report) {
        self.steps += report.steps;
        self.publications += report.publications;
        self.deliveries += report.deliveries;
        self.confirmed += report.confirmed;
        self.answers += report.answers;
        self.crossed += report.crossed;
        self.routes += report.routes;
        self.duplicates += report.duplicates;
        self.stale += report.stale;
        self.slow += report.slow;
        self.breaks += report.breaks;
        self.partings += report.partings;
        self.deaths += report.deaths;
        self.reloads += report.reloads;
        self.moved += report.moved;
        self.ducks += report.ducks;
        self.interleavings += report.interleavings;
        self.healed_in = self.healed_in.max(report.healed_in);
    }
}
