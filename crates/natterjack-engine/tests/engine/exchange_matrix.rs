//! Accounts that exchange streams and services at random, private and public, renamed and narrowed: who hears what, and
//! where answers go, compared with a model that reads the exports and imports one by one.

use std::collections::HashMap;
use std::collections::VecDeque;

use natterjack_engine::access::{
    Export, Import, ResponseType, ServiceExport, ServiceImport, StreamExport, StreamImport,
};
use natterjack_engine::{Access, AccountAccess, Credential, Limits, User};
use proptest::prelude::*;

use crate::harness::{Client, Harness};

const NAMES: [&str; 3] = ["A", "B", "C"];

/// What answers to requests from other accounts are published to, as far as patterns can tell.
const ANSWER: &str = "_R_.x.y";

#[derive(Clone, Debug)]
struct Offer {
    account: usize,
    pattern: String,
    is_service: bool,
    is_streamed: bool,
    /// The accounts that may use it; all if empty.
    accounts: Vec<usize>,
    /// Whether a client of the account listens to all of it.
    is_served: bool,
}

#[derive(Clone, Debug)]
struct Use {
    account: usize,
    of: usize,
    pattern: String,
    /// What it is called here, with `$1` and the like; the same if there is nothing.
    to: Option<String>,
    is_service: bool,
    is_streamed: bool,
    /// The subject of the export that it is used under.
    offered: String,
}

#[derive(Clone, Debug)]
struct Wish {
    account: usize,
    /// One of the offers, modulo their number.
    offer: usize,
    /// Which wildcards become literals.
    narrowed: u8,
    renaming: Renaming,
}

#[derive(Clone, Copy, Debug)]
enum Renaming {
    No,
    Prefix,
    Reversed,
}

#[derive(Clone, Debug)]
struct Request {
    account: usize,
    tokens: Vec<String>,
    /// One of what is used, modulo its number: what it is called here, with the tokens for wildcards. Without, the tokens
    /// are the subject.
    aims_at: Option<usize>,
    wants_answer: bool,
    /// Which of those who hear it answer, and how often.
    answers: Vec<u8>,
}

fn pattern() -> impl Strategy<Value = String> {
    let token = prop_oneof![3 => "[ab]", 2 => Just("*".to_owned())];
    (prop::collection::vec(token, 1..=3), 0..4_u8).prop_map(|(mut tokens, open)| {
        if open == 0 {
            *tokens.last_mut().expect("at least one") = ">".to_owned();
        }
        tokens.join(".")
    })
}

fn offer() -> impl Strategy<Value = Offer> {
    let accounts = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec(0..NAMES.len(), 1..3),
    ];
    (
        0..NAMES.len(),
        pattern(),
        prop::bool::weighted(0.7),
        any::<bool>(),
        accounts,
        prop::bool::weighted(0.7),
    )
        .prop_map(
            |(account, pattern, is_service, is_streamed, accounts, is_served)| Offer {
                account,
                pattern,
                is_service,
                is_streamed,
                accounts,
                is_served,
            },
        )
}

