//! The monitoring pages, field by field: the same clients do the same on both servers, and every page must then say
//! the same, but for what is each server's own and a list of differences with their reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use libtest_mimic::Trial;
use rcgen::{SanType, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use testkit::{
    Config, Deadline, HttpAnswer, Kind, Listener, PATIENCE, Peer, ServerUnderTest, Signal,
    ask_until,
};

use crate::access::authority::trusted;
use crate::trial;

mod cluster;
mod metrics;
mod secrets;

/// Fields whose value is each server's own: both must have them, with a value of the same kind. `*` is any one step.
const OWN: &[&str] = &[
    "server_id",
    "now",
    // varz
    "server_name",
    "go",
    "port",
    "start",
    "uptime",
    "mem",
    "cpu",
    "config_load_time",
    // These pages are asked for until something has happened.
    "http_req_stats//connz",
    "http_req_stats//varz",
    // connz
    "connections/*/cid",
    "connections/*/port",
    "connections/*/start",
    "connections/*/stop",
    "connections/*/last_activity",
    "connections/*/rtt",
    "connections/*/uptime",
    "connections/*/idle",
    // Of closed ones nats-server tells what was not written.
    "connections/*/pending_bytes",
    "connections/*/subscriptions_list_detail/*/cid",
    // subsz; nats-server's own subscriptions, messages and caches are in these.
    "subscriptions_list/*/cid",
    "num_subscriptions",
    "num_inserts",
    "num_cache",
    "num_matches",
    "cache_hit_rate",
    "max_fanout",
    "avg_fanout",
    // accountz
    "account_detail/update_time",
    "account_detail/subscriptions",
    "account_detail/sublist_stats/*",
    "account_statz/*/num_subscriptions",
];

/// A page's beginning, a path in it, and a reason.
type Allowance = (&'static str, &'static str, &'static str);

/// What may differ: a page's beginning, a path, and why. One that no longer makes a difference fails the test.
const DIFFERENT: &[Allowance] = &[
    (
        "/varz",
        "git_commit",
        "our build does not know its revision",
    ),
    (
        "/varz",
        "feature_flags",
        "all flags are about JetStream, which is not there",
    ),
    ("/varz", "feature_flags/*", "as before"),
    (
        "/varz",
        "subscriptions",
        "nats-server listens to more in the system account, and its automatic imports are subscriptions",
    ),
    (
        "/connz?acc=nobody",
        "connections",
        "an account that does not exist has no connections: [] instead of null",
    ),
];

/// Pages, asked for in this order. `{alpha}` is the number of that connection.
const PAGES: &[&str] = &[
    "/varz",
    "/connz",
    "/connz?auth=1",
    "/connz?subs=1",
    "/connz?subs=detail&auth=true",
    "/connz?state=closed",
    "/connz?state=CLOSED&auth=1&subs=1",
    "/connz?state=closed&subs=detail",
    "/connz?state=any",
    "/connz?state=all&limit=2&offset=1",
    "/connz?limit=1",
    "/connz?limit=-1&offset=-7",
    "/connz?offset=9",
    "/connz?cid={alpha}",
    "/connz?cid={alpha}&state=closed",
    "/connz?cid={alpha}&user=nobody&acc=$G",
    "/connz?cid=999999",
    "/connz?acc=$G",
    "/connz?acc=nobody",
    "/connz?user=nobody",
    "/connz?mqtt_client=x",
    "/connz?limit=1&limit=2",
    "/connz?limit=%zz",
    "/connz?limit=%2B1",
    "/connz?sort=cid",
    "/connz?sort=start",
    "/connz?sort=subs",
    "/connz?sort=msgs_to",
    "/connz?sort=msgs_from",
    "/connz?sort=bytes_to",
    "/connz?sort=bytes_from",
    "/connz?sort=last",
    "/connz?sort=idle",
    "/connz?sort=uptime",
    "/connz?state=closed&sort=stop",
    "/connz?state=closed&sort=reason",
    "/routez",
    "/routez?subs=detail",
    "/subsz",
    "/subscriptionsz",
    "/subsz?subs=1&test=foo.x",
    "/subsz?subs=1&test=foo.x&offset=1&limit=1",
    "/subsz?subs=1&test=nobody.listens",
    "/subsz?acc=nobody&subs=1",
    "/accountz",
    "/accountz?acc=$G",
    "/accstatz",
    "/gatewayz?accs=1&subs=detail",
    "/leafz?subs=1",
    "/jsz",
    "/jsz?accounts=1&streams=1&limit=5&offset=4",
    "/healthz",
    "/healthz?details=1",
    "/healthz?js-enabled-only=1",
    "/healthz?account=$G&stream=s&consumer=c",
    "/healthz?js-enabled=1&js-server-only=1&js-meta-only=1",
    // Never JSONP.
    "/varz?callback=f&x=y",
    "/connz?callback=f",
    "/connz?sort=pending&cid={alpha}",
    "/connz?limit=0",
    "/connz?state=open&auth=f",
    "/connz?cid=18446744073709551615",
    // Numbers in which a sum has no room.
    "/connz?offset=9223372036854775807&limit=9223372036854775807",
    "/connz?offset=1&limit=9223372036854775807",
    "/connz?offset=-9223372036854775808&limit=-9223372036854775808&state=all",
    "/subsz?subs=1&test=foo.x&offset=9223372036854775807&limit=9223372036854775807",
    "/subsz?subs=1&test=foo.x&offset=1&limit=9223372036854775807",
    "/subsz?subs=1&test=foo.x&offset=-1&limit=-1",
    "/jsz?offset=9223372036854775807&limit=-9223372036854775808",
    "/jsz?acc=$G&consumers=1&direct-consumers=1&config=1&raft=1&stream-leader-only=1",
    "/routez?subs=1",
    "/gatewayz?gw_name=a&acc_name=b&subs=1",
    "/leafz?acc=$G",
    "/accstatz?unused=1",
    "/ipqueuesz",
    "/ipqueuesz?queues=send",
    "/varz",
];

/// Pages whose text has the same fields in the same order, with the same indentation.
const LAID_OUT: &[&str] = &[
    "/varz",
    "/connz?auth=1",
    "/connz?subs=detail&cid={alpha}",
    "/connz?state=closed",
    "/connz?offset=9",
    "/routez",
    "/subsz",
    "/subsz?subs=1&test=later.x",
    "/accountz",
    "/accstatz",
    "/gatewayz",
    "/leafz",
    "/jsz",
    "/healthz",
];

/// Requests that are no good, and what else is answered without a page.
const REFUSED: &[&str] = &[
    "/nope",
    "/varz/",
    "/VARZ",
    "//varz",
    "/a/../connz?limit=1",
    "/connz?limit=x",
    "/connz?limit=1.5",
    "/connz?limit=+3",
    "/connz?limit=99999999999999999999",
    "/connz?limit=18446744073709551615",
    "/connz?offset=-9223372036854775809",
    "/connz?limit=0x10",
    "/connz?limit=1_0",
    "/subsz?limit=18446744073709551615",
    "/subsz?offset=-9223372036854775809",
    "/jsz?limit=18446744073709551615",
    "/ipqueuesz?all=x",
    "/raftz",
    "/raftz?acc=$SYS&group=_meta_",
    "/expvarz",
    "/debug",
    "/debug/vars/",
    "/connz?limit=a%22b%0a%C3%A9",
    "/connz?offset=x&limit=y",
    "/connz?cid=-1",
    "/connz?cid=99999999999999999999999",
    "/connz?auth=2",
    "/connz?subs=yes",
    "/connz?state=foo",
    "/connz?sort=foo",
    "/connz?sort=foo&limit=x",
    "/connz?sort=stop",
    "/connz?sort=reason&state=all",
    "/routez?subs=x",
    "/subsz?subs=x",
    "/subsz?offset=x",
    "/subsz?limit=x",
    "/subsz?test=foo..bar",
    "/subsz?test=foo.*",
    "/accountz?acc=nobody",
    "/accstatz?unused=x",
    "/gatewayz?subs=x&accs=x",
    "/gatewayz?accs=x",
    "/leafz?subs=x",
    "/jsz?config=x",
    "/jsz?offset=x",
    "/jsz?stream-leader-only=x",
    "/jsz?leader-only=1",
    "/healthz?details=x",
    "/healthz?js-enabled=x",
    "/healthz?js-server-only=x",
    "/healthz?stream=s",
    "/healthz?consumer=c&details=1",
];

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 8] = [
        ("pages_say_the_same", pages_say_the_same),
        ("insides_are_told_alike", insides_are_told_alike),
        ("heads_are_answered_alike", heads_are_answered_alike),
        ("refusals_say_the_same", refusals_say_the_same),
        ("accounts_and_users_say_the_same", accounts_and_users),
        ("options_are_shown_the_same", options_are_shown_the_same),
        (
            "the_end_of_a_certificate_is_shown",
            the_end_of_a_certificate_is_shown,
        ),
        ("probes_do_not_fill_the_log", probes_do_not_fill_the_log),
    ];
    let both = || Kind::ALL.map(|kind| kind.program().map(drop));
    let tests = tests.map(|(name, run)| trial(format!("monitoring::{name}"), both(), run));
    let others = [cluster::trials(), metrics::trials(), secrets::trials()];
    let others = others.into_iter().flatten();
    tests.into_iter().chain(others).collect()
}

