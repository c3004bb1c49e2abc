//! The bounds the project holds itself to.

use crate::cells::{Measure, Routes};
use crate::generator::{Latency, Sample};
use crate::record::{CellRecord, Record};
use crate::servers::Program;

const GEOMETRIC_MEAN_MIN: f64 = 4.0;
const CELL_ADVANTAGE_MIN: f64 = 1.5;
const IDLE_CONNECTION_BYTES_MAX: f64 = 4.0 * 1024.0;
const IDLE_SERVER_BYTES_MAX: f64 = 8.0 * 1024.0 * 1024.0;
const TLS_ADVANTAGE_MIN: f64 = 2.0;
const CLUSTER_ADVANTAGE_MIN: f64 = 3.0;
/// How near to copying counts as the same: what else is to be done for a message is not nothing.
const FLOOR_FACTOR: f64 = 1.25;
/// The cell with one request at a time: a message costs each server a call to wait, one to read and one to write, and
/// that is most of it, for nats-server too.
const SINGLE_REQUESTS: &str = "cluster-request-1";
const SINGLE_REQUESTS_ADVANTAGE_MIN: f64 = 2.0;
/// TLS between servers, where a part of the work is the same for both.
const TLS_ROUTES_ADVANTAGE_MIN: f64 = 2.5;
/// Compression, most of whose work is finding what is there twice.
const COMPRESSED_ROUTES_ADVANTAGE_MIN: f64 = 1.5;
/// Messages beside a slow subscriber that are on time, against those on nats-server.
const BESIDE_SHARE_MIN: f64 = 0.75;
const JOINING_THROUGHPUT_MIN: f64 = 0.8;
/// What is left of the throughput while somebody asks for pages of monitoring.
const WATCHED_THROUGHPUT_MIN: f64 = 0.95;
const IDLE_TLS_CONNECTION_BYTES_MAX: f64 = 20.0 * 1024.0;

/// One bound and how the record stands to it.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The bound, as a reader sees it.
    pub(crate) text: &'static str,
    /// What was measured.
    pub(crate) measured: String,
    /// Whether it is met; a bound that was not measured is not.
    pub(crate) is_met: bool,
}

