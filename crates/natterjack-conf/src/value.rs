//! The tree a configuration is read into. Owns values, maps and where each of them came from; knows no option and reads
//! nothing.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::source::Span;

/// What was written after a key, or stands in a list.
#[derive(Clone, Debug)]
pub struct Value {
    /// The value itself.
    pub data: Data,
    /// Where it was written, with its quotes or brackets. For a variable: where `$name` stands. Inside a value that came
    /// from a variable, the spans are those of the definition.
    pub span: Span,
    /// The variable this value was taken from, if it was written as `$name`.
    pub variable: Option<Variable>,
}

/// A value without its place.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Quoted or bare text.
    Text(String),
    /// A whole number, its size suffix multiplied out.
    Integer(i64),
    /// A number with a point.
    Float(f64),
    /// `true`, `yes`, `on`, `false`, `no` or `off`, not in quotes.
    Bool(bool),
    /// A date with time, in UTC, to the second.
    Time(Timestamp),
    /// `[ … ]`
    List(Vec<Value>),
    /// `{ … }`
    Map(Map),
}

/// How a value came to stand for `$name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name, without the `$`.
    pub name: String,
    /// What defined it.
    pub from: VariableSource,
}

/// What defined a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariableSource {
    /// The environment of the process.
    Environment,
    /// A key of the configuration; the span is that of its value.
    Definition(Span),
}

/// The entries of a block, in the order of the file. Where a key is written twice the later entry counts, as in
/// nats-server; the earlier ones are kept aside.
#[derive(Clone, Debug, Default)]
pub struct Map {
    entries: Vec<Entry>,
    /// Which entry counts for a name.
    latest: HashMap<String, usize>,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key as written.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// Whether some `$name` took this entry's value. nats-server does not complain about an unknown option that is used
    /// as a variable.
    pub is_referenced: bool,
    is_shadowed: bool,
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key without its quotes. nats-server compares names of options without regard to case; the language does not.
    pub text: String,
    /// Where it stands, with its quotes.
    pub span: Span,
}

impl Value {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The entries, if it is a map.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.data {
            Data::Map(map) => Some(map),
            _ => None,
        }
    }
}

impl Data {
    /// What to call such a value in a sentence: "a text", "a whole number".
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a point",
            Self::Bool(_) => "true or false",
            Self::Time(_) => "a date",
            Self::List(_) => "a list",
            Self::Map(_) => "a block",
        }
    }
}

/// Same keys with the same values, wherever and in whatever order they were written.
impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().all(|entry| {
                let counterpart = other.get(&entry.key.text);
                counterpart.is_some_and(|other| other.value == entry.value)
            })
    }
}

/// Same data, wherever it came from.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

impl Map {
    /// The entry that counts for exactly this name. Constant time.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.latest.get(name).map(|&index| &self.entries[index])
    }

    /// The entries that count, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.is_shadowed)
    }

    /// Entries whose key was written again further down, in the order of the file.
    pub fn shadowed(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_shadowed)
    }

    /// How many entries count.
    pub fn len(&self) -> usize {
        self.latest.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.latest.is_empty()
    }

    /// Adds an entry; an earlier one of the same name no longer counts. Answers with where that one's key stands.
    pub(crate) fn insert(&mut self, key: Key, value: Value, is_referenced: bool) -> Option<Span> {
        let index = self.entries.len();
        let earlier = self.latest.insert(key.text.clone(), index);
        self.entries.push(Entry {
            key,
            value,
            is_referenced,
            is_shadowed: false,
        });
        earlier.map(|earlier| {
            let shadowed = &mut self.entries[earlier];
            shadowed.is_shadowed = true;
            shadowed.key.span
        })
    }

    /// The entry of this name, marked as used as a variable.
    pub(crate) fn reference(&mut self, name: &str) -> Option<&Entry> {
        let entry = &mut self.entries[*self.latest.get(name)?];
        entry.is_referenced = true;
        Some(entry)
    }

    /// Takes the entries that count out of the map.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.entries.into_iter().filter(|entry| !entry.is_shadowed)
    }
}
