//! Who may do what: `authorization`, `accounts`, their users and permissions, and the options that name one of them.

use std::time::Duration;

use natterjack_conf::{Data, go_duration};
use natterjack_engine::access::{
    AccountAccess, ConnectionType, Credential, Login, Permissions, Secret, User,
};

use crate::configuration::Configuration;
use crate::configuration::changes::{Change, Changes};
use crate::configuration::codec::{self, SECONDS, SECRET, SWITCH, TEXT};
use crate::configuration::explain::Printer;
use crate::configuration::reader::{self, Advise, Reader};
use crate::configuration::row::{Access, Group, OptionFacts, Reload, Row, Section, settled};
use crate::configuration::shape::{
    Block, Blocks, Codec, Custom, Field, Inline, Unsupported, field, plain,
};

use super::exchange::{EXPORTS, IMPORTS};
use super::flag;
use super::mappings::Mappings;
use super::message_trace;
use super::permissions::PERMISSIONS;

/// The [`Access`] to a list of users in a field.
macro_rules! users {
    ($target:ty, $($path:ident).+) => {
        Blocks::<$target, _, _> {
            field: field!($target, $($path).+),
            section: &USER,
            finish: finish_user,
            draft: draft_of,
            noun: "users",
        }
    };
}

pub(super) static ROWS: &[Row<Configuration>] = &[
    Row::new(
        "authorization",
        &Inline {
            section: &AUTHORIZATION,
        },
        "Who may connect: one user, one token, or a list of users.",
    ),
    Row::new(
        "accounts",
        &Accounts {
            field: field!(Configuration, options.authorization.accounts),
        },
        "Subject spaces of their own, each with its users; a block by name, or a list of \
         names.",
    ),
    Row::new(
        "mappings",
        &Mappings::<Configuration> {
            field: field!(Configuration, options.authorization.mappings),
        },
        "Subjects that are replaced by others when clients of the account $G publish to them.",
    )
    .alias(&["maps"]),
    plain!(
        Configuration,
        "no_auth_user",
        options.authorization.no_auth_user,
        TEXT,
        "The user that clients without credentials are taken for.",
    )
    .restart(),
    plain!(
        Configuration,
        "system_account",
        options.authorization.system_account,
        TEXT,
        "The account for what the server itself has to say; by default $SYS.",
    )
    .alias(&["system"])
    .restart(),
    plain!(
        Configuration,
        "no_system_account",
        options.no_system_account,
        SWITCH,
        "Without a system_account: publish no events in $SYS and answer no requests there.",
    )
    .restart()
    .alias(&["no_system", "no_sys_acc"]),
];

static AUTHORIZATION: Section<Configuration> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            Row::new(
                "user",
                &Custom::<Configuration> {
                    kind: "a text",
                    read: |target, data, reader| {
                        if let Some(name) = codec::text(data, reader) {
                            set_login(target, |login| login.name = name);
                        }
                    },
                    show: |target| {
                        let login = target.options.authorization.user.as_ref()?;
                        Some(codec::quote(&login.name))
                    },
                    is_equal: |one, other| login_name(one) == login_name(other),
                    is_secret: false,
                },
                "Name of the only user.",
            )
            .alias(&["username"])
            .flag(flag!(
                ["user"],
                "<name>",
                Authorization,
                Text,
                "Let in only this user, with the password of --pass"
            )),
            Row::new(
                "password",
                &Custom::<Configuration> {
                    kind: "a text, secret",
                    read: |target, data, reader| {
                        if let Some(password) = codec::secret(data, reader) {
                            set_login(target, |login| login.password = password);
                        }
                    },
                    show: |target| {
                        let login = target.options.authorization.user.as_ref()?;
                        (!login.password.is_empty()).then(|| "\"***\"".to_owned())
                    },
                    is_equal: |one, other| {
                        let password = |target: &Configuration| {
                            let login = target.options.authorization.user.clone();
                            login.map(|login| login.password).unwrap_or_default()
                        };
                        password(one) == password(other)
                    },
                    is_secret: true,
                },
                "Password of the only user, in clear text or as a bcrypt hash.",
            )
            .alias(&["pass"])
            .flag(flag!(
                ["pass"],
                "<password>",
                Authorization,
                Secret,
                "Password of --user"
            )),
            plain!(
                Configuration,
                "token",
                options.authorization.token,
                SECRET,
                "Token that lets in whoever knows it, in clear text or as a bcrypt hash.",
            )
            .flag(flag!(
                ["auth"],
                "<token>",
                Authorization,
                Secret,
                "Let in only who knows this token"
            )),
            plain!(
                Configuration,
                "timeout",
                options.auth_timeout,
                AUTH_TIMEOUT,
                "How long a client may take to log in; by default 2s, or a second longer \
                 than the handshake of TLS may take.",
            ),
            Row::new(
                "users",
                &users!(Configuration, options.authorization.users),
                "Users of the account $G.",
            ),
            Row::new(
                "default_permissions",
                &Block::<Configuration, _> {
                    field: field!(Configuration, options.authorization.default_permissions),
                    section: &PERMISSIONS,
                },
                "What users may do that have no permissions of their own.",
            )
            .alias(&["default_permission", "permissions"]),
            Row::new(
                "auth_callout",
                &Unsupported {
                    kind: "a block",
                    off: &[],
                },
                "A service that decides who may connect.",
            )
            .alias(&["auth_hook"]),
            Row::new(
                "proxy_required",
                &Unsupported {
                    kind: "true or false",
                    off: &[],
                },
                "Whether clients must come through a proxy.",
            ),
        ],
    }],
    settle: settled,
};

