//! What a row of the table of options can do, and the ways a row gets at the value it stands for.
//!
//! A row knows one option of a block that is read into a `T`. Everything the server does with options goes through
//! rows: reading a value of a file or a flag, showing it, comparing two, describing it. What differs between kinds of
//! values is a [`Codec`]; what differs between shapes (a value, a block, a list of blocks) is an [`Access`].

use natterjack_conf::{Data, Entry, Map, Value};

use super::changes::{Change, Changes};
use super::explain::Printer;
use super::flags::{Flag, FlagValue, Given};
use super::reader::{Advise, Reader, join};
use super::table;

/// One option of a block that is read into a `T`.
pub(crate) struct Row<T: 'static> {
    pub(crate) key: &'static str,
    /// Other names that nats-server knows.
    pub(crate) aliases: &'static [&'static str],
    /// Names of old versions, which nats-server refuses today.
    pub(crate) legacy: &'static [&'static str],
    pub(crate) flag: Option<&'static Flag>,
    pub(crate) access: &'static dyn Access<T>,
    pub(crate) reload: Reload,
    /// One sentence.
    pub(crate) doc: &'static str,
    /// Whether nats-server has no such option.
    pub(crate) is_ours: bool,
    /// Other options of the block that this one sets, too.
    pub(crate) sets: &'static [&'static str],
    /// Whether the row is only about a flag: its key is the path of the option that the flag sets.
    pub(crate) is_flag_only: bool,
}

/// Whether a running server can take a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Yes.
    Live,
    /// Only a new process.
    Restart,
}

/// A block: its rows in the order in which they are read, whatever the order of the file, and what must fit together
/// when all are read.
pub(crate) struct Section<T: 'static> {
    pub(crate) groups: &'static [Group<T>],
    pub(crate) settle: fn(&mut T, &mut Reader<'_>),
}

/// Rows under a heading.
pub(crate) struct Group<T: 'static> {
    /// Empty in blocks that need no headings.
    pub(crate) title: &'static str,
    pub(crate) rows: &'static [Row<T>],
}

/// The `settle` of a block whose rows do not depend on each other.
pub(crate) fn settled<T>(_: &mut T, _: &mut Reader<'_>) {}

impl<T> Row<T> {
    pub(crate) const fn new(
        key: &'static str,
        access: &'static dyn Access<T>,
        doc: &'static str,
    ) -> Self {
        Self {
            key,
            aliases: &[],
            legacy: &[],
            flag: None,
            access,
            reload: Reload::Live,
            doc,
            is_ours: false,
            sets: &[],
            is_flag_only: false,
        }
    }

    pub(crate) const fn sets(self, sets: &'static [&'static str]) -> Self {
        Self { sets, ..self }
    }

    pub(crate) const fn alias(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    pub(crate) const fn legacy(self, legacy: &'static [&'static str]) -> Self {
        Self { legacy, ..self }
    }

    pub(crate) const fn flag(self, flag: &'static Flag) -> Self {
        Self {
            flag: Some(flag),
            ..self
        }
    }

    pub(crate) const fn restart(self) -> Self {
        Self {
            reload: Reload::Restart,
            ..self
        }
    }

    pub(crate) const fn ours(self) -> Self {
        Self {
            is_ours: true,
            ..self
        }
    }

    pub(crate) const fn flag_only(self) -> Self {
        Self {
            is_flag_only: true,
            ..self
        }
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        let listed = if self.is_flag_only { 0 } else { usize::MAX };
        let names = [self.key].into_iter();
        names
            .chain(self.aliases.iter().copied())
            .chain(self.legacy.iter().copied())
            .take(listed)
    }

    fn is_named(&self, name: &str) -> bool {
        self.names().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// A way to a value of a `T`.
pub(crate) trait Access<T>: Sync {
    /// What kind of value it is: "a duration", for people.
    fn kind(&self) -> String;

    /// Takes over a value; says what is wrong with it.
    fn read(&self, target: &mut T, value: &Data, reader: &mut Reader<'_>);

    /// The value as it can be written in a file, secrets masked; `None`: not set, or shown by another row.
    fn show(&self, target: &T) -> Option<String>;

    /// Whether two have the same value.
    fn is_equal(&self, one: &T, other: &T) -> bool;

    /// Whether the value is not to be shown.
    fn is_secret(&self) -> bool {
        false
    }

    /// Whether the option is refused as something that is not there yet.
    fn is_unsupported(&self) -> bool {
        false
    }

    /// Takes over a flag, if it belongs to an option of this block.
    fn read_flag(&self, target: &mut T, flag: &Given, reader: &mut Reader<'_>) -> bool {
        let _ = (target, flag, reader);
        false
    }

    /// Prints the option and where its value came from.
    fn explain(&self, key: &str, target: &T, printer: &mut Printer<'_>) {
        if let Some(value) = self.show(target) {
            printer.line(key, &value);
        }
    }

    /// What is different between two. Blocks compare option by option.
    fn changes(&self, path: &str, reload: Reload, old: &T, new: &T, changes: &mut Changes) {
        if !self.is_equal(old, new) {
            let show = |target| self.show(target).unwrap_or_else(|| "none".to_owned());
            changes.add(
                reload,
                Change {
                    option: path.to_owned(),
                    old: show(old),
                    new: show(new),
                },
            );
        }
    }

    /// Adds the options of the block to a list of all options.
    fn describe(&self, path: &str, options: &mut Vec<OptionFacts>) {
        let _ = (path, options);
    }
}

/// What there is to know about an option without a configuration at hand.
#[derive(Clone, Debug)]
pub(crate) struct OptionFacts {
    /// As `cluster.port`; `[]` stands for an entry of a list.
    pub(crate) path: String,
    pub(crate) group: &'static str,
    pub(crate) key: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) legacy: &'static [&'static str],
    pub(crate) flag: Option<&'static Flag>,
    pub(crate) kind: String,
    pub(crate) default: Option<String>,
    pub(crate) reload: Reload,
    pub(crate) doc: &'static str,
    pub(crate) is_ours: bool,
    pub(crate) is_flag_only: bool,
    pub(crate) is_unsupported: bool,
    pub(crate) is_block: bool,
}

impl<T> Section<T> {
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'static Row<T>> + use<T> {
        self.groups.iter().flat_map(|group| group.rows)
    }
}

