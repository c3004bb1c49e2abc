//! Which bytes subjects may begin with to be worth a closer look: an answer in a nanosecond for all others.

/// A set of first bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FirstBytes([u64; 4]);

impl FirstBytes {
    /// Adds what subjects that match a pattern begin with.
    pub(crate) fn add(&mut self, pattern: &[u8]) {
        match pattern {
            [b'*' | b'>'] | [b'*' | b'>', b'.', ..] => self.0 = [u64::MAX; 4],
            [first, ..] => self.0[usize::from(first / 64)] |= 1 << (first % 64),
            [] => {}
        }
    }

    /// Whether a subject begins with one of them.
    #[inline]
    pub(crate) fn may_begin(&self, subject: &[u8]) -> bool {
        let has = |first: &u8| self.0[usize::from(first / 64)] >> (first % 64) & 1 == 1;
        subject.first().is_some_and(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_say_what_subjects_begin_with() {
        let of = |patterns: &[&str]| {
            let mut first_bytes = FirstBytes::default();
            patterns
                .iter()
                .for_each(|pattern| first_bytes.add(pattern.as_bytes()));
            first_bytes
        };
        let some = of(&["$SYS.>", "b", "\u{ff}"]);
        assert!(some.may_begin(b"$x") && some.may_begin(b"b") && some.may_begin(b"\xc3"));
        assert!(!some.may_begin(b"a.b") && !some.may_begin(b""));
        assert!(of(&["*.b"]).may_begin(b"a") && of(&[">"]).may_begin(b"\xff"));
        assert!(!of(&["*b"]).may_begin(b"b"), "no wildcard");
    }
}
