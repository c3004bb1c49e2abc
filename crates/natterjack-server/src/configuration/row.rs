//! What a row of the table of options can do, and the ways a row gets at the value it stands for.
//!
//! A row knows one option of a block that is read into a `T`. Everything the server does with options goes through
//! rows: reading a value of a file or a flag, showing it, comparing two, describing it. What differs between kinds of
//! values is a codec; what differs between shapes (a value, a block, a list of blocks) is an [`Access`], see `shape`.

use natterjack_conf::{Data, Entry, Map};

use super::changes::{Change, Changes};
use super::explain::Printer;
use super::flags::{Flag, FlagValue, Given};
use super::reader::{Advise, Reader, join};
use super::render::is_secret_name;
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
    /// Why the option changes nothing here; empty for all others.
    pub(crate) inert: &'static str,
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
            inert: "",
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

    pub(crate) const fn inert(self, inert: &'static str) -> Self {
        Self { inert, ..self }
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
    pub(crate) inert: &'static str,
    pub(crate) is_ours: bool,
    pub(crate) is_flag_only: bool,
    pub(crate) is_unsupported: bool,
    pub(crate) is_block: bool,
}

impl<T: Default> Row<T> {
    /// Reads the option's value; says so if nothing comes of it.
    fn take(&self, target: &mut T, value: &Data, reader: &mut Reader<'_>) {
        self.access.read(target, value, reader);
        if !self.inert.is_empty() && !self.access.is_equal(target, &T::default()) {
            reader
                .note(format!("{} has no effect: {}", self.key, self.inert))
                .label("has no effect");
        }
    }
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
                reader.hide(&entry.value);
            }
            reader.option(row.key, &entry.value, |reader| {
                row.take(target, &entry.value.data, reader);
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
        if is_secret_name(name) {
            reader.hide(&entry.value);
        }
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
                    row.take(target, &given.value.data(), reader);
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
                inert: row.inert,
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
