//! Asking servers: through their monitoring, or all of a cluster through the system account. What they say becomes samples;
//! what becomes of these is the state's business.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use rustls::ClientConfig;

use super::http::{Address, AskError, Client};
use super::page::{Accstatz, Connz, Sample, Varz};
use super::state::{State, Unasked};
use super::system::SystemAccount;

/// Members of a cluster that are looked for at one time.
const MEMBERS_MAX: usize = 64;

/// How often a member that could not be asked is tried again, in rounds.
const RETRY_ROUNDS: u64 = 10;

/// What is wanted of servers, besides all they are.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// In which order connections are, so that the first of them are those wanted.
    pub(super) sort: &'static str,
    /// How many of them are listed.
    pub(super) connections_max: usize,
}

/// What one question brought.
pub(super) enum Heard {
    /// Of a server, by where it was asked.
    Server {
        address: String,
        said: Result<Box<Sample>, String>,
    },
    /// Of nobody at all, and why.
    Nothing(String),
}

/// Whoever can be asked. It is moved into a question and comes back with the answer, so that there is one at a time.
pub(super) enum Source {
    Monitoring(Box<Monitoring>),
    System(Box<SystemAccount>),
}

impl Source {
    pub(super) async fn ask(mut self, wanted: Wanted) -> (Self, Vec<Heard>) {
        let heard = match &mut self {
            Self::Monitoring(server) => vec![Heard::Server {
                address: server.client.address().to_string(),
                said: match server.ask(&wanted).await {
                    Ok(sample) => Ok(Box::new(sample)),
                    Err(error) => Err(error.to_string()),
                },
            }],
            Self::System(account) => account.ask(&wanted).await,
        };
        (self, heard)
    }
}

/// The monitoring of one server.
pub(super) struct Monitoring {
    client: Client,
    /// The server that was asked last, by its id and when it was started.
    asked: Option<(String, Option<jiff::Timestamp>)>,
    has_bus_page: bool,
    has_accounts_page: bool,
    /// Whether it sorts connections as it is asked to.
    sorts: bool,
    closed: Closed,
}

/// The closed connections that were told last, and how many had been closed for being slow by then.
#[derive(Default)]
pub(super) struct Closed {
    slow_consumers: u64,
    listed: Connz,
}

impl Closed {
    /// Whether there are new ones to ask for.
    pub(super) fn is_outdated(&self, varz: &Varz) -> bool {
        varz.slow_consumers != self.slow_consumers
    }

    pub(super) fn update(&mut self, varz: &Varz, listed: Connz) {
        self.slow_consumers = varz.slow_consumers;
        self.listed = listed;
    }

    pub(super) fn listed(&self) -> Connz {
        self.listed.clone()
    }
}

impl Monitoring {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            asked: None,
            has_bus_page: true,
            has_accounts_page: true,
            sorts: true,
            closed: Closed::default(),
        }
    }

    /// All pages, one after the other, over one connection.
    async fn ask(&mut self, wanted: &Wanted) -> Result<Sample, AskError> {
        let varz: Varz = self.client.page("varz", "").await?;
        let identity = (varz.server_id.clone(), varz.start);
        if self.asked.as_ref() != Some(&identity) {
            self.asked = Some(identity);
            self.has_bus_page = true;
            self.has_accounts_page = true;
            self.sorts = true;
            self.closed = Closed::default();
        }
        let connz = self.connections(wanted).await?;
        let routez = self.client.page("routez", "").await?;
        let accstatz = self.accounts().await?;
        if self.closed.is_outdated(&varz) {
            let query = format!(
                "?state=closed&sort=stop&auth=1&limit={}",
                wanted.connections_max
            );
            let listed = self.client.page("connz", &query).await?;
            self.closed.update(&varz, listed);
        }
        let bus = self.bus().await?;
        Ok(Sample {
            varz,
            connz,
            routez,
            accstatz,
            closed: self.closed.listed(),
            bus,
        })
    }

    async fn connections(&mut self, wanted: &Wanted) -> Result<Connz, AskError> {
        let limit = wanted.connections_max;
        if self.sorts {
            let query = format!("?auth=1&limit={limit}&sort={}", wanted.sort);
            match self.client.page("connz", &query).await {
                // Old servers do not know all orders.
                Err(error) if error.is_bad_request() => self.sorts = false,
                answer => return answer,
            }
        }
        let query = format!("?auth=1&limit={limit}");
        self.client.page("connz", &query).await
    }

    async fn accounts(&mut self) -> Result<Accstatz, AskError> {
        if !self.has_accounts_page {
            return Ok(Accstatz::default());
        }
        match self.client.page("accstatz", "?unused=1").await {
            Err(error) if error.is_absence() => {
                self.has_accounts_page = false;
                Ok(Accstatz::default())
            }
            answer => answer,
        }
    }

    async fn bus(&mut self) -> Result<Option<serde_json::Value>, AskError> {
        if !self.has_bus_page {
            return Ok(None);
        }
        match self.client.page("busz", "").await {
            Err(error) if error.is_absence() => {
                self.has_bus_page = false;
                Ok(None)
            }
            answer => answer.map(Some),
        }
    }
}