/// All bounds.
pub(crate) fn bounds(record: &Record) -> Vec<Bound> {
    vec![
        bound(
            "geometric mean of the throughput cells at least 4",
            record.geometric_mean,
            |mean| mean >= GEOMETRIC_MEAN_MIN,
            |mean| format!("{mean:.2}"),
        ),
        least_cell(
            record,
            "every throughput cell at least 1.5",
            Measure::Throughput,
            CELL_ADVANTAGE_MIN,
        ),
        bound(
            "an idle connection at most 4 KiB",
            memory(record, "idle-connections"),
            |bytes| bytes <= IDLE_CONNECTION_BYTES_MAX,
            |bytes| format!("{:.2} KiB", bytes / 1024.0),
        ),
        bound(
            "an idle server below 8 MiB",
            memory(record, "idle-server"),
            |bytes| bytes < IDLE_SERVER_BYTES_MAX,
            |bytes| format!("{:.2} MiB", bytes / 1024.0 / 1024.0),
        ),
        latency(
            record,
            "p50 of request-reply, one in flight, not above nats-server's",
            |latency| latency.p50_microseconds,
        ),
        latency(
            record,
            "p99 of request-reply, one in flight, not above nats-server's",
            |latency| latency.p99_microseconds,
        ),
        least_cell(
            record,
            "a message over TLS at most half of nats-server's processor time: every cell at least 2",
            Measure::EncryptedThroughput,
            TLS_ADVANTAGE_MIN,
        ),
        bound(
            "a full handshake with both certificates at most half of nats-server's processor time",
            record
                .cell("mtls-connect-rate")
                .and_then(|cell| cell.advantage)
                .map(|advantage| advantage.median),
            |advantage| advantage >= TLS_ADVANTAGE_MIN,
            |advantage| format!("{:.0} %", 100.0 / advantage),
        ),
        bound(
            "an idle TLS connection at most 20 KiB",
            memory(record, "mtls-idle-connections"),
            |bytes| bytes <= IDLE_TLS_CONNECTION_BYTES_MAX,
            |bytes| format!("{:.2} KiB", bytes / 1024.0),
        ),
        least_in_cluster(
            record,
            "a message over a cluster at most a third of nats-server's processor time: every cell at least 3; where the system paces TCP, or hardly more than copying it twice",
            (Routes::Clear, CLUSTER_ADVANTAGE_MIN),
            |cell| {
                over_floor(
                    record,
                    cell,
                    cell.advantage.map(|it| it.median),
                    0..cell.cell.nodes,
                    &[Program::Natterjackd],
                )
            },
        ),
        least_in_cluster(
            record,
            "the same of each natterjackd among nats-servers, against one in its place: at least 3",
            (Routes::Clear, CLUSTER_ADVANTAGE_MIN),
            |cell| {
                let places = (0..cell.cell.nodes).map(|node| {
                    let advantage = cell.advantage_among_theirs(node);
                    over_floor(record, cell, advantage, node..node + 1, &MIXED)
                });
                places.min_by(f64::total_cmp).unwrap_or(0.0)
            },
        ),
        bound(
            "one request at a time over a cluster at most half of nats-server's processor time",
            record
                .cell(SINGLE_REQUESTS)
                .and_then(|cell| cell.advantage)
                .map(|advantage| advantage.median),
            |advantage| advantage >= SINGLE_REQUESTS_ADVANTAGE_MIN,
            |advantage| format!("{:.0} %", 100.0 / advantage),
        ),
        least_in_cluster(
            record,
            "a message over TLS from server to server at most two fifths of nats-server's processor time: every cell at least 2.5",
            (Routes::Tls, TLS_ROUTES_ADVANTAGE_MIN),
            advantage,
        ),
        least_in_cluster(
            record,
            "a message that servers compress for each other at most two thirds of nats-server's processor time: every cell at least 1.5",
            (Routes::Compressed, COMPRESSED_ROUTES_ADVANTAGE_MIN),
            advantage,
        ),
        cluster_latency(
            record,
            "cluster-request-1",
            "p99 of request-reply over a cluster, one in flight, in no mix above nats-server's",
        ),
        cluster_latency(
            record,
            "cluster-request-64",
            "p99 of request-reply over a cluster, 64 in flight, in no mix above nats-server's",
        ),
        one_way_latency(record),
        bound(
            "while a server joins another with 100,000 subscriptions, over 80 % of the messages are on time",
            joining_throughput(record),
            |share| share > JOINING_THROUGHPUT_MIN,
            |share| format!("{:.0} %", share * 100.0),
        ),
        least_beside(record),
        bound(
            "while every page of monitoring of 5,000 connections is asked for in a loop, at least 95 % of the throughput",
            watched_throughput(record),
            |share| share >= WATCHED_THROUGHPUT_MIN,
            |share| format!("{:.1} %", share * 100.0),
        ),
    ]
}

/// What clusters are held to: the cell without a pace that says what a message costs, and the one that says how long it takes.
const DEMANDED: [(&str, &str); 6] = [
    ("cluster-1-1-16B", "cluster-paced-16B"),
    ("cluster-1-1-128B", "cluster-paced-128B"),
    ("cluster-1-1-1KiB", "cluster-paced-1KiB"),
    ("cluster-1-1-16KiB", "cluster-paced-16KiB"),
    ("cluster-1-3-128B", "cluster-paced-1-3-128B"),
    ("cluster-request-64", "cluster-request-64"),
];
const PROCESSOR_SHARE_MAX: f64 = 1.0 / CLUSTER_ADVANTAGE_MIN;

