//! One line per case of what a server takes, refuses and waits for. Unless said otherwise each line was put
//! to nats-server 2.15.1, in one write, and it did the same.

use super::*;
use ProtocolError as Bad;

const LIMITS: Limits = Limits {
    control_line_bytes_max: 4096,
    payload_bytes_max: 1_048_576,
    headers: true,
};

fn plain<'a>(subject: &'a [u8], reply: Option<&'a [u8]>, body: &'a [u8]) -> Publish<'a> {
    let total_len_text: &[u8] = match body.len() {
        0 => b"0",
        1 => b"1",
        5 => b"5",
        _ => unreachable!("no such case"),
    };
    Publish {
        subject,
        reply,
        header_len: None,
        header_len_text: b"",
        total_len_text,
        body,
    }
}

/// The input is one operation, whole; every part of it without its end is incomplete.
#[track_caller]
fn check(input: impl AsRef<[u8]>, expected: ClientOp<'_>) {
    let input = input.as_ref();
    let whole = Decoded::Op {
        op: expected,
        consumed: input.len(),
    };
    assert_eq!(decode_client(input, &LIMITS), Ok(whole));
    let longer = [input, b"GARBAGE"].concat();
    assert_eq!(
        decode_client(&longer, &LIMITS),
        Ok(whole),
        "what follows does not matter"
    );
    for end in 0..input.len() {
        match decode_client(&input[..end], &LIMITS) {
            Ok(Decoded::Incomplete { needed }) => {
                assert!(
                    needed > end && needed <= input.len(),
                    "needed {needed} after {end}"
                );
            }
            other => panic!("{other:?} after {end} bytes"),
        }
    }
}

/// The input is refused at its last byte and not before, and so is everything that starts with it.
#[track_caller]
fn check_refused(input: impl AsRef<[u8]>, expected: ProtocolError) {
    let input = input.as_ref();
    assert_eq!(decode_client(input, &LIMITS), Err(expected));
    let longer = [input, b"\r\nPING\r\n"].concat();
    assert_eq!(
        decode_client(&longer, &LIMITS),
        Err(expected),
        "what follows does not matter"
    );
    let before = decode_client(&input[..input.len() - 1], &LIMITS);
    assert!(
        matches!(before, Ok(Decoded::Incomplete { .. })),
        "{before:?} one byte before"
    );
}

#[track_caller]
fn check_needed(input: impl AsRef<[u8]>, expected: usize) {
    let found = decode_client(input.as_ref(), &LIMITS);
    assert_eq!(found, Ok(Decoded::Incomplete { needed: expected }));
}

#[test]
fn publish_forms() {
    let publish = |subject, reply, body| ClientOp::Publish(plain(subject, reply, body));
    check("PUB foo 5\r\nhello\r\n", publish(b"foo", None, b"hello"));
    check("PUB foo 5\nhello\r\n", publish(b"foo", None, b"hello"));
    check(
        "PUB foo bar 5\r\nhello\r\n",
        publish(b"foo", Some(b"bar"), b"hello"),
    );
    check(
        "PUB foo bar 5\nhello\r\n",
        publish(b"foo", Some(b"bar"), b"hello"),
    );
    check("pUb foo 0\r\n\r\n", publish(b"foo", None, b""));
    check(
        "PUB\tfoo\t \tbar\t 5 \t\r\nhello\r\n",
        publish(b"foo", Some(b"bar"), b"hello"),
    );
    check("PUB   foo 1\r\n\n\r\n", publish(b"foo", None, b"\n"));
    check("PUB foo  1\r\nx\r\n", publish(b"foo", None, b"x"));
    check("PUB 1 1 1\r\nx\r\n", publish(b"1", Some(b"1"), b"x"));
    check("PUB 1 1x 1\r\nx\r\n", publish(b"1", Some(b"1x"), b"x"));
    check("PUB .. > 1\r\nx\r\n", publish(b"..", Some(b">"), b"x"));
    // Any byte but blanks and line ends is part of a word.
    check(b"PUB a\0b 1\r\nx\r\n", publish(b"a\0b", None, b"x"));
    check(
        b"PUB \x01\x1F\x7F\xFF 1\r\nx\r\n",
        publish(b"\x01\x1F\x7F\xFF", None, b"x"),
    );
    check(
        b"PUB a \x0B\x0C 1\r\nx\r\n",
        publish(b"a", Some(b"\x0B\x0C"), b"x"),
    );
    // The size is handed on as it was written: `MSG foo 1 05`.
    let padded = Publish {
        total_len_text: b"05",
        ..plain(b"foo", None, b"hello")
    };
    check("PUB foo 05\r\nhello\r\n", ClientOp::Publish(padded));
    let padded = Publish {
        total_len_text: b"000000005",
        ..padded
    };
    check("PUB foo 000000005\r\nhello\r\n", ClientOp::Publish(padded));
}

