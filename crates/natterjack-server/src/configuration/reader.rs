//! One pass over a configuration: where the reading is, what was found wrong, and where each option came from.

use std::collections::BTreeMap;

use natterjack_conf::{Data, Diagnostic, Map, Severity, Span, Value, Variable, VariableSource};

use super::origin::Origin;

/// What readers of values talk to.
pub(crate) struct Reader<'a> {
    pub(crate) diagnostics: &'a mut Vec<Diagnostic>,
    pub(crate) origins: &'a mut BTreeMap<String, Origin>,
    /// Where secrets stand in the sources; no diagnostic may show them.
    pub(crate) secrets: &'a mut Vec<Span>,
    path: String,
    place: Place,
}

/// Where the value that is being read was written.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    File(Span),
    Flag(String),
    /// Nowhere: something that follows from several options.
    Nowhere,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        diagnostics: &'a mut Vec<Diagnostic>,
        origins: &'a mut BTreeMap<String, Origin>,
        secrets: &'a mut Vec<Span>,
    ) -> Self {
        Self {
            diagnostics,
            origins,
            secrets,
            path: String::new(),
            place: Place::Nowhere,
        }
    }

    /// The option that is being read, as `cluster.port`; empty at the top level.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The path of an option of the block that is being read.
    pub(crate) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Whether an option of the block that is being read was given.
    pub(crate) fn is_given(&self, key: &str) -> bool {
        self.origins.contains_key(&self.path_of(key))
    }

    /// The variable that the value being read came from, and whether the environment defines it.
    pub(crate) fn variable(&self) -> Option<(&str, bool)> {
        match self.origins.get(&self.path)? {
            Origin::Variable {
                name,
                is_environment,
                ..
            } => Some((name, *is_environment)),
            Origin::File(_) | Origin::Flag(_) => None,
        }
    }

    pub(crate) fn span(&self) -> Option<Span> {
        match self.place {
            Place::File(span) => Some(span),
            Place::Flag(_) | Place::Nowhere => None,
        }
    }

    /// Reads the value of an option of the block that is being read; remembers where it came from.
    pub(crate) fn option(&mut self, key: &str, value: &Value, read: impl FnOnce(&mut Self)) {
        let path = self.path_of(key);
        self.origins.insert(path.clone(), origin_of(value));
        let outer = std::mem::replace(&mut self.path, path);
        self.at(start_of(value), read);
        self.path = outer;
    }

    /// Reads an entry of the list that is being read.
    pub(crate) fn entry(&mut self, index: usize, value: &Value, read: impl FnOnce(&mut Self)) {
        let path = format!("{}[{index}]", self.path);
        self.origins.insert(path.clone(), origin_of(value));
        let outer = std::mem::replace(&mut self.path, path);
        self.at(start_of(value), read);
        self.path = outer;
    }

    /// Reads what a flag says about an option of the block; it goes before what the file says.
    pub(crate) fn flag(&mut self, key: &str, name: &str, read: impl FnOnce(&mut Self)) {
        let path = self.path_of(key);
        self.origins
            .insert(path.clone(), Origin::Flag(name.to_owned()));
        let outer = std::mem::replace(&mut self.path, path);
        let place = std::mem::replace(&mut self.place, Place::Flag(name.to_owned()));
        read(self);
        self.place = place;
        self.path = outer;
    }

    /// Says of other options of the block that they come from where this one does.
    pub(crate) fn share_origin(&mut self, key: &str, others: &[&str]) {
        for other in others {
            if let Some(origin) = self.origins.get(&self.path_of(key)) {
                let origin = origin.clone();
                self.origins.insert(self.path_of(other), origin);
            }
        }
    }

    /// Goes on in a block that a flag reaches into.
    pub(crate) fn within(&mut self, key: &str, read: impl FnOnce(&mut Self) -> bool) -> bool {
        let path = self.path_of(key);
        let outer = std::mem::replace(&mut self.path, path);
        let result = read(self);
        self.path = outer;
        result
    }

    /// Keeps a value from being shown, also where it is defined as a variable.
    pub(crate) fn hide(&mut self, value: &Value) {
        self.secrets.push(value.span);
        if let Some(Variable {
            from: VariableSource::Definition(span),
            ..
        }) = value.variable
        {
            self.secrets.push(span);
        }
    }

    /// Reads something that stands elsewhere.
    pub(crate) fn at<R>(&mut self, span: Span, read: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.place, Place::File(span));
        let result = read(self);
        self.place = outer;
        result
    }

    pub(crate) fn error(&mut self, message: impl Into<String>) -> &mut Diagnostic {
        self.report(Severity::Error, message.into())
    }

    pub(crate) fn warning(&mut self, message: impl Into<String>) -> &mut Diagnostic {
        self.report(Severity::Warning, message.into())
    }

    pub(crate) fn note(&mut self, message: impl Into<String>) -> &mut Diagnostic {
        self.report(Severity::Note, message.into())
    }

    /// A value of the wrong kind. The value itself is not shown beyond the line it stands on.
    pub(crate) fn expected(&mut self, what: &str, found: &Data) -> &mut Diagnostic {
        let name = self.name().to_owned();
        let label = format!("this is {}", found.kind());
        let diagnostic = self.error(format!("{name} must be {what}, not {}", found.kind()));
        diagnostic.label = Some(label);
        if let Data::Text(text) = found
            && matches!(
                text.to_ascii_lowercase().as_str(),
                "true" | "false" | "yes" | "no" | "on" | "off"
            )
        {
            diagnostic.help = Some("leave out the quotes".to_owned());
        }
        diagnostic
    }

    /// The name of the option that is being read, without the block it is in.
    pub(crate) fn name(&self) -> &str {
        if self.path.is_empty() {
            return "the configuration";
        }
        match self.path.rsplit_once('.') {
            Some((_, name)) => name,
            None => &self.path,
        }
    }

    /// The block that is being read, for messages: without the indices of lists.
    pub(crate) fn block(&self) -> String {
        super::table::without_indices(&self.path).replace("[]", "")
    }

    fn report(&mut self, severity: Severity, message: String) -> &mut Diagnostic {
        let message = match &self.place {
            Place::Flag(name) => format!("flag {}: {message}", super::flags::dashed(name)),
            Place::File(_) | Place::Nowhere => message,
        };
        self.diagnostics
            .push(Diagnostic::new(severity, self.span(), message));
        self.diagnostics.last_mut().expect("one was just pushed")
    }
}

