//! Streams as a whole: our own, those of another implementation, and those that are none.

use std::io::{Read, Write};

use super::*;
use crate::fuzzing::fuzz_s2;
use proptest::collection::vec;
use proptest::prelude::*;

/// All content of a stream that is there whole.
fn decompressed(stream: &[u8]) -> Result<Vec<u8>, S2Error> {
    let mut decompressor = Decompressor::default();
    let mut out = Vec::new();
    let mut rest = stream;
    while let Decoded::Op { op, consumed } = decompressor.read(rest, &mut out)? {
        assert!(consumed > 0 && op <= out.len());
        rest = &rest[consumed..];
    }
    assert!(rest.is_empty(), "{} bytes are left", rest.len());
    Ok(out)
}

fn compressed(effort: Effort, pieces: &[&[u8]]) -> Vec<u8> {
    let mut compressor = Compressor::new(effort);
    let mut out = Vec::new();
    for piece in pieces {
        compressor.write(piece, &mut out);
    }
    out
}

/// Lines as they occur on routes, some of them large and some incompressible.
fn lines(messages: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut noise = 1_u64;
    for number in 0..messages {
        let payload: Vec<u8> = (0..number % 90)
            .map(|_| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                if number % 3 == 0 {
                    (noise >> 56) as u8
                } else {
                    b'x'
                }
            })
            .collect();
        out.extend_from_slice(
            format!("RMSG $G orders.{}.new {}\r\n", number % 7, payload.len()).as_bytes(),
        );
        out.extend_from_slice(&payload);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[test]
fn what_is_compressed_is_read() {
    let text = lines(20_000);
    for effort in [Effort::Stored, Effort::Fast] {
        for piece in [1, 31, 32, 33, 1000, 65_535, 65_536, 65_537, text.len()] {
            let text = &text[..text.len().min(piece * 200)];
            let pieces: Vec<&[u8]> = text.chunks(piece).collect();
            let stream = compressed(effort, &pieces);
            assert!(
                decompressed(&stream).as_deref() == Ok(text),
                "{effort:?} {piece}"
            );
        }
    }
    assert_eq!(compressed(Effort::Fast, &[b""]), STREAM_START);
}

/// Copies of every length, of which those above 64 bytes and those from as far back as the last time go on.
#[test]
fn what_occurs_again_at_any_length() {
    let noise = lines(400);
    let start = &noise[..300];
    for length in (0..700).chain(65_000..65_300) {
        let again: Vec<u8> = start.iter().copied().cycle().take(length).collect();
        let text = [start, &again, b"the end of it"].concat();
        let stream = compressed(Effort::Fast, &[&text]);
        assert!(decompressed(&stream).as_deref() == Ok(&text), "{length}");
        let text = [&b"ab"[..], &vec![b'x'; length], start].concat();
        let stream = compressed(Effort::Fast, &[&text]);
        assert!(decompressed(&stream).as_deref() == Ok(&text), "{length}");
    }
}

/// The content of a stream of Snappy, by its description alone: blocks of 64 KiB at most, literals and copies, nothing else.
fn read_as_snappy(stream: &[u8]) -> Vec<u8> {
    let mut rest = stream
        .strip_prefix(b"\xFF\x06\x00\x00sNaPpY")
        .expect("the start of a stream");
    let mut text = Vec::new();
    while let Some((&[kind, low, middle, high], after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
        let (chunk, after) = after.split_at(length);
        rest = after;
        let (checksum, data) = chunk.split_at(4);
        let start = text.len();
        match kind {
            0 => read_block_as_snappy(data, &mut text),
            1 => text.extend_from_slice(data),
            _ => panic!("a chunk of kind {kind}"),
        }
        assert!(text.len() - start <= 65_536, "a long block");
        assert_eq!(masked_checksum(&text[start..]).to_le_bytes(), checksum);
    }
    assert_eq!(rest, b"");
    text
}

fn read_block_as_snappy(mut data: &[u8], text: &mut Vec<u8>) {
    let start = text.len();
    let mut take = |count: usize| {
        let (taken, rest) = data.split_at(count);
        data = rest;
        (!taken.is_empty()).then_some(taken)
    };
    let number = |bytes: &[u8]| {
        let upwards = bytes.iter().rev();
        upwards.fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = take(1).expect("a length")[0];
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    while text.len() - start < length {
        let tag = take(1).expect("an instruction")[0];
        let upper = usize::from(tag >> 2);
        let (count, offset) = match tag & 3 {
            0 => {
                let more = upper.saturating_sub(59);
                let count = take(more).map_or(upper, number) + 1;
                text.extend_from_slice(take(count).expect("a literal"));
                continue;
            }
            1 => {
                let low = number(take(1).expect("an offset"));
                ((upper & 7) + 4, (upper >> 3) << 8 | low)
            }
            kind => {
                let bytes = if kind == 2 { 2 } else { 4 };
                (upper + 1, number(take(bytes).expect("an offset")))
            }
        };
        assert!(offset > 0, "that is a repetition, of S2 alone");
        for _ in 0..count {
            let before = (text.len() - start).checked_sub(offset);
            text.push(text[start + before.expect("within the block")]);
        }
    }
    assert_eq!((text.len() - start, data), (length, &b""[..]));
}

#[test]
fn snappy_is_read_by_readers_of_both() {
    let noise = lines(400);
    let start = &noise[..300];
    let again = |length: usize| {
        let again: Vec<u8> = start.iter().copied().cycle().take(length).collect();
        [start, &again, b"the end of it"].concat()
    };
    let texts = (0..700).chain(65_000..65_300).map(again);
    let few = [Vec::new(), b"a".to_vec(), vec![0; 300_000], lines(20_000)];
    let noise: Vec<u8> = (0..70_000_u64)
        .map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 50) as u8)
        .collect();
    for text in texts.chain(few).chain([noise]) {
        let stream = snappy(&text);
        assert!(read_as_snappy(&stream) == text, "{} bytes", text.len());
        assert!(decompressed(&stream).as_deref() == Ok(&text));
        let mut found = Vec::new();
        let read = minlz::s2::Reader::new(&stream[..]).read_to_end(&mut found);
        assert!(read.is_ok() && found == text, "{} bytes", text.len());
    }
    // A copy takes three bytes for each 64.
    assert!(snappy(&[0; 65_536]).len() < 65_536 / 20);
    assert!(snappy(&lines(2000)).len() < lines(2000).len() * 60 / 100);
}

#[test]
fn how_much_it_shrinks() {
    #[track_caller]
    fn check(content: &[u8], bytes_max: usize) {
        let stream = compressed(Effort::Fast, &[content]);
        assert!(
            stream.len() <= bytes_max,
            "{} of {}",
            stream.len(),
            content.len()
        );
    }
    let overhead = STREAM_START.len() + HEAD_BYTES + CHECKSUM_BYTES;
    check(b"PING\r\n", overhead + 6);
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(65_536)
    .collect();
    check(&noise, overhead + noise.len());
    check(&[b'x'; 65_536], overhead + 12);
    check(
        &b"RS+ $G foo\r\nRS+ $G bar q1 1\r\nRS+ $G bar q1 2\r\n".repeat(20),
        100,
    );
    let text = lines(2000);
    check(&text, text.len() * 55 / 100);
}

/// Streams and blocks of the other implementation, whose output is that of nats-server's library byte for byte.
#[test]
fn agrees_with_another_implementation() {
    let text = lines(40_000);
    assert!(text.len() > 1 << 20);
    for content in [
        &b""[..],
        b"a",
        &text[..100],
        &text[..70_000],
        &text,
        &[0; 300_000],
    ] {
        let mut stream = Vec::new();
        let mut writer = minlz::s2::Writer::new(&mut stream);
        writer.write_all(content).expect("into memory");
        writer.flush().expect("into memory");
        drop(writer);
        assert!(
            decompressed(&stream).as_deref() == Ok(content),
            "{}",
            content.len()
        );
        for block in [
            minlz::s2::encode(content),
            minlz::s2::encode_better(content),
            minlz::s2::encode_best(content),
            minlz::s2::encode_snappy(content),
        ] {
            let mut out = Vec::new();
            block::decode(&block, CONTENT_BYTES_MAX, &mut out).expect("a block");
            assert!(out == content, "{}", content.len());
        }
        let mut theirs = Vec::new();
        let stream = compressed(Effort::Fast, &[content]);
        minlz::s2::Reader::new(&stream[..])
            .read_to_end(&mut theirs)
            .expect("a stream");
        assert!(theirs == content, "{}", content.len());
    }
}

#[test]
fn bytes_that_are_no_stream() {
    #[track_caller]
    fn check(stream: &[u8], expected: S2Error) {
        assert_eq!(decompressed(stream), Err(expected), "{stream:x?}");
    }
    let after_start = |chunk: &[u8]| [STREAM_START, chunk].concat();
    check(b"P", S2Error::Identifier);
    check(
        b"\x01\x0A\x00\x00\xAB\x90\xCC$PING\r\n",
        S2Error::Identifier,
    );
    check(b"\xFE\x00\x00\x00", S2Error::Identifier);
    check(b"\xFF\x07\x00\x00S2sTwO", S2Error::Identifier);
    check(b"\xFF\x06\x00\x00S2sX", S2Error::Identifier);
    check(
        &after_start(b"\x02\x00\x00\x00"),
        S2Error::UnknownChunk { kind: 2 },
    );
    check(
        &after_start(b"\x7F\x00\x00\x00"),
        S2Error::UnknownChunk { kind: 0x7F },
    );
    check(&after_start(b"\x01\x03\x00\x00"), S2Error::Corrupt);
    check(&after_start(b"\x00\x04\x00\x00aaaa"), S2Error::Corrupt);
    check(&after_start(b"\x01\x05\x00\x40"), S2Error::ChunkTooLarge);
    check(
        &after_start(b"\x01\x0A\x00\x00\xAB\x90\xCC$PONG\r\n"),
        S2Error::Checksum,
    );
    check(
        &after_start(b"\x00\x09\x00\x00aaaa\xFF\xFF\xFF\xFF\x0F"),
        S2Error::ChunkTooLarge,
    );
}

#[test]
fn chunks_that_are_skipped() {
    let mut stream = b"\xFF\x06\x00\x00sNaPpY".to_vec();
    stream.extend_from_slice(b"\xFE\x05\x00\x00\x00\x00\x00\x00\x00");
    stream.extend_from_slice(b"\x01\x0A\x00\x00\xAB\x90\xCC$PING\r\n");
    stream.extend_from_slice(b"\x99\x00\x00\x00\x80\x01\x00\x00\xFF");
    stream.extend_from_slice(STREAM_START);
    stream.extend_from_slice(b"\x01\x0A\x00\x00\xF5o\x1B\xE4PONG\r\n");
    assert_eq!(
        decompressed(&stream).as_deref(),
        Ok(&b"PING\r\nPONG\r\n"[..])
    );
    let mut data = vec![0; 8];
    data.extend_from_slice(&stream);
    fuzz_s2(&data);
}

/// Few bytes that stand for many are read a little at a time, and mean the same.
#[test]
fn what_stands_for_much_is_read_piece_by_piece() {
    let content = [&vec![b'x'; 60_000][..], &lines(1000)].concat();
    let block = minlz::s2::encode_better(&content);
    let chunk = |block: &[u8], content: &[u8]| {
        let mut chunk = [STREAM_START, &[COMPRESSED][..]].concat();
        chunk.extend_from_slice(&(block.len() as u32 + 4).to_le_bytes()[..3]);
        chunk.extend_from_slice(&masked_checksum(content).to_le_bytes());
        chunk.extend_from_slice(block);
        chunk
    };
    for bytes_max in [1, 100, 4096, usize::MAX] {
        let stream = chunk(&block, &content);
        let mut decompressor = Decompressor::default();
        let mut out = b"before".to_vec();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let before = out.len();
            let step = decompressor.step(rest, &mut out, bytes_max);
            assert!(out.len() - before <= bytes_max);
            match step.expect("a stream") {
                Step::Whole { consumed, .. } => rest = &rest[consumed..],
                Step::Unfinished => assert_eq!(out.len() - before, bytes_max),
                Step::Incomplete { .. } => panic!("all of it is there"),
            }
        }
        assert!(out[6..] == content, "{bytes_max}");
    }
    // Of content that is not what was written nothing is left.
    let stream = chunk(&block, b"something else");
    let mut decompressor = Decompressor::default();
    let mut out = b"before".to_vec();
    decompressor.read(&stream, &mut out).expect("the start");
    let rest = &stream[STREAM_START.len()..];
    let error = loop {
        match decompressor.step(rest, &mut out, 1000) {
            Ok(step) => assert_eq!(step, Step::Unfinished),
            Err(error) => break error,
        }
    };
    assert_eq!(error, S2Error::Checksum);
    assert_eq!(out, b"before");
}

