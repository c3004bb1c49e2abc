//! TLS over real sockets: nodes that encrypt everything, and what a node is told when a certificate is not right.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use natterjack_bus::settings::{Endpoint, Server, Settings, Tls, TransportKind};
use natterjack_bus::{EventBus, Link, StartError};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::world::{Note, endpoint, eventually, note, take, within};

/// Gives certificates, and keeps them in files.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"),
            directory: tempfile::tempdir().expect("a directory"),
        };
        let file = authority.path("ca.crt");
        std::fs::write(file, authority.issuer.pem()).expect("it can be written");
        authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// TLS with a certificate of this name: for both ends and for loopback addresses, unless changed.
    pub(crate) fn tls(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Tls {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![
            SanType::DnsName("localhost".try_into().expect("ascii")),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = [
            self.path(&format!("{name}.crt")),
            self.path(&format!("{name}.key")),
        ];
        std::fs::write(&files[0], made.pem()).expect("it can be written");
        private(&files[1], &key.serialize_pem());
        let [certificate, key] = files;
        Tls {
            enable: true,
            certificate: Some(certificate),
            key: Some(key),
            authorities: vec![self.path("ca.crt")],
            skip_verify: false,
        }
    }
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("it can be written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("it is ours");
}

fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 1);
}

fn settings(name: &str, tls: Tls) -> Settings {
    let mut settings = Settings {
        transport: TransportKind::Nats,
        ..Settings::default()
    };
    settings.nats.client.name = name.into();
    settings.nats.server.name = name.into();
    settings.nats.tls = tls;
    settings
}

/// A node with a server.
async fn node(name: &str, tls: Tls, routes: &[String]) -> EventBus<Note> {
    let mut settings = settings(name, tls);
    settings.nats.server = Server {
        name: name.into(),
        ..Server::on_free_ports()
    };
    settings.nats.server.cluster.routes = routes.iter().map(|url| endpoint(url)).collect();
    EventBus::start(settings).await.expect("the node starts")
}

/// A node without one.
async fn client(name: &str, tls: Tls, server: Endpoint) -> EventBus<Note> {
    let mut settings = settings(name, tls);
    settings.nats.client.endpoint = Some(server);
    EventBus::start(settings).await.expect("the node starts")
}

/// A server that does not mind its own certificate.
pub(crate) async fn server(tls: &Tls) -> (natterjack_server::Server, Endpoint) {
    let options = natterjack_server::Options {
        host: "127.0.0.1".into(),
        port: 0,
        tls: Some(natterjack_server::Tls {
            cert_file: tls.certificate.clone(),
            key_file: tls.key.clone(),
            ca_files: tls.authorities.clone(),
            verify: true,
            ..natterjack_server::Tls::default()
        }),
        ..natterjack_server::Options::default()
    };
    let server = natterjack_server::Server::start(options)
        .await
        .expect("it starts");
    let endpoint = endpoint(&server.client_url());
    (server, endpoint)
}

/// What a node is told of its server.
async fn refusal(bus: &EventBus<Note>) -> String {
    eventually("a refusal", || bus.refusal().is_some()).await;
    assert_ne!(bus.link(), Link::Connected);
    bus.refusal().expect("there is one")
}

