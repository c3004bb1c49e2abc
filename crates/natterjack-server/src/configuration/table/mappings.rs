//! `mappings`, at the top for the account `$G` and in each account: subjects that are replaced by others.

use natterjack_conf::{Data, Map};
use natterjack_engine::access::{Destination, Mapping};

use crate::configuration::codec::{self, TEXT, WORD};
use crate::configuration::explain::Printer;
use crate::configuration::reader::{self, Advise, Reader};
use crate::configuration::row::{Access, Group, OptionFacts, Section, settled};
use crate::configuration::shape::{Codec, Field, plain};

/// A destination, a block for one, or a list of blocks, by the subject that is mapped.
pub(super) struct Mappings<T: 'static> {
    pub(super) field: Field<T, Vec<Mapping>>,
}

/// An entry of a list of destinations while it is read.
#[derive(Default)]
struct Draft {
    subject: String,
    weight_percent: Option<u8>,
    cluster: Option<String>,
}

static DESTINATION: Section<Draft> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            plain!(
                Draft,
                "destination",
                subject,
                WORD,
                "The subject instead; $1 or {{wildcard(1)}} stands for what the first wildcard \
                 stands for.",
            )
            .alias(&["dest"]),
            plain!(
                Draft,
                "weight",
                weight_percent,
                WEIGHT,
                "Share of the messages, in percent."
            ),
            plain!(
                Draft,
                "cluster",
                cluster,
                TEXT,
                "Only servers of this cluster send messages there."
            ),
        ],
    }],
    settle: settled,
};

static WEIGHT: Codec<Option<u8>> = Codec {
    kind: "a number from 0 to 100, or as \"50%\"",
    read: |data, reader| match data {
        Data::Text(text) => {
            let number = text.strip_suffix('%').unwrap_or(text).parse::<u8>();
            match number.ok().filter(|&number| number <= 100) {
                Some(number) => Some(Some(number)),
                None => {
                    reader
                        .error(format!("invalid weight {text:?} for mapping destination"))
                        .help("write a number from 0 to 100");
                    None
                }
            }
        }
        other => codec::number(other, 0..=100, reader).map(Some),
    },
    show: |weight| weight.map(|weight| weight.to_string()),
    is_secret: false,
};

fn destination(map: &Map, reader: &mut Reader<'_>) -> Option<Destination> {
    let mut draft = Draft::default();
    let errors = reader.diagnostics.len();
    DESTINATION.read(&mut draft, map, reader);
    if reader.diagnostics.len() > errors {
        return None;
    }
    let Some(weight_percent) = draft.weight_percent else {
        let subject = draft.subject;
        reader
            .error(format!(
                "missing weight for mapping destination {subject:?}"
            ))
            .help("add weight: 100%");
        return None;
    };
    Some(Destination {
        subject: draft.subject,
        weight_percent,
        cluster: draft.cluster,
    })
}

fn destinations(data: &Data, reader: &mut Reader<'_>) -> Option<Vec<Destination>> {
    match data {
        Data::Text(subject) => Some(vec![Destination {
            subject: subject.clone(),
            ..Destination::default()
        }]),
        Data::Map(map) => Some(vec![destination(map, reader)?]),
        Data::List(values) => {
            let errors = reader.diagnostics.len();
            let read = codec::each(values, reader, |data, reader| {
                destination(reader::map(data, reader)?, reader)
            });
            (reader.diagnostics.len() == errors).then_some(read)
        }
        other => {
            reader.expected(
                "a subject, or a list of blocks with destination and weight",
                other,
            );
            None
        }
    }
}

impl<T> Access<T> for Mappings<T> {
    fn kind(&self) -> String {
        "a block of subjects".to_owned()
    }

    fn read(&self, target: &mut T, value: &Data, reader: &mut Reader<'_>) {
        let Some(map) = reader::map(value, reader) else {
            return;
        };
        let mut mappings = Vec::new();
        for entry in map.iter().filter(|entry| !entry.is_referenced) {
            reader.option(&entry.key.text, &entry.value, |reader| {
                let Some(destinations) = destinations(&entry.value.data, reader) else {
                    return;
                };
                let mapping = Mapping {
                    source: entry.key.text.clone(),
                    destinations,
                };
                match mapping.problem() {
                    None => mappings.push(mapping),
                    Some(problem) => {
                        let to = match &entry.value.data {
                            Data::Text(subject) => format!(" to {subject:?}"),
                            _ => String::new(),
                        };
                        let source = &mapping.source;
                        reader.error(format!(
                            "error adding mapping for {source:?}{to}: {problem}"
                        ));
                    }
                }
            });
        }
        *(self.field.get_mut)(target) = mappings;
    }

    fn show(&self, target: &T) -> Option<String> {
        let mappings = (self.field.get)(target);
        let entries: Vec<String> = mappings
            .iter()
            .map(|mapping| format!("{}: {}", codec::quote(&mapping.source), show(mapping)))
            .collect();
        (!entries.is_empty()).then(|| format!("{{ {} }}", entries.join(", ")))
    }

    fn is_equal(&self, one: &T, other: &T) -> bool {
        (self.field.get)(one) == (self.field.get)(other)
    }

    fn explain(&self, key: &str, target: &T, printer: &mut Printer<'_>) {
        printer.block(key, |printer| {
            for mapping in (self.field.get)(target) {
                printer.named_line(&mapping.source, &show(mapping));
            }
        });
    }

    fn describe(&self, path: &str, options: &mut Vec<OptionFacts>) {
        DESTINATION.describe(&format!("{path}[]"), options);
    }
}

fn show(mapping: &Mapping) -> String {
    let always = Destination {
        subject: String::new(),
        ..Destination::default()
    };
    if let [only] = &mapping.destinations[..]
        && (only.weight_percent, &only.cluster) == (always.weight_percent, &always.cluster)
    {
        return codec::quote(&only.subject);
    }
    let destinations = mapping.destinations.iter().map(|destination| {
        DESTINATION.show(&Draft {
            subject: destination.subject.clone(),
            weight_percent: Some(destination.weight_percent),
            cluster: destination.cluster.clone(),
        })
    });
    let destinations: Vec<String> = destinations.collect();
    format!("[{}]", destinations.join(", "))
}
