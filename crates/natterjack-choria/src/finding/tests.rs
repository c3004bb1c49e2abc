//! Servers found as configurations, DNS and Facter say.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use testkit::{Answering, DnsServer, ServiceHost};

use super::*;
use crate::configuration::Role;
use crate::test_log::TestLog;

const SERVER: &str = "_mcollective-server._tcp.example.net";
const FORMER_SERVER: &str = "_x-puppet-mcollective._tcp.example.net";
const FEDERATION_SERVER: &str = "_mcollective-federation_server._tcp.example.net";
const FORMER_FEDERATION_SERVER: &str = "_x-puppet-mcollective_federation._tcp.example.net";

/// A machine with one file of settings, and a DNS server that it asks.
struct Machine {
    folder: tempfile::TempDir,
    surroundings: Surroundings,
    dns: DnsServer,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        Self {
            surroundings: Surroundings::bare("client.example.net", root),
            dns: DnsServer::start(),
            folder,
        }
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        let environment = &mut self.surroundings.environment;
        environment.insert(name.into(), value.into());
        self
    }

    fn with_facter(mut self, script: &str) -> Self {
        self.surroundings.facter = facter(self.folder.path(), script);
        self
    }

    /// Of records of priority, weight, port and host.
    fn offer(&self, service: &str, records: &[(u16, u16, u16, &str)]) {
        let hosts: Vec<_> = records
            .iter()
            .map(|&(priority, weight, port, host)| ServiceHost {
                priority,
                weight,
                port,
                host: host.into(),
            })
            .collect();
        self.dns.set_service(service, 60, &hosts);
    }

    fn finder(&self, settings: &str) -> Finder {
        let file = self.folder.path().join("client.conf");
        fs::write(&file, settings).unwrap();
        let loaded = Configuration::load(Role::Client, Some(&file), &self.surroundings).unwrap();
        let resolver = Resolver::with_servers(vec![self.dns.address()])
            .with_patience(Duration::from_millis(250));
        Finder::new(&loaded.configuration, &self.surroundings, resolver)
    }

    /// With the domain of the zone.
    fn finder_in_domain(&self, settings: &str) -> Finder {
        self.finder(&format!(
            "plugin.choria.srv_domain = example.net\n{settings}"
        ))
    }
}

fn facter(folder: &Path, script: &str) -> Facter {
    let path = folder.join("facter");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Facter::at(path)
}

fn shown(found: &Found) -> String {
    let servers: Vec<_> = found.servers.iter().map(ToString::to_string).collect();
    servers.join(" ")
}

/// The same in an order that does not depend on lots.
fn sorted(found: &Found) -> Vec<String> {
    let mut servers: Vec<_> = found.servers.iter().map(ToString::to_string).collect();
    servers.sort_unstable();
    servers
}

#[tokio::test]
async fn without_anything_it_is_puppet() {
    let machine = Machine::new();
    let finder = machine.finder("");
    let found = finder.middleware().await;
    assert_eq!(shown(&found), "puppet:4222");
    assert_eq!(found.source, Source::Default);
    assert_eq!(finder.domain().await, None);
    assert_eq!(shown(&finder.puppet_ca().await), "puppet:8140");
    assert_eq!(shown(&finder.puppet_server().await), "puppet:8140");
    assert_eq!(shown(&finder.puppet_db().await), "puppet:8081");
    assert_eq!(finder.federation().await, None);
    assert_eq!(finder.discovery_proxy().await, None);
    let proxied = machine.finder("plugin.choria.discovery_proxy = true\n");
    assert_eq!(
        proxied
            .discovery_proxy()
            .await
            .as_ref()
            .map(shown)
            .as_deref(),
        Some("puppet:8085")
    );
}

