//! What an operator is told about settings that cannot work or are probably not meant: a row for each condition, from
//! whichever source the value at fault comes, and all of them at once.

use std::path::Path;

use natterjack_bus::settings::{Problem, Problems, Sources};
use natterjack_bus::{EventBus, Settings, StartError};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};

use crate::tls::Authority;
use crate::world::Note;

/// What is given, and what is said of it.
struct Row<'a> {
    given: Given<'a>,
    is_error: bool,
    /// Where the value stands: a place in the document, a variable, a flag. A document is called `c`.
    source: &'a str,
    option: &'a str,
    /// What the message names: the value, and what is wrong.
    says: &'a [&'a str],
    /// What the remedy names.
    remedy: &'a str,
}

enum Given<'a> {
    File(&'a Path),
    Document(&'a str),
    /// Further settings, as a document, and one in a variable.
    Variable(&'a str, &'a str, &'a str),
    Flag(&'a str, &'a str, &'a str),
}
use Given::{Document, File, Flag, Variable};

fn problems(given: &Given<'_>) -> Vec<Problem> {
    let sources = match *given {
        File(path) => Sources::new().file(path),
        Document(text) => Sources::new().text("c", text),
        Variable(text, name, value) => Sources::new()
            .text("c", text)
            .variables("BINDPLANE", [(name, value)]),
        Flag(text, name, value) => Sources::new().text("c", text).flag(name, value),
    };
    match Settings::load(&sources) {
        Ok(loaded) => loaded.warnings,
        Err(Problems(problems)) => problems,
    }
}

fn check(row: &Row<'_>) {
    let told = problems(&row.given);
    let is_it = |problem: &&Problem| {
        let text = problem.to_string();
        problem.is_error() == row.is_error
            && problem.origin.to_string() == row.source
            && problem.option == row.option
            && row.says.iter().all(|part| problem.message.contains(part))
            && problem.remedy.contains(row.remedy)
            // A line of text holds all of it.
            && [row.option, row.remedy].iter().all(|part| text.contains(part))
            && text.starts_with(row.source)
    };
    assert_eq!(
        told.iter().filter(is_it).count(),
        1,
        "{} {} {:?}, among:\n{told:#?}",
        row.source,
        row.option,
        row.says
    );
    // Nothing is made up beside it.
    assert_eq!(told.len(), 1, "{told:#?}");
}

fn error<'a>(
    given: Given<'a>,
    source: &'a str,
    option: &'a str,
    says: &'a [&'a str],
    remedy: &'a str,
) -> Row<'a> {
    Row {
        given,
        is_error: true,
        source,
        option,
        says,
        remedy,
    }
}

fn warning<'a>(
    given: Given<'a>,
    source: &'a str,
    option: &'a str,
    says: &'a [&'a str],
    remedy: &'a str,
) -> Row<'a> {
    Row {
        is_error: false,
        ..error(given, source, option, says, remedy)
    }
}

const TYPE: &str = "eventBus.type";
const ENDPOINT: &str = "eventBus.nats.client.endpoint";
const SUBJECT: &str = "eventBus.nats.client.subject";
const ROUTES: &str = "eventBus.nats.server.cluster.routes";
const CLUSTER_HOST: &str = "eventBus.nats.server.cluster.host";
const ADVERTISE: &str = "eventBus.nats.server.cluster.advertise";

#[test]
fn documents() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.yaml");
    let latin = folder.path().join("latin.yaml");
    std::fs::write(&latin, b"eventBus: \xe4\n").expect("a file");
    let reading = "error reading in configuration file";
    for (path, remedy) in [
        (missing.as_path(), "check the path"),
        (folder.path(), "name the file in it"),
        (latin.as_path(), "UTF-8"),
    ] {
        let name = path.display().to_string();
        check(&error(File(path), &name, "", &[reading], remedy));
    }
    let told = problems(&Document("eventBus:\n  type: [nats\n"));
    assert!(told[0].origin.to_string().starts_with("c:"), "{told:?}");
    assert!(told[0].message.contains("not valid YAML"), "{told:?}");
    check(&error(
        Document("eventBus: {type: a, type: b}"),
        "c:1:21",
        "",
        &["duplicate mapping key: type"],
        "correct it",
    ));
    check(&error(
        Document("eventBus:\n  nats: {client: {nmae: a}}\n"),
        "c:2:19",
        "eventBus.nats.client.nmae",
        &["unknown key"],
        "`name`",
    ));
}

