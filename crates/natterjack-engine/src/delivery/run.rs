//! A run: consecutive messages of one publisher that all go to the same receivers.
//!
//! Delivery works on runs, not on messages. The receivers are looked up once, every target is locked once,
//! and frames that differ only in nothing are rendered once for all targets that subscribed under the same
//! id. A frame in a run is only a set of offsets into the bytes that were read.

use natterjack_wire::client::Publish;

use super::receivers::Receivers;

/// A range of bytes in the batch's input, or in the run's own buffer of rewritten tails.
#[derive(Clone, Copy, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// Where `part`, a slice of `whole`, lies in it.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        debug_assert!(start + part.len() <= whole.len());
        Self {
            start: start as u32,
            end: (start + part.len()) as u32,
        }
    }

    fn moved(self, by: u32) -> Self {
        Self {
            start: self.start + by,
            end: self.end + by,
        }
    }

    pub(crate) fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub(crate) fn of_bytes(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// One message of a run.
///
/// What a subscriber gets is `MSG <subject> <sid> <tail>`, and the tail (`[reply] size␍␊payload␍␊`) is byte
/// for byte what the publisher sent, so it is referred to as a whole.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    /// See [`Run::subject`].
    subject: Span,
    pub(crate) reply: Span,
    /// From behind the subject to the final line end; in `Run::rewritten` if `is_rewritten`.
    pub(crate) tail: Span,
    /// Bytes of the tail before the body.
    pub(crate) tail_head_len: u32,
    /// Bytes of the header block; 0 without one.
    pub(crate) header_len: u32,
    pub(crate) is_rewritten: bool,
    /// The subject is another than the publisher's; it is in `Run::names`.
    is_renamed: bool,
}

impl Frame {
    /// The same shape, this much further on.
    fn moved(self, by: u32) -> Self {
        let subject = if self.is_renamed {
            self.subject
        } else {
            self.subject.moved(by)
        };
        Self {
            subject,
            tail: self.tail.moved(by),
            ..self
        }
    }

    /// Header and payload, in the buffer that holds the tail.
    pub(crate) fn body(&self) -> Span {
        Span {
            start: self.tail.start + self.tail_head_len,
            end: self.tail.end - 2,
        }
    }
}

/// A message without reply and header, in the shape of one that may come again: a stream of messages of one
/// subject and one size is the most common load there is, and its control lines need not be taken apart.
#[derive(Clone, Copy)]
struct Repeatable {
    /// The control line with its end.
    line: Span,
    body_len: usize,
    frame: Frame,
}

/// Bytes of mapped subjects that are kept from run to run.
const NAMES_BYTES_MAX: usize = 64 * 1024;

/// The messages collected since the receivers last changed.
pub(crate) struct Run {
    /// Who receives all of these messages.
    pub(crate) receivers: Receivers,
    /// Whether `receivers` is what the last subject matched in this batch.
    is_routed: bool,
    pub(crate) frames: Vec<Frame>,
    last_subject: Span,
    last: Option<Repeatable>,
    /// What the last subject became, in `names`, if it is not its own.
    name: Option<Span>,
    /// Subjects that mappings made.
    names: Vec<u8>,
    /// All frames have the subject of the first.
    pub(crate) has_one_subject: bool,
    pub(crate) has_headers: bool,
    pub(crate) has_replies: bool,
    /// Tails that the publisher spelled with other blanks than subscribers are sent.
    pub(crate) rewritten: Vec<u8>,
    pub(crate) body_bytes: usize,
}

impl Run {
    pub(crate) fn new() -> Self {
        Self {
            receivers: Receivers::default(),
            is_routed: false,
            frames: Vec::new(),
            last_subject: Span::default(),
            last: None,
            name: None,
            names: Vec::new(),
            has_one_subject: true,
            has_headers: false,
            has_replies: false,
            rewritten: Vec::new(),
            body_bytes: 0,
        }
    }

    /// Whether `subject` was the last one routed, in which case the receivers are known.
    #[inline]
    pub(crate) fn is_last_subject(&self, subject: &[u8], input: &[u8]) -> bool {
        self.is_routed
            && self.last_subject.len() == subject.len()
            && self.last_subject.of_bytes(input) == subject
    }

    /// The next message is not compared with the last one.
    pub(crate) fn forget_last(&mut self) {
        self.last = None;
    }

    /// Forgets who receives what: the next message is looked up again.
    pub(crate) fn forget_route(&mut self) {
        self.is_routed = false;
        self.last = None;
        self.name = None;
        if self.frames.is_empty() {
            self.names.clear();
        }
    }

