//! Configurations from text to what is in force.

use std::collections::BTreeMap;

use natterjack_conf::EmptyEnvironment;

use super::*;
use crate::options::{Endpoint, WriteTimeout};

fn flags(line: &str) -> Flags {
    let line = flags::parse(line.split_whitespace().map(String::from));
    line.expect("flags of a test are right").flags
}

fn load(text: &str) -> Loaded {
    Configuration::parse("t.conf", text, &Flags::default(), &EmptyEnvironment)
}

fn with_flags(text: &str, line: &str) -> Loaded {
    Configuration::parse("t.conf", text, &flags(line), &EmptyEnvironment)
}

/// The configuration of a text without mistakes.
fn valid(text: &str) -> Configuration {
    valid_with_flags(text, "")
}

fn valid_with_flags(text: &str, line: &str) -> Configuration {
    let loaded = with_flags(text, line);
    assert!(loaded.is_valid(), "{text}: {}", report(&loaded));
    loaded.configuration
}

fn report(loaded: &Loaded) -> String {
    let rendered = loaded.diagnostics.iter().map(|it| loaded.render(it));
    rendered.collect()
}

/// All that is said about a text: a line each, with the advice after a dash.
fn check(text: &str, expected: &[&str]) {
    let loaded = load(text);
    let said: Vec<String> = loaded
        .diagnostics
        .iter()
        .map(|diagnostic| {
            let word = diagnostic.severity.word();
            let text = loaded.render_short(diagnostic);
            let text = text.strip_prefix("t.conf:").unwrap_or(&text);
            match &diagnostic.help {
                Some(help) => format!("{word} {text} - {help}"),
                None => format!("{word} {text}"),
            }
        })
        .collect();
    assert_eq!(said, expected, "{text}");
}

/// Much of what can be said.
const RICH: &str = r#"
    server_name: n, listen: "127.0.0.1:4333", client_advertise: "h:1"
    server_tags: [a, "b:c"], server_metadata { "a b": c }
    max_connections: 10, max_subscriptions: 20, max_subscription_tokens: 8, max_payload: 64KB, max_pending: 1MB
    max_control_line: 1000, max_closed_clients: 5, no_fast_producer_stall: true, no_header_support: true
    no_system_account: true
    ping_interval: "90s", ping_max: 4, write_deadline: "1.5s", write_timeout: retry
    lame_duck_duration: "40s", lame_duck_grace_period: "500ms"
    http: "127.0.0.1:8222", http_base_path: "/x"
    authorization {
        timeout: 7
        default_permissions { publish: "d.>" }
        users: [
            { user: a, password: pw1, permissions {
                publish: { allow: ["a", "b"], deny: "c" }, subscribe: { deny: ["x q"] }, allow_responses: { max: -1, expires: "-1s" } } }
            { nkey: UC6NLCN7AS34YOJVCYD4PJ3QB7QGLYG5B5IMBT25VW5K4TNUJODM7BOX, connection_types: [STANDARD, MQTT] }
        ]
    }
    accounts { "A-1" { nkey: ABJHLOVMPA4CI6R5KLNGOB4GSLNIY7IOUPAJC4YFNDLQVIOBYQGUWVLA
        limits { max_conn: 5, max_subs: -1, max_pay: 1k }, users: [ { user: b, password: pw2 } ]
        default_permissions { subscribe: [] } }, B {}, SYS {} }
    no_auth_user: a, system_account: SYS
    cluster { name: c, host: "::1", port: 6222, routes: ["tls://u:pw3@h:6222", "nats-route://[::1]:6223"
            "srv+nats-route://_nats-route._tcp.example.net"]
        authorization { user: r, password: pw4, timeout: 0.75 }, permissions { import: "i.>", export: { deny: "e" } }
        advertise: "h:2", no_advertise: true, connect_retries: 3, connect_backoff: true, pool_size: 5, accounts: [B]
        compression { mode: s2_auto, rtt_thresholds: ["1ms", "0s", "3ms"] }
        ping_interval: "10s", ping_max: 5, write_deadline: "2s", write_timeout: close }
    debug: true, trace_verbose: true, trace_headers: true, max_traced_msg_len: 7, logtime: false, logtime_utc: true
    log_file: "/l", log_size_limit: 5MB, log_max_num: 2, log_format: json, syslog: true, remote_syslog: "udp://h:514"
    pid_file: "/p", ports_file_dir: "/d", connect_error_reports: 9, reconnect_error_reports: 8
