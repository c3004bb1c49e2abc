//! Owns the JSON of `CONNECT`: reading it the way nats-server does, and writing it for a client. Whether
//! its credentials are good is decided elsewhere.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::json::is_default;

/// What a client says about itself. An empty text means the same as none at all.
///
/// [`Default`] is what nats-server assumes of a client that has not said anything (client protocol,
/// section 3): verbose, pedantic, with echo, protocol 0.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ConnectOptions {
    /// Deliver the client's own messages to its own subscriptions.
    pub echo: bool,
    /// Acknowledge operations with `+OK`.
    pub verbose: bool,
    /// Check the subjects of messages.
    pub pedantic: bool,
    /// The client insists on TLS; for information.
    pub tls_required: bool,
    /// Public key of the user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nkey: String,
    /// User token of operator mode. Secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// Signature of the nonce, in base64. Secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sig: String,
    /// Secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_token: String,
    /// Name of the user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Password of the user. Secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pass: String,
    /// Name of the client, for monitoring.
    pub name: String,
    /// Programming language of the client, for monitoring.
    pub lang: String,
    /// Version of the client, for monitoring.
    pub version: String,
    /// 0, or 1 for a client that can read an `INFO` at any time. A server refuses anything else.
    pub protocol: i64,
    /// Any value is refused.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// Any value is refused.
    #[serde(skip_serializing_if = "is_default")]
    pub new_account: bool,
    /// The client understands `HMSG`.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: bool,
    /// The client wants to know when nobody heard its request; needs `headers`.
    #[serde(skip_serializing_if = "is_default")]
    pub no_responders: bool,
    /// Signature of a trusted proxy. Secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_sig: String,
}

/// `CONNECT` that is not the JSON expected. nats-server closes without a word.
///
/// It says where but not what, because what stands there may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Not JSON.
    #[error("CONNECT is not JSON from byte {byte} on")]
    Syntax {
        /// Counted from 1.
        byte: usize,
    },
    /// JSON, but no object, or an object with a value of the wrong type.
    #[error("CONNECT has a value of the wrong type before byte {byte}")]
    Type {
        /// Counted from 1.
        byte: usize,
    },
}

impl From<serde_json::Error> for ConnectError {
    fn from(error: serde_json::Error) -> Self {
        let byte = error.column();
        if error.is_data() {
            Self::Type { byte }
        } else {
            Self::Syntax { byte }
        }
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            echo: true,
            verbose: true,
            pedantic: true,
            tls_required: false,
            nkey: String::new(),
            jwt: String::new(),
            sig: String::new(),
            auth_token: String::new(),
            user: String::new(),
            pass: String::new(),
            name: String::new(),
            lang: String::new(),
            version: String::new(),
            protocol: 0,
            account: String::new(),
            new_account: false,
            headers: false,
            no_responders: false,
            proxy_sig: String::new(),
        }
    }
}

impl ConnectOptions {
    /// Lays the argument of a `CONNECT` over what is known: keys in any case, unknown ones ignored, `null`
    /// and missing keys leave the value alone, the last of several wins. Bytes and escapes that make no
    /// Unicode become U+FFFD, as in Go.
    ///
    /// # Errors
    /// When it is not a JSON object or a known key has a value of the wrong type. Malformed JSON changes
    /// nothing; with a wrong type, what came before it has been taken over. The connection is to be closed
    /// anyway.
    pub fn merge_json(&mut self, json: &[u8]) -> Result<(), ConnectError> {
        // The second pass reads texts as bytes, for which the syntax is less strict.
        serde_json::from_slice::<IgnoredAny>(json)?;
        Merge(self).deserialize(&mut serde_json::Deserializer::from_slice(json))?;
        Ok(())
    }

    /// Appends the JSON text.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("plain data into memory cannot fail");
    }

    /// Reads the value of `key` into its field.
    fn merge_value<'de, M: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut M,
    ) -> Result<(), M::Error> {
        /// Longer keys are unknown ones.
        const KEY_BYTES_MAX: usize = 16;
        let mut lower = [0; KEY_BYTES_MAX];
        let Some(lower) = lower.get_mut(..key.len()) else {
            return map.next_value::<IgnoredAny>().map(drop);
        };
        lower.copy_from_slice(key.as_bytes());
        lower.make_ascii_lowercase();
        match &*lower {
            b"echo" => merge(&mut self.echo, map),
            b"verbose" => merge(&mut self.verbose, map),
            b"pedantic" => merge(&mut self.pedantic, map),
            b"tls_required" => merge(&mut self.tls_required, map),
            b"nkey" => merge_text(&mut self.nkey, map),
            b"jwt" => merge_text(&mut self.jwt, map),
            b"sig" => merge_text(&mut self.sig, map),
            b"auth_token" => merge_text(&mut self.auth_token, map),
            b"user" => merge_text(&mut self.user, map),
            b"pass" => merge_text(&mut self.pass, map),
            b"name" => merge_text(&mut self.name, map),
            b"lang" => merge_text(&mut self.lang, map),
            b"version" => merge_text(&mut self.version, map),
            b"protocol" => merge(&mut self.protocol, map),
            b"account" => merge_text(&mut self.account, map),
            b"new_account" => merge(&mut self.new_account, map),
            b"headers" => merge(&mut self.headers, map),
            b"no_responders" => merge(&mut self.no_responders, map),
            b"proxy_sig" => merge_text(&mut self.proxy_sig, map),
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }
}

