//! What the log is told of peers that are not let in: each thing of each place at once, and then once a minute with how
//! often it came. Whoever is refused comes again, every second and for as long as nobody corrects a file; that must
//! neither fill a disk nor hide what else is in the log.

use core::fmt::{self, Write};
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, SocketAddr};
use std::hash::DefaultHasher;
use std::time::{Duration, Instant};

use crate::log_limit::LogLimit;
use crate::mesh::Mesh;

/// How long the same is not said again.
const REPEATED_AFTER: Duration = Duration::from_secs(60);

/// Things and places that are remembered; of more, those go first that were said the longest ago.
const REMEMBERED_MAX: usize = 256;

/// Of a text that the other side chose, so many characters are shown.
const SHOWN_CHARS_MAX: usize = 256;

/// Of what the other side sent and nobody understands, so many bytes are shown.
const SHOWN_BYTES_MAX: usize = 48;

/// What has been said lately.
#[derive(Default)]
pub(crate) struct Complaints {
    said: Vec<Said>,
    /// Of all there are, whoever they are about.
    limit: LogLimit,
}

struct Said {
    place: Place,
    /// Its hash. Two of one place that are taken for the same cost a line.
    thing: u64,
    at: Instant,
    unsaid: u64,
}

/// Where a peer is: what was dialled, or the address that it came from, whose port is another one each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    address: Option<IpAddr>,
    port: u16,
}

impl Place {
    pub(super) fn new(address: Option<SocketAddr>, is_dialled: bool) -> Self {
        Self {
            address: address.map(|address| address.ip()),
            port: address
                .filter(|_| is_dialled)
                .map_or(0, |address| address.port()),
        }
    }
}

impl Complaints {
    /// Whether a thing is to be said now, and then how often it was not since it was said last.
    pub(super) fn note(&mut self, place: Place, thing: &str, now: Instant) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        thing.hash(&mut hasher);
        let thing = hasher.finish();
        let same = |said: &&mut Said| said.place == place && said.thing == thing;
        if let Some(said) = self.said.iter_mut().find(same) {
            if now.saturating_duration_since(said.at) < REPEATED_AFTER {
                said.unsaid += 1;
                return None;
            }
            if self.limit.note(now).is_none() {
                said.unsaid += 1;
                return None;
            }
            said.at = now;
            return Some(std::mem::take(&mut said.unsaid));
        }
        self.limit.note(now)?;
        if self.said.len() == REMEMBERED_MAX {
            let ages = self.said.iter().enumerate();
            let oldest = ages.min_by_key(|(_, said)| said.at);
            let oldest = oldest.map(|(position, _)| position);
            oldest.map(|position| self.said.swap_remove(position));
        }
        self.said.push(Said {
            place,
            thing,
            at: now,
            unsaid: 0,
        });
        Some(0)
    }
}

impl Mesh {
    /// Says in the log why nothing came of a connection with somebody at `address`, for which there was no session yet. The
    /// same is said once a minute.
    pub fn tell_of_stranger(&self, address: SocketAddr, why: &dyn fmt::Display, now: Instant) {
        let why = why.to_string();
        let place = Place::new(Some(address), false);
        let unsaid = self.complaints.lock().note(place, &why, now);
        match unsaid {
            Some(unsaid) => tracing::error!("{address} - {why}{}", Unsaid(unsaid)),
            None => tracing::debug!("{address} - {why}"),
        }
    }
}

/// How often the same was not said, behind what is.
pub(super) struct Unsaid(pub(super) u64);

impl fmt::Display for Unsaid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(formatter, " ({count} more like it since the last line)"),
        }
    }
}

/// A text of the other side's choice, on one line and not without end.
pub(super) struct Shown<'a>(pub(super) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, more) = cut(self.0);
        for character in text.chars() {
            match character {
                '\n' | '\r' | '\t' => write!(formatter, "{}", character.escape_default())?,
                _ if character.is_control() => write!(formatter, "{}", character.escape_unicode())?,
                _ => formatter.write_char(character)?,
            }
        }
        formatter.write_str(more)
    }
}

/// A text that is on one line already, not without end.
pub(super) struct Cut<'a>(pub(super) &'a str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, more) = cut(self.0);
        write!(formatter, "{text}{more}")
    }
}

fn cut(text: &str) -> (&str, &'static str) {
    let end = text.char_indices().nth(SHOWN_CHARS_MAX);
    end.map_or((text, ""), |(end, _)| (&text[..end], "…"))
}

/// The start of what nobody understands; of its first line only, since messages are nobody's business.
pub(super) struct Start<'a>(pub(super) &'a [u8]);

impl fmt::Display for Start<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == b'\n');
        let line = end.map_or(self.0.len(), |end| end + 1);
        let shown = &self.0[..line.min(SHOWN_BYTES_MAX)];
        let more = if shown.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        write!(formatter, "\"{}\"{more}", shown.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        Instant::now()
    }

    fn place(number: u16, is_dialled: bool) -> Place {
        let address = SocketAddr::from(([10, 0, 0, 1], number));
        Place::new(Some(address), is_dialled)
    }

    #[test]
    fn the_same_is_said_once_a_minute() {
        let start = start();
        let mut complaints = Complaints::default();
        let mut note = |second, thing| {
            let now = start + Duration::from_secs(second);
            complaints.note(place(second as u16, false), thing, now)
        };
        assert_eq!(note(0, "name"), Some(0));
        for second in 1..60 {
            assert_eq!(note(second, "name"), None, "whatever port it comes from");
        }
        assert_eq!(note(30, "login"), Some(0), "something else");
        assert_eq!(note(61, "name"), Some(59));
        assert_eq!(note(62, "name"), None);
        assert_eq!(note(200, "name"), Some(1));
    }

    #[test]
    fn what_is_dialled_is_told_apart_by_its_port() {
        let start = start();
        let mut complaints = Complaints::default();
        assert_eq!(complaints.note(place(1, true), "name", start), Some(0));
        assert_eq!(complaints.note(place(2, true), "name", start), Some(0));
        assert_eq!(complaints.note(place(2, true), "name", start), None);
    }

    #[test]
    fn many_places_do_not_fill_the_log_and_are_not_remembered_for_ever() {
        let start = start();
        let mut complaints = Complaints::default();
        let mut said = 0;
        for second in 0..100 {
            for number in 0..100 {
                let now = start + Duration::from_secs(second);
                let place = place((second * 100 + number) as u16, true);
                said += u32::from(complaints.note(place, "name", now).is_some());
            }
        }
        assert_eq!(said, 1000);
        assert_eq!(complaints.said.len(), REMEMBERED_MAX);
    }

    #[test]
    fn texts_of_others_stay_short_and_on_their_line() {
        assert_eq!(Shown("a\nb\x1b[31m").to_string(), "a\\nb\\u{1b}[31m");
        let long = "é".repeat(1000);
        assert_eq!(Shown(&long).to_string().chars().count(), 257);
        assert_eq!(Shown("\"é\"").to_string(), "\"é\"");
        assert_eq!(Start(b"GET /\r\n").to_string(), r#""GET /\r\n""#);
        let message = Start(b"RMSG $G a 9 5\r\nwhat nobody is to see");
        assert_eq!(message.to_string(), r#""RMSG $G a 9 5\r\n"…"#);
        assert_eq!(
            Start(&[0xff; 100]).to_string().len(),
            48 * 4 + 2 + "…".len()
        );
        assert_eq!(Unsaid(0).to_string(), "");
        assert_eq!(
            Unsaid(3).to_string(),
            " (3 more like it since the last line)"
        );
    }
}
