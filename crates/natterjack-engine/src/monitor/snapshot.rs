//! Copies of facts, as they are handed out. Plain data.

use core::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::close_reason::CloseReason;
use crate::delivery::subscription::Subscription;
use crate::monitor::counters::{IndexCounters, Traffic};

/// What kind of peer a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionKind {
    /// A client with a socket.
    Client,
    /// A client within the server's own process.
    InProcess,
}

/// One connection, open or closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionSnapshot {
    /// The connection's number, unique in its server; later ones are higher.
    pub id: u64,
    /// What kind of peer it has.
    pub kind: ConnectionKind,
    /// Where it comes from; `None` within the process.
    pub address: Option<SocketAddr>,
    /// Who it is.
    pub client: Arc<ClientFacts>,
    /// When it was accepted.
    pub started: Instant,
    /// When it last sent or was sent a message, or changed a subscription.
    pub last_activity: Instant,
    /// When and why it ended; `None` as long as it is open.
    pub stop: Option<Stop>,
    /// How long its last answer to a PING took, once there was one.
    pub round_trip: Option<Duration>,
    /// Bytes that wait to be written to it.
    pub pending_bytes: usize,
    /// Messages it published.
    pub messages_in: u64,
    /// Their bytes, header and payload.
    pub bytes_in: u64,
    /// Messages delivered to it.
    pub messages_out: u64,
    /// Their bytes, header and payload.
    pub bytes_out: u64,
    /// Times a producer was held back because this connection was behind.
    pub stalls: u64,
    /// Subscriptions it has, or had when it ended.
    pub subscriptions: usize,
    /// Some of those it had when it ended, as long as they are kept.
    pub(crate) ended: Option<Arc<[EndedSubscription]>>,
}

impl ConnectionSnapshot {
    /// The subscriptions that a connection had when it ended. What is kept of them is bounded: the last of very many are
    /// missing, and all of those that ended long ago.
    pub fn ended_subscriptions(&self) -> impl Iterator<Item = SubscriptionSnapshot<'_>> {
        let ended = self.ended.as_deref().unwrap_or_default();
        ended.iter().map(|one| SubscriptionSnapshot {
            account: &self.client.account,
            subject: &one.subject,
            queue: one.queue.as_deref(),
            sid: &one.sid,
            delivered: one.delivered,
            max: one.max,
            connection: self.id,
        })
    }
}

/// A subscription of a connection that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndedSubscription {
    pub(crate) subject: Box<[u8]>,
    pub(crate) queue: Option<Box<[u8]>>,
    pub(crate) sid: Box<[u8]>,
    pub(crate) delivered: u64,
    pub(crate) max: Option<u64>,
}

impl EndedSubscription {
    /// Bytes it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        let queue = self.queue.as_ref().map_or(0, |queue| queue.len());
        size_of::<Self>() + self.subject.len() + queue + self.sid.len()
    }

    /// Bytes that one made of it takes, as [`EndedSubscription::bytes`] counts them.
    pub(crate) fn bytes_of(subscription: &Subscription) -> usize {
        let queue = subscription.queue().map_or(0, <[u8]>::len);
        size_of::<Self>() + subscription.subject().len() + queue + subscription.sid().len()
    }

    pub(crate) fn of(subscription: &Subscription) -> Self {
        Self {
            subject: subscription.subject().into(),
            queue: subscription.queue().map(Into::into),
            sid: subscription.sid().into(),
            delivered: subscription.delivered(),
            max: Some(subscription.max()).filter(|&max| max > 0),
        }
    }
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// When.
    pub at: Instant,
    /// Why.
    pub reason: CloseReason,
}

/// Who a client is, as it said and as was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientFacts {
    /// The name it gave itself, or nothing.
    pub name: Box<str>,
    /// Its library's language, or nothing.
    pub language: Box<str>,
    /// Its library's version, or nothing.
    pub version: Box<str>,
    /// The account it is in. Before CONNECT that is the global one.
    pub account: Arc<str>,
    /// The user it is, in a form fit to be shown: a name, a public key, `[REDACTED]` for a token.
    pub user: Option<Box<str>>,
    /// How its connection is encrypted; `None` if it is not.
    pub tls: Option<Arc<TlsFacts>>,
}

/// What is shown of an encrypted connection. The shell fills it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// Version of the protocol, as `1.3`.
    pub version: String,
    /// Name of the cipher suite, as `TLS_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// Whether the handshake came before INFO.
    pub is_first: bool,
    /// The peer's certificates, its own first.
    pub peer_certificates: Vec<PeerCertificate>,
}

/// What is shown of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its subject's distinguished name.
    pub subject: String,
    /// SHA-256 of its public key information, in lower-case hexadecimal.
    pub public_key_sha256: String,
    /// SHA-256 of all of it, in lower-case hexadecimal.
    pub sha256: String,
}

/// One subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionSnapshot<'a> {
    /// Name of the account it is in.
    pub account: &'a Arc<str>,
    /// What it is for, wildcards included.
    pub subject: &'a [u8],
    /// The queue group it is a member of, if any.
    pub queue: Option<&'a [u8]>,
    /// The client's id for it.
    pub sid: &'a [u8],
    /// Messages delivered.
    pub delivered: u64,
    /// Messages after which it ends, if it does.
    pub max: Option<u64>,
    /// Number of the connection that holds it.
    pub connection: u64,
}

/// Which subscriptions are wanted. The default is all.
#[derive(Clone, Copy, Debug, Default)]
pub struct SubscriptionFilter<'a> {
    /// Only those in the account of this name.
    pub account: Option<&'a str>,
    /// Only those of these connections.
    pub connections: Option<&'a std::collections::HashSet<u64>>,
}

/// One account.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AccountSnapshot {
    /// Its name.
    pub name: Arc<str>,
    /// Connections that are open and in it.
    pub connections: usize,
    /// Connections that ever came into it.
    pub connections_total: u64,
    /// Connections of other servers that are known to be in it.
    pub connections_elsewhere: usize,
    /// Subscriptions in it.
    pub subscriptions: usize,
    /// Interest that other servers have announced in it.
    pub peer_interest: usize,
    /// Messages its clients, and other servers, published.
    pub messages_in: u64,
    /// Their bytes, header and payload.
    pub bytes_in: u64,
    /// Messages delivered to its clients, and to other servers.
    pub messages_out: u64,
    /// Their bytes, header and payload.
    pub bytes_out: u64,
    /// Those of them that were exchanged with other servers.
    pub routes: Traffic,
    /// Its connections that were closed because they could not keep up.
    pub slow_consumers: u64,
    /// How its index is used.
    pub index: IndexCounters,
}
