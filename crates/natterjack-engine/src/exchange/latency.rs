//! How long services take to answer: which requests are measured, and what is reported of each.
//!
//! A measured request ends in exactly one report: when it is answered, when nobody is there to answer it, when whoever
//! asked does not listen any more, or when its time is up.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::measures::RemoteMeasure;
use crate::access::{Latency, Sampling};
use crate::account::Account;
use crate::engine::Engine;
use crate::monitor::ConnectionSnapshot;
use crate::monitor::record::Record;
use crate::system::Report;

/// What came of a request that was measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LatencyReport {
    /// The account that answers, which is told.
    pub account: Arc<Account>,
    /// The subject it is told on.
    pub subject: String,
    /// What came of it.
    pub outcome: LatencyOutcome,
    /// Who asked.
    pub requestor: ConnectionSnapshot,
    /// Whether the account that answers may know who asked in detail.
    pub is_shared: bool,
    /// The headers for which the request was measured, with names in canonical form and in order; none if it was by
    /// chance.
    pub headers: Headers,
    /// When the request came.
    pub requested: Instant,
}

/// What came of a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LatencyOutcome {
    /// It was answered.
    Answered {
        /// By whom; `None` for the server itself.
        responder: Option<ConnectionSnapshot>,
        /// After which time.
        after: Duration,
    },
    /// It was answered by a client of another server, which has told how long that took there.
    AnsweredElsewhere {
        /// What the other server has told.
        measure: RemoteMeasure,
        /// After which time the answer was here.
        after: Duration,
    },
    /// It could not be answered: it said no subject for that.
    BadRequest,
    /// Whoever asked stopped to listen for the answer.
    Abandoned,
    /// Nobody was there to answer it.
    Unavailable,
    /// It was not answered in time.
    TimedOut,
}

/// Headers by name, each with its values.
pub type Headers = Vec<(String, Vec<String>)>;

/// Bytes that headers take up, near enough. Linear in the headers.
pub(crate) fn header_bytes(headers: &Headers) -> usize {
    /// What a text takes besides its bytes: where it is, and what memory is lost around it.
    const OVERHEAD: usize = 64;
    let texts = headers.iter().flat_map(|(name, values)| {
        let values = values.iter().map(String::len);
        core::iter::once(name.len()).chain(values)
    });
    texts.map(|bytes| bytes + OVERHEAD).sum()
}

/// A request that is measured.
pub(crate) struct Tracked {
    pub(crate) engine: Weak<Engine>,
    pub(crate) latency: Arc<Latency>,
    /// The account that answers.
    pub(crate) account: Weak<Account>,
    pub(crate) requestor: Arc<Record>,
    pub(crate) is_shared: bool,
    pub(crate) headers: Headers,
    pub(crate) requested: Instant,
    /// What the server of whoever answers has told already.
    pub(crate) measure: Option<RemoteMeasure>,
}

impl Tracked {
    /// Reports what came of the request. If the server has more to report than it can, this is dropped.
    pub(crate) fn finish(self, outcome: LatencyOutcome) {
        let (Some(engine), Some(account)) = (self.engine.upgrade(), self.account.upgrade()) else {
            return;
        };
        engine.reports.push(Report::Latency(Box::new(LatencyReport {
            account,
            subject: self.latency.subject.clone(),
            outcome,
            requestor: self.requestor.snapshot(None),
            is_shared: self.is_shared,
            headers: self.headers,
            requested: self.requested,
        })));
    }

    /// Reports that it is being answered.
    pub(crate) fn answered(self, responder: Option<&Record>, now: Instant) {
        let after = now.saturating_duration_since(self.requested);
        self.finish(LatencyOutcome::Answered {
            responder: responder.map(|record| record.snapshot(None)),
            after,
        });
    }
}

/// Whether to measure a request with these headers, and because of which of them (nats-server `shouldSample`).
pub(crate) fn sample(
    sampling: Sampling,
    header: &[u8],
    chance: impl FnOnce() -> u64,
) -> Option<Headers> {
    if let Sampling::Percent(percent) = sampling
        && (percent >= 100 || chance() % 100 < u64::from(percent))
    {
        return Some(Headers::new());
    }
    let headers = parse(header);
    let first = |name: &str| {
        let found = headers.iter().find(|(known, _)| known == name);
        found.and_then(|(_, values)| values.first().map(String::as_str))
    };
    let only = |is_one: &dyn Fn(&str) -> bool| {
        let chosen = headers.iter().filter(|(name, _)| is_one(name));
        chosen.cloned().collect::<Headers>()
    };
    if let Some(identity) = first("Uber-Trace-Id") {
        let flags = identity.split(':').collect::<Vec<_>>();
        let is_hexadecimal =
            |flags: &str| (1..=2).contains(&flags.len()) && !flags.starts_with('+');
        let is_sampled = matches!(flags[..], [_, _, _, flags] if is_hexadecimal(flags)
            && u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1));
        let belongs = |name: &str| name == "Uber-Trace-Id" || name.starts_with("Uberctx-");
        return is_sampled.then(|| only(&belongs));
    }
    let decision = first("X-B3-Sampled");
    if decision == Some("0") {
        return None;
    }
    if decision == Some("1") || first("X-B3-Traceid").is_some() {
        const NAMES: [&str; 4] = [
            "X-B3-Sampled",
            "X-B3-Traceid",
            "X-B3-Parentspanid",
            "X-B3-Spanid",
        ];
        return Some(only(&|name| NAMES.contains(&name)));
    }
    if let Some(all) = first("B3") {
        let parts: Vec<&str> = all.split('-').collect();
        let is_denied = parts.get(2) == Some(&"0") || parts == ["0"];
        return (!is_denied).then(|| only(&|name| name == "B3"));
    }
    let parent: Vec<&str> = first("Traceparent")?.split('-').collect();
    // The original reads the flags as a signed number: those with the highest bit are none.
    let is_sampled = matches!(parent[..], [_, _, _, flags] if flags.len() == 2
        && i8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1));
    is_sampled.then(|| only(&|name| matches!(name, "Traceparent" | "Tracestate")))
}

