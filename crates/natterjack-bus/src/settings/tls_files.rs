//! The files of TLS, read and tried before anything starts.

use std::fs::Metadata;
use std::path::Path;
use std::time::SystemTime;

use natterjack_server::tls::{TlsProblem, problems};

use super::check::{ADVERTISE, CA, CERT, Check, ENDPOINT, KEY};
use super::problem::Wrong;
use super::{is_loopback, unbracketed};
use crate::certificates::{Certificate, Flaw, ReadError, Role, authority_flaw, flaws};
use crate::embedded;

/// Looks at the files that are given, be they all that are needed or not.
pub(super) fn check(check: &mut Check<'_>) {
    let tls = &check.settings.nats.tls;
    let is_complete = tls.certificate.is_some() && tls.key.is_some() && !tls.authorities.is_empty();
    let is_key_told = if is_complete {
        together(check)
    } else {
        certificates_alone(check);
        false
    };
    if let Some(key) = &tls.key {
        match std::fs::metadata(key) {
            Ok(metadata) => key_mode(check, key, &metadata),
            // The server looks for the key only once it has the certificate.
            Err(error) if !is_key_told => {
                let (option, wrong) = of_file(&TlsProblem::Unreadable {
                    option: "key_file",
                    path: key.clone(),
                    kind: error.kind(),
                });
                check.error(option, wrong);
            }
            Err(_) => {}
        }
    }
    let chain = tls.certificate.as_deref().map(Certificate::read);
    let authorities: Result<Vec<Vec<Certificate>>, _> = tls
        .authorities
        .iter()
        .map(|path| Certificate::read(path))
        .collect();
    let authorities = authorities.map(|authorities| authorities.concat());
    // Without all of the authorities nothing can be said of who gave it, but of everything else.
    let authorities = authorities.ok().filter(|all| !all.is_empty());
    if let Some(Ok(chain)) = chain {
        certificate(check, &chain, authorities.as_deref(), calendar_now());
    }
}

/// What a start would find. Answers whether the key is among it.
fn together(check: &mut Check<'_>) -> bool {
    let mut is_key_told = false;
    for problem in problems(&embedded::tls(&check.settings.nats.tls)) {
        // Those are said below, in more detail.
        let is_told_later = matches!(
            problem,
            TlsProblem::Expired { .. }
                | TlsProblem::ExpiresSoon { .. }
                | TlsProblem::NotYetValid(_)
                | TlsProblem::AuthorityOutOfTime { .. }
        );
        if is_told_later {
            continue;
        }
        let (option, wrong) = of_file(&problem);
        is_key_told |= option == KEY;
        if problem.is_warning() {
            check.warn(option, wrong);
        } else {
            check.error(option, wrong);
        }
    }
    is_key_told
}

/// Each certificate for itself.
fn certificates_alone(check: &mut Check<'_>) {
    let tls = &check.settings.nats.tls;
    let certificate = tls.certificate.iter().map(|path| ("cert_file", path));
    let authorities = tls.authorities.iter().map(|path| ("ca_file", path));
    for (option, path) in certificate.chain(authorities) {
        let path = path.clone();
        let problem = match Certificate::read(&path) {
            Ok(_) => continue,
            Err(ReadError::Unreadable(error)) => TlsProblem::Unreadable {
                option,
                path,
                kind: error.kind(),
            },
            Err(ReadError::Nothing) => TlsProblem::NoCertificateInside {
                option,
                path,
                holds_key: false,
            },
            Err(ReadError::Damaged { number }) => TlsProblem::Damaged {
                option,
                path,
                number,
            },
        };
        let (option, wrong) = of_file(&problem);
        check.error(option, wrong);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a certificate is valid is a matter of the calendar"
)]
fn calendar_now() -> SystemTime {
    SystemTime::now()
}

