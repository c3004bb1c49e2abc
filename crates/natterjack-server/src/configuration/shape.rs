//! The shapes of rows: a value in a field, something special, a block, a list of blocks, what is not there yet. Each is
//! an [`Access`]: a way to read, show and compare a value of a `T`.

use natterjack_conf::{Data, Value};

use super::changes::{Change, Changes};
use super::explain::Printer;
use super::flags::Given;
use super::reader::{Advise, Reader};
use super::row::{Access, OptionFacts, Reload, Section};

/// How values of one kind are read and shown.
pub(crate) struct Codec<V: 'static> {
    /// "a duration", for messages and documentation.
    pub(crate) kind: &'static str,
    /// Says what is wrong where it is `None`.
    pub(crate) read: fn(&Data, &mut Reader<'_>) -> Option<V>,
    /// As it can be written in a file; `None`: there is no value.
    pub(crate) show: fn(&V) -> Option<String>,
    pub(crate) is_secret: bool,
}

/// A field of a `T`.
pub(crate) struct Field<T: 'static, V: 'static> {
    pub(crate) get: fn(&T) -> &V,
    pub(crate) get_mut: fn(&mut T) -> &mut V,
}

/// `field!(Configuration, options.port)`: a [`Field`].
macro_rules! field {
    ($target:ty, $($path:ident).+) => {
        crate::configuration::shape::Field {
            get: |target: &$target| &target.$($path).+,
            get_mut: |target: &mut $target| &mut target.$($path).+,
        }
    };
}
pub(crate) use field;

/// A value in a field.
pub(crate) struct Plain<T: 'static, V: 'static> {
    pub(crate) field: Field<T, V>,
    pub(crate) codec: &'static Codec<V>,
    /// Whether zero stands for the default, as for many numbers of nats-server.
    pub(crate) zero_is_default: bool,
}

/// A row whose value is in a field: `plain!(Configuration, "port", options.port, PORT, "…")`.
macro_rules! plain {
    ($target:ty, $key:literal, $($path:ident).+, $codec:expr, $doc:expr $(,)?) => {
        crate::configuration::row::Row::new(
            $key,
            &crate::configuration::shape::Plain {
                field: crate::configuration::shape::field!($target, $($path).+),
                codec: &$codec,
                zero_is_default: false,
            },
            $doc,
        )
    };
}
pub(crate) use plain;

/// The same where zero stands for the default.
macro_rules! plain_or_default {
    ($target:ty, $key:literal, $($path:ident).+, $codec:expr, $doc:expr $(,)?) => {
        crate::configuration::row::Row::new(
            $key,
            &crate::configuration::shape::Plain {
                field: crate::configuration::shape::field!($target, $($path).+),
                codec: &$codec,
                zero_is_default: true,
            },
            $doc,
        )
    };
}
pub(crate) use plain_or_default;

impl<T: Default, V: Clone + PartialEq + Default> Access<T> for Plain<T, V> {
    fn kind(&self) -> String {
        self.codec.kind.to_owned()
    }

    fn read(&self, target: &mut T, value: &Data, reader: &mut Reader<'_>) {
        let Some(mut value) = (self.codec.read)(value, reader) else {
            return;
        };
        if self.zero_is_default && value == V::default() {
            value = (self.field.get)(&T::default()).clone();
        }
        *(self.field.get_mut)(target) = value;
    }

    fn show(&self, target: &T) -> Option<String> {
        (self.codec.show)((self.field.get)(target))
    }

    fn is_equal(&self, one: &T, other: &T) -> bool {
        (self.field.get)(one) == (self.field.get)(other)
    }

    fn is_secret(&self) -> bool {
        self.codec.is_secret
    }
}

/// A value that is not simply one field.
pub(crate) struct Custom<T: 'static> {
    pub(crate) kind: &'static str,
    pub(crate) read: fn(&mut T, &Data, &mut Reader<'_>),
    pub(crate) show: fn(&T) -> Option<String>,
    pub(crate) is_equal: fn(&T, &T) -> bool,
    pub(crate) is_secret: bool,
}

impl<T> Custom<T> {
    /// Another way to write what a different row shows.
    pub(crate) const fn shorthand(
        kind: &'static str,
        read: fn(&mut T, &Data, &mut Reader<'_>),
    ) -> Self {
        Self {
            kind,
            read,
            show: |_| None,
            is_equal: |_, _| true,
            is_secret: false,
        }
    }
}

impl<T> Access<T> for Custom<T> {
    fn kind(&self) -> String {
        self.kind.to_owned()
    }

