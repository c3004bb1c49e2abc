//! What must fit together. Where a value alone is no good, nothing is said of what depends on it. The files of TLS are
//! `tls_files`' business.

use std::collections::BTreeSet;

use super::origin::{Origin, Origins};
use super::problem::{About, Findings, Wrong};
use super::table::{self, ROWS};
use super::tls_files;
use super::value::{Shown, show};
use super::{Listen, Nats, Settings, TransportKind, is_loopback, unbracketed};

pub(super) const TYPE: &str = "eventBus.type";
pub(super) const ENDPOINT: &str = "eventBus.nats.client.endpoint";
pub(super) const ENABLE: &str = "eventBus.nats.server.enable";
pub(super) const CLIENT: &str = "eventBus.nats.server.client.port";
pub(super) const HTTP: &str = "eventBus.nats.server.http.port";
pub(super) const CLUSTER: &str = "eventBus.nats.server.cluster.port";
pub(super) const CLUSTER_HOST: &str = "eventBus.nats.server.cluster.host";
pub(super) const ROUTES: &str = "eventBus.nats.server.cluster.routes";
pub(super) const ADVERTISE: &str = "eventBus.nats.server.cluster.advertise";
pub(super) const ENABLE_TLS: &str = "eventBus.nats.tls.enableTLS";
pub(super) const CERT: &str = "eventBus.nats.tls.tlsCert";
pub(super) const KEY: &str = "eventBus.nats.tls.tlsKey";
pub(super) const CA: &str = "eventBus.nats.tls.tlsCA";
pub(super) const SKIP_VERIFY: &str = "eventBus.nats.tls.tlsSkipVerify";

/// What was given, and could not be read. Options are named by their rows.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Options that may have been given: by a key that is nearly theirs, or in what is no YAML.
    pub(super) maybe_given: BTreeSet<usize>,
    /// Options whose values are no good.
    pub(super) unread: BTreeSet<usize>,
}

/// Settings, where each comes from, and what is found about them.
pub(super) struct Check<'a> {
    pub(super) settings: &'a Settings,
    origins: &'a Origins,
    gaps: &'a Gaps,
    findings: &'a mut Findings,
}

pub(super) fn check(settings: &Settings, origins: &Origins, gaps: &Gaps, findings: &mut Findings) {
    let mut check = Check {
        settings,
        origins,
        gaps,
        findings,
    };
    let is_said = *origins.at(table::index(TYPE)) != Origin::Default;
    let is_local = check.is_read(&[TYPE]) || is_said && check.has_values(&[TYPE]);
    match settings.transport {
        TransportKind::Local if is_local => check.local(),
        // Also where that was meant by a slip.
        _ => check.nats(),
    }
}

