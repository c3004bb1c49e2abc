//! YAML text to a tree in which every key and value knows its place. Owns no option's meaning.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::origin::Place;

/// The name of our section at the top level.
pub(super) const SECTION: &str = "eventBus";

/// A value and where it starts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    /// The bytes of the document that it was written with.
    bytes: Range<usize>,
}

/// A value. Numbers stay text: what they mean is up to the option.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    /// What YAML takes for a number or a truth value, though it may be meant as a name: `007`, `1.10`, `True`.
    Plain {
        /// As it stands in the document.
        written: String,
        /// As YAML understands it.
        meant: String,
    },
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// The top level: our section, if there is one, and the names of the others.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) section: Option<Entry>,
    pub(super) others: Vec<(String, Place)>,
}

/// Parses a document and keeps the one top-level section that is ours, whatever the case of its name.
///
/// # Errors
/// The first syntax error, with its place if known.
pub(super) fn parse(text: &str) -> Result<Document, (Option<Place>, String)> {
    // An empty document has no root node to deserialize.
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(Document::default());
    }
    // Names may be `no` and `y`, which are words since YAML 1.2.
    let options = serde_saphyr::options! { strict_booleans: true };
    let parsed = serde_saphyr::from_str_with_options::<Document>(text, options);
    let mut document = parsed.map_err(|error| {
        let message = error.without_snippet().to_string();
        (error.location().map(place), in_our_words(&message))
    })?;
    if let Some(section) = &mut document.section {
        section.node.restore(text);
    }
    Ok(document)
}

/// The place stands in front of every problem, and the library's own options are of no use to an operator.
fn in_our_words(message: &str) -> String {
    const ENDS: [&str; 3] = [
        " at line ",
        ", set DuplicateKeyPolicy",
        "; use from_str_multiple",
    ];
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if message.starts_with("budget breached") {
        return "it is larger, or repeats itself more often, than any settings do".into();
    }
    let ends = ENDS.iter().filter_map(|end| message.find(end));
    message[..ends.min().unwrap_or(message.len())].into()
}

impl Node {
    /// Gives plain values back the form in which they were written.
    fn restore(&mut self, text: &str) {
        match &mut self.value {
            Value::Plain { written, .. } => {
                let token = text.get(self.bytes.clone()).map(str::trim);
                // Whoever says by a tag what it is to be says what it means as well.
                if let Some(token) = token.filter(|token| is_token(token)) {
                    *written = token.into();
                }
            }
            Value::List(nodes) => nodes.iter_mut().for_each(|node| node.restore(text)),
            Value::Map(entries) => entries
                .iter_mut()
                .for_each(|entry| entry.node.restore(text)),
            Value::Null | Value::Text(_) => {}
        }
    }
}

/// Whether this is one plain word.
fn is_token(token: &str) -> bool {
    !token.is_empty()
        && token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-._:".contains(&byte))
}

fn place(location: Location) -> Place {
    Place {
        line: location.line(),
        column: location.column(),
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TopLevel;
        impl<'de> Visitor<'de> for TopLevel {
            type Value = Document;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a mapping at the top level")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut document = Document::default();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let place = place(key.referenced);
                    if !key.value.eq_ignore_ascii_case(SECTION) {
                        map.next_value::<IgnoredAny>()?;
                        document.others.push((key.value, place));
                        continue;
                    }
                    if document.section.is_some() {
                        return Err(A::Error::custom(format!("`{SECTION}` is given twice")));
                    }
                    let node = map.next_value()?;
                    document.section = Some(Entry {
                        key: key.value,
                        place,
                        node,
                    });
                }
                Ok(document)
            }

            fn visit_unit<E>(self) -> Result<Document, E> {
                Ok(Document::default())
            }
        }
        deserializer.deserialize_any(TopLevel)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        // An alias is as good as what it stands for, and that is where it was written.
        let span = spanned.defined.span();
        let bytes = span.byte_offset().zip(span.byte_len());
        let bytes = bytes.and_then(|(start, length)| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(length).ok()?)?)
        });
        Ok(Self {
            value: spanned.value,
            place: place(spanned.referenced),
            bytes: bytes.unwrap_or_default(),
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(plain(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(plain(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(plain(value))
            }

            fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
                Ok(plain(value))
            }

            fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
                Ok(plain(value))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(plain(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::Text(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = sequence.next_element()? {
                    nodes.push(node);
                }
                Ok(Value::List(nodes))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let node = map.next_value()?;
                    entries.push(Entry {
                        key: key.value,
                        place: place(key.referenced),
                        node,
                    });
                }
                Ok(Value::Map(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Before its form is restored.
fn plain(value: impl ToString) -> Value {
    let meant = value.to_string();
    Value::Plain {
        written: meant.clone(),
        meant,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_know_their_places() {
        let document =
            parse("other: {a: [1]}\neventbus:\n  Type: nats\n  ports: ['1', 2]\n").unwrap();
        assert_eq!(
            document.others,
            [("other".to_string(), Place { line: 1, column: 1 })]
        );
        let section = document.section.unwrap();
        assert_eq!(
            (section.key.as_str(), section.place),
            ("eventbus", Place { line: 2, column: 1 })
        );
        let Value::Map(entries) = section.node.value else {
            panic!("not a map")
        };
        assert_eq!(entries[0].place, Place { line: 3, column: 3 });
        assert_eq!(entries[0].node.place, Place { line: 3, column: 9 });
        let Value::List(list) = &entries[1].node.value else {
            panic!("not a list")
        };
        assert!(matches!(&list[0].value, Value::Text(text) if text == "1"));
        assert!(matches!(&list[1].value, Value::Plain { meant, .. } if meant == "2"));
        assert_eq!(
            list[1].place,
            Place {
                line: 4,
                column: 16
            }
        );
    }

    #[test]
    fn a_syntax_error_has_a_place() {
        let (place, message) = parse("eventBus:\n  type: [nats\n").unwrap_err();
        assert!(place.is_some(), "{message}");
        assert!(!message.contains("line"), "{message}");
        let (_, message) = parse("eventBus: {type: a, type: b}\n").unwrap_err();
        assert_eq!(message, "duplicate mapping key: type");
        let (place, message) = parse("eventBus: {}\n---\neventBus: {}\n").unwrap_err();
        assert_eq!(message, "multiple YAML documents detected");
        assert_eq!(place, Some(Place { line: 3, column: 1 }));
    }

    #[test]
    fn a_document_that_repeats_itself_without_end_is_refused() {
        let mut text = String::from("a0: &a0 [x, x]\n");
        for level in 1..30 {
            let before = level - 1;
            text += &format!("a{level}: &a{level} [*a{before}, *a{before}]\n");
        }
        let (_, message) = parse(&format!("{text}eventBus: {{}}\n")).unwrap_err();
        assert_eq!(
            message,
            "it is larger, or repeats itself more often, than any settings do"
        );
    }

    #[test]
    fn empty_and_foreign_documents_are_fine() {
        for text in ["", "# nothing\n", "---\n", "a: 1\n2: b\n", "null\n"] {
            assert!(parse(text).unwrap().section.is_none(), "{text:?}");
        }
    }
}
