//! Facts in YAML, as Ruby writes and reads them: Facter's files and Puppet's are written by it.
//!
//! Ruby puts no quotes around texts that it does not take for numbers itself, such as a short commit `5e12345`, which YAML 1.2
//! does. So of numbers the form counts in which they stand there.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

/// What a file of facts says.
pub(super) fn of_yaml(text: &str) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        // The last one counts, as in Ruby.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    let fact = serde_saphyr::from_str_with_options::<Fact>(text, options)?;
    Ok(fact.into_value(text))
}

/// A value and the bytes of the file that it was written with.
struct Fact {
    form: Form,
    bytes: Range<usize>,
}

enum Form {
    Known(Value),
    Number(Value),
    List(Vec<Fact>),
    Map(Vec<(String, Fact)>),
}

impl Fact {
    fn into_value(self, text: &str) -> Value {
        match self.form {
            Form::Known(value) => value,
            Form::Number(number) => {
                let written = text.get(self.bytes).map(str::trim).unwrap_or_default();
                // Whoever says by a tag what it is to be says what it means as well.
                if is_word(written) && !is_number(written) {
                    written.into()
                } else {
                    number
                }
            }
            Form::List(facts) => facts
                .into_iter()
                .map(|fact| fact.into_value(text))
                .collect(),
            Form::Map(facts) => {
                let facts = facts
                    .into_iter()
                    .map(|(name, fact)| (name, fact.into_value(text)));
                Value::Object(facts.collect::<Map<_, _>>())
            }
        }
    }
}

fn is_word(written: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    !written.is_empty() && written.bytes().all(fits)
}

/// Whether Ruby takes it for a number that has the same form everywhere: `7`, `-1.5`, `1.0e+6`, `0x1f`.
fn is_number(written: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let unsigned = written.strip_prefix(['-', '+']).unwrap_or(written);
    if let Some(digits) = unsigned.strip_prefix("0x") {
        return !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_hexdigit());
    }
    let (number, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (unsigned, None),
    };
    let Some((whole, part)) = number.split_once('.') else {
        // More than 18 digits may be more than there are numbers.
        let is_plain = is_digits(number) && (number == "0" || !number.starts_with('0'));
        return is_plain && number.len() <= 18 && exponent.is_none();
    };
    let has_exponent = exponent.is_none_or(|it| it.strip_prefix(['-', '+']).is_some_and(is_digits));
    is_digits(whole) && (part.is_empty() || is_digits(part)) && has_exponent
}

impl<'de> Deserialize<'de> for Fact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Form>::deserialize(deserializer)?;
        // An alias is as good as what it stands for, and that is where it was written.
        let span = spanned.defined.span();
        let bytes = span.byte_offset().zip(span.byte_len());
        let bytes = bytes.and_then(|(start, length)| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(length).ok()?)?)
        });
        Ok(Self {
            form: spanned.value,
            bytes: bytes.unwrap_or_default(),
        })
    }
}

impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Form;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a fact")
            }

            fn visit_unit<E>(self) -> Result<Form, E> {
                Ok(Form::Known(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Form, E> {
                Ok(Form::Known(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Form, E> {
                Ok(Form::Number(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Form, E> {
                Ok(Form::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Form, E> {
                // What is no number of JSON is null, unless it has another form.
                Ok(Form::Number(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Form, E> {
                Ok(Form::Known(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Form, A::Error> {
                let mut facts = Vec::new();
                while let Some(fact) = sequence.next_element()? {
                    facts.push(fact);
                }
                Ok(Form::List(facts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Form, A::Error> {
                let mut facts = Vec::new();
                while let Some(fact) = map.next_entry()? {
                    facts.push(fact);
                }
                Ok(Form::Map(facts))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// All of these are texts that Ruby 3.1 writes without quotes, or numbers of its.
    #[test]
    fn numbers_and_what_looks_like_them() {
        let text = "---\n\
            commits: [5e12345, 1234e56, 1e3, 1e-5, 1.5e3, 0o17]\n\
            numbers: [7, -7, +7, 0, 1.10, -1.5, 1.0e+6, 0x1f]\n\
            others: [.inf, .nan, 0755, 08, 1000000000000000000000000000000, 12:30]\n\
            quoted: ['1e3', \"5e12345\"]\n\
            first: &commit 9e99999\n\
            second: *commit\n\
            5e1: name\n\
            twice: 1\n\
            twice: 2\n\
            tagged: !ruby/sym word\n";
        let facts = of_yaml(text).unwrap();
        assert_eq!(
            facts,
            json!({
                "commits": ["5e12345", "1234e56", "1e3", "1e-5", "1.5e3", "0o17"],
                "numbers": [7, -7, 7, 0, 1.1, -1.5, 1_000_000.0, 31],
                "others": [".inf", ".nan", "0755", "08", "1000000000000000000000000000000", "12:30"],
                "quoted": ["1e3", "5e12345"],
                "first": "9e99999", "second": "9e99999", "5e1": "name", "twice": 2, "tagged": "word",
            })
        );
        assert_eq!(of_yaml("- 1e3").unwrap(), json!(["1e3"]));
        assert_eq!(
            of_yaml("\u{feff}a: 1e3\r\nb: ä\r\nc: 2e3\r\n").unwrap(),
            json!({"a": "1e3", "b": "ä", "c": "2e3"})
        );
        assert_eq!(of_yaml("").unwrap(), Value::Null);
        assert!(of_yaml("a: [").is_err());
    }
}
