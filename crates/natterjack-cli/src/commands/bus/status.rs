//! `natterjack bus --status`: how the nodes of a running bus are.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use natterjack_bus::settings::Settings;
use natterjack_bus::{Metrics, statuses};

use crate::output::{Output, note};

/// How long to wait for a connection and the first answer.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A table for people
    Text,
    /// A line of JSON for each node
    Json,
    /// The text format of Prometheus
    Prometheus,
}

pub(super) async fn run(settings: &Settings, format: Format) -> anyhow::Result<ExitCode> {
    let all = statuses(settings, TIMEOUT).await?;
    let node = &settings.nats.client.name;
    let own = all.iter().find(|metrics| metrics.health.node == *node);
    let text = match format {
        Format::Text => table(&all, node),
        Format::Json => json(&all)?,
        Format::Prometheus => own.map(Metrics::prometheus).unwrap_or_default(),
    };
    let mut output = Output::start();
    output.write(text.into_bytes()).await?;
    output.finish().await?;
    let Some(own) = own else {
        note(format_args!(
            "this node, `{node}`, does not answer; is its bus running, with this name \
             (eventBus.nats.client.name) and the subject {}?",
            settings.nats.client.subject
        ));
        return Ok(ExitCode::FAILURE);
    };
    Ok(if own.health.is_ready && own.health.is_healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn json(all: &[Metrics]) -> serde_json::Result<String> {
    let mut text = String::new();
    for metrics in all {
        text.push_str(&serde_json::to_string(metrics)?);
        text.push('\n');
    }
    Ok(text)
}

fn table(all: &[Metrics], own: &str) -> String {
    const TITLES: [&str; 12] = [
        "NODE",
        "READY",
        "HEALTHY",
        "HOSTS",
        "PEERS",
        "PUBLISHED",
        "CONSUMED",
        "DROPPED",
        "BUFFERED",
        "RECONNECTS",
        "MOVES",
        "P99",
    ];
    let rows: Vec<_> = all.iter().map(|metrics| row(metrics, own)).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([TITLES[column].len()]).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in std::iter::once(&TITLES.map(String::from)).chain(&rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = if column == 0 {
                write!(line, "{cell:<width$}", width = width(column))
            } else {
                write!(line, "  {cell:>width$}", width = width(column))
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(metrics: &Metrics, own: &str) -> [String; 12] {
    let Metrics {
        stats,
        health,
        buffered_events,
        latency,
        ..
    } = metrics;
    let yes = |it: bool| if it { "yes" } else { "no" }.to_owned();
    let dropped = stats.refused_events
        + stats.lost_events
        + stats.missed_events
        + stats.overflowed_events
        + stats.undecodable_messages
        + stats.subscriber_dropped_events;
    let mark = if health.node == own { " *" } else { "" };
    [
        format!("{}{mark}", health.node),
        yes(health.is_ready),
        yes(health.is_healthy),
        format!("{}/{}", health.hosts_answering, health.required_hosts),
        health
            .server
            .as_ref()
            .map_or_else(|| "-".into(), |server| server.peers.len().to_string()),
        stats.published_events.to_string(),
        stats.received_events.to_string(),
        dropped.to_string(),
        buffered_events.to_string(),
        stats.reconnects.to_string(),
        stats.moves.to_string(),
        match latency.quantile(0.99) {
            Some(time) => format!("{time:?}"),
            None => "-".into(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, published: u64) -> Metrics {
        let health = json!({
            "node": name, "is_healthy": true, "is_ready": false, "is_connected": true,
            "server": {"url": "nats://127.0.0.1:4222", "is_running": true, "peers": ["b"], "routes": 2},
            "hosts": [], "hosts_answering": 2, "required_hosts": 2,
            "interval": {"secs": 15, "nanos": 0}, "refusal": null,
        });
        let stats = json!({"published_events": published, "lost_events": 1, "refused_events": 2, "moves": 1});
        let metrics = json!({
            "stats": stats, "health": health, "buffered_events": 0, "inbound_events": 0,
            "latency": {"counts": [], "sum_micros": 0},
        });
        serde_json::from_value(metrics).unwrap()
    }

    #[test]
    fn the_table_lines_up() {
        let table = table(&[node("a", 7), node("a-longer-name", 123_456_789_012)], "a");
        let expected = "\
NODE           READY  HEALTHY  HOSTS  PEERS     PUBLISHED  CONSUMED  DROPPED  BUFFERED  RECONNECTS  MOVES  P99
a *               no      yes    2/2      1             7         0        3         0           0      1    -
a-longer-name     no      yes    2/2      1  123456789012         0        3         0           0      1    -
";
        assert_eq!(table, expected);
    }

    #[test]
    fn json_is_a_line_for_each() {
        let text = json(&[node("a", 7), node("b", 8)]).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.starts_with("{\"stats\":{\"published_events\":7,"),
            "{text}"
        );
    }
}
