//! The verdict on a client that wants to come in: what it sent, what is known of its connection, who is known.
//!
//! [`Directory::authorize`] is the only way in, for every kind of session and at every time: at CONNECT, at an
//! operation before it, and after a change of [`Access`].

use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use natterjack_wire::client::ConnectOptions;
use subtle::ConstantTimeEq;

use super::distinguished_name::DistinguishedName;
use super::nkey::{PublicKey, Role};
use super::password::{PasswordCheck, same};
use super::permissions::CompiledPermissions;
use super::{Access, AccountAccess, ConnectionType, Credential, Login, Secret, User, is_bcrypt};
use crate::account::{GLOBAL_ACCOUNT, SYSTEM_ACCOUNT};
use crate::certificate_names::CertificateNames;

/// [`Access`], compiled for the question who somebody is.
pub(crate) struct Directory {
    token: Option<Secret>,
    user: Option<Login>,
    users: HashMap<String, Arc<Member>>,
    nkeys: HashMap<String, Arc<Member>>,
    no_auth: Option<NoAuth>,
    verify_and_map: bool,
    system_account: Arc<str>,
    /// The most expensive hash there is. Whoever is refused for a cheaper reason waits for it all the same, so that
    /// time does not tell whether a name is known.
    decoy: Option<Secret>,
}

/// Somebody who is known.
#[derive(Debug)]
pub(crate) struct Member {
    name: Arc<str>,
    account: Arc<str>,
    credential: Credential,
    /// The name as a public key, if the user signs.
    key: Option<PublicKey>,
    permissions: Option<Arc<CompiledPermissions>>,
    connection_types: Vec<ConnectionType>,
}

/// Who clients without credentials are.
enum NoAuth {
    Member(Arc<Member>),
    /// Nobody in particular, in `$G`, because all users belong to the system account.
    BesidesSystem,
}

/// What is known of a connection apart from CONNECT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) connection_type: ConnectionType,
    pub(crate) certificate: Option<&'a CertificateNames>,
    /// What a user with a key has to sign; empty if nothing was sent.
    pub(crate) nonce: &'a str,
    /// A secret the client has shown to know before; it need not be checked again.
    pub(crate) proven: Option<&'a Secret>,
}

/// Whether a client may come in.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It may.
    Admitted(Admission),
    /// It may if this check says so.
    Pending(PasswordCheck, Admission),
    /// It may not.
    Refused(Refusal),
}

/// Who a client is and what it may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    /// Name of the account; `None` is the global one.
    pub(crate) account: Option<Arc<str>>,
    /// The user's name where the client did not tell it: from its certificate, or `no_auth_user`.
    pub(crate) user: Option<UserName>,
    pub(crate) permissions: Option<Arc<CompiledPermissions>>,
}

/// Name of a user, by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserName {
    /// Of one with a password or certificate.
    Name(Arc<str>),
    /// Public key of one who signs.
    Nkey(Arc<str>),
    /// Whoever knows the token.
    Token,
}

/// Why a client may not come in; for the operator, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoCredentials,
    UnknownUser,
    WrongPassword,
    WrongToken,
    ConnectionType(ConnectionType),
    MissingSignature,
    BadSignature,
    NoCertificate,
    UnknownCertificate,
    NeedsCertificate,
    NamesAccount,
}

impl Directory {
    pub(crate) fn new(access: &Access) -> Self {
        let mut directory = Self {
            token: access.token.clone(),
            user: access.user.clone(),
            users: HashMap::new(),
            nkeys: HashMap::new(),
            no_auth: None,
            verify_and_map: access.verify_and_map,
            system_account: access
                .system_account
                .as_deref()
                .unwrap_or(SYSTEM_ACCOUNT)
                .into(),
            decoy: most_expensive(access),
        };
        let global = Group::new(GLOBAL_ACCOUNT, access.default_permissions.as_ref());
        for user in &access.users {
            directory.add(user, &global);
        }
        for account in &access.accounts {
            let group = Group::new(&account.name, account.default_permissions.as_ref());
            for user in &account.users {
                directory.add(user, &group);
            }
        }
        directory.no_auth = match &access.no_auth_user {
            Some(name) => directory
                .nkeys
                .get(name)
                .or_else(|| directory.users.get(name))
                .map(|member| NoAuth::Member(Arc::clone(member))),
            None if is_open_besides_system(access) => Some(NoAuth::BesidesSystem),
            None => None,
        };
        directory
    }

