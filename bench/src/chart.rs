//! The record as a picture: a bar for each cell, how many times better natterjackd is, on a logarithmic
//! axis. Written by hand as SVG, for a light background and a width of 800 pixels.

use std::fmt::Write as _;

use crate::cells::{Cell, Encryption, Load, Measure};
use crate::generator::Latency;
use crate::record::{CellRecord, Record};
use crate::servers::Program;
use crate::statistics::Summary;

const WIDTH: f64 = 800.0;
/// Where the axis begins and ends; labels stand to the left, values to the right.
const AXIS_LEFT: f64 = 300.0;
const AXIS_RIGHT: f64 = 720.0;
const TOP: f64 = 88.0;
const ROW_HEIGHT: f64 = 24.0;
const BAR_HEIGHT: f64 = 14.0;
const GROUP_GAP: f64 = 34.0;

const COLOUR_THROUGHPUT: &str = "#2f7d4f";
const COLOUR_OTHER: &str = "#3b6ea8";
const COLOUR_WORSE: &str = "#b5482f";

/// The drawing; empty of bars when only one server ran.
pub(crate) fn svg(record: &Record) -> String {
    let groups = groups(record);
    let axis = Axis::over(
        groups
            .iter()
            .flat_map(|group| &group.bars)
            .map(|bar| bar.advantage),
    );
    let mut out = String::new();
    let rows: f64 = groups
        .iter()
        .map(|group| GROUP_GAP + group.bars.len() as f64 * ROW_HEIGHT)
        .sum();
    let bottom = TOP + rows;
    header(&mut out, record, bottom + 64.0);
    axis.draw_labels(&mut out, bottom + 24.0);
    let mut y = TOP;
    for group in &groups {
        text(
            &mut out,
            20.0,
            y + 18.0,
            "start",
            "font-weight=\"bold\" fill=\"#333\"",
            group.title,
        );
        y += GROUP_GAP - 6.0;
        axis.draw_lines(&mut out, y, y + group.bars.len() as f64 * ROW_HEIGHT);
        for bar in &group.bars {
            bar.draw(&mut out, &axis, y, group.colour);
            y += ROW_HEIGHT;
        }
        y += 6.0;
    }
    footer(&mut out, record, bottom + 50.0);
    out.push_str("</svg>\n");
    out
}

struct Group {
    title: &'static str,
    colour: &'static str,
    bars: Vec<Bar>,
}

struct Bar {
    label: String,
    advantage: Summary,
}

fn groups(record: &Record) -> Vec<Group> {
    let throughput = Group {
        title: "Messages per second of server processor time",
        colour: COLOUR_THROUGHPUT,
        bars: record
            .cells_by(Measure::Throughput)
            .filter_map(bar)
            .collect(),
    };
    let encrypted = Group {
        title: "The same over TLS",
        colour: COLOUR_THROUGHPUT,
        bars: record
            .cells_by(Measure::EncryptedThroughput)
            .filter_map(bar)
            .collect(),
    };
    let clusters = Group {
        title: "The same of all servers of a cluster",
        colour: COLOUR_THROUGHPUT,
        bars: record
            .cells_by(Measure::ClusterThroughput)
            .filter_map(bar)
            .collect(),
    };
    let mut others = Vec::new();
    if let Some(cell) = record.cell("request-1") {
        others.extend(latency_bar(cell, "p50", |latency| latency.p50_microseconds));
        others.extend(latency_bar(cell, "p99", |latency| latency.p99_microseconds));
    }
    others.extend(record.cells_by(Measure::OneWay).filter_map(bar));
    others.extend(record.cells_by(Measure::ConnectRate).filter_map(bar));
    others.extend(record.cells_by(Measure::Memory).filter_map(bar));
    others.extend(record.cells_by(Measure::Joining).filter_map(bar));
    let others = Group {
        title: "Latency, connections, memory",
        colour: COLOUR_OTHER,
        bars: others,
    };
    [throughput, encrypted, clusters, others]
        .into_iter()
        .filter(|group| !group.bars.is_empty())
        .collect()
}

fn bar(cell: &CellRecord) -> Option<Bar> {
    Some(Bar {
        label: label(cell.cell),
        advantage: cell.advantage?,
    })
}