/// How the messages of a cell fare in one kind of cluster, against a cluster of nats-servers.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The messages.
    pub(crate) title: &'static str,
    /// The cluster, with a natterjackd in it.
    pub(crate) cluster: Program,
    /// What a message costs, of what it costs nats-server; in a mixed cluster at the place where that is most.
    pub(crate) processor_share: Option<f64>,
    /// p99, and that of nats-servers; in microseconds.
    pub(crate) p99_microseconds: Option<(f64, f64)>,
}

impl Verdict {
    fn of(cluster: Program, processor: &CellRecord, latency: Option<&CellRecord>) -> Self {
        let p99s = |cell| Some((p99(cell, cluster)?, p99(cell, Program::NatsServer)?));
        Self {
            title: processor.cell.title,
            cluster,
            processor_share: processor_share(cluster, processor),
            p99_microseconds: latency.and_then(p99s),
        }
    }

    fn is_measured(&self) -> bool {
        self.processor_share.is_some() || self.p99_microseconds.is_some()
    }

    /// Whether a message costs at most a third.
    pub(crate) fn is_processor_met(&self) -> bool {
        (self.processor_share).is_some_and(|share| share <= PROCESSOR_SHARE_MAX)
    }

    /// Whether p99 is not above nats-server's.
    pub(crate) fn is_latency_met(&self) -> bool {
        (self.p99_microseconds).is_some_and(|(ours, theirs)| ours <= theirs)
    }
}

fn processor_share(cluster: Program, cell: &CellRecord) -> Option<f64> {
    let cost = |program, node| Some(cell.program(program)?.node_cost(node)?.median);
    let cost_of_all = |program| Some(1.0 / cell.program(program)?.rate()?.median);
    if cluster == Program::Natterjackd {
        return Some(cost_of_all(cluster)? / cost_of_all(Program::NatsServer)?);
    }
    let places = (0..cell.cell.nodes).filter(|node| cluster.at(*node) == Program::Natterjackd);
    let shares: Option<Vec<f64>> = places
        .map(|node| Some(cost(cluster, node)? / cost(Program::NatsServer, node)?))
        .collect();
    shares?.into_iter().max_by(f64::total_cmp)
}

/// What clusters are held to, cell by cell and cluster by cluster, as far as it was measured.
pub(crate) fn demanded(record: &Record) -> Vec<Verdict> {
    let verdicts = |&(processor, latency): &(&str, &str)| {
        let processor = record.cell(processor)?;
        let of = |cluster| Verdict::of(cluster, processor, record.cell(latency));
        Some(WITH_OURS.map(of))
    };
    let verdicts = DEMANDED.iter().filter_map(verdicts).flatten();
    verdicts.filter(Verdict::is_measured).collect()
}

/// The same of what clusters are measured by besides.
pub(crate) fn beyond(record: &Record) -> Vec<Verdict> {
    let is_demanded = |cell: &&CellRecord| {
        let name = cell.cell.name;
        DEMANDED.iter().any(|(processor, _)| *processor == name)
    };
    let cells = record.cells.iter().filter(|cell| {
        let measure = cell.cell.measure();
        matches!(measure, Measure::ClusterThroughput | Measure::OneWay) && !is_demanded(cell)
    });
    cells
        .flat_map(|cell| WITH_OURS.map(|cluster| Verdict::of(cluster, cell, Some(cell))))
        .filter(Verdict::is_measured)
        .collect()
}

/// How far a cluster of natterjackds is ahead of one of nats-servers.
fn advantage(cell: &CellRecord) -> f64 {
    cell.advantage.map_or(0.0, |advantage| advantage.median)
}

/// The cell in which natterjackd is least ahead, among those with such routes.
fn least_in_cluster(
    record: &Record,
    text: &'static str,
    (routes, advantage_min): (Routes, f64),
    advantage: impl Fn(&CellRecord) -> f64,
) -> Bound {
    let least = record
        .cells_by(Measure::ClusterThroughput)
        .filter(|cell| cell.cell.routes == routes && cell.cell.name != SINGLE_REQUESTS)
        .map(|cell| (advantage(cell), cell.cell.name))
        .min_by(|left, right| left.0.total_cmp(&right.0));
    bound(
        text,
        least,
        |(advantage, _)| advantage >= advantage_min,
        |(advantage, name)| format!("{advantage:.2} ({name})"),
    )
}

