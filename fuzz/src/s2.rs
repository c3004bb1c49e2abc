//! Owns streams of S2 as they should be, and blocks with every instruction: a compressor of ours writes only some.

use fastrand::Rng;
use natterjack_wire::s2::{Compressor, Effort};

/// Choices, and then a stream; at times a block or something to compress instead.
pub(crate) fn stream(rng: &mut Rng) -> Vec<u8> {
    let mut out = rng.u64(..).to_le_bytes().to_vec();
    match rng.u8(..8) {
        0 => {
            out.extend_from_slice(&content(rng));
            return out;
        }
        1..4 => {
            block(&mut out, rng);
            return out;
        }
        _ => {}
    }
    let mut compressor = Compressor::new(if rng.u8(..4) == 0 {
        Effort::Stored
    } else {
        Effort::Fast
    });
    for _ in 0..rng.usize(1..5) {
        match rng.u8(..6) {
            0 => skippable(&mut out, rng),
            1 => {
                let start = out.len();
                out.extend_from_slice(&[0; 8]);
                block(&mut out, rng);
                // The checksum is wrong, so the stream ends here; but not before the block is read.
                let [low, high] = ((out.len() - start - 4) as u16).to_le_bytes();
                out[start + 1..start + 3].copy_from_slice(&[low, high]);
            }
            _ => compressor.write(&content(rng), &mut out),
        }
    }
    out
}

/// Bytes that repeat at times.
fn content(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    let bytes = rng.usize(..600);
    while out.len() < bytes {
        let piece = rng.usize(1..40);
        if rng.bool() && out.len() > piece {
            let from = rng.usize(..out.len() - piece);
            out.extend_from_within(from..from + piece);
        } else {
            out.extend((0..piece).map(|_| rng.u8(..)));
        }
    }
    out
}

fn skippable(out: &mut Vec<u8>, rng: &mut Rng) {
    let bytes = rng.u8(..50);
    out.extend_from_slice(&[rng.u8(0x80..=0xFE), bytes, 0, 0]);
    out.extend((0..bytes).map(|_| rng.u8(..)));
}

/// A block of any instructions that can be followed.
fn block(out: &mut Vec<u8>, rng: &mut Rng) {
    let mut content_bytes = 8_u32;
    let mut instructions = vec![7 << 2, 1, 2, 3, 4, 5, 6, 7, 8];
    for _ in 0..rng.usize(1..12) {
        let back = rng.u8(1..9);
        let number = rng.u8(..64);
        let code = number % 8;
        match rng.u8(..6) {
            0 => {
                instructions.extend_from_slice(&[code << 2 | 1, back]);
                content_bytes += 4 + u32::from(code);
            }
            1 => {
                instructions.extend_from_slice(&[number << 2 | 2, back, 0]);
                content_bytes += 1 + u32::from(number);
            }
            2 => {
                instructions.extend_from_slice(&[number << 2 | 3, back, 0, 0, 0]);
                content_bytes += 1 + u32::from(number);
            }
            3 => {
                instructions.extend_from_slice(&[5 << 2 | 1, 0, number]);
                content_bytes += 8 + u32::from(number);
            }
            4 => {
                instructions.extend_from_slice(&[6 << 2 | 1, 0, number, code]);
                content_bytes += 260 + u32::from(number) + 256 * u32::from(code);
            }
            _ => {
                instructions.extend_from_slice(&[7 << 2 | 1, 0, number, 0, 0]);
                content_bytes += 65_540 + u32::from(number);
            }
        }
    }
    let [low, middle, high, _] = content_bytes.to_le_bytes();
    // Seven bits to a byte.
    let length = [
        low | 0x80,
        (low >> 7 | middle << 1) | 0x80,
        (middle >> 6 | high << 2) & 0x7F,
    ];
    out.extend_from_slice(&length);
    out.extend_from_slice(&instructions);
}
