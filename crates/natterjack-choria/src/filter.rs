//! Whom a request is for: facts, classes, agents and identities, as they travel, as people write them, and whether a node is
//! meant.
//!
//! Different kinds of conditions must all hold. Of identities one suffices, since a node has but one. Of facts, classes and
//! agents all must hold.
//!
//! MCollective in Ruby and Choria in Go differ in small things; where they do, this goes by Go, which is what runs today:
//! texts of facts and classes are compared without regard to case.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::identity::{self, NameError};

/// Memory that a pattern may take, in bytes. Patterns come from others; they cannot take long, by the way they are matched,
/// but they could be large.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Conditions that one filter may have, beside names of nodes, which cost nothing to compare: a node looks at all of them
/// before it takes the next message.
const CONDITIONS_MAX: usize = 64;

/// Their text, in bytes. Some of a pattern's letters, such as `\PL`, stand for tables of all of Unicode: a KiB of them takes
/// a tenth of a second to read.
const CONDITION_TEXT_BYTES_MAX: usize = 4 << 10;

/// Memory that all patterns of a filter may take, in bytes; each gets the same part. One that has `\w` twice takes 128 KiB.
const ALL_PATTERNS_BYTES_MAX: usize = 512 << 10;

/// Letters of a pattern that people see where it is wrong.
const SHOWN_LETTERS_MAX: usize = 100;

/// Conditions on nodes. Without any, every node is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Conditions on facts.
    #[serde(default)]
    pub fact: Vec<FactFilter>,
    /// Classes of the configuration management; `/…/` is a pattern.
    #[serde(default)]
    pub cf_class: Vec<String>,
    /// Agents that the node has; `/…/` is a pattern.
    #[serde(default)]
    pub agent: Vec<String>,
    /// Identities; `/…/` is a pattern.
    #[serde(default)]
    pub identity: Vec<String>,
    /// Conditions with `and`, `or` and `not`, which this library only passes on.
    #[serde(default)]
    pub compound: Vec<Value>,
}

/// A condition on one fact. Written in this order, which is that of MCollective.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactFilter {
    /// Its name; of structured facts with dots, `networking.domain`.
    pub fact: String,
    /// With what to compare.
    pub value: String,
    /// How to compare.
    pub operator: Operator,
}

/// How a fact is compared with a value: as numbers if both are, else as texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Not less.
    #[serde(rename = ">=")]
    NotLess,
    /// Not greater.
    #[serde(rename = "<=")]
    NotGreater,
    /// Less.
    #[serde(rename = "<")]
    Less,
    /// Greater.
    #[serde(rename = ">")]
    Greater,
    /// Another one.
    #[serde(rename = "!=")]
    Other,
    /// The same.
    #[serde(rename = "==")]
    Same,
    /// The pattern is found in it.
    #[serde(rename = "=~")]
    Found,
}

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// Not `name operator value`.
    #[error(
        "{0:?} is no condition on a fact; write for instance os.family=Debian, uptime_days>=7 or fqdn=~/^web/"
    )]
    Fact(String),
    /// A pattern that cannot be read, or takes too much memory.
    #[error("the pattern {:?} cannot be used: {reason}", shown(pattern))]
    Pattern {
        /// As it was written.
        pattern: String,
        /// Why not.
        reason: String,
    },
    /// Conditions with `and`, `or` and `not`.
    #[error("compound filters are not supported; use conditions on facts, classes and identities")]
    Compound,
    /// No node can be called so.
    #[error("no node can be called so: {0}")]
    Identity(NameError),
    /// More than a node looks at.
    #[error(
        "{0} conditions are too many: {CONDITIONS_MAX} are allowed, beside names of nodes without patterns"
    )]
    TooMany(usize),
    /// The same, of their text.
    #[error("conditions of {0} bytes are too long: {CONDITION_TEXT_BYTES_MAX} are allowed in all")]
    TooLong(usize),
}

fn shown(pattern: &str) -> String {
    let mut letters = pattern.chars();
    let mut shown: String = letters.by_ref().take(SHOWN_LETTERS_MAX).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// What is known of a node.
#[derive(Clone, Copy, Debug)]
pub struct Inventory<'a> {
    /// Its identity.
    pub identity: &'a str,
    /// Classes that the configuration management gave it.
    pub classes: &'a [String],
    /// Agents that it has.
    pub agents: &'a [String],
    /// Its facts: a JSON object.
    pub facts: &'a Value,
}

