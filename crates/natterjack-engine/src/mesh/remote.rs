//! Interest of peers: who of them wants the messages of a subject, and on which connection.
//!
//! A peer announces its interest in an account on one connection. When the account goes from one of its connections to
//! another, there is a time when both have it. No message may go by both, and none by the old one after the first has gone
//! by the new one: a [`Lane`] is an account's part of a connection, and a [`Passage`] says, for all lanes to one
//! peer at once, which of them is in use. It goes from one to the next ([`Passages::take_over`]), and not on before all
//! sessions have come along ([`Passages::has_taken_over`]). An account that comes back to a connection later has another
//! lane there, and whatever is left of the former one is not in use.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::link::RouteLink;
use crate::account::Account;

/// One interest that a peer announced on one of its connections, from `RS+` (`LS+`) to `RS-` (`LS-`) or the
/// connection's end. The session that read it holds it, and it is in [`Account::remote`].
///
/// There may be millions, so it is kept small: 64 bytes and its names.
pub(crate) struct RemoteInterest {
    lane: Arc<Lane>,
    /// Subject, queue group and origin, one behind the other.
    names: Box<[u8]>,
    subject_end: u32,
    /// As `subject_end` if there is no queue group.
    queue_end: u32,
    /// Members of the queue group over there.
    weight: AtomicU32,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    has_queue: bool,
    is_of_leaf: bool,
}

/// What a peer says when it announces interest.
#[derive(Clone, Copy)]
pub(crate) struct Announced<'a> {
    pub(crate) subject: &'a [u8],
    /// A queue group and its members over there.
    pub(crate) queue: Option<(&'a [u8], u32)>,
    /// It is that of leaf nodes behind the peer.
    pub(crate) is_of_leaf: bool,
    /// Which of them, if that is part of how it is known; else empty.
    pub(crate) origin: &'a [u8],
}

impl RemoteInterest {
    /// Puts the interest into the account's index. Returns `None` if the subject is not one.
    pub(crate) fn insert(lane: &Arc<Lane>, announced: Announced<'_>) -> Option<Arc<Self>> {
        let Announced {
            subject,
            queue,
            is_of_leaf,
            origin,
        } = announced;
        let name = queue.map_or(&b""[..], |(name, _)| name);
        let subject_end = u32::try_from(subject.len()).ok()?;
        let interest = Arc::new(Self {
            lane: Arc::clone(lane),
            names: [subject, name, origin].concat().into(),
            subject_end,
            queue_end: subject_end + u32::try_from(name.len()).ok()?,
            weight: AtomicU32::new(queue.map_or(1, |(_, weight)| weight)),
            kind: Kind {
                has_queue: queue.is_some(),
                is_of_leaf,
            },
        });
        let subscriber = RemoteSubscriber(Arc::clone(&interest));
        let index = lane.account.remote();
        index.insert(subject, interest.queue(), subscriber).ok()?;
        Some(interest)
    }

    /// Takes it out of the index.
    pub(crate) fn remove(self: &Arc<Self>) {
        let subscriber = RemoteSubscriber(Arc::clone(self));
        let index = self.lane.account.remote();
        index.remove(self.subject(), self.queue(), &subscriber);
    }

    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    pub(crate) fn link(&self) -> &Arc<RouteLink> {
        &self.lane.link
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.lane.account
    }

    pub(crate) fn subject(&self) -> &[u8] {
        &self.names[..self.subject_end as usize]
    }

    pub(crate) fn queue(&self) -> Option<&[u8]> {
        let name = &self.names[self.subject_end as usize..self.queue_end as usize];
        self.kind.has_queue.then_some(name)
    }

    /// As in [`Announced::origin`].
    pub(crate) fn origin(&self) -> &[u8] {
        &self.names[self.queue_end as usize..]
    }

    /// Bytes of its names.
    pub(crate) fn names_len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn is_of_leaf(&self) -> bool {
        self.kind.is_of_leaf
    }

