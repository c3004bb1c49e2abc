//! The bytes a publisher sends, built once before anything is timed.

use crate::cells::Subjects;

/// How many different frames are prepared when subjects are random: enough that a publisher going round
/// in them does not look like a pattern, few enough to build in no time.
const RANDOM_FRAMES: usize = 400_000;

/// The same subjects in every run and for every server.
const SEED: u64 = 0x6e61_7474_6572;

/// PUB frames, all of the same length, and what the receivers get for each.
#[derive(Debug)]
pub(super) struct Frames {
    /// The frames one after the other.
    bytes: Vec<u8>,
    /// Length of each PUB frame.
    pub(super) frame_bytes: usize,
    /// Length of the MSG frame a subscriber receives for it.
    pub(super) delivered_bytes: usize,
    /// What a receiver subscribes to, subject and sid, one line each.
    pub(super) subscriptions: Vec<(String, String)>,
}

impl Frames {
    /// Frames for each of the publishers: the same for all, unless each has a subject of its own.
    pub(super) fn of_publishers(
        publishers: u32,
        subjects: Subjects,
        payload_bytes: usize,
        batch_bytes: usize,
    ) -> Vec<Self> {
        if subjects != Subjects::OneEach {
            return vec![Self::new(subjects, payload_bytes, batch_bytes)];
        }
        let payload = vec![b'x'; payload_bytes];
        let count = batch_bytes.div_ceil(payload_bytes.max(1));
        (0..publishers)
            .map(|number| {
                let subject = (format!("bench.own.{number:03}"), "1".to_owned());
                Self::build(vec![subject.clone()], count, &payload, || subject.clone())
            })
            .collect()
    }

    /// Frames for a set of subjects. One literal subject still gets many frames, `batch_bytes` of them
    /// at least, so that one write can carry them.
    pub(super) fn new(subjects: Subjects, payload_bytes: usize, batch_bytes: usize) -> Self {
        let payload = vec![b'x'; payload_bytes];
        let mut random = fastrand::Rng::with_seed(SEED);
        match subjects {
            Subjects::One | Subjects::OneEach => {
                let count = batch_bytes.div_ceil(payload_bytes).max(1);
                let subscriptions = vec![("bench.one".to_owned(), "1".to_owned())];
                Self::build(subscriptions, count, &payload, || {
                    ("bench.one".to_owned(), "1".to_owned())
                })
            }
            Subjects::RandomUnderOneWildcard { count } => {
                let subscriptions = vec![("dev.>".to_owned(), "1".to_owned())];
                Self::build(subscriptions, RANDOM_FRAMES, &payload, || {
                    (format!("dev.{:05}", random.u32(..count)), "1".to_owned())
                })
            }
            Subjects::RandomOverManyWildcards { count } => {
                // Sids of the same length keep the delivered frames at the same length.
                let sid = |number: u32| (100_000 + number).to_string();
                let subscriptions = (0..count)
                    .map(|number| (format!("w.{number:05}.*"), sid(number)))
                    .collect();
                Self::build(subscriptions, RANDOM_FRAMES, &payload, || {
                    let number = random.u32(..count);
                    (format!("w.{number:05}.x"), sid(number))
                })
            }
        }
    }

