//! The two formats of text that Prometheus reads: its own, version 0.0.4, and OpenMetrics 1.0.

use std::fmt::{Display, Write as _};

/// Which of the formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpositionFormat {
    /// Prometheus's own, version 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl ExpositionFormat {
    /// The one that the value of an `Accept` header prefers. Whoever does not mention OpenMetrics gets the older format, which
    /// everything reads.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let quality = |wanted: &str| {
            let kinds = accept.split(',').map(|kind| {
                let mut parts = kind.split(';').map(str::trim);
                let name = parts.next().unwrap_or_default().to_ascii_lowercase();
                let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
                (name, quality.unwrap_or(1.0))
            });
            let fitting = kinds.filter(|(name, _)| name == wanted);
            fitting.map(|(_, quality)| quality).fold(0.0, f32::max)
        };
        let open = quality("application/openmetrics-text");
        if open > 0.0 && open >= quality("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The media type of an answer in it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a number does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It goes up and down.
    Gauge,
    /// It goes up, from the start of the process on. Its samples' names end in `_total`.
    Counter,
    /// It says nothing but by its labels, and is always 1. Its samples' names end in `_info`.
    Info,
    /// It is a distribution: see [`Exposition::histogram`].
    Histogram,
}

/// Metrics as text: families, each with its samples.
#[derive(Debug)]
pub struct Exposition {
    format: ExpositionFormat,
    text: String,
    family: String,
}

impl Exposition {
    /// Nothing so far.
    #[must_use]
    pub fn new(format: ExpositionFormat) -> Self {
        Self {
            format,
            text: String::with_capacity(16 * 1024),
            family: String::new(),
        }
    }

    /// Begins a family. Its `name` is without the ending that its kind brings along. Each name may be used once.
    pub fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        let ending = match kind {
            MetricKind::Gauge | MetricKind::Histogram => "",
            MetricKind::Counter => "_total",
            MetricKind::Info => "_info",
        };
        self.family = format!("{name}{ending}");
        // In OpenMetrics a family is called without the ending; in the older format, which does not know info, with it.
        let (shown, kind) = match (self.format, kind) {
            (ExpositionFormat::OpenMetrics, MetricKind::Counter) => (name, "counter"),
            (ExpositionFormat::OpenMetrics, MetricKind::Info) => (name, "info"),
            (ExpositionFormat::Prometheus, MetricKind::Counter) => (&*self.family, "counter"),
            (_, MetricKind::Histogram) => (name, "histogram"),
            (_, MetricKind::Gauge | MetricKind::Info) => (&*self.family, "gauge"),
        };
        writeln!(self.text, "# HELP {shown} {help}\n# TYPE {shown} {kind}")
            .expect("a string takes everything");
    }

    /// Adds a sample to the family begun last.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.named_sample("", labels, value);
    }

    /// A family with one distribution. `buckets` are their upper ends, ascending, and how many values are in each alone;
    /// `count` and `sum` are of all values, those beyond the last bucket included.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        buckets: impl IntoIterator<Item = (f64, u64)>,
        (count, sum): (u64, f64),
    ) {
        self.family(name, MetricKind::Histogram, help);
        let mut below = 0;
        for (end, values) in buckets {
            below += values;
            let end = format!("{end:?}");
            self.named_sample("_bucket", &[labels, &[("le", &end)]].concat(), below);
        }
        self.named_sample("_bucket", &[labels, &[("le", "+Inf")]].concat(), count);
        self.named_sample("_sum", labels, sum);
        self.named_sample("_count", labels, count);
    }

    fn named_sample(&mut self, ending: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.family);
        self.text.push_str(ending);
        for (position, (name, value)) in labels.iter().enumerate() {
            self.text.push(if position == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.push_escaped(value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        writeln!(self.text, " {value}").expect("a string takes everything");
    }

    /// A family with one sample.
    pub fn single(
        &mut self,
        name: &str,
        kind: MetricKind,
        help: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) {
        self.family(name, kind, help);
        self.sample(labels, value);
    }

    /// All of it.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == ExpositionFormat::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn push_escaped(&mut self, value: &str) {
        for letter in value.chars() {
            match letter {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_spelt_as_their_readers_expect() {
        let written = |format| {
            let mut text = Exposition::new(format);
            text.single("a", MetricKind::Gauge, "Words.", &[("x", "\"\\\n")], 1.5);
            text.single("b", MetricKind::Counter, "More.", &[], 2);
            text.single("c", MetricKind::Info, "Who.", &[("v", "1"), ("w", "2")], 1);
            text.histogram(
                "d",
                "How long.",
                &[("n", "x")],
                [(0.5, 1), (1.0, 2)],
                (4, 9.5),
            );
            text.finish()
        };
        assert_eq!(
            written(ExpositionFormat::Prometheus),
            "# HELP a Words.\n# TYPE a gauge\na{x=\"\\\"\\\\\\n\"} 1.5\n\
             # HELP b_total More.\n# TYPE b_total counter\nb_total 2\n\
             # HELP c_info Who.\n# TYPE c_info gauge\nc_info{v=\"1\",w=\"2\"} 1\n\
             # HELP d How long.\n# TYPE d histogram\nd_bucket{n=\"x\",le=\"0.5\"} 1\nd_bucket{n=\"x\",le=\"1.0\"} 3\n\
             d_bucket{n=\"x\",le=\"+Inf\"} 4\nd_sum{n=\"x\"} 9.5\nd_count{n=\"x\"} 4\n"
        );
        assert_eq!(
            written(ExpositionFormat::OpenMetrics),
            "# HELP a Words.\n# TYPE a gauge\na{x=\"\\\"\\\\\\n\"} 1.5\n\
             # HELP b More.\n# TYPE b counter\nb_total 2\n\
             # HELP c Who.\n# TYPE c info\nc_info{v=\"1\",w=\"2\"} 1\n\
             # HELP d How long.\n# TYPE d histogram\nd_bucket{n=\"x\",le=\"0.5\"} 1\nd_bucket{n=\"x\",le=\"1.0\"} 3\n\
             d_bucket{n=\"x\",le=\"+Inf\"} 4\nd_sum{n=\"x\"} 9.5\nd_count{n=\"x\"} 4\n# EOF\n"
        );
    }

    #[test]
    fn readers_get_the_format_they_prefer() {
        use ExpositionFormat::{OpenMetrics, Prometheus};
        for (accept, format) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/plain;version=0.0.4", Prometheus),
            ("application/openmetrics-text; version=1.0.0", OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;q=0.1,text/plain;q=0.9",
                Prometheus,
            ),
            ("application/openmetrics-text;q=0", Prometheus),
        ] {
            assert_eq!(ExpositionFormat::accepted(accept), format, "{accept}");
        }
    }
}