    /// Members of the queue group over there; 1 for a plain interest.
    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// The queue group has another number of members now.
    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }
}

/// An account's part of one connection with a peer, from the first interest in it until the peer tells of it
/// elsewhere, or the connection ends.
pub(crate) struct Lane {
    link: Arc<RouteLink>,
    account: Arc<Account>,
    passage: Arc<Passage>,
    is_left: AtomicBool,
}

/// An account's way to one peer.
pub(crate) struct Passage {
    state: Mutex<PassageState>,
    rule: AtomicU8,
}

#[derive(Default)]
struct PassageState {
    /// Connections with the peer that have the account.
    members: SmallVec<[Member; 2]>,
    /// The one to which messages are just going over.
    to: Option<Arc<RouteLink>>,
}

struct Member {
    link: Arc<RouteLink>,
    /// The last number with which the peer said that all of its interest has been told there; 0 if it has not.
    told: u64,
}

/// Which of an account's connections with a peer are in use. Of one kind there may be two for a moment, until both sides
/// know which of them stays.
mod rule {
    /// All of them.
    pub(super) const ALL: u8 = 0;
    /// Those that the account shares with others.
    pub(super) const SHARED: u8 = 1;
    /// Those that are its own.
    pub(super) const OWN: u8 = 2;
}

/// An account's ways to all peers.
#[derive(Default)]
pub(crate) struct Passages {
    by_peer: Mutex<Vec<(Arc<str>, Arc<Passage>)>>,
    /// Counts changes of rules.
    epoch: AtomicU64,
}

/// What comes of a peer's word that all has been told on a connection.
pub(crate) enum TakenOver {
    /// Not yet, or not any more: the connection is [woken](RouteLink::reconsider) when to ask again.
    NotNow,
    /// Messages have gone by connections of this kind alone.
    Already,
    /// From now on they do. These others have had them until now.
    From(Vec<Arc<RouteLink>>),
}

impl Passages {
    /// Changes whenever another lane is in use; read before who receives a message is found out.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether a connection with a peer is one by which messages of the account go, or would go.
    pub(crate) fn is_in_use(&self, link: &RouteLink) -> bool {
        let known = self.find(link);
        known.is_none_or(|passage| allows(passage.rule.load(Ordering::Relaxed), link))
    }

    /// The peer has said with this number that all of its interest has been told on a connection, which has a lane: unless
    /// it has said so later on another one, messages go by connections of this kind alone from now on. From one of several
    /// lanes to the next they go one move at a time.
    pub(crate) fn take_over(&self, link: &Arc<RouteLink>, number: u64) -> TakenOver {
        let Some(passage) = self.find(link) else {
            return TakenOver::NotNow;
        };
        let mut state = passage.state.lock();
        let mut members = state.members.iter_mut();
        if let Some(member) = members.find(|member| Arc::ptr_eq(&member.link, link)) {
            member.told = number;
        }
        if state.to.is_some() || state.members.iter().any(|other| other.told > number) {
            return TakenOver::NotNow;
        }
        let others = state.members.iter().map(|member| &member.link);
        let others: Vec<_> = (others.filter(|other| !is_same_kind(other, link)))
            .cloned()
            .collect();
        let only = only(link);
        if others.is_empty() || passage.rule.load(Ordering::Relaxed) == only {
            return TakenOver::Already;
        }
        state.to = Some(Arc::clone(link));
        passage.set_rule(only, &self.epoch);
        TakenOver::From(others)
    }

    /// All sessions have come along to this connection, and what went by others has arrived.
    pub(crate) fn has_taken_over(&self, link: &Arc<RouteLink>) {
        if let Some(passage) = self.find(link) {
            let mut state = passage.state.lock();
            state.end_move_to(link);
        }
    }

    fn find(&self, link: &RouteLink) -> Option<Arc<Passage>> {
        let by_peer = self.by_peer.lock();
        let known = by_peer.iter().find(|(peer, _)| peer == link.peer());
        known.map(|(_, passage)| Arc::clone(passage))
    }

