//! Connecting to a server, and what it says about us meanwhile.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerError};
use futures_util::StreamExt;
use parking_lot::Mutex;

use crate::output::note;

/// How long a server may take to greet, or to answer a round trip.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to connect to, and as whom.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Connection")]
#[group(id = "connection")]
pub(crate) struct Arguments {
    /// Server to connect to, or several, separated by commas
    #[arg(
        short,
        long,
        env = "NATS_URL",
        default_value = "nats://localhost:4222",
        value_name = "URL"
    )]
    server: String,
    /// Name of the user
    #[arg(long, env = "NATS_USER", hide_env_values = true, requires = "password")]
    user: Option<String>,
    /// Password of the user
    #[arg(long, env = "NATS_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Token to log in with
    #[arg(
        long,
        env = "NATS_TOKEN",
        hide_env_values = true,
        conflicts_with = "user"
    )]
    token: Option<String>,
    /// File with a user's JWT and seed
    #[arg(long, env = "NATS_CREDS", hide_env_values = true, value_name = "FILE", conflicts_with_all = ["user", "token"])]
    creds: Option<std::path::PathBuf>,
}

/// A connection, and what the server has refused on it.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    refusals: Arc<Mutex<Vec<String>>>,
}

impl Arguments {
    /// Connects once; a server that is not there is an error. Afterwards the client library reconnects by itself.
    pub(crate) async fn connect(&self, queue_messages_max: usize) -> anyhow::Result<Connection> {
        let refusals = Arc::new(Mutex::new(Vec::new()));
        let connection_refusals = Arc::clone(&refusals);
        let was_connected = Mutex::new(false);
        let (addresses, user) = addresses(&self.server);
        let options = match user {
            // Flags and variables are more specific than what stands in an address, so they come second.
            Some((user, password)) => ConnectOptions::with_user_and_password(user, password),
            None => ConnectOptions::new(),
        };
        let options = self
            .log_in(options)
            .await?
            .name("natterjack")
            .connection_timeout(ANSWER_TIMEOUT)
            .subscription_capacity(queue_messages_max)
            .event_callback(move |event| {
                observe(&event, &mut was_connected.lock(), &connection_refusals);
                std::future::ready(())
            });
        let client = options
            .connect(addresses)
            .await
            .map_err(|error| self.explain(&error))?;
        Ok(Connection { client, refusals })
    }

    async fn log_in(&self, options: ConnectOptions) -> anyhow::Result<ConnectOptions> {
        let mut options = options;
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        if let Some(path) = &self.creds {
            let context = || format!("cannot use the credentials in {}", path.display());
            options = options.credentials_file(path).await.with_context(context)?;
        }
        Ok(options)
    }

    /// Says what to do about a connection that failed.
    fn explain(&self, error: &async_nats::ConnectError) -> anyhow::Error {
        // Without users and passwords, which have no place in a message.
        let server = addresses(&self.server).0.join(",");
        let reason = root_cause(error);
        let advice = match error.kind() {
            ConnectErrorKind::ServerParse => {
                return anyhow::anyhow!("not an address: {reason}\nwrite it as nats://host:port");
            }
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                "it wants a login: see --user, --token and --creds"
            }
            ConnectErrorKind::Dns => "is the name right?",
            _ => {
                "is it running? Start one with `natterjackd`, or name another with --server or NATS_URL"
            }
        };
        anyhow::anyhow!("cannot connect to {server}: {reason}\n{advice}")
    }
}

/// Splits a list of addresses, and takes the user and password out of them: the client library wants those apart, and
/// the same for all.
fn addresses(servers: &str) -> (Vec<String>, Option<(String, String)>) {
    let mut login = None;
    let addresses = servers.split(',').map(str::trim).map(|address| {
        let (scheme, rest) = address.split_once("://").unwrap_or(("nats", address));
        let Some((user, host)) = rest.rsplit_once('@') else {
            return address.to_string();
        };
        if let Some((user, password)) = user.split_once(':') {
            login.get_or_insert_with(|| (user.to_string(), password.to_string()));
        }
        format!("{scheme}://{host}")
    });
    let addresses = addresses.collect();
    (addresses, login)
}

/// The innermost of an error's causes: the client library wraps the system's words several times.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn observe(event: &Event, was_connected: &mut bool, refusals: &Mutex<Vec<String>>) {
    match event {
        Event::Connected if std::mem::replace(was_connected, true) => {
            note(format_args!("connected again"));
        }
        Event::Disconnected => note(format_args!("the connection is lost; trying again")),
        Event::LameDuckMode => note(format_args!("the server is about to stop")),
        Event::SlowConsumer(_) => {
            note(format_args!(
                "messages arrive faster than they are written; some are dropped"
            ));
        }
        Event::ServerError(ServerError::Other(text)) => refusals.lock().push(text.clone()),
        Event::ServerError(error) => refusals.lock().push(error.to_string()),
        Event::ClientError(error) => note(format_args!("{error}")),
        Event::Connected | Event::Draining | Event::Closed => {}
    }
}

impl Connection {
    /// Waits until the server has handled everything sent so far, by sending ourselves a message.
    ///
    /// # Errors
    /// If the server refused any of it, or does not answer.
    pub(crate) async fn round_trip(&self) -> anyhow::Result<()> {
        let inbox = self.client.new_inbox();
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, async {
            let mut messages = self.client.subscribe(inbox.clone()).await?;
            self.client.publish(inbox, bytes::Bytes::new()).await?;
            messages.next().await;
            anyhow::Ok(())
        })
        .await;
        let refusals = std::mem::take(&mut *self.refusals.lock());
        if !refusals.is_empty() {
            bail!("the server refuses: {}", refusals.join("; "));
        }
        match answered {
            Ok(result) => result,
            Err(_) => bail!("the server has not answered for {ANSWER_TIMEOUT:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_taken_out_of_addresses() {
        let check = |servers, expected: &[&str], user: Option<(&str, &str)>| {
            let (addresses, login) = addresses(servers);
            assert_eq!(addresses, expected, "{servers}");
            assert_eq!(
                login,
                user.map(|(user, password)| (user.into(), password.into()))
            );
        };
        check("nats://h:1", &["nats://h:1"], None);
        check("h, nats://i:2", &["h", "nats://i:2"], None);
        check(
            "nats://u:p@h:1,nats://v:q@i",
            &["nats://h:1", "nats://i"],
            Some(("u", "p")),
        );
        check("u:p@s@h", &["nats://h"], Some(("u", "p@s")));
    }
}