/// The zone of Choria's documentation.
#[tokio::test]
async fn both_names_count_and_every_server_is_found_once() {
    let machine = Machine::new();
    let zone = [
        (11, 0, 4222, "nats2.example.net."),
        (10, 0, 4222, "nats1.example.net."),
    ];
    machine.offer(SERVER, &zone);
    machine.offer(FORMER_SERVER, &zone);
    let found = machine.finder_in_domain("").middleware().await;
    assert_eq!(
        shown(&found),
        "nats1.example.net:4222 nats2.example.net:4222"
    );
    let services = vec![SERVER.to_owned(), FORMER_SERVER.to_owned()];
    assert_eq!(found.source, Source::Records { services });

    machine.dns.remove(SERVER);
    machine.offer(
        SERVER,
        &[
            (20, 0, 4222, "nats1.example.net."),
            (9, 0, 4223, "nats1.example.net."),
        ],
    );
    let found = machine.finder_in_domain("").middleware().await;
    assert_eq!(
        shown(&found),
        "nats1.example.net:4223 nats1.example.net:4222 nats2.example.net:4222",
        "the better of two places counts"
    );
    machine.dns.remove(SERVER);
    let found = machine.finder_in_domain("").middleware().await;
    assert_eq!(
        shown(&found),
        "nats1.example.net:4222 nats2.example.net:4222"
    );
    let services = vec![FORMER_SERVER.to_owned()];
    assert_eq!(found.source, Source::Records { services });
}

#[tokio::test]
async fn priorities_stay_in_order_and_weights_are_chances() {
    let machine = Machine::new();
    machine.offer(
        SERVER,
        &[
            (20, 60_000, 4222, "last.example.net."),
            (10, 0, 4222, "seldom.example.net."),
            (10, 60_000, 4222, "often.example.net."),
            (5, 0, 4222, "first.example.net."),
        ],
    );
    // Not that names in settings are shuffled says anything about records.
    let finder = machine.finder_in_domain("plugin.choria.randomize_middleware_hosts = true\n");
    let mut often_before_seldom = 0;
    for _ in 0..20 {
        let hosts = finder.middleware().await.servers;
        let hosts: Vec<_> = hosts.iter().map(|server| &*server.host).collect();
        assert_eq!(hosts.len(), 4);
        assert_eq!(
            (hosts[0], hosts[3]),
            ("first.example.net", "last.example.net")
        );
        often_before_seldom += usize::from(hosts[1] == "often.example.net");
    }
    // The chance of the other order is one in 60,001 each time.
    assert!(often_before_seldom > 15, "{often_before_seldom}");
    assert_eq!(machine.dns.questions(SERVER), 1, "the answer is used again");
}

#[tokio::test]
async fn servers_that_settings_name_go_before_dns() {
    let machine = Machine::new();
    machine.offer(SERVER, &[(1, 1, 1, "unwanted.example.net.")]);
    let hosts = "plugin.choria.middleware_hosts = nats://a:1, [2001:db8::1]:2,b.:3,A:1, c:4, d:5\n";
    let in_order = format!("{hosts}plugin.choria.randomize_middleware_hosts = no\n");
    let finder = machine.finder_in_domain(&in_order);
    for _ in 0..20 {
        let found = finder.middleware().await;
        assert_eq!(shown(&found), "a:1 [2001:db8::1]:2 b:3 c:4 d:5");
        let source = found.source.to_string();
        assert!(
            source.starts_with("plugin.choria.middleware_hosts, ")
                && source.ends_with("client.conf:2"),
            "{source}"
        );
    }
    let finder = machine.finder_in_domain(hosts);
    let mut orders = std::collections::BTreeSet::new();
    // One in 120 orders each time: that it is always the same does not happen.
    for _ in 0..50 {
        let found = finder.middleware().await;
        assert_eq!(
            sorted(&found),
            ["[2001:db8::1]:2", "a:1", "b:3", "c:4", "d:5"]
        );
        orders.insert(shown(&found));
    }
    assert!(orders.len() > 1, "{orders:?}");
    assert_eq!(machine.dns.questions(SERVER), 0);
}

