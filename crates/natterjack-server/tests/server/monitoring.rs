//! The monitoring pages over HTTP and through the API: what HTTP itself does, bounds, pages of many. That each field
//! is nats-server's is tested beside it, in `interop`.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use natterjack_server::monitoring::{
    ConnectionState, ConnzError, ConnzOptions, ConnzSort, Exposition, MetricKind, MonitoringSource,
    Subscriptions, SubszOptions,
};
use natterjack_server::{Endpoint, Monitoring, Options, Server, StartError};
use serde_json::Value;
use testkit::{Deadline, HttpAnswer, Peer};

use crate::support::{PATIENCE, beside, options, quiet_peer, until};

fn monitored() -> Options {
    Options {
        monitoring: Monitoring {
            http: Some(Endpoint {
                host: "127.0.0.1".to_owned(),
                port: 0,
            }),
            ..Monitoring::default()
        },
        ..options()
    }
}

async fn start_with(options: Options) -> (Server, SocketAddr) {
    let server = Server::start(options)
        .await
        .expect("a server on free ports");
    let address = server.monitoring_addr().expect("monitoring was asked for");
    (server, address)
}

/// A request, beside the server.
async fn get(address: SocketAddr, path: &'static str) -> HttpAnswer {
    beside(move || HttpAnswer::get(address, path)).await
}

