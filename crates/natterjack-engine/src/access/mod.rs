//! Who may do what: the data an operator or embedder fills in, and the rules compiled from it.
//!
//! [`Access`] is plain data. Nothing here reads a clock, a file or the system's randomness, and nothing here
//! knows a connection: a verdict is a function of credentials, facts about the peer, a nonce and this data.
//!
//! Suggested reading: the data here, `users` (who may come in), `permissions` (what a user may do), `responses` (what
//! it may answer), and `problems` (what contradicts itself).

mod distinguished_name;
mod exchange;
mod mapping;
mod nkey;
mod password;
mod permissions;
mod problems;
mod responses;
mod secret;
mod users;
mod verdicts;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::exchange::{
    ExchangeKind, Export, ExportProblem, Import, ImportProblem, Latency, ResponseType, Sampling,
    ServiceExport, ServiceImport, StreamExport, StreamImport,
};
pub use self::mapping::{Destination, Mapping, MappingProblem};
pub(crate) use self::password::{Compared, compare};
pub use self::password::{PasswordCheck, is_bcrypt};
pub(crate) use self::permissions::CompiledPermissions;
pub use self::problems::{AccessProblem, Owner, Place, Side};
pub(crate) use self::responses::Responses;
pub use self::secret::Secret;
pub(crate) use self::users::{Admission, Directory, Facts, Refusal, UserName, Verdict};
pub(crate) use self::verdicts::Verdicts;

/// Who may connect, and what each may do.
///
/// [`Default`] lets everybody in. What contradicts itself is found by [`problems`](Self::problems).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Access {
    /// The token that lets in whoever knows it, in clear text or as a bcrypt hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The only user there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Login>,
    /// Users of the account `$G`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// What users of `users` may do that have no permissions of their own; nothing sets no bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_permissions: Option<Permissions>,
    /// The user, by name or public key, that clients without any credentials are taken for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_auth_user: Option<String>,
    /// Mappings of the account `$G`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
    /// The accounts besides `$G` and the system account.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountAccess>,
    /// The account for what the server itself has to say; `$SYS` if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_account: Option<String>,
    /// Clients with certificates are the users their certificates name, and users without a password can be
    /// nobody else (option `tls.verify_and_map`).
    pub verify_and_map: bool,
    /// Where all users belong to the system account, everybody else may still come in to `$G`. nats-server has it so
    /// as long as there is no `authorization` block; [`Default`] has it not.
    pub open_besides_system: bool,
}

impl Access {
    /// Everybody may come in and do everything.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Whoever knows the token may come in.
    #[must_use]
    pub fn token(token: impl Into<Secret>) -> Self {
        Self {
            token: Some(token.into()),
            ..Self::default()
        }
    }

    /// Whoever knows this name and password may come in.
    #[must_use]
    pub fn user(name: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self {
            user: Some(Login {
                name: name.into(),
                password: password.into(),
            }),
            ..Self::default()
        }
    }
}

/// A name and its password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The name.
    pub name: String,
    /// The password, in clear text or as a bcrypt hash.
    pub password: Secret,
}

/// An account: a subject space of its own, and who belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountAccess {
    /// Its name.
    pub name: String,
    /// Its public key, for information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<String>,
    /// Its users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// What its users may do that have no permissions of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_permissions: Option<Permissions>,
    /// Its bounds.
    pub limits: AccountLimits,
    /// Subjects that are replaced by others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
    /// What is to become of messages with the header of a trace context (`traceparent`); nothing if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_trace: Option<MessageTrace>,
    /// What other accounts may use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<Export>,
    /// What is used of other accounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Import>,
}

/// Messages with a trace context that is recorded are traced: what becomes of them is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageTrace {
    /// Where in the account it is told: a subject without wildcards.
    pub destination: String,
    /// Of a hundred such messages this many are traced, by chance: 1 to 100.
    pub sampling_percent: u8,
}

impl Default for MessageTrace {
    /// All such messages, told nowhere yet.
    fn default() -> Self {
        Self {
            destination: String::new(),
            sampling_percent: 100,
        }
    }
}

/// Bounds of an account. `None` and negative numbers set none; the server's own bounds hold beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountLimits {
    /// Connections at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<i64>,
    /// Subscriptions of one connection, as nats-server counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriptions_max: Option<i64>,
    /// Bytes of one message, header included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_bytes_max: Option<i64>,
}

/// Somebody who may come in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// The name, or the public key of one who signs.
    pub name: String,
    /// How to tell that it is this user.
    pub credential: Credential,
    /// What the user may do; `None` means the account's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// The kinds of connections the user may come by; all if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connection_types: Vec<ConnectionType>,
}

/// How a user proves to be the one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Credential {
    /// Not by CONNECT: by a certificate, or not at all where certificates are not mapped to users.
    #[default]
    None,
    /// By this password, in clear text or as a bcrypt hash.
    Password(Secret),
    /// By signing the nonce with the private half of the key that is the user's name.
    Nkey,
}

/// What a user may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permissions {
    /// Where the user may publish.
    pub publish: SubjectRules,
    /// Where the user may listen. An entry may be `subject queue`: it is then about that queue group only, whose
    /// name may have wildcards.
    pub subscribe: SubjectRules,
    /// Permission to answer requests, wherever the answer is to go. Closes what `publish` does not open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub responses: Option<ResponseLimit>,
}

/// Subjects that are allowed and subjects that are denied. A denial wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubjectRules {
    /// What is allowed; `None` allows everything, an empty list nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// What is denied nonetheless.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// How often and how long a request may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResponseLimit {
    /// Answers to one request; negative sets no bound, 0 means the default of 1.
    pub messages_max: i64,
    /// How long after the request, unless `never_expires`.
    pub expires: Duration,
    /// Answers may come at any time later.
    pub never_expires: bool,
}

impl Default for ResponseLimit {
    /// One answer, within two minutes (nats-server `DEFAULT_ALLOW_RESPONSE_MAX_MSGS`, `…_EXPIRATION`).
    fn default() -> Self {
        Self {
            messages_max: 1,
            expires: Duration::from_secs(120),
            never_expires: false,
        }
    }
}

/// The kinds of connections a user may be bound to (nats-server `jwt.ConnectionType…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ConnectionType {
    /// A client's socket, with or without TLS.
    Standard,
    /// A client's WebSocket.
    Websocket,
    /// A leaf node.
    Leafnode,
    /// A leaf node over WebSocket.
    LeafnodeWs,
    /// An MQTT client.
    Mqtt,
    /// An MQTT client over WebSocket.
    MqttWs,
    /// A client inside the server's process.
    InProcess,
}

impl ConnectionType {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Standard,
        Self::Websocket,
        Self::Leafnode,
        Self::LeafnodeWs,
        Self::Mqtt,
        Self::MqttWs,
        Self::InProcess,
    ];

    /// Its name in configuration files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Websocket => "WEBSOCKET",
            Self::Leafnode => "LEAFNODE",
            Self::LeafnodeWs => "LEAFNODE_WS",
            Self::Mqtt => "MQTT",
            Self::MqttWs => "MQTT_WS",
            Self::InProcess => "IN_PROCESS",
        }
    }
}

/// A text that names no kind of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a connection type: those are STANDARD, WEBSOCKET, LEAFNODE, LEAFNODE_WS, MQTT, MQTT_WS and IN_PROCESS"
)]
pub struct UnknownConnectionType;

impl FromStr for ConnectionType {
    type Err = UnknownConnectionType;

    /// Reads a name, in any case as nats-server does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(text))
            .ok_or(UnknownConnectionType)
    }
}

impl fmt::Display for ConnectionType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
