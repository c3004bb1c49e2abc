//! Puppet's real authority, Debian's `puppetserver`, in a root and on a port of its own: certificates are requested from it and
//! signed on it as an operator does, and brokers with the configuration of the page that introduced this connector let in who
//! has one, and nobody else.
//!
//! It takes a minute to start and 700 MB of memory, so one test does all of this.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::ConnectOptions;
use libtest_mimic::Trial;
use natterjack_choria::client::{Asker, Client, ClientOptions, Event, Ping};
use natterjack_choria::configuration::{Configuration, Role, Surroundings};
use natterjack_choria::connector::{Connector, ConnectorOptions, OutgoingRequest, Recipients};
use natterjack_choria::server::ServerAddress;
use natterjack_choria::ssl::Ssl;
use natterjack_choria::subject::TargetKind;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use testkit::{Config, Kind, Listener, PATIENCE, Program, ServerUnderTest, ask_until, programs};
use tokio::time::timeout;

use super::root::{NEEDS, User, enter};
use crate::trial;

/// How long Puppet's server may take to start: usually a minute, more on a machine that is busy.
const PUPPET_PATIENCE: Duration = Duration::from_secs(400);

/// How long one of its programs, or ours with it, may take.
const STEP_PATIENCE: Duration = Duration::from_secs(120);

/// How long a broker may take to let somebody in, or to bring a message.
const BROKER_PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn trials() -> Vec<Trial> {
    let needs = [
        programs::puppet().map(drop),
        programs::natterjack().map(drop),
        Kind::Natterjack.program().map(drop),
        Kind::NatsServer.program().map(drop),
    ];
    vec![trial(
        "choria::puppet::certificates_and_brokers".to_owned(),
        needs,
        certificates_and_brokers,
    )]
}

