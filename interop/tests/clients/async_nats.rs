//! The scenarios as async-nats plays them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, Message, Request, RequestErrorKind, Subscriber,
};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, SelectAll};
use testkit::{PATIENCE, ServerUnderTest};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a scenario may take.
const SCENARIO_TIME_MAX: Duration = Duration::from_secs(60);

pub(super) fn play(scenario: &str, server: &mut ServerUnderTest) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only memory and an epoll");
    runtime.block_on(async {
        let played = async {
            match scenario {
                "connect" => connect(server).await,
                "publish_subscribe" => publish_subscribe(server).await,
                "wildcards" => wildcards(server).await,
                "queue_groups" => queue_groups(server).await,
                "request_reply" => request_reply(server).await,
                "no_responders" => no_responders(server).await,
                "headers" => headers(server).await,
                "payload_limit" => payload_limit(server).await,
                "auto_unsubscribe" => auto_unsubscribe(server).await,
                "drain" => drain(server).await,
                "reconnect" => reconnect(server).await,
                "thousand_subscriptions" => thousand_subscriptions(server).await,
                "binary_payload" => binary_payload(server).await,
                other => panic!("no scenario is called {other}"),
            }
        };
        timeout(SCENARIO_TIME_MAX, played)
            .await
            .expect("the scenario did not end in time");
    });
}

async fn connect(server: &ServerUnderTest) {
    let client = connected(server).await;
    let info = client.server_info();
    assert!(!info.server_id.is_empty());
    assert!(info.headers, "the server says that it knows no headers");
    assert_eq!(info.max_payload, 1_048_576);
    assert_eq!(info.port, server.address().port());
    // The library decides by the version which features it may use.
    assert!(
        client.is_server_compatible(2, 11, 0),
        "version {}",
        info.version
    );
    settled(&client).await;
}

async fn publish_subscribe(server: &ServerUnderTest) {
    const MESSAGES: usize = 1_000;
    let (publisher, subscriber) = (connected(server).await, connected(server).await);
    let mut subscription = subscribed(&subscriber, "events").await;
    for number in 0..MESSAGES {
        publisher
            .publish("events", number.to_string().into())
            .await
            .expect("accepted");
    }
    for number in 0..MESSAGES {
        let message = next(&mut subscription).await;
        assert_eq!(
            message.payload,
            number.to_string(),
            "in the order of publishing"
        );
        assert_eq!(message.subject.as_str(), "events");
        assert!(message.reply.is_none() && message.headers.is_none());
    }
}

async fn wildcards(server: &ServerUnderTest) {
    let (publisher, subscriber) = (connected(server).await, connected(server).await);
    let mut star = subscribed(&subscriber, "a.*.c").await;
    let mut rest = subscribed(&subscriber, "a.>").await;
    let mut literal = subscribed(&subscriber, "a.b.c").await;
    for subject in ["a", "a.b", "a.b.c", "a.x.c", "a.b.c.d", "b.b.c", "a.end.c"] {
        publisher
            .publish(subject, subject.into())
            .await
            .expect("accepted");
    }
    publisher
        .publish("a.b.c", "last".into())
        .await
        .expect("accepted");
    assert_eq!(until_last(&mut star).await, ["a.b.c", "a.x.c", "a.end.c"]);
    assert_eq!(
        until_last(&mut rest).await,
        ["a.b", "a.b.c", "a.x.c", "a.b.c.d", "a.end.c"]
    );
    assert_eq!(until_last(&mut literal).await, ["a.b.c"]);
}

async fn queue_groups(server: &ServerUnderTest) {
    const MESSAGES: usize = 10_000;
    const MEMBERS: usize = 5;
    // A fair choice gives each member 2,000 with a standard deviation of 40. Six of those are left by chance once in a
    // hundred million runs.
    const FAIR: std::ops::RangeInclusive<usize> = 1_760..=2_240;

    let publisher = connected(server).await;
    let mut members = SelectAll::new();
    let mut clients = Vec::new();
    for member in 0..MEMBERS {
        let client = connected(server).await;
        let subscription = client
            .queue_subscribe("work", "crew".into())
            .await
            .expect("accepted");
        settled(&client).await;
        members.push(subscription.map(move |message| (member, message)));
        clients.push(client);
    }
    let mut witness = subscribed(&clients[0], "work").await;

    for number in 0..MESSAGES {
        publisher
            .publish("work", number.to_string().into())
            .await
            .expect("accepted");
    }
    publisher.flush().await.expect("connected");

    let mut shares = [0; MEMBERS];
    let mut seen = BTreeSet::new();
    for _ in 0..MESSAGES {
        let (member, message) = timeout(PATIENCE, members.next())
            .await
            .expect("in time")
            .expect("still subscribed");
        shares[member] += 1;
        assert!(
            seen.insert(text(&message)),
            "{} was delivered twice",
            text(&message)
        );
    }
    let outside: Vec<usize> = shares
        .into_iter()
        .filter(|share| !FAIR.contains(share))
        .collect();
    assert!(outside.is_empty(), "shares {shares:?} are not fair");
    for number in 0..MESSAGES {
        assert_eq!(
            next(&mut witness).await.payload,
            number.to_string(),
            "plain subscribers get all"
        );
    }
    // Whatever was sent twice would have arrived by now.
    for client in &clients {
        settled(client).await;
    }
    let extra = futures_util::FutureExt::now_or_never(members.next());
    assert!(extra.is_none(), "more than {MESSAGES} messages: {extra:?}");
}

