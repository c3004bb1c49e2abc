//! Owns operations to bytes. Everything is appended to a buffer the caller owns; nothing is checked, because what
//! is written was either read by this crate or checked by the caller. The small operations are those of clients.

use super::connect::RouteConnect;
use super::decode::{QueueInterest, RemoteSubscribe, RemoteUnsubscribe};
use super::info::RouteInfo;
use crate::write::{Decimal, line, words};

/// The origin of an `LMSG` that is for the queue groups it names and not for those outside of groups, to a server whose
/// `INFO` says [`strays`](super::RouteInfo::strays). No cluster of leaf nodes has this name: it begins with `$`, as
/// what belongs to servers does.
pub const STRAY_ORIGIN: &[u8] = b"$STRAY";

/// The line of a message: `RMSG`, `HMSG` if it has a header, `LMSG` if it has an origin.
#[derive(Clone, Copy, Debug)]
pub struct MessageHead<'a> {
    /// The cluster of leaf nodes it came from; only for who announced `lnoc`.
    pub origin: Option<&'a [u8]>,
    /// The account; `None` on a connection that is for one account.
    pub account: Option<&'a [u8]>,
    /// Where it was published to.
    pub subject: &'a [u8],
    /// Where answers go.
    pub reply: Option<&'a [u8]>,
    /// Queue groups of which the other side is to choose one member each.
    pub queues: &'a [&'a [u8]],
    /// Bytes of header, as decimal digits.
    pub header_len_text: Option<&'a [u8]>,
    /// Bytes of header and payload, as decimal digits.
    pub total_len_text: &'a [u8],
}

impl MessageHead<'_> {
    /// Appends the line, its end included. Body and `\r\n` follow separately, so that a large body need not be
    /// copied.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        let Self {
            origin: None,
            account: Some(account),
            subject,
            reply,
            queues: [],
            header_len_text,
            total_len_text: total,
        } = *self
        else {
            return self.write_any(out);
        };
        match (reply, header_len_text) {
            (None, None) => words(out, b"RMSG ", [account, subject, total]),
            (Some(reply), None) => words(out, b"RMSG ", [account, subject, reply, total]),
            (None, Some(header)) => words(out, b"HMSG ", [account, subject, header, total]),
            (Some(reply), Some(header)) => {
                words(out, b"HMSG ", [account, subject, reply, header, total]);
            }
        }
    }

    fn write_any(&self, out: &mut Vec<u8>) {
        let operation: &[u8] = match (self.origin, self.header_len_text) {
            (Some(_), _) => b"LMSG ",
            (None, Some(_)) => b"HMSG ",
            (None, None) => b"RMSG ",
        };
        let sign: Option<&[u8]> = match (self.queues, self.reply) {
            ([], _) => None,
            (_, Some(_)) => Some(b"+"),
            (_, None) => Some(b"|"),
        };
        let header = match (self.origin, self.header_len_text) {
            (Some(_), None) => Some(&b"0"[..]),
            (_, header) => header,
        };
        let scope = [
            self.origin,
            self.account,
            Some(self.subject),
            sign,
            self.reply,
        ];
        let sizes = [header, Some(self.total_len_text)];
        let queues = self.queues.iter().copied();
        line(
            out,
            operation,
            scope
                .into_iter()
                .flatten()
                .chain(queues)
                .chain(sizes.into_iter().flatten()),
        );
    }
}

/// `RS+`, or `LS+` if it has an origin.
pub fn subscribe(out: &mut Vec<u8>, interest: &RemoteSubscribe<'_>) {
    let operation: &[u8] = match interest.origin {
        None => b"RS+ ",
        Some(_) => b"LS+ ",
    };
    let weight = interest
        .queue
        .map(|QueueInterest { weight, .. }| Decimal::new(u64::from(weight)));
    let words = [
        interest.origin,
        interest.account,
        Some(interest.subject),
        interest.queue.map(|queue| queue.name),
        weight.as_deref(),
    ];
    line(out, operation, words.into_iter().flatten());
}

/// `RS-`, or `LS-`, with its origin if there is one.
pub fn unsubscribe(out: &mut Vec<u8>, end: &RemoteUnsubscribe<'_>) {
    let operation: &[u8] = if end.leaf { b"LS- " } else { b"RS- " };
    let words = [end.origin, end.account, Some(end.subject), end.queue];
    line(out, operation, words.into_iter().flatten());
}