/// Reads the next value of `map` into `field` unless it is `null`.
fn merge<'de, T, M>(field: &mut T, map: &mut M) -> Result<(), M::Error>
where
    T: Deserialize<'de>,
    M: MapAccess<'de>,
{
    if let Some(value) = map.next_value::<Option<T>>()? {
        *field = value;
    }
    Ok(())
}

/// The same for a text.
fn merge_text<'de, M: MapAccess<'de>>(field: &mut String, map: &mut M) -> Result<(), M::Error> {
    if let Some(Text(value)) = map.next_value::<Option<Text>>()? {
        *field = value;
    }
    Ok(())
}

/// A text that may hold halves of surrogate pairs or bytes that are not UTF-8, for instance because a client
/// cut a name in the middle of a character.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
        Ok(Text(String::from_utf8_lossy(bytes).into_owned()))
    }
}

/// Reads an object into options that exist already, which `Deserialize` cannot.
struct Merge<'o>(&'o mut ConnectOptions);

impl<'de> DeserializeSeed<'de> for Merge<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Merge<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of client options")
    }

    /// `CONNECT null` says nothing, and nats-server accepts it.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(Text(key)) = map.next_key()? {
            self.0.merge_value(&key, &mut map)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ConnectOptions {
    /// Secrets show only whether they are there.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &String| if secret.is_empty() { "" } else { "[hidden]" };
        formatter
            .debug_struct("ConnectOptions")
            .field("echo", &self.echo)
            .field("verbose", &self.verbose)
            .field("pedantic", &self.pedantic)
            .field("tls_required", &self.tls_required)
            .field("nkey", &self.nkey)
            .field("jwt", &hidden(&self.jwt))
            .field("sig", &hidden(&self.sig))
            .field("auth_token", &hidden(&self.auth_token))
            .field("user", &self.user)
            .field("pass", &hidden(&self.pass))
            .field("name", &self.name)
            .field("lang", &self.lang)
            .field("version", &self.version)
            .field("protocol", &self.protocol)
            .field("account", &self.account)
            .field("new_account", &self.new_account)
            .field("headers", &self.headers)
            .field("no_responders", &self.no_responders)
            .field("proxy_sig", &hidden(&self.proxy_sig))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(json: &[u8]) -> Option<ConnectOptions> {
        let mut options = ConnectOptions::default();
        options.merge_json(json).ok().map(|()| options)
    }

    /// Each line was put to nats-server 2.15.1: it answered or it closed without a word.
    #[test]
    fn takes_and_refuses_what_nats_server_does() {
        #[track_caller]
        fn check(json: impl AsRef<[u8]>, taken: bool) {
            assert_eq!(merged(json.as_ref()).is_some(), taken);
        }
        check("{}", true);
        check("{} ", true);
        check(" {}", true);
        check("{}\t\r", true);
        check("null", true);
        check("[]", false);
        check(r#""""#, false);
        check("", false);
        check("x", false);
        check("{", false);
        check("{}x", false);
        check("{} {}", false);
        check("\u{feff}{}", false);
        check(r#"{"verbose":1}"#, false);
        check(r#"{"verbose":"true"}"#, false);
        check(r#"{"verbose":false,}"#, false);
        check("{'verbose':false}", false);
        check(r#"{"protocol":1.0}"#, false);
        check(r#"{"protocol":1e0}"#, false);
        check(r#"{"protocol":"1"}"#, false);
        check(r#"{"protocol":99999999999999999999}"#, false);
        check(r#"{"name":5}"#, false);
        check(r#"{"name":["a"]}"#, false);
        check(r#"{"proxy_sig":5}"#, false);
        check(b"{\"name\":\"a\xFFb\"}", true);
        check(r#"{"name":"\ud800"}"#, true);
        check("{\"name\":\"a\tb\"}", false);
        check(r#"{"unknown":{"a":[1,2,{"b":null}]}}"#, true);
        check(r#"{"unknown":"\ud800"}"#, true);
        check(r#"{"unknown":1e999}"#, true);
        check(r#"{"unknown":01}"#, false);
        check("{\"unknown\":\"\x01\"}", false);
        check(b"{\"uSeR\":\"a\",\"unknown\xFF\":1}", true);
        check(
            format!("{{\"unknown\":{}{}}}", "[".repeat(200), "]".repeat(200)),
            true,
        );
    }

    #[test]
    fn values_and_keys() {
        #[track_caller]
        fn check(json: &[u8], change: impl FnOnce(&mut ConnectOptions)) {
            let mut expected = ConnectOptions::default();
            change(&mut expected);
            assert_eq!(merged(json), Some(expected));
        }
        check(b"{}", |_| {});
        check(br#"{"verbose":null,"name":null,"protocol":null}"#, |_| {});
        check(br#"{"VERBOSE":false}"#, |options| options.verbose = false);
        check(br#"{"Verbose":false,"verbose":true}"#, |_| {});
        check(br#"{"verbose":true,"VERBOSE":false}"#, |options| {
            options.verbose = false
        });
        check(br#"{"ver\u0062ose":false}"#, |options| {
            options.verbose = false
        });
        check(br#"{"protocol":1,"protocol":0}"#, |_| {});
        check(br#"{"protocol":-1}"#, |options| options.protocol = -1);
        check(br#"{"name":"\ud83d\ude00"}"#, |options| {
            options.name = "😀".into()
        });
        check(b"{\"name\":\"a\xFFb\"}", |options| {
            options.name = "a\u{fffd}b".into()
        });
        check(
            br#"{"auth_token":"t","pass":"p","sig":"s","jwt":"j"}"#,
            |options| {
                options.auth_token = "t".into();
                options.pass = "p".into();
                options.sig = "s".into();
                options.jwt = "j".into();
            },
        );
        check(
            br#"{"user":"u","nkey":"n","lang":"l","version":"v","account":"a"}"#,
            |options| {
                options.user = "u".into();
                options.nkey = "n".into();
                options.lang = "l".into();
                options.version = "v".into();
                options.account = "a".into();
            },
        );
        check(
            br#"{"headers":true,"no_responders":true,"tls_required":true}"#,
            |options| {
                options.headers = true;
                options.no_responders = true;
                options.tls_required = true;
            },
        );
        check(
            br#"{"echo":false,"pedantic":false,"new_account":true,"proxy_sig":"x"}"#,
            |options| {
                options.echo = false;
                options.pedantic = false;
                options.new_account = true;
                options.proxy_sig = "x".into();
            },
        );
    }

    #[test]
    fn a_second_connect_is_laid_over_the_first() {
        let mut options = ConnectOptions::default();
        options
            .merge_json(br#"{"verbose":false,"user":"u","pass":"p"}"#)
            .expect("valid");
        options
            .merge_json(br#"{"pedantic":false,"user":"v","pass":null}"#)
            .expect("valid");
        let expected = ConnectOptions {
            verbose: false,
            pedantic: false,
            user: "v".into(),
            pass: "p".into(),
            ..ConnectOptions::default()
        };
        assert_eq!(options, expected);
        options
            .merge_json(br#"{"user":"w"} garbage"#)
            .expect_err("malformed");
        assert_eq!(options, expected, "malformed JSON changes nothing");
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let options = ConnectOptions {
            echo: false,
            verbose: false,
            pedantic: false,
            name: "naïve \"name\"\n".into(),
            user: "u".into(),
            pass: "p".into(),
            protocol: 1,
            headers: true,
            no_responders: true,
            ..ConnectOptions::default()
        };
        let mut json = Vec::new();
        options.write_json(&mut json);
        assert!(!json.contains(&b'\n'), "a control line is one line");
        assert_eq!(merged(&json), Some(options));
    }

    #[test]
    fn secrets_do_not_show() {
        let json = br#"{"user":"me","nkey":"UPUBLIC","pass":"tell1","auth_token":"tell2","jwt":"tell3","sig":"tell4","proxy_sig":"tell5"}"#;
        let shown = format!("{:?}", merged(json).expect("valid"));
        assert!(shown.contains("me") && shown.contains("UPUBLIC"), "{shown}");
        assert!(!shown.contains("tell"), "{shown}");
        for json in [
            r#"{"pass":12345}"#,
            r#"{"verbose":"12345"}"#,
            r#"{"pass":"12345"#,
        ] {
            let error = ConnectOptions::default()
                .merge_json(json.as_bytes())
                .expect_err("malformed");
            assert!(!format!("{error} {error:?}").contains("12345"), "{error}");
        }
    }
}
