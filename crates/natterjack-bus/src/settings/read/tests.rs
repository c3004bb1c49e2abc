//! Settings documents, variables and flags, and what is said about them.

use super::*;
use crate::settings::{Endpoint, Listen, Nats, PREFIX, TransportKind, options};

/// What a document is told, one problem a line; empty if there are no problems at all.
fn check(text: &str, expected: &[&str]) {
    check_sources(&Sources::new().text("c.yaml", text), expected);
}

fn check_sources(sources: &Sources, expected: &[&str]) {
    let problems = match read(sources) {
        Ok(loaded) => loaded.warnings,
        Err(Problems(problems)) => problems,
    };
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, expected, "for:\n{sources:?}");
}

fn load(sources: &Sources) -> Loaded {
    read(sources).unwrap_or_else(|problems| panic!("{problems}"))
}

fn settings(text: &str) -> Settings {
    load(&Sources::new().text("c.yaml", text)).settings
}

/// Block A of the published page.
const THREE_NODES: &str = "
eventBus:
  type: nats
  nats:
    client:                       # talks to the server on this node
      endpoint: nats://localhost:4222
      subject: bindplane-event-bus
    server:
      enable: true
      client:  { host: localhost, port: 4222 }
      http:    { host: localhost, port: '8222' }
      cluster:
        name: bindplane
        host: '0.0.0.0'           # peers connect here
        port: 6222
        routes:
          - 'nats://bindplane-0.corp.net:6222'
          - 'nats://bindplane-1.corp.net:6222'
          - 'nats://bindplane-2.corp.net:6222'
";

/// Block B: what a default installation carries.
const DEFAULT_INSTALL: &str = "
eventBus:
  type: local
  nats:
    server:
      client:  { host: localhost, port: 4222 }
      http:    { host: localhost, port: 8222 }
      cluster: { name: bindplane, host: localhost, port: 6222 }
    client:   { endpoint: 'nats://localhost:4222', subject: bindplane-event-bus }
";

#[test]
fn the_published_three_nodes_are_read() {
    check(THREE_NODES, &[]);
    let settings = settings(THREE_NODES);
    assert_eq!(settings.transport, TransportKind::Nats);
    assert_eq!(settings.nats.client.endpoint, Some(Endpoint::standard()));
    let server = settings.nats.server;
    assert!(server.enable);
    let http = Listen {
        host: "localhost".into(),
        port: 8222,
    };
    assert_eq!(server.http, http);
    assert_eq!(server.cluster.listen.host, "0.0.0.0");
    let routes: Vec<String> = server
        .cluster
        .routes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        routes,
        [
            "nats://bindplane-0.corp.net:6222",
            "nats://bindplane-1.corp.net:6222",
            "nats://bindplane-2.corp.net:6222"
        ]
    );
}

#[test]
fn a_default_installation_is_local_and_silent() {
    check(DEFAULT_INSTALL, &[]);
    assert_eq!(settings(DEFAULT_INSTALL).transport, TransportKind::Local);
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
        "EVENTBUS: {TYPE: nats, Nats: {SERVER: {ENABLE: 'true', client: {PORT: '4333'}}, TLS: {TLSCA: a}}}",
    );
    assert_eq!(settings.nats.server.client.port, 4333);
    assert_eq!(
        settings.nats.tls.authorities,
        ["a"].map(std::path::PathBuf::from)
    );
    check(
        "eventBus:\n  type: nats\n  Type: local\n  nats: {}\n",
        &["c.yaml:3:3: eventBus.Type: was given at 2:3 already, as `type`; keep one"],
    );
}

#[test]
fn words_are_not_taken_for_switches() {
    let settings = settings(
        "eventBus: {nats: {client: {name: y}, server: {name: no, enable: true}, tls: {tlsKey: n, tlsCA: [on, 'off']}}}",
    );
    let Nats {
        client,
        server,
        tls,
    } = settings.nats;
    assert_eq!((&*client.name, &*server.name), ("y", "no"));
    assert_eq!(tls.key, Some("n".into()));
    assert_eq!(tls.authorities, ["on", "off"].map(std::path::PathBuf::from));
    check(
        "eventBus: {nats: {server: {enable: yes}}}",
        &[
            "c.yaml:1:36: eventBus.nats.server.enable: `yes` is neither true nor false; write `true` or `false`",
        ],
    );
}

