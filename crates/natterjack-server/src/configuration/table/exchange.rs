//! `exports` and `imports` of accounts: what they offer each other and use of each other.

use std::time::Duration;

use natterjack_engine::access::{
    AccountAccess, Export, Import, ResponseType, ServiceExport, ServiceImport, StreamExport,
    StreamImport,
};

use crate::configuration::codec::{self, COUNT, SWITCH, TEXT, TEXTS, WORD};
use crate::configuration::reader::{Advise, Reader};
use crate::configuration::row::{Group, Row, Section, settled};
use crate::configuration::shape::{Block, Blocks, Codec, Unsupported, field, plain};

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
                &LATENCY,
                "Where it is reported how long answers take.",
            ),
            plain!(
                ExportDraft,
                "allow_trace",
                allow_trace,
                ALLOW_TRACE,
                "Whether requests may be traced; messages are not traced yet.",
            ),
        ],
    }],
    settle: settled,
};

static LATENCY: Unsupported = Unsupported {
    kind: "a text or a block",
    off: &[],
};

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
                || draft.allow_trace.is_some();
            if is_about_service {
                reader
                    .error("response_type, response_threshold and allow_trace are for services")
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
                "Whether messages may be traced beyond the account; messages are not traced yet.",
            ),
            Row::new(
                "service",
                &Block::<ImportDraft, _> {
                    field: field!(ImportDraft, service),
                    section: &SOURCE,
                },
                "A service of another account.",
            ),
            Row::new(
                "share",
                &Unsupported {
                    kind: "true or false",
                    off: &[],
                },
                "Whether the service is told who asks.",
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
            ..ImportDraft::default()
        },
        _ => ImportDraft::default(),
    }
}
