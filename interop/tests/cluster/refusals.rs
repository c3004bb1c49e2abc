//! Who must not come in does not, and the operator reads why: what the log says of everything that can be wrong with the
//! other side of a route, once and not every second; and that nothing of it costs more than it should.

#![expect(
    clippy::disallowed_methods,
    reason = "how long a server takes is measured by the clock"
)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use natterjack_wire::s2::{Compressor, Effort};
use testkit::cluster::Plan;
use testkit::{Config, Listener, PATIENCE, ServerUnderTest, Signal, ask_until};

use super::delivery::complete;
use super::{OURS, REAL};
use crate::access::authority::{impostor, trusted};
use crate::trial;

/// So much memory the server may take, whatever peers do to it. A debug build takes 20 MiB at rest, and 70 MiB with the interest.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// Servers that a peer invents.
const INVENTED: usize = 100_000;

/// Subjects that a peer floods the server with.
const SUBJECTS: usize = 200_000;

pub(super) fn trials() -> Vec<Trial> {
    let needs = || [OURS.program().map(drop)];
    let both = || [OURS.program().map(drop), REAL.program().map(drop)];
    let mut trials = vec![
        trial(
            "cluster::refusals::hostile_peers".to_owned(),
            needs(),
            hostile_peers,
        ),
        trial(
            "cluster::refusals::hostile_peers_that_compress".to_owned(),
            needs(),
            hostile_peers_that_compress,
        ),
        trial("cluster::refusals::once".to_owned(), both(), once),
        trial("cluster::refusals::in_clear".to_owned(), both(), in_clear),
        trial("cluster::refusals::start".to_owned(), both(), start),
        trial("cluster::refusals::reports".to_owned(), both(), reports),
        trial("cluster::refusals::itself".to_owned(), needs(), itself),
        trial(
            "cluster::refusals::superfluous".to_owned(),
            needs(),
            superfluous,
        ),
        trial(
            "cluster::refusals::of_the_certificate".to_owned(),
            both(),
            of_the_certificate,
        ),
        trial(
            "cluster::refusals::of_one_address".to_owned(),
            needs(),
            of_one_address,
        ),
        trial(
            "cluster::refusals::route_on_the_client_port".to_owned(),
            both(),
            route_on_the_client_port,
        ),
        trial(
            "cluster::refusals::strangers_on_the_client_port".to_owned(),
            both(),
            strangers_on_the_client_port,
        ),
        trial(
            "cluster::refusals::clients_beyond_the_maximum".to_owned(),
            needs(),
            clients_beyond_the_maximum,
        ),
        trial(
            "cluster::refusals::kinds_of_pools".to_owned(),
            needs(),
            kinds_of_pools,
        ),
        trial(
            "cluster::refusals::without_a_pool".to_owned(),
            both(),
            without_a_pool,
        ),
        trial(
            "cluster::refusals::coming_and_going".to_owned(),
            needs(),
            coming_and_going,
        ),
    ];
    for (name, says, expected) in ACCEPTED {
        let name = format!("cluster::refusals::accepted::{name}");
        trials.push(trial(name, needs(), move || accepted(says, expected)));
    }
    for (name, says, expected) in DIALLED {
        let name = format!("cluster::refusals::dialled::{name}");
        trials.push(trial(name, needs(), move || dialled(says, expected)));
    }
    trials
}

const CONNECT: &str = "CONNECT {\"verbose\":false,\"name\":\"PEER\",\"cluster\":\"mesh\"}\r\n";

fn info(more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(
        "INFO {{\"server_id\":\"PEER\",\"server_name\":\"peer\",\"version\":\"2.15.1\",\"proto\":2,\"host\":\"127.0.0.1\",\"port\":1,\
         \"headers\":true,\"max_payload\":1048576,\"lnoc\":true,\"lnocu\":true,\"route_pool_size\":3{comma}{more}}}\r\n"
    )
}

