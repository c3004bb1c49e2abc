//! The settings, as MCollective and Choria write them: which files count, what may be in them, what it means.
//!
//! A [`Configuration`] is made once, by [`Configuration::load`]. Everything wrong is told at once, each with its place.
//! Where each value comes from is kept, for people who ask why.

mod grammar;
mod keys;
mod problem;
mod project;
mod search;
mod surroundings;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use keys::{KEYS, Key};
pub use problem::{Origin, Problem, Problems, Severity};
pub use surroundings::Surroundings;

use crate::admission::LIFETIME_MAX;
use crate::identity::Identity;
use crate::pattern::NamePatterns;
use crate::revocation::Depth;
use crate::server::ServerAddress;
use crate::subject::{self, Collectives};
use grammar::Content;
use keys::Known;
use value::Wrong;

/// Whose settings these are. It decides which files are looked for, and what a certificate is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Somebody who asks.
    Client,
    /// A node that answers. MCollective calls it a server.
    Server,
}

/// All settings, with defaults filled in.
#[derive(Clone)]
#[non_exhaustive]
pub struct Configuration {
    /// Whose they are.
    pub role: Role,
    /// The main file, if there is one.
    pub file: Option<PathBuf>,
    /// Where plugins have their files, whether it is there or not.
    pub plugin_folder: Option<PathBuf>,
    /// All files that were read, the main one first.
    pub files: Vec<PathBuf>,
    /// What this machine calls itself.
    pub identity: Identity,
    /// The collectives that it is in.
    pub collectives: Collectives,
    /// For how long its requests are good.
    pub request_lifetime: Duration,
    /// Whether few nodes get a request each.
    pub direct_addressing: bool,
    /// Up to how many nodes are few.
    pub direct_addressing_nodes_max: usize,
    /// How long to wait for nodes that are meant.
    pub discovery_timeout: Duration,
    /// In which time a request must be sent.
    pub publish_timeout: Duration,
    /// How long to try to connect for the first time; `None`: for ever.
    pub connection_timeout: Option<Duration>,
    /// Where Puppet wrote this node's classes.
    pub classes_file: PathBuf,
    /// Where this node's facts are.
    pub facts_files: Vec<PathBuf>,
    /// Servers that were named, in this order; empty if they are to be found.
    pub middleware_hosts: Vec<ServerAddress>,
    /// Whether those are shuffled.
    pub randomize_middleware_hosts: bool,
    /// Whether SRV records are asked for.
    pub use_srv: bool,
    /// Domain of SRV records; `None`: Facter knows it.
    pub srv_domain: Option<String>,
    /// User and password for the servers.
    pub login: Login,
    /// File of NATS credentials.
    pub credentials: Option<PathBuf>,
    /// Whether the servers are those of NGS.
    pub is_ngs: bool,
    /// Where keys and certificates are.
    pub security: SecurityProvider,
    /// Whose revocation matters, where lists of it are there.
    pub certificate_revocation: Depth,
    /// What the certificate is called, if `MCOLLECTIVE_CERTNAME` says so.
    pub certname: Option<String>,
    /// Puppet's authority, if it was named.
    pub puppet_ca: Service,
    /// Puppet's server, if it was named.
    pub puppet_server: Service,
    /// PuppetDB, if it was named.
    pub puppet_db: Service,
    /// The discovery proxy.
    pub discovery_proxy: Service,
    /// Whether there is a discovery proxy.
    pub use_discovery_proxy: bool,
    /// Whether and how requests go through a federation.
    pub federation: Federation,
    /// Whose certificates may ask.
    pub certname_allowed: NamePatterns,
    /// Whose certificates may ask for others.
    pub privileged: NamePatterns,
    settings: BTreeMap<String, Setting>,
}

