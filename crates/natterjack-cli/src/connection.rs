//! Connecting to a server, and what it says about us meanwhile.

mod advice;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::{Client, ClientError, ConnectErrorKind, ConnectOptions, Event, ServerError};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use self::advice::Situation;
use crate::output::note;

/// How long a server may take to greet, or to answer a round trip.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where clients connect when nobody says otherwise.
const STANDARD_SERVER: &str = "nats://localhost:4222";

/// Distinct texts remembered, and so told, for one connection or outage.
const TEXTS_MAX: usize = 16;

/// What the client library calls a server that cannot be reached, without a cause, at every attempt. That the connection
/// is lost has been said then.
const UNREACHABLE: &str = "IO error";

/// Where to connect to, and as whom. What is not given here may stand in a variable of the environment.
// Variables are read by `Variables`: clap takes an empty one for a value, and cannot tell one from a flag.
#[derive(clap::Args, Clone, Default)]
#[command(next_help_heading = "Connection")]
#[group(id = "connection")]
pub(crate) struct Arguments {
    /// Server to connect to, or several, separated by commas; may contain user:password@ or token@ [default:
    /// nats://localhost:4222] [env: NATS_URL]
    #[arg(short, long, value_name = "URL")]
    server: Option<String>,
    /// Name of the user [env: NATS_USER]
    #[arg(long)]
    user: Option<String>,
    /// Password of the user [env: NATS_PASSWORD]
    #[arg(long)]
    password: Option<String>,
    /// Token to log in with [env: NATS_TOKEN]
    #[arg(long, conflicts_with_all = ["user", "password"])]
    token: Option<String>,
    /// File with a user's JWT and seed [env: NATS_CREDS]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "password", "token"])]
    creds: Option<PathBuf>,
    /// File with a user's seed, as `natterjack nkey` makes it [env: NATS_NKEY]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "password", "token", "creds"])]
    nkey: Option<PathBuf>,
    /// File with the authorities whose certificates of servers to believe, beside those of the system [env: NATS_CA]
    #[arg(long, value_name = "FILE")]
    tlsca: Option<PathBuf>,
    /// File with this side's certificate, for servers that want one [env: NATS_CERT]
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// File with its private key [env: NATS_KEY]
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
}

/// The variables of the environment that stand in for flags; empty ones count as not set.
#[derive(Default)]
struct Variables {
    server: Option<String>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    creds: Option<PathBuf>,
    nkey: Option<PathBuf>,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Login {
    User { name: String, password: String },
    Token(String),
    Creds(PathBuf),
    Nkey(PathBuf),
}

/// Whom to connect to, and as whom: arguments and variables put together.
struct Target {
    /// Without logins, which have no place in a message.
    addresses: Vec<String>,
    login: Option<Login>,
    authority: Option<PathBuf>,
    /// And its key.
    certificate: Option<(PathBuf, PathBuf)>,
}

/// A connection, and what the server has refused on it.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// The same, for the observer: a client of its own would keep the connection for ever.
    _observed: Arc<Client>,
    /// For messages.
    server: String,
    state: Arc<Mutex<State>>,
    /// The server has refused something.
    refused: Arc<Notify>,
    situation: Situation,
    lost: watch::Receiver<bool>,
}

/// What to do when a connection is lost. In any case the client library tries to get it back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnLoss {
    /// Tell the user, and go on.
    Tell,
    /// Nothing: the command waits for [`Connection::lost`], and ends.
    End,
}

#[derive(Default)]
struct State {
    is_connected: bool,
    was_connected: bool,
    /// What the user has been told since the connection was made, or broke.
    told: Vec<String>,
    /// What the server has refused since somebody asked.
    refusals: Vec<String>,
    /// Nobody asks any more, so what the server refuses is told as it comes.
    is_settled: bool,
    dropped_messages: u64,
}

/// A login that flags give, for what is no NATS server.
pub(crate) enum GivenLogin<'a> {
    None,
    Token(&'a str),
    User(&'a str, &'a str),
    /// What only NATS servers understand.
    File,
}

/// Files for TLS that flags name, for what is no NATS server.
pub(crate) struct GivenFiles<'a> {
    pub(crate) authorities: Option<&'a Path>,
    /// A certificate and its key.
    pub(crate) own: Option<(&'a Path, &'a Path)>,
}

impl Variables {
    fn read() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            server: text("NATS_URL"),
            user: text("NATS_USER"),
            password: text("NATS_PASSWORD"),
            token: text("NATS_TOKEN"),
            creds: variable("NATS_CREDS").map(PathBuf::from),
            nkey: variable("NATS_NKEY").map(PathBuf::from),
            authority: variable("NATS_CA").map(PathBuf::from),
            certificate: variable("NATS_CERT").map(PathBuf::from),
            key: variable("NATS_KEY").map(PathBuf::from),
        }
    }
}

