//! Which imports are permitted: what is exported to whom, and that nothing goes in circles.

use std::collections::HashSet;

use natterjack_subject::{is_literal, is_valid_pattern, is_valid_publish_subject, overlaps};

use super::service::local_pattern;
use super::{Transform, TransformProblem};
use crate::access::{
    Access, AccessProblem, AccountAccess, ExchangeKind, Export, ExportProblem, Import,
    ImportProblem, ResponseType, Sampling, ServiceExport, ServiceImport, StreamExport,
    StreamImport,
};

/// Whether what `inner` matches is all matched by `outer`.
pub(super) fn is_within(inner: &str, outer: &str) -> bool {
    let mut inner = inner.split('.');
    for outer in outer.split('.') {
        match (inner.next(), outer) {
            (Some(_), ">") => return true,
            (Some(">"), _) | (None, _) => return false,
            (Some(_), "*") => {}
            (Some(inner), outer) if inner == outer => {}
            _ => return false,
        }
    }
    inner.next().is_none()
}

/// Whether an account may import a stream, and what for a reason not.
pub(super) fn check_stream_import(
    importer: &AccountAccess,
    import: &StreamImport,
    access: &Access,
) -> Result<(), ImportProblem> {
    let exporter = access.account(&import.account).ok_or_else(|| {
        ImportProblem::UndefinedAccount(import.account.clone(), ExchangeKind::Stream)
    })?;
    let grants: Vec<Grant<'_>> = exporter.stream_exports().map(Into::into).collect();
    if !is_granted(&grants, &importer.name, &import.subject) {
        return Err(ImportProblem::NotAuthorized(ExchangeKind::Stream));
    }
    if import.prefix.is_some() && import.to.is_some() {
        return Err(ImportProblem::PrefixAndTo);
    }
    let is_literal = |prefix: &str| !prefix.split('.').any(|token| matches!(token, "*" | ">"));
    if !import.prefix.as_deref().is_none_or(is_literal) {
        return Err(ImportProblem::WildcardPrefix);
    }
    let to = import.local_subject();
    if to != import.subject {
        Transform::for_import(&import.subject, &to).map_err(|problem| {
            ImportProblem::Transform {
                kind: ExchangeKind::Stream,
                from: import.subject.clone(),
                to: to.clone(),
                problem,
            }
        })?;
    }
    // An account may import from itself; that goes nowhere else.
    let is_circle = |subject: &str| {
        importer.name != exporter.name && {
            let mut visited = vec![importer.name.as_str()];
            leads_back(exporter, subject, access, &mut visited)
        }
    };
    if is_circle(&local_pattern(&to)) || is_circle(&import.subject) {
        return Err(ImportProblem::Cycle);
    }
    Ok(())
}

/// Whether what an account offers under a subject comes from one of the accounts visited.
fn leads_back<'a>(
    account: &'a AccountAccess,
    subject: &str,
    access: &'a Access,
    visited: &mut Vec<&'a str>,
) -> bool {
    let offers = account
        .stream_exports()
        .any(|export| is_within(subject, &export.subject));
    offers
        && account.stream_imports().any(|import| {
            let to = local_pattern(&import.local_subject());
            if !overlaps(subject.as_bytes(), to.as_bytes()) || import.account == account.name {
                return false;
            }
            if visited.contains(&import.account.as_str()) {
                return true;
            }
            let Some(exporter) = access.account(&import.account) else {
                return false;
            };
            visited.push(&account.name);
            let narrowed = if is_within(&to, subject) {
                &to
            } else {
                subject
            };
            leads_back(exporter, narrowed, access, visited)
        })
}

/// What an export says about who may import it.
#[derive(Clone, Copy)]
struct Grant<'a> {
    subject: &'a str,
    accounts: &'a [String],
    account_token_position: usize,
}

impl<'a> From<&'a StreamExport> for Grant<'a> {
    fn from(export: &'a StreamExport) -> Self {
        Self {
            subject: &export.subject,
            accounts: &export.accounts,
            account_token_position: export.account_token_position,
        }
    }
}

impl<'a> From<&'a ServiceExport> for Grant<'a> {
    fn from(export: &'a ServiceExport) -> Self {
        Self {
            subject: &export.subject,
            accounts: &export.accounts,
            account_token_position: export.account_token_position,
        }
    }
}