/// What who comes says behind `CONNECT` and `INFO` if it begins with `+`, and what the log says then.
const ACCEPTED: &[(&str, &str, &str)] = &[
    (
        "http",
        "GET / HTTP/1.1\r\n\r\n",
        "authentication error: in place of CONNECT it said \"GET / HTTP/1.1\\r\\n\"…: it speaks HTTP, and this is the port for \
         routes",
    ),
    (
        "tls",
        "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03",
        "The other side uses TLS, and routes of this server are in clear text: the block `cluster` has no `tls`",
    ),
    (
        "client",
        "CONNECT {\"lang\":\"go\",\"name\":\"app\"}\r\n",
        "attempted to connect to route port: it is a client, and this is the port for routes: give it the address of \
         `listen` - Remote: app",
    ),
    (
        "other_cluster",
        "CONNECT {\"name\":\"PEER\",\"cluster\":\"a\\n\\u001bb\"}\r\n",
        "Rejecting connection, cluster name \"a\\n\\x1bb\" does not match \"mesh\": all servers of a cluster have the same \
         `name` in their block `cluster` - Remote: PEER",
    ),
    (
        "no_json",
        "CONNECT {]\r\n",
        "CONNECT refused: CONNECT is not JSON from byte 2 on",
    ),
    (
        "own_name",
        "own name",
        "Remote server has a duplicate name: \"node\", id PEER: give each server of a cluster a `server_name` of its own",
    ),
    (
        "no_name",
        "no name",
        "INFO refused: it has no `server_name`, as every server of a cluster has - Remote: PEER",
    ),
    (
        "no_id",
        "no id",
        "INFO refused: it has no `server_id`, as every server of a cluster has - Remote: PEER",
    ),
    (
        "another_place_in_the_pool",
        "another place",
        "Invalid route pool index: 9 - with `pool_size: 3` there and `pool_size: 3` here it is 2 at most: let `pool_size` be \
         the same on all servers of the cluster - Remote: peer",
    ),
    (
        "wrong_type",
        "+INFO {\"server_id\":5}\r\n",
        "INFO refused: malformed INFO: invalid type: integer `5`, expected a string",
    ),
    (
        "no_subject",
        "+RS+ $G a..b\r\n",
        "Could not insert subscription: \"a..b\" is no subject - Remote: peer",
    ),
    (
        "account_with_a_line_break",
        "+RS+ A\rB x\r\n",
        "RS+ and LS+ take an account, a subject, and optionally a queue group with its weight: \"RS+ A\\rB x\\r\\n\" - Remote: \
         peer",
    ),
    (
        "account_with_an_escape",
        "+RS+ A\x1b[1m x\r\n",
        "Unknown account \"A\\x1b[1m\" for remote subject \"x\"",
    ),
    (
        "message_shows_no_payload",
        "+HMSG $G a 9 5\r\nquiet\r\n",
        "header size is larger than the total size: \"HMSG $G a 9 5\\r\\n\"… - Remote: peer",
    ),
    (
        "invented_address",
        "+INFO {\"server_id\":\"X\",\"ip\":\"nowhere\\n\"}\r\n",
        "Error parsing URL from INFO: \"nowhere\\n\" - Remote: peer",
    ),
    (
        "larger_pool",
        "larger pool",
        "The other server has `pool_size: 5`, and this one `pool_size: 3`: the two have 5 connections, over which each spreads \
         accounts by its own size - Remote: peer",
    ),
    (
        "no_pool",
        "no pool",
        "The other server has no pool (`pool_size: -1`), and this one `pool_size: 3`: all accounts share one connection - \
         Remote: peer",
    ),
    (
        "paused",
        "+-ERR 'Stale Connection'\r\n",
        "Route Error 'Stale Connection': this server did not answer it in time, since it was paused or overloaded, or the \
         line was cut - Remote: peer",
    ),
    (
        "error",
        "+-ERR 'go \x1b away'\r\n",
        "Route Error 'go \\u{1b} away' - Remote: peer",
    ),
];

fn config(cluster: &str) -> Config {
    Config::file(format!(
        "server_name: node\ncluster {{ name: mesh\nlisten: \"127.0.0.1:-1\"\n{cluster} }}\n"
    ))
}

fn accepted(says: &str, expected: &str) {
    let server = ServerUnderTest::start(OURS, &config(""));
    let mut stream = connect(server.listener(Listener::Route));
    let text = match says.strip_prefix('+') {
        Some(rest) => format!("{CONNECT}{}{rest}", info("")),
        None if says == "own name" => {
            format!("{CONNECT}{}", info("").replace("\"peer\"", "\"node\""))
        }
        None if says == "no name" => {
            format!("{CONNECT}{}", info("").replace("\"peer\"", "\"\""))
        }
        None if says == "no id" => format!("{CONNECT}{}", info("").replace("PEER", "")),
        None if says == "another place" => {
            format!("{CONNECT}{}", info("\"route_pool_idx\":9"))
        }
        None if says == "larger pool" => {
            let info = info("").replace("pool_size\":3", "pool_size\":5");
            format!("{CONNECT}{info}")
        }
        None if says == "no pool" => {
            let info = info("").replace("pool_size\":3", "pool_size\":0");
            format!("{CONNECT}{info}")
        }
        None => says.to_owned(),
    };
    stream.write_all(text.as_bytes()).expect("it is read");
    let line = server.wait_for_log(expected);
    let address = stream.local_addr().expect("an address");
    assert!(line.contains(&format!("{address} - rid:")), "{line}");
}