/// Sets advice; reads as a sentence at the place of use.
pub(crate) trait Advise {
    fn help(&mut self, text: impl Into<String>) -> &mut Self;
    fn label(&mut self, text: impl Into<String>) -> &mut Self;
}

impl Advise for Diagnostic {
    fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help = Some(text.into());
        self
    }

    fn label(&mut self, text: impl Into<String>) -> &mut Self {
        self.label = Some(text.into());
        self
    }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Where to point at: of a block or list only its beginning.
fn start_of(value: &Value) -> Span {
    match value.data {
        Data::Map(_) | Data::List(_) if value.variable.is_none() => Span {
            end: value.span.start + 1,
            ..value.span
        },
        _ => value.span,
    }
}

fn origin_of(value: &Value) -> Origin {
    let span = start_of(value);
    match &value.variable {
        Some(variable) => Origin::Variable {
            name: variable.name.clone(),
            is_environment: variable.from == VariableSource::Environment,
            span,
        },
        None => Origin::File(span),
    }
}

/// The map, or a diagnostic.
pub(crate) fn map<'d>(data: &'d Data, reader: &mut Reader<'_>) -> Option<&'d Map> {
    match data {
        Data::Map(map) => Some(map),
        other => {
            let name = reader.name().to_owned();
            reader
                .expected("a block", other)
                .help(format!("write {name} {{ … }}"));
            None
        }
    }
}