fn is_granted(grants: &[Grant<'_>], importer: &str, subject: &str) -> bool {
    // A blank in a subject would end it on the wire.
    if !is_valid_pattern(subject.as_bytes()) || subject.contains(char::is_whitespace) {
        return false;
    }
    // What is said about the very subject goes before what is said about more.
    let same: Vec<&Grant<'_>> = grants
        .iter()
        .filter(|export| export.subject == subject)
        .collect();
    if !same.is_empty() {
        // One name with a star where the account's should be: nobody may have all accounts' parts.
        let is_everybodys =
            |export: &&Grant<'_>| export.accounts.is_empty() && export.account_token_position == 0;
        return same.iter().all(is_everybodys)
            || same.iter().any(|export| {
                export.account_token_position == 0 && is_listed(export.accounts, importer)
            });
    }
    let mut covering = grants
        .iter()
        .filter(|export| is_within(subject, export.subject));
    covering.any(|export| {
        if export.account_token_position > 0 {
            let index = export.account_token_position - 1;
            return subject.split('.').nth(index) == Some(importer);
        }
        export.accounts.is_empty() || is_listed(export.accounts, importer)
    })
}

fn is_listed(accounts: &[String], importer: &str) -> bool {
    accounts.iter().any(|account| account == importer)
}

/// What an account says about a service: under its very subject, else under the first that covers it (nats-server
/// `getServiceExport`, where of several that cover it one is picked by chance). Linear in the exports.
pub(super) fn export_of<'a>(
    exporter: &'a AccountAccess,
    subject: &str,
) -> Option<&'a ServiceExport> {
    let same = exporter
        .service_exports()
        .find(|export| export.subject == subject);
    let mut exports = exporter.service_exports();
    same.or_else(|| exports.find(|export| is_within(subject, &export.subject)))
}

/// Whether an account may import a service, and what for a reason not.
pub(super) fn check_service_import(
    importer: &AccountAccess,
    import: &ServiceImport,
    access: &Access,
) -> Result<(), ImportProblem> {
    let kind = ExchangeKind::Service;
    let exporter = access
        .account(&import.account)
        .ok_or_else(|| ImportProblem::UndefinedAccount(import.account.clone(), kind))?;
    let grants: Vec<Grant<'_>> = exporter.service_exports().map(Into::into).collect();
    if !is_granted(&grants, &importer.name, &import.subject) {
        return Err(ImportProblem::NotAuthorized(kind));
    }
    let local = import.local_subject();
    let transform = |problem| ImportProblem::Transform {
        kind,
        from: local.to_owned(),
        to: import.subject.clone(),
        problem,
    };
    if !is_valid_pattern(local.as_bytes()) {
        return Err(transform(TransformProblem::InvalidSubject));
    }
    if local != import.subject && !is_literal(import.subject.as_bytes()) {
        super::service::way_there(import).map_err(transform)?;
    }
    if importer.name == exporter.name && overlaps(local.as_bytes(), import.subject.as_bytes())
        || asks_back(exporter, &import.subject, access, &importer.name)
    {
        return Err(ImportProblem::Cycle);
    }
    Ok(())
}

/// Whether what an account is asked under a subject goes on to `importer`. What an account is asked under one name is
/// looked at once, however many ways lead there: the imports of the account times those that ask it.
fn asks_back<'a>(
    account: &'a AccountAccess,
    subject: &'a str,
    access: &'a Access,
    importer: &str,
) -> bool {
    let mut known = HashSet::from([(account.name.as_str(), subject)]);
    let mut open = vec![(account, subject)];
    while let Some((account, subject)) = open.pop() {
        for import in account.service_imports() {
            let local = local_pattern(import.local_subject());
            if !overlaps(subject.as_bytes(), local.as_bytes()) {
                continue;
            }
            if import.account == importer {
                return true;
            }
            // Of circles without the importer those in them are told.
            if known.insert((&import.account, &import.subject))
                && let Some(exporter) = access.account(&import.account)
            {
                open.push((exporter, &import.subject));
            }
        }
    }
    false
}

/// What is wrong with an export, if anything.
fn check_export(
    export: Grant<'_>,
    kind: ExchangeKind,
    access: &Access,
) -> Result<(), ExportProblem> {
    if !is_valid_pattern(export.subject.as_bytes()) {
        return Err(ExportProblem::InvalidSubject);
    }
    if let Some(account) = export
        .accounts
        .iter()
        .find(|account| access.account(account).is_none())
    {
        return Err(ExportProblem::UndefinedAccount(account.clone(), kind));
    }
    if let Some(index) = export.account_token_position.checked_sub(1)
        && export.subject.split('.').nth(index) != Some("*")
    {
        return Err(ExportProblem::TokenPosition);
    }
    Ok(())
}

