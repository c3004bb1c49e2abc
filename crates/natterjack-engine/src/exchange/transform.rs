//! Subjects that become other subjects: `orders.*.*` to `orders.{{wildcard(2)}}.{{partition(10,1)}}`.
//!
//! A destination is tokens of which some are functions of the tokens that the source's wildcards stand for. What is
//! accepted, and what becomes of it, was observed on nats-server 2.15.1, oddities included: an index of 0 or less
//! is the first token of the subject, and functions that have nothing to do leave their token as it is.

use natterjack_subject::is_valid_pattern;
use thiserror::Error;

/// Why a destination does not go with its source.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransformProblem {
    /// Source and destination are not both valid, or only one of them ends in `>`, or the destination has a `*`.
    #[error("invalid subject")]
    InvalidSubject,
    /// The destination is no subject: an empty token, blanks, or something after `>`.
    #[error("invalid mapping destination: invalid transform")]
    InvalidDestination,
    /// No function of this name.
    #[error("invalid mapping destination: unknown function in {0}")]
    UnknownFunction(String),
    /// The source has fewer wildcards.
    #[error("invalid mapping destination: wildcard index out of range in {token}: [{index}]")]
    IndexOutOfRange {
        /// The function.
        token: String,
        /// The wildcard it names.
        index: i64,
    },
    /// The source has no wildcards at all.
    #[error("invalid mapping destination: wildcard index out of range in {0}")]
    NoWildcards(String),
    /// Too few arguments.
    #[error("invalid mapping destination: not enough arguments passed to the function in {0}")]
    TooFewArguments(String),
    /// Too many arguments.
    #[error("invalid mapping destination: too many arguments passed to the function in {0}")]
    TooManyArguments(String),
    /// An argument that should be a number, or a delimiter with a blank in it.
    #[error(
        "invalid mapping destination: function argument is invalid or in the wrong format in {0}"
    )]
    InvalidArgument(String),
    /// An import can be undone, which only `wildcard` can.
    #[error(
        "invalid mapping destination: the only mapping function allowed for import transforms is \
         {{{{Wildcard()}}}} in {0}"
    )]
    NotForImports(String),
    /// An import that leaves out a wildcard cannot be undone.
    #[error("invalid mapping destination: not using all of the token wildcard(s) in {0}")]
    WildcardUnused(String),
}

/// A way from subjects that match a source to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transform {
    parts: Box<[Part]>,
    /// Tokens of the source before its `>`, if it has one: the rest is taken over.
    rest_from: Option<usize>,
}

/// One token of the destination. Tokens of the subject are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Token(usize),
    /// Number of the bucket that the tokens, or else the whole subject, belong to.
    Partition {
        buckets: u32,
        tokens: Box<[usize]>,
    },
    Random(i32),
    Split {
        token: usize,
        delimiter: Box<str>,
    },
    SplitFromLeft(usize, i32),
    SplitFromRight(usize, i32),
    SliceFromLeft(usize, i32),
    SliceFromRight(usize, i32),
    Left(usize, i32),
    Right(usize, i32),
}

/// A token of a destination as it is written: wildcards by number.
enum Written {
    Literal,
    Wildcard(i64),
    Partition { buckets: i32, wildcards: Vec<i64> },
    Random(i32),
    Split { wildcard: i64, delimiter: String },
    Cut(Cut, i64, i32),
}

/// A function of a token and a number of bytes.
type Cut = fn(usize, i32) -> Part;

impl Transform {
    /// The way from subjects that match `source` to `destination`.
    ///
    /// # Errors
    /// See [`TransformProblem`].
    pub(crate) fn new(source: &str, destination: &str) -> Result<Self, TransformProblem> {
        check_destination(destination)?;
        Self::of_tokens(source, destination, false)
    }

