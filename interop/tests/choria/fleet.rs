//! A large fleet on one broker: each node a connection of its own over TLS, with a certificate of its own, and all of a
//! node's work, signatures included. What is measured is printed; what is asserted is that nobody is missing.
//!
//! Keys of nodes are of P-256, so that making thousands takes no minutes; who asks signs with RSA, and the authority's
//! signatures are RSA's, as Puppet's are, since both are checked by every node for every request.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream;
use libtest_mimic::Trial;
use natterjack_choria::client::{Asker, Call, Client, ClientOptions, Event, Limit, Outcome, Ping};
use natterjack_choria::configuration::{Configuration, Role, Surroundings};
use natterjack_choria::connector::{Connector, ConnectorOptions, Event as ConnectorEvent};
use natterjack_choria::filter::Filter;
use natterjack_choria::node::{Knowledge, NodeBuilder, serve};
use natterjack_choria::rpc::Values;
use natterjack_choria::server::ServerAddress;
use natterjack_choria::ssl::Ssl;
use rcgen::KeyPair;
use testkit::{Authority, Config, HttpAnswer, Kind, Listener, ServerUnderTest};
use tokio::task::JoinSet;

use crate::trial;

/// Nodes that may be connecting at once. More would only wait for each other's handshakes.
const CONNECTING_MAX: usize = 32;

/// So often it is looked which nodes are back.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// No wait takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Keys of RSA, which rcgen does not make. The first one is that of the connector's own tests.
const KEY_OF_PEOPLE: &str =
    include_str!("../../../crates/natterjack-choria/tests/data/rip.mcollective.key.pem");
const KEY_OF_AUTHORITY: &str = include_str!("fleet_authority.key.pem");

pub(super) fn trials() -> Vec<Trial> {
    let brokers = [
        (Kind::Natterjack, 2_000),
        (Kind::NatsServer, 200),
        (Kind::OldNatsServer, 20),
    ];
    let each = brokers.into_iter().map(|(kind, nodes)| {
        let name = format!("choria::fleet::{nodes}_nodes::{}", kind.name());
        trial(name, [kind.program().map(drop)], move || play(kind, nodes))
    });
    each.collect()
}

fn play(kind: Kind, nodes: usize) {
    let mut world = World::new(kind);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(world.ask_all(nodes));
}

struct World {
    authority: Authority,
    broker: ServerUnderTest,
    /// Of nodes.
    connectors: Mutex<Vec<Connector>>,
}

impl World {
    fn new(kind: Kind) -> Self {
        let authority = Authority::with_key(KeyPair::from_pem(KEY_OF_AUTHORITY).expect("a key"));
        authority.pair("localhost", &["localhost"]);
        let at = authority.folder().display();
        let broker = ServerUnderTest::start(
            kind,
            &Config::file(format!(
                "http: \"127.0.0.1:-1\"\ntls {{ cert_file: \"{at}/localhost.pem\", key_file: \
                 \"{at}/localhost-key.pem\", ca_file: \"{at}/ca.pem\", verify: true, timeout: 60 }}\n"
            )),
        );
        Self {
            authority,
            broker,
            connectors: Mutex::default(),
        }
    }

    /// Settings and certificate of somebody.
    fn configured(&self, role: Role, name: &str, key: &KeyPair) -> (Configuration, Ssl) {
        let pair = (self.authority).pair_with(name, &[name], key, |_| ());
        let text = format!(
            "connector = nats\nidentity = {name}\nplugin.security.provider = file\n\
             plugin.security.file.certificate = {}\nplugin.security.file.key = {}\n\
             plugin.security.file.ca = {}\n",
            pair.certificate.display(),
            pair.key.display(),
            self.authority.ca().display()
        );
        let file = self.authority.folder().join(format!("{name}.conf"));
        fs::write(&file, text).expect("written");
        let surroundings = Surroundings {
            environment: BTreeMap::from([("MCOLLECTIVE_CERTNAME".into(), name.into())]),
            ..Surroundings::bare(name, self.authority.folder().join("root"))
        };
        let loaded = Configuration::load(role, Some(&file), &surroundings).expect("settings");
        let ssl = Ssl::load(&loaded.configuration, &surroundings, calendar_now());
        (loaded.configuration, ssl.expect("a certificate"))
    }

    async fn connect(&self, configuration: &Configuration, ssl: &Ssl) -> Connector {
        let server = ServerAddress::new("localhost", self.broker.address().port());
        let options = ConnectorOptions::of(configuration, ssl);
        let connector = Connector::start(options, ssl, vec![server]);
        within("a connection", connector.connect())
            .await
            .expect("connected");
        connector
    }

