//! Who is let in: every row of the auth reference's section 1, and what must not open a way around it.

use super::super::nkey::tests::KeyPair;
use super::super::{Permissions, SubjectRules};
use super::*;
use crate::certificate_names::SubjectAttribute;

/// `s3cret` with cost 4.
const HASH: &str = "$2a$04$BmSaDe1cdKljxg0nnPDwaunlfgNA2wGdlA9qCctDVN.f82Cq6au1m";

fn user(name: &str, password: &str) -> User {
    User {
        name: name.to_owned(),
        credential: Credential::Password(password.into()),
        ..User::default()
    }
}

fn nkey(pair: &KeyPair) -> User {
    User {
        name: pair.public(),
        credential: Credential::Nkey,
        ..User::default()
    }
}

fn account(name: &str, users: Vec<User>) -> AccountAccess {
    AccountAccess {
        name: name.to_owned(),
        users,
        ..AccountAccess::default()
    }
}

fn facts() -> Facts<'static> {
    Facts {
        connection_type: ConnectionType::Standard,
        certificate: None,
        nonce: "nonce-of-15-chr",
        proven: None,
    }
}

fn connect(change: impl FnOnce(&mut ConnectOptions)) -> ConnectOptions {
    let mut options = ConnectOptions::default();
    change(&mut options);
    options
}

fn login(name: &str, password: &str) -> ConnectOptions {
    connect(|options| {
        options.user = name.to_owned();
        options.pass = password.to_owned();
    })
}

fn token(token: &str) -> ConnectOptions {
    connect(|options| options.auth_token = token.to_owned())
}

fn signed(pair: &KeyPair, nonce: &str) -> ConnectOptions {
    connect(|options| {
        options.nkey = pair.public();
        options.sig = pair.sign(nonce);
    })
}

/// Runs a check that is pending, and returns the account and the user; `None` if refused.
fn decide(access: &Access, connect: &ConnectOptions, facts: Facts<'_>) -> Option<(String, String)> {
    let admission = match Directory::new(access).authorize(connect, facts) {
        Verdict::Admitted(admission) => admission,
        Verdict::Pending(check, admission) => check.run().then_some(admission)?,
        Verdict::Refused(_) => return None,
    };
    let account = admission.account.as_deref().unwrap_or(GLOBAL_ACCOUNT);
    let user = admission.user.map(|user| user.to_string());
    Some((account.to_owned(), user.unwrap_or_default()))
}

#[track_caller]
fn admits(access: &Access, connect: &ConnectOptions, account: &str, user: &str) {
    let found = decide(access, connect, facts());
    assert_eq!(found, Some((account.to_owned(), user.to_owned())));
}

#[track_caller]
fn refuses(access: &Access, connect: &ConnectOptions) {
    assert_eq!(decide(access, connect, facts()), None);
}

#[test]
fn nothing_configured_lets_everybody_in() {
    admits(&Access::open(), &connect(|_| ()), "$G", "");
    admits(&Access::open(), &login("whoever", "whatever"), "$G", "");
    // Accounts without users close nothing either.
    let access = Access {
        accounts: vec![account("A", vec![])],
        ..Access::default()
    };
    admits(&access, &connect(|_| ()), "$G", "");
}

#[test]
fn tokens() {
    for stored in ["s3cret", HASH] {
        let access = Access::token(stored);
        admits(&access, &token("s3cret"), "$G", "[REDACTED]");
        for wrong in ["", "s3cre", "s3cret!", HASH] {
            refuses(&access, &token(wrong));
        }
        refuses(&access, &login("s3cret", "s3cret"));
    }
}

#[test]
fn single_users() {
    for stored in ["s3cret", HASH] {
        let access = Access::user("ann", stored);
        admits(&access, &login("ann", "s3cret"), "$G", "ann");
        for (name, password) in [
            ("ann", ""),
            ("", "s3cret"),
            ("bob", "s3cret"),
            ("ann", HASH),
            ("", ""),
        ] {
            refuses(&access, &login(name, password));
        }
        refuses(&access, &token("s3cret"));
    }
}

#[test]
fn lists_and_accounts() {
    let access = Access {
        users: vec![
            user("a", "a"),
            user("h", HASH),
            User {
                credential: Credential::None,
                ..user("n", "")
            },
        ],
        accounts: vec![account("A", vec![user("b", "b")])],
        ..Access::default()
    };
    admits(&access, &login("a", "a"), "$G", "a");
    admits(&access, &login("b", "b"), "A", "b");
    admits(&access, &login("h", "s3cret"), "$G", "h");
    // A user without a password has an empty one.
    admits(&access, &login("n", ""), "$G", "n");
    for (name, password) in [
        ("a", "b"),
        ("a", ""),
        ("c", "c"),
        ("", "a"),
        ("", ""),
        ("n", "x"),
        ("h", HASH),
    ] {
        refuses(&access, &login(name, password));
    }
    refuses(&access, &token("a"));
    refuses(
        &access,
        &connect(|options| options.nkey = KeyPair::new(1).public()),
    );
}

