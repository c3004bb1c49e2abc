//! CloudEvents 1.0 on NATS messages, both ways.
//!
//! We write binary mode: each attribute is a header `ce-<name>`, the media type is `content-type`, the data is the
//! payload; values are percent-encoded as in the HTTP binding (section 3.1.3.2). We read binary mode, structured mode
//! (a payload that is the whole event in JSON; the only mode of the published NATS binding 1.0.2, which has no
//! headers), and plain JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::Serialize;
use serde_json::value::RawValue;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::envelope::{Attributes, Draft, Envelope, ID_BYTES, JSON, KIND_UNKNOWN, id_text, stamp};
use crate::fault::DecodeError;
use crate::rfc3339;
use crate::trace::{self, Trace};

const PREFIX: &str = "ce-";
const CONTENT_TYPE: &str = "content-type";
const STRUCTURED: &str = "application/cloudevents";

/// Characters of an identifier of ours.
const ID_TEXT_BYTES: usize = uuid::fmt::Hyphenated::LENGTH;

const STATUS_LINE: &str = "NATS/1.0\r\n";

/// Status line and the empty line at the end.
const BLOCK_BYTES: usize = STATUS_LINE.len() + "\r\n".len();

/// The attributes as headers, each name and value for itself.
pub(crate) fn entries(
    attributes: &Attributes,
) -> impl Iterator<Item = (Cow<'static, str>, Cow<'_, str>)> {
    let Attributes {
        id,
        source,
        kind,
        time,
        content_type,
        others,
        trace,
    } = attributes;
    let fixed = [
        ("ce-specversion", Some("1.0")),
        ("ce-id", Some(id.as_str())),
        ("ce-source", Some(source)),
        ("ce-type", Some(kind)),
        ("ce-time", time.as_deref()),
        (CONTENT_TYPE, content_type.as_deref()),
    ];
    let fixed = fixed
        .into_iter()
        .filter_map(|(name, value)| Some((Cow::Borrowed(name), percent_encode(value?))));
    let others = others
        .iter()
        .map(|(name, value)| (Cow::Owned(format!("{PREFIX}{name}")), percent_encode(value)));
    let trace = trace.iter().flat_map(Trace::entries);
    let trace = trace.map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)));
    fixed.chain(others).chain(trace)
}

/// What is said about a new event of this node, as it is written into headers, without an allocation if nothing special is.
pub(crate) struct Said<'a> {
    pub(crate) id: Uuid,
    id_buffer: [u8; ID_BYTES],
    time_buffer: [u8; rfc3339::LENGTH],
    time: Option<Cow<'a, str>>,
    source: &'a str,
    kind: Cow<'a, str>,
    others: Vec<(String, Cow<'a, str>)>,
    trace: Option<&'a Trace>,
}

impl<'a> Said<'a> {
    /// Gives an event its identifier and time; see [`stamp()`]. The source is [`percent_encode`]d already, `kind` is the
    /// event's type where the draft names none.
    pub(crate) fn new(draft: &'a Draft, source: &'a str, kind: &'a str) -> Self {
        let (id, now) = stamp();
        let mut said = Self {
            id,
            id_buffer: Uuid::encode_buffer(),
            time_buffer: [0; rfc3339::LENGTH],
            time: draft.time.as_deref().map(percent_encode),
            source,
            kind: percent_encode(draft.kind.as_deref().unwrap_or(kind)),
            others: draft
                .others
                .iter()
                .map(|(name, value)| (format!("{PREFIX}{name}"), percent_encode(value)))
                .collect(),
            trace: draft.trace.as_ref(),
        };
        id_text(id, &mut said.id_buffer);
        rfc3339::write(now, &mut said.time_buffer);
        said
    }

