//! What the log is told of peers, so that nobody who comes again and again fills a disk or hides what else is in the log.
//! What is wrong with one is said at once, and then once a minute with how often it came: whoever is refused comes again,
//! every second and for as long as nobody corrects a file. Besides, there is only so much said of one address, and of
//! connections that come about, and go.

use core::fmt::{self, Write};
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, SocketAddr};
use std::hash::DefaultHasher;
use std::time::{Duration, Instant};

use crate::log_limit::{Allowance, LogLimit};
use crate::mesh::Mesh;

/// How long the same is not said again.
const REPEATED_AFTER: Duration = Duration::from_secs(60);

/// Things and places that are remembered; of more, those go first that were said the longest ago.
const REMEMBERED_MAX: usize = 256;

/// Of what is said of one address there may be so many lines at once, and then one each few seconds.
const LINES_AT_ONCE: u32 = 20;
const LINE_EACH: Duration = Duration::from_secs(5);

/// The same for connections that come about, each of which has a line more at its end. A cluster whose servers are all at
/// one address has them all at once when it starts.
const ARRIVALS_AT_ONCE: u32 = 256;
const ARRIVAL_EACH: Duration = Duration::from_secs(5);

/// Of all addresses together.
const ALL_ARRIVALS_AT_ONCE: u32 = 8192;
const ALL_ARRIVALS_EACH: Duration = Duration::from_millis(100);

/// Of a text that the other side chose, so many characters are shown.
const SHOWN_CHARS_MAX: usize = 256;

/// Of what the other side sent and nobody understands, so many bytes are shown.
const SHOWN_BYTES_MAX: usize = 48;

/// What has been said lately.
pub(crate) struct Complaints {
    said: Vec<Said>,
    /// Of one address each.
    lines: Shares,
    arrivals: Shares,
    /// Of all there are, whoever they are about.
    limit: LogLimit,
    all_arrivals: Allowance,
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

impl Default for Complaints {
    fn default() -> Self {
        Self {
            said: Vec::new(),
            lines: Shares::new(LINES_AT_ONCE, LINE_EACH),
            arrivals: Shares::new(ARRIVALS_AT_ONCE, ARRIVAL_EACH),
            limit: LogLimit::default(),
            all_arrivals: Allowance::new(ALL_ARRIVALS_AT_ONCE, ALL_ARRIVALS_EACH),
        }
    }
}

impl Complaints {
    /// Whether a thing is to be said now, and then what was not since it was said last.
    pub(super) fn note(&mut self, place: Place, thing: &str, now: Instant) -> Option<Unsaid> {
        let mut hasher = DefaultHasher::new();
        thing.hash(&mut hasher);
        let thing = hasher.finish();
        let same = |said: &Said| said.place == place && said.thing == thing;
        let known = self.said.iter().position(same);
        if let Some(known) = known {
            let said = &mut self.said[known];
            if now.saturating_duration_since(said.at) < REPEATED_AFTER {
                said.unsaid += 1;
                return None;
            }
        }
        let others = self.lines.note(place.address, now);
        let others = others.filter(|_| self.limit.note(now).is_some());
        let Some(others) = others else {
            known.into_iter().for_each(|it| self.said[it].unsaid += 1);
            return None;
        };
        if let Some(known) = known {
            let said = &mut self.said[known];
            said.at = now;
            let same = std::mem::take(&mut said.unsaid);
            return Some(Unsaid { same, others });
        }
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
        Some(Unsaid { same: 0, others })
    }

    /// Whether it is to be said that a connection with somebody there has come about, and then how many were not said.
    pub(super) fn note_arrival(&mut self, place: Place, now: Instant) -> Option<Unsaid> {
        let same = self.arrivals.note(place.address, now)?;
        self.all_arrivals.note(now)?;
        Some(Unsaid { same, others: 0 })
    }
}

/// What may be said of addresses.
struct Shares {
    at_once: u32,
    each: Duration,
    shares: Vec<(Option<IpAddr>, Allowance)>,
}

impl Shares {
    fn new(at_once: u32, each: Duration) -> Self {
        Self {
            at_once,
            each,
            shares: Vec::new(),
        }
    }

