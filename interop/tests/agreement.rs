//! Made-up exchanges: random operations, some of them damaged, sent to both servers, which must answer with the same bytes.
//!
//! Nothing is known here about what the right answer is; the real server says it. A failure prints the seed and the shortest
//! exchange that still shows the difference.

use fastrand::Rng;
use libtest_mimic::Trial;
use natterjack_wire::client::{Decoded, Limits, decode_client};
use testkit::{Config, Difference, Kind, ServerUnderTest, differential, escaped};

use crate::trial;

/// Exchanges per test. Every test starts from a seed of its own, so that failures can be run again alone.
const EXCHANGES: usize = 1_000;
const SEEDS: u64 = 8;

/// The longest made-up exchange, in operations.
const OPERATIONS_MAX: usize = 12;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for seed in 0..SEEDS {
        let needs = Kind::ALL.map(|kind| kind.program().map(drop));
        trials.push(trial(format!("agreement::seed_{seed}"), needs, move || {
            agree(seed)
        }));
    }
    trials
}

fn agree(seed: u64) {
    let [reference, ours] = Kind::ALL.map(|kind| ServerUnderTest::start(kind, &Config::default()));
    let servers = [&reference, &ours];
    let mut random = Rng::with_seed(seed);
    for exchange in 0..EXCHANGES {
        let operations = made_up(&mut random);
        if let Err(difference) = compare(servers, &operations) {
            let (operations, difference) = shortest(servers, operations, difference);
            panic!(
                "seed {seed}, exchange {exchange}; sent:\n{}\n{difference}",
                escaped(&operations.concat())
            );
        }
    }
}

fn compare(servers: [&ServerUnderTest; 2], operations: &[Vec<u8>]) -> Result<(), Difference> {
    let bytes = operations.concat();
    differential(servers, |session| session.exchange(&bytes))
}

/// Leaves out one operation after the other, as long as the servers still differ.
fn shortest(
    servers: [&ServerUnderTest; 2],
    mut operations: Vec<Vec<u8>>,
    mut difference: Difference,
) -> (Vec<Vec<u8>>, Difference) {
    let mut at = 0;
    while at < operations.len() {
        let mut fewer = operations.clone();
        fewer.remove(at);
        match compare(servers, &fewer) {
            Ok(()) => at += 1,
            Err(still) => (operations, difference) = (fewer, still),
        }
    }
    (operations, difference)
}

/// What an exchange is about, since not everything may meet: which of several subscriptions on a reply subject is told that nobody
/// answers is the server's choice, so there must not be two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theme {
    /// Many subscriptions and damaged operations.
    Anything,
    /// `no_responders`, one subscription at a time, and no damage that could make it two.
    NoResponders,
}

fn made_up(random: &mut Rng) -> Vec<Vec<u8>> {
    let theme = if random.u8(..4) == 0 {
        Theme::NoResponders
    } else {
        Theme::Anything
    };
    let mut operations = Vec::new();
    if random.u8(..10) > 0 {
        operations.push(connect(random, theme));
    }
    for number in 0..random.usize(1..=OPERATIONS_MAX) {
        let operation = operation(random, theme, number);
        let damage = theme == Theme::Anything && random.u8(..8) == 0;
        operations.push(if damage {
            damaged(operation, random)
        } else {
            operation
        });
    }
    operations
}

fn connect(random: &mut Rng, theme: Theme) -> Vec<u8> {
    let mut options = Vec::new();
    for name in ["verbose", "pedantic", "echo", "headers"] {
        if random.bool() {
            options.push(format!("\"{name}\":{}", random.bool()));
        }
    }
    if random.u8(..4) == 0 {
        options.push(format!("\"protocol\":{}", random.u8(..2)));
    }
    if theme == Theme::NoResponders {
        options.push("\"headers\":true,\"no_responders\":true".to_owned());
    }
    format!("CONNECT {{{}}}\r\n", options.join(",")).into_bytes()
}

