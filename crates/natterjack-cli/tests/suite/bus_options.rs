//! Every option of the bus as an operator writes it, told by the command line: path, flag, variable, default, forms, and
//! what goes before what. The table is written down here once more, so that no name and no default changes unnoticed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{Ended, NATTERJACK, Running, run};

/// An option, and two values that are not its default, as they are shown.
struct Row {
    path: &'static str,
    /// The same without the level `tls`.
    flat: Option<&'static str>,
    flag: &'static str,
    variable: &'static str,
    /// `None`: there is none.
    default: Option<&'static str>,
    values: [&'static str; 2],
}

const fn row(
    path: &'static str,
    flag: &'static str,
    variable: &'static str,
    default: &'static str,
    values: [&'static str; 2],
) -> Row {
    Row {
        path,
        flat: None,
        flag,
        variable,
        default: Some(default),
        values,
    }
}

const fn tls(row: Row, flat: &'static str) -> Row {
    Row {
        flat: Some(flat),
        ..row
    }
}

const fn unset(row: Row) -> Row {
    Row {
        default: None,
        ..row
    }
}

/// Stands for this host's name.
const HOST: &str = "HOST";

#[rustfmt::skip]
static ROWS: [Row; 22] = [
    row("eventBus.type", "event-bus-type", "EVENT_BUS_TYPE", "local", ["nats", "local"]),
    row("eventBus.nats.client.name", "nats-client-name", "NATS_CLIENT_NAME", HOST, ["toad", "frog"]),
    unset(row("eventBus.nats.client.endpoint", "nats-client-endpoint", "NATS_CLIENT_ENDPOINT", "",
        ["nats://a:1", "nats://b:2"])),
    row("eventBus.nats.client.subject", "nats-client-subject", "NATS_CLIENT_SUBJECT", "bindplane-event-bus",
        ["a.b", "c"]),
    row("eventBus.nats.server.enable", "nats-server-enable", "NATS_SERVER_ENABLE", "false", ["true", "false"]),
    row("eventBus.nats.server.name", "nats-server-name", "NATS_SERVER_NAME", HOST, ["toad", "frog"]),
    row("eventBus.nats.server.client.host", "nats-server-client-host", "NATS_SERVER_CLIENT_HOST", "localhost",
        ["0.0.0.0", "::1"]),
    row("eventBus.nats.server.client.port", "nats-server-client-port", "NATS_SERVER_CLIENT_PORT", "4222", ["1", "65535"]),
    row("eventBus.nats.server.http.host", "nats-server-http-host", "NATS_SERVER_HTTP_HOST", "localhost",
        ["0.0.0.0", "pond"]),
    row("eventBus.nats.server.http.port", "nats-server-http-port", "NATS_SERVER_HTTP_PORT", "8222", ["1", "65535"]),
    row("eventBus.nats.server.cluster.name", "nats-server-cluster-name", "NATS_SERVER_CLUSTER_NAME", "bindplane",
        ["pond", "lake"]),
    row("eventBus.nats.server.cluster.host", "nats-server-cluster-host", "NATS_SERVER_CLUSTER_HOST", "localhost",
        ["0.0.0.0", "pond"]),
    row("eventBus.nats.server.cluster.port", "nats-server-cluster-port", "NATS_SERVER_CLUSTER_PORT", "6222",
        ["1", "65535"]),
    unset(row("eventBus.nats.server.cluster.advertise", "nats-server-cluster-advertise", "NATS_SERVER_CLUSTER_ADVERTISE",
        "", ["a:1", "b:2"])),
    unset(row("eventBus.nats.server.cluster.routes", "nats-server-cluster-routes", "NATS_SERVER_CLUSTER_ROUTES", "",
        ["nats://a:1", "tls://b:2"])),
    tls(row("eventBus.nats.tls.enableTLS", "nats-enable-tls", "NATS_ENABLE_TLS", "false", ["true", "false"]),
        "eventBus.nats.enableTLS"),
    tls(unset(row("eventBus.nats.tls.tlsCert", "nats-tls-cert", "NATS_TLS_CERT", "", ["/a.crt", "/b.crt"])),
        "eventBus.nats.tlsCert"),
    tls(unset(row("eventBus.nats.tls.tlsKey", "nats-tls-key", "NATS_TLS_KEY", "", ["/a.key", "/b.key"])),
        "eventBus.nats.tlsKey"),
    tls(unset(row("eventBus.nats.tls.tlsCA", "nats-tls-ca", "NATS_TLS_CA", "", ["/a.crt", "/b.crt"])),
        "eventBus.nats.tlsCa"),
    tls(row("eventBus.nats.tls.tlsSkipVerify", "nats-tls-skip-verify", "NATS_TLS_SKIP_VERIFY", "false",
        ["true", "false"]), "eventBus.nats.tlsSkipVerify"),
    row("eventBus.health.requiredHosts", "event-bus-health-required-hosts", "EVENT_BUS_HEALTH_REQUIRED_HOSTS", "1",
        ["2", "17"]),
    row("eventBus.health.interval", "event-bus-health-interval", "EVENT_BUS_HEALTH_INTERVAL", "15s", ["1h", "1m30s"]),
];

/// What is given to the command line.
#[derive(Default)]
struct Given {
    text: Option<String>,
    variables: Vec<(String, String)>,
    flags: Vec<String>,
}

impl Given {
    fn text(self, text: String) -> Self {
        Self {
            text: Some(text),
            ..self
        }
    }

    fn variable(mut self, row: &Row, value: &str) -> Self {
        let name = format!("BINDPLANE_{}", row.variable);
        self.variables.push((name, value.into()));
        self
    }

    fn flag(mut self, flag: String) -> Self {
        self.flags.push(flag);
        self
    }
}

/// Where files of tests are.
struct Place {
    folder: TempDir,
    /// What an option needs beside itself to be looked at for itself.
    with: BTreeMap<&'static str, Vec<(String, String)>>,
}

/// The values of an option, and where they come from.
type Shown = (Vec<String>, String);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let out = folder.path().display().to_string();
        for arguments in [
            &["certs", "ca", "--out", &out][..],
            &[
                "certs",
                "node",
                "--host",
                "a",
                "--out",
                &out,
                "--ca",
                &path("ca.crt"),
            ],
        ] {
            let ended = run(NATTERJACK, arguments, "");
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
        let files = [
            ("BINDPLANE_NATS_TLS_CERT", "nats.crt"),
            ("BINDPLANE_NATS_TLS_KEY", "nats.key"),
            ("BINDPLANE_NATS_TLS_CA", "ca.crt"),
        ];
        let files = files.map(|(name, file)| (name.to_owned(), path(file)));
        let server = ("BINDPLANE_NATS_SERVER_ENABLE".to_owned(), "true".to_owned());
        let with = BTreeMap::from([
            ("eventBus.type", vec![server]),
            ("eventBus.nats.tls.enableTLS", files.to_vec()),
        ]);
        Self { folder, with }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("bus.yaml")
    }

    fn check(&self, row: Option<&Row>, given: Given) -> Ended {
        let mut command = Command::new(NATTERJACK);
        command.args(["check", "--bus", "--explain"]);
        if let Some(text) = given.text {
            std::fs::write(self.path(), text).expect("a file");
            command.arg(self.path());
        }
        let with = row.and_then(|row| self.with.get(row.path));
        command
            .envs(with.into_iter().flatten().cloned())
            .envs(given.variables)
            .arg("--")
            .args(given.flags)
            .stdin(Stdio::null());
        Running::spawn(command).end()
    }

    #[track_caller]
    fn shown(&self, row: &Row, given: Given) -> Shown {
        let ended = self.check(Some(row), given);
        let mut explained = explained(&ended.stdout);
        let shown = explained.remove(row.path);
        shown.unwrap_or_else(|| panic!("{}: {ended:?}", row.path))
    }
}

/// The options of an explanation by their paths.
fn explained(text: &str) -> BTreeMap<String, Shown> {
    let mut options: BTreeMap<String, Shown> = BTreeMap::new();
    let mut open: Vec<&str> = Vec::new();
    let unquoted = |value: &str| value.trim().trim_matches('"').to_owned();
    for line in text.lines() {
        let body = line.trim_start();
        let depth = (line.len() - body.len()) / 2;
        let none = body
            .strip_prefix("# ")
            .and_then(|rest| rest.strip_suffix(": none"));
        if let Some(name) = none {
            open.truncate(depth);
            let path = [&open[..], &[name]].concat().join(".");
            options.insert(path, Shown::default());
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        if let Some(item) = body.strip_prefix("- ") {
            let (values, _) = options.get_mut(&open.join(".")).expect("it is of a list");
            values.push(unquoted(item));
            continue;
        }
        let (name, rest) = body.split_once(':').expect("a key");
        open.truncate(depth);
        open.push(name);
        let Some((value, origin)) = rest.split_once("# ") else {
            continue;
        };
        let value = unquoted(value);
        let values = Vec::from_iter((!value.is_empty()).then_some(value));
        options.insert(open.join("."), (values, origin.to_owned()));
    }
    options
}

/// A document with one option, each key in a line of its own, and where its value stands.
fn document(path: &str, value: &str) -> (String, String) {
    let mut text = String::new();
    let keys: Vec<&str> = path.split('.').collect();
    for (depth, key) in keys.iter().enumerate() {
        text += &format!("{}{key}:", "  ".repeat(depth));
        text += if depth + 1 == keys.len() { " " } else { "\n" };
    }
    let column = text.lines().last().map_or(0, str::len) + 1;
    text += &format!("{value}\n");
    (text, format!("{}:{column}", keys.len()))
}

fn yaml(value: &str) -> String {
    format!("'{value}'")
}

#[test]
fn options_without_a_source_have_their_defaults() {
    let place = Place::new();
    let ended = place.check(None, Given::default().text("eventBus: {}".into()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut explained = explained(&ended.stdout);
    let host = Command::new("uname")
        .arg("-n")
        .output()
        .expect("it is there");
    let host = String::from_utf8(host.stdout).expect("text");
    for row in &ROWS {
        let (values, origin) = explained.remove(row.path).expect(row.path);
        let default = match row.default {
            Some(HOST) => Some(host.trim()),
            default => default,
        };
        assert_eq!(values, Vec::from_iter(default), "{}", row.path);
        assert_eq!(origin, if default.is_some() { "default" } else { "" });
    }
    assert!(explained.is_empty(), "of no row: {explained:?}");
}

#[test]
fn each_option_has_a_path_a_variable_and_a_flag() {
    let place = Place::new();
    for row in &ROWS {
        let [value, other] = row.values;
        let one = |value: &str| vec![value.to_owned()];
        let file = place.path().display().to_string();
        for path in [Some(row.path), row.flat].into_iter().flatten() {
            let (text, at) = document(path, &yaml(value));
            let shown = place.shown(row, Given::default().text(text));
            assert_eq!(shown, (one(value), format!("{file}:{at}")), "{path}");
            // In any case, and after what is somebody else's.
            for changed in [path.to_uppercase(), path.to_lowercase()] {
                let (text, _) = document(&changed, &yaml(value));
                let text = format!("port: 3001\n{text}logging: {{output: file}}\n");
                let shown = place.shown(row, Given::default().text(text));
                assert_eq!(shown.0, one(value), "{changed}");
            }
        }
        // A flag goes before a variable, and that before the file.
        let (text, at) = document(row.path, &yaml(value));
        let in_file = || Given::default().text(text.clone());
        let variable = format!("BINDPLANE_{}", row.variable);
        let shown = place.shown(row, in_file().variable(row, other));
        assert_eq!(shown, (one(other), variable.clone()), "{}", row.path);
        let shown = place.shown(row, in_file().variable(row, ""));
        assert_eq!(shown, (one(value), format!("{file}:{at}")), "{}", row.path);
        let flag = format!("--{}", row.flag);
        let given = in_file()
            .variable(row, other)
            .flag(format!("{flag}={value}"));
        assert_eq!(place.shown(row, given), (one(value), flag.clone()));
        let shown = place.shown(row, Given::default().flag(format!("{flag}={value}")));
        assert_eq!(shown, (one(value), flag.clone()));
        let shown = place.shown(row, Given::default().variable(row, value));
        assert_eq!(shown, (one(value), variable), "{}", row.path);
    }
}

#[test]
fn a_key_that_is_nearly_one_is_told_which() {
    let place = Place::new();
    for row in &ROWS {
        let (keys, last) = row.path.rsplit_once('.').expect("none is at the top");
        // Two letters change their places.
        let mut letters: Vec<char> = last.chars().collect();
        let end = letters.len() - 1;
        letters.swap(end - 1, end);
        let slip: String = letters.into_iter().collect();
        let (text, _) = document(&format!("{keys}.{slip}"), &yaml(row.values[0]));
        let line = text.lines().count();
        let column = 2 * row.path.matches('.').count() + 1;
        let ended = place.check(None, Given::default().text(text));
        let place = place.path().display().to_string();
        let told = format!(
            "{place}:{line}:{column}: {keys}.{slip}: unknown key; did you mean `{last}`?\n"
        );
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(&told), "{told}{ended:?}");
    }
}

fn find(path: &str) -> &'static Row {
    ROWS.iter()
        .find(|row| row.path == path)
        .expect("it is in the table")
}

#[test]
fn forms_of_truth_values() {
    let place = Place::new();
    let row = find("eventBus.nats.server.enable");
    let shown = |given| place.shown(row, given).0;
    for (words, value) in [
        ("true True TRUE t T 1", "true"),
        ("false False FALSE f F 0", "false"),
    ] {
        for word in words.split(' ') {
            let flag = format!("--nats-server-enable={word}");
            assert_eq!(shown(Given::default().flag(flag)), [value], "{word}");
            assert_eq!(shown(Given::default().variable(row, word)), [value]);
            for written in [word.to_owned(), yaml(word)] {
                let (text, _) = document(row.path, &written);
                assert_eq!(shown(Given::default().text(text)), [value], "{written}");
            }
        }
    }
    let alone = Given::default().flag("--nats-server-enable".into());
    assert_eq!(shown(alone), ["true"]);
}

#[test]
fn forms_of_numbers_and_times() {
    let place = Place::new();
    let shown = |row, text| place.shown(row, Given::default().text(text)).0;
    for section in ["client", "http", "cluster"] {
        let row = find(&format!("eventBus.nats.server.{section}.port"));
        for written in ["4333", "'4333'", "\"4333\""] {
            assert_eq!(shown(row, document(row.path, written).0), ["4333"]);
        }
        let spaced = Given::default()
            .flag(format!("--{}", row.flag))
            .flag("4333".into());
        assert_eq!(place.shown(row, spaced).0, ["4333"]);
    }
    let row = find("eventBus.health.interval");
    for (written, value) in [
        ("15s", "15s"),
        ("1m0s", "1m"),
        ("1h", "1h"),
        ("90s", "1m30s"),
    ] {
        assert_eq!(shown(row, document(row.path, written).0), [value]);
        assert_eq!(
            place.shown(row, Given::default().variable(row, written)).0,
            [value]
        );
    }
}

#[test]
fn forms_of_lists() {
    let place = Place::new();
    for (path, [one, two]) in [
        (
            "eventBus.nats.server.cluster.routes",
            ["nats://a:1", "nats://b:2"],
        ),
        ("eventBus.nats.tls.tlsCA", ["/a.crt", "/b.crt"]),
    ] {
        let row = find(path);
        let shown = |given| place.shown(row, given).0;
        for written in [
            format!("[ '{one}', '{two}' ]"),
            format!("\n          - {one}\n          - {two}"),
            format!("'{one},{two}'"),
            format!("'{one} , {two}'"),
        ] {
            let (text, _) = document(path, &written);
            assert_eq!(shown(Given::default().text(text)), [one, two], "{written}");
        }
        let flag = |value: &str| format!("--{}={value}", row.flag);
        let joined = Given::default().flag(flag(&format!("{one},{two}")));
        assert_eq!(shown(joined), [one, two]);
        let repeated = Given::default().flag(flag(one)).flag(flag(two));
        assert_eq!(shown(repeated), [one, two]);
        let quoted = Given::default().flag(flag(&format!("\"{one}\",\"{two}\"")));
        assert_eq!(shown(quoted), [one, two]);
        let spaced = Given::default().variable(row, &format!(" {one} , {two} "));
        assert_eq!(shown(spaced), [one, two]);
        // Whoever goes before replaces the whole list.
        let (text, _) = document(path, &format!("[ '{one}', '{two}' ]"));
        let replaced = Given::default().text(text).variable(row, two);
        assert_eq!(shown(replaced), [two]);
    }
    let row = find("eventBus.nats.tls.tlsCA");
    let comma = Given::default().flag("--nats-tls-ca=\"/a,b.crt\",/c.crt".into());
    assert_eq!(place.shown(row, comma).0, ["/a,b.crt", "/c.crt"]);
}

/// The block on TLS as it is published, in its spelling, and the same without the level `tls`.
#[test]
fn the_published_block_on_tls_is_taken() {
    let place = Place::new();
    let published = "
eventBus:
  type: nats
  nats:
    tls:
      enableTLS: true
      tlsCert: /etc/bindplane/nats.crt
      tlsKey: /etc/bindplane/nats.key
      tlsCa: [ /etc/bindplane/ca.crt ]
";
    let here = format!("{}/", place.folder.path().display());
    let published = published.replace("/etc/bindplane/", &here);
    let flat = published
        .replace("    tls:\n", "")
        .replace("      ", "    ");
    assert_ne!(published, flat);
    for text in [published, flat] {
        let ended = place.check(None, Given::default().text(text));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stderr, "the settings are valid\n");
        let explained = explained(&ended.stdout);
        for (option, value) in [
            ("enableTLS", "true".to_owned()),
            ("tlsCert", format!("{here}nats.crt")),
            ("tlsKey", format!("{here}nats.key")),
            ("tlsCA", format!("{here}ca.crt")),
        ] {
            let (values, _) = &explained[&format!("eventBus.nats.tls.{option}")];
            assert_eq!(values, &[value], "{option}");
        }
    }
}
