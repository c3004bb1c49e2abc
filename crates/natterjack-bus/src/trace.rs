//! The headers of W3C Trace Context beside an event: carried as they are, and not understood. What they mean is the business
//! of `spans`, where that is compiled in.

use std::sync::Arc;

/// Which trace an event belongs to, as the headers `traceparent` and `tracestate` that travel beside it (W3C Trace Context,
/// level 1). They name the last step: whoever takes part in the trace writes its own. The CloudEvents attributes of the same
/// names, in [`crate::Event::others`], name the first one.
///
/// [`crate::Publish::following`] passes them on. Clones are cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace(Arc<Texts>);

#[derive(Debug, PartialEq, Eq)]
struct Texts {
    parent: String,
    /// Empty: none.
    state: String,
}

/// The header, and the CloudEvents attribute, with the identifiers.
pub(crate) const PARENT: &str = "traceparent";

/// The same with what tracing systems add.
pub(crate) const STATE: &str = "tracestate";

impl Trace {
    /// `None` if `parent` is empty, or is no text that a header can hold: printable ASCII. It need not be well-formed. An
    /// empty `state` is none, and so is one that a header cannot hold.
    #[must_use]
    pub fn new(parent: impl Into<String>, state: impl Into<String>) -> Option<Self> {
        let is_text = |text: &str| text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        let parent = parent.into();
        let mut state = state.into();
        if parent.is_empty() || !is_text(&parent) {
            return None;
        }
        if !is_text(&state) {
            state.clear();
        }
        Some(Self(Arc::new(Texts { parent, state })))
    }

    /// `traceparent`.
    #[must_use]
    pub fn parent(&self) -> &str {
        &self.0.parent
    }

    /// `tracestate`.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        Some(&*self.0.state).filter(|state| !state.is_empty())
    }

    /// The headers.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let state = self.state().map(|state| (STATE, state));
        [(PARENT, self.parent())].into_iter().chain(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_header_can_hold_is_carried() {
        for parent in ["", "a\r\nb: c", "ä", "\0"] {
            assert_eq!(Trace::new(parent, "k=v"), None, "{parent:?}");
        }
        let with_state = |state| Trace::new("anything", state).unwrap();
        assert_eq!(with_state("k=v, l=w").state(), Some("k=v, l=w"));
        for state in ["", "k=v\r\n", "k=ä"] {
            let trace = with_state(state);
            assert_eq!((trace.parent(), trace.state()), ("anything", None));
            assert!(trace.entries().eq([("traceparent", "anything")]));
        }
    }
}
