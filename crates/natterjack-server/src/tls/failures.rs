//! How much the log is told of handshakes that failed: whoever comes again and again must not fill a disk.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::net::strangers::Origin;

/// Of one address so many lines are written in one [`WINDOW`]. Some, since several clients may be behind one, each with a
/// fault of its own.
const LINES_MAX: u32 = 10;

/// Of all addresses together.
const ALL_LINES_MAX: u32 = 100;

const WINDOW: Duration = Duration::from_secs(10);

/// Addresses that are remembered; of more, those go first that began the longest ago.
const REMEMBERED_MAX: usize = 256;

/// What was said lately.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    addresses: Vec<(Origin, Lines)>,
    all: Lines,
    /// Of addresses that are not remembered any more.
    forgotten: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    begun: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Lines {
    fn is_over(&self, now: Instant) -> bool {
        (self.begun).is_none_or(|begun| now.saturating_duration_since(begun) >= WINDOW)
    }

    fn may_say(&mut self, lines_max: u32, now: Instant) -> bool {
        if self.is_over(now) {
            (self.begun, self.said) = (Some(now), 0);
        }
        self.said < lines_max
    }
}

impl Failures {
    /// Counts one. If it is to be said, returns what was not of this address since the last line, and of others that are
    /// quiet since or have been forgotten. Linear in the addresses that are remembered.
    pub(crate) fn note(&self, origin: Origin, now: Instant) -> Option<Unsaid> {
        let mut state = self.state.lock();
        let State {
            addresses,
            all,
            forgotten,
        } = &mut *state;
        let known = addresses.iter().position(|(known, _)| *known == origin);
        let known = known.unwrap_or_else(|| {
            if addresses.len() == REMEMBERED_MAX {
                let oldest = addresses.iter().enumerate();
                let oldest = oldest.min_by_key(|(_, (_, lines))| lines.begun);
                let oldest = oldest.map(|(position, _)| position);
                let oldest = oldest.map(|position| addresses.swap_remove(position));
                *forgotten += oldest.map_or(0, |(_, lines)| lines.unsaid);
            }
            addresses.push((origin, Lines::default()));
            addresses.len() - 1
        });
        let own = &mut addresses[known].1;
        if !own.may_say(LINES_MAX, now) || !all.may_say(ALL_LINES_MAX, now) {
            own.unsaid += 1;
            return None;
        }
        own.said += 1;
        all.said += 1;
        let own = std::mem::take(&mut own.unsaid);
        let quiet = addresses.iter_mut().filter(|(_, lines)| lines.is_over(now));
        let quiet: u64 = quiet
            .map(|(_, lines)| std::mem::take(&mut lines.unsaid))
            .sum();
        let others = std::mem::take(forgotten) + quiet;
        Some(Unsaid { own, others })
    }
}

/// How many there were that were not said, behind the one that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsaid {
    /// Of the same address.
    own: u64,
    others: u64,
}

impl fmt::Display for Unsaid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.own, self.others) {
            (0, 0) => Ok(()),
            (own, 0) => write!(
                formatter,
                " ({own} more failed handshakes from this address since the last line)"
            ),
            (0, others) => write!(
                formatter,
                " ({others} more failed handshakes from other addresses since the last lines)"
            ),
            (own, others) => write!(
                formatter,
                " ({own} more failed handshakes from this address and {others} from others since the last lines)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::clock::now;

    fn origin(number: u8) -> Origin {
        Origin::of(Some(IpAddr::from([192, 0, 2, number])))
    }

    #[test]
    fn of_one_address_some_are_said_and_the_others_counted() {
        let (failures, start) = (Failures::default(), now());
        let note = |number, second| {
            let unsaid = failures.note(origin(number), start + Duration::from_secs(second));
            unsaid.map(|unsaid| unsaid.own)
        };
        let said = (0..100).filter(|_| note(1, 0).is_some()).count();
        assert_eq!(said as u32, LINES_MAX);
        assert_eq!(note(2, 1), Some(0), "others have lines of their own");
        assert_eq!(note(1, 9), None);
        assert_eq!([note(1, 10), note(1, 10)], [Some(91), Some(0)]);
        let said = |own, others| Unsaid { own, others }.to_string();
        assert_eq!(said(0, 0), "");
        assert!(said(7, 0).contains("(7 more failed handshakes from this address since"));
        assert!(said(0, 7).contains("(7 more failed handshakes from other addresses since"));
        assert!(
            said(7, 8).contains("(7 more failed handshakes from this address and 8 from others")
        );
    }

    #[test]
    fn of_all_together_not_everything_is_said_or_remembered() {
        let (failures, now) = (Failures::default(), now());
        let everybody = || (0..=255).flat_map(|_| 0..=255);
        let said = everybody().filter(|number| failures.note(origin(*number), now).is_some());
        assert_eq!(said.count() as u32, ALL_LINES_MAX);
        let elsewhere = IpAddr::from([198, 51, 100, 1]);
        assert_eq!(failures.note(Origin::of(Some(elsewhere)), now), None);
        assert_eq!(failures.state.lock().addresses.len(), REMEMBERED_MAX);
        // Nothing is silenced without being counted.
        let unsaid = failures.note(Origin::of(Some(elsewhere)), now + WINDOW);
        let others = 256 * 256 - u64::from(ALL_LINES_MAX);
        assert_eq!(unsaid, Some(Unsaid { own: 1, others }));
        let unsaid = failures.note(Origin::of(Some(elsewhere)), now + WINDOW);
        assert_eq!(unsaid, Some(Unsaid { own: 0, others: 0 }));
    }
}