    fn enter(&self, link: &Arc<RouteLink>) -> Arc<Passage> {
        let mut by_peer = self.by_peer.lock();
        let known = by_peer.iter().find(|(peer, _)| peer == link.peer());
        let passage = known.map(|(_, passage)| Arc::clone(passage));
        let passage = passage.unwrap_or_else(|| {
            let passage = Arc::new(Passage {
                state: Mutex::default(),
                rule: AtomicU8::new(rule::ALL),
            });
            by_peer.push((Arc::clone(link.peer()), Arc::clone(&passage)));
            passage
        });
        let mut state = passage.state.lock();
        // Until all of the peer's interest has been told there.
        let is_told_of = link.hands_over() || link.is_dedicated();
        let mut members = state.members.iter();
        let is_first = !members.any(|known| is_same_kind(&known.link, link));
        if is_told_of
            && is_first
            && passage.rule.load(Ordering::Relaxed) == rule::ALL
            && let Some(other) = state.members.first()
        {
            passage.set_rule(only(&other.link), &self.epoch);
        }
        state.members.push(Member {
            link: Arc::clone(link),
            told: 0,
        });
        drop(state);
        passage
    }

    fn leave(&self, link: &Arc<RouteLink>) {
        let mut by_peer = self.by_peer.lock();
        let is_peer = |(peer, _): &(Arc<str>, _)| peer == link.peer();
        let Some(position) = by_peer.iter().position(is_peer) else {
            return;
        };
        let passage = &by_peer[position].1;
        let mut state = passage.state.lock();
        let mut members = state.members.iter();
        if let Some(position) = members.position(|known| Arc::ptr_eq(&known.link, link)) {
            state.members.remove(position);
        }
        let mut left = state.members.iter();
        let is_of_one_kind = (left.next())
            .is_none_or(|first| left.all(|other| is_same_kind(&first.link, &other.link)));
        let rule = if is_of_one_kind {
            rule::ALL
        } else {
            passage.rule.load(Ordering::Relaxed)
        };
        // Also if it stays: what is left of the lane is not in use any more.
        passage.set_rule(rule, &self.epoch);
        state.end_move_to(link);
        state.reconsider();
        let is_empty = state.members.is_empty();
        drop(state);
        if is_empty {
            by_peer.swap_remove(position);
        }
    }
}

impl Passage {
    fn set_rule(&self, rule: u8, epoch: &AtomicU64) {
        self.rule.store(rule, Ordering::Release);
        // Behind it, so that who reads the new epoch reads the new rule.
        epoch.fetch_add(1, Ordering::Release);
    }
}

impl PassageState {
    fn end_move_to(&mut self, link: &Arc<RouteLink>) {
        let is_it = |to: &mut Arc<RouteLink>| Arc::ptr_eq(to, link);
        if self.to.take_if(is_it).is_some() {
            self.reconsider();
        }
    }

    fn reconsider(&self) {
        let told = self.members.iter().filter(|member| member.told > 0);
        told.for_each(|member| member.link.reconsider());
    }
}

fn only(link: &RouteLink) -> u8 {
    if link.is_dedicated() {
        rule::OWN
    } else {
        rule::SHARED
    }
}

fn allows(rule: u8, link: &RouteLink) -> bool {
    rule == rule::ALL || rule == only(link)
}

fn is_same_kind(one: &RouteLink, other: &RouteLink) -> bool {
    one.is_dedicated() == other.is_dedicated()
}

impl Lane {
    pub(crate) fn enter(account: &Arc<Account>, link: &Arc<RouteLink>) -> Arc<Self> {
        Arc::new(Self {
            passage: account.passages.enter(link),
            link: Arc::clone(link),
            account: Arc::clone(account),
            is_left: AtomicBool::new(false),
        })
    }

    /// The peer tells of the account elsewhere, or the connection has ended. What was told here is not in use any more.
    pub(crate) fn leave(&self) {
        if !self.is_left.swap(true, Ordering::Release) {
            self.account.passages.leave(&self.link);
        }
    }

