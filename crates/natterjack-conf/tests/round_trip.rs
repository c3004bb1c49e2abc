//! A tree, written in any style the language has, is read as the same tree.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use natterjack_conf::{Data, EmptyEnvironment, Map, parse};
use proptest::prelude::*;

/// What is written.
#[derive(Clone, Debug)]
enum Tree {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Time(i64),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
}

/// How: every decision takes the next of these numbers, over and over.
#[derive(Debug)]
struct Style {
    choices: Vec<u8>,
    next: usize,
    /// Only a line end may follow.
    needs_line_end: bool,
}

impl Style {
    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.number(choices.len())]
    }

    /// What stands between a value and the next.
    fn end<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        match std::mem::take(&mut self.needs_line_end) {
            true => "\n",
            false => self.one_of(choices),
        }
    }

    fn number(&mut self, end: usize) -> usize {
        self.next += 1;
        usize::from(self.choices[self.next % self.choices.len()]) % end
    }
}

const SEPARATORS: [&str; 7] = [" ", ": ", " = ", "=", ":", "\t=\t", "  :"];
const ENDS: [&str; 8] = [
    "\n",
    "\r\n",
    " , ",
    ";",
    ",\n",
    " # }]\"\n",
    "\t// '{[\n",
    "\n\n# x\n",
];
const ELEMENT_ENDS: [&str; 6] = [", ", "\n", " ,\r\n", " # ]\n", ", // \"\n\n", "\n\t"];
const OPENINGS: [&str; 4] = ["", " ", "\n", " # }\n"];
const WORDS: [&str; 6] = ["true", "false", "yes", "no", "on", "off"];

fn write_map(map: &BTreeMap<String, Tree>, style: &mut Style, text: &mut String) {
    for (key, tree) in map {
        write_key(key, style, text);
        text.push_str(style.one_of(&SEPARATORS));
        write_tree(tree, style, text);
        text.push_str(style.end(&ENDS));
    }
}

fn write_key(key: &str, style: &mut Style, text: &mut String) {
    let _ = match style.number(3) {
        0 if is_plain(key) && !key.eq_ignore_ascii_case("include") => write!(text, "{key}"),
        1 if !key.contains('\'') => write!(text, "'{key}'"),
        _ => write!(text, "\"{key}\""),
    };
}

fn write_tree(tree: &Tree, style: &mut Style, text: &mut String) {
    let _ = match tree {
        Tree::Text(value) => {
            write_text(value, style, text);
            Ok(())
        }
        Tree::Integer(number) => match style.number(3) {
            0 if number % 1_000_000 == 0 => write!(text, "{}m", number / 1_000_000),
            1 if number % 1024 == 0 => write!(text, "{}KiB", number / 1024),
            _ => write!(text, "{number}"),
        },
        Tree::Float(number) if number.fract() == 0.0 => write!(text, "{number}.0"),
        Tree::Float(number) => write!(text, "{number}"),
        Tree::Bool(true) => write!(text, "{}", style.one_of(&["true", "Yes", "ON"])),
        Tree::Bool(false) => write!(text, "{}", style.one_of(&["FALSE", "no", "Off"])),
        Tree::Time(second) => {
            let time = jiff::Timestamp::from_second(*second).expect("in the range");
            write!(text, "{time}")
        }
        Tree::List(trees) => {
            let _ = write!(text, "[{}", style.one_of(&OPENINGS));
            for (index, tree) in trees.iter().enumerate() {
                if index > 0 {
                    text.push_str(style.end(&ELEMENT_ENDS));
                }
                write_tree(tree, style, text);
            }
            // A comma may follow the last element, but not stand alone.
            let closings: &[_] = match trees.is_empty() {
                true => &["", " ", "\n"],
                false => &["", " ", "\n", " # ]\n", ","],
            };
            write!(text, "{}]", style.end(closings))
        }
        Tree::Map(map) => {
            let _ = write!(text, "{{{}", style.one_of(&OPENINGS));
            write_map(map, style, text);
            write!(text, "}}")
        }
    };
}

