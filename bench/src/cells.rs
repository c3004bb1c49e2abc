//! The table of cells: what is measured, how much of it, and which bound it answers to.

/// One row of the report.
#[derive(Debug)]
pub(crate) struct Cell {
    /// Short name, for `--only` and the chart.
    pub(crate) name: &'static str,
    /// What a reader sees in the report.
    pub(crate) title: &'static str,
    /// What the generator does.
    pub(crate) load: Load,
    /// How its connections are encrypted.
    pub(crate) encryption: Encryption,
    /// Servers, in a cluster if there are more than one. Who publishes or requests is at the first; who receives
    /// or answers is at the last of two, or spread over all of three.
    pub(crate) nodes: usize,
    /// What the servers of a cluster do with what they send each other.
    pub(crate) routes: Routes,
    /// How much of it in a full run: published messages, requests or connections. Chosen so that
    /// nats-server takes one to two seconds on a two-core machine.
    pub(crate) work: u64,
}

impl Cell {
    /// The cell of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        CELLS.iter().find(|cell| cell.name == name)
    }

    /// Payload of its messages, in bytes, where they flow one way.
    pub(crate) fn payload_bytes(&self) -> Option<usize> {
        match self.load {
            Load::Flow(flow) | Load::Watched { flow, .. } => Some(flow.payload_bytes),
            Load::Copy { payload_bytes } => Some(payload_bytes),
            _ => None,
        }
    }

    /// What the cell is compared by.
    pub(crate) fn measure(&self) -> Measure {
        match self.load {
            Load::Joining { .. } => Measure::Joining,
            Load::Beside { .. } => Measure::Beside,
            Load::Watched { .. } => Measure::Watched,
            Load::OneWay { .. } => Measure::OneWay,
            _ if self.nodes > 1 => Measure::ClusterThroughput,
            Load::Flow(_) if self.encryption != Encryption::None => Measure::EncryptedThroughput,
            Load::Flow(_) => Measure::Throughput,
            Load::Requests { in_flight: 1 } => Measure::Latency,
            Load::Requests { .. } => Measure::Throughput,
            Load::ConnectRate => Measure::ConnectRate,
            Load::IdleConnections | Load::IdleServer => Measure::Memory,
            Load::Copy { .. } => Measure::Floor,
        }
    }
}

/// What a cell's servers are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Messages per second of server processor time; part of the geometric mean.
    Throughput,
    /// The same over TLS; not part of the geometric mean.
    EncryptedThroughput,
    /// Messages per second of processor time of all servers of a cluster; not part of the geometric mean.
    ClusterThroughput,
    /// Microseconds from request to reply.
    Latency,
    /// Microseconds from publisher to subscriber at a pace, that 99 % of the messages keep.
    OneWay,
    /// Connections per second of server processor time.
    ConnectRate,
    /// Bytes of server memory.
    Memory,
    /// Seconds until a server that joins routes to all subscriptions of another one.
    Joining,
    /// Share of the messages beside a slow subscriber that are on time.
    Beside,
    /// Share of the messages a second that is left while somebody asks for pages of monitoring.
    Watched,
    /// Messages per second of processor time of a process that only copies.
    Floor,
}

/// What the generator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Publishers send as fast as the receivers' window allows.
    Flow(Flow),
    /// One requester and one responder.
    Requests {
        /// Requests sent and not yet answered, at any moment.
        in_flight: u32,
    },
    /// A publisher sends messages one by one at a pace, each to every receiver.
    OneWay {
        /// Connections that subscribe.
        receivers: u32,
        /// Payload of each message, in bytes.
        payload_bytes: usize,
        /// The pace: below what either server can carry.
        messages_per_second: u32,
    },
    /// Connections are opened and then left alone.
    IdleConnections,
    /// Connections are opened, greeted and closed, several at a time.
    ConnectRate,
    /// Nobody connects.
    IdleServer,
    /// For as many milliseconds as the work says, a publisher sends what it can to a subscriber at another server that
    /// takes less, and messages for somebody else go the same way.
    Beside {
        /// What the slow subscriber takes.
        slow_bytes_per_second: u32,
        /// Messages for somebody else that are to flow in a second.
        messages_per_second: u32,
    },
    /// Messages flow for as many milliseconds as the work says while somebody asks for pages of monitoring, and as long
    /// while nobody does.
    Watched {
        /// Which messages.
        flow: Flow,
        /// Connections besides, with a subscription each.
        connections: u32,
    },
    /// A server holds as many subscriptions as the work says, and messages flow over it; another one joins.
    Joining {
        /// Messages that are to flow in a second.
        messages_per_second: u32,
    },
    /// One connection in, one connection out, no server between them but the copying process.
    Copy {
        /// Payload of the copied frames, in bytes.
        payload_bytes: usize,
    },
}

