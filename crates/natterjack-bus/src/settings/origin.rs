//! Where a value comes from.

use std::fmt;
use std::sync::Arc;

use super::table;

/// Where in a document: 1-based line and column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// Where a value was given. In the order of [`Ord`] a document comes first, place by place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In a document.
    File {
        /// Its name, usually a path.
        name: Arc<str>,
        /// Where in it, if it is about a place.
        place: Option<Place>,
    },
    /// In an environment variable of this name.
    Variable(String),
    /// With a flag of this name, without the dashes.
    Flag(String),
    /// Nowhere: it is the default, or an embedder's.
    Default,
}

/// Where each option's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins(Vec<Origin>);

impl Origins {
    pub(super) fn defaults() -> Self {
        Self(vec![Origin::Default; table::ROWS.len()])
    }

    pub(super) fn set(&mut self, index: usize, origin: Origin) {
        self.0[index] = origin;
    }

    pub(super) fn at(&self, index: usize) -> &Origin {
        &self.0[index]
    }

    /// By the option's full path as the documentation has it, such as `eventBus.nats.client.port`; `None` if there is
    /// no such option.
    #[must_use]
    pub fn of(&self, option: &str) -> Option<&Origin> {
        let index = table::ROWS.iter().position(|row| row.path == option)?;
        Some(&self.0[index])
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, place: None } => formatter.write_str(name),
            Self::File {
                name,
                place: Some(place),
            } => write!(formatter, "{name}:{place}"),
            Self::Variable(name) => formatter.write_str(name),
            Self::Flag(name) => write!(formatter, "--{name}"),
            Self::Default => formatter.write_str("default"),
        }
    }
}
