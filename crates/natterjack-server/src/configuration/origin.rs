//! Where an option's value came from.

use natterjack_conf::{Sources, Span};

/// Where an option's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Written in a file.
    File(Span),
    /// Written in a file as `$name`.
    Variable {
        name: String,
        /// Whether the environment defines it, not the file.
        is_environment: bool,
        /// Where `$name` stands.
        span: Span,
    },
    /// Given by a flag of this name.
    Flag(String),
}

impl Origin {
    pub(crate) fn span(&self) -> Option<Span> {
        match self {
            Self::File(span) | Self::Variable { span, .. } => Some(*span),
            Self::Flag(_) => None,
        }
    }

    /// For a comment at the end of a line.
    pub(crate) fn text(&self, sources: &Sources) -> String {
        let place = |span: Span| {
            let position = sources.position(span);
            format!("{}:{}", position.path.display(), position.line)
        };
        match self {
            Self::File(span) => place(*span),
            Self::Variable {
                name,
                is_environment: true,
                span,
            } => format!("environment variable {name}, {}", place(*span)),
            Self::Variable { name, span, .. } => format!("variable {name}, {}", place(*span)),
            Self::Flag(name) => format!("flag {}", super::flags::dashed(name)),
        }
    }
}
