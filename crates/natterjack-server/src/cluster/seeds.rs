//! Which servers the routes of a configuration stand for, where they name hosts or services instead of addresses: what
//! to ask for when, and what comes of the answers. Asks nobody and reads no clock; `discovery` does.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use natterjack_dns::{Answer, LookupProblem, ServiceRecord, in_order};
use natterjack_engine::Target;

use crate::options::{Endpoint, RouteUrl};

/// How often names are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// A name is asked for again no sooner, however short-lived its answer is.
    pub(super) answer_age_min: Duration,
    /// And no later, however long-lived: operators change names without thinking of when answers expire.
    pub(super) answer_age_max: Duration,
    /// How long an answer is good of which nobody says it.
    pub(super) answer_age_unsaid: Duration,
    /// The pause after a lookup that failed; it doubles each time.
    pub(super) retry_pause_min: Duration,
    /// Up to this.
    pub(super) retry_pause_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            // There are zones whose answers are good for no time at all, and name some of many hosts each time.
            answer_age_min: Duration::from_secs(5),
            answer_age_max: Duration::from_secs(3600),
            answer_age_unsaid: Duration::from_secs(30),
            retry_pause_min: Duration::from_secs(1),
            retry_pause_max: Duration::from_secs(15),
        }
    }
}

/// Servers that a name can stand for. Every one is connected to, so a cluster is far smaller.
pub(super) const TARGETS_MAX: usize = 256;

/// `host:port` of a server.
pub(super) fn address(target: &Target) -> String {
    let Target { host, port, .. } = target.clone();
    Endpoint { host, port }.to_string()
}

/// What is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SeedName {
    /// Addresses of a host, which listen on this port.
    Host(String, u16),
    /// Hosts that offer a service.
    Service(String),
}

impl SeedName {
    /// What a route asks for; `None` if it names an address.
    pub(super) fn of(route: &RouteUrl) -> Option<Self> {
        let host = route.host.clone();
        match route.port {
            None => Some(Self::Service(host)),
            Some(_) if host.parse::<IpAddr>().is_ok() => None,
            Some(port) => Some(Self::Host(host, port)),
        }
    }

    /// As in a log line.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Host(name, _) | Self::Service(name) => name,
        }
    }
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Of a host.
    Addresses(Vec<IpAddr>),
    /// Of a service.
    Hosts(Vec<ServiceRecord>),
}

/// What came of a lookup.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The routes that have the name, by their place in the configuration.
    pub(super) routes: Vec<usize>,
    /// What they stand for from now on, in the order to try; `None`: what they did before.
    pub(super) targets: Option<Vec<Target>>,
    /// What an operator should know, once per change.
    pub(super) news: Option<News>,
}

/// A change worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The lookup fails, or now fails for another reason. So many former targets are kept.
    Fails(LookupProblem, usize),
    /// The name stands for these now, of so many that the answer had.
    StandsFor(usize),
    /// The lookup succeeds again, and nothing is different.
    SucceedsAgain,
}

/// All names, each with when it is due.
pub(super) struct Seeds {
    pace: Pace,
    names: Vec<Seed>,
    random: fastrand::Rng,
}

struct Seed {
    name: SeedName,
    routes: Vec<usize>,
    /// In the order to try.
    targets: Vec<Target>,
    /// `None` while somebody is asked.
    due: Option<Instant>,
    /// Lookups that failed since one succeeded.
    failures: u32,
    /// What was said of the last failure, if no success came after it.
    complaint: Option<LookupProblem>,
}

impl Seeds {
    /// Knows no name. `random` decides between servers of the same priority, and spreads lookups that are repeated.
    pub(super) fn new(pace: Pace, random: fastrand::Rng) -> Self {
        Self {
            pace,
            names: Vec::new(),
            random,
        }
    }

    /// Takes over the routes of a configuration. What is known of names that were there before stays known; it is
    /// returned for all routes that have them, since their places may be others now.
    pub(super) fn replace(
        &mut self,
        routes: &[RouteUrl],
        now: Instant,
    ) -> Vec<(usize, Vec<Target>)> {
        let mut former = std::mem::take(&mut self.names);
        for seed in &mut former {
            seed.routes.clear();
        }
        for (place, route) in routes.iter().enumerate() {
            let Some(name) = SeedName::of(route) else {
                continue;
            };
            if let Some(seed) = self.names.iter_mut().find(|seed| seed.name == name) {
                seed.routes.push(place);
                continue;
            }
            let known = former.iter().position(|seed| seed.name == name);
            let mut seed =
                known.map_or_else(|| Seed::new(name, now), |known| former.swap_remove(known));
            seed.routes.push(place);
            self.names.push(seed);
        }
        let known = self.names.iter().filter(|seed| !seed.targets.is_empty());
        known
            .flat_map(|seed| {
                let routes = seed.routes.iter();
                routes.map(|route| (*route, seed.targets.clone()))
            })
            .collect()
    }

