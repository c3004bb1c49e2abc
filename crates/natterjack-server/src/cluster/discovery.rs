//! Keeps what the configured routes stand for up to date: asks for the names in them when `seeds` says so, and hands on
//! and logs what comes of it. Decides nothing.

use std::collections::HashMap;
use std::time::Instant;

use natterjack_dns::{Answer, LookupProblem, Resolver};
use natterjack_engine::Target;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep_until;
use tracing::{info, warn};

use super::seeds::{Found, News, Outcome, Pace, SeedName, Seeds, TARGETS_MAX, address};
use crate::clock;
use crate::options::RouteUrl;

/// Names that are asked for at one time; more wait for their turn.
const LOOKUPS_MAX: usize = 8;

/// Told that the route at this place in the configuration stands for these servers from now on, in the order to try. It
/// is called under the lock that [`Discovery::replace`] takes, and must not call back.
pub(crate) type Output = Box<dyn Fn(usize, &[Target], Instant) + Send + Sync>;

/// The names in the configured routes, and who is told what they stand for.
///
/// A route that names an address is none of its business. A host name with several addresses stands for a server at each;
/// until it has been looked up for the first time nothing is said of it. What a name stood for is kept while it cannot be
/// looked up.
pub(crate) struct Discovery {
    seeds: Mutex<Seeds>,
    /// There are other names to ask for.
    replaced: Notify,
    resolver: Resolver,
    output: Output,
}

/// An answer, or why there is none.
type Reply = Result<Answer<Found>, LookupProblem>;

impl Discovery {
    /// Knows no route yet. `seed` decides by lot between servers of the same priority.
    pub(crate) fn new(resolver: Resolver, seed: u64, output: Output) -> Self {
        Self::at_pace(Pace::default(), resolver, seed, output)
    }

    fn at_pace(pace: Pace, resolver: Resolver, seed: u64, output: Output) -> Self {
        Self {
            seeds: Mutex::new(Seeds::new(pace, fastrand::Rng::with_seed(seed))),
            replaced: Notify::new(),
            resolver,
            output,
        }
    }

    /// Whether this is about the route: the engine then waits to be told which servers it stands for.
    pub(crate) fn is_about(route: &RouteUrl) -> bool {
        SeedName::of(route).is_some()
    }

    /// Takes over the routes of a configuration, at the start and at a reload. `apply` lets whoever is told the output
    /// take them over, too: between the old places of routes and the new ones nothing is handed on, so that no server
    /// is taken for another route's, and given its password. What `apply` returns is returned.
    pub(crate) fn replace<R>(&self, routes: &[RouteUrl], apply: impl FnOnce() -> R) -> R {
        let now = clock::now();
        let mut seeds = self.seeds.lock();
        let applied = apply();
        for (route, targets) in seeds.replace(routes, now) {
            (self.output)(route, &targets, now);
        }
        drop(seeds);
        self.replaced.notify_one();
        applied
    }

    /// Asks and hands on, for ever. It may be dropped at any point; lookups under way are given up then.
    pub(crate) async fn run(&self) {
        let mut lookups = Lookups::default();
        loop {
            let due = self.ask(&mut lookups);
            tokio::select! {
                Some((name, reply)) = lookups.next() => self.take(&name, reply),
                () = self.replaced.notified() => {}
                () = wait_until(due) => {}
            }
        }
    }

    /// Begins as many lookups as are due and have room; when the next one is due that will have room.
    fn ask(&self, lookups: &mut Lookups) -> Option<Instant> {
        let now = clock::now();
        let mut seeds = self.seeds.lock();
        while lookups.has_room() {
            let Some(name) = seeds.next_lookup(now) else {
                return seeds.next_due();
            };
            lookups.begin(name, self.resolver.clone());
        }
        None
    }

    fn take(&self, name: &SeedName, reply: Reply) {
        let now = clock::now();
        let mut seeds = self.seeds.lock();
        let Some(outcome) = seeds.answered(name, reply, now) else {
            return;
        };
        log(name, &outcome);
        if let Some(targets) = &outcome.targets {
            for route in outcome.routes {
                (self.output)(route, targets, now);
            }
        }
    }
}

/// Lookups under way.
#[derive(Default)]
struct Lookups {
    tasks: JoinSet<Reply>,
    names: HashMap<Id, SeedName>,
}

impl Lookups {
    fn has_room(&self) -> bool {
        self.tasks.len() < LOOKUPS_MAX
    }

    fn begin(&mut self, name: SeedName, resolver: Resolver) {
        let task = self.tasks.spawn(look_up(name.clone(), resolver));
        self.names.insert(task.id(), name);
    }

    /// What one of them came to; `None` if there are none. Loses nothing if it is dropped.
    async fn next(&mut self) -> Option<(SeedName, Reply)> {
        let joined = self.tasks.join_next_with_id().await?;
        let (id, reply) = joined.unwrap_or_else(|error: JoinError| {
            // A panic ends one lookup.
            (error.id(), Err(LookupProblem::BadAnswer))
        });
        self.names.remove(&id).map(|name| (name, reply))
    }
}

