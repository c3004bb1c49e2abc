//! What happened, in a queue for the shell. Who reports never waits: what does not fit is dropped and counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;

use crate::account::Account;
use crate::exchange::{LatencyOutcome, LatencyReport, Measure, header_bytes};
use crate::monitor::ConnectionSnapshot;
use crate::trace::TraceReport;

/// Something the shell may want to tell the system account, or has to answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Report {
    /// A client was let in.
    Connected(ConnectionSnapshot),
    /// A connection has ended; `stop` tells when and why.
    Disconnected(ConnectionSnapshot),
    /// A client's credentials were refused; the connection is about to end.
    AuthenticationFailed(ConnectionSnapshot),
    /// A connection came into an account, or left it.
    AccountConnections(Arc<Account>),
    /// How long an answer took, or that there was none. Reported whether or not anybody listens.
    Latency(Box<LatencyReport>),
    /// How long a client took to answer a request that another server measures. That one waits to be told.
    Measure(Box<Measure>),
    /// What came of a message that was traced. Reported whether or not anybody listens.
    Trace(Box<TraceReport>),
    /// A request is measured, and its time is up then: call [`Engine::expire_requests`](crate::Engine::expire_requests).
    AwaitingAnswer(Instant),
}

/// Reports that had no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DroppedReports {
    /// Of connections.
    pub events: u64,
    /// Of how long services took to answer.
    pub measurements: u64,
    /// Of messages that were traced.
    pub traces: u64,
}

/// Reports that wait at most, besides those of traces: one second of a reconnect storm, in which each client makes three.
pub const REPORTS_MAX: usize = 16 * 1024;

/// Bytes of what clients said in these reports that wait at most. One request always fits.
pub const REPORT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reports of traces that wait at most, and their bytes. These are large, and whoever traces much keeps others from being
/// told of nothing else. One always fits.
pub const TRACES_MAX: usize = 4 * 1024;
/// See [`TRACES_MAX`].
pub const TRACE_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Default)]
pub(crate) struct Reports {
    /// There is somebody to take reports.
    is_open: AtomicBool,
    /// Of the system account's subscriptions, those the server itself holds.
    own_subscriptions: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Report>,
    /// What is in `queue` of traces, and of everything else.
    traces: Load,
    others: Load,
    dropped: DroppedReports,
    waker: Option<Waker>,
}

/// Reports that wait.
#[derive(Default)]
struct Load {
    count: usize,
    bytes: usize,
}

impl Load {
    /// Whether there is room for one more. Those without bytes are short of places alone.
    fn admits(&self, bytes: usize, count_max: usize, bytes_max: usize) -> bool {
        let fits = bytes == 0 || self.bytes == 0 || self.bytes + bytes <= bytes_max;
        self.count < count_max && fits
    }
}

impl State {
    fn load_of(&mut self, report: &Report) -> &mut Load {
        match report {
            Report::Trace(_) => &mut self.traces,
            _ => &mut self.others,
        }
    }

    fn count_dropped(&mut self, report: &Report) {
        let dropped = &mut self.dropped;
        let kind = match report {
            Report::Connected(_)
            | Report::Disconnected(_)
            | Report::AuthenticationFailed(_)
            | Report::AccountConnections(_) => &mut dropped.events,
            Report::Latency(_) | Report::Measure(_) => &mut dropped.measurements,
            Report::Trace(_) => &mut dropped.traces,
            // Whoever wants it tries again.
            Report::AwaitingAnswer(_) => return,
        };
        *kind += 1;
    }
}

impl DroppedReports {
    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl core::ops::AddAssign for DroppedReports {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.measurements += other.measurements;
        self.traces += other.traces;
    }
}

