//! Who waits for whom. Lines are stopped on purpose, so that no test depends on how fast anybody is.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::thread;

use hyper::rt::Write as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use testkit::{Authority, Deadline, HttpAnswer};
use tokio::io::AsyncReadExt as _;
use tokio::task::spawn_blocking;

use super::*;
use crate::monitoring::places::{HANDSHAKES_MAX, METRICS_MAX, PAGES_MAX, Places};
use crate::{Endpoint, Options, Server, Tls};

/// The longest any wait may take before it counts as failed.
const LONG: Duration = Duration::from_secs(60);

/// `s3cret` as another implementation hashes it.
const HASH: &str = "$2a$04$BmSaDe1cdKljxg0nnPDwaunlfgNA2wGdlA9qCctDVN.f82Cq6au1m";

fn options() -> Options {
    let mut options = Options {
        host: "127.0.0.1".to_owned(),
        port: 0,
        ..Options::default()
    };
    options.monitoring.http = anywhere();
    options
}

fn anywhere() -> Option<Endpoint> {
    Some(Endpoint {
        host: "127.0.0.1".to_owned(),
        port: 0,
    })
}

async fn start(options: Options) -> (Server, SocketAddr) {
    let server = Server::start(options).await.expect("it starts");
    let address = server.monitoring_addr().expect("it was asked for");
    (server, address)
}

/// A socket on which something was asked.
fn asking(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connected");
    // It may have had to make room already.
    let _ = stream.write_all(request.as_bytes());
    stream
}

fn request(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
}

