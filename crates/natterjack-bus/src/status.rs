//! Asking a running bus how it is, from outside: as any NATS client could, with the settings of one of its nodes.

use std::time::Duration;

use natterjack_wire::client::{Message, publish};
use tokio::sync::mpsc;

use crate::client::{self, Client, ClientError, Events, Way};
use crate::health::status_question;
use crate::metrics::Metrics;
use crate::settings::{Endpoint, Settings, TransportKind};
use crate::tls::ClientTls;
use crate::transport::{Channel, channel_subject};

/// After this long without another answer nobody else is expected. Nodes answer at once.
const QUIET: Duration = Duration::from_millis(250);

/// What the client tells that may wait to be heard. Of more answers than these the last ones are lost.
const TOLD_MAX: usize = 4096;

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
        /// Why not.
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
    let inbox = client::new_inbox();
    let options = client::Options {
        way: Way::Sockets {
            address: address.clone(),
            is_alone: true,
            server_id: None,
            tls: Box::new(tls.clone()),
        },
        name: "natterjack status".into(),
        subscriptions: vec![inbox.clone()],
        payload_bytes_max: settings.limits.event_bytes_max,
        no_responders: true,
    };
    let (client, starting) = Client::new(options).map_err(|error| failed(error.to_string()))?;
    let client = Closing(client);
    let subject = channel_subject(&settings.nats.client.subject, Channel::Health);
    let (subject, reply) = (subject.as_bytes(), Some(inbox.as_bytes()));
    // It waits for the connection.
    (client.0).send(|out| publish(out, subject, reply, &status_question()));
    let (teller, mut told) = mpsc::channel(TOLD_MAX);
    starting.start(Teller(teller));
    match tokio::time::timeout(timeout, told.recv()).await {
        Ok(Some(Told::Connected)) => {}
        Ok(Some(Told::Failed(reason))) => return Err(failed(reason)),
        _ => return Err(failed(format!("no answer within {timeout:?}"))),
    }
    let mut all = Vec::new();
    let collect = async {
        // The first may take its time; the others follow.
        let mut patience = timeout;
        while let Ok(Some(told)) = tokio::time::timeout(patience, told.recv()).await {
            let Told::Answer(answer) = told else {
                continue;
            };
            match serde_json::from_slice::<Metrics>(&answer) {
                Ok(metrics) => all.push(metrics),
                // Without responders the server says so, with an empty message.
                Err(_) if answer.is_empty() => return,
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
    match &settings.nats.client.endpoint {
        Some(endpoint) if !endpoint.is_in_process() => (endpoint.to_string(), false),
        _ if settings.nats.server.enable => (settings.nats.own_server().to_string(), true),
        _ => (Endpoint::standard().to_string(), false),
    }
}

/// The client ends with the question, however that ends.
struct Closing(Client);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What is of interest of what happens to the client.
enum Told {
    Connected,
    Failed(String),
    Answer(Vec<u8>),
}

struct Teller(mpsc::Sender<Told>);

impl Teller {
    fn tell(&self, told: Told) {
        // Nobody listens any more, or not fast enough.
        let _ = self.0.try_send(told);
    }
}

impl Events for Teller {
    fn message(&mut self, message: &Message<'_>) {
        self.tell(Told::Answer(message.payload().to_vec()));
    }

    fn batch_ended(&mut self) {}

    fn connected(&mut self) -> bool {
        self.tell(Told::Connected);
        false
    }

    fn disconnected(&mut self) {}

    fn failed(&mut self, error: &ClientError) {
        self.tell(Told::Failed(error.to_string()));
    }
}
