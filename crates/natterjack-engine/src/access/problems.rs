//! What contradicts itself in [`Access`] (auth reference, section 5).

use std::fmt;

use hashbrown::HashSet;
use natterjack_subject::is_valid_pattern;
use thiserror::Error;

use super::nkey::{PublicKey, Role};
use super::permissions::split;
use super::{
    Access, Credential, ExchangeKind, ExportProblem, ImportProblem, Mapping, MappingProblem,
    Permissions, User,
};
use crate::account::{GLOBAL_ACCOUNT, SYSTEM_ACCOUNT};

/// Something in [`Access`] that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AccessProblem {
    /// A single user and a token.
    #[error("cannot have a user/pass and token: remove one of the two")]
    UserAndToken,
    /// A single user beside a list.
    #[error("can not have a single user/pass and a users array: move the user into the array")]
    UserAndUsers,
    /// A single user beside accounts with users.
    #[error("can not have a single user/pass and accounts: move the user into an account")]
    UserAndAccounts,
    /// A token beside a list.
    #[error("can not have a token and a users array: remove one of the two")]
    TokenAndUsers,
    /// A token beside accounts with users.
    #[error("can not have a token and accounts: remove one of the two")]
    TokenAndAccounts,
    /// An empty token or a single user without a name.
    #[error("{0} must not be empty")]
    Empty(&'static str),
    /// Two users with the same name.
    #[error("duplicate user {0:?} detected: a name can be used once, in one account")]
    DuplicateUser(String),
    /// Two users with the same key.
    #[error("duplicate nkey {0:?} detected: a key can be used once, in one account")]
    DuplicateNkey(String),
    /// Two accounts with the same name.
    #[error("duplicate account {0:?} detected")]
    DuplicateAccount(String),
    /// An account named `$G`.
    #[error("{0:?} is a reserved account")]
    ReservedAccount(String),
    /// An account without a name, or one that subjects and the log could not show.
    #[error("account name {0:?} is not valid: it must not be empty or contain blanks")]
    InvalidAccountName(String),
    /// A user without a name.
    #[error("user entry requires a user{0}")]
    NamelessUser(Place),
    /// What should be a user's public key is none.
    #[error("not a valid public nkey for a user: {0:?}; it begins with U and has 56 characters")]
    InvalidUserNkey(String),
    /// What should be an account's public key is none.
    #[error(
        "not a valid public nkey for an account: {nkey:?} of {account:?}; it begins with A and has 56 characters"
    )]
    InvalidAccountNkey {
        /// The account.
        account: String,
        /// The key.
        nkey: String,
    },
    /// An entry of permissions is no subject.
    #[error("subject {subject:?} is not a valid subject (in {side} of {owner})")]
    InvalidSubject {
        /// Whose permissions.
        owner: Owner,
        /// Which list.
        side: Side,
        /// The entry.
        subject: String,
    },
    /// A mapping that cannot work.
    #[error("error adding mapping for {source_subject:?} of account {account:?}: {problem}")]
    InvalidMapping {
        /// The account.
        account: String,
        /// What is mapped.
        source_subject: String,
        /// What is wrong.
        problem: MappingProblem,
    },
    /// An export that cannot work.
    #[error("error adding {kind} export {subject:?} of account {account:?}: {problem}")]
    InvalidExport {
        /// Of what.
        kind: ExchangeKind,
        /// The account.
        account: String,
        /// What is exported.
        subject: String,
        /// What is wrong.
        problem: ExportProblem,
    },
    /// An import that cannot work.
    #[error("error adding {kind} import {subject:?} of account {account:?}: {problem}")]
    InvalidImport {
        /// Of what.
        kind: ExchangeKind,
        /// The account.
        account: String,
        /// What is imported.
        subject: String,
        /// What is wrong.
        problem: ImportProblem,
    },
    /// `no_auth_user` without any users.
    #[error("no_auth_user: {0:?} present, but users/nkeys are not defined")]
    NoAuthUserWithoutUsers(String),
    /// `no_auth_user` names nobody.
    #[error(
        "no_auth_user: {0:?} not present as user or nkey in authorization block or account configuration"
    )]
    UnknownNoAuthUser(String),
    /// `system_account` names no account.
    #[error("system account {0:?} is not among the accounts")]
    UnknownSystemAccount(String),
}

/// Where a user is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `authorization`.
    Authorization,
    /// In an account.
    Account(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorization => Ok(()),
            Self::Account(name) => write!(formatter, " (in account {name:?})"),
        }
    }
}