/// What the certificate says, and who stands behind it, as far as that is known.
fn certificate(
    check: &mut Check<'_>,
    chain: &[Certificate],
    authorities: Option<&[Certificate]>,
    now: SystemTime,
) {
    let settings = check.settings;
    let server = &settings.nats.server;
    let tls = &settings.nats.tls;
    let is_anybody_known = authorities.is_some();
    let authorities = authorities.unwrap_or_default();
    for flaw in authorities
        .iter()
        .filter_map(|authority| authority_flaw(authority, now))
    {
        // Others of the list may still do.
        check.warn(CA, Wrong::new(flaw.to_string(), flaw.remedy()));
    }
    // If this node's client dials another node's server, that one's certificate counts.
    let dialled = match settings.nats.client.endpoint.clone() {
        Some(endpoint) if endpoint.is_in_process() || !is_loopback(&endpoint.host) => None,
        Some(endpoint) => Some(endpoint.host),
        None => Some(settings.nats.own_server().host),
    };
    let own = dialled.as_deref().map(unbracketed);
    let mut found = flaws(chain, authorities, Role::Client, now);
    if server.enable {
        let as_server = flaws(chain, authorities, Role::Server { host: own }, now);
        found.extend(
            as_server
                .into_iter()
                .filter(|flaw| !found.contains(flaw))
                .collect::<Vec<_>>(),
        );
    }
    for flaw in found {
        // Servers elsewhere may know other authorities, and whoever believes anybody needs none of this.
        let is_matter_of_dialling = matches!(flaw, Flaw::NameMissing { .. } | Flaw::NotForServers);
        let is_matter_of_chain = matches!(
            flaw,
            Flaw::UnknownIssuer { .. }
                | Flaw::OtherKey { .. }
                | Flaw::AuthorityOutOfTime { .. }
                | Flaw::NoAuthority { .. }
        );
        if !is_anybody_known && (is_matter_of_chain || matches!(flaw, Flaw::Refused(_))) {
            continue;
        }
        let is_harmless = flaw.is_warning()
            || is_matter_of_dialling && tls.skip_verify
            || is_matter_of_chain && !server.enable;
        let path = tls.certificate.as_deref().unwrap_or_else(|| Path::new(""));
        let message = match &flaw {
            Flaw::NameMissing { host, .. } => {
                format!("{}: {flaw}, and {ENDPOINT} dials `{host}`", path.display())
            }
            flaw => format!("{}: {flaw}", path.display()),
        };
        let wrong = Wrong::new(message, flaw.remedy());
        if is_harmless {
            check.warn(CERT, wrong);
        } else {
            check.error(CERT, wrong);
        }
    }
    if server.enable {
        peers(check, chain);
    }
}

/// What other servers verify when they dial this one. Which of the routes is this server nobody knows here.
fn peers(check: &mut Check<'_>, chain: &[Certificate]) {
    let cluster = &check.settings.nats.server.cluster;
    let Some(own) = chain.first() else { return };
    let hosts: Vec<&str> = cluster
        .routes
        .iter()
        .map(|route| unbracketed(&route.host))
        .collect();
    if !hosts.is_empty() && !hosts.iter().any(|host| own.covers(host)) {
        let wrong = Wrong::new(
            format!(
                "names none of the hosts that the routes dial ({}), only {}: other servers will refuse this one",
                hosts.join(", "),
                own.names().join(", ")
            ),
            "make a certificate that names this node as the routes do",
        );
        check.warn(CERT, wrong);
    }
    let advertised = cluster
        .advertise
        .as_deref()
        .and_then(|address| address.rsplit_once(':'));
    if let Some((host, _)) = advertised.map(|(host, port)| (unbracketed(host), port))
        && !own.covers(host)
    {
        let wrong = Wrong::new(
            format!(
                "`{host}` is not named by the certificate: servers that learn of this one will refuse it"
            ),
            "advertise a name that the certificate has, or make one that names this, too",
        );
        check.warn(ADVERTISE, wrong);
    }
}