/// Where keys and certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecurityProvider {
    /// Where Puppet has them; in `ssldir` instead of Puppet's folder, if it is given.
    Puppet {
        /// `plugin.choria.ssldir`.
        ssldir: Option<PathBuf>,
    },
    /// In three files.
    File {
        /// The certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
        /// The authorities.
        ca: PathBuf,
        /// What they have revoked.
        crl: Option<PathBuf>,
    },
}

/// How a service of Puppet's may have been named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its host.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
}

/// Requests that go to collectives on other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federation {
    /// The collectives; empty: there is no federation.
    pub collectives: Vec<String>,
    /// Servers of the federation, if they were named.
    pub middleware_hosts: Vec<ServerAddress>,
    /// The cluster that a broker serves.
    pub cluster: String,
    /// The broker's own name, if it has one.
    pub instance: Option<String>,
}

/// User and password; either one suffices.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
}

/// Tells who, and not by which password.
impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Login")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .finish()
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Configuration")
            .field("role", &self.role)
            .field("file", &self.file)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// A value as it was written, and where.
#[derive(Clone)]
struct Setting {
    text: String,
    origin: Origin,
}

/// A configuration that can be used, and what people should still hear about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub configuration: Configuration,
    /// What does not prevent their use.
    pub warnings: Vec<Problem>,
}

/// One setting, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub name: &'static str,
    /// Its value as it was written, or what holds without it. Passwords are masked.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What it does.
    pub help: &'static str,
}

impl Configuration {
    /// Reads the files that count: the one named, or else the first of the usual ones that can be read; then those of
    /// plugins and projects. Without any file the defaults hold, which is enough where Puppet's are.
    ///
    /// May run Facter, which takes half a second.
    ///
    /// # Errors
    /// All that is wrong, if at least one of it is an error.
    pub fn load(
        role: Role,
        file: Option<&Path>,
        surroundings: &Surroundings,
    ) -> Result<Loaded, Problems> {
        let mut reader = Reader::new(surroundings);
        reader.read_files(role, file);
        reader.read_environment();
        let configuration = reader.interpret(role);
        reader.notice_login_for_servers_of_projects(&configuration);
        reader.sort_problems();
        let is_usable = reader
            .problems
            .iter()
            .all(|problem| problem.severity == Severity::Warning);
        if !is_usable {
            return Err(Problems(reader.problems));
        }
        Ok(Loaded {
            configuration,
            warnings: reader.problems,
        })
    }

    /// The places of the usual files, of which [`load`](Self::load) takes the first that can be read.
    #[must_use]
    pub fn usual_files(role: Role, surroundings: &Surroundings) -> Vec<PathBuf> {
        search::candidates(role, surroundings)
    }

    /// All settings that mean something here, with where they come from.
    #[must_use]
    pub fn show(&self) -> Vec<Shown> {
        let show = |key: &Key| {
            let setting = self.settings.get(key.name);
            let text = setting.map(|setting| setting.text.as_str());
            let value = match text {
                Some(text) => masked(key.name, text),
                None => key.default,
            };
            Shown {
                name: key.name,
                value: value.to_owned(),
                origin: setting.map_or(Origin::Default, |setting| setting.origin.clone()),
                help: key.help,
            }
        };
        KEYS.iter().map(show).collect()
    }

    /// All settings that were made and whose names begin like this, those of other plugins included, by name: name, value and
    /// where it comes from. Passwords are masked.
    pub fn settings_below(&self, beginning: &str) -> impl Iterator<Item = (&str, &str, &Origin)> {
        let settings = self.settings.iter();
        settings
            .filter(move |(name, _)| name.starts_with(beginning))
            .map(|(name, setting)| (&**name, masked(name, &setting.text), &setting.origin))
    }

    /// Where a setting comes from.
    #[must_use]
    pub fn origin(&self, name: &str) -> Origin {
        self.settings
            .get(name)
            .map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// A setting as it was written, those of other plugins included; what an agent may ask a node for. Passwords are masked.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let setting = self.settings.get(name);
        setting.map(|setting| masked(name, &setting.text))
    }

