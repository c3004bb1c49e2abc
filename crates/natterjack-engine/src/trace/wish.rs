//! What a message's header says about tracing it, and how it is changed for those the message goes on to
//! (nats-server `genHeaderMapIfTraceHeadersPresent`).

use memchr::memmem;

use crate::exchange::{Headers, by_name};

/// Names the subject that reports go to. Unlike most headers it is meant only in this spelling.
pub(crate) const DESTINATION: &str = "Nats-Trace-Dest";

/// Says instead of a subject that the message is not traced, whatever else its header says. No subject has a blank.
pub(crate) const DISABLED: &str = "trace disabled";

/// Whether the message is to be traced only, and not delivered.
const ONLY: &str = "Nats-Trace-Only";

/// The way that the message has taken from server to server.
pub(crate) const HOP: &str = "Nats-Trace-Hop";

/// What servers of old said; such messages are not traced.
const ORIGIN_ACCOUNT: &str = "Nats-Trace-Origin-Account";

/// The header of W3C trace contexts, in any spelling.
const PARENT: &[u8] = b"traceparent";

const FIRST_LINE: &[u8] = b"NATS/1.0\r\n";

/// What is asked for.
pub(crate) struct Wish {
    /// All headers, for the report.
    pub(crate) headers: Headers,
    /// Only a trace context asks, and it is for the account to say where reports go.
    pub(crate) is_by_parent: bool,
}

/// Whether it is worth to [read](Wish::read) a header. Linear in its length, and the only price that messages with
/// headers pay for those that are traced.
#[inline]
pub(crate) fn may_ask(header: &[u8], follows_parents: bool) -> bool {
    memmem::find(header, DESTINATION.as_bytes()).is_some()
        || (follows_parents && names_parent(header))
}

/// Whether a header may have a trace context, in whatever spelling.
fn names_parent(header: &[u8]) -> bool {
    let begins = memchr::memchr2_iter(PARENT[0], PARENT[0].to_ascii_uppercase(), header);
    let mut names = begins.filter_map(|at| header.get(at..at + PARENT.len()));
    names.any(|name| name.eq_ignore_ascii_case(PARENT))
}

impl Wish {
    /// What a header block asks for; `None` if for nothing. As long as it takes to sort its names.
    pub(crate) fn read(header: &[u8]) -> Option<Self> {
        let lines = header.strip_prefix(FIRST_LINE)?;
        let mut fields = Vec::new();
        let (mut names_destination, mut has_parent) = (false, false);
        for line in lines.split(|&byte| byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\r") else {
                break;
            };
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                continue;
            };
            let (name, value) = (&line[..colon], trimmed(&line[colon + 1..]));
            if name.is_empty() || value.is_empty() {
                continue;
            }
            if name == DESTINATION.as_bytes() {
                if value == DISABLED.as_bytes() {
                    return None;
                }
                names_destination = true;
            } else if name.eq_ignore_ascii_case(PARENT) {
                has_parent |= is_sampled(value);
            }
            fields.push((name, value));
        }
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let texts = |(name, value)| (text(name), text(value));
        (names_destination || has_parent).then(|| Self {
            headers: by_name(fields.into_iter().map(texts).collect()),
            is_by_parent: !names_destination,
        })
    }

    fn first(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.and_then(|(_, values)| values.first().map(String::as_str))
    }

    /// Where the message itself wants reports to go.
    pub(crate) fn destination(&self) -> Option<&str> {
        self.first(DESTINATION)
    }

    /// Whether the message is not to be delivered.
    pub(crate) fn is_only(&self) -> bool {
        let only = self.first(ONLY).filter(|_| !self.is_by_parent);
        only.is_some_and(|only| {
            ["1", "true", "on"]
                .iter()
                .any(|yes| only.eq_ignore_ascii_case(yes))
        })
    }

    /// The way it has taken so far.
    pub(crate) fn hop(&self) -> Option<&str> {
        self.first(HOP)
    }

    /// The account in which a server of old says it was published.
    pub(crate) fn origin_account(&self) -> Option<&str> {
        self.first(ORIGIN_ACCOUNT)
    }
}

/// Whether a trace context is recorded: the last bit of its flags. The original reads them as a signed number, so that those
/// with the highest bit are none.
fn is_sampled(value: &[u8]) -> bool {
    let parts: Vec<&[u8]> = value.split(|&byte| byte == b'-').collect();
    let [_, _, _, flags] = parts[..] else {
        return false;
    };
    let flags = core::str::from_utf8(flags).ok();
    flags.is_some_and(|flags| {
        flags.len() == 2 && i8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)
    })
}

