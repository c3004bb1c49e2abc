//! `natterjack check`: says everything that is wrong with a configuration file, of a server or of an event bus, without
//! starting one.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use natterjack_bus::settings::Problems;
use natterjack_server::configuration::flags::{self, Action};
use natterjack_server::configuration::{Configuration, Flags};

use super::bus::given::Given;
use crate::output::Output;

/// Check a configuration file, of a server or of an event bus, and show what is in force
#[derive(clap::Args)]
#[command(
    after_help = "Exits with 1 if there are errors or warnings, as natterjackd -t does.\n\n\
    Examples:\n  natterjack check nats.conf\n  \
    natterjack check nats.conf --explain\n  \
    natterjack check nats.conf --explain -- -p 4333 -D\n  \
    natterjack check --bus /etc/bindplane/config.yaml --explain\n  \
    natterjack check --bus bus.yaml -- --nats-server-client-port 4333"
)]
pub(crate) struct Arguments {
    /// The configuration file; with --bus, by default the one that `natterjack bus` reads
    #[arg(required_unless_present = "bus")]
    file: Option<PathBuf>,
    /// Check the settings of an event bus, as `natterjack bus` reads them: the file, the environment, and flags
    #[arg(long)]
    bus: bool,
    /// Print the configuration in force, each line with where its value comes from; secrets are masked
    #[arg(long)]
    explain: bool,
    /// Flags of natterjackd, or with --bus of `natterjack bus`, which go before what the file says
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.bus {
        return check_bus(arguments).await;
    }
    let file = arguments.file.unwrap_or_default();
    let flags = read_flags(arguments.flags)?;
    let loaded = Configuration::load(Some(&file), &flags, &natterjack_conf::ProcessEnvironment);
    let mut report = String::new();
    for diagnostic in &loaded.diagnostics {
        report.push_str(&loaded.render(diagnostic));
        report.push('\n');
    }
    let (errors, warnings) = (loaded.errors().count(), loaded.warnings().count());
    let file = file.display();
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

/// The same for the settings of a bus.
async fn check_bus(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let given = match Given::from_flags(arguments.flags) {
        Ok(given) => given.with_config(arguments.file),
        Err(error) => {
            // Nobody may be reading it.
            let _ = error.print();
            return Ok(ExitCode::from(2));
        }
    };
    let (loaded, problems) = match given.load() {
        Ok(loaded) => {
            let warnings = loaded.warnings.clone();
            (Some(loaded), warnings)
        }
        Err(Problems(problems)) => (None, problems),
    };
    let mut report = String::new();
    for problem in &problems {
        report.push_str(&format!("{problem}\n"));
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    report.push_str(&match (errors, warnings) {
        (0, 0) => "the settings are valid\n".to_owned(),
        (0, warnings) => format!("the settings have {}\n", counted(warnings, "warning")),
        (errors, 0) => format!("the settings have {}\n", counted(errors, "error")),
        (errors, warnings) => format!(
            "the settings have {} and {}\n",
            counted(errors, "error"),
            counted(warnings, "warning")
        ),
    });
    let _ = std::io::stderr().write_all(report.as_bytes());
    if let Some(loaded) = loaded.filter(|_| arguments.explain) {
        let mut output = Output::start();
        output.write(loaded.explain().into_bytes()).await?;
        output.finish().await?;
    }
    Ok(if problems.is_empty() {
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
