//! Who the server is: the key pair it makes up at every start, and what INFO says of it.

use natterjack_engine::{Nonce, ServerInfo};
use nkeys::KeyPair;

use crate::configuration::host_port;
use crate::options::{HandshakeFirst, Options};

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
        ..ServerInfo::default()
    }
}

/// Where clients are told that this server is.
fn advertised(options: &Options, port: u16) -> (String, u16) {
    let Some(advertise) = &options.client_advertise else {
        return (options.host.clone(), port);
    };
    // An IPv6 address without brackets has colons, but no port.
    let (host, given) = host_port::split(advertise).unwrap_or((advertise, None));
    // As in nats-server, 0 and -1 stand for the port that is listened on.
    let given = given.and_then(|given| given.parse().ok());
    (
        host.to_owned(),
        given.filter(|&given| given > 0).unwrap_or(port),
    )
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
