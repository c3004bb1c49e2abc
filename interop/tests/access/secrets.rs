//! Nothing secret is shown: not in logs with everything switched on, not on monitoring pages, not in explanations, errors,
//! or what a reload says. Each secret is a word of its own that stands nowhere else, so that a search finds it.
//!
//! Both servers are asked; where nats-server shows something, the test says so, and ours alone has to hide it.

use std::process::Command;
use std::sync::LazyLock;

use libtest_mimic::Trial;
use natterjack_conf::EmptyEnvironment;
use natterjack_server::configuration::{Configuration, Flags};
use nkeys::KeyPair;
use testkit::{HttpAnswer, Kind, Listener, Peer, Program, ServerUnderTest, programs};

use super::authority::{MUTUAL, config};
use super::client::{Client, Transport};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for kind in Kind::ALL {
        let needs = || [kind.program().map(drop)];
        let name = |what: &str| format!("access::secrets::{what}::{}", kind.name());
        trials.push(trial(name("a_server_that_runs"), needs(), move || {
            a_server_that_runs(kind)
        }));
        trials.push(trial(name("a_single_user"), needs(), move || single(kind)));
        trials.push(trial(name("mistakes"), needs(), move || mistakes(kind)));
    }
    let needs = || [programs::natterjack().map(drop)];
    trials.push(trial(
        "access::secrets::explanations".to_owned(),
        needs(),
        explanations,
    ));
    trials.push(trial(
        "access::secrets::debug_output".to_owned(),
        [],
        debug_output,
    ));
    trials
}

/// `xyzzy-hashed`, cost 4.
const HASH: &str = "$2b$04$wgh9yk6jL/ayjUXPqafYoOAYOo46ILc9H7xkWOtGKLswr32iDTMzq";

const CLEAR: &str = "xyzzy-clear";
const CERTIFIED: &str = "xyzzy-certified";
const GUEST: &str = "xyzzy-guest";
const ROUTE: &str = "xyzzy-route";
const ROUTE_URL: &str = "xyzzy-url";
const WRONG: &str = "xyzzy-wrong";
const NEW: &str = "xyzzy-new";
const JWT: &str = "xyzzy-jwt";

static KEY: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::new_from_raw(nkeys::KeyPairType::User, [9; 32]).expect("a key"));

/// Fails if a text has anything in it that must not be shown.
#[track_caller]
fn clean(what: &str, text: &str) {
    let seed = KEY.seed().expect("a seed");
    for secret in [
        "xyzzy",
        HASH,
        &HASH[7..29],
        "$2b$04",
        &seed[..20],
        "BEGIN PRIVATE",
    ] {
        if let Some(at) = text.find(secret) {
            let from = text[..at].rfind('\n').map_or(0, |end| end + 1);
            let to = text[at..].find('\n').map_or(text.len(), |end| at + end);
            panic!("{what} shows {secret}: {}", &text[from..to]);
        }
    }
}

