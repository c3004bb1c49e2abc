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

/// What to end with if the user has lost patience before anybody was asked.
pub(super) const INTERRUPTED: u8 = 130;

/// Somebody who asks, connected. `None`: the user has lost patience, and has been told so.
pub(super) async fn client(started: &Started, stop: &mut Stop) -> anyhow::Result<Option<Client>> {
    let ssl = started.ssl()?;
    let asker = Asker::of(&started.configuration, &ssl)
        .with_context(|| format!("cannot sign requests with {}", ssl.files.key.display()))?;
    let connector = connector(started, &ssl).await;
    tokio::select! {
        connected = connector.connect() => connected?,
        () = stop.signalled() => {
            note(format_args!("interrupted; there was no connection to a server yet"));
            return Ok(None);
        }
    };
    let options = ClientOptions::of(&started.configuration);
    Ok(Some(Client::new(asker, connector, options)))
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