"#;

#[test]
fn an_empty_configuration_is_the_default_one() {
    let default = Configuration::default();
    assert_eq!(default.changes(&valid("port: 4222")), Changes::default());
    let flags_only = Configuration::load(None, &Flags::default(), &EmptyEnvironment);
    assert!(flags_only.diagnostics.is_empty());
    assert_eq!(
        default.changes(&flags_only.configuration),
        Changes::default()
    );
    assert_eq!(
        flags_only.configuration.options.auth_timeout,
        default.options.auth_timeout
    );
}

#[test]
fn what_is_explained_can_be_loaded() {
    for text in ["port: 4222", RICH] {
        let loaded = load(text);
        assert!(loaded.is_valid(), "{}", report(&loaded));
        let explained = loaded.explain();
        let again = load(&explained);
        assert!(again.is_valid(), "{explained}\n{}", report(&again));
        let changes = loaded.configuration.changes(&again.configuration);
        let changed: Vec<_> = changes
            .live
            .iter()
            .chain(&changes.refused)
            .map(|change| change.option.as_str())
            .collect();
        let secret = [
            "authorization.users",
            "accounts.A-1.users",
            "cluster.routes",
            "cluster.authorization.password",
        ];
        let expected: &[&str] = if text == RICH { &secret } else { &[] };
        assert_eq!(changed, expected, "{explained}");
    }
}

#[test]
fn no_option_of_the_table_is_left_out_of_the_rich_example() {
    let default = Configuration::default();
    let changes = default.changes(&valid(RICH));
    let changed: Vec<&str> = changes
        .live
        .iter()
        .chain(&changes.refused)
        .map(|change| change.option.as_str())
        .collect();
    for option in table::options() {
        let is_value = option.default.is_some() && !option.path.contains(['.', '[']);
        let is_missing = !changed.contains(&option.path.as_str());
        assert!(
            !is_value || !is_missing || ["host", "port", "allow_non_tls"].contains(&option.key),
            "{} is not in the example, or reading it changes nothing",
            option.path
        );
    }
}

#[test]
fn values_become_options() {
    let Configuration {
        options, daemon, ..
    } = valid(RICH);
    assert_eq!((options.host.as_str(), options.port), ("127.0.0.1", 4333));
    assert_eq!(
        (options.max_payload, options.max_pending),
        (65_536, 1 << 20)
    );
    assert_eq!(options.write_timeout, WriteTimeout::Retry);
    assert_eq!(options.auth_timeout.as_secs(), 7);
    let user = &options.authorization.users[0];
    let permissions = user.permissions.as_ref().unwrap();
    assert_eq!(permissions.publish.allow.as_deref().unwrap(), ["a", "b"]);
    assert!(permissions.subscribe.allow.is_none());
    assert!(permissions.responses.unwrap().never_expires);
    let cluster = options.cluster.unwrap();
    let listen = Endpoint {
        host: "::1".into(),
        port: 6222,
    };
    assert_eq!(cluster.listen, Some(listen));
    assert_eq!(cluster.auth_timeout.as_millis(), 750);
    assert_eq!(cluster.pool_size, Some(5));
    assert!(cluster.routes[0].tls && cluster.routes[1].host == "::1");
    assert!(daemon.trace && daemon.trace_headers);
    assert_eq!(daemon.log_size_limit, 5 << 20);
}

#[test]
fn zero_is_the_default_where_it_is_in_nats_server() {
    let zeros = "port: 0, max_payload: 0, max_pending: 0, max_control_line: 0, max_closed_clients: 0, ping_max: 0
        ping_interval: \"0s\", write_deadline: \"0s\", http_port: 0, connect_error_reports: 0
        authorization { timeout: 0 }, cluster { port: 0, pool_size: 0 }";
    let changes = Configuration::default().changes(&valid(zeros));
    let changed: Vec<_> = changes
        .refused
        .iter()
        .map(|change| &change.option)
        .collect();
    assert_eq!(changed, ["cluster"], "which is there, with nothing in it");
    assert!(changes.live.is_empty());
    let unbounded = valid("max_connections: 0, max_subs: -1").options;
    assert_eq!(
        (unbounded.max_connections, unbounded.max_subscriptions),
        (0, 0)
    );
    assert_eq!(valid("port: -1").options.port, 0);
}