fn operation(random: &mut Rng, theme: Theme, number: usize) -> Vec<u8> {
    let subject = pick(random, &SUBJECTS);
    let sid = if theme == Theme::NoResponders {
        1
    } else {
        random.u8(1..5)
    };
    let blank = pick(random, &[" ", " ", " ", "  ", "\t", " \t "]);
    let end = pick(random, &["\r\n", "\r\n", "\r\n", "\n", " \r\n", "\t\r\n"]);
    let payload = pick(random, &["", "x", "hello", "two\r\nlines", "PING\r\n"]);
    let size = payload.len();
    let reply = pick(
        random,
        &["", "", "reply.to ", "a.b ", "_R_.x ", "$JS.ACK.x "],
    );
    let text = match random.u8(..16) {
        0..4 => format!("SUB{blank}{subject}{blank}{sid}{end}"),
        // A queue group has one member here: with several the choice between them is free.
        4 => format!("SUB {subject} queue{number}{blank}{sid}{end}"),
        5 => format!("UNSUB{blank}{sid}{end}"),
        6 => format!(
            "UNSUB {sid} {}{end}",
            pick(random, &["0", "1", "2", "x", "-1", "0001"])
        ),
        7..11 => format!("PUB{blank}{subject} {reply}{size}{end}{payload}\r\n"),
        11..13 => {
            let block = pick(
                random,
                &["NATS/1.0\r\n\r\n", "NATS/1.0\r\nA: b\r\n\r\n", ""],
            );
            let (header, total) = (block.len(), block.len() + size);
            format!("HPUB {subject} {reply}{header}{blank}{total}{end}{block}{payload}\r\n")
        }
        13 => pick(
            random,
            &["PING\r\n", "ping\r\n", "PING \r\n", "PINGX\n", "PONG\r\n"],
        )
        .to_owned(),
        14 => pick(random, &["+OK\r\n", "INFO {}\r\n", "pub a 1\r\nx\r\n"]).to_owned(),
        _ => return connect(random, theme),
    };
    text.into_bytes()
}

/// Valid and invalid ones, few enough to meet.
const SUBJECTS: [&str; 16] = [
    "a", "a.b", "a.*", "a.>", ">", "*", "*.b", "a..b", ".a", "a.", "a.>.b", "a*", "reply.to",
    "a.b.c", "_GR_.x", "$NRG.x",
];

/// The operation with one byte changed, added or lost, but with every CR followed by an LF.
///
/// A CR elsewhere in a control line makes the real server drop the line's last byte, or the CR, depending on how the bytes
/// were cut into packets. There is no one answer to agree on. And a message whose line starts with an LF is one that we
/// refuse on purpose. A message that announces more bytes than come swallows what follows; how often the real server
/// complains about its subject then depends on packets too.
fn damaged(operation: Vec<u8>, random: &mut Rng) -> Vec<u8> {
    let at = random.usize(..operation.len());
    let byte = pick(random, b" \r\n\t\0\xff19.>x");
    let mut changed = operation.clone();
    match random.u8(..3) {
        0 => changed[at] = byte,
        1 => changed.insert(at, byte),
        _ => drop(changed.remove(at)),
    }
    let mut after_cr = changed.split(|byte| *byte == b'\r').skip(1);
    let upper = changed.to_ascii_uppercase();
    let is_refused_message = upper
        .strip_prefix(b"H")
        .unwrap_or(&upper)
        .strip_prefix(b"PUB")
        .is_some_and(starts_line);
    let is_unfinished = matches!(
        decode_client(&changed, &Limits::default()),
        Ok(Decoded::Incomplete { .. })
    );
    if after_cr.all(|rest| rest.starts_with(b"\n")) && !is_refused_message && !is_unfinished {
        changed
    } else {
        operation
    }
}

/// Whether nothing but blanks comes before the first line feed.
fn starts_line(arguments: &[u8]) -> bool {
    let first = arguments.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    first == Some(&b'\n')
}

fn pick<T: Copy>(random: &mut Rng, list: &[T]) -> T {
    list[random.usize(..list.len())]
}
