//! How values of each kind are read and shown. What nats-server accepts is accepted; what it reads as something else
//! than it looks like is explained.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use natterjack_conf::{Data, Value, go_duration};
use natterjack_engine::access::{Secret, is_bcrypt};

use super::reader::{Advise, Reader};
use super::shape::Codec;

/// `true` or `false`.
pub(crate) static SWITCH: Codec<bool> = Codec {
    kind: "true or false",
    read: switch,
    show: |on| Some(on.to_string()),
    is_secret: false,
};

pub(crate) fn switch(data: &Data, reader: &mut Reader<'_>) -> Option<bool> {
    match data {
        Data::Bool(on) => Some(*on),
        other => {
            reader.expected("true or false", other);
            None
        }
    }
}

/// A number of things.
pub(crate) static COUNT: Codec<usize> = Codec {
    kind: "a number",
    read: |data, reader| number(data, 0..=i64::from(i32::MAX), reader),
    show: |count| Some(count.to_string()),
    is_secret: false,
};

/// A smaller number of things.
pub(crate) static COUNT_U32: Codec<u32> = Codec {
    kind: "a number",
    read: |data, reader| number(data, 0..=i64::from(i32::MAX), reader),
    show: |count| Some(count.to_string()),
    is_secret: false,
};

/// A number of things; zero and less set no bound (nats-server takes both).
pub(crate) static BOUND: Codec<usize> = Codec {
    kind: "a number, 0 for no bound",
    read: |data, reader| {
        number(data, i64::MIN..=i64::from(i32::MAX), reader)
            .map(|number: i64| usize::try_from(number).unwrap_or(0))
    },
    show: |count| Some(count.to_string()),
    is_secret: false,
};

/// A number of bytes that a `usize` holds on any machine.
pub(crate) static SIZE: Codec<usize> = Codec {
    kind: "a size",
    read: |data, reader| size(data, i64::from(i32::MAX), reader),
    show: |bytes| Some(show_size(*bytes as u64)),
    is_secret: false,
};

/// A number of bytes.
pub(crate) static BIG_SIZE: Codec<usize> = Codec {
    kind: "a size",
    read: |data, reader| size(data, i64::MAX, reader),
    show: |bytes| Some(show_size(*bytes as u64)),
    is_secret: false,
};

/// A number of bytes on a disk.
pub(crate) static FILE_SIZE: Codec<u64> = Codec {
    kind: "a size",
    read: |data, reader| size(data, i64::MAX, reader),
    show: |bytes| Some(show_size(*bytes)),
    is_secret: false,
};

/// A whole number in a range.
pub(crate) fn number<N: TryFrom<i64>>(
    data: &Data,
    range: std::ops::RangeInclusive<i64>,
    reader: &mut Reader<'_>,
) -> Option<N> {
    let Data::Integer(number) = data else {
        let diagnostic = reader.expected("a whole number", data);
        if let Data::Text(text) = data
            && text.parse::<i64>().is_ok()
        {
            diagnostic.help("leave out the quotes");
        }
        return None;
    };
    let name = reader.name().to_owned();
    if number < range.start() {
        let least = *range.start();
        let problem = if least == 0 {
            format!("{name} must not be negative")
        } else {
            format!("{name} must be at least {least}")
        };
        reader.error(problem).label(format!("this is {number}"));
        return None;
    }
    if number > range.end() {
        reader
            .error(format!("{name} must be at most {}", range.end()))
            .label(format!("this is {number}"));
        return None;
    }
    let converted = N::try_from(*number).ok();
    if converted.is_none() {
        reader.error(format!("{name} is too large"));
    }
    converted
}

fn size<N: TryFrom<i64>>(data: &Data, bytes_max: i64, reader: &mut Reader<'_>) -> Option<N> {
    if let Data::Text(text) = data
        && text.starts_with(|character: char| character.is_ascii_digit())
    {
        let name = reader.name().to_owned();
        reader
            .error(format!("{name} must be a size, not a text"))
            .label("this is a text")
            .help("write sizes without quotes, as 64MB (1024 x 1024) or 64m (1000 x 1000)");
        return None;
    }
    number(data, 0..=bytes_max, reader)
}

/// With the largest unit that leaves a whole number.
fn show_size(bytes: u64) -> String {
    for (unit, scale) in [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)] {
        if bytes > 0 && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    bytes.to_string()
}

/// Go's notation in quotes; a number of seconds with a warning, as in nats-server.
pub(crate) static DURATION: Codec<Duration> = Codec {
    kind: "a duration",
    read: duration_or_number,
    show: |duration| Some(show_duration(*duration)),
    is_secret: false,
};

/// Go's notation in quotes; a number is refused, as in nats-server.
pub(crate) static STRICT_DURATION: Codec<Duration> = Codec {
    kind: "a duration",
    read: |data, reader| match data {
        Data::Text(text) => duration(text, reader),
        other => {
            let help = seconds_as_duration(other);
            reader.expected("a duration in quotes", other).help = help;
            None
        }
    },
    show: |duration| Some(show_duration(*duration)),
    is_secret: false,
};