impl Arguments {
    /// Whether a flag names a server; a variable does not count.
    pub(crate) fn names_a_server(&self) -> bool {
        self.server.is_some()
    }

    /// The login that flags give; variables are for NATS servers alone.
    pub(crate) fn given_login(&self) -> GivenLogin<'_> {
        if self.creds.is_some() || self.nkey.is_some() {
            return GivenLogin::File;
        }
        match (&self.token, &self.user, &self.password) {
            (Some(token), _, _) => GivenLogin::Token(token),
            (None, None, None) => GivenLogin::None,
            (None, user, password) => GivenLogin::User(
                user.as_deref().unwrap_or_default(),
                password.as_deref().unwrap_or_default(),
            ),
        }
    }

    /// The files for TLS that flags name.
    ///
    /// # Errors
    /// If there is a certificate without a key, or a key without a certificate.
    pub(crate) fn given_files(&self) -> anyhow::Result<GivenFiles<'_>> {
        let own = match (&self.tlscert, &self.tlskey) {
            (Some(certificate), Some(key)) => Some((&**certificate, &**key)),
            (None, None) => None,
            _ => bail!("--tlscert and --tlskey need each other"),
        };
        Ok(GivenFiles {
            authorities: self.tlsca.as_deref(),
            own,
        })
    }

    /// Connects once; a server that is not there is an error. Afterwards the client library reconnects by itself.
    pub(crate) async fn connect(
        &self,
        queue_messages_max: usize,
        on_loss: OnLoss,
    ) -> anyhow::Result<Connection> {
        let target = self.target(Variables::read())?;
        let server = target.addresses.join(",");
        let state = Arc::new(Mutex::new(State::default()));
        let refused = Arc::new(Notify::new());
        let (losing, lost) = watch::channel(false);
        let observer = Arc::new(Observer {
            client: OnceLock::new(),
            state: Arc::clone(&state),
            refused: Arc::clone(&refused),
            server: server.clone(),
            losing,
            on_loss,
            situation: target.situation(),
        });
        let observing = Arc::clone(&observer);
        let options = target
            .log_in(target.encrypt(ConnectOptions::new())?)?
            .name("natterjack")
            .connection_timeout(ANSWER_TIMEOUT)
            .subscription_capacity(queue_messages_max)
            .event_callback(move |event| {
                observing.observe(event);
                std::future::ready(())
            });
        let client = options
            .connect(&target.addresses[..])
            .await
            .map_err(|error| target.explain(&error))?;
        let observed = Arc::new(client.clone());
        // This is the only place that sets it.
        let _ = observer.client.set(Arc::downgrade(&observed));
        Ok(Connection {
            client,
            _observed: observed,
            server,
            state,
            refused,
            situation: target.situation(),
            lost,
        })
    }

    /// A flag overrides the variable of the same meaning, and a login given by flags, the address among them, every
    /// login in variables.
    fn target(&self, variables: Variables) -> anyhow::Result<Target> {
        let from_flag = self.server.is_some();
        let servers = self.server.clone().or(variables.server);
        let (addresses, in_address) = addresses(servers.as_deref().unwrap_or(STANDARD_SERVER));
        let user = |name: &Option<String>, password: &Option<String>| match (name, password) {
            (Some(name), Some(password)) => Some(Login::User {
                name: name.clone(),
                password: password.clone(),
            }),
            _ => None,
        };
        let by_flags = if self.user.is_some() || self.password.is_some() {
            let name = self.user.clone().or_else(|| variables.user.clone());
            let password = self.password.clone().or_else(|| variables.password.clone());
            let Some(login) = user(&name, &password) else {
                bail!(
                    "--user and --password need each other: give both, or set NATS_USER or NATS_PASSWORD"
                );
            };
            Some(login)
        } else {
            let token = self.token.clone().map(Login::Token);
            token
                .or_else(|| self.creds.clone().map(Login::Creds))
                .or_else(|| self.nkey.clone().map(Login::Nkey))
        };
        let by_variables = variables
            .creds
            .map(Login::Creds)
            .or_else(|| variables.nkey.map(Login::Nkey))
            // A name alone is no login. It must not break commands against servers that want none.
            .or_else(|| user(&variables.user, &variables.password))
            .or_else(|| variables.token.map(Login::Token));
        let login = if from_flag {
            by_flags.or(in_address).or(by_variables)
        } else {
            by_flags.or(by_variables).or(in_address)
        };
        let certificate = self.tlscert.clone().or(variables.certificate);
        let certificate = match (certificate, self.tlskey.clone().or(variables.key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => bail!(
                "--tlscert and --tlskey need each other: give both, or set NATS_CERT and NATS_KEY"
            ),
        };
        Ok(Target {
            addresses,
            login,
            authority: self.tlsca.clone().or(variables.authority),
            certificate,
        })
    }
}

