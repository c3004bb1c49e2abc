//! Owns the JSON of `INFO` as a client sees it. Which values a server announces, and when, is decided
//! elsewhere; the fields that only routes use are not here.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::json::{is_default, lenient};

/// What a server says about itself. The keys are written in the order of the fields, which is
/// nats-server's, and those without a value are left out (client protocol, section 2).
///
/// Reading is lenient: keys match in any case, those that are missing or `null` keep their default, unknown
/// ones are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// Public key of the server, new at every start.
    pub server_id: String,
    /// Name of the server, by default its id.
    pub server_name: String,
    /// Version of nats-server that this server behaves like.
    pub version: String,
    /// Protocol level: 1 for clients.
    pub proto: i64,
    /// Source revision.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// What it was built with.
    pub go: String,
    /// Host it listens on, or `client_advertise`.
    pub host: String,
    /// Port it listens on, or `client_advertise`.
    pub port: u16,
    /// Whether `HPUB` is welcome.
    pub headers: bool,
    /// Whether `CONNECT` must carry credentials.
    #[serde(skip_serializing_if = "is_default")]
    pub auth_required: bool,
    /// Whether TLS must follow.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_required: bool,
    /// Whether the client must show a certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_verify: bool,
    /// Whether TLS may follow.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_available: bool,
    /// Bytes of the largest message, header included. Negative: unlimited.
    pub max_payload: i64,
    /// Whether JetStream is there.
    #[serde(skip_serializing_if = "is_default")]
    pub jetstream: bool,
    /// Address of the server; clients rarely see it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// The server's number for this connection.
    #[serde(skip_serializing_if = "is_default")]
    pub client_id: u64,
    /// The client's address as the server sees it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// To be signed by a client with a key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// Name of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Whether the cluster's name was made up.
    #[serde(skip_serializing_if = "is_default")]
    pub cluster_dynamic: bool,
    /// JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// `host:port` of servers a client may go to instead, own ones first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// The same for WebSocket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// The server is about to close its connections.
    #[serde(skip_serializing_if = "is_default")]
    pub ldm: bool,
    /// Compression mode; not for clients.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression: String,
    /// This `INFO` answers a `CONNECT`.
    #[serde(skip_serializing_if = "is_default")]
    pub connect_info: bool,
    /// Account the client is in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    /// Whether that is the system account.
    #[serde(skip_serializing_if = "is_default")]
    pub acc_is_sys: bool,
    /// JetStream API level.
    #[serde(skip_serializing_if = "is_default")]
    pub api_lvl: i64,
    /// Public key for encryption towards the server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
}

/// `INFO` that is not the JSON expected.
#[derive(Debug, Error)]
#[error("malformed INFO: {0}")]
pub struct InfoError(pub(crate) serde_json::Error);

impl ServerInfo {
    /// Reads the argument of an `INFO`. Blanks around it do not matter.
    ///
    /// # Errors
    /// When it is not a JSON object or a known key has a value of the wrong type.
    pub fn parse(json: &[u8]) -> Result<Self, InfoError> {
        lenient(json).map_err(InfoError)
    }

    /// Appends the JSON text.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("plain data into memory cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_keys_of_nats_server_in_its_order() {
        let mut info = ServerInfo {
            server_id: "NABC".into(),
            server_name: "one".into(),
            version: "2.15.1".into(),
            proto: 1,
            go: "rust".into(),
            host: "0.0.0.0".into(),
            port: 4222,
            headers: true,
            max_payload: 1_048_576,
            client_id: 5,
            client_ip: "127.0.0.1".into(),
            api_lvl: 5,
            xkey: "XABC".into(),
            ..ServerInfo::default()
        };
        let json = |info: &ServerInfo| {
            let mut out = Vec::new();
            info.write_json(&mut out);
            String::from_utf8(out).expect("JSON is UTF-8")
        };
        assert_eq!(
            json(&info),
            concat!(
                r#"{"server_id":"NABC","server_name":"one","version":"2.15.1","proto":1,"go":"rust","#,
                r#""host":"0.0.0.0","port":4222,"headers":true,"max_payload":1048576,"client_id":5,"#,
                r#""client_ip":"127.0.0.1","api_lvl":5,"xkey":"XABC"}"#
            )
        );
        info.connect_info = true;
        info.remote_account = "$G".into();
        info.connect_urls = vec!["127.0.0.1:4222".into()];
        let text = json(&info);
        let places = [
            "client_ip",
            "connect_urls",
            "connect_info",
            "remote_account",
            "api_lvl",
        ]
        .map(|key| text.find(&format!("\"{key}\":")).expect("key is there"));
        assert!(places.is_sorted(), "{text}");
        assert_eq!(ServerInfo::parse(text.as_bytes()).expect("own text"), info);
    }

    #[test]
    fn reads_leniently() {
        #[track_caller]
        fn check(json: &str, expected: Option<(i64, &str)>) {
            let info = ServerInfo::parse(json.as_bytes()).ok();
            let found = info
                .as_ref()
                .map(|info| (info.proto, info.server_id.as_str()));
            assert_eq!(found, expected);
        }
        check("{}", Some((0, "")));
        check(" {} ", Some((0, "")));
        // nats-server 2.15.1 takes this from a client.
        check("null", Some((0, "")));
        check(
            r#"{"proto":1,"server_id":"N","unknown":{"a":[null]}}"#,
            Some((1, "N")),
        );
        check(r#"{"PROTO":1,"Server_Id":"N","port":null}"#, Some((1, "N")));
        // It closes on these.
        check("", None);
        check("x", None);
        check("[]", None);
        check("{}x", None);
        check(r#"{"port":"x"}"#, None);
        check(r#"{"connect_urls":[1]}"#, None);
    }
}
