//! One line per case of what a server takes from another, refuses and waits for.

use super::*;
use ProtocolError as Bad;

const POOL: RouteLimits = RouteLimits {
    control_line_bytes_max: 4096,
    payload_bytes_max: 1_048_576,
    dedicated: false,
    unsubscribe_origin: true,
};

const DEDICATED: RouteLimits = RouteLimits {
    dedicated: true,
    ..POOL
};

/// From before origins were named in `LS-`.
const OLD: RouteLimits = RouteLimits {
    unsubscribe_origin: false,
    ..POOL
};

/// What is compared of a message: its words as text, groups parted by commas.
fn shown(message: &RouteMessage<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let or_dash = |word: Option<&[u8]>| word.map_or_else(|| "-".into(), text);
    let queues: Vec<String> = message.queues.map(text).collect();
    format!(
        "{} {} {} {} [{}] {}/{} {}",
        or_dash(message.origin),
        or_dash(message.account),
        text(message.subject),
        or_dash(message.reply),
        queues.join(","),
        text(message.header()),
        text(message.payload()),
        message.header_len.is_some(),
    )
}

/// The input is one operation, whole; every part of it without its end is incomplete.
#[track_caller]
fn whole<'a>(input: &'a [u8], limits: &RouteLimits) -> RouteOp<'a> {
    let found = decode_route(input, limits);
    let Ok(Decoded::Op { op, consumed }) = found else {
        panic!("{:?} is {found:?}", String::from_utf8_lossy(input));
    };
    assert_eq!(consumed, input.len());
    let longer = [input, b"GARBAGE"].concat();
    assert_eq!(
        decode_route(&longer, limits),
        Ok(Decoded::Op { op, consumed }),
        "what follows does not matter"
    );
    for end in 0..input.len() {
        match decode_route(&input[..end], limits) {
            Ok(Decoded::Incomplete { needed }) => {
                assert!(
                    needed > end && needed <= input.len(),
                    "needed {needed} after {end}"
                );
            }
            other => panic!("{other:?} after {end} bytes"),
        }
    }
    op
}

#[track_caller]
fn check(input: impl AsRef<[u8]>, expected: RouteOp<'_>) {
    assert_eq!(whole(input.as_ref(), &POOL), expected);
}

#[track_caller]
fn check_message(limits: &RouteLimits, input: &str, expected: &str) {
    let RouteOp::Message(message) = whole(input.as_bytes(), limits) else {
        panic!("{input:?} is no message");
    };
    assert_eq!(shown(&message), expected);
}

/// The input is refused at its last byte and not before, and so is everything that starts with it.
#[track_caller]
fn check_refused(limits: &RouteLimits, input: impl AsRef<[u8]>, expected: ProtocolError) {
    let input = input.as_ref();
    assert_eq!(decode_route(input, limits), Err(expected));
    let longer = [input, b"\r\nPING\r\n"].concat();
    assert_eq!(
        decode_route(&longer, limits),
        Err(expected),
        "what follows does not matter"
    );
    let before = decode_route(&input[..input.len() - 1], limits);
    assert!(
        matches!(before, Ok(Decoded::Incomplete { .. })),
        "{before:?} one byte before"
    );
}

