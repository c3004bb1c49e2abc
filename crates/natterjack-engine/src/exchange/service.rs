//! Services that an account imports: where a request goes, and the way of its answer back.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use natterjack_subject::{is_literal, matches};
use parking_lot::Mutex;

use super::Transform;
use crate::access::{Access, AccountAccess, ResponseType, ServiceImport};
use crate::account::Account;

/// Services of other accounts that an account uses, compiled.
pub(crate) struct ServiceImports {
    imports: Box<[CompiledService]>,
}

/// A service of another account.
pub(crate) struct CompiledService {
    pub(crate) account: Arc<Account>,
    /// What requests are published to here.
    from: Box<[u8]>,
    to: Destination,
    pub(crate) terms: Terms,
}

/// Where requests go.
enum Destination {
    Same,
    Literal(Box<[u8]>),
    Renamed(Transform),
}

/// How a service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) response_type: ResponseType,
    pub(crate) threshold: Duration,
}

impl ServiceImports {
    /// Compiles the imports of an account. What is not exported to it, and what has other problems, is left out.
    pub(crate) fn new(
        importer: &AccountAccess,
        access: &Access,
        find: impl Fn(&str) -> Option<Arc<Account>>,
    ) -> Option<Self> {
        let compiled = importer.service_imports().filter_map(|import| {
            super::rules::check_service_import(importer, import, access).ok()?;
            let exporter = access.account(&import.account)?;
            let export = exporter
                .service_exports()
                .find(|export| super::rules::is_within(&import.subject, &export.subject))?;
            let terms = Terms {
                response_type: export.response_type,
                threshold: export.response_threshold,
            };
            CompiledService::new(import, find(&import.account)?, terms)
        });
        let imports: Box<[_]> = compiled.collect();
        (!imports.is_empty()).then_some(Self { imports })
    }

    /// The services that hear of what is published to `subject`. Linear in the imports.
    pub(crate) fn of(&self, subject: &[u8]) -> impl Iterator<Item = &CompiledService> {
        self.imports
            .iter()
            .filter(move |import| matches(&import.from, subject))
    }
}

impl CompiledService {
    fn new(import: &ServiceImport, account: Arc<Account>, terms: Terms) -> Option<Self> {
        let from = local_pattern(import.local_subject());
        let to = if from == import.subject {
            Destination::Same
        } else if is_literal(import.subject.as_bytes()) {
            Destination::Literal(import.subject.as_bytes().into())
        } else {
            Destination::Renamed(way_there(import).ok()?)
        };
        Some(Self {
            account,
            from: from.as_bytes().into(),
            to,
            terms,
        })
    }

    /// What `subject` is called there.
    pub(crate) fn subject_there(&self, subject: &[u8]) -> Vec<u8> {
        let mut there = Vec::with_capacity(subject.len());
        match &self.to {
            Destination::Same => there.extend_from_slice(subject),
            Destination::Literal(literal) => there.extend_from_slice(literal),
            Destination::Renamed(transform) => transform.rename(subject, &mut there),
        }
        there
    }
}

/// A local subject with `*` for `$1` and the like.
pub(super) fn local_pattern(local: &str) -> String {
    let tokens = local
        .split('.')
        .map(|token| match super::transform::wildcard_number(token) {
            Some(_) => "*",
            None => token,
        });
    tokens.collect::<Vec<_>>().join(".")
}

/// From the subject here to the one there: `my.$2.$1` for `svc.*.*` is the way from `my.*.*` to `svc.$2.$1`.
pub(super) fn way_there(import: &ServiceImport) -> Result<Transform, super::TransformProblem> {
    // Whether what the local subject names is there is checked the other way round.
    Transform::for_import(&import.subject, import.local_subject())?;
    let mut next = 0;
    let numbers = import.local_subject().split('.').filter_map(|token| {
        super::transform::wildcard_number(token).or_else(|| {
            (token == "*").then(|| {
                next += 1;
                next - 1
            })
        })
    });
    let numbers: Vec<usize> = numbers.collect();
    let mut wildcard = 0..;
    let there = import.subject.split('.').map(|token| {
        if token != "*" {
            return token.to_owned();
        }
        let number = wildcard.next().unwrap_or(0);
        let here = numbers.iter().position(|&known| known == number);
        format!("${}", here.unwrap_or(0) + 1)
    });
    let there: Vec<String> = there.collect();
    Transform::for_import(&local_pattern(import.local_subject()), &there.join("."))
}

/// Requests remembered per account that answers, and bytes of their subjects. Beyond, the oldest are forgotten.
const REQUESTS_MAX: usize = 64 * 1024;
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Answered requests that stay in the order of requests beyond as many as are open, twice.
const ANSWERED_MAX: usize = 1024;

