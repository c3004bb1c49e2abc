//! Where clients connect, what they may send, how long things take; and what follows from several options.

use natterjack_conf::Data;

use crate::configuration::Configuration;
use crate::configuration::codec::{
    self, BIG_SIZE, BOUND, COUNT, COUNT_U32, DURATION, SIZE, STRICT_DURATION, SWITCH, TEXT,
    TEXT_MAP, TEXTS, WORD,
};
use crate::configuration::host_port;
use crate::configuration::reader::{Advise, Reader};
use crate::configuration::row::Row;
use crate::configuration::shape::{Codec, Custom, plain, plain_or_default};
use crate::options::{Options, WriteTimeout};

use super::flag;

pub(super) static SERVER: &[Row<Configuration>] = &[
    Row::new(
        "listen",
        &Custom::<Configuration>::shorthand("host:port or a port", |target, data, reader| {
            if let Some((host, port)) = address(data, reader) {
                let default = Options::default();
                target.options.host = host.unwrap_or(default.host);
                target.options.port = port.or(default.port).unwrap_or(0);
            }
        }),
        "Where to listen for clients; sets host and port.",
    )
    .sets(&["host", "port"])
    .restart(),
    plain!(
        Configuration,
        "host",
        options.host,
        HOST,
        "Host name or address to listen on for clients.",
    )
    .alias(&["net"])
    .flag(flag!(
        ["a", "addr", "net"],
        "<host>",
        Server,
        Text,
        "Listen for clients on this host or address (default 0.0.0.0)"
    ))
    .restart(),
    plain!(
        Configuration,
        "port",
        options.port,
        PORT,
        "Port to listen on for clients; -1 takes any free one, 0 the default.",
    )
    .flag(flag!(
        ["p", "port"],
        "<port>",
        Server,
        Number,
        "Listen for clients on this port, -1 for any free one (default 4222)"
    ))
    .restart(),
    plain!(
        Configuration,
        "client_advertise",
        options.client_advertise,
        ADVERTISE,
        "host:port or host that clients are told to connect to, where it differs from \
         what is listened on.",
    )
    .flag(flag!(
        ["client_advertise"],
        "<host:port>",
        Cluster,
        Text,
        "Tell clients to connect to this address"
    )),
    plain!(
        Configuration,
        "server_name",
        options.server_name,
        SERVER_NAME,
        "Name of this server, without blanks; by default its id.",
    )
    .flag(flag!(
        ["n", "name", "server_name"],
        "<name>",
        Server,
        Text,
        "Name of this server, without spaces (default: its id)"
    ))
    .restart(),
    plain!(
        Configuration,
        "server_tags",
        options.server_tags,
        TAGS,
        "Labels, shown in monitoring and server events.",
    ),
    plain!(
        Configuration,
        "server_metadata",
        options.server_metadata,
        TEXT_MAP,
        "Keys and values, shown in monitoring and server events.",
    ),
    plain!(
        Configuration,
        "lame_duck_duration",
        options.lame_duck_duration,
        LAME_DUCK,
        "Over which time a server in lame duck mode closes its connections, grace period \
         included; at least 30s.",
    ),
    plain_or_default!(
        Configuration,
        "lame_duck_grace_period",
        options.lame_duck_grace_period,
        STRICT_DURATION,
        "How long a server in lame duck mode waits before it closes the first connection.",
    ),
];

/// nats-server cannot change the number of subscriptions, their tokens, and pending bytes while it runs; sessions here go
/// by new bounds at once.
pub(super) static LIMITS: &[Row<Configuration>] = &[
    plain!(
        Configuration,
        "max_connections",
        options.max_connections,
        BOUND,
        "Clients connected at one time; a reload that lowers it closes the surplus.",
    )
    .alias(&["max_conn"]),
    plain!(
        Configuration,
        "max_subscriptions",
        options.max_subscriptions,
        BOUND,
        "Subscriptions of one connection.",
    )
    .alias(&["max_subs"]),
    plain!(
        Configuration,
        "max_subscription_tokens",
        options.max_subscription_tokens,
        TOKENS,
        "Tokens in the subject of a subscription.",
    )
    .alias(&["max_sub_tokens"]),
    plain_or_default!(
        Configuration,
        "max_payload",
        options.max_payload,
        SIZE,
        "Bytes of a message, header included.",
    ),
    plain_or_default!(
        Configuration,
        "max_pending",
        options.max_pending,
        BIG_SIZE,
        "Bytes that may wait for one client before it is dropped as a slow consumer.",
    )
    .legacy(&["max_pending_size"]),
    plain_or_default!(
        Configuration,
        "max_control_line",
        options.max_control_line,
        SIZE,
        "Bytes of the arguments of one protocol operation.",
    ),
    plain_or_default!(
        Configuration,
        "max_closed_clients",
        options.max_closed_clients,
        COUNT,
        "Closed connections that monitoring remembers.",
    ),
];