impl<T: Default> Section<T> {
    /// Reads a block into `target`.
    pub(crate) fn read(&self, target: &mut T, map: &Map, reader: &mut Reader<'_>) {
        for row in self.rows() {
            let mut entries: Vec<&Entry> = map
                .iter()
                .filter(|entry| row.is_named(&entry.key.text))
                .collect();
            // nats-server takes one of two spellings by chance; here it is the last, and said so.
            let Some(entry) = entries.pop() else { continue };
            for other in entries {
                reader.at(other.key.span, |reader| {
                    reader
                        .note(format!(
                            "{} is given twice: as {} here, and as {} further down, which counts",
                            row.key, other.key.text, entry.key.text
                        ))
                        .label("has no effect");
                });
            }
            if row
                .legacy
                .iter()
                .any(|name| name.eq_ignore_ascii_case(&entry.key.text))
            {
                reader.at(entry.key.span, |reader| {
                    reader
                        .note(format!(
                            "{} is the name of former times; it is {} today",
                            entry.key.text, row.key
                        ))
                        .help(format!(
                            "write {}; nats-server refuses the old name",
                            row.key
                        ));
                });
            }
            if row.access.is_secret() {
                reader.secrets.push(entry.value.span);
            }
            reader.option(row.key, &entry.value, |reader| {
                row.access.read(target, &entry.value.data, reader);
            });
            reader.share_origin(row.key, row.sets);
        }
        let is_known = |name: &str| self.rows().any(|row| row.is_named(name));
        let unknown = map
            .iter()
            .filter(|entry| !entry.is_referenced && !is_known(&entry.key.text));
        for entry in unknown {
            self.refuse_unknown(entry, reader);
        }
        (self.settle)(target, reader);
    }