#[test]
fn monitoring_listens_where_clients_do() {
    let http = |text: &str, line: &str| {
        let monitoring = valid_with_flags(text, line).options.monitoring;
        let endpoint = monitoring.http.unwrap();
        format!("{} {}", endpoint.host, endpoint.port)
    };
    assert_eq!(http("http_port: 8222", ""), "0.0.0.0 8222");
    assert_eq!(http("http_port: 8222, host: h", ""), "h 8222");
    assert_eq!(http("http: 8222", "-a h"), "h 8222");
    assert_eq!(http("http: \"x:8222\", host: h", "-m 8333"), "x 8333");
    assert_eq!(http("monitor_port: -1", ""), "0.0.0.0 0");
    assert!(
        valid("http: 8222, http_port: 0")
            .options
            .monitoring
            .http
            .is_none()
    );
}

#[test]
fn the_time_to_log_in_follows_the_handshake() {
    let timeout = |text: &str| load(text).configuration.options.auth_timeout.as_secs_f32();
    assert_eq!(timeout("port: 1"), 2.0);
    assert_eq!(timeout("tls { timeout: 5 }"), 6.0);
    assert_eq!(
        timeout("tls { timeout: 5 }, authorization { timeout: 0.5 }"),
        0.5
    );
}

#[test]
fn flags_go_before_the_file() {
    let text =
        "port: 1, server_name: a, debug: false, trace: true, cluster { name: c, port: 6222 }";
    let configuration = valid_with_flags(
        text,
        "-p 2 -n b -DV=false -l /x --cluster_name d --no_advertise",
    );
    assert_eq!(configuration.options.port, 2);
    assert_eq!(configuration.options.server_name.as_deref(), Some("b"));
    assert!(!configuration.daemon.debug && !configuration.daemon.trace);
    assert_eq!(
        configuration.daemon.log_file.as_deref(),
        Some(Path::new("/x"))
    );
    let cluster = configuration.options.cluster.unwrap();
    assert!(cluster.no_advertise && cluster.name.as_deref() == Some("d"));
    let daemon = valid_with_flags("debug: false", "-DVV").daemon;
    assert!(daemon.debug && daemon.trace && daemon.trace_verbose);
    let login = valid_with_flags("", "--user a --pass b")
        .options
        .authorization
        .user;
    assert_eq!(login.unwrap().password.expose(), "b");
}

#[test]
fn flags_of_the_cluster() {
    let line = "--cluster nats://u:p@127.0.0.1:-1 --routes nats://a:1,nats://b:2";
    let cluster = valid_with_flags("", line).options.cluster.unwrap();
    assert_eq!(cluster.listen.unwrap().port, 0);
    assert_eq!(cluster.user.as_deref(), Some("u"));
    assert_eq!(cluster.routes.len(), 2);
    let line = "--cluster nats://h:1 --routes srv+tls://u:p@_n._tcp.a.b,nats://b:2";
    let cluster = valid_with_flags("", line).options.cluster.unwrap();
    assert_eq!(cluster.routes[0].port, None);
    assert_eq!(cluster.routes[0].to_string(), "srv+tls://u:***@_n._tcp.a.b");
    let loaded = with_flags("", "--routes nats://a:1");
    let text = report(&loaded);
    assert!(
        text.contains("solicited routes require cluster capabilities"),
        "{text}"
    );
    assert!(!loaded.is_valid());
    let text = report(&with_flags("", "--cluster h:1 -p 70000"));
    assert!(
        text.contains("flag --cluster: not an address to listen on: a scheme is missing"),
        "{text}"
    );
    assert!(
        text.contains("flag -p: port must be at most 65535"),
        "{text}"
    );
}

#[test]
fn tls_can_be_switched_off_by_a_flag() {
    let text = "tls { cert_file: \"/nope\" }";
    let configuration = valid_with_flags(text, "-tls=false --tlscert x");
    assert!(configuration.options.tls.is_none());
    let tls = with_flags(text, "--tlsverify --tlskey k")
        .configuration
        .options
        .tls;
    let tls = tls.unwrap();
    assert!(tls.verify);
    assert_eq!(tls.cert_file.as_deref(), Some(Path::new("/nope")));
    assert_eq!(tls.key_file.as_deref(), Some(Path::new("k")));
}

