//! Who gets which messages, in which order, in how many writes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::harness::{Client, Harness};

/// The payloads of the messages in `text`, by subscription id.
fn payloads(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut lines = text.split("\r\n");
    while let Some(head) = lines.next() {
        if let Some(rest) = head.strip_prefix("MSG ") {
            let sid = rest.split(' ').nth(1).expect("a subscription id");
            let payload = lines.next().expect("a payload");
            found
                .entry(sid.to_owned())
                .or_default()
                .push(payload.to_owned());
        }
    }
    found
}

fn publish(subject: &str, payload: &str) -> String {
    format!("PUB {subject} {}\r\n{payload}\r\n", payload.len())
}

#[test]
fn a_batch_reaches_each_subscriber_in_one_write() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let mut subscribers: Vec<Client> = (0..5).map(|_| harness.connect("")).collect();
    for (index, subscriber) in subscribers.iter_mut().enumerate() {
        harness.send(subscriber, format!("SUB a {}\r\n", index % 2).as_bytes());
        subscriber.writes();
    }
    let batch: String = (0..100)
        .map(|number| publish("a", &number.to_string()))
        .collect();
    harness.send(&mut publisher, batch.as_bytes());
    let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    for (index, subscriber) in subscribers.iter().enumerate() {
        assert_eq!(subscriber.writes(), 1);
        assert_eq!(
            payloads(&subscriber.take())[&(index % 2).to_string()],
            expected
        );
    }
    let totals = harness.engine.totals();
    assert_eq!((totals.messages_in, totals.messages_out), (100, 500));
}

#[test]
fn large_messages_arrive_whole_however_they_are_cut() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let mut subscriber = harness.connect("");
    harness.send(&mut subscriber, b"SUB a 1\r\n");
    let sizes = [
        0, 1, 2047, 2048, 2049, 65_535, 65_536, 70_000, 262_144, 1_048_576,
    ];
    let mut stream = String::new();
    let mut expected = String::new();
    for (size, letter) in sizes.into_iter().zip('a'..) {
        let payload = letter.to_string().repeat(size);
        stream.push_str(&publish("a", &payload));
        expected.push_str(&format!("MSG a 1 {size}\r\n{payload}\r\n"));
    }
    for step in [4096 + 7, 100_003, 1_000_000, usize::MAX] {
        for chunk in stream.as_bytes().chunks(step.min(stream.len())) {
            harness.send(&mut publisher, chunk);
        }
        assert!(subscriber.take() == expected, "cut every {step} bytes");
    }
}

#[test]
fn queue_groups_share_fairly_and_pass_over_closed_members() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let mut members: Vec<Client> = (0..4).map(|_| harness.connect("")).collect();
    for member in &mut members {
        harness.send(member, b"SUB a q 1\r\n");
    }
    let batch: String = (0..4000)
        .map(|number| publish("a", &number.to_string()))
        .collect();
    harness.send(&mut publisher, batch.as_bytes());
    let mut all = Vec::new();
    for member in &members {
        let got = payloads(&member.take()).remove("1").unwrap_or_default();
        assert!((800..1200).contains(&got.len()), "{}", got.len());
        assert!(got.is_sorted_by_key(|text| text.parse::<u32>().expect("a number")));
        all.extend(got);
    }
    all.sort_by_key(|text| text.parse::<u32>().expect("a number"));
    assert_eq!(all.len(), 4000);
    all.dedup();
    assert_eq!(all.len(), 4000, "each message went to one member");

    harness.send(&mut members[0], b"UNSUB 1\r\n");
    members.remove(1).close();
    harness.send(&mut publisher, batch.as_bytes());
    let counts: Vec<usize> = members
        .iter()
        .map(|member| {
            payloads(&member.take())
                .remove("1")
                .unwrap_or_default()
                .len()
        })
        .collect();
    assert_eq!(counts[0], 0);
    assert_eq!(counts.iter().sum::<usize>(), 4000);
}

#[test]
fn queue_members_with_a_maximum_hand_over_to_the_others() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let (mut one, mut two) = (harness.connect(""), harness.connect(""));
    harness.send(&mut one, b"SUB a q 1\r\nUNSUB 1 10\r\n");
    harness.send(&mut two, b"SUB a q 1\r\n");
    let batch: String = (0..200)
        .map(|number| publish("a", &number.to_string()))
        .collect();
    harness.send(&mut publisher, batch.as_bytes());
    assert_eq!(payloads(&one.take())["1"].len(), 10);
    assert_eq!(payloads(&two.take())["1"].len(), 190);
}

#[test]
fn a_queue_member_gets_its_messages_in_order_also_in_place_of_another() {
    // The publisher is a member of the group, but wants none of its own messages.
    let mut harness = Harness::new();
    let mut publisher = harness.connect("\"echo\":false");
    let mut other = harness.connect("");
    harness.send(&mut publisher, b"SUB a q 1\r\n");
    harness.send(&mut other, b"SUB a q 1\r\n");
    let batch: String = (0..50)
        .map(|number| publish("a", &number.to_string()))
        .collect();
    harness.send(&mut publisher, batch.as_bytes());
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(payloads(&other.take())["1"], expected);
    assert_eq!(publisher.take(), "");
}