/// Requests of other accounts that this account may answer, by the subjects its answers go to.
#[derive(Default)]
pub(crate) struct PendingAnswers(Mutex<Option<Box<Pending>>>);

struct Pending {
    /// Has swallowed a secret; what comes out after a number depends on it.
    secret: DefaultHasher,
    prefix: String,
    requests: u64,
    open: HashMap<Box<[u8]>, Request, RandomState>,
    /// Bytes of the subjects in `open`.
    open_bytes: usize,
    /// In the order they came, with some of those that are answered.
    order: VecDeque<Box<[u8]>>,
}

struct Request {
    /// The account of who asked, which may be gone by the time. Two accounts may have asked each other.
    account: Weak<Account>,
    reply: Box<[u8]>,
    terms: Terms,
    until: Instant,
}

/// Where an answer goes.
pub(crate) struct Way {
    /// The account of who asked.
    pub(crate) account: Arc<Account>,
    /// Where it wants its answer.
    pub(crate) reply: Box<[u8]>,
    /// How it answers, if the answer asks in turn.
    pub(crate) terms: Terms,
}

/// What subjects of answers begin with.
pub(crate) const ANSWER_PREFIX: &[u8] = b"_R_.";

impl PendingAnswers {
    /// Remembers a request, and returns the subject its answer is to be published to: one that nobody can guess.
    pub(crate) fn expect(
        &self,
        account: &Arc<Account>,
        reply: &[u8],
        terms: Terms,
        seed: impl Fn() -> u64,
        now: Instant,
    ) -> Box<[u8]> {
        let mut pending = self.0.lock();
        let pending = pending.get_or_insert_with(|| Box::new(Pending::new(seed)));
        pending.forget(now);
        pending.requests += 1;
        let mut hasher = pending.secret.clone();
        hasher.write_u64(pending.requests);
        let mut subject = pending.prefix.clone();
        push_digits(&mut subject, hasher.finish(), 11);
        let subject: Box<[u8]> = subject.into_bytes().into();
        let request = Request {
            account: Arc::downgrade(account),
            reply: reply.into(),
            terms,
            until: now + terms.threshold,
        };
        pending.open_bytes += subject.len() + reply.len();
        pending.open.insert(subject.clone(), request);
        pending.order.push_back(subject.clone());
        subject
    }

    /// Where an answer to `subject` goes; one that is the only or the last one, because it is empty, ends the request.
    pub(crate) fn take(&self, subject: &[u8], is_empty: bool, now: Instant) -> Option<Way> {
        let mut pending = self.0.lock();
        let pending = pending.as_mut()?;
        let request = pending.open.get_mut(subject)?;
        let way = request.account.upgrade().map(|account| Way {
            account,
            reply: request.reply.clone(),
            terms: request.terms,
        });
        let is_over = now > request.until;
        if is_over || is_empty || request.terms.response_type == ResponseType::Singleton {
            pending.remove(subject);
        } else {
            request.until = now + request.terms.threshold;
        }
        way.filter(|_| !is_over)
    }

    /// Nobody heard the request, or whoever asked does not hear the answer.
    pub(crate) fn forget(&self, subject: &[u8]) {
        if let Some(pending) = self.0.lock().as_mut() {
            pending.remove(subject);
        }
    }
}

impl Pending {
    fn new(seed: impl Fn() -> u64) -> Self {
        let mut secret = DefaultHasher::new();
        (0..4).for_each(|_| secret.write_u64(seed()));
        let mut prefix = "_R_.".to_owned();
        push_digits(&mut prefix, seed(), 6);
        prefix.push('.');
        Self {
            secret,
            prefix,
            requests: 0,
            open: HashMap::default(),
            open_bytes: 0,
            order: VecDeque::new(),
        }
    }

    fn remove(&mut self, subject: &[u8]) {
        if let Some(request) = self.open.remove(subject) {
            self.open_bytes -= subject.len() + request.reply.len();
        }
    }

    /// Forgets, from the oldest on, what is over, and what is too much. Amortised, a few steps per request.
    fn forget(&mut self, now: Instant) {
        while let Some(subject) = self.order.front() {
            let is_full = self.open.len() >= REQUESTS_MAX || self.open_bytes > REQUEST_BYTES_MAX;
            let request = self.open.get(subject);
            if !is_full && request.is_some_and(|request| now <= request.until) {
                break;
            }
            if let Some(subject) = self.order.pop_front() {
                self.remove(&subject);
            }
        }
        // One that waits long at the front must not keep all that were answered after it.
        if self.order.len() > 2 * self.open.len() + ANSWERED_MAX {
            self.order.retain(|subject| self.open.contains_key(subject));
        }
    }
}

