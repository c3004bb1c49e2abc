//! Asks for names: the hosts file, then the DNS servers that the system is configured for, then the system itself.
//!
//! `/etc/hosts` and `/etc/resolv.conf` are read for each lookup, so what is changed in them counts from the next one on;
//! and nothing is cached here, since whoever asks knows how long answers are good.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tokio::net::lookup_host;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::problem::LookupProblem;
use crate::service::ServiceRecord;

/// How long a lookup may take in all, with every server, repetition and search domain.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(15);

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<R> {
    /// What was found.
    pub records: R,
    /// How long it is good; `None` if who answered does not say.
    pub valid_for: Option<Duration>,
}

impl<R> Answer<R> {
    /// The same with other records.
    pub fn map<S>(self, change: impl FnOnce(R) -> S) -> Answer<S> {
        Answer {
            records: change(self.records),
            valid_for: self.valid_for,
        }
    }
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// `None`: whom the system asks.
    servers: Option<Vec<SocketAddr>>,
    /// How long to wait for one answer; `None`: as the system's configuration says, else five seconds.
    patience: Option<Duration>,
}

/// What a lookup goes by.
struct Sources {
    hosts: Hosts,
    resolver: Result<TokioResolver, LookupProblem>,
}

impl Resolver {
    /// Asks whom the system asks.
    #[must_use]
    pub fn system() -> Self {
        Self {
            servers: None,
            patience: None,
        }
    }

    /// Asks these DNS servers and nobody else: neither the hosts file nor the system are looked at.
    #[must_use]
    pub fn with_servers(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers: Some(servers),
            patience: None,
        }
    }

    /// The same, but no answer is waited for longer than this before the question is repeated. All servers and repetitions
    /// together take 15 seconds at most in any case.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The addresses of a host, as far as this machine has a way to them: those in the hosts file, else those that DNS
    /// says, both of IPv4 and IPv6, else those that the system finds in its own ways.
    ///
    /// # Errors
    ///
    /// If there are none, or nobody answers.
    pub async fn addresses(&self, host: &str) -> Result<Answer<Vec<IpAddr>>, LookupProblem> {
        Ok(within_time(self.all_addresses(host)).await?.map(with_a_way))
    }

    async fn all_addresses(&self, host: &str) -> Result<Answer<Vec<IpAddr>>, LookupProblem> {
        let name = Name::from_utf8(host).map_err(|_| LookupProblem::Malformed)?;
        let sources = self.sources().await?;
        let records = hosts_addresses(&sources.hosts, &name);
        if !records.is_empty() {
            return Ok(Answer {
                records,
                valid_for: None,
            });
        }
        let problem = match dns_addresses(sources.resolver, name).await {
            Ok(answer) => return Ok(answer),
            Err(problem) => problem,
        };
        // Names that are in no DNS: of the local network, of a directory, of this machine.
        if self.servers.is_none()
            && let Ok(addresses) = lookup_host((host, 0)).await
        {
            let records: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
            if !records.is_empty() {
                return Ok(Answer {
                    records,
                    valid_for: None,
                });
            }
        }
        Err(problem)
    }

    /// The hosts that offer a service, in no order, and with all that the records say.
    ///
    /// # Errors
    ///
    /// If there are none, or nobody answers.
    pub async fn service(&self, name: &str) -> Result<Answer<Vec<ServiceRecord>>, LookupProblem> {
        within_time(async {
            let name = Name::from_utf8(name).map_err(|_| LookupProblem::Malformed)?;
            let resolver = self.sources().await?.resolver?;
            let lookup = resolver.srv_lookup(name).await.map_err(problem)?;
            let records = lookup.answers().iter().filter_map(|record| {
                let RData::SRV(data) = &record.data else {
                    return None;
                };
                let host = data.target.to_ascii();
                Some(ServiceRecord {
                    priority: data.priority,
                    weight: data.weight,
                    host: host.strip_suffix('.').unwrap_or(&host).to_owned(),
                    port: data.port,
                })
            });
            Ok(Answer {
                records: records.collect(),
                valid_for: Some(lookup.valid_until().saturating_duration_since(now())),
            })
        })
        .await
    }

    /// What an operator can do about a problem; it matters who was asked.
    #[must_use]
    pub const fn remedy(&self, problem: LookupProblem) -> &'static str {
        match (problem, &self.servers) {
            (LookupProblem::NoAnswer, Some(_)) => {
                "see that the DNS servers that were given run and can be reached from here"
            }
            _ => problem.remedy(),
        }
    }

    async fn sources(&self) -> Result<Sources, LookupProblem> {
        let patience = self.patience;
        match &self.servers {
            Some(servers) => Ok(Sources {
                hosts: Hosts::default(),
                resolver: resolver(asking(servers), ResolverOpts::default(), patience),
            }),
            None => spawn_blocking(move || system_sources(patience))
                .await
                .map_err(|_| LookupProblem::NoServers),
        }
    }
}