impl Reports {
    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    /// Nobody takes reports any more.
    pub(crate) fn close(&self) {
        self.is_open.store(false, Ordering::Relaxed);
        *self.state.lock() = State::default();
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    pub(crate) fn set_own_subscriptions(&self, count: usize) {
        self.own_subscriptions.store(count, Ordering::Relaxed);
    }

    pub(crate) fn own_subscriptions(&self) -> usize {
        self.own_subscriptions.load(Ordering::Relaxed)
    }

    /// Whether an event could reach anybody: the system account has subscriptions besides the server's own.
    pub(crate) fn are_wanted(&self, system: impl FnOnce() -> usize) -> bool {
        self.is_open() && system() > self.own_subscriptions()
    }

    /// Queues a report. Returns whether there was room for it.
    pub(crate) fn push(&self, report: Report) -> bool {
        let mut state = self.state.lock();
        let bytes = bytes_of(&report);
        let (count_max, bytes_max) = match report {
            Report::Trace(_) => (TRACES_MAX, TRACE_BYTES_MAX),
            _ => (REPORTS_MAX, REPORT_BYTES_MAX),
        };
        let load = state.load_of(&report);
        if !load.admits(bytes, count_max, bytes_max) {
            state.count_dropped(&report);
            return false;
        }
        load.count += 1;
        load.bytes += bytes;
        state.queue.push_back(report);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// Moves up to `max` reports into `taken`; if there are none, `waker` is called when there are. Returns which
    /// were dropped since the last time.
    pub(crate) fn take(
        &self,
        max: usize,
        taken: &mut Vec<Report>,
        waker: &Waker,
    ) -> DroppedReports {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            state.waker = Some(waker.clone());
            // A queue that once was long does not keep the memory for it.
            state.queue.shrink_to(64);
        }
        let count = max.min(state.queue.len());
        let first = taken.len();
        taken.extend(state.queue.drain(..count));
        for report in &taken[first..] {
            let load = state.load_of(report);
            load.count -= 1;
            load.bytes -= bytes_of(report);
        }
        std::mem::take(&mut state.dropped)
    }
}

fn bytes_of(report: &Report) -> usize {
    match report {
        Report::Latency(report) => {
            let responder = match &report.outcome {
                LatencyOutcome::AnsweredElsewhere { measure, .. } => measure.responder_bytes(),
                _ => 0,
            };
            header_bytes(&report.headers) + responder
        }
        Report::Connected(client)
        | Report::Disconnected(client)
        | Report::AuthenticationFailed(client) => words_of(client),
        Report::Trace(report) => report.bytes(),
        Report::Measure(measure) => measure.answer.len() + words_of(&measure.responder),
        Report::AccountConnections(_) | Report::AwaitingAnswer(_) => 0,
    }
}

/// Bytes of what a client has said of itself.
fn words_of(client: &ConnectionSnapshot) -> usize {
    let facts = &client.client;
    facts.name.len() + facts.language.len() + facts.version.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::AccountConnections(Arc::new(Account::new("A")))
    }

    fn trace(header_bytes: usize) -> Report {
        Report::Trace(Box::new(TraceReport {
            account: Arc::new(Account::new("A")),
            destination: Box::default(),
            headers: vec![("A".repeat(header_bytes), Vec::new())],
            message_bytes: 0,
            hops: 0,
            events: Vec::new(),
        }))
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let reports = Reports::default();
        for _ in 0..REPORTS_MAX {
            assert!(reports.push(report()));
        }
        assert!(!reports.push(report()));
        assert!(!reports.push(report()));
        let mut taken = Vec::new();
        let dropped = DroppedReports {
            events: 2,
            ..DroppedReports::default()
        };
        assert_eq!(reports.take(10, &mut taken, Waker::noop()), dropped);
        assert_eq!(taken.len(), 10);
        assert!(reports.push(report()));
        taken.clear();
        let dropped = reports.take(usize::MAX, &mut taken, Waker::noop());
        assert!(dropped.is_empty());
        assert_eq!(taken.len(), REPORTS_MAX - 9);
    }

    #[test]
    fn traces_take_no_room_of_others() {
        let reports = Reports::default();
        for _ in 0..TRACES_MAX {
            assert!(reports.push(trace(1)));
        }
        assert!(!reports.push(trace(1)));
        for _ in 0..REPORTS_MAX {
            assert!(reports.push(report()));
        }
        let mut taken = Vec::new();
        let dropped = reports.take(usize::MAX, &mut taken, Waker::noop());
        assert_eq!((dropped.traces, dropped.events), (1, 0));
        // One always fits, and what has no bytes is not held up by those that have.
        assert!(reports.push(trace(2 * TRACE_BYTES_MAX)));
        assert!(!reports.push(trace(1)));
        assert!(reports.push(report()));
    }

    #[test]
    fn what_has_no_bytes_always_fits_beside_what_has() {
        let load = Load {
            count: 1,
            bytes: REPORT_BYTES_MAX + 1,
        };
        assert!(load.admits(0, REPORTS_MAX, REPORT_BYTES_MAX));
        assert!(!load.admits(1, REPORTS_MAX, REPORT_BYTES_MAX));
    }

    #[test]
    fn only_others_subscriptions_make_events_worth_their_while() {
        let reports = Reports::default();
        assert!(!reports.are_wanted(|| 5));
        reports.open();
        reports.set_own_subscriptions(5);
        assert!(!reports.are_wanted(|| 5));
        assert!(reports.are_wanted(|| 6));
        reports.close();
        assert!(!reports.are_wanted(|| 6));
    }
}
