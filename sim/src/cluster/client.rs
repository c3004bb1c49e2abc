//! What clients of a cluster do: they come to some server, subscribe, publish, ask and answer, stop reading, die and
//! come to another one, and check what they get.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use natterjack_wire::client::{self, ConnectOptions, Message, ServerInfo, ServerOp, error_text};

use super::event::Event;
use super::ledger::{Ledger, SubscriptionId, violation};
use super::scenario::{Reloads, SERVICE, SERVING};
use super::world::{Connection, World};
use crate::ledger::Violation;
use crate::message::{PATTERNS, Publication, QUEUES, SUBJECTS, read_operations};
use crate::scenario::Payloads;

/// Unsent bytes at which a client stops publishing.
const BACKLOG_BYTES_MAX: usize = 128 * 1024;

/// Subscriptions one client holds at a time.
const SUBSCRIPTIONS_MAX: usize = 5;

/// Number of the subscription by which a client answers.
const ANSWERING: u64 = 1_000_000;

/// The same for what other accounts may ask.
const SERVING_SID: u64 = 1_000_001;

/// Subscriptions to answers have numbers from here on.
const ASKING: u64 = 2_000_000;

/// One client, connected or not.
pub(crate) struct Client {
    account: &'static str,
    connected: Option<Connected>,
    /// When something occurs to it.
    pub(crate) next: Instant,
    deaf_until: Instant,
}

struct Connected {
    connection: Arc<Connection>,
    /// Bytes received of an operation that is not complete.
    received: Vec<u8>,
    /// What was sent and not yet acknowledged by a PONG, in order.
    marks: VecDeque<Mark>,
    sid_last: u64,
    asked_last: u64,
    subscriptions: Vec<SubscriptionId>,
    /// Where other servers are, as the server here said last.
    urls: Vec<String>,
}

enum Mark {
    Unsubscribed(SubscriptionId),
    Limited(SubscriptionId),
    Ping,
}

impl Client {
    pub(crate) fn new(account: &'static str, now: Instant) -> Self {
        Self {
            account,
            connected: None,
            next: now,
            deaf_until: now,
        }
    }

    /// Lives on, from now until the next time something occurs to it.
    pub(crate) fn act(&mut self, world: &Arc<World>, ledger: &mut Ledger) {
        let now = world.now();
        self.next = now + world.pause();
        if now >= self.deaf_until {
            self.listen(world, ledger);
        }
        let Some(connected) = &mut self.connected else {
            self.connect(world, ledger);
            return;
        };
        match world.chance(|rng| rng.u8(..100)) {
            0..15 => connected.subscribe(world, ledger),
            15..23 => connected.unsubscribe(world, ledger),
            23..27 => connected.limit(world, ledger),
            27..60 => connected.publish(world, ledger),
            60..70 => connected.ask(world, ledger),
            70..85 => connected.ping(world),
            85..87 => {
                self.deaf_until = now + world.scenario.pace * world.chance(|rng| rng.u32(5..200));
                world.note(Event::Paused {
                    connection: connected.connection.id,
                });
            }
            87..88 if world.scenario.mortal => self.die(world, ledger),
            _ => {}
        }
    }

    /// Comes to some server, if it is at none.
    pub(crate) fn connect(&mut self, world: &Arc<World>, ledger: &mut Ledger) {
        if self.connected.is_none() {
            self.connected = Connected::new(world, ledger, self.account);
        }
    }

    /// Publishes and asks, and does nothing else.
    pub(crate) fn talk(&mut self, world: &World, ledger: &mut Ledger) {
        if let Some(connected) = &mut self.connected {
            for _ in 0..world.chance(|rng| rng.u8(1..4)) {
                connected.publish(world, ledger);
            }
            connected.ask(world, ledger);
            connected.ping(world);
        }
    }

    /// Has everything acknowledged.
    pub(crate) fn ping(&mut self, world: &World) {
        if let Some(connected) = &mut self.connected {
            connected.ping(world);
        }
    }

    /// Hears what has come.
    pub(crate) fn listen(&mut self, world: &Arc<World>, ledger: &mut Ledger) {
        if let Some(connected) = &mut self.connected
            && !connected.listen(world, ledger)
        {
            ledger.ended(connected.connection.id);
            self.connected = None;
        }
    }

