//! Makes connections, one after the other: to whom, how securely, after how long, and for how long it is tried.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use natterjack_link::{
    Address, Backoff, Deadlines, DialError, Dialled, Phase, Pool, Security, TlsRule, dial, greet,
};
use natterjack_server::InProcessConnection;
use natterjack_wire::client::{ConnectOptions, ServerInfo};

use super::{ClientError, Way, lapse};

/// Of the configured server.
const DEADLINES: Deadlines = Deadlines {
    resolve: Duration::from_secs(5),
    connect: Duration::from_secs(5),
    greeting: Duration::from_secs(5),
    whole: Duration::from_secs(15),
};

/// Of servers that another one has named. They are addresses, of which some may long be nobody's: the configured server
/// must not have to wait for them.
const DEADLINES_LEARNT: Deadlines = Deadlines {
    resolve: Duration::from_secs(2),
    connect: Duration::from_secs(1),
    greeting: Duration::from_secs(3),
    whole: Duration::from_secs(3),
};

/// First and longest pause between two rounds.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);

pub(super) struct Dialler {
    way: Line,
    /// Who we are.
    hello: ConnectOptions,
    backoff: Backoff,
    random: fastrand::Rng,
}

enum Line {
    Sockets(Box<Sockets>),
    /// `None` from it: the server has stopped.
    Inside(Box<dyn Fn() -> Option<InProcessConnection> + Send>),
}

struct Sockets {
    configured: Address,
    pool: Pool<Address>,
    /// As it was configured.
    endpoint: String,
    is_alone: bool,
    /// Of the only server that will do, if not any will.
    server_id: Option<String>,
    security: Security,
    /// Who was connected to last.
    last: Option<Address>,
}

impl Dialler {
    pub(super) fn new(way: Way, hello: ConnectOptions) -> Result<Self, ClientError> {
        let way = match way {
            Way::Inside(connect) => Line::Inside(connect),
            Way::Sockets {
                address,
                is_alone,
                server_id,
                tls,
            } => {
                let endpoint = address;
                let (address, is_tls) = parse(&endpoint).ok_or(ClientError::Address)?;
                Line::Sockets(Box::new(Sockets {
                    pool: Pool::new(vec![address.clone()]),
                    configured: address,
                    endpoint,
                    is_alone,
                    server_id,
                    security: Security {
                        config: Arc::new(tls.config()),
                        rule: if is_tls || tls.is_required() {
                            TlsRule::Always
                        } else {
                            TlsRule::OnDemand
                        },
                    },
                    last: None,
                }))
            }
        };
        Ok(Self {
            way,
            hello,
            backoff: Backoff::new(step, 0.5..1.0),
            random: fastrand::Rng::new(),
        })
    }

    /// Waits until it is time for another attempt and makes it. `None`: there is nobody left to try.
    pub(super) async fn connect(&mut self) -> Option<Result<Dialled, ClientError>> {
        let hello = |_: &ServerInfo| Ok::<_, Infallible>(self.hello.clone());
        let dialled = match &mut self.way {
            Line::Sockets(sockets) => {
                let Sockets {
                    pool,
                    endpoint,
                    server_id,
                    security,
                    last,
                    ..
                } = &mut **sockets;
                let candidate = match pool.take() {
                    Some(candidate) => candidate,
                    None => {
                        rest(&mut self.backoff, &mut self.random).await;
                        pool.begin_round(&mut self.random);
                        // There is always the configured one.
                        pool.take()?
                    }
                };
                let deadlines = if candidate.is_learnt {
                    DEADLINES_LEARNT
                } else {
                    DEADLINES
                };
                let server = candidate.server;
                let dialled = dial(&server, security, &deadlines, &hello).await;
                let dialled = dialled.map_err(|error| explain(error, &server.host));
                *last = Some(server);
                dialled.and_then(|dialled| {
                    let ServerInfo {
                        server_id: found,
                        server_name: name,
                        ..
                    } = &dialled.info;
                    match server_id.as_ref() {
                        Some(wanted) if wanted != found => Err(ClientError::OtherServer {
                            address: endpoint.clone(),
                            name: name.clone(),
                        }),
                        _ => Ok(dialled),
                    }
                })
            }
            Line::Inside(connect) => {
                rest(&mut self.backoff, &mut self.random).await;
                let dialled = greet(connect()?, DEADLINES.greeting, &hello).await;
                dialled.map_err(|error| explain(error, ""))
            }
        };
        Some(dialled.and_then(|dialled| {
            if dialled.info.headers {
                Ok(dialled)
            } else {
                // It would close the connection at the first event, and so would each after it.
                Err(ClientError::NoHeaders)
            }
        }))
    }

    /// Where the server is that was tried last. `None`: none was, or it is in this process.
    pub(super) fn address(&self) -> Option<String> {
        let Line::Sockets(sockets) = &self.way else {
            return None;
        };
        let Sockets {
            configured,
            endpoint,
            last,
            ..
        } = &**sockets;
        let last = last.as_ref()?;
        if last == configured {
            return Some(endpoint.clone());
        }
        let (scheme, _) = endpoint.split_once("://").unwrap_or(("nats", ""));
        let Address { host, port, .. } = last;
        Some(if host.contains(':') {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        })
    }