    /// If the message at `start` has the control line of the last one, adds it and returns its length and the
    /// length of its body. Returns `None` also if it is incomplete or ends badly.
    #[inline]
    pub(crate) fn repeat(&mut self, input: &[u8], start: usize) -> Option<(usize, usize)> {
        let last = self.last?;
        let rest = &input[start..];
        let line = last.line.of_bytes(input);
        let body_end = line.len() + last.body_len;
        if rest.get(..line.len())? != line || rest.get(body_end..body_end + 2)? != b"\r\n" {
            return None;
        }
        if !self.receivers.is_empty() {
            self.body_bytes += last.body_len;
            self.frames
                .push(last.frame.moved(start as u32 - last.line.start));
        }
        Some((body_end + 2, last.body_len))
    }

    /// Notes that the receivers in force are those of `subject`, whose messages go out under another `name` if there
    /// is one.
    pub(crate) fn routed(&mut self, subject: &[u8], name: Option<&[u8]>, input: &[u8]) {
        self.is_routed = true;
        self.last_subject = Span::of(subject, input);
        self.name = name.map(|name| {
            let start = self.names.len() as u32;
            self.names.extend_from_slice(name);
            Span {
                start,
                end: self.names.len() as u32,
            }
        });
    }

    /// The subject that a frame goes out under.
    #[inline]
    pub(crate) fn subject<'a>(&'a self, frame: &Frame, input: &'a [u8]) -> &'a [u8] {
        let bytes = if frame.is_renamed { &self.names } else { input };
        frame.subject.of_bytes(bytes)
    }

    /// What the frame's tail lies in.
    #[inline]
    pub(crate) fn tail_source<'a>(&'a self, frame: &Frame, input: &'a [u8]) -> &'a [u8] {
        if frame.is_rewritten {
            &self.rewritten
        } else {
            input
        }
    }

    /// The subject that messages published to `subject`, the last one routed, go out under.
    pub(crate) fn name<'a>(&'a self, subject: &'a [u8]) -> &'a [u8] {
        self.name.map_or(subject, |name| name.of_bytes(&self.names))
    }

    /// Adds a message that began at `start` of the input, and in which all slices lie. If `may_repeat`, the
    /// next one is first compared with it by [`repeat`](Self::repeat).
    #[inline]
    pub(crate) fn push(
        &mut self,
        publish: &Publish<'_>,
        start: usize,
        input: &[u8],
        same_subject: bool,
        may_repeat: bool,
    ) {
        let frame = self.frame(publish, input);
        let is_plain =
            publish.reply.is_none() && publish.header_len.is_none() && !frame.is_rewritten;
        let may_repeat = may_repeat && is_plain && !self.receivers.share_connections();
        self.last = may_repeat.then(|| Repeatable {
            line: Span {
                start: start as u32,
                end: frame.body().start,
            },
            body_len: publish.body.len(),
            frame,
        });
        if self.receivers.is_empty() {
            self.rewritten.clear();
            return;
        }
        self.has_one_subject &= same_subject || self.frames.is_empty();
        self.has_headers |= frame.header_len > 0;
        self.has_replies |= publish.reply.is_some();
        self.body_bytes += publish.body.len();
        self.frames.push(frame);
    }

    fn frame(&mut self, publish: &Publish<'_>, input: &[u8]) -> Frame {
        let subject = Span::of(publish.subject, input);
        let reply = publish
            .reply
            .map_or_else(Span::default, |reply| Span::of(reply, input));
        let header_len = publish.header_len.unwrap_or(0) as u32;
        let (is_rewritten, (tail, tail_head_len)) = match canonical_tail(publish, input) {
            Some(tail) => (false, tail),
            None => (true, self.rewrite_tail(publish)),
        };
        Frame {
            subject: self.name.unwrap_or(subject),
            reply,
            tail,
            tail_head_len,
            header_len,
            is_rewritten,
            is_renamed: self.name.is_some(),
        }
    }

    /// Forgets the messages; the receivers stay known.
    pub(crate) fn clear_frames(&mut self) {
        self.frames.clear();
        self.rewritten.clear();
        if self.names.len() > NAMES_BYTES_MAX {
            self.forget_names();
        }
        self.has_one_subject = true;
        self.has_headers = false;
        self.has_replies = false;
        self.body_bytes = 0;
    }