/// What is wrong with a question is for whoever asks; that clients are not taken is said now and then. nats-server says both
/// each time.
fn probes_do_not_fill_the_log() {
    const PROBES: usize = 200;
    let said = "Healthcheck failed";
    let start = |kind| {
        let config = Config::default().argument("-m").argument("-1");
        let server = ServerUnderTest::start(kind, &config);
        let address = server.listener(Listener::Monitor);
        (server, address)
    };
    let ask = |address, path, status| {
        for _ in 0..PROBES {
            assert_eq!(HttpAnswer::get(address, path).status, status);
        }
    };
    let (original, address) = start(Kind::NatsServer);
    ask(address, "/healthz?stream=s", 400);
    let says_each = || (original.log().matches(said).count() == PROBES).then_some(());
    assert!(ask_until(PATIENCE, says_each).is_some());

    let (server, address) = start(Kind::Natterjack);
    ask(address, "/healthz?stream=s", 400);
    let log = server.log();
    assert_eq!(log.matches(said).count(), 0, "{log}");
    // Somebody has to be there for it to last.
    let mut client = Peer::introduced(server.address(), &json!({ "verbose": false }));
    client.ping_pong();
    server.signal(Signal::User2);
    let is_leaving = || (HttpAnswer::get(address, "/healthz").status == 500).then_some(());
    assert!(ask_until(PATIENCE, is_leaving).is_some());
    ask(address, "/healthz", 500);
    let line = server.wait_for_log(said);
    assert!(line.contains("[WRN]"), "{line}");
    let log = server.log();
    assert!(log.matches(said).count() < PROBES / 4, "{log}");
}