/// How a cell's connections are encrypted: TLS 1.3 with certificates of ECDSA on P-256, and no session taken
/// up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// Not at all.
    None,
    /// Only the server has a certificate.
    Tls,
    /// Clients have certificates too, which the server verifies.
    MutualTls,
}

/// What the servers of a cluster do with what they send each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routes {
    /// Nothing.
    Clear,
    /// They encrypt it, both with a certificate that the other verifies.
    Tls,
    /// They compress it: `s2_fast`.
    Compressed,
}

/// One-way traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Connections that publish.
    pub(crate) publishers: u32,
    /// Connections that subscribe.
    pub(crate) receivers: u32,
    /// Whether the receivers share one queue group, so that each message goes to one of them.
    pub(crate) is_queue_group: bool,
    /// Which subjects are published and subscribed.
    pub(crate) subjects: Subjects,
    /// Payload of each message, in bytes.
    pub(crate) payload_bytes: usize,
    /// What the payloads are.
    pub(crate) payload: Payload,
}

/// What payloads are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// One letter over and over: nobody looks at it.
    Letters,
    /// Lines as a service logs them, in JSON. Each is different, and much of it is not.
    Text,
}

/// Which subjects a flow uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subjects {
    /// One literal subject.
    One,
    /// A literal subject for each publisher, and for each a receiver of its own.
    OneEach,
    /// Random subjects `dev.NNNNN` under one subscription to `dev.>`.
    RandomUnderOneWildcard {
        /// How many different subjects.
        count: u32,
    },
    /// Random subjects `w.NNNNN.x`, each matched by its own subscription `w.NNNNN.*`.
    RandomOverManyWildcards {
        /// How many subscriptions.
        count: u32,
    },
}

const fn one_to(receivers: u32, payload_bytes: usize) -> Load {
    Load::Flow(Flow {
        publishers: 1,
        receivers,
        is_queue_group: false,
        subjects: Subjects::One,
        payload_bytes,
        payload: Payload::Letters,
    })
}

const fn one_to_one_over(subjects: Subjects) -> Load {
    Load::Flow(Flow {
        publishers: 1,
        receivers: 1,
        is_queue_group: false,
        subjects,
        payload_bytes: 16,
        payload: Payload::Letters,
    })
}

const fn text_to_one(payload_bytes: usize) -> Load {
    Load::Flow(Flow {
        publishers: 1,
        receivers: 1,
        is_queue_group: false,
        subjects: Subjects::One,
        payload_bytes,
        payload: Payload::Text,
    })
}

const fn spread_over_three(publishers: u32, receivers: u32, is_queue_group: bool) -> Load {
    Load::Flow(Flow {
        publishers,
        receivers,
        is_queue_group,
        subjects: Subjects::One,
        payload_bytes: 128,
        payload: Payload::Letters,
    })
}

/// Messages at a pace that either server keeps.
const fn paced_to(receivers: u32, payload_bytes: usize) -> Load {
    Load::OneWay {
        receivers,
        payload_bytes,
        messages_per_second: PACE,
    }
}

/// Messages in a second where it is measured how long one takes: half of what three nats-servers and the generator can carry on
/// two processors, one message at a time.
const PACE: u32 = 5_000;