fn certificates_and_brokers() {
    let puppet = Puppet::start();
    whom_the_fingerprint_does_not_vouch_for(&puppet);
    let rip = a_request_is_interrupted_and_goes_on(&puppet, "rip.mcollective");
    a_name_that_is_taken(&puppet, "rip.mcollective");
    let bob = another_request_waits(&puppet, "bob.mcollective");
    let node = a_request_that_waits(&puppet, "node1.example.net");
    who_was_revoked_is_not_heard(&puppet, &node, &bob, &rip);
    // The second broker is on this machine like the first one, and its certificate must be for the name that it is known by.
    let second = a_request_that_waits(&puppet, "localhost");
    let runtime = runtime();
    for kinds in [
        [Kind::NatsServer, Kind::NatsServer],
        [Kind::Natterjack, Kind::Natterjack],
        [Kind::Natterjack, Kind::NatsServer],
    ] {
        let brokers = Brokers::start(&puppet, &second, kinds);
        runtime.block_on(who_has_a_certificate_is_let_in(&brokers, &rip, &node));
        runtime.block_on(nobody_else_is(&brokers, &puppet));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

// ---- The authority ----

const PUPPET_SERVER: &str = r#"
jruby-puppet: {
  ruby-load-path: [/usr/lib/puppetserver/ruby/vendor_ruby]
  gem-home: /mnt/var/gems
  gem-path: [${jruby-puppet.gem-home}, "/usr/lib/puppetserver/vendored-jruby-gems"]
  server-conf-dir: /mnt/etc
  server-code-dir: /mnt/code
  server-var-dir: /mnt/var
  server-run-dir: /mnt/run
  server-log-dir: /mnt/log
  max-active-instances: 1
}
http-client: {}
profiler: {}
"#;

const LOG: &str = r#"
<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%p %c{0} %m%n</pattern></encoder></appender>
  <root level="info"><appender-ref ref="OUT"/></root>
</configuration>
"#;

/// The line that it writes when it is there.
const STARTED: &str = "Puppet Server has successfully started";

struct Puppet {
    root: PathBuf,
    /// What it finds at `/mnt`: all that it reads and writes beside its programs.
    folder: TempDir,
    port: u16,
    _server: Program,
}

impl Puppet {
    fn start() -> Self {
        let root = programs::puppet().expect("checked before");
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        lay_out(&root, folder.path(), port);
        let set_up = run(enter(&root, folder.path(), User::Root).args(authority("setup", &[])));
        assert_success(&set_up, NEEDS);
        let mut java = enter(&root, folder.path(), User::Root);
        java.args(["/usr/lib/jvm/default-java/bin/java", "-Xms256m", "-Xmx768m"])
            // It starts once and is stopped soon: the second compiler would not earn what it takes.
            .args(["-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"])
            .args(["-Djava.io.tmpdir=/mnt/tmp", "-Djruby.lib=/usr/share/jruby/lib"])
            .args(["-jar", "/usr/share/puppetserver/puppetserver.jar"])
            .args(["--config", "/mnt/conf.d", "--bootstrap-config", "/mnt/services.d"])
            .args(["--restart-file", "/mnt/restart"]);
        let server = Program::spawn(&mut java).unwrap_or_else(|error| panic!("{NEEDS}: {error}"));
        if let Err(ending) = server.wait_for(STARTED, PUPPET_PATIENCE) {
            panic!(
                "Puppet's server did not start; it {ending}; its log:\n{}",
                server.output()
            );
        }
        Self {
            root,
            folder,
            port,
            _server: server,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `puppetserver ca` on the authority.
    fn administer(&self, action: &str, arguments: &[&str]) -> Output {
        run(enter(&self.root, self.folder.path(), User::Root).args(authority(action, arguments)))
    }

    fn sign(&self, certname: &str) {
        assert_success(
            &self.administer("sign", &["--certname", certname]),
            "signing",
        );
    }

    /// What openssl says of the first certificate, as somebody there would read it out.
    fn fingerprint(&self) -> String {
        let output = run(Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(self.path("ca/ca_crt.pem")));
        assert_success(&output, "openssl");
        String::from_utf8(output.stdout).expect("text")
    }
}

fn authority<'a>(action: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    let program = [
        "/usr/bin/ruby",
        "/usr/share/puppetserver/cli/apps/ca",
        action,
    ];
    let configuration = ["--config", "/mnt/etc/puppet.conf"];
    [&program, arguments, &configuration].concat()
}

/// Its files. What Debian's package brings is taken where it can be.
fn lay_out(root: &Path, folder: &Path, port: u16) {
    for name in [
        "conf.d",
        "services.d",
        "etc",
        "code",
        "var",
        "run",
        "log",
        "tmp",
    ] {
        fs::create_dir(folder.join(name)).expect("an empty folder");
    }
    let packaged = root.join("etc/puppet/puppetserver");
    for name in [
        "conf.d/auth.conf",
        "conf.d/ca.conf",
        "conf.d/web-routes.conf",
        "services.d/bootstrap.cfg",
        "services.d/ca.cfg",
    ] {
        fs::copy(packaged.join(name), folder.join(name)).expect("the package has it");
    }
    let web = format!("webserver: {{ client-auth: want, ssl-host: 127.0.0.1, ssl-port: {port} }}");
    let puppet = format!(
        "[main]\nconfdir = /mnt/etc\nssldir = /mnt/ssl\ncadir = /mnt/ca\nvardir = /mnt/var\nrundir = /mnt/run\n\
         logdir = /mnt/log\ncodedir = /mnt/code\ncertname = puppet\ndns_alt_names = puppet,localhost\n\
         server = localhost\nca_server = localhost\nserverport = {port}\nca_port = {port}\n\
         user = puppet\ngroup = puppet\n"
    );
    for (name, text) in [
        ("conf.d/puppetserver.conf", PUPPET_SERVER),
        ("conf.d/webserver.conf", &web),
        (
            "conf.d/global.conf",
            "global: { logging-config: /mnt/logback.xml }",
        ),
        ("conf.d/metrics.conf", "metrics: { server-id: interop }"),
        ("logback.xml", LOG),
        ("etc/puppet.conf", &puppet),
        ("restart", "0"),
    ] {
        fs::write(folder.join(name), text).expect("the folder can be written");
    }
}

/// Puppet's server cannot choose one itself. Below those that the system gives out, so that nobody gets it meanwhile.
fn free_port() -> u16 {
    let mut random = fastrand::Rng::new();
    let free = ask_until(PATIENCE, || {
        let port = random.u16(20_000..30_000);
        TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    });
    free.expect("there are thousands")
}

// ---- Certificates ----

/// Somebody with a folder for keys and certificates, and a name for these.
struct Person {
    folder: TempDir,
    certname: String,
}

impl Person {
    fn new(certname: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "plugin.choria.ssldir = {}\n",
            folder.path().join("ssl").display()
        );
        fs::write(folder.path().join("client.conf"), text).expect("the folder can be written");
        Self {
            folder,
            certname: certname.to_owned(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ssl_file(&self, folder: &str) -> PathBuf {
        self.path(&format!("ssl/{folder}/{}.pem", self.certname))
    }

    /// `natterjack choria request-cert`.
    fn request(&self, puppet: &Puppet, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs::natterjack().expect("checked before"));
        command
            .args(["choria", "--config"])
            .arg(self.path("client.conf"))
            .args(["request-cert", "--certname", &self.certname])
            .arg("--ca")
            .arg(format!("localhost:{}", puppet.port))
            .args(arguments)
            .env("HOME", self.folder.path())
            .env_remove("MCOLLECTIVE_CERTNAME")
            .current_dir(self.folder.path());
        command
    }

    /// `natterjack choria server`, which answers.
    fn serve(&self, broker: &ServerAddress) -> Program {
        let settings = format!(
            "identity = {}\nplugin.choria.ssldir = {}\nplugin.choria.middleware_hosts = {broker}\nplugin.choria.use_srv = \
             false\n",
            self.certname,
            self.path("ssl").display()
        );
        fs::write(self.path("node.conf"), settings).expect("the folder can be written");
        let mut command = Command::new(programs::natterjack().expect("checked before"));
        command
            .args(["choria", "server", "--config"])
            .arg(self.path("node.conf"))
            .env("HOME", self.folder.path())
            .env("MCOLLECTIVE_CERTNAME", &self.certname)
            .current_dir(self.folder.path());
        let node = Program::spawn(&mut command).expect("it can be started");
        let answers = node.wait_for("answers in mcollective", STEP_PATIENCE);
        answers.unwrap_or_else(|ending| panic!("it {ending}:\n{}", node.output()));
        node
    }

    fn requests(&self, puppet: &Puppet, arguments: &[&str]) -> (bool, String) {
        let output = run(&mut self.request(puppet, arguments));
        (output.status.success(), said(&output))
    }

    /// What the connector makes of the files: they are checked by this.
    fn ssl(&self) -> (Configuration, Ssl) {
        let surroundings = Surroundings {
            environment: BTreeMap::from([("MCOLLECTIVE_CERTNAME".into(), self.certname.clone())]),
            home: Some(self.folder.path().to_owned()),
            ..Surroundings::bare("client.example.net", self.path("root"))
        };
        let text = format!(
            "connector = nats\nidentity = {}\nplugin.choria.ssldir = {}\n",
            self.certname,
            self.path("ssl").display()
        );
        let file = self.path("connector.conf");
        fs::write(&file, text).expect("the folder can be written");
        let loaded = Configuration::load(Role::Client, Some(&file), &surroundings)
            .unwrap_or_else(|problems| panic!("{problems}"));
        let ssl = Ssl::load(&loaded.configuration, &surroundings, now())
            .unwrap_or_else(|error| panic!("{error}"));
        (loaded.configuration, ssl)
    }
}

fn whom_the_fingerprint_does_not_vouch_for(puppet: &Puppet) {
    let person = Person::new("rip.mcollective");
    let wrong = "00:".repeat(31) + "00";
    let (is_done, text) = person.requests(puppet, &["--ca-fingerprint", &wrong]);
    assert!(!is_done && text.contains("were not trusted"), "{text}");
    assert!(!person.path("ssl").exists(), "nothing is kept");
}

fn a_request_is_interrupted_and_goes_on(puppet: &Puppet, certname: &str) -> Person {
    let person = Person::new(certname);
    let known = puppet.fingerprint();
    let arguments = ["--ca-fingerprint", known.trim(), "--poll", "1s"];
    let mut program =
        Program::spawn(&mut person.request(puppet, &arguments)).expect("it can be started");
    let wait = |program: &Program, text: &str| {
        let line = program.wait_for(text, STEP_PATIENCE);
        line.unwrap_or_else(|ending| panic!("no `{text}`; it {ending}:\n{}", program.output()))
    };
    wait(&program, "They have the fingerprint given.");
    wait(&program, "Waiting for the signature");
    // What is shown here is what is shown there.
    let shown = program.output();
    let mut request = shown
        .lines()
        .skip_while(|line| !line.starts_with("Request in "));
    let fingerprint = request.nth(1).expect("it is shown").trim();
    let list = said(&puppet.administer("list", &[]));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words(&list).contains(&format!("{certname} {fingerprint}")),
        "{fingerprint}:\n{list}"
    );
    program.interrupt();
    let status = program.wait_for_exit(STEP_PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(130), "{}", program.output());
    assert!(program.output().contains("run the same command again"));

    let key = fs::read(person.ssl_file("private_keys")).expect("it is kept");
    let mut program =
        Program::spawn(&mut person.request(puppet, &arguments)).expect("it can be started");
    wait(&program, "The authority has the request already.");
    puppet.sign(certname);
    wait(&program, "Certificate in ");
    let status = program.wait_for_exit(STEP_PATIENCE).expect("it ends");
    assert!(status.success(), "{}", program.output());
    assert_eq!(
        fs::read(person.ssl_file("private_keys")).expect("it is there"),
        key
    );
    let (is_done, text) = person.requests(puppet, &[]);
    assert!(
        !is_done && text.contains("Already have a certificate"),
        "{text}"
    );
    person.ssl();
    person
}

fn a_request_that_waits(puppet: &Puppet, certname: &str) -> Person {
    let person = Person::new(certname);
    let (is_done, text) = person.requests(puppet, &["--wait", "0"]);
    assert!(
        !is_done && text.contains("not signed within 0 seconds"),
        "{text}"
    );
    assert!(text.contains("Nobody vouches for them yet"), "{text}");
    puppet.sign(certname);
    let (is_done, text) = person.requests(puppet, &["--wait", "0"]);
    assert!(is_done, "{text}");
    person
}

fn a_name_that_is_taken(puppet: &Puppet, certname: &str) {
    let (is_done, text) = Person::new(certname).requests(puppet, &["--wait", "0"]);
    let remedy = format!("puppetserver ca clean --certname {certname}");
    assert!(
        !is_done && text.contains("has signed a certificate of"),
        "{text}"
    );
    assert!(text.contains(&remedy), "{text}");
}

fn another_request_waits(puppet: &Puppet, certname: &str) -> Person {
    let (first, second) = (Person::new(certname), Person::new(certname));
    let (_, text) = first.requests(puppet, &["--wait", "0"]);
    assert!(text.contains("not signed within 0 seconds"), "{text}");
    let (is_done, text) = second.requests(puppet, &["--wait", "0"]);
    assert!(!is_done && text.contains("another request for"), "{text}");
    // The remedy that is told. Of a request that was never signed the program says that there was nothing to revoke, and
    // removes it.
    puppet.administer("clean", &["--certname", certname]);
    let (_, text) = second.requests(puppet, &["--wait", "0"]);
    assert!(text.contains("not signed within 0 seconds"), "{text}");
    puppet.sign(certname);
    let (is_done, text) = second.requests(puppet, &["--wait", "0"]);
    assert!(is_done, "{text}");
    second
}

/// By the list as Puppet's authority writes it, which came with the certificate and is fetched anew while the node runs.
fn who_was_revoked_is_not_heard(puppet: &Puppet, node: &Person, bob: &Person, rip: &Person) {
    assert!(node.path("ssl/crl.pem").exists(), "it came along");
    let broker = nats_conf(
        Kind::Natterjack,
        &puppet.path("ssl/certs/puppet.pem"),
        &puppet.path("ssl/private_keys/puppet.pem"),
        &puppet.path("ssl/certs/ca.pem"),
        "",
    );
    let broker = ServerUnderTest::start(Kind::Natterjack, &Config::file(broker));
    let address = ServerAddress::new("localhost", broker.address().port());
    let serving = node.serve(&address);
    let runtime = runtime();
    let pings = |person: &Person, patience| runtime.block_on(pings(person, &address, patience));
    assert_eq!(pings(bob, BROKER_PATIENCE), [node.certname.as_str()]);
    let revoked = puppet.administer("revoke", &["--certname", &bob.certname]);
    assert_success(&revoked, "revoking");
    let names = pings(bob, BROKER_PATIENCE);
    assert_eq!(names, [node.certname.as_str()], "nobody has fetched it yet");
    let (is_done, text) = node.requests(puppet, &["--crl-only"]);
    assert!(is_done && text.contains("1 revoked"), "{text}");
    // The node looks at its files from time to time.
    let refused = ask_until(STEP_PATIENCE, || {
        let names = pings(bob, Duration::from_millis(500));
        let said = serving.output();
        said.contains("crl.pem says so").then_some((names, said))
    });
    let (names, said) = refused.unwrap_or_else(|| panic!("{}", serving.output()));
    assert!(names.is_empty(), "{names:?}");
    assert!(said.contains("bob.mcollective"), "{said}");
    let names = pings(rip, BROKER_PATIENCE);
    assert_eq!(names, [node.certname.as_str()], "others may still ask");
    assert!(pings(bob, Duration::from_millis(500)).is_empty());
}

/// Who answers to somebody's ping: the first one, or nobody in this time.
async fn pings(person: &Person, address: &ServerAddress, patience: Duration) -> Vec<String> {
    let (configuration, ssl) = person.ssl();
    let options = ConnectorOptions::of(&configuration, &ssl);
    let connector = Connector::start(options, &ssl, vec![address.clone()]);
    let connected = timeout(BROKER_PATIENCE, connector.connect()).await;
    connected.expect("in time").expect("a connection");
    let asker = Asker::of(&configuration, &ssl).expect("a key of RSA");
    let mut client = Client::new(asker, connector, ClientOptions::default());
    let mut course = client.ping(Ping {
        timeout: Some(patience),
        answers_max: Some(1),
        ..Ping::default()
    });
    let mut names = Vec::new();
    while let Some(event) = course.next().await {
        if let Event::Discovered { node, .. } = event.expect("it can be asked") {
            names.push(node.to_string());
        }
    }
    client.connector().disconnect().await;
    names
}

// ---- Brokers ----

/// Two brokers of a cluster: the first one is on the Puppet master and has its certificate.
struct Brokers {
    servers: [ServerUnderTest; 2],
}

impl Brokers {
    fn start(puppet: &Puppet, second: &Person, kinds: [Kind; 2]) -> Self {
        let ca = puppet.path("ssl/certs/ca.pem");
        let start = |kind: Kind, certificate: &Path, key: &Path, routes: &str| {
            let text = nats_conf(kind, certificate, key, &ca, routes);
            ServerUnderTest::start(kind, &Config::file(text))
        };
        let first = start(
            kinds[0],
            &puppet.path("ssl/certs/puppet.pem"),
            &puppet.path("ssl/private_keys/puppet.pem"),
            "",
        );
        let port = first.listener(Listener::Route).port();
        let routes = format!("nats-route://routes:eighieGhohqu@localhost:{port}");
        let second = start(
            kinds[1],
            &second.ssl_file("certs"),
            &second.ssl_file("private_keys"),
            &routes,
        );
        Self {
            servers: [first, second],
        }
    }

    /// Where each is, by the name in its certificate.
    fn addresses(&self) -> [ServerAddress; 2] {
        [0, 1].map(|place| {
            let address = self.servers[place].address();
            ServerAddress::new("localhost", address.port())
        })
    }

    fn names(&self) -> String {
        let names: Vec<_> = self
            .servers
            .iter()
            .map(|server| server.kind().name())
            .collect();
        names.join(" and ")
    }
}

/// The page's configuration, with free ports, and with the password that routes really need; there they differ. The last
/// setting has another name today, and the real server takes that one only.
fn nats_conf(kind: Kind, certificate: &Path, key: &Path, ca: &Path, routes: &str) -> String {
    let max_pending = match kind {
        Kind::Natterjack => "max_pending_size",
        _ => "max_pending",
    };
    let (certificate, key, ca) = (certificate.display(), key.display(), ca.display());
    format!(
        r#"
port: 4222
monitor_port: -1

debug: false
trace: false

tls {{
  cert_file: "{certificate}"
  key_file: "{key}"
  ca_file: "{ca}"
  verify: true
  # The page has 2; this machine may be busy.
  timeout: 20
}}

cluster {{
  host: "127.0.0.1"
  port: -1
  no_advertise: true

  tls {{
    cert_file: "{certificate}"
    key_file: "{key}"
    ca_file: "{ca}"
    verify: true
    timeout: 20
  }}

  authorization {{
    user: routes
    password: eighieGhohqu
    timeout: 20
  }}

  routes = [ {routes} ]
}}

max_payload: 1048576
max_connections: 65536
{max_pending}: 10485760
"#
    )
}

/// A node on one broker, who asks on the other.
async fn who_has_a_certificate_is_let_in(brokers: &Brokers, rip: &Person, node: &Person) {
    let names = brokers.names();
    let [first, second] = brokers.addresses();
    let [client, node] = [(rip, first.clone()), (node, second)].map(|(person, address)| {
        let (configuration, ssl) = person.ssl();
        let options = ConnectorOptions::of(&configuration, &ssl);
        Connector::start(options, &ssl, vec![address])
    });
    for connector in [&client, &node] {
        let connected = timeout(BROKER_PATIENCE, connector.connect()).await;
        connected
            .unwrap_or_else(|_| panic!("{names}: nobody is connected"))
            .unwrap_or_else(|error| panic!("{names}: {error}"));
    }
    node.subscribe("discovery", TargetKind::Broadcast, "mcollective")
        .expect("a collective that it is in");
    assert!(node.flush().await, "{names}: connected");
    let reply_to = client.reply_subject("mcollective").expect("its collective");
    let request = OutgoingRequest {
        content: b"{}".to_vec(),
        request_id: "a1b2c3d4e5f60718293a4b5c6d7e8f90".into(),
        collective: "mcollective".into(),
        agent: "discovery".into(),
        recipients: Recipients::Everyone,
        reply_to: reply_to.clone(),
        is_traced: false,
    };
    let mut received = node.receive();
    let arrival = async {
        // Until the route is there and knows of the subscription, nobody is asked.
        loop {
            client.publish(request.clone()).await.expect("connected");
            if let Ok(Some(incoming)) = timeout(Duration::from_millis(200), received.next()).await {
                break incoming;
            }
        }
    };
    let incoming = timeout(BROKER_PATIENCE, arrival)
        .await
        .unwrap_or_else(|_| panic!("{names}: in vain waited for a request"));
    assert_eq!(incoming.transport.content, b"{}", "{names}");
    assert_eq!(
        incoming.transport.headers.reply_to,
        Some(reply_to),
        "{names}"
    );

    // A common client library with the same certificate.
    let (_, ssl) = rip.ssl();
    let common = common_client(ssl.client_config(), &first).await;
    let common = common.unwrap_or_else(|error| panic!("{names}: {error}"));
    common
        .flush()
        .await
        .unwrap_or_else(|error| panic!("{names}: {error}"));
}

async fn nobody_else_is(brokers: &Brokers, puppet: &Puppet) {
    let names = brokers.names();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let ca = fs::read(puppet.path("ssl/certs/ca.pem")).expect("it is there");
    for certificate in CertificateDer::pem_slice_iter(&ca) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    let trusting = || {
        ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider's own")
            .with_root_certificates(roots.clone())
    };
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let stranger = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
    let stranger = stranger.expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["rip.mcollective".to_owned()]).expect("a name");
    let forged = params.signed_by(&key, &stranger).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
    let of_a_stranger = trusting()
        .with_client_auth_cert(vec![forged.der().clone()], key)
        .expect("they belong together");
    for address in brokers.addresses() {
        for (whose, tls) in [
            ("without a certificate", trusting().with_no_client_auth()),
            ("a stranger's certificate", of_a_stranger.clone()),
        ] {
            let refused = common_client(tls, &address).await;
            assert!(refused.is_err(), "{names} at {address}, {whose}");
        }
    }
}

async fn common_client(
    tls: ClientConfig,
    address: &ServerAddress,
) -> Result<async_nats::Client, async_nats::ConnectError> {
    ConnectOptions::new()
        .require_tls(true)
        .tls_client_config(tls)
        .connection_timeout(BROKER_PATIENCE)
        .connect(format!("tls://{address}"))
        .await
}

// ---- Running things ----

/// To its end.
fn run(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn assert_success(output: &Output, what: &str) {
    assert!(output.status.success(), "{what}: {}", said(output));
}

#[expect(
    clippy::disallowed_methods,
    reason = "the authority signs by the calendar"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
