//! `natterjack choria request-cert`: a certificate from Puppet's authority for who has none. Connects to that authority
//! only, never to a broker.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use natterjack_choria::configuration::Role;
use natterjack_choria::enrolment::{
    Enrolment, EnrolmentOptions, Fingerprint, KnownBy, Step, fetch_revocations,
};
use natterjack_choria::identity::Identity;
use natterjack_choria::server::{AddressError, ServerAddress};
use natterjack_choria::ssl::SslFiles;

use super::start::{Shared, Started, calendar_now};
use crate::output::say;
use crate::signals::Stop;
use crate::value;

/// Where Puppet's authority listens, unless it is said otherwise.
const PORT_DEFAULT: u16 = 8140;

/// The authority is not asked more often: it has a whole fleet to serve.
const POLL_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// After an interrupt, as shells have it.
const INTERRUPTED: u8 = 130;

/// Request a certificate from Puppet's authority, and wait until it is signed
#[derive(clap::Args)]
#[command(
    after_help = "The key stays here. The request is shown with its fingerprint; on the authority somebody compares that \
    with the list and signs it:\n  \
    puppetserver ca list\n  puppetserver ca sign --certname rip.mcollective\n\n\
    It may be interrupted at any time: the next run goes on from there. A key that is there is used and never replaced.\n\n\
    The first time nobody vouches for the authority. To be sure, take the fingerprint from the authority itself, with \
    `openssl x509 -noout -fingerprint -sha256 -in ca_crt.pem` or `sha256sum ca_crt.pem`, and give it with \
    --ca-fingerprint.\n\n\
    Examples:\n  natterjack choria request-cert\n  \
    natterjack choria request-cert --ca puppet.example.net --certname rip.mcollective\n  \
    natterjack choria request-cert --ca-fingerprint 5F:0A:… --wait 1h\n  \
    natterjack choria request-cert --crl-only"
)]
pub(super) struct Arguments {
    /// Puppet's authority, host or host:port, instead of the one that settings and DNS name
    #[arg(long, value_name = "HOST")]
    ca: Option<String>,
    /// What the certificate is called, instead of MCOLLECTIVE_CERTNAME or USER.mcollective
    #[arg(long, value_name = "NAME")]
    certname: Option<String>,
    /// The SHA-256 fingerprint of an authority's certificate, or of the file with all of them; others are refused
    #[arg(long, value_name = "FINGERPRINT")]
    ca_fingerprint: Option<Fingerprint>,
    /// How long to wait for the signature, such as 30s, 4m or 0 for not at all: then the exit code is 1 unless it is there
    /// already
    #[arg(long, value_name = "DURATION", value_parser = value::duration, default_value = "240s")]
    wait: Duration,
    /// How often to ask for it, a second or more
    #[arg(long, value_name = "DURATION", value_parser = poll_interval, default_value = "10s")]
    poll: Duration,
    /// Request nothing: fetch the list of revoked certificates anew, from the authority that is known already, into the
    /// ssldir of the client's settings (for root Puppet's, if they name none); for a node with its own, add --config with
    /// the node's file
    #[arg(long, conflicts_with_all = ["ca_fingerprint", "wait", "poll"])]
    crl_only: bool,
}