    fn note(&mut self, address: Option<IpAddr>, now: Instant) -> Option<u64> {
        let known = (self.shares.iter()).position(|(known, _)| *known == address);
        let known = known.unwrap_or_else(|| {
            if self.shares.len() == REMEMBERED_MAX {
                let shares = self.shares.iter().enumerate();
                let least = shares.min_by_key(|(_, (_, share))| share.used_until());
                let least = least.map(|(position, _)| position);
                least.map(|position| self.shares.swap_remove(position));
            }
            let share = Allowance::new(self.at_once, self.each);
            self.shares.push((address, share));
            self.shares.len() - 1
        });
        self.shares[known].1.note(now)
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
            Some(unsaid) => tracing::error!("{address} - {why}{unsaid}"),
            None => tracing::debug!("{address} - {why}"),
        }
    }
}

/// What was not said, behind what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsaid {
    /// How often the same.
    same: u64,
    /// What else of the same address, for there was too much of it.
    others: u64,
}

impl fmt::Display for Unsaid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.same {
            0 => {}
            count => write!(formatter, " ({count} more like it since the last line)")?,
        }
        match self.others {
            0 => Ok(()),
            1 => formatter.write_str(" (1 other line about this address was left out)"),
            count => write!(
                formatter,
                " ({count} other lines about this address were left out)"
            ),
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
        let same = |same| Some(Unsaid { same, others: 0 });
        assert_eq!(note(0, "name"), same(0));
        for second in 1..60 {
            assert_eq!(note(second, "name"), None, "whatever port it comes from");
        }
        assert_eq!(note(30, "login"), same(0), "something else");
        assert_eq!(note(61, "name"), same(59));
        assert_eq!(note(62, "name"), None);
        assert_eq!(note(200, "name"), same(1));
    }

    #[test]
    fn what_is_dialled_is_told_apart_by_its_port() {
        let start = start();
        let mut complaints = Complaints::default();
        assert!(complaints.note(place(1, true), "name", start).is_some());
        assert!(complaints.note(place(2, true), "name", start).is_some());
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
                let address = [10, 0, second as u8, number];
                let place = Place::new(Some(SocketAddr::from((address, 1))), true);
                said += u32::from(complaints.note(place, "name", now).is_some());
            }
        }
        assert_eq!(said, 1000);
        assert_eq!(complaints.said.len(), REMEMBERED_MAX);
        assert_eq!(complaints.lines.shares.len(), REMEMBERED_MAX);
    }

    #[test]
    fn whoever_is_at_one_address_has_few_lines_whatever_is_said_in_them() {
        let start = start();
        let mut complaints = Complaints::default();
        let mut note = |millisecond: u64| {
            let now = start + Duration::from_millis(millisecond);
            let thing = format!("thing {millisecond}");
            complaints.note(place(millisecond as u16, true), &thing, now)
        };
        let hour = 3600 * 1000;
        let tries = (0..hour).step_by(10);
        let said = tries.filter(|&millisecond| note(millisecond).is_some());
        let said = said.count();
        assert!((700..750).contains(&said), "{said} lines in an hour");
        let unsaid = note(hour + 5000).expect("something is said");
        assert!((490..1001).contains(&unsaid.others), "{unsaid:?}");
        let other = Place::new(Some(SocketAddr::from(([10, 0, 0, 2], 1))), true);
        let now = start + Duration::from_millis(hour + 5000);
        assert!(
            complaints.note(other, "name", now).is_some(),
            "others have theirs"
        );
    }

    #[test]
    fn whoever_comes_and_goes_all_the_time_has_few_lines() {
        let start = start();
        let mut complaints = Complaints::default();
        let mut said = 0;
        for millisecond in 0..600_000 {
            let now = start + Duration::from_millis(millisecond);
            let unsaid = complaints.note_arrival(place(millisecond as u16, false), now);
            said += u32::from(unsaid.is_some());
        }
        assert!((370..380).contains(&said), "{said} in ten minutes");
        let other = Place::new(Some(SocketAddr::from(([10, 0, 0, 2], 1))), true);
        let now = start + Duration::from_secs(600);
        let none = Unsaid { same: 0, others: 0 };
        assert_eq!(complaints.note_arrival(other, now), Some(none));
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
        let unsaid = |same, others| Unsaid { same, others }.to_string();
        assert_eq!(unsaid(0, 0), "");
        assert_eq!(
            unsaid(3, 2),
            " (3 more like it since the last line) (2 other lines about this address were left out)"
        );
    }
}
