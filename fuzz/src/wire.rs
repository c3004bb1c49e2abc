//! Owns valid inputs for the targets of the wire crate, and inputs that are valid in unusual ways.

use fastrand::Rng;
use natterjack_wire::client;

/// What a client sends, behind the eight bytes of choices that the target takes first.
pub(crate) fn client_stream(rng: &mut Rng) -> Vec<u8> {
    let mut out = rng.u64(..).to_le_bytes().to_vec();
    for _ in 0..rng.usize(..8) {
        match rng.u8(..14) {
            0..4 => message(&mut out, rng, "PUB", 1),
            4..7 => message(&mut out, rng, "HPUB", 1),
            7..9 => line(&mut out, rng, "SUB", 2, 3),
            9 => line(&mut out, rng, "UNSUB", 1, 2),
            10 => argument(&mut out, rng, "CONNECT", json),
            11 => argument(&mut out, rng, "INFO", json),
            12 => argument(&mut out, rng, "-ERR", word),
            _ => small(&mut out, rng),
        }
    }
    out
}

/// What a server sends, behind the same eight bytes.
pub(crate) fn server_stream(rng: &mut Rng) -> Vec<u8> {
    let mut out = rng.u64(..).to_le_bytes().to_vec();
    for _ in 0..rng.usize(..8) {
        match rng.u8(..10) {
            0..4 => message(&mut out, rng, "MSG", 2),
            4..7 => message(&mut out, rng, "HMSG", 2),
            7 => argument(&mut out, rng, "INFO", json),
            8 => argument(&mut out, rng, "-ERR", word),
            _ => small(&mut out, rng),
        }
    }
    out
}

/// What a server sends to another, behind the same eight bytes.
pub(crate) fn route_stream(rng: &mut Rng) -> Vec<u8> {
    let choices = rng.u64(..);
    let mut out = choices.to_le_bytes().to_vec();
    // As the target takes it: the second bit says that lines name no account, the third that `LS-` names no origin.
    let account = usize::from(choices & 2 == 0);
    let ended_origin = usize::from(choices & 4 == 0);
    for _ in 0..rng.usize(..8) {
        match rng.u8(..16) {
            0..3 => routed_message(&mut out, rng, "RMSG", account + 1),
            3..6 => routed_message(&mut out, rng, "HMSG", account + 1),
            6..8 => routed_message(&mut out, rng, "LMSG", account + 2),
            8 => line(&mut out, rng, "RS+", account + 1, account + 1),
            9 => line(&mut out, rng, "RS-", account + 1, account + 2),
            10 => interest(&mut out, rng, "RS+", account + 2),
            11 => interest(&mut out, rng, "LS+", account + 3),
            12 => {
                let words = account + ended_origin;
                line(&mut out, rng, "LS-", words + 1, words + 2);
            }
            13 => argument(&mut out, rng, "INFO", json),
            14 => match rng.u8(..4) {
                0 => argument(&mut out, rng, "CONNECT", json),
                1 => argument(&mut out, rng, "-ERR", word),
                2 => argument(&mut out, rng, "A+", word),
                _ => argument(&mut out, rng, "A-", word),
            },
            _ => small(&mut out, rng),
        }
    }
    out
}

/// A header block.
pub(crate) fn header_block(rng: &mut Rng) -> Vec<u8> {
    let mut out = b"NATS/1.0".to_vec();
    if rng.u8(..4) == 0 {
        out.extend_from_slice(format!(" {}", rng.u16(..1200)).as_bytes());
        out.extend_from_slice(blanks(rng));
        out.extend_from_slice(&word(rng));
    }
    out.extend_from_slice(line_end(rng));
    for _ in 0..rng.usize(..5) {
        out.extend_from_slice(&word(rng));
        out.push(b':');
        out.extend_from_slice(if rng.bool() { b" " } else { b"" });
        if rng.u8(..4) > 0 {
            out.extend_from_slice(&word(rng));
        }
        out.extend_from_slice(line_end(rng));
    }
    if rng.u8(..8) > 0 {
        out.extend_from_slice(line_end(rng));
    }
    out
}

