//! The outermost layer: headers for those who pass a message on, and the rest as bytes.

use serde::{Deserialize, Serialize};

use super::{FormatError, base64, is_protocol, object, read};
use crate::identity::Identity;

const PROTOCOL: &str = "choria:transport:1";

/// How the content is written. Every reader takes both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wrapping {
    /// Lines of sixty letters, as MCollective in Ruby writes them.
    Lines,
    /// One line, as Choria in Go does.
    #[default]
    None,
}

/// A message as it goes over NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The secure message. See [`super::SecureRequest`] and [`super::SecureReply`].
    pub content: Vec<u8>,
    /// For those on the way. Nothing proves that they are true.
    pub headers: Headers,
}

/// What those on the way need, and write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers {
    /// The way through a federation, if it takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation: Option<Federation>,
    /// Who sent it, by his own word.
    #[serde(default, rename = "mc_sender", skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The way that it came, if somebody wants to know.
    #[serde(default, rename = "seen-by", skip_serializing_if = "Option::is_none")]
    pub seen_by: Option<Vec<Hop>>,
    /// Where answers go; of requests alone. This counts, and not the reply subject of NATS, which Ruby sets and Go does not.
    #[serde(default, rename = "reply-to", skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
}

/// A station: the server it came from, who it is, and the server it went to, as far as they were written.
pub type Hop = Vec<String>;

/// How a message gets through a federation. Written in this order, which is that of MCollective.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Federation {
    /// Subjects in the collective that it is for.
    #[serde(default, rename = "target", skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Identifier of the request.
    #[serde(default, rename = "req", skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Where answers go in the federation.
    #[serde(default, rename = "reply-to", skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
}

#[derive(Serialize)]
struct Written<'a> {
    protocol: &'a str,
    data: &'a str,
    headers: &'a Headers,
}

#[derive(Deserialize)]
struct Found {
    /// The oldest senders have none.
    protocol: Option<String>,
    data: String,
    #[serde(deserialize_with = "object")]
    headers: Headers,
}

impl Transport {
    /// A message of this machine's.
    #[must_use]
    pub fn new(content: Vec<u8>, sender: &Identity) -> Self {
        let headers = Headers {
            sender: Some(sender.to_string()),
            ..Headers::default()
        };
        Self { content, headers }
    }

    /// As bytes for NATS.
    #[must_use]
    pub fn to_bytes(&self, wrapping: Wrapping) -> Vec<u8> {
        let data = match wrapping {
            Wrapping::Lines => base64::encode_wrapped(&self.content),
            Wrapping::None => base64::encode(&self.content),
        };
        let written = Written {
            protocol: PROTOCOL,
            data: &data,
            headers: &self.headers,
        };
        serde_json::to_vec(&written).expect("text and lists of text have a JSON form")
    }

    /// Reads what came from NATS.
    ///
    /// # Errors
    /// If it is no message of this protocol.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let found: Found = read("transport message", bytes)?;
        if let Some(protocol) = &found.protocol {
            is_protocol(protocol, PROTOCOL)?;
        }
        Ok(Self {
            content: base64::decode("data", &found.data)?,
            headers: found.headers,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Transport {
        let sender = Identity::new("client.example.net").unwrap();
        let mut transport = Transport::new(b"{\"a\":1}".to_vec(), &sender);
        transport.headers.reply_to = Some("mcollective.reply.x.1.1".into());
        transport
    }

    #[test]
    fn requests_look_as_those_of_choria() {
        let expected = r#"{"protocol":"choria:transport:1","data":"eyJhIjoxfQ==","headers":{"mc_sender":"client.example.net","reply-to":"mcollective.reply.x.1.1"}}"#;
        assert_eq!(
            String::from_utf8(sample().to_bytes(Wrapping::None)).unwrap(),
            expected
        );
        let expected = expected.replace("fQ==", "fQ==\\n");
        assert_eq!(
            String::from_utf8(sample().to_bytes(Wrapping::Lines)).unwrap(),
            expected
        );
    }

    #[test]
    fn headers_of_federations_and_ways() {
        let mut transport = sample();
        transport.headers.federation = Some(Federation {
            request: Some("77".into()),
            targets: vec!["a.node.b".into()],
            reply_to: None,
        });
        transport.headers.seen_by = Some(vec![vec!["client".into(), "nats1:4222".into()]]);
        for wrapping in [Wrapping::Lines, Wrapping::None] {
            let read = Transport::from_bytes(&transport.to_bytes(wrapping)).unwrap();
            assert_eq!(read, transport);
        }
    }

    #[test]
    fn the_oldest_name_no_protocol_and_others_are_refused() {
        let old = br#"{"data":"YQ==\n","headers":{"mc_sender":"n","other":[1]}}"#;
        assert_eq!(Transport::from_bytes(old).unwrap().content, b"a");
        for text in [
            "",
            "x",
            "[]",
            "1",
            "{}",
            r#"{"data":"YQ=="}"#,
            r#"{"data":"YQ==","headers":[]}"#,
            r#"{"data":"Y","headers":{}}"#,
            r#"{"data":7,"headers":{}}"#,
            r#"{"protocol":"choria:transport:2","data":"YQ==","headers":{}}"#,
            r#"{"data":"YQ==","headers":{"reply-to":7}}"#,
            r#"{"data":"YQ==","headers":{"seen-by":7}}"#,
        ] {
            assert!(Transport::from_bytes(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = Transport::from_bytes(&bytes);
        }

        #[test]
        fn what_is_written_is_read(content: Vec<u8>, is_wrapped: bool) {
            let transport = Transport { content, headers: Headers::default() };
            let wrapping = if is_wrapped { Wrapping::Lines } else { Wrapping::None };
            prop_assert_eq!(Transport::from_bytes(&transport.to_bytes(wrapping)).unwrap(), transport);
        }
    }
}
