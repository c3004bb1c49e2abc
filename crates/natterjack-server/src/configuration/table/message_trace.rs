//! `msg_trace` of an account: what is told of messages with trace contexts, and where.

use natterjack_conf::Data;
use natterjack_engine::access::{AccountAccess, MessageTrace};
use natterjack_engine::is_valid_publish_subject;

use crate::configuration::codec::WORD;
use crate::configuration::explain::Printer;
use crate::configuration::reader::{Advise, Reader};
use crate::configuration::row::{Access, Group, OptionFacts, Row, Section, settled};
use crate::configuration::shape::{Block, field, plain};

use super::exchange::PERCENT;

/// The destination alone, or a block.
struct Shape;

pub(super) const ROW: Row<AccountAccess> = Row::new(
    "msg_trace",
    &Shape,
    "Where it is told what becomes of messages with a traceparent header that is recorded.",
)
.alias(&["trace_dest"]);

static BLOCK: Block<AccountAccess, MessageTrace> = Block {
    field: field!(AccountAccess, message_trace),
    section: &SECTION,
};

static SECTION: Section<MessageTrace> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            plain!(
                MessageTrace,
                "dest",
                destination,
                WORD,
                "The subject that the reports go to, in the account."
            ),
            plain!(
                MessageTrace,
                "sampling",
                sampling_percent,
                PERCENT,
                "How many of such messages are traced, in percent."
            ),
        ],
    }],
    settle: settled,
};

impl Access<AccountAccess> for Shape {
    fn kind(&self) -> String {
        "a text or a block".to_owned()
    }

    fn read(&self, target: &mut AccountAccess, value: &Data, reader: &mut Reader<'_>) {
        match value {
            Data::Text(destination) => {
                target.message_trace = Some(MessageTrace {
                    destination: destination.clone(),
                    ..MessageTrace::default()
                });
            }
            Data::Map(map) => {
                BLOCK.read(target, value, reader);
                let names = |key: &str| {
                    let mut entries = map.iter();
                    entries.any(|entry| entry.key.text.eq_ignore_ascii_case(key))
                };
                if !names("dest") {
                    target.message_trace = None;
                    if names("sampling") {
                        reader
                            .warning("nothing is traced without a destination, so that sampling has no effect")
                            .help("add dest: \"a.subject\"");
                    }
                }
            }
            other => {
                reader.expected("a text or a block", other);
            }
        }
        let bad = target.message_trace.as_ref().filter(|trace| {
            let destination = trace.destination.as_bytes();
            !is_valid_publish_subject(destination) || destination.iter().any(|byte| *byte <= b' ')
        });
        if let Some(trace) = bad {
            reader
                .error(format!(
                    "the trace destination {:?} is not a subject one can publish to",
                    trace.destination
                ))
                .help("write a subject without blanks, empty tokens and wildcards");
            target.message_trace = None;
        }
    }

    fn show(&self, target: &AccountAccess) -> Option<String> {
        BLOCK.show(target)
    }

    fn is_equal(&self, one: &AccountAccess, other: &AccountAccess) -> bool {
        BLOCK.is_equal(one, other)
    }

    fn explain(&self, key: &str, target: &AccountAccess, printer: &mut Printer<'_>) {
        BLOCK.explain(key, target, printer);
    }

    fn describe(&self, path: &str, options: &mut Vec<OptionFacts>) {
        BLOCK.describe(path, options);
    }
}
