//! Three servers of one kind become three of another, one at a time, and then the first again, while clients are at work:
//! lame duck mode, and the other program on the same ports with the same file.
//!
//! Two promises are held to at every step. Clients of servers that stay notice nothing: what they say to each other comes
//! exactly once and in order. Clients of the server that goes find another by themselves with all they have subscribed to;
//! meanwhile they may lose messages, as whoever is not connected does, but none comes twice, and afterwards each comes exactly
//! once again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Subscriber};
use futures_util::StreamExt;
use libtest_mimic::Trial;
use testkit::cluster::{Cluster, Login, Plan};
use testkit::{Kind, PATIENCE, ask_until};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::delivery::complete;
use super::{OLD, REAL, kinds_asked_for};
use crate::trial;

const SERVERS: usize = 3;
const NOBODY: Login = Login { user: None };

/// Which kinds are replaced by which, and come back.
const UPGRADES: &[(&str, Kind, Kind)] = &[
    ("real_to_ours", REAL, Kind::Natterjack),
    ("old_to_ours", OLD, Kind::Natterjack),
];

pub(super) fn trials() -> Vec<Trial> {
    // What a run asks for besides: from the first kind that it names to the second.
    let asked_for = kinds_asked_for().map(|kinds| ("asked_for", kinds[0], kinds[1]));
    let upgrades = UPGRADES.iter().copied().chain(asked_for);
    upgrades
        .map(|(name, from, to)| {
            let needs = [from, to].map(|kind| kind.program().map(drop));
            let name = format!("cluster::upgrade::{name}");
            trial(name, needs, move || one_at_a_time_and_back(from, to))
        })
        .collect()
}

fn one_at_a_time_and_back(from: Kind, to: Kind) {
    // Clients are asked to leave one after another, from half a second after the signal.
    let mut plan = Plan::of(&[from; SERVERS])
        .server("lame_duck_grace_period: \"500ms\"")
        .cluster("authorization { user: route, password: between-us }")
        .route_login("route:between-us@");
    if from != OLD && to != OLD {
        plan = plan.cluster("pool_size: 2\ncompression: s2_fast");
    }
    let mut cluster = complete(plan);
    let mut fleet = Fleet::start(&cluster);
    fleet.expect_exact(&mut cluster);
    let there = (0..SERVERS).map(|node| (node, to));
    let back = (0..SERVERS).rev().map(|node| (node, from));
    for (node, kind) in there.chain(back) {
        fleet.load();
        let exchanged = while_others_talk(&mut cluster, node, |cluster| {
            cluster.retire(node);
            cluster.become_another(node, kind);
            cluster.wait_until_complete();
        });
        assert!(exchanged > 0, "nothing was said while {node} was replaced");
        fleet.rest();
        fleet.expect_exact(&mut cluster);
    }
}

/// Clients of the other two servers talk to each other, both ways, while one is replaced. Every message comes, once and in
/// order; the number of them is returned.
fn while_others_talk(
    cluster: &mut Cluster,
    node: usize,
    replace: impl FnOnce(&mut Cluster),
) -> usize {
    const BURST: usize = 50;
    let others: Vec<usize> = cluster.others(node).collect();
    let mut pairs = Vec::new();
    for (from, to) in [(others[0], others[1]), (others[1], others[0])] {
        let mut subscriber = cluster.client(to);
        subscriber.subscribe(&format!("talk.{from}"));
        cluster.settle([&mut subscriber]);
        pairs.push((from, cluster.client(from), subscriber));
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let talks: Vec<_> = pairs
            .into_iter()
            .map(|(from, mut publisher, mut subscriber)| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut said = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        for number in said..said + BURST {
                            publisher.publish(&format!("talk.{from}"), number.to_string());
                        }
                        publisher.round_trip();
                        for number in said..said + BURST {
                            let heard = subscriber.next_message();
                            assert_eq!(heard.text(), number.to_string(), "from {from}");
                        }
                        said += BURST;
                    }
                    said
                })
            })
            .collect();
        // Ended also when this fails, or the talk would go on for ever.
        let over = OnDrop(&is_over);
        replace(cluster);
        drop(over);
        let talks = talks.into_iter();
        talks
            .map(|talk| {
                talk.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .min()
            .expect("two")
    })
}

struct OnDrop<'flag>(&'flag AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client's subscription to what it publishes to itself.
type Echo = Arc<tokio::sync::Mutex<Subscriber>>;

/// Clients that know all servers and stay with none: as many publishers as subscribers, the first of each at the first
/// server and so on.
struct Fleet {
    runtime: Runtime,
    publishers: Vec<Publisher>,
    members: Vec<Member>,
    load: Vec<JoinHandle<()>>,
    is_resting: Arc<AtomicBool>,
}

