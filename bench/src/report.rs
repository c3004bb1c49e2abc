//! The record as Markdown.

use std::fmt::Write as _;

use crate::cells::{Encryption, Measure};
use crate::check;
use crate::generator::Sample;
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
    let rows = record.cells_by(measure).map(|cell| {
        let (theirs, ours) = both(cell);
        let (their_wall, our_wall) = (theirs.and_then(wall), ours.and_then(wall));
        let wall_ratio = our_wall
            .zip(their_wall)
            .map(|(ours, theirs)| ours.median / theirs.median);
        vec![
            cell.cell.title.to_owned(),
            spread(theirs.and_then(|record| record.figure), rate),
            spread(ours.and_then(|record| record.figure), rate),
            advantage(cell.advantage),
            shown(their_wall.map(|wall| rate(wall.median))),
            shown(our_wall.map(|wall| rate(wall.median))),
            shown(wall_ratio.map(|ratio| format!("{ratio:.2}"))),
        ]
    });
    let head = "cell | nats-server, processor: | natterjackd, processor: | ×: | nats-server, wall: | natterjackd, wall: | × wall:";
    section(out, &format!("## {title}\n\n{note}"), head, rows);
}

/// What a table says of a cell in one row: how it is called, where it is found in a round, and how it is shown.
type Figure = (&'static str, fn(&Sample) -> Option<f64>, fn(f64) -> String);

const PERCENTILES: [Figure; 3] = [
    ("p50", |round| Some(round.latency?.p50_microseconds), whole),
    ("p99", |round| Some(round.latency?.p99_microseconds), whole),
    (
        "p99.9",
        |round| Some(round.latency?.p999_microseconds),
        whole,
    ),
];

/// A row for each figure of a cell: the figure's name and what each program had.
fn figure_rows(cell: &CellRecord, programs: &[Program], figures: &[Figure]) -> Vec<Vec<String>> {
    let row = |&(name, figure, show): &Figure| {
        let column = |&program: &Program| spread(over_rounds(cell, program, figure), show);
        let columns = programs.iter().map(column);
        [name.to_owned()].into_iter().chain(columns).collect()
    };
    figures.iter().map(row).collect()
}

/// The same of figures of which less is better, with a column for how many times better natterjackd is.
fn compared_rows(cell: &CellRecord, programs: &[Program], figures: &[Figure]) -> Vec<Vec<String>> {
    let mut rows = figure_rows(cell, programs, figures);
    for (row, &(_, figure, _)) in rows.iter_mut().zip(figures) {
        let theirs = over_rounds(cell, Program::NatsServer, figure);
        let ours = over_rounds(cell, Program::Natterjackd, figure);
        // Behind the figure's name and both programs.
        row.insert(3, times_less(theirs, ours));
    }
    rows
}

/// Rows with the cell's title before them.
fn titled(cell: &CellRecord, rows: Vec<Vec<String>>) -> impl Iterator<Item = Vec<String>> {
    let title = cell.cell.title;
    let with_title = move |row: Vec<String>| {
        [title.to_owned()]
            .into_iter()
            .chain(row)
            .collect::<Vec<_>>()
    };
    rows.into_iter().map(with_title)
}

fn over_rounds(
    cell: &CellRecord,
    program: Program,
    figure: fn(&Sample) -> Option<f64>,
) -> Option<Summary> {
    cell.program(program)?.over_rounds(figure)
}

fn has_latency(cell: &&CellRecord) -> bool {
    let mut rounds = cell.programs.iter().flat_map(|program| &program.rounds);
    rounds.any(|round| round.latency.is_some())
}

fn latencies(out: &mut String, record: &Record) {
    let cells = (record.cells.iter()).filter(|cell| cell.cell.nodes == 1);
    let rows = cells
        .filter(has_latency)
        .flat_map(|cell| titled(cell, compared_rows(cell, &BOTH, &PERCENTILES)));
    section(
        out,
        "## Time from request to reply\n\nMicroseconds, seen by the requester.",
        "cell | percentile | nats-server: | natterjackd: | ×:",
        rows,
    );
}

fn memory(out: &mut String, record: &Record) {
    let rows = record.cells_by(Measure::Memory).map(|cell| {
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
        vec![
            title,
            spread(theirs.and_then(|record| record.figure), bytes),
            spread(ours.and_then(|record| record.figure), bytes),
            advantage(cell.advantage),
        ]
    });
    section(
        out,
        "## Memory\n\nResident set of the server.",
        "cell | nats-server: | natterjackd: | ×:",
        rows,
    );
}

fn watched(out: &mut String, record: &Record) {
    let figures: [Figure; 4] = [
        (
            "of the messages a second while nobody asks",
            |round| Some(round.watched?.throughput_share * 100.0),
            percent,
        ),
        (
            "longest time without any, in milliseconds",
            |round| Some(round.watched?.gap_milliseconds),
            whole,
        ),
        (
            "the same while nobody asks",
            |round| Some(round.watched?.gap_alone_milliseconds),
            whole,
        ),
        (
            "pages a second",
            |round| Some(round.watched?.pages_per_second),
            tenths,
        ),
    ];
    let rows = record
        .cells_by(Measure::Watched)
        .flat_map(|cell| titled(cell, figure_rows(cell, &BOTH, &figures)));
    section(
        out,
        "## While somebody watches\n\nOne after another, without a pause, the pages of monitoring are asked for, those of \
         all connections with their subscriptions among them. Who asks has the same processors.",
        "cell | figure | nats-server: | natterjackd:",
        rows,
    );
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
    cluster_verdicts(out, record);
    joining(out, record);
    beside(out, record);
}

fn cluster_places(out: &mut String, record: &Record) {
    let cost = |cell: &CellRecord, program, node| cell.program(program)?.node_cost(node);
    let row = |cell: &CellRecord, node: usize| {
        let theirs = cost(cell, Program::NatsServer, node);
        let ours = cost(cell, Program::Natterjackd, node);
        let mixed = [Program::OursFirst, Program::TheirsFirst]
            .into_iter()
            .filter(|mix| mix.at(node) == Program::Natterjackd)
            .find_map(|mix| cost(cell, mix, node));
        vec![
            cell.cell.title.to_owned(),
            check::place(node).to_string(),
            spread(theirs, whole),
            spread(ours, whole),
            times_less(theirs, ours),
            spread(mixed, whole),
            times_less(theirs, mixed),
        ]
    };
    let rows = record
        .cells_by(Measure::ClusterThroughput)
        .flat_map(|cell| (0..cell.cell.nodes).map(move |node| row(cell, node)));
    section(
        out,
        "### Server by server\n\nNanoseconds of processor time for each message in or out. In a mixed cluster \
         natterjackd and nats-server take turns; the × there compares with a cluster of nats-servers.",
        "cell | server | nats-server: | natterjackd: | ×: | natterjackd among nats-servers: | ×:",
        rows,
    );
}

/// Programs that are not in a cluster, in the order of the columns.
const BOTH: [Program; 2] = [Program::NatsServer, Program::Natterjackd];

/// Every kind of cluster, in the order of the columns.
const CLUSTERS: [Program; 4] = [
    Program::NatsServer,
    Program::Natterjackd,
    Program::OursFirst,
    Program::TheirsFirst,
];

fn cluster_latencies(out: &mut String, record: &Record) {
    let head = "cell | percentile | nats-server: | natterjackd: | ×: | natterjackd at A: | nats-server at A:";
    let rows = record
        .cells_by(Measure::ClusterThroughput)
        .filter(has_latency)
        .flat_map(|cell| titled(cell, compared_rows(cell, &CLUSTERS, &PERCENTILES)));
    section(
        out,
        "### Time from request to reply\n\nMicroseconds. Mixed clusters by the program at A.",
        head,
        rows,
    );
    let rows = record
        .cells_by(Measure::OneWay)
        .flat_map(|cell| titled(cell, compared_rows(cell, &CLUSTERS, &PERCENTILES)));
    section(
        out,
        "### Time from publisher to subscriber\n\nMicroseconds. Messages are sent one by one at a pace that every server \
         keeps, and the same for all. Mixed clusters by the program at A.",
        head,
        rows,
    );
}

/// Which cell keeps its bounds in which cluster.
fn cluster_verdicts(out: &mut String, record: &Record) {
    let judged = |value: Option<String>, is_met: bool| {
        let verdict = if is_met { "met" } else { "**missed**" };
        shown(value.map(|value| format!("{value}, {verdict}")))
    };
    let rows = check::demanded(record).into_iter().map(|verdict| {
        let [title, cluster, processor, latency] = verdict_columns(&verdict);
        vec![
            shown(title),
            shown(cluster),
            judged(processor, verdict.is_processor_met()),
            judged(latency, verdict.is_latency_met()),
        ]
    });
    let head = "messages | cluster | processor time, of nats-server's: | p99, µs:";
    section(
        out,
        "### Bound by bound\n\nWithout a pace a message is to cost at most a third of nats-server's processor time; at a pace, and of \
         requests, p99 is not to be above nats-server's. Both against a cluster of nats-servers. Where natterjackd and \
         nats-server take turns, the processor time is that of the natterjackd that compares worst with a nats-server in its place.",
        head,
        rows,
    );
    let rows = check::beyond(record)
        .into_iter()
        .map(|verdict| verdict_columns(&verdict).map(shown).to_vec());
    section(
        out,
        "#### Beyond these bounds\n\nThe same figures of what is not held to a third: TLS and compression between servers, a part of which \
         costs both programs the same; messages that come one by one, for each of which the system wakes a server and is \
         called three times, whichever it is; and what is measured besides.",
        head,
        rows,
    );
}

fn verdict_columns(verdict: &check::Verdict) -> [Option<String>; 4] {
    let cluster = match verdict.cluster {
        Program::OursFirst => "natterjackd at A",
        Program::TheirsFirst => "nats-server at A",
        other => other.name(),
    };
    [
        Some(verdict.title.to_owned()),
        Some(cluster.to_owned()),
        verdict
            .processor_share
            .map(|share| format!("{:.1} %", share * 100.0)),
        verdict
            .p99_microseconds
            .map(|(ours, theirs)| format!("{ours:.0} against {theirs:.0}")),
    ]
}

fn joining(out: &mut String, record: &Record) {
    let figures: [Figure; 4] = [
        (
            "milliseconds until all are routed to",
            |round| Some(round.joining?.seconds * 1e3),
            whole,
        ),
        (
            "told each other meanwhile",
            |round| Some(round.joining?.bytes as f64),
            bytes,
        ),
        (
            "messages over A on time, meanwhile",
            |round| Some(round.joining?.throughput_share * 100.0),
            percent,
        ),
        (
            "longest time without any, in milliseconds",
            |round| Some(round.joining?.gap_milliseconds),
            tenths,
        ),
    ];
    for cell in record.cells_by(Measure::Joining) {
        section(
            out,
            &format!("### {}", cell.cell.title),
            "figure | nats-server: | natterjackd: | natterjackd is A: | nats-server is A:",
            figure_rows(cell, &CLUSTERS, &figures),
        );
    }
}

fn beside(out: &mut String, record: &Record) {
    let figures: [Figure; 4] = [
        (
            "on time",
            |round| Some(round.beside?.throughput_share * 100.0),
            percent,
        ),
        (
            "longest time without any, in milliseconds",
            |round| Some(round.beside?.gap_milliseconds),
            whole,
        ),
        (
            "the slow one took, in MB/s",
            |round| Some(round.beside?.slow_bytes_per_second / 1e6),
            tenths,
        ),
        (
            "rounds in which it was dropped",
            |round| Some(f64::from(u8::from(round.beside?.is_slow_dropped)) * 100.0),
            percent,
        ),
    ];
    let rows = record
        .cells_by(Measure::Beside)
        .flat_map(|cell| titled(cell, figure_rows(cell, &CLUSTERS, &figures)));
    section(
        out,
        "### Beside a slow subscriber\n\nA publisher at A sends all it can to a subscriber at B that takes less, and \
         other messages go the same way. Mixed clusters by the program at A.",
        "cell | figure | nats-server: | natterjackd: | natterjackd at A: | nats-server at A:",
        rows,
    );
}

fn floor(out: &mut String, record: &Record) {
    let rows = record.cells_by(Measure::Floor).map(|cell| {
        let copy = cell.program(Program::Copy);
        vec![
            cell.cell.title.to_owned(),
            spread(copy.and_then(|record| record.figure), rate),
            shown(copy.and_then(wall).map(|wall| rate(wall.median))),
        ]
    });
    section(
        out,
        "## The floor\n\nA process that only copies one socket to another: what the bytes cost \
         without a server.",
        "cell | processor: | wall:",
        rows,
    );
}

fn bounds(out: &mut String, record: &Record) {
    if record.cells.iter().all(|cell| cell.advantage.is_none()) {
        return;
    }
    let rows = check::bounds(record).into_iter().map(|bound| {
        let verdict = if bound.is_met { "met" } else { "**missed**" };
        vec![bound.text.to_owned(), bound.measured, verdict.to_owned()]
    });
    section(out, "## Bounds", "bound | measured | verdict", rows);
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

/// How many times less the second one is.
fn times_less(theirs: Option<Summary>, ours: Option<Summary>) -> String {
    let ratio = theirs.zip(ours);
    shown(ratio.map(|(theirs, ours)| format!("**{:.2}**", theirs.median / ours.median)))
}

fn shown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}

fn whole(number: f64) -> String {
    format!("{number:.0}")
}

fn tenths(number: f64) -> String {
    format!("{number:.1}")
}

fn percent(percent: f64) -> String {
    format!("{percent:.0} %")
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

/// What stands above a table, its head with a bar between columns, and its rows; nothing of that without rows. A column
/// whose name ends with a colon is one of figures, which are put to the right.
fn section(out: &mut String, above: &str, head: &str, rows: impl IntoIterator<Item = Vec<String>>) {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return;
    }
    let (names, rules): (Vec<_>, Vec<_>) = head
        .split(" | ")
        .map(|column| match column.strip_suffix(':') {
            Some(name) => (name, "---:"),
            None => (column, "---"),
        })
        .unzip();
    line(out, &format!("\n{above}\n"));
    line(out, &format!("| {} |", names.join(" | ")));
    line(out, &format!("| {} |", rules.join(" | ")));
    for row in rows {
        assert_eq!(row.len(), names.len(), "a row unlike its head: {head}");
        line(out, &format!("| {} |", row.join(" | ")));
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
