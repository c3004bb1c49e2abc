//! Which nodes are meant, as people say it on the command line: the flags of MCollective.

use natterjack_choria::filter::{FactFilter, Filter, FilterError};

/// Conditions; a node has to meet all of them.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which nodes")]
#[group(id = "conditions")]
pub(super) struct Conditions {
    /// Nodes of this name; several times: any of these. `/…/` is a pattern
    #[arg(short = 'I', long = "with-identity", value_name = "NAME")]
    identity: Vec<String>,
    /// Nodes with this fact, such as os.family=Debian, processors>=4 or fqdn=/^web/
    #[arg(short = 'F', long = "with-fact", value_name = "FACT", value_parser = fact)]
    facts: Vec<FactFilter>,
    /// Nodes with this class; `/…/` is a pattern
    #[arg(short = 'C', long = "with-class", value_name = "CLASS")]
    classes: Vec<String>,
    /// Nodes with this agent; `/…/` is a pattern
    #[arg(short = 'A', long = "with-agent", value_name = "AGENT")]
    agents: Vec<String>,
    /// Facts and classes in one argument, with blanks between them: "apache os.family=Debian"
    #[arg(short = 'W', long = "with", value_name = "FACTS AND CLASSES")]
    mixed: Vec<String>,
    /// Refused: conditions with `and`, `or` and `not` are not supported
    #[arg(short = 'S', long = "select", value_name = "EXPRESSION", hide = true)]
    compound: Vec<String>,
    /// The collective to ask, instead of the main one
    #[arg(short = 'T', long = "target", value_name = "COLLECTIVE")]
    pub(super) collective: Option<String>,
}

impl Conditions {
    /// The same as a filter that travels.
    ///
    /// # Errors
    /// If a pattern cannot be used, or there is a condition of a kind that is not supported.
    pub(super) fn filter(&self) -> Result<Filter, FilterError> {
        if !self.compound.is_empty() {
            return Err(FilterError::Compound);
        }
        let mut filter = Filter {
            fact: self.facts.clone(),
            cf_class: self.classes.clone(),
            agent: self.agents.clone(),
            identity: self.identity.clone(),
            ..Filter::default()
        };
        for word in self.mixed.iter().flat_map(|words| words.split_whitespace()) {
            // A pattern for classes may have any character in it.
            if !word.starts_with('/') && word.contains(['=', '<', '>', '!']) {
                filter.fact.push(word.parse()?);
            } else {
                filter.cf_class.push(word.to_owned());
            }
        }
        filter.check()?;
        Ok(filter)
    }
}

fn fact(text: &str) -> Result<FactFilter, FilterError> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_and_classes_in_one() {
        let conditions = Conditions {
            mixed: vec!["apache os.family=Debian".into(), "/^web=/ uptime>7".into()],
            ..Conditions::default()
        };
        let filter = conditions.filter().unwrap();
        assert_eq!(filter.cf_class, ["apache", "/^web=/"]);
        let facts: Vec<_> = filter.fact.iter().map(ToString::to_string).collect();
        assert_eq!(facts, ["os.family==Debian", "uptime>7"]);
    }

    #[test]
    fn what_no_node_could_read_is_refused_here() {
        let identity = Conditions {
            identity: vec!["/(/".into()],
            ..Conditions::default()
        };
        assert!(matches!(
            identity.filter(),
            Err(FilterError::Pattern { .. })
        ));
        let name = Conditions {
            identity: vec!["nod e".into()],
            ..Conditions::default()
        };
        let error = name.filter().unwrap_err().to_string();
        assert!(
            error.contains("no node can be called so: \"nod e\""),
            "{error}"
        );
        let compound = Conditions {
            compound: vec!["a and b".into()],
            ..Conditions::default()
        };
        assert_eq!(compound.filter(), Err(FilterError::Compound));
    }
}
