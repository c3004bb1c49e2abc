//! Messages from every server to every server: who gets which, once, and as it was sent.

use std::collections::BTreeMap;

use serde_json::json;
use testkit::Kind;
use testkit::cluster::{Client, Cluster, Login, Message, Plan};

use super::{Scenario, scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("delivery::every_subscriber_once", every_subscriber_once),
    scenario("delivery::as_it_was_sent", as_it_was_sent),
    scenario(
        "delivery::no_echo_where_none_is_wanted",
        no_echo_where_none_is_wanted,
    ),
    scenario(
        "delivery::a_maximum_is_the_subscribers_own",
        a_maximum_is_the_subscribers_own,
    ),
    scenario(
        "delivery::interest_ends_everywhere",
        interest_ends_everywhere,
    ),
    scenario("delivery::permissions_of_routes", permissions_of_routes),
];

/// Subjects that overlap, on every server, each twice on one connection: every subscription gets each message that matches.
fn every_subscriber_once(kinds: &[Kind]) {
    const SUBJECTS: [&str; 5] = ["a.b.c", "a.*.c", "a.>", "*.b.*", "a.b.c"];
    const PUBLISHED: [&str; 4] = ["a.b.c", "a.x.c", "b.b.b", "a.b"];
    let matches = |pattern: &str, subject: &str| match pattern {
        "a.b.c" => subject == "a.b.c",
        "a.*.c" => subject == "a.b.c" || subject == "a.x.c",
        "a.>" => subject.starts_with("a."),
        "*.b.*" => subject == "a.b.c" || subject == "b.b.b",
        other => unreachable!("{other}"),
    };
    let mut cluster = complete(Plan::of(kinds));
    let mut subscribers = cluster.clients();
    let mut names = BTreeMap::new();
    for subscriber in &mut subscribers {
        for subject in SUBJECTS {
            names.insert(subscriber.subscribe(subject), subject);
        }
    }
    cluster.settle(&mut subscribers);
    let mut publishers = cluster.clients();
    for (node, publisher) in publishers.iter_mut().enumerate() {
        for subject in PUBLISHED {
            publisher.publish(subject, node.to_string());
        }
        publisher.round_trip();
    }
    let mut expected: Vec<(u64, String, String)> = Vec::new();
    for (subscription, pattern) in &names {
        for node in 0..cluster.len() {
            for subject in PUBLISHED {
                if matches(pattern, subject) {
                    expected.push((*subscription, subject.to_owned(), node.to_string()));
                }
            }
        }
    }
    expected.sort();
    for subscriber in &mut subscribers {
        let found = (0..expected.len()).map(|_| subscriber.next_message());
        let found = found.map(|message| {
            let text = message.text().to_owned();
            (message.subscription, message.subject, text)
        });
        let mut found: Vec<_> = found.collect();
        found.sort();
        assert_eq!(found, expected);
    }
    expect_nothing_more(&mut cluster, &mut subscribers);
}

/// Subject, reply, headers and payload, byte by byte: empty, binary, as large as allowed.
fn as_it_was_sent(kinds: &[Kind]) {
    let binary: Vec<u8> = (0..=u8::MAX).cycle().take(5_000).collect();
    let largest: Vec<u8> = (0..=u8::MAX).rev().cycle().take(1_048_576).collect();
    let headers = b"NATS/1.0\r\nA: 1\r\na: 2\r\nEmpty:\r\n\r\n";
    let payloads: [&[u8]; 5] = [
        b"",
        b"\r\n",
        b"RMSG $G as.sent 1\r\nx\r\n",
        &binary,
        &largest,
    ];
    let mut cluster = complete(Plan::of(kinds));
    let mut subscribers = cluster.clients();
    for subscriber in &mut subscribers {
        subscriber.subscribe("as.sent");
    }
    cluster.settle(&mut subscribers);
    for node in 0..cluster.len() {
        let mut publisher = cluster.client(node);
        let mut sent = Vec::new();
        for payload in payloads {
            for (reply, headers) in [
                (None, &b""[..]),
                (Some("answer.here"), b""),
                (None, headers),
                (Some("answer.here"), headers),
            ] {
                if headers.len() + payload.len() > 1_048_576 {
                    continue;
                }
                publisher.publish_with("as.sent", reply, headers, payload);
                sent.push((reply, headers, payload));
            }
        }
        publisher.round_trip();
        for subscriber in &mut subscribers {
            for (reply, headers, payload) in &sent {
                let Message {
                    subject,
                    reply: found_reply,
                    headers: found_headers,
                    payload: found_payload,
                    ..
                } = subscriber.next_message();
                assert_eq!(
                    (subject.as_str(), found_reply.as_deref()),
                    ("as.sent", *reply)
                );
                assert_eq!(found_headers, *headers);
                assert!(
                    found_payload == *payload,
                    "another payload of {}",
                    payload.len()
                );
            }
        }
    }
    expect_nothing_more(&mut cluster, &mut subscribers);
}

