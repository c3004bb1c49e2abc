//! The record as Markdown.

use std::fmt::Write as _;

use crate::cells::{Encryption, Measure};
use crate::check;
use crate::generator::{Beside, Joining, Latency, Watched};
use crate::record::{CellRecord, ProgramRecord, Record};
use crate::servers::Program;
use crate::statistics::Summary;

/// The whole report.
pub(crate) fn markdown(record: &Record) -> String {
    let mut out = String::new();
    head(&mut out, record);
    rates(
        &mut out,
        record,
        Measure::Throughput,
        "Throughput",
        "Messages in plus messages out, per second of the server's processor time and per second on \
         the wall clock.",
    );
    if let Some(mean) = record.geometric_mean {
        line(
            &mut out,
            &format!("\nGeometric mean over these cells: **{mean:.2}×**"),
        );
    }
    rates(
        &mut out,
        record,
        Measure::EncryptedThroughput,
        "Throughput over TLS",
        "The same over TLS 1.3 with AES-128-GCM.",
    );
    latencies(&mut out, record);
    rates(
        &mut out,
        record,
        Measure::ConnectRate,
        "Connections that come and go",
        "Connections opened, greeted and closed, per second of the server's processor time and per \
         second on the wall clock.",
    );
    memory(&mut out, record);
    watched(&mut out, record);
    clusters(&mut out, record);
    floor(&mut out, record);
    bounds(&mut out, record);
    failures(&mut out, record);
    out
}

