//! From the sources to [`Settings`]: which keys a document may have, and which source's value counts.
//!
//! Nothing stops at the first problem. What a value may be is `value`'s business, what fits together `check`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use natterjack_conf::nearest;

use super::check::{self, Gaps};
use super::origin::{Origin, Origins, Place};
use super::problem::{About, Findings, Problems, Wrong};
use super::sources::{Document, Sources};
use super::table::{self, ROWS};
use super::value::{FOREIGN_TYPES, Given, is_nothing};
use super::yaml::{self, Entry, SECTION, Value};
use super::{Loaded, Settings, value};

pub(super) fn read(sources: &Sources) -> Result<Loaded, Problems> {
    let mut findings = Findings::default();
    let mut settings = Settings::default();
    let mut origins = Origins::defaults();
    let mut gaps = Gaps::default();
    let mut written = document(sources, &mut findings, &mut gaps);
    nearly_variables(sources, &mut findings);
    unknown_flags(sources, &mut findings, &mut gaps);
    for (index, row) in ROWS.iter().enumerate() {
        let errors_before = findings.errors();
        let in_document = written.remove(&index);
        let given = flag(sources, index)
            .or_else(|| variable(sources, index, &mut findings))
            .or(in_document);
        if let Some(given) = given {
            value::read(row.slot, &given, &mut settings, &mut findings);
            origins.set(index, given.origin);
        }
        if findings.errors() > errors_before {
            gaps.unread.insert(index);
        }
    }
    check::check(&settings, &origins, &gaps, &mut findings);
    if findings.has_errors() {
        return Err(Problems(findings.sorted()));
    }
    Ok(Loaded {
        settings,
        origins,
        warnings: findings.sorted(),
    })
}

/// The last flag of an option; a list's texts together.
fn flag(sources: &Sources, index: usize) -> Option<Given> {
    let row = &ROWS[index];
    let mut texts = sources
        .flags
        .iter()
        .filter(|(name, _)| name == row.flag)
        .map(|(_, value)| value.as_str());
    let text = if row.slot.is_list() {
        let first = texts.next()?.to_owned();
        texts.fold(first, |all, text| all + "," + text)
    } else {
        texts.next_back()?.to_owned()
    };
    Some(Given {
        option: row.path.into(),
        value: Value::Text(text),
        origin: Origin::Flag(row.flag.into()),
    })
}

fn variable(sources: &Sources, index: usize, findings: &mut Findings) -> Option<Given> {
    let row = &ROWS[index];
    let name = sources.variable_name(row);
    let (_, text) = sources.variables.iter().find(|(known, _)| *known == name)?;
    let origin = Origin::Variable(name);
    let Some(text) = text else {
        let about = About {
            origin: &origin,
            option: row.path,
            value: None,
        };
        findings.error(
            about,
            Wrong::new("is not UTF-8", "set the variable to a text, or unset it"),
        );
        return None;
    };
    (!text.is_empty()).then(|| Given {
        option: row.path.into(),
        value: Value::Text(text.clone()),
        origin,
    })
}

/// A variable that is nearly one of ours was meant to be. Others of the same prefix are somebody else's.
fn nearly_variables(sources: &Sources, findings: &mut Findings) {
    let known: Vec<String> = ROWS.iter().map(|row| sources.variable_name(row)).collect();
    let prefix = format!("{}_", sources.prefix);
    for (name, _) in &sources.variables {
        let is_ours = known.contains(name) || !name.starts_with(&prefix);
        let meant = nearest(name, known.iter().map(String::as_str));
        if let Some(meant) = meant.filter(|meant| !is_ours && is_slip(name, meant)) {
            let origin = Origin::Variable(name.clone());
            let about = About {
                origin: &origin,
                option: "",
                value: None,
            };
            findings.warn(
                about,
                Wrong::new("is not read", format!("did you mean {meant}?")),
            );
        }
    }
}

/// Long names that differ in a third of their letters are still different names.
fn is_slip(name: &str, meant: &str) -> bool {
    const LETTERS_MAX: usize = 3;
    let common = |one: &mut dyn Iterator<Item = u8>, other: &mut dyn Iterator<Item = u8>| {
        one.zip(other)
            .take_while(|(one, other)| one == other)
            .count()
    };
    let front = common(&mut name.bytes(), &mut meant.bytes());
    let back = common(&mut name.bytes().rev(), &mut meant.bytes().rev());
    let length = name.len().max(meant.len());
    length.saturating_sub(front + back) <= LETTERS_MAX
}

