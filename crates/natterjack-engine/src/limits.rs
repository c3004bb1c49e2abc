//! Every bound the engine enforces, in one place, with its default and its reason.

use std::time::Duration;

/// Bounds a server puts on its connections. Defaults are those of nats-server 2.15.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message a client may publish, header included, in bytes.
    pub payload_bytes_max: usize,
    /// Longest list of arguments of one operation, in bytes.
    pub control_line_bytes_max: usize,
    /// Connections open at one time; a further one is told so and closed.
    pub connections_max: usize,
    /// Subscriptions one connection may hold; `None` sets no bound.
    pub subscriptions_max: Option<usize>,
    /// Tokens a subscription's subject may have; `None` sets no bound.
    pub subscription_tokens_max: Option<usize>,
    /// Bytes that may wait for one connection before it is dropped as a slow consumer.
    pub pending_bytes_max: usize,
    /// How long a connection's socket may refuse every byte before it is dropped as a slow consumer.
    pub write_deadline: Duration,
    /// How long a connection that must log in may stay silent.
    pub auth_timeout: Duration,
    /// How often a quiet connection is asked for a sign of life.
    pub ping_interval: Duration,
    /// Unanswered PINGs after which a connection counts as stale.
    pub pings_outstanding_max: u32,
    /// What becomes of a connection whose socket is slow.
    pub write_timeout: WriteTimeout,
    /// Whether producers are held back while a consumer is behind. If not, messages for a consumer for which
    /// three quarters of `pending_bytes_max` wait are dropped.
    pub stall_producers: bool,
    /// Connections that ended and are remembered for monitoring.
    pub closed_connections_max: usize,
}

/// When a connection counts as one that does not take what it is sent within `write_deadline`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteTimeout {
    /// When its socket takes no byte for so long.
    #[default]
    Default,
    /// When what waits once the socket is full has not all been taken by then, however many bytes were. This is
    /// what nats-server does with clients unless told otherwise.
    Close,
    /// As [`Default`](Self::Default): what a peer that takes some bytes has left is tried again.
    Retry,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes_max: 1024 * 1024,
            control_line_bytes_max: 4096,
            connections_max: 64 * 1024,
            subscriptions_max: None,
            subscription_tokens_max: None,
            pending_bytes_max: 64 * 1024 * 1024,
            write_deadline: Duration::from_secs(10),
            auth_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(120),
            pings_outstanding_max: 2,
            write_timeout: WriteTimeout::Default,
            stall_producers: true,
            closed_connections_max: 10_000,
        }
    }
}

impl Limits {
    /// Backlog above which the producers of a connection are slowed, in bytes.
    ///
    /// Far below `pending_bytes_max`, so that a backlog stays in the CPU's caches and a fan-out to
    /// thousands of slow connections does not fill memory before anybody is slowed.
    pub(crate) fn congested_bytes(&self) -> usize {
        if self.stall_producers {
            (self.pending_bytes_max / 4).min(CONGESTED_BYTES)
        } else {
            usize::MAX
        }
    }

    /// Backlog above which messages are dropped instead, in bytes; the share is nats-server's.
    pub(crate) fn drop_bytes(&self) -> usize {
        if self.stall_producers {
            usize::MAX
        } else {
            self.pending_bytes_max / 4 * 3
        }
    }

    /// The least a slowed producer reads between two waits for its consumers, in bytes.
    ///
    /// With [`STALL_MAX`] it sets the pace below which no consumer can push a producer, about 6 MB/s with
    /// the default bounds, and it leaves a consumer that is not running for a moment about a second before
    /// it overflows.
    pub(crate) fn slowed_read_bytes(&self) -> usize {
        let headroom = self
            .pending_bytes_max
            .saturating_sub(self.congested_bytes());
        (headroom / 128).clamp(SLOWED_READ_BYTES_MIN, SLOWED_READ_BYTES_MAX)
    }

    /// The most that one read takes of large messages, in bytes.
    ///
    /// As much as of others, unless a consumer has room for several such batches.
    pub(crate) fn large_messages_read_bytes(&self) -> usize {
        (self.pending_bytes_max / 8).clamp(READ_BYTES_MAX, LARGE_MESSAGES_READ_BYTES_MAX)
    }
}

