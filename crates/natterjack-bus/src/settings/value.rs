//! Kinds of values: what each may be, from whichever source, and how it is shown so that it can be read again.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use natterjack_conf::{go_duration, nearest};

use super::origin::Origin;
use super::problem::{About, Findings, Wrong};
use super::table::Slot;
use super::yaml::{Node, Value};
use super::{Endpoint, InvalidEndpoint, Settings, TransportKind, unbracketed};

/// The other transports the original knows. Their sections may stand in a file we share; their types we cannot serve.
pub(super) const FOREIGN_TYPES: [&str; 5] = ["kafka", "googlePubSub", "azure", "pubsub", "nop"];

const TYPES: [&str; 2] = ["local", "nats"];

/// Shortest duration. The only one there is says how often every node is asked by every other one.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// A value that somebody gave, under the name they gave it.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) option: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Takes over a value, or says what is wrong with it.
pub(super) fn read(slot: Slot, given: &Given, settings: &mut Settings, findings: &mut Findings) {
    let mut reader = Reader { given, findings };
    match slot {
        Slot::Transport(at) => reader.one(transport, at(settings)),
        Slot::Switch(at) => reader.one(switch, at(settings)),
        Slot::Name(at) => reader.one(name, at(settings)),
        Slot::Subject(at) => reader.one(subject, at(settings)),
        Slot::Host(at) => reader.one(host, at(settings)),
        Slot::Port(at) => reader.number(port, at(settings)),
        Slot::Endpoint(at) => reader.one(|text| client_endpoint(text).map(Some), at(settings)),
        Slot::HostPort(at) => reader.one(|text| advertise(text).map(Some), at(settings)),
        Slot::File(at) => reader.one(|text| Ok(Some(PathBuf::from(text))), at(settings)),
        Slot::Count(at) => reader.number(count, at(settings)),
        Slot::Duration(at) => reader.one(duration, at(settings)),
        Slot::Files(at) => *at(settings) = reader.list(|text| Ok(PathBuf::from(text))),
        Slot::Routes(at) => *at(settings) = reader.list(route),
    }
}

/// The value of an option as it is shown; nothing if there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Nothing,
    One(String),
    Many(Vec<String>),
}

pub(super) fn show(slot: Slot, settings: &Settings) -> Shown {
    // The table's ways to a value are those of whoever changes it.
    let mut settings = settings.clone();
    let settings = &mut settings;
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    let some = |text: Option<String>| text.map_or(Shown::Nothing, Shown::One);
    match slot {
        Slot::Transport(at) => Shown::One(
            match at(settings) {
                TransportKind::Local => "local",
                TransportKind::Nats => "nats",
            }
            .into(),
        ),
        Slot::Switch(at) => Shown::One(at(settings).to_string()),
        Slot::Name(at) | Slot::Subject(at) | Slot::Host(at) => Shown::One(at(settings).clone()),
        Slot::Port(at) => Shown::One(at(settings).to_string()),
        Slot::Endpoint(at) => some(at(settings).as_ref().map(ToString::to_string)),
        Slot::HostPort(at) => some(at(settings).clone()),
        Slot::File(at) => some(at(settings).as_ref().map(path)),
        Slot::Count(at) => Shown::One(at(settings).to_string()),
        Slot::Duration(at) => Shown::One(go_duration::show(*at(settings))),
        Slot::Files(at) => Shown::Many(at(settings).iter().map(path).collect()),
        Slot::Routes(at) => Shown::Many(at(settings).iter().map(ToString::to_string).collect()),
    }
}