    /// Names and values.
    pub(crate) fn entries(&self) -> SmallVec<[(&str, &str); 8]> {
        // Both buffers hold ASCII; that of the identifier is longer than it.
        let text = |buffer| str::from_utf8(buffer).unwrap_or_default();
        let time = self.time.as_deref();
        let mut entries = SmallVec::from_iter([
            ("ce-specversion", "1.0"),
            ("ce-id", text(&self.id_buffer[..ID_TEXT_BYTES])),
            ("ce-source", self.source),
            ("ce-type", &self.kind),
            ("ce-time", time.unwrap_or_else(|| text(&self.time_buffer))),
            (CONTENT_TYPE, JSON),
        ]);
        let others = self.others.iter();
        entries.extend(others.map(|(name, value)| (&**name, &**value)));
        for (name, value) in self.trace.into_iter().flat_map(Trace::entries) {
            entries.push((name, value));
        }
        entries
    }
}

/// Appends a header block (NATS ADR-4). No value has a line end: all are [`percent_encode`]d, or a [`Trace`]'s.
pub(crate) fn write_block(out: &mut Vec<u8>, entries: &[(&str, &str)]) {
    out.extend_from_slice(STATUS_LINE.as_bytes());
    for (name, value) in entries {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// What the attributes take as headers, which counts towards the server's limit on payloads: status line,
/// `name: value` lines and an empty line (NATS ADR-4).
pub(crate) fn wire_bytes(attributes: &Attributes) -> usize {
    let lines = entries(attributes).map(|(name, value)| line_bytes(&*name, &*value));
    BLOCK_BYTES + lines.sum::<usize>()
}

fn line_bytes(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> usize {
    name.as_ref().len() + value.as_ref().len() + ": \r\n".len()
}

/// A message that is no event, with what is known about it.
pub(crate) struct Unreadable {
    /// If its publisher has given it one.
    pub(crate) id: Option<String>,
    pub(crate) origin: String,
    pub(crate) reason: DecodeError,
    /// As [`Envelope::bytes`].
    pub(crate) bytes: usize,
}

/// Reads a message from `subject`. What it does not say is filled in: a new identifier, the subject as source, and
/// `unknown` as type. Of headers that come several times the first counts.
pub(crate) fn decode<'a>(
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    payload: Bytes,
    subject: &str,
) -> Result<Envelope, Box<Unreadable>> {
    let mut bytes = payload.len();
    let headers = headers.inspect(|(name, value)| bytes += line_bytes(name, value));
    let Read {
        mut attributes,
        has_attributes,
        spec_version,
        content_type,
        message_id,
    } = read_headers(headers);
    let is_structured = content_type
        .as_deref()
        .is_some_and(|content_type| has_prefix(content_type, STRUCTURED));
    attributes.content_type = attributes.content_type.or(content_type);
    // Beside the event, wherever that itself is.
    let trace = attributes.trace.take();
    let result = match (is_structured, has_attributes) {
        (true, _) => read_structured(&payload),
        (false, true) => match spec_version {
            Some(version) if !version.starts_with("1.") => Err(DecodeError::SpecVersion(version)),
            _ => Ok((std::mem::take(&mut attributes), payload)),
        },
        // Nothing said it is one, so a failure to read it as one is none.
        (false, false) => Ok(read_structured(&payload)
            .unwrap_or_else(|_| (std::mem::take(&mut attributes), payload))),
    };
    match result {
        Ok((attributes, payload)) => {
            let is_identified = !attributes.id.is_empty() || message_id.is_some();
            let mut attributes = filled(attributes, message_id, subject);
            attributes.trace = trace;
            Ok(Envelope {
                attributes,
                payload,
                bytes,
                own: false,
                is_identified,
            })
        }
        Err(reason) => {
            let is_identified = !attributes.id.is_empty() || message_id.is_some();
            let Attributes { id, source, .. } = filled(attributes, message_id, subject);
            Err(Box::new(Unreadable {
                id: is_identified.then_some(id),
                origin: source,
                reason,
                bytes,
            }))
        }
    }
}

#[derive(Default)]
struct Read {
    attributes: Attributes,
    has_attributes: bool,
    spec_version: Option<String>,
    content_type: Option<String>,
    message_id: Option<String>,
}

/// NATS keeps the case of header names and other libraries write `Ce-Id`, so names are compared without case.
fn read_headers<'a>(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Read {
    let mut read = Read::default();
    let mut trace_parent = None;
    let mut trace_state = String::new();
    for (name, value) in headers {
        let Some((prefix, attribute)) = name.split_at_checked(PREFIX.len()) else {
            continue;
        };
        if prefix.eq_ignore_ascii_case(PREFIX.as_bytes()) {
            read.attribute(attribute, value);
        } else if name.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes()) {
            read.content_type.get_or_insert_with(|| text(value));
        } else if name.eq_ignore_ascii_case(b"nats-msg-id") {
            // One that is empty would be that of all who do not say which event it is.
            if !value.is_empty() {
                read.message_id.get_or_insert_with(|| text(value));
            }
        } else if name.eq_ignore_ascii_case(trace::PARENT.as_bytes()) {
            trace_parent.get_or_insert_with(|| text(value));
        } else if name.eq_ignore_ascii_case(trace::STATE.as_bytes()) {
            // A list, which may be told in several parts (W3C Trace Context, section 3.3).
            if !trace_state.is_empty() {
                trace_state.push(',');
            }
            trace_state.push_str(&text(value));
        }
    }
    read.attributes.trace = trace_parent.and_then(|parent| Trace::new(parent, trace_state));
    read
}

