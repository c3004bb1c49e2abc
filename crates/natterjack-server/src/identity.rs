//! Who the server is: the key pair it makes up at every start, and what INFO says of it.

use std::net::{IpAddr, SocketAddr};

use natterjack_engine::{Nonce, ServerInfo};
use nkeys::KeyPair;

use crate::configuration::host_port;
use crate::options::{Endpoint, HandshakeFirst, Options};

/// The nats-server version whose behaviour clients can rely on. Client libraries compare it to decide which
/// features they may use, so it is not our own version.
const COMPATIBLE_VERSION: &str = "2.15.1";

/// The JetStream API level of that version. It is part of INFO there even without JetStream.
const COMPATIBLE_API_LEVEL: i64 = 5;

/// A new server's id: a public key.
pub(crate) fn server_id() -> String {
    KeyPair::new_server().public_key()
}

/// What a client with a key is asked to sign.
pub(crate) fn nonce() -> Nonce {
    let mut random = [0; Nonce::RANDOM_BYTES];
    match getrandom::fill(&mut random) {
        Ok(()) => Nonce::new(random),
        Err(error) => {
            tracing::error!(%error, "no randomness: users with keys cannot come in");
            Nonce::default()
        }
    }
}

/// INFO as far as it is the same for all clients. `port` is the one that was really bound.
pub(crate) fn server_info(options: &Options, server_id: &str, port: u16) -> ServerInfo {
    let client_urls = client_urls(options, port);
    let (host, port) = advertised(options, port);
    let tls = options.tls.as_ref();
    let is_first = tls.is_some_and(|tls| tls.handshake_first == HandshakeFirst::Yes);
    ServerInfo {
        server_id: server_id.to_owned(),
        server_name: options
            .server_name
            .clone()
            .unwrap_or_else(|| server_id.to_owned()),
        version: COMPATIBLE_VERSION.to_owned(),
        proto: 1,
        go: concat!("natterjack ", env!("CARGO_PKG_VERSION")).to_owned(),
        host,
        port,
        headers: !options.no_header_support,
        // Who has come as far as to read this with the handshake first cannot go on without.
        tls_required: tls.is_some() && (is_first || !options.allow_non_tls),
        tls_available: tls.is_some() && options.allow_non_tls,
        tls_verify: tls.is_some_and(|tls| tls.verify || tls.verify_and_map),
        api_lvl: COMPATIBLE_API_LEVEL,
        connect_urls: client_urls,
        ..ServerInfo::default()
    }
}

/// Where clients of the whole cluster reach this server: at each address of this machine if it listens on all. A server
/// in no cluster tells nobody.
fn client_urls(options: &Options, port: u16) -> Vec<String> {
    let is_clustered = options
        .cluster
        .as_ref()
        .is_some_and(|cluster| cluster.listen.is_some());
    if !is_clustered {
        return Vec::new();
    }
    let is_any = match options.host.parse::<IpAddr>() {
        Ok(ip) => ip.is_unspecified() && options.client_advertise.is_none(),
        Err(_) => false,
    };
    if !is_any {
        let (host, port) = advertised(options, port);
        return vec![Endpoint { host, port }.to_string()];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut ips: Vec<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
    // An IPv4 socket does not hear IPv6; the other way round it usually does.
    let hears_both = options.host.contains(':');
    ips.retain(|ip| is_reachable(ip) && (ip.is_ipv4() || hears_both));
    ips.iter()
        .map(|ip| SocketAddr::new(*ip, port).to_string())
        .collect()
}

/// Whether others can have a use for the address.
fn is_reachable(ip: &IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(is_link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// Where clients are told that this server is.
fn advertised(options: &Options, port: u16) -> (String, u16) {
    let Some(advertise) = &options.client_advertise else {
        return (options.host.clone(), port);
    };
    host_port::advertised(advertise, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_what_is_advertised() {
        let check = |advertise: Option<&str>, expected: (&str, u16)| {
            let options = Options {
                client_advertise: advertise.map(str::to_owned),
                ..Options::default()
            };
            let (host, port) = advertised(&options, 4333);
            assert_eq!((host.as_str(), port), expected, "{advertise:?}");
        };
        check(None, ("0.0.0.0", 4333));
        check(Some("nats.example.net"), ("nats.example.net", 4333));
        check(Some("nats.example.net:5222"), ("nats.example.net", 5222));
        check(Some("nats.example.net:0"), ("nats.example.net", 4333));
        check(Some("nats.example.net:-1"), ("nats.example.net", 4333));
        check(Some("[2001:db8::1]:5222"), ("2001:db8::1", 5222));
        check(Some("[2001:db8::1]"), ("2001:db8::1", 4333));
        check(Some("2001:db8::1"), ("2001:db8::1", 4333));
    }
}
