//! The bytes one receiver is sent for a run, and the parts of them that targets can share.

use std::io::IoSlice;

use bytes::Bytes;

use super::queue::Queue;
use super::run::{Frame, Run};
use super::segments::Segments;
use super::subscription::Subscription;
use super::transport::{SliceWrite, Slices};
use crate::exchange::Transform;
use crate::limits::BODY_PIECE_BYTES;
use crate::mesh::link::RouteLink;

/// Reused from run to run, so that rendering allocates nothing once the buffers have grown.
#[derive(Default)]
pub(crate) struct Renderer {
    /// Headers, small bodies and line ends.
    block: Vec<u8>,
    pieces: Vec<Piece>,
    /// Where the last piece ends in `block`.
    block_start: usize,
    /// Begin of a line while all frames have one subject.
    prefix: Vec<u8>,
    /// What `block` and `pieces` were rendered for; `None` if for something that no other target wants.
    key: Option<Key>,
    /// The target's id or account.
    token: Vec<u8>,
    /// What a subject is renamed to.
    name: Vec<u8>,
    messages: usize,
    payload_bytes: usize,
    bytes: usize,
    shared_block: Option<Bytes>,
    /// Copies of large bodies that some target's queue needed, by frame.
    shared_bodies: Vec<Option<Bytes>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    is_peer: bool,
    headers: bool,
    /// Where the transform is that subjects went through; a run outlives no transform.
    rename: Option<usize>,
}

/// What makes a difference to the bytes a receiver is sent.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    Subscription {
        sid: &'a [u8],
        headers: bool,
        rename: Option<&'a Transform>,
    },
    Peer {
        /// Without on connections that are for one account.
        account: Option<&'a [u8]>,
        headers: bool,
    },
}

impl<'a> Target<'a> {
    pub(crate) fn of(subscription: &'a Subscription) -> Self {
        Self::Subscription {
            sid: subscription.sid(),
            headers: subscription.outbox().headers(),
            rename: subscription.rename(),
        }
    }

    pub(crate) fn peer(link: &RouteLink, account: &'a str) -> Self {
        Self::Peer {
            account: link.account_token(account),
            headers: link.outbox().headers(),
        }
    }

    fn headers(self) -> bool {
        match self {
            Self::Subscription { headers, .. } | Self::Peer { headers, .. } => headers,
        }
    }

    fn rename(self) -> Option<&'a Transform> {
        match self {
            Self::Subscription { rename, .. } => rename,
            Self::Peer { .. } => None,
        }
    }

    /// What its lines name besides subjects.
    fn token(self) -> &'a [u8] {
        match self {
            Self::Subscription { sid, .. } => sid,
            Self::Peer { account, .. } => account.unwrap_or_default(),
        }
    }

    fn key(self, has_headers: bool) -> Key {
        Key {
            is_peer: matches!(self, Self::Peer { .. }),
            // Without headers in the run it makes no difference whether the target knows them.
            headers: self.headers() || !has_headers,
            rename: self
                .rename()
                .map(|rename| core::ptr::from_ref(rename).addr()),
        }
    }

    /// Begins a line: `MSG <subject> <sid> `, `RMSG <account> <subject> `.
    #[inline]
    fn push_prefix(self, out: &mut Vec<u8>, has_header: bool, subject: &[u8]) {
        match self {
            Self::Subscription { sid, .. } => {
                out.extend_from_slice(if has_header { &b"HMSG "[..] } else { b"MSG " });
                out.extend_from_slice(subject);
                out.push(b' ');
                out.extend_from_slice(sid);
            }
            Self::Peer { account, .. } => {
                out.extend_from_slice(if has_header { &b"HMSG "[..] } else { b"RMSG " });
                if let Some(account) = account {
                    out.extend_from_slice(account);
                    out.push(b' ');
                }
                out.extend_from_slice(subject);
            }
        }
        out.push(b' ');
    }
}

/// How much a rendering is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Amount {
    pub(crate) messages: usize,
    pub(crate) payload_bytes: usize,
    /// Everything that is written.
    pub(crate) bytes: usize,
}

#[derive(Clone, Copy)]
enum Piece {
    Block {
        start: usize,
        end: usize,
    },
    /// A large body, left where it was read.
    Body {
        frame: usize,
        start: usize,
        end: usize,
    },
}

impl Piece {
    fn len(self) -> usize {
        match self {
            Self::Block { start, end } | Self::Body { start, end, .. } => end - start,
        }
    }
}

/// The bytes a run lies in.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) input: &'a [u8],
    /// The same bytes, if they can be shared without copying.
    pub(crate) shared: Option<&'a Bytes>,
}

/// A run rendered for one subscription.
pub(crate) struct Rendering<'a> {
    renderer: &'a mut Renderer,
    source: Source<'a>,
    /// Other targets get the very same bytes, so a copy for a queue is made once for all.
    is_shared: bool,
}

