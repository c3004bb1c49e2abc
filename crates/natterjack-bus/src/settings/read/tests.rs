//! Settings documents and what is said about them.

use super::*;

/// What `eventBus` with this body is told, one problem a line; empty if there are no problems at all.
fn check(text: &str, expected: &[&str]) {
    let problems = match read(text, "c.yaml") {
        Ok(loaded) => loaded.warnings,
        Err(Problems(problems)) => problems,
    };
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, expected, "for:\n{text}");
}

fn settings(text: &str) -> Settings {
    read(text, "c.yaml")
        .unwrap_or_else(|problems| panic!("{problems}"))
        .settings
}

/// Block A of the published page, without its routes.
const SINGLE_NODE: &str = "
eventBus:
  type: nats
  nats:
    client:
      endpoint: nats://localhost:4222
      subject: bindplane-event-bus
    server:
      enable: true
      client:  { host: localhost, port: 4222 }
      http:    { host: localhost, port: '8222' }
      cluster: { name: bindplane, host: '0.0.0.0', port: 6222 }
";

#[test]
fn the_published_single_node_is_read() {
    let settings = settings(SINGLE_NODE);
    assert_eq!(settings.transport, TransportKind::Nats);
    assert_eq!(settings.nats.client.endpoint, Some(Endpoint::standard()));
    assert!(settings.nats.server.enable);
    assert_eq!(
        settings.nats.server.http,
        Listen {
            host: "localhost".into(),
            port: 8222
        }
    );
    assert_eq!(settings.nats.server.cluster.listen.host, "0.0.0.0");
}

#[test]
fn nothing_means_local() {
    for text in ["", "other: 1\n", "eventBus:\n", "eventBus: {}\n"] {
        assert_eq!(settings(text).transport, TransportKind::Local);
    }
}

#[test]
fn keys_match_whatever_their_case() {
    let settings = settings(
        "EVENTBUS: {TYPE: nats, Nats: {SERVER: {ENABLE: 'true', client: {PORT: '4333'}}}}",
    );
    assert_eq!(settings.nats.server.client.port, 4333);
    check(
        "eventBus:\n  type: nats\n  Type: local\n  nats: {}\n",
        &["c.yaml:3:3: eventBus.type: already given at 2:3 as `type`; keep one"],
    );
}

#[test]
fn sections_of_others_are_ignored() {
    check(
        "port: x\nnested: {eventBus: {bad: 1}}\neventBus: {kafka: {brokers: [a]}, azure: 1}\n",
        &[],
    );
}

#[test]
fn unknown_keys_are_errors_with_a_hint() {
    check(
        "eventBus:\n  type: nats\n  nats:\n    sever:\n      enable: true\n    zzz: 1\n",
        &[
            "c.yaml:4:5: eventBus.nats.sever: unknown key; did you mean `server`?",
            "c.yaml:6:5: eventBus.nats.zzz: unknown key; known here: client, server, enableTLS, tlsCert, \
             tlsKey, tlsCA, tlsSkipVerify, tls",
        ],
    );
}

#[test]
fn every_problem_is_reported_in_order() {
    check(
        "eventBus:
  type: nat
  nats:
    client: {name: a b, endpoint: 'localhost:4222', subject: 'a.*'}
    server:
      enable: maybe
      name: 'x y'
      client: {host: 'nats://h', port: 70000}
      http: {port: eight}
",
        &[
            "c.yaml:2:9: eventBus.type: unknown type `nat`; valid: local, nats; did you mean `nats`?",
            "c.yaml:4:20: eventBus.nats.client.name: `a b` must not contain spaces",
            "c.yaml:4:35: eventBus.nats.client.endpoint: `localhost:4222` has no scheme; write it as \
             nats://host:port",
            "c.yaml:4:62: eventBus.nats.client.subject: `a.*` has a wildcard; events are published to it, so it \
             must be literal",
            "c.yaml:6:15: eventBus.nats.server.enable: `maybe` is neither true nor false",
            "c.yaml:7:13: eventBus.nats.server.name: `x y` must not contain spaces",
            "c.yaml:8:22: eventBus.nats.server.client.host: `nats://h` must be a host name or an address alone",
            "c.yaml:8:40: eventBus.nats.server.client.port: port must be between 1 and 65535, not 70000",
            "c.yaml:9:20: eventBus.nats.server.http.port: port must be an integer, not `eight`",
        ],
    );
}

#[test]
fn endpoints() {
    for (text, expected) in [
        ("nats://h:1", None),
        ("nats://[::1]:4222", None),
        ("nats://127.0.0.1:4222/", None),
        ("http://h:1", Some("scheme `http` is invalid; valid: nats")),
        (
            "nats://h",
            Some("`nats://h` must be nats://host:port: the port is missing"),
        ),
        (
            "nats://:1",
            Some("`nats://:1` must be nats://host:port: the host is missing"),
        ),
        (
            "nats://h:0",
            Some("`nats://h:0` must be nats://host:port: the port must be between 1 and 65535"),
        ),
        (
            "nats://a:1,nats://b:2",
            Some("`nats://a:1,nats://b:2` must be one address, nats://host:port and nothing else"),
        ),
        (
            "nats://u:p@h:1",
            Some("user and password in an address are not supported"),
        ),
    ] {
        let message = endpoint(text, &["nats"]).err();
        assert_eq!(message.as_deref(), expected, "{text}");
    }
}