#[test]
fn kinds_of_bus() {
    let unknown: &[&str] = &["unknown type `nat`"];
    let remedy = "did you mean `nats`? valid: local, nats";
    let given = Document("eventBus:\n  type: nat\n");
    check(&error(given, "c:2:9", TYPE, unknown, remedy));
    let variable = "BINDPLANE_EVENT_BUS_TYPE";
    let given = Variable("eventBus: {}", variable, "nat");
    check(&error(given, variable, TYPE, unknown, remedy));
    let given = Flag("eventBus: {}", "event-bus-type", "nat");
    check(&error(given, "--event-bus-type", TYPE, unknown, remedy));
    for foreign in ["kafka", "googlePubSub", "azure"] {
        let text = format!("eventBus: {{type: {foreign}, {foreign}: {{topic: x}}}}");
        let says = format!("`{foreign}` is not supported here");
        check(&error(
            Document(&text),
            "c:1:18",
            TYPE,
            &[&says],
            "valid: local, nats",
        ));
    }
    check(&error(
        Document("eventBus: {type: nats}"),
        "c:1:18",
        TYPE,
        &["is `nats`", "must be filled out"],
        "eventBus.nats.server.enable",
    ));
    check(&warning(
        Document("eventBus: {nats: {server: {enable: true}}}"),
        "c:1:36",
        "eventBus.nats.server.enable",
        &["has no effect"],
        "set eventBus.type to `nats`",
    ));
}

#[test]
fn ports_and_durations_and_numbers() {
    for section in ["client", "http", "cluster"] {
        let option = format!("eventBus.nats.server.{section}.port");
        let variable = format!("BINDPLANE_NATS_SERVER_{}_PORT", section.to_uppercase());
        let flag = format!("nats-server-{section}-port");
        let dashed = format!("--{flag}");
        for (value, says) in [
            ("eight", "port must be an integer, not `eight`"),
            ("4222.5", "port must be an integer, not `4222.5`"),
            ("0", "port must be between 1 and 65535, not 0"),
            ("65536", "port must be between 1 and 65535, not 65536"),
        ] {
            let text = format!(
                "eventBus:\n  nats:\n    server:\n      {section}:\n        port: {value}\n"
            );
            let remedy = if says.contains("integer") {
                "between 1 and 65535"
            } else {
                "free on this host"
            };
            check(&error(Document(&text), "c:5:15", &option, &[says], remedy));
            let given = Variable("eventBus: {}", &variable, value);
            check(&error(given, &variable, &option, &[says], remedy));
            let given = Flag("eventBus: {}", &flag, value);
            check(&error(given, &dashed, &option, &[says], remedy));
        }
    }
    let hosts = "eventBus.health.requiredHosts";
    for value in ["0", "-1", "two"] {
        let text = format!("eventBus: {{health: {{requiredHosts: {value}}}}}");
        let says = format!("`{value}` is not a whole number of 1 or more");
        check(&error(Document(&text), "c:1:36", hosts, &[&says], "`2`"));
    }
    let interval = "eventBus.health.interval";
    for value in ["15", "soon", "0s", "5ms"] {
        let text = format!("eventBus: {{health: {{interval: {value}}}}}");
        let says = format!("`{value}`");
        check(&error(
            Document(&text),
            "c:1:31",
            interval,
            &[&says],
            "`15s`",
        ));
    }
    let enable = "eventBus.nats.server.enable";
    check(&error(
        Variable("eventBus: {}", "BINDPLANE_NATS_SERVER_ENABLE", "on"),
        "BINDPLANE_NATS_SERVER_ENABLE",
        enable,
        &["`on` is neither true nor false"],
        "`true` or `false`",
    ));
}

