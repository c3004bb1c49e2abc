//! The one table of options. What is read from a file, the environment and flags, what `--help` and `--explain` show
//! and what the documentation lists all come from its rows.
//!
//! A row says how an option is called and where its value is kept; what kinds of values there are, and what they may
//! be, is `value`'s business.

use std::path::PathBuf;
use std::time::Duration;

use super::{Endpoint, Settings, TransportKind};

/// One option.
#[derive(Debug)]
pub(super) struct Row {
    /// From the top of the document.
    pub(super) path: &'static str,
    /// Another path for the same option.
    pub(super) also: Option<&'static str>,
    /// Without the dashes.
    pub(super) flag: &'static str,
    /// Without the prefix and its underscore.
    pub(super) variable: &'static str,
    pub(super) slot: Slot,
    /// In words, where the default is not the same everywhere.
    pub(super) default: Option<&'static str>,
    /// One sentence.
    pub(super) help: &'static str,
}

/// What kind of value an option has, and where it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    Transport(fn(&mut Settings) -> &mut TransportKind),
    Switch(fn(&mut Settings) -> &mut bool),
    Name(fn(&mut Settings) -> &mut String),
    Subject(fn(&mut Settings) -> &mut String),
    Host(fn(&mut Settings) -> &mut String),
    Port(fn(&mut Settings) -> &mut u16),
    Endpoint(fn(&mut Settings) -> &mut Option<Endpoint>),
    HostPort(fn(&mut Settings) -> &mut Option<String>),
    Routes(fn(&mut Settings) -> &mut Vec<Endpoint>),
    File(fn(&mut Settings) -> &mut Option<PathBuf>),
    Files(fn(&mut Settings) -> &mut Vec<PathBuf>),
    Count(fn(&mut Settings) -> &mut u64),
    Duration(fn(&mut Settings) -> &mut Duration),
}

impl Row {
    const fn new(
        path: &'static str,
        [flag, variable]: [&'static str; 2],
        slot: Slot,
        help: &'static str,
    ) -> Self {
        Self {
            path,
            also: None,
            flag,
            variable,
            slot,
            default: None,
            help,
        }
    }

    const fn default(self, words: &'static str) -> Self {
        Self {
            default: Some(words),
            ..self
        }
    }

    const fn also(self, path: &'static str) -> Self {
        Self {
            also: Some(path),
            ..self
        }
    }

    /// Both paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = &'static str> {
        [self.path].into_iter().chain(self.also)
    }
}

/// The row of an option that the code itself names.
pub(super) fn index(path: &str) -> usize {
    let found = ROWS.iter().position(|row| row.path == path);
    found.expect("the code names only options of the table")
}