fn wish() -> impl Strategy<Value = Wish> {
    let renaming = prop_oneof![
        Just(Renaming::No),
        Just(Renaming::Prefix),
        Just(Renaming::Reversed)
    ];
    (0..NAMES.len(), any::<usize>(), any::<u8>(), renaming).prop_map(
        |(account, offer, narrowed, renaming)| Wish {
            account,
            offer,
            narrowed,
            renaming,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    (
        0..NAMES.len(),
        prop::collection::vec("[abp]", 1..=4),
        prop::option::weighted(0.8, any::<usize>()),
        prop::bool::weighted(0.8),
        prop::collection::vec(0..3_u8, 4),
    )
        .prop_map(
            |(account, tokens, aims_at, wants_answer, answers)| Request {
                account,
                tokens,
                aims_at,
                wants_answer,
                answers,
            },
        )
}

impl Request {
    /// The account it is sent in, and its subject.
    fn target(&self, uses: &[Use]) -> (usize, String) {
        let Some(used) = self
            .aims_at
            .filter(|_| !uses.is_empty())
            .map(|aim| &uses[aim % uses.len()])
        else {
            return (self.account, self.tokens.join("."));
        };
        let mut fill = self.tokens.iter().cycle();
        let local = used.local();
        let tokens = local.split('.').map(|token| {
            if token == ">" || token.starts_with('$') {
                fill.next().cloned().unwrap_or_default()
            } else {
                token.to_owned()
            }
        });
        (used.account, tokens.collect::<Vec<_>>().join("."))
    }
}

fn matches(pattern: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    for token in pattern.split('.') {
        match (token, subject.next()) {
            (">", Some(_)) => return true,
            (_, None) => return false,
            ("*", Some(_)) => {}
            (token, Some(here)) if token == here => {}
            _ => return false,
        }
    }
    subject.next().is_none()
}

/// Whether all that one pattern matches is matched by the other: tried out.
fn is_within(inner: &str, outer: &str) -> bool {
    let mut subjects: Vec<String> = vec![String::new()];
    let mut is_within = true;
    for _ in 0..5 {
        let longer = subjects.iter().flat_map(|start| {
            let dot = if start.is_empty() { "" } else { "." };
            ["a", "b", "c"].map(|token| format!("{start}{dot}{token}"))
        });
        subjects = longer.collect();
        is_within &= subjects
            .iter()
            .all(|subject| !matches(inner, subject) || matches(outer, subject));
    }
    is_within
}

impl Use {
    fn new(wish: &Wish, offer: &Offer) -> Self {
        let mut wildcard = 0;
        let mut tokens: Vec<String> = Vec::new();
        for token in offer.pattern.split('.') {
            let is_narrowed = token == "*" && wish.narrowed & (1 << wildcard) != 0;
            wildcard += u8::from(token == "*");
            tokens.push(if is_narrowed { "a" } else { token }.to_owned());
        }
        let pattern = tokens.join(".");
        let wildcards = tokens.iter().filter(|token| *token == "*").count();
        let to = match wish.renaming {
            Renaming::No => None,
            Renaming::Prefix => Some(format!("p.{}", Self::numbered(&tokens))),
            Renaming::Reversed => {
                let mut to = vec!["p".to_owned()];
                to.extend((1..=wildcards).rev().map(|number| format!("${number}")));
                to.extend(tokens.last().filter(|last| *last == ">").cloned());
                Some(to.join("."))
            }
        };
        Self {
            account: wish.account,
            of: offer.account,
            pattern,
            to,
            is_service: offer.is_service,
            is_streamed: false,
            offered: String::new(),
        }
    }

    /// The service, whoever uses it and under whatever name.
    fn service(&self) -> Service {
        (self.of, self.offered.clone())
    }

    /// The pattern with `$1` for the first wildcard, and so on.
    fn numbered(tokens: &[String]) -> String {
        let mut number = 0;
        let tokens = tokens.iter().map(|token| {
            if token == "*" {
                number += 1;
                format!("${number}")
            } else {
                token.clone()
            }
        });
        tokens.collect::<Vec<_>>().join(".")
    }

    fn local(&self) -> String {
        let there: Vec<String> = self.pattern.split('.').map(ToOwned::to_owned).collect();
        self.to.clone().unwrap_or_else(|| Self::numbered(&there))
    }

    /// The two patterns, each with `$1` for the same thing. What `>` stands for is `$9`.
    fn patterns(&self) -> (Vec<String>, Vec<String>) {
        let there: Vec<String> = self.pattern.split('.').map(ToOwned::to_owned).collect();
        let split = |text: String| text.split('.').map(ToOwned::to_owned).collect();
        (split(Self::numbered(&there)), split(self.local()))
    }

    /// A subject under one pattern, as it is under the other, if it matches.
    fn rename(subject: &str, from: &[String], to: &[String]) -> Option<String> {
        let tokens: Vec<&str> = subject.split('.').collect();
        let mut bound: HashMap<&str, String> = HashMap::new();
        for (index, token) in from.iter().enumerate() {
            let here = tokens.get(index)?;
            if token == ">" {
                bound.insert(">", tokens[index..].join("."));
            } else if token.starts_with('$') {
                bound.insert(token, (*here).to_owned());
            } else if token != here {
                return None;
            }
        }
        if !bound.contains_key(">") && tokens.len() != from.len() {
            return None;
        }
        let renamed = to.iter().map(|token| {
            let value = bound.get(token.as_str());
            value.cloned().unwrap_or_else(|| token.clone())
        });
        Some(renamed.collect::<Vec<_>>().join("."))
    }

    fn there(&self, subject: &str) -> Option<String> {
        let (there, here) = self.patterns();
        Self::rename(subject, &here, &there)
    }

    fn here(&self, subject: &str) -> Option<String> {
        let (there, here) = self.patterns();
        Self::rename(subject, &there, &here)
    }

    fn import(&self) -> Import {
        let account = NAMES[self.of].to_owned();
        let (subject, to) = (self.pattern.clone(), self.to.clone());
        if self.is_service {
            Import::Service(ServiceImport {
                account,
                subject,
                to,
                share: false,
            })
        } else {
            Import::Stream(StreamImport {
                account,
                subject,
                to,
                ..StreamImport::default()
            })
        }
    }
}

impl Offer {
    fn export(&self) -> Export {
        let accounts: Vec<String> = self
            .accounts
            .iter()
            .map(|&account| NAMES[account].to_owned())
            .collect();
        if self.is_service {
            Export::Service(ServiceExport {
                subject: self.pattern.clone(),
                accounts,
                response_type: if self.is_streamed {
                    ResponseType::Streamed
                } else {
                    ResponseType::Singleton
                },
                ..ServiceExport::default()
            })
        } else {
            Export::Stream(StreamExport {
                subject: self.pattern.clone(),
                accounts,
                ..StreamExport::default()
            })
        }
    }
}

/// Accounts with these offers, and as many of the wishes as are accepted.
fn accounts(offers: &[Offer], wishes: &[Wish]) -> (Access, Vec<Use>) {
    let account = |index: usize| AccountAccess {
        name: NAMES[index].to_owned(),
        users: vec![User {
            name: NAMES[index].to_owned(),
            credential: Credential::Password("p".into()),
            ..User::default()
        }],
        exports: offers
            .iter()
            .filter(|offer| offer.account == index)
            .map(Offer::export)
            .collect(),
        ..AccountAccess::default()
    };
    let mut access = Access {
        accounts: (0..NAMES.len()).map(account).collect(),
        ..Access::default()
    };
    assert_eq!(access.problems(), []);
    let mut uses = Vec::new();
    for wish in wishes {
        let mut used = Use::new(wish, &offers[wish.offer % offers.len()]);
        let imports = &mut access.accounts[used.account].imports;
        imports.push(used.import());
        let is_accepted = access.problems().is_empty();
        let granting = offers.iter().filter(|offer| {
            offer.account == used.of
                && offer.is_service == used.is_service
                && is_within(&used.pattern, &offer.pattern)
        });
        let may =
            |offer: &&Offer| offer.accounts.is_empty() || offer.accounts.contains(&used.account);
        assert!(
            !is_accepted || granting.clone().any(|offer| may(&offer)),
            "{used:?} was not granted"
        );
        if is_accepted {
            // The one with that very subject, or else the first that covers it, says how the service answers.
            let same = granting.clone().find(|offer| offer.pattern == used.pattern);
            if let Some(offer) = same.or_else(|| granting.clone().next()) {
                used.is_streamed = offer.is_streamed;
                used.offered = offer.pattern.clone();
            }
            uses.push(used);
        } else {
            access.accounts[wish.account].imports.pop();
        }
    }
    (access, uses)
}

/// A message as a client hears it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Heard {
    sid: usize,
    subject: String,
    payload: String,
    /// Who asks, as the server says: the account, and the one that does so for it.
    info: String,
    has_reply: bool,
}

/// An account, and the subject of what it exports.
type Service = (usize, String);

/// What a message came through.
#[derive(Clone, Default)]
struct Trail {
    /// Services that were asked.
    asked: usize,
    /// Those, and the ones that answered. A message does not come to one of them again under any name: not to another
    /// import of the same export, and not as an answer of it to an account that imports it (nats-server
    /// `processServiceImport`, which compares the exports).
    known: Vec<Service>,
}

/// An answer that is waited for.
#[derive(Clone)]
struct Pending {
    /// The account that answers.
    account: usize,
    /// Where the answer goes.
    back: (usize, Option<Reply>),
    service: Service,
    is_streamed: bool,
    is_open: bool,
}

/// Where somebody wants an answer.
#[derive(Clone, Debug)]
enum Reply {
    Subject(String),
    /// What stands for one of the answers that are waited for.
    Pending(usize),
}

struct Model<'a> {
    uses: &'a [Use],
    /// By account; the sid is the place.
    subscriptions: &'a [Vec<String>],
    pending: Vec<Pending>,
    /// By account, with what an answer to it would be.
    heard: Vec<Vec<(Heard, Option<usize>)>>,
}

