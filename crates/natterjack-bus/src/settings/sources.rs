//! Where settings may come from: a document, environment variables, flags. Only gathers; `read` makes sense of them.

use std::path::{Path, PathBuf};

use super::table::{self, Row};
use super::value::Shown;
use super::{Settings, value};

/// What the names of environment variables begin with, unless somebody chooses another word.
pub const PREFIX: &str = "BINDPLANE";

/// The settings file that is read if none is named.
pub const DEFAULT_FILE: &str = "/etc/bindplane/config.yaml";

/// Sources of settings. For each option the value of a flag counts, else that of a variable, else that of the
/// document, else the default; a list is never put together from several.
///
/// ```
/// use natterjack_bus::settings::{Settings, Sources};
///
/// let sources = Sources::new()
///     .text("bus.yaml", "eventBus: {type: nats, nats: {client: {name: a}}}")
///     .variables("MYAPP", [("MYAPP_NATS_CLIENT_NAME", "b"), ("MYAPP_NATS_SERVER_ENABLE", "")])
///     .flag("nats-server-client-port", "4333");
/// let loaded = Settings::load(&sources)?;
/// assert_eq!(loaded.settings.nats.client.name, "b");
/// assert_eq!(loaded.settings.nats.server.client.port, 4333);
/// let origin = loaded.origins.of("eventBus.nats.client.name").unwrap();
/// assert_eq!(origin.to_string(), "MYAPP_NATS_CLIENT_NAME");
/// # Ok::<(), natterjack_bus::settings::Problems>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub(super) document: Option<Document>,
    pub(super) prefix: String,
    pub(super) variables: Vec<(String, Text)>,
    pub(super) flags: Vec<(String, String)>,
}

/// A text, or `None` for one that is not UTF-8.
type Text = Option<String>;

#[derive(Clone, Debug)]
pub(super) enum Document {
    File(PathBuf),
    Text { name: String, text: String },
}

impl Sources {
    /// None: everything is the default.
    #[must_use]
    pub fn new() -> Self {
        Self {
            prefix: PREFIX.into(),
            ..Self::default()
        }
    }

    /// A YAML file. It must be there when the settings are loaded.
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        Self {
            document: Some(Document::File(path.into())),
            ..self
        }
    }

    /// [`DEFAULT_FILE`], if it exists.
    #[must_use]
    pub fn default_file(self) -> Self {
        if Path::new(DEFAULT_FILE).exists() {
            self.file(DEFAULT_FILE)
        } else {
            self
        }
    }

    /// A YAML document's text; `name` is what it is called in messages.
    #[must_use]
    pub fn text(self, name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            document: Some(Document::Text {
                name: name.into(),
                text: text.into(),
            }),
            ..self
        }
    }

    /// This process' environment, with names that begin with `prefix` and an underscore, such as [`PREFIX`]. Variables
    /// that are empty count as unset.
    #[must_use]
    pub fn environment(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        let named = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value.into_string().ok()))
        });
        self.variables = named.collect();
        self
    }

    /// Variables as [`environment`](Self::environment) takes them, from elsewhere.
    #[must_use]
    pub fn variables<N: Into<String>, V: Into<String>>(
        mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.prefix = prefix.into();
        let variables = variables.into_iter();
        self.variables = variables
            .map(|(name, value)| (name.into(), Some(value.into())))
            .collect();
        self
    }

    /// A flag that was given, without the dashes in front; see [`options`] for those there are. Of one value the last
    /// counts; a list's texts are put together.
    #[must_use]
    pub fn flag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.flags.push((name.into(), value.into()));
        self
    }

    /// The full name of a row's variable.
    pub(super) fn variable_name(&self, row: &Row) -> String {
        format!("{}_{}", self.prefix, row.variable)
    }
}

/// What there is to know of an option, for those who make flags or documentation of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionFacts {
    /// Full path in a document, such as `eventBus.nats.client.port`.
    pub path: &'static str,
    /// Another path that is read, too.
    pub also: Option<&'static str>,
    /// Name of the flag, without the dashes.
    pub flag: &'static str,
    /// Name of the environment variable, without the prefix and its underscore.
    pub variable: &'static str,
    /// What kind of value it is, for people.
    pub kind: &'static str,
    /// The same in a word, as flags show it.
    pub word: &'static str,
    /// Whether it is on or off, so that the flag alone means on.
    pub is_switch: bool,
    /// Whether it is a list: several flags add up.
    pub is_list: bool,
    /// The default, in words where it is not the same everywhere; Markdown.
    pub default: String,
    /// What it is about, one sentence; Markdown.
    pub help: &'static str,
}

/// All options, in the order in which they are explained.
pub fn options() -> impl Iterator<Item = OptionFacts> {
    let defaults = Settings::default();
    table::ROWS.iter().map(move |row| OptionFacts {
        path: row.path,
        also: row.also,
        flag: row.flag,
        variable: row.variable,
        kind: row.slot.kind(),
        word: row.slot.word(),
        is_switch: matches!(row.slot, table::Slot::Switch(_)),
        is_list: row.slot.is_list(),
        default: match (row.default, value::show(row.slot, &defaults)) {
            (Some(words), _) => words.into(),
            (None, Shown::One(value)) => format!("`{value}`"),
            (None, Shown::Nothing | Shown::Many(_)) => "none".into(),
        },
        help: row.help,
    })
}
