//! What these tests share: an authority, a server, nodes and people with certificates; waiting with a deadline.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use natterjack_choria::client::{Asker, Call, Client, ClientOptions, Event, Outcome, Run};
use natterjack_choria::configuration::{Configuration, Role, Surroundings};
use natterjack_choria::connector::{Connector, ConnectorOptions};
use natterjack_choria::identity::Identity;
use natterjack_choria::node::{Knowledge, Node, NodeBuilder, Statistics, serve};
use natterjack_choria::rpc::ActionReply;
use natterjack_choria::server::ServerAddress;
use natterjack_choria::ssl::Ssl;
use natterjack_server::{Options, Server, Tls};
use rcgen::KeyPair;
use serde_json::Value;
use testkit::Authority;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// No wait takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where something is looked at until it is so.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Who may ask here.
pub(crate) const RIP: &str = "rip.mcollective";

/// People sign with RSA, which this protocol needs and rcgen does not make.
const KEY_OF_PEOPLE: &str = include_str!("../data/rip.mcollective.key.pem");

pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("in vain waited for {what}"),
    }
}

pub(crate) fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "requests are made now")]
    SystemTime::now()
}

/// A collective on one server.
pub(crate) struct World {
    authority: Authority,
    server: Server,
}

/// A node that answers, until it is told to end.
pub(crate) struct Running {
    pub(crate) node: Arc<Node>,
    pub(crate) connector: Connector,
    end: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let authority = Authority::new();
        let pair = authority.pair("localhost", &["localhost"]);
        let tls = Tls {
            cert_file: Some(pair.certificate),
            key_file: Some(pair.key),
            ca_files: vec![authority.ca()],
            verify: true,
            // Others use the machine, too.
            timeout: PATIENCE,
            ..Tls::default()
        };
        let options = Options {
            host: "127.0.0.1".into(),
            port: 0,
            tls: Some(tls),
            ..Options::default()
        };
        let server = Server::start(options).await.unwrap();
        Self { authority, server }
    }

    fn configured(&self, role: Role, name: &str, settings: &str) -> (Configuration, Ssl) {
        let key = match role {
            Role::Client => KeyPair::from_pem(KEY_OF_PEOPLE).unwrap(),
            Role::Server => KeyPair::generate().unwrap(),
        };
        let pair = self.authority.pair_with(name, &[name], &key, |_| ());
        let text = format!(
            "connector = nats\nidentity = {name}\nplugin.security.provider = file\n\
             plugin.security.file.certificate = {}\nplugin.security.file.key = {}\n\
             plugin.security.file.ca = {}\n{settings}",
            pair.certificate.display(),
            pair.key.display(),
            self.authority.ca().display()
        );
        let file = self.authority.folder().join(format!("{name}.conf"));
        fs::write(&file, text).unwrap();
        let surroundings = Surroundings {
            environment: BTreeMap::from([("MCOLLECTIVE_CERTNAME".into(), name.into())]),
            ..Surroundings::bare(name, self.authority.folder().join("root"))
        };
        let loaded = Configuration::load(role, Some(&file), &surroundings).unwrap();
        let ssl = Ssl::load(&loaded.configuration, &surroundings, now()).unwrap();
        (loaded.configuration, ssl)
    }

    async fn connect(&self, configuration: &Configuration, ssl: &Ssl) -> Connector {
        let options = ConnectorOptions::of(configuration, ssl);
        let port = self.server.client_addr().port();
        let connector = Connector::start(options, ssl, vec![ServerAddress::new("localhost", port)]);
        within("a connection", connector.connect()).await.unwrap();
        connector
    }

    /// Publishes what no connector of ours would.
    pub(crate) async fn publish(&self, subject: &str, content: Vec<u8>) {
        let stranger = self.server.in_process_client().expect("a client");
        stranger.publish(subject, content).await.expect("published");
        within("a flush", stranger.flush()).await.expect("flushed");
    }

    /// A connection of a machine or person.
    pub(crate) async fn connector(&self, name: &str) -> Connector {
        let (configuration, ssl) = self.configured(Role::Server, name, "");
        self.connect(&configuration, &ssl).await
    }

    pub(crate) async fn node(&self, name: &str, facts: Value, classes: &[&str]) -> Running {
        let knowledge = Knowledge {
            facts,
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        };
        self.node_with(name, "", |builder| builder.with_knowledge(knowledge))
            .await
    }

    pub(crate) async fn node_with(
        &self,
        name: &str,
        settings: &str,
        complete: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Running {
        let (configuration, ssl) = self.configured(Role::Server, name, settings);
        let connector = self.connect(&configuration, &ssl).await;
        let builder = NodeBuilder::from_configuration(Arc::new(configuration), &ssl);
        let node = Arc::new(complete(builder).build(now()));
        let (end, ending) = oneshot::channel::<()>();
        let (served, link) = (Arc::clone(&node), connector.clone());
        let (ready, is_ready) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let end = async {
                // It is asked once all is subscribed to.
                let _ = ready.send(());
                let _ = ending.await;
            };
            serve(served, &link, end).await.unwrap();
        });
        within("a node", is_ready).await.unwrap();
        assert!(connector.flush().await, "the subscriptions hold");
        Running {
            node,
            connector,
            end: Some(end),
            served,
        }
    }

    /// Three of them, with facts and classes.
    pub(crate) async fn fleet(&self) -> Vec<Running> {
        let facts = |family: &str, processors: u64| serde_json::json!({"os": {"family": family}, "processors": processors});
        vec![
            self.node("n1.example.net", facts("Debian", 2), &["web"])
                .await,
            self.node("n2.example.net", facts("Debian", 8), &["web", "db"])
                .await,
            self.node("n3.example.net", facts("RedHat", 8), &[]).await,
        ]
    }

    pub(crate) fn asker(&self, name: &str) -> Asker {
        let (configuration, ssl) = self.configured(Role::Client, name, "");
        Asker::of(&configuration, &ssl).unwrap()
    }

    /// Somebody who asks.
    pub(crate) async fn client(&self, name: &str) -> Client {
        self.client_with(name, |_| ()).await
    }

    pub(crate) async fn client_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut ClientOptions),
    ) -> Client {
        let (configuration, ssl) = self.configured(Role::Client, name, "");
        let connector = self.connect(&configuration, &ssl).await;
        let asker = Asker::of(&configuration, &ssl).unwrap();
        let mut options = ClientOptions::of(&configuration);
        change(&mut options);
        Client::new(asker, connector, options)
    }
}