/// A message on its way.
struct Message<'a> {
    payload: &'a str,
    publisher: usize,
    info: String,
}

impl Model<'_> {
    fn subject_of(reply: &Reply) -> &str {
        match reply {
            Reply::Subject(subject) => subject,
            Reply::Pending(_) => ANSWER,
        }
    }

    /// Whoever listens in `account` under this name. Returns whether anybody does.
    fn tell(
        &mut self,
        account: usize,
        subject: &str,
        reply: Option<&Reply>,
        message: &Message<'_>,
    ) -> bool {
        let pending = match reply {
            Some(Reply::Pending(pending)) => Some(*pending),
            _ => None,
        };
        let before = self.heard[account].len();
        for (index, pattern) in self.subscriptions[account].iter().enumerate() {
            if matches(pattern, subject) {
                let heard = Heard {
                    sid: index + 1,
                    subject: subject.to_owned(),
                    payload: message.payload.to_owned(),
                    info: message.info.clone(),
                    has_reply: reply.is_some(),
                };
                self.heard[account].push((heard, pending));
            }
        }
        self.heard[account].len() > before
    }

    /// A client publishes a message.
    fn publish(&mut self, account: usize, to: &Reply, reply: Option<&Reply>, payload: &str) {
        let subject = Self::subject_of(to).to_owned();
        let message = Message {
            payload,
            publisher: account,
            info: String::new(),
        };
        self.tell(account, &subject, reply, &message);
        let uses = self.uses;
        for used in uses
            .iter()
            .filter(|used| used.of == account && !used.is_service)
        {
            if let Some(here) = used.here(&subject) {
                // Each subscription hears each import.
                self.tell(used.account, &here, reply, &message);
            }
        }
        self.go_on(account, to, reply, &message, &Trail::default());
    }

    /// Sends a message from an account to others. Returns whether anybody there heard it.
    fn go_on(
        &mut self,
        account: usize,
        to: &Reply,
        reply: Option<&Reply>,
        message: &Message<'_>,
        trail: &Trail,
    ) -> bool {
        let mut is_heard = false;
        if let Reply::Pending(pending) = *to
            && self.pending[pending].account == account
            && self.pending[pending].is_open
            && !trail.known.contains(&self.pending[pending].service)
        {
            let Pending {
                back,
                is_streamed,
                service,
                ..
            } = self.pending[pending].clone();
            self.pending[pending].is_open = is_streamed;
            let (home, Some(target)) = back else {
                return false;
            };
            assert!(reply.is_none(), "answers ask nothing here");
            let mut longer = trail.clone();
            longer.known.push(service);
            let is_answered = self.arrive(home, &target, None, message, &longer);
            self.pending[pending].is_open &= is_answered;
            is_heard |= is_answered;
        }
        let subject = Self::subject_of(to).to_owned();
        let uses = self.uses;
        for used in uses {
            let is_asked = used.account == account && used.is_service;
            if !is_asked || trail.known.contains(&used.service()) {
                continue;
            }
            let Some(there) = used.there(&subject) else {
                continue;
            };
            let asked = reply.map(|reply| {
                self.pending.push(Pending {
                    account: used.of,
                    back: (account, Some(reply.clone())),
                    service: used.service(),
                    is_streamed: used.is_streamed,
                    is_open: true,
                });
                Reply::Pending(self.pending.len() - 1)
            });
            let mut longer = trail.clone();
            longer.asked += 1;
            longer.known.push(used.service());
            let publisher = NAMES[message.publisher];
            let by = NAMES[account];
            let info = if longer.asked > 1 {
                format!("{{\"acc\":\"{publisher}\",\"svc\":\"{by}\",\"rtt\":1}}")
            } else {
                format!("{{\"acc\":\"{publisher}\",\"rtt\":1}}")
            };
            let request = Message { info, ..*message };
            let there = Reply::Subject(there);
            is_heard |= self.arrive(used.of, &there, asked.as_ref(), &request, &longer);
        }
        is_heard
    }

    fn arrive(
        &mut self,
        account: usize,
        to: &Reply,
        reply: Option<&Reply>,
        message: &Message<'_>,
        trail: &Trail,
    ) -> bool {
        let subject = Self::subject_of(to).to_owned();
        let is_heard = self.tell(account, &subject, reply, message);
        let goes_on = self.go_on(account, to, reply, message, trail);
        is_heard || goes_on
    }
}

