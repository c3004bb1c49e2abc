//! The order of things: which cells, which server when, and what becomes of the results.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::arguments::{Compare, Which};
use crate::cells::{CELLS, Cell, Load, Measure};
use crate::certificates::Certificates;
use crate::generator::Sample;
use crate::machine::{self, Machine};
use crate::record::{CellRecord, Failure, Record};
use crate::servers::{self, Formation, Program, Server};
use crate::{chart, check, clock, report};

/// Files one process may need: the idle connections and some room.
const FILES_MIN: u64 = 6_000;

/// How much of a run to do.
struct Mode {
    name: &'static str,
    work_divisor: u64,
    rounds: u32,
    settle_milliseconds: u64,
}

const FULL: Mode = Mode {
    name: "full",
    work_divisor: 1,
    rounds: 5,
    settle_milliseconds: 3000,
};
const QUICK: Mode = Mode {
    name: "quick",
    work_divisor: 5,
    rounds: 3,
    settle_milliseconds: 1000,
};
const SMOKE: Mode = Mode {
    name: "smoke",
    work_divisor: 50,
    rounds: 1,
    settle_milliseconds: 100,
};

/// Compares the servers and reports. Returns whether every run succeeded and, with `--check`, every
/// bound is met.
pub(crate) fn main(compare: &Compare) -> Result<bool> {
    let cells = select(&compare.only)?;
    if compare.list {
        return list(&cells).map(|()| true);
    }
    let programs = programs(compare)?;
    raise_file_limit()?;
    let certificates = Certificates::make()?;
    let mode = match (compare.quick, compare.smoke) {
        (true, _) => QUICK,
        (_, true) => SMOKE,
        _ => FULL,
    };
    let rounds = compare.rounds.unwrap_or(mode.rounds);
    let mut record = Record {
        date: clock::date_utc(clock::unix_seconds()),
        command: command(),
        mode: mode.name,
        rounds,
        machine: Machine::this(),
        nats_server_version: version_of(&programs, Program::NatsServer)?,
        natterjackd_version: version_of(&programs, Program::Natterjackd)?,
        rustc_version: machine::compiler(),
        commit: machine::commit(),
        geometric_mean: None,
        cells: cells
            .iter()
            .map(|cell| CellRecord::new(cell, work_of(cell, &mode, compare.scale)))
            .collect(),
    };
    for round in 0..rounds {
        for cell in &mut record.cells {
            run_cell(
                cell,
                round,
                &programs,
                &certificates,
                mode.settle_milliseconds,
            )?;
        }
    }
    for cell in &mut record.cells {
        cell.conclude();
    }
    record.conclude();

    let text = report::markdown(&record);
    write!(std::io::stdout(), "{text}")?;
    let is_whole =
        mode.work_divisor == 1 && compare.only.is_empty() && compare.server == Which::Both;
    let default_directory = is_whole.then(|| PathBuf::from("bench/results"));
    if let Some(directory) = compare.out.clone().or(default_directory) {
        write_files(&directory, &record, &text)?;
    }
    let is_complete = record.cells.iter().all(|cell| cell.failures.is_empty());
    let is_good = !compare.check || check::bounds(&record).iter().all(|bound| bound.is_met);
    Ok(is_complete && is_good)
}

/// The command as somebody else would type it: paths are relative to the working copy, and of those
/// outside of it only the file name remains.
fn command() -> String {
    let here = env::current_dir().unwrap_or_default();
    let arguments = env::args().skip(1).map(|argument| {
        let path = Path::new(&argument);
        match (
            path.is_absolute(),
            path.strip_prefix(&here),
            path.file_name(),
        ) {
            (true, Ok(relative), _) => relative.display().to_string(),
            (true, _, Some(name)) => name.display().to_string(),
            _ => argument,
        }
    });
    let program = "cargo run --release -p natterjack-bench --".to_owned();
    [program]
        .into_iter()
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

fn select(only: &[String]) -> Result<Vec<&'static Cell>> {
    let is_wanted =
        |cell: &&Cell| only.is_empty() || only.iter().any(|part| cell.name.contains(part.as_str()));
    let cells: Vec<_> = CELLS.iter().filter(is_wanted).collect();
    ensure!(
        !cells.is_empty(),
        "no cell has such a name; --list shows them"
    );
    Ok(cells)
}

