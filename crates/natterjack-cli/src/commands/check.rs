//! `natterjack check`: says everything that is wrong with a configuration file of a server, without starting one.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use natterjack_server::configuration::flags::{self, Action};
use natterjack_server::configuration::{Configuration, Flags};

use crate::output::Output;

/// Check a server's configuration file, and show what is in force
#[derive(clap::Args)]
#[command(
    after_help = "Exits with 1 if there are errors or warnings, as natterjackd -t does.\n\n\
    Examples:\n  natterjack check nats.conf\n  \
    natterjack check nats.conf --explain\n  \
    natterjack check nats.conf --explain -- -p 4333 -D"
)]
pub(crate) struct Arguments {
    /// The configuration file
    file: PathBuf,
    /// Print the configuration in force, each line with where its value comes from; secrets are masked
    #[arg(long)]
    explain: bool,
    /// Flags of natterjackd, which go before what the file says
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let flags = read_flags(arguments.flags)?;
    let loaded = Configuration::load(
        Some(&arguments.file),
        &flags,
        &natterjack_conf::ProcessEnvironment,
    );
    let mut report = String::new();
    for diagnostic in &loaded.diagnostics {
        report.push_str(&loaded.render(diagnostic));
        report.push('\n');
    }
    let (errors, warnings) = (loaded.errors().count(), loaded.warnings().count());
    let file = arguments.file.display();
    let digest = loaded.configuration.digest.as_deref().unwrap_or_default();
    report.push_str(&match (errors, warnings) {
        (0, 0) => format!("{file} is valid ({digest})\n"),
        (0, warnings) => format!("{file} has {} ({digest})\n", counted(warnings, "warning")),
        (errors, 0) => format!("{file} has {}\n", counted(errors, "error")),
        (errors, warnings) => format!(
            "{file} has {} and {}\n",
            counted(errors, "error"),
            counted(warnings, "warning")
        ),
    });
    // Nobody may be reading it.
    let _ = std::io::stderr().write_all(report.as_bytes());
    if arguments.explain && errors == 0 {
        let mut output = Output::start();
        output.write(loaded.explain().into_bytes()).await?;
        output.finish().await?;
    }
    Ok(if errors + warnings == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read_flags(arguments: Vec<String>) -> anyhow::Result<Flags> {
    let line = flags::parse(arguments).context("flags of natterjackd")?;
    if line.action != Action::Run || line.config.is_some() || line.test || line.signal.is_some() {
        bail!("only flags that stand for options can be checked");
    }
    Ok(line.flags)
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