pub(super) async fn run(shared: &Shared, arguments: Arguments) -> anyhow::Result<ExitCode> {
    if let Some(certname) = &arguments.certname {
        Identity::new(certname).context("--certname")?;
    }
    let Some(mut started) = shared.start(Role::Client)? else {
        return Ok(ExitCode::FAILURE);
    };
    if let Some(certname) = arguments.certname {
        started.configuration.certname = Some(certname);
    }
    if arguments.crl_only {
        return fetch(&started, arguments.ca.as_deref()).await;
    }
    let enrolment = Enrolment::prepare(&started.configuration, &started.surroundings)?;
    let mut stop = Stop::watch().context("cannot watch for signals")?;
    let options = EnrolmentOptions {
        ca_fingerprint: arguments.ca_fingerprint,
        poll_interval: arguments.poll,
        wait_max: arguments.wait,
    };
    let is_compared_by_hand = options.ca_fingerprint.is_none();
    let certname = &enrolment.files().certname;
    let mut report = |step| tell(&step);
    let requesting = async {
        let authorities = authorities(&started, arguments.ca.as_deref()).await?;
        say(format_args!(
            "Requesting a certificate for {certname} from {}",
            authorities[0]
        ));
        let now = calendar_now();
        enrolment
            .run(&authorities, &options, now, &mut report)
            .await?;
        anyhow::Ok(())
    };
    tokio::select! {
        result = requesting => result?,
        () = stop.signalled() => {
            say(format_args!(
                "Interrupted. What is done is kept; run the same command again to go on."
            ));
            let ca = &enrolment.files().ca;
            if is_compared_by_hand && ca.exists() {
                say(format_args!(
                    "The next run trusts the authorities in {}: if you have not compared them, remove that file.",
                    ca.display()
                ));
            }
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn fetch(started: &Started, named: Option<&str>) -> anyhow::Result<ExitCode> {
    let files = SslFiles::find(&started.configuration, &started.surroundings)?;
    let authorities = authorities(started, named).await?;
    let depth = started.configuration.certificate_revocation;
    let fetched = fetch_revocations(&files, depth, &authorities, calendar_now()).await?;
    say(format_args!(
        "Revocation list of {} in {}: {} revoked",
        fetched.address,
        fetched.path.display(),
        fetched.revoked
    ));
    Ok(ExitCode::SUCCESS)
}

/// Those to try, at least one.
async fn authorities(started: &Started, named: Option<&str>) -> anyhow::Result<Vec<ServerAddress>> {
    if let Some(named) = named {
        let port = started.configuration.puppet_ca.port;
        let address = address(named, port.unwrap_or(PORT_DEFAULT));
        let address = address.with_context(|| format!("--ca {named}"))?;
        return Ok(vec![address]);
    }
    Ok(started.finder().puppet_ca().await.servers)
}

fn poll_interval(text: &str) -> Result<Duration, String> {
    let interval = value::duration(text)?;
    if interval < POLL_INTERVAL_MIN {
        return Err("Puppet's authority is asked once a second at most".into());
    }
    Ok(interval)
}

fn address(named: &str, port: u16) -> Result<ServerAddress, AddressError> {
    match named.parse() {
        Err(AddressError::NoPort(_)) => format!("{named}:{port}").parse(),
        read => read,
    }
}

/// Says what has been done, on standard error: it is the course of things and no result.
fn tell(step: &Step) {
    match step {
        Step::Authorities {
            certificates,
            path,
            known_by,
        } => {
            say(format_args!("Authorities in {}:", path.display()));
            for authority in certificates {
                say(format_args!(
                    "  {} {}",
                    authority.fingerprint, authority.name
                ));
            }
            match known_by {
                KnownBy::Nothing => say(format_args!(
                    "  Nobody vouches for them yet: compare them with those on the authority, or use --ca-fingerprint."
                )),
                KnownBy::Fingerprint => say(format_args!("  They have the fingerprint given.")),
                KnownBy::Folder => say(format_args!(
                    "  Kept from an earlier run, or put there by somebody; if you have not compared them, remove {}",
                    path.display()
                )),
            }
        }
        Step::Key { path, is_new: true } => {
            say(format_args!("Made a private key in {}", path.display()));
        }
        Step::Key { path, .. } => {
            say(format_args!("Using the private key in {}", path.display()));
        }
        Step::Request { path, fingerprint } => {
            say(format_args!("Request in {}:", path.display()));
            say(format_args!("  {fingerprint}"));
        }
        Step::Submitted => say(format_args!("The authority has the request now.")),
        Step::AlreadySubmitted => say(format_args!("The authority has the request already.")),
        // Who does not wait hears at once that it is not signed.
        Step::Waiting { wait_max, .. } if wait_max.is_zero() => {}
        Step::Waiting { waited, wait_max } => say(format_args!(
            "Waiting for the signature, {} of {} s",
            waited.as_secs(),
            wait_max.as_secs()
        )),
        Step::Trouble { reason } => say(format_args!("The authority does not answer: {reason}")),
        Step::Revocations { path, revoked } => say(format_args!(
            "Revocation list in {}: {revoked} revoked",
            path.display()
        )),
        Step::NoRevocations { reason } => say(format_args!(
            "No revocation list was fetched, so it is not known who was revoked: {reason}"
        )),
        Step::Stored { path } => say(format_args!("Certificate in {}", path.display())),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use natterjack_choria::enrolment::{POLL_INTERVAL_DEFAULT, WAIT_MAX_DEFAULT};

    use super::*;

    #[test]
    fn authorities_are_named_with_a_port_or_without() {
        let read = |named| address(named, 8140).map(|address| address.to_string());
        assert_eq!(read("puppet").as_deref(), Ok("puppet:8140"));
        assert_eq!(
            read("puppet.example.net:99").as_deref(),
            Ok("puppet.example.net:99")
        );
        assert_eq!(read("[::1]").as_deref(), Ok("[::1]:8140"));
        assert!(read("a b").is_err() && read("").is_err() && read("puppet:x").is_err());
        assert!(matches!(
            read("https://puppet"),
            Err(AddressError::Scheme(_))
        ));
    }

    #[test]
    fn help_tells_the_defaults() {
        assert_eq!(value::duration("240s"), Ok(WAIT_MAX_DEFAULT));
        assert_eq!(poll_interval("10s"), Ok(POLL_INTERVAL_DEFAULT));
    }

    #[test]
    fn the_authority_is_not_asked_too_often() {
        assert_eq!(poll_interval("1s"), Ok(POLL_INTERVAL_MIN));
        assert!(poll_interval("999ms").is_err() && poll_interval("0").is_err());
    }
}