/// A subject with `x` and `y` for what is chance in subjects of answers.
fn without_chance(subject: &str) -> String {
    let tokens = subject.split('.').map(|token| match token.len() {
        6 => "x",
        11 => "y",
        _ => token,
    });
    tokens.collect::<Vec<_>>().join(".")
}

/// What a client got, with the subject that an answer to each goes to.
fn heard(client: &Client) -> Vec<(Heard, Option<String>)> {
    let text = client.take();
    let mut rest = text.as_str();
    let mut heard = Vec::new();
    while let Some((line, body)) = rest.split_once("\r\n") {
        let words: Vec<&str> = line.split(' ').collect();
        let numbers = if words[0] == "HMSG" { 2 } else { 1 };
        assert!(words[0] == "MSG" || words[0] == "HMSG", "{line}");
        let number = |index: usize| words[index].parse::<usize>().expect("a number");
        let len = number(words.len() - 1);
        let header_len = if numbers == 2 {
            number(words.len() - 2)
        } else {
            0
        };
        let reply = (words.len() == 4 + numbers).then(|| words[3].to_owned());
        let header = &body[..header_len];
        let info = header
            .split_once("Nats-Request-Info: ")
            .map(|(_, info)| info.trim());
        heard.push((
            Heard {
                sid: number(2),
                subject: without_chance(words[1]),
                payload: body[header_len..len].to_owned(),
                info: info.unwrap_or_default().to_owned(),
                has_reply: reply.is_some(),
            },
            reply,
        ));
        rest = &body[len + 2..];
    }
    heard
}

