//! Streams that an account imports: which subjects of another account a subscription is about, and what its messages are
//! called here.

use std::sync::Arc;

use super::Transform;
use crate::access::{Access, AccountAccess, StreamImport};
use crate::account::Account;

/// What an account imports, compiled.
pub(crate) struct StreamImports {
    imports: Box<[CompiledImport]>,
}

struct CompiledImport {
    account: Arc<Account>,
    from: Box<str>,
    /// Tokens of the local subject; those that stand for a wildcard of `from` by its number, counted from 0.
    to: Box<[Token]>,
    keeps_rest: bool,
    /// Absent where subjects stay what they are.
    rename: Option<Arc<Transform>>,
    allows_trace: bool,
}

enum Token {
    Literal(Box<str>),
    Wildcard(usize),
}

/// That a subscription is also about something in another account.
pub(crate) struct Interest {
    pub(crate) account: Arc<Account>,
    /// A subject there, which may have wildcards.
    pub(crate) subject: Vec<u8>,
    /// From a subject there to one here.
    pub(crate) rename: Option<Arc<Transform>>,
    /// Whether that account may trace its messages here.
    pub(crate) allows_trace: bool,
}

impl StreamImports {
    /// Compiles the imports of an account. What is not exported to it, and what has other problems, is left out.
    pub(crate) fn new(
        importer: &AccountAccess,
        access: &Access,
        find: impl Fn(&str) -> Option<Arc<Account>>,
    ) -> Option<Self> {
        let compiled = importer.stream_imports().filter_map(|import| {
            super::rules::check_stream_import(importer, import, access).ok()?;
            CompiledImport::new(import, find(&import.account)?)
        });
        let imports: Box<[_]> = compiled.collect();
        (!imports.is_empty()).then_some(Self { imports })
    }

    /// What a subscription is about besides its own account's messages. Linear in the imports.
    pub(crate) fn interests(&self, subject: &[u8]) -> impl Iterator<Item = Interest> {
        self.imports.iter().filter_map(move |import| {
            Some(Interest {
                account: Arc::clone(&import.account),
                subject: import.subject_there(subject)?,
                rename: import.rename.clone(),
                allows_trace: import.allows_trace,
            })
        })
    }
}

impl CompiledImport {
    fn new(import: &StreamImport, account: Arc<Account>) -> Option<Self> {
        let to = import.local_subject();
        let rename = match to == import.subject {
            true => None,
            false => Some(Arc::new(Transform::for_import(&import.subject, &to).ok()?)),
        };
        let mut next = 0;
        let keeps_rest = to == ">" || to.ends_with(".>");
        let tokens = to.split('.').filter(|token| *token != ">").map(|token| {
            let by_order = (token == "*").then(|| {
                next += 1;
                next - 1
            });
            match by_order.or_else(|| super::transform::wildcard_number(token)) {
                Some(number) => Token::Wildcard(number),
                None => Token::Literal(token.into()),
            }
        });
        Some(Self {
            account,
            from: import.subject.as_str().into(),
            to: tokens.collect(),
            keeps_rest,
            rename,
            allows_trace: import.allow_trace,
        })
    }

    /// What a subscription here is about there: what both patterns match, in the words of the exporter. `None` if that
    /// is nothing.
    fn subject_there(&self, subscription: &[u8]) -> Option<Vec<u8>> {
        let mut wanted = subscription.split(|&byte| byte == b'.').peekable();
        // What the wildcards of `from` must be.
        let mut values: smallvec::SmallVec<[&[u8]; 8]> = smallvec::SmallVec::new();
        for token in &self.to {
            let wanted: &[u8] = match wanted.peek().copied()? {
                b">" => b"*",
                _ => wanted.next()?,
            };
            match token {
                Token::Literal(text) if wanted == b"*" || wanted == text.as_bytes() => {}
                Token::Literal(_) => return None,
                &Token::Wildcard(number) => {
                    if values.len() <= number {
                        values.resize(number + 1, b"*");
                    }
                    if values[number] == b"*" {
                        values[number] = wanted;
                    } else if wanted != b"*" && wanted != values[number] {
                        return None;
                    }
                }
            }
        }
        let rest: Vec<&[u8]> = wanted.collect();
        let goes_on = rest.first().copied();
        match (self.keeps_rest, goes_on) {
            (true, None) => return None,
            // All tokens were there, and the subscription wants one more.
            (false, Some(b">")) if self.is_past(subscription) => return None,
            (false, Some(token)) if token != b">" => return None,
            _ => {}
        }
        let mut there = Vec::with_capacity(self.from.len() + subscription.len());
        let mut numbers = 0..;
        for token in self.from.split('.') {
            let pieces: &[&[u8]] = match token {
                "*" => {
                    let number = numbers.next().unwrap_or(0);
                    &[values.get(number).copied().unwrap_or(b"*")]
                }
                ">" => &rest,
                literal => &[literal.as_bytes()],
            };
            for piece in pieces {
                if !there.is_empty() {
                    there.push(b'.');
                }
                there.extend_from_slice(piece);
            }
        }
        Some(there)
    }