fn pages_say_the_same() {
    let servers = Kind::ALL.map(|kind| {
        let config = Config::default().argument("-m").argument("-1");
        let server = ServerUnderTest::start(kind, &config);
        let scene = Scene::play(&server);
        (server, scene)
    });
    let mut differences = Differences::default();
    for page in PAGES {
        let [expected, found] = servers
            .each_ref()
            .map(|(server, scene)| scene.get(server, page));
        differences.compare(page, &expected, &found);
    }
    differences.finish(DIFFERENT);
    for page in LAID_OUT {
        let [expected, found] = servers
            .each_ref()
            .map(|(server, scene)| layout(&scene.get(server, page).body));
        assert_eq!(expected, found, "{page}");
    }
}

/// What is told of a program in Go: here with the same names, and what they are values of.
fn insides_are_told_alike() {
    let servers = Kind::ALL
        .map(|kind| ServerUnderTest::start(kind, &Config::default().argument("-m").argument("-1")));
    let get = |path: &str| {
        let servers = servers.each_ref();
        servers.map(|server| HttpAnswer::get(server.listener(Listener::Monitor), path))
    };
    let [expected, found] = get("/debug/vars");
    assert_eq!(head(&expected), head(&found));
    let shapes = [expected, found].map(|answer| {
        let kinds = flat(answer.json()).into_iter();
        // It was started with more words than are shown.
        let kinds = kinds.filter(|(path, _)| !path.starts_with("cmdline/"));
        kinds
            .map(|(path, value)| (path, kind(&value)))
            .collect::<BTreeMap<_, _>>()
    });
    assert_eq!(shapes[0], shapes[1]);
    let [expected, found] = get("/stacksz");
    assert_eq!(head(&expected), head(&found));
    for (answer, beginning) in [(expected, "goroutine "), (found, "thread ")] {
        assert!(answer.body.starts_with(beginning), "{answer:?}");
    }
    // Its queues are its own, but whoever asks for all is answered.
    for answer in get("/ipqueuesz?all=1") {
        assert_eq!(head(&answer).0, 200);
        assert!(answer.json().is_object(), "{answer:?}");
    }
}