impl Filter {
    /// Whether every node is meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nodes can tell if they are meant. Those that cannot stay silent, so it is better to know before.
    ///
    /// # Errors
    /// As [`Self::is_match`], or if no node can be called as one that is named.
    pub fn check(&self) -> Result<(), FilterError> {
        let nobody = Inventory {
            identity: "",
            classes: &[],
            agents: &[],
            facts: &Value::Null,
        };
        let names = self.identity.iter();
        for name in names.filter(|wanted| pattern(wanted).is_none()) {
            identity::check(name).map_err(FilterError::Identity)?;
        }
        let bytes_max = self.pattern_bytes_max()?;
        self.is_match_within(&nobody, bytes_max).map(drop)
    }

    /// The nodes that can be meant, if there is nothing but identities without patterns: they need not be looked for.
    #[must_use]
    pub fn named_identities(&self) -> Option<&[String]> {
        let alone = Self {
            identity: self.identity.clone(),
            agent: self.agent.clone(),
            ..Self::default()
        };
        let is_name = |identity: &String| pattern(identity).is_none();
        let are_named = *self == alone && !self.identity.is_empty();
        (are_named && self.identity.iter().all(is_name)).then_some(&self.identity)
    }

    /// Whether this node is meant.
    ///
    /// # Errors
    /// If a pattern cannot be used, there are compound conditions, or too many: then nobody knows, and the node must stay out
    /// of it. A pattern is not looked at where the rest says already that the node is not meant.
    pub fn is_match(&self, node: &Inventory<'_>) -> Result<bool, FilterError> {
        let bytes_max = self.pattern_bytes_max()?;
        if !self.may_match(node) {
            return Ok(false);
        }
        self.is_match_within(node, bytes_max)
    }

    /// What each pattern may take, if there are no more conditions than a node looks at.
    fn pattern_bytes_max(&self) -> Result<usize, FilterError> {
        if !self.compound.is_empty() {
            return Err(FilterError::Compound);
        }
        let facts = self.fact.iter();
        let facts = facts.map(|fact| {
            let is_pattern = fact.operator == Operator::Found;
            (fact.fact.len() + fact.value.len(), is_pattern)
        });
        let others = self.cf_class.iter().chain(&self.agent);
        let identities = self
            .identity
            .iter()
            .filter(|wanted| pattern(wanted).is_some());
        let names = others.chain(identities);
        let names = names.map(|wanted| (wanted.len(), pattern(wanted).is_some()));
        let (mut conditions, mut bytes, mut patterns) = (0, 0, 0);
        for (length, is_pattern) in facts.chain(names) {
            conditions += 1;
            bytes += length;
            patterns += usize::from(is_pattern);
        }
        if conditions > CONDITIONS_MAX {
            return Err(FilterError::TooMany(conditions));
        }
        if bytes > CONDITION_TEXT_BYTES_MAX {
            return Err(FilterError::TooLong(bytes));
        }
        Ok(ALL_PATTERNS_BYTES_MAX / patterns.max(1))
    }

    /// Whether all conditions hold that are no patterns.
    fn may_match(&self, node: &Inventory<'_>) -> bool {
        let is_pattern = |wanted: &String| pattern(wanted).is_some();
        let identities = &self.identity;
        let is_named = identities.is_empty()
            || (identities.iter()).any(|wanted| is_pattern(wanted) || wanted == node.identity);
        let has_class = |wanted: &String| {
            is_pattern(wanted)
                || (node.classes.iter()).any(|name| name.eq_ignore_ascii_case(wanted))
        };
        let has_agent = |wanted: &String| is_pattern(wanted) || node.agents.contains(wanted);
        let has_fact = |condition: &FactFilter| {
            condition.operator == Operator::Found
                || condition.is_match(node.facts, 0).unwrap_or_default()
        };
        is_named
            && self.cf_class.iter().all(has_class)
            && self.agent.iter().all(has_agent)
            && self.fact.iter().all(has_fact)
    }

    fn is_match_within(&self, node: &Inventory<'_>, bytes_max: usize) -> Result<bool, FilterError> {
        // All are looked at, so that what is wrong is found whatever the order.
        let mut is_match = true;
        if !self.identity.is_empty() {
            is_match &= any(&self.identity, |wanted| {
                is_named(wanted, false, bytes_max, std::iter::once(node.identity))
            })?;
        }
        for wanted in &self.cf_class {
            is_match &= is_named(
                wanted,
                true,
                bytes_max,
                node.classes.iter().map(String::as_str),
            )?;
        }
        for wanted in &self.agent {
            is_match &= is_named(
                wanted,
                false,
                bytes_max,
                node.agents.iter().map(String::as_str),
            )?;
        }
        for condition in &self.fact {
            is_match &= condition.is_match(node.facts, bytes_max)?;
        }
        Ok(is_match)
    }
}