impl Slot {
    /// What kind of value it is, for people.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Transport(_) => "`local` or `nats`",
            Self::Switch(_) => "true or false",
            Self::Name(_) => "a name without spaces",
            Self::Subject(_) => "a subject without wildcards",
            Self::Host(_) => "a host name or address",
            Self::Port(_) => "a port, 1 to 65535",
            Self::Endpoint(_) => "nats://host:port",
            Self::HostPort(_) => "host:port",
            Self::Routes(_) => "a list of nats://host:port",
            Self::File(_) => "a file",
            Self::Files(_) => "a list of files",
            Self::Count(_) => "a whole number, 1 or more",
            Self::Duration(_) => "a duration such as `15s` or `1m30s`, 100ms or more",
        }
    }

    /// The same in a word, for flags.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Transport(_) => "local|nats",
            Self::Switch(_) => "true|false",
            Self::Name(_) => "NAME",
            Self::Subject(_) => "SUBJECT",
            Self::Host(_) => "HOST",
            Self::Port(_) => "PORT",
            Self::Endpoint(_) => "URI",
            Self::HostPort(_) => "HOST:PORT",
            Self::Routes(_) => "URI,...",
            Self::File(_) => "FILE",
            Self::Files(_) => "FILE,...",
            Self::Count(_) => "NUMBER",
            Self::Duration(_) => "DURATION",
        }
    }

    pub(super) fn is_list(self) -> bool {
        matches!(self, Self::Routes(_) | Self::Files(_))
    }

    /// Whether an explicitly empty value says that there is to be none.
    fn may_be_nothing(self) -> bool {
        matches!(
            self,
            Self::Endpoint(_)
                | Self::HostPort(_)
                | Self::File(_)
                | Self::Routes(_)
                | Self::Files(_)
        )
    }
}

/// Whether a value says nothing: null, or an empty text where nothing is a value. The next source counts then, except
/// that a flag always says something.
pub(super) fn is_nothing(slot: Slot, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Text(text) => text.trim().is_empty() && slot.may_be_nothing(),
        _ => false,
    }
}

/// Reads one given value.
struct Reader<'a> {
    given: &'a Given,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn one<T>(&mut self, parse: impl FnOnce(&str) -> Result<T, Wrong>, target: &mut T) {
        self.scalar(scalar(&self.given.value), parse, target);
    }

    /// The same for what is a number whatever its form.
    fn number<T>(&mut self, parse: impl FnOnce(&str) -> Result<T, Wrong>, target: &mut T) {
        let text = match &self.given.value {
            Value::Plain { meant, .. } => Ok(meant.clone()),
            other => scalar(other),
        };
        self.scalar(text, parse, target);
    }

    fn scalar<T>(
        &mut self,
        text: Result<String, Wrong>,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
        target: &mut T,
    ) {
        let origin = &self.given.origin;
        let text = match text {
            Ok(text) => text,
            Err(wrong) => return self.wrong(origin, None, wrong),
        };
        let parsed = if text.trim().is_empty() {
            Err(Wrong::new(
                "must not be empty",
                "leave it out for the default",
            ))
        } else {
            parse(text.trim())
        };
        match parsed {
            Ok(parsed) => *target = parsed,
            Err(wrong) => self.wrong(origin, Some(&text), wrong),
        }
    }

    /// The good ones of a list, each once.
    fn list<T: PartialEq>(&mut self, parse: impl Fn(&str) -> Result<T, Wrong>) -> Vec<T> {
        let items = match &self.given.value {
            Value::List(nodes) => nodes.iter().map(|node| self.item(node)).collect(),
            other => match scalar(other) {
                Ok(text) => match comma_separated(&text) {
                    Ok(parts) => parts
                        .into_iter()
                        .map(|part| (Ok(part), self.given.origin.clone()))
                        .collect(),
                    Err(wrong) => vec![(Err(wrong), self.given.origin.clone())],
                },
                Err(_) => {
                    let wrong = Wrong::new(
                        "must be a list",
                        "write one entry per line, each after a dash, or one text with commas",
                    );
                    vec![(Err(wrong), self.given.origin.clone())]
                }
            },
        };
        let mut list = Vec::new();
        for (text, origin) in items {
            let (text, parsed) = match text {
                Ok(text) => {
                    let parsed = parse(text.trim());
                    (Some(text), parsed)
                }
                Err(wrong) => (None, Err(wrong)),
            };
            match parsed {
                Ok(parsed) if list.contains(&parsed) => {
                    let text = text.as_deref().unwrap_or_default().trim();
                    let wrong = Wrong::new(
                        format!("`{text}` is listed twice"),
                        "one of them is left out",
                    );
                    let option = &self.given.option;
                    self.findings.warn(
                        About {
                            origin: &origin,
                            option,
                            value: Some(text),
                        },
                        wrong,
                    );
                }
                Ok(parsed) => list.push(parsed),
                Err(wrong) => self.wrong(&origin, text.as_deref(), wrong),
            }
        }
        list
    }

    /// An entry's text, and where it is.
    fn item(&self, node: &Node) -> (Result<String, Wrong>, Origin) {
        let origin = match &self.given.origin {
            Origin::File { name, .. } => Origin::File {
                name: name.clone(),
                place: Some(node.place),
            },
            other => other.clone(),
        };
        let text = scalar(&node.value).and_then(|text| {
            if text.trim().is_empty() {
                Err(Wrong::new("has an empty entry", "remove it"))
            } else {
                Ok(text)
            }
        });
        (text, origin)
    }

    fn wrong(&mut self, origin: &Origin, value: Option<&str>, wrong: Wrong) {
        let option = &self.given.option;
        self.findings.error(
            About {
                origin,
                option,
                value,
            },
            wrong,
        );
    }
}

