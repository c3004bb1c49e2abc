//! `certs ca` and `certs node`: an authority, and certificates from it.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use natterjack_bus::certificates::{
    Certificate, Flaw, ReadError, Role, authority_flaw, date, flaws,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::files::{CERTIFICATE_MODE, File, KEY_MODE, refuse_existing, write};
use super::keys::{self, KeyKind};
use crate::output::say;

/// Clocks of nodes differ, and a certificate should be good at once everywhere.
const BACKDATED: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Every node is dialled at these by itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Make an authority: ca.crt, which all nodes get, and ca.key, which none of them needs
#[derive(clap::Args)]
pub(super) struct AuthorityArguments {
    /// Directory for the two files; it is made if it is not there
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    out: PathBuf,
    /// Name of the authority, in certificates
    #[arg(long, default_value = "natterjack CA")]
    name: String,
    /// How long it is valid: an authority is changed on all nodes at once, which nobody wants to do often
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// Kind of its key
    #[arg(long, value_enum, default_value_t = KeyKind::P256)]
    key: KeyKind,
}

/// Make a node's certificate and key, or those that several nodes share: nats.crt and nats.key
#[derive(clap::Args)]
pub(super) struct NodeArguments {
    /// Host name or address of a node, as routes and clients' endpoints name it; localhost, 127.0.0.1 and ::1 are added
    #[arg(long = "host", value_name = "HOST", required = true)]
    hosts: Vec<String>,
    /// Make a certificate for each host, named after it, instead of one for all
    #[arg(long, conflicts_with = "name")]
    each: bool,
    /// The authority's certificate
    #[arg(long, value_name = "FILE", default_value = "ca.crt")]
    ca: PathBuf,
    /// The authority's key; by default beside the certificate, with the ending .key
    #[arg(long, value_name = "FILE")]
    ca_key: Option<PathBuf>,
    /// Directory for the files; it is made if it is not there
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    out: PathBuf,
    /// What the files are called, without .crt and .key
    #[arg(long, default_value = "nats")]
    name: String,
    /// How long it is valid, but not longer than the authority
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// Kind of its key
    #[arg(long, value_enum, default_value_t = KeyKind::P256)]
    key: KeyKind,
}

pub(super) fn authority(arguments: &AuthorityArguments) -> anyhow::Result<ExitCode> {
    let paths = pair_paths(&arguments.out, "ca");
    refuse_existing(paths.iter().map(PathBuf::as_path))?;
    let now = super::calendar_now();
    let mut params = params(&arguments.name, now, lifetime(arguments.days));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = arguments.key.generate()?;
    let made = params
        .self_signed(&key)
        .context("cannot make the certificate")?;
    write(&arguments.out, &pair(paths.clone(), made.pem(), &key))?;
    say(format_args!(
        "{} is the authority's certificate, for all nodes, until {}.\n\
         {} is its key: keep it in a safe place, on no node.",
        paths[0].display(),
        date(now + lifetime(arguments.days)),
        paths[1].display()
    ));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn node(arguments: &NodeArguments) -> anyhow::Result<ExitCode> {
    let now = super::calendar_now();
    let authorities = match Certificate::read(&arguments.ca) {
        Ok(authorities) => authorities,
        Err(ReadError::Unreadable(error)) if error.kind() == ErrorKind::NotFound => bail!(
            "there is no authority's certificate {}; make one with `natterjack certs ca`, or name it with --ca",
            arguments.ca.display()
        ),
        Err(error) => {
            let place = format!("the authority's certificate {}", arguments.ca.display());
            return Err(anyhow::Error::new(error).context(place));
        }
    };
    if let Some(flaw) = authorities.iter().find_map(|one| authority_flaw(one, now)) {
        bail!("{}: {flaw}; {}", arguments.ca.display(), flaw.remedy());
    }
    let issuer = issuer(arguments)?;
    let hosts: Vec<String> = arguments.hosts.iter().map(|host| bare(host)).collect();
    let groups: Vec<(String, Vec<String>)> = if arguments.each {
        hosts
            .iter()
            .map(|host| (file_name(host), vec![host.clone()]))
            .collect()
    } else {
        vec![(arguments.name.clone(), hosts)]
    };
    let paths: Vec<[PathBuf; 2]> = groups
        .iter()
        .map(|(name, _)| pair_paths(&arguments.out, name))
        .collect();
    refuse_existing(paths.iter().flatten().map(PathBuf::as_path))?;

    let wanted = lifetime(arguments.days);
    let left = authorities
        .iter()
        .filter_map(|authority| authority.not_after.duration_since(now).ok())
        .min()
        .unwrap_or(wanted);
    let life = wanted.min(left);
    let mut files = Vec::new();
    for ((_, hosts), paths) in groups.iter().zip(&paths) {
        let key = arguments.key.generate()?;
        let pem = certificate(hosts, now, life, &key, &issuer)?;
        verify(&pem, &authorities, hosts, now)?;
        files.extend(pair(paths.clone(), pem, &key));
    }
    write(&arguments.out, &files)?;
    for ((_, hosts), [certificate, key]) in groups.iter().zip(&paths) {
        say(format_args!(
            "{} and {} are for {}, until {}.",
            certificate.display(),
            key.display(),
            names(hosts).join(", "),
            date(now + life)
        ));
    }
    if life < wanted {
        say(format_args!(
            "They end with the authority, before {} days.",
            arguments.days
        ));
    }
    say(format_args!(
        "Nodes need them and {}; the key must stay readable for the service's user alone.",
        arguments.ca.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn lifetime(days: u32) -> Duration {
    DAY.saturating_mul(days)
}

/// What both kinds have in common.
fn params(name: &str, now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + life).into();
    params
}

fn certificate(
    hosts: &[String],
    now: SystemTime,
    life: Duration,
    key: &KeyPair,
    issuer: &Issuer<'_, KeyPair>,
) -> anyhow::Result<String> {
    let mut params = params(&hosts[0], now, life);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A node is both at once: its server is dialled, and dials others.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    for host in names(hosts) {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(
                host.as_str()
                    .try_into()
                    .with_context(|| format!("{host:?} is not a host name"))?,
            ),
        });
    }
    let made = params
        .signed_by(key, issuer)
        .context("cannot make the certificate")?;
    Ok(made.pem())
}

/// Hosts and what every node is dialled at by itself, each once.
fn names(hosts: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for host in hosts.iter().map(String::as_str).chain(LOOPBACK) {
        if !names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            names.push(host.to_owned());
        }
    }
    names
}