#[test]
fn a_bound_of_ones_own() {
    let mut decompressor = Decompressor::new(1000);
    let stream = compressed(Effort::Fast, &[&[b'x'; 1001]]);
    let mut out = Vec::new();
    decompressor.read(&stream, &mut out).expect("the start");
    let found = decompressor.read(&stream[STREAM_START.len()..], &mut out);
    assert_eq!(found, Err(S2Error::ChunkTooLarge));
    assert!(out.is_empty() && out.capacity() < 1000);
}

proptest! {
    #[test]
    fn any_content_is_read_as_written(
        content in vec(prop_oneof![4 => 0..4_u8, 1 => any::<u8>()], 0..3000),
        repeats in 1..40_usize,
        choices in any::<u64>(),
    ) {
        let content = content.repeat(repeats);
        let stream = compressed(Effort::Fast, &[&content]);
        let found = decompressed(&stream);
        prop_assert_eq!(found.as_deref(), Ok(&content[..]));
        let mut data = choices.to_le_bytes().to_vec();
        data.extend_from_slice(&stream);
        fuzz_s2(&data);
    }

    #[test]
    fn noise_is_refused(noise in vec(any::<u8>(), 0..300), choices in any::<u64>()) {
        let mut data = choices.to_le_bytes().to_vec();
        data.extend_from_slice(STREAM_START);
        data.extend_from_slice(&noise);
        fuzz_s2(&data);
    }
}