    fn add(&mut self, user: &User, group: &Group) {
        let key = (user.credential == Credential::Nkey)
            .then(|| PublicKey::parse(&user.name, Role::User))
            .flatten();
        let own = user.permissions.as_ref();
        let member = Arc::new(Member {
            name: user.name.as_str().into(),
            account: Arc::clone(&group.account),
            credential: user.credential.clone(),
            key,
            permissions: own
                .map(|permissions| Arc::new(CompiledPermissions::new(permissions)))
                .or_else(|| group.permissions.clone()),
            connection_types: user.connection_types.clone(),
        });
        let list = match user.credential {
            Credential::Nkey => &mut self.nkeys,
            Credential::None | Credential::Password(_) => &mut self.users,
        };
        list.insert(user.name.clone(), member);
    }

    /// Whether there is anything to check: without, everybody may come in.
    pub(crate) fn is_closed(&self) -> bool {
        self.token.is_some()
            || self.user.is_some()
            || !self.users.is_empty()
            || !self.nkeys.is_empty()
    }

    /// Whether INFO tells clients that they need credentials.
    pub(crate) fn announces_authentication(&self) -> bool {
        self.is_closed() && !matches!(self.no_auth, Some(NoAuth::Member(_)))
    }

    /// Whether a client may begin with something else than CONNECT if [`authorize`](Self::authorize) lets it in
    /// without credentials. One with a key may not, on nats-server.
    pub(crate) fn may_skip_connect(&self) -> bool {
        match &self.no_auth {
            Some(NoAuth::Member(member)) => member.key.is_none(),
            Some(NoAuth::BesidesSystem) => true,
            None => !self.is_closed(),
        }
    }

    /// Whether INFO must carry something to sign.
    pub(crate) fn needs_nonce(&self) -> bool {
        !self.nkeys.is_empty()
    }

    pub(crate) fn system_account(&self) -> &Arc<str> {
        &self.system_account
    }

    /// Decides on a client. In constant time for as far as secrets are concerned; linear in the number of users only
    /// where a certificate's subject is looked for.
    pub(crate) fn authorize(&self, connect: &ConnectOptions, facts: Facts<'_>) -> Verdict {
        if !self.is_closed() {
            return Verdict::Admitted(Admission::default());
        }
        if !self.nkeys.is_empty() && !connect.nkey.is_empty() {
            return self.authorize_nkey(connect, facts);
        }
        let is_bare =
            connect.user.is_empty() && connect.pass.is_empty() && connect.auth_token.is_empty();
        // A certificate decides alone where certificates are mapped; only a user with a key who takes the place of
        // all comes before it.
        if is_bare
            && connect.nkey.is_empty()
            && let Some(NoAuth::Member(member)) = &self.no_auth
            && member.key.is_some()
        {
            return self.admit_without_secret(member, facts);
        }
        if !self.users.is_empty() {
            if self.verify_and_map && !is_inside(facts.connection_type) {
                return self.authorize_certificate(connect, facts);
            }
            if is_bare {
                match &self.no_auth {
                    Some(NoAuth::Member(member)) if member.key.is_none() => {
                        return self.admit_without_secret(member, facts);
                    }
                    Some(NoAuth::BesidesSystem) => return Verdict::Admitted(Admission::default()),
                    _ => {}
                }
            }
            if !connect.user.is_empty() {
                return self.authorize_user(connect, facts);
            }
        }
        self.authorize_single(connect, facts.proven)
    }

    /// What a client with these credentials has to know, if it is a secret.
    pub(crate) fn secret_for(&self, connect: &ConnectOptions) -> Option<&Secret> {
        if let Some(member) = self.users.get(&connect.user) {
            return match &member.credential {
                Credential::Password(secret) => Some(secret),
                Credential::None | Credential::Nkey => None,
            };
        }
        match (&self.token, &self.user) {
            (Some(token), _) => Some(token),
            (None, Some(login)) if login.name == connect.user => Some(&login.password),
            _ => None,
        }
    }

    /// Whether this user exists.
    pub(crate) fn knows(&self, user: &UserName) -> bool {
        match user {
            UserName::Name(name) => {
                let is_single = |login: &Login| *login.name == **name;
                self.users.contains_key(&**name) || self.user.as_ref().is_some_and(is_single)
            }
            UserName::Nkey(nkey) => self.nkeys.contains_key(&**nkey),
            // Whoever has the token is nobody in particular.
            UserName::Token => true,
        }
    }

    /// Who an in-process client of the embedder's is: this user, or somebody in `$G` who may do everything. Nobody
    /// inside the process has to prove anything. `None` if there is no such user.
    pub(crate) fn admit_trusted(&self, user: Option<&str>) -> Option<Admission> {
        match user {
            None => Some(Admission::default()),
            Some(name) => self
                .users
                .get(name)
                .or_else(|| self.nkeys.get(name))
                .map(|member| member.admission()),
        }
    }