/// Names and values of a header block.
fn parse(header: &[u8]) -> Headers {
    let text = String::from_utf8_lossy(header);
    let lines = text.split('\n').skip(1);
    let fields = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((canonical(name), value.trim().to_owned()))
    });
    by_name(fields.collect())
}

/// Names in order, each once, with its values in the order they came. A client may write as many names as fit into a message,
/// so none is looked for among all the others: it takes as long as to sort them.
pub(crate) fn by_name(mut fields: Vec<(String, String)>) -> Headers {
    fields.sort_by(|(name, _), (other, _)| name.cmp(other));
    let mut headers = Headers::new();
    for (name, value) in fields {
        match headers.last_mut() {
            Some((known, values)) if *known == name => values.push(value),
            _ => headers.push((name, vec![value])),
        }
    }
    headers
}

/// A header's name as it is compared: capitals at the beginning and after hyphens alone (Go `CanonicalMIMEHeaderKey`).
fn canonical(name: &str) -> String {
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte))
    {
        return name.to_owned();
    }
    let mut starts = true;
    let letters = name.chars().map(|letter| {
        let shown = if starts {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        };
        starts = letter == '-';
        shown
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is reported of a request with these headers, if it is measured.
    fn sampled(lines: &str) -> Option<String> {
        let header = format!("NATS/1.0\r\n{lines}\r\n\r\n");
        let never = || panic!("nothing is left to chance");
        let headers = sample(Sampling::Headers, header.as_bytes(), never)?;
        let shown = headers
            .iter()
            .map(|(name, values)| format!("{name}={}", values.join("+")));
        Some(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn headers_of_tracing_systems_decide() {
        let check = |lines: &str, expected: Option<&str>| {
            assert_eq!(sampled(lines).as_deref(), expected, "{lines:?}");
        };
        check("Foo: bar", None);
        let uber = Some("Uber-Trace-Id=4:5:4:1 Uberctx-X=foo");
        check("uber-trace-id: 4:5:4:1\r\nUberctx-x: foo\r\nOther: u", uber);
        check("Uber-Trace-Id: 4:5:4:2", None);
        check("Uber-Trace-Id: 4:5:4:zz", None);
        check("Uber-Trace-Id: 4:5:4:+1", None);
        check("Uber-Trace-Id: 4:5:4", None);
        check("Uber-Trace-Id: x\r\nX-B3-Sampled: 1", None);
        check("X-B3-Sampled: 0\r\nX-B3-TraceId: a", None);
        let all = "X-B3-Sampled: 1\r\nX-B3-TraceId: ab\r\nX-B3-ParentSpanId: cd\r\nX-B3-SpanId: ef";
        let shown = "X-B3-Parentspanid=cd X-B3-Sampled=1 X-B3-Spanid=ef X-B3-Traceid=ab";
        check(all, Some(shown));
        check("X-B3-TraceId: ab", Some("X-B3-Traceid=ab"));
        check("b3: 80f-e45-1-05", Some("B3=80f-e45-1-05"));
        check("b3: d", Some("B3=d"));
        check("B3: 0", None);
        check("B3: 80f-e45-0", None);
        let traced = "traceparent: 00-4bf-00f-01\r\ntracestate: a=b\r\ntracestate: c";
        check(traced, Some("Traceparent=00-4bf-00f-01 Tracestate=a=b+c"));
        check("traceparent: 00-4bf-00f-00", None);
        check("traceparent: 00-4bf-00f-81", None);
        check("traceparent: 00-4bf-01", None);
    }

    #[test]
    fn a_header_of_many_lines_is_read() {
        // Whoever looks through all the names for each line does not come to an end here.
        let lines: String = (0..150_000).map(|line| format!("x{line:x}:\r\n")).collect();
        assert_eq!(sampled(&lines), None);
    }

    #[test]
    fn chance_is_what_was_asked_for() {
        let measured = |percent| {
            let chances = (0..1000).filter(|&chance| {
                let sampling = Sampling::Percent(percent);
                sample(sampling, b"", || chance).is_some()
            });
            chances.count()
        };
        assert_eq!((measured(1), measured(50), measured(100)), (10, 500, 1000));
        let header = b"NATS/1.0\r\nb3: d\r\n\r\n";
        assert!(sample(Sampling::Percent(1), header, || 99).is_some());
    }
}