/// To HEAD, with the length of what GET would bring, and nothing by which a page could be kept: each is only of its moment.
fn heads_are_answered_alike() {
    let servers = Kind::ALL
        .map(|kind| ServerUnderTest::start(kind, &Config::default().argument("-m").argument("-1")));
    for path in ["/healthz", "/gatewayz", "/leafz", "/nope", "/connz?limit=x"] {
        let [expected, found] = servers.each_ref().map(|server| {
            let address = server.listener(Listener::Monitor);
            let answer = HttpAnswer::to(address, &format!("HEAD {path} HTTP/1.0\r\n\r\n"));
            assert_eq!(answer.body, "", "{path}");
            for name in ["etag", "last-modified", "cache-control", "set-cookie"] {
                assert_eq!(answer.header(name), "", "{path}");
            }
            let got = HttpAnswer::get(address, path);
            let length: usize = answer.header("content-length").parse().expect("a length");
            assert!(length.abs_diff(got.body.len()) < 8, "{path}: {length}");
            let (status, headers) = head(&answer);
            (status, headers.map(str::to_owned))
        });
        assert_eq!(expected, found, "{path}");
    }
}

fn refusals_say_the_same() {
    let servers = Kind::ALL
        .map(|kind| ServerUnderTest::start(kind, &Config::default().argument("-m").argument("-1")));
    let mut differences = Vec::new();
    for path in REFUSED {
        let [expected, found] = servers.each_ref().map(|server| {
            let answer = HttpAnswer::get(server.listener(Listener::Monitor), path);
            let (status, headers) = head(&answer);
            (status, headers.map(str::to_owned), answer.body)
        });
        if expected != found {
            differences.push(format!("{path}: {expected:?} but {found:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn accounts_and_users() {
    const CONFIG: &str = "http: 127.0.0.1:-1
        http_base_path: /nats
        server_name: zed
        server_tags: [a, \"b:c\"]
        max_subscriptions: 10
        max_payload: 1000
        ping_interval: 30
        accounts {
            A { users = [ {user: a, password: a} ] }
            B { users = [ {user: b, password: b} ] }
            SYS { users = [ {user: s, password: s} ] }
        }
        system_account: SYS\n";
    let servers = Kind::ALL.map(|kind| {
        let server = ServerUnderTest::start(kind, &Config::file(CONFIG));
        let connect = |user: &str| {
            let connect = json!({"verbose": false, "name": user, "user": user, "pass": user});
            let mut peer = Peer::introduced(server.address(), &connect);
            peer.send("SUB foo.* 1\r\n");
            peer.ping_pong();
            peer
        };
        let peers = ["a", "b", "s"].map(connect).into();
        (server, Scene { alpha: 0, peers })
    });
    let mut differences = Differences::default();
    for page in [
        "/nats/varz",
        "/nats/connz?auth=1",
        "/nats/connz?auth=1&user=a",
        "/nats/connz?user=b",
        "/nats/connz?acc=A&subs=detail",
        "/nats/connz?acc=A&user=b&auth=1",
        "/nats/subsz?subs=1&test=foo.x",
        "/nats/accountz",
        "/nats/accstatz",
        "/nats/accstatz?unused=1",
    ] {
        let [expected, found] = servers
            .each_ref()
            .map(|(server, scene)| scene.get(server, page));
        differences.compare(page, &expected, &found);
    }
    let different: Vec<_> = DIFFERENT
        .iter()
        .filter(|(page, _, _)| *page == "/varz")
        .map(|&(_, path, why)| ("/nats/varz", path, why))
        .collect();
    differences.finish(&different);
}

fn options_are_shown_the_same() {
    const CONFIGS: &[&str] = &[
        "server_metadata { a: b, c: \"d<\" }
         client_advertise: \"192.0.2.1:99\"
         write_deadline: \"3s\", write_timeout: close
         max_connections: 5, max_pending: 2MB, max_control_line: 1KB, ping_max: 5
         authorization { token: secret, timeout: 1.5 }",
        "max_subs: 7, max_payload: 64KB, http_base_path: \"//nats/../\"",
        "tls { cert_file: server.pem, key_file: key.pem }",
        "tls { cert_file: server.pem, key_file: key.pem, ca_file: server.pem, verify: true, timeout: 5 }",
        "tls { cert_file: server.pem, key_file: key.pem }, allow_non_tls: true",
        "cluster { name: c }",
        "cluster { name: c, pool_size: 5, authorization { timeout: 3 } }",
        "cluster { name: c, pool_size: -1
         tls { cert_file: server.pem, key_file: key.pem, ca_file: server.pem } }",
    ];
    const ROUTES: Allowance = (
        "/varz",
        "cluster/tls_cert_not_after",
        "there are no routes yet, and nobody reads their certificates",
    );
    let identity =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let allowed = [DIFFERENT, &[ROUTES]].concat();
    let mut problems = Vec::new();
    for config in CONFIGS {
        let [expected, found] = Kind::ALL.map(|kind| {
            let config = Config::file(format!("http: 127.0.0.1:-1\n{config}\n"))
                .side_file("server.pem", identity.cert.pem())
                .side_file("key.pem", identity.signing_key.serialize_pem());
            let server = ServerUnderTest::start(kind, &config);
            configured(server.listener(Listener::Monitor))
        });
        let mut differences = Differences::default();
        differences.compare("/varz", &expected, &found);
        let (unexpected, _) = differences.sorted_out(&allowed);
        problems.extend(unexpected.iter().map(|what| format!("{config}: {what}")));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Whoever watches servers learns from `/varz` when a certificate must be renewed, and that it was.
fn the_end_of_a_certificate_is_shown() {
    for kind in Kind::ALL {
        for scheme in ["http", "https"] {
            let text = |name: &str| {
                format!(
                    "{scheme}: \"127.0.0.1:-1\"\ntls {{ cert_file: {name}.pem, key_file: {name}-key.pem }}\n"
                )
            };
            let mut config = Config::file(text("old"));
            for (name, year) in [("old", 2031), ("new", 2041)] {
                let pair = trusted().pair(|params| {
                    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
                    params.not_after = date_time_ymd(year, 5, 17);
                });
                config = config
                    .side_file(format!("{name}.pem"), pair.certificate)
                    .side_file(format!("{name}-key.pem"), pair.key);
            }
            let mut server = ServerUnderTest::start(kind, &config);
            let line = server.wait_for_log(&format!("Starting {scheme} monitor on "));
            let address = line.rsplit(' ').next().and_then(|text| text.parse().ok());
            let address: SocketAddr = address.expect("an address");
            let shown = || {
                let page = match scheme {
                    "https" => encrypted(address, "/varz"),
                    _ => HttpAnswer::get(address, "/varz").json(),
                };
                page["tls_cert_not_after"].clone()
            };
            assert_eq!(shown(), "2031-05-17T00:00:00Z", "{kind:?} {scheme}");
            let told = server.reload(&text("new"));
            assert!(told.contains("Reloaded server configuration"), "{told}");
            // nats-server says so a moment before the page shows it.
            let is_new = || (shown() == "2041-05-17T00:00:00Z").then_some(());
            assert!(ask_until(PATIENCE, is_new).is_some(), "{kind:?} {scheme}");
        }
    }
}

/// A page of monitoring over TLS.
fn encrypted(address: SocketAddr, page: &str) -> Value {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(trusted().pem().as_bytes()).expect("a certificate");
    roots.add(root).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::from(address.ip());
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let tcp = TcpStream::connect_timeout(&address, PATIENCE).expect("a server that listens");
    tcp.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let mut stream = StreamOwned::new(connection, tcp);
    write!(stream, "GET {page} HTTP/1.0\r\n\r\n").expect("asked");
    let mut answer = Vec::new();
    // Not everybody ends TLS as it should be ended.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).expect("text");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).expect("JSON")
}

/// `/varz`, once it tells of the configuration: our daemon adds that when the server has started.
fn configured(monitor: SocketAddr) -> HttpAnswer {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let answer = HttpAnswer::get(monitor, "/varz");
        if answer.json()["config_digest"] != "" {
            return answer;
        }
        assert!(deadline.left().is_some(), "no digest: {answer:?}");
    }
}

/// Clients on a server.
struct Scene {
    alpha: u64,
    peers: Vec<Peer>,
}

impl Scene {
    /// One that publishes, one that listens, and three that are gone.
    fn play(server: &ServerUnderTest) -> Self {
        let join = |connect: Value| Peer::introduced(server.address(), &connect);
        let mut alpha =
            join(json!({"verbose": false, "name": "alpha", "lang": "python", "version": "1.2.3"}));
        let mut beta = join(json!({"verbose": false, "name": "beta <&>"}));
        beta.send("SUB foo.* 1\r\nSUB foo.> q 2\r\nSUB bar 3\r\nUNSUB 3 5\r\n");
        beta.ping_pong();
        alpha.send(
            "PUB bar 5\r\nhello\r\nPUB foo 0\r\n\r\nPUB bar 2\r\nhi\r\nPUB nobody 1\r\nx\r\n",
        );
        alpha.ping_pong();
        beta.expect("MSG bar 3 5\r\nhello\r\nMSG bar 3 2\r\nhi\r\n");
        // After alpha, so that it was active later.
        beta.send("SUB later.* 4\r\n");
        beta.ping_pong();

        let monitor = server.listener(Listener::Monitor);
        let mut leaving = join(json!({"verbose": false, "name": "leaving"}));
        leaving.send("SUB a 1\r\nPUB b 3\r\n123\r\n");
        leaving.ping_pong();
        drop(leaving);
        wait_for_closed(monitor, 1);
        let mut wrong = join(json!({"verbose": false, "name": "wrong"}));
        wrong.send("NONSENSE\r\n");
        wrong.expect_error("Unknown Protocol Operation");
        drop(wrong);
        wait_for_closed(monitor, 2);
        let mut large = join(json!({"verbose": false, "name": "large"}));
        large.send("PUB a 9999999\r\n");
        large.expect_error("Maximum Payload Violation");
        drop(large);
        wait_for_closed(monitor, 3);

        let connections = HttpAnswer::get(monitor, "/connz").json();
        let number = connections["connections"][0]["cid"].as_u64();
        Self {
            alpha: number.expect("alpha is the first"),
            peers: vec![alpha, beta],
        }
    }

    fn get(&self, server: &ServerUnderTest, page: &str) -> HttpAnswer {
        assert!(!self.peers.is_empty());
        let path = page.replace("{alpha}", &self.alpha.to_string());
        HttpAnswer::get(server.listener(Listener::Monitor), &path)
    }
}

fn wait_for_closed(monitor: SocketAddr, count: u64) {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let page = HttpAnswer::get(monitor, "/connz?state=closed").json();
        if page["total"] == count {
            return;
        }
        assert!(
            deadline.left().is_some(),
            "{count} connections should have been closed: {page}"
        );
    }
}

/// Status and headers, as far as they are about the page.
fn head(answer: &HttpAnswer) -> (u16, [&str; 4]) {
    let names = [
        "content-type",
        "access-control-allow-origin",
        "x-content-type-options",
        "location",
    ];
    (answer.status, names.map(|name| answer.header(name)))
}

#[derive(Default)]
struct Differences {
    /// Page, path in it, and what differs.
    found: Vec<(String, String, String)>,
}

impl Differences {
    fn compare(&mut self, page: &str, expected: &HttpAnswer, found: &HttpAnswer) {
        let (expected_head, found_head) = (head(expected), head(found));
        if expected_head != found_head {
            self.add(
                page,
                "head",
                format!("{expected_head:?} but {found_head:?}"),
            );
            return;
        }
        self.compare_pages(page, expected.json(), found.json());
    }

    fn compare_pages(&mut self, page: &str, expected: Value, found: Value) {
        let (expected, found) = (flat(expected), flat(found));
        let paths: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
        for path in paths {
            let (expected, found) = (expected.get(path), found.get(path));
            let is_own = OWN.iter().any(|own| is_like(own, path));
            let is_same = match (expected, found) {
                (Some(expected), Some(found)) if is_own => kind(expected) == kind(found),
                _ => expected == found,
            };
            if !is_same {
                let show = |value: Option<&Value>| {
                    value.map_or_else(|| "nothing".to_owned(), Value::to_string)
                };
                self.add(
                    page,
                    path,
                    format!("{} but {}", show(expected), show(found)),
                );
            }
        }
    }

    fn add(&mut self, page: &str, path: &str, what: String) {
        self.found.push((page.to_owned(), path.to_owned(), what));
    }

    fn finish(self, allowed: &[Allowance]) {
        let (mut text, unused) = self.sorted_out(allowed);
        for (page, path, why) in unused {
            text.push(format!("{page}: {path} does not differ, though {why}"));
        }
        assert!(
            text.is_empty(),
            "expected … but found …:\n{}",
            text.join("\n")
        );
    }

    /// What is not allowed, and allowances nobody needs.
    fn sorted_out<'a>(&self, allowed: &'a [Allowance]) -> (Vec<String>, BTreeSet<&'a Allowance>) {
        let mut unused: BTreeSet<_> = allowed.iter().collect();
        let mut unexpected = Vec::new();
        for (page, path, what) in &self.found {
            let rule = allowed
                .iter()
                .find(|(start, pattern, _)| page.starts_with(start) && is_like(pattern, path));
            match rule {
                Some(rule) => drop(unused.remove(rule)),
                None => unexpected.push(format!("{page}: {path}: {what}")),
            }
        }
        (unexpected, unused)
    }
}

/// The fields of a page as they are indented, without those of the page's differences.
fn layout(body: &str) -> Vec<String> {
    let name = |line: &str| line.trim_start().split(':').next().map(str::to_owned);
    let is_field = |line: &&str| line.contains("\":");
    let is_common = |line: &&str| {
        let name = name(line).unwrap_or_default();
        name != "\"git_commit\"" && !name.starts_with("\"js_")
    };
    body.lines()
        .filter(is_field)
        .filter(is_common)
        .map(|line| {
            let indentation = line.len() - line.trim_start().len();
            format!("{indentation} {}", name(line).unwrap_or_default())
        })
        .collect()
}

/// Every value with its path. Lists that nats-server writes in any order are sorted.
fn flat(page: Value) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    add_leaves(String::new(), page, &mut leaves);
    leaves
}

fn add_leaves(path: String, value: Value, leaves: &mut BTreeMap<String, Value>) {
    let below = |step: &str| match path.as_str() {
        "" => step.to_owned(),
        path => format!("{path}/{step}"),
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                add_leaves(below(&name), value, leaves);
            }
        }
        Value::Array(mut values) if !values.is_empty() => {
            let name = path.rsplit('/').next().unwrap_or_default();
            match name {
                "accounts"
                | "account_statz"
                | "subscriptions_list"
                | "subscriptions_list_detail" => {
                    values.sort_by_key(|value| match &value["subject"] {
                        Value::Null => value.to_string(),
                        subject => format!("{subject} {} {}", value["account"], value["sid"]),
                    });
                }
                // In any order on nats-server.
                "imports" => values.sort_by_key(|value| value["local_subject"].to_string()),
                "exports" => values.sort_by_key(|value| value["subject"].to_string()),
                _ => {}
            }
            for (index, value) in values.into_iter().enumerate() {
                add_leaves(below(&index.to_string()), value, leaves);
            }
        }
        leaf => drop(leaves.insert(path, leaf)),
    }
}