/// What is wrong with reports of how long a service takes, if anything (nats-server `TrackServiceExportWithSampling`).
fn check_latency(export: &ServiceExport, exporter: &AccountAccess) -> Result<(), ExportProblem> {
    let Some(latency) = &export.latency else {
        return Ok(());
    };
    if let Sampling::Percent(percent) = latency.sampling
        && !(1..=100).contains(&percent)
    {
        return Err(ExportProblem::LatencySampling);
    }
    let subject = latency.subject.as_str();
    // Reports are no requests.
    let is_service = |export: &ServiceExport| is_within(subject, &export.subject);
    if !is_valid_publish_subject(subject.as_bytes())
        || subject.contains(char::is_whitespace)
        || exporter.service_exports().any(is_service)
    {
        return Err(ExportProblem::LatencySubject(subject.to_owned()));
    }
    if export.response_type != ResponseType::Singleton {
        return Err(ExportProblem::LatencyResponseType);
    }
    Ok(())
}

impl Access {
    /// What is wrong with exports and imports.
    pub(crate) fn exchange_problems(&self) -> Vec<AccessProblem> {
        let mut problems = Vec::new();
        for account in &self.accounts {
            for export in &account.exports {
                let (kind, grant) = match export {
                    Export::Stream(export) => (ExchangeKind::Stream, Grant::from(export)),
                    Export::Service(export) => (ExchangeKind::Service, Grant::from(export)),
                };
                let checked = check_export(grant, kind, self).and_then(|()| match export {
                    Export::Stream(_) => Ok(()),
                    Export::Service(export) => check_latency(export, account),
                });
                if let Err(problem) = checked {
                    problems.push(AccessProblem::InvalidExport {
                        kind,
                        account: account.name.clone(),
                        subject: grant.subject.to_owned(),
                        problem,
                    });
                }
            }
            let mut known: Vec<(ExchangeKind, &str, &str)> = Vec::new();
            for import in &account.imports {
                let (name, checked) = match import {
                    Import::Stream(import) => (
                        (ExchangeKind::Stream, &*import.account, &*import.subject),
                        check_stream_import(account, import, self),
                    ),
                    Import::Service(import) => (
                        (
                            ExchangeKind::Service,
                            &*import.account,
                            import.local_subject(),
                        ),
                        check_service_import(account, import, self),
                    ),
                };
                let kind = name.0;
                let checked = if known.contains(&name) {
                    Err(ImportProblem::Duplicate(kind))
                } else {
                    checked
                };
                known.push(name);
                if let Err(problem) = checked {
                    let (Import::Stream(StreamImport { subject, .. })
                    | Import::Service(ServiceImport { subject, .. })) = import;
                    problems.push(AccessProblem::InvalidImport {
                        kind,
                        account: account.name.clone(),
                        subject: subject.clone(),
                        problem,
                    });
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use natterjack_subject::matches;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_within_matches_no_more(
            inner in prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 1..4),
            outer in prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 1..4),
            tails in (any::<bool>(), any::<bool>()),
            subject in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..5),
        ) {
            let pattern = |tokens: &[&str], tail: bool| {
                tokens.join(".") + if tail { ".>" } else { "" }
            };
            let (inner, outer) = (pattern(&inner, tails.0), pattern(&outer, tails.1));
            let subject = subject.join(".");
            if is_within(&inner, &outer) && matches(inner.as_bytes(), subject.as_bytes()) {
                prop_assert!(matches(outer.as_bytes(), subject.as_bytes()));
            }
        }
    }

    fn export(subject: &str, accounts: &[&str], account_token_position: usize) -> Export {
        Export::Stream(StreamExport {
            subject: subject.to_owned(),
            accounts: accounts.iter().map(ToString::to_string).collect(),
            account_token_position,
        })
    }

    fn import(account: &str, subject: &str, to: Option<&str>) -> Import {
        Import::Stream(StreamImport {
            account: account.to_owned(),
            subject: subject.to_owned(),
            to: to.map(ToOwned::to_owned),
            ..StreamImport::default()
        })
    }