/// Longer ones are slips of the pen: nats-server warns above it.
const AUTH_TIMEOUT_USUAL_MAX: Duration = Duration::from_secs(60);

static AUTH_TIMEOUT: Codec<Duration> = Codec {
    kind: SECONDS.kind,
    read: |data, reader| {
        let timeout = (SECONDS.read)(data, reader)?;
        if timeout > AUTH_TIMEOUT_USUAL_MAX {
            let help = match data {
                Data::Integer(number) if number % 1_000_000 == 0 => format!(
                    "write \"{0}m\" if you mean minutes: without quotes, the m of {0}m \
                     stands for a million",
                    number / 1_000_000
                ),
                _ => "until it has logged in, anybody can hold a connection".to_owned(),
            };
            reader
                .warning(format!(
                    "a timeout of {} is high; keep it below a minute",
                    go_duration::show(timeout)
                ))
                .help(help);
        }
        Some(timeout)
    },
    show: SECONDS.show,
    is_secret: false,
};

fn set_login(target: &mut Configuration, set: impl FnOnce(&mut Login)) {
    let user = &mut target.options.authorization.user;
    let mut login = user.take().unwrap_or_default();
    set(&mut login);
    // Both empty, as templates leave them: nobody has to log in.
    *user = Some(login).filter(|login| !login.name.is_empty() || !login.password.is_empty());
}

fn login_name(target: &Configuration) -> Option<&str> {
    let login = target.options.authorization.user.as_ref()?;
    Some(&login.name)
}

/// An entry of `users` while it is read.
#[derive(Default)]
pub(crate) struct UserDraft {
    user: Option<String>,
    password: Option<Secret>,
    nkey: Option<String>,
    permissions: Option<Permissions>,
    connection_types: Vec<ConnectionType>,
}

static USER: Section<UserDraft> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            plain!(UserDraft, "user", user, TEXT, "Name of the user.").alias(&["username"]),
            plain!(
                UserDraft,
                "password",
                password,
                SECRET,
                "Password, in clear text or as a bcrypt hash.",
            )
            .alias(&["pass"]),
            plain!(
                UserDraft,
                "nkey",
                nkey,
                PUBLIC_KEY,
                "Public key of a user who signs; instead of user and password.",
            ),
            Row::new(
                "permissions",
                &Block::<UserDraft, _> {
                    field: field!(UserDraft, permissions),
                    section: &PERMISSIONS,
                },
                "What the user may do.",
            )
            .alias(&["permission", "authorization"]),
            plain!(
                UserDraft,
                "allowed_connection_types",
                connection_types,
                CONNECTION_TYPES,
                "Kinds of connections the user may come by; none: all.",
            )
            .alias(&["connection_types", "clients"]),
            Row::new(
                "proxy_required",
                &Unsupported {
                    kind: "true or false",
                    off: &[],
                },
                "Whether the user must come through a proxy.",
            ),
        ],
    }],
    settle: settled,
};

/// A public key, or what is mistaken for one. Seeds are secret: no diagnostic may repeat one.
static PUBLIC_KEY: Codec<Option<String>> = Codec {
    kind: "a public key",
    read: |data, reader| {
        let key = (TEXT.read)(data, reader)?;
        if key.as_deref().is_some_and(|key| key.starts_with('S')) {
            reader.secrets.extend(reader.span());
            reader
                .error("nkey must be a public key; this looks like a seed, which is secret")
                .help("natterjack nkey --public shows the public key of a seed; a user's begins with U");
            return None;
        }
        Some(key)
    },
    show: TEXT.show,
    is_secret: false,
};

