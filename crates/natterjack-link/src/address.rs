//! Where a server is, and whom its certificate must name.

use std::fmt;

/// A host, a port, and the name for TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// From 0, at which nobody answers.
    pub port: u16,
    /// Whom its certificate must name; by default the host.
    pub tls_name: String,
}

impl Address {
    /// The server's certificate must name the host.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            tls_name: host.to_owned(),
        }
    }

    /// Reads `host:port`, or `[address]:port`, as servers announce each other. `None`: it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if host.is_empty() {
            return None;
        }
        Some(Self::new(host, port.parse().ok()?))
    }

    /// Whether the host is an address and no name.
    #[must_use]
    pub fn is_number(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok()
    }
}

/// `host:port`, with brackets where they are needed.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for (text, host, port) in [
            ("localhost:4222", "localhost", 4222),
            ("[::1]:1", "::1", 1),
            ("127.0.0.1:80", "127.0.0.1", 80),
        ] {
            let address = Address::parse(text).expect("an address");
            assert_eq!(address, Address::new(host, port));
            assert_eq!(address.to_string(), text);
            assert_eq!(address.is_number(), host != "localhost");
        }
        for text in ["", "h", "h:", ":1", "h:x", "h:70000"] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
