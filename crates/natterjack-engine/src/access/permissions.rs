//! What a user may do, compiled for asking often: where to publish, where to listen, and which deliveries to a
//! wildcard subscription are withheld.
//!
//! Three questions, three meanings of "matches":
//! - a published subject is a plain text, and a pattern matches it or not;
//! - a subscription is allowed if one entry covers all it could ever receive. nats-server takes the asked pattern
//!   for a plain text there, so that an allowed `a.*` lets `a.>` through and with it `a.b.c`; here it does not;
//! - a subscription is refused if a denial matches it as a plain text, as on nats-server. If a denial only overlaps
//!   with it, it is accepted and what the denial matches is withheld at delivery.

use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use natterjack_subject::{is_literal, matches, overlaps};

use super::{Permissions, ResponseLimit, SubjectRules};

/// A user's [`Permissions`], compiled.
#[derive(Debug)]
pub(crate) struct CompiledPermissions {
    /// Unlike any other's in this process; the key of remembered verdicts.
    id: u64,
    publish: PublishRules,
    subscribe: SubscribeRules,
    responses: Option<ResponseLimit>,
}

#[derive(Debug)]
struct PublishRules {
    /// `None` allows everything.
    allow: Option<Patterns>,
    deny: Patterns,
}

/// Patterns of which one is to match; the literal ones at the cost of one look-up.
#[derive(Debug, Default)]
struct Patterns {
    literals: HashSet<Box<[u8]>, RandomState>,
    wildcards: Vec<Box<[u8]>>,
}

#[derive(Debug)]
struct SubscribeRules {
    /// `None` allows everything.
    allow: Option<Vec<Entry>>,
    deny: Vec<Entry>,
}

/// An entry of the rules for subscriptions.
#[derive(Debug)]
struct Entry {
    subject: Box<[u8]>,
    /// The queue group it is about; `None` is about all and about plain subscriptions.
    queue: Option<Box<[u8]>>,
}

impl CompiledPermissions {
    /// Compiles what [`Access::problems`](super::Access::problems) found nothing wrong with. An entry that is no
    /// subject all the same opens nothing, and closes everything.
    pub(crate) fn new(permissions: &Permissions) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let responses = permissions.responses.map(ResponseLimit::with_defaults);
        let SubjectRules { allow, deny } = &permissions.publish;
        // Permission to answer closes everything else that is not opened by name.
        let allow = match (allow, responses) {
            (None, Some(_)) => Some(&[][..]),
            (allow, _) => allow.as_deref(),
        };
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            publish: PublishRules {
                allow: allow.map(|allow| Patterns::of(allow.iter().map(String::as_str))),
                deny: Patterns::of(deny.iter().map(|pattern| denied(pattern))),
            },
            subscribe: SubscribeRules {
                allow: permissions
                    .subscribe
                    .allow
                    .as_deref()
                    .map(|allow| allow.iter().filter_map(|text| Entry::parse(text)).collect()),
                deny: (permissions.subscribe.deny.iter())
                    .map(|text| Entry::parse(text).unwrap_or_else(Entry::everything))
                    .collect(),
            },
            responses,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether there is any subject that may not be published to.
    pub(crate) fn restricts_publishing(&self) -> bool {
        self.publish.allow.is_some() || !self.publish.deny.is_empty()
    }

    /// Whether publishing to `subject` is allowed by the lists, whatever requests were received. Takes time linear
    /// in the number of entries with wildcards.
    pub(crate) fn may_publish(&self, subject: &[u8]) -> bool {
        let PublishRules { allow, deny } = &self.publish;
        allow.as_ref().is_none_or(|allow| allow.matches(subject)) && !deny.matches(subject)
    }

    /// How requests may be answered beyond [`may_publish`](Self::may_publish).
    pub(crate) fn responses(&self) -> Option<ResponseLimit> {
        self.responses
    }

    /// Whether a subscription to `pattern` is accepted. Takes time linear in the number of entries.
    pub(crate) fn may_subscribe(&self, pattern: &[u8], queue: Option<&[u8]>) -> bool {
        let SubscribeRules { allow, deny } = &self.subscribe;
        let is_allowed = allow.as_ref().is_none_or(|allow| {
            let covering = || allow.iter().filter(|entry| covers(&entry.subject, pattern));
            let names_queues = covering().any(|entry| entry.queue.is_some());
            match queue {
                // Once an entry names queue groups, only those it names are allowed.
                Some(queue) if names_queues => covering().any(|entry| entry.is_of_queue(queue)),
                _ => covering().any(|entry| entry.queue.is_none()),
            }
        });
        is_allowed
            && !deny
                .iter()
                .any(|entry| matches(&entry.subject, pattern) && entry.concerns(queue))
    }

