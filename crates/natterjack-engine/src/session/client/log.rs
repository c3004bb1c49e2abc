//! How a client appears in the log: its label, and the operations it sends and is sent, without payloads and
//! without secrets.

use std::fmt;

use natterjack_wire::client::ClientOp;

use super::ClientSession;
use crate::access::UserName;

/// `address - cid:number`, and once the client was let in `"version:language:name"` and `"account/user"`, in the layout
/// of nats-server's log (auth reference, section 10).
pub struct Label<'a>(pub(super) &'a ClientSession);

impl fmt::Display for Label<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = self.0;
        match session.address() {
            Some(address) => write!(formatter, "{address}")?,
            None => formatter.write_str("in-process")?,
        }
        write!(formatter, " - cid:{}", session.outbox.id())?;
        let Some(connect) = session
            .connect
            .as_deref()
            .filter(|_| session.identity.is_admitted)
        else {
            return Ok(());
        };
        let version = match connect.version.as_str() {
            "" => String::new(),
            version => format!("v{version}"),
        };
        let mut told = [version.as_str(), &connect.lang, &connect.name]
            .into_iter()
            .filter(|part| !part.is_empty())
            .peekable();
        // Debug quotes, so that a name cannot forge a line of the log.
        if told.peek().is_some() {
            write!(formatter, " - {:?}", told.collect::<Vec<_>>().join(":"))?;
        }
        let user = match &session.identity.user {
            Some(UserName::Name(name)) => format!("user:{name}"),
            Some(UserName::Nkey(nkey)) => format!("nkey:{nkey}"),
            Some(UserName::Token) => "token".to_owned(),
            None => return Ok(()),
        };
        write!(
            formatter,
            " - {:?}",
            format!("{}/{user}", session.account.name())
        )
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

    /// Logs what a mapping made of a subject.
    pub(super) fn trace_mapping(&self, subject: &[u8], name: &[u8]) {
        if tracing::enabled!(tracing::Level::TRACE) {
            let (subject, name) = (subject.escape_ascii(), name.escape_ascii());
            tracing::trace!("{} - <<- [MAPPING {subject} -> {name}]", self.label());
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
