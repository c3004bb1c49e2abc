//! What all subcommands of `natterjack choria` begin with: the log, the settings, whom to ask for names.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

use natterjack_choria::configuration::{Configuration, Problem, Role, Surroundings};
use natterjack_choria::finding::Finder;
use natterjack_choria::ssl::{Ssl, SslError};
use natterjack_cli::log::Log;
use natterjack_dns::Resolver;
use tokio::signal::unix::{SignalKind, signal};

use crate::log_level::LogLevel;
use crate::output::note;

/// Where DNS servers listen.
const DNS_PORT: u16 = 53;

/// What every subcommand takes.
#[derive(clap::Args)]
pub(super) struct Shared {
    /// The configuration file, instead of the first of the usual ones that there is
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask this DNS server for servers, and not those of the system; may be given several times
    #[arg(long = "dns-server", global = true, value_name = "ADDRESS", value_parser = dns_server)]
    dns_servers: Vec<SocketAddr>,
    /// What to log to standard error: problems, also the course of things, or also every decision, such as which servers
    /// are found and why
    #[arg(long, global = true, value_enum, default_value_t = LogLevel::Warn, value_name = "LEVEL")]
    log: LogLevel,
}

/// What a subcommand goes by.
pub(super) struct Started {
    pub(super) configuration: Configuration,
    pub(super) surroundings: Surroundings,
    /// Whom to ask for names.
    pub(super) resolver: Resolver,
    /// What is wrong with the settings, though they can be used. It has been said.
    pub(super) warnings: Vec<Problem>,
    /// Writes what is logged for as long as it lives.
    _log: Log,
}

impl Shared {
    /// Reads the settings of this role, and says all that is wrong with them. `None`: they cannot be used.
    ///
    /// # Errors
    /// If there can be no log.
    pub(super) fn start(&self, role: Role) -> anyhow::Result<Option<Started>> {
        let log = self.log.start()?;
        let surroundings = Surroundings::of_process();
        let loaded = match Configuration::load(role, self.config.as_deref(), &surroundings) {
            Ok(loaded) => loaded,
            Err(problems) => {
                say(&problems.0);
                return Ok(None);
            }
        };
        say(&loaded.warnings);
        let resolver = if self.dns_servers.is_empty() {
            Resolver::system()
        } else {
            Resolver::with_servers(self.dns_servers.clone())
        };
        Ok(Some(Started {
            configuration: loaded.configuration,
            surroundings,
            resolver,
            warnings: loaded.warnings,
            _log: log,
        }))
    }
}

impl Started {
    /// Finds servers.
    pub(super) fn finder(&self) -> Finder {
        Finder::new(
            &self.configuration,
            &self.surroundings,
            self.resolver.clone(),
        )
    }

    /// Our own keys and certificates, checked.
    ///
    /// # Errors
    /// What is wrong with them, and what to do.
    pub(super) fn ssl(&self) -> Result<Ssl, SslError> {
        Ssl::load(&self.configuration, &self.surroundings, calendar_now())
    }
}

/// From now on SIGHUP, by which others are told to read their settings anew, does not end the process.
///
/// # Errors
/// If the system does not let signals be watched.
pub(super) fn outlive_hangups() -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            tracing::warn!(
                "SIGHUP changes nothing: settings are read at the start; restart to have others"
            );
        }
    });
    Ok(())
}

fn say(problems: &[Problem]) {
    for problem in problems {
        note(format_args!("{problem}"));
    }
}

/// An address with a port, or without: then it is that of DNS.
fn dns_server(text: &str) -> Result<SocketAddr, &'static str> {
    let address = text.parse::<IpAddr>();
    address
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .or_else(|_| text.parse())
        .map_err(|_| "an address is needed, such as 10.0.0.2, 127.0.0.1:5353 or [2001:db8::1]:53")
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a certificate is valid is a matter of the calendar"
)]
pub(super) fn calendar_now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_dns_servers() {
        for (text, expected) in [
            ("10.0.0.2", "10.0.0.2:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(dns_server(text), Ok(expected.parse().unwrap()));
        }
        assert!(dns_server("localhost").is_err());
    }
}
