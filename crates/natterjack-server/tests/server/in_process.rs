//! The client without a socket.

use std::time::Duration;

use natterjack_server::access::{AccountAccess, AccountLimits, Credential, User};
use natterjack_server::{Access, ClientError, Options, Server};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use crate::support::{PATIENCE, beside, options, quiet_peer, start, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_and_subscribe_within_and_across() {
    let server = start().await;
    let client = server.in_process_client().expect("a client");
    let mut all = client.subscribe("a.*").await.expect("subscribed");
    client.flush().await.expect("flushed");
    let mut peer = quiet_peer(&server);
    let headers = [
        ("Key".to_owned(), "one".to_owned()),
        ("Key".to_owned(), "two".to_owned()),
    ];
    client
        .publish_message("a.b", Some("r"), &headers, b"hi")
        .await
        .expect("published");
    client
        .flush()
        .await
        .expect("handled before the peer publishes");
    beside(move || {
        peer.send("PUB a.c 4\r\n\r\n\r\n\r\n");
        peer.ping_pong();
    })
    .await;
    let first = all.next().await.expect("a message");
    assert_eq!(
        (first.subject.as_str(), first.reply.as_deref()),
        ("a.b", Some("r"))
    );
    assert_eq!(first.headers, headers);
    assert_eq!(&first.payload[..], b"hi");
    let second = all.next().await.expect("a message");
    assert_eq!(
        (second.subject.as_str(), &second.payload[..]),
        ("a.c", &b"\r\n\r\n"[..])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_or_refused() {
    let server = start().await;
    let client = server.in_process_client().expect("a client");
    let mut questions = client
        .queue_subscribe("ask", "q")
        .await
        .expect("subscribed");
    let answering = client.clone();
    let answerer = tokio::spawn(async move {
        let question = questions.next().await.expect("a question");
        let reply = question.reply.expect("a reply subject");
        answering
            .publish(&reply, question.payload)
            .await
            .expect("answered");
        questions
    });
    let answer = client
        .request("ask", "42", PATIENCE)
        .await
        .expect("an answer");
    assert_eq!(&answer.payload[..], b"42");
    let questions = answerer.await.expect("no panic");
    let unanswered = client.request("ask", "43", Duration::from_millis(50)).await;
    assert_eq!(unanswered, Err(ClientError::TimedOut));
    drop(questions);
    client.flush().await.expect("flushed");
    assert_eq!(
        client.request("ask", "44", PATIENCE).await,
        Err(ClientError::NoResponders)
    );
    until("nothing is subscribed any more", || {
        server.subscriptions() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_before_it_is_sent() {
    let server = start().await;
    let client = server.in_process_client().expect("a client");
    for subject in ["", "a b", "a\r\nPUB b 0"] {
        let refused = client.publish(subject, "").await;
        assert_eq!(
            refused,
            Err(ClientError::InvalidSubject(subject.to_owned()))
        );
    }
    assert!(matches!(
        client.subscribe("a..b").await,
        Err(ClientError::InvalidSubject(_))
    ));
    let bad_header = [("a".to_owned(), "x\r\ny".to_owned())];
    let refused = client.publish_message("a", None, &bad_header, b"").await;
    assert_eq!(refused, Err(ClientError::InvalidHeader("a".to_owned())));
    let refused = client.publish("a", vec![0; 1024 * 1024 + 1]).await;
    assert_eq!(
        refused,
        Err(ClientError::PayloadTooLarge {
            size: 1024 * 1024 + 1,
            max: 1024 * 1024
        })
    );
    client.flush().await.expect("the connection is fine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_behind_loses_nothing() {
    const MESSAGES: usize = 50_000;
    let server = start().await;
    let client = server.in_process_client().expect("a client");
    let publisher = server.in_process_client().expect("a client");
    let mut messages = client.subscribe("a").await.expect("subscribed");
    client.flush().await.expect("flushed");
    let publishing = tokio::spawn(async move {
        for number in 0..MESSAGES {
            publisher
                .publish("a", number.to_string())
                .await
                .expect("published");
        }
        publisher.flush().await.expect("flushed");
    });
    let reading = async {
        for number in 0..MESSAGES {
            let message = messages.next().await.expect("a message");
            assert_eq!(message.payload, number.to_string());
        }
    };
    timeout(PATIENCE * 3, reading).await.expect("all messages");
    publishing.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_calls_end_with_the_server() {
    let server = start().await;
    let client = server.in_process_client().expect("a client");
    let mut messages = client.subscribe("a").await.expect("subscribed");
    client.publish("a", "last").await.expect("published");
    client.flush().await.expect("flushed");
    server.shutdown().await;
    assert_eq!(
        messages.next().await.map(|message| message.payload),
        Some("last".into())
    );
    assert_eq!(messages.next().await, None);
    assert_eq!(
        client.publish("a", "").await,
        Err(ClientError::ServerStopped)
    );
    assert_eq!(client.flush().await, Err(ClientError::ServerStopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_connection_speaks_the_protocol() {
    let server = start().await;
    let mut lines = BufReader::new(server.in_process_connection().expect("a connection"));
    let mut line = String::new();
    lines.read_line(&mut line).await.expect("a line");
    assert!(line.starts_with("INFO {"), "{line}");
    lines
        .write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")
        .await
        .expect("written");
    line.clear();
    lines.read_line(&mut line).await.expect("a line");
    assert_eq!(line, "PONG\r\n");
    lines.shutdown().await.expect("our side closed");
    line.clear();
    assert_eq!(lines.read_line(&mut line).await.expect("an end"), 0);
    until("the connection is gone", || server.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_dropped_leaves_nothing_behind() {
    let server = start().await;
    let clients: Vec<_> = (0..50)
        .map(|_| server.in_process_client().expect("a client"))
        .collect();
    for client in &clients {
        drop(client.subscribe("a").await.expect("subscribed"));
        let kept = client.subscribe("b").await.expect("subscribed");
        client.flush().await.expect("flushed");
        drop(kept);
    }
    until("dropped subscriptions are gone", || {
        server.subscriptions() == 0
    })
    .await;
    assert_eq!(server.connections(), 50);
    drop(clients);
    until("dropped clients are gone", || server.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_logs_in_at_once_and_refuses_endless_subjects() {
    let server = Server::start(Options {
        authorization: Access::token("s3cret"),
        auth_timeout: Duration::from_millis(50),
        ..options()
    })
    .await
    .expect("a server");
    let client = server.in_process_client().expect("a client");
    // A second client that is older than the timeout once the first has seen it pass.
    let raw = server.in_process_connection().expect("a connection");
    let mut lines = BufReader::new(raw).lines();
    let mut last = String::new();
    while let Some(line) = lines.next_line().await.expect("a line") {
        last = line;
    }
    assert_eq!(last, "-ERR 'Authentication Timeout'");
    client.flush().await.expect("still logged in");
    let refused = client.publish("x".repeat(5000), "").await;
    assert!(
        matches!(refused, Err(ClientError::SubjectTooLong { .. })),
        "{refused:?}"
    );
    client.flush().await.expect("still connected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_are_called_in_the_order_of_sending_whatever_the_size() {
    let server = start().await;
    let client = server.in_process_client().expect("a client");
    let (seen, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let mut listeners = Vec::new();
    for subject in ["odd", "even.*"] {
        let seen = seen.clone();
        let listen = client.listen(subject, move |message| {
            let headers: Vec<_> = message
                .headers()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect();
            let reply = message.reply().map(<[u8]>::to_vec);
            // Nobody listens any more once the test has failed.
            let _ = seen.send((
                message.subject().to_vec(),
                reply,
                headers,
                message.payload().len(),
            ));
        });
        listeners.push(listen.await.expect("a listener"));
    }
    drop(seen);
    // More than the server holds for this client, so that there is no room now and then.
    let large = vec![b'x'; 1_000_000];
    for number in 0..100 {
        let (subject, reply) = if number % 2 == 1 {
            ("odd", None)
        } else {
            ("even.0", Some("answers"))
        };
        let headers: &[_] = if number % 4 == 0 {
            &[("Key", "v")]
        } else {
            &[]
        };
        let payload = &large[..number * 10_000];
        while !client
            .try_publish(subject, reply, headers, payload)
            .expect("it may be published")
        {
            timeout(PATIENCE, client.writable()).await.expect("room");
        }
    }
    timeout(PATIENCE, client.writable())
        .await
        .expect("all is written");
    for number in 0..100_usize {
        let (subject, reply, headers, length) = timeout(PATIENCE, calls.recv())
            .await
            .expect("in time")
            .expect("a message");
        assert_eq!(
            subject,
            if number % 2 == 1 {
                &b"odd"[..]
            } else {
                b"even.0"
            }
        );
        assert_eq!(reply.is_some(), number % 2 == 0);
        assert_eq!(headers.len(), usize::from(number % 4 == 0));
        assert_eq!(length, number * 10_000);
    }
    let refused = client.try_publish("odd", None, &[("a b", "c")], b"");
    assert!(matches!(refused, Err(ClientError::InvalidHeader(_))));
    let too_large = vec![b'x'; client.payload_bytes_max() + 1];
    let refused = client.try_publish("odd", None, &[], &too_large);
    assert!(matches!(refused, Err(ClientError::PayloadTooLarge { .. })));
    listeners.clear();
    until("they are unsubscribed", || server.subscriptions() == 0).await;
    timeout(PATIENCE, server.shutdown()).await.expect("stopped");
    assert!(calls.recv().await.is_none(), "what they held is let go");
}

/// How much it may publish is what its account may, from its first message on, and what that is after a reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_as_long_as_the_account_and_a_reload_say() {
    let user = User {
        name: "app".to_owned(),
        credential: Credential::Password("secret".into()),
        ..User::default()
    };
    let limited = |max_payload, of_account| Options {
        max_payload,
        authorization: Access {
            accounts: vec![AccountAccess {
                name: "A".to_owned(),
                users: vec![user.clone()],
                limits: AccountLimits {
                    payload_bytes_max: Some(of_account),
                    ..AccountLimits::default()
                },
                ..AccountAccess::default()
            }],
            ..Access::default()
        },
        ..options()
    };
    let server = Server::start(limited(1000, 100)).await.expect("a server");
    let client = server.in_process_client_as("app").expect("a client");
    let all = server.in_process_client().expect("a client");
    let refused = client.publish("a", vec![b'x'; 101]).await;
    let too_large = |size, max| Err(ClientError::PayloadTooLarge { size, max });
    assert_eq!(refused, too_large(101, 100));
    for (of_server, of_account) in [(1000, 50), (40, 50), (2000, 1500)] {
        let new = limited(of_server, of_account);
        server.reload(new).await.expect("reloaded");
        let max = of_server.min(usize::try_from(of_account).expect("not negative"));
        until("both are told", || {
            client.payload_bytes_max() == max && all.payload_bytes_max() == of_server
        })
        .await;
        let refused = client.publish("a", vec![b'x'; max + 1]).await;
        assert_eq!(refused, too_large(max + 1, max));
        client.publish("a", vec![b'x'; max]).await.expect("taken");
        client.flush().await.expect("still there");
        all.flush().await.expect("still there");
    }
}