#[test]
fn signatures() {
    let (pair, other) = (KeyPair::new(1), KeyPair::new(2));
    let access = Access {
        users: vec![user("a", "a")],
        accounts: vec![account("A", vec![nkey(&pair)])],
        ..Access::default()
    };
    let nonce = facts().nonce;
    admits(&access, &signed(&pair, nonce), "A", &pair.public());
    // With a key, everything else is ignored.
    let mut both = signed(&pair, nonce);
    both.user = "zz".to_owned();
    admits(&access, &both, "A", &pair.public());
    refuses(&access, &signed(&other, nonce));
    refuses(&access, &signed(&pair, "an older nonce"));
    refuses(&access, &connect(|options| options.nkey = pair.public()));
    refuses(
        &access,
        &connect(|options| {
            options.nkey = pair.public();
            options.sig = other.sign(nonce);
        }),
    );
    refuses(&access, &login(&pair.public(), ""));
    // No nonce was sent: nothing can have been signed.
    let silent = Facts {
        nonce: "",
        ..facts()
    };
    assert_eq!(decide(&access, &signed(&pair, ""), silent), None);
    admits(&access, &login("a", "a"), "$G", "a");
}

#[test]
fn the_user_of_those_without_credentials() {
    for password in ["pw", HASH] {
        let access = Access {
            accounts: vec![account(
                "A",
                vec![user("guest", password), user("other", "x")],
            )],
            no_auth_user: Some("guest".to_owned()),
            ..Access::default()
        };
        admits(&access, &connect(|_| ()), "A", "guest");
        // Wrong credentials are not taken for none.
        for wrong in [
            login("guest", "wrong"),
            login("nobody", ""),
            login("", "x"),
            token("x"),
        ] {
            refuses(&access, &wrong);
        }
        let directory = Directory::new(&access);
        assert!(
            directory.is_closed()
                && directory.may_skip_connect()
                && !directory.announces_authentication()
        );
    }
    let pair = KeyPair::new(1);
    let access = Access {
        users: vec![nkey(&pair), user("a", "a")],
        no_auth_user: Some(pair.public()),
        ..Access::default()
    };
    admits(&access, &connect(|_| ()), "$G", &pair.public());
    refuses(&access, &login("a", "b"));
    refuses(&access, &signed(&KeyPair::new(2), facts().nonce));
    assert!(!Directory::new(&access).may_skip_connect());
}

#[test]
fn kinds_of_connections() {
    let bound = |kinds: &[ConnectionType]| User {
        connection_types: kinds.to_vec(),
        ..user("a", "a")
    };
    for (kinds, is_let_in) in [
        (&[][..], true),
        (&[ConnectionType::Standard], true),
        (&[ConnectionType::Websocket, ConnectionType::Standard], true),
        (&[ConnectionType::Websocket], false),
        (&[ConnectionType::InProcess], false),
    ] {
        let access = Access {
            users: vec![bound(kinds)],
            no_auth_user: Some("a".to_owned()),
            ..Access::default()
        };
        for connect in [login("a", "a"), connect(|_| ())] {
            assert_eq!(
                decide(&access, &connect, facts()).is_some(),
                is_let_in,
                "{kinds:?}"
            );
        }
    }
    let pair = KeyPair::new(1);
    let access = Access {
        users: vec![User {
            connection_types: vec![ConnectionType::Mqtt],
            ..nkey(&pair)
        }],
        ..Access::default()
    };
    refuses(&access, &signed(&pair, facts().nonce));
}

#[test]
fn only_the_system_account_is_closed_if_asked_for() {
    let access = |open_besides_system, users| Access {
        users,
        accounts: vec![account("$SYS", vec![user("admin", "pw")])],
        open_besides_system,
        ..Access::default()
    };
    // The default is closed.
    refuses(&access(false, vec![]), &connect(|_| ()));
    let open = access(true, vec![]);
    admits(&open, &connect(|_| ()), "$G", "");
    admits(&open, &login("admin", "pw"), "$SYS", "admin");
    refuses(&open, &login("admin", "wrong"));
    refuses(&open, &login("x", "y"));
    // INFO asks for credentials all the same, as on nats-server.
    assert!(Directory::new(&open).announces_authentication());
    // As soon as there is anything else, it does not apply.
    refuses(&access(true, vec![user("a", "a")]), &connect(|_| ()));
    let mut another = access(true, vec![]);
    another.accounts.push(account("A", vec![]));
    refuses(&another, &connect(|_| ()));
}

