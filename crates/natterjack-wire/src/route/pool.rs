//! Owns the one rule by which servers share out accounts among connections without a word about it.

/// Which of the `pool_size` connections with another server carries the lines of an account: FNV-1a of its name, modulo
/// that size (route protocol, section 6). 0 where there is no choice.
///
/// Each server reckons with its own size, and takes lines of any account on any connection.
pub fn pool_index(account: &[u8], pool_size: u32) -> u32 {
    let hash = account.iter().fold(0x811C_9DC5_u32, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.checked_rem(pool_size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first three as seen between servers of 2.15.1; the others from the definition of the hash.
    #[test]
    fn known_places() {
        assert_eq!(pool_index(b"$G", 3), 2);
        assert_eq!(pool_index(b"BCC", 2), 1);
        assert_eq!(pool_index(b"X", 1), 0);
        assert_eq!(pool_index(b"X", 0), 0);
        assert_eq!(pool_index(b"", u32::MAX), 0x811C_9DC5);
        assert_eq!(pool_index(b"foobar", u32::MAX), 0xBF9C_F968);
    }
}
