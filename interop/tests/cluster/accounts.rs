//! Accounts that spread over servers: apart from each other, but for what one lets another have.

use testkit::Kind;
use testkit::cluster::{Client, Cluster, Login, Plan};

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
