//! Options: the cases of `options/`, each judged by nats-server (`-t`) and by our reader of configurations. Both must accept
//! or refuse it; where we judge differently on purpose the case says so with the reason, and both judgements are checked.
//! And the files of `examples/nats-conf/`, which both must accept. And options by their effect: both servers are started,
//! and their monitoring must show the same values. And what a reload takes.
//!
//! ```text
//! == a name                          begins a case
//! accepted                           both accept
//! refused                            both refuse
//! warned                             both refuse because of a warning; without -t both would start
//! only nats-server accepts: reason
//! only natterjack accepts: reason
//! says: text                         what our first complaint says
//! ```
//!
//! Everything else is the file. `$DIR` in it stands for a folder with `cert.pem`, `key.pem` and `ca.pem`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use natterjack_conf::EmptyEnvironment;
use natterjack_server::configuration::{Configuration, Flags, Loaded};
use testkit::programs;
use testkit::{Config, HttpAnswer, Kind, Listener, Program, ServerUnderTest};

use crate::trial;

/// For a verdict. It takes some hundredths of a second.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn trials() -> Vec<Trial> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut trials = Vec::new();
    for file in files(&root.join("options")) {
        let text = fs::read_to_string(&file).expect("a listed file can be read");
        let theme = stem(&file);
        for case in Case::parse_all(&text) {
            let name = format!("options::{theme}::{}", case.name.replace(' ', "_"));
            trials.push(trial(
                name,
                [programs::nats_server().map(drop)],
                move || {
                    judge(&case);
                },
            ));
        }
    }
    for file in files(&root.join("../examples/nats-conf")) {
        let name = format!("options::example::{}", stem(&file));
        trials.push(trial(
            name,
            [programs::nats_server().map(drop)],
            move || {
                let text = fs::read_to_string(&file).expect("a listed file can be read");
                let folder = folder();
                let written = write(folder.path(), &text);
                let (accepts, output) = reference(&written);
                assert!(accepts, "nats-server refuses: {output}");
                let ours = ours(&written);
                assert!(
                    complaints(&ours).is_empty(),
                    "{}",
                    complaints(&ours).concat()
                );
                explained(folder.path(), &ours);
            },
        ));
    }
    for (index, text) in VALUES.iter().enumerate() {
        let needs = Kind::ALL.map(|kind| kind.program().map(drop));
        trials.push(trial(format!("options::values::{index}"), needs, || {
            compare_values(text);
        }));
    }
    for (old, new, expected) in RELOADS {
        let needs = Kind::ALL.map(|kind| kind.program().map(drop));
        let name = if new.is_empty() { "without_tls" } else { new };
        let name: String = name
            .chars()
            .take(60)
            .map(|letter| {
                if letter.is_alphanumeric() {
                    letter
                } else {
                    '_'
                }
            })
            .collect();
        trials.push(trial(format!("options::reload::{name}"), needs, || {
            reload(old, new, *expected);
        }));
    }
    trials
}

/// Who takes a new value without a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Both,
    None,
    /// What follows is the reason why we can.
    OnlyOurs(&'static str),
}

const BOUND: Takes = Takes::OnlyOurs("sessions go by new bounds at once");
const PAIR: &str = "cert_file: \"$DIR/cert.pem\", key_file: \"$DIR/key.pem\"";
/// Without a port: with -1, whether nats-server takes a reload depends on whether its listener was up already.
const CLUSTER: &str = "cluster { name: c, host: 127.0.0.1 }";

