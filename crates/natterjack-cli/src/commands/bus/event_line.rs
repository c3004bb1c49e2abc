//! An event as one line of text: a CloudEvent in the JSON event format.

use std::collections::BTreeMap;

use natterjack_bus::Event;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    datacontenttype: &'a str,
    #[serde(flatten)]
    others: &'a BTreeMap<String, String>,
}

/// The line, with its line feed.
pub(super) fn render(event: &Event<Box<RawValue>>) -> Vec<u8> {
    let attributes = CloudEvent {
        specversion: "1.0",
        id: &event.id,
        source: &event.source,
        r#type: &event.kind,
        time: event.time.as_deref(),
        datacontenttype: event.content_type.as_deref().unwrap_or("application/json"),
        others: &event.others,
    };
    let mut line = serde_json::to_vec(&attributes).expect("text attributes have a JSON form");
    // Data goes in as text, behind the attributes: whoever wrote it may have used several lines.
    let brace = line.pop();
    assert_eq!(brace, Some(b'}'), "a struct is an object");
    line.extend_from_slice(b",\"data\":");
    push_compact(&mut line, event.data.get());
    line.extend_from_slice(b"}\n");
    line
}

/// Appends JSON without the blanks between its tokens. Within strings JSON has no line breaks.
fn push_compact(line: &mut Vec<u8>, json: &str) {
    let mut is_in_string = false;
    let mut is_escaped = false;
    for byte in json.bytes() {
        if !is_in_string && byte.is_ascii_whitespace() {
            continue;
        }
        line.push(byte);
        if is_escaped {
            is_escaped = false;
        } else if is_in_string && byte == b'\\' {
            is_escaped = true;
        } else if byte == b'"' {
            is_in_string = !is_in_string;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_is_one_line() {
        let data = "{\n  \"a b\": \"c \\\" d\",\n\t\"e\": [1, 2.50]\r\n}";
        let mut event = Event::new(RawValue::from_string(data.into()).unwrap());
        event.id = "1".into();
        event.source = "s\"\n".into();
        event.kind = "t".into();
        event.time = Some("2026-11-21T00:00:00Z".into());
        event.others = [("subject".to_string(), "x".to_string())].into();
        let line = String::from_utf8(render(&event)).unwrap();
        assert_eq!(
            line,
            r#"{"specversion":"1.0","id":"1","source":"s\"\n","type":"t","time":"2026-11-21T00:00:00Z","#.to_string()
                + r#""datacontenttype":"application/json","subject":"x","data":{"a b":"c \" d","e":[1,2.50]}}"#
                + "\n"
        );
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
    }
}