fn latency_bar(cell: &CellRecord, name: &str, percentile: impl Fn(Latency) -> f64) -> Option<Bar> {
    let of = |program| {
        cell.program(program)?
            .over_rounds(|round| round.latency.map(&percentile))
    };
    let (theirs, ours) = (of(Program::NatsServer)?, of(Program::Natterjackd)?);
    let median = theirs.median / ours.median;
    // A percentile has no ratio of its own in each round: the bar is drawn without a whisker.
    Some(Bar {
        label: format!("{name} of a request, one in flight"),
        advantage: Summary {
            median,
            min: median,
            max: median,
        },
    })
}

/// Titles are made for a table; a few are too long for the margin.
fn label(cell: &Cell) -> String {
    match cell.load {
        Load::Requests { in_flight } if cell.nodes > 1 => {
            format!("request A, reply B, {in_flight} in flight")
        }
        Load::Requests { in_flight } => format!("request-reply, {in_flight} in flight, 16 B"),
        Load::Joining { .. } => "joining 100,000 subscriptions".to_owned(),
        Load::ConnectRate => match cell.encryption {
            Encryption::None => "connections opened and closed".to_owned(),
            Encryption::Tls => "the same with TLS".to_owned(),
            Encryption::MutualTls => "the same with TLS and certificates".to_owned(),
        },
        Load::IdleConnections => match cell.encryption {
            Encryption::None => "memory of an idle connection".to_owned(),
            Encryption::Tls | Encryption::MutualTls => {
                "memory of an idle TLS connection".to_owned()
            }
        },
        Load::IdleServer => "memory of an idle server".to_owned(),
        Load::OneWay { .. } => {
            format!("p99, {}", cell.title.replace(" at 5,000 a second", ""))
        }
        Load::Flow(_) | Load::Copy { .. } | Load::Beside { .. } | Load::Watched { .. } => cell
            .title
            .replace(
                "100,000 random subjects under `dev.>`",
                "100,000 random subjects",
            )
            .replace("100,000 wildcard subscriptions", "100,000 wildcards")
            .replace(" under `dev.>`", "")
            .replace(", a subject each", "")
            .replace(" in a queue group on A, B and C", " in a group on A, B, C"),
    }
}

/// A logarithmic axis whose ends are powers of two.
struct Axis {
    exponent_min: f64,
    exponent_max: f64,
}

impl Axis {
    fn over(advantages: impl Iterator<Item = Summary>) -> Self {
        let (mut min, mut max) = (1.0_f64, 4.0_f64);
        for advantage in advantages {
            min = min.min(advantage.min);
            max = max.max(advantage.max);
        }
        // Whatever was measured, the axis stays finite: 1/64 to 1024.
        Self {
            exponent_min: min.max(1.0 / 64.0).log2().floor(),
            exponent_max: max.min(1024.0).log2().ceil(),
        }
    }

    fn x(&self, ratio: f64) -> f64 {
        let exponent = ratio.log2().clamp(self.exponent_min, self.exponent_max);
        let share = (exponent - self.exponent_min) / (self.exponent_max - self.exponent_min);
        AXIS_LEFT + share * (AXIS_RIGHT - AXIS_LEFT)
    }

    /// The marks of the axis: every power of two.
    fn ratios(&self) -> impl Iterator<Item = f64> {
        let steps = (self.exponent_max - self.exponent_min) as u32;
        let first = self.exponent_min.exp2();
        (0..=steps).map(move |step| first * f64::from(step).exp2())
    }

    fn draw_lines(&self, out: &mut String, top: f64, bottom: f64) {
        for ratio in self.ratios() {
            let (colour, width) = if ratio == 1.0 {
                ("#333", 1.5)
            } else {
                ("#ddd", 1.0)
            };
            line(
                out,
                (self.x(ratio), top),
                (self.x(ratio), bottom),
                colour,
                width,
            );
        }
    }

    fn draw_labels(&self, out: &mut String, y: f64) {
        for ratio in self.ratios() {
            let name = if ratio < 1.0 {
                format!("1/{}×", 1.0 / ratio)
            } else {
                format!("{ratio}×")
            };
            text(out, self.x(ratio), y, "middle", "fill=\"#555\"", &name);
        }
    }
}

