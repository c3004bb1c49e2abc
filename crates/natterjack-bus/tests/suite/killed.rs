//! Three nodes, each a process of its own, under 50,000 events a second: one is killed as no program can prevent, comes
//! back, and then they drain one after the other. Everything that a node accepted before its drain must be at every live
//! node exactly once, in order.
//!
//! A node is this very program again, running one test: [`node`]. It says what it saw in lines on its standard output. How
//! many events a second there really were is printed; a machine that cannot make as many does not fail for it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::ops::Range;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use natterjack_bus::settings::{Endpoint, Server, Settings, TransportKind};
use natterjack_bus::{EventBus, EventStream, PublishError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::topology::start_again;
use crate::world::{DEADLINE, Note, endpoint, eventually, note, within};

/// What all nodes publish together, in events a second.
const EVENTS_PER_SECOND: u64 = 50_000;
const TICK: Duration = Duration::from_millis(2);

/// Where a node finds its [`Task`].
const TASK: &str = "NATTERJACK_TEST_NODE";

/// Before what a node says, since the test harness writes to the same place.
const SAYS: &str = "node says ";

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Task {
    number: usize,
    /// Which time this is that the node runs.
    run: u64,
    subject: String,
    route_ports: Vec<u16>,
    /// Whether it reaches its server without a socket.
    is_in_process: bool,
    /// How many nodes must answer before it is content.
    nodes: u64,
}

/// What a node saw, up to its drain.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    accepted: u64,
    drained: Result<(), String>,
    /// By publisher.
    seen: BTreeMap<String, Range<u64>>,
    /// Events out of their order, missing or there twice.
    disorder: Vec<String>,
    lost_events: u64,
    overflowed_events: u64,
}

impl Task {
    fn publisher(&self) -> String {
        format!("{}.{}", self.number, self.run)
    }

    fn settings(&self) -> Settings {
        let name = format!("node-{}", self.number);
        let mut settings = Settings {
            transport: TransportKind::Nats,
            ..Settings::default()
        };
        settings.nats.client.name.clone_from(&name);
        settings.nats.client.subject.clone_from(&self.subject);
        settings.nats.client.endpoint = self.is_in_process.then(Endpoint::in_process);
        settings.nats.server = Server::on_free_ports();
        settings.nats.server.name = name;
        let route = |port| endpoint(&format!("nats://127.0.0.1:{port}"));
        let cluster = &mut settings.nats.server.cluster;
        cluster.listen.port = self.route_ports[self.number];
        cluster.routes = self.route_ports.iter().map(route).collect();
        // The load is the test's; its readers may be slow for want of a processor.
        settings.limits.inbound_events_max = 10_000_000;
        settings.limits.inbound_bytes_max = usize::MAX;
        settings.limits.drain_timeout = DEADLINE;
        settings
    }
}

#[test]
#[ignore = "the part of a node in another test"]
fn node() {
    // Without a task somebody has asked for all that is ignored.
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let task = serde_json::from_str(&task).expect("a task");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only memory and an epoll");
    runtime.block_on(play(task));
}

async fn play(task: Task) {
    let bus: EventBus<Note> = start_again(task.settings()).await.expect("it starts");
    let seeing = tokio::spawn(see(bus.subscribe()));
    within("ready", bus.ready()).await;
    eventually("all are there", || {
        bus.health().hosts_answering >= task.nodes
    })
    .await;
    let accepted = Arc::<AtomicU64>::default();
    let mut publishing = None;
    say(&"ready");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for word in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tell.send(word).is_err() {
                return;
            }
        }
    });
    while let Some(word) = told.recv().await {
        match word.as_str() {
            "publish" => {
                let load = publish(bus.clone(), task.publisher(), Arc::clone(&accepted));
                publishing = Some(tokio::spawn(load));
            }
            "count" => say(&accepted.load(Ordering::Relaxed)),
            "drain" => break,
            other => panic!("{other}"),
        }
    }
    let drained = within("drain", bus.drain()).await;
    if let Some(publishing) = publishing {
        within("publisher", publishing).await.expect("no panic");
    }
    let (seen, disorder) = within("reader", seeing).await.expect("no panic");
    let stats = bus.stats();
    say(&Report {
        accepted: accepted.load(Ordering::Relaxed),
        drained: drained.map_err(|error| error.to_string()),
        seen,
        disorder,
        lost_events: stats.lost_events,
        overflowed_events: stats.overflowed_events,
    });
}

fn say(what: &impl Serialize) {
    let what = serde_json::to_string(what).expect("plain data");
    let mut output = std::io::stdout().lock();
    writeln!(output, "{SAYS}{what}").expect("somebody listens");
    output.flush().expect("somebody listens");
}

async fn see(mut events: EventStream<Note>) -> (BTreeMap<String, Range<u64>>, Vec<String>) {
    let mut seen = BTreeMap::<String, Range<u64>>::new();
    let mut disorder = Vec::new();
    while let Some(event) = events.next().await {
        let Note {
            publisher, number, ..
        } = event.data;
        let run = seen.entry(publisher).or_insert(number..number);
        if run.end != number && disorder.len() < 100 {
            disorder.push(format!("{number} of {} after {run:?}", event.source));
        }
        run.end = number + 1;
    }
    (seen, disorder)
}

/// Publishes a third of the whole rate until the bus takes no more.
async fn publish(bus: EventBus<Note>, publisher: String, accepted: Arc<AtomicU64>) {
    let share = EVENTS_PER_SECOND * TICK.as_millis() as u64 / 1000 / 3;
    let mut ticks = tokio::time::interval(TICK);
    let mut number = 0;
    loop {
        ticks.tick().await;
        for _ in 0..=share {
            match bus.publish(&note(&publisher, number)).await {
                Ok(()) => number += 1,
                Err(PublishError::Closed) => return,
                Err(error) => panic!("{publisher} {number}: {error}"),
            }
            accepted.store(number, Ordering::Relaxed);
        }
    }
}