async fn request_reply(server: &ServerUnderTest) {
    let (caller, service) = (connected(server).await, connected(server).await);
    let mut requests = subscribed(&service, "echo").await;
    let answering = async {
        for _ in 0..100 {
            let request = next(&mut requests).await;
            let reply = request.reply.expect("a request has a reply subject");
            let answer = [b"you said ", &request.payload[..]].concat();
            service
                .publish(reply, answer.into())
                .await
                .expect("accepted");
        }
    };
    let calling = async {
        for number in 0..100 {
            let answer = caller
                .request("echo", number.to_string().into())
                .await
                .expect("an answer");
            assert_eq!(text(&answer), format!("you said {number}"));
        }
    };
    tokio::join!(answering, calling);
}

async fn no_responders(server: &ServerUnderTest) {
    let client = connected(server).await;
    let error = client
        .request("nobody.home", "hello?".into())
        .await
        .expect_err("nobody is there");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders, "{error}");
}

async fn headers(server: &ServerUnderTest) {
    let (publisher, subscriber) = (connected(server).await, connected(server).await);
    let mut subscription = subscribed(&subscriber, "letters").await;
    let mut sent = HeaderMap::new();
    sent.append("Colour", "green");
    sent.append("Colour", "blue");
    sent.insert("Empty", "");
    sent.insert("cAsE", "kept");
    publisher
        .publish_with_headers("letters", sent.clone(), "with headers".into())
        .await
        .expect("accepted");
    publisher
        .publish_with_headers("letters", sent.clone(), Bytes::new())
        .await
        .expect("accepted");
    for payload in ["with headers", ""] {
        let message = next(&mut subscription).await;
        assert_eq!(text(&message), payload);
        let received = message.headers.expect("headers arrive");
        let colours: Vec<&str> = received
            .get_all("Colour")
            .map(|value| value.as_str())
            .collect();
        assert_eq!(colours, ["green", "blue"]);
        assert_eq!(received.get("Empty").map(|value| value.as_str()), Some(""));
        assert_eq!(received, sent);
    }
}

async fn payload_limit(server: &ServerUnderTest) {
    let client = connected(server).await;
    let mut subscription = subscribed(&client, "heavy").await;
    let largest = Bytes::from(pattern(client.max_payload()));
    assert_eq!(largest.len(), 1_048_576);
    client
        .publish("heavy", largest.clone())
        .await
        .expect("accepted");
    assert_eq!(next(&mut subscription).await.payload, largest);

    let too_large = Bytes::from(pattern(largest.len() + 1));
    let error = client
        .publish("heavy", too_large)
        .await
        .expect_err("one byte too many");
    assert_eq!(
        error.kind(),
        async_nats::PublishErrorKind::MaxPayloadExceeded,
        "{error}"
    );
    client
        .publish("heavy", "light".into())
        .await
        .expect("the connection lives on");
    assert_eq!(text(&next(&mut subscription).await), "light");
}

async fn auto_unsubscribe(server: &ServerUnderTest) {
    let (publisher, subscriber) = (connected(server).await, connected(server).await);
    let mut limited = subscriber.subscribe("events").await.expect("accepted");
    limited.unsubscribe_after(3).await.expect("accepted");
    settled(&subscriber).await;
    for number in 0..5 {
        publisher
            .publish("events", number.to_string().into())
            .await
            .expect("accepted");
    }
    for number in 0..3 {
        assert_eq!(text(&next(&mut limited).await), number.to_string());
    }
    let end = timeout(PATIENCE, limited.next())
        .await
        .expect("the subscription ends");
    assert!(end.is_none(), "a fourth message: {end:?}");
}

async fn drain(server: &ServerUnderTest) {
    const MESSAGES: usize = 500;
    const ATTEMPTS_MAX: usize = 50;
    const ATTEMPT_TIME: Duration = Duration::from_millis(200);
    let (publisher, subscriber) = (connected(server).await, connected(server).await);
    let mut subscription = subscribed(&subscriber, "events").await;
    for number in 0..MESSAGES {
        publisher
            .publish("events", number.to_string().into())
            .await
            .expect("accepted");
    }
    settled(&publisher).await;
    subscriber.drain().await.expect("connected");
    for number in 0..MESSAGES {
        assert_eq!(text(&next(&mut subscription).await), number.to_string());
    }
    let end = timeout(PATIENCE, subscription.next())
        .await
        .expect("the subscription ends");
    assert!(end.is_none(), "more than was published: {end:?}");
    // Soon the server knows no subscriber any more. The library does not wait for that: it flushes its UNSUB and ends, so a
    // first request may still be on the way to nobody.
    for _ in 0..ATTEMPTS_MAX {
        let request = Request::new()
            .payload("late".into())
            .timeout(Some(ATTEMPT_TIME));
        let error = publisher
            .send_request("events", request)
            .await
            .expect_err("nobody is left");
        match error.kind() {
            RequestErrorKind::NoResponders => return,
            RequestErrorKind::TimedOut => {}
            _ => panic!("{error}"),
        }
    }
    panic!("the server still delivers to a subscriber that has left");
}