    fn read(&self, target: &mut T, value: &Data, reader: &mut Reader<'_>) {
        (self.read)(target, value, reader);
    }

    fn show(&self, target: &T) -> Option<String> {
        (self.show)(target)
    }

    fn is_equal(&self, one: &T, other: &T) -> bool {
        (self.is_equal)(one, other)
    }

    fn is_secret(&self) -> bool {
        self.is_secret
    }
}

/// What nats-server has and we have not yet. Only what switches it off is accepted.
pub(crate) struct Unsupported {
    /// What kind of value it takes.
    pub(crate) kind: &'static str,
    /// Further texts that switch it off.
    pub(crate) off: &'static [&'static str],
}

impl Unsupported {
    fn is_off(&self, value: &Data) -> bool {
        match value {
            Data::Bool(on) => !on,
            Data::Integer(number) => *number == 0,
            Data::Text(text) => {
                text.is_empty() || self.off.iter().any(|off| off.eq_ignore_ascii_case(text))
            }
            Data::List(values) => values.is_empty(),
            Data::Map(map) => {
                map.is_empty()
                    || map.len() == 1
                        && map.iter().all(|entry| {
                            ["enabled", "enable"]
                                .iter()
                                .any(|key| key.eq_ignore_ascii_case(&entry.key.text))
                                && entry.value.data == Data::Bool(false)
                        })
            }
            Data::Float(_) | Data::Time(_) => false,
        }
    }
}

impl<T> Access<T> for Unsupported {
    fn kind(&self) -> String {
        self.kind.to_owned()
    }

    fn read(&self, _: &mut T, value: &Data, reader: &mut Reader<'_>) {
        if !self.is_off(value) {
            let path = reader.path().to_owned();
            reader
                .error(format!("{path} is not supported yet"))
                .label("not supported yet");
        }
    }

    fn show(&self, _: &T) -> Option<String> {
        None
    }

    fn is_equal(&self, _: &T, _: &T) -> bool {
        true
    }

    fn is_unsupported(&self) -> bool {
        true
    }
}

/// A block whose rows are about the same `T`.
pub(crate) struct Inline<T: 'static> {
    pub(crate) section: &'static Section<T>,
}

impl<T: Default> Access<T> for Inline<T> {
    fn kind(&self) -> String {
        "a block".to_owned()
    }

    fn read(&self, target: &mut T, value: &Data, reader: &mut Reader<'_>) {
        if let Some(map) = super::reader::map(value, reader) {
            self.section.read(target, map, reader);
        }
    }

    fn show(&self, _: &T) -> Option<String> {
        None
    }

    fn is_equal(&self, one: &T, other: &T) -> bool {
        self.section.is_equal(one, other)
    }

    fn read_flag(&self, target: &mut T, flag: &Given, reader: &mut Reader<'_>) -> bool {
        self.section.read_flag(target, flag, reader)
    }

    fn explain(&self, key: &str, target: &T, printer: &mut Printer<'_>) {
        printer.block(key, |printer| self.section.explain(target, printer));
    }

    fn changes(&self, path: &str, _: Reload, old: &T, new: &T, changes: &mut Changes) {
        self.section.changes(path, old, new, changes);
    }

    fn describe(&self, path: &str, options: &mut Vec<OptionFacts>) {
        self.section.describe(path, options);
    }
}

/// A block that may be there or not.
pub(crate) struct Block<T: 'static, S: 'static> {
    pub(crate) field: Field<T, Option<S>>,
    pub(crate) section: &'static Section<S>,
}

impl<T, S: Default> Access<T> for Block<T, S> {
    fn kind(&self) -> String {
        "a block".to_owned()
    }

    fn read(&self, target: &mut T, value: &Data, reader: &mut Reader<'_>) {
        if let Some(map) = super::reader::map(value, reader) {
            let mut block = S::default();
            self.section.read(&mut block, map, reader);
            *(self.field.get_mut)(target) = Some(block);
        }
    }

    fn show(&self, target: &T) -> Option<String> {
        let block = (self.field.get)(target).as_ref()?;
        Some(self.section.show(block))
    }

    fn is_equal(&self, one: &T, other: &T) -> bool {
        match ((self.field.get)(one), (self.field.get)(other)) {
            (None, None) => true,
            (Some(one), Some(other)) => self.section.is_equal(one, other),
            _ => false,
        }
    }

