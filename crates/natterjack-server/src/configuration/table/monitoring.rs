//! Where the monitoring pages are served.

use natterjack_conf::Data;
use natterjack_engine::access::Secret;

use crate::configuration::Configuration;
use crate::configuration::codec::{self, SECRET, WORD};
use crate::configuration::reader::Reader;
use crate::configuration::row::Row;
use crate::configuration::shape::{Codec, Custom, plain};
use crate::options::{Endpoint, Options};

use super::flag;
use super::server::{Port, address};

pub(super) static ROWS: &[Row<Configuration>] = &[
    Row::new(
        "http",
        &Custom::<Configuration> {
            kind: "host:port or a port",
            read: |target, data, reader| read(&mut target.options.monitoring.http, data, reader),
            show: |target| show(&target.options.monitoring.http),
            is_equal: |one, other| one.options.monitoring.http == other.options.monitoring.http,
            is_secret: false,
        },
        "Where to serve the monitoring pages.",
    )
    .restart(),
    Row::new(
        "http_port",
        &Custom::<Configuration>::shorthand("a port", |target, data, reader| {
            read_port(&mut target.options.monitoring.http, data, reader);
        }),
        "Port for monitoring, on the clients' host; -1 takes any free one.",
    )
    .sets(&["http"])
    .alias(&["monitor_port"])
    .flag(flag!(
        ["m", "http_port"],
        "<port>",
        Server,
        Number,
        "Serve the monitoring pages on this port"
    ))
    .restart(),
    Row::new(
        "https",
        &Custom::<Configuration> {
            kind: "host:port or a port",
            read: |target, data, reader| read(&mut target.options.monitoring.https, data, reader),
            show: |target| show(&target.options.monitoring.https),
            is_equal: |one, other| one.options.monitoring.https == other.options.monitoring.https,
            is_secret: false,
        },
        "Where to serve the monitoring pages encrypted, with the certificate of tls.",
    )
    .restart(),
    Row::new(
        "https_port",
        &Custom::<Configuration>::shorthand("a port", |target, data, reader| {
            read_port(&mut target.options.monitoring.https, data, reader);
        }),
        "Port for encrypted monitoring, on the clients' host; -1 takes any free one.",
    )
    .sets(&["https"])
    .flag(flag!(
        ["ms", "https_port"],
        "<port>",
        Server,
        Number,
        "Serve the monitoring pages encrypted on this port"
    ))
    .restart(),
    plain!(
        Configuration,
        "http_base_path",
        options.monitoring.base_path,
        WORD,
        "What the paths of all monitoring pages begin with.",
    )
    .restart(),
    plain!(
        Configuration,
        "http_token",
        options.monitoring.token,
        TOKEN,
        "What whoever asks for a monitoring page must know, in clear text or as a bcrypt hash: sent as a bearer token, or as \
         the password of HTTP's basic authentication.",
    )
    .ours(),
];

/// A secret that is kept if it is empty, to be told of: it would look like one, and keep nobody out.
static TOKEN: Codec<Option<Secret>> = Codec {
    kind: SECRET.kind,
    read: |data, reader| codec::secret(data, reader).map(Some),
    show: SECRET.show,
    is_secret: SECRET.is_secret,
};

fn read(endpoint: &mut Option<Endpoint>, data: &Data, reader: &mut Reader<'_>) {
    if let Some((host, port)) = address(data, reader) {
        *endpoint = port.or(None).map(|port| Endpoint {
            host: host.unwrap_or_default(),
            port,
        });
    }
}

fn read_port(endpoint: &mut Option<Endpoint>, data: &Data, reader: &mut Reader<'_>) {
    if let Some(port) = Port::read(data, reader) {
        let host = endpoint.take().map(|endpoint| endpoint.host);
        *endpoint = port.or(None).map(|port| Endpoint {
            host: host.unwrap_or_default(),
            port,
        });
    }
}

pub(super) fn show(endpoint: &Option<Endpoint>) -> Option<String> {
    let Endpoint { host, port } = endpoint.as_ref()?;
    let port = super::server::show_port(*port);
    let host = if host.is_empty() {
        Options::default().host
    } else {
        host.clone()
    };
    Some(codec::quote(&if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }))
}