#[test]
fn publish_refused() {
    check_refused("PUB foo\r\n", Bad::PublishArguments);
    check_refused("PUB \r\n", Bad::PublishArguments);
    check_refused("PUB foo bar baz 5\r\n", Bad::PublishArguments);
    check_refused("PUB foo +5\r\n", Bad::PayloadSize);
    check_refused("PUB foo -1\r\n", Bad::PayloadSize);
    check_refused("PUB foo 5a\r\n", Bad::PayloadSize);
    check_refused("PUB foo bar 5a\r\n", Bad::PayloadSize);
    check_refused("PUB foo bar baz\r\n", Bad::PayloadSize);
    check_refused("PUB foo 0x5\r\n", Bad::PayloadSize);
    check_refused("PUB foo 0000000005\r\n", Bad::PayloadSize);
    check_refused("PUB foo 1234567890\r\n", Bad::PayloadSize);
    check_refused("PUB foo 18446744073709551617\r\n", Bad::PayloadSize);
    check_refused("PUB foo 1048577\r\n", Bad::PayloadTooLarge);
    check_refused("PUB foo 999999999\n", Bad::PayloadTooLarge);
    check_refused("PUB foo 5\nhello\n", Bad::PayloadTerminator);
    check_refused("PUB foo 5\r\nhelloX", Bad::PayloadTerminator);
    check_refused("PUB foo 5\r\nhello\rX", Bad::PayloadTerminator);
    check_refused("PUB foo 0\r\nX", Bad::PayloadTerminator);
}

/// nats-server's answer to a carriage return inside the line depends on how the bytes arrive. In one write,
/// `PUB a\rb 5` reaches subscribers as `MSG a\rb 1 5`, and a return behind the words cuts off their last
/// byte; byte by byte the returns vanish and subscribers get `MSG ab 1 5`. We refuse, always: a subject with
/// half a line end in it breaks the subscribers' parsers.
#[test]
fn carriage_returns_inside_a_message_line() {
    check_refused("PUB a\rb 5\r\n", Bad::CarriageReturnInLine);
    check_refused("PUB foo\r 5\n", Bad::CarriageReturnInLine);
    check_refused("PUB foo 5\r\r\n", Bad::CarriageReturnInLine);
    check_refused("PUB foo 5\r \n", Bad::CarriageReturnInLine);
    check_refused("PUB \rfoo 5\r\n", Bad::CarriageReturnInLine);
    check_refused("HPUB a\rb 0 5\r\n", Bad::CarriageReturnInLine);
}

/// nats-server takes the first byte behind the blanks as part of the arguments whatever it is, so that
/// `PUB \nfoo 5` reaches subscribers as a broken `MSG \nfoo 1 5`, and `SUB \nfoo 2`, `CONNECT\n{}` and
/// `INFO\n{}` work. The latter harm nobody and work here too; in a message a line feed ends the line.
#[test]
fn line_feeds_in_place_of_arguments() {
    check_refused("PUB \n", Bad::PublishArguments);
    check_refused("HPUB \n", Bad::HeaderPublishArguments);
    check_refused("SUB \n\n", Bad::SubscribeArguments);
    check_refused("UNSUB \n \r\n", Bad::UnsubscribeArguments);
    check(
        "SUB \n foo 2\r\n",
        ClientOp::Subscribe(Subscribe {
            subject: b"foo",
            queue: None,
            sid: b"2",
        }),
    );
    check("CONNECT\n{}\r\n", ClientOp::Connect(b"{}"));
    check("INFO \n{}\n", ClientOp::Info(b"{}"));
    check("-ERR \n", ClientOp::Err(b""));
}

