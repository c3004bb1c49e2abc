//! Reloads while messages flow: no message may be lost, repeated or out of order, and nobody may be disconnected who keeps the
//! right to be there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use testkit::{Config, Kind, ServerUnderTest};

use crate::trial;

/// Messages each publisher sends at least; it goes on until the reloads are through.
const MESSAGES_MIN: u64 = 20_000;

/// A publisher that ran away from its reloads would fill the disk's log and the test's patience.
const MESSAGES_MAX: u64 = 3_000_000;

const PUBLISHERS: usize = 2;

/// How long a socket may say nothing before the test has failed.
const SILENCE_MAX: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let trials = Kind::ALL.map(|kind| {
        trial(
            format!("reload::under_load_no_message_is_lost::{}", kind.name()),
            [kind.program().map(drop)],
            move || under_load(kind),
        )
    });
    trials.into()
}

fn under_load(kind: Kind) {
    let mut server = ServerUnderTest::start(kind, &Config::file(configuration(0)));
    let address = server.address();
    let stop = Arc::new(AtomicU64::new(0));
    let mut subscribers = Vec::new();
    for user in ["steady", "other"] {
        let mut client = Client::log_in(address, user);
        client.send("SUB load.* 1\r\nPING\r\n");
        client.expect_pong();
        subscribers.push(thread::spawn(move || client.receive()));
    }
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let mut client = Client::log_in(address, "steady");
            let stop = Arc::clone(&stop);
            thread::spawn(move || client.publish(number, &stop))
        })
        .collect();
    for round in 1..=8 {
        let told = server.reload(&configuration(round));
        assert!(told.contains("Reloaded server configuration"), "{told}");
    }
    stop.store(1, Ordering::Relaxed);
    let sent: Vec<u64> = publishers.into_iter().map(joined).collect();
    for subscriber in subscribers {
        assert_eq!(joined(subscriber), sent, "{}", server.log());
    }
}

fn joined<T>(thread: thread::JoinHandle<T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A configuration that differs from round to round in much, but never in what the clients of this test need.
fn configuration(round: u32) -> String {
    let debug = round % 3 == 1;
    let guest = if round.is_multiple_of(2) {
        "{ user: guest, password: pw },"
    } else {
        ""
    };
    format!(
        "max_payload: {}\n\
         max_control_line: {}\n\
         max_connections: {}\n\
         ping_interval: \"{}s\"\n\
         write_deadline: \"{}s\"\n\
         debug: {debug}\n\
         server_tags: [\"round:{round}\"]\n\
         authorization {{ users: [ {guest}\n\
           {{ user: steady, password: pw }},\n\
           {{ user: other, password: pw, permissions: {{ subscribe: [\"load.>\", \"round.{round}\"] }} }} ] }}\n",
        1_000 + round,
        2_000 + round,
        100 + round,
        60 + round,
        10 + round,
    )
}

struct Client {
    input: BufReader<TcpStream>,
    output: TcpStream,
}

impl Client {
    fn log_in(address: SocketAddr, user: &str) -> Self {
        let output = TcpStream::connect(address).expect("the server listens");
        output
            .set_read_timeout(Some(SILENCE_MAX))
            .expect("not zero");
        let input = BufReader::new(output.try_clone().expect("a socket can be cloned"));
        let mut client = Self { input, output };
        client.send(&format!(
            "CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"pw\"}}\r\nPING\r\n"
        ));
        client.expect_pong();
        client
    }

    fn send(&mut self, text: &str) {
        self.output
            .write_all(text.as_bytes())
            .expect("the server reads");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.input
            .read_line(&mut line)
            .expect("the server goes on talking");
        assert!(
            !line.is_empty() && !line.starts_with("-ERR"),
            "unexpected: {line:?}"
        );
        line
    }

    fn expect_pong(&mut self) {
        while self.line() != "PONG\r\n" {}
    }

    /// Publishes numbered messages on a subject of its own until it is told to stop, then the end; returns how many.
    fn publish(&mut self, number: usize, stop: &AtomicU64) -> u64 {
        let mut sent = 0;
        while sent < MESSAGES_MIN || stop.load(Ordering::Relaxed) == 0 {
            assert!(sent < MESSAGES_MAX, "the reloads take for ever");
            let batch: String = (sent..sent + 100)
                .map(|count| format!("PUB load.{number} 8\r\n{count:08}\r\n"))
                .collect();
            self.send(&batch);
            sent += 100;
            self.send("PING\r\n");
            self.expect_pong();
        }
        self.send(&format!("PUB load.{number} 3\r\nend\r\nPING\r\n"));
        self.expect_pong();
        sent
    }

    /// Receives until all publishers have ended; returns how many messages each sent. Every message must be the next one.
    fn receive(&mut self) -> Vec<u64> {
        let mut received = vec![0; PUBLISHERS];
        let mut open = PUBLISHERS;
        while open > 0 {
            let line = self.line();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("PING") => self.send("PONG\r\n"),
                Some("MSG") => {
                    let subject = words.next().unwrap_or_default();
                    let publisher: usize = subject
                        .strip_prefix("load.")
                        .and_then(|number| number.parse().ok())
                        .unwrap_or_else(|| panic!("unexpected: {line:?}"));
                    let size: usize = words
                        .last()
                        .and_then(|size| size.parse().ok())
                        .unwrap_or_else(|| panic!("no size: {line:?}"));
                    let mut payload = vec![0; size + 2];
                    self.input.read_exact(&mut payload).expect("a payload");
                    if payload == b"end\r\n" {
                        open -= 1;
                    } else {
                        let expected = format!("{:08}\r\n", received[publisher]);
                        assert_eq!(String::from_utf8_lossy(&payload), expected, "{subject}");
                        received[publisher] += 1;
                    }
                }
                _ => {}
            }
        }
        received
    }
}