    /// A name that is due; from now on it is being asked for.
    pub(super) fn next_lookup(&mut self, now: Instant) -> Option<SeedName> {
        let due = self
            .names
            .iter_mut()
            .filter(|seed| seed.due.is_some_and(|due| due <= now));
        // The one that has waited longest, so that none waits for ever while others fail.
        let seed = due.min_by_key(|seed| seed.due)?;
        seed.due = None;
        Some(seed.name.clone())
    }

    /// When the next name is due, of those that nobody is asked for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.names.iter().filter_map(|seed| seed.due).min()
    }

    /// Somebody who was asked for `name` has answered. `None` if the configuration does not have it any more.
    pub(super) fn answered(
        &mut self,
        name: &SeedName,
        answer: Result<Answer<Found>, LookupProblem>,
        now: Instant,
    ) -> Option<Outcome> {
        let seed = self.names.iter_mut().find(|seed| seed.name == *name)?;
        let pace = &self.pace;
        let (targets, news) = match answer.and_then(|answer| {
            let (targets, count) = targets(&seed.name, answer.records, &mut self.random)?;
            Ok((targets, count, answer.valid_for))
        }) {
            Ok((targets, count, valid_for)) => seed.succeeded(targets, count, valid_for, pace, now),
            Err(problem) => (None, seed.failed(problem, pace, &mut self.random, now)),
        };
        Some(Outcome {
            routes: seed.routes.clone(),
            targets,
            news,
        })
    }
}

impl Seed {
    fn new(name: SeedName, now: Instant) -> Self {
        Self {
            name,
            routes: Vec::new(),
            targets: Vec::new(),
            due: Some(now),
            failures: 0,
            complaint: None,
        }
    }

    fn succeeded(
        &mut self,
        targets: Vec<Target>,
        count: usize,
        valid_for: Option<Duration>,
        pace: &Pace,
        now: Instant,
    ) -> (Option<Vec<Target>>, Option<News>) {
        let age = valid_for.unwrap_or(pace.answer_age_unsaid);
        self.due = Some(now + age.clamp(pace.answer_age_min, pace.answer_age_max));
        self.failures = 0;
        let failed = self.complaint.take().is_some();
        // Lots are drawn anew each time; another order of the same servers is no change.
        if is_same_set(&targets, &self.targets) {
            return (None, failed.then_some(News::SucceedsAgain));
        }
        self.targets.clone_from(&targets);
        (Some(targets), Some(News::StandsFor(count)))
    }

    fn failed(
        &mut self,
        problem: LookupProblem,
        pace: &Pace,
        random: &mut fastrand::Rng,
        now: Instant,
    ) -> Option<News> {
        let doubled = pace
            .retry_pause_min
            .saturating_mul(1 << self.failures.min(16));
        let pause = doubled.min(pace.retry_pause_max);
        // Up to a quarter sooner: servers of a cluster that lost their resolver together do not come back in step.
        let sooner = pause.mul_f64(random.f64() / 4.0);
        self.due = Some(now + pause - sooner);
        self.failures = self.failures.saturating_add(1);
        if self.complaint == Some(problem) {
            return None;
        }
        self.complaint = Some(problem);
        Some(News::Fails(problem, self.targets.len()))
    }
}

fn is_same_set(one: &[Target], other: &[Target]) -> bool {
    fn sorted(targets: &[Target]) -> Vec<(&str, u16)> {
        let servers = targets.iter().map(|target| (&*target.host, target.port));
        let mut servers: Vec<_> = servers.collect();
        servers.sort_unstable();
        servers
    }
    sorted(one) == sorted(other)
}

