//! Client libraries that log in: a table of credentials, right and wrong, with and without TLS, each tried by async-nats,
//! nats.py (`python/logins.py`) and nats.js (`js/logins.cjs`) against both servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use async_nats::{ConnectErrorKind, ConnectOptions};
use futures_util::StreamExt as _;
use libtest_mimic::Trial;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Kind, PATIENCE, Program, ServerUnderTest};
use tokio::time::timeout;

use crate::access::authority::{MUTUAL, TLS, config, impostor, named, trusted};
use crate::libraries::Library;
use crate::trial;

/// What came of it, by the scripts' exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    In = 0,
    /// The credentials were refused.
    Refused = 3,
    /// There was no connection to send them over.
    NoConnection = 4,
}

const TOKEN: &str = "authorization { token: t0ken }";
/// `s3cret`.
const USERS: &str = "authorization { users: [
  { user: ann, password: pw }
  { user: hashed, password: \"$2a$04$BmSaDe1cdKljxg0nnPDwaunlfgNA2wGdlA9qCctDVN.f82Cq6au1m\" } ] }";

struct Case {
    name: &'static str,
    config: String,
    login: Value,
    expected: Outcome,
}

fn cases() -> Vec<Case> {
    use Outcome::{In, NoConnection, Refused};
    let case = |name, config: &str, login, expected| Case {
        name,
        config: config.to_owned(),
        login,
        expected,
    };
    let key = format!(
        "authorization {{ users: [ {{ nkey: {} }} ] }}",
        pair(1).public_key()
    );
    let tls = format!("tls {{ {TLS} }}");
    let mutual = format!("tls {{ {MUTUAL}, verify: true }}");
    let mapped = format!(
        "tls {{ {MUTUAL}, verify_and_map: true }}\nauthorization {{ users: [ {{ user: \"CN=client\" }} ] }}"
    );
    let with_tls = |text: &str| format!("{tls}\n{text}");
    let seed = |number| json!({"seed": pair(number).seed().expect("a seed")});
    let ca = json!({"ca": "ca.pem"});
    let certified = json!({"ca": "ca.pem", "certificate": "client.pem", "key": "client-key.pem"});
    let impostor =
        json!({"ca": "ca.pem", "certificate": "impostor.pem", "key": "impostor-key.pem"});
    let other = json!({"ca": "ca.pem", "certificate": "other.pem", "key": "other-key.pem"});
    let and = |first: &Value, second: Value| {
        let mut both = first.clone();
        let fields = second.as_object().expect("an object").clone();
        both.as_object_mut().expect("an object").extend(fields);
        both
    };
    vec![
        case("token", TOKEN, json!({"token": "t0ken"}), In),
        case("wrong_token", TOKEN, json!({"token": "token"}), Refused),
        case("no_token", TOKEN, json!({}), Refused),
        case(
            "password",
            USERS,
            json!({"user": "ann", "password": "pw"}),
            In,
        ),
        case(
            "wrong_password",
            USERS,
            json!({"user": "ann", "password": "PW"}),
            Refused,
        ),
        case(
            "unknown_user",
            USERS,
            json!({"user": "bob", "password": "pw"}),
            Refused,
        ),
        case(
            "hashed_password",
            USERS,
            json!({"user": "hashed", "password": "s3cret"}),
            In,
        ),
        case(
            "wrong_hashed_password",
            USERS,
            json!({"user": "hashed", "password": "secret"}),
            Refused,
        ),
        case("token_for_users", USERS, json!({"token": "pw"}), Refused),
        case("nkey", &key, seed(1), In),
        case("wrong_nkey", &key, seed(2), Refused),
        case(
            "password_for_nkeys",
            &key,
            json!({"user": "ann", "password": "pw"}),
            Refused,
        ),
        case("tls", &tls, ca.clone(), In),
        case(
            "tls_of_another_authority",
            &tls,
            json!({"ca": "impostor-ca.pem"}),
            NoConnection,
        ),
        case(
            "tls_and_password",
            &with_tls(USERS),
            and(&ca, json!({"user": "ann", "password": "pw"})),
            In,
        ),
        case(
            "tls_and_wrong_password",
            &with_tls(USERS),
            and(&ca, json!({"user": "ann", "password": "x"})),
            Refused,
        ),
        case(
            "tls_and_token",
            &with_tls(TOKEN),
            and(&ca, json!({"token": "t0ken"})),
            In,
        ),
        case("tls_and_nkey", &with_tls(&key), and(&ca, seed(1)), In),
        case(
            "tls_and_wrong_nkey",
            &with_tls(&key),
            and(&ca, seed(2)),
            Refused,
        ),
        case(
            "tls_the_server_has_not",
            TOKEN,
            and(&ca, json!({"token": "t0ken"})),
            NoConnection,
        ),
        case("mutual_tls", &mutual, certified.clone(), In),
        case(
            "mutual_tls_without_certificate",
            &mutual,
            ca.clone(),
            NoConnection,
        ),
        case(
            "mutual_tls_of_another_authority",
            &mutual,
            impostor.clone(),
            NoConnection,
        ),
        case("certificate_as_user", &mapped, certified.clone(), In),
        case("certificate_of_nobody", &mapped, other, Refused),
        case(
            "certificate_of_another_authority",
            &mapped,
            impostor,
            NoConnection,
        ),
        case(
            "certificate_and_password",
            &format!("{mutual}\n{USERS}"),
            and(&certified, json!({"user": "ann", "password": "pw"})),
            In,
        ),
        case(
            "certificate_and_wrong_password",
            &format!("{mutual}\n{USERS}"),
            and(&certified, json!({"user": "ann", "password": "x"})),
            Refused,
        ),
        case(
            "everything_wrong",
            &format!("{mutual}\n{USERS}"),
            json!({"ca": "impostor-ca.pem", "certificate": "impostor.pem", "key": "impostor-key.pem", "user": "x", "password": "x"}),
            NoConnection,
        ),
    ]
}

fn pair(number: u8) -> KeyPair {
    KeyPair::new_from_raw(KeyPairType::User, [number; 32]).expect("any bytes make a key")
}

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for client in Library::ALL {
        for (at, case) in cases().into_iter().enumerate() {
            for kind in Kind::ALL {
                let name = format!(
                    "clients::{}::login::{}::{}",
                    client.name(),
                    case.name,
                    kind.name()
                );
                let needs = [client.available(), kind.program().map(drop)];
                trials.push(trial(name, needs, move || {
                    play(client, cases().swap_remove(at), kind)
                }));
            }
        }
    }
    trials
}