/// Publishes numbers, each to all and to the group.
#[derive(Clone)]
struct Publisher {
    name: usize,
    client: Client,
    /// What it has published to itself and got back: what was published before has left it.
    echo: Echo,
    next: Arc<AtomicUsize>,
}

/// Hears all, and takes its part of what goes to the group.
struct Member {
    client: Client,
    echo: Echo,
    heard: Arc<Heard>,
}

impl Fleet {
    fn start(cluster: &Cluster) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime needs only memory and an epoll");
        let (mut publishers, mut members) = (Vec::new(), Vec::new());
        runtime.block_on(async {
            for name in 0..SERVERS {
                let client = connected(cluster, name).await;
                let echo = subscribed(&client, format!("echo.publisher.{name}")).await;
                publishers.push(Publisher {
                    name,
                    client,
                    echo,
                    next: Arc::default(),
                });
                members.push(Member::start(cluster, name).await);
            }
        });
        Self {
            runtime,
            publishers,
            members,
            load: Vec::new(),
            is_resting: Arc::default(),
        }
    }

    /// Publishes from now on.
    fn load(&mut self) {
        self.is_resting.store(false, Ordering::Relaxed);
        for publisher in self.publishers.clone() {
            let is_resting = Arc::clone(&self.is_resting);
            self.load.push(self.runtime.spawn(async move {
                while !is_resting.load(Ordering::Relaxed) {
                    publisher.publish(20).await;
                    publisher.round_trip().await;
                }
            }));
        }
    }

    /// Publishes no more.
    fn rest(&mut self) {
        self.is_resting.store(true, Ordering::Relaxed);
        for load in self.load.drain(..) {
            self.runtime
                .block_on(async { timeout(PATIENCE, load).await })
                .expect("publishers are connected")
                .expect("publishers do not panic");
        }
    }

    /// Everybody is connected with all subscriptions: what is published comes to each member once, and to the group once.
    fn expect_exact(&self, cluster: &mut Cluster) {
        const MESSAGES: usize = 200;
        cluster.wait_until_complete();
        for (number, member) in self.members.iter().enumerate() {
            // It may not have noticed that its server is gone. Once it has, what it subscribes to comes behind the rest.
            self.runtime
                .block_on(round_trip(&member.client, &member.echo, "member", number));
            let subject = format!("settled.{number}.{}", member.heard.next_settling());
            let settled = self
                .runtime
                .block_on(member.client.subscribe(subject.clone()))
                .expect("a valid subject");
            for node in 0..cluster.len() {
                cluster.wait_for_interest(node, NOBODY, &subject, true);
            }
            drop(settled);
        }
        let from: Vec<usize> = self.publishers.iter().map(Publisher::next).collect();
        self.runtime.block_on(async {
            for publisher in &self.publishers {
                publisher.round_trip().await;
                publisher.publish(MESSAGES).await;
                publisher.round_trip().await;
            }
        });
        for (publisher, from) in from.into_iter().enumerate() {
            let expected: Vec<usize> = (from..from + MESSAGES).collect();
            for (number, member) in self.members.iter().enumerate() {
                member.heard.expect(publisher, &expected, number);
            }
            let all = || {
                let parts = self.members.iter();
                let mut taken: Vec<usize> = parts
                    .flat_map(|member| member.heard.taken(publisher))
                    .collect();
                taken.sort_unstable();
                taken
            };
            let since = |taken: &[usize]| taken.iter().filter(|number| **number >= from).count();
            let arrived = ask_until(PATIENCE, || (since(&all()) >= MESSAGES).then_some(()));
            let taken = all();
            assert!(
                arrived.is_some(),
                "the group has {} of {publisher}",
                since(&taken)
            );
            assert!(
                taken.windows(2).all(|pair| pair[0] != pair[1]),
                "the group took one of {publisher} twice"
            );
            let last = &taken[taken.len() - MESSAGES..];
            assert_eq!(last, expected, "the group's of {publisher}");
        }
    }
}