#[test]
fn addresses() {
    for (value, says) in [
        ("localhost:4222", "has no scheme"),
        ("http://localhost:4222", "scheme `http` is invalid"),
        ("tls://localhost:4222", "valid schemes are nats"),
        ("nats://localhost", "has no port"),
        ("nats://:4222", "has no host"),
        ("nats://localhost:http", "not between 1 and 65535"),
        ("nats://a:1,nats://b:1", "more than one address"),
        ("nats://me:secret@a:1", "a user or password before `a:1`"),
    ] {
        let text = format!("eventBus:\n  nats:\n    client:\n      endpoint: '{value}'\n");
        let told = problems(&Document(&text));
        assert!(told[0].to_string().contains(says), "{told:?}");
        assert!(!told[0].to_string().contains("secret"), "{told:?}");
        check(&error(
            Document(&text),
            "c:4:17",
            ENDPOINT,
            &[],
            "nats://host:port",
        ));
        let variable = "BINDPLANE_NATS_CLIENT_ENDPOINT";
        let given = Variable("eventBus: {}", variable, value);
        check(&error(given, variable, ENDPOINT, &[], "nats://host:port"));
    }
    for (value, says) in [
        ("bindplane-0:6222", "has no scheme"),
        ("https://bindplane-0:6222", "scheme `https` is invalid"),
        ("nats://bindplane-0", "has no port"),
        ("nats-route://:6222", "has no host"),
    ] {
        let text = format!(
            "eventBus:\n  nats:\n    server:\n      cluster:\n        routes:\n          - nats://good:1\n          \
             - {value}\n"
        );
        check(&error(
            Document(&text),
            "c:7:13",
            ROUTES,
            &[value, says],
            "nats://host:port",
        ));
        let flag = "nats-server-cluster-routes";
        let given = Flag("eventBus: {}", flag, value);
        let dashed = format!("--{flag}");
        check(&error(
            given,
            &dashed,
            ROUTES,
            &[value, says],
            "nats://host:port",
        ));
    }
    for scheme in ["nats", "nats-route", "tls"] {
        let text =
            format!("eventBus: {{nats: {{server: {{cluster: {{routes: ['{scheme}://a:1']}}}}}}}}");
        assert_eq!(problems(&Document(&text)), [], "{scheme}");
    }
    for (value, says) in [
        ("nats://a:6222", "must not have a scheme"),
        ("bindplane-0", "has no port"),
        (":6222", "has no host"),
    ] {
        let text = format!("eventBus: {{nats: {{server: {{cluster: {{advertise: '{value}'}}}}}}}}");
        check(&error(
            Document(&text),
            "c:1:49",
            ADVERTISE,
            &[value, says],
            "host:port",
        ));
    }
}

#[test]
fn names_and_subjects() {
    for (value, says, remedy) in [
        ("", "must not be empty", "default"),
        ("a b", "must not contain spaces", "dots or dashes"),
        ("a..b", "has an empty part", "dots stand between words"),
        ("a.*", "has a wildcard", "literal"),
        ("a.>", "has a wildcard", "literal"),
    ] {
        let text = format!("eventBus: {{nats: {{client: {{subject: '{value}'}}}}}}");
        check(&error(
            Document(&text),
            "c:1:37",
            SUBJECT,
            &[value, says],
            remedy,
        ));
    }
    for (section, column) in [("client", 34), ("server", 34)] {
        let text = format!("eventBus: {{nats: {{{section}: {{name: 'a b'}}}}}}");
        check(&error(
            Document(&text),
            &format!("c:1:{column}"),
            &format!("eventBus.nats.{section}.name"),
            &["`a b` must not contain spaces"],
            "dash",
        ));
    }
    check(&error(
        Flag("eventBus: {}", "nats-server-cluster-name", "my cluster"),
        "--nats-server-cluster-name",
        "eventBus.nats.server.cluster.name",
        &["`my cluster` must not contain spaces"],
        "dash",
    ));
}

