//! The connection to a fleet, as settings describe it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use natterjack_choria::client::{Asker, Client, ClientOptions};
use natterjack_choria::connector::{Connector, ConnectorOptions, Event, Servers};
use natterjack_choria::ssl::Ssl;
use natterjack_choria::subject::TargetError;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::start::Started;
use crate::output::note;
use crate::signals::Stop;

/// A connector that looks for servers anew before each round of attempts. It does not connect yet.
pub(super) async fn connector(started: &Started, ssl: &Ssl) -> Connector {
    let finder = Arc::new(started.finder());
    let mut options = ConnectorOptions::of(&started.configuration, ssl);
    if !options.federations.is_empty() && finder.federation().await.is_none() {
        note(format_args!(
            "no servers of the federation are known, so requests go to the collective here; set \
             plugin.choria.federation_middleware_hosts"
        ));
        options.federations.clear();
    }
    let servers = Servers::found(move || {
        let finder = Arc::clone(&finder);
        async move { finder.middleware().await.servers }
    });
    Connector::start(options, ssl, servers)
}

/// So long somebody waits without hearing for what.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What to end with if the user has lost patience before anybody was asked.
pub(super) const INTERRUPTED: u8 = 130;

/// Somebody who asks, connected. `None`: the user has lost patience, and has been told so.
pub(super) async fn client(started: &Started, stop: &mut Stop) -> anyhow::Result<Option<Client>> {
    let ssl = started.ssl()?;
    let asker = Asker::of(&started.configuration, &ssl)
        .with_context(|| format!("cannot sign requests with {}", ssl.files.key.display()))?;
    let connector = connector(started, &ssl).await;
    let events = connector.events();
    tokio::select! {
        biased;
        connected = connector.connect() => connected?,
        () = stop.signalled() => {
            note(format_args!("interrupted; there was no connection to a server yet"));
            return Ok(None);
        }
        () = advise(&connector, events) => unreachable!("it goes on as long as it is listened to"),
    };
    let options = ClientOptions::of(&started.configuration);
    Ok(Some(Client::new(asker, connector, options)))
}

/// Says once, if a server cannot be connected to, or none has answered yet, which ones are tried and how to find out why
/// those. It does not end.
async fn advise(connector: &Connector, mut events: Receiver<Event>) {
    let failure = async {
        loop {
            match events.recv().await {
                Ok(Event::Failed { .. }) => break,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    // Whether it has failed or is silent, somebody waits.
    let _ = timeout(SILENCE_MAX, failure).await;
    let servers = connector.server_pool();
    let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
    let servers = if servers.is_empty() {
        "servers are looked for".to_owned()
    } else {
        format!("tried are {}", servers.join(", "))
    };
    note(format_args!(
        "there is no connection to a server yet; {servers}; why those, shows: natterjack choria config"
    ));
    std::future::pending().await
}

/// Looks whether there can be such an agent in such a collective: who has mistyped should not have to wait for a server.
///
/// # Errors
/// If not.
pub(super) fn check_target(
    started: &Started,
    collective: Option<&str>,
    agent: &str,
) -> Result<(), TargetError> {
    let collectives = &started.configuration.collectives;
    let collective = collective.unwrap_or_else(|| collectives.main());
    collectives.broadcast(collective, agent).map(drop)
}

/// Why it may be that nobody answers: nodes drop requests of people that they do not know, and do not say so.
pub(super) fn stranger(started: &Started, client: &Client) -> Option<String> {
    let settings = &started.configuration;
    let certname = client.connector().options().caller.certname();
    if settings.certname_allowed.fits(certname) || settings.privileged.fits(certname) {
        return None;
    }
    Some(format!(
        "nodes take no requests of {certname} unless they have been configured to: the name does not fit \
         plugin.choria.security.certname_whitelist"
    ))
}