/// Every cell, in the order of the report.
pub(crate) static CELLS: &[Cell] = &[
    Cell {
        name: "publish-16B",
        title: "publish only, 16 B",
        load: one_to(0, 16),
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 6_000_000,
    },
    Cell {
        name: "1-1-16B",
        title: "1 → 1, 16 B",
        load: one_to(1, 16),
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 2_000_000,
    },
    Cell {
        name: "1-1-128B",
        title: "1 → 1, 128 B",
        load: one_to(1, 128),
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 1_500_000,
    },
    Cell {
        name: "1-1-1KiB",
        title: "1 → 1, 1 KiB",
        load: one_to(1, 1024),
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 600_000,
    },
    Cell {
        name: "1-1-16KiB",
        title: "1 → 1, 16 KiB",
        load: one_to(1, 16 * 1024),
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 80_000,
    },
    Cell {
        name: "1-1-256KiB",
        title: "1 → 1, 256 KiB",
        load: one_to(1, 256 * 1024),
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 4_000,
    },
    Cell {
        name: "1-10-128B",
        title: "1 → 10, 128 B",
        load: one_to(10, 128),
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 400_000,
    },
    Cell {
        name: "1-500-128B",
        title: "1 → 500, 128 B",
        load: one_to(500, 128),
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 6_000,
    },
    Cell {
        name: "queue-2-4-128B",
        title: "2 → 4 in a queue group, 128 B",
        load: Load::Flow(Flow {
            publishers: 2,
            receivers: 4,
            is_queue_group: true,
            subjects: Subjects::One,
            payload_bytes: 128,
            payload: Payload::Letters,
        }),
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 1_600_000,
    },
    Cell {
        name: "subjects-100k-16B",
        title: "1 → 1, 100,000 random subjects under `dev.>`, 16 B",
        load: one_to_one_over(Subjects::RandomUnderOneWildcard { count: 100_000 }),
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 800_000,
    },
    Cell {
        name: "wildcards-100k-16B",
        title: "1 → 1, 100,000 wildcard subscriptions, 16 B",
        load: one_to_one_over(Subjects::RandomOverManyWildcards { count: 100_000 }),
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 400_000,
    },
    Cell {
        name: "request-64",
        title: "request-reply, 64 in flight, 16 B",
        load: Load::Requests { in_flight: 64 },
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 250_000,
    },
    Cell {
        name: "request-1",
        title: "request-reply, one in flight, 16 B",
        load: Load::Requests { in_flight: 1 },
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 25_000,
    },
    Cell {
        name: "connect-rate",
        title: "connect, CONNECT, PING, PONG, close",
        load: Load::ConnectRate,
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 8_000,
    },
    Cell {
        name: "idle-connections",
        title: "5,000 idle connections",
        load: Load::IdleConnections,
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 5_000,
    },
    Cell {
        name: "idle-server",
        title: "idle server",
        load: Load::IdleServer,
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 1,
    },
    Cell {
        name: "tls-1-1-16B",
        title: "TLS, 1 → 1, 16 B",
        load: one_to(1, 16),
        encryption: Encryption::Tls,
        nodes: 1,
        routes: Routes::Clear,
        work: 2_000_000,
    },
    Cell {
        name: "tls-1-1-128B",
        title: "TLS, 1 → 1, 128 B",
        load: one_to(1, 128),
        encryption: Encryption::Tls,
        nodes: 1,
        routes: Routes::Clear,
        work: 1_500_000,
    },
    Cell {
        name: "tls-1-1-1KiB",
        title: "TLS, 1 → 1, 1 KiB",
        load: one_to(1, 1024),
        encryption: Encryption::Tls,
        nodes: 1,
        routes: Routes::Clear,
        work: 500_000,
    },
    Cell {
        name: "mtls-connect-rate",
        title: "connect, full handshake with both certificates, CONNECT, PING, PONG, close",
        load: Load::ConnectRate,
        encryption: Encryption::MutualTls,
        nodes: 1,
        routes: Routes::Clear,
        work: 2_000,
    },
    Cell {
        name: "mtls-idle-connections",
        title: "2,000 idle TLS connections with client certificates",
        load: Load::IdleConnections,
        encryption: Encryption::MutualTls,
        nodes: 1,
        routes: Routes::Clear,
        work: 2_000,
    },
    Cell {
        name: "watched-1-1-128B",
        title: "1 → 1, 128 B, beside 5,000 connections, while every page of monitoring is asked for in a loop",
        load: Load::Watched {
            flow: Flow {
                publishers: 1,
                receivers: 1,
                is_queue_group: false,
                subjects: Subjects::One,
                payload_bytes: 128,
                payload: Payload::Letters,
            },
            connections: 5_000,
        },
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 5_000,
    },
    Cell {
        name: "cluster-1-1-16B",
        title: "A → B, 16 B",
        load: one_to(1, 16),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 1_500_000,
    },
    Cell {
        name: "cluster-1-1-128B",
        title: "A → B, 128 B",
        load: one_to(1, 128),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 1_000_000,
    },
    Cell {
        name: "cluster-1-1-1KiB",
        title: "A → B, 1 KiB",
        load: one_to(1, 1024),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 400_000,
    },
    Cell {
        name: "cluster-1-1-16KiB",
        title: "A → B, 16 KiB",
        load: one_to(1, 16 * 1024),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 40_000,
    },
    Cell {
        name: "cluster-10-10-128B",
        title: "10 on A → 10 on B, a subject each, 128 B",
        load: Load::Flow(Flow {
            publishers: 10,
            receivers: 10,
            is_queue_group: false,
            subjects: Subjects::OneEach,
            payload_bytes: 128,
            payload: Payload::Letters,
        }),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 1_000_000,
    },
    Cell {
        name: "cluster-subjects-16B",
        title: "A → B, 100,000 random subjects under `dev.>`, 16 B",
        load: one_to_one_over(Subjects::RandomUnderOneWildcard { count: 100_000 }),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 600_000,
    },
    Cell {
        name: "cluster-1-3-128B",
        title: "A → A, B and C, 128 B",
        load: spread_over_three(1, 3, false),
        encryption: Encryption::None,
        nodes: 3,
        routes: Routes::Clear,
        work: 500_000,
    },
    Cell {
        name: "cluster-queue-2-6-128B",
        title: "2 on A → 6 in a queue group on A, B and C, 128 B",
        load: spread_over_three(2, 6, true),
        encryption: Encryption::None,
        nodes: 3,
        routes: Routes::Clear,
        work: 800_000,
    },
    Cell {
        name: "cluster-request-64",
        title: "request on A, reply on B, 64 in flight, 16 B",
        load: Load::Requests { in_flight: 64 },
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 120_000,
    },
    Cell {
        name: "cluster-request-1",
        title: "request on A, reply on B, one in flight, 16 B",
        load: Load::Requests { in_flight: 1 },
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 10_000,
    },
    Cell {
        name: "cluster-paced-16B",
        title: "A → B at 5,000 a second, 16 B",
        load: paced_to(1, 16),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 5_000,
    },
    Cell {
        name: "cluster-paced-128B",
        title: "A → B at 5,000 a second, 128 B",
        load: paced_to(1, 128),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 5_000,
    },
    Cell {
        name: "cluster-paced-1KiB",
        title: "A → B at 5,000 a second, 1 KiB",
        load: paced_to(1, 1024),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 5_000,
    },
    Cell {
        name: "cluster-paced-16KiB",
        title: "A → B at 5,000 a second, 16 KiB",
        load: paced_to(1, 16 * 1024),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 5_000,
    },
    Cell {
        name: "cluster-paced-1-3-128B",
        title: "A → A, B and C at 5,000 a second, 128 B",
        load: paced_to(3, 128),
        encryption: Encryption::None,
        nodes: 3,
        routes: Routes::Clear,
        work: 5_000,
    },
    Cell {
        name: "cluster-tls-128B",
        title: "A → B over TLS, 128 B",
        load: one_to(1, 128),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Tls,
        work: 800_000,
    },
    Cell {
        name: "cluster-tls-1KiB",
        title: "A → B over TLS, 1 KiB",
        load: one_to(1, 1024),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Tls,
        work: 250_000,
    },
    Cell {
        name: "cluster-s2-128B",
        title: "A → B compressed, 128 B",
        load: text_to_one(128),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Compressed,
        work: 800_000,
    },
    Cell {
        name: "cluster-s2-1KiB",
        title: "A → B compressed, 1 KiB",
        load: text_to_one(1024),
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Compressed,
        work: 250_000,
    },
    Cell {
        name: "cluster-join-100k",
        title: "B joins A, which has 100,000 subscriptions",
        load: Load::Joining {
            messages_per_second: 200_000,
        },
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 100_000,
    },
    Cell {
        name: "cluster-slow-5MB",
        title: "A → B at 50,000 a second, beside a subscriber that takes 5 MB/s of all it is sent",
        load: Load::Beside {
            slow_bytes_per_second: 5_000_000,
            messages_per_second: 50_000,
        },
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 4_000,
    },
    Cell {
        name: "cluster-slow-100MB",
        title: "the same beside one that takes 100 MB/s",
        load: Load::Beside {
            slow_bytes_per_second: 100_000_000,
            messages_per_second: 50_000,
        },
        encryption: Encryption::None,
        nodes: 2,
        routes: Routes::Clear,
        work: 4_000,
    },
    Cell {
        name: "floor-16B",
        title: "copy one socket to another, 16 B",
        load: Load::Copy { payload_bytes: 16 },
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 40_000_000,
    },
    Cell {
        name: "floor-1KiB",
        title: "copy one socket to another, 1 KiB",
        load: Load::Copy {
            payload_bytes: 1024,
        },
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 1_500_000,
    },
    Cell {
        name: "floor-16KiB",
        title: "copy one socket to another, 16 KiB",
        load: Load::Copy {
            payload_bytes: 16 * 1024,
        },
        encryption: Encryption::None,
        nodes: 1,
        routes: Routes::Clear,
        work: 100_000,
    },
];

#[cfg(test)]
mod tests {
    use super::{CELLS, Cell, Load};

    #[test]
    fn names_are_unique_and_find_their_cell() {
        for cell in CELLS {
            assert!(
                std::ptr::eq(Cell::named(cell.name).unwrap(), cell),
                "{}",
                cell.name
            );
        }
        assert!(Cell::named("nothing").is_none());
    }

    #[test]
    fn work_divides_among_publishers() {
        for cell in CELLS {
            if let Load::Flow(flow) = cell.load {
                assert_eq!(cell.work % u64::from(flow.publishers), 0, "{}", cell.name);
            }
        }
    }
}
