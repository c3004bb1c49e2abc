//! Waiting until the servers of a cluster know what each other's clients want.
//!
//! Servers tell each other of an account's subscriptions in the order in which they came, and pass its messages on
//! in order. So a subscription made last, whose messages arrive from everywhere, proves that everybody knows of all
//! those before it; and that what was published before has arrived.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::peer::{self, PATIENCE, Stream};
use super::{Node, Target};
use crate::clock;

const SUBJECT: &str = "bench.settled";
/// How long to wait for a message before the next one is sent.
const STEP: Duration = Duration::from_millis(2);

/// Returns once every server passes messages on to every other one. With a single server there is nothing to wait for.
pub(super) fn settle(target: &Target) -> Result<()> {
    if target.nodes.len() < 2 {
        return Ok(());
    }
    for (number, &node) in target.nodes.iter().enumerate() {
        let mut receiver = peer::connect_at(target, node)?;
        // A subject of its own, so that nothing that is under way for another one is taken for its message.
        let subject = format!("{SUBJECT}.{number}");
        write!(receiver, "SUB {subject} 1\r\n").context("subscribing")?;
        peer::round_trip(&mut receiver, &mut [0; 64])?;
        for (other, &from) in target.nodes.iter().enumerate() {
            if other != number {
                let way = Way {
                    subject: &subject,
                    payload: char::from(b'a' + u8::try_from(other)?),
                };
                way.wait(target, from, &mut receiver)?;
            }
        }
    }
    Ok(())
}

struct Way<'a> {
    subject: &'a str,
    /// Tells from where it comes.
    payload: char,
}

impl Way<'_> {
    fn wait(&self, target: &Target, from: Node, receiver: &mut Stream) -> Result<()> {
        let mut publisher = peer::connect_at(target, from)?;
        let deadline = clock::now() + PATIENCE;
        let wanted = format!("\r\n{}\r\n", self.payload);
        let mut text = Vec::new();
        while !text
            .windows(wanted.len())
            .any(|part| part == wanted.as_bytes())
        {
            if clock::now() > deadline {
                bail!("messages do not come from one server to another");
            }
            write!(publisher, "PUB {} 1\r\n{}\r\n", self.subject, self.payload)?;
            peer::round_trip(&mut publisher, &mut [0; 64])?;
            text.extend_from_slice(&arrived(receiver)?);
        }
        Ok(())
    }
}

/// What arrives within a [`STEP`].
fn arrived(stream: &mut Stream) -> Result<Vec<u8>> {
    stream.set_read_timeout(STEP)?;
    let mut buffer = vec![0; 4096];
    let outcome = stream.read(&mut buffer);
    stream.set_read_timeout(PATIENCE)?;
    let bytes = match outcome {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
        outcome => {
            let bytes = outcome?;
            ensure!(bytes > 0, "the server closed the connection");
            bytes
        }
    };
    buffer.truncate(bytes);
    Ok(buffer)
}
