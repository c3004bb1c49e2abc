//! Who may read the pages, where a token is asked for: who shows it as a bearer token (RFC 6750), or, as people's browsers
//! can, as the password of basic authentication (RFC 7617) with any name.
//!
//! A token whose hash is configured takes long to compare. Strangers may have that done for a few at a time, and in a share
//! of the processors' time of their own; whoever showed the right one before is known at once.

use std::net::IpAddr;
use std::sync::Arc;

use data_encoding::BASE64;
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, StatusCode};
use natterjack_engine::access::{PasswordCheck, Secret, is_bcrypt};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::pace::Pace;
use super::process::thread_time;
use super::router::Answer;
use crate::long_work::LongWork;

/// What a browser is told to ask for. A program that knows bearer tokens takes the first.
pub(super) const CHALLENGES: [&str; 2] = [
    "Bearer realm=\"natterjack\"",
    "Basic realm=\"natterjack\", charset=\"UTF-8\"",
];

/// Checks that may wait or run at one time. Whoever comes when there are as many is sent away.
const CHECKS_MAX: usize = 8;

/// As many of them for one address, so that a stranger leaves some to others.
const CHECKS_PER_ADDRESS_MAX: usize = CHECKS_MAX / 2;

pub(super) struct Guard {
    /// The configured token and the one that was shown, when they last were the same: to compare with a hash takes long,
    /// and whoever is known must not wait for strangers.
    known: Arc<Mutex<Option<[u8; 32]>>>,
    /// For whom tokens are being compared with a hash.
    checked: Mutex<Vec<IpAddr>>,
    /// They are, one after another.
    turn: tokio::sync::Mutex<()>,
    /// Comparing with a hash, beside the comparing of clients' passwords, which must not wait for it.
    checks: LongWork,
}

/// What somebody is who asks for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Reader,
    Stranger,
    /// Too many who are not known came at the same time.
    Unknown,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self {
            known: Arc::default(),
            checked: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            checks: LongWork::on_threads(1),
        }
    }

    /// What somebody at `address` is who sends these headers. `token`: what whoever reads pages must know; comparing it keeps
    /// the `pace`.
    pub(super) async fn standing(
        &self,
        token: Option<&Secret>,
        headers: &HeaderMap,
        address: IpAddr,
        pace: &Arc<Pace>,
    ) -> Standing {
        let Some(token) = token else {
            return Standing::Reader;
        };
        let Some(shown) = shown(headers) else {
            return Standing::Stranger;
        };
        if !is_bcrypt(token.expose()) {
            return Standing::of(shown == *token);
        }
        let both = both(token, &shown);
        if self.knows(&both) {
            return Standing::Reader;
        }
        let Some(_ticket) = Ticket::take(&self.checked, address) else {
            return Standing::Unknown;
        };
        let _turn = self.turn.lock().await;
        // Maybe since another request of the same reader.
        if self.knows(&both) {
            return Standing::Reader;
        }
        pace.keep().await;
        let check = PasswordCheck::new(token, shown.expose());
        let (known, pace) = (Arc::clone(&self.known), Arc::clone(pace));
        // What it finds is kept although whoever asked may have gone meanwhile; and so is what it took.
        let checked = self.checks.run(move || {
            let begin = thread_time();
            let is_same = check.run();
            pace.took(thread_time().saturating_sub(begin));
            if is_same {
                *known.lock() = Some(both);
            }
            is_same
        });
        Standing::of(checked.await.unwrap_or(false))
    }

    /// Whether this token was shown before, and was right. Takes as long whatever it is.
    fn knows(&self, both: &[u8; 32]) -> bool {
        let known = *self.known.lock();
        known.is_some_and(|known| known.ct_eq(both).into())
    }
}

impl Standing {
    fn of(is_same: bool) -> Self {
        match is_same {
            true => Self::Reader,
            false => Self::Stranger,
        }
    }
}

/// Leave to have a token compared, until it is dropped.
struct Ticket<'a> {
    checked: &'a Mutex<Vec<IpAddr>>,
    address: IpAddr,
}

impl<'a> Ticket<'a> {
    fn take(checked: &'a Mutex<Vec<IpAddr>>, address: IpAddr) -> Option<Self> {
        let mut all = checked.lock();
        let of_address = all.iter().filter(|other| **other == address).count();
        if all.len() >= CHECKS_MAX || of_address >= CHECKS_PER_ADDRESS_MAX {
            return None;
        }
        all.push(address);
        drop(all);
        Some(Self { checked, address })
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut all = self.checked.lock();
        if let Some(at) = all.iter().position(|address| *address == self.address) {
            all.swap_remove(at);
        }
    }
}

