//! `natterjack certs`: makes an authority and nodes' certificates for an event bus or a cluster, and says why a
//! certificate would be refused.

mod files;
mod inspect;
mod keys;
mod make;

use std::process::ExitCode;
use std::time::SystemTime;

/// Make certificates for nodes of an event bus, and say why one would be refused
#[derive(clap::Args)]
#[command(
    after_help = "An authority is made once and kept in a safe place; only ca.crt goes to the nodes. Each node needs \
    ca.crt, nats.crt and nats.key, and these settings:\n  \
    eventBus: { nats: { tls: { enableTLS: true, tlsCert: nats.crt, tlsKey: nats.key, tlsCA: ca.crt } } }\n\n\
    Examples:\n  natterjack certs ca\n  \
    natterjack certs node --host bindplane-0 --host bindplane-1 --host bindplane-2\n  \
    natterjack certs node --each --host bindplane-0 --host bindplane-1\n  \
    natterjack certs inspect nats.crt nats.key --ca ca.crt --host bindplane-0"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Ca(make::AuthorityArguments),
    Node(make::NodeArguments),
    Inspect(inspect::Arguments),
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Ca(arguments) => make::authority(&arguments),
        Command::Node(arguments) => make::node(&arguments),
        Command::Inspect(arguments) => inspect::run(arguments).await,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a certificate is valid is a matter of the calendar"
)]
fn calendar_now() -> SystemTime {
    SystemTime::now()
}