fn list(cells: &[&Cell]) -> Result<()> {
    for cell in cells {
        writeln!(std::io::stdout(), "{:<22} {}", cell.name, cell.title)?;
    }
    Ok(())
}

/// The programs to compare and their executables, and this executable as the copying process.
fn programs(compare: &Compare) -> Result<Vec<(Program, PathBuf)>> {
    let mut programs = Vec::new();
    if compare.server != Which::Natterjackd {
        let path = compare
            .nats_server
            .clone()
            .context("--nats-server PATH is missing")?;
        programs.push((Program::NatsServer, path));
    }
    if compare.server != Which::NatsServer {
        let path = compare
            .natterjackd
            .clone()
            .context("--natterjackd PATH is missing")?;
        programs.push((Program::Natterjackd, path));
    }
    programs.push((
        Program::Copy,
        env::current_exe().context("finding this executable")?,
    ));
    Ok(programs)
}

fn version_of(programs: &[(Program, PathBuf)], program: Program) -> Result<String> {
    programs
        .iter()
        .find(|(other, _)| *other == program)
        .map_or_else(|| Ok(String::new()), |(_, path)| servers::version(path))
}

/// Children inherit the limit, so this serves servers and generators too.
fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .context("raising the limit of open files")?;
    if let Some(files) = limit.maximum {
        ensure!(
            files >= FILES_MIN,
            "at most {files} open files; {FILES_MIN} are needed"
        );
    }
    Ok(())
}

fn work_of(cell: &Cell, mode: &Mode, scale: f64) -> u64 {
    let work = match cell.load {
        // Memory for each connection means something only with many; opening them is quick.
        Load::IdleConnections | Load::Joining { .. } if mode.rounds > 1 => return cell.work,
        Load::IdleConnections
        | Load::IdleServer
        | Load::ConnectRate
        | Load::Joining { .. }
        | Load::Beside { .. }
        | Load::Watched { .. } => cell.work / mode.work_divisor,
        _ => ((cell.work / mode.work_divisor) as f64 * scale) as u64,
    };
    work.max(1)
}

/// Runs one cell on each program, in an order that changes from round to round, so that neither always
/// comes first.
fn run_cell(
    record: &mut CellRecord,
    round: u32,
    programs: &[(Program, PathBuf)],
    certificates: &Certificates,
    settle_milliseconds: u64,
) -> Result<()> {
    let mut order = lineup(record.cell, programs);
    if !round.is_multiple_of(2) {
        order.reverse();
    }
    for program in order {
        // A load that failed once would fail again, after the same long wait.
        if record
            .failures
            .iter()
            .any(|failure| failure.program == program)
        {
            continue;
        }
        let outcome = run_once(record, program, programs, certificates, settle_milliseconds);
        match outcome {
            Ok(sample) => {
                progress(record, round, program, &sample)?;
                record.add(program, sample);
            }
            Err(error) => {
                let text = format!(
                    "{} on {}, round {}: {error:#}",
                    record.cell.name,
                    program.name(),
                    round + 1
                );
                writeln!(std::io::stderr(), "{text}")?;
                record.failures.push(Failure { program, text });
            }
        }
    }
    Ok(())
}

/// What runs in a cell.
fn lineup(cell: &Cell, programs: &[(Program, PathBuf)]) -> Vec<Program> {
    let mut lineup: Vec<_> = (programs.iter().map(|(program, _)| *program))
        .filter(|program| (*program == Program::Copy) == (cell.measure() == Measure::Floor))
        .collect();
    if cell.nodes > 1 && lineup.len() > 1 {
        lineup.extend([Program::OursFirst, Program::TheirsFirst]);
    }
    lineup
}

