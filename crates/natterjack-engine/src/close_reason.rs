//! Why a connection ended.

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed its side.
    ClientClosed,
    /// The peer broke the protocol or a limit and was told so.
    ProtocolViolation,
    /// Credentials were missing or wrong.
    AuthenticationViolation,
    /// No CONNECT came in time.
    AuthenticationTimeout,
    /// The server was full.
    ConnectionsExceeded,
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
    /// The server is shutting down.
    ServerShutdown,
}

impl CloseReason {
    /// The reason in the words nats-server's monitoring uses.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::ClientClosed => "Client Closed",
            Self::ProtocolViolation => "Protocol Violation",
            Self::AuthenticationViolation => "Authentication Failure",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::ConnectionsExceeded => "Maximum Connections Exceeded",
            Self::StaleConnection => "Stale Connection",
            Self::SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
            Self::SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
            Self::ReadError => "Read Error",
            Self::WriteError => "Write Error",
            Self::ServerShutdown => "Server Shutdown",
        }
    }
}
