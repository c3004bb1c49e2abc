//! The command line: reads the arguments, runs one command, prints its error and chooses the exit code.
#![forbid(unsafe_code)]

mod commands;
mod connection;
mod escape;
mod log_level;
mod message;
mod output;
mod signals;
mod value;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Talk to NATS servers, and run an event bus with a server inside.
#[derive(Parser)]
#[command(
    name = "natterjack",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bus(commands::bus::Arguments),
    Pub(commands::publish::Arguments),
    Sub(commands::subscribe::Arguments),
    Request(commands::request::Arguments),
    Reply(commands::reply::Arguments),
    Bench(commands::bench::Arguments),
    Top(Box<commands::top::Arguments>),
    Check(commands::check::Arguments),
    Certs(commands::certs::Arguments),
    Passwd(commands::passwd::Arguments),
    Nkey(commands::nkey::Arguments),
    Choria(commands::choria::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(format_args!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Bus(arguments) => commands::bus::run(arguments).await,
            Command::Pub(arguments) => commands::publish::run(arguments).await,
            Command::Sub(arguments) => commands::subscribe::run(arguments).await,
            Command::Request(arguments) => commands::request::run(arguments).await,
            Command::Reply(arguments) => commands::reply::run(arguments).await,
            Command::Bench(arguments) => commands::bench::run(arguments).await,
            Command::Top(arguments) => commands::top::run(*arguments).await,
            Command::Check(arguments) => commands::check::run(arguments).await,
            Command::Certs(arguments) => commands::certs::run(arguments).await,
            Command::Passwd(arguments) => commands::passwd::run(arguments).await,
            Command::Nkey(arguments) => commands::nkey::run(arguments).await,
            Command::Choria(arguments) => commands::choria::run(arguments).await,
        }
    });
    // Not waited for: a thread of the runtime may be stuck in a read of the terminal.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(error) if is_closed_output(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(format_args!("{}", in_one(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes. Some libraries' errors name their cause themselves; it is not named again.
fn in_one(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn is_closed_output(error: &anyhow::Error) -> bool {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<output::Failed>()
            .is_some_and(|output::Failed(error)| error.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(broken)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn causes_are_named_once() {
        let error = anyhow::anyhow!("inner")
            .context("middle: inner")
            .context("outer");
        assert_eq!(super::in_one(&error), "outer: middle: inner");
    }

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        super::Arguments::command().debug_assert();
    }
}
