//! A fleet's servers found through real DNS servers, dnsmasq and knot, on the loopback of a machine of the test's own: by a
//! resolver that is told whom to ask, and by that of the machine, whose `/etc/resolv.conf` names them. There Facter, the real
//! one, says the domain.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use natterjack_choria::configuration::{Configuration, Role, Surroundings};
use natterjack_choria::finding::{Finder, Found, Source};
use natterjack_dns::Resolver;
use serde_json::Value;
use tempfile::TempDir;
use testkit::netns::{Network, with_privileges};
use testkit::{PATIENCE, Program, programs};

use super::root::{User, enter};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 3] = [
        ("choria::finding::through_dnsmasq", || {
            found_as_the_zone_says(Naming::Dnsmasq);
        }),
        ("choria::finding::through_knot", || {
            found_as_the_zone_says(Naming::Knot);
        }),
        (
            "choria::finding::as_the_machine_is_configured",
            as_the_machine_is_configured,
        ),
    ];
    let trials = tests.into_iter().map(|(name, run)| {
        let needs = [
            programs::naming().map(drop),
            programs::natterjack().map(drop),
        ];
        trial(name.to_owned(), needs, move || with_privileges(name, run))
    });
    trials.collect()
}

/// The zone of the page that introduced the connector, the same once more under the former name, and what else there can be.
/// Of service, priority, weight, port and host; without a host there is no such service.
const ZONE: [(&str, u16, u16, u16, &str); 12] = [
    ("_mcollective-server._tcp", 11, 0, 4222, "nats2"),
    ("_mcollective-server._tcp", 10, 0, 4222, "nats1"),
    ("_mcollective-server._tcp", 20, 60_000, 4223, "often"),
    ("_mcollective-server._tcp", 20, 1, 4223, "seldom"),
    ("_x-puppet-mcollective._tcp", 10, 0, 4222, "nats1"),
    ("_x-puppet-mcollective._tcp", 11, 0, 4222, "nats2"),
    ("_x-puppet-mcollective._tcp", 12, 0, 4222, "nats3"),
    ("_mcollective-federation_server._tcp", 0, 0, 1, ""),
    ("_x-puppet-mcollective_federation._tcp", 1, 0, 4222, "fed1"),
    ("_x-puppet-ca._tcp", 1, 0, 8140, "ca"),
    ("_x-puppet._tcp", 1, 0, 8141, "server"),
    ("_mcollective-discovery._tcp", 1, 0, 8086, "proxy"),
];

fn found_as_the_zone_says(naming: Naming) {
    let mut stage = Stage::new();
    stage.start(naming, 5354);
    let (finder, federated) = (stage.finder(""), stage.finder(FEDERATED));
    stage.ask(async || {
        for _ in 0..5 {
            expect_middleware(&shown(&finder.middleware().await));
        }
        assert_eq!(shown(&finder.puppet_ca().await), ["ca.example.net:8140"]);
        assert_eq!(
            shown(&finder.puppet_server().await),
            ["server.example.net:8141"]
        );
        assert_eq!(
            shown(&finder.puppet_db().await),
            ["server.example.net:8081"]
        );
        assert_eq!(
            shown(&federated.middleware().await),
            ["fed1.example.net:4222"],
            "the record under the present name says that there is none"
        );
        expect_middleware(&shown(&federated.collective().await));
        let proxy = federated.discovery_proxy().await.expect("it is in use");
        assert_eq!(shown(&proxy), ["proxy.example.net:8086"]);
    });

    // Somebody else's domain, about which this server knows nothing.
    let elsewhere = stage.finder("plugin.choria.srv_domain = elsewhere.example.net\n");
    stage.ask(async || {
        assert_eq!(elsewhere.middleware().await.source, Source::Default);
    });
    stage.dns = None;
    let alone = stage.finder("");
    stage.ask(async || {
        assert_eq!(shown(&alone.middleware().await), ["puppet:4222"]);
    });
}

const FEDERATED: &str =
    "plugin.choria.federation.collectives = london\nplugin.choria.discovery_proxy = true\n";

/// The command line on a machine where nothing is configured: its name has a domain, which Facter says, and
/// `/etc/resolv.conf` names the DNS server.
fn as_the_machine_is_configured() {
    for naming in [Naming::Dnsmasq, Naming::Knot] {
        let mut stage = Stage::new();
        stage.start(naming, 53);
        let report = stage.run_config("");
        let text = |pointer: &str| report.pointer(pointer).and_then(Value::as_str);
        assert_eq!(text("/identity"), Some("node1.example.net"));
        assert_eq!(text("/servers/srv_domain"), Some("example.net"));
        assert_eq!(
            text("/servers/srv_domain_origin"),
            Some("Facter's networking.domain")
        );
        let servers = report.pointer("/servers/middleware/servers");
        let servers = servers.and_then(Value::as_array).expect("a list");
        let servers: Vec<_> = servers.iter().filter_map(Value::as_str).collect();
        expect_middleware(&servers);
        assert_eq!(text("/puppet/ca/servers/0"), Some("ca.example.net:8140"));

        let report = stage.run_config("plugin.choria.use_srv = false\n");
        let text = |pointer: &str| report.pointer(pointer).and_then(Value::as_str);
        assert_eq!(text("/servers/middleware/servers/0"), Some("puppet:4222"));
        assert_eq!(text("/servers/middleware/source"), Some("default"));
    }
}

/// Priorities in order, every server once; the lot decides between those of the last one.
#[track_caller]
fn expect_middleware<S: AsRef<str>>(servers: &[S]) {
    let servers: Vec<_> = servers.iter().map(AsRef::as_ref).collect();
    let (sure, drawn) = servers.split_at_checked(3).unwrap_or((&servers, &[]));
    let expected = [
        "nats1.example.net:4222",
        "nats2.example.net:4222",
        "nats3.example.net:4222",
    ];
    assert_eq!(sure, expected);
    let mut drawn = drawn.to_vec();
    drawn.sort_unstable();
    assert_eq!(drawn, ["often.example.net:4223", "seldom.example.net:4223"]);
}

