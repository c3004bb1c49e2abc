//! What must fit together across options: the embedder's rules ([`Options::problems`](crate::Options::problems)) with the places of
//! the options they are about, and what only a configuration of files and flags can get wrong.

use std::collections::BTreeMap;
use std::path::Path;

use natterjack_conf::{Diagnostic, Severity, Sources};
use natterjack_engine::access::{
    AccessProblem, AccountAccess, Export, Import, Owner, Permissions, Secret, Side,
};

use super::flags;
use super::origin::Origin;
use super::reader::{Advise, join};
use super::{Configuration, Loaded};
use crate::options::{Cluster, Endpoint, InvalidOption, Tls};
use crate::tls::TlsProblem;

/// nats-server logs a warning above it (`MAX_PAYLOAD_MAX_SIZE`).
const PAYLOAD_BYTES_USUAL_MAX: usize = 8 << 20;

/// More connections that are shared than a peer of less takes over (the engine's `POOL_SIZE_MAX`).
const POOL_SIZE_USUAL_MAX: u16 = 128;

/// Accounts that are there without being configured.
const BUILT_IN_ACCOUNTS: [&str; 2] = ["$G", "$SYS"];

/// Adds to the diagnostics what does not fit together.
pub(super) fn check(loaded: &mut Loaded) {
    let Loaded {
        configuration,
        diagnostics,
        sources,
        origins,
        ..
    } = loaded;
    let mut checker = Checker {
        diagnostics,
        origins,
        sources,
    };
    // The rules of an embedder find in a configuration with errors what follows from them.
    let is_readable = !checker
        .diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error);
    checker.options(configuration, is_readable);
    checker.listeners(configuration);
    checker.listens_twice();
    checker.encryption(configuration);
    checker.cluster(configuration, is_readable);
    checker.files(configuration);
    if is_readable {
        checker.certificates(configuration);
    }
}

struct Checker<'a> {
    diagnostics: &'a mut Vec<Diagnostic>,
    origins: &'a BTreeMap<String, Origin>,
    sources: &'a Sources,
}