#[test]
fn messages() {
    let check = |input, expected| check_message(&POOL, input, expected);
    check("RMSG $G foo 5\r\nhello\r\n", "- $G foo - [] /hello false");
    check("rmsg $G foo 5\nhello\r\n", "- $G foo - [] /hello false");
    check("RMSG $G foo 0\r\n\r\n", "- $G foo - [] / false");
    check(
        "RMSG $G foo inbox.1 5\r\nhello\r\n",
        "- $G foo inbox.1 [] /hello false",
    );
    check(
        "RMSG $G bar | q1 q2 5\r\nhello\r\n",
        "- $G bar - [q1,q2] /hello false",
    );
    check(
        "RMSG $G bar + inbox.1 q1 q2 5\r\nhello\r\n",
        "- $G bar inbox.1 [q1,q2] /hello false",
    );
    // One word in the middle is a reply, whatever it is.
    check("RMSG $G bar + 5\r\nhello\r\n", "- $G bar + [] /hello false");
    check("RMSG $G bar | 5\r\nhello\r\n", "- $G bar | [] /hello false");
    check("RMSG $G bar 7 5\r\nhello\r\n", "- $G bar 7 [] /hello false");
    // A reply behind a sign, and nobody behind that.
    check(
        "RMSG $G bar + r 5\r\nhello\r\n",
        "- $G bar r [] /hello false",
    );
    check(
        "RMSG $G bar | 7 5\r\nhello\r\n",
        "- $G bar - [7] /hello false",
    );
    check(
        "RMSG  $G\tbar \t|  q1\tq2  5 \r\nhello\r\n",
        "- $G bar - [q1,q2] /hello false",
    );
    check("RMSG 1 2 3\r\nabc\r\n", "- 1 2 - [] /abc false");
}

#[test]
fn messages_with_headers() {
    let check = |input, expected| check_message(&POOL, input, expected);
    check("HMSG $G foo 3 5\r\nhello\r\n", "- $G foo - [] hel/lo true");
    check("HMSG $G foo 0 5\r\nhello\r\n", "- $G foo - [] /hello true");
    check("hmsg $G foo r 5 5\nhello\r\n", "- $G foo r [] hello/ true");
    check(
        "HMSG $G bar + inbox.1 q1 q2 3 5\r\nhello\r\n",
        "- $G bar inbox.1 [q1,q2] hel/lo true",
    );
    check(
        "HMSG $G bar | q1 3 5\r\nhello\r\n",
        "- $G bar - [q1] hel/lo true",
    );
    check("HMSG\t$G bar\t3 5 \nhello\r\n", "- $G bar - [] hel/lo true");
}

/// nats-server hands the sizes on as they were written.
#[test]
fn sizes_as_written() {
    let RouteOp::Message(message) = whole(b"HMSG $G foo 03 005\r\nhello\r\n", &POOL) else {
        panic!("no message");
    };
    assert_eq!(message.header_len_text, b"03");
    assert_eq!(message.total_len_text, b"005");
}

#[test]
fn messages_of_leaf_nodes() {
    let check = |input, expected| check_message(&POOL, input, expected);
    check("LMSG L $G rr 0 1\r\nx\r\n", "L $G rr - [] /x false");
    check("LMSG L $G rr rep 0 1\r\nx\r\n", "L $G rr rep [] /x false");
    check("LMSG L $G rr 3 5\r\nhello\r\n", "L $G rr - [] hel/lo true");
    check(
        "LMSG L $G rq + rep qq 0 1\r\nx\r\n",
        "L $G rq rep [qq] /x false",
    );
    check("lmsg L $G rq | a b 0 1\nx\r\n", "L $G rq - [a,b] /x false");
}

#[test]
fn messages_without_account() {
    let check = |input, expected| check_message(&DEDICATED, input, expected);
    check(
        "RMSG $SYS.SERVER.A.STATSZ 2\r\n{}\r\n",
        "- - $SYS.SERVER.A.STATSZ - [] /{} false",
    );
    check("RMSG foo rep 1\r\nx\r\n", "- - foo rep [] /x false");
    check("RMSG foo | q 1\r\nx\r\n", "- - foo - [q] /x false");
    check("HMSG foo + r q 1 1\r\nx\r\n", "- - foo r [q] x/ true");
    check("LMSG L foo 0 1\r\nx\r\n", "L - foo - [] /x false");
    check_refused(&DEDICATED, "RMSG 1\r\n", Bad::RoutedMessageArguments);
    check_refused(&DEDICATED, "LMSG L foo 1\r\n", Bad::LeafMessageArguments);
}

