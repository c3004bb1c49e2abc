//! URLs of routes: where a peer listens, and how to log in there.

use std::net::IpAddr;

use natterjack_dns::{BadServiceName, check_name};
use natterjack_engine::access::Secret;
use thiserror::Error;

use super::host_port;
use crate::options::{Endpoint, RouteUrl};
use crate::percent;

/// Why a text is no such URL. Shows nothing of it: a password may be anywhere in what is malformed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum BadUrl {
    #[error("a scheme is missing")]
    NoScheme,
    #[error("scheme {0:?} is not known")]
    Scheme(String),
    #[error("a host is missing")]
    NoHost,
    #[error("a port is missing")]
    NoPort,
    #[error("the port must be a number up to 65535")]
    BadPort,
    #[error("% must be followed by two hexadecimal digits")]
    BadEscape,
    #[error("an IPv6 address must stand in brackets")]
    Brackets,
    #[error("the user needs a password")]
    NoPassword,
    #[error("the name of a service has no port")]
    ServicePort,
    #[error("the address of a server is not the name of a service")]
    ServiceAddress,
    #[error(transparent)]
    Service(#[from] BadServiceName),
}

impl BadUrl {
    /// What to write instead, in the URL of a peer.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::ServicePort => {
                "leave the port out: the SRV records say at which port each server listens"
            }
            Self::ServiceAddress => "leave out srv+ and name the server's port",
            Self::Service(_) => {
                "write srv+nats-route://_nats-route._tcp.example.net or srv+tls://_nats-route._tcp.example.net; \
                 without srv+ the name is that of servers"
            }
            _ => {
                "write nats-route://host:6222 or nats-route://user:password@host:6222, or \
                 srv+nats-route://_nats-route._tcp.example.net to take servers from SRV records"
            }
        }
    }
}

/// What a URL says.
struct Parts {
    scheme: String,
    user: Option<String>,
    password: Option<Secret>,
    host: String,
    port: Option<String>,
}

/// The URL of a peer, or of a service that peers offer.
pub(crate) fn parse(text: &str) -> Result<RouteUrl, BadUrl> {
    let parts = split(text.trim())?;
    let transport = parts.scheme.strip_prefix(RouteUrl::SERVICE_PREFIX);
    let is_service = transport.is_some();
    let tls = match transport.unwrap_or(&parts.scheme) {
        "nats-route" | "nats" | "route" => false,
        "tls" => true,
        _ => return Err(BadUrl::Scheme(parts.scheme)),
    };
    if parts.host.is_empty() {
        return Err(BadUrl::NoHost);
    }
    let port = if is_service {
        check_service(&parts)?;
        None
    } else {
        let port = parts.port.as_ref().ok_or(BadUrl::NoPort)?;
        Some(port.parse().map_err(|_| BadUrl::BadPort)?)
    };
    Ok(RouteUrl {
        host: parts.host,
        port,
        user: parts.user,
        password: parts.password,
        tls,
    })
}

/// Whether what stands in place of a host is the name of a service, and nothing more.
fn check_service(parts: &Parts) -> Result<(), BadUrl> {
    if parts.host.parse::<IpAddr>().is_ok() {
        return Err(BadUrl::ServiceAddress);
    }
    // Of two mistakes the one in the name is told: whoever wrote host:port meant no service.
    check_name(&parts.host)?;
    match parts.port {
        None => Ok(()),
        Some(_) => Err(BadUrl::ServicePort),
    }
}

/// An address to listen on, and the login of those who come.
pub(crate) struct Listen {
    pub(crate) endpoint: Endpoint,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
}

/// Where `--cluster` says to listen; port -1 is any.
pub(crate) fn parse_listen(text: &str) -> Result<Listen, BadUrl> {
    let parts = split(text.trim())?;
    let port = match parts.port.as_deref() {
        None => return Err(BadUrl::NoPort),
        Some("-1") => 0,
        Some(port) => port.parse().map_err(|_| BadUrl::BadPort)?,
    };
    if parts.user.is_some() && parts.password.is_none() {
        return Err(BadUrl::NoPassword);
    }
    let host = if parts.host.is_empty() {
        crate::options::Options::default().host
    } else {
        parts.host
    };
    Ok(Listen {
        endpoint: Endpoint { host, port },
        user: parts.user,
        password: parts.password,
    })
}