#[tokio::test]
async fn records_that_name_no_server_are_left_out() {
    let machine = Machine::new();
    machine.offer(SERVER, &[(0, 0, 0, ".")]);
    machine.offer(
        FORMER_SERVER,
        &[
            (1, 0, 0, "no-port.example.net."),
            (2, 0, 4222, "*.example.net."),
            (3, 0, 4222, "nats1.example.net."),
        ],
    );
    let found = machine.finder_in_domain("").middleware().await;
    assert_eq!(shown(&found), "nats1.example.net:4222");
    assert_eq!(
        found.source,
        Source::Records {
            services: vec![FORMER_SERVER.to_owned()]
        }
    );
    machine.dns.remove(FORMER_SERVER);
    let found = machine.finder_in_domain("").middleware().await;
    assert_eq!(found.source, Source::Default);
}

#[tokio::test]
async fn a_dns_server_that_fails_is_no_error() {
    let machine = Machine::new();
    for answering in [Answering::Failure, Answering::Refusal, Answering::Silence] {
        machine.dns.set_answering(answering);
        let found = machine.finder_in_domain("").middleware().await;
        assert_eq!(shown(&found), "puppet:4222", "{answering:?}");
    }
    machine.dns.set_answering(Answering::Zone);
    let found = machine
        .finder("plugin.choria.srv_domain = no name.\u{e4}..x\n")
        .middleware()
        .await;
    assert_eq!(shown(&found), "puppet:4222");
    let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let resolver = Resolver::with_servers(vec![nobody.local_addr().unwrap()])
        .with_patience(Duration::from_millis(100));
    drop(nobody);
    let configuration = machine.finder_in_domain("").configuration;
    let finder = Finder::new(&configuration, &machine.surroundings, resolver);
    assert_eq!(shown(&finder.middleware().await), "puppet:4222");
}

#[tokio::test]
async fn records_are_asked_for_unless_that_is_off() {
    let machine = Machine::new().with_facter("echo example.net; echo >> $0.log");
    machine.offer(SERVER, &[(1, 0, 4222, "nats1.example.net.")]);
    machine.offer(FEDERATION_SERVER, &[(1, 0, 4222, "fed1.example.net.")]);
    for (settings, expected) in [
        ("plugin.choria.use_srv = 1\n", "nats1.example.net:4222"),
        (
            "plugin.choria.use_srv_records = t\n",
            "nats1.example.net:4222",
        ),
        ("plugin.choria.use_srv = false\n", "puppet:4222"),
        ("plugin.choria.use_srv_records = no\n", "puppet:4222"),
        (
            "plugin.choria.use_srv = true\nplugin.choria.use_srv_records = no\n",
            "nats1.example.net:4222",
        ),
        (
            "plugin.choria.use_srv = no\nplugin.choria.federation.collectives = a\n",
            "puppet:4222",
        ),
    ] {
        let found = machine.finder(settings).middleware().await;
        assert_eq!(shown(&found), expected, "{settings}");
    }
    let asked = fs::read_to_string(machine.folder.path().join("facter.log")).unwrap();
    assert_eq!(asked.lines().count(), 3, "Facter is not asked for nothing");
}

#[tokio::test]
async fn the_domain_is_what_is_set_or_what_facter_says() {
    let machine = Machine::new().with_facter("[ $1 = networking.domain ] && echo facter.example.");
    let domain = |finder: Finder| async move {
        let domain = finder.domain().await;
        domain.map(|domain| format!("{} ({})", domain.name, domain.origin))
    };
    assert_eq!(
        domain(machine.finder("")).await.as_deref(),
        Some("facter.example (Facter's networking.domain)")
    );
    let set = domain(machine.finder("plugin.choria.srv_domain = .set.example.\n")).await;
    let set = set.unwrap();
    assert!(
        set.starts_with("set.example (") && set.ends_with("client.conf:1)"),
        "{set}"
    );
    assert_eq!(
        domain(machine.finder("plugin.choria.srv_domain = .\n"))
            .await
            .as_deref(),
        Some("facter.example (Facter's networking.domain)")
    );
    let machine = machine.variable("CHORIA_SRV_DOMAIN", "environment.example");
    assert_eq!(
        domain(machine.finder("plugin.choria.srv_domain = set.example\n"))
            .await
            .as_deref(),
        Some("environment.example (environment CHORIA_SRV_DOMAIN)")
    );
    // Facter's usual answer where a machine's name has no domain.
    let machine = Machine::new().with_facter("echo >> $0.log; echo");
    let finder = machine.finder("");
    assert_eq!(domain(finder).await, None);
    let finder = machine.finder("");
    for _ in 0..3 {
        assert_eq!(shown(&finder.middleware().await), "puppet:4222");
        assert_eq!(finder.facter_domain().await, None);
    }
    let asked = fs::read_to_string(machine.folder.path().join("facter.log")).unwrap();
    assert_eq!(asked.lines().count(), 2, "once by each finder");
}

