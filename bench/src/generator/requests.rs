//! Requests and replies between two connections, with a chosen number of requests in flight.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::interest;
use super::peer::{self, FrameReader, Stream};
use super::{Latency, Sample, Spent, Target};
use crate::clock;

const SUBJECT: &str = "bench.echo";
/// A client subscribes to one wildcard for all its replies and gives each request a token of its own,
/// as today's client libraries do. The name is as long as theirs.
const INBOX: &str = "_INBOX.NatterjackBenchRequest";
/// Digits of the token, always all of them: frames keep one length.
const TOKEN_DIGITS: usize = 8;
const PAYLOAD: &str = "sixteen bytes ok";

const REQUEST_SID: &str = "1";
const REPLY_SID: &str = "2";

/// Messages through the server for one request: the request in and out, the reply in and out.
const MESSAGES_PER_REQUEST: u64 = 4;
const WARM_UP_DIVISOR: u64 = 10;

/// Makes `work` requests, `in_flight` at a time.
pub(super) fn run(in_flight: u32, work: u64, target: &Target) -> Result<Sample> {
    let warm_up = (work / WARM_UP_DIVISOR).max(1);
    let mut responder = peer::connect_at(target, target.of_receiver(0))?;
    subscribe(&mut responder, SUBJECT, REQUEST_SID)?;
    let mut requester = Requester::connect(in_flight, warm_up + work, target)?;
    interest::settle(target)?;
    thread::scope(|scope| {
        let responding = scope.spawn(|| respond(&mut responder, warm_up + work));
        requester.make(warm_up)?;
        let spent = Spent::now(target)?;
        let start = clock::now();
        let latencies = requester.make(work)?;
        let wall = clock::now() - start;
        let mut sample = spent.sample(target, MESSAGES_PER_REQUEST * work, wall)?;
        responding
            .join()
            .map_err(|_| anyhow!("the responder panicked"))?
            .context("responding")?;
        sample.latency = Some(Latency::of(latencies));
        Ok(sample)
    })
}

struct Requester {
    stream: Stream,
    reader: FrameReader,
    in_flight: u64,
    /// When each request was sent, by its number.
    sent: Vec<Instant>,
    answered: u64,
}

impl Requester {
    fn connect(in_flight: u32, total: u64, target: &Target) -> Result<Self> {
        let mut stream = peer::connect(target)?;
        subscribe(&mut stream, &format!("{INBOX}.*"), REPLY_SID)?;
        ensure!(
            total < 10_u64.pow(TOKEN_DIGITS as u32),
            "too many requests for their tokens"
        );
        let reply = format!(
            "MSG {} {REPLY_SID} {}\r\n{PAYLOAD}\r\n",
            reply_subject(0),
            PAYLOAD.len()
        );
        Ok(Self {
            stream,
            reader: FrameReader::new(reply.len()),
            in_flight: u64::from(in_flight),
            sent: Vec::with_capacity(usize::try_from(total)?),
            answered: 0,
        })
    }

    /// Makes that many requests and waits for all replies. Returns how long each took.
    fn make(&mut self, count: u64) -> Result<Vec<Duration>> {
        let end = self.answered + count;
        let mut latencies = Vec::with_capacity(usize::try_from(count)?);
        let mut requests = Vec::new();
        let token_start = "MSG ".len() + INBOX.len() + 1;
        while self.answered < end {
            let under_way = self.sent.len() as u64 - self.answered;
            let left = end - self.sent.len() as u64;
            requests.clear();
            for _ in 0..left.min(self.in_flight - under_way) {
                let reply = reply_subject(self.sent.len() as u64);
                write!(
                    requests,
                    "PUB {SUBJECT} {reply} {}\r\n{PAYLOAD}\r\n",
                    PAYLOAD.len()
                )?;
                self.sent.push(clock::now());
            }
            if !requests.is_empty() {
                self.stream.write_all(&requests).context("requesting")?;
            }
            let (sent, answered) = (&self.sent, &mut self.answered);
            self.reader.read(&mut self.stream, |frame| {
                let token = &frame[token_start..token_start + TOKEN_DIGITS];
                let number: usize = std::str::from_utf8(token)?.parse().context("reply token")?;
                latencies.push(clock::now() - *sent.get(number).context("reply to no request")?);
                *answered += 1;
                Ok(())
            })?;
        }
        Ok(latencies)
    }
}

fn reply_subject(number: u64) -> String {
    format!("{INBOX}.{number:0TOKEN_DIGITS$}")
}

fn subscribe(stream: &mut Stream, subject: &str, sid: &str) -> Result<()> {
    write!(stream, "SUB {subject} {sid}\r\n").context("subscribing")?;
    peer::round_trip(stream, &mut [0; 64]).context("after subscribing")?;
    Ok(())
}

/// Answers that many requests, all that arrived together with one write.
fn respond(stream: &mut Stream, count: u64) -> Result<()> {
    let before_reply = format!("MSG {SUBJECT} {REQUEST_SID} ");
    let after_reply = format!(" {}\r\n{PAYLOAD}\r\n", PAYLOAD.len());
    let reply_bytes = reply_subject(0).len();
    let mut reader = FrameReader::new(before_reply.len() + reply_bytes + after_reply.len());
    let mut replies = Vec::new();
    let mut answered = 0;
    while answered < count {
        replies.clear();
        reader.read(stream, |frame| {
            replies.extend_from_slice(b"PUB ");
            replies.extend_from_slice(&frame[before_reply.len()..before_reply.len() + reply_bytes]);
            replies.extend_from_slice(after_reply.as_bytes());
            answered += 1;
            Ok(())
        })?;
        stream.write_all(&replies)?;
    }
    Ok(())
}