fn push_digits(text: &mut String, mut number: u64, count: usize) {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for _ in 0..count {
        text.push(char::from(DIGITS[(number % 62) as usize]));
        number /= 62;
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

    const TERMS: Terms = Terms {
        response_type: ResponseType::Singleton,
        threshold: Duration::from_secs(1),
    };

    fn there(subject: &str, to: Option<&str>, published: &str) -> String {
        let import = ServiceImport {
            account: "A".to_owned(),
            subject: subject.to_owned(),
            to: to.map(ToOwned::to_owned),
        };
        let account = Arc::new(Account::new("A"));
        let service = CompiledService::new(&import, account, TERMS).expect("a valid one");
        assert!(matches(&service.from, published.as_bytes()), "{published}");
        String::from_utf8(service.subject_there(published.as_bytes())).expect("text")
    }

    #[test]
    fn requests_are_renamed() {
        assert_eq!(there("svc.*", None, "svc.x"), "svc.x");
        assert_eq!(there("svc.*", Some("my.*"), "my.x"), "svc.x");
        assert_eq!(there("svc.*.*", Some("my.$2.$1"), "my.x.y"), "svc.y.x");
        assert_eq!(there("svc", Some("my.own"), "my.own"), "svc");
        assert_eq!(there("svc.>", Some("my.>"), "my.a.b"), "svc.a.b");
        assert_eq!(there("svc.*.>", Some("my.$1.>"), "my.a.b.c"), "svc.a.b.c");
    }

    #[test]
    fn answers_find_their_way_once_and_in_time() {
        let (now, seed) = (start(), || 7);
        let (asker, pending) = (Arc::new(Account::new("B")), PendingAnswers::default());
        let first = pending.expect(&asker, b"r.1", TERMS, seed, now);
        let second = pending.expect(&asker, b"r.2", TERMS, seed, now);
        assert!(first != second && first.starts_with(ANSWER_PREFIX));
        let way = pending.take(&first, false, now).expect("asked for");
        assert_eq!(&*way.reply, b"r.1");
        assert!(pending.take(&first, false, now).is_none());
        let late = now + Duration::from_millis(1001);
        assert!(pending.take(&second, false, late).is_none());
        let third = pending.expect(&asker, b"r.3", TERMS, seed, late);
        pending.forget(&third);
        assert!(pending.take(&third, false, late).is_none());
    }

    #[test]
    fn streams_go_on_while_they_do_and_end_empty() {
        let (now, seed) = (start(), || 7);
        let (asker, pending) = (Arc::new(Account::new("B")), PendingAnswers::default());
        let terms = Terms {
            response_type: ResponseType::Streamed,
            ..TERMS
        };
        let subject = pending.expect(&asker, b"r", terms, seed, now);
        for step in 0..5_u32 {
            let then = now + step * Duration::from_millis(900);
            assert!(pending.take(&subject, false, then).is_some(), "{step}");
        }
        let then = now + 5 * Duration::from_millis(900);
        assert!(pending.take(&subject, true, then).is_some());
        assert!(pending.take(&subject, false, then).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let (now, seed) = (start(), || 7);
        let (asker, pending) = (Arc::new(Account::new("B")), PendingAnswers::default());
        let first = pending.expect(&asker, b"r", TERMS, seed, now);
        let mut last = first.clone();
        for _ in 0..REQUESTS_MAX + 10 {
            last = pending.expect(&asker, b"r", TERMS, seed, now);
        }
        assert!(pending.take(&first, false, now).is_none());
        assert!(pending.take(&last, false, now).is_some());
        let held = pending.0.lock().as_ref().map(|pending| pending.open.len());
        assert!(held.is_some_and(|held| held <= REQUESTS_MAX), "{held:?}");
        // One that waits is not pushed out by those that are answered, and they do not stay.
        let waiting = pending.expect(&asker, b"r", TERMS, seed, now + TERMS.threshold * 3);
        for _ in 0..3 * REQUESTS_MAX {
            let later = now + TERMS.threshold * 3;
            let subject = pending.expect(&asker, b"r", TERMS, seed, later);
            assert!(pending.take(&subject, false, later).is_some());
        }
        let held = pending.0.lock().as_ref().map(|pending| pending.order.len());
        assert!(held.is_some_and(|held| held < 2 * ANSWERED_MAX), "{held:?}");
        let then = now + TERMS.threshold * 3;
        assert!(pending.take(&waiting, false, then).is_some());
        let later = now + Duration::from_secs(10);
        pending.expect(&asker, b"r", TERMS, seed, later);
        let held = pending.0.lock().as_ref().map(|pending| pending.open.len());
        assert_eq!(held, Some(1));
    }
}
