//! Makes up files: random trees in random styles of writing, one in three with a mistake somewhere. Keeps clear of what the
//! corpus lists as judged differently, above all of marks that nats-server takes for parts of keys.

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
    "x#z",
    "<&>",
    "é世",
    "$a",
    "$b",
    "$2a$11$xyz",
    "trueish",
];
/// What both refuse.
const WRONG_SCALARS: [&str; 15] = [
    ".5",
    "5.",
    "-",
    "-x",
    "12-3",
    "1.5k",
    "x y",
    "it's",
    "\"a\"b",
    "\"\\q\"",
    "a\\q",
    "$nope",
    "2006-13-02T15:04:05Z",
    "9223372036854775808",
    "= x",
];

/// A file in the making.
struct Writer<'r> {
    random: &'r mut Rng,
    text: String,
    /// Whether there is a mistake still to be made.
    has_mistake: bool,
    /// Only a line end may follow.
    needs_line_end: bool,
}

/// The text of a file.
pub(super) fn file(random: &mut Rng) -> String {
    let has_mistake = random.u8(..3) == 0;
    let mut writer = Writer {
        random,
        text: String::new(),
        has_mistake,
        needs_line_end: false,
    };
    // Something for variables to be.
    if writer.random.u8(..10) > 0 {
        writer.text.push_str("a = 1\nb { c: [x] }\n");
    }
    writer.entries(DEPTH_MAX);
    let Writer { random, text, .. } = writer;
    match random.u8(..8) {
        0 => format!("{{\n{text}\n}}\n"),
        _ => format!("{text}\n"),
    }
}

impl Writer<'_> {
    fn entries(&mut self, depth: u32) {
        for _ in 0..self.random.usize(..=ENTRIES_MAX) {
            self.one_of(&KEYS);
            self.one_of(&SEPARATORS);
            self.value(depth);
            match !self.needs_line_end && self.mistake() {
                // Nothing stands between this entry and what follows, if an entry follows.
                true => self.text.push_str(" \"x\" = 1\n"),
                false => self.end(&ENDS),
            }
        }
    }

    fn value(&mut self, depth: u32) {
        match self.random.u8(..10) {
            0 | 1 if depth > 0 => {
                self.one_of(&["{", "{\n", "{ ", "{ # x\n"]);
                self.entries(depth - 1);
                let closing = if self.mistake() { ']' } else { '}' };
                self.text.push(closing);
            }
            2 if depth > 0 => {
                self.one_of(&["[", "[\n", "[ // x\n"]);
                for _ in 0..self.random.usize(..=ENTRIES_MAX) {
                    self.value(depth - 1);
                    self.end(&[", ", ",\n", "\n", " , # x\n"]);
                }
                self.text.push(']');
            }
            3 => {
                self.text.push_str("(\nlines\n ) of \"text\"\n)");
                self.needs_line_end = true;
            }
            _ if self.mistake() => self.one_of(&WRONG_SCALARS),
            _ => self.one_of(&SCALARS),
        }
    }

    /// What stands between a value and the next.
    fn end(&mut self, choices: &[&str]) {
        match std::mem::take(&mut self.needs_line_end) {
            true => self.text.push('\n'),
            false => self.one_of(choices),
        }
    }

    /// Whether to make the mistake here.
    fn mistake(&mut self) -> bool {
        let is_here = self.has_mistake && self.random.u8(..8) == 0;
        self.has_mistake &= !is_here;
        is_here
    }

    fn one_of(&mut self, choices: &[&str]) {
        self.text
            .push_str(choices[self.random.usize(..choices.len())]);
    }
}