async fn look_up(name: SeedName, resolver: Resolver) -> Reply {
    Ok(match name {
        SeedName::Host(host, _) => resolver.addresses(&host).await?.map(Found::Addresses),
        SeedName::Service(name) => resolver.service(&name).await?.map(Found::Hosts),
    })
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn log(name: &SeedName, outcome: &Outcome) {
    match &outcome.news {
        None => {}
        Some(news @ News::Fails(..)) => warn!("{}", line(name, news, &[])),
        Some(news) => {
            let targets = outcome.targets.as_deref().unwrap_or_default();
            info!("{}", line(name, news, targets));
        }
    }
}

/// What is said of a change.
fn line(name: &SeedName, news: &News, targets: &[Target]) -> String {
    let name = name.text();
    match news {
        News::StandsFor(count) if *count > TARGETS_MAX => {
            let list = list(targets);
            format!(
                "Route {name} stands for {list}; {count} were found, and {TARGETS_MAX} is the most"
            )
        }
        News::StandsFor(_) => format!("Route {name} stands for {}", list(targets)),
        News::SucceedsAgain => format!("Route {name} can be looked up again"),
        News::Fails(problem, kept) => {
            let remedy = problem.remedy();
            let kept = match kept {
                0 => "It stands for no server until it can".to_owned(),
                1 => "The server known for it is kept".to_owned(),
                kept => format!("The {kept} servers known for it are kept"),
            };
            format!("Route {name} cannot be looked up: {problem}; {remedy}. {kept}")
        }
    }
}

/// Servers as in a log line.
fn list(targets: &[Target]) -> String {
    /// More are only counted.
    const SHOWN_MAX: usize = 8;
    let shown = targets.iter().take(SHOWN_MAX).map(address);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if targets.len() > SHOWN_MAX {
        text.push_str(&format!(" and {} more", targets.len() - SHOWN_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;
    use std::time::Duration;

    use testkit::{Answering, DnsServer, PATIENCE, ServiceHost};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    const SERVICE: &str = "_nats-route._tcp.a.test";

    /// So that a test sees names asked for many times.
    const PACE: Pace = Pace {
        answer_age_min: Duration::from_millis(40),
        answer_age_max: Duration::from_millis(80),
        answer_age_unsaid: Duration::from_millis(40),
        retry_pause_min: Duration::from_millis(10),
        retry_pause_max: Duration::from_millis(40),
    };

    /// A discovery that runs, and what it says.
    struct Running {
        discovery: Arc<Discovery>,
        said: UnboundedReceiver<(usize, Vec<Target>)>,
        task: JoinHandle<()>,
    }

    impl Running {
        fn start(dns: &DnsServer, routes: &[RouteUrl]) -> Self {
            let (say, said) = unbounded_channel();
            let output = move |route, targets: &[Target], _: Instant| {
                let _receiver_may_be_gone = say.send((route, targets.to_vec()));
            };
            let resolver = Resolver::with_servers(vec![dns.address()])
                .with_patience(Duration::from_millis(250));
            let discovery = Discovery::at_pace(PACE, resolver, 1, Box::new(output));
            let discovery = Arc::new(discovery);
            discovery.replace(routes, || {});
            let running = Arc::clone(&discovery);
            let task = tokio::spawn(async move { running.run().await });
            Self {
                discovery,
                said,
                task,
            }
        }

        /// What is said next: which route, and its servers in order.
        async fn next(&mut self) -> (usize, Vec<String>) {
            let said = timeout(PATIENCE, self.said.recv()).await;
            let (route, targets) = said.expect("in time").expect("it runs");
            (route, targets.iter().map(address).collect())
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    fn route(host: &str, port: Option<u16>) -> RouteUrl {
        RouteUrl {
            host: host.to_owned(),
            port,
            user: None,
            password: None,
            tls: false,
        }
    }

    fn host(priority: u16, host: &str, port: u16) -> ServiceHost {
        ServiceHost {
            priority,
            weight: 0,
            port,
            host: host.to_owned(),
        }
    }

    #[tokio::test]
    async fn a_service_whose_servers_change() {
        let dns = DnsServer::start();
        dns.set_service(SERVICE, 0, &[host(2, "b.test", 2), host(1, "a.test", 1)]);
        let mut running = Running::start(&dns, &[route("10.0.0.1", Some(1)), route(SERVICE, None)]);
        let (place, servers) = running.next().await;
        assert_eq!(
            (place, servers),
            (1, vec!["a.test:1".into(), "b.test:2".into()])
        );

        dns.set_service(SERVICE, 0, &[host(1, "c.test", 3)]);
        assert_eq!(running.next().await, (1, vec!["c.test:3".into()]));

        // Long-lived answers are doubted, too.
        dns.set_service(SERVICE, 86_400, &[host(1, "d.test", 4)]);
        assert_eq!(running.next().await, (1, vec!["d.test:4".into()]));
        dns.set_service(SERVICE, 0, &[host(1, "e.test", 5)]);
        assert_eq!(running.next().await, (1, vec!["e.test:5".into()]));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn former_servers_stay_while_dns_fails() {
        let dns = DnsServer::start();
        dns.set_service(SERVICE, 0, &[host(1, "a.test", 1)]);
        let mut running = Running::start(&dns, &[route(SERVICE, None)]);
        assert_eq!(running.next().await.1, ["a.test:1"]);
        for answering in [Answering::Failure, Answering::Refusal, Answering::Zone] {
            if answering == Answering::Zone {
                dns.remove(SERVICE);
            }
            dns.set_answering(answering);
            let asked = dns.questions(SERVICE);
            // The one that is under way, and one after it. Other waits than for the output: there must be none.
            tokio::task::block_in_place(|| dns.wait_for_questions(SERVICE, asked + 2));
            assert!(running.said.try_recv().is_err(), "{answering:?}");
        }
        dns.set_service(SERVICE, 0, &[host(1, "a.test", 1), host(1, "b.test", 1)]);
        let (_, mut servers) = running.next().await;
        servers.sort();
        assert_eq!(servers, ["a.test:1", "b.test:1"]);
    }

    #[tokio::test]
    async fn a_host_with_several_addresses() {
        let dns = DnsServer::start();
        let addresses = [1, 2, 3].map(|last| IpAddr::from(Ipv4Addr::new(127, 0, 0, last)));
        dns.set_host("a.test", 60, &addresses);
        let mut running = Running::start(&dns, &[route("a.test", Some(6222))]);
        let (_, mut servers) = running.next().await;
        servers.sort();
        assert_eq!(
            servers,
            ["127.0.0.1:6222", "127.0.0.2:6222", "127.0.0.3:6222"]
        );
    }

    #[tokio::test]
    async fn more_servers_than_a_datagram_holds() {
        let dns = DnsServer::start();
        let hosts: Vec<ServiceHost> = (0..100)
            .map(|number| host(number, &format!("n{number}.test"), 6222))
            .collect();
        dns.set_service(SERVICE, 60, &hosts);
        let mut running = Running::start(&dns, &[route(SERVICE, None)]);
        let (_, servers) = running.next().await;
        assert_eq!(servers.len(), 100);
        assert_eq!(servers[99], "n99.test:6222");
    }

    /// More names than are asked for at one time.
    #[tokio::test]
    async fn many_names() {
        let dns = DnsServer::start();
        let count = 3 * LOOKUPS_MAX;
        let name = |number| format!("_n{number}._tcp.a.test");
        let port = |number| u16::try_from(number + 1).unwrap();
        for number in 0..count {
            dns.set_service(&name(number), 60, &[host(1, "a.test", port(number))]);
        }
        let routes: Vec<RouteUrl> = (0..count)
            .map(|number| route(&name(number), None))
            .collect();
        let mut running = Running::start(&dns, &routes);
        let mut told = vec![false; count];
        while told.contains(&false) {
            let (place, servers) = running.next().await;
            assert_eq!(servers, [format!("a.test:{}", port(place))]);
            told[place] = true;
        }
    }

    #[tokio::test]
    async fn other_routes_after_a_reload() {
        let dns = DnsServer::start();
        dns.set_service(SERVICE, 60, &[host(1, "a.test", 1)]);
        dns.set_service("_other._tcp.a.test", 60, &[host(1, "b.test", 2)]);
        let mut running = Running::start(&dns, &[route(SERVICE, None)]);
        assert_eq!(running.next().await, (0, vec!["a.test:1".into()]));

        let routes = [route("_other._tcp.a.test", None), route(SERVICE, None)];
        let mut is_applied = false;
        running.discovery.replace(&routes, || is_applied = true);
        assert!(is_applied);
        assert_eq!(running.next().await, (1, vec!["a.test:1".into()]));
        assert_eq!(running.next().await, (0, vec!["b.test:2".into()]));
        assert_eq!(dns.questions(SERVICE), 1, "its answer was still good");
    }

    #[test]
    fn what_the_log_says() {
        let service = SeedName::Service(SERVICE.to_owned());
        let targets: Vec<Target> = (1..=10)
            .map(|number| Target {
                host: format!("n{number}.test"),
                port: 6222,
                tls_name: None,
            })
            .collect();
        for (news, shown, expected) in [
            (
                News::StandsFor(2),
                2,
                "Route _nats-route._tcp.a.test stands for n1.test:6222, n2.test:6222",
            ),
            (
                News::StandsFor(300),
                10,
                "Route _nats-route._tcp.a.test stands for n1.test:6222, n2.test:6222, n3.test:6222, n4.test:6222, \
                 n5.test:6222, n6.test:6222, n7.test:6222, n8.test:6222 and 2 more; 300 were found, and 256 is the most",
            ),
            (
                News::Fails(LookupProblem::NoSuchName, 3),
                0,
                "Route _nats-route._tcp.a.test cannot be looked up: there is no such name; correct the name, or add it to \
                 the zone. The 3 servers known for it are kept",
            ),
            (
                News::SucceedsAgain,
                0,
                "Route _nats-route._tcp.a.test can be looked up again",
            ),
        ] {
            assert_eq!(line(&service, &news, &targets[..shown]), expected);
        }
    }
}