/// Any scalar as it is written, so that `name: 007` is a name with zeros.
fn scalar(value: &Value) -> Result<String, Wrong> {
    match value {
        Value::Text(text) | Value::Plain { written: text, .. } => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        Value::List(_) => Err(Wrong::new("is a list", "give one value")),
        Value::Map(_) => Err(Wrong::new("is a section", "give one value")),
    }
}

/// Texts between commas, without the blanks around them. Quotes keep a comma in a text, and two quotes are one, as in a
/// line of CSV.
pub(super) fn comma_separated(text: &str) -> Result<Vec<String>, Wrong> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(letter) = letters.next() {
        let part = parts.last_mut().expect("never empty");
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                letters.next();
                part.push('"');
            }
            '"' if is_quoted => is_quoted = false,
            '"' if part.trim().is_empty() => is_quoted = true,
            ',' if !is_quoted => parts.push(String::new()),
            _ => part.push(letter),
        }
    }
    if is_quoted {
        return Err(Wrong::new(
            format!("`{text}` has a quote that does not end"),
            "close it, or write the list without quotes",
        ));
    }
    let trimmed = parts.into_iter().map(|part| part.trim().to_owned());
    Ok(trimmed.filter(|part| !part.is_empty()).collect())
}

fn transport(text: &str) -> Result<TransportKind, Wrong> {
    let valid = TYPES.join(", ");
    if text.eq_ignore_ascii_case("local") {
        return Ok(TransportKind::Local);
    }
    if text.eq_ignore_ascii_case("nats") {
        return Ok(TransportKind::Nats);
    }
    if FOREIGN_TYPES
        .iter()
        .any(|name| name.eq_ignore_ascii_case(text))
    {
        return Err(Wrong::new(
            format!("`{text}` is not supported here"),
            format!("valid: {valid}"),
        ));
    }
    Err(Wrong::new(
        format!("unknown type `{text}`"),
        match nearest(text, TYPES) {
            Some(meant) => format!("did you mean `{meant}`? valid: {valid}"),
            None => format!("valid: {valid}"),
        },
    ))
}

/// The words that Go's `strconv.ParseBool` knows, and so the flags of the original.
fn switch(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(false),
        other => Err(Wrong::new(
            format!("`{other}` is neither true nor false"),
            "write `true` or `false`",
        )),
    }
}

fn port(text: &str) -> Result<u16, Wrong> {
    let Ok(number) = text.parse::<i128>() else {
        return Err(Wrong::new(
            format!("port must be an integer, not `{text}`"),
            "write a number between 1 and 65535",
        ));
    };
    match u16::try_from(number) {
        Ok(port) if port >= 1 => Ok(port),
        _ => Err(Wrong::new(
            format!("port must be between 1 and 65535, not {number}"),
            "choose one that is free on this host",
        )),
    }
}

fn host(text: &str) -> Result<String, Wrong> {
    let is_address = unbracketed(text).parse::<IpAddr>().is_ok();
    let is_odd = |letter: char| letter.is_whitespace() || matches!(letter, '/' | ':' | ',');
    if text.contains(is_odd) && !is_address {
        return Err(Wrong::new(
            format!("`{text}` is not a host name or address alone"),
            "write it without scheme and port, such as `localhost` or `0.0.0.0`",
        ));
    }
    Ok(text.into())
}

fn name(text: &str) -> Result<String, Wrong> {
    if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(Wrong::new(
            format!("name `{}` must not contain spaces", text.escape_debug()),
            "write a dash in their place",
        ));
    }
    Ok(text.into())
}

