//! Interest of peers: who of them wants the messages of a subject.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::link::RouteLink;
use crate::account::Account;

/// One interest that a peer announced on one of its connections, from `RS+` (`LS+`) to `RS-` (`LS-`) or the
/// connection's end. The session that read it holds it, and it is in [`Account::remote`].
pub(crate) struct RemoteInterest {
    link: Arc<RouteLink>,
    account: Arc<Account>,
    subject: Box<[u8]>,
    queue: Option<Box<[u8]>>,
    /// Members of the queue group over there.
    weight: AtomicU32,
    /// It is that of leaf nodes behind the peer.
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
}

impl RemoteInterest {
    /// Puts the interest into the account's index. Returns `None` if the subject is not one.
    pub(crate) fn insert(
        link: &Arc<RouteLink>,
        account: &Arc<Account>,
        announced: Announced<'_>,
    ) -> Option<Arc<Self>> {
        let Announced {
            subject,
            queue,
            is_of_leaf,
        } = announced;
        let interest = Arc::new(Self {
            link: Arc::clone(link),
            account: Arc::clone(account),
            subject: subject.into(),
            queue: queue.map(|(name, _)| name.into()),
            weight: AtomicU32::new(queue.map_or(1, |(_, weight)| weight)),
            is_of_leaf,
        });
        let subscriber = RemoteSubscriber(Arc::clone(&interest));
        account
            .remote()
            .insert(subject, interest.queue(), subscriber)
            .ok()?;
        Some(interest)
    }

    /// Takes it out of the index.
    pub(crate) fn remove(self: &Arc<Self>) {
        let subscriber = RemoteSubscriber(Arc::clone(self));
        self.account
            .remote()
            .remove(&self.subject, self.queue(), &subscriber);
    }

    pub(crate) fn link(&self) -> &Arc<RouteLink> {
        &self.link
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    pub(crate) fn queue(&self) -> Option<&[u8]> {
        self.queue.as_deref()
    }

    pub(crate) fn is_of_leaf(&self) -> bool {
        self.is_of_leaf
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

    use parking_lot::Mutex;

    use super::*;
    use crate::delivery::outbox::{Outbox, OutboxLimits};
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
            let outbox = Outbox::new(9, limits, Arc::clone(&sent) as Arc<dyn Transport>);
            outbox.set_headers(true);
            let dedicated = dedicated.then(|| "$G".into());
            (
                Arc::new(RouteLink::new(Arc::new(outbox), dedicated, false, None)),
                sent,
            )
        }

        fn wants(&self, link: &Arc<RouteLink>, subject: &str, queue: Option<(&str, u32)>) {
            let announced = Announced {
                subject: subject.as_bytes(),
                queue: queue.map(|(name, weight)| (name.as_bytes(), weight)),
                is_of_leaf: false,
            };
            let account = self.engine.global_account();
            RemoteInterest::insert(link, account, announced).expect("a subject");
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
        };
        let account = Arc::clone(node.engine.global_account());
        let interest = RemoteInterest::insert(&peer, &account, announced).expect("a subject");
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
        assert!(account.interest.replay("$G", &peer, 1));
        assert_eq!(told(), "RS+ $G early\r\n");
        // What was not told yet is told as it is when its turn comes.
        node.says("SUB late 5\r\nSUB work q 6\r\nUNSUB 1\r\nUNSUB 4\r\n");
        assert_eq!(told(), "");
        assert!(!account.interest.replay("$G", &peer, 100));
        assert_eq!(told(), "RS+ $G work q 2\r\nRS+ $G late\r\n");
        node.says("SUB later 7\r\nSUB later 8\r\nUNSUB 7\r\nUNSUB 2\r\nUNSUB 3\r\nUNSUB 6\r\n");
        assert_eq!(
            told(),
            "RS+ $G later\r\nRS- $G early\r\nRS+ $G work q 1\r\nRS- $G work q\r\n"
        );
        assert_eq!(account.interest.len(), 2);
        account.interest.detach(&peer);
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
        account.interest.replay("$G", &peer, 100);
        node.says("SUB a.1 1\r\nSUB b.1 2\r\n");
        told();
        let only = |letter: u8| -> Option<Arc<crate::mesh::link::InterestFilter>> {
            Some(Arc::new(move |subject: &[u8]| subject[0] == letter))
        };
        let former = peer.set_filter(only(b'a'));
        account.interest.refilter("$G", &peer, former.as_deref());
        assert_eq!(told(), "RS- $G b.1\r\n");
        node.says("SUB b.2 3\r\nSUB a.2 4\r\n");
        assert_eq!(told(), "RS+ $G a.2\r\n");
        let former = peer.set_filter(None);
        account.interest.refilter("$G", &peer, former.as_deref());
        assert_eq!(told(), "RS+ $G b.1\r\nRS+ $G b.2\r\n");
    }
}