impl FactFilter {
    fn is_match(&self, facts: &Value, pattern_bytes_max: usize) -> Result<bool, FilterError> {
        let test = Test::new(self.operator, &self.value, pattern_bytes_max)?;
        Ok(find(facts, &self.fact).is_some_and(|fact| match fact {
            // As MCollective: one of several values suffices, and of a structure its keys count.
            Value::Array(values) => values.iter().any(|value| test.holds(value)),
            Value::Object(fields) => fields.keys().any(|key| test.holds_for_text(key)),
            value => test.holds(value),
        }))
    }
}

impl FromStr for FactFilter {
    type Err = FilterError;

    /// Reads what people write: `name=value`, `name=/pattern/`, and all operators; `=>` and `=<` are taken for `>=` and `<=`.
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let wrong = || FilterError::Fact(text.to_owned());
        let start = text.find(['=', '<', '>', '!']).ok_or_else(wrong)?;
        let (fact, rest) = text.split_at(start);
        // The longer ones first: a `>` is part of `>=`.
        let operators = [
            (">=", Operator::NotLess),
            ("=>", Operator::NotLess),
            ("<=", Operator::NotGreater),
            ("=<", Operator::NotGreater),
            ("!=", Operator::Other),
            ("==", Operator::Same),
            ("=~", Operator::Found),
            ("<", Operator::Less),
            (">", Operator::Greater),
            ("=", Operator::Same),
        ];
        let found = operators
            .iter()
            .find_map(|(word, operator)| Some((*word, *operator, rest.strip_prefix(word)?)));
        let (word, mut operator, value) = found.ok_or_else(wrong)?;
        let (fact, value) = (fact.trim(), value.trim());
        if fact.is_empty() || value.is_empty() || fact.contains(char::is_whitespace) {
            return Err(wrong());
        }
        if word == "=" && pattern(value).is_some() {
            operator = Operator::Found;
        }
        // A mistake in a pattern is told to who wrote it, and not by silence of all nodes.
        Test::new(operator, value, PATTERN_BYTES_MAX)?;
        Ok(Self {
            fact: fact.to_owned(),
            operator,
            value: value.to_owned(),
        })
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotLess => ">=",
            Self::NotGreater => "<=",
            Self::Less => "<",
            Self::Greater => ">",
            Self::Other => "!=",
            Self::Same => "==",
            Self::Found => "=~",
        })
    }
}

impl fmt::Display for FactFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}{}", self.fact, self.operator, self.value)
    }
}

/// What a fact has to stand.
enum Test<'a> {
    Pattern(Regex),
    Comparison(Operator, &'a str),
}

impl<'a> Test<'a> {
    fn new(operator: Operator, value: &'a str, bytes_max: usize) -> Result<Self, FilterError> {
        Ok(if operator == Operator::Found {
            let pattern = pattern(value).unwrap_or(value);
            Self::Pattern(compile_within(pattern, false, bytes_max)?)
        } else {
            Self::Comparison(operator, value)
        })
    }

    fn holds(&self, fact: &Value) -> bool {
        match fact {
            Value::Null | Value::Array(_) | Value::Object(_) => false,
            Value::String(text) => self.holds_for_text(text),
            Value::Number(number) => self.holds_for_text(&number.to_string()),
            Value::Bool(truth) => self.holds_for_truth(*truth),
        }
    }

    fn holds_for_truth(&self, truth: bool) -> bool {
        let is_meant = |value: &str| {
            let words = if truth {
                ["1", "true", "t", "yes", "y", "on"]
            } else {
                ["0", "false", "f", "no", "n", "off"]
            };
            words.iter().any(|word| value.eq_ignore_ascii_case(word))
        };
        match self {
            Self::Pattern(pattern) => pattern.is_match(if truth { "true" } else { "false" }),
            Self::Comparison(Operator::Same, value) => is_meant(value),
            Self::Comparison(Operator::Other, value) => !is_meant(value),
            Self::Comparison(..) => false,
        }
    }

