//! What became of a message that was traced, as it is told (nats-server `MsgTraceEvent`).

use std::collections::BTreeMap;
use std::time::Instant;

use natterjack_engine::{TraceEvent, TraceReport, TracedKind};
use serde::Serialize;

use super::bodies::ServerObject;
use super::encoding::Encoding;
use crate::monitoring::Time;

/// In which encoding a report goes out: what the message says beside where to.
pub(super) fn encoding(report: &TraceReport) -> Encoding {
    let mut headers = report.headers.iter();
    let accepted = headers.find(|(name, _)| name == "Accept-Encoding");
    let value = accepted.and_then(|(_, values)| values.first());
    Encoding::named(value.map_or(b"", |value| value.as_bytes()))
}

/// The report of one server.
#[derive(Serialize)]
pub(super) struct TraceBody<'a> {
    server: ServerObject,
    request: Request<'a>,
    #[serde(skip_serializing_if = "is_zero")]
    hops: u32,
    events: Vec<Event<'a>>,
}

/// The message.
#[derive(Serialize)]
struct Request<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    header: BTreeMap<&'a str, &'a [String]>,
    #[serde(skip_serializing_if = "is_none")]
    msgsize: usize,
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    ts: Time,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum What<'a> {
    Ingress {
        kind: u8,
        cid: u64,
        #[serde(skip_serializing_if = "str::is_empty")]
        name: &'a str,
        acc: &'a str,
        subj: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    },
    Mapped {
        to: &'a str,
    },
    StreamExport {
        acc: &'a str,
        to: &'a str,
    },
    ServiceImport {
        acc: &'a str,
        from: &'a str,
        to: &'a str,
    },
    Egress {
        kind: u8,
        cid: u64,
        #[serde(skip_serializing_if = "str::is_empty")]
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        hop: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        acc: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sub: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        queue: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'static str>,
    },
}

impl<'a> TraceBody<'a> {
    pub(super) fn new(
        server: ServerObject,
        report: &'a TraceReport,
        time_of: impl Fn(Instant) -> Time,
    ) -> Self {
        let headers = report.headers.iter();
        let events = report.events.iter().filter_map(|(at, event)| {
            let (kind, what) = what(event)?;
            let ts = time_of(*at);
            Some(Event { kind, ts, what })
        });
        Self {
            server,
            request: Request {
                header: headers.map(|(name, values)| (&**name, &**values)).collect(),
                msgsize: report.message_bytes,
            },
            hops: report.hops,
            events: events.collect(),
        }
    }
}

fn what(event: &TraceEvent) -> Option<(&'static str, What<'_>)> {
    Some(match event {
        TraceEvent::Ingress {
            kind,
            id,
            name,
            account,
            subject,
            error,
        } => (
            "in",
            What::Ingress {
                kind: kind.number(),
                cid: *id,
                name,
                acc: account,
                subj: subject,
                error: error.as_deref(),
            },
        ),
        TraceEvent::Mapped { to } => ("sm", What::Mapped { to }),
        TraceEvent::StreamExport { account, to } => ("se", What::StreamExport { acc: account, to }),
        TraceEvent::ServiceImport { account, from, to } => (
            "si",
            What::ServiceImport {
                acc: account,
                from,
                to,
            },
        ),
        TraceEvent::Egress {
            kind,
            id,
            name,
            hop,
            account,
            subscription,
            error,
        } => {
            let is_client = *kind == TracedKind::Client;
            let subscription = subscription.as_ref().filter(|_| is_client);
            (
                "eg",
                What::Egress {
                    kind: kind.number(),
                    cid: *id,
                    name,
                    hop: hop.as_deref(),
                    acc: account.as_deref(),
                    sub: subscription.map(|(subject, _)| &**subject),
                    queue: subscription.and_then(|(_, queue)| queue.as_deref()),
                    error: error.map(natterjack_engine::Undelivered::text),
                },
            )
        }
        _ => return None,
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(bytes: &usize) -> bool {
    *bytes == 0
}