#[test]
fn subjects() {
    for bad in ["a b", "a..b", ".a", "a.", ">", "a.>", "*"] {
        let text = format!("eventBus: {{nats: {{client: {{subject: '{bad}'}}}}}}");
        assert!(read(&text, "c").is_err(), "{bad}");
    }
    let text = "eventBus: {nats: {client: {subject: a.b*.c}}}";
    assert_eq!(
        settings(text).nats.client.subject,
        "a.b*.c",
        "a star inside a token is literal"
    );
}

#[test]
fn routes_and_health() {
    check(
        "eventBus:
  nats:
    server: {cluster: {routes: 'nats://a:6222, nats://b:6222,nats://a:6222'}}
    enableTLS: true
    tlsCert: c
    tlsKey: k
    tlsCa: [a, b]
  health: {requiredHosts: 0, interval: 15s}
",
        &[
            "c.yaml:3:32: warning: eventBus.nats.server.cluster.routes: `nats://a:6222` is listed twice",
            "c.yaml:8:27: eventBus.health.requiredHosts: must be a whole number, 1 or more",
        ],
    );
    check(
        "eventBus: {type: kafka}",
        &["c.yaml:1:18: eventBus.type: `kafka` is not supported here; valid: local, nats"],
    );
}

#[test]
fn tls_keys_flat_and_nested() {
    check(
        "eventBus:\n  nats:\n    tlsCert: a\n    tls:\n      tlscert: b\n",
        &[
            "c.yaml:3:14: eventBus.nats.tlsCert: differs from eventBus.nats.tls.tlsCert at 5:16; keep one of the two",
            "c.yaml:5:16: warning: eventBus.nats.tls.tlsCert: TLS files are given but `enableTLS` is not true: all \
             links are in plain text",
        ],
    );
    let tls = settings("eventBus: {nats: {tls: {tlsCA: x, tlsSkipVerify: true}}}")
        .nats
        .tls;
    assert_eq!((tls.authorities, tls.skip_verify), (vec!["x".into()], true));
}

#[test]
fn parts_must_fit_together() {
    check(
        "eventBus:\n  type: nats\n",
        &[
            "c.yaml:2:9: eventBus.nats: type is `nats`, so this section must be filled out: at least \
           `client.endpoint`, or `server.enable: true`",
        ],
    );
    check(
        "eventBus: {nats: {server: {enable: true, http: {port: 4222}}}}",
        &[
            "c.yaml:1:55: eventBus.nats.server.http.port: port 4222 is also that of eventBus.nats.server.client.port; \
           each listener needs its own",
        ],
    );
    check(
        "eventBus: 5",
        &["c.yaml:1:11: eventBus: must be a section: keys and values, indented"],
    );
    check(
        "other: {}",
        &[
            "c.yaml: warning: there is no `eventBus` section, so the bus stays inside this process (type `local`)",
        ],
    );
    let mismatched = |host: &str, port: u16, enable: bool| {
        let text = format!(
            "eventBus: {{nats: {{client: {{endpoint: 'nats://{host}:{port}'}}, server: {{enable: {enable}}}}}}}"
        );
        read(&text, "c.yaml").expect("valid").warnings
    };
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(
            mismatched(host, 4333, true)[0].to_string(),
            format!(
                "c.yaml:1:38: warning: eventBus.nats.client.endpoint: `nats://{host}:4333` is on this host, but the \
                 embedded server listens on port 4222; leave this option out to connect to that server"
            )
        );
    }
    for (host, port, enable) in [
        ("localhost", 4222, true),
        ("localhost", 4333, false),
        ("other", 4333, true),
    ] {
        assert!(mismatched(host, port, enable).is_empty(), "{host}:{port}");
    }
    check(
        "eventbuss: {}",
        &["c.yaml:1:1: warning: eventbuss: is not read; did you mean `eventBus`?"],
    );
}

#[test]
fn intervals() {
    let interval = |text: &str| {
        let text = format!("eventBus: {{health: {{interval: '{text}'}}}}");
        read(&text, "c.yaml")
            .map(|loaded| loaded.settings.health.interval)
            .ok()
    };
    assert_eq!(interval("1m30s"), Some(std::time::Duration::from_secs(90)));
    for bad in ["0s", "15", "-1s"] {
        assert_eq!(interval(bad), None, "{bad}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let problems = Settings::from_file("/nonexistent/bus.yaml".as_ref()).unwrap_err();
    assert!(
        problems
            .to_string()
            .starts_with("/nonexistent/bus.yaml: cannot read this file: "),
        "{problems}"
    );
}
