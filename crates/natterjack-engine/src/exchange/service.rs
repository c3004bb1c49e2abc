//! Services that an account imports: where a request goes.

use std::sync::Arc;
use std::time::Duration;

use natterjack_subject::{is_literal, matches};

use super::{ANSWER_PREFIX, FirstBytes, Transform, implied};
use crate::access::{Access, AccountAccess, Latency, ResponseType, ServiceExport, ServiceImport};
use crate::account::Account;

/// Services of other accounts that an account uses, compiled.
pub(crate) struct ServiceImports {
    imports: Box<[CompiledService]>,
    /// What these are published to begins with.
    first_bytes: FirstBytes,
    /// The same, and what answers for other accounts begin with, if there can be any.
    leaving: FirstBytes,
}

/// A service of another account.
pub(crate) struct CompiledService {
    pub(crate) account: Arc<Account>,
    /// What it is there.
    pub(crate) offer: Arc<Offer>,
    /// What requests are published to here.
    from: Box<[u8]>,
    to: Destination,
    pub(crate) terms: Terms,
    /// Whether whoever asks may trace its requests there.
    pub(crate) allows_trace: bool,
    /// Whether the service is told who asks in detail.
    pub(crate) is_shared: bool,
    /// Whether it is a service of the system account.
    pub(crate) is_system: bool,
    /// Where it is told how long answers take.
    pub(crate) latency: Option<Arc<Latency>>,
}

/// A service as an account offers it, whoever uses it and under whatever name: a message that comes back to it goes in a
/// circle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    account: Box<str>,
    subject: Box<str>,
}

/// Where requests go.
enum Destination {
    Same,
    Literal(Box<[u8]>),
    Renamed(Transform),
}

/// How a service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) response_type: ResponseType,
    pub(crate) threshold: Duration,
}

impl ServiceImports {
    /// Compiles the imports of an account, with those of the system account that every account has. What is not
    /// exported to it, and what has other problems, is left out. Linear in the imports: there may be many accounts.
    pub(crate) fn new<'a>(
        name: &str,
        access: &Access,
        system_account: &str,
        find: impl Fn(&str) -> Option<Arc<Account>>,
        describe: impl Fn(&str) -> Option<&'a AccountAccess>,
    ) -> Self {
        let importer = describe(name);
        let compile = |import: &ServiceImport, response_type| {
            let export = describe(&import.account)
                .and_then(|exporter| super::rules::export_of(exporter, &import.subject));
            let default = ServiceExport {
                response_type,
                ..ServiceExport::default()
            };
            let latency = export.and_then(|export| export.latency.clone());
            let offer = Offer::new(
                &import.account,
                export.map_or(&import.subject, |export| &export.subject),
            );
            let export = export.unwrap_or(&default);
            let terms = Terms {
                response_type: export.response_type,
                threshold: export.response_threshold,
            };
            let compiled = CompiledService::new(import, find(&import.account)?, terms)?;
            Some(CompiledService {
                offer: Arc::new(offer),
                is_system: import.account == system_account,
                latency: latency.map(Arc::new),
                allows_trace: export.allow_trace,
                ..compiled
            })
        };
        let own = importer.into_iter().flat_map(|importer| {
            let permitted = importer.service_imports().filter(|import| {
                super::rules::check_service_import(importer, import, access).is_ok()
            });
            permitted.filter_map(|import| compile(import, ResponseType::Singleton))
        });
        let own: Vec<CompiledService> = own.collect();
        let of_system = implied::imports(name, importer, system_account);
        let of_system = of_system.filter_map(|(import, kind)| compile(&import, kind));
        let imports: Box<[_]> = own.into_iter().chain(of_system).collect();
        let mut first_bytes = FirstBytes::default();
        imports
            .iter()
            .for_each(|import| first_bytes.add(&import.from));
        let mut leaving = first_bytes;
        let exchanges = importer.is_some_and(|account| {
            let mut imports = account.service_imports();
            account.service_exports().next().is_some() || imports.next().is_some()
        });
        if exchanges || name == system_account {
            leaving.add(ANSWER_PREFIX);
        }
        Self {
            imports,
            first_bytes,
            leaving,
        }
    }

    /// Whether what is published to `subject` has to go to other accounts: a request to them, or maybe an answer.
    #[inline]
    pub(crate) fn concern(&self, subject: &[u8]) -> bool {
        self.leaving.may_begin(subject)
            && (subject.starts_with(ANSWER_PREFIX) || self.of(subject).next().is_some())
    }

    /// The services that hear of what is published to `subject`. Linear in the imports.
    pub(crate) fn of(&self, subject: &[u8]) -> impl Iterator<Item = &CompiledService> {
        let imports = if self.first_bytes.may_begin(subject) {
            &self.imports[..]
        } else {
            &[]
        };
        imports
            .iter()
            .filter(move |import| matches(&import.from, subject))
    }
}

