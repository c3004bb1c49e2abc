//! Accounts that spread over servers: apart from each other, but for what one lets another have.

use serde_json::{Value, json};
use testkit::cluster::{Client, Cluster, Login, Plan};
use testkit::{Kind, PATIENCE, ask_until};

use super::delivery::{complete, expect_nothing_more};
use super::{Scenario, modern, scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        "accounts::hear_nothing_of_each_other",
        hear_nothing_of_each_other,
    ),
    scenario(
        "accounts::a_service_of_another_is_anywhere",
        a_service_of_another_is_anywhere,
    ),
    // nats-server 2.9 does not say so.
    modern(
        "accounts::a_service_that_nobody_answers",
        a_service_that_nobody_answers,
    ),
    scenario(
        "accounts::a_group_answers_for_another_account",
        a_group_answers_for_another_account,
    ),
    scenario("accounts::a_service_of_a_service", a_service_of_a_service),
    scenario("accounts::who_asks_is_told", who_asks_is_told),
    modern("accounts::latencies_are_told", latencies_are_told),
    scenario(
        "accounts::a_stream_of_another_is_anywhere",
        a_stream_of_another_is_anywhere,
    ),
    modern(
        "accounts::with_connections_of_their_own",
        with_connections_of_their_own,
    ),
];

const A: Login = Login::user("a", "pw");
const B: Login = Login::user("b", "pw");

const APART: &str = "accounts {
  A { users: [ {user: a, password: pw} ] }
  B { users: [ {user: b, password: pw} ] }
}";