/// How to reach monitoring: with which certificates and which login.
#[derive(Clone, Default)]
pub(super) struct Access {
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// A login in an address goes before it.
    pub(super) authorization: Option<HeaderValue>,
}

impl Access {
    pub(super) fn client(&self, address: Address) -> Client {
        let in_address = address.login.as_ref();
        let in_address = in_address.and_then(|(user, password)| basic(user, password));
        let authorization = in_address.or_else(|| self.authorization.clone());
        Client::new(address, self.tls.clone(), authorization)
    }
}

/// A user and a password as a header says them (RFC 7617); none if they cannot be said.
pub(super) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let login = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
    secret(&format!("Basic {login}"))
}

/// A token as a header says it (RFC 6750).
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Looks for the members of a cluster that nobody has named: where their monitoring would be if it were where that of the
/// server is that knows them.
pub(super) struct Discovery {
    access: Access,
    /// The address of which others are guessed.
    model: Address,
    rounds: u64,
    /// Addresses that are asked by now, so that none is asked twice.
    asked: HashSet<String>,
    /// When a member was last looked for, in rounds, by its id.
    tried: BTreeMap<String, u64>,
}

/// A member that has been looked for.
pub(super) struct Found {
    pub(super) id: String,
    pub(super) name: String,
    /// Whom to ask from now on, or why not.
    pub(super) outcome: Result<Source, String>,
}

impl Discovery {
    pub(super) fn new(access: Access, named: &[Address]) -> Option<Self> {
        Some(Self {
            access,
            model: named.first()?.clone(),
            rounds: 0,
            asked: named.iter().map(ToString::to_string).collect(),
            tried: BTreeMap::new(),
        })
    }

    /// Members to be looked for now, as questions to be asked.
    pub(super) fn round(&mut self, state: &State) -> Vec<impl Future<Output = Found> + use<>> {
        self.rounds += 1;
        let known: HashSet<&str> = state.varz().map(|varz| varz.server_id.as_str()).collect();
        let peers = state.servers.iter().flat_map(|server| &server.peers);
        let mut wanted: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for (id, peer) in peers {
            if peer.lost.is_none() && !known.contains(id.as_str()) {
                wanted.insert(id, (&peer.name, &peer.ip));
            }
        }
        let mut questions = Vec::new();
        for (id, (name, ip)) in wanted.into_iter().take(MEMBERS_MAX) {
            let is_due = self
                .tried
                .get(id)
                .is_none_or(|round| self.rounds >= round + RETRY_ROUNDS);
            if !is_due {
                continue;
            }
            self.tried.insert(id.to_owned(), self.rounds);
            let address = self.model.on_host(ip);
            let is_asked = self.asked.contains(&address.to_string());
            let client = self.access.client(address);
            questions.push(look_for(id.to_owned(), name.to_owned(), client, is_asked));
        }
        questions
    }

    /// Remembers what came of it. Members that went away, or are asked by now, are not told of any more.
    pub(super) fn conclude(&mut self, found: Found, state: &mut State) -> Option<Source> {
        match found.outcome {
            Ok(source) => {
                if let Source::Monitoring(server) = &source {
                    self.asked.insert(server.client.address().to_string());
                }
                state.unasked.remove(&found.id);
                Some(source)
            }
            Err(reason) => {
                let name = found.name;
                state.unasked.insert(found.id, Unasked { name, reason });
                None
            }
        }
    }

    /// Forgets members that nobody is connected to any more, or that are asked meanwhile.
    pub(super) fn forget(state: &mut State) {
        let asked: HashSet<String> = state.varz().map(|varz| varz.server_id.clone()).collect();
        let peers = state.servers.iter().flat_map(|server| &server.peers);
        let present: HashSet<String> = peers
            .filter(|(_, peer)| peer.lost.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        state
            .unasked
            .retain(|id, _| present.contains(id) && !asked.contains(id));
    }
}

/// Asks who is there. It may be another server, above all where several are on one machine.
async fn look_for(id: String, name: String, mut client: Client, is_asked: bool) -> Found {
    let address = client.address().to_string();
    let outcome = if is_asked {
        Err(format!(
            "{address} is another server; name the address of its monitoring, too"
        ))
    } else {
        match client.page::<Varz>("varz", "").await {
            Ok(varz) if varz.server_id == id => {
                Ok(Source::Monitoring(Box::new(Monitoring::new(client))))
            }
            Ok(varz) => Err(format!(
                "{address} is {}; name the address of its monitoring, too",
                varz.server_name
            )),
            Err(error) => Err(format!("{address}: {error}")),
        }
    };
    Found { id, name, outcome }
}

/// How long servers that have not been heard of may take to answer in the system account.
pub(super) const FIRST_ANSWERS: Duration = Duration::from_millis(700);
