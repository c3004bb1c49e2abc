//! Servers that find each other by DNS, each on a machine of its own with a `/etc/resolv.conf` of its own, and a DNS server on
//! another one: names of services, names with several addresses, names that change, and a DNS that is away.
//!
//! nats-server has no such routes, so these clusters are ours.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, TcpListener};

use libtest_mimic::Trial;
use rcgen::SanType;
use testkit::cluster::Client;
use testkit::netns::{Network, with_privileges};
use testkit::{
    Answering, Config, DnsServer, HttpAnswer, Kind, Listener, PATIENCE, ServerUnderTest,
    ServiceHost, ask_until,
};

use crate::access::authority::{named, text, trusted};
use crate::trial;

const SERVICE: &str = "_nats-route._tcp.example.net";
const HOST: &str = "cluster.example.net";
/// Seconds that answers are good for.
const VALID: u32 = 1;
/// Where servers listen, each at this or, by number, behind it.
const PORT: u16 = 6222;

pub(super) fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 4] = [
        (
            "cluster::discovery::servers_of_a_service_come_and_go",
            servers_of_a_service_come_and_go,
        ),
        (
            "cluster::discovery::a_service_with_certificates_for_its_hosts",
            a_service_with_certificates_for_its_hosts,
        ),
        (
            "cluster::discovery::every_address_of_a_host_is_a_server",
            every_address_of_a_host_is_a_server,
        ),
        (
            "cluster::discovery::dns_is_away_and_comes_back",
            dns_is_away_and_comes_back,
        ),
    ];
    let trials = tests.into_iter().map(|(name, run)| {
        let needs = [Kind::Natterjack.program().map(drop)];
        trial(name.to_owned(), needs, move || with_privileges(name, run))
    });
    trials.collect()
}

/// Three find each other; a fourth comes into the zone and is found though it dials nobody; one goes out of it, stays
/// connected, and is dialled no more once it has gone, while one that is still in it is.
fn servers_of_a_service_come_and_go() {
    let mut stage = Stage::of(4);
    stage.offer_service(&[0, 1, 2]);
    let route = format!("\"srv+nats-route://route:secret@{SERVICE}\"");
    for node in 0..3 {
        stage.start(node, PORT + place(node), &route, LOGIN);
    }
    stage.wait_until_whole(&[0, 1, 2]);
    for node in 0..3 {
        stage.wait_for_targets(node, SERVICE, &[0, 1, 2]);
    }

    stage.start(3, PORT + place(3), "", LOGIN);
    stage.offer_service(&[0, 1, 2, 3]);
    stage.wait_until_whole(&[0, 1, 2, 3]);

    stage.offer_service(&[0, 1, 3]);
    for node in 0..3 {
        stage.wait_for_targets(node, SERVICE, &[0, 1, 3]);
    }
    stage.wait_until_whole(&[0, 1, 2, 3]);

    // In their places somebody who counts who comes.
    let (known, removed) = (1, 2);
    let [in_zone, out_of_zone] = [known, removed].map(|node| stage.replace(node));
    stage.wait_until_whole(&[0, 3]);
    // The other one that is left knows both from others alone, and does not dial for long.
    let asks = IpAddr::from(stage.network.address(0));
    let mut dials = 0;
    while dials < 3 {
        // Closed at once, so that it is tried again.
        let (_, from) = in_zone.accept().expect("who is in the zone is dialled");
        dials += usize::from(from.ip() == asks);
    }
    out_of_zone
        .set_nonblocking(true)
        .expect("a socket takes options");
    while let Ok((_, from)) = out_of_zone.accept() {
        assert_ne!(from.ip(), asks, "who is not in the zone is not dialled");
    }
}

/// The host of each record is what its server's certificate must be for.
fn a_service_with_certificates_for_its_hosts() {
    let mut stage = Stage::of(3);
    stage.offer_service(&[0, 1, 2]);
    let route = format!("\"srv+tls://route:secret@{SERVICE}\"");
    for node in 0..3 {
        let port = PORT + place(node);
        let own = format!(
            "{LOGIN}\nadvertise: \"{}:{port}\"\n\
             tls {{ cert_file: cert.pem, key_file: key.pem, ca_file: ca.pem, timeout: 10 }}",
            host(node)
        );
        stage.start(node, port, &route, &own);
    }
    stage.wait_until_whole(&[0, 1, 2]);
    stage.expect_delivery(&[0, 1, 2]);
    for node in 0..3 {
        let log = stage.server(node).log();
        assert!(!log.contains("certificate"), "{log}");
    }
}