fn split(text: &str) -> Result<Parts, BadUrl> {
    let (scheme, rest) = text.split_once("://").ok_or(BadUrl::NoScheme)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (login, address) = match authority.rsplit_once('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, authority),
    };
    let (host, port) = host_port::split(address).ok_or(BadUrl::Brackets)?;
    let (user, password) = match login.map(|login| login.split_once(':').ok_or(login)) {
        None => (None, None),
        Some(Ok((user, password))) => (Some(decode(user)?), Some(decode(password)?)),
        Some(Err(user)) => (Some(decode(user)?), None),
    };
    Ok(Parts {
        scheme: scheme.to_ascii_lowercase(),
        user: user.filter(|user| !user.is_empty()),
        password: password.map(Secret::from),
        host: host.to_owned(),
        port: port.map(ToOwned::to_owned),
    })
}

/// Undoes `%41`.
fn decode(text: &str) -> Result<String, BadUrl> {
    let bytes = percent::decoded(text).ok_or(BadUrl::BadEscape)?;
    String::from_utf8(bytes).map_err(|_| BadUrl::BadEscape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, BadUrl>) {
        let shown = parse(text).map(|url| {
            let password = url.password.as_ref().map_or("", Secret::expose);
            let user = url.user.as_deref().unwrap_or("");
            let port = url
                .port
                .map_or_else(|| "SRV".to_owned(), |port| port.to_string());
            format!("{user}|{password}|{}|{port}|{}", url.host, url.tls)
        });
        assert_eq!(shown, expected.map(ToOwned::to_owned), "{text}");
    }

    #[test]
    fn urls_of_routes() {
        check("nats-route://a.b:6222", Ok("||a.b|6222|false"));
        check(" nats://u:p@h:1 ", Ok("u|p|h|1|false"));
        check("tls://u:p%40%3a@[::1]:6222/", Ok("u|p@:|::1|6222|true"));
        check("nats-route://u@h:1", Ok("u||h|1|false"));
        check("nats-route://u:a@b@h:1", Ok("u|a@b|h|1|false"));
        check(
            "nats-route://_nats-route._tcp.a.b:1",
            Ok("||_nats-route._tcp.a.b|1|false"),
        );
        check("h:1", Err(BadUrl::NoScheme));
        check("http://h:1", Err(BadUrl::Scheme("http".into())));
        check("nats://h", Err(BadUrl::NoPort));
        check("nats://:1", Err(BadUrl::NoHost));
        check("nats://h:x", Err(BadUrl::BadPort));
        check("nats://h:70000", Err(BadUrl::BadPort));
        check("nats://u:%zz@h:1", Err(BadUrl::BadEscape));
        check("nats://::1:6222", Err(BadUrl::Brackets));
    }

    #[test]
    fn urls_of_services() {
        check(
            "srv+nats-route://_nats-route._tcp.example.net",
            Ok("||_nats-route._tcp.example.net|SRV|false"),
        );
        check(
            "SRV+TLS://u:p%40@_x._tcp.example.net./",
            Ok("u|p@|_x._tcp.example.net.|SRV|true"),
        );
        check("srv+nats://_x._tcp", Ok("||_x._tcp|SRV|false"));
        check("srv://_x._tcp.a", Err(BadUrl::Scheme("srv".into())));
        check(
            "srv+http://_x._tcp.a",
            Err(BadUrl::Scheme("srv+http".into())),
        );
        check("srv+tls://_x._tcp.a:6222", Err(BadUrl::ServicePort));
        check("srv+tls://_x._tcp.a:", Err(BadUrl::ServicePort));
        check("srv+tls://", Err(BadUrl::NoHost));
        check("srv+tls://10.0.0.1:6222", Err(BadUrl::ServiceAddress));
        check("srv+tls://[::1]", Err(BadUrl::ServiceAddress));
        for (name, problem) in [
            ("example.net", BadServiceName::NoService),
            ("example.net:6222", BadServiceName::NoService),
            ("_nats-route.example.net", BadServiceName::NoService),
            ("_nats-route._udp.example.net", BadServiceName::Protocol),
            ("_nats-route._tcp.example..net", BadServiceName::Label),
        ] {
            check(
                &format!("srv+nats-route://{name}"),
                Err(BadUrl::Service(problem)),
            );
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for text in [
            "nats-route://a.b:6222",
            "tls://[::1]:1",
            "srv+nats-route://_x._tcp.a",
            "srv+tls://_x._tcp.a",
        ] {
            assert_eq!(parse(text).map(|url| url.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn where_to_listen() {
        let listen = parse_listen("nats://u:p@:-1").map(|listen| listen.endpoint);
        assert_eq!(
            listen,
            Ok(Endpoint {
                host: "0.0.0.0".into(),
                port: 0
            })
        );
        let problem = parse_listen("nats://u@h:1").map(|listen| listen.endpoint);
        assert_eq!(problem, Err(BadUrl::NoPassword));
    }
}