/// A number of seconds or Go's notation, neither with a warning.
pub(crate) static SECONDS: Codec<Duration> = Codec {
    kind: "a duration, or seconds",
    read: seconds,
    show: |duration| Some(show_duration(*duration)),
    is_secret: false,
};

/// `"2m"`
pub(crate) fn show_duration(duration: Duration) -> String {
    format!("\"{}\"", go_duration::show(duration))
}

pub(crate) fn duration(text: &str, reader: &mut Reader<'_>) -> Option<Duration> {
    match go_duration::parse(text) {
        Ok(duration) => Some(duration),
        Err(error) => {
            let name = reader.name().to_owned();
            reader
                .error(format!("{name} must be a duration, which {text:?} is not"))
                .help(error.to_string());
            None
        }
    }
}

fn seconds_as_duration(data: &Data) -> Option<String> {
    match data {
        Data::Integer(seconds) => Some(format!("write \"{}\"", in_quotes(*seconds))),
        _ => Some("write it in quotes, as \"30s\" or \"2m\"".to_owned()),
    }
}

/// What somebody meant who wrote a number: `2m` without quotes is two million.
fn in_quotes(number: i64) -> String {
    if number > 0 && number % 1_000_000 == 0 {
        return format!("{}m", number / 1_000_000);
    }
    go_duration::show(Duration::from_secs(u64::try_from(number).unwrap_or(0)))
}

/// Longer ones are slips of the pen.
const SECONDS_MAX: i64 = 10 * 365 * 24 * 3600;

fn duration_or_number(data: &Data, reader: &mut Reader<'_>) -> Option<Duration> {
    match data {
        Data::Text(text) => duration(text, reader),
        Data::Integer(number) => {
            let name = reader.name().to_owned();
            let seconds = u64::try_from(*number).unwrap_or(0);
            if *number < 0 {
                reader.error(format!("{name} must not be negative"));
                return None;
            }
            let message = format!("{name} should be a duration in quotes");
            if *number >= 1_000_000 && *number % 1_000_000 == 0 {
                let minutes = number / 1_000_000;
                reader
                    .warning(message)
                    .label(format!("this is {number} seconds"))
                    .help(format!(
                        "write \"{minutes}m\" if you mean minutes: without quotes, the m \
                         of {minutes}m stands for a \
                         million"
                    ));
            } else {
                reader
                    .warning(message)
                    .label(format!("read as {number} seconds"))
                    .help(format!("write \"{}\"", in_quotes(*number)));
            }
            if *number > SECONDS_MAX {
                reader.error(format!("{name} must not be longer than ten years"));
                return None;
            }
            Some(Duration::from_secs(seconds))
        }
        other => {
            let help = seconds_as_duration(other);
            reader.expected("a duration in quotes", other).help = help;
            None
        }
    }
}

fn seconds(data: &Data, reader: &mut Reader<'_>) -> Option<Duration> {
    let seconds = match data {
        Data::Text(text) => return duration(text, reader),
        Data::Integer(number) => *number as f64,
        Data::Float(number) => *number,
        other => {
            reader.expected("a duration in quotes or a number of seconds", other);
            return None;
        }
    };
    let name = reader.name().to_owned();
    if seconds < 0.0 {
        reader.error(format!("{name} must not be negative"));
        return None;
    }
    if seconds > SECONDS_MAX as f64 {
        let help = match data {
            Data::Integer(number) => Some(format!("write \"{}\"", in_quotes(*number))),
            _ => None,
        };
        reader
            .error(format!("{name} must not be longer than ten years"))
            .help = help;
        return None;
    }
    Some(Duration::from_secs_f64(seconds))
}

/// A text; an empty one counts as none.
pub(crate) static TEXT: Codec<Option<String>> = Codec {
    kind: "a text",
    read: |data, reader| text(data, reader).map(|text| Some(text).filter(|text| !text.is_empty())),
    show: |text| text.as_deref().map(quote),
    is_secret: false,
};

/// A text that is always there.
pub(crate) static WORD: Codec<String> = Codec {
    kind: "a text",
    read: text,
    show: |text| (!text.is_empty()).then(|| quote(text)),
    is_secret: false,
};

/// A file or folder.
pub(crate) static PATH: Codec<Option<PathBuf>> = Codec {
    kind: "a path",
    read: |data, reader| {
        text(data, reader)
            .map(|text| Some(PathBuf::from(text)).filter(|path| path.as_os_str() != ""))
    },
    show: |path| path.as_deref().map(|path| quote(&path.to_string_lossy())),
    is_secret: false,
};

/// A password or token.
pub(crate) static SECRET: Codec<Option<Secret>> = Codec {
    kind: "a text, secret",
    read: |data, reader| {
        let secret = secret(data, reader)?;
        Some(Some(secret).filter(|secret| !secret.is_empty()))
    },
    show: |secret| secret.as_ref().map(|_| "\"***\"".to_owned()),
    is_secret: true,
};

fn is_like_variable(text: &str) -> bool {
    let name = text.strip_prefix('$').unwrap_or_default();
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_part) && name.starts_with(|first: char| !first.is_ascii_digit())
}

