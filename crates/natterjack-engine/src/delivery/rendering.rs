//! The bytes one subscription is sent for a run, and the parts of them that targets can share.

use std::io::IoSlice;

use bytes::Bytes;

use super::queue::Queue;
use super::run::{Frame, Run};
use super::subscription::Subscription;
use super::transport::{SliceWrite, Slices};
use crate::exchange::Transform;
use crate::limits::BODY_PIECE_BYTES;

/// Reused from run to run, so that rendering allocates nothing once the buffers have grown.
#[derive(Default)]
pub(crate) struct Renderer {
    /// Headers, small bodies and line ends.
    block: Vec<u8>,
    pieces: Vec<Piece>,
    /// `MSG <subject> <sid> ` while all frames have one subject.
    prefix: Vec<u8>,
    /// What `block` and `pieces` were rendered for; `None` if for something that no other target wants.
    key: Option<Key>,
    sid: Vec<u8>,
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
    headers: bool,
    /// Where the transform is that subjects went through; a run outlives no transform.
    rename: Option<usize>,
}

/// What makes a difference to the bytes a subscription is sent.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    sid: &'a [u8],
    headers: bool,
    rename: Option<&'a Transform>,
}

impl<'a> Target<'a> {
    pub(crate) fn of(subscription: &'a Subscription) -> Self {
        Self {
            sid: subscription.sid(),
            headers: subscription.outbox().headers(),
            rename: subscription.rename(),
        }
    }
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
        // Without headers in the run it makes no difference whether the target knows them.
        let key = Key {
            headers: target.headers || !run.has_headers,
            rename: target
                .rename
                .map(|rename| core::ptr::from_ref(rename).addr()),
        };
        if self.key != Some(key) || self.sid != target.sid {
            self.render(run, source, target, 0..run.frames.len());
            self.key = Some(key);
            self.sid.clear();
            self.sid.extend_from_slice(target.sid);
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

    fn render(
        &mut self,
        run: &Run,
        source: Source<'_>,
        target: Target<'_>,
        frames: impl Iterator<Item = usize>,
    ) {
        let Target {
            sid,
            headers,
            rename,
        } = target;
        let mut name = std::mem::take(&mut self.name);
        self.block.clear();
        self.pieces.clear();
        self.shared_block = None;
        self.messages = 0;
        self.payload_bytes = 0;
        self.bytes = 0;
        let simple_prefix = run.has_one_subject && !run.has_headers;
        if simple_prefix {
            self.prefix.clear();
            if let Some(frame) = run.frames.first() {
                let subject = renamed(run.subject(frame, source.input), rename, &mut name);
                push_prefix(&mut self.prefix, b"MSG ", subject, sid);
            }
        }
        let mut block_start = 0;
        for index in frames {
            let frame = &run.frames[index];
            let tail_source = if frame.is_rewritten {
                &run.rewritten
            } else {
                source.input
            };
            self.messages += 1;
            if simple_prefix {
                self.block.extend_from_slice(&self.prefix);
            } else {
                let is_stripped = frame.header_len > 0 && !headers;
                if is_stripped {
                    let subject = renamed(run.subject(frame, source.input), rename, &mut name);
                    self.render_stripped(frame, subject, source.input, tail_source, sid);
                    continue;
                }
                let op: &[u8] = if frame.header_len > 0 {
                    b"HMSG "
                } else {
                    b"MSG "
                };
                let subject = renamed(run.subject(frame, source.input), rename, &mut name);
                push_prefix(&mut self.block, op, subject, sid);
            }
            let body = frame.body();
            self.payload_bytes += body.len();
            if body.len() < BODY_PIECE_BYTES || frame.is_rewritten {
                self.block
                    .extend_from_slice(frame.tail.of_bytes(tail_source));
            } else {
                let head = frame.tail.start as usize..body.start as usize;
                self.block.extend_from_slice(&tail_source[head]);
                self.pieces.push(Piece::Block {
                    start: block_start,
                    end: self.block.len(),
                });
                block_start = self.block.len();
                self.bytes += body.len();
                self.pieces.push(Piece::Body {
                    frame: index,
                    start: body.start as usize,
                    end: body.end as usize,
                });
                self.block.extend_from_slice(b"\r\n");
            }
        }
        if block_start < self.block.len() {
            self.pieces.push(Piece::Block {
                start: block_start,
                end: self.block.len(),
            });
        }
        self.bytes += self.block.len();
        self.name = name;
    }

    /// For a target that never announced headers: the payload alone, with its own size.
    fn render_stripped(
        &mut self,
        frame: &Frame,
        subject: &[u8],
        input: &[u8],
        tail_source: &[u8],
        sid: &[u8],
    ) {
        push_prefix(&mut self.block, b"MSG ", subject, sid);
        if frame.reply.len() > 0 {
            self.block.extend_from_slice(frame.reply.of_bytes(input));
            self.block.push(b' ');
        }
        let payload = &frame.body().of_bytes(tail_source)[frame.header_len as usize..];
        self.payload_bytes += payload.len();
        self.block
            .extend_from_slice(natterjack_wire::client::decimal(payload.len()).as_ref());
        self.block.extend_from_slice(b"\r\n");
        self.block.extend_from_slice(payload);
        self.block.extend_from_slice(b"\r\n");
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

fn push_prefix(out: &mut Vec<u8>, op: &[u8], subject: &[u8], sid: &[u8]) {
    out.extend_from_slice(op);
    out.extend_from_slice(subject);
    out.push(b' ');
    out.extend_from_slice(sid);
    out.push(b' ');
}

impl Rendering<'_> {
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
    pub(crate) fn queue_rest(&mut self, mut skip: usize, queue: &mut Queue) {
        for index in 0..self.renderer.pieces.len() {
            let piece = self.renderer.pieces[index];
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            match piece {
                Piece::Block { start, end } => self.queue_block(start + skip, end, queue),
                Piece::Body { frame, start, end } => {
                    let body = self.shared_body(frame, start, end, skip);
                    queue.push_shared(body);
                }
            }
            skip = 0;
        }
    }

    fn queue_block(&mut self, start: usize, end: usize, queue: &mut Queue) {
        if !self.is_shared || end - start < BODY_PIECE_BYTES {
            queue.push_copy(&self.renderer.block[start..end]);
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
        if !self.is_shared {
            return Bytes::copy_from_slice(&body[skip..]);
        }
        let bodies = &mut self.renderer.shared_bodies;
        if bodies.len() <= frame {
            bodies.resize(frame + 1, None);
        }
        bodies[frame]
            .get_or_insert_with(|| Bytes::copy_from_slice(body))
            .slice(skip..)
    }
}
