//! Configuration of a daemon: files and flags read into [`Options`] and [`Daemon`], everything that is wrong with them,
//! where each value came from, and what a new configuration changes.
//!
//! Its heart is the table of options (`table`): everything here is driven by its rows. What a value may be is checked
//! where it is read; what must fit together is checked when all is read (`checks`), for an embedder's options by the
//! same rules ([`Options::problems`]).

mod daemon;
pub mod flags;

mod table;

mod changes;
mod checks;
mod codec;
mod documentation;
mod explain;
pub(crate) mod host_port;
mod origin;
mod reader;
mod render;
mod route_url;
mod row;
mod shape;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use natterjack_conf::{Diagnostic, Environment, Map, Severity, Sources, Span};

pub use self::changes::{Change, Changes};
pub use self::daemon::{Daemon, LogFormat};
pub use self::documentation::document;
pub use self::flags::{CommandLine, FlagError, Flags};
use self::origin::Origin;
use self::reader::Reader;
pub use self::row::Reload;
use crate::options::Options;

/// All a daemon can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// What the server does.
    pub options: Options,
    /// What the process around it does.
    pub daemon: Daemon,
    /// Fingerprint of the file's values, `sha256:` and hexadecimal digits, as nats-server shows it; `None` without a
    /// file.
    pub digest: Option<String>,
    /// The file, if there is one.
    pub path: Option<PathBuf>,
}

/// A configuration, what was found about it, and where it came from.
#[derive(Clone)]
pub struct Loaded {
    /// What was read. Only to be used if [`is_valid`](Self::is_valid).
    pub configuration: Configuration,
    /// Everything that was found: errors, warnings that nats-server has too, advice of ours.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that the places of the diagnostics are in.
    pub sources: Sources,
    origins: BTreeMap<String, Origin>,
    /// Where secrets stand in the sources.
    secrets: Vec<Span>,
}

impl Configuration {
    /// Reads a file, if there is one, and what the flags say, which goes before it. Finds everything that is wrong in
    /// one run, also in the files it names, such as certificates.
    #[must_use]
    pub fn load(path: Option<&Path>, flags: &Flags, environment: &dyn Environment) -> Loaded {
        let mut loaded = match path {
            None => Loaded::read(&Map::default(), Sources::default(), Vec::new(), flags),
            Some(path) => {
                let parsed = natterjack_conf::load(path, environment);
                let digest = parsed.digest();
                let mut loaded =
                    Loaded::read(&parsed.root, parsed.sources, parsed.diagnostics, flags);
                loaded.configuration.digest = Some(digest);
                loaded.configuration.path = Some(path.to_owned());
                loaded
            }
        };
        loaded.finish();
        loaded
    }

    /// The same for a text that is not in a file; `name` stands for it in diagnostics.
    #[must_use]
    pub fn parse(name: &str, text: &str, flags: &Flags, environment: &dyn Environment) -> Loaded {
        let parsed = natterjack_conf::parse(name, text, environment);
        let digest = parsed.digest();
        let mut loaded = Loaded::read(&parsed.root, parsed.sources, parsed.diagnostics, flags);
        loaded.configuration.digest = Some(digest);
        loaded.finish();
        loaded
    }
}

/// Without the sources, in which secrets stand as they were written.
impl fmt::Debug for Loaded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Loaded")
            .field("configuration", &self.configuration)
            .field("diagnostics", &self.diagnostics)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    fn read(root: &Map, sources: Sources, mut diagnostics: Vec<Diagnostic>, flags: &Flags) -> Self {
        let mut configuration = Configuration::default();
        render::hide_secrets(&mut diagnostics, &sources);
        let (mut origins, mut secrets) = (BTreeMap::new(), Vec::new());
        let mut reader = Reader::new(&mut diagnostics, &mut origins, &mut secrets);
        table::TOP.read(&mut configuration, root, &mut reader);
        // `-tls=false` switches off what other flags set, wherever it stands among them.
        let (last, first): (Vec<_>, Vec<_>) =
            flags.given.iter().partition(|given| given.flag == "tls");
        for given in first.into_iter().chain(last) {
            table::TOP.read_flag(&mut configuration, given, &mut reader);
        }
        table::settle(&mut configuration, &reader);
        Self {
            configuration,
            diagnostics,
            sources,
            origins,
            secrets,
        }
    }

    /// Checks what must fit together, and puts what was found in the order of the files; what has no place comes last.
    fn finish(&mut self) {
        checks::check(self);
        self.diagnostics.sort_by_key(|diagnostic| {
            diagnostic.span.map_or((true, None), |span| {
                (false, Some((span.source, span.start)))
            })
        });
    }

    /// Whether the configuration can be used: nothing that was found is an error.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.of(Severity::Error).next().is_none()
    }

    /// What makes the configuration unusable.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.of(Severity::Error)
    }

    /// What nats-server warns about, too: its `-t` refuses such a configuration, but it runs with it.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.of(Severity::Warning)
    }

    /// Advice of ours, without consequences.
    pub fn notes(&self) -> impl Iterator<Item = &Diagnostic> {
        self.of(Severity::Note)
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics
            .iter()
            .filter(move |diagnostic| diagnostic.severity == severity)
    }
}

#[cfg(test)]
mod tests;