    /// The same for an import, which has to be undone: wildcards can change places and nothing else. Each `*` of `to`
    /// stands for the next wildcard.
    ///
    /// # Errors
    /// See [`TransformProblem`].
    pub(crate) fn for_import(from: &str, to: &str) -> Result<Self, TransformProblem> {
        // A blank in a subject would end it on the wire.
        let is_blank =
            |token: &str| function(token).is_none() && token.contains(char::is_whitespace);
        if to.split('.').any(is_blank) {
            return Err(TransformProblem::InvalidSubject);
        }
        let mut wildcards = 0;
        let numbered = to.split('.').map(|token| {
            if token != "*" {
                return token.to_owned();
            }
            wildcards += 1;
            format!("${wildcards}")
        });
        Self::of_tokens(from, &numbered.collect::<Vec<_>>().join("."), true)
    }

    /// Appends what becomes of `subject`, where there is no chance in it.
    pub(crate) fn rename(&self, subject: &[u8], out: &mut Vec<u8>) {
        debug_assert!(self.is_deterministic());
        self.apply(subject, &mut fastrand::Rng::with_seed(0), out);
    }

    fn of_tokens(
        source: &str,
        destination: &str,
        is_import: bool,
    ) -> Result<Self, TransformProblem> {
        if !is_valid_pattern(source.as_bytes()) || !is_valid_pattern(destination.as_bytes()) {
            return Err(TransformProblem::InvalidSubject);
        }
        let source: Vec<&str> = source.split('.').collect();
        let destination_tokens: Vec<&str> = destination.split('.').collect();
        let has_rest = source.last() == Some(&">");
        let keeps_rest = destination_tokens.last() == Some(&">");
        if has_rest != keeps_rest || destination_tokens.contains(&"*") {
            return Err(TransformProblem::InvalidSubject);
        }
        let wildcards: Vec<usize> = (source.iter().enumerate())
            .filter_map(|(index, token)| (*token == "*").then_some(index))
            .collect();
        let scope = Scope {
            wildcards: &wildcards,
            is_literal: wildcards.is_empty() && !has_rest,
            is_import,
        };
        let named = destination_tokens.len() - usize::from(keeps_rest);
        let parts = destination_tokens[..named]
            .iter()
            .map(|token| scope.part(token));
        let parts: Box<[Part]> = parts.collect::<Result<_, _>>()?;
        let uses = parts
            .iter()
            .filter(|part| matches!(part, Part::Token(_)))
            .count();
        if is_import && uses < wildcards.len() {
            return Err(TransformProblem::WildcardUnused(destination.to_owned()));
        }
        Ok(Self {
            parts,
            rest_from: has_rest.then(|| source.len() - 1),
        })
    }

    /// Whether a subject always becomes the same.
    pub(crate) fn is_deterministic(&self) -> bool {
        !self
            .parts
            .iter()
            .any(|part| matches!(part, Part::Random(_)))
    }

    /// Appends what becomes of `subject`, which must match the source. Linear in its length and that of the
    /// destination; allocates nothing but in `out`.
    pub(crate) fn apply(&self, subject: &[u8], chance: &mut fastrand::Rng, out: &mut Vec<u8>) {
        let start = out.len();
        let separate = |out: &mut Vec<u8>, is_first: bool| {
            if !is_first {
                out.push(b'.');
            }
        };
        for (index, part) in self.parts.iter().enumerate() {
            separate(out, index == 0);
            part.append(subject, chance, out);
        }
        if let Some(first) = self.rest_from {
            let is_first = self.parts.is_empty();
            debug_assert!(!is_first || out.len() == start);
            for (index, token) in tokens(subject).skip(first).enumerate() {
                separate(out, is_first && index == 0);
                out.extend_from_slice(token);
            }
        }
    }
}

/// What a destination's tokens can refer to.
struct Scope<'a> {
    /// Where the source has its `*`.
    wildcards: &'a [usize],
    /// Whether the source has neither `*` nor `>`.
    is_literal: bool,
    is_import: bool,
}

