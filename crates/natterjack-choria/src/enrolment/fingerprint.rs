//! Fingerprints, by which people recognise certificates and requests.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// The SHA-256 sum of something, in the form that Puppet shows: `(SHA256) AA:BB:…`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// Why a text is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no SHA-256 fingerprint, which has 64 hexadecimal digits, with or without colons between them"
)]
pub struct FingerprintError(String);

impl Fingerprint {
    /// That of these bytes; for certificates and requests, their DER.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(SHA256) ")?;
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(formatter, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads what Puppet shows, what openssl shows (`sha256 Fingerprint=AA:BB:…`), and mere digits.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let wrong = || FingerprintError(text.to_owned());
        let start = text.rfind(['=', ')']).map_or(0, |place| place + 1);
        let digits: String = text[start..]
            .chars()
            .filter(|letter| *letter != ':' && !letter.is_whitespace())
            .collect();
        let bytes = data_encoding::HEXLOWER_PERMISSIVE
            .decode(digits.as_bytes())
            .map_err(|_| wrong())?;
        bytes.try_into().map(Self).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints() {
        // The sum of "abc", FIPS 180-4.
        let shown = "(SHA256) BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD";
        let found = Fingerprint::of(b"abc");
        assert_eq!(found.to_string(), shown);
        let colons = &shown[9..];
        for text in [
            shown,
            colons,
            &colons.to_lowercase(),
            &colons.replace(':', ""),
            &format!("sha256 Fingerprint={colons}"),
            &format!(" {colons}\n"),
        ] {
            assert_eq!(text.parse(), Ok(found), "{text}");
        }
        for text in [
            "",
            "ba78",
            &colons[3..],
            &format!("{colons}:00"),
            &colons.replace('B', "G"),
        ] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
