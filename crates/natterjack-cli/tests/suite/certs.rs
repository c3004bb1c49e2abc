//! `natterjack certs`: what it makes is taken by OpenSSL, by a bus and by its monitoring; what it says is true.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Ended, NATTERJACK, NATTERJACKD, Running, free_port, run};

/// A directory with an authority in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        let ended = place.certs(&["ca", "--out", &place.file("")]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn certs(&self, arguments: &[&str]) -> Ended {
        run(NATTERJACK, &[&["certs"], arguments].concat(), "")
    }

    fn node(&self, more: &[&str]) -> Ended {
        let (ca, out) = (self.file("ca.crt"), self.file(""));
        let arguments = [&["node", "--ca", &ca, "--out", &out], more].concat();
        self.certs(&arguments)
    }

    fn inspect(&self, more: &[&str]) -> Ended {
        self.certs(&[&["inspect"], more].concat())
    }

    /// Runs OpenSSL here; it must succeed.
    fn openssl(&self, arguments: &str) -> String {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .stdin(std::process::Stdio::null())
            .current_dir(self.0.path())
            .output()
            .expect("OpenSSL is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {text}{told}");
        text
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o777
}

#[track_caller]
fn assert_tells(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn openssl_takes_what_is_made() {
    let place = Place::new();
    for (kind, name) in [("p256", "nats"), ("p384", "p384"), ("ed25519", "ed25519")] {
        let ended = place.node(&[
            "--host",
            "bindplane-0",
            "--host",
            "[fd00::7]",
            "--key",
            kind,
            "--name",
            name,
        ]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for purpose in ["sslserver", "sslclient"] {
            place.openssl(&format!(
                "verify -x509_strict -CAfile ca.crt -purpose {purpose} {name}.crt"
            ));
        }
        for host in ["bindplane-0", "localhost"] {
            place.openssl(&format!(
                "verify -CAfile ca.crt -verify_hostname {host} {name}.crt"
            ));
        }
        for address in ["127.0.0.1", "::1", "fd00::7"] {
            place.openssl(&format!(
                "verify -CAfile ca.crt -verify_ip {address} {name}.crt"
            ));
        }
        let of_certificate = place.openssl(&format!("x509 -in {name}.crt -noout -pubkey"));
        let of_key = place.openssl(&format!("pkey -in {name}.key -pubout"));
        assert_eq!(of_certificate, of_key);
    }
    let text = place.openssl("x509 -in nats.crt -noout -text");
    assert_tells(
        &text,
        &[
            "TLS Web Server Authentication, TLS Web Client Authentication",
            "CA:FALSE",
        ],
    );
    place.openssl("x509 -in nats.crt -noout -checkend 31000000");
    place.openssl("x509 -in ca.crt -noout -checkend 310000000");
    for (file, expected) in [
        ("ca.key", 0o600),
        ("nats.key", 0o600),
        ("ca.crt", 0o644),
        ("nats.crt", 0o644),
    ] {
        assert_eq!(mode(&place.path(file)), expected, "{file}");
    }
}

#[test]
fn nothing_is_overwritten() {
    let place = Place::new();
    let before = std::fs::read(place.path("ca.key")).expect("it is there");
    let ended = place.certs(&["ca", "--out", &place.file("")]);
    assert_eq!(ended.code, Some(1));
    assert_tells(
        &ended.stderr,
        &["ca.crt", "ca.key are there already", "--out"],
    );
    assert_eq!(
        std::fs::read(place.path("ca.key")).expect("it is there"),
        before
    );

    std::fs::write(place.path("nats.key"), "mine").expect("a file");
    let ended = place.node(&["--host", "a"]);
    assert_eq!(ended.code, Some(1));
    assert_tells(&ended.stderr, &["nats.key is there already"]);
    assert!(!place.path("nats.crt").exists());
    assert_eq!(
        std::fs::read(place.path("nats.key")).expect("it is there"),
        b"mine"
    );
}

#[test]
fn what_is_missing_is_told_with_what_to_do() {
    let place = Place(tempfile::tempdir().expect("a directory"));
    let ended = place.node(&["--host", "a"]);
    assert_eq!(ended.code, Some(1));
    assert_tells(
        &ended.stderr,
        &["ca.crt; make one with `natterjack certs ca`"],
    );
    let place = Place::new();
    for host in ["nats://a", "a:6222", "a b"] {
        let ended = place.node(&["--host", host]);
        assert_eq!(ended.code, Some(1));
        assert_tells(&ended.stderr, &[host, "without scheme and port"]);
        assert!(!place.path("nats.crt").exists());
    }
}

#[test]
fn each_host_may_have_its_own() {
    let place = Place::new();
    let ended = place.node(&["--each", "--host", "bindplane-0", "--host", "bindplane-1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    place.openssl("verify -CAfile ca.crt -verify_hostname bindplane-1 bindplane-1.crt");
    let (ca, crt) = (place.file("ca.crt"), place.file("bindplane-0.crt"));
    let ended = place.inspect(&[&crt, "--ca", &ca, "--host", "bindplane-1"]);
    assert_eq!(ended.code, Some(1));
    assert_tells(
        &ended.stdout,
        &[
            "as a node  REFUSED",
            "as client  good",
            "it does not name `bindplane-1`, but only bindplane-0",
        ],
    );
}

#[test]
fn what_is_good_is_said_to_be() {
    let place = Place::new();
    place.node(&["--host", "bindplane-0"]);
    let [ca, crt, key] = ["ca.crt", "nats.crt", "nats.key"].map(|name| place.file(name));
    let ended = place.inspect(&[&crt, &key, &ca, "--ca", &ca, "--host", "bindplane-0"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_tells(
        &ended.stdout,
        &[
            "as a node  good",
            "as client  good",
            "as a peer  good",
            "authority  good",
            "belongs to ",
        ],
    );
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).expect("it is ours");
    let ended = place.inspect(&[&crt, &key]);
    assert_eq!(ended.code, Some(1));
    assert_tells(&ended.stdout, &["mode 0644", "chmod 600"]);
}

/// Certificates that OpenSSL makes, one flaw each.
#[test]
fn flaws_are_told_in_words() {
    let place = Place::new();
    let other = Place::new();
    let ca = place.file("ca.crt");
    let told = |name: &str, extensions: &str, more: &str| {
        place.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        std::fs::write(place.path("ext"), extensions).expect("a file");
        place.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -extfile ext -out {name}.crt {more}"
        ));
        let crt = place.file(&format!("{name}.crt"));
        place.inspect(&[&crt, "--ca", &ca]).stdout
    };
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
    let both = "extendedKeyUsage=serverAuth,clientAuth\n";
    let good = told("good", &format!("{names}{both}"), "-days 60");
    assert_tells(
        &good,
        &["as a node  good", "as client  good", "as a peer  good"],
    );
    let no_client = told(
        "server",
        &format!("{names}extendedKeyUsage=serverAuth"),
        "-days 60",
    );
    assert_tells(
        &no_client,
        &[
            "as a node  good",
            "as client  REFUSED",
            "as a peer  REFUSED",
            "does not have clientAuth",
            "certs node",
        ],
    );
    let no_server = told(
        "client",
        &format!("{names}extendedKeyUsage=clientAuth"),
        "-days 60",
    );
    assert_tells(
        &no_server,
        &[
            "as a node  REFUSED",
            "as client  good",
            "as a peer  REFUSED",
            "does not have serverAuth",
        ],
    );
    let nameless = told("localhost", both, "-days 60");
    assert_tells(
        &nameless,
        &[
            "as a node  REFUSED",
            "it has no subject alternative names",
            "as client  good",
        ],
    );
    place.openssl("req -newkey rsa:2048 -nodes -subj /CN=old -keyout old.key -out old.csr");
    std::fs::write(
        place.path("ca.conf"),
        format!(
            "[ca]\ndefault_ca=here\n[here]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\n\
             policy=any\nx509_extensions=extensions\n[any]\ncommonName=supplied\n[extensions]\n{names}{both}"
        ),
    )
    .expect("a file");
    std::fs::write(place.path("index"), "").expect("a file");
    place.openssl(
        "ca -batch -notext -config ca.conf -startdate 20200101000000Z -enddate 20210101000000Z -cert ca.crt -keyfile \
         ca.key -in old.csr -out old.crt",
    );
    let expired = place.inspect(&[&place.file("old.crt"), "--ca", &ca]).stdout;
    assert_tells(
        &expired,
        &["as client  REFUSED", "it expired on 2021-01-01", "renew it"],
    );

    let [elsewhere, good] = [other.file("ca.crt"), place.file("good.crt")];
    // Both have the same name.
    let ended = place.inspect(&[&good, "--ca", &elsewhere]);
    assert_tells(
        &ended.stdout,
        &[
            "REFUSED",
            "it comes from another `CN=natterjack CA`",
            "made anew",
        ],
    );
    let ended = other.certs(&["ca", "--name", "lake", "--out", &other.file("lake")]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = place.inspect(&[&good, "--ca", &other.file("lake/ca.crt")]);
    assert_tells(
        &ended.stdout,
        &["it comes from `CN=natterjack CA`, which is none of the authorities: CN=lake"],
    );
    let key = place.file("ca.key");
    let ended = place.inspect(&[&good, &key, "--ca", &ca]);
    assert_tells(
        &ended.stdout,
        &["it is the key of none of these certificates"],
    );
}

/// What `openssl x509 -req` of OpenSSL 3.0 makes without a file of extensions.
const OLD_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBGDCBvgIUZZE+C2IIEaz0T8QIG75UXIUhJvIwCgYIKoZIzj0EAwIwDTELMAkG\n\
A1UEAwwCY2EwIBcNMjYxMTIzMDUyMTU3WhgPMjEyNjEwMzAwNTIxNTdaMA4xDDAK\n\
BgNVBAMMA29sZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABORUuP4M0OKHGhit\n\
knMa+7rdOWMNCbuYpWON+Mdju4uPO68ZZgGlIc2p86XTazbSNM3PTVllbHM63VQq\n\
E4VbxlMwCgYIKoZIzj0EAwIDSQAwRgIhALHUgn0CyedRz3zMP2IusfJ+a7JPiaA0\n\
Ib52Zns2meuvAiEAhgStAFK7qVyDBLKHkF5H7HO0vFfDKH28SXH3yRlIeyk=\n\
-----END CERTIFICATE-----\n";
const OLD_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgwaXAPpWRZiQPlatT\n\
6eZh/IpiyA9xbl6GC0MAyDCrlh+hRANCAATkVLj+DNDihxoYrZJzGvu63TljDQm7\n\
mKVjjfjHY7uLjzuvGWYBpSHNqfOl02s20jTNz01ZZWxzOt1UKhOFW8ZT\n\
-----END PRIVATE KEY-----\n";

#[test]
fn a_certificate_of_version_1_is_told_to_be_one() {
    const WORDS: [&str; 2] = ["of version 1 of X.509", "`openssl x509 -req` makes one"];
    let place = Place::new();
    let made = place.node(&["--host", "localhost"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    for (name, text) in [("old.crt", OLD_CERTIFICATE), ("old.key", OLD_KEY)] {
        std::fs::write(place.path(name), text).expect("a file");
    }

    let inspected = place.inspect(&[&place.file("old.crt"), "--ca", &place.file("ca.crt")]);
    assert_eq!(inspected.code, Some(1), "{inspected:?}");
    assert_tells(&inspected.stdout, &WORDS);
    assert!(
        !inspected.stdout.contains("names `localhost`"),
        "{inspected:?}"
    );

    let server = |port: u16, name: &str| {
        let [crt, key, ca] =
            [&format!("{name}.crt"), &format!("{name}.key"), "ca.crt"].map(|name| place.file(name));
        let tls = format!(
            "{{ cert_file: '{crt}', key_file: '{key}', ca_file: '{ca}', verify: true, handshake_first: true }}"
        );
        let text = format!("listen: \"127.0.0.1:{port}\"\ntls {tls}\n");
        std::fs::write(place.path("nats.conf"), text).expect("a file");
        ["-c".to_owned(), place.file("nats.conf")]
    };
    let [c, file] = server(0, "old");
    let refused = run(NATTERJACKD, &["-t", &c, &file], "");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_tells(&refused.stderr, &WORDS);

    let port = free_port();
    let [c, file] = server(port, "nats");
    let mut server = Running::start(NATTERJACKD, &[&c, &file]);
    server.stderr_line("Server is ready");
    let shown = Command::new("openssl")
        .args([
            "s_client", "-cert", "old.crt", "-key", "old.key", "-connect",
        ])
        .arg(format!("127.0.0.1:{port}"))
        .stdin(std::process::Stdio::null())
        .current_dir(place.0.path())
        .output();
    shown.expect("OpenSSL is installed");
    let line = server.stderr_line("failed to verify the client's certificate");
    assert_tells(&line, &["of version 1 of X.509", "CN=old"]);
}

#[test]
fn an_authority_made_with_openssl_is_taken() {
    let place = Place(tempfile::tempdir().expect("a directory"));
    place.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /O=Pond/CN=pond -keyout ca.key -out ca.crt");
    let ended = place.node(&["--host", "a"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_tells(
        &ended.stderr,
        &["They end with the authority, before 365 days."],
    );
    place.openssl("verify -CAfile ca.crt -purpose sslserver nats.crt");

    // As `step` writes keys, and old OpenSSL.
    place.openssl("ec -in ca.key -out sec1.key");
    place.openssl("pkey -in ca.key -aes128 -passout pass:x -out secret.key");
    let sec1 = place.file("sec1.key");
    let ended = place.node(&["--host", "c", "--name", "c", "--ca-key", &sec1]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    place.openssl("verify -CAfile ca.crt -purpose sslclient c.crt");
    for (name, words) in [
        ("secret.key", "decrypt it: openssl pkey -in"),
        ("ca.crt", "is not a private key that can be used"),
    ] {
        let key = place.file(name);
        let ended = place.node(&["--host", "b", "--name", "b", "--ca-key", &key]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_tells(&ended.stderr, &[name, words]);
    }
    place.openssl("genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-256 -out other.key");
    let other = place.file("other.key");
    let ended = place.node(&["--host", "b", "--name", "b", "--ca-key", &other]);
    assert_tells(
        &ended.stderr,
        &["the key is not that of the authority's certificate"],
    );
    assert!(!place.path("b.crt").exists());
}

#[test]
fn authorities_of_every_kind_are_taken() {
    for make in [
        "genrsa -traditional -out ca.key 2048",
        "ecparam -name secp384r1 -genkey -noout -out ca.key",
        "genpkey -algorithm ed25519 -out ca.key",
    ] {
        let place = Place(tempfile::tempdir().expect("a directory"));
        place.openssl(make);
        place.openssl(
            "req -x509 -days 30 -subj /CN=pond -addext basicConstraints=critical,CA:TRUE -key ca.key -out ca.crt",
        );
        let ended = place.node(&["--host", "a", "--key", "ed25519"]);
        assert_eq!(ended.code, Some(0), "{make}: {ended:?}");
        place.openssl("verify -CAfile ca.crt -purpose sslserver nats.crt");
    }
}

#[test]
fn a_bus_runs_with_them() {
    for kind in ["p256", "ed25519"] {
        runs_a_bus(kind);
    }
}

#[test]
fn a_client_of_a_server_with_tls_is_told_what_it_lacks() {
    let place = Place::new();
    place.node(&["--host", "bindplane-0"]);
    let [crt, key] = ["nats.crt", "nats.key"].map(|name| place.file(name));
    let port = free_port().to_string();
    let arguments = [
        "-a",
        "127.0.0.1",
        "-p",
        &port,
        "--tls",
        "--tlscert",
        &crt,
        "--tlskey",
        &key,
    ];
    let _server = Running::start(NATTERJACKD, &arguments);
    let endpoint = format!("nats://127.0.0.1:{port}");
    let arguments = [
        "bus",
        "--event-bus-type=nats",
        "--nats-client-name=a",
        "--nats-client-endpoint",
        &endpoint,
    ];
    let bus = &mut Running::start(NATTERJACK, &arguments);
    let line = bus.stderr_line("not connected to nats://127.0.0.1");
    assert_tells(
        &line,
        &[
            "the server demands TLS: set eventBus.nats.tls.enableTLS to true, and tlsCert, tlsKey and tlsCA to this node's files",
            "correct them and start it again",
        ],
    );
}

/// A node whose certificate has this kind of key.
fn runs_a_bus(kind: &str) {
    let place = Place::new();
    place.node(&["--host", "bindplane-0", "--key", kind]);
    let [port, http, cluster] = [(); 3].map(|()| free_port().to_string());
    let [ca, crt, key] = ["ca.crt", "nats.crt", "nats.key"].map(|name| place.file(name));
    let arguments = [
        "bus",
        "--event-bus-type",
        "nats",
        "--nats-server-enable",
        "--nats-client-name",
        "a",
        "--nats-server-client-port",
        &port,
        "--nats-server-http-port",
        &http,
        "--nats-server-cluster-port",
        &cluster,
        "--nats-enable-tls",
        "--nats-tls-cert",
        &crt,
        "--nats-tls-key",
        &key,
        "--nats-tls-ca",
        &ca,
    ];
    let mut bus = Running::start(NATTERJACK, &arguments);
    bus.send_line("1");
    bus.stdout_line("\"data\":1");
    // The pages are HTTPS, and ask for no certificate.
    let told = place.openssl(&format!(
        "s_client -connect 127.0.0.1:{http} -CAfile ca.crt -verify_return_error -verify_ip 127.0.0.1"
    ));
    assert_tells(
        &told,
        &[
            "Verify return code: 0 (ok)",
            "No client certificate CA names sent",
        ],
    );
    bus.close_input();
    bus.signal("TERM");
    let ended = bus.end();
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
}