/// Whose permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owner {
    /// A user's.
    User(String),
    /// The default of users in `authorization`.
    Default,
    /// The default of an account's users.
    Account(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(formatter, "user {name:?}"),
            Self::Default => formatter.write_str("default_permissions"),
            Self::Account(name) => write!(formatter, "default_permissions of account {name:?}"),
        }
    }
}

/// A list of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where to publish.
    PublishAllow,
    /// Where not to publish.
    PublishDeny,
    /// Where to listen.
    SubscribeAllow,
    /// Where not to listen.
    SubscribeDeny,
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::PublishAllow => "publish allow",
            Self::PublishDeny => "publish deny",
            Self::SubscribeAllow => "subscribe allow",
            Self::SubscribeDeny => "subscribe deny",
        })
    }
}

impl Access {
    /// Everything that cannot work, in the order of the fields. Linear in the number of entries.
    #[must_use]
    pub fn problems(&self) -> Vec<AccessProblem> {
        let mut problems = Vec::new();
        self.exclusions(&mut problems);
        self.names(&mut problems);
        self.subjects(&mut problems);
        self.references(&mut problems);
        self.mappings(&mut problems);
        problems.extend(self.exchange_problems());
        problems
    }

    /// Whether some password or token is in clear text, which is worth a warning.
    #[must_use]
    pub fn has_plain_text_passwords(&self) -> bool {
        let is_plain = |user: &User| match &user.credential {
            Credential::Password(password) => !super::is_bcrypt(password.expose()),
            Credential::None => !self.verify_and_map,
            Credential::Nkey => false,
        };
        let single = self.user.as_ref().map(|login| &login.password);
        single.is_some_and(|password| !super::is_bcrypt(password.expose()))
            || self.all_users().any(|(_, user)| is_plain(user))
    }

    /// All users of lists, each with the account it is listed in; `None` stands for `authorization`.
    pub(super) fn all_users(&self) -> impl Iterator<Item = (Option<&super::AccountAccess>, &User)> {
        let of_accounts = self
            .accounts
            .iter()
            .flat_map(|account| account.users.iter().map(move |user| (Some(account), user)));
        self.users
            .iter()
            .map(|user| (None, user))
            .chain(of_accounts)
    }

    fn mappings(&self, problems: &mut Vec<AccessProblem>) {
        let mut check = |account: &str, mappings: &[Mapping]| {
            problems.extend(mappings.iter().filter_map(|mapping| {
                Some(AccessProblem::InvalidMapping {
                    account: account.to_owned(),
                    source_subject: mapping.source.clone(),
                    problem: mapping.problem()?,
                })
            }));
        };
        check(GLOBAL_ACCOUNT, &self.mappings);
        for account in &self.accounts {
            check(&account.name, &account.mappings);
        }
    }

    fn exclusions(&self, problems: &mut Vec<AccessProblem>) {
        let in_accounts = self
            .accounts
            .iter()
            .any(|account| !account.users.is_empty());
        let combinations = [
            (
                self.user.is_some() && self.token.is_some(),
                AccessProblem::UserAndToken,
            ),
            (
                self.user.is_some() && !self.users.is_empty(),
                AccessProblem::UserAndUsers,
            ),
            (
                self.user.is_some() && in_accounts,
                AccessProblem::UserAndAccounts,
            ),
            (
                self.token.is_some() && !self.users.is_empty(),
                AccessProblem::TokenAndUsers,
            ),
            (
                self.token.is_some() && in_accounts,
                AccessProblem::TokenAndAccounts,
            ),
            (
                self.token.as_ref().is_some_and(super::Secret::is_empty),
                AccessProblem::Empty("token"),
            ),
            (
                self.user
                    .as_ref()
                    .is_some_and(|login| login.name.is_empty()),
                AccessProblem::Empty("user"),
            ),
        ];
        problems.extend(
            combinations
                .into_iter()
                .filter_map(|(is, problem)| is.then_some(problem)),
        );
    }

