//! Requests that are measured by two servers: who asks is at one, who answers at another.
//!
//! The server of who asks knows how long it all took; that of who answers knows how long the answerer took, and who it
//! was. Which server asks to be told can be seen from the subject of the answer: it ends in the server's short name and
//! `T` ([`push_suffix`]; nats-server `newServiceReply`, `isTrackedReply`). The server of who answers notes when it
//! delivers such a request ([`Measures::begin`]), and when the answer is published it [reports](Measure) what it has
//! measured. What comes of it on the other server is the business of [`answers`](super::answers).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ANSWER_PREFIX;
use crate::account::Account;
use crate::monitor::ConnectionSnapshot;

/// Requests of one account that are being answered and measured for other servers. Of more, the oldest are not measured.
const REQUESTS_MAX: usize = 16 * 1024;

/// How long they are remembered: as long as nats-server waits for an answer, unless it is told otherwise.
const AGE_MAX: Duration = Duration::from_secs(2 * 60);

/// Servers' own are half as long.
const SUBJECT_BYTES_MAX: usize = 80;

const SUFFIX: &[u8] = b".T";

/// What this server has measured of a request that another server measures as well.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Measure {
    /// Short name of the server that is to be told.
    pub server: String,
    /// The account that answered.
    pub account: Arc<Account>,
    /// Where the answer went, by which the other server knows the request.
    pub answer: String,
    /// Who answered.
    pub responder: ConnectionSnapshot,
    /// When the request was delivered.
    pub requested: Instant,
    /// How long after that it was answered.
    pub after: Duration,
}

/// What another server has measured of a request of a client here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteMeasure {
    /// How long the one who answered took.
    pub service: Duration,
    /// Round trip between it and its server.
    pub round_trip: Duration,
    /// Who it is, in the other server's words, which the engine does not read.
    pub responder: Option<String>,
}

impl RemoteMeasure {
    pub(crate) fn responder_bytes(&self) -> usize {
        self.responder.as_ref().map_or(0, String::len)
    }
}

/// Requests of other servers' clients that clients of one account are answering.
#[derive(Default)]
pub(crate) struct Measures {
    /// Of `open`, to be looked at without its lock.
    count: AtomicUsize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    requested: HashMap<Box<[u8]>, Instant>,
    /// In the order they came, with some of those that are answered.
    order: VecDeque<Box<[u8]>>,
}

/// Has the server of whoever answers tell the one with this short name what it has measured.
pub(crate) fn push_suffix(subject: &mut String, server: &str) {
    subject.push('.');
    subject.push_str(server);
    subject.push_str(".T");
}

/// Whether a server wants to be told of what is answered there.
#[inline]
pub(crate) fn is_measured(subject: &[u8]) -> bool {
    subject.ends_with(SUFFIX) && subject.starts_with(ANSWER_PREFIX)
}

/// The short name of the server that is to be told.
fn server_of(subject: &str) -> Option<&str> {
    let mut words = subject.rsplit('.');
    words.nth(1).filter(|server| !server.is_empty())
}

impl Measures {
    /// A request from another server, whose answer is to go to `answer`, is delivered.
    pub(crate) fn begin(&self, answer: &[u8], now: Instant) {
        if answer.len() > SUBJECT_BYTES_MAX {
            return;
        }
        let mut open = self.open.lock();
        open.forget(now);
        if open.requested.insert(answer.into(), now).is_none() {
            open.order.push_back(answer.into());
        }
        self.count.store(open.requested.len(), Ordering::Relaxed);
    }

    /// An answer is published: when its request was delivered, if it is measured and this is the first answer.
    pub(crate) fn end(&self, answer: &[u8]) -> Option<Instant> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut open = self.open.lock();
        let requested = open.requested.remove(answer);
        self.count.store(open.requested.len(), Ordering::Relaxed);
        requested
    }
}

impl Open {
    /// Forgets, from the oldest on, what is too old, and what is too much. Amortised, a few steps per request.
    fn forget(&mut self, now: Instant) {
        while let Some(answer) = self.order.front() {
            let is_full =
                self.requested.len() >= REQUESTS_MAX || self.order.len() >= 2 * REQUESTS_MAX;
            let requested = self.requested.get(answer);
            let is_young = requested
                .is_some_and(|&requested| now.saturating_duration_since(requested) < AGE_MAX);
            if is_young && !is_full {
                break;
            }
            if let Some(answer) = self.order.pop_front() {
                self.requested.remove(&answer);
            }
        }
    }
}

impl Measure {
    /// Who answered a request, and when; `None` if the answer does not say who measures.
    pub(crate) fn new(
        account: &Arc<Account>,
        answer: &[u8],
        responder: ConnectionSnapshot,
        requested: Instant,
        now: Instant,
    ) -> Option<Self> {
        let answer = core::str::from_utf8(answer).ok()?;
        Some(Self {
            server: server_of(answer)?.to_owned(),
            account: Arc::clone(account),
            answer: answer.to_owned(),
            responder,
            requested,
            after: now.saturating_duration_since(requested),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        Instant::now()
    }

    #[test]
    fn subjects_say_who_measures() {
        let mut subject = "_R_.abcdef.12345".to_owned();
        assert!(!is_measured(subject.as_bytes()));
        push_suffix(&mut subject, "NUmM6cRx");
        assert_eq!(subject, "_R_.abcdef.12345.NUmM6cRx.T");
        assert!(is_measured(subject.as_bytes()));
        assert_eq!(server_of(&subject), Some("NUmM6cRx"));
        assert!(!is_measured(b"answers.NUmM6cRx.T"));
    }

    #[test]
    fn each_is_measured_once_and_not_for_ever() {
        let (measures, now) = (Measures::default(), start());
        measures.begin(b"_R_.a.1.S.T", now);
        assert_eq!(measures.end(b"_R_.a.2.S.T"), None);
        assert_eq!(measures.end(b"_R_.a.1.S.T"), Some(now));
        assert_eq!(measures.end(b"_R_.a.1.S.T"), None);
        measures.begin(b"_R_.a.3.S.T", now);
        measures.begin(b"_R_.a.4.S.T", now + AGE_MAX);
        assert_eq!(measures.end(b"_R_.a.3.S.T"), None);
    }

    #[test]
    fn memory_is_bounded() {
        let (measures, now) = (Measures::default(), start());
        let answer = |number: usize| format!("_R_.a.{number}.S.T").into_bytes();
        for number in 0..3 * REQUESTS_MAX {
            measures.begin(&answer(number), now);
        }
        let open = measures.open.lock();
        assert_eq!(open.requested.len(), REQUESTS_MAX);
        drop(open);
        for number in 0..5 * REQUESTS_MAX {
            measures.begin(&answer(number), now);
            measures.end(&answer(number));
        }
        assert!(measures.open.lock().order.len() <= 2 * REQUESTS_MAX);
        measures.begin(&[b'x'; SUBJECT_BYTES_MAX + 1], now);
        assert_eq!(measures.end(&[b'x'; SUBJECT_BYTES_MAX + 1]), None);
    }
}
