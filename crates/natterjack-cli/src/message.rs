//! Messages as the user writes and reads them: headers, payloads with placeholders, and printing.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read};

use anyhow::Context;
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use jiff::Timestamp;

use crate::value;

/// Headers of a message to send.
#[derive(clap::Args, Clone)]
pub(crate) struct HeaderArguments {
    /// Header to send, as Key:Value; may be repeated
    #[arg(short = 'H', long = "header", value_name = "KEY:VALUE", value_parser = value::header)]
    headers: Vec<(String, String)>,
}

impl HeaderArguments {
    pub(crate) fn map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            map.append(name.as_str(), value.as_str());
        }
        map
    }
}

/// Where a payload comes from.
pub(crate) enum Payload {
    /// Bytes to send as they are.
    Fixed(Bytes),
    /// Text in which placeholders are filled in for each message.
    Template(String),
}

impl Payload {
    /// The argument, or standard input if it is absent or `-`. Only an argument can have placeholders.
    pub(crate) fn read(argument: Option<String>, use_templates: bool) -> anyhow::Result<Self> {
        match argument {
            Some(text) if text != "-" => Ok(if use_templates && text.contains("{{") {
                Self::Template(text)
            } else {
                Self::Fixed(text.into())
            }),
            _ => {
                let mut stdin = std::io::stdin().lock();
                if stdin.is_terminal() {
                    crate::output::say(format_args!("Type the payload, then Ctrl-D:"));
                }
                let mut payload = Vec::new();
                stdin
                    .read_to_end(&mut payload)
                    .context("cannot read the payload from standard input")?;
                Ok(Self::Fixed(payload.into()))
            }
        }
    }

    /// The payload of message `count`, counted from 1; `request` is what it answers, if anything.
    pub(crate) fn render(&self, count: u64, request: Option<&[u8]>) -> Bytes {
        match self {
            Self::Fixed(payload) => payload.clone(),
            Self::Template(text) => fill_in(text, count, request, Timestamp::now()).into(),
        }
    }
}

/// Fills in `{{Count}}`, `{{Time}}`, `{{TimeStamp}}`, `{{Unix}}`, `{{UnixNano}}` and `{{Request}}`; what is not known
/// stays as it is.
fn fill_in(text: &str, count: u64, request: Option<&[u8]>, now: Timestamp) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((name, after)) = after.split_once("}}") else {
            filled.push_str("{{");
            rest = after;
            continue;
        };
        // Writing to a String cannot fail.
        let _ = match (name.trim(), request) {
            ("Count", _) => write!(filled, "{count}"),
            ("TimeStamp", _) => write!(filled, "{now:.3}"),
            ("Time", _) => write!(filled, "{}", now.strftime("%H:%M:%S")),
            ("Unix", _) => write!(filled, "{}", now.as_second()),
            ("UnixNano", _) => write!(filled, "{}", now.as_nanosecond()),
            ("Request", Some(request)) => write!(filled, "{}", String::from_utf8_lossy(request)),
            _ => write!(filled, "{{{{{name}}}}}"),
        };
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// A received message for people: a line about it, its headers, its payload and an empty line. `--raw` is the payload
/// and a line break.
pub(crate) fn print(message: &Message, number: u64, raw: bool) -> Vec<u8> {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if !raw {
        let _ = write!(text, "[#{number}] Received on \"{}\"", message.subject);
        if let Some(reply) = &message.reply {
            let _ = write!(text, " with reply \"{reply}\"");
        }
        text.push('\n');
        let headers = message.headers.iter().flat_map(HeaderMap::iter);
        for (name, values) in headers {
            for value in values {
                let _ = writeln!(text, "{name}: {value}");
            }
        }
        if message.headers.is_some() {
            text.push('\n');
        }
    }
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&message.payload);
    bytes.extend_from_slice(if raw { b"\n" } else { b"\n\n" });
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders() {
        let now: Timestamp = "2026-11-21T23:50:15.5Z".parse().unwrap();
        let check = |text, expected| {
            assert_eq!(fill_in(text, 7, Some(b"ping"), now), expected, "{text}");
        };
        check("a {{Count}} b {{ Count }}", "a 7 b 7");
        check("{{Request}}!", "ping!");
        check(
            "{{TimeStamp}} {{Time}} {{Unix}}",
            "2026-11-21T23:50:15.500Z 23:50:15 1795305015",
        );
        check("{{Other}} {{ {{Count", "{{Other}} {{ {{Count");
        assert_eq!(fill_in("{{Request}}", 1, None, now), "{{Request}}");
    }

    #[test]
    fn messages_for_people_and_for_programs() {
        let mut headers = HeaderMap::new();
        headers.insert("K", "v");
        let message = Message {
            subject: "s".into(),
            reply: Some("r".into()),
            payload: "hello".into(),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        };
        let text = String::from_utf8(print(&message, 3, false)).unwrap();
        assert_eq!(
            text,
            "[#3] Received on \"s\" with reply \"r\"\nK: v\n\nhello\n\n"
        );
        assert_eq!(print(&message, 3, true), b"hello\n");
    }
}
