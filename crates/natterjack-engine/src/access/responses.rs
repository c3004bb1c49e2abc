//! Requests a client received and may answer, for users with permission to answer (`allow_responses`).
//!
//! Each request adds to what may be published to its reply subject. nats-server counts a second request with the same
//! reply subject as an answer to the first; here it is a request of its own.

use std::collections::VecDeque;
use std::time::Instant;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::ResponseLimit;

/// Requests remembered per connection, and bytes of their reply subjects. Beyond, the oldest are forgotten: who is that
/// far behind with answers cannot answer them any more.
const REQUESTS_MAX: usize = 64 * 1024;
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What one client may answer.
pub(crate) struct Responses {
    limit: ResponseLimit,
    open: HashMap<Box<[u8]>, Open, RandomState>,
    /// Reply subjects in the order of their latest requests, with those already answered and those asked again.
    order: VecDeque<(Box<[u8]>, u64)>,
    order_bytes: usize,
    requests: u64,
}

struct Open {
    /// Number of the latest request; the one in `order` that counts.
    request: u64,
    since: Instant,
    /// Answers that are left; `None` sets no bound.
    left: Option<u64>,
}

impl Responses {
    pub(crate) fn new(limit: ResponseLimit) -> Self {
        Self {
            limit,
            open: HashMap::default(),
            order: VecDeque::new(),
            order_bytes: 0,
            requests: 0,
        }
    }

    /// The same under another limit, for as many answers as both allow. Linear in the requests that are open.
    pub(crate) fn under(mut self, limit: ResponseLimit) -> Self {
        if let Ok(more) = u64::try_from(limit.messages_max) {
            for open in self.open.values_mut() {
                open.left = Some(open.left.map_or(more, |left| left.min(more)));
            }
        }
        self.limit = limit;
        self
    }

    /// A request is delivered that is to be answered at `reply`.
    pub(crate) fn requested(&mut self, reply: &[u8], now: Instant) {
        let more = u64::try_from(self.limit.messages_max).ok();
        self.requests += 1;
        let request = self.requests;
        let before = self.open.get(reply).filter(|open| !self.is_over(open, now));
        let left = match (before, more) {
            (
                Some(Open {
                    left: Some(left), ..
                }),
                Some(more),
            ) => Some(left.saturating_add(more)),
            (_, more) => more,
        };
        self.open.insert(
            reply.into(),
            Open {
                request,
                since: now,
                left,
            },
        );
        self.order.push_back((reply.into(), request));
        self.order_bytes += reply.len();
        self.forget(now);
    }

    /// The request that was noted last for `reply` did not arrive after all.
    pub(crate) fn retract(&mut self, reply: &[u8]) {
        let granted = u64::try_from(self.limit.messages_max).unwrap_or(u64::MAX);
        let left = self.open.get(reply).and_then(|open| open.left);
        match left.map(|left| left.saturating_sub(granted)) {
            Some(left) if left > 0 => {
                if let Some(open) = self.open.get_mut(reply) {
                    open.left = Some(left);
                }
            }
            _ => {
                self.open.remove(reply);
            }
        }
    }

    /// Whether an answer to `reply` may be published now; if so, it is counted.
    pub(crate) fn take(&mut self, reply: &[u8], now: Instant) -> bool {
        let Some(open) = self.open.get(reply) else {
            return false;
        };
        if self.is_over(open, now) {
            self.open.remove(reply);
            return false;
        }
        if let Some(open) = self.open.get_mut(reply)
            && let Some(left) = &mut open.left
        {
            *left -= 1;
            if *left == 0 {
                self.open.remove(reply);
            }
        }
        true
    }

    fn is_over(&self, open: &Open, now: Instant) -> bool {
        let age = now.saturating_duration_since(open.since);
        !self.limit.never_expires && age > self.limit.expires
    }

