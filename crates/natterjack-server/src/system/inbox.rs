//! Where messages to the server's own connection arrive, until its task takes them.

use std::io::{self, ErrorKind, IoSlice};

use natterjack_engine::Transport;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bytes that are taken before the engine has to keep the rest, and soon to drop what comes.
const CAPACITY: usize = 256 * 1024;

#[derive(Default)]
pub(super) struct Inbox {
    bytes: Mutex<Vec<u8>>,
    arrived: Notify,
}

impl Inbox {
    /// Waits until something has arrived.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes what has arrived.
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.lock())
    }
}

impl Transport for Inbox {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut bytes = self.bytes.lock();
        let mut count = 0;
        for slice in slices {
            let room = CAPACITY.saturating_sub(bytes.len());
            let fits = room.min(slice.len());
            bytes.extend_from_slice(&slice[..fits]);
            count += fits;
            if fits < slice.len() {
                break;
            }
        }
        drop(bytes);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.arrived.notify_one();
        Ok(count)
    }

    fn wake(&self) {
        self.arrived.notify_one();
    }
}
