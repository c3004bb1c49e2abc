//! What a new configuration changes, and which of it a running server cannot take.

use std::fmt;

use super::Configuration;
use super::row::Reload;
use super::table;

/// What a new configuration changes. If anything is refused, nothing may be applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What a running server can take, in the order of the table of options.
    pub live: Vec<Change>,
    /// What only a new process can have.
    pub refused: Vec<Change>,
}

/// An option with two values. Secrets are masked in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The option, as `cluster.no_advertise`.
    pub option: String,
    /// The value so far.
    pub old: String,
    /// The value in the new configuration.
    pub new: String,
}

impl Changes {
    /// Whether both configurations are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.refused.is_empty()
    }

    pub(crate) fn add(&mut self, reload: Reload, change: Change) {
        match reload {
            Reload::Live => self.live.push(change),
            Reload::Restart => self.refused.push(change),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} -> {}", self.option, self.old, self.new)
    }
}

/// The reason to refuse a reload: every option that would have to change.
impl fmt::Display for Changes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: Vec<String> = self.refused.iter().map(ToString::to_string).collect();
        formatter.write_str(&refused.join(", "))
    }
}

impl Configuration {
    /// Compares a new configuration with this one, option by option.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Changes {
        let mut changes = Changes::default();
        table::TOP.changes("", self, new, &mut changes);
        changes
    }
}