/// Fresh servers, a generator, one sample.
fn run_once(
    record: &CellRecord,
    program: Program,
    programs: &[(Program, PathBuf)],
    certificates: &Certificates,
    settle_milliseconds: u64,
) -> Result<Sample> {
    let cell = record.cell;
    let executable = |wanted: Program| {
        let known = programs.iter().find(|(program, _)| *program == wanted);
        let (_, path) = known.with_context(|| format!("no {}", wanted.name()))?;
        Ok(path.clone())
    };
    let joins = cell.measure() == Measure::Joining;
    let servers = if cell.nodes > 1 {
        let nodes = if joins { cell.nodes - 1 } else { cell.nodes };
        let settings = certificates.route_settings(cell.routes);
        let formation = Formation {
            nodes,
            settings: &settings,
        };
        Server::start_cluster(program, executable, formation)?
    } else {
        let mut flags = certificates.server_flags(cell.encryption);
        if cell.measure() == Measure::Watched {
            flags.extend(["-m".into(), "-1".into()]);
        }
        let server = Server::start(program, &executable(program)?, flags, None)?;
        vec![server]
    };
    let mut command = Command::new(env::current_exe()?);
    command.args(["generate", "--cell", cell.name]);
    for server in &servers {
        command.args(["--address", &server.address().to_string()]);
        command.args(["--server-process", &server.process().to_string()]);
    }
    if let Some(address) = servers.first().and_then(Server::route_address) {
        command.args(["--route-address", &address.to_string()]);
    }
    if let Some(address) = servers.first().and_then(Server::monitoring_address) {
        command.args(["--monitoring-address", &address.to_string()]);
    }
    if joins {
        let joiner = executable(program.at(cell.nodes - 1))?;
        command.arg("--joiner").arg(joiner);
    }
    let output = command
        .arg("--certificates")
        .arg(certificates.folder())
        .args(["--work", &record.work.to_string()])
        .args(["--settle-milliseconds", &settle_milliseconds.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("running the generator")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let logs: Vec<_> = servers.iter().map(Server::log).collect();
        bail!("{message}; the server's log ends: {}", logs.join(" || "));
    }
    serde_json::from_slice(&output.stdout).context("reading the sample")
}

fn progress(record: &CellRecord, round: u32, program: Program, sample: &Sample) -> Result<()> {
    let operations = sample.operations as f64;
    let mut line = format!(
        "round {} {:<22} {:<12} {:6.2} s, processor: server {:6.3} s, generator {:6.3} s",
        round + 1,
        record.cell.name,
        program.name(),
        sample.wall_seconds,
        sample.server_processor_seconds,
        sample.generator_processor_seconds,
    );
    if operations > 0.0
        && !matches!(
            record.cell.measure(),
            Measure::Memory | Measure::Joining | Measure::Beside | Measure::Watched
        )
    {
        let rate = report::rate(operations / sample.server_processor_seconds);
        line.push_str(&format!(", {rate} per processor second"));
    }
    if let Some(latency) = sample.latency {
        line.push_str(&format!(
            ", p50 {:.0} p99 {:.0} µs",
            latency.p50_microseconds, latency.p99_microseconds
        ));
    }
    if let Some(joining) = &sample.joining {
        line.push_str(&format!(
            ", joined in {:.0} ms, {:.1} MiB, {:.0} % of the messages meanwhile",
            joining.seconds * 1e3,
            joining.bytes as f64 / 1024.0 / 1024.0,
            joining.throughput_share * 100.0,
        ));
    }
    if let Some(beside) = &sample.beside {
        let fate = if beside.is_slow_dropped {
            "dropped"
        } else {
            "kept"
        };
        line.push_str(&format!(
            ", {:.0} % of the messages on time, {:.1} ms without any, slow one {:.1} MB/s and {fate}",
            beside.throughput_share * 100.0,
            beside.gap_milliseconds,
            beside.slow_bytes_per_second / 1e6,
        ));
    }
    if let Some(watched) = &sample.watched {
        line.push_str(&format!(
            ", {:.1} % of the throughput at {:.1} pages a second, {:.1} ms without any message, {:.1} ms alone",
            watched.throughput_share * 100.0,
            watched.pages_per_second,
            watched.gap_milliseconds,
            watched.gap_alone_milliseconds,
        ));
    }
    if let Some(bytes) = sample.memory_bytes {
        line.push_str(&format!(", {:.1} KiB", bytes / 1024.0));
    }
    writeln!(std::io::stderr(), "{line}").context("showing progress")
}

fn write_files(directory: &Path, record: &Record, text: &str) -> Result<()> {
    let write = |name: &str, content: &str| {
        let path = directory.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
    };
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    write("results.md", text)?;
    write(
        "results.json",
        &(serde_json::to_string_pretty(record)? + "\n"),
    )?;
    write("results.svg", &chart::svg(record))?;
    writeln!(std::io::stderr(), "written to {}", directory.display())?;
    Ok(())
}