/// Clusters in which natterjackd and nats-server take turns.
const MIXED: [Program; 2] = [Program::OursFirst, Program::TheirsFirst];

/// An advantage; [`CLUSTER_ADVANTAGE_MIN`] if it is less, but the system paces TCP, and these servers spend hardly more
/// than as many processes would that only copy messages of that size.
fn over_floor(
    record: &Record,
    cell: &CellRecord,
    advantage: Option<f64>,
    nodes: std::ops::Range<usize>,
    programs: &[Program],
) -> f64 {
    let advantage = advantage.unwrap_or(0.0);
    let is_floor = || {
        let floor = record
            .cells_by(Measure::Floor)
            .find(|floor| floor.cell.payload_bytes() == cell.cell.payload_bytes())?;
        let floor_cost = 1e9 / floor.program(Program::Copy)?.figure?.median;
        let cost = |node| {
            let costs = programs
                .iter()
                .filter(|program| program.at(node) == Program::Natterjackd)
                .filter_map(|program| cell.program(*program)?.node_cost(node));
            costs.map(|cost| cost.median).max_by(f64::total_cmp)
        };
        let costs: Option<Vec<f64>> = nodes.clone().map(cost).collect();
        let costs: f64 = costs?.into_iter().sum();
        Some(costs <= floor_cost * FLOOR_FACTOR * nodes.len() as f64)
    };
    let may_be_floor = advantage < CLUSTER_ADVANTAGE_MIN && record.machine.paces();
    if may_be_floor && is_floor() == Some(true) {
        CLUSTER_ADVANTAGE_MIN
    } else {
        advantage
    }
}

/// A server of a cluster, as titles of cells name it.
pub(crate) fn place(node: usize) -> char {
    char::from(b'A' + node as u8)
}

/// The worst of all clusters with a natterjackd in it.
fn cluster_latency(record: &Record, cell: &str, text: &'static str) -> Bound {
    bound(
        text,
        record.cell(cell).and_then(worst_p99),
        |(ours, theirs)| ours <= theirs,
        |(ours, theirs)| format!("{ours:.0} µs against {theirs:.0} µs"),
    )
}

/// Of the cells with messages at a pace, the one in which the worst cluster with a natterjackd in it compares worst.
fn one_way_latency(record: &Record) -> Bound {
    let worst = record
        .cells_by(Measure::OneWay)
        .map(|cell| (worst_p99(cell), cell.cell.name))
        .max_by(|left, right| {
            // A cell without a result is the worst of all.
            let ratio =
                |p99: Option<(f64, f64)>| p99.map_or(f64::MAX, |(ours, theirs)| ours / theirs);
            ratio(left.0).total_cmp(&ratio(right.0))
        });
    bound(
        "p99 of messages at a pace over a cluster in no mix above nats-server's",
        worst.and_then(|(p99, name)| Some((p99?, name))),
        |((ours, theirs), _)| ours <= theirs,
        |((ours, theirs), name)| format!("{ours:.0} µs against {theirs:.0} µs ({name})"),
    )
}

/// Clusters with a natterjackd in them.
const WITH_OURS: [Program; 3] = [
    Program::Natterjackd,
    Program::OursFirst,
    Program::TheirsFirst,
];

/// The p99 of the cluster with a natterjackd that has the highest, and that of nats-servers alone; in microseconds.
fn worst_p99(cell: &CellRecord) -> Option<(f64, f64)> {
    let ours = WITH_OURS
        .into_iter()
        .filter_map(|program| p99(cell, program));
    Some((
        ours.max_by(f64::total_cmp)?,
        p99(cell, Program::NatsServer)?,
    ))
}