#[test]
fn what_does_not_fit_together() {
    check(&warning(
        Document(
            "eventBus:\n  type: nats\n  nats:\n    server:\n      enable: true\n      cluster:\n        routes: \
             [nats://10.0.0.1:6222]\n",
        ),
        "c:7:17",
        CLUSTER_HOST,
        &["is `localhost`", "`nats://10.0.0.1:6222`"],
        "`0.0.0.0`",
    ));
    let thrice = "eventBus: {nats: {server: {cluster: {routes: ['nats://a:1', 'nats://b:1', 'nats://a:1']}}}}";
    check(&warning(
        Document(thrice),
        "c:1:75",
        ROUTES,
        &["`nats://a:1` is listed twice"],
        "one of them is left out",
    ));
    let loaded = Settings::from_yaml(thrice, "c").expect("a warning");
    assert_eq!(loaded.settings.nats.server.cluster.routes.len(), 2);
    check(&error(
        Document(
            "eventBus:\n  type: nats\n  nats:\n    server:\n      enable: true\n      http: {port: 6222}\n",
        ),
        "c:6:20",
        "eventBus.nats.server.http.port",
        &["port 6222 is also that of eventBus.nats.server.cluster.port"],
        "change one of the two",
    ));
    check(&error(
        Document("eventBus: {type: nats, nats: {client: {endpoint: 'inproc:'}}}"),
        "c:1:50",
        ENDPOINT,
        &["`inproc:` is the embedded server, and none is enabled"],
        "set eventBus.nats.server.enable to true",
    ));
}

