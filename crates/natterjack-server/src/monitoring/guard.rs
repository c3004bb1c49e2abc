//! Who may read the pages, where a token is asked for: who shows it as a bearer token (RFC 6750), or, as people's browsers
//! can, as the password of basic authentication (RFC 7617) with any name.

use data_encoding::BASE64;
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, StatusCode};
use natterjack_engine::access::{PasswordCheck, Secret, is_bcrypt};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::process::thread_time;
use super::router::Answer;
use crate::long_work::LongWork;
use crate::server::Shared;

/// What a browser is told to ask for. A program that knows bearer tokens takes the first.
pub(super) const CHALLENGES: [&str; 2] = [
    "Bearer realm=\"natterjack\"",
    "Basic realm=\"natterjack\", charset=\"UTF-8\"",
];

pub(super) struct Guard {
    /// The configured token and the one that was shown, when they last were the same: to compare with a hash takes long.
    known: Mutex<Option<[u8; 32]>>,
    /// Comparing with a hash, beside the comparing of clients' passwords, which must not wait for it.
    checks: LongWork,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::new(None),
            checks: LongWork::on_threads(1),
        }
    }

    /// Whether somebody who sends these headers may read the pages.
    pub(super) async fn lets_in(&self, shared: &Shared, headers: &HeaderMap) -> bool {
        let options = shared.options();
        let Some(token) = &options.monitoring.token else {
            return true;
        };
        let Some(shown) = shown(headers) else {
            return false;
        };
        if !is_bcrypt(token.expose()) {
            return shown == *token;
        }
        let both = both(token, &shown);
        if *self.known.lock() == Some(both) {
            return true;
        }
        let check = PasswordCheck::new(token, shown.expose());
        let checked = self.checks.run(move || {
            let begin = thread_time();
            (check.run(), thread_time().saturating_sub(begin))
        });
        let Some((is_same, time)) = checked.await else {
            return false;
        };
        shared.monitor.pace.took(time);
        if is_same {
            *self.known.lock() = Some(both);
        }
        is_same
    }
}

pub(super) fn refusal() -> Answer {
    Answer::text(StatusCode::UNAUTHORIZED, "401 Unauthorized")
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
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
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
    use hyper::header::HeaderValue;

    use super::*;

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
    }
}