/// A client that wants no echo does not hear itself, wherever else the message goes; it hears its neighbours and others.
fn no_echo_where_none_is_wanted(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds));
    let mut mutes: Vec<Client> = (0..cluster.len())
        .map(|node| {
            let echo = json!({"echo": false});
            Client::connect_with(cluster.address(node), Login::default(), &echo)
        })
        .collect();
    for mute in &mut mutes {
        mute.subscribe("shout");
    }
    cluster.settle(&mut mutes);
    for node in 0..cluster.len() {
        mutes[node].publish("shout", node.to_string());
        mutes[node].round_trip();
        for other in cluster.others(node) {
            assert_eq!(mutes[other].next_message().text(), node.to_string());
        }
    }
    expect_nothing_more(&mut cluster, &mut mutes);
}

/// Whoever wants so many messages gets so many, and the servers forget it then.
fn a_maximum_is_the_subscribers_own(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds));
    for (from, to) in cluster.pairs() {
        let subject = format!("limited.{from}.{to}");
        let mut subscriber = cluster.client(to);
        let subscription = subscriber.subscribe(&subject);
        subscriber.unsubscribe(subscription, Some(3));
        cluster.settle([&mut subscriber]);
        let mut publisher = cluster.client(from);
        for number in 0..10 {
            publisher.publish(&subject, number.to_string());
        }
        publisher.round_trip();
        for number in 0..3 {
            assert_eq!(subscriber.next_message().text(), number.to_string());
        }
        cluster.wait_for_interest(from, Login::default(), &subject, false);
        expect_nothing_more(&mut cluster, [&mut subscriber]);
    }
}

/// Unsubscribing, one of two unsubscribing, and hanging up.
fn interest_ends_everywhere(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds));
    for home in 0..cluster.len() {
        let mut first = cluster.client(home);
        let subscription = first.subscribe("fleeting");
        let in_a_group = first.queue_subscribe("grouped", "crew");
        let mut second = cluster.client(home);
        second.subscribe("fleeting");
        second.queue_subscribe("grouped", "crew");
        cluster.settle([&mut first, &mut second]);
        first.unsubscribe(subscription, None);
        first.unsubscribe(in_a_group, None);
        cluster.settle([&mut first]);
        for other in cluster.others(home) {
            let mut publisher = cluster.client(other);
            for subject in ["fleeting", "grouped"] {
                assert!(
                    publisher.is_heard(subject, "still"),
                    "the second client is there"
                );
                assert_eq!(second.next_message().text(), "still");
            }
        }
        drop(second);
        for other in cluster.others(home) {
            for subject in ["fleeting", "grouped"] {
                cluster.wait_for_interest(other, Login::default(), subject, false);
            }
        }
        expect_nothing_more(&mut cluster, [&mut first]);
    }
}

/// A server that imports and exports only some subjects: interest in others does not get to it, or from it.
fn permissions_of_routes(kinds: &[Kind]) {
    let allowed =
        ["settled.>", "complete.>", "_INBOX.>", "public.>"].map(|subject| format!("\"{subject}\""));
    let allowed = allowed.join(", ");
    let last = kinds.len() - 1;
    let mut cluster = complete(Plan::of(kinds).cluster_of(
        last,
        &format!("permissions {{ import: [{allowed}, \"in.>\"], export: [{allowed}, \"out.>\"] }}"),
    ));
    let subjects = ["public.x", "in.x", "out.x", "private.x"];
    let mut clients = [cluster.client(0), cluster.client(last)];
    for client in &mut clients {
        for subject in subjects {
            client.subscribe(subject);
        }
    }
    cluster.settle(&mut clients);
    for client in &mut clients {
        for subject in subjects {
            client.publish(subject, subject);
        }
        client.round_trip();
    }
    let [inner, outer] = &mut clients;
    // Of its own each hears all, and of the other's what the one with the permissions lets through.
    let heard = |client: &mut Client, count: usize| {
        let mut texts: Vec<String> = (0..count)
            .map(|_| client.next_message().text().to_owned())
            .collect();
        texts.sort();
        texts
    };
    assert_eq!(
        heard(inner, 6),
        [
            "in.x",
            "out.x",
            "out.x",
            "private.x",
            "public.x",
            "public.x"
        ]
    );
    assert_eq!(
        heard(outer, 6),
        ["in.x", "in.x", "out.x", "private.x", "public.x", "public.x"]
    );
    expect_nothing_more(&mut cluster, &mut clients);
}

/// A cluster whose servers all know each other.
pub(super) fn complete(plan: Plan) -> Cluster {
    let mut cluster = plan.start();
    cluster.wait_until_complete();
    cluster
}

/// Makes sure that what was sent twice would have come by now, and did not.
pub(super) fn expect_nothing_more<'client>(
    cluster: &mut Cluster,
    clients: impl IntoIterator<Item = &'client mut Client>,
) {
    let mut clients: Vec<&mut Client> = clients.into_iter().collect();
    cluster.settle(clients.iter_mut().map(|client| &mut **client));
    for client in clients {
        client.round_trip();
        assert_eq!(client.take_messages(), [], "more than was expected");
    }
}
