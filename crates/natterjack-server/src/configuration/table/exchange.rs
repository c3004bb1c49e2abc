//! `exports` and `imports` of accounts: what they offer each other and use of each other.

use std::time::Duration;

use natterjack_conf::Data;
use natterjack_engine::access::{
    AccountAccess, Export, Import, Latency, ResponseType, Sampling, ServiceExport, ServiceImport,
    StreamExport, StreamImport,
};

use crate::configuration::codec::{self, COUNT, SWITCH, TEXT, TEXTS, WORD};
use crate::configuration::explain::Printer;
use crate::configuration::reader::{Advise, Reader};
use crate::configuration::row::{Access, Group, OptionFacts, Row, Section, settled};
use crate::configuration::shape::{Block, Blocks, Codec, field, plain};

pub(super) static EXPORTS: Blocks<AccountAccess, Export, ExportDraft> = Blocks {
    field: field!(AccountAccess, exports),
    section: &EXPORT,
    finish: finish_export,
    draft: draft_of_export,
    noun: "exports",
};

pub(super) static IMPORTS: Blocks<AccountAccess, Import, ImportDraft> = Blocks {
    field: field!(AccountAccess, imports),
    section: &IMPORT,
    finish: finish_import,
    draft: draft_of_import,
    noun: "imports",
};

/// An entry of `exports` while it is read.
#[derive(Default)]
pub(super) struct ExportDraft {
    stream: Option<String>,
    service: Option<String>,
    response_type: Option<ResponseType>,
    response_threshold: Option<Duration>,
    latency: Option<LatencyDraft>,
    allow_trace: Option<bool>,
    accounts: Vec<String>,
    account_token_position: usize,
}

static EXPORT: Section<ExportDraft> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            plain!(
                ExportDraft,
                "stream",
                stream,
                TEXT,
                "Messages that other accounts may hear, by their subject."
            ),
            plain!(
                ExportDraft,
                "accounts",
                accounts,
                TEXTS,
                "The accounts that may; none: all."
            ),
            plain!(
                ExportDraft,
                "account_token_position",
                account_token_position,
                COUNT,
                "Which token of the subject, from 1, must be the name of the account that imports.",
            ),
            plain!(
                ExportDraft,
                "service",
                service,
                TEXT,
                "Requests that other accounts may send, by their subject."
            ),
            plain!(
                ExportDraft,
                "response_type",
                response_type,
                RESPONSE_TYPE,
                "How many answers the service gives: singleton, stream or chunked; both of the \
                 latter end with an empty one.",
            )
            .alias(&["response"]),
            plain!(
                ExportDraft,
                "response_threshold",
                response_threshold,
                THRESHOLD,
                "How long after the request, or the answer before, an answer is let through; by \
                 default 2m.",
            )
            .alias(&["threshold", "response_max_time", "response_time"]),
            Row::new(
                "latency",
                &LatencyShape,
                "Where it is reported how long answers take.",
            ),
            plain!(
                ExportDraft,
                "allow_trace",
                allow_trace,
                ALLOW_TRACE,
                "Whether accounts that ask may trace their requests beyond this border.",
            ),
        ],
    }],
    settle: settled,
};

/// What a `latency` says, while it is read.
#[derive(Default)]
struct LatencyDraft {
    sampling: Sampling,
    subject: String,
}

/// The subject alone, or a block.
struct LatencyShape;

static LATENCY_BLOCK: Block<ExportDraft, LatencyDraft> = Block {
    field: field!(ExportDraft, latency),
    section: &LATENCY,
};

static LATENCY: Section<LatencyDraft> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            plain!(
                LatencyDraft,
                "sampling",
                sampling,
                SAMPLING,
                "How many requests are measured, in percent, or headers: only those with a header \
                 of a tracing system that asks for it, which always are.",
            ),
            plain!(
                LatencyDraft,
                "subject",
                subject,
                WORD,
                "Where the reports go, in the account that answers."
            ),
        ],
    }],
    settle: settled,
};

impl Access<ExportDraft> for LatencyShape {
    fn kind(&self) -> String {
        "a text or a block".to_owned()
    }

    fn read(&self, target: &mut ExportDraft, value: &Data, reader: &mut Reader<'_>) {
        match value {
            Data::Text(subject) => {
                target.latency = Some(LatencyDraft {
                    subject: subject.clone(),
                    ..LatencyDraft::default()
                });
            }
            Data::Map(map) => {
                LATENCY_BLOCK.read(target, value, reader);
                if !map
                    .iter()
                    .any(|entry| entry.key.text.eq_ignore_ascii_case("subject"))
                {
                    reader
                        .error("latency subject required, but missing")
                        .help("write latency { sampling: 50%, subject: \"a.subject\" }");
                }
            }
            other => {
                reader.expected("a text or a block", other);
            }
        }
    }

