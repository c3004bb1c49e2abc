//! Requests and their answers across servers, and the word that nobody hears.

use testkit::Kind;
use testkit::cluster::{Client, Cluster, Login, Message, Plan};

use super::delivery::{complete, expect_nothing_more};
use super::{Scenario, scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("requests::from_each_to_each", from_each_to_each),
    scenario(
        "requests::to_a_group_get_one_answer",
        to_a_group_get_one_answer,
    ),
    scenario(
        "requests::nobody_is_nobody_anywhere",
        nobody_is_nobody_anywhere,
    ),
    scenario(
        "requests::the_inbox_is_as_new_as_the_request",
        the_inbox_is_as_new_as_the_request,
    ),
];

/// Takes one request and answers it with what it said and where from.
fn answer(responder: &mut Client, from: usize) {
    let request = responder.next_message();
    let reply = request
        .reply
        .as_deref()
        .expect("a request has a reply subject");
    let payload = format!("{} from {from}", request.text());
    responder.publish_with(reply, None, &request.headers, payload);
    responder.flush();
}

fn from_each_to_each(kinds: &[Kind]) {
    const HEADERS: &[u8] = b"NATS/1.0\r\nTrace: 1\r\n\r\n";
    let mut cluster = complete(Plan::of(kinds));
    let mut responders = responders(&mut cluster, |responder, node| {
        responder.subscribe(&format!("service.{node}"));
    });
    for (from, to) in cluster.pairs() {
        let mut caller = cluster.client(from);
        for (number, headers) in (0..20).flat_map(|number| [(number, &b""[..]), (number, HEADERS)])
        {
            let subject = format!("service.{to}");
            let found = request(&mut caller, &subject, headers, &number.to_string(), || {
                answer(&mut responders[to], to);
            });
            assert_eq!(found.text(), format!("{number} from {to}"));
            assert_eq!(found.headers, headers);
        }
    }
    expect_nothing_more(&mut cluster, &mut responders);
}

/// A request whose answer somebody gives meanwhile.
fn request(
    caller: &mut Client,
    subject: &str,
    headers: &[u8],
    payload: &str,
    meanwhile: impl FnOnce(),
) -> Message {
    let reply = format!("answers.{}.{payload}", caller.local_address().port());
    let subscription = caller.subscribe(&reply);
    caller.publish_with(subject, Some(&reply), headers, payload);
    caller.flush();
    meanwhile();
    let found = caller.next_message();
    assert_eq!(found.subscription, subscription);
    caller.unsubscribe(subscription, None);
    found
}

fn to_a_group_get_one_answer(kinds: &[Kind]) {
    const REQUESTS: usize = 60;
    let mut cluster = complete(Plan::of(kinds));
    let mut responders = responders(&mut cluster, |responder, _| {
        responder.queue_subscribe("service", "crew");
    });
    for node in 0..cluster.len() {
        let mut caller = cluster.client(node);
        caller.subscribe("answers");
        cluster.settle([&mut caller]);
        for number in 0..REQUESTS {
            caller.publish_with("service", Some("answers"), b"", number.to_string());
        }
        caller.round_trip();
        cluster.settle(&mut responders);
        for (at, responder) in responders.iter_mut().enumerate() {
            for request in responder.take_messages() {
                responder.publish("answers", format!("{} from {at}", request.text()));
            }
            responder.round_trip();
        }
        let mut numbers: Vec<usize> = (0..REQUESTS)
            .map(|_| {
                let answer = caller.next_message();
                let number = answer.text().split(' ').next().map(str::parse);
                number.expect("a word").expect("a number")
            })
            .collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..REQUESTS), "each once");
        expect_nothing_more(&mut cluster, [&mut caller]);
    }
}

/// Who asks where nobody is is told so at once, on each server; who asks where somebody is on another server is not; and so it
/// is again when that one has left.
fn nobody_is_nobody_anywhere(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds));
    let mut callers = cluster.clients();
    for caller in &mut callers {
        assert!(caller.request("service", "hello").is_no_responders());
    }
    for home in 0..cluster.len() {
        let mut responder = cluster.client(home);
        responder.subscribe("service");
        cluster.settle([&mut responder]);
        for (node, caller) in callers.iter_mut().enumerate() {
            let question = format!("{node}-asks-{home}");
            let found = request(caller, "service", b"", &question, || {
                answer(&mut responder, home)
            });
            assert_eq!(found.text(), format!("{question} from {home}"));
        }
        drop(responder);
        for (node, caller) in callers.iter_mut().enumerate() {
            cluster.wait_for_interest(node, Login::default(), "service", false);
            assert!(caller.request("service", "hello").is_no_responders());
        }
    }
}

/// A caller subscribes to its inbox and asks at once: however quick the answer, the inbox is known before it.
fn the_inbox_is_as_new_as_the_request(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds));
    let mut responders = responders(&mut cluster, |responder, node| {
        responder.subscribe(&format!("service.{node}"));
    });
    for (from, to) in cluster.pairs() {
        // A new connection for each.
        for number in 0..20 {
            let mut caller = cluster.client(from);
            let reply = format!("inbox.{from}.{to}.{number}");
            caller.subscribe(&reply);
            caller.publish_with(&format!("service.{to}"), Some(&reply), b"", "quick");
            caller.flush();
            answer(&mut responders[to], to);
            assert_eq!(caller.next_message().text(), format!("quick from {to}"));
        }
    }
}

fn responders(cluster: &mut Cluster, subscribe: impl Fn(&mut Client, usize)) -> Vec<Client> {
    let mut responders = cluster.clients();
    for (node, responder) in responders.iter_mut().enumerate() {
        subscribe(responder, node);
    }
    cluster.settle(&mut responders);
    responders
}