    pub(crate) fn is_left(&self) -> bool {
        self.is_left.load(Ordering::Acquire)
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

/// What is in use while the receivers of one message are found out: each passage is looked at once, so that of two lanes to
/// a peer one is in use and not both or none.
#[derive(Default)]
pub(crate) struct LanesInUse(SmallVec<[(*const Passage, u8); 4]>);

impl LanesInUse {
    pub(crate) fn has(&mut self, interest: &RemoteInterest) -> bool {
        let passage = Arc::as_ptr(&interest.lane.passage);
        let known = self.0.iter().find(|(known, _)| *known == passage);
        let rule = known.map(|(_, rule)| *rule).unwrap_or_else(|| {
            let rule = interest.lane.passage.rule.load(Ordering::Acquire);
            self.0.push((passage, rule));
            rule
        });
        allows(rule, interest.link()) && !interest.lane.is_left()
    }
}

/// An interest in the index: the same one only if it is the very same object.
#[derive(Clone)]
pub(crate) struct RemoteSubscriber(pub(crate) Arc<RemoteInterest>);

impl PartialEq for RemoteSubscriber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for RemoteSubscriber {}

impl Hash for RemoteSubscriber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test needs some instant to start from"
)]
mod tests {
    use std::io::IoSlice;
    use std::time::Instant;

    use natterjack_wire::route::RouteInfo;
    use parking_lot::Mutex;

    use super::*;
    use crate::delivery::outbox::{Outbox, OutboxLimits};
    use crate::mesh::interest::Left;
    use crate::{Access, ClientSession, Engine, Limits, Peer, ServerInfo, Settings, Transport};

    #[derive(Default)]
    struct Sent(Mutex<Vec<u8>>);

    impl Transport for Sent {
        fn try_write(&self, slices: &[IoSlice<'_>]) -> std::io::Result<usize> {
            let mut sent = self.0.lock();
            slices
                .iter()
                .for_each(|slice| sent.extend_from_slice(slice));
            Ok(slices.iter().map(|slice| slice.len()).sum())
        }

        fn wake(&self) {}
    }