fn write_text(value: &str, style: &mut Style, text: &mut String) {
    let _ = match style.number(4) {
        0 if is_plain(value) && !WORDS.contains(&value.to_lowercase().as_str()) => {
            write!(text, "{value}")
        }
        1 if !value.contains(['\'', '\0']) => write!(text, "'{value}'"),
        2 if value.ends_with('\n') && !value.contains("\n)") && !value.contains('\0') => {
            style.needs_line_end = true;
            write!(text, "({value})")
        }
        _ => {
            text.push('"');
            for character in value.chars() {
                let is_escaped = style.number(4) == 0;
                let _ = match character {
                    '"' => write!(text, "\\\""),
                    '\\' => write!(text, "\\\\"),
                    '\t' if is_escaped => write!(text, "\\t"),
                    '\n' if is_escaped => write!(text, "\\n"),
                    '\r' if is_escaped => write!(text, "\\r"),
                    _ if is_escaped || character == '\0' => {
                        let mut buffer = [0; 4];
                        let bytes = character.encode_utf8(&mut buffer).bytes();
                        bytes
                            .into_iter()
                            .try_for_each(|byte| write!(text, "\\x{byte:02x}"))
                    }
                    _ => write!(text, "{character}"),
                };
            }
            write!(text, "\"")
        }
    };
}

/// Whether it may stand without quotes and is a text then.
fn is_plain(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|character| {
            character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-' | '*' | 'é')
        })
}

fn is_same(data: &Data, tree: &Tree) -> bool {
    match (data, tree) {
        (Data::Text(one), Tree::Text(other)) => one == other,
        (Data::Integer(one), Tree::Integer(other)) => one == other,
        (Data::Float(one), Tree::Float(other)) => one.to_bits() == other.to_bits(),
        (Data::Bool(one), Tree::Bool(other)) => one == other,
        (Data::Time(one), Tree::Time(other)) => one.as_second() == *other,
        (Data::List(values), Tree::List(trees)) => {
            values.len() == trees.len()
                && values
                    .iter()
                    .zip(trees)
                    .all(|(value, tree)| is_same(&value.data, tree))
        }
        (Data::Map(map), Tree::Map(trees)) => is_same_map(map, trees),
        _ => false,
    }
}

/// Same keys in the same order, same values.
fn is_same_map(map: &Map, trees: &BTreeMap<String, Tree>) -> bool {
    map.len() == trees.len()
        && map
            .iter()
            .zip(trees)
            .all(|(entry, (key, tree))| entry.key.text == *key && is_same(&entry.value.data, tree))
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        "[ -~]{0,12}".prop_map(Tree::Text),
        "[a-zé_.*-]{1,8}".prop_map(Tree::Text),
        "(?s:.){0,12}".prop_map(Tree::Text),
        "[a-c\n)]{0,5}\n".prop_map(Tree::Text),
        any::<i64>().prop_map(Tree::Integer),
        (-5000_i64..5000).prop_map(|number| Tree::Integer(number * 1024)),
        (-5000_i64..5000).prop_map(|number| Tree::Integer(number * 1_000_000)),
        any::<f64>()
            .prop_filter("the language has no such number", |number| number
                .is_finite())
            .prop_map(Tree::Float),
        (-1000.0..1000.0).prop_map(Tree::Float),
        any::<bool>().prop_map(Tree::Bool),
        // The years 1 to 9998.
        (-62_135_596_800_i64..253_339_228_799).prop_map(Tree::Time),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            map_of(inner).prop_map(Tree::Map),
        ]
    })
}

fn map_of(tree: impl Strategy<Value = Tree>) -> impl Strategy<Value = BTreeMap<String, Tree>> {
    // Nothing is an escape in a key.
    let key = prop_oneof!["[a-z][a-z0-9_.]{0,6}", "[^\"\0]{0,6}"];
    prop::collection::btree_map(key, tree, 0..6)
}

proptest! {
    // What fails is shown in full and is to become a test of its own.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        map in map_of(tree()),
        choices in prop::collection::vec(any::<u8>(), 1..64),
        has_braces in any::<bool>(),
    ) {
        let mut style = Style { choices, next: 0, needs_line_end: false };
        let mut text = String::new();
        write_map(&map, &mut style, &mut text);
        if has_braces {
            text = format!("{{ {text}\n}}");
        }
        let parsed = parse("made up", &text, &EmptyEnvironment);
        let complaints: Vec<_> = parsed
            .diagnostics
            .iter()
            .map(|diagnostic| parsed.sources.render(diagnostic))
            .filter(|shown| !shown.contains("has no values"))
            .collect();
        prop_assert!(complaints.is_empty(), "{text}\n{}", complaints.join("\n"));
        prop_assert!(is_same_map(&parsed.root, &map), "{text}\n{:?}", parsed.root);
    }
}
