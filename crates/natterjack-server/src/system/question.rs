//! What a request says: options as JSON, read leniently as nats-server reads them (names in any case, `null` for what is
//! not said, unknown names ignored), and the filter by which servers are chosen.

use serde_json::{Map, Value};
use thiserror::Error;

use super::bodies::Identity;

/// What is wrong with a request. nats-server says the same with the names of its own types.
#[derive(Debug, Error)]
pub(super) enum BadQuestion {
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    #[error("json: an object was expected")]
    NoObject,
    #[error("json: {name} must be {expected}")]
    Type {
        name: &'static str,
        expected: &'static str,
    },
}

/// The options of a request.
#[derive(Debug, Default)]
pub(super) struct Question(Map<String, Value>);

impl Question {
    /// Nothing asks nothing in particular.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, BadQuestion> {
        if payload.is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_slice(payload)? {
            Value::Object(fields) => Ok(Self(fields)),
            Value::Null => Ok(Self::default()),
            _ => Err(BadQuestion::NoObject),
        }
    }

    fn field(&self, name: &str) -> Option<&Value> {
        let exact = self.0.get(name);
        let found = exact.or_else(|| {
            let mut fields = self.0.iter();
            fields.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
        });
        found.filter(|value| !value.is_null())
    }

    fn read<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, BadQuestion> {
        let wrong = BadQuestion::Type { name, expected };
        self.field(name)
            .map(|value| read(value).ok_or(wrong))
            .transpose()
    }

    /// A text; `None` also if it is empty.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>, BadQuestion> {
        let text = self.read(name, "a text", |value| value.as_str().map(str::to_owned))?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    pub(super) fn flag(&self, name: &'static str) -> Result<bool, BadQuestion> {
        let flag = self.read(name, "true or false", Value::as_bool)?;
        Ok(flag.unwrap_or_default())
    }

    pub(super) fn integer(&self, name: &'static str) -> Result<i64, BadQuestion> {
        let number = self.read(name, "a whole number", Value::as_i64)?;
        Ok(number.unwrap_or_default())
    }

    /// A whole number; negative ones count as 0.
    pub(super) fn count(&self, name: &'static str) -> Result<usize, BadQuestion> {
        Ok(usize::try_from(self.integer(name)?).unwrap_or(0))
    }

    pub(super) fn unsigned(&self, name: &'static str) -> Result<u64, BadQuestion> {
        let number = self.read(name, "a whole number, not negative", Value::as_u64)?;
        Ok(number.unwrap_or_default())
    }

    pub(super) fn texts(&self, name: &'static str) -> Result<Option<Vec<String>>, BadQuestion> {
        self.read(name, "a list of texts", |value| {
            let texts = value.as_array()?.iter();
            texts.map(|text| text.as_str().map(str::to_owned)).collect()
        })
    }

    /// Whether the question is for other servers than this one.
    pub(super) fn is_for_others(&self, server: &Identity) -> Result<bool, BadQuestion> {
        let is_exact = self.flag("exact_match")?;
        let is_other = |wanted: Option<String>, own: &str| {
            wanted.is_some_and(|wanted| {
                if is_exact {
                    wanted != own
                } else {
                    !own.contains(&wanted)
                }
            })
        };
        let tags = self.texts("tags")?.unwrap_or_default();
        let has_tag = |tag: &String| server.tags.contains(&tag.trim().to_lowercase());
        let differs = [
            is_other(self.text("server_name")?, &server.name),
            is_other(self.text("host")?, &server.host),
            is_other(self.text("cluster")?, &server.cluster),
            !tags.iter().all(has_tag),
            // Of JetStream.
            self.text("domain")?.is_some(),
        ];
        Ok(differs.contains(&true))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn server() -> Identity {
        Identity {
            name: "one".to_owned(),
            host: "127.0.0.1".to_owned(),
            id: "N".to_owned(),
            cluster: "east".to_owned(),
            ver: "2.15.1".to_owned(),
            tags: vec!["az:1".to_owned()],
            metadata: BTreeMap::new(),
            jetstream: false,
            flags: 0,
        }
    }

    #[test]
    fn filters_choose_as_nats_server_does() {
        let check = |question: &str, is_for_others: bool| {
            let question = Question::parse(question.as_bytes()).expect("JSON");
            let found = question.is_for_others(&server()).expect("a filter");
            assert_eq!(found, is_for_others, "{question:?}");
        };
        check("", false);
        check("null", false);
        check("{}", false);
        check(r#"{"server_name":"on"}"#, false);
        check(r#"{"server_name":"on","exact_match":true}"#, true);
        check(r#"{"Server_Name":"one","exact_match":true}"#, false);
        check(r#"{"server_name":"two"}"#, true);
        check(r#"{"host":"127"}"#, false);
        check(r#"{"cluster":"west"}"#, true);
        check(r#"{"cluster":"eas"}"#, false);
        check(r#"{"tags":["AZ:1 "]}"#, false);
        check(r#"{"tags":["az:1","az:2"]}"#, true);
        check(r#"{"domain":"d"}"#, true);
        check(r#"{"domain":""}"#, false);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let check = |question: &str, expected: &str| {
            let refused = Question::parse(question.as_bytes())
                .and_then(|question| question.integer("limit"))
                .expect_err(question);
            assert!(refused.to_string().contains(expected), "{refused}");
        };
        check("x", "expected value");
        check("{", "EOF");
        check("[]", "an object was expected");
        check(r#"{"limit":"x"}"#, "limit must be a whole number");
        check(r#"{"limit":1.5}"#, "limit must be a whole number");
    }
}
