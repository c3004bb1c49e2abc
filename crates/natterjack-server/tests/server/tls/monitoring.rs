//! The monitoring pages with TLS, and what they tell of clients with TLS.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use natterjack_server::{Endpoint, Monitoring, Options, Server, Tls};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use super::authority::Authority;
use super::client::{Setup, VERSIONS, tcp};
use crate::support::{beside, options};

/// A server whose clients must show a certificate, and where its pages are.
async fn server(authority: &Authority) -> (Server, SocketAddr) {
    with(authority, |_| {}).await
}

async fn with(authority: &Authority, change: impl FnOnce(&mut Tls)) -> (Server, SocketAddr) {
    let pair = authority.pair("server");
    let mut tls = Tls {
        cert_file: Some(pair.cert_file),
        key_file: Some(pair.key_file),
        ca_files: vec![authority.ca_file()],
        verify: true,
        ..Tls::default()
    };
    change(&mut tls);
    let server = Server::start(Options {
        tls: Some(tls),
        monitoring: Monitoring {
            https: Some(Endpoint {
                host: "127.0.0.1".to_owned(),
                port: 0,
            }),
            ..Monitoring::default()
        },
        ..options()
    })
    .await
    .expect("a server with TLS");
    assert_eq!(server.monitoring_addr(), None);
    let address = server.monitoring_tls_addr().expect("it was asked for");
    (server, address)
}

/// The JSON of a page.
fn get(setup: &Setup, address: SocketAddr, path: &str) -> Value {
    let text = try_get(setup, address, path).expect("an answer, and its end");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    serde_json::from_str(body).expect("JSON")
}

fn try_get(setup: &Setup, address: SocketAddr, path: &str) -> io::Result<String> {
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::clone(&setup.config), name).expect("a client");
    let mut stream = StreamOwned::new(connection, tcp(address));
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_pages_must_show_a_certificate_if_that_is_wanted() {
    let authority = Authority::new();
    let stranger = Authority::new();
    // Clients need none.
    let only_monitoring = |tls: &mut Tls| {
        tls.verify = false;
        tls.verify_monitoring = true;
    };
    let (server, pages) = with(&authority, only_monitoring).await;
    let clients = server.client_addr();
    beside(move || {
        let without = Setup::new(&authority);
        let _client = without.connect(clients).expect("connected");
        try_get(&without, pages, "/varz").expect_err("a certificate is needed");
        let pair = stranger.pair("client");
        let wrong = Setup::with(&authority, Some(&pair), VERSIONS);
        try_get(&wrong, pages, "/varz").expect_err("of an authority that is known");
        let pair = authority.pair("client");
        let with = Setup::with(&authority, Some(&pair), VERSIONS);
        // Twice: there are no tickets by which a certificate would not be looked at again.
        for _ in 0..2 {
            assert_eq!(get(&with, pages, "/varz")["tls_required"], true);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_served_with_tls_and_without_asking_for_a_certificate() {
    let authority = Authority::new();
    let (server, pages) = server(&authority).await;
    let clients = server.client_addr();
    beside(move || {
        let pair = authority.pair("client");
        let with = Setup::with(&authority, Some(&pair), VERSIONS);
        let _client = with.connect(clients).expect("connected");

        let without = Setup::new(&authority);
        let varz = get(&without, pages, "/varz");
        assert_eq!(varz["tls_required"], true);
        assert_eq!(varz["tls_verify"], true);
        assert_eq!(varz["tls_timeout"], 2);
        assert_eq!(varz["https_port"], -1);
        let end = varz["tls_cert_not_after"].as_str().unwrap_or_default();
        assert!(end.ends_with('Z'), "{varz}");

        let connection = &get(&without, pages, "/connz?auth=1")["connections"][0];
        assert_eq!(connection["tls_version"], "1.3");
        let suite = connection["tls_cipher_suite"].as_str().unwrap_or_default();
        assert!(suite.starts_with("TLS_"), "{connection}");
        let certificate = &connection["tls_peer_certs"][0];
        assert_eq!(certificate["subject"], "CN=client");
        for field in ["spki_sha256", "cert_sha256"] {
            let text = certificate[field].as_str().unwrap_or_default();
            assert_eq!(text.len(), 64, "{certificate}");
        }
        let connection = &get(&without, pages, "/connz")["connections"][0];
        assert!(connection.get("tls_peer_certs").is_none(), "{connection}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clear_text_is_not_answered_where_tls_is_spoken() {
    let authority = Authority::new();
    let (_server, pages) = server(&authority).await;
    let answer = beside(move || {
        let mut stream = tcp(pages);
        stream
            .write_all(b"GET /varz HTTP/1.0\r\n\r\n")
            .expect("sent");
        let mut answer = Vec::new();
        // Closed, maybe after an alert; the rest of the request may also reset it.
        let _ = stream.read_to_end(&mut answer);
        answer
    })
    .await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}
