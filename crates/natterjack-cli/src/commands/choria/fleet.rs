//! The connection to a fleet, as settings describe it.

use std::sync::Arc;

use anyhow::Context as _;
use natterjack_choria::client::{Asker, Client, ClientOptions};
use natterjack_choria::connector::{Connector, ConnectorOptions, Servers};
use natterjack_choria::ssl::Ssl;

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

/// Somebody who asks, connected. `None`: the user has lost patience.
pub(super) async fn client(started: &Started, stop: &mut Stop) -> anyhow::Result<Option<Client>> {
    let ssl = started.ssl()?;
    let asker = Asker::of(&started.configuration, &ssl)
        .with_context(|| format!("cannot sign requests with {}", ssl.files.key.display()))?;
    let connector = connector(started, &ssl).await;
    tokio::select! {
        connected = connector.connect() => connected?,
        () = stop.signalled() => return Ok(None),
    };
    let options = ClientOptions::of(&started.configuration);
    Ok(Some(Client::new(asker, connector, options)))
}
