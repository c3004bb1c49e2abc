//! Certificates that `natterjack certs` made, taken as they are by real servers and ours, in configuration files, and by
//! nodes of a bus: as clients, and as servers of one cluster with them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use natterjack_bus::settings::{Endpoint, Server, Settings, Tls, TransportKind};
use natterjack_bus::{EventBus, EventStream};
use testkit::{Config, Kind, Listener, ServerUnderTest, programs};

use crate::trial;

/// No wait takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Until two servers know of each other's subscribers, events are for those at one of them.
const PAUSE: Duration = Duration::from_millis(50);

type Bus = EventBus<u64>;

pub(crate) fn trials() -> Vec<Trial> {
    let kinds = [Kind::Natterjack, Kind::NatsServer, Kind::OldNatsServer];
    let each = kinds.into_iter().map(|kind| {
        let name = format!(
            "bus_tls::nodes_and_servers_take_our_certificates::{}",
            kind.name()
        );
        let needs = [kind.program().map(drop), programs::natterjack().map(drop)];
        trial(name, needs, move || play(kind))
    });
    each.collect()
}

fn play(kind: Kind) {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = certificates(folder.path());
    let block = format!(
        "tls {{ cert_file: \"{0}/nats.crt\", key_file: \"{0}/nats.key\", ca_file: \"{0}/ca.crt\", verify: true, timeout: 5 }}",
        folder.path().display()
    );
    let server = ServerUnderTest::start(
        kind,
        &Config::file(format!(
            "server_name: theirs\n{block}\ncluster {{ name: pond, listen: \"127.0.0.1:-1\"\n{block} }}\n"
        )),
    );
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(talk(&server, &tls));
}

/// Makes an authority and a certificate from it.
fn certificates(folder: &Path) -> Tls {
    let program = programs::natterjack().expect("it was there a moment ago");
    let run = |arguments: &[&str]| {
        let output = Command::new(&program)
            .arg("certs")
            .args(arguments)
            .current_dir(folder)
            .output()
            .expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
    };
    run(&["ca"]);
    run(&["node", "--host", "bindplane-0"]);
    Tls {
        enable: true,
        certificate: Some(folder.join("nats.crt")),
        key: Some(folder.join("nats.key")),
        authorities: vec![folder.join("ca.crt")],
        skip_verify: false,
    }
}

fn endpoint(address: std::net::SocketAddr) -> Endpoint {
    Endpoint {
        scheme: "nats".into(),
        host: address.ip().to_string(),
        port: address.port(),
    }
}

fn node(name: &str, tls: &Tls) -> Settings {
    let mut settings = Settings {
        transport: TransportKind::Nats,
        ..Settings::default()
    };
    settings.nats.client.name = name.into();
    settings.nats.client.subject = "interop.bus.tls".into();
    settings.nats.tls = tls.clone();
    settings
}

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("`{what}` did not happen within {DEADLINE:?}"),
    }
}

/// A client of the server, and a node whose own server is in a cluster with it, hear each other.
async fn talk(server: &ServerUnderTest, tls: &Tls) {
    let mut client = node("client", tls);
    client.nats.client.endpoint = Some(endpoint(server.address()));
    let mut member = node("member", tls);
    member.nats.server = Server::on_free_ports();
    member.nats.server.name = "member".into();
    member.nats.server.cluster.name = "pond".into();
    member.nats.server.cluster.routes = vec![endpoint(server.listener(Listener::Route))];
    let client = within("a client", Bus::start(client))
        .await
        .expect("it starts");
    let member = within("a member", Bus::start(member))
        .await
        .expect("it starts");
    for (writer, reader) in [(&client, &member), (&member, &client)] {
        let mut events = reader.subscribe();
        within("an event crosses", crosses(writer, &mut events)).await;
    }
}

async fn crosses(writer: &Bus, events: &mut EventStream<u64>) {
    loop {
        writer.publish(&7).await.expect("published");
        let next = tokio::time::timeout(PAUSE, events.next()).await;
        if let Ok(Some(event)) = next
            && event.source == writer.name()
        {
            return;
        }
    }
}
