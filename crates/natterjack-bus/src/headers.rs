//! CloudEvents 1.0 on NATS messages, both ways.
//!
//! We write binary mode: each attribute is a header `ce-<name>`, the media type is `content-type`, the data is the
//! payload; values are percent-encoded as in the HTTP binding (section 3.1.3.2). We read binary mode, structured mode
//! (a payload that is the whole event in JSON; the only mode of the published NATS binding 1.0.2, which has no
//! headers), and plain JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::envelope::{Attributes, Envelope};
use crate::fault::DecodeError;

const PREFIX: &str = "ce-";
const CONTENT_TYPE: &str = "content-type";
const STRUCTURED: &str = "application/cloudevents";

/// Type of an event that does not name one.
const KIND_UNKNOWN: &str = "unknown";

/// Writes the attributes as headers. The second value is their size on the wire, which counts towards the server's
/// limit on payloads: status line, `name: value` lines and an empty line (NATS ADR-4).
pub(crate) fn encode(attributes: &Attributes) -> (HeaderMap, usize) {
    let mut headers = HeaderMap::new();
    let mut wire_bytes = "NATS/1.0\r\n\r\n".len();
    let mut insert = |name: String, value: &str| {
        let value = percent_encode(value);
        wire_bytes += name.len() + ": \r\n".len() + value.len();
        headers.insert(name, value);
    };
    insert("ce-specversion".into(), "1.0");
    insert("ce-id".into(), &attributes.id);
    insert("ce-source".into(), &attributes.source);
    insert("ce-type".into(), &attributes.kind);
    if let Some(time) = &attributes.time {
        insert("ce-time".into(), time);
    }
    if let Some(content_type) = &attributes.content_type {
        insert(CONTENT_TYPE.into(), content_type);
    }
    for (name, value) in &attributes.others {
        insert(format!("{PREFIX}{name}"), value);
    }
    (headers, wire_bytes)
}

/// A message that is no event, with what is known about it.
pub(crate) struct Unreadable {
    pub(crate) id: String,
    pub(crate) origin: String,
    pub(crate) reason: DecodeError,
}

/// Reads a message from `subject`. What it does not say is filled in: a new identifier, the subject as source, and
/// `unknown` as type.
pub(crate) fn decode(
    headers: Option<&HeaderMap>,
    payload: Bytes,
    subject: &str,
) -> Result<Envelope, Box<Unreadable>> {
    let mut read = headers.map(read_headers).unwrap_or_default();
    let structured = match read.content_type.as_deref().map(str::to_ascii_lowercase) {
        Some(content_type) if content_type.starts_with(STRUCTURED) => Some(true),
        _ if !read.attributes.is_empty() => Some(false),
        _ => None,
    };
    let spec_version = read.attributes.remove("specversion");
    let mut attributes = named(read.attributes);
    attributes.content_type = attributes.content_type.or(read.content_type);
    let result = match structured {
        Some(true) => read_structured(&payload),
        Some(false)
            if spec_version
                .as_deref()
                .is_some_and(|version| !version.starts_with("1.")) =>
        {
            Err(DecodeError::SpecVersion(spec_version.unwrap_or_default()))
        }
        Some(false) => Ok((attributes.clone(), payload)),
        // Nothing said it is one, so a failure to read it as one is none.
        None => Ok(read_structured(&payload).unwrap_or_else(|_| (attributes.clone(), payload))),
    };
    match result {
        Ok((attributes, payload)) => {
            let attributes = filled(attributes, read.message_id, subject);
            Ok(Envelope {
                attributes,
                payload,
                own: false,
            })
        }
        Err(reason) => {
            let Attributes { id, source, .. } = filled(attributes, read.message_id, subject);
            Err(Box::new(Unreadable {
                id,
                origin: source,
                reason,
            }))
        }
    }
}

#[derive(Default)]
struct Read {
    /// By lower-case name without prefix.
    attributes: BTreeMap<String, String>,
    content_type: Option<String>,
    message_id: Option<String>,
}