    /// A node that answers for as long as its connector is there.
    async fn node(&self, number: usize, serving: &Mutex<JoinSet<()>>) {
        let name = node_name(number);
        let key = KeyPair::generate().expect("a key");
        let (configuration, ssl) = self.configured(Role::Server, &name, &key);
        let connector = self.connect(&configuration, &ssl).await;
        let facts = serde_json::json!({"number": number, "os": {"family": "Debian"}});
        let node = NodeBuilder::from_configuration(Arc::new(configuration), &ssl)
            .with_knowledge(Knowledge {
                facts,
                classes: Vec::new(),
            })
            .build(calendar_now());
        let link = connector.clone();
        let connectors = self.connectors.lock();
        connectors.expect("nobody panics in it").push(link.clone());
        let (subscribed, is_subscribed) = tokio::sync::oneshot::channel();
        let task = async move {
            let end = async {
                // It is asked once all is subscribed to.
                let _ = subscribed.send(());
                std::future::pending().await
            };
            serve(Arc::new(node), &link, end)
                .await
                .expect("it is in its own collectives");
        };
        serving.lock().expect("nobody panics in it").spawn(task);
        within("subscriptions", is_subscribed)
            .await
            .expect("it serves");
        assert!(
            within("the broker", connector.flush()).await,
            "{name} is connected"
        );
    }

    async fn ask_all(&mut self, nodes: usize) {
        let before = self.broker_bytes();
        let start = now();
        let serving = Mutex::new(JoinSet::new());
        stream::iter(0..nodes)
            .for_each_concurrent(CONNECTING_MAX, |number| self.node(number, &serving))
            .await;
        tell(format_args!(
            "{nodes} nodes with certificates of their own are connected after {:.1} s; the broker has {} MiB, {} before",
            (now() - start).as_secs_f64(),
            self.broker_bytes() >> 20,
            before >> 20
        ));
        let key = KeyPair::from_pem(KEY_OF_PEOPLE).expect("a key");
        let (configuration, ssl) = self.configured(Role::Client, "rip.mcollective", &key);
        let connector = self.connect(&configuration, &ssl).await;
        let asker = Asker::of(&configuration, &ssl).expect("a key of RSA");
        let mut client = Client::new(asker, connector, ClientOptions::default());
        for _ in 0..2 {
            self.ping_all(&mut client, nodes).await;
        }
        self.call_all(&mut client, nodes).await;
        self.ask_half(&mut client, nodes).await;
        self.ask_one(&mut client, nodes).await;
        self.lose_and_come_back(&mut client, nodes).await;
        serving
            .into_inner()
            .expect("nobody panicked")
            .shutdown()
            .await;
    }

    async fn ping_all(&self, client: &mut Client, nodes: usize) {
        let mut run = client.ping(Ping {
            timeout: Some(PATIENCE),
            answers_max: Some(nodes),
            ..Ping::default()
        });
        let mut times = Vec::with_capacity(nodes);
        let mut names = std::collections::BTreeSet::new();
        let mut ended = Outcome::default();
        while let Some(event) = run.next().await {
            match event.expect("it goes on") {
                Event::Discovered { node, after } => {
                    times.push(after);
                    names.insert(node.to_string());
                }
                Event::DiscoveryEnded { outcome, .. } => ended = outcome,
                _ => {}
            }
        }
        let expected: std::collections::BTreeSet<_> = (0..nodes).map(node_name).collect();
        assert!(
            names == expected,
            "{} of {nodes} nodes answered",
            names.len()
        );
        assert_eq!((ended.repeated, ended.damaged, ended.foreign), (0, 0, 0));
        times.sort_unstable();
        tell(format_args!(
            "ping: {nodes} answers, the first after {:.0} ms, half after {:.0} ms, all after {:.0} ms; the broker has {} MiB",
            milliseconds(times[0]),
            milliseconds(times[nodes / 2]),
            milliseconds(times[nodes - 1]),
            self.broker_bytes() >> 20
        ));
    }

