//! The floor: a process that copies one socket to another and does nothing else.
//!
//! What it spends is what the kernel takes for the bytes alone, so no server can be cheaper per message
//! on this machine without doing less than one read and one write for each buffer.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use anyhow::{Context as _, Result};

use crate::servers::READY;

/// Large enough that system calls do not dominate, small enough to stay in the second-level cache; what natterjackd reads
/// at once, too.
const BUFFER_BYTES: usize = 256 * 1024;

/// Accepts two connections and copies what the second sends to the first, until it closes.
pub(crate) fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listening")?;
    writeln!(std::io::stderr(), "{READY}{}", listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let (mut sender, _) = listener.accept()?;
    receiver.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = sender.read(&mut buffer)?;
        if bytes == 0 {
            return Ok(());
        }
        receiver.write_all(&buffer[..bytes])?;
    }
}
