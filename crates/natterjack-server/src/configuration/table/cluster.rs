//! The block `cluster { … }` and its flags.

use std::time::Duration;

use natterjack_conf::Data;
use natterjack_dns::looks_like_service;
use natterjack_engine::access::Permissions;

use crate::configuration::Configuration;
use crate::configuration::codec::{
    self, BIG_SIZE, COUNT_U32, DURATION, SECONDS, SWITCH, TEXT, TEXTS,
};
use crate::configuration::reader::{Advise, Reader};
use crate::configuration::route_url;
use crate::configuration::row::{Group, Row, Section, settled};
use crate::configuration::shape::{Block, Codec, Custom, Inline, field, plain, plain_or_default};
use crate::options::{Cluster, Compression, Endpoint, Options, RouteUrl};

use super::flag;
use super::permissions::PERMISSIONS;
use super::server::{ADVERTISE, Port, WRITE_TIMEOUT, address};
use super::tls::TLS;

pub(super) static ROWS: &[Row<Configuration>] = &[Row::new(
    "cluster",
    &Block::<Configuration, _> {
        field: field!(Configuration, options.cluster),
        section: &CLUSTER,
    },
    "The cluster this server is a member of.",
)
.restart()];

static CLUSTER: Section<Cluster> = Section {
    groups: &[Group {
        title: "",
        rows: CLUSTER_ROWS,
    }],
    settle: |cluster, reader| {
        if let Some(permissions) = &cluster.permissions
            && permissions.responses.is_some()
        {
            reader.error("permissions of a cluster do not support allow_responses");
        }
        // Peers always show certificates to each other (nats-server `parseCluster`).
        if let Some(tls) = &mut cluster.tls {
            tls.verify = true;
        }
        if reader.is_given("host") && !reader.is_given("port") && !reader.is_given("listen") {
            reader
                .note("cluster has a host but no port, so it listens nowhere")
                .help("add port: 6222");
        }
    },
};