    /// Whether messages must be looked at before they are delivered to a subscription to `pattern`.
    pub(crate) fn must_filter(&self, pattern: &[u8], queue: Option<&[u8]>) -> bool {
        (self.subscribe.deny.iter())
            .any(|entry| overlaps(&entry.subject, pattern) && entry.concerns(queue))
    }

    /// Whether a message to `subject` may be delivered to a subscription of this user's.
    pub(crate) fn may_receive(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        !self
            .subscribe
            .deny
            .iter()
            .any(|entry| matches(&entry.subject, subject) && entry.concerns(queue))
    }
}

impl Patterns {
    fn of<'a>(patterns: impl Iterator<Item = &'a str>) -> Self {
        let mut compiled = Self::default();
        for pattern in patterns.map(str::as_bytes) {
            if !natterjack_subject::is_valid_pattern(pattern) {
                continue;
            }
            if is_literal(pattern) {
                compiled.literals.insert(pattern.into());
            } else {
                compiled.wildcards.push(pattern.into());
            }
        }
        compiled
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.wildcards.is_empty()
    }

    fn matches(&self, subject: &[u8]) -> bool {
        self.literals.contains(subject)
            || self
                .wildcards
                .iter()
                .any(|pattern| matches(pattern, subject))
    }
}

impl Entry {
    /// Reads `subject` or `subject queue`.
    fn parse(text: &str) -> Option<Self> {
        let (subject, queue) = split(text)?;
        Some(Self {
            subject: subject.as_bytes().into(),
            queue: queue.map(|queue| queue.as_bytes().into()),
        })
    }

    fn everything() -> Self {
        Self {
            subject: (*b">").into(),
            queue: None,
        }
    }

    /// Whether the entry is about this queue group, by name or with wildcards.
    fn is_of_queue(&self, queue: &[u8]) -> bool {
        self.queue
            .as_deref()
            .is_some_and(|own| own == queue || covers(own, queue))
    }

    /// Whether a denial hits a subscription with this queue group or with none.
    fn concerns(&self, queue: Option<&[u8]>) -> bool {
        self.queue.is_none() || queue.is_some_and(|queue| self.is_of_queue(queue))
    }
}

impl ResponseLimit {
    /// Zeros stand for the defaults, as in nats-server's configuration.
    fn with_defaults(mut self) -> Self {
        let defaults = Self::default();
        if self.messages_max == 0 {
            self.messages_max = defaults.messages_max;
        }
        if self.expires.is_zero() {
            self.expires = defaults.expires;
        }
        self
    }
}

/// Takes `subject` or `subject queue` apart; `None` if it is neither.
pub(super) fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let is_valid = |part: &str| natterjack_subject::is_valid_pattern(part.as_bytes());
    let mut parts = text.split_ascii_whitespace();
    let subject = parts.next().filter(|subject| is_valid(subject))?;
    let queue = parts.next();
    (parts.next().is_none() && queue.is_none_or(is_valid)).then_some((subject, queue))
}

/// What a denial to publish is about: queue groups mean nothing there, and what is no subject denies all.
fn denied(text: &str) -> &str {
    split(text).map_or(">", |(subject, _)| subject)
}

