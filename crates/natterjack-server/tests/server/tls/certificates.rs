//! Certificates: what is said of bad ones, which one is shown, and how they are replaced while messages flow.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use natterjack_server::tls::{TlsProblem, problems};
use natterjack_server::{Server, StartError, Tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::authority::Authority;
use super::client::Setup;
use super::{Over, server};
use crate::support::{beside, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_certificate_is_taken_while_messages_flow() {
    let authority = Authority::new();
    let server = server(&authority, |_| {}).await;
    let address = server.client_addr();
    beside(move || {
        let setup = Setup::new(&authority);
        let mut consumer = setup.connect(address).expect("connected");
        let before = consumer.server_certificate();
        consumer.send(b"SUB a 1\r\nPING\r\n").expect("sent");
        assert_eq!(consumer.line().expect("PONG"), "PONG");
        let mut publisher = setup.connect(address).expect("connected");
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let mut sent = 0_usize;
                while !is_over.load(Ordering::Relaxed) {
                    let text = sent.to_string();
                    publisher
                        .send(format!("PUB a {}\r\n{text}\r\nPING\r\n", text.len()).as_bytes())
                        .expect("sent");
                    assert_eq!(publisher.line().expect("PONG"), "PONG");
                    sent += 1;
                }
                publisher.send(b"PUB a 3\r\nend\r\n").expect("sent");
                sent
            });
            let receiving = scope.spawn(|| {
                for number in 0_usize.. {
                    consumer.line().expect("a message");
                    let text = consumer.line().expect("its text");
                    if text == "end" {
                        return number;
                    }
                    assert_eq!(text, number.to_string());
                }
                0
            });
            let over = Over(&is_over);
            let files = authority.pair("server");
            let certificate = CertificateDer::from_pem_file(&files.cert_file).expect("the new one");
            let mut shown = before.clone();
            while shown != certificate {
                // A new setup, so that no session is taken up again.
                let client = Setup::new(&authority).connect(address).expect("connected");
                shown = client.server_certificate();
                assert!(shown == before || shown == certificate);
            }
            drop(over);
            let sent = sending.join().expect("all sent");
            assert_eq!(receiving.join().expect("all received"), sent);
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_fits_the_name_that_is_asked_for() {
    let authority = Authority::new();
    let other = authority.pair_with("other", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName(
            "other.example.com".try_into().expect("a name"),
        )];
    });
    let own = authority.pair("own");
    let expected = CertificateDer::from_pem_file(&own.cert_file).expect("a certificate");
    let server = Server::start(natterjack_server::Options {
        tls: Some(Tls {
            certs: vec![other, own],
            ..Tls::default()
        }),
        ..options()
    })
    .await
    .expect("a server");
    let address = server.client_addr();
    beside(move || {
        // It asks for `localhost`, which is in the second.
        let client = Setup::new(&authority).connect(address).expect("connected");
        assert_eq!(client.server_certificate(), expected);
    })
    .await;
}

fn check(authority: &Authority, change: impl FnOnce(&mut Tls)) -> Vec<TlsProblem> {
    let pair = authority.pair("server");
    let mut tls = Tls {
        cert_file: Some(pair.cert_file),
        key_file: Some(pair.key_file),
        ..Tls::default()
    };
    change(&mut tls);
    problems(&tls)
}

#[test]
fn what_is_wrong_is_told_with_the_file_and_the_remedy() {
    let authority = Authority::new();
    let write = |name: &str, text: &str| -> PathBuf {
        let path = authority.file(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    assert_eq!(check(&authority, |_| {}), []);
    assert_eq!(problems(&Tls::default()), [TlsProblem::NoCertificate]);
    let missing = authority.file("missing.pem");
    let other = authority.pair("other");
    let empty = write("empty.pem", "");
    let broken = write(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let encrypted = write(
        "encrypted.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let cases: Vec<(Vec<TlsProblem>, &str)> = vec![
        (
            check(&authority, |tls| tls.cert_file = Some(missing.clone())),
            "missing.pem: cannot be read: it does not exist",
        ),
        (
            check(&authority, |tls| tls.cert_file = Some(empty.clone())),
            "empty.pem: no certificate inside",
        ),
        (
            check(&authority, |tls| {
                std::mem::swap(&mut tls.cert_file, &mut tls.key_file)
            }),
            "are cert_file and key_file swapped?",
        ),
        (
            check(&authority, |tls| {
                tls.key_file = Some(other.key_file.clone())
            }),
            "other-key.pem is not the key of cert_file",
        ),
        (
            check(&authority, |tls| tls.key_file = Some(encrypted.clone())),
            "openssl pkey -in",
        ),
        (
            check(&authority, |tls| tls.key_file = Some(empty.clone())),
            "empty.pem: no private key inside",
        ),
        (
            check(&authority, |tls| tls.key_file = None),
            "server.pem has no key_file",
        ),
        (
            check(&authority, |tls| tls.cert_file = Some(broken.clone())),
            "broken.pem: damaged",
        ),
        (
            check(&authority, |tls| {
                tls.verify = true;
                tls.ca_files = vec![missing.clone()];
            }),
            "ca_file",
        ),
        (
            check(&authority, |tls| tls.pinned_certs = vec!["abc".to_owned()]),
            "\"abc\" is not the SHA-256",
        ),
        (
            check(&authority, |tls| tls.certs = vec![other.clone()]),
            "cannot be combined",
        ),
        (
            check(&authority, |tls| {
                tls.cipher_suites = vec!["TLS_NULL".to_owned()]
            }),
            "TLS_CHACHA20_POLY1305_SHA256",
        ),
    ];
    for (problems, expected) in cases {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let texts = texts.join("; ");
        assert!(texts.contains(expected), "{texts:?} lacks {expected:?}");
        assert!(
            problems.iter().any(|problem| !problem.is_warning()),
            "{texts}"
        );
    }
}

#[tokio::test]
async fn a_certificate_at_its_end_is_a_warning_and_a_wrong_one_stops_the_start() {
    let authority = Authority::new();
    let files = authority.pair_with("server", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let tls = Tls {
        cert_file: Some(files.cert_file),
        key_file: Some(files.key_file),
        ..Tls::default()
    };
    let found = problems(&tls);
    assert!(
        matches!(found[..], [TlsProblem::Expired { days, .. }] if days > 1000),
        "{found:?}"
    );
    assert!(found[0].is_warning());
    let start = |tls| {
        Server::start(natterjack_server::Options {
            tls: Some(tls),
            ..options()
        })
    };
    start(tls.clone()).await.expect("it starts all the same");
    let error = start(Tls {
        key_file: None,
        ..tls
    })
    .await
    .expect_err("no key");
    assert!(matches!(error, StartError::Tls(_)), "{error}");
}
