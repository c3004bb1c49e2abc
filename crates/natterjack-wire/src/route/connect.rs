//! Owns the JSON of `CONNECT` as routes use it. Whether its credentials are good is decided elsewhere.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::client::ConnectError;
use crate::json::{is_default, lenient};

/// What a server that dialled another says of itself (route protocol, section 2). The keys are written in the
/// order of the fields, which is nats-server's, and those without a value are left out.
///
/// [`Default`] has nothing set. A server that dials says at least `echo`, `headers`, `lnoc`, its id as `name` and
/// its `cluster`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteConnect {
    /// Always true.
    pub echo: bool,
    /// The other side is to acknowledge with `+OK`; always false.
    pub verbose: bool,
    /// Always false.
    pub pedantic: bool,
    /// Name of the cluster's user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Password of the cluster's user. Secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pass: String,
    /// The server's cluster has TLS.
    pub tls_required: bool,
    /// Messages may have headers.
    pub headers: bool,
    /// The id of the server, not its name.
    pub name: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Whether that name was made up.
    #[serde(skip_serializing_if = "is_default")]
    pub cluster_dynamic: bool,
    /// The server understands `LS+` and `LMSG`.
    #[serde(skip_serializing_if = "is_default")]
    pub lnoc: bool,
    /// Its `LS-` names the origin. 2.15 says so in its `INFO` only.
    #[serde(skip_serializing_if = "is_default")]
    pub lnocu: bool,
    /// Sent by 2.15; without effect on the lines.
    #[serde(skip_serializing_if = "is_default")]
    pub ln: bool,
    /// A gateway that missed its port says its name here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// A client that missed its port says its language here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lang: String,
}

impl RouteConnect {
    /// Reads the argument of a `CONNECT`: keys in any case, unknown ones ignored, `null` says nothing, the last of
    /// several wins.
    ///
    /// # Errors
    /// When it is not a JSON object or a known key has a value of the wrong type. nats-server closes without a
    /// word then.
    pub fn parse(json: &[u8]) -> Result<Self, ConnectError> {
        lenient(json).map_err(|error| match error.classify() {
            // The value was read from what had been read before, which has no places any more.
            serde_json::error::Category::Data if error.line() == 0 => ConnectError::Type {
                byte: json.len() + 1,
            },
            _ => error.into(),
        })
    }

    /// Appends the JSON text.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("plain data into memory cannot fail");
    }
}

impl fmt::Debug for RouteConnect {
    /// The password shows only whether it is there.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pass = if self.pass.is_empty() { "" } else { "[hidden]" };
        formatter
            .debug_struct("RouteConnect")
            .field("echo", &self.echo)
            .field("verbose", &self.verbose)
            .field("pedantic", &self.pedantic)
            .field("user", &self.user)
            .field("pass", &pass)
            .field("tls_required", &self.tls_required)
            .field("headers", &self.headers)
            .field("name", &self.name)
            .field("cluster", &self.cluster)
            .field("cluster_dynamic", &self.cluster_dynamic)
            .field("lnoc", &self.lnoc)
            .field("lnocu", &self.lnocu)
            .field("ln", &self.ln)
            .field("gateway", &self.gateway)
            .field("lang", &self.lang)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 2.15.1 says it.
    #[test]
    fn writes_the_keys_of_nats_server_in_its_order() {
        let connect = RouteConnect {
            echo: true,
            user: "u".into(),
            pass: "p".into(),
            headers: true,
            name: "NABC".into(),
            cluster: "C".into(),
            lnoc: true,
            ln: true,
            ..RouteConnect::default()
        };
        let mut json = Vec::new();
        connect.write_json(&mut json);
        let expected = concat!(
            r#"{"echo":true,"verbose":false,"pedantic":false,"user":"u","pass":"p","tls_required":false,"#,
            r#""headers":true,"name":"NABC","cluster":"C","lnoc":true,"ln":true}"#
        );
        assert_eq!(String::from_utf8_lossy(&json), expected);
        assert_eq!(RouteConnect::parse(&json), Ok(connect));
    }

    #[test]
    fn reads_leniently() {
        let connect = RouteConnect::parse(br#" {"NAME":"N","cluster":null,"of_the_future":[1]} "#);
        let connect = connect.expect("nothing is wrong with it");
        assert_eq!((connect.name.as_str(), connect.cluster.as_str()), ("N", ""));
        assert_eq!(RouteConnect::parse(b"null"), Ok(RouteConnect::default()));
        for json in ["", "{", "[]", "{}x", r#"{"lnoc":"yes"}"#] {
            assert!(RouteConnect::parse(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let connect = RouteConnect::parse(br#"{"user":"me","pass":"tell"}"#).expect("valid");
        let shown = format!("{connect:?}");
        assert!(shown.contains("me") && !shown.contains("tell"), "{shown}");
        for json in [
            r#"{"pass":12345}"#,
            r#"{"echo":"12345"}"#,
            r#"{"pass":"12345"#,
        ] {
            let error = RouteConnect::parse(json.as_bytes()).expect_err("malformed");
            assert!(!format!("{error} {error:?}").contains("12345"), "{error}");
        }
    }
}