#[test]
fn certificates_name_users() {
    let certificate = |names: &[(&str, &str)]| {
        let mut certificate = CertificateNames::default();
        for (kind, name) in names {
            let name = (*name).to_owned();
            match *kind {
                "email" => certificate.emails.push(name),
                "dns" => certificate.dns_names.push(name),
                "uri" => certificate.uris.push(name),
                kind => certificate.subject_names.push(vec![SubjectAttribute {
                    kind: kind.to_owned(),
                    value: Some(name),
                }]),
            }
        }
        certificate
    };
    let by_name = |name: &str| User {
        credential: Credential::None,
        ..user(name, "")
    };
    let access = Access {
        users: vec![
            by_name("ann@example.com"),
            by_name("host.example.com"),
            by_name("CN=client,O=Acme"),
            user("pw", "pw"),
            user("both@example.com", "pw"),
        ],
        verify_and_map: true,
        ..Access::default()
    };
    let found = |connect: &ConnectOptions, certificate: Option<&CertificateNames>| {
        decide(
            &access,
            connect,
            Facts {
                certificate,
                ..facts()
            },
        )
        .map(|(_, user)| user)
    };
    let bare = connect(|_| ());
    for (names, expected) in [
        (
            &[("email", "ann@example.com"), ("dns", "host.example.com")][..],
            Some("ann@example.com"),
        ),
        (
            &[("email", "x@example.com"), ("dns", "host.example.com")],
            Some("host.example.com"),
        ),
        (&[("O", "Acme"), ("CN", "client")], Some("CN=client,O=Acme")),
        (&[("CN", "client"), ("O", "Acme")], Some("CN=client,O=Acme")),
        (&[("CN", "client")], None),
        (&[("CN", "client"), ("O", "Acme"), ("OU", "x")], None),
        (&[], None),
    ] {
        let found = found(&bare, Some(&certificate(names)));
        assert_eq!(found.as_deref(), expected, "{names:?}");
    }
    // Who has a password beside the certificate needs both.
    let both = certificate(&[("email", "both@example.com")]);
    assert_eq!(found(&bare, Some(&both)), None);
    assert_eq!(found(&login("pw", "no"), Some(&both)), None);
    let name = found(&login("whoever", "pw"), Some(&both));
    assert_eq!(name.as_deref(), Some("both@example.com"));
    let ann = certificate(&[("email", "ann@example.com")]);
    assert_eq!(found(&login("pw", "pw"), Some(&ann)), None);
    let name = found(&login("pw", ""), Some(&ann));
    assert_eq!(name.as_deref(), Some("ann@example.com"));
    // The name in CONNECT does not count, and nobody is a certificate's user by saying so.
    assert_eq!(found(&login("ann@example.com", ""), None), None);
    assert_eq!(found(&login("pw", "pw"), None), None);
    let stranger = certificate(&[("email", "stranger@example.com")]);
    assert_eq!(found(&login("pw", "pw"), Some(&stranger)), None);
    // Inside the process there are no certificates: passwords count, bare names do not.
    let inside = Facts {
        connection_type: ConnectionType::InProcess,
        ..facts()
    };
    assert!(decide(&access, &login("pw", "pw"), inside).is_some());
    assert_eq!(decide(&access, &login("ann@example.com", ""), inside), None);
}

#[test]
fn an_unknown_user_costs_as_much_as_a_wrong_password() {
    let access = Access {
        users: vec![user("h", HASH), user("p", "plain")],
        ..Access::default()
    };
    let directory = Directory::new(&access);
    for connect in [
        login("h", "wrong"),
        login("nobody", "x"),
        login("p", "wrong"),
        connect(|_| ()),
        login("", "x"),
    ] {
        let Verdict::Pending(check, _) = directory.authorize(&connect, facts()) else {
            panic!("decided at once: {connect:?}");
        };
        assert!(!check.run());
    }
    // Nor does the decoy open a door to somebody who knows its password.
    refuses(&access, &login("nobody", "s3cret"));
    refuses(&access, &login("p", "s3cret"));
}

#[test]
fn permissions_are_the_users_own_or_the_accounts() {
    let only = |subject: &str| Permissions {
        publish: SubjectRules {
            allow: Some(vec![subject.to_owned()]),
            deny: vec![],
        },
        ..Permissions::default()
    };
    let access = Access {
        users: vec![
            user("a", "a"),
            User {
                permissions: Some(only("own")),
                ..user("b", "b")
            },
        ],
        default_permissions: Some(only("default")),
        accounts: vec![
            AccountAccess {
                default_permissions: Some(only("account")),
                ..account("A", vec![user("c", "c")])
            },
            account("B", vec![user("d", "d")]),
        ],
        ..Access::default()
    };
    let directory = Directory::new(&access);
    for (name, subject) in [
        ("a", Some("default")),
        ("b", Some("own")),
        ("c", Some("account")),
        ("d", None),
    ] {
        let Verdict::Admitted(admission) = directory.authorize(&login(name, name), facts()) else {
            panic!("{name} is refused");
        };
        let permissions = admission.permissions;
        assert_eq!(permissions.is_some(), subject.is_some(), "{name}");
        if let (Some(permissions), Some(subject)) = (permissions, subject) {
            assert!(
                permissions.may_publish(subject.as_bytes()) && !permissions.may_publish(b"other")
            );
        }
    }
}

#[test]
fn trusted_clients_are_who_the_embedder_says() {
    let access = Access {
        accounts: vec![account("A", vec![user("a", HASH)])],
        ..Access::default()
    };
    let directory = Directory::new(&access);
    let account = |user| {
        directory
            .admit_trusted(user)
            .map(|admission| admission.account)
    };
    assert_eq!(account(None), Some(None));
    assert_eq!(account(Some("a")), Some(Some("A".into())));
    assert_eq!(account(Some("b")), None);
}