impl Target {
    fn situation(&self) -> Situation {
        let is_tls = |address: &String| address.starts_with("tls://");
        Situation {
            has_login: self.login.is_some(),
            wants_tls: self.addresses.iter().any(is_tls),
            has_authority: self.authority.is_some(),
            has_certificate: self.certificate.is_some(),
        }
    }

    /// Takes over the files of TLS, once it is clear that they are there: the client library would not say which is not.
    fn encrypt(&self, mut options: ConnectOptions) -> anyhow::Result<ConnectOptions> {
        let readable = |what: &str, path: &Path| {
            let read = std::fs::read(path).map(drop);
            read.with_context(|| format!("cannot read the {what} in {}", path.display()))
        };
        if let Some(authority) = &self.authority {
            readable("authorities", authority)?;
            options = options.add_root_certificates(authority.clone());
        }
        if let Some((certificate, key)) = &self.certificate {
            readable("certificate", certificate)?;
            readable("key", key)?;
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(options)
    }

    fn log_in(&self, options: ConnectOptions) -> anyhow::Result<ConnectOptions> {
        Ok(match &self.login {
            None => options,
            Some(Login::User { name, password }) => {
                options.user_and_password(name.clone(), password.clone())
            }
            Some(Login::Token(token)) => options.token(token.clone()),
            Some(Login::Creds(path)) => {
                let file = path.display();
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the credentials in {file}"))?;
                options.credentials(&text).map_err(|error| {
                    anyhow::anyhow!(
                        "cannot use the credentials in {file}: {error}\n\
                         it must hold a user's JWT and its seed; a seed alone is for --nkey"
                    )
                })?
            }
            Some(Login::Nkey(path)) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the seed in {}", path.display()))?;
                // It may stand between lines of explanation, as in a credentials file. The client library would say what
                // is wrong with it only when it is to sign.
                let is_seed = |word: &&str| nkeys::KeyPair::from_seed(word).is_ok();
                let Some(seed) = text.split_whitespace().find(is_seed) else {
                    bail!("there is no seed in {}", path.display());
                };
                options.nkey(seed.to_owned())
            }
        })
    }

    /// Says what to do about a connection that failed.
    fn explain(&self, error: &async_nats::ConnectError) -> anyhow::Error {
        let server = self.addresses.join(",");
        let reason = root_cause(error);
        let situation = self.situation();
        let known =
            advice::of_tls(&reason, situation).or_else(|| advice::of_refusal(&reason, situation));
        let advice = match error.kind() {
            ConnectErrorKind::ServerParse => {
                return anyhow::anyhow!("not an address: {reason}\nwrite it as nats://host:port");
            }
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                match self.login {
                    None => "it wants a login: see --user, --token, --creds and --nkey",
                    Some(_) => "it refuses this login",
                }
            }
            ConnectErrorKind::Dns => "is the name right?",
            _ if known.is_some() => known.unwrap_or_default(),
            _ => {
                "is it running? Start one with `natterjackd`, or name another with --server or NATS_URL"
            }
        };
        anyhow::anyhow!("cannot connect to {server}: {reason}\n{advice}")
    }
}

/// Splits a list of addresses, and takes the login out of them: the client library wants it apart, and the same for
/// all. A user without a password is a token, as in nats.go.
fn addresses(servers: &str) -> (Vec<String>, Option<Login>) {
    let mut login = None;
    let addresses = servers.split(',').map(str::trim).map(|address| {
        let (scheme, rest) = address.split_once("://").unwrap_or(("nats", address));
        let Some((user, host)) = rest.rsplit_once('@') else {
            return address.to_string();
        };
        login.get_or_insert_with(|| match user.split_once(':') {
            Some((name, password)) => Login::User {
                name: percent_decode(name),
                password: percent_decode(password),
            },
            None => Login::Token(percent_decode(user)),
        });
        format!("{scheme}://{host}")
    });
    let addresses = addresses.collect();
    (addresses, login)
}

/// Decodes `%XX` (RFC 3986, section 2.1). A percent sign that starts no such code stays, and so does all of a text that
/// would not be UTF-8.
fn percent_decode(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, digit(tail.first()), digit(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => decoded.push(first),
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.into())
}

