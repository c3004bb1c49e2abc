//! Nodes, people and brokers as processes, with certificates as Puppet makes them and the settings that both MCollective and
//! we read: `natterjack choria server`, `ping`, `rpc` and `federation`.
//!
//! People are not root: where the tests are, those commands run as nobody.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rcgen::KeyPair;
use serde_json::Value;
use testkit::{Authority, Config, Kind, Program, ServerUnderTest, programs};

use super::authority::PATIENCE;

/// Keys of RSA, which rcgen does not make. Requests are signed with RSA, and Choria's plugins read no other keys: so all have
/// the same one.
const KEY: &str =
    include_str!("../../../crates/natterjack-choria/tests/data/rip.mcollective.key.pem");
const KEY_OF_AUTHORITY: &str = include_str!("fleet_authority.key.pem");

/// The user that is nobody, on every system these tests run on.
const NOBODY: u32 = 65534;

/// Who may ask.
pub(super) const RIP: &str = "rip.mcollective";

/// An authority, and in its folder one for each who has a certificate.
pub(super) struct World {
    authority: Authority,
}

impl World {
    pub(super) fn new() -> Self {
        let key = KeyPair::from_pem(KEY_OF_AUTHORITY).expect("a key");
        let world = Self {
            authority: Authority::with_key(key),
        };
        let everybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(world.folder(), everybody).expect("it is ours");
        world
    }

    pub(super) fn folder(&self) -> &Path {
        self.authority.folder()
    }

    /// A broker that lets in who has a certificate. It is known as `localhost`.
    pub(super) fn broker(&self, kind: Kind) -> ServerUnderTest {
        let ssl = self.certify("localhost");
        let at = ssl.display();
        ServerUnderTest::start(
            kind,
            &Config::file(format!(
                "tls {{ cert_file: \"{at}/certs/localhost.pem\", key_file: \"{at}/private_keys/localhost.pem\", ca_file: \
                 \"{at}/certs/ca.pem\", verify: true, timeout: 60 }}\n"
            )),
        )
    }

    /// A folder as Puppet's agent has one. Who has one keeps it.
    fn certify(&self, name: &str) -> PathBuf {
        let ssl = self.folder().join(name).join("ssl");
        if ssl.exists() {
            return ssl;
        }
        let key = KeyPair::from_pem(KEY).expect("a key");
        self.authority.certify(&ssl, name, &key);
        ssl
    }

    /// Somebody with a certificate, whose server this is, and with more settings; `$HOME` in them is his own folder, as it is
    /// found where he is.
    pub(super) fn party(&self, name: &str, server: SocketAddr, more: &str) -> Party {
        self.certify(name);
        let settings = format!(
            "identity = {name}\nconnector = nats\nsecurityprovider = choria\nfactsource = yaml\ndaemonize = 0\n\
             logger_type = console\nplugin.yaml = $HOME/facts.yaml\nclassesfile = $HOME/classes.txt\n\
             plugin.choria.middleware_hosts = localhost:{}\nplugin.choria.use_srv = false\n\
             plugin.choria.ssldir = $HOME/ssl\n{more}",
            server.port()
        );
        Party {
            name: name.to_owned(),
            home: self.folder().join(name),
            settings,
        }
    }
}

/// A machine, or a person.
pub(super) struct Party {
    pub(super) name: String,
    home: PathBuf,
    settings: String,
}

impl Party {
    /// The same, who knows this of itself.
    pub(super) fn knowing(self, facts: &Value, classes: &[&str]) -> Self {
        // JSON is YAML.
        for (name, text) in [
            ("facts.yaml", facts.to_string()),
            ("classes.txt", classes.join("\n")),
        ] {
            fs::write(self.home.join(name), text).expect("the folder can be written");
        }
        self
    }

    /// Writes a configuration file for where the folder of this world is found at `at`.
    pub(super) fn configure(&self, file: &str, at: &Path, more: &str) {
        let home = at.join(&self.name).display().to_string();
        let text = format!("{}{more}", self.settings).replace("$HOME", &home);
        fs::write(self.home.join(file), text).expect("the folder can be written");
    }

    fn natterjack(&self) -> Command {
        let world = self.home.parent().expect("it is in a folder");
        self.configure("natterjack.conf", world, "");
        let mut command = Command::new(programs::natterjack().expect("checked before"));
        command
            .args(["choria", "--config"])
            .arg(self.home.join("natterjack.conf"))
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", "/nowhere")
            .env("HOME", &self.home)
            .env("MCOLLECTIVE_CERTNAME", &self.name)
            .stdin(Stdio::null());
        command
    }

    /// `natterjack choria server`, which answers.
    pub(super) fn serve(&self) -> Program {
        let node = Program::spawn(self.natterjack().arg("server")).expect("it can be started");
        wait_for(&node, &format!("{} answers in ", self.name));
        node
    }

    /// `natterjack choria federation`, which is connected to both sides.
    pub(super) fn federate(&self) -> Program {
        let broker =
            Program::spawn(self.natterjack().arg("federation")).expect("it can be started");
        wait_for(&broker, "broker of ");
        broker
    }

    /// A command of somebody who asks.
    pub(super) fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = self.natterjack();
        command.args(arguments);
        if fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            command.uid(NOBODY);
        }
        command.output().expect("it can be started")
    }

    /// Who answers to a ping; it ends when so many have. Sorted.
    pub(super) fn ping(&self, expected: usize, flags: &[&str]) -> Vec<String> {
        let expected = expected.to_string();
        let ping = ["ping", "--names", "--timeout", "60s", "--expect", &expected];
        let output = self.ask(&[&ping[..], flags].concat());
        let mut names: Vec<_> = text(&output.stdout).lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// What agents answer, in the form that all clients have: objects with `sender`, `statuscode`, `statusmsg` and `data`.
    /// Sorted by sender.
    pub(super) fn call(&self, arguments: &[&str]) -> Vec<Value> {
        let call = ["rpc", "--json", "--timeout", "60s"];
        let output = self.ask(&[&call[..], arguments].concat());
        let found: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", said(&output)));
        sorted(&found["replies"])
    }
}

pub(super) fn sorted(replies: &Value) -> Vec<Value> {
    let mut replies = replies.as_array().expect("a list").clone();
    replies.sort_by_key(|reply| reply["sender"].as_str().expect("a name").to_owned());
    replies
}

pub(super) fn wait_for(program: &Program, text: &str) {
    if let Err(ending) = program.wait_for(text, PATIENCE) {
        panic!("no `{text}`; it {ending}:\n{}", program.output());
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn said(output: &Output) -> String {
    text(&[output.stdout.as_slice(), output.stderr.as_slice()].concat())
}
