//! Makes up files: random trees in random styles of writing, valid or with a few characters changed. Keeps clear of what the
//! corpus lists as judged differently: marks that nats-server swallows or takes for parts of keys, and `]` behind a number.

use fastrand::Rng;

const DEPTH_MAX: u32 = 3;
const ENTRIES_MAX: usize = 5;

const KEYS: [&str; 8] = ["a", "b", "c", "a.b", "\"d e\"", "'f'", "max_g", "ü"];
const SEPARATORS: [&str; 6] = [" ", ": ", " = ", "=", ":", "\t"];
const ENDS: [&str; 7] = ["\n", "\n\n", ", ", " ;", " # x\n", "\r\n", " // \"y\n"];
const SCALARS: [&str; 38] = [
    "1",
    "22",
    "-3",
    "007",
    "9223372036854775807",
    "1k",
    "2KB",
    "3MiB",
    "-4g",
    "2m",
    "1.5",
    "-0.0",
    "0.0000001",
    "123456789012345678901234.5",
    "0.3",
    "true",
    "Yes",
    "off",
    "2006-01-02T15:04:05Z",
    "\"\"",
    "\"s t\"",
    "\"u\\t\\\"\\x41\\\\\"",
    "'v \\n'",
    "\"w\n x\"",
    "foo",
    "foo_bar.baz>*",
    "a\\tb",
    "127.0.0.1:4222",
    "2m30s",
    "5s",
    "nats://x:1/y",
    "#z",
    "<&>",
    "é世",
    "$a",
    "$b",
    "$2a$11$xyz",
    "trueish",
];
/// What a change puts in. None of them is what only nats-server accepts.
const CHANGES: [&str; 12] = [
    "", "", "", "x", " ", "\n", "1", "$a", "=", "k = v\n", ".", "true",
];

/// The text of a file.
pub(super) fn file(random: &mut Rng) -> String {
    let mut text = String::new();
    // Something for variables to be.
    if random.u8(..10) > 0 {
        text.push_str("a = 1\nb { c: [x] }\n");
    }
    entries(random, DEPTH_MAX, &mut text);
    text.push('\n');
    if random.u8(..8) == 0 {
        text = format!("{{\n{text}}}\n");
    }
    if random.u8(..3) == 0 {
        change(random, &mut text);
    }
    text
}

fn entries(random: &mut Rng, depth: u32, text: &mut String) {
    for _ in 0..random.usize(..=ENTRIES_MAX) {
        text.push_str(one_of(random, &KEYS));
        text.push_str(one_of(random, &SEPARATORS));
        value(random, depth, text);
        text.push_str(one_of(random, &ENDS));
    }
}

fn value(random: &mut Rng, depth: u32, text: &mut String) {
    match random.u8(..10) {
        0 | 1 if depth > 0 => {
            text.push_str(one_of(random, &["{", "{\n", "{ ", "{ # x\n"]));
            entries(random, depth - 1, text);
            text.push('}');
        }
        2 if depth > 0 => {
            text.push_str(one_of(random, &["[", "[\n", "[ // x\n"]));
            for _ in 0..random.usize(..=ENTRIES_MAX) {
                value(random, depth - 1, text);
                text.push_str(one_of(random, &[", ", ",\n", "\n", " , # x\n"]));
            }
            text.push(']');
        }
        // On a line of its own, because nothing may follow its end.
        3 => text.push_str("(\nlines\n ) of \"text\"\n)\n#"),
        _ => text.push_str(one_of(random, &SCALARS)),
    }
}

/// Replaces up to two characters somewhere.
fn change(random: &mut Rng, text: &mut String) {
    let characters: Vec<_> = text.char_indices().map(|(at, _)| at).collect();
    let start = characters[random.usize(..characters.len())];
    let replaced = text[start..].chars().take(random.usize(..=2));
    // A mark that is taken away or doubled may be swallowed elsewhere.
    let is_plain = |character: char| character.is_alphanumeric() || matches!(character, ' ' | '_');
    if replaced.clone().all(is_plain) {
        let end = start + replaced.map(char::len_utf8).sum::<usize>();
        text.replace_range(start..end, one_of(random, &CHANGES));
    }
}

fn one_of<'a>(random: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[random.usize(..choices.len())]
}