/// What the client library does not send, and what to do about it.
pub(crate) fn unpublished(error: &async_nats::client::PublishError) -> anyhow::Error {
    use async_nats::client::PublishErrorKind;
    let advice = match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => {
            advice::of_refusal("maximum payload", Situation::default())
        }
        _ => None,
    };
    anyhow::Error::msg(with_advice(error.to_string(), advice))
}

fn with_advice(text: String, advice: Option<&str>) -> String {
    match advice {
        Some(advice) => format!("{text}\n{advice}"),
        None => text,
    }
}

/// The innermost of an error's causes: the client library wraps the system's words several times.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Hears what happens to one connection.
struct Observer {
    client: OnceLock<Weak<Client>>,
    state: Arc<Mutex<State>>,
    refused: Arc<Notify>,
    server: String,
    losing: watch::Sender<bool>,
    on_loss: OnLoss,
    situation: Situation,
}

impl Observer {
    fn observe(self: &Arc<Self>, event: Event) {
        let mut state = self.state.lock();
        match event {
            Event::Connected => {
                state.told.clear();
                state.is_connected = true;
                if std::mem::replace(&mut state.was_connected, true) {
                    tokio::spawn(Arc::clone(self).reconnected());
                }
            }
            Event::Disconnected => {
                if std::mem::take(&mut state.is_connected) {
                    state.told.clear();
                    self.losing.send_replace(true);
                    let text = format!("disconnected from {}; trying again", self.server);
                    self.tell(&mut state, text);
                }
            }
            Event::LameDuckMode => self.tell(&mut state, "the server is about to stop".into()),
            Event::SlowConsumer(_) => {
                state.dropped_messages += 1;
                let text = "messages arrive faster than they are written; some are dropped";
                self.tell(&mut state, text.into());
            }
            Event::ServerError(error) => {
                let text = match error {
                    ServerError::Other(text) => text,
                    error => error.to_string(),
                };
                if state.is_settled {
                    let advice = advice::of_refusal(&text, self.situation);
                    self.tell(
                        &mut state,
                        with_advice(format!("the server says: {text}"), advice),
                    );
                }
                if state.refusals.len() < TEXTS_MAX {
                    state.refusals.push(text);
                }
                self.refused.notify_waiters();
            }
            Event::ClientError(ClientError::Other(text)) if text == UNREACHABLE => {}
            Event::ClientError(error) => self.tell(&mut state, error.to_string()),
            Event::Draining | Event::Closed => {}
        }
    }

    /// Says which server it is now. The client library says that there is a connection a moment before it knows that, and
    /// sends nothing over it in between.
    async fn reconnected(self: Arc<Self>) {
        let client = self.client.get().and_then(Weak::upgrade);
        let Some(client) = client else { return };
        let is_sent = client.flush().await.is_ok();
        let mut state = self.state.lock();
        // It has broken again, and that was told.
        if !is_sent || !state.is_connected {
            return;
        }
        let text = match &*client.server_info().server_name {
            "" => format!("reconnected to {}", self.server),
            name => format!("reconnected to {}, where `{name}` answers", self.server),
        };
        self.tell(&mut state, text);
    }

    /// Tells the user, but the same only once for each connection or outage.
    fn tell(&self, state: &mut State, text: String) {
        if self.on_loss == OnLoss::End
            || state.told.contains(&text)
            || state.told.len() == TEXTS_MAX
        {
            return;
        }
        note(format_args!("{text}"));
        state.told.push(text);
    }
}

impl Connection {
    /// Waits until the connection has been lost, and says so in an error. That we end it is no loss.
    pub(crate) async fn lost(&self) -> anyhow::Error {
        if self.lost.clone().wait_for(|lost| *lost).await.is_err() {
            std::future::pending::<()>().await;
        }
        let refusals = std::mem::take(&mut self.state.lock().refusals);
        if refusals.is_empty() {
            anyhow::anyhow!("disconnected from {}", self.server)
        } else {
            let text = format!("disconnected from {}: {}", self.server, refusals.join("; "));
            anyhow::Error::msg(self.advised(text, &refusals))
        }
    }

    fn advised(&self, text: String, refusals: &[String]) -> String {
        let mut advice =
            (refusals.iter()).filter_map(|refusal| advice::of_refusal(refusal, self.situation));
        with_advice(text, advice.next())
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.state.lock().is_connected
    }