impl Checker<'_> {
    /// Says something at the first of these options that was given; names where the others were.
    fn say(
        &mut self,
        severity: Severity,
        options: &[&str],
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let mut message = message.into();
        let first = options
            .iter()
            .position(|option| self.is_given(option))
            .unwrap_or(0);
        let place = options.get(first);
        let origin = place.and_then(|option| self.nearest_origin(option));
        let span = origin.and_then(Origin::span);
        let mut others = Vec::new();
        for option in options {
            match self.origins.get(*option) {
                Some(Origin::Flag(name)) if !message.contains("comes from") => {
                    others.push(format!("{option} comes from {}", flags::dashed(name)));
                }
                Some(other) if Some(other) != origin && other.span() != span => {
                    others.push(format!("{option} is at {}", other.text(self.sources)));
                }
                _ => {}
            }
        }
        if !others.is_empty() {
            message = format!("{message}; {}", others.join(", "));
        }
        self.diagnostics
            .push(Diagnostic::new(severity, span, message));
        self.diagnostics.last_mut().expect("one was just pushed")
    }

    /// Where the option was given, or the block it is in.
    fn nearest_origin(&self, option: &str) -> Option<&Origin> {
        let mut path = option;
        loop {
            if let Some(origin) = self.origins.get(path) {
                return Some(origin);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    fn is_given(&self, option: &str) -> bool {
        self.origins.contains_key(option)
    }

    /// Reports of how long services take come from the system account.
    fn latencies(&mut self, configuration: &Configuration) {
        for account in &configuration.options.authorization.accounts {
            for (index, export) in account.exports.iter().enumerate() {
                let Export::Service(export) = export else {
                    continue;
                };
                if export.latency.is_some() {
                    let path = format!("accounts.{}.exports[{index}].latency", account.name);
                    let message = format!(
                        "Error adding service latency sampling for {:?}: system account not setup",
                        export.subject
                    );
                    self.say(Severity::Error, &[&path], message)
                        .help("leave out no_system_account");
                }
            }
        }
    }

    fn options(&mut self, configuration: &Configuration, is_readable: bool) {
        if configuration.options.max_payload > PAYLOAD_BYTES_USUAL_MAX {
            self.say(
                Severity::Note,
                &["max_payload"],
                "max_payload over 8MB is generally discouraged: large messages hold up small ones",
            );
        }
        // A password that could not be read is missing here, too.
        let login = configuration.options.authorization.user.as_ref();
        let login = login.filter(|_| is_readable);
        if login.is_some_and(|login| !login.name.is_empty() && login.password.is_empty()) {
            self.say(
                Severity::Note,
                &["authorization.user"],
                "without a password, whoever knows the name of the user comes in",
            )
            .help("add password, as a bcrypt hash or in clear text, or --pass");
        }
        if configuration.options.no_system_account {
            self.latencies(configuration);
        }
        for problem in configuration.options.problems() {
            match &problem {
                InvalidOption::Access(access) => {
                    // What was wrong with users already is not there to be compared.
                    if is_readable || !is_about_missing(access) {
                        let places = places_of(access, configuration);
                        let places: Vec<&str> = places.iter().map(String::as_str).collect();
                        let said = self.say(Severity::Error, &places, problem.to_string());
                        match access {
                            AccessProblem::InvalidUserNkey(_) => {
                                said.help(
                                    "copy it again: its last characters are a checksum; natterjack nkey --public \
                                     checks it",
                                );
                            }
                            AccessProblem::Empty("user") => {
                                said.help("say whose password it is: add user, or --user");
                            }
                            _ => {}
                        }
                    }
                }
                _ => {
                    self.say(Severity::Error, problem.options(), problem.to_string());
                }
            }
        }
    }

    fn listeners(&mut self, configuration: &Configuration) {
        let options = &configuration.options;
        let clients = Endpoint {
            host: options.host.clone(),
            port: options.port,
        };
        let cluster = options.cluster.as_ref();
        let cluster = cluster.and_then(|cluster| cluster.listen.clone());
        let port = |whole: &'static str, port: &'static str| {
            if self.is_given(port) { port } else { whole }
        };
        let listeners = [
            ("clients", port("listen", "port"), Some(clients)),
            (
                "http",
                port("http", "http_port"),
                options.monitoring.http.clone(),
            ),
            (
                "https",
                port("https", "https_port"),
                options.monitoring.https.clone(),
            ),
            ("cluster", port("cluster.listen", "cluster.port"), cluster),
        ];
        for (index, (name, option, endpoint)) in listeners.iter().enumerate() {
            for (other_name, other_option, other) in &listeners[..index] {
                if let (Some(endpoint), Some(other)) = (endpoint, other)
                    && is_same_address(endpoint, other)
                {
                    let port = endpoint.port;
                    self.say(
                        Severity::Error,
                        &[option, other_option],
                        format!("{name} and {other_name} cannot both listen on port {port}"),
                    )
                    .help("give one of them another port");
                }
            }
        }
    }

    fn encryption(&mut self, configuration: &Configuration) {
        let options = &configuration.options;
        if options.allow_non_tls && options.tls.is_none() {
            self.say(
                Severity::Note,
                &["allow_non_tls"],
                "allow_non_tls says nothing without tls",
            )
            .help("add tls { cert_file: …, key_file: … }, or leave it out");
        }
        if options.monitoring.https.is_some() && options.tls.is_none() {
            self.say(
                Severity::Error,
                &["https", "https_port"],
                "https needs a certificate",
            )
            .help("add tls { cert_file: …, key_file: … }, or use http");
        }
        if let Some(tls) = &options.tls
            && tls.verify_cert_and_check_known_urls
        {
            self.say(
                Severity::Error,
                &["tls.verify_cert_and_check_known_urls"],
                "verify_cert_and_check_known_urls is for clusters: clients have no known URLs",
            )
            .help("move it to cluster { tls { … } }, or use verify");
        }
        if let Some(tls) = &options.tls
            && (tls.verify || tls.verify_and_map)
            && tls.ca_files.is_empty()
        {
            self.say(
                Severity::Note,
                &["tls.verify", "tls.verify_and_map"],
                "without ca_file, certificates of any authority that this system trusts \
                 are accepted",
            )
            .help("set ca_file to the authority that issues your clients' certificates");
        }
    }

    fn cluster(&mut self, configuration: &Configuration, is_readable: bool) {
        let Some(cluster) = &configuration.options.cluster else {
            return;
        };
        if !cluster.routes.is_empty() && cluster.listen.is_none() {
            let from_flag = matches!(self.origins.get("cluster.routes"), Some(Origin::Flag(_)));
            let severity = if from_flag {
                Severity::Error
            } else {
                Severity::Note
            };
            self.say(
                severity,
                &["cluster.routes"],
                "solicited routes require cluster capabilities: without a port to listen \
                 on they are not used",
            )
            .help("add port: 6222 to the cluster, or --cluster nats://0.0.0.0:6222");
        }
        let has_peers = cluster.listen.is_some() || !cluster.routes.is_empty();
        if is_readable && cluster.name.is_none() && has_peers {
            self.say(
                Severity::Note,
                &["cluster"],
                "the cluster has no name, so one is made up, and servers have to agree on \
                 it first",
            )
            .help("add the same name to all servers of the cluster");
        }
        // DNS does not vouch for its answers, so what a certificate is compared with is whatever somebody answered.
        let service = cluster.routes.iter().find(|route| route.port.is_none());
        let trusts_anybody = |tls: &Tls| tls.ca_files.is_empty();
        if let Some(route) = service
            && cluster.tls.as_ref().is_some_and(trusts_anybody)
        {
            self.say(
                Severity::Note,
                &["cluster.routes"],
                format!(
                    "the servers of {} are those that DNS names, so a certificate of any authority that this \
                     system trusts will do for whoever can forge the answer",
                    route.host
                ),
            )
            .help("set ca_file in the cluster's tls to an authority that issues only your servers' certificates");
        }
        let in_clear = cluster.routes.iter().find(|route| route.tls);
        if let Some(route) = in_clear
            && cluster.tls.is_none()
        {
            self.say(
                Severity::Note,
                &["cluster.routes"],
                format!(
                    "routes are encrypted only if the cluster has a block tls, whatever their URLs say: {} will be \
                     talked to in clear text, passwords included",
                    route.host
                ),
            )
            .help("add tls { cert_file: …, key_file: …, ca_file: … } to the cluster, or write nats-route://");
        }
        self.pool(configuration, cluster, is_readable);
        let is_hash = |password: &Secret| password.expose().starts_with("$2");
        if cluster.password.as_ref().is_some_and(is_hash) {
            self.say(
                Severity::Note,
                &["cluster.authorization.password"],
                "whoever knows the password behind this hash comes in, but servers that this one learns of from \
                 others are sent the hash itself, and refuse it",
            )
            .help("write the password in clear text, in an included file that nobody else can read");
        }
        if cluster.user.is_some() != cluster.password.is_some() {
            self.say(
                Severity::Note,
                &["cluster.authorization"],
                "authorization of a cluster should have both user and password",
            );
        }
    }

    /// Connections that are shared, and accounts with one of their own.
    fn pool(&mut self, configuration: &Configuration, cluster: &Cluster, is_readable: bool) {
        if cluster.pool_size.is_none() && !cluster.accounts.is_empty() {
            // nats-server finds the file valid, and does not start with it.
            self.say(
                Severity::Error,
                &["cluster.pool_size", "cluster.accounts"],
                "pool_size cannot be negative if pinned accounts are specified",
            )
            .help("leave out pool_size, or accounts of the cluster");
        }
        if let Some(size) = cluster.pool_size.filter(|&size| size > POOL_SIZE_USUAL_MAX) {
            self.say(
                Severity::Note,
                &["cluster.pool_size"],
                format!(
                    "with a pool_size of {size} there are so many connections with each server, to share what \
                     {POOL_SIZE_USUAL_MAX} can carry"
                ),
            )
            .help("3 are enough for most; give an account that takes nearly all one of its own by accounts");
        }
        let access = &configuration.options.authorization;
        let is_known = |name: &str| {
            let mut accounts = access.accounts.iter();
            BUILT_IN_ACCOUNTS.contains(&name)
                || access.system_account.as_deref() == Some(name)
                || accounts.any(|account| account.name == name)
        };
        let mut accounts = cluster.accounts.iter();
        if is_readable && let Some(name) = accounts.find(|name| !is_known(name)) {
            self.say(
                Severity::Note,
                &["cluster.accounts"],
                format!("there is no account {name:?}, so connections for it alone are refused"),
            )
            .help("add it to accounts { … }, or leave it out here");
        }
    }

    /// Folders that are not there. The check may run on another machine than the server, so it is no error yet.
    fn files(&mut self, configuration: &Configuration) {
        let daemon = &configuration.daemon;
        for (option, path) in [
            ("log_file", &daemon.log_file),
            ("pid_file", &daemon.pid_file),
        ] {
            let Some(path) = path else { continue };
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or_else(|| Path::new("."));
            if path.is_dir() {
                let message = format!("{option} {} is a folder here", path.display());
                self.say(Severity::Note, &[option], message)
                    .help("name a file in it; the server cannot start without");
            } else if !folder.is_dir() {
                let message = format!("{option}: there is no folder {} here", folder.display());
                self.say(Severity::Note, &[option], message)
                    .help("create it, or correct the path; the server cannot start without");
            }
        }
        if let Some(folder) = daemon
            .ports_file_dir
            .as_ref()
            .filter(|folder| !folder.is_dir())
        {
            let message = format!(
                "ports_file_dir: there is no folder {} here",
                folder.display()
            );
            self.say(Severity::Note, &["ports_file_dir"], message)
                .help("create it, or correct the path; no file is written without");
        }
    }

    /// `listen` beside what it stands for; nats-server takes either, by chance.
    fn listens_twice(&mut self) {
        let Some(listen) = self.origins.get("listen").and_then(Origin::span) else {
            return;
        };
        let is_other = |part: &&str| {
            let span = self.origins.get(*part).and_then(Origin::span);
            span.is_some_and(|span| span != listen)
        };
        let others: Vec<&str> = ["host", "port"].into_iter().filter(is_other).collect();
        if !others.is_empty() {
            let (names, verb, them) = match others.as_slice() {
                [name] => ((*name).to_owned(), "counts", "it"),
                names => (names.join(" and "), "count", "them"),
            };
            let message = format!("{names} {verb}, not what listen says of {them}");
            let options: Vec<&str> = std::iter::once("listen").chain(others).collect();
            self.say(Severity::Note, &options, message)
                .help("keep one of them");
        }
    }

    /// What is wrong with the files and names in `tls`, that of the clients and that of the cluster.
    fn certificates(&mut self, configuration: &mut Configuration) {
        let options = &mut configuration.options;
        let cluster = options.cluster.as_mut();
        let blocks = [
            ("tls", options.tls.as_mut()),
            (
                "cluster.tls",
                cluster.and_then(|cluster| cluster.tls.as_mut()),
            ),
        ];
        for (path, tls) in blocks {
            let Some(tls) = tls else { continue };
            let written = tls.clone();
            for problem in problems_of(&written) {
                let severity = if problem.is_warning() {
                    Severity::Note
                } else {
                    Severity::Error
                };
                let place = join(path, &place_in_tls(&problem, &written));
                self.say(severity, &[&place], problem.to_string());
                // So that what is shown is what is in force.
                match problem {
                    TlsProblem::CipherSuiteLeftOut(left_out) => {
                        tls.cipher_suites.retain(|name| *name != left_out);
                    }
                    TlsProblem::CurveLeftOut(left_out) => {
                        tls.curve_preferences.retain(|name| *name != left_out);
                    }
                    _ => {}
                }
            }
        }
    }
}

fn problems_of(tls: &Tls) -> Vec<TlsProblem> {
    // Authorities that nobody is asked about are not read by the server, but had better be there.
    let tls = Tls {
        verify: tls.verify || !tls.ca_files.is_empty(),
        ..tls.clone()
    };
    crate::tls::problems(&tls)
}

/// Whether two listeners would take each other's port: the same one, on the same address or on all.
fn is_same_address(one: &Endpoint, other: &Endpoint) -> bool {
    let is_all = |host: &str| ["", "0.0.0.0", "::"].contains(&host);
    one.port != 0
        && one.port == other.port
        && (one.host == other.host || is_all(&one.host) || is_all(&other.host))
}

/// The option of the block that a problem is about.
fn place_in_tls(problem: &TlsProblem, tls: &Tls) -> String {
    let entry = |list: &str, names: &[String], name: &str| {
        let index = names.iter().position(|known| known == name);
        index.map_or_else(|| list.to_owned(), |index| format!("{list}[{index}]"))
    };
    let file = |option: &str, path: &Path| {
        let index = tls
            .certs
            .iter()
            .position(|pair| pair.cert_file == path || pair.key_file == path);
        index.map_or_else(
            || option.to_owned(),
            |index| format!("certs[{index}].{option}"),
        )
    };
    match problem {
        TlsProblem::KeyFileMissing(path)
        | TlsProblem::Expired { path, .. }
        | TlsProblem::ExpiresSoon { path, .. }
        | TlsProblem::NotYetValid(path) => file("cert_file", path),
        TlsProblem::CertFileMissing(path)
        | TlsProblem::NoKeyInside { path, .. }
        | TlsProblem::EncryptedKey(path)
        | TlsProblem::UnusableKey(path) => file("key_file", path),
        TlsProblem::KeyMismatch { key_file, .. } => file("key_file", key_file),
        TlsProblem::Unreadable { option, path, .. }
        | TlsProblem::NoCertificateInside { option, path, .. }
        | TlsProblem::Damaged { option, path, .. } => file(option, path),
        TlsProblem::CertFileAndCerts => "certs".to_owned(),
        TlsProblem::NoAuthority { .. } => "ca_file".to_owned(),
        TlsProblem::NoAuthorities => "verify".to_owned(),
        TlsProblem::UnknownCipherSuite(name) | TlsProblem::CipherSuiteLeftOut(name) => {
            entry("cipher_suites", &tls.cipher_suites, name)
        }
        TlsProblem::NoCipherSuite => "cipher_suites".to_owned(),
        TlsProblem::UnknownCurve(name) | TlsProblem::CurveLeftOut(name) => {
            entry("curve_preferences", &tls.curve_preferences, name)
        }
        TlsProblem::NoCurve => "curve_preferences".to_owned(),
        TlsProblem::PinnedCert(name) => entry("pinned_certs", &tls.pinned_certs, name),
        TlsProblem::PinnedWithoutVerify => "pinned_certs".to_owned(),
        TlsProblem::ZeroTimeout => "timeout".to_owned(),
        _ => String::new(),
    }
}

/// Whether the problem is that something is not there, which may be because it was wrong.
fn is_about_missing(problem: &AccessProblem) -> bool {
    matches!(
        problem,
        AccessProblem::NoAuthUserWithoutUsers(_)
            | AccessProblem::UnknownNoAuthUser(_)
            | AccessProblem::UnknownSystemAccount(_)
            | AccessProblem::InvalidExport { .. }
            | AccessProblem::InvalidImport { .. }
            | AccessProblem::Empty(_)
    )
}

/// The options a problem is about, the offending one first.
fn places_of(problem: &AccessProblem, configuration: &Configuration) -> Vec<String> {
    let access = &configuration.options.authorization;
    let accounts = || {
        let account = access
            .accounts
            .iter()
            .find(|account| !account.users.is_empty());
        account.map_or_else(
            || "accounts".to_owned(),
            |account| format!("accounts.{}.users", account.name),
        )
    };
    let of = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    match problem {
        AccessProblem::UserAndToken => of(&["authorization.token", "authorization.user"]),
        AccessProblem::UserAndUsers => of(&["authorization.users", "authorization.user"]),
        AccessProblem::TokenAndUsers => of(&["authorization.users", "authorization.token"]),
        AccessProblem::UserAndAccounts => vec![accounts(), "authorization.user".to_owned()],
        AccessProblem::TokenAndAccounts => vec![accounts(), "authorization.token".to_owned()],
        AccessProblem::Empty(key) => vec![format!("authorization.{key}"), "authorization".into()],
        AccessProblem::DuplicateUser(name)
        | AccessProblem::DuplicateNkey(name)
        | AccessProblem::InvalidUserNkey(name) => {
            // The later one is the surplus one.
            let mut places: Vec<String> = users(configuration)
                .filter(|(_, user)| user == name)
                .map(|(path, _)| path)
                .collect();
            places.reverse();
            places
        }
        AccessProblem::DuplicateAccount(name)
        | AccessProblem::ReservedAccount(name)
        | AccessProblem::InvalidAccountName(name) => account(configuration, name),
        AccessProblem::InvalidExport {
            account, subject, ..
        } => {
            let exports = listed(configuration, account).map(|listed| &listed.exports[..]);
            let index = exports
                .unwrap_or_default()
                .iter()
                .position(|export| match export {
                    Export::Stream(export) => export.subject == *subject,
                    Export::Service(export) => export.subject == *subject,
                    _ => false,
                });
            of(&[&format!(
                "accounts.{account}.exports[{}]",
                index.unwrap_or(0)
            )])
        }
        AccessProblem::InvalidImport {
            account, subject, ..
        } => {
            let imports = listed(configuration, account).map(|listed| &listed.imports[..]);
            // Of several alike the last one is in the way.
            let index = imports
                .unwrap_or_default()
                .iter()
                .rposition(|import| match import {
                    Import::Stream(import) => import.subject == *subject,
                    Import::Service(import) => import.subject == *subject,
                    _ => false,
                });
            of(&[&format!(
                "accounts.{account}.imports[{}]",
                index.unwrap_or(0)
            )])
        }
        AccessProblem::InvalidAccountNkey { account, .. } => {
            vec![format!("accounts.{account}.nkey")]
        }
        AccessProblem::InvalidSubject {
            owner,
            side,
            subject,
        } => vec![subject_of(configuration, owner, *side, subject)],
        AccessProblem::NoAuthUserWithoutUsers(_) | AccessProblem::UnknownNoAuthUser(_) => {
            of(&["no_auth_user"])
        }
        AccessProblem::UnknownSystemAccount(_) => of(&["system_account"]),
        _ => of(&["authorization"]),
    }
}

/// In the order of the lists: where each user stands, and its name.
fn users(configuration: &Configuration) -> impl Iterator<Item = (String, &str)> {
    let access = &configuration.options.authorization;
    let own = access
        .users
        .iter()
        .enumerate()
        .map(|(index, user)| (format!("authorization.users[{index}]"), user.name.as_str()));
    let of_accounts = access.accounts.iter().flat_map(|account| {
        let users = account.users.iter().enumerate();
        users.map(move |(index, user)| {
            let path = format!("accounts.{}.users[{index}]", account.name);
            (path, user.name.as_str())
        })
    });
    own.chain(of_accounts)
}

/// Where accounts of this name stand, the last first.
fn account(configuration: &Configuration, name: &str) -> Vec<String> {
    let accounts = &configuration.options.authorization.accounts;
    let mut places = vec![format!("accounts.{name}")];
    let listed = accounts.iter().enumerate().rev();
    places.extend(
        listed
            .filter(|(_, account)| account.name == name)
            .map(|(index, _)| format!("accounts[{index}]")),
    );
    places
}

/// The account of this name.
fn listed<'a>(configuration: &'a Configuration, name: &str) -> Option<&'a AccountAccess> {
    let accounts = &configuration.options.authorization.accounts;
    accounts.iter().find(|account| account.name == name)
}