fn unknown_flags(sources: &Sources, findings: &mut Findings, gaps: &mut Gaps) {
    for (name, value) in &sources.flags {
        if ROWS.iter().any(|row| row.flag == name) {
            continue;
        }
        let origin = Origin::Flag(name.clone());
        let about = About {
            origin: &origin,
            option: "",
            value: Some(value),
        };
        let meant = nearest(name, ROWS.iter().map(|row| row.flag));
        let rows = ROWS.iter().enumerate();
        let meant_rows = rows.filter(|(_, row)| Some(row.flag) == meant);
        gaps.maybe_given.extend(meant_rows.map(|(index, _)| index));
        let remedy = match meant {
            Some(meant) => format!("did you mean `--{meant}`?"),
            None => "leave it out".into(),
        };
        findings.error(about, Wrong::new("there is no such flag", remedy));
    }
}

/// The values of a document, by row.
fn document(sources: &Sources, findings: &mut Findings, gaps: &mut Gaps) -> BTreeMap<usize, Given> {
    let (name, text) = match &sources.document {
        None => return BTreeMap::new(),
        Some(Document::Text { name, text }) => (name.clone(), Ok(text.clone())),
        Some(Document::File(path)) => (path.display().to_string(), std::fs::read_to_string(path)),
    };
    let mut reader = Reader {
        name: name.into(),
        findings,
        gaps,
        written: BTreeMap::new(),
    };
    match text {
        Err(error) => {
            reader.gaps.maybe_given.extend(0..ROWS.len());
            reader.error(None, "", unreadable(&error));
        }
        Ok(text) => match yaml::parse(&text) {
            Err((place, message)) => {
                reader.gaps.maybe_given.extend(0..ROWS.len());
                let wrong = Wrong::new(
                    format!("not valid YAML: {message}"),
                    "correct it; nothing else in the file was looked at",
                );
                reader.error(place, "", wrong);
            }
            Ok(document) => reader.document(document),
        },
    }
    reader.written
}

fn unreadable(error: &std::io::Error) -> Wrong {
    use std::io::ErrorKind;
    Wrong::new(
        format!("error reading in configuration file: {error}"),
        match error.kind() {
            ErrorKind::NotFound => "check the path",
            ErrorKind::PermissionDenied => "let the user that runs this read it",
            ErrorKind::IsADirectory => "name the file in it",
            ErrorKind::InvalidData => "it must be text in UTF-8",
            _ => "see what the system says",
        },
    )
}

struct Reader<'a> {
    name: Arc<str>,
    findings: &'a mut Findings,
    gaps: &'a mut Gaps,
    written: BTreeMap<usize, Given>,
}