/// A rate with three digits: `4.51 M`, `98.2 k`.
pub(crate) fn rate(per_second: f64) -> String {
    let (scaled, unit) = match per_second {
        large if large >= 999_500.0 => (per_second / 1e6, " M"),
        middle if middle >= 999.5 => (per_second / 1e3, " k"),
        _ => (per_second, ""),
    };
    let digits = match scaled {
        large if large >= 99.95 => 0,
        middle if middle >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{unit}")
}

fn head(out: &mut String, record: &Record) {
    line(out, "# nats-server and natterjackd under the same load\n");
    line(
        out,
        "![How many times better natterjackd is, cell by cell](results.svg)\n",
    );
    line(out, "| | |\n| --- | --- |");
    let machine = &record.machine;
    let machine = format!(
        "{}, {} processors, {} MiB, Linux {}, TCP {}, load {} before the first run",
        machine.processor,
        machine.processors,
        machine.memory_mebibytes,
        machine.kernel,
        machine.congestion_control,
        machine.load_before
    );
    let runs = format!(
        "{}, {} round(s) each, median (smallest–largest)",
        record.mode, record.rounds
    );
    let other = format!(
        "{:.0} % of the processors were busy with something else meanwhile",
        record.other_share() * 100.0
    );
    for (name, value) in [
        ("date", record.date.as_str()),
        ("machine", &machine),
        ("nats-server", &record.nats_server_version),
        ("natterjackd", &record.natterjackd_version),
        ("rustc", &record.rustc_version),
        ("commit", &record.commit),
        ("runs", &runs),
        ("other work", &other),
        ("command", &format!("`{}`", record.command)),
    ] {
        if !value.is_empty() {
            line(out, &format!("| {name} | {value} |"));
        }
    }
    line(
        out,
        "\n× is how many times better natterjackd is: more for the same processor time, less time or \
         less memory. Above 1 is better.",
    );
}

fn rates(out: &mut String, record: &Record, measure: Measure, title: &str, note: &str) {
    let cells: Vec<_> = record.cells_by(measure).collect();
    if cells.is_empty() {
        return;
    }
    line(out, &format!("\n## {title}\n\n{note}\n"));
    line(
        out,
        "| cell | nats-server, processor | natterjackd, processor | × | nats-server, wall | natterjackd, wall | × wall |",
    );
    line(out, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for cell in cells {
        let (theirs, ours) = both(cell);
        let (their_wall, our_wall) = (theirs.and_then(wall), ours.and_then(wall));
        let wall_ratio = our_wall
            .zip(their_wall)
            .map(|(ours, theirs)| ours.median / theirs.median);
        line(
            out,
            &format!(
                "| {} | {} | {} | {} | {} | {} | {} |",
                cell.cell.title,
                spread(theirs.and_then(|record| record.figure), rate),
                spread(ours.and_then(|record| record.figure), rate),
                advantage(cell.advantage),
                shown(their_wall.map(|wall| rate(wall.median))),
                shown(our_wall.map(|wall| rate(wall.median))),
                shown(wall_ratio.map(|ratio| format!("{ratio:.2}"))),
            ),
        );
    }
}

type Percentile = fn(Latency) -> f64;

const PERCENTILES: [(&str, Percentile); 3] = [
    ("p50", |latency| latency.p50_microseconds),
    ("p99", |latency| latency.p99_microseconds),
    ("p99.9", |latency| latency.p999_microseconds),
];

fn has_latency(cell: &CellRecord) -> bool {
    let mut programs = cell.programs.iter();
    programs.any(|program| program.latency(|_| 0.0).is_some())
}

fn latencies(out: &mut String, record: &Record) {
    let cells: Vec<_> = record
        .cells
        .iter()
        .filter(|cell| cell.cell.nodes == 1 && has_latency(cell))
        .collect();
    if cells.is_empty() {
        return;
    }
    line(
        out,
        "\n## Time from request to reply\n\nMicroseconds, seen by the requester.\n",
    );
    line(out, "| cell | percentile | nats-server | natterjackd | × |");
    line(out, "| --- | --- | ---: | ---: | ---: |");
    for cell in cells {
        let (theirs, ours) = both(cell);
        for (name, percentile) in PERCENTILES {
            let theirs = theirs.and_then(|record| record.latency(percentile));
            let ours = ours.and_then(|record| record.latency(percentile));
            let ratio = theirs
                .zip(ours)
                .map(|(theirs, ours)| theirs.median / ours.median);
            line(
                out,
                &format!(
                    "| {} | {name} | {} | {} | {} |",
                    cell.cell.title,
                    spread(theirs, |microseconds| format!("{microseconds:.0}")),
                    spread(ours, |microseconds| format!("{microseconds:.0}")),
                    shown(ratio.map(|ratio| format!("**{ratio:.2}**"))),
                ),
            );
        }
    }
}

fn memory(out: &mut String, record: &Record) {
    let cells: Vec<_> = record.cells_by(Measure::Memory).collect();
    if cells.is_empty() {
        return;
    }
    line(out, "\n## Memory\n\nResident set of the server.\n");
    line(out, "| cell | nats-server | natterjackd | × |");
    line(out, "| --- | ---: | ---: | ---: |");
    for cell in cells {
        let (theirs, ours) = both(cell);
        let title = if cell.work > 1 {
            let kind = match cell.cell.encryption {
                Encryption::None => "connection",
                Encryption::Tls => "TLS connection",
                Encryption::MutualTls => "TLS connection with a client certificate",
            };
            format!("an idle {kind}, of {}", thousands(cell.work))
        } else {
            cell.cell.title.to_owned()
        };
        line(
            out,
            &format!(
                "| {title} | {} | {} | {} |",
                spread(theirs.and_then(|record| record.figure), bytes),
                spread(ours.and_then(|record| record.figure), bytes),
                advantage(cell.advantage),
            ),
        );
    }
}

fn watched(out: &mut String, record: &Record) {
    let cells: Vec<_> = record.cells_by(Measure::Watched).collect();
    if cells.is_empty() {
        return;
    }
    line(
        out,
        "\n## While somebody watches\n\nOne after another, without a pause, the pages of monitoring are asked for, those of \
         all connections with their subscriptions among them. Who asks has the same processors.\n",
    );
    line(out, "| cell | | nats-server | natterjackd |");
    line(out, "| --- | --- | ---: | ---: |");
    type Figure = fn(Watched) -> f64;
    type Show = fn(f64) -> String;
    let figures: [(&str, Figure, Show); 4] = [
        (
            "of the messages a second while nobody asks",
            |watched| watched.throughput_share * 100.0,
            |percent| format!("{percent:.0} %"),
        ),
        (
            "longest time without any, in milliseconds",
            |watched| watched.gap_milliseconds,
            |milliseconds| format!("{milliseconds:.0}"),
        ),
        (
            "the same while nobody asks",
            |watched| watched.gap_alone_milliseconds,
            |milliseconds| format!("{milliseconds:.0}"),
        ),
        (
            "pages a second",
            |watched| watched.pages_per_second,
            |rate| format!("{rate:.1}"),
        ),
    ];
    for cell in cells {
        for (name, figure, show) in figures {
            let (theirs, ours) = both(cell);
            let column = |record: Option<&ProgramRecord>| {
                spread(record.and_then(|record| record.watched(figure)), show)
            };
            line(
                out,
                &format!(
                    "| {} | {name} | {} | {} |",
                    cell.cell.title,
                    column(theirs),
                    column(ours)
                ),
            );
        }
    }
}

fn clusters(out: &mut String, record: &Record) {
    rates(
        out,
        record,
        Measure::ClusterThroughput,
        "Clusters",
        "Messages in plus messages out at clients, per second of processor time of all servers together and per \
         second on the wall clock. Clusters are of one program each.",
    );
    cluster_places(out, record);
    cluster_latencies(out, record);
    joining(out, record);
    beside(out, record);
}

fn cluster_places(out: &mut String, record: &Record) {
    let cells: Vec<_> = record.cells_by(Measure::ClusterThroughput).collect();
    if cells.is_empty() {
        return;
    }
    line(
        out,
        "\n### Server by server\n\nNanoseconds of processor time for each message in or out. In a mixed cluster \
         natterjackd and nats-server take turns; the × there compares with a cluster of nats-servers.\n",
    );
    line(
        out,
        "| cell | server | nats-server | natterjackd | × | natterjackd among nats-servers | × |",
    );
    line(out, "| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    let cost = |cell: &CellRecord, program, node| cell.program(program)?.node_cost(node);
    let show = |cost: f64| format!("{cost:.0}");
    for cell in cells {
        for node in 0..cell.cell.nodes {
            let theirs = cost(cell, Program::NatsServer, node);
            let ours = cost(cell, Program::Natterjackd, node);
            let ratio = theirs
                .zip(ours)
                .map(|(theirs, ours)| theirs.median / ours.median);
            let mixed = [Program::OursFirst, Program::TheirsFirst]
                .into_iter()
                .filter(|mix| mix.at(node) == Program::Natterjackd)
                .find_map(|mix| cost(cell, mix, node));
            let bold = |ratio: f64| format!("**{ratio:.2}**");
            line(
                out,
                &format!(
                    "| {} | {} | {} | {} | {} | {} | {} |",
                    cell.cell.title,
                    check::place(node),
                    spread(theirs, show),
                    spread(ours, show),
                    shown(ratio.map(bold)),
                    spread(mixed, show),
                    shown(cell.advantage_among_theirs(node).map(bold)),
                ),
            );
        }
    }
}

/// Every kind of cluster, in the order of the columns.
const CLUSTERS: [Program; 4] = [
    Program::NatsServer,
    Program::Natterjackd,
    Program::OursFirst,
    Program::TheirsFirst,
];

fn cluster_latencies(out: &mut String, record: &Record) {
    let cells: Vec<_> = record
        .cells_by(Measure::ClusterThroughput)
        .filter(|cell| has_latency(cell))
        .collect();
    if cells.is_empty() {
        return;
    }
    line(
        out,
        "\n### Time from request to reply\n\nMicroseconds. Mixed clusters by the program at A.\n",
    );
    line(
        out,
        "| cell | percentile | nats-server | natterjackd | × | natterjackd at A | nats-server at A |",
    );
    line(out, "| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    for cell in cells {
        for (name, percentile) in PERCENTILES {
            let [theirs, ours, ours_first, theirs_first] =
                CLUSTERS.map(|program| cell.program(program)?.latency(percentile));
            let ratio = theirs
                .zip(ours)
                .map(|(theirs, ours)| theirs.median / ours.median);
            let show = |microseconds: f64| format!("{microseconds:.0}");
            line(
                out,
                &format!(
                    "| {} | {name} | {} | {} | {} | {} | {} |",
                    cell.cell.title,
                    spread(theirs, show),
                    spread(ours, show),
                    shown(ratio.map(|ratio| format!("**{ratio:.2}**"))),
                    spread(ours_first, show),
                    spread(theirs_first, show),
                ),
            );
        }
    }
}

fn joining(out: &mut String, record: &Record) {
    type Figure = fn(Joining) -> f64;
    type Show = fn(f64) -> String;
    let figures: [(&str, Figure, Show); 4] = [
        (
            "milliseconds until all are routed to",
            |joining| joining.seconds * 1e3,
            |milliseconds| format!("{milliseconds:.0}"),
        ),
        (
            "told each other meanwhile",
            |joining| joining.bytes as f64,
            bytes,
        ),
        (
            "messages over A on time, meanwhile",
            |joining| joining.throughput_share * 100.0,
            |percent| format!("{percent:.0} %"),
        ),
        (
            "longest time without any, in milliseconds",
            |joining| joining.gap_milliseconds,
            |milliseconds| format!("{milliseconds:.1}"),
        ),
    ];
    for cell in record.cells_by(Measure::Joining) {
        line(out, &format!("\n### {}\n", cell.cell.title));
        line(
            out,
            "| | nats-server | natterjackd | natterjackd is A | nats-server is A |",
        );
        line(out, "| --- | ---: | ---: | ---: | ---: |");
        for (name, figure, show) in figures {
            let columns = CLUSTERS.map(|program| {
                spread(
                    cell.program(program).and_then(|it| it.joining(figure)),
                    show,
                )
            });
            line(out, &format!("| {name} | {} |", columns.join(" | ")));
        }
    }
}

fn beside(out: &mut String, record: &Record) {
    let cells: Vec<_> = record.cells_by(Measure::Beside).collect();
    if cells.is_empty() {
        return;
    }
    line(
        out,
        "\n### Beside a slow subscriber\n\nA publisher at A sends all it can to a subscriber at B that takes less, and \
         other messages go the same way. Mixed clusters by the program at A.\n",
    );
    line(
        out,
        "| cell | | nats-server | natterjackd | natterjackd at A | nats-server at A |",
    );
    line(out, "| --- | --- | ---: | ---: | ---: | ---: |");
    type Figure = fn(Beside) -> f64;
    type Show = fn(f64) -> String;
    let figures: [(&str, Figure, Show); 4] = [
        (
            "on time",
            |beside| beside.throughput_share * 100.0,
            |percent| format!("{percent:.0} %"),
        ),
        (
            "longest time without any, in milliseconds",
            |beside| beside.gap_milliseconds,
            |milliseconds| format!("{milliseconds:.0}"),
        ),
        (
            "the slow one took, in MB/s",
            |beside| beside.slow_bytes_per_second / 1e6,
            |rate| format!("{rate:.1}"),
        ),
        (
            "rounds in which it was dropped",
            |beside| f64::from(u8::from(beside.is_slow_dropped)) * 100.0,
            |percent| format!("{percent:.0} %"),
        ),
    ];
    for cell in cells {
        for (name, figure, show) in figures {
            let columns = CLUSTERS.map(|program| {
                spread(cell.program(program).and_then(|it| it.beside(figure)), show)
            });
            line(
                out,
                &format!("| {} | {name} | {} |", cell.cell.title, columns.join(" | ")),
            );
        }
    }
}

fn floor(out: &mut String, record: &Record) {
    let cells: Vec<_> = record.cells_by(Measure::Floor).collect();
    if cells.is_empty() {
        return;
    }
    line(
        out,
        "\n## The floor\n\nA process that only copies one socket to another: what the bytes cost \
         without a server.\n",
    );
    line(out, "| cell | processor | wall |\n| --- | ---: | ---: |");
    for cell in cells {
        let copy = cell.program(Program::Copy);
        line(
            out,
            &format!(
                "| {} | {} | {} |",
                cell.cell.title,
                spread(copy.and_then(|record| record.figure), rate),
                shown(copy.and_then(wall).map(|wall| rate(wall.median))),
            ),
        );
    }
}

fn bounds(out: &mut String, record: &Record) {
    if record.cells.iter().all(|cell| cell.advantage.is_none()) {
        return;
    }
    line(
        out,
        "\n## Bounds\n\n| bound | measured | |\n| --- | --- | --- |",
    );
    for bound in check::bounds(record) {
        let verdict = if bound.is_met { "met" } else { "**missed**" };
        line(
            out,
            &format!("| {} | {} | {verdict} |", bound.text, bound.measured),
        );
    }
}

fn failures(out: &mut String, record: &Record) {
    let failures: Vec<_> = record
        .cells
        .iter()
        .flat_map(|cell| &cell.failures)
        .collect();
    if failures.is_empty() {
        return;
    }
    line(out, "\n## Runs that failed\n");
    for failure in failures {
        line(out, &format!("- {}", failure.text));
    }
}

fn both(cell: &CellRecord) -> (Option<&ProgramRecord>, Option<&ProgramRecord>) {
    (
        cell.program(Program::NatsServer),
        cell.program(Program::Natterjackd),
    )
}

fn wall(record: &ProgramRecord) -> Option<Summary> {
    record.wall_rate()
}

fn spread(summary: Option<Summary>, show: impl Fn(f64) -> String) -> String {
    shown(summary.map(|summary| {
        if summary.min < summary.max {
            format!(
                "{} ({}–{})",
                show(summary.median),
                show(summary.min),
                show(summary.max)
            )
        } else {
            show(summary.median)
        }
    }))
}

fn advantage(summary: Option<Summary>) -> String {
    shown(summary.map(|summary| {
        if summary.min < summary.max {
            format!(
                "**{:.2}** ({:.2}–{:.2})",
                summary.median, summary.min, summary.max
            )
        } else {
            format!("**{:.2}**", summary.median)
        }
    }))
}

fn shown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}

fn bytes(bytes: f64) -> String {
    if bytes.abs() >= 1024.0 * 1024.0 {
        format!("{:.2} MiB", bytes / 1024.0 / 1024.0)
    } else {
        format!("{:.2} KiB", bytes / 1024.0)
    }
}

fn thousands(number: u64) -> String {
    if number < 1000 {
        number.to_string()
    } else {
        format!("{},{:03}", thousands(number / 1000), number % 1000)
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::{rate, thousands};

    #[test]
    fn rates_have_three_digits() {
        assert_eq!(rate(4_512_345.0), "4.51 M");
        assert_eq!(rate(98_249.0), "98.2 k");
        assert_eq!(rate(999_600.0), "1.00 M");
        assert_eq!(rate(123_456_789.0), "123 M");
        assert_eq!(rate(12.0), "12.0");
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(5000), "5,000");
        assert_eq!(thousands(1_002_003), "1,002,003");
    }
}