fn is_answered(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    match stream.read(&mut [0; 64]) {
        Ok(count) => count > 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// What has been answered by now, if it is closed or answered.
fn told_at_once(mut stream: &TcpStream) -> Option<String> {
    stream.set_nonblocking(true).expect("a socket");
    let mut status = [0; 12];
    match stream.read(&mut status) {
        Ok(count) => Some(String::from_utf8_lossy(&status[..count]).into_owned()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => Some(error.to_string()),
    }
}

/// What is answered in the end.
fn told(mut stream: &TcpStream) -> String {
    stream.set_nonblocking(false).expect("a socket");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Waits until so many turns are left in a line.
fn wait_for_turns(server: &Server, line: Line, left: usize) {
    let deadline = Deadline::after(LONG);
    while server.shared.monitor.places.turns_left(line) > left {
        assert!(deadline.left().is_some(), "they do not come");
        thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_is_answered_while_readers_flood() {
    let (server, address) = start(options()).await;
    let monitor = &Arc::clone(&server.shared).monitor;
    let held = monitor.paces.pages.hold().await;
    let (server, readers) = spawn_blocking(move || {
        let readers: Vec<_> = (0..2 * CONNECTIONS_MAX)
            .map(|_| asking(address, &request("/varz", "")))
            .collect();
        wait_for_turns(&server, Line::Pages, 0);
        for _ in 0..2 * CONNECTIONS_MAX {
            let answer = HttpAnswer::get(address, "/healthz");
            assert_eq!(answer.body, "{\"status\":\"ok\"}");
        }
        let told: Vec<_> = readers.iter().filter_map(told_at_once).collect();
        assert!(told.iter().all(|told| *told == "HTTP/1.1 503"), "{told:?}");
        (server, readers)
    })
    .await
    .expect("no panic");
    drop(held);
    spawn_blocking(move || {
        // Those whose turn it was have kept their places.
        let is_answer = |mut reader: &TcpStream| {
            let mut status = [0; 12];
            reader.set_nonblocking(false).expect("a socket");
            reader.set_read_timeout(Some(LONG)).expect("a timeout");
            reader.read_exact(&mut status).is_ok() && status == *b"HTTP/1.1 200"
        };
        let answered = readers.iter().filter(|reader| is_answer(reader)).count();
        assert!(answered >= PAGES_MAX, "only {answered}");
        drop(server);
    })
    .await
    .expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_do_not_wait_for_strangers() {
    let mut options = options();
    options.monitoring.token = Some(HASH.into());
    let (server, address) = start(options).await;
    let monitor = &Arc::clone(&server.shared).monitor;
    let known =
        move |path: &str| HttpAnswer::to(address, &request(path, "s3cret").replace("1.1", "1.0"));
    spawn_blocking(move || assert_eq!(known("/varz").status, 200))
        .await
        .expect("no panic");
    let held = (
        monitor.paces.token_checks.hold().await,
        monitor.paces.handshakes.hold().await,
    );
    spawn_blocking(move || {
        let strangers: Vec<_> = (0..64)
            .map(|at| asking(address, &request("/varz", &format!("wrong-{at}"))))
            .collect();
        // All but those whose token waits to be compared are sent away.
        let deadline = Deadline::after(LONG);
        let mut waiting: Vec<_> = strangers.iter().collect();
        while waiting.len() > 4 {
            waiting.retain(|stranger| !is_answered(stranger));
            assert!(deadline.left().is_some(), "{} wait", waiting.len());
            thread::yield_now();
        }
        for path in ["/varz", "/healthz", "/connz", "/metrics", "/"] {
            assert_eq!(known(path).status, 200, "{path}");
        }
        let refused = HttpAnswer::to(address, &request("/varz", "wrong").replace("1.1", "1.0"));
        assert_eq!(refused.status, 503, "{refused:?}");
        waiting.retain(|stranger| !is_answered(stranger));
        assert_eq!(waiting.len(), 4);
    })
    .await
    .expect("no panic");
    drop(held);
    // Nor for those who show none, however many.
    let held = monitor.paces.refusals.hold().await;
    let shared = Arc::clone(&server.shared);
    spawn_blocking(move || {
        // Once those have gone: for a place, whoever waits is told at once.
        let deadline = Deadline::after(LONG);
        while shared.monitor.places.free() < CONNECTIONS_MAX - 4 {
            assert!(deadline.left().is_some(), "they stay");
            thread::yield_now();
        }
        let strangers: Vec<_> = (0..CONNECTIONS_MAX / 2)
            .map(|_| asking(address, "GET /varz HTTP/1.0\r\n\r\n"))
            .collect();
        assert_eq!(known("/varz").status, 200);
        assert!(!strangers.iter().any(is_answered));
        // If there are more, the first of them are told at once.
        let more: Vec<_> = (0..2 * CONNECTIONS_MAX)
            .map(|_| asking(address, "GET /varz HTTP/1.0\r\n\r\n"))
            .collect();
        assert_eq!(known("/varz").status, 200);
        for stranger in &strangers {
            let answer = told(stranger);
            assert!(answer.starts_with("HTTP/1.0 401 "), "{answer}");
        }
        assert!(!more.last().is_some_and(is_answered));
    })
    .await
    .expect("no panic");
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_that_flood_leave_places_and_are_answered() {
    let (server, address) = start(options()).await;
    let monitor = &Arc::clone(&server.shared).monitor;
    let held = monitor.paces.health.hold().await;
    spawn_blocking(move || {
        let probes: Vec<_> = (0..2 * CONNECTIONS_MAX)
            .map(|_| asking(address, "GET /healthz HTTP/1.0\r\n\r\n"))
            .collect();
        assert_eq!(HttpAnswer::get(address, "/varz").status, 200);
        for probe in &probes[..CONNECTIONS_MAX / 2] {
            let answer = told(probe);
            assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        }
        // Whoever comes when they are gone does not wait for what they took.
        assert!(server.shared.monitor.paces.health.is_paid());
        drop((probes, server));
    })
    .await
    .expect("no panic");
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_do_not_wait_for_pages() {
    let (server, address) = start(options()).await;
    let client = server.in_process_client().expect("a client");
    let mut subscriptions = Vec::new();
    // So many that pages are long.
    for number in 0..1000 {
        let subject = format!("subject.{number}");
        subscriptions.push(client.subscribe(subject).await.expect("subscribed"));
    }
    client.flush().await.expect("a round trip");
    let monitor = &Arc::clone(&server.shared).monitor;
    let held = (
        monitor.paces.pages.hold().await,
        monitor.long_pages.turns.acquire_many(2).await,
    );
    spawn_blocking(move || {
        let readers: Vec<_> = (0..2 * CONNECTIONS_MAX)
            .map(|_| asking(address, &request("/connz", "")))
            .collect();
        wait_for_turns(&server, Line::Pages, 0);
        for _ in 0..2 * METRICS_MAX {
            assert_eq!(HttpAnswer::get(address, "/metrics").status, 200);
        }
        drop((readers, subscriptions, client, server));
    })
    .await
    .expect("no panic");
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_in_clear_text_does_not_wait_for_handshakes() {
    let (_authority, options) = encrypted();
    let (server, clear) = start(options).await;
    let encrypted = server.monitoring_tls_addr().expect("it was asked for");
    let monitor = &Arc::clone(&server.shared).monitor;
    let held = monitor.paces.handshakes.hold().await;
    spawn_blocking(move || {
        let mut probe = asking(clear, "GET /healthz HTTP/1.0\r\n");
        let silent = asking(clear, "");
        let strangers: Vec<_> = (0..2 * CONNECTIONS_MAX)
            .map(|_| asking(encrypted, "not a handshake, which takes as long to see"))
            .collect();
        wait_for_turns(&server, Line::Handshakes, 0);
        for path in ["/varz", "/healthz", "/metrics"] {
            assert_eq!(HttpAnswer::get(clear, path).status, 200, "{path}");
        }
        // However many came since, and are closed.
        let deadline = Deadline::after(LONG);
        let mut left: Vec<_> = strangers.iter().collect();
        while left.len() > CONNECTIONS_MAX {
            left.retain(|one| told_at_once(one).is_none());
            assert!(deadline.left().is_some(), "they stay");
            thread::yield_now();
        }
        assert_eq!(told_at_once(&silent), None);
        probe.write_all(b"\r\n").expect("it is there");
        assert!(told(&probe).starts_with("HTTP/1.0 200 "));
        drop((strangers, server));
    })
    .await
    .expect("no panic");
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_to_leave_is_told() {
    let (server, address) = start(options()).await;
    let monitor = &Arc::clone(&server.shared).monitor;
    let held = monitor.paces.pages.hold().await;
    spawn_blocking(move || {
        let begun = asking(address, "GET /varz HTT");
        let silent = asking(address, "");
        let mut idle = asking(address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let mut byte = [0];
            idle.read_exact(&mut byte).expect("an answer");
            answer.extend(byte);
        }
        let readers: Vec<_> = (0..2 * CONNECTIONS_MAX)
            .map(|_| asking(address, &request("/varz", "")))
            .collect();
        for stream in [&begun, &silent] {
            let answer = told(stream);
            let head = "HTTP/1.1 503 Service Unavailable\r\n";
            assert!(
                answer.starts_with(head) && answer.ends_with(TURNED_AWAY),
                "{answer}"
            );
        }
        // What it would be told would be no answer.
        assert_eq!(told(&idle), "");
        // All but those that are served, or are next.
        let deadline = Deadline::after(LONG);
        let mut waiting: Vec<_> = readers.iter().collect();
        while waiting.len() > CONNECTIONS_MAX {
            waiting.retain(|reader| match told_at_once(reader) {
                Some(told) => {
                    assert_eq!(told, "HTTP/1.1 503");
                    false
                }
                None => true,
            });
            assert!(deadline.left().is_some(), "{} wait", waiting.len());
            thread::yield_now();
        }
        drop((readers, server));
    })
    .await
    .expect("no panic");
    drop(held);
}

/// A server's options whose pages are encrypted as well.
fn encrypted() -> (Authority, Options) {
    let authority = Authority::new();
    let pair = authority.pair("server", &["localhost"]);
    let mut options = options();
    options.tls = Some(Tls {
        cert_file: Some(pair.certificate),
        key_file: Some(pair.key),
        ..Tls::default()
    });
    options.monitoring.https = anywhere();
    (authority, options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_the_server_is_not_sent_away_for_being_late() {
    let (authority, options) = encrypted();
    let (server, clear) = start(options).await;
    let encrypted = server.monitoring_tls_addr().expect("it was asked for");
    let monitor = &Arc::clone(&server.shared).monitor;
    let held = monitor.paces.handshakes.hold().await;
    let (tell, told) = channel();
    let reader = spawn_blocking(move || {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM");
        roots.add(root).expect("an authority");
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut stream = TcpStream::connect(encrypted).expect("connected");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        connection.write_tls(&mut stream).expect("sent");
        tell.send(()).expect("somebody waits");
        let mut stream = StreamOwned::new(connection, stream);
        stream
            .write_all(b"GET /varz HTTP/1.0\r\n\r\n")
            .expect("it is let in");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    });
    let crowd = spawn_blocking(move || {
        told.recv_timeout(LONG).expect("the reader has begun");
        wait_for_turns(&server, Line::Handshakes, HANDSHAKES_MAX - 1);
        let crowd: Vec<_> = (0..2 * CONNECTIONS_MAX)
            .map(|_| asking(clear, "GET"))
            .collect();
        // Comes after them all, so that they have come.
        assert_eq!(HttpAnswer::get(clear, "/healthz").status, 200);
        (server, crowd)
    })
    .await
    .expect("no panic");
    drop(held);
    let answer = reader.await.expect("no panic");
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    drop(crowd);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_leaves_room_to_others() {
    const SUBSCRIPTIONS: usize = 40_000;
    let (server, address) = start(options()).await;
    let client = server.in_process_client().expect("a client");
    let mut subscriptions = Vec::new();
    for number in 0..SUBSCRIPTIONS {
        let subject = format!("a.subject.of.some.length.so.that.the.page.is.long.{number}");
        subscriptions.push(client.subscribe(subject).await.expect("subscribed"));
    }
    client.flush().await.expect("a round trip");
    let path = "/subsz?subs=1&limit=100000";
    let page = spawn_blocking(move || HttpAnswer::get(address, path).body.len());
    let page = page.await.expect("no panic");
    assert!(page > 7_000_000, "{page}");
    // There is room for one more, and that is taken byte by byte.
    let monitor = &Arc::clone(&server.shared).monitor;
    let others = Bytes::from(vec![0; (64 << 20) - page * 3 / 2]);
    let others = monitor.long_pages.room.take(others, &monitor.places).await;
    let mut slow = asking(address, &request(path, ""));
    slow.read_exact(&mut [0; 64]).expect("an answer has begun");
    assert!(
        monitor.long_pages.room.free_bytes() < page,
        "an answer that was not read takes room"
    );
    let is_over = Arc::new(AtomicBool::new(false));
    let slow = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            while !is_over.load(Ordering::Relaxed) && matches!(slow.read(&mut [0]), Ok(1)) {
                thread::park_timeout(Duration::from_millis(1));
            }
        }
    });
    let answer = spawn_blocking(move || HttpAnswer::get(address, path));
    let answer = answer.await.expect("no panic");
    assert_eq!(
        (answer.status, answer.body.len() / 1000),
        (200, page / 1000)
    );
    is_over.store(true, Ordering::Relaxed);
    slow.join().expect("no panic");
    drop((subscriptions, client, server, others));
}

#[tokio::test]
async fn an_answer_is_not_sent_for_ever() {
    let place = Arc::new(Places::new()).take().await.expect("open");
    let (near, mut far) = tokio::io::duplex(1);
    let patience = Patience {
        answer: Duration::from_millis(50),
        ..PATIENCE
    };
    let mut stream = Patient::new(near, Arc::new(place), Arc::default(), patience);
    let reading = tokio::spawn(async move {
        let mut count = 0_usize;
        while far.read_u8().await.is_ok() {
            count += 1;
            tokio::task::yield_now().await;
        }
        count
    });
    // There is progress all the time, and no end.
    let failed = loop {
        let written = poll_fn(|context| Pin::new(&mut stream).poll_write(context, b"x")).await;
        if let Err(error) = written {
            break error;
        }
    };
    assert_eq!(failed.kind(), ErrorKind::TimedOut);
    drop(stream);
    assert!(reading.await.expect("no panic") > 0);
}