#[test]
fn header_publish_forms() {
    let block = b"NATS/1.0\r\n\r\nhello";
    let publish = Publish {
        subject: b"foo",
        reply: None,
        header_len: Some(12),
        header_len_text: b"12",
        total_len_text: b"17",
        body: block,
    };
    check(
        "HPUB foo 12 17\r\nNATS/1.0\r\n\r\nhello\r\n",
        ClientOp::Publish(publish),
    );
    assert_eq!(publish.header(), b"NATS/1.0\r\n\r\n");
    assert_eq!(publish.payload(), b"hello");
    let replied = Publish {
        reply: Some(b"bar"),
        ..publish
    };
    check(
        "hpub\tfoo bar  12 17 \nNATS/1.0\r\n\r\nhello\r\n",
        ClientOp::Publish(replied),
    );
    let padded = Publish {
        header_len_text: b"012",
        total_len_text: b"017",
        ..publish
    };
    check(
        "HPUB foo 012 017\r\nNATS/1.0\r\n\r\nhello\r\n",
        ClientOp::Publish(padded),
    );
    // An empty header is delivered as `MSG`, and what is in a header is nobody's business.
    let empty = Publish {
        header_len: Some(0),
        header_len_text: b"0",
        total_len_text: b"5",
        body: b"hello",
        ..publish
    };
    check("HPUB foo 0 5\r\nhello\r\n", ClientOp::Publish(empty));
    assert_eq!((empty.header(), empty.payload()), (&b""[..], &b"hello"[..]));
    let whole = Publish {
        header_len: Some(5),
        header_len_text: b"5",
        ..empty
    };
    check("HPUB foo 5 5\r\nhello\r\n", ClientOp::Publish(whole));
    assert_eq!((whole.header(), whole.payload()), (&b"hello"[..], &b""[..]));
}

#[test]
fn header_publish_refused() {
    check_refused("HPUB foo 5\r\n", Bad::HeaderPublishArguments);
    check_refused("HPUB foo a b 5 5\r\n", Bad::HeaderPublishArguments);
    check_refused("HPUB foo x 5\r\n", Bad::HeaderSize);
    check_refused("HPUB foo -1 5\r\n", Bad::HeaderSize);
    check_refused("HPUB foo x x\r\n", Bad::HeaderSize);
    check_refused("HPUB foo 5 x\r\n", Bad::PayloadSize);
    check_refused("HPUB foo 6 5\r\n", Bad::HeaderLongerThanMessage);
    check_refused("HPUB foo 5 1048577\r\n", Bad::PayloadTooLarge);
    // The header is compared first: nats-server closes without a word.
    check_refused("HPUB foo 1048578 1048577\r\n", Bad::HeaderLongerThanMessage);
    check_refused("HPUB\r", Bad::UnknownOperation);
    check_refused("HPUBx", Bad::UnknownOperation);
    // A client's HMSG is refused at its second letter; nats-server waits for the payload to refuse it.
    check_refused("HM", Bad::UnknownOperation);
}

#[test]
fn subscribe_forms() {
    let subscribe = |subject, queue, sid| {
        ClientOp::Subscribe(Subscribe {
            subject,
            queue,
            sid,
        })
    };
    check("SUB foo 2\r\n", subscribe(b"foo", None, b"2"));
    check("sub foo 2\n", subscribe(b"foo", None, b"2"));
    check("SUB foo q 2\r\n", subscribe(b"foo", Some(b"q"), b"2"));
    check("SUB \t foo\tq  2 \r\n", subscribe(b"foo", Some(b"q"), b"2"));
    check(
        b"SUB \xFF.> \0 x-y\r\n",
        subscribe(b"\xFF.>", Some(b"\0"), b"x-y"),
    );
    // Here a carriage return parts words.
    check("SUB foo q\r2\r\n", subscribe(b"foo", Some(b"q"), b"2"));
    check("SUB foo\rq 2\r\n", subscribe(b"foo", Some(b"q"), b"2"));
    check("SUB foo 2\r\r\n", subscribe(b"foo", None, b"2"));
    check_refused("SUB foo\r\n", Bad::SubscribeArguments);
    check_refused("SUB \r\n", Bad::SubscribeArguments);
    check_refused("SUB foo a b 2\r\n", Bad::SubscribeArguments);
    check_refused("SUB\r", Bad::UnknownOperation);
}

