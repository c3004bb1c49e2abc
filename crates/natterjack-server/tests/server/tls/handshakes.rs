//! Who gets in, over which versions, and whether INFO comes before or after the handshake.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use natterjack_server::access::{Credential, User};
use natterjack_server::{Access, HandshakeFirst, Options, Server, Tls, TlsVersion};
use rustls::{HandshakeKind, version};

use super::authority::Authority;
use super::client::{Setup, VERSIONS, line, tcp};
use super::{Over, server};
use crate::support::{PATIENCE, beside, options, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_clients_with_a_certificate_of_the_right_authority_get_in() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let server = server(&authority, |tls| tls.verify = true).await;
    let address = server.client_addr();
    assert_eq!(server.client_url(), format!("tls://{address}"));
    beside(move || {
        let right = authority.pair("right");
        let expired = authority.pair_with("expired", |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        });
        let wrong = stranger.pair("wrong");
        let for_servers = authority.pair_with("for-servers", |params| {
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        });
        for version in VERSIONS {
            let connect = |pair| Setup::with(&authority, pair, &[version]).connect(address);
            let client = connect(Some(&right)).expect("the right certificate");
            assert!(
                client.info.contains("\"tls_required\":true"),
                "{}",
                client.info
            );
            assert!(
                client.info.contains("\"tls_verify\":true"),
                "{}",
                client.info
            );
            assert!(connect(None).is_err(), "no certificate");
            assert!(connect(Some(&wrong)).is_err(), "another authority");
            assert!(connect(Some(&expired)).is_err(), "expired");
            assert!(connect(Some(&for_servers)).is_err(), "not for clients");
        }
    })
    .await;
    until("all are gone", || server.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_clients_with_a_pinned_key_get_in() {
    let authority = Authority::new();
    let [pinned, other] = ["pinned", "other"].map(|name| authority.pair(name));
    let key = std::fs::read_to_string(&pinned.key_file).expect("a key");
    let key = rcgen::KeyPair::from_pem(&key).expect("a key");
    let fingerprint = testkit_sha256(&rcgen::PublicKeyData::subject_public_key_info(&key));
    let server = server(&authority, |tls| {
        tls.verify = true;
        tls.pinned_certs = vec![fingerprint.to_uppercase()];
    })
    .await;
    let address = server.client_addr();
    beside(move || {
        let connect = |pair| Setup::with(&authority, Some(pair), VERSIONS).connect(address);
        assert!(connect(&other).is_err());
        let setup = Setup::with(&authority, Some(&pinned), VERSIONS);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let client = setup.connect(address).expect("the pinned key");
            assert_eq!(client.tls().handshake_kind(), Some(kind));
        }
    })
    .await;
}

