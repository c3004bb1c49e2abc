//! Owns operations to bytes, both directions. Everything is appended to a buffer the caller owns; nothing
//! is checked, because what is written was either read by this crate or checked by the caller.

use super::connect::ConnectOptions;
use super::info::ServerInfo;
use crate::write::{Decimal, decimal, words};

/// `MSG subject sid [reply] size`, up to and including the line end. Body and `\r\n` follow separately,
/// so that a large body need not be copied.
#[inline]
pub fn message_head(
    out: &mut Vec<u8>,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    total_len_text: &[u8],
) {
    match reply {
        None => words(out, b"MSG ", [subject, sid, total_len_text]),
        Some(reply) => words(out, b"MSG ", [subject, sid, reply, total_len_text]),
    }
}

/// `HMSG subject sid [reply] header-size total-size`, up to and including the line end, like
/// [`message_head`].
#[inline]
pub fn header_message_head(
    out: &mut Vec<u8>,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    header_len_text: &[u8],
    total_len_text: &[u8],
) {
    match reply {
        None => words(
            out,
            b"HMSG ",
            [subject, sid, header_len_text, total_len_text],
        ),
        Some(reply) => words(
            out,
            b"HMSG ",
            [subject, sid, reply, header_len_text, total_len_text],
        ),
    }
}

/// What a server tells a publisher whom nobody heard: an `HMSG` of status 503 to its own subscription
/// `sid` on `reply`, naming the `subject` (client protocol, section 5).
pub fn no_responders(out: &mut Vec<u8>, reply: &[u8], sid: &[u8], subject: &[u8]) {
    const BEFORE: &[u8] = b"NATS/1.0 503\r\nNats-Subject: ";
    const AFTER: &[u8] = b"\r\n\r\n";
    let length = decimal(BEFORE.len() + subject.len() + AFTER.len());
    header_message_head(out, reply, sid, None, length.as_ref(), length.as_ref());
    out.extend_from_slice(BEFORE);
    out.extend_from_slice(subject);
    out.extend_from_slice(AFTER);
    out.extend_from_slice(b"\r\n");
}

/// `INFO`, with the blank that nats-server puts before the line end.
pub fn info(out: &mut Vec<u8>, info: &ServerInfo) {
    out.extend_from_slice(b"INFO ");
    info.write_json(out);
    out.extend_from_slice(b" \r\n");
}

/// `CONNECT`
pub fn connect(out: &mut Vec<u8>, options: &ConnectOptions) {
    out.extend_from_slice(b"CONNECT ");
    options.write_json(out);
    out.extend_from_slice(b"\r\n");
}

/// A whole `PUB`.
pub fn publish(out: &mut Vec<u8>, subject: &[u8], reply: Option<&[u8]>, payload: &[u8]) {
    out.extend_from_slice(b"PUB ");
    optional_words(out, [Some(subject), reply]);
    out.extend_from_slice(decimal(payload.len()).as_ref());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// A whole `HPUB`; see [`HeaderBuilder`](crate::headers::HeaderBuilder) for `header`.
pub fn header_publish(
    out: &mut Vec<u8>,
    subject: &[u8],
    reply: Option<&[u8]>,
    header: &[u8],
    payload: &[u8],
) {
    out.extend_from_slice(b"HPUB ");
    optional_words(out, [Some(subject), reply]);
    out.extend_from_slice(decimal(header.len()).as_ref());
    out.push(b' ');
    out.extend_from_slice(decimal(header.len() + payload.len()).as_ref());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(header);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// `SUB`
pub fn subscribe(out: &mut Vec<u8>, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
    out.extend_from_slice(b"SUB ");
    optional_words(out, [Some(subject), queue]);
    out.extend_from_slice(sid);
    out.extend_from_slice(b"\r\n");
}

/// `UNSUB`; `max` as in [`Unsubscribe::max`](super::Unsubscribe::max).
pub fn unsubscribe(out: &mut Vec<u8>, sid: &[u8], max: Option<u64>) {
    out.extend_from_slice(b"UNSUB ");
    out.extend_from_slice(sid);
    if let Some(max) = max {
        out.push(b' ');
        out.extend_from_slice(Decimal::new(max).as_ref());
    }
    out.extend_from_slice(b"\r\n");
}

/// Each word that is there, with a blank behind it.
fn optional_words(out: &mut Vec<u8>, words: [Option<&[u8]>; 2]) {
    for word in words.into_iter().flatten() {
        out.extend_from_slice(word);
        out.push(b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorReply;
    use crate::write::{error, ok, ping, pong};

    #[track_caller]
    fn check(write: impl FnOnce(&mut Vec<u8>), expected: &str) {
        let mut out = b"before ".to_vec();
        write(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("before {expected}"));
    }

    #[test]
    fn what_a_server_says() {
        check(
            |out| message_head(out, b"a.b", b"7", None, b"05"),
            "MSG a.b 7 05\r\n",
        );
        check(
            |out| message_head(out, b"a", b"7", Some(b"r"), b"0"),
            "MSG a 7 r 0\r\n",
        );
        check(
            |out| header_message_head(out, b"a", b"7", None, b"012", b"17"),
            "HMSG a 7 012 17\r\n",
        );
        check(
            |out| header_message_head(out, b"a", b"7", Some(b"r"), b"12", b"17"),
            "HMSG a 7 r 12 17\r\n",
        );
        check(ping, "PING\r\n");
        check(pong, "PONG\r\n");
        check(ok, "+OK\r\n");
        check(
            |out| error(out, &ErrorReply::StaleConnection),
            "-ERR 'Stale Connection'\r\n",
        );
    }

    /// Byte for byte what nats-server 2.15.1 sent.
    #[test]
    fn nobody_heard() {
        check(
            |out| no_responders(out, b"rep", b"7", b"foo"),
            "HMSG rep 7 35 35\r\nNATS/1.0 503\r\nNats-Subject: foo\r\n\r\n\r\n",
        );
    }

    #[test]
    fn a_violation_as_nats_server_sends_it() {
        check(
            |out| {
                error(
                    out,
                    &ErrorReply::PublishDenied {
                        subject: br#"$NRG.a"b\c"#,
                    },
                )
            },
            "-ERR 'Permissions Violation for Publish to \"$NRG.a\\\"b\\\\c\"'\r\n",
        );
    }

    #[test]
    fn info_has_a_blank_before_the_line_end() {
        let mut out = Vec::new();
        info(&mut out, &ServerInfo::default());
        assert!(out.starts_with(b"INFO {\"server_id\":"));
        assert!(out.ends_with(b"} \r\n"));
    }

    #[test]
    fn what_a_client_says() {
        check(
            |out| publish(out, b"a", None, b"hello"),
            "PUB a 5\r\nhello\r\n",
        );
        check(
            |out| publish(out, b"a", Some(b"r"), b""),
            "PUB a r 0\r\n\r\n",
        );
        check(
            |out| header_publish(out, b"a", None, b"NATS/1.0\r\n\r\n", b"hi"),
            "HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
        );
        check(|out| subscribe(out, b"a", None, b"7"), "SUB a 7\r\n");
        check(
            |out| subscribe(out, b"a", Some(b"q"), b"7"),
            "SUB a q 7\r\n",
        );
        check(|out| unsubscribe(out, b"7", None), "UNSUB 7\r\n");
        check(|out| unsubscribe(out, b"7", Some(12)), "UNSUB 7 12\r\n");
    }
}
