//! Which servers to talk to: those that settings name, those that DNS says, or those that everybody has.
//!
//! [`Finder`] goes by a configuration and asks a [`Resolver`]. It connects to nobody. Nothing that DNS or Facter say, or do
//! not say, is an error: there is always a server to try in the end, `puppet`. Every decision is in the debug log.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use natterjack_dns::{LookupProblem, Resolver, ServiceRecord, in_order};
use parking_lot::Mutex;
use tokio::sync::Mutex as TurnsMutex;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::configuration::{Configuration, Origin, Service, Surroundings};
use crate::facter::Facter;
use crate::identity;
use crate::server::ServerAddress;

/// How long an answer is used again, also that there was none. One start asks for some services several times.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(5);

/// How long Facter is not asked again after it knew no domain: it takes half a second each time, and up to 20 if it hangs.
const UNKNOWN_DOMAIN_AGE_MAX: Duration = Duration::from_secs(60);

/// How long DNS may be silent before it is said that it is waited for: somebody may sit there.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// So much of what Facter says is shown if it makes no sense.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// Services of brokers, the present name and the former one; records of both count.
const MIDDLEWARE: [&str; 2] = ["_mcollective-server._tcp", "_x-puppet-mcollective._tcp"];
/// The same for brokers of a federation.
const FEDERATION: [&str; 2] = [
    "_mcollective-federation_server._tcp",
    "_x-puppet-mcollective_federation._tcp",
];
const PUPPET_SERVER: &str = "_x-puppet._tcp";
const PUPPET_CA: &str = "_x-puppet-ca._tcp";
const PUPPET_DB: &str = "_x-puppet-db._tcp";
const DISCOVERY_PROXY: &str = "_mcollective-discovery._tcp";

/// The host that does everything where nobody says otherwise.
const HOST_DEFAULT: &str = "puppet";
const MIDDLEWARE_PORT_DEFAULT: u16 = 4222;
const PUPPET_PORT_DEFAULT: u16 = 8140;
const PUPPET_DB_PORT_DEFAULT: u16 = 8081;
const DISCOVERY_PROXY_PORT_DEFAULT: u16 = 8085;

/// The public service that Synadia runs.
const NGS: (&str, u16) = ("connect.ngs.global", 4222);

/// Servers, in the order in which to try them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// At least one, each once.
    pub servers: Vec<ServerAddress>,
    /// Who says so.
    pub source: Source,
}

/// Who says which servers to try.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A setting.
    Setting {
        /// Its name.
        name: &'static str,
        /// Where it was made.
        origin: Origin,
    },
    /// SRV records.
    Records {
        /// The services that have some, with the domain.
        services: Vec<String>,
    },
    /// They are those of NGS.
    Ngs,
    /// Nobody: it is what everybody has.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { name, origin } => write!(formatter, "{name}, {origin}"),
            Self::Records { services } => {
                write!(formatter, "SRV records of {}", services.join(" and "))
            }
            Self::Ngs => formatter.write_str("plugin.nats.ngs"),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// The domain of SRV records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Without a dot at its ends.
    pub name: String,
    /// Who says so.
    pub origin: Origin,
}

/// Finds servers. Can be asked at any time, from any number of tasks.
#[derive(Debug)]
pub struct Finder {
    configuration: Configuration,
    facter: Facter,
    resolver: Resolver,
    /// As Facter says. Who waits for it keeps the others from running it as well.
    domain: TurnsMutex<Option<Remembered<Option<String>>>>,
    /// By the full name of the service; there are only the few services above.
    answers: Mutex<BTreeMap<String, Remembered<Vec<ServiceRecord>>>>,
    /// When no DNS server answered, unless one has since.
    unanswered: Mutex<Option<Remembered<LookupProblem>>>,
    /// How long is waited for DNS before that is said.
    silence_max: Duration,
    /// Whether it has been said, unless a server has answered since.
    has_said_waiting: AtomicBool,
    random: Mutex<fastrand::Rng>,
    /// Whether somebody has heard that nobody knows the domain. Servers are looked for again and again.
    has_warned: AtomicBool,
}

/// What somebody said, and when.
#[derive(Clone, Debug)]
struct Remembered<T> {
    said: T,
    at: Instant,
}

impl<T: Clone> Remembered<T> {
    fn now(said: T) -> Self {
        Self { said, at: now() }
    }