impl Offer {
    pub(super) fn new(account: &str, subject: &str) -> Self {
        Self {
            account: account.into(),
            subject: subject.into(),
        }
    }
}

impl CompiledService {
    fn new(import: &ServiceImport, account: Arc<Account>, terms: Terms) -> Option<Self> {
        let from = local_pattern(import.local_subject());
        let to = if from == import.subject {
            Destination::Same
        } else if is_literal(import.subject.as_bytes()) {
            Destination::Literal(import.subject.as_bytes().into())
        } else {
            Destination::Renamed(way_there(import).ok()?)
        };
        Some(Self {
            account,
            offer: Arc::new(Offer::new(&import.account, &import.subject)),
            from: from.as_bytes().into(),
            to,
            terms,
            allows_trace: false,
            is_shared: import.share,
            is_system: false,
            latency: None,
        })
    }

    /// What `subject` is called there.
    pub(crate) fn subject_there(&self, subject: &[u8]) -> Vec<u8> {
        let mut there = Vec::with_capacity(subject.len());
        match &self.to {
            Destination::Same => there.extend_from_slice(subject),
            Destination::Literal(literal) => there.extend_from_slice(literal),
            Destination::Renamed(transform) => transform.rename(subject, &mut there),
        }
        there
    }
}

/// A local subject with `*` for `$1` and the like.
pub(crate) fn local_pattern(local: &str) -> String {
    let tokens = local
        .split('.')
        .map(|token| match super::transform::wildcard_number(token) {
            Some(_) => "*",
            None => token,
        });
    tokens.collect::<Vec<_>>().join(".")
}

/// From the subject here to the one there: `my.$2.$1` for `svc.*.*` is the way from `my.*.*` to `svc.$2.$1`.
pub(super) fn way_there(import: &ServiceImport) -> Result<Transform, super::TransformProblem> {
    // Whether what the local subject names is there is checked the other way round.
    Transform::for_import(&import.subject, import.local_subject())?;
    let mut next = 0;
    let numbers = import.local_subject().split('.').filter_map(|token| {
        super::transform::wildcard_number(token).or_else(|| {
            (token == "*").then(|| {
                next += 1;
                next - 1
            })
        })
    });
    let numbers: Vec<usize> = numbers.collect();
    let mut wildcard = 0..;
    let there = import.subject.split('.').map(|token| {
        if token != "*" {
            return token.to_owned();
        }
        let number = wildcard.next().unwrap_or(0);
        let here = numbers.iter().position(|&known| known == number);
        format!("${}", here.unwrap_or(0) + 1)
    });
    let there: Vec<String> = there.collect();
    Transform::for_import(&local_pattern(import.local_subject()), &there.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        response_type: ResponseType::Singleton,
        threshold: Duration::from_secs(1),
    };

    fn there(subject: &str, to: Option<&str>, published: &str) -> String {
        let import = ServiceImport {
            account: "A".to_owned(),
            subject: subject.to_owned(),
            to: to.map(ToOwned::to_owned),
            ..ServiceImport::default()
        };
        let account = Arc::new(Account::new("A"));
        let service = CompiledService::new(&import, account, TERMS).expect("a valid one");
        assert!(matches(&service.from, published.as_bytes()), "{published}");
        String::from_utf8(service.subject_there(published.as_bytes())).expect("text")
    }

    #[test]
    fn requests_are_renamed() {
        assert_eq!(there("svc.*", None, "svc.x"), "svc.x");
        assert_eq!(there("svc.*", Some("my.*"), "my.x"), "svc.x");
        assert_eq!(there("svc.*.*", Some("my.$2.$1"), "my.x.y"), "svc.y.x");
        assert_eq!(there("svc", Some("my.own"), "my.own"), "svc");
        assert_eq!(there("svc.>", Some("my.>"), "my.a.b"), "svc.a.b");
        assert_eq!(there("svc.*.>", Some("my.$1.>"), "my.a.b.c"), "svc.a.b.c");
    }
}
