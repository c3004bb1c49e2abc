//! What clients do: they subscribe, publish in bursts, stop reading, die and come back, and check what they get.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::client::{self, ConnectOptions, ServerOp, error_text};

use crate::ledger::{Ledger, SubscriptionId};
use crate::message::{PATTERNS, Publication, QUEUES, SUBJECTS, read_operations};
use crate::scenario::Payloads;
use crate::trace::Event;
use crate::world::{Connection, World};

/// Unsent bytes at which a client stops publishing.
const BACKLOG_BYTES_MAX: usize = 512 * 1024;

/// Subscriptions one client holds at a time.
const SUBSCRIPTIONS_MAX: usize = 6;

/// One client, connected or not.
pub(crate) struct Client {
    connected: Option<Connected>,
    pub(crate) next: Instant,
    deaf_until: Instant,
}

struct Connected {
    connection: Arc<Connection>,
    options: ConnectOptions,
    /// Bytes received of an operation that is not complete.
    received: Vec<u8>,
    /// What was sent and not yet acknowledged by a PONG, in order.
    marks: VecDeque<Mark>,
    acknowledgements_received: u64,
    acknowledgements_due: u64,
    sid_last: u64,
    subscriptions: Vec<SubscriptionId>,
    settling: Settling,
}

/// How far a client has come at the end of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Settling {
    No,
    /// A PING was sent behind all it published.
    Asked,
    /// All it published has been handled.
    Published,
    /// A PING was sent after everybody's messages were handled.
    AskedAgain,
    /// All that was sent to it has been received.
    Done,
}

enum Mark {
    Published(usize),
    Subscribed(SubscriptionId),
    Unsubscribed(SubscriptionId),
    Limited(SubscriptionId),
    /// A PING, and how many operations before it are answered with `+OK`.
    Ping(u64),
}

impl Client {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            connected: None,
            next: now,
            deaf_until: now,
        }
    }

    /// Lives on, from now until the next time something occurs to it.
    pub(crate) fn act(&mut self, world: &Arc<World>, ledger: &mut Ledger) {
        let now = world.now();
        self.next = now + world.pause();
        let Some(connected) = &mut self.connected else {
            self.connected = Some(Connected::new(world, ledger));
            return;
        };
        if now >= self.deaf_until && !connected.listen(world, ledger) {
            self.connected = None;
            return;
        }
        match world.chance(|rng| rng.u8(..100)) {
            0..15 => connected.subscribe(world, ledger),
            15..22 => connected.unsubscribe(world, ledger),
            22..27 => connected.limit(world, ledger),
            27..65 => connected.publish(world, ledger),
            65..80 => connected.ping(world),
            80..82 => {
                self.deaf_until = now + world.scenario.pace * world.chance(|rng| rng.u32(5..200));
                world.note(Event::Paused {
                    connection: connected.connection.id,
                });
            }
            82..83 if world.scenario.mortal => self.die(world),
            _ => {}
        }
    }

    /// Hears the rest, at the end of a run, without doing anything of its own accord.
    pub(crate) fn settle(&mut self, world: &World, ledger: &mut Ledger, everybody_published: bool) {
        self.next = world.now() + world.pause();
        let Some(connected) = &mut self.connected else {
            return;
        };
        if !connected.listen(world, ledger) {
            self.connected = None;
            return;
        }
        connected.settling = match connected.settling {
            Settling::No => {
                connected.ping(world);
                Settling::Asked
            }
            Settling::Asked if connected.marks.is_empty() => Settling::Published,
            Settling::Published if everybody_published => {
                connected.ping(world);
                Settling::AskedAgain
            }
            Settling::AskedAgain if connected.marks.is_empty() => {
                ledger.settled(connected.connection.id);
                Settling::Done
            }
            same => same,
        };
    }

    pub(crate) fn has_published(&self) -> bool {
        self.connected
            .as_ref()
            .is_none_or(|connected| connected.settling >= Settling::Published)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.connected
            .as_ref()
            .is_none_or(|connected| connected.settling == Settling::Done)
    }

    /// Closes the connection, with or without what is under way.
    pub(crate) fn die(&mut self, world: &World) {
        if let Some(connected) = self.connected.take() {
            world.note(Event::Died {
                connection: connected.connection.id,
            });
            let loses_bytes = world.chance(fastrand::Rng::bool);
            connected.connection.link.hang_up(loses_bytes);
        }
    }

    /// The connection, for a word on why a run does not end.
    pub(crate) fn connection(&self) -> Option<usize> {
        Some(self.connected.as_ref()?.connection.id)
    }
}