    /// It has been told of all servers that are there and do not mean to go.
    pub(crate) fn check_urls(&self, world: &World) {
        let Some(connected) = &self.connected else {
            return;
        };
        let here = connected.connection.life.node;
        let lives = world.lives();
        let staying = lives
            .iter()
            .filter(|life| !life.is_lame.load(Ordering::Relaxed));
        let expected: Vec<_> = staying.map(|life| World::client_url(life.node)).collect();
        let mut urls = connected.urls.clone();
        urls.sort_unstable();
        if urls != expected {
            let connection = connected.connection.id;
            world.fail(
                "clients know of all servers",
                format!("connection {connection} at node {here}: {urls:?} instead of {expected:?}"),
            );
        }
    }

    pub(crate) fn has_to_hear(&self) -> bool {
        let connected = self.connected.as_ref();
        connected.is_some_and(|connected| connected.connection.link.has_for_client())
    }

    /// Closes the connection, with or without what is under way.
    pub(crate) fn die(&mut self, world: &World, ledger: &mut Ledger) {
        if let Some(connected) = self.connected.take() {
            let connection = connected.connection.id;
            world.note(Event::Died { connection });
            ledger.ended(connection);
            let loses_bytes = world.chance(fastrand::Rng::bool);
            connected.connection.link.hang_up(loses_bytes);
        }
    }
}

impl Connected {
    fn new(world: &Arc<World>, ledger: &mut Ledger, account: &'static str) -> Option<Self> {
        let connection = world.open(account)?;
        let (echo, is_answering) = world.chance(|rng| (rng.u8(..4) > 0, rng.u8(..3) == 0));
        let options = ConnectOptions {
            echo,
            headers: true,
            no_responders: true,
            user: account.to_lowercase(),
            pass: "x".to_owned(),
            protocol: 1.into(),
            ..ConnectOptions::default()
        };
        ledger.opened(connection.id, connection.life.node, account, options.echo);
        let this = Self {
            connection,
            received: Vec::new(),
            marks: VecDeque::new(),
            sid_last: 0,
            asked_last: 0,
            subscriptions: Vec::new(),
            urls: Vec::new(),
        };
        let mut text = Vec::new();
        client::connect(&mut text, &options);
        if is_answering {
            ledger.answers(this.connection.id);
            text.extend_from_slice(format!("SUB ask.* answerers {ANSWERING}\r\n").as_bytes());
            if account == SERVING && world.scenario.services {
                let serves = format!("SUB {SERVICE} answerers {SERVING_SID}\r\n");
                text.extend_from_slice(serves.as_bytes());
            }
        }
        this.send(world, &text);
        Some(this)
    }

    fn send(&self, world: &World, bytes: &[u8]) {
        let arrives = world.now() + world.pause();
        self.connection.link.send(bytes, arrives);
    }