#[test]
fn names_keep_the_form_in_which_they_are_written() {
    for name in [
        "007", "1.10", "0x1F", "0o17", "1e3", "+5", "-0", "1_000", ".5", "True", "FALSE", "12:30",
    ] {
        for text in [
            format!("# ä\neventBus:\n  nats:\n    client:\n      name: {name}   # a comment\n"),
            format!("eventBus: {{nats: {{client: {{name: {name}}}, tls: {{tlsCA: [a,{name}]}}}}}}"),
            format!("same: &it {name}\neventBus: {{nats: {{client: {{name: *it}}}}}}\n"),
            format!("eventBus: {{nats: {{client: {{name: \"{name}\"}}}}}}"),
        ] {
            let settings = settings(&text);
            assert_eq!(settings.nats.client.name, name, "{text}");
            let authorities = settings.nats.tls.authorities;
            assert!(
                authorities.last().is_none_or(|last| *last == *name),
                "{text}"
            );
        }
    }
    let settings = settings(
        "eventBus: {nats: {server: {client: {port: 0x1092}}}, health: {requiredHosts: 003}}",
    );
    assert_eq!(settings.nats.server.client.port, 4242);
    assert_eq!(settings.health.required_hosts, 3);
}

#[test]
fn sections_of_others_are_ignored() {
    check(
        "port: x\nnested: {eventBus: {bad: 1}}\neventBus: {kafka: {brokers: [a]}, azure: 1, GooglePubSub: {topic: x}}\n",
        &[],
    );
    check(
        "eventBus: {type: kafka}",
        &["c.yaml:1:18: eventBus.type: `kafka` is not supported here; valid: local, nats"],
    );
}

#[test]
fn unknown_keys_are_errors_with_a_hint() {
    check(
        "eventBus:\n  type: nats\n  nats:\n    sever:\n      enable: true\n    zzz: 1\n",
        &[
            "c.yaml:4:5: eventBus.nats.sever: unknown key; did you mean `server`?",
            "c.yaml:6:5: eventBus.nats.zzz: unknown key; known here: client, enableTLS, server, tls, tlsCA, \
             tlsCert, tlsKey, tlsSkipVerify",
        ],
    );
    check(
        "eventBus: {nats: {server: {cluster: {rotues: []}}}}",
        &["c.yaml:1:38: eventBus.nats.server.cluster.rotues: unknown key; did you mean `routes`?"],
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
      cluster: {advertise: 'nats://a:1', routes: ['nats://a:1', 'a:2', 'http://a:3', 7, '']}
    tls: on
  health: {requiredHosts: 0, interval: soon}
",
        &[
            "c.yaml:2:9: eventBus.type: unknown type `nat`; did you mean `nats`? valid: local, nats",
            "c.yaml:4:20: eventBus.nats.client.name: name `a b` must not contain spaces; write a dash in their place",
            "c.yaml:4:35: eventBus.nats.client.endpoint: `localhost:4222` has no scheme; write it as \
             nats://host:port",
            "c.yaml:4:62: eventBus.nats.client.subject: `a.*` has a wildcard; events are published to it, so it \
             must be literal, such as `bindplane-event-bus`",
            "c.yaml:6:15: eventBus.nats.server.enable: `maybe` is neither true nor false; write `true` or `false`",
            "c.yaml:7:13: eventBus.nats.server.name: name `x y` must not contain spaces; write a dash in their place",
            "c.yaml:8:22: eventBus.nats.server.client.host: `nats://h` is not a host name or address alone; write it \
             without scheme and port, such as `localhost` or `0.0.0.0`",
            "c.yaml:8:40: eventBus.nats.server.client.port: port must be between 1 and 65535, not 70000; choose one \
             that is free on this host",
            "c.yaml:9:20: eventBus.nats.server.http.port: port must be an integer, not `eight`; write a number \
             between 1 and 65535",
            "c.yaml:10:28: eventBus.nats.server.cluster.advertise: `nats://a:1` must not have a scheme; write it as \
             host:port",
            "c.yaml:10:65: eventBus.nats.server.cluster.routes: `a:2` has no scheme; write it as nats://host:port",
            "c.yaml:10:72: eventBus.nats.server.cluster.routes: scheme `http` is invalid in `http://a:3`; valid \
             schemes are nats, nats-route, tls: write it as nats://host:port",
            "c.yaml:10:86: eventBus.nats.server.cluster.routes: `7` has no scheme; write it as nats://host:port",
            "c.yaml:10:89: eventBus.nats.server.cluster.routes: has an empty entry; remove it",
            "c.yaml:11:10: eventBus.nats.tls: must be a section; write its keys and values below it, indented",
            "c.yaml:12:27: eventBus.health.requiredHosts: `0` is not a whole number of 1 or more; write one, such \
             as `2`",
            "c.yaml:12:40: eventBus.health.interval: `soon` is not a duration: a duration is numbers with units, such \
             as \"2m\" or \"1h30m\"; write a duration such as `15s`, `1m30s` or `500ms`",
        ],
    );
}