fn assert_tells(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "{part:?} is not in {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_with_mutual_tls() {
    let authority = Authority::new("pond");
    let tls = authority.tls("shared", |_| {});
    let mut nodes: Vec<EventBus<Note>> = Vec::new();
    let mut routes = Vec::new();
    for name in ["a", "b", "c"] {
        let bus = node(name, tls.clone(), &routes).await;
        routes.push(bus.cluster_url().expect("it has a server"));
        assert!(
            bus.server_url()
                .expect("it has a server")
                .starts_with("tls://")
        );
        assert!(
            bus.monitoring_url()
                .expect("it has pages")
                .starts_with("https://")
        );
        nodes.push(bus);
    }
    let mut streams: Vec<_> = nodes.iter().map(EventBus::subscribe).collect();
    // Events reach whoever is connected; so all of them publish until all have heard all.
    let mut heard = vec![std::collections::BTreeSet::new(); nodes.len()];
    within("everybody hears everybody", async {
        for number in 0.. {
            for bus in &nodes {
                bus.publish(&note("somebody", number))
                    .await
                    .expect("it is taken");
            }
            for (stream, heard) in streams.iter_mut().zip(&mut heard) {
                let event = take(stream, 1).await.remove(0);
                heard.insert(event.source);
            }
            if heard.iter().all(|heard| heard.len() == 3) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reaches_its_own_server_without_a_socket_and_so_without_tls() {
    let authority = Authority::new("pond");
    let tls = authority.tls("shared", |_| {});
    let inside = {
        let mut settings = settings("a", tls.clone());
        settings.nats.server = Server {
            name: "a".into(),
            ..Server::on_free_ports()
        };
        settings.nats.client.endpoint = Some(Endpoint::in_process());
        EventBus::<Note>::start(settings)
            .await
            .expect("the node starts")
    };
    let address = endpoint(&inside.server_url().expect("it has a server"));
    let outside = client("b", tls, address).await;
    within("ready", outside.ready()).await;
    let mut events = inside.subscribe();
    outside.publish(&note("b", 1)).await.expect("it is taken");
    assert_eq!(take(&mut events, 1).await[0].source, "b");
}

#[tokio::test]
async fn a_server_of_another_authority() {
    let (pond, lake) = (Authority::new("pond"), Authority::new("lake"));
    let (_server, address) = server(&lake.tls("server", |_| {})).await;
    let bus = client("a", pond.tls("a", |_| {}), address).await;
    assert_tells(
        &refusal(&bus).await,
        &[
            "the certificate of the server at 127.0.0.1 is refused",
            "it comes from `CN=lake`, which is none of the authorities: CN=pond",
            "add this one's authority to tlsCA everywhere",
        ],
    );
}

#[tokio::test]
async fn a_server_that_is_not_named() {
    let pond = Authority::new("pond");
    let nameless = pond.tls("server", |params| {
        params.subject_alt_names = vec![SanType::DnsName("bindplane-0".try_into().expect("ascii"))];
    });
    let (_server, address) = server(&nameless).await;
    let bus = client("a", pond.tls("a", |_| {}), address).await;
    assert_tells(
        &refusal(&bus).await,
        &[
            "it does not name `127.0.0.1`, but only bindplane-0",
            "natterjack certs node --host 127.0.0.1",
        ],
    );
}

#[tokio::test]
async fn a_server_whose_time_is_over() {
    let pond = Authority::new("pond");
    let (_server, address) = server(&pond.tls("server", expired)).await;
    let bus = client("a", pond.tls("a", |_| {}), address).await;
    assert_tells(
        &refusal(&bus).await,
        &["it expired on 2020-01-01", "renew it"],
    );
}

#[tokio::test]
async fn a_server_with_a_clients_certificate() {
    let pond = Authority::new("pond");
    let client_only = pond.tls("server", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let (_server, address) = server(&client_only).await;
    let bus = client("a", pond.tls("a", |_| {}), address).await;
    assert_tells(
        &refusal(&bus).await,
        &[
            "servers may not show it: its extended key usage does not have serverAuth",
            "make one with the extended key usages serverAuth and clientAuth",
        ],
    );
}

#[tokio::test]
async fn a_server_that_does_not_know_our_authority() {
    let (pond, lake) = (Authority::new("pond"), Authority::new("lake"));
    let (_server, address) = server(&pond.tls("server", |_| {})).await;
    let mut tls = lake.tls("a", |_| {});
    // The other way round they would get along.
    tls.authorities = vec![pond.path("ca.crt")];
    let bus = client("a", tls, address).await;
    assert_tells(
        &refusal(&bus).await,
        &[
            "the server does not know the authority of this node's certificate",
            "give all nodes certificates of the same authority",
        ],
    );
}

#[tokio::test]
async fn who_skips_verifying_is_still_verified() {
    let (pond, lake) = (Authority::new("pond"), Authority::new("lake"));
    let nameless = |params: &mut CertificateParams| params.subject_alt_names.clear();
    let bus = node(
        "a",
        Tls {
            skip_verify: true,
            ..pond.tls("a", nameless)
        },
        &[],
    )
    .await;
    assert_eq!(bus.link(), Link::Connected, "neither chain nor name count");
    let address = endpoint(&bus.server_url().expect("it has a server"));
    let stranger = Tls {
        skip_verify: true,
        ..lake.tls("b", |_| {})
    };
    let told = refusal(&client("b", stranger, address.clone()).await).await;
    assert_tells(
        &told,
        &["does not know the authority of this node's certificate"],
    );
    let told = refusal(&client("c", Tls::default(), address).await).await;
    assert_tells(
        &told,
        &["the server demands TLS", "eventBus.nats.tls.enableTLS"],
    );
}

#[tokio::test]
async fn a_server_without_tls() {
    let pond = Authority::new("pond");
    let plain = node("a", Tls::default(), &[]).await;
    let address = endpoint(&plain.server_url().expect("it has a server"));
    let told = refusal(&client("b", pond.tls("b", |_| {}), address).await).await;
    assert_tells(
        &told,
        &["the server does not speak TLS", "enable TLS there"],
    );
}

/// Demands TLS, and says this where its part of the handshake should be.
async fn without_handshake(words: &'static [u8]) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let info = b"INFO {\"headers\":true,\"max_payload\":1048576,\"tls_required\":true}\r\n";
            // If it is gone another one comes.
            let _ = client.write_all(info).await;
            let _ = client.read(&mut [0; 4096]).await;
            let _ = client.write_all(words).await;
            let _ = client.shutdown().await;
        }
    });
    endpoint(&format!("nats://{address}"))
}

#[tokio::test]
async fn a_server_that_breaks_off_the_handshake() {
    let pond = Authority::new("pond");
    let tls = pond.tls("a", |_| {});
    let told = refusal(&client("a", tls.clone(), without_handshake(b"").await).await).await;
    assert_tells(
        &told,
        &[
            "TLS with the server cannot begin",
            "look into that server's log",
        ],
    );
    // A fatal alert, internal_error (RFC 8446, section 6).
    let alert = without_handshake(b"\x15\x03\x03\x00\x02\x02\x50").await;
    let told = refusal(&client("a", tls, alert).await).await;
    assert_tells(
        &told,
        &["ends TLS (InternalError)", "look into that server's log"],
    );
}

/// Why a node does not even start.
async fn start_problem(tls: Tls) -> String {
    let mut settings = settings("a", tls);
    settings.nats.server = Server::on_free_ports();
    let Err(error) = EventBus::<Note>::start(settings).await else {
        panic!("it started");
    };
    assert!(matches!(error, StartError::Settings(_)), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_node_does_not_start_with_a_certificate_that_its_own_client_refuses() {
    let (pond, lake) = (Authority::new("pond"), Authority::new("lake"));
    let told = start_problem(pond.tls("expired", expired)).await;
    assert_tells(
        &told,
        &[
            "eventBus.nats.tls.tlsCert",
            "it expired on 2020-01-01",
            "renew it",
        ],
    );

    let nameless = |params: &mut CertificateParams| params.subject_alt_names.clear();
    let told = start_problem(pond.tls("nameless", nameless)).await;
    assert_tells(
        &told,
        &["it does not name `127.0.0.1`: it has no subject alternative names"],
    );

    for (missing, kept, words) in [
        (
            "client",
            ExtendedKeyUsagePurpose::ServerAuth,
            "does not have clientAuth",
        ),
        (
            "server",
            ExtendedKeyUsagePurpose::ClientAuth,
            "does not have serverAuth",
        ),
    ] {
        let told =
            start_problem(pond.tls(missing, |params| params.extended_key_usages = vec![kept]));
        assert_tells(
            &told.await,
            &[words, "make one with the extended key usages"],
        );
    }

    let mut stranger = lake.tls("stranger", |_| {});
    stranger.authorities = vec![pond.path("ca.crt")];
    assert_tells(&start_problem(stranger).await, &["it comes from `CN=lake`"]);

    let mut swapped = pond.tls("swapped", |_| {});
    std::mem::swap(&mut swapped.certificate, &mut swapped.key);
    let told = start_problem(swapped).await;
    assert_tells(&told, &["no certificate inside", "it holds a private key"]);

    let mut other = pond.tls("one", |_| {});
    other.key = pond.tls("other", |_| {}).key;
    assert_tells(
        &start_problem(other).await,
        &["other.key is not the key of", "one.crt"],
    );
}

/// Whoever leaves out the endpoint means `nats://localhost`, and gives a certificate for that.
#[tokio::test]
async fn without_an_endpoint_a_node_dials_its_own_server_as_it_is_named() {
    let pond = Authority::new("pond");
    let only = |name: SanType| {
        let file = format!("{name:?}").replace(|letter: char| !letter.is_alphanumeric(), "-");
        pond.tls(&file, |params| params.subject_alt_names = vec![name])
    };
    let named = only(SanType::DnsName("localhost".try_into().expect("ascii")));
    let numbered = only(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    for (host, good, bad) in [
        ("localhost", &named, &numbered),
        ("0.0.0.0", &named, &numbered),
        ("127.0.0.1", &numbered, &named),
    ] {
        let start = async |tls: &Tls| {
            let mut settings = settings("a", tls.clone());
            settings.nats.server = Server::on_free_ports();
            settings.nats.server.client.host = host.into();
            EventBus::<Note>::start(settings).await
        };
        let bus = start(good).await.expect("its name is that of the server");
        within("ready", bus.ready()).await;
        within("drain", bus.drain()).await.expect("nothing is open");
        let Err(StartError::Settings(problems)) = start(bad).await else {
            panic!("{host}: it started");
        };
        let dialled = host.replace("0.0.0.0", "localhost");
        assert_tells(
            &problems.to_string(),
            &[
                &format!("does not name `{dialled}`"),
                &format!("dials `{dialled}`"),
            ],
        );
    }
}

#[test]
fn a_key_that_others_can_read_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let pond = Authority::new("pond");
    let tls = pond.tls("a", |_| {});
    let settings = settings("a", tls.clone());
    assert_eq!(settings.problems(), []);
    let key = tls.key.expect("there is one");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
    let told: Vec<String> = settings
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_tells(
        &told[0],
        &[
            "warning: eventBus.nats.tls.tlsKey",
            "(mode 0644)",
            "chmod 600",
        ],
    );
}