fn system_sources(patience: Option<Duration>) -> Sources {
    Sources {
        // Without the file there are no hosts in it.
        hosts: Hosts::from_system().unwrap_or_default(),
        resolver: match system_conf::read_system_conf() {
            Ok((config, options)) => resolver(config, options, patience),
            Err(_) => Err(LookupProblem::NoServers),
        },
    }
}

fn asking(servers: &[SocketAddr]) -> ResolverConfig {
    let servers = servers.iter().map(|server| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = server.port();
        }
        NameServerConfig::new(server.ip(), true, connections)
    });
    ResolverConfig::from_name_servers(servers.collect())
}

fn resolver(
    config: ResolverConfig,
    mut options: ResolverOpts,
    patience: Option<Duration>,
) -> Result<TokioResolver, LookupProblem> {
    if let Some(patience) = patience {
        options.timeout = patience;
    }
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Looked into before, so that an IPv4 address there does not wait for DNS to say that there is no IPv6 address.
    options.use_hosts_file = ResolveHosts::Never;
    options.try_tcp_on_error = true;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map_err(problem)
}

fn hosts_addresses(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)))
        .flat_map(|lookup| {
            let addresses = lookup
                .answers()
                .iter()
                .filter_map(|record| record.data.ip_addr());
            addresses.collect::<Vec<_>>()
        })
        .collect()
}

async fn dns_addresses(
    resolver: Result<TokioResolver, LookupProblem>,
    name: Name,
) -> Result<Answer<Vec<IpAddr>>, LookupProblem> {
    let lookup = resolver?.lookup_ip(name).await.map_err(problem)?;
    let records: Vec<IpAddr> = lookup.iter().collect();
    if records.is_empty() {
        return Err(LookupProblem::NoRecords);
    }
    Ok(Answer {
        records,
        valid_for: Some(lookup.valid_until().saturating_duration_since(now())),
    })
}

fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "answers are good until a time, and whoever asks is told for how long"
    )]
    Instant::now()
}

async fn within_time<T>(
    lookup: impl Future<Output = Result<T, LookupProblem>>,
) -> Result<T, LookupProblem> {
    timeout(LOOKUP_TIME_MAX, lookup)
        .await
        .unwrap_or(Err(LookupProblem::NoAnswer))
}

/// Those of the addresses that this machine has a way to; all of them if it has none to any. Nothing is sent.
fn with_a_way(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let some: Vec<IpAddr> = addresses
        .iter()
        .copied()
        .filter(|it| has_way(*it))
        .collect();
    if some.is_empty() { addresses } else { some }
}

fn has_way(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // To connect a socket for datagrams only looks for the way; the port, discard, is as good as any.
    let looked = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, 9)));
    !looked.is_err_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::Unsupported
                // An address that means nothing without saying of which network.
                | io::ErrorKind::InvalidInput
        )
    })
}

fn problem(error: NetError) -> LookupProblem {
    match &error {
        _ if error.is_nx_domain() => LookupProblem::NoSuchName,
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => LookupProblem::Refused,
        NetError::Dns(DnsError::ResponseCode(_)) => LookupProblem::ServerFailure,
        NetError::Dns(_) => LookupProblem::NoRecords,
        NetError::Timeout | NetError::NoConnections | NetError::Busy | NetError::Io(_) => {
            LookupProblem::NoAnswer
        }
        _ => LookupProblem::BadAnswer,
    }
}

