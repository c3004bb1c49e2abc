//! Addresses of servers, as settings and SRV records have them.

use std::fmt;
use std::str::FromStr;

/// A host and a port. The host is what the server's certificate must be for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerAddress {
    /// A name, or an address; of IPv6 without brackets.
    pub host: String,
    /// From 1.
    pub port: u16,
}

/// Why a text is no address of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no port.
    #[error("{0:?} has no port; write host:port, such as puppet:4222")]
    NoPort(String),
    /// A port that is none.
    #[error("{0:?} has a port that is not from 1 to 65535")]
    Port(String),
    /// There is no host, or one with characters that no host has.
    #[error("{0:?} has no host, or one that cannot be")]
    Host(String),
    /// An address of IPv6 without brackets: nobody can tell where it ends.
    #[error("{0:?} is ambiguous; write addresses of IPv6 in brackets, such as [2001:db8::1]:4222")]
    Ambiguous(String),
    /// Several, or one with something behind it.
    #[error(
        "{0:?} has a blank in it; write commas between servers, such as a:4222, b:4222, and nothing behind them"
    )]
    Blank(String),
    /// A scheme for something else.
    #[error("{0:?} is not for NATS; leave out the scheme, or write nats://host:port")]
    Scheme(String),
    /// Names and passwords do not belong there.
    #[error("a server's address must not have a user; set plugin.nats.user and plugin.nats.pass")]
    User,
}

impl ServerAddress {
    /// Takes a host, without the dot that DNS has at its end, and a port.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.strip_suffix('.').unwrap_or(host).to_owned(),
            port,
        }
    }

    /// As clients of NATS take it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{self}")
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    /// Reads `host:port`, `[address]:port`, and the same with `nats://` or `tls://` before it.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let whole = || text.to_owned();
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if ["nats", "tls"].contains(&scheme.to_lowercase().as_str()) => {
                rest.strip_suffix('/').unwrap_or(rest)
            }
            Some(_) => return Err(AddressError::Scheme(whole())),
        };
        if rest.contains('@') {
            return Err(AddressError::User);
        }
        let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
            let (host, port) = rest
                .split_once(']')
                .ok_or_else(|| AddressError::Host(whole()))?;
            let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
            if !is_address {
                return Err(AddressError::Host(whole()));
            }
            let port = port
                .strip_prefix(':')
                .ok_or_else(|| AddressError::NoPort(whole()))?;
            (host, port)
        } else {
            let (host, port) = rest
                .rsplit_once(':')
                .ok_or_else(|| AddressError::NoPort(whole()))?;
            if text.contains(char::is_whitespace) {
                return Err(AddressError::Blank(whole()));
            }
            if host.contains(':') {
                return Err(AddressError::Ambiguous(whole()));
            }
            (host, port)
        };
        let can_be = |letter: char| letter.is_ascii_alphanumeric() || ".-_:".contains(letter);
        if host.trim_end_matches('.').is_empty() || !host.chars().all(can_be) {
            return Err(AddressError::Host(whole()));
        }
        match port.parse() {
            Ok(0) | Err(_) if port.is_empty() => Err(AddressError::NoPort(whole())),
            Ok(0) | Err(_) => Err(AddressError::Port(whole())),
            Ok(port) => Ok(Self::new(host, port)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("puppet:4222", "puppet:4222"),
            ("nats1.example.net.:4222", "nats1.example.net:4222"),
            ("nats://127.0.0.1:4222", "127.0.0.1:4222"),
            ("tls://a:1/", "a:1"),
            ("[2001:db8::1]:4222", "[2001:db8::1]:4222"),
            ("nats://[::1]:65535", "[::1]:65535"),
        ] {
            let address: ServerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.url(), format!("nats://{shown}"));
        }
        let error = |text: &str| text.parse::<ServerAddress>().unwrap_err();
        assert!(matches!(error("puppet"), AddressError::NoPort(_)));
        assert!(matches!(error("puppet:"), AddressError::NoPort(_)));
        assert!(matches!(error("[::1]"), AddressError::NoPort(_)));
        assert!(matches!(error("puppet:0"), AddressError::Port(_)));
        assert!(matches!(error("puppet:x"), AddressError::Port(_)));
        assert!(matches!(error(":4222"), AddressError::Host(_)));
        assert!(matches!(error(".:4222"), AddressError::Host(_)));
        assert!(matches!(error("a b:4222"), AddressError::Blank(_)));
        assert!(matches!(error("a:4222 b:4222"), AddressError::Blank(_)));
        assert!(matches!(error("a:4222 # first"), AddressError::Blank(_)));
        assert!(matches!(error("[puppet]:4222"), AddressError::Host(_)));
        assert!(matches!(error("::1:4222"), AddressError::Ambiguous(_)));
        assert!(matches!(error("wss://a:1"), AddressError::Scheme(_)));
        assert_eq!(error("nats://a:b@c:1"), AddressError::User);
    }
}
