//! The authorization matrix: users with random permissions, subscriptions of every kind, several receivers of each message.
//! What each client hears and is told is compared with a model that reads the rules entry by entry.

use natterjack_engine::{Access, Credential, Limits, Permissions, SubjectRules, User};
use proptest::prelude::*;

use crate::harness::{Client, Harness};

/// Receivers beside the publisher.
const USERS: usize = 3;

/// What a user may do, as texts.
#[derive(Clone, Debug)]
struct Rules {
    publish_allow: Option<Vec<String>>,
    publish_deny: Vec<String>,
    subscribe_allow: Option<Vec<(String, Option<String>)>>,
    subscribe_deny: Vec<(String, Option<String>)>,
}

#[derive(Clone, Debug)]
struct Subscription {
    user: usize,
    pattern: String,
    queue: Option<String>,
}

fn pattern() -> impl Strategy<Value = String> {
    let token = prop_oneof![3 => "[ab]", 1 => Just("*".to_owned())];
    (prop::collection::vec(token, 1..=3), any::<bool>()).prop_map(|(mut tokens, is_open)| {
        if is_open {
            *tokens.last_mut().expect("at least one") = ">".to_owned();
        }
        tokens.join(".")
    })
}

fn entry() -> impl Strategy<Value = (String, Option<String>)> {
    (pattern(), prop::option::weighted(0.3, "q[12]|\\*"))
}

fn rules() -> impl Strategy<Value = Rules> {
    (
        prop::option::of(prop::collection::vec(pattern(), 1..4)),
        prop::collection::vec(pattern(), 0..3),
        prop::option::of(prop::collection::vec(entry(), 1..4)),
        prop::collection::vec(entry(), 0..4),
    )
        .prop_map(
            |(publish_allow, publish_deny, subscribe_allow, subscribe_deny)| Rules {
                publish_allow,
                publish_deny,
                subscribe_allow,
                subscribe_deny,
            },
        )
}

fn subscription() -> impl Strategy<Value = Subscription> {
    (0..USERS, pattern(), prop::option::weighted(0.4, "q[12]")).prop_map(
        |(user, pattern, queue)| Subscription {
            user,
            pattern,
            queue,
        },
    )
}

fn matches(pattern: &str, subject: &str) -> bool {
    natterjack_subject::matches(pattern.as_bytes(), subject.as_bytes())
}

/// The name of a group may have wildcards in rules.
fn is_group(rule: &str, queue: &str) -> bool {
    rule == queue || matches(rule, queue)
}

impl Rules {
    fn permissions(&self) -> Permissions {
        let text = |(pattern, queue): &(String, Option<String>)| match queue {
            Some(queue) => format!("{pattern} {queue}"),
            None => pattern.clone(),
        };
        Permissions {
            publish: SubjectRules {
                allow: self.publish_allow.clone(),
                deny: self.publish_deny.clone(),
            },
            subscribe: SubjectRules {
                allow: self
                    .subscribe_allow
                    .as_ref()
                    .map(|entries| entries.iter().map(text).collect()),
                deny: self.subscribe_deny.iter().map(text).collect(),
            },
            ..Permissions::default()
        }
    }

    fn may_publish(&self, subject: &str) -> bool {
        let is_in = |list: &[String]| list.iter().any(|pattern| matches(pattern, subject));
        self.publish_allow.as_deref().is_none_or(is_in) && !is_in(&self.publish_deny)
    }

    /// Whether this user may be sent a message on this subject, by a subscription of this group.
    fn may_hear(&self, subject: &str, queue: Option<&str>) -> bool {
        let is_about = |(pattern, group): &(String, Option<String>)| {
            matches(pattern, subject)
                && match (group, queue) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(group), Some(queue)) => is_group(group, queue),
                }
        };
        let is_allowed = |entries: &Vec<_>| entries.iter().any(is_about);
        self.subscribe_allow.as_ref().is_none_or(is_allowed)
            && !self.subscribe_deny.iter().any(is_about)
    }

    fn denies(&self, subject: &str, queue: Option<&str>) -> bool {
        let open = Self {
            subscribe_allow: None,
            ..self.clone()
        };
        !open.may_hear(subject, queue)
    }
}

fn user(name: &str, permissions: Permissions) -> User {
    User {
        name: name.to_owned(),
        credential: Credential::Password(name.into()),
        permissions: Some(permissions),
        ..User::default()
    }
}

fn login(harness: &mut Harness, name: &str) -> Client {
    let client = harness.connect(&format!("\"user\":\"{name}\",\"pass\":\"{name}\""));
    assert_eq!(client.closed(), None, "{name}");
    client
}