    fn problems(accounts: &[(&str, Vec<Export>, Vec<Import>)]) -> Vec<String> {
        let accounts = accounts
            .iter()
            .map(|(name, exports, imports)| AccountAccess {
                name: (*name).to_owned(),
                exports: exports.clone(),
                imports: imports.clone(),
                ..AccountAccess::default()
            });
        let access = Access {
            accounts: accounts.collect(),
            ..Access::default()
        };
        access
            .exchange_problems()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn what_may_be_imported() {
        let granted = |exports: Vec<Export>, subject: &str| {
            problems(&[
                ("A", exports, vec![]),
                ("B", vec![], vec![import("A", subject, None)]),
                ("C", vec![], vec![]),
            ])
            .is_empty()
        };
        assert!(granted(vec![export("a.>", &[], 0)], "a.>"));
        assert!(granted(vec![export("a.>", &[], 0)], "a.*"));
        assert!(!granted(vec![export("a.*", &[], 0)], "a.>"));
        assert!(!granted(vec![export("a", &[], 0)], "b"));
        assert!(!granted(vec![export("a.>", &["C"], 0)], "a.b"));
        assert!(granted(vec![export("a.>", &["C", "B"], 0)], "a.b"));
        assert!(!granted(
            vec![export("a", &[], 0), export("a", &["C"], 0)],
            "a"
        ));
        assert!(granted(vec![export("a.*", &[], 2)], "a.B"));
        assert!(!granted(vec![export("a.*", &[], 2)], "a.C"));
        assert!(!granted(vec![export("a.*", &[], 2)], "a.*"));
        assert!(!granted(vec![export(">", &[], 0)], "a b"));
    }

    #[test]
    fn circles_are_found() {
        let circle = |accounts: &[(&str, Vec<Export>, Vec<Import>)]| {
            problems(accounts)
                .iter()
                .any(|problem| problem.ends_with("import forms a cycle"))
        };
        let both = |name: &'static str, other: &str| {
            (
                name,
                vec![export("a", &[], 0)],
                vec![import(other, "a", None)],
            )
        };
        assert!(circle(&[both("A", "B"), both("B", "A")]));
        assert!(circle(&[both("A", "B"), both("B", "C"), both("C", "A")]));
        assert!(!circle(&[
            both("A", "B"),
            both("B", "C"),
            ("C", vec![export("a", &[], 0)], vec![])
        ]));
    }

    fn service_import(account: &str, subject: &str, to: &str) -> Import {
        Import::Service(ServiceImport {
            account: account.to_owned(),
            subject: subject.to_owned(),
            to: Some(to.to_owned()),
            share: false,
        })
    }

    #[test]
    fn many_ways_to_one_account_are_followed_once() {
        const FLOORS: usize = 40;
        let names: Vec<String> = (0..=FLOORS).map(|floor| format!("A{floor}")).collect();
        let floor = |floor: usize| {
            let exported = |subject: &str| {
                Export::Service(ServiceExport {
                    subject: subject.to_owned(),
                    ..ServiceExport::default()
                })
            };
            // Two ways from each to the next: 2^40 in all.
            let imports = names.get(floor + 1).map(|next| {
                let both = ["a", "b"];
                both.map(|subject| service_import(next, subject, "*"))
                    .to_vec()
            });
            let exports = vec![exported("a"), exported("b")];
            (names[floor].as_str(), exports, imports.unwrap_or_default())
        };
        let mut accounts: Vec<_> = (0..=FLOORS).map(floor).collect();
        let is_circle = |problem: &String| problem.ends_with("import forms a cycle");
        // One name twice is another problem.
        assert!(!problems(&accounts).iter().any(is_circle));
        accounts[FLOORS].2 = vec![service_import("A0", "a", "*")];
        let found = problems(&accounts);
        assert_eq!(
            found.iter().filter(|found| is_circle(found)).count(),
            FLOORS + 1
        );
    }

    #[test]
    fn names_with_blanks_are_refused() {
        let offer = ("A", vec![export("a", &[], 0)], vec![]);
        let found = problems(&[offer, ("B", vec![], vec![import("A", "a", Some("x 1 5"))])]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn problems_are_told_in_the_words_of_nats_server() {
        let offer = || ("A", vec![export("a.*", &[], 0)], vec![]);
        let found = |imported: Import| problems(&[offer(), ("B", vec![], vec![imported])]);
        assert_eq!(
            found(import("X", "a", None)),
            [
                "error adding stream import \"a\" of account \"B\": \"X\" account not defined for stream import"
            ]
        );
        assert_eq!(
            found(import("A", "a.*", Some("x"))),
            [
                "error adding stream import \"a.*\" of account \"B\": failed to create mapping transform for stream \
                 import subject from \"a.*\" to \"x\": invalid mapping destination: not using all of the token \
                 wildcard(s) in x"
            ]
        );
        assert_eq!(
            problems(&[("A", vec![export("a.b", &[], 2)], vec![])]),
            [
                "error adding stream export \"a.b\" of account \"A\": account_token_position must be that of a *"
            ]
        );
        assert_eq!(
            problems(&[("A", vec![export("a", &["D"], 0)], vec![])]),
            [
                "error adding stream export \"a\" of account \"A\": \"D\" account not defined for stream export"
            ]
        );
    }
}
