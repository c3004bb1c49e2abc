//! `-t`: whether a configuration can be used, without using it.

use std::process::ExitCode;

use natterjack_server::configuration::flags::CommandLine;

use crate::settings::{self, Problems};
use crate::{complain, configuration_name};

/// Tells everything there is to tell about a configuration, on standard error like nats-server. As there, one with
/// warnings does not pass; our own advice has no consequence.
pub(crate) fn run(line: &CommandLine) -> ExitCode {
    let (problems, digest) = match settings::load(line) {
        Ok(settings) => {
            let digest = settings.file().map(|(_, digest)| digest.to_owned());
            (settings.problems(), digest)
        }
        Err(problems) => return refuse(line, &problems),
    };
    if problems.has_warnings {
        return refuse(line, &problems);
    }
    complain(&format!(
        "{}natterjackd: {} is valid ({})\n",
        problems.text,
        configuration_name(line),
        digest.unwrap_or_default()
    ));
    ExitCode::SUCCESS
}

/// Tells what is wrong.
pub(crate) fn refuse(line: &CommandLine, problems: &Problems) -> ExitCode {
    complain(&format!(
        "{}natterjackd: {} is not valid: {}\n",
        problems.text,
        configuration_name(line),
        problems.summary
    ));
    ExitCode::FAILURE
}