/// Also where nobody is at one of them, yet.
fn every_address_of_a_host_is_a_server() {
    let mut stage = Stage::of(4);
    stage.set_host(&[0, 1, 2, 3]);
    let route = format!("\"nats-route://route:secret@{HOST}:{PORT}\"");
    for node in 0..3 {
        stage.start(node, PORT, &route, LOGIN);
    }
    stage.wait_until_whole(&[0, 1, 2]);
    stage.expect_delivery(&[0, 1, 2]);
    for node in 0..3 {
        stage.wait_for_targets(node, HOST, &[0, 1, 2, 3]);
    }
    // It dials nobody.
    stage.start(3, PORT, "", LOGIN);
    stage.wait_until_whole(&[0, 1, 2, 3]);
    // One server and one of two addresses are left.
    stage.set_host(&[0, 3]);
    stage.wait_for_targets(0, HOST, &[0, 3]);
}

/// Nobody answers at the start: servers serve their clients, say what is wrong, and find each other once somebody answers.
/// Later the name is gone: what it stood for is kept, for connections that are there and for those that must be made anew.
fn dns_is_away_and_comes_back() {
    let mut stage = Stage::of(3);
    stage.offer_service(&[0, 1, 2]);
    stage.dns().set_answering(Answering::Silence);
    let route = format!("\"srv+nats-route://route:secret@{SERVICE}\"");
    for node in 0..3 {
        stage.start(node, PORT + place(node), &route, LOGIN);
    }
    for node in 0..3 {
        let _ = stage.server(node).wait_for_log(&format!(
            "Route {SERVICE} cannot be looked up: no DNS server answers"
        ));
        let mut client = stage.client(node);
        client.subscribe("alone");
        assert!(client.is_heard("alone", ""), "it serves its clients");
    }
    stage.dns().set_answering(Answering::Zone);
    stage.wait_until_whole(&[0, 1, 2]);
    stage.expect_delivery(&[0, 1, 2]);
    for node in 0..3 {
        stage.wait_for_targets(node, SERVICE, &[0, 1, 2]);
    }

    stage.dns().remove(SERVICE);
    for node in 0..3 {
        let _ = stage.server(node).wait_for_log(&format!(
            "Route {SERVICE} cannot be looked up: there is no such name; correct the name, or add it to the zone. The 3 servers \
             known for it are kept"
        ));
    }
    stage.wait_until_whole(&[0, 1, 2]);
    stage.restart(2);
    let _ = stage.server(2).wait_for_log("It stands for no server");
    stage.wait_until_whole(&[0, 1, 2]);

    stage.offer_service(&[0, 1, 2]);
    for node in 0..2 {
        let _ = stage
            .server(node)
            .wait_for_log(&format!("Route {SERVICE} can be looked up again"));
    }
    stage.wait_for_targets(2, SERVICE, &[0, 1, 2]);
}

const LOGIN: &str = "authorization { user: route, password: secret }";

/// Machines for servers, and one more for a DNS server, which all others ask.
struct Stage {
    // Servers end before their machines.
    servers: Vec<Option<ServerUnderTest>>,
    dns: Option<DnsServer>,
    network: Network,
}

impl Stage {
    fn of(servers: usize) -> Self {
        let network = Network::of(servers + 1, 0);
        let address = IpAddr::from(network.address(servers));
        let dns = network.inside(servers, || DnsServer::start_at(address));
        for node in 0..servers {
            dns.set_host(&host(node), VALID, &[network.address(node).into()]);
        }
        Self {
            servers: (0..servers).map(|_| None).collect(),
            dns: Some(dns),
            network,
        }
    }

    fn dns(&self) -> &DnsServer {
        self.dns.as_ref().expect("there until the end")
    }

    fn server(&self, node: usize) -> &ServerUnderTest {
        self.servers[node].as_ref().expect("it has been started")
    }

    /// These servers are in the zone, each with its own port.
    fn offer_service(&self, nodes: &[usize]) {
        let hosts = nodes.iter().map(|&node| ServiceHost {
            priority: place(node),
            weight: 0,
            port: PORT + place(node),
            host: host(node),
        });
        let hosts: Vec<ServiceHost> = hosts.collect();
        self.dns().set_service(SERVICE, VALID, &hosts);
    }

    /// These servers have the name.
    fn set_host(&self, nodes: &[usize]) {
        let addresses = nodes.iter().map(|&node| self.network.address(node).into());
        let addresses: Vec<IpAddr> = addresses.collect();
        self.dns().set_host(HOST, VALID, &addresses);
    }

