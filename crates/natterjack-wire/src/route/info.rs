//! Owns the JSON of `INFO` as routes use it: about the sender, about a third server (gossip), or about one
//! account. Which values a server announces, and what it makes of another's, is decided elsewhere.

use serde::{Deserialize, Serialize};

use crate::client::InfoError;
use crate::json::{is_default, lenient};

/// What a server tells another about itself or about a third one (route protocol, section 3). The keys are
/// written in the order of the fields, which is nats-server's, and those without a value are left out.
///
/// Reading is lenient: keys match in any case, those that are missing or `null` keep their default, unknown
/// ones are ignored, those of gateways among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteInfo {
    /// Public key of the server, new at every start.
    pub server_id: String,
    /// Name of the server, by default its id.
    pub server_name: String,
    /// Version of nats-server that this server behaves like.
    pub version: String,
    /// Protocol level: 1 sends `INFO` at any time, 2 knows accounts, 3 traces messages.
    pub proto: i64,
    /// Source revision; not seen on routes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// What it was built with.
    pub go: String,
    /// Host the cluster's listener is bound to, or that of `cluster_advertise`.
    pub host: String,
    /// Port of that listener, or that of `cluster_advertise`.
    pub port: u16,
    /// Whether messages may have headers.
    pub headers: bool,
    /// Whether `CONNECT` must carry credentials.
    #[serde(skip_serializing_if = "is_default")]
    pub auth_required: bool,
    /// Whether TLS is used; it began before the first byte of the protocol.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_required: bool,
    /// Whether a certificate must be shown.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_verify: bool,
    /// Not seen on routes.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_available: bool,
    /// Bytes of the largest message that clients may publish there.
    pub max_payload: i64,
    /// Whether JetStream is there.
    #[serde(skip_serializing_if = "is_default")]
    pub jetstream: bool,
    /// URL to dial, `nats-route://host:port/`. A server tells its own only with `cluster_advertise`; of a third
    /// server it is always there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// Random and unused; not in what is told of a third server.
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
    /// `host:port` for clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// The same for WebSocket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// The server is about to close the connections of its clients.
    #[serde(skip_serializing_if = "is_default")]
    pub ldm: bool,
    /// What the server is set to, or what was agreed on; see [`Compression`](super::Compression). Older
    /// servers have none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression: String,
    /// Subjects whose interest the server asks of others.
    #[serde(skip_serializing_if = "is_default")]
    pub import: Option<SubjectPermission>,
    /// Subjects in which the server lets others be interested.
    #[serde(skip_serializing_if = "is_default")]
    pub export: Option<SubjectPermission>,
    /// The server understands `LS+` and `LMSG`.
    #[serde(skip_serializing_if = "is_default")]
    pub lnoc: bool,
    /// Its `LS-` names the origin, and it expects the same; since 2.10.
    #[serde(skip_serializing_if = "is_default")]
    pub lnocu: bool,
    /// Sent by 2.15; without effect on the lines.
    #[serde(skip_serializing_if = "is_default")]
    pub ln: bool,
    /// The server takes messages for queue groups only, see [`STRAY_ORIGIN`](super::STRAY_ORIGIN). Ours; nats-server knows
    /// nothing of it.
    #[serde(skip_serializing_if = "is_default")]
    pub strays: bool,
    /// Which [`AccountMove`]s the server knows: [`ACCOUNT_MOVES`](super::ACCOUNT_MOVES), or 0 for none. Ours; nats-server
    /// knows nothing of them.
    #[serde(skip_serializing_if = "is_default")]
    pub account_moves: u64,
    /// Connections that share the accounts. 0: everything on one, as servers before 2.10 have it.
    #[serde(skip_serializing_if = "is_default")]
    pub route_pool_size: i64,
    /// Which of them this is; told by the side that dialled.
    #[serde(skip_serializing_if = "is_default")]
    pub route_pool_idx: i64,
    /// The one account this connection is for. Its lines do not name an account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_account: String,
    /// Asks to leave an account to a new connection of its own; the answer carries the same text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_acc_add_reqid: String,
    /// What becomes of [`route_account`](Self::route_account), which goes from one connection to another. Ours;
    /// nats-server knows nothing of it and is not told.
    #[serde(skip_serializing_if = "is_default")]
    pub account_move: AccountMove,
    /// Which [`AccountMove::Told`] this is, or is the answer to; greater than all that the server has said before, since what
    /// is said on two connections may come in any order.
    #[serde(skip_serializing_if = "is_default")]
    pub account_move_number: u64,
    /// Whether who dials because of this `INFO` makes the server he reaches tell others.
    #[serde(skip_serializing_if = "is_default")]
    pub gossip_mode: GossipMode,
    /// Where the server listens for gateways.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway_url: String,
    /// Where the server listens for leaf nodes; one at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leafnode_urls: Vec<String>,
}

/// Subjects that are allowed, less those denied. Without `allow`, all are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubjectPermission {
    /// Patterns.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_none")]
    pub allow: Vec<String>,
    /// Patterns.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_none")]
    pub deny: Vec<String>,
}

/// The way in which accounts go from one connection to another, as [`AccountMove`] has it. Servers that know another way
/// ([`account_moves`](RouteInfo::account_moves)) are treated as nats-server is, which knows none.
pub const ACCOUNT_MOVES: u64 = 1;