/// A configuration, what it becomes, and who takes it. `PAIR` stands for a certificate and its key.
const RELOADS: &[(&str, &str, Takes)] = &[
    ("", "max_subscriptions: 6", BOUND),
    ("", "max_subscription_tokens: 5", BOUND),
    ("", "max_pending: 128MB", BOUND),
    ("", "max_payload: 2KB", Takes::Both),
    ("", "max_connections: 5", Takes::Both),
    ("", "max_control_line: 2KB", Takes::Both),
    ("", "max_closed_clients: 5", BOUND),
    ("", "max_traced_msg_len: 5", Takes::Both),
    ("", "server_name: b", Takes::None),
    ("", "server_tags: [a]", Takes::Both),
    ("", "server_metadata { a: b }", Takes::Both),
    ("", "client_advertise: \"h:1\"", Takes::Both),
    ("", "write_deadline: \"3s\"", Takes::Both),
    ("", "write_timeout: retry", BOUND),
    ("", "no_header_support: true", Takes::None),
    ("", "no_fast_producer_stall: true", Takes::Both),
    ("", "ping_interval: \"3s\"", Takes::Both),
    ("", "ping_max: 5", Takes::Both),
    (
        "",
        "lame_duck_duration: \"40s\"",
        Takes::OnlyOurs("it is looked at when the time has come"),
    ),
    (
        "",
        "disable_sublist_cache: true",
        Takes::OnlyOurs("it has no effect"),
    ),
    (
        "",
        "log_size_limit: 1MB",
        Takes::OnlyOurs("the log changes while it runs"),
    ),
    ("", "debug: true", Takes::Both),
    ("", "logtime: false, logtime_utc: true", Takes::Both),
    ("", "connect_error_reports: 5", Takes::Both),
    ("", "http_port: -1", Takes::None),
    ("", "http_base_path: /x", Takes::None),
    ("", "authorization { token: x }", Takes::Both),
    (
        "",
        "accounts { A { users: [ {user: a, password: b} ] } }",
        Takes::Both,
    ),
    (
        "authorization { users: [ {user: a, password: b} ] }",
        "authorization { users: [ {user: a, password: b} ] }
        no_auth_user: a",
        Takes::None,
    ),
    (
        "accounts { S {} }",
        "accounts { S {} }, system_account: S",
        Takes::None,
    ),
    ("", "tls { PAIR }", Takes::Both),
    ("tls { PAIR }", "", Takes::Both),
    (
        "tls { PAIR }",
        "tls { PAIR, timeout: 4, handshake_first: true }",
        Takes::Both,
    ),
    (
        "tls { PAIR }",
        "tls { PAIR, connection_rate_limit: 5 }",
        Takes::None,
    ),
    (
        "tls { PAIR }",
        "tls { PAIR }, allow_non_tls: true",
        Takes::None,
    ),
    (
        "tls { PAIR, ca_file: \"$DIR/ca.pem\", verify: true }",
        "tls { PAIR, ca_file: \"$DIR/ca.pem\", verify_and_map: true }",
        Takes::None,
    ),
    (CLUSTER, "cluster { name: d, host: 127.0.0.1 }", Takes::Both),
    (
        "cluster { name: c, host: 127.0.0.1, port: -1 }",
        "cluster { name: c, host: localhost, port: -1 }",
        Takes::None,
    ),
    (
        CLUSTER,
        "cluster { name: c, host: 127.0.0.1, pool_size: 5, compression: s2_fast, no_advertise: true }",
        Takes::Both,
    ),
    (
        CLUSTER,
        "cluster { name: c, host: 127.0.0.1, ping_interval: \"3s\", write_timeout: close
        authorization { user: a, password: b } }",
        Takes::Both,
    ),
    ("", CLUSTER, Takes::None),
];

fn reload(old: &str, new: &str, expected: Takes) {
    let folder = folder();
    let folder = folder.path().to_str().expect("a plain path");
    let fill = |text: &str| text.replace("PAIR", PAIR).replace("$DIR", folder);
    let [reference, ours] = Kind::ALL.map(|kind| {
        let mut server = ServerUnderTest::start(kind, &Config::file(fill(old)));
        server.reload(&fill(new))
    });
    let is_taken = |line: &str| line.contains("Reloaded server configuration");
    let found = match (is_taken(&reference), is_taken(&ours), expected) {
        (true, true, _) => Takes::Both,
        (false, false, _) => Takes::None,
        (false, true, Takes::OnlyOurs(_)) => expected,
        _ => panic!("nats-server: {reference}\nours: {ours}"),
    };
    assert_eq!(found, expected, "nats-server: {reference}\nours: {ours}");
}

/// Configurations whose values must arrive. Aliases, units and zeros are what they are about.
const VALUES: &[&str] = &[
    "",
    "max_payload: 0, max_pending: 0, max_control_line: 0, ping_max: 0, ping_interval: \"0s\"",
    "max_conn: 12, max_payload: 64k, max_pending: 1MB, max_control_line: 2KB, ping_interval: \"1m30s\", ping_max: 5",
    "max_subs: 7, write_deadline: 3, write_timeout: retry, ping_interval: 45",
    "server_tags: \"a:b\", server_metadata { k: v }",
    "SERVER_TAGS: [X, \" y:Z \", x, \"d,E\"], Max_Payload: 8MB, MAX_PENDING: 8MiB",
    "authorization { token: t }",
    "authorization { user: u, pass: p, timeout: 0.5 }",
    "authorization { username: u, password: p, timeout: \"1m\" }",
    "tls { cert_file: \"$DIR/cert.pem\", key_file: \"$DIR/key.pem\", timeout: \"4s\" }",
    "tls { cert_file: \"$DIR/cert.pem\", key_file: \"$DIR/key.pem\", ca_file: \"$DIR/ca.pem\", verify: true }",
    "tls { certs: [{cert_file: \"$DIR/cert.pem\", key_file: \"$DIR/key.pem\"}] }, allow_non_tls: true",
    "cluster { name: c, port: -1, routes: [] }",
    "cluster { name: c, listen: \"127.0.0.1:-1\", authorization { user: a, password: b, timeout: 1.5 }
       pool_size: 5, ping_interval: \"10s\", ping_max: 4, write_deadline: \"3s\", write_timeout: close }",
    "cluster { name: c, host: 127.0.0.1, port: -1, compression: true, no_advertise: true, connect_retries: 3 }",
];

/// What `/varz` shows of options. Times and addresses of a process are not among them.
const SHOWN: &[&str] = &[
    "proto",
    "host",
    "auth_required",
    "tls_required",
    "tls_verify",
    "max_connections",
    "max_subscriptions",
    "ping_interval",
    "ping_max",
    "http_host",
    "http_base_path",
    "auth_timeout",
    "max_control_line",
    "max_payload",
    "max_pending",
    "tls_timeout",
    "write_deadline",
    "write_timeout",
    "tags",
    "metadata",
    "system_account",
];