#[test]
fn one_problem_hides_no_other() {
    // An unknown key is a misspelt one only where it is nearly that.
    check(
        "eventBus:
  type: nats
  nats:
    tls: {enableTLS: true, tlsCret: c, tlsCA: /no/a, colour: blue}
    server: {enable: true, http: {port: 4222}}
",
        &[
            "c.yaml:4:22: eventBus.nats.tls.tlsKey: is required with TLS; name the file with the certificate's private key",
            "c.yaml:4:28: eventBus.nats.tls.tlsCret: unknown key; did you mean `tlsCert`?",
            "c.yaml:4:47: eventBus.nats.tls.tlsCA: failed to lookup certificate authority file /no/a: there is no such \
             file; check the path",
            "c.yaml:4:54: eventBus.nats.tls.colour: unknown key; known here: enableTLS, tlsCA, tlsCert, tlsKey, \
             tlsSkipVerify",
            "c.yaml:5:41: eventBus.nats.server.http.port: port 4222 is also that of eventBus.nats.server.client.port; \
             each listener needs its own: change one of the two",
        ],
    );
    // What stands in a document that cannot be read is not missing.
    let sources = Sources::new()
        .text("c.yaml", "eventBus: {type: nats, nats: [}")
        .flag("nats-enable-tls", "true")
        .flag("nats-server-http-port", "x");
    let problems = read(&sources).expect_err("it is no YAML").0;
    let told: Vec<_> = problems.iter().map(|problem| &*problem.option).collect();
    assert_eq!(told, ["", "eventBus.nats.server.http.port"]);
}

#[test]
fn lists_and_sections_in_the_wrong_place() {
    check(
        "eventBus: {type: [nats], nats: {client: {name: {a: 1}}, server: {cluster: {routes: {a: 1}}}}}",
        &[
            "c.yaml:1:18: eventBus.type: is a list; give one value",
            "c.yaml:1:48: eventBus.nats.client.name: is a section; give one value",
            "c.yaml:1:84: eventBus.nats.server.cluster.routes: must be a list; write one entry per line, each after a \
             dash, or one text with commas",
        ],
    );
    check(
        "eventBus: 5",
        &["c.yaml:1:11: eventBus: must be a section; write its keys and values below it, indented"],
    );
}

#[test]
fn what_is_no_yaml_and_files_that_are_none() {
    let problems = read(&Sources::new().text("c.yaml", "eventBus:\n  type: [nats\n")).unwrap_err();
    let text = problems.to_string();
    assert!(
        text.starts_with("c.yaml:") && text.contains("not valid YAML"),
        "{text}"
    );
    let problems = Settings::from_file("/nonexistent/bus.yaml".as_ref()).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "/nonexistent/bus.yaml: error reading in configuration file: No such file or directory (os error 2); check \
         the path"
    );
}

