//! The listener as OpenSSL sees it: versions, certificates and pins, keys in every form the `openssl` command writes.
//! `openssl s_client` knows nothing of `INFO`, so the servers shake hands first; for `INFO` first there is Python's `ssl`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::Trial;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, date_time_ymd};
use tempfile::TempDir;
use testkit::{Kind, PATIENCE, Program, ServerUnderTest, programs};

use super::Test;
use super::authority::{
    Authority, MUTUAL, Pair, TLS, config, impostor, named, self_signed, trusted,
};
use super::client::{Client, Outcome, Transport};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let tests: [Test; 7] = [
        ("versions", versions),
        ("certificates_of_clients", certificates_of_clients),
        ("authorities_that_count", authorities_that_count),
        ("a_pin_that_is_revoked", a_pin_that_is_revoked),
        ("forms_of_keys", forms_of_keys),
        ("subjects_with_several_values", subjects_with_several_values),
        ("info_first", info_first),
    ];
    let mut trials = Vec::new();
    for (name, run) in tests {
        for kind in Kind::ALL {
            let name = format!("access::listener::{name}::{}", kind.name());
            let needs = [kind.program().map(drop), programs::python().map(drop)];
            trials.push(trial(name, needs, move || run(kind)));
        }
    }
    trials
}

/// A folder that `openssl` works in.
struct Workshop(TempDir);

impl Workshop {
    fn new() -> Self {
        let workshop = Self(TempDir::new().expect("a folder"));
        workshop.write("ca.pem", &trusted().pem());
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("openssl wrote it")
    }

    /// Runs `openssl` with these words.
    #[track_caller]
    fn openssl(&self, words: &str) -> Output {
        let output = Command::new("openssl")
            .args(words.split(' '))
            .current_dir(self.0.path())
            .output()
            .unwrap_or_else(|error| panic!("openssl: {error}; {REMEDY}"));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {words}: {told}");
        output
    }

    /// Shakes hands as `openssl s_client` with these further words, and says CONNECT and PING. `Ok` once there is an
    /// answer, and what it said about the handshake; `Err` with what it said if it was let go.
    #[track_caller]
    fn log_in(&self, server: &ServerUnderTest, words: &str) -> Result<String, String> {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-crlf", "-ign_eof", "-verify_return_error"])
            .args(["-CAfile", "ca.pem", "-verify_hostname", "localhost"])
            .args(["-connect", &server.address().to_string()])
            .args(words.split(' ').filter(|word| !word.is_empty()))
            .current_dir(self.0.path());
        let mut client = Program::spawn(&mut command)
            .unwrap_or_else(|error| panic!("openssl: {error}; {REMEDY}"));
        // Fails if it has been let go already.
        let _ = client.send_line("CONNECT {\"verbose\":false}\nPING");
        match client.wait_for("PONG", PATIENCE) {
            Ok(_) => Ok(client.output()),
            Err(testkit::Ending::Ended) => Err(client.output()),
            Err(testkit::Ending::RunsOn) => panic!("neither in nor out: {}", client.output()),
        }
    }
}

const REMEDY: &str =
    "this test needs the openssl command, version 3.0 or later (Debian: apt-get install openssl)";

fn server(kind: Kind, tls: &str) -> ServerUnderTest {
    ServerUnderTest::start(kind, &config(&first(tls)))
}

fn first(tls: &str) -> String {
    format!("tls {{ {tls}, handshake_first: true }}")
}

fn versions(kind: Kind) {
    let workshop = Workshop::new();
    let both = server(kind, TLS);
    let new = server(kind, &format!("{TLS}, min_version: \"1.3\""));
    for (server, words, version) in [
        (&both, "", Some("TLSv1.3")),
        (&both, "-tls1_3", Some("TLSv1.3")),
        (&both, "-tls1_2", Some("TLSv1.2")),
        (&both, "-tls1_1 -cipher DEFAULT@SECLEVEL=0", None),
        (&both, "-tls1 -cipher DEFAULT@SECLEVEL=0", None),
        (&new, "-tls1_3", Some("TLSv1.3")),
        (&new, "-tls1_2", None),
    ] {
        match (workshop.log_in(server, words), version) {
            (Ok(told), Some(version)) => assert!(told.contains(version), "{words}: {told}"),
            (Err(_), None) => {}
            (outcome, _) => panic!("{words}: {outcome:?}"),
        }
    }
    // An authority that the client does not trust; a name the certificate does not have.
    workshop.write("other.pem", &impostor().pem());
    let told = workshop
        .log_in(&both, "-CAfile other.pem")
        .expect_err("a certificate of nobody's");
    assert!(told.contains("erify error"), "{told}");
    let told = workshop
        .log_in(&both, "-verify_hostname example.com")
        .expect_err("a certificate of somebody else's");
    assert!(told.contains("erify error"), "{told}");
}

