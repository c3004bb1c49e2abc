//! The daemon: reads its command line and configuration, runs one server, and obeys signals as nats-server does.
#![forbid(unsafe_code)]

mod run;

mod check;
mod reload;
mod settings;
mod signal_command;
mod signals;
mod state;
mod systemd;
mod watchdog;

mod files;
mod pid_file;
mod ports_file;
mod processes;

use std::io::Write;
use std::process::ExitCode;

use natterjack_server::configuration::flags::{self, Action, CommandLine};

fn main() -> ExitCode {
    let arguments = std::env::args_os()
        .skip(1)
        .map(std::ffi::OsString::into_string);
    let arguments: Vec<_> = match arguments.collect() {
        Ok(arguments) => arguments,
        Err(argument) => {
            complain(&format!(
                "natterjackd: argument {argument:?} is not UTF-8\n"
            ));
            return ExitCode::FAILURE;
        }
    };
    match flags::parse(arguments) {
        Ok(line) => obey(line),
        Err(error) => {
            // nats-server exits with 0 after a wrong flag, which makes a mistyped unit file look like a success, and
            // prints its whole usage, which makes what was wrong scroll away.
            let advice = if error.wants_usage() {
                "natterjackd --help lists all flags\n"
            } else {
                ""
            };
            complain(&format!("natterjackd: {error}\n{advice}"));
            ExitCode::FAILURE
        }
    }
}

fn obey(line: CommandLine) -> ExitCode {
    match line.action {
        Action::Help => print(&usage()),
        Action::TlsHelp => print(TLS_HELP),
        Action::Version => print(concat!("natterjackd: v", env!("CARGO_PKG_VERSION"), "\n")),
        Action::Run => {
            if let Some(signal) = &line.signal {
                return match signal_command::obey(signal) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => {
                        complain(&format!("natterjackd: {error}\n"));
                        ExitCode::FAILURE
                    }
                };
            }
            if line.test {
                return check::run(&line);
            }
            run::run(line)
        }
    }
}

fn usage() -> String {
    format!(
        "\nUsage: natterjackd [flags]\n\nA NATS server. Flags take one dash or two, and go before what the configuration \
         file says.\n{}\nSignals\n  \
         INT and TERM stop it, HUP reads the configuration anew, USR1 opens the log file anew,\n  \
         USR2 lets clients leave first (lame duck), QUIT logs what it is doing and ends it with exit code 2.\n",
        flags::usage()
    )
}

const TLS_HELP: &str = "
TLS is configured in the block tls of the configuration file:

    tls {
        cert_file: \"./certs/server.pem\"    # the server's certificate, then those that signed it
        key_file:  \"./certs/server.key\"    # its private key
        ca_file:   \"./certs/ca.pem\"        # who signs the clients' certificates
        verify:    true                    # clients must show one
    }

or, for the same, by the flags --tlsverify --tlscert, --tlskey and --tlscacert; --tls alone does not ask clients for a
certificate. docs/options.md has all options of the block, among them cipher_suites, curve_preferences and min_version.
";

/// What a message calls the configuration.
fn configuration_name(line: &CommandLine) -> String {
    match &line.config {
        Some(path) => format!("configuration file {}", path.display()),
        None => "the command line".into(),
    }
}

/// A reader that has gone away, as in `natterjackd --help | head -1`, is no failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