    fn names(&self, problems: &mut Vec<AccessProblem>) {
        let (mut names, mut nkeys) = (HashSet::new(), HashSet::new());
        for (account, user) in self.all_users() {
            let name = user.name.as_str();
            if name.is_empty() {
                problems.push(AccessProblem::NamelessUser(match account {
                    Some(account) => Place::Account(account.name.clone()),
                    None => Place::Authorization,
                }));
            } else if user.credential == Credential::Nkey {
                if PublicKey::parse(name, Role::User).is_none() {
                    problems.push(AccessProblem::InvalidUserNkey(user.name.clone()));
                }
                if !nkeys.insert(name) {
                    problems.push(AccessProblem::DuplicateNkey(user.name.clone()));
                }
            } else if !names.insert(name) {
                problems.push(AccessProblem::DuplicateUser(user.name.clone()));
            }
        }
        let mut names = HashSet::new();
        for account in &self.accounts {
            let name = account.name.as_str();
            if name.is_empty() || name.contains(|letter: char| letter.is_whitespace()) {
                problems.push(AccessProblem::InvalidAccountName(account.name.clone()));
            } else if name == GLOBAL_ACCOUNT {
                problems.push(AccessProblem::ReservedAccount(account.name.clone()));
            } else if !names.insert(name) {
                problems.push(AccessProblem::DuplicateAccount(account.name.clone()));
            }
            if let Some(nkey) = &account.nkey
                && PublicKey::parse(nkey, Role::Account).is_none()
            {
                problems.push(AccessProblem::InvalidAccountNkey {
                    account: account.name.clone(),
                    nkey: nkey.clone(),
                });
            }
        }
    }

    fn subjects(&self, problems: &mut Vec<AccessProblem>) {
        let defaults = self
            .default_permissions
            .iter()
            .map(|permissions| (Owner::Default, permissions));
        let of_accounts = self.accounts.iter().filter_map(|account| {
            let permissions = account.default_permissions.as_ref()?;
            Some((Owner::Account(account.name.clone()), permissions))
        });
        let of_users = self.all_users().filter_map(|(_, user)| {
            let permissions = user.permissions.as_ref()?;
            Some((Owner::User(user.name.clone()), permissions))
        });
        for (owner, permissions) in defaults.chain(of_accounts).chain(of_users) {
            check_permissions(&owner, permissions, problems);
        }
    }

    fn references(&self, problems: &mut Vec<AccessProblem>) {
        if let Some(name) = &self.no_auth_user {
            if self.all_users().next().is_none() {
                problems.push(AccessProblem::NoAuthUserWithoutUsers(name.clone()));
            } else if !self.all_users().any(|(_, user)| user.name == *name) {
                problems.push(AccessProblem::UnknownNoAuthUser(name.clone()));
            }
        }
        if let Some(name) = &self.system_account
            && name != SYSTEM_ACCOUNT
            && !self.accounts.iter().any(|account| account.name == *name)
        {
            problems.push(AccessProblem::UnknownSystemAccount(name.clone()));
        }
    }
}

fn check_permissions(owner: &Owner, permissions: &Permissions, problems: &mut Vec<AccessProblem>) {
    let is_subject = |entry: &str| {
        is_valid_pattern(entry.as_bytes()) && !entry.contains([' ', '\t', '\r', '\n'])
    };
    let is_entry = |entry: &str| split(entry).is_some();
    let Permissions {
        publish, subscribe, ..
    } = permissions;
    let mut check = |side, entries: &[String], is_valid: &dyn Fn(&str) -> bool| {
        for subject in entries.iter().filter(|entry| !is_valid(entry)) {
            problems.push(AccessProblem::InvalidSubject {
                owner: owner.clone(),
                side,
                subject: subject.clone(),
            });
        }
    };
    check(
        Side::PublishAllow,
        publish.allow.as_deref().unwrap_or_default(),
        &is_subject,
    );
    check(Side::PublishDeny, &publish.deny, &is_subject);
    check(
        Side::SubscribeAllow,
        subscribe.allow.as_deref().unwrap_or_default(),
        &is_entry,
    );
    check(Side::SubscribeDeny, &subscribe.deny, &is_entry);
}

#[cfg(test)]
mod tests {
    use super::super::nkey::tests::KeyPair;
    use super::super::{AccountAccess, Login, SubjectRules};
    use super::*;

    fn user(name: &str) -> User {
        User {
            name: name.to_owned(),
            credential: Credential::Password("pw".into()),
            ..User::default()
        }
    }

    fn account(name: &str, users: &[&str]) -> AccountAccess {
        AccountAccess {
            name: name.to_owned(),
            users: users.iter().map(|name| user(name)).collect(),
            ..AccountAccess::default()
        }
    }