impl Bar {
    fn draw(&self, out: &mut String, axis: &Axis, y: f64, colour: &str) {
        let Summary { median, min, max } = self.advantage;
        let middle = y + ROW_HEIGHT / 2.0;
        text(
            out,
            AXIS_LEFT - 12.0,
            middle + 4.5,
            "end",
            "fill=\"#222\"",
            &self.label,
        );
        let colour = if median < 1.0 { COLOUR_WORSE } else { colour };
        let (from, to) = (axis.x(median.min(1.0)), axis.x(median.max(1.0)));
        put(
            out,
            &format!(
                "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR_HEIGHT}\" fill=\"{colour}\"/>",
                middle - BAR_HEIGHT / 2.0,
                to - from
            ),
        );
        if min < max {
            line(
                out,
                (axis.x(min), middle),
                (axis.x(max), middle),
                "#111",
                1.2,
            );
        }
        let end = axis.x(median.max(max).max(1.0));
        let value = format!("{median:.2}×");
        text(
            out,
            end + 8.0,
            middle + 4.5,
            "start",
            "font-weight=\"bold\" fill=\"#222\"",
            &value,
        );
    }
}

fn header(out: &mut String, record: &Record, height: f64) {
    put(
        out,
        &format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"13\">"
        ),
    );
    put(
        out,
        &format!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>"),
    );
    let title = "How many times better natterjackd is than nats-server";
    text(
        out,
        20.0,
        32.0,
        "start",
        "font-size=\"18\" font-weight=\"bold\" fill=\"#111\"",
        title,
    );
    let machine = &record.machine;
    let subtitle = format!(
        "{}, {} processors, Linux {}; {}; {} run, {} round(s)",
        machine.processor,
        machine.processors,
        machine.kernel,
        record.date,
        record.mode,
        record.rounds
    );
    text(
        out,
        20.0,
        54.0,
        "start",
        "font-size=\"12\" fill=\"#555\"",
        &subtitle,
    );
    let versions = format!(
        "{}; {}",
        record.nats_server_version, record.natterjackd_version
    );
    text(
        out,
        20.0,
        72.0,
        "start",
        "font-size=\"12\" fill=\"#555\"",
        &versions,
    );
}

fn footer(out: &mut String, record: &Record, y: f64) {
    let mean = record.geometric_mean.map_or_else(String::new, |mean| {
        format!("Geometric mean of the upper bars: {mean:.2}×. ")
    });
    let note =
        format!("{mean}Bars are medians, thin lines reach from the least to the best round.");
    text(
        out,
        20.0,
        y,
        "start",
        "font-size=\"12\" fill=\"#333\"",
        &note,
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, style: &str, content: &str) {
    let content = content
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    put(
        out,
        &format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {style}>{content}</text>"
        ),
    );
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
    put(
        out,
        &format!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            from.0, from.1, to.0, to.1
        ),
    );
}

fn put(out: &mut String, element: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{element}");
}

#[cfg(test)]
mod tests {
    use super::{AXIS_LEFT, AXIS_RIGHT, Axis};
    use crate::statistics::Summary;

    fn axis(min: f64, max: f64) -> Axis {
        Axis::over(
            [Summary {
                median: min,
                min,
                max,
            }]
            .into_iter(),
        )
    }

    #[test]
    fn the_axis_spans_what_was_measured() {
        let axis = axis(0.7, 9.0);
        assert_eq!((axis.x(0.5), axis.x(16.0)), (AXIS_LEFT, AXIS_RIGHT));
        assert!(axis.x(0.5) < axis.x(1.0) && axis.x(1.0) < axis.x(2.0));
        // Equal steps for equal factors.
        assert!(((axis.x(4.0) - axis.x(2.0)) - (axis.x(2.0) - axis.x(1.0))).abs() < 1e-9);
    }

    #[test]
    fn the_axis_stays_finite() {
        let axis = axis(0.0, f64::INFINITY);
        assert_eq!(
            (axis.x(1.0 / 64.0), axis.x(1024.0)),
            (AXIS_LEFT, AXIS_RIGHT)
        );
    }
}
