//! `natterjack choria server`, `ping` and `rpc`: a little fleet of real processes on a real broker, with Puppet's folders.
//!
//! People are not root: where the tests are, those commands run as nobody.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::KeyPair;
use serde_json::{Value, json};
use testkit::Authority;

use crate::process::{DEADLINE, Ended, NATTERJACK, NATTERJACKD, Running};

/// The user that is nobody, on every system these tests run on.
const NOBODY: u32 = 65534;

/// People sign with RSA, which this protocol needs and rcgen does not make.
const KEY_OF_PEOPLE: &str =
    include_str!("../../../natterjack-choria/tests/data/rip.mcollective.key.pem");

struct Fleet {
    /// Its folder is everybody's.
    authority: Authority,
    _broker: Running,
    port: String,
}

impl Fleet {
    fn new() -> Self {
        Self::with("verify: true", "")
    }

    /// With a broker that lets in whom it is told to.
    fn with(verify: &str, authorization: &str) -> Self {
        let authority = Authority::new();
        let folder = authority.folder();
        let everybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder, everybody).expect("a folder of ours");
        let key = KeyPair::generate().expect("a key");
        authority.certify(folder, "localhost", &key);
        let at = folder.display();
        let settings = format!(
            "listen: \"127.0.0.1:-1\"\ntls {{ cert_file: \"{at}/certs/localhost.pem\", key_file: \
             \"{at}/private_keys/localhost.pem\", ca_file: \"{at}/certs/ca.pem\", {verify}, timeout: 30 }}\n\
             {authorization}\n"
        );
        let file = folder.join("broker.conf");
        fs::write(&file, settings).expect("a file in a folder of ours");
        let mut broker = Running::start(NATTERJACKD, &["-c", &file.display().to_string()]);
        let line = broker.stderr_line("Listening for client connections on ");
        let port = line.rsplit(':').next().expect("a port").to_owned();
        Self {
            authority,
            _broker: broker,
            port,
        }
    }

    fn folder(&self) -> &Path {
        self.authority.folder()
    }

    /// The settings of somebody, who gets a certificate.
    fn settings(&self, name: &str, kind: &str, key: &KeyPair, more: &str) -> PathBuf {
        // Nodes keep the first one that they see of somebody.
        let has_one = self
            .folder()
            .join("certs")
            .join(format!("{name}.pem"))
            .exists();
        if !has_one {
            self.authority.certify(self.folder(), name, key);
        }
        let text = format!(
            "connector = nats\nidentity = {name}\nplugin.choria.middleware_hosts = localhost:{}\n\
             plugin.choria.ssldir = {}\n{more}",
            self.port,
            self.folder().display()
        );
        let file = self.folder().join(format!("{name}.{kind}.conf"));
        fs::write(&file, text).expect("a file in a folder of ours");
        file
    }

    fn command(&self, certname: &str) -> Command {
        let mut command = Command::new(NATTERJACK);
        command
            .arg("choria")
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", "/nowhere")
            .env("HOME", self.folder())
            .env("MCOLLECTIVE_CERTNAME", certname)
            .stdin(Stdio::null());
        command
    }

    /// A node that answers.
    fn node(&self, name: &str, family: &str) -> Running {
        let facts = self.folder().join(format!("{name}.yaml"));
        let text = format!("os:\n  family: {family}\nprocessors: 2\n");
        fs::write(&facts, text).expect("a file in a folder of ours");
        let more = format!("plugin.yaml = {}\n", facts.display());
        let key = KeyPair::generate().expect("a key");
        let file = self.settings(name, "server", &key, &more);
        let mut command = self.command(name);
        command.arg("server").arg("--config").arg(file);
        let mut node = Running::spawn(command);
        node.stderr_line(&format!(
            "{name} answers in mcollective, connected to localhost:"
        ));
        node
    }

    /// Runs a command of somebody who may ask, to its end.
    fn asks(&self, arguments: &[&str]) -> Ended {
        self.somebody_asks("rip.mcollective", arguments)
    }

    fn somebody_asks(&self, certname: &str, arguments: &[&str]) -> Ended {
        self.begin(certname, arguments, "").end()
    }

    /// Starts a command of somebody with more settings.
    fn begin(&self, certname: &str, arguments: &[&str], more: &str) -> Running {
        let key = KeyPair::from_pem(KEY_OF_PEOPLE).expect("a key");
        let file = self.settings(certname, "client", &key, more);
        let mut command = self.command(certname);
        command.args(arguments).arg("--config").arg(file);
        let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if is_root {
            command.uid(NOBODY);
        }
        Running::spawn(command)
    }
}