fn check(offers: &[Offer], wishes: &[Wish], subscriptions: &[Vec<String>], requests: &[Request]) {
    let (access, uses) = accounts(offers, wishes);
    let mut subscriptions = subscriptions.to_vec();
    for offer in offers.iter().filter(|offer| offer.is_served) {
        subscriptions[offer.account].push(offer.pattern.clone());
    }
    for listening in &mut subscriptions {
        listening.push("inbox.>".to_owned());
    }
    let mut harness = Harness::with(Limits::default(), access);
    let mut model = Model {
        uses: &uses,
        subscriptions: &subscriptions,
        pending: Vec::new(),
        heard: vec![Vec::new(); NAMES.len()],
    };
    let mut clients: Vec<Client> = (0..NAMES.len())
        .map(|account| {
            let name = NAMES[account];
            let options = format!("\"user\":\"{name}\",\"pass\":\"p\",\"headers\":true");
            let mut client = harness.connect(&options);
            for (index, pattern) in subscriptions[account].iter().enumerate() {
                let subscribe = format!("SUB {pattern} {}\r\n", index + 1);
                harness.send(&mut client, subscribe.as_bytes());
            }
            assert_eq!(client.take(), "");
            client
        })
        .collect();
    for (number, request) in requests.iter().enumerate() {
        let reply = format!("inbox.{number}");
        let (payload, reply) = (format!("m{number}"), request.wants_answer.then_some(reply));
        let named = reply
            .as_deref()
            .map_or_else(String::new, |reply| format!("{reply} "));
        let (account, subject) = request.target(&uses);
        let len = payload.len();
        let text = format!("PUB {subject} {named}{len}\r\n{payload}\r\n");
        harness.send(&mut clients[account], text.as_bytes());
        let target = Reply::Subject(subject);
        let reply = reply.map(Reply::Subject);
        model.publish(account, &target, reply.as_ref(), &payload);
        let askable = compare(&clients, &mut model);
        let mut answers = 0;
        for ((account, actual, pending), &times) in
            askable.iter().zip(request.answers.iter().cycle())
        {
            for _ in 0..times {
                answers += 1;
                let payload = format!("m{number}.{answers}");
                let text = format!("PUB {actual} {}\r\n{payload}\r\n", payload.len());
                harness.send(&mut clients[*account], text.as_bytes());
                model.publish(*account, &Reply::Pending(*pending), None, &payload);
                compare(&clients, &mut model);
            }
        }
    }
}

