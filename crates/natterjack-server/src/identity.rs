//! Who the server is: the key pair it makes up at every start, and what INFO says of it.

use natterjack_engine::ServerInfo;
use nkeys::KeyPair;

use crate::options::Options;

/// The nats-server version whose behaviour clients can rely on. Client libraries compare it to decide which
/// features they may use, so it is not our own version.
const COMPATIBLE_VERSION: &str = "2.15.1";

/// The JetStream API level of that version. It is part of INFO there even without JetStream.
const COMPATIBLE_API_LEVEL: i64 = 5;

/// INFO as far as it is the same for all clients.
pub(crate) fn server_info(options: &Options, port: u16) -> ServerInfo {
    let server_id = KeyPair::new_server().public_key();
    ServerInfo {
        server_name: options
            .server_name
            .clone()
            .unwrap_or_else(|| server_id.clone()),
        server_id,
        version: COMPATIBLE_VERSION.to_owned(),
        proto: 1,
        go: concat!("natterjack ", env!("CARGO_PKG_VERSION")).to_owned(),
        host: options.host.clone(),
        port,
        headers: true,
        tls_required: options.tls.is_some() && !options.allow_non_tls,
        tls_available: options.tls.is_some() && options.allow_non_tls,
        tls_verify: options
            .tls
            .as_ref()
            .is_some_and(|tls| tls.verify || tls.verify_and_map),
        api_lvl: COMPATIBLE_API_LEVEL,
        ..ServerInfo::default()
    }
}