fn play(client: Library, case: Case, kind: Kind) {
    let files = files();
    let mut login = case.login;
    for name in ["ca", "certificate", "key"] {
        if let Some(file) = login.get_mut(name) {
            let path = files.path().join(file.as_str().expect("a name"));
            *file = path.to_str().expect("a plain path").into();
        }
    }
    let server = ServerUnderTest::start(kind, &config(&case.config));
    let (found, told) = match client.command("logins") {
        None => by_async_nats(&server, &login),
        Some(command) => by_script(command, &server, &login),
    };
    // nats.py takes a server without TLS, whatever the address says.
    let expected = match (client, case.name) {
        (Library::NatsPy, "tls_the_server_has_not") => Outcome::In,
        _ => case.expected,
    };
    let log = server.log();
    assert_eq!(
        found,
        Some(expected),
        "{told}\n--- the server's log:\n{log}"
    );
}

fn files() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    write("ca.pem", &trusted().pem());
    write("impostor-ca.pem", &impostor().pem());
    for (name, pair) in [
        ("client", trusted().pair(named("client"))),
        ("other", trusted().pair(named("other"))),
        ("impostor", impostor().pair(named("client"))),
    ] {
        write(&format!("{name}.pem"), &pair.certificate);
        write(&format!("{name}-key.pem"), &pair.key);
    }
    folder
}

/// An address that insists on TLS if the client is to.
fn url(server: &ServerUnderTest, login: &Value) -> String {
    let scheme = if login["ca"].is_null() { "nats" } else { "tls" };
    format!("{scheme}://{}", server.address())
}

fn by_script(
    mut command: Command,
    server: &ServerUnderTest,
    login: &Value,
) -> (Option<Outcome>, String) {
    command.args([&url(server, login), &login.to_string()]);
    let mut script = Program::spawn(&mut command)
        .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));
    let status = script.wait_for_exit(3 * PATIENCE).expect("an end in time");
    let outcomes = [Outcome::In, Outcome::Refused, Outcome::NoConnection];
    let is_it = |outcome: &Outcome| status.code() == Some(*outcome as i32);
    (outcomes.into_iter().find(is_it), script.output())
}

fn by_async_nats(server: &ServerUnderTest, login: &Value) -> (Option<Outcome>, String) {
    let text = |name: &str| login[name].as_str().map(str::to_owned);
    let mut options = ConnectOptions::new().connection_timeout(PATIENCE);
    if let (Some(user), Some(password)) = (text("user"), text("password")) {
        options = options.user_and_password(user, password);
    }
    if let Some(token) = text("token") {
        options = options.token(token);
    }
    if let Some(seed) = text("seed") {
        options = options.nkey(seed);
    }
    if let Some(ca) = text("ca") {
        options = options
            .add_root_certificates(PathBuf::from(ca))
            .require_tls(true);
    }
    if let (Some(certificate), Some(key)) = (text("certificate"), text("key")) {
        let [certificate, key] = [&certificate, &key].map(|file| Path::new(file).to_owned());
        options = options.add_client_certificate(certificate, key);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only memory and an epoll");
    let attempt = async {
        let client = match options.connect(url(server, login)).await {
            Ok(client) => client,
            Err(error) => {
                let outcome = match error.kind() {
                    ConnectErrorKind::AuthorizationViolation => Outcome::Refused,
                    _ => Outcome::NoConnection,
                };
                return (Some(outcome), format!("{error:?}"));
            }
        };
        let mut own = client.subscribe("own").await.expect("accepted");
        client
            .publish("own", "hello".into())
            .await
            .expect("accepted");
        let message = own.next().await.expect("still subscribed");
        assert_eq!(message.payload, "hello");
        (Some(Outcome::In), String::new())
    };
    runtime.block_on(async {
        timeout(3 * PATIENCE, attempt)
            .await
            .expect("an end in time")
    })
}
