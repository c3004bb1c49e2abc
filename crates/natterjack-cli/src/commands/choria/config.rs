//! `natterjack choria config`: what holds here and why, which servers would be used, and whether keys and certificates are
//! good. Connects to nobody; only DNS is asked, and Facter and Puppet are run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use natterjack_choria::configuration::{Configuration, Role, SecurityProvider};
use natterjack_choria::finding::{Finder, Found};
use natterjack_choria::revocation::Depth;
use natterjack_choria::ssl::{Ssl, SslFiles};
use natterjack_choria::trust::CertificateNames;
use serde::Serialize;

use super::start::{Shared, Started, calendar_now};
use crate::escape::{escaped, json_escaped};
use crate::output::Output;

/// Show what holds here and where it comes from, which servers would be used, and whether keys and certificates are good
#[derive(clap::Args)]
#[command(
    after_help = "Connects to nobody. Passwords are never shown. The exit code is 0 if keys and certificates are good, \
    and otherwise 1. With --log debug it also says how servers are found."
)]
pub(super) struct Arguments {
    /// Show what holds for this machine as a node, and not for a person who asks
    #[arg(long)]
    server: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(shared: &Shared, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let role = if arguments.server {
        Role::Server
    } else {
        Role::Client
    };
    let Some(started) = shared.start(role)? else {
        return Ok(ExitCode::FAILURE);
    };
    let report = Report::of(&started).await;
    let text = if arguments.json {
        let mut text = json_escaped(&serde_json::to_string_pretty(&report)?);
        text.push('\n');
        text
    } else {
        report.text()
    };
    let mut output = Output::start();
    output.write(text.into_bytes()).await?;
    output.finish().await?;
    Ok(if report.security.is_valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// All that is shown; in JSON with these names.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    protocol_version: u8,
    role: &'static str,
    identity: String,
    collectives: Vec<String>,
    main_collective: String,
    files: Files,
    servers: Servers,
    puppet: Puppet,
    security: Security,
    /// All that mean something here, defaults included.
    settings: Vec<Setting>,
    /// Those of Choria that were made.
    choria_settings: Vec<Setting>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Files {
    /// The usual one that there is, whether it is used or not.
    usual: Option<PathBuf>,
    looked_for: Vec<PathBuf>,
    active: Option<PathBuf>,
    plugin_folder: Option<File>,
    read: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Servers {
    use_srv: bool,
    srv_domain: Option<String>,
    srv_domain_origin: Option<String>,
    /// Why nobody knows what DNS would say, and what to do.
    dns_problem: Option<String>,
    ngs: bool,
    middleware: Answer,
    federated: bool,
    federation_collectives: Vec<String>,
    federation: Option<Answer>,
}

#[derive(Serialize)]
struct Puppet {
    server: Answer,
    ca: Answer,
    db: Answer,
    discovery_proxy: Option<Answer>,
    facter: Option<PathBuf>,
    facter_domain: Option<String>,
}

/// Servers, and who says so.
#[derive(Serialize)]
struct Answer {
    servers: Vec<String>,
    source: String,
}

#[derive(Serialize)]
struct Security {
    is_valid: bool,
    /// What is wrong, and what to do.
    problem: Option<String>,
    provider: &'static str,
    certname: Option<String>,
    ssl_folder: Option<File>,
    certificate: Option<File>,
    key: Option<File>,
    ca: Option<File>,
    /// What they have revoked.
    crl: Option<File>,
    /// Whether that counts, and until when.
    revocation: String,
    request: Option<File>,
    /// How long the certificate is still good.
    certificate_days_left: Option<u64>,
    /// Whom the certificate names.
    certificate_name: Option<String>,
    certificate_name_matches: Option<bool>,
    credentials: Option<File>,
    user: Option<String>,
    has_password: bool,
}

#[derive(Serialize)]
struct File {
    path: PathBuf,
    found: bool,
}

#[derive(Serialize)]
struct Setting {
    name: String,
    value: String,
    origin: String,
}

impl Report {
    async fn of(started: &Started) -> Self {
        let configuration = &started.configuration;
        let finder = started.finder();
        // All at once: where DNS does not answer, each name takes long.
        let (mut servers, puppet) = tokio::join!(
            Servers::of(configuration, &finder),
            Puppet::of(started, &finder)
        );
        servers.dns_problem = finder.unanswered();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            protocol_version: 1,
            role: match configuration.role {
                Role::Client => "client",
                Role::Server => "server",
            },
            identity: configuration.identity.to_string(),
            collectives: configuration.collectives.names().to_vec(),
            main_collective: configuration.collectives.main().to_owned(),
            files: Files::of(started),
            servers,
            puppet,
            security: Security::of(started),
            settings: configuration
                .show()
                .into_iter()
                .map(|shown| Setting {
                    name: shown.name.to_owned(),
                    value: shown.value,
                    origin: shown.origin.to_string(),
                })
                .collect(),
            choria_settings: configuration
                .settings_below("plugin.choria.")
                .map(|(name, value, origin)| Setting {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    origin: origin.to_string(),
                })
                .collect(),
            warnings: started.warnings.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Files {
    fn of(started: &Started) -> Self {
        let configuration = &started.configuration;
        let looked_for = Configuration::usual_files(configuration.role, &started.surroundings);
        Self {
            usual: looked_for.iter().find(|file| file.is_file()).cloned(),
            looked_for,
            active: configuration.file.clone(),
            plugin_folder: configuration.plugin_folder.clone().map(File::at),
            read: configuration.files.clone(),
        }
    }
}

impl Servers {
    async fn of(configuration: &Configuration, finder: &Finder) -> Self {
        let domain = async {
            // Facter is not run for a domain that nobody would use.
            if configuration.use_srv {
                finder.domain().await
            } else {
                None
            }
        };
        let is_federated = configuration.is_federated();
        let federation = async {
            if is_federated {
                finder.federation().await
            } else {
                None
            }
        };
        let (domain, middleware, federation) =
            tokio::join!(domain, finder.middleware(), federation);
        Self {
            use_srv: configuration.use_srv,
            srv_domain: domain.as_ref().map(|domain| domain.name.clone()),
            srv_domain_origin: domain.map(|domain| domain.origin.to_string()),
            dns_problem: None,
            ngs: configuration.is_ngs && configuration.credentials.is_some(),
            middleware: middleware.into(),
            federated: is_federated,
            federation_collectives: configuration.federation.collectives.clone(),
            federation: federation.map(Answer::from),
        }
    }
}

impl Puppet {
    async fn of(started: &Started, finder: &Finder) -> Self {
        let facter = started.surroundings.facter.program();
        let (server, ca, db, discovery_proxy, facter_domain) = tokio::join!(
            finder.puppet_server(),
            finder.puppet_ca(),
            finder.puppet_db(),
            finder.discovery_proxy(),
            finder.facter_domain()
        );
        Self {
            server: server.into(),
            ca: ca.into(),
            db: db.into(),
            discovery_proxy: discovery_proxy.map(Answer::from),
            facter: facter.map(Path::to_path_buf),
            facter_domain,
        }
    }
}

impl From<Found> for Answer {
    fn from(found: Found) -> Self {
        Self {
            servers: found.servers.iter().map(ToString::to_string).collect(),
            source: found.source.to_string(),
        }
    }
}

impl Security {
    fn of(started: &Started) -> Self {
        let configuration = &started.configuration;
        let ssl = started.ssl();
        let problem = match &ssl {
            Err(error) => Some(error.to_string()),
            // Nodes sign nothing.
            Ok(_) if configuration.role == Role::Server => None,
            Ok(ssl) => cannot_sign(ssl),
        };
        // If they cannot be named, the problem says so.
        let files = SslFiles::find(configuration, &started.surroundings).ok();
        let names = files
            .as_ref()
            .filter(|files| files.certificate.is_file())
            .and_then(|files| std::fs::read(&files.certificate).ok())
            .and_then(|pem| CertificateNames::of_pem(&pem).ok());
        let matches = names.as_ref().zip(files.as_ref());
        Self {
            is_valid: problem.is_none(),
            problem,
            provider: match configuration.security {
                SecurityProvider::File { .. } => "file",
                _ => "puppet",
            },
            certificate_name: names
                .as_ref()
                .and_then(|names| names.shown().map(str::to_owned)),
            certificate_name_matches: matches.map(|(names, files)| names.prove(&files.certname)),
            certname: files.as_ref().map(|files| files.certname.clone()),
            ssl_folder: files
                .as_ref()
                .and_then(|files| files.folder.clone().map(File::at)),
            certificate: files
                .as_ref()
                .map(|files| File::at(files.certificate.clone())),
            key: files.as_ref().map(|files| File::at(files.key.clone())),
            ca: files.as_ref().map(|files| File::at(files.ca.clone())),
            crl: files
                .as_ref()
                .and_then(|files| files.crl.clone().map(File::at)),
            revocation: files.as_ref().map_or_else(String::new, |files| {
                revocation(files, configuration.certificate_revocation)
            }),
            certificate_days_left: ssl.as_ref().ok().map(|ssl| days_until(ssl.ends())),
            request: files.and_then(|files| files.request).map(File::at),
            credentials: configuration.credentials.clone().map(File::at),
            user: configuration.login.user.clone(),
            has_password: configuration.login.password.is_some(),
        }
    }
}

/// Why nobody could be asked with this key, though it is good for connections.
fn cannot_sign(ssl: &Ssl) -> Option<String> {
    let error = ssl.signer().err()?;
    let key = ssl.files.key.display();
    Some(format!(
        "cannot sign requests with {key}: {error}; have a certificate made for another key"
    ))
}

/// What is known of revoked certificates, and what that means.
fn revocation(files: &SslFiles, depth: Depth) -> String {
    if depth == Depth::Off {
        return "not looked at (plugin.choria.security.certificate_revocation)".into();
    }
    match files.revocations(depth) {
        Ok(None) => "not known: there is no list".into(),
        Ok(Some(revocations)) => {
            let lists = match revocations.count() {
                1 => "1 list".to_owned(),
                count => format!("{count} lists"),
            };
            let reach = if depth == Depth::Leaf {
                ", for certificates and not their authorities"
            } else {
                ""
            };
            let until = match revocations.next_update().map(days_until) {
                None => "good for ever".to_owned(),
                Some(0) => "EXPIRED, or about to: nobody will be trusted".to_owned(),
                Some(days) => format!("good for {days} days"),
            };
            let age = match revocations.this_update().map(days_since) {
                None | Some(0) => "made today".to_owned(),
                Some(1) => "made yesterday".to_owned(),
                Some(days) => format!("made {days} days ago"),
            };
            format!(
                "{lists}, {} revoked{reach}, {age}, {until}",
                revocations.revoked()
            )
        }
        Err(error) => error.to_string(),
    }
}

/// Whole days; 0 if it is still to come.
fn days_since(time: SystemTime) -> u64 {
    let age = calendar_now().duration_since(time).unwrap_or_default();
    age.as_secs() / (24 * 60 * 60)
}

/// Whole days; 0 once it is over.
fn days_until(end: SystemTime) -> u64 {
    let left = end.duration_since(calendar_now()).unwrap_or_default();
    left.as_secs() / (24 * 60 * 60)
}

impl File {
    fn at(path: PathBuf) -> Self {
        Self {
            found: path.exists(),
            path,
        }
    }
}

/// The text for people: titles, and below each lines of a name and what it is.
impl Report {
    fn text(&self) -> String {
        let mut page = Page::default();
        page.title("Settings are from");
        self.write_files(&mut page);
        page.title("Servers");
        self.write_servers(&mut page);
        page.title("Puppet");
        self.write_puppet(&mut page);
        page.title("Security");
        self.write_security(&mut page);
        page.title("Choria's settings that were made");
        if self.choria_settings.is_empty() {
            page.text.push_str("  none\n");
        }
        page.settings(&self.choria_settings);
        page.title("All settings, with those that nobody made");
        page.settings(&self.settings);
        page.text
    }

    fn write_files(&self, page: &mut Page) {
        let Files {
            usual,
            looked_for,
            active,
            plugin_folder,
            read,
        } = &self.files;
        let list = |paths: &[PathBuf]| {
            let paths: Vec<_> = paths.iter().map(|it| it.display().to_string()).collect();
            paths.join(", ")
        };
        let usual = match usual {
            Some(path) => path.display().to_string(),
            None => format!("none of {}", list(looked_for)),
        };
        page.line("Natterjack", self.version);
        page.line("Protocol", self.protocol_version);
        page.line("Role", self.role);
        page.line(
            if self.role == "client" {
                "Client Config File"
            } else {
                "Server Config File"
            },
            usual,
        );
        page.line(
            "Active Config File",
            match active {
                Some(path) => path.display().to_string(),
                None => "none; defaults hold".to_owned(),
            },
        );
        page.file("Plugin Config Dir", plugin_folder.as_ref());
        if !read.is_empty() {
            page.line("Files Read", list(read));
        }
        page.line("Identity", &self.identity);
        page.line(
            "Collectives",
            format!(
                "{} (main: {})",
                self.collectives.join(", "),
                self.main_collective
            ),
        );
    }

    fn write_servers(&self, page: &mut Page) {
        let servers = &self.servers;
        page.line("Using SRV Records", yes(servers.use_srv));
        page.line(
            "SRV Domain",
            match (&servers.srv_domain, &servers.srv_domain_origin) {
                (Some(name), Some(origin)) => format!("{name} ({origin})"),
                _ if servers.use_srv => "unknown; set plugin.choria.srv_domain".to_owned(),
                _ => "not needed".to_owned(),
            },
        );
        if let Some(problem) = &servers.dns_problem {
            page.line("DNS", problem);
        }
        page.line("NATS NGS", yes(servers.ngs));
        page.answer("Middleware Servers", &servers.middleware);
        page.line("Federated", yes(servers.federated));
        if servers.federated {
            match &servers.federation {
                Some(answer) => page.answer("Federation Servers", answer),
                None => page.line(
                    "Federation Servers",
                    "none; the middleware servers are used",
                ),
            }
            page.line(
                "Federation Collectives",
                servers.federation_collectives.join(", "),
            );
        }
    }

    fn write_puppet(&self, page: &mut Page) {
        let puppet = &self.puppet;
        page.answer("Puppet Server", &puppet.server);
        page.answer("Puppet CA Server", &puppet.ca);
        page.answer("PuppetDB Server", &puppet.db);
        match &puppet.discovery_proxy {
            Some(answer) => page.answer("Discovery Proxy", answer),
            None => page.line("Discovery Proxy", "not used"),
        }
        page.line(
            "Facter Command",
            match &puppet.facter {
                Some(path) => path.display().to_string(),
                None => "absent".to_owned(),
            },
        );
        page.line(
            "Facter Domain",
            puppet.facter_domain.as_deref().unwrap_or("unknown"),
        );
    }

    fn write_security(&self, page: &mut Page) {
        let security = &self.security;
        page.line("Valid SSL Setup", yes(security.is_valid));
        for line in security.problem.iter().flat_map(|problem| problem.lines()) {
            page.line("", line);
        }
        page.line("Security Provider", security.provider);
        page.line(
            "Certname",
            security.certname.as_deref().unwrap_or("unknown"),
        );
        page.file("SSL Directory", security.ssl_folder.as_ref());
        page.file("Public Certificate", security.certificate.as_ref());
        page.file("Private Key", security.key.as_ref());
        page.file("CA", security.ca.as_ref());
        page.file("Revocation List", security.crl.as_ref());
        page.line("Revoked Certificates", &security.revocation);
        page.file("Certificate Request", security.request.as_ref());
        if let Some(matches) = security.certificate_name_matches {
            let name = security.certificate_name.as_deref().unwrap_or("nobody");
            let verdict = if matches {
                "matches the certname"
            } else {
                "does not match the certname"
            };
            page.line("Certificate Name", format!("{name} ({verdict})"));
        }
        if let Some(days) = security.certificate_days_left {
            page.line("Certificate Ends", format!("in {days} days"));
        }
        if let Some(credentials) = &security.credentials {
            page.file("NATS Credentials", Some(credentials));
        }
        if security.user.is_some() || security.has_password {
            let user = security.user.as_deref().unwrap_or("no user");
            let password = if security.has_password {
                "with a password"
            } else {
                "without a password"
            };
            page.line("NATS Login", format!("{user} ({password})"));
        }
    }
}

/// Columns that names are set to the right in.
const NAME_COLUMNS: usize = 24;

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn title(&mut self, title: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(title);
        self.text.push_str(":\n\n");
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        let colon = if name.is_empty() { ' ' } else { ':' };
        let value = escaped(&value.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{name:>NAME_COLUMNS$}{colon} {value}");
    }

    fn answer(&mut self, name: &str, answer: &Answer) {
        let Answer { servers, source } = answer;
        self.line(name, format_args!("{} ({source})", servers.join(", ")));
    }

    fn file(&mut self, name: &str, file: Option<&File>) {
        match file {
            Some(File { path, found }) => {
                let mark = if *found { "found" } else { "absent" };
                self.line(name, format_args!("{} ({mark})", path.display()));
            }
            None => self.line(name, "none"),
        }
    }

    fn settings(&mut self, settings: &[Setting]) {
        for Setting {
            name,
            value,
            origin,
        } in settings
        {
            let setting = escaped(&format!("{name} = {value} ({origin})"));
            let _ = writeln!(self.text, "  {setting}");
        }
    }
}

const fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}