/// In the order in which they are explained and documented.
pub(super) static ROWS: &[Row] = &[
    Row::new(
        "eventBus.type",
        ["event-bus-type", "EVENT_BUS_TYPE"],
        Slot::Transport(|settings| &mut settings.transport),
        "What carries the events: `local` stays inside the process, `nats` reaches all nodes.",
    ),
    Row::new(
        "eventBus.nats.client.name",
        ["nats-client-name", "NATS_CLIENT_NAME"],
        Slot::Name(|settings| &mut settings.nats.client.name),
        "Name of this node as a client, unique among them: the source of its events.",
    )
    .default(HOST_NAME),
    Row::new(
        "eventBus.nats.client.endpoint",
        ["nats-client-endpoint", "NATS_CLIENT_ENDPOINT"],
        Slot::Endpoint(|settings| &mut settings.nats.client.endpoint),
        "The server to connect to, as a rule the one on this host; `inproc:` is the embedded one, without a socket.",
    )
    .default("`nats://localhost:4222`, or wherever the embedded server listens"),
    Row::new(
        "eventBus.nats.client.subject",
        ["nats-client-subject", "NATS_CLIENT_SUBJECT"],
        Slot::Subject(|settings| &mut settings.nats.client.subject),
        "The subject of all events, literal and the same on all nodes.",
    ),
    Row::new(
        "eventBus.nats.server.enable",
        ["nats-server-enable", "NATS_SERVER_ENABLE"],
        Slot::Switch(|settings| &mut settings.nats.server.enable),
        "Whether this process runs a NATS server.",
    ),
    Row::new(
        "eventBus.nats.server.name",
        ["nats-server-name", "NATS_SERVER_NAME"],
        Slot::Name(|settings| &mut settings.nats.server.name),
        "Name of the embedded server, unique among the servers.",
    )
    .default(HOST_NAME),
    Row::new(
        "eventBus.nats.server.client.host",
        ["nats-server-client-host", "NATS_SERVER_CLIENT_HOST"],
        Slot::Host(|settings| &mut settings.nats.server.client.host),
        "Where clients connect: `localhost` for this node's own alone, `0.0.0.0` or an address for others, too.",
    ),
    Row::new(
        "eventBus.nats.server.client.port",
        ["nats-server-client-port", "NATS_SERVER_CLIENT_PORT"],
        Slot::Port(|settings| &mut settings.nats.server.client.port),
        "The port for clients.",
    ),
    Row::new(
        "eventBus.nats.server.http.host",
        ["nats-server-http-host", "NATS_SERVER_HTTP_HOST"],
        Slot::Host(|settings| &mut settings.nats.server.http.host),
        "Where the monitoring pages are; leave it at `localhost` if the tools run on this host.",
    ),
    Row::new(
        "eventBus.nats.server.http.port",
        ["nats-server-http-port", "NATS_SERVER_HTTP_PORT"],
        Slot::Port(|settings| &mut settings.nats.server.http.port),
        "The port of the monitoring pages: HTTP, and HTTPS with TLS.",
    ),
    Row::new(
        "eventBus.nats.server.cluster.name",
        ["nats-server-cluster-name", "NATS_SERVER_CLUSTER_NAME"],
        Slot::Name(|settings| &mut settings.nats.server.cluster.name),
        "Name of the cluster, the same on all servers.",
    ),
    Row::new(
        "eventBus.nats.server.cluster.host",
        ["nats-server-cluster-host", "NATS_SERVER_CLUSTER_HOST"],
        Slot::Host(|settings| &mut settings.nats.server.cluster.listen.host),
        "Where other servers connect: with more than one server `0.0.0.0`, or an address they reach.",
    ),
    Row::new(
        "eventBus.nats.server.cluster.port",
        ["nats-server-cluster-port", "NATS_SERVER_CLUSTER_PORT"],
        Slot::Port(|settings| &mut settings.nats.server.cluster.listen.port),
        "The port for other servers.",
    ),
    Row::new(
        "eventBus.nats.server.cluster.advertise",
        [
            "nats-server-cluster-advertise",
            "NATS_SERVER_CLUSTER_ADVERTISE",
        ],
        Slot::HostPort(|settings| &mut settings.nats.server.cluster.advertise),
        "How servers that learn of this one from another reach it, if that differs from what it listens on.",
    ),
    Row::new(
        "eventBus.nats.server.cluster.routes",
        ["nats-server-cluster-routes", "NATS_SERVER_CLUSTER_ROUTES"],
        Slot::Routes(|settings| &mut settings.nats.server.cluster.routes),
        "All servers of the cluster, the same list on each, its own address included.",
    ),
    Row::new(
        "eventBus.nats.tls.enableTLS",
        ["nats-enable-tls", "NATS_ENABLE_TLS"],
        Slot::Switch(|settings| &mut settings.nats.tls.enable),
        "Whether clients, routes and monitoring pages use TLS, mutual where servers are.",
    )
    .also("eventBus.nats.enableTLS"),
    Row::new(
        "eventBus.nats.tls.tlsCert",
        ["nats-tls-cert", "NATS_TLS_CERT"],
        Slot::File(|settings| &mut settings.nats.tls.certificate),
        "This node's certificate, with the chain to its authority if that is not direct; PEM.",
    )
    .default("required with TLS")
    .also("eventBus.nats.tlsCert"),
    Row::new(
        "eventBus.nats.tls.tlsKey",
        ["nats-tls-key", "NATS_TLS_KEY"],
        Slot::File(|settings| &mut settings.nats.tls.key),
        "The certificate's private key; PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.",
    )
    .default("required with TLS")
    .also("eventBus.nats.tlsKey"),
    Row::new(
        "eventBus.nats.tls.tlsCA",
        ["nats-tls-ca", "NATS_TLS_CA"],
        Slot::Files(|settings| &mut settings.nats.tls.authorities),
        "The authorities that all nodes' certificates come from; PEM.",
    )
    .default("required with TLS")
    .also("eventBus.nats.tlsCA"),
    Row::new(
        "eventBus.nats.tls.tlsSkipVerify",
        ["nats-tls-skip-verify", "NATS_TLS_SKIP_VERIFY"],
        Slot::Switch(|settings| &mut settings.nats.tls.skip_verify),
        "For tests: when connecting to others, believe any certificate. Whoever connects must show a good one all \
         the same.",
    )
    .also("eventBus.nats.tlsSkipVerify"),
    Row::new(
        "eventBus.health.requiredHosts",
        [
            "event-bus-health-required-hosts",
            "EVENT_BUS_HEALTH_REQUIRED_HOSTS",
        ],
        Slot::Count(|settings| &mut settings.health.required_hosts),
        "How many hosts, this one included, must answer the health event for the bus to be healthy.",
    ),
    Row::new(
        "eventBus.health.interval",
        ["event-bus-health-interval", "EVENT_BUS_HEALTH_INTERVAL"],
        Slot::Duration(|settings| &mut settings.health.interval),
        "How often the health event is sent.",
    ),
];

const HOST_NAME: &str = "this host's name";

#[cfg(test)]
mod tests {
    use super::*;

    /// Words begin at capitals; a run of them stays together.
    fn words(key: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut before_is_lower = false;
        for letter in key.chars() {
            if letter.is_uppercase() && before_is_lower {
                words.push(String::new());
            }
            before_is_lower = letter.is_lowercase();
            let word = words.last_mut().expect("never empty");
            word.extend(letter.to_lowercase());
        }
        words
    }

    #[test]
    fn names_follow_from_paths() {
        for row in ROWS {
            // The published names of TLS options are those of the keys without the level `tls`, and all options of
            // `nats` are without `eventBus`.
            let path = row.also.unwrap_or(row.path);
            let path = path.replacen("eventBus.nats.", "nats.", 1);
            let name: Vec<String> = path.split('.').flat_map(words).collect();
            assert_eq!(row.flag, name.join("-"), "{}", row.path);
            assert_eq!(row.variable, name.join("_").to_uppercase(), "{}", row.path);
            assert!(row.help.ends_with('.'), "{}", row.path);
        }
    }

    #[test]
    fn nothing_is_named_twice() {
        let mut names: Vec<String> = ROWS
            .iter()
            .flat_map(|row| row.paths().chain([row.flag, row.variable]))
            .map(str::to_lowercase)
            .collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
