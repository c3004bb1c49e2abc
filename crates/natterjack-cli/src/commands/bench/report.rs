//! The result of a benchmark, as text with a histogram or as JSON.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Characters of the longest bar of the histogram.
const BAR_MAX: u64 = 45;

#[derive(Serialize)]
pub(super) struct Report {
    pub(super) kind: &'static str,
    pub(super) publishers: u32,
    pub(super) subscribers: u32,
    pub(super) message_bytes: usize,
    pub(super) published: Rate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) received: Option<Rate>,
    pub(super) lost_messages: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency: Option<Latency>,
}

#[derive(Serialize)]
pub(super) struct Rate {
    messages: u64,
    seconds: f64,
    messages_per_second: u64,
    bytes_per_second: u64,
}

/// All in microseconds.
#[derive(Serialize)]
pub(super) struct Latency {
    min_us: f64,
    mean_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p99_9_us: f64,
    max_us: f64,
    #[serde(skip)]
    histogram: Histogram<u64>,
}

impl Rate {
    pub(super) fn new(messages: u64, message_bytes: usize, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        let messages_per_second = if seconds > 0.0 {
            messages as f64 / seconds
        } else {
            0.0
        };
        let bytes_per_second = messages_per_second * message_bytes as f64;
        Self {
            messages,
            seconds,
            messages_per_second: messages_per_second as u64,
            bytes_per_second: bytes_per_second as u64,
        }
    }
}

impl Latency {
    /// `None` if nothing was measured. The histogram counts nanoseconds.
    pub(super) fn new(histogram: Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let quantile = |quantile| microseconds(histogram.value_at_quantile(quantile));
        Some(Self {
            min_us: microseconds(histogram.min()),
            mean_us: histogram.mean() / 1e3,
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p99_9_us: quantile(0.999),
            max_us: microseconds(histogram.max()),
            histogram,
        })
    }
}

impl Report {
    pub(super) fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{}: {} publishers, {} subscribers, {} bytes a message\n",
            self.kind, self.publishers, self.subscribers, self.message_bytes
        );
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  published  {}", self.published);
        if let Some(received) = &self.received {
            let _ = writeln!(text, "  received   {received}");
        }
        if self.lost_messages > 0 {
            let _ = writeln!(
                text,
                "  LOST       {} messages",
                grouped(self.lost_messages)
            );
        }
        if let Some(latency) = &self.latency {
            let _ = write!(text, "{latency}");
        }
        text
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{:>13} in {:>7.3} s  {:>11} msgs/s  {}",
            grouped(self.messages),
            self.seconds,
            grouped(self.messages_per_second),
            throughput(self.bytes_per_second)
        )
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = [
            ("min", self.min_us),
            ("mean", self.mean_us),
            ("p50", self.p50_us),
            ("p90", self.p90_us),
            ("p99", self.p99_us),
            ("p99.9", self.p99_9_us),
            ("max", self.max_us),
        ];
        // Two lines, because one would not fit the usual terminal.
        for (head, line) in ["  latency  ", "           "]
            .into_iter()
            .zip(named.chunks(4))
        {
            let mut text = String::from(head);
            for (name, value) in line {
                // Writing to a String cannot fail.
                let _ = write!(text, "  {name:<5} {:<9}", readable(*value));
            }
            writeln!(formatter, "{}", text.trim_end())?;
        }
        write_bars(formatter, &self.histogram)
    }
}

/// One bar for each doubling of the latency, from the first to the last that has any.
fn write_bars(
    formatter: &mut std::fmt::Formatter<'_>,
    histogram: &Histogram<u64>,
) -> std::fmt::Result {
    let first = histogram.min().max(1).ilog2();
    let last = histogram.max().max(1).ilog2();
    let counts: Vec<_> = (first..=last)
        .map(|power| {
            (
                power,
                histogram.count_between(1 << power, (1 << (power + 1)) - 1),
            )
        })
        .collect();
    let highest = counts
        .iter()
        .map(|(_, count)| *count)
        .max()
        .unwrap_or(0)
        .max(1);
    for (power, count) in counts {
        let above = readable((1_u64 << power) as f64 / 1e3);
        let below = readable((2_u64 << power) as f64 / 1e3);
        let bar = "█".repeat(usize::try_from(count * BAR_MAX / highest).unwrap_or(0));
        let share = count as f64 * 100.0 / histogram.len() as f64;
        let line = format!("  {above:>9} to {below:<9} {share:5.1}%  {bar}");
        writeln!(formatter, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Microseconds with a unit that suits them.
fn readable(microseconds: f64) -> String {
    match microseconds {
        value if value < 1.0 => format!("{:.0} ns", value * 1e3),
        value if value < 1e3 => format!("{value:.1} µs"),
        value if value < 1e6 => format!("{:.1} ms", value / 1e3),
        value => format!("{:.2} s", value / 1e6),
    }
}

/// A rate of bytes in the largest unit that leaves it two digits.
fn throughput(bytes_per_second: u64) -> String {
    if bytes_per_second < 10 << 20 {
        format!("{:>6} KiB/s", grouped(bytes_per_second >> 10))
    } else {
        format!("{:>6} MiB/s", grouped(bytes_per_second >> 20))
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(throughput(2 << 20), " 2,048 KiB/s");
        assert_eq!(throughput(2000 << 20), " 2,000 MiB/s");
        for (value, text) in [
            (0.5, "500 ns"),
            (12.34, "12.3 µs"),
            (1500.0, "1.5 ms"),
            (2e6, "2.00 s"),
        ] {
            assert_eq!(readable(value), text);
        }
    }

    #[test]
    fn a_report_has_quantiles_and_bars() {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        histogram.record_n(1500, 90).unwrap();
        histogram.record_n(5000, 10).unwrap();
        let report = Report {
            kind: "publish-subscribe",
            publishers: 1,
            subscribers: 2,
            message_bytes: 16,
            published: Rate::new(100, 16, Duration::from_millis(10)),
            received: None,
            lost_messages: 3,
            latency: Latency::new(histogram),
        };
        let text = report.text();
        assert!(
            text.contains("10,000 msgs/s") && text.contains("LOST       3 messages"),
            "{text}"
        );
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= 80 && line == line.trim_end()),
            "{text}"
        );
        assert!(
            text.contains("p50   1.5 µs") && text.contains("p99   5.0 µs"),
            "{text}"
        );
        assert!(
            text.contains(&format!(" 90.0%  {}\n", "█".repeat(45))),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["published"]["messages_per_second"], 10_000);
        assert!(json["latency"]["p99_us"].as_f64().unwrap() >= 5.0);
    }

    #[test]
    fn nothing_measured_is_no_latency() {
        assert!(Latency::new(Histogram::new_with_bounds(1, 1000, 3).unwrap()).is_none());
    }
}
