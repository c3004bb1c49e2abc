//! Configurations from files to what holds.

use std::fs;

use super::*;
use crate::facter::Facter;

struct Machine {
    folder: tempfile::TempDir,
    surroundings: Surroundings,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        let surroundings = Surroundings {
            home: Some(root.join("home/rip")),
            directory: Some(root.join("home/rip/project/deep")),
            ..Surroundings::bare("client.example.net", root)
        };
        let machine = Self {
            folder,
            surroundings,
        };
        fs::create_dir_all(machine.surroundings.directory.as_ref().unwrap()).unwrap();
        machine
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// In a project's folder, to which only its owner may write.
    fn write_project(&self, path: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.write(path, text);
        for (path, mode) in [(path.as_path(), 0o644), (path.parent().unwrap(), 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        path
    }

    fn variable(&mut self, name: &str, value: &str) {
        let environment = &mut self.surroundings.environment;
        environment.insert(name.into(), value.into());
    }

    fn load(&self, role: Role, file: Option<&Path>) -> Result<Loaded, Problems> {
        Configuration::load(role, file, &self.surroundings)
    }

    fn client(&self) -> Configuration {
        self.load(Role::Client, None).unwrap().configuration
    }

    /// What is said about a client's file, without the way to it.
    fn said(&self, text: &str) -> Vec<String> {
        let file = self.write("etc/choria/client.conf", text);
        let problems = match self.load(Role::Client, Some(&file)) {
            Ok(loaded) => loaded.warnings,
            Err(problems) => problems.0,
        };
        let folder = file.parent().unwrap().display().to_string();
        problems
            .iter()
            .map(|problem| problem.to_string().replace(&format!("{folder}/"), ""))
            .collect()
    }
}

#[test]
fn nothing_need_be_configured() {
    let loaded = Machine::new().load(Role::Client, None).unwrap();
    assert_eq!(loaded.warnings, []);
    let configuration = loaded.configuration;
    assert_eq!(configuration.file, None);
    assert_eq!(configuration.identity.as_str(), "client.example.net");
    assert_eq!(configuration.collectives.main(), "mcollective");
    assert_eq!(configuration.request_lifetime, Duration::from_secs(60));
    assert!(configuration.use_srv && configuration.middleware_hosts.is_empty());
    assert_eq!(
        configuration.security,
        SecurityProvider::Puppet { ssldir: None }
    );
    assert!(configuration.certname_allowed.fits("rip.mcollective"));
    assert!(!configuration.certname_allowed.fits("node1.example.net"));
    assert!(!configuration.is_federated());
}

#[test]
fn the_first_file_that_is_there_counts() {
    let machine = Machine::new();
    let places = [
        "usr/local/etc/mcollective/client.cfg",
        "etc/mcollective/client.cfg",
        "etc/puppetlabs/mcollective/client.cfg",
        "usr/local/etc/choria/client.conf",
        "etc/choria/client.conf",
        "home/rip/.mcollective",
        "home/rip/.choriarc",
    ];
    for (index, place) in places.iter().enumerate() {
        let path = machine.write(place, &format!("ttl = {}\n", index + 100));
        let configuration = machine.client();
        assert_eq!(configuration.file.as_deref(), Some(path.as_path()));
        assert_eq!(
            configuration.request_lifetime,
            Duration::from_secs(index as u64 + 100),
            "nothing of the other files"
        );
        assert_eq!(configuration.origin("ttl"), Origin::File { path, line: 1 });
    }
    machine.write("etc/choria/server.conf", "ttl = 7\n");
    let server = machine.load(Role::Server, None).unwrap().configuration;
    assert_eq!(server.request_lifetime, Duration::from_secs(7));
}

#[test]
fn plugins_and_projects_go_before_the_main_file() {
    let mut machine = Machine::new();
    let main = "plugin.choria.srv_domain = main.example\ncollectives = a\nidentity = n\n";
    machine.write("etc/choria/client.conf", main);
    machine.write(
        "etc/choria/plugin.d/choria.cfg",
        "srv_domain = plugin.example\n",
    );
    machine.write("etc/choria/plugin.d/nats.conf", "user = rip\n");
    machine.write(
        "etc/choria/plugin.d/choria.cfg.bak",
        "srv_domain = backup.example\n",
    );
    machine.write("etc/choria/plugin.d/not-a-word.cfg", "x = y\n");
    let configuration = machine.client();
    assert_eq!(configuration.srv_domain.as_deref(), Some("plugin.example"));
    assert_eq!(configuration.login.user.as_deref(), Some("rip"));
    assert_eq!(configuration.files.len(), 3);

    machine.write_project("home/choria.conf", "collectives = b, c\nttl = 5\n");
    machine.write_project(
        "home/rip/project/choria.conf",
        "collectives = d\nplugin.choria.srv_domain = project.example\n",
    );
    let configuration = machine.client();
    assert_eq!(configuration.collectives.names(), ["d"]);
    assert_eq!(configuration.request_lifetime, Duration::from_secs(5));
    assert_eq!(configuration.srv_domain.as_deref(), Some("project.example"));
    assert_eq!(configuration.identity.as_str(), "n");

    machine.variable("CHORIA_SRV_DOMAIN", "environment.example.");
    let configuration = machine.client();
    assert_eq!(
        configuration.srv_domain.as_deref(),
        Some("environment.example")
    );
    assert_eq!(
        configuration.origin("plugin.choria.srv_domain").to_string(),
        "environment CHORIA_SRV_DOMAIN"
    );
}

#[test]
fn a_file_in_the_home_has_no_plugins() {
    let machine = Machine::new();
    machine.write("home/rip/.mcollective", "ttl = 60\n");
    machine.write("home/rip/plugin.d/nats.cfg", "user = rip\n");
    assert_eq!(machine.client().login.user, None);
}

#[test]
fn variables_go_before_files_and_empty_ones_are_none() {
    let mut machine = Machine::new();
    let text =
        "plugin.nats.user = file\nplugin.nats.pass = secret\nplugin.nats.credentials = ~/a.creds\n";
    machine.write("etc/choria/client.conf", text);
    machine.variable("MCOLLECTIVE_NATS_USERNAME", "environment");
    machine.variable("MCOLLECTIVE_NATS_PASSWORD", "");
    machine.variable("CHORIA_FED_COLLECTIVE", "london, tokyo,");
    let configuration = machine.client();
    assert_eq!(configuration.login.user.as_deref(), Some("environment"));
    assert_eq!(configuration.login.password.as_deref(), Some("secret"));
    assert_eq!(
        configuration.credentials,
        Some(machine.folder.path().join("home/rip/a.creds"))
    );
    assert_eq!(configuration.federation.collectives, ["london", "tokyo"]);
    let shown: String = configuration
        .show()
        .iter()
        .map(|setting| {
            format!(
                "{} = {} ({})\n",
                setting.name, setting.value, setting.origin
            )
        })
        .collect();
    assert!(!shown.contains("secret") && !format!("{configuration:?}").contains("secret"));
    assert!(!format!("{:?}", configuration.login).contains("secret"));
    assert!(
        shown.contains("plugin.nats.user = environment (environment MCOLLECTIVE_NATS_USERNAME)")
    );
    assert!(shown.contains("ttl = 60 (default)"));
}

#[test]
fn the_working_set_of_mcollective_is_taken() {
    let text = "\
# MCollective's own\n\
libdir = /usr/share/mcollective/plugins\nlogger_type = console\nloglevel = warn\n\
connector = Nats\nsecurityprovider = choria\nfactsource = yaml\nplugin.yaml = /etc/a.yaml:/etc/b.json\n\
identity = node1.example.net\ncollectives = mcollective, eu\nmain_collective = eu\nconnection_timeout = 30\n\
plugin.choria.middleware_hosts = nats1.example.net:4222, [2001:db8::1]:4223\nplugin.puppet.splay = true\n\
direct_addressing = n\ndirect_addressing_threshold = 20\n";
    let machine = Machine::new();
    machine.write("etc/choria/client.conf", text);
    let loaded = machine.load(Role::Client, None).unwrap();
    assert_eq!(loaded.warnings, []);
    let configuration = loaded.configuration;
    assert_eq!(configuration.collectives.main(), "eu");
    assert_eq!(configuration.facts_files.len(), 2);
    assert_eq!(
        configuration.connection_timeout,
        Some(Duration::from_secs(30))
    );
    let hosts: Vec<_> = configuration
        .middleware_hosts
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(hosts, ["nats1.example.net:4222", "[2001:db8::1]:4223"]);
    assert!(!configuration.direct_addressing);
    assert_eq!(configuration.text("plugin.puppet.splay"), Some("true"));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let said = Machine::new().said(
        "connector = activemq\nidenity = a\n  # b = c\nttl = soon\nplain\nidentity = a b\n\
        collectives = a,b\nmain_collective = c\nplugin.choria.srv_domian = x\ndirect_addressing = perhaps\n\
        plugin.choria.middleware_hosts = puppet\nplugin.security.provider = file\n\
        plugin.choria.use_srv_records = no\nplugin.choria.security.certname_whitelist = /(/\n\
        plugin.choria.puppetca_port = 0\n",
    );
    let expected = [
        "client.conf:1: error: connector is \"activemq\": it must be nats; this is the connector for NATS, and there is no other",
        "client.conf:2: error: Unknown config parameter 'idenity'; did you mean identity?",
        "client.conf:3: error: Unknown config parameter '# b': a comment must start at the beginning of its line",
        "client.conf:4: error: ttl is \"soon\": it must be a whole number of seconds",
        "client.conf:5: warning: \"plain\" is no setting and is ignored; write key = value, or # before a comment",
        "client.conf:6: error: identity is \"a b\": \"a b\" is no name: only letters, digits, `_`, `-` and `.` may be in it",
        "client.conf:8: error: main_collective is \"c\": unknown collective \"c\"; known are a, b",
        "client.conf:9: warning: there is no setting plugin.choria.srv_domian here; did you mean plugin.choria.srv_domain?",
        "client.conf:10: error: direct_addressing is \"perhaps\": it must be one of 1, yes, true, y, t or 0, no, false, n, f",
        "client.conf:11: error: plugin.choria.middleware_hosts is \"puppet\": \"puppet\" has no port; write host:port, such as puppet:4222",
        "client.conf:12: error: plugin.security.provider is file: that needs plugin.security.file.certificate, plugin.security.file.key and plugin.security.file.ca",
        "client.conf:13: warning: plugin.choria.use_srv_records is the former name of plugin.choria.use_srv; write that",
        "client.conf:14: error: plugin.choria.security.certname_whitelist is \"/(/\": the pattern \"(\" cannot be used: unclosed group",
        "client.conf:15: error: plugin.choria.puppetca_port is \"0\": a port is a number from 1 to 65535",
    ];
    assert_eq!(said, expected, "{said:#?}");
}

#[test]
fn mistakes_that_something_else_hides_are_told_too() {
    let machine = Machine::new();
    let said = machine.said("ttl = soon\nttl = 60\nplugin.choria.middleware_hosts = a, b:1, c:x\n");
    assert_eq!(
        said[0],
        "client.conf:1: warning: ttl is \"soon\": it must be a whole number of seconds; it is made again later, which counts"
    );
    let hosts = "client.conf:3: error: plugin.choria.middleware_hosts is \"a, b:1, c:x\": ";
    assert!(said[1].starts_with(hosts), "{said:?}");
    let reasons = said[1].trim_start_matches(hosts);
    assert!(
        reasons.contains("\"a\"") && reasons.contains("\"c:x\""),
        "{said:?}"
    );
    assert!(!reasons.contains("\"b:1\""), "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(machine.said("ttl = 30\nttl = 60\n"), [""; 0]);
}

#[test]
fn a_mark_of_the_order_of_bytes_is_no_part_of_a_setting() {
    let machine = Machine::new();
    machine.write("etc/choria/client.conf", "\u{feff}ttl = 30\n");
    assert_eq!(machine.client().request_lifetime, Duration::from_secs(30));
}

/// No server lets anybody subscribe to what would come of it.
#[test]
fn names_that_cannot_be_in_subjects() {
    let machine = Machine::new();
    let expected = |line: usize, name: &str| {
        format!(
            "client.conf:{line}: error: {name}: \"a.\" cannot be in a subject: a dot may only be between letters, digits, `_` and `-`"
        )
    };
    assert_eq!(
        machine
            .said("identity = a.\ncollectives = a.\nplugin.choria.federation.collectives = a.\n"),
        [
            expected(1, "identity is \"a.\""),
            expected(2, "collectives is \"a.\""),
            expected(3, "plugin.choria.federation.collectives is \"a.\""),
        ]
    );
}

/// Otherwise nobody answers, and nobody says why.
#[test]
fn lifetimes_that_no_node_takes() {
    let machine = Machine::new();
    let said = |text: &str| machine.said(text);
    assert_eq!(
        said("ttl = 0\n"),
        ["client.conf:1: error: ttl is \"0\": no request would be good by the time a node has it"]
    );
    assert_eq!(said("ttl = 86400\n"), [] as [String; 0]);
    assert_eq!(
        said("ttl = 86401\n"),
        [
            "client.conf:1: warning: ttl is 86401: nodes of Natterjack take requests of 86400 s at most, and drop others without \
          an answer"
        ]
    );
}

#[test]
fn passwords_are_never_shown() {
    let text = "plugin.nats.user = rip\nplugin.nats.pass = s3cret\nplugin.choria.network.peer_password = s3cret\n\
        plugin.activemq.pool.1.password = s3cret\nplugin.nats.pass: s3cret\n\
        plugin.choria.srv_domain = example.net\n";
    let machine = Machine::new();
    let file = machine.write("etc/choria/client.conf", text);
    let loaded = machine.load(Role::Client, Some(&file)).unwrap();
    let configuration = loaded.configuration;
    let below: Vec<_> = configuration.settings_below("plugin.").collect();
    let said = format!("{below:?} {:?} {:?}", configuration.show(), loaded.warnings);
    assert!(!said.contains("s3cret"), "{said}");
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(configuration.login.password.as_deref(), Some("s3cret"));
    assert_eq!(configuration.text("plugin.nats.pass"), Some("…"));
    let names: Vec<_> = configuration
        .settings_below("plugin.choria.")
        .map(|(name, value, _)| (name, value))
        .collect();
    let expected = [
        ("plugin.choria.network.peer_password", "…"),
        ("plugin.choria.srv_domain", "example.net"),
    ];
    assert_eq!(names, expected);
    let said = machine.said("plugin.choria.middleware_hosts = nats://a:s3cret@b:1\n");
    assert_eq!(said.len(), 1);
    assert!(!said[0].contains("s3cret"), "{said:?}");
}

#[test]
fn settings_of_choria_that_mean_nothing_here() {
    let said = Machine::new().said(
        "plugin.choria.network.client_port = 4222\nplugin.choria.stats_port = 8222\nregistration = inventory\n\
        plugin.security.client_anon_tls = true\nplugin.choria.security.request_signer.url = https://x/\n\
        connection_timeout = 0\n",
    );
    let expected = [
        "client.conf:4: warning: plugin.security.client_anon_tls has no effect here: servers are always verified, \
         and our certificate is always shown",
        "client.conf:5: warning: plugin.choria.security.request_signer.url has no effect here: requests are signed \
         by our own key",
    ];
    assert_eq!(said, expected, "{said:#?}");
    let machine = Machine::new();
    machine.write("etc/choria/client.conf", "connection_timeout = 0\n");
    assert_eq!(machine.client().connection_timeout, None);
}

#[test]
fn what_somebody_may_rely_on_is_told_to_have_no_effect() {
    let said = Machine::new().said(
        "rpcauthorization = yes\nrpcauthprovider = action_policy\nrpcaudit = 1\nlogfile = /var/log/a.log\n\
        plugin.choria.require_client_filter = true\nplugin.puppet.activate_agent = false\n\
        plugin.nats.ngs = true\n",
    );
    let expected = [
        "client.conf:1: warning: rpcauthorization has no effect here: whoever \
         plugin.choria.security.certname_whitelist lets ask may have every agent do everything",
        "client.conf:2: warning: rpcauthprovider has no effect here: whoever \
         plugin.choria.security.certname_whitelist lets ask may have every agent do everything",
        "client.conf:3: warning: rpcaudit has no effect here: there is no audit log; with --log debug each request \
         and who asks is logged",
        "client.conf:4: warning: logfile has no effect here: the log goes to standard error, as much of it as --log says",
        "client.conf:5: warning: plugin.choria.require_client_filter has no effect here: requests without a filter \
         are sent to all nodes",
        "client.conf:6: warning: plugin.puppet.activate_agent has no effect here: all agents of the program are active",
        "client.conf:7: error: plugin.nats.ngs is \"true\": servers of NGS have certificates of public authorities, and \
         only Puppet's are trusted here, so there would be no connection; remove it",
    ];
    assert_eq!(said, expected, "{said:#?}");
    let said = Machine::new().said(
        "rpcauthorization = 0\nrpcaudit = no\nplugin.choria.require_client_filter = n\n\
        plugin.puppet.activate_agent = true\nplugin.nats.ngs = no\n",
    );
    assert_eq!(said, [] as [String; 0]);
}

#[test]
fn project_files_are_for_clients() {
    let machine = Machine::new();
    let file = machine.write_project("home/rip/project/choria.conf", "ttl = 5\n");
    assert_eq!(machine.client().files, [file]);
    let node = machine.load(Role::Server, None).unwrap();
    assert_eq!(node.configuration.files, [] as [PathBuf; 0]);
    assert_eq!(node.configuration.request_lifetime, Duration::from_secs(60));
    assert_eq!(node.warnings, []);
}

/// Whoever can write to a folder where somebody stands must not decide whom he trusts.
#[test]
fn a_file_that_others_can_write_is_no_project() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut machine = Machine::new();
    let file = machine.write_project("home/rip/project/choria.conf", "ttl = 5\n");
    let lifetime_and_warnings = |machine: &Machine| {
        let loaded = machine.load(Role::Client, None).unwrap();
        let warnings = loaded.warnings.iter().map(ToString::to_string);
        let lifetime = loaded.configuration.request_lifetime.as_secs();
        (lifetime, warnings.collect::<Vec<_>>())
    };
    assert_eq!(lifetime_and_warnings(&machine), (5, Vec::new()));
    machine.surroundings.is_root = true;
    let (lifetime, warnings) = lifetime_and_warnings(&machine);
    assert_eq!((lifetime, warnings.len()), (60, 1));
    assert!(
        warnings[0].contains("do not count for root"),
        "{warnings:?}"
    );
    machine.surroundings.is_root = false;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let (lifetime, warnings) = lifetime_and_warnings(&machine);
    assert_eq!((lifetime, warnings.len()), (60, 1));
    let file = file.display().to_string();
    let tells = |what: &str| warnings[0].contains(what);
    assert!(tells(&file) && tells("chmod go-w"), "{warnings:?}");
}

#[test]
fn a_project_does_not_decide_whom_to_trust() {
    let machine = Machine::new();
    machine.write("etc/choria/client.conf", "plugin.choria.ssldir = /main\n");
    machine.write_project(
        "home/rip/project/choria.conf",
        "plugin.choria.ssldir = /evil\nplugin.security.provider = file\n\
        plugin.security.file.certificate = /evil\nplugin.security.file.key = /evil\nplugin.security.file.ca = /evil\n\
        plugin.choria.security.certificate_revocation = false\nplugin.choria.security.certname_whitelist = /./\n\
        plugin.choria.puppetca_host = evil\nplugin.choria.puppetca_port = 1\nttl = 5\n",
    );
    let loaded = machine.load(Role::Client, None).unwrap();
    assert_eq!(loaded.warnings.len(), 9, "{:?}", loaded.warnings);
    let warning = loaded.warnings[0].to_string();
    let expected = "choria.conf:1: warning: plugin.choria.ssldir is ignored in a project's file";
    assert!(warning.contains(expected), "{warning}");
    let configuration = loaded.configuration;
    let ssldir = Some(PathBuf::from("/main"));
    assert_eq!(configuration.security, SecurityProvider::Puppet { ssldir });
    assert_eq!(configuration.certificate_revocation, Depth::Chain);
    assert!(!configuration.certname_allowed.fits("anybody"));
    assert_eq!(configuration.puppet_ca, Service::default());
    assert_eq!(configuration.request_lifetime, Duration::from_secs(5));
}

#[test]
fn a_project_that_decides_who_sees_a_login_is_told_of() {
    let machine = Machine::new();
    let main = |text: &str| machine.write("home/rip/.choriarc", text);
    let project = |text: &str| machine.write_project("home/rip/project/choria.conf", text);
    let warnings = || {
        let loaded = machine.load(Role::Client, None).unwrap();
        let warnings = loaded.warnings.iter().map(ToString::to_string);
        warnings.collect::<Vec<_>>()
    };
    let own = "plugin.nats.user = rip\nplugin.nats.pass = s3cret\n";
    let servers = "ttl = 60\nplugin.choria.middleware_hosts = evil.example.net:4222\n";

    main(own);
    let file = project(servers);
    let said = warnings();
    assert_eq!(said.len(), 1, "{said:?}");
    let place = format!(
        "{}:2: warning: plugin.choria.middleware_hosts of a project",
        file.display()
    );
    assert!(said[0].starts_with(&place), "{said:?}");
    let whose = machine
        .folder
        .path()
        .join("home/rip/.choriarc:1")
        .display()
        .to_string();
    assert!(
        said[0].contains(&format!("plugin.nats.user ({whose})")),
        "{said:?}"
    );
    assert!(!said[0].contains("s3cret"), "{said:?}");

    // Its domain decides as well, if nobody names servers.
    project("plugin.choria.srv_domain = evil.example.net\n");
    assert!(warnings()[0].contains("plugin.choria.srv_domain of a project"));
    main(&format!("{own}plugin.choria.middleware_hosts = a:1\n"));
    assert_eq!(warnings(), [] as [String; 0]);
    // Through a federation its servers are asked for first.
    main(&format!(
        "{own}plugin.choria.middleware_hosts = a:1\nplugin.choria.federation.collectives = x\n"
    ));
    assert!(warnings()[0].contains("plugin.choria.srv_domain of a project"));
    project("plugin.choria.federation_middleware_hosts = evil.example.net:1\n");
    assert!(warnings()[0].contains("plugin.choria.federation_middleware_hosts of a project"));

    // Nobody is shown what is not his.
    main("ttl = 60\n");
    project(servers);
    assert_eq!(warnings(), [] as [String; 0]);
    project(&format!("{servers}{own}"));
    assert_eq!(warnings(), [] as [String; 0]);
    // Credentials go before a login, whoever named them.
    let folder = file.parent().unwrap().display().to_string();
    main(own);
    project(&format!(
        "{servers}plugin.nats.credentials = {folder}/fleet.creds\n"
    ));
    assert_eq!(warnings(), [] as [String; 0]);
    for other in [
        "/home/rip/own.creds".to_owned(),
        format!("{folder}/../own.creds"),
    ] {
        project(&format!("{servers}plugin.nats.credentials = {other}\n"));
        assert!(
            warnings()[0].contains("plugin.nats.credentials ("),
            "{other}"
        );
    }
}

#[test]
fn unknown_settings_of_servers_are_left_out() {
    let machine = Machine::new();
    let file = machine.write("etc/choria/server.conf", "new_in_choria = 1\n");
    let loaded = machine.load(Role::Server, Some(&file)).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        machine.load(Role::Client, Some(&file)).is_ok(),
        "the name of the file counts"
    );
}

#[test]
fn files_that_cannot_be_read() {
    let machine = Machine::new();
    let missing = machine.folder.path().join("missing.conf");
    let problems = machine.load(Role::Client, Some(&missing)).unwrap_err();
    assert!(problems.to_string().contains("missing.conf: No such file"));
    let binary = machine.folder.path().join("binary.conf");
    fs::write(&binary, b"ttl = 60\n# M\xfcnchen\n").unwrap();
    let problems = machine.load(Role::Client, Some(&binary)).unwrap_err();
    let said = problems.to_string();
    assert!(
        said.contains("binary.conf:2: error: this is not text in UTF-8"),
        "{said}"
    );
    assert!(said.contains("iconv -f latin1"), "{said}");
    // A folder with what nobody can look at: that of plugins.
    let file = machine.write("etc/choria/client.conf", "ttl = 60\n");
    machine.write("etc/choria/plugin.d", "no folder");
    let problems = machine.load(Role::Client, Some(&file)).unwrap_err();
    let said = problems.to_string();
    assert!(
        said.contains("cannot look into the folder") && said.contains("plugin.d: Not a dir"),
        "{said}"
    );
}

#[test]
fn the_machine_is_asked_for_its_full_name() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut machine = Machine::new();
    machine.surroundings.host_name = "client".into();
    let script = machine.write(
        "facter",
        "#!/bin/sh\n[ $1 = networking.fqdn ] && echo client.facter.example\n",
    );
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    machine.surroundings.facter = Facter::at(script);
    let configuration = machine.client();
    assert_eq!(configuration.identity.as_str(), "client.facter.example");
    assert_eq!(
        configuration.origin("identity").to_string(),
        "Facter's networking.fqdn"
    );
    machine.surroundings.facter = Facter::none();
    assert_eq!(machine.client().identity.as_str(), "client");
    machine.surroundings.host_name = "client.example.net.".into();
    assert_eq!(machine.client().identity.as_str(), "client.example.net");
    machine.surroundings.host_name = String::new();
    assert!(machine.load(Role::Client, None).is_err());
}
