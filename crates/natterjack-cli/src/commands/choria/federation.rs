//! `natterjack choria federation`: a broker between a federation and one cluster's collective, until it is told to stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use natterjack_choria::configuration::Role;
use natterjack_choria::connector::{
    CLIENT_AWAY_BYTES_MAX, CLIENT_INBOX_BYTES_MAX, ConnectError, Connector, ConnectorOptions,
    Servers,
};
use natterjack_choria::federation::Broker;
use natterjack_choria::finding::Finder;
use natterjack_choria::server::ServerAddress;
use natterjack_choria::subject;
use natterjack_cli::service_manager::Notifier;

use super::start::Shared;
use crate::output::note;
use crate::signals::Stop;

/// What the connections' end may take.
const DISCONNECT_TIME: Duration = Duration::from_secs(5);

/// Pass requests of a federation on to the nodes of one cluster, and their answers back
#[derive(clap::Args)]
#[command(
    after_help = "The federation's servers are those of plugin.choria.federation_middleware_hosts, or of SRV records \
    _mcollective-federation_server._tcp; the cluster's are those of plugin.choria.middleware_hosts, or of SRV records \
    _mcollective-server._tcp. Any number of brokers may run for a cluster: they share the work.\n\n\
    Clients name the cluster in plugin.choria.federation.collectives.\n\n\
    Example:\n  natterjack choria federation --config /etc/choria/server.conf --cluster london"
)]
pub(super) struct Arguments {
    /// The cluster, instead of the one that plugin.choria.federation.cluster names
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
}

pub(super) async fn run(shared: &Shared, arguments: Arguments) -> anyhow::Result<ExitCode> {
    // What was typed is the first thing to be right.
    if let Some(cluster) = &arguments.cluster {
        subject::federation(cluster).context("--cluster")?;
    }
    let Some(started) = shared.start(Role::Server)? else {
        return Ok(ExitCode::FAILURE);
    };
    let settings = &started.configuration;
    let cluster = arguments
        .cluster
        .unwrap_or_else(|| settings.federation.cluster.clone());
    let ssl = started.ssl()?;
    let finder = Arc::new(started.finder());
    if finder.federation().await.is_none() {
        note(format_args!(
            "no servers of the federation are known: set plugin.choria.federation_middleware_hosts, or add SRV records \
             _mcollective-federation_server._tcp"
        ));
        return Ok(ExitCode::FAILURE);
    }
    let instance = settings.federation.instance.as_deref();
    let connector = |side: &str, servers: Servers| {
        let options = ConnectorOptions::of(settings, &ssl);
        let name = instance.unwrap_or(&options.name);
        let options = ConnectorOptions {
            name: format!("{name} federation broker {cluster} ({side})"),
            // One broker has the messages of many.
            away_bytes_max: CLIENT_AWAY_BYTES_MAX,
            inbox_bytes_max: CLIENT_INBOX_BYTES_MAX,
            ..options
        };
        Connector::start(options, &ssl, servers)
    };
    let asked = Arc::clone(&finder);
    let federation = connector(
        "federation",
        Servers::found(move || of_federation(Arc::clone(&asked))),
    );
    let collective = connector(
        "collective",
        Servers::found(move || of_collective(Arc::clone(&finder))),
    );
    let broker = Broker::new(&cluster, federation.clone(), collective.clone());
    let broker = broker.with_context(|| format!("cluster {cluster}"))?;
    let mut stop = Stop::watch()?;
    super::start::outlive_hangups()?;
    let notifier = Notifier::from_environment();
    // Servers may be away for longer than a service manager waits, and to be started anew would not bring them back.
    notifier.ready("Looking for servers");
    let work = async {
        let (federation_side, collective_side) = (&federation, &collective);
        let (federation, collective) =
            tokio::try_join!(federation_side.connect(), collective_side.connect())?;
        // Whoever reads that it is the broker may ask at once.
        tokio::join!(federation_side.flush(), collective_side.flush());
        let status =
            format!("broker of {cluster}: federation {federation}, collective {collective}");
        note(format_args!("{status}"));
        // The manager knows that already; the status is new to it.
        notifier.ready(&status);
        broker.run().await;
        Ok::<_, ConnectError>(())
    };
    tokio::select! {
        worked = work => worked?,
        () = stop.signalled() => {}
    }
    notifier.stopping("Ending", DISCONNECT_TIME);
    tokio::join!(federation.disconnect(), collective.disconnect());
    let counted = broker.statistics();
    note(format_args!(
        "{} requests and {} replies passed on, {} dropped",
        counted.requests, counted.replies, counted.dropped
    ));
    Ok(ExitCode::SUCCESS)
}

async fn of_federation(finder: Arc<Finder>) -> Vec<ServerAddress> {
    let found = finder.federation().await;
    found.map(|found| found.servers).unwrap_or_default()
}

async fn of_collective(finder: Arc<Finder>) -> Vec<ServerAddress> {
    finder.collective().await.servers
}
