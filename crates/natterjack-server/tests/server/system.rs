//! The system account through clients' eyes: who hears of what, who may ask what, and that nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use natterjack_server::access::{AccountAccess, Credential, Permissions, SubjectRules, User};
use natterjack_server::{Access, ClientError, InProcessClient, Options, Server, Subscription};
use serde_json::{Value, json};
use testkit::Peer;
use tokio::time::timeout;

use crate::support::{PATIENCE, beside, options, quiet_peer, until};

fn user(name: &str) -> User {
    User {
        name: name.to_owned(),
        credential: Credential::Password("p".into()),
        ..User::default()
    }
}

fn account(name: &str, users: Vec<User>) -> AccountAccess {
    AccountAccess {
        name: name.to_owned(),
        users,
        ..AccountAccess::default()
    }
}

/// The system account is `S`, with the user `sys`; `A` and `B` have users of their names, and `A` one who may ask
/// little.
fn access() -> Access {
    let careful = User {
        permissions: Some(Permissions {
            publish: SubjectRules {
                allow: Some(vec!["$SYS.REQ.USER.INFO".to_owned()]),
                ..SubjectRules::default()
            },
            ..Permissions::default()
        }),
        ..user("careful")
    };
    Access {
        accounts: vec![
            account("S", vec![user("sys")]),
            account("A", vec![user("a"), careful]),
            account("B", vec![user("b")]),
        ],
        system_account: Some("S".to_owned()),
        ..Access::default()
    }
}

async fn start() -> Server {
    Server::start(Options {
        authorization: access(),
        ..options()
    })
    .await
    .expect("a server on a free port")
}

fn client(server: &Server, user: &str) -> InProcessClient {
    server.in_process_client_as(user).expect("it runs")
}

async fn next(events: &mut Subscription) -> (String, Value) {
    let message = timeout(PATIENCE, events.next()).await.expect("in time");
    let message = message.expect("the server is there");
    let body = serde_json::from_slice(&message.payload).expect("JSON");
    (message.subject, body)
}

async fn ask(client: &InProcessClient, subject: &str, payload: &str) -> Result<Value, ClientError> {
    let answer = client.request(subject, payload, PATIENCE).await?;
    Ok(serde_json::from_slice(&answer.payload).expect("JSON"))
}

