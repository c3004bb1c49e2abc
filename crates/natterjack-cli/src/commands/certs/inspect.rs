//! `certs inspect`: what certificates say, and why each would be refused as a node's server, as a client, as a peer.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use natterjack_bus::certificates::{
    Certificate, Flaw, ReadError, Role, authority_flaw, date, flaws, is_key_of,
};

use crate::output::Output;

/// Tell what certificates say, and why each would be refused: as a node's server, as a client, as a peer
#[derive(clap::Args)]
#[command(after_help = "Exits with 1 if any of them would be refused.")]
pub(super) struct Arguments {
    /// Certificates, each with the chain to its authority if it has one, and private keys
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Certificates of the authorities that the others believe; without them nobody asks who gave a certificate
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// Host name or address that others dial, as in routes and endpoints
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
}

/// What each node's own client dials, unless its settings say otherwise.
const OWN_HOST: &str = "localhost";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let now = super::calendar_now();
    let mut authorities = Vec::new();
    for path in &arguments.ca {
        let read = Certificate::read(path);
        authorities.extend(read.with_context(|| path.display().to_string())?);
    }
    let mut report = String::new();
    let mut is_good = true;
    for authority in &authorities {
        if let Some(flaw) = authority_flaw(authority, now) {
            is_good = false;
            // Writing to a String cannot fail.
            let _ = writeln!(report, "--ca: {flaw}; {}\n", flaw.remedy());
        }
    }
    let mut known: Vec<(&Path, Certificate)> = Vec::new();
    let mut keys: Vec<&Path> = Vec::new();
    for path in &arguments.files {
        let chain = match Certificate::read(path) {
            Ok(chain) => chain,
            Err(ReadError::Nothing) if holds_key(path) => {
                keys.push(path);
                continue;
            }
            Err(error) => {
                is_good = false;
                let _ = writeln!(report, "{}: {error}\n", path.display());
                continue;
            }
        };
        let case = Case {
            chain: &chain,
            authorities: &authorities,
            hosts: &arguments.hosts,
            now,
        };
        let _ = writeln!(report, "{}", path.display());
        is_good &= case.describe(&mut report);
        report.push('\n');
        known.push((path, chain[0].clone()));
    }
    for path in keys {
        is_good &= describe_key(path, &known, &mut report);
    }
    let mut output = Output::start();
    output.write(report.into_bytes()).await?;
    output.finish().await?;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn holds_key(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains("PRIVATE KEY-----"))
}

/// A certificate and what it is to be good for.
struct Case<'a> {
    chain: &'a [Certificate],
    authorities: &'a [Certificate],
    hosts: &'a [String],
    now: SystemTime,
}

impl Case<'_> {
    /// Answers whether nobody would refuse it.
    fn describe(&self, report: &mut String) -> bool {
        let own = &self.chain[0];
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(report, "  {name:<11}{value}");
        };
        line("subject", &own.subject);
        line("issuer", &own.issuer);
        let names = own.names();
        let none = "nobody: it has no subject alternative names";
        // An authority is not dialled.
        if !names.is_empty() {
            line("names", &names.join(", "));
        } else if !own.is_authority {
            line("names", none);
        }
        line(
            "valid",
            &format!("{} to {}", date(own.not_before), date(own.not_after)),
        );
        if own.is_authority {
            return self.describe_authority(report);
        }
        if self.authorities.is_empty() {
            line("authority", "not looked at: name it with --ca");
        }
        let dialled: Vec<&str> = self.hosts.iter().map(String::as_str).collect();
        let own_first = [OWN_HOST].into_iter().chain(dialled.iter().copied());
        let as_node = self.found(
            own_first
                .map(|host| Role::Server { host: Some(host) })
                .collect(),
        );
        let as_client = self.found(vec![Role::Client]);
        let mut peer_roles = vec![Role::Client];
        peer_roles.extend(dialled.iter().map(|host| Role::Server { host: Some(host) }));
        if dialled.is_empty() {
            peer_roles.push(Role::Server { host: None });
        }
        let as_peer = self.found(peer_roles);
        let mut is_good = true;
        for (role, found) in [
            ("as a node", as_node),
            ("as client", as_client),
            ("as a peer", as_peer),
        ] {
            is_good &= verdict(role, &found, report);
        }
        if dialled.is_empty() {
            let _ = writeln!(
                report,
                "  (what other hosts dial was not asked: name it with --host)"
            );
        }
        is_good
    }

    fn describe_authority(&self, report: &mut String) -> bool {
        let flaw = authority_flaw(&self.chain[0], self.now);
        let found: Vec<Flaw> = flaw.into_iter().collect();
        verdict("authority", &found, report)
    }

    /// What is found in any of the roles, each once.
    fn found(&self, roles: Vec<Role<'_>>) -> Vec<Flaw> {
        let mut found: Vec<Flaw> = Vec::new();
        for role in roles {
            for flaw in flaws(self.chain, self.authorities, role, self.now) {
                let is_asked = !self.authorities.is_empty()
                    || !matches!(flaw, Flaw::UnknownIssuer { .. } | Flaw::OtherKey { .. });
                if is_asked && !found.contains(&flaw) {
                    found.push(flaw);
                }
            }
        }
        found
    }
}

fn verdict(role: &str, found: &[Flaw], report: &mut String) -> bool {
    let is_refused = found.iter().any(|flaw| !flaw.is_warning());
    let word = if is_refused { "REFUSED" } else { "good" };
    let _ = writeln!(report, "  {role:<11}{word}");
    for flaw in found {
        let _ = writeln!(report, "    - {flaw}; {}", flaw.remedy());
    }
    !is_refused
}

/// Answers whether it is a good key of one of the certificates, if there are any.
fn describe_key(path: &Path, known: &[(&Path, Certificate)], report: &mut String) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let _ = writeln!(report, "{}\n  a private key", path.display());
    let mut is_good = true;
    let text = std::fs::read(path).unwrap_or_default();
    let owners: Vec<String> = known
        .iter()
        .filter(|(_, certificate)| is_key_of(&text, certificate))
        .map(|(path, _)| path.display().to_string())
        .collect();
    if !owners.is_empty() {
        let _ = writeln!(report, "  belongs to {}", owners.join(", "));
    } else if !known.is_empty() {
        is_good = false;
        let _ = writeln!(
            report,
            "    - it is the key of none of these certificates, encrypted, or of a kind that cannot be used; name the two \
             that were made together"
        );
    }
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        is_good = false;
        let _ = writeln!(
            report,
            "    - others can read or change it (mode {mode:04o}); chmod 600 {}",
            path.display()
        );
    }
    report.push('\n');
    is_good
}
