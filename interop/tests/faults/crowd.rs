//! Clients of a cluster that subscribe, unsubscribe and publish while the network misbehaves, know what they have subscribed to,
//! and judge every message they hear:
//!
//! - it is of their own account, and of a subject they subscribed to;
//! - a subscription hears no message twice, and each publisher in order, also over connections that are made anew: from our
//!   servers always, from nats-server as long as connections stay;
//! - a queue group hears a message once, wherever its members are. Its order is not demanded: nats-server sends a message on
//!   to another server when the member it chose has gone meanwhile.
//!
//! Messages may be lost while the network misbehaves. When it has healed, none may.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use testkit::cluster::{Client, Login, Message};
use testkit::{Deadline, PATIENCE, ask_until};

use super::stage::{Interest, LOGINS, Stage};

/// What is published to.
const SUBJECTS: [&str; 11] = [
    "sky.0",
    "sky.1",
    "sky.2",
    "sky.3",
    "sea.0",
    "sea.1",
    "sea.2",
    "land",
    "work.load.0",
    "work.load.1",
    "work.load.2",
];
/// What is subscribed to, without a group or with one. A group has one name and one subject, so that it is clear who is in it.
/// Nobody but groups hears what groups hear.
const WISHES: [(&str, &str); 16] = [
    ("sky.0", ""),
    ("sky.1", ""),
    ("sky.2", ""),
    ("sky.3", ""),
    ("sea.0", ""),
    ("sea.1", ""),
    ("sea.2", ""),
    ("land", ""),
    ("sky.*", ""),
    ("sea.>", ""),
    ("*.1", ""),
    ("*", ""),
    ("work.load.0", "horses"),
    ("work.load.1", "mules"),
    ("work.load.*", "oxen"),
    ("work.>", "donkeys"),
];
/// What a mingled crowd subscribes to besides. When a group has lost its last member at a server to which a message for it is
/// under way, nats-server sends the message on to another server, perhaps to the one it came from, and that gives it to its
/// other subscribers too, once more. So this can be demanded only of a cluster without nats-servers.
const MINGLED_WISHES: [(&str, &str); 5] = [
    (">", ""),
    ("sky.0", "birds"),
    ("sky.*", "planes"),
    ("land", "horses-on-land"),
    (">", "all"),
];
/// Everybody hears it always, and it comes last.
const DONE: &str = "done";

/// More than there are wishes, so that a client has some of them several times.
const SUBSCRIPTIONS_MAX: usize = 24;
/// Payloads are up to this long, so that there are packets with many messages and messages in many packets.
const PADDING_BYTES_MAX: usize = 3000;
/// How long a client listens before it acts again.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Crowd {
    members: Vec<Member>,
    traffic: Traffic,
    /// Messages that all must hear who want them.
    sent: Vec<Sent>,
}

/// How many messages have come from clients of one server to those of another.
pub(super) struct Traffic {
    nodes: usize,
    counts: Vec<AtomicU64>,
}

/// A client of one server and account.
struct Member {
    node: usize,
    login: Login,
    /// Tells apart those who publish from the same place one after another, since order is a connection's.
    incarnation: usize,
    client: Client,
    random: Rng,
    /// While connections stay: how many messages of each publisher are from before. Those may still come.
    calm_since: Option<HashMap<String, u64>>,
    /// Whether its server keeps order also when they do not.
    is_orderly: bool,
    wishes: Arc<[Wish]>,
    /// What it has subscribed to, by number.
    holds: BTreeMap<u64, Wish>,
    /// What it ever had: messages may be under way when a subscription ends.
    held: HashMap<u64, Wish>,
    published: u64,
    /// The numbers of all messages from a publisher to a subscription.
    numbers: HashMap<(u64, String), BTreeSet<u64>>,
    /// Messages heard for a group, ever: publisher, number, group.
    grouped: Vec<(String, u64, &'static str)>,
    /// What was heard of what was published in the calm.
    heard: Vec<Heard>,
    /// Who is done.
    done: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    subject: &'static str,
    queue: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Heard {
    publisher: String,
    number: u64,
    /// For a group, whose member it is does not matter.
    by: (Option<(usize, u64)>, &'static str),
    subject: String,
}

struct Sent {
    login: Login,
    publisher: String,
    number: u64,
    subject: &'static str,
}

impl Crowd {
    /// Somebody of each account at each server. What groups hear nobody else does.
    pub(super) fn of(stage: &Stage, seed: u64) -> Self {
        Self::with(&WISHES, stage, seed)
    }

    /// The same, but many hear what groups hear.
    pub(super) fn mingled(stage: &Stage, seed: u64) -> Self {
        let wishes: Vec<_> = WISHES.iter().chain(&MINGLED_WISHES).copied().collect();
        Self::with(&wishes, stage, seed)
    }

    fn with(wishes: &[(&'static str, &'static str)], stage: &Stage, seed: u64) -> Self {
        let wishes: Arc<[Wish]> = wishes
            .iter()
            .map(|&(subject, queue)| Wish { subject, queue })
            .collect();
        let mut seeds = Rng::with_seed(seed);
        let nodes = stage.network.len();
        let places = (0..nodes).flat_map(|node| LOGINS.map(|login| (node, login)));
        let members = places.map(|(node, login)| {
            Member::arrive(stage, node, login, 0, seeds.fork(), Arc::clone(&wishes))
        });
        Self {
            members: members.collect(),
            traffic: Traffic {
                nodes,
                counts: (0..nodes * nodes).map(|_| AtomicU64::new(0)).collect(),
            },
            sent: Vec::new(),
        }
    }

    /// All come and go while this happens.
    pub(super) fn churn<T>(&mut self, meanwhile: impl FnOnce(&Traffic) -> T) -> T {
        self.churn_without(None, meanwhile)
    }

    /// The same for all but those of one server.
    pub(super) fn churn_without<T>(
        &mut self,
        absent: Option<usize>,
        meanwhile: impl FnOnce(&Traffic) -> T,
    ) -> T {
        for member in &mut self.members {
            member.calm_since = None;
        }
        let is_over = AtomicBool::new(false);
        let traffic = &self.traffic;
        thread::scope(|scope| {
            let _over = SetWhenDropped(&is_over);
            for member in &mut self.members {
                if Some(member.node) == absent {
                    continue;
                }
                let is_over = &is_over;
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        member.act();
                        member.listen(PAUSE, traffic);
                    }
                });
            }
            meanwhile(traffic)
        })
    }