#[test]
fn unknown_options_are_told_what_was_meant() {
    check(
        "max_payloda: 1",
        &["error 1:1: unknown option \"max_payloda\" - did you mean max_payload?"],
    );
    check(
        "verify: true",
        &["error 1:1: unknown option \"verify\" - verify belongs in tls { … }"],
    );
    check(
        "cluster { name: c, users: [] }",
        &["error 1:20: unknown option \"users\" in cluster - users belongs in authorization { … }"],
    );
    check(
        "cluster { name: c, max_payload: 1 }",
        &[
            "error 1:20: unknown option \"max_payload\" in cluster - max_payload belongs outside of all blocks",
        ],
    );
    check(
        "accounts { A { permissions {} } }",
        &[
            "error 1:16: unknown option \"permissions\" in accounts.A - did you mean default_permissions?",
        ],
    );
    check("zzz: 1", &["error 1:1: unknown option \"zzz\""]);
}

#[test]
fn durations_without_quotes() {
    check(
        "ping_interval: 2m",
        &[
            "warning 1:16: ping_interval should be a duration in quotes - write \"2m\" if you mean minutes: \
           without quotes, the m of 2m stands for a million",
        ],
    );
    check(
        "ping_interval: 90",
        &["warning 1:16: ping_interval should be a duration in quotes - write \"1m30s\""],
    );
    check("ping_interval: 2s", &[]);
}

#[test]
fn two_places_are_named() {
    check(
        "port: 4222\nhttp: 4222",
        &[
            "error 2:7: http and clients cannot both listen on port 4222; port is at t.conf:1 - \
           give one of them another port",
        ],
    );
    check(
        "max_pending: 1KB\nmax_payload: 2KB",
        &[
            "error 2:14: max_payload (2048) must not be larger than max_pending (1024); max_pending is at t.conf:1",
        ],
    );
    check(
        "authorization {\n user: a, password: b\n users: [ {user: c, password: d} ]\n}",
        &[
            "error 3:9: can not have a single user/pass and a users array: move the user into the array; \
           authorization.user is at t.conf:2",
        ],
    );
    check(
        "authorization { users: [\n{user: a, password: b}\n{user: a, password: d} ] }",
        &[
            "error 3:1: duplicate user \"a\" detected: a name can be used once, in one account; \
           authorization.users[0] is at t.conf:2",
        ],
    );
}

/// nats-server says the same, or nothing, after the order in which it happens to walk through the file.
#[test]
fn latencies_need_the_system_account() {
    let rest = "no_system_account: true\n";
    let accounts = "accounts { A { exports: [ { service: a, latency: lat } ] } }\n";
    for text in [format!("{rest}{accounts}"), format!("{accounts}{rest}")] {
        let report = report(&load(&text));
        assert!(report.contains("system account not setup"), "{report}");
    }
}

#[test]
fn the_wrong_subject_is_pointed_at() {
    check(
        "accounts { A { users: [ { user: a, permissions: { subscribe: { deny: [x, \"a..b\"] } } } ] } }",
        &["error 1:74: subject \"a..b\" is not a valid subject (in subscribe deny of user \"a\")"],
    );
}

#[test]
fn advice() {
    check(
        "max_pending_size: 20MB",
        &[
            "note 1:1: max_pending_size is the name of former times; it is max_pending today - \
           write max_pending; nats-server refuses the old name",
        ],
    );
    check(
        "host: a\nnet: b",
        &["note 1:1: host is given twice: as host here, and as net further down, which counts"],
    );
    check(
        "authorization { user: a }",
        &[
            "note 1:23: without a password, whoever knows the name of the user comes in - \
           add password, as a bcrypt hash or in clear text, or --pass",
        ],
    );
    check(
        "allow_non_tls: true",
        &[
            "note 1:16: allow_non_tls says nothing without tls - add tls { cert_file: …, key_file: … }, or leave it out",
        ],
    );
}

