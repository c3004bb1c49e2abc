//! Public keys in the text form of nats: reading them, and verifying what their owners signed.
//!
//! The text is base 32 of a byte for the role, the 32 bytes of an Ed25519 key, and a CRC-16 over both, least byte
//! first (github.com/nats-io/nkeys).

use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD};
use ed25519_dalek::{Signature, VerifyingKey};

/// What a key is for, by the first letter of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `A`.
    Account,
    /// `U`.
    User,
}

impl Role {
    fn prefix(self) -> u8 {
        match self {
            Self::Account => 0,
            Self::User => 20 << 3,
        }
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey(VerifyingKey);

/// Role, key and check.
const DECODED_BYTES: usize = 1 + 32 + 2;

impl PublicKey {
    /// Reads a key of this role; `None` if it is none.
    pub(crate) fn parse(text: &str, role: Role) -> Option<Self> {
        let decoded: [u8; DECODED_BYTES] =
            BASE32_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()?;
        let (body, check) = decoded.split_at(DECODED_BYTES - 2);
        let is_intact = check == crc16(body).to_le_bytes().as_slice();
        if body[0] != role.prefix() || !is_intact {
            return None;
        }
        let key: &[u8; 32] = body[1..].try_into().ok()?;
        VerifyingKey::from_bytes(key).ok().map(Self)
    }

    /// Whether `signature`, in base 64 for URLs without padding or the ordinary one, is this key's owner's for
    /// `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let text = signature.as_bytes();
        let decoded = BASE64URL_NOPAD
            .decode(text)
            .or_else(|_| BASE64.decode(text));
        decoded
            .ok()
            .and_then(|bytes| Signature::from_slice(&bytes).ok())
            .is_some_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

/// CRC-16 with the polynomial of XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    /// The owner of a key, for tests.
    pub(crate) struct KeyPair(SigningKey);

    impl KeyPair {
        pub(crate) fn new(seed: u8) -> Self {
            Self(SigningKey::from_bytes(&[seed; 32]))
        }

        pub(crate) fn public(&self) -> String {
            self.text(Role::User)
        }

        fn text(&self, role: Role) -> String {
            let mut bytes = vec![role.prefix()];
            bytes.extend_from_slice(self.0.verifying_key().as_bytes());
            bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
            BASE32_NOPAD.encode(&bytes)
        }

        pub(crate) fn sign(&self, message: &str) -> String {
            BASE64URL_NOPAD.encode(&self.0.sign(message.as_bytes()).to_bytes())
        }
    }

    #[test]
    fn a_key_made_by_others() {
        // The pair that nats-server's documentation shows.
        let key = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
        assert!(PublicKey::parse(key, Role::User).is_some());
        assert!(PublicKey::parse(key, Role::Account).is_none());
    }

    #[test]
    fn the_text_must_be_exact() {
        let text = KeyPair::new(1).public();
        assert!(PublicKey::parse(&text, Role::User).is_some());
        for broken in [
            String::new(),
            text[1..].to_owned(),
            format!("{text}A"),
            text.to_lowercase(),
            format!("{}A", &text[..text.len() - 1]),
            text.replacen('U', "A", 1),
            KeyPair::new(1).text(Role::Account),
            "U".repeat(10_000),
        ] {
            assert!(PublicKey::parse(&broken, Role::User).is_none(), "{broken}");
        }
    }

    #[test]
    fn signatures() {
        let pair = KeyPair::new(2);
        let key = PublicKey::parse(&pair.public(), Role::User).expect("a key");
        let signature = pair.sign("nonce");
        assert!(key.verifies(b"nonce", &signature));
        let bytes = BASE64URL_NOPAD
            .decode(signature.as_bytes())
            .expect("base 64");
        assert!(key.verifies(b"nonce", &BASE64.encode(&bytes)));
        assert!(!key.verifies(b"other", &signature));
        assert!(!key.verifies(b"", &signature));
        assert!(!key.verifies(b"nonce", &KeyPair::new(3).sign("nonce")));
        for broken in [
            "",
            "A",
            &signature[..80],
            "!!!!",
            &BASE64URL_NOPAD.encode(&[0; 64]),
            &BASE64URL_NOPAD.encode(&[0; 31]),
        ] {
            assert!(!key.verifies(b"nonce", broken), "{broken}");
        }
    }
}