/// A node as its parent sees it. Killed when dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    said: mpsc::Receiver<String>,
}

impl Process {
    fn start(task: &Task) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "killed::node", "--ignored", "--nocapture"])
            .env(TASK, serde_json::to_string(task).expect("plain data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (says, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, what)) = line.split_once(SAYS)
                    && says.send(what.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        let node = Self { child, input, said };
        assert_eq!(node.hear::<String>(), "ready");
        node
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.input, "{word}").expect("it listens");
    }

    fn hear<T: DeserializeOwned>(&self) -> T {
        let said = self.said.recv_timeout(DEADLINE).expect("it says something");
        serde_json::from_str(&said).expect("what was asked for")
    }

    fn count(&mut self) -> u64 {
        self.tell("count");
        self.hear()
    }

    /// Waits until it has published so many more.
    fn publishes(&mut self, events: u64) {
        let (start, goal) = (now(), self.count() + events);
        while self.count() < goal {
            assert!(start.elapsed() < DEADLINE, "it publishes");
        }
    }

    fn drain(mut self) -> Report {
        self.tell("drain");
        let report: Report = self.hear();
        assert_eq!(report.drained, Ok(()));
        assert_eq!(report.disorder, [""; 0], "exactly once and in order");
        assert_eq!((report.lost_events, report.overflowed_events), (0, 0));
        report
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL. Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a rate is per second of real time"
)]
fn now() -> Instant {
    Instant::now()
}

/// How many events a second all of them publish, over so many from each.
fn rate(nodes: &mut [&mut Process], events: u64) -> u64 {
    let count = |nodes: &mut [&mut Process]| nodes.iter_mut().map(|node| node.count()).sum::<u64>();
    let (start, before) = (now(), count(nodes));
    for node in &mut *nodes {
        node.publishes(events);
    }
    let published = count(nodes) - before;
    (published as f64 / start.elapsed().as_secs_f64()) as u64
}

fn tell_rate(when: &str, nodes: usize, rate: u64) {
    // Past the harness, which shows what tests say only if they fail.
    let _ = writeln!(
        std::io::stderr(),
        "{nodes} nodes {when}: {rate} events a second of {} asked for",
        EVENTS_PER_SECOND * nodes as u64 / 3
    );
}

/// Ports that are free now.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
    listeners.iter().map(port).collect()
}

/// For all tests of one run: what connects them is what they have for routes.
fn subject() -> String {
    format!("killed.{}", std::process::id())
}

fn nodes_are_killed_and_drained(is_in_process: bool) {
    let route_ports = free_ports(3);
    let task = |number, run, nodes| Task {
        number,
        run,
        subject: subject(),
        route_ports: route_ports.clone(),
        is_in_process,
        nodes,
    };
    let mut a = Process::start(&task(0, 0, 1));
    let mut b = Process::start(&task(1, 0, 2));
    let mut c = Process::start(&task(2, 0, 3));
    for node in [&mut a, &mut b, &mut c] {
        node.tell("publish");
    }
    tell_rate("at first", 3, rate(&mut [&mut a, &mut b, &mut c], 10_000));

    drop(c);
    tell_rate("after a death", 2, rate(&mut [&mut a, &mut b], 5000));
    let mut c = Process::start(&task(2, 1, 3));
    c.tell("publish");
    tell_rate("again", 3, rate(&mut [&mut a, &mut b, &mut c], 5000));

    let at_b = b.drain();
    c.publishes(3000);
    let at_c = c.drain();
    a.publishes(1000);
    let at_a = a.drain();

    // Everything that was accepted is at whoever was there all the time, from all who drained.
    for (publisher, accepted) in [
        ("0.0", at_a.accepted),
        ("1.0", at_b.accepted),
        ("2.1", at_c.accepted),
    ] {
        assert_eq!(at_a.seen[publisher], 0..accepted, "{publisher}");
    }
    assert_eq!(at_b.seen["1.0"], 0..at_b.accepted);
    assert_eq!(at_b.seen["0.0"].start, 0);
    assert_eq!(at_c.seen["2.1"], 0..at_c.accepted);
    // It was not there from the beginning, but when the other one drained.
    assert_eq!(at_c.seen["1.0"].end, at_b.accepted);
    // Of the dead one there is what it had sent, without a gap.
    for report in [&at_a, &at_b] {
        assert_eq!(report.seen["2.0"].start, 0);
        assert!(report.seen["2.0"].end >= 1000);
    }
    assert!(at_a.accepted.min(at_b.accepted) >= 20_000);
}

#[test]
fn nodes_are_killed_and_drained_in_process() {
    nodes_are_killed_and_drained(true);
}

#[test]
fn nodes_are_killed_and_drained_over_loopback() {
    nodes_are_killed_and_drained(false);
}

#[test]
fn who_has_crashed_with_its_server_is_not_waited_for() {
    let route_ports = free_ports(2);
    let task = |number, nodes| Task {
        number,
        run: 0,
        subject: subject(),
        route_ports: route_ports.clone(),
        is_in_process: true,
        nodes,
    };
    let mut stays = Process::start(&task(0, 1));
    let crashes = Process::start(&task(1, 2));
    stays.tell("publish");
    stays.publishes(1000);
    drop(crashes);
    // By its silence alone it is not known to be gone before a health interval is over. This drain succeeds.
    stays.drain();
}