/// Where a subject of somebody's permissions stands.
fn subject_of(configuration: &Configuration, owner: &Owner, side: Side, subject: &str) -> String {
    let access = &configuration.options.authorization;
    let (path, permissions): (String, Option<&Permissions>) = match owner {
        Owner::User(name) => {
            let path = users(configuration)
                .find(|(_, user)| user == name)
                .map_or_else(|| "authorization".to_owned(), |(path, _)| path);
            let in_accounts = access.accounts.iter().flat_map(|account| &account.users);
            let user = access
                .users
                .iter()
                .chain(in_accounts)
                .find(|user| user.name == *name);
            (
                join(&path, "permissions"),
                user.and_then(|user| user.permissions.as_ref()),
            )
        }
        Owner::Account(name) => {
            let account = access.accounts.iter().find(|account| account.name == *name);
            (
                format!("accounts.{name}.default_permissions"),
                account.and_then(|account| account.default_permissions.as_ref()),
            )
        }
        _ => (
            "authorization.default_permissions".to_owned(),
            access.default_permissions.as_ref(),
        ),
    };
    let Some(permissions) = permissions else {
        return path;
    };
    let (rules, key, is_allow) = match side {
        Side::PublishAllow => (&permissions.publish, "publish", true),
        Side::PublishDeny => (&permissions.publish, "publish", false),
        Side::SubscribeAllow => (&permissions.subscribe, "subscribe", true),
        Side::SubscribeDeny => (&permissions.subscribe, "subscribe", false),
    };
    let (list, name) = if is_allow {
        (rules.allow.as_deref().unwrap_or_default(), "allow")
    } else {
        (rules.deny.as_slice(), "deny")
    };
    let index = list.iter().position(|known| known == subject).unwrap_or(0);
    // `publish: [ … ]` has no `allow` in its path; the nearest place that was written is found anyway.
    format!("{path}.{key}.{name}[{index}]")
}