impl Connected {
    fn new(world: &Arc<World>, ledger: &mut Ledger) -> Self {
        let connection = world.open();
        let options = world.chance(|rng| ConnectOptions {
            echo: rng.u8(..4) > 0,
            headers: rng.u8(..4) > 0,
            verbose: rng.u8(..6) == 0,
            pedantic: rng.u8(..6) == 0,
            protocol: rng.i32(0..=1).into(),
            ..ConnectOptions::default()
        });
        ledger.opened(connection.id, options.echo, options.headers);
        let mut this = Self {
            connection,
            received: Vec::new(),
            marks: VecDeque::new(),
            acknowledgements_received: 0,
            acknowledgements_due: 0,
            sid_last: 0,
            subscriptions: Vec::new(),
            settling: Settling::No,
            options,
        };
        let mut text = Vec::new();
        client::connect(&mut text, &this.options);
        this.send(&text);
        this
    }

    /// Sends an operation that a verbose server acknowledges.
    fn send(&mut self, bytes: &[u8]) {
        self.connection.link.send(bytes);
        self.acknowledgements_due += u64::from(self.options.verbose);
    }

    fn subscribe(&mut self, world: &World, ledger: &mut Ledger) {
        let over = self.subscriptions.iter().position(|&id| ledger.is_over(id));
        let sid = if let Some(index) = over
            && world.chance(fastrand::Rng::bool)
        {
            ledger.sid(self.subscriptions.swap_remove(index))
        } else if self.subscriptions.len() < SUBSCRIPTIONS_MAX {
            self.sid_last += 1;
            self.sid_last
        } else {
            return;
        };
        let (pattern, queue) = world.chance(|rng| {
            let queue = (rng.u8(..3) == 0).then(|| rng.usize(..QUEUES.len()));
            (rng.usize(..PATTERNS.len()), queue)
        });
        let id = ledger.subscribed(self.connection.id, sid, pattern, queue, world.step());
        world.note(Event::Subscribed {
            connection: self.connection.id,
            sid,
            pattern: PATTERNS[pattern],
            queue: queue.map(|queue| QUEUES[queue]),
        });
        let mut text = Vec::new();
        let queue = queue.map(|queue| QUEUES[queue].as_bytes());
        client::subscribe(
            &mut text,
            PATTERNS[pattern].as_bytes(),
            queue,
            sid.to_string().as_bytes(),
        );
        self.send(&text);
        self.subscriptions.push(id);
        self.marks.push_back(Mark::Subscribed(id));
    }

    fn unsubscribe(&mut self, world: &World, ledger: &mut Ledger) {
        if let Some(id) = self.pick(world, |id| {
            !ledger.is_unsubscribed(id) && !ledger.is_over(id)
        }) {
            ledger.unsubscribed(id, world.step());
            self.send_unsubscribe(world, ledger.sid(id), None);
            self.marks.push_back(Mark::Unsubscribed(id));
        }
    }

    fn limit(&mut self, world: &World, ledger: &mut Ledger) {
        let is_free =
            |id| !ledger.is_unsubscribed(id) && !ledger.is_limited(id) && !ledger.is_over(id);
        if let Some(id) = self.pick(world, is_free) {
            let max = world.chance(|rng| rng.u64(1..60));
            ledger.limited(id, max);
            self.send_unsubscribe(world, ledger.sid(id), Some(max));
            self.marks.push_back(Mark::Limited(id));
        }
    }

    fn send_unsubscribe(&mut self, world: &World, sid: u64, max: Option<u64>) {
        let connection = self.connection.id;
        world.note(Event::Unsubscribed {
            connection,
            sid,
            max,
        });
        let mut text = Vec::new();
        client::unsubscribe(&mut text, sid.to_string().as_bytes(), max);
        self.send(&text);
    }

