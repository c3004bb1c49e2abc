//! `natterjack choria`: the subcommands as a person at a terminal sees them. Each test has a home, settings, a Facter and a DNS
//! server of its own.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{DnsServer, ServiceHost};

use crate::process::{Ended, NATTERJACK, Running};

struct Machine {
    folder: TempDir,
    dns: DnsServer,
    variables: Vec<(&'static str, String)>,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            folder: tempfile::tempdir().expect("a folder for a test"),
            dns: DnsServer::start(),
            variables: Vec::new(),
        };
        fs::create_dir_all(machine.path("home")).expect("a folder in a folder of ours");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let folder = path.parent().expect("it is in a folder");
        fs::create_dir_all(folder).expect("a folder in a folder of ours");
        fs::write(&path, text).expect("a file in a folder of ours");
        path
    }

    fn has_facter(&self, domain: &str) {
        let script = format!("#!/bin/sh\n[ \"$1\" = networking.domain ] && echo {domain}\n");
        let path = self.write("bin/facter", &script);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    }

    fn offer(&self, service: &str, hosts: &[(u16, u16, &str)]) {
        let hosts: Vec<_> = hosts
            .iter()
            .map(|&(priority, port, host)| ServiceHost {
                priority,
                weight: 0,
                port,
                host: host.into(),
            })
            .collect();
        self.dns.set_service(service, 60, &hosts);
    }

    /// Runs `natterjack choria` to its end.
    fn run(&self, arguments: &[&str]) -> Ended {
        let address = self.dns.address().to_string();
        self.run_alone(&[arguments, &["--dns-server", &address]].concat())
    }

    /// The same without the DNS server.
    fn run_alone(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(NATTERJACK);
        let is_ours = |name: &std::ffi::OsStr| {
            let name = name.as_encoded_bytes();
            name.starts_with(b"CHORIA_") || name.starts_with(b"MCOLLECTIVE_")
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        command
            .arg("choria")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.path("home"))
            .env("USER", "rip")
            .env("PATH", self.path("bin"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        Running::spawn(command).end()
    }

    /// Keys and certificates in a folder such as Puppet's.
    fn has_certificate(&self, folder: &str, certname: &str) -> PathBuf {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let authority = authority.expect("an authority");
        let mut params = CertificateParams::new(vec![certname.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, certname);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        self.write(&format!("{folder}/certs/ca.pem"), &authority.pem());
        let file = format!("{folder}/certs/{certname}.pem");
        self.write(&file, &certificate.pem());
        let file = format!("{folder}/private_keys/{certname}.pem");
        let path = self.write(&file, &key.serialize_pem());
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a file of ours");
        self.path(folder)
    }
}

#[track_caller]
fn expect_lines(text: &str, expected: &[String]) {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    for line in expected {
        assert!(lines.contains(&line.as_str()), "{line}\nin\n{text}");
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn what_holds_and_where_it_comes_from() {
    let machine = Machine::new();
    machine.has_facter("example.net");
    machine.offer(
        "_mcollective-server._tcp.example.net",
        &[
            (11, 4222, "nats2.example.net."),
            (10, 4222, "nats1.example.net."),
        ],
    );
    machine.offer(
        "_x-puppet-ca._tcp.example.net",
        &[(1, 8141, "ca.example.net.")],
    );
    let ssl = machine.has_certificate("ssl", "node1.example.net");
    let settings = format!(
        "# of a test\nconnector = nats\nidentity = node1.example.net\ncollectives = eu, mcollective\n\
         plugin.choria.ssldir = {}\n",
        shown(&ssl)
    );
    let file = shown(&machine.write("etc/server.conf", &settings));
    let plugin = shown(&machine.write("etc/plugin.d/nats.cfg", "user = rip\npass = s3cret\n"));
    let mut machine = machine;
    // Otherwise it depends on who runs the test.
    let certname = ("MCOLLECTIVE_CERTNAME", "node1.example.net".to_owned());
    machine.variables.push(certname);

    let ended = machine.run(&["config", "--server", "--config", &file]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "");
    assert!(!ended.stdout.contains("s3cret"), "{}", ended.stdout);
    let ssl = shown(&ssl);
    expect_lines(
        &ended.stdout,
        &[
            format!("Natterjack: {}", env!("CARGO_PKG_VERSION")),
            "Role: server".into(),
            format!("Active Config File: {file}"),
            format!(
                "Plugin Config Dir: {}/plugin.d (found)",
                shown(&machine.path("etc"))
            ),
            format!("Files Read: {file}, {plugin}"),
            "Identity: node1.example.net".into(),
            "Collectives: eu, mcollective (main: eu)".into(),
            "Using SRV Records: yes".into(),
            "SRV Domain: example.net (Facter's networking.domain)".into(),
            "NATS NGS: no".into(),
            "Middleware Servers: nats1.example.net:4222, nats2.example.net:4222 (SRV records of \
             _mcollective-server._tcp.example.net)"
                .into(),
            "Federated: no".into(),
            "Puppet Server: puppet:8140 (default)".into(),
            "Puppet CA Server: ca.example.net:8141 (SRV records of _x-puppet-ca._tcp.example.net)"
                .into(),
            "PuppetDB Server: puppet:8081 (default)".into(),
            "Discovery Proxy: not used".into(),
            format!("Facter Command: {}", shown(&machine.path("bin/facter"))),
            "Facter Domain: example.net".into(),
            "Valid SSL Setup: yes".into(),
            "Security Provider: puppet".into(),
            "Certname: node1.example.net".into(),
            format!("SSL Directory: {ssl} (found)"),
            format!("Public Certificate: {ssl}/certs/node1.example.net.pem (found)"),
            format!("Private Key: {ssl}/private_keys/node1.example.net.pem (found)"),
            format!("CA: {ssl}/certs/ca.pem (found)"),
            format!(
                "Certificate Request: {ssl}/certificate_requests/node1.example.net.pem (absent)"
            ),
            "Certificate Name: node1.example.net (matches the certname)".into(),
            "NATS Login: rip (with a password)".into(),
            format!("plugin.choria.ssldir = {ssl} ({file}:5)"),
            format!("plugin.nats.pass = … ({plugin}:2)"),
            "ttl = 60 (default)".into(),
        ],
    );
}

#[test]
fn the_same_in_json() {
    let machine = Machine::new();
    machine.offer(
        "_mcollective-federation_server._tcp.example.net",
        &[(1, 4222, "fed1.example.net.")],
    );
    let settings = "plugin.choria.srv_domain = example.net\nplugin.choria.federation.collectives = a, b\n\
        plugin.choria.ssldir = ~/no-ssl\nplugin.nats.pass = s3cret\nplugin.choria.network.peer_password = s3cret\n\
        plugin.choria.use_srv_records = yes\nplugin.nats.credentials = ~/a.creds\n";
    let file = machine.write("home/.choriarc", settings);
    let mut machine = machine;
    let certname = ("MCOLLECTIVE_CERTNAME", "rip.mcollective".to_owned());
    machine.variables.push(certname);
    let ended = machine.run(&["config", "--json"]);
    assert_eq!(ended.code, Some(1), "keys and certificates are missing");
    assert!(!ended.stdout.contains("s3cret"), "{}", ended.stdout);
    let former = format!(
        "natterjack: {}:6: warning: plugin.choria.use_srv_records is the former name of plugin.choria.use_srv",
        shown(&file)
    );
    assert!(ended.stderr.starts_with(&former), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    for (pointer, expected) in [
        ("/role", "client"),
        ("/files/active", &shown(&file)),
        ("/files/usual", &shown(&file)),
        ("/servers/srv_domain", "example.net"),
        ("/servers/middleware/servers/0", "fed1.example.net:4222"),
        ("/servers/federation/servers/0", "fed1.example.net:4222"),
        ("/servers/federation_collectives/1", "b"),
        ("/puppet/ca/servers/0", "puppet:8140"),
        ("/puppet/ca/source", "default"),
        ("/security/certname", "rip.mcollective"),
        (
            "/security/key/path",
            &shown(&machine.path("home/no-ssl/private_keys/rip.mcollective.pem")),
        ),
    ] {
        let value = report.pointer(pointer).and_then(Value::as_str);
        assert_eq!(value, Some(expected), "{pointer} in {}", ended.stdout);
    }
    for (pointer, expected) in [
        ("/servers/federated", true),
        ("/security/is_valid", false),
        ("/security/key/found", false),
        ("/security/credentials/found", false),
        ("/security/has_password", true),
    ] {
        let value = report.pointer(pointer).and_then(Value::as_bool);
        assert_eq!(value, Some(expected), "{pointer} in {}", ended.stdout);
    }
    let made = report["choria_settings"].as_array().expect("a list");
    let names: Vec<_> = made.iter().filter_map(|it| it["name"].as_str()).collect();
    let expected = [
        "plugin.choria.federation.collectives",
        "plugin.choria.network.peer_password",
        "plugin.choria.srv_domain",
        "plugin.choria.ssldir",
        "plugin.choria.use_srv_records",
    ];
    assert_eq!(names, expected);
}

#[test]
fn mistakes_are_all_told_and_nothing_is_shown() {
    let machine = Machine::new();
    let file = machine.write("client.conf", "connector = activemq\nttl = soon\n");
    let ended = machine.run(&["config", "--config", &shown(&file)]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stdout, "");
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("client.conf:1: error: connector"),
        "{lines:?}"
    );
    assert!(lines[1].contains("client.conf:2: error: ttl"), "{lines:?}");
}

/// Settings may come from others, such as those of a project that was fetched.
#[test]
fn settings_do_nothing_to_a_terminal() {
    let machine = Machine::new();
    let settings = "plugin.choria.srv_domain = a\u{1b}[2J\u{202e}b\nplugin.choria.\u{1b}]0;x\u{7}y = 1\u{9b}2\n";
    let main = machine.write("main.conf", settings);
    for arguments in [
        &["config", "--config", &shown(&main)][..],
        &["config", "--server", "--config", &shown(&main)],
        &["config", "--json", "--config", &shown(&main)],
        &["ping", "--config", &shown(&main)],
    ] {
        let ended = machine.run(arguments);
        let text = format!("{}{}", ended.stdout, ended.stderr);
        let does = |letter: char| letter != '\n' && (letter.is_control() || letter == '\u{202e}');
        assert!(!text.contains(does), "{ended:?}");
        assert!(
            text.contains("\\u{1b}") || text.contains("\\u001b"),
            "{ended:?}"
        );
    }
}

/// Nobody has to wait for a server, or to request a certificate, to hear of that.
#[test]
fn what_was_mistyped_is_told_before_anything_else() {
    let machine = Machine::new();
    for (arguments, expected) in [
        (
            &["ping", "-T", "eu"][..],
            "unknown collective \"eu\"; known are mcollective",
        ),
        (&["rpc", "rpc util", "ping"], "\"rpc util\" is no name"),
        (
            &["federation", "--cluster", "a b"],
            "--cluster: \"a b\" is no name",
        ),
        (
            &["request-cert", "--certname", "a/b"],
            "--certname: \"a/b\" is no name",
        ),
        (
            &["ping", "-I", "nod e"],
            "no node can be called so: \"nod e\" is no name",
        ),
    ] {
        let ended = machine.run(arguments);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let first = format!("natterjack: {expected}");
        assert!(ended.stderr.starts_with(&first), "{}", ended.stderr);
    }
    for arguments in [
        &["ping", "--expect", "0"][..],
        &["rpc", "rpcutil", "ping", "--expect", "0"],
    ] {
        let ended = machine.run(arguments);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        let expected = "write a number, 1 or more";
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
}

/// A DNS server that is dead.
#[test]
fn who_does_not_answer_is_named() {
    let machine = Machine::new();
    let settings = "identity = node1.example.net\nplugin.choria.srv_domain = example.net\n";
    let file = shown(&machine.write("client.conf", settings));
    let nobody = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = nobody.local_addr().expect("it is bound").to_string();
    // Whoever asks there hears at once that nobody listens.
    drop(nobody);
    let config = ["config", "--config", &file, "--dns-server", &address];
    let ended = machine.run_alone(&config);
    let problem = "no DNS server answers; see that the DNS servers that were given run";
    let line = format!("DNS: {problem}");
    let is_shown = |text: &str| text.lines().any(|it| it.trim().starts_with(&line));
    assert!(is_shown(&ended.stdout), "{ended:?}");
    let said = ended.stderr.matches(problem).count();
    assert_eq!(said, 1, "{}", ended.stderr);

    let answered = machine.run(&["config", "--config", &file]);
    assert!(!answered.stdout.contains("DNS:"), "{answered:?}");
    assert_eq!(answered.stderr, "");
}

#[test]
fn decisions_are_in_the_debug_log() {
    let machine = Machine::new();
    machine.offer(
        "_x-puppet-mcollective._tcp.example.net",
        &[(10, 4222, "nats1.example.net.")],
    );
    machine.write("home/.choriarc", "");
    let mut machine = machine;
    let domain = ("CHORIA_SRV_DOMAIN", "example.net".to_owned());
    machine.variables.push(domain);
    let ended = machine.run(&["config", "--log", "debug"]);
    for expected in [
        "plugin.choria.srv_domain is taken from CHORIA_SRV_DOMAIN",
        "_mcollective-server._tcp.example.net",
        "nats1.example.net",
        "servers found for middleware",
    ] {
        assert!(
            ended.stderr.contains(expected),
            "{expected} in {}",
            ended.stderr
        );
    }
    assert!(
        ended
            .stdout
            .contains("SRV Domain: example.net (environment CHORIA_SRV_DOMAIN)"),
        "{}",
        ended.stdout
    );
}

#[test]
fn certificates_are_requested_from_the_authority_that_dns_names() {
    let machine = Machine::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    machine.offer("_x-puppet-ca._tcp.example.net", &[(1, port, "localhost.")]);
    // Given back: nobody is there.
    drop(listener);
    let settings = "plugin.choria.srv_domain = example.net\nplugin.choria.ssldir = ~/ssl\n";
    let file = shown(&machine.write("client.conf", settings));
    let request = |arguments: &[&str]| {
        let arguments = [&["request-cert", "--config", &file], arguments].concat();
        let ended = machine.run(&arguments);
        assert_eq!(ended.stdout, "");
        (ended.code, ended.stderr)
    };
    let (code, said) = request(&["--certname", "rip.mcollective"]);
    assert_eq!(code, Some(1), "{said}");
    let course = format!("Requesting a certificate for rip.mcollective from localhost:{port}\n");
    assert!(said.contains(&course), "{said}");
    let reason = format!("Puppet's authority at localhost:{port}: cannot connect: ");
    assert!(said.contains(&reason), "{said}");
    assert!(
        !machine.path("home/ssl").exists(),
        "nothing is made for nobody"
    );

    let (code, said) = request(&["--ca", "localhost:x", "--certname", "rip.mcollective"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--ca localhost:x"), "{said}");
    let (code, said) = request(&["--ca-fingerprint", "5F:0A"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("64 hexadecimal digits"), "{said}");
    let (code, said) = request(&["--crl-only", "--certname", "rip.mcollective"]);
    assert_eq!(code, Some(1), "{said}");
    let remedy = "no authority is known yet";
    assert!(
        said.contains(remedy) && said.contains("home/ssl/certs/ca.pem"),
        "{said}"
    );

    machine.has_certificate("home/ssl", "rip.mcollective");
    let (code, said) = request(&["--certname", "rip.mcollective"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Already have a certificate"), "{said}");
}
