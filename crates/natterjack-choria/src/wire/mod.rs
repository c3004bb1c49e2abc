//! What travels: the layers of protocol version 1, each a JSON object of its own.
//!
//! | layer | type | its content |
//! | --- | --- | --- |
//! | transport | [`Transport`] | in base 64, the layer below; who may read what is in its headers: anybody |
//! | security | [`SecureRequest`], [`SecureReply`] | as a JSON *string*, the layer below, with a signature, or a hash |
//! | message | [`Request`], [`Reply`] | as text, what an agent understands, with an envelope: who, when, to whom |
//!
//! Signatures and hashes are over the exact bytes of that string. So a layer is looked into only after what is around it has
//! been found good, and never written anew.
//!
//! Nothing here panics whatever a peer sends; what is wrong is said by [`FormatError`].

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

mod base64;
mod reply;
mod request;
mod secure;
mod transport;

pub use reply::Reply;
pub use request::Request;
pub use secure::{KeyError, Proven, SecureReply, SecureRequest, SignatureError, SigningKey};
pub use transport::{Federation, Headers, Hop, Transport, Wrapping};

/// Longest message that is looked at, in bytes, on any layer. Brokers take a MiB by default.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Why bytes are not the message they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// It is longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message of {bytes} bytes is too large")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// It is no JSON, or has not the fields it needs.
    #[error("it is no {layer}: {reason}")]
    Json {
        /// What it should be.
        layer: &'static str,
        /// What is wrong.
        reason: serde_json::Error,
    },
    /// It is something else, or of another version.
    #[error("its protocol is {found:?} instead of {expected:?}")]
    Protocol {
        /// What it calls itself.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// Bytes that are not in base 64.
    #[error("{field} is not in base 64")]
    Base64 {
        /// Where.
        field: &'static str,
    },
    /// Bytes that are no text.
    #[error("{layer} is not text")]
    Text {
        /// What.
        layer: &'static str,
    },
    /// A value that must not be.
    #[error("{field} is {found:?}: {reason}")]
    Value {
        /// Where.
        field: &'static str,
        /// What is there.
        found: String,
        /// What should be.
        reason: &'static str,
    },
}

fn read<'a, T: Deserialize<'a>>(layer: &'static str, bytes: &'a [u8]) -> Result<T, FormatError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(FormatError::TooLarge { bytes: bytes.len() });
    }
    parse(bytes).map_err(|reason| FormatError::Json { layer, reason })
}

/// An object and nothing after it.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let fields = object(&mut reader)?;
    reader.end()?;
    Ok(fields)
}

/// An object, and not the list of its values, which serde takes as well.
fn object<'a, T: Deserialize<'a>, D: Deserializer<'a>>(reader: D) -> Result<T, D::Error> {
    struct Fields<T>(PhantomData<T>);

    impl<'a, T: Deserialize<'a>> Visitor<'a> for Fields<T> {
        type Value = T;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(self, fields: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(fields))
        }
    }

    reader.deserialize_map(Fields(PhantomData))
}

/// The innermost layer, of requests as of replies; their envelopes differ.
#[derive(Serialize, Deserialize)]
struct Layer<E> {
    protocol: String,
    message: String,
    #[serde(
        deserialize_with = "object",
        bound(deserialize = "E: Deserialize<'de>")
    )]
    envelope: E,
}