    /// The broker is started anew, and everybody comes back by himself.
    async fn lose_and_come_back(&mut self, client: &mut Client, nodes: usize) {
        let connectors = self.connectors.get_mut().expect("nobody panicked");
        let connectors = std::mem::take(connectors);
        let mut events: Vec<_> = connectors.iter().map(Connector::events).collect();
        tokio::task::block_in_place(|| self.broker.restart());
        let start = now();
        let mut times = Vec::with_capacity(nodes);
        let mut reasons = BTreeMap::<String, usize>::new();
        let back = async {
            let mut looks = tokio::time::interval(LOOK_INTERVAL);
            while times.len() < nodes {
                looks.tick().await;
                let after = now() - start;
                events.retain_mut(|events| {
                    while let Ok(event) = events.try_recv() {
                        match event {
                            ConnectorEvent::Failed { reason, .. } => {
                                *reasons.entry(reason.to_string()).or_default() += 1;
                            }
                            ConnectorEvent::Connected { .. } => {
                                times.push(after);
                                return false;
                            }
                            _ => {}
                        }
                    }
                    true
                });
            }
        };
        let is_back = tokio::time::timeout(PATIENCE, back).await.is_ok();
        assert!(is_back, "{} of {nodes} are back; {reasons:?}", times.len());
        tell(format_args!(
            "the broker was started anew: half of the nodes are back after {:.1} s, all after {:.1} s; meanwhile {reasons:?}",
            times[nodes / 2].as_secs_f64(),
            times[nodes - 1].as_secs_f64()
        ));
        for connector in &connectors {
            // With its answer the broker has the subscriptions.
            assert!(within("the broker", connector.flush()).await, "it is back");
        }
        // Who asks comes back as the nodes do.
        within("the broker", client.connector().connect())
            .await
            .expect("connected");
        self.ping_all(client, nodes).await;
    }

    /// An action on half of them, chosen by chance: each is told the names of some, and not of all.
    async fn ask_half(&self, client: &mut Client, nodes: usize) {
        let mut call = Call::new("rpcutil", "ping", Values::new());
        call.timeout = PATIENCE;
        call.discovery_timeout = Some(PATIENCE);
        call.nodes_expected = Some(nodes);
        call.limit = Some(Limit::Nodes(nodes / 2));
        let before = client.connector().statistics().bytes_out;
        let outcome = outcome(client, call, |_| ()).await;
        assert_eq!(outcome.0.answered, nodes / 2);
        let bytes = client.connector().statistics().bytes_out - before;
        let bytes_each = bytes / (nodes as u64 / 2);
        tell(format_args!(
            "rpc to {}: answers after {:.0} ms, {bytes_each} bytes sent to each",
            nodes / 2,
            milliseconds(outcome.1)
        ));
        assert!(bytes_each < 32 << 10, "{bytes_each}");
    }

    /// An action on all of them, who share the request.
    async fn call_all(&self, client: &mut Client, nodes: usize) {
        let mut call = Call::new("rpcutil", "inventory", Values::new());
        call.timeout = PATIENCE;
        call.discovery_timeout = Some(PATIENCE);
        call.nodes_expected = Some(nodes);
        let outcome = outcome(client, call, |reply| assert!(reply.contains_key("facts"))).await;
        assert_eq!(outcome.0.answered, nodes);
        tell(format_args!(
            "rpc: {nodes} answers after {:.0} ms",
            milliseconds(outcome.1)
        ));
    }

    /// One of them, which is named.
    async fn ask_one(&self, client: &mut Client, nodes: usize) {
        let name = node_name(nodes / 2);
        let arguments = Values::from_iter([("fact".to_owned(), "number".into())]);
        let mut call = Call::new("rpcutil", "get_fact", arguments);
        call.timeout = PATIENCE;
        call.filter = Filter {
            identity: vec![name],
            ..Filter::default()
        };
        let is_right = |reply: &Values| assert_eq!(reply["value"], nodes / 2);
        let outcome = outcome(client, call, is_right).await;
        assert_eq!(outcome.0.answered, 1);
        tell(format_args!(
            "rpc to one: its answer after {:.0} ms",
            milliseconds(outcome.1)
        ));
    }

    fn broker_bytes(&self) -> u64 {
        let page = HttpAnswer::get(self.broker.listener(Listener::Monitor), "/varz");
        page.json()["mem"].as_u64().expect("it says")
    }
}

#[expect(
    clippy::print_stdout,
    reason = "what is measured is shown, and not asserted"
)]
fn tell(text: std::fmt::Arguments<'_>) {
    println!("{text}");
}

async fn outcome(client: &mut Client, call: Call, check: impl Fn(&Values)) -> (Outcome, Duration) {
    let mut run = client.call(call);
    loop {
        match run
            .next()
            .await
            .expect("it ends first")
            .expect("it goes on")
        {
            Event::Answered { reply, .. } => check(&reply.expect("an agent's answer").data),
            Event::Ended { outcome, took } => {
                assert!(outcome.missing.is_empty(), "{:?}", outcome.missing);
                return (outcome, took);
            }
            _ => {}
        }
    }
}

fn node_name(number: usize) -> String {
    format!("node{number:04}.example.net")
}

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("in vain waited for {what}"),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "certificates are made now")]
fn calendar_now() -> SystemTime {
    SystemTime::now()
}