    fn pick(&self, world: &World, fits: impl Fn(SubscriptionId) -> bool) -> Option<SubscriptionId> {
        let fitting: Vec<_> = self
            .subscriptions
            .iter()
            .copied()
            .filter(|&id| fits(id))
            .collect();
        (!fitting.is_empty()).then(|| fitting[world.chance(|rng| rng.usize(..fitting.len()))])
    }

    fn publish(&mut self, world: &World, ledger: &mut Ledger) {
        if self.connection.link.outgoing_bytes() > BACKLOG_BYTES_MAX {
            return;
        }
        let (count, mut subject, changes) = world.chance(|rng| {
            let count = if rng.u8(..4) == 0 {
                rng.usize(1..80)
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
                has_header: self.options.headers && world.chance(|rng| rng.u8(..6)) == 0,
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
            text.clear();
            publication.write(&mut text, self.connection.id, sequence);
            self.send(&text);
            self.marks.push_back(Mark::Published(sequence));
        }
    }

    fn ping(&mut self, world: &World) {
        world.note(Event::Pinged {
            connection: self.connection.id,
        });
        self.connection.link.send(b"PING\r\n");
        self.marks.push_back(Mark::Ping(self.acknowledgements_due));
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
        let is_open = self.connection.link.receive(&mut self.received, max);
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
            ServerOp::Info(_) => {}
            ServerOp::Ok => self.acknowledgements_received += 1,
            ServerOp::Ping => self.connection.link.send(b"PONG\r\n"),
            ServerOp::Pong => self.handle_pong(world, ledger),
            ServerOp::Err(text) => {
                let text = error_text(text).escape_ascii().to_string();
                let is_full =
                    text == "maximum connections exceeded" && world.scenario.may_be_full();
                if text != "Stale Connection" && !is_full {
                    world.fail(
                        "nobody is told of an error",
                        format!("connection {connection}: {text}"),
                    );
                }
            }
            ServerOp::Message(message) => match ledger.received(connection, message) {
                Ok((sid, publisher, sequence)) => world.note(Event::Received {
                    connection,
                    sid,
                    publisher,
                    sequence,
                }),
                Err(violation) => world.fail(violation.property, violation.details),
            },
        }
    }

    fn handle_pong(&mut self, world: &World, ledger: &mut Ledger) {
        let (connection, step) = (self.connection.id, world.step());
        world.note(Event::Ponged { connection });
        while let Some(mark) = self.marks.pop_front() {
            match mark {
                Mark::Published(sequence) => {
                    ledger.publication_acknowledged(connection, sequence, step);
                }
                Mark::Subscribed(id) => ledger.subscription_acknowledged(id, step),
                Mark::Unsubscribed(id) => ledger.unsubscription_acknowledged(id),
                Mark::Limited(id) => ledger.limit_acknowledged(id),
                Mark::Ping(acknowledgements) => {
                    if self.acknowledgements_received != acknowledgements {
                        let received = self.acknowledgements_received;
                        world.fail(
                            "every operation is acknowledged in order",
                            format!("connection {connection}: {received} of {acknowledgements}"),
                        );
                    }
                    return;
                }
            }
        }
        world.fail("a PONG answers a PING", format!("connection {connection}"));
    }
}

fn payload_bytes(world: &World) -> usize {
    let payload_bytes_max = world.limits().payload_bytes_max - 100;
    let bytes = world.chance(|rng| match (world.scenario.payloads, rng.u8(..20)) {
        (Payloads::Mixed, 0) => rng.usize(2040..2060),
        (Payloads::Mixed, 1) => rng.usize(1000..9000),
        (Payloads::Mixed, 2..8) => rng.usize(..500),
        (Payloads::Large, 0) => rng.usize(65_400..65_600),
        (Payloads::Large, 1) => rng.usize(30_000..100_000),
        (Payloads::Large, 2) => rng.usize(32_700..32_800),
        _ => rng.usize(..30),
    });
    bytes.min(payload_bytes_max)
}
