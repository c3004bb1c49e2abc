//! Owns what the tests of all streams need: a reader, and things to write.

use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) type Bytes = Vec<u8>;

/// A reader as a session has one: bytes arrive in a buffer, whole operations are taken from its front.
pub(crate) fn read_in_pieces<T>(
    stream: &[u8],
    cuts: &[prop::sample::Index],
    take: impl Fn(&[u8]) -> Option<(T, usize)>,
) -> Vec<T> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(stream.len());
    let mut found = Vec::new();
    let mut buffer = Vec::new();
    let mut start = 0;
    for cut in cuts {
        buffer.extend_from_slice(&stream[start..cut]);
        start = cut;
        let mut taken = 0;
        while let Some((op, consumed)) = take(&buffer[taken..]) {
            found.push(op);
            taken += consumed;
        }
        buffer.drain(..taken);
    }
    assert!(buffer.is_empty(), "all is read");
    found
}

pub(crate) fn word() -> impl Strategy<Value = Bytes> {
    let byte = any::<u8>().prop_filter("no blank, no line end", |byte| !b" \t\r\n".contains(byte));
    prop_oneof![
        4 => "[a-z]{1,8}(\\.[a-z*>]{1,8}){0,3}".prop_map(String::into_bytes),
        1 => "[0-9]{1,10}".prop_map(String::into_bytes),
        2 => vec(byte, 1..40),
    ]
}

pub(crate) fn body() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        vec(any::<u8>(), 0..20),
        vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' ')], 0..6),
        vec(any::<u8>(), 0..3000),
    ]
}
