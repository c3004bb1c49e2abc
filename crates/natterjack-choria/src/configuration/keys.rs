//! The settings that there are: those that mean something here, and those of MCollective and its plugins that do not.

/// A setting that means something to this library.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

const fn key(name: &'static str, default: &'static str, help: &'static str) -> Key {
    Key {
        name,
        default,
        help,
    }
}

/// All of them, by theme.
pub const KEYS: &[Key] = &[
    key("connector", "nats", "must be nats"),
    key("securityprovider", "choria", "must be choria"),
    key(
        "identity",
        "the host name",
        "what this machine calls itself: letters, digits, `_`, `-`, `.`",
    ),
    key(
        "collectives",
        "mcollective",
        "the collectives this machine is in, with commas between them",
    ),
    key(
        "main_collective",
        "the first of collectives",
        "where requests go unless they say otherwise",
    ),
    key("ttl", "60", "seconds for which a request is good"),
    key(
        "direct_addressing",
        "true",
        "whether few nodes get a request each, and not all of them one that says who is meant",
    ),
    key(
        "direct_addressing_threshold",
        "10",
        "up to how many nodes are few",
    ),
    key(
        "discovery_timeout",
        "2",
        "seconds to wait for nodes that are meant",
    ),
    key(
        "publish_timeout",
        "2",
        "seconds in which a request must be sent",
    ),
    key(
        "connection_timeout",
        "none: for ever",
        "seconds to try to connect for the first time",
    ),
    key(
        "classesfile",
        "Puppet's classes.txt",
        "where Puppet wrote this node's classes",
    ),
    key("factsource", "yaml", "must be yaml"),
    key(
        "plugin.yaml",
        "none",
        "files with this node's facts, in YAML or JSON, with colons between them",
    ),
    key(
        "plugin.choria.middleware_hosts",
        "none: SRV records, then puppet:4222",
        "servers to connect to, host:port with commas between them",
    ),
    key(
        "plugin.choria.srv_domain",
        "Facter's networking.domain",
        "domain of SRV records; CHORIA_SRV_DOMAIN goes before it",
    ),
    key(
        "plugin.choria.use_srv",
        "true",
        "whether SRV records are asked for",
    ),
    key(
        "plugin.choria.use_srv_records",
        "true",
        "the former name of plugin.choria.use_srv",
    ),
    key(
        "plugin.choria.randomize_middleware_hosts",
        "true",
        "whether middleware_hosts are shuffled; SRV records keep their order",
    ),
    key(
        "plugin.nats.user",
        "none",
        "user for the servers; MCOLLECTIVE_NATS_USERNAME goes before it",
    ),
    key(
        "plugin.nats.pass",
        "none",
        "password for the servers; MCOLLECTIVE_NATS_PASSWORD goes before it",
    ),
    key(
        "plugin.nats.credentials",
        "none",
        "file of NATS credentials; MCOLLECTIVE_NATS_CREDENTIALS goes before it",
    ),
    key(
        "plugin.nats.ngs",
        "false",
        "must be false: servers of NGS are not supported",
    ),
    key(
        "plugin.choria.ssldir",
        "Puppet's",
        "folder of keys and certificates",
    ),
    key(
        "plugin.security.provider",
        "puppet",
        "puppet, or file: where keys and certificates are",
    ),
    key(
        "plugin.security.file.certificate",
        "none",
        "this machine's certificate, with the provider file",
    ),
    key(
        "plugin.security.file.key",
        "none",
        "this machine's key, with the provider file",
    ),
    key(
        "plugin.security.file.ca",
        "none",
        "the authorities, with the provider file",
    ),
    key(
        "plugin.security.file.crl",
        "none",
        "what they have revoked, with the provider file",
    ),
    key(
        "plugin.choria.security.certificate_revocation",
        "chain",
        "chain, leaf or false: whose revocation matters, where there is a list of it (crl.pem)",
    ),
    key(
        "plugin.choria.puppetca_host",
        "SRV records, then puppet",
        "host of Puppet's authority",
    ),
    key(
        "plugin.choria.puppetca_port",
        "8140",
        "port of Puppet's authority",
    ),
    key(
        "plugin.choria.puppetserver_host",
        "SRV records, then puppet",
        "host of Puppet's server",
    ),
    key(
        "plugin.choria.puppetserver_port",
        "8140",
        "port of Puppet's server",
    ),
    key(
        "plugin.choria.puppetdb_host",
        "SRV records, then puppet",
        "host of PuppetDB",
    ),
    key("plugin.choria.puppetdb_port", "8081", "port of PuppetDB"),
    key(
        "plugin.choria.discovery_host",
        "puppet",
        "host of the discovery proxy",
    ),
    key(
        "plugin.choria.discovery_port",
        "8085",
        "port of the discovery proxy",
    ),
    key(
        "plugin.choria.discovery_proxy",
        "false",
        "whether there is a discovery proxy",
    ),
    key(
        "plugin.choria.federation.collectives",
        "none",
        "federated collectives, with commas between them; CHORIA_FED_COLLECTIVE goes before it",
    ),
    key(
        "plugin.choria.federation_middleware_hosts",
        "none: SRV records",
        "servers of the federation, host:port with commas between them",
    ),
    key(
        "plugin.choria.federation.cluster",
        "mcollective",
        "the cluster that a federation broker serves",
    ),
    key(
        "plugin.choria.federation.instance",
        "made up",
        "this federation broker's name",
    ),
    key(
        "plugin.choria.security.certname_whitelist",
        r"/\.mcollective$/, /\.choria$/",
        "certificates that may ask, names or /patterns/ with commas between them",
    ),
    key(
        "plugin.choria.security.privileged_users",
        r"/\.privileged\.mcollective$/, /\.privileged\.choria$/",
        "certificates that may ask for others, names or /patterns/",
    ),
    key("plugin.choria.security.serializer", "json", "must be json"),
];

