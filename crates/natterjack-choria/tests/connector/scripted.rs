//! Servers that do what ours never would.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use natterjack_choria::connector::{DialError, Event, LossReason};
use natterjack_choria::subject::TargetKind;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{Authority, at, by_name, event, failure, within};

const RIP: &str = "rip.mcollective";
const INFO: &str = r#"{"server_id":"x","tls_required":true,"max_payload":1024,"nonce":"abc"}"#;

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

struct Scripted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// A connection of one client.
struct Client {
    stream: Box<dyn Duplex>,
    input: Vec<u8>,
    version: Option<rustls::ProtocolVersion>,
    certificates: usize,
}

impl Scripted {
    async fn new(authority: &Authority) -> Self {
        let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
        Self::with(authority, &versions).await
    }

    async fn with(
        authority: &Authority,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let pair = authority.pair("scripted", &["localhost"]);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&fs::read(authority.ca()).unwrap()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let chain = CertificateDer::from_pem_file(&pair.certificate).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            .with_single_cert(
                vec![chain],
                PrivateKeyDer::from_pem_file(&pair.key).unwrap(),
            )
            .unwrap();
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: Arc::new(config).into(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    async fn tcp(&self) -> TcpStream {
        within("a client", self.listener.accept()).await.unwrap().0
    }

    /// A client that has been greeted and has agreed on TLS.
    async fn client(&self, info: &str) -> Client {
        let mut tcp = self.tcp().await;
        tcp.write_all(format!("INFO {info} \r\n").as_bytes())
            .await
            .unwrap();
        let tls = within("a handshake", self.acceptor.accept(tcp)).await;
        let tls = tls.expect("agreed");
        let connection = tls.get_ref().1;
        let certificates = connection.peer_certificates().map_or(0, <[_]>::len);
        Client {
            version: connection.protocol_version(),
            certificates,
            stream: Box::new(tls),
            input: Vec::new(),
        }
    }

    /// The same, after all that comes before messages.
    async fn ready(&self, info: &str) -> Client {
        let mut client = self.client(info).await;
        let connect = client.line().await;
        assert!(connect.starts_with("CONNECT {"), "{connect}");
        assert_eq!(client.line().await, "PING");
        client.say("PONG\r\n").await;
        client
    }
}

impl Client {
    async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn line(&mut self) -> String {
        within("a line", async {
            loop {
                if let Some(end) = self.input.windows(2).position(|end| end == b"\r\n") {
                    let line = String::from_utf8(self.input[..end].to_vec()).unwrap();
                    self.input.drain(..end + 2);
                    return line;
                }
                let count = self.stream.read_buf(&mut self.input).await.unwrap();
                assert_ne!(count, 0, "the client hung up");
            }
        })
        .await
    }
}

#[tokio::test]
async fn what_a_server_hears_of_us() {
    let authority = Authority::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Scripted::with(&authority, &[version]).await;
        let settings = "plugin.nats.user = me\nplugin.nats.pass = secret\n";
        let connector = authority.connector_with(
            RIP,
            vec![at("localhost", server.address())],
            settings,
            |_| (),
        );
        let connecting = connector.clone();
        tokio::spawn(async move { connecting.connect().await.map(drop) });
        let mut client = server.client(INFO).await;
        assert_eq!(client.version, Some(version.version));
        assert_eq!(client.certificates, 1, "the server did not insist on it");
        let line = client.line().await;
        let connect: serde_json::Value =
            serde_json::from_str(line.strip_prefix("CONNECT ").unwrap()).unwrap();
        assert_eq!(connect["name"], RIP);
        assert_eq!(connect["verbose"], false);
        assert_eq!(connect["pedantic"], false);
        assert_eq!(connect["protocol"], 1);
        assert_eq!(connect["tls_required"], true);
        assert_eq!(
            (&connect["user"], &connect["pass"]),
            (&"me".into(), &"secret".into())
        );
    }
}

#[tokio::test]
async fn nothing_is_said_to_a_server_without_tls() {
    let authority = Authority::new();
    let server = Scripted::new(&authority).await;
    let connector = authority.connector(RIP, vec![at("localhost", server.address())]);
    let talk = async {
        let mut tcp = server.tcp().await;
        tcp.write_all(b"INFO {\"server_id\":\"x\"} \r\n")
            .await
            .unwrap();
        let mut heard = Vec::new();
        tcp.read_to_end(&mut heard).await.unwrap();
        heard
    };
    let (failure, heard) = tokio::join!(failure(&connector), talk);
    assert!(failure.starts_with("Plaintext"), "{failure}");
    assert_eq!(heard, b"");
}

/// Whoever sits between could otherwise say things that seem to come over TLS.
#[tokio::test]
async fn what_comes_before_tls_is_not_taken_for_what_comes_over_it() {
    let authority = Authority::new();
    let server = Scripted::new(&authority).await;
    for (before, expected) in [
        ("PING\r\n", "Unexpected"),
        ("INFO {}\r\n", "Unexpected"),
        // Whoever is full has no time for TLS; there is no connection in any case.
        ("-ERR 'full'\r\n", "Refused: the server refuses: full"),
    ] {
        let connector = authority.connector(RIP, vec![at("localhost", server.address())]);
        let talk = async {
            let mut tcp = server.tcp().await;
            let text = format!("INFO {INFO} \r\n{before}");
            tcp.write_all(text.as_bytes()).await.unwrap();
            tcp
        };
        let (failure, _tcp) = tokio::join!(failure(&connector), talk);
        assert!(failure.starts_with(expected), "{failure}");
    }
}

#[tokio::test]
async fn what_is_no_server_is_said_to_be_none() {
    let authority = Authority::new();
    let server = Scripted::new(&authority).await;
    let long = format!("INFO {}", "x".repeat(70_000));
    for (greeting, expected) in [
        // It is not waited for what was announced.
        ("MSG a 1 999999999\r\n", "NotNats"),
        (long.as_str(), "NotNats"),
        ("HTTP/1.1 400 Bad Request\r\n", "NotNats"),
        ("PING\r\n", "Unexpected"),
        ("INFO x\r\n", "Info"),
        ("", "Closed"),
        (
            "-ERR 'maximum connections exceeded'\r\n",
            "Refused: the server refuses: maximum",
        ),
    ] {
        let connector = authority.connector(RIP, vec![at("localhost", server.address())]);
        let talk = async {
            let mut tcp = server.tcp().await;
            tcp.write_all(greeting.as_bytes()).await.unwrap();
            tcp.shutdown().await.unwrap();
        };
        let (failure, ()) = tokio::join!(failure(&connector), talk);
        assert!(failure.starts_with(expected), "{greeting:?}: {failure}");
    }
}

#[tokio::test]
async fn a_refusal_does_not_end_the_attempts() {
    let authority = Authority::new();
    let server = Scripted::new(&authority).await;
    let ours = authority.server().await;
    let servers = vec![at("localhost", server.address()), by_name(&ours)];
    let connector = authority.connector(RIP, servers);
    let mut events = connector.events();
    let talk = async {
        let mut client = server.client(INFO).await;
        client.say("-ERR 'Authorization Violation'\r\n").await;
    };
    let (connected, ()) = within("a connection", async {
        tokio::join!(connector.connect(), talk)
    })
    .await;
    assert_eq!(connected.unwrap(), by_name(&ours));
    let reason = event(&mut events, "the refusal", |event| match event {
        Event::Failed { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    assert_eq!(reason.await, "the server refuses: Authorization Violation");
}

#[tokio::test]
async fn servers_that_are_told_of_are_connected_to() {
    let authority = Authority::new();
    let server = Scripted::new(&authority).await;
    let ours = authority.server().await;
    let connector = authority.connector(RIP, vec![at("localhost", server.address())]);
    let mut events = connector.events();
    let (connected, mut client) = tokio::join!(connector.connect(), server.ready(INFO));
    connected.unwrap();
    // As when a server joins the cluster later.
    let told = format!(
        "INFO {{\"server_id\":\"x\",\"connect_urls\":[\"localhost:{}\",\"?\"]}} \r\n",
        ours.client_addr().port()
    );
    client.say(&told).await;
    let learnt = event(&mut events, "other servers", |event| match event {
        Event::Learnt { servers } => Some(servers),
        _ => None,
    });
    assert_eq!(learnt.await, [by_name(&ours)]);
    client.say("-ERR 'Server Shutdown'\r\n").await;
    drop(client);
    drop(server);
    let reason = event(&mut events, "the loss", |event| match event {
        Event::Disconnected { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    let LossReason::Ended { said: Some(said) } = &*reason else {
        panic!("{reason}");
    };
    assert_eq!(said, "Server Shutdown");
    let again = event(&mut events, "another connection", |event| match event {
        Event::Connected { server, is_again } => Some((server, is_again)),
        _ => None,
    });
    assert_eq!(again.await, (by_name(&ours), true));
    assert_eq!(connector.statistics().reconnects, 1);
}

/// One that takes connections and says nothing has failed by no time that anybody waits, but it is named.
#[tokio::test]
async fn a_silent_server_is_named() {
    let authority = Authority::new();
    let server = Scripted::new(&authority).await;
    let address = at("localhost", server.address());
    let timeout = "connection_timeout = 1\n";
    let connector = authority.connector_with(RIP, vec![address.clone()], timeout, |_| ());
    let (error, _tcp) = tokio::join!(connector.connect(), server.tcp());
    let error = error.unwrap_err().to_string();
    let expected = format!("within 1 s (connection_timeout); servers to try: {address}");
    assert!(error.ends_with(&expected), "{error}");
}

/// As when it is killed: TLS is never ended.
#[tokio::test]
async fn a_server_that_is_gone_is_said_to_be() {
    let authority = Authority::new();
    let server = Scripted::new(&authority).await;
    let connector = authority.connector(RIP, vec![at("localhost", server.address())]);
    let mut events = connector.events();
    let (connected, client) = tokio::join!(connector.connect(), server.ready(INFO));
    connected.unwrap();
    drop(client);
    event(&mut events, "the loss", |event| match event {
        Event::Disconnected { reason, .. } => {
            assert!(matches!(&*reason, LossReason::Gone), "{reason}");
            Some(())
        }
        _ => None,
    })
    .await;
    // And the same before it has let us in.
    let mut client = server.client(INFO).await;
    client.line().await;
    drop(client);
    event(&mut events, "the failure", |event| match event {
        Event::Failed { reason, .. } => {
            assert!(matches!(&*reason, DialError::Closed), "{reason}");
            Some(())
        }
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_left() {
    let authority = Authority::new();
    let server = Scripted::new(&authority).await;
    let connector = authority.connector(RIP, vec![at("localhost", server.address())]);
    let mut events = connector.events();
    let (connected, mut client) = tokio::join!(connector.connect(), server.ready(INFO));
    connected.unwrap();
    // Messages for no subscription of ours are passed over.
    client
        .say("MSG a 7 2\r\nhi\r\nMSG a x 2\r\nhi\r\nPING\r\n")
        .await;
    assert_eq!(client.line().await, "PONG");
    client.say("WHAT?\r\n").await;
    event(&mut events, "the loss", |event| match event {
        Event::Disconnected { reason, .. } => {
            assert!(matches!(&*reason, LossReason::Protocol(_)), "{reason}");
            Some(())
        }
        _ => None,
    })
    .await;
    connector
        .subscribe("discovery", TargetKind::Broadcast, "mcollective")
        .unwrap();
    let mut client = server.ready(INFO).await;
    assert_eq!(
        client.line().await,
        "SUB mcollective.broadcast.agent.discovery 1"
    );
}

#[tokio::test]
async fn a_server_that_asks_without_listening_is_left() {
    let authority = Authority::new();
    let server = Scripted::new(&authority).await;
    let connector = authority.connector(RIP, vec![at("localhost", server.address())]);
    let mut events = connector.events();
    let (connected, mut client) = tokio::join!(connector.connect(), server.ready(INFO));
    connected.unwrap();
    let many = "PING\r\n".repeat(10_000);
    within("the end", async {
        // What is sent without end must not be answered without end.
        for _ in 0..10_000 {
            if client.stream.write_all(many.as_bytes()).await.is_err() {
                return;
            }
        }
        panic!("600 MB of PINGs were taken");
    })
    .await;
    let reason = event(&mut events, "the loss", |event| match event {
        Event::Disconnected { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert!(matches!(&*reason, LossReason::Flooded), "{reason}");
    server.ready(INFO).await;
}

#[tokio::test]
async fn a_server_that_will_soon_be_gone_is_left_for_another_one() {
    let authority = Authority::new();
    let server = Scripted::new(&authority).await;
    let ours = authority.server().await;
    let connector = authority.connector(RIP, vec![at("localhost", server.address())]);
    let mut events = connector.events();
    let (connected, mut client) = tokio::join!(connector.connect(), server.ready(INFO));
    connected.unwrap();
    // Without another one there is no reason to go.
    client
        .say("INFO {\"server_id\":\"x\",\"ldm\":true} \r\nPING\r\n")
        .await;
    assert_eq!(client.line().await, "PONG");
    let told = format!(
        "INFO {{\"server_id\":\"x\",\"ldm\":true,\"connect_urls\":[\"localhost:{}\"]}} \r\n",
        ours.client_addr().port()
    );
    client.say(&told).await;
    // Whether all has arrived that was said.
    assert_eq!(client.line().await, "PING");
    client.say("PONG\r\n").await;
    let reason = event(&mut events, "the loss", |event| match event {
        Event::Disconnected { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert!(matches!(&*reason, LossReason::Leaving), "{reason}");
    let again = event(&mut events, "another connection", |event| match event {
        Event::Connected { server, .. } => Some(server),
        Event::Failed { server, .. } => panic!("{server} was tried"),
        _ => None,
    });
    assert_eq!(again.await, by_name(&ours));
}
