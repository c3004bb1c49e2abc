//! The client's session as the shell drives it, like that of any other peer.

use std::io::IoSliceMut;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::ClientSession;
use crate::access::PasswordCheck;
use crate::close_reason::CloseReason;
use crate::delivery::outbox::Outbox;
use crate::delivery::worker::Worker;
use crate::session::{Session, Step};

impl Session for ClientSession {
    #[inline]
    fn outbox(&self) -> &Arc<Outbox> {
        self.outbox()
    }

    fn label(&self) -> String {
        self.label().to_string()
    }

    #[inline]
    fn adapt(&mut self, now: Instant) {
        self.adapt(now);
    }

    #[inline]
    fn read_slices<'a>(&'a mut self, worker: &'a mut Worker) -> [IoSliceMut<'a>; 2] {
        self.read_slices(worker)
    }

    #[inline]
    fn handle_read(&mut self, count: usize, worker: &mut Worker, now: Instant) {
        self.handle_read(count, worker, now);
    }

    #[inline]
    fn next_timeout(&self) -> Instant {
        self.next_timeout()
    }

    #[inline]
    fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    /// The subscriptions of before a second CONNECT are gone before anything of after it is read.
    #[inline]
    fn step(&mut self, _now: Instant) -> Step {
        if self.retire_step() {
            Step::First
        } else {
            Step::Done
        }
    }

    #[inline]
    fn is_stalled(&mut self, waker: &Waker, now: Instant) -> bool {
        self.is_stalled(waker, now)
    }

    fn stop_reading(&mut self) {
        self.stop_reading();
    }

    #[inline]
    fn is_checking(&self) -> bool {
        self.is_checking()
    }

    fn pending_check(&mut self) -> Option<PasswordCheck> {
        self.pending_check()
    }

    fn finish_check(&mut self, is_right: bool, worker: &mut Worker, now: Instant) {
        self.finish_check(is_right, worker, now);
    }

    fn close_step(&mut self, reason: CloseReason) -> bool {
        self.close_step(reason)
    }
}