#[tokio::test]
async fn a_federation_goes_before_the_collective() {
    let machine = Machine::new();
    machine.offer(SERVER, &[(1, 0, 4222, "nats1.example.net.")]);
    let federated = "plugin.choria.federation.collectives = london, tokyo\n";
    let finder = machine.finder_in_domain(federated);
    assert_eq!(
        shown(&finder.middleware().await),
        "nats1.example.net:4222",
        "where nobody knows its servers"
    );
    assert_eq!(finder.federation().await, None);

    machine.offer(
        FORMER_FEDERATION_SERVER,
        &[(2, 0, 4222, "fed2.example.net.")],
    );
    machine.offer(FEDERATION_SERVER, &[(1, 0, 4222, "fed1.example.net.")]);
    let finder = machine.finder_in_domain(federated);
    let found = finder.middleware().await;
    assert_eq!(shown(&found), "fed1.example.net:4222 fed2.example.net:4222");
    assert_eq!(finder.federation().await, Some(found));
    assert_eq!(
        shown(&finder.collective().await),
        "nats1.example.net:4222",
        "a broker needs both"
    );

    let hosts = format!("{federated}plugin.choria.federation_middleware_hosts = f:1\n");
    let found = machine.finder_in_domain(&hosts).middleware().await;
    assert_eq!(shown(&found), "f:1");
    let unfederated = "plugin.choria.federation_middleware_hosts = f:1\n";
    let found = machine.finder_in_domain(unfederated).middleware().await;
    assert_eq!(shown(&found), "nats1.example.net:4222");

    let machine = Machine::new().variable("CHORIA_FED_COLLECTIVE", "paris");
    machine.offer(FEDERATION_SERVER, &[(1, 0, 4222, "fed1.example.net.")]);
    let found = machine.finder_in_domain("").middleware().await;
    assert_eq!(shown(&found), "fed1.example.net:4222");
}

#[tokio::test]
async fn ngs_goes_before_all_if_there_are_credentials() {
    let machine = Machine::new();
    // The settings cannot say so as long as nobody vouches for these servers.
    let find = async |settings: &str| {
        let mut finder = machine.finder(settings);
        finder.configuration.is_ngs = true;
        finder.middleware().await
    };
    let ngs = "plugin.nats.credentials = /a.creds\n\
        plugin.choria.federation.collectives = a\nplugin.choria.federation_middleware_hosts = f:1\n";
    let found = find(ngs).await;
    assert_eq!(shown(&found), "connect.ngs.global:4222");
    assert_eq!(found.source, Source::Ngs);
    let hosts = format!("{ngs}plugin.choria.middleware_hosts = a:1\n");
    assert_eq!(shown(&find(&hosts).await), "a:1");
    assert_eq!(shown(&find("").await), "puppet:4222");
}