    fn authorize_nkey(&self, connect: &ConnectOptions, facts: Facts<'_>) -> Verdict {
        let known = self.nkeys.get(&connect.nkey);
        if let (Some(member), Some(NoAuth::Member(no_auth))) = (known, &self.no_auth)
            && Arc::ptr_eq(member, no_auth)
        {
            return self.admit_without_secret(member, facts);
        }
        if connect.sig.is_empty() {
            return Verdict::Refused(Refusal::MissingSignature);
        }
        // A key that is not known is verified as well, which takes the same time.
        let claimed = PublicKey::parse(&connect.nkey, Role::User);
        let key = known.map_or(claimed.as_ref(), |member| member.key.as_ref());
        let is_signed = !facts.nonce.is_empty()
            && key.is_some_and(|key| key.verifies(facts.nonce.as_bytes(), &connect.sig));
        match known {
            None => Verdict::Refused(Refusal::UnknownUser),
            Some(member) if !member.may_come_by(facts.connection_type) => {
                Verdict::Refused(Refusal::ConnectionType(facts.connection_type))
            }
            Some(member) if is_signed => Verdict::Admitted(member.admission()),
            Some(_) => Verdict::Refused(Refusal::BadSignature),
        }
    }

    /// The user whom a certificate names: by an e-mail address, a DNS name, a URI, or its subject. One who has a
    /// password too needs both.
    fn authorize_certificate(&self, connect: &ConnectOptions, facts: Facts<'_>) -> Verdict {
        let Some(certificate) = facts.certificate else {
            return Verdict::Refused(Refusal::NoCertificate);
        };
        let may_come = |member: &&Arc<Member>| member.may_come_by(facts.connection_type);
        let CertificateNames {
            emails,
            dns_names,
            uris,
            subject,
            ..
        } = certificate;
        let by_name = emails
            .iter()
            .chain(dns_names)
            .chain(uris)
            .find_map(|name| self.users.get(name).filter(may_come));
        let by_subject = || {
            let subject = DistinguishedName::of_certificate(certificate)?;
            let mut found: Vec<_> = self
                .users
                .values()
                .filter(may_come)
                .filter(|member| DistinguishedName::parse(&member.name).as_ref() == Some(&subject))
                .collect();
            // Several spellings of one subject: no chance is to decide among them.
            found.sort_by_key(|member| &member.name);
            found.first().copied()
        };
        let by_text = || {
            let member = self.users.get(subject).filter(may_come)?;
            (!subject.is_empty()).then_some(member)
        };
        match by_name.or_else(by_subject).or_else(by_text) {
            Some(member) => self.compare_with(member, &connect.pass, facts.proven),
            None => Verdict::Refused(Refusal::UnknownCertificate),
        }
    }

    fn authorize_user(&self, connect: &ConnectOptions, facts: Facts<'_>) -> Verdict {
        let Some(member) = self.users.get(&connect.user) else {
            return self.refuse(Refusal::UnknownUser, &connect.pass);
        };
        if !member.may_come_by(facts.connection_type) {
            return self.refuse(
                Refusal::ConnectionType(facts.connection_type),
                &connect.pass,
            );
        }
        // Where certificates name users, their names alone are no proof.
        if self.verify_and_map && member.credential == Credential::None {
            return self.refuse(Refusal::NeedsCertificate, &connect.pass);
        }
        self.compare_with(member, &connect.pass, facts.proven)
    }

    /// Whether this is the member's password. As on nats-server, no password is an empty one.
    fn compare_with(&self, member: &Member, given: &str, proven: Option<&Secret>) -> Verdict {
        let none = Secret::default();
        let stored = match &member.credential {
            Credential::Password(stored) => stored,
            Credential::None | Credential::Nkey => &none,
        };
        self.compare(
            stored,
            given,
            member.admission(),
            Refusal::WrongPassword,
            proven,
        )
    }

    fn authorize_single(&self, connect: &ConnectOptions, proven: Option<&Secret>) -> Verdict {
        let admission = |user| Admission {
            user: Some(user),
            ..Admission::default()
        };
        if let Some(token) = &self.token {
            return self.compare(
                token,
                &connect.auth_token,
                admission(UserName::Token),
                Refusal::WrongToken,
                proven,
            );
        }
        if let Some(Login { name, password }) = &self.user {
            let is_known: bool = name.as_bytes().ct_eq(connect.user.as_bytes()).into();
            let admission = admission(UserName::Name(name.as_str().into()));
            return match self.compare(
                password,
                &connect.pass,
                admission,
                Refusal::WrongPassword,
                proven,
            ) {
                Verdict::Pending(..) if !is_known => {
                    self.refuse(Refusal::UnknownUser, &connect.pass)
                }
                _ if !is_known => Verdict::Refused(Refusal::UnknownUser),
                verdict => verdict,
            };
        }
        self.refuse(Refusal::NoCredentials, &connect.pass)
    }

