//! How a client appears in the log: its label, and the operations it sends and is sent, without payloads and
//! without secrets.

use std::fmt;

use natterjack_wire::client::ClientOp;

use super::ClientSession;

/// `address - cid:number`, and the client's name once it told one, in the layout of nats-server's log.
pub struct Label<'a>(pub(super) &'a ClientSession);

impl fmt::Display for Label<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.address() {
            Some(address) => write!(formatter, "{address}")?,
            None => formatter.write_str("in-process")?,
        }
        write!(formatter, " - cid:{}", self.0.outbox.id())?;
        match &self.0.connect {
            // Debug quotes, so that a name cannot forge a line of the log.
            Some(connect) if !connect.name.is_empty() => write!(formatter, " - {:?}", connect.name),
            _ => Ok(()),
        }
    }
}

impl ClientSession {
    /// Logs an operation that came in.
    pub(super) fn trace_in(&self, op: &ClientOp<'_>) {
        let label = self.label();
        match op {
            ClientOp::Publish(publish) => {
                let name = if publish.header_len.is_some() {
                    "HPUB"
                } else {
                    "PUB"
                };
                let reply = publish
                    .reply
                    .map(|reply| format!(" {}", reply.escape_ascii()));
                tracing::trace!(
                    "{label} - <<- [{name} {}{} {}]",
                    publish.subject.escape_ascii(),
                    reply.unwrap_or_default(),
                    publish.body.len(),
                );
            }
            ClientOp::Subscribe(subscribe) => {
                let queue = subscribe
                    .queue
                    .map(|queue| format!(" {}", queue.escape_ascii()));
                tracing::trace!(
                    "{label} - <<- [SUB {}{} {}]",
                    subscribe.subject.escape_ascii(),
                    queue.unwrap_or_default(),
                    subscribe.sid.escape_ascii(),
                );
            }
            ClientOp::Unsubscribe(unsubscribe) => {
                let max = unsubscribe.max.map(|max| format!(" {max}"));
                tracing::trace!(
                    "{label} - <<- [UNSUB {}{}]",
                    unsubscribe.sid.escape_ascii(),
                    max.unwrap_or_default(),
                );
            }
            // What it says may be secret.
            ClientOp::Connect(_) => tracing::trace!("{label} - <<- [CONNECT]"),
            ClientOp::Info(_) => tracing::trace!("{label} - <<- [INFO]"),
            ClientOp::Err(_) => tracing::trace!("{label} - <<- [-ERR]"),
            ClientOp::Ping => tracing::trace!("{label} - <<- [PING]"),
            ClientOp::Pong => tracing::trace!("{label} - <<- [PONG]"),
            ClientOp::Ok => tracing::trace!("{label} - <<- [+OK]"),
        }
    }

    /// Logs a reply of the server's own.
    pub(super) fn trace_out(&self, text: &[u8]) {
        for line in text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let line = String::from_utf8_lossy(line.trim_ascii());
            tracing::trace!("{} - ->> [{line}]", self.label());
        }
    }
}