pub(super) static CONNECTIONS: &[Row<Configuration>] = &[
    plain_or_default!(
        Configuration,
        "ping_interval",
        options.ping_interval,
        DURATION,
        "How often a quiet client is asked for a sign of life.",
    ),
    plain_or_default!(
        Configuration,
        "ping_max",
        options.ping_max,
        COUNT_U32,
        "Unanswered PINGs after which a client counts as gone.",
    ),
    plain_or_default!(
        Configuration,
        "write_deadline",
        options.write_deadline,
        DURATION,
        "How long a client's socket may take nothing before it is a slow consumer.",
    ),
    plain!(
        Configuration,
        "write_timeout",
        options.write_timeout,
        WRITE_TIMEOUT,
        "What becomes of a client whose socket took nothing for write_deadline; by \
         default it is closed.",
    ),
    plain!(
        Configuration,
        "no_fast_producer_stall",
        options.no_fast_producer_stall,
        SWITCH,
        "Drop messages for consumers that are behind instead of slowing their producers.",
    ),
    plain!(
        Configuration,
        "no_header_support",
        options.no_header_support,
        SWITCH,
        "Refuse messages with headers.",
    )
    .restart(),
    Row::new(
        "disable_sublist_cache",
        &Custom::<Configuration>::shorthand("true or false", |_, data, reader| {
            if codec::switch(data, reader) == Some(true) {
                reader
                    .note(
                        "disable_sublist_cache has no effect: matches are cached in \
                           bounded memory here",
                    )
                    .label("not needed");
            }
        }),
        "Accepted without effect: matches of subjects are cached in bounded memory.",
    )
    .alias(&["no_sublist_cache"]),
];

/// Port to listen on for clients.
static PORT: Codec<u16> = Codec {
    kind: "a port",
    read: |data, reader| {
        let port = Port::read(data, reader)?;
        Some(port.or(Options::default().port).unwrap_or(0))
    },
    show: |port| Some(show_port(*port)),
    is_secret: false,
};

static HOST: Codec<String> = Codec {
    kind: "a host or address",
    read: |data, reader| {
        let host = codec::text(data, reader)?;
        Some(if host.is_empty() {
            Options::default().host
        } else {
            host
        })
    },
    show: WORD.show,
    is_secret: false,
};

static SERVER_NAME: Codec<Option<String>> = Codec {
    kind: "a text without blanks",
    read: |data, reader| codec::without_blanks(data, "server_name must not contain blanks", reader),
    show: TEXT.show,
    is_secret: false,
};

/// In lower case, without blanks around them, each once, as nats-server keeps them.
static TAGS: Codec<Vec<String>> = Codec {
    kind: TEXTS.kind,
    read: |data, reader| {
        let mut tags: Vec<String> = Vec::new();
        for tag in codec::texts(data, reader)? {
            let tag = tag.trim().to_lowercase();
            if !tag.is_empty() && !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Some(tags)
    },
    show: TEXTS.show,
    is_secret: false,
};

static LAME_DUCK: Codec<std::time::Duration> = Codec {
    kind: "a duration, at least 30s",
    read: |data, reader| {
        let duration = (STRICT_DURATION.read)(data, reader)?;
        if duration < std::time::Duration::from_secs(30) {
            reader
                .error("lame_duck_duration must be at least 30s")
                .help("clients need the time to find another server one after the other");
            return None;
        }
        Some(duration)
    },
    show: STRICT_DURATION.show,
    is_secret: false,
};

static TOKENS: Codec<usize> = Codec {
    kind: "a number from 1 to 255",
    read: |data, reader| codec::number(data, 1..=255, reader),
    show: |tokens| (*tokens > 0).then(|| tokens.to_string()),
    is_secret: false,
};

const WRITE_TIMEOUTS: &[(&str, WriteTimeout)] = &[
    ("default", WriteTimeout::Default),
    ("close", WriteTimeout::Close),
    ("retry", WriteTimeout::Retry),
];

pub(super) static WRITE_TIMEOUT: Codec<WriteTimeout> = Codec {
    kind: "default, close or retry",
    read: |data, reader| codec::choice(data, WRITE_TIMEOUTS, reader),
    show: |policy| codec::word_of(policy, WRITE_TIMEOUTS),
    is_secret: false,
};

/// `host:port`, or a host alone.
pub(super) static ADVERTISE: Codec<Option<String>> = Codec {
    kind: "host:port or a host",
    read: |data, reader| {
        let text = (TEXT.read)(data, reader)?;
        if let Some(text) = &text
            && split_host_port(text).is_err_and(|problem| problem != AddressProblem::NoPort)
        {
            let name = reader.name().to_owned();
            reader.error(format!("{name} must be host:port or a host"));
            return None;
        }
        Some(text)
    },
    show: TEXT.show,
    is_secret: false,
};

/// A port as files and flags say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// 0: whatever is usual for what the port is for.
    Usual,
    /// -1: any free one.
    Any,
    Number(u16),
}

