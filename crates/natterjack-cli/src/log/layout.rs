//! What a line looks like: nats-server's `[pid] 2026/11/21 23:50:15.123456 [INF] text`, a JSON object, or what Go's
//! syslog client sends.

use std::fmt::{self, Write as _};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tracing::Event;
use tracing::field::{Field, Visit};

use super::{Settings, Target};

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As nats-server writes it.
    #[default]
    Text,
    /// One JSON object per line, with `time` (RFC 3339), `level`, `pid`, `message` and, where there are any, `fields`.
    Json,
}

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Fatal,
}

impl Severity {
    fn label(self) -> &'static str {
        match self {
            Self::Trace => "TRC",
            Self::Debug => "DBG",
            Self::Info => "INF",
            Self::Warning => "WRN",
            Self::Error => "ERR",
            Self::Fatal => "FTL",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// nats-server's colours.
    fn colour(self) -> &'static str {
        match self {
            Self::Trace => "33",
            Self::Debug => "36",
            Self::Info => "32",
            Self::Warning => "0;93",
            Self::Error | Self::Fatal => "31",
        }
    }

    /// RFC 3164, section 4.1.1. A trace is as urgent as a notice in nats-server.
    fn syslog(self) -> u8 {
        match self {
            Self::Debug => 7,
            Self::Trace | Self::Info => 5,
            Self::Warning => 4,
            Self::Error => 3,
            Self::Fatal => 2,
        }
    }
}

/// How the lines of one log begin.
#[derive(Debug)]
pub(super) struct Layout {
    pid: u32,
    zone: TimeZone,
    format: Format,
    frame: Frame,
}

#[derive(Debug)]
enum Frame {
    /// For a file or a terminal.
    Plain { has_time: bool, has_colours: bool },
    /// RFC 3164 as Go writes it: this machine's own syslog adds the host name by itself, facility `daemon`.
    LocalSyslog { tag: String },
    /// With an RFC 3339 time and the host name, and, as nats-server says it, facility `kern`.
    RemoteSyslog { tag: String, host: String },
}

const FACILITY_KERNEL: u8 = 0;
const FACILITY_DAEMON: u8 = 3;