impl Reader<'_> {
    fn document(&mut self, document: yaml::Document) {
        let Some(section) = document.section else {
            return self.missing_section(&document.others);
        };
        self.section(SECTION, section.key, section.node.place, section.node.value);
    }

    /// Reads what is in a section. `path` is how the table calls it, `written` how the document does.
    fn section(&mut self, path: &str, written: String, place: Place, value: Value) {
        let entries = match value {
            Value::Map(entries) => entries,
            Value::Null => return,
            _ => {
                self.gaps.maybe_given.extend(rows_below(path));
                let wrong = Wrong::new(
                    "must be a section",
                    "write its keys and values below it, indented",
                );
                return self.error(Some(place), &written, wrong);
            }
        };
        let children = children(path);
        let mut seen: Vec<(&str, String, Place)> = Vec::new();
        for Entry { key, place, node } in entries {
            let full = format!("{written}.{key}");
            if path == SECTION
                && FOREIGN_TYPES
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(&key))
            {
                continue;
            }
            let Some(child) = children
                .iter()
                .find(|child| child.eq_ignore_ascii_case(&key))
            else {
                self.unknown(place, path, &full, &key);
                continue;
            };
            if let Some((_, first, first_place)) = seen.iter().find(|(known, ..)| known == child) {
                let child_path = format!("{path}.{child}");
                self.gaps.maybe_given.extend(rows_below(&child_path));
                let wrong = Wrong::new(
                    format!("was given at {first_place} already, as `{first}`"),
                    "keep one",
                );
                self.error(Some(place), &full, wrong);
                continue;
            }
            seen.push((*child, key, place));
            let path = format!("{path}.{child}");
            match ROWS
                .iter()
                .position(|row| row.paths().any(|known| known == path))
            {
                Some(index) => self.option(index, full, node),
                None => self.section(&path, full, node.place, node.value),
            }
        }
    }

    fn option(&mut self, index: usize, option: String, node: yaml::Node) {
        if is_nothing(ROWS[index].slot, &node.value) {
            return;
        }
        let given = Given {
            option,
            value: node.value,
            origin: self.at(Some(node.place)),
        };
        let Some(first) = self.written.remove(&index) else {
            self.written.insert(index, given);
            return;
        };
        // Two paths lead to one option. Which of them is said last does not matter.
        if !is_same(index, &first, &given) {
            let wrong = Wrong::new(
                format!("differs from {} at {}", first.option, first.origin),
                "keep one of the two",
            );
            let about = About {
                origin: &given.origin,
                option: &given.option,
                value: None,
            };
            self.findings.error(about, wrong);
        }
        self.written.insert(index, first);
    }

    /// A key that a section does not have. It is none of the others unless it is nearly one of them.
    fn unknown(&mut self, place: Place, section: &str, full: &str, key: &str) {
        let children = children(section);
        let remedy = match nearest(key, children.iter().copied()) {
            Some(meant) => {
                let meant_path = format!("{section}.{meant}");
                self.gaps.maybe_given.extend(rows_below(&meant_path));
                format!("did you mean `{meant}`?")
            }
            None => {
                let children: Vec<&str> = children.into_iter().collect();
                format!("known here: {}", children.join(", "))
            }
        };
        self.error(Some(place), full, Wrong::new("unknown key", remedy));
    }

    fn missing_section(&mut self, others: &[(String, Place)]) {
        let mut is_near = false;
        for (name, place) in others {
            if nearest(name, [SECTION]).is_some() {
                is_near = true;
                let wrong = Wrong::new("is not read", format!("did you mean `{SECTION}`?"));
                self.warn(Some(*place), name, wrong);
            }
        }
        if !is_near {
            let wrong = Wrong::new(
                format!("there is no `{SECTION}` section"),
                "without one, variables or flags the bus stays inside this process (type `local`)",
            );
            self.warn(None, "", wrong);
        }
    }

    fn at(&self, place: Option<Place>) -> Origin {
        Origin::File {
            name: Arc::clone(&self.name),
            place,
        }
    }

    fn error(&mut self, place: Option<Place>, option: &str, wrong: Wrong) {
        let origin = self.at(place);
        self.findings.error(about(&origin, option), wrong);
    }

    fn warn(&mut self, place: Option<Place>, option: &str, wrong: Wrong) {
        let origin = self.at(place);
        self.findings.warn(about(&origin, option), wrong);
    }
}

fn about<'a>(origin: &'a Origin, option: &'a str) -> About<'a> {
    About {
        origin,
        option,
        value: None,
    }
}

/// The keys that may stand in a section.
fn children(section: &str) -> BTreeSet<&'static str> {
    ROWS.iter()
        .flat_map(table::Row::paths)
        .filter_map(|path| path.strip_prefix(section)?.strip_prefix('.'))
        .filter_map(|rest| rest.split('.').next())
        .collect()
}

/// The options in a section, or the one that has this path.
fn rows_below(path: &str) -> impl Iterator<Item = usize> {
    let is_below = move |known: &str| {
        let rest = known.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    (0..ROWS.len()).filter(move |index| ROWS[*index].paths().any(is_below))
}

/// Whether two values of an option come to the same. Neither is, if one is none.
fn is_same(index: usize, one: &Given, other: &Given) -> bool {
    let read = |given: &Given| {
        let mut settings = Settings::default();
        let mut findings = Findings::default();
        value::read(ROWS[index].slot, given, &mut settings, &mut findings);
        (!findings.has_errors()).then(|| value::show(ROWS[index].slot, &settings))
    };
    matches!((read(one), read(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
#[path = "read/tests.rs"]
mod tests;