#[test]
fn origins_are_told() {
    let text = "listen: 5000\nNAME = n\nserver_name: $NAME\nmax_payload: $SIZE\nhttp_port: 1";
    let environment = BTreeMap::from([("SIZE".to_owned(), "2KB".to_owned())]);
    let loaded = Configuration::parse("t.conf", text, &flags("-D"), &environment);
    assert!(loaded.is_valid(), "{}", report(&loaded));
    let explained = loaded.explain();
    for expected in [
        ("port: 5000", "t.conf:1"),
        ("server_name: \"n\"", "variable NAME, t.conf:3"),
        ("max_payload: 2KB", "environment variable SIZE, t.conf:4"),
        ("http: \"0.0.0.0:1\"", "t.conf:5"),
        ("debug: true", "flag -D"),
        ("max_connections: 65536", "default"),
    ] {
        let line = explained.lines().find(|line| line.starts_with(expected.0));
        let origin = line.and_then(|line| line.split_once("# "));
        assert_eq!(
            origin.map(|(_, origin)| origin),
            Some(expected.1),
            "{explained}"
        );
    }
}

#[test]
fn changes_are_live_or_refused() {
    let old = valid(
        "port: 1, max_payload: 1KB, authorization { users: [ {user: a, password: pw1} ] }, cluster { name: c, port: 1234 }",
    );
    let new = valid(
        "port: 2, max_payload: 2KB, authorization { users: [ {user: a, password: pw2} ] }, cluster { name: d, port: 1234 }\nserver_name: x, accounts { B {} }",
    );
    let changes = old.changes(&new);
    let texts =
        |changes: &[Change]| -> Vec<String> { changes.iter().map(ToString::to_string).collect() };
    assert_eq!(
        texts(&changes.refused),
        ["port: 1 -> 2", "server_name: none -> \"x\""]
    );
    assert_eq!(
        texts(&changes.live),
        [
            "max_payload: 1KB -> 2KB",
            "authorization.users: 1 user -> 1 user",
            "accounts.B: none -> there",
            "cluster.name: \"c\" -> \"d\"",
        ]
    );
    assert_eq!(
        changes.to_string(),
        "port: 1 -> 2, server_name: none -> \"x\""
    );
    assert!(old.changes(&old).is_empty());
}

#[test]
fn what_would_surprise_is_said() {
    check(
        "listen: 127.0.0.1:4333\nhost: h\nport: 4334",
        &[
            "note 1:9: host and port count, not what listen says of them; host is at t.conf:2, port is at t.conf:3 - \
             keep one of them",
        ],
    );
    check(
        "authorization { user: a, password: \"$2a$11$5uaggRHczjeOcDkbcs4qnOijdF0gRYG9YShRBfrlVcYJVZ\" }",
        &[
            "note 1:36: password begins like a bcrypt hash and is none, so nobody can log in with it: a hash has 60 \
             characters, and this has 53 - copy the whole hash; natterjack passwd makes a new one",
        ],
    );
    check(
        "authorization { user: a, password: \"$2a$11$5uaggRHczjeOcDkbcs4qnOijdF0gRYG9YShRBfrlVcYJVZIqUhIGu\" }",
        &[],
    );
    check(
        "log_file: /nonexistent/a.log\npid_file: \"/\"\nports_file_dir: /nonexistent/ports",
        &[
            "note 1:11: log_file: there is no folder /nonexistent here - create it, or correct the path; the server \
             cannot start without",
            "note 2:11: pid_file / is a folder here - name a file in it; the server cannot start without",
            "note 3:17: ports_file_dir: there is no folder /nonexistent/ports here - create it, or correct the path; \
             no file is written without",
        ],
    );
    check(
        "authorization { token: \"$TOKEN\" }",
        &[
            "note 1:24: token looks like a variable in quotes, which make it that very text - leave out the quotes if \
             the variable's value is meant",
        ],
    );
    check(
        "SECRET = 12\nauthorization { token: $SECRET }",
        &[
            "error 2:24: token must be a text, not a whole number - put the definition of SECRET in quotes",
        ],
    );
    check(
        "http_token: \"\"",
        &["error 1:13: http_token must not be empty; leave it out if everybody may read the pages"],
    );
    // What follows from a mistake is not said on top of it.
    check(
        "authorization { user: a, password: 12 }",
        &["error 1:36: password must be a text, not a whole number - put it in quotes"],
    );
}