    fn show(&self, target: &ExportDraft) -> Option<String> {
        LATENCY_BLOCK.show(target)
    }

    fn is_equal(&self, one: &ExportDraft, other: &ExportDraft) -> bool {
        LATENCY_BLOCK.is_equal(one, other)
    }

    fn explain(&self, key: &str, target: &ExportDraft, printer: &mut Printer<'_>) {
        LATENCY_BLOCK.explain(key, target, printer);
    }

    fn describe(&self, path: &str, options: &mut Vec<OptionFacts>) {
        LATENCY_BLOCK.describe(path, options);
    }
}

static SAMPLING: Codec<Sampling> = Codec {
    kind: "a number from 1 to 100, or as \"50%\", or headers",
    read: |data, reader| {
        if matches!(data, Data::Text(text) if text.trim().eq_ignore_ascii_case("headers")) {
            return Some(Sampling::Headers);
        }
        percent(data, "a number from 1 to 100, or headers", reader).map(Sampling::Percent)
    },
    show: |sampling| {
        Some(match sampling {
            Sampling::Headers => "headers".to_owned(),
            Sampling::Percent(percent) => percent.to_string(),
        })
    },
    is_secret: false,
};

pub(super) static PERCENT: Codec<u8> = Codec {
    kind: "a number from 1 to 100, or as \"50%\"",
    read: |data, reader| percent(data, "a number from 1 to 100", reader),
    show: |percent| Some(percent.to_string()),
    is_secret: false,
};

fn percent(data: &Data, what: &str, reader: &mut Reader<'_>) -> Option<u8> {
    let percent = match data {
        Data::Text(text) => text.strip_suffix('%').unwrap_or(text).parse().ok(),
        Data::Integer(number) => u8::try_from(*number).ok(),
        other => {
            reader.expected(what, other);
            return None;
        }
    };
    let percent = percent.filter(|percent| (1..=100).contains(percent));
    if percent.is_none() {
        reader
            .error("bad sampling percentage, should be 1-100")
            .help(format!("write {what}"));
    }
    percent
}

static RESPONSE_TYPE: Codec<Option<ResponseType>> = Codec {
    kind: "singleton, stream or chunked",
    read: |data, reader| {
        let text = codec::text(data, reader)?;
        match text.to_ascii_lowercase().as_str() {
            "single" | "singleton" => Some(Some(ResponseType::Singleton)),
            "stream" => Some(Some(ResponseType::Streamed)),
            "chunk" | "chunked" => Some(Some(ResponseType::Chunked)),
            _ => {
                reader
                    .error(format!("unknown response type: {text:?}"))
                    .help("write singleton, stream or chunked");
                None
            }
        }
    },
    show: |response_type| {
        let word = match (*response_type)? {
            ResponseType::Streamed => "stream",
            ResponseType::Chunked => "chunked",
            _ => "singleton",
        };
        Some(codec::quote(word))
    },
    is_secret: false,
};

static THRESHOLD: Codec<Option<Duration>> = Codec {
    kind: "a duration",
    read: |data, reader| (codec::STRICT_DURATION.read)(data, reader).map(Some),
    show: |threshold| threshold.map(codec::show_duration),
    is_secret: false,
};

static ALLOW_TRACE: Codec<Option<bool>> = Codec {
    kind: "true or false",
    read: |data, reader| codec::switch(data, reader).map(Some),
    show: |allow| allow.map(|allow| allow.to_string()),
    is_secret: false,
};

fn finish_export(draft: ExportDraft, reader: &mut Reader<'_>) -> Option<Export> {
    match (draft.stream, draft.service) {
        (Some(subject), None) => {
            let is_about_service = draft.response_type.is_some()
                || draft.response_threshold.is_some()
                || draft.latency.is_some()
                || draft.allow_trace.is_some();
            if is_about_service {
                reader
                    .error("response_type, response_threshold, latency and allow_trace are for services")
                    .help("leave them out; a stream has no answers");
                return None;
            }
            Some(Export::Stream(StreamExport {
                subject,
                accounts: draft.accounts,
                account_token_position: draft.account_token_position,
            }))
        }
        (None, Some(subject)) => {
            let default = ServiceExport::default();
            Some(Export::Service(ServiceExport {
                subject,
                accounts: draft.accounts,
                account_token_position: draft.account_token_position,
                response_type: draft.response_type.unwrap_or_default(),
                response_threshold: draft
                    .response_threshold
                    .filter(|threshold| !threshold.is_zero())
                    .unwrap_or(default.response_threshold),
                allow_trace: draft.allow_trace.unwrap_or_default(),
                latency: draft.latency.map(|latency| Latency {
                    sampling: latency.sampling,
                    subject: latency.subject,
                }),
            }))
        }
        (Some(_), Some(_)) => {
            reader
                .error("an export is a stream or a service, not both")
                .help("make two entries of it");
            None
        }
        (None, None) => {
            reader
                .error("an export needs a stream or a service")
                .help("write { stream: \"a.subject\" } or { service: \"a.subject\" }");
            None
        }
    }
}