fn finish_user(draft: UserDraft, reader: &mut Reader<'_>) -> Option<User> {
    let (name, credential) = match (draft.user, draft.nkey, draft.password) {
        (None, Some(nkey), None) => (nkey, Credential::Nkey),
        (_, Some(_), _) => {
            reader
                .error("a user with an nkey takes no name and no password")
                .help("leave out user and password");
            return None;
        }
        (Some(name), None, Some(password)) => (name, Credential::Password(password)),
        (Some(name), None, None) => (name, Credential::None),
        (None, None, _) => {
            reader
                .error("an entry of users needs a user or an nkey")
                .label("who is this?");
            return None;
        }
    };
    Some(User {
        name,
        credential,
        permissions: draft.permissions,
        connection_types: draft.connection_types,
    })
}

fn draft_of(user: &User) -> UserDraft {
    let name = Some(user.name.clone());
    let (user_name, nkey, password) = match &user.credential {
        Credential::Nkey => (None, name, None),
        Credential::Password(password) => (name, None, Some(password.clone())),
        _ => (name, None, None),
    };
    UserDraft {
        user: user_name,
        password,
        nkey,
        permissions: user.permissions.clone(),
        connection_types: user.connection_types.clone(),
    }
}

static CONNECTION_TYPES: Codec<Vec<ConnectionType>> = Codec {
    kind: "a list of connection types",
    read: |data, reader| match data {
        Data::Text(_) => Some(connection_type(data, reader).into_iter().collect()),
        Data::List(values) => Some(codec::each(values, reader, connection_type)),
        other => {
            reader.expected("a list of connection types", other);
            None
        }
    },
    show: |types| {
        let names: Vec<String> = types.iter().map(ToString::to_string).collect();
        codec::show_list(&names)
    },
    is_secret: false,
};

fn connection_type(data: &Data, reader: &mut Reader<'_>) -> Option<ConnectionType> {
    let text = codec::text(data, reader)?;
    match text.parse() {
        Ok(kind) => Some(kind),
        Err(problem) => {
            let known = ConnectionType::ALL.map(ConnectionType::name);
            let nearest = natterjack_conf::nearest(&text, known)
                .map(|known| format!("did you mean {known}?"));
            reader.error(format!("{text:?} is {problem}")).help = nearest;
            None
        }
    }
}

/// A block by the account's name, or a list of names.
struct Accounts<T: 'static> {
    field: Field<T, Vec<AccountAccess>>,
}

impl<T> Access<T> for Accounts<T> {
    fn kind(&self) -> String {
        "a block by account, or a list of names".to_owned()
    }

    fn read(&self, target: &mut T, value: &Data, reader: &mut Reader<'_>) {
        let mut accounts = Vec::new();
        match value {
            Data::List(values) => {
                accounts = codec::each(values, reader, |data, reader| {
                    Some(AccountAccess {
                        name: codec::text(data, reader)?,
                        ..AccountAccess::default()
                    })
                });
            }
            Data::Map(map) => {
                let entries = map.iter().filter(|entry| !entry.is_referenced);
                for entry in entries {
                    reader.option(&entry.key.text, &entry.value, |reader| {
                        let Some(map) = reader::map(&entry.value.data, reader) else {
                            return;
                        };
                        let mut account = AccountAccess {
                            name: entry.key.text.clone(),
                            ..AccountAccess::default()
                        };
                        ACCOUNT.read(&mut account, map, reader);
                        accounts.push(account);
                    });
                }
            }
            other => {
                reader.expected("a block of accounts, or a list of their names", other);
            }
        }
        *(self.field.get_mut)(target) = accounts;
    }

    fn show(&self, target: &T) -> Option<String> {
        let accounts = (self.field.get)(target);
        let entries: Vec<String> = accounts
            .iter()
            .map(|account| format!("{}: {}", codec::quote(&account.name), ACCOUNT.show(account)))
            .collect();
        (!entries.is_empty()).then(|| format!("{{ {} }}", entries.join(", ")))
    }

    fn is_equal(&self, one: &T, other: &T) -> bool {
        (self.field.get)(one) == (self.field.get)(other)
    }

