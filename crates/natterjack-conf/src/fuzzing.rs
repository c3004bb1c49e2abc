//! What must hold for any input.

use std::collections::BTreeMap;

use crate::source::{Sources, Span};
use crate::value::{Map, Value};
use crate::{Data, parse};

/// Any bytes: reading ends, every span lies in its text and at characters, every diagnostic can be shown, and the same bytes
/// give the same tree. The bytes are also the text of the environment variable `E`.
pub fn conf(bytes: &[u8]) {
    let environment =
        BTreeMap::from([("E".to_owned(), String::from_utf8_lossy(bytes).into_owned())]);
    let parsed = crate::parser::parse("fuzz.conf", bytes, &environment);
    for diagnostic in &parsed.diagnostics {
        if let Some(span) = diagnostic.span {
            check_span(&parsed.sources, span);
        }
        let shown = parsed.sources.render(diagnostic);
        assert!(
            shown
                .chars()
                .all(|character| character == '\n' || !character.is_control()),
            "a control character is shown: {shown:?}"
        );
        let short = parsed.sources.render_short(diagnostic);
        assert!(!short.contains('\n'), "more than one line: {short:?}");
    }
    check_map(&parsed.sources, &parsed.root);
    let digest = parsed.digest();
    assert_eq!(digest.len(), "sha256:".len() + 64);
    if let Ok(text) = str::from_utf8(bytes) {
        let again = parse("fuzz.conf", text, &environment);
        assert_eq!(again.root, parsed.root);
        assert_eq!(again.digest(), digest);
        assert_eq!(again.diagnostics, parsed.diagnostics);
    }
}

fn check_map(sources: &Sources, map: &Map) {
    for entry in map.iter().chain(map.shadowed()) {
        check_span(sources, entry.key.span);
        check_value(sources, &entry.value);
    }
}

fn check_value(sources: &Sources, value: &Value) {
    check_span(sources, value.span);
    match &value.data {
        Data::Map(map) => check_map(sources, map),
        Data::List(values) => values.iter().for_each(|value| check_value(sources, value)),
        _ => {}
    }
}

fn check_span(sources: &Sources, span: Span) {
    let text = sources.whole(span.source);
    let (start, end) = (span.start as usize, span.end as usize);
    assert!(
        text.get(start..end).is_some(),
        "{span:?} of {} bytes",
        text.len()
    );
    let position = sources.position(span);
    assert!(position.line > 0 && position.column > 0);
}