proptest! {
    #[test]
    fn a_message_reaches_whom_the_rules_let_it_reach(
        rules in prop::collection::vec(rules(), USERS + 1),
        subscriptions in prop::collection::vec(subscription(), 1..8),
        subjects in prop::collection::vec("[ab](\\.[ab]){0,2}", 1..25),
        batch_len in 1..8_usize,
    ) {
        let name = |at: usize| format!("user{at}");
        let access = Access {
            users: rules.iter().enumerate().map(|(at, rules)| user(&name(at), rules.permissions())).collect(),
            ..Access::default()
        };
        let mut harness = Harness::with(Limits::default(), access);
        let mut clients: Vec<Client> = (0..USERS).map(|at| login(&mut harness, &name(at))).collect();
        let mut accepted = Vec::new();
        for (sid, subscription) in subscriptions.iter().enumerate() {
            let Subscription { user, pattern, queue } = subscription;
            let client = &mut clients[*user];
            let text = format!("SUB {pattern} {} {sid}\r\n", queue.as_deref().unwrap_or_default());
            harness.send(client, text.as_bytes());
            let told = client.take();
            accepted.push(told.is_empty());
            // For a plain subject the question is the same as at delivery.
            if !pattern.contains(['*', '>']) && queue.is_none() {
                prop_assert_eq!(told.is_empty(), rules[*user].may_hear(pattern, None), "{} {}", pattern, told);
            }
        }

        let publisher_rules = &rules[USERS];
        let mut publisher = login(&mut harness, &name(USERS));
        let messages: Vec<String> = subjects
            .iter()
            .enumerate()
            .map(|(number, subject)| format!("PUB {subject} 3\r\n{number:03}\r\n"))
            .collect();
        for batch in messages.chunks(batch_len) {
            harness.send(&mut publisher, batch.concat().as_bytes());
        }
        let expected: String = subjects
            .iter()
            .filter(|subject| !publisher_rules.may_publish(subject))
            .map(|subject| format!("-ERR 'Permissions Violation for Publish to \"{subject}\"'\r\n"))
            .collect();
        prop_assert_eq!(publisher.take(), expected);

        // Who got which message, by subscription.
        let mut got = vec![Vec::new(); subscriptions.len()];
        for (at, client) in clients.iter().enumerate() {
            let output = client.take();
            let mut lines = output.lines();
            while let Some(head) = lines.next() {
                let words: Vec<&str> = head.split(' ').collect();
                prop_assert!(words[0] == "MSG" && words.len() == 4, "{}", head);
                let sid: usize = words[2].parse().expect("a number");
                let number: usize = lines.next().expect("a payload").parse().expect("a number");
                prop_assert_eq!(words[1], &subjects[number]);
                prop_assert_eq!(subscriptions[sid].user, at);
                got[sid].push(number);
            }
        }
        for (sid, subscription) in subscriptions.iter().enumerate() {
            let Subscription { user, pattern, queue } = subscription;
            let may_get = |number: &usize| {
                let subject = &subjects[*number];
                accepted[sid]
                    && publisher_rules.may_publish(subject)
                    && matches(pattern, subject)
                    && !rules[*user].denies(subject, queue.as_deref())
            };
            // Nothing that the rules do not let through: the denials, and the list of what is allowed.
            for number in &got[sid] {
                prop_assert!(may_get(number), "{}: {} on {:?}", sid, subjects[*number], subscription);
                prop_assert!(
                    rules[*user].may_hear(&subjects[*number], queue.as_deref()),
                    "{}: {} is not allowed to {:?}", sid, subjects[*number], subscription
                );
            }
            // And a plain subscription gets all that they do.
            if queue.is_none() {
                let all: Vec<usize> = (0..subjects.len()).filter(may_get).collect();
                prop_assert_eq!(&got[sid], &all, "{}", sid);
            }
        }
        // Of each group exactly one gets a message, if any of it may.
        for queue in ["q1", "q2"] {
            for (number, subject) in subjects.iter().enumerate() {
                let mut members: Vec<(usize, &Subscription)> = subscriptions.iter().enumerate().collect();
                members.retain(|(sid, subscription)| {
                    accepted[*sid]
                        && subscription.queue.as_deref() == Some(queue)
                        && matches(&subscription.pattern, subject)
                });
                let takers = members.iter().filter(|(sid, _)| got[*sid].contains(&number));
                // A group is one however its members' patterns are written.
                let is_taken = publisher_rules.may_publish(subject)
                    && members.iter().any(|(_, subscription)| {
                        !rules[subscription.user].denies(subject, Some(queue))
                    });
                let expected = usize::from(is_taken);
                prop_assert_eq!(takers.count(), expected, "{} {}", queue, subject);
            }
        }
    }
}