impl Scope<'_> {
    fn part(&self, token: &str) -> Result<Part, TransformProblem> {
        let written = Written::parse(token)?;
        let is_simple = matches!(written, Written::Literal | Written::Wildcard(_));
        if self.is_import && !is_simple {
            return Err(TransformProblem::NotForImports(token.to_owned()));
        }
        Ok(match written {
            Written::Literal => Part::Literal(token.into()),
            Written::Random(bound) => Part::Random(bound),
            // Where there are no wildcards, those named are not looked at.
            Written::Partition { buckets, wildcards } => Part::Partition {
                buckets: buckets.cast_unsigned(),
                tokens: if self.is_literal {
                    Box::default()
                } else {
                    let indices = wildcards.into_iter().map(|index| self.index(token, index));
                    indices.collect::<Result<_, _>>()?
                },
            },
            _ if self.is_literal => return Err(TransformProblem::NoWildcards(token.to_owned())),
            Written::Wildcard(index) => Part::Token(self.index(token, index)?),
            Written::Split {
                wildcard,
                delimiter,
            } => Part::Split {
                token: self.index(token, wildcard)?,
                delimiter: delimiter.into(),
            },
            Written::Cut(cut, wildcard, bytes) => cut(self.index(token, wildcard)?, bytes),
        })
    }

    /// The subject's token that a wildcard stands for.
    fn index(&self, token: &str, wildcard: i64) -> Result<usize, TransformProblem> {
        let Some(before) = usize::try_from(wildcard)
            .ok()
            .and_then(|number| number.checked_sub(1))
        else {
            return Ok(0);
        };
        let index = self.wildcards.get(before).copied();
        index.ok_or_else(|| TransformProblem::IndexOutOfRange {
            token: token.to_owned(),
            index: wildcard,
        })
    }
}

impl Written {
    fn parse(token: &str) -> Result<Self, TransformProblem> {
        if let Some(number) = token.strip_prefix('$') {
            // Other things begin with `$`, too.
            return Ok(number.parse().map_or(Self::Literal, Self::Wildcard));
        }
        let Some(inner) = function(token) else {
            return Ok(Self::Literal);
        };
        let unknown = || TransformProblem::UnknownFunction(token.to_owned());
        let (name, arguments) = inner
            .trim()
            .strip_suffix(')')
            .and_then(|call| call.split_once('('))
            .ok_or_else(unknown)?;
        let call = Call {
            token,
            arguments: arguments
                .split(',')
                .enumerate()
                .map(|(index, argument)| {
                    if index == 0 {
                        argument
                    } else {
                        argument.trim_start()
                    }
                })
                .collect(),
        };
        match name.trim_end() {
            "wildcard" | "Wildcard" => call.wildcard(),
            "partition" | "Partition" => call.partition(),
            "random" | "Random" => call.random(),
            "split" | "Split" => call.split(),
            "left" | "Left" => call.cut(Part::Left),
            "right" | "Right" => call.cut(Part::Right),
            name => match with_small_words(name).as_str() {
                "splitfromleft" => call.cut(Part::SplitFromLeft),
                "splitfromright" => call.cut(Part::SplitFromRight),
                "slicefromleft" => call.cut(Part::SliceFromLeft),
                "slicefromright" => call.cut(Part::SliceFromRight),
                _ => Err(unknown()),
            },
        }
    }
}

/// The number, counted from 0, of the wildcard that a token of a destination stands for, if it is one and nothing else.
pub(super) fn wildcard_number(token: &str) -> Option<usize> {
    match Written::parse(token) {
        Ok(Written::Wildcard(number)) => usize::try_from(number).ok()?.checked_sub(1),
        _ => None,
    }
}

/// What stands between the braces of a token that is a function.
fn function(token: &str) -> Option<&str> {
    let inner = token.strip_prefix("{{")?.strip_suffix("}}")?;
    (!inner.is_empty()).then_some(inner)
}

