//! In which encoding an answer goes out: whoever asks says in a header of the request what it can read (nats-server
//! `getAcceptEncoding`).

use natterjack_wire::headers::Headers;
use natterjack_wire::s2;

/// What is said in answer, or of its own accord.
pub(super) struct Body {
    /// The header block; empty if there is none.
    pub(super) header: &'static [u8],
    pub(super) payload: Vec<u8>,
}

impl From<Vec<u8>> for Body {
    /// As it is, without a word about it.
    fn from(payload: Vec<u8>) -> Self {
        Self {
            header: b"",
            payload,
        }
    }
}

/// What can be read by whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// It has not said.
    Unsaid,
    Snappy,
    /// It named only what is not spoken here, gzip included.
    Unknown,
}

impl Encoding {
    /// By the header block of a request.
    pub(super) fn accepted(header: &[u8]) -> Self {
        let headers = Headers::parse(header).ok();
        let accepted = headers.and_then(|headers| headers.first(b"Accept-Encoding"));
        Self::named(accepted.unwrap_or_default())
    }

    /// By the value of that header, which nats-server does not take apart either.
    pub(super) fn named(accepted: &[u8]) -> Self {
        let names = accepted.trim_ascii().to_ascii_lowercase();
        let has = |wanted: &[u8]| names.windows(wanted.len()).any(|part| part == wanted);
        match names.is_empty() {
            true => Self::Unsaid,
            false if has(b"snappy") || has(b"s2") => Self::Snappy,
            false => Self::Unknown,
        }
    }

    pub(super) fn apply(self, payload: Vec<u8>) -> Body {
        match self {
            Self::Unsaid => payload.into(),
            Self::Snappy => Body {
                header: b"NATS/1.0\r\nContent-Encoding: snappy\r\n\r\n",
                payload: s2::snappy(&payload),
            },
            Self::Unknown => Body {
                header: b"NATS/1.0\r\nContent-Encoding: identity\r\n\r\n",
                payload,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_is_found_where_it_is_said() {
        let check = |lines: &str, expected: Encoding| {
            let header = format!("NATS/1.0\r\n{lines}\r\n");
            assert_eq!(Encoding::accepted(header.as_bytes()), expected, "{lines}");
        };
        check("", Encoding::Unsaid);
        check("Accept-Encoding:\r\n", Encoding::Unsaid);
        check("Accept-Encoding: snappy\r\n", Encoding::Snappy);
        check("X: 1\r\nAccept-Encoding:S2\r\n", Encoding::Snappy);
        check("Accept-Encoding: gzip, Snappy\r\n", Encoding::Snappy);
        check("Accept-Encoding: gzip\r\n", Encoding::Unknown);
        check("Accept-Encoding: br\r\n", Encoding::Unknown);
        check("X-Accept-Encoding: snappy\r\n", Encoding::Unsaid);
        assert_eq!(Encoding::accepted(b""), Encoding::Unsaid);
    }
}
