//! `exports` and `imports` of accounts: what they offer each other and use of each other.

use natterjack_engine::access::{AccountAccess, Export, Import, StreamExport, StreamImport};

use crate::configuration::codec::{COUNT, SWITCH, TEXT, TEXTS, WORD};
use crate::configuration::reader::{Advise, Reader};
use crate::configuration::row::{Group, Row, Section, settled};
use crate::configuration::shape::{Block, Blocks, Unsupported, field, plain};

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
            Row::new(
                "service",
                &SERVICE,
                "Requests that other accounts may send.",
            ),
            Row::new(
                "response_type",
                &SERVICE,
                "How many answers the service gives.",
            )
            .alias(&["response"]),
            Row::new(
                "response_threshold",
                &SERVICE,
                "How long answers are waited for.",
            )
            .alias(&["threshold", "response_max_time", "response_time"]),
            Row::new(
                "latency",
                &SERVICE,
                "Where it is reported how long answers take.",
            ),
            Row::new("allow_trace", &SERVICE, "Whether requests may be traced."),
        ],
    }],
    settle: settled,
};

static SERVICE: Unsupported = Unsupported {
    kind: "a text",
    off: &[],
};

fn finish_export(draft: ExportDraft, reader: &mut Reader<'_>) -> Option<Export> {
    let Some(subject) = draft.stream else {
        reader
            .error("an export needs a stream")
            .help("write { stream: \"a.subject\" }");
        return None;
    };
    Some(Export::Stream(StreamExport {
        subject,
        accounts: draft.accounts,
        account_token_position: draft.account_token_position,
    }))
}

fn draft_of_export(export: &Export) -> ExportDraft {
    match export {
        Export::Stream(export) => ExportDraft {
            stream: Some(export.subject.clone()),
            accounts: export.accounts.clone(),
            account_token_position: export.account_token_position,
        },
        _ => ExportDraft::default(),
    }
}

/// An entry of `imports` while it is read.
#[derive(Default)]
pub(super) struct ImportDraft {
    stream: Option<SourceDraft>,
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
                "What their subjects are called here; $1 or {{wildcard(1)}} stands for what the \
                 first wildcard stands for.",
            ),
            plain!(
                ImportDraft,
                "allow_trace",
                allow_trace,
                SWITCH,
                "Whether messages may be traced beyond the account; messages are not traced yet.",
            ),
            Row::new("service", &SERVICE, "A service of another account."),
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
    let source = draft.stream.unwrap_or_default();
    if source.account.is_empty() || source.subject.is_empty() {
        reader
            .error("an import needs a stream with account and subject")
            .help("write { stream: { account: A, subject: \"a.subject\" } }");
        return None;
    }
    Some(Import::Stream(StreamImport {
        account: source.account,
        subject: source.subject,
        prefix: draft.prefix,
        to: draft.to,
        allow_trace: draft.allow_trace,
    }))
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
        },
        _ => ImportDraft::default(),
    }
}