    fn holds_for_text(&self, fact: &str) -> bool {
        let (operator, value) = match self {
            Self::Pattern(pattern) => return pattern.is_match(fact),
            Self::Comparison(operator, value) => (*operator, *value),
        };
        let order = match (number(fact), number(value)) {
            (Some(fact), Some(value)) => fact.total_cmp(&value),
            _ => fact.to_lowercase().cmp(&value.to_lowercase()),
        };
        match operator {
            Operator::NotLess => order != Ordering::Less,
            Operator::NotGreater => order != Ordering::Greater,
            Operator::Less => order == Ordering::Less,
            Operator::Greater => order == Ordering::Greater,
            Operator::Other => order != Ordering::Equal,
            Operator::Same => order == Ordering::Equal,
            Operator::Found => false,
        }
    }
}

/// `1e3`, `inf` and the like are texts here; so are numbers that would lose digits.
fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = !digits.is_empty()
        && digits.len() <= 15
        && digits.starts_with(|letter: char| letter.is_ascii_digit())
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_plain { text.parse().ok() } else { None }
}

/// A fact by its name, or by the way to it: `os.family`, `disks.0`.
pub(crate) fn find<'a>(facts: &'a Value, name: &str) -> Option<&'a Value> {
    let facts = facts.as_object()?;
    if let Some(fact) = facts.get(name) {
        return Some(fact);
    }
    let (first, rest) = name.split_once('.')?;
    rest.split('.')
        .try_fold(facts.get(first)?, |fact, key| match fact {
            Value::Object(fields) => fields.get(key),
            Value::Array(values) => values.get(key.parse::<usize>().ok()?),
            _ => None,
        })
}

/// Whether one of the names is the wanted one.
fn is_named<'a>(
    wanted: &str,
    ignores_case: bool,
    pattern_bytes_max: usize,
    mut names: impl Iterator<Item = &'a str>,
) -> Result<bool, FilterError> {
    Ok(match pattern(wanted) {
        Some(wanted) => {
            let wanted = compile_within(wanted, ignores_case, pattern_bytes_max)?;
            names.any(|name| wanted.is_match(name))
        }
        None if ignores_case => names.any(|name| name.eq_ignore_ascii_case(wanted)),
        None => names.any(|name| name == wanted),
    })
}

fn any(
    wanted: &[String],
    test: impl Fn(&str) -> Result<bool, FilterError>,
) -> Result<bool, FilterError> {
    wanted
        .iter()
        .try_fold(false, |found, wanted| Ok(test(wanted)? | found))
}

/// What stands between slashes.
pub(crate) fn pattern(text: &str) -> Option<&str> {
    text.strip_prefix('/')?.strip_suffix('/')
}

pub(crate) fn compile(pattern: &str) -> Result<Regex, FilterError> {
    compile_within(pattern, false, PATTERN_BYTES_MAX)
}