static CLUSTER_ROWS: &[Row<Cluster>] = &[
    plain!(
        Cluster,
        "name",
        name,
        NAME,
        "Name of the cluster, without blanks, the same on all its servers; made up if \
         there is none.",
    )
    .flag(flag!(
        ["cluster_name"],
        "<name>",
        Cluster,
        Text,
        "Name of the cluster (default: made up)"
    )),
    Row::new(
        "listen",
        &Custom::<Cluster> {
            kind: "host:port or a port",
            read: |cluster: &mut Cluster, data, reader| {
                if let Some((host, port)) = address(data, reader) {
                    cluster.listen = port.or(None).map(|port| Endpoint {
                        host: host.unwrap_or_else(|| Options::default().host),
                        port,
                    });
                }
            },
            show: |cluster| super::monitoring::show(&cluster.listen),
            is_equal: |one, other| one.listen == other.listen,
            is_secret: false,
        },
        "Where to listen for routes.",
    )
    .restart(),
    Row::new(
        "port",
        &Custom::<Cluster>::shorthand("a port", |cluster: &mut Cluster, data, reader| {
            if let Some(port) = Port::read(data, reader) {
                let host = cluster.listen.take().map(|listen| listen.host);
                cluster.listen = port.or(None).map(|port| Endpoint {
                    host: host.unwrap_or_else(|| Options::default().host),
                    port,
                });
            }
        }),
        "Port to listen on for routes; -1 takes any free one.",
    )
    .sets(&["listen"])
    .restart(),
    Row::new(
        "host",
        &Custom::<Cluster>::shorthand(
            "a host or address",
            |cluster: &mut Cluster, data, reader| {
                if let Some(host) = codec::text(data, reader)
                    && let Some(listen) = &mut cluster.listen
                    && !host.is_empty()
                {
                    listen.host = host;
                }
            },
        ),
        "Host name or address to listen on for routes.",
    )
    .alias(&["net"])
    .restart(),
    Row::new("listen", &Custom::<Cluster>::shorthand("", read_url), "")
        .flag_only()
        .flag(flag!(
            ["cluster", "cluster_listen"],
            "<url>",
            Cluster,
            Text,
            "Listen for routes here, as nats://0.0.0.0:6222 or nats://user:password@host:port"
        )),
    plain!(
        Cluster,
        "routes",
        routes,
        ROUTES,
        "Servers of the cluster to connect to, as nats-route://user:password@host:port; each \
         address of a name is a server. srv+nats-route://_nats-route._tcp.example.net takes \
         servers and ports from SRV records. Names are asked for again as answers expire.",
    )
    .flag(flag!(
        ["routes"],
        "<url>,…",
        Cluster,
        Text,
        "Connect to these servers; needs --cluster or a cluster in the file"
    )),
    Row::new(
        "authorization",
        &Inline {
            section: &AUTHORIZATION,
        },
        "How peers must log in.",
    ),
    Row::new(
        "permissions",
        &Block::<Cluster, _> {
            field: field!(Cluster, permissions),
            section: &PERMISSIONS,
        },
        "Whose messages are asked for and given: subjects to import and to export.",
    ),
    Row::new(
        "tls",
        &Block::<Cluster, _> {
            field: field!(Cluster, tls),
            section: &TLS,
        },
        "TLS of routes; both sides show certificates.",
    ),
    plain!(
        Cluster,
        "cluster_advertise",
        advertise,
        ADVERTISE,
        "host:port that peers are told to connect to, where it differs from what is \
         listened on.",
    )
    .alias(&["advertise"])
    .flag(flag!(
        ["cluster_advertise"],
        "<host:port>",
        Cluster,
        Text,
        "Tell other servers to connect to this address"
    )),
    plain!(
        Cluster,
        "no_advertise",
        no_advertise,
        SWITCH,
        "Do not tell clients of the cluster's other servers.",
    )
    .flag(flag!(
        ["no_advertise"],
        "",
        Cluster,
        Switch,
        "Do not tell clients of the cluster's other servers"
    )),
    plain!(
        Cluster,
        "connect_retries",
        connect_retries,
        COUNT_U32,
        "Further attempts, a second apart, to reach a peer that was learnt of from another; then \
         it is tried more and more slowly for a day.",
    )
    .flag(flag!(
        ["connect_retries"],
        "<number>",
        Cluster,
        Number,
        "Further attempts to reach a server that was learnt of from another"
    )),
    plain!(
        Cluster,
        "connect_backoff",
        connect_backoff,
        SWITCH,
        "Double the pause between attempts, from one second to thirty.",
    ),
    plain!(
        Cluster,
        "pool_size",
        pool_size,
        POOL,
        "Connections to each peer; -1 for one without pooling.",
    ),
    plain!(
        Cluster,
        "accounts",
        accounts,
        TEXTS,
        "Accounts that get a connection of their own to each peer.",
    ),
    plain!(
        Cluster,
        "compression",
        compression,
        COMPRESSION,
        "Compression of routes: off, accept, s2_fast, s2_better, s2_best, s2_auto, or a \
         block with mode and \
         rtt_thresholds.",
    ),
    plain_or_default!(
        Cluster,
        "ping_interval",
        ping_interval,
        PING_INTERVAL,
        "How often a quiet peer is asked for a sign of life; at most 30s.",
    ),
    plain_or_default!(
        Cluster,
        "ping_max",
        ping_max,
        COUNT_U32,
        "Unanswered PINGs after which a peer counts as gone.",
    ),
    plain_or_default!(
        Cluster,
        "write_deadline",
        write_deadline,
        DURATION,
        "How long a peer's socket may take nothing.",
    ),
    plain!(
        Cluster,
        "write_timeout",
        write_timeout,
        WRITE_TIMEOUT,
        "What becomes of a route whose socket took nothing for write_deadline; by default \
         it is tried again.",
    ),
    plain_or_default!(
        Cluster,
        "max_interest",
        max_interest,
        BIG_SIZE,
        "Memory that what a peer's clients subscribe to may take for each connection with it; \
         a peer that announces more is disconnected.",
    )
    .ours(),
];

static AUTHORIZATION: Section<Cluster> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            plain!(
                Cluster,
                "user",
                user,
                TEXT,
                "User name that peers must give."
            )
            .alias(&["username"]),
            plain!(
                Cluster,
                "password",
                password,
                codec::SECRET,
                "Its password."
            )
            .alias(&["pass"]),
            plain!(
                Cluster,
                "timeout",
                auth_timeout,
                SECONDS,
                "How long a peer may take to log in; by default 2s, or a second longer \
                 than the handshake of TLS may take.",
            ),
            Row::new(
                "permissions",
                &Custom::<Cluster>::shorthand("a block", |cluster: &mut Cluster, data, reader| {
                    let Some(map) = crate::configuration::reader::map(data, reader) else {
                        return;
                    };
                    reader
                        .warning("permissions no longer belong in authorization of a cluster")
                        .help("move them to cluster { permissions { … } }");
                    let mut permissions = Permissions::default();
                    PERMISSIONS.read(&mut permissions, map, reader);
                    cluster.permissions = Some(permissions);
                }),
                "Former place of permissions.",
            )
            .alias(&["default_permissions", "default_permission"]),
        ],
    }],
    settle: settled,
};