    /// Whoever was connected to a server comes again, with nothing subscribed.
    pub(super) fn reconnect(&mut self, stage: &Stage, node: usize) {
        for member in self.members.iter_mut().filter(|member| member.node == node) {
            let random = member.random.fork();
            let next = Member::arrive(
                stage,
                node,
                member.login,
                member.incarnation + 1,
                random,
                Arc::clone(&member.wishes),
            );
            let former = std::mem::replace(member, next);
            member.grouped = former.grouped;
        }
    }

    /// What the network must have come to when it has healed: every server knows of each other what its clients want, no more
    /// and no less, and every message goes where it is wanted and nowhere else, once.
    pub(super) fn demand_agreement(&mut self, stage: &Stage) {
        self.await_interest(stage);
        self.publish_everything();
        self.demand_delivery();
    }

    /// Waits until what servers say of each other is what the clients have subscribed to.
    pub(super) fn await_interest(&mut self, stage: &Stage) {
        let nodes = 0..stage.network.len();
        let mut problem = String::new();
        let agreed = ask_until(PATIENCE, || {
            self.attend();
            for node in nodes.clone() {
                let wanted = self.interest(node);
                let local = stage.local_interest(node);
                if local != wanted {
                    problem = difference(&format!("{node} of its own clients"), &local, &wanted);
                    return None;
                }
                for other in nodes.clone().filter(|other| *other != node) {
                    let known = stage.known_interest(other, node);
                    if known != wanted {
                        problem = difference(&format!("{other} of {node}"), &known, &wanted);
                        return None;
                    }
                }
            }
            Some(())
        });
        assert!(agreed.is_some(), "{problem}");
    }

    /// Everybody publishes to everything.
    pub(super) fn publish_everything(&mut self) {
        self.sent.clear();
        let before = self
            .members
            .iter()
            .map(|member| (member.name(), member.published));
        let before: HashMap<String, u64> = before.collect();
        for member in &mut self.members {
            member.heard.clear();
            member.calm_since = Some(before.clone());
        }
        for _ in 0..3 {
            for member in &mut self.members {
                for subject in SUBJECTS {
                    let number = member.publish(subject);
                    self.sent.push(Sent {
                        login: member.login,
                        publisher: member.name(),
                        number,
                        subject,
                    });
                }
                member.client.flush();
            }
        }
    }