pub(super) fn refusal() -> Answer {
    Answer::text(StatusCode::UNAUTHORIZED, "401 Unauthorized")
}

pub(super) fn rebuff() -> Answer {
    Answer::text(
        StatusCode::SERVICE_UNAVAILABLE,
        "503 Service Unavailable: too many tokens are being compared",
    )
}

fn both(token: &Secret, shown: &Secret) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(token.expose());
    digest.update([0]);
    digest.update(shown.expose());
    digest.finalize().into()
}

/// The token in the headers.
fn shown(headers: &HeaderMap) -> Option<Secret> {
    // Not only ASCII: what is no text is no token.
    let header = std::str::from_utf8(headers.get(AUTHORIZATION)?.as_bytes()).ok()?;
    let (scheme, rest) = header.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.into());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(rest.as_bytes()).ok()?;
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(password.into())
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use hyper::header::HeaderValue;

    use super::*;
    use crate::clock::now;
    use crate::monitoring::pace::Paces;

    #[test]
    fn a_token_is_shown_in_two_ways() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  a:b ", Some("a:b")),
            ("Basic dXNlcjphYmM=", Some("abc")),
            ("BASIC OmE6Yg==", Some("a:b")),
            ("Basic dXNlcg==", None),
            ("Basic ?", None),
            ("Digest abc", None),
            ("abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(header));
            let found = shown(&headers);
            assert_eq!(found.as_ref().map(Secret::expose), token, "{header}");
        }
        assert!(shown(&HeaderMap::new()).is_none());
        for (header, token) in [
            (&b"Bearer t\xc3\xb6n"[..], Some("t\u{f6}n")),
            // What is one letter in Latin 1 is no text.
            (b"Bearer t\xf6n", None),
            (b"Basic dDrDtm4=\xff", None),
            (b"\xff \xff", None),
        ] {
            let found = shown(&authorization(header));
            assert_eq!(found.as_ref().map(Secret::expose), token, "{header:?}");
        }
    }

    fn authorization(header: &[u8]) -> HeaderMap {
        let header = HeaderValue::from_bytes(header).expect("a header");
        HeaderMap::from_iter([(AUTHORIZATION, header)])
    }

    /// `s3cret` as another implementation hashes it.
    const HASH: &str = "$2a$04$BmSaDe1cdKljxg0nnPDwaunlfgNA2wGdlA9qCctDVN.f82Cq6au1m";

    #[tokio::test]
    async fn whoever_is_known_does_not_wait_for_strangers() {
        let guard = Guard::new();
        let token = Secret::from(HASH);
        let pace = Paces::new(1, now()).token_checks;
        let here = |last| IpAddr::from([127, 0, 0, last]);
        let ask = |header: &'static str, last| {
            let (guard, token, pace) = (&guard, &token, &pace);
            async move {
                let headers = authorization(header.as_bytes());
                guard
                    .standing(Some(token), &headers, here(last), pace)
                    .await
            }
        };
        assert_eq!(ask("Bearer s3cret", 1).await, Standing::Reader);
        assert_eq!(ask("Bearer wrong", 1).await, Standing::Stranger);

        // So much that strangers' checks are put off.
        pace.took(Duration::from_secs(3600));
        let mut strangers = Vec::new();
        for last in 1..=2 {
            for _ in 0..CHECKS_PER_ADDRESS_MAX {
                let mut check = Box::pin(ask("Bearer wrong", last));
                assert!(poll(check.as_mut()).is_pending());
                strangers.push(check);
            }
            // As many as there may be of this one; and of all.
            assert_eq!(ask("Bearer wrong", last).await, Standing::Unknown);
        }
        assert_eq!(strangers.len(), CHECKS_MAX);
        assert_eq!(ask("Bearer wrong", 3).await, Standing::Unknown);
        assert_eq!(ask("Digest x", 3).await, Standing::Stranger);
        let mut reader = Box::pin(ask("Basic eDpzM2NyZXQ=", 3));
        assert_eq!(poll(reader.as_mut()), Poll::Ready(Standing::Reader));
        // Who goes away makes room.
        strangers.pop();
        let mut next = Box::pin(ask("Bearer wrong", 3));
        assert!(poll(next.as_mut()).is_pending());
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }
}