    fn subscribe(&mut self, world: &World, ledger: &mut Ledger) {
        self.subscriptions.retain(|&id| !ledger.is_over(id));
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return;
        }
        self.sid_last += 1;
        let sid = self.sid_last;
        let (pattern, queue) = world.chance(|rng| {
            let queue = (rng.u8(..3) == 0).then(|| rng.usize(..QUEUES.len()));
            (rng.usize(..PATTERNS.len()), queue)
        });
        let id = ledger.subscribed(self.connection.id, sid, pattern, queue);
        world.note(Event::Subscribed {
            connection: self.connection.id,
            sid,
            pattern: PATTERNS[pattern],
            queue: queue.map(|queue| QUEUES[queue]),
        });
        let mut text = Vec::new();
        client::subscribe(
            &mut text,
            PATTERNS[pattern].as_bytes(),
            queue.map(|queue| QUEUES[queue].as_bytes()),
            sid.to_string().as_bytes(),
        );
        self.send(world, &text);
        self.subscriptions.push(id);
    }

    fn unsubscribe(&mut self, world: &World, ledger: &mut Ledger) {
        if let Some(id) = self.pick(world, ledger) {
            ledger.unsubscribed(id);
            self.send_unsubscribe(world, ledger.sid(id), None);
            self.marks.push_back(Mark::Unsubscribed(id));
        }
    }

    fn limit(&mut self, world: &World, ledger: &mut Ledger) {
        if let Some(id) = self.pick(world, ledger) {
            let max = world.chance(|rng| rng.u64(1..60));
            ledger.limited(id, max);
            self.send_unsubscribe(world, ledger.sid(id), Some(max));
            self.marks.push_back(Mark::Limited(id));
        }
    }

    fn send_unsubscribe(&self, world: &World, sid: u64, max: Option<u64>) {
        let connection = self.connection.id;
        world.note(Event::Unsubscribed {
            connection,
            sid,
            max,
        });
        let mut text = Vec::new();
        client::unsubscribe(&mut text, sid.to_string().as_bytes(), max);
        self.send(world, &text);
    }

    /// A subscription that was not told to end.
    fn pick(&self, world: &World, ledger: &Ledger) -> Option<SubscriptionId> {
        let mut fitting = self.subscriptions.clone();
        fitting.retain(|&id| !ledger.is_ending(id));
        (!fitting.is_empty()).then(|| fitting[world.chance(|rng| rng.usize(..fitting.len()))])
    }

    fn publish(&self, world: &World, ledger: &mut Ledger) {
        if self.connection.link.coming_bytes() > BACKLOG_BYTES_MAX {
            return;
        }
        let (count, mut subject, changes) = world.chance(|rng| {
            let count = if rng.u8(..6) == 0 {
                rng.usize(1..40)
            } else {
                rng.usize(1..6)
            };
            (count, rng.usize(..SUBJECTS.len()), rng.bool())
        });
        let mut text = Vec::new();
        for index in 0..count {
            if changes && world.chance(|rng| rng.u8(..4)) == 0 {
                subject = world.chance(|rng| rng.usize(..SUBJECTS.len()));
            }
            let publication = Publication {
                subject,
                payload_bytes: payload_bytes(world),
                has_header: world.chance(|rng| rng.u8(..6)) == 0,
                sent: world.step(),
                acknowledged: None,
            };
            let sequence = ledger.published(self.connection.id, publication.clone());
            if index == 0 {
                world.note(Event::Published {
                    connection: self.connection.id,
                    first: sequence,
                    count,
                    subject: SUBJECTS[subject],
                });
            }
            publication.write(&mut text, self.connection.id, sequence);
        }
        self.send(world, &text);
    }

    /// Asks whoever answers, with a subscription of its own for the answer.
    fn ask(&mut self, world: &World, ledger: &mut Ledger) {
        self.asked_last += 1;
        let (connection, number) = (self.connection.id, self.asked_last);
        let is_of_service = world.scenario.services && world.chance(fastrand::Rng::bool);
        let whom = if is_of_service { "serve" } else { "ask" };
        ledger.asked(connection, number, is_of_service);
        world.note(Event::Asked { connection, number });
        let sid = ASKING + number;
        let inbox = format!("inbox.{connection}.{number}");
        let question = format!("{connection}");
        let text = format!(
            "SUB {inbox} {sid}\r\nUNSUB {sid} 1\r\nPUB {whom}.{} {inbox} {}\r\n{question}\r\n",
            number % 3,
            question.len()
        );
        self.send(world, text.as_bytes());
    }

    fn ping(&mut self, world: &World) {
        self.send(world, b"PING\r\n");
        self.marks.push_back(Mark::Ping);
    }

    /// Reads and checks what has arrived; `false` once the server has closed.
    fn listen(&mut self, world: &World, ledger: &mut Ledger) -> bool {
        let max = world.chance(|rng| {
            if rng.bool() {
                usize::MAX
            } else {
                rng.usize(1..10_000)
            }
        });
        let link = &self.connection.link;
        let is_open = link.receive(&mut self.received, max, world.now());
        let received = std::mem::take(&mut self.received);
        let (rest, error) = read_operations(&received, |op| self.handle(op, world, ledger));
        if let Some(error) = error {
            let details = format!("connection {}: {error}", self.connection.id);
            world.fail("output is well-formed", details);
        }
        self.received = rest.to_vec();
        is_open
    }

    fn handle(&mut self, op: &ServerOp<'_>, world: &World, ledger: &mut Ledger) {
        let connection = self.connection.id;
        match op {
            ServerOp::Info(json) => match ServerInfo::parse(json) {
                Ok(info) => self.urls = info.connect_urls,
                Err(error) => world.fail("output is well-formed", error.to_string()),
            },
            ServerOp::Ok => {}
            ServerOp::Ping => self.send(world, b"PONG\r\n"),
            ServerOp::Pong => self.handle_pong(world, ledger),
            ServerOp::Err(text) => {
                let text = error_text(text).escape_ascii().to_string();
                let is_sent_away = world.scenario.reloads == Reloads::Accounts
                    && matches!(
                        &*text,
                        "Authorization Violation" | "User Authentication Revoked"
                    );
                if text != "Stale Connection" && !is_sent_away {
                    world.fail(
                        "nobody is told of an error",
                        format!("connection {connection}: {text}"),
                    );
                }
            }
            ServerOp::Message(message) => {
                if let Err(violation) = self.handle_message(message, world, ledger) {
                    world.fail(violation.property, violation.details);
                }
            }
        }
    }

    fn handle_message(
        &self,
        message: &Message<'_>,
        world: &World,
        ledger: &mut Ledger,
    ) -> Result<(), Violation> {
        let connection = self.connection.id;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let is_of_service = message.subject.starts_with(b"serve.");
        if is_of_service || message.subject.starts_with(b"ask.") {
            let answering = if is_of_service {
                SERVING_SID
            } else {
                ANSWERING
            };
            if message.sid == answering.to_string().as_bytes()
                && let Some(reply) = message.reply
            {
                let answer = format!(
                    "PUB {} {}\r\n{connection}\r\n",
                    text(reply),
                    connection.to_string().len()
                );
                world.note(Event::Answered { connection });
                self.send(world, answer.as_bytes());
            }
            // Of everybody who hears it.
            return ledger.heard(connection, &text(message.payload()), is_of_service);
        }
        if message.subject.starts_with(b"_R_.") {
            // An answer on its way to the account that asked.
            return ledger.heard(connection, &text(message.payload()), false);
        }
        if message.subject.starts_with(b"inbox.") {
            let sid: u64 = text(message.sid).parse().unwrap_or(0);
            if sid <= ASKING {
                // Somebody who listens to everything; also to the word that nobody answers.
                let own = text(message.subject);
                let own = own.strip_prefix(&format!("inbox.{connection}."));
                return match own.and_then(|number| number.parse().ok()) {
                    Some(number) if message.header_len.is_some() => {
                        ledger.answered(connection, number, None)
                    }
                    _ => ledger.overheard(connection, &text(message.payload())),
                };
            }
            let expected = format!("inbox.{connection}.{}", sid - ASKING);
            if message.subject != expected.as_bytes() {
                return Err(violation("answers come to who asked", expected));
            }
            let by = text(message.payload()).parse().ok();
            return ledger.answered(connection, sid - ASKING, by);
        }
        if message.subject.starts_with(b"id.") {
            // Word that nobody got one of its own messages.
            let own = format!("id.{connection}.");
            let is_own = message.subject.starts_with(own.as_bytes());
            return if is_own && message.payload().is_empty() {
                Ok(())
            } else {
                Err(violation("answers come to who asked", own))
            };
        }
        let (sid, publisher, sequence) = ledger.received(connection, message)?;
        world.note(Event::Received {
            connection,
            sid,
            publisher,
            sequence,
        });
        Ok(())
    }

    fn handle_pong(&mut self, world: &World, ledger: &mut Ledger) {
        let connection = self.connection.id;
        world.note(Event::Ponged { connection });
        while let Some(mark) = self.marks.pop_front() {
            match mark {
                Mark::Unsubscribed(id) => ledger.unsubscription_acknowledged(id),
                Mark::Limited(id) => ledger.limit_acknowledged(id),
                Mark::Ping => return,
            }
        }
        world.fail(
            "a PING has one PONG",
            format!("connection {connection} got one more"),
        );
    }
}

fn payload_bytes(world: &World) -> usize {
    world.chance(|rng| match world.scenario.payloads {
        Payloads::Tiny => rng.usize(..40),
        _ if rng.u8(..4) > 0 => rng.usize(..60),
        _ => rng.usize(..6000),
    })
}