/// Words inside a name may begin with either case, and nothing else may be large.
fn with_small_words(name: &str) -> String {
    let words = [
        ("Split", "split"),
        ("Slice", "slice"),
        ("From", "from"),
        ("Left", "left"),
        ("Right", "right"),
    ];
    words.iter().fold(name.to_owned(), |name, (large, small)| {
        name.replace(large, small)
    })
}

/// A function as it is written, with its arguments.
struct Call<'a> {
    token: &'a str,
    arguments: Vec<&'a str>,
}

impl Call<'_> {
    fn wildcard(&self) -> Result<Written, TransformProblem> {
        match self.arguments[..] {
            [""] => Err(TransformProblem::TooFewArguments(self.token.to_owned())),
            [_] => Ok(Written::Wildcard(self.number(0)?)),
            _ => Err(TransformProblem::TooManyArguments(self.token.to_owned())),
        }
    }

    fn partition(&self) -> Result<Written, TransformProblem> {
        let wildcards = (1..self.arguments.len()).map(|index| self.number(index));
        Ok(Written::Partition {
            buckets: self.small_number(0)?,
            wildcards: wildcards.collect::<Result<_, _>>()?,
        })
    }

    fn random(&self) -> Result<Written, TransformProblem> {
        if self.arguments.len() != 1 {
            return Err(TransformProblem::TooFewArguments(self.token.to_owned()));
        }
        Ok(Written::Random(self.small_number(0)?))
    }

    fn split(&self) -> Result<Written, TransformProblem> {
        self.expect_two()?;
        let wildcard = self.number(0)?;
        let delimiter = self.arguments[1];
        if delimiter.contains(' ') {
            return Err(self.invalid());
        }
        Ok(Written::Split {
            wildcard,
            delimiter: delimiter.to_owned(),
        })
    }

    fn cut(&self, cut: Cut) -> Result<Written, TransformProblem> {
        self.expect_two()?;
        Ok(Written::Cut(cut, self.number(0)?, self.small_number(1)?))
    }

    fn expect_two(&self) -> Result<(), TransformProblem> {
        match self.arguments.len() {
            0 | 1 => Err(TransformProblem::TooFewArguments(self.token.to_owned())),
            2 => Ok(()),
            _ => Err(TransformProblem::TooManyArguments(self.token.to_owned())),
        }
    }

    fn number(&self, index: usize) -> Result<i64, TransformProblem> {
        let argument = self.arguments[index].trim_matches(' ');
        argument.parse().map_err(|_| self.invalid())
    }

    fn small_number(&self, index: usize) -> Result<i32, TransformProblem> {
        i32::try_from(self.number(index)?).map_err(|_| self.invalid())
    }

    fn invalid(&self) -> TransformProblem {
        TransformProblem::InvalidArgument(self.token.to_owned())
    }
}

/// What nats-server looks at first, and only for mappings.
fn check_destination(destination: &str) -> Result<(), TransformProblem> {
    let mut is_over = false;
    for token in destination.split('.') {
        let is_blank = |letter: char| matches!(letter, '\t' | '\n' | '\u{c}' | '\r' | ' ');
        if token.is_empty() || is_over || function(token).is_none() && token.contains(is_blank) {
            return Err(TransformProblem::InvalidDestination);
        }
        is_over = token == ">";
    }
    Ok(())
}