/// What an answer comes to: targets, without repetitions, and how many there were before the bound.
fn targets(
    name: &SeedName,
    found: Found,
    random: &mut fastrand::Rng,
) -> Result<(Vec<Target>, usize), LookupProblem> {
    let (targets, count): (Vec<Target>, usize) = match (name, found) {
        (SeedName::Host(host, port), Found::Addresses(mut addresses)) => {
            addresses.sort_unstable();
            addresses.dedup();
            let count = addresses.len();
            // The same ones each time, whatever order they come in.
            addresses.truncate(TARGETS_MAX);
            random.shuffle(&mut addresses);
            let target = |address: IpAddr| Target {
                host: address.to_string(),
                port: *port,
                // Certificates are for names.
                tls_name: Some(without_dot(host).to_owned()),
            };
            (addresses.into_iter().map(target).collect(), count)
        }
        (SeedName::Service(_), Found::Hosts(records)) => {
            let mut records = distinct(records)?;
            let count = records.len();
            records.truncate(TARGETS_MAX);
            let target = |record: ServiceRecord| Target {
                host: record.host,
                port: record.port,
                // The host's own; that of the service is in no certificate that clients of the host know.
                tls_name: None,
            };
            let ordered = in_order(records, random);
            (ordered.into_iter().map(target).collect(), count)
        }
        // An answer to another question.
        (SeedName::Host(..), Found::Hosts(_)) | (SeedName::Service(_), Found::Addresses(_)) => {
            return Err(LookupProblem::NoRecords);
        }
    };
    if targets.is_empty() {
        return Err(LookupProblem::NoRecords);
    }
    Ok((targets, count))
}