#[test]
fn missing_sections() {
    check(
        "other: {}",
        &[
            "c.yaml: warning: there is no `eventBus` section; without one, variables or flags the bus stays inside this \
             process (type `local`)",
        ],
    );
    check(
        "eventbuss: {}",
        &["c.yaml:1:1: warning: eventbuss: is not read; did you mean `eventBus`?"],
    );
    for text in [
        "eventBus:\n  type: nats\n",
        "eventBus:\n  type: nats\n  nats: {client: {name: }}\n",
    ] {
        check(
            text,
            &[
                "c.yaml:2:9: eventBus.type: is `nats`, so the section `eventBus.nats` must be filled out, and it says \
                 nothing; set at least eventBus.nats.server.enable or eventBus.nats.client.endpoint",
            ],
        );
    }
}

#[test]
fn every_option_is_read_from_everywhere() {
    for option in options() {
        let (value, other) = match option.kind {
            "`local` or `nats`" => ("local", "local"),
            "true or false" => ("true", "false"),
            "a port, 1 to 65535" | "a whole number, 1 or more" => ("17", "18"),
            "nats://host:port" | "a list of nats://host:port" => ("nats://a:1", "nats://b:2"),
            "host:port" => ("a:1", "b:2"),
            "a duration such as `15s` or `1m30s`, 100ms or more" => ("1m", "2s"),
            _ => ("one", "two"),
        };
        let index = table::index(option.path);
        let shown = |sources: &Sources| {
            let mut findings = Findings::default();
            let mut settings = Settings::default();
            // Not `read`: TLS without files would be told.
            let mut written = document(sources, &mut findings, &mut Gaps::default());
            let given = flag(sources, index)
                .or_else(|| variable(sources, index, &mut findings))
                .or_else(|| written.remove(&index))
                .expect("it was given");
            value::read(ROWS[index].slot, &given, &mut settings, &mut findings);
            assert_eq!(findings.sorted(), []);
            (
                value::show(ROWS[index].slot, &settings),
                given.origin.to_string(),
            )
        };
        let expected = |value: &str| {
            if option.is_list {
                value::Shown::Many(vec![value.into()])
            } else {
                value::Shown::One(value.into())
            }
        };
        for path in [Some(option.path), option.also].into_iter().flatten() {
            let (keys, last) = path.rsplit_once('.').expect("no option is at the top");
            let nested = keys.replace('.', ": {");
            let closing = "}".repeat(keys.matches('.').count() + 1);
            let text = format!("{nested}: {{{last}: '{value}'{closing}");
            let sources = Sources::new().text("c", text);
            let (told, origin) = shown(&sources);
            assert_eq!(told, expected(value), "{path}");
            assert!(origin.starts_with("c:1:"), "{origin}");

            let name = format!("BINDPLANE_{}", option.variable);
            let sources = sources.variables(PREFIX, [(name.clone(), other)]);
            assert_eq!(shown(&sources), (expected(other), name.clone()), "{path}");
            let empty = sources.clone().variables(PREFIX, [(name, "")]);
            assert_eq!(shown(&empty).0, expected(value), "{path}");

            let sources = sources.flag(option.flag, value);
            assert_eq!(
                shown(&sources),
                (expected(value), format!("--{}", option.flag))
            );
        }
    }
}

#[test]
fn a_list_is_that_of_one_source() {
    let routes = |sources: &Sources| -> Vec<String> {
        let settings = load(sources).settings;
        let routes = settings.nats.server.cluster.routes;
        routes.iter().map(|route| route.host.clone()).collect()
    };
    let sources = Sources::new().text(
        "c",
        "eventBus: {nats: {server: {cluster: {routes: ['nats://a:1', 'nats://b:1']}}}}",
    );
    assert_eq!(routes(&sources), ["a", "b"]);
    let name = "BINDPLANE_NATS_SERVER_CLUSTER_ROUTES";
    let sources = sources.variables("BINDPLANE", [(name, "nats://c:1, nats://d:1")]);
    assert_eq!(routes(&sources), ["c", "d"]);
    let sources = sources
        .flag("nats-server-cluster-routes", "nats://e:1,nats://f:1")
        .flag("nats-server-cluster-routes", "nats://g:1");
    assert_eq!(routes(&sources), ["e", "f", "g"]);
    let none = Sources::new()
        .text(
            "c",
            "eventBus: {nats: {server: {cluster: {routes: 'nats://a:1'}}}}",
        )
        .flag("nats-server-cluster-routes", "");
    assert_eq!(routes(&none), [""; 0]);
}