/// Whether what begins like a bcrypt hash goes on like one.
fn is_whole_hash(hash: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    hash.len() == 60 && hash.bytes().skip("$2a$11$".len()).all(is_part)
}

pub(crate) fn secret(data: &Data, reader: &mut Reader<'_>) -> Option<Secret> {
    let secret = text(data, reader)?;
    if is_like_variable(&secret) && reader.variable().is_none() && reader.span().is_some() {
        let name = reader.name().to_owned();
        reader
            .note(format!(
                "{name} looks like a variable in quotes, which make it that very text"
            ))
            .help("leave out the quotes if the variable's value is meant");
    }
    if is_bcrypt(&secret) && !is_whole_hash(&secret) {
        let (name, length) = (reader.name().to_owned(), secret.chars().count());
        reader
            .note(format!(
                "{name} begins like a bcrypt hash and is none, so nobody can log in with it: a hash has 60 \
                 characters, and this has {length}"
            ))
            .help("copy the whole hash; natterjack passwd makes a new one");
    }
    Some(Secret::from(secret))
}

/// A name, which may be missing or empty; `fault` is what to say of one with blanks in it.
pub(crate) fn without_blanks(
    data: &Data,
    fault: &'static str,
    reader: &mut Reader<'_>,
) -> Option<Option<String>> {
    let name = (TEXT.read)(data, reader)?;
    if name
        .as_deref()
        .is_some_and(|name| name.contains(char::is_whitespace))
    {
        reader.error(fault).help("use - or _ instead");
        return None;
    }
    Some(name)
}

/// A text; what looks like a number has to be quoted, as in nats-server.
pub(crate) fn text(data: &Data, reader: &mut Reader<'_>) -> Option<String> {
    match data {
        Data::Text(text) => Some(text.clone()),
        other => {
            // Quotes around `$name` would make it a text, and not the variable's value.
            let advice = match reader.variable() {
                Some((name, true)) => format!("the variable needs quotes inside: {name}='\"…\"'"),
                Some((name, false)) => format!("put the definition of {name} in quotes"),
                None => "put it in quotes".to_owned(),
            };
            let diagnostic = reader.expected("a text", other);
            if !matches!(other, Data::Map(_) | Data::List(_)) {
                diagnostic.help(advice);
            }
            None
        }
    }
}

/// A text or a list of texts.
pub(crate) static TEXTS: Codec<Vec<String>> = Codec {
    kind: "a text or a list of texts",
    read: texts,
    show: |texts| show_list(texts),
    is_secret: false,
};

pub(crate) fn texts(data: &Data, reader: &mut Reader<'_>) -> Option<Vec<String>> {
    match data {
        Data::Text(text) => Some(vec![text.clone()]),
        Data::List(values) => Some(each(values, reader, text)),
        other => {
            reader.expected("a text or a list of texts", other);
            None
        }
    }
}

/// Reads each element of a list; those with mistakes are left out.
pub(crate) fn each<V>(
    values: &[Value],
    reader: &mut Reader<'_>,
    read: impl Fn(&Data, &mut Reader<'_>) -> Option<V>,
) -> Vec<V> {
    let mut result = Vec::with_capacity(values.len());
    for value in values {
        reader.entry(result.len(), value, |reader| {
            result.extend(read(&value.data, reader));
        });
    }
    result
}

pub(crate) fn show_list(texts: &[String]) -> Option<String> {
    let texts: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    (!texts.is_empty()).then(|| format!("[{}]", texts.join(", ")))
}

/// Free keys with texts.
pub(crate) static TEXT_MAP: Codec<BTreeMap<String, String>> = Codec {
    kind: "a block of texts",
    read: |data, reader| {
        let map = super::reader::map(data, reader)?;
        let mut texts = BTreeMap::new();
        for entry in map.iter() {
            reader.option(&entry.key.text, &entry.value, |reader| {
                if let Some(text) = text(&entry.value.data, reader) {
                    texts.insert(entry.key.text.clone(), text);
                }
            });
        }
        Some(texts)
    },
    show: |texts| {
        let entries: Vec<String> = texts
            .iter()
            .map(|(key, text)| format!("{}: {}", quote(key), quote(text)))
            .collect();
        (!entries.is_empty()).then(|| format!("{{ {} }}", entries.join(", ")))
    },
    is_secret: false,
};

/// One of a few words.
pub(crate) fn choice<V: Copy>(
    data: &Data,
    words: &[(&'static str, V)],
    reader: &mut Reader<'_>,
) -> Option<V> {
    let text = text(data, reader)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    let name = reader.name().to_owned();
    let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    let nearest = natterjack_conf::nearest(&text, words.iter().map(|(word, _)| *word));
    reader
        .error(format!("{name} must be one of {}", known.join(", ")))
        .help = nearest.map(|word| format!("did you mean {word:?}?"));
    None
}

/// The word for a value.
pub(crate) fn word_of<V: PartialEq>(value: &V, words: &[(&'static str, V)]) -> Option<String> {
    words
        .iter()
        .find(|(_, known)| known == value)
        .map(|(word, _)| format!("{word:?}"))
}

/// A text in quotes, as the language of configuration files reads it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