fn compare_values(text: &str) {
    let folder = folder();
    let folder = folder.path().to_str().expect("a plain path");
    let text = format!("{}\nhttp: \"127.0.0.1:-1\"\n", text.replace("$DIR", folder));
    let [reference, ours] = Kind::ALL.map(|kind| {
        let server = ServerUnderTest::start(kind, &Config::file(text.as_str()));
        HttpAnswer::get(server.listener(Listener::Monitor), "/varz").json()
    });
    for name in SHOWN {
        assert_eq!(
            ours[name], reference[name],
            "{name}, nats-server's on the right; {text}"
        );
    }
    let cluster = |varz: &serde_json::Value| {
        let mut cluster = varz["cluster"].clone();
        if let Some(fields) = cluster.as_object_mut() {
            fields.remove("cluster_port");
        }
        cluster
    };
    assert_eq!(cluster(&ours), cluster(&reference), "cluster; {text}");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "txt" || end == "conf")
        })
        .collect();
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().expect("listed files have names");
    stem.to_string_lossy().into_owned()
}

struct Case {
    name: String,
    text: String,
    expected: Expected,
    says: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Accepted,
    Refused,
    Warned,
    OnlyReference,
    OnlyOurs,
}

impl Case {
    fn parse_all(text: &str) -> Vec<Self> {
        let text = format!("\n{text}");
        let blocks = text.split("\n== ").skip(1);
        blocks.map(Self::parse).collect()
    }

    fn parse(block: &str) -> Self {
        let mut lines = block.lines();
        let name = lines.next().unwrap_or_default().to_owned();
        let verdict = lines.next().unwrap_or_default();
        let expected = match verdict {
            "accepted" => Expected::Accepted,
            "refused" => Expected::Refused,
            "warned" => Expected::Warned,
            other => match other.split_once(": ") {
                Some(("only nats-server accepts", _)) => Expected::OnlyReference,
                Some(("only natterjack accepts", _)) => Expected::OnlyOurs,
                _ => panic!("{name}: {other:?} is no verdict, or gives no reason"),
            },
        };
        let mut says = None;
        let mut text = String::new();
        for line in lines {
            match line.strip_prefix("says: ") {
                Some(expected) => says = Some(expected.to_owned()),
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        Self {
            name,
            text,
            expected,
            says,
        }
    }
}

fn judge(case: &Case) {
    let folder = folder();
    let file = write(folder.path(), &case.text);
    let (reference, output) = reference(&file);
    let ours = ours(&file);
    let complaints = complaints(&ours);
    let found = match (reference, complaints.is_empty(), ours.is_valid()) {
        (true, true, _) => Expected::Accepted,
        (true, false, _) => Expected::OnlyReference,
        (false, true, _) => Expected::OnlyOurs,
        (false, false, true) => Expected::Warned,
        (false, false, false) => Expected::Refused,
    };
    let complaints = complaints.concat();
    if found == Expected::Accepted {
        explained(folder.path(), &ours);
    }
    assert_eq!(
        found, case.expected,
        "nats-server: {output}\nours: {complaints}"
    );
    if let Some(says) = &case.says {
        assert!(
            complaints.contains(says),
            "{says:?} is not in: {complaints}"
        );
    }
}

/// What is in force can be written into a file for either server.
fn explained(folder: &Path, ours: &Loaded) {
    let text = ours.explain();
    let (accepts, output) = reference(&write(folder, &text));
    assert!(accepts, "nats-server refuses: {output}\n{text}");
}

/// What refuses a configuration under `-t`.
fn complaints(loaded: &Loaded) -> Vec<String> {
    let complaints = loaded.errors().chain(loaded.warnings());
    complaints
        .map(|complaint| loaded.render(complaint))
        .collect()
}

fn reference(file: &Path) -> (bool, String) {
    let program = programs::nats_server().expect("this test needs it");
    let mut command = Command::new(program);
    command.arg("-t").arg("-c").arg(file).env_clear();
    let mut running = Program::spawn(&mut command).expect("the reference starts");
    let status = running
        .wait_for_exit(PATIENCE)
        .expect("the reference gives a verdict");
    (status.code() == Some(0), running.output())
}

fn ours(file: &Path) -> Loaded {
    Configuration::load(Some(file), &Flags::default(), &EmptyEnvironment)
}

fn write(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("case.conf");
    let folder = folder.to_str().expect("temporary folders have plain names");
    fs::write(&file, text.replace("$DIR", folder)).expect("a file in a folder of ours");
    file
}

/// A folder with a certificate that vouches for itself.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for a test");
    let key = rcgen::KeyPair::generate().expect("a key can be made");
    let mut parameters =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("localhost is a name");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = parameters.self_signed(&key).expect("it can sign");
    for (name, text) in [
        ("cert.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
        ("ca.pem", certificate.pem()),
    ] {
        fs::write(folder.path().join(name), text).expect("a file in a folder of ours");
    }
    folder
}