/// Compares what all clients heard. Returns the requests among it: the client's account, the subject to answer to, and
/// what that is in the model.
fn compare(clients: &[Client], model: &mut Model<'_>) -> Vec<(usize, String, usize)> {
    let mut requests = Vec::new();
    for (account, client) in clients.iter().enumerate() {
        let actual = heard(client);
        let expected = std::mem::take(&mut model.heard[account]);
        let sorted = |heard: Vec<Heard>| {
            let mut heard = heard;
            heard.sort();
            heard
        };
        assert_eq!(
            sorted(actual.iter().map(|(heard, _)| heard.clone()).collect()),
            sorted(expected.iter().map(|(heard, _)| heard.clone()).collect()),
            "in {}",
            NAMES[account]
        );
        // Of those that look the same the first is the first.
        let mut alike: HashMap<String, VecDeque<usize>> = HashMap::new();
        for (heard, pending) in expected {
            let pending = pending.into_iter();
            alike
                .entry(format!("{heard:?}"))
                .or_default()
                .extend(pending);
        }
        for (heard, reply) in actual {
            let waiting = alike.get_mut(&format!("{heard:?}"));
            let pending = waiting.and_then(VecDeque::pop_front);
            if let (Some(reply), Some(pending)) = (reply, pending) {
                assert!(reply.starts_with("_R_."), "{reply}");
                // Who hears it in another account as a stream cannot answer it.
                requests.push((account, reply, pending));
            }
        }
    }
    requests
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn messages_go_where_exports_and_imports_say(
        offers in prop::collection::vec(offer(), 2..8),
        wishes in prop::collection::vec(wish(), 2..14),
        subscriptions in prop::collection::vec(prop::collection::vec(pattern(), 0..4), NAMES.len()),
        requests in prop::collection::vec(request(), 1..5),
    ) {
        check(&offers, &wishes, &subscriptions, &requests);
    }
}
