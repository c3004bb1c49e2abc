//! What is wrong with the settings: each problem says where, which option, what, and what to do.

use std::fmt;

/// Whether a problem prevents a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The settings cannot be used.
    Error,
    /// They can, but probably not as intended.
    Warning,
}

/// Where a setting was written: 1-based line and column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Which document, usually a path.
    pub origin: String,
    /// Where in it, if it is about a place.
    pub place: Option<Place>,
    /// The option's full path, such as `eventBus.nats.client.port`; empty if it is about the whole document.
    pub option: String,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// Every problem found in one document, in document order; at least one is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub(super) fn unreadable(origin: &str, error: &std::io::Error) -> Self {
        Self(vec![Problem {
            severity: Severity::Error,
            origin: origin.into(),
            place: None,
            option: String::new(),
            message: format!("cannot read this file: {error}"),
        }])
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.origin)?;
        if let Some(place) = self.place {
            write!(formatter, ":{place}")?;
        }
        if self.severity == Severity::Warning {
            formatter.write_str(": warning")?;
        }
        if !self.option.is_empty() {
            write!(formatter, ": {}", self.option)?;
        }
        write!(formatter, ": {}", self.message)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            problem.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