    /// What was published last must have come where it is wanted, once, and nothing else.
    pub(super) fn demand_delivery(&mut self) {
        let wanted = self.expectation();
        let deadline = Deadline::after(PATIENCE);
        while self.heard().len() < wanted.len() && deadline.left().is_some() {
            self.attend();
        }
        // What comes twice comes before what is sent now.
        self.barrier();
        let heard = self.heard();
        let missing = wanted
            .iter()
            .find(|wanted| heard.binary_search(wanted).is_err());
        assert_eq!(
            missing,
            None,
            "not heard; {} of {} are",
            heard.len(),
            wanted.len()
        );
        let surplus = heard
            .iter()
            .find(|heard| wanted.binary_search(heard).is_err());
        assert_eq!(surplus, None, "heard and not wanted");
        let twice = heard.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "heard twice");
        self.demand_groups_once();
    }

    /// No message, ever, was heard twice by a group.
    fn demand_groups_once(&self) {
        let mut once = HashSet::new();
        for heard in self.members.iter().flat_map(|member| &member.grouped) {
            assert!(once.insert(heard), "{heard:?} twice");
        }
    }

    /// Returns when everybody has heard everybody of the account say a last word.
    fn barrier(&mut self) {
        for member in &mut self.members {
            member.done.clear();
        }
        for member in &mut self.members {
            member.publish(DONE);
            member.client.flush();
        }
        let all: Vec<(Login, String)> = self
            .members
            .iter()
            .map(|member| (member.login, member.name()))
            .collect();
        let deadline = Deadline::after(PATIENCE);
        for member in &mut self.members {
            let of_account = all.iter().filter(|(login, _)| *login == member.login);
            let of_account: BTreeSet<String> = of_account.map(|(_, name)| name.clone()).collect();
            while member.done != of_account {
                let left = deadline.left();
                assert!(
                    left.is_some(),
                    "{} hears only {:?}",
                    member.name(),
                    member.done
                );
                member.listen(PAUSE, &self.traffic);
            }
        }
        self.attend();
    }

    /// Takes what has come for anybody, and answers for them.
    fn attend(&mut self) {
        for member in &mut self.members {
            member.client.round_trip();
            member.judge_all(&self.traffic);
        }
    }

    /// All that was heard of what was published last, in order.
    fn heard(&self) -> Vec<Heard> {
        let heard = self.members.iter().flat_map(|member| &member.heard);
        let mut heard: Vec<Heard> = heard
            .filter(|heard| heard.subject != DONE)
            .cloned()
            .collect();
        heard.sort();
        heard
    }

    /// Who must hear what was published last, in order.
    fn expectation(&self) -> Vec<Heard> {
        let mut wanted = BTreeSet::new();
        for sent in &self.sent {
            for member in self
                .members
                .iter()
                .filter(|member| member.login == sent.login)
            {
                let matching = member
                    .holds
                    .iter()
                    .filter(|(_, wish)| matches(wish.subject, sent.subject));
                for (subscription, wish) in matching {
                    wanted.insert(Heard {
                        publisher: sent.publisher.clone(),
                        number: sent.number,
                        by: member.ear(*subscription, *wish),
                        subject: sent.subject.to_owned(),
                    });
                }
            }
        }
        wanted.into_iter().collect()
    }

    /// What clients of a server want, each account's subject and group once.
    fn interest(&self, node: usize) -> Interest {
        let mut interest = Interest::new();
        for member in self.members.iter().filter(|member| member.node == node) {
            let wishes: BTreeSet<Wish> = member.holds.values().copied().collect();
            for wish in wishes {
                let entry = (wish.subject.to_owned(), wish.queue.to_owned());
                *interest.entry(entry).or_default() += 1;
            }
        }
        interest
    }
}

impl Traffic {
    pub(super) fn count(&self, from: usize, to: usize) -> u64 {
        self.counts[from * self.nodes + to].load(Ordering::Relaxed)
    }

    /// Waits until more messages go from one server to another.
    pub(super) fn demand(&self, from: usize, to: usize) {
        const MORE: u64 = 20;
        let before = self.count(from, to);
        let more = ask_until(PATIENCE, || {
            (self.count(from, to) >= before + MORE).then_some(())
        });
        assert!(more.is_some(), "messages do not go from {from} to {to}");
    }
}

impl Member {
    fn arrive(
        stage: &Stage,
        node: usize,
        login: Login,
        incarnation: usize,
        random: Rng,
        wishes: Arc<[Wish]>,
    ) -> Self {
        let mut member = Self {
            node,
            login,
            incarnation,
            client: stage.client(node, login),
            random,
            wishes,
            holds: BTreeMap::new(),
            held: HashMap::new(),
            published: 0,
            numbers: HashMap::new(),
            calm_since: None,
            is_orderly: stage.keeps_order(node),
            grouped: Vec::new(),
            heard: Vec::new(),
            done: BTreeSet::new(),
        };
        member.subscribe(Wish {
            subject: DONE,
            queue: "",
        });
        for _ in 0..SUBSCRIPTIONS_MAX / 2 {
            member.subscribe_to_something();
        }
        member.client.round_trip();
        member
    }

