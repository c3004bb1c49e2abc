//! Who is found, who is asked, how, and who answers.

use std::time::Duration;

use natterjack_choria::client::{ClientError, Limit, Ping};
use natterjack_choria::filter::{Filter, FilterError};
use natterjack_choria::rpc::Status;
use serde_json::json;

use crate::support::{PATIENCE, RIP, World, call, listen};

/// For what ends with its time alone. Others must have answered by then.
const SHORT: Duration = Duration::from_secs(8);

const ALL: [&str; 3] = ["n1.example.net", "n2.example.net", "n3.example.net"];

fn identities(names: &[&str]) -> Filter {
    Filter {
        identity: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Filter::default()
    }
}

fn fact(text: &str) -> Filter {
    Filter {
        fact: vec![text.parse().unwrap()],
        ..Filter::default()
    }
}

/// As long as it takes, but no longer than so many answers.
fn ping(filter: Filter, answers: usize) -> Ping {
    Ping {
        filter,
        timeout: Some(PATIENCE),
        answers_max: Some(answers),
        ..Ping::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_are_meant_answer_a_ping() {
    let world = World::new().await;
    let fleet = world.fleet().await;
    let mut client = world.client(RIP).await;
    let told = listen(client.ping(ping(Filter::default(), 3))).await;
    assert_eq!(told.discovered.unwrap(), ALL);
    let told = listen(client.ping(ping(fact("os.family=debian"), 2))).await;
    assert_eq!(told.discovered.unwrap(), ALL[..2]);
    let told = listen(client.ping(ping(fact("processors>=8"), 2))).await;
    assert_eq!(told.discovered.unwrap(), ALL[1..]);
    let class = Filter {
        cf_class: vec!["web".into(), "db".into()],
        ..Filter::default()
    };
    let told = listen(client.ping(ping(class, 1))).await;
    assert_eq!(told.discovered.unwrap(), ALL[1..2]);

    // Who is named is waited for, and for nobody else.
    let named = Ping {
        filter: identities(&[ALL[0], ALL[2]]),
        timeout: Some(PATIENCE),
        ..Ping::default()
    };
    let told = listen(client.ping(named)).await;
    assert_eq!(told.discovered.unwrap(), [ALL[0], ALL[2]]);
    assert!(told.outcome.missing.is_empty());
    for node in fleet {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_are_asked_one_by_one_and_many_share_a_request() {
    let world = World::new().await;
    let _fleet = world.fleet().await;
    for (nodes_max, is_directed) in [(10, true), (3, true), (2, false), (0, false)] {
        let mut client = world
            .client_with(RIP, |options| options.direct_nodes_max = nodes_max)
            .await;
        let told = listen(client.call(call("rpcutil", "ping", json!({})))).await;
        assert_eq!(told.discovered.as_deref().unwrap(), ALL);
        assert_eq!(told.is_directed, Some(is_directed));
        assert_eq!(told.names(), ALL);
        assert!(
            told.answers
                .values()
                .all(|reply| reply.data.contains_key("pong"))
        );
        assert!(told.outcome.missing.is_empty() && told.outcome.unexpected.is_empty());
        client.connector().disconnect().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_named_need_not_be_found() {
    let world = World::new().await;
    let fleet = world.fleet().await;
    let mut client = world.client(RIP).await;
    let mut one = call("rpcutil", "get_fact", json!({"fact": "os.family"}));
    one.filter = identities(&ALL[2..]);
    let told = listen(client.call(one)).await;
    assert_eq!(told.discovered, None);
    assert_eq!(told.is_directed, Some(true));
    assert_eq!(told.answers[ALL[2]].data["value"], "RedHat");
    assert_eq!(fleet[0].node.statistics().total, 0);

    let mut list = call("rpcutil", "ping", json!({}));
    list.filter = identities(&[ALL[1], "none.example.net", ALL[0], ALL[1]]);
    list.timeout = SHORT;
    let told = listen(client.call(list)).await;
    assert_eq!(
        told.asked.as_deref().unwrap(),
        [ALL[0], ALL[1], "none.example.net"]
    );
    assert_eq!(told.names(), ALL[..2]);
    let missing: Vec<_> = told
        .outcome
        .missing
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(missing, ["none.example.net"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_chooses() {
    let world = World::new().await;
    let fleet = world.fleet().await;
    let mut client = world.client(RIP).await;
    let mut limited = call("rpcutil", "ping", json!({}));
    limited.limit = Some(Limit::Nodes(2));
    let told = listen(client.call(limited)).await;
    assert_eq!(told.discovered.unwrap(), ALL);
    assert_eq!((told.answers.len(), told.is_directed), (2, Some(true)));
    let asked: u64 = fleet.iter().map(|node| node.node.statistics().total).sum();
    assert_eq!(asked, 3 + 2, "a ping each, and two requests");

    let mut client = world
        .client_with(RIP, |options| options.direct_nodes_max = 0)
        .await;
    let mut limited = call("rpcutil", "ping", json!({}));
    limited.limit = Some(Limit::Percent(50));
    let refused = client.call(limited).next().await.unwrap();
    assert!(matches!(refused, Err(ClientError::LimitNeedsDirect)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_if_nobody_is_there() {
    let world = World::new().await;
    let _fleet = world.fleet().await;
    let mut client = world.client(RIP).await;
    let mut nobody = call("rpcutil", "ping", json!({}));
    nobody.discovery_timeout = Some(Duration::from_secs(1));
    nobody.filter = fact("os.family=Plan9");
    let told = listen(client.call(nobody)).await;
    assert_eq!((told.discovered, told.is_directed), (Some(vec![]), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_node_could_tell_is_refused_before() {
    let world = World::new().await;
    let mut client = world.client(RIP).await;
    let filter = Filter {
        compound: vec![json!([{"statement": "web"}])],
        ..Filter::default()
    };
    let mut run = client.ping(ping(filter, 1));
    let refused = run.next().await.unwrap();
    assert!(matches!(
        refused,
        Err(ClientError::Filter(FilterError::Compound))
    ));
    assert!(run.next().await.is_none());
    let elsewhere = Ping {
        collective: Some("eu".into()),
        ..Ping::default()
    };
    let refused = client.ping(elsewhere).next().await.unwrap();
    assert!(matches!(refused, Err(ClientError::Target(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_cannot_do_they_say() {
    let world = World::new().await;
    let _fleet = world.fleet().await;
    let mut client = world.client(RIP).await;
    let mut dance = call("rpcutil", "dance", json!({}));
    dance.filter = identities(&ALL);
    let told = listen(client.call(dance)).await;
    assert_eq!(told.answers.len(), 3);
    for reply in told.answers.values() {
        assert_eq!(reply.status, Status::UnknownAction);
        assert_eq!(reply.message, "Unknown action 'dance' for agent 'rpcutil'");
    }
}
