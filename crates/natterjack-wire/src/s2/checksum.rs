//! Owns the checksum of S2 streams: CRC-32C, masked as Snappy does it, so that a checksum of checksums is of some
//! worth.
//!
//! The crate that is used has instructions of the processor for it where there are some, which is found out at run time,
//! and tables elsewhere.

use crc32c::{crc32c as checksum, crc32c_append};

/// The checksum of a chunk's content.
pub(super) fn masked_checksum(content: &[u8]) -> u32 {
    masked(checksum(content))
}

/// The same of content that comes piece by piece.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningChecksum(u32);

impl RunningChecksum {
    pub(super) fn add(&mut self, content: &[u8]) {
        self.0 = crc32c_append(self.0, content);
    }

    pub(super) fn masked(&self) -> u32 {
        masked(self.0)
    }
}

fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of RFC 3720, appendix B.4, and the customary one.
    #[test]
    fn known_values() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        assert_eq!(checksum(b""), 0);
        assert_eq!(checksum(b"123456789"), 0xE306_9283);
        assert_eq!(checksum(&[0; 32]), 0x8A91_36AA);
        assert_eq!(checksum(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(checksum(&ascending), 0x46DD_794E);
        assert_eq!(checksum(&descending), 0x113F_DB5C);
    }
}