fn is_protocol(found: &str, expected: &'static str) -> Result<(), FormatError> {
    if found == expected {
        return Ok(());
    }
    Err(FormatError::Protocol {
        found: found.chars().take(100).collect(),
        expected,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::filter::Filter;
    use crate::identity::{CallerId, Identity};

    /// An RSA key and a certificate of it, made for these tests with
    /// `openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=rip.mcollective -days 36500`.
    const KEY: &str = include_str!("../../tests/data/rip.mcollective.key.pem");
    const CERTIFICATE: &str = include_str!("../../tests/data/rip.mcollective.pem");

    fn request() -> Request {
        Request {
            body: r#"{"agent":"rpcutil","action":"ping"}"#.into(),
            id: "a1b2c3d4e5f60718293a4b5c6d7e8f90".into(),
            sender: Identity::new("client.example.net").unwrap(),
            caller: CallerId::of_certificate("rip.mcollective").unwrap(),
            collective: "mcollective".into(),
            agent: "rpcutil".into(),
            lifetime: Duration::from_secs(60),
            time: UNIX_EPOCH + Duration::from_secs(1_795_289_687),
            filter: Filter::default(),
        }
    }

    fn signed(text: &str) -> SecureRequest {
        let key = SigningKey::from_pem(KEY.as_bytes()).unwrap();
        SecureRequest::sign(text.into(), &key, CERTIFICATE)
    }

    fn read_back(secure: &SecureRequest) -> Result<Request, Box<dyn std::error::Error>> {
        let certificate = &secure.certificates()?[0];
        Ok(Request::from_proven(secure.prove(certificate)?)?)
    }

    #[test]
    fn requests_look_as_those_of_choria() {
        let text = concat!(
            r#"{"protocol":"choria:request:1","message":"{\"agent\":\"rpcutil\",\"action\":\"ping\"}","#,
            r#""envelope":{"requestid":"a1b2c3d4e5f60718293a4b5c6d7e8f90","senderid":"client.example.net","#,
            r#""callerid":"choria=rip.mcollective","#,
            r#""filter":{"fact":[],"cf_class":[],"agent":[],"identity":[],"compound":[]},"#,
            r#""collective":"mcollective","agent":"rpcutil","ttl":60,"time":1795289687}}"#
        );
        assert_eq!(request().to_text(), text);
        let secure = signed(text);
        for wrapping in [Wrapping::Lines, Wrapping::None] {
            let bytes = secure.to_bytes(wrapping);
            let read = SecureRequest::from_bytes(&bytes).unwrap();
            assert_eq!(read, secure);
            assert_eq!(read_back(&read).unwrap(), request());
        }
        let lines = String::from_utf8(secure.to_bytes(Wrapping::Lines)).unwrap();
        assert!(lines.starts_with(r#"{"protocol":"choria:secure:request:1","message":"{\"prot"#));
        assert!(lines.contains(r#"==","pubcert":"-----BEGIN CERTIFICATE-----\n"#));
    }

    #[test]
    fn what_was_changed_is_not_proven() {
        let secure = signed(&request().to_text());
        let bytes = String::from_utf8(secure.to_bytes(Wrapping::None)).unwrap();
        let other = bytes.replace("rpcutil", "service");
        let changed = SecureRequest::from_bytes(other.as_bytes()).unwrap();
        let certificate = &secure.certificates().unwrap()[0];
        assert_eq!(changed.prove(certificate), Err(SignatureError::Mismatch));
        let none = bytes.replace("BEGIN CERT", "BEGIN CART");
        let none = SecureRequest::from_bytes(none.as_bytes()).unwrap();
        assert_eq!(none.certificates(), Err(SignatureError::Certificate));
    }

    #[test]
    fn what_is_proven_but_no_request() {
        let good = request().to_text();
        for (from, to) in [
            ("choria:request:1", "choria:request:2"),
            ("choria=rip.mcollective", "rip"),
            ("client.example.net", "a b"),
            (r#""ttl":60"#, r#""ttl":-1"#),
            (r#""ttl":60"#, r#""ttl":60,"more":1"#),
            (r#""time":1795289687"#, r#""time":"x""#),
            ("a1b2c3d4e5f60718293a4b5c6d7e8f90", "a1b2"),
        ] {
            let text = good.replace(from, to);
            assert_ne!(text, good);
            assert!(read_back(&signed(&text)).is_err(), "{text}");
        }
        for text in ["", "{}", "[]", "null", "ping"] {
            assert!(read_back(&signed(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn requests_are_good_for_a_while() {
        let request = request();
        let after = |seconds| request.time + Duration::from_secs(seconds);
        assert!(!request.is_out_of_date(after(0)));
        assert!(!request.is_out_of_date(after(60)));
        assert!(request.is_out_of_date(after(61)));
        assert!(!request.is_out_of_date(request.time - Duration::from_secs(60)));
        assert!(request.is_out_of_date(request.time - Duration::from_secs(61)));
    }

    #[test]
    fn replies_look_as_those_of_choria() {
        let reply = Reply {
            body: "pong".into(),
            request_id: request().id,
            sender: Identity::new("node1.example.net").unwrap(),
            agent: "discovery".into(),
            time: request().time,
        };
        let text = concat!(
            r#"{"protocol":"choria:reply:1","message":"pong","#,
            r#""envelope":{"senderid":"node1.example.net","requestid":"a1b2c3d4e5f60718293a4b5c6d7e8f90","#,
            r#""agent":"discovery","time":1795289687}}"#
        );
        assert_eq!(reply.to_text(), text);
        let bytes = SecureReply::new(text.into()).to_bytes();
        let opened = SecureReply::open(&bytes).unwrap();
        assert_eq!(Reply::from_text(&opened).unwrap(), reply);
        let changed = String::from_utf8(bytes).unwrap().replace("pong", "ping");
        assert!(matches!(
            SecureReply::open(changed.as_bytes()),
            Err(FormatError::Value { field: "hash", .. })
        ));
    }

    #[test]
    fn keys_that_cannot_sign() {
        assert!(matches!(
            SigningKey::from_pem(CERTIFICATE.as_bytes()),
            Err(KeyError::Pem)
        ));
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let error = SigningKey::from_pem(other.as_bytes()).unwrap_err();
        assert!(matches!(error, KeyError::NotRsa), "{error}");
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, text: String) {
            let _ = SecureReply::open(&bytes);
            let _ = Reply::from_text(&text);
            let _ = Request::from_proven(Proven { message: &text });
            if let Ok(secure) = SecureRequest::from_bytes(&bytes) {
                let _ = read_back(&secure);
            }
        }

        #[test]
        fn bodies_travel_unchanged(body: String) {
            let request = Request { body, ..request() };
            prop_assert_eq!(&Request::from_proven(Proven { message: &request.to_text() }).unwrap(), &request);
        }
    }
}