#[tokio::test]
async fn a_port_in_use_stops_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    for section in ["client", "http", "cluster"] {
        let mut settings = Settings {
            transport: natterjack_bus::settings::TransportKind::Nats,
            ..Settings::default()
        };
        settings.nats.server = natterjack_bus::settings::Server::on_free_ports();
        let server = &mut settings.nats.server;
        match section {
            "client" => server.client.port = port,
            "http" => server.http.port = port,
            _ => server.cluster.listen.port = port,
        }
        let Err(told) = EventBus::<Note>::start(settings).await else {
            panic!("{section}: it started");
        };
        assert!(matches!(told, StartError::PortInUse { .. }), "{told}");
        let text = told.to_string();
        for part in [
            &*format!("eventBus.nats.server.{section}.port"),
            &port.to_string(),
            "set another port",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

/// A document with TLS, whose options stand in lines 6 and following.
fn tls(keys: &str) -> String {
    format!(
        "eventBus:\n  type: nats\n  nats:\n    client: {{name: a}}\n    tls:\n      enableTLS: true\n{keys}"
    )
}

const CERT: &str = "eventBus.nats.tls.tlsCert";
const KEY: &str = "eventBus.nats.tls.tlsKey";
const CA: &str = "eventBus.nats.tls.tlsCA";

#[test]
fn files_of_tls() {
    let (pond, lake) = (Authority::new("pond"), Authority::new("lake"));
    let nothing = |_: &mut CertificateParams| {};
    let files = |authority: &Authority, name: &str, change: &dyn Fn(&mut CertificateParams)| {
        let tls = authority.tls(name, change);
        let path = |path: Option<std::path::PathBuf>| path.expect("made").display().to_string();
        (path(tls.certificate), path(tls.key))
    };
    let ca = pond.path("ca.crt").display().to_string();
    let other_ca = lake.path("ca.crt").display().to_string();
    let (cert, key) = files(&pond, "good", &nothing);
    let three = |cert: &str, key: &str, ca: &str| {
        tls(&format!(
            "      tlsCert: {cert}\n      tlsKey: {key}\n      tlsCA: [{ca}]\n"
        ))
    };
    assert_eq!(problems(&Document(&three(&cert, &key, &ca))), []);

    // What is not given.
    let text = tls(&format!("      tlsKey: {key}\n      tlsCA: {ca}\n"));
    let says: &[&str] = &["must be set when tlsKey is set"];
    check(&error(
        Document(&text),
        "c:7:15",
        CERT,
        says,
        "this node's certificate",
    ));
    let text = tls(&format!("      tlsCert: {cert}\n      tlsCA: {ca}\n"));
    let says: &[&str] = &["must be set when tlsCert is set"];
    check(&error(Document(&text), "c:7:16", KEY, says, "private key"));
    let text = tls(&format!("      tlsCert: {cert}\n      tlsKey: {key}\n"));
    let says: &[&str] = &[
        "is required with TLS",
        "everybody's certificate is verified",
    ];
    check(&error(Document(&text), "c:6:18", CA, says, "the authority"));
    let text = format!(
        "eventBus: {{type: nats, nats: {{client: {{name: a}}, tls: {{tlsCert: {cert}}}}}}}"
    );
    let says: &[&str] = &["TLS is not enabled: all connections are in plain text"];
    check(&warning(
        Document(&text),
        "c:1:65",
        CERT,
        says,
        "enableTLS to true",
    ));

    // What is not there, or something else.
    let gone = pond.path("gone").display().to_string();
    let lookup = |what: &str| format!("failed to lookup {what} file {gone}");
    for (text, source, option, what) in [
        (three(&gone, &key, &ca), "c:7:16", CERT, "tls certificate"),
        (three(&cert, &gone, &ca), "c:8:15", KEY, "private key"),
        (
            three(&cert, &key, &gone),
            "c:9:14",
            CA,
            "certificate authority",
        ),
    ] {
        let says = lookup(what);
        check(&error(
            Document(&text),
            source,
            option,
            &[&says],
            "check the path",
        ));
    }
    let text = three(&cert, &key, &key);
    let says: &[&str] = &[&key, "no certificate inside"];
    check(&error(
        Document(&text),
        "c:9:14",
        CA,
        says,
        "it holds a private key",
    ));
    let (_, other_key) = files(&pond, "other", &nothing);
    let text = three(&cert, &other_key, &ca);
    let says: &[&str] = &[&other_key, "is not the key of", &cert];
    check(&error(
        Document(&text),
        "c:8:15",
        KEY,
        says,
        "made together",
    ));

    // What nobody would believe.
    let (old, old_key) = files(&pond, "old", &|params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let text = three(&old, &old_key, &ca);
    let says: &[&str] = &[&old, "it expired on 2020-01-01"];
    check(&error(Document(&text), "c:7:16", CERT, says, "renew it"));
    let (early, early_key) = files(&pond, "early", &|params| {
        params.not_before = date_time_ymd(4000, 1, 1);
        params.not_after = date_time_ymd(4001, 1, 1);
    });
    let text = three(&early, &early_key, &ca);
    let says: &[&str] = &[&early, "it is valid from 4000-01-01 on"];
    check(&error(Document(&text), "c:7:16", CERT, says, "clocks"));
    let serving = |text: String| {
        text.replace(
            "    client: {name: a}\n",
            "    client: {name: a}\n    server: {enable: true}\n",
        )
    };
    for (name, usage, missing) in [
        (
            "as-client",
            ExtendedKeyUsagePurpose::ClientAuth,
            "serverAuth",
        ),
        (
            "as-server",
            ExtendedKeyUsagePurpose::ServerAuth,
            "clientAuth",
        ),
    ] {
        let (cert, key) = files(&pond, name, &|params| {
            params.extended_key_usages = vec![usage.clone()];
        });
        let text = serving(three(&cert, &key, &ca));
        let missing = format!("does not have {missing}");
        let says: &[&str] = &[&cert, &missing];
        check(&error(
            Document(&text),
            "c:8:16",
            CERT,
            says,
            "serverAuth and clientAuth",
        ));
    }
    let (nameless, nameless_key) = files(&pond, "nameless", &|params| {
        params.subject_alt_names.clear()
    });
    let text = serving(three(&nameless, &nameless_key, &ca));
    let says: &[&str] = &[&nameless, "it does not name `localhost`", ENDPOINT];
    check(&error(
        Document(&text),
        "c:8:16",
        CERT,
        says,
        "natterjack certs node --host localhost",
    ));
    let text = serving(three(&cert, &key, &other_ca));
    let says: &[&str] = &[
        "it comes from `CN=pond`",
        "none of the authorities: CN=lake",
    ];
    check(&error(
        Document(&text),
        "c:8:16",
        CERT,
        says,
        "certificates of the same authority",
    ));

    // What works, and is dangerous.
    let text = three(&cert, &key, &ca) + "      tlsSkipVerify: true\n";
    check(&warning(
        Document(&text),
        "c:10:22",
        "eventBus.nats.tls.tlsSkipVerify",
        &["whoever answers is believed"],
        "for tests only",
    ));
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
    let text = three(&cert, &key, &ca);
    let remedy = format!("chmod 600 {key}");
    check(&warning(
        Document(&text),
        "c:8:15",
        KEY,
        &[&key, "(mode 0640)"],
        &remedy,
    ));
}

/// Whatever is wrong with the values, the files and what fits together, one look shows it.
#[test]
fn all_at_once() {
    let text = "
eventBus:
  type: nats
  nats:
    client: {name: a, endpoint: 'h:1'}
    server:
      enable: true
      client: {port: x}
      http: {port: 6222}
      cluster: {port: 6222, routes: ['nats://10.0.0.1:1']}
    tls: {enableTLS: true, tlsCert: /no/cert, tlsKey: /no/key, tlsCA: /no/ca}
  health: {interval: soon}
";
    let sources = Sources::new()
        .text("c", text)
        .variables("BINDPLANE", [("BINDPLANE_NATS_CLIENT_SUBJECT", "a.*")])
        .flag("event-bus-health-required-hosts", "none");
    let Err(Problems(told)) = Settings::load(&sources) else {
        panic!("it was taken");
    };
    let told: Vec<_> = told
        .iter()
        .map(|problem| (problem.origin.to_string(), &*problem.option))
        .collect();
    let told: Vec<_> = told
        .iter()
        .map(|(origin, option)| (&**origin, *option))
        .collect();
    assert_eq!(
        told,
        [
            ("c:5:33", ENDPOINT),
            ("c:8:22", "eventBus.nats.server.client.port"),
            ("c:10:23", "eventBus.nats.server.cluster.port"),
            ("c:10:37", CLUSTER_HOST),
            ("c:11:37", CERT),
            ("c:11:55", KEY),
            ("c:11:71", CA),
            ("c:12:22", "eventBus.health.interval"),
            ("BINDPLANE_NATS_CLIENT_SUBJECT", SUBJECT),
            (
                "--event-bus-health-required-hosts",
                "eventBus.health.requiredHosts"
            ),
        ]
    );
}

/// What could not be read is not taken for what it would be by default.
#[test]
fn nothing_follows_from_a_slip() {
    for text in [
        "eventBus: {type: nats, nats: {client: {endpoint: 'inproc:'}, sever: {enable: true}}}",
        "eventBus: {type: nats, nats: {client: {endpoint: 'inproc:'}, server: {enable: ja}}}",
        "eventBus: {type: nat, nats: {server: {enable: true}}}",
        "eventBus: {typ: nats, nats: {server: {enable: true}}}",
        "eventBus: {type: nats, natz: {server: {enable: true}}}",
        "eventBus: {type: nats, nats: {server: {enable: true, client: {port: x}, http: {port: 4222}}}}",
        "eventBus: {type: nats, nats: {client: {name: a}, tls: {enableTLS: nein, tlsCA: a}}}",
    ] {
        let told = problems(&Document(text));
        assert_eq!(told.len(), 1, "{text}: {told:#?}");
    }
}