    impl Sent {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock())).expect("text")
        }
    }

    struct Node {
        engine: Arc<Engine>,
        client: ClientSession,
        to_client: Arc<Sent>,
    }

    impl Node {
        fn new() -> Self {
            let engine = Engine::new(Settings {
                info: ServerInfo {
                    headers: true,
                    ..ServerInfo::default()
                },
                limits: Limits::default(),
                access: Access::default(),
                seed: 1,
                cluster: None,
            });
            let to_client = Arc::new(Sent::default());
            let transport = Arc::clone(&to_client) as Arc<dyn Transport>;
            let client = engine.open_client(Peer::default(), transport, Instant::now());
            let mut node = Self {
                engine,
                client,
                to_client,
            };
            let connect = r#"CONNECT {"headers":true,"no_responders":true,"verbose":false}"#;
            node.says(&format!("{connect}\r\n"));
            node.to_client.take();
            node
        }

        fn says(&mut self, text: &str) {
            let mut worker = self.engine.worker();
            let [_, buffer] = &mut self.client.read_slices(&mut worker);
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            self.client
                .handle_read(text.len(), &mut worker, Instant::now());
        }

        fn peer(&self, dedicated: bool) -> (Arc<RouteLink>, Arc<Sent>) {
            let sent = Arc::new(Sent::default());
            let limits = OutboxLimits {
                pending_bytes_max: usize::MAX,
                congested_bytes: usize::MAX,
                drop_bytes: usize::MAX,
                must_finish: false,
            };
            let id = self.engine.seed() >> 4;
            let outbox = Outbox::new(id, limits, Arc::clone(&sent) as Arc<dyn Transport>);
            outbox.set_headers(true);
            let dedicated = dedicated.then(|| "$G".into());
            let info = RouteInfo {
                server_id: format!("N{id}"),
                ..RouteInfo::default()
            };
            let link = RouteLink::new(Arc::new(outbox), dedicated, &info, None);
            (Arc::new(link), sent)
        }

        fn wants(&self, link: &Arc<RouteLink>, subject: &str, queue: Option<(&str, u32)>) {
            let announced = Announced {
                subject: subject.as_bytes(),
                queue: queue.map(|(name, weight)| (name.as_bytes(), weight)),
                is_of_leaf: false,
                origin: b"",
            };
            let lane = Lane::enter(self.engine.global_account(), link);
            RemoteInterest::insert(&lane, announced).expect("a subject");
        }
    }

    #[test]
    fn a_peer_gets_each_message_once_with_the_groups_it_is_to_serve() {
        let mut node = Node::new();
        let (peer, sent) = node.peer(false);
        node.wants(&peer, "foo", None);
        node.wants(&peer, "*", None);
        node.says("PUB foo 2\r\nhi\r\nPUB foo inbox 2\r\nho\r\n");
        node.says("HPUB foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
        let with_header = "HMSG $G foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n";
        assert_eq!(
            sent.take(),
            format!("RMSG $G foo 2\r\nhi\r\nRMSG $G foo inbox 2\r\nho\r\n{with_header}")
        );
        node.wants(&peer, "foo", Some(("a", 1)));
        node.wants(&peer, "foo", Some(("b", 3)));
        node.says("PUB foo 2\r\nhi\r\nPUB foo inbox 2\r\nho\r\n");
        assert_eq!(
            sent.take(),
            "RMSG $G foo | a b 2\r\nhi\r\nRMSG $G foo + inbox a b 2\r\nho\r\n"
        );
        assert_eq!(node.to_client.take(), "", "somebody responds");
    }

    #[test]
    fn lines_of_a_connection_for_one_account_do_not_name_it() {
        let mut node = Node::new();
        let (peer, sent) = node.peer(true);
        node.wants(&peer, "foo", None);
        node.wants(&peer, "bar", Some(("q", 1)));
        node.says("PUB foo 2\r\nhi\r\nPUB bar 2\r\nhi\r\n");
        assert_eq!(sent.take(), "RMSG foo 2\r\nhi\r\nRMSG bar | q 2\r\nhi\r\n");
    }

    #[test]
    fn large_messages_reach_peers_whole() {
        let mut node = Node::new();
        let (peer, sent) = node.peer(false);
        node.wants(&peer, "foo", Some(("q", 1)));
        let body = "x".repeat(5000);
        node.says(&format!(
            "PUB foo r 5000\r\n{body}\r\nPUB foo 5000\r\n{body}\r\n"
        ));
        let expected =
            format!("RMSG $G foo + r q 5000\r\n{body}\r\nRMSG $G foo | q 5000\r\n{body}\r\n");
        assert!(sent.take() == expected);
    }

    #[test]
    fn a_group_is_shared_by_all_its_members_wherever_they_are() {
        let mut node = Node::new();
        let (one, to_one) = node.peer(false);
        let (two, to_two) = node.peer(false);
        node.wants(&one, "foo", Some(("q", 2)));
        node.wants(&two, "foo", Some(("q", 6)));
        node.wants(&two, "*", None);
        node.says("SUB foo q 1\r\nSUB foo q 2\r\n");
        for _ in 0..10 {
            node.says(&"PUB foo 1\r\nx\r\n".repeat(100));
        }
        let count = |text: &str, pattern: &str| text.matches(pattern).count();
        let here = count(&node.to_client.take(), "MSG foo ");
        let (to_one, to_two) = (to_one.take(), to_two.take());
        let there = count(&to_one, "RMSG $G foo | q 1\r\n");
        let farther = count(&to_two, "RMSG $G foo | q 1\r\n");
        assert_eq!(here + there + farther, 1000);
        // Two, two and six members: far from any of these by chance is impossible with this seed.
        assert!((130..270).contains(&here), "{here}");
        assert!((130..270).contains(&there), "{there}");
        assert_eq!(count(&to_one, "RMSG"), there);
        // The peer that wants everything gets everything once.
        assert_eq!(count(&to_two, "RMSG $G foo "), 1000);
    }

    #[test]
    fn requests_nobody_wants_are_answered_and_interest_ends() {
        let mut node = Node::new();
        let (peer, sent) = node.peer(false);
        let announced = Announced {
            subject: b"foo",
            queue: None,
            is_of_leaf: false,
            origin: b"",
        };
        let lane = Lane::enter(node.engine.global_account(), &peer);
        let interest = RemoteInterest::insert(&lane, announced).expect("a subject");
        node.says("SUB inbox 1\r\nPUB foo inbox 0\r\n\r\n");
        assert_eq!(sent.take(), "RMSG $G foo inbox 0\r\n\r\n");
        interest.remove();
        node.says("PUB foo inbox 0\r\n\r\n");
        assert_eq!(sent.take(), "");
        assert!(node.to_client.take().contains("503"));
    }

    #[test]
    fn peers_hear_of_the_first_and_the_last() {
        let mut node = Node::new();
        let account = Arc::clone(node.engine.global_account());
        account.interest.keep();
        let (peer, sent) = node.peer(false);
        let told = || {
            peer.outbox().flush(Instant::now());
            sent.take()
        };
        node.says("SUB early 1\r\nSUB early 2\r\nSUB work q 3\r\nSUB other 4\r\n");
        account.interest.attach(&peer);
        assert_eq!(told(), "");
        assert_eq!(account.interest.work("$G", &peer, 1).left, Left::More);
        assert_eq!(told(), "RS+ $G early\r\n");
        // What was not told yet is told as it is when its turn comes.
        node.says("SUB late 5\r\nSUB work q 6\r\nUNSUB 1\r\nUNSUB 4\r\n");
        assert_eq!(told(), "");
        let worked = account.interest.work("$G", &peer, 100);
        assert_eq!(worked.left, Left::Nothing);
        assert_eq!(told(), "RS+ $G work q 2\r\nRS+ $G late\r\n");
        node.says("SUB later 7\r\nSUB later 8\r\nUNSUB 7\r\nUNSUB 2\r\nUNSUB 3\r\nUNSUB 6\r\n");
        assert_eq!(
            told(),
            "RS+ $G later\r\nRS- $G early\r\nRS+ $G work q 1\r\nRS- $G work q\r\n"
        );
        assert_eq!(account.interest.len(), 2);
        account.interest.detach("$G", &peer);
        node.says("UNSUB 5\r\nUNSUB 8\r\n");
        assert_eq!(told(), "");
        assert_eq!(account.interest.len(), 0);
    }

    #[test]
    fn a_peer_hears_of_what_its_filter_lets_through() {
        let mut node = Node::new();
        let account = Arc::clone(node.engine.global_account());
        account.interest.keep();
        let (peer, sent) = node.peer(false);
        let told = || {
            peer.outbox().flush(Instant::now());
            sent.take()
        };
        account.interest.attach(&peer);
        account.interest.work("$G", &peer, 100);
        node.says("SUB a.1 1\r\nSUB b.1 2\r\n");
        told();
        let only = |letter: u8| -> Option<Arc<crate::mesh::link::InterestFilter>> {
            Some(Arc::new(move |subject: &[u8]| subject[0] == letter))
        };
        peer.set_filter(only(b'a'));
        account.interest.refilter(&peer);
        account.interest.work("$G", &peer, 100);
        assert_eq!(told(), "RS- $G b.1\r\n");
        node.says("SUB b.2 3\r\nSUB a.2 4\r\n");
        assert_eq!(told(), "RS+ $G a.2\r\n");
        peer.set_filter(None);
        account.interest.refilter(&peer);
        account.interest.work("$G", &peer, 100);
        assert_eq!(told(), "RS+ $G b.1\r\nRS+ $G b.2\r\n");
    }
}