fn log_in(server: &Server, name: &str, password: &str) -> Peer {
    let connect = json!({"verbose": false, "name": name, "user": name, "pass": password});
    let mut peer = Peer::connect(server.client_addr());
    peer.expect_info();
    peer.send(format!("CONNECT {connect}\r\n"));
    peer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_system_account_hears_of_clients_and_nobody_else_does() {
    let server = Arc::new(start().await);
    let operator = client(&server, "sys");
    let other = client(&server, "b");
    let mut overheard = other.subscribe("$SYS.>").await.expect("subscribed");
    other.flush().await.expect("there");
    let mut events = operator
        .subscribe("$SYS.ACCOUNT.*.*")
        .await
        .expect("subscribed");
    operator.flush().await.expect("there");
    let mut failures = operator
        .subscribe("$SYS.SERVER.*.CLIENT.AUTH.ERR")
        .await
        .expect("subscribed");
    operator.flush().await.expect("there");

    let clients = Arc::clone(&server);
    beside(move || {
        let mut peer = log_in(&clients, "a", "p");
        peer.send("SUB x 1\r\nPUB x 3\r\nabc\r\n");
        peer.expect("MSG x 1 3\r\nabc\r\n");
        peer.ping_pong();
    })
    .await;
    let (subject, body) = next(&mut events).await;
    assert_eq!(subject, "$SYS.ACCOUNT.A.CONNECT");
    assert_eq!(body["client"]["user"], "a");
    assert_eq!(body["server"]["id"], server.server_id());
    let (subject, body) = next(&mut events).await;
    assert_eq!(subject, "$SYS.ACCOUNT.A.DISCONNECT");
    assert_eq!(
        (&body["sent"], &body["received"]),
        (
            &json!({"msgs": 1, "bytes": 3}),
            &json!({"msgs": 1, "bytes": 3})
        )
    );
    assert_eq!(body["reason"], "Client Closed");

    let clients = Arc::clone(&server);
    beside(move || {
        let mut peer = log_in(&clients, "a", "wrong");
        peer.expect_error("Authorization Violation");
    })
    .await;
    let (_, body) = next(&mut failures).await;
    assert_eq!(body["reason"], "Authentication Failure");

    // What others publish there stays with them.
    other
        .publish("$SYS.ACCOUNT.A.CONNECT", "forged")
        .await
        .expect("published");
    other.flush().await.expect("there");
    let heard = overheard.next().await.expect("its own");
    assert_eq!(heard.payload, "forged");
    let (subject, body) = next(&mut events).await;
    assert_eq!(subject, "$SYS.ACCOUNT.$G.DISCONNECT");
    assert_eq!(body["client"]["user"], "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_itself_is_no_client() {
    let server = start().await;
    let operator = client(&server, "sys");
    operator.flush().await.expect("there");
    assert_eq!(server.connections(), 1);
    assert_eq!(server.subscriptions(), 0);
    let varz = ask(&operator, "$SYS.REQ.SERVER.PING.VARZ", "").await;
    let varz = varz.expect("answered");
    assert_eq!(varz["data"]["connections"], 1);
    assert_eq!(varz["data"]["total_connections"], 1);
    // The request that was on its way when this was counted was delivered to no client.
    assert_eq!(varz["data"]["in_msgs"], 1);
    assert_eq!(varz["data"]["out_msgs"], 0);
    let connections = ask(&operator, "$SYS.REQ.SERVER.PING.CONNZ", "").await;
    assert_eq!(connections.expect("answered")["data"]["total"], 1);
    let accounts = ask(&operator, "$SYS.REQ.ACCOUNT.S.STATZ", "").await;
    let accounts = accounts.expect("answered");
    assert_eq!(accounts["data"]["account_statz"][0]["conns"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_account_may_ask_about_itself_alone() {
    let server = start().await;
    let (a, b) = (client(&server, "a"), client(&server, "b"));
    b.flush().await.expect("there");
    for subject in ["$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ"] {
        let page = ask(&a, subject, r#"{"acc":"B","auth":true}"#).await;
        let page = page.expect("answered");
        assert_eq!(page["data"]["total"], 1, "{page}");
        assert_eq!(page["data"]["connections"][0]["account"], "A");
    }
    let page = ask(&a, "$SYS.REQ.ACCOUNT.PING.STATZ", r#"{"accounts":["B"]}"#).await;
    let page = page.expect("answered");
    assert_eq!(page["data"]["account_statz"][0]["acc"], "A");
    assert_eq!(page["data"]["account_statz"][1], Value::Null);
    let page = ask(&b, "$SYS.REQ.USER.INFO", "").await.expect("answered");
    assert_eq!(
        page["data"],
        json!({"user": "b", "account": "B", "account_name": "B"})
    );
    for subject in ["$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.VARZ"] {
        assert_eq!(
            ask(&a, subject, "").await,
            Err(ClientError::NoResponders),
            "{subject}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_asked_is_what_may_be_published() {
    let server = Arc::new(start().await);
    let peers = Arc::clone(&server);
    beside(move || {
        let mut peer = log_in(&peers, "careful", "p");
        peer.send("SUB answer 1\r\nPUB $SYS.REQ.SERVER.PING.CONNZ answer 0\r\n\r\n");
        peer.expect_error("Permissions Violation for Publish to \"$SYS.REQ.SERVER.PING.CONNZ\"");
        peer.send("PUB $SYS.REQ.USER.INFO answer 0\r\n\r\n");
        peer.expect("MSG answer 1 ");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_heard_in_the_account_that_asked_and_in_no_other() {
    let server = start().await;
    let (a, b, operator) = (
        client(&server, "a"),
        client(&server, "b"),
        client(&server, "sys"),
    );
    let mut elsewhere = [
        b.subscribe("answer").await.expect("subscribed"),
        operator.subscribe("answer").await.expect("subscribed"),
    ];
    b.flush().await.expect("there");
    operator.flush().await.expect("there");
    let mut here = a.subscribe("answer").await.expect("subscribed");
    a.publish_message("$SYS.REQ.USER.INFO", Some("answer"), &[], b"")
        .await
        .expect("published");
    let (_, body) = next(&mut here).await;
    assert_eq!(body["data"]["user"], "a");
    // The answer was delivered before; whatever came with it would be there too.
    for (listener, client) in elsewhere.iter_mut().zip([&b, &operator]) {
        client.publish("answer", "{}").await.expect("published");
        assert_eq!(next(listener).await.1, json!({}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_the_programs_to_do() {
    let server = start().await;
    let operator = client(&server, "sys");
    let subject = format!("$SYS.REQ.SERVER.{}.RELOAD", server.server_id());
    let answer = ask(&operator, &subject, "").await.expect("answered");
    assert_eq!(answer["error"]["code"], 500);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    server.on_reload_request(move || {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            if call == 0 {
                Ok(())
            } else {
                Err("not again".to_owned())
            }
        }
    });
    let answer = ask(&operator, &subject, "").await.expect("answered");
    assert_eq!(answer["error"], Value::Null);
    let answer = ask(&operator, &subject, "").await.expect("answered");
    assert_eq!(answer["error"]["description"], "not again");
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_says_so_before_it_closes_its_connections() {
    let server = start().await;
    let operator = client(&server, "sys");
    let mut events = operator
        .subscribe("$SYS.SERVER.*.*")
        .await
        .expect("subscribed");
    operator.flush().await.expect("there");
    server.shutdown().await;
    let mut subjects = Vec::new();
    while let Some(event) = timeout(PATIENCE, events.next()).await.expect("in time") {
        subjects.push(event.subject);
    }
    let expected = format!("$SYS.SERVER.{}.SHUTDOWN", server.server_id());
    assert_eq!(subjects.last(), Some(&expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_come_by_themselves_and_when_asked_for() {
    let server = start().await;
    let operator = client(&server, "sys");
    let mut events = operator
        .subscribe("$SYS.SERVER.*.STATSZ")
        .await
        .expect("subscribed");
    let (_, body) = next(&mut events).await;
    assert_eq!(body["statsz"]["connections"], 1);
    assert_eq!(body["statsz"]["active_servers"], 1);
    let first = body["server"]["seq"].as_u64();
    // Without an address for the answer everybody is to hear it.
    operator
        .publish("$SYS.REQ.SERVER.PING", "")
        .await
        .expect("published");
    let (_, body) = next(&mut events).await;
    assert!(body["server"]["seq"].as_u64() > first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_system_account_keeps_silent() {
    let server = Server::start(Options {
        no_system_account: true,
        ..options()
    })
    .await
    .expect("a server on a free port");
    assert_eq!(server.varz().subscriptions, 0);
    let client = server.in_process_client().expect("it runs");
    for subject in ["$SYS.REQ.USER.INFO", "$SYS.REQ.SERVER.PING.CONNZ"] {
        assert_eq!(
            ask(&client, subject, "").await,
            Err(ClientError::NoResponders)
        );
    }
    server.on_reload_request(|| async { Ok(()) });
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_does_not_listen_holds_up_nobody() {
    let server = Arc::new(
        Server::start(Options {
            authorization: access(),
            max_pending: 64 * 1024,
            max_payload: 16 * 1024,
            ..options()
        })
        .await
        .expect("a server on a free port"),
    );
    // A raw connection whose other end is never read.
    let peers = Arc::clone(&server);
    beside(move || {
        let mut deaf = log_in(&peers, "sys", "p");
        deaf.send("SUB $SYS.> 1\r\n");
        deaf.ping_pong();
        for _ in 0..1000 {
            let mut peer = log_in(&peers, "a", "p");
            peer.ping_pong();
        }
        let mut asking = log_in(&peers, "b", "p");
        asking.ping_pong();
        drop(asking);
        drop(deaf);
    })
    .await;
    let a = client(&server, "a");
    let page = ask(&a, "$SYS.REQ.USER.INFO", "").await.expect("answered");
    assert_eq!(page["data"]["user"], "a");
    until("all have gone", || server.connections() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_accounts_can_ask_too() {
    let server = Arc::new(crate::support::start().await);
    let peers = Arc::clone(&server);
    beside(move || {
        let mut peer = quiet_peer(&peers);
        peer.send("SUB answer 1\r\nPUB $SYS.REQ.USER.INFO answer 0\r\n\r\n");
        peer.expect("MSG answer 1 ");
    })
    .await;
}