#[test]
fn of_flags_the_last_counts_and_unknown_ones_are_errors() {
    let sources = Sources::new()
        .flag("nats-server-client-port", "1")
        .flag("nats-server-client-port", "2");
    assert_eq!(load(&sources).settings.nats.server.client.port, 2);
    check_sources(
        &Sources::new()
            .flag("nats-server-client-prot", "1")
            .flag("nats-server-http-port", "x"),
        &[
            "--nats-server-client-prot: there is no such flag; did you mean `--nats-server-client-port`?",
            "--nats-server-http-port: eventBus.nats.server.http.port: port must be an integer, not `x`; write a number \
             between 1 and 65535",
        ],
    );
}

#[test]
fn variables_have_a_prefix_of_ones_choice() {
    let variables = [
        ("POND_NATS_CLIENT_NAME", "frog"),
        ("BINDPLANE_NATS_CLIENT_NAME", "toad"),
        ("POND_NATS_CLIENT_SUBJETC", "x"),
        ("POND_NATS_PORT_4222_TCP_ADDR", "10.0.0.1"),
        ("POND_NATS_SERVICE_HOST", "10.0.0.1"),
        ("POND_HOME", "/"),
    ];
    let sources = Sources::new().variables("POND", variables);
    assert_eq!(load(&sources).settings.nats.client.name, "frog");
    check_sources(
        &sources,
        &["POND_NATS_CLIENT_SUBJETC: warning: is not read; did you mean POND_NATS_CLIENT_SUBJECT?"],
    );
    check_sources(
        &Sources::new().variables("POND", [("POND_NATS_SERVER_ENABLE", "yes")]),
        &[
            "POND_NATS_SERVER_ENABLE: eventBus.nats.server.enable: `yes` is neither true nor false; write `true` or \
             `false`",
        ],
    );
}

#[test]
fn a_value_that_another_goes_before_is_not_judged() {
    let sources = Sources::new()
        .text("c", "eventBus: {nats: {server: {client: {port: x}}}}")
        .flag("nats-server-client-port", "4333");
    check_sources(&sources, &[]);
}

#[test]
fn tls_keys_flat_and_nested() {
    check(
        "eventBus:\n  nats:\n    tlsCert: a\n    tls:\n      tlscert: b\n",
        &[
            "c.yaml:5:16: eventBus.nats.tls.tlscert: differs from eventBus.nats.tlsCert at c.yaml:3:14; keep one of the \
             two",
        ],
    );
    check(
        "eventBus: {nats: {tlsCa: [a, b], tls: {tlsCA: 'a, b'}, tlsSkipVerify: true}}",
        &[],
    );
    let tls = settings("eventBus: {nats: {tls: {tlsCa: [a, b]}, tlsSkipVerify: true}}")
        .nats
        .tls;
    assert_eq!(tls.authorities, ["a", "b"].map(std::path::PathBuf::from));
    assert!(tls.skip_verify);
}