async fn reconnect(server: &mut ServerUnderTest) {
    let (events, mut happened) = mpsc::unbounded_channel();
    let client = options()
        .event_callback(move |event| {
            let events = events.clone();
            async move {
                // Nobody listens any more once the test is over.
                let _ = events.send(event);
            }
        })
        .connect(server.url())
        .await
        .expect("the server accepts");
    let mut subscription = subscribed(&client, "events").await;
    client
        .publish("events", "before".into())
        .await
        .expect("accepted");
    assert_eq!(text(&next(&mut subscription).await), "before");
    let first_id = client.server_info().server_id;

    server.restart();

    let back = async {
        let mut disconnected = false;
        while let Some(event) = happened.recv().await {
            disconnected |= event == Event::Disconnected;
            if disconnected && event == Event::Connected {
                return;
            }
        }
        panic!("the client gave up");
    };
    timeout(PATIENCE, back)
        .await
        .expect("the client comes back");
    assert_ne!(
        client.server_info().server_id,
        first_id,
        "a new server has a new id"
    );
    client
        .publish("events", "after".into())
        .await
        .expect("accepted");
    assert_eq!(text(&next(&mut subscription).await), "after");
}

async fn thousand_subscriptions(server: &ServerUnderTest) {
    const SUBSCRIPTIONS: usize = 1_000;
    let (publisher, subscriber) = (connected(server).await, connected(server).await);
    let mut all = SelectAll::new();
    for number in 0..SUBSCRIPTIONS {
        let subject = format!("many.{number}");
        let subscription = subscriber
            .subscribe(subject.clone())
            .await
            .expect("accepted");
        all.push(subscription.zip(stream::repeat(subject)));
    }
    settled(&subscriber).await;
    for number in 0..SUBSCRIPTIONS {
        let subject = format!("many.{number}");
        publisher
            .publish(subject.clone(), subject.into())
            .await
            .expect("accepted");
    }
    settled(&publisher).await;
    let mut counts = BTreeMap::new();
    for _ in 0..SUBSCRIPTIONS {
        let (message, subject) = timeout(PATIENCE, all.next())
            .await
            .expect("in time")
            .expect("still subscribed");
        assert_eq!(
            (message.subject.as_str(), text(&message)),
            (subject.as_str(), subject.clone())
        );
        *counts.entry(subject).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), SUBSCRIPTIONS);
    settled(&subscriber).await;
    let extra = futures_util::FutureExt::now_or_never(all.next());
    assert!(extra.is_none(), "delivered twice: {extra:?}");
}

async fn binary_payload(server: &ServerUnderTest) {
    let client = connected(server).await;
    let mut subscription = subscribed(&client, "binary").await;
    let lookalike = b"\r\nMSG binary 1 3\r\nabc\r\n-ERR 'no'\r\nPING\r\n\r\n".to_vec();
    let payloads = [
        pattern(256 * 8),
        lookalike,
        b"\r\n".to_vec(),
        b"\n".to_vec(),
        vec![0; 100],
    ];
    for payload in &payloads {
        client
            .publish("binary", payload.clone().into())
            .await
            .expect("accepted");
    }
    for payload in &payloads {
        assert_eq!(&next(&mut subscription).await.payload[..], &payload[..]);
    }
}

async fn connected(server: &ServerUnderTest) -> Client {
    options()
        .connect(server.url())
        .await
        .expect("the server accepts")
}

fn options() -> ConnectOptions {
    ConnectOptions::new()
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
}

/// A subscription that the server knows of.
async fn subscribed(client: &Client, subject: &str) -> Subscriber {
    let subscription = client
        .subscribe(subject.to_owned())
        .await
        .expect("accepted");
    settled(client).await;
    subscription
}

/// Returns when the server has done all that this client asked for. The library's flush only empties its own buffer, so a
/// message to ourselves it is.
async fn settled(client: &Client) {
    let inbox = client.new_inbox();
    let mut own = client.subscribe(inbox.clone()).await.expect("accepted");
    client.publish(inbox, Bytes::new()).await.expect("accepted");
    next(&mut own).await;
}

async fn next(subscription: &mut Subscriber) -> Message {
    let message = timeout(PATIENCE, subscription.next()).await;
    message
        .expect("no message came in time")
        .expect("the subscription ended")
}

/// The subjects of the messages before the one that says `last`, each of which carries its subject.
async fn until_last(subscription: &mut Subscriber) -> Vec<String> {
    let mut subjects = Vec::new();
    loop {
        let message = next(subscription).await;
        if message.payload == "last" {
            return subjects;
        }
        assert_eq!(message.payload, message.subject.as_str());
        subjects.push(message.subject.to_string());
    }
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).expect("these scenarios send text")
}

/// Every byte value in turn, so that a shift by one shows.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(bytes).collect()
}