/// What answers where this server dials, and what the log says then.
const DIALLED: &[(&str, &str, &str)] = &[
    (
        "ssh",
        "SSH-2.0-OpenSSH_9\r\n",
        "unknown protocol operation: \"SSH-2.0-OpenSSH_9\\r\\n\": this is no port for routes",
    ),
    (
        "client_port",
        "INFO {\"server_id\":\"X\",\"server_name\":\"x\",\"client_id\":5}\r\n",
        "Attempted to connect to the client port of \"x\": a route has to name its cluster port",
    ),
    (
        "other_cluster",
        "INFO {\"server_id\":\"X\",\"server_name\":\"x\",\"cluster\":\"other\"}\r\n",
        "Cluster name \"other\" of the other server does not match \"mesh\": all servers of a cluster have the same `name` in \
         their block `cluster` - Remote: x",
    ),
    (
        "wrong_login",
        "-ERR 'Authorization Violation'\r\n",
        "Route Error 'Authorization Violation': the login of this server's `routes` is not the one that the other server asks \
         for",
    ),
    (
        "hangs_up",
        "",
        "The other side closed the connection without a word: its log says why.",
    ),
];

/// However often it is refused, it tries again about once a second, and says why once.
fn dialled(says: &str, expected: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let routes = format!("pool_size: -1\nroutes: [\"nats-route://{address}\"]");
    let server = ServerUnderTest::start(OURS, &config(&routes));
    let begin = Instant::now();
    for _ in 0..4 {
        let (mut stream, _) = listener.accept().expect("it dials again");
        let mut start = [0; 8];
        stream.read_exact(&mut start).expect("it begins");
        assert_eq!(&start, b"CONNECT ");
        stream.write_all(says.as_bytes()).expect("it is read");
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let time = begin.elapsed();
    assert!(time >= Duration::from_millis(2900), "4 tries in {time:?}");
    let line = server.wait_for_log(expected);
    assert!(line.contains(&format!("{address} - rid:")), "{line}");
    let log = server.log();
    assert_eq!(log.matches(expected).count(), 1, "{log}");
    assert!(log.matches(&address.to_string()).count() <= 3, "{log}");
}

/// Two servers that refuse each other, one of them the original, say so once.
fn once() {
    let other = ServerUnderTest::start(
        REAL,
        &Config::file("cluster { name: other, listen: \"127.0.0.1:-1\" }"),
    );
    let address = other.listener(Listener::Route);
    let routes = format!("routes: [\"nats-route://{address}\"]");
    let server = ServerUnderTest::start(OURS, &config(&routes));
    let reason = "Cluster name \"other\" of the other server does not match \"mesh\"";
    let _ = server.wait_for_log(reason);
    let tries = || other.log().matches("Rejecting connection").count();
    let tried = ask_until(PATIENCE, || (tries() >= 5).then_some(()));
    assert!(tried.is_some(), "it does not try again");
    let log = server.log();
    assert_eq!(log.matches(reason).count(), 1, "{log}");
}

/// Who refuses says so in clear, even if the other one has begun to compress; and is understood.
fn in_clear() {
    for kind in [REAL, OURS] {
        let other = ServerUnderTest::start(
            kind,
            &Config::file(
                "cluster { name: mesh, listen: \"127.0.0.1:-1\", compression: s2_fast, \
                 authorization { user: a, password: right } }",
            ),
        );
        let address = other.listener(Listener::Route);
        let routes = format!("compression: s2_fast\nroutes: [\"nats-route://a:wrong@{address}\"]");
        let server = ServerUnderTest::start(OURS, &config(&routes));
        let _ = server.wait_for_log("Route Error 'Authorization Violation'");
    }
}

/// Of failed tries the first is told, and then one in so many.
fn reports() {
    // Nobody listens there.
    let address = "127.0.0.1:1";
    for kind in [REAL, OURS] {
        let text = format!(
            "connect_error_reports: 2\ncluster {{ name: mesh, listen: \"127.0.0.1:-1\", pool_size: -1,
             routes: [\"nats-route://{address}\"] }}\nno_system_account: true\n"
        );
        let server = ServerUnderTest::start(kind, &Config::file(text));
        let _ = server.wait_for_log("(attempt 4)");
        let log = server.log();
        let told = [1, 2, 3, 4].map(|attempt| log.contains(&format!("(attempt {attempt})")));
        assert_eq!(told, [true, true, false, true], "{log}");
    }
}

/// A server that has itself among its routes finds out with several connections, and says so once for each route.
fn itself() {
    let port = free_port();
    let text = format!(
        "server_name: node\ncluster {{ name: mesh\nlisten: \"127.0.0.1:{port}\"\naccounts: [A, B]
         routes: [\"nats-route://127.0.0.1:{port}\", \"nats-route://localhost:{port}\"] }}
         accounts {{ A {{}}, B {{}} }}\n"
    );
    let server = ServerUnderTest::start(OURS, &Config::file(text));
    // A name is dialled by its addresses.
    let leads = format!("The route to 127.0.0.1:{port} leads to this server itself");
    let is_told = || server.log().matches(&leads).count() >= 2;
    let told = ask_until(PATIENCE, || is_told().then_some(()));
    assert!(told.is_some(), "{}", server.log());
    let line = server.wait_for_log(&leads);
    assert!(line.contains("[INF]"), "{line}");
    // Were it to dial again, it would have done so by now.
    let mut stream = connect(server.listener(Listener::Route));
    pour(&mut stream, b"GET / HTTP/1.1\r\n");
    let _ = server.wait_for_log("it speaks HTTP");
    let log = server.log();
    assert_eq!(log.matches("this server itself").count(), 2, "{log}");
    // The one is that of whoever speaks HTTP.
    let closed = log.matches("Router connection closed").count();
    assert!(
        closed <= 1,
        "of those with itself nothing else is said: {log}"
    );
}

/// Of a connection that its server gives up before INFO, being connected already, there is no line; of another one there is.
fn superfluous() {
    let server = ServerUnderTest::start(OURS, &config(""));
    let address = server.listener(Listener::Route);
    let mut first = connect(address);
    pour(&mut first, format!("{CONNECT}{}", info("")).as_bytes());
    until_carried_out(&mut first);
    for connect_as in [CONNECT.to_owned(), CONNECT.replace("PEER", "OTHER")] {
        let mut stream = connect(address);
        pour(&mut stream, connect_as.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let line = server.wait_for_log("Router connection closed");
    assert!(line.ends_with("Client Closed - Remote: OTHER"), "{line}");
}

/// Whose certificate the other side does not accept says so itself, though with TLS 1.3 it hears of it after the handshake.
fn of_the_certificate() {
    let (known, unknown) = (trusted().server_pair(), impostor().server_pair());
    for kind in [REAL, OURS] {
        let tls = |ca: &str| {
            format!(
                "tls {{ cert_file: cert.pem, key_file: key.pem, ca_file: {ca}, timeout: 10, verify: true }}"
            )
        };
        let text = format!(
            "cluster {{ name: mesh, listen: \"127.0.0.1:-1\", {} }}",
            tls("ca.pem")
        );
        let other = Config::file(text)
            .side_file("ca.pem", trusted().pem())
            .side_file("cert.pem", &*known.certificate)
            .side_file("key.pem", &*known.key);
        let other = ServerUnderTest::start(kind, &other);
        let address = other.listener(Listener::Route);
        let routes = format!(
            "pool_size: -1\nroutes: [\"nats-route://{address}\"]\n{}",
            tls("ca.pem")
        );
        let server = config(&routes)
            .side_file("ca.pem", trusted().pem())
            .side_file("cert.pem", &*unknown.certificate)
            .side_file("key.pem", &*unknown.key);
        let server = ServerUnderTest::start(OURS, &server);
        let line = server.wait_for_log("server's certificate");
        assert!(
            line.contains("TLS route handshake error: the peer "),
            "{line}"
        );
        assert!(
            line.contains("[ERR]") && line.contains(&address.to_string()),
            "{line}"
        );
    }
}

/// Who is refused is named, whoever else comes from the same address; each of them once.
fn of_one_address() {
    let login = "authorization { user: a, password: right }";
    let server = ServerUnderTest::start(OURS, &config(login));
    let says = [
        "CONNECT {\"name\":\"ONE\",\"user\":\"a\",\"pass\":\"wrong\",\"cluster\":\"mesh\"}\r\n",
        "CONNECT {\"name\":\"TWO\",\"user\":\"a\",\"pass\":\"wrong\",\"cluster\":\"mesh\"}\r\n",
        "CONNECT {\"name\":\"TWO\",\"user\":\"b\",\"pass\":\"wrong\",\"cluster\":\"mesh\"}\r\n",
        "CONNECT {\"name\":\"TWO\",\"cluster\":\"mesh\"}\r\n",
        "CONNECT {\"name\":\"ONE\",\"user\":\"a\",\"pass\":\"right\",\"cluster\":\"x\"}\r\n",
        "CONNECT {\"name\":\"TWO\",\"user\":\"a\",\"pass\":\"right\",\"cluster\":\"x\"}\r\n",
        "GET / HTTP/1.1\r\n",
        "SSH-2.0-OpenSSH_9\r\n",
    ];
    for _ in 0..3 {
        for says in says {
            let mut stream = connect(server.listener(Listener::Route));
            pour(&mut stream, says.as_bytes());
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    let _ = server.wait_for_log("SSH-2.0");
    // On the port for clients the same is said of who names nobody, as those do that forget the user of a URL.
    let users = Config::file("authorization { user: a, password: right }".to_owned());
    let other = ServerUnderTest::start(OURS, &users);
    let mut stream = connect(other.listener(Listener::Client));
    pour(&mut stream, b"CONNECT {\"lang\":\"python3\"}\r\n");
    let _ = other.wait_for_log("authentication error: no user was given");
    let log = server.log();
    for (start, end) in [
        ("authentication error - User \"a\"", " - Remote: ONE"),
        ("authentication error - User \"a\"", " - Remote: TWO"),
        ("authentication error - User \"b\"", " - Remote: TWO"),
        ("authentication error: no user was given", " - Remote: TWO"),
        ("Rejecting connection, cluster name \"x\"", " - Remote: ONE"),
        ("Rejecting connection, cluster name \"x\"", " - Remote: TWO"),
        (
            "authentication error: in place of CONNECT it said \"GET",
            "",
        ),
        (
            "authentication error: in place of CONNECT it said \"SSH",
            "",
        ),
    ] {
        let is_it = |line: &&str| line.contains(start) && line.ends_with(end);
        assert_eq!(log.lines().filter(is_it).count(), 1, "{start}{end}: {log}");
    }
}

/// A nats-server that dials the port for clients is named once, cannot spin, and does not keep clients out.
fn route_on_the_client_port() {
    let server = ServerUnderTest::start(OURS, &config(""));
    let address = server.listener(Listener::Client);
    let text = format!(
        "cluster {{ name: mesh, listen: \"127.0.0.1:-1\", routes: [\"nats-route://route:secret@{address}\"] }}"
    );
    let begin = Instant::now();
    let other = ServerUnderTest::start(REAL, &Config::file(text));
    let expected = "attempted to connect to the client port: it is a server's route, and this is the port for clients";
    let line = server.wait_for_log(expected);
    assert!(
        line.contains("[ERR]") && line.contains(" - Remote: N"),
        "{line}"
    );
    let refused = || other.log().matches("Unknown Protocol Operation").count();
    let again = ask_until(PATIENCE, || (refused() >= 4).then_some(()));
    let (times, age) = (refused(), begin.elapsed());
    assert!(again.is_some(), "{}", other.log());
    // A connection each second, and those of the pool and the system account that it opens once it takes this for a route.
    let most = 8 * (age.as_secs() as usize + 1);
    assert!(times <= most, "{times} tries in {age:?}");
    let log = server.log();
    assert_eq!(log.matches(expected).count(), 1, "{log}");
    assert_eq!(log.matches("[ERR]").count(), 1, "{log}");
    let mut client = connect(address);
    pour(&mut client, b"CONNECT {\"verbose\":false}\r\n");
    until_carried_out(&mut client);
}

/// What is no client hears from ours what it hears from nats-server. The log has who it was, what it said and what to do, but
/// no passwords, once a minute for each kind.
fn strangers_on_the_client_port() {
    let strangers: [(&[u8], &str); 7] = [
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "unknown protocol operation: \"GET / HTTP/1.1\\r\\n\"…: it speaks HTTP, and this is the port for clients: give it \
             that of `http`",
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "unknown protocol operation",
        ),
        (
            b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03",
            "unknown protocol operation: \"\\x16\\x03\\x01\\x00\\xc8\\x01\\x00\\x00\\xc4\\x03\\x03\": it speaks TLS, and clients come \
             in clear text here: let its address begin with `nats://`",
        ),
        (
            b"SSH-2.0-\x1b[31mOpenSSH_9\r\n",
            "unknown protocol operation: \"SSH-2.0-\\x1b[31mOpenSSH_9\\r\\n\": no client begins so; see what runs at that \
             address",
        ),
        (
            b"CONNECT {\"verbose\":false}\r\nPUB a 1\r\nx\r\nyz\r\n",
            "unknown protocol operation: \"yz\\r\\n\": the message before may have had another length than was announced",
        ),
        (
            b"CONNECT example.net:443 HTTP/1.1\r\n",
            "CONNECT refused: CONNECT is not JSON from byte 1 on: it speaks HTTP, and",
        ),
        (
            b"CONECT {\"pass\":\"s3cret\"}\r\n",
            "unknown protocol operation",
        ),
    ];
    let [real, ours] = [REAL, OURS].map(|kind| ServerUnderTest::start(kind, &Config::default()));
    let ask = |server: &ServerUnderTest, says: &[u8]| {
        let mut stream = connect(server.listener(Listener::Client));
        let address = stream.local_addr().expect("an address");
        let mut greeting = [0; 4096];
        let _ = stream.read(&mut greeting).expect("it greets");
        pour(&mut stream, says);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        (address, String::from_utf8_lossy(&answer).into_owned())
    };
    for (says, expected) in &strangers {
        let (_, real_answer) = ask(&real, says);
        let (address, answer) = ask(&ours, says);
        assert_eq!(answer, real_answer, "{}", says.escape_ascii());
        let line = ours.wait_for_log(expected);
        if says.starts_with(b"PRI") || says.starts_with(b"CONECT") {
            continue;
        }
        assert!(
            line.contains("[ERR]") && line.contains(&format!("{address} - cid:")),
            "{line}"
        );
    }
    for _ in 0..3 {
        strangers
            .iter()
            .for_each(|(says, _)| drop(ask(&ours, says)));
    }
    let log = ours.log();
    assert_eq!(log.matches("[ERR]").count(), strangers.len() - 1, "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

/// Of clients that are too many, again and again, the log has some and how many others there were.
fn clients_beyond_the_maximum() {
    let server = ServerUnderTest::start(OURS, &Config::file("max_connections: 1"));
    // Before the others, once it has been greeted.
    let mut first = connect(server.address());
    first.read_exact(&mut [0; 5]).expect("INFO");
    let mut refused = 0;
    let counted = ask_until(PATIENCE, || {
        for _ in 0..100 {
            let mut answer = String::new();
            let _ = connect(server.address()).read_to_string(&mut answer);
            refused += usize::from(answer.contains("maximum connections exceeded"));
        }
        let log = server.log();
        (log.contains("more connections too many within a second")).then_some(log)
    });
    let log = counted.expect("the others are counted");
    let lines = log.matches("maximum connections exceeded").count();
    assert!(lines < refused / 2, "{lines} lines of {refused}");
}

/// A port that is free a moment before it is used.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Connections that do not go together with those that are there are refused with both sides' values, once.
fn kinds_of_pools() {
    let server = ServerUnderTest::start(OURS, &config(""));
    let address = server.listener(Listener::Route);
    let open = |size: i32| {
        let mut stream = connect(address);
        let size = format!("\"route_pool_size\":{size}");
        let text = format!(
            "{CONNECT}{}",
            info("").replace("\"route_pool_size\":3", &size)
        );
        pour(&mut stream, text.as_bytes());
        until_carried_out(&mut stream);
        stream
    };
    let first = open(3);
    for _ in 0..3 {
        drop(open(3));
    }
    let taken = "The other side opens a connection anew that is there as rid:";
    let line = server.wait_for_log(taken);
    assert!(line.contains("[WRN]"), "{line}");
    for _ in 0..3 {
        drop(open(0));
    }
    let other_kind = "The other server now has no pool (`pool_size: -1`), and this one `pool_size: 3`, but connections \
                      between the two that are there are a pool: this one is refused until those have ended";
    let line = server.wait_for_log(other_kind);
    assert!(line.contains("[WRN]"), "{line}");
    drop(first);
    let log = server.log();
    assert_eq!(log.matches(taken).count(), 1, "{log}");
    assert_eq!(log.matches(other_kind).count(), 1, "{log}");
}

/// That one of two servers has no pool is no error, whichever dials: it is said what that means, and nothing else.
fn without_a_pool() {
    let said = "There are no connections for single accounts between the two, since one of them has no pool";
    let node = |cluster: &str| {
        Config::file(format!(
            "cluster {{ name: mesh\nlisten: \"127.0.0.1:-1\"\n{cluster} }}\n"
        ))
    };
    for [dialled, dials] in [[REAL, OURS], [OURS, REAL]] {
        let mut other = ServerUnderTest::start(dialled, &node("pool_size: -1"));
        let address = other.listener(Listener::Route);
        let routes = format!("routes: [\"nats-route://{address}\"]");
        let mut server = ServerUnderTest::start(dials, &node(&routes));
        let ours = match dialled {
            OURS => &mut other,
            _ => &mut server,
        };
        let line = ours.wait_for_log(said);
        assert!(line.contains("[INF]"), "{line}");
        let _ = ours.wait_for_log("Route connection created");
        ours.signal(Signal::Terminate);
        let (_, log) = ours.wait_for_exit(PATIENCE);
        assert!(!log.contains("[ERR]"), "{log}");
        assert_eq!(log.matches(said).count(), 1, "{log}");
        assert!(!log.contains("Protocol Violation"), "{log}");
        assert!(!log.contains("Parse Error"), "{log}");
    }
}

/// Whoever comes and goes as fast as it can, with a word that it writes itself, does not fill the log.
fn coming_and_going() {
    const TIMES: usize = 1500;
    let server = ServerUnderTest::start(OURS, &config(""));
    let address = server.listener(Listener::Route);
    let say = |number: usize| {
        let mut stream = connect(address);
        let text = format!("{CONNECT}{}-ERR 'word {number}'\r\n", info(""));
        pour(&mut stream, text.as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    };
    (0..TIMES).for_each(say);
    let log = server.log();
    let created = log
        .matches("Route connection created - Remote: peer")
        .count();
    let closed = log.matches("Router connection closed: Parse Error").count();
    assert!((256..TIMES / 2).contains(&created), "{created} lines");
    assert!(closed <= created, "{closed} lines of {created}");
    let errors = log.matches("Route Error 'word").count();
    assert!((1..=TIMES / 50).contains(&errors), "{errors} lines");
    // What was left out is told of.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !server.log().contains("more like it since the last line") {
        assert!(Instant::now() < deadline, "{}", server.log());
        say(TIMES);
    }
}

/// The order of what is said at the start is the original's.
fn start() {
    for kind in [REAL, OURS] {
        let server = ServerUnderTest::start(kind, &config(""));
        let _ = server.wait_for_log("Listening for route connections on ");
        let log = server.log();
        let places: Vec<Option<usize>> = [
            "Listening for client connections on ",
            "Server is ready",
            "Cluster name is mesh",
            "Listening for route connections on ",
        ]
        .map(|text| log.find(text))
        .to_vec();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{log}"
        );
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    let limit = Some(Duration::from_secs(60));
    stream.set_write_timeout(limit).expect("a socket");
    stream.set_read_timeout(limit).expect("a socket");
    stream
}

/// Writes as much as is taken: who is refused is cut off in the middle.
fn pour(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Reads until the server has hung up, or answered a PING with which everything before has been carried out.
fn until_carried_out(stream: &mut TcpStream) {
    pour(stream, b"PING\r\n");
    let mut tail = Vec::new();
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        tail.extend_from_slice(&buffer[..count]);
        if tail.windows(6).any(|window| window == b"PONG\r\n") {
            return;
        }
        let kept = tail.len().saturating_sub(8);
        tail.drain(..kept);
    }
}

/// Small, and the same in every run (Marsaglia's xorshift).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Everything a peer can do to a server, one after the other, while the server is in a cluster. It stays there, serves its
/// clients, and takes no more memory than it may.
fn hostile_peers() {
    let mut cluster = complete(
        Plan::of(&[OURS, OURS])
            .cluster("ping_interval: \"1s\"")
            .cluster("ping_max: 1"),
    );
    let address = cluster.route_address(0);
    let silent: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    for (name, play) in PLAYS {
        play(address);
        let memory = cluster.page(0, "/varz")["mem"].as_u64().expect("a number");
        assert!(
            memory <= MEMORY_BYTES_MAX,
            "{} MiB after {name}",
            memory >> 20
        );
    }
    // Those that say nothing are not waited for.
    for mut stream in silent {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    cluster.wait_until_complete();
    let mut clients = cluster.clients();
    clients[1].subscribe("still.here");
    cluster.settle(&mut clients);
    clients[0].publish("still.here", "yes");
    clients[0].flush();
    assert_eq!(clients[1].next_message().text(), "yes");
    let log = cluster.server(0).log();
    assert!(!log.contains("panicked"), "{log}");
    let lines = log.lines().count();
    assert!(lines < 3000, "{lines} lines in the log");
    assert!(
        log.lines().all(|line| line.len() < 1500),
        "a line without end"
    );
}

type Play = fn(SocketAddr);

const PLAYS: &[(&str, Play)] = &[
    ("garbage", |address| {
        let mut chance = Chance(7);
        for _ in 0..200 {
            let count = chance.below(64 * 1024);
            pour(&mut connect(address), &chance.bytes(count));
        }
    }),
    ("lines that are nearly right", |address| {
        let mut chance = Chance(11);
        let right = format!(
            "{CONNECT}{}RS+ $G a.b 1\r\nRS+ $G q.> group 3\r\nRMSG $G a.b 5\r\nhello\r\nHMSG $G a.b + r group 12 14\r\n\
             NATS/1.0\r\n\r\nhi\r\nPING\r\nRS- $G a.b\r\nPONG\r\n",
            info("")
        );
        for _ in 0..300 {
            let mut bytes = right.clone().into_bytes();
            for _ in 0..=chance.below(4) {
                let place = chance.below(bytes.len());
                match chance.below(3) {
                    0 => bytes[place] = chance.next() as u8,
                    1 => drop(bytes.remove(place)),
                    _ => bytes.insert(place, b"\r\n \0{}\"9"[chance.below(8)]),
                }
            }
            pour(&mut connect(address), &bytes);
        }
    }),
    ("a line without end", |address| {
        let mut stream = connect(address);
        pour(&mut stream, CONNECT.as_bytes());
        pour(&mut stream, b"INFO {\"x\":\"");
        pour(&mut stream, &vec![b'x'; 32 << 20]);
    }),
    ("a message that never comes", |address| {
        for _ in 0..50 {
            let mut stream = registered(address);
            pour(&mut stream, b"RMSG $G a 60000000\r\nx");
        }
    }),
    ("a large INFO", |address| {
        let urls = vec!["\"10.0.0.1:4222\""; 3000].join(",");
        let mut stream = connect(address);
        let text = format!("{CONNECT}{}", info(&format!("\"connect_urls\":[{urls}]")));
        pour(&mut stream, text.as_bytes());
        until_carried_out(&mut stream);
    }),
    ("invented servers", |address| {
        let mut stream = registered(address);
        let mut text = String::new();
        for number in 0..INVENTED {
            // Where nobody listens.
            let other = info("\"ip\":\"nats-route://127.0.0.1:1/\"");
            text += &other.replace("PEER", &format!("X{number}"));
        }
        pour(&mut stream, text.as_bytes());
        until_carried_out(&mut stream);
    }),
    ("many names", |address| {
        for number in 0..300 {
            let cluster = format!("\"cluster\":\"other{number}\"");
            let connect_as = CONNECT.replace("\"cluster\":\"mesh\"", &cluster);
            let mut stream = connect(address);
            pour(&mut stream, connect_as.as_bytes());
            until_carried_out(&mut stream);
        }
    }),
    ("interest", |address| {
        let mut stream = registered(address);
        let mut text = String::new();
        for number in 0..SUBJECTS {
            text += &format!("RS+ $G flood.{number}.x\r\n");
        }
        pour(&mut stream, text.as_bytes());
        until_carried_out(&mut stream);
    }),
    ("interest that is none", |address| {
        let mut stream = registered(address);
        pour(&mut stream, "RS+ NOBODY a.b\r\n".repeat(50_000).as_bytes());
        pour(&mut stream, "RS+ $G a..b\r\n".repeat(50_000).as_bytes());
        until_carried_out(&mut stream);
    }),
    ("PINGs, and answers that are not read", |address| {
        let mut stream = registered(address);
        pour(&mut stream, "PING\r\n".repeat(1_000_000).as_bytes());
    }),
    ("PINGs that are not answered", |address| {
        let mut stream = registered(address);
        let begin = Instant::now();
        let _ = stream.read_to_end(&mut Vec::new());
        let time = begin.elapsed();
        assert!(time < Duration::from_secs(20), "still there after {time:?}");
    }),
];

/// The same where routes are compressed, and a few bytes can stand for many.
fn hostile_peers_that_compress() {
    let mut cluster = complete(Plan::of(&[OURS, OURS]).cluster("compression: s2_fast"));
    let address = cluster.route_address(0);
    for (name, bytes) in COMPRESSED {
        let bytes = bytes();
        let streams: Vec<TcpStream> = (0..8)
            .map(|number| {
                let mut stream = connect(address);
                let compression = "\"compression\":\"s2_fast\"";
                let id = format!("PEER{number}");
                let says = info(compression)
                    .replace("PEER", &id)
                    .replace("\"peer\"", &format!("\"{id}\""));
                pour(&mut stream, CONNECT.replace("PEER", &id).as_bytes());
                pour(&mut stream, says.as_bytes());
                pour(&mut stream, &shrunk(says.as_bytes()));
                pour(&mut stream, &bytes);
                stream
            })
            .collect();
        let memory = cluster.page(0, "/varz")["mem"].as_u64().expect("a number");
        assert!(
            memory <= MEMORY_BYTES_MAX,
            "{} MiB after {name}",
            memory >> 20
        );
        drop(streams);
    }
    cluster.wait_until_complete();
    let mut clients = cluster.clients();
    clients[1].subscribe("still.here");
    cluster.settle(&mut clients);
    clients[0].publish("still.here", "yes");
    clients[0].flush();
    assert_eq!(clients[1].next_message().text(), "yes");
    let log = cluster.server(0).log();
    assert!(!log.contains("panicked"), "{log}");
    let damage =
        "What the other side compressed cannot be read: unknown kind of chunk in S2 stream: 0x02";
    assert_eq!(log.matches(damage).count(), 1, "{log}");
    let lines = log.lines().count();
    assert!(lines < 1000, "{lines} lines in the log");
}

fn shrunk(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Compressor::new(Effort::Fast).write(content, &mut bytes);
    bytes
}

/// What a peer sends, and what it is called.
type Content = (&'static str, fn() -> Vec<u8>);

/// What comes behind `INFO`.
const COMPRESSED: &[Content] = &[
    ("noise", || {
        let mut bytes = vec![0x02];
        bytes.extend(Chance(13).bytes(5000));
        bytes
    }),
    ("a chunk that stays away", || {
        // Of 4 MiB, the most that a chunk may have; but for the last ones.
        let mut bytes = vec![0x01, 4, 0, 0x40];
        bytes.resize(4 << 20, b'x');
        bytes
    }),
    ("chunks without content", || {
        b"\xFE\0\0\0\xFF\x06\0\0S2sTwO".repeat(100_000)
    }),
    ("a line without end", || {
        shrunk(&[&b"RS+ $G "[..], &vec![b'x'; 16 << 20]].concat())
    }),
    ("PINGs, and answers that are not read", || {
        shrunk(&b"PING\r\n".repeat(500_000))
    }),
    ("the same interest", || {
        shrunk(&b"RS+ $G a.b\r\n".repeat(200_000))
    }),
    ("a message that never comes", || {
        shrunk(b"RMSG $G a 60000000\r\nx")
    }),
];

/// A connection on which a server said who it is, and that takes part.
fn registered(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    let port = stream.local_addr().expect("an address").port();
    let text = format!("{CONNECT}{}", info("")).replace("PEER", &format!("PEER{port}"));
    pour(&mut stream, text.as_bytes());
    until_carried_out(&mut stream);
    stream
}