    /// The same until there is a connection, while there still is another one.
    pub(super) async fn succeed(&mut self) -> Option<Dialled> {
        loop {
            match self.connect().await? {
                Ok(dialled) => return Some(dialled),
                Err(error) => tracing::debug!(%error, "a server cannot be changed to"),
            }
        }
    }

    /// What a server says about where clients may go, `host:port` each. An address without a name must show a certificate
    /// with the configured server's name, as for other clients.
    pub(super) fn learn(&mut self, urls: &[String]) {
        if let Line::Sockets(sockets) = &mut self.way
            && !sockets.is_alone
        {
            let Sockets {
                configured, pool, ..
            } = &mut **sockets;
            let addresses = urls.iter().filter_map(|url| Address::parse(url));
            pool.learn(addresses.map(|mut address| {
                if address.is_number() {
                    address.tls_name.clone_from(&configured.tls_name);
                }
                address
            }));
        }
    }

    /// The server that is connected to will soon be gone. Answers whether there are others, which are next.
    pub(super) fn leave(&mut self) -> bool {
        let Line::Sockets(sockets) = &mut self.way else {
            return false;
        };
        let Sockets { pool, last, .. } = &mut **sockets;
        let has_others = last.as_ref().is_some_and(|last| pool.leave(last));
        if has_others {
            self.lasted();
        }
        has_others
    }

    /// A connection has lasted: the next time there is no reason to wait.
    pub(super) fn lasted(&mut self) {
        self.backoff.reset();
        if let Line::Sockets(sockets) = &mut self.way {
            sockets.pool.end_round();
        }
    }
}

async fn rest(backoff: &mut Backoff, random: &mut fastrand::Rng) {
    let pause = backoff.pause(random);
    backoff.failed();
    if !pause.is_zero() {
        lapse(pause).await;
    }
}

/// Nothing before the first round; then it doubles from round to round.
fn step(round: u32) -> Duration {
    match round {
        0 => Duration::ZERO,
        _ => PAUSE_MIN
            .saturating_mul(1 << (round - 1).min(16))
            .min(PAUSE_MAX),
    }
}

/// Reads `scheme://host:port`, and answers whether the scheme demands TLS.
fn parse(text: &str) -> Option<(Address, bool)> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
    let address = Address::parse(rest.trim_end_matches('/'))?;
    Some((address, scheme.eq_ignore_ascii_case("tls")))
}

/// In the words of the bus's settings.
fn explain(error: DialError, host: &str) -> ClientError {
    match error {
        DialError::Resolve(source) => ClientError::UnknownHost {
            host: host.to_owned(),
            source,
        },
        DialError::Connect(error) | DialError::Broken(error) => ClientError::Broken(error),
        DialError::Timeout {
            phase: Phase::Resolve | Phase::Connect,
            ..
        } => ClientError::Broken(std::io::ErrorKind::TimedOut.into()),
        DialError::Timeout { .. } => ClientError::Silent,
        DialError::Closed => ClientError::Ended,
        DialError::NotNats(error) => ClientError::Protocol(error),
        DialError::Info(error) => ClientError::Info(error),
        DialError::Plaintext => ClientError::NoTls,
        DialError::Name => ClientError::NoName,
        DialError::Tls(error) => ClientError::Tls(error),
        DialError::Refused(text) => ClientError::refused(text),
        DialError::Credentials(never) => match never {},
        // What there is beside is of later versions.
        _ => ClientError::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(step(0), Duration::ZERO);
        assert_eq!(step(1), PAUSE_MIN);
        assert_eq!(step(2), 2 * PAUSE_MIN);
        assert_eq!(step(1000), PAUSE_MAX);
        assert_eq!(step(u32::MAX), PAUSE_MAX);
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let check = |text: &str, host: &str, port, is_tls| {
            assert_eq!(parse(text), Some((Address::new(host, port), is_tls)));
        };
        check("nats://localhost:4222", "localhost", 4222, false);
        check("tls://[::1]:1", "::1", 1, true);
        check("127.0.0.1:80", "127.0.0.1", 80, false);
        check("nats://h:5/", "h", 5, false);
        for text in ["", "h", "nats://h", "nats://:1", "h:x", "h:70000"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_without_a_name_must_show_the_configured_one() {
        let tls = crate::tls::ClientTls::load(&crate::settings::Tls::default()).expect("no files");
        let way = |is_alone| Way::Sockets {
            address: "nats://home:1".into(),
            is_alone,
            server_id: None,
            tls: Box::new(tls.clone()),
        };
        let named = ["home:1".into(), "10.0.0.2:1".into(), "away:1".into()];
        for is_alone in [false, true] {
            let dialler = Dialler::new(way(is_alone), ConnectOptions::default());
            let mut dialler = dialler.expect("an address");
            dialler.learn(&named);
            let Line::Sockets(sockets) = &dialler.way else {
                panic!("sockets")
            };
            let mut known: Vec<_> = sockets
                .pool
                .all()
                .map(|address| (&*address.host, &*address.tls_name))
                .collect();
            known.sort_unstable();
            let expected: &[_] = if is_alone {
                &[("home", "home")]
            } else {
                &[("10.0.0.2", "home"), ("away", "away"), ("home", "home")]
            };
            assert_eq!(known, expected);
        }
    }
}