#[test]
fn who_loses_patience_hears_that_nobody_was_asked() {
    let fleet = Fleet::new();
    // Where nobody listens; of two such settings the last one counts.
    let nowhere = "plugin.choria.middleware_hosts = localhost:1\n";
    for command in [&["ping"][..], &["rpc", "rpcutil", "ping"]] {
        let mut asking = fleet.begin("rip.mcollective", command, nowhere);
        asking.stderr_line("tried are localhost:1; why those, shows: natterjack choria config");
        asking.signal("INT");
        let ended = asking.end();
        assert_eq!(ended.code, Some(130), "{ended:?}");
        for expected in [
            "cannot connect; trying the next server",
            "interrupted; there was no connection to a server yet",
        ] {
            assert!(ended.stderr.contains(expected), "{ended:?}");
        }
    }

    // The broker is there, and a node that was looked for is not.
    let looking = [
        "rpc",
        "rpcutil",
        "ping",
        "--discovery-timeout",
        "1h",
        "--log",
        "info",
    ];
    let mut asking = fleet.begin("rip.mcollective", &looking, "");
    asking.stderr_line("connected");
    asking.signal("INT");
    let ended = asking.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(
        ended.stderr.contains("natterjack: interrupted; "),
        "{ended:?}"
    );
}

/// One that takes connections and says nothing.
#[test]
fn who_waits_for_a_silent_server_hears_for_which() {
    let fleet = Fleet::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("it is bound").port();
    let there = format!("plugin.choria.middleware_hosts = localhost:{port}\n");
    let mut asking = fleet.begin("rip.mcollective", &["ping"], &there);
    asking.stderr_line(&format!(
        "no connection to a server yet; tried are localhost:{port}; why"
    ));
    asking.signal("INT");
    assert_eq!(asking.end().code, Some(130));
}