impl Renderer {
    /// Starts a new run: nothing rendered before can be used again.
    pub(crate) fn start_run(&mut self) {
        self.key = None;
        self.shared_bodies.clear();
    }

    /// Renders all frames of a run, or finds them rendered already for another target.
    pub(crate) fn render_run<'a>(
        &'a mut self,
        run: &Run,
        source: Source<'a>,
        target: Target<'_>,
        is_shared: bool,
    ) -> Rendering<'a> {
        let key = target.key(run.has_headers);
        if self.key != Some(key) || self.token != target.token() {
            self.render(run, source, target, 0..run.frames.len());
            self.key = Some(key);
            self.token.clear();
            self.token.extend_from_slice(target.token());
        }
        Rendering {
            renderer: self,
            source,
            is_shared,
        }
    }

    /// Renders some frames of a run for one target.
    pub(crate) fn render_frames<'a>(
        &'a mut self,
        run: &Run,
        source: Source<'a>,
        target: Target<'_>,
        frames: impl Iterator<Item = usize>,
    ) -> Rendering<'a> {
        self.key = None;
        self.render(run, source, target, frames);
        Rendering {
            renderer: self,
            source,
            is_shared: false,
        }
    }

    /// Renders frames for a peer, each with the names of the queue groups of which a member each is to get it there.
    pub(crate) fn render_directed<'a, 'q, Q: Iterator<Item = &'q [u8]>>(
        &'a mut self,
        run: &Run,
        source: Source<'a>,
        target: Target<'_>,
        frames: impl Iterator<Item = (usize, Q)>,
    ) -> Rendering<'a> {
        self.key = None;
        self.start();
        for (index, queues) in frames {
            let frame = &run.frames[index];
            let subject = run.subject(frame, source.input);
            let has_header = frame.header_len > 0 && target.headers();
            target.push_prefix(&mut self.block, has_header, subject);
            let first_len = self.push_queues(frame, queues, source.input);
            self.messages += 1;
            if frame.header_len > 0 && !has_header {
                let is_told = first_len.is_some();
                self.push_stripped(run, frame, source.input, !is_told);
            } else {
                self.push_tail(run, index, first_len.unwrap_or(0), source.input);
            }
        }
        self.finish();
        Rendering {
            renderer: self,
            source,
            is_shared: false,
        }
    }

    /// Adds the names of queue groups, if there are any, and before them the reply subject. Returns how much of the
    /// frame's tail has been said by that.
    #[inline]
    fn push_queues<'q>(
        &mut self,
        frame: &Frame,
        queues: impl Iterator<Item = &'q [u8]>,
        input: &[u8],
    ) -> Option<usize> {
        let mut queues = queues.peekable();
        queues.peek()?;
        let reply = frame.reply.of_bytes(input);
        if reply.is_empty() {
            self.block.push(b'|');
        } else {
            self.block.extend_from_slice(b"+ ");
            self.block.extend_from_slice(reply);
        }
        for queue in queues {
            self.block.push(b' ');
            self.block.extend_from_slice(queue);
        }
        self.block.push(b' ');
        Some(if reply.is_empty() { 0 } else { reply.len() + 1 })
    }

    fn render(
        &mut self,
        run: &Run,
        source: Source<'_>,
        target: Target<'_>,
        frames: impl Iterator<Item = usize>,
    ) {
        let rename = target.rename();
        let mut name = std::mem::take(&mut self.name);
        self.start();
        let simple_prefix = run.has_one_subject && !run.has_headers;
        if simple_prefix {
            self.prefix.clear();
            if let Some(frame) = run.frames.first() {
                let subject = renamed(run.subject(frame, source.input), rename, &mut name);
                target.push_prefix(&mut self.prefix, false, subject);
            }
        }
        for index in frames {
            let frame = &run.frames[index];
            self.messages += 1;
            if simple_prefix {
                self.block.extend_from_slice(&self.prefix);
            } else {
                let has_header = frame.header_len > 0 && target.headers();
                let subject = renamed(run.subject(frame, source.input), rename, &mut name);
                target.push_prefix(&mut self.block, has_header, subject);
                if frame.header_len > 0 && !has_header {
                    self.push_stripped(run, frame, source.input, true);
                    continue;
                }
            }
            self.push_tail(run, index, 0, source.input);
        }
        self.finish();
        self.name = name;
    }

    fn start(&mut self) {
        self.block.clear();
        self.pieces.clear();
        self.shared_block = None;
        self.messages = 0;
        self.payload_bytes = 0;
        self.bytes = 0;
        self.block_start = 0;
    }

    /// Adds what is behind the beginning of a line, without the first bytes of it.
    #[inline]
    fn push_tail(&mut self, run: &Run, index: usize, skip: usize, input: &[u8]) {
        let frame = &run.frames[index];
        let source = run.tail_source(frame, input);
        let body = frame.body();
        self.payload_bytes += body.len();
        if body.len() < BODY_PIECE_BYTES || frame.is_rewritten {
            self.block
                .extend_from_slice(&frame.tail.of_bytes(source)[skip..]);
            return;
        }
        let head = frame.tail.start as usize + skip..body.start as usize;
        self.block.extend_from_slice(&source[head]);
        self.pieces.push(Piece::Block {
            start: self.block_start,
            end: self.block.len(),
        });
        self.block_start = self.block.len();
        self.bytes += body.len();
        self.pieces.push(Piece::Body {
            frame: index,
            start: body.start as usize,
            end: body.end as usize,
        });
        self.block.extend_from_slice(b"\r\n");
    }

    /// Adds what is behind the beginning of a line for a target that never announced headers: the payload alone,
    /// with its own size.
    fn push_stripped(&mut self, run: &Run, frame: &Frame, input: &[u8], with_reply: bool) {
        if with_reply && frame.reply.len() > 0 {
            self.block.extend_from_slice(frame.reply.of_bytes(input));
            self.block.push(b' ');
        }
        let body = frame.body().of_bytes(run.tail_source(frame, input));
        let payload = &body[frame.header_len as usize..];
        self.payload_bytes += payload.len();
        self.block
            .extend_from_slice(natterjack_wire::client::decimal(payload.len()).as_ref());
        self.block.extend_from_slice(b"\r\n");
        self.block.extend_from_slice(payload);
        self.block.extend_from_slice(b"\r\n");
    }

    fn finish(&mut self) {
        if self.block_start < self.block.len() {
            self.pieces.push(Piece::Block {
                start: self.block_start,
                end: self.block.len(),
            });
        }
        self.bytes += self.block.len();
    }
}

