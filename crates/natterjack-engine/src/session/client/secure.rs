//! What TLS means for a session. The handshake itself is the shell's: it holds back what the session writes
//! until the connection is encrypted, and drives the session only from then on.

use std::time::Instant;

use natterjack_wire::error::ErrorReply;

use super::ClientSession;
use crate::certificate_names::CertificateNames;
use crate::close_reason::CloseReason;
use crate::session::heartbeat::Heartbeat;

impl ClientSession {
    /// How the connection is encrypted has been settled: the client's time to log in begins now.
    pub fn begin(&mut self, now: Instant) {
        self.heartbeat = Heartbeat::new(&self.config.limits, now);
        if self.auth_deadline.is_some() {
            self.auth_deadline = Some(now + self.config.limits.auth_timeout);
        }
    }

    /// The client has proved to hold the key of a certificate with these names.
    pub fn set_certificate_names(&mut self, names: CertificateNames) {
        self.certificate_names = Some(Box::new(names));
    }

    /// More clients than allowed want a handshake: tells this one, and closes the connection.
    pub fn refuse_handshake(&self, now: Instant) {
        self.send_last(
            ErrorReply::HandshakesExceeded,
            CloseReason::ConnectionsExceeded,
            now,
        );
    }
}