impl Read {
    fn attribute(&mut self, name: &[u8], value: &[u8]) {
        /// Those that have a place of their own, as they are mostly written.
        const KNOWN: [&[u8]; 6] = [
            b"id",
            b"source",
            b"type",
            b"time",
            b"specversion",
            b"datacontenttype",
        ];
        let lower;
        let name = match KNOWN.into_iter().find(|known| *known == name) {
            Some(known) => known,
            None => {
                lower = name.to_ascii_lowercase();
                lower.as_slice()
            }
        };
        let Some(attribute) = str::from_utf8(name).ok().filter(|name| is_attribute(name)) else {
            return;
        };
        self.has_attributes = true;
        let Attributes {
            id,
            source,
            kind,
            time,
            content_type,
            others,
            trace: _,
        } = &mut self.attributes;
        let once = |place: &mut String| {
            if place.is_empty() {
                *place = percent_decode(text(value));
            }
        };
        let first = |place: &mut Option<String>| {
            place.get_or_insert_with(|| percent_decode(text(value)));
        };
        match attribute {
            "id" => once(id),
            "source" => once(source),
            "type" => once(kind),
            "time" => first(time),
            "datacontenttype" => first(content_type),
            "specversion" => first(&mut self.spec_version),
            other => {
                others
                    .entry(other.into())
                    .or_insert_with(|| percent_decode(text(value)));
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.as_bytes()
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// Whether an attribute may have this name: lower-case letters and digits (CloudEvents 1.0, section 3.1), and not that
/// of the data, which stands beside the attributes in the JSON event format. What else a publisher sends is no attribute,
/// and would let it forge members of events that are written out as JSON.
fn is_attribute(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty() && name != "data" && name.bytes().all(is_plain)
}

fn named(mut all: BTreeMap<String, String>) -> Attributes {
    Attributes {
        id: all.remove("id").unwrap_or_default(),
        source: all.remove("source").unwrap_or_default(),
        kind: all.remove("type").unwrap_or_default(),
        time: all.remove("time"),
        content_type: all.remove("datacontenttype"),
        others: all,
        trace: None,
    }
}

fn filled(mut attributes: Attributes, message_id: Option<String>, subject: &str) -> Attributes {
    if attributes.id.is_empty() {
        attributes.id = message_id.unwrap_or_else(|| Uuid::now_v7().to_string());
    }
    if attributes.source.is_empty() {
        attributes.source = subject.into();
    }
    if attributes.kind.is_empty() {
        attributes.kind = KIND_UNKNOWN.into();
    }
    attributes
}

/// The JSON event format: one object, attributes and `data` side by side.
fn read_structured(payload: &Bytes) -> Result<(Attributes, Bytes), DecodeError> {
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_slice(payload).map_err(DecodeError::Structured)?;
    let mut data = None;
    let mut encoded = None;
    let mut all = BTreeMap::new();
    for (name, value) in members {
        match name.as_str() {
            "data" => data = Some(payload.slice_ref(value.get().as_bytes())),
            // There may be only one of the two (JSON event format, section 3.1.1).
            "data_base64" => encoded = Some(value),
            name if !is_attribute(name) => {}
            // An attribute that is null is not there (JSON event format, section 2.2).
            _ if value.get() == "null" => {}
            // Attributes are strings, numbers or booleans; the latter two keep their JSON text.
            _ => {
                let text = serde_json::from_str::<String>(value.get());
                all.insert(name, text.unwrap_or_else(|_| value.get().into()));
            }
        }
    }
    let version = all.remove("specversion").unwrap_or_default();
    if !version.starts_with("1.") {
        return Err(DecodeError::SpecVersion(version));
    }
    for required in ["id", "source", "type"] {
        if !all.contains_key(required) {
            let missing = serde::de::Error::missing_field(required);
            return Err(DecodeError::Structured(missing));
        }
    }
    let data = match (data, encoded) {
        (Some(_), Some(_)) => {
            let twice = serde::de::Error::custom("it has both `data` and `data_base64`");
            return Err(DecodeError::Structured(twice));
        }
        (Some(data), None) => data,
        (None, Some(encoded)) => from_base64(encoded)?,
        (None, None) => Bytes::from_static(b"null"),
    };
    Ok((named(all), data))
}

/// Any bytes may be in there, JSON text among them; whether it is that shows when it is decoded.
fn from_base64(encoded: &RawValue) -> Result<Bytes, DecodeError> {
    let text: String = serde_json::from_str(encoded.get()).map_err(DecodeError::Structured)?;
    let bytes = BASE64.decode(text.as_bytes());
    Ok(bytes.map_err(|_| DecodeError::Base64)?.into())
}

/// Writes an event in structured mode. The data must be JSON.
pub(crate) fn encode_structured(
    attributes: &Attributes,
    data: &RawValue,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Structured {
        specversion: "1.0",
        id: &attributes.id,
        source: &attributes.source,
        kind: &attributes.kind,
        time: attributes.time.as_deref(),
        datacontenttype: attributes.content_type.as_deref(),
        others: &attributes.others,
        data,
    })
}

#[derive(Serialize)]
struct Structured<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<&'a str>,
    #[serde(flatten)]
    others: &'a BTreeMap<String, String>,
    data: &'a RawValue,
}

/// Encodes what the HTTP binding wants encoded: everything but printable ASCII, and space, `"` and `%`.
pub(crate) fn percent_encode(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'%');
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Cow::Owned(encoded)
}

/// Decodes `%XX`; anything else, and what would not be UTF-8, is left as it is.
fn percent_decode(text: String) -> String {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return text;
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let code = text
            .get(index + 1..index + 3)
            .filter(|_| bytes[index] == b'%')
            // The number parser takes a sign, too.
            .filter(|code| !code.starts_with('+'));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                index += 3;
            }
            None => {
                decoded.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes() -> Attributes {
        Attributes {
            id: "1".into(),
            source: "node a/ü%\"".into(),
            kind: "t".into(),
            time: Some("2026-01-01T00:00:00Z".into()),
            content_type: Some("application/json".into()),
            others: [("subject".to_string(), "x\r\ny".to_string())].into(),
            trace: None,
        }
    }

    fn read(entries: &[(&str, &str)], payload: &'static str) -> Result<Envelope, Box<Unreadable>> {
        let entries = entries
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        decode(entries, payload.into(), "s")
    }

    fn taken(entries: &[(&str, &str)], payload: &'static str) -> Envelope {
        read(entries, payload).ok().expect("an event")
    }

    #[test]
    fn what_is_written_is_read_back() {
        let Attributes {
            source,
            kind,
            time,
            others,
            ..
        } = attributes();
        let trace = Trace::new("00-a-b-01 \"%\"", "k=v");
        let draft = Draft {
            kind: Some(kind.into()),
            time,
            others,
            trace: trace.clone(),
            #[cfg(feature = "opentelemetry")]
            origins: Vec::new(),
            payload: Vec::new(),
        };
        let source = percent_encode(&source);
        assert_eq!(source, "node%20a/%C3%BC%25%22");
        let said = Said::new(&draft, &source, "unused");
        let entries = said.entries();
        let envelope = taken(&entries, "1");
        let expected = Attributes {
            id: said.id.to_string(),
            trace,
            ..attributes()
        };
        assert_eq!(envelope.attributes, expected);
        assert_eq!(envelope.payload, "1");
        let mut block = Vec::new();
        write_block(&mut block, &entries);
        assert_eq!(block.len(), wire_bytes(&expected));
        let headers = natterjack_wire::headers::Headers::parse(&block).expect("a block");
        let read = headers.entries().map(|(name, value)| {
            let text = |bytes| str::from_utf8(bytes).expect("text");
            (text(name), text(value))
        });
        assert_eq!(read.collect::<Vec<_>>(), entries.to_vec());
    }

    #[test]
    fn a_time_of_its_own_is_the_present() {
        let draft = Draft::default();
        let said = Said::new(&draft, "s", "k");
        let attributes = taken(&said.entries(), "").attributes;
        let time = rfc3339::parse(attributes.time.as_deref().expect("a time")).expect("our own");
        assert!(time.abs_diff(crate::envelope::since_1970()).as_secs() < 60);
        assert_eq!((&*attributes.source, &*attributes.kind), ("s", "k"));
    }

    #[test]
    fn plain_json_gets_sensible_attributes() {
        let envelope = taken(&[], "{\"a\":1}");
        assert_eq!(envelope.payload, "{\"a\":1}");
        assert_eq!(envelope.attributes.source, "s");
        assert_eq!(envelope.attributes.kind, "unknown");
        assert!(Uuid::parse_str(&envelope.attributes.id).is_ok());
        let envelope = taken(&[("Nats-Msg-Id", "m1")], "1");
        assert_eq!(envelope.attributes.id, "m1");
        let envelope = taken(&[("Nats-Msg-Id", "")], "1");
        assert!(Uuid::parse_str(&envelope.attributes.id).is_ok() && !envelope.is_identified);
    }

    #[test]
    fn header_names_match_whatever_their_case() {
        let entries = [
            ("Ce-Id", "7"),
            ("CE-Type", "t"),
            ("ce-datacontenttype", "application/json"),
        ];
        let read = taken(&entries, "").attributes;
        assert_eq!((read.id.as_str(), read.kind.as_str()), ("7", "t"));
        assert_eq!(read.content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn traces_are_beside_events_of_any_form() {
        let headers = [
            ("TraceParent", "p"),
            ("tracestate", "a=1"),
            ("traceparent", "ignored"),
            ("Tracestate", "b=2"),
        ];
        let binary = [("ce-id", "1"), ("ce-traceparent", "first")];
        let structured =
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","traceparent":"first"}"#;
        for (attributes, payload) in [(&binary[..], "1"), (&[], "1"), (&[], structured)] {
            let attributes = taken(&[&headers, attributes].concat(), payload).attributes;
            assert_eq!(attributes.trace, Trace::new("p", "a=1,b=2"));
            if attributes.id == "1" {
                assert_eq!(attributes.others["traceparent"], "first");
            }
        }
        let attributes = taken(&headers[1..2], "1").attributes;
        assert_eq!(attributes.trace, None, "a state belongs to a parent");
    }

    #[test]
    fn structured_events_are_unpacked() {
        let payload =
            r#"{"specversion":"1.0","id":"i","source":"s","type":"t","n":5,"data":{"x":[1, 2]}}"#;
        let said = [(
            "Content-Type",
            "application/cloudevents+json; charset=utf-8",
        )];
        for entries in [&said[..], &[]] {
            let envelope = taken(entries, payload);
            assert_eq!(envelope.payload, r#"{"x":[1, 2]}"#);
            assert_eq!(envelope.attributes.source, "s");
            assert_eq!(envelope.attributes.others["n"], "5");
        }
    }

    #[test]
    fn structured_events_may_have_their_data_in_base64() {
        let read = |data: &str| {
            let payload =
                format!(r#"{{"specversion":"1.0","id":"i","source":"s","type":"t",{data}}}"#);
            read_structured(&payload.into()).map(|(_, data)| data)
        };
        let encoded = |text: &str| read(&format!(r#""data_base64":"{text}""#));
        assert_eq!(encoded("eyJ4IjogMX0=").unwrap(), r#"{"x": 1}"#);
        assert_eq!(encoded("/w==").unwrap(), b"\xff".as_slice());
        assert_eq!(encoded("").unwrap(), "");
        for no in ["eyJ4I", "e*J4"] {
            assert!(matches!(encoded(no), Err(DecodeError::Base64)), "{no}");
        }
        for no in [
            r#""data_base64":7"#,
            r#""data":1,"data_base64":"MQ==""#,
            r#""data_base64":"MQ==","data":null"#,
        ] {
            assert!(matches!(read(no), Err(DecodeError::Structured(_))), "{no}");
        }
    }

    #[test]
    fn structured_events_are_read_as_written() {
        let data = RawValue::from_string(r#"{"x":[1, 2]}"#.into()).unwrap();
        let written = encode_structured(&attributes(), &data).unwrap();
        let envelope = decode(std::iter::empty(), written.into(), "s")
            .ok()
            .unwrap();
        assert_eq!(envelope.attributes, attributes());
        assert_eq!(envelope.payload, data.get());
    }

    #[test]
    fn null_is_no_attribute() {
        let payload = r#"{"specversion":"1.0","id":"i","source":"s","type":"t","time":null,"x":null,"data":null}"#;
        let envelope = taken(&[], payload);
        assert_eq!(envelope.attributes.time, None);
        assert!(envelope.attributes.others.is_empty());
        let payload =
            Bytes::from_static(br#"{"specversion":"1.0","id":null,"source":"s","type":"t"}"#);
        assert!(read_structured(&payload).is_err());
    }

    #[test]
    fn names_that_are_no_attributes_are_dropped() {
        let entries = [
            ("ce-id", "1"),
            ("Ce-Fine1", "yes"),
            ("ce-", "forged"),
            ("ce-data", "forged"),
            ("ce-data_base64", "forged"),
            ("ce-a-b", "forged"),
        ];
        let envelope = taken(&entries, "1");
        let others = &envelope.attributes.others;
        assert_eq!((others.len(), others["fine1"].as_str()), (1, "yes"));
        let payload = r#"{"specversion":"1.0","id":"i","source":"s","type":"t","Data":1,"":2,"a_b":3,"data":4}"#;
        let envelope = taken(&[], payload);
        assert!(envelope.attributes.others.is_empty());
        assert_eq!(envelope.payload, "4");
    }

    #[test]
    fn what_claims_to_be_an_event_must_be_one() {
        let unreadable = read(&[("ce-specversion", "0.3"), ("ce-id", "9")], "")
            .err()
            .unwrap();
        assert!(matches!(unreadable.reason, DecodeError::SpecVersion(_)));
        assert_eq!(
            (unreadable.id.as_deref(), unreadable.origin.as_str()),
            (Some("9"), "s")
        );
        let said = [("content-type", "application/cloudevents+json")];
        for payload in ["no", "[]", r#"{"specversion":"1.0","id":"i"}"#] {
            assert!(read(&said, payload).is_err(), "{payload}");
        }
    }

    #[test]
    fn odd_percent_signs_stay() {
        for text in ["%", "%4", "%zz", "a%41", "%FF", "%é1", "%+1", "%-1"] {
            let expected = if text == "a%41" { "aA" } else { text };
            assert_eq!(percent_decode(text.into()), expected);
        }
    }
}
