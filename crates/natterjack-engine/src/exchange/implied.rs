//! Services of the system account that every account has without asking for them: what clients may ask about themselves
//! and their account (nats-server `registerSystemImports`).

use super::rules::is_within;
use crate::access::{Access, AccountAccess, Latency, ResponseType, ServiceExport, ServiceImport};

/// What an account imports without being told to: where requests go, by what they are published to, how they are
/// answered, and whether the answerer is told who asks in detail. `%` stands for the account's name.
const IMPLIED: [(&str, &str, ResponseType, bool); 4] = [
    (
        "$SYS.REQ.ACCOUNT.%.CONNZ",
        "$SYS.REQ.ACCOUNT.PING.CONNZ",
        ResponseType::Streamed,
        false,
    ),
    (
        "$SYS.REQ.ACCOUNT.%.CONNZ",
        "$SYS.REQ.SERVER.PING.CONNZ",
        ResponseType::Streamed,
        false,
    ),
    (
        "$SYS.REQ.ACCOUNT.%.STATZ",
        "$SYS.REQ.ACCOUNT.PING.STATZ",
        ResponseType::Streamed,
        false,
    ),
    (
        "$SYS.REQ.USER.%.INFO",
        USER_INFO,
        ResponseType::Singleton,
        true,
    ),
];

/// The only one that the system account itself has: what its other subjects ask about, its users ask directly.
const USER_INFO: &str = "$SYS.REQ.USER.INFO";

/// The imports that `name` has besides its own, and how the services answer if nothing else is said of them. One that it
/// imports from the system account itself under the same subject goes before these.
pub(super) fn imports(
    name: &str,
    account: Option<&AccountAccess>,
    system_account: &str,
) -> impl Iterator<Item = (ServiceImport, ResponseType)> {
    let is_its_own = move |local: &str| {
        let mut imports = account.into_iter().flat_map(AccountAccess::service_imports);
        imports.any(|import| import.account == system_account && import.local_subject() == local)
    };
    let wanted = IMPLIED.into_iter().filter(move |&(_, local, _, _)| {
        (name != system_account || local == USER_INFO) && !is_its_own(local)
    });
    wanted.map(move |(subject, local, response_type, share)| {
        let import = ServiceImport {
            account: system_account.to_owned(),
            subject: subject.replace('%', name),
            to: Some(local.to_owned()),
            share,
        };
        (import, response_type)
    })
}

/// What the system account offers without being told to (nats-server `addSystemAccountExports`).
const OFFERED: [(&str, ResponseType); 3] = [
    ("$SYS.REQ.ACCOUNT.*.CONNZ", ResponseType::Streamed),
    ("$SYS.REQ.ACCOUNT.*.STATZ", ResponseType::Streamed),
    ("$SYS.REQ.USER.*.INFO", ResponseType::Singleton),
];

impl Access {
    /// The services that an account offers, with those that the system account offers anyway.
    #[must_use]
    pub fn services_offered(&self, account: &str, system_account: &str) -> Vec<ServiceExport> {
        let listed = self.account(account).into_iter();
        let mut exports: Vec<_> = listed
            .flat_map(AccountAccess::service_exports)
            .cloned()
            .collect();
        if account == system_account {
            let offered = OFFERED.into_iter().filter(|(subject, _)| {
                let covers = |export: &ServiceExport| is_within(subject, &export.subject);
                !exports.iter().any(covers)
            });
            let offered = offered.map(|(subject, response_type)| ServiceExport {
                subject: subject.to_owned(),
                response_type,
                ..ServiceExport::default()
            });
            let offered: Vec<_> = offered.collect();
            exports.extend(offered);
        }
        exports
    }

    /// The services that an account uses, with those of the system account that every account does.
    #[must_use]
    pub fn services_used(&self, account: &str, system_account: &str) -> Vec<ServiceImport> {
        let listed = self.account(account);
        let own = listed.into_iter().flat_map(AccountAccess::service_imports);
        let implied = imports(account, listed, system_account).map(|(import, _)| import);
        own.cloned().chain(implied).collect()
    }

    /// Where it is told how long the service behind an import takes.
    #[must_use]
    pub fn latency_of(&self, import: &ServiceImport) -> Option<&Latency> {
        let exporter = self.account(&import.account)?;
        let mut exports = exporter.service_exports();
        let export = exports.find(|export| is_within(&import.subject, &export.subject))?;
        export.latency.as_ref()
    }
}
