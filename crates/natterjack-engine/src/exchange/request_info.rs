//! The header that tells a service who asks (nats-server `ClientInfoHdr`, `ClientInfo`). The server alone writes it: what
//! a client says there itself is left out.

use natterjack_wire::client::decimal;

use crate::monitor::ConnectionSnapshot;

/// Its name.
const NAME: &[u8] = b"Nats-Request-Info";

/// Who asks.
pub(super) struct RequestInfo<'a> {
    pub(super) client: ConnectionSnapshot,
    /// What only those are told with whom its account shares it.
    pub(super) details: Option<Details>,
    /// The account that asks on behalf of it, if it is another one.
    pub(super) by: Option<&'a str>,
    /// Name of the server, and of its cluster.
    pub(super) server: Option<(&'a str, &'a str)>,
}

/// Details that are not in a [`ConnectionSnapshot`].
pub(super) struct Details {
    /// When the client came, as text, if the server knows the date.
    pub(super) started: Option<String>,
}

impl RequestInfo<'_> {
    /// Appends the header and the end of the header block.
    pub(super) fn push(&self, out: &mut Vec<u8>) {
        let facts = &self.client.client;
        out.extend_from_slice(NAME);
        out.extend_from_slice(b": {");
        let mut object = Object {
            out,
            is_first: true,
        };
        if let Some(details) = &self.details {
            object.text("start", details.started.as_deref().unwrap_or_default());
            let address = self.client.address;
            let host = address.map(|address| address.ip().to_canonical().to_string());
            object.text("host", &host.unwrap_or_default());
            object.number("id", self.client.id);
        }
        object.text("acc", &facts.account);
        object.text("svc", self.by.unwrap_or_default());
        if self.details.is_some() {
            object.text("user", facts.user.as_deref().unwrap_or_default());
            object.text("name", &facts.name);
            object.text("lang", &facts.language);
            object.text("ver", &facts.version);
        }
        let round_trip = self.client.round_trip.unwrap_or_default().as_nanos();
        object.number("rtt", u64::try_from(round_trip).unwrap_or(u64::MAX));
        if let Some((server, cluster)) = self.server {
            object.text("server", server);
            object.text("cluster", cluster);
        }
        if self.details.is_some() {
            object.text("kind", "Client");
            object.text("client_type", "nats");
        }
        out.extend_from_slice(b"}\r\n\r\n");
    }
}

/// An object of JSON while it is written. Fields without a value are left out.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl Object<'_> {
    fn name(&mut self, name: &str) {
        if !std::mem::replace(&mut self.is_first, false) {
            self.out.push(b',');
        }
        push_json(name, self.out);
        self.out.push(b':');
    }

    fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.name(name);
            push_json(value, self.out);
        }
    }

    fn number(&mut self, name: &str, value: u64) {
        if value > 0 {
            self.name(name);
            let value = usize::try_from(value).unwrap_or(usize::MAX);
            self.out.extend_from_slice(decimal(value).as_ref());
        }
    }
}

/// A text of JSON as Go writes it: fit for HTML, too.
fn push_json(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend_from_slice(&[b'\\', letter as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(letter)).as_bytes());
            }
            _ => {
                let mut bytes = [0; 4];
                out.extend_from_slice(letter.encode_utf8(&mut bytes).as_bytes());
            }
        }
    }
    out.push(b'"');
}

/// Appends a header block without its end, and without what it says of who asks, in whatever spelling and however
/// often. Of a message without one, the beginning of one.
pub(super) fn push_without_request_info(header: &[u8], out: &mut Vec<u8>) {
    let lines = header.strip_suffix(b"\r\n").unwrap_or(header);
    if lines.is_empty() {
        out.extend_from_slice(b"NATS/1.0\r\n");
    }
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        // A reader may take a lonely carriage return for the end of a line, too.
        let says_who = |line: &[u8]| {
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
            let is_filler = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control();
            let name: Vec<u8> = name
                .iter()
                .copied()
                .filter(|byte| !is_filler(byte))
                .collect();
            name.eq_ignore_ascii_case(NAME)
        };
        if !line.split(|&byte| byte == b'\r').any(says_who) {
            out.extend_from_slice(line);
        }
    }
    if !out.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_go_does() {
        let mut out = Vec::new();
        push_json("a\"\\\r\n\t<b>&\u{1}\u{2028}ä", &mut out);
        let expected = r#""a\"\\\r\n\t\u003cb\u003e\u0026\u0001\u2028ä""#;
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn nothing_that_could_be_read_as_the_header_is_left() {
        let check = |lines: &str, expected: &str| {
            let mut out = Vec::new();
            let header = format!("NATS/1.0\r\n{lines}\r\n");
            push_without_request_info(header.as_bytes(), &mut out);
            let expected = format!("NATS/1.0\r\n{expected}");
            assert_eq!(String::from_utf8_lossy(&out), expected, "{lines:?}");
        };
        check("", "");
        check("X: y\r\n", "X: y\r\n");
        check("Nats-Request-Info: {}\r\n", "");
        check(
            "Nats-Request-Info: {}\r\nX: y\r\nNATS-REQUEST-INFO:{}\r\n",
            "X: y\r\n",
        );
        check("Nats-Request-Info : {}\r\n", "");
        check(" Nats-Request-Info: {}\r\n", "");
        check("X: y\rNats-Request-Info: {}\r\n", "");
        check("X: y\nNats-Request-Info: {}\nZ: z\n", "X: y\nZ: z\n");
        check("Nats-Request-Info\0: {}\r\n", "");
        check("X-Nats-Request-Info: {}\r\n", "X-Nats-Request-Info: {}\r\n");
        check(
            "X: Nats-Request-Info: {}\r\n",
            "X: Nats-Request-Info: {}\r\n",
        );
    }
}