#[tokio::test]
async fn services_of_puppet() {
    let machine = Machine::new();
    machine.offer(
        "_x-puppet._tcp.example.net",
        &[
            (1, 0, 8141, "server.example.net."),
            (2, 0, 8142, "server.example.net."),
        ],
    );
    let finder = machine.finder_in_domain("");
    let servers = "server.example.net:8141 server.example.net:8142";
    assert_eq!(shown(&finder.puppet_server().await), servers);
    assert_eq!(shown(&finder.puppet_ca().await), servers);
    assert_eq!(shown(&finder.puppet_db().await), "server.example.net:8081");

    machine.offer(
        "_x-puppet-ca._tcp.example.net",
        &[(1, 0, 8143, "ca.example.net.")],
    );
    machine.offer(
        "_x-puppet-db._tcp.example.net",
        &[(1, 0, 8082, "db.example.net.")],
    );
    machine.offer(
        "_mcollective-discovery._tcp.example.net",
        &[(1, 0, 8086, "proxy.example.net.")],
    );
    let finder = machine.finder_in_domain("plugin.choria.discovery_proxy = y\n");
    assert_eq!(shown(&finder.puppet_server().await), servers);
    assert_eq!(shown(&finder.puppet_ca().await), "ca.example.net:8143");
    assert_eq!(shown(&finder.puppet_db().await), "db.example.net:8082");
    assert_eq!(
        finder
            .discovery_proxy()
            .await
            .as_ref()
            .map(shown)
            .as_deref(),
        Some("proxy.example.net:8086")
    );

    let set = "plugin.choria.puppetca_host = set-ca\nplugin.choria.puppetserver_port = 1\n\
        plugin.choria.puppetdb_host = 2001:db8::1\nplugin.choria.puppetdb_port = 2\n";
    let finder = machine.finder_in_domain(set);
    assert_eq!(shown(&finder.puppet_ca().await), "set-ca:8140");
    assert_eq!(shown(&finder.puppet_server().await), "puppet:1");
    assert_eq!(shown(&finder.puppet_db().await), "[2001:db8::1]:2");
    machine.dns.remove("_x-puppet-db._tcp.example.net");
    let finder = machine.finder_in_domain("plugin.choria.puppetdb_port = 2\n");
    assert_eq!(shown(&finder.puppet_db().await), "server.example.net:2");
}

#[test]
fn what_was_said_gets_old() {
    let said = Remembered::now(7);
    let later = |seconds| said.at + Duration::from_secs(seconds);
    assert_eq!(said.if_younger(ANSWER_AGE_MAX, later(0)), Some(7));
    assert_eq!(said.if_younger(ANSWER_AGE_MAX, later(4)), Some(7));
    assert_eq!(said.if_younger(ANSWER_AGE_MAX, later(5)), None);
}

#[tokio::test]
async fn every_decision_is_in_the_debug_log() {
    let machine = Machine::new().with_facter("echo example.net");
    machine.offer(
        SERVER,
        &[(10, 0, 4222, "nats1.example.net."), (0, 0, 0, ".")],
    );
    let log = TestLog::start();
    machine
        .finder("plugin.choria.federation.collectives = a\n")
        .middleware()
        .await;
    machine
        .finder("plugin.choria.use_srv = no\n")
        .middleware()
        .await;
    drop(machine);
    let machine = Machine::new();
    let finder = machine.finder("");
    finder.middleware().await;
    finder.middleware().await;
    let text = log.text();
    assert_eq!(text.matches("WARN").count(), 1, "{text}");
    for expected in [
        "DEBUG message=plugin.choria.federation_middleware_hosts names no servers",
        "DEBUG message=Facter knows this machine's domain domain=\"example.net\"",
        "DEBUG message=the domain of SRV records domain=\"example.net\" origin=Facter's networking.domain",
        "DEBUG message=asking for SRV records name=\"_mcollective-federation_server._tcp.example.net\"",
        "DEBUG message=no SRV records name=\"_mcollective-federation_server._tcp.example.net\" problem=there is no such name",
        "DEBUG message=no servers of a federation are known; those of the collective are taken instead",
        "DEBUG message=SRV record name=\"_mcollective-server._tcp.example.net\" host=\"nats1.example.net\" port=4222 \
         priority=10 weight=0",
        "DEBUG message=the service is not offered here, its record says name=\"_mcollective-server._tcp.example.net\"",
        "DEBUG message=servers found for middleware servers=\"nats1.example.net:4222\" source=SRV records of \
         _mcollective-server._tcp.example.net",
        "DEBUG message=SRV records of _mcollective-server._tcp and _x-puppet-mcollective._tcp are not asked for: \
         plugin.choria.use_srv is off",
        "DEBUG message=there is no Facter on this machine",
        "WARN message=SRV records cannot be looked up, since nobody knows this machine's domain",
        "DEBUG message=SRV records of _mcollective-server._tcp and _x-puppet-mcollective._tcp are not asked for: nobody knows \
         the domain",
        "DEBUG message=servers found for middleware servers=\"puppet:4222\" source=default",
    ] {
        assert!(text.contains(expected), "{expected}\nin\n{text}");
    }
}