    fn start(&mut self, node: usize, port: u16, routes: &str, own: &str) {
        let pair = trusted().pair(|params| {
            named(&host(node))(params);
            params.subject_alt_names = vec![SanType::DnsName(text(&host(node)))];
        });
        let dns = self.network.address(self.servers.len());
        let config = Config::file(format!(
            "server_name: \"{}\"\nhttp: \"127.0.0.1:-1\"\ncluster {{\nname: mesh\nlisten: \"{}:{port}\"\n\
             routes: [{routes}]\n{own}\n}}\n",
            host(node),
            self.network.address(node)
        ))
        .resolver(format!("nameserver {dns}\noptions timeout:1 attempts:1\n"))
        .side_file("ca.pem", trusted().pem())
        .side_file("cert.pem", pair.certificate)
        .side_file("key.pem", pair.key);
        let start = || ServerUnderTest::start(Kind::Natterjack, &config);
        self.servers[node] = Some(self.network.inside(node, start));
    }

    fn restart(&mut self, node: usize) {
        let server = self.servers[node].as_mut().expect("it has been started");
        self.network.inside(node, || server.restart());
    }

    /// Kills a server, and listens where it has listened for others.
    fn replace(&mut self, node: usize) -> TcpListener {
        self.servers[node] = None;
        let address = (self.network.address(node), PORT + place(node));
        let listener = self.network.inside(node, || TcpListener::bind(address));
        listener.expect("its port is free again")
    }

    fn client(&self, node: usize) -> Client {
        let address = self.server(node).address();
        self.network.inside(node, || Client::connect(address))
    }

    /// Waits until a server has said last that the name stands for these.
    fn wait_for_targets(&self, node: usize, name: &str, nodes: &[usize]) {
        let said = format!("Route {name} stands for ");
        let target = |node: &usize| match name {
            SERVICE => format!("{}:{}", host(*node), PORT + place(*node)),
            _ => format!("{}:{PORT}", self.network.address(*node)),
        };
        let wanted: BTreeSet<String> = nodes.iter().map(target).collect();
        let mut last = String::new();
        let is_said = ask_until(PATIENCE, || {
            let log = self.server(node).log();
            let mut lines = log.lines().filter_map(|line| line.split_once(&said));
            last = lines
                .next_back()
                .map_or_else(String::new, |(_, list)| list.to_owned());
            let targets: BTreeSet<String> = last.split(", ").map(str::to_owned).collect();
            (targets == wanted).then_some(())
        });
        assert!(is_said.is_some(), "{node} said last: {last}");
    }

    /// Waits until each of these has routes to all others of them and to nobody else.
    fn wait_until_whole(&self, nodes: &[usize]) {
        let mut problem = String::new();
        let whole = ask_until(PATIENCE, || {
            for &node in nodes {
                let others = nodes.iter().filter(|other| **other != node);
                let others: BTreeSet<String> = others.map(|&other| host(other)).collect();
                let peers = self.peers(node);
                if peers != others {
                    problem = format!("{node} has routes to {peers:?}");
                    return None;
                }
            }
            Some(())
        });
        assert!(whole.is_some(), "{problem}");
    }

    /// The names of the servers that a server has routes to.
    fn peers(&self, node: usize) -> BTreeSet<String> {
        let monitor = self.server(node).listener(Listener::Monitor);
        let page = self
            .network
            .inside(node, || HttpAnswer::get(monitor, "/routez").json());
        let routes = page["routes"].as_array().into_iter().flatten();
        let names = routes.filter_map(|route| route["remote_name"].as_str());
        names.map(str::to_owned).collect()
    }

    /// A message from each to each, and no second one.
    fn expect_delivery(&self, nodes: &[usize]) {
        for &to in nodes {
            let mut subscriber = self.client(to);
            let subject = format!("hello.{to}");
            subscriber.subscribe(&subject);
            subscriber.round_trip();
            for &from in nodes {
                let mut publisher = self.client(from);
                let heard = ask_until(PATIENCE, || publisher.is_heard(&subject, "").then_some(()));
                assert!(heard.is_some(), "{from} knows nobody who hears {subject}");
                publisher.publish(&subject, "end");
                publisher.flush();
                assert_eq!(subscriber.next_message().text(), "");
                assert_eq!(subscriber.next_message().text(), "end");
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Its threads are woken from where it is.
        let dns = self.dns.take();
        self.network.inside(self.servers.len(), || drop(dns));
        if !std::thread::panicking() {
            return;
        }
        // In one piece, since other tests may fail at the same time.
        let mut report = String::new();
        for (node, server) in self.servers.iter().enumerate() {
            let log = server
                .as_ref()
                .map(ServerUnderTest::log)
                .unwrap_or_default();
            report.push_str(&format!("--- the log of {node}:\n{log}\n"));
        }
        let _ = std::io::stderr().write_all(report.as_bytes());
    }
}

fn host(node: usize) -> String {
    format!("node-{node}.example.net")
}

fn place(node: usize) -> u16 {
    u16::try_from(node).expect("few servers")
}