/// How far an account is that goes from one connection to another, between servers that both say
/// [`ACCOUNT_MOVES`]. nats-server forgets the interest on the old connection before it is told on the new
/// one, and loses the messages between; these lines make that unnecessary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub enum AccountMove {
    /// It does not.
    #[default]
    None,
    /// All interest of this side has been told on this connection, and what changes is: send messages on this one from now
    /// on. Has a number.
    Told,
    /// Of the interest of this side nothing is told on this connection any more: forget what has been.
    Elsewhere,
    /// The answer to [`Told`](Self::Told): messages of this side come on this connection alone, and those that went by
    /// others have come.
    Taken,
    /// This connection, which is the account's own, is to end: the account shares the others.
    Ends,
}

impl From<u8> for AccountMove {
    /// Numbers of the future mean nothing.
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Told,
            2 => Self::Elsewhere,
            3 => Self::Taken,
            4 => Self::Ends,
            _ => Self::None,
        }
    }
}

impl From<AccountMove> for u8 {
    fn from(step: AccountMove) -> Self {
        match step {
            AccountMove::None => 0,
            AccountMove::Told => 1,
            AccountMove::Elsewhere => 2,
            AccountMove::Taken => 3,
            AccountMove::Ends => 4,
        }
    }
}

/// Whether a new connection is told to the other servers (route protocol, section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub enum GossipMode {
    /// If it is the first one with that server.
    #[default]
    Default,
    /// No: whoever would be told was told already.
    Disabled,
    /// Yes, whatever the rules say.
    Override,
}

impl From<u8> for GossipMode {
    /// Numbers of the future mean the default.
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Disabled,
            2 => Self::Override,
            _ => Self::Default,
        }
    }
}

impl From<GossipMode> for u8 {
    fn from(mode: GossipMode) -> Self {
        match mode {
            GossipMode::Default => 0,
            GossipMode::Disabled => 1,
            GossipMode::Override => 2,
        }
    }
}

impl RouteInfo {
    /// Reads the argument of an `INFO`. Blanks around it do not matter.
    ///
    /// # Errors
    /// When it is not a JSON object or a known key has a value of the wrong type. nats-server closes without a
    /// word then.
    pub fn parse(json: &[u8]) -> Result<Self, InfoError> {
        lenient(json).map_err(InfoError)
    }

    /// Word of how far an account is that goes from one connection to another.
    #[must_use]
    pub fn moving(account: &str, account_move: AccountMove, number: u64) -> Self {
        Self {
            route_account: account.to_owned(),
            account_move,
            account_move_number: number,
            ..Self::default()
        }
    }

    /// Appends the JSON text.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("plain data into memory cannot fail");
    }
}

fn null_is_none<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_keys_of_nats_server_in_its_order() {
        let permission = |subject: &str| {
            Some(SubjectPermission {
                allow: vec![subject.into()],
                deny: Vec::new(),
            })
        };
        let info = RouteInfo {
            server_id: "NABC".into(),
            server_name: "A".into(),
            version: "2.15.1".into(),
            proto: 2,
            go: "rust".into(),
            host: "127.0.0.1".into(),
            port: 6222,
            headers: true,
            max_payload: 1_048_576,
            ip: "nats-route://127.0.0.1:6222/".into(),
            cluster: "C".into(),
            connect_urls: vec!["127.0.0.1:4222".into()],
            compression: "accept".into(),
            import: permission(">"),
            export: permission("a.*"),
            lnoc: true,
            lnocu: true,
            ln: true,
            route_pool_size: 3,
            route_pool_idx: 1,
            route_account: "$SYS".into(),
            gossip_mode: GossipMode::Override,
            ..RouteInfo::default()
        };
        let mut json = Vec::new();
        info.write_json(&mut json);
        let expected = concat!(
            r#"{"server_id":"NABC","server_name":"A","version":"2.15.1","proto":2,"go":"rust","#,
            r#""host":"127.0.0.1","port":6222,"headers":true,"max_payload":1048576,"#,
            r#""ip":"nats-route://127.0.0.1:6222/","cluster":"C","connect_urls":["127.0.0.1:4222"],"#,
            r#""compression":"accept","import":{"allow":[">"]},"export":{"allow":["a.*"]},"#,
            r#""lnoc":true,"lnocu":true,"ln":true,"route_pool_size":3,"route_pool_idx":1,"#,
            r#""route_account":"$SYS","gossip_mode":2}"#
        );
        assert_eq!(String::from_utf8_lossy(&json), expected);
        assert_eq!(RouteInfo::parse(&json).expect("own text"), info);
    }

    #[test]
    fn reads_leniently() {
        let info = RouteInfo::parse(
            br#"{"Server_ID":"N","import":{"allow":null,"deny":["a"]},"export":null,"gossip_mode":9,
                "gateway_cmd":1,"gateway_urls":["x"],"of_the_future":{"a":[null]}}"#,
        )
        .expect("nothing is wrong with it");
        assert_eq!(info.server_id, "N");
        assert_eq!(info.import.expect("there").deny, ["a"]);
        assert_eq!(info.export, None);
        assert_eq!(info.gossip_mode, GossipMode::Default);
        for json in ["", "{", "[]", "{}x", r#"{"route_pool_size":"3"}"#] {
            assert!(RouteInfo::parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}
