//! What a subject is: tokens, validity, and the rule by which a pattern matches a subject.
//!
//! These functions are the plain reading of the rules and the oracle the index is tested against. Nothing here
//! knows about subscribers; the fast way from a subject to its subscribers is [`crate::Index`].

use crate::shape::Shape;

/// The byte between two tokens.
pub(crate) const SEPARATOR: u8 = b'.';
/// The token that stands for exactly one token of a subject.
const ONE_TOKEN: &[u8] = b"*";
/// The token that stands for one or more tokens, all to the end of a subject.
const ALL_REMAINING: &[u8] = b">";

/// Whether a subscription may ask for `pattern`: no empty token, and `>` only as the last token.
///
/// `*` and `>` are wildcards only as whole tokens, so `foo*` and `>>` are literals and valid anywhere. Tokens may hold
/// any byte but the separator: keeping blanks and line ends out is the parser's work
/// (client protocol, "Subjects and queues"; nats-server `IsValidSubject`). Takes time linear in the length.
#[must_use]
pub fn is_valid_pattern(pattern: &[u8]) -> bool {
    let mut tokens = tokens(pattern).peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() || (token == ALL_REMAINING && tokens.peek().is_some()) {
            return false;
        }
    }
    true
}

/// Whether no token of `subject` is a wildcard. Does not look for empty tokens.
///
/// Takes time linear in the length.
#[must_use]
pub fn is_literal(subject: &[u8]) -> bool {
    // Most subjects hold neither byte at all, and that is one vectorised scan.
    memchr::memchr2(b'*', b'>', subject).is_none()
        || tokens(subject).all(|token| !is_wildcard(token))
}

/// Whether a publisher that asked for pedantic checks may publish to `subject`: no empty token, no wildcard token.
///
/// Other publishers are not checked: to them wildcards are plain text and a subject with empty tokens reaches nobody
/// (client protocol, "Subjects and queues"; nats-server `IsValidLiteralSubject`). Takes time linear in the length.
#[must_use]
pub fn is_valid_publish_subject(subject: &[u8]) -> bool {
    !Shape::of(subject).has_empty_token && is_literal(subject)
}

/// Whether a subscription to `pattern` receives what is published to `subject`.
///
/// Wildcards in `subject` are plain text: `foo.*` as a subject is matched by the patterns `foo.*` and `foo.>`, not by
/// `foo.bar`. An invalid pattern matches nothing and a subject with an empty token is matched by nothing. This is the
/// slow and obvious rule, linear in both lengths; [`crate::Index`] answers for many patterns at once.
#[must_use]
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    if !is_valid_pattern(pattern) || tokens(subject).any(<[u8]>::is_empty) {
        return false;
    }
    let mut subject_tokens = tokens(subject);
    for pattern_token in tokens(pattern) {
        let Some(subject_token) = subject_tokens.next() else {
            return false;
        };
        match pattern_token {
            ALL_REMAINING => return true,
            ONE_TOKEN => {}
            literal if literal == subject_token => {}
            _ => return false,
        }
    }
    subject_tokens.next().is_none()
}