#[test]
fn tls_must_be_complete() {
    let tls = |keys: &str, expected: &[&str]| {
        let text = format!(
            "eventBus: {{type: nats, nats: {{client: {{name: a}}, tls: {{enableTLS: true{keys}}}}}}}"
        );
        check(&text, expected);
    };
    let authority = "c.yaml:1:67: eventBus.nats.tls.tlsCA: is required with TLS: everybody's certificate is verified with it; \
                     name the file with the certificate of the authority that the nodes' certificates come from, which `natterjack certs ca` \
                     makes";
    tls(
        "",
        &[
            "c.yaml:1:67: eventBus.nats.tls.tlsCert: is required with TLS; name the file with this node's certificate, or make one: \
             natterjack certs node",
            "c.yaml:1:67: eventBus.nats.tls.tlsKey: is required with TLS; name the file with the certificate's private key",
            authority,
        ],
    );
    tls(
        ", tlsCert: /no/c",
        &[
            authority,
            "c.yaml:1:82: eventBus.nats.tls.tlsKey: must be set when tlsCert is set; name the file with the certificate's \
             private key",
            "c.yaml:1:82: eventBus.nats.tls.tlsCert: failed to lookup tls certificate file /no/c: there is no such file; \
             check the path",
        ],
    );
    tls(
        ", tlsKey: /no/k, tlsCA: /no/a",
        &[
            "c.yaml:1:81: eventBus.nats.tls.tlsCert: must be set when tlsKey is set; name the file with this node's certificate",
            "c.yaml:1:81: eventBus.nats.tls.tlsKey: failed to lookup private key file /no/k: there is no such file; check \
             the path",
            "c.yaml:1:95: eventBus.nats.tls.tlsCA: failed to lookup certificate authority file /no/a: there is no such \
             file; check the path",
        ],
    );
    tls(
        ", tlsCert: /no/c, tlsKey: /no/k, tlsCA: /no/a, tlsSkipVerify: 1",
        &[
            "c.yaml:1:82: eventBus.nats.tls.tlsCert: failed to lookup tls certificate file /no/c: there is no such file; \
             check the path",
            "c.yaml:1:97: eventBus.nats.tls.tlsKey: failed to lookup private key file /no/k: there is no such file; check \
             the path",
            "c.yaml:1:111: eventBus.nats.tls.tlsCA: failed to lookup certificate authority file /no/a: there is no such \
             file; check the path",
            "c.yaml:1:133: warning: eventBus.nats.tls.tlsSkipVerify: is on: whoever answers is believed, whatever \
             certificate it shows; this is for tests only; set it to false",
        ],
    );
    check(
        "eventBus: {type: nats, nats: {client: {name: a}, tlsKey: k}}",
        &[
            "c.yaml:1:58: warning: eventBus.nats.tls.tlsKey: is given, but TLS is not enabled: all connections are in \
             plain text; set eventBus.nats.tls.enableTLS to true, which needs tlsCert and tlsCA as well, or leave the files out",
        ],
    );
}

#[test]
fn listeners_need_ports_of_their_own() {
    let listeners = |server: &str, expected: &[&str]| {
        let text =
            format!("eventBus: {{type: nats, nats: {{server: {{enable: true, {server}}}}}}}");
        check(&text, expected);
    };
    listeners(
        "http: {port: 4222}",
        &[
            "c.yaml:1:67: eventBus.nats.server.http.port: port 4222 is also that of eventBus.nats.server.client.port; \
             each listener needs its own: change one of the two",
        ],
    );
    listeners(
        "client: {port: 6222, host: 127.0.0.1}",
        &[
            "c.yaml:1:69: eventBus.nats.server.client.port: port 6222 is also that of eventBus.nats.server.cluster.port; \
             each listener needs its own: change one of the two",
        ],
    );
    listeners(
        "client: {port: 6222, host: 10.0.0.1}, cluster: {host: 10.0.0.2}",
        &[],
    );
}

