//! The daemon: reads its command line, runs one server, and obeys signals as nats-server does.
#![forbid(unsafe_code)]

mod flags;
mod pid_file;
mod run;

use std::io::Write;
use std::process::ExitCode;

use flags::Invocation;

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
        Ok(Invocation::Help) => print(&flags::usage()),
        Ok(Invocation::Version) => {
            print(concat!("natterjackd: v", env!("CARGO_PKG_VERSION"), "\n"))
        }
        Ok(Invocation::Run(flags)) => run::run(*flags),
        Err(error) => {
            let usage = if error.wants_usage() {
                flags::usage()
            } else {
                String::new()
            };
            // nats-server exits with 0 here, which makes a mistyped unit file look like a success.
            complain(&format!("natterjackd: {error}\n{usage}"));
            ExitCode::FAILURE
        }
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