#[test]
fn unsubscribe_forms() {
    let unsubscribe = |sid, max| ClientOp::Unsubscribe(Unsubscribe { sid, max });
    check("UNSUB 1\r\n", unsubscribe(b"1", None));
    check("unsub x\n", unsubscribe(b"x", None));
    check("UNSUB 1 2\r\n", unsubscribe(b"1", Some(2)));
    check("UNSUB 1 01\r\n", unsubscribe(b"1", Some(1)));
    check(
        "UNSUB 1 999999999\r\n",
        unsubscribe(b"1", Some(999_999_999)),
    );
    // What is no number means now.
    check("UNSUB 1 0\r\n", unsubscribe(b"1", None));
    check("UNSUB 1 x\r\n", unsubscribe(b"1", None));
    check("UNSUB 1 -1\r\n", unsubscribe(b"1", None));
    check("UNSUB 1 1234567890\r\n", unsubscribe(b"1", None));
    check_refused("UNSUB \r\n", Bad::UnsubscribeArguments);
    check_refused("UNSUB 1 2 3\r\n", Bad::UnsubscribeArguments);
    check_refused("UNSUB\r", Bad::UnknownOperation);
}

#[test]
fn the_small_ones() {
    check("PING\r\n", ClientOp::Ping);
    check("ping \n", ClientOp::Ping);
    check("PINGxyz\r\n", ClientOp::Ping);
    check("pOnG\n", ClientOp::Pong);
    check("+OK\r\n", ClientOp::Ok);
    check("+ok garbage\r\n", ClientOp::Ok);
    check("-ERR 'x'\r\n", ClientOp::Err(b"'x'"));
    check("-err  x\n", ClientOp::Err(b"x"));
    check("-ERR \r\n", ClientOp::Err(b""));
    check("CONNECT {}\r\n", ClientOp::Connect(b"{}"));
    check("CONNECT{}\r\n", ClientOp::Connect(b"{}"));
    check(
        "connect \t {\"a\": 1} \r\n",
        ClientOp::Connect(b"{\"a\": 1} "),
    );
    check("CONNECT\r\n", ClientOp::Connect(b""));
    check("CONNECTx\r\n", ClientOp::Connect(b"x"));
    check("INFO {}\r\n", ClientOp::Info(b"{}"));
    check("INFO{} \n", ClientOp::Info(b"{} "));
}

#[test]
fn refused_at_the_first_wrong_letter() {
    for letters in [
        "G", "g", "X", "M", "R", "L", "A", "\0", " ", "\t", "\r", "\n", "1", "PX", "PUBx", "PUB\0",
        "PUB\r", "PUB\n", "HX", "HP\r", "SUBx", "SX", "UNSUBx", "UX", "PIX", "POX", "CX",
        "CONNECX", "IX", "+X", "+O\r", "-X", "-ERR\r", "-ERRx",
    ] {
        check_refused(letters, Bad::UnknownOperation);
    }
    // Bytes that differ from a letter or sign only in the bit that folds the case.
    for letters in [
        &b"\x0BOK\r\n"[..],
        b"\rERR x\r\n",
        b"P\x15B a 0\r\n\r\n",
        b"\x10UB a 0\r\n\r\n",
    ] {
        assert_eq!(decode_client(letters, &LIMITS), Err(Bad::UnknownOperation));
    }
}

