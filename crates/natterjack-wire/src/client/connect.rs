//! Owns the JSON of `CONNECT`: reading it the way nats-server does, and writing it for a client. Whether
//! its credentials are good is decided elsewhere.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

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
    #[serde(skip_serializing_if = "is_false")]
    pub new_account: bool,
    /// The client understands `HMSG`.
    #[serde(skip_serializing_if = "is_false")]
    pub headers: bool,
    /// The client wants to know when nobody heard its request; needs `headers`.
    #[serde(skip_serializing_if = "is_false")]
    pub no_responders: bool,
    /// Signature of a trusted proxy. Secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_sig: String,
}

/// `CONNECT` that is not the JSON expected. nats-server closes without a word.
#[derive(Debug, Error)]
#[error("malformed CONNECT: {0}")]
pub struct ConnectError(#[from] serde_json::Error);

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
    /// and missing keys leave the value alone, the last of several wins. Bytes that are not UTF-8 become
    /// U+FFFD, as in Go.
    ///
    /// # Errors
    /// When it is not a JSON object or a known key has a value of the wrong type. What came before the
    /// fault may have been taken over; the connection is to be closed anyway.
    pub fn merge_json(&mut self, json: &[u8]) -> Result<(), ConnectError> {
        let json = String::from_utf8_lossy(json);
        let mut deserializer = serde_json::Deserializer::from_str(&json);
        Merge(self).deserialize(&mut deserializer)?;
        Ok(deserializer.end()?)
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
            b"nkey" => merge(&mut self.nkey, map),
            b"jwt" => merge(&mut self.jwt, map),
            b"sig" => merge(&mut self.sig, map),
            b"auth_token" => merge(&mut self.auth_token, map),
            b"user" => merge(&mut self.user, map),
            b"pass" => merge(&mut self.pass, map),
            b"name" => merge(&mut self.name, map),
            b"lang" => merge(&mut self.lang, map),
            b"version" => merge(&mut self.version, map),
            b"protocol" => merge(&mut self.protocol, map),
            b"account" => merge(&mut self.account, map),
            b"new_account" => merge(&mut self.new_account, map),
            b"headers" => merge(&mut self.headers, map),
            b"no_responders" => merge(&mut self.no_responders, map),
            b"proxy_sig" => merge(&mut self.proxy_sig, map),
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
        while let Some(key) = map.next_key::<String>()? {
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

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}