    fn if_younger(&self, age_max: Duration, now: Instant) -> Option<T> {
        (now.saturating_duration_since(self.at) < age_max).then(|| self.said.clone())
    }
}

impl Finder {
    /// Finds what this configuration means, on this machine, by this resolver.
    #[must_use]
    pub fn new(
        configuration: &Configuration,
        surroundings: &Surroundings,
        resolver: Resolver,
    ) -> Self {
        Self {
            configuration: configuration.clone(),
            facter: surroundings.facter.clone(),
            resolver,
            domain: TurnsMutex::new(None),
            answers: Mutex::new(BTreeMap::new()),
            unanswered: Mutex::new(None),
            silence_max: SILENCE_MAX,
            has_said_waiting: AtomicBool::new(false),
            random: Mutex::new(fastrand::Rng::new()),
            has_warned: AtomicBool::new(false),
        }
    }

    /// Where to connect: NGS if that is set, the federation's brokers if there is one, and else those of the
    /// [collective](Self::collective). Takes 15 seconds at most for each of the two, if DNS does not answer.
    pub async fn middleware(&self) -> Found {
        if let Some(found) = self.ngs() {
            return told("middleware", found);
        }
        if self.configuration.is_federated() {
            if let Some(found) = self.federation().await {
                return found;
            }
            debug!(
                "no servers of a federation are known; those of the collective are taken instead"
            );
        }
        self.collective().await
    }

    /// The collective's own brokers, whether there is a federation or not: `plugin.choria.middleware_hosts`, else SRV
    /// records, else `puppet:4222`.
    pub async fn collective(&self) -> Found {
        let hosts = &self.configuration.middleware_hosts;
        let found = match self.named("plugin.choria.middleware_hosts", hosts) {
            Some(found) => found,
            None => match self.pooled(&MIDDLEWARE).await {
                Some(found) => found,
                None => by_default(MIDDLEWARE_PORT_DEFAULT),
            },
        };
        told("middleware", found)
    }

    /// The federation's brokers: `plugin.choria.federation_middleware_hosts`, else SRV records, else none.
    pub async fn federation(&self) -> Option<Found> {
        let hosts = &self.configuration.federation.middleware_hosts;
        let found = match self.named("plugin.choria.federation_middleware_hosts", hosts) {
            Some(found) => found,
            None => self.pooled(&FEDERATION).await?,
        };
        Some(told("federation", found))
    }

    /// Puppet's authority: as set, else SRV records of its own, else those of Puppet's servers, else `puppet:8140`.
    pub async fn puppet_ca(&self) -> Found {
        let names = ["plugin.choria.puppetca_host", "plugin.choria.puppetca_port"];
        let set = self.set(names, &self.configuration.puppet_ca, PUPPET_PORT_DEFAULT);
        let found = match set {
            Some(found) => found,
            None => match self.first_of(&[PUPPET_CA, PUPPET_SERVER]).await {
                Some(found) => found,
                None => by_default(PUPPET_PORT_DEFAULT),
            },
        };
        told("Puppet CA", found)
    }

    /// Puppet's server: as set, else SRV records, else `puppet:8140`.
    pub async fn puppet_server(&self) -> Found {
        let names = [
            "plugin.choria.puppetserver_host",
            "plugin.choria.puppetserver_port",
        ];
        let set = self.set(
            names,
            &self.configuration.puppet_server,
            PUPPET_PORT_DEFAULT,
        );
        let found = match set {
            Some(found) => found,
            None => match self.first_of(&[PUPPET_SERVER]).await {
                Some(found) => found,
                None => by_default(PUPPET_PORT_DEFAULT),
            },
        };
        told("Puppet server", found)
    }

    /// PuppetDB: as set, else SRV records of its own, else the hosts of Puppet's servers, else `puppet`; its port is 8081
    /// or what is set where no record of its own says otherwise.
    pub async fn puppet_db(&self) -> Found {
        let names = ["plugin.choria.puppetdb_host", "plugin.choria.puppetdb_port"];
        let service = &self.configuration.puppet_db;
        let port = service.port.unwrap_or(PUPPET_DB_PORT_DEFAULT);
        // The port alone says nothing of the host.
        let set = service
            .host
            .is_some()
            .then(|| self.set(names, service, port))
            .flatten();
        let found = match set {
            Some(found) => found,
            None => match self.first_of(&[PUPPET_DB]).await {
                Some(found) => found,
                None => match self.first_of(&[PUPPET_SERVER]).await {
                    // Their ports are those of Puppet's servers.
                    Some(found) => found.at_port(port),
                    None => by_default(port),
                },
            },
        };
        told("PuppetDB", found)
    }