/// Settings of MCollective that a configuration may well have, and that nothing here goes by.
const OTHERS: &[&str] = &[
    "activate_agents",
    "color",
    "daemonize",
    "default_batch_size",
    "default_batch_sleep_time",
    "default_discovery_method",
    "default_discovery_options",
    "fact_cache_time",
    "helptemplatedir",
    "keeplogs",
    "libdir",
    "logfacility",
    "logger_type",
    "loglevel",
    "max_log_size",
    "registerinterval",
    "registration",
    "registration_collective",
    "registration_splay",
    "rpcauditprovider",
    "rpclimitmethod",
    "soft_shutdown",
    "soft_shutdown_timeout",
    "ssl_cipher",
    "threaded",
];

/// Settings of Choria's own that nothing here goes by; those that end in a dot stand for all below them.
const OTHERS_OF_CHORIA: &[&str] = &[
    "plugin.choria.adapter.",
    "plugin.choria.adapters",
    "plugin.choria.agent_provider.",
    "plugin.choria.broker_federation",
    "plugin.choria.broker_network",
    "plugin.choria.discovery.",
    "plugin.choria.executor.",
    "plugin.choria.legacy_lifecycle_format",
    "plugin.choria.machine.",
    "plugin.choria.network.",
    "plugin.choria.prometheus_textfile_directory",
    "plugin.choria.registration.",
    "plugin.choria.security.server.",
    "plugin.choria.server.",
    "plugin.choria.services.",
    "plugin.choria.stats_address",
    "plugin.choria.stats_port",
    "plugin.choria.status_file_path",
    "plugin.choria.status_update_interval",
    "plugin.choria.submission.",
    "plugin.choria.tasks.",
    "plugin.choria.tasks_cache",
    "plugin.security.certmanager.",
    "plugin.security.choria.",
    "plugin.security.cipher_suites",
    "plugin.security.ecc_curves",
    "plugin.security.issuer.",
    "plugin.security.pkcs11.",
    "plugin.security.support_legacy_certificates",
];

/// What holds instead of rules who may do what.
const ALL_MAY_DO_ALL: &str =
    "whoever plugin.choria.security.certname_whitelist lets ask may have every agent do everything";

/// Settings that would make things more secure or less, or that somebody has to know of if they do nothing; each with what
/// holds instead.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("rpcauthorization", ALL_MAY_DO_ALL),
    ("rpcauthprovider", ALL_MAY_DO_ALL),
    (
        "rpcaudit",
        "there is no audit log; with --log debug each request and who asks is logged",
    ),
    (
        "plugin.choria.require_client_filter",
        "requests without a filter are sent to all nodes",
    ),
    (
        "logfile",
        "the log goes to standard error, as much of it as --log says",
    ),
    (
        "plugin.security.client_anon_tls",
        "servers are always verified, and our certificate is always shown",
    ),
    (
        "plugin.security.server_anon_tls",
        "servers are always verified, and our certificate is always shown",
    ),
    (
        "plugin.choria.security.request_signer.",
        "requests are signed by our own key",
    ),
];