fn p99(cell: &CellRecord, program: Program) -> Option<f64> {
    let p99 = |round: &Sample| Some(round.latency?.p99_microseconds);
    Some(cell.program(program)?.over_rounds(p99)?.median)
}

/// The slow subscriber beside which natterjackd does worst.
fn least_beside(record: &Record) -> Bound {
    let share = |cell: &CellRecord, program| Some(cell.program(program)?.figure?.median);
    let least = record
        .cells_by(Measure::Beside)
        .map(|cell| {
            let ours = share(cell, Program::Natterjackd);
            let ratio = ours.zip(share(cell, Program::NatsServer));
            let ratio = ratio.map_or(0.0, |(ours, theirs)| ours / theirs);
            (ratio, cell.cell.name)
        })
        .min_by(|left, right| left.0.total_cmp(&right.0));
    bound(
        "beside a slow subscriber at least three quarters of the messages that nats-server has on time",
        least,
        |(ratio, _)| ratio >= BESIDE_SHARE_MIN,
        |(ratio, name)| format!("{:.0} % ({name})", ratio * 100.0),
    )
}

fn watched_throughput(record: &Record) -> Option<f64> {
    let cell = record.cells_by(Measure::Watched).next()?;
    let figure = cell.program(Program::Natterjackd)?.figure?;
    Some(figure.median)
}

fn joining_throughput(record: &Record) -> Option<f64> {
    let cell = record.cells_by(Measure::Joining).next()?;
    let joining = cell.program(Program::Natterjackd)?;
    let share = |round: &Sample| Some(round.joining?.throughput_share);
    Some(joining.over_rounds(share)?.median)
}

fn bound<T: Copy>(
    text: &'static str,
    measured: Option<T>,
    is_met: impl Fn(T) -> bool,
    show: impl Fn(T) -> String,
) -> Bound {
    Bound {
        text,
        measured: measured.map_or_else(|| "not measured".to_owned(), show),
        is_met: measured.is_some_and(is_met),
    }
}

/// The cell of a measure in which natterjackd is least ahead. A cell without a result counts as missed.
fn least_cell(record: &Record, text: &'static str, measure: Measure, advantage_min: f64) -> Bound {
    let least = record
        .cells_by(measure)
        .map(|cell| {
            (
                cell.advantage.map_or(0.0, |advantage| advantage.median),
                cell.cell.name,
            )
        })
        .min_by(|left, right| left.0.total_cmp(&right.0));
    bound(
        text,
        least,
        |(advantage, _)| advantage >= advantage_min,
        |(advantage, name)| format!("{advantage:.2} ({name})"),
    )
}

fn memory(record: &Record, cell: &str) -> Option<f64> {
    let figure = record.cell(cell)?.program(Program::Natterjackd)?.figure?;
    Some(figure.median)
}

fn latency(record: &Record, text: &'static str, percentile: impl Fn(Latency) -> f64) -> Bound {
    let median = |program| {
        let cell = record.cell("request-1")?;
        let percentile = |round: &Sample| round.latency.map(&percentile);
        Some(cell.program(program)?.over_rounds(percentile)?.median)
    };
    bound(
        text,
        median(Program::Natterjackd).zip(median(Program::NatsServer)),
        |(ours, theirs)| ours <= theirs,
        |(ours, theirs)| format!("{ours:.0} µs against {theirs:.0} µs"),
    )
}

#[cfg(test)]
mod tests {
    use super::{Verdict, beyond, bounds, demanded};
    use crate::cells::Cell;
    use crate::generator::{Latency, Sample};
    use crate::machine::Machine;
    use crate::record::{CellRecord, Record};
    use crate::servers::Program;

    /// What each kind of cluster had in a cell.
    type Clusters = [(Program, [f64; 2], f64); 4];