fn shown(found: &Found) -> Vec<String> {
    found.servers.iter().map(ToString::to_string).collect()
}

#[derive(Clone, Copy, Debug)]
enum Naming {
    Dnsmasq,
    Knot,
}

/// A machine with a DNS server.
struct Stage {
    // It ends before its machine.
    dns: Option<Program>,
    network: Network,
    folder: TempDir,
    root: PathBuf,
}

/// What becomes a program on a machine of this name, `$1`, with this `/etc/resolv.conf`, `$2`, from which Facter can be run in
/// the root `$3`.
const BECOME: &str = r#"
hostname "$1" && mount --bind "$2" /etc/resolv.conf || exit 1
mount --rbind /dev "$3/dev" && mount --rbind /proc "$3/proc" || exit 1
shift 3
exec "$@"
"#;

impl Stage {
    fn new() -> Self {
        Self {
            dns: None,
            network: Network::of(1, 0),
            folder: tempfile::tempdir().expect("a folder for a test"),
            root: programs::naming().expect("it is needed"),
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file in a folder of ours");
        path
    }

    /// Starts a DNS server, and waits until it answers.
    fn start(&mut self, naming: Naming, port: u16) {
        let (program, arguments, announcement) = match naming {
            Naming::Dnsmasq => {
                self.write("dnsmasq.conf", &dnsmasq_configuration(port));
                let arguments = ["--keep-in-foreground", "--conf-file=/mnt/dnsmasq.conf"];
                ("/usr/sbin/dnsmasq", arguments, "started, version")
            }
            Naming::Knot => {
                self.write("knot.conf", &knot_configuration(port));
                self.write("example.net.zone", &knot_zone());
                let arguments = ["--config", "/mnt/knot.conf"];
                ("/usr/sbin/knotd", arguments, "server started")
            }
        };
        let mut command = enter(&self.root, self.folder.path(), User::Root);
        command.arg(program).args(arguments);
        let dns = self.network.inside(0, || Program::spawn(&mut command));
        let dns = dns.expect("unshare is there");
        let started = dns.wait_for(announcement, PATIENCE);
        assert!(started.is_ok(), "{naming:?}: {}", dns.output());
        self.dns = Some(dns);
    }

    /// Finds with these settings, by a resolver that asks the server on port 5354 and nobody else.
    fn finder(&self, settings: &str) -> Finder {
        let settings = format!("plugin.choria.srv_domain = example.net\n{settings}");
        let file = self.write("client.conf", &settings);
        let surroundings = Surroundings::bare("node1.example.net", self.folder.path());
        let loaded = Configuration::load(Role::Client, Some(&file), &surroundings);
        let configuration = loaded.expect("it is right").configuration;
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 5354));
        Finder::new(
            &configuration,
            &surroundings,
            Resolver::with_servers(vec![server]),
        )
    }

    /// Asks on the machine.
    fn ask(&self, questions: impl AsyncFnOnce() + Send) {
        self.network.inside(0, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(questions());
        });
    }

    /// What `natterjack choria config` says on the machine.
    fn run_config(&self, settings: &str) -> Value {
        let resolver = self.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:5\n");
        let file = self.write("client.conf", settings);
        let bin = self.folder.path().join("bin");
        fs::create_dir_all(&bin).expect("a folder in a folder of ours");
        let facter = self.write("bin/facter", &facter_script(&self.root));
        fs::set_permissions(facter, fs::Permissions::from_mode(0o755)).expect("a file of ours");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--uts", "sh", "-c", BECOME, "become"])
            .args(["node1.example.net"])
            .args([&resolver, &self.root])
            .arg(programs::natterjack().expect("it is needed"))
            .args(["choria", "config", "--json", "--config"])
            .arg(file)
            .env_clear()
            .env("HOME", self.folder.path())
            .env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()),
            )
            .current_dir(self.folder.path());
        let output = self.network.inside(0, || command.output());
        let output = output.expect("unshare is there");
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{complained}"))
    }
}

fn facter_script(root: &Path) -> String {
    format!(
        "#!/bin/sh\nexec chroot '{}' /usr/bin/facter \"$@\"\n",
        root.display()
    )
}

fn dnsmasq_configuration(port: u16) -> String {
    let mut text = format!(
        "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\ngroup=root\n\
         pid-file=\nlog-facility=-\nlocal=/example.net/\n"
    );
    for (service, priority, weight, port, host) in ZONE {
        let service = format!("{service}.example.net");
        text.push_str(&if host.is_empty() {
            format!("srv-host={service}\n")
        } else {
            format!("srv-host={service},{host}.example.net,{port},{priority},{weight}\n")
        });
    }
    text
}

fn knot_configuration(port: u16) -> String {
    format!(
        "server:\n    rundir: /mnt\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n\
         log:\n  - target: stderr\n    any: info\ndatabase:\n    storage: /mnt\n\
         zone:\n  - domain: example.net\n    storage: /mnt\n    file: example.net.zone\n"
    )
}

fn knot_zone() -> String {
    let mut text = "$ORIGIN example.net.\n$TTL 60\n@ SOA ns admin 1 3600 600 86400 60\n@ NS ns\n\
                    ns A 127.0.0.1\n"
        .to_owned();
    for (service, priority, weight, port, host) in ZONE {
        let host = if host.is_empty() { "." } else { host };
        text.push_str(&format!(
            "{service} SRV {priority} {weight} {port} {host}\n"
        ));
    }
    text
}