#[test]
fn nodes_answer_who_may_ask() {
    let fleet = Fleet::new();
    let mut nodes = vec![
        fleet.node("n1.example.net", "Debian"),
        fleet.node("n2.example.net", "Debian"),
        fleet.node("n3.example.net", "RedHat"),
    ];

    let ended = fleet.asks(&["ping", "--timeout", "30s", "--expect", "3"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    let mut answers: Vec<_> = lines
        .iter()
        .filter(|line| line.contains(" time="))
        .collect();
    answers.sort();
    assert!(answers[2].starts_with("n3.example.net                           time="));
    assert!(answers[2].ends_with(" ms"), "{ended:?}");
    assert!(lines.contains(&"---- ping statistics ----"), "{ended:?}");
    let last = lines.last().expect("lines");
    assert!(
        last.starts_with("3 replies max: ") && last.contains(" min: ") && last.contains(" avg: ")
    );

    let names = ["-I", "n3.example.net", "-I", "n1.example.net"];
    let ended = fleet.asks(&[&["ping", "--names", "--timeout", "30s"], &names[..]].concat());
    let mut lines: Vec<_> = ended.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["n1.example.net", "n3.example.net"], "{ended:?}");

    let get = [
        "rpc",
        "rpcutil",
        "get_fact",
        "fact=os.family",
        "--timeout",
        "30s",
    ];
    let ended = fleet.asks(&[&get[..], &names[..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let expected = "NODE            fact       value\n\
                    n1.example.net  os.family  Debian\n\
                    n3.example.net  os.family  RedHat\n\n\
                    Finished processing 2 / 2 hosts in ";
    assert!(ended.stdout.starts_with(expected), "{ended:?}");

    let found = [
        "-F",
        "os.family=debian",
        "--discovery-timeout",
        "30s",
        "--expect",
        "2",
        "--json",
    ];
    let ended = fleet.asks(&[&get[..], &found[..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let printed: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(printed["request_stats"]["discovered"], 2);
    assert_eq!(printed["request_stats"]["okcount"], 2);
    assert_eq!(
        printed["replies"][0],
        json!({
            "sender": "n1.example.net", "statuscode": 0, "statusmsg": "OK",
            "data": {"fact": "os.family", "value": "Debian"},
        })
    );

    nodes.remove(0).signal("TERM");
    let node = nodes.remove(0);
    node.signal("TERM");
    let ended = node.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_node_tells_the_service_manager_how_it_is() {
    let fleet = Fleet::new();
    let path = fleet.folder().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let hears = || {
        let mut buffer = [0; 1_000];
        let length = manager.recv(&mut buffer).expect("it is told");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let start = |name: &str, more: &str| {
        let key = KeyPair::generate().expect("a key");
        let file = fleet.settings(name, "server", &key, more);
        let mut command = fleet.command(name);
        command.arg("server").arg("--config").arg(file);
        command.env("NOTIFY_SOCKET", &path);
        Running::spawn(command)
    };
    let looking = "READY=1\nSTATUS=Looking for a broker\n";

    // Nobody listens on this port.
    let away = start(
        "n1.example.net",
        "plugin.choria.middleware_hosts = localhost:1\n",
    );
    assert_eq!(hears(), looking);
    away.signal("TERM");
    assert!(hears().starts_with("STOPPING=1\n"));
    assert_eq!(away.end().code, Some(0));

    let mut node = start("n2.example.net", "");
    assert_eq!(hears(), looking);
    let status = hears();
    assert!(
        status.starts_with("READY=1\nSTATUS=n2.example.net answers in mcollective, connected to "),
        "{status}"
    );
    node.signal("HUP");
    node.stderr_line("SIGHUP changes nothing");
    let ended = fleet.asks(&["ping", "--timeout", "30s", "--expect", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    node.signal("TERM");
    assert!(hears().starts_with("STOPPING=1\n"));
    assert_eq!(node.end().code, Some(0));
}

/// Those of `docs/choria.md`.
#[test]
fn with_permissions_for_each_all_goes_on() {
    let fleet = Fleet::with(
        "verify_and_map: true",
        r#"authorization {
          users = [
            { user: "node1.example.net", permissions: {
                subscribe: ["mcollective.broadcast.agent.>", "mcollective.node.node1.example.net"]
                publish: "mcollective.reply.>" } }
            { user: "rip.mcollective", permissions: {
                subscribe: "mcollective.reply.37bdf08389145a56c13096c178802d3b.>"
                publish: ["mcollective.broadcast.agent.>", "mcollective.node.>"] } }
          ]
        }"#,
    );
    let _node = fleet.node("node1.example.net", "Debian");
    let ended = fleet.asks(&["ping", "--timeout", "30s", "--expect", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let to_it_alone = ["-I", "node1.example.net", "--timeout", "30s"];
    let ended = fleet.asks(&[&["rpc", "rpcutil", "ping"], &to_it_alone[..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// Servers take such a certificate, and nodes answer with one; but whoever asks has to sign.
#[test]
fn a_key_that_cannot_sign_is_not_good_for_who_asks() {
    let fleet = Fleet::new();
    let key = KeyPair::generate().expect("a key of ECDSA");
    fleet
        .authority
        .certify(fleet.folder(), "ec.mcollective", &key);
    for arguments in [&["config"][..], &["ping"]] {
        let ended = fleet.somebody_asks("ec.mcollective", arguments);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let text = format!("{}{}", ended.stdout, ended.stderr);
        assert!(text.contains("cannot sign requests with"), "{ended:?}");
        assert!(text.contains("it is no RSA key"), "{ended:?}");
    }
    let node = fleet.somebody_asks("ec.mcollective", &["config", "--server"]);
    assert_eq!(node.code, Some(0), "{node:?}");
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let fleet = Fleet::new();
    let _node = fleet.node("n1.example.net", "Debian");
    let named = ["-I", "n1.example.net", "--timeout", "30s"];
    let on_node = |action: &[&str]| fleet.asks(&[&["rpc", "rpcutil"], action, &named[..]].concat());

    let ended = on_node(&["dance"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended
            .stdout
            .contains("Unknown Action: Unknown action 'dance' for agent 'rpcutil'")
    );

    // What is not text has another type on the wire.
    let ended = on_node(&["get_fact", "fact:=7"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stdout.contains("argument fact must be text"),
        "{ended:?}"
    );

    let ended = fleet.asks(&[
        "rpc",
        "rpcutil",
        "ping",
        "-F",
        "os.family=Plan9",
        "--discovery-timeout",
        "1s",
    ]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("no node that is meant has been found"),
        "{ended:?}"
    );

    let ended = fleet.asks(&["rpc", "rpcutil", "ping", "-I", "none", "--timeout", "1s"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(
        ended.stdout.contains("No response from:\n    none\n"),
        "{ended:?}"
    );
    let remedy = "or lack the agent rpcutil; nodes with that agent are listed by: natterjack choria ping -A rpcutil";
    assert!(ended.stderr.contains(remedy), "{ended:?}");

    let ended = fleet.asks(&[
        "rpc",
        "rpcutil",
        "ping",
        "-I",
        "n1.example.net",
        "--no-results",
    ]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.starts_with("Request sent with id: "),
        "{ended:?}"
    );

    // A machine has a good certificate, too, but may not ask.
    let ended = fleet.somebody_asks("n2.example.net", &["ping", "--timeout", "1s"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.stdout.contains("No responses received"), "{ended:?}");
    assert!(
        (ended.stdout + &ended.stderr).contains("nodes take no requests of n2.example.net unless"),
    );

    let ended = fleet.asks(&["ping", "-S", "a and b"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("compound filters are not supported"),
        "{ended:?}"
    );
    let ended = fleet.asks(&["rpc", "rpcutil", "ping", "word"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