#[test]
fn a_connection_sees_its_publisher_in_order_across_its_subscriptions() {
    let mut harness = Harness::new();
    let mut publisher = harness.connect("");
    let mut subscriber = harness.connect("");
    harness.send(&mut subscriber, b"SUB a 1\r\nSUB > q 2\r\n");
    let batch: String = (0..3)
        .map(|number| publish("a", &number.to_string()))
        .collect();
    harness.send(&mut publisher, batch.as_bytes());
    let text = subscriber.take();
    let seen: Vec<&str> = text.split("\r\n").filter(|line| line.len() == 1).collect();
    assert_eq!(seen, ["0", "0", "1", "1", "2", "2"]);
}

#[test]
fn every_queue_group_and_every_plain_subscription_gets_a_copy() {
    let mut harness = Harness::new();
    let mut client = harness.connect("");
    harness.send(
        &mut client,
        b"SUB a 1\r\nSUB * 2\r\nSUB a q 3\r\nSUB > q 4\r\nSUB a p 5\r\n",
    );
    harness.send(&mut client, publish("a", "x").as_bytes());
    let got = payloads(&client.take());
    assert_eq!(got.get("1").map(Vec::len), Some(1));
    assert_eq!(got.get("2").map(Vec::len), Some(1));
    assert_eq!(got.get("5").map(Vec::len), Some(1));
    assert_eq!(
        got.get("3").map_or(0, Vec::len) + got.get("4").map_or(0, Vec::len),
        1
    );
}

#[test]
fn a_closed_session_leaves_nothing_behind() {
    let mut harness = Harness::new();
    let mut client = harness.connect("");
    let subscribe: String = (0..10_000)
        .map(|sid| format!("SUB a.{sid} {sid}\r\n"))
        .collect();
    harness.send(&mut client, subscribe.as_bytes());
    assert_eq!(harness.engine.global_account().subscriptions(), 10_000);
    client.close();
    assert_eq!(harness.engine.global_account().subscriptions(), 0);
    assert_eq!(harness.engine.connections(), 0);
}

/// One step of a random history: who does what.
#[derive(Clone, Debug)]
enum Step {
    Subscribe {
        client: usize,
        pattern: usize,
        sid: u8,
    },
    Unsubscribe {
        client: usize,
        sid: u8,
    },
    Publish {
        client: usize,
        subjects: Vec<usize>,
    },
}

const PATTERNS: [&str; 6] = ["a", "b", "a.b", "a.*", ">", "*.b"];
const SUBJECTS: [&str; 5] = ["a", "b", "a.b", "c.b", "d"];
const CLIENTS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..CLIENTS, 0..PATTERNS.len(), 0u8..6).prop_map(|(client, pattern, sid)| {
            Step::Subscribe {
                client,
                pattern,
                sid,
            }
        }),
        (0..CLIENTS, 0u8..6).prop_map(|(client, sid)| Step::Unsubscribe { client, sid }),
        (0..CLIENTS, prop::collection::vec(0..SUBJECTS.len(), 1..20))
            .prop_map(|(client, subjects)| Step::Publish { client, subjects }),
    ]
}

proptest! {
    /// Against the slow obvious model: a message reaches exactly the subscriptions that match it when it is
    /// published, each in the publisher's order.
    #[test]
    fn deliveries_follow_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut harness = Harness::new();
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| harness.connect("")).collect();
        let mut model: Vec<BTreeMap<u8, &str>> = vec![BTreeMap::new(); CLIENTS];
        let mut expected: Vec<BTreeMap<String, Vec<String>>> = vec![BTreeMap::new(); CLIENTS];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Subscribe { client, pattern, sid } => {
                    let text = format!("SUB {} {sid}\r\n", PATTERNS[pattern]);
                    harness.send(&mut clients[client], text.as_bytes());
                    model[client].entry(sid).or_insert(PATTERNS[pattern]);
                }
                Step::Unsubscribe { client, sid } => {
                    harness.send(&mut clients[client], format!("UNSUB {sid}\r\n").as_bytes());
                    model[client].remove(&sid);
                }
                Step::Publish { client, subjects } => {
                    let mut batch = String::new();
                    for (index, subject) in subjects.into_iter().enumerate() {
                        let payload = format!("{number}/{index}");
                        batch.push_str(&publish(SUBJECTS[subject], &payload));
                        for (subscriptions, expected) in model.iter().zip(&mut expected) {
                            for (sid, pattern) in subscriptions {
                                if natterjack_subject::matches(pattern.as_bytes(), SUBJECTS[subject].as_bytes()) {
                                    expected.entry(sid.to_string()).or_default().push(payload.clone());
                                }
                            }
                        }
                    }
                    harness.send(&mut clients[client], batch.as_bytes());
                }
            }
        }
        for (client, expected) in clients.iter().zip(expected) {
            prop_assert_eq!(payloads(&client.take()), expected);
        }
    }
}
