//! The connector and servers of both kinds: whom it trusts, how it comes back, what it does in clusters and through
//! federations.

mod operator;

use std::fs;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use natterjack_choria::configuration::Role;
use natterjack_choria::connector::{
    Connector, DialError, Event, IncomingStream, NODE_AWAY_BYTES_MAX, OutgoingReply,
    OutgoingRequest, PublishError, Recipients,
};
use natterjack_choria::server::ServerAddress;
use natterjack_choria::subject::TargetKind;
use testkit::cluster::Client;
use testkit::{Config, Kind, Listener, Program, ServerUnderTest, programs};
use tokio::sync::broadcast;

use super::authority::{Authority, PATIENCE, by_name, nowhere, within};
use crate::trial;

const RIP: &str = "rip.mcollective";
const NODE: &str = "node1.example.net";
const COLLECTIVE: &str = "mcollective";

type Play = fn(Kind);

const SCENARIOS: &[(&str, Play)] = &[
    ("whom_it_trusts", |kind| run(whom_it_trusts(kind))),
    ("servers_go_and_come_back", |kind| {
        run(servers_go_and_come_back(kind))
    }),
    ("rubbish_is_left_out", |kind| run(rubbish_is_left_out(kind))),
    ("passwords", |kind| run(passwords(kind))),
    ("the_pages_cluster", |kind| run(the_pages_cluster(kind))),
    ("clusters_that_tell_of_their_servers", |kind| {
        run(clusters_that_tell(kind))
    }),
];

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, play) in SCENARIOS {
        for kind in Kind::ALL {
            let name = format!("choria::connection::{name}::{}", kind.name());
            let needs = [kind.program().map(drop)];
            trials.push(trial(name, needs, move || play(kind)));
        }
    }
    // Tokens of operators are nothing that a server of ours knows.
    let name = "choria::connection::files_of_credentials::nats-server".to_owned();
    let needs = [Kind::NatsServer.program().map(drop)];
    trials.push(trial(name, needs, || run(files_of_credentials())));
    for kinds in [
        [Kind::NatsServer, Kind::NatsServer],
        [Kind::Natterjack, Kind::Natterjack],
        [Kind::Natterjack, Kind::NatsServer],
    ] {
        let [outside, inside] = kinds.map(Kind::name);
        let name = format!("choria::connection::federation::{outside}_and_{inside}");
        let mut needs: Vec<_> = kinds.iter().map(|kind| kind.program().map(drop)).collect();
        needs.push(programs::natterjack().map(drop));
        trials.push(trial(name, needs, move || run(federation(kinds))));
    }
    trials
}

fn run(play: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(play);
}

fn start(kind: Kind, text: &str) -> ServerUnderTest {
    ServerUnderTest::start(kind, &Config::file(text))
}

async fn connected(connector: &Connector) -> ServerAddress {
    let connected = within("a connection", connector.connect()).await;
    connected.expect("a connection")
}

