//! What is wrong with the settings: each problem says where, which option, what, and what to do.

use std::fmt;

use super::Origin;

/// Whether a problem prevents a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The settings cannot be used.
    Error,
    /// They can, but probably not as intended.
    Warning,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where the value at fault was given.
    pub origin: Origin,
    /// The option's full path, such as `eventBus.nats.client.port`, as it was written; empty if it is about a whole
    /// document.
    pub option: String,
    /// The value at fault, if it is about one that was given.
    pub value: Option<String>,
    /// What is wrong; names the value.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// Every problem found, in the order of the document, then of variables and flags; at least one is an error. `Debug` is for
/// people as well: it is what a `main` that answers with an error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// What is found while settings are read and checked.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Problem>);

/// What is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// What a problem is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) origin: &'a Origin,
    pub(super) option: &'a str,
    pub(super) value: Option<&'a str>,
}

impl Findings {
    pub(super) fn error(&mut self, about: About<'_>, wrong: Wrong) {
        self.report(Severity::Error, about, wrong);
    }

    pub(super) fn warn(&mut self, about: About<'_>, wrong: Wrong) {
        self.report(Severity::Warning, about, wrong);
    }

    pub(super) fn report(&mut self, severity: Severity, about: About<'_>, wrong: Wrong) {
        self.0.push(Problem {
            severity,
            origin: about.origin.clone(),
            option: about.option.into(),
            value: about.value.map(Into::into),
            message: wrong.message,
            remedy: wrong.remedy,
        });
    }

    pub(super) fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    pub(super) fn errors(&self) -> usize {
        self.0.iter().filter(|problem| problem.is_error()).count()
    }

    /// All of them, in order.
    pub(super) fn sorted(mut self) -> Vec<Problem> {
        self.0.sort_by(|one, other| one.origin.cmp(&other.origin));
        self.0
    }
}

impl Problem {
    /// Whether it prevents a start.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Problems {
    /// Those that prevent a start.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().filter(|problem| problem.is_error())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(formatter, "{}: ", self.origin)?;
        }
        if self.severity == Severity::Warning {
            formatter.write_str("warning: ")?;
        }
        if !self.option.is_empty() {
            write!(formatter, "{}: ", self.option)?;
        }
        write!(formatter, "{}; {}", self.message, self.remedy)
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

impl fmt::Debug for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Several begin each on a line of its own, whatever stands before them.
        if self.0.len() > 1 {
            formatter.write_str("\n")?;
        }
        fmt::Display::fmt(self, formatter)
    }
}

impl std::error::Error for Problems {}
