//! What the log of a node says when its server and another one refuse each other: why, and what to do.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{NATTERJACK, NATTERJACKD, Running, free_port, run};

/// A folder with an authority, and certificates from it.
struct Place(TempDir);

const BOTH: &str = "extendedKeyUsage=serverAuth,clientAuth\n";
const NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        for name in ["pond", "lake"] {
            place.certs(&["ca", "--name", name, "--out", name]);
        }
        place.certs(&["node", "--ca", "pond/ca.crt", "--host", "a"]);
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn certs(&self, arguments: &[&str]) {
        let mut command = Command::new(NATTERJACK);
        command
            .arg("certs")
            .args(arguments)
            .current_dir(self.path());
        let ended = Running::spawn(command).end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .stdin(std::process::Stdio::null())
            .current_dir(self.path())
            .output()
            .expect("OpenSSL is installed");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {told}");
    }

    /// The other server's certificate.
    fn peer(&self, authority: &str, extensions: &str, end: &str) {
        let settings = format!(
            "[ca]\ndefault_ca=here\n[here]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\n\
             policy=any\nx509_extensions=extensions\n[any]\ncommonName=supplied\n[extensions]\n{extensions}"
        );
        std::fs::write(self.path().join("ca.conf"), settings).expect("a file");
        std::fs::write(self.path().join("index"), "").expect("a file");
        self.openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=b -keyout b.key -out b.csr");
        self.openssl(&format!(
            "ca -batch -notext -config ca.conf -startdate 20200101000000Z -enddate {end} -cert {authority}/ca.crt \
             -keyfile {authority}/ca.key -in b.csr -out b.crt"
        ));
    }
}

/// Starts a node and another server, each of which dials the other, and has the node's log say all of this in one line.
fn told(place: &Place, cluster: &str, is_encrypted: bool, expected: &[&str]) {
    let [client, http, own, other, other_client] = [(); 5].map(|()| free_port());
    let folder = place.path().display();
    let tls = |name: &str| {
        if is_encrypted {
            format!(
                "tls {{ cert_file: \"{folder}/{name}.crt\", key_file: \"{folder}/{name}.key\", ca_file: \
                 \"{folder}/pond/ca.crt\", verify: true }}"
            )
        } else {
            String::new()
        }
    };
    let file = place.path().join("b.conf");
    let text = format!(
        "server_name: b\nlisten: \"127.0.0.1:{other_client}\"\ncluster {{ name: {cluster}, listen: \"127.0.0.1:{other}\", \
         routes: [\"nats://127.0.0.1:{own}\"]\n{} }}\n",
        tls("b")
    );
    std::fs::write(&file, text).expect("a file");
    let _other = Running::start(NATTERJACKD, &["-c", file.to_str().expect("text")]);
    let path = place.path().join("a.yaml");
    let tls = format!(
        "tls: {{enableTLS: {is_encrypted}, tlsCert: {folder}/nats.crt, tlsKey: {folder}/nats.key, tlsCA: \
         {folder}/pond/ca.crt}}"
    );
    let tls = if is_encrypted {
        tls
    } else {
        "tls: {}".to_owned()
    };
    let text = format!(
        "eventBus:\n  type: nats\n  nats:\n    client: {{name: a, endpoint: 'inproc:'}}\n    server:\n      enable: \
         true\n      name: a\n      client: {{host: 127.0.0.1, port: {client}}}\n      http: {{port: {http}}}\n      \
         cluster: {{name: pond, host: 127.0.0.1, port: {own}, routes: ['nats://127.0.0.1:{other}']}}\n    {tls}\n"
    );
    std::fs::write(&path, text).expect("a file");
    let mut node = Running::start(NATTERJACK, &["bus", "-c", path.to_str().expect("text")]);
    // It works all the same.
    node.send_line("1");
    node.stdout_line("\"data\":1}");
    let line = node.stderr_line(expected[0]);
    for part in expected {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
    node.signal("TERM");
    let ended = node.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // It is connected with its own server, and nobody says otherwise.
    assert!(!ended.stderr.contains("not connected"), "{ended:?}");
}

const LATER: &str = "20491231000000Z";

#[test]
fn another_authority() {
    let place = Place::new();
    place.peer("lake", &format!("{NAMES}{BOTH}"), LATER);
    told(
        &place,
        "pond",
        true,
        &[
            "failed to verify the peer's certificate: signed by an unknown authority",
            "all servers need certificates of authorities that the others know",
        ],
    );
}

#[test]
fn another_name() {
    let place = Place::new();
    place.peer(
        "pond",
        &format!("subjectAltName=DNS:bindplane-1\n{BOTH}"),
        LATER,
    );
    told(
        &place,
        "pond",
        true,
        &[
            "not valid for name \"127.0.0.1\"",
            "bindplane-1",
            "make one that names it, too, or dial a name that it has",
        ],
    );
}

#[test]
fn a_time_that_is_over() {
    let place = Place::new();
    place.peer("pond", &format!("{NAMES}{BOTH}"), "20210101000000Z");
    told(&place, "pond", true, &["expired on 2021-01-01", "renew it"]);
}

#[test]
fn another_use() {
    for usage in ["serverAuth", "clientAuth"] {
        let place = Place::new();
        place.peer("pond", &format!("{NAMES}extendedKeyUsage={usage}\n"), LATER);
        told(
            &place,
            "pond",
            true,
            &[
                "not made for this (extended key usage: routes need serverAuth and clientAuth)",
                "make it anew with both",
            ],
        );
    }
}

#[test]
fn another_cluster() {
    let place = Place::new();
    told(
        &place,
        "lake",
        false,
        &[
            "luster name \"lake\"",
            "does not match \"pond\"",
            "all servers of a cluster have the same `name`",
        ],
    );
}

/// A node with a flaw of its own does not start, or says so.
#[test]
fn a_warning_is_said_once() {
    let place = Place::new();
    let [client, http, own] = [(); 3].map(|()| free_port().to_string());
    let path = |name: &str| place.path().join(name).display().to_string();
    let (cert, key, ca) = (path("nats.crt"), path("nats.key"), path("pond/ca.crt"));
    for endpoint in ["inproc:".to_owned(), format!("nats://localhost:{client}")] {
        let arguments = [
            "bus",
            "--exit-on-eof",
            "--event-bus-type=nats",
            "--nats-server-enable",
            "--nats-client-name=a",
            &format!("--nats-client-endpoint={endpoint}"),
            &format!("--nats-server-client-port={client}"),
            &format!("--nats-server-http-port={http}"),
            &format!("--nats-server-cluster-port={own}"),
            "--nats-enable-tls",
            &format!("--nats-tls-cert={cert}"),
            &format!("--nats-tls-key={key}"),
            &format!("--nats-tls-ca={ca}"),
            "--nats-tls-skip-verify",
        ];
        let ended = run(NATTERJACK, &arguments, "1\n");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(
            ended.stderr.matches("tlsSkipVerify").count(),
            1,
            "{ended:?}"
        );
    }
}