    /// Whether requests go through a federation.
    #[must_use]
    pub const fn is_federated(&self) -> bool {
        !self.federation.collectives.is_empty()
    }
}

const PASSWORD: &str = "plugin.nats.pass";

/// Stands for a password.
const MASK: &str = "…";

/// The value as it may be shown.
fn masked<'a>(name: &str, value: &'a str) -> &'a str {
    if keys::is_secret(name) { MASK } else { value }
}

/// Variables that stand for settings, and go before files.
const VARIABLES: [(&str, &str); 5] = [
    ("MCOLLECTIVE_NATS_USERNAME", "plugin.nats.user"),
    ("MCOLLECTIVE_NATS_PASSWORD", PASSWORD),
    ("MCOLLECTIVE_NATS_CREDENTIALS", "plugin.nats.credentials"),
    ("CHORIA_SRV_DOMAIN", "plugin.choria.srv_domain"),
    (
        "CHORIA_FED_COLLECTIVE",
        "plugin.choria.federation.collectives",
    ),
];

/// Whose settings are in a file.
#[derive(Clone, Copy)]
enum FileKind<'a> {
    Main,
    /// Those of this plugin.
    Plugin(&'a str),
    Project,
}

struct Reader<'a> {
    surroundings: &'a Surroundings,
    settings: BTreeMap<String, Setting>,
    /// What was written of settings that were made again after it.
    overridden: Vec<(String, Setting)>,
    files: Vec<PathBuf>,
    main: Option<PathBuf>,
    plugin_folder: Option<PathBuf>,
    /// Those of `files` that are projects'.
    projects: Vec<PathBuf>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    const fn new(surroundings: &'a Surroundings) -> Self {
        Self {
            surroundings,
            settings: BTreeMap::new(),
            overridden: Vec::new(),
            files: Vec::new(),
            main: None,
            plugin_folder: None,
            projects: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn say(&mut self, severity: Severity, origin: Origin, message: impl Into<String>) {
        self.problems.push(Problem {
            severity,
            origin,
            message: message.into(),
        });
    }

    /// As somebody comes upon them who reads the files.
    fn sort_problems(&mut self) {
        let files = &self.files;
        self.problems.sort_by_key(|problem| match &problem.origin {
            Origin::File { path, line } => {
                (files.iter().position(|file| file == path), Some(*line))
            }
            _ => (Some(files.len()), None),
        });
    }

    fn read_files(&mut self, role: Role, file: Option<&Path>) {
        let main = match file {
            Some(file) => Some(file.to_path_buf()),
            None => search::candidates(role, self.surroundings)
                .into_iter()
                .find(|path| search::is_readable(path)),
        };
        if let Some(main) = main {
            if self.read_file(&main, FileKind::Main) {
                self.plugin_folder = search::plugin_folder(&main, self.surroundings);
                for (plugin, path) in self.plugin_files() {
                    self.read_file(&path, FileKind::Plugin(&plugin));
                }
            }
            self.main = Some(main);
        }
        for path in search::project_files(role, self.surroundings) {
            if self.main.as_ref() != Some(&path) && self.read_file(&path, FileKind::Project) {
                self.projects.push(path);
            }
        }
    }

    fn plugin_files(&mut self) -> Vec<(String, PathBuf)> {
        let Some(folder) = self.plugin_folder.clone() else {
            return Vec::new();
        };
        search::plugin_files(&folder).unwrap_or_else(|error| {
            // Nobody knows what is missing then, be it who may ask.
            let message = format!(
                "cannot look into the folder {}: {error}; it must be readable for the user who runs this",
                folder.display()
            );
            self.say(Severity::Error, Origin::Default, message);
            Vec::new()
        })
    }

    /// `false`: it could not be read, which is said.
    fn read_file(&mut self, path: &Path, kind: FileKind<'_>) -> bool {
        let bytes = match kind {
            FileKind::Main | FileKind::Plugin(_) => std::fs::read(path),
            FileKind::Project => match project::read(path, self.surroundings.is_root) {
                Ok(bytes) => Ok(bytes),
                Err(reason) => {
                    let path = path.display();
                    let message = format!("settings of a project in {path} are ignored: {reason}");
                    self.say(Severity::Warning, Origin::Default, message);
                    return false;
                }
            },
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!(
                    "cannot read the configuration file {}: {error}",
                    path.display()
                );
                self.say(Severity::Error, Origin::Default, message);
                return false;
            }
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
                let path = path.to_path_buf();
                let message = "this is not text in UTF-8, and nothing of the file counts; convert it, for instance from \
                    ISO 8859-1 with iconv -f latin1 -t utf8";
                self.say(Severity::Error, Origin::File { path, line }, message);
                return false;
            }
        };
        // Editors of another system begin a file with it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let ignores_unknown = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains("server"));
        for line in grammar::lines(text) {
            let origin = Origin::File {
                path: path.to_path_buf(),
                line: line.number,
            };
            match line.content {
                Content::Lost(text) => {
                    // It may be one that lacks its equals sign.
                    let shown = masked(text, text);
                    let message = format!(
                        "{shown:?} is no setting and is ignored; write key = value, or # before a comment"
                    );
                    self.say(Severity::Warning, origin, message);
                }
                Content::Setting { key, .. }
                    if matches!(kind, FileKind::Project) && keys::is_of_trust(key) =>
                {
                    let message = format!(
                        "{key} is ignored in a project's file: whom to trust is said in the main file, such as ~/.choriarc"
                    );
                    self.say(Severity::Warning, origin, message);
                }
                Content::Setting { key, value } => {
                    let name = match kind {
                        FileKind::Plugin(plugin) => format!("plugin.{plugin}.{key}"),
                        FileKind::Main | FileKind::Project => key.to_owned(),
                    };
                    self.set(&name, value, origin, ignores_unknown);
                }
            }
        }
        self.files.push(path.to_path_buf());
        true
    }

    fn set(&mut self, name: &str, value: &str, origin: Origin, ignores_unknown: bool) {
        let advice = || {
            keys::similar(name).map_or_else(String::new, |name| format!("; did you mean {name}?"))
        };
        match keys::known(name) {
            Known::Used | Known::Unused => {}
            Known::WithoutEffect(_) if keys::is_as_it_is(name, value) => {}
            Known::WithoutEffect(instead) => {
                let message = format!("{name} has no effect here: {instead}");
                self.say(Severity::Warning, origin.clone(), message);
            }
            Known::Doubtful => {
                let message = format!("there is no setting {name} here{}", advice());
                self.say(Severity::Warning, origin.clone(), message);
            }
            Known::Unknown if name.starts_with('#') => {
                let message = format!(
                    "Unknown config parameter '{name}': a comment must start at the beginning of its line"
                );
                self.say(unknown(ignores_unknown), origin.clone(), message);
            }
            Known::Unknown => {
                let message = format!("Unknown config parameter '{name}'{}", advice());
                self.say(unknown(ignores_unknown), origin.clone(), message);
            }
        }
        self.keep(name, value, origin);
    }

    fn keep(&mut self, name: &str, value: &str, origin: Origin) {
        let setting = Setting {
            text: value.to_owned(),
            origin,
        };
        if let Some(before) = self.settings.insert(name.to_owned(), setting) {
            self.overridden.push((name.to_owned(), before));
        }
    }

    fn read_environment(&mut self) {
        for (variable, name) in VARIABLES {
            if let Some(value) = self.surroundings.variable(variable) {
                match self.settings.get(name) {
                    Some(setting) => {
                        tracing::debug!(
                            "{name} is taken from {variable}, and not from {}",
                            setting.origin
                        );
                    }
                    None => tracing::debug!("{name} is taken from {variable}"),
                }
                let value = value.to_owned();
                self.keep(name, &value, Origin::Environment(variable));
            }
        }
    }

    /// The value of a setting, or its default, also if it is wrong, which is said. So is what is wrong where it was made
    /// before: whoever corrects the last one would not see it.
    fn value<T>(
        &mut self,
        name: &'static str,
        default: T,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> T {
        let Some(setting) = self.settings.get(name) else {
            return default;
        };
        let wrong = |setting: &Setting, reason: Wrong| {
            // Also where there should be none, in the address of a server.
            let shown = if setting.text.contains('@') {
                MASK
            } else {
                masked(name, &setting.text)
            };
            (
                setting.origin.clone(),
                format!("{name} is {shown:?}: {reason}"),
            )
        };
        let before = self.overridden.iter().filter(|(other, _)| other == name);
        let before = before.filter_map(|(_, setting)| {
            let reason = parse(&setting.text).err()?;
            Some(wrong(setting, reason))
        });
        let before: Vec<_> = before.collect();
        let value = parse(&setting.text).map_err(|reason| wrong(setting, reason));
        for (origin, message) in before {
            let message = format!("{message}; it is made again later, which counts");
            self.say(Severity::Warning, origin, message);
        }
        value.unwrap_or_else(|(origin, message)| {
            self.say(Severity::Error, origin, message);
            default
        })
    }

    fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.value(name, None, |text| parse(text).map(Some))
    }

    /// A setting that has to be a certain word, where it is given.
    fn word(&mut self, name: &'static str, word: &str, advice: &str) {
        self.value(name, (), |text| {
            if text.eq_ignore_ascii_case(word) {
                Ok(())
            } else {
                Err(format!("it must be {word}; {advice}"))
            }
        });
    }

    fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        let home = self.surroundings.home.clone();
        self.optional(name, |text| value::path(text, home.as_deref()))
    }

    fn service(&mut self, host: &'static str, port: &'static str) -> Service {
        Service {
            host: self.optional(host, value::host),
            port: self.optional(port, value::port),
        }
    }

    /// What cannot be read is said, and something else stands in its place, so that all mistakes are found.
    fn interpret(&mut self, role: Role) -> Configuration {
        self.word(
            "connector",
            "nats",
            "this is the connector for NATS, and there is no other",
        );
        self.word(
            "securityprovider",
            "choria",
            "requests are signed by certificates, and in no other way",
        );
        self.word("factsource", "yaml", "facts are read from files");
        self.word(
            "plugin.choria.security.serializer",
            "json",
            "yaml is not supported: it lets a peer make objects",
        );
        let identity = self.identity();
        let collectives = self.collectives();
        let use_srv = self.use_srv();
        let security = self.security();
        let certname = self.certname();
        let home = self.surroundings.home.clone();
        let fact_file = move |text: &str| value::path(text, home.as_deref());
        Configuration {
            role,
            identity,
            collectives,
            request_lifetime: self.request_lifetime(),
            direct_addressing: self.value("direct_addressing", true, value::boolean),
            direct_addressing_nodes_max: self.value("direct_addressing_threshold", 10, |text| {
                Ok(usize::try_from(value::integer(text)?).unwrap_or(usize::MAX))
            }),
            discovery_timeout: self.value(
                "discovery_timeout",
                Duration::from_secs(2),
                value::seconds,
            ),
            publish_timeout: self.value("publish_timeout", Duration::from_secs(2), value::seconds),
            // None at all is as good as none, as it is for Ruby.
            connection_timeout: self
                .optional("connection_timeout", value::seconds)
                .filter(|timeout| !timeout.is_zero()),
            classes_file: self
                .path("classesfile")
                .unwrap_or_else(|| search::classes_file(self.surroundings)),
            facts_files: self.value("plugin.yaml", Vec::new(), |text| {
                text.split(':')
                    .filter(|path| !path.is_empty())
                    .map(&fact_file)
                    .collect()
            }),
            middleware_hosts: self.value(
                "plugin.choria.middleware_hosts",
                Vec::new(),
                value::servers,
            ),
            randomize_middleware_hosts: self.value(
                "plugin.choria.randomize_middleware_hosts",
                true,
                value::boolean,
            ),
            use_srv,
            srv_domain: self.optional("plugin.choria.srv_domain", |text| {
                Ok(text.trim_matches('.').to_owned())
            }),
            login: Login {
                user: self.optional("plugin.nats.user", |text| Ok(text.to_owned())),
                password: self.optional(PASSWORD, |text| Ok(text.to_owned())),
            },
            credentials: self.path("plugin.nats.credentials"),
            is_ngs: self.value("plugin.nats.ngs", false, |text| {
                if value::boolean(text)? {
                    return Err("servers of NGS have certificates of public authorities, and only Puppet's are \
                        trusted here, so there would be no connection; remove it"
                        .into());
                }
                Ok(false)
            }),
            security,
            certificate_revocation: self.value(
                "plugin.choria.security.certificate_revocation",
                Depth::Chain,
                value::revocation_depth,
            ),
            certname,
            puppet_ca: self.service("plugin.choria.puppetca_host", "plugin.choria.puppetca_port"),
            puppet_server: self.service(
                "plugin.choria.puppetserver_host",
                "plugin.choria.puppetserver_port",
            ),
            puppet_db: self.service("plugin.choria.puppetdb_host", "plugin.choria.puppetdb_port"),
            discovery_proxy: self.service(
                "plugin.choria.discovery_host",
                "plugin.choria.discovery_port",
            ),
            use_discovery_proxy: self.value("plugin.choria.discovery_proxy", false, value::boolean),
            federation: self.federation(),
            certname_allowed: self.patterns(
                "plugin.choria.security.certname_whitelist",
                &[r"/\.mcollective$/", r"/\.choria$/"],
            ),
            privileged: self.patterns(
                "plugin.choria.security.privileged_users",
                &[r"/\.privileged\.mcollective$/", r"/\.privileged\.choria$/"],
            ),
            file: self.main.clone(),
            plugin_folder: self.plugin_folder.clone(),
            files: self.files.clone(),
            settings: self.settings.clone(),
        }
    }

    fn identity(&mut self) -> Identity {
        let parse = |text: &str| {
            subject::check_part(text).map_err(|error| error.to_string())?;
            Identity::new(text).map_err(|error| error.to_string())
        };
        if self.settings.contains_key("identity") {
            return self.value("identity", Identity::placeholder(), parse);
        }
        let (name, machine) = self.surroundings.full_host_name();
        let origin = Origin::Machine(machine);
        let checked = subject::check_part(&name).and_then(|()| Identity::new(&*name));
        let identity = checked.unwrap_or_else(|error| {
            let message = format!("this machine has no usable name ({error}); set identity");
            self.say(Severity::Error, origin.clone(), message);
            Identity::placeholder()
        });
        self.settings
            .insert("identity".into(), Setting { text: name, origin });
        identity
    }

    fn request_lifetime(&mut self) -> Duration {
        let lifetime = self.value(
            "ttl",
            Duration::from_secs(60),
            |text| match value::seconds(text)? {
                Duration::ZERO => Err("no request would be good by the time a node has it".into()),
                lifetime => Ok(lifetime),
            },
        );
        if lifetime > LIFETIME_MAX
            && let Some(setting) = self.settings.get("ttl")
        {
            let message = format!(
                "ttl is {}: nodes of Natterjack take requests of {} s at most, and drop others without an answer",
                setting.text,
                LIFETIME_MAX.as_secs()
            );
            self.say(Severity::Warning, setting.origin.clone(), message);
        }
        lifetime
    }

    fn collectives(&mut self) -> Collectives {
        let collectives = self.value("collectives", Collectives::default(), |text| {
            Collectives::new(value::list(text), None).map_err(|error| error.to_string())
        });
        let names = collectives.names().to_vec();
        self.value("main_collective", collectives, |main| {
            Collectives::new(names.clone(), Some(main)).map_err(|error| error.to_string())
        })
    }

    fn use_srv(&mut self) -> bool {
        const NAME: &str = "plugin.choria.use_srv";
        const FORMER: &str = "plugin.choria.use_srv_records";
        if let Some(setting) = self.settings.get(FORMER) {
            let origin = setting.origin.clone();
            let is_both = self.settings.contains_key(NAME);
            let message = if is_both {
                format!("{FORMER} is the former name of {NAME}, which is given too and counts")
            } else {
                format!("{FORMER} is the former name of {NAME}; write that")
            };
            self.say(Severity::Warning, origin, message);
        }
        let name = if self.settings.contains_key(NAME) {
            NAME
        } else {
            FORMER
        };
        self.value(name, true, |text| Ok(value::lenient_boolean(text)))
    }

    fn security(&mut self) -> SecurityProvider {
        let ssldir = self.path("plugin.choria.ssldir");
        let [certificate, key, ca, crl] = [
            "plugin.security.file.certificate",
            "plugin.security.file.key",
            "plugin.security.file.ca",
            "plugin.security.file.crl",
        ]
        .map(|name| self.path(name));
        let provider = self.value("plugin.security.provider", "puppet", |text| {
            match text.to_lowercase().as_str() {
                "puppet" => Ok("puppet"),
                "file" => Ok("file"),
                _ => Err("it must be puppet or file; others are not supported".into()),
            }
        });
        if provider == "puppet" {
            return SecurityProvider::Puppet { ssldir };
        }
        let (Some(certificate), Some(key), Some(ca)) = (certificate, key, ca) else {
            let origin = self.settings["plugin.security.provider"].origin.clone();
            let message = "plugin.security.provider is file: that needs plugin.security.file.certificate, \
                plugin.security.file.key and plugin.security.file.ca";
            self.say(Severity::Error, origin, message);
            return SecurityProvider::Puppet { ssldir };
        };
        SecurityProvider::File {
            certificate,
            key,
            ca,
            crl,
        }
    }

    fn certname(&mut self) -> Option<String> {
        const NAME: &str = "MCOLLECTIVE_CERTNAME";
        let certname = self.surroundings.variable(NAME)?.to_owned();
        if let Err(error) = crate::identity::check(&certname) {
            self.say(
                Severity::Error,
                Origin::Environment(NAME),
                error.to_string(),
            );
        }
        Some(certname)
    }

    fn federation(&mut self) -> Federation {
        let names = |text: &str| {
            value::each(text, |name| {
                subject::check_part(name).map_err(|error| error.to_string())?;
                Ok(name.to_owned())
            })
        };
        let name = |text: &str| {
            subject::check_part(text).map_err(|error| error.to_string())?;
            Ok(text.to_owned())
        };
        Federation {
            collectives: self.value("plugin.choria.federation.collectives", Vec::new(), names),
            middleware_hosts: self.value(
                "plugin.choria.federation_middleware_hosts",
                Vec::new(),
                value::servers,
            ),
            cluster: self.value(
                "plugin.choria.federation.cluster",
                "mcollective".into(),
                name,
            ),
            instance: self.optional("plugin.choria.federation.instance", name),
        }
    }

    fn patterns(&mut self, name: &'static str, default: &[&str]) -> NamePatterns {
        let default: Vec<String> = default.iter().copied().map(String::from).collect();
        let default = NamePatterns::new(&default).unwrap_or_default();
        self.value(name, default, |text| {
            NamePatterns::new(&value::list(text)).map_err(|error| error.to_string())
        })
    }
}

const fn unknown(is_ignored: bool) -> Severity {
    if is_ignored {
        Severity::Warning
    } else {
        Severity::Error
    }
}

#[cfg(test)]
mod tests;