impl Part {
    fn append(&self, subject: &[u8], chance: &mut fastrand::Rng, out: &mut Vec<u8>) {
        let token = |index: usize| tokens(subject).nth(index).unwrap_or_default();
        match *self {
            Self::Literal(ref text) => out.extend_from_slice(text.as_bytes()),
            Self::Token(index) => out.extend_from_slice(token(index)),
            Self::Partition {
                buckets,
                ref tokens,
            } => {
                let hash = if tokens.is_empty() {
                    fnv1a(FNV_START, subject)
                } else {
                    tokens
                        .iter()
                        .fold(FNV_START, |hash, &index| fnv1a(hash, token(index)))
                };
                append_number(hash.checked_rem(buckets).unwrap_or(0), out);
            }
            Self::Random(bound) => {
                let bound = bound.unsigned_abs();
                let number = if bound == 0 { 0 } else { chance.u32(..bound) };
                append_number(number, out);
            }
            Self::Split {
                token: index,
                ref delimiter,
            } => append_split(token(index), delimiter.as_bytes(), out),
            Self::SplitFromLeft(index, bytes) => {
                let token = token(index);
                append_halves(token, inside(token, bytes), out);
            }
            Self::SplitFromRight(index, bytes) => {
                let token = token(index);
                let left = inside(token, bytes).map(|bytes| token.len() - bytes);
                append_halves(token, left, out);
            }
            Self::SliceFromLeft(index, bytes) => {
                let token = token(index);
                append_slices(token, 0, inside(token, bytes), out);
            }
            Self::SliceFromRight(index, bytes) => {
                let token = token(index);
                let bytes = inside(token, bytes);
                let first = bytes.map_or(0, |bytes| token.len() % bytes);
                append_slices(token, first, bytes, out);
            }
            Self::Left(index, bytes) => {
                let token = token(index);
                out.extend_from_slice(&token[..inside(token, bytes).unwrap_or(token.len())]);
            }
            Self::Right(index, bytes) => {
                let token = token(index);
                let left = inside(token, bytes).map_or(0, |bytes| token.len() - bytes);
                out.extend_from_slice(&token[left..]);
            }
        }
    }
}

/// A number of bytes that is more than none and less than all of the token.
fn inside(token: &[u8], bytes: i32) -> Option<usize> {
    let bytes = usize::try_from(bytes).ok()?;
    (bytes > 0 && bytes < token.len()).then_some(bytes)
}

fn append_halves(token: &[u8], left: Option<usize>, out: &mut Vec<u8>) {
    let (left, right) = token.split_at(left.unwrap_or(0));
    out.extend_from_slice(left);
    if !left.is_empty() {
        out.push(b'.');
    }
    out.extend_from_slice(right);
}

/// Slices of so many bytes, after a first one of `first` if that is not 0.
fn append_slices(token: &[u8], first: usize, bytes: Option<usize>, out: &mut Vec<u8>) {
    let (head, rest) = token.split_at(first);
    out.extend_from_slice(head);
    for (index, slice) in rest.chunks(bytes.unwrap_or(usize::MAX)).enumerate() {
        if index > 0 || !head.is_empty() {
            out.push(b'.');
        }
        out.extend_from_slice(slice);
    }
}

/// The pieces between delimiters that are not empty. Without a delimiter each letter is a piece.
fn append_split(token: &[u8], delimiter: &[u8], out: &mut Vec<u8>) {
    let mut is_first = true;
    let mut append = |piece: &[u8]| {
        if !piece.is_empty() {
            if !std::mem::take(&mut is_first) {
                out.push(b'.');
            }
            out.extend_from_slice(piece);
        }
    };
    if delimiter.is_empty() {
        let starts = |byte: u8| byte & 0xC0 != 0x80;
        token
            .chunk_by(|_, &next| !starts(next))
            .for_each(&mut append);
        return;
    }
    let mut rest = token;
    while let Some(at) = rest
        .windows(delimiter.len())
        .position(|window| window == delimiter)
    {
        append(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    append(rest);
}

fn append_number(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(natterjack_wire::client::decimal(number as usize).as_ref());
}

fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> {
    subject.split(|&byte| byte == b'.')
}

const FNV_START: u32 = 0x811c_9dc5;

/// FNV-1a of 32 bits, which decides the partition on every nats-server, so on ours too.
fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests;