fn draft_of_export(export: &Export) -> ExportDraft {
    match export {
        Export::Stream(export) => ExportDraft {
            stream: Some(export.subject.clone()),
            accounts: export.accounts.clone(),
            account_token_position: export.account_token_position,
            ..ExportDraft::default()
        },
        Export::Service(export) => ExportDraft {
            service: Some(export.subject.clone()),
            accounts: export.accounts.clone(),
            account_token_position: export.account_token_position,
            response_type: Some(export.response_type),
            response_threshold: Some(export.response_threshold),
            allow_trace: export.allow_trace.then_some(true),
            latency: export.latency.as_ref().map(|latency| LatencyDraft {
                sampling: latency.sampling,
                subject: latency.subject.clone(),
            }),
            ..ExportDraft::default()
        },
        _ => ExportDraft::default(),
    }
}

/// An entry of `imports` while it is read.
#[derive(Default)]
pub(super) struct ImportDraft {
    stream: Option<SourceDraft>,
    service: Option<SourceDraft>,
    prefix: Option<String>,
    to: Option<String>,
    allow_trace: bool,
    share: bool,
}

/// What is imported.
#[derive(Default)]
struct SourceDraft {
    account: String,
    subject: String,
}

static IMPORT: Section<ImportDraft> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            Row::new(
                "stream",
                &Block::<ImportDraft, _> {
                    field: field!(ImportDraft, stream),
                    section: &SOURCE,
                },
                "Messages of another account.",
            ),
            plain!(
                ImportDraft,
                "prefix",
                prefix,
                TEXT,
                "What to put before their subjects here."
            ),
            plain!(
                ImportDraft,
                "to",
                to,
                TEXT,
                "What the subject is called here; $1 or {{wildcard(1)}} stands for what the first \
                 wildcard stands for.",
            ),
            plain!(
                ImportDraft,
                "allow_trace",
                allow_trace,
                SWITCH,
                "Whether the account they come from may trace its messages beyond this border.",
            ),
            Row::new(
                "service",
                &Block::<ImportDraft, _> {
                    field: field!(ImportDraft, service),
                    section: &SOURCE,
                },
                "A service of another account.",
            ),
            plain!(
                ImportDraft,
                "share",
                share,
                SWITCH,
                "Whether the service is told who asks in detail: host, user, name and library of \
                 the client. It is told the account in any case.",
            ),
        ],
    }],
    settle: settled,
};

static SOURCE: Section<SourceDraft> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            plain!(SourceDraft, "account", account, WORD, "The account."),
            plain!(
                SourceDraft,
                "subject",
                subject,
                WORD,
                "What it exports, or a part of it."
            ),
        ],
    }],
    settle: settled,
};

fn finish_import(draft: ImportDraft, reader: &mut Reader<'_>) -> Option<Import> {
    let is_whole = |source: &SourceDraft| !source.account.is_empty() && !source.subject.is_empty();
    match (draft.stream, draft.service) {
        (Some(source), None) if is_whole(&source) => Some(Import::Stream(StreamImport {
            account: source.account,
            subject: source.subject,
            prefix: draft.prefix,
            to: draft.to,
            allow_trace: draft.allow_trace,
        })),
        (None, Some(source)) if is_whole(&source) => {
            if draft.prefix.is_some() || draft.allow_trace {
                reader
                    .error("prefix and allow_trace are for streams")
                    .help("a service can have another subject with to");
                return None;
            }
            Some(Import::Service(ServiceImport {
                account: source.account,
                subject: source.subject,
                to: draft.to,
                share: draft.share,
            }))
        }
        (Some(_), Some(_)) => {
            reader
                .error("an import is a stream or a service, not both")
                .help("make two entries of it");
            None
        }
        _ => {
            reader
                .error("an import needs a stream or service with account and subject")
                .help("write { stream: { account: A, subject: \"a.subject\" } }");
            None
        }
    }
}

fn draft_of_import(import: &Import) -> ImportDraft {
    match import {
        Import::Stream(import) => ImportDraft {
            stream: Some(SourceDraft {
                account: import.account.clone(),
                subject: import.subject.clone(),
            }),
            prefix: import.prefix.clone(),
            to: import.to.clone(),
            allow_trace: import.allow_trace,
            ..ImportDraft::default()
        },
        Import::Service(import) => ImportDraft {
            service: Some(SourceDraft {
                account: import.account.clone(),
                subject: import.subject.clone(),
            }),
            to: import.to.clone(),
            share: import.share,
            ..ImportDraft::default()
        },
        _ => ImportDraft::default(),
    }
}