#[test]
fn the_control_line_limit() {
    let text = |length: usize| "a".repeat(length);
    // 4096 bytes of arguments fit, and a line end of either kind does not count.
    for end in ["\r\n", "\n"] {
        let subject = text(4094);
        let expected = Subscribe {
            subject: subject.as_bytes(),
            queue: None,
            sid: b"2",
        };
        check(
            format!("SUB {subject} 2{end}"),
            ClientOp::Subscribe(expected),
        );
        let expected = plain(subject.as_bytes(), None, b"x");
        check(
            format!("PUB {subject} 1{end}x\r\n"),
            ClientOp::Publish(expected),
        );
    }
    check(
        format!("SUB {} 2  \r\n", text(4092)),
        ClientOp::Subscribe(Subscribe {
            subject: text(4092).as_bytes(),
            queue: None,
            sid: b"2",
        }),
    );
    // The next byte does not, whether or not the line ends.
    check_refused(format!("SUB {}", text(4097)), Bad::ControlLineTooLong);
    check_refused(format!("SUB {} 2", text(4095)), Bad::ControlLineTooLong);
    check_refused(format!("PUB {} 1", text(4095)), Bad::ControlLineTooLong);
    check_refused(format!("SUB {} 2  ", text(4093)), Bad::ControlLineTooLong);
    check_refused(format!("CONNECT {}", text(4097)), Bad::ControlLineTooLong);
    check_refused(format!("-ERR {}", text(4097)), Bad::ControlLineTooLong);
    for line in ["PUB", "HPUB", "SUB", "UNSUB", "CONNECT", "INFO", "-ERR"] {
        let long = format!("{line} {} x y z u v w\r\n", text(4096));
        assert_eq!(
            decode_client(long.as_bytes(), &LIMITS),
            Err(Bad::ControlLineTooLong)
        );
    }
    // A carriage return may be half a line end; the byte behind it decides.
    check_needed(format!("PUB {}\r", text(4096)), 4102);
    check_refused(format!("PUB {}\rx", text(4096)), Bad::ControlLineTooLong);
}

/// nats-server skips any number of blanks before the arguments and of bytes behind `PING`, `PONG` and `+OK`,
/// because it keeps none of them. A decoder without state needs a bound, and takes the same one.
#[test]
fn noise_is_bounded() {
    let noise = |length: usize| " ".repeat(length);
    let hello = ClientOp::Publish(plain(b"foo", None, b"hello"));
    check(format!("PUB {}foo 5\r\nhello\r\n", noise(4095)), hello);
    check_refused(format!("SUB{}", noise(4097)), Bad::ControlLineTooLong);
    check_refused(format!("PUB {}", noise(4097)), Bad::ControlLineTooLong);
    check(format!("PING{}\r\n", noise(4096)), ClientOp::Ping);
    check_refused(format!("PING{}", noise(4097)), Bad::ControlLineTooLong);
}

#[test]
fn needed_bytes() {
    check_needed("", 1);
    check_needed("P", 2);
    check_needed("PUB foo 5", 10);
    check_needed("PUB foo 5\r", 11);
    check_needed("PUB foo 5\r\n", 18);
    check_needed("PUB foo 5\r\nhello", 18);
    check_needed("PUB foo 5\r\nhello\r", 18);
    check_needed("PUB foo 1048576\r\n", 17 + 1_048_576 + 2);
    check_needed("PUB foo  1048576\n", 17 + 1_048_576 + 2);
    check_needed("HPUB foo 5 1048576\r\nhell", 20 + 1_048_576 + 2);
}

#[test]
fn limits_are_the_callers() {
    let tiny = Limits {
        control_line_bytes_max: 5,
        payload_bytes_max: 2,
        headers: true,
    };
    let decode = |input| decode_client(input, &tiny);
    assert!(decode(b"PUB abc 2\r\nxx\r\n").is_ok());
    assert_eq!(decode(b"PUB abc 3\r\nxx\r\n"), Err(Bad::PayloadTooLarge));
    assert_eq!(
        decode(b"PUB abcd 2\r\nxx\r\n"),
        Err(Bad::ControlLineTooLong)
    );
    assert_eq!(
        decode(b"PUB abcd 3\r\nxx\r\n"),
        Err(Bad::ControlLineTooLong)
    );
}

#[test]
fn what_a_program_spells_itself_may_be_large() {
    let (subject, payload) = (vec![b'a'; 10_000], vec![0; 2 * 1024 * 1024]);
    let mut text = Vec::new();
    crate::client::header_publish(
        &mut text,
        &subject,
        Some(b"r"),
        b"NATS/1.0\r\n\r\n",
        &payload,
    );
    let publish = decode_publish(&text).expect("a message");
    assert_eq!(
        (publish.subject, publish.reply),
        (&subject[..], Some(&b"r"[..]))
    );
    assert_eq!(publish.header(), b"NATS/1.0\r\n\r\n");
    assert_eq!(publish.payload(), payload);
    for subject in [&b""[..], b"a b c", b"a\r\n"] {
        let mut text = Vec::new();
        crate::client::publish(&mut text, subject, None, b"x");
        assert_eq!(decode_publish(&text), None, "{}", subject.escape_ascii());
    }
}