fn certificates_of_clients(kind: Kind) {
    let workshop = Workshop::new();
    let server = server(kind, &format!("{MUTUAL}, verify: true"));
    let dated = |from: i32, to: i32| {
        trusted().pair(|params| {
            named("client")(params);
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        })
    };
    for (name, pair, is_let_in) in [
        ("good", trusted().pair(named("client")), true),
        ("expired", dated(2020, 2021), false),
        ("not_yet_valid", dated(2090, 2091), false),
        (
            "of_another_authority",
            impostor().pair(named("client")),
            false,
        ),
        ("self_signed", self_signed("client"), false),
    ] {
        workshop.write("client.pem", &pair.certificate);
        workshop.write("client-key.pem", &pair.key);
        for version in ["-tls1_2", "-tls1_3"] {
            let words = format!("{version} -cert client.pem -key client-key.pem");
            let outcome = workshop.log_in(&server, &words);
            assert_eq!(outcome.is_ok(), is_let_in, "{name} {version}: {outcome:?}");
        }
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let outcome = workshop.log_in(&server, version);
        assert!(outcome.is_err(), "none {version}: {outcome:?}");
    }
}

/// An authority vouches for clients in its own time only, if it says that it is one, and for clients.
fn authorities_that_count(kind: Kind) {
    let workshop = Workshop::new();
    let check = |what: &str, is_let_in: bool, change: fn(&mut CertificateParams)| {
        let authority = Authority::with("an authority", change);
        let client = authority.pair(named("client"));
        workshop.write("client.pem", &client.certificate);
        workshop.write("client-key.pem", &client.key);
        let options = format!("{TLS}, ca_file: clients.pem, verify: true");
        let config = config(&first(&options)).side_file("clients.pem", authority.pem());
        let server = ServerUnderTest::start(kind, &config);
        let outcome = workshop.log_in(&server, "-cert client.pem -key client-key.pem");
        assert_eq!(outcome.is_ok(), is_let_in, "{what}: {outcome:?}");
    };
    check("good", true, |_| {});
    check("expired", false, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    check("not begun", false, |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2091, 1, 1);
    });
    check("none", false, |params| params.is_ca = IsCa::NoCa);
    check("of servers", false, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    check("of clients", true, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
}

fn a_pin_that_is_revoked(kind: Kind) {
    let workshop = Workshop::new();
    let mut pins = Vec::new();
    for name in ["one", "two"] {
        let pair = trusted().pair(named(name));
        workshop.write(&format!("{name}.pem"), &pair.certificate);
        workshop.write(&format!("{name}-key.pem"), &pair.key);
        workshop.openssl(&format!(
            "x509 -in {name}.pem -pubkey -noout -out {name}-public.pem"
        ));
        workshop.openssl(&format!(
            "pkey -pubin -in {name}-public.pem -outform DER -out {name}.der"
        ));
        let digest = workshop.openssl(&format!("dgst -sha256 -r {name}.der"));
        let text = String::from_utf8(digest.stdout).expect("plain");
        pins.push(text.split(' ').next().expect("a digest").to_owned());
    }
    let tls = |pins: &[String]| {
        let pins = pins
            .iter()
            .map(|pin| format!("\"{pin}\""))
            .collect::<Vec<_>>();
        format!(
            "{MUTUAL}, verify: true, pinned_certs: [{}]",
            pins.join(", ")
        )
    };
    let mut server = server(kind, &tls(&pins));
    let is_let_in = |server: &ServerUnderTest, name: &str| {
        let words = format!("-cert {name}.pem -key {name}-key.pem");
        workshop.log_in(server, &words).is_ok()
    };
    assert!(is_let_in(&server, "one") && is_let_in(&server, "two"));
    let told = server.reload(&first(&tls(&pins[1..])));
    assert!(told.contains("Reloaded server configuration"), "{told}");
    assert!(!is_let_in(&server, "one") && is_let_in(&server, "two"));
    let told = server.reload(&first(&tls(&["0".repeat(64)])));
    assert!(told.contains("Reloaded server configuration"), "{told}");
    assert!(!is_let_in(&server, "one") && !is_let_in(&server, "two"));
}

/// A certificate by `openssl` for the key in a file, signed by an authority of its own.
fn certificate(workshop: &Workshop, key: &str, subject: &str) -> String {
    let ca = workshop.path("openssl-ca.pem");
    if !Path::exists(&ca) {
        workshop.openssl("ecparam -name prime256v1 -genkey -noout -out openssl-ca-key.pem");
        workshop.openssl(
            "req -x509 -new -key openssl-ca-key.pem -subj /CN=openssl -days 30 -out openssl-ca.pem",
        );
    }
    workshop.openssl(&format!(
        "req -x509 -new -key {key} -subj {subject} -days 30 -CA openssl-ca.pem -CAkey openssl-ca-key.pem \
         -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
         -out signed.pem"
    ));
    workshop.read("signed.pem")
}

fn forms_of_keys(kind: Kind) {
    let workshop = Workshop::new();
    for (form, words, heading) in [
        (
            "PKCS#1",
            "genrsa -traditional -out key.pem 2048",
            "BEGIN RSA PRIVATE KEY",
        ),
        (
            "PKCS#8 of RSA",
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out key.pem",
            "BEGIN PRIVATE KEY",
        ),
        (
            "SEC1",
            "ecparam -name prime256v1 -genkey -noout -out key.pem",
            "BEGIN EC PRIVATE KEY",
        ),
        (
            "SEC1 behind its parameters",
            "ecparam -name prime256v1 -genkey -out key.pem",
            "BEGIN EC PARAMETERS",
        ),
        (
            "SEC1 of P-384",
            "ecparam -name secp384r1 -genkey -noout -out key.pem",
            "BEGIN EC PRIVATE KEY",
        ),
        (
            "PKCS#8 of ECDSA",
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem",
            "BEGIN PRIVATE KEY",
        ),
        (
            "PKCS#8 of Ed25519",
            "genpkey -algorithm ED25519 -out key.pem",
            "BEGIN PRIVATE KEY",
        ),
    ] {
        workshop.openssl(words);
        let key = workshop.read("key.pem");
        assert!(key.contains(heading), "{form}: {key}");
        let signed = certificate(&workshop, "key.pem", "/CN=localhost");
        let config = config(&first("cert_file: mine.pem, key_file: mine-key.pem"))
            .side_file("mine.pem", signed)
            .side_file("mine-key.pem", key);
        let server = ServerUnderTest::start(kind, &config);
        for version in ["-tls1_2", "-tls1_3"] {
            let outcome = workshop.log_in(&server, &format!("{version} -CAfile openssl-ca.pem"));
            assert!(
                outcome.is_ok(),
                "{form} {version}: {outcome:?}\n{}",
                server.log()
            );
        }
    }
    // With a pass phrase nobody can start by itself.
    workshop.openssl("genpkey -algorithm ED25519 -aes256 -pass pass:secret -out key.pem");
    let encrypted = config(&first("cert_file: cert.pem, key_file: mine-key.pem"))
        .side_file("mine-key.pem", workshop.read("key.pem"));
    assert!(ServerUnderTest::try_start(kind, &encrypted).is_err());
}

fn subjects_with_several_values(kind: Kind) {
    let workshop = Workshop::new();
    workshop.openssl("ecparam -name prime256v1 -genkey -noout -out key.pem");
    let key = workshop.read("key.pem");
    // Makes the authority.
    certificate(&workshop, "key.pem", "/CN=first");
    let users = [
        ("M", "CN=client,O=Acme+OU=x,DC=example,DC=org"),
        ("T", "CN=two,OU=a,OU=b"),
        ("B", "CN=admin"),
    ];
    let accounts: String = users
        .iter()
        .map(|(account, user)| format!("{account} {{ users: [ {{ user: \"{user}\" }} ] }}\n"))
        .collect();
    let text = format!(
        "tls {{ {TLS}, ca_file: openssl-ca.pem, verify_and_map: true }}\naccounts {{ {accounts} }}"
    );
    let config = config(&text).side_file("openssl-ca.pem", workshop.read("openssl-ca.pem"));
    let server = ServerUnderTest::start(kind, &config);
    let violation = || Outcome::Refused("Authorization Violation".to_owned());
    let let_in = |account: &str| Outcome::In(account.to_owned());
    let mut departures = String::new();
    for (subject, expected) in [
        ("/DC=org/DC=example/O=Acme+OU=x/CN=client", let_in("M")),
        ("/DC=org/DC=example/OU=x+O=Acme/CN=client", let_in("M")),
        ("/CN=client/O=Acme+OU=x/DC=example/DC=org", let_in("M")),
        ("/O=Acme+OU=x/DC=org/CN=client/DC=example", let_in("M")),
        // Two values in one place are not one in each of two.
        ("/DC=org/DC=example/O=Acme/OU=x/CN=client", violation()),
        ("/DC=org/DC=example/O=Acme+OU=x+CN=client", violation()),
        ("/DC=org/DC=example/O=Acme/CN=client", violation()),
        ("/DC=org/O=Acme+OU=x/CN=client", violation()),
        ("/DC=org/DC=org/O=Acme+OU=x/CN=client", violation()),
        ("/OU=b/OU=a/CN=two", let_in("T")),
        ("/OU=a/OU=b/CN=two", let_in("T")),
        ("/OU=a/OU=a/CN=two", violation()),
        ("/OU=a+OU=b/CN=two", violation()),
        ("/CN=admin", let_in("B")),
        ("/CN=client+CN=admin", violation()),
        ("/CN=admin+CN=client", violation()),
        // Go keeps one common name, the last, in the text that is compared when nothing else fits.
        ("/CN=client/CN=admin", let_in("B")),
        ("/CN=admin/CN=client", violation()),
        ("/CN=admin/O=x", violation()),
        ("/CN=admin+O=x", violation()),
    ] {
        let pair = Pair {
            certificate: certificate(&workshop, "key.pem", subject),
            key: key.clone(),
        };
        let mut client = Client::connect(server.address(), Transport::Tls(Some(&pair)));
        let found = client.log_in("");
        if found != expected {
            departures += &format!("{subject}: {found:?}, expected {expected:?}\n");
        }
    }
    assert_eq!(departures, "", "--- the server's log:\n{}", server.log());
}

/// Reads `INFO` in clear text, shakes hands, and prints the version, or what went wrong.
const SCRIPT: &str = r#"
import socket, ssl, sys
host, port, ca, version = sys.argv[1:5]
connection = socket.create_connection((host, int(port)), timeout=20)
info = b""
while not info.endswith(b"\r\n"):
    info += connection.recv(1)
assert info.startswith(b"INFO ") and b'"tls_required":true' in info, info
if version != "none":
    context = ssl.create_default_context(cafile=ca)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if len(sys.argv) > 5:
        context.load_cert_chain(sys.argv[5], sys.argv[6])
    connection = context.wrap_socket(connection, server_hostname="localhost")
connection.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
answer = b""
while b"PONG\r\n" not in answer:
    piece = connection.recv(4096)
    assert piece, answer
    answer += piece
print("in", connection.version())
"#;

fn info_first(kind: Kind) {
    let workshop = Workshop::new();
    workshop.write("other.pem", &impostor().pem());
    let good = trusted().pair(named("client"));
    workshop.write("client.pem", &good.certificate);
    workshop.write("client-key.pem", &good.key);
    let bad = impostor().pair(named("client"));
    workshop.write("bad.pem", &bad.certificate);
    workshop.write("bad-key.pem", &bad.key);
    let any = ServerUnderTest::start(kind, &config(&format!("tls {{ {TLS} }}")));
    let mutual =
        ServerUnderTest::start(kind, &config(&format!("tls {{ {MUTUAL}, verify: true }}")));
    for (server, words, version) in [
        (&any, "ca.pem TLSv1_2", Some("TLSv1.2")),
        (&any, "ca.pem TLSv1_3", Some("TLSv1.3")),
        (&any, "ca.pem TLSv1_1", None),
        (&any, "ca.pem none", None),
        (&any, "other.pem TLSv1_3", None),
        (
            &any,
            "ca.pem TLSv1_3 client.pem client-key.pem",
            Some("TLSv1.3"),
        ),
        (
            &mutual,
            "ca.pem TLSv1_2 client.pem client-key.pem",
            Some("TLSv1.2"),
        ),
        (
            &mutual,
            "ca.pem TLSv1_3 client.pem client-key.pem",
            Some("TLSv1.3"),
        ),
        (&mutual, "ca.pem TLSv1_2 bad.pem bad-key.pem", None),
        (&mutual, "ca.pem TLSv1_3 bad.pem bad-key.pem", None),
        (&mutual, "ca.pem TLSv1_2", None),
        (&mutual, "ca.pem TLSv1_3", None),
        (&mutual, "ca.pem none", None),
    ] {
        let address = server.address();
        let output = Command::new(programs::python().expect("checked before"))
            .args([
                "-c",
                SCRIPT,
                &address.ip().to_string(),
                &address.port().to_string(),
            ])
            .args(words.split(' '))
            .current_dir(workshop.0.path())
            .output()
            .expect("Python starts");
        let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let expected = version
            .map(|version| format!("in {version}"))
            .unwrap_or_default();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(told, expected, "{words}: {error}");
    }
}
