//! What happens in a cluster's game. Connections have numbers of their own here, which are never used again.

use natterjack_engine::CloseReason;

use super::link::Break;
use super::scenario::Change;

#[derive(Clone, Debug, Hash)]
pub(crate) enum Event {
    Started {
        node: usize,
        id: String,
    },
    Reloaded {
        node: usize,
        what: Change,
    },
    Lame {
        node: usize,
    },
    Killed {
        node: usize,
        silently: bool,
    },
    Dialled {
        node: usize,
        other: usize,
    },
    DialFailed {
        node: usize,
        other: usize,
    },
    Connected {
        node: usize,
        other: usize,
        connections: [usize; 2],
    },
    Opened {
        connection: usize,
        node: usize,
        account: &'static str,
    },
    Turn {
        connection: usize,
        depth: usize,
    },
    Read {
        connection: usize,
        bytes: usize,
        worker: usize,
    },
    Written {
        connection: usize,
        offered: usize,
        taken: usize,
    },
    Compressed {
        connection: usize,
    },
    Stalled {
        connection: usize,
    },
    Ending {
        connection: usize,
        reason: &'static str,
    },
    Ended {
        connection: usize,
    },
    Broken {
        connection: usize,
        how: Break,
    },
    Frozen {
        connection: usize,
    },
    Parted {
        side: u8,
        how: Option<Break>,
    },
    Published {
        connection: usize,
        first: usize,
        count: usize,
        subject: &'static str,
    },
    Asked {
        connection: usize,
        number: u64,
    },
    Answered {
        connection: usize,
    },
    Subscribed {
        connection: usize,
        sid: u64,
        pattern: &'static str,
        queue: Option<&'static str>,
    },
    Unsubscribed {
        connection: usize,
        sid: u64,
        max: Option<u64>,
    },
    Ponged {
        connection: usize,
    },
    Received {
        connection: usize,
        sid: u64,
        publisher: usize,
        sequence: usize,
    },
    Paused {
        connection: usize,
    },
    Died {
        connection: usize,
    },
    Phase {
        name: &'static str,
    },
}

impl Event {
    pub(crate) fn ending(connection: usize, reason: CloseReason) -> Self {
        let reason = reason.text();
        Self::Ending { connection, reason }
    }
}