/// The servers in the records, each once, those to be tried first in front.
fn distinct(mut records: Vec<ServiceRecord>) -> Result<Vec<ServiceRecord>, LookupProblem> {
    for record in &mut records {
        record.host = without_dot(&record.host).to_ascii_lowercase();
    }
    let count = records.len();
    // A dot alone in place of a host: the service is decidedly not here (RFC 2782, "Target"). Port 0 is nowhere.
    records.retain(|record| !record.host.is_empty() && record.port != 0);
    if records.is_empty() && count > 0 {
        return Err(LookupProblem::NotOffered);
    }
    records.sort_unstable_by(|one, other| {
        let key = |record: &ServiceRecord| (record.priority, u16::MAX - record.weight);
        (key(one), &one.host, one.port).cmp(&(key(other), &other.host, other.port))
    });
    let mut seen = std::collections::HashSet::with_capacity(records.len());
    records.retain(|record| seen.insert((record.host.clone(), record.port)));
    Ok(records)
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER_AGE_MIN: Duration = Duration::from_secs(5);
    const ANSWER_AGE_MAX: Duration = Duration::from_secs(3600);
    const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);
    const RETRY_PAUSE_MAX: Duration = Duration::from_secs(15);

    const ROUTE: &str = "_nats-route._tcp.a.test";

    fn service() -> SeedName {
        SeedName::Service(ROUTE.to_owned())
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

    /// Seeds with one service, and a time to start from.
    fn seeds() -> (Seeds, Instant) {
        let now = crate::clock::now();
        let mut seeds = Seeds::new(Pace::default(), fastrand::Rng::with_seed(5));
        assert_eq!(seeds.replace(&[route(ROUTE, None)], now), []);
        (seeds, now)
    }

    fn record(priority: u16, host: &str, port: u16) -> ServiceRecord {
        ServiceRecord {
            priority,
            weight: 1,
            host: host.to_owned(),
            port,
        }
    }

    fn answer(records: &[ServiceRecord], seconds: u64) -> Result<Answer<Found>, LookupProblem> {
        Ok(Answer {
            records: Found::Hosts(records.to_vec()),
            valid_for: Some(Duration::from_secs(seconds)),
        })
    }

    fn shown(outcome: &Outcome) -> String {
        let targets = outcome.targets.as_ref().map(|targets| {
            let shown = targets.iter().map(|it| match &it.tls_name {
                Some(name) => format!("{} as {name}", address(it)),
                None => address(it),
            });
            shown.collect::<Vec<_>>().join(", ")
        });
        targets.unwrap_or_else(|| "as before".to_owned())
    }

    #[test]
    fn routes_and_what_they_ask_for() {
        for (host, port, expected) in [
            ("10.0.0.1", Some(1), None),
            ("::1", Some(1), None),
            ("a", Some(1), Some(SeedName::Host("a".to_owned(), 1))),
            (ROUTE, None, Some(service())),
        ] {
            assert_eq!(SeedName::of(&route(host, port)), expected);
        }
    }

    #[test]
    fn each_address_of_a_host_is_a_server() {
        let now = crate::clock::now();
        let mut seeds = Seeds::new(Pace::default(), fastrand::Rng::with_seed(5));
        let routes = [route("10.0.0.1", Some(1)), route("A.test.", Some(6222))];
        seeds.replace(&routes, now);
        let name = seeds.next_lookup(now).unwrap();
        assert_eq!(seeds.next_lookup(now), None, "it is under way");
        let addresses = ["10.0.0.2", "::1", "10.0.0.2"].map(|it| it.parse().unwrap());
        let answer = Answer {
            records: Found::Addresses(addresses.to_vec()),
            valid_for: None,
        };
        let outcome = seeds.answered(&name, Ok(answer), now).unwrap();
        assert_eq!(outcome.routes, [1]);
        let mut targets = outcome.targets.unwrap();
        targets.sort_by_key(address);
        let shown: Vec<String> = targets.iter().map(address).collect();
        assert_eq!(shown, ["10.0.0.2:6222", "[::1]:6222"]);
        assert!(
            targets
                .iter()
                .all(|target| target.tls_name.as_deref() == Some("A.test"))
        );
        assert_eq!(
            seeds.next_due(),
            Some(now + Pace::default().answer_age_unsaid)
        );
    }

    #[test]
    fn records_of_a_service_give_order_names_and_ports() {
        let (mut seeds, now) = seeds();
        assert_eq!(seeds.next_lookup(now), Some(service()));
        let records = [
            record(2, "b.test", 2),
            record(1, "A.test.", 1),
            record(3, "a.test", 1),
        ];
        let outcome = seeds
            .answered(&service(), answer(&records, 60), now)
            .unwrap();
        assert_eq!(shown(&outcome), "a.test:1, b.test:2");
        assert_eq!(outcome.news, Some(News::StandsFor(2)));
        assert_eq!(seeds.next_due(), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn a_service_that_is_decidedly_not_there() {
        let (mut seeds, now) = seeds();
        for records in [vec![record(0, ".", 1)], vec![record(0, "a.test", 0)]] {
            seeds.next_lookup(seeds.next_due().unwrap());
            let outcome = seeds
                .answered(&service(), answer(&records, 60), now)
                .unwrap();
            assert_eq!(shown(&outcome), "as before");
        }
        let outcome = seeds.answered(&service(), answer(&[], 60), now).unwrap();
        let news = News::Fails(LookupProblem::NoRecords, 0);
        assert_eq!(outcome.news, Some(news));
    }

    #[test]
    fn answers_beyond_the_bound_are_cut_to_the_same_ones() {
        let (mut seeds, now) = seeds();
        let mut records: Vec<ServiceRecord> = (0..300)
            .map(|number| record(u16::from(number >= 200), &format!("n{number}.test"), 1))
            .collect();
        let outcome = seeds
            .answered(&service(), answer(&records, 60), now)
            .unwrap();
        assert_eq!(outcome.targets.unwrap().len(), TARGETS_MAX);
        assert_eq!(outcome.news, Some(News::StandsFor(300)));
        records.reverse();
        let outcome = seeds
            .answered(&service(), answer(&records, 60), now)
            .unwrap();
        assert_eq!(outcome.news, None, "in another order");
    }

    #[test]
    fn a_reload_keeps_what_is_known() {
        let (mut seeds, now) = seeds();
        let records = [record(1, "a.test", 1)];
        let first = seeds
            .answered(&service(), answer(&records, 60), now)
            .unwrap();
        let targets = first.targets.unwrap();
        let mut other = route(ROUTE, None);
        other.tls = true;
        let routes = [route("h", Some(1)), route(ROUTE, None), other];
        let told = seeds.replace(&routes, now);
        assert_eq!(told, [(1, targets.clone()), (2, targets)]);
        assert_eq!(
            seeds.next_lookup(now),
            Some(SeedName::Host("h".to_owned(), 1))
        );
        assert_eq!(seeds.next_lookup(now), None, "the service is not due");
        assert_eq!(seeds.replace(&[], now), []);
        assert_eq!(seeds.next_due(), None);
        assert_eq!(seeds.answered(&service(), answer(&records, 60), now), None);
    }

    /// What may come of lookups, for the property below.
    fn reply(random: &mut fastrand::Rng) -> Result<Answer<Found>, LookupProblem> {
        match random.u8(..6) {
            0 => Err(LookupProblem::NoAnswer),
            1 => Err(LookupProblem::NoSuchName),
            2 => answer(&[record(0, ".", 0)], 5),
            _ => {
                let mut records: Vec<ServiceRecord> = (0..random.u16(..4))
                    .map(|number| record(random.u16(..2), &format!("n{number}.test"), 1))
                    .collect();
                random.shuffle(&mut records);
                answer(&records, random.u64(..10_000))
            }
        }
    }

    /// The servers that a reply has, sorted: the plain way to say what `targets` does.
    fn servers(reply: &Result<Answer<Found>, LookupProblem>) -> Option<Vec<String>> {
        let Ok(Answer {
            records: Found::Hosts(records),
            ..
        }) = reply
        else {
            return None;
        };
        let hosts = records.iter().filter(|record| record.host != ".");
        let mut servers: Vec<String> = hosts.map(|it| format!("{}:1", it.host)).collect();
        servers.sort();
        (!servers.is_empty()).then_some(servers)
    }

    /// Whatever is answered when: who listens has the servers of the last answer that named any, is told of changes alone,
    /// and nobody is asked sooner or later than the bounds say.
    #[test]
    fn any_sequence_of_answers() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut seeds, mut now) = seeds();
            let mut told: Vec<String> = Vec::new();
            let mut last_problem = None;
            let mut failures = 0;
            for _ in 0..30 {
                assert_eq!(seeds.next_lookup(now), Some(service()), "seed {seed}");
                assert_eq!(seeds.next_due(), None);
                now += Duration::from_millis(random.u64(..5000));
                let reply = reply(&mut random);
                let expected = servers(&reply);
                let valid_for = reply.as_ref().ok().and_then(|answer| answer.valid_for);
                let outcome = seeds.answered(&service(), reply, now).unwrap();
                let wait = seeds.next_due().unwrap() - now;

                if let Some(targets) = &outcome.targets {
                    let mut servers: Vec<String> = targets.iter().map(address).collect();
                    servers.sort();
                    assert_ne!(servers, told, "seed {seed}: no change");
                    told = servers;
                }
                if let Some(expected) = &expected {
                    assert_eq!(*expected, told, "seed {seed}");
                    let bounded = valid_for.unwrap().clamp(ANSWER_AGE_MIN, ANSWER_AGE_MAX);
                    assert_eq!(wait, bounded, "seed {seed}");
                    let succeeds_again = outcome.news == Some(News::SucceedsAgain);
                    let expected = last_problem.is_some() && outcome.targets.is_none();
                    assert_eq!(succeeds_again, expected, "seed {seed}");
                    failures = 0;
                    last_problem = None;
                } else {
                    assert_eq!(outcome.targets, None, "seed {seed}");
                    let pause = RETRY_PAUSE_MAX.min(RETRY_PAUSE_MIN * (1 << failures));
                    assert!(
                        wait <= pause && wait >= pause * 3 / 4,
                        "seed {seed}: {wait:?}"
                    );
                    match &outcome.news {
                        Some(News::Fails(problem, kept)) => {
                            assert_ne!(last_problem, Some(*problem), "seed {seed}: said twice");
                            assert_eq!(*kept, told.len(), "seed {seed}");
                            last_problem = Some(*problem);
                        }
                        news => assert!(news.is_none() && last_problem.is_some(), "seed {seed}"),
                    }
                    failures += 1;
                }
                // Whoever drives this may be late.
                now += wait + Duration::from_millis(random.u64(..100));
            }
        }
    }

    /// Many names, of which one never answers and others fail: each is asked for again in time.
    #[test]
    fn no_name_keeps_others_waiting() {
        let mut now = crate::clock::now();
        let mut seeds = Seeds::new(Pace::default(), fastrand::Rng::with_seed(5));
        let routes: Vec<RouteUrl> = (0..20)
            .map(|number| route(&format!("h{number}"), Some(1)))
            .collect();
        seeds.replace(&routes, now);
        let mut asked = [0_u32; 20];
        for _ in 0..2_000 {
            while let Some(name) = seeds.next_lookup(now) {
                let number: usize = name.text()[1..].parse().unwrap();
                asked[number] += 1;
                if number > 0 {
                    seeds.answered(&name, Err(LookupProblem::NoAnswer), now);
                }
            }
            now = seeds.next_due().unwrap();
        }
        assert_eq!(asked[0], 1);
        let others = &asked[1..];
        let (least, most) = (others.iter().min().unwrap(), others.iter().max().unwrap());
        assert!(*most - *least < *most / 4, "{asked:?}");
    }
}
