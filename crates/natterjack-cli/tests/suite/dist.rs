//! What `dist/` has for Grafana and Prometheus speaks of metrics that there are: a dashboard that asks for another name
//! shows nothing, and an alert that does never comes.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use natterjack_bus::{EventBus, Settings};
use testkit::{Config, Kind, Listener, PATIENCE, ServerUnderTest, ask_until};

use crate::process::{NATTERJACK, run};

const FILES: [&str; 2] = [
    "dist/grafana/natterjack.json",
    "dist/prometheus/natterjack.rules.yml",
];

/// What names of metrics begin with, those of nats-server's exporter and our own.
const PREFIXES: [&str; 3] = ["gnatsd_", "natterjack_", "jetstream_"];

/// What a histogram's samples are called.
const HISTOGRAM: [&str; 3] = ["_bucket", "_sum", "_count"];

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
}

/// Names of what a page of metrics has, and of samples of its histograms.
fn names(page: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in page.lines() {
        let Some(declared) = line.strip_prefix("# TYPE ") else {
            continue;
        };
        let (name, kind) = declared.split_once(' ').expect("a name and a type");
        names.insert(name.to_owned());
        if kind == "histogram" {
            names.extend(HISTOGRAM.map(|suffix| format!("{name}{suffix}")));
        }
    }
    names
}

fn page(server: &ServerUnderTest) -> String {
    let address = server.listener(Listener::Monitor);
    let mut stream = TcpStream::connect(address).expect("monitoring listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let request = "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("a page");
    assert!(page.contains(" 200 OK\r\n"), "{page}");
    page
}

/// The page of a server that has a certificate and is connected with another one.
fn page_of_a_member() -> String {
    let folder = tempfile::tempdir().expect("a folder for a test");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (out, ca, certificate, key) =
        (file(""), file("ca.crt"), file("nats.crt"), file("nats.key"));
    let authority = ["certs", "ca", "--out", &out];
    let node = [
        "certs", "node", "--ca", &ca, "--out", &out, "--host", "here",
    ];
    for arguments in [&authority[..], &node] {
        let ended = run(NATTERJACK, arguments, "");
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let member = |routes: &str| {
        let text = format!(
            "http: \"127.0.0.1:-1\"\ntls {{ cert_file: \"{certificate}\", key_file: \"{key}\" }}\n\
             cluster {{ name: C, listen: \"127.0.0.1:-1\", {routes} }}\n"
        );
        ServerUnderTest::start(Kind::Natterjack, &Config::file(text))
    };
    let first = member("");
    let route = first.listener(Listener::Route);
    let _second = member(&format!("routes: [\"nats://{route}\"]"));
    ask_until(PATIENCE, || {
        let page = page(&first);
        (page.contains("\nnatterjack_route_rtt_seconds{")).then_some(page)
    })
    .expect("a connection with the other server")
}

#[tokio::test]
async fn dashboards_and_alerts_name_what_there_is() {
    let mut known = names(&page_of_a_member());
    let bus: EventBus<String> = EventBus::start(Settings::default())
        .await
        .expect("a bus by itself");
    known.extend(names(&bus.metrics().prometheus()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in FILES {
        let text = std::fs::read_to_string(root.join(file)).expect(file);
        let named: BTreeSet<_> = words(&text)
            .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
            .collect();
        assert!(named.len() > 5, "{file} names {named:?}");
        let unknown: Vec<_> = named
            .iter()
            .filter(|name| !known.contains(**name))
            .collect();
        assert!(
            unknown.is_empty(),
            "{file} asks for {unknown:?}, which nobody has"
        );
    }
}