    fn explain(&self, key: &str, target: &T, printer: &mut Printer<'_>) {
        printer.block(key, |printer| {
            for account in (self.field.get)(target) {
                printer.named_block(&account.name, |printer| ACCOUNT.explain(account, printer));
            }
        });
    }

    fn changes(&self, path: &str, reload: Reload, old: &T, new: &T, changes: &mut Changes) {
        let find = |accounts: &'_ [AccountAccess], name: &str| {
            accounts.iter().position(|account| account.name == name)
        };
        let (old, new) = ((self.field.get)(old), (self.field.get)(new));
        let gone = old
            .iter()
            .filter(|account| find(new, &account.name).is_none());
        for account in gone {
            changes.add(reload, account_change(path, &account.name, "there", "none"));
        }
        for account in new {
            match find(old, &account.name) {
                Some(index) => {
                    let path = format!("{path}.{}", account.name);
                    ACCOUNT.changes(&path, &old[index], account, changes);
                }
                None => changes.add(reload, account_change(path, &account.name, "none", "there")),
            }
        }
    }

    fn describe(&self, path: &str, options: &mut Vec<OptionFacts>) {
        ACCOUNT.describe(&format!("{path}[]"), options);
    }
}

fn account_change(path: &str, name: &str, old: &str, new: &str) -> Change {
    Change {
        option: format!("{path}.{name}"),
        old: old.to_owned(),
        new: new.to_owned(),
    }
}

static ACCOUNT: Section<AccountAccess> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            plain!(
                AccountAccess,
                "nkey",
                nkey,
                PUBLIC_KEY,
                "Public key of the account."
            ),
            Row::new(
                "users",
                &users!(AccountAccess, users),
                "Users of the account.",
            ),
            Row::new(
                "default_permissions",
                &Block::<AccountAccess, _> {
                    field: field!(AccountAccess, default_permissions),
                    section: &PERMISSIONS,
                },
                "What users of the account may do that have no permissions of their own.",
            ),
            Row::new(
                "limits",
                &Inline {
                    section: &ACCOUNT_LIMITS,
                },
                "Bounds of the account; negative or none for no bound.",
            ),
            Row::new("exports", &EXPORTS, "What other accounts may use."),
            Row::new("imports", &IMPORTS, "What is used of other accounts."),
            Row::new(
                "mappings",
                &Mappings::<AccountAccess> {
                    field: field!(AccountAccess, mappings),
                },
                "Subjects that are replaced by others when clients of the account publish to them.",
            )
            .alias(&["maps"]),
            unsupported("jetstream", &UNSUPPORTED_BLOCK, "Streams of the account."),
            message_trace::ROW,
        ],
    }],
    settle: settled,
};

static UNSUPPORTED_BLOCK: Unsupported = Unsupported {
    kind: "a block",
    off: &["disabled", "disable"],
};

const fn unsupported(
    key: &'static str,
    access: &'static Unsupported,
    doc: &'static str,
) -> Row<AccountAccess> {
    Row::new(key, access, doc)
}

static ACCOUNT_LIMITS: Section<AccountAccess> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            plain!(
                AccountAccess,
                "max_connections",
                limits.connections_max,
                LIMIT,
                "Connections at one time.",
            )
            .alias(&["max_conn"]),
            plain!(
                AccountAccess,
                "max_subscriptions",
                limits.subscriptions_max,
                LIMIT,
                "Subscriptions of one connection.",
            )
            .alias(&["max_subs"]),
            plain!(
                AccountAccess,
                "max_payload",
                limits.payload_bytes_max,
                LIMIT,
                "Bytes of a message, header included.",
            )
            .alias(&["max_pay"]),
            Row::new(
                "max_leafnodes",
                &Custom::<AccountAccess>::shorthand("a number", |_, data, reader| {
                    if codec::number::<i64>(data, i64::MIN..=i64::MAX, reader).is_some() {
                        reader
                            .note("max_leafnodes has no effect: there are no leaf nodes yet")
                            .label("has no effect");
                    }
                }),
                "Accepted without effect: there are no leaf nodes yet.",
            )
            .alias(&["max_leafs"]),
        ],
    }],
    settle: settled,
};

static LIMIT: Codec<Option<i64>> = Codec {
    kind: "a number, -1 for no bound",
    read: |data, reader| {
        let limit = codec::number(data, i64::from(i32::MIN)..=i64::from(i32::MAX), reader)?;
        Some(Some(limit))
    },
    show: |limit| limit.map(|limit: i64| limit.to_string()),
    is_secret: false,
};