/// Tries what was made as nodes will, before it is written: whether the key is the authority's shows here.
fn verify(
    pem: &str,
    authorities: &[Certificate],
    hosts: &[String],
    now: SystemTime,
) -> anyhow::Result<()> {
    let chain = Certificate::from_pem(pem.as_bytes())?;
    let roles = names(hosts);
    let roles = roles
        .iter()
        .map(|host| Role::Server { host: Some(host) })
        .chain([Role::Client]);
    for flaw in roles.flat_map(|role| flaws(&chain, authorities, role, now)) {
        match flaw {
            Flaw::OtherKey { .. } => bail!(
                "the key is not that of the authority's certificate; name the two that were made together with --ca and \
                 --ca-key"
            ),
            Flaw::NameMissing { host, .. } => bail!(
                "{host:?} is not a host name or address that can be dialled; write it without scheme and port, as in \
                 bindplane-0 or 10.0.0.1"
            ),
            flaw if flaw.is_warning() => {}
            flaw => bail!("what was made would be refused: {flaw}"),
        }
    }
    Ok(())
}

fn issuer(arguments: &NodeArguments) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let ca_key = match &arguments.ca_key {
        Some(path) => path.clone(),
        None => arguments.ca.with_extension("key"),
    };
    let text = std::fs::read_to_string(&ca_key)
        .with_context(|| format!("cannot read the authority's key {}", ca_key.display()))?;
    let Some(key) = keys::read(&text) else {
        let what = if text.contains("ENCRYPTED") {
            format!(
                "is encrypted; decrypt it: openssl pkey -in {} -out plain.key, and name that with --ca-key",
                ca_key.display()
            )
        } else {
            "is not a private key that can be used: EC P-256 or P-384, Ed25519 or RSA of 2048 bits or more, in PEM".into()
        };
        bail!("{} {what}", ca_key.display());
    };
    let certificate = std::fs::read_to_string(&arguments.ca)?;
    Issuer::from_ca_cert_pem(&certificate, key)
        .with_context(|| format!("the authority's certificate {}", arguments.ca.display()))
}

/// An address without the brackets that it has in URLs.
fn bare(host: &str) -> String {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(host).to_ascii_lowercase()
}

/// A host as the name of a file.
fn file_name(host: &str) -> String {
    host.replace(['/', ':', '*'], "_")
}

fn pair_paths(directory: &Path, name: &str) -> [PathBuf; 2] {
    ["crt", "key"].map(|ending| directory.join(format!("{name}.{ending}")))
}

fn pair([certificate, key]: [PathBuf; 2], pem: String, pair: &KeyPair) -> [File; 2] {
    [
        File {
            path: key,
            text: keys::pem(pair),
            mode: KEY_MODE,
        },
        File {
            path: certificate,
            text: pem,
            mode: CERTIFICATE_MODE,
        },
    ]
}
