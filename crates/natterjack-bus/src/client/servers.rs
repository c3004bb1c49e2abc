//! Which server to try next, and when. Knows no network and no clock.

use std::time::Duration;

/// First and longest pause between two attempts at one server.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Servers remembered beside the configured one.
const LEARNT_MAX: usize = 64;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// A name, or an IP address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Whom its certificate must name.
    pub(super) tls_name: String,
    /// Whether there must be TLS, by the address itself.
    pub(super) is_tls: bool,
}

impl Address {
    /// Reads `scheme://host:port`, or `host:port` as servers announce it. `None`: it is neither.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host).to_owned();
        if host.is_empty() {
            return None;
        }
        Some(Self {
            port: port.parse().ok()?,
            tls_name: host.clone(),
            host,
            is_tls: scheme.eq_ignore_ascii_case("tls"),
        })
    }
}

/// The configured server, and those of its cluster that it has named.
pub(super) struct Servers {
    configured: Address,
    learnt: Vec<Address>,
    /// Attempts since the last connection that was of use.
    attempts: usize,
}

impl Servers {
    pub(super) fn new(configured: Address) -> Self {
        Self {
            configured,
            learnt: Vec::new(),
            attempts: 0,
        }
    }

    /// What a server says about where clients may go, `host:port` each; it replaces what was said before. An address
    /// without a name must show a certificate with the configured server's name, as for other clients.
    pub(super) fn learn(&mut self, urls: &[String]) {
        if urls.is_empty() {
            return;
        }
        let known = &self.configured;
        let addresses = urls.iter().filter_map(|url| Address::parse(url));
        let others = addresses
            .filter(|address| (&address.host, address.port) != (&known.host, known.port))
            .map(|address| {
                let is_number = address.host.parse::<std::net::IpAddr>().is_ok();
                Address {
                    tls_name: if is_number {
                        known.tls_name.clone()
                    } else {
                        address.tls_name
                    },
                    is_tls: known.is_tls,
                    ..address
                }
            });
        self.learnt = others.take(LEARNT_MAX).collect();
    }

    /// Whom to try, and how long to wait before. The configured server is first in each round; the others follow in an
    /// order that is different on each node, so that those of a dead server do not all go to the same one.
    pub(super) fn next(&mut self) -> (Address, Duration) {
        let count = self.learnt.len() + 1;
        let (round, place) = (self.attempts / count, self.attempts % count);
        self.attempts += 1;
        if place == 0 {
            fastrand::shuffle(&mut self.learnt);
            return (self.configured.clone(), pause(round));
        }
        (self.learnt[place - 1].clone(), Duration::ZERO)
    }

    /// A connection has lasted: the next time there is no reason to wait.
    pub(super) fn lasted(&mut self) {
        self.attempts = 0;
    }
}

/// Doubles from round to round, and takes a random part of that off, so that nodes do not come back in step.
fn pause(round: usize) -> Duration {
    if round == 0 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(round - 1).unwrap_or(u32::MAX).min(16);
    let pause = PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX);
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).expect("an address")
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(0), Duration::ZERO);
        for round in [1, 2, 9, 1000, usize::MAX] {
            let pause = pause(round);
            assert!(pause >= PAUSE_MIN / 2 && pause <= PAUSE_MAX, "{pause:?}");
        }
        assert!(pause(1000) >= PAUSE_MAX / 2);
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let check = |text: &str, host: &str, port, is_tls| {
            let Address {
                host: found,
                port: found_port,
                is_tls: found_tls,
                ..
            } = address(text);
            assert_eq!((&*found, found_port, found_tls), (host, port, is_tls));
        };
        check("nats://localhost:4222", "localhost", 4222, false);
        check("tls://[::1]:1", "::1", 1, true);
        check("127.0.0.1:80", "127.0.0.1", 80, false);
        check("nats://h:5/", "h", 5, false);
        for text in ["", "h", "h:", ":1", "h:x", "h:70000"] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_configured_server_comes_first_in_each_round() {
        let mut servers = Servers::new(address("nats://home:1"));
        assert_eq!(servers.next(), (address("home:1"), Duration::ZERO));
        assert!(servers.next().1 > Duration::ZERO, "it alone");
        servers.lasted();
        servers.learn(&["home:1".into(), "10.0.0.2:1".into(), "away:1".into()]);
        for round in 0..3 {
            let (first, pause) = servers.next();
            assert_eq!((&*first.host, pause.is_zero()), ("home", round == 0));
            let mut others = [servers.next(), servers.next()].map(|(other, pause)| {
                assert!(pause.is_zero(), "a round waits once");
                (other.host, other.tls_name)
            });
            others.sort();
            let expected = [("10.0.0.2", "home"), ("away", "away")];
            assert_eq!(others, expected.map(|(a, b)| (a.into(), b.into())));
        }
        servers.learn(&[]);
        assert_eq!(servers.learnt.len(), 2, "nothing was said");
    }
}