/// The text of a `CONNECT` or `INFO`.
pub(crate) fn json(rng: &mut Rng) -> Vec<u8> {
    const KEYS: [&str; 36] = [
        "verbose",
        "PEDANTIC",
        "echo",
        "tls_required",
        "nkey",
        "jwt",
        "sig",
        "auth_token",
        "user",
        "Pass",
        "name",
        "lang",
        "version",
        "protocol",
        "account",
        "headers",
        "no_responders",
        "server_id",
        "port",
        "max_payload",
        "connect_urls",
        "proto",
        "cluster",
        "cluster_dynamic",
        "compression",
        "import",
        "Export",
        "lnoc",
        "lnocu",
        "route_pool_size",
        "route_pool_idx",
        "route_account",
        "gossip_mode",
        "leafnode_urls",
        "gateway",
        "unknown",
    ];
    const VALUES: [&str; 18] = [
        "true",
        "false",
        "null",
        "0",
        "1",
        "-1",
        "1.5",
        "1e3",
        "99999999999999999999",
        r#""""#,
        r#""text""#,
        r#""\u00e4\n\"\ud800""#,
        r#"["a:1"]"#,
        "[]",
        "2",
        r#"{"allow":["a.>"],"deny":null}"#,
        r#"{"a":[null]}"#,
        "\"ä\"",
    ];
    let mut out = b"{".to_vec();
    for index in 0..rng.usize(..6) {
        let comma = if index > 0 { "," } else { "" };
        let (key, value) = (
            KEYS[rng.usize(..KEYS.len())],
            VALUES[rng.usize(..VALUES.len())],
        );
        out.extend_from_slice(format!("{comma}\"{key}\":{value}").as_bytes());
    }
    out.push(b'}');
    out
}

/// A message whose sizes are right most of the time.
fn message(out: &mut Vec<u8>, rng: &mut Rng, operation: &str, words: usize) {
    let header = if operation.starts_with('H') {
        Some(body(rng))
    } else {
        None
    };
    let payload = if rng.u8(..4) == 0 {
        Vec::new()
    } else {
        body(rng)
    };
    letters(out, rng, operation);
    out.extend_from_slice(blanks(rng));
    for _ in 0..words + rng.usize(..2) {
        out.extend_from_slice(&word(rng));
        out.extend_from_slice(blanks(rng));
    }
    let header_bytes = header.as_ref().map_or(0, Vec::len);
    if header.is_some() {
        size(out, rng, header_bytes);
        out.extend_from_slice(blanks(rng));
    }
    size(out, rng, header_bytes + payload.len());
    out.extend_from_slice(line_end(rng));
    out.extend_from_slice(&header.unwrap_or_default());
    out.extend_from_slice(&payload);
    out.extend_from_slice(b"\r\n");
}

/// A message with a reply, or a list of queue groups, or neither.
fn routed_message(out: &mut Vec<u8>, rng: &mut Rng, operation: &str, words: usize) {
    let header = match operation {
        "RMSG" => None,
        "LMSG" if rng.bool() => Some(Vec::new()),
        _ => Some(body(rng)),
    };
    let payload = body(rng);
    letters(out, rng, operation);
    out.extend_from_slice(blanks(rng));
    let mut put = |rng: &mut Rng, word: &[u8]| {
        out.extend_from_slice(word);
        out.extend_from_slice(blanks(rng));
    };
    for _ in 0..words {
        let word = word(rng);
        put(rng, &word);
    }
    let sign: &[u8] = if rng.bool() { b"+" } else { b"|" };
    let groups = rng.usize(..5);
    match rng.u8(..4) {
        0 => {}
        1 => {
            let reply = word(rng);
            put(rng, &reply);
        }
        _ => {
            put(rng, sign);
            for _ in 0..groups {
                let group = word(rng);
                put(rng, &group);
            }
        }
    }
    let header_bytes = header.as_ref().map_or(0, Vec::len);
    if header.is_some() {
        size(out, rng, header_bytes);
        out.extend_from_slice(blanks(rng));
    }
    size(out, rng, header_bytes + payload.len());
    out.extend_from_slice(line_end(rng));
    out.extend_from_slice(&header.unwrap_or_default());
    out.extend_from_slice(&payload);
    out.extend_from_slice(b"\r\n");
}