/// `INFO`. A server that speaks of itself puts a blank before the line end, which is no part of the JSON and which
/// nobody needs.
pub fn info(out: &mut Vec<u8>, info: &RouteInfo) {
    out.extend_from_slice(b"INFO ");
    info.write_json(out);
    out.extend_from_slice(b" \r\n");
}

/// `CONNECT`
pub fn connect(out: &mut Vec<u8>, options: &RouteConnect) {
    out.extend_from_slice(b"CONNECT ");
    options.write_json(out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: MessageHead<'_> = MessageHead {
        origin: None,
        account: Some(b"$G"),
        subject: b"bar",
        reply: None,
        queues: &[],
        header_len_text: None,
        total_len_text: b"5",
    };

    #[track_caller]
    fn check(head: MessageHead<'_>, expected: &str) {
        let mut out = b"before ".to_vec();
        head.write(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            format!("before {expected}\r\n")
        );
    }

    #[test]
    fn messages() {
        let reply = Some(&b"r"[..]);
        let header_len_text = Some(&b"3"[..]);
        let queues: &[&[u8]] = &[b"q1", b"q2"];
        check(HEAD, "RMSG $G bar 5");
        check(MessageHead { reply, ..HEAD }, "RMSG $G bar r 5");
        check(MessageHead { queues, ..HEAD }, "RMSG $G bar | q1 q2 5");
        let head = MessageHead {
            queues,
            reply,
            ..HEAD
        };
        check(head, "RMSG $G bar + r q1 q2 5");
        check(
            MessageHead {
                account: None,
                ..head
            },
            "RMSG bar + r q1 q2 5",
        );
        let head = MessageHead {
            header_len_text,
            ..head
        };
        check(head, "HMSG $G bar + r q1 q2 3 5");
        let head = MessageHead {
            header_len_text,
            ..HEAD
        };
        check(head, "HMSG $G bar 3 5");
        check(MessageHead { reply, ..head }, "HMSG $G bar r 3 5");
    }

    #[test]
    fn messages_of_leaf_nodes() {
        let head = MessageHead {
            origin: Some(b"L"),
            ..HEAD
        };
        check(head, "LMSG L $G bar 0 5");
        check(
            MessageHead {
                account: None,
                ..head
            },
            "LMSG L bar 0 5",
        );
        let head = MessageHead {
            reply: Some(b"r"),
            queues: &[b"q"],
            header_len_text: Some(b"3"),
            ..head
        };
        check(head, "LMSG L $G bar + r q 3 5");
    }

    #[test]
    fn interest() {
        #[track_caller]
        fn check(write: impl FnOnce(&mut Vec<u8>), expected: &str) {
            let mut out = b"before ".to_vec();
            write(&mut out);
            assert_eq!(
                String::from_utf8_lossy(&out),
                format!("before {expected}\r\n")
            );
        }
        let interest = RemoteSubscribe {
            origin: None,
            account: Some(b"$G"),
            subject: b"foo.*",
            queue: None,
        };
        check(|out| subscribe(out, &interest), "RS+ $G foo.*");
        let queue = Some(QueueInterest {
            name: b"q",
            weight: 12,
        });
        let grouped = RemoteSubscribe { queue, ..interest };
        check(|out| subscribe(out, &grouped), "RS+ $G foo.* q 12");
        let leaf = RemoteSubscribe {
            origin: Some(b"L"),
            account: None,
            ..grouped
        };
        check(|out| subscribe(out, &leaf), "LS+ L foo.* q 12");
        let end = RemoteUnsubscribe {
            leaf: false,
            origin: None,
            account: Some(b"$G"),
            subject: b"foo",
            queue: Some(b"q"),
        };
        check(|out| unsubscribe(out, &end), "RS- $G foo q");
        let end = RemoteUnsubscribe {
            leaf: true,
            queue: None,
            ..end
        };
        check(|out| unsubscribe(out, &end), "LS- $G foo");
        let end = RemoteUnsubscribe {
            origin: Some(b"L"),
            ..end
        };
        check(|out| unsubscribe(out, &end), "LS- L $G foo");
    }
}
