//! Asking a running bus how it is, from outside: as any NATS client could, with the settings of one of its nodes.

use std::time::Duration;

use futures_util::StreamExt as _;

use crate::health::status_question;
use crate::metrics::Metrics;
use crate::settings::{Endpoint, Settings, TransportKind};
use crate::tls::ClientTls;
use crate::transport::{Channel, channel_subject};

/// After this long without another answer nobody else is expected. Nodes answer at once.
const QUIET: Duration = Duration::from_millis(250);

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// `eventBus.type` is `local`.
    #[error("eventBus.type is `local`: such a bus is inside its program, and only that can ask it")]
    Local,
    /// There is no connection.
    #[error("no connection to {address}{}: {reason}", if *.is_own { ", the server of this node" } else { "" })]
    Connect {
        /// Where it was tried.
        address: String,
        /// Whether this node's own server should be there.
        is_own: bool,
        /// What the client library says, or our own words about certificates.
        reason: String,
    },
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(Box<dyn std::error::Error + Send + Sync>),
}

/// Asks all nodes of the bus that these settings belong to. Whoever answers within `timeout` is in the result, this node
/// first and the others by name; without further answers it ends earlier. Nobody at all: the server is there, but no node
/// of this bus.
///
/// # Errors
/// If the server cannot be reached.
pub async fn statuses(settings: &Settings, timeout: Duration) -> Result<Vec<Metrics>, StatusError> {
    if settings.transport == TransportKind::Local {
        return Err(StatusError::Local);
    }
    let (address, is_own) = address(settings);
    let tls = ClientTls::load(&settings.nats.tls)
        .map_err(|error| StatusError::Settings(Box::new(error)))?;
    let failed = |reason: String| StatusError::Connect {
        reason: tls.explain(&reason).unwrap_or(reason),
        address: address.clone(),
        is_own,
    };
    let connecting = async_nats::ConnectOptions::new()
        .name("natterjack status")
        .tls_client_config(tls.config())
        .require_tls(tls.is_required())
        .connection_timeout(timeout)
        .connect(address.as_str());
    let client = connecting.await.map_err(|error| failed(chain(&error)))?;
    let inbox = client.new_inbox();
    let subject = channel_subject(&settings.nats.client.subject, Channel::Health);
    let asked = async {
        let answers = client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| chain(&error))?;
        let question = client.publish_with_reply(subject, inbox, status_question());
        question.await.map_err(|error| chain(&error))?;
        Ok(answers)
    };
    let mut answers = asked.await.map_err(failed)?;
    let mut all = Vec::new();
    let collect = async {
        // The first may take its time; the others follow.
        let mut patience = timeout;
        while let Ok(Some(answer)) = tokio::time::timeout(patience, answers.next()).await {
            match serde_json::from_slice::<Metrics>(&answer.payload) {
                Ok(metrics) => all.push(metrics),
                // Without responders the server says so, with an empty message.
                Err(_) if answer.payload.is_empty() => return,
                Err(_) => {}
            }
            patience = QUIET;
        }
    };
    // Whoever has not answered by now is not in the list.
    let _ = tokio::time::timeout(timeout, collect).await;
    let own = &settings.nats.client.name;
    all.sort_by_cached_key(|metrics| {
        let node = &metrics.health.node;
        (node != own, node.clone())
    });
    Ok(all)
}

/// Where the node's bus is reached from outside its process, and whether its own server is there.
fn address(settings: &Settings) -> (String, bool) {
    let server = &settings.nats.server;
    match &settings.nats.client.endpoint {
        Some(endpoint) if !endpoint.is_in_process() => (endpoint.to_string(), false),
        _ if server.enable => {
            let any = ["0.0.0.0", "::", "[::]"].contains(&server.client.host.as_str());
            let host = if any {
                "localhost"
            } else {
                &server.client.host
            };
            (format!("nats://{host}:{}", server.client.port), true)
        }
        _ => (Endpoint::standard().to_string(), false),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