    fn refuse_unknown(&self, entry: &Entry, reader: &mut Reader<'_>) {
        let name = &entry.key.text;
        let known: Vec<&str> = self
            .rows()
            .filter(|row| !row.access.is_unsupported())
            .flat_map(Row::names)
            .collect();
        // A part of a name is further away than a slip of the pen.
        let longer = || {
            let is_part = |known: &&&str| name.len() >= 5 && known.contains(name.as_str());
            known.iter().find(is_part).copied()
        };
        let nearest = natterjack_conf::nearest(name, known.iter().copied()).or_else(longer);
        let help = match nearest {
            Some(known) => Some(format!("did you mean {known}?")),
            None => table::home_of(name, reader.path()),
        };
        reader.at(entry.key.span, |reader| {
            let place = if reader.path().is_empty() {
                String::new()
            } else {
                format!(" in {}", reader.block())
            };
            let diagnostic = reader.error(format!("unknown option {name:?}{place}"));
            diagnostic.label = Some("not known".to_owned());
            diagnostic.help = help;
        });
    }

    /// Takes over a flag that belongs to one of the rows. Answers with whether there was one.
    pub(crate) fn read_flag(&self, target: &mut T, given: &Given, reader: &mut Reader<'_>) -> bool {
        for row in self.rows() {
            if row.flag.is_some_and(|flag| flag.names[0] == given.flag) {
                reader.flag(row.key, &given.name, |reader| {
                    row.access.read(target, &given.value.data(), reader);
                });
                reader.share_origin(row.key, row.sets);
                return true;
            }
            let is_taken = reader.within(row.key, |reader| {
                row.access.read_flag(target, given, reader)
            });
            if is_taken {
                return true;
            }
        }
        false
    }

    pub(crate) fn explain(&self, target: &T, printer: &mut Printer<'_>) {
        let default = T::default();
        // nats-server refuses what only we know: it is shown where it matters.
        let shown = self.rows().filter(|row| {
            let is_of_interest = !row.is_ours || !row.access.is_equal(target, &default);
            is_of_interest && !row.is_flag_only
        });
        for row in shown {
            row.access.explain(row.key, target, printer);
        }
    }

    /// The block on one line, without what is as by default.
    pub(crate) fn show(&self, target: &T) -> String {
        let default = T::default();
        let entries: Vec<String> = self
            .rows()
            .filter(|row| !row.is_flag_only && !row.access.is_equal(target, &default))
            .filter_map(|row| Some(format!("{}: {}", row.key, row.access.show(target)?)))
            .collect();
        if entries.is_empty() {
            return "{}".to_owned();
        }
        format!("{{ {} }}", entries.join(", "))
    }

    pub(crate) fn is_equal(&self, one: &T, other: &T) -> bool {
        self.rows().all(|row| row.access.is_equal(one, other))
    }

    pub(crate) fn changes(&self, path: &str, old: &T, new: &T, changes: &mut Changes) {
        for row in self.rows().filter(|row| !row.is_flag_only) {
            let path = join(path, row.key);
            row.access.changes(&path, row.reload, old, new, changes);
        }
    }

    pub(crate) fn describe(&self, path: &str, options: &mut Vec<OptionFacts>) {
        let default = T::default();
        let rows = self
            .groups
            .iter()
            .flat_map(|group| group.rows.iter().map(|row| (group.title, row)));
        for (group, row) in rows {
            let path = join(path, row.key);
            let index = options.len();
            options.push(OptionFacts {
                group,
                path: path.clone(),
                key: row.key,
                aliases: row.aliases,
                legacy: row.legacy,
                flag: row.flag,
                kind: row.access.kind(),
                default: row.access.show(&default),
                reload: row.reload,
                doc: row.doc,
                is_ours: row.is_ours,
                is_flag_only: row.is_flag_only,
                is_unsupported: row.access.is_unsupported(),
                is_block: false,
            });
            row.access.describe(&path, options);
            options[index].is_block = options.len() > index + 1;
        }
    }
}

impl FlagValue {
    fn data(&self) -> Data {
        match self {
            Self::Switch(on) => Data::Bool(*on),
            Self::Number(number) => Data::Integer(*number),
            Self::Text(text) => Data::Text(text.clone()),
            Self::Secret(secret) => Data::Text(secret.expose().to_owned()),
        }
    }
}

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
        crate::configuration::row::Field {
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
            &crate::configuration::row::Plain {
                field: crate::configuration::row::field!($target, $($path).+),
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
            &crate::configuration::row::Plain {
                field: crate::configuration::row::field!($target, $($path).+),
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
            let count = |target: &T| format!("{} {}", (self.field.get)(target).len(), self.noun);
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