impl Limits {
    /// How long a peer's connection waits for a consumer that is behind and for which it has just brought that many
    /// bytes; `is_ours` tells whether the peer is of our kind.
    ///
    /// What others send takes the same connection, and waits too. So a consumer pushes its own messages down to a
    /// pace, and not the connection: about 64 MB/s with the default bounds. If that is too much for it, it is dropped
    /// before long. nats-server slows no peers, and as a peer slows all its publishers once much waits for us, or ends
    /// the connection: it is hardly held back.
    pub(crate) fn peer_wait(&self, bytes: usize, is_ours: bool) -> Duration {
        let factor = if is_ours {
            PEER_PACE_FACTOR
        } else {
            OTHER_PEER_PACE_FACTOR
        };
        let bytes_max = self.slowed_read_bytes() * factor;
        STALL_MAX.mul_f64((bytes as f64 / bytes_max as f64).min(1.0))
    }
}

/// How many times faster a consumer must be to keep up with peers than with clients.
const PEER_PACE_FACTOR: usize = 10;
/// The same with peers that are nats-servers.
const OTHER_PEER_PACE_FACTOR: usize = 80;

/// See [`Limits::slowed_read_bytes`].
const SLOWED_READ_BYTES_MAX: usize = 64 * 1024;
const SLOWED_READ_BYTES_MIN: usize = 1024;

/// See [`Limits::congested_bytes`].
const CONGESTED_BYTES: usize = 1024 * 1024;

/// How long one batch of a producer waits for congested consumers.
///
/// Long enough for a consumer that keeps reading to catch up by megabytes, short enough for the others that
/// wait with it.
pub const STALL_MAX: Duration = Duration::from_millis(10);

/// A consumer that took no byte for this long is not waited for until it takes one again: it only slows its
/// producers, for no longer than this, and stops nobody.
pub const UNRESPONSIVE_AFTER: Duration = Duration::from_millis(500);

/// Bytes one read takes from a socket at most. Larger batches mean fewer writes to every target; past this
/// size the batch and what is rendered from it fall out of a core's second-level cache, and a batch of small
/// messages holds up whoever is served next.
pub const READ_BYTES_MAX: usize = 256 * 1024;

/// The same from a peer whose last batch was of large messages, [`LARGE_MESSAGE_BYTES`] on average. They are
/// hardly looked at, so what the system takes for a read and a write is most of what they cost, and the more of
/// them share it the better: by an eighth for messages of 1 and 16 KiB. Twice as much again is another
/// twentieth, but then a flood of them holds up others noticeably.
pub(crate) const LARGE_MESSAGES_READ_BYTES_MAX: usize = 512 * 1024;

/// See [`LARGE_MESSAGES_READ_BYTES_MAX`].
pub(crate) const LARGE_MESSAGE_BYTES: u64 = 1024;

/// Frames larger than this get a buffer of their own, which the targets' queues then share without copying.
pub(crate) const LARGE_FRAME_BYTES: usize = 64 * 1024;

/// Bodies from this size on are written from where they were read; smaller ones are copied beside their
/// header, which is cheaper than one more entry in a vectored write.
pub(crate) const BODY_PIECE_BYTES: usize = 2 * 1024;

/// The most subscriptions removed in one step when a connection ends, so that a client with a million of
/// them does not hold a thread.
pub const CLOSE_STEP_SUBSCRIPTIONS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::{Limits, STALL_MAX};

    #[test]
    fn peers_wait_for_their_share() {
        let limits = Limits::default();
        assert!(limits.peer_wait(0, true).is_zero());
        let a_message = limits.peer_wait(256, true);
        assert!(!a_message.is_zero() && a_message < STALL_MAX / 1000);
        let a_batch = limits.peer_wait(256 * 1024, true);
        assert_eq!(a_batch, STALL_MAX.mul_f64(0.4));
        assert!(limits.peer_wait(256 * 1024, false) < a_batch);
        assert_eq!(limits.peer_wait(usize::MAX, true), STALL_MAX);
    }
}
