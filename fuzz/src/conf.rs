//! Owns configurations for the target of the conf crate: pieces of the language, mostly in an order that makes sense.

use fastrand::Rng;

const DEPTH_MAX: u32 = 5;
const VALUES: [&str; 40] = [
    "1",
    "-2",
    "1k",
    "2MiB",
    "3kbb",
    "9223372036854775808",
    "9e",
    "1.5",
    ".5",
    "1.",
    "-0.0",
    "2m30s",
    "127.0.0.1:4222",
    "2006-01-02T15:04:05Z",
    "2006-13-02T15:04:05Z",
    "12-3",
    "true",
    "Off",
    "foo",
    "it'",
    "\"s t\"",
    "'u'",
    "\"a\\tb\\x41\\q\"",
    "\"\\xff\"",
    "\"two\nlines\"",
    "(\nblock\n)\n",
    "( no end",
    "\"",
    "'",
    "$a",
    "$b",
    "$E",
    "$nope",
    "$",
    "$2a$11$x",
    "#no",
    "",
    "é世\u{202e}",
    "a\\nb",
    "\u{a0}",
];
const KEYS: [&str; 14] = [
    "a", "b", "c", "a.b", "\"d e\"", "'f'", "include", "a{", "b[", "c\"", "/", "}", "\"", "ü",
];
const SEPARATORS: [&str; 8] = [" ", ": ", " = ", "=", "\n", "", " # c\n", "=="];
const ENDS: [&str; 13] = [
    "\n", "\n", "\n", ", ", ";", " # x\n", "\r\n", "//y\n", " ", "}", "]", ",,", "/",
];

/// A configuration, right or nearly.
pub(crate) fn configuration(rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    if rng.u8(..8) == 0 {
        text.push_str(if rng.bool() { "{" } else { "\u{feff}" });
    }
    entries(rng, DEPTH_MAX, &mut text);
    if rng.u8(..8) == 0 {
        text.push('}');
    }
    text.into_bytes()
}

fn entries(rng: &mut Rng, depth: u32, text: &mut String) {
    for _ in 0..rng.usize(..5) {
        let keys = if rng.u8(..8) == 0 {
            &KEYS[..]
        } else {
            &KEYS[..6]
        };
        text.push_str(rng.choice(keys).expect("there are keys"));
        text.push_str(usual(rng, &SEPARATORS));
        value(rng, depth, text);
        text.push_str(usual(rng, &ENDS));
    }
}

fn value(rng: &mut Rng, depth: u32, text: &mut String) {
    match rng.u8(..8) {
        0..2 if depth > 0 => {
            text.push('{');
            entries(rng, depth - 1, text);
            text.push_str(if rng.u8(..16) == 0 { "" } else { "}" });
        }
        2 if depth > 0 => {
            text.push('[');
            for _ in 0..rng.usize(..4) {
                value(rng, depth - 1, text);
                text.push_str(usual(rng, &[",", "\n", ", # c\n", " ", ";", ",,"]));
            }
            text.push_str(if rng.u8(..16) == 0 { "" } else { "]" });
        }
        _ => text.push_str(rng.choice(VALUES).expect("there are values")),
    }
}

/// One of the first three, seldom any of them.
fn usual<'a>(rng: &mut Rng, choices: &[&'a str]) -> &'a str {
    let count = if rng.u8(..8) == 0 { choices.len() } else { 3 };
    choices[rng.usize(..count)]
}