    /// Forgets, from the oldest on, what is over, and what is too much. Amortised, a few steps per request.
    fn forget(&mut self, now: Instant) {
        while let Some((reply, request)) = self.order.front() {
            let open = self.open.get(reply).filter(|open| open.request == *request);
            let is_full = self.order.len() > REQUESTS_MAX || self.order_bytes > REQUEST_BYTES_MAX;
            match open {
                Some(open) if !is_full && !self.is_over(open, now) => return,
                Some(_) => {
                    self.open.remove(reply);
                }
                None => {}
            }
            self.order_bytes -= reply.len();
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        Instant::now()
    }

    fn responses(messages_max: i64) -> Responses {
        Responses::new(ResponseLimit {
            messages_max,
            expires: Duration::from_secs(1),
            never_expires: false,
        })
    }

    #[test]
    fn as_many_answers_as_allowed() {
        let now = start();
        let mut responses = responses(2);
        assert!(!responses.take(b"r", now));
        responses.requested(b"r", now);
        assert!(responses.take(b"r", now) && responses.take(b"r", now));
        assert!(!responses.take(b"r", now) && !responses.take(b"s", now));
    }

    #[test]
    fn each_request_counts() {
        let now = start();
        let mut responses = responses(1);
        responses.requested(b"r", now);
        responses.requested(b"r", now);
        assert!(responses.take(b"r", now) && responses.take(b"r", now));
        assert!(!responses.take(b"r", now));
    }

    #[test]
    fn what_did_not_arrive_cannot_be_answered() {
        let now = start();
        let mut responses = responses(2);
        responses.requested(b"r", now);
        responses.retract(b"r");
        assert!(!responses.take(b"r", now));
        responses.requested(b"r", now);
        responses.requested(b"r", now);
        responses.retract(b"r");
        assert!(responses.take(b"r", now) && responses.take(b"r", now));
        assert!(!responses.take(b"r", now));
        responses.retract(b"r");
        assert!(!responses.take(b"r", now));
    }

    #[test]
    fn answers_come_in_time_or_not_at_all() {
        let now = start();
        let mut responses = responses(-1);
        responses.requested(b"r", now);
        let (just, late) = (
            now + Duration::from_secs(1),
            now + Duration::from_millis(1001),
        );
        assert!(responses.take(b"r", just) && responses.take(b"r", just));
        assert!(!responses.take(b"r", late) && !responses.take(b"r", now));
        responses.requested(b"r", late);
        assert!(responses.take(b"r", late));
        let mut for_ever = Responses::new(ResponseLimit {
            never_expires: true,
            ..ResponseLimit::default()
        });
        for_ever.requested(b"r", now);
        assert!(for_ever.take(b"r", now + Duration::from_secs(86_400)));
    }

    #[test]
    fn another_limit_takes_nothing_away_but_what_is_beyond_it() {
        let now = start();
        let answers = |before: i64, after: i64, later: Duration| {
            let mut responses = responses(before);
            responses.requested(b"r", now);
            let mut responses = responses.under(ResponseLimit {
                messages_max: after,
                expires: Duration::from_secs(2),
                never_expires: false,
            });
            (0..9)
                .take_while(|_| responses.take(b"r", now + later))
                .count()
        };
        let soon = Duration::from_millis(1500);
        assert_eq!(answers(3, 2, soon), 2);
        assert_eq!(answers(1, 2, soon), 1);
        assert_eq!(answers(-1, 2, soon), 2);
        assert_eq!(answers(2, -1, soon), 2);
        assert_eq!(answers(-1, -1, soon), 9);
        assert_eq!(answers(3, 2, Duration::from_millis(2500)), 0);
    }

    #[test]
    fn memory_is_bounded_and_what_is_over_leaves_it() {
        let now = start();
        let mut responses = responses(1);
        for number in 0..(REQUESTS_MAX + 10) {
            responses.requested(&number.to_be_bytes(), now);
        }
        assert!(responses.open.len() <= REQUESTS_MAX && responses.order.len() <= REQUESTS_MAX);
        assert!(!responses.take(&0_usize.to_be_bytes(), now));
        assert!(responses.take(&REQUESTS_MAX.to_be_bytes(), now));
        responses.requested(b"r", now + Duration::from_secs(2));
        assert_eq!((responses.open.len(), responses.order.len()), (1, 1));
        let long = vec![b'x'; REQUEST_BYTES_MAX + 1];
        responses.requested(&long, now + Duration::from_secs(2));
        assert_eq!((responses.open.len(), responses.order_bytes), (0, 0));
    }
}