/// A offers a service and a stream, B takes both.
const SHARING: &str = "accounts {
  A { users: [ {user: a, password: pw} ]
      exports: [ {service: \"help.*\"}, {stream: \"news.>\"} ] }
  B { users: [ {user: b, password: pw} ]
      imports: [ {service: {account: A, subject: \"help.*\"}, to: \"ask.*\"}
                 {stream: {account: A, subject: \"news.>\"}, prefix: from_a} ] }
}";

fn hear_nothing_of_each_other(kinds: &[Kind]) {
    isolated(Plan::of(kinds));
}

/// The same where A has a connection of its own between each two servers.
fn with_connections_of_their_own(kinds: &[Kind]) {
    isolated(Plan::of(kinds).cluster("accounts: [A]"));
}

fn isolated(plan: Plan) {
    const EACH: usize = 100;
    let mut cluster = complete(plan.server(APART).logins(&[A, B]));
    for (login, other) in [(A, B), (B, A)] {
        let mut own = clients(&cluster, login);
        let mut strangers = clients(&cluster, other);
        for client in own.iter_mut().chain(&mut strangers) {
            client.subscribe("shared.>");
            client.queue_subscribe("shared.*", "crew");
        }
        cluster.settle(own.iter_mut().chain(&mut strangers));
        let mut publishers = clients(&cluster, login);
        for publisher in &mut publishers {
            for number in 0..EACH {
                publisher.publish("shared.x", number.to_string());
            }
            publisher.round_trip();
        }
        expect_nothing_more(&mut cluster, &mut strangers);
        cluster.settle(&mut own);
        let all = EACH * cluster.len();
        let heard: usize = own
            .iter_mut()
            .map(|client| client.take_messages().len())
            .sum();
        assert_eq!(
            heard,
            all * cluster.len() + all,
            "to each, and to one of the group"
        );
    }
    // What only the other account subscribes to is nobody's here.
    for (from, to) in cluster.pairs() {
        let mut client = Client::connect_as(cluster.address(to), B);
        client.subscribe("alone");
        cluster.settle([&mut client]);
        let mut caller = Client::connect_as(cluster.address(from), A);
        assert!(caller.request("alone", "hello").is_no_responders());
    }
}

/// B asks on one server, A answers on another, or on the same.
fn a_service_of_another_is_anywhere(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds).server(SHARING).logins(&[A, B]));
    let mut responders = clients(&cluster, A);
    for (node, responder) in responders.iter_mut().enumerate() {
        responder.subscribe(&format!("help.{node}"));
    }
    cluster.settle(&mut responders);
    for from in 0..cluster.len() {
        let mut caller = Client::connect_as(cluster.address(from), B);
        caller.subscribe("answers.*");
        cluster.settle([&mut caller]);
        for (to, responder) in responders.iter_mut().enumerate() {
            for number in 0..10 {
                let reply = format!("answers.{number}");
                let text = format!("{from} asks {to} for {number}");
                caller.publish_with(&format!("ask.{to}"), Some(&reply), b"", &text);
                caller.flush();
                let request = responder.next_message();
                assert_eq!(
                    (request.text(), request.subject.as_str()),
                    (text.as_str(), format!("help.{to}").as_str())
                );
                let reply_subject = request.reply.expect("a request has a reply subject");
                assert_ne!(reply_subject, reply, "B's own subject is not A's to know");
                responder.publish(&reply_subject, "yes");
                responder.flush();
                let answer = caller.next_message();
                assert_eq!(
                    (answer.subject.as_str(), answer.text()),
                    (reply.as_str(), "yes")
                );
            }
        }
        assert!(
            caller.request("help.0", "").is_no_responders(),
            "its name in B is another"
        );
        expect_nothing_more(&mut cluster, [&mut caller]);
    }
    expect_nothing_more(&mut cluster, &mut responders);
}

/// Whoever asks is told at once, on each server, that nobody answers: as long as nobody does, and again when the last one has
/// gone.
fn a_service_that_nobody_answers(kinds: &[Kind]) {
    let mut cluster = complete(Plan::of(kinds).server(SHARING).logins(&[A, B]));
    let mut callers = clients(&cluster, B);
    for home in 0..cluster.len() {
        for caller in &mut callers {
            assert!(caller.request("ask.x", "").is_no_responders());
        }
        let mut responder = Client::connect_as(cluster.address(home), A);
        responder.subscribe("help.x");
        cluster.settle([&mut responder]);
        for (from, caller) in callers.iter_mut().enumerate() {
            let reply = format!("answers.{from}");
            let answers = caller.subscribe(&reply);
            caller.publish_with("ask.x", Some(&reply), b"", from.to_string());
            caller.flush();
            let request = responder.next_message();
            let reply = request.reply.as_deref().expect("a request");
            responder.publish(reply, request.text());
            responder.flush();
            assert_eq!(caller.next_message().text(), from.to_string());
            caller.unsubscribe(answers, None);
        }
        drop(responder);
        for node in 0..cluster.len() {
            cluster.wait_for_interest(node, A, "help.x", false);
        }
    }
    for caller in &mut callers {
        assert!(caller.request("ask.x", "").is_no_responders());
    }
    expect_nothing_more(&mut cluster, &mut callers);
}

/// Members of a group of A on all servers: each request of B gets one answer.
fn a_group_answers_for_another_account(kinds: &[Kind]) {
    const REQUESTS: usize = 60;
    let mut cluster = complete(Plan::of(kinds).server(SHARING).logins(&[A, B]));
    let mut responders = clients(&cluster, A);
    for responder in &mut responders {
        responder.queue_subscribe("help.*", "crew");
    }
    cluster.settle(&mut responders);
    for node in 0..cluster.len() {
        let mut caller = Client::connect_as(cluster.address(node), B);
        caller.subscribe("answers.*");
        cluster.settle([&mut caller]);
        for number in 0..REQUESTS {
            let reply = format!("answers.{number}");
            caller.publish_with("ask.x", Some(&reply), b"", number.to_string());
        }
        caller.round_trip();
        cluster.settle(&mut responders);
        for responder in &mut responders {
            for request in responder.take_messages() {
                let reply = request.reply.as_deref().expect("a request");
                responder.publish(reply, request.text());
            }
            responder.round_trip();
        }
        let mut answers: Vec<usize> = (0..REQUESTS)
            .map(|_| {
                let answer = caller.next_message();
                assert_eq!(answer.subject, format!("answers.{}", answer.text()));
                answer.text().parse().expect("a number")
            })
            .collect();
        answers.sort_unstable();
        assert!(answers.into_iter().eq(0..REQUESTS), "each once");
        expect_nothing_more(&mut cluster, [&mut caller]);
    }
}

const C: Login = Login::user("c", "pw");

/// A answers, B offers what A answers as its own and does nothing, C asks; the first request of an answer of several.
fn a_service_of_a_service(kinds: &[Kind]) {
    const CHAIN: &str = "accounts {
  A { users: [ {user: a, password: pw} ]
      exports: [ {service: \"help.*\", response_type: stream} ] }
  B { users: [ {user: b, password: pw} ]
      imports: [ {service: {account: A, subject: \"help.*\"}, to: \"ask.*\"} ]
      exports: [ {service: \"ask.*\", response_type: stream} ] }
  C { users: [ {user: c, password: pw} ]
      imports: [ {service: {account: B, subject: \"ask.*\"}, to: \"please.*\"} ] }
}";
    const ANSWERS: usize = 5;
    let mut cluster = complete(Plan::of(kinds).server(CHAIN).logins(&[A, B, C]));
    let mut strangers = clients(&cluster, B);
    for stranger in &mut strangers {
        stranger.subscribe("answers");
    }
    cluster.settle(&mut strangers);
    for (from, to) in cluster.pairs() {
        let subject = format!("help.{from}-{to}");
        let mut responder = Client::connect_as(cluster.address(to), A);
        responder.subscribe(&subject);
        let mut caller = Client::connect_as(cluster.address(from), C);
        caller.subscribe("answers");
        cluster.settle([&mut responder, &mut caller]);
        let asked = subject.replace("help", "please");
        caller.publish_with(&asked, Some("answers"), b"", "how many?");
        caller.flush();
        let request = responder.next_message();
        assert_eq!(
            (request.subject.as_str(), request.text()),
            (subject.as_str(), "how many?")
        );
        let reply = request.reply.as_deref().expect("a request");
        for number in 0..ANSWERS {
            responder.publish(reply, number.to_string());
        }
        responder.round_trip();
        for number in 0..ANSWERS {
            let answer = caller.next_message();
            assert_eq!(
                (answer.subject.as_str(), answer.text()),
                ("answers", number.to_string().as_str())
            );
        }
        expect_nothing_more(&mut cluster, [&mut caller, &mut responder]);
    }
    expect_nothing_more(&mut cluster, &mut strangers);
}

/// B lets those who answer know who asks: also on other servers, and of which server.
fn who_asks_is_told(kinds: &[Kind]) {
    let shared = SHARING.replace("to: \"ask.*\"", "to: \"ask.*\", share: true");
    let mut cluster = complete(Plan::of(kinds).server(&shared).logins(&[A, B]));
    for (from, to) in cluster.pairs() {
        let mut responder = Client::connect_as(cluster.address(to), A);
        responder.subscribe("help.me");
        cluster.settle([&mut responder]);
        let mut caller = Client::connect_as(cluster.address(from), B);
        caller.publish_with(
            "ask.me",
            Some("answers"),
            b"NATS/1.0\r\nX: y\r\n\r\n",
            "now",
        );
        caller.round_trip();
        let request = responder.next_message();
        assert_eq!(request.text(), "now");
        let headers = String::from_utf8_lossy(&request.headers).into_owned();
        let told = headers
            .lines()
            .find_map(|line| line.strip_prefix("Nats-Request-Info:"))
            .unwrap_or_else(|| panic!("nobody says who asks: {headers}"));
        let told: Value = serde_json::from_str(told.trim()).expect("JSON");
        assert_eq!(
            (&told["acc"], &told["user"], &told["server"]),
            (&json!("B"), &json!("b"), &json!(format!("node-{from}"))),
            "{told}"
        );
        assert!(headers.contains("X: y"), "{headers}");
        drop(responder);
        for node in 0..cluster.len() {
            cluster.wait_for_interest(node, A, "help.me", false);
        }
    }
}

/// How long answers take is told by the server of who asks, once for each request, to A on each server; with what the server
/// of who answers has measured, if it is another one.
fn latencies_are_told(kinds: &[Kind]) {
    const REQUESTS: usize = 5;
    let measured = SHARING.replace(
        "{service: \"help.*\"}",
        "{service: \"help.*\", latency: {sampling: 100, subject: measured}}",
    );
    let mut cluster = complete(Plan::of(kinds).server(&measured).logins(&[A, B]));
    let mut meters = clients(&cluster, A);
    for meter in &mut meters {
        meter.subscribe("measured");
    }
    cluster.settle(&mut meters);
    let mut responders = clients(&cluster, A);
    for (node, responder) in responders.iter_mut().enumerate() {
        responder.subscribe(&format!("help.{node}"));
    }
    cluster.settle(&mut responders);
    for from in 0..cluster.len() {
        let mut caller = Client::connect_as(cluster.address(from), B);
        caller.subscribe("answers");
        cluster.settle([&mut caller]);
        for (to, responder) in responders.iter_mut().enumerate() {
            // Servers tell each other what they have measured by subscriptions of their own, which take their time to be known.
            let known = ask_until(PATIENCE, || {
                let reports = ask_measured(&mut caller, responder, to, &mut meters);
                let is_whole = |report: &Value| !report["responder"].is_null();
                reports.iter().all(is_whole).then_some(())
            });
            assert!(
                known.is_some(),
                "{to} does not tell {from} what it has measured"
            );
            for _ in 0..REQUESTS {
                for report in ask_measured(&mut caller, responder, to, &mut meters) {
                    let kind = "io.nats.server.metric.v1.service_latency";
                    assert_eq!(
                        (
                            &report["type"],
                            &report["status"],
                            &report["requestor"]["acc"]
                        ),
                        (&json!(kind), &json!(200), &json!("B")),
                        "{report}"
                    );
                    let nanoseconds =
                        |part: &str| report[part].as_u64().expect("a number of nanoseconds");
                    let parts = nanoseconds("service") + nanoseconds("system");
                    assert!(nanoseconds("total") >= parts, "{report}");
                    let responder = &report["responder"];
                    assert_eq!(
                        (&responder["server"], &responder["acc"], &responder["user"]),
                        (&json!(format!("node-{to}")), &json!("A"), &json!("a")),
                        "{report}"
                    );
                }
            }
        }
    }
    expect_nothing_more(&mut cluster, &mut meters);
}

/// Asks once, and returns what each of `meters` is told of it.
fn ask_measured(
    caller: &mut Client,
    responder: &mut Client,
    to: usize,
    meters: &mut [Client],
) -> Vec<Value> {
    caller.publish_with(&format!("ask.{to}"), Some("answers"), b"", "");
    caller.flush();
    let request = responder.next_message();
    responder.publish(request.reply.as_deref().expect("a request"), "yes");
    responder.flush();
    assert_eq!(caller.next_message().text(), "yes");
    let report = |meter: &mut Client| {
        let message = meter.next_message();
        serde_json::from_str(message.text()).expect("JSON")
    };
    meters.iter_mut().map(report).collect()
}

/// A publishes on one server, B hears on another, under its own name for it, also where nobody of A is.
fn a_stream_of_another_is_anywhere(kinds: &[Kind]) {
    let cluster = complete(Plan::of(kinds).server(SHARING).logins(&[A, B]));
    for (from, to) in cluster.pairs() {
        let mut importer = Client::connect_as(cluster.address(to), B);
        importer.subscribe("from_a.news.>");
        importer.round_trip();
        // The subscription is announced as A's, which settling does not ask for.
        cluster.wait_for_interest(from, A, "news.probe", true);
        let mut publisher = Client::connect_as(cluster.address(from), A);
        for number in 0..20 {
            publisher.publish("news.today", number.to_string());
        }
        publisher.round_trip();
        assert_eq!(importer.next_message().subject, "from_a.news.probe");
        for number in 0..20 {
            let message = importer.next_message();
            assert_eq!(message.subject, "from_a.news.today");
            assert_eq!(message.text(), number.to_string());
        }
        drop(importer);
        cluster.wait_for_interest(from, A, "news.probe", false);
    }
}

fn clients(cluster: &Cluster, login: Login) -> Vec<Client> {
    (0..cluster.len())
        .map(|node| Client::connect_as(cluster.address(node), login))
        .collect()
}