/// Whether at least one subject is matched by both patterns.
///
/// A permission that denies `a.*.c` must also stop a subscription to `a.b.>`: this is the question to ask. An invalid
/// pattern overlaps with nothing. Takes time linear in both lengths.
#[must_use]
pub fn overlaps(left: &[u8], right: &[u8]) -> bool {
    if !is_valid_pattern(left) || !is_valid_pattern(right) {
        return false;
    }
    let mut left_tokens = tokens(left);
    let mut right_tokens = tokens(right);
    loop {
        match (left_tokens.next(), right_tokens.next()) {
            (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(ALL_REMAINING), Some(_)) | (Some(_), Some(ALL_REMAINING)) => return true,
            (Some(ONE_TOKEN), Some(_)) | (Some(_), Some(ONE_TOKEN)) => {}
            (Some(left_token), Some(right_token)) if left_token == right_token => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// The tokens of a subject or pattern, in order. An empty subject has one empty token.
pub(crate) fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> {
    subject.split(|&byte| byte == SEPARATOR)
}

/// One token of a pattern with its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Text to be equal to.
    Literal(&'a [u8]),
    /// `*`: any one token.
    OneToken,
    /// `>`: one or more tokens to the end.
    AllRemaining,
}

impl<'a> Step<'a> {
    /// How the step is written.
    pub(crate) fn token(self) -> &'a [u8] {
        match self {
            Self::Literal(token) => token,
            Self::OneToken => ONE_TOKEN,
            Self::AllRemaining => ALL_REMAINING,
        }
    }
}

/// What `token` asks for where it stands in a pattern.
pub(crate) fn step(token: &[u8]) -> Step<'_> {
    match token {
        ONE_TOKEN => Step::OneToken,
        ALL_REMAINING => Step::AllRemaining,
        literal => Step::Literal(literal),
    }
}

fn is_wildcard(token: &[u8]) -> bool {
    step(token) != Step::Literal(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_pattern(pattern: &str, valid: bool, literal: bool) {
        assert_eq!(
            is_valid_pattern(pattern.as_bytes()),
            valid,
            "validity of {pattern:?}"
        );
        assert_eq!(
            is_literal(pattern.as_bytes()),
            literal,
            "literalness of {pattern:?}"
        );
        assert_eq!(
            is_valid_publish_subject(pattern.as_bytes()),
            valid && literal,
            "as a pedantic publish subject: {pattern:?}"
        );
    }

    #[test]
    fn validity() {
        check_pattern("foo", true, true);
        check_pattern("foo.bar", true, true);
        check_pattern("foo.*", true, false);
        check_pattern("*", true, false);
        check_pattern(">", true, false);
        check_pattern("*.*.>", true, false);
        check_pattern("foo*", true, true);
        check_pattern("*foo.bar", true, true);
        check_pattern(">>", true, true);
        check_pattern(">>.foo", true, true);
        check_pattern("foo.>bar", true, true);
        check_pattern("**", true, true);
        check_pattern("", false, true);
        check_pattern(".", false, true);
        check_pattern(".foo", false, true);
        check_pattern("foo.", false, true);
        check_pattern("foo..bar", false, true);
        check_pattern(">.foo", false, false);
        check_pattern("foo.>.bar", false, false);
        check_pattern(">.>", false, false);
        check_pattern("foo.>.", false, false);
        check_pattern("*.", false, false);
        assert!(
            is_valid_pattern(b"any\x00\xff.byte"),
            "tokens are bytes, not text"
        );
    }

    #[track_caller]
    fn check_match(pattern: &str, subject: &str, expected: bool) {
        assert_eq!(
            matches(pattern.as_bytes(), subject.as_bytes()),
            expected,
            "{pattern:?} against {subject:?}"
        );
    }

    #[test]
    fn matching() {
        check_match("foo", "foo", true);
        check_match("foo", "fo", false);
        check_match("foo", "foo.bar", false);
        check_match("foo.bar", "foo", false);
        check_match("*", "foo", true);
        check_match("*", "foo.bar", false);
        check_match("foo.*", "foo.bar", true);
        check_match("foo.*", "foo", false);
        check_match("*.bar", "foo.bar", true);
        check_match("foo.*.baz", "foo.bar.baz", true);
        check_match("foo.*.baz", "foo.bar.bar", false);
        check_match(">", "foo", true);
        check_match(">", "foo.bar.baz", true);
        check_match("foo.>", "foo", false);
        check_match("foo.>", "foo.bar", true);
        check_match("foo.>", "foo.bar.baz", true);
        check_match("*.>", "foo", false);
        check_match("foo*", "foo*", true);
        check_match("foo*", "foobar", false);
        check_match(">>", "foo", false);
    }

    #[test]
    fn a_published_wildcard_is_plain_text() {
        check_match("foo.*", "foo.*", true);
        check_match("foo.>", "foo.*", true);
        check_match("foo.bar", "foo.*", false);
        check_match("foo.*", "foo.>", true);
        check_match("foo.bar.baz", "foo.>", false);
        check_match("*", ">", true);
    }

    #[test]
    fn empty_tokens_match_nothing() {
        for subject in ["", ".", "foo.", ".foo", "foo..bar", "foo.bar."] {
            check_match(">", subject, false);
            check_match("foo.>", subject, false);
            check_match("*.*", subject, false);
            check_match(subject, subject, false);
        }
    }

    #[track_caller]
    fn check_overlap(left: &str, right: &str, expected: bool) {
        assert_eq!(
            overlaps(left.as_bytes(), right.as_bytes()),
            expected,
            "{left:?} with {right:?}"
        );
        assert_eq!(
            overlaps(right.as_bytes(), left.as_bytes()),
            expected,
            "{right:?} with {left:?}"
        );
    }

    #[test]
    fn overlapping() {
        check_overlap("foo", "foo", true);
        check_overlap("foo", "bar", false);
        check_overlap("foo", "*", true);
        check_overlap("foo", ">", true);
        check_overlap("foo.>", "foo", false);
        check_overlap("foo.>", "*", false);
        check_overlap("foo.>", "*.>", true);
        check_overlap("foo.*", "*.bar", true);
        check_overlap("foo.*.baz", "foo.bar.>", true);
        check_overlap("foo.*.baz", "*.bar.*", true);
        check_overlap("foo.*.baz", "*.bar.bar", false);
        check_overlap("foo.*", "foo.bar.baz", false);
        check_overlap("foo.>.bar", "foo.>", false);
        check_overlap("", "", false);
    }
}
