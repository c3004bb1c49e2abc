//! `natterjack choria`: what a person does with a Choria fleet. A file for each subcommand; `start` is what all begin with.

mod conditions;
mod config;
mod federation;
mod fleet;
mod ping;
mod report;
mod request_cert;
mod rpc;
mod server;
mod start;
mod table;

use std::process::ExitCode;

/// Talk to Choria and MCollective fleets over NATS, with Puppet's certificates
#[derive(clap::Args)]
#[command(
    after_help = "Settings are those of Choria and MCollective, from the first of their usual files that there is: \
    ~/.choriarc, ~/.mcollective, /etc/choria/client.conf and so on. Without any, servers are found through DNS, and \
    certificates are Puppet's.\n\n\
    Examples:\n  natterjack choria request-cert\n  natterjack choria config\n  \
    natterjack choria config --server --config /etc/choria/server.conf --json"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    shared: start::Shared,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Config(config::Arguments),
    Ping(ping::Arguments),
    Rpc(rpc::Arguments),
    Server(server::Arguments),
    RequestCert(request_cert::Arguments),
    Federation(federation::Arguments),
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let shared = arguments.shared;
    match arguments.command {
        Command::Config(arguments) => config::run(&shared, &arguments).await,
        Command::Ping(arguments) => ping::run(&shared, arguments).await,
        Command::Rpc(arguments) => rpc::run(&shared, arguments).await,
        Command::Server(arguments) => server::run(&shared, arguments).await,
        Command::RequestCert(arguments) => request_cert::run(&shared, arguments).await,
        Command::Federation(arguments) => federation::run(&shared, arguments).await,
    }
}