    /// Ends all subscriptions, once what is on its way for them has arrived, and then the connection.
    pub(crate) async fn drain(&self) -> anyhow::Result<()> {
        // That it ends is no loss from now on.
        self.state.lock().is_connected = false;
        Ok(self.client.drain().await?)
    }

    /// Messages that found no room in their subscription's queue.
    pub(crate) fn dropped_messages(&self) -> u64 {
        self.state.lock().dropped_messages
    }

    /// Waits until the server has refused something that has these words.
    async fn refused(&self, words: &str) {
        loop {
            let refused = self.refused.notified();
            tokio::pin!(refused);
            refused.as_mut().enable();
            if self
                .state
                .lock()
                .refusals
                .iter()
                .any(|refusal| refusal.contains(words))
            {
                return;
            }
            refused.await;
        }
    }

    /// Waits until the server has handled everything sent so far, by sending ourselves a message. That we may not is as good
    /// an answer.
    ///
    /// # Errors
    /// If the server refused any of it, or does not answer.
    pub(crate) async fn round_trip(&self) -> anyhow::Result<()> {
        let inbox = self.client.new_inbox();
        let subject = inbox.clone();
        let answered = async {
            let mut messages = self.client.subscribe(subject.clone()).await?;
            self.client.publish(subject, bytes::Bytes::new()).await?;
            messages.next().await;
            anyhow::Ok(())
        };
        let answered = async {
            tokio::select! {
                answered = answered => answered,
                () = self.refused(&inbox) => Ok(()),
            }
        };
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
        let refusals: Vec<String> = {
            let mut state = self.state.lock();
            state.is_settled = true;
            let refusals = std::mem::take(&mut state.refusals);
            let is_ours = |refusal: &String| !refusal.contains(&inbox);
            refusals.into_iter().filter(is_ours).collect()
        };
        if !refusals.is_empty() {
            let text = format!("the server refuses: {}", refusals.join("; "));
            bail!(self.advised(text, &refusals));
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

    fn user(name: &str, password: &str) -> Option<Login> {
        Some(Login::User {
            name: name.into(),
            password: password.into(),
        })
    }

    fn token(token: &str) -> Option<Login> {
        Some(Login::Token(token.into()))
    }

    #[test]
    fn logins_are_taken_out_of_addresses() {
        let check = |servers, expected: &[&str], expected_login: Option<Login>| {
            let (addresses, login) = addresses(servers);
            assert_eq!(addresses, expected, "{servers}");
            assert_eq!(login, expected_login, "{servers}");
        };
        check("nats://h:1", &["nats://h:1"], None);
        check("h, nats://i:2", &["h", "nats://i:2"], None);
        check(
            "nats://u:p@h:1,nats://v:q@i",
            &["nats://h:1", "nats://i"],
            user("u", "p"),
        );
        check("u:p@s@h", &["nats://h"], user("u", "p@s"));
        check("nats://tok%2Fen@h", &["nats://h"], token("tok/en"));
        check("nats://a%3Ab:%40%c3%a9@h", &["nats://h"], user("a:b", "@é"));
        check(
            "nats://u:50%+1%zz%ff@h",
            &["nats://h"],
            user("u", "50%+1%zz%ff"),
        );
    }

    #[test]
    fn flags_override_variables() {
        let login = |flags: Arguments, variables: Variables| {
            flags.target(variables).map(|target| target.login).ok()
        };
        let text = |text: &str| Some(text.to_string());
        let variables = || Variables {
            server: text("nats://a:b@h"),
            user: text("u"),
            password: text("p"),
            token: text("t"),
            ..Variables::default()
        };
        let flags = Arguments::default;
        assert_eq!(login(flags(), variables()), Some(user("u", "p")));
        let by_token = Arguments {
            token: text("f"),
            ..flags()
        };
        assert_eq!(login(by_token, variables()), Some(token("f")));
        let by_address = Arguments {
            server: text("x@h"),
            ..flags()
        };
        assert_eq!(login(by_address, variables()), Some(token("x")));
        let other_user = Arguments {
            user: text("v"),
            ..flags()
        };
        assert_eq!(login(other_user.clone(), variables()), Some(user("v", "p")));
        assert_eq!(login(other_user, Variables::default()), None, "an error");
        let name_alone = || Variables {
            user: text("u"),
            ..Variables::default()
        };
        assert_eq!(login(flags(), name_alone()), Some(None));
        let password = Arguments {
            password: text("q"),
            ..flags()
        };
        assert_eq!(login(password, name_alone()), Some(user("u", "q")));
        let in_variable = Variables {
            server: text("a:b@h"),
            ..Variables::default()
        };
        assert_eq!(login(flags(), in_variable), Some(user("a", "b")));
    }
}