    /// A record of cells in which each kind of cluster had these seconds of processor time at its servers, and this p99.
    fn record(cells: &[(&str, Clusters)]) -> Record {
        let cell = |(name, clusters): &(&str, Clusters)| {
            let mut record = CellRecord::new(Cell::named(name).unwrap(), 1);
            for &(program, nodes, p99) in clusters {
                let sample = Sample {
                    operations: 1_000_000,
                    wall_seconds: 1.0,
                    server_processor_seconds: nodes.iter().sum(),
                    node_processor_seconds: nodes.to_vec(),
                    latency: Some(Latency {
                        p50_microseconds: p99 / 2.0,
                        p99_microseconds: p99,
                        p999_microseconds: p99 * 2.0,
                    }),
                    ..Sample::default()
                };
                record.add(program, sample);
            }
            record.conclude();
            record
        };
        Record {
            date: String::new(),
            command: String::new(),
            mode: "smoke",
            rounds: 1,
            machine: Machine::this(),
            nats_server_version: String::new(),
            natterjackd_version: String::new(),
            rustc_version: String::new(),
            commit: String::new(),
            geometric_mean: None,
            cells: cells.iter().map(cell).collect(),
        }
    }

    /// Processor time of nats-servers 4 and 5 seconds, and their p99 300 microseconds.
    fn clusters(
        ours: ([f64; 2], f64),
        ours_first: ([f64; 2], f64),
        theirs_first: ([f64; 2], f64),
    ) -> Clusters {
        [
            (Program::NatsServer, [4.0, 5.0], 300.0),
            (Program::Natterjackd, ours.0, ours.1),
            (Program::OursFirst, ours_first.0, ours_first.1),
            (Program::TheirsFirst, theirs_first.0, theirs_first.1),
        ]
    }

    fn met(verdicts: &[Verdict]) -> Vec<(bool, bool)> {
        let met = |verdict: &Verdict| (verdict.is_processor_met(), verdict.is_latency_met());
        verdicts.iter().map(met).collect()
    }

    #[test]
    fn cost_is_that_without_a_pace_and_time_that_at_one() {
        // Of natterjackds among nats-servers only their own time counts: 1 of 4 seconds at A, 2 of 5 at B.
        let without_pace = clusters(
            ([1.0, 1.9], 900.0),
            ([1.0, 9.0], 900.0),
            ([9.0, 2.0], 900.0),
        );
        let paced = clusters(
            ([4.0, 5.0], 300.0),
            ([4.0, 5.0], 301.0),
            ([4.0, 5.0], 299.0),
        );
        let record = record(&[
            ("cluster-1-1-16B", without_pace),
            ("cluster-paced-16B", paced),
        ]);
        let verdicts = demanded(&record);
        assert_eq!(
            met(&verdicts),
            [(true, true), (true, false), (false, true)],
            "{verdicts:?}"
        );
        assert!(
            verdicts
                .iter()
                .all(|verdict| verdict.title == "A → B, 16 B")
        );
        let beyond = beyond(&record);
        assert_eq!(beyond.len(), 3, "{beyond:?}");
        assert_eq!(met(&beyond)[0], (false, true), "{beyond:?}");
        let bounds = bounds(&record);
        let bound = bounds
            .iter()
            .find(|bound| bound.text.starts_with("p99 of messages at a pace"))
            .unwrap();
        assert!(!bound.is_met);
        assert_eq!(bound.measured, "301 µs against 300 µs (cluster-paced-16B)");
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let same = clusters(([1.0, 1.0], 1.0), ([1.0, 1.0], 1.0), ([1.0, 1.0], 1.0));
        let record = record(&[("cluster-1-1-16B", same)]);
        let verdicts = demanded(&record);
        assert_eq!(met(&verdicts), [(true, false); 3], "{verdicts:?}");
        assert!(
            verdicts
                .iter()
                .all(|verdict| verdict.p99_microseconds.is_none())
        );
        assert!(beyond(&record).is_empty());
        let is_met = |bound: &super::Bound| bound.text.contains("at a pace") && bound.is_met;
        assert!(!bounds(&record).iter().any(is_met));
    }
}