    /// Whether the `>` of a subscription comes after all tokens there are.
    fn is_past(&self, subscription: &[u8]) -> bool {
        let tokens = subscription.split(|&byte| byte == b'.').count();
        tokens > self.to.len()
    }
}

#[cfg(test)]
mod tests {
    use natterjack_subject::matches;
    use proptest::prelude::*;

    use super::*;

    fn import(from: &str, to: Option<&str>) -> CompiledImport {
        let import = StreamImport {
            account: "A".to_owned(),
            subject: from.to_owned(),
            to: to.map(ToOwned::to_owned),
            ..StreamImport::default()
        };
        CompiledImport::new(&import, Arc::new(Account::new("A"))).expect("a valid one")
    }

    #[track_caller]
    fn check(from: &str, to: &str, subscription: &str, expected: Option<&str>) {
        let import = import(from, (from != to).then_some(to));
        let found = import.subject_there(subscription.as_bytes());
        let found = found.map(|found| String::from_utf8(found).expect("text"));
        assert_eq!(
            found.as_deref(),
            expected,
            "{from} as {to}: SUB {subscription}"
        );
    }

    #[test]
    fn subscriptions_become_those_of_the_exporter() {
        check("st.>", "st.>", "st.x", Some("st.x"));
        check("st.>", "st.>", "st.*", Some("st.*"));
        check("st.>", "st.>", ">", Some("st.>"));
        check("st.>", "st.>", "*.>", Some("st.>"));
        check("st.>", "st.>", "st.*.>", Some("st.*.>"));
        check("st.>", "st.>", "st", None);
        check("priv.*", "fromA.priv.*", "fromA.>", Some("priv.*"));
        check("priv.*", "fromA.priv.*", "fromA.*.x", Some("priv.x"));
        check("priv.*", "fromA.priv.*", "priv.x", None);
        check("priv.*", "fromA.priv.*", "fromA.priv.x.>", None);
        check("priv.*", "fromA.priv.*", "fromA.priv.x.y", None);
        check("w.*.*", "m.$2.$1", "m.2.*", Some("w.*.2"));
        check("w.*.*", "m.$2.$1", "m.*.1", Some("w.1.*"));
        check("w.*.*", "m.$2.$1", "*.2.1", Some("w.1.2"));
        check("w.*.*", "m.{{wildcard(2)}}.$1", "m.2.>", Some("w.*.2"));
        check("w.*", "m.$1.$1", "m.a.*", Some("w.a"));
        check("w.*", "m.$1.$1", "m.a.b", None);
        check("lit", "l.l", "l.*", Some("lit"));
        check("lit", "l.l", "lit", None);
        check("lit", "l.l", "l.l.>", None);
    }

    proptest! {
        /// A message is for a subscription here exactly if what it is called here matches.
        #[test]
        fn interests_match_what_names_match(
            shape in 0_usize..5,
            subscription in prop::collection::vec(prop::sample::select(vec!["a", "b", "m", "*"]), 1..5),
            ends_open in any::<bool>(),
            subject in prop::collection::vec(prop::sample::select(vec!["a", "b", "w", "m"]), 1..5),
        ) {
            let (from, to) = [("w.*.*", "m.$2.$1"), ("w.>", "m.w.>"), ("w.*", "m.a.$1"), ("a", "m.b"), ("*.>", "m.$1.>")][shape];
            let import = import(from, Some(to));
            let mut subscription = subscription.join(".");
            if ends_open {
                subscription.push_str(".>");
            }
            let subject = subject.join(".");
            let there = import.subject_there(subscription.as_bytes());
            let is_found = there.is_some_and(|there| matches(&there, subject.as_bytes()));
            let mut name = Vec::new();
            let is_meant = matches(from.as_bytes(), subject.as_bytes()) && {
                let rename = import.rename.as_ref().expect("a different name");
                rename.rename(subject.as_bytes(), &mut name);
                matches(subscription.as_bytes(), &name)
            };
            prop_assert_eq!(is_found, is_meant, "{} as {}, SUB {}, PUB {}", from, to, subscription, subject);
        }
    }
}