impl Port {
    pub(super) fn read(data: &Data, reader: &mut Reader<'_>) -> Option<Self> {
        let number: i64 = codec::number(data, -1..=i64::from(u16::MAX), reader)?;
        Some(Self::from_number(number))
    }

    fn from_number(number: i64) -> Self {
        match u16::try_from(number) {
            Err(_) => Self::Any,
            Ok(0) => Self::Usual,
            Ok(port) => Self::Number(port),
        }
    }

    /// The port to bind, where 0 means any; `None` if it is the usual one and there is none.
    pub(super) fn or(self, usual: impl Into<Option<u16>>) -> Option<u16> {
        match self {
            Self::Usual => usual.into(),
            Self::Any => Some(0),
            Self::Number(port) => Some(port),
        }
    }
}

/// The port as files say it.
pub(super) fn show_port(port: u16) -> String {
    if port == 0 {
        "-1".to_owned()
    } else {
        port.to_string()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressProblem {
    #[error("there is no port: write it as host:4222")]
    NoPort,
    #[error("an IPv6 address stands in brackets: [::1]:4222")]
    Brackets,
    #[error("the port must be a number up to 65535, or -1 for any")]
    BadPort,
}

/// `host:port`, `:port` or `[address]:port`.
pub(super) fn split_host_port(text: &str) -> Result<(&str, Port), AddressProblem> {
    let (host, port) = host_port::split(text).ok_or(AddressProblem::Brackets)?;
    let port = port.ok_or(AddressProblem::NoPort)?;
    let number: i64 = port.parse().map_err(|_| AddressProblem::BadPort)?;
    if !(-1..=i64::from(u16::MAX)).contains(&number) {
        return Err(AddressProblem::BadPort);
    }
    Ok((host, Port::from_number(number)))
}

/// An address to listen on: `host:port`, `:port` or a port alone. No host: all of them.
pub(super) fn address(data: &Data, reader: &mut Reader<'_>) -> Option<(Option<String>, Port)> {
    match data {
        Data::Integer(_) => Some((None, Port::read(data, reader)?)),
        Data::Text(text) => match split_host_port(text) {
            Ok((host, port)) => Some((Some(host.to_owned()).filter(|host| !host.is_empty()), port)),
            Err(problem) => {
                let name = reader.name().to_owned();
                reader
                    .error(format!(
                        "{name} must be host:port or a port, which {text:?} is not"
                    ))
                    .help(problem.to_string());
                None
            }
        },
        other => {
            reader.expected("host:port or a port", other);
            None
        }
    }
}

/// What follows from several options, once all are read: defaults that depend on others.
pub(crate) fn settle(configuration: &mut Configuration, reader: &Reader<'_>) {
    let Configuration { options, .. } = configuration;
    let access = &mut options.authorization;
    access.verify_and_map = options.tls.as_ref().is_some_and(|tls| tls.verify_and_map);
    access.open_besides_system = !reader.is_given("authorization");
    let second = std::time::Duration::from_secs(1);
    if !reader.is_given("authorization.timeout") || options.auth_timeout.is_zero() {
        options.auth_timeout = match &options.tls {
            Some(tls) => tls.timeout + second,
            None => Options::default().auth_timeout,
        };
    }
    if let Some(cluster) = &mut options.cluster
        && (!reader.is_given("cluster.authorization.timeout") || cluster.auth_timeout.is_zero())
    {
        cluster.auth_timeout = match &cluster.tls {
            Some(tls) => tls.timeout + second,
            None => crate::options::Cluster::default().auth_timeout,
        };
    }
    // Monitoring listens where clients do, unless one of its listeners says otherwise (nats-server has one host for
    // both).
    let monitoring = &mut options.monitoring;
    let said = [&monitoring.http, &monitoring.https]
        .into_iter()
        .flatten()
        .map(|endpoint| endpoint.host.clone())
        .find(|host| !host.is_empty());
    let host = said.unwrap_or_else(|| options.host.clone());
    for endpoint in [&mut monitoring.http, &mut monitoring.https]
        .into_iter()
        .flatten()
    {
        if endpoint.host.is_empty() {
            endpoint.host.clone_from(&host);
        }
    }
}
