//! Lists of names and patterns, such as those of who may ask.

use regex::RegexSet;

use crate::filter::FilterError;

/// A name fits if it is one of the names or one of the patterns is found in it.
#[derive(Clone, Debug, Default)]
pub struct NamePatterns {
    names: Vec<String>,
    patterns: RegexSet,
}

impl NamePatterns {
    /// Takes names and, between slashes, patterns.
    ///
    /// # Errors
    /// If a pattern cannot be read.
    pub fn new(items: &[String]) -> Result<Self, FilterError> {
        let mut names = Vec::new();
        let mut patterns = Vec::new();
        for item in items {
            match crate::filter::pattern(item) {
                Some(pattern) => {
                    crate::filter::compile(pattern)?;
                    patterns.push(pattern);
                }
                None => names.push(item.clone()),
            }
        }
        let patterns = RegexSet::new(&patterns).map_err(|error| FilterError::Pattern {
            pattern: patterns.join(", "),
            reason: error.to_string(),
        })?;
        Ok(Self { names, patterns })
    }

    /// Whether this name fits. A name in the list must be the whole name.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name) || self.patterns.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_and_patterns_are_found() {
        let items = ["bob".to_owned(), r"/\.mcollective$/".to_owned()];
        let patterns = NamePatterns::new(&items).unwrap();
        assert!(patterns.fits("bob") && patterns.fits("rip.mcollective"));
        // MCollective would take both: it looks for names anywhere.
        assert!(!patterns.fits("bobby") && !patterns.fits("rip.mcollective.evil"));
        assert!(!NamePatterns::default().fits("bob"));
        assert!(NamePatterns::new(&["/(/".to_owned()]).is_err());
    }
}