async fn event<T>(
    events: &mut broadcast::Receiver<Event>,
    what: &str,
    mut pick: impl FnMut(Event) -> Option<T>,
) -> T {
    within(what, async {
        loop {
            let event = events.recv().await.expect("no events are missed");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    })
    .await
}

async fn lost(events: &mut broadcast::Receiver<Event>) {
    event(events, "the loss", |event| {
        matches!(event, Event::Disconnected { .. }).then_some(())
    })
    .await;
}

async fn back(events: &mut broadcast::Receiver<Event>) -> ServerAddress {
    event(events, "the connection", |event| match event {
        Event::Connected { server, .. } => Some(server),
        _ => None,
    })
    .await
}

/// Why the first attempt fails. It is not tried any more after that.
async fn failure(connector: Connector) -> std::sync::Arc<DialError> {
    let mut events = connector.events();
    let connecting = connector.clone();
    let connecting = tokio::spawn(async move { connecting.connect().await.map(drop) });
    let reason = event(&mut events, "a failure", |event| match event {
        Event::Failed { reason, .. } => Some(reason),
        Event::Connected { server, .. } => panic!("connected to {server}"),
        _ => None,
    })
    .await;
    within("the end", connector.disconnect()).await;
    let answer = within("the answer", connecting).await;
    assert!(answer.expect("no panic").is_err());
    reason
}

fn subscribe(node: &Connector) {
    for kind in [TargetKind::Broadcast, TargetKind::Directed] {
        node.subscribe("discovery", kind, COLLECTIVE)
            .expect("subscribed");
    }
}

async fn ask(
    connector: &Connector,
    content: &str,
    recipients: Recipients,
) -> Result<usize, PublishError> {
    let reply_to = connector.reply_subject(COLLECTIVE).expect("a subject");
    let request = OutgoingRequest {
        content: content.as_bytes().to_vec(),
        request_id: "a1b2c3d4e5f60718293a4b5c6d7e8f90".into(),
        collective: COLLECTIVE.into(),
        agent: "discovery".into(),
        recipients,
        reply_to,
        is_traced: true,
    };
    connector.publish(request).await
}

async fn broadcast_to_all(connector: &Connector, content: &str) -> Result<usize, PublishError> {
    ask(connector, content, Recipients::Everyone).await
}

async fn next_content(incoming: &mut IncomingStream) -> String {
    let next = within("a message", incoming.next()).await;
    let next = next.expect("the stream goes on");
    String::from_utf8(next.transport.content).expect("text")
}

/// Asks everybody until this node hears it: it may be subscribed at another server of the cluster.
async fn reaches(client: &Connector, incoming: &mut IncomingStream, content: &str) {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
    within("a request to come", async {
        loop {
            broadcast_to_all(client, content).await.expect("published");
            let next = tokio::time::timeout(PAUSE, incoming.next()).await;
            if let Ok(Some(next)) = next
                && next.transport.content == content.as_bytes()
            {
                return;
            }
        }
    })
    .await;
}

async fn whom_it_trusts(kind: Kind) {
    let (authority, other) = (Authority::new(), Authority::new());
    let client = |server: &ServerUnderTest| {
        authority.connector(Role::Client, RIP, vec![by_name(server)], "")
    };
    let good = authority.tls("good", &["localhost"]);
    for version in ["1.2", "1.3"] {
        let text = good.replace("verify:", &format!("min_version: \"{version}\"\n  verify:"));
        let server = start(kind, &text);
        assert_eq!(connected(&client(&server)).await, by_name(&server));
    }
    let former = start(kind, &authority.tls("localhost", &[]));
    connected(&client(&former)).await;

    let of_another_name = start(kind, &authority.tls("nats1", &["nats1.example.net"]));
    let reason = failure(client(&of_another_name)).await;
    assert!(
        matches!(&*reason, DialError::Tls(_)) && reason.to_string().contains("nats1.example.net"),
        "{reason}"
    );
    // It would take our certificate.
    let foreign = other.tls("foreign", &["localhost"]).replace(
        &other.ca().display().to_string(),
        &authority.ca().display().to_string(),
    );
    let reason = failure(client(&start(kind, &foreign))).await;
    assert!(
        reason
            .to_string()
            .starts_with("TLS: its certificate was signed by none of the authorities"),
        "{reason}"
    );
    let strict = good.replace(
        &authority.ca().display().to_string(),
        &other.ca().display().to_string(),
    );
    let reason = failure(client(&start(kind, &strict))).await;
    assert!(
        matches!(&*reason, DialError::Tls(_) | DialError::Closed),
        "{reason}"
    );
    let reason = failure(client(&start(kind, ""))).await;
    assert!(matches!(&*reason, DialError::Plaintext), "{reason}");
}

async fn servers_go_and_come_back(kind: Kind) {
    let authority = Authority::new();
    let mut server = start(kind, &authority.tls("server", &["localhost"]));
    let name = by_name(&server);
    let node = authority.connector(Role::Server, NODE, vec![name.clone(), nowhere()], "");
    connected(&node).await;
    subscribe(&node);
    assert!(within("a flush", node.flush()).await);
    let (mut events, mut incoming) = (node.events(), node.receive());
    server.stop();
    lost(&mut events).await;
    assert_eq!(node.connected_server(), None);
    assert_eq!(broadcast_to_all(&node, "waiting").await, Ok(1));
    let large = "x".repeat(NODE_AWAY_BYTES_MAX);
    let error = broadcast_to_all(&node, &large).await;
    assert_eq!(
        error,
        Err(PublishError::Away {
            bytes_max: NODE_AWAY_BYTES_MAX
        })
    );
    server.restart();
    assert_eq!(back(&mut events).await, name);
    assert_eq!(next_content(&mut incoming).await, "waiting");
    let client = authority.connector(Role::Client, RIP, vec![name], "");
    connected(&client).await;
    let to_node = Recipients::Nodes(vec![NODE.parse().expect("a name")]);
    assert_eq!(ask(&client, "you", to_node).await, Ok(1));
    assert_eq!(next_content(&mut incoming).await, "you");
    assert_eq!(node.statistics().reconnects, 1);
}

async fn rubbish_is_left_out(kind: Kind) {
    let authority = Authority::new();
    // Rubbish comes from a client without a certificate.
    let tls = authority
        .tls("server", &["localhost"])
        .replace("verify: true", "verify: false");
    let server = start(kind, &(tls + "allow_non_tls: true\n"));
    let node = authority.connector(Role::Server, NODE, vec![by_name(&server)], "");
    connected(&node).await;
    subscribe(&node);
    assert!(within("a flush", node.flush()).await);
    let address = server.address();
    let peer = tokio::task::spawn_blocking(move || {
        let mut peer = Client::connect(address);
        let deep = "[".repeat(100_000);
        for rubbish in ["", "not json", "[]", "{}", "\0\0", &deep] {
            peer.publish("mcollective.broadcast.agent.discovery", rubbish);
            peer.publish("mcollective.node.node1.example.net", rubbish);
        }
        peer.flush();
    });
    within("rubbish", peer).await.expect("sent");
    let client = authority.connector(Role::Client, RIP, vec![by_name(&server)], "");
    connected(&client).await;
    broadcast_to_all(&client, "good").await.expect("published");
    let mut incoming = node.receive();
    assert_eq!(next_content(&mut incoming).await, "good");
    assert_eq!(node.statistics().malformed, 12);
}

async fn passwords(kind: Kind) {
    let authority = Authority::new();
    let server = start(
        kind,
        &(authority.tls("server", &["localhost"])
            + "authorization { user: choria, password: s3cret, timeout: 20 }\n"),
    );
    let open = start(kind, &authority.tls("open", &["localhost"]));
    let right = "plugin.nats.user = choria\nplugin.nats.pass = s3cret\n";
    let client = authority.connector(Role::Client, RIP, vec![by_name(&server)], right);
    connected(&client).await;
    // Who is refused goes on to the next server, and does not give up.
    let servers = vec![by_name(&server), by_name(&open)];
    let wrong = "plugin.nats.user = choria\nplugin.nats.pass = wrong\n";
    let client = authority.connector(Role::Client, "bob.mcollective", servers, wrong);
    let mut events = client.events();
    assert_eq!(connected(&client).await, by_name(&open));
    let reason = event(&mut events, "the refusal", |event| match event {
        Event::Failed { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert!(
        matches!(&*reason, DialError::Refused(text) if text == "Authorization Violation"),
        "{reason}"
    );
}

async fn files_of_credentials() {
    let authority = Authority::new();
    let operator = operator::Operator::new();
    let text = authority.tls("server", &["localhost"]) + &operator.configuration();
    let server = start(Kind::NatsServer, &text);
    let file = authority.folder().join("rip.creds");
    fs::write(&file, operator.credentials()).expect("written");
    let settings = format!("plugin.nats.credentials = {}\n", file.display());
    let client = authority.connector(Role::Client, RIP, vec![by_name(&server)], &settings);
    connected(&client).await;
    let nobody = authority.connector(Role::Client, "bob.mcollective", vec![by_name(&server)], "");
    let reason = failure(nobody).await;
    assert!(matches!(&*reason, DialError::Refused(_)), "{reason}");
}

/// The configuration of the page that introduced the connector, but for ports and passwords that match. The first server
/// is named to the others.
fn page(authority: &Authority, name: &str, first: Option<&ServerUnderTest>, more: &str) -> String {
    let tls = authority.tls(name, &["localhost", "127.0.0.1"]);
    let routes = first.map_or_else(String::new, |first| {
        let port = first.listener(Listener::Route).port();
        format!("routes = [ nats-route://routes:s3cret@localhost:{port} ]")
    });
    format!(
        "server_name: {name}\ndebug: false\ntrace: false\nmonitor_port: -1\nmax_payload: 1048576\n\
         max_connections: 65536\n{tls}cluster {{\n  name: choria\n  host: 127.0.0.1\n  port: -1\n  {more}\n  \
         {tls}\n  authorization {{ user: routes, password: s3cret, timeout: 20 }}\n  {routes}\n}}\n"
    )
}

/// Adds a server to a cluster, or begins one.
fn join(authority: &Authority, servers: &mut Vec<ServerUnderTest>, kind: Kind, more: &str) {
    let name = format!("nats{}", servers.len() + 1);
    let text = page(authority, &name, servers.first(), more);
    servers.push(start(kind, &text));
}

async fn the_pages_cluster(kind: Kind) {
    let authority = Authority::new();
    let mut servers = Vec::new();
    for _ in 0..3 {
        join(&authority, &mut servers, kind, "no_advertise: true");
    }
    let names: Vec<_> = servers.iter().map(by_name).collect();
    let node = authority.connector(Role::Server, NODE, names.clone(), "");
    assert_eq!(connected(&node).await, names[0]);
    subscribe(&node);
    let client = authority.connector(Role::Client, RIP, vec![names[2].clone()], "");
    connected(&client).await;
    let (mut events, mut incoming) = (node.events(), node.receive());
    reaches(&client, &mut incoming, "first").await;
    assert_eq!(node.server_pool(), names, "they tell of nobody");
    servers[0].stop();
    lost(&mut events).await;
    assert_eq!(back(&mut events).await, names[1]);
    reaches(&client, &mut incoming, "second").await;
}

async fn clusters_that_tell(kind: Kind) {
    let authority = Authority::new();
    let mut servers = Vec::new();
    join(&authority, &mut servers, kind, "");
    let first = by_name(&servers[0]);
    let node = authority.connector(Role::Server, NODE, vec![first.clone()], "");
    assert_eq!(connected(&node).await, first);
    subscribe(&node);
    // These were not there when it connected.
    for _ in 0..2 {
        join(&authority, &mut servers, kind, "");
    }
    let others: Vec<_> = servers[1..]
        .iter()
        .map(|server| ServerAddress::new("127.0.0.1", server.address().port()))
        .collect();
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
    within("the others' addresses", async {
        while !others
            .iter()
            .all(|other| node.server_pool().contains(other))
        {
            ticks.tick().await;
        }
    })
    .await;
    let client = authority.connector(Role::Client, RIP, vec![by_name(&servers[1])], "");
    connected(&client).await;
    // They know each other from the first one alone, which must have told them before it goes.
    let last = by_name(&servers[2]);
    let listener = authority.connector(Role::Server, "listener", vec![last.clone()], "");
    assert_eq!(connected(&listener).await, last);
    subscribe(&listener);
    reaches(&client, &mut listener.receive(), "there").await;
    let (mut events, mut incoming) = (node.events(), node.receive());
    servers[0].stop();
    lost(&mut events).await;
    let now = back(&mut events).await;
    assert!(others.contains(&now), "{now}");
    reaches(&client, &mut incoming, "still there").await;
}

async fn federation([outside, inside]: [Kind; 2]) {
    let authority = Authority::new();
    let tls = authority.tls("server", &["localhost"]);
    let federation = start(outside, &tls);
    let clusters = ["london", "paris"].map(|name| (name, start(inside, &tls)));
    let mut brokers = Vec::new();
    for (name, server) in &clusters {
        brokers.push(broker(&authority, name, &federation, server));
        let node = format!("node.{name}");
        let node = authority.connector(Role::Server, &node, vec![by_name(server)], "");
        connected(&node).await;
        subscribe(&node);
        assert!(within("a flush", node.flush()).await);
        tokio::spawn(answer(node));
    }
    let settings = "plugin.choria.federation.collectives = london, paris\n";
    let client = authority.connector(Role::Client, RIP, vec![by_name(&federation)], settings);
    connected(&client).await;
    client
        .subscribe("", TargetKind::Reply, COLLECTIVE)
        .expect("subscribed");
    let mut incoming = client.receive();
    let nodes = ["node.london", "node.paris", "node.nowhere"];
    let nodes = nodes.map(|name| name.parse().expect("a name")).to_vec();
    for recipients in [Recipients::Everyone, Recipients::Nodes(nodes)] {
        assert_eq!(ask(&client, "who is there", recipients).await, Ok(2));
        let mut senders = Vec::new();
        for _ in 0..2 {
            let answer = within("an answer", incoming.next()).await.expect("one");
            let headers = answer.transport.headers;
            assert_eq!(headers.seen_by.map(|hops| hops.len()), Some(5));
            senders.push(headers.sender.expect("somebody"));
        }
        senders.sort();
        assert_eq!(senders, ["node.london", "node.paris"]);
    }
    for mut broker in brokers {
        broker.interrupt();
        let status = broker.wait_for_exit(PATIENCE);
        assert!(
            status.is_some_and(|status| status.success()),
            "{}",
            broker.output()
        );
        let told = "2 requests and 2 replies passed on, 0 dropped";
        assert!(broker.output().contains(told), "{}", broker.output());
    }
}

/// `natterjack choria federation`.
fn broker(
    authority: &Authority,
    cluster: &str,
    federation: &ServerUnderTest,
    collective: &ServerUnderTest,
) -> Program {
    let name = format!("broker.{cluster}");
    let text = format!(
        "{}plugin.choria.federation.cluster = {cluster}\nplugin.choria.federation_middleware_hosts = {}\n\
         plugin.choria.middleware_hosts = {}\n",
        authority.settings(&name),
        by_name(federation),
        by_name(collective)
    );
    let file = authority.folder().join(format!("{cluster}-server.cfg"));
    fs::write(&file, text).expect("written");
    let program = programs::natterjack().expect("it was there a moment ago");
    let broker = Program::spawn(
        Command::new(program)
            .args(["choria", "federation", "--config"])
            .arg(&file)
            .env("MCOLLECTIVE_CERTNAME", &name)
            .current_dir(authority.folder())
            .stdin(Stdio::null()),
    )
    .expect("it starts");
    let ready = broker.wait_for(&format!("broker of {cluster}: federation"), PATIENCE);
    assert!(ready.is_ok(), "{}", broker.output());
    broker
}

async fn answer(node: Connector) {
    let mut incoming = node.receive();
    while let Some(asked) = incoming.next().await {
        let reply = OutgoingReply {
            content: asked.transport.content,
            request: asked.transport.headers,
        };
        node.publish(reply).await.expect("answered");
    }
}