#[test]
fn certificates_are_asked_for_wherever_they_are_mapped_and_in_clusters() {
    let loaded = load("tls { verify_and_map: true }\ncluster { tls { timeout: 1 } }");
    let explained = loaded.explain();
    let lines: Vec<String> = explained
        .lines()
        .filter(|line| line.contains("verify:"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines, ["verify: true # t.conf:1", "verify: true # default"]);
}

#[test]
fn routes_that_name_services() {
    let said_of = |route: &str, expected: &[&str]| {
        check(
            &format!("cluster {{ name: c, port: 1, routes: [\n{route}\n] }}"),
            expected,
        );
    };
    said_of("srv+nats-route://_nats-route._tcp.example.net", &[]);
    said_of(
        "srv+nats-route://_nats-route._tcp.example.net:6222",
        &[
            "error 2:1: a route must be a URL: the name of a service has no port - leave the port out: the SRV records \
             say at which port each server listens",
        ],
    );
    said_of(
        "srv+nats-route://nats.example.net:6222",
        &[
            "error 2:1: a route must be a URL: the name of a service begins like _nats-route._tcp - write \
             srv+nats-route://_nats-route._tcp.example.net or srv+tls://_nats-route._tcp.example.net; without srv+ the \
             name is that of servers",
        ],
    );
    said_of(
        "\"srv+nats-route://[::1]:6222\"",
        &[
            "error 2:1: a route must be a URL: the address of a server is not the name of a service - leave out srv+ \
             and name the server's port",
        ],
    );
    said_of(
        "nats-route://_nats-route._tcp.example.net:6222",
        &[
            "note 2:1: a route is to a server, but this is the name of a service - to take servers from SRV records, \
             put srv+ before it and leave the port out",
        ],
    );
    said_of(
        "srv+tls://_nats-route._tcp.example.net",
        &[
            "note 1:37: routes are encrypted only if the cluster has a block tls, whatever their URLs say: \
             _nats-route._tcp.example.net will be talked to in clear text, passwords included - add tls { cert_file: …, \
             key_file: …, ca_file: … } to the cluster, or write nats-route://",
        ],
    );
    check(
        "cluster {\nname: c, port: 1, tls: { cert_file: c.pem, key_file: k.pem }\n\
         routes: [ srv+tls://_nats-route._tcp.example.net ] }",
        &[
            "error 2:37: cert_file c.pem: cannot be read: it does not exist; check the path",
            "note 3:9: the servers of _nats-route._tcp.example.net are those that DNS names, so a certificate of any \
             authority that this system trusts will do for whoever can forge the answer - set ca_file in the cluster's \
             tls to an authority that issues only your servers' certificates",
        ],
    );
}

#[test]
fn what_a_pool_of_routes_cannot_be_is_told() {
    check(
        "cluster { name: c, port: 1\npool_size: -1\naccounts: [\"$SYS\"] }",
        &[
            "error 2:12: pool_size cannot be negative if pinned accounts are specified; cluster.accounts is at \
             t.conf:3 - leave out pool_size, or accounts of the cluster",
        ],
    );
    check(
        "cluster { name: c, port: 1\npool_size: 200\naccounts: [\"$SYS\", NOPE] }",
        &[
            "note 2:12: with a pool_size of 200 there are so many connections with each server, to share what 128 can \
             carry - 3 are enough for most; give an account that takes nearly all one of its own by accounts",
            "note 3:11: there is no account \"NOPE\", so connections for it alone are refused - add it to accounts { … }, \
             or leave it out here",
        ],
    );
    let hash = "$2a$04$cVoO1vPSgzHKhJfe8bbhc.jSTEVuVnYSb.iBx1Vr5fgjx8QnTp/1K";
    check(
        &format!(
            "cluster {{ name: c, port: 1\nauthorization {{ user: u\npassword: \"{hash}\" }} }}"
        ),
        &[
            "note 3:11: whoever knows the password behind this hash comes in, but servers that this one learns of from \
             others are sent the hash itself, and refuse it - write the password in clear text, in an included file \
             that nobody else can read",
        ],
    );
}

#[test]
fn routes_to_services_are_taken_over_by_a_reload() {
    let of = |route: &str| {
        valid(&format!(
            "cluster {{ name: c, port: 1, routes: [ {route} ] }}"
        ))
    };
    let before = of("nats-route://a:6222");
    let changes = before.changes(&of("srv+nats-route://_n._tcp.a"));
    assert_eq!(changes.refused, []);
    assert_eq!(
        changes.live[0].to_string(),
        "cluster.routes: [\"nats-route://a:6222\"] -> [\"srv+nats-route://_n._tcp.a\"]"
    );
}

#[test]
fn routes_without_a_password_are_shown() {
    let text = "cluster { port: 1, name: c, routes: [ nats-1:6222, \"u:s3cret@nats-2:6222\" ] }";
    let shown = report(&load(text));
    assert!(shown.contains("[ nats-1:6222, "), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn secrets_do_not_show() {
    let secret = "s3cret";
    let text = r#"
        HIDDEN = s3cret-v, not_known: 1
        authorization { user: a, password: s3cret-1, foo: 1 }
        accounts { A { users: [ { user: b, password: "s3cret-2", bar: 1 }, { nkey: SUs3cret, x: 1 }, { user: c, pass: $HIDDEN, x: y } ] } }
        cluster { routes: [ "nats://u:s3cret-3@h", "nats://u:s3cret-4@h:1", "http://u:s3cret-5@h:1" ], authorization { user: x, password: s3cret-6, y: 1 } }
        cluster { nam: x, routes: [ "nats://u:s3cret-7@h:1" ], authorization { user: x, password: s3cret-8 } }
        authorization { token: s3cret-9 token }
        authorization { pass: 1s3cret-a }
        authorization { pasword: s3cret-c, foo: 1 }
        tokn: "s3cret-d"
        authorization { password: "{LONG}", bar: 1 }
        authorization { password: "s3cret-b
    "#
    .replace("{LONG}", &"s3cret".repeat(30));
    let text = text.as_str();
    let loaded = with_flags(
        text,
        "--pass s3cret-10 --auth s3cret-11 --cluster nats://u:s3cret-12@h",
    );
    let mut shown = format!("{loaded:?}\n{}", loaded.explain());
    for diagnostic in &loaded.diagnostics {
        shown.push_str(&loaded.render(diagnostic));
        shown.push_str(&loaded.render_short(diagnostic));
    }
    let changes = Configuration::default().changes(&loaded.configuration);
    shown.push_str(&format!("{changes:?}"));
    let back = loaded.configuration.changes(&Configuration::default());
    shown.push_str(&format!("{back:?}"));
    let shown: Vec<&str> = shown.lines().filter(|line| line.contains(secret)).collect();
    assert_eq!(shown, [""; 0]);
    assert!(loaded.diagnostics.len() > 8, "{}", report(&loaded));
}

#[test]
fn names_in_a_block_are_unique() {
    let mut names = BTreeMap::new();
    for option in table::options()
        .iter()
        .filter(|option| !option.is_flag_only)
    {
        let block = option.path.rsplit_once('.').map_or("", |(block, _)| block);
        let own = [option.key].into_iter();
        for name in own
            .chain(option.aliases.iter().copied())
            .chain(option.legacy.iter().copied())
        {
            assert_eq!(name, name.to_ascii_lowercase());
            let former = names.insert((block.to_owned(), name), option.path.clone());
            assert_eq!(former, None, "{name} in {block}");
        }
    }
}

/// Pieces of the rich example left out, doubled, and put elsewhere: whatever comes of it, it is read, checked, shown and
/// compared without a panic.
#[test]
fn no_text_makes_it_panic() {
    let mut random = fastrand::Rng::with_seed(1);
    let characters: Vec<char> = RICH.chars().collect();
    for _ in 0..200 {
        let mut text = characters.clone();
        for _ in 0..random.usize(1..6) {
            let start = random.usize(..text.len());
            let end = (start + random.usize(..30)).min(text.len());
            let piece: Vec<char> = text.drain(start..end).collect();
            if random.bool() {
                let at = random.usize(..=text.len());
                text.splice(at..at, piece);
            }
        }
        let loaded = load(&text.into_iter().collect::<String>());
        let changes = Configuration::default().changes(&loaded.configuration);
        let shown = [report(&loaded), loaded.explain(), changes.to_string()];
        assert!(!shown.concat().is_empty());
    }
}