fn users(clear: &str) -> String {
    format!(
        "http: \"127.0.0.1:-1\"
         accounts {{
           A {{ users: [
             {{ user: clear, password: {clear}, permissions: {{ publish: ok }} }}
             {{ user: hashed, password: \"{HASH}\" }}
             {{ nkey: {} }}
             {{ user: guest, password: {GUEST} }} ] }}
         }}
         no_auth_user: guest",
        KEY.public_key()
    )
}

const PAGES: [&str; 12] = [
    "/",
    "/varz",
    "/connz?auth=1&subs=detail",
    "/connz?auth=true&state=closed",
    "/connz?auth=1&state=all&acc=A",
    "/connz?auth=1&user=clear&acc=A",
    "/routez?subs=1",
    "/subsz?subs=1",
    "/accountz?acc=A",
    "/accstatz?unused=1",
    "/healthz",
    "/debug/vars",
];

fn pages(server: &ServerUnderTest) {
    let address = server.listener(Listener::Monitor);
    for page in PAGES {
        let answer = HttpAnswer::get(address, page);
        clean(page, &answer.body);
        for (name, value) in &answer.headers {
            clean(name, value);
        }
    }
}

fn a_server_that_runs(kind: Kind) {
    let mut server = ServerUnderTest::start(kind, &config(&users(CLEAR)).argument("-DV"));
    let address = server.address();
    let password =
        |name: &str, password: &str| format!("\"user\":\"{name}\",\"pass\":\"{password}\"");
    let mut clients = Vec::new();
    for fields in [
        password("clear", CLEAR),
        password("hashed", "xyzzy-hashed"),
        password("clear", WRONG),
        password("hashed", WRONG),
        password("hashed", HASH),
        password("nobody", WRONG),
        format!("\"auth_token\":\"{WRONG}\""),
        format!("\"jwt\":\"{JWT}\",\"sig\":\"{JWT}\""),
        format!("\"pass\":\"{WRONG}\""),
        String::new(),
    ] {
        let mut client = Client::connect(address, Transport::Plain);
        client.log_in(&fields);
        clients.push(client);
    }
    let mut signing = Client::connect(address, Transport::Plain);
    let nonce = signing.info["nonce"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let signature =
        data_encoding::BASE64URL_NOPAD.encode(&KEY.sign(nonce.as_bytes()).expect("signed"));
    signing.log_in(&format!(
        "\"nkey\":\"{}\",\"sig\":\"{signature}\"",
        KEY.public_key()
    ));
    // Traces show what clients send, and CONNECT is part of it. Forms of it that no client library writes too.
    for raw in [
        format!(
            "CONNECT {{\"pass\" : \"{CLEAR}\", \"user\" : \"clear\"}}\r\nPUB no 0\r\n\r\nSUB x 1\r\nPING\r\n"
        ),
        format!("connect\t{{\"user\":\"clear\",\"pass\":\"{CLEAR}\"}}\r\nPING\r\n"),
        format!("CONNECT {{\"PASS\":\"{CLEAR}\",\"User\":\"clear\"}}\r\nPING\r\n"),
        format!("CONNECT {{\"pass\":\"a\\\"{WRONG}\",\"auth_token\":\"{WRONG}\"}}\r\n"),
        format!(
            "CONNECT {{\"auth_token\":\"{WRONG}\",\"pass\":\"{WRONG}\",\"jwt\":\"{JWT}\"}}\r\n"
        ),
    ] {
        let mut peer = Peer::connect(address);
        peer.expect_info();
        peer.send(&raw);
        peer.send("PING\r\n");
        let _ = peer.try_ping_pong();
        peer.finish_sending();
        let _ = peer.try_rest();
    }
    pages(&server);
    for text in [
        users(NEW),
        users(CLEAR),
        users(CLEAR).replace("max", "min") + "\nfoo: xyzzy",
    ] {
        // What a reload says is part of the log. A value of an unknown option is not known to be no secret.
        let told = server.reload(&text);
        if kind == Kind::Natterjack {
            clean("a reload", &told);
        }
    }
    pages(&server);
    drop(clients);
    let log = server.log();
    assert!(log.contains("[DBG]") && log.contains("[TRC]"), "{log}");
    assert!(log.contains("[REDACTED]"), "{log}");
    match kind {
        Kind::Natterjack => clean("the log", &log),
        Kind::NatsServer | Kind::OldNatsServer => {
            assert!(log.contains(JWT), "it shows JWTs no more")
        }
    }
}

fn single(kind: Kind) {
    for (arguments, text, fields) in [
        (
            vec!["--user", "ann", "--pass", CLEAR],
            "http: \"127.0.0.1:-1\"".to_owned(),
            format!("\"user\":\"ann\",\"pass\":\"{CLEAR}\""),
        ),
        (
            vec!["--auth", CLEAR],
            "http: \"127.0.0.1:-1\"".to_owned(),
            format!("\"auth_token\":\"{CLEAR}\""),
        ),
        (
            vec![],
            format!(
                "http: \"127.0.0.1:-1\", authorization {{ token: \"{HASH}\" }}
                 cluster {{ name: c, port: -1, host: 127.0.0.1, authorization {{ user: r, password: {ROUTE} }}
                   routes: [ \"nats://r:{ROUTE_URL}@127.0.0.1:1\" ] }}"
            ),
            "\"auth_token\":\"xyzzy-hashed\"".to_owned(),
        ),
        (
            vec![],
            format!(
                "http: \"127.0.0.1:-1\", tls {{ {MUTUAL} }}, allow_non_tls: true
                 authorization {{ user: ann, password: {CERTIFIED} }}"
            ),
            format!("\"user\":\"ann\",\"pass\":\"{CERTIFIED}\""),
        ),
    ] {
        let mut config = config(&text).argument("-DV");
        for argument in arguments {
            config = config.argument(argument);
        }
        let server = ServerUnderTest::start(kind, &config);
        for fields in [fields.as_str(), &format!("\"auth_token\":\"{WRONG}\"")] {
            Client::connect(server.address(), Transport::Plain).log_in(fields);
        }
        pages(&server);
        clean("the log", &server.log());
    }
}

/// Files with a mistake near a secret.
fn broken() -> Vec<String> {
    let mut files = Vec::new();
    for text in [
        "authorization { user: a, password: xyzzy, pass: xyzzy }",
        "authorization { user: a, password: [xyzzy] }",
        "authorization { user: a, password: { xyzzy: xyzzy } }",
        "authorization { token: xyzzy, user: a, password: xyzzy }",
        "authorization { token: xyzzy\n users: [ { user: a, password: xyzzy } ] }",
        "authorization { users: [ { user: a, password: xyzzy, foo: 1 } ] }",
        "authorization { users: [ { user: a, password: xyzzy }, { user: a, password: xyzzy } ] }",
        "authorization { users: [ { password: xyzzy } ] }",
        "authorization { users: [ { nkey: xyzzy, password: xyzzy } ] }",
        "authorization { users: [ { user: a, pasword: xyzzy } ] }",
        "authorization { user: a, password: \"xyzzy }",
        "authorization { user: a, password: xyzzy",
        "authorization { user: a password: xyzzy ] }",
        "PW: xyzzy\nauthorization { user: a, password: $PV }",
        "PW: xyzzy\nauthorization { user: a, password: $PW, foo: 1 }",
        "cluster { port: -1, routes: [ \"nats://a:xyzzy@h:x\" ] }",
        "cluster { port: -1, authorization { user: a, password: xyzzy, token: xyzzy } }",
        "cluster { port: -1, authorization { users: [ { user: a, password: xyzzy } ] } }",
        "accounts { A { users: [ { user: a, password: xyzzy, permissions: { publish: \"a..b\" } } ] } }",
        "no_auth_user: z\nauthorization { users: [ { user: a, password: xyzzy } ] }",
    ] {
        files.push(text.to_owned());
    }
    let seed = KEY.seed().expect("a seed");
    files.push(format!("authorization {{ users: [ {{ nkey: {seed} }} ] }}"));
    files.push(format!("authorization {{ token: \"{HASH}\", foo: 1 }}"));
    files.push(format!(
        "authorization {{ user: a, pass: \"{HASH}\", users: [] }}"
    ));
    files
}

fn mistakes(kind: Kind) {
    let program = kind.program().expect("checked before");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("server.conf");
    let mut shown = Vec::new();
    for text in broken() {
        std::fs::write(&file, &text).expect("written");
        let mut command = Command::new(&program);
        command.arg("-t").arg("-c").arg(&file);
        let mut process = Program::spawn(&mut command).expect("started");
        process.wait_for_exit(testkit::PATIENCE).expect("an end");
        let output = process.output();
        assert!(!output.contains("panic"), "{text}: {output}");
        match kind {
            Kind::Natterjack => clean(&text, &output),
            Kind::NatsServer | Kind::OldNatsServer => {
                if output.contains("xyzzy") {
                    shown.push(text);
                }
            }
        }
    }
    // It shows parts of lines. Should it learn not to, this list says nothing any more.
    assert!(kind == Kind::Natterjack || !shown.is_empty());
}

fn explanations() {
    let natterjack = programs::natterjack().expect("checked before");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("server.conf");
    let texts = [
        users(CLEAR),
        format!("authorization {{ token: \"{HASH}\" }}"),
        format!("authorization {{ user: a, password: {CLEAR} }}"),
        format!("SECRET: {CLEAR}\nauthorization {{ user: a, password: $SECRET }}"),
        format!(
            "authorization {{ token: {CLEAR} }}
             cluster {{ name: c, port: -1, authorization {{ user: r, password: {ROUTE} }}
               routes: [ \"nats://r:{ROUTE_URL}@127.0.0.1:1\" ] }}"
        ),
    ];
    for text in texts.into_iter().chain(broken()) {
        std::fs::write(&file, &text).expect("written");
        for flags in [
            &[][..],
            &["--", "--user", "b", "--pass", "xyzzy-flag"],
            &["--", "--auth", "xyzzy-flag"],
        ] {
            let mut command = Command::new(&natterjack);
            command.arg("check").arg(&file).arg("--explain").args(flags);
            let mut process = Program::spawn(&mut command).expect("started");
            process.wait_for_exit(testkit::PATIENCE).expect("an end");
            clean(&text, &process.output());
        }
    }
}

/// What programs that embed the server may log without thinking.
fn debug_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("server.conf");
    let text = users(CLEAR)
        + &format!(
            "\ncluster {{ name: c, port: -1, authorization {{ user: r, password: {ROUTE} }}
               routes: [ \"nats://r:{ROUTE_URL}@127.0.0.1:1\" ] }}"
        );
    for text in [
        text,
        format!("authorization {{ token: {CLEAR} }}"),
        format!("authorization {{ user: u, password: \"{HASH}\" }}"),
    ] {
        std::fs::write(&file, &text).expect("written");
        let loaded = Configuration::load(Some(&file), &Flags::default(), &EmptyEnvironment);
        assert_eq!(loaded.errors().count(), 0, "{text}");
        for shown in [
            format!("{:?}", loaded.configuration),
            format!("{:#?}", loaded.configuration.options),
            format!("{:?}", loaded.configuration.options.authorization),
        ] {
            assert!(shown.len() > 100, "{shown}");
            clean("debug output", &shown);
        }
    }
}