fn is_like(pattern: &str, path: &str) -> bool {
    let mut steps = path.split('/');
    pattern.split('/').all(|wanted| {
        steps
            .next()
            .is_some_and(|step| wanted == "*" || wanted == step)
    }) && steps.next().is_none()
}

/// What a value is; of a text, what it looks like.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        Value::String(text) if is_time(text) => "a time",
        Value::String(text) if is_span(text) => "a span of time",
        Value::String(_) => "a text",
    }
}

/// RFC 3339 in UTC, without zeros at the end of a fraction.
fn is_time(text: &str) -> bool {
    let pattern = "dddd-dd-ddTdd:dd:dd";
    let Some((second, rest)) = text.split_at_checked(pattern.len()) else {
        return false;
    };
    let is_second = second
        .chars()
        .zip(pattern.chars())
        .all(|(character, wanted)| match wanted {
            'd' => character.is_ascii_digit(),
            _ => character == wanted,
        });
    let fraction = rest.strip_suffix('Z');
    is_second
        && fraction.is_some_and(|fraction| {
            fraction.is_empty()
                || fraction.strip_prefix('.').is_some_and(|digits| {
                    (1..=9).contains(&digits.len())
                        && digits.bytes().all(|byte| byte.is_ascii_digit())
                        && !digits.ends_with('0')
                })
        })
}

/// Numbers with units.
fn is_span(text: &str) -> bool {
    let number = |character: char| character.is_ascii_digit() || character == '.';
    let units = text.split(number).filter(|unit| !unit.is_empty());
    text.starts_with(|character: char| character.is_ascii_digit())
        && text.ends_with('s')
        && units
            .into_iter()
            .all(|unit| ["y", "d", "h", "m", "s", "ms", "µs", "ns"].contains(&unit))
}
