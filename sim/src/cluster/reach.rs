//! Which interest servers tell each other of, by their permissions: worked out anew here, the slow and obvious way, to
//! compare with what the servers make of it.
//!
//! Rules are such that it does not matter how wildcards of a subscription are taken: each covers a subscription wholly,
//! or has nothing to do with its words as they are written. What servers do in between is tested beside the engine.

use fastrand::Rng;
use natterjack_engine::{ClusterSettings, SubjectRules};

/// What each server lets in and out, by its number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach(Vec<[Option<SubjectRules>; 2]>);

impl Reach {
    pub(crate) fn new(nodes: &[ClusterSettings]) -> Self {
        let of_node = |node: &ClusterSettings| [node.import.clone(), node.export.clone()];
        Self(nodes.iter().map(of_node).collect())
    }

    /// Whether `here` is told what a subscriber at `there` wants: the one has to ask for it, the other to let it go.
    pub(crate) fn reaches(&self, here: usize, there: usize, pattern: &str) -> bool {
        let [import, _] = &self.0[there];
        let [_, export] = &self.0[here];
        here == there || permits(import.as_ref(), pattern) && permits(export.as_ref(), pattern)
    }
}

/// Something to permit, now and then everything. Questions and answers always are.
pub(crate) fn some_rules(rng: &mut Rng) -> Option<SubjectRules> {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let [allow, deny]: [&[&str]; 2] = match rng.u8(..6) {
        0 => [
            &["a", "a.>", "ask.>", "inbox.>", "id.>", "serve.>", "_R_.>"],
            &[],
        ],
        1 => [
            &["b.>", "a.>", "ask.>", "inbox.>", "serve.>", "_R_.>"],
            &["a.b"],
        ],
        2 => [&[], &["b.>"]],
        3 => [&[], &["a", "b.a", "a.>"]],
        // Nothing of the clients' but what they ask each other.
        4 => [&[], &["a", "b", "a.>", "b.>"]],
        _ => return None,
    };
    Some(SubjectRules {
        allow: (!allow.is_empty()).then(|| texts(allow)),
        deny: texts(deny),
    })
}

fn permits(rules: Option<&SubjectRules>, pattern: &str) -> bool {
    rules.is_none_or(|rules| {
        let is_covered = |list: &Vec<String>| list.iter().any(|rule| covers(rule, pattern));
        rules.allow.as_ref().is_none_or(is_covered) && !is_covered(&rules.deny)
    })
}

/// Whether all that matches `pattern` matches `rule`.
fn covers(rule: &str, pattern: &str) -> bool {
    let mut words = pattern.split('.');
    for part in rule.split('.') {
        let word = words.next();
        match (part, word) {
            (">", word) => return word.is_some(),
            ("*", Some(word)) if word != ">" => {}
            (part, Some(word)) if part == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_rule_covers_what_it_matches_wholly() {
        for (rule, pattern, expected) in [
            ("a", "a", true),
            ("a", "*", false),
            ("a.>", "a.*", true),
            ("a.>", "a.>", true),
            ("a.>", "a", false),
            ("a.>", "*.>", false),
            ("a.>", ">", false),
            (">", ">", true),
            ("*.b", "a.b", true),
            ("*.b", "*.>", false),
            ("*", ">", false),
        ] {
            assert_eq!(covers(rule, pattern), expected, "{rule} {pattern}");
        }
    }
}