impl Layout {
    pub(super) fn new(settings: &Settings) -> Self {
        let frame = match &settings.target {
            Target::Syslog => Frame::LocalSyslog { tag: program() },
            Target::RemoteSyslog(_) => Frame::RemoteSyslog {
                tag: program(),
                host: rustix::system::uname()
                    .nodename()
                    .to_string_lossy()
                    .into_owned(),
            },
            Target::File { .. } => Frame::Plain {
                has_time: settings.time,
                has_colours: false,
            },
            Target::Stderr => Frame::Plain {
                has_time: settings.time,
                has_colours: settings.format == Format::Text && is_colourful(),
            },
        };
        Self {
            pid: std::process::id(),
            zone: if settings.utc {
                TimeZone::UTC
            } else {
                TimeZone::system()
            },
            format: settings.format,
            frame,
        }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// A whole line, its end included. Without a time it is now.
    pub(super) fn line(
        &self,
        severity: Severity,
        content: &Content,
        time: Option<Timestamp>,
    ) -> String {
        let mut line = String::with_capacity(content.message.len() + content.fields.len() + 64);
        self.write_line(&mut line, severity, content, time)
            .expect("a String takes everything");
        line
    }

    fn write_line(
        &self,
        line: &mut String,
        severity: Severity,
        content: &Content,
        time: Option<Timestamp>,
    ) -> fmt::Result {
        let now = || {
            time.unwrap_or_else(Timestamp::now)
                .to_zoned(self.zone.clone())
        };
        let pid = self.pid;
        match &self.frame {
            Frame::Plain { has_time, .. } if self.format == Format::Json => {
                let time = has_time.then(now);
                return writeln!(line, "{}", self.json(severity, content, time));
            }
            Frame::Plain {
                has_time,
                has_colours,
            } => {
                write!(line, "[{pid}] ")?;
                if *has_time {
                    write_time(line, &now())?;
                }
                let label = severity.label();
                if *has_colours {
                    write!(line, "[\x1b[{}m{label}\x1b[0m] ", severity.colour())?;
                } else {
                    write!(line, "[{label}] ")?;
                }
                return writeln!(line, "{}{}", content.message, content.fields);
            }
            Frame::LocalSyslog { tag } => {
                let priority = FACILITY_DAEMON << 3 | severity.syslog();
                let time = now();
                write!(
                    line,
                    "<{priority}>{} {tag}[{pid}]: ",
                    time.strftime("%b %e %H:%M:%S")
                )?;
            }
            Frame::RemoteSyslog { tag, host } => {
                let priority = FACILITY_KERNEL << 3 | severity.syslog();
                let time = now();
                write!(line, "<{priority}>{}", time.strftime("%Y-%m-%dT%H:%M:%S"))?;
                if time.offset().seconds() == 0 {
                    line.push('Z');
                } else {
                    write!(line, "{}", time.strftime("%:z"))?;
                }
                write!(line, " {host} {tag}[{pid}]: ")?;
            }
        }
        match self.format {
            Format::Text => writeln!(line, "{}{}", content.message, content.fields),
            Format::Json => writeln!(line, "{}", self.json(severity, content, Some(now()))),
        }
    }

    fn json(&self, severity: Severity, content: &Content, time: Option<Zoned>) -> String {
        let time = time.map(|time| {
            let layout = if time.offset().seconds() == 0 {
                "%Y-%m-%dT%H:%M:%S%.6fZ"
            } else {
                "%Y-%m-%dT%H:%M:%S%.6f%:z"
            };
            time.strftime(layout).to_string()
        });
        let object = Object {
            time,
            level: severity.name(),
            pid: self.pid,
            message: &content.message,
            fields: &content.values,
        };
        serde_json::to_string(&object).expect("text, numbers and a map with text as keys")
    }
}

#[derive(Serialize)]
struct Object<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    level: &'static str,
    pid: u32,
    message: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: &'a Map<String, Value>,
}

/// `2026/11/21 23:50:15.123456 `. By hand, as a trace writes very many: `strftime` takes several times as long.
fn write_time(line: &mut String, time: &Zoned) -> fmt::Result {
    write!(
        line,
        "{:04}/{:02}/{:02} {:02}:{:02}:{:02}.{:06} ",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.subsec_nanosecond() / 1_000
    )
}

/// The name this program was started by, without folders: what nats-server puts into syslog's tag and into file names.
#[must_use]
pub fn program() -> String {
    std::env::args_os()
        .next()
        .and_then(|path| {
            std::path::Path::new(&path)
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
        })
        .unwrap_or_else(|| "natterjackd".into())
}

/// <https://no-color.org>
fn is_colourful() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// An event's message and fields. In text, line breaks and other control characters, which a client may have sent, are
/// written as escapes: one event is one line.
#[derive(Debug, Default)]
pub(super) struct Content {
    message: String,
    /// ` name=value`, one after the other.
    fields: String,
    /// The fields for JSON.
    values: Map<String, Value>,
    is_json: bool,
}

impl Content {
    pub(super) fn of(event: &Event<'_>, format: Format) -> Self {
        let mut content = Self {
            is_json: format == Format::Json,
            ..Self::default()
        };
        event.record(&mut content);
        content
    }

    /// What the log itself has to say.
    pub(super) fn plain(message: &str) -> Self {
        let mut content = Self::default();
        content.push_message(message);
        content
    }

    fn push_message(&mut self, text: &str) {
        if self.is_json {
            self.message.push_str(text);
        } else {
            push_escaped(&mut self.message, text);
        }
    }