impl Running {
    /// Waits until what the node has counted is so.
    pub(crate) async fn counts(&self, what: &str, is_so: impl Fn(&Statistics) -> bool) {
        within(what, async {
            let mut ticks = tokio::time::interval(LOOK_INTERVAL);
            while !is_so(&self.node.statistics()) {
                ticks.tick().await;
            }
        })
        .await;
    }

    /// Has it end, and waits for that.
    pub(crate) async fn end(mut self) {
        self.ask_to_end();
        within("the node's end", self.served).await.unwrap();
    }

    pub(crate) fn ask_to_end(&mut self) {
        let _ = self.end.take().map(|end| end.send(()));
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.served.is_finished()
    }
}

/// What a run told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) discovered: Option<Vec<String>>,
    pub(crate) asked: Option<Vec<String>>,
    pub(crate) is_directed: Option<bool>,
    pub(crate) answers: BTreeMap<String, ActionReply>,
    pub(crate) outcome: Outcome,
}

impl Told {
    /// Names of those who answered.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.answers.keys().map(String::as_str).collect()
    }
}

/// Listens to the end.
pub(crate) async fn listen(mut run: Run<'_>) -> Told {
    let mut told = Told::default();
    let mut found = Vec::new();
    let names = |nodes: Vec<Identity>| nodes.iter().map(ToString::to_string).collect();
    while let Some(event) = within("an event", run.next()).await {
        match event.unwrap() {
            Event::Discovered { node, .. } => found.push(node.to_string()),
            Event::DiscoveryEnded { nodes, outcome, .. } => {
                assert_eq!(nodes, found.len());
                found.sort();
                told.discovered = Some(std::mem::take(&mut found));
                told.outcome = outcome;
            }
            Event::Sent {
                nodes, is_directed, ..
            } => {
                told.asked = nodes.map(names);
                told.is_directed = Some(is_directed);
            }
            Event::Answered { node, reply, .. } => {
                told.answers.insert(node.to_string(), reply.unwrap());
            }
            Event::Ended { outcome, .. } => told.outcome = outcome,
            _ => {}
        }
    }
    told
}

/// An action, with as much time as it takes, on three nodes if they have to be found.
pub(crate) fn call(agent: &str, action: &str, arguments: Value) -> Call {
    let Value::Object(arguments) = arguments else {
        panic!("arguments have names");
    };
    let mut call = Call::new(agent, action, arguments);
    call.timeout = PATIENCE;
    call.discovery_timeout = Some(PATIENCE);
    call.nodes_expected = Some(3);
    call
}