#[test]
fn messages_refused() {
    let check = |input, expected| check_refused(&POOL, input, expected);
    check("RMSG $G 5\r\n", Bad::RoutedMessageArguments);
    check("RMSG \r\n", Bad::RoutedMessageArguments);
    check("RMSG $G foo a b 5\r\n", Bad::RoutedMessageArguments);
    check("RMSG $G foo ++ b 5\r\n", Bad::RoutedMessageArguments);
    check("RMSG $G foo  5x\r\n", Bad::PayloadSize);
    check("RMSG $G foo -5\r\n", Bad::PayloadSize);
    check("RMSG $G foo 0000000005\r\n", Bad::PayloadSize);
    check("RMSG $G foo 1048577\r\n", Bad::PayloadTooLarge);
    check("RMSG $G foo 1\r\nxy", Bad::PayloadTerminator);
    check("RMSG $G foo 1\r\nx\ry", Bad::PayloadTerminator);
    check("RMSG $G fo\ro 1\r\n", Bad::CarriageReturnInLine);
    check("RMSG $G foo | q\r 1\r\n", Bad::CarriageReturnInLine);
    check("RMSGx", Bad::UnknownOperation);
    check("HMSG $G foo 5\r\n", Bad::RoutedHeaderMessageArguments);
    check("HMSG $G foo a b 5 5\r\n", Bad::RoutedHeaderMessageArguments);
    check("HMSG $G foo x 5\r\n", Bad::HeaderSize);
    check("HMSG $G foo 5 x\r\n", Bad::PayloadSize);
    check("HMSG $G foo 6 5\r\n", Bad::HeaderLongerThanMessage);
    check("LMSG L $G foo 5\r\n", Bad::LeafMessageArguments);
    check("LMSG L $G foo a b 0 5\r\n", Bad::LeafMessageArguments);
}

#[test]
fn interest() {
    fn subscribe<'a>(
        origin: Option<&'a [u8]>,
        account: Option<&'a [u8]>,
        subject: &'a [u8],
        queue: Option<(&'a [u8], u32)>,
    ) -> RouteOp<'a> {
        RouteOp::Subscribe(RemoteSubscribe {
            origin,
            account,
            subject,
            queue: queue.map(|(name, weight)| QueueInterest { name, weight }),
        })
    }
    check("RS+ $G foo\r\n", subscribe(None, Some(b"$G"), b"foo", None));
    check(
        "rs+ $G\tfoo.* \n",
        subscribe(None, Some(b"$G"), b"foo.*", None),
    );
    check(
        "RS+ $G foo q 12\r\n",
        subscribe(None, Some(b"$G"), b"foo", Some((b"q", 12))),
    );
    // nats-server takes what is no number.
    check(
        "RS+ $G foo q x\r\n",
        subscribe(None, Some(b"$G"), b"foo", Some((b"q", 0))),
    );
    check(
        "LS+ leafcl $G lf2\r\n",
        subscribe(Some(b"leafcl"), Some(b"$G"), b"lf2", None),
    );
    check(
        "LS+ L $G lq q 1\r\n",
        subscribe(Some(b"L"), Some(b"$G"), b"lq", Some((b"q", 1))),
    );
    assert_eq!(
        whole(b"RS+ $SYS.REQ.SERVER.PING.VARZ\r\n", &DEDICATED),
        subscribe(None, None, b"$SYS.REQ.SERVER.PING.VARZ", None)
    );
    assert_eq!(
        whole(b"LS+ L foo q 1\r\n", &DEDICATED),
        subscribe(Some(b"L"), None, b"foo", Some((b"q", 1)))
    );
    let check = |limits, input| check_refused(limits, input, Bad::RemoteSubscribeArguments);
    check(&POOL, "RS+ foo\r\n");
    check(&POOL, "RS+ $G foo q\r\n");
    check(&POOL, "RS+ $G foo q 1 2\r\n");
    check(&POOL, "RS+ \r\n");
    check(&POOL, "LS+ L $G foo q\r\n");
    check(&DEDICATED, "RS+ foo q\r\n");
    check(&DEDICATED, "RS+ $G foo q 1\r\n");
}