    fn admit_without_secret(&self, member: &Member, facts: Facts<'_>) -> Verdict {
        if member.may_come_by(facts.connection_type) {
            Verdict::Admitted(member.admission())
        } else {
            Verdict::Refused(Refusal::ConnectionType(facts.connection_type))
        }
    }

    fn compare(
        &self,
        stored: &Secret,
        given: &str,
        admission: Admission,
        refusal: Refusal,
        proven: Option<&Secret>,
    ) -> Verdict {
        if proven == Some(stored) {
            Verdict::Admitted(admission)
        } else if is_bcrypt(stored.expose()) {
            Verdict::Pending(PasswordCheck::new(stored, given), admission)
        } else if same(stored, given) {
            Verdict::Admitted(admission)
        } else {
            self.refuse(refusal, given)
        }
    }

    /// Refuses after the time that the check of a hash takes, if there are any.
    fn refuse(&self, refusal: Refusal, given: &str) -> Verdict {
        match &self.decoy {
            Some(decoy) => {
                Verdict::Pending(PasswordCheck::in_vain(decoy, given), Admission::default())
            }
            None => Verdict::Refused(refusal),
        }
    }
}

impl Member {
    fn may_come_by(&self, connection_type: ConnectionType) -> bool {
        self.connection_types.is_empty() || self.connection_types.contains(&connection_type)
    }

    fn admission(&self) -> Admission {
        let name = Arc::clone(&self.name);
        Admission {
            account: Some(Arc::clone(&self.account)),
            user: Some(if self.credential == Credential::Nkey {
                UserName::Nkey(name)
            } else {
                UserName::Name(name)
            }),
            permissions: self.permissions.clone(),
        }
    }
}

/// What the users of one account have in common.
struct Group {
    account: Arc<str>,
    permissions: Option<Arc<CompiledPermissions>>,
}

impl Group {
    fn new(account: &str, permissions: Option<&super::Permissions>) -> Self {
        Self {
            account: account.into(),
            permissions: permissions
                .map(|permissions| Arc::new(CompiledPermissions::new(permissions))),
        }
    }
}

impl UserName {
    /// With its kind, as nats-server's log has it.
    pub(crate) fn described(&self) -> String {
        match self {
            Self::Name(name) => format!("User {name:?}"),
            Self::Nkey(nkey) => format!("Nkey {nkey:?}"),
            Self::Token => "Token \"[REDACTED]\"".to_owned(),
        }
    }
}

impl fmt::Display for UserName {
    /// In a form fit to be shown.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) | Self::Nkey(name) => formatter.write_str(name),
            Self::Token => formatter.write_str("[REDACTED]"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoCredentials => "no credentials, or not of the kind that is asked for",
            Self::UnknownUser => "no such user",
            Self::WrongPassword => "wrong password",
            Self::WrongToken => "wrong token",
            Self::ConnectionType(kind) => {
                return write!(
                    formatter,
                    "the user may not come by a connection of type {kind}"
                );
            }
            Self::MissingSignature => "signature missing",
            Self::BadSignature => "signature not verified",
            Self::NoCertificate => "user required in certificate, but there is none",
            Self::UnknownCertificate => "the certificate names no user",
            Self::NeedsCertificate => "the user requires a client certificate",
            Self::NamesAccount => "CONNECT names an account, which is for operators' servers",
        })
    }
}

/// Connections inside the process have no certificate to go by.
fn is_inside(connection_type: ConnectionType) -> bool {
    connection_type == ConnectionType::InProcess
}

/// Whether [`Access::open_besides_system`] applies: there is the system account and nothing else.
fn is_open_besides_system(access: &Access) -> bool {
    let system = access.system_account.as_deref().unwrap_or(SYSTEM_ACCOUNT);
    let is_system = |account: &AccountAccess| account.name == system;
    access.open_besides_system
        && access.token.is_none()
        && access.user.is_none()
        && access.users.is_empty()
        && !access.accounts.is_empty()
        && access.accounts.iter().all(is_system)
}

/// The hash that takes longest to check, if there is any.
fn most_expensive(access: &Access) -> Option<Secret> {
    let of_users = access
        .all_users()
        .filter_map(|(_, user)| match &user.credential {
            Credential::Password(password) => Some(password),
            Credential::None | Credential::Nkey => None,
        });
    let single = access.user.as_ref().map(|login| &login.password);
    access
        .token
        .iter()
        .chain(single)
        .chain(of_users)
        .filter(|secret| is_bcrypt(secret.expose()))
        // The cost is two digits.
        .max_by_key(|secret| secret.expose()[4..6].to_owned())
        .cloned()
}

#[cfg(test)]
mod tests;
