//! Comparing a secret with what is configured: clear text in constant time, or a bcrypt hash.
//!
//! A hash takes 50 to 300 ms of one processor on purpose. A session therefore never computes one: it hands out a
//! [`PasswordCheck`], and whoever drives the session runs it where it holds up nobody.

use core::fmt;

use data_encoding::{BitOrder, Encoding, Specification};
use subtle::ConstantTimeEq;

use super::Secret;

/// Whether `secret` is a bcrypt hash and not a clear text (nats-server `isBcrypt`).
#[must_use]
pub fn is_bcrypt(secret: &str) -> bool {
    matches!(
        secret.as_bytes(),
        [b'$', b'2', b'a' | b'b' | b'x' | b'y', b'$', tens, units, b'$', ..]
            if tens.is_ascii_digit() && units.is_ascii_digit()
    )
}

/// A comparison that takes long: plain data, to be run on a thread where that does not matter.
#[derive(Clone)]
pub struct PasswordCheck {
    stored: Secret,
    given: Secret,
    /// Whether a match counts. It does not if the user is unknown and the check only takes the time that the
    /// check of a known one takes.
    counts: bool,
}

impl PasswordCheck {
    /// Compares `given` with a secret in clear text or its bcrypt hash.
    #[must_use]
    pub fn new(stored: &Secret, given: &str) -> Self {
        Self {
            stored: stored.clone(),
            given: given.into(),
            counts: true,
        }
    }

    /// Takes as long as the check against `stored`, and fails.
    pub(super) fn in_vain(stored: &Secret, given: &str) -> Self {
        Self {
            counts: false,
            ..Self::new(stored, given)
        }
    }

    /// Whether it is more than a waste of time on purpose.
    pub(crate) fn counts(&self) -> bool {
        self.counts
    }

    /// Compares; takes up to seconds of one processor, by the cost the hash was made with.
    #[must_use]
    pub fn run(&self) -> bool {
        same(&self.stored, self.given.expose()) & self.counts
    }
}

impl fmt::Debug for PasswordCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordCheck")
    }
}

/// What comes of comparing a secret with one that is configured.
pub(crate) enum Compared {
    Same,
    Different,
    /// That takes a while.
    Later(PasswordCheck),
}

/// Compares `given` with the secret that is stored, in clear text or as a hash.
pub(crate) fn compare(stored: &Secret, given: &str) -> Compared {
    if is_bcrypt(stored.expose()) {
        Compared::Later(PasswordCheck::new(stored, given))
    } else if same(stored, given) {
        Compared::Same
    } else {
        Compared::Different
    }
}

/// Whether `given` is the secret that is stored, in clear text or as a hash.
pub(super) fn same(stored: &Secret, given: &str) -> bool {
    let stored = stored.expose();
    if is_bcrypt(stored) {
        return verify(stored, given.as_bytes()).unwrap_or(false);
    }
    stored.as_bytes().ct_eq(given.as_bytes()).into()
}

/// The bytes of a password that bcrypt looks at, the terminator included.
const KEY_BYTES_MAX: usize = 72;

/// Computes the hash of `password` as `stored` was made; `None` if `stored` is no whole hash. The letter behind the 2
/// makes no difference, as on nats-server.
fn verify(stored: &str, password: &[u8]) -> Option<bool> {
    let (cost, rest) = stored.get(4..)?.split_once('$')?;
    let cost: u32 = cost.parse().ok().filter(|cost| (4..=31).contains(cost))?;
    let base64 = encoding();
    let salt = base64.decode(rest.get(..22)?.as_bytes()).ok()?;
    let expected = rest.get(22..53).filter(|_| rest.len() == 53)?;
    let mut key = zeroize::Zeroizing::new(password.to_vec());
    key.push(0);
    key.truncate(KEY_BYTES_MAX);
    let hash = bcrypt::bcrypt(cost, salt.try_into().ok()?, &key);
    // The last of the 24 bytes is not part of the text.
    let text = base64.encode(&hash[..23]);
    Some(text.as_bytes().ct_eq(expected.as_bytes()).into())
}

/// Base 64 with the digits of bcrypt.
fn encoding() -> Encoding {
    let mut specification = Specification::new();
    specification
        .symbols
        .push_str("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
    specification.bit_order = BitOrder::MostSignificantFirst;
    // Hashes made by others may have set bits that no byte needs.
    specification.check_trailing_bits = false;
    specification.encoding().expect("64 different symbols")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `s3cret` with cost 4, made by another implementation (libxcrypt).
    const HASH: &str = "$2a$04$BmSaDe1cdKljxg0nnPDwaunlfgNA2wGdlA9qCctDVN.f82Cq6au1m";

    #[test]
    fn clear_text_is_compared_whole() {
        let stored = Secret::from("s3cret");
        assert!(same(&stored, "s3cret"));
        for wrong in ["", "s3cre", "s3cret!", "S3cret"] {
            assert!(!same(&stored, wrong), "{wrong}");
        }
    }

    #[test]
    fn what_is_a_hash() {
        for hash in ["$2a$10$", "$2b$04$abc", "$2x$31$", HASH, "$2y$99$"] {
            assert!(is_bcrypt(hash), "{hash}");
        }
        for text in [
            "", "$", "$2a$", "$2c$10$", "$2a$1$0", "2a$10$", "$2a$10", "$1a$10$",
        ] {
            assert!(!is_bcrypt(text), "{text}");
        }
    }

    #[test]
    fn hashes_of_every_letter() {
        for letter in ["a", "b", "x", "y"] {
            let stored = Secret::from(HASH.replacen('a', letter, 1));
            assert!(same(&stored, "s3cret"), "{letter}");
            assert!(!same(&stored, "s3cret!") && !same(&stored, ""), "{letter}");
        }
    }

    #[test]
    fn broken_hashes_match_nothing() {
        for broken in [
            "$2a$04$",
            &HASH[..59],
            &format!("{HASH}x"),
            &HASH.replace("$04$", "$03$"),
            &HASH.replace("$04$", "$32$"),
            &HASH.replace('.', "ä"),
            "$2a$04$!!!!!!!!!!!!!!!!!!!!!!nlfgNA2wGdlA9qCctDVN.f82Cq6au1m",
        ] {
            assert!(!same(&Secret::from(broken), "s3cret"), "{broken}");
            assert!(!same(&Secret::from(broken), broken), "{broken}");
        }
    }

    #[test]
    fn only_72_bytes_count() {
        let long = "x".repeat(80);
        let salt = [7; 16];
        let mut key = long.as_bytes()[..72].to_vec();
        key.truncate(KEY_BYTES_MAX);
        let base64 = encoding();
        let stored = format!(
            "$2b$04${}{}",
            base64.encode(&salt),
            base64.encode(&bcrypt::bcrypt(4, salt, &key)[..23])
        );
        assert!(same(&stored.as_str().into(), &long));
        assert!(same(&stored.as_str().into(), &long[..72]));
        assert!(!same(&stored.as_str().into(), &long[..71]));
    }

    #[test]
    fn a_check_in_vain_fails_with_the_right_secret_too() {
        let stored = Secret::from(HASH);
        assert!(PasswordCheck::new(&stored, "s3cret").run());
        assert!(!PasswordCheck::in_vain(&stored, "s3cret").run());
    }

    #[test]
    fn debug_output_hides_secrets() {
        let text = format!("{:?}", PasswordCheck::new(&"stored".into(), "given"));
        assert!(!text.contains("stored") && !text.contains("given"));
    }
}