static NAME: Codec<Option<String>> = Codec {
    kind: "a text without blanks",
    read: |data, reader| {
        codec::without_blanks(
            data,
            "the name of a cluster must not contain blanks",
            reader,
        )
    },
    show: TEXT.show,
    is_secret: false,
};

static POOL: Codec<Option<u16>> = Codec {
    kind: "a number, -1 for no pool",
    read: |data, reader| {
        let size: i64 = codec::number(data, i64::MIN..=i64::from(u16::MAX), reader)?;
        Some(match u16::try_from(size) {
            Ok(0) => Cluster::default().pool_size,
            Ok(size) => Some(size),
            Err(_) => None,
        })
    },
    show: |size| Some(size.map_or_else(|| "-1".to_owned(), |size| size.to_string())),
    is_secret: false,
};

/// Routes are asked at least this often (nats-server `routeMaxPingInterval`).
const PING_INTERVAL_MAX: Duration = Duration::from_secs(30);

static PING_INTERVAL: Codec<Duration> = Codec {
    kind: "a duration, at most 30s",
    read: |data, reader| {
        let interval = (DURATION.read)(data, reader)?;
        if interval > PING_INTERVAL_MAX {
            reader
                .warning("ping_interval of a cluster is at most 30s")
                .label("30s is used");
        }
        Some(interval.min(PING_INTERVAL_MAX))
    },
    show: DURATION.show,
    is_secret: false,
};

const MODES: &[(&str, Compression)] = &[
    ("off", Compression::Off),
    ("accept", Compression::Accept),
    ("s2_fast", Compression::S2Fast),
    ("s2_better", Compression::S2Better),
    ("s2_best", Compression::S2Best),
    ("s2_auto", Compression::S2Auto(Vec::new())),
];

/// Round-trip times above which `s2_auto` compresses fast, better and best (nats-server
/// `defaultCompressionS2AutoRTTThresholds`).
const THRESHOLDS: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
];

static COMPRESSION: Codec<Compression> = Codec {
    kind: "a mode, true or false, or a block",
    read: |data, reader| match data {
        Data::Bool(true) => Some(Compression::S2Fast),
        Data::Bool(false) => Some(Compression::Off),
        Data::Text(text) => mode(text, reader),
        Data::Map(_) => {
            let mut draft = CompressionDraft::default();
            let map = super::super::reader::map(data, reader)?;
            COMPRESSION_BLOCK.read(&mut draft, map, reader);
            Some(match draft.mode.unwrap_or_default() {
                Compression::S2Auto(_) if !draft.thresholds.is_empty() => {
                    Compression::S2Auto(draft.thresholds)
                }
                mode => mode,
            })
        }
        other => {
            reader.expected("a mode, true or false, or a block", other);
            None
        }
    },
    show: |compression| {
        Some(match compression {
            Compression::S2Auto(thresholds) if thresholds[..] != THRESHOLDS => {
                let thresholds: Vec<String> = thresholds
                    .iter()
                    .map(|threshold| codec::show_duration(*threshold))
                    .collect();
                format!(
                    "{{ mode: s2_auto, rtt_thresholds: [{}] }}",
                    thresholds.join(", ")
                )
            }
            Compression::S2Auto(_) => "s2_auto".to_owned(),
            other => MODES
                .iter()
                .find(|(_, mode)| mode == other)
                .map_or("accept", |(word, _)| word)
                .to_owned(),
        })
    },
    is_secret: false,
};

/// The mode by its name, or by one of the words for on and off (nats-server `validateAndNormalizeCompressionOption`).
fn mode(text: &str, reader: &mut Reader<'_>) -> Option<Compression> {
    let word = text.to_ascii_lowercase();
    let word = match word.as_str() {
        "on" | "enabled" | "true" => "s2_fast",
        "disabled" | "false" => "off",
        "auto" => "s2_auto",
        "fast" => "s2_fast",
        "better" => "s2_better",
        "best" => "s2_best",
        "" => "accept",
        word => word,
    };
    match MODES.iter().find(|(name, _)| *name == word) {
        Some((_, Compression::S2Auto(_))) => Some(Compression::S2Auto(THRESHOLDS.to_vec())),
        Some((_, mode)) => Some(mode.clone()),
        None => {
            let known: Vec<&str> = MODES.iter().map(|(word, _)| *word).collect();
            let nearest = natterjack_conf::nearest(word, known.iter().copied())
                .map(|word| format!("did you mean {word}?"));
            reader
                .error(format!("compression must be one of {}", known.join(", ")))
                .help = nearest;
            None
        }
    }
}