#[test]
fn the_end_of_interest() {
    fn unsubscribe<'a>(
        leaf: bool,
        origin: Option<&'a [u8]>,
        account: Option<&'a [u8]>,
        subject: &'a [u8],
        queue: Option<&'a [u8]>,
    ) -> RouteOp<'a> {
        RouteOp::Unsubscribe(RemoteUnsubscribe {
            leaf,
            origin,
            account,
            subject,
            queue,
        })
    }
    check(
        "RS- $G foo\r\n",
        unsubscribe(false, None, Some(b"$G"), b"foo", None),
    );
    check(
        "RS- $G foo q\r\n",
        unsubscribe(false, None, Some(b"$G"), b"foo", Some(b"q")),
    );
    check(
        "LS- L $G lf\r\n",
        unsubscribe(true, Some(b"L"), Some(b"$G"), b"lf", None),
    );
    assert_eq!(
        whole(b"LS- $G lf q\r\n", &OLD),
        unsubscribe(true, None, Some(b"$G"), b"lf", Some(b"q"))
    );
    assert_eq!(
        whole(b"RS- foo\r\n", &DEDICATED),
        unsubscribe(false, None, None, b"foo", None)
    );
    let check = |limits, input| check_refused(limits, input, Bad::RemoteUnsubscribeArguments);
    check(&POOL, "RS- foo\r\n");
    check(&POOL, "RS- $G foo q 1\r\n");
    check(&POOL, "LS- $G foo\r\n");
    check(&OLD, "LS- L $G foo q\r\n");
}

#[test]
fn the_small_ones() {
    check("PING\r\n", RouteOp::Ping);
    check("PONG\r\n", RouteOp::Pong);
    check("+OK\r\n", RouteOp::Ok);
    check(
        "-ERR 'Authorization Violation'\r\n",
        RouteOp::Err(b"'Authorization Violation'"),
    );
    check("INFO {\"a\":1} \r\n", RouteOp::Info(b"{\"a\":1} "));
    check("CONNECT {}\r\n", RouteOp::Connect(b"{}"));
    check("A+ acc\r\n", RouteOp::AccountSubscribe(b"acc"));
    check("a- acc\r\n", RouteOp::AccountUnsubscribe(b"acc"));
}

#[test]
fn refused_at_the_first_wrong_letter() {
    for letters in [
        "SUB", "S", "PUB", "PU", "UNSUB", "U", "HP", "MSG", "RX", "RS*", "RS+x", "LSx", "LX", "A*",
        "A+x", "\0", " ", "\r", "\n", "1", "GET", "\x16",
    ] {
        let found = (1..=letters.len())
            .map(|end| decode_route(&letters.as_bytes()[..end], &POOL))
            .find(Result::is_err);
        assert_eq!(found, Some(Err(Bad::UnknownOperation)), "{letters:?}");
    }
}

#[test]
fn the_limit_of_a_line() {
    let check = |input: String| check_refused(&POOL, input, Bad::ControlLineTooLong);
    let text = |length: usize| "a".repeat(length);
    check(format!("RMSG $G {} 1", text(4092)));
    check(format!("RS+ $G {}", text(4094)));
    check(format!("INFO {}", text(4097)));
    let subject = text(4091);
    let line = format!("RMSG $G {subject} 1\r\nx\r\n");
    check_message(&POOL, &line, &format!("- $G {subject} - [] /x false"));
    let queues = "q ".repeat(2000);
    let line = format!("RMSG $G foo | {queues}1\r\nx\r\n");
    let RouteOp::Message(message) = whole(line.as_bytes(), &POOL) else {
        panic!("no message");
    };
    assert_eq!(message.queues.count(), 2000);
}

#[test]
fn asks_for_the_whole_frame() {
    for line in ["RMSG $G foo 100\r\n", "HMSG $G foo | q 0 100\r\n"] {
        let input = format!("{line}hello");
        assert_eq!(
            decode_route(input.as_bytes(), &POOL),
            Ok(Decoded::Incomplete {
                needed: line.len() + 100 + 2
            })
        );
    }
}