/// Whether `pattern` matches every subject that `asked` matches.
fn covers(pattern: &[u8], asked: &[u8]) -> bool {
    let is_separator = |byte: &u8| *byte == b'.';
    let mut asked_tokens = asked.split(is_separator);
    for token in pattern.split(is_separator) {
        match (token, asked_tokens.next()) {
            (_, None | Some(b"")) => return false,
            (b">", Some(_)) => return asked_tokens.all(|rest| !rest.is_empty()),
            (b"*", Some(b">")) => return false,
            (b"*", Some(_)) => {}
            (token, Some(asked)) if token == asked => {}
            _ => return false,
        }
    }
    asked_tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(allow: Option<&[&str]>, deny: &[&str]) -> SubjectRules {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        SubjectRules {
            allow: allow.map(owned),
            deny: owned(deny),
        }
    }

    fn publish(allow: Option<&[&str]>, deny: &[&str]) -> CompiledPermissions {
        CompiledPermissions::new(&Permissions {
            publish: rules(allow, deny),
            ..Permissions::default()
        })
    }

    fn subscribe(allow: Option<&[&str]>, deny: &[&str]) -> CompiledPermissions {
        CompiledPermissions::new(&Permissions {
            subscribe: rules(allow, deny),
            ..Permissions::default()
        })
    }

    #[test]
    fn publishing() {
        let rules = publish(Some(&["p.*", "_INBOX.>", "one"]), &["p.no"]);
        for subject in ["p.a", "p.*", "_INBOX.a.b", "one"] {
            assert!(rules.may_publish(subject.as_bytes()), "{subject}");
        }
        for subject in ["p.no", "p", "p.", "p.a.b", "x", "one.two", ""] {
            assert!(!rules.may_publish(subject.as_bytes()), "{subject}");
        }
        assert!(rules.restricts_publishing());
        let open = publish(None, &[]);
        assert!(open.may_publish(b"anything") && !open.restricts_publishing());
        let nothing = publish(Some(&[]), &[]);
        assert!(!nothing.may_publish(b"anything"));
    }

    #[test]
    fn permission_to_answer_closes_the_rest() {
        let permissions = |allow| {
            CompiledPermissions::new(&Permissions {
                publish: rules(allow, &[]),
                responses: Some(ResponseLimit::default()),
                ..Permissions::default()
            })
        };
        assert!(!permissions(None).may_publish(b"a"));
        assert!(permissions(Some(&["a"])).may_publish(b"a"));
    }

    #[test]
    fn zeros_in_a_response_limit_are_its_defaults() {
        let limit = ResponseLimit {
            messages_max: 0,
            expires: std::time::Duration::ZERO,
            never_expires: false,
        };
        assert_eq!(limit.with_defaults(), ResponseLimit::default());
    }

    /// As observed on nats-server 2.15.1, except where `allow` has `*` and `>` is asked for.
    #[test]
    fn subscribing() {
        let rules = subscribe(
            Some(&["foo.*", "bar.>", "q v1.*", "both", "both v1"]),
            &["bar.no", "bar.deny.*", "bar.q v2"],
        );
        #[track_caller]
        fn check(rules: &CompiledPermissions, asked: &str, expected: bool) {
            let (subject, queue) = match asked.split_once(' ') {
                Some((subject, queue)) => (subject, Some(queue.as_bytes())),
                None => (asked, None),
            };
            assert_eq!(
                rules.may_subscribe(subject.as_bytes(), queue),
                expected,
                "{asked}"
            );
        }
        for asked in [
            "foo.*", "foo.a", "bar.>", "bar.*", "q v1.a", "both", "both v1", "bar.> v2",
            "bar.q v3", "bar.q",
        ] {
            check(&rules, asked, true);
        }
        for asked in [
            "foo.>",
            "*.a",
            ">",
            "bar.no",
            "bar.no q",
            "bar.deny.*",
            "bar.deny.>",
            "q",
            "q v1",
            "q v1.>",
            "both v2",
            "bar.q v2",
            "a..b",
            "foo..b",
            "foo.",
            "foo.a.b",
            "foo",
        ] {
            check(&rules, asked, false);
        }
    }

    #[test]
    fn denials_that_overlap_are_filtered() {
        let rules = subscribe(None, &["s.no", "s.*.x", "t v2"]);
        assert!(rules.may_subscribe(b"s.>", None) && rules.must_filter(b"s.>", None));
        assert!(rules.must_filter(b"*.>", None) && !rules.must_filter(b"s.yes", None));
        assert!(rules.must_filter(b"t", Some(b"v2")) && !rules.must_filter(b"t", None));
        assert!(!rules.may_receive(b"s.no", None) && !rules.may_receive(b"s.a.x", Some(b"q")));
        assert!(rules.may_receive(b"s.a.y", None) && rules.may_receive(b"t", Some(b"v1")));
        assert!(!rules.may_receive(b"t", Some(b"v2")));
    }

    #[test]
    fn what_is_no_subject_opens_nothing_and_closes_all() {
        let rules = subscribe(Some(&["a..b", " ", "", "x y z"]), &[]);
        assert!(!rules.may_subscribe(b"a", None));
        for broken in ["a..b", "", " \t ", "x y z"] {
            assert!(
                !subscribe(None, &[broken]).may_subscribe(b"a", None),
                "{broken}"
            );
            assert!(!publish(None, &[broken]).may_publish(b"a"), "{broken}");
        }
        assert!(!publish(Some(&["a..b"]), &[]).may_publish(b"a"));
    }

    /// Every subject of up to three tokens over a small alphabet.
    fn all_subjects() -> Vec<String> {
        let tokens = ["a", "b", "c"];
        let mut subjects: Vec<String> = tokens.map(str::to_owned).to_vec();
        for _ in 0..2 {
            let longer: Vec<String> = subjects
                .iter()
                .flat_map(|subject| tokens.map(|token| format!("{subject}.{token}")))
                .collect();
            subjects.extend(longer);
        }
        subjects
    }

    fn pattern() -> impl Strategy<Value = String> {
        let token = prop_oneof![3 => "[abc]", 1 => Just("*".to_owned())];
        (prop::collection::vec(token, 1..=3), any::<bool>()).prop_map(|(mut tokens, open)| {
            if open {
                *tokens.last_mut().expect("at least one") = ">".to_owned();
            }
            tokens.join(".")
        })
    }

    fn entry() -> impl Strategy<Value = String> {
        let queue = prop_oneof![4 => Just(None), 1 => "q[12]".prop_map(Some), 1 => Just(Some("*".to_owned()))];
        (pattern(), queue).prop_map(|(subject, queue)| match queue {
            Some(queue) => format!("{subject} {queue}"),
            None => subject,
        })
    }

    fn queue_concerned(entry: &str, queue: Option<&str>) -> bool {
        match (entry.split_once(' '), queue) {
            (None, _) | (Some((_, "*")), Some(_)) => true,
            (Some((_, own)), Some(queue)) => own == queue,
            (Some(_), None) => false,
        }
    }

    fn subject_of(entry: &str) -> &[u8] {
        entry.split(' ').next().expect("never empty").as_bytes()
    }

    proptest! {
        /// Whatever is asked for, what arrives is allowed and not denied: checked against the plain meaning of
        /// the lists, subject by subject.
        #[test]
        fn nothing_arrives_that_is_not_allowed(
            allow in prop::option::of(prop::collection::vec(entry(), 0..4)),
            deny in prop::collection::vec(entry(), 0..3),
            asked in pattern(),
            queue in prop::option::of("q[12]"),
        ) {
            let rules = CompiledPermissions::new(&Permissions {
                subscribe: SubjectRules { allow: allow.clone(), deny: deny.clone() },
                ..Permissions::default()
            });
            let queue_bytes = queue.as_deref().map(str::as_bytes);
            let is_accepted = rules.may_subscribe(asked.as_bytes(), queue_bytes);
            for subject in all_subjects() {
                let bytes = subject.as_bytes();
                let arrives = is_accepted
                    && matches(asked.as_bytes(), bytes)
                    && (!rules.must_filter(asked.as_bytes(), queue_bytes)
                        || rules.may_receive(bytes, queue_bytes));
                let is_denied = deny.iter().any(|entry| {
                    matches(subject_of(entry), bytes) && queue_concerned(entry, queue.as_deref())
                });
                let is_allowed = allow.as_ref().is_none_or(|allow| {
                    allow.iter().any(|entry| {
                        matches(subject_of(entry), bytes) && queue_concerned(entry, queue.as_deref())
                    })
                });
                prop_assert!(!arrives || (is_allowed && !is_denied), "{subject}");
                // And nothing is withheld beyond the denials.
                let is_wanted = is_accepted && matches(asked.as_bytes(), bytes);
                prop_assert!(!is_wanted || is_denied || arrives, "{subject} withheld");
            }
        }

        /// One entry for the whole pattern is enough and needed.
        #[test]
        fn covering_is_the_subset_of_subjects(pattern in pattern(), asked in pattern()) {
            let mut subjects = all_subjects();
            subjects.extend(["a.a.a.a", "b.c.a.b", "d", "d.a", "a.d", "a.a.d", "d.d.d", "d.d.d.d"].map(str::to_owned));
            let is_subset = subjects.iter().map(String::as_bytes)
                .all(|subject| !matches(asked.as_bytes(), subject) || matches(pattern.as_bytes(), subject));
            if covers(pattern.as_bytes(), asked.as_bytes()) {
                prop_assert!(is_subset);
            } else if pattern.split('.').count() <= 3 {
                let longer = all_subjects().into_iter().map(|subject| format!("{subject}.d"));
                let is_subset = is_subset && longer.into_iter()
                    .all(|subject| !matches(asked.as_bytes(), subject.as_bytes()) || matches(pattern.as_bytes(), subject.as_bytes()));
                let with_strangers = asked.replace(['*', '>'], "stranger");
                prop_assert!(!is_subset || !matches(pattern.as_bytes(), with_strangers.as_bytes()));
            }
        }

        #[test]
        fn publishing_follows_the_lists(
            allow in prop::option::of(prop::collection::vec(pattern(), 0..4)),
            deny in prop::collection::vec(pattern(), 0..3),
        ) {
            let rules = CompiledPermissions::new(&Permissions {
                publish: SubjectRules { allow: allow.clone(), deny: deny.clone() },
                ..Permissions::default()
            });
            for subject in all_subjects() {
                let hit = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern.as_bytes(), subject.as_bytes()));
                let expected = allow.as_deref().is_none_or(hit) && !hit(&deny);
                prop_assert_eq!(rules.may_publish(subject.as_bytes()), expected, "{}", subject);
            }
        }
    }
}
