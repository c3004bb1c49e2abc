//! Owns damage: changes to an input that know no structure but its favourite bytes.

use fastrand::Rng;

/// Longer inputs are only slower.
const INPUT_BYTES_MAX: usize = 16 * 1024;

/// Pieces that mean something to a parser of this house.
const PIECES: [&[u8]; 24] = [
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xFF",
    b"'",
    b"\"",
    b"{",
    b"}",
    b":",
    b".",
    b"*",
    b">",
    b"0",
    b"9",
    b"999999999",
    b"1234567890",
    b"-1",
    b"PUB ",
    b"HPUB ",
    b"NATS/1.0",
    b"null",
];

/// Changes the input in one way.
pub(crate) fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    let place = rng.usize(..=input.len());
    let length = rng.usize(..=(input.len() - place).min(16));
    match rng.u8(..7) {
        0 if place < input.len() => input[place] ^= 1 << rng.u8(..8),
        1 if place < input.len() => input[place] = rng.u8(..),
        2 => drop(input.drain(place..place + length)),
        3 => input.truncate(place),
        4 => {
            let piece = input[place..place + length].to_vec();
            let elsewhere = rng.usize(..=input.len());
            input.splice(elsewhere..elsewhere, piece);
        }
        5 => {
            let piece = PIECES[rng.usize(..PIECES.len())];
            input.splice(place..place + length, piece.iter().copied());
        }
        _ => {
            let piece = PIECES[rng.usize(..PIECES.len())];
            input.splice(place..place, piece.iter().copied());
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

/// Any bytes, for targets that read a list of operations out of them.
pub(crate) fn noise(rng: &mut Rng) -> Vec<u8> {
    let length = rng.usize(..=rng.clone().usize(1..=2048));
    (0..length).map(|_| rng.u8(..)).collect()
}
