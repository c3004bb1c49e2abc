//! The bounds the project holds itself to.

use crate::cells::{Measure, Routes};
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
    let median = |program| {
        let latency = record.cell(cell)?.program(program)?;
        Some(latency.latency(|latency| latency.p99_microseconds)?.median)
    };
    let ours = [
        Program::Natterjackd,
        Program::OursFirst,
        Program::TheirsFirst,
    ]
    .into_iter()
    .filter_map(median)
    .max_by(f64::total_cmp);
    bound(
        text,
        ours.zip(median(Program::NatsServer)),
        |(ours, theirs)| ours <= theirs,
        |(ours, theirs)| format!("{ours:.0} µs against {theirs:.0} µs"),
    )
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
    Some(joining.joining(|joining| joining.throughput_share)?.median)
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

fn latency(
    record: &Record,
    text: &'static str,
    percentile: impl Fn(crate::generator::Latency) -> f64,
) -> Bound {
    let median = |program| {
        let cell = record.cell("request-1")?;
        Some(cell.program(program)?.latency(&percentile)?.median)
    };
    bound(
        text,
        median(Program::Natterjackd).zip(median(Program::NatsServer)),
        |(ours, theirs)| ours <= theirs,
        |(ours, theirs)| format!("{ours:.0} µs against {theirs:.0} µs"),
    )
}