impl Check<'_> {
    /// Whether these options are what they were meant to be, given or not.
    fn is_read(&self, options: &[&str]) -> bool {
        let is_elsewhere = |option: &&str| self.gaps.maybe_given.contains(&table::index(option));
        !options.iter().any(is_elsewhere) && self.has_values(options)
    }

    /// Whether what was given for these options, if anything, is a value.
    fn has_values(&self, options: &[&str]) -> bool {
        let is_unread = |option: &&str| self.gaps.unread.contains(&table::index(option));
        !options.iter().any(is_unread)
    }

    /// Sections of `nats` may be there for later. Only what says that it is meant to run now is a slip.
    fn local(&mut self) {
        let Nats { server, tls, .. } = &self.settings.nats;
        for (is_on, option) in [(server.enable, ENABLE), (tls.enable, ENABLE_TLS)] {
            if is_on {
                let wrong = Wrong::new(
                    "has no effect: the type of the bus is `local`",
                    format!("set {TYPE} to `nats`"),
                );
                self.warn(option, wrong);
            }
        }
    }

    fn nats(&mut self) {
        let is_given = |index: usize| *self.origins.at(index) != Origin::Default;
        let may_be_given = |index| is_given(index) || self.gaps.maybe_given.contains(&index);
        let mut nats =
            (0..ROWS.len()).filter(|index| ROWS[*index].path.starts_with("eventBus.nats."));
        let is_meant = self.is_read(&[TYPE]) && is_given(table::index(TYPE));
        if is_meant && !nats.any(may_be_given) {
            let wrong = Wrong::new(
                "is `nats`, so the section `eventBus.nats` must be filled out, and it says nothing",
                format!("set at least {ENABLE} or {ENDPOINT}"),
            );
            self.error(TYPE, wrong);
        }
        self.endpoint();
        if self.settings.nats.server.enable {
            self.listeners();
            self.routes();
        }
        self.tls();
    }

    fn endpoint(&mut self) {
        let Nats { client, server, .. } = &self.settings.nats;
        let Some(endpoint) = &client.endpoint else {
            return;
        };
        if endpoint.is_in_process() {
            if !server.enable && self.is_read(&[ENABLE]) {
                let wrong = Wrong::new(
                    format!("`{endpoint}` is the embedded server, and none is enabled"),
                    format!("set {ENABLE} to true, or name a server"),
                );
                self.error(ENDPOINT, wrong);
            }
            return;
        }
        // Our own client is to use our own server, so an endpoint on this host with another port is a slip.
        let port = server.client.port;
        let is_elsewhere = port != 0 && is_loopback(&endpoint.host) && endpoint.port != port;
        if server.enable && is_elsewhere && self.is_read(&[CLIENT]) {
            let wrong = Wrong::new(
                format!(
                    "`{endpoint}` is on this host, but the embedded server listens on port {port}"
                ),
                "leave this option out to connect to that server",
            );
            self.warn(ENDPOINT, wrong);
        }
    }

    fn listeners(&mut self) {
        let server = &self.settings.nats.server;
        let listeners = [
            (CLIENT, &server.client),
            (HTTP, &server.http),
            (CLUSTER, &server.cluster.listen),
        ];
        for (index, (option, listen)) in listeners.iter().enumerate() {
            for (earlier, other) in &listeners[..index] {
                if !overlap(listen, other) || !self.is_read(&[option, earlier]) {
                    continue;
                }
                // What was written is changed sooner than what is the default.
                let is_default = *self.origins.at(table::index(option)) == Origin::Default;
                let (option, other) = if is_default {
                    (earlier, option)
                } else {
                    (option, earlier)
                };
                let wrong = Wrong::new(
                    format!("port {} is also that of {other}", listen.port),
                    "each listener needs its own: change one of the two",
                );
                self.error(option, wrong);
            }
        }
    }

    fn routes(&mut self) {
        let cluster = &self.settings.nats.server.cluster;
        let host = &cluster.listen.host;
        let is_elsewhere = cluster
            .routes
            .iter()
            .find(|route| !is_loopback(&route.host));
        let is_own_host = is_loopback(host) && self.is_read(&[CLUSTER_HOST]);
        if let Some(route) = is_elsewhere.filter(|_| is_own_host) {
            let wrong = Wrong::new(
                format!(
                    "is `{host}`, so only this host can connect, but routes name others, such as `{route}`"
                ),
                "set it to `0.0.0.0`, or to an address that the others reach",
            );
            self.warn_because(ROUTES, CLUSTER_HOST, wrong);
        }
    }

    fn tls(&mut self) {
        let tls = &self.settings.nats.tls;
        let is_given = [
            (tls.certificate.is_some(), CERT),
            (tls.key.is_some(), KEY),
            (!tls.authorities.is_empty(), CA),
        ];
        if !tls.enable {
            let given = is_given.into_iter().find(|(is_given, _)| *is_given);
            if let Some((_, option)) = given.filter(|_| self.is_read(&[ENABLE_TLS])) {
                let missing = is_given.into_iter().filter(|(is_given, _)| !is_given);
                let missing: Vec<_> = missing
                    .filter_map(|(_, option)| option.rsplit('.').next())
                    .collect();
                let then = if missing.is_empty() {
                    String::new()
                } else {
                    format!(", which needs {} as well", missing.join(" and "))
                };
                let wrong = Wrong::new(
                    "is given, but TLS is not enabled: all connections are in plain text",
                    format!("set {ENABLE_TLS} to true{then}, or leave the files out"),
                );
                self.warn(option, wrong);
            }
            return;
        }
        let [(certificate, _), (key, _), (authorities, _)] = is_given;
        // A key that is misspelt may be what is missing.
        let is_missing = |is_given: bool, option| !is_given && self.is_read(&[option]);
        let [no_certificate, no_key, no_authorities] = [
            is_missing(certificate, CERT),
            is_missing(key, KEY),
            is_missing(authorities, CA),
        ];
        let key_words = "name the file with the certificate's private key";
        let certificate_words = "name the file with this node's certificate";
        let required = "is required with TLS";
        if no_certificate {
            let (because, message, remedy) = if key {
                (
                    KEY,
                    "must be set when tlsKey is set",
                    certificate_words.into(),
                )
            } else {
                let or_make = format!("{certificate_words}, or make one: natterjack certs node");
                (ENABLE_TLS, required, or_make)
            };
            self.error_because(because, CERT, Wrong::new(message, remedy));
        }
        if no_key {
            let (because, message) = if certificate {
                (CERT, "must be set when tlsCert is set")
            } else {
                (ENABLE_TLS, required)
            };
            self.error_because(because, KEY, Wrong::new(message, key_words));
        }
        if no_authorities {
            let wrong = Wrong::new(
                "is required with TLS: everybody's certificate is verified with it",
                "name the file with the certificate of the authority that the nodes' certificates come from, which `natterjack \
                 certs ca` makes",
            );
            self.error_because(ENABLE_TLS, CA, wrong);
        }
        if tls.skip_verify {
            let wrong = Wrong::new(
                "is on: whoever answers is believed, whatever certificate it shows",
                "this is for tests only; set it to false",
            );
            self.warn(SKIP_VERIFY, wrong);
        }
        tls_files::check(self);
    }

    pub(super) fn error(&mut self, option: &str, wrong: Wrong) {
        self.error_because(option, option, wrong);
    }

    pub(super) fn warn(&mut self, option: &str, wrong: Wrong) {
        self.warn_because(option, option, wrong);
    }

    /// About an option that may not be given: then `because` is, and that is where to look.
    fn error_because(&mut self, because: &str, option: &str, wrong: Wrong) {
        self.report(because, option, wrong, Findings::error);
    }

    fn warn_because(&mut self, because: &str, option: &str, wrong: Wrong) {
        self.report(because, option, wrong, Findings::warn);
    }

    fn report(
        &mut self,
        because: &str,
        option: &str,
        wrong: Wrong,
        report: fn(&mut Findings, About<'_>, Wrong),
    ) {
        let index = table::index(option);
        let own = self.origins.at(index);
        let origin = if *own == Origin::Default {
            self.origins.at(table::index(because))
        } else {
            own
        };
        let value = match show(ROWS[index].slot, self.settings) {
            Shown::Nothing => None,
            Shown::One(value) => Some(value),
            Shown::Many(values) => Some(values.join(",")),
        };
        let about = About {
            origin,
            option,
            value: value.as_deref(),
        };
        report(self.findings, about, wrong);
    }
}

/// Whether two listeners would want the same address. Port 0 is any free one.
fn overlap(one: &Listen, other: &Listen) -> bool {
    let hosts = [&one.host, &other.host].map(|host| unbracketed(host));
    let is_any = |host: &str| matches!(host, "0.0.0.0" | "::");
    one.port == other.port
        && one.port != 0
        && (hosts[0].eq_ignore_ascii_case(hosts[1])
            || hosts.iter().any(|host| is_any(host))
            || hosts.iter().all(|host| is_loopback(host)))
}