    #[track_caller]
    fn check(access: &Access, expected: &[&str]) {
        let texts: Vec<String> = access.problems().iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expected.len(), "{texts:?}");
        for (text, expected) in texts.iter().zip(expected) {
            assert!(
                text.contains(expected),
                "{text:?} should contain {expected:?}"
            );
        }
    }

    #[test]
    fn what_works_has_none() {
        check(&Access::open(), &[]);
        check(&Access::token("t"), &[]);
        check(&Access::user("u", "p"), &[]);
        let pair = KeyPair::new(1);
        check(
            &Access {
                users: vec![
                    user("a"),
                    User {
                        name: pair.public(),
                        credential: Credential::Nkey,
                        ..User::default()
                    },
                ],
                accounts: vec![account("A", &["b"]), account("$SYS", &["admin"])],
                no_auth_user: Some("b".to_owned()),
                system_account: Some("A".to_owned()),
                ..Access::default()
            },
            &[],
        );
    }

    #[test]
    fn ways_to_log_in_that_exclude_each_other() {
        let single = || Some(Login::default());
        let both = Access {
            users: vec![user("a")],
            accounts: vec![account("A", &["b"])],
            ..Access::token("t")
        };
        check(&both, &["token and a users array", "token and accounts"]);
        let both = Access {
            user: Some(Login {
                name: "u".into(),
                password: "p".into(),
            }),
            ..both
        };
        check(
            &both,
            &[
                "user/pass and token",
                "single user/pass and a users",
                "single user/pass and accounts",
                "token and a users",
                "token and accounts",
            ],
        );
        check(
            &Access {
                user: single(),
                ..Access::default()
            },
            &["user must not be empty"],
        );
        check(&Access::token(""), &["token must not be empty"]);
    }

    #[test]
    fn names_and_keys() {
        let key = KeyPair::new(1).public();
        let nkey = |name: &str| User {
            name: name.to_owned(),
            credential: Credential::Nkey,
            ..User::default()
        };
        let access = Access {
            users: vec![user("a"), user(""), nkey(&key), nkey("UABC")],
            accounts: vec![
                AccountAccess {
                    nkey: Some("ABC".into()),
                    ..account("A", &["a"])
                },
                AccountAccess {
                    users: vec![nkey(&key)],
                    ..account("A", &[])
                },
                account("$G", &[]),
                account("x y", &[""]),
            ],
            ..Access::default()
        };
        check(
            &access,
            &[
                "requires a user",
                "not a valid public nkey for a user",
                "duplicate user \"a\"",
                "duplicate nkey",
                "requires a user (in account \"x y\")",
                "not a valid public nkey for an account",
                "duplicate account \"A\"",
                "\"$G\" is a reserved",
                "account name \"x y\"",
            ],
        );
    }

    #[test]
    fn subjects_of_permissions() {
        let broken = || Permissions {
            publish: SubjectRules {
                allow: Some(vec!["a..b".into(), "a b".into(), "ok".into()]),
                deny: vec![String::new()],
            },
            subscribe: SubjectRules {
                allow: Some(vec!["a q".into(), "a q r".into()]),
                deny: vec![" ".into()],
            },
            responses: None,
        };
        let access = Access {
            users: vec![User {
                permissions: Some(broken()),
                ..user("u")
            }],
            ..Access::default()
        };
        check(
            &access,
            &[
                "subject \"a..b\" is not a valid subject (in publish allow of user \"u\")",
                "subject \"a b\"",
                "publish deny",
                "\"a q r\"",
                "subscribe deny",
            ],
        );
        let defaults = Access {
            default_permissions: Some(broken()),
            accounts: vec![AccountAccess {
                default_permissions: Some(broken()),
                ..account("A", &[])
            }],
            ..Access::default()
        };
        assert_eq!(defaults.problems().len(), 10);
    }

    #[test]
    fn references_to_nobody() {
        let access = |users| Access {
            users,
            no_auth_user: Some("x".to_owned()),
            system_account: Some("S".to_owned()),
            ..Access::default()
        };
        check(&access(vec![]), &["not defined", "system account \"S\""]);
        check(
            &access(vec![user("a")]),
            &["not present as user", "system account"],
        );
    }

    #[test]
    fn clear_text_is_worth_a_warning() {
        let hash = "$2a$04$BmSaDe1cdKljxg0nnPDwaunlfgNA2wGdlA9qCctDVN.f82Cq6au1m";
        assert!(Access::user("u", "p").has_plain_text_passwords());
        assert!(!Access::user("u", hash).has_plain_text_passwords());
        assert!(
            !Access::token("t").has_plain_text_passwords(),
            "as on nats-server"
        );
        let of = |credential| Access {
            users: vec![User {
                credential,
                ..user("a")
            }],
            ..Access::default()
        };
        assert!(of(Credential::Password("p".into())).has_plain_text_passwords());
        assert!(!of(Credential::Password(hash.into())).has_plain_text_passwords());
        assert!(!of(Credential::Nkey).has_plain_text_passwords());
    }
}
