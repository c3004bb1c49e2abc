//! Owns what two servers agree on before they compress: the names of the modes and who decides. How the
//! compressed bytes look is the business of [`s2`](crate::s2).

use core::time::Duration;

use thiserror::Error;

/// A mode as it is configured, announced and agreed on (route protocol, section 11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As if from before there was compression: the field is not looked at.
    NotSupported,
    /// Never.
    Off,
    /// If the other side wants to.
    #[default]
    Accept,
    /// As strongly as the round trip is long.
    S2Auto,
    /// In the format, without the effort.
    S2Uncompressed,
    /// Fast.
    S2Fast,
    /// Stronger and slower.
    S2Better,
    /// As strong as possible and slow.
    S2Best,
}

/// The other side named a mode that nobody knows. nats-server answers with
/// [`UnsupportedCompression`](crate::error::ErrorReply::UnsupportedCompression) and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unsupported route compression mode")]
pub struct UnsupportedCompression;

impl Compression {
    /// Every mode.
    pub const ALL: [Self; 8] = [
        Self::NotSupported,
        Self::Off,
        Self::Accept,
        Self::S2Auto,
        Self::S2Uncompressed,
        Self::S2Fast,
        Self::S2Better,
        Self::S2Best,
    ];

    /// The name in `INFO`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSupported => "not supported",
            Self::Off => "off",
            Self::Accept => "accept",
            Self::S2Auto => "s2_auto",
            Self::S2Uncompressed => "s2_uncompressed",
            Self::S2Fast => "s2_fast",
            Self::S2Better => "s2_better",
            Self::S2Best => "s2_best",
        }
    }

    /// The mode of a name in `INFO`; one that is not there means that compression is not supported.
    ///
    /// # Errors
    /// When nobody knows the name.
    pub fn from_name(name: &str) -> Result<Self, UnsupportedCompression> {
        if name.is_empty() {
            return Ok(Self::NotSupported);
        }
        let known = Self::ALL.into_iter().find(|mode| mode.name() == name);
        known.ok_or(UnsupportedCompression)
    }

    /// Whether the bytes are in the compressed format once this was agreed on.
    pub const fn is_compressed(self) -> bool {
        match self {
            Self::NotSupported | Self::Off | Self::Accept => false,
            Self::S2Auto | Self::S2Uncompressed | Self::S2Fast | Self::S2Better | Self::S2Best => {
                true
            }
        }
    }

    /// What a server set to `self` writes towards one that announced `remote`. The two need not be equally
    /// strong, but both sides compress or neither does. Never [`Accept`](Self::Accept); still
    /// [`S2Auto`](Self::S2Auto) if that is what `self` is, to be made definite by [`for_round_trip`](Self::for_round_trip).
    pub const fn agreed(self, remote: Self) -> Self {
        match (self, remote) {
            (Self::NotSupported, _) | (_, Self::NotSupported) => Self::NotSupported,
            (Self::Off, _) | (_, Self::Off) | (Self::Accept, Self::Accept) => Self::Off,
            (Self::Accept, Self::S2Auto) => Self::S2Fast,
            (Self::Accept, _) => remote,
            _ => self,
        }
    }

    /// The definite mode for [`S2Auto`](Self::S2Auto): up to the first threshold uncompressed, up to the second
    /// fast, up to the third better, beyond that best. With fewer thresholds, what is beyond the last of them
    /// is as what is before. A threshold of zero leaves out its mode.
    pub fn for_round_trip(round_trip: Duration, thresholds: &[Duration]) -> Self {
        let levels = [
            Self::S2Uncompressed,
            Self::S2Fast,
            Self::S2Better,
            Self::S2Best,
        ];
        let reached = thresholds.iter().position(|&most| round_trip <= most);
        let beyond = match thresholds.len() {
            // Does not occur: a configuration has one at least.
            0 => levels.len() - 1,
            1 | 2 => thresholds.len() - 1,
            _ => levels.len() - 1,
        };
        levels[reached.unwrap_or(beyond).min(levels.len() - 1)]
    }

    /// The thresholds of [`for_round_trip`](Self::for_round_trip) where none are configured.
    pub const ROUND_TRIPS_DEFAULT: [Duration; 3] = [
        Duration::from_millis(10),
        Duration::from_millis(50),
        Duration::from_millis(100),
    ];
}

#[cfg(test)]
mod tests {
    use super::Compression as Mode;
    use super::*;

    #[test]
    fn names() {
        for mode in Mode::ALL {
            assert_eq!(Mode::from_name(mode.name()), Ok(mode));
        }
        assert_eq!(Mode::from_name(""), Ok(Mode::NotSupported));
        assert_eq!(Mode::from_name("zstd"), Err(UnsupportedCompression));
        assert_eq!(Mode::from_name("S2_FAST"), Err(UnsupportedCompression));
    }

    /// Both sides compress or neither.
    #[test]
    fn the_sides_agree_on_whether() {
        for one in Mode::ALL {
            for other in Mode::ALL {
                let (there, back) = (one.agreed(other), other.agreed(one));
                assert_eq!(
                    there.is_compressed(),
                    back.is_compressed(),
                    "{one:?} and {other:?}"
                );
                assert_ne!(there, Mode::Accept);
            }
        }
    }

    #[test]
    fn who_decides() {
        #[track_caller]
        fn check(local: Mode, remote: Mode, expected: Mode) {
            assert_eq!(local.agreed(remote), expected);
        }
        check(Mode::Accept, Mode::Accept, Mode::Off);
        check(Mode::Accept, Mode::Off, Mode::Off);
        check(Mode::Off, Mode::S2Best, Mode::Off);
        check(Mode::Accept, Mode::NotSupported, Mode::NotSupported);
        check(Mode::Accept, Mode::S2Better, Mode::S2Better);
        check(Mode::Accept, Mode::S2Auto, Mode::S2Fast);
        check(Mode::S2Fast, Mode::Accept, Mode::S2Fast);
        check(Mode::S2Fast, Mode::S2Best, Mode::S2Fast);
        check(Mode::S2Auto, Mode::S2Best, Mode::S2Auto);
    }

    #[test]
    fn round_trips() {
        #[track_caller]
        fn check(milliseconds: u64, thresholds: &[u64], expected: Mode) {
            let thresholds: Vec<Duration> = thresholds
                .iter()
                .map(|&most| Duration::from_millis(most))
                .collect();
            let round_trip = Duration::from_millis(milliseconds);
            assert_eq!(Mode::for_round_trip(round_trip, &thresholds), expected);
        }
        check(10, &[10, 50, 100], Mode::S2Uncompressed);
        check(11, &[10, 50, 100], Mode::S2Fast);
        check(100, &[10, 50, 100], Mode::S2Better);
        check(101, &[10, 50, 100], Mode::S2Best);
        check(101, &[10, 50, 100, 150], Mode::S2Best);
        check(15, &[0, 0, 20, 30], Mode::S2Better);
        check(25, &[0, 0, 20, 30], Mode::S2Best);
        check(25, &[0, 0, 20], Mode::S2Best);
        check(25, &[10, 20], Mode::S2Fast);
        check(25, &[10], Mode::S2Uncompressed);
        check(25, &[], Mode::S2Best);
    }
}