    /// Forgets all names but the one in force.
    fn forget_names(&mut self) {
        self.last = None;
        let kept = self.name.map(|name| {
            self.names
                .copy_within(name.start as usize..name.end as usize, 0);
            Span {
                start: 0,
                end: name.end - name.start,
            }
        });
        self.names.truncate(kept.map_or(0, Span::len));
        self.name = kept;
    }

    fn rewrite_tail(&mut self, publish: &Publish<'_>) -> (Span, u32) {
        let start = self.rewritten.len();
        if let Some(reply) = publish.reply {
            self.rewritten.extend_from_slice(reply);
            self.rewritten.push(b' ');
        }
        if publish.header_len.is_some_and(|len| len > 0) {
            self.rewritten.extend_from_slice(publish.header_len_text);
            self.rewritten.push(b' ');
        }
        self.rewritten.extend_from_slice(publish.total_len_text);
        self.rewritten.extend_from_slice(b"\r\n");
        let head_len = self.rewritten.len() - start;
        self.rewritten.extend_from_slice(publish.body);
        self.rewritten.extend_from_slice(b"\r\n");
        (
            Span {
                start: start as u32,
                end: self.rewritten.len() as u32,
            },
            head_len as u32,
        )
    }
}

/// The tail as it stands in the input, if single blanks separate its parts there.
#[inline]
fn canonical_tail(publish: &Publish<'_>, input: &[u8]) -> Option<(Span, u32)> {
    if publish.header_len == Some(0) {
        // `HPUB` without a header goes out as `MSG`, which has one size only.
        return None;
    }
    let mut text_len = publish.total_len_text.len();
    let mut first = publish.total_len_text;
    if publish.header_len.is_some() {
        first = publish.header_len_text;
        text_len += first.len() + 1;
    }
    if let Some(reply) = publish.reply {
        first = reply;
        text_len += first.len() + 1;
    }
    let start = Span::of(first, input).start;
    let body = Span::of(publish.body, input);
    let head_len = body.start - start;
    let is_canonical = head_len as usize == text_len + 2
        && input[body.start as usize - 2] == b'\r'
        && input[start as usize..body.start as usize - 2]
            .iter()
            .all(|&byte| byte != b'\t');
    is_canonical.then_some((
        Span {
            start,
            end: body.end + 2,
        },
        head_len,
    ))
}

#[cfg(test)]
mod tests {
    use natterjack_wire::client::{ClientOp, Decoded, Limits, decode_client};

    use super::*;

    fn tail_of(input: &[u8]) -> (String, bool) {
        let limits = Limits {
            control_line_bytes_max: 4096,
            payload_bytes_max: 1024,
            headers: true,
        };
        let Ok(Decoded::Op {
            op: ClientOp::Publish(publish),
            ..
        }) = decode_client(input, &limits)
        else {
            panic!("not a message: {input:?}");
        };
        let mut run = Run::new();
        let frame = run.frame(&publish, input);
        let source = if frame.is_rewritten {
            &run.rewritten[..]
        } else {
            input
        };
        assert_eq!(frame.body().of_bytes(source), publish.body);
        (
            String::from_utf8_lossy(frame.tail.of_bytes(source)).into_owned(),
            frame.is_rewritten,
        )
    }

    #[test]
    fn tails_are_taken_as_they_stand_when_spelled_like_a_delivery() {
        assert_eq!(
            tail_of(b"PUB foo 2\r\nhi\r\n"),
            ("2\r\nhi\r\n".into(), false)
        );
        assert_eq!(
            tail_of(b"PUB foo bar 2\r\nhi\r\n"),
            ("bar 2\r\nhi\r\n".into(), false)
        );
        let (_, is_rewritten) = tail_of(b"HPUB foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
        assert!(!is_rewritten);
    }

    #[test]
    fn other_spellings_are_rewritten() {
        assert_eq!(
            tail_of(b"PUB foo bar  2\r\nhi\r\n"),
            ("bar 2\r\nhi\r\n".into(), true)
        );
        assert_eq!(
            tail_of(b"PUB foo\tbar\t2 \r\nhi\r\n"),
            ("bar 2\r\nhi\r\n".into(), true)
        );
        assert_eq!(
            tail_of(b"PUB foo bar 2\nhi\r\n"),
            ("bar 2\r\nhi\r\n".into(), true)
        );
        assert_eq!(
            tail_of(b"HPUB foo 0 2\r\nhi\r\n"),
            ("2\r\nhi\r\n".into(), true)
        );
    }
}