#[cfg(test)]
mod tests {
    use testkit::{Answering, DnsServer};

    use super::*;

    const SERVICE: &str = "_nats-route._tcp.a.test";

    fn asking(dns: &DnsServer) -> Resolver {
        Resolver::with_servers(vec![dns.address()]).with_patience(Duration::from_millis(250))
    }

    #[tokio::test]
    async fn why_names_cannot_be_looked_up() {
        let dns = DnsServer::start();
        let resolver = asking(&dns);
        dns.set_host("empty.test", 60, &[]);
        for (name, expected) in [
            ("nobody.test", LookupProblem::NoSuchName),
            ("empty.test", LookupProblem::NoRecords),
            ("no name", LookupProblem::Malformed),
            ("a..test", LookupProblem::Malformed),
        ] {
            assert_eq!(resolver.addresses(name).await, Err(expected), "{name}");
        }
        assert_eq!(
            resolver.service("empty.test").await,
            Err(LookupProblem::NoRecords)
        );
        for (answering, expected) in [
            (Answering::Failure, LookupProblem::ServerFailure),
            (Answering::Refusal, LookupProblem::Refused),
            (Answering::Silence, LookupProblem::NoAnswer),
        ] {
            dns.set_answering(answering);
            assert_eq!(
                resolver.addresses("a.test").await,
                Err(expected),
                "{answering:?}"
            );
            assert_eq!(
                resolver.service(SERVICE).await,
                Err(expected),
                "{answering:?}"
            );
        }
        drop(dns);
        let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let resolver = Resolver::with_servers(vec![nobody.local_addr().unwrap()])
            .with_patience(Duration::from_millis(250));
        drop(nobody);
        assert_eq!(
            resolver.service(SERVICE).await,
            Err(LookupProblem::NoAnswer)
        );
    }

    #[test]
    fn remedies_are_about_those_who_were_asked() {
        let remedy = |resolver: Resolver| resolver.remedy(LookupProblem::NoAnswer);
        assert!(remedy(Resolver::system()).contains("/etc/resolv.conf"));
        assert!(remedy(Resolver::with_servers(Vec::new())).contains("that were given"));
    }

    #[tokio::test]
    async fn answers_and_how_long_they_are_good() {
        let dns = DnsServer::start();
        let resolver = asking(&dns);
        dns.set_host("a.test", 60, &[Ipv4Addr::LOCALHOST.into()]);
        let answer = resolver.addresses("a.test").await.unwrap();
        assert_eq!(answer.records, [IpAddr::from(Ipv4Addr::LOCALHOST)]);
        let good = answer.valid_for.unwrap().as_secs();
        assert!((55..=60).contains(&good), "{good}");
        let asked = dns.questions("a.test");
        resolver.addresses("a.test").await.unwrap();
        assert_eq!(dns.questions("a.test"), 2 * asked, "nothing is remembered");
    }

    #[tokio::test]
    async fn this_machine_is_found() {
        let answer = Resolver::system().addresses("localhost").await.unwrap();
        assert!(answer.records.iter().all(IpAddr::is_loopback), "{answer:?}");
    }

    #[test]
    fn the_hosts_file_says_both_kinds_of_addresses() {
        let mut hosts = Hosts::default();
        let text = "127.0.0.2 a.test a # comment\n::1 a\n127.0.0.3 a\n";
        hosts.read_hosts_conf(text.as_bytes()).unwrap();
        let of = |name: &str| hosts_addresses(&hosts, &Name::from_utf8(name).unwrap());
        let expected: [IpAddr; 3] = ["127.0.0.2", "127.0.0.3", "::1"].map(|it| it.parse().unwrap());
        assert_eq!(of("A"), expected);
        assert_eq!(of("a.test."), expected[..1]);
        assert!(of("b").is_empty());
    }

    #[test]
    fn addresses_without_a_way_are_left_out() {
        // It is in every network, and which one is not said.
        let nowhere: IpAddr = "fe80::1".parse().unwrap();
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(with_a_way(vec![nowhere, here]), [here]);
        assert_eq!(with_a_way(vec![nowhere]), [nowhere]);
    }
}