/// NATS keeps the case of header names and other libraries write `Ce-Id`, so names are compared without case.
fn read_headers(headers: &HeaderMap) -> Read {
    let mut read = Read::default();
    for (name, values) in headers.iter() {
        let Some(value) = values.first() else {
            continue;
        };
        let name = AsRef::<str>::as_ref(name).to_ascii_lowercase();
        if let Some(attribute) = name.strip_prefix(PREFIX) {
            if is_attribute(attribute) {
                read.attributes
                    .insert(attribute.into(), percent_decode(value.as_str()));
            }
        } else if name == CONTENT_TYPE {
            read.content_type = Some(value.as_str().into());
        } else if name == "nats-msg-id" {
            read.message_id = Some(value.as_str().into());
        }
    }
    read
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
    let mut data = Bytes::from_static(b"null");
    let mut binary = false;
    let mut all = BTreeMap::new();
    for (name, value) in members {
        match name.as_str() {
            "data" => data = payload.slice_ref(value.get().as_bytes()),
            "data_base64" => binary = true,
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
    if binary {
        return Err(DecodeError::Binary);
    }
    Ok((named(all), data))
}

/// Encodes what the HTTP binding wants encoded: everything but printable ASCII, and space, `"` and `%`.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '!'..='~') && !matches!(character, '"' | '%') {
            encoded.push(character);
            continue;
        }
        let mut buffer = [0; 4];
        for byte in character.encode_utf8(&mut buffer).bytes() {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Decodes `%XX`; anything else, and what would not be UTF-8, is left as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
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
    String::from_utf8(decoded).unwrap_or_else(|_| text.into())
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
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (headers, _) = encode(&attributes());
        let source = headers.get("ce-source").unwrap().as_str();
        assert_eq!(source, "node%20a/%C3%BC%25%22");
        let envelope = decode(Some(&headers), Bytes::from_static(b"1"), "s")
            .ok()
            .unwrap();
        assert_eq!(envelope.attributes, attributes());
        assert_eq!(envelope.payload, "1");
    }

    #[test]
    fn wire_size_is_exact() {
        let (headers, wire_bytes) = encode(&attributes());
        let mut wire = String::from("NATS/1.0\r\n");
        for (name, values) in headers.iter() {
            wire += &format!("{name}: {}\r\n", values[0]);
        }
        wire += "\r\n";
        assert_eq!(wire.len(), wire_bytes);
    }

    #[test]
    fn plain_json_gets_sensible_attributes() {
        let envelope = decode(None, Bytes::from_static(b"{\"a\":1}"), "events")
            .ok()
            .unwrap();
        assert_eq!(envelope.payload, "{\"a\":1}");
        assert_eq!(envelope.attributes.source, "events");
        assert_eq!(envelope.attributes.kind, "unknown");
        assert!(Uuid::parse_str(&envelope.attributes.id).is_ok());
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", "m1");
        let envelope = decode(Some(&headers), Bytes::from_static(b"1"), "events")
            .ok()
            .unwrap();
        assert_eq!(envelope.attributes.id, "m1");
    }

    #[test]
    fn header_names_match_whatever_their_case() {
        let mut headers = HeaderMap::new();
        headers.insert("Ce-Id", "7");
        headers.insert("CE-Type", "t");
        headers.insert("ce-datacontenttype", "application/json");
        let read = decode(Some(&headers), Bytes::new(), "s")
            .ok()
            .unwrap()
            .attributes;
        assert_eq!((read.id.as_str(), read.kind.as_str()), ("7", "t"));
        assert_eq!(read.content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn structured_events_are_unpacked() {
        let payload = Bytes::from_static(
            br#"{"specversion":"1.0","id":"i","source":"s","type":"t","n":5,"data":{"x":[1, 2]}}"#,
        );
        let mut headers = HeaderMap::new();
        headers.insert(
            "Content-Type",
            "application/cloudevents+json; charset=utf-8",
        );
        for headers in [Some(&headers), None] {
            let envelope = decode(headers, payload.clone(), "subject").ok().unwrap();
            assert_eq!(envelope.payload, r#"{"x":[1, 2]}"#);
            assert_eq!(envelope.attributes.source, "s");
            assert_eq!(envelope.attributes.others["n"], "5");
        }
    }

    #[test]
    fn null_is_no_attribute() {
        let payload = Bytes::from_static(
            br#"{"specversion":"1.0","id":"i","source":"s","type":"t","time":null,"x":null,"data":null}"#,
        );
        let envelope = decode(None, payload, "subject").ok().unwrap();
        assert_eq!(envelope.attributes.time, None);
        assert!(envelope.attributes.others.is_empty());
        let payload =
            Bytes::from_static(br#"{"specversion":"1.0","id":null,"source":"s","type":"t"}"#);
        assert!(read_structured(&payload).is_err());
    }

    #[test]
    fn names_that_are_no_attributes_are_dropped() {
        let mut headers = HeaderMap::new();
        headers.insert("ce-id", "1");
        headers.insert("Ce-Fine1", "yes");
        for name in ["ce-", "ce-data", "ce-data_base64", "ce-a-b"] {
            headers.insert(name, "forged");
        }
        let envelope = decode(Some(&headers), Bytes::from_static(b"1"), "s")
            .ok()
            .unwrap();
        let others = &envelope.attributes.others;
        assert_eq!((others.len(), others["fine1"].as_str()), (1, "yes"));
        let payload = Bytes::from_static(
            br#"{"specversion":"1.0","id":"i","source":"s","type":"t","Data":1,"":2,"a_b":3,"data":4}"#,
        );
        let envelope = decode(None, payload, "s").ok().unwrap();
        assert!(envelope.attributes.others.is_empty());
        assert_eq!(envelope.payload, "4");
    }

    #[test]
    fn what_claims_to_be_an_event_must_be_one() {
        let mut headers = HeaderMap::new();
        headers.insert("ce-specversion", "0.3");
        headers.insert("ce-id", "9");
        let unreadable = decode(Some(&headers), Bytes::new(), "s").err().unwrap();
        assert!(matches!(unreadable.reason, DecodeError::SpecVersion(_)));
        assert_eq!(
            (unreadable.id.as_str(), unreadable.origin.as_str()),
            ("9", "s")
        );
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/cloudevents+json");
        for payload in ["no", "[]", r#"{"specversion":"1.0","id":"i"}"#] {
            assert!(
                decode(Some(&headers), payload.into(), "s").is_err(),
                "{payload}"
            );
        }
    }

    #[test]
    fn odd_percent_signs_stay() {
        for text in ["%", "%4", "%zz", "a%41", "%FF", "%é1", "%+1", "%-1"] {
            let expected = if text == "a%41" { "aA" } else { text };
            assert_eq!(percent_decode(text), expected);
        }
    }
}