    fn build(
        subscriptions: Vec<(String, String)>,
        count: usize,
        payload: &[u8],
        mut next: impl FnMut() -> (String, String),
    ) -> Self {
        let mut bytes = Vec::new();
        let (mut frame_bytes, mut delivered_bytes) = (0, 0);
        for _ in 0..count {
            let start = bytes.len();
            let (subject, sid) = next();
            bytes.extend_from_slice(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
            bytes.extend_from_slice(payload);
            bytes.extend_from_slice(b"\r\n");
            let this_bytes = bytes.len() - start;
            assert!(
                frame_bytes == 0 || frame_bytes == this_bytes,
                "frames differ in length"
            );
            frame_bytes = this_bytes;
            // "PUB subject size" becomes "MSG subject sid size" (client protocol, MSG).
            delivered_bytes = frame_bytes + sid.len() + 1;
        }
        Self {
            bytes,
            frame_bytes,
            delivered_bytes,
            subscriptions,
        }
    }

    /// Puts lines as a service logs them in place of the payloads.
    pub(super) fn write_text(&mut self) {
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut lines = Vec::new();
        for frame in self.bytes.chunks_exact_mut(self.frame_bytes) {
            let head_bytes = frame
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            let payload_bytes = frame.len() - head_bytes - b"\r\n".len();
            lines.clear();
            while lines.len() < payload_bytes {
                write_line(&mut lines, &mut random);
            }
            frame[head_bytes..head_bytes + payload_bytes].copy_from_slice(&lines[..payload_bytes]);
        }
    }

    /// How many frames are prepared.
    pub(super) fn count(&self) -> usize {
        self.bytes.len() / self.frame_bytes
    }

    /// Up to `limit` frames from a position in the ring of frames, as bytes, without wrapping.
    pub(super) fn slice(&self, position: usize, limit: usize) -> &[u8] {
        let frames = limit.min(self.count() - position);
        &self.bytes[position * self.frame_bytes..(position + frames) * self.frame_bytes]
    }
}

fn write_line(lines: &mut Vec<u8>, random: &mut fastrand::Rng) {
    const PATHS: [&str; 4] = ["/orders", "/orders/pending", "/customers", "/stock"];
    let line = format!(
        "{{\"node\":\"web{:03}\",\"request\":\"{:016x}\",\"path\":\"{}\",\"status\":{},\"microseconds\":{}}}\n",
        random.u32(..200),
        random.u64(..),
        PATHS[random.usize(..PATHS.len())],
        if random.u32(..20) == 0 { 404 } else { 200 },
        random.u32(100..100_000),
    );
    lines.extend_from_slice(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::Frames;
    use crate::cells::Subjects;

    #[test]
    fn frames_are_whole_and_of_one_length() {
        let frames = Frames::new(Subjects::One, 16, 1000);
        assert_eq!(
            frames.slice(0, 1),
            b"PUB bench.one 16\r\nxxxxxxxxxxxxxxxx\r\n"
        );
        assert_eq!(
            frames.delivered_bytes,
            b"MSG bench.one 1 16\r\nxxxxxxxxxxxxxxxx\r\n".len()
        );
        assert_eq!(
            frames.slice(frames.count() - 1, 5).len(),
            frames.frame_bytes
        );
    }

    #[test]
    fn text_changes_payloads_and_nothing_else() {
        let plain = Frames::new(Subjects::One, 128, 1000);
        let mut text = Frames::new(Subjects::One, 128, 1000);
        text.write_text();
        assert_eq!(text.bytes.len(), plain.bytes.len());
        let head = b"PUB bench.one 128\r\n";
        let payload = |frame: usize| {
            let frame = text.slice(frame, 1);
            assert!(frame.starts_with(head) && frame.ends_with(b"\r\n"));
            frame[head.len()..].to_vec()
        };
        assert!(payload(0).starts_with(b"{\"node\":\"web"));
        assert_ne!(payload(0), payload(1));
    }

    #[test]
    fn each_random_subject_has_its_own_subscription() {
        let count = 100_000;
        let frames = Frames::new(Subjects::RandomOverManyWildcards { count }, 16, 1000);
        assert_eq!(frames.subscriptions.len(), 100_000);
        assert_eq!(
            frames.subscriptions[42],
            ("w.00042.*".to_owned(), "100042".to_owned())
        );
        assert!(frames.slice(7, 1).starts_with(b"PUB w."));
        assert_eq!(
            frames.delivered_bytes,
            b"MSG w.00042.x 100042 16\r\nxxxxxxxxxxxxxxxx\r\n".len()
        );
    }
}