/// Interest of a queue group, with its weight.
fn interest(out: &mut Vec<u8>, rng: &mut Rng, operation: &str, words: usize) {
    letters(out, rng, operation);
    for _ in 0..words {
        out.extend_from_slice(blanks(rng));
        out.extend_from_slice(&word(rng));
    }
    out.extend_from_slice(blanks(rng));
    let weight = rng.usize(..200);
    size(out, rng, weight);
    out.extend_from_slice(line_end(rng));
}

/// A line of some words.
fn line(out: &mut Vec<u8>, rng: &mut Rng, operation: &str, words_min: usize, words_max: usize) {
    letters(out, rng, operation);
    for _ in 0..rng.usize(words_min..=words_max) {
        out.extend_from_slice(blanks(rng));
        out.extend_from_slice(&word(rng));
    }
    out.extend_from_slice(line_end(rng));
}

/// A line with one argument that is no word.
fn argument(out: &mut Vec<u8>, rng: &mut Rng, operation: &str, make: fn(&mut Rng) -> Vec<u8>) {
    letters(out, rng, operation);
    out.extend_from_slice(blanks(rng));
    out.extend_from_slice(&make(rng));
    out.extend_from_slice(line_end(rng));
}

fn small(out: &mut Vec<u8>, rng: &mut Rng) {
    match rng.u8(..3) {
        0 => client::ping(out),
        1 => client::pong(out),
        _ => client::ok(out),
    }
}

/// An operation, at times in lower case or in both.
fn letters(out: &mut Vec<u8>, rng: &mut Rng, operation: &str) {
    let fold = match rng.u8(..4) {
        0 => rng.u8(..),
        _ => 0,
    };
    for (index, byte) in operation.bytes().enumerate() {
        let lower = fold >> (index % 8) & 1 == 1;
        out.push(if lower {
            byte.to_ascii_lowercase()
        } else {
            byte
        });
    }
}

fn blanks(rng: &mut Rng) -> &'static [u8] {
    const UNUSUAL: [&[u8]; 5] = [b"  ", b"\t", b" \t ", b"     ", b"\t\t"];
    if rng.u8(..8) > 0 {
        b" "
    } else {
        UNUSUAL[rng.usize(..UNUSUAL.len())]
    }
}

fn line_end(rng: &mut Rng) -> &'static [u8] {
    const UNUSUAL: [&[u8]; 4] = [b"\n", b" \r\n", b"\r\r\n", b"\r \n"];
    if rng.u8(..8) > 0 {
        b"\r\n"
    } else {
        UNUSUAL[rng.usize(..UNUSUAL.len())]
    }
}

/// A size, at times with zeros in front and at times wrong.
fn size(out: &mut Vec<u8>, rng: &mut Rng, length: usize) {
    let text = match rng.u8(..24) {
        0 => format!("{length:04}"),
        1 => format!("{length:010}"),
        2 => format!("{}", length + 1),
        3 => format!("{}", length.saturating_sub(1)),
        4 => format!("{}", rng.u64(..)),
        _ => format!("{length}"),
    };
    out.extend_from_slice(text.as_bytes());
}

/// A subject, a name, a number: short ones mostly, at times as long as the tiny limit or the usual one.
fn word(rng: &mut Rng) -> Vec<u8> {
    const BYTES: &[u8] = b"abc.*>01_$-\0\x01\x7F\xC3\xA4\xFF'{";
    let length = match rng.u16(..512) {
        0 => rng.usize(4080..4100),
        1..128 => rng.usize(1..30),
        _ => rng.usize(1..8),
    };
    (0..length)
        .map(|_| BYTES[rng.usize(..BYTES.len())])
        .collect()
}

/// Header or payload: any bytes, line ends among them.
fn body(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..64) {
        0 => rng.usize(..3000),
        1..16 => rng.usize(20..52),
        _ => rng.usize(..12),
    };
    (0..length)
        .map(|_| {
            if rng.u8(..4) == 0 {
                b"\r\n \0"[rng.usize(..4)]
            } else {
                rng.u8(..)
            }
        })
        .collect()
}