#[test]
fn parts_must_fit_together() {
    check(
        "eventBus:
  type: nats
  nats:
    server:
      enable: true
      cluster: {host: localhost, routes: 'nats://a:6222, nats://b:6222,nats://A:6222'}
",
        &[
            "c.yaml:6:23: warning: eventBus.nats.server.cluster.host: is `localhost`, so only this host can connect, but \
             routes name others, such as `nats://a:6222`; set it to `0.0.0.0`, or to an address that the others reach",
            "c.yaml:6:42: warning: eventBus.nats.server.cluster.routes: `nats://A:6222` is listed twice; one of them is \
             left out",
        ],
    );
    check(
        "eventBus: {nats: {server: {enable: true}, enableTLS: true}}",
        &[
            "c.yaml:1:36: warning: eventBus.nats.server.enable: has no effect: the type of the bus is `local`; set \
             eventBus.type to `nats`",
            "c.yaml:1:54: warning: eventBus.nats.tls.enableTLS: has no effect: the type of the bus is `local`; set \
             eventBus.type to `nats`",
        ],
    );
    check(
        "eventBus: {type: nats, nats: {client: {endpoint: 'inproc:'}}}",
        &[
            "c.yaml:1:50: eventBus.nats.client.endpoint: `inproc:` is the embedded server, and none is enabled; set \
             eventBus.nats.server.enable to true, or name a server",
        ],
    );
    let mismatched = |host: &str, port: u16, enable: bool| {
        let text = format!(
            "eventBus: {{type: nats, nats: {{client: {{endpoint: 'nats://{host}:{port}'}}, server: {{enable: \
             {enable}}}}}}}"
        );
        load(&Sources::new().text("c.yaml", text)).warnings
    };
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(
            mismatched(host, 4333, true)[0].to_string(),
            format!(
                "c.yaml:1:50: warning: eventBus.nats.client.endpoint: `nats://{host}:4333` is on this host, but the \
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
}

#[test]
fn a_main_that_ends_with_problems_shows_them_in_words() {
    let sources = Sources::new().text("c", "eventBus: {type: tcp}");
    let problems = Settings::load(&sources).expect_err("there is no such type");
    assert_eq!(format!("{problems:?}"), problems.to_string());
    let sources = Sources::new().text("c", "eventBus: {type: tcp, typo: 1}");
    let problems = Settings::load(&sources).expect_err("nor such a key");
    assert_eq!(format!("{problems:?}"), format!("\n{problems}"));
}

#[test]
fn what_is_explained_reads_back() {
    let sources = Sources::new()
        .text("c.yaml", THREE_NODES)
        .variables(
            "BINDPLANE",
            [
                ("BINDPLANE_NATS_CLIENT_NAME", "0017"),
                ("BINDPLANE_NATS_TLS_CA", "\"/etc/a, b.pem\",C:\\x #1.pem"),
            ],
        )
        .flag("nats-server-name", "No")
        .flag("nats-tls-cert", "\u{e9}\t'\"")
        .flag("event-bus-health-interval", "90s");
    let loaded = load(&sources);
    let explained = loaded.explain();
    let again = load(&Sources::new().text("again", &explained));
    for row in ROWS {
        assert_eq!(
            value::show(row.slot, &again.settings),
            value::show(row.slot, &loaded.settings),
            "{}:\n{explained}",
            row.path
        );
    }
    let line = |start: &str| {
        let line = explained
            .lines()
            .find(|line| line.trim_start().starts_with(start));
        line.unwrap_or_else(|| panic!("{start}:\n{explained}"))
            .trim()
    };
    for (start, origin) in [
        ("type: nats", "# c.yaml:3:9"),
        ("name: \"0017\"", "# BINDPLANE_NATS_CLIENT_NAME"),
        ("name: \"No\"", "# --nats-server-name"),
        ("interval: ", "# --event-bus-health-interval"),
        ("requiredHosts: 1", "# default"),
        ("# advertise: none", ""),
    ] {
        assert!(line(start).ends_with(origin), "{}", line(start));
    }
}

#[test]
fn settings_made_by_code_are_checked_too() {
    let mut settings = Settings {
        transport: TransportKind::Nats,
        ..Settings::default()
    };
    assert_eq!(settings.problems(), []);
    settings.nats.server.enable = true;
    settings.nats.server.http.port = 4222;
    let told: Vec<String> = settings
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "eventBus.nats.server.client.port: port 4222 is also that of eventBus.nats.server.http.port; each listener \
             needs its own: change one of the two"
        ]
    );
    settings.nats.server = crate::settings::Server::on_free_ports();
    assert_eq!(settings.problems(), []);
}