#[cfg(unix)]
fn key_mode(check: &mut Check<'_>, key: &Path, metadata: &Metadata) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let wrong = Wrong::new(
            format!(
                "{} can be read or changed by others (mode {mode:04o})",
                key.display()
            ),
            format!("chmod 600 {}", key.display()),
        );
        check.warn(KEY, wrong);
    }
}

#[cfg(not(unix))]
fn key_mode(_check: &mut Check<'_>, _key: &Path, _metadata: &Metadata) {}

/// What the server finds about files, under the names that they have here.
fn of_file(problem: &TlsProblem) -> (&'static str, Wrong) {
    let option = |name: &str| match name {
        "ca_file" => CA,
        "key_file" => KEY,
        _ => CERT,
    };
    let kind = |name: &str| match name {
        "ca_file" => "certificate authority file",
        "key_file" => "private key file",
        _ => "tls certificate file",
    };
    match problem {
        TlsProblem::Unreadable {
            option: name,
            path,
            kind: error,
        } => (
            option(name),
            Wrong::new(
                match error {
                    std::io::ErrorKind::NotFound => format!(
                        "failed to lookup {} {}: there is no such file",
                        kind(name),
                        path.display()
                    ),
                    error => format!(
                        "failed to lookup {} {}: {error}",
                        kind(name),
                        path.display()
                    ),
                },
                match error {
                    std::io::ErrorKind::NotFound => "check the path",
                    std::io::ErrorKind::PermissionDenied => "let the user that runs this read it",
                    _ => "name a file that can be read",
                },
            ),
        ),
        TlsProblem::NoCertificateInside {
            option: name,
            path,
            holds_key,
        } => (
            option(name),
            Wrong::new(
                format!("{}: no certificate inside", path.display()),
                if *holds_key {
                    "it holds a private key: name the file with the certificate"
                } else {
                    "name a PEM file, which begins with `-----BEGIN CERTIFICATE-----`"
                },
            ),
        ),
        TlsProblem::Damaged {
            option: name,
            path,
            number,
        } => (
            option(name),
            Wrong::new(
                format!("{}: number {number} in it is damaged", path.display()),
                "copy the file again",
            ),
        ),
        TlsProblem::NoKeyInside {
            path,
            holds_certificate,
        } => (
            KEY,
            Wrong::new(
                format!("{}: no private key inside", path.display()),
                if *holds_certificate {
                    "it holds a certificate: are tlsCert and tlsKey swapped?"
                } else {
                    "name a PEM file with a key: PKCS#8, PKCS#1 (RSA) or SEC1 (EC)"
                },
            ),
        ),
        TlsProblem::EncryptedKey(path) => (
            KEY,
            Wrong::new(
                format!("{}: the private key is encrypted", path.display()),
                format!(
                    "decrypt it: openssl pkey -in {} -out plain.key",
                    path.display()
                ),
            ),
        ),
        TlsProblem::UnusableKey(path) => (
            KEY,
            Wrong::new(
                format!("{}: this kind of key cannot be used", path.display()),
                "RSA of 2048 to 8192 bits, EC P-256 or P-384, and Ed25519 can",
            ),
        ),
        TlsProblem::KeyMismatch {
            cert_file,
            key_file,
        } => (
            KEY,
            Wrong::new(
                format!(
                    "{} is not the key of {}",
                    key_file.display(),
                    cert_file.display()
                ),
                "name the two that were made together; in a chain the node's own certificate comes first",
            ),
        ),
        TlsProblem::NoAuthority { path, number } => (
            CA,
            Wrong::new(
                format!(
                    "{}: certificate {number} cannot serve as an authority",
                    path.display()
                ),
                "name the authority's certificate, not one that it has given",
            ),
        ),
        other => (
            CERT,
            Wrong::new(other.to_string(), "correct the files of eventBus.nats.tls"),
        ),
    }
}