/// Compression while its block is read.
#[derive(Default)]
pub(crate) struct CompressionDraft {
    mode: Option<Compression>,
    thresholds: Vec<Duration>,
}

static COMPRESSION_BLOCK: Section<CompressionDraft> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            Row::new(
                "mode",
                &Custom::<CompressionDraft>::shorthand(
                    "a mode",
                    |draft: &mut CompressionDraft, data, reader| {
                        draft.mode = match codec::text(data, reader) {
                            Some(text) => mode(&text, reader),
                            None => None,
                        };
                    },
                ),
                "How to compress.",
            ),
            Row::new(
                "rtt_thresholds",
                &Custom::<CompressionDraft>::shorthand(
                    "a list of durations",
                    |draft: &mut CompressionDraft, data, reader| match data {
                        Data::List(values) => {
                            draft.thresholds = codec::each(values, reader, |data, reader| {
                                codec::duration(&codec::text(data, reader)?, reader)
                            });
                        }
                        other => {
                            reader.expected("a list of durations", other);
                        }
                    },
                ),
                "Round-trip times above which s2_auto compresses fast, better and best.",
            )
            .alias(&["thresholds", "rtts", "rtt"]),
        ],
    }],
    settle: |draft, reader| {
        // A zero leaves a level out; those at the end say nothing.
        while draft.thresholds.last().is_some_and(Duration::is_zero) {
            draft.thresholds.pop();
        }
        let times = draft.thresholds.iter().filter(|time| !time.is_zero());
        if !times.is_sorted() {
            reader.error("rtt_thresholds must be in ascending order");
        }
        if draft.thresholds.len() > 4 {
            reader.error("rtt_thresholds must be at most four");
        }
    },
};

static ROUTES: Codec<Vec<RouteUrl>> = Codec {
    kind: "a list of URLs",
    read: |data, reader| match data {
        Data::List(values) => {
            let mut routes: Vec<RouteUrl> = Vec::with_capacity(values.len());
            for value in values {
                // With what follows the scheme: before an @ there may be a password.
                if matches!(&value.data, Data::Text(url) if url.contains('@')) {
                    reader.secrets.push(value.span);
                }
                reader.entry(routes.len(), value, |reader| {
                    let Some(route) = route(&value.data, reader) else {
                        return;
                    };
                    if routes.contains(&route) {
                        reader
                            .warning(format!("route {route} is given twice"))
                            .label("counts once");
                    } else {
                        routes.push(route);
                    }
                });
            }
            Some(routes)
        }
        // The flag's list.
        Data::Text(text) if reader.span().is_none() => {
            let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
            Some(
                urls.filter_map(|url| route(&Data::Text(url.to_owned()), reader))
                    .collect(),
            )
        }
        other => {
            reader.expected("a list of URLs", other);
            None
        }
    },
    show: |routes| {
        let texts: Vec<String> = routes.iter().map(ToString::to_string).collect();
        codec::show_list(&texts)
    },
    is_secret: false,
};

fn route(data: &Data, reader: &mut Reader<'_>) -> Option<RouteUrl> {
    let text = codec::text(data, reader)?;
    match route_url::parse(&text) {
        Ok(url) => {
            if url.port.is_some() && looks_like_service(&url.host) {
                reader
                    .note("a route is to a server, but this is the name of a service")
                    .help("to take servers from SRV records, put srv+ before it and leave the port out");
            }
            Some(url)
        }
        Err(problem) => {
            reader
                .error(format!("a route must be a URL: {problem}"))
                .help(problem.remedy());
            None
        }
    }
}

/// What `--cluster` says: where to listen, and how peers log in.
fn read_url(cluster: &mut Cluster, data: &Data, reader: &mut Reader<'_>) {
    let Some(text) = codec::text(data, reader) else {
        return;
    };
    if text.is_empty() {
        cluster.listen = None;
        return;
    }
    match route_url::parse_listen(&text) {
        Ok(listen) => {
            cluster.listen = Some(listen.endpoint);
            // As with nats-server, what the file says about logging in does not count beside this.
            cluster.user = listen.user;
            cluster.password = listen.password;
        }
        Err(problem) => {
            reader
                .error(format!("not an address to listen on: {problem}"))
                .help("write nats://0.0.0.0:6222 or nats://user:password@host:6222");
        }
    }
}
