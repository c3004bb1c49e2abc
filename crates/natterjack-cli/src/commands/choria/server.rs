//! `natterjack choria server`: a node, which answers until it is told to end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use natterjack_choria::configuration::Role;
use natterjack_choria::node::{NodeBuilder, serve};
use natterjack_cli::service_manager::Notifier;
use tokio::sync::Notify;

use super::{fleet, start};
use crate::output::{note, say};
use crate::signals::Stop;

/// What the connection's end may take after that.
const DISCONNECT_TIME: Duration = Duration::from_secs(5);

/// Run a node: answer pings and tell about this machine, until SIGTERM or SIGINT
#[derive(clap::Args)]
#[command(
    after_help = "The node has the agents discovery and rpcutil; others are written in Rust, with the library. Facts come \
    from the files that plugin.yaml names, classes from classesfile; both are read anew when they change. Requests are \
    taken from certificates that plugin.choria.security.certname_whitelist allows.\n\n\
    Examples:\n  natterjack choria server --config /etc/choria/server.conf\n  \
    natterjack choria server --config /etc/choria/server.conf --log info"
)]
pub(super) struct Arguments {
    /// How long agents may go on with what they do when the node ends
    #[arg(long, default_value = "10s", value_parser = crate::value::duration, value_name = "DURATION")]
    drain_timeout: Duration,
}

pub(super) async fn run(shared: &start::Shared, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Some(started) = shared.start(Role::Server)? else {
        return Ok(ExitCode::FAILURE);
    };
    let mut stop = Stop::watch()?;
    start::outlive_hangups()?;
    let ssl = started.ssl()?;
    let connector = fleet::connector(&started, &ssl).await;
    let configuration = Arc::new(started.configuration.clone());
    let node = NodeBuilder::from_configuration(configuration, &ssl).build(start::calendar_now());
    let notifier = Notifier::from_environment();
    // A broker may be away for longer than a service manager waits, and to be started anew would not bring it back.
    notifier.ready("Looking for a broker");
    let server = tokio::select! {
        connected = connector.connect() => connected?,
        () = stop.signalled() => {
            notifier.stopping("Ending", DISCONNECT_TIME);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let status = format!(
        "{} answers in {}, connected to {server}",
        node.identity(),
        node.collectives().names().join(", ")
    );
    let is_ending = Notify::new();
    let end = async {
        // All is subscribed to by now; that the broker knows it makes it true.
        let is_ready = tokio::select! {
            _ = connector.flush() => true,
            () = stop.signalled() => false,
        };
        if is_ready {
            say(format_args!("{status}"));
            // The manager knows that already; the status is new to it.
            notifier.ready(&status);
            stop.signalled().await;
        }
        notifier.stopping("Ending", arguments.drain_timeout + DISCONNECT_TIME);
        is_ending.notify_one();
    };
    let patience = async {
        is_ending.notified().await;
        // Ended by time, or by whoever has less of it.
        let _ = tokio::time::timeout(arguments.drain_timeout, signalled_again()).await;
    };
    tokio::select! {
        served = serve(Arc::new(node), &connector, end) => served?,
        () = patience => note(format_args!("agents are still at work; ending anyway")),
    }
    connector.disconnect().await;
    Ok(ExitCode::SUCCESS)
}

/// Waits for another signal, just after one has come.
async fn signalled_again() {
    match Stop::watch() {
        Ok(mut stop) => stop.signalled_again().await,
        Err(error) => {
            tracing::debug!(%error, "another signal cannot be heard");
            std::future::pending().await
        }
    }
}
