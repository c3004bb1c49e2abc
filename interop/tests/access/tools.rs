//! What `natterjack passwd` and `natterjack nkey` make, put into a configuration: both servers let in who has it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use data_encoding::BASE64URL_NOPAD;
use libtest_mimic::Trial;
use nkeys::KeyPair;
use testkit::{Config, Kind, ServerUnderTest, programs};

use super::Test;
use super::client::{Client, Outcome, Transport};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let tests: [Test; 3] = [
        ("a_hash_lets_in", a_hash_lets_in),
        (
            "a_password_that_was_made_up_lets_in",
            a_password_that_was_made_up_lets_in,
        ),
        ("a_key_pair_lets_in", a_key_pair_lets_in),
    ];
    let mut trials = Vec::new();
    for (name, run) in tests {
        for kind in Kind::ALL {
            let name = format!("access::tools::{name}::{}", kind.name());
            let needs = [kind.program().map(drop), programs::natterjack().map(drop)];
            trials.push(trial(name, needs, move || run(kind)));
        }
    }
    trials
}

/// Runs `natterjack`; what it wrote, line by line.
fn natterjack(arguments: &[&str], input: &str) -> Vec<String> {
    let mut child = Command::new(programs::natterjack().expect("checked before"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdin = child.stdin.take().expect("a pipe");
    // One that reads nothing may have ended.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the child is ours");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("plain text");
    assert!(output.status.success(), "{arguments:?}: {text}");
    text.lines().map(str::to_owned).collect()
}

/// Whether each password lets in where this hash stands.
fn outcomes(kind: Kind, hash: &str, passwords: &[&str]) -> Vec<Outcome> {
    let config = Config::file(format!(
        "authorization {{ user: ann, password: \"{hash}\" }}"
    ));
    let server = ServerUnderTest::start(kind, &config);
    let log_in = |password: &&str| {
        let password = serde_json::Value::from(*password);
        Client::connect(server.address(), Transport::Plain)
            .log_in(&format!("\"user\":\"ann\",\"pass\":{password}"))
    };
    passwords.iter().map(log_in).collect()
}

fn let_in() -> Outcome {
    Outcome::In("$G".to_owned())
}

fn violation() -> Outcome {
    Outcome::Refused("Authorization Violation".to_owned())
}

fn a_hash_lets_in(kind: Kind) {
    for (password, cost) in [
        ("s3cret", "4"),
        ("two words, \"quoted\"", "5"),
        ("pässwörd ✓", "4"),
        (&"x".repeat(72), "4"),
    ] {
        let lines = natterjack(&["passwd", "--cost", cost], password);
        let [hash] = &lines[..] else {
            panic!("{lines:?}")
        };
        let found = outcomes(kind, hash, &[password, "", &password[1..], hash]);
        let expected = [let_in(), violation(), violation(), violation()];
        assert_eq!(found, expected, "{password}");
    }
    // The usual cost.
    let hash = natterjack(&["passwd"], "s3cret").concat();
    assert!(hash.starts_with("$2b$11$"), "{hash}");
    assert_eq!(outcomes(kind, &hash, &["s3cret"]), [let_in()]);
}

fn a_password_that_was_made_up_lets_in(kind: Kind) {
    let lines = natterjack(&["passwd", "--generate", "--cost", "4"], "");
    let find = |start: &str| {
        let mut found = lines.iter().filter_map(|line| line.strip_prefix(start));
        found.next().expect("a line of it").to_owned()
    };
    let (password, hash) = (find("password: "), format!("$2b{}", find("$2b")));
    let found = outcomes(kind, &hash, &[&password, "password"]);
    assert_eq!(found, [let_in(), violation()]);
}

fn a_key_pair_lets_in(kind: Kind) {
    let lines = natterjack(&["nkey", "user"], "");
    let [seed, public] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(natterjack(&["nkey", "--public"], seed), [public.as_str()]);
    let account = natterjack(&["nkey", "account"], "");
    let config = Config::file(format!(
        "accounts {{ K {{ nkey: {}, users: [ {{ nkey: {public} }} ] }} }}",
        account[1]
    ));
    let server = ServerUnderTest::start(kind, &config);
    let other = natterjack(&["nkey"], "");
    for (seed, expected) in [
        (seed, Outcome::In("K".to_owned())),
        (&other[0], violation()),
    ] {
        let pair = KeyPair::from_seed(seed).expect("a seed");
        let mut client = Client::connect(server.address(), Transport::Plain);
        let nonce = client.info["nonce"].as_str().expect("a nonce").to_owned();
        let signature = pair.sign(nonce.as_bytes()).expect("it has its seed");
        let signature = BASE64URL_NOPAD.encode(&signature);
        let key = pair.public_key();
        let outcome = client.log_in(&format!("\"nkey\":\"{key}\",\"sig\":\"{signature}\""));
        assert_eq!(outcome, expected);
    }
}
