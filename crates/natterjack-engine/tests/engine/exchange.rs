//! Mappings and imports between accounts, as far as the real server does otherwise or leaves it to chance.

use std::collections::BTreeMap;

use natterjack_engine::access::{Export, Import, StreamExport, StreamImport};
use natterjack_engine::{
    Access, AccountAccess, Credential, Destination, Limits, Mapping, Permissions, SubjectRules,
    User,
};

use crate::harness::{Client, Harness};

fn account(name: &str) -> AccountAccess {
    AccountAccess {
        name: name.to_owned(),
        users: vec![User {
            name: name.to_lowercase(),
            credential: Credential::Password("p".into()),
            ..User::default()
        }],
        ..AccountAccess::default()
    }
}

fn export(subject: &str) -> Export {
    Export::Stream(StreamExport {
        subject: subject.to_owned(),
        ..StreamExport::default()
    })
}

fn import(account: &str, subject: &str, to: &str) -> Import {
    Import::Stream(StreamImport {
        account: account.to_owned(),
        subject: subject.to_owned(),
        to: Some(to.to_owned()),
        ..StreamImport::default()
    })
}

/// B hears `x.*` of A as `y.*`.
fn two_accounts() -> Access {
    let access = Access {
        accounts: vec![
            AccountAccess {
                exports: vec![export("x.*")],
                ..account("A")
            },
            AccountAccess {
                imports: vec![import("A", "x.*", "y.$1")],
                ..account("B")
            },
        ],
        ..Access::default()
    };
    assert_eq!(access.problems(), []);
    access
}

fn log_in(harness: &mut Harness, user: &str) -> Client {
    harness.connect(&format!("\"user\":\"{user}\",\"pass\":\"p\""))
}

fn exchange(harness: &mut Harness, client: &mut Client, input: &str, expected: &str) {
    harness.send(client, input.as_bytes());
    assert_eq!(client.take(), expected, "after {input:?}");
}

/// nats-server 2.15.1 counts only messages of the subscription's own account.
#[test]
fn a_maximum_counts_messages_from_everywhere() {
    let mut harness = Harness::with(Limits::default(), two_accounts());
    let (mut a, mut b) = (log_in(&mut harness, "a"), log_in(&mut harness, "b"));
    exchange(&mut harness, &mut b, "SUB y.* 1\r\nUNSUB 1 3\r\n", "");
    exchange(&mut harness, &mut a, "PUB x.1 1\r\n1\r\n", "");
    exchange(
        &mut harness,
        &mut b,
        "PUB y.2 1\r\n2\r\n",
        "MSG y.1 1 1\r\n1\r\nMSG y.2 1 1\r\n2\r\n",
    );
    exchange(
        &mut harness,
        &mut a,
        "PUB x.3 1\r\n3\r\nPUB x.4 1\r\n4\r\n",
        "",
    );
    exchange(
        &mut harness,
        &mut b,
        "PUB y.5 1\r\n5\r\nPING\r\n",
        "MSG y.3 1 1\r\n3\r\nPONG\r\n",
    );
    for name in ["A", "B"] {
        let account = harness.engine.account(name).expect("configured");
        assert_eq!(account.subscriptions(), 0, "{name}");
    }
}

#[test]
fn nothing_stays_behind_when_a_connection_ends() {
    let mut harness = Harness::with(Limits::default(), two_accounts());
    let mut b = log_in(&mut harness, "b");
    exchange(
        &mut harness,
        &mut b,
        "SUB > 1\r\nSUB y.1 q 2\r\nSUB z 3\r\n",
        "",
    );
    let exporter = harness.engine.account("A").expect("configured");
    assert_eq!(exporter.subscriptions(), 2);
    b.close();
    assert_eq!(exporter.subscriptions(), 0);
}

/// A queue group gets one of each, wherever its members come from.
#[test]
fn members_of_a_queue_group_share_what_is_imported() {
    let mut harness = Harness::with(Limits::default(), two_accounts());
    let mut a = log_in(&mut harness, "a");
    let mut members = [log_in(&mut harness, "b"), log_in(&mut harness, "b")];
    for member in &mut members {
        exchange(&mut harness, member, "SUB y.* q 1\r\n", "");
    }
    harness.send(&mut a, "PUB x.1 0\r\n\r\n".repeat(100).as_bytes());
    let counts = members
        .iter()
        .map(|member| member.take().matches("MSG y.1 1 0\r\n\r\n").count());
    let counts: Vec<usize> = counts.collect();
    assert_eq!(counts.iter().sum::<usize>(), 100);
    assert!(counts.iter().all(|&count| count > 10), "{counts:?}");
}

/// Subscribers with the same number, some of which hear it under another name.
#[test]
fn names_do_not_mix_in_a_fan_out() {
    let mut harness = Harness::with(Limits::default(), two_accounts());
    let mut a = log_in(&mut harness, "a");
    let mut subscribers: Vec<Client> = Vec::new();
    for user in ["a", "b", "a", "b"] {
        let mut client = log_in(&mut harness, user);
        exchange(&mut harness, &mut client, "SUB > 1\r\n", "");
        subscribers.push(client);
    }
    let large = "x".repeat(70_000);
    let batch = format!("PUB x.1 1\r\n1\r\nPUB x.2 70000\r\n{large}\r\nPUB x.1 1\r\n2\r\n");
    harness.send(&mut a, batch.as_bytes());
    for (client, letter) in subscribers.iter().zip(["x", "y", "x", "y"]) {
        let expected = format!(
            "MSG {letter}.1 1 1\r\n1\r\nMSG {letter}.2 1 70000\r\n{large}\r\nMSG {letter}.1 1 1\r\n2\r\n"
        );
        assert!(client.take() == expected, "{letter}");
    }
}

