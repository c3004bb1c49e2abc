//! Running other programs, and telling the reader which one ran and how long it took.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs a program with our own standard streams, after printing its command line.
///
/// # Errors
/// When it cannot be started, or ends with anything but success.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a program to its end and returns what it wrote to standard output. Its errors go to ours.
///
/// # Errors
/// When it cannot be started, fails, or writes something that is not UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` ended with {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` wrote something that is not text", shown(command)))
}

/// The command line as a person would type it, without its directory and environment.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = match program.file_name() {
        // The toolchain's own, by a path that says nothing.
        Some(name) if name == "cargo" => name,
        _ => program.as_os_str(),
    };
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A list of named steps, each announced and timed, that stops at the first failure.
pub(crate) struct Steps {
    finished: Vec<(&'static str, Duration)>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self {
            finished: Vec::new(),
        }
    }

    /// Performs one step. An error carries the step's name.
    pub(crate) fn step(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        println!("\n==== {name}");
        let started = now();
        let outcome = work();
        let taken = started.elapsed();
        self.finished.push((name, taken));
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("==== {name}: {verdict} after {:.1} s", taken.as_secs_f64());
        outcome.with_context(|| format!("the step `{name}` failed"))
    }

    /// One line per step performed, and the sum.
    pub(crate) fn print_summary(&self) {
        println!();
        for (name, taken) in &self.finished {
            println!("{:>8.1} s  {name}", taken.as_secs_f64());
        }
        let total: Duration = self.finished.iter().map(|(_, taken)| *taken).sum();
        println!("{:>8.1} s  in all", total.as_secs_f64());
    }
}

#[expect(clippy::disallowed_methods, reason = "a chore times its own steps")]
fn now() -> Instant {
    Instant::now()
}