impl Publisher {
    fn next(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    async fn publish(&self, count: usize) {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        for number in first..first + count {
            let text = format!("{} {number}", self.name);
            for subject in ["load", "group"] {
                let text = text.clone().into();
                self.client
                    .publish(subject, text)
                    .await
                    .expect("the client is not closed");
            }
        }
    }

    async fn round_trip(&self) {
        round_trip(&self.client, &self.echo, "publisher", self.name).await;
    }
}

impl Member {
    async fn start(cluster: &Cluster, name: usize) -> Self {
        let client = connected(cluster, name).await;
        let echo = subscribed(&client, format!("echo.member.{name}")).await;
        let mut all = client.subscribe("load").await.expect("a valid subject");
        let mut group = client
            .queue_subscribe("group", "crew".to_owned())
            .await
            .expect("a valid subject");
        client.flush().await.expect("connected");
        let heard = Arc::new(Heard::default());
        let hearing = Arc::clone(&heard);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(message) = all.next() => hearing.hear(&message.payload),
                    Some(message) = group.next() => hearing.take(&message.payload),
                    else => return,
                }
            }
        });
        Self {
            client,
            echo,
            heard,
        }
    }
}

/// What has come to a member, by publisher.
#[derive(Default)]
struct Heard {
    /// What went to all, in the order of its coming.
    all: Mutex<[Vec<usize>; SERVERS]>,
    /// What this member took for the group.
    group: Mutex<[Vec<usize>; SERVERS]>,
    settlings: AtomicUsize,
}

impl Heard {
    /// How often it was asked before.
    fn next_settling(&self) -> usize {
        self.settlings.fetch_add(1, Ordering::Relaxed)
    }

    fn hear(&self, payload: &[u8]) {
        let (publisher, number) = parsed(payload);
        self.all.lock().expect("nobody panics with it")[publisher].push(number);
    }

    fn take(&self, payload: &[u8]) {
        let (publisher, number) = parsed(payload);
        self.group.lock().expect("nobody panics with it")[publisher].push(number);
    }

    fn taken(&self, publisher: usize) -> Vec<usize> {
        self.group.lock().expect("nobody panics with it")[publisher].clone()
    }

    /// Waits for the last of these, and makes sure that they came in order, and that nothing ever came twice.
    #[track_caller]
    fn expect(&self, publisher: usize, expected: &[usize], member: usize) {
        let last = expected.last();
        let arrived = ask_until(PATIENCE, || {
            let all = self.all.lock().expect("nobody panics with it");
            (all[publisher].last() >= last).then_some(())
        });
        let all = self.all.lock().expect("nobody panics with it");
        let all = &all[publisher];
        assert!(
            arrived.is_some(),
            "member {member} has not heard {last:?} of {publisher}; the last is {:?}",
            all.last()
        );
        let mut sorted = all.clone();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            panic!("member {member} heard {} of {publisher} twice", pair[0]);
        }
        assert!(
            all.ends_with(expected),
            "member {member} has not heard all of {publisher} from {:?}: {:?}",
            expected.first(),
            &all[all.len().saturating_sub(expected.len())..]
        );
    }
}

/// The publisher and the number.
fn parsed(payload: &[u8]) -> (usize, usize) {
    let text = std::str::from_utf8(payload).expect("publishers write text");
    let (publisher, number) = text.split_once(' ').expect("two numbers");
    let number_of = |text: &str| text.parse().expect("a number");
    (number_of(publisher), number_of(number))
}

/// A client that begins at one server and goes to the next one when it must.
async fn connected(cluster: &Cluster, at: usize) -> Client {
    let urls = (0..cluster.len()).map(|number| {
        let node = (at + number) % cluster.len();
        format!("nats://{}", cluster.address(node))
    });
    let urls: Vec<async_nats::ServerAddr> =
        urls.map(|url| url.parse().expect("an address")).collect();
    ConnectOptions::new()
        .retain_servers_order()
        .reconnect_delay_callback(|_| Duration::from_millis(20))
        .connect(urls)
        .await
        .expect("all servers run")
}

async fn subscribed(client: &Client, subject: String) -> Echo {
    let subscriber = client.subscribe(subject).await.expect("a valid subject");
    Arc::new(tokio::sync::Mutex::new(subscriber))
}

/// Returns when what the client publishes to itself has come back, however often it must reconnect for that.
async fn round_trip(client: &Client, echo: &Echo, role: &str, name: usize) {
    let mut echo = echo.lock().await;
    let subject = format!("echo.{role}.{name}");
    let word = client.new_inbox();
    let there_and_back = async {
        loop {
            client
                .publish(subject.clone(), word.clone().into())
                .await
                .expect("the client is not closed");
            let comes_back = async {
                while let Some(message) = echo.next().await {
                    if message.payload == word {
                        return;
                    }
                }
            };
            // Lost with the connection, perhaps: said once more.
            if timeout(Duration::from_millis(500), comes_back)
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    timeout(PATIENCE, there_and_back)
        .await
        .unwrap_or_else(|_| panic!("{role} {name} is not connected"));
}