    /// The discovery proxy, if there is one: as set, else SRV records, else `puppet:8085`.
    pub async fn discovery_proxy(&self) -> Option<Found> {
        if !self.configuration.use_discovery_proxy {
            return None;
        }
        let names = [
            "plugin.choria.discovery_host",
            "plugin.choria.discovery_port",
        ];
        let set = self.set(
            names,
            &self.configuration.discovery_proxy,
            DISCOVERY_PROXY_PORT_DEFAULT,
        );
        let found = match set {
            Some(found) => found,
            None => match self.first_of(&[DISCOVERY_PROXY]).await {
                Some(found) => found,
                None => by_default(DISCOVERY_PROXY_PORT_DEFAULT),
            },
        };
        Some(told("discovery proxy", found))
    }

    /// The domain of SRV records: `CHORIA_SRV_DOMAIN`, `plugin.choria.srv_domain`, or what Facter says. Waits for Facter,
    /// half a second usually.
    pub async fn domain(&self) -> Option<Domain> {
        const NAME: &str = "plugin.choria.srv_domain";
        if let Some(name) = self.configuration.srv_domain.as_deref()
            && !name.is_empty()
        {
            return Some(Domain {
                name: name.to_owned(),
                origin: self.configuration.origin(NAME),
            });
        }
        let name = self.facter_domain().await?;
        Some(Domain {
            name,
            origin: Origin::Machine("Facter's networking.domain"),
        })
    }

    /// What Facter says this machine's domain is, whether it is used or not.
    pub async fn facter_domain(&self) -> Option<String> {
        let mut remembered = self.domain.lock().await;
        let again = remembered.clone().and_then(|it| match it.said {
            Some(name) => Some(Some(name)),
            None => it.if_younger(UNKNOWN_DOMAIN_AGE_MAX, now()),
        });
        if let Some(said) = again {
            return said;
        }
        let facter = self.facter.clone();
        let asked = spawn_blocking(move || facter.fact("networking.domain"));
        let said = asked.await.ok().flatten();
        let said = said.map(|name| name.trim_matches('.').to_owned());
        let said = said.filter(|name| !name.is_empty() && self.is_domain(name));
        match (&said, self.facter.program()) {
            (Some(domain), _) => debug!(domain, "Facter knows this machine's domain"),
            (None, Some(program)) => {
                debug!(program = %program.display(), "Facter knows no domain of this machine");
            }
            (None, None) => debug!("there is no Facter on this machine"),
        }
        *remembered = Some(Remembered::now(said.clone()));
        said
    }

    /// Whether that can be the domain that Facter knows; if not, it is told what is wrong.
    fn is_domain(&self, name: &str) -> bool {
        let is_domain = identity::check(name).is_ok() && !name.contains("..");
        if !is_domain && let Some(program) = self.facter.program() {
            let shown: String = name.chars().take(SHOWN_CHARACTERS_MAX).collect();
            warn!(
                "{} says that this machine's domain is {shown:?}, which is no domain; see what is wrong with it, or set \
                 plugin.choria.srv_domain",
                program.display()
            );
        }
        is_domain
    }

    /// What is wrong with DNS and what to do, if no server has answered when it was last asked.
    #[must_use]
    pub fn unanswered(&self) -> Option<String> {
        let problem = self.unanswered.lock().as_ref().map(|it| it.said)?;
        Some(format!("{problem}; {}", self.resolver.remedy(problem)))
    }

    fn ngs(&self) -> Option<Found> {
        if !self.configuration.is_ngs {
            return None;
        }
        if self.configuration.credentials.is_none() {
            debug!("plugin.nats.ngs is on, but counts only with plugin.nats.credentials");
            return None;
        }
        if !self.configuration.middleware_hosts.is_empty() {
            debug!("plugin.nats.ngs is on, but plugin.choria.middleware_hosts names servers");
            return self.named(
                "plugin.choria.middleware_hosts",
                &self.configuration.middleware_hosts,
            );
        }
        Some(Found {
            servers: vec![ServerAddress::new(NGS.0, NGS.1)],
            source: Source::Ngs,
        })
    }