/// Settings that say whom to trust, and with which keys. Those that end in a dot stand for all below them.
const OF_TRUST: [&str; 5] = [
    "plugin.choria.puppetca_host",
    "plugin.choria.puppetca_port",
    "plugin.choria.security.",
    "plugin.choria.ssldir",
    "plugin.security.",
];

/// Whether the setting is one that only a main file may make, and none that lies in some working directory.
pub(super) fn is_of_trust(name: &str) -> bool {
    OF_TRUST.iter().any(|other| is_below(name, other))
}

/// The end of `plugin.AGENT.activate_agent`, which switches an agent off.
const ACTIVATION: &str = ".activate_agent";

/// Whether what a setting without effect wants is so anyway, so that nobody need be told.
pub(super) fn is_as_it_is(name: &str, value: &str) -> bool {
    let as_it_is = match name {
        "rpcauthorization" | "rpcaudit" | "plugin.choria.require_client_filter" => false,
        _ if name.ends_with(ACTIVATION) => true,
        _ => return false,
    };
    super::value::boolean(value) == Ok(as_it_is)
}

/// Beginnings of names below which this library knows every setting. What else is there is another plugin's, or a mistake.
const OWN: [&str; 4] = [
    "plugin.choria.",
    "plugin.nats.",
    "plugin.security.",
    "plugin.yaml",
];

/// What a name in a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A setting of ours.
    Used,
    /// Somebody else's.
    Unused,
    /// It does nothing, and this holds instead.
    WithoutEffect(&'static str),
    /// Perhaps a mistake: it looks like one of ours, but there is none of that name.
    Doubtful,
    /// There is no such setting.
    Unknown,
}

pub(super) fn known(name: &str) -> Known {
    if KEYS.iter().any(|key| key.name == name) {
        Known::Used
    } else if let Some((_, instead)) = WITHOUT_EFFECT
        .iter()
        .find(|(other, _)| is_below(name, other))
    {
        Known::WithoutEffect(instead)
    } else if name.starts_with("plugin.") && name.ends_with(ACTIVATION) {
        Known::WithoutEffect("all agents of the program are active")
    } else if OTHERS_OF_CHORIA.iter().any(|other| is_below(name, other)) {
        Known::Unused
    } else if OWN.iter().any(|beginning| name.starts_with(beginning)) {
        Known::Doubtful
    } else if name.starts_with("plugin.") || OTHERS.contains(&name) {
        Known::Unused
    } else {
        Known::Unknown
    }
}

fn is_below(name: &str, other: &str) -> bool {
    name == other || other.ends_with('.') && name.starts_with(other)
}

/// Whether the value is nobody's business, ours or that of another plugin.
pub(super) fn is_secret(name: &str) -> bool {
    name.to_ascii_lowercase().contains("pass")
}

/// The setting that was probably meant.
pub(super) fn similar(name: &str) -> Option<&'static str> {
    let ours = KEYS.iter().map(|key| key.name);
    let without_effect = WITHOUT_EFFECT.iter().map(|(name, _)| *name);
    ours.chain(OTHERS.iter().copied())
        .chain(without_effect)
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_or_not() {
        assert_eq!(known("identity"), Known::Used);
        assert_eq!(known("plugin.choria.srv_domain"), Known::Used);
        assert_eq!(known("loglevel"), Known::Unused);
        assert_eq!(known("plugin.puppet.splay"), Known::Unused);
        assert_eq!(known("plugin.choria.srv_domian"), Known::Doubtful);
        assert_eq!(known("plugin.choria.network.peers"), Known::Unused);
        assert_eq!(known("plugin.choria.adapters"), Known::Unused);
        assert_eq!(known("plugin.choria.adaptersx"), Known::Doubtful);
        assert!(matches!(
            known("plugin.choria.security.request_signer.url"),
            Known::WithoutEffect(_)
        ));
        assert_eq!(known("idenity"), Known::Unknown);
        assert_eq!(similar("idenity"), Some("identity"));
        assert_eq!(
            similar("plugin.choria.srv_domian"),
            Some("plugin.choria.srv_domain")
        );
        assert_eq!(similar("zzz"), None);
    }

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        names.extend(OTHERS);
        names.extend(WITHOUT_EFFECT.iter().map(|(name, _)| *name));
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