fn testkit_sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_self_signed_certificate_gets_in_where_it_is_trusted_by_name() {
    let authority = Authority::new();
    let [trusted, other] = [2030, 4000].map(|year| authority.self_signed(year));
    let expired = authority.self_signed(2020);
    let server = server(&authority, |tls| {
        tls.verify = true;
        tls.ca_files = [&trusted, &expired]
            .map(|pair| pair.cert_file.clone())
            .to_vec();
    })
    .await;
    let address = server.client_addr();
    beside(move || {
        for version in VERSIONS {
            let connect = |pair| Setup::with(&authority, Some(pair), &[version]).connect(address);
            connect(&trusted).expect("named in ca_file");
            assert!(connect(&other).is_err(), "not named");
            assert!(connect(&expired).is_err(), "its time is over");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_those_allowed() {
    let authority = Authority::new();
    let new_only = server(&authority, |tls| tls.min_version = TlsVersion::V1_3).await;
    let old_suite = server(&authority, |tls| {
        tls.cipher_suites = vec!["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".to_owned()];
        tls.curve_preferences = vec!["CurveP384".to_owned()];
    })
    .await;
    let [new_only, old_suite] = [&new_only, &old_suite].map(Server::client_addr);
    beside(move || {
        let connect = |version, address| Setup::with(&authority, None, &[version]).connect(address);
        connect(&version::TLS13, new_only).expect("1.3 is allowed");
        assert!(connect(&version::TLS12, new_only).is_err());
        let client = connect(&version::TLS12, old_suite).expect("1.2 is allowed");
        assert_eq!(
            client
                .tls()
                .negotiated_cipher_suite()
                .map(|suite| suite.suite()),
            Some(rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)
        );
        let client = connect(&version::TLS13, old_suite).expect("1.3 goes on");
        assert_eq!(
            client
                .tls()
                .negotiated_key_exchange_group()
                .map(|group| group.name()),
            Some(rustls::NamedGroup::secp384r1)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_taken_up_again_but_not_by_another_server() {
    let authority = Authority::new();
    let [one, other] = [
        server(&authority, |_| {}).await,
        server(&authority, |_| {}).await,
    ];
    let [one, other] = [&one, &other].map(Server::client_addr);
    beside(move || {
        for version in VERSIONS {
            let setup = Setup::with(&authority, None, &[version]);
            let kind = |address: SocketAddr| {
                let client = setup.connect(address).expect("connected");
                client.tls().handshake_kind().expect("a handshake")
            };
            assert_eq!(kind(one), HandshakeKind::Full);
            assert_eq!(kind(one), HandshakeKind::Resumed);
            assert_eq!(kind(other), HandshakeKind::Full);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_handshake_first_info_comes_encrypted() {
    let authority = Authority::new();
    let patient = server(&authority, |tls| tls.handshake_first = HandshakeFirst::Yes).await;
    let hurried = server(&authority, |tls| {
        tls.handshake_first = HandshakeFirst::Yes;
        tls.timeout = Duration::from_millis(300);
    })
    .await;
    let [patient, hurried] = [&patient, &hurried].map(Server::client_addr);
    beside(move || {
        let client = Setup::first(&authority).connect(patient).expect("first");
        assert!(client.info.starts_with("INFO {"), "{}", client.info);
        // Who waits for INFO hears nothing, until its time is over.
        let mut quiet = tcp(hurried);
        let mut heard = Vec::new();
        let _ = quiet.read_to_end(&mut heard);
        assert_eq!(heard, b"");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_a_time_either_may_begin() {
    let authority = Authority::new();
    // One that waits longer than any client here is held up, and one that does not wait for long.
    let [patient, hurried] = [PATIENCE, Duration::from_millis(10)].map(HandshakeFirst::Within);
    let patient = server(&authority, |tls| tls.handshake_first = patient).await;
    let hurried = server(&authority, |tls| tls.handshake_first = hurried).await;
    let [patient, hurried] = [&patient, &hurried].map(Server::client_addr);
    beside(move || {
        let client = Setup::first(&authority).connect(patient).expect("first");
        assert!(
            client.info.contains("\"tls_required\":true"),
            "{}",
            client.info
        );
        let client = Setup::new(&authority).connect(hurried).expect("after INFO");
        assert!(
            client.info.contains("\"tls_required\":true"),
            "{}",
            client.info
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clear_text_passes_where_it_is_allowed() {
    let authority = Authority::new();
    let pair = authority.pair("server");
    for handshake_first in [HandshakeFirst::No, HandshakeFirst::AUTO] {
        let server = Server::start(Options {
            tls: Some(Tls {
                cert_file: Some(pair.cert_file.clone()),
                key_file: Some(pair.key_file.clone()),
                handshake_first,
                ..Tls::default()
            }),
            allow_non_tls: true,
            ..options()
        })
        .await
        .expect("a server");
        let address = server.client_addr();
        assert_eq!(server.client_url(), format!("nats://{address}"));
        let setup = Setup::new(&authority);
        beside(move || {
            let client = setup.connect(address).expect("encrypted");
            assert!(
                client.info.contains("\"tls_available\":true"),
                "{}",
                client.info
            );
            assert!(!client.info.contains("tls_required"), "{}", client.info);
            let mut clear = tcp(address);
            assert!(line(&mut clear).expect("INFO").starts_with("INFO {"));
            clear
                .write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")
                .expect("written");
            assert_eq!(line(&mut clear).expect("PONG"), "PONG");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_handshake_or_takes_too_long_is_cut() {
    const LIMIT: Duration = Duration::from_millis(300);
    let authority = Authority::new();
    let patient = server(&authority, |tls| tls.timeout = PATIENCE).await;
    let hurried = server(&authority, |tls| tls.timeout = LIMIT).await;
    let addresses = [&patient, &hurried].map(Server::client_addr);
    beside(move || {
        let [patient, hurried] = addresses;
        let end = |address, bytes: &[u8]| {
            #[expect(clippy::disallowed_methods, reason = "the test measures")]
            let begun = Instant::now();
            let mut stream = tcp(address);
            line(&mut stream).expect("INFO");
            let _ = stream.write_all(bytes);
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            begun.elapsed()
        };
        for garbage in [
            &b"CONNECT {}\r\nPING\r\n"[..],
            &[0x16, 3, 1, 0, 4, 9, 9, 9, 9],
        ] {
            let took = end(patient, garbage);
            assert!(took < PATIENCE / 2, "{took:?} for {garbage:?}");
        }
        for slow in [&b""[..], &[0x16], &[0x16, 3, 1, 1, 0, 1, 0]] {
            let took = end(hurried, slow);
            assert!(took >= LIMIT && took < PATIENCE, "{took:?}");
        }
    })
    .await;
    until("all are gone", || {
        patient.connections() + hurried.connections() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_above_the_limit_per_second_are_refused_in_clear_text() {
    let authority = Authority::new();
    let server = server(&authority, |tls| tls.connection_rate_limit = 2).await;
    let address = server.client_addr();
    beside(move || {
        let setup = Setup::new(&authority);
        let mut refused = 0;
        let mut served = Vec::new();
        // Two seconds begin at most while these connect.
        for _ in 0..12 {
            match setup.connect(address) {
                Ok(client) => served.push(client),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 0, "{}", served.len());
        assert!(!served.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_within_the_process_are_not_asked_for_tls() {
    let authority = Authority::new();
    let server = server(&authority, |tls| {
        tls.verify = true;
        tls.handshake_first = HandshakeFirst::Yes;
    })
    .await;
    let client = server.in_process_client().expect("a client");
    let mut heard = client.subscribe("a").await.expect("subscribed");
    client.publish("a", "x").await.expect("published");
    assert_eq!(&heard.next().await.expect("a message").payload[..], b"x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_user_is_found_by_the_certificate_also_of_a_session_taken_up_again() {
    let authority = Authority::new();
    let pair = authority.pair("server");
    let server = Server::start(Options {
        tls: Some(Tls {
            cert_file: Some(pair.cert_file),
            key_file: Some(pair.key_file),
            ca_files: vec![authority.ca_file()],
            verify_and_map: true,
            ..Tls::default()
        }),
        authorization: Access {
            users: vec![User {
                name: "joe@example.com".to_owned(),
                credential: Credential::None,
                permissions: None,
                connection_types: Vec::new(),
            }],
            ..Access::default()
        },
        ..options()
    })
    .await
    .expect("a server");
    let address = server.client_addr();
    beside(move || {
        let pair_of = |name: &str, email: &str| {
            authority.pair_with(name, |params| {
                let email = email.try_into().expect("ascii");
                params.subject_alt_names = vec![rcgen::SanType::Rfc822Name(email)];
            })
        };
        let joe = pair_of("joe", "joe@example.com");
        let jane = pair_of("jane", "jane@example.com");
        let setup = Setup::with(&authority, Some(&joe), VERSIONS);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let client = setup.connect(address).expect("a user");
            assert_eq!(client.tls().handshake_kind(), Some(kind));
        }
        let jane = Setup::with(&authority, Some(&jane), VERSIONS);
        assert!(jane.connect(address).is_err(), "not a user");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_clients_gets_in_and_the_connected_are_served_meanwhile() {
    const CLIENTS: usize = 2_000;
    let authority = Authority::new();
    let server = server(&authority, |tls| tls.verify = true).await;
    let address = server.client_addr();
    let pair = authority.pair("client");
    beside(move || {
        let setup = Setup::with(&authority, Some(&pair), VERSIONS);
        let mut connected = setup.connect(address).expect("connected");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let over = Over(&is_over);
            let storm: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    // No session to take up: each is new.
                    let setup = Setup::with(&authority, Some(&pair), VERSIONS);
                    scope.spawn(move || setup.connect(address))
                })
                .collect();
            let meanwhile = scope.spawn(|| {
                let mut rounds = 0;
                while !is_over.load(Ordering::Relaxed) {
                    connected.send(b"PING\r\n").expect("sent");
                    assert_eq!(connected.line().expect("answered"), "PONG");
                    rounds += 1;
                }
                rounds
            });
            let clients: Vec<_> = storm
                .into_iter()
                .map(|client| client.join().expect("no panic").expect("connected"))
                .collect();
            drop(over);
            assert_eq!(clients.len(), CLIENTS);
            assert!(meanwhile.join().expect("served") > 10);
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stops_although_handshakes_are_half_done() {
    let authority = Authority::new();
    let server = server(&authority, |tls| tls.timeout = PATIENCE).await;
    let address = server.client_addr();
    let half = beside(move || {
        let mut stream = tcp(address);
        line(&mut stream).expect("INFO");
        stream.write_all(&[0x16, 3, 1]).expect("written");
        stream
    })
    .await;
    until("it is connected", || server.connections() == 1).await;
    let stopped = tokio::time::timeout(PATIENCE / 4, server.shutdown()).await;
    assert!(stopped.is_ok(), "it waits for a client that does not go on");
    drop(half);
}