#[test]
fn a_reload_disconnects_nobody_and_delivers_nothing_twice() {
    let mut harness = Harness::with(Limits::default(), two_accounts());
    let (mut a, mut b) = (log_in(&mut harness, "a"), log_in(&mut harness, "b"));
    exchange(&mut harness, &mut b, "SUB > 1\r\nSUB y.1 2\r\n", "");
    for to in ["y.$1", "z.$1", "y.$1"] {
        let mut new = harness.engine.configuration();
        new.access.accounts[1].imports = vec![import("A", "x.*", to)];
        new.access.accounts[0].exports = vec![
            export("x.*"),
            export(to.split('.').next().unwrap_or_default()),
        ];
        let _adaptation = harness.engine.reconfigure(new, harness.now);
        b.session.adapt(harness.now);
        a.session.adapt(harness.now);
        exchange(&mut harness, &mut a, "PUB x.1 0\r\n\r\n", "");
        let name = to.replace("$1", "1");
        let taken = b.take();
        let expected = if name == "y.1" { 2 } else { 1 };
        assert_eq!(
            taken.matches(&format!("MSG {name} ")).count(),
            expected,
            "{taken}"
        );
        assert_eq!(taken.matches("MSG").count(), expected, "{taken}");
    }
    assert_eq!((a.closed(), b.closed()), (None, None));
    let mut new = harness.engine.configuration();
    new.access.accounts[0].exports.clear();
    new.access.accounts[1].imports.clear();
    let _adaptation = harness.engine.reconfigure(new, harness.now);
    b.session.adapt(harness.now);
    exchange(&mut harness, &mut a, "PUB x.1 0\r\n\r\n", "");
    assert_eq!(b.take(), "");
    assert_eq!(b.closed(), None);
}

#[test]
fn what_is_denied_here_does_not_cross_and_what_is_wrong_is_not_imported() {
    let mut access = two_accounts();
    access.accounts[1].users[0].permissions = Some(Permissions {
        subscribe: SubjectRules {
            allow: None,
            deny: vec!["y.no".to_owned()],
        },
        ..Permissions::default()
    });
    // Not exported.
    access.accounts[1].imports.push(import("A", "secret", "s"));
    let mut harness = Harness::with(Limits::default(), access);
    let (mut a, mut b) = (log_in(&mut harness, "a"), log_in(&mut harness, "b"));
    exchange(&mut harness, &mut b, "SUB > 1\r\nSUB * q 2\r\n", "");
    exchange(
        &mut harness,
        &mut a,
        "PUB x.no 0\r\n\r\nPUB x.yes 0\r\n\r\nPUB secret 0\r\n\r\n",
        "",
    );
    assert_eq!(b.take(), "MSG y.yes 1 0\r\n\r\n");
}

#[test]
fn mappings_follow_a_reload_and_their_weights() {
    let mut harness = Harness::new();
    let mut client = harness.connect("");
    exchange(&mut harness, &mut client, "SUB > 1\r\n", "");
    let mut new = harness.engine.configuration();
    let destination = |subject: &str, weight_percent: u8| Destination {
        subject: subject.to_owned(),
        weight_percent,
        cluster: None,
    };
    new.access.mappings = vec![Mapping {
        source: "a".to_owned(),
        destinations: vec![destination("b", 20), destination("c", 30)],
    }];
    let _adaptation = harness.engine.reconfigure(new, harness.now);
    harness.send(&mut client, "PUB a 0\r\n\r\n".repeat(1000).as_bytes());
    let mut counts = BTreeMap::new();
    for line in client.take().lines().filter(|line| !line.is_empty()) {
        *counts.entry(line.to_owned()).or_insert(0_i32) += 1;
    }
    let counts: Vec<(String, i32)> = counts.into_iter().collect();
    let expected = [("MSG a 1 0", 500), ("MSG b 1 0", 200), ("MSG c 1 0", 300)];
    assert_eq!(counts.len(), expected.len(), "{counts:?}");
    for ((line, count), (expected_line, about)) in counts.iter().zip(expected) {
        assert_eq!(line, expected_line);
        assert!((count - about).abs() < 70, "{counts:?}");
    }
    let mut new = harness.engine.configuration();
    new.access.mappings.clear();
    let _adaptation = harness.engine.reconfigure(new, harness.now);
    exchange(
        &mut harness,
        &mut client,
        "PUB a 0\r\n\r\n",
        "MSG a 1 0\r\n\r\n",
    );
}

/// More names than are kept from run to run, and names that are used on.
#[test]
fn many_names_in_one_batch() {
    let mut harness = Harness::new();
    let mut new = harness.engine.configuration();
    let long = "n".repeat(200);
    new.access.mappings = vec![Mapping {
        source: "m.*".to_owned(),
        destinations: vec![Destination {
            subject: format!("{long}.$1"),
            ..Destination::default()
        }],
    }];
    let _adaptation = harness.engine.reconfigure(new, harness.now);
    let mut client = harness.connect("");
    exchange(&mut harness, &mut client, "SUB > 1\r\nSUB *.* 2\r\n", "");
    let (mut batch, mut expected) = (String::new(), String::new());
    for number in 0..2000 {
        for _ in 0..3 {
            batch.push_str(&format!("PUB m.{number} 0\r\n\r\n"));
            for sid in [1, 2] {
                expected.push_str(&format!("MSG {long}.{number} {sid} 0\r\n\r\n"));
            }
        }
    }
    harness.send(&mut client, batch.as_bytes());
    let taken = client.take();
    assert_eq!(taken.len(), expected.len());
    // Two subscriptions of one connection come in either order.
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(sorted(&taken) == sorted(&expected));
}