    /// Servers that a setting names, shuffled unless that is switched off: who names several without saying more wants the
    /// load on all of them.
    fn named(&self, name: &'static str, hosts: &[ServerAddress]) -> Option<Found> {
        if hosts.is_empty() {
            debug!("{name} names no servers");
            return None;
        }
        let mut servers = each_once(hosts.to_vec());
        if self.configuration.randomize_middleware_hosts && servers.len() > 1 {
            debug!("{name} is shuffled, as plugin.choria.randomize_middleware_hosts says");
            self.random.lock().shuffle(&mut servers);
        }
        Some(Found {
            servers,
            source: Source::Setting {
                name,
                origin: self.configuration.origin(name),
            },
        })
    }

    /// A service of Puppet's of which host or port are set; then nobody is asked.
    fn set(
        &self,
        [host, port]: [&'static str; 2],
        service: &Service,
        port_default: u16,
    ) -> Option<Found> {
        let name = match (&service.host, service.port) {
            (Some(_), _) => host,
            (None, Some(_)) => port,
            (None, None) => return None,
        };
        let server = ServerAddress::new(
            service.host.as_deref().unwrap_or(HOST_DEFAULT),
            service.port.unwrap_or(port_default),
        );
        Some(Found {
            servers: vec![server],
            source: Source::Setting {
                name,
                origin: self.configuration.origin(name),
            },
        })
    }

    /// What all these services have together.
    async fn pooled(&self, services: &[&str]) -> Option<Found> {
        let names = self.full_names(services).await?;
        let answers = join_all(names.iter().map(|name| self.records(name))).await;
        self.in_order(names.into_iter().zip(answers).collect())
    }

    /// What the first of these services has that has any.
    async fn first_of(&self, services: &[&str]) -> Option<Found> {
        for name in self.full_names(services).await? {
            let records = self.records(&name).await;
            if let Some(found) = self.in_order(vec![(name, records)]) {
                return Some(found);
            }
        }
        None
    }

    /// With the domain; `None`, and said why, if there is nothing to ask for.
    async fn full_names(&self, services: &[&str]) -> Option<Vec<String>> {
        if !self.configuration.use_srv {
            let name = if self.configuration.text("plugin.choria.use_srv").is_some() {
                "plugin.choria.use_srv"
            } else {
                "plugin.choria.use_srv_records"
            };
            debug!(
                "SRV records of {} are not asked for: {name} is off",
                services.join(" and ")
            );
            return None;
        }
        let Some(domain) = self.domain().await else {
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                warn!(
                    "SRV records cannot be looked up, since nobody knows this machine's domain; set \
                     plugin.choria.srv_domain, or plugin.choria.use_srv = false"
                );
            }
            debug!(
                "SRV records of {} are not asked for: nobody knows the domain",
                services.join(" and ")
            );
            return None;
        };
        debug!(domain = domain.name, origin = %domain.origin, "the domain of SRV records");
        let full = |service: &&str| format!("{service}.{}", domain.name);
        Some(services.iter().map(full).collect())
    }

    /// What DNS says about a service; none is no error.
    async fn records(&self, name: &str) -> Vec<ServiceRecord> {
        let remembered = self.answers.lock().get(name).cloned();
        if let Some(records) = remembered.and_then(|it| it.if_younger(ANSWER_AGE_MAX, now())) {
            debug!(
                name,
                records = records.len(),
                "SRV records were asked for just now"
            );
            return records;
        }
        let unanswered = self.unanswered.lock().clone();
        if unanswered.is_some_and(|it| it.if_younger(ANSWER_AGE_MAX, now()).is_some()) {
            debug!(
                name,
                "SRV records are not asked for: no DNS server answered just now"
            );
            return Vec::new();
        }
        debug!(name, "asking for SRV records");
        // With the dot it is looked for nowhere else.
        let full_name = format!("{name}.");
        let mut question = pin!(self.resolver.service(&full_name));
        let answer = match timeout(self.silence_max, &mut question).await {
            Ok(answer) => answer,
            Err(_) => {
                self.say_waiting(name);
                question.await
            }
        };
        self.note_answer(answer.as_ref().err().copied());
        let records = match answer {
            Ok(answer) => answer.records,
            Err(problem) => {
                let remedy = self.resolver.remedy(problem);
                debug!(name, %problem, remedy, "no SRV records");
                Vec::new()
            }
        };
        for record in &records {
            debug!(
                name,
                host = record.host,
                port = record.port,
                priority = record.priority,
                weight = record.weight,
                "SRV record"
            );
        }
        let answer = Remembered::now(records.clone());
        self.answers.lock().insert(name.to_owned(), answer);
        records
    }

