//! Scenarios in another language: a script is given the scenario's name and the server's address, and ends with success.
//!
//! A script that wants the server restarted prints `restart` and reads one line, which it gets when that is done. What it
//! prints otherwise is shown when it fails.

use std::process::Command;
use std::time::Duration;

use testkit::{Ending, Program, ServerUnderTest};

/// How long a scenario may take. The longest send ten thousand messages, on a machine that does other things too.
const SCENARIO_TIME_MAX: Duration = Duration::from_secs(90);

/// The scenario in which the script asks for a restart.
const RESTARTING: &str = "reconnect";

/// Runs the script to its end, and panics unless it ended well.
pub(super) fn play(mut command: Command, scenario: &str, server: &mut ServerUnderTest) {
    command.args([scenario, &server.url()]);
    let mut script = Program::spawn(&mut command)
        .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));

    if scenario == RESTARTING {
        match script.wait_for("restart", SCENARIO_TIME_MAX) {
            Ok(_) => server.restart(),
            // Its exit code and output, below, tell why.
            Err(Ending::Ended) => {}
            Err(Ending::RunsOn) => panic!("no request to restart:\n{}", script.output()),
        }
        // Fails when the script has ended, which the exit code tells better.
        let _ = script.send_line("restarted");
    }

    let status = script.wait_for_exit(SCENARIO_TIME_MAX);
    let output = script.output();
    match status {
        Some(status) if status.success() => {}
        Some(status) => panic!("{scenario} failed with {status}:\n{output}"),
        None => panic!(
            "{scenario} did not end; it wrote:\n{output}\nthe server:\n{}",
            server.log()
        ),
    }
}