fn subject(text: &str) -> Result<String, Wrong> {
    let shown = text.escape_debug();
    let wrong = |what: &str, remedy: &str| Err(Wrong::new(format!("`{shown}` {what}"), remedy));
    if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        wrong(
            "must not contain spaces",
            "separate words by dots or dashes",
        )
    } else if text.split('.').any(str::is_empty) {
        wrong(
            "has an empty part",
            "dots stand between words, neither first nor last nor two in a row",
        )
    } else if text.split('.').any(|token| token == "*" || token == ">") {
        wrong(
            "has a wildcard",
            "events are published to it, so it must be literal, such as `bindplane-event-bus`",
        )
    } else {
        Ok(text.into())
    }
}

/// Where the client connects.
fn client_endpoint(text: &str) -> Result<Endpoint, Wrong> {
    if matches!(text.to_ascii_lowercase().as_str(), "inproc:" | "inproc://") {
        return Ok(Endpoint::in_process());
    }
    endpoint(text, &["nats"])
}

/// As in documents: `nats://host:port`, for routes also other schemes, or `inproc:`.
impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let endpoint = client_endpoint(text).or_else(|wrong| route(text).map_err(|_| wrong));
        endpoint.map_err(|wrong| InvalidEndpoint {
            message: wrong.message,
            remedy: wrong.remedy,
        })
    }
}

fn route(text: &str) -> Result<Endpoint, Wrong> {
    endpoint(text, &["nats", "nats-route", "tls"])
}

fn endpoint(text: &str, schemes: &[&str]) -> Result<Endpoint, Wrong> {
    let form = format!("write it as {}://host:port", schemes[0]);
    let wrong = |what: &str| Err(Wrong::new(format!("`{text}` {what}"), form.clone()));
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong("has no scheme");
    };
    let Some(scheme) = schemes
        .iter()
        .find(|known| known.eq_ignore_ascii_case(scheme))
    else {
        return Err(Wrong::new(
            format!("scheme `{scheme}` is invalid in `{text}`"),
            format!("valid schemes are {}: {form}", schemes.join(", ")),
        ));
    };
    if let Some((_, after)) = rest.rsplit_once('@') {
        // Not with the value: it may hold a password.
        return Err(Wrong::new(
            format!("a user or password before `{after}` is not supported"),
            form,
        ));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(',') {
        return wrong("is more than one address");
    }
    if rest.contains(|letter: char| letter.is_whitespace() || matches!(letter, '/' | '?' | '#')) {
        return wrong("has more than host and port");
    }
    match host_and_port(rest) {
        Ok((host, port)) => Ok(Endpoint {
            scheme: (*scheme).into(),
            host: host.to_ascii_lowercase(),
            port,
        }),
        Err(reason) => wrong(reason),
    }
}

fn advertise(text: &str) -> Result<String, Wrong> {
    let form = "write it as host:port";
    let wrong = |what: &str| Err(Wrong::new(format!("`{text}` {what}"), form));
    if text.contains("://") {
        return wrong("must not have a scheme");
    }
    match host_and_port(text) {
        Ok(_) => Ok(text.into()),
        Err(reason) => wrong(reason),
    }
}

fn count(text: &str) -> Result<u64, Wrong> {
    match text.parse::<u64>() {
        Ok(count) if count >= 1 => Ok(count),
        _ => Err(Wrong::new(
            format!("`{text}` is not a whole number of 1 or more"),
            "write one, such as `2`",
        )),
    }
}

fn duration(text: &str) -> Result<Duration, Wrong> {
    let example = "write a duration such as `15s`, `1m30s` or `500ms`";
    match go_duration::parse(text) {
        Ok(duration) if duration >= INTERVAL_MIN => Ok(duration),
        Ok(_) => Err(Wrong::new(
            format!(
                "`{text}` is too short: at least {}",
                go_duration::show(INTERVAL_MIN)
            ),
            example,
        )),
        Err(error) => Err(Wrong::new(
            format!("`{text}` is not a duration: {error}"),
            example,
        )),
    }
}