    fn push(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            match value {
                Value::String(text) => self.push_message(&text),
                other => self.push_message(&other.to_string()),
            }
        } else if self.is_json {
            self.values.insert(field.name().into(), value);
        } else {
            self.fields.push(' ');
            self.fields.push_str(field.name());
            self.fields.push('=');
            let text = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            push_escaped(&mut self.fields, &text);
        }
    }
}

impl Visit for Content {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" && !self.is_json {
            // The usual case, and the only one of a trace: no text in between.
            write!(Escaped(&mut self.message), "{value:?}").expect("a String takes everything");
        } else {
            self.push(field, format!("{value:?}").into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if self.is_json || field.name() == "message" {
            self.push(field, value.into());
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, json!(value));
    }
}

struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

fn push_escaped(line: &mut String, text: &str) {
    // C1 control characters are two bytes, the first of them 0xC2.
    if !text
        .bytes()
        .any(|byte| byte < b' ' || byte == 0x7f || byte == 0xc2)
    {
        return line.push_str(text);
    }
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(settings: &Settings, severity: Severity, content: &Content) -> String {
        let time = "2026-11-21T23:50:15.1234567Z".parse().unwrap();
        let mut layout = Layout::new(settings);
        layout.pid = 17;
        layout.zone = TimeZone::UTC;
        match &mut layout.frame {
            Frame::LocalSyslog { tag } => *tag = "natterjackd".into(),
            Frame::RemoteSyslog { tag, host } => {
                *tag = "natterjackd".into();
                *host = "vm".into();
            }
            Frame::Plain { has_colours, .. } => *has_colours = false,
        }
        layout.line(severity, content, Some(time))
    }

    fn check(target: Target, time: bool, severity: Severity, expected: &str) {
        let settings = Settings {
            target,
            time,
            ..Settings::default()
        };
        let content = Content::plain("Server is ready");
        assert_eq!(line(&settings, severity, &content), expected);
    }

    #[test]
    fn lines_look_like_those_of_nats_server() {
        check(
            Target::Stderr,
            true,
            Severity::Info,
            "[17] 2026/11/21 23:50:15.123456 [INF] Server is ready\n",
        );
        check(
            Target::Stderr,
            false,
            Severity::Fatal,
            "[17] [FTL] Server is ready\n",
        );
        // As nats-server 2.15.1 sends them; an INF is a notice.
        check(
            Target::RemoteSyslog("udp://127.0.0.1:514".into()),
            false,
            Severity::Info,
            "<5>2026-11-21T23:50:15Z vm natterjackd[17]: Server is ready\n",
        );
        check(
            Target::Syslog,
            true,
            Severity::Error,
            "<27>Nov 21 23:50:15 natterjackd[17]: Server is ready\n",
        );
    }

    #[test]
    fn colours_are_those_of_nats_server() {
        let mut layout = Layout::new(&Settings {
            time: false,
            ..Settings::default()
        });
        layout.pid = 1;
        layout.frame = Frame::Plain {
            has_time: false,
            has_colours: true,
        };
        assert_eq!(
            layout.line(Severity::Info, &Content::plain("x"), None),
            "[1] [\u{1b}[32mINF\u{1b}[0m] x\n"
        );
    }

    #[test]
    fn a_line_of_json_is_an_object() {
        let settings = Settings {
            format: Format::Json,
            ..Settings::default()
        };
        let mut content = Content {
            is_json: true,
            message: "two\nlines \"quoted\"".into(),
            ..Content::default()
        };
        content.values.insert("port".into(), 4222.into());
        let text = line(&settings, Severity::Warning, &content);
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({
                "time": "2026-11-21T23:50:15.123456Z",
                "level": "warning",
                "pid": 17,
                "message": "two\nlines \"quoted\"",
                "fields": { "port": 4222 },
            })
        );
    }

    #[test]
    fn one_event_is_one_line() {
        let content = Content::plain("a\r\n[1] [INF] forged \u{1b}[31m é \u{85}");
        assert_eq!(
            content.message,
            "a\\r\\n[1] [INF] forged \\u{1b}[31m é \\u{85}"
        );
    }
}
