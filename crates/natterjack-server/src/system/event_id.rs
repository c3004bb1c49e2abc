//! Ids of events: 22 letters and digits, of which the last count up, as in nats-server.

use parking_lot::Mutex;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX_LEN: usize = 12;
const COUNTER_LEN: usize = 10;

pub(super) struct EventIds {
    prefix: [u8; PREFIX_LEN],
    next: Mutex<u64>,
}

impl EventIds {
    pub(super) fn new() -> Self {
        Self {
            prefix: std::array::from_fn(|_| DIGITS[fastrand::usize(..DIGITS.len())]),
            next: Mutex::new(fastrand::u64(..1 << 58)),
        }
    }

    pub(super) fn next(&self) -> String {
        let mut number = {
            let mut next = self.next.lock();
            *next += 1;
            *next
        };
        let mut text = [b'0'; PREFIX_LEN + COUNTER_LEN];
        text[..PREFIX_LEN].copy_from_slice(&self.prefix);
        for digit in text[PREFIX_LEN..].iter_mut().rev() {
            *digit = DIGITS[(number % 62) as usize];
            number /= 62;
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_up_and_none_is_like_another() {
        let ids = EventIds::new();
        let made: Vec<String> = (0..1000).map(|_| ids.next()).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
        assert!(made.iter().all(|id| id.len() == 22));
        assert_ne!(EventIds::new().next(), EventIds::new().next());
    }
}