async fn json(address: SocketAddr, path: &'static str) -> Value {
    let answer = get(address, path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

#[tokio::test]
async fn pages_are_json_for_any_origin() {
    let (_server, address) = start_with(monitored()).await;
    for path in [
        "/varz",
        "/connz",
        "/routez",
        "/subsz",
        "/subscriptionsz",
        "/accountz",
        "/healthz",
    ] {
        let answer = get(address, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        assert!(answer.json().is_object(), "{path}");
    }
    assert_eq!(get(address, "/healthz").await.body, "{\"status\":\"ok\"}");
    let root = get(address, "/").await;
    assert_eq!(root.header("content-type"), "text/html; charset=utf-8");
    assert!(root.body.contains("href=\"./varz\""), "{}", root.body);
    let counts = &json(address, "/varz").await["http_req_stats"];
    let expected = serde_json::json!({
        "/": 1, "/varz": 2, "/connz": 1, "/routez": 1, "/subsz": 2, "/accountz": 1, "/healthz": 2,
    });
    assert_eq!(*counts, expected);
    // Which of them count that are wrong is nats-server's choice.
    for (path, is_counted) in [
        ("/connz?subs=x", false),
        ("/connz?limit=x", false),
        ("/connz?state=x", false),
        ("/connz?sort=x", true),
        ("/routez?subs=x", false),
        ("/subsz?limit=x", true),
        ("/leafz?subs=x", true),
        ("/gatewayz?subs=x", true),
        ("/jsz?limit=x", true),
    ] {
        let name = path.split('?').next().expect("a path");
        let count = async || json(address, "/varz").await["http_req_stats"][name].as_u64();
        let before = count().await.unwrap_or_default();
        assert_eq!(get(address, path).await.status, 400, "{path}");
        let after = count().await.unwrap_or_default();
        assert_eq!(after - before, u64::from(is_counted), "{path}");
    }
}

#[tokio::test]
async fn the_live_page_is_whole_and_shows_names_as_text() {
    let mut options = monitored();
    options.server_name = Some("<script>alert(1)</script>{{script}}".to_owned());
    let (_server, address) = start_with(options).await;
    let root = get(address, "/").await;
    let policy = root.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(root.header("x-content-type-options"), "nosniff");
    assert_eq!(root.body.matches("<script>").count(), 1, "only its own");
    let name = "&lt;script&gt;alert(1)&lt;/script&gt;{{script}}";
    assert!(root.body.contains(name), "{}", root.body);
    assert!(root.body.trim_end().ends_with("</html>"));
}

/// Something else in the process.
struct Kettle;

impl MonitoringSource for Kettle {
    fn write_metrics(&self, exposition: &mut Exposition) {
        exposition.single(
            "kettle_celsius",
            MetricKind::Gauge,
            "Warm.",
            &[("of", "a\"b")],
            93,
        );
    }

    fn page_name(&self) -> Option<&'static str> {
        Some("kettlez")
    }

    fn page(&self) -> Value {
        serde_json::json!({ "celsius": 93 })
    }
}

#[tokio::test]
async fn metrics_are_told_in_the_format_that_is_asked_for() {
    let (server, address) = start_with(monitored()).await;
    server.add_monitoring(Arc::new(Kettle));
    let clients = server.client_addr();
    beside(move || {
        let connect = serde_json::json!({ "verbose": false, "pedantic": false });
        let mut peer = Peer::introduced(clients, &connect);
        peer.send("SUB a 1\r\nPUB a 2\r\nhi\r\n");
        peer.expect("MSG a 1 2\r\nhi\r\n");
        peer.ping_pong();
        let plain = HttpAnswer::get(address, "/metrics");
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(plain.header("content-type"), kind);
        let open = HttpAnswer::to(
            address,
            "GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n",
        );
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(open.header("content-type"), kind);
        assert!(open.body.ends_with("\n# EOF\n"), "{}", open.body);
        for text in [&plain.body, &open.body] {
            for sample in [
                "kettle_celsius{of=\"a\\\"b\"} 93",
                "natterjack_messages_dropped_total{reason=\"subscriber_behind\"} 0",
                "natterjack_messages_dropped_total{reason=\"permission\"} 0",
                "natterjack_messages_refused_total{reason=\"permission\"} 0",
                "natterjack_messages_refused_total{reason=\"max_payload\"} 0",
                "natterjack_no_responders_total 0",
                "natterjack_slow_consumers_total{limit=\"max_pending\",kind=\"client\"} 0",
                "natterjack_slow_consumers_total{limit=\"write_deadline\",kind=\"route\"} 0",
                "natterjack_pending_bytes{kind=\"client\"} 0",
            ] {
                assert!(text.lines().any(|line| line == sample), "{sample}: {text}");
            }
            assert_eq!(metric(text, "gnatsd_varz_in_msgs"), 1.0);
            assert_eq!(metric(text, "gnatsd_varz_connections"), 1.0);
            assert_eq!(metric(text, "gnatsd_connz_subscriptions"), 1.0);
            assert_eq!(metric(text, "gnatsd_healthz_status_value"), 1.0);
            no_family_twice(text);
        }
        let page = HttpAnswer::get(address, "/kettlez");
        assert_eq!(page.json(), serde_json::json!({ "celsius": 93 }));
        let live = HttpAnswer::get(address, "/").body;
        assert!(live.contains("data-extra=\"kettlez\""), "{live}");
        drop(peer);
    })
    .await;
}

/// The value of the first sample of that name.
fn metric(text: &str, name: &str) -> f64 {
    let mut lines = text.lines();
    let sample = lines.find(|line| line.starts_with(name) && line[name.len()..].starts_with('{'));
    let sample = sample.unwrap_or_else(|| panic!("no {name}: {text}"));
    let (_, value) = sample.rsplit_once(' ').expect("a value");
    value.parse().expect("a number")
}

fn no_family_twice(text: &str) {
    let mut types: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("# TYPE "))
        .collect();
    let all = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), all, "{text}");
}

#[tokio::test]
async fn a_base_path_is_before_all_paths() {
    let mut options = monitored();
    options.monitoring.base_path = "nats/a/".to_owned();
    let (_server, address) = start_with(options).await;
    for (path, status) in [
        ("/nats/a", 200),
        ("/nats/a/", 404),
        ("/nats/a/varz", 200),
        ("/nats/avarz", 404),
        ("/varz", 404),
        ("/", 404),
    ] {
        assert_eq!(get(address, path).await.status, status, "{path}");
    }
    let root = get(address, "/nats/a").await.body;
    assert!(root.contains("href=\"./a/varz\""), "{root}");
    let varz = json(address, "/nats/a/varz").await;
    assert_eq!(varz["http_base_path"], "nats/a/");
}

