//! The `INFO` lines, field by field: conversations cannot pin them, since half of each is the server's own.

use libtest_mimic::Trial;
use serde_json::{Map, Value, json};
use testkit::{Config, Kind, Peer, ServerUnderTest};

use crate::trial;

/// Fields whose value is each server's own, so only their type is compared.
const OWN: [&str; 9] = [
    "server_id",
    "server_name",
    "version",
    "git_commit",
    "go",
    "port",
    "client_id",
    "xkey",
    "nonce",
];

/// Which fields a server may lack: what they announce is about its build, or a feature of it.
const OPTIONAL: [&str; 2] = ["git_commit", "xkey"];

pub(crate) fn trials() -> Vec<Trial> {
    let both = || Kind::ALL.map(|kind| kind.program().map(drop));
    vec![
        trial("info::first_has_the_same_fields".to_owned(), both(), || {
            compare(|server| Peer::connect(server.address()).expect_info());
        }),
        trial(
            "info::after_the_first_pong_has_the_same_fields".to_owned(),
            both(),
            || {
                compare(|server| {
                    let mut peer = Peer::connect(server.address());
                    peer.expect_info();
                    let connect = json!({"verbose": false, "protocol": 1});
                    peer.send(format!("CONNECT {connect}\r\nPING\r\n"));
                    peer.expect("PONG\r\n");
                    peer.expect_info()
                });
            },
        ),
    ]
}

fn compare(info: impl Fn(&ServerUnderTest) -> Value) {
    let [expected, found] = Kind::ALL.map(|kind| {
        let server = ServerUnderTest::start(kind, &Config::default());
        let info = info(&server);
        assert_eq!(info["port"], server.address().port(), "{}", kind.name());
        let id = info["server_id"].as_str().unwrap_or_default();
        assert!(
            id.len() == 56 && id.starts_with('N'),
            "{}: server_id {id}",
            kind.name()
        );
        comparable(info)
    });
    assert_eq!(
        serde_json::to_string_pretty(&found).expect("JSON has a text"),
        serde_json::to_string_pretty(&expected).expect("JSON has a text"),
    );
}

/// The fields with those values that must agree; of the others, the type.
fn comparable(info: Value) -> Map<String, Value> {
    let Value::Object(mut fields) = info else {
        panic!("INFO is no object: {info}")
    };
    for (name, value) in &mut fields {
        if OWN.contains(&name.as_str()) {
            *value = match value {
                Value::String(_) => "some text".into(),
                Value::Number(_) => "some number".into(),
                _ => continue,
            };
        }
    }
    fields.retain(|name, _| !OPTIONAL.contains(&name.as_str()));
    fields
}