/// A machine whose DNS is dead waits once, and not for each name.
#[tokio::test]
async fn who_does_not_answer_is_not_asked_for_every_name() {
    let machine = Machine::new();
    machine.dns.set_answering(Answering::Silence);
    let finder = machine.finder_in_domain("");
    let log = TestLog::start();
    assert_eq!(finder.unanswered(), None);
    assert_eq!(shown(&finder.middleware().await), "puppet:4222");
    assert!(machine.dns.questions(SERVER) > 0);
    assert_eq!(shown(&finder.puppet_ca().await), "puppet:8140");
    assert_eq!(shown(&finder.puppet_db().await), "puppet:8081");
    for service in [PUPPET_CA, PUPPET_SERVER, PUPPET_DB] {
        let name = format!("{service}.example.net");
        assert_eq!(machine.dns.questions(&name), 0, "{name}");
    }
    let told = finder.unanswered().unwrap();
    let expected = "no DNS server answers; see that the DNS servers that were given run";
    assert!(told.starts_with(expected), "{told}");
    let text = log.text();
    assert_eq!(
        text.matches("WARN message=no DNS server").count(),
        1,
        "{text}"
    );
    assert!(text.contains("plugin.choria.use_srv = false"), "{text}");

    machine.dns.set_answering(Answering::Zone);
    let finder = machine.finder_in_domain("");
    finder.middleware().await;
    assert_eq!(finder.unanswered(), None, "no such name is an answer");
}

#[tokio::test]
async fn who_waits_for_dns_is_told_once() {
    let machine = Machine::new();
    machine.dns.set_answering(Answering::Silence);
    let mut finder = machine.finder_in_domain("");
    finder.silence_max = Duration::ZERO;
    let log = TestLog::start();
    // Two names are asked for at once.
    finder.middleware().await;
    let text = log.text();
    let told = "WARN message=waiting for DNS, which has not answered yet";
    assert_eq!(text.matches(told).count(), 1, "{text}");
    let ended = text.find("WARN message=no DNS server").unwrap();
    assert!(text.find(told).unwrap() < ended, "{text}");

    let mut finder = machine.finder_in_domain("");
    machine.dns.set_answering(Answering::Zone);
    finder.silence_max = Duration::from_secs(3600);
    let log = TestLog::start();
    finder.middleware().await;
    assert!(!log.text().contains("waiting for DNS"), "{}", log.text());
}

#[tokio::test]
async fn of_many_who_ask_one_runs_facter() {
    let machine = Machine::new().with_facter("echo >> $0.log; sleep 0.2; echo example.net");
    let finder = machine.finder("");
    tokio::join!(
        finder.middleware(),
        finder.puppet_ca(),
        finder.facter_domain()
    );
    let asked = fs::read_to_string(machine.folder.path().join("facter.log")).unwrap();
    assert_eq!(asked.lines().count(), 1);
}

#[tokio::test]
async fn what_facter_says_is_a_domain_or_nothing() {
    for said in [r"facter: cannot load", r"a b", "a..b", r"a\nb", r"\033[31m"] {
        let machine = Machine::new().with_facter(&format!("printf '{said}'"));
        let finder = machine.finder("");
        let log = TestLog::start();
        assert_eq!(finder.domain().await, None, "{said}");
        let text = log.text();
        let expected = format!(
            "WARN message={}",
            machine.folder.path().join("facter").display()
        );
        assert!(text.contains(&expected), "{text}");
        assert!(text.contains("which is no domain"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