    fn read_flag(&self, target: &mut T, flag: &Given, reader: &mut Reader<'_>) -> bool {
        let block = (self.field.get_mut)(target);
        if let Some(block) = block {
            return self.section.read_flag(block, flag, reader);
        }
        let mut created = S::default();
        let is_taken = self.section.read_flag(&mut created, flag, reader);
        if is_taken {
            *block = Some(created);
        }
        is_taken
    }

    fn explain(&self, key: &str, target: &T, printer: &mut Printer<'_>) {
        if let Some(block) = (self.field.get)(target) {
            printer.block(key, |printer| self.section.explain(block, printer));
        }
    }

    fn changes(&self, path: &str, reload: Reload, old: &T, new: &T, changes: &mut Changes) {
        match ((self.field.get)(old), (self.field.get)(new)) {
            (Some(old), Some(new)) => self.section.changes(path, old, new, changes),
            (None, None) => {}
            _ => {
                let show = |target| self.show(target).unwrap_or_else(|| "none".to_owned());
                let change = Change {
                    option: path.to_owned(),
                    old: show(old),
                    new: show(new),
                };
                changes.add(reload, change);
            }
        }
    }

    fn describe(&self, path: &str, options: &mut Vec<OptionFacts>) {
        self.section.describe(path, options);
    }
}

/// A list of blocks. A block is read into a draft `D`, of which a value `V` is made.
pub(crate) struct Blocks<T: 'static, V: 'static, D: 'static> {
    pub(crate) field: Field<T, Vec<V>>,
    pub(crate) section: &'static Section<D>,
    /// Says what is wrong where it is `None`.
    pub(crate) finish: fn(D, &mut Reader<'_>) -> Option<V>,
    pub(crate) draft: fn(&V) -> D,
    /// "3 users", in messages.
    pub(crate) noun: &'static str,
}

impl<T, V, D: Default> Blocks<T, V, D> {
    fn read_entry(&self, value: &Value, reader: &mut Reader<'_>) -> Option<V> {
        let map = super::reader::map(&value.data, reader)?;
        let mut draft = D::default();
        let errors = reader.diagnostics.len();
        self.section.read(&mut draft, map, reader);
        let is_sound = !reader.diagnostics[errors..]
            .iter()
            .any(|diagnostic| diagnostic.severity == natterjack_conf::Severity::Error);
        if is_sound {
            (self.finish)(draft, reader)
        } else {
            None
        }
    }
}

impl<T, V: PartialEq, D: Default> Access<T> for Blocks<T, V, D> {
    fn kind(&self) -> String {
        "a list of blocks".to_owned()
    }

    fn read(&self, target: &mut T, value: &Data, reader: &mut Reader<'_>) {
        let Data::List(values) = value else {
            reader.expected("a list of blocks", value);
            return;
        };
        let mut entries = Vec::with_capacity(values.len());
        for value in values {
            // Entries with mistakes are left out, so that an index names the same entry in the result.
            reader.entry(entries.len(), value, |reader| {
                entries.extend(self.read_entry(value, reader));
            });
        }
        *(self.field.get_mut)(target) = entries;
    }

    fn show(&self, target: &T) -> Option<String> {
        let values = (self.field.get)(target);
        if values.is_empty() {
            return None;
        }
        let entries: Vec<String> = values
            .iter()
            .map(|value| self.section.show(&(self.draft)(value)))
            .collect();
        Some(format!("[ {} ]", entries.join(", ")))
    }

    fn is_equal(&self, one: &T, other: &T) -> bool {
        (self.field.get)(one) == (self.field.get)(other)
    }

    fn explain(&self, key: &str, target: &T, printer: &mut Printer<'_>) {
        let values = (self.field.get)(target);
        if values.is_empty() {
            return;
        }
        printer.list(key, |printer| {
            for (index, value) in values.iter().enumerate() {
                let entry = self.section.show(&(self.draft)(value));
                printer.entry(&format!("{key}[{index}]"), &entry);
            }
        });
    }

    fn changes(&self, path: &str, reload: Reload, old: &T, new: &T, changes: &mut Changes) {
        if !self.is_equal(old, new) {
            let count = |target: &T| match (self.field.get)(target).len() {
                1 => format!("1 {}", self.noun.trim_end_matches('s')),
                count => format!("{count} {}", self.noun),
            };
            let change = Change {
                option: path.to_owned(),
                old: count(old),
                new: count(new),
            };
            changes.add(reload, change);
        }
    }

    fn describe(&self, path: &str, options: &mut Vec<OptionFacts>) {
        self.section.describe(&format!("{path}[]"), options);
    }
}
