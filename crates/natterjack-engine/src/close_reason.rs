//! Why a connection ended, and who learns of it in which words.

use natterjack_wire::error::ProtocolError;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed its side, or was let go because its account changed.
    ClientClosed,
    /// The peer broke the protocol and was told so if nats-server would have.
    ProtocolViolation,
    /// The peer sent an `-ERR`.
    ParseError,
    /// CONNECT asked for a version of the protocol there is not.
    ClientProtocolVersion,
    /// CONNECT asked to hear of missing responders without announcing headers.
    NoRespondersRequiresHeaders,
    /// A message was longer than `payload_bytes_max`.
    PayloadExceeded,
    /// An operation's arguments were longer than `control_line_bytes_max`.
    ControlLineExceeded,
    /// More subscriptions than a new bound allows.
    SubscriptionsExceeded,
    /// Credentials were missing or wrong, or do not hold any more.
    AuthenticationViolation,
    /// No CONNECT came in time.
    AuthenticationTimeout,
    /// Credentials were good until now.
    AuthenticationExpired,
    /// Credentials were withdrawn.
    CredentialsRevoked,
    /// The account the credentials belong to is not there.
    MissingAccount,
    /// The account was full.
    AccountConnectionsExceeded,
    /// The server was full.
    ConnectionsExceeded,
    /// No encryption came about.
    TlsHandshakeFailure,
    /// PINGs went unanswered.
    StaleConnection,
    /// More bytes waited than `pending_bytes_max`.
    SlowConsumerPendingBytes,
    /// The socket took nothing for `write_deadline`.
    SlowConsumerWriteDeadline,
    /// Reading failed.
    ReadError,
    /// Writing failed.
    WriteError,
    /// The servers have another connection in its place, or the server dialled itself.
    DuplicateRoute,
    /// A server of the cluster has the name of this one.
    DuplicateServerName,
    /// A server is of another cluster.
    ClusterNameConflict,
    /// The configuration has no such connection any more.
    RouteRemoved,
    /// A client on the port for servers.
    WrongPort,
    /// A gateway on the port for servers.
    WrongGateway,
    /// An operator closed it.
    Kicked,
    /// The server is shutting down.
    ServerShutdown,
}

impl CloseReason {
    /// The reason in the words nats-server's monitoring uses (observed on 2.15.1: `/connz?state=closed`).
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::ClientClosed => "Client Closed",
            Self::ProtocolViolation => "Protocol Violation",
            Self::ParseError => "Parse Error",
            Self::ClientProtocolVersion => "Bad Client Protocol Version",
            Self::NoRespondersRequiresHeaders => "No Responders Requires Headers",
            Self::PayloadExceeded => "Maximum Message Payload Exceeded",
            Self::ControlLineExceeded => "Maximum Control Line Exceeded",
            Self::SubscriptionsExceeded => "Maximum Subscriptions Exceeded",
            Self::AuthenticationViolation => "Authentication Failure",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::AuthenticationExpired => "Authentication Expired",
            Self::CredentialsRevoked => "Credentials Revoked",
            Self::MissingAccount => "Missing Account",
            Self::AccountConnectionsExceeded => "Maximum Account Connections Exceeded",
            Self::ConnectionsExceeded => "Maximum Connections Exceeded",
            Self::TlsHandshakeFailure => "TLS Handshake Failure",
            Self::StaleConnection => "Stale Connection",
            Self::SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
            Self::SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
            Self::ReadError => "Read Error",
            Self::WriteError => "Write Error",
            Self::DuplicateRoute => "Duplicate Route",
            Self::DuplicateServerName => "Duplicate Server Name",
            Self::ClusterNameConflict => "Cluster Name Conflict",
            Self::RouteRemoved => "Route Removed",
            Self::WrongPort => "Incorrect Port",
            Self::WrongGateway => "Wrong Gateway",
            Self::Kicked => "Kicked",
            Self::ServerShutdown => "Server Shutdown",
        }
    }
}

impl From<ProtocolError> for CloseReason {
    /// Under which reason nats-server books a fault. Two limits have reasons of their own.
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::PayloadTooLarge => Self::PayloadExceeded,
            ProtocolError::ControlLineTooLong => Self::ControlLineExceeded,
            _ => Self::ProtocolViolation,
        }
    }
}