#[tokio::test]
async fn every_method_is_get_and_bodies_are_ignored() {
    let (_server, address) = start_with(monitored()).await;
    let send = |request: &'static str| beside(move || HttpAnswer::to(address, request));
    let head = send("HEAD /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!((head.status, head.header("content-length")), (200, "15"));
    assert_eq!(head.body, "");
    let post = send("POST /connz?limit=3 HTTP/1.0\r\nContent-Length: 7\r\n\r\nlimit=4").await;
    assert_eq!(post.json()["limit"], 3);
    // Without its body, and with one that never ends.
    let endless = send(
        "PUT /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9999999\r\n\r\n",
    );
    assert_eq!(endless.await.body, "{\"status\":\"ok\"}");
}

#[tokio::test]
async fn connections_are_kept_and_requests_may_be_sent_ahead() {
    let (_server, address) = start_with(monitored()).await;
    let text = beside(move || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        let last = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let requests = format!("{request}{request}{last}");
        stream.write_all(requests.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("three answers");
        text
    })
    .await;
    assert_eq!(text.matches("{\"status\":\"ok\"}").count(), 3, "{text}");
    assert!(
        text.contains("Access-Control-Allow-Origin: *\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let (_server, address) = start_with(monitored()).await;
    let send = |request: String| beside(move || HttpAnswer::to(address, &request));
    assert_eq!(send("junk\r\n\r\n".to_owned()).await.status, 400);
    assert_eq!(
        send("GET /varz HTTP/1.1\r\n\r\n".to_owned()).await.status,
        400
    );
    let long = format!("GET /varz HTTP/1.0\r\nX: {}\r\n\r\n", "x".repeat(30_000));
    assert_eq!(send(long).await.status, 200);
    let too_long = format!("GET /varz HTTP/1.0\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(send(too_long).await.status, 431);
    let too_many = format!("GET /varz HTTP/1.0\r\n{}\r\n", "X: x\r\n".repeat(200));
    assert_eq!(send(too_many).await.status, 431);
}

#[tokio::test]
async fn who_does_not_finish_a_request_is_dropped() {
    let (_server, address) = start_with(monitored()).await;
    beside(move || {
        let waiting = ["", "GET /varz HTT"].map(|start| {
            let mut stream = TcpStream::connect(address).expect("connected");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.write_all(start.as_bytes()).expect("sent");
            stream
        });
        // The time is five seconds; the test only waits for its end.
        for mut stream in waiting {
            match stream.read(&mut [0; 100]) {
                Ok(0) => {}
                Ok(count) => panic!("{count} bytes for no request"),
                Err(error) => assert_ne!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_take_an_answer_is_dropped() {
    const PAGES: usize = 300;
    let (server, address) = start_with(monitored()).await;
    // Some 80 KB on each page, together more than sockets hold.
    let connections: Vec<_> = (0..200)
        .map(|_| server.in_process_connection().expect("it runs"))
        .collect();
    until("all are there", || {
        server.connections() == connections.len()
    })
    .await;
    beside(move || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let request = "GET /connz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(PAGES);
        stream.write_all(request.as_bytes()).expect("sent");
        // Once the server has given up, what it gets is answered with a reset.
        let deadline = Deadline::after(PATIENCE);
        while stream.write_all(b"\n").is_ok() {
            assert!(deadline.left().is_some(), "it still waits");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    })
    .await;
    drop(connections);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dawdles_keeps_nobody_out() {
    const COMING: usize = 20;
    let (_server, address) = start_with(monitored()).await;
    beside(move || {
        let held: Vec<TcpStream> = (0..128)
            .map(|_| {
                let mut stream = TcpStream::connect(address).expect("connected");
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                stream
                    .write_all(b"GET /healthz HTTP/1.1\r\n")
                    .expect("sent");
                stream
            })
            .collect();
        // They would be waited for five seconds each, several times as long as all of this may take.
        for _ in 0..COMING {
            let answer = HttpAnswer::get(address, "/healthz");
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        // Of the many, most have kept their places. They are told to go.
        let answered = held.into_iter().filter_map(|mut stream| {
            let mut text = String::new();
            stream.write_all(b"Host: x\r\n\r\n").ok()?;
            stream.read_to_string(&mut text).ok()?;
            (!text.is_empty()).then_some(text)
        });
        let answered: Vec<String> = answered.take(COMING).collect();
        assert_eq!(answered.len(), COMING, "nobody kept the place");
        let first = &answered[0];
        assert!(first.contains("Connection: close\r\n"), "{first}");
    })
    .await;
}

#[tokio::test]
async fn a_monitoring_address_in_use_is_named() {
    let (_server, address) = start_with(monitored()).await;
    let mut options = monitored();
    options.monitoring.http = Some(Endpoint {
        host: "127.0.0.1".to_owned(),
        port: address.port(),
    });
    let error = Server::start(options).await.expect_err("the port is taken");
    assert!(matches!(error, StartError::BindMonitoring { .. }));
    let expected = format!("cannot listen for monitoring on {address}: ");
    assert!(error.to_string().starts_with(&expected), "{error}");
}

/// `s3cret` as another implementation hashes it.
const HASH: &str = "$2a$04$BmSaDe1cdKljxg0nnPDwaunlfgNA2wGdlA9qCctDVN.f82Cq6au1m";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_pages_must_know_the_token_if_there_is_one() {
    let with = |token: &str| {
        let mut options = monitored();
        options.monitoring.token = Some(token.into());
        options
    };
    let (server, address) = start_with(with("s3cret")).await;
    let ask = |path: &'static str, header: &'static str| {
        beside(move || {
            let header = match header {
                "" => String::new(),
                header => format!("Authorization: {header}\r\n"),
            };
            HttpAnswer::to(address, &format!("GET {path} HTTP/1.0\r\n{header}\r\n"))
        })
    };
    for token in ["s3cret", HASH] {
        server.reload(with(token)).await.expect("it can change");
        for path in ["/", "/varz", "/healthz", "/metrics", "/nowhere"] {
            for header in [
                "",
                "Bearer s3cre",
                "Bearer ",
                "Bearer s3cret2",
                "Basic czNjcmV0",
                "Basic czNjcmV0Og==",
                "s3cret",
            ] {
                let answer = ask(path, header).await;
                assert_eq!(answer.status, 401, "{path} {header}");
                assert_eq!(answer.body, "401 Unauthorized");
                let challenge = answer.header("www-authenticate");
                assert!(challenge.starts_with("Bearer "), "{answer:?}");
            }
        }
        // As a bearer token, twice, and with the name `x`.
        for header in ["Bearer s3cret", "bearer s3cret", "Basic eDpzM2NyZXQ="] {
            let answer = ask("/varz", header).await;
            assert_eq!(answer.status, 200, "{header}");
            assert!(!answer.body.contains("s3cret") && !answer.body.contains(HASH));
        }
    }
    server.reload(monitored()).await.expect("it can change");
    assert_eq!(ask("/varz", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lame_duck_mode_can_be_watched_and_shutdown_frees_the_address() {
    let (server, address) = start_with(Options {
        lame_duck_duration: Duration::from_secs(600),
        lame_duck_grace_period: Duration::from_secs(300),
        ..monitored()
    })
    .await;
    let _peer = quiet_peer(&server);
    let server = Arc::new(server);
    let leaving = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.lame_duck().await }
    });
    until("it is a lame duck", || server.healthz().status != "ok").await;
    let health = get(address, "/healthz").await;
    assert_eq!(health.status, 500);
    assert_eq!(
        health.body,
        "{\"status\":\"error\",\"error\":\"failed to be ready for connections after 1ms: server\"}"
    );
    assert_eq!(json(address, "/varz").await["connections"], 1);
    server.shutdown().await;
    leaving.await.expect("no panic in lame duck mode");
    let mut again = monitored();
    again.monitoring.http = Some(Endpoint {
        host: "127.0.0.1".to_owned(),
        port: address.port(),
    });
    start_with(again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_many_connections_and_subscriptions() {
    const PEERS: usize = 400;
    let (server, address) = start_with(monitored()).await;
    let client = server.client_addr();
    let peers: Vec<Peer> = beside(move || {
        (0..PEERS)
            .map(|number| {
                let connect =
                    serde_json::json!({"verbose": false, "name": format!("peer-{number}")});
                let mut peer = Peer::introduced(client, &connect);
                for sid in 0..number % 3 {
                    peer.send(format!("SUB many.{number}.{sid} {sid}\r\n"));
                }
                peer.ping_pong();
                peer
            })
            .collect()
    })
    .await;

    let page = json(address, "/connz?subs=1&offset=390&limit=7").await;
    assert_eq!(
        (&page["total"], &page["num_connections"]),
        (&PEERS.into(), &7.into())
    );
    assert_eq!(page["connections"][0]["name"], "peer-390");
    assert_eq!(page["connections"][6]["name"], "peer-396");
    // 392 is 2 modulo 3.
    assert_eq!(
        page["connections"][2]["subscriptions_list"],
        serde_json::json!(["many.392.0", "many.392.1"])
    );
    assert!(page["connections"][0].get("subscriptions_list").is_none());
    let beyond = json(address, "/connz?offset=400").await;
    assert_eq!(beyond["connections"], serde_json::json!([]));

    let by_subscriptions = json(address, "/connz?sort=subs&limit=134").await;
    let counts: Vec<_> = by_subscriptions["connections"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|connection| connection["subscriptions"].as_u64())
        .collect();
    assert_eq!(counts[..133], vec![Some(2); 133]);
    assert_eq!(counts[133], Some(1));

    let subscriptions = json(address, "/subsz?acc=$G&subs=1&offset=395&limit=1000").await;
    assert_eq!(subscriptions["total"], 399);
    assert_eq!(
        subscriptions["subscriptions_list"].as_array().map(Vec::len),
        Some(4)
    );
    let test = server
        .subsz(&SubszOptions {
            subscriptions: true,
            test: Some("many.392.1".to_owned()),
            ..SubszOptions::default()
        })
        .expect("a literal subject");
    assert_eq!((test.total, test.subscriptions_list.len()), (1, 1));
    drop(peers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_is_there_without_http() {
    let (server, address) = start_with(monitored()).await;
    let client = server.in_process_client().expect("a client in the process");
    let _subscription = client.subscribe("a.>").await.expect("subscribed");
    client.publish("a.b", "12345").await.expect("published");
    client.flush().await.expect("a round trip");
    let connz = server
        .connz(&ConnzOptions {
            subscriptions: Subscriptions::Detail,
            auth: true,
            ..ConnzOptions::default()
        })
        .expect("no contradiction");
    let [connection] = &connz.connections[..] else {
        panic!("one connection: {connz:?}");
    };
    assert_eq!((connection.ip.as_str(), connection.port), ("", 0));
    assert_eq!((connection.in_msgs, connection.in_bytes), (1, 5));
    assert_eq!((connection.out_msgs, connection.out_bytes), (1, 5));
    assert_eq!(connection.name_tag, "$G");
    assert_eq!(connection.subscriptions_list_detail[0].subject, "a.>");
    assert_eq!(connection.subscriptions_list_detail[0].msgs, 1);

    let varz = serde_json::to_value(server.varz()).expect("JSON");
    let over_http = json(address, "/varz").await;
    for field in [
        "server_id",
        "start",
        "connections",
        "in_msgs",
        "subscriptions",
        "max_payload",
    ] {
        assert_eq!(varz[field], over_http[field], "{field}");
    }
    let options = ConnzOptions {
        sort: ConnzSort::Stop,
        state: ConnectionState::All,
        ..ConnzOptions::default()
    };
    assert_eq!(server.connz(&options), Err(ConnzError::StopOfOpen));
    let unknown = server
        .accountz(Some("nobody"))
        .expect_err("no such account");
    assert_eq!(unknown.to_string(), "Account nobody does not exist");
}

#[tokio::test]
async fn whatever_is_sent_is_answered_or_refused_and_hurts_nobody() {
    let (_server, address) = start_with(monitored()).await;
    let smuggled = "GET /nope HTTP/1.1\r\nHost: x\r\n\r\n";
    let both = format!(
        "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        smuggled.len() + 5
    );
    let twice = format!(
        "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    );
    let long_query = format!(
        "GET /connz?callback={}&limit=1 HTTP/1.0\r\n\r\n",
        "%3Cscript%3E".repeat(2000)
    );
    let many = format!("GET /connz?{} HTTP/1.0\r\n\r\n", "a=b&".repeat(7000));
    beside(move || {
        for (request, status) in [
            // What is no part of a body for one reader is a request for the next: nobody answers it.
            (both.as_str(), 200),
            (twice.as_str(), 400),
            ("GET /varz HTTP/1.1\r\nHost : x\r\n\r\n", 400),
            ("GET /varz HTTP/1.0\r\n X: folded\r\n\r\n", 400),
            ("GET /varz\0 HTTP/1.0\r\n\r\n", 400),
            ("GET /%zz HTTP/1.0\r\n\r\n", 400),
            ("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.0\r\n\r\n", 307),
            ("GET //evil.example/varz HTTP/1.0\r\n\r\n", 307),
            ("GET /varz%00 HTTP/1.0\r\n\r\n", 404),
            ("CONNECT evil.example:80 HTTP/1.0\r\n\r\n", 404),
            ("OPTIONS /healthz HTTP/1.0\r\n\r\n", 200),
            ("OPTIONS * HTTP/1.0\r\n\r\n", 307),
            (
                "GET http://evil.example/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                200,
            ),
            (long_query.as_str(), 200),
            (many.as_str(), 200),
            (
                "GET /connz?offset=9223372036854775807&limit=9223372036854775807 HTTP/1.0\r\n\r\n",
                200,
            ),
        ] {
            let answer = HttpAnswer::to(address, request);
            let shown = &request[..request.len().min(80)];
            assert_eq!(answer.status, status, "{shown}: {answer:?}");
            assert!(!answer.body.contains("<script>"), "{shown}");
            assert_eq!(answer.body.matches("HTTP/1.1 ").count(), 0, "{shown}");
            let location = answer.header("location");
            let is_elsewhere = location.starts_with("//") || location.contains("://");
            assert!(!is_elsewhere, "{shown}: {location}");
        }
        assert_eq!(HttpAnswer::get(address, "/healthz").status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_ended_are_remembered() {
    let (server, address) = start_with(monitored()).await;
    let mut peer = quiet_peer(&server);
    beside(move || peer.ping_pong()).await;
    let closed = ConnzOptions {
        state: ConnectionState::Closed,
        ..ConnzOptions::default()
    };
    until("it is closed", || {
        server.connz(&closed).is_ok_and(|connz| connz.total == 1)
    })
    .await;
    let page = json(address, "/connz?state=closed&sort=stop").await;
    let connection = &page["connections"][0];
    assert_eq!(connection["reason"], "Client Closed");
    assert!(connection["stop"].as_str() >= connection["start"].as_str());
    let by_number = json(address, "/connz?state=all&cid=1").await;
    assert_eq!(
        (&by_number["total"], &by_number["limit"]),
        (&1.into(), &1.into())
    );
    assert_eq!(by_number["connections"][0], *connection);
    assert_eq!(json(address, "/connz").await["total"], 0);
}

#[tokio::test]
async fn a_reload_shows() {
    let (server, address) = start_with(monitored()).await;
    let before = json(address, "/varz").await;
    assert_eq!(
        (&before["max_connections"], &before["config_digest"]),
        (&65_536.into(), &"".into())
    );
    let new = Options {
        max_connections: 7,
        server_tags: vec!["a".to_owned()],
        ..monitored()
    };
    server.reload(new).await.expect("both can change");
    server.set_configuration_digest("sha256:abc");
    let after = json(address, "/varz").await;
    assert_eq!(after["max_connections"], 7);
    assert_eq!(after["tags"], serde_json::json!(["a"]));
    assert_eq!(after["config_digest"], "sha256:abc");
    assert_eq!(after["start"], before["start"]);
    let loaded = |page: &Value| page["config_load_time"].as_str().map(str::to_owned);
    assert_ne!(loaded(&before), loaded(&after));
}
