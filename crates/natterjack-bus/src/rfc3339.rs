//! A point in time as RFC 3339 text in UTC, to the microsecond, and back. No clock is read here.

use std::time::Duration;

/// Bytes of each of our own texts.
pub(crate) const LENGTH: usize = 27;

/// What each of our own texts looks like; its digits are replaced.
const PATTERN: &[u8; LENGTH] = b"0000-00-00T00:00:00.000000Z";

/// Formats a time since 1970, years 1970 to 9999.
pub(crate) fn format(since_1970: Duration) -> String {
    write(since_1970, &mut [0; LENGTH]).to_owned()
}

/// As [`format()`], without an allocation. Every event has a time, so this does without the formatting machinery.
pub(crate) fn write(since_1970: Duration, text: &mut [u8; LENGTH]) -> &str {
    let unix_seconds = since_1970.as_secs();
    let (days, second_of_day) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    *text = *PATTERN;
    let mut put = |start: usize, length: usize, mut number: u64| {
        for place in text[start..start + length].iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, hour);
    put(14, 2, minute);
    put(17, 2, second);
    put(20, 6, since_1970.subsec_micros().into());
    // Nothing but ASCII is written.
    str::from_utf8(text).unwrap_or_default()
}

/// Reads what [`format()`] writes, with any number of digits behind the point, or none; `None` for anything else, other
/// forms of RFC 3339 included.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (start, rest) = text.as_bytes().split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators
        .into_iter()
        .any(|(place, separator)| start[place] != separator)
    {
        return None;
    }
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u64, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + u64::from(digit - b'0'))
        })
    };
    let (year, month, day) = (
        number(&start[..4])?,
        number(&start[5..7])?,
        number(&start[8..10])?,
    );
    let (hour, minute, second) = (
        number(&start[11..13])?,
        number(&start[14..16])?,
        number(&start[17..19])?,
    );
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let nanoseconds = match rest {
        b"Z" => 0,
        [b'.', digits @ .., b'Z'] if !digits.is_empty() => {
            let digits = &digits[..digits.len().min(9)];
            number(digits)? * 10_u64.pow(9 - digits.len() as u32)
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Duration::new(seconds, nanoseconds as u32))
}

/// The inverse of [`civil`].
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day counted from 1970-01-01. Counting years from March puts the leap day at the end of the
/// year, where it shifts nothing.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    // 0000-03-01 is 719,468 days before 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have lengths 31 30 31 30 31 twice over: 153 days in five months.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        let check = |seconds, micros: u32, expected: &str| {
            let time = Duration::new(seconds, micros * 1000);
            assert_eq!(format(time), expected);
            assert_eq!(parse(expected), Some(time));
        };
        check(0, 0, "1970-01-01T00:00:00.000000Z");
        check(951_782_399, 999_999, "2000-02-28T23:59:59.999999Z");
        check(951_782_400, 7, "2000-02-29T00:00:00.000007Z");
        check(1_709_251_200, 0, "2024-03-01T00:00:00.000000Z");
        check(253_402_300_799, 0, "9999-12-31T23:59:59.000000Z");
    }

    #[test]
    fn others_write_fewer_digits_or_more() {
        let check = |text, nanos| assert_eq!(parse(text), Some(Duration::new(1, nanos)), "{text}");
        check("1970-01-01T00:00:01Z", 0);
        check("1970-01-01T00:00:01.5Z", 500_000_000);
        check("1970-01-01T00:00:01.123456789999Z", 123_456_789);
        for text in [
            "",
            "1970-01-01T00:00:01",
            "1970-01-01T00:00:01+00:00",
            "1970-01-01 00:00:01Z",
            "1970-01-01T00:00:01.Z",
            "1970-13-01T00:00:01Z",
            "1969-01-01T00:00:01Z",
            "197é-01-01T00:00:01Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn days_follow_each_other() {
        let length = |year: u64, month| match month {
            2 if (year.is_multiple_of(4) && !year.is_multiple_of(100))
                || year.is_multiple_of(400) =>
            {
                29
            }
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = (1970, 1, 1);
        for day in 0..200_000 {
            assert_eq!(civil(day), expected);
            let (year, month, date) = expected;
            assert_eq!(days(year, month, date), day);
            let day = date;
            expected = match (day == length(year, month), month == 12) {
                (false, _) => (year, month, day + 1),
                (true, false) => (year, month + 1, 1),
                (true, true) => (year + 1, 1, 1),
            };
        }
    }
}