    fn account(&self) -> &'static str {
        self.login.user.map_or("", |(name, _)| name)
    }

    /// As it stands in its messages.
    fn name(&self) -> String {
        format!("{} {} {}", self.account(), self.node, self.incarnation)
    }

    /// Does this and that.
    fn act(&mut self) {
        for _ in 0..self.random.usize(1..6) {
            match self.random.u8(..100) {
                0..40 if self.holds.len() < SUBSCRIPTIONS_MAX => {
                    self.subscribe_to_something();
                }
                0..70 => {
                    let chosen = self.random.usize(..self.holds.len());
                    let (subscription, wish) = self.holds.iter().nth(chosen).expect("one of them");
                    if wish.subject != DONE {
                        let subscription = *subscription;
                        self.holds.remove(&subscription);
                        self.client.unsubscribe(subscription, None);
                    }
                }
                _ => {
                    let chosen = self.random.usize(..SUBJECTS.len());
                    self.publish(SUBJECTS[chosen]);
                }
            }
        }
        self.client.round_trip();
    }

    fn subscribe_to_something(&mut self) {
        let chosen = self.random.usize(..self.wishes.len());
        self.subscribe(self.wishes[chosen]);
    }

    fn subscribe(&mut self, wish: Wish) {
        let subscription = if wish.queue.is_empty() {
            self.client.subscribe(wish.subject)
        } else {
            self.client.queue_subscribe(wish.subject, wish.queue)
        };
        self.holds.insert(subscription, wish);
        self.held.insert(subscription, wish);
    }

    fn publish(&mut self, subject: &str) -> u64 {
        self.published += 1;
        let padding = "x".repeat(self.random.usize(..PADDING_BYTES_MAX));
        let payload = format!("{} {} {padding}", self.name(), self.published);
        self.client.publish(subject, payload);
        self.published
    }

    /// Takes what comes in this time.
    fn listen(&mut self, pause: Duration, traffic: &Traffic) {
        let deadline = Deadline::after(pause);
        self.judge_all(traffic);
        while let Some(left) = deadline.left() {
            if let Some(message) = self.client.next_within(left) {
                self.judge(&message, traffic);
            }
        }
    }

    fn judge_all(&mut self, traffic: &Traffic) {
        for message in self.client.take_messages() {
            self.judge(&message, traffic);
        }
    }

    fn judge(&mut self, message: &Message, traffic: &Traffic) {
        let me = self.name();
        let mut words = message.text().splitn(5, ' ');
        let mut word = || words.next().expect("a message of ours");
        let (account, node, incarnation, number) = (word(), word(), word(), word());
        assert_eq!(account, self.account(), "{me} hears another account");
        let node: usize = node.parse().expect("a number");
        let number: u64 = number.parse().expect("a number");
        let publisher = format!("{account} {node} {incarnation}");
        traffic.counts[node * traffic.nodes + self.node].fetch_add(1, Ordering::Relaxed);

        let subscription = message.subscription;
        let wish = *self
            .held
            .get(&subscription)
            .expect("a subscription of its own");
        assert!(
            matches(wish.subject, &message.subject),
            "{me} hears {} by {wish:?}",
            message.subject
        );
        let calm_since = self.calm_since.as_ref();
        let is_of_calm = calm_since
            .is_some_and(|since| since.get(&publisher).is_some_and(|last| *last < number));
        if wish.queue.is_empty() {
            let of = format!("{number} of {publisher}, by {wish:?}");
            let numbers = self
                .numbers
                .entry((subscription, publisher.clone()))
                .or_default();
            let last = numbers.last().copied();
            assert!(numbers.insert(number), "{me} hears {of}, twice");
            let is_in_order = last.is_none_or(|last| last < number);
            assert!(
                is_in_order || !(is_of_calm || self.is_orderly),
                "{me} hears {of}, after {last:?}"
            );
        } else {
            self.grouped.push((publisher.clone(), number, wish.queue));
        }
        if message.subject == DONE && wish.subject == DONE {
            self.done.insert(publisher.clone());
        }
        if is_of_calm {
            self.heard.push(Heard {
                publisher,
                number,
                by: self.ear(subscription, wish),
                subject: message.subject.clone(),
            });
        }
    }

    fn ear(&self, subscription: u64, wish: Wish) -> (Option<(usize, u64)>, &'static str) {
        if wish.queue.is_empty() {
            (Some((self.node, subscription)), "")
        } else {
            (None, wish.queue)
        }
    }
}

/// Whether a subscription to `pattern` hears `subject`.
fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

fn difference(what: &str, known: &Interest, wanted: &Interest) -> String {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(entry, count)| known.get(entry) != Some(count))
        .collect();
    let surplus: Vec<_> = known
        .iter()
        .filter(|(entry, count)| wanted.get(entry) != Some(count))
        .collect();
    format!("{what}: wanted and not known so: {missing:?}; known and not wanted so: {surplus:?}")
}

struct SetWhenDropped<'flag>(&'flag AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