/// A subject as a subscription is told it.
#[inline]
fn renamed<'a>(subject: &'a [u8], rename: Option<&Transform>, name: &'a mut Vec<u8>) -> &'a [u8] {
    let Some(rename) = rename else {
        return subject;
    };
    name.clear();
    rename.rename(subject, name);
    name
}

impl Rendering<'_> {
    pub(crate) fn amount(&self) -> Amount {
        Amount {
            messages: self.messages(),
            payload_bytes: self.payload_bytes(),
            bytes: self.bytes(),
        }
    }

    pub(crate) fn messages(&self) -> usize {
        self.renderer.messages
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.renderer.payload_bytes
    }

    pub(crate) fn bytes(&self) -> usize {
        self.renderer.bytes
    }

    /// Hands the bytes after the first `skip` to `write`, or returns `None` when there are none left.
    pub(crate) fn slices(
        &self,
        mut skip: usize,
        write: &mut dyn FnMut(&[IoSlice<'_>]) -> std::io::Result<usize>,
    ) -> Option<SliceWrite> {
        let mut gathered = Slices::new();
        for &piece in &self.renderer.pieces {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let bytes = match piece {
                Piece::Block { start, end } => &self.renderer.block[start + skip..end],
                Piece::Body { start, end, .. } => &self.source.input[start + skip..end],
            };
            skip = 0;
            if !gathered.push(bytes) {
                break;
            }
        }
        gathered.write(write)
    }

    /// Puts the bytes after the first `skip` into a queue.
    pub(crate) fn queue_rest(&mut self, mut skip: usize, queue: &mut Queue, spare: &Segments) {
        for index in 0..self.renderer.pieces.len() {
            let piece = self.renderer.pieces[index];
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            match piece {
                Piece::Block { start, end } => self.queue_block(start + skip, end, queue, spare),
                Piece::Body { start, end, .. }
                    if !self.is_shared && self.source.shared.is_none() =>
                {
                    queue.push_copy(&self.source.input[start + skip..end], spare);
                }
                Piece::Body { frame, start, end } => {
                    let body = self.shared_body(frame, start, end, skip);
                    queue.push_shared(body);
                }
            }
            skip = 0;
        }
    }

    fn queue_block(&mut self, start: usize, end: usize, queue: &mut Queue, spare: &Segments) {
        if !self.is_shared || end - start < BODY_PIECE_BYTES {
            queue.push_copy(&self.renderer.block[start..end], spare);
            return;
        }
        let renderer = &mut *self.renderer;
        let block = renderer
            .shared_block
            .get_or_insert_with(|| Bytes::copy_from_slice(&renderer.block));
        queue.push_shared(block.slice(start..end));
    }

    fn shared_body(&mut self, frame: usize, start: usize, end: usize, skip: usize) -> Bytes {
        if let Some(shared) = self.source.shared {
            return shared.slice(start + skip..end);
        }
        let body = &self.source.input[start..end];
        let bodies = &mut self.renderer.shared_bodies;
        if bodies.len() <= frame {
            bodies.resize(frame + 1, None);
        }
        bodies[frame]
            .get_or_insert_with(|| Bytes::copy_from_slice(body))
            .slice(skip..)
    }
}
