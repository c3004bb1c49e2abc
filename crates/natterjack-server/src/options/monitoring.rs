//! Where the monitoring pages are served.

use std::fmt;

use natterjack_engine::access::{Secret, is_bcrypt};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Greatest cost of a hash that strangers may have a token compared with: about a second of a processor.
const COST_MAX: u32 = 14;

/// The monitoring pages' listeners; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Monitoring {
    /// In clear text.
    pub http: Option<Endpoint>,
    /// With the certificates of the clients' TLS.
    pub https: Option<Endpoint>,
    /// What all paths begin with; empty or `/` for nothing.
    pub base_path: String,
    /// What whoever asks for a page must know, in clear text or as a bcrypt hash: sent as a bearer token, or as the password
    /// of HTTP's basic authentication. `None`: nothing.
    pub token: Option<Secret>,
}

/// Why nobody could show a token, or not soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenProblem {
    /// It would keep nobody out, and not to have one does so openly.
    #[error("must not be empty; leave it out if everybody may read the pages")]
    Empty,
    /// Not everybody can send it in a header of HTTP.
    #[error(
        "must be of visible ASCII characters, with blanks only between them; what is not can be told as its bcrypt hash"
    )]
    NotVisible,
    /// To compare it takes long, and whoever is not known may have it compared.
    #[error(
        "is a bcrypt hash of cost {0}, which takes seconds to compare; {COST_MAX} is the most, and 11 is usual"
    )]
    Cost(u32),
}

impl Monitoring {
    pub(super) fn token_problem(&self) -> Option<TokenProblem> {
        let token = self.token.as_ref()?.expose();
        if is_bcrypt(token) {
            let cost = token.get(4..6)?.parse().ok()?;
            return (cost > COST_MAX).then_some(TokenProblem::Cost(cost));
        }
        if token.is_empty() {
            return Some(TokenProblem::Empty);
        }
        let is_visible = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        let is_sent = token.bytes().all(is_visible) && token.trim() == token;
        (!is_sent).then_some(TokenProblem::NotVisible)
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// Port; 0 takes any free one.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_help_nobody_are_found() {
        let hash =
            |cost| format!("$2b${cost}$BmSaDe1cdKljxg0nnPDwaunlfgNA2wGdlA9qCctDVN.f82Cq6au1m");
        for (token, problem) in [
            ("a long random text", None),
            ("~", None),
            ("", Some(TokenProblem::Empty)),
            (" ", Some(TokenProblem::NotVisible)),
            ("end ", Some(TokenProblem::NotVisible)),
            ("two\nlines", Some(TokenProblem::NotVisible)),
            ("t\u{f6}n", Some(TokenProblem::NotVisible)),
            (&hash("04"), None),
            (&hash("14"), None),
            (&hash("15"), Some(TokenProblem::Cost(15))),
        ] {
            let options = Monitoring {
                token: Some(token.into()),
                ..Monitoring::default()
            };
            assert_eq!(options.token_problem(), problem, "{token}");
        }
        assert_eq!(Monitoring::default().token_problem(), None);
    }
}