/// Says of the whole what is wrong with it.
fn host_and_port(text: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("has an IPv6 address without brackets, or no port");
    }
    if host.is_empty() || host == "[]" {
        return Err("has no host");
    }
    if host.contains(|letter: char| letter.is_whitespace() || letter == '/') {
        return Err("has a host that is none");
    }
    match port.parse::<u16>() {
        Ok(port) if port >= 1 => Ok((host, port)),
        _ => Err("has a port that is not between 1 and 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, or what is said.
    fn check<T: ToString>(parse: fn(&str) -> Result<T, Wrong>, cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let told = match parse(text) {
                Ok(value) => value.to_string(),
                Err(wrong) => format!("{}; {}", wrong.message, wrong.remedy),
            };
            assert_eq!(told, *expected, "{text}");
        }
    }

    #[test]
    fn endpoints() {
        for text in ["nats://h:1", "tls://h:1", "inproc:"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
        let error = "h:1".parse::<Endpoint>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`h:1` has no scheme; write it as nats://host:port"
        );
        check(
            client_endpoint,
            &[
                ("nats://h:1", "nats://h:1"),
                ("NATS://Host:1", "nats://host:1"),
                ("nats://[::1]:4222", "nats://[::1]:4222"),
                ("nats://127.0.0.1:4222/", "nats://127.0.0.1:4222"),
                ("inproc:", "inproc:"),
                (
                    "http://h:1",
                    "scheme `http` is invalid in `http://h:1`; valid schemes are nats: write it as nats://host:port",
                ),
                ("h:1", "`h:1` has no scheme; write it as nats://host:port"),
                (
                    "nats://h",
                    "`nats://h` has no port; write it as nats://host:port",
                ),
                (
                    "nats://:1",
                    "`nats://:1` has no host; write it as nats://host:port",
                ),
                (
                    "nats://h:0",
                    "`nats://h:0` has a port that is not between 1 and 65535; write it as nats://host:port",
                ),
                (
                    "nats://::1:4222",
                    "`nats://::1:4222` has an IPv6 address without brackets, or no port; write it as \
                     nats://host:port",
                ),
                (
                    "nats://a:1,nats://b:2",
                    "`nats://a:1,nats://b:2` is more than one address; write it as nats://host:port",
                ),
                (
                    "nats://h:1/x",
                    "`nats://h:1/x` has more than host and port; write it as nats://host:port",
                ),
                (
                    "nats://u:p@h:1",
                    "a user or password before `h:1` is not supported; write it as nats://host:port",
                ),
            ],
        );
        for scheme in ["nats", "nats-route", "tls"] {
            let text = format!("{scheme}://h:1");
            assert_eq!(route(&text).map(|route| route.to_string()), Ok(text));
        }
    }

    #[test]
    fn advertised_addresses() {
        check(
            advertise,
            &[
                ("h:1", "h:1"),
                (
                    "nats://h:1",
                    "`nats://h:1` must not have a scheme; write it as host:port",
                ),
                ("h", "`h` has no port; write it as host:port"),
            ],
        );
    }

    #[test]
    fn subjects() {
        for bad in [
            "a b", "a..b", ".a", "a.", ">", "a.>", "*", "a.*.b", "a\u{7}",
        ] {
            assert!(subject(bad).is_err(), "{bad}");
        }
        assert!(
            subject("a.b*.c").is_ok(),
            "a star inside a token is literal"
        );
    }

    #[test]
    fn switches_and_ports_and_durations() {
        for (words, value) in [
            ("1 t T TRUE true True", true),
            ("0 f F FALSE false False", false),
        ] {
            assert!(words.split(' ').all(|word| switch(word) == Ok(value)));
        }
        assert!(switch("yes").is_err());
        assert_eq!(port("65535"), Ok(65535));
        for bad in ["0", "65536", "-1", "eight", "1.5"] {
            assert!(port(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("100ms"), Ok(INTERVAL_MIN));
        for bad in ["0s", "99ms", "15", "-1s", "soon"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts() {
        for good in ["localhost", "0.0.0.0", "::", "[::1]", "a.example"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in ["nats://h", "h:1", "a b", "a,b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_in_one_text() {
        let parts = |text: &str| comma_separated(text).expect("a list");
        assert_eq!(parts(" a , b,,c "), ["a", "b", "c"]);
        assert_eq!(parts("\"a,b\",\"c\"\"d\""), ["a,b", "c\"d"]);
        assert_eq!(parts(""), [""; 0]);
        assert!(comma_separated("\"a").is_err());
    }
}