fn compile_within(
    pattern: &str,
    ignores_case: bool,
    bytes_max: usize,
) -> Result<Regex, FilterError> {
    RegexBuilder::new(pattern)
        .case_insensitive(ignores_case)
        .size_limit(bytes_max)
        .build()
        .map_err(|error| FilterError::Pattern {
            pattern: pattern.to_owned(),
            // The last line says what; those before show where.
            reason: error
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn facts() -> Value {
        json!({
            "os": { "family": "Debian", "release": { "major": "12" } },
            "uptime_days": 9,
            "load": 0.25,
            "is_virtual": true,
            "roles": ["web", "db"],
            "a.b": "dotted",
            "version": "1.10.0",
            "nothing": null,
        })
    }

    fn matches(filter: &Filter) -> Result<bool, FilterError> {
        let facts = facts();
        filter.is_match(&Inventory {
            identity: "web1.example.net",
            classes: &["apache".into(), "roles::web".into()],
            agents: &["discovery".into(), "rpcutil".into()],
            facts: &facts,
        })
    }

    fn by_fact(text: &str) -> bool {
        let filter = Filter {
            fact: vec![text.parse().unwrap()],
            ..Filter::default()
        };
        matches(&filter).unwrap()
    }

    #[test]
    fn conditions_on_facts() {
        for text in [
            "os.family=debian",
            "os.family=/^Deb/",
            "os.family=~bian$",
            "os.release.major>=9",
            "os.release.major != 11",
            "uptime_days>8",
            "uptime_days=>9",
            "uptime_days=<9.0",
            "load<0.3",
            "is_virtual=true",
            "is_virtual=Y",
            "is_virtual!=no",
            "roles=db",
            "roles=/^w/",
            "roles.1=db",
            "os=family",
            "a.b=dotted",
        ] {
            assert!(by_fact(text), "{text}");
        }
        for text in [
            "os.family=RedHat",
            "os.family=/^deb/",
            "uptime_days<9",
            "uptime_days>9",
            "os.release.major<9",
            "is_virtual=0",
            "is_virtual>0",
            "roles=mail",
            "missing=x",
            "missing!=x",
            "nothing!=x",
            "os.family.x=Debian",
        ] {
            assert!(!by_fact(text), "{text}");
        }
    }

    #[test]
    fn conditions_people_write() {
        let read = |text: &str| {
            let filter: FactFilter = text.parse().unwrap();
            (filter.fact.clone(), filter.operator, filter.value)
        };
        assert_eq!(read("a = b c "), ("a".into(), Operator::Same, "b c".into()));
        assert_eq!(read("a=b=c"), ("a".into(), Operator::Same, "b=c".into()));
        assert_eq!(read("a=/x/"), ("a".into(), Operator::Found, "/x/".into()));
        assert_eq!(read("a==/x/"), ("a".into(), Operator::Same, "/x/".into()));
        assert_eq!(read("a=<1"), ("a".into(), Operator::NotGreater, "1".into()));
        for text in ["", "a", "=b", "a=", "a b=c", "a!b", "!", "a=~(", "a=/[/"] {
            assert!(text.parse::<FactFilter>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn kinds_of_conditions() {
        let identity = |texts: &[&str]| Filter {
            identity: texts.iter().map(|&text| text.into()).collect(),
            ..Filter::default()
        };
        let class = |texts: &[&str]| Filter {
            cf_class: texts.iter().map(|&text| text.into()).collect(),
            ..Filter::default()
        };
        assert_eq!(matches(&Filter::default()), Ok(true));
        assert_eq!(matches(&identity(&["x", "web1.example.net"])), Ok(true));
        assert_eq!(matches(&identity(&["/^web/"])), Ok(true));
        assert_eq!(matches(&identity(&["web1"])), Ok(false));
        assert_eq!(matches(&class(&["Apache", "/WEB/"])), Ok(true));
        assert_eq!(matches(&class(&["apache", "mail"])), Ok(false));
        let mut both = class(&["apache"]);
        both.identity = vec!["other".into()];
        assert_eq!(matches(&both), Ok(false));
        let agents = Filter {
            agent: vec!["rpcutil".into(), "puppet".into()],
            ..Filter::default()
        };
        assert_eq!(matches(&agents), Ok(false));
    }

    #[test]
    fn what_cannot_be_told_is_no_match() {
        let compound = Filter {
            compound: vec![json!([{"statement": "a=b"}])],
            ..Filter::default()
        };
        assert_eq!(matches(&compound), Err(FilterError::Compound));
        let huge = Filter {
            // Another identity is there already, and the pattern is looked at all the same.
            identity: vec!["web1.example.net".into(), "/(a{1000}){1000}/".into()],
            ..Filter::default()
        };
        assert!(matches!(matches(&huge), Err(FilterError::Pattern { .. })));
    }

    /// A node takes no other message meanwhile.
    #[test]
    fn conditions_are_bounded() {
        let facts = |count: usize, value: &str| {
            let fact: FactFilter = format!("os.family=~{value}").parse().unwrap();
            Filter {
                fact: vec![fact; count],
                ..Filter::default()
            }
        };
        assert_eq!(matches(&facts(CONDITIONS_MAX, "^Deb")), Ok(true));
        let error = matches(&facts(CONDITIONS_MAX + 1, "^Deb")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "65 conditions are too many: 64 are allowed, beside names of nodes without patterns"
        );
        assert_eq!(facts(2000, "^Deb").check(), Err(FilterError::TooMany(2000)));
        let classes = Filter {
            cf_class: vec!["a".into(); CONDITIONS_MAX + 1],
            ..Filter::default()
        };
        assert_eq!(matches(&classes), Err(FilterError::TooMany(65)));
        let long = facts(2, &"x".repeat(CONDITION_TEXT_BYTES_MAX / 2));
        assert!(matches!(matches(&long), Err(FilterError::TooLong(_))));
        // One of them may be large, and not all.
        let large = r"\w{5}";
        assert_eq!(matches(&facts(1, large)), Ok(true));
        let error = matches(&facts(CONDITIONS_MAX, large)).unwrap_err();
        assert!(matches!(error, FilterError::Pattern { .. }), "{error}");
        // A fleet may be named.
        let mut identity: Vec<_> = (0..5000).map(|number| format!("n{number}")).collect();
        identity.push("web1.example.net".into());
        let named = Filter {
            identity,
            ..Filter::default()
        };
        assert_eq!((matches(&named), named.check()), (Ok(true), Ok(())));
    }

    #[test]
    fn patterns_wait_for_what_costs_nothing() {
        let bad = FactFilter {
            fact: "os.family".into(),
            value: "(".repeat(500),
            operator: Operator::Found,
        };
        let mut filter = Filter {
            fact: vec![bad],
            ..Filter::default()
        };
        let error = matches(&filter).unwrap_err().to_string();
        assert!(error.len() < 200 && error.contains("((…"), "{error}");
        for change in [
            |filter: &mut Filter| filter.identity = vec!["other".into()],
            |filter: &mut Filter| filter.cf_class = vec!["mail".into()],
            |filter: &mut Filter| filter.agent = vec!["puppet".into()],
            |filter: &mut Filter| filter.fact.push("uptime_days<9".parse().unwrap()),
        ] {
            let mut changed = filter.clone();
            change(&mut changed);
            assert_eq!(matches(&changed), Ok(false));
            assert!(matches!(changed.check(), Err(FilterError::Pattern { .. })));
        }
        filter.cf_class = vec!["apache".into()];
        assert!(matches(&filter).is_err());
    }

    #[test]
    fn named_nodes_need_not_be_looked_for() {
        let names = ["n2".to_owned(), "n1".to_owned()];
        let mut filter = Filter {
            identity: names.to_vec(),
            agent: vec!["rpcutil".into()],
            ..Filter::default()
        };
        assert_eq!(filter.named_identities(), Some(names.as_slice()));
        filter.identity.push("/n3/".into());
        assert_eq!(filter.named_identities(), None);
        assert_eq!(Filter::default().named_identities(), None);
    }

    #[test]
    fn what_nodes_cannot_read_is_found_before() {
        assert_eq!(Filter::default().check(), Ok(()));
        let class = Filter {
            cf_class: vec!["/(/".into()],
            ..Filter::default()
        };
        assert!(matches!(class.check(), Err(FilterError::Pattern { .. })));
    }

    /// All five keys are sent; senders that leave some out are understood.
    #[test]
    fn as_it_travels() {
        let filter = Filter {
            fact: vec!["os.family=Debian".parse().unwrap()],
            agent: vec!["rpcutil".into()],
            ..Filter::default()
        };
        let text = r#"{"fact":[{"fact":"os.family","value":"Debian","operator":"=="}],"cf_class":[],"agent":["rpcutil"],"identity":[],"compound":[]}"#;
        assert_eq!(serde_json::to_string(&filter).unwrap(), text);
        assert_eq!(serde_json::from_str::<Filter>(text).unwrap(), filter);
        assert_eq!(
            serde_json::from_str::<Filter>(r#"{"agent":["rpcutil"]}"#)
                .unwrap()
                .agent,
            ["rpcutil"]
        );
        assert!(
            serde_json::from_str::<Filter>(
                r#"{"fact":[{"fact":"a","operator":"=>","value":"1"}]}"#
            )
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn conditions_that_are_shown_can_be_read(fact in "[a-z][a-z.]{0,8}", value in "[a-z0-9]{1,6}") {
            for operator in ["==", "!=", ">=", "<=", "<", ">", "=~"] {
                let filter: FactFilter = format!("{fact}{operator}{value}").parse().unwrap();
                prop_assert_eq!(filter.to_string().parse::<FactFilter>().unwrap(), filter);
            }
        }

        #[test]
        fn opposites(left in -1000i32..1000, right in -1000i32..1000) {
            let facts = json!({ "n": left });
            let holds = |operator: &str| {
                let filter: FactFilter = format!("n{operator}{right}").parse().unwrap();
                filter.is_match(&facts, PATTERN_BYTES_MAX).unwrap()
            };
            prop_assert_eq!(holds("<"), left < right);
            prop_assert_eq!(holds(">"), left > right);
            prop_assert_eq!(holds("<="), left <= right);
            prop_assert_eq!(holds(">="), left >= right);
            prop_assert_eq!(holds("=="), left == right);
            prop_assert_eq!(holds("!="), left != right);
        }
    }
}
