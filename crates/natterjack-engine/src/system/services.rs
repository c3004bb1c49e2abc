//! The questions that a client of any account may ask the server about itself and its account.
//!
//! This is the one place where a message leaves its account. What it takes out is the question, who asked, and where
//! the answer is to go; an answer is only ever published in the account that asked. Once accounts can import services
//! in general, these are four imports like any other and this file can go.

use std::sync::Arc;

use crate::account::Account;
use crate::monitor::ConnectionSnapshot;

/// What can be asked (monitoring reference, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Service {
    /// Who the asking user is and what it may do.
    UserInfo,
    /// The connections of the asking account.
    Connections,
    /// What the asking account is doing.
    Statistics,
}

impl Service {
    /// The service behind a subject. Users of the system account ask about everybody, by subscriptions; only what they
    /// ask about themselves comes this way.
    pub(crate) fn at(subject: &[u8], is_system: bool) -> Option<Self> {
        let service = match subject.strip_prefix(b"$SYS.REQ.")? {
            b"USER.INFO" => return Some(Self::UserInfo),
            b"SERVER.PING.CONNZ" | b"ACCOUNT.PING.CONNZ" => Self::Connections,
            b"ACCOUNT.PING.STATZ" => Self::Statistics,
            _ => return None,
        };
        (!is_system).then_some(service)
    }
}

/// A question to the server.
#[derive(Clone, Debug)]
pub struct ServiceRequest {
    /// What is asked.
    pub service: Service,
    /// Who asks, as of then.
    pub client: ConnectionSnapshot,
    /// Where the answer goes: to this subject of [`account`](Self::account).
    pub reply: Box<[u8]>,
    /// What was said, without headers.
    pub payload: Box<[u8]>,
    /// The account of the client that asks.
    pub account: Arc<Account>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_few_and_fewer_in_the_system_account() {
        let check = |subject: &str, anywhere, in_system| {
            let found = |is_system| Service::at(subject.as_bytes(), is_system);
            assert_eq!(
                (found(false), found(true)),
                (anywhere, in_system),
                "{subject}"
            );
        };
        let (user, connections) = (Some(Service::UserInfo), Some(Service::Connections));
        check("$SYS.REQ.USER.INFO", user, user);
        check("$SYS.REQ.SERVER.PING.CONNZ", connections, None);
        check("$SYS.REQ.ACCOUNT.PING.CONNZ", connections, None);
        check(
            "$SYS.REQ.ACCOUNT.PING.STATZ",
            Some(Service::Statistics),
            None,
        );
        for other in [
            "$SYS.REQ.SERVER.PING",
            "$SYS.REQ.SERVER.PING.VARZ",
            "$SYS.REQ.",
            "x",
            "",
        ] {
            check(other, None, None);
        }
    }
}