    /// Says once, until somebody has answered, what takes so long.
    fn say_waiting(&self, name: &str) {
        if !self.has_said_waiting.swap(true, Ordering::Relaxed) {
            warn!(
                "waiting for DNS, which has not answered yet which servers there are ({name}); without an answer it goes on \
                 after 15 seconds at most"
            );
        }
    }

    /// Remembers whether anybody answered at all, and tells it once until somebody has.
    fn note_answer(&self, problem: Option<LookupProblem>) {
        let mut unanswered = self.unanswered.lock();
        let (LookupProblem::NoAnswer | LookupProblem::NoServers) =
            problem.unwrap_or(LookupProblem::NoRecords)
        else {
            *unanswered = None;
            self.has_said_waiting.store(false, Ordering::Relaxed);
            return;
        };
        let before = std::mem::replace(&mut *unanswered, problem.map(Remembered::now));
        drop(unanswered);
        if before.is_none()
            && let Some(told) = self.unanswered()
        {
            warn!("{told}; or set plugin.choria.use_srv = false to have nobody asked");
        }
    }

    /// Ascending priorities; within one the lot decides, where chances are as weights.
    fn in_order(&self, answers: Vec<(String, Vec<ServiceRecord>)>) -> Option<Found> {
        let mut services = Vec::new();
        let mut records = Vec::new();
        for (name, answer) in answers {
            let usable: Vec<_> = answer
                .into_iter()
                .filter(|it| is_usable(&name, it))
                .collect();
            if !usable.is_empty() {
                services.push(name);
                records.extend(usable);
            }
        }
        let records = in_order(each_server_once(records), &mut self.random.lock());
        let servers = records
            .iter()
            .map(|record| ServerAddress::new(&record.host, record.port));
        let servers = each_once(servers.collect());
        (!servers.is_empty()).then_some(Found {
            servers,
            source: Source::Records { services },
        })
    }
}

impl Found {
    fn at_port(self, port: u16) -> Self {
        let servers = self.servers.into_iter();
        let servers = servers.map(|server| ServerAddress { port, ..server });
        Self {
            servers: each_once(servers.collect()),
            ..self
        }
    }
}

fn told(what: &str, found: Found) -> Found {
    let servers: Vec<_> = found.servers.iter().map(ToString::to_string).collect();
    debug!(servers = servers.join(", "), source = %found.source, "servers found for {what}");
    found
}

fn by_default(port: u16) -> Found {
    Found {
        servers: vec![ServerAddress::new(HOST_DEFAULT, port)],
        source: Source::Default,
    }
}

/// A record whose host is the root says that there is no such service here (RFC 2782, "Target"). Others cannot be meant: DNS
/// can have names that no host has.
fn is_usable(name: &str, record: &ServiceRecord) -> bool {
    if record.host.is_empty() {
        debug!(name, "the service is not offered here, its record says");
        return false;
    }
    match format!("{}:{}", record.host, record.port).parse::<ServerAddress>() {
        Ok(_) => true,
        Err(error) => {
            debug!(name, %error, "an SRV record is left out");
            false
        }
    }
}

/// Where both names of a service are in use, they usually have the same records. The best place counts, and the greatest
/// weight there.
fn each_server_once(mut records: Vec<ServiceRecord>) -> Vec<ServiceRecord> {
    records.sort_by_key(|record| (record.priority, std::cmp::Reverse(record.weight)));
    let mut seen = Vec::new();
    records.retain(|record| {
        let server = (record.host.to_ascii_lowercase(), record.port);
        let is_new = !seen.contains(&server);
        if is_new {
            seen.push(server);
        } else {
            debug!(
                host = record.host,
                port = record.port,
                "a server stands in several SRV records"
            );
        }
        is_new
    });
    records
}

/// Without those that stand in it already, in whatever case.
fn each_once(servers: Vec<ServerAddress>) -> Vec<ServerAddress> {
    let mut once: Vec<ServerAddress> = Vec::with_capacity(servers.len());
    for server in servers {
        let is_known = once.iter().any(|known| {
            known.port == server.port && known.host.eq_ignore_ascii_case(&server.host)
        });
        if is_known {
            debug!(%server, "a server is named several times");
        } else {
            once.push(server);
        }
    }
    once
}

fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "answers age here; how old is too old is decided with the time as an argument"
    )]
    Instant::now()
}

#[cfg(test)]
mod tests;