/// Without blanks around it.
fn trimmed(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().take_while(|byte| is_blank(byte)).count();
    let value = &value[start..];
    let end = value.iter().rev().take_while(|byte| is_blank(byte)).count();
    &value[..value.len() - end]
}

/// Appends a header block in which `name` has this value and no other.
pub(crate) fn push_with(header: &[u8], name: &str, value: &str, out: &mut Vec<u8>) {
    let lines = header.strip_suffix(b"\r\n").unwrap_or(header);
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        let rest = line.strip_prefix(name.as_bytes());
        if !rest.is_some_and(|rest| rest.starts_with(b":")) {
            out.extend_from_slice(line);
        }
    }
    for part in [name, ": ", value, "\r\n\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(lines: &str) -> Option<Wish> {
        Wish::read(format!("NATS/1.0\r\n{lines}\r\n").as_bytes())
    }

    #[test]
    fn messages_ask_by_a_destination_or_a_recorded_context() {
        let named = wish("Nats-Trace-Dest: there\r\nX: 1\r\nX: 2\r\n").expect("a wish");
        assert_eq!(named.destination(), Some("there"));
        assert!(!named.is_only() && !named.is_by_parent);
        let x = vec!["1".to_owned(), "2".to_owned()];
        assert_eq!(named.headers[1], ("X".to_owned(), x));

        let parent = "TraceParent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
        let by_parent = wish(parent).expect("a wish");
        assert!(by_parent.is_by_parent);
        assert_eq!(by_parent.headers[0].0, "TraceParent");
        assert!(wish(&parent.replace("-01\r", "-00\r")).is_none());
        assert!(wish(&parent.replace("-01\r", "-81\r")).is_none());
        let both = wish(&format!("{parent}Nats-Trace-Dest: there\r\n")).expect("a wish");
        assert!(!both.is_by_parent);

        assert!(wish("nats-trace-dest: there\r\n").is_none());
        assert!(wish("Nats-Trace-Dest: \r\n").is_none());
        assert!(wish(&format!("{parent}Nats-Trace-Dest: trace disabled\r\n")).is_none());
        assert!(Wish::read(b"NATS/1.0 503\r\nNats-Trace-Dest: there\r\n\r\n").is_none());
        assert!(Wish::read(b"NATS/1.0\r\nNats-Trace-Dest: cut off").is_none());
    }

    #[test]
    fn a_header_of_many_lines_is_read() {
        let lines: String = (0..150_000)
            .map(|line| format!("x{line:x}:1\r\n"))
            .collect();
        // Whoever looks through all the names for each line does not come to an end here.
        let asked = wish(&format!("Nats-Trace-Dest: there\r\n{lines}")).expect("a wish");
        assert_eq!(asked.headers.len(), 150_001);
        assert_eq!(asked.destination(), Some("there"));
    }

    #[test]
    fn others_are_not_read() {
        let plain = b"NATS/1.0\r\ntest: tracepa\r\nTRACE: x\r\n\r\n";
        assert!(!may_ask(plain, true));
        let parent = b"NATS/1.0\r\ntest: 1\r\nTraceParent: 00\r\n\r\n";
        assert!(may_ask(parent, true));
        assert!(!may_ask(parent, false));
        assert!(may_ask(b"NATS/1.0\r\nNats-Trace-Dest: a\r\n\r\n", false));
        assert!(!may_ask(b"NATS/1.0\r\ntracepare", true));
    }

    #[test]
    fn only_to_trace_is_said_in_three_ways() {
        for (said, expected) in [
            ("1", true),
            ("True", true),
            ("on", true),
            ("0", false),
            ("yes", false),
        ] {
            let wish = wish(&format!(
                "Nats-Trace-Dest: there\r\nNats-Trace-Only: {said}\r\n"
            ));
            assert_eq!(wish.expect("a wish").is_only(), expected, "{said}");
        }
    }

    #[test]
    fn a_header_is_replaced() {
        let mut out = Vec::new();
        let header = b"NATS/1.0\r\nNats-Trace-Hop: 1\r\nNats-Trace-Hopper: x\r\nA: b\r\n\r\n";
        push_with(header, HOP, "1.2", &mut out);
        let expected = "NATS/1.0\r\nNats-Trace-Hopper: x\r\nA: b\r\nNats-Trace-Hop: 1.2\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
